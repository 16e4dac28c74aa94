//! A program that runs for us: what signals us signals it, and how it ends is how we end.

use crate::outcome::{Answer, End, Failure};
use crate::signals::{self, Signals};
use futures::FutureExt;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use tokio::process::{Child, Command};

/// What a shell says of a command that cannot be started (POSIX, Shell Command Language 2.8.2).
const NOT_STARTED: u8 = 127;

/// Runs the command with this kubeconfig, tells it every signal, and ends as it ends.
pub async fn run(command: &[OsString], kubeconfig: &Path, signals: &mut Signals) -> Answer {
    if let Some(early) = signals.next().now_or_never() {
        return Ok(End::Child(signals::status(early.as_raw())));
    }
    let [program, arguments @ ..] = command else {
        return Err(Failure::Error("there is no command to run".into()));
    };
    let mut command = Command::new(program);
    command.args(arguments).env("KUBECONFIG", kubeconfig);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let program = program.to_string_lossy();
            eprintln!(
                "kubectl-stint: {} cannot be started: {error}",
                program.escape_default()
            );
            return Ok(End::Child(NOT_STARTED));
        }
    };
    let ended = attend(&mut child, signals).await?;
    Ok(End::Child(status(ended)))
}

async fn attend(child: &mut Child, signals: &mut Signals) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            ended = child.wait() => return ended,
            caught = signals.next() => forward(child, caught),
        }
    }
}

/// What a key of the terminal sends has reached the child already: it is in the same group.
fn forward(child: &Child, caught: Signal) {
    let by_key = caught == Signal::INT || caught == Signal::QUIT;
    if by_key && (io::stdin().is_terminal() || io::stderr().is_terminal()) {
        return;
    }
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(id) = id
        && let Err(error) = kill_process(id, caught)
    {
        eprintln!("kubectl-stint: the command does not take the signal: {error}");
    }
}

/// As a shell tells it.
fn status(ended: ExitStatus) -> u8 {
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    code.or(ended.signal().map(signals::status))
        .unwrap_or(u8::MAX)
}
