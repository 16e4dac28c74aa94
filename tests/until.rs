//! Grants that end with the work they are for, in virtual time.

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use stint::domain::completion::Kind;
use stint::webhook::admission::VALIDATE;
use stint::webhook::server::Handler;
use support::fake_api::{Harm, on};
use support::world::{NAMESPACE, Operator, World};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// An object of the team, at work.
fn work(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE},
           "spec": {"parallelism": 0, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
           "status": {}})
}

fn job(name: &str) -> Value {
    work("batch/v1", "Job", name)
}

fn until(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"duration": "4h", "until": {"apiVersion": api_version, "kind": kind, "name": name}})
}

fn until_job() -> Value {
    until("batch/v1", "Job", "work")
}

/// A world with a request `a` for four hours that is active and ends with this object.
async fn active(request: Value, object: Value) -> (World, Operator) {
    let mut world = World::new();
    world.until_kinds.push(Kind {
        api_version: "example.com/v1".into(),
        kind: "Task".into(),
        resource: "tasks".into(),
    });
    world.api.seed(object);
    let operator = world.operator();
    world.admit("a", request);
    world.pass(SECOND * 2).await;
    assert_eq!(world.reason("a"), "Active", "{}", message(&world, "a"));
    (world, operator)
}

fn message(world: &World, name: &str) -> String {
    let object = world.api.get("workloadaccesses", NAMESPACE, name).unwrap();
    object["status"]["conditions"][0]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The object with this merged into it.
fn change(world: &World, resource: &str, name: &str, patch: Value) {
    let mut object = world.api.get(resource, NAMESPACE, name).unwrap();
    json_patch::merge(&mut object, &patch);
    world.api.seed(object);
}

fn finish(world: &World, condition: &str) {
    let conditions = json!([{"type": condition, "status": "True"}]);
    change(
        world,
        "jobs",
        "work",
        json!({"status": {"conditions": conditions}}),
    );
}

fn bindings(world: &World) -> usize {
    world.api.list("rolebindings", NAMESPACE).len()
}

/// The annotation of the deadline Job, if there is one.
fn recorded(world: &World) -> Value {
    let jobs = world.api.list("jobs", NAMESPACE);
    let deadline = jobs
        .iter()
        .find(|j| j["metadata"]["labels"]["stint.dev/grant"].is_string());
    deadline.unwrap()["metadata"]["annotations"]["stint.dev/until-uid"].clone()
}

fn assert_completed(world: &World) {
    assert_eq!(
        (world.reason("a"), bindings(world)),
        ("Completed".into(), 0)
    );
    let status = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap()["status"].clone();
    assert_eq!(status["endReason"], "Completed");
    assert_eq!(
        status["conditions"][0]["status"], "True",
        "ended as planned"
    );
}

#[rstest]
#[case::complete("Complete")]
#[case::failed("Failed")]
#[tokio::test(start_paused = true)]
async fn a_grant_ends_when_its_job_does(#[case] condition: &str) {
    let (world, _operator) = active(until_job(), job("work")).await;
    finish(&world, "Suspended");
    world.pass(MINUTE * 10).await;
    assert_eq!(world.reason("a"), "Active", "a condition that is no end");
    finish(&world, condition);
    world.pass(SECOND).await;
    assert_completed(&world);
    assert!(
        message(&world, "a").contains(condition),
        "{}",
        message(&world, "a")
    );
}

#[tokio::test(start_paused = true)]
async fn the_clock_stays_the_ceiling() {
    let (world, _operator) = active(until_job(), job("work")).await;
    world.pass(MINUTE * 60 * 4).await;
    assert_eq!((world.reason("a"), bindings(&world)), ("Expired".into(), 0));
}

#[rstest]
#[case::job("batch/v1", "Job", "jobs")]
#[case::pod("v1", "Pod", "pods")]
#[case::deployment("apps/v1", "Deployment", "deployments")]
#[tokio::test(start_paused = true)]
async fn a_grant_ends_when_what_it_is_for_is_deleted(
    #[case] version: &str,
    #[case] kind: &str,
    #[case] resource: &str,
) {
    let (world, _operator) =
        active(until(version, kind, "work"), work(version, kind, "work")).await;
    world.api.remove(resource, NAMESPACE, "work").unwrap();
    world.pass(SECOND).await;
    assert_completed(&world);
    assert!(
        message(&world, "a").contains("is gone"),
        "{}",
        message(&world, "a")
    );
}

#[tokio::test(start_paused = true)]
async fn a_grant_ends_when_its_deployment_is_being_deleted_and_not_when_it_changes() {
    let request = until("apps/v1", "Deployment", "work");
    let (world, _operator) = active(request, work("apps/v1", "Deployment", "work")).await;
    let conditions = json!([{"type": "Available", "status": "True"}]);
    change(
        &world,
        "deployments",
        "work",
        json!({"status": {"conditions": conditions}}),
    );
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Active");
    let deleting =
        json!({"deletionTimestamp": "2026-12-01T12:01:00Z", "finalizers": ["example.com/slow"]});
    change(&world, "deployments", "work", json!({"metadata": deleting}));
    world.pass(SECOND).await;
    assert_completed(&world);
}

#[rstest]
#[case::succeeded("Succeeded")]
#[case::failed("Failed")]
#[tokio::test(start_paused = true)]
async fn a_grant_ends_when_its_pod_does(#[case] phase: &str) {
    let (world, _operator) = active(until("v1", "Pod", "work"), work("v1", "Pod", "work")).await;
    change(
        &world,
        "pods",
        "work",
        json!({"status": {"phase": "Running"}}),
    );
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    change(&world, "pods", "work", json!({"status": {"phase": phase}}));
    world.pass(SECOND).await;
    assert_completed(&world);
}

#[tokio::test(start_paused = true)]
async fn another_job_of_the_same_name_is_not_the_work() {
    let (world, operator) = active(until_job(), job("work")).await;
    let uid = world.api.get("jobs", NAMESPACE, "work").unwrap()["metadata"]["uid"].clone();
    assert_eq!(recorded(&world), uid);
    drop(operator);
    world.api.remove("jobs", NAMESPACE, "work").unwrap();
    world.api.seed(job("work"));
    world.pass(MINUTE).await;
    let _operator = world.operator();
    world.pass(SECOND).await;
    assert_completed(&world);
    assert!(
        message(&world, "a").contains("another one"),
        "{}",
        message(&world, "a")
    );
}

#[tokio::test(start_paused = true)]
async fn any_listed_kind_ends_a_grant_by_the_condition_that_the_request_names() {
    let mut request = until("example.com/v1", "Task", "work");
    request["until"]["condition"] = json!({"type": "Running", "status": "False"});
    let (world, _operator) = active(request, work("example.com/v1", "Task", "work")).await;
    for (status, reason) in [
        ("True", "Active"),
        ("Unknown", "Active"),
        ("False", "Completed"),
    ] {
        let conditions = json!([7, {"type": "Running"}, {"type": "Running", "status": status}]);
        change(
            &world,
            "tasks",
            "work",
            json!({"status": {"conditions": conditions}}),
        );
        world.pass(SECOND).await;
        assert_eq!(world.reason("a"), reason);
    }
    assert_completed(&world);
}

#[tokio::test(start_paused = true)]
async fn a_status_of_another_shape_ends_nothing() {
    let mut request = until("example.com/v1", "Task", "work");
    request["until"]["condition"] = json!({"type": "Done"});
    let (world, _operator) = active(request, work("example.com/v1", "Task", "work")).await;
    for status in [
        json!("Done"),
        json!([]),
        json!({"conditions": {"type": "Done"}, "phase": 7}),
    ] {
        change(&world, "tasks", "work", json!({"status": status}));
        world.pass(SECOND).await;
        assert_eq!(world.reason("a"), "Active");
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_appears_leaves_the_clock_alone() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", until_job());
    world.pass(MINUTE * 60 * 3).await;
    assert_eq!(world.reason("a"), "Active");
    assert_eq!(recorded(&world), Value::Null);
    world.pass(MINUTE * 61).await;
    assert_eq!((world.reason("a"), bindings(&world)), ("Expired".into(), 0));
}

#[tokio::test(start_paused = true)]
async fn what_appears_later_is_recorded_once_and_then_ends_the_grant() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", until_job());
    world.pass(MINUTE).await;
    world.api.clear_calls();
    world.api.seed(job("work"));
    world.pass(SECOND).await;
    let uid = world.api.get("jobs", NAMESPACE, "work").unwrap()["metadata"]["uid"].clone();
    assert_eq!(
        (recorded(&world), world.reason("a")),
        (uid, "Active".into())
    );
    change(&world, "jobs", "work", json!({"status": {"active": 1}}));
    world.pass(SECOND).await;
    let writes = world.api.writes();
    assert_eq!(writes.len(), 1, "{writes:#?}");
    assert_eq!(
        (writes[0].method.as_str(), writes[0].resource.as_str()),
        ("PATCH", "jobs")
    );
    world.api.remove("jobs", NAMESPACE, "work").unwrap();
    world.pass(SECOND).await;
    assert_completed(&world);
}

#[tokio::test(start_paused = true)]
async fn what_is_done_before_access_begins_never_becomes_access() {
    let world = World::new();
    world.api.seed(job("work"));
    finish(&world, "Complete");
    let operator = world.operator();
    world.pass(SECOND).await;
    world.admit("a", until_job());
    let stored = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap();
    let answer = review(&operator, stored).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("Complete") && warning.contains("never becomes access"),
        "{warning}"
    );
    world.pass(SECOND).await;
    assert_completed(&world);
    world.api.remove("jobs", NAMESPACE, "work").unwrap();
    world.touch("a");
    world.pass(SECOND).await;
    assert_completed(&world);
    let made = world
        .api
        .writes()
        .into_iter()
        .filter(|c| c.method == "POST");
    let made = made.filter(|c| ["rolebindings", "jobs"].contains(&c.resource.as_str()));
    assert_eq!(made.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_while_a_request_is_scheduled_ends_the_request() {
    let world = World::new();
    world.api.seed(job("work"));
    let _operator = world.operator();
    let mut request = until_job();
    request["notBefore"] = json!("2026-12-01T13:00:00Z");
    world.admit("a", request);
    world.pass(SECOND * 2).await;
    assert_eq!(world.reason("a"), "Scheduled");
    finish(&world, "Failed");
    world.pass(SECOND).await;
    assert_completed(&world);
}

/// The webhook's answer to the creation of an object.
async fn review(operator: &Operator, object: Value) -> Value {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "operation": "CREATE", "namespace": NAMESPACE,
        "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"},
        "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": "workloadaccesses"},
        "userInfo": {"username": "alice"}, "object": object
    }});
    let answer = operator
        .admission
        .handle(VALIDATE, review.to_string().into())
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["response"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_the_installation_does_not_list_is_refused_and_not_looked_up() {
    let world = World::new();
    let _operator = world.operator();
    let mut request = until("example.com/v1", "Task", "work");
    request["until"]["condition"] = json!({"type": "Done"});
    world.admit("a", request);
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Refused");
    let text = message(&world, "a");
    assert!(
        text.contains("[WA-UNTIL]") && text.contains("batch/v1 Job"),
        "{text}"
    );
    let asked = world
        .api
        .calls()
        .into_iter()
        .filter(|c| c.resource == "tasks");
    assert_eq!(asked.count(), 0, "there is no right to");
}

#[tokio::test(start_paused = true)]
async fn a_grant_cannot_end_with_what_stint_made_for_one() {
    let (world, _operator) = active(until_job(), job("work")).await;
    let jobs = world.api.list("jobs", NAMESPACE);
    let deadline = jobs
        .iter()
        .find(|j| j["metadata"]["labels"]["stint.dev/grant"].is_string());
    let deadline = deadline.unwrap()["metadata"]["name"].as_str().unwrap();
    world.admit("b", until("batch/v1", "Job", deadline));
    world.pass(SECOND).await;
    assert_eq!(world.reason("b"), "Refused");
    assert!(
        message(&world, "b").contains("[WA-UNTIL]"),
        "{}",
        message(&world, "b")
    );
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_fails_grants_nothing_and_ends_nothing() {
    let (world, _operator) = active(until_job(), job("work")).await;
    let failing = on("GET", "jobs");
    world.api.harm(failing, Harm::Refuse(500), None);
    world.admit("b", until_job());
    world.touch("a");
    world.pass(SECOND * 5).await;
    assert_eq!(
        (world.reason("a"), world.reason("b")),
        ("Active".into(), String::new())
    );
    world.api.heal();
    world.pass(MINUTE).await;
    assert_eq!(world.reason("b"), "Active");
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_made_good_by_a_look() {
    let (world, _operator) = active(until_job(), job("work")).await;
    world.api.drop_event(1);
    finish(&world, "Complete");
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Active", "nobody heard of it");
    world.pass(MINUTE * 4).await;
    assert_completed(&world);
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_missed_shows_in_its_next_list() {
    let (world, _operator) = active(until_job(), job("work")).await;
    world.api.drop_event(1);
    world.api.remove("jobs", NAMESPACE, "work").unwrap();
    world.api.compact();
    world.api.end_watches();
    world.pass(MINUTE).await;
    assert_completed(&world);
}

#[tokio::test(start_paused = true)]
async fn work_that_ended_while_the_operator_was_down_is_seen_when_it_is_back() {
    let (world, operator) = active(until_job(), job("work")).await;
    drop(operator);
    finish(&world, "Complete");
    world.pass(MINUTE).await;
    assert_eq!(bindings(&world), 1);
    let _operator = world.operator();
    world.pass(SECOND).await;
    assert_completed(&world);
}

/// The open watches on what is referred to, in one namespace alone.
fn watches(world: &World, resource: &str) -> Vec<Timestamp> {
    let calls = world.api.calls().into_iter();
    let open = calls.filter(|c| c.query.contains("watch="));
    open.filter(|c| c.resource == resource && c.namespace == NAMESPACE)
        .map(|c| c.at)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_costs_no_write_and_no_list() {
    let (world, _operator) = active(until_job(), job("work")).await;
    world.admit("later", until("v1", "Pod", "not-yet"));
    world.pass(MINUTE * 5).await;
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert_eq!(world.api.writes().len(), 0, "{:#?}", world.api.writes());
    assert_eq!(world.api.lists().len(), 0, "{:#?}", world.api.lists());
}

#[tokio::test(start_paused = true)]
async fn only_what_somebody_refers_to_is_watched() {
    let (world, _operator) = active(until_job(), job("work")).await;
    assert_eq!(watches(&world, "jobs").len(), 1);
    assert_eq!(watches(&world, "deployments").len(), 0);
    world.admit("b", until_job());
    world.pass(SECOND).await;
    assert_eq!(watches(&world, "jobs").len(), 1, "one for both");
    finish(&world, "Complete");
    world.pass(SECOND).await;
    world.api.clear_calls();
    world.pass(MINUTE * 30).await;
    assert_eq!(watches(&world, "jobs").len(), 0, "nobody refers to any");
}

#[tokio::test(start_paused = true)]
async fn an_event_concerns_those_alone_that_refer_to_its_object() {
    let (world, _operator) = active(until_job(), job("work")).await;
    world.api.seed(job("other"));
    world.admit("b", until("batch/v1", "Job", "other"));
    world.admit("c", json!({"duration": "4h"}));
    world.pass(SECOND * 2).await;
    world.api.clear_calls();
    world.api.seed(job("third"));
    change(&world, "jobs", "other", json!({"status": {"active": 1}}));
    world.pass(SECOND).await;
    let calls = world.api.calls().into_iter();
    let reads = calls
        .filter(|c| c.method == "GET" && c.resource == "workloadaccesses" && !c.name.is_empty());
    let names: Vec<String> = reads.map(|c| c.name).collect();
    assert_eq!(names, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_can_require_it() {
    let world = World::new();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["limits"]["requireUntil"] = json!(true);
    world.api.seed(policy);
    world.api.seed(job("work"));
    let _operator = world.operator();
    world.admit("with", until_job());
    world.admit("without", json!({"duration": "1h"}));
    world.pass(SECOND * 2).await;
    assert_eq!(
        (world.reason("with"), world.reason("without")),
        ("Active".into(), "Refused".into())
    );
    let text = message(&world, "without");
    assert!(
        text.contains("spec.until: Required value") && text.contains("[WA-UNTIL]"),
        "{text}"
    );
}
