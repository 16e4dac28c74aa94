//! Says when the CustomResourceDefinitions are not those of this version.

use crate::api::custom_resource_definitions;
use crate::cluster::definitions;
use crate::ops::readiness::Gate;
use kube::Client;
use std::time::Duration;
use tokio::sync::Notify;

/// Pause between two looks when no watch tells of a change.
const KEEP_UP: Duration = Duration::from_secs(600);
/// Pause after one that failed.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Looks whenever one of them changes, for ever. A replica that starts beside older ones is not ready, so that an upgrade stops before the
/// replicas that fit are gone; one that is ready stays so.
pub(super) async fn keep(client: Client, gate: Gate) {
    let changed = Notify::new();
    let built = custom_resource_definitions();
    tokio::join!(definitions::watch(&client, &built, &changed), async {
        let mut said = String::new();
        loop {
            let (words, pause) = match definitions::look(&client, &built).await {
                Ok(skew) => {
                    if !skew.older {
                        gate.open();
                    }
                    (skew.words.join("; "), KEEP_UP)
                }
                // Whoever may not look does not know that they are older, and will not know in a second.
                Err(error) if error.category() == "Forbidden" => {
                    gate.open();
                    (format!("cannot be read: {error}"), KEEP_UP)
                }
                Err(error) => (format!("cannot be read: {error}"), TRY_AGAIN),
            };
            if words != said && !words.is_empty() {
                tracing::error!(fault = words, "definitions");
            }
            gate.remark(&words);
            said = words;
            // The next look sees what the change was.
            let _ = tokio::time::timeout(pause, changed.notified()).await;
        }
    });
}
