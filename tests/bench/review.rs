//! `make bench`: instructions of one review, from the bytes of the AdmissionReview to the bytes of the answer, without the
//! calls to the API server. Counted by callgrind, so the figures are the same on a busy machine.
//!
//! Each case runs in a process of its own, once with one round and once with many; the difference is what the rounds cost.

use hyper::body::Bytes;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use serde_json::{Value, json};
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use stint::api::WorkloadAccess;
use stint::cluster::standing::Standing;
use stint::domain::catalogue::{self, Scope};
use stint::domain::facts::Facts;
use stint::domain::grant::{Account, Grant, spec_hash};
use stint::domain::judge::{Verdict, judge};
use stint::domain::patterns::Patterns;
use stint::domain::policy::Policy;
use stint::domain::receipt::{Claims, KEY_LENGTH, Keys, Requester};
use stint::domain::request::Place;
use stint::domain::rules::Rule;
use stint::webhook::review;
use support::case::{compiled, facts, now, policy, request, with};
use support::naive_catalogue;
use support::naive_covers;

/// Rounds that are counted.
const ROUNDS: u64 = 200;
/// What runs in the child.
const CASE: &str = "STINT_BENCH_CASE";
const COUNT: &str = "STINT_BENCH_ROUNDS";

const CASES: [(&str, &str); 11] = [
    ("1", "review, 1 policy"),
    ("10", "review, 10 policies, one of them for the namespace"),
    ("50", "review, 50 policies, one of them for the namespace"),
    (
        "all-50",
        "review, 50 policies for the namespace, the last admits",
    ),
    ("parse", "of it, reading the review alone"),
    (
        "verdict",
        "of it, parsing the request, judging it, rendering the answer",
    ),
    ("receipt", "of it, checking the receipt"),
    ("compiled", "coverage and catalogue, compiled"),
    ("naive", "coverage and catalogue, naive"),
    (
        "held",
        "what an account with 10,000 bindings holds, one answer",
    ),
    ("worst", "review, 1 MB of rules, refused"),
];

/// Bindings of one account, each of a role of its own.
const BINDINGS: usize = 10_000;

fn main() {
    match std::env::var(CASE) {
        Ok(case) => run(&case, std::env::var(COUNT).unwrap().parse().unwrap()),
        Err(_) => report(),
    }
}

fn report() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("bench: valgrind is missing; install it from your distribution");
        std::process::exit(1);
    }
    let mut one = None;
    for (case, what) in CASES {
        let rounds = if matches!(case, "worst" | "naive" | "held") {
            10
        } else {
            ROUNDS
        };
        let instructions = (counted(case, rounds + 1) - counted(case, 1)) / rounds;
        let floor = *one.get_or_insert(instructions);
        let ratio = instructions as f64 / floor as f64;
        println!("{what:<56} {instructions:>12} instructions {ratio:>8.2} x the first");
    }
    println!("{:<56} {:>12} bytes", "size of the review", body(1).len());
    let before = resident();
    let index = black_box(standing());
    let grown = resident().saturating_sub(before);
    println!(
        "{:<56} {grown:>12} KiB",
        "index of 10,000 roles and bindings"
    );
    drop(index);
    let mut setting = Setting::new("worst");
    let began = Instant::now();
    const TIMES: u32 = 20;
    for _ in 0..TIMES {
        black_box(setting.once());
    }
    let mean = began.elapsed() / TIMES;
    let began = Instant::now();
    for _ in 0..TIMES {
        black_box(review::parse(&setting.body).is_ok());
    }
    let floor = began.elapsed() / TIMES;
    println!(
        "{:<56} {mean:>12.2?}; reading it alone {floor:.2?}",
        "1 MB of rules, refused, by the clock"
    );
}

