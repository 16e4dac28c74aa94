//! What is granted in the whole cluster, and what never is: requests before the judge.

use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;
use stint::api::ClusterWorkloadAccess;
use stint::api::workload_access::{EndReason, Risk};
use stint::domain::covers::Ceiling;
use stint::domain::desired;
use stint::domain::facts::{Facts, Held, HeldIn, Live, RoleFacts};
use stint::domain::grant::Grant;
use stint::domain::judge::{Approved, Verdict, judge};
use stint::domain::patterns::Patterns;
use stint::domain::policy::Policy;
use stint::domain::request::Place;
use stint::domain::served::{Home, Served};
use stint::domain::violation::Violation;
use support::case::{NOW, at, codes, compiled, ended, facts, live, now, policy, rule, with};

/// A request that is fine in every respect, to be spoilt in one.
fn request() -> Value {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": "inventory", "uid": "77778888-9999"},
        "spec": {
            "serviceAccountRef": {"name": "migrator", "namespace": "payments"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
                      {"nonResourceURLs": ["/version"], "verbs": ["get"]}],
            "duration": "30m", "reason": "count the nodes"
        }
    })
}

fn wide_policy() -> Value {
    let rules = json!([
        {"apiGroups": [""], "resources": ["nodes", "configmaps"], "verbs": ["get", "list"]},
        {"nonResourceURLs": ["/version", "/metrics"], "verbs": ["get"]}
    ]);
    let policy = with(policy(), "/spec/allow/rules", rules);
    with(policy, "/spec/allow/cluster", json!(true))
}

fn wide_facts() -> Facts {
    let mut urls = rule("", "", &["get"]);
    urls.api_groups.clear();
    urls.resources.clear();
    urls.non_resource_urls = vec!["/version".into(), "/metrics".into()];
    let ceiling = [
        rule("", "nodes", &["get", "list"]),
        rule("", "configmaps", &["get", "list"]),
        urls,
    ];
    Facts {
        policies: vec![(compiled(wide_policy()), true)],
        ceiling: Some(Arc::new(Ceiling::compile(&ceiling))),
        served: Some(Arc::new(served())),
        ..facts()
    }
}

fn served() -> Served {
    let mut served = Served::default();
    served.add("", "nodes".into(), Home::Cluster);
    served.add("", "configmaps".into(), Home::Namespace);
    served
}

fn under(policy: Value) -> Facts {
    Facts {
        policies: vec![(compiled(policy), true)],
        ..wide_facts()
    }
}

fn decide(request: Value, facts: &Facts) -> Verdict {
    let object: ClusterWorkloadAccess = serde_json::from_value(request).unwrap();
    match Grant::parse(&object) {
        Ok(grant) => judge(&grant, facts, now()),
        Err(violations) => Verdict::Refused(violations),
    }
}

fn refusals(request: Value, facts: &Facts) -> Vec<Violation> {
    match decide(request, facts) {
        Verdict::Refused(violations) => violations,
        other => panic!("not refused: {other:?}"),
    }
}

fn granted(request: Value, facts: &Facts) -> Box<Approved> {
    match decide(request, facts) {
        Verdict::Granted(approved) => approved,
        other => panic!("not granted: {other:?}"),
    }
}

fn with_rules(rules: Value) -> Value {
    with(request(), "/spec/rules", rules)
}

#[test]
fn cluster_scoped_resources_and_url_paths_are_granted() {
    let approved = granted(request(), &wide_facts());
    assert_eq!(*approved.grant().place(), Place::Cluster);
    assert_eq!(approved.not_after(), at("2026-12-01T12:30:00Z"));
    let role = desired::role(&approved, None);
    let binding = desired::role_binding(&approved, None);
    assert_eq!(role.rules.unwrap().len(), 2);
    assert_eq!(binding.role_ref.kind, "ClusterRole");
    assert_eq!(binding.role_ref.name, role.metadata.name.unwrap());
    let subject = &binding.subjects.unwrap()[0];
    assert_eq!(subject.namespace.as_deref(), Some("payments"));
    for metadata in [
        role.metadata.owner_references,
        binding.metadata.owner_references,
    ] {
        let owner = &metadata.unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str()),
            ("ClusterWorkloadAccess", "77778888-9999")
        );
    }
    let annotations = binding.metadata.annotations.unwrap();
    for record in [
        "not-after",
        "service-account-uid",
        "policy",
        "rules-hash",
        "held-since",
    ] {
        assert!(
            annotations.contains_key(&format!("stint.dev/{record}")),
            "{record}"
        );
    }
    assert_eq!(binding.metadata.namespace, None);
}

