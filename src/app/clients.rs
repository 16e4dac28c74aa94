//! Keeps the authorities of those who may send reviews as their file says.

use crate::ops::metrics::Metrics;
use crate::ops::readiness::Gate;
use crate::tls::clients::Authorities;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two looks at the file. The kubelet brings a changed ConfigMap into it within about a minute.
const LOOK: Duration = Duration::from_secs(5);

/// Looks at the file for ever. What cannot be used is said, and who could send reviews goes on to.
pub(super) async fn keep(clients: Arc<Authorities>, gate: Gate, metrics: Arc<Metrics>) {
    gate.open();
    let mut said = String::new();
    loop {
        let wrong = match clients.reread() {
            Ok(false) => String::new(),
            Ok(true) => {
                tracing::info!("other authorities of clients of the webhook");
                String::new()
            }
            Err(error) => format!("{error}; those before it still count"),
        };
        if wrong != said && !wrong.is_empty() {
            tracing::error!(fault = wrong, "webhook");
        }
        metrics.set_webhook_faults("ConfigMap", usize::from(!wrong.is_empty()));
        gate.remark(&wrong);
        said = wrong;
        tokio::time::sleep(LOOK).await;
    }
}
