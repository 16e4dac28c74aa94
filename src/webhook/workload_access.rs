//! Admission of `WorkloadAccess` and `ClusterWorkloadAccess`: the receipt on the mutating path, the judgement on the validating path.

use crate::api::names;
use crate::api::workload_access::EndReason;
use crate::cluster::ApiError;
use crate::cluster::facts::{Asked, add_others};
use crate::cluster::key_ring::Unvouched;
use crate::domain::admit::cluster_grants_are_off;
use crate::domain::answers::of_each_policy;
use crate::domain::facts::Facts;
use crate::domain::grant::Grant;
use crate::domain::judge::{NotYet, Verdict, judge};
use crate::domain::plan::Observed;
use crate::domain::receipt::{Claims, Keys, ReceiptError, Requester};
use crate::domain::request::{AccessRequest, Place, RequestView};
use crate::domain::violation::{Problem, Violation};
use crate::webhook::admission::{Admission, Answer, decode, no_keys};
use crate::webhook::review::{Object, Operation, Review};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;

pub(super) const RECEIPT_PATH: &str = "metadata.annotations[stint.dev/receipt]";

/// A request of either kind, as a review brings it.
pub(super) trait Request: AccessRequest + DeserializeOwned + Sync {}

impl<K: AccessRequest + DeserializeOwned + Sync> Request for K {}

impl Admission {
    /// Stamps the receipt: on CREATE a fresh one over whatever was sent, on UPDATE the one that was there, or one that says
    /// who moved the end.
    pub(super) async fn stamp_receipt<K: Request>(&self, review: &Review) -> Answer {
        let receipt = match review.operation {
            Operation::Create => match self.issue::<K>(review).await {
                Ok(receipt) => Some(receipt),
                Err(answer) => return answer,
            },
            Operation::Update => match self.reissue::<K>(review).await {
                Ok(receipt) => receipt,
                Err(answer) => return answer,
            },
            Operation::Delete | Operation::Connect => return Answer::Allow,
        };
        let sent = review.object.annotation(names::RECEIPT);
        match receipt {
            Some(receipt) if sent.as_ref() != Some(&receipt) => stamp(&review.object, &receipt),
            Some(_) | None => Answer::Allow,
        }
    }

    async fn issue<K: Request>(&self, review: &Review) -> Result<String, Answer> {
        // What is malformed goes on without a receipt, and is no access without one: the schema, which is checked next, says
        // better what is wrong.
        if !Grant::oversized(review.object.text()).is_empty() {
            return Err(Answer::Allow);
        }
        let object: K = decode(&review.object).map_err(|_| Answer::Allow)?;
        Grant::parse(&object).map_err(|_| Answer::Allow)?;
        // What comes back with a receipt under a new key keeps its clock too.
        let keys = self.keys_knowing(|keys| is_forged(keys, &object)).await?;
        let RequestView { meta, spec, .. } = object.view();
        let name = meta.name.clone().filter(|name| !name.is_empty());
        let claims = Claims {
            namespace: review.namespace.clone(),
            generate_name: meta.generate_name.clone().filter(|_| name.is_none()),
            name,
            spec_hash: spec.hash(),
            requester: requester(review),
            at: self.first_asked(&object, &keys),
            extended: None,
        };
        Ok(keys.sign(&claims))
    }

    /// An object that comes back with a good receipt of its own, as from a backup, keeps its original clock.
    fn first_asked(&self, object: &impl AccessRequest, keys: &Keys) -> Timestamp {
        let now = self.clock.now();
        keys.verify_object(object)
            .map_or(now, |claims| claims.at.min(now))
    }

    pub(super) async fn validate_access<K: Request>(&self, review: &Review) -> Answer {
        match review.operation {
            Operation::Create => self.validate_create::<K>(review).await,
            Operation::Update => self.validate_update::<K>(review).await,
            Operation::Delete => validate_delete(review),
            Operation::Connect => Answer::NotNow("Stint does not review connections".into()),
        }
    }

    async fn validate_create<K: Request>(&self, review: &Review) -> Answer {
        let oversized = Grant::oversized(review.object.text());
        if !oversized.is_empty() {
            return Answer::Deny(oversized);
        }
        let object: K = match decode(&review.object) {
            Ok(object) => object,
            Err(violations) => return Answer::Deny(violations),
        };
        let grant = match Grant::parse(&object) {
            Ok(grant) => grant,
            Err(violations) => return Answer::Deny(violations),
        };
        if !self.cluster_grants && *grant.place() == Place::Cluster {
            return Answer::Deny(vec![cluster_grants_are_off()]);
        }
        // Another mutating webhook may have changed the spec after the receipt was stamped.
        let claims = match self.keys.verify(|keys| keys.verify_object(&object)).await {
            Ok(claims) => claims,
            Err(unvouched) => return not_vouched_for(&unvouched),
        };
        let asked = Asked {
            by: requester(review),
            at: claims.at,
            extended: None,
        };
        let observed = Observed::default();
        let (facts, now) = match self.known(&object, &grant, asked, &observed).await {
            Ok(known) => known,
            Err(error) => return no_facts(&error),
        };
        let answer = self.answer(judge(&grant, &facts, now));
        match answer {
            Answer::Allow if review.dry_run => Answer::Warn(of_each_policy(&grant, facts, now)),
            Answer::Warn(mut words) if review.dry_run => {
                words.extend(of_each_policy(&grant, facts, now));
                Answer::Warn(words)
            }
            answer => answer,
        }
    }

