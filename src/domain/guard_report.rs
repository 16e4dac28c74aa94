//! What the guard says of the roles and bindings that are there, in the form that other tools show: a report per object, in
//! the API of OpenReports (`openreports.io/v1alpha1`) or of the policy working group before it
//! (`wgpolicyk8s.io/v1alpha2`). The two differ in their names; a result is the same in both.
//!
//! Each object is judged as if it were written anew, so a report says what the guard would refuse if it denied.

use crate::api::names::{MANAGED_BY, MANAGER};
use crate::domain::binding::Binding;
use crate::domain::catalogue::{Scope, Severity};
use crate::domain::defaults;
use crate::domain::guard::{PlainRole, binding_change, role_change};
use crate::domain::plain::{PlainFinding, Weight};
use crate::domain::violation::Violation;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Most results in one report; the last one then says how many more there are.
const MAX_RESULTS: usize = 50;
/// Longest message of a result, in characters.
const MAX_MESSAGE: usize = 1024;
/// The policy that results name: there is only one.
const POLICY: &str = "stint-guard";
/// Names of reports are this and the UID of the object.
pub const PREFIX: &str = "stint-";

/// How what is there is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reporting {
    /// The API that reports are written in.
    pub api: ReportApi,
    /// Pause between two looks at everything.
    pub every: Duration,
}

/// An API of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportApi {
    /// `openreports.io/v1alpha1`: Report and ClusterReport.
    OpenReports,
    /// `wgpolicyk8s.io/v1alpha2`: PolicyReport and ClusterPolicyReport.
    PolicyReport,
}

impl ReportApi {
    /// The API group, which is also the word in flags and values.
    pub fn group(self) -> &'static str {
        match self {
            Self::OpenReports => "openreports.io",
            Self::PolicyReport => "wgpolicyk8s.io",
        }
    }

    /// The API of this group.
    pub fn of_group(group: &str) -> Option<Self> {
        let all = [Self::OpenReports, Self::PolicyReport];
        all.into_iter().find(|api| api.group() == group)
    }

    /// Its version.
    pub fn version(self) -> &'static str {
        match self {
            Self::OpenReports => "v1alpha1",
            Self::PolicyReport => "v1alpha2",
        }
    }

    /// The kind and the plural of its reports in a namespace, or on what belongs to none.
    pub fn names(self, namespaced: bool) -> (&'static str, &'static str) {
        match (self, namespaced) {
            (Self::OpenReports, true) => ("Report", "reports"),
            (Self::OpenReports, false) => ("ClusterReport", "clusterreports"),
            (Self::PolicyReport, true) => ("PolicyReport", "policyreports"),
            (Self::PolicyReport, false) => ("ClusterPolicyReport", "clusterpolicyreports"),
        }
    }
}

/// Everything worth telling of a role. Of Kubernetes' own roles that is what somebody added to them.
pub fn of_role(about: &ObjectReference, role: &PlainRole, scope: Scope<'_>) -> Vec<PlainFinding> {
    let mut own = defaults::role(about).cloned();
    if let Some(own) = &mut own
        && own.aggregation.is_some()
        && own.aggregation == role.aggregation
    {
        // Kubernetes puts its rules together from other roles, each of which is told by itself.
        own.rules.clone_from(&role.rules);
    }
    telling(role_change(own.as_ref(), role, scope, &[]))
}

/// Everything worth telling of a binding. Of Kubernetes' own bindings that is what somebody added to them.
pub fn of_binding(about: &ObjectReference, binding: &Binding<'_>) -> Vec<PlainFinding> {
    let own = defaults::subjects(about);
    telling(binding_change(own.as_deref(), binding))
}

fn telling(mut findings: Vec<PlainFinding>) -> Vec<PlainFinding> {
    findings.retain(|found| found.weight >= Weight::Warning);
    findings
}

