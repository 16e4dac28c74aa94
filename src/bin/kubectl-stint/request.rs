//! `kubectl stint request`: makes a request, asks what would become of it, or sends it and waits.

use crate::connect::{Connection, Target};
use crate::draft::DraftArgs;
use crate::online::Cluster;
use crate::outcome::{Answer, End, Failure};
use crate::read::Input;
use crate::report::{Finding, Level};
use crate::show::{self, Tone, toned};
use crate::wait::{self, Came};
use crate::{place, send};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};
use stint::domain::request::Place;

/// Make a request, from flags or from the error of a command that failed
///
/// Prints the YAML, for a repository or `kubectl apply -f -`. With --dry-run=server the cluster says what would become of it, with
/// --create it is sent, with --wait also waited for.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # The YAML of a request
  kubectl stint request migrate-42 --account migrator --verb get,patch --resource deployments.apps \\
      --resource-name billing-api --for 30m --until job/migrate-42 --reason 'schema change 42'

  # What a failed command lacked
  kubectl get pods 2>&1 | kubectl stint request --from-error - --for 10m --reason 'look at the pods'

  # Would it be granted? Nothing is stored
  kubectl stint request --account migrator --role source --for 30m --reason test --dry-run=server

  # Ask, and go on when the rights are there
  kubectl stint request --account migrator --role source --for 30m --reason test --wait && ./migrate.sh

Exit status: 0 printed, would be granted, created, or active; 1 refused, or over before it began; 2 no answer, or not in time.")]
pub struct RequestArgs {
    #[command(flatten)]
    draft: DraftArgs,

    /// Ask the cluster what would become of it; nothing is stored
    #[arg(long, value_enum, value_name = "WHERE", conflicts_with_all = ["create", "wait"])]
    dry_run: Option<DryRun>,

    /// Send it
    #[arg(long)]
    create: bool,

    /// Send it, and wait until it is active or refused
    #[arg(long)]
    wait: bool,

    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = wait::length)]
    timeout: jiff::SignedDuration,

    /// Form of the request that is printed
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Form,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DryRun {
    /// By the cluster
    Server,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// For people and repositories
    Yaml,
    /// For programs
    Json,
}

/// Runs the command.
pub async fn run(args: &RequestArgs, out: &mut impl Write) -> Answer {
    let draft = args.draft.write()?;
    if args.dry_run.is_none() && !args.create && !args.wait {
        let text = match args.output {
            Form::Yaml => show::yaml(&draft.object)?,
            Form::Json => show::json(&draft.object)?,
        };
        writeln!(out, "{text}")?;
        return Ok(End::Clean);
    }
    let connection = Connection::open(&args.target).await?;
    let place = match draft.place {
        Some(place) => place,
        None => Place::Namespace(place::namespace(None, &connection)?),
    };
    if args.dry_run.is_some() {
        return dry_run(&connection, &place, &draft.object, out).await;
    }
    let mut object = draft.object;
    if let Some(namespace) = place.namespace() {
        object["metadata"]["namespace"] = namespace.into();
    }
    let made = send::request(&connection, &place, &object).await?;
    let name = made.name.unwrap_or_default();
    let title = wait::title(&place, &name);
    if !args.wait {
        writeln!(out, "{title} created")?;
        return Ok(End::Clean);
    }
    eprintln!("{title} created");
    let came = wait::until_decided(&connection, &place, &name, args.timeout).await?;
    report(&title, &came, out)
}

fn report(title: &str, came: &Came, out: &mut impl Write) -> Answer {
    let state = show::line(&came.state);
    match came.state.as_str() {
        "Active" => {
            let until = came
                .not_after
                .map(|at| format!(" until {at}"))
                .unwrap_or_default();
            writeln!(
                out,
                "{title} is {}{until}",
                toned("Active", Tone::Good, show::colour())
            )?;
            Ok(End::Clean)
        }
        _ if came.decided => Err(Failure::Refused(format!(
            "{title} is {state}:\n{}",
            came.message
        ))),
        _ => Err(Failure::Error(format!(
            "{title} is still {state}: {}; it goes on waiting, `kubectl stint explain` tells more",
            came.message
        ))),
    }
}

