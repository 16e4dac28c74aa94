//! Rules for what is not there: dead through a RoleBinding, served by nobody, or served by who knows whom.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;
use stint::domain::facts::{Facts, Role, RoleFacts};
use stint::domain::judge::{NotYet, Verdict};
use stint::domain::rules::Rule;
use stint::domain::served::{Home, Served};
use support::case::{codes, decide, facts, now, policy, request, with};
use support::fake_api::Harm;
use support::world::{NAMESPACE, World};

/// A small cluster, and a group whose own API server does not answer.
fn cluster() -> Arc<Served> {
    let mut served = Served::default();
    let resources = [
        ("", "pods", Home::Namespace),
        ("", "pods/log", Home::Namespace),
        ("", "configmaps", Home::Namespace),
        ("", "events", Home::Namespace),
        ("", "namespaces", Home::Cluster),
        ("", "nodes", Home::Cluster),
        ("", "nodes/proxy", Home::Cluster),
        ("apps", "deployments", Home::Namespace),
        ("events.k8s.io", "events", Home::Namespace),
        ("rbac.authorization.k8s.io", "clusterroles", Home::Cluster),
    ];
    for (group, resource, home) in resources {
        served.add(group, resource.into(), home);
    }
    served.add_unavailable("metrics.k8s.io");
    Arc::new(served)
}

fn around(rules: &Value) -> Facts {
    let ceiling: Vec<Rule> = serde_json::from_value(rules.clone()).unwrap();
    let policy = with(policy(), "/spec/allow/rules", rules.clone());
    Facts {
        served: Some(cluster()),
        ceiling: Some(Arc::new(stint::domain::covers::Ceiling::compile(&ceiling))),
        policies: vec![(support::case::compiled(policy), true)],
        ..facts()
    }
}

fn asked(group: &str, resource: &str, verb: &str) -> Verdict {
    let rules = json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]);
    let facts = around(&rules);
    decide(with(request(), "/spec/rules", rules), &facts, now())
}

#[rstest]
#[case::nodes("", "nodes", "get")]
#[case::kubelet("", "nodes/proxy", "get")]
#[case::kubelet_metrics_are_no_api("", "nodes/metrics", "get")]
#[case::all_namespaces("", "namespaces", "list")]
#[case::cluster_roles("rbac.authorization.k8s.io", "clusterroles", "get")]
#[case::user("", "users", "impersonate")]
#[case::signer("certificates.k8s.io", "signers", "approve")]
fn what_a_role_binding_cannot_give_is_inert(
    #[case] group: &str,
    #[case] resource: &str,
    #[case] verb: &str,
) {
    assert!(codes(asked(group, resource, verb)).contains(&"WA-INERT"));
}

