//! Whether a set of rules stays inside a ceiling, with the meaning of Kubernetes' own escalation check.
//!
//! Source: `Covers` in `k8s.io/component-helpers/auth/rbac/validation/policy_comparator.go`. There each single right
//! is compared with each rule of the owner; here the owner is compiled once, so a right costs a few look-ups.

use crate::domain::rights::{Rights, names};
use crate::domain::rules::{ALL, MAX_ATOMS, Rule, atoms, url_covers};
use std::collections::{BTreeSet, HashMap};

/// A compiled set of rules that others are held against.
#[derive(Clone, Debug, Default)]
pub struct Ceiling {
    symbols: Symbols,
    verbs: Symbols,
    targets: HashMap<(Symbol, Symbol), Target>,
    urls: Vec<(String, VerbSet)>,
}

type Symbol = u32;

/// The symbol of the verb `*`.
const EVERY_VERB: Symbol = 0;

/// Strings as small numbers, in order of appearance.
#[derive(Clone, Debug, Default)]
struct Symbols(HashMap<String, Symbol>);

impl Symbols {
    fn intern(&mut self, text: &str) -> Symbol {
        if let Some(symbol) = self.get(text) {
            return symbol;
        }
        let next = self.0.len() as Symbol;
        self.0.insert(text.to_owned(), next);
        next
    }

    fn get(&self, text: &str) -> Option<Symbol> {
        self.0.get(text).copied()
    }
}

/// What the ceiling allows on one (group, resource).
#[derive(Clone, Debug, Default)]
struct Target {
    any_name: VerbSet,
    named: HashMap<Symbol, VerbSet>,
}

/// Verbs by symbol: the first 64 of the ceiling as bits, later ones in a set that is nearly always empty.
#[derive(Clone, Debug, Default)]
struct VerbSet {
    bits: u64,
    more: BTreeSet<Symbol>,
}

impl VerbSet {
    fn insert(&mut self, verb: Symbol) {
        match 1u64.checked_shl(verb) {
            Some(bit) => self.bits |= bit,
            None => {
                self.more.insert(verb);
            }
        }
    }

    fn contains(&self, verb: Symbol) -> bool {
        match 1u64.checked_shl(verb) {
            Some(bit) => self.bits & bit != 0,
            None => self.more.contains(&verb),
        }
    }

    /// Whether the set holds the verb or `*`; a verb without symbol is one that the ceiling never names.
    fn covers(&self, verb: Option<Symbol>) -> bool {
        self.contains(EVERY_VERB) || verb.is_some_and(|verb| self.contains(verb))
    }

    fn extend(&mut self, other: &Self) {
        self.bits |= other.bits;
        self.more.extend(&other.more);
    }
}

impl Ceiling {
    /// Compiles the owner's rules.
    pub fn compile(rules: &[Rule]) -> Self {
        let mut ceiling = Self::default();
        // First, so that `*` has the symbol `EVERY_VERB`.
        ceiling.verbs.intern(ALL);
        for rule in rules {
            ceiling.add(rule);
        }
        ceiling
    }

    /// Whether every single right of the rules is covered. Rules above [`MAX_ATOMS`] never are.
    pub fn covers(&self, rules: &[Rule]) -> bool {
        atoms(rules) <= MAX_ATOMS && self.outside(rules).is_empty()
    }

    /// The single rights that the ceiling does not cover, merged back into few rules, sorted. Empty when all are.
    ///
    /// Rules above [`MAX_ATOMS`] come back whole: they are refused, not expanded.
    pub fn uncovered(&self, rules: &[Rule]) -> Vec<Rule> {
        if atoms(rules) > MAX_ATOMS {
            return rules.to_vec();
        }
        self.outside(rules).merge()
    }

    fn add(&mut self, rule: &Rule) {
        let mut verbs = VerbSet::default();
        for verb in &rule.verbs {
            verbs.insert(self.verbs.intern(verb));
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let key = (self.symbols.intern(group), self.symbols.intern(resource));
                let target = self.targets.entry(key).or_default();
                if rule.resource_names.is_empty() {
                    target.any_name.extend(&verbs);
                }
                for name in &rule.resource_names {
                    let name = self.symbols.intern(name);
                    target.named.entry(name).or_default().extend(&verbs);
                }
            }
        }
        // Upstream: an owner's names must match as well, and a URL has none.
        if rule.resource_names.is_empty() {
            let urls = rule.non_resource_urls.iter();
            self.urls.extend(urls.map(|u| (u.clone(), verbs.clone())));
        }
    }

    /// The rights outside the ceiling; the caller bounds the size of the rules.
    fn outside<'a>(&self, rules: &'a [Rule]) -> Rights<'a> {
        let mut outside = Rights::default();
        for rule in rules {
            let verbs: Vec<(&str, Option<Symbol>)> = rule
                .verbs
                .iter()
                .map(|verb| (verb.as_str(), self.verbs.get(verb)))
                .collect();
            for group in &rule.api_groups {
                for resource in &rule.resources {
                    let owners = self.owners(group, resource);
                    let any_name = any_name(&owners);
                    if verbs.iter().all(|(_, symbol)| any_name.covers(*symbol)) {
                        continue;
                    }
                    for name in names(rule) {
                        let allowed = self.on_name(&owners, name);
                        for (verb, symbol) in &verbs {
                            if !any_name.covers(*symbol) && !allowed.covers(*symbol) {
                                outside.add(group, resource, name, verb);
                            }
                        }
                    }
                }
            }
            for url in &rule.non_resource_urls {
                let allowed = self.allowed_on_url(url);
                for (verb, symbol) in &verbs {
                    if !allowed.covers(*symbol) {
                        outside.add_url(url, verb);
                    }
                }
            }
        }
        outside
    }

    /// The entries that speak of the group and resource: by name, by `*`, and by `*/subresource`.
    fn owners(&self, group: &str, resource: &str) -> Vec<&Target> {
        let any_parent = resource
            .split_once('/')
            .and_then(|(_, sub)| self.symbols.get(&format!("*/{sub}")));
        let resources = [
            self.symbols.get(resource),
            self.symbols.get(ALL),
            any_parent,
        ];
        let groups = [self.symbols.get(group), self.symbols.get(ALL)];
        let mut owners = Vec::with_capacity(6);
        for group in groups.into_iter().flatten() {
            for resource in resources.into_iter().flatten() {
                owners.extend(self.targets.get(&(group, resource)));
            }
        }
        owners
    }

    /// What they allow on objects of this name only.
    fn on_name(&self, owners: &[&Target], name: Option<&str>) -> VerbSet {
        let name = name.and_then(|name| self.symbols.get(name));
        let mut allowed = VerbSet::default();
        if let Some(name) = name {
            for verbs in owners.iter().filter_map(|owner| owner.named.get(&name)) {
                allowed.extend(verbs);
            }
        }
        allowed
    }

    fn allowed_on_url(&self, url: &str) -> VerbSet {
        let mut allowed = VerbSet::default();
        for (owner, verbs) in &self.urls {
            if url_covers(owner, url) {
                allowed.extend(verbs);
            }
        }
        allowed
    }
}

/// What the entries allow on objects of any name.
fn any_name(owners: &[&Target]) -> VerbSet {
    let mut allowed = VerbSet::default();
    for owner in owners {
        allowed.extend(&owner.any_name);
    }
    allowed
}
