//! The policies that a request is tried against, and what had to be assumed for each because the input does not say it.

use crate::world::{KnownPolicy, World, named};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;
use std::sync::Arc;
use stint::api::names::NAMESPACE_NAME;
use stint::domain::grant::Grant;
use stint::domain::policy::Policy;

/// A policy that is tried, and what was assumed for it.
pub struct Candidate {
    /// The policy, without what cannot be decided.
    pub policy: Arc<Policy>,
    /// One line for each thing that was assumed.
    pub assumed: Vec<String>,
}

/// Their policies, as the judge takes them; that the requester may use them is assumed.
pub fn tried<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Vec<(Arc<Policy>, bool)> {
    candidates.map(|c| (Arc::clone(&c.policy), true)).collect()
}

/// The policies that select the namespace, and those of which nobody can tell.
pub fn candidates(grant: &Grant, world: &World) -> Vec<Candidate> {
    let all = world.policies.iter();
    all.filter_map(|known| candidate(grant, world, known))
        .collect()
}

fn candidate(grant: &Grant, world: &World, known: &KnownPolicy) -> Option<Candidate> {
    let name = known.policy.name();
    let mut tried = known.object.clone();
    let mut assumed = Vec::new();
    let selector = &tried.spec.namespace_selector;
    let by_name = named(grant.home());
    let labels = world
        .namespace(grant.home())
        .or_else(|| asks_for_the_name_alone(selector).then_some(&by_name));
    match labels {
        Some(labels) if !known.policy.selects_namespace(labels) => return None,
        None if !selects_all(selector) => assumed.push(format!(
            "whether policy '{name}' selects namespace '{}', whose labels are not in the input; add its manifest",
            grant.home()
        )),
        _ => {}
    }
    let selector = tried.spec.service_accounts.selector.as_mut();
    if let Some(by_labels) = selector.filter(|s| !selects_all(s))
        && world.account(grant.account()).is_none()
    {
        assumed.push(format!(
            "whether policy '{name}' selects ServiceAccount '{}', whose labels are not in the input; add its manifest",
            grant.account()
        ));
        *by_labels = LabelSelector::default();
    }
    if let Some(conditions) = &mut tried.spec.conditions {
        let mut reads = known.reads.iter();
        conditions.retain(|condition| {
            let reads = reads.next().map_or(&[][..], Vec::as_slice);
            let missing = unknown_to(reads, grant, world);
            assumed.extend(missing.map(|what| {
                let expression = &condition.expression;
                format!("whether the condition `{expression}` of policy '{name}' holds; {what} is not in the input")
            }));
            missing.is_none()
        });
    }
    // What is left of a policy that compiled compiles too; if it did not, the whole of it would still decide.
    let policy = match assumed.is_empty() {
        true => Arc::clone(&known.policy),
        false => Policy::compile(&tried).map_or(Arc::clone(&known.policy), Arc::new),
    };
    Some(Candidate { policy, assumed })
}

/// What a condition looks at and files cannot say, or do not.
fn unknown_to<'a>(reads: &'a [String], grant: &Grant, world: &World) -> Option<&'a str> {
    let account = world.account(grant.account());
    let no_uid = account.is_none_or(|account| account.uid.is_empty());
    let no_namespace = world.namespace(grant.home()).is_none();
    let acts = grant.workload().is_some();
    let unknown = [
        ("workload", acts),
        ("requester", true),
        ("namespaceObject.metadata.labels", no_namespace),
        ("serviceAccount.labels", account.is_none()),
        ("serviceAccount.uid", no_uid),
    ];
    let touches = |read: &&String| {
        let of = |field: &(&str, bool)| field.1 && (within(field.0, read) || within(read, field.0));
        unknown.iter().any(of)
    };
    reads.iter().find(touches).map(String::as_str)
}

/// Whether a path is the other one, or leads to a field below it.
fn within(path: &str, other: &str) -> bool {
    let below = path.strip_prefix(other);
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a selector asks for nothing but the name, which is known of every namespace.
fn asks_for_the_name_alone(selector: &LabelSelector) -> bool {
    let labels = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    let mut keys = labels
        .map(|(key, _)| key)
        .chain(expressions.map(|e| &e.key));
    !selects_all(selector) && keys.all(|key| key == NAMESPACE_NAME)
}

fn selects_all(selector: &LabelSelector) -> bool {
    let labels = selector
        .match_labels
        .as_ref()
        .is_none_or(BTreeMap::is_empty);
    let expressions = selector
        .match_expressions
        .as_ref()
        .is_none_or(Vec::is_empty);
    labels && expressions
}
