//! Fields that the API server fills in; a controller that compares what it wants with what it sees meets them.

use super::{kinds::Kind, store::remove_field};
use base64::Engine as _;
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Defaults of a new object.
pub fn on_create(kind: &Kind, object: &mut Value) {
    match kind.kind.as_str() {
        "Job" => job(object),
        "Namespace" => namespace(object),
        _ => {}
    }
    on_update(kind, object);
}

/// Defaults of every write.
pub fn on_update(kind: &Kind, object: &mut Value) {
    drop_empty(
        &mut object["metadata"],
        &["labels", "annotations", "finalizers", "ownerReferences"],
    );
    if !kind.custom {
        drop_empty(object, &["data", "binaryData", "subjects"]);
    }
    match kind.kind.as_str() {
        "RoleBinding" | "ClusterRoleBinding" => binding(object),
        "Secret" => secret(object),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => webhooks(object),
        _ => {}
    }
}

/// Typed maps and lists that are empty are as good as absent.
fn drop_empty(object: &mut Value, fields: &[&str]) {
    for field in fields {
        let map = object[*field].as_object().is_some_and(|m| m.is_empty());
        let list = object[*field].as_array().is_some_and(|l| l.is_empty());
        if map || list || object[*field].is_null() {
            remove_field(object, field);
        }
    }
}

fn absent(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

fn job(object: &mut Value) {
    let uid = object["metadata"]["uid"].clone();
    let name = object["metadata"]["name"].clone();
    for metadata in ["/metadata", "/spec/template/metadata"] {
        if metadata != "/metadata" {
            absent(&mut object["spec"]["template"], "metadata", json!({}));
        }
        if let Some(metadata) = object.pointer_mut(metadata) {
            absent(metadata, "labels", json!({}));
            let labels = &mut metadata["labels"];
            for key in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
                labels[key] = uid.clone();
            }
            for key in ["batch.kubernetes.io/job-name", "job-name"] {
                labels[key] = name.clone();
            }
        }
    }
    let spec = &mut object["spec"];
    spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    if spec["parallelism"].is_null() && spec["completions"].is_null() {
        spec["completions"] = 1.into();
    }
    let fixed = json!({"parallelism": 1, "backoffLimit": 6, "manualSelector": false, "completionMode": "NonIndexed",
        "suspend": false, "podReplacementPolicy": "TerminatingOrFailed"});
    fill(spec, &fixed);
    pod(&mut spec["template"]["spec"]);
    object["status"] = json!({});
}

fn pod(spec: &mut Value) {
    let fixed = json!({"terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "securityContext": {},
        "schedulerName": "default-scheduler"});
    fill(spec, &fixed);
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        let image = container["image"].as_str().unwrap_or_default();
        let tag = image.rsplit('/').next().unwrap_or_default();
        let floats = !image.contains('@') && (!tag.contains(':') || tag.ends_with(":latest"));
        let pull = if floats { "Always" } else { "IfNotPresent" };
        let fixed = json!({"resources": {}, "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File", "imagePullPolicy": pull});
        fill(container, &fixed);
    }
}

fn fill(object: &mut Value, fixed: &Value) {
    for (field, value) in fixed.as_object().into_iter().flatten() {
        absent(object, field, value.clone());
    }
}

fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    absent(&mut object["metadata"], "labels", json!({}));
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    object["spec"] = json!({"finalizers": ["kubernetes"]});
    object["status"] = json!({"phase": "Active"});
}

fn binding(object: &mut Value) {
    if object["roleRef"]["apiGroup"].is_null() || object["roleRef"]["apiGroup"] == "" {
        object["roleRef"]["apiGroup"] = RBAC.into();
    }
    for subject in object["subjects"].as_array_mut().into_iter().flatten() {
        if subject["kind"] == "User" || subject["kind"] == "Group" {
            absent(subject, "apiGroup", RBAC.into());
        }
    }
}

fn secret(object: &mut Value) {
    absent(object, "type", "Opaque".into());
    let texts = object["stringData"].take();
    for (key, text) in texts.as_object().into_iter().flatten() {
        let bytes = text.as_str().unwrap_or_default();
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
        absent(object, "data", json!({}));
        object["data"][key] = encoded.into();
    }
    super::write::drop_nulls(object);
}

fn webhooks(object: &mut Value) {
    for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
        let fixed = json!({"failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10,
            "namespaceSelector": {}, "objectSelector": {}});
        fill(webhook, &fixed);
        for rule in webhook["rules"].as_array_mut().into_iter().flatten() {
            absent(rule, "scope", "*".into());
        }
        if let Some(service) = webhook.pointer_mut("/clientConfig/service") {
            absent(service, "port", 443.into());
        }
    }
}
