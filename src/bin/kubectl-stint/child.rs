//! A program that runs for us: what signals us signals it, and how it ends is how we end.

use crate::outcome::{Answer, End, Failure};
use futures::FutureExt;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};

/// What a shell says of a command that cannot be started (POSIX, Shell Command Language 2.8.2).
const NOT_STARTED: u8 = 127;

/// The signals that would end us.
pub struct Signals {
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// From now on they end nothing by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}

/// Runs the command with this kubeconfig, tells it every signal, and ends as it ends.
pub async fn run(command: &[OsString], kubeconfig: &Path, signals: &mut Signals) -> Answer {
    if let Some(early) = signals.next().now_or_never() {
        return Ok(End::Child(by(early.as_raw())));
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
    code.or(ended.signal().map(by)).unwrap_or(u8::MAX)
}

fn by(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
