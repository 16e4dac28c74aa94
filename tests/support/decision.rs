//! People who decide on requests: approvals as the webhook seals them, and the webhook itself.

use hyper::body::Bytes;
use serde_json::{Value, json};
use stint::api::{AccessApproval, ClusterWorkloadAccess, WorkloadAccess};
use stint::domain::receipt::{Claims, Keys, Requester};
use stint::domain::request::AccessRequest;
use stint::domain::seal;
use stint::webhook::admission::{MUTATE, VALIDATE};
use stint::webhook::server::Handler;

use super::world::{NAMESPACE, Operator, World};

/// Whether a review asks for the verb `approve`, and for whom.
pub fn asks_to_approve(review: &Value) -> Option<&str> {
    let wanted = &review["spec"]["resourceAttributes"]["verb"];
    (wanted == "approve").then(|| review["spec"]["user"].as_str().unwrap_or_default())
}

/// Everybody may `use` every policy; these may `approve` them.
pub fn approvers(world: &World, names: &'static [&'static str]) {
    world
        .api
        .on_review(move |review| match asks_to_approve(review) {
            Some(user) => names.contains(&user),
            None => true,
        });
}

/// Sets fields of the spec of a policy.
pub fn change_policy(world: &World, name: &str, changes: Value) {
    let mut policy = world.api.get("accesspolicies", "", name).unwrap();
    for (field, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(policy["spec"].as_object_mut().unwrap().remove(field)),
            value => policy["spec"][field] = value.clone(),
        }
    }
    let generation = policy["metadata"]["generation"].as_i64().unwrap_or(1);
    policy["metadata"]["generation"] = json!(generation + 1);
    world.api.seed(policy);
}

/// A request as it is.
pub fn request(world: &World, name: &str) -> Value {
    let namespaced = world.api.get("workloadaccesses", NAMESPACE, name);
    namespaced.unwrap_or_else(|| world.api.get("clusterworkloadaccesses", "", name).unwrap())
}

/// Hash of the spec of a request as it is.
pub fn hash_of(request: &Value) -> String {
    let read = request.clone();
    match request["kind"].as_str() {
        Some("ClusterWorkloadAccess") => {
            let typed: ClusterWorkloadAccess = serde_json::from_value(read).unwrap();
            typed.view().spec.hash()
        }
        _ => {
            let typed: WorkloadAccess = serde_json::from_value(read).unwrap();
            typed.view().spec.hash()
        }
    }
}

/// A decision on a request as it is, not sealed.
pub fn decision(world: &World, name: &str, of: &str, decision: &str) -> Value {
    let request = request(world, of);
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "AccessApproval",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "requestRef": {"kind": request["kind"], "name": of, "uid": request["metadata"]["uid"]},
            "specHash": hash_of(&request), "decision": decision
        }
    })
}

/// The claims that the webhook would seal.
pub fn claims(world: &World, object: &Value, by: &str) -> Claims {
    let typed: AccessApproval = serde_json::from_value(object.clone()).unwrap();
    Claims {
        namespace: typed.metadata.namespace.clone().unwrap(),
        name: typed.metadata.name.clone(),
        generate_name: None,
        spec_hash: seal::hash(&typed.spec),
        requester: Requester {
            username: by.into(),
            ..Requester::default()
        },
        at: world.api.now(),
        extended: None,
    }
}

/// The decision under the seal that the webhook would give it.
pub fn sealed(world: &World, object: Value, by: &str) -> Value {
    sealed_with(&world.keys().clone(), world, object, by)
}

/// The same under other keys.
pub fn sealed_with(keys: &Keys, world: &World, object: Value, by: &str) -> Value {
    let seal = keys.seal(&claims(world, &object, by));
    annotated(object, &seal)
}

/// The object with this in the place of its seal.
pub fn annotated(mut object: Value, seal: &str) -> Value {
    object["metadata"]["annotations"] = json!({"stint.dev/receipt": seal});
    object
}

/// Somebody decides.
pub fn decide(world: &World, name: &str, of: &str, what: &str, by: &str) {
    let object = decision(world, name, of, what);
    world.api.seed(sealed(world, object, by));
}

/// One question of the API server to the webhook.
pub fn review(operation: &str, object: &Value, old: &Value, user: &str) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "operation": operation, "namespace": object["metadata"]["namespace"],
        "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "AccessApproval"},
        "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": "accessapprovals"},
        "userInfo": {"username": user}, "object": object, "oldObject": old
    }})
}

/// The answer of the webhook.
pub async fn answer(operator: &Operator, path: &str, review: &Value) -> Value {
    let body = Bytes::from(review.to_string());
    let answer = operator.admission.handle(path, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["response"].clone()
}

/// What the mutating webhook makes of a new object.
pub async fn mutated(operator: &Operator, object: &Value, user: &str) -> Value {
    let review = review("CREATE", object, &Value::Null, user);
    let response = answer(operator, MUTATE, &review).await;
    assert_eq!(response["allowed"], json!(true), "{response}");
    patched(object, &response)
}

/// The object with the patch of an answer.
pub fn patched(object: &Value, response: &Value) -> Value {
    use base64::Engine;
    let mut object = object.clone();
    if let Some(patch) = response["patch"].as_str() {
        let patch = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    object
}

/// Creates an approval as `user` by way of both webhooks: stored, or the code and the words of the refusal.
pub async fn create(
    world: &World,
    operator: &Operator,
    object: &Value,
    user: &str,
) -> Result<(), (i64, String)> {
    let object = mutated(operator, object, user).await;
    let review = review("CREATE", &object, &Value::Null, user);
    let response = answer(operator, VALIDATE, &review).await;
    if response["allowed"] == json!(true) {
        world.api.seed(object);
        return Ok(());
    }
    let status = &response["status"];
    let message = status["message"].as_str().unwrap().to_owned();
    Err((status["code"].as_i64().unwrap(), message))
}
