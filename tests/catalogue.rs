//! The catalogue of over-broad rules, by example and on Kubernetes' own default roles.

use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use stint::domain::catalogue::{MAX_ITEMS, Scope, Severity, codes, explain, findings, violations};
use stint::domain::patterns::Patterns;
use stint::domain::rules::Rule;
use stint::domain::violation::Violation;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    code: String,
    triggers: Vec<Example>,
    near: Vec<Example>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Example {
    rules: Vec<Rule>,
    #[serde(default)]
    repeat: Option<usize>,
    #[serde(default)]
    says: Option<String>,
}

impl Example {
    fn found(&self, code: &str, scope: Scope<'_>) -> Vec<String> {
        let rules = vec![self.rules.clone(); self.repeat.unwrap_or(1)].concat();
        let fired = findings(Patterns::of(&rules), scope);
        let explained = fired
            .iter()
            .filter(|finding| finding.id == code)
            .flat_map(|finding| explain(finding.id, &rules, "spec.rules", true, scope));
        let refused = violations(&rules, "spec.rules", true, scope);
        let explained: Vec<Violation> = explained.collect();
        let all = if explained.is_empty() {
            refused
        } else {
            explained
        };
        all.iter()
            .filter(|v| v.code == code)
            .map(Violation::to_string)
            .collect()
    }
}

fn examples() -> Vec<Examples> {
    serde_saphyr::from_str(include_str!("catalogue_examples.yaml")).unwrap()
}

#[test]
fn each_check_fires_on_its_examples_and_not_beside_them() {
    for scope in [
        Scope::Namespace("payments"),
        Scope::PrivilegedNamespace("kube-system"),
    ] {
        for check in examples() {
            let code = &check.code;
            for example in &check.triggers {
                let found = example.found(code, scope);
                assert!(!found.is_empty(), "{code} {scope:?}: {example:?}");
                if let Some(says) = &example.says {
                    assert_eq!(&found, std::slice::from_ref(says));
                }
            }
            for example in &check.near {
                let found = example.found(code, scope);
                assert!(found.is_empty(), "{code} {scope:?}: {example:?} {found:?}");
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

/// The default ClusterRoles with their aggregation carried out, which the test data leaves to the controller.
fn default_roles() -> BTreeMap<String, Vec<Rule>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<ClusterRole>,
    }
    let text = include_str!("corpora/upstream/cluster-roles-v1.32.yaml");
    let roles = serde_saphyr::from_str::<List>(text).unwrap().items;
    assert_eq!(roles.len(), 31);
    roles
        .iter()
        .map(|role| (role.metadata.name.clone().unwrap(), rules_of(role, &roles)))
        .collect()
}

fn rules_of(role: &ClusterRole, all: &[ClusterRole]) -> Vec<Rule> {
    let own = role.rules.iter().flatten().map(Rule::from);
    let selectors = role
        .aggregation_rule
        .iter()
        .flat_map(|a| a.cluster_role_selectors.iter().flatten())
        .filter_map(|selector| selector.match_labels.as_ref());
    let labels = |r: &ClusterRole| r.metadata.labels.clone().unwrap_or_default();
    let aggregated = selectors.flat_map(|wanted| {
        all.iter()
            .filter(|r| wanted.iter().all(|(k, v)| labels(r).get(k) == Some(v)))
            .flat_map(|r| rules_of(r, all))
    });
    own.chain(aggregated).collect()
}

fn codes_found(rules: &[Rule]) -> BTreeSet<&'static str> {
    violations(rules, "spec.roleRef", false, Scope::Namespace("payments"))
        .iter()
        .map(|v| v.code)
        .collect()
}

#[test]
fn of_the_default_roles_only_view_passes_in_a_namespace() {
    let roles = default_roles();
    assert!(roles["view"].len() > 5, "aggregation was carried out");
    assert_eq!(codes_found(&roles["view"]), BTreeSet::new());

    let edit = codes_found(&roles["edit"]);
    assert_eq!(edit, BTreeSet::from(["OB-E05", "OB-E09"]));
    let admin = codes_found(&roles["admin"]);
    assert!(admin.is_superset(&edit));
    assert!(admin.contains("OB-E03") && admin.contains("OB-E04"));
    let cluster_admin = codes_found(&roles["cluster-admin"]);
    for code in ["OB-W01", "OB-W02", "OB-W03", "OB-W04", "OB-E01", "OB-E05"] {
        assert!(cluster_admin.contains(code), "{code}");
    }
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
