//! The catalogue of over-broad rules: patterns as data in `catalogue.yaml`, and what they find in a set of rules.
//!
//! A ceiling says what was allowed; the catalogue says what is never a good idea, or only when somebody knowingly accepts
//! it, however wide the ceiling is. `patterns` evaluates it, `hygiene` holds the checks that are written in code, and
//! `explain` says where a finding comes from.

use crate::domain::explain;
use crate::domain::hygiene::{self, Place};
use crate::domain::patterns::Patterns;
use crate::domain::rules::Rule;
use crate::domain::violation::Violation;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::LazyLock;

pub use crate::domain::hygiene::{MAX_ITEMS, MAX_RULES, MAX_TEXT, UNREADABLE};

/// Where rules would hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Through a RoleBinding in this ordinary namespace.
    Namespace(&'a str),
    /// Through a RoleBinding in this namespace of the cluster itself or of the operator, where the same rights reach
    /// further.
    PrivilegedNamespace(&'a str),
    /// Through a ClusterRoleBinding.
    Cluster,
}

/// How much harm a pattern can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
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

/// Whether rules that a check finds can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Disposition {
    /// No policy can allow it.
    Never,
    /// Only under a policy that lists the check in `allow.findings`.
    Named,
    /// Granted and reported.
    Allowed,
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
    /// The severity in this scope.
    pub fn within(&self, scope: Scope<'_>) -> Option<Severity> {
        match scope {
            Scope::Namespace(_) => self.namespace,
            Scope::PrivilegedNamespace(_) => self.privileged_namespace,
            Scope::Cluster => self.cluster,
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
    /// Whether it can be granted.
    pub disposition: Disposition,
    /// The code under which a WorkloadAccess is refused for it, where that is another one.
    pub reported_as: Option<&'static str>,
}

/// A check that fires on what somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable id, `OB-…`.
    pub id: &'static str,
    /// The pattern in a few words.
    pub title: &'static str,
    /// What the account could then do.
    pub effect: &'static str,
    /// How much harm it can do in the scope.
    pub severity: Severity,
    /// Whether it can be granted.
    pub disposition: Disposition,
}

/// Checks that together are worse than each: fulfilled by a request and what its account holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combination {
    /// The combination.
    pub finding: Finding,
    /// The half-conditions that the request alone does not fulfil; see [`Patterns`].
    pub missing: u128,
}

/// Every check and every combination of the catalogue, in its order.
pub fn codes() -> Vec<Code> {
    let checks = CATALOGUE.checks.iter().map(|check| Code {
        id: &check.id,
        title: &check.title,
        why: &check.why,
        severity: check.severity,
        disposition: check.disposition,
        reported_as: check.reported_as.as_deref(),
    });
    let everywhere = |severity| Severities {
        cluster: Some(severity),
        privileged_namespace: Some(severity),
        namespace: Some(severity),
    };
    let combinations = CATALOGUE.combinations.iter().map(|c| Code {
        id: &c.id,
        title: &c.title,
        why: &c.why,
        severity: everywhere(c.severity),
        disposition: Disposition::Named,
        reported_as: None,
    });
    checks.chain(combinations).collect()
}

/// The check or combination with this id.
pub fn code(id: &str) -> Option<Code> {
    codes().into_iter().find(|code| code.id == id)
}

/// What no policy can allow about the rules: sizes first and alone, then unreadable words, wildcards and what is inert,
/// then the checks that are never granted.
///
/// `base` is the path of the rules (`spec.rules`), or with `indexed` false the path of what refers to them
/// (`spec.roleRef`); then each finding is told once.
pub fn violations(rules: &[Rule], base: &str, indexed: bool, scope: Scope<'_>) -> Vec<Violation> {
    let found = findings(Patterns::of(rules), scope);
    violations_of(rules, &found, base, indexed, scope)
}

/// The same, for who has the findings of the rules already.
pub(crate) fn violations_of(
    rules: &[Rule],
    found: &[Finding],
    base: &str,
    indexed: bool,
    scope: Scope<'_>,
) -> Vec<Violation> {
    let at = Place { base, indexed };
    let too_large = hygiene::too_large(rules, at);
    if !too_large.is_empty() {
        return too_large;
    }
    let mut out = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        hygiene::check(rule, index, at, scope, &mut out);
    }
    for finding in found {
        if finding.disposition == Disposition::Never {
            out.extend(explain(finding.id, rules, base, indexed, scope));
        }
    }
    once_each(&mut out, indexed);
    out
}

fn once_each(out: &mut Vec<Violation>, indexed: bool) {
    if !indexed {
        let mut told = HashSet::new();
        out.retain(|v| told.insert((v.code, v.found.clone(), v.message.clone())));
    }
}

