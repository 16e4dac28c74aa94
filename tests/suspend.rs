//! The kill switch: a suspended policy ends all its grants at once, also when passes are slow, when the operator dies in
//! the middle, and when the suspension is lifted before anything was told.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use support::fake_api::{Call, Harm};
use support::world::{NAMESPACE, World, guarded};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);
const INSTANT: SignedDuration = SignedDuration::from_millis(200);

/// Turns the kill switch of a policy.
fn suspend(world: &World, policy: &str, on: bool) {
    change_policy(world, policy, |spec| spec["suspended"] = json!(on));
}

fn change_policy(world: &World, policy: &str, change: impl Fn(&mut Value)) {
    let mut object = world.api.get("accesspolicies", "", policy).unwrap();
    change(&mut object["spec"]);
    let generation = object["metadata"]["generation"].as_i64().unwrap();
    object["metadata"]["generation"] = json!(generation + 1);
    world.api.seed(object);
}

/// Passes begin with reading the request; from now on that takes this long.
fn slow_passes(world: &World, by: Duration) {
    let read = |call: &Call| {
        call.method == "GET" && call.resource.ends_with("accesses") && !call.name.is_empty()
    };
    world.api.harm(Box::new(read), Harm::Delay(by), None);
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("g-{i}")).collect()
}

/// This many active grants, and the operator that gave them.
async fn active(count: usize) -> (World, support::world::Operator) {
    let world = World::new();
    let operator = world.operator();
    for name in names(count) {
        world.admit(&name, json!({"duration": "4h"}));
    }
    world.pass(SECOND * 5).await;
    assert_eq!(world.made()[0], count);
    (world, operator)
}

fn all_are(world: &World, count: usize, reason: &str) -> bool {
    names(count).iter().all(|name| world.reason(name) == reason)
}

