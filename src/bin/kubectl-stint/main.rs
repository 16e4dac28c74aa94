//! `kubectl stint`: what a person in front of a terminal, or a pipeline, asks of Stint.
#![forbid(unsafe_code)]

mod access;
mod access_review;
mod adopt;
mod approval;
mod audit_log;
mod bindings;
mod can;
mod candidates;
mod child;
mod codes;
mod columns;
mod completion;
mod confirm;
mod connect;
mod decide;
mod draft;
mod exec;
mod explain;
mod extend;
mod from_error;
mod holders;
mod lint;
mod list;
mod lockdown;
mod online;
mod outcome;
mod pages;
mod place;
mod private;
mod rbac;
mod read;
mod report;
mod request;
mod requests;
mod resource;
mod revoke;
mod sarif;
mod schema;
mod send;
mod show;
mod signals;
mod stop;
mod story;
mod suggest;
mod tree;
mod wait;
mod who_can;
mod whole;
mod world;

use clap::{CommandFactory, Parser, Subcommand};
use outcome::{Answer, End, Failure};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Just-in-time, expiring RBAC for Kubernetes workloads
#[derive(Debug, Parser)]
#[command(name = "kubectl-stint", bin_name = "kubectl stint", version, about)]
#[command(after_help = "\
Examples:
  # Ask for rights for half an hour, and wait for them
  kubectl stint request migrate-42 --account migrator --verb get --resource configmaps --for 30m --reason 'schema change 42' --wait

  # What became of it and what comes next, and its end
  kubectl stint explain migrate-42
  kubectl stint revoke migrate-42

  # Judge manifests before they reach a cluster
  kubectl stint lint manifests/

Exit status: 0 done, or nothing is wrong; 1 refused, not confirmed, or a finding; 2 it could not be asked or read. `exec` ends as the
command that it runs. `kubectl stint COMMAND --help` has more examples.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::ListArgs),
    Explain(explain::ExplainArgs),
    Request(Box<request::RequestArgs>),
    Extend(extend::ExtendArgs),
    Revoke(revoke::RevokeArgs),
    Approve(decide::ApproveArgs),
    Deny(decide::DenyArgs),
    Review(decide::ReviewArgs),
    Can(can::CanArgs),
    WhoCan(who_can::WhoCanArgs),
    Report(access_review::ReportArgs),
    Exec(exec::ExecArgs),
    Lockdown(lockdown::LockdownArgs),
    Unlock(lockdown::UnlockArgs),
    Suggest(Box<suggest::SuggestArgs>),
    Adopt(Box<adopt::AdoptArgs>),
    Lint(Box<lint::LintArgs>),
    Codes(codes::CodesArgs),
    Completion(completion::CompletionArgs),
    #[command(name = "__complete", hide = true)]
    Complete(completion::CompleteArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    // The one crypto provider: with none installed, a second one in the graph would make the client panic.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("kubectl-stint: a crypto provider was installed before main");
        return ExitCode::from(2);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let ended = run(Cli::parse().command, &mut out).await;
    let flushed = ended.and_then(|end| Ok(out.flush().map(|()| end)?));
    match flushed {
        Ok(end) => ExitCode::from(end.status()),
        // Whoever reads has read enough, as in `| head`.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(error)) => complain(&error.to_string(), End::Failure),
        Err(Failure::Error(why)) => complain(&why, End::Failure),
        Err(Failure::Refused(why)) => complain(&why, End::Findings),
    }
}

fn complain(why: &str, end: End) -> ExitCode {
    eprintln!("kubectl-stint: {}", show::block(why));
    ExitCode::from(end.status())
}

async fn run(command: Command, out: &mut impl Write) -> Answer {
    match command {
        Command::List(args) => list::run(&args, out).await,
        Command::Explain(args) => explain::run(&args, out).await,
        Command::Request(args) => request::run(&args, out).await,
        Command::Extend(args) => extend::run(&args, out).await,
        Command::Revoke(args) => revoke::run(&args, out).await,
        Command::Approve(args) => decide::approve(&args, out).await,
        Command::Deny(args) => decide::deny(&args, out).await,
        Command::Review(args) => decide::review(&args, out).await,
        Command::Can(args) => can::run(&args, out).await,
        Command::WhoCan(args) => who_can::run(&args, out).await,
        Command::Report(args) => access_review::run(&args, out).await,
        Command::Exec(args) => exec::run(&args).await,
        Command::Lockdown(args) => lockdown::lock(&args, out).await,
        Command::Unlock(args) => lockdown::unlock(&args, out).await,
        Command::Suggest(args) => suggest::run(&args, out).await,
        Command::Adopt(args) => adopt::run(&args, out).await,
        Command::Lint(args) => lint::run(&args, out).await,
        Command::Completion(args) => completion::run(&args, Cli::command(), out),
        Command::Complete(args) => completion::complete(&args, &Cli::command(), out).await,
        Command::Codes(args) => Ok(match codes::run(&args, out)? {
            true => End::Clean,
            false => End::Failure,
        }),
    }
}
