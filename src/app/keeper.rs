//! Keeps the two Secrets of the operator, and what depends on them.

use crate::clock::Clock;
use crate::cluster::certificate::Certificates;
use crate::cluster::keys;
use crate::config::RunArgs;
use crate::domain::receipt::Keys;
use crate::ops::readiness::Gate;
use kube::Client;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Pause between two looks at the certificate and the receipt keys.
const KEEP_UP: Duration = Duration::from_secs(60);
/// Pause between two tries while something is missing at the start.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Keeps the certificate and the receipt keys present and fresh.
pub(super) struct Keeper {
    pub(super) certificates: Certificates,
    pub(super) client: Client,
    pub(super) args: RunArgs,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: Arc<RwLock<Option<Keys>>>,
}

impl Keeper {
    /// Opens the gates at the first success of each; then looks once a minute, since the clock that counts is the
    /// wall clock.
    pub(super) async fn run(self, (certificate, receipt_keys): (Gate, Gate)) {
        let mut gates = [Some(certificate), Some(receipt_keys)];
        loop {
            let now = self.clock.now();
            if let Err(error) = self.certificates.keep(now).await {
                tracing::error!(%error, "certificate not ready");
            } else if let Some(gate) = gates[0].take() {
                gate.open();
            }
            match keys::load(
                &self.client,
                &self.args.namespace,
                &self.args.receipt_secret,
                now,
            )
            .await
            {
                Ok(keys) => {
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
                    if let Some(gate) = gates[1].take() {
                        gate.open();
                    }
                }
                Err(error) => tracing::error!(%error, "receipt keys not ready"),
            }
            let ready = gates.iter().all(Option::is_none);
            tokio::time::sleep(if ready { KEEP_UP } else { TRY_AGAIN }).await;
        }
    }
}
