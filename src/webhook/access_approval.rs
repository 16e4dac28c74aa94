//! Admission of `AccessApproval`: the seal on the mutating path; on the validating path whether it is about a request as it is
//! now, by somebody who may decide on it. What is stored past this webhook carries no seal and counts for nothing.

use crate::api::access_approval::{AccessApproval, Decision, RequestKind};
use crate::api::names;
use crate::api::workload_access::{Urgency, WorkloadAccessStatus};
use crate::cluster::ApiError;
use crate::cluster::approval_index::request_of;
use crate::domain::approval::same_person;
use crate::domain::extension;
use crate::domain::grant::Grant;
use crate::domain::receipt::{Claims, Keys, ReceiptError, Requester};
use crate::domain::request::{Access, AccessRequest};
use crate::domain::seal;
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;
use crate::webhook::admission::{Admission, Answer, decode, no_keys};
use crate::webhook::review::{Object, Operation, Review};
use crate::webhook::workload_access::{RECEIPT_PATH, is_forged, requester, stamp};

impl Admission {
    /// Seals the approval: on CREATE anew over whatever was sent, on UPDATE as it was.
    pub(super) fn seal_approval(&self, review: &Review) -> Answer {
        let seal = match review.operation {
            Operation::Create => match self.seal(review) {
                Ok(seal) => Some(seal),
                Err(answer) => return answer,
            },
            Operation::Update => review.old_object.annotation(names::RECEIPT),
            Operation::Delete | Operation::Connect => return Answer::Allow,
        };
        let sent = review.object.annotation(names::RECEIPT);
        match seal {
            Some(seal) if sent.as_ref() != Some(&seal) => stamp(&review.object, &seal),
            Some(_) | None => Answer::Allow,
        }
    }

    fn seal(&self, review: &Review) -> Result<String, Answer> {
        // What cannot be read goes on without a seal; the schema, which is checked next, says better what is wrong.
        let object: AccessApproval = decode(&review.object).map_err(|_| Answer::Allow)?;
        let keys = self.keys.known().ok_or_else(no_keys)?;
        let meta = &object.metadata;
        let name = meta.name.clone().filter(|name| !name.is_empty());
        let claims = Claims {
            namespace: review.namespace.clone(),
            generate_name: meta.generate_name.clone().filter(|_| name.is_none()),
            name,
            spec_hash: seal::hash(&object.spec),
            requester: requester(review),
            at: self.clock.now(),
            extended: None,
        };
        Ok(keys.seal(&claims))
    }

    pub(super) async fn validate_approval(&self, review: &Review) -> Answer {
        match review.operation {
            Operation::Create => self.validate_decision(review).await,
            Operation::Update => unchanged(review),
            Operation::Delete => Answer::Allow,
            Operation::Connect => Answer::NotNow("Stint does not review connections".into()),
        }
    }

    async fn validate_decision(&self, review: &Review) -> Answer {
        let object: AccessApproval = match decode(&review.object) {
            Ok(object) => object,
            Err(violations) => return Answer::Deny(violations),
        };
        let unknown = |keys: &Keys| keys.verify_seal(&object) == Err(ReceiptError::Forged);
        let keys = match self.keys_knowing(unknown).await {
            Ok(keys) => keys,
            Err(answer) => return answer,
        };
        let mut wrong = Vec::new();
        if let Err(error) = keys.verify_seal(&object) {
            let message = error.to_string();
            wrong.push(Violation::new(
                "WA-RECEIPT",
                RECEIPT_PATH,
                Problem::Forbidden,
                message,
            ));
        }
        if let Some(text) = &object.spec.not_after {
            wrong.extend(window::parse_instant("spec.notAfter", text).err());
        }
        let decided = Decided {
            object: &object,
            by: requester(review),
            keys: &keys,
        };
        match self.decide(&decided, &mut wrong).await {
            Err(error) => Answer::NotNow(format!(
                "could not learn the facts, so nothing was decided: {error}"
            )),
            Ok(()) if wrong.is_empty() => Answer::Allow,
            Ok(()) => Answer::Deny(wrong),
        }
    }

