//! Writes the status of a WorkloadAccess, and nothing when nothing changed.

use crate::api::names::STATUS_MANAGER;
use crate::api::workload_access::{WorkloadAccess, WorkloadAccessStatus};
use crate::cluster::{ApiError, call};
use kube::api::{Patch, PatchParams};
use kube::core::{Resource, ResourceExt};
use kube::{Api, Client};
use serde_json::json;

/// Writes `status` by server-side apply unless it equals what the object has. Returns whether it wrote.
pub async fn write(
    client: &Client,
    object: &WorkloadAccess,
    status: &WorkloadAccessStatus,
) -> Result<bool, ApiError> {
    if object.status.as_ref() == Some(status) {
        return Ok(false);
    }
    let namespace = object
        .namespace()
        .ok_or(ApiError::Incomplete("namespace"))?;
    let api: Api<WorkloadAccess> = Api::namespaced(client.clone(), &namespace);
    let apply = json!({
        "apiVersion": WorkloadAccess::api_version(&()),
        "kind": WorkloadAccess::kind(&()),
        // The UID keeps a status from landing on a re-created object of the same name.
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    call(api.patch_status(&object.name_any(), &params, &Patch::Apply(apply))).await?;
    Ok(true)
}
