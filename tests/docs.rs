//! The page of codes: complete, with nothing too much, and with examples that do what it says.

use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stint::api::{AccessPolicy, WorkloadAccess};
use stint::domain::binding::{self, Binding, BoundRole};
use stint::domain::catalogue::{self, Disposition, Scope};
use stint::domain::covers::Ceiling;
use stint::domain::facts::{AccountFacts, Facts, RoleFacts};
use stint::domain::grant::Grant;
use stint::domain::judge::{Verdict, judge};
use stint::domain::patterns::Patterns;
use stint::domain::policy::Policy;
use stint::domain::receipt::Requester;
use stint::domain::rules::Rule;
use stint::domain::served::{Home, Served};

/// Codes whose example is a state of the cluster or a call, not a spec that the judge refuses by itself. A test of its
/// own triggers each of them.
const NOT_BY_SPEC: [&str; 19] = [
    "OB-X03",
    "WA-CONDITION",
    "OB-B06",
    "WA-NO-NAMES",
    "WA-POLICY",
    "WA-ROLE-AGGREGATED",
    "WA-TICKET",
    "WA-ACCOUNT-MISSING",
    "WA-DECODE",
    "WA-IMMUTABLE",
    "WA-KIND",
    "WA-NO-POLICY",
    "WA-ORPHAN",
    "WA-RECEIPT",
    "WA-NAME-TAKEN",
    "WA-REQUESTER",
    "WA-ROLE-MISSING",
    "WA-SUSPENDED",
    "WA-TOO-MANY",
];

/// Checks that nothing judges yet: a ClusterRoleBinding where RoleBindings would do can be told only from what is served.
const NOT_JUDGED: [&str; 1] = ["OB-W07"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/codes.md")).unwrap()
}

/// Every file below a folder that ends in one of these.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|e| path.to_string_lossy().ends_with(e)) {
            found.push(path);
        }
    }
    found
}

/// The codes that a text names: `WA-` and words in capitals, or `OB-`, a letter and two digits.
fn codes_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["WA-", "OB-"] {
        for (at, _) in text.match_indices(prefix) {
            let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
            let code: String = text[at..].chars().take_while(|c| word(*c)).collect();
            let code = code.trim_end_matches('-');
            let whole = !text[..at].ends_with(word);
            let digits = code.bytes().filter(u8::is_ascii_digit).count();
            // `OB-E07a`, the only half of a check with a code of its own.
            let half = prefix == "OB-" && text[at + code.len()..].starts_with("a ");
            let half = half || text[at + code.len()..].starts_with("a\n");
            let code = if half {
                format!("{code}a")
            } else {
                code.to_owned()
            };
            if whole && code.len() > prefix.len() && (prefix == "WA-" || digits == 2) {
                found.insert(code);
            }
        }
    }
    found
}

/// What the product can say today: literals in the sources without their tests and comments, what the catalogue judges,
/// and the messages of the chart's admission policies.
fn emitted() -> BTreeSet<String> {
    let mut all: BTreeSet<String> = catalogue::codes()
        .iter()
        .map(|code| code.id.to_owned())
        .filter(|id| !NOT_JUDGED.contains(&id.as_str()))
        .collect();
    for file in files(&root().join("src"), &[".rs"]) {
        let source = std::fs::read_to_string(file).unwrap();
        let product = source.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = product
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"));
        all.extend(lines.flat_map(codes_in));
    }
    for file in files(&root().join("charts/stint/templates"), &[".yaml"]) {
        all.extend(codes_in(&std::fs::read_to_string(file).unwrap()));
    }
    all
}

/// The entries of the page: code and text.
fn entries() -> BTreeMap<String, String> {
    let page = page();
    let mut entries = BTreeMap::new();
    for section in page.split("\n### ").skip(1) {
        let (code, text) = section.split_once('\n').unwrap();
        let text = text.split("\n## ").next().unwrap_or_default();
        let double = entries.insert(code.to_owned(), text.to_owned());
        assert!(double.is_none(), "{code} has two entries");
    }
    entries
}

