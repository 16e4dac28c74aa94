//! When a grant begins and ends, and whether it is over.

use crate::api::access_policy::FollowRole;
use crate::api::workload_access::EndReason;
use crate::domain::approval;
use crate::domain::completion;
use crate::domain::extension;
use crate::domain::facts::{Facts, Live};
use crate::domain::grant::{End, Grant};
use crate::domain::policy::Policy;
use crate::domain::request::Place;
use crate::domain::source;
use crate::domain::tried::Case;
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// When access ends: as asked, and for a length from activation as the record of the grant says, never later than
/// the receipt allows.
pub(crate) fn not_after(grant: &Grant, facts: &Facts, now: Timestamp) -> Timestamp {
    match (grant.end(), &facts.live) {
        // An approver may have shortened it, and a later end is another question (`extension`).
        (End::At(_), Some(live)) => extension::standing_end(grant, live),
        (End::At(at), None) => at,
        (End::After(length), Some(live)) => {
            // What was approved may have waited for long, and the policy may say otherwise by now.
            let waited = live.approval.as_ref().map(|_| window::MAX_APPROVAL);
            let began = waiting(grant, facts, waited.unwrap_or(window::PENDING));
            let latest = began.saturating_add(length);
            let end = extension::standing_end(grant, live);
            end.min(window::round_down(latest.unwrap_or(now)))
        }
        (End::After(length), None) => {
            let end = window::round_down(now.saturating_add(length).unwrap_or(now));
            // It began before, and the record of it is gone: what is left of its time is all that is left.
            facts.promised_end.map_or(end, |promised| promised.min(end))
        }
    }
}

/// Whether a grant could be over, with its record, while its request may still begin: then the status must know of it before
/// anything is made, or what happens to the status could give it a second life. What people approved may begin for longer.
pub(crate) fn may_begin_twice(grant: &Grant, approved_by_people: bool) -> bool {
    let wait = match approved_by_people {
        true => window::MAX_APPROVAL,
        false => window::PENDING,
    };
    let short = matches!(grant.end(), End::After(length) if length < wait);
    short && *grant.place() != Place::Cluster
}

/// Why a grant under a suspended policy is over.
pub fn was_suspended(policy: &str) -> String {
    format!("policy '{policy}' was suspended")
}

/// Until when a request waits to become active that may wait for this long.
fn waiting(grant: &Grant, facts: &Facts, pending: SignedDuration) -> Timestamp {
    let from = grant
        .not_before()
        .map_or(facts.requested_at, |t| t.max(facts.requested_at));
    from.saturating_add(pending).unwrap_or(from)
}

/// Until when `policy` can admit a request that waits.
pub(crate) fn pending_until(grant: &Grant, facts: &Facts, policy: &Policy) -> Timestamp {
    waiting(grant, facts, policy.pending(grant.urgency()))
}

/// Until when any policy can.
fn last_pending(grant: &Grant, facts: &Facts) -> Timestamp {
    let pending = |(policy, _): &(Arc<Policy>, bool)| policy.pending(grant.urgency());
    let longest = facts.policies.iter().map(pending).max();
    let unknown = approval::unresolved(facts).then_some(window::MAX_APPROVAL);
    let longest = longest.max(unknown).unwrap_or(window::PENDING);
    waiting(grant, facts, longest)
}