/// The checks that fire on rules with these patterns, in the catalogue's order.
pub fn findings(patterns: Patterns, scope: Scope<'_>) -> Vec<Finding> {
    let bits = patterns.through(scope);
    if bits == 0 {
        return Vec::new();
    }
    let fired: Vec<&'static Check> = CATALOGUE
        .checks
        .iter()
        .filter(|check| check.fires(bits) && check.reaches(scope))
        .collect();
    let ids = |id: &String| fired.iter().any(|check| check.id == *id);
    let derived = CATALOGUE
        .checks
        .iter()
        .filter(|check| check.derived_from.iter().any(ids));
    let direct = fired
        .iter()
        .copied()
        .filter(|check| !check.unless.as_ref().is_some_and(ids));
    direct
        .chain(derived)
        .filter_map(|check| check.finding(bits, scope))
        .collect()
}

/// One check by its id, as it would be found in this scope.
pub fn finding(id: &str, scope: Scope<'_>) -> Option<Finding> {
    let check = CATALOGUE.checks.iter().find(|check| check.id == id)?;
    check.finding(0, scope)
}

/// The combinations that a request with patterns `asked` completes for an account that holds `held`: those which what is
/// held alone does not make already.
pub fn combinations(asked: Patterns, held: Patterns, scope: Scope<'_>) -> Vec<Combination> {
    let (asked, held) = (asked.through(scope), held.through(scope));
    let total = asked | held;
    let joint = CATALOGUE.combinations.iter().filter_map(|c| {
        let parts = c.parts(scope)?;
        completed(&parts, asked, held, total).map(|missing| Combination {
            finding: c.finding(),
            missing,
        })
    });
    let halves = CATALOGUE.checks.iter().filter_map(|check| {
        if check.all.is_empty() || check.fires(asked) {
            return None;
        }
        let missing = completed(&check.parts, asked, held, total)?;
        let finding = check.finding(total, scope)?;
        Some(Combination { finding, missing })
    });
    joint.chain(halves).collect()
}

/// If every part is fulfilled in total and not by what is held alone: the parts that only what is held fulfils.
fn completed(parts: &[u128], asked: u128, held: u128, total: u128) -> Option<u128> {
    let all = |bits: u128| parts.iter().all(|part| bits & part != 0);
    let only_held = parts.iter().filter(|part| asked & **part == 0);
    (all(total) && !all(held)).then(|| only_held.fold(0, |sum, part| sum | part))
}

/// Where a finding comes from, one violation per resource that reaches too far; for a derived check, one for all.
pub fn explain(
    id: &str,
    rules: &[Rule],
    base: &str,
    indexed: bool,
    scope: Scope<'_>,
) -> Vec<Violation> {
    let at = Place { base, indexed };
    let mut out = Vec::new();
    if let Some(check) = CATALOGUE.checks.iter().find(|check| check.id == id) {
        for (index, rule) in rules.iter().enumerate() {
            explain::find(check, rule, index, at, scope, &mut out);
        }
        if out.is_empty() {
            out.push(explain::as_a_whole(check, base));
        }
    }
    once_each(&mut out, indexed);
    out
}

pub(crate) static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    parse().expect("the file is compiled in, and the test `the_catalogue_parses` parses it")
});

fn parse() -> Result<Catalogue, serde_saphyr::Error> {
    let mut catalogue: Catalogue = serde_saphyr::from_str(include_str!("catalogue.yaml"))?;
    let mut next = 0;
    for check in &mut catalogue.checks {
        let lists = check.all.len().max(usize::from(!check.any.is_empty()));
        check.parts = (0..lists).map(|i| 1 << (next + i)).collect();
        next += lists;
        if check.unnamed.is_some() {
            check.unnamed_part = 1 << next;
            next += 1;
        }
    }
    for combination in &mut catalogue.combinations {
        let of = |id: &String| catalogue.checks.iter().position(|check| check.id == *id);
        combination.checks = combination.of.iter().filter_map(of).collect();
    }
    Ok(catalogue)
}

#[derive(Deserialize)]
pub(crate) struct Catalogue {
    pub(crate) checks: Vec<Check>,
    combinations: Vec<Joint>,
}

/// One check. `parts` are its bits in [`Patterns`]: one for `any`, one for each list of `all`.
#[derive(Deserialize)]
pub(crate) struct Check {
    pub(crate) id: String,
    title: String,
    why: String,
    #[serde(rename = "sev")]
    severity: Severities,
    disposition: Disposition,
    unnamed: Option<Disposition>,
    unless: Option<String>,
    reported_as: Option<String>,
    #[serde(default)]
    pub(crate) any: Vec<Probe>,
    #[serde(default)]
    pub(crate) all: Vec<Vec<Probe>>,
    #[serde(default)]
    derived_from: Vec<String>,
    #[serde(default, rename = "ns")]
    namespaces: Vec<String>,
    #[serde(default)]
    pub(crate) live: Live,
    #[serde(default)]
    pub(crate) effect: String,
    #[serde(skip)]
    pub(crate) parts: Vec<u128>,
    #[serde(skip)]
    pub(crate) unnamed_part: u128,
}

