//! The law of the ratchet: what is there already, less of it, or the same in other words is never refused.

use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use stint::domain::binding::{Binding, BoundRole};
use stint::domain::catalogue::Scope;
use stint::domain::guard::{PlainRole, binding_change, role_change};
use stint::domain::rules::Rule;

const VERBS: &[&str] = &["*", "get", "list", "create", "escalate", "GET"];
const GROUPS: &[&str] = &["*", "", "apps", "rbac.authorization.k8s.io"];
const RESOURCES: &[&str] = &[
    "*",
    "secrets",
    "pods",
    "pods/exec",
    "*/exec",
    "pods/*",
    "roles",
];
const NAMES: &[&str] = &["", "*", "a", "b"];
const URLS: &[&str] = &["*", "/", "/api/*", "/logs"];
const LABELS: &[&str] = &[
    "team",
    "rbac.authorization.k8s.io/aggregate-to-view",
    "rbac.stint.dev/grantable",
];
const SUBJECTS: &[(&str, &str)] = &[
    ("User", "jane"),
    ("User", "system:serviceaccount:payments:ci"),
    ("User", "system:anonymous"),
    ("Group", "system:authenticated"),
    ("Group", "system:serviceaccounts"),
    ("ServiceAccount", "ci"),
    ("ServiceAccount", "default"),
];
const SCOPES: &[Scope<'static>] = &[
    Scope::Namespace("payments"),
    Scope::PrivilegedNamespace("kube-system"),
    Scope::Cluster,
];

fn words(alphabet: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<String>> {
    vec(select(alphabet).prop_map(str::to_owned), least..=3)
}

/// Rules that Kubernetes takes: on resources, or on URLs.
fn rule() -> impl Strategy<Value = Rule> {
    let names = prop_oneof![2 => Just(vec![]), 1 => words(NAMES, 1)];
    let on_resources = (
        words(GROUPS, 1),
        words(RESOURCES, 1),
        names,
        words(VERBS, 1),
    );
    prop_oneof![
        6 => on_resources.prop_map(|(api_groups, resources, resource_names, verbs)| Rule {
            api_groups, resources, resource_names, verbs, ..Rule::default()
        }),
        1 => (words(URLS, 1), words(VERBS, 1)).prop_map(|(non_resource_urls, verbs)| Rule {
            verbs, non_resource_urls, ..Rule::default()
        }),
    ]
}

fn role() -> impl Strategy<Value = PlainRole> {
    let labels = btree_map(
        select(LABELS).prop_map(str::to_owned),
        select(&["true", "false"][..]),
        0..3,
    );
    (vec(rule(), 0..5), labels).prop_map(|(rules, labels)| PlainRole {
        rules,
        labels: labels.into_iter().map(|(k, v)| (k, v.to_owned())).collect(),
        aggregation: None,
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    let namespace = option::of(select(&["payments", "other"][..]));
    (select(SUBJECTS), namespace).prop_map(|((kind, name), namespace)| Subject {
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace
            .filter(|_| kind == "ServiceAccount")
            .map(str::to_owned),
        api_group: None,
    })
}

fn standing() -> Vec<String> {
    vec!["RoleBinding 'payments/legacy'".to_owned()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_role_that_stays_or_shrinks_is_never_refused(
        old in role(),
        scope in select(SCOPES),
        drop in any::<Index>(),
        turn in any::<Index>(),
        label in select(LABELS),
    ) {
        let unchanged = role_change(Some(&old), &old, scope, &standing());
        prop_assert_eq!(unchanged, vec![]);
        let mut other = old.clone();
        other.labels.remove(label);
        other.labels.insert("touched".to_owned(), "now".to_owned());
        if !other.rules.is_empty() {
            let by = turn.index(other.rules.len());
            other.rules.rotate_left(by);
            // The same rule once more is no more.
            let again = other.rules[by].clone();
            other.rules.push(again);
        }
        prop_assert_eq!(role_change(Some(&old), &other, scope, &standing()), vec![]);
        if !other.rules.is_empty() {
            other.rules.remove(drop.index(other.rules.len()));
        }
        prop_assert_eq!(role_change(Some(&old), &other, scope, &standing()), vec![]);
    }

    #[test]
    fn a_binding_that_stays_or_shrinks_is_never_refused(
        old in vec(subject(), 0..5),
        rules in vec(rule(), 0..4),
        scope in select(SCOPES),
        drop in any::<Index>(),
        turn in any::<Index>(),
    ) {
        let role_ref = RoleRef {
            api_group: None,
            kind: "ClusterRole".to_owned(),
            name: "edit".to_owned(),
        };
        let mut less = old.clone();
        if !less.is_empty() {
            less.rotate_left(turn.index(old.len()));
            less.remove(drop.index(old.len()));
        }
        let found = BoundRole::Found { rules: &rules, aggregated: true };
        for role in [found, BoundRole::Missing, BoundRole::Unknown] {
            for subjects in [&old, &less] {
                let new = Binding { scope, subjects, role_ref: &role_ref, role };
                prop_assert_eq!(binding_change(Some(&old), &new), vec![]);
            }
        }
    }

    /// What is added is judged as strictly as if it had been there from the beginning.
    #[test]
    fn growing_in_two_steps_gets_no_further_than_in_one(
        first in vec(rule(), 0..3),
        second in vec(rule(), 1..3),
        scope in select(SCOPES),
    ) {
        let role = |rules: Vec<Rule>| PlainRole { rules, ..PlainRole::default() };
        let small = role(first.clone());
        let large = role(first.into_iter().chain(second).collect());
        let at_once = role_change(None, &large, scope, &[]);
        let begin = role_change(None, &small, scope, &[]);
        let grow = role_change(Some(&small), &large, scope, &[]);
        let refused = |found: &[stint::domain::plain::PlainFinding]| {
            found.iter().any(|f| f.weight == stint::domain::plain::Weight::Error)
        };
        prop_assert_eq!(refused(&at_once), refused(&begin) || refused(&grow));
    }
}
