//! One judge, three mouths: ten thousand random requests get the same verdict, to the byte, from the webhook, from the
//! controller, and, as far as files can tell, from `kubectl stint lint`; and what is granted stays inside what was asked for, what the policy allows and what Stint may hand out.

mod support;

use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use stint::domain::rules::Rule;
use stint::webhook::admission::VALIDATE;
use stint::webhook::server::Handler;
use support::dice::{Dice, holds_for};
use support::requests::{self, Question, parsed, questions};
use support::world::{NAMESPACE, Operator, World};

const WORLDS: u64 = 50;
const REQUESTS: usize = 200;

/// A cluster with an account for each request.
fn world() -> World {
    let world = World::new();
    let rbac = "rbac.authorization.k8s.io/v1";
    let cluster_role = |name: &str, rules: Value| json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    world
        .api
        .seed(cluster_role("stint-grantable", requests::ceiling()));
    for (name, rules) in requests::roles() {
        world.api.seed(cluster_role(name, rules));
    }
    world.api.service_account(NAMESPACE, "default", json!({}));
    for i in 0..REQUESTS {
        world.api.service_account(NAMESPACE, &name(i), json!({}));
    }
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"] = requests::policy(json!({"team": "payments"}));
    world.api.seed(policy);
    world
}

fn name(i: usize) -> String {
    format!("case-{i:03}")
}

/// The webhook's answer: the lines of its refusal, or nothing if it admits.
async fn webhook_says(operator: &Operator, object: &Value) -> Option<String> {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "name": object["metadata"]["name"], "namespace": NAMESPACE,
        "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"},
        "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": "workloadaccesses"},
        "userInfo": {"username": "alice"}, "object": object,
    }});
    let body = review.to_string().into_bytes().into();
    let answer = operator.admission.handle(VALIDATE, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let response = &answer["response"];
    if response["allowed"] == true {
        return None;
    }
    let message = response["status"]["message"].as_str().unwrap();
    let (_, lines) = message.split_once(" is invalid:\n").expect(message);
    Some(lines.to_owned())
}

/// The controller's verdict in the status, likewise.
fn controller_says(object: &Value) -> Option<String> {
    let ready = &object["status"]["conditions"][0];
    match ready["reason"].as_str() {
        Some("Active") => None,
        Some("Refused") => Some(ready["message"].as_str().unwrap().to_owned()),
        other => panic!("{other:?}: {object}"),
    }
}

/// What only a cluster knows: its ceiling, what it serves, and the accounts that have no manifest. And what the schema
/// refuses: the API server says that itself, before the webhook, and here nobody asks it.
const NOT_IN_FILES: [&str; 5] = [
    "[WA-DECODE]",
    "[WA-CEILING]",
    "[WA-INERT]",
    "[WA-UNKNOWN-RESOURCE]",
    "[WA-ACCOUNT-MISSING]",
];

/// The lines that files can tell.
fn told_by_files(lines: Option<&str>) -> Vec<&str> {
    let all = lines.unwrap_or_default().lines();
    all.filter(|line| !NOT_IN_FILES.iter().any(|code| line.ends_with(code)))
        .collect()
}

