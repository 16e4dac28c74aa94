//! The table of `docs/lifecycle.md`, line by line, in virtual time: each is played, and every cell is compared.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::decision;
use support::edit::edit;
use support::health::{argo_cd, kstatus};
use support::project;
use support::wide;
use support::world::{NAMESPACE, Operator, World};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// A cell that says: not there.
const NONE: &str = "–";

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap()
}

type Row = BTreeMap<String, String>;

/// The lines of the table below a heading, by their id.
fn table(heading: &str) -> BTreeMap<String, Row> {
    let page = read("docs/lifecycle.md");
    let below = page.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let mut lines = below.lines().skip_while(|l| !l.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let inside = line.trim().trim_matches('|');
        inside.split('|').map(|c| c.trim().to_owned()).collect()
    };
    let names = cells(lines.next().unwrap());
    let rows = lines.skip(1).take_while(|l| l.starts_with('|'));
    rows.map(|line| {
        let row: Row = names.iter().cloned().zip(cells(line)).collect();
        assert_eq!(row.len(), names.len(), "{line}");
        (row["Line"].trim_matches('`').to_owned(), row)
    })
    .collect()
}

/// A request on its way: its world, and how far it has come.
struct Story {
    world: World,
    operator: Option<Operator>,
    resource: &'static str,
    namespace: &'static str,
    from: String,
    events: usize,
}

impl Story {
    fn in_world(world: World) -> Self {
        Self {
            operator: None,
            resource: "workloadaccesses",
            namespace: NAMESPACE,
            from: NONE.into(),
            events: 0,
            world,
        }
    }

    fn new() -> Self {
        Self::in_world(World::new())
    }

    fn wide() -> Self {
        Self {
            resource: "clusterworkloadaccesses",
            namespace: "",
            ..Self::in_world(wide::world())
        }
    }

    fn start(&mut self) {
        self.operator = Some(self.world.operator());
    }

    async fn pass(&self, length: SignedDuration) {
        self.world.pass(length).await;
    }

    /// From here the transition counts.
    async fn stands(&mut self) {
        self.pass(SECOND * 2).await;
        self.from = self.object().map_or(NONE.into(), |o| ready(&o).1);
        self.events = self.told().len();
    }

    async fn active(&mut self) {
        self.start();
        self.world.admit("a", json!({"duration": "1h"}));
        self.stands().await;
    }

    async fn scheduled(&mut self) {
        self.start();
        self.world.admit(
            "a",
            json!({"notBefore": "2026-12-01T12:05:00Z", "notAfter": "2026-12-01T12:15:00Z"}),
        );
        self.stands().await;
    }

    fn object(&self) -> Option<Value> {
        self.world.api.get(self.resource, self.namespace, "a")
    }

    /// Reasons of the Events about the request.
    fn told(&self) -> Vec<String> {
        let mut events = self.world.api.list("events", "");
        events
            .retain(|e| e["regarding"]["name"] == "a" && e["regarding"]["kind"] != "AccessPolicy");
        events.sort_by_key(|e| {
            e["metadata"]["resourceVersion"]
                .as_str()
                .and_then(|v| v.parse::<u64>().ok())
        });
        let reason = |e: &Value| e["reason"].as_str().unwrap().to_owned();
        events.iter().map(reason).collect()
    }

    fn set_revoked(&self) {
        let mut object = self.object().unwrap();
        object["spec"]["revoked"] = json!(true);
        let generation = object["metadata"]["generation"].as_i64().unwrap();
        object["metadata"]["generation"] = json!(generation + 1);
        self.world.api.seed(object);
    }

    fn change_policy(&self, path: &str, to: Value) {
        let mut policy = self.world.api.get("accesspolicies", "", "jobs").unwrap();
        *policy.pointer_mut(path).unwrap() = to;
        let generation = policy["metadata"]["generation"].as_i64().unwrap_or(1);
        policy["metadata"]["generation"] = json!(generation + 1);
        self.world.api.seed(policy);
    }

    fn allow(&self, resource: &str) {
        self.change_policy("/spec/allow/rules/0/resources", json!([resource]));
    }

