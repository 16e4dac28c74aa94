//! The answer for programs. The fields are described in docs/right-sizing.md.

use super::grants::Grant;
use super::print::{Told, notes, refused_right, uses};
use crate::audit_log::Log;
use serde_json::{Value, json};
use stint::domain::rules::Rule;
use stint::domain::usage::granted;

/// Version of the output; it changes when a field goes or changes its meaning.
pub const API_VERSION: &str = "stint.dev/suggest/v1";

/// What was read.
pub fn log(log: &Log) -> Value {
    json!({
        "sources": log.sources, "events": log.events, "first": log.period.first(), "last": log.period.last(),
        "damaged": log.damaged, "impersonations": log.impersonations, "unreadable": log.unreadable,
        "undecided": log.undecided, "unconfirmed": log.unconfirmed.len(), "foreign": log.foreign
    })
}

/// One account.
pub fn account(told: &Told<'_>) -> Value {
    let (namespace, name) = told.name.split_once('/').unwrap_or_default();
    let right = |place: &str, rule: &Rule| {
        let (requests, last) = uses(told.account, place, rule);
        json!({"namespace": (!place.is_empty()).then_some(place), "rule": rule, "requests": requests, "last": last})
    };
    let places = told.proposal.places.iter();
    let rights: Vec<Value> = places
        .flat_map(|(place, rules)| rules.iter().map(|rule| right(place, rule)))
        .collect();
    let never = told.proposal.never.iter().map(|never| {
        let mut value = right(&never.place, &never.rule);
        value["codes"] = json!(never.codes);
        value
    });
    let refused = told.account.denied().into_iter().map(|(key, entry)| {
        json!({"namespace": (!key.place.is_empty()).then_some(key.place), "right": refused_right(&key, entry), "requests": entry.requests(), "last": entry.last()})
    });
    let passing = told.pairs.iter().filter(|pair| pair.refusals.is_empty());
    let objects: Vec<&Value> = passing
        .flat_map(|pair| [&pair.policy, &pair.access])
        .collect();
    json!({
        "namespace": namespace, "name": name, "allowed": told.account.allowed, "refused": told.account.refused,
        "first": told.account.first, "last": told.account.last, "rights": rights, "never": never.collect::<Vec<_>>(),
        "refusedRights": refused.collect::<Vec<_>>(), "notes": notes(told),
        "grants": told.grants.iter().map(grant).collect::<Vec<_>>(), "objects": objects
    })
}

fn grant(grant: &Grant) -> Value {
    let lines = grant.lines.as_ref().map(|lines| {
        let line = |line: &granted::Line| {
            let used: Vec<Value> = line
                .used
                .iter()
                .map(|((verb, on), requests)| json!({"verb": verb, "on": on, "requests": requests}))
                .collect();
            json!({"rule": line.rule, "used": used, "unused": line.unused})
        };
        lines.iter().map(line).collect::<Vec<Value>>()
    });
    json!({"by": grant.title, "role": grant.role, "until": grant.until, "requests": grant.requests, "rules": lines})
}
