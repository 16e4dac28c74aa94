//! The catalogue of over-broad rules: patterns as data in `catalogue.yaml`, and what they find in a set of rules.
//!
//! A ceiling says what was allowed; the catalogue says what is never a good idea, however wide the ceiling is. Judged
//! today are the checks of breadth (`OB-W…`), of direct escalation (`OB-E…`) and of rule hygiene (`OB-R…`).

use crate::domain::hygiene::{self, Place, distinct};
use crate::domain::rules::{ALL, Rule};
use crate::domain::violation::{Problem, Violation};
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::LazyLock;

pub use crate::domain::hygiene::{MAX_ITEMS, MAX_RULES, MAX_TEXT, UNREADABLE};

/// Where the rules would hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An ordinary namespace.
    Namespace,
    /// A namespace of the cluster itself or of the operator, where the same rights reach further.
    PrivilegedNamespace,
}

/// How much harm a pattern can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Worth knowing; never refused.
    Info,
    /// Little, or misleading only.
    Low,
    /// Some, inside what the account is meant to touch.
    Medium,
    /// Much, or beyond the account's own purpose.
    High,
    /// Equal to owning the scope.
    Critical,
}

/// Severity of one check by scope; none where the pattern cannot take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Severities {
    /// Through a ClusterRoleBinding.
    pub cluster: Option<Severity>,
    /// Through a RoleBinding in a privileged namespace.
    #[serde(rename = "privns")]
    pub privileged_namespace: Option<Severity>,
    /// Through a RoleBinding in an ordinary namespace.
    #[serde(rename = "ns")]
    pub namespace: Option<Severity>,
}

impl Severities {
    fn within(&self, scope: Scope) -> Option<Severity> {
        match scope {
            Scope::Namespace => self.namespace,
            Scope::PrivilegedNamespace => self.privileged_namespace,
        }
    }
}

/// One check of the catalogue, for documentation.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Stable id, `OB-…`.
    pub id: &'static str,
    /// The pattern in a few words.
    pub title: &'static str,
    /// Why it is dangerous.
    pub why: &'static str,
    /// How dangerous, by scope.
    pub severity: Severities,
    /// Whether a WorkloadAccess is refused for it; the rest is described only.
    pub judged: bool,
}

/// Every check of the catalogue, in its order.
pub fn codes() -> Vec<Code> {
    CATALOGUE
        .iter()
        .map(|check| Code {
            id: &check.id,
            title: &check.title,
            why: &check.why,
            severity: check.severity,
            judged: hygiene::CHECKS.contains(&check.id.as_str())
                || check.fires_in(Scope::Namespace)
                || check.fires_in(Scope::PrivilegedNamespace),
        })
        .collect()
}

/// Everything that is over-broad about the rules in this scope: sizes first and alone, then rule by rule.
///
/// `base` is the path of the rules (`spec.rules`), or with `indexed` false the path of what refers to them
/// (`spec.roleRef`); then each finding is told once.
pub fn violations(rules: &[Rule], base: &str, indexed: bool, scope: Scope) -> Vec<Violation> {
    let at = Place { base, indexed };
    let too_large = hygiene::too_large(rules, at);
    if !too_large.is_empty() {
        return too_large;
    }
    let checks: Vec<&'static Check> = CATALOGUE.iter().filter(|c| c.fires_in(scope)).collect();
    let mut out = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        hygiene::check(rule, index, at, &mut out);
        for check in &checks {
            check.find(rule, index, at, &mut out);
        }
    }
    if !indexed {
        let mut told = HashSet::new();
        out.retain(|v| told.insert((v.code, v.found.clone(), v.message.clone())));
    }
    out
}

/// Verbs of requests that name no object.
const NAMELESS: [&str; 4] = ["list", "watch", "create", "deletecollection"];

static CATALOGUE: LazyLock<Vec<Check>> = LazyLock::new(|| {
    parse().expect("the file is compiled in, and the test `the_catalogue_parses` parses it")
});

fn parse() -> Result<Vec<Check>, serde_saphyr::Error> {
    let file: File = serde_saphyr::from_str(include_str!("catalogue.yaml"))?;
    Ok(file.checks)
}

#[derive(Deserialize)]
struct File {
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    id: String,
    title: String,
    why: String,
    #[serde(rename = "sev")]
    severity: Severities,
    #[serde(default)]
    any: Vec<Probe>,
    #[serde(default)]
    live: Live,
    #[serde(default)]
    effect: String,
}

#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "g")]
    groups: Vec<String>,
    #[serde(rename = "r")]
    resources: Vec<String>,
    #[serde(rename = "v")]
    verbs: Vec<String>,
    names: Names,
    #[serde(default)]
    live: Live,
}

