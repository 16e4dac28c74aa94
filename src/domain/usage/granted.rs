//! What a binding gives, held against what was used of it.
//!
//! RBAC asks ClusterRoleBindings first and names the first binding that allows: a use counts for that one, and others that
//! would have allowed it too stay unused.

use crate::domain::rules::{ALL, Rule, allows, atoms};
use crate::domain::usage::tally::{Account, Key, Tally};
use crate::domain::usage::uses::By;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// A binding by the namespace that it is in, none for a ClusterRoleBinding, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingKey {
    /// The namespace of a RoleBinding.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// The binding that the authorizer names (`describe` in Kubernetes' RBAC authorizer); none where another one allowed it.
pub fn binding(reason: &str) -> Option<BindingKey> {
    let rest = reason.strip_prefix("RBAC: allowed by ")?;
    let (kind, rest) = rest.split_once(" \"")?;
    let (quoted, _) = rest.split_once('"')?;
    match (kind, quoted.rsplit_once('/')) {
        ("RoleBinding", Some((name, namespace))) => Some(BindingKey {
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        }),
        ("ClusterRoleBinding", _) => Some(BindingKey {
            namespace: None,
            name: quoted.to_owned(),
        }),
        _ => None,
    }
}

/// What was used of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The rule.
    pub rule: Rule,
    /// What was used of it, as verb and resource or path, with the number of requests.
    pub used: BTreeMap<(String, String), u64>,
    /// The part that was not used, taken apart as little as possible. `*` stays what it is, and so do the names of objects: that one of
    /// them was used is enough.
    pub unused: Vec<Rule>,
}

/// What accounts used, by the binding that allowed it; what another authorizer allowed under none.
#[derive(Debug, Default)]
pub struct Used<'a> {
    by: HashMap<Option<BindingKey>, Vec<Through<'a>>>,
}

/// The uses of one right that one binding allowed.
#[derive(Clone, Copy, Debug)]
struct Through<'a> {
    key: Key<'a>,
    name: Option<&'a str>,
    by: By,
}

impl<'a> Used<'a> {
    /// What these accounts used together.
    pub fn of(tally: &'a Tally, accounts: impl IntoIterator<Item = &'a Account>) -> Self {
        let mut used = Self::default();
        // Each reason is read once.
        let mut bindings: HashMap<u32, Option<BindingKey>> = HashMap::new();
        let entries = accounts.into_iter().flat_map(Account::used);
        for (key, entry) in entries {
            for (name, uses) in entry.uses() {
                for by in &uses.by {
                    let words = || binding(tally.reason(by.reason));
                    let binding = bindings.entry(by.reason).or_insert_with(words);
                    let by = *by;
                    let through = used.by.entry(binding.clone()).or_default();
                    through.push(Through { key, name, by });
                }
            }
        }
        used
    }

    /// Every binding that allowed anything, with the number of requests.
    pub fn bindings(&self) -> BTreeMap<Option<BindingKey>, u64> {
        let all = self.by.iter();
        all.map(|(key, uses)| (key.clone(), sum(uses))).collect()
    }

    /// Requests that the binding allowed.
    pub fn requests(&self, key: &BindingKey) -> u64 {
        sum(self.through(key))
    }

    /// When the first and the last of them arrived.
    pub fn times(&self, key: &BindingKey) -> (Option<Timestamp>, Option<Timestamp>) {
        let uses = self.through(key);
        let first = uses.iter().filter_map(|one| one.by.first).min();
        (first, uses.iter().filter_map(|one| one.by.last).max())
    }

    /// What the binding allowed, as verb and resource or path, with the number of requests.
    pub fn rights(&self, key: &BindingKey) -> BTreeMap<(String, String), u64> {
        let mut rights = BTreeMap::new();
        for one in self.through(key) {
            let right = (one.key.verb.to_owned(), target(&one.key));
            *rights.entry(right).or_default() += one.by.requests;
        }
        rights
    }

    /// What of the rules of the binding was used through it.
    pub fn lines(&self, key: &BindingKey, rules: &[Rule]) -> Vec<Line> {
        let used = self.through(key);
        rules.iter().map(|rule| line(rule, used)).collect()
    }

    fn through(&self, key: &BindingKey) -> &[Through<'a>] {
        let found = self.by.get(&Some(key.clone()));
        found.map_or(&[], Vec::as_slice)
    }
}

