//! The life of grants in the whole cluster, in virtual time. No Job counts for them: whatever happens to Stint, it must find
//! and end them when it is back, and an ended one never begins again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use stint::webhook::admission::VALIDATE;
use stint::webhook::server::Handler;
use support::fake_api::on;
use support::wide::{admit, world};
use support::world::{NAMESPACE, World};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn request(world: &World, name: &str) -> Value {
    world.api.get("clusterworkloadaccesses", "", name).unwrap()
}

fn reason(world: &World, name: &str) -> String {
    let object = request(world, name);
    let ready = &object["status"]["conditions"][0];
    ready["reason"].as_str().unwrap_or_default().to_owned()
}

fn condition(world: &World, name: &str, of: &str) -> Option<Value> {
    let object = request(world, name);
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == of).cloned()
}

fn managed(world: &World, resource: &str) -> Vec<Value> {
    let all = world.api.list(resource, "").into_iter();
    all.filter(|o| o["metadata"]["labels"]["stint.dev/grant"].is_string())
        .collect()
}

/// How many ClusterRoleBindings and ClusterRoles of grants there are.
fn made(world: &World) -> [usize; 2] {
    ["clusterrolebindings", "clusterroles"].map(|kind| managed(world, kind).len())
}

/// Deletions of bindings, with their instants.
fn deletions(world: &World) -> Vec<Timestamp> {
    let calls = world.api.calls().into_iter();
    calls
        .filter(|c| c.method == "DELETE" && c.resource == "clusterrolebindings" && c.status == 200)
        .map(|c| c.at)
        .collect()
}

