//! Which review goes to whom, and how the answer leaves: one file per kind decides.

use crate::api::{ClusterWorkloadAccess, WorkloadAccess, names};
use crate::clock::Clock;
use crate::cluster::facts::FactReader;
use crate::cluster::key_ring::KeyRing;
use crate::domain::receipt::Keys;
use crate::domain::violation::{Problem, Violation};
use crate::ops::metrics::Metrics;
use crate::webhook::rbac::Guard;
use crate::webhook::review::{self, Object, Review};
use crate::webhook::server::Handler;
use crate::webhook::workload_access::no_facts;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// Path of the mutating webhook.
pub const MUTATE: &str = "/mutate";
/// Path of the validating webhook.
pub const VALIDATE: &str = "/validate";

/// Path of the guard on plain roles and bindings.
pub const GUARD: &str = "/guard";

/// Answers admission reviews of Stint's kinds, and of RBAC's.
pub struct Admission {
    /// Facts for the judge.
    pub facts: FactReader,
    /// Whether rights in the whole cluster are granted.
    pub cluster_grants: bool,
    /// Receipt keys; absent until they are loaded.
    pub keys: Arc<KeyRing>,
    /// The API server's clock.
    pub clock: Arc<dyn Clock>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The guard on plain roles and bindings.
    pub guard: Guard,
}

/// What a review comes to.
pub(super) enum Answer {
    /// As it is.
    Allow,
    /// As it is, with something to know.
    Warn(Vec<String>),
    /// With changes.
    Patch(Vec<Value>),
    /// Refused.
    Deny(Vec<Violation>),
    /// Refused for now.
    NotNow(String),
}

impl Handler for Admission {
    async fn handle(&self, path: &str, body: Bytes) -> Option<Bytes> {
        let began = Instant::now();
        let review = match (path, review::parse(&body)) {
            (MUTATE | VALIDATE | GUARD, Ok(review)) => review,
            (MUTATE | VALIDATE | GUARD, Err(malformed)) => {
                self.metrics.review("OTHER", "malformed", began.elapsed());
                return Some(malformed.answer());
            }
            _ => return None,
        };
        let answer = match (kind(&review), path) {
            (_, GUARD) => self.guard(&review).await,
            (Some(Kind::WorkloadAccess), MUTATE) => {
                self.stamp_receipt::<WorkloadAccess>(&review).await
            }
            (Some(Kind::WorkloadAccess), _) => {
                self.validate_access::<WorkloadAccess>(&review).await
            }
            (Some(Kind::ClusterWorkloadAccess), MUTATE) => {
                self.stamp_receipt::<ClusterWorkloadAccess>(&review).await
            }
            (Some(Kind::ClusterWorkloadAccess), _) => {
                self.validate_access::<ClusterWorkloadAccess>(&review).await
            }
            (Some(Kind::AccessApproval), MUTATE) => self.seal_approval(&review),
            (Some(Kind::AccessApproval), _) => self.validate_approval(&review).await,
            (Some(Kind::AccessPolicy), VALIDATE) => self.validate_policy(&review),
            _ => foreign_kind(&review, "a kind of stint.dev"),
        };
        self.count(&review, &answer, began);
        Some(render(&review, answer))
    }
}

fn render(review: &Review, answer: Answer) -> Bytes {
    match answer {
        Answer::Allow => review::allow(&review.uid, &[]),
        Answer::Warn(warnings) => review::allow(&review.uid, &warnings),
        Answer::Patch(operations) => review::allow_with_patch(&review.uid, &operations),
        Answer::Deny(violations) => review::deny(
            &review.uid,
            &review.kind.group,
            &review.kind.kind,
            &review.object_name(),
            &violations,
        ),
        Answer::NotNow(why) => review::error(&review.uid, 503, "ServiceUnavailable", &why),
    }
}

impl Admission {
    fn count(&self, review: &Review, answer: &Answer, began: Instant) {
        let word = match answer {
            Answer::Allow | Answer::Warn(_) | Answer::Patch(_) => "allowed",
            Answer::Deny(_) => "denied",
            Answer::NotNow(_) => "unavailable",
        };
        self.metrics
            .review(review.operation.as_str(), word, began.elapsed());
        if let Answer::Deny(violations) = answer {
            violations
                .iter()
                .for_each(|v| self.metrics.violation(v.code));
            let codes: Vec<&str> = violations.iter().map(|v| v.code).collect();
            tracing::info!(
                uid = review.uid,
                user = review.user_info.username,
                ?codes,
                "denied"
            );
        }
    }

    /// The keys, with those of another replica that signed what is not known here.
    pub(super) async fn keys_knowing(
        &self,
        is_unknown: impl FnOnce(&Keys) -> bool,
    ) -> Result<Keys, Answer> {
        let keys = self.keys.knowing(is_unknown).await;
        keys.map_err(|error| no_facts(&error))?.ok_or_else(no_keys)
    }
}

pub(super) fn no_keys() -> Answer {
    Answer::NotNow("Stint has no receipt keys yet; try again".into())
}

/// The kinds that are reviewed.
enum Kind {
    WorkloadAccess,
    ClusterWorkloadAccess,
    AccessApproval,
    AccessPolicy,
}

fn kind(review: &Review) -> Option<Kind> {
    let ours = review.resource.group == names::GROUP && review.sub_resource.is_empty();
    match review.resource.resource.as_str() {
        "workloadaccesses" if ours => Some(Kind::WorkloadAccess),
        "clusterworkloadaccesses" if ours => Some(Kind::ClusterWorkloadAccess),
        "accessapprovals" if ours => Some(Kind::AccessApproval),
        "accesspolicies" if ours => Some(Kind::AccessPolicy),
        _ => None,
    }
}

/// Only what was registered is answered with anything but a refusal.
pub(super) fn foreign_kind(review: &Review, reviewed: &str) -> Answer {
    let what = format!("{}/{}", review.resource.group, review.resource.resource);
    let message =
        format!("must be {reviewed} that Stint reviews on this path; it reviews nothing else");
    Answer::Deny(vec![
        Violation::new("WA-KIND", "kind", Problem::Invalid, message).found(what),
    ])
}

pub(super) fn decode<K: DeserializeOwned>(object: &Object) -> Result<K, Vec<Violation>> {
    object.read().map_err(|error| {
        let message = format!("cannot be read: {error}");
        vec![Violation::new(
            "WA-DECODE",
            "spec",
            Problem::Invalid,
            message,
        )]
    })
}
