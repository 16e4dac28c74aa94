//! The catalogue's probes compiled for look-up: which half-conditions a set of rules fulfils, as bits.
//!
//! A probe is met when the rule would make the upstream authorizer allow at least one of its combinations, so `*` and
//! `*/sub` in a rule reach every probe that they would reach in a request. Products are never expanded: the cost is
//! proportional to the number of groups that the catalogue knows times the length of a rule.

use crate::domain::catalogue::{CATALOGUE, Names, Scope};
use crate::domain::explain::NAMELESS;
use crate::domain::rules::{ALL, Rule};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The half-conditions of the catalogue's checks that a set of rules fulfils.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// Through a RoleBinding.
    pub namespaced: u128,
    /// Through a ClusterRoleBinding.
    pub cluster: u128,
}

impl Patterns {
    /// The patterns of the rules. Time is linear in their size, also for rules above every limit.
    pub fn of(rules: &[Rule]) -> Self {
        let index = &*INDEX;
        rules
            .iter()
            .fold(Self::default(), |sum, rule| sum.union(index.rule(rule)))
    }

    /// Either's.
    pub fn union(self, other: Self) -> Self {
        Self {
            namespaced: self.namespaced | other.namespaced,
            cluster: self.cluster | other.cluster,
        }
    }

    /// No check has anything to say.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What takes effect in this scope.
    pub fn through(self, scope: Scope<'_>) -> u128 {
        match scope {
            Scope::Cluster => self.cluster,
            Scope::Namespace(_) | Scope::PrivilegedNamespace(_) => self.namespaced,
        }
    }
}

static INDEX: LazyLock<Index> = LazyLock::new(Index::build);

/// Probes by group, then by resource as the probe writes it.
struct Index {
    groups: HashMap<&'static str, HashMap<&'static str, Vec<Entry>>>,
    verbs: HashMap<&'static str, u32>,
}

/// One probe on one resource.
struct Entry {
    part: u128,
    verbs: u32,
    names: &'static Names,
    cluster_only: bool,
}

/// The verbs of one rule and which names it is restricted to.
struct Asked<'a> {
    verbs: u32,
    nameless: u32,
    names: &'a [String],
    blank: bool,
}

impl Index {
    fn build() -> Self {
        let mut index = Self {
            groups: HashMap::new(),
            verbs: HashMap::new(),
        };
        for check in &CATALOGUE.checks {
            for (list, part) in check.lists().zip(&check.parts) {
                for probe in list {
                    let mut verbs = 0;
                    for verb in &probe.verbs {
                        let next = index.verbs.len();
                        verbs |= *index.verbs.entry(verb).or_insert(1 << next);
                    }
                    let cluster_only = !check.is_live(probe, Scope::Namespace(""));
                    for group in &probe.groups {
                        let resources = index.groups.entry(group).or_default();
                        for resource in &probe.resources {
                            let entries = resources.entry(resource).or_default();
                            let mut add = |part, names| {
                                entries.push(Entry {
                                    part,
                                    verbs,
                                    names,
                                    cluster_only,
                                });
                            };
                            add(*part, &probe.names);
                            if check.unnamed_part != 0 {
                                add(check.unnamed_part, &Names::Unrestricted);
                            }
                        }
                    }
                }
            }
        }
        index
    }

    fn rule(&self, rule: &Rule) -> Patterns {
        let mut found = Patterns::default();
        let asked = self.asked(rule);
        if asked.verbs == 0 {
            return found;
        }
        if rule.api_groups.iter().any(|group| group == ALL) {
            for resources in self.groups.values() {
                reach(resources, rule, &asked, &mut found);
            }
            return found;
        }
        // By the groups that are known, so that a rule with thousands of others costs one look-up for each.
        let mut seen: Vec<&str> = Vec::new();
        for group in &rule.api_groups {
            if let Some((name, resources)) = self.groups.get_key_value(group.as_str())
                && !seen.contains(name)
            {
                seen.push(name);
                reach(resources, rule, &asked, &mut found);
            }
        }
        found
    }

    fn asked<'a>(&self, rule: &'a Rule) -> Asked<'a> {
        let mut verbs = 0;
        for verb in &rule.verbs {
            verbs |= self.verb(verb);
        }
        let nameless = NAMELESS
            .iter()
            .filter_map(|verb| self.verbs.get(verb))
            .fold(0, |sum, bit| sum | bit);
        Asked {
            verbs,
            nameless,
            names: &rule.resource_names,
            blank: rule.resource_names.iter().any(String::is_empty),
        }
    }

    /// The bit of a verb; `*` has all, and a verb such as `impersonate:user-info` that of its family.
    fn verb(&self, verb: &str) -> u32 {
        if verb == ALL {
            return u32::MAX;
        }
        let exact = self.verbs.get(verb).copied().unwrap_or_default();
        let family = verb
            .split_once(':')
            .and_then(|(family, _)| self.verbs.get(format!("{family}:+").as_str()).copied());
        exact | family.unwrap_or_default()
    }
}

fn reach(
    resources: &HashMap<&'static str, Vec<Entry>>,
    rule: &Rule,
    asked: &Asked<'_>,
    found: &mut Patterns,
) {
    for resource in &rule.resources {
        if resource == ALL {
            resources.values().for_each(|e| meet(e, asked, found));
            continue;
        }
        let Some((parent, sub)) = resource.split_once('/') else {
            if let Some(entries) = resources.get(resource.as_str()) {
                meet(entries, asked, found);
            }
            continue;
        };
        if parent == ALL {
            let same_sub = |key: &&'static str| {
                key.split_once('/')
                    .is_some_and(|(_, probe)| probe == sub || probe == "+")
            };
            let reached = resources.iter().filter(|(key, _)| same_sub(key));
            reached.for_each(|(_, entries)| meet(entries, asked, found));
            continue;
        }
        let any_sub = format!("{parent}/+");
        for key in [resource.as_str(), any_sub.as_str()] {
            if let Some(entries) = resources.get(key) {
                meet(entries, asked, found);
            }
        }
    }
}

fn meet(entries: &[Entry], asked: &Asked<'_>, found: &mut Patterns) {
    for entry in entries {
        if entry.verbs & asked.on(entry.names) != 0 {
            found.cluster |= entry.part;
            if !entry.cluster_only {
                found.namespaced |= entry.part;
            }
        }
    }
}

impl Asked<'_> {
    /// The verbs that the rule allows on the objects that a probe is about.
    fn on(&self, names: &Names) -> u32 {
        if self.names.is_empty() {
            return self.verbs;
        }
        match names {
            Names::Any => self.verbs,
            Names::Unrestricted if self.blank => self.verbs & self.nameless,
            Names::Unrestricted => 0,
            Names::OneOf(listed) if self.names.iter().any(|n| listed.contains(n)) => self.verbs,
            Names::OneOf(_) => 0,
        }
    }
}