/// The report on an object; none if there is nothing to tell. `about` must have the UID of the object: the report is named
/// and owned by it, so that it goes with the object.
pub fn report(
    api: ReportApi,
    about: &ObjectReference,
    findings: &[PlainFinding],
    now: Timestamp,
) -> Option<Value> {
    let uid = about.uid.as_deref().filter(|uid| !uid.is_empty())?;
    if findings.is_empty() {
        return None;
    }
    let (kind, _) = api.names(about.namespace.is_some());
    let mut report = json!({
        "apiVersion": format!("{}/{}", api.group(), api.version()),
        "kind": kind,
        "metadata": {
            "name": format!("{PREFIX}{uid}"),
            "namespace": about.namespace,
            "labels": {MANAGED_BY: MANAGER},
            "ownerReferences": [{"apiVersion": about.api_version, "kind": about.kind, "name": about.name, "uid": uid}],
        },
        "scope": about,
        "summary": {"pass": 0, "fail": 0, "warn": 0, "error": 0, "skip": 0},
        "results": results(findings, now),
    });
    for weight in [Weight::Error, Weight::Warning] {
        let count = findings.iter().filter(|f| f.weight == weight).count();
        report["summary"][outcome(weight)] = json!(count);
    }
    if api == ReportApi::OpenReports {
        report["source"] = json!(MANAGER);
    }
    Some(without_nulls(report))
}

/// The worst come first, so that what is left out is what matters least.
fn results(findings: &[PlainFinding], now: Timestamp) -> Vec<Value> {
    let mut findings: Vec<&PlainFinding> = findings.iter().collect();
    findings.sort_by_key(|found| std::cmp::Reverse((found.weight, found.severity)));
    let left_out = match findings.len() {
        many if many > MAX_RESULTS => many - (MAX_RESULTS - 1),
        _ => 0,
    };
    findings.truncate(findings.len() - left_out);
    let mut out: Vec<Value> = findings.into_iter().map(|f| result(f, now)).collect();
    if left_out > 0 {
        let message = format!(
            "and {left_out} more; `kubectl get -o yaml` of the object, piped into `kubectl stint lint -`, tells all"
        );
        out.push(
            json!({"source": MANAGER, "policy": POLICY, "result": "warn", "message": message,
            "timestamp": {"seconds": now.as_second(), "nanos": 0}}),
        );
    }
    out
}

fn result(found: &PlainFinding, now: Timestamp) -> Value {
    let violation = &found.violation;
    json!({
        "source": MANAGER,
        "policy": POLICY,
        "rule": violation.code,
        "category": "RBAC",
        "severity": found.severity.map(severity),
        "result": outcome(found.weight),
        "scored": true,
        "message": message(violation),
        "properties": {"path": violation.path},
        "timestamp": {"seconds": now.as_second(), "nanos": 0},
    })
}

fn message(violation: &Violation) -> String {
    let text = violation.to_string();
    match text.char_indices().nth(MAX_MESSAGE - 1) {
        Some((end, _)) if text.chars().count() > MAX_MESSAGE => format!("{}…", &text[..end]),
        _ => text,
    }
}