/// The linter's errors by the name of the request.
fn lint_says(world: &World, objects: &[Value]) -> BTreeMap<String, String> {
    let mut items = objects.to_vec();
    items.push(world.api.get("accesspolicies", "", "jobs").unwrap());
    items.push(world.api.get("namespaces", "", NAMESPACE).unwrap());
    items.extend(world.api.list("serviceaccounts", NAMESPACE));
    items.extend(
        requests::roles().map(|(name, _)| world.api.get("clusterroles", "", name).unwrap()),
    );
    for (kind, item) in items.iter_mut().map(|item| (item["kind"].clone(), item)) {
        // A manifest, as somebody would write it.
        let metadata = item["metadata"].as_object_mut().unwrap();
        metadata.retain(|field, _| ["name", "namespace", "labels"].contains(&field.as_str()));
        assert!(kind.is_string(), "{item}");
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let output = lint(list.to_string());
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let judged = report["objects"].as_array().unwrap().iter();
    let requests = judged.filter(|o| o["kind"] == "WorkloadAccess");
    requests
        .map(|object| {
            let found = object["findings"].as_array().unwrap().iter();
            let errors = found.filter(|finding| finding["level"] == "error");
            let lines: Vec<&str> = errors.map(|f| f["message"].as_str().unwrap()).collect();
            (
                object["name"].as_str().unwrap().to_owned(),
                lines.join("\n"),
            )
        })
        .collect()
}

/// Runs the linter on its standard input.
fn lint(input: String) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-stint"))
        .args(["lint", "-o", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

/// A role without a manifest may exist, and what of a role does nothing is left out of its copy: files tell neither.
fn depends_on_the_cluster(object: &Value) -> bool {
    let role = object["spec"]["roleRef"]["name"].as_str();
    matches!(role, Some("missing" | "reader" | "writer"))
}

/// The webhook counts what goes beyond twenty lines; the linter has all of them.
fn check_lint(webhook: Option<&str>, linter: Option<&str>) {
    let (mut webhook, mut linter) = (told_by_files(webhook), told_by_files(linter));
    let counted = webhook
        .last()
        .is_some_and(|l| l.starts_with("and ") && l.ends_with(" more"));
    if counted {
        webhook.pop();
        linter.truncate(webhook.len());
    }
    assert_eq!(linter, webhook);
}

/// What a request asks for: its rules, or those of the role it names.
fn asked(object: &Value) -> Vec<Rule> {
    match object["spec"]["roleRef"]["name"].as_str() {
        None => parsed(&object["spec"]["rules"]),
        Some(role) => roles().remove(role).unwrap_or_default(),
    }
}

fn roles() -> BTreeMap<&'static str, Vec<Rule>> {
    let all = requests::roles().into_iter();
    all.map(|(name, rules)| (name, parsed(&rules))).collect()
}

/// A role that the policy names is inside the policy, whatever its envelope says.
fn admitted_by_policy(object: &Value) -> Vec<Rule> {
    let mut rules = parsed(&requests::envelope());
    if !object["spec"]["roleRef"].is_null() {
        rules.extend(asked(object));
    }
    rules
}

fn check_chain(object: &Value, granted: &[Rule], questions: &[Question]) {
    let sets = [
        ("asked for", asked(object)),
        ("allowed by the policy", admitted_by_policy(object)),
        ("allowed by the ceiling", parsed(&requests::ceiling())),
    ];
    for question in questions.iter().filter(|q| q.allowed_by(granted)) {
        for (what, rules) in &sets {
            assert!(
                question.allowed_by(rules),
                "{question:?} is granted and not {what}: {object}"
            );
        }
    }
}

async fn one_world(dice: &mut Dice) -> [usize; 2] {
    let world = world();
    let operator = world.operator();
    world.pass(SignedDuration::from_secs(2)).await;
    let mut objects = Vec::new();
    for i in 0..REQUESTS {
        let object = world.stamped(requests::request(dice, NAMESPACE, &name(i)));
        let said = webhook_says(&operator, &object).await;
        objects.push((world.api.seed(object), said));
    }
    let manifests: Vec<Value> = objects.iter().map(|(object, _)| object.clone()).collect();
    let linted = lint_says(&world, &manifests);
    world.pass(SignedDuration::from_secs(20)).await;
    let questions = questions();
    let mut counts = [0, 0];
    for (object, said) in objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        let now = world.api.get("workloadaccesses", NAMESPACE, name).unwrap();
        assert_eq!(controller_says(&now), said, "{now}");
        if !depends_on_the_cluster(&object) {
            check_lint(said.as_deref(), linted.get(name).map(String::as_str));
        }
        counts[usize::from(said.is_some())] += 1;
        if said.is_none() {
            let role = now["status"]["roleBinding"]["name"].as_str().unwrap();
            let role = world.api.get("roles", NAMESPACE, role).unwrap();
            check_chain(&object, &parsed(&role["rules"]), &questions);
        }
    }
    counts
}

#[test]
fn ten_thousand_requests_get_one_verdict_and_grant_no_more_than_each_limit() {
    let totals = std::sync::Mutex::new([0, 0]);
    holds_for(WORLDS, |_, dice| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let counts = runtime.block_on(one_world(dice));
        let mut totals = totals.lock().unwrap();
        totals[0] += counts[0];
        totals[1] += counts[1];
    });
    let [granted, refused] = totals.into_inner().unwrap();
    println!("{granted} granted, {refused} refused");
    assert_eq!(granted + refused, 10_000);
    assert!(granted > 1000 && refused > 1000);
}