    fn remove_made(&self, resource: &str) -> Value {
        let object = self.world.api.list(resource, NAMESPACE).remove(0);
        let name = object["metadata"]["name"].as_str().unwrap();
        self.world.api.remove(resource, NAMESPACE, name);
        object
    }
}

/// A quota that is full until the returned switch is set.
fn full_quota(world: &World) -> std::sync::Arc<std::sync::atomic::AtomicBool> {
    let room = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = room.clone();
    world.api.on_admission(move |verb, object| {
        let full = !seen.load(std::sync::atomic::Ordering::SeqCst);
        if full && verb == "create" && object["kind"] == "Job" {
            return Err((403, "exceeded quota".into()));
        }
        Ok(())
    });
    room
}

/// Plays a line of the table.
async fn play(line: &str) -> Story {
    let mut story = Story::new();
    match line {
        "unseen" => story.world.admit("a", json!({"duration": "1h"})),
        "scheduled" => {
            story.scheduled().await;
            (story.from, story.events) = (NONE.into(), 0);
        }
        "activated" => {
            story.active().await;
            (story.from, story.events) = (NONE.into(), 0);
        }
        "refused" => {
            story.start();
            story.world.admit("a", json!({"duration": "48h"}));
        }
        "no-receipt" => {
            story.start();
            story.world.admit("a", json!({"duration": "1h"}));
            let mut object = story.object().unwrap();
            object["metadata"]["annotations"] = json!({});
            story.world.api.seed(object);
        }
        "window-over" => {
            story
                .world
                .admit("a", json!({"notAfter": "2026-12-01T12:05:00Z"}));
            story.pass(MINUTE * 6).await;
            story.start();
        }
        "activating" | "activating-activated" | "activating-expired" => {
            activating(&mut story, line).await;
        }
        "wide-activated" | "wide-expired" => story = of_the_whole_cluster(line).await,
        "not-ready" | "not-ready-activated" | "not-ready-expired" => {
            not_ready(&mut story, line).await
        }
        "apply-refused" | "apply-refused-activated" | "apply-refused-expired" => {
            apply_refused(&mut story, line).await;
        }
        "refused-activated" | "refused-expired" => {
            story.allow("secrets");
            story.start();
            story.world.admit("a", json!({"duration": "1h"}));
            story.stands().await;
            match line {
                "refused-activated" => story.allow("configmaps"),
                _ => story.pass(MINUTE * 11).await,
            }
        }
        "completed" | "workload-gone" => with_its_work(&mut story, line).await,
        "pending-approval" | "approved" | "denied" | "approval-late" => {
            of_an_approval(&mut story, line).await;
        }
        "extended" | "shortened" | "extension-refused" | "extension-pending"
        | "extension-approved" => of_a_moved_end(&mut story, line).await,
        "emergency" | "emergency-reviewed" => of_an_emergency(&mut story, line).await,
        _ if line.starts_with("scheduled-") => of_a_schedule(&mut story, line).await,
        _ => of_a_live_grant(&mut story, line).await,
    }
    story.pass(SECOND * 2).await;
    story
}

async fn activating(story: &mut Story, line: &str) {
    story.start();
    story.pass(SECOND).await;
    let cut = story.world.api.cut_after_write(1);
    story.world.admit("a", json!({"duration": "2m"}));
    cut.notified().await;
    story.operator = None;
    if line == "activating" {
        return;
    }
    story.stands().await;
    if line == "activating-expired" {
        story.pass(MINUTE * 3).await;
    }
    story.start();
}

async fn of_the_whole_cluster(line: &str) -> Story {
    let mut story = Story::wide();
    story.start();
    wide::admit(&story.world, "a", json!({"duration": "10m"}));
    if line == "wide-expired" {
        story.stands().await;
        story.pass(MINUTE * 11).await;
    }
    story
}