    /// The judgement of a request as it would be stored, beside what is in place for it.
    pub(super) async fn judged(
        &self,
        object: &impl AccessRequest,
        grant: &Grant,
        asked: Asked,
        observed: &Observed,
    ) -> Result<Verdict, ApiError> {
        let (facts, now) = self.known(object, grant, asked, observed).await?;
        Ok(judge(grant, &facts, now))
    }

    /// What the judgement is made of: the facts, and the instant that they are counted at.
    async fn known(
        &self,
        object: &impl AccessRequest,
        grant: &Grant,
        asked: Asked,
        observed: &Observed,
    ) -> Result<(Facts, Timestamp), ApiError> {
        let mut facts = self.facts.gather(object, grant, asked, observed).await?;
        if facts.policies.is_empty() {
            self.facts.add_live_policies(&mut facts).await?;
        }
        let now = self.clock.now();
        add_others(&mut facts, &self.facts.others(grant, now));
        Ok((facts, now))
    }

    pub(super) fn answer(&self, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Granted(approved) => Answer::Warn(approved.warnings().to_vec()),
            Verdict::NotYet {
                why: NotYet::Scheduled(_),
                ..
            } => Answer::Allow,
            Verdict::NotYet {
                why: why @ NotYet::PendingApproval { .. },
                ..
            } => Answer::Warn(vec![why.approval_words()]),
            Verdict::NotYet {
                why: NotYet::NotReady(why),
                ..
            } => Answer::NotNow(why),
            Verdict::Refused(violations) => Answer::Deny(violations),
            // Restored from a backup, or applied again, when its work is done: it may be stored, and will never be access.
            Verdict::Over {
                reason: EndReason::Completed,
                why,
            } => Answer::Warn(vec![format!(
                "spec.until: {why}; this request is stored and never becomes access"
            )]),
            // A request restored from a backup after its time: it may be stored, and will never be access.
            Verdict::Over { .. } => Answer::Allow,
        }
    }
}

/// Whether no key that is known here signed the receipt of `object`.
pub(super) fn is_forged(keys: &Keys, object: &impl AccessRequest) -> bool {
    matches!(keys.verify_object(object), Err(ReceiptError::Forged))
}

pub(super) fn not_vouched_for(unvouched: &Unvouched) -> Answer {
    match unvouched {
        Unvouched::NoKeys => no_keys(),
        Unvouched::Api(error) => no_facts(error),
        Unvouched::Receipt(error) => Answer::Deny(vec![Violation::new(
            "WA-RECEIPT",
            RECEIPT_PATH,
            Problem::Forbidden,
            error.to_string(),
        )]),
    }
}

pub(super) fn no_facts(error: &ApiError) -> Answer {
    Answer::NotNow(format!(
        "could not learn the facts, so nothing was granted: {error}"
    ))
}

pub(super) fn requester(review: &Review) -> Requester {
    Requester {
        username: review.user_info.username.clone(),
        uid: review.user_info.uid.clone(),
        groups: review.user_info.groups.clone(),
    }
}

/// A JSON Patch (RFC 6902) that sets the annotation; `~1` is `/` in a JSON pointer.
pub(super) fn stamp(object: &Object, receipt: &str) -> Answer {
    let set =
        json!({"op": "add", "path": "/metadata/annotations/stint.dev~1receipt", "value": receipt});
    let annotated = object.json()["metadata"]["annotations"].is_object();
    let operations = if annotated {
        vec![set]
    } else {
        vec![
            json!({"op": "add", "path": "/metadata/annotations", "value": {}}),
            set,
        ]
    };
    Answer::Patch(operations)
}

/// Orphaning would leave the binding behind without the request that explains it.
fn validate_delete(review: &Review) -> Answer {
    let options = review.options.clone().unwrap_or_default();
    let orphans = options["propagationPolicy"].as_str() == Some("Orphan")
        || options["orphanDependents"].as_bool() == Some(true);
    if !orphans {
        return Answer::Allow;
    }
    let message =
        "must not orphan what the grant made; delete with `--cascade=background` or `foreground`";
    Answer::Deny(vec![Violation::new(
        "WA-ORPHAN",
        "metadata",
        Problem::Forbidden,
        message,
    )])
}
