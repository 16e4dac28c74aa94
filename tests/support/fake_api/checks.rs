//! What a change of an object must keep to.

use super::{reply::Failure, request::Target, store::finalizers};
use serde_json::Value;

/// A resourceVersion that says nothing.
pub fn is_unset(value: &Value) -> bool {
    value.is_null() || value == "" || value == "0"
}

/// Versions and UIDs that a write carries must be those of the object.
pub fn check_identity(
    target: &Target,
    old: &Value,
    new: &Value,
    whole: bool,
) -> Result<(), Failure> {
    let (old, new) = (&old["metadata"], &new["metadata"]);
    if is_unset(&new["resourceVersion"]) {
        if whole && target.kind.needs_version_on_update() {
            let text = "Invalid value: 0: must be specified for an update";
            let field = "metadata.resourceVersion";
            return Err(target.invalid(target.name(), field, "FieldValueInvalid", text));
        }
    } else if new["resourceVersion"] != old["resourceVersion"] {
        return Err(target.stale());
    }
    let uid = new["uid"].as_str().unwrap_or_default();
    let known = old["uid"].as_str().unwrap_or_default();
    if uid.is_empty() || uid == known {
        return Ok(());
    }
    if whole {
        return Err(target.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {known}"
        )));
    }
    let text = format!("Invalid value: {uid:?}: field is immutable");
    Err(target.invalid(target.name(), "metadata.uid", "FieldValueInvalid", &text))
}

/// What may never change once it is set.
pub fn check_immutable(target: &Target, old: &Value, new: &Value) -> Result<(), Failure> {
    let refuse = |field: &str, value: &Value| {
        let text = format!("Invalid value: {value}: field is immutable");
        Err(target.invalid(target.name(), field, "FieldValueInvalid", &text))
    };
    if target.kind.group == "rbac.authorization.k8s.io" && old["roleRef"] != new["roleRef"] {
        return refuse("roleRef", &new["roleRef"]);
    }
    if target.kind.kind == "Job" {
        for field in ["template", "selector", "completions", "completionMode"] {
            if old["spec"][field] != new["spec"][field] {
                return refuse(&format!("spec.{field}"), &new["spec"][field]);
            }
        }
    }
    let ending = !old["metadata"]["deletionTimestamp"].is_null();
    let known = finalizers(old);
    let added: Vec<String> = finalizers(new)
        .into_iter()
        .filter(|f| !known.contains(f))
        .collect();
    if ending && !added.is_empty() {
        let text = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
        );
        return Err(target.invalid(
            target.name(),
            "metadata.finalizers",
            "FieldValueForbidden",
            &text,
        ));
    }
    Ok(())
}
