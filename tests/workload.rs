//! Grants that belong to the Pod or Job that acts, in virtual time.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use support::world::{NAMESPACE, Operator, World};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";

fn pod_spec() -> Value {
    json!({"serviceAccountName": "migrator",
           "initContainers": [{"name": "init", "image": "registry.example.com/init:1"}],
           "containers": [{"name": "main", "image": "registry.example.com/main:1"}]})
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": "acting", "namespace": NAMESPACE, "uid": UID, "labels": {"app": "migrate"}},
           "spec": pod_spec(),
           "status": {"phase": "Running", "containerStatuses": [
               {"name": "main", "image": "registry.example.com/main:1", "ready": true, "restartCount": 0,
                "imageID": "registry.example.com/main@sha256:aaaa"}]}})
}

fn job() -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job",
           "metadata": {"name": "acting", "namespace": NAMESPACE, "uid": UID},
           "spec": {"parallelism": 0, "template": {"spec": pod_spec()}}, "status": {}})
}

fn acting(kind: &str) -> Value {
    json!({"duration": "4h", "workloadRef": {"kind": kind, "name": "acting", "uid": UID}})
}

fn text(world: &World, name: &str) -> String {
    let object = world.api.get("workloadaccesses", NAMESPACE, name).unwrap();
    object["status"]["conditions"][0]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn active(kind: &str, object: Value) -> (World, Operator) {
    let world = World::new();
    world.api.seed(object);
    let operator = world.operator();
    world.admit("a", acting(kind));
    world.pass(SECOND * 2).await;
    assert_eq!(world.reason("a"), "Active", "{}", text(&world, "a"));
    (world, operator)
}

fn change(world: &World, resource: &str, patch: Value) {
    let mut object = world.api.get(resource, NAMESPACE, "acting").unwrap();
    json_patch::merge(&mut object, &patch);
    world.api.seed(object);
}

fn assert_gone(world: &World) {
    let bindings = world.api.list("rolebindings", NAMESPACE).len();
    assert_eq!((world.reason("a"), bindings), ("WorkloadGone".into(), 0));
    let status = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap()["status"].clone();
    assert_eq!(status["endReason"], "WorkloadGone");
}

#[rstest]
#[case::succeeded(json!({"status": {"phase": "Succeeded"}}))]
#[case::failed(json!({"status": {"phase": "Failed"}}))]
#[case::deleting(json!({"metadata": {"deletionTimestamp": "2026-12-01T12:00:30Z", "finalizers": ["x.example.com/y"]}}))]
#[tokio::test(start_paused = true)]
async fn a_grant_ends_with_its_pod(#[case] patch: Value) {
    let (world, _operator) = active("Pod", pod()).await;
    change(
        &world,
        "pods",
        json!({"metadata": {"labels": {"app": "other"}}}),
    );
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Active");
    change(&world, "pods", patch);
    world.pass(SECOND).await;
    assert_gone(&world);
}

#[tokio::test(start_paused = true)]
async fn a_grant_ends_when_its_pod_is_gone() {
    let (world, _operator) = active("Pod", pod()).await;
    world.api.remove("pods", NAMESPACE, "acting").unwrap();
    world.pass(SECOND).await;
    assert_gone(&world);
}

#[tokio::test(start_paused = true)]
async fn another_pod_of_the_same_name_is_not_the_workload() {
    let (world, operator) = active("Pod", pod()).await;
    drop(operator);
    let mut other = pod();
    other["metadata"]["uid"] = json!("another");
    world.api.remove("pods", NAMESPACE, "acting").unwrap();
    world.api.seed(other);
    let _operator = world.operator();
    world.pass(SECOND).await;
    assert_gone(&world);
    assert!(
        text(&world, "a").contains("another one"),
        "{}",
        text(&world, "a")
    );
}

#[rstest]
#[case::complete("Complete")]
#[case::failed("Failed")]
#[tokio::test(start_paused = true)]
async fn a_grant_ends_with_its_job(#[case] condition: &str) {
    let (world, _operator) = active("Job", job()).await;
    let conditions = json!([{"type": condition, "status": "True"}]);
    change(
        &world,
        "jobs",
        json!({"status": {"conditions": conditions}}),
    );
    world.pass(SECOND).await;
    assert_gone(&world);
}

/// The code with which a request for this workload is refused beside this object.
async fn refusal(kind: &str, object: Option<Value>) -> String {
    let world = World::new();
    object.map(|object| world.api.seed(object));
    let _operator = world.operator();
    world.admit("a", acting(kind));
    world.pass(SECOND * 2).await;
    assert_eq!(world.reason("a"), "Refused", "{}", text(&world, "a"));
    assert_eq!(world.made()[..2], [0, 0]);
    text(&world, "a")
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    *object.pointer_mut(pointer).unwrap() = value;
    object
}

#[rstest]
#[case::missing("Pod", None, "Not found")]
#[case::a_job_is_no_pod("Pod", Some(job()), "Not found")]
#[case::another_uid("Pod", Some(with(pod(), "/metadata/uid", json!("another"))), "'another'")]
#[case::ended("Pod", Some(with(pod(), "/status/phase", json!("Succeeded"))), "still runs")]
#[case::of_another_account("Pod", Some(with(pod(), "/spec/serviceAccountName", json!("other"))), "runs as 'payments/other'")]
#[case::of_no_account("Pod", Some(with(pod(), "/spec", json!({"containers": []}))), "runs as 'payments/default'")]
#[case::job_of_another_account("Job", Some(with(job(), "/spec/template/spec/serviceAccountName", json!("other"))), "runs as 'payments/other'")]
#[tokio::test(start_paused = true)]
async fn what_does_not_act_with_the_account_is_refused(
    #[case] kind: &str,
    #[case] object: Option<Value>,
    #[case] says: &str,
) {
    let text = refusal(kind, object).await;
    assert!(
        text.contains("[WA-WORKLOAD]") && text.contains(says),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_workload_lives_where_its_account_does() {
    let world = World::new();
    world.api.namespace("builds", json!({}));
    world.api.service_account("builds", "migrator", json!({}));
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["serviceAccounts"]["namespaces"] = json!(["builds"]);
    world.api.seed(policy);
    world
        .api
        .seed(with(pod(), "/metadata/namespace", json!("builds")));
    let _operator = world.operator();
    let mut request = acting("Pod");
    request["serviceAccountRef"] = json!({"name": "migrator", "namespace": "builds"});
    world.admit("a", request);
    world.pass(SECOND * 2).await;
    assert_eq!(world.reason("a"), "Active", "{}", text(&world, "a"));
    world.api.remove("pods", "builds", "acting").unwrap();
    world.pass(SECOND).await;
    assert_gone(&world);
}

#[rstest]
#[case::kind("workload.kind == 'Pod' && workload.name == 'acting'", true)]
#[case::labels("workload.labels['app'] == 'migrate'", true)]
#[case::owner(
    "workload.owner.kind == 'Job' && workload.owner.name == 'migrate'",
    true
)]
#[case::images(
    "workload.images.all(i, i.image.startsWith('registry.example.com/'))",
    true
)]
#[case::first_images("workload.images.exists(i, i.name == 'init' && i.imageID == '')", true)]
#[case::digest(
    "workload.images.exists(i, i.name == 'main' && i.imageID.endsWith('@sha256:aaaa'))",
    true
)]
#[case::other_digest("workload.images.all(i, i.imageID.endsWith('@sha256:aaaa'))", false)]
#[case::spec("request.spec.workloadRef.kind == 'Pod'", true)]
#[tokio::test(start_paused = true)]
async fn a_condition_sees_the_workload(#[case] expression: &str, #[case] admits: bool) {
    let world = World::new();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["conditions"] = json!([{"expression": expression}]);
    world.api.seed(policy);
    // An owner that is not there would take the Pod with it.
    let mut owner = job();
    owner["metadata"]["name"] = json!("migrate");
    owner["metadata"]["uid"] = json!("j-1");
    world.api.seed(owner);
    let mut pod = pod();
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job",
        "name": "migrate", "uid": "j-1", "controller": true}]);
    world.api.seed(pod);
    let _operator = world.operator();
    world.admit("a", acting("Pod"));
    world.pass(SECOND * 2).await;
    let expected = if admits { "Active" } else { "Refused" };
    assert_eq!(world.reason("a"), expected, "{}", text(&world, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_condition_on_what_the_workload_runs_goes_on_being_asked() {
    let world = World::new();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["conditions"] = json!([{"expression": "workload.labels['app'] == 'migrate'"}]);
    world.api.seed(policy);
    world.api.seed(pod());
    let _operator = world.operator();
    world.admit("a", acting("Pod"));
    world.pass(SECOND * 2).await;
    assert_eq!(world.reason("a"), "Active");
    change(
        &world,
        "pods",
        json!({"metadata": {"labels": {"app": "other"}}}),
    );
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "PolicyWithdrawn");
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_costs_no_write_and_no_list() {
    let (world, _operator) = active("Pod", pod()).await;
    world.pass(MINUTE * 5).await;
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert_eq!(world.api.writes().len(), 0, "{:#?}", world.api.writes());
    assert_eq!(world.api.lists().len(), 0);
}