async fn not_ready(story: &mut Story, line: &str) {
    let ceiling = story
        .world
        .api
        .remove("clusterroles", "", "stint-grantable")
        .unwrap();
    story.start();
    story.world.admit("a", json!({"duration": "1h"}));
    if line == "not-ready" {
        return;
    }
    story.stands().await;
    match line {
        "not-ready-activated" => drop(story.world.api.seed(ceiling)),
        _ => story.pass(MINUTE * 11).await,
    }
}

async fn apply_refused(story: &mut Story, line: &str) {
    let room = full_quota(&story.world);
    story.start();
    story.world.admit("a", json!({"duration": "1h"}));
    if line == "apply-refused" {
        return;
    }
    story.stands().await;
    if line == "apply-refused-activated" {
        room.store(true, std::sync::atomic::Ordering::SeqCst);
        story.pass(MINUTE).await;
    } else {
        story.pass(MINUTE * 11).await;
    }
}

async fn of_a_schedule(story: &mut Story, line: &str) {
    story.scheduled().await;
    match line {
        "scheduled-activated" => story.pass(MINUTE * 6).await,
        "scheduled-refused" => story.allow("secrets"),
        "scheduled-missed" => {
            story.operator = None;
            story.pass(MINUTE * 20).await;
            story.start();
        }
        "scheduled-revoked" => story.set_revoked(),
        other => panic!("nobody plays '{other}'"),
    }
}

async fn with_its_work(story: &mut Story, line: &str) {
    let (api_version, kind, resource) = match line {
        "completed" => ("batch/v1", "Job", "jobs"),
        _ => ("v1", "Pod", "pods"),
    };
    let pod =
        json!({"serviceAccountName": "migrator", "containers": [{"name": "c", "image": "work:1"}]});
    let work = story.world.api.seed(json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": "work", "namespace": NAMESPACE},
        "spec": match line {
            "completed" => json!({"suspend": true, "template": {"spec": pod}}),
            _ => pod,
        }
    }));
    let window = match line {
        "completed" => {
            json!({"duration": "1h", "until": {"apiVersion": api_version, "kind": kind, "name": "work"}})
        }
        _ => {
            json!({"duration": "1h", "workloadRef": {"kind": kind, "name": "work", "uid": work["metadata"]["uid"]}})
        }
    };
    story.start();
    story.world.admit("a", window);
    story.stands().await;
    match line {
        "completed" => {
            let mut done = story.world.api.get(resource, NAMESPACE, "work").unwrap();
            done["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
            story.world.api.seed(done);
        }
        _ => drop(story.world.api.remove(resource, NAMESPACE, "work")),
    }
}

async fn of_an_approval(story: &mut Story, line: &str) {
    decision::approvers(&story.world, &["bob"]);
    let asks = json!({"approval": {"required": 1, "timeout": "30m"}});
    decision::change_policy(&story.world, "jobs", asks);
    story.start();
    story.world.admit("a", json!({"duration": "1h"}));
    if line == "pending-approval" {
        return;
    }
    story.stands().await;
    match line {
        "approved" => decision::decide(&story.world, "one", "a", "Approve", "bob"),
        "denied" => decision::decide(&story.world, "one", "a", "Deny", "bob"),
        _ => story.pass(MINUTE * 31).await,
    }
}

async fn of_an_emergency(story: &mut Story, line: &str) {
    decision::approvers(&story.world, &["bob"]);
    let asks = json!({"breakGlass": {"maxDuration": "1h"}});
    decision::change_policy(&story.world, "jobs", asks);
    story.start();
    story.world.admit(
        "a",
        json!({"duration": "30m", "urgency": "BreakGlass", "ticket": "INC-1"}),
    );
    if line == "emergency" {
        return;
    }
    story.stands().await;
    decision::decide(&story.world, "one", "a", "Review", "bob");
}