/// The YAML blocks of a text.
fn blocks(text: &str) -> Vec<Value> {
    text.split("```yaml\n")
        .skip(1)
        .map(|rest| serde_saphyr::from_str(rest.split("```").next().unwrap_or_default()).unwrap())
        .collect()
}

#[test]
fn every_code_has_an_entry_and_every_entry_a_code() {
    let documented: BTreeSet<String> = entries().into_keys().collect();
    assert_eq!(emitted(), documented);
}

#[test]
fn every_entry_shows_what_triggers_it_and_what_to_do_instead() {
    for (code, text) in entries() {
        assert!(text.contains("```"), "{code} has no example");
        assert!(text.contains("\n**Instead:** "), "{code} leaves one alone");
    }
}

#[test]
fn every_code_is_triggered_by_a_test() {
    let this = root().join(file!());
    let mut mentioned = BTreeSet::new();
    for file in files(&root().join("tests"), &[".rs", ".yaml"]) {
        if file != this {
            mentioned.extend(codes_in(&std::fs::read_to_string(file).unwrap()));
        }
    }
    let untested: Vec<String> = emitted().difference(&mentioned).cloned().collect();
    assert!(untested.is_empty(), "{untested:?}");
}

/// The request that the page changes and the policy it is judged under.
fn setting() -> (Value, Facts) {
    let page = page();
    let mut blocks = blocks(page.split("\n## ").next().unwrap_or_default()).into_iter();
    let (request, policy) = (blocks.next().unwrap(), blocks.next().unwrap());
    let policy: AccessPolicy = serde_json::from_value(policy).unwrap();
    let ceiling: Vec<Rule> = serde_json::from_value(
        json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "patch"]}]),
    )
    .unwrap();
    let mut served = Served::default();
    served.add("apps", "deployments".into(), Home::Namespace);
    served.add("", "nodes".into(), Home::Cluster);
    let facts = Facts {
        requester: Requester {
            username: "alice".into(),
            ..Requester::default()
        },
        requested_at: "2026-12-01T12:00:00Z".parse().unwrap(),
        namespace_labels: [("team".into(), "payments".into())].into(),
        privileged_namespace: false,
        account: Some(AccountFacts {
            uid: "11111111-1111-1111-1111-111111111111".into(),
            labels: [].into(),
        }),
        role: RoleFacts::NotReferenced,
        copy: None,
        policies: vec![(Arc::new(Policy::compile(&policy).unwrap()), true)],
        broken_policies: 0,
        ceiling: Some(Arc::new(Ceiling::compile(&ceiling))),
        served: Some(Arc::new(served)),
        held: vec![],
        active_others: 0,
        held_since: [].into(),
        live: None,
        ended: None,
    };
    (request, facts)
}

/// The codes of the request with the fields of an example, as the page says how to read one.
fn refused_with(request: &Value, facts: &Facts, example: &Value) -> Vec<&'static str> {
    let mut request = request.clone();
    let changes = example["spec"].as_object().unwrap();
    let spec = request["spec"].as_object_mut().unwrap();
    if changes.contains_key("reason") {
        spec.clear();
    }
    if changes.contains_key("notAfter") {
        spec.remove("duration");
    }
    spec.extend(changes.clone());
    let object: WorkloadAccess = serde_json::from_value(request).unwrap();
    let verdict = match Grant::parse(&object) {
        Ok(grant) => judge(&grant, facts, facts.requested_at),
        Err(violations) => Verdict::Refused(violations),
    };
    match verdict {
        Verdict::Refused(violations) => violations.iter().map(|v| v.code).collect(),
        _ => vec![],
    }
}

#[test]
fn the_request_of_the_page_is_granted() {
    let (request, facts) = setting();
    let unchanged = json!({"spec": {}});
    assert!(refused_with(&request, &facts, &unchanged).is_empty());
    let grant = Grant::parse(&serde_json::from_value::<WorkloadAccess>(request).unwrap()).unwrap();
    let verdict = judge(&grant, &facts, facts.requested_at);
    assert!(matches!(verdict, Verdict::Granted(_)), "{verdict:?}");
}

