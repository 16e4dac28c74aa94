//! Why a check fires on some rules, told where a person can change it: one line per resource that reaches too far.

use crate::domain::catalogue::{Check, Names, Probe, Scope};
use crate::domain::hygiene::{Place, distinct};
use crate::domain::rules::{ALL, Rule};
use crate::domain::violation::{Problem, Violation};

/// Verbs of requests that name no object.
pub(crate) const NAMELESS: [&str; 4] = ["list", "watch", "create", "deletecollection"];

/// One violation for each resource of the rule that some probe matches, with all verbs that are too many on it.
pub(crate) fn find(
    check: &'static Check,
    rule: &Rule,
    index: usize,
    at: Place<'_>,
    scope: Scope<'_>,
    out: &mut Vec<Violation>,
) {
    let live = |p: &&'static Probe| check.is_live(p, scope) && groups_match(p, rule);
    let probes: Vec<&'static Probe> = check.lists().flatten().filter(live).collect();
    if probes.is_empty() {
        return;
    }
    for (j, resource) in distinct(&rule.resources) {
        let mut verbs: Vec<&str> = Vec::new();
        let mut targets: Vec<&str> = Vec::new();
        for probe in &probes {
            let too_many = verbs_of(probe, rule);
            if too_many.is_empty() {
                continue;
            }
            let before = targets.len();
            let reached = probe.resources.iter().filter(|r| reaches(resource, r));
            targets.extend(reached.map(String::as_str));
            if targets.len() > before {
                verbs.extend(too_many);
            }
        }
        if !targets.is_empty() {
            let path = at.element(index, "resources", j);
            let message = message(check, resource, &targets, &verbs);
            out.push(Violation::new(&check.id, path, Problem::Forbidden, message).found(resource));
        }
    }
}

/// One violation for what cannot be told of a single resource.
pub(crate) fn as_a_whole(check: &'static Check, base: &str) -> Violation {
    Violation::new(&check.id, base, Problem::Forbidden, check.effect.as_str())
}

fn message(check: &Check, resource: &str, targets: &[&str], verbs: &[&str]) -> String {
    let verbs = quoted(verbs);
    let effect = &check.effect;
    if targets.contains(&resource) {
        format!("must be granted without {verbs}: {effect}")
    } else {
        let targets = quoted(targets);
        format!("must be granted without {verbs} on {targets}: {effect}")
    }
}

fn groups_match(probe: &Probe, rule: &Rule) -> bool {
    let groups = &mut rule.api_groups.iter();
    groups.any(|g| g == ALL || probe.groups.contains(g))
}

/// The verbs of the probe that the rule allows on the objects the probe is about.
fn verbs_of<'a>(probe: &'a Probe, rule: &'a Rule) -> Vec<&'a str> {
    let every = rule.verbs.iter().any(|v| v == ALL);
    let mut out = Vec::new();
    for wanted in &probe.verbs {
        if !names_match(&probe.names, rule, wanted) {
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

fn names_match(names: &Names, rule: &Rule, verb: &str) -> bool {
    let held = &rule.resource_names;
    held.is_empty()
        || match names {
            Names::Any => true,
            Names::Unrestricted => NAMELESS.contains(&verb) && held.iter().any(String::is_empty),
            Names::OneOf(listed) => held.iter().any(|name| listed.contains(name)),
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
