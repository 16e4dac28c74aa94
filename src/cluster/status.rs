//! Writes the status of Stint's kinds, and nothing when nothing changed.

use crate::api::AccessPolicy;
use crate::api::access_policy::AccessPolicyStatus;
use crate::api::names::STATUS_MANAGER;
use crate::api::workload_access::WorkloadAccessStatus;
use crate::cluster::{ApiError, call};
use crate::domain::request::{Access, AccessRequest};
use kube::api::{Patch, PatchParams};
use kube::core::{Resource, ResourceExt};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// Writes `status` by server-side apply unless it equals what the object has, and if the object is still what it was at
/// `version`: who was held up writes nothing over what was told meanwhile. Returns the version after the write, if it wrote.
pub async fn write(
    client: &Client,
    object: &Access,
    version: Option<&str>,
    status: &WorkloadAccessStatus,
) -> Result<Option<String>, ApiError> {
    if object.view().status.is_some_and(|old| same(old, status)) {
        return Ok(None);
    }
    let client = client.clone();
    match object {
        Access::Namespaced(object) => {
            let namespace = object.namespace();
            let namespace = namespace.ok_or(ApiError::Incomplete("namespace"))?;
            let api = Api::namespaced(client, &namespace);
            apply(&api, &**object, version, json!(status)).await
        }
        Access::Cluster(object) => {
            apply(&Api::all(client), &**object, version, json!(status)).await
        }
    }
}

/// Whether nothing would change. Conditions are a map by type: server-side apply keeps them in the order in which they came.
fn same(old: &WorkloadAccessStatus, new: &WorkloadAccessStatus) -> bool {
    let sorted = |status: &WorkloadAccessStatus| {
        let mut status = status.clone();
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status
    };
    sorted(old) == sorted(new)
}

/// The same for a policy.
pub async fn write_policy(
    client: &Client,
    object: &AccessPolicy,
    status: &AccessPolicyStatus,
) -> Result<bool, ApiError> {
    if object.status.as_ref() == Some(status) {
        return Ok(false);
    }
    let version = object.resource_version();
    let api = Api::all(client.clone());
    apply(&api, object, version.as_deref(), json!(status)).await?;
    Ok(true)
}

async fn apply<K>(
    api: &Api<K>,
    object: &K,
    version: Option<&str>,
    status: serde_json::Value,
) -> Result<Option<String>, ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let apply = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // The UID keeps a status from landing on a re-created object of the same name.
        "metadata": {"name": object.name_any(), "uid": object.uid(), "resourceVersion": version},
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    let patch = Patch::Apply(apply);
    let written = call(api.patch_status(&object.name_any(), &params, &patch)).await?;
    Ok(written.resource_version())
}
