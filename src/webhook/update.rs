//! An edit of a `WorkloadAccess` or `ClusterWorkloadAccess`: what may change, whose word the receipt carries then, and whether a
//! later end is granted.

use crate::api::names;
use crate::cluster::facts::Asked;
use crate::domain::extension::HeldBack;
use crate::domain::grant::{End, Grant};
use crate::domain::judge::{NotYet, Verdict};
use crate::domain::receipt::{Claims, Extended, Keys, Requester};
use crate::domain::request::AccessRequest;
use crate::domain::violation::{Problem, Violation};
use crate::webhook::admission::{Admission, Answer, decode};
use crate::webhook::review::{Object, Review};
use crate::webhook::workload_access::{
    RECEIPT_PATH, Request, is_forged, no_facts, not_vouched_for, requester,
};
use jiff::Timestamp;
use serde_json::Value;

/// The fields that say when access ends.
const END: [&str; 2] = ["notAfter", "duration"];

impl Admission {
    /// The receipt of an edited object: the old one, unless the end was moved. Whatever cannot be vouched for keeps the old
    /// one, which is none for the new spec; the validating path says what is wrong.
    pub(super) async fn reissue<K: Request>(
        &self,
        review: &Review,
    ) -> Result<Option<String>, Answer> {
        let old_receipt = review.old_object.annotation(names::RECEIPT);
        if end_of(&review.object) == end_of(&review.old_object)
            || !Grant::oversized(review.object.text()).is_empty()
        {
            return Ok(old_receipt);
        }
        let decoded = decode(&review.old_object).and_then(|old: K| {
            let new: K = decode(&review.object)?;
            Ok((old, new))
        });
        let Ok((old, new)) = decoded else {
            return Ok(old_receipt);
        };
        let keys = self.keys_knowing(|keys| is_forged(keys, &old)).await?;
        let (Ok(before), Ok(claims)) = (Grant::parse(&old), keys.verify_object(&old)) else {
            return Ok(old_receipt);
        };
        let Ok(after) = Grant::parse(&new) else {
            return Ok(old_receipt);
        };
        let later = after.end().is_later_than(before.end());
        let extended = extended(&claims, later, requester(review), self.clock.now());
        let claims = Claims {
            spec_hash: after.spec_hash(),
            extended,
            ..claims
        };
        Ok(Some(keys.sign(&claims)))
    }

    /// The spec may be revoked and its end moved; CEL holds the rest still when this webhook is down. Metadata may change
    /// freely, also of an object that would not be admitted today: it must stay possible to clean up.
    pub(super) async fn validate_update<K: Request>(&self, review: &Review) -> Answer {
        if fixed(&review.object) != fixed(&review.old_object) {
            return Answer::Deny(vec![immutable(review)]);
        }
        let receipt = |object: &Object| object.annotation(names::RECEIPT);
        let same_receipt = receipt(&review.object) == receipt(&review.old_object);
        match end_of(&review.object) == end_of(&review.old_object) {
            true if same_receipt => Answer::Allow,
            true => Answer::Deny(vec![not_yours()]),
            false => self.validate_end::<K>(review).await,
        }
    }

    async fn validate_end<K: Request>(&self, review: &Review) -> Answer {
        let (before, new) = match decoded::<K>(review) {
            Ok(objects) => objects,
            Err(violations) => return Answer::Deny(violations),
        };
        let grant = match Grant::parse(&new) {
            Ok(grant) => grant,
            Err(violations) => return Answer::Deny(violations),
        };
        let both = |keys: &Keys| Ok((keys.verify_object(&before)?, keys.verify_object(&new)?));
        let (old_claims, claims) = match self.keys.verify(both).await {
            Ok(claims) => claims,
            Err(unvouched) => return not_vouched_for(&unvouched),
        };
        let later = Grant::parse(&before).map_or(true, |old| grant.end().is_later_than(old.end()));
        if !follows(&claims, &old_claims, later, &requester(review)) {
            return Answer::Deny(vec![not_yours()]);
        }
        // Less access than before needs nobody's leave.
        match later {
            true => self.validate_later_end(&new, &grant, &claims).await,
            false => Answer::Allow,
        }
    }