#[rstest]
#[case::own_namespace("", "namespaces", "get")]
#[case::log("", "pods/log", "get")]
fn what_a_role_binding_can_give_is_not(
    #[case] group: &str,
    #[case] resource: &str,
    #[case] verb: &str,
) {
    match asked(group, resource, verb) {
        Verdict::Granted(_) => {}
        Verdict::Refused(wrong) => assert!(
            wrong
                .iter()
                .all(|v| v.code != "WA-INERT" && v.code != "WA-UNKNOWN-RESOURCE"),
            "{wrong:?}"
        ),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::typing_error("", "pod", "install its CustomResourceDefinition first")]
#[case::wrong_group("", "deployments", "'apps' serves it")]
#[case::no_such_group("example.com", "widgets", "install its CustomResourceDefinition first")]
#[case::no_such_subresource("", "pods/logs", "install its CustomResourceDefinition first")]
fn what_nothing_serves_is_unknown(#[case] group: &str, #[case] resource: &str, #[case] says: &str) {
    let Verdict::Refused(wrong) = asked(group, resource, "get") else {
        panic!("not refused");
    };
    let unknown = wrong
        .iter()
        .find(|v| v.code == "WA-UNKNOWN-RESOURCE")
        .unwrap();
    assert_eq!(unknown.path, "spec.rules[0].resources[0]");
    assert_eq!(unknown.found.as_deref(), Some(resource));
    assert!(unknown.message.contains(says), "{unknown}");
}

#[test]
fn every_wrong_resource_is_told_once() {
    let rules = json!([{"apiGroups": ["", "apps"], "resources": ["pods", "deployments"], "verbs": ["get"]}]);
    let verdict = decide(
        with(request(), "/spec/rules", rules.clone()),
        &around(&rules),
        now(),
    );
    assert_eq!(
        codes(verdict),
        ["WA-UNKNOWN-RESOURCE", "WA-UNKNOWN-RESOURCE"]
    );
}

#[test]
fn a_group_that_does_not_answer_lets_nothing_begin() {
    match asked("metrics.k8s.io", "pods", "get") {
        Verdict::NotYet {
            why: NotYet::NotReady(why),
            ..
        } => assert!(why.contains("'metrics.k8s.io'"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// A request that copies the role `reader` with these rules.
fn copying(rules: Value) -> Verdict {
    let by_role = with(request(), "/spec/rules", Value::Null);
    let by_role = with(
        by_role,
        "/spec/roleRef",
        json!({"kind": "ClusterRole", "name": "reader"}),
    );
    let all = json!([{"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["get"]}]);
    let facts = Facts {
        role: RoleFacts::Found(Role {
            rules: serde_json::from_value(rules).unwrap(),
            ..Role::default()
        }),
        ..around(&all)
    };
    decide(by_role, &facts, now())
}

#[test]
fn of_a_role_only_what_does_something_is_copied() {
    let verdict = copying(json!([
        {"apiGroups": ["", "example.com"], "resources": ["pods", "nodes", "widgets"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ]));
    let Verdict::Granted(approved) = verdict else {
        panic!("{verdict:?}");
    };
    let expected: Vec<Rule> = serde_json::from_value(json!([
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]))
    .unwrap();
    assert_eq!(approved.rules(), expected);
}

#[rstest]
#[case::wildcard(json!([{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]), "OB-W02")]
#[case::wildcard_beside_the_dead(json!([{"apiGroups": ["", "example.com"], "resources": ["nodes", "*"], "verbs": ["get"]}]), "OB-W02")]
#[case::nothing_left(json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]), "WA-INERT")]
#[case::urls_alone(json!([{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]), "WA-INERT")]
fn a_role_of_nothing_or_everything_is_refused(#[case] rules: Value, #[case] code: &str) {
    assert!(codes(copying(rules)).contains(&code));
}

fn widgets() -> Value {
    json!([{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}])
}

fn allow_widgets(world: &World) {
    let mut ceiling = world
        .api
        .get("clusterroles", "", "stint-grantable")
        .unwrap();
    ceiling["rules"] = widgets();
    world.api.seed(ceiling);
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["allow"]["rules"] = widgets();
    world.api.seed(policy);
}

fn discoveries(world: &World) -> usize {
    let calls = world.api.calls();
    calls.iter().filter(|call| call.path == "/apis").count()
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_known_when_its_definition_is_there() {
    let world = World::new();
    allow_widgets(&world);
    let _operator = world.operator();
    world.admit("early", json!({"duration": "1h", "rules": widgets()}));
    world.pass(SignedDuration::from_secs(5)).await;
    assert_eq!(world.reason("early"), "Refused");
    world.api.seed(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                 "versions": [{"name": "v1"}]}
    }));
    world.admit("late", json!({"duration": "1h", "rules": widgets()}));
    world.pass(SignedDuration::from_secs(5)).await;
    assert_eq!(world.reason("late"), "Active");
    let bindings = world.api.list("rolebindings", NAMESPACE);
    assert_eq!(bindings.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_for_unknown_resources_cost_one_look_a_second() {
    let world = World::new();
    allow_widgets(&world);
    let _operator = world.operator();
    world.pass(SignedDuration::from_secs(5)).await;
    let before = discoveries(&world);
    for i in 0..50 {
        world.admit(
            &format!("r{i}"),
            json!({"duration": "1h", "rules": widgets()}),
        );
    }
    world.pass(SignedDuration::from_secs(2)).await;
    let looks = discoveries(&world) - before;
    assert!((1..=3).contains(&looks), "{looks} looks in two seconds");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_cannot_say_what_it_serves_begins_no_grant_and_ends_none() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("before", json!({"duration": "1h"}));
    world.pass(SignedDuration::from_secs(5)).await;
    assert_eq!(world.reason("before"), "Active");
    // Longer than an answer is kept.
    world.pass(SignedDuration::from_mins(11)).await;
    world.api.harm(
        Box::new(|call| call.path == "/apis"),
        Harm::Refuse(503),
        None,
    );
    world.touch("before");
    world.admit("during", json!({"duration": "1h"}));
    world.pass(SignedDuration::from_secs(60)).await;
    assert_eq!(world.reason("before"), "Active");
    assert_ne!(world.reason("during"), "Active");
    assert_eq!(world.api.list("rolebindings", NAMESPACE).len(), 1);
}
