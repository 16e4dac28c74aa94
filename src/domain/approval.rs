//! Approvals: which decisions on a request count, and whether they are enough.
//!
//! What counts is a decision with a good seal, on this very request and spec, by somebody who may `approve` the policy and
//! did not ask for the access. A decision that is anything else neither grants nor refuses.

use crate::api::access_approval::{AccessApproval, Decision};
use crate::api::workload_access::{ApprovalStamp, WorkloadAccessStatus};
use crate::domain::extension;
use crate::domain::facts::{Facts, Live};
use crate::domain::grant::Grant;
use crate::domain::judge::NotYet;
use crate::domain::lifetime;
use crate::domain::policy::Policy;
use crate::domain::receipt::{Keys, Requester};
use crate::domain::violation::Violation;
use crate::domain::window;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;

/// Most decisions on one request that are looked at, the oldest; a person who decides the same twice counts once.
pub const MAX_LOOKED_AT: usize = 32;
/// Most decisions that the status tells.
pub(crate) const MAX_TOLD: usize = 16;
/// Most approvers that the record of a grant names, and characters of each; no policy asks for more.
const MAX_RECORDED: usize = 8;
const MAX_NAME: usize = 256;

/// A decision on a request, its seal verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Who decided, as the API server authenticated them.
    pub by: Requester,
    /// What.
    pub decision: Decision,
    /// When access ends at the latest by this decision, whole seconds.
    pub not_after: Option<Timestamp>,
    /// When it was decided, by the seal.
    pub at: Timestamp,
    /// Names of the policies that they may `approve`, of those that were asked about.
    pub may: BTreeSet<String>,
}

/// What the record of a grant says of its approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// User names, separated by commas.
    pub by: String,
    /// Hash of the spec that was approved.
    pub spec: String,
}

/// The decisions of these kinds on exactly this request and this spec whose seal is good, the oldest first. Nothing is asked
/// yet about the rights of those who decided.
pub fn sealed<'a>(
    objects: impl IntoIterator<Item = &'a AccessApproval>,
    kinds: &[Decision],
    grant: &Grant,
    keys: &Keys,
) -> Vec<Approval> {
    let spec = grant.spec_hash();
    let mut found: Vec<Approval> = Vec::new();
    for object in objects {
        let reference = &object.spec.request_ref;
        let meant = kinds.contains(&object.spec.decision)
            && object.metadata.namespace.as_deref() == Some(grant.home())
            && reference.kind.as_str() == grant.place().kind()
            && reference.name == grant.name()
            && reference.uid == grant.uid()
            && object.spec.spec_hash == spec;
        if meant && let Some(approval) = read(object, keys) {
            found.push(approval);
        }
    }
    found.sort_by(|a, b| (a.at, &a.by.username).cmp(&(b.at, &b.by.username)));
    merged(found)
}

fn read(object: &AccessApproval, keys: &Keys) -> Option<Approval> {
    let claims = keys.verify_seal(object).ok()?;
    let not_after = match &object.spec.not_after {
        Some(text) => Some(window::parse_instant("spec.notAfter", text).ok()?),
        None => None,
    };
    Some(Approval {
        by: claims.requester,
        decision: object.spec.decision,
        not_after,
        at: claims.at,
        may: BTreeSet::new(),
    })
}

/// One decision for each person and kind of decision, with the earliest end that they set.
fn merged(sorted: Vec<Approval>) -> Vec<Approval> {
    let mut out: Vec<Approval> = Vec::new();
    for approval in sorted {
        let same = |a: &Approval| a.decision == approval.decision && a.by == approval.by;
        match out.iter().position(same) {
            Some(i) => out[i].not_after = earlier(out[i].not_after, approval.not_after),
            None if out.len() < MAX_LOOKED_AT => out.push(approval),
            None => {}
        }
    }
    out
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Whether two are the same person or account: nobody decides on their own request.
pub fn same_person(one: &Requester, other: &Requester) -> bool {
    one.username == other.username || (!one.uid.is_empty() && one.uid == other.uid)
}

/// Whether to look at decisions: not when the request ended, nor when the record of the live grant says that it was approved
/// with the end that this spec asks for, unless the status does not tell yet by whom.
pub fn matter(grant: &Grant, live: Option<&Live>, status: &WorkloadAccessStatus) -> bool {
    let settled = live.is_some_and(|live| {
        let recorded = live.approval.as_ref();
        let in_place = extension::wanted(grant, live).is_none();
        let approved = |r: &Recorded| r.spec == grant.spec_hash() || !extension::moved(grant, live);
        in_place && recorded.is_some_and(approved)
    });
    status.end_reason.is_none() && (!settled || status.approvals.is_empty())
}

/// Enough approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    by: Vec<String>,
    not_after: Option<Timestamp>,
}

