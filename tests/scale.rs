//! What is very large costs a bounded amount and is refused above its caps: accounts with ten thousand bindings, roles of
//! three megabytes, roles put together over many levels.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleBinding};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stint::cluster::standing::{Standing, Touched};
use stint::domain::facts::{Facts, Role, RoleFacts};
use stint::domain::grant::Account;
use stint::domain::judge::Verdict;
use stint::domain::patterns::Patterns;
use stint::domain::request::Place;
use stint::domain::rules::Rule;
use support::case::{codes, decide, facts, now, request, rule, with};

const BINDINGS: usize = 10_000;

fn typed<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// A role of its own for each binding; every hundredth may do something that the catalogue knows.
fn role(i: usize) -> ClusterRole {
    let (resource, verb) = match i % 100 {
        0 => ("secrets", "get"),
        1 => ("pods", "create"),
        2 => ("pods/exec", "create"),
        _ => ("configmaps", "get"),
    };
    typed(json!({
        "metadata": {"name": format!("role-{i:05}")},
        "rules": [{"apiGroups": [""], "resources": [resource], "verbs": [verb]}]
    }))
}

fn binding(i: usize) -> RoleBinding {
    typed(json!({
        "metadata": {"name": format!("binding-{i:05}"), "namespace": "payments"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("role-{i:05}")},
        "subjects": [{"kind": "ServiceAccount", "name": "migrator", "namespace": "payments"}]
    }))
}

fn bind(standing: &mut Standing, i: usize) -> Vec<Touched> {
    let binding = binding(i);
    standing.binding(&binding, &binding.role_ref, binding.subjects.as_deref())
}

#[test]
fn what_ten_thousand_bindings_give_is_told_by_the_few_that_add_something() {
    let mut standing = Standing::default();
    let mut all = Patterns::default();
    for i in 0..BINDINGS {
        let role = role(i);
        let rules: Vec<Rule> = role.rules.iter().flatten().map(Rule::from).collect();
        all = all.union(Patterns::of(&rules));
        standing.role(&role, role.rules.as_deref());
        let touched: BTreeSet<Touched> = bind(&mut standing, i).into_iter().collect();
        assert_eq!(
            touched,
            [Touched::Account("payments/migrator".into())].into(),
            "one binding concerns its account and nobody else"
        );
        assert!(bind(&mut standing, i).is_empty(), "seen again, nothing");
    }
    let account = Account {
        namespace: "payments".into(),
        name: "migrator".into(),
    };
    let place = Place::Namespace("payments".into());
    let held = standing.held(&account, &place, "");
    let sum = held
        .iter()
        .fold(Patterns::default(), |sum, h| sum.union(h.patterns));
    assert_eq!(sum, all, "nothing that the catalogue knows is missed");
    assert!(held.len() <= 3, "{} bindings are named", held.len());

    // Each event costs its own binding; at the end nothing is left.
    for i in 0..BINDINGS {
        standing.binding_gone(&binding(i));
    }
    assert!(standing.held(&account, &place, "").is_empty());
}

/// A role with this many rules of one right each.
fn of_size(rules: usize) -> Facts {
    let one = |i: usize| Rule {
        resource_names: vec![format!("billing-{i:040}")],
        ..rule("", "configmaps", &["get"])
    };
    Facts {
        role: RoleFacts::Found(Role {
            rules: (0..rules).map(one).collect(),
            ..Role::default()
        }),
        ..facts()
    }
}

fn by_role() -> Value {
    let request = with(request(), "/spec/rules", Value::Null);
    with(
        request,
        "/spec/roleRef",
        json!({"kind": "ClusterRole", "name": "reader"}),
    )
}

#[test]
fn a_role_of_three_megabytes_is_refused_for_its_size_alone() {
    let facts = of_size(25_000);
    let RoleFacts::Found(role) = &facts.role else {
        unreachable!("it was found")
    };
    assert!(serde_json::to_vec(&role.rules).unwrap().len() > 3_000_000);
    let refused = codes(decide(by_role(), &facts, now()));
    assert_eq!(refused, ["OB-R05"]);
}

#[test]
fn a_role_within_the_caps_is_copied() {
    let verdict = decide(by_role(), &of_size(64), now());
    assert!(matches!(verdict, Verdict::Granted(_)), "{verdict:?}");
}

#[test]
fn a_role_of_any_size_is_one_entry_of_the_index() {
    let wide: Vec<PolicyRule> = (0..25_000)
        .map(|i| {
            typed(json!({"apiGroups": [""], "resources": [format!("kind-{i}")], "verbs": ["get"]}))
        })
        .collect();
    let role = ClusterRole {
        rules: Some(wide),
        ..role(0)
    };
    let mut standing = Standing::default();
    assert!(!standing.role(&role, role.rules.as_deref()).is_empty());
    assert!(standing.role(&role, role.rules.as_deref()).is_empty());
    assert!(std::mem::size_of_val(&Patterns::default()) <= 64);
}
