//! Says on each AccessPolicy whether it can be used.

use crate::api::AccessPolicy;
use crate::clock::Clock;
use crate::cluster::status as status_writer;
use crate::cluster::stores::CompiledPolicy;
use crate::domain::{retry, status};
use kube::Client;
use kube::core::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// A policy as it was read, and what became of it.
pub type Seen = (Box<AccessPolicy>, CompiledPolicy);

/// Writes the status of every policy that comes in, the newest form of each; what fails is tried again for ever.
pub async fn report(client: Client, clock: Arc<dyn Clock>, mut seen: UnboundedReceiver<Seen>) {
    let mut waiting: BTreeMap<String, Seen> = BTreeMap::new();
    let mut failures = 0;
    loop {
        let next = async {
            if waiting.is_empty() {
                return seen.recv().await;
            }
            let pause = if failures > 0 {
                retry::pause(failures)
            } else {
                std::time::Duration::ZERO
            };
            tokio::time::timeout(pause, seen.recv())
                .await
                .ok()
                .flatten()
        };
        match next.await {
            Some(policy) => {
                waiting.insert(policy.0.name_any(), policy);
                continue;
            }
            None if waiting.is_empty() => return,
            None => {}
        }
        let mut failed = BTreeMap::new();
        for (name, policy) in std::mem::take(&mut waiting) {
            if let Err(error) = write(&client, &*clock, &policy).await {
                tracing::warn!(policy = name, %error, "could not write a policy's status");
                failed.insert(name, policy);
            }
        }
        failures = if failed.is_empty() { 0 } else { failures + 1 };
        waiting = failed;
    }
}

async fn write(
    client: &Client,
    clock: &dyn Clock,
    (object, compiled): &Seen,
) -> Result<(), crate::cluster::ApiError> {
    let old = object.status.clone().unwrap_or_default();
    let compiled = compiled.as_ref().map(|p| &**p).map_err(Vec::as_slice);
    let new = status::of_policy(&old, object.metadata.generation, compiled, clock.now());
    match status_writer::write_policy(client, object, &new).await {
        // Gone, or another of the same name: its own event follows.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        written => written.map(drop),
    }
}

/// Where policies are sent to be reported on.
pub type Reporter = UnboundedSender<Seen>;