#[test]
fn without_its_own_switch_a_policy_allows_nothing_in_the_whole_cluster() {
    for switch in [json!(null), json!(false)] {
        let policy = with(wide_policy(), "/spec/allow/cluster", switch);
        let wrong = refusals(request(), &under(policy));
        assert_eq!((wrong.len(), wrong[0].code), (1, "WA-NOT-ALLOWED"));
        assert_eq!(wrong[0].path, "kind");
        assert!(
            wrong[0].message.contains("`allow.cluster: true`"),
            "{wrong:?}"
        );
        assert!(
            wrong[0].message.contains("policy 'payments-jobs'"),
            "{wrong:?}"
        );
    }
}

#[test]
fn what_the_envelope_or_the_ceiling_does_not_name_is_refused() {
    let wrong = with_rules(json!([{"nonResourceURLs": ["/logs"], "verbs": ["get"]}]));
    let both = ["WA-CEILING", "WA-NOT-ALLOWED"];
    assert_eq!(codes(decide(wrong, &wide_facts())), both);
    let wrong =
        with_rules(json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["delete"]}]));
    let found = codes(decide(wrong, &wide_facts()));
    assert!(both.iter().all(|code| found.contains(code)), "{found:?}");
}

#[rstest]
#[case::verb(json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["*"]}]), "OB-W03")]
#[case::resource(json!([{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]), "OB-W02")]
#[case::group(json!([{"apiGroups": ["*"], "resources": ["nodes"], "verbs": ["get"]}]), "OB-W04")]
#[case::subresource(json!([{"apiGroups": [""], "resources": ["*/status"], "verbs": ["get"]}]), "OB-W05")]
#[case::every_path(json!([{"nonResourceURLs": ["*"], "verbs": ["get"]}]), "OB-W06")]
#[case::prefix(json!([{"nonResourceURLs": ["/debug/*"], "verbs": ["get"]}]), "OB-W06")]
#[case::empty_name(json!([{"apiGroups": [""], "resources": ["nodes"], "resourceNames": [""], "verbs": ["get"]}]), "OB-R01")]
#[case::verb_on_a_path(json!([{"nonResourceURLs": ["/version"], "verbs": ["*"]}]), "OB-W03")]
fn no_policy_can_allow_a_wildcard(#[case] rules: Value, #[case] code: &str) {
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                            {"nonResourceURLs": ["*"], "verbs": ["*"]}]);
    let mut facts = under(with(wide_policy(), "/spec/allow/rules", everything));
    let all: Vec<_> = serde_json::from_value(json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]))
    .unwrap();
    facts.ceiling = Some(Arc::new(Ceiling::compile(&all)));
    let found = codes(decide(with_rules(rules), &facts));
    assert!(found.contains(&code), "{found:?}");
}

#[rstest]
#[case::both(json!([{"apiGroups": [""], "resources": ["nodes"], "nonResourceURLs": ["/version"], "verbs": ["get"]}]), "spec.rules[0]")]
#[case::neither(json!([{"verbs": ["get"]}]), "spec.rules[0].apiGroups")]
#[case::no_verbs(json!([{"nonResourceURLs": ["/version"], "verbs": []}]), "spec.rules[0].verbs")]
#[case::no_path(json!([{"nonResourceURLs": ["version"], "verbs": ["get"]}]), "spec.rules[0].nonResourceURLs[0]")]
fn a_rule_is_of_resources_or_of_paths(#[case] rules: Value, #[case] path: &str) {
    let wrong = refusals(with_rules(rules), &wide_facts());
    assert!(
        wrong.iter().any(|v| v.code == "WA-RULES" && v.path == path),
        "{wrong:?}"
    );
}

