//! An AccessApproval of the input. What decides about it is in the cluster alone; files tell whether it is well formed.

use crate::read::Object;
use crate::report::{Finding, Judged, Level};
use crate::schema;

/// Judges the form of one approval.
pub fn judge_approval(object: &Object, namespace: &str) -> Judged {
    let wrong = schema::violations(&object.kind, &object.node);
    let finding = |v| Finding::violation(object, Level::Error, v);
    let mut findings: Vec<Finding> = wrong.iter().map(finding).collect();
    if findings.is_empty() {
        let text = "not judged: whether the request is still the one that is meant, and who may decide on it; --online asks the cluster";
        let note = Finding::remark(object, Level::Note, "spec.requestRef", text.to_owned());
        findings.push(note);
    }
    Judged::new(object, Some(namespace), findings, true)
}