#[test]
fn each_example_triggers_its_code() {
    let (request, facts) = setting();
    let mut triggered = BTreeSet::new();
    for (code, text) in entries() {
        let Some(example) = blocks(&text).into_iter().next() else {
            continue;
        };
        let codes = match (example["kind"].as_str(), example.get("rules")) {
            (Some("RoleBinding" | "ClusterRoleBinding"), _) => found_in_binding(&example),
            (Some(_), _) => continue,
            (None, Some(rules)) => found_in_rules(rules),
            (None, None) => refused_with(&request, &facts, &example),
        };
        let reported = catalogue::code(&code).and_then(|check| check.reported_as);
        let hit = |c: &&str| *c == code || reported == Some(c);
        assert!(codes.iter().any(hit), "{code}: {codes:?}");
        triggered.insert(code);
    }
    let others: BTreeSet<String> = NOT_BY_SPEC.map(str::to_owned).into();
    let all: BTreeSet<String> = entries().into_keys().collect();
    assert_eq!(&all - &triggered, others);
}

/// Everything that the catalogue says of rules, wherever they would hold.
fn found_in_rules(rules: &Value) -> Vec<&'static str> {
    let rules: Vec<Rule> = serde_json::from_value(rules.clone()).unwrap();
    let patterns = Patterns::of(&rules);
    let scopes = [
        Scope::Namespace("payments"),
        Scope::PrivilegedNamespace("kube-system"),
        Scope::Cluster,
    ];
    let mut all = Vec::new();
    for scope in scopes {
        let refused = catalogue::violations(&rules, "spec.rules", true, scope);
        all.extend(refused.iter().map(|v| v.code));
        all.extend(catalogue::findings(patterns, scope).iter().map(|f| f.id));
        let joint = catalogue::combinations(patterns, Patterns::default(), scope);
        all.extend(joint.iter().map(|c| c.finding.id));
    }
    all
}

fn found_in_binding(object: &Value) -> Vec<&'static str> {
    let mut object = object.clone();
    object["roleRef"]["apiGroup"] = "rbac.authorization.k8s.io".into();
    let role_ref: RoleRef = serde_json::from_value(object["roleRef"].clone()).unwrap();
    let subjects: Vec<Subject> = serde_json::from_value(object["subjects"].clone()).unwrap();
    let binding = Binding {
        scope: match object["kind"] == "ClusterRoleBinding" {
            true => Scope::Cluster,
            false => Scope::Namespace("payments"),
        },
        subjects: &subjects,
        role_ref: &role_ref,
        role: match role_ref.name.as_str() {
            "no-such-role" => BoundRole::Missing,
            _ => BoundRole::Unknown,
        },
    };
    let found = binding::findings(&binding);
    let standing = binding::standing(&binding);
    found
        .iter()
        .chain(&standing)
        .map(|f| f.finding.id)
        .collect()
}

#[test]
fn an_entry_says_who_can_allow_it_as_the_catalogue_does() {
    let entries = entries();
    let said = |disposition| match disposition {
        Disposition::Never => "Never granted.",
        Disposition::Named => "Granted only by a policy that lists it in `allow.findings`.",
        Disposition::Allowed => "Granted, and named in the status.",
    };
    let all = [Disposition::Never, Disposition::Named, Disposition::Allowed];
    let mut checked = 0;
    for check in catalogue::codes() {
        let Some(text) = entries.get(check.id) else {
            continue;
        };
        for disposition in all {
            if text.contains(said(disposition)) {
                assert_eq!(check.disposition, disposition, "{}", check.id);
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn every_test_that_the_architecture_page_names_exists() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let named: BTreeSet<(&str, &str)> = page
        .split('`')
        .filter_map(|word| word.split_once(".rs::"))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for (file, test) in named {
        let source = std::fs::read_to_string(root().join(format!("{file}.rs"))).unwrap();
        assert!(source.contains(&format!("fn {test}(")), "{file}: {test}");
    }
}
