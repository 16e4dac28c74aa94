//! Everything that the plugin writes into a cluster: requests and their revocation, decisions on them, and the switch of a
//! policy, and tokens with what they hang on. What gives access is written by the operator alone.

use crate::connect::{Connection, Wish};
use crate::outcome::Failure;
use crate::requests::Scope;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use stint::api::{AccessApproval, AccessPolicy};
use stint::domain::grant::Account;
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

/// Changes the end of a request; the generation of its spec comes back.
pub async fn end(
    connection: &Connection,
    place: &Place,
    name: &str,
    spec: &Value,
) -> Result<i64, Failure> {
    let scope = Scope::from(place);
    let wish = Wish {
        name: Some(name),
        ..scope.wish("patch")
    };
    let api = scope.api(connection);
    let patch = Patch::Merge(json!({"spec": spec}));
    let params = by_us();
    let changed = connection
        .ask(wish, api.patch(name, &params, &patch))
        .await?;
    Ok(changed.metadata.generation.unwrap_or_default())
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

/// A Secret that a token hangs on: when it goes, the token is worth nothing.
#[derive(Clone, Debug)]
pub struct Anchor {
    namespace: String,
    name: String,
    uid: String,
}

/// Creates the Secret.
pub async fn anchor(
    connection: &Connection,
    namespace: &str,
    object: &Secret,
) -> Result<Anchor, Failure> {
    let wish = Wish {
        verb: "create",
        resource: "secrets",
        namespace: Some(namespace),
        name: None,
    };
    let api: Api<Secret> = Api::namespaced(connection.client.clone(), namespace);
    let params = created_by_us();
    let made = connection
        .ask(wish, api.create(&params, object))
        .await?
        .metadata;
    Ok(Anchor {
        namespace: namespace.to_owned(),
        name: made.name.unwrap_or_default(),
        uid: made.uid.unwrap_or_default(),
    })
}

/// A token of the account that hangs on the Secret.
pub async fn token(
    connection: &Connection,
    account: &Account,
    anchor: &Anchor,
    seconds: i64,
) -> Result<String, Failure> {
    let wish = Wish {
        verb: "create",
        resource: "serviceaccounts/token",
        namespace: Some(&account.namespace),
        name: Some(&account.name),
    };
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(anchor.name.clone()),
        uid: Some(anchor.uid.clone()),
    };
    let asked = TokenRequest {
        spec: Some(TokenRequestSpec {
            bound_object_ref: Some(bound),
            expiration_seconds: Some(seconds),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(connection.client.clone(), &account.namespace);
    let params = PostParams::default();
    let call = api.create_token_request(&account.name, &params, &asked);
    let answer = connection.ask(wish, call).await?;
    let token = answer.status.and_then(|status| status.token);
    token.ok_or_else(|| Failure::Error(format!("the API server answers without a token: {wish}")))
}

/// Deletes the Secret; that it is gone already is as good.
pub async fn remove(connection: &Connection, anchor: &Anchor) -> Result<(), Failure> {
    let wish = Wish {
        verb: "delete",
        resource: "secrets",
        namespace: Some(&anchor.namespace),
        name: Some(&anchor.name),
    };
    let api: Api<Secret> = Api::namespaced(connection.client.clone(), &anchor.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(anchor.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let call = async {
        match api.delete(&anchor.name, &params).await {
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            answer => answer.map(drop),
        }
    };
    connection.ask(wish, call).await
}