async fn of_a_moved_end(story: &mut Story, line: &str) {
    decision::approvers(&story.world, &["bob"]);
    let approved = matches!(line, "extension-pending" | "extension-approved");
    if approved {
        let asks = json!({"approval": {"required": 1}});
        decision::change_policy(&story.world, "jobs", asks);
        story.world.admit("a", json!({"duration": "1h"}));
        decision::decide(&story.world, "one", "a", "Approve", "bob");
        story.start();
        story.stands().await;
    } else {
        story.active().await;
    }
    let end = match line {
        "shortened" => json!({"duration": "30m"}),
        _ => json!({"duration": "2h"}),
    };
    let operator = story.operator.as_ref().unwrap();
    let moved = edit(&story.world, operator, "a", end, "alice").await;
    moved.unwrap();
    match line {
        "extension-refused" => {
            let limits = json!({"limits": {"maxDuration": "1h"}});
            decision::change_policy(&story.world, "jobs", limits);
        }
        "extension-approved" => {
            story.stands().await;
            decision::decide(&story.world, "two", "a", "Approve", "bob");
        }
        _ => {}
    }
}

async fn of_a_live_grant(story: &mut Story, line: &str) {
    if line == "source-changed" {
        return source_changed(story).await;
    }
    story.active().await;
    match line {
        "expiring" => story.pass(MINUTE * 55).await,
        "expired" => story.pass(MINUTE * 61).await,
        "expired-while-down" => {
            story.operator = None;
            story.pass(MINUTE * 61).await;
            story.start();
        }
        "revoked" => story.set_revoked(),
        "change-unseen" => {
            story.operator = None;
            story.set_revoked();
        }
        "changed-repaired" | "changed-ended" => {
            if line == "changed-ended" {
                decision::change_policy(&story.world, "jobs", json!({"onDrift": "Revoke"}));
                story.stands().await;
            }
            let mut binding = story.world.api.list("rolebindings", NAMESPACE).remove(0);
            let mallory =
                json!({"kind": "ServiceAccount", "name": "mallory", "namespace": NAMESPACE});
            let subjects = binding["subjects"].as_array_mut().unwrap();
            subjects.push(mallory);
            story.world.api.seed(binding);
        }
        "binding-deleted" => drop(story.remove_made("rolebindings")),
        "deadline-deleted" => drop(story.remove_made("jobs")),
        "receipt-removed" => {
            let mut object = story.object().unwrap();
            object["metadata"]["annotations"] = json!({});
            story.world.api.seed(object);
        }
        "name-taken" => {
            let mut role = story.remove_made("roles");
            role["metadata"]["labels"] = json!({});
            role["metadata"]["ownerReferences"] = json!([]);
            story.world.api.seed(role);
            story.world.touch("a");
        }
        "account-deleted" => drop(
            story
                .world
                .api
                .remove("serviceaccounts", NAMESPACE, "migrator"),
        ),
        "account-recreated" => {
            story
                .world
                .api
                .remove("serviceaccounts", NAMESPACE, "migrator");
            story
                .world
                .api
                .service_account(NAMESPACE, "migrator", json!({}));
        }
        "policy-narrowed" => story.allow("secrets"),
        "policy-deleted" => drop(story.world.api.remove("accesspolicies", "", "jobs")),
        "policy-suspended" => {
            let mut policy = story.world.api.get("accesspolicies", "", "jobs").unwrap();
            policy["spec"]["suspended"] = json!(true);
            policy["metadata"]["generation"] = json!(2);
            story.world.api.seed(policy);
        }
        "deleted" => drop(story.world.api.remove("workloadaccesses", NAMESPACE, "a")),
        "over-for-good" => {
            story.remove_made("rolebindings");
            story.stands().await;
            story.operator = None;
            story.pass(MINUTE).await;
            story.start();
            story.allow("secrets");
            story.pass(MINUTE).await;
            story.allow("configmaps");
            story.world.touch("a");
        }
        other => panic!("nobody plays '{other}'"),
    }
}

async fn source_changed(story: &mut Story) {
    let role = |verb: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "reader", "namespace": NAMESPACE},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": [verb]}]})
    };
    story.world.api.seed(role("get"));
    story.start();
    let copied = json!({"kind": "Role", "name": "reader"});
    story.world.admit(
        "a",
        json!({"duration": "1h", "rules": null, "roleRef": copied}),
    );
    story.stands().await;
    story.world.api.seed(role("list"));
}

