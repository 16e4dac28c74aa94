//! `kubectl stint revoke`: ends grants early, and waits until access is gone.

use crate::connect::{Connection, Target};
use crate::outcome::{Answer, End, Failure};
use crate::place::{PlaceArgs, legal};
use crate::{requests, send, wait};
use clap::Args;
use jiff::SignedDuration;
use std::io::Write;
use stint::domain::request::{AccessRequest, Place};

/// End grants early and keep their record
///
/// Sets `spec.revoked`, which cannot be taken back, and waits until Stint says that access is gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl stint revoke migrate-42

  # Everything of a namespace that gives rights now
  kubectl stint revoke -n payments $(kubectl stint list -n payments --active -o name)

Exit status: 0 access is gone, 2 it could not be ended or nobody confirms that it has.")]
pub struct RevokeArgs {
    /// Names of the requests
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    #[command(flatten)]
    place: PlaceArgs,

    /// Do not wait until access is gone
    #[arg(long)]
    no_wait: bool,

    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait::length)]
    timeout: SignedDuration,

    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub async fn run(args: &RevokeArgs, out: &mut impl Write) -> Answer {
    let connection = Connection::open(&args.target).await?;
    let place = args.place.of(&connection)?;
    let names: Vec<&str> = args.names.iter().map(|name| plain(name)).collect();
    for name in &names {
        legal(place.kind(), name)?;
    }
    let mut end = End::Clean;
    let mut sent = Vec::new();
    // First all that is to end, then the waiting.
    for name in names {
        match send::revocation(&connection, &place, name).await {
            Ok(()) => sent.push(name),
            Err(Failure::Error(why) | Failure::Refused(why)) => {
                eprintln!("kubectl-stint: {}", crate::show::block(&why));
                end = End::Failure;
            }
            Err(failure) => return Err(failure),
        }
    }
    for name in sent {
        match args.no_wait {
            true => writeln!(out, "{} is to be revoked", wait::title(&place, name))?,
            false => told(args, &connection, &place, name, out).await?,
        }
        out.flush()?;
    }
    Ok(end)
}

/// `-o name` of other commands has the kind before the name.
fn plain(name: &str) -> &str {
    let known = [
        "workloadaccess.stint.dev/",
        "clusterworkloadaccess.stint.dev/",
    ];
    known
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .unwrap_or(name)
}

async fn told(
    args: &RevokeArgs,
    connection: &Connection,
    place: &Place,
    name: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let title = wait::title(place, name);
    let came = wait::until_over(connection, place, name, args.timeout).await?;
    let access = requests::get(connection, place, name).await?;
    let ended = access
        .view()
        .status
        .and_then(|status| status.ended_time.clone());
    let Some(ended) = ended else {
        let kind = place.kind().to_ascii_lowercase();
        let namespace = place
            .namespace()
            .map(|n| format!(" -n {n}"))
            .unwrap_or_default();
        return Err(Failure::Error(format!(
            "{title} is revoked, and Stint has not said that access is gone (it is {}); `kubectl delete {kind} {name}{namespace}` ends it also while Stint is down",
            crate::show::line(&came.state)
        )));
    };
    let state = crate::show::line(&came.state);
    writeln!(out, "{title} is over since {}: {state}", ended.0)?;
    Ok(())
}
