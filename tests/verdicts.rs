//! One judge, three mouths: ten thousand random requests get the same verdict, to the byte, from the webhook, from the
//! controller, and, as far as files can tell, from `kubectl stint lint`; and what is granted stays inside what was asked for,
//! what the policy allows and what Stint may hand out.

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

/// What only a cluster knows: what it serves, and whether an account exists that has no manifest.
const NOT_IN_FILES: [&str; 3] = ["WA-INERT", "WA-UNKNOWN-RESOURCE", "WA-ACCOUNT-MISSING"];

/// The lines that files can tell.
fn told_by_files(lines: &str) -> Vec<&str> {
    let is_told = |line: &&str| {
        !NOT_IN_FILES
            .iter()
            .any(|code| line.ends_with(&format!("[{code}]")))
    };
    lines.lines().filter(is_told).collect()
}

/// What the linter makes of one request.
struct Linted {
    outcome: String,
    risk: Option<String>,
    /// The lines of its errors. What the schema refuses is not among them: the API server says that itself, before the
    /// webhook, and here nobody asks it.
    errors: Vec<String>,
}

/// What the linter says of each request, by its name.
fn lint_says(world: &World, objects: &[Value]) -> BTreeMap<String, Linted> {
    let mut items = objects.to_vec();
    items.push(world.api.get("accesspolicies", "", "jobs").unwrap());
    items.push(world.api.get("namespaces", "", NAMESPACE).unwrap());
    items.extend(world.api.list("serviceaccounts", NAMESPACE));
    items.extend(world.api.list("clusterroles", ""));
    for item in &mut items {
        // A manifest, as somebody would write it.
        let metadata = item["metadata"].as_object_mut().unwrap();
        metadata.retain(|field, _| ["name", "namespace", "labels"].contains(&field.as_str()));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let output = lint(list.to_string());
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let not_judged = report["notJudged"].to_string();
    assert!(NOT_IN_FILES.iter().all(|code| not_judged.contains(code)));
    assert!(!not_judged.contains("WA-CEILING"), "{not_judged}");
    let judged = report["objects"].as_array().unwrap().iter();
    let requests = judged.filter(|o| o["kind"] == "WorkloadAccess");
    requests
        .map(|object| (object["name"].as_str().unwrap().to_owned(), linted(object)))
        .collect()
}

fn linted(object: &Value) -> Linted {
    let found = object["findings"].as_array().unwrap().iter();
    let errors = found.filter(|f| f["level"] == "error" && f["code"] != "WA-DECODE");
    Linted {
        outcome: object["outcome"].as_str().unwrap().to_owned(),
        risk: object["risk"].as_str().map(str::to_owned),
        errors: errors
            .map(|f| f["message"].as_str().unwrap().to_owned())
            .collect(),
    }
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

/// How the linter compares with the webhook on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lint {
    /// The same lines; both may have none.
    Same,
    /// The same lines, those apart that no file can tell.
    Partly,
    /// The linter says that it cannot tell.
    Undecided,
}

/// Every line of the webhook that files can tell, and no other.
fn check_lint(object: &Value, webhook: Option<&str>, linter: &Linted) -> Lint {
    let said = webhook.unwrap_or_default();
    let mut told = told_by_files(said);
    let untold = said.lines().count() - told.len();
    let mut errors: Vec<&str> = linter.errors.iter().map(String::as_str).collect();
    // The webhook counts what goes beyond twenty lines; the linter has all of them.
    let is_count = |line: &&str| line.starts_with("and ") && line.ends_with(" more");
    if told.last().is_some_and(is_count) {
        told.pop();
        assert!(errors.len() > told.len(), "{object}");
        errors.truncate(told.len());
    }
    if object["spec"]["roleRef"]["name"] == "missing" {
        // A role without a manifest may exist: what else is wrong is said, and nothing is assumed of its rights.
        told.retain(|line| !line.ends_with("[WA-ROLE-MISSING]"));
        assert_eq!(errors, told, "{object}");
        assert_eq!(linter.outcome == "undecided", errors.is_empty(), "{object}");
        return Lint::Undecided;
    }
    assert_eq!(errors, told, "{object}");
    if linter.outcome == "undecided" {
        // The only role that names what no cluster serves, and what does nothing in a namespace, beyond the ceiling.
        assert_eq!(object["spec"]["roleRef"]["name"], "reader", "{object}");
        return Lint::Undecided;
    }
    match untold {
        0 => Lint::Same,
        _ => Lint::Partly,
    }
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

/// How many requests of a world came out how.
#[derive(Debug, Default)]
struct Counts {
    granted: usize,
    refused: usize,
    same: usize,
    partly: usize,
    undecided: usize,
}

impl Counts {
    fn count(&mut self, refused: bool, lint: Lint) {
        match refused {
            true => self.refused += 1,
            false => self.granted += 1,
        }
        match lint {
            Lint::Same => self.same += 1,
            Lint::Partly => self.partly += 1,
            Lint::Undecided => self.undecided += 1,
        }
    }

    fn add(&mut self, other: &Counts) {
        self.granted += other.granted;
        self.refused += other.refused;
        self.same += other.same;
        self.partly += other.partly;
        self.undecided += other.undecided;
    }
}

async fn one_world(dice: &mut Dice) -> Counts {
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
    let mut counts = Counts::default();
    for (object, said) in objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        let now = world.api.get("workloadaccesses", NAMESPACE, name).unwrap();
        assert_eq!(controller_says(&now), said, "{now}");
        let lint = check_lint(&object, said.as_deref(), &linted[name]);
        counts.count(said.is_some(), lint);
        if said.is_none() {
            if lint == Lint::Same {
                assert_eq!(linted[name].outcome, "passes", "{object}");
                assert_eq!(linted[name].risk.as_deref(), now["status"]["risk"].as_str());
            }
            let role = now["status"]["roleBinding"]["name"].as_str().unwrap();
            let role = world.api.get("roles", NAMESPACE, role).unwrap();
            check_chain(&object, &parsed(&role["rules"]), &questions);
        }
    }
    counts
}

#[test]
fn ten_thousand_requests_get_one_verdict_and_grant_no_more_than_each_limit() {
    let totals = std::sync::Mutex::new(Counts::default());
    holds_for(WORLDS, |_, dice| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let counts = runtime.block_on(one_world(dice));
        totals.lock().unwrap().add(&counts);
    });
    let all = totals.into_inner().unwrap();
    println!("{all:?}");
    assert_eq!(all.granted + all.refused, 10_000);
    assert_eq!(all.same + all.partly + all.undecided, 10_000);
    assert!(all.granted > 1000 && all.refused > 1000);
    // Undecided are only roles without a manifest, and copies that depend on what a cluster serves.
    assert!(all.undecided < 500 && all.same > 7_000, "{all:?}");
}