fn end_reason(world: &World, name: &str) -> Value {
    let object = world.api.get("workloadaccesses", NAMESPACE, name).unwrap();
    object["status"]["endReason"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_grants_end_at_once_although_passes_are_slow() {
    let (world, _operator) = active(1000).await;
    slow_passes(&world, Duration::from_secs(2));
    suspend(&world, "jobs", true);
    world.pass(INSTANT).await;
    assert_eq!(world.made()[0], 0, "no pass was needed");
    assert!(all_are(&world, 1000, "Active"), "nor was one over");
    world.api.heal();
    world.pass(MINUTE * 2).await;
    assert!(all_are(&world, 1000, "Suspended"));
    assert_eq!(world.made(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn grants_of_other_policies_go_on() {
    let (world, _operator) = active(2).await;
    world.api.seed(json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": "early-jobs"},
        "spec": {
            "namespaceSelector": {}, "serviceAccounts": {"names": ["migrator"]},
            "allow": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}
        }
    }));
    world.pass(SECOND).await;
    world.admit("early", json!({"duration": "4h"}));
    world.pass(SECOND).await;
    suspend(&world, "jobs", true);
    world.pass(SECOND).await;
    assert!(all_are(&world, 2, "Suspended"), "they name `jobs`");
    assert_eq!(
        (world.reason("early"), world.made()[0]),
        ("Active".into(), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn lifted_at_once_every_grant_is_over_all_the_same() {
    let (world, _operator) = active(50).await;
    slow_passes(&world, Duration::from_secs(2));
    suspend(&world, "jobs", true);
    world.pass(INSTANT).await;
    suspend(&world, "jobs", false);
    world.pass(MINUTE).await;
    assert!(all_are(&world, 50, "Suspended"));
    assert!(
        names(50)
            .iter()
            .all(|n| end_reason(&world, n) == "Suspended")
    );
    assert_eq!(world.made(), [0, 0, 0]);
    world.api.heal();
    world.admit("after", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("after"), world.made()[0]),
        ("Active".into(), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn lifted_while_deletions_fail_every_grant_is_over_all_the_same() {
    let (world, _operator) = active(5).await;
    slow_passes(&world, Duration::from_secs(1));
    let delete = support::fake_api::on("DELETE", "rolebindings");
    world.api.harm(delete, Harm::Refuse(500), Some(5));
    suspend(&world, "jobs", true);
    world.pass(SignedDuration::from_millis(20)).await;
    suspend(&world, "jobs", false);
    assert_eq!(world.made()[0], 5, "the first tries failed");
    world.pass(MINUTE).await;
    assert!(all_are(&world, 5, "Suspended"));
    assert_eq!(world.made(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_was_just_being_given_is_caught() {
    let world = World::new();
    let _operator = world.operator();
    world.pass(SECOND).await;
    let slow = Harm::Delay(Duration::from_secs(3));
    let create = support::fake_api::on("POST", "rolebindings");
    world.api.harm(create, slow, None);
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    suspend(&world, "jobs", true);
    world.pass(SECOND * 3).await;
    assert_eq!(world.made()[0], 0);
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Suspended".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn the_switch_works_on_a_policy_that_cannot_be_used() {
    let (world, _operator) = active(3).await;
    slow_passes(&world, Duration::from_secs(2));
    change_policy(&world, "jobs", |spec| {
        spec["suspended"] = json!(true);
        spec["conditions"] = json!([{"expression": "1 +"}]);
    });
    world.pass(INSTANT).await;
    assert_eq!(world.made()[0], 0);
    world.pass(MINUTE).await;
    assert!(all_are(&world, 3, "Suspended"));
}

#[tokio::test(start_paused = true)]
async fn suspended_while_the_operator_was_down_all_is_over_before_it_is_ready() {
    let (world, operator) = active(20).await;
    drop(operator);
    suspend(&world, "jobs", true);
    world.pass(MINUTE).await;
    assert_eq!(world.made()[0], 20);
    let operator = world.operator();
    while !operator.ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.made()[0], 0, "ready means swept");
    world.pass(MINUTE).await;
    assert!(all_are(&world, 20, "Suspended"));
}

/// Kills the operator after its `k`-th write of a kill switch over five grants. Returns whether there was one.
async fn killed_after_write(k: u64) -> bool {
    let (world, first) = active(5).await;
    guarded(&world, async {
        let cut = world.api.cut_after_write(k);
        suspend(&world, "jobs", true);
        let killed = tokio::select! {
            () = cut.notified() => true,
            () = tokio::time::sleep(Duration::from_secs(30)) => false,
        };
        drop(first);
        world.api.heal();
        world.pass(SECOND).await;
        let second = world.operator();
        while !second.ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.made()[0], 0, "killed after write {k}");
        world.pass(MINUTE).await;
        assert!(all_are(&world, 5, "Suspended"), "killed after write {k}");
        assert_eq!(world.made(), [0, 0, 0], "killed after write {k}");
        killed
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_the_rest_ends_before_the_next_operator_is_ready() {
    let mut writes = 0;
    while killed_after_write(writes + 1).await {
        writes += 1;
    }
    assert!(
        writes >= 15,
        "5 bindings, 5 Jobs and 5 statuses; saw {writes}"
    );
}

#[tokio::test(start_paused = true)]
async fn killed_for_good_kubernetes_ends_the_rest_by_their_deadlines() {
    let world = World::new();
    let first = world.operator();
    for name in names(5) {
        world.admit(&name, json!({"duration": "2m"}));
    }
    world.pass(SECOND).await;
    let cut = world.api.cut_after_write(2);
    suspend(&world, "jobs", true);
    cut.notified().await;
    drop(first);
    world.pass(SECOND).await;
    assert!(world.made()[0] > 0, "some are left");
    world.pass(MINUTE * 3).await;
    assert_eq!(world.made(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn grants_in_the_whole_cluster_end_at_once_and_for_good() {
    let mut world = World::new();
    world.cluster_grants = true;
    change_policy(&world, "jobs", |spec| {
        spec["allow"]["cluster"] = json!(true)
    });
    change_policy(&world, "jobs", |spec| {
        spec["allow"]["findings"] = json!(["OB-W07"])
    });
    let _operator = world.operator();
    for name in names(3) {
        world.api.seed(world.stamped_wide(json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
            "metadata": {"name": name, "generation": 1},
            "spec": {
                "serviceAccountRef": {"name": "migrator", "namespace": NAMESPACE}, "duration": "1h", "reason": "a test",
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}]
            }
        })));
    }
    world.pass(SECOND).await;
    let bindings = || world.api.list("clusterrolebindings", "").len();
    assert_eq!(bindings(), 3);
    slow_passes(&world, Duration::from_secs(2));
    suspend(&world, "jobs", true);
    world.pass(INSTANT).await;
    assert_eq!(bindings(), 0);
    suspend(&world, "jobs", false);
    world.pass(MINUTE).await;
    for name in names(3) {
        let object = world.api.get("clusterworkloadaccesses", "", &name).unwrap();
        assert_eq!(object["status"]["endReason"], "Suspended");
    }
    assert_eq!(bindings(), 0);
}
