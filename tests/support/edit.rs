//! An edit of a request, by way of both webhooks.

use serde_json::{Value, json};
use stint::webhook::admission::{MUTATE, VALIDATE};

use super::decision::{answer, patched, request};
use super::world::{Operator, World};

/// One question of the API server to the webhook about an edit.
fn review(object: &Value, old: &Value, user: &str) -> Value {
    let kind = object["kind"].as_str().unwrap();
    let resource = match kind {
        "ClusterWorkloadAccess" => "clusterworkloadaccesses",
        _ => "workloadaccesses",
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "operation": "UPDATE", "namespace": object["metadata"]["namespace"],
        "name": object["metadata"]["name"],
        "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": kind},
        "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": resource},
        "userInfo": {"username": user}, "object": object, "oldObject": old
    }})
}

/// The request with fields of its spec set or, by `null`, removed.
pub fn changed(world: &World, name: &str, changes: Value) -> Value {
    let mut object = request(world, name);
    let spec = object["spec"].as_object_mut().unwrap();
    for (field, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(spec.remove(field)),
            value => drop(spec.insert(field.clone(), value.clone())),
        }
    }
    object
}

/// Edits a request as `user`: stored, with the warnings, or the words of the refusal.
pub async fn edit(
    world: &World,
    operator: &Operator,
    name: &str,
    changes: Value,
    user: &str,
) -> Result<Vec<String>, String> {
    let object = changed(world, name, changes);
    store(world, operator, object, user).await
}

/// Stores the object over the one of its name, if the webhooks let it pass.
pub async fn store(
    world: &World,
    operator: &Operator,
    object: Value,
    user: &str,
) -> Result<Vec<String>, String> {
    let old = request(world, object["metadata"]["name"].as_str().unwrap());
    let response = answer(operator, MUTATE, &review(&object, &old, user)).await;
    assert_eq!(response["allowed"], json!(true), "{response}");
    let mut object = patched(&object, &response);
    let response = answer(operator, VALIDATE, &review(&object, &old, user)).await;
    if response["allowed"] != json!(true) {
        return Err(response["status"]["message"].as_str().unwrap().to_owned());
    }
    let generation = object["metadata"]["generation"].as_i64().unwrap();
    object["metadata"]["generation"] = json!(generation + 1);
    world.api.seed(object);
    let warnings = response["warnings"].as_array().cloned();
    let text = |w: &Value| w.as_str().unwrap().to_owned();
    Ok(warnings.unwrap_or_default().iter().map(text).collect())
}
