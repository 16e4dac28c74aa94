//! Receipt keys that another replica made anew, after somebody deleted the Secret: nobody who does not know them yet refuses or ends
//! what they signed.

use hyper::body::Bytes;
use jiff::SignedDuration;
use serde_json::{Value, json};
use stint::api::WorkloadAccess;
use stint::cluster::key_ring::Unvouched;
use stint::domain::receipt::KEY_LENGTH;
use stint::webhook::admission::VALIDATE;
use stint::webhook::server::Handler;
use support::decision::{
    answer, approvers, change_policy, decide, decision, request, review, sealed,
};
use support::fake_api::{Harm, on};
use support::world::{NAMESPACE, Operator, World};

const NEW: [u8; KEY_LENGTH] = [9; KEY_LENGTH];
const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A world in which an operator runs that does not know the keys which sign now.
async fn behind() -> (World, Operator) {
    let mut world = World::new();
    let operator = world.operator();
    world.pass(SECOND).await;
    world.make_keys_anew(NEW);
    (world, operator)
}

/// The same with a live grant that the new keys signed: the operator knew them for a moment, and is again as one that does not lead.
async fn behind_a_live(name: &str) -> (World, Operator) {
    let (world, operator) = behind().await;
    let old = operator.keys.known();
    world.admit(name, json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason(name), "Active");
    operator.keys.set(old);
    (world, operator)
}

fn looks(world: &World) -> usize {
    let calls = world.api.calls();
    calls.iter().filter(|c| on("GET", "secrets")(c)).count()
}

async fn validated(operator: &Operator, operation: &str, object: &Value, old: &Value) -> Value {
    let kind =
        |field: &str, word: &str| json!({"group": "stint.dev", "version": "v1alpha1", field: word});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "operation": operation, "namespace": NAMESPACE, "name": object["metadata"]["name"],
        "kind": kind("kind", "WorkloadAccess"), "resource": kind("resource", "workloadaccesses"),
        "userInfo": {"username": "alice"}, "object": object, "oldObject": old}});
    let body = Bytes::from(review.to_string());
    let answer = operator.admission.handle(VALIDATE, body).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_does_not_know_the_new_key_grants_what_it_signed() {
    let (world, _operator) = behind().await;
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    assert_eq!(looks(&world), 1, "and looks once");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_that_does_not_know_the_key_ends_no_live_grant() {
    let (world, _operator) = behind_a_live("a").await;
    world.touch("a");
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Active".to_owned(), [1, 1, 1])
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_secret_cannot_be_read_nothing_is_granted_and_nothing_ends() {
    let (world, _operator) = behind_a_live("live").await;
    world
        .api
        .harm(on("GET", "secrets"), Harm::Refuse(500), None);
    world.touch("live");
    world.admit("new", json!({"duration": "1h"}));
    world.pass(MINUTE).await;
    assert_eq!(world.reason("live"), "Active");
    assert_eq!(world.reason("new"), "", "neither granted nor refused");
    world.api.heal();
    world.pass(MINUTE * 6).await;
    assert_eq!(world.reason("live"), "Active");
    assert_eq!(world.reason("new"), "Active");
}

/// Three ask at once, and the API server answers nobody: none of them takes the look of another for its own.
#[tokio::test(start_paused = true)]
async fn a_look_that_came_to_nothing_is_nobodys() {
    let (world, operator) = behind_a_live("a").await;
    world.api.harm(on("GET", "secrets"), Harm::Hang, None);
    let object: WorkloadAccess = serde_json::from_value(request(&world, "a")).unwrap();
    let verified = || operator.keys.verify(|keys| keys.verify_object(&object));
    let (one, two, three) = tokio::join!(verified(), verified(), verified());
    for answer in [one, two, three] {
        assert!(matches!(answer, Err(Unvouched::Api(_))), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn to_end_a_grant_on_request_needs_no_keys() {
    let (world, _operator) = behind_a_live("a").await;
    world
        .api
        .harm(on("GET", "secrets"), Harm::Refuse(500), None);
    let mut object = request(&world, "a");
    object["spec"]["revoked"] = true.into();
    world.api.seed(object);
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Revoked".to_owned(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn what_no_key_signed_is_refused_as_ever_and_costs_no_look_at_rest() {
    let (world, _operator) = behind().await;
    let mut object = world.stamped(json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": "a", "namespace": NAMESPACE, "generation": 1},
        "spec": {"serviceAccountRef": {"name": "migrator"}, "duration": "1h", "reason": "a test",
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}]}
    }));
    let receipt = &mut object["metadata"]["annotations"]["stint.dev/receipt"];
    *receipt = receipt.as_str().unwrap().replacen("v1.", "v1.x", 1).into();
    world.api.seed(object);
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Refused".to_owned(), [0, 0, 0])
    );
    assert!(looks(&world) > 0);
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert_eq!(looks(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn the_webhook_takes_what_another_replica_has_stamped() {
    let (world, operator) = behind().await;
    world.admit("a", json!({"duration": "1h"}));
    let object = request(&world, "a");
    let old = operator.keys.known();
    operator.keys.set(old.clone());
    let said = validated(&operator, "CREATE", &object, &Value::Null).await;
    assert_eq!(said["response"]["allowed"], true, "{said}");

    operator.keys.set(old);
    world
        .api
        .harm(on("GET", "secrets"), Harm::Refuse(500), None);
    let said = validated(&operator, "CREATE", &object, &Value::Null).await;
    assert_eq!(said["response"]["status"]["code"], 503, "{said}");
}

#[tokio::test(start_paused = true)]
async fn an_approval_under_the_new_key_counts_at_once() {
    let (world, operator) = behind().await;
    approvers(&world, &["bob"]);
    change_policy(&world, "jobs", json!({"approval": {"required": 1}}));
    let old = operator.keys.known();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "PendingApproval");
    operator.keys.set(old.clone());
    let approval = sealed(&world, decision(&world, "x", "a", "Approve"), "bob");
    let asked = review("CREATE", &approval, &Value::Null, "bob");
    let said = answer(&operator, VALIDATE, &asked).await;
    assert_eq!(said["allowed"], true, "{said}");
    operator.keys.set(old);
    decide(&world, "x", "a", "Approve", "bob");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
}
