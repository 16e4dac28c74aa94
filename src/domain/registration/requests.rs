//! The webhooks on Stint's own kinds.

use super::{Entry, Rule};

const CREATED_OR_CHANGED: &[&str] = &["CREATE", "UPDATE"];

/// Whether an annotation that only the operator can make would change.
const RECEIPT_CHANGES: &str = "object.metadata.?annotations[?'stint.dev/receipt'] != \
                               oldObject.metadata.?annotations[?'stint.dev/receipt']";

/// Of the MutatingWebhookConfiguration.
pub fn mutating(cluster_grants: bool) -> Vec<Entry> {
    vec![
        Entry {
            name: "receipt.workloadaccess.stint.dev",
            path: "/mutate",
            failure: Some("Fail".to_owned()),
            rules: accesses(CREATED_OR_CHANGED, cluster_grants),
            namespaces: Vec::new(),
            conditions: vec![(
                "create-or-end-or-receipt",
                format!(
                    "request.operation == 'CREATE' || {} || {RECEIPT_CHANGES}",
                    one_of_changes("'notAfter', 'duration'")
                ),
            )],
        },
        Entry {
            name: "seal.accessapproval.stint.dev",
            path: "/mutate",
            failure: Some("Fail".to_owned()),
            rules: vec![own(CREATED_OR_CHANGED, &["accessapprovals"], "Namespaced")],
            namespaces: Vec::new(),
            conditions: vec![(
                "create-or-seal",
                format!("request.operation == 'CREATE' || {RECEIPT_CHANGES}"),
            )],
        },
    ]
}

/// Of the ValidatingWebhookConfiguration.
pub fn validating(cluster_grants: bool) -> Vec<Entry> {
    let parts = "'serviceAccountRef', 'rules', 'roleRef', 'notBefore', 'notAfter', 'duration', 'until', 'workloadRef', 'reason', \
                 'ticket', 'urgency'";
    vec![
        Entry {
            name: "workloadaccess.stint.dev",
            path: "/validate",
            failure: Some("Fail".to_owned()),
            rules: accesses(CREATED_OR_CHANGED, cluster_grants),
            namespaces: Vec::new(),
            conditions: vec![(
                "create-or-spec-or-receipt",
                format!(
                    "request.operation == 'CREATE' || {} || {RECEIPT_CHANGES}",
                    one_of_changes(parts)
                ),
            )],
        },
        Entry {
            name: "accessapproval.stint.dev",
            path: "/validate",
            failure: Some("Fail".to_owned()),
            rules: vec![own(CREATED_OR_CHANGED, &["accessapprovals"], "Namespaced")],
            namespaces: Vec::new(),
            conditions: vec![(
                "create-or-spec-or-seal",
                format!(
                    "request.operation == 'CREATE' || object.spec != oldObject.spec || {RECEIPT_CHANGES}"
                ),
            )],
        },
        // The kill switch and the end of a request must work while the webhook is down.
        Entry {
            name: "accesspolicy.stint.dev",
            path: "/validate",
            failure: Some("Ignore".to_owned()),
            rules: vec![own(CREATED_OR_CHANGED, &["accesspolicies"], "Cluster")],
            namespaces: Vec::new(),
            conditions: Vec::new(),
        },
        Entry {
            name: "delete.workloadaccess.stint.dev",
            path: "/validate",
            failure: Some("Ignore".to_owned()),
            rules: accesses(&["DELETE"], cluster_grants),
            namespaces: Vec::new(),
            conditions: Vec::new(),
        },
    ]
}

fn accesses(operations: &'static [&'static str], cluster_grants: bool) -> Vec<Rule> {
    let mut rules = vec![own(operations, &["workloadaccesses"], "Namespaced")];
    if cluster_grants {
        rules.push(own(operations, &["clusterworkloadaccesses"], "Cluster"));
    }
    rules
}

fn own(
    operations: &'static [&'static str],
    resources: &'static [&'static str],
    scope: &'static str,
) -> Rule {
    Rule {
        group: "stint.dev",
        version: "v1alpha1",
        operations,
        resources,
        scope,
    }
}

fn one_of_changes(fields: &str) -> String {
    format!(
        "[{fields}].exists(f, (f in object.spec) != (f in oldObject.spec) || \
         (f in object.spec && object.spec[f] != oldObject.spec[f]))"
    )
}
