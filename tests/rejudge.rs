//! Who is looked at again when something changes: exactly the requests that it concerns, and a flood of changes once.

use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::world::{NAMESPACE, Operator, World};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Two teams with a policy of their own each, two accounts in the first; all requests are active.
async fn teams() -> (World, Operator) {
    let world = World::new();
    world.api.service_account(NAMESPACE, "other", json!({}));
    world.api.seed(policy("others", "payments", "other"));
    let operator = world.operator();
    world.admit("mine", json!({"duration": "4h"}));
    let account = json!({"name": "other"});
    world.admit(
        "theirs",
        json!({"duration": "4h", "serviceAccountRef": account}),
    );
    world.pass(SECOND * 2).await;
    assert_eq!(
        (world.reason("mine"), world.reason("theirs")),
        ("Active".into(), "Active".into())
    );
    world.api.clear_calls();
    (world, operator)
}

fn policy(name: &str, team: &str, account: &str) -> Value {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": name},
        "spec": {
            "namespaceSelector": {"matchLabels": {"team": team}},
            "serviceAccounts": {"names": [account]},
            "allow": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]},
            "limits": {"maxDuration": "24h"}
        }
    })
}

/// The requests that were read since the last question: one read for each look.
async fn looked_at(world: &World) -> Vec<String> {
    world.pass(SECOND * 2).await;
    let calls = world.api.calls();
    world.api.clear_calls();
    let reads = calls
        .into_iter()
        .filter(|c| c.method == "GET" && c.resource == "workloadaccesses" && !c.name.is_empty());
    reads.map(|c| c.name).collect()
}

fn role(name: &str, verbs: &[&str], resource: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
           "rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]})
}

fn binding(name: &str, role: &str, account: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
           "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
           "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]})
}

#[tokio::test(start_paused = true)]
async fn a_policy_concerns_the_namespaces_that_it_selected_or_selects() {
    let (world, _operator) = teams().await;
    world.api.seed(policy("elsewhere", "builds", "migrator"));
    assert_eq!(looked_at(&world).await, [""; 0], "another team's");
    let mut narrower = policy("others", "payments", "other");
    narrower["spec"]["limits"]["maxDuration"] = json!("23h");
    narrower["metadata"]["generation"] = json!(2);
    world.api.seed(narrower);
    let looked: BTreeSet<String> = looked_at(&world).await.into_iter().collect();
    assert_eq!(looked, BTreeSet::from(["mine".into(), "theirs".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_withdraws_ends_its_grants_and_not_their_neighbours() {
    let (world, _operator) = teams().await;
    let mut closed = policy("others", "payments", "other");
    closed["spec"]["allow"]["rules"][0]["resources"] = json!(["secrets"]);
    closed["metadata"]["generation"] = json!(2);
    world.api.seed(closed);
    world.pass(SECOND).await;
    assert_eq!(world.reason("theirs"), "PolicyWithdrawn");
    assert_eq!(world.reason("mine"), "Active");
}

#[tokio::test(start_paused = true)]
async fn only_labels_of_a_namespace_and_an_account_matter() {
    let (world, _operator) = teams().await;
    let mut namespace = world.api.get("namespaces", "", NAMESPACE).unwrap();
    namespace["metadata"]["annotations"] = json!({"note": "x"});
    world.api.seed(namespace.clone());
    let mut account = world
        .api
        .get("serviceaccounts", NAMESPACE, "other")
        .unwrap();
    account["metadata"]["annotations"] = json!({"note": "x"});
    world.api.seed(account.clone());
    assert_eq!(
        looked_at(&world).await,
        [""; 0],
        "annotations concern nobody"
    );

    account["metadata"]["labels"] = json!({"tier": "1"});
    world.api.seed(account);
    assert_eq!(looked_at(&world).await, ["theirs"]);

    namespace["metadata"]["labels"] = json!({"team": "builds"});
    world.api.seed(namespace);
    world.pass(SECOND).await;
    assert_eq!(world.reason("mine"), "PolicyWithdrawn");
    assert_eq!(world.reason("theirs"), "PolicyWithdrawn");
}

#[tokio::test(start_paused = true)]
async fn a_standing_binding_concerns_the_account_that_holds_it() {
    let (world, _operator) = teams().await;
    world.api.seed(role("old", &["get"], "secrets"));
    assert_eq!(looked_at(&world).await, [""; 0], "nobody holds it");
    world.api.seed(binding("old", "old", "other"));
    assert_eq!(looked_at(&world).await, ["theirs"]);
    world.api.seed(role("old", &["get"], "services"));
    assert_eq!(looked_at(&world).await, ["theirs"], "what it holds changed");
    world.api.seed(role("old", &["list"], "services"));
    assert_eq!(
        looked_at(&world).await,
        [""; 0],
        "to the catalogue it did not"
    );
    world.api.remove("clusterrolebindings", "", "old");
    assert_eq!(looked_at(&world).await, ["theirs"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_changes_are_looked_at_a_few_times() {
    let (world, _operator) = teams().await;
    world.api.seed(binding("old", "old", "other"));
    looked_at(&world).await;
    for n in 0..1000 {
        let resource = if n % 2 == 0 { "secrets" } else { "services" };
        world.api.seed(role("old", &["get"], resource));
    }
    let looked = looked_at(&world).await;
    assert!(looked.iter().all(|name| name == "theirs"), "{looked:?}");
    assert!(
        !looked.is_empty() && looked.len() < 50,
        "{} looks",
        looked.len()
    );
}