#[test]
fn the_account_has_a_namespace_and_its_labels_are_what_policies_select_by() {
    let nowhere = with(request(), "/spec/serviceAccountRef/namespace", json!(null));
    let wrong = refusals(nowhere, &wide_facts());
    assert_eq!(wrong[0].path, "spec.serviceAccountRef.namespace");
    let unselected = Facts {
        policies: vec![],
        ..wide_facts()
    };
    let wrong = refusals(request(), &unselected);
    assert_eq!(
        (wrong[0].code, wrong[0].path.as_str()),
        ("WA-NO-POLICY", "spec.serviceAccountRef.namespace")
    );
    assert!(wrong[0].message.contains("'payments'"), "{wrong:?}");
}

#[test]
fn conditions_see_the_namespace_of_the_account_and_none_of_the_request() {
    let condition = json!([{"expression":
        "namespaceObject.metadata.name == 'payments' && request.namespace == '' && request.spec.rules.size() == 2 && \
         request.spec.rules.exists(r, has(r.nonResourceURLs))"}]);
    let policy = with(wide_policy(), "/spec/conditions", condition);
    granted(request(), &under(policy));
}

#[test]
fn a_role_is_copied_whole_and_only_a_cluster_role_can_be() {
    let from = |kind: &str| {
        let request = with(request(), "/spec/rules", json!(null));
        with(
            request,
            "/spec/roleRef",
            json!({"kind": kind, "name": "reader"}),
        )
    };
    let wrong = refusals(from("Role"), &wide_facts());
    assert_eq!(
        (wrong[0].code, wrong[0].path.as_str()),
        ("WA-RULES", "spec.roleRef.kind")
    );
    let role: stint::domain::facts::Role = stint::domain::facts::Role {
        uid: "r-1".into(),
        rules: serde_json::from_value(request()["spec"]["rules"].clone()).unwrap(),
        ..stint::domain::facts::Role::default()
    };
    let facts = Facts {
        role: RoleFacts::Found(role),
        ..wide_facts()
    };
    let approved = granted(from("ClusterRole"), &facts);
    assert_eq!(approved.rules().len(), 2, "paths and nodes alike");
}

#[test]
fn rights_that_live_in_namespaces_need_a_policy_that_says_so() {
    let of_namespaces =
        || with_rules(json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]));
    let found = codes(decide(of_namespaces(), &wide_facts()));
    assert!(found.contains(&"OB-W07"), "{found:?}");
    let accepting = |more: &[&str]| {
        let named = Patterns::of(&[rule("", "configmaps", &["get"])]);
        let scope = stint::domain::catalogue::Scope::Cluster;
        let mut ids = vec!["OB-W07"];
        ids.extend(
            stint::domain::catalogue::findings(named, scope)
                .iter()
                .map(|f| f.id),
        );
        ids.extend(more);
        under(with(wide_policy(), "/spec/allow/findings", json!(ids)))
    };
    let facts = accepting(&[]);
    let approved = granted(of_namespaces(), &facts);
    assert!(approved.findings().contains(&"OB-W07"));
    assert!(approved.risk() >= Risk::Medium);
    // Once granted, what was found stays found, whatever is served later.
    let live = |in_namespaces| Facts {
        served: None,
        live: Some(Live {
            in_namespaces,
            ..live(NOW, "2026-12-01T12:30:00Z")
        }),
        ..accepting(&[])
    };
    assert!(
        granted(of_namespaces(), &live(true))
            .findings()
            .contains(&"OB-W07")
    );
    assert!(
        !granted(of_namespaces(), &live(false))
            .findings()
            .contains(&"OB-W07")
    );
}

#[test]
fn a_path_is_a_name_to_a_policy_that_requires_names() {
    let policy = with(
        wide_policy(),
        "/spec/limits/requireResourceNames",
        json!("All"),
    );
    let paths = with_rules(json!([{"nonResourceURLs": ["/version"], "verbs": ["get"]}]));
    granted(paths, &under(policy.clone()));
    let nodes = with_rules(json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]));
    assert_eq!(codes(decide(nodes, &under(policy))), ["WA-NO-NAMES"]);
}

