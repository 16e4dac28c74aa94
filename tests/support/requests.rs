//! Random requests around a policy: most are nearly fine, some are wild.

use super::dice::Dice;
use serde_json::{Value, json};
use stint::domain::rules::{self, Request, Rule};

/// What the operator may hand out.
pub fn ceiling() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["configmaps", "pods", "pods/log", "services"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update", "patch", "delete"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    ])
}

/// The envelope of the policy.
pub fn envelope() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["configmaps", "pods", "pods/log"], "verbs": ["get", "list", "watch", "update"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": ["get", "create"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]}
    ])
}

/// ClusterRoles that a request may name.
pub fn roles() -> [(&'static str, Value); 4] {
    [
        (
            "reader",
            json!([{"apiGroups": ["", "apps"], "resources": ["configmaps", "pods", "nodes"], "verbs": ["get", "list"]}]),
        ),
        (
            "writer",
            json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "update"]},
                          {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]),
        ),
        (
            "owner",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
        ),
        ("empty", json!([])),
    ]
}

const GROUPS: [&str; 5] = ["", "", "apps", "batch", "example.com"];
const RESOURCES: [&str; 10] = [
    "configmaps",
    "configmaps",
    "pods",
    "pods/log",
    "deployments",
    "deployments/scale",
    "secrets",
    "services",
    "nodes",
    "jobs",
];
const VERBS: [&str; 8] = [
    "get", "get", "list", "watch", "update", "patch", "create", "delete",
];
const NAMES: [&str; 3] = ["a", "b", "c"];

/// The policy's spec without its selectors.
pub fn policy(namespace_labels: Value) -> Value {
    json!({
        "namespaceSelector": {"matchLabels": namespace_labels},
        "serviceAccounts": {"selector": {}},
        "allow": {
            "rules": envelope(),
            "findings": ["OB-P01", "OB-X04"],
            "roleRefs": [{"kind": "ClusterRole", "name": "reader"}, {"kind": "ClusterRole", "name": "writer"}]
        },
        "limits": {"maxDuration": "8h", "requireResourceNames": "Writes"},
        "conditions": [{"expression": "risk != 'High' || has(request.spec.ticket)", "message": "wants a ticket for this"}]
    })
}

/// A request of this name for the account of the same name.
pub fn request(dice: &mut Dice, namespace: &str, name: &str) -> Value {
    let mut spec = json!({
        "serviceAccountRef": {"name": name},
        "reason": "a case",
        "duration": dice.pick(&["30m", "30m", "1h", "1h", "8h", "9h", "30h"]),
    });
    if dice.percent(3) {
        spec["reason"] = dice.pick(&[" ", "\u{202e}"]).into();
    }
    if dice.percent(50) {
        spec["ticket"] = "CHG-1".into();
    }
    if dice.percent(3) {
        spec["serviceAccountRef"]["name"] = dice.pick(&["default", "nobody"]).into();
    }
    if dice.percent(12) {
        let role = dice.pick(&["reader", "writer", "owner", "empty", "missing"]);
        spec["roleRef"] = json!({"kind": "ClusterRole", "name": role});
    } else {
        let mut rules = dice.up_to(1, rule);
        rules.push(rule(dice));
        spec["rules"] = rules.into();
    }
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": name, "namespace": namespace, "generation": 1}, "spec": spec
    })
}

/// Half of the rules are taken from the envelope, so that many requests are fine.
fn rule(dice: &mut Dice) -> Value {
    let mut rule = if dice.percent(80) {
        let envelope = envelope();
        let one = dice.below(4);
        let mut rule = envelope[one].clone();
        let verbs = rule["verbs"].as_array_mut().unwrap();
        let verb = dice.below(verbs.len());
        *verbs = vec![verbs[verb].clone()];
        let resources = rule["resources"].as_array_mut().unwrap();
        let resource = dice.below(resources.len());
        *resources = vec![resources[resource].clone()];
        rule
    } else {
        json!({"apiGroups": [dice.pick(&GROUPS)], "resources": [dice.pick(&RESOURCES)], "verbs": [dice.pick(&VERBS)]})
    };
    if dice.percent(75) {
        rule["resourceNames"] = json!([dice.pick(&NAMES)]);
    }
    if dice.percent(4) {
        let list = dice.pick(&["verbs", "resources", "apiGroups", "resourceNames"]);
        rule[list] = json!([dice.pick(&["*", "", "Get", "pods/*", "users"])]);
    }
    rule
}

/// Every question about these groups, resources, names and verbs.
pub fn questions() -> Vec<Question> {
    let mut all = Vec::new();
    for group in ["", "apps", "batch", "example.com"] {
        for resource in [
            "configmaps",
            "pods",
            "deployments",
            "secrets",
            "services",
            "nodes",
            "jobs",
        ] {
            for subresource in ["", "log", "scale"] {
                for name in ["", "a", "b", "c"] {
                    for verb in [
                        "get", "list", "watch", "update", "patch", "create", "delete", "bind",
                    ] {
                        all.push(Question {
                            group,
                            resource,
                            subresource,
                            name,
                            verb,
                        });
                    }
                }
            }
        }
    }
    all
}

/// One request to the API server.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub group: &'static str,
    pub resource: &'static str,
    pub subresource: &'static str,
    pub name: &'static str,
    pub verb: &'static str,
}

impl Question {
    /// Whether any of the rules allows it, by upstream's authorizer.
    pub fn allowed_by(&self, rules: &[Rule]) -> bool {
        let request = Request::Resource {
            verb: self.verb,
            group: self.group,
            resource: self.resource,
            subresource: self.subresource,
            name: self.name,
        };
        rules.iter().any(|rule| rules::allows(rule, &request))
    }
}

/// Rules as the API server stores them.
pub fn parsed(rules: &Value) -> Vec<Rule> {
    serde_json::from_value(rules.clone()).unwrap()
}