impl Given {
    /// The end of the grant: an approver may shorten it, never lengthen.
    pub(crate) fn end(&self, asked: Timestamp) -> Timestamp {
        self.not_after.map_or(asked, |until| until.min(asked))
    }

    /// The end that an approver set, if access could not begin before it.
    pub(crate) fn over_before(&self, begins: Timestamp) -> Option<Timestamp> {
        self.not_after.filter(|until| *until <= begins)
    }

    /// What the record of the grant keeps.
    pub(crate) fn record(&self, spec: String) -> Recorded {
        let cut = |name: &String| name.chars().take(MAX_NAME).collect::<String>();
        let by: Vec<String> = self.by.iter().take(MAX_RECORDED).map(cut).collect();
        Recorded {
            by: by.join(","),
            spec,
        }
    }
}

/// What the satisfied policies come to.
pub(crate) enum Admitted<'a> {
    /// This one admits, by the approvals that it asks for, if it does.
    By(&'a Policy, Option<Given>),
    /// One would, if enough people approved before this instant.
    Pending(Timestamp, NotYet),
}

/// Of the policies that are satisfied but for approvals, the one that admits: one that needs none before one that has them.
/// Otherwise what the one that lacks the fewest waits for; a live grant does not wait, and hears why it may not go on. Its
/// later end does (`later`), until the end that is in place.
pub(crate) fn best<'a>(
    grant: &Grant,
    facts: &Facts,
    later: bool,
    satisfied: impl Iterator<Item = &'a Policy>,
) -> Result<Admitted<'a>, Vec<Violation>> {
    let mut approved = None;
    let mut lacking = Vec::new();
    for policy in satisfied {
        match consent(grant, facts, later, policy) {
            Consent::NotNeeded => return Ok(Admitted::By(policy, None)),
            Consent::Given(given) => drop(approved.get_or_insert((policy, given))),
            Consent::Missing { have, required } => lacking.push((policy, have, required)),
        }
    }
    if let Some((policy, given)) = approved {
        return Ok(Admitted::By(policy, Some(given)));
    }
    let fewest = |(_, have, required): &&(&Policy, usize, usize)| required.saturating_sub(*have);
    match lacking.iter().min_by_key(fewest) {
        Some((policy, have, required)) if facts.live.is_none() || later => {
            let in_place = facts.live.as_ref().map(|live| live.not_after);
            let until = in_place.unwrap_or_else(|| lifetime::pending_until(grant, facts, policy));
            let why = NotYet::PendingApproval {
                policy: policy.name().to_owned(),
                have: *have,
                required: *required,
                until,
                spec_hash: grant.spec_hash(),
            };
            Ok(Admitted::Pending(until, why))
        }
        _ => Err(lacking.into_iter().map(unapproved).collect()),
    }
}

/// How a policy's wish for approvals is met.
enum Consent {
    /// It asks for none, or the live grant is recorded as approved.
    NotNeeded,
    /// There are enough.
    Given(Given),
    /// There are too few.
    Missing {
        /// How many people approved.
        have: usize,
        /// How many must.
        required: usize,
    },
}

/// Whether the approvals that `policy` asks for are there.
fn consent(grant: &Grant, facts: &Facts, later: bool, policy: &Policy) -> Consent {
    let Some(terms) = policy.approval(grant.urgency()) else {
        return Consent::NotNeeded;
    };
    if recorded(grant, facts, later, policy) {
        return Consent::NotNeeded;
    }
    let asked_at = facts.extension.as_ref().map(|extension| extension.at);
    let mut counted: Vec<&Approval> = valid(facts, policy, Decision::Approve).collect();
    // What was approved once is not approved again because the spec is what it was then.
    counted.retain(|approval| !later || asked_at.is_some_and(|at| approval.at >= at));
    let mut by: Vec<String> = Vec::new();
    for approval in &counted {
        if !by.contains(&approval.by.username) {
            by.push(approval.by.username.clone());
        }
    }
    match by.len() >= terms.required {
        true => Consent::Given(Given {
            by,
            not_after: counted.iter().filter_map(|a| a.not_after).min(),
        }),
        false => Consent::Missing {
            have: by.len(),
            required: terms.required,
        },
    }
}

