//! Everything that the plugin writes into a cluster: requests and their revocation, decisions on them, and the switch of a
//! policy. What gives access is written by the operator alone.

use crate::connect::{Connection, Wish};
use crate::outcome::Failure;
use crate::requests::Scope;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use stint::api::{AccessApproval, AccessPolicy};
use stint::domain::request::Place;

/// Field manager of what a person changes by the plugin.
const MANAGER: &str = "kubectl-stint";

fn by_us() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn created_by_us() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Creates a request; its name comes back, also when the API server made it.
pub async fn request(
    connection: &Connection,
    place: &Place,
    object: &Value,
) -> Result<String, Failure> {
    let scope = Scope::from(place);
    let api = scope.api(connection);
    let object: DynamicObject = serde_json::from_value(object.clone())
        .map_err(|error| Failure::Error(format!("this is no request: {error}")))?;
    let params = created_by_us();
    let call = api.create(&params, &object);
    let made = connection.ask(scope.wish("create"), call).await?;
    Ok(made.metadata.name.unwrap_or_default())
}

/// Sets `spec.revoked`.
pub async fn revocation(connection: &Connection, place: &Place, name: &str) -> Result<(), Failure> {
    let scope = Scope::from(place);
    let wish = Wish {
        name: Some(name),
        ..scope.wish("patch")
    };
    let api = scope.api(connection);
    let patch = Patch::Merge(json!({"spec": {"revoked": true}}));
    let params = by_us();
    let call = api.patch(name, &params, &patch);
    connection.ask(wish, call).await.map(drop)
}

/// Creates a decision; its name comes back.
pub async fn approval(
    connection: &Connection,
    namespace: &str,
    object: &AccessApproval,
) -> Result<String, Failure> {
    let wish = Wish {
        verb: "create",
        resource: "accessapprovals.stint.dev",
        namespace: Some(namespace),
        name: None,
    };
    let api: Api<AccessApproval> = Api::namespaced(connection.client.clone(), namespace);
    let params = created_by_us();
    let call = api.create(&params, object);
    let made = connection.ask(wish, call).await?;
    Ok(made.metadata.name.unwrap_or_default())
}

/// Sets `spec.suspended` of a policy.
pub async fn suspension(connection: &Connection, policy: &str, on: bool) -> Result<(), Failure> {
    let wish = Wish {
        verb: "patch",
        resource: "accesspolicies.stint.dev",
        namespace: None,
        name: Some(policy),
    };
    let api: Api<AccessPolicy> = Api::all(connection.client.clone());
    let patch = Patch::Merge(json!({"spec": {"suspended": on}}));
    let params = by_us();
    let call = api.patch_metadata(policy, &params, &patch);
    connection.ask(wish, call).await.map(drop)
}
