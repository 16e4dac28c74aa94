//! A world whose operators grant rights in the whole cluster.

use crate::world::{NAMESPACE, World};
use serde_json::{Value, json};

/// A world with a policy and a ceiling for nodes, whose operators grant in the whole cluster.
pub fn world() -> World {
    let mut world = World::new();
    world.cluster_grants = true;
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
            "limits": {"maxDuration": "24h"}
        }
    }));
    world
}

/// Puts a request into the cluster as if it had just been admitted.
pub fn admit(world: &World, name: &str, window: Value) {
    let mut object = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": name, "generation": 1},
        "spec": {
            "serviceAccountRef": {"name": "migrator", "namespace": NAMESPACE},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "resourceNames": ["a"], "verbs": ["get"]}],
            "reason": "a test"
        }
    });
    for (field, value) in window.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    world.api.seed(world.stamped_wide(object));
}
