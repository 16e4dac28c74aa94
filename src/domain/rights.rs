//! Sets of single rights: rules taken apart, stripped of what is covered anyway, and merged back.

use crate::domain::rules::{ALL, Rule, atoms, url_covers};
use std::collections::{BTreeMap, BTreeSet};

/// (group, resource, name); no name is all names.
type Target<'a> = (&'a str, &'a str, Option<&'a str>);
type Words<'a> = BTreeSet<&'a str>;

/// Single rights: what upstream's `BreakdownRule` yields, keyed by target.
#[derive(Default)]
pub(crate) struct Rights<'a> {
    resources: BTreeMap<Target<'a>, Words<'a>>,
    urls: BTreeMap<&'a str, Words<'a>>,
}

impl<'a> Rights<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.urls.is_empty()
    }

    /// Adds one verb on one target.
    pub(crate) fn add(
        &mut self,
        group: &'a str,
        resource: &'a str,
        name: Option<&'a str>,
        verb: &'a str,
    ) {
        let verbs = self.resources.entry((group, resource, name)).or_default();
        verbs.insert(verb);
    }

    /// Adds one verb on one URL.
    pub(crate) fn add_url(&mut self, url: &'a str, verb: &'a str) {
        self.urls.entry(url).or_default().insert(verb);
    }

    /// Every right of the rules; the caller bounds their number.
    pub(crate) fn of(rules: &'a [Rule]) -> Self {
        let mut rights = Self::default();
        for rule in rules {
            rights.insert(rule);
        }
        rights
    }

    fn insert(&mut self, rule: &'a Rule) {
        for verb in &rule.verbs {
            for group in &rule.api_groups {
                for resource in &rule.resources {
                    for name in names(rule) {
                        self.add(group, resource, name, verb);
                    }
                }
            }
            for url in &rule.non_resource_urls {
                self.add_url(one_star(url), verb);
            }
        }
    }

    /// Drops each right that a wider one of the set covers.
    pub(crate) fn without_covered(&self) -> Self {
        let mut kept = Self::default();
        for (target, verbs) in &self.resources {
            let wider = wider(*target);
            let others: Vec<&Words> = wider
                .iter()
                .filter_map(|(g, r, n)| self.resources.get(&(*g, r.as_str(), *n)))
                .collect();
            for verb in uncovered_verbs(verbs, &others) {
                kept.add(target.0, target.1, target.2, verb);
            }
        }
        for (url, verbs) in &self.urls {
            let others: Vec<&Words> = self
                .urls
                .iter()
                .filter(|(other, _)| *other != url && url_covers(other, url))
                .map(|(_, verbs)| verbs)
                .collect();
            for verb in uncovered_verbs(verbs, &others) {
                kept.add_url(url, verb);
            }
        }
        kept
    }

    /// The fewest rules that plain merging along one list at a time gives: verbs, then names, resources, groups.
    pub(crate) fn merge(self) -> Vec<Rule> {
        let by_name = collect(
            self.resources
                .into_iter()
                .map(|((g, r, n), verbs)| ((g, r, n.is_some(), verbs), n.unwrap_or_default())),
        );
        let by_resource = collect(by_name.into_iter().map(|((g, r, named, verbs), names)| {
            let names = if named { names } else { Words::new() };
            ((g, names, verbs), r)
        }));
        let by_group = collect(
            by_resource
                .into_iter()
                .map(|((g, names, verbs), resources)| ((resources, names, verbs), g)),
        );
        let by_url = collect(self.urls.into_iter().map(|(url, verbs)| (verbs, url)));
        let on_resources = by_group
            .into_iter()
            .map(|((resources, names, verbs), groups)| Rule {
                api_groups: owned(groups),
                resources: owned(resources),
                resource_names: owned(names),
                verbs: owned(verbs),
                non_resource_urls: Vec::new(),
            });
        let on_urls = by_url.into_iter().map(|(verbs, urls)| Rule {
            verbs: owned(verbs),
            non_resource_urls: owned(urls),
            ..Rule::default()
        });
        let mut rules: Vec<Rule> = on_resources.chain(on_urls).collect();
        rules.sort_by(order);
        rules
    }
}

/// The names of a rule, or once "all names".
pub(crate) fn names(rule: &Rule) -> impl Iterator<Item = Option<&str>> {
    let all = rule.resource_names.is_empty().then_some(None);
    let each = rule.resource_names.iter().map(|name| Some(name.as_str()));
    all.into_iter().chain(each)
}

/// `/a**` matches as `/a*` does.
fn one_star(url: &str) -> &str {
    let stem = url.trim_end_matches('*');
    &url[..url.len().min(stem.len() + 1)]
}

/// The targets that strictly contain this one.
fn wider<'a>(target: Target<'a>) -> Vec<(&'a str, String, Option<&'a str>)> {
    let (group, resource, name) = target;
    let mut resources = vec![resource.to_owned(), ALL.to_owned()];
    if let Some((_, sub)) = resource.split_once('/') {
        resources.push(format!("*/{sub}"));
    }
    let mut out = Vec::with_capacity(12);
    for g in [group, ALL] {
        for r in &resources {
            for n in [name, None] {
                if (g, r.as_str(), n) != target {
                    out.push((g, r.clone(), n));
                }
            }
        }
    }
    out
}

fn uncovered_verbs<'a>(verbs: &Words<'a>, others: &[&Words<'a>]) -> Words<'a> {
    if others.iter().any(|o| o.contains(ALL)) {
        return Words::new();
    }
    if verbs.contains(ALL) {
        return Words::from([ALL]);
    }
    let elsewhere = |verb: &&str| others.iter().any(|o| o.contains(verb));
    verbs.iter().copied().filter(|v| !elsewhere(v)).collect()
}

/// Rules with sorted, deduplicated lists and in order; nothing is expanded.
pub(crate) fn sorted(rules: &[Rule]) -> Vec<Rule> {
    let list = |values: &[String]| -> Vec<String> {
        let set: BTreeSet<&String> = values.iter().collect();
        set.into_iter().cloned().collect()
    };
    let mut out: Vec<Rule> = rules
        .iter()
        .filter(|rule| atoms(std::slice::from_ref(rule)) > 0)
        .map(|rule| Rule {
            api_groups: list(&rule.api_groups),
            resources: list(&rule.resources),
            resource_names: list(&rule.resource_names),
            verbs: list(&rule.verbs),
            non_resource_urls: list(&rule.non_resource_urls),
        })
        .collect();
    out.sort_by(order);
    out.dedup();
    out
}

fn order(a: &Rule, b: &Rule) -> std::cmp::Ordering {
    let key = |r: &Rule| !r.non_resource_urls.is_empty();
    key(a)
        .cmp(&key(b))
        .then_with(|| a.api_groups.cmp(&b.api_groups))
        .then_with(|| a.resources.cmp(&b.resources))
        .then_with(|| a.resource_names.cmp(&b.resource_names))
        .then_with(|| a.non_resource_urls.cmp(&b.non_resource_urls))
        .then_with(|| a.verbs.cmp(&b.verbs))
}

fn collect<'a, K: Ord>(pairs: impl Iterator<Item = (K, &'a str)>) -> BTreeMap<K, Words<'a>> {
    let mut out: BTreeMap<K, Words<'a>> = BTreeMap::new();
    for (key, word) in pairs {
        out.entry(key).or_default().insert(word);
    }
    out
}

fn owned(words: Words<'_>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}
