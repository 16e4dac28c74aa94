//! Policies, and plain roles and bindings: what their webhook says, and what the catalogue says where no webhook asks.

use crate::read::Object;
use crate::report::{Finding, Judged, Level};
use crate::schema;
use crate::world::World;
use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stint::api::{AccessPolicy, names};
use stint::domain::binding::{self, Binding, BoundRole};
use stint::domain::catalogue::Scope;
use stint::domain::facts::Role;
use stint::domain::plain::{self, PlainFinding, Weight, scope_of};
use stint::domain::policy::Policy;
use stint::domain::rules::Rule;
use stint::domain::violation::{Problem, Violation};

/// Judges a policy as its webhook does.
pub fn judge_policy(object: &Object) -> Judged {
    let from_schema = schema::violations(&object.kind, &object.node);
    let mut findings = Vec::new();
    match decode::<AccessPolicy>(object, "spec") {
        // To suspend is never refused.
        Ok(policy) if policy.spec.suspended == Some(true) => {}
        Ok(policy) => match Policy::compile(&policy) {
            Ok(policy) => {
                let warnings = policy.warnings();
                let line = |text: &String| Finding::line(object, Level::Warning, text);
                findings.extend(warnings.iter().map(line));
            }
            Err(violations) => findings.extend(refusals(object, &violations)),
        },
        Err(violation) if from_schema.is_empty() => findings.extend(refusals(object, &[violation])),
        Err(_) => {}
    }
    let told: Vec<String> = findings.iter().map(|f| f.path.clone()).collect();
    let untold: Vec<Violation> = from_schema
        .into_iter()
        .filter(|violation| !told.contains(&violation.path))
        .collect();
    findings.extend(refusals(object, &untold));
    Judged::new(object, None, findings, true)
}

fn decode<K: DeserializeOwned>(object: &Object, path: &str) -> Result<K, Violation> {
    serde_json::from_value(object.node.value()).map_err(|error| {
        let message = format!("cannot be read: {error}");
        Violation::new("WA-DECODE", path, Problem::Invalid, message)
    })
}

fn refusals(object: &Object, violations: &[Violation]) -> Vec<Finding> {
    let finding = |v| Finding::violation(object, Level::Error, v);
    violations.iter().map(finding).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlainRole {
    #[serde(default)]
    rules: Option<Vec<k8s_openapi::api::rbac::v1::PolicyRule>>,
    #[serde(default)]
    aggregation_rule: Option<serde_json::Value>,
}

/// Judges a Role or ClusterRole: its rules in the scope in which they hold. A ClusterRole that the input binds only in
/// namespaces is judged there, any other for the whole cluster.
pub fn judge_role(object: &Object, namespace: Option<&str>, world: &World) -> Judged {
    let mut findings = refusals(object, &schema::unknown_in_rbac(&object.node));
    let role: PlainRole = match decode(object, "rules") {
        Ok(role) => role,
        Err(violation) => {
            findings.extend(refusals(object, &[violation]));
            return Judged::new(object, namespace, findings, true);
        }
    };
    let rules: Vec<Rule> = role.rules.iter().flatten().map(Rule::from).collect();
    for scope in scopes(object, namespace, world) {
        for found in plain::of_rules(&rules, "rules", true, scope) {
            let finding = told(object, &found);
            if !findings.iter().any(|told| told.message == finding.message) {
                findings.push(finding);
            }
        }
    }
    if role.aggregation_rule.is_some() {
        let text = "its rules are put together by the cluster; those written here are overwritten";
        findings.push(Finding::remark(
            object,
            Level::Note,
            "aggregationRule",
            text,
        ));
    }
    Judged::new(object, namespace, findings, true)
}

fn scopes<'a>(object: &'a Object, namespace: Option<&'a str>, world: &'a World) -> Vec<Scope<'a>> {
    match namespace {
        Some(namespace) => vec![scope_of(namespace)],
        None => match world.bound_only_in(object.name()) {
            Some(namespaces) => distinct_scopes(namespaces),
            None => vec![Scope::Cluster],
        },
    }
}

/// The catalogue treats ordinary namespaces alike, so one of them stands for all.
fn distinct_scopes(namespaces: Vec<&str>) -> Vec<Scope<'_>> {
    let mut scopes: Vec<Scope<'_>> = Vec::new();
    for scope in namespaces.into_iter().map(scope_of) {
        let ordinary = |s: &Scope<'_>| matches!(s, Scope::Namespace(_));
        if !ordinary(&scope) || !scopes.iter().any(ordinary) {
            scopes.push(scope);
        }
    }
    scopes
}

/// What the catalogue says, in the words and with the weights of the guard.
fn told(object: &Object, found: &PlainFinding) -> Finding {
    let level = match found.weight {
        Weight::Error => Level::Error,
        Weight::Warning => Level::Warning,
        Weight::Note => Level::Note,
    };
    let mut finding = Finding::violation(object, level, &found.violation);
    finding.severity = found.severity;
    finding
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlainBinding {
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

/// The role that a binding of the input hands out, as kind and name; for whoever looks it up in a cluster.
pub fn bound_role(object: &Object) -> Option<(String, String)> {
    let binding: PlainBinding = decode(object, "roleRef").ok()?;
    Some((binding.role_ref.kind, binding.role_ref.name))
}

/// What is known of the role of a binding.
#[derive(Debug)]
pub enum Known {
    /// It is not in the input, and no cluster was asked.
    No,
    /// The cluster has none of that name.
    Missing,
    /// It is this.
    Found(Role),
}

/// Judges a RoleBinding in `namespace`, or a ClusterRoleBinding.
pub fn judge_binding(object: &Object, namespace: Option<&str>, role: &Known) -> Judged {
    let mut findings = refusals(object, &schema::unknown_in_rbac(&object.node));
    let written: PlainBinding = match decode(object, "roleRef") {
        Ok(written) => written,
        Err(violation) => {
            findings.extend(refusals(object, &[violation]));
            return Judged::new(object, namespace, findings, true);
        }
    };
    let subjects = written.subjects.unwrap_or_default();
    let binding = Binding {
        scope: namespace.map_or(Scope::Cluster, scope_of),
        subjects: &subjects,
        role_ref: &written.role_ref,
        role: match role {
            Known::No => BoundRole::Unknown,
            Known::Missing => BoundRole::Missing,
            Known::Found(role) => BoundRole::Found {
                rules: &role.rules,
                aggregated: role.aggregated,
            },
        },
    };
    findings.extend(plain::of_binding(&binding).iter().map(|f| told(object, f)));
    if !made_by_stint(object) {
        let standing = binding::standing(&binding).into_iter().next();
        findings.extend(standing.map(|found| {
            Finding::violation(object, Level::Warning, &found.violation)
                .weighing(found.finding.severity)
        }));
    }
    let known = !matches!(role, Known::No);
    if !known {
        let text = format!(
            "not judged: {} '{}' is not in the input, so nothing is said about what it gives",
            written.role_ref.kind, written.role_ref.name
        );
        findings.push(Finding::remark(object, Level::Warning, "roleRef", text));
    }
    Judged::new(object, namespace, findings, known)
}

/// The binding of a grant ends with it.
fn made_by_stint(object: &Object) -> bool {
    let labels = object.node.get("metadata").and_then(|m| m.get("labels"));
    labels.is_some_and(|labels| labels.get(names::GRANT).is_some())
}
