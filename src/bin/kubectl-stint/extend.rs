//! `kubectl stint extend`: moves the end of a request, and waits until that is what it has.

use crate::connect::{Connection, Target};
use crate::outcome::{Answer, End, Failure};
use crate::place::{PlaceArgs, legal};
use crate::{requests, send, show, wait};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::io::Write;
use stint::domain::grant;
use stint::domain::grant::Grant;
use stint::domain::request::Place;
use stint::domain::window;

/// Move the end of a grant
///
/// A later end is judged anew, within the limits of the policy, and approved anew where the policy asks for that; until then the old
/// end stands. An earlier end always counts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # Half an hour more than it has
  kubectl stint extend migrate-42 --by 30m

  # An hour in all, from its beginning
  kubectl stint extend migrate-42 --for 1h

  # An end in the clear
  kubectl stint extend migrate-42 --not-after 2026-12-01T18:00:00Z

Exit status: 0 the grant has that end, 1 it is refused or waits for approval, 2 something else went wrong.")]
pub struct ExtendArgs {
    /// Name of the request
    name: String,

    #[command(flatten)]
    place: PlaceArgs,

    #[command(flatten)]
    end: NewEnd,

    /// How long to wait for it
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait::length)]
    timeout: SignedDuration,

    #[command(flatten)]
    target: Target,
}

/// The end that is wanted; exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct NewEnd {
    /// So much more than the request asks for now
    #[arg(long, value_name = "DURATION", value_parser = wait::length)]
    by: Option<SignedDuration>,

    /// Length from the beginning, for a request that has one (`duration`)
    #[arg(long = "for", value_name = "DURATION", value_parser = wait::length)]
    length: Option<SignedDuration>,

    /// End, for a request that names one (`notAfter`)
    #[arg(long, value_name = "TIME")]
    not_after: Option<String>,
}

/// Runs the command.
pub async fn run(args: &ExtendArgs, out: &mut impl Write) -> Answer {
    let connection = Connection::open(&args.target).await?;
    let place = args.place.of(&connection)?;
    legal(place.kind(), &args.name)?;
    let access = requests::get(&connection, &place, &args.name).await?;
    let grant = Grant::parse(&access).map_err(|wrong| {
        let wrong = stint::domain::violation::render_lines(&wrong);
        Failure::Error(format!("{} cannot be read: {wrong}", title(&place, args)))
    })?;
    let spec = wanted(grant.end(), &args.end)?;
    let generation = send::end(&connection, &place, &args.name, &spec).await?;
    let moved =
        wait::until_moved(&connection, &place, &args.name, generation, args.timeout).await?;
    let title = title(&place, args);
    match (moved.held_back, moved.not_after) {
        (Some(why), _) => Err(Failure::Refused(format!("{title}: {}", show::block(&why)))),
        (None, Some(end)) if moved.seen => {
            writeln!(out, "{title} ends at {end}")?;
            Ok(End::Clean)
        }
        _ => Err(Failure::Error(format!(
            "{title} is changed, and Stint has not answered yet; `kubectl stint explain {}` tells when it has",
            args.name
        ))),
    }
}

fn title(place: &Place, args: &ExtendArgs) -> String {
    wait::title(place, &args.name)
}

/// The change of the spec.
fn wanted(now: grant::End, asked: &NewEnd) -> Result<Value, Failure> {
    let other = |has: &str, flag: &str| {
        Failure::Error(format!(
            "the request has `{has}`, and the two cannot take each other's place; use {flag} or --by"
        ))
    };
    match (now, asked) {
        (grant::End::After(length), NewEnd { by: Some(by), .. }) => {
            let sum = length.checked_add(*by).unwrap_or(SignedDuration::MAX);
            Ok(json!({"duration": window::show(sum)}))
        }
        (grant::End::At(at), NewEnd { by: Some(by), .. }) => {
            let sum = at.saturating_add(*by).unwrap_or(Timestamp::MAX);
            Ok(json!({"notAfter": sum.to_string()}))
        }
        (
            grant::End::After(_),
            NewEnd {
                length: Some(length),
                ..
            },
        ) => Ok(json!({"duration": window::show(*length)})),
        (
            grant::End::At(_),
            NewEnd {
                not_after: Some(end),
                ..
            },
        ) => {
            let end = window::parse_instant("--not-after", end);
            let end = end.map_err(|wrong| Failure::Error(wrong.to_string()))?;
            Ok(json!({"notAfter": end.to_string()}))
        }
        (grant::End::After(_), _) => Err(other("duration", "--for")),
        (grant::End::At(_), _) => Err(other("notAfter", "--not-after")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn asked(by: Option<SignedDuration>, not_after: Option<&str>) -> NewEnd {
        NewEnd {
            by,
            length: None,
            not_after: not_after.map(str::to_owned),
        }
    }

    #[test]
    fn more_is_counted_from_what_the_request_has() {
        let at = grant::End::At("2026-12-01T12:00:00Z".parse().unwrap());
        assert_eq!(
            wanted(at, &asked(Some(HOUR), None)).unwrap(),
            json!({"notAfter": "2026-12-01T13:00:00Z"})
        );
        let after = grant::End::After(HOUR);
        assert_eq!(
            wanted(after, &asked(Some(HOUR), None)).unwrap(),
            json!({"duration": "2h"})
        );
    }

    #[test]
    fn what_the_request_has_not_is_refused_with_the_right_flag() {
        let after = grant::End::After(HOUR);
        let wrong = wanted(after, &asked(None, Some("2026-12-01T12:00:00Z")));
        let Err(Failure::Error(wrong)) = wrong else {
            panic!("{wrong:?}");
        };
        assert!(wrong.contains("use --for or --by"), "{wrong}");
        let at = grant::End::At("2026-12-01T12:00:00Z".parse().unwrap());
        assert!(wanted(at, &asked(None, Some("tomorrow"))).is_err());
    }
}
