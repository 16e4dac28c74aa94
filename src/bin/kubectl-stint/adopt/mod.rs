//! `kubectl stint adopt`: standing bindings of accounts, what they are worth, and the expiring grants that would replace them.
//!
//! It proposes, and writes nothing; with `--apply` it moves one account, and puts everything back when something goes wrong.

mod apply;
mod backup;
mod entry;
mod journal;
mod mover;
mod propose;
mod rights;
mod source;
mod steps;
mod survey;
mod tell;

use crate::confirm::Confirm;
use crate::connect::Target;
use crate::outcome::{Answer, End, Failure};
use crate::show;
use crate::wait;
use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use std::io::Write;
use std::path::PathBuf;
use stint::domain::window;

/// Move standing bindings of ServiceAccounts to grants that end
///
/// Reads RoleBindings and ClusterRoleBindings, from the cluster or from files, and says for each account in them what the rights are
/// worth, and which AccessPolicy and request would give the same rights with an end. What cannot be moved says why. What Kubernetes binds
/// by itself, and the accounts of its control plane, are left alone and counted. Nothing is changed without --apply.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # The bindings of a namespace, and of its accounts in the whole cluster
  kubectl stint adopt -n payments

  # One account: the manifests, and the steps there and back as comments
  kubectl stint adopt -n payments --serviceaccount ci -o yaml

  # Move that account: grant, check, remove the binding, check again; everything is put back when a check fails
  kubectl stint adopt -n payments --serviceaccount ci --apply

  # What a chart would bind, before it reaches a cluster
  helm template ./chart | kubectl stint adopt -

A grant has an end. When it has passed, the rights must be extended or asked for again: work that needs its rights day and night is
not to be moved like this. See docs/adopt.md.

Exit status: 0 everything can be moved or was, 1 something cannot or was put back, 2 something could not be read, asked or done.
`kubectl stint codes CODE` explains a code.")]
pub struct AdoptArgs {
    /// Files or folders with manifests instead of the cluster; `-` is stdin
    #[arg(value_name = "FILE|DIR|-")]
    sources: Vec<String>,

    /// The same, as kubectl spells it; may be repeated
    #[arg(short, long = "filename", value_name = "FILE|DIR|-")]
    files: Vec<String>,

    /// Namespace [default: that of the context]; with files, that of objects that name none
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// In all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Only this account, as NAME or NAMESPACE/NAME
    #[arg(long, value_name = "ACCOUNT")]
    serviceaccount: Option<String>,

    /// Only bindings of this name
    #[arg(long, value_name = "NAME")]
    binding: Option<String>,

    /// How long a proposed grant lasts at most; what is riskier lasts as long as its risk allows
    #[arg(long, value_name = "DURATION", default_value = "8h")]
    duration: String,

    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,

    /// Without the line of heads
    #[arg(long)]
    no_headers: bool,

    #[command(flatten)]
    moving: Moving,

    #[command(flatten)]
    target: Target,
}

/// Moving an account
#[derive(Debug, Args)]
#[command(next_help_heading = "Moving an account")]
struct Moving {
    /// Do it: one account, whose namespace is looked at
    #[arg(long, requires = "serviceaccount", conflicts_with_all = ["sources", "files", "output"])]
    apply: bool,

    /// Where the bindings are saved before they go; a folder that is made
    #[arg(
        long,
        value_name = "DIR",
        default_value = "stint-adopt",
        requires = "apply"
    )]
    backup: PathBuf,

    /// How long to wait for a grant, and for the authorizer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = wait::length, requires = "apply")]
    timeout: SignedDuration,

    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A line for each binding and account
    Table,
    /// Nothing cut
    Wide,
    /// Policies and requests to apply, with the steps as comments
    Yaml,
    /// For programs; the fields are described in docs/adopt.md
    Json,
    /// The bindings as they are: the way back
    Restore,
}

/// Runs the command.
pub async fn run(args: &AdoptArgs, out: &mut impl Write) -> Answer {
    if let Err(violation) = window::parse_duration("duration", &args.duration) {
        let why = format!("--duration: {}", violation.message);
        return Err(Failure::Error(why));
    }
    let known = source::read(args).await?;
    let survey = survey::of(&known, args)?;
    for failure in known.failures.iter().chain(&survey.failures) {
        eprintln!("kubectl-stint: {}", show::line(failure));
    }
    let complete = known.failures.is_empty() && survey.failures.is_empty();
    if known.objects.is_empty() && !complete {
        // A count of nothing would read as if nothing was there.
        return Ok(End::Failure);
    }
    if let (true, Some(connection)) = (args.moving.apply, &known.connection) {
        return apply::run(args, connection, &survey, out).await;
    }
    tell::write(args, &survey, known.now, out)?;
    Ok(match (complete, survey.all_movable()) {
        (false, _) => End::Failure,
        (true, false) => End::Findings,
        (true, true) => End::Clean,
    })
}
