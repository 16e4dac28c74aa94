//! From the old status and what happened to the new status. Output only: nothing here is read as permission.

use crate::api::access_policy::AccessPolicyStatus;
use crate::api::conditions as names;
use crate::api::workload_access::{EndReason, ExtensionStamp, PolicyStamp, WorkloadAccessStatus};
use crate::domain::extension::HeldBack;
use crate::domain::grant::Account;
use crate::domain::judge::{Approved, NotYet};
use crate::domain::plan::Applied;
use crate::domain::policy::Policy;
use crate::domain::request::Place;
use crate::domain::verification::Proof;
use crate::domain::violation::{Violation, render_lines};
use crate::domain::window;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What became of a request in one pass.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The binding stands.
    Active(&'a Approved, &'a Applied),
    /// It is about to begin, and ends then; nothing is made yet.
    Beginning(Timestamp),
    /// It is not time.
    Waiting(&'a NotYet),
    /// The judge refused.
    Refused(&'a [Violation]),
    /// The API server refused an object the grant needs.
    ApplyRefused(&'a str),
    /// It is over.
    Ended(EndReason, &'a str),
}

/// Longest condition message; a Condition's own limit is 32768.
const MAX_MESSAGE: usize = 4096;
/// Most extensions that are told, the newest.
const MAX_EXTENSIONS: usize = 10;
/// Shortest grant of which it is told that it ends soon.
const TOLD_SOON: SignedDuration = SignedDuration::from_mins(1);

/// The next status. Equal to `old` when nothing happened, so that nothing is written.
pub fn next(
    old: &WorkloadAccessStatus,
    generation: Option<i64>,
    requested_by: Option<&str>,
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> WorkloadAccessStatus {
    let mut status = old.clone();
    status.observed_generation = generation;
    if let Some(user) = requested_by {
        status.requested_by = Some(user.to_owned());
    }
    match outcome {
        Outcome::Active(approved, applied) => activate(&mut status, approved, applied),
        Outcome::Beginning(end) => status.not_after = Some(Time(*end)),
        Outcome::Ended(reason, _) if status.ended_time.is_none() => {
            status.ended_time = Some(Time(crate::domain::window::round_down(now)));
            status.end_reason = Some(*reason);
        }
        _ => {}
    }
    status.conditions = conditions(&old.conditions, generation, &summary(outcome, now), now);
    status
}

/// From when on a live grant that began at `since` ends soon: in the last tenth of its time, or of the time since its end was
/// moved to later. Never for one of less than a minute.
pub fn last_tenth(approved: &Approved, since: Timestamp) -> Option<Timestamp> {
    let extended_at = approved.extended_at();
    let from = extended_at.map_or(since, |at| at.max(since));
    let length = approved.not_after().duration_since(from);
    (length >= TOLD_SOON)
        .then(|| approved.not_after().checked_sub(length / 10).ok())
        .flatten()
}

/// Keeps an end that was moved to later while access was in place.
fn tell_extension(status: &mut WorkloadAccessStatus, approved: &Approved) {
    let told = status
        .not_after
        .as_ref()
        .filter(|_| status.activated_time.is_some());
    let (Some(from), Some(by), Some(at)) = (told, approved.extended_by(), approved.extended_at())
    else {
        return;
    };
    if approved.not_after() > from.0 {
        let stamp = ExtensionStamp {
            by: by.to_owned(),
            time: Time(window::round_down(at)),
            from: from.clone(),
            to: Time(approved.not_after()),
        };
        status.extensions.push(stamp);
        let surplus = status.extensions.len().saturating_sub(MAX_EXTENSIONS);
        status.extensions.drain(..surplus);
    }
}

fn activate(status: &mut WorkloadAccessStatus, approved: &Approved, applied: &Applied) {
    tell_extension(status, approved);
    status.activated_time.get_or_insert(Time(applied.since));
    status.not_after = Some(Time(approved.not_after()));
    status.policy = Some(PolicyStamp::clone(approved.policy()));
    status.service_account_uid = Some(approved.account_uid().to_owned());
    status.rules_hash = Some(approved.rules_hash().to_owned());
    status.source = approved.source().cloned();
    status.risk = Some(approved.risk());
    status.findings = approved
        .findings()
        .iter()
        .map(|id| (*id).to_owned())
        .collect();
    let binding = Some(applied.role_binding.clone());
    match approved.grant().place() {
        Place::Namespace(_) => status.role_binding = binding,
        Place::Cluster => status.cluster_role_binding = binding,
    }
    status.deadline = applied.deadline.clone();
}

/// The status of an ended grant, with what was proven about its access.
pub fn verified(
    mut status: WorkloadAccessStatus,
    generation: Option<i64>,
    proof: &Proof,
    account: &Account,
    now: Timestamp,
) -> WorkloadAccessStatus {
    let gone = proof.residue.is_empty();
    let reason = match gone {
        true => names::REASON_ACCESS_GONE,
        false => names::REASON_RESIDUAL_ACCESS,
    };
    let verified = (names::VERIFIED, gone, reason);
    let message = proof.message(account);
    let verified = condition(&status.conditions, generation, verified, &message, now);
    status.conditions.push(verified);
    status
}

/// The Event that warns of access that something else still gives.
pub fn residue_event(
    new: &WorkloadAccessStatus,
    proof: &Proof,
) -> Option<(bool, &'static str, String)> {
    let verified = new.conditions.iter().find(|c| c.type_ == names::VERIFIED)?;
    let note = verified.message.clone();
    (!proof.residue.is_empty()).then_some((true, names::REASON_RESIDUAL_ACCESS, note))
}

/// The conditions in words: what each says, which of them exist.
struct Summary {
    ready: bool,
    accepted: Option<bool>,
    active: bool,
    stalled: bool,
    reconciling: bool,
    reason: &'static str,
    message: String,
    /// What else there is to say: type, status, reason and message.
    more: Vec<(&'static str, bool, &'static str, String)>,
}

/// What the missing second line means.
const UNBACKED: &str = "Stint alone ends this grant: a Job, whose deadline Kubernetes would count, cannot own what has no namespace. While Stint is down the grant outlives its end; Stint ends it as soon as it is back";

/// What a live grant's conditions say beside that it is live.
fn remarks(
    approved: &Approved,
    applied: &Applied,
    now: Timestamp,
) -> Vec<(&'static str, bool, &'static str, String)> {
    let mut out = Vec::new();
    if *approved.grant().place() == Place::Cluster {
        let reason = names::REASON_CLUSTER_SCOPED;
        out.push((names::BACKSTOP, false, reason, UNBACKED.to_owned()));
    }
    if last_tenth(approved, applied.since).is_some_and(|at| now >= at) {
        let end = approved.not_after();
        let message = format!(
            "ends at {end}; ask for another grant, or for a later end where the policy allows that"
        );
        let reason = names::REASON_LAST_TENTH;
        out.push((names::EXPIRING_SOON, true, reason, message));
    }
    if let Some((asked, why)) = approved.held_back() {
        let reason = match why {
            HeldBack::Refused(_) => names::REASON_EXTENSION_REFUSED,
            HeldBack::Waits(NotYet::PendingApproval { .. }) => names::REASON_PENDING_APPROVAL,
            HeldBack::Waits(_) => names::REASON_NOT_READY,
        };
        out.push((names::EXTENDED, false, reason, why.words(*asked)));
    }
    out
}

fn summary(outcome: &Outcome<'_>, now: Timestamp) -> Summary {
    let base = Summary {
        ready: false,
        accepted: Some(true),
        active: false,
        stalled: false,
        reconciling: false,
        reason: "",
        message: String::new(),
        more: Vec::new(),
    };
    match outcome {
        Outcome::Active(approved, applied) => Summary {
            ready: true,
            active: true,
            more: remarks(approved, applied, now),
            reason: names::REASON_ACTIVE,
            message: format!(
                "{} has the granted rights until {}",
                approved.grant().account(),
                approved.not_after()
            ),
            ..base
        },
        Outcome::Beginning(end) => Summary {
            reconciling: true,
            reason: names::REASON_ACTIVATING,
            message: format!("is being given the rights until {end}"),
            ..base
        },
        Outcome::Waiting(NotYet::Scheduled(at)) => Summary {
            reconciling: true,
            reason: names::REASON_SCHEDULED,
            message: format!("becomes active at {at}"),
            ..base
        },
        Outcome::Waiting(NotYet::NotReady(why)) => Summary {
            accepted: None,
            reconciling: true,
            reason: names::REASON_NOT_READY,
            message: why.clone(),
            ..base
        },
        Outcome::Waiting(why @ NotYet::PendingApproval { .. }) => Summary {
            accepted: None,
            reconciling: true,
            reason: names::REASON_PENDING_APPROVAL,
            message: why.approval_words(),
            ..base
        },
        Outcome::Refused(violations) => Summary {
            accepted: Some(false),
            stalled: true,
            reason: names::REASON_REFUSED,
            message: render_lines(violations),
            ..base
        },
        Outcome::ApplyRefused(why) => Summary {
            stalled: true,
            reason: names::REASON_APPLY_REFUSED,
            message: (*why).to_owned(),
            ..base
        },
        Outcome::Ended(reason @ EndReason::Denied, why) => Summary {
            accepted: Some(false),
            stalled: true,
            reason: reason.as_str(),
            message: (*why).to_owned(),
            ..base
        },
        // A grant that ended as it should has reached its desired state: kstatus must call it Current.
        Outcome::Ended(reason, why) => Summary {
            ready: true,
            accepted: match reason {
                EndReason::PolicyWithdrawn | EndReason::Suspended => Some(false),
                _ => None,
            },
            reason: reason.as_str(),
            message: (*why).to_owned(),
            ..base
        },
    }
}

fn conditions(
    old: &[Condition],
    generation: Option<i64>,
    summary: &Summary,
    now: Timestamp,
) -> Vec<Condition> {
    let set = |type_: &str, on: bool, reason: &str| {
        condition(old, generation, (type_, on, reason), &summary.message, now)
    };
    let mut all = vec![set(names::READY, summary.ready, summary.reason)];
    match summary.accepted {
        Some(true) => all.push(set(names::ACCEPTED, true, names::REASON_POLICY_SATISFIED)),
        Some(false) => all.push(set(names::ACCEPTED, false, summary.reason)),
        None => all.extend(old.iter().find(|c| c.type_ == names::ACCEPTED).cloned()),
    }
    all.push(set(names::ACTIVE, summary.active, summary.reason));
    if summary.stalled {
        all.push(set(names::STALLED, true, summary.reason));
    }
    if summary.reconciling {
        all.push(set(names::RECONCILING, true, summary.reason));
    }
    let more = summary.more.iter();
    all.extend(more.map(|(type_, on, reason, message)| {
        condition(old, generation, (type_, *on, reason), message, now)
    }));
    all
}

/// One condition; its time of transition is kept while its status stays.
pub(super) fn condition(
    old: &[Condition],
    generation: Option<i64>,
    (type_, on, reason): (&str, bool, &str),
    message: &str,
    now: Timestamp,
) -> Condition {
    let status = if on { "True" } else { "False" };
    let before = old.iter().find(|c| c.type_ == type_);
    let since = before
        .filter(|c| c.status == status)
        .map(|c| c.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(MAX_MESSAGE).collect(),
        last_transition_time: since.unwrap_or(Time(crate::domain::window::round_down(now))),
        observed_generation: generation,
    }
}

/// The next status of a policy. Equal to `old` when nothing happened.
pub fn of_policy(
    old: &AccessPolicyStatus,
    generation: Option<i64>,
    compiled: Result<&Policy, &[Violation]>,
    now: Timestamp,
) -> AccessPolicyStatus {
    let (on, reason, message) = match compiled {
        Err(wrong) => (false, names::REASON_INVALID, render_lines(wrong)),
        Ok(policy) if policy.suspended() => {
            let message = "suspended: every grant under this policy ends, and none is admitted";
            (true, names::REASON_SUSPENDED, message.to_owned())
        }
        Ok(policy) => {
            let mut lines = vec!["can be used".to_owned()];
            lines.extend(policy.warnings());
            (true, names::REASON_USABLE, lines.join("\n"))
        }
    };
    let ready = (names::READY, on, reason);
    AccessPolicyStatus {
        observed_generation: generation,
        conditions: vec![condition(&old.conditions, generation, ready, &message, now)],
    }
}

/// The reason of `Ready`, the one word for where a request stands.
pub fn ready_reason(status: &WorkloadAccessStatus) -> &str {
    let ready = status.conditions.iter().find(|c| c.type_ == names::READY);
    ready.map_or("", |c| &c.reason)
}

/// A live grant keeps its copy when the role changes, and tells once.
fn source_event(
    old: &WorkloadAccessStatus,
    new: &WorkloadAccessStatus,
) -> Option<(bool, &'static str, String)> {
    let changed = |status: &WorkloadAccessStatus| status.source.as_ref().is_some_and(|s| s.changed);
    let source = new.source.as_ref()?;
    let note = format!(
        "{:?} '{}' is not what it was when its rules were copied; the grant keeps the copy",
        source.kind, source.name
    );
    (changed(new) && !changed(old)).then_some((true, "SourceChanged", note))
}

/// The Events of a pass: whether each warns, its reason and its note.
pub fn events(
    old: &WorkloadAccessStatus,
    new: &WorkloadAccessStatus,
    outcome: &Outcome<'_>,
) -> Vec<(bool, &'static str, String)> {
    let stands = match ready_reason(old) == ready_reason(new) {
        true => source_event(old, new),
        false => transition_event(new, outcome),
    };
    let live = matches!(outcome, Outcome::Active(..));
    let live_events = [moved_event, held_back_event, soon_event].into_iter();
    let more = live_events.filter_map(|event| event(old, new).filter(|_| live));
    stands.into_iter().chain(more).collect()
}

fn named<'a>(status: &'a WorkloadAccessStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == type_)
}

/// The end of a grant that was in place is another.
fn moved_event(
    old: &WorkloadAccessStatus,
    new: &WorkloadAccessStatus,
) -> Option<(bool, &'static str, String)> {
    old.activated_time.as_ref()?;
    let (before, after) = (old.not_after.as_ref()?.0, new.not_after.as_ref()?.0);
    let note = format!("access ends at {after}; it was to end at {before}");
    let by = new.extensions.last().map_or("", |extension| &extension.by);
    match after.cmp(&before) {
        std::cmp::Ordering::Less => Some((false, "GrantShortened", note)),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some((
            false,
            "GrantExtended",
            format!("{note}, before '{by}' extended it"),
        )),
    }
}

/// A later end that is not granted is told once for each edit and reason.
fn held_back_event(
    old: &WorkloadAccessStatus,
    new: &WorkloadAccessStatus,
) -> Option<(bool, &'static str, String)> {
    let now = named(new, names::EXTENDED)?;
    let same = |before: &Condition| {
        before.reason == now.reason && before.observed_generation == now.observed_generation
    };
    if named(old, names::EXTENDED).is_some_and(same) {
        return None;
    }
    let refused = now.reason == names::REASON_EXTENSION_REFUSED;
    let reason = match refused {
        true => "ExtensionRefused",
        false => "ExtensionPending",
    };
    Some((refused, reason, now.message.clone()))
}

fn soon_event(
    old: &WorkloadAccessStatus,
    new: &WorkloadAccessStatus,
) -> Option<(bool, &'static str, String)> {
    let now = named(new, names::EXPIRING_SOON)?;
    let told = named(old, names::EXPIRING_SOON).is_some();
    (!told).then(|| (false, names::EXPIRING_SOON, now.message.clone()))
}

/// The Event of a request that stands elsewhere than before.
fn transition_event(
    new: &WorkloadAccessStatus,
    outcome: &Outcome<'_>,
) -> Option<(bool, &'static str, String)> {
    let note = new
        .conditions
        .first()
        .map(|c| c.message.clone())
        .unwrap_or_default();
    let (warning, reason) = match outcome {
        Outcome::Active(..) => (false, "GrantActivated"),
        Outcome::Waiting(NotYet::Scheduled(_)) => (false, "GrantScheduled"),
        Outcome::Beginning(_) | Outcome::Waiting(NotYet::NotReady(_)) => return None,
        Outcome::Waiting(NotYet::PendingApproval { .. }) => (false, "ApprovalRequired"),
        Outcome::Refused(_) | Outcome::ApplyRefused(_) => (true, "GrantRefused"),
        Outcome::Ended(EndReason::Denied, _) => (true, "GrantDenied"),
        Outcome::Ended(EndReason::Expired, _) => (false, "GrantExpired"),
        Outcome::Ended(EndReason::Completed, _) => (false, "GrantCompleted"),
        Outcome::Ended(EndReason::Revoked | EndReason::Deleted | EndReason::WorkloadGone, _) => {
            (false, "GrantRevoked")
        }
        Outcome::Ended(
            EndReason::IdentityChanged
            | EndReason::PolicyWithdrawn
            | EndReason::Suspended
            | EndReason::Drifted,
            _,
        ) => (true, "GrantRevoked"),
    };
    Some((warning, reason, note))
}