/// Instructions of a child process under callgrind.
fn counted(case: &str, rounds: u64) -> u64 {
    let this = std::env::current_exe().unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .env(CASE, case)
        .env(COUNT, rounds.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = text
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    collected
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or_else(|| panic!("callgrind counted nothing: {text}"))
}

fn run(case: &str, rounds: u64) {
    let mut setting = Setting::new(case);
    for _ in 0..rounds {
        black_box(setting.once());
    }
}

/// Everything that is there before a review arrives.
struct Setting {
    case: String,
    keys: Keys,
    body: Bytes,
    object: WorkloadAccess,
    facts: Facts,
    policies: Vec<Arc<Policy>>,
    rules: Vec<Rule>,
    ceiling: Vec<Rule>,
    naive: naive_catalogue::Catalogue,
    standing: Standing,
}

impl Setting {
    fn new(case: &str) -> Self {
        let number = case.trim_start_matches("all-").parse().unwrap_or(1);
        let everywhere = case.starts_with("all-");
        let rules = rules(1);
        Self {
            case: case.to_owned(),
            keys: keys(),
            object: review::parse(&body(1)).unwrap().object.read().unwrap(),
            body: body(if case == "worst" { 6000 } else { 1 }),
            facts: Facts {
                policies: vec![],
                ..facts()
            },
            policies: (0..number).map(|i| nth(i, number, everywhere)).collect(),
            ceiling: parsed(&policy()["spec"]["allow"]["rules"]),
            rules: parsed(&rules),
            naive: naive_catalogue::catalogue(),
            standing: match case {
                "held" => standing(),
                _ => Standing::default(),
            },
        }
    }

    fn once(&mut self) -> usize {
        match self.case.as_str() {
            "verdict" => self.verdict(),
            "receipt" => usize::from(self.keys.verify_object(&self.object).is_ok()),
            "parse" => usize::from(review::parse(&self.body).is_ok()),
            "compiled" => self.compiled(),
            "naive" => self.naive(),
            "held" => {
                let account = self.facts_account();
                let place = Place::Namespace("payments".into());
                self.standing.held(&account, &place, "").len()
            }
            _ => self.review().len(),
        }
    }

    /// What the webhook does between the two calls to the API server.
    fn review(&mut self) -> Bytes {
        let review = review::parse(&self.body).unwrap();
        let oversized = Grant::oversized(review.object.text());
        if !oversized.is_empty() {
            return review::deny(&review.uid, "stint.dev", "WorkloadAccess", "x", &oversized);
        }
        let object: WorkloadAccess = review.object.read().unwrap();
        let grant = match Grant::parse(&object) {
            Ok(grant) => grant,
            Err(wrong) => {
                return review::deny(&review.uid, "stint.dev", "WorkloadAccess", "x", &wrong);
            }
        };
        self.keys.verify_object(&object).unwrap();
        self.answer(&review.uid, &grant)
    }

    fn verdict(&mut self) -> usize {
        let grant = Grant::parse(&self.object).unwrap();
        self.answer("705ab4f5-6393-11e8-b7cc-42010a800002", &grant)
            .len()
    }

    fn answer(&mut self, uid: &str, grant: &Grant) -> Bytes {
        let labels = &self.facts.namespace_labels;
        let selecting = self.policies.iter().filter(|p| p.selects_namespace(labels));
        self.facts.policies = selecting.map(|p| (Arc::clone(p), true)).collect();
        match judge(grant, &self.facts, now()) {
            Verdict::Granted(_) => review::allow(uid, &[]),
            Verdict::Refused(wrong) => {
                assert_eq!(self.case, "worst", "{wrong:?}");
                review::deny(uid, "stint.dev", "WorkloadAccess", "x", &wrong)
            }
            other => panic!("{other:?}"),
        }
    }

    fn compiled(&self) -> usize {
        let found = catalogue::findings(Patterns::of(&self.rules), Scope::Namespace("payments"));
        let ceiling = self.facts.ceiling.as_ref().unwrap();
        found.len() + ceiling.uncovered(&self.rules).len()
    }

    fn facts_account(&self) -> Account {
        Grant::parse(&self.object).unwrap().account().clone()
    }

    fn naive(&self) -> usize {
        let found = self
            .naive
            .findings(&self.rules, Scope::Namespace("payments"));
        found.len() + naive_covers::uncovered(&self.ceiling, &self.rules).len()
    }
}

/// The index of an account with many bindings; every fourth role has a right that the catalogue knows.
fn standing() -> Standing {
    let mut standing = Standing::default();
    for i in 0..BINDINGS {
        let resource = ["secrets", "configmaps", "configmaps", "configmaps"][i % 4];
        let role: ClusterRole =
            serde_json::from_value(json!({"metadata": {"name": format!("role-{i}")},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]}))
            .unwrap();
        standing.role(&role, role.rules.as_deref());
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": format!("binding-{i}"), "namespace": "payments"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("role-{i}")},
            "subjects": [{"kind": "ServiceAccount", "name": "migrator"}]}))
        .unwrap();
        standing.binding(&binding, &binding.role_ref, binding.subjects.as_deref());
    }
    standing
}

/// Resident memory of this process in KiB (`proc_pid_status(5)`).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn parsed(rules: &Value) -> Vec<Rule> {
    serde_json::from_value(rules.clone()).unwrap()
}

fn keys() -> Keys {
    Keys::new(&[7; KEY_LENGTH], None).unwrap()
}

/// The usual rules, so many times; they are fine until they are too many.
fn rules(times: usize) -> Value {
    let names = |i: usize| format!("billing-api-{i:03}");
    let rule = |i| {
        json!({"apiGroups": ["apps"], "resources": ["deployments"],
               "resourceNames": [names(3 * i), names(3 * i + 1), names(3 * i + 2)], "verbs": ["get", "patch"]})
    };
    (0..times * 3).map(rule).collect()
}

/// A review of about 2 KB, as an API server sends it.
fn body(times: usize) -> Bytes {
    let mut object = with(request(), "/spec/rules", rules(times));
    let typed: WorkloadAccess = serde_json::from_value(object.clone()).unwrap();
    let claims = Claims {
        namespace: "payments".into(),
        name: Some("migrate-42".into()),
        generate_name: None,
        spec_hash: spec_hash(&typed.spec),
        requester: Requester {
            username: "alice".into(),
            uid: "42".into(),
            groups: vec!["payments-devs".into(), "system:authenticated".into()],
        },
        at: now(),
        extended: None,
    };
    object["metadata"]["annotations"] = json!({"stint.dev/receipt": keys().sign(&claims)});
    let kind = json!({"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"});
    let resource =
        json!({"group": "stint.dev", "version": "v1alpha1", "resource": "workloadaccesses"});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "resource": resource,
        "requestKind": kind, "requestResource": resource, "name": "migrate-42", "namespace": "payments",
        "operation": "CREATE", "dryRun": false, "oldObject": null, "object": object,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl-create"},
        "userInfo": {"username": "alice", "uid": "42", "groups": ["payments-devs", "system:authenticated"]}
    }});
    Bytes::from(review.to_string())
}

/// One of `number` policies; only the last is for the request, the others are for another team or another account.
fn nth(i: usize, number: usize, everywhere: bool) -> Arc<Policy> {
    let mut object = policy();
    object["metadata"]["name"] = format!("policy-{i}").into();
    if i + 1 < number {
        let (pointer, other) = match everywhere {
            true => ("/spec/serviceAccounts/names", json!(["another"])),
            false => (
                "/spec/namespaceSelector/matchLabels/team",
                json!(format!("team-{i}")),
            ),
        };
        object = with(object, pointer, other);
    }
    compiled(object)
}
