//! Admission of `WorkloadAccess`: the receipt on the mutating path, the judgement on the validating path.

use crate::api::names;
use crate::api::workload_access::WorkloadAccess;
use crate::clock::Clock;
use crate::cluster::ApiError;
use crate::cluster::facts::{Asked, FactReader, add_others};
use crate::domain::facts::Facts;
use crate::domain::grant::{Grant, spec_hash};
use crate::domain::judge::{NotYet, Verdict, judge};
use crate::domain::plan::Observed;
use crate::domain::receipt::{Claims, Keys, Requester};
use crate::domain::violation::{Problem, Violation};
use crate::ops::metrics::Metrics;
use crate::webhook::review::{self, Operation, Review};
use crate::webhook::server::Handler;
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// Path of the mutating webhook.
pub const MUTATE: &str = "/mutate";
/// Path of the validating webhook.
pub const VALIDATE: &str = "/validate";

const RECEIPT_PATH: &str = "metadata.annotations[stint.dev/receipt]";

/// Answers admission reviews of `WorkloadAccess`.
pub struct Admission {
    /// Facts for the judge.
    pub facts: FactReader,
    /// Receipt keys; absent until they are loaded.
    pub keys: Arc<RwLock<Option<Keys>>>,
    /// The API server's clock.
    pub clock: Arc<dyn Clock>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// What a review comes to.
enum Answer {
    Allow,
    Patch(Vec<Value>),
    Deny(Vec<Violation>),
    NotNow(String),
}

impl Handler for Admission {
    async fn handle(&self, path: &str, body: Bytes) -> Option<Bytes> {
        let began = Instant::now();
        let review = match (path, review::parse(&body)) {
            (MUTATE | VALIDATE, Ok(review)) => review,
            (MUTATE | VALIDATE, Err(malformed)) => {
                self.metrics.review("OTHER", "malformed", began.elapsed());
                return Some(malformed.answer());
            }
            _ => return None,
        };
        let answer = if path == MUTATE {
            self.mutate(&review)
        } else {
            self.validate(&review).await
        };
        self.count(&review, &answer, began);
        Some(render(&review, answer))
    }
}

fn render(review: &Review, answer: Answer) -> Bytes {
    match answer {
        Answer::Allow => review::allow(&review.uid),
        Answer::Patch(operations) => review::allow_with_patch(&review.uid, &operations),
        Answer::Deny(violations) => review::deny(
            &review.uid,
            &review.kind.kind,
            review.object_name(),
            &violations,
        ),
        Answer::NotNow(why) => review::error(&review.uid, 503, "ServiceUnavailable", &why),
    }
}

impl Admission {
    fn count(&self, review: &Review, answer: &Answer, began: Instant) {
        let word = match answer {
            Answer::Allow | Answer::Patch(_) => "allowed",
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

    /// Stamps the receipt: on CREATE a fresh one over whatever was sent, on UPDATE the one that was there.
    fn mutate(&self, review: &Review) -> Answer {
        if let Some(refusal) = foreign_kind(review) {
            return refusal;
        }
        let receipt = match review.operation {
            Operation::Create => match self.issue(review) {
                Ok(receipt) => Some(receipt),
                Err(answer) => return answer,
            },
            Operation::Update => annotation(&review.old_object).map(str::to_owned),
            Operation::Delete | Operation::Connect => return Answer::Allow,
        };
        let sent = annotation(&review.object);
        match receipt {
            Some(receipt) if sent != Some(&receipt) => stamp(&review.object, &receipt),
            Some(_) | None => Answer::Allow,
        }
    }

    fn issue(&self, review: &Review) -> Result<String, Answer> {
        // What does not decode goes on without a receipt: the schema, which is checked next, says better what is wrong.
        let object = decode(&review.object).map_err(|_| Answer::Allow)?;
        let keys = self.keys().ok_or_else(no_keys)?;
        let name = object.metadata.name.clone().filter(|name| !name.is_empty());
        let claims = Claims {
            namespace: review.namespace.clone(),
            generate_name: object
                .metadata
                .generate_name
                .clone()
                .filter(|_| name.is_none()),
            name,
            spec_hash: spec_hash(&object.spec),
            requester: requester(review),
            at: self.first_asked(&object, &keys),
        };
        Ok(keys.sign(&claims))
    }

    /// An object that comes back with a good receipt of its own, as from a backup, keeps its original clock.
    fn first_asked(&self, object: &WorkloadAccess, keys: &Keys) -> Timestamp {
        let now = self.clock.now();
        keys.verify_object(object)
            .map_or(now, |claims| claims.at.min(now))
    }

    async fn validate(&self, review: &Review) -> Answer {
        if let Some(refusal) = foreign_kind(review) {
            return refusal;
        }
        match review.operation {
            Operation::Create => self.validate_create(review).await,
            Operation::Update => validate_update(review),
            Operation::Delete => validate_delete(review),
            Operation::Connect => Answer::NotNow("Stint does not review connections".into()),
        }
    }

    async fn validate_create(&self, review: &Review) -> Answer {
        let object = match decode(&review.object) {
            Ok(object) => object,
            Err(violations) => return Answer::Deny(violations),
        };
        let grant = match Grant::parse(&object) {
            Ok(grant) => grant,
            Err(violations) => return Answer::Deny(violations),
        };
        let Some(keys) = self.keys() else {
            return no_keys();
        };
        // Another mutating webhook may have changed the spec after the receipt was stamped.
        let claims = match keys.verify_object(&object) {
            Ok(claims) => claims,
            Err(error) => {
                let message = error.to_string();
                return Answer::Deny(vec![Violation::new(
                    "WA-RECEIPT",
                    RECEIPT_PATH,
                    Problem::Forbidden,
                    message,
                )]);
            }
        };
        let now = self.clock.now();
        let asked = Asked {
            by: requester(review),
            at: claims.at,
        };
        let mut facts = match self.facts(&object, &grant, asked).await {
            Ok(facts) => facts,
            Err(error) => {
                return Answer::NotNow(format!(
                    "could not learn the facts, so nothing was granted: {error}"
                ));
            }
        };
        add_others(&mut facts, &self.facts.others(&grant, now));
        match judge(&grant, &facts, now) {
            Verdict::Granted(_)
            | Verdict::NotYet {
                why: NotYet::Scheduled(_),
                ..
            } => Answer::Allow,
            Verdict::NotYet {
                why: NotYet::NotReady(why),
                ..
            } => Answer::NotNow(why),
            Verdict::Refused(violations) => Answer::Deny(violations),
            // A request restored from a backup after its time: it may be stored, and will never be access.
            Verdict::Over { .. } => Answer::Allow,
        }
    }

    async fn facts(
        &self,
        object: &WorkloadAccess,
        grant: &Grant,
        asked: Asked,
    ) -> Result<Facts, ApiError> {
        let nothing = Observed::default();
        let mut facts = self.facts.gather(object, grant, asked, &nothing).await?;
        if facts.policies.is_empty() {
            facts.policies = self.facts.live_policies(&facts).await?;
        }
        Ok(facts)
    }

    fn keys(&self) -> Option<Keys> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn no_keys() -> Answer {
    Answer::NotNow("Stint has no receipt keys yet; try again".into())
}

/// Only what was registered is answered with anything but a refusal.
fn foreign_kind(review: &Review) -> Option<Answer> {
    let known = review.resource.group == names::GROUP
        && review.resource.resource == "workloadaccesses"
        && review.sub_resource.is_empty();
    (!known).then(|| {
        let what = format!("{}/{}", review.resource.group, review.resource.resource);
        let message = "must be a WorkloadAccess of stint.dev; Stint reviews nothing else";
        Answer::Deny(vec![
            Violation::new("WA-KIND", "kind", Problem::Invalid, message).found(what),
        ])
    })
}

fn decode(object: &Option<Value>) -> Result<WorkloadAccess, Vec<Violation>> {
    serde_json::from_value(object.clone().unwrap_or_default()).map_err(|error| {
        let message = format!("cannot be read: {error}");
        vec![Violation::new(
            "WA-DECODE",
            "spec",
            Problem::Invalid,
            message,
        )]
    })
}

fn requester(review: &Review) -> Requester {
    Requester {
        username: review.user_info.username.clone(),
        uid: review.user_info.uid.clone(),
        groups: review.user_info.groups.clone(),
    }
}

fn annotation(object: &Option<Value>) -> Option<&str> {
    object.as_ref()?["metadata"]["annotations"][names::RECEIPT].as_str()
}

/// A JSON Patch (RFC 6902) that sets the annotation; `~1` is `/` in a JSON pointer.
fn stamp(object: &Option<Value>, receipt: &str) -> Answer {
    let set =
        json!({"op": "add", "path": "/metadata/annotations/stint.dev~1receipt", "value": receipt});
    let annotated = object
        .as_ref()
        .is_some_and(|o| o["metadata"]["annotations"].is_object());
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

/// The spec may only be revoked: CEL says so too, and holds when this webhook is down. Everything else of an object may
/// change freely, also when the object would not be admitted today: it must stay possible to clean up.
fn validate_update(review: &Review) -> Answer {
    if annotation(&review.object) != annotation(&review.old_object) {
        let message = "is Stint's to set and never changes; leave it as it is";
        return Answer::Deny(vec![Violation::new(
            "WA-IMMUTABLE",
            RECEIPT_PATH,
            Problem::Forbidden,
            message,
        )]);
    }
    let vouched = |object: &Option<Value>| {
        let mut spec = object
            .as_ref()
            .map(|o| o["spec"].clone())
            .unwrap_or_default();
        if let Some(fields) = spec.as_object_mut() {
            fields.remove("revoked");
        }
        spec
    };
    if vouched(&review.object) == vouched(&review.old_object) {
        return Answer::Allow;
    }
    let message = "is immutable except `revoked`; create another WorkloadAccess";
    Answer::Deny(vec![Violation::new(
        "WA-IMMUTABLE",
        "spec",
        Problem::Forbidden,
        message,
    )])
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