/// Status and reason of `Ready`.
fn ready(object: &Value) -> (String, String) {
    let ready = condition(object, "Ready");
    let text = |field: &str| {
        ready
            .as_ref()
            .map_or(NONE.into(), |c| c[field].as_str().unwrap().to_owned())
    };
    (text("status"), text("reason"))
}

fn condition(object: &Value, of: &str) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == of).cloned()
}

/// What the cells of a line would say of the object.
fn cells(object: Option<&Value>) -> BTreeMap<&'static str, String> {
    let empty = Value::Null;
    let of = object.unwrap_or(&empty);
    let (status, reason) = ready(of);
    let state = |kind| {
        condition(of, kind).map_or(NONE.to_owned(), |c| {
            c["status"].as_str().unwrap().to_owned()
        })
    };
    let told = |kind: &&str| match *kind {
        // It stays, to say who reviewed it.
        "ReviewRequired" => condition(of, kind).is_some_and(|c| c["status"] == "True"),
        kind => condition(of, kind).is_some(),
    };
    let known = [
        "Reconciling",
        "Stalled",
        "Backstop",
        "ReviewRequired",
        "ExpiringSoon",
        "Extended",
    ];
    let more = known.into_iter().filter(told);
    let more: Vec<&str> = more.collect();
    let word = |text: String| {
        if text.is_empty() {
            NONE.to_owned()
        } else {
            text
        }
    };
    BTreeMap::from([
        (
            "Ready",
            if reason == NONE {
                NONE.into()
            } else {
                format!("{status}/{reason}")
            },
        ),
        ("Accepted", state("Accepted")),
        ("Active", state("Active")),
        ("More", word(more.join(", "))),
        (
            "End reason",
            word(
                of["status"]["endReason"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            ),
        ),
        ("kstatus", kstatus(object).to_owned()),
        ("Argo CD", object.map_or(NONE.to_owned(), |o| argo_cd(o).0)),
    ])
}

#[rstest]
#[case("unseen")]
#[case("scheduled")]
#[case("not-ready")]
#[case("refused")]
#[case("no-receipt")]
#[case("apply-refused")]
#[case("activating")]
#[case("activated")]
#[case("wide-activated")]
#[case("window-over")]
#[case("scheduled-activated")]
#[case("scheduled-refused")]
#[case("scheduled-missed")]
#[case("scheduled-revoked")]
#[case("activating-activated")]
#[case("activating-expired")]
#[case("not-ready-activated")]
#[case("not-ready-expired")]
#[case("refused-activated")]
#[case("refused-expired")]
#[case("apply-refused-activated")]
#[case("apply-refused-expired")]
#[case("expiring")]
#[case("extended")]
#[case("shortened")]
#[case("extension-refused")]
#[case("extension-pending")]
#[case("extension-approved")]
#[case("expired")]
#[case("expired-while-down")]
#[case("wide-expired")]
#[case("revoked")]
#[case("change-unseen")]
#[case("binding-deleted")]
#[case("deadline-deleted")]
#[case("receipt-removed")]
#[case("name-taken")]
#[case("account-deleted")]
#[case("account-recreated")]
#[case("policy-narrowed")]
#[case("policy-deleted")]
#[case("policy-suspended")]
#[case("source-changed")]
#[case("deleted")]
#[case("changed-repaired")]
#[case("changed-ended")]
#[case("completed")]
#[case("workload-gone")]
#[case("pending-approval")]
#[case("approved")]
#[case("denied")]
#[case("approval-late")]
#[case("emergency")]
#[case("emergency-reviewed")]
#[case("over-for-good")]
#[tokio::test(start_paused = true)]
async fn a_request(#[case] line: &str) {
    let row = table("Requests").remove(line).expect("a line of the page");
    let story = play(line).await;
    let object = story.object();
    let mut found = cells(object.as_ref());
    found.insert("From", story.from.clone());
    let told = story
        .told()
        .into_iter()
        .skip(story.events)
        .collect::<Vec<_>>();
    found.insert(
        "Event",
        if told.is_empty() {
            NONE.into()
        } else {
            told.join(", ")
        },
    );
    let expected: BTreeMap<&str, String> = found
        .keys()
        .map(|column| (*column, row[*column].clone()))
        .collect();
    assert_eq!(found, expected, "{object:#?}");
    access_is_what_active_says(&story, &row);
}

