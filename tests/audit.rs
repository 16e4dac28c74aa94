//! Attribution: each transition of a request is told once, to the audit log and on the binding, with who asked and why.

use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::edit::edit;
use support::json_schema::misfits;
use support::project;
use support::told::Told;
use support::wide;
use support::world::{NAMESPACE, World};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&read("docs/audit.schema.json")).unwrap()
}

/// Name, transition and reason of each line, sorted by name; the order within a name stays.
fn told_of(told: &Told) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> = told
        .lines()
        .iter()
        .map(|l| {
            (
                text(&l["request"]["name"]),
                text(&l["transition"]),
                text(&l["reason"]),
            )
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Requests that go through every transition there is.
async fn every_transition(world: &World) {
    let role = |verb: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "reader", "namespace": NAMESPACE},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": [verb]}]})
    };
    world.api.seed(role("get"));
    let operator = world.operator();
    world.admit("ended", json!({"duration": "1m"}));
    world.admit(
        "later",
        json!({"notBefore": "2026-12-01T12:10:00Z", "notAfter": "2026-12-01T12:20:00Z"}),
    );
    world.admit("refused", json!({"duration": "48h"}));
    world.admit("moved", json!({"duration": "1h"}));
    world.admit("deleted", json!({"duration": "1h"}));
    let copied = json!({"kind": "Role", "name": "reader"});
    world.admit(
        "copied",
        json!({"duration": "1h", "rules": null, "roleRef": copied}),
    );
    world.pass(MINUTE * 2).await;
    world.api.remove("workloadaccesses", NAMESPACE, "deleted");
    world.api.seed(role("list"));
    for length in ["90m", "30m"] {
        let moved = json!({"duration": length});
        let answer = edit(world, &operator, "moved", moved, "alice").await;
        assert_eq!(answer, Ok(vec![]));
        world.pass(SECOND).await;
    }
    drop(operator);
    // Another operator has nothing new to tell of what the first told.
    let _operator = world.operator();
    for name in ["ended", "later", "refused", "copied", "moved"] {
        world.touch(name);
    }
    world.pass(MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn each_transition_is_told_once_also_by_an_operator_that_comes_later() {
    let told = Told::listen();
    every_transition(&World::new()).await;
    let expected = [
        ("copied", "Activated", "Active"),
        ("copied", "SourceChanged", "Active"),
        ("deleted", "Activated", "Active"),
        ("deleted", "Ended", "Deleted"),
        ("ended", "Activated", "Active"),
        ("ended", "Ended", "Expired"),
        ("later", "Waiting", "Scheduled"),
        ("moved", "Activated", "Active"),
        ("moved", "Extended", "Active"),
        ("moved", "Shortened", "Active"),
        ("refused", "Refused", "Refused"),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(told_of(&told), expected);
}

#[tokio::test(start_paused = true)]
async fn every_line_fits_the_schema_and_every_transition_of_the_schema_is_told() {
    let told = Told::listen();
    every_transition(&World::new()).await;
    let schema = schema();
    let mut transitions = BTreeSet::new();
    for line in told.lines() {
        assert_eq!(misfits(&schema, &line, ""), [""; 0]);
        transitions.insert(line["transition"].to_string());
    }
    let known = schema["properties"]["transition"]["enum"]
        .as_array()
        .unwrap();
    let known: BTreeSet<String> = known.iter().map(Value::to_string).collect();
    assert_eq!(transitions, known);
}

/// Without what differs from one run to the next.
fn masked(mut line: Value) -> Value {
    for field in ["/time", "/grantId", "/account/uid", "/policy/uid"] {
        if let Some(value) = line.pointer_mut(field) {
            *value = json!("…");
        }
    }
    line
}

#[tokio::test(start_paused = true)]
async fn the_examples_of_the_page_are_lines_that_were_told() {
    let told = Told::listen();
    every_transition(&World::new()).await;
    let page = read("docs/audit.md");
    let examples = page.lines().filter(|l| l.starts_with('{'));
    let examples: Vec<Value> = examples.map(|l| serde_json::from_str(l).unwrap()).collect();
    let lines: Vec<Value> = told.lines().into_iter().map(masked).collect();
    let mut transitions = BTreeSet::new();
    for example in examples {
        transitions.insert(example["transition"].to_string());
        let example = masked(example);
        assert!(
            lines.contains(&example),
            "{example}\nis none of\n{}",
            told.text()
        );
    }
    let known = schema()["properties"]["transition"]["enum"].clone();
    let known = known.as_array().unwrap().len();
    assert_eq!(transitions.len(), known, "{}", told.text());
}

#[tokio::test(start_paused = true)]
async fn a_line_says_who_may_do_what_from_when_to_when_and_why() {
    let told = Told::listen();
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let object = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap();
    let policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    let account = world
        .api
        .get("serviceaccounts", NAMESPACE, "migrator")
        .unwrap();
    let line = told.lines().remove(0);
    assert_eq!(line["grantId"], object["metadata"]["uid"]);
    assert_eq!(line["requestedBy"]["username"], "alice");
    assert_eq!(line["account"]["uid"], account["metadata"]["uid"]);
    assert_eq!(line["policy"]["uid"], policy["metadata"]["uid"]);
    assert_eq!(line["from"], "2026-12-01T12:00:00Z");
    assert_eq!(line["to"], "2026-12-01T13:00:00Z");
    assert_eq!(line["rulesHash"], object["status"]["rulesHash"]);
    assert_eq!(line["risk"], object["status"]["risk"]);
    assert_eq!(line["schemaVersion"], "1");
    world.pass(MINUTE * 61).await;
    let line = told.lines().remove(1);
    assert_eq!(line["endReason"], "Expired");
    assert_eq!(line["to"], "2026-12-01T13:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn no_line_shows_a_receipt() {
    let told = Told::listen();
    let world = World::new();
    every_transition(&world).await;
    let object = world
        .api
        .get("workloadaccesses", NAMESPACE, "ended")
        .unwrap();
    let receipt = object["metadata"]["annotations"]["stint.dev/receipt"]
        .as_str()
        .unwrap();
    let mac = receipt.rsplit('.').next().unwrap();
    assert!(!told.text().contains(mac) && told.text().contains("ended"));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_not_told() {
    let told = Told::listen();
    let world = World::new();
    let status = support::fake_api::on("PATCH", "workloadaccesses");
    world
        .api
        .harm(status, support::fake_api::Harm::Refuse(500), Some(3));
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(MINUTE).await;
    assert_eq!(told_of(&told).len(), 1, "{:?}", told_of(&told));
}

#[tokio::test(start_paused = true)]
async fn a_grant_in_the_whole_cluster_is_told_and_attributed_too() {
    let told = Told::listen();
    let world = wide::world();
    let _operator = world.operator();
    wide::admit(&world, "w", json!({"duration": "1m"}));
    world.pass(SECOND).await;
    let binding = world.api.list("clusterrolebindings", "").remove(0);
    assert_eq!(
        binding["metadata"]["annotations"]["stint.dev/requested-by"],
        "alice"
    );
    world.pass(MINUTE * 2).await;
    let lines = told.lines();
    for line in &lines {
        assert_eq!(misfits(&schema(), line, ""), [""; 0]);
        assert_eq!(line["request"]["kind"], "ClusterWorkloadAccess");
        assert_eq!(line["request"].get("namespace"), None);
    }
    assert_eq!(lines.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_binding_says_who_asked() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let binding = world.api.list("rolebindings", NAMESPACE).remove(0);
    assert_eq!(
        binding["metadata"]["annotations"]["stint.dev/requested-by"],
        "alice"
    );
}

#[tokio::test(start_paused = true)]
async fn a_binding_of_a_version_that_did_not_say_it_stays_as_it_is() {
    let world = World::new();
    let operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    drop(operator);
    let mut old = world.api.list("rolebindings", NAMESPACE).remove(0);
    let annotations = old["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("stint.dev/requested-by").unwrap();
    world.api.seed(old.clone());
    let _operator = world.operator();
    world.pass(SECOND).await;
    world.api.clear_calls();
    for _ in 0..3 {
        world.touch("a");
        world.pass(MINUTE).await;
    }
    assert_eq!(world.api.writes().len(), 0, "{:#?}", world.api.writes());
    let binding = world.api.list("rolebindings", NAMESPACE).remove(0);
    assert_eq!(binding["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_names_somebody_else_is_put_right() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let mut forged = world.api.list("rolebindings", NAMESPACE).remove(0);
    forged["metadata"]["annotations"]["stint.dev/requested-by"] = json!("mallory");
    world.api.seed(forged);
    world.touch("a");
    world.pass(SECOND).await;
    let binding = world.api.list("rolebindings", NAMESPACE).remove(0);
    assert_eq!(
        binding["metadata"]["annotations"]["stint.dev/requested-by"],
        "alice"
    );
    assert_eq!(world.reason("a"), "Active");
}
