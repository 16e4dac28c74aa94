//! Requests that are refused before anybody judges them, in virtual time: they cost nothing while they lie there, they hold no
//! place, and what cannot be read loses its access and nothing else.

use jiff::SignedDuration;
use serde_json::{Value, json};
use support::world::{NAMESPACE, World};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Reads of requests by name, which each pass begins with.
fn looks(world: &World) -> usize {
    let calls = world.api.calls().into_iter();
    calls
        .filter(|c| c.method == "GET" && c.resource.ends_with("workloadaccesses"))
        .filter(|c| !c.name.is_empty())
        .count()
}

fn request(world: &World, name: &str) -> Value {
    let of = ("workloadaccesses", NAMESPACE);
    world.api.get(of.0, of.1, name).unwrap()
}

fn without_receipt(mut object: Value) -> Value {
    object["metadata"]["annotations"] = json!({});
    object
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_receipt_is_looked_at_once() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.api.seed(without_receipt(request(&world, "a")));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Refused");
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert_eq!(looks(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_switched_off_is_looked_at_once() {
    let world = World::new();
    let _operator = world.operator();
    let object = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": "a", "generation": 1},
        "spec": {
            "serviceAccountRef": {"name": "migrator", "namespace": NAMESPACE},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
            "reason": "a test", "duration": "1h"
        }
    });
    world.api.seed(world.stamped_wide(object));
    world.pass(SECOND).await;
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert_eq!(looks(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_from_before_the_keys_were_loaded_is_looked_at_again() {
    let world = World::new();
    let operator = world.operator();
    world.pass(SECOND).await;
    let keys = operator.keys.known();
    operator.keys.set(None);
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Refused");
    operator.keys.set(keys);
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn a_taken_name_that_becomes_free_in_time_is_used_and_not_waited_for_any_longer() {
    let world = World::new();
    let taken = |name: &str| {
        world.admit(name, json!({"duration": "1h"}));
        let uid = request(&world, name)["metadata"]["uid"].clone();
        let made = stint::api::names::made_object_name(name, uid.as_str().unwrap());
        world.api.seed(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": made, "namespace": NAMESPACE}, "rules": []
        }));
        made
    };
    let (freed, _kept) = (taken("a"), taken("b"));
    let _operator = world.operator();
    world.pass(MINUTE).await;
    assert_eq!(
        [world.reason("a"), world.reason("b")],
        ["Refused", "Refused"]
    );
    world.api.remove("roles", NAMESPACE, &freed);
    world.pass(MINUTE).await;
    assert_eq!(
        [world.reason("a"), world.reason("b")],
        ["Active", "Refused"]
    );
    world.pass(MINUTE * 10).await;
    world.api.clear_calls();
    world.pass(MINUTE * 30).await;
    // The grant itself is looked at each half hour.
    let calls = world.api.calls().into_iter();
    let of_kept = calls.filter(|c| c.resource == "workloadaccesses" && c.name == "b");
    assert_eq!(of_kept.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_live_grant_that_is_turned_away_gives_its_place_back() {
    let world = World::new();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["limits"]["maxActivePerAccount"] = json!(1);
    world.api.seed(policy);
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    world.api.seed(without_receipt(request(&world, "a")));
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Revoked".into(), [0, 0, 0])
    );
    world.admit("b", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("b"), "Active");
}
