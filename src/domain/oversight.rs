//! What the status tells of the people who decide on a grant: who approved or denied it, and whether somebody has looked at
//! one that was given by break-glass.

use crate::api::conditions as names;
use crate::api::workload_access::{ApprovalStamp, PolicyStamp, Urgency, WorkloadAccessStatus};
use crate::domain::approval;
use crate::domain::facts::Facts;
use crate::domain::grant::Grant;
use crate::domain::judge::NotYet;
use crate::domain::policy::Policy;
use crate::domain::status::{Outcome, condition};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::sync::Arc;

/// What one pass learned of them.
#[derive(Debug, Default)]
pub struct Oversight {
    /// The decisions that count; none when they matter no more.
    approvals: Option<Vec<ApprovalStamp>>,
    /// The policy by which access by break-glass is in place.
    emergency: Option<PolicyStamp>,
    /// Who looked at it afterwards.
    review: Option<Review>,
}

/// Somebody looked at a grant that was given by break-glass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// User name of the reviewer.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Oversight {
    /// What the facts say of them.
    pub fn of(
        grant: &Grant,
        status: &WorkloadAccessStatus,
        facts: &Facts,
        review: Option<Review>,
    ) -> Self {
        let matter = approval::matter(grant, facts.live.as_ref(), status);
        let live = facts.live.as_ref();
        let live = live.filter(|l| !l.policy.is_empty() && grant.urgency() == Urgency::BreakGlass);
        Self {
            approvals: matter.then(|| approval::told(facts)),
            emergency: live.map(|live| stamp(facts, &live.policy)),
            review,
        }
    }

    /// Whether a review arrived that the status does not tell yet.
    pub fn reviewed(&self) -> bool {
        self.review.is_some()
    }

    /// Adds to the next status what it tells of them.
    pub fn tell(
        &self,
        old: &WorkloadAccessStatus,
        new: &mut WorkloadAccessStatus,
        outcome: &Outcome<'_>,
        now: Timestamp,
    ) {
        if let Some(approvals) = &self.approvals {
            new.approvals = match old.activated_time.is_some() {
                // Who let it begin stays on record beside those who let it go on.
                true => joined(&old.approvals, approvals),
                false => approvals.clone(),
            };
        }
        match outcome {
            Outcome::Waiting(NotYet::PendingApproval { spec_hash, .. }) => {
                new.spec_hash = Some(spec_hash.clone());
            }
            Outcome::Active(approved, _) => {
                let waits = approved.held_back().and_then(|(_, why)| why.spec_hash());
                let recorded = approved.approval().map(|recorded| recorded.spec.clone());
                new.spec_hash = waits.or(recorded).or(new.spec_hash.take());
            }
            _ => {}
        }
        self.tell_review(old, new, outcome, now);
    }

    fn tell_review(
        &self,
        old: &WorkloadAccessStatus,
        new: &mut WorkloadAccessStatus,
        outcome: &Outcome<'_>,
        now: Timestamp,
    ) {
        let told = |c: &&Condition| c.type_ == names::REVIEW_REQUIRED;
        // Whoever looked at it looked at another end.
        let extended = new.extensions.last() != old.extensions.last();
        let before = old.conditions.iter().find(told).filter(|_| !extended);
        let began = match outcome {
            Outcome::Active(approved, _) => approved.grant().urgency() == Urgency::BreakGlass,
            // An end that comes before the beginning was told: access was there all the same.
            Outcome::Ended(..) => self.emergency.is_some(),
            _ => false,
        };
        match (&self.review, before) {
            (Some(review), Some(_)) => new.conditions.push(reviewed(review, old, now)),
            (_, Some(before)) => new.conditions.push(before.clone()),
            (_, None) if began => {
                if let Some(policy) = &self.emergency {
                    new.policy.get_or_insert_with(|| policy.clone());
                }
                let wanted = (names::REVIEW_REQUIRED, true, names::REASON_BREAK_GLASS);
                let generation = new.observed_generation;
                let wanted = condition(&old.conditions, generation, wanted, WANTED, now);
                new.conditions.push(wanted);
            }
            (_, None) => {}
        }
    }

    /// The status of an ended grant with the review that arrived.
    pub fn add_review(&self, old: &WorkloadAccessStatus, now: Timestamp) -> WorkloadAccessStatus {
        let mut new = old.clone();
        if let Some(review) = &self.review {
            new.conditions.retain(|c| c.type_ != names::REVIEW_REQUIRED);
            new.conditions.push(reviewed(review, old, now));
        }
        new
    }
}

/// Both, the newest of them.
fn joined(told: &[ApprovalStamp], more: &[ApprovalStamp]) -> Vec<ApprovalStamp> {
    let new = more.iter().filter(|stamp| !told.contains(stamp));
    let mut all: Vec<ApprovalStamp> = told.iter().chain(new).cloned().collect();
    let surplus = all.len().saturating_sub(approval::MAX_TOLD);
    all.drain(..surplus);
    all
}

fn reviewed(review: &Review, old: &WorkloadAccessStatus, now: Timestamp) -> Condition {
    let message = format!("'{}' reviewed it at {}", review.by, review.at);
    let done = (names::REVIEW_REQUIRED, false, names::REASON_REVIEWED);
    let generation = old.observed_generation;
    condition(&old.conditions, generation, done, &message, now)
}

/// What is wanted of a reviewer.
pub const WANTED: &str = "given by break-glass, without approval; somebody with the verb `approve` on the policy, other than the requester, must look at it and create an AccessApproval with `decision: Review`";

fn stamp(facts: &Facts, policy: &str) -> PolicyStamp {
    let named = |(known, _): &&(Arc<Policy>, bool)| known.name() == policy;
    let known = facts.policies.iter().find(named);
    // A policy that is gone has its name alone.
    known.map_or_else(
        || PolicyStamp {
            name: policy.to_owned(),
            uid: String::new(),
            generation: 0,
        },
        |(known, _)| known.stamp().clone(),
    )
}

/// Whether access by break-glass is told for the first time, or for the first time after somebody looked at a shorter one.
pub fn alarm(old: &WorkloadAccessStatus, new: &WorkloadAccessStatus) -> bool {
    awaits_review(new) && !awaits_review(old)
}

/// Whether nobody has looked yet at a grant that was given by break-glass.
pub fn awaits_review(status: &WorkloadAccessStatus) -> bool {
    let required = |c: &Condition| c.type_ == names::REVIEW_REQUIRED && c.status == "True";
    status.conditions.iter().any(required)
}
