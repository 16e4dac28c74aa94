//! The catalogue of over-broad rules, by example.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::LazyLock;
use stint::domain::catalogue::{
    self, Disposition, MAX_ITEMS, Scope, Severity, codes, combinations, explain, findings,
    violations,
};
use stint::domain::facts::{Role, RoleFacts};
use stint::domain::judge::Verdict;
use stint::domain::patterns::Patterns;
use stint::domain::rules::Rule;
use stint::domain::violation::Violation;
use support::case::{compiled, decide, facts, now, policy, request};

/// Checks that no WorkloadAccess can trigger, and why. The other checks have examples.
const NOT_ASKED: [(&str, &str); 8] = [
    (
        "OB-W07",
        "a WorkloadAccess is never bound in the whole cluster",
    ),
    ("OB-B01", "the subject of a grant is one ServiceAccount"),
    ("OB-B02", "the subject of a grant is one ServiceAccount"),
    ("OB-B03", "the subject of a grant is one ServiceAccount"),
    ("OB-B04", "the subject of a grant is one ServiceAccount"),
    (
        "OB-B07",
        "a role is judged by its rules, whatever its name; `tests/default_roles.rs`",
    ),
    (
        "OB-B10",
        "the rules of an aggregated role are copied, so that it cannot grow; `tests/policies.rs`",
    ),
    (
        "OB-B11",
        "the subject of a grant is one ServiceAccount, written as such",
    ),
];

/// What takes effect through a ClusterRoleBinding alone, although the catalogue gives it a severity elsewhere too: URLs,
/// and a combination with nodes.
const ONLY_IN_THE_CLUSTER: [&str; 2] = ["OB-W06", "OB-C03"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    code: String,
    scope: Vec<Where>,
    triggers: Vec<Example>,
    near: Vec<Example>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Where {
    Namespace,
    PrivilegedNamespace,
    Cluster,
}

/// Rules, or a request. The head of the file says what each field means.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Example {
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    held: Vec<Rule>,
    request: Option<Value>,
    policy: Option<Value>,
    role: Option<Vec<Rule>>,
    held_for: Option<String>,
    scope: Option<Vec<Where>>,
    namespace: Option<String>,
    repeat: Option<usize>,
    says: Option<String>,
}

/// What the catalogue has to say about an example: ids, and for those that stand in the rules the lines that are told.
#[derive(Default, Debug)]
struct Told {
    ids: BTreeSet<String>,
    lines: Vec<(String, String)>,
}

impl Told {
    fn lines_of(&self, code: &str) -> Vec<&str> {
        let of_code = self.lines.iter().filter(|(id, _)| id == code);
        of_code.map(|(_, line)| line.as_str()).collect()
    }
}

impl Example {
    fn scopes(&self, of_check: &[Where]) -> Vec<Scope<'_>> {
        let named = |other| self.namespace.as_deref().unwrap_or(other);
        let scopes = self.scope.as_deref().unwrap_or(of_check);
        let scope = |place: &Where| match place {
            Where::Namespace => Scope::Namespace(named("payments")),
            Where::PrivilegedNamespace => Scope::PrivilegedNamespace(named("kube-system")),
            Where::Cluster => Scope::Cluster,
        };
        scopes.iter().map(scope).collect()
    }

    fn told(&self, scope: Scope<'_>) -> Told {
        match &self.request {
            Some(patch) => self.judged(patch),
            None => self.found(scope),
        }
    }

    fn found(&self, scope: Scope<'_>) -> Told {
        let rules = vec![self.rules.clone(); self.repeat.unwrap_or(1)].concat();
        let (asked, held) = (Patterns::of(&rules), Patterns::of(&self.held));
        let mut told = Told::default();
        let mut lines = violations(&rules, "spec.rules", true, scope);
        for finding in findings(asked, scope) {
            told.ids.insert(finding.id.to_owned());
            if finding.disposition != Disposition::Never {
                lines.extend(explain(finding.id, &rules, "spec.rules", true, scope));
            }
        }
        let combined = combinations(asked, held, scope).into_iter();
        told.ids.extend(combined.map(|c| c.finding.id.to_owned()));
        told.ids.extend(lines.iter().map(|v| v.code.to_owned()));
        let line = |v: &Violation| (v.code.to_owned(), v.to_string());
        told.lines = lines.iter().map(line).collect();
        told
    }

    fn judged(&self, patch: &Value) -> Told {
        let mut policy = policy();
        if let Some(patch) = &self.policy {
            json_patch::merge(&mut policy["spec"], patch);
        }
        let mut request = request();
        json_patch::merge(&mut request["spec"], patch);
        let mut facts = facts();
        facts.policies = vec![(compiled(policy), true)];
        facts.role = match &self.role {
            Some(rules) => RoleFacts::Found(Role {
                rules: rules.clone(),
                ..Role::default()
            }),
            None => RoleFacts::Missing,
        };
        if let Some(length) = &self.held_for {
            let since = now() - length.parse::<jiff::SignedDuration>().unwrap();
            facts.goes_on_since("payments-jobs", since);
        }
        let ids = match decide(request, &facts, now()) {
            Verdict::Granted(approved) => approved.findings().to_vec(),
            Verdict::Refused(wrong) => wrong.iter().map(|v| v.code).collect(),
            other => panic!("neither granted nor refused: {other:?}"),
        };
        Told {
            ids: ids.into_iter().map(str::to_owned).collect(),
            lines: vec![],
        }
    }
}

