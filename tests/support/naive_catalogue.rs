//! The catalogue evaluated as its file reads: every combination of every probe against every rule. Slow, and the
//! reference. Only the two enumerations of the product are used, none of its code.

use serde::Deserialize;
use std::collections::BTreeMap;
use stint::domain::catalogue::{Disposition, Scope, Severity};
use stint::domain::rules::Rule;

/// Verbs of requests without a name, on which `""` in `resourceNames` matches.
const NAMELESS: [&str; 4] = ["list", "watch", "create", "deletecollection"];

#[derive(Deserialize)]
pub struct Catalogue {
    pub checks: Vec<Check>,
    combinations: Vec<Combination>,
}

#[derive(Deserialize)]
pub struct Check {
    id: String,
    sev: BTreeMap<String, Severity>,
    disposition: Disposition,
    unnamed: Option<Disposition>,
    unless: Option<String>,
    #[serde(default)]
    derived_from: Vec<String>,
    #[serde(default)]
    ns: Vec<String>,
    live: Option<String>,
    #[serde(default)]
    pub any: Vec<Probe>,
    #[serde(default)]
    pub all: Vec<Vec<Probe>>,
}

#[derive(Deserialize)]
pub struct Probe {
    pub g: Vec<String>,
    pub r: Vec<String>,
    pub v: Vec<String>,
    pub names: Names,
    live: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Names {
    Any,
    Unrestricted,
    OneOf(Vec<String>),
}

#[derive(Deserialize)]
struct Combination {
    id: String,
    of: Vec<String>,
    severity: Severity,
}

/// Id, severity and disposition.
pub type Found<'a> = (&'a str, Severity, Disposition);

pub fn catalogue() -> Catalogue {
    serde_saphyr::from_str(include_str!("../../src/domain/catalogue.yaml")).unwrap()
}

impl Catalogue {
    /// What fires on these rules, in the order of the file.
    pub fn findings(&self, rules: &[Rule], scope: Scope<'_>) -> Vec<Found<'_>> {
        let fires = |check: &&Check| check.fires(rules, scope) && check.means_something_in(scope);
        let fired: Vec<&str> = self
            .checks
            .iter()
            .filter(fires)
            .map(|c| c.id.as_str())
            .collect();
        let told = |check: &&Check| {
            let hidden = |other: &String| fired.contains(&other.as_str());
            let by_itself = fired.contains(&check.id.as_str());
            (by_itself && !check.unless.as_ref().is_some_and(hidden))
                || check.derived_from.iter().any(hidden)
        };
        let told = self.checks.iter().filter(told);
        told.filter_map(|check| {
            let severity = check.severity(scope)?;
            Some((
                check.id.as_str(),
                severity,
                check.disposition_for(rules, scope),
            ))
        })
        .collect()
    }

    /// What the rules make together with what is held, and what is held does not make alone; and whether it needs both.
    pub fn combinations(
        &self,
        asked: &[Rule],
        held: &[Rule],
        scope: Scope<'_>,
    ) -> Vec<(Found<'_>, bool)> {
        let total = [asked, held].concat();
        let mut out = vec![];
        for joint in &self.combinations {
            let of: Vec<&Check> = joint.of.iter().map(|id| self.check(id)).collect();
            let made_by = |rules: &[Rule]| {
                let fires = |c: &&Check| c.fires(rules, scope) && c.means_something_in(scope);
                of.iter().all(fires)
            };
            if made_by(&total) && !made_by(held) {
                let found = (joint.id.as_str(), joint.severity, Disposition::Named);
                out.push((found, !made_by(asked)));
            }
        }
        for check in self.checks.iter().filter(|check| !check.all.is_empty()) {
            let made_by = |rules: &[Rule]| check.fires(rules, scope);
            if let Some(severity) = check.severity(scope)
                && made_by(&total)
                && !made_by(asked)
                && !made_by(held)
            {
                let disposition = check.disposition_for(&total, scope);
                out.push(((check.id.as_str(), severity, disposition), true));
            }
        }
        out
    }

    fn check(&self, id: &str) -> &Check {
        self.checks.iter().find(|check| check.id == id).unwrap()
    }
}

impl Check {
    pub fn id(&self) -> &str {
        &self.id
    }

    fn severity(&self, scope: Scope<'_>) -> Option<Severity> {
        let key = match scope {
            Scope::Namespace(_) => "ns",
            Scope::PrivilegedNamespace(_) => "privns",
            Scope::Cluster => "cluster",
        };
        self.sev.get(key).copied()
    }

    fn means_something_in(&self, scope: Scope<'_>) -> bool {
        let here = match scope {
            Scope::Cluster => true,
            Scope::Namespace(name) | Scope::PrivilegedNamespace(name) => {
                self.ns.is_empty() || self.ns.iter().any(|n| n == name)
            }
        };
        here && self.severity(scope).is_some()
    }

    fn fires(&self, rules: &[Rule], scope: Scope<'_>) -> bool {
        let one_fires = |list: &[Probe]| list.iter().any(|p| self.probe(p, &p.names, rules, scope));
        let any = !self.any.is_empty() && one_fires(&self.any);
        let all = !self.all.is_empty() && self.all.iter().all(|list| one_fires(list));
        any || all
    }

    fn probe(&self, probe: &Probe, names: &Names, rules: &[Rule], scope: Scope<'_>) -> bool {
        let crb = |live: &Option<String>| live.as_deref() == Some("crb");
        let dead = scope != Scope::Cluster && (crb(&self.live) || crb(&probe.live));
        !dead && rules.iter().any(|rule| probe.fires(names, rule))
    }

    fn disposition_for(&self, rules: &[Rule], scope: Scope<'_>) -> Disposition {
        let mut probes = self.any.iter().chain(self.all.iter().flatten());
        match self.unnamed {
            Some(unnamed) if probes.any(|p| self.probe(p, &Names::Unrestricted, rules, scope)) => {
                unnamed
            }
            _ => self.disposition,
        }
    }
}

impl Probe {
    fn fires(&self, names: &Names, rule: &Rule) -> bool {
        for group in &self.g {
            if !has(&rule.api_groups, group) {
                continue;
            }
            for verb in &self.v {
                if !verb_matches(&rule.verbs, verb) || !names_match(names, rule, verb) {
                    continue;
                }
                if self.r.iter().any(|r| resource_matches(&rule.resources, r)) {
                    return true;
                }
            }
        }
        false
    }
}

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|x| x == "*" || x == word)
}

fn verb_matches(held: &[String], wanted: &str) -> bool {
    match wanted.strip_suffix('+') {
        Some(prefix) => held.iter().any(|x| x == "*" || x.starts_with(prefix)),
        None => has(held, wanted),
    }
}

fn resource_matches(held: &[String], wanted: &str) -> bool {
    let Some((parent, sub)) = wanted.split_once('/') else {
        return has(held, wanted);
    };
    let reaches = |x: &String| match x.split_once('/') {
        Some((of, its)) => (of == "*" || of == parent) && (sub == "+" || its == sub),
        None => x == "*",
    };
    held.iter().any(reaches)
}

fn names_match(names: &Names, rule: &Rule, verb: &str) -> bool {
    let held = &rule.resource_names;
    held.is_empty()
        || match names {
            Names::Any => true,
            Names::Unrestricted => {
                NAMELESS.contains(&verb) && held.iter().any(|name| name.is_empty())
            }
            Names::OneOf(listed) => held.iter().any(|name| listed.contains(name)),
        }
}
