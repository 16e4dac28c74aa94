//! `kubectl stint`: what a person in front of a terminal, or a pipeline, asks of Stint.
#![forbid(unsafe_code)]

mod access;
mod approval;
mod candidates;
mod codes;
mod lint;
mod online;
mod pages;
mod rbac;
mod read;
mod report;
mod sarif;
mod schema;
mod tree;
mod world;

use clap::{Parser, Subcommand};
use lint::End;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Just-in-time, expiring RBAC for Kubernetes workloads
#[derive(Debug, Parser)]
#[command(name = "kubectl-stint", bin_name = "kubectl stint", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lint(Box<lint::LintArgs>),
    Codes(codes::CodesArgs),
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
    let ended = match Cli::parse().command {
        Command::Lint(args) => lint::run(&args, &mut out).await,
        Command::Codes(args) => codes::run(&args, &mut out).map(|known| match known {
            true => End::Clean,
            false => End::Failure,
        }),
    };
    let flushed = ended.and_then(|end| out.flush().map(|()| end));
    match flushed {
        Ok(End::Clean) => ExitCode::SUCCESS,
        Ok(End::Findings) => ExitCode::from(1),
        Ok(End::Failure) => ExitCode::from(2),
        // Whoever reads has read enough, as in `| head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubectl-stint: {error}");
            ExitCode::from(2)
        }
    }
}