static EXAMPLES: LazyLock<Vec<Examples>> =
    LazyLock::new(|| serde_saphyr::from_str(include_str!("catalogue_examples.yaml")).unwrap());

/// The codes under which a check is told of.
fn told_as(code: &str) -> Vec<&str> {
    let other = catalogue::code(code).and_then(|c| c.reported_as);
    [Some(code), other].into_iter().flatten().collect()
}

#[test]
fn each_check_fires_on_its_examples_and_not_beside_them() {
    for check in EXAMPLES.iter() {
        let code = check.code.as_str();
        let codes = told_as(code);
        let fires = |told: &Told| codes.iter().any(|code| told.ids.contains(*code));
        for example in &check.triggers {
            for scope in example.scopes(&check.scope) {
                let told = example.told(scope);
                assert!(fires(&told), "{code} {scope:?}: {example:?} {told:?}");
                if let Some(says) = &example.says {
                    assert_eq!(told.lines_of(code), [says], "{scope:?}");
                }
            }
        }
        for example in &check.near {
            for scope in example.scopes(&check.scope) {
                let told = example.told(scope);
                assert!(!fires(&told), "{code} {scope:?}: {example:?} {told:?}");
            }
        }
    }
}

#[test]
fn each_check_has_an_example_and_a_near_miss() {
    let mut missing: BTreeSet<&str> = codes().iter().map(|code| code.id).collect();
    for (id, why) in NOT_ASKED {
        assert!(missing.remove(id), "{id} is no check");
        assert!(!why.is_empty());
    }
    for check in EXAMPLES.iter() {
        let judged = |list: &[Example]| list.iter().any(|e| !e.scopes(&check.scope).is_empty());
        assert!(
            judged(&check.triggers) && judged(&check.near),
            "{}",
            check.code
        );
        let known = missing.remove(check.code.as_str());
        assert!(
            known || check.code == "WA-NAME",
            "{}: twice, or no check",
            check.code
        );
    }
    assert_eq!(missing, BTreeSet::new(), "checks without examples");
}

#[test]
fn each_scope_where_a_check_has_a_severity_has_an_example() {
    for check in EXAMPLES.iter().filter(|c| c.triggers[0].request.is_none()) {
        let Some(code) = catalogue::code(&check.code) else {
            continue;
        };
        for scope in [
            Scope::Namespace("payments"),
            Scope::PrivilegedNamespace("kube-system"),
            Scope::Cluster,
        ] {
            let shown = check
                .triggers
                .iter()
                .any(|e| e.scopes(&check.scope).contains(&scope));
            let expected = code.severity.within(scope) > Some(Severity::Info);
            let live =
                scope == Scope::Cluster || !ONLY_IN_THE_CLUSTER.contains(&check.code.as_str());
            assert_eq!(shown, expected && live, "{} {scope:?}", check.code);
        }
    }
}