/// The result of a finding in a report.
pub fn outcome(weight: Weight) -> &'static str {
    match weight {
        Weight::Error => "fail",
        Weight::Warning | Weight::Note => "warn",
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
        Severity::Info => "info",
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            let kept = kept.map(|(key, value)| (key, without_nulls(value)));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// A hash of what a report says, whenever it was found: two that say the same need no write.
pub fn said(report: &Value) -> u64 {
    let mut results = report["results"].clone();
    for result in results.as_array_mut().into_iter().flatten() {
        result
            .as_object_mut()
            .map(|result| result.remove("timestamp"));
    }
    let mut hasher = DefaultHasher::new();
    results.to_string().hash(&mut hasher);
    for field in ["scope", "summary", "source"] {
        report[field].to_string().hash(&mut hasher);
    }
    for field in ["labels", "ownerReferences"] {
        report["metadata"][field].to_string().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::binding::BoundRole;
    use crate::domain::plain::scope_of;
    use k8s_openapi::api::rbac::v1::{RoleRef, Subject};

    fn now() -> Timestamp {
        "2026-11-26T12:00:00Z".parse().unwrap()
    }

    fn about(kind: &str, namespace: Option<&str>, name: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("rbac.authorization.k8s.io/v1".into()),
            kind: Some(kind.into()),
            name: Some(name.into()),
            namespace: namespace.map(str::to_owned),
            uid: Some("u-1".into()),
            ..ObjectReference::default()
        }
    }

    fn role(rules: Value) -> PlainRole {
        PlainRole {
            rules: serde_json::from_value(rules).unwrap(),
            ..PlainRole::default()
        }
    }

    fn secrets() -> PlainRole {
        role(json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]))
    }

    fn bound_to(about: &ObjectReference, subjects: Value) -> Vec<PlainFinding> {
        let subjects: Vec<Subject> = serde_json::from_value(subjects).unwrap();
        let role_ref = RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "ClusterRole".into(),
            name: "view".into(),
        };
        let rules = serde_json::from_value::<Vec<_>>(
            json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]),
        );
        let binding = Binding {
            scope: about.namespace.as_deref().map_or(Scope::Cluster, scope_of),
            subjects: &subjects,
            role_ref: &role_ref,
            role: BoundRole::Found {
                rules: &rules.unwrap(),
                aggregated: false,
            },
        };
        of_binding(about, &binding)
    }

    #[test]
    fn a_report_names_the_object_the_code_and_what_would_pass() {
        let about = about("Role", Some("payments"), "reader");
        let findings = of_role(&about, &secrets(), scope_of("payments"));
        let report = report(ReportApi::OpenReports, &about, &findings, now()).unwrap();
        assert_eq!(report["kind"], "Report");
        assert_eq!(report["metadata"]["name"], "stint-u-1");
        assert_eq!(report["metadata"]["ownerReferences"][0]["uid"], "u-1");
        assert_eq!(report["scope"]["name"], "reader");
        assert_eq!(report["source"], "stint");
        let result = &report["results"][0];
        assert_eq!(
            (&result["rule"], &result["result"]),
            (&json!("OB-S01"), &json!("fail"))
        );
        assert!(
            result["message"].as_str().unwrap().starts_with("rules[0]"),
            "{result}"
        );
        assert_eq!(result["timestamp"]["seconds"], now().as_second());
        assert_eq!(report["summary"]["fail"], findings.len());
    }

    #[test]
    fn the_older_api_differs_in_its_names_alone() {
        let about = about("ClusterRole", None, "reader");
        let findings = of_role(&about, &secrets(), Scope::Cluster);
        let old = report(ReportApi::PolicyReport, &about, &findings, now()).unwrap();
        let new = report(ReportApi::OpenReports, &about, &findings, now()).unwrap();
        assert_eq!(old["apiVersion"], "wgpolicyk8s.io/v1alpha2");
        assert_eq!(
            (&old["kind"], &new["kind"]),
            (&json!("ClusterPolicyReport"), &json!("ClusterReport"))
        );
        assert!(old.get("source").is_none() && old["metadata"].get("namespace").is_none());
        assert_eq!(old["results"], new["results"]);
    }

    #[test]
    fn what_is_harmless_has_no_report() {
        let about = about("Role", Some("payments"), "reader");
        let harmless =
            role(json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]));
        let findings = of_role(&about, &harmless, scope_of("payments"));
        assert_eq!(
            report(ReportApi::OpenReports, &about, &findings, now()),
            None
        );
    }

    #[test]
    fn of_kubernetes_own_only_what_was_added_is_told() {
        let own = about("ClusterRoleBinding", None, "cluster-admin");
        let masters = json!({"kind": "Group", "name": "system:masters"});
        assert_eq!(bound_to(&own, json!([masters])), []);
        let bot = json!({"kind": "ServiceAccount", "name": "bot", "namespace": "ci"});
        let codes = |found: Vec<PlainFinding>| -> Vec<&str> {
            found.into_iter().map(|f| f.violation.code).collect()
        };
        assert!(codes(bound_to(&own, json!([masters, bot]))).contains(&"WA-STANDING"));
        let other = about("ClusterRoleBinding", None, "cluster-admin-2");
        assert!(codes(bound_to(&other, json!([bot]))).contains(&"WA-STANDING"));
        let admin = role(json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
        let of = |name| of_role(&about("ClusterRole", None, name), &admin, Scope::Cluster);
        assert!(of("cluster-admin").is_empty() && !of("system:mine").is_empty());
        let role = |namespace, name| {
            of_role(
                &about("Role", Some(namespace), name),
                &admin,
                scope_of(namespace),
            )
        };
        assert!(
            !role("payments", "cluster-admin").is_empty(),
            "a Role of that name is nobody's default"
        );
    }

    #[test]
    fn of_kubernetes_own_roles_only_what_was_added_is_told() {
        let viewer = about("ClusterRole", None, "system:public-info-viewer");
        let mut role = defaults::role(&viewer).unwrap().clone();
        assert_eq!(of_role(&viewer, &role, Scope::Cluster), []);
        role.rules.extend(secrets().rules);
        let told = of_role(&viewer, &role, Scope::Cluster);
        assert!(
            told.iter().any(|f| f.violation.code == "OB-S01"),
            "{told:?}"
        );

        // What admin takes in comes to whoever may view.
        let part = about("ClusterRole", None, "system:aggregate-to-admin");
        let mut role = defaults::role(&part).unwrap().clone();
        assert_eq!(of_role(&part, &role, Scope::Cluster), []);
        let label = "rbac.authorization.k8s.io/aggregate-to-view";
        role.labels.insert(label.into(), "true".into());
        assert!(!of_role(&part, &role, Scope::Cluster).is_empty());

        let view = about("ClusterRole", None, "view");
        let mut role = defaults::role(&view).unwrap().clone();
        role.rules.extend(secrets().rules);
        assert_eq!(
            of_role(&view, &role, Scope::Cluster),
            [],
            "the part that has them is told"
        );
        role.aggregation = None;
        let told = of_role(&view, &role, Scope::Cluster);
        assert!(
            told.iter().any(|f| f.violation.code == "OB-S01"),
            "{told:?}"
        );
        let another = json!({"clusterRoleSelectors": [{"matchLabels": {"more": "yes"}}]});
        role.aggregation = serde_json::from_value(another).unwrap();
        let told = of_role(&view, &role, Scope::Cluster);
        assert!(
            told.iter().any(|f| f.violation.code == "OB-S01"),
            "{told:?}"
        );
    }

    #[test]
    fn a_report_stays_small_and_says_what_it_left_out() {
        let about = about("Role", Some("payments"), "reader");
        let one = of_role(&about, &secrets(), scope_of("payments")).remove(0);
        let mut long = one.clone();
        long.violation.message = "é".repeat(5_000);
        let report = report(ReportApi::OpenReports, &about, &vec![long; 70], now()).unwrap();
        let results = report["results"].as_array().unwrap();
        assert_eq!(results.len(), MAX_RESULTS);
        assert!(
            results[49]["message"]
                .as_str()
                .unwrap()
                .starts_with("and 21 more")
        );
        assert_eq!(
            results[0]["message"].as_str().unwrap().chars().count(),
            MAX_MESSAGE
        );
        assert_eq!(report["summary"]["fail"], 70);
    }

    #[test]
    fn the_same_findings_at_another_time_are_no_news() {
        let about = about("Role", Some("payments"), "reader");
        let findings = of_role(&about, &secrets(), scope_of("payments"));
        let at = |seconds| {
            report(
                ReportApi::OpenReports,
                &about,
                &findings,
                now() + Duration::from_secs(seconds),
            )
            .unwrap()
        };
        let mut stored = at(0);
        stored["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(said(&stored), said(&at(600)));
        stored["results"][0]["rule"] = json!("OB-S02");
        assert_ne!(said(&stored), said(&at(600)));
    }
}
