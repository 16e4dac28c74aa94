//! What the catalogue says of plain roles and bindings, which no policy stands behind: for `kubectl stint lint` and for the
//! guard, so that what one calls an error the other refuses.

use crate::domain::binding::{self, Binding, BindingFinding};
use crate::domain::catalogue::{self, Disposition, Scope, Severity};
use crate::domain::judge::is_cluster_namespace;
use crate::domain::patterns::Patterns;
use crate::domain::rules::Rule;
use crate::domain::violation::Violation;

/// What a finding comes to. No policy stands behind a plain object, so its weight is that of the harm it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth knowing.
    Note,
    /// Careless.
    Warning,
    /// Never granted, or of high or critical severity.
    Error,
}

/// One finding in a plain role or binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainFinding {
    /// What it comes to.
    pub weight: Weight,
    /// How much harm it can do in the scope; none for what the catalogue does not know.
    pub severity: Option<Severity>,
    /// Where in the object, what was found there, and what would be better.
    pub violation: Violation,
}

/// The weight of a finding that somebody could knowingly accept.
pub fn weight_of(severity: Severity) -> Weight {
    match severity {
        Severity::Critical | Severity::High => Weight::Error,
        Severity::Medium => Weight::Warning,
        Severity::Low | Severity::Info => Weight::Note,
    }
}

/// The scope of what holds in a namespace.
pub fn scope_of(namespace: &str) -> Scope<'_> {
    match is_cluster_namespace(namespace) {
        true => Scope::PrivilegedNamespace(namespace),
        false => Scope::Namespace(namespace),
    }
}

/// Everything that rules are worth in a scope. `base` is their path, or with `indexed` false that of what refers to them.
pub fn of_rules(rules: &[Rule], base: &str, indexed: bool, scope: Scope<'_>) -> Vec<PlainFinding> {
    let mut out = Vec::new();
    for violation in catalogue::violations(rules, base, indexed, scope) {
        out.push(PlainFinding {
            weight: Weight::Error,
            severity: catalogue::finding(violation.code, scope).map(|f| f.severity),
            violation,
        });
    }
    for finding in catalogue::findings(Patterns::of(rules), scope) {
        // What is never granted is told already; what is about the time of a grant says nothing of a plain role.
        if finding.disposition == Disposition::Never || finding.id.starts_with("OB-X") {
            continue;
        }
        for violation in catalogue::explain(finding.id, rules, base, indexed, scope) {
            out.push(PlainFinding {
                weight: weight_of(finding.severity),
                severity: Some(finding.severity),
                violation,
            });
        }
    }
    out
}

/// Everything about the subjects of a binding and the kind of role that it hands out; not what the role gives.
pub fn of_binding(binding: &Binding<'_>) -> Vec<PlainFinding> {
    let found = binding::findings(binding);
    found.into_iter().map(of_finding).collect()
}

fn of_finding(found: BindingFinding) -> PlainFinding {
    let BindingFinding { finding, violation } = found;
    PlainFinding {
        weight: match finding.disposition {
            Disposition::Never => Weight::Error,
            Disposition::Named | Disposition::Allowed => weight_of(finding.severity),
        },
        severity: Some(finding.severity),
        violation,
    }
}
