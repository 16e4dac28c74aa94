//! Being interrupted between two steps: what is under way with the API server is waited for, so that it is known what was done.

use crate::outcome::Failure;
use rustix::process::Signal;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether somebody wants the program to end.
#[derive(Debug)]
pub struct Stop {
    signal: watch::Receiver<Option<Signal>>,
}

impl Stop {
    /// From now on interrupt, termination and hangup are only noted.
    pub fn listen() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let came = tokio::select! {
                    _ = interrupt.recv() => Signal::INT,
                    _ = terminate.recv() => Signal::TERM,
                    _ = hangup.recv() => Signal::HUP,
                };
                sender.send_replace(Some(came));
            }
        });
        Ok(Self { signal: receiver })
    }

    /// The exit status of a program that a signal ended, once one has come.
    pub fn status(&self) -> Option<u8> {
        let signal = *self.signal.borrow();
        signal.and_then(|signal| u8::try_from(128 + signal.as_raw()).ok())
    }

    /// Before a step: an error, once a signal has come.
    pub fn check(&self) -> Result<(), Failure> {
        match self.status() {
            Some(_) => Err(interrupted()),
            None => Ok(()),
        }
    }

    /// What changes nothing and may be broken off.
    pub async fn unless<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            _ = self.signal.wait_for(Option::is_some) => Err(interrupted()),
        }
    }

    /// A pause that a signal ends.
    pub async fn pause(&mut self, length: Duration) -> Result<(), Failure> {
        self.unless(async {
            tokio::time::sleep(length).await;
            Ok(())
        })
        .await
    }
}

fn interrupted() -> Failure {
    Failure::Refused("interrupted".into())
}