    /// Everything about the request and the approver that is wrong.
    async fn decide(
        &self,
        decided: &Decided<'_>,
        wrong: &mut Vec<Violation>,
    ) -> Result<(), ApiError> {
        let key = request_of(decided.object);
        let found = self.facts.access(&key).await?;
        let read = found.as_ref().and_then(|found| found.object.as_ref().ok());
        let unknown = |keys: &Keys| read.is_some_and(|request| is_forged(keys, request));
        let keys = self.keys.knowing(unknown).await?;
        let keys = keys.as_ref().unwrap_or(decided.keys);
        let (request, grant, claims) = match decided.request(found, keys) {
            Ok(request) => request,
            Err(stale) => {
                wrong.extend(stale);
                return Ok(());
            }
        };
        wrong.extend(decided.stale(&grant));
        let extender = claims.extended.as_ref().map(|extended| &extended.by);
        if same_person(&claims.requester, &decided.by) {
            wrong.push(self_decided(&decided.by, "the requester"));
        } else if extender.is_some_and(|extender| same_person(extender, &decided.by)) {
            wrong.push(self_decided(
                &decided.by,
                "who moved the end of the request",
            ));
        }
        let status = request.view().status.cloned().unwrap_or_default();
        let made = names::made_object_name(grant.name(), grant.uid());
        let observed = self.facts.observe(grant.place(), &made).await?;
        let live = observed.ours(grant.uid()).live(grant.place(), &status);
        let settled = live
            .as_ref()
            .filter(|live| !extension::is_open(claims.extended.as_ref(), &grant, Some(live)));
        wrong.extend(decided.untimely(&grant, &status, settled.is_some()));
        wrong.extend(self.no_approver(decided, &grant, &status).await?);
        Ok(())
    }

    async fn no_approver(
        &self,
        decided: &Decided<'_>,
        grant: &Grant,
        status: &WorkloadAccessStatus,
    ) -> Result<Option<Violation>, ApiError> {
        let asked = match (decided.object.spec.decision, &status.policy) {
            (Decision::Review, Some(policy)) => {
                let may = self.facts.may_review(&decided.by, &policy.name).await?;
                vec![(policy.name.clone(), may)]
            }
            // There is nothing to review, which is said otherwise.
            (Decision::Review, None) => return Ok(None),
            (Decision::Approve | Decision::Deny, _) => {
                self.facts.approvable(grant, &decided.by).await?
            }
        };
        let may = asked.iter().any(|(_, may)| *may);
        Ok((!may).then(|| not_an_approver(&decided.by, grant.home(), &asked)))
    }
}

/// A decision under review.
struct Decided<'a> {
    object: &'a AccessApproval,
    by: Requester,
    keys: &'a Keys,
}

