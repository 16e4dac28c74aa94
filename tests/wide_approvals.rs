//! Approvals of grants in the whole cluster, in virtual time: made where the account lives, and kept on the ClusterRole and its
//! binding.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use support::decision::*;
use support::world::{NAMESPACE, World};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A world whose operators grant in the whole cluster, by a policy that asks for one approval.
fn world() -> World {
    let mut world = World::new();
    world.cluster_grants = true;
    approvers(&world, &["bob"]);
    let nodes = json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]});
    let mut ceiling = world
        .api
        .get("clusterroles", "", "stint-grantable")
        .unwrap();
    ceiling["rules"].as_array_mut().unwrap().push(nodes.clone());
    world.api.seed(ceiling);
    world.api.seed(json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": "wide"},
        "spec": {
            "namespaceSelector": {"matchLabels": {"team": "payments"}},
            "serviceAccounts": {"names": ["migrator"]},
            "allow": {"cluster": true, "rules": [nodes]},
            "approval": {"required": 1}
        }
    }));
    world
}

fn admit(world: &World, name: &str, duration: &str) {
    world.api.seed(world.stamped_wide(json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": name, "generation": 1},
        "spec": {
            "serviceAccountRef": {"name": "migrator", "namespace": NAMESPACE},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "resourceNames": ["a"], "verbs": ["get"]}],
            "duration": duration, "reason": "a test"
        }
    })));
}

fn reason(world: &World, name: &str) -> String {
    let ready = &request(world, name)["status"]["conditions"][0];
    ready["reason"].as_str().unwrap_or_default().to_owned()
}

fn managed(world: &World, resource: &str) -> Vec<Value> {
    let all = world.api.list(resource, "").into_iter();
    all.filter(|o| o["metadata"]["labels"]["stint.dev/grant"].is_string())
        .collect()
}

/// How many ClusterRoleBindings and ClusterRoles of grants there are.
fn made(world: &World) -> [usize; 2] {
    ["clusterrolebindings", "clusterroles"].map(|kind| managed(world, kind).len())
}

#[tokio::test(start_paused = true)]
async fn an_approval_in_the_namespace_of_the_account_begins_it_and_stays_on_what_was_made() {
    let world = world();
    let operator = world.operator();
    admit(&world, "a", "1h");
    world.pass(SECOND).await;
    assert_eq!(reason(&world, "a"), "PendingApproval");
    let mut elsewhere = decision(&world, "x", "a", "Approve");
    elsewhere["metadata"]["namespace"] = json!("default");
    let refused = create(&world, &operator, &elsewhere, "bob").await;
    let (_, message) = refused.unwrap_err();
    assert!(
        message.contains("[WA-APPROVAL-STALE]") && message.contains("must be 'payments'"),
        "{message}"
    );
    world.api.seed(sealed(&world, elsewhere, "bob"));
    world.pass(SECOND).await;
    assert_eq!(reason(&world, "a"), "PendingApproval");

    let object = decision(&world, "yes", "a", "Approve");
    create(&world, &operator, &object, "bob").await.unwrap();
    world.pass(SECOND).await;
    assert_eq!(reason(&world, "a"), "Active");
    for kind in ["clusterroles", "clusterrolebindings"] {
        let made = managed(&world, kind).remove(0);
        let annotations = &made["metadata"]["annotations"];
        assert_eq!(annotations["stint.dev/approved-by"], "bob", "{kind}");
        assert_eq!(
            annotations["stint.dev/approved-spec"],
            json!(hash_of(&request(&world, "a"))),
            "{kind}"
        );
    }

    world.api.remove("accessapprovals", NAMESPACE, "yes");
    approvers(&world, &[]);
    drop(operator);
    let _again = world.operator();
    world.pass(MINUTE).await;
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        ("Active".into(), [1, 1])
    );
}

/// The operator is killed after its k-th write, and the approval is taken away before it is back.
async fn killed_after_write(k: u64) -> bool {
    let world = world();
    admit(&world, "a", "30s");
    decide(&world, "yes", "a", "Approve", "bob");
    let cut = world.api.cut_after_write(k);
    let first = world.operator();
    let killed = tokio::select! {
        () = cut.notified() => true,
        () = tokio::time::sleep(Duration::from_secs(120)) => false,
    };
    drop(first);
    world.api.heal();
    let began = made(&world)[1] > 0 || request(&world, "a")["status"]["activatedTime"].is_string();
    world.api.remove("accessapprovals", NAMESPACE, "yes");
    world.pass(SECOND).await;
    let _second = world.operator();
    world.pass(MINUTE * 3).await;
    let expected = match began {
        true => "Expired",
        false => "PendingApproval",
    };
    assert_eq!(
        (reason(&world, "a"), made(&world)),
        (expected.into(), [0, 0]),
        "killed after write {k}"
    );
    killed
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_what_was_recorded_as_approved_goes_on_and_nothing_else_begins() {
    let mut writes = 0;
    while killed_after_write(writes + 1).await {
        writes += 1;
    }
    assert!(writes >= 6, "saw {writes}");
}
