//! What only the replica that decides may write: a client that refuses when this process no longer is that one.

use crate::clock::Clock;
use http::Request;
use kube::Client;
use kube::client::Body;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest sleep before the clock is looked at again: a timer alone would not see a suspended machine.
const LOOK: Duration = Duration::from_secs(1);

/// What an election says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Counts how often this process began to decide.
    pub term: u64,
    /// Until when it may, on its monotonic clock; zero if it may not.
    pub until: Duration,
}

/// Whether this process may decide. Time alone ends it, also when nobody says so.
#[derive(Clone)]
pub struct Leadership {
    clock: Arc<dyn Clock>,
    hold: watch::Receiver<Hold>,
}

/// A write was not sent, because another replica may be deciding by now.
#[derive(Debug, thiserror::Error)]
#[error("this replica does not hold the lease")]
pub struct NotLeader;

impl Leadership {
    /// What an election says.
    pub fn new(clock: Arc<dyn Clock>, hold: watch::Receiver<Hold>) -> Self {
        Self { clock, hold }
    }

    /// Without an election this process decides for ever.
    pub fn for_ever(clock: Arc<dyn Clock>) -> Self {
        let for_ever = Hold {
            term: 1,
            until: Duration::MAX,
        };
        // The receiver keeps its value when the sender is gone.
        let (_, hold) = watch::channel(for_ever);
        Self { clock, hold }
    }

    /// The term in which this process decides now, if it does.
    pub fn term(&self) -> Option<u64> {
        let hold = *self.hold.borrow();
        (hold.until > self.clock.monotonic()).then_some(hold.term)
    }

    /// Waits until this process decides; returns the term.
    pub async fn gained(&self) -> u64 {
        let mut hold = self.hold.clone();
        loop {
            hold.mark_unchanged();
            if let Some(term) = self.term() {
                return term;
            }
            changed(&mut hold).await;
        }
    }

    /// Waits until `term` is over.
    pub async fn lost(&self, term: u64) {
        let mut hold = self.hold.clone();
        loop {
            hold.mark_unchanged();
            if self.term() != Some(term) {
                return;
            }
            let left = self.hold.borrow().until;
            let left = left.saturating_sub(self.clock.monotonic());
            let _ = tokio::time::timeout(left.min(LOOK), changed(&mut hold)).await;
        }
    }
}

async fn changed(hold: &mut watch::Receiver<Hold>) {
    if hold.changed().await.is_err() {
        // Nobody is left to change it.
        std::future::pending::<()>().await;
    }
}

/// A client that sends nothing unless this process decides, and gives up what is under way when that is over.
pub fn fence(client: Client, leadership: Leadership) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, leadership) = (client.clone(), leadership.clone());
        async move {
            let term = leadership.term().ok_or(NotLeader)?;
            tokio::select! {
                // What is over is over, also if an answer came in the same moment.
                biased;
                () = leadership.lost(term) => Err(tower::BoxError::from(NotLeader)),
                answer = client.send(request) => Ok(answer?),
            }
        }
    });
    Client::new(service, namespace)
}
