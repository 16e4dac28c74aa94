//! A request that is fine in every respect, what surrounds it, and the words for what became of it.

use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use stint::api::{AccessPolicy, WorkloadAccess, workload_access::EndReason};
use stint::domain::covers::Ceiling;
use stint::domain::extension::Edits;
use stint::domain::facts::{AccountFacts, Facts, Live, RoleFacts, UntilFacts, WorkloadFacts};
use stint::domain::grant::Grant;
use stint::domain::judge::{Verdict, judge};
use stint::domain::policy::Policy;
use stint::domain::receipt::Requester;
use stint::domain::rules::Rule;

pub const NOW: &str = "2026-12-01T12:00:00Z";

/// An instant.
pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    at(NOW)
}

/// A request that is fine in every respect, to be spoilt in one.
pub fn request() -> Value {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": "migrate-42", "namespace": "payments", "uid": "11112222-3333"},
        "spec": {
            "serviceAccountRef": {"name": "migrator"},
            "rules": [{"apiGroups": ["apps"], "resources": ["deployments"],
                       "resourceNames": ["billing-api"], "verbs": ["get", "patch"]}],
            "duration": "30m", "reason": "schema change 42"
        }
    })
}

pub fn policy() -> Value {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "AccessPolicy",
        "metadata": {"name": "payments-jobs", "uid": "p-1", "generation": 3},
        "spec": {
            "namespaceSelector": {"matchLabels": {"team": "payments"}},
            "serviceAccounts": {"names": ["migrator"]},
            "allow": {"rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}],
                      "findings": ["OB-P01", "OB-X04"], "roleRefs": [{"kind": "ClusterRole", "name": "reader"}]},
            "limits": {"maxDuration": "8h", "maxActivePerAccount": 2}
        }
    })
}

pub fn rule(group: &str, resource: &str, verbs: &[&str]) -> Rule {
    serde_json::from_value(json!({"apiGroups": [group], "resources": [resource], "verbs": verbs}))
        .unwrap()
}

pub fn compiled(policy: Value) -> Arc<Policy> {
    let object: AccessPolicy = serde_json::from_value(policy).unwrap();
    Arc::new(Policy::compile(&object).unwrap())
}

pub fn facts() -> Facts {
    let ceiling = [
        rule("apps", "deployments", &["get", "list", "watch", "patch"]),
        rule("", "configmaps", &["get", "list"]),
    ];
    Facts {
        requester: Requester {
            username: "alice".into(),
            uid: String::new(),
            groups: vec![],
        },
        requested_at: now(),
        extension: None,
        namespace_labels: [("team".into(), "payments".into())].into(),
        privileged_namespace: false,
        account: Some(AccountFacts {
            uid: "sa-1".into(),
            labels: [].into(),
        }),
        role: RoleFacts::NotReferenced,
        copy: None,
        policies: vec![(compiled(policy()), true)],
        approvals: vec![],
        broken_policies: 0,
        ceiling: Some(Arc::new(Ceiling::compile(&ceiling))),
        served: None,
        held: vec![],
        held_in: vec![],
        active_others: 0,
        held_since: [].into(),
        until: UntilFacts::NotReferenced,
        workload: WorkloadFacts::NotReferenced,
        live: None,
        promised_end: None,
        ended: None,
    }
}

pub fn live(since: &str, not_after: &str) -> Live {
    Live {
        since: at(since),
        not_after: at(not_after),
        account_uid: "sa-1".into(),
        policy: "payments-jobs".into(),
        rules_hash: String::new(),
        held_since: at(since),
        source: None,
        approval: None,
        edits: Edits::default(),
        in_namespaces: false,
        until_uid: None,
        taken_away: false,
        doubtful: false,
    }
}

/// Sets the value at a JSON pointer; `null` removes the field.
pub fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(field)),
        (Value::Object(fields), value) => drop(fields.insert(field.into(), value)),
        (Value::Array(items), value) => items[field.parse::<usize>().unwrap()] = value,
        _ => panic!("no such place: {pointer}"),
    }
    object
}

pub fn decide(request: Value, facts: &Facts, now: Timestamp) -> Verdict {
    let object: WorkloadAccess = serde_json::from_value(request).unwrap();
    match Grant::parse(&object) {
        Ok(grant) => judge(&grant, facts, now),
        Err(violations) => Verdict::Refused(violations),
    }
}

pub fn codes(verdict: Verdict) -> Vec<&'static str> {
    match verdict {
        Verdict::Refused(violations) => violations.iter().map(|v| v.code).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

pub fn expires_at(verdict: Verdict) -> Timestamp {
    match verdict {
        Verdict::Granted(approved) => approved.not_after(),
        other => panic!("not granted: {other:?}"),
    }
}

pub fn ended(verdict: Verdict) -> EndReason {
    match verdict {
        Verdict::Over { reason, .. } => reason,
        other => panic!("not over: {other:?}"),
    }
}