    async fn validate_later_end(
        &self,
        object: &impl AccessRequest,
        grant: &Grant,
        claims: &Claims,
    ) -> Answer {
        let made = names::made_object_name(grant.name(), grant.uid());
        let observed = match self.facts.observe(grant.place(), &made).await {
            Ok(observed) => observed.ours(grant.uid()),
            Err(error) => return no_facts(&error),
        };
        match self
            .judged(object, grant, Asked::from(claims), &observed)
            .await
        {
            Err(error) => no_facts(&error),
            Ok(Verdict::Over { why, .. }) => Answer::Deny(vec![over(grant, &why)]),
            Ok(Verdict::Granted(approved)) => match approved.held_back() {
                None => Answer::Warn(approved.warnings().to_vec()),
                Some((_, HeldBack::Refused(wrong))) => Answer::Deny(wrong.clone()),
                Some((_, HeldBack::Waits(NotYet::NotReady(why)))) => Answer::NotNow(why.clone()),
                Some((end, why)) => Answer::Warn(vec![why.words(*end)]),
            },
            Ok(other) => self.answer(other),
        }
    }
}

fn decoded<K: Request>(review: &Review) -> Result<(K, K), Vec<Violation>> {
    let oversized = Grant::oversized(review.object.text());
    if !oversized.is_empty() {
        return Err(oversized);
    }
    Ok((decode(&review.old_object)?, decode(&review.object)?))
}

/// Who asks for the end as it is now: whoever moved it to later. Who takes a part of that back asks for nothing.
fn extended(claims: &Claims, later: bool, by: Requester, at: Timestamp) -> Option<Extended> {
    if !later {
        return claims.extended.clone();
    }
    let count = claims
        .extended
        .as_ref()
        .map_or(0, |extended| extended.count);
    Some(Extended {
        by,
        at,
        count: count.saturating_add(1),
    })
}

/// Whether a receipt is what the mutating path makes of the one before. One of an earlier day of this request is not.
fn follows(new: &Claims, old: &Claims, later: bool, by: &Requester) -> bool {
    let expected = Claims {
        spec_hash: new.spec_hash.clone(),
        extended: new.extended.as_ref().and_then(|extended| {
            let at = extended.at;
            self::extended(old, later, by.clone(), at)
        }),
        ..old.clone()
    };
    *new == expected && new.extended.is_some() == (later || old.extended.is_some())
}

/// The fields that say when access ends, as they were written.
fn end_of(object: &Object) -> Value {
    let mut spec = object.field("spec");
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| END.contains(&name.as_str()));
    }
    spec
}

/// What of the spec never changes.
fn fixed(object: &Object) -> Value {
    let mut spec = object.field("spec");
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| name != "revoked" && !END.contains(&name.as_str()));
        for field in END {
            // One cannot take the other's place.
            let set = !object.field("spec")[field].is_null();
            fields.insert(field.to_owned(), set.into());
        }
    }
    spec
}

fn immutable(review: &Review) -> Violation {
    let kind = &review.kind.kind;
    let message = format!(
        "is immutable except `revoked` and the value of `notAfter` or `duration`; create another {kind}"
    );
    Violation::new("WA-IMMUTABLE", "spec", Problem::Forbidden, message)
}

fn not_yours() -> Violation {
    let message = "is Stint's to set; leave it as it is";
    Violation::new("WA-IMMUTABLE", RECEIPT_PATH, Problem::Forbidden, message)
}

fn over(grant: &Grant, why: &str) -> Violation {
    let kind = grant.place().kind();
    let message = format!("cannot be moved any more: {why}; create another {kind}");
    let found = match grant.end() {
        End::At(at) => at.to_string(),
        End::After(length) => crate::domain::window::show(length),
    };
    Violation::new("WA-WINDOW", grant.end().path(), Problem::Invalid, message).found(found)
}