#[derive(Deserialize)]
pub(crate) struct Probe {
    #[serde(rename = "g")]
    pub(crate) groups: Vec<String>,
    #[serde(rename = "r")]
    pub(crate) resources: Vec<String>,
    #[serde(rename = "v")]
    pub(crate) verbs: Vec<String>,
    pub(crate) names: Names,
    #[serde(default)]
    pub(crate) live: Live,
}

/// Which kind of binding makes the pattern take effect.
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
pub(crate) enum Live {
    #[default]
    #[serde(rename = "rb")]
    AnyBinding,
    #[serde(rename = "crb")]
    ClusterRoleBinding,
}

/// Which `resourceNames` do not defuse the pattern.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Names {
    Any,
    Unrestricted,
    OneOf(Vec<String>),
}

/// Checks that are worse together.
#[derive(Deserialize)]
struct Joint {
    id: String,
    title: String,
    of: Vec<String>,
    severity: Severity,
    effect: String,
    why: String,
    #[serde(skip)]
    checks: Vec<usize>,
}

impl Check {
    /// Whether the patterns fulfil every part.
    fn fires(&self, bits: u128) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| bits & part != 0)
    }

    /// Whether the check means anything in this scope.
    pub(crate) fn reaches(&self, scope: Scope<'_>) -> bool {
        let placed = match scope {
            Scope::Cluster => true,
            Scope::Namespace(name) | Scope::PrivilegedNamespace(name) => {
                self.namespaces.is_empty() || self.namespaces.iter().any(|n| n == name)
            }
        };
        placed && self.severity.within(scope).is_some()
    }

    /// Every list of probes.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &[Probe]> {
        let any = (!self.any.is_empty()).then_some(self.any.as_slice());
        any.into_iter().chain(self.all.iter().map(Vec::as_slice))
    }

    /// Whether one of its probes takes effect in this scope.
    pub(crate) fn is_live(&self, probe: &Probe, scope: Scope<'_>) -> bool {
        let anywhere = self.live == Live::AnyBinding && probe.live == Live::AnyBinding;
        anywhere || scope == Scope::Cluster
    }

    fn finding(&'static self, bits: u128, scope: Scope<'_>) -> Option<Finding> {
        let unnamed = self.unnamed.filter(|_| bits & self.unnamed_part != 0);
        Some(Finding {
            id: &self.id,
            title: &self.title,
            effect: &self.effect,
            severity: self.severity.within(scope)?,
            disposition: unnamed.unwrap_or(self.disposition),
        })
    }
}

impl Joint {
    /// The bits of each check, any one of which fulfils it; none when a check means nothing in this scope.
    fn parts(&self, scope: Scope<'_>) -> Option<Vec<u128>> {
        let checks = self.checks.iter().map(|i| &CATALOGUE.checks[*i]);
        checks
            .map(|check| {
                check
                    .reaches(scope)
                    .then(|| check.parts.iter().fold(0, |a, b| a | b))
            })
            .collect()
    }

    fn finding(&'static self) -> Finding {
        Finding {
            id: &self.id,
            title: &self.title,
            effect: &self.effect,
            severity: self.severity,
            disposition: Disposition::Named,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_parses() {
        let catalogue = parse().unwrap();
        assert_eq!(catalogue.checks.len(), 75);
        let of_checks = catalogue.checks.iter().map(|c| c.id.as_str());
        let ids: HashSet<&str> = of_checks
            .chain(catalogue.combinations.iter().map(|c| c.id.as_str()))
            .collect();
        assert_eq!(ids.len(), 80, "ids are unique");
        for id in hygiene::CHECKS {
            assert!(
                ids.contains(id),
                "{id} is written in code and not described"
            );
        }
        for c in &catalogue.combinations {
            assert_eq!(
                c.checks.len(),
                c.of.len(),
                "{} names checks that exist",
                c.id
            );
            assert!(
                c.checks.iter().all(|i| catalogue.checks[*i].all.is_empty()),
                "{}",
                c.id
            );
        }
        let parts = catalogue
            .checks
            .iter()
            .map(|c| c.parts.len() + 1)
            .sum::<usize>();
        assert!(parts <= 128 + 75, "each part has a bit of its own");
    }

    #[test]
    fn each_pattern_says_what_it_leads_to() {
        for check in CATALOGUE
            .checks
            .iter()
            .filter(|c| c.lists().next().is_some())
        {
            assert!(!check.effect.is_empty(), "{}", check.id);
        }
    }
}
