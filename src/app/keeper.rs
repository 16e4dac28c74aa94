//! Keeps the two Secrets of the operator, and what depends on them.

use crate::clock::Clock;
use crate::cluster::certificate::{Certificates, Fault};
use crate::cluster::events::Events;
use crate::cluster::key_ring::KeyRing;
use crate::cluster::{keys, own_watches};
use crate::config::RunArgs;
use crate::ops::readiness::Gate;
use jiff::Timestamp;
use kube::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Pause between two looks at the certificate and the receipt keys.
const KEEP_UP: Duration = Duration::from_secs(60);
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

impl Keeper {
    /// Opens the gates at the first success of each; then looks once a minute, since the clock that counts is the wall clock, whenever
    /// somebody changed something, and when a certificate may be served whose authority had to be published first.
    pub(super) async fn run(self, (certificate, receipt_keys): (Gate, Gate)) {
        let changed = Notify::new();
        let watch = own_watches::watch(&self.client, &self.args, &changed);
        tokio::join!(watch, self.keep(certificate, receipt_keys, &changed));
    }

    async fn keep(&self, certificate: Gate, receipt_keys: Gate, changed: &Notify) {
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
