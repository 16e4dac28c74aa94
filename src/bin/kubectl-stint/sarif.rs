//! The report as SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), as far as code scanners read it.

use crate::pages;
use crate::report::{Finding, Judged, Level, Report};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stint::domain::catalogue::Severity;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The rule of findings that have no code: what could not be judged, and remarks.
const REMARK: &str = "remark";

/// The rule of a right that the audit log does not show in use.
pub const UNUSED_RULE: &str = "unused-rule";
/// The rule of something that an account tried and the authorizer refused.
pub const REFUSED_ATTEMPT: &str = "refused-attempt";

/// What rules mean that no refusal has as a code, and so no page: title and help.
fn about(id: &str) -> (&'static str, &'static str) {
    match id {
        UNUSED_RULE => (
            "Not used in the time of the audit log",
            "The account has this right and did not use it while the audit log was written. That does not prove that it is unneeded: look at how long the log is, and at what happens seldom, before you take the right away.",
        ),
        REFUSED_ATTEMPT => (
            "Tried and refused",
            "The account asked for something that no binding allows, and was refused. Either it lacks a right that its work needs, or it is used for something else than its work.",
        ),
        _ => (
            "Not judged, or worth knowing",
            "Something that decides is not in the input, or worth knowing.",
        ),
    }
}

/// The whole log: one run, its rules, one result per finding.
pub fn log(report: &Report) -> Value {
    let findings = report
        .objects
        .iter()
        .flat_map(|object| object.findings.iter().map(move |finding| (object, finding)));
    let findings: Vec<(&Judged, &Finding)> = findings.collect();
    let ids: BTreeSet<&str> = findings.iter().map(|(_, f)| rule_id(f)).collect();
    let rules: Vec<Value> = ids.iter().map(|id| rule(id)).collect();
    let results: Vec<Value> = findings
        .iter()
        .map(|(object, finding)| result(object, finding, &ids))
        .collect();
    let failed = report
        .failures
        .iter()
        .map(|text| notification("error", text));
    let unknown = report
        .not_judged
        .iter()
        .map(|text| notification("note", text));
    let notifications: Vec<Value> = failed.chain(unknown).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "kubectl-stint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": report.failures.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    })
}

fn rule_id(finding: &Finding) -> &str {
    finding.code.as_deref().unwrap_or(REMARK)
}

fn notification(level: &str, text: &str) -> Value {
    let text = match level {
        "note" => format!("not judged: {text}"),
        _ => text.to_owned(),
    };
    json!({"level": level, "message": {"text": text}})
}

fn rule(id: &str) -> Value {
    let Some(entry) = pages::entry(id) else {
        let (title, text) = about(id);
        return json!({
            "id": id,
            "shortDescription": {"text": title},
            "help": {"text": text, "markdown": text},
        });
    };
    let why = entry.check.map(|check| check.why);
    let help = entry.page.or(why).unwrap_or(&entry.title);
    let mut rule = json!({
        "id": id,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": why.unwrap_or(&entry.title)},
        "help": {"text": help, "markdown": help},
        "properties": {"tags": ["security", "rbac"]},
    });
    let worst = entry.check.and_then(|check| {
        let of = check.severity;
        of.cluster.max(of.privileged_namespace).max(of.namespace)
    });
    if let Some(severity) = worst {
        rule["properties"]["security-severity"] = score(severity).into();
    }
    rule
}

/// The middle of the band that code scanners show under the same word.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "0.5",
        Severity::Low => "2.0",
        Severity::Medium => "5.0",
        Severity::High => "8.0",
        Severity::Critical => "9.5",
    }
}

fn result(object: &Judged, finding: &Finding, ids: &BTreeSet<&str>) -> Value {
    let id = rule_id(finding);
    let name = match &object.namespace {
        Some(namespace) => format!("{}/{namespace}/{}", object.kind, object.name),
        None => format!("{}/{}", object.kind, object.name),
    };
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    };
    json!({
        "ruleId": id,
        "ruleIndex": ids.iter().position(|rule| *rule == id),
        "level": level,
        "message": {"text": finding.message},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&object.file)},
                "region": {"startLine": finding.line.max(1)},
            },
            "logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}],
        }],
        // Stays the same when lines move, so that a scanner knows the finding again.
        "partialFingerprints": {"stintFinding/v1": format!("{name}:{id}:{}", finding.path)},
    })
}

/// A file name as a URI reference (RFC 3986): relative stays relative.
fn uri(file: &str) -> String {
    let mut out = String::new();
    if file.starts_with('/') {
        out.push_str("file://");
    }
    for byte in file.trim_matches(['<', '>']).bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' => out.push(byte as char),
            _ if byte.is_ascii_alphanumeric() => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