/// Whether the live grant was approved under this policy, for the spec as it is: then nothing is asked for again. The end that
/// is in place was, whatever the spec asks for by now; a later one never, since the record does not say until when.
fn recorded(grant: &Grant, facts: &Facts, later: bool, policy: &Policy) -> bool {
    let Some(live) = facts.live.as_ref().filter(|l| l.policy == policy.name()) else {
        return false;
    };
    let in_place = live.edits.spec_hash.is_some();
    let record = live.approval.as_ref();
    !later && record.is_some_and(|record| in_place || record.spec == grant.spec_hash())
}

/// Whether somebody asked for the access, or for more of it: they do not decide on it.
fn asked_for_it(facts: &Facts, who: &Requester) -> bool {
    let extender = facts.extension.as_ref().map(|extension| &extension.by);
    let mut asked = extender.into_iter().chain([&facts.requester]);
    asked.any(|requester| same_person(who, requester))
}

fn valid<'a>(
    facts: &'a Facts,
    policy: &'a Policy,
    decision: Decision,
) -> impl Iterator<Item = &'a Approval> {
    facts.approvals.iter().filter(move |approval| {
        approval.decision == decision
            && approval.may.contains(policy.name())
            && !asked_for_it(facts, &approval.by)
    })
}

/// Who denied the request, if somebody did who may approve one of its policies.
pub(crate) fn denied(facts: &Facts) -> Option<&str> {
    let asking = facts.policies.iter().filter(|(p, _)| p.asks_approval());
    let mut denials = asking.flat_map(|(policy, _)| valid(facts, policy, Decision::Deny));
    denials.next().map(|approval| approval.by.username.as_str())
}

/// Whether somebody approved the request under a policy that is not there now: until it is back, nobody can tell how long it
/// lets a request wait.
pub(crate) fn unresolved(facts: &Facts) -> bool {
    let approve = |a: &Approval| a.decision == Decision::Approve;
    !facts.policies.iter().any(|(p, _)| p.asks_approval()) && facts.approvals.iter().any(approve)
}

/// The refusal of a live grant that a policy would admit with approvals that it has not.
fn unapproved((policy, have, required): (&Policy, usize, usize)) -> Violation {
    let noun = noun(required);
    let message = format!(
        "requires {required} {noun} of this spec, and the grant has {have}; ask again and have it approved"
    );
    policy.violation("WA-NOT-ALLOWED", "spec", message)
}

fn noun(count: usize) -> &'static str {
    match count {
        1 => "approval",
        _ => "approvals",
    }
}

/// What the status tells of the decisions on a request by those who may take them.
pub fn told(facts: &Facts) -> Vec<ApprovalStamp> {
    let asking = || facts.policies.iter().filter(|(p, _)| p.asks_approval());
    let counts = |approval: &&Approval| {
        let may = asking().any(|(policy, _)| approval.may.contains(policy.name()));
        may && !asked_for_it(facts, &approval.by)
    };
    let stamp = |approval: &Approval| ApprovalStamp {
        approver: approval.by.username.clone(),
        decision: approval.decision,
        time: Time(window::round_down(approval.at)),
        not_after: approval.not_after.map(Time),
    };
    let counted = facts.approvals.iter().filter(counts);
    counted.take(MAX_TOLD).map(stamp).collect()
}

impl NotYet {
    /// What a request waits for that lacks approvals; empty for any other. Whoever may approve reads here what to copy.
    pub fn approval_words(&self) -> String {
        let Self::PendingApproval {
            policy,
            have,
            required,
            until,
            spec_hash,
        } = self
        else {
            return String::new();
        };
        let missing = required.saturating_sub(*have);
        let noun = noun(missing);
        format!(
            "waits until {until} for {missing} more {noun} (has {have} of {required}); specHash {spec_hash}; by those who have the verb `approve` on accesspolicies '{policy}' and did not ask for it"
        )
    }
}