impl Decided<'_> {
    /// The request, if it is the one that is meant, and can be granted at all.
    fn request(
        &self,
        found: Option<crate::cluster::facts::Found>,
        keys: &Keys,
    ) -> Result<(Access, Grant, Claims), Vec<Violation>> {
        let reference = &self.object.spec.request_ref;
        let path = "spec.requestRef";
        let Some(found) = found else {
            let place = match reference.kind {
                RequestKind::WorkloadAccess => " in the namespace of the approval",
                RequestKind::ClusterWorkloadAccess => "",
            };
            let message = format!("must name a {} that exists{place}", reference.kind.as_str());
            let path = format!("{path}.name");
            let missing = Violation::new("WA-APPROVAL-STALE", path, Problem::NotFound, message);
            return Err(vec![missing.found(&reference.name)]);
        };
        let uid = found.uid.clone().unwrap_or_default();
        if uid != reference.uid {
            let message = format!(
                "must be the UID of the request as it is now, '{uid}'; look at it again, since it is not the one that was meant"
            );
            return Err(vec![
                stale(&format!("{path}.uid"), message).found(&reference.uid),
            ]);
        }
        let unusable = |why: String| {
            let message = format!("must be a request that can be granted; this one {why}");
            vec![stale(path, message)]
        };
        let request = found
            .object
            .map_err(|error| unusable(format!("cannot be read: {error}")))?;
        let claims = keys
            .verify_object(&request)
            .map_err(|error| unusable(error.to_string()))?;
        let grant = Grant::parse(&request)
            .map_err(|wrong| unusable(crate::domain::violation::render_lines(&wrong)))?;
        Ok((request, grant, claims))
    }

    /// Another place or another spec than the request has.
    fn stale(&self, grant: &Grant) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let namespace = self.object.metadata.namespace.as_deref();
        if namespace.is_some_and(|namespace| namespace != grant.home()) {
            let message = format!(
                "must be '{}', the namespace of the account: its labels choose the policies",
                grant.home()
            );
            wrong.push(stale("metadata.namespace", message).found(namespace.unwrap_or_default()));
        }
        let hash = grant.spec_hash();
        if self.object.spec.spec_hash != hash {
            let message = format!(
                "must be the hash of the request as it is now, '{hash}'; look at it again before you decide"
            );
            wrong.push(stale("spec.specHash", message).found(&self.object.spec.spec_hash));
        }
        wrong
    }

    /// A decision that comes too late, or that nobody waits for. A grant is settled when it has the end that was asked for.
    fn untimely(
        &self,
        grant: &Grant,
        status: &WorkloadAccessStatus,
        settled: bool,
    ) -> Option<Violation> {
        let emergency = grant.urgency() == Urgency::BreakGlass;
        let message = match self.object.spec.decision {
            Decision::Approve | Decision::Deny if status.end_reason.is_some() => {
                "must come before the request ends, and it has ended".to_owned()
            }
            Decision::Approve | Decision::Deny if settled => format!(
                "must come before the grant is active, and it is; to end it, set `spec.revoked: true` in the {}",
                grant.place().kind()
            ),
            Decision::Approve if emergency => {
                "must not be for a request with `urgency: BreakGlass`, which waits for nobody; look at it afterwards with `decision: Review`".to_owned()
            }
            Decision::Review if !emergency => {
                "must be for a request with `urgency: BreakGlass`; any other is approved before and not reviewed afterwards".to_owned()
            }
            Decision::Review if status.policy.is_none() => {
                "must come after access was given, and none was yet".to_owned()
            }
            Decision::Approve | Decision::Deny | Decision::Review => return None,
        };
        let decision = self.object.spec.decision.as_str();
        Some(stale("spec.decision", message).found(decision))
    }
}

fn stale(path: &str, message: impl Into<String>) -> Violation {
    Violation::new("WA-APPROVAL-STALE", path, Problem::Invalid, message)
}

fn self_decided(by: &Requester, who: &str) -> Violation {
    let message = format!("must be decided by somebody other than {who}");
    Violation::new(
        "WA-APPROVAL-SELF",
        "spec.requestRef",
        Problem::Forbidden,
        message,
    )
    .found(&by.username)
}

fn not_an_approver(by: &Requester, namespace: &str, asked: &[(String, bool)]) -> Violation {
    let names: Vec<String> = asked.iter().map(|(name, _)| name.clone()).collect();
    let message = match names.is_empty() {
        true => format!(
            "cannot be decided: no AccessPolicy that selects namespace '{namespace}' asks for approvals"
        ),
        false => format!(
            "must be decided by somebody who has the verb `approve` on accesspolicies {}; '{}' has not",
            crate::domain::policy::list(&names),
            by.username
        ),
    };
    Violation::new(
        "WA-APPROVER",
        "spec.requestRef",
        Problem::Forbidden,
        message,
    )
}

/// A decision does not change. CEL says so too, and holds when this webhook is down.
fn unchanged(review: &Review) -> Answer {
    let refuse = |path: &str, message: &str| {
        Answer::Deny(vec![Violation::new(
            "WA-IMMUTABLE",
            path,
            Problem::Forbidden,
            message,
        )])
    };
    let seal = |object: &Object| object.annotation(names::RECEIPT);
    if seal(&review.object) != seal(&review.old_object) {
        return refuse(
            RECEIPT_PATH,
            "is Stint's to set and never changes; leave it as it is",
        );
    }
    match review.object.field("spec") == review.old_object.field("spec") {
        true => Answer::Allow,
        false => refuse("spec", "is immutable; create another AccessApproval"),
    }
}