/// The verdict of the cluster: schema, webhooks and admission policies run, and nothing is stored.
async fn dry_run(
    connection: &Connection,
    place: &Place,
    object: &Value,
    out: &mut impl Write,
) -> Answer {
    let mut input = Input::default();
    input.add_text("<request>", &object.to_string());
    let object = input
        .objects
        .first()
        .ok_or_else(|| Failure::Error(input.failures.join("; ")))?;
    let cluster = Cluster::over(connection);
    let namespace = place.namespace().unwrap_or_default();
    let judged = cluster
        .judge(object, namespace)
        .await
        .map_err(Failure::Error)?;
    verdict(&judged.findings, show::colour(), out)?;
    let refused = judged
        .findings
        .iter()
        .any(|finding| finding.level == Level::Error);
    Ok(if refused { End::Findings } else { End::Clean })
}

/// What was said, by the policy that says it.
fn verdict(findings: &[Finding], colour: bool, out: &mut impl Write) -> io::Result<()> {
    let mut policies: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    let mut others = Vec::new();
    for finding in findings {
        match policy_of(&finding.message) {
            Some(policy) => policies.entry(policy).or_default().push(finding),
            None => others.push(finding),
        }
    }
    let refused = findings.iter().any(|finding| finding.level == Level::Error);
    match refused {
        true => writeln!(out, "{}", toned("would be refused", Tone::Bad, colour))?,
        false => writeln!(out, "{}", toned("would be admitted", Tone::Good, colour))?,
    }
    for finding in others {
        writeln!(out, "  {}", said(finding))?;
    }
    for (policy, findings) in policies {
        writeln!(out, "policy '{}':", show::line(policy))?;
        for finding in findings {
            writeln!(out, "  {}", said(finding))?;
        }
    }
    Ok(())
}

fn said(finding: &Finding) -> String {
    let word = match finding.level {
        Level::Error => "",
        Level::Warning => "warning: ",
        Level::Note => "note: ",
    };
    format!("{word}{}", show::line(&finding.message))
}

/// The policy that a line names.
fn policy_of(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("policy '")?;
    rest.split_once('\'').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(level: Level, message: &str) -> Finding {
        Finding {
            level,
            code: None,
            severity: None,
            path: String::new(),
            line: 1,
            message: message.into(),
        }
    }

    #[test]
    fn a_verdict_tells_what_each_policy_says() {
        let findings = [
            finding(
                Level::Error,
                "spec.rules: Forbidden: 'x': policy 'b' does not allow this [WA-NOT-ALLOWED]",
            ),
            finding(
                Level::Error,
                "spec.duration: Forbidden: '9h': policy 'a' allows less [WA-TOO-LONG]",
            ),
            finding(
                Level::Error,
                "spec.rules: Forbidden: 'y': policy 'b' does not allow this [WA-NOT-ALLOWED]",
            ),
            finding(
                Level::Error,
                "spec.rules: Forbidden: beyond\u{1b}[2J the ceiling [WA-CEILING]",
            ),
        ];
        let mut out = Vec::new();
        verdict(&findings, false, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
would be refused
  spec.rules: Forbidden: beyond [2J the ceiling [WA-CEILING]
policy 'a':
  spec.duration: Forbidden: '9h': policy 'a' allows less [WA-TOO-LONG]
policy 'b':
  spec.rules: Forbidden: 'x': policy 'b' does not allow this [WA-NOT-ALLOWED]
  spec.rules: Forbidden: 'y': policy 'b' does not allow this [WA-NOT-ALLOWED]
"
        );
        let mut out = Vec::new();
        verdict(
            &[finding(Level::Warning, "together this is much")],
            false,
            &mut out,
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "would be admitted\n  warning: together this is much\n"
        );
    }
}