fn sum(uses: &[Through<'_>]) -> u64 {
    uses.iter().map(|one| one.by.requests).sum()
}

fn line(rule: &Rule, used: &[Through<'_>]) -> Line {
    let mut told = BTreeMap::new();
    let mut touched: Vec<(&str, String)> = Vec::new();
    for one in used.iter().filter(|one| reaches(rule, one)) {
        let target = target(&one.key);
        *told
            .entry((one.key.verb.to_owned(), target.clone()))
            .or_default() += one.by.requests;
        touched.push((one.key.verb, target));
    }
    let touches = |verb: &str, target: &str| {
        verb != ALL && touched.iter().any(|(v, t)| *v == verb && t == target)
    };
    Line {
        rule: rule.clone(),
        unused: unused(rule, &touches),
        used: told,
    }
}

/// Of uses on more names than are kept the names are unknown: any of the rule's may be among them.
fn reaches(rule: &Rule, one: &Through<'_>) -> bool {
    match one.name {
        Some(name) => allows(rule, &one.key.request(name)),
        None => {
            let unnamed = Rule {
                resource_names: Vec::new(),
                ..rule.clone()
            };
            allows(&unnamed, &one.key.request(""))
        }
    }
}

/// `resource.group/sub`, as kubectl writes it, or the path.
pub fn target(key: &Key<'_>) -> String {
    resource(key.group, key.target)
}

fn resource(group: &str, target: &str) -> String {
    if group.is_empty() || target.starts_with('/') {
        return target.to_owned();
    }
    match target.split_once('/') {
        Some((resource, sub)) => format!("{resource}.{group}/{sub}"),
        None => format!("{target}.{group}"),
    }
}

/// For each resource or path of the rule the verbs that were not used on it, merged where they are the same.
fn unused(rule: &Rule, touches: &dyn Fn(&str, &str) -> bool) -> Vec<Rule> {
    let mut by_verbs: BTreeMap<Vec<String>, Rule> = BTreeMap::new();
    let left = |target: String| -> Vec<String> {
        rule.verbs
            .iter()
            .filter(|verb| !touches(verb, &target))
            .cloned()
            .collect()
    };
    let mut out = Vec::new();
    for group in &rule.api_groups {
        for name in &rule.resources {
            let verbs = left(resource(group, name));
            let same = by_verbs.entry(verbs.clone()).or_insert_with(|| Rule {
                verbs,
                resource_names: rule.resource_names.clone(),
                ..Rule::default()
            });
            push(&mut same.api_groups, group);
            push(&mut same.resources, name);
        }
        // A product of groups and resources is taken apart by group.
        out.extend(std::mem::take(&mut by_verbs).into_values());
    }
    for url in &rule.non_resource_urls {
        let verbs = left(url.clone());
        let same = by_verbs.entry(verbs.clone()).or_insert_with(|| Rule {
            verbs,
            ..Rule::default()
        });
        push(&mut same.non_resource_urls, url);
    }
    out.extend(by_verbs.into_values());
    out.retain(|rule| !rule.verbs.is_empty());
    out
}

fn push(list: &mut Vec<String>, word: &str) {
    if !list.iter().any(|known| known == word) {
        list.push(word.to_owned());
    }
}

/// How many rights the rules give and how many of them were not used; names are not counted, and `*` counts once.
pub fn counts(lines: &[Line]) -> (usize, usize) {
    let rights = |rule: &Rule| {
        let unnamed = Rule {
            resource_names: Vec::new(),
            ..rule.clone()
        };
        atoms(std::slice::from_ref(&unnamed))
    };
    let given = lines.iter().map(|line| rights(&line.rule)).sum();
    let unused = lines.iter().flat_map(|line| &line.unused).map(rights).sum();
    (given, unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_is_read_from_the_words_of_the_authorizer() {
        let key = |namespace: Option<&str>, name: &str| {
            Some(BindingKey {
                namespace: namespace.map(str::to_owned),
                name: name.to_owned(),
            })
        };
        let words = r#"RBAC: allowed by RoleBinding "stint-x/payments" of Role "stint-x" to ServiceAccount "migrator/payments""#;
        assert_eq!(binding(words), key(Some("payments"), "stint-x"));
        let words = r#"RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group "system:authenticated""#;
        assert_eq!(binding(words), key(None, "system:discovery"));
        assert_eq!(binding(""), None);
        assert_eq!(binding("webhook says so"), None);
        assert_eq!(binding("RBAC: allowed by RoleBinding \"x"), None);
    }
}
