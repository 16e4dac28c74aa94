//! Keeps the two Secrets of the operator, and what depends on them.

use crate::clock::Clock;
use crate::cluster::certificate::{Certificates, Fault};
use crate::cluster::events::Events;
use crate::cluster::key_ring::KeyRing;
use crate::cluster::{keys, own_watches};
use crate::config::RunArgs;
use crate::ops::readiness::Gate;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Pause between two looks at the certificate and the receipt keys.
const KEEP_UP: Duration = Duration::from_secs(60);
/// A local clock that differs by more than this is told.
const SKEW: SignedDuration = SignedDuration::from_secs(2);
/// Pause between two tries while something is missing at the start.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Keeps the certificate and the receipt keys present and fresh.
pub(super) struct Keeper {
    pub(super) certificates: Certificates,
    pub(super) events: Events,
    pub(super) client: Client,
    pub(super) args: RunArgs,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: Arc<KeyRing>,
}

/// What the keeper opens, and where it says what is wrong.
pub(super) struct Gates {
    pub(super) certificate: Gate,
    pub(super) receipt_keys: Gate,
    /// Open from the start: everything is done by the API server's clock.
    pub(super) clock: Gate,
}

impl Keeper {
    /// Opens the gates at the first success of each; then looks once a minute, since the clock that counts is the wall clock, whenever
    /// somebody changed something, and when a certificate may be served whose authority had to be published first.
    pub(super) async fn run(self, gates: Gates) {
        let changed = Notify::new();
        let watch = own_watches::watch(&self.client, &self.args, &changed);
        gates.clock.open();
        tokio::join!(watch, self.keep(gates, &changed));
    }

    async fn keep(&self, gates: Gates, changed: &Notify) {
        let Gates {
            certificate,
            receipt_keys,
            clock,
        } = gates;
        let (mut trusted, mut keyed) = (false, false);
        let mut told = Vec::new();
        loop {
            let now = self.clock.now();
            let faults = self.certificates.keep(now).await;
            let serves = self.certificates.is_serving(now);
            trusted |= serves && !faults.iter().any(|fault| fault.stops);
            match serves && trusted {
                true => certificate.open(),
                false => certificate.close(),
            }
            let texts: Vec<&str> = faults.iter().map(|fault| fault.text.as_str()).collect();
            certificate.remark(&texts.join("; "));
            self.tell(&faults, &told).await;
            told = faults;
            keyed |= self.load_keys(now, &receipt_keys).await;
            clock.remark(&skew(self.clock.wall(), self.clock.now()));
            let ready = trusted && keyed;
            let waits = self.certificates.waits(now).unwrap_or(KEEP_UP);
            let pause = if ready {
                waits.clamp(TRY_AGAIN, KEEP_UP)
            } else {
                TRY_AGAIN
            };
            // The next look sees what the change was.
            let _ = tokio::time::timeout(pause, changed.notified()).await;
        }
    }

    /// Tells what is new among the faults.
    async fn tell(&self, faults: &[Fault], told: &[Fault]) {
        for fault in faults.iter().filter(|fault| !told.contains(fault)) {
            tracing::error!(fault = fault.text, "webhook");
            if let Some(reason) = fault.reason {
                let events = &self.events;
                let publish = events.publish_about(&fault.about, true, reason, &fault.text);
                publish.await;
            }
        }
        if faults.is_empty() && !told.is_empty() {
            tracing::info!(
                "nothing is wrong with the webhook's certificate and configurations any more"
            );
        }
    }

    async fn load_keys(&self, now: Timestamp, gate: &Gate) -> bool {
        let (namespace, secret) = (&self.args.namespace, &self.args.receipt_secret);
        match keys::load(&self.client, namespace, secret, now).await {
            Ok(keys) => {
                self.keys.set(Some(keys));
                gate.remark("");
                gate.open();
                true
            }
            Err(error) => {
                tracing::error!(%error, "receipt keys not ready");
                // A replica that has keys goes on with them, and one that starts has none.
                gate.remark(&error.to_string());
                false
            }
        }
    }
}

/// What is to be said of a local clock that is far from that of the API server.
fn skew(local: Timestamp, server: Timestamp) -> String {
    let ahead = local.duration_since(server);
    if ahead.abs() <= SKEW {
        return String::new();
    }
    let side = if ahead.is_positive() {
        "ahead of"
    } else {
        "behind"
    };
    format!(
        "the clock of this node is {} s {side} that of the API server, which counts; repair the time synchronisation of whichever is wrong",
        ahead.abs().as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_told() {
        let server: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        let told = |off: i64| skew(server + SignedDuration::from_secs(off), server);
        assert_eq!((told(2), told(-2)), (String::new(), String::new()));
        assert!(told(59).starts_with("the clock of this node is 59 s ahead of"));
        assert!(told(-3600).starts_with("the clock of this node is 3600 s behind"));
    }
}
