//! The operator.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // The one crypto provider: with none installed, a second one in the graph would make the client panic.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("stint: a crypto provider was installed before main");
        return ExitCode::FAILURE;
    }
    match stint::app::run(stint::config::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stint: {error}");
            ExitCode::FAILURE
        }
    }
}
