//! Changes of plain roles and bindings before the guard, as the API server would send them.

use hyper::body::Bytes;
use serde_json::{Value, json};
use stint::webhook::admission::GUARD;
use stint::webhook::server::Handler;

use super::world::Operator;

/// A change by `alice`, of an object with its kind and metadata; no `old` is a creation.
pub fn change(object: &Value, old: Option<&Value>) -> Value {
    let kind = object["kind"].as_str().unwrap();
    let whole = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        object
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1",
        "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
        "name": object["metadata"]["name"],
        "namespace": object["metadata"].get("namespace").cloned().unwrap_or(json!("")),
        "kind": {"group": "rbac.authorization.k8s.io", "version": "v1", "kind": kind},
        "resource": {"group": "rbac.authorization.k8s.io", "version": "v1", "resource": kind.to_lowercase() + "s"},
        "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
        "object": whole(object),
        "oldObject": old.map(whole)
    }})
}

/// The response to a review.
pub async fn answer(operator: &Operator, review: &Value) -> Value {
    let body = Bytes::from(review.to_string());
    let answer = operator.admission.handle(GUARD, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["response"].clone()
}

/// The message of a refusal; `None` when the change is allowed.
pub async fn refusal(operator: &Operator, review: &Value) -> Option<String> {
    let response = answer(operator, review).await;
    (response["allowed"] == json!(false))
        .then(|| response["status"]["message"].as_str().unwrap().to_owned())
}