/// Which kind of binding makes the pattern take effect.
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
enum Live {
    #[default]
    #[serde(rename = "rb")]
    AnyBinding,
    #[serde(rename = "crb")]
    ClusterRoleBinding,
}

/// Which `resourceNames` do not defuse the pattern.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Names {
    Any,
    Unrestricted,
    OneOf(Vec<String>),
}

impl Check {
    fn fires_in(&self, scope: Scope) -> bool {
        self.id.starts_with("OB-E")
            && self.live == Live::AnyBinding
            && self.severity.within(scope) > Some(Severity::Info)
    }

    /// One violation for each resource of the rule that some probe matches, with all verbs that are too many on it.
    fn find(&'static self, rule: &Rule, index: usize, at: Place<'_>, out: &mut Vec<Violation>) {
        let probes: Vec<&Probe> = self
            .any
            .iter()
            .filter(|p| p.live == Live::AnyBinding && p.groups_match(rule))
            .collect();
        if probes.is_empty() {
            return;
        }
        for (j, resource) in distinct(&rule.resources) {
            let mut verbs: Vec<&str> = Vec::new();
            let mut targets: Vec<&str> = Vec::new();
            for probe in &probes {
                let reached = probe.resources.iter().filter(|r| reaches(resource, r));
                let too_many = probe.verbs_of(rule);
                if too_many.is_empty() {
                    continue;
                }
                let before = targets.len();
                targets.extend(reached.map(String::as_str));
                if targets.len() > before {
                    verbs.extend(too_many);
                }
            }
            if !targets.is_empty() {
                let path = at.element(index, "resources", j);
                let message = self.message(resource, &targets, &verbs);
                out.push(
                    Violation::new(self.id.as_str(), path, Problem::Forbidden, message)
                        .found(resource),
                );
            }
        }
    }

    fn message(&self, resource: &str, targets: &[&str], verbs: &[&str]) -> String {
        let verbs = quoted(verbs);
        let effect = &self.effect;
        if targets.contains(&resource) {
            format!("must be granted without {verbs}: {effect}")
        } else {
            let targets = quoted(targets);
            format!("must be granted without {verbs} on {targets}: {effect}")
        }
    }
}

impl Probe {
    fn groups_match(&self, rule: &Rule) -> bool {
        rule.api_groups
            .iter()
            .any(|g| g == ALL || self.groups.contains(g))
    }

    /// The verbs of the probe that the rule allows on the objects the probe is about.
    fn verbs_of<'a>(&'a self, rule: &'a Rule) -> Vec<&'a str> {
        let every = rule.verbs.iter().any(|v| v == ALL);
        let mut out = Vec::new();
        for wanted in &self.verbs {
            if !self.names.match_rule(rule, wanted) {
                continue;
            }
            if let Some(prefix) = wanted.strip_suffix('+') {
                let held = rule.verbs.iter().filter(|v| v.starts_with(prefix));
                out.extend(held.map(String::as_str));
                out.extend(every.then_some(prefix));
            } else if every || rule.verbs.contains(wanted) {
                out.push(wanted);
            }
        }
        out
    }
}

impl Names {
    fn match_rule(&self, rule: &Rule, verb: &str) -> bool {
        let names = &rule.resource_names;
        names.is_empty()
            || match self {
                Self::Any => true,
                Self::Unrestricted => {
                    NAMELESS.contains(&verb) && names.iter().any(String::is_empty)
                }
                Self::OneOf(listed) => names.iter().any(|name| listed.contains(name)),
            }
    }
}

/// Whether a resource as a rule writes it reaches a resource as a probe writes it.
fn reaches(rule: &str, probe: &str) -> bool {
    if rule == ALL || rule == probe {
        return true;
    }
    match (rule.split_once('/'), probe.split_once('/')) {
        (Some((of, sub)), Some((probe_of, probe_sub))) => {
            (of == ALL || of == probe_of) && (sub == probe_sub || probe_sub == "+")
        }
        _ => false,
    }
}

/// The words in back quotes, each once.
fn quoted(words: &[&str]) -> String {
    let mut out: Vec<String> = Vec::new();
    for word in words {
        let word = format!("`{word}`");
        if !out.contains(&word) {
            out.push(word);
        }
    }
    out.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_parses() {
        let checks = parse().unwrap();
        assert_eq!(checks.len(), 75);
        let ids: HashSet<&str> = checks.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids.len(), 75, "ids are unique");
        for id in hygiene::CHECKS {
            assert!(
                ids.contains(id),
                "{id} is written in code and not described"
            );
        }
    }

    #[test]
    fn each_judged_pattern_says_what_it_leads_to() {
        for check in CATALOGUE.iter().filter(|c| c.fires_in(Scope::Namespace)) {
            assert!(!check.effect.is_empty(), "{}", check.id);
            assert!(!check.any.is_empty(), "{} has no probe", check.id);
        }
    }
}
