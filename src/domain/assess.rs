//! What the rights of a request are worth: the findings of the catalogue, alone and with what the account holds already.

use crate::api::workload_access::Risk;
use crate::domain::admit::Combined;
use crate::domain::catalogue::{self, Disposition, Finding, Scope};
use crate::domain::facts::{Facts, Held, HeldIn};
use crate::domain::grant::Grant;
use crate::domain::judge::is_cluster_namespace;
use crate::domain::patterns::Patterns;
use crate::domain::policy::risk;

/// What the catalogue makes of the request, alone and together with what the account holds already.
pub(crate) struct Assessment {
    pub(crate) patterns: Patterns,
    pub(crate) findings: Vec<Finding>,
    pub(crate) combined: Vec<Combined>,
    pub(crate) risk: Risk,
}

impl Assessment {
    /// Ids of everything that was found.
    pub(crate) fn ids(&self) -> Vec<&'static str> {
        let combined = self.combined.iter().map(|c| c.finding.id);
        self.findings.iter().map(|f| f.id).chain(combined).collect()
    }

    /// One line for each combination.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let line = |c: &Combined| {
            let Finding { title, id, .. } = c.finding;
            let with = c.with.join(", ");
            format!("together with {with} this makes the combination \"{title}\" [{id}]")
        };
        self.combined.iter().map(line).collect()
    }
}

/// Weighs the findings about what is asked for together with what the account holds.
pub(crate) fn assess(
    grant: &Grant,
    facts: &Facts,
    held_in: &[HeldIn],
    patterns: Patterns,
    mut findings: Vec<Finding>,
    in_namespaces: bool,
    scope: Scope<'_>,
) -> Assessment {
    if in_namespaces {
        findings.extend(catalogue::finding("OB-W07", scope));
    }
    if grant.account().namespace != grant.home()
        && let Some(foreign) = catalogue::finding("OB-B06", scope)
    {
        // A policy accepts it by listing the namespace.
        findings.push(Finding {
            disposition: Disposition::Allowed,
            ..foreign
        });
    }
    let held: Vec<&Held> = facts.held.iter().collect();
    let mut combined = together(patterns, &held, scope);
    for within in held_in {
        let held: Vec<&Held> = facts.held.iter().chain(&within.held).collect();
        let scope = scope_of(&within.namespace);
        for more in together(patterns, &held, scope) {
            let known = |c: &Combined| c.finding.id == more.finding.id;
            if !combined.iter().any(known) {
                combined.push(more);
            }
        }
    }
    let severities = findings.iter().chain(combined.iter().map(|c| &c.finding));
    let highest = severities.map(|f| risk(f.severity)).max();
    Assessment {
        patterns,
        risk: highest.unwrap_or(Risk::Low),
        findings,
        combined,
    }
}

fn scope_of(namespace: &str) -> Scope<'_> {
    match is_cluster_namespace(namespace) {
        true => Scope::PrivilegedNamespace(namespace),
        false => Scope::Namespace(namespace),
    }
}

/// The combinations that the rights make with what is held where they hold both.
fn together(patterns: Patterns, held: &[&Held], scope: Scope<'_>) -> Vec<Combined> {
    let none = Patterns::default();
    let sum = held.iter().fold(none, |sum, held| sum.union(held.patterns));
    let combinations = catalogue::combinations(patterns, sum, scope).into_iter();
    let combined = combinations.map(|combination| Combined {
        finding: combination.finding,
        with: contributors(held, combination.missing, scope),
    });
    combined.collect()
}

/// The bindings that fulfil the half-conditions in `missing`, the first for each.
fn contributors(held: &[&Held], mut missing: u128, scope: Scope<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for held in held {
        let bits = held.patterns.through(scope);
        if bits & missing != 0 {
            missing &= !bits;
            out.push(held.by.clone());
        }
    }
    out
}