pub(crate) fn over(
    grant: &Grant,
    facts: &Facts,
    not_after: Timestamp,
    now: Timestamp,
) -> Option<(EndReason, String)> {
    let end = |reason, why: &str| Some((reason, why.to_owned()));
    let kind = grant.place().kind();
    if let Some(reason) = facts.ended {
        let why = format!("ended before; create another {kind} for more");
        return end(reason, &why);
    }
    if grant.deleting() {
        return end(EndReason::Deleted, &format!("the {kind} was deleted"));
    }
    if grant.revoked() {
        return end(EndReason::Revoked, "`spec.revoked` was set");
    }
    let in_past_when_asked =
        facts.live.is_none() && matches!(grant.end(), End::At(at) if at <= facts.requested_at);
    if now >= not_after && !in_past_when_asked {
        return end(EndReason::Expired, &format!("access ended at {not_after}"));
    }
    if let Some(end) = completion::over(grant, facts) {
        return Some(end);
    }
    let Some(live) = &facts.live else {
        if let Some(who) = approval::denied(facts) {
            return end(EndReason::Denied, &format!("'{who}' denied it"));
        }
        let until = last_pending(grant, facts);
        let text = format!("was not activated by {until}; create another {kind}");
        return (now >= until).then_some((EndReason::Expired, text));
    };
    if live.doubtful {
        let why = "somebody changed the record of the grant, and who has what can no longer be told from it";
        return end(EndReason::Drifted, why);
    }
    match &facts.account {
        None => return end(EndReason::IdentityChanged, "the ServiceAccount was deleted"),
        Some(account) if !live.account_uid.is_empty() && account.uid != live.account_uid => {
            return end(
                EndReason::IdentityChanged,
                "the ServiceAccount was re-created",
            );
        }
        Some(_) => {}
    }
    let suspended =
        |(policy, _): &(Arc<Policy>, bool)| policy.name() == live.policy && policy.suspended();
    if facts.policies.iter().any(suspended) {
        return end(EndReason::Suspended, &was_suspended(&live.policy));
    }
    let admitted_by = |(policy, _): &&(Arc<Policy>, bool)| policy.name() == live.policy;
    if source::changed(facts)
        && let Some((policy, _)) = facts.policies.iter().find(admitted_by)
        && policy.follow_role() == FollowRole::Revoke
    {
        let why = format!(
            "the role that the rights were copied from changed, and policy '{}' ends grants then",
            live.policy
        );
        return end(EndReason::PolicyWithdrawn, &why);
    }
    // The binding went at the end that was told, while a later one was being written.
    if let Some(told) = facts
        .promised_end
        .filter(|told| live.taken_away && now >= *told)
    {
        return end(EndReason::Expired, &format!("access ended at {told}"));
    }
    if live.taken_away {
        return end(
            EndReason::Revoked,
            match grant.place() {
                Place::Namespace(_) => "the RoleBinding or its deadline was deleted",
                Place::Cluster => "the ClusterRoleBinding was deleted",
            },
        );
    }
    None
}

pub(crate) fn window(grant: &Grant, facts: &Facts, wrong: &mut Vec<Violation>) {
    let latest = facts.requested_at.saturating_add(window::HARD_MAX);
    if let (Some(from), Ok(latest)) = (grant.not_before(), latest)
        && from > latest
    {
        let message = format!("must be at most {} ahead", window::show(window::HARD_MAX));
        wrong.push(
            Violation::new("WA-WINDOW", "spec.notBefore", Problem::Invalid, message)
                .found(from.to_string()),
        );
    }
    if let (End::At(at), None) = (grant.end(), &facts.live)
        && at <= facts.requested_at
    {
        let message = format!(
            "must lie ahead; it was {} at the API server",
            facts.requested_at
        );
        wrong.push(
            Violation::new("WA-IN-PAST", "spec.notAfter", Problem::Invalid, message)
                .found(at.to_string()),
        );
    }
}

/// Length of the grant: what is asked for, counted from now, from when it began, or from when a later end was asked for.
pub(crate) fn length(grant: &Grant, facts: &Facts, case: &Case<'_>) -> SignedDuration {
    match case.extended_at {
        Some(at) => case.end.duration_since(at),
        None => whole(grant, facts, case),
    }
}

/// Length of the grant from its beginning, whenever its end was moved.
pub(crate) fn whole(grant: &Grant, facts: &Facts, case: &Case<'_>) -> SignedDuration {
    // `since` is a creation time, rounded down to whole seconds by the API server.
    let since_it_began =
        |live: &Live| case.end.duration_since(live.since) - SignedDuration::from_secs(1);
    match (grant.end(), &facts.live) {
        (End::After(length), Some(live)) => length.min(since_it_began(live)),
        (End::After(length), None) => length,
        (End::At(_), Some(live)) => since_it_began(live),
        (End::At(at), None) => {
            let from = grant.not_before().map_or(case.now, |t| t.max(case.now));
            at.duration_since(from)
        }
    }
}

/// Since when the account holds grants of the policy without a break, this one included.
pub(crate) fn held_since(
    grant: &Grant,
    facts: &Facts,
    policy: &Policy,
    now: Timestamp,
) -> Timestamp {
    if let Some(live) = &facts.live {
        return live.held_since;
    }
    let begins = begins(grant, facts, now);
    let others = facts.held_since.get(policy.name());
    others.map_or(begins, |since| begins.min(*since))
}

/// When access begins: for a live grant when it began, for one that is scheduled when its window opens, otherwise now.
pub(crate) fn begins(grant: &Grant, facts: &Facts, now: Timestamp) -> Timestamp {
    match (&facts.live, grant.not_before()) {
        (Some(live), _) => live.since,
        (None, Some(from)) => from.max(now),
        (None, None) => now,
    }
}
