//! The coverage check as upstream writes it: every single right against every owner rule. Slow, and the reference.

use std::collections::BTreeSet;
use stint::domain::rules::Rule;

/// The single rights of the rules, as rules with one element in each list.
pub fn breakdown(rules: &[Rule]) -> Vec<Rule> {
    rules.iter().flat_map(breakdown_rule).collect()
}

fn breakdown_rule(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let names = if rule.resource_names.is_empty() {
        vec![vec![]]
    } else {
        rule.resource_names.iter().map(one).collect()
    };
    let mut rights = vec![];
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                for name in &names {
                    rights.push(Rule {
                        api_groups: one(group),
                        resources: one(resource),
                        resource_names: name.clone(),
                        verbs: one(verb),
                        ..Rule::default()
                    });
                }
            }
        }
        for url in &rule.non_resource_urls {
            rights.push(Rule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Rule::default()
            });
        }
    }
    rights
}

/// The single rights of `asked` that no rule of `owner` covers.
pub fn uncovered(owner: &[Rule], asked: &[Rule]) -> Vec<Rule> {
    breakdown(asked)
        .into_iter()
        .filter(|right| !owner.iter().any(|rule| covers_right(rule, right)))
        .collect()
}

/// Rights as text, for comparing lists as sets.
pub fn as_set(rules: &[Rule]) -> BTreeSet<String> {
    breakdown(rules)
        .iter()
        .map(|right| format!("{right:?}"))
        .collect()
}

fn covers_right(owner: &Rule, right: &Rule) -> bool {
    let all_or = |list: &[String], wanted: &[String]| {
        list.iter().any(|x| x == "*") || wanted.iter().all(|w| list.contains(w))
    };
    let names = owner.resource_names.is_empty()
        || (!right.resource_names.is_empty()
            && right
                .resource_names
                .iter()
                .all(|n| owner.resource_names.contains(n)));
    all_or(&owner.verbs, &right.verbs)
        && all_or(&owner.api_groups, &right.api_groups)
        && right
            .resources
            .iter()
            .all(|r| covers_resource(&owner.resources, r))
        && names
        && right
            .non_resource_urls
            .iter()
            .all(|u| owner.non_resource_urls.iter().any(|o| covers_url(o, u)))
}

fn covers_resource(owner: &[String], resource: &str) -> bool {
    let any_parent = resource.find('/').map(|at| format!("*{}", &resource[at..]));
    owner
        .iter()
        .any(|o| o == "*" || o == resource || Some(o) == any_parent.as_ref())
}

fn covers_url(owner: &str, url: &str) -> bool {
    owner == url
        || owner
            .ends_with('*')
            .then(|| owner.trim_end_matches('*'))
            .is_some_and(|prefix| url.starts_with(prefix))
}
