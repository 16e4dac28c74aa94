//! Being interrupted between two steps: what is under way with the API server is waited for, so that it is known what was done.

use crate::outcome::Failure;
use crate::signals::{self, Signals};
use rustix::process::Signal;
use std::io;
use std::time::Duration;
use tokio::sync::watch;

/// Whether somebody wants the program to end.
#[derive(Debug)]
pub struct Stop {
    signal: watch::Receiver<Option<Signal>>,
}

impl Stop {
    /// From now on they are only noted.
    pub fn listen() -> io::Result<Self> {
        let mut signals = Signals::listen()?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                sender.send_replace(Some(signals.next().await));
            }
        });
        Ok(Self { signal: receiver })
    }

    /// The exit status of a program that a signal ended, once one has come.
    pub fn status(&self) -> Option<u8> {
        let signal = *self.signal.borrow();
        signal.map(|signal| signals::status(signal.as_raw()))
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
