//! Where the rules of a grant come from: the request, or a copy of a role as it was when the grant became active.

use crate::api::workload_access::{RoleReference, SourceStamp};
use crate::domain::catalogue::Scope;
use crate::domain::facts::{Facts, Role, RoleFacts};
use crate::domain::grant::{Grant, Source};
use crate::domain::hygiene;
use crate::domain::rules::{self, Rule};
use crate::domain::served;
use crate::domain::violation::{Problem, Violation};
use std::borrow::Cow;

/// The rules of the request, or of the role it names. A live grant keeps the rules it was activated with.
///
/// Of a role only what does something in `scope` is copied; a request may not contain anything else.
pub(crate) fn granted_rules<'a>(
    grant: &'a Grant,
    facts: &'a Facts,
    scope: Scope<'_>,
    wrong: &mut Vec<Violation>,
) -> Cow<'a, [Rule]> {
    let reference = match grant.source() {
        Source::Rules(rules) => {
            check_reach(grant, facts, rules, scope, wrong);
            return Cow::Borrowed(rules);
        }
        Source::Role(reference) => reference,
    };
    if let (Some(_), Some(copy)) = (&facts.live, &facts.copy) {
        return Cow::Borrowed(copy);
    }
    let role = match &facts.role {
        RoleFacts::Found(role) => role,
        RoleFacts::Missing | RoleFacts::NotReferenced => {
            let message = "must name a role that exists";
            wrong.push(refuse(
                "WA-ROLE-MISSING",
                reference,
                Problem::NotFound,
                message,
            ));
            return Cow::default();
        }
    };
    if let Some((code, message)) = unusable(role) {
        wrong.push(refuse(code, reference, Problem::Invalid, message));
        return Cow::default();
    }
    let rules = effective(&role.rules, facts, scope);
    if rules.is_empty() {
        let message = match scope {
            Scope::Cluster => "must name a role with rules for something that is served",
            Scope::Namespace(_) | Scope::PrivilegedNamespace(_) => {
                "must name a role with rules that do something in the namespace of the request"
            }
        };
        wrong.push(refuse("WA-INERT", reference, Problem::Invalid, message));
        return Cow::default();
    }
    if let Some(live) = &facts.live
        && rules::hash(&rules) != live.rules_hash
    {
        let message = "the copy of the role was changed, and the role no longer has the rules that were granted";
        wrong.push(refuse(
            "WA-ROLE-MISSING",
            reference,
            Problem::Invalid,
            message,
        ));
        return Cow::default();
    }
    Cow::Owned(rules)
}

/// A live grant is left alone: rules that do nothing harm nobody, and what is served may change for a moment.
fn check_reach(
    grant: &Grant,
    facts: &Facts,
    rules: &[Rule],
    scope: Scope<'_>,
    wrong: &mut Vec<Violation>,
) {
    if let (Some(served), None, true) = (&facts.served, &facts.live, hygiene::fits(rules)) {
        served::check(rules, grant.source().path(), scope, served, wrong);
    }
}

fn effective(rules: &[Rule], facts: &Facts, scope: Scope<'_>) -> Vec<Rule> {
    match &facts.served {
        Some(served) if hygiene::fits(rules) => {
            rules::canonical(&served::effective(rules, scope, served))
        }
        _ => rules.to_vec(),
    }
}

/// Whether a grant of these rules in the whole cluster gives anything that lives in namespaces, beside whatever else:
/// bindings in the namespaces that need it would do. A live grant keeps what was found when it began.
pub(crate) fn in_namespaces(facts: &Facts, rules: &[Rule]) -> bool {
    match (&facts.live, &facts.served) {
        (Some(live), _) => live.in_namespaces,
        (None, Some(served)) => served.any_namespaced(rules),
        (None, None) => false,
    }
}

/// Why nobody can tell now what the rules mean, if so.
pub(crate) fn unknowable(facts: &Facts, rules: &[Rule]) -> Option<String> {
    let served = facts.served.as_ref().filter(|_| facts.live.is_none())?;
    let groups = served.unavailable(rules);
    let names: Vec<String> = groups.iter().map(|group| format!("'{group}'")).collect();
    (!names.is_empty()).then(|| {
        format!(
            "the API server cannot say now what API group {} serves",
            names.join(", ")
        )
    })
}

fn unusable(role: &Role) -> Option<(&'static str, &'static str)> {
    if role.made_by_stint {
        return Some((
            "WA-ROLE-MISSING",
            "must name a role of its own; this one is the copy that Stint made for a grant",
        ));
    }
    if role.selects_itself {
        return Some((
            "WA-ROLE-AGGREGATED",
            "must not be put together from itself; its aggregation rule selects its own labels",
        ));
    }
    match (role.rules.is_empty(), role.aggregated) {
        (true, true) => Some((
            "WA-ROLE-AGGREGATED",
            "must have rules; Kubernetes has found none to put together yet",
        )),
        (true, false) => Some(("WA-ROLE-MISSING", "must name a role that has rules")),
        (false, _) => None,
    }
}

fn refuse(
    code: &'static str,
    reference: &RoleReference,
    problem: Problem,
    message: &str,
) -> Violation {
    let found = format!("{:?}/{}", reference.kind, reference.name);
    Violation::new(code, "spec.roleRef", problem, message).found(found)
}

/// What a grant remembers of the role that it is copied from; a live grant, what it remembered.
pub(crate) fn stamp(grant: &Grant, facts: &Facts) -> Option<SourceStamp> {
    if let Some(live) = &facts.live {
        let changed = changed(facts);
        let recorded = live.source.clone();
        return recorded.map(|source| SourceStamp { changed, ..source });
    }
    let (Source::Role(reference), RoleFacts::Found(role)) = (grant.source(), &facts.role) else {
        return None;
    };
    Some(SourceStamp {
        kind: reference.kind,
        name: reference.name.clone(),
        uid: role.uid.clone(),
        rules_hash: rules::hash(&role.rules),
        aggregated: role.aggregated,
        changed: false,
    })
}

/// Whether the role of a live grant is not what it was when it was copied.
pub(crate) fn changed(facts: &Facts) -> bool {
    let recorded = facts.live.as_ref().and_then(|live| live.source.as_ref());
    match (recorded, &facts.role) {
        (Some(then), RoleFacts::Found(now)) => {
            then.uid != now.uid || then.rules_hash != rules::hash(&now.rules)
        }
        (Some(_), RoleFacts::Missing) => true,
        (Some(_), RoleFacts::NotReferenced) | (None, _) => false,
    }
}
