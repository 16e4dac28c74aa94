//! What the plugin writes into a cluster: requests and their revocation, decisions on them, policies and their switch, and tokens
//! with what they hang on. What gives access is written by the operator alone; bindings that were there before are taken away and
//! put back in `bindings.rs`.

use crate::connect::{Connection, NotDone, Wish};
use crate::outcome::Failure;
use crate::requests::{self, Scope};
use crate::wait;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use stint::api::{AccessApproval, AccessPolicy};
use stint::domain::grant::Account;
use stint::domain::request::{Access, Place};

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

/// Creates a request; its metadata comes back, with the name also when the API server made it.
pub async fn request(
    connection: &Connection,
    place: &Place,
    object: &Value,
) -> Result<ObjectMeta, NotDone> {
    let scope = Scope::from(place);
    let api = scope.api(connection);
    let object: DynamicObject = serde_json::from_value(object.clone())
        .map_err(|error| not_sent(format!("this is no request: {error}")))?;
    let params = created_by_us();
    let call = api.create(&params, &object);
    let made = connection.write(scope.wish("create"), call).await?;
    Ok(made.metadata)
}

/// What is not even asked.
fn not_sent(why: String) -> NotDone {
    NotDone {
        code: Some(400),
        failure: Failure::Error(why),
    }
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
    let params = only(Some(anchor.uid.clone()));
    let call = gone(api.delete(&anchor.name, &params));
    connection.ask(wish, call).await
}

/// Whether a policy of this name is there and says the same; one that says something else is an error.
pub async fn policy_is(
    connection: &Connection,
    name: &str,
    wanted: &Value,
) -> Result<bool, Failure> {
    let call = policies(connection);
    let there = connection.ask(of_policy("get", name), call.get_opt(name));
    let Some(there) = there.await? else {
        return Ok(false);
    };
    match there.spec == read_policy(wanted)?.spec {
        true => Ok(true),
        false => Err(another(&format!("AccessPolicy {name}"))),
    }
}

/// Creates a policy; its metadata comes back.
pub async fn policy(connection: &Connection, object: &Value) -> Result<ObjectMeta, NotDone> {
    let object = read_policy(object).map_err(|_| not_sent("this is no policy".into()))?;
    let name = object.metadata.name.clone().unwrap_or_default();
    let (api, params) = (policies(connection), created_by_us());
    let call = api.create(&params, &object);
    let made = connection.write(of_policy("create", &name), call).await?;
    Ok(made.metadata)
}

/// Deletes a policy that was created as this, or may have been: only the one of the UID, or where nobody knows that, one that says the
/// same.
pub async fn policy_back(
    connection: &Connection,
    name: &str,
    uid: Option<&str>,
    wanted: &Value,
) -> Result<(), Failure> {
    let api = policies(connection);
    let there = connection.ask(of_policy("get", name), api.get_opt(name));
    let Some(there) = there.await? else {
        return Ok(());
    };
    let ours = match uid {
        Some(uid) => there.metadata.uid.as_deref() == Some(uid),
        None => there.spec == read_policy(wanted)?.spec,
    };
    if !ours {
        return Ok(());
    }
    let params = only(there.metadata.uid);
    let call = gone(api.delete(name, &params));
    connection.ask(of_policy("delete", name), call).await
}

fn policies(connection: &Connection) -> Api<AccessPolicy> {
    Api::all(connection.client.clone())
}

fn of_policy<'a>(verb: &'a str, name: &'a str) -> Wish<'a> {
    Wish {
        verb,
        resource: "accesspolicies.stint.dev",
        namespace: None,
        name: Some(name),
    }
}

fn read_policy(object: &Value) -> Result<AccessPolicy, Failure> {
    serde_json::from_value(object.clone())
        .map_err(|error| Failure::Error(format!("this is no policy: {error}")))
}

fn another(title: &str) -> Failure {
    Failure::Error(format!(
        "{title} is there and says something else; delete or rename it"
    ))
}

/// Whether a request of this name is there, asks for the same and is not over; anything else is an error.
pub async fn request_is(
    connection: &Connection,
    place: &Place,
    name: &str,
    wanted: &Value,
) -> Result<bool, Failure> {
    let scope = Scope::from(place);
    let wish = Wish {
        name: Some(name),
        ..scope.wish("get")
    };
    let api = scope.api(connection);
    let Some(there) = connection.ask(wish, api.get_opt(name)).await? else {
        return Ok(false);
    };
    let title = wait::title(place, name);
    if !there.data["status"]["endedTime"].is_null() {
        let kind = place.kind().to_ascii_lowercase();
        let of = place.namespace().map(|n| format!(" -n {n}"));
        return Err(Failure::Error(format!(
            "{title} is over and its name is taken; `kubectl delete {kind} {name}{}` makes room, and takes its record away",
            of.unwrap_or_default()
        )));
    }
    let wanted: DynamicObject = serde_json::from_value(wanted.clone())
        .map_err(|error| Failure::Error(format!("this is no request: {error}")))?;
    let read = |object| requests::read(object).map_err(Failure::Error);
    match (read(&there)?, read(&wanted)?) {
        (Access::Namespaced(there), Access::Namespaced(wanted)) if there.spec == wanted.spec => {
            Ok(true)
        }
        (Access::Cluster(there), Access::Cluster(wanted)) if there.spec == wanted.spec => Ok(true),
        _ => Err(another(&title)),
    }
}

/// Deletes a request that was created as this, or may have been, with what it gives.
pub async fn request_back(
    connection: &Connection,
    place: &Place,
    name: &str,
    uid: Option<&str>,
    wanted: &Value,
) -> Result<(), Failure> {
    let scope = Scope::from(place);
    let wish = |verb| Wish {
        name: Some(name),
        ..scope.wish(verb)
    };
    let api = scope.api(connection);
    let Some(there) = connection.ask(wish("get"), api.get_opt(name)).await? else {
        return Ok(());
    };
    let ours = match uid {
        Some(uid) => there.metadata.uid.as_deref() == Some(uid),
        None => request_is(connection, place, name, wanted)
            .await
            .is_ok_and(|same| same),
    };
    if !ours {
        return Ok(());
    }
    let params = only(there.metadata.uid);
    let call = gone(api.delete(name, &params));
    connection.ask(wish("delete"), call).await
}

/// Nothing but the object of this UID.
fn only(uid: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// That an object is gone already, or is another by now, is as good as its deletion.
async fn gone<T>(deletion: impl Future<Output = kube::Result<T>>) -> kube::Result<()> {
    match deletion.await {
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
        answer => answer.map(drop),
    }
}
