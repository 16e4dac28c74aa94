//! Waits until the local copies know what a replica that decided before has given.

use crate::api::names::GRANT;
use crate::cluster::stores::Stores;
use crate::cluster::{ApiError, call};
use crate::domain::retry;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::ListParams;
use kube::core::{PartialObjectMeta, ResourceExt};
use kube::{Api, Client};
use std::collections::HashSet;
use std::time::Duration;

/// Pause between two looks at the copies.
const LOOK: Duration = Duration::from_millis(20);
/// Looks before the bindings are listed again: one that went meanwhile never comes.
const LOOKS: usize = 50;

/// Returns when every managed binding that exists now is known. Places of an account are counted by them: a copy that is
/// behind would give the last place away twice.
pub async fn catch_up(client: &Client, stores: &Stores) {
    let mut failures = 0;
    loop {
        match existing(client).await {
            Ok(existing) => {
                for _ in 0..LOOKS {
                    let known = stores.bindings();
                    let known: HashSet<&str> = known.iter().map(|b| b.uid.as_str()).collect();
                    if existing.iter().all(|uid| known.contains(uid.as_str())) {
                        return;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not list bindings; trying again");
                failures += 1;
                tokio::time::sleep(retry::pause(failures)).await;
            }
        }
    }
}

async fn existing(client: &Client) -> Result<Vec<String>, ApiError> {
    let managed = ListParams::default().labels(GRANT);
    let namespaced: Api<PartialObjectMeta<RoleBinding>> = Api::all(client.clone());
    let wide: Api<PartialObjectMeta<ClusterRoleBinding>> = Api::all(client.clone());
    let namespaced = call(namespaced.list(&managed)).await?;
    let wide = call(wide.list(&managed)).await?;
    let uids = namespaced.items.iter().filter_map(ResourceExt::uid);
    Ok(uids
        .chain(wide.items.iter().filter_map(ResourceExt::uid))
        .collect())
}
