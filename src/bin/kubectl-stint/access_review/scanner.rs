//! The report for a code scanner: each code of each right that is live, in the SARIF of lint.

use super::model::Report;
use super::table::{ATTEMPT, GRANT, Row, rows};
use crate::pages::{self, Entry};
use crate::report::{self, Finding, Judged, Level, Outcome, Summary};
use crate::sarif::{self, REFUSED_ATTEMPT, UNUSED_RULE};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use stint::domain::catalogue::Scope;
use stint::domain::plain::{Weight, scope_of, weight_of};

/// The log: what is live and has codes or rules that were not used, ended grants whose rights are still there, and what accounts
/// were refused.
pub fn log(report: &Report) -> Value {
    let entries = pages::entries().into_iter();
    let known: HashMap<String, Entry> = entries.map(|e| (e.code.clone(), e)).collect();
    let rows = rows(report);
    let here = rows.iter().filter(|row| !row.is_removed());
    let span = report.audit_log.as_ref().map_or(String::new(), |log| {
        let at = |at: &Option<String>| at.clone().unwrap_or_else(|| "?".to_owned());
        format!("from {} to {}", at(&log.first), at(&log.last))
    });
    let judge = |row: &Row| match row.get("record") {
        ATTEMPT => Some(attempt(row)),
        _ => judged(row, &known, &span),
    };
    let objects: Vec<Judged> = here.filter_map(judge).collect();
    let skipped = BTreeMap::new();
    let missing = report.not_read.iter().map(|missing| missing.why.clone());
    let mut log = sarif::log(&report::Report {
        api_version: report::API_VERSION,
        mode: "online",
        summary: Summary::of(&objects, &skipped),
        objects,
        skipped,
        not_judged: Vec::new(),
        failures: missing.collect(),
    });
    log["runs"][0]["properties"] = json!({
        "clusterId": report.cluster_id, "reportAt": report.at, "reportSha256": report.sha256
    });
    log
}

fn judged(row: &Row, known: &HashMap<String, Entry>, span: &str) -> Option<Judged> {
    let is_live = ["Active", "Standing"].contains(&row.get("state"));
    let codes = row.get("codes").split_whitespace().filter(|_| is_live);
    let mut findings: Vec<Finding> = codes.map(|code| finding(row, code, known)).collect();
    if !row.get("residual").is_empty() {
        let text = format!("the grant is over, and {}", row.get("residual"));
        findings.push(told(None, Level::Error, text));
    }
    let unused = row.unused.iter().filter(|_| is_live);
    findings.extend(unused.map(|(number, text)| not_used(row, *number, text, span)));
    let namespace = row.get("namespace");
    let (kind, name) = (row.get("kind"), row.get("name"));
    (!findings.is_empty()).then(|| object(kind, namespace, name, findings))
}

fn object(kind: &str, namespace: &str, name: &str, findings: Vec<Finding>) -> Judged {
    let place = match namespace {
        "" => String::new(),
        namespace => format!("{namespace}/"),
    };
    Judged {
        // No file: where the object is in the cluster, in the form of a path.
        file: format!("{place}{kind}/{name}"),
        line: 1,
        api_version: String::new(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()).filter(|name| !name.is_empty()),
        name: name.to_owned(),
        outcome: Outcome::Passes,
        risk: None,
        findings,
    }
}

/// One rule of a grant or binding that was not used, or of which a part was not.
fn not_used(row: &Row, number: usize, unused: &str, span: &str) -> Finding {
    let account = row.get("account");
    let text = format!(
        "{account}{}: not used {span}: {unused} (of its life the log covers {})",
        by(row),
        row.get("log_covers")
    );
    Finding {
        path: format!("{account}/rules[{number}]"),
        ..told(Some(UNUSED_RULE), Level::Note, text)
    }
}

/// What an account tried and was refused, told of the account.
fn attempt(row: &Row) -> Judged {
    let [account, verb, resource, namespace, name] =
        ["account", "verb", "resource", "namespace", "object"].map(|key| row.get(key));
    let what = match (namespace, name) {
        ("", "") => format!("{verb} {resource}"),
        ("", name) => format!("{verb} {resource} '{name}'"),
        (namespace, "") => format!("{verb} {resource} in namespace '{namespace}'"),
        (namespace, name) => format!("{verb} {resource} '{name}' in namespace '{namespace}'"),
    };
    let text = format!(
        "{account} was refused {what}: requests {}, the first {}, the last {}",
        row.get("requests"),
        row.get("first_request"),
        row.get("last_request")
    );
    let finding = Finding {
        path: what,
        ..told(Some(REFUSED_ATTEMPT), Level::Note, text)
    };
    let (of, short) = account.split_once('/').unwrap_or(("", account));
    object("ServiceAccount", of, short, vec![finding])
}

/// The role that gives it, where one does.
fn by(row: &Row) -> String {
    match row.get("role") {
        "" => String::new(),
        role => format!(" by {role}"),
    }
}

fn finding(row: &Row, code: &str, known: &HashMap<String, Entry>) -> Finding {
    let entry = known.get(code);
    let scope = match row.get("namespace") {
        "" => Scope::Cluster,
        namespace => scope_of(namespace),
    };
    let check = entry.and_then(|entry| entry.check);
    let severity = check.and_then(|check| check.severity.within(scope));
    let level = match severity.map(weight_of) {
        Some(Weight::Note) => Level::Note,
        // What a grant gives a policy has accepted, and it ends.
        Some(Weight::Error) if row.get("record") != GRANT => Level::Error,
        _ => Level::Warning,
    };
    let title = entry.map_or("", |entry| entry.title.as_str());
    let text = format!("{}{}: {title} [{code}]", row.get("account"), by(row));
    let told = told(Some(code), level, text);
    match severity {
        Some(severity) => told.weighing(severity),
        None => told,
    }
}

fn told(code: Option<&str>, level: Level, message: String) -> Finding {
    Finding {
        level,
        code: code.map(str::to_owned),
        severity: None,
        path: String::new(),
        line: 1,
        message,
    }
}
