//! Audit events as the API server writes them.

use serde_json::{Value, json};

/// When events arrive that say nothing else.
pub const NOON: &str = "2026-12-01T12:00:00.000000Z";

/// UID of the account that they are of.
pub const UID: &str = "5f63ab11-3b2c-47c6-bf19-a4706d1170bc";

/// A request of `payments/migrator` that was allowed, as `VERB RESOURCE[.GROUP][/SUB] [NAMESPACE/][NAME]`; a target of `-` has
/// neither.
pub fn event(asked: &str) -> Value {
    let mut words = asked.split(' ');
    let (verb, on, target) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap_or("-"),
    );
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "9d0a2c1e-7a3b-4c55-8a21-0f6a1c2d3e4f",
        "stage": "ResponseComplete", "requestURI": "/", "verb": verb,
        "user": {"username": "system:serviceaccount:payments:migrator", "uid": UID,
                 "groups": ["system:serviceaccounts", "system:serviceaccounts:payments", "system:authenticated"]},
        "sourceIPs": ["10.0.0.7"], "userAgent": "migrate/1.0", "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": NOON, "stageTimestamp": NOON,
        "annotations": {"authorization.k8s.io/decision": "allow",
                        "authorization.k8s.io/reason": "RBAC: allowed by RoleBinding \"work/payments\" of Role \"work\" to ServiceAccount \"migrator/payments\""}
    });
    if on.starts_with('/') {
        event["requestURI"] = on.into();
        return event;
    }
    let (on, sub) = on.split_once('/').unwrap_or((on, ""));
    let (resource, group) = on.split_once('.').unwrap_or((on, ""));
    let (namespace, name) = match target.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None if target == "-" => ("", ""),
        None => ("", target),
    };
    let root = if group.is_empty() {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{group}/v1")
    };
    let mut uri = root;
    if !namespace.is_empty() {
        uri += &format!("/namespaces/{namespace}");
    }
    uri += &format!("/{resource}");
    // The name of a new object is in the body alone.
    if !name.is_empty() && (verb != "create" || !sub.is_empty()) {
        uri += &format!("/{name}");
    }
    let mut object = json!({"resource": resource, "apiVersion": "v1"});
    for (field, text) in [
        ("apiGroup", group),
        ("namespace", namespace),
        ("name", name),
        ("subresource", sub),
    ] {
        if !text.is_empty() {
            object[field] = text.into();
        }
    }
    event["requestURI"] = uri.into();
    event["objectRef"] = object;
    event
}

/// The same with other fields, by JSON pointer.
pub fn with(asked: &str, changes: &[(&str, Value)]) -> Value {
    let mut event = event(asked);
    for (pointer, value) in changes {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        event.pointer_mut(parent).unwrap()[field.replace("~1", "/")] = value.clone();
    }
    event
}

/// The same, refused.
pub fn refused(asked: &str) -> Value {
    with(
        asked,
        &[
            ("/responseStatus/code", json!(403)),
            (
                "/annotations",
                json!({"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""}),
            ),
        ],
    )
}

/// One event to a line, in the field order of the API server, which a JSON map does not keep.
pub fn log(events: &[Value]) -> String {
    events.iter().map(line).collect()
}

/// One of them.
pub fn line(event: &Value) -> String {
    const ORDER: [&str; 16] = [
        "kind",
        "apiVersion",
        "level",
        "auditID",
        "stage",
        "requestURI",
        "verb",
        "user",
        "impersonatedUser",
        "sourceIPs",
        "userAgent",
        "objectRef",
        "responseStatus",
        "requestReceivedTimestamp",
        "stageTimestamp",
        "annotations",
    ];
    let fields: Vec<String> = ORDER
        .iter()
        .filter_map(|name| Some(format!("\"{name}\":{}", event.get(name)?)))
        .collect();
    format!("{{{}}}\n", fields.join(","))
}