#[rstest]
#[case::nodes(json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}))]
#[case::path(json!({"nonResourceURLs": ["/version"], "verbs": ["get"]}))]
fn a_right_that_needs_the_whole_cluster_excuses_none_that_does_not(#[case] other: Value) {
    let of_namespaces = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]});
    let both = with_rules(json!([other, of_namespaces]));
    let found = codes(decide(both, &wide_facts()));
    assert!(found.contains(&"OB-W07"), "{found:?}");
}

#[test]
fn the_catalogue_judges_by_what_reaches_the_cluster() {
    // One half of approving certificates does nothing in a namespace, and much in the cluster.
    let half = || {
        with_rules(json!([{"apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests/approval"], "verbs": ["update"]}]))
    };
    let found = codes(decide(half(), &wide_facts()));
    assert!(found.contains(&"OB-E07a"), "{found:?}");
}

#[test]
fn what_the_account_holds_everywhere_counts() {
    let held = |resource: &str, verb: &str, group: &str| Held {
        by: "ClusterRoleBinding 'standing'".into(),
        patterns: Patterns::of(&[rule(group, resource, &[verb])]),
    };
    let facts = Facts {
        held: vec![held(
            "certificatesigningrequests/approval",
            "update",
            "certificates.k8s.io",
        )],
        ..wide_facts()
    };
    let other_half = with_rules(
        json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
        "resourceNames": ["kubernetes.io/kube-apiserver-client"], "verbs": ["approve"]}]),
    );
    let wrong = refusals(other_half, &facts);
    assert!(
        wrong
            .iter()
            .any(|v| v.code == "OB-E07" && v.message.contains("'standing'")),
        "{wrong:?}"
    );
}

/// The order in which an account gets its rights does not matter: the other way round the grant in the whole cluster counts.
#[test]
fn what_the_account_holds_in_one_namespace_counts_there() {
    let patches = Held {
        by: "RoleBinding 'billing/deployer'".into(),
        patterns: Patterns::of(&[rule("apps", "deployments", &["patch"])]),
    };
    let holding = |held_in: Vec<HeldIn>| Facts {
        held_in,
        ..wide_facts()
    };
    let secrets =
        || with_rules(json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]));
    let combination = |facts: &Facts| {
        let wrong = refusals(secrets(), facts);
        wrong.into_iter().find(|v| v.code == "OB-C01")
    };
    assert_eq!(combination(&holding(vec![])), None);
    let billing = HeldIn {
        namespace: "billing".into(),
        held: vec![patches],
    };
    let wrong = combination(&holding(vec![billing])).unwrap();
    assert!(
        wrong
            .message
            .contains("together with RoleBinding 'billing/deployer'"),
        "{wrong}"
    );
}

#[test]
fn a_live_grant_ends_when_its_policy_loses_the_switch() {
    let policy = with(wide_policy(), "/spec/allow/cluster", json!(false));
    let facts = Facts {
        live: Some(live(NOW, "2026-12-01T12:30:00Z")),
        ..under(policy)
    };
    assert_eq!(ended(decide(request(), &facts)), EndReason::PolicyWithdrawn);
}

#[test]
fn a_workload_access_stays_in_its_namespace_whatever_a_policy_switches_on() {
    let wide = with(
        support::case::request(),
        "/spec/rules",
        json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]),
    );
    let found = codes(support::case::decide(wide, &wide_facts(), now()));
    assert!(found.contains(&"WA-INERT"), "{found:?}");
}

#[test]
fn a_policy_warns_of_paths_that_it_never_grants() {
    let without = with(wide_policy(), "/spec/allow/cluster", json!(null));
    let warns = |policy: Value| {
        let warnings = Policy::compile(&serde_json::from_value(policy).unwrap())
            .unwrap()
            .warnings();
        warnings.iter().any(|w| w.contains("`nonResourceURLs`"))
    };
    assert!(warns(without));
    assert!(!warns(wide_policy()));
}