fn creations(world: &World) -> usize {
    let calls = world.api.calls().into_iter();
    calls
        .filter(|c| c.method == "POST" && c.resource == "clusterrolebindings" && c.status == 201)
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_grant_of_one_hour_lives_exactly_one_hour() {
    let world = world();
    let operator = world.operator();
    admit(&world, "a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert!(operator.ready());
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Active".into(), [1, 1])
    );
    let writes = world.api.writes();
    let steps: Vec<&str> = writes
        .iter()
        .map(|c| c.resource.as_str())
        .filter(|r| !["events", "accesspolicies"].contains(r))
        .collect();
    assert_eq!(
        steps,
        [
            "clusterroles",
            "clusterrolebindings",
            "clusterworkloadaccesses"
        ],
        "access comes last"
    );
    assert_eq!(world.made(), [0, 0, 0], "nothing in the namespace");
    world.pass(MINUTE * 61).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Expired".into(), [0, 0])
    );
    let end: Timestamp = "2026-12-01T13:00:00Z".parse().unwrap();
    let late = deletions(&world)[0].duration_since(end);
    assert!(
        late >= SignedDuration::ZERO && late <= SignedDuration::from_millis(2),
        "{late}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_status_says_that_nothing_but_stint_ends_it() {
    let world = world();
    let _operator = world.operator();
    admit(&world, "a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let backstop = condition(&world, "a", "Backstop").unwrap();
    assert_eq!(
        (&backstop["status"], &backstop["reason"]),
        (&json!("False"), &json!("ClusterScoped"))
    );
    let message = backstop["message"].as_str().unwrap();
    assert!(message.contains("outlives its end"), "{message}");
    let status = &request(&world, "a")["status"];
    assert!(status["clusterRoleBinding"]["uid"].is_string());
    assert!(status["deadline"].is_null() && status["roleBinding"].is_null());
    world.pass(MINUTE * 61).await;
    assert_eq!(condition(&world, "a", "Backstop"), None, "it is over");
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_costs_no_write_and_no_list() {
    let world = world();
    let _operator = world.operator();
    for i in 0..5 {
        admit(&world, &format!("long-{i}"), json!({"duration": "10h"}));
    }
    admit(&world, "over", json!({"duration": "1m"}));
    world.pass(MINUTE * 5).await;
    assert_eq!(made(&world), [5, 5]);
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert_eq!(world.api.writes().len(), 0, "{:#?}", world.api.writes());
    assert_eq!(world.api.lists().len(), 0);
}

/// One short life, with the operator killed after its k-th write and started again after a while. Returns whether there was a
/// k-th write.
async fn killed_after_write(k: u64, away: SignedDuration) -> bool {
    let world = world();
    admit(&world, "a", json!({"duration": "30s"}));
    let cut = world.api.cut_after_write(k);
    let first = world.operator();
    let killed = tokio::select! {
        () = cut.notified() => true,
        () = tokio::time::sleep(Duration::from_secs(120)) => false,
    };
    drop(first);
    world.api.heal();
    world.pass(away).await;
    let _second = world.operator();
    world.pass(MINUTE * 3).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Expired".into(), [0, 0]),
        "killed after write {k}"
    );
    assert!(
        creations(&world) <= 1,
        "killed after write {k}: an ended grant began again"
    );
    killed
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn killed_after_any_write_the_end_is_the_same(
    #[values(SECOND, SignedDuration::from_mins(2))] away: SignedDuration,
) {
    let mut writes = 0;
    while killed_after_write(writes + 1, away).await {
        writes += 1;
    }
    assert!(
        writes >= 6,
        "a life has at least 3 writes to begin and 3 to end, saw {writes}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_end_nobody_saw_is_ended_before_the_operator_is_ready() {
    let world = world();
    let operator = world.operator();
    admit(&world, "a", json!({"duration": "10m"}));
    world.pass(SECOND).await;
    drop(operator);
    world.pass(MINUTE * 60).await;
    assert_eq!(made(&world), [1, 1], "nothing else ends it: Backstop=False");
    let operator = world.operator();
    while !operator.ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(made(&world)[0], 0, "ready means swept");
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Expired".into(), [0, 0])
    );
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_refused_write_delays_nothing_for_good(
    #[values(409, 429, 500, 503)] status: u16,
    #[values(1, 2, 3, 4, 5, 6)] k: u64,
) {
    let world = world();
    world.api.fail_write(k, status);
    let _operator = world.operator();
    admit(&world, "a", json!({"duration": "2m"}));
    world.pass(MINUTE).await;
    assert_eq!(reason(&world, "a"), "Active");
    world.pass(MINUTE * 3).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Expired".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_tried_for_ever() {
    let world = world();
    let _operator = world.operator();
    admit(&world, "a", json!({"duration": "10s"}));
    world.pass(SECOND).await;
    world.api.harm(
        on("DELETE", "clusterrolebindings"),
        support::fake_api::Harm::Refuse(500),
        Some(10),
    );
    world.pass(MINUTE * 5).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Expired".into(), [0, 0])
    );
}

async fn live() -> (World, support::world::Operator) {
    let world = world();
    let operator = world.operator();
    admit(&world, "a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Active".into(), [1, 1])
    );
    (world, operator)
}

fn change_policy(world: &World, pointer: &str, field: &str, value: Value) {
    let mut policy = world.api.get("accesspolicies", "", "wide").unwrap();
    policy.pointer_mut(pointer).unwrap()[field] = value;
    let generation = policy["metadata"]["generation"].as_i64().unwrap_or(1);
    policy["metadata"]["generation"] = json!(generation + 1);
    world.api.seed(policy);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_loses_the_switch_ends_it() {
    let (world, _operator) = live().await;
    change_policy(&world, "/spec/allow", "cluster", json!(false));
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("PolicyWithdrawn".into(), [0, 0])
    );
    change_policy(&world, "/spec/allow", "cluster", json!(true));
    world.pass(MINUTE * 2).await;
    assert_eq!(made(&world), [0, 0], "an ended grant never comes back");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_policy_ends_it() {
    let (world, _operator) = live().await;
    change_policy(&world, "/spec", "suspended", json!(true));
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Suspended".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_the_account_that_is_selected_no_more_ends_it() {
    let (world, _operator) = live().await;
    world.api.namespace(NAMESPACE, json!({"team": "other"}));
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("PolicyWithdrawn".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreated_account_loses_it_at_once() {
    let (world, _operator) = live().await;
    world.api.remove("serviceaccounts", NAMESPACE, "migrator");
    world.api.service_account(NAMESPACE, "migrator", json!({}));
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("IdentityChanged".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_the_account_that_is_gone_ends_it_and_the_end_is_written_down() {
    let (world, _operator) = live().await;
    world.api.remove("serviceaccounts", NAMESPACE, "migrator");
    world.api.remove("namespaces", "", NAMESPACE);
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("IdentityChanged".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_exist_is_a_refusal_that_says_what_is_missing() {
    let world = world();
    let operator = world.operator();
    world.pass(SECOND).await;
    let object = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": "a"},
        "spec": {
            "serviceAccountRef": {"name": "migrator", "namespace": "paymints"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "resourceNames": ["a"], "verbs": ["get"]}],
            "reason": "a test", "duration": "1h"
        }
    });
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "name": "a",
        "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "ClusterWorkloadAccess"},
        "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": "clusterworkloadaccesses"},
        "userInfo": {"username": "alice"}, "object": world.stamped_wide(object),
    }});
    let body = review.to_string().into_bytes().into();
    let answer = operator.admission.handle(VALIDATE, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let status = &answer["response"]["status"];
    let message = status["message"].as_str().unwrap();
    assert_eq!(status["code"], 422, "{message}");
    for code in ["WA-ACCOUNT-MISSING", "WA-NO-POLICY"] {
        assert!(message.contains(code), "{message}");
    }
}

/// The request with a spec that nobody can read.
fn undecodable(mut object: Value) -> Value {
    object["spec"]["rules"] = json!("all of them");
    object
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_any_more_loses_its_access_and_keeps_its_record() {
    let (world, _operator) = live().await;
    let readable = request(&world, "a");
    world.api.seed(undecodable(readable.clone()));
    world.pass(SECOND).await;
    assert_eq!(made(&world), [0, 1], "no status says yet that it ended");
    world.api.seed(readable);
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Revoked".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_takes_away_nothing_of_somebody_else() {
    let world = world();
    admit(&world, "a", json!({"duration": "1h"}));
    let object = undecodable(request(&world, "a"));
    let name =
        stint::api::names::made_object_name("a", object["metadata"]["uid"].as_str().unwrap());
    world.api.seed(object);
    let rbac = "rbac.authorization.k8s.io";
    world.api.seed(json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"}
    }));
    let _operator = world.operator();
    world.pass(SECOND).await;
    assert!(world.api.get("clusterrolebindings", "", &name).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_is_built_anew_does_not_begin_the_grant_anew() {
    let (world, _operator) = live().await;
    world.pass(MINUTE * 40).await;
    let mut binding = managed(&world, "clusterrolebindings").remove(0);
    binding["subjects"][0]["name"] = json!("other");
    world.api.seed(binding);
    let mut looked_at = request(&world, "a");
    looked_at["metadata"]["labels"]["touched"] = json!("1");
    world.api.seed(looked_at);
    world.pass(MINUTE).await;
    let rebuilt = managed(&world, "clusterrolebindings").remove(0);
    assert_eq!(rebuilt["subjects"][0]["name"], "migrator");
    // What a condition sees as the begin, through `now`.
    let since = json!([{"expression": "now < timestamp('2026-12-01T12:30:00Z')"}]);
    change_policy(&world, "/spec", "conditions", since);
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Active".into(), [1, 1])
    );
}

#[tokio::test(start_paused = true)]
async fn revoking_ends_it() {
    let (world, _operator) = live().await;
    let mut object = request(&world, "a");
    object["spec"]["revoked"] = json!(true);
    world.api.seed(object);
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Revoked".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_request_takes_everything_with_it() {
    let (world, operator) = live().await;
    world.api.remove("clusterworkloadaccesses", "", "a");
    world.pass(SECOND).await;
    assert_eq!(made(&world)[0], 0);
    drop(operator);
    world.pass(MINUTE).await;
    assert_eq!(
        made(&world),
        [0, 0],
        "the garbage collector takes the ClusterRole"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_request_takes_everything_with_it_while_stint_is_down() {
    let (world, operator) = live().await;
    drop(operator);
    world.api.remove("clusterworkloadaccesses", "", "a");
    world.pass(MINUTE).await;
    assert_eq!(
        made(&world),
        [0, 0],
        "the owner has no namespace, so this works"
    );
}

#[tokio::test(start_paused = true)]
async fn a_removed_binding_ends_it_for_good() {
    let (world, operator) = live().await;
    let binding = managed(&world, "clusterrolebindings").remove(0);
    let name = binding["metadata"]["name"].as_str().unwrap().to_owned();
    world.api.remove("clusterrolebindings", "", &name);
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Revoked".into(), [0, 0])
    );
    drop(operator);
    let _again = world.operator();
    world.pass(MINUTE * 5).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Revoked".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_removed_cluster_role_is_restored() {
    let (world, _operator) = live().await;
    let role = managed(&world, "clusterroles").remove(0);
    let name = role["metadata"]["name"].as_str().unwrap().to_owned();
    world.api.remove("clusterroles", "", &name);
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Active".into(), [1, 1])
    );
    assert_eq!(managed(&world, "clusterroles")[0]["rules"], role["rules"]);
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_does_not_say_when_it_ends_ends_at_once() {
    let (world, _operator) = live().await;
    let mut binding = managed(&world, "clusterrolebindings").remove(0);
    binding["metadata"]["annotations"]["stint.dev/not-after"] = json!("some day");
    world.api.seed(binding);
    world.pass(SECOND).await;
    assert_eq!(made(&world), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_forged_later_end_does_not_count() {
    let world = world();
    let _operator = world.operator();
    admit(&world, "a", json!({"notAfter": "2026-12-01T12:10:00Z"}));
    world.pass(SECOND).await;
    let mut binding = managed(&world, "clusterrolebindings").remove(0);
    binding["metadata"]["annotations"]["stint.dev/not-after"] = json!("2027-12-01T12:00:00Z");
    world.api.seed(binding);
    world.pass(MINUTE * 11).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Expired".into(), [0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn switched_off_ends_what_is_live_and_refuses_the_rest_with_the_value_that_switches_it_on() {
    let (mut world, operator) = live().await;
    drop(operator);
    world.cluster_grants = false;
    admit(&world, "b", json!({"duration": "1h"}));
    let _operator = world.operator();
    world.pass(SECOND).await;
    assert_eq!(made(&world), [0, 0]);
    assert_eq!(reason(&world, "a"), "Revoked");
    let ready = condition(&world, "b", "Ready").unwrap();
    let message = ready["message"].as_str().unwrap();
    assert_eq!(ready["reason"], "Refused");
    assert!(
        message.contains("clusterGrants.enabled") && message.contains("[WA-NOT-ALLOWED]"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cluster_role_of_somebody_else_under_the_grants_name_is_left_alone() {
    let world = world();
    admit(&world, "a", json!({"duration": "1h"}));
    let uid = request(&world, "a")["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let name = stint::api::names::made_object_name("a", &uid);
    world.api.seed(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": []
    }));
    let _operator = world.operator();
    world.pass(SECOND).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Refused".into(), [0, 0])
    );
    assert!(world.api.get("clusterroles", "", &name).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_receipt_never_becomes_access() {
    let world = world();
    let mut forged = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": "a", "generation": 1},
        "spec": {
            "serviceAccountRef": {"name": "migrator", "namespace": NAMESPACE},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
            "reason": "a test", "duration": "1h"
        }
    });
    world.api.seed(forged.clone());
    // Nor does one with the receipt of another.
    admit(&world, "good", json!({"duration": "1h"}));
    let receipt = request(&world, "good")["metadata"]["annotations"].clone();
    forged["metadata"] = json!({"name": "b", "generation": 1, "annotations": receipt});
    world.api.seed(forged);
    let _operator = world.operator();
    world.pass(SECOND).await;
    assert_eq!(made(&world), [1, 1], "the good one alone");
    assert_eq!(
        [reason(&world, "a"), reason(&world, "b")],
        ["Refused", "Refused"]
    );
}
