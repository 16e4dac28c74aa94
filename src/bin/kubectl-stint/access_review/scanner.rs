//! The report for a code scanner: each code of each right that is live, in the SARIF of lint.

use super::model::Report;
use super::table::{GRANT, Row, rows};
use crate::pages::{self, Entry};
use crate::report::{self, Finding, Judged, Level, Outcome, Summary};
use crate::sarif;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use stint::domain::catalogue::Scope;
use stint::domain::plain::{Weight, scope_of, weight_of};

/// The log: what is live and has codes, and ended grants whose rights are still there.
pub fn log(report: &Report) -> Value {
    let entries = pages::entries().into_iter();
    let known: HashMap<String, Entry> = entries.map(|e| (e.code.clone(), e)).collect();
    let rows = rows(report);
    let live = rows.iter().filter(|row| !row.is_removed());
    let objects: Vec<Judged> = live.filter_map(|row| judged(row, &known)).collect();
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

fn judged(row: &Row, known: &HashMap<String, Entry>) -> Option<Judged> {
    let is_live = ["Active", "Standing"].contains(&row.get("state"));
    let codes = row.get("codes").split_whitespace().filter(|_| is_live);
    let mut findings: Vec<Finding> = codes.map(|code| finding(row, code, known)).collect();
    if !row.get("residual").is_empty() {
        let text = format!("the grant is over, and {}", row.get("residual"));
        findings.push(told(None, Level::Error, text));
    }
    let namespace = row.get("namespace");
    let place = match namespace {
        "" => String::new(),
        namespace => format!("{namespace}/"),
    };
    let (kind, name) = (row.get("kind"), row.get("name"));
    (!findings.is_empty()).then(|| Judged {
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
    })
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
    let by = match row.get("role") {
        "" => String::new(),
        role => format!(" by {role}"),
    };
    let title = entry.map_or("", |entry| entry.title.as_str());
    let text = format!("{}{by}: {title} [{code}]", row.get("account"));
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