#[test]
fn what_no_request_can_trigger_is_not_told_of_any() {
    for check in EXAMPLES.iter() {
        for example in check.triggers.iter().chain(&check.near) {
            for scope in example.scopes(&check.scope) {
                let told = example.told(scope);
                let odd = NOT_ASKED.iter().find(|(id, _)| told.ids.contains(*id));
                assert_eq!(odd, None, "{example:?}");
            }
        }
    }
}

#[test]
fn codes_describe_the_whole_catalogue() {
    let codes = codes();
    assert_eq!(codes.len(), 80);
    for code in &codes {
        assert!(!code.title.is_empty() && !code.why.is_empty(), "{code:?}");
    }
    let severity = |id: &str| codes.iter().find(|c| c.id == id).unwrap().severity;
    assert_eq!(severity("OB-E01").namespace, Some(Severity::Critical));
    assert_eq!(severity("OB-E07").namespace, None);
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Rule {
    let owned = |list: &[&str]| list.iter().map(|x| (*x).to_owned()).collect();
    Rule {
        api_groups: owned(groups),
        resources: owned(resources),
        verbs: owned(verbs),
        ..Rule::default()
    }
}

fn told(rules: &[Rule], base: &str, indexed: bool) -> Vec<String> {
    violations(rules, base, indexed, Scope::Namespace("payments"))
        .iter()
        .map(Violation::to_string)
        .collect()
}

#[test]
fn all_problems_are_told_in_the_order_of_the_rules() {
    let rules = [
        rule(&[""], &["configmaps"], &["get"]),
        rule(&["*"], &["secrets", "pods/*"], &["*"]),
        rule(&[""], &["serviceaccounts"], &["create", "impersonate"]),
    ];
    let codes: Vec<&str> = violations(&rules, "spec.rules", true, Scope::Namespace("payments"))
        .iter()
        .map(|v| v.code)
        .collect();
    let expected = ["OB-W04", "OB-R03", "OB-W03", "OB-E05"];
    assert_eq!(codes, expected);
}

#[test]
fn a_role_is_told_about_once_per_finding_and_under_its_reference() {
    let rules = [
        rule(&["apps"], &["deployments"], &["*"]),
        rule(&["batch"], &["jobs"], &["*"]),
    ];
    assert_eq!(
        told(&rules, "spec.roleRef", false),
        ["spec.roleRef: Invalid value: '*': must list verbs by name [OB-W03]"]
    );
}

#[test]
fn an_element_written_twice_is_told_about_once() {
    let twice = &["impersonate", "impersonate"];
    let rules = [rule(&[""], &["serviceaccounts", "serviceaccounts"], twice)];
    assert_eq!(told(&rules, "spec.rules", true).len(), 1);
}

#[test]
fn sizes_are_judged_first_and_alone() {
    let mut long = rule(&["*"], &["*"], &[]);
    long.verbs = (0..=MAX_ITEMS).map(|n| format!("verb{n}")).collect();
    assert_eq!(
        told(std::slice::from_ref(&long), "spec.rules", true),
        ["spec.rules[0].verbs: Too many: '65': must have at most 64 `verbs` in one rule [OB-R05]"]
    );

    long.verbs.pop();
    long.resources = (0..40).map(|n| format!("resource{n}")).collect();
    let bomb = vec![long; 4];
    assert_eq!(
        told(&bomb, "spec.rules", true),
        [
            "spec.rules: Too many: '10240': must expand to at most 10000 combinations of group, resource, name and verb [OB-R05]"
        ]
    );
}

#[test]
fn a_very_long_word_is_refused_and_not_repeated() {
    let word = "x".repeat(254);
    let lines = told(&[rule(&[""], &[&word], &["get"])], "spec.rules", true);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].ends_with("must have at most 253 bytes [OB-R05]"),
        "{lines:?}"
    );
    assert!(lines[0].len() < 200);
}

#[test]
fn an_ordinary_grant_passes() {
    let mut deploy = rule(&["apps"], &["deployments"], &["get", "patch"]);
    deploy.resource_names = vec!["billing-api".into()];
    let read = rule(&[""], &["pods", "pods/log"], &["get", "list", "watch"]);
    assert_eq!(told(&[deploy, read], "spec.rules", true), [""; 0]);
}