/// The binding stands exactly while the line says `Active`.
fn access_is_what_active_says(story: &Story, row: &Row) {
    let made = ["rolebindings", "clusterrolebindings"];
    let made = made
        .into_iter()
        .flat_map(|kind| story.world.api.list(kind, ""));
    let bound = made
        .filter(|b| b["metadata"]["labels"]["stint.dev/grant"].is_string())
        .count();
    assert_eq!(bound > 0, row["Active"] == "True");
}

/// The lines that `#[case(…)]` names above the function.
fn cases(function: &str) -> BTreeSet<String> {
    let source = read("tests/transitions.rs");
    let above = source
        .split(&format!("\nasync fn {function}("))
        .next()
        .unwrap();
    let block = above.rsplit("#[rstest]").next().unwrap();
    let named = block.split("#[case(\"").skip(1);
    named
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_page_and_this_file_have_the_same_lines() {
    let lines = |heading| table(heading).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(lines("Requests"), cases("a_request"));
    assert_eq!(lines("Policies"), cases("a_policy"));
}

#[test]
fn every_end_and_every_reason_there_is_has_a_line() {
    let words: BTreeSet<String> = table("Requests")
        .into_values()
        .flat_map(|row| {
            [
                row["End reason"].clone(),
                row["Ready"].split('/').next_back().unwrap().to_owned(),
            ]
        })
        .collect();
    let crd = read("crds/stint.dev.yaml");
    let ends = crd
        .split("endReason:")
        .nth(1)
        .unwrap()
        .split("enum:")
        .nth(1)
        .unwrap();
    let ends = ends
        .lines()
        .skip(1)
        .map_while(|l| l.trim().strip_prefix("- "));
    let ends: Vec<&str> = ends.collect();
    assert!(ends.contains(&"Expired"), "{ends:?}");
    // The request is gone by then, and with it its status.
    let unsaid: Vec<&&str> = ends
        .iter()
        .filter(|end| !words.contains(**end) && **end != "Deleted")
        .collect();
    assert!(unsaid.is_empty(), "{unsaid:?}");
}

#[rstest]
#[case("usable")]
#[case("invalid")]
#[case("suspended")]
#[tokio::test(start_paused = true)]
async fn a_policy(#[case] line: &str) {
    let row = table("Policies").remove(line).expect("a line of the page");
    let mut story = Story::new();
    story.change_policy("/metadata", json!({"name": "jobs", "generation": 1}));
    if line == "invalid" {
        story.change_policy(
            "/spec/limits",
            json!({"maxDuration": "1h", "requireTicket": "("}),
        );
    }
    story.start();
    story.pass(SECOND * 2).await;
    let policy = || story.world.api.get("accesspolicies", "", "jobs").unwrap();
    let mut from = NONE.to_owned();
    if line == "suspended" {
        from = ready(&policy()).1;
        story.change_policy("/spec/namespaceSelector", json!({}));
        let mut suspended = policy();
        suspended["spec"]["suspended"] = json!(true);
        story.world.api.seed(suspended);
        story.pass(SECOND * 2).await;
    }
    let mut found = cells(Some(&policy()));
    found.retain(|column, _| row.contains_key(*column));
    found.insert("From", from);
    let expected: BTreeMap<&str, String> = found
        .keys()
        .map(|column| (*column, row[*column].clone()))
        .collect();
    assert_eq!(found, expected, "{:#?}", policy());
}

#[test]
fn the_script_tells_what_stint_told() {
    let object = json!({"kind": "WorkloadAccess", "metadata": {"generation": 1}, "status": {
        "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "False", "reason": "Refused", "message": "why"},
                       {"type": "Stalled", "status": "True", "reason": "Refused", "message": "why"}]}});
    assert_eq!(argo_cd(&object), ("Degraded".into(), "why".into()));
}
