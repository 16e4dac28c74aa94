//! Kubernetes' own default roles before the catalogue and the judge. Origin and licence: `corpora/README.md`.

use k8s_openapi::api::rbac::v1::ClusterRole;
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use stint::api::workload_access::Risk;
use stint::domain::catalogue::{Code, Disposition, Scope, codes, violations};
use stint::domain::covers::Ceiling;
use stint::domain::facts::{Facts, Role, RoleFacts};
use stint::domain::judge::Verdict;
use stint::domain::rules::Rule;
use support::case::{compiled, decide, facts, now, policy, request, with};

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

/// A policy that accepts each of these roles and every finding that a policy can accept, under a ceiling of everything.
fn generous(name: &str, rules: Vec<Rule>) -> Facts {
    let can_be_named = |code: &&Code| code.disposition != Disposition::Never;
    let all = codes();
    let findings: Vec<&str> = all.iter().filter(can_be_named).map(|c| c.id).collect();
    let of_role = |name: &&str| json!({"kind": "ClusterRole", "name": name});
    let roles: Vec<Value> = ["view", "edit", "admin", "cluster-admin"]
        .iter()
        .map(of_role)
        .collect();
    let everything = json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]}
    ]);
    let mut policy = policy();
    policy["spec"]["allow"] =
        json!({"rules": [everything[0]], "roleRefs": roles, "findings": findings});
    let all_there_is: Vec<Rule> = serde_json::from_value(everything).unwrap();
    Facts {
        role: RoleFacts::Found(Role {
            uid: format!("{name}-uid"),
            rules,
            aggregated: name != "cluster-admin",
            ..Role::default()
        }),
        policies: vec![(compiled(policy), true)],
        ceiling: Some(Ceiling::compile(&all_there_is).into()),
        ..facts()
    }
}

fn asking_for(role: &str) -> Value {
    let request = with(request(), "/spec/rules", Value::Null);
    with(
        request,
        "/spec/roleRef",
        json!({"kind": "ClusterRole", "name": role}),
    )
}

#[test]
fn view_is_granted_where_a_policy_accepts_it() {
    let rules = default_roles().remove("view").unwrap();
    match decide(asking_for("view"), &generous("view", rules), now()) {
        Verdict::Granted(approved) => {
            assert_eq!(
                (approved.risk(), approved.findings()),
                (Risk::Low, &["OB-P06"][..])
            );
            assert!(approved.source().unwrap().aggregated);
        }
        other => panic!("not granted: {other:?}"),
    }
}

#[rstest]
#[case::edit("edit", &["OB-E05", "OB-E09"])]
#[case::admin("admin", &["OB-E03", "OB-E04", "OB-E05", "OB-E09"])]
#[case::cluster_admin("cluster-admin", &[
    "OB-A05", "OB-E01", "OB-E02", "OB-E03", "OB-E04", "OB-E05", "OB-E06", "OB-E09", "OB-W01", "OB-W02", "OB-W03", "OB-W04",
])]
fn wider_default_roles_are_refused_whatever_the_policy(
    #[case] name: &str,
    #[case] expected: &[&str],
) {
    let rules = default_roles().remove(name).unwrap();
    match decide(asking_for(name), &generous(name, rules), now()) {
        Verdict::Refused(wrong) => {
            let codes: BTreeSet<&str> = wrong.iter().map(|v| v.code).collect();
            assert_eq!(codes, expected.iter().copied().collect());
            assert!(wrong.iter().all(|v| v.path == "spec.roleRef"), "{wrong:?}");
        }
        other => panic!("not refused: {other:?}"),
    }
}
