//! Requests, as the report tells them.

use super::collect::Found;
use super::model::{ApprovalObject, Decided, Grant, risk};
use crate::report::trailing_code;
use crate::{requests, story};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::DynamicObject;
use std::cmp::Reverse;
use std::collections::HashMap;
use stint::api::WorkloadAccessStatus;
use stint::api::access_approval::{AccessApproval, Decision};
use stint::api::conditions as names;
use stint::api::stamps::ExtensionStamp;
use stint::api::workload_access::{Risk, Urgency};
use stint::domain::request::{AccessRequest, RequestView};
use stint::domain::{verification, window};

/// All requests, what gives rights now first, then the newest.
pub fn all(found: &Found) -> Vec<Grant> {
    let approvals = approvals(&found.approvals);
    let told = found.requests.iter().map(|object| {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let approvals = approvals.get(uid).cloned().unwrap_or_default();
        of(object, approvals)
    });
    let mut all: Vec<Grant> = told.collect();
    all.sort_by(|a, b| order(a).cmp(&order(b)));
    all
}

fn order(grant: &Grant) -> impl Ord {
    (
        !grant.live,
        Reverse(grant.requested.clone()),
        grant.namespace.clone(),
        grant.name.clone(),
    )
}

/// AccessApprovals by the UID of their request, in the order of their names. One that this version cannot read says nothing.
fn approvals(objects: &[DynamicObject]) -> HashMap<String, Vec<ApprovalObject>> {
    let mut all: HashMap<String, Vec<ApprovalObject>> = HashMap::new();
    for object in objects {
        let value = serde_json::to_value(object).unwrap_or_default();
        let Ok(read) = serde_json::from_value::<AccessApproval>(value) else {
            continue;
        };
        let told = ApprovalObject {
            name: read.metadata.name.unwrap_or_default(),
            decision: word(read.spec.decision).to_owned(),
            reason: read.spec.reason,
            at: instant(read.metadata.creation_timestamp.as_ref()),
        };
        all.entry(read.spec.request_ref.uid).or_default().push(told);
    }
    all.values_mut()
        .for_each(|of_one| of_one.sort_by(|a, b| a.name.cmp(&b.name)));
    all
}

fn of(object: &DynamicObject, approvals: Vec<ApprovalObject>) -> Grant {
    let meta = &object.metadata;
    let kind = match requests::is_wide(object) {
        true => "ClusterWorkloadAccess",
        false => "WorkloadAccess",
    };
    let known = Grant {
        kind: kind.to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        requested: instant(meta.creation_timestamp.as_ref()),
        approvals,
        ..Grant::default()
    };
    match requests::read(object) {
        Ok(access) => told(known, &access.view()),
        Err(why) => Grant {
            state: "Unreadable".into(),
            message: Some(why),
            ..known
        },
    }
}

fn told(known: Grant, view: &RequestView<'_>) -> Grant {
    let nothing = WorkloadAccessStatus::default();
    let status = view.status.unwrap_or(&nothing);
    let terms = view.spec.terms();
    let state = story::state(view.status);
    let bound = status.binding();
    let verified = condition(status, names::VERIFIED);
    let until = instant(status.not_after.as_ref());
    let until = until.or_else(|| terms.not_after.map(str::to_owned));
    Grant {
        account: verification::account(view).to_string(),
        account_uid: status.service_account_uid.clone(),
        live: state == names::REASON_ACTIVE,
        risk: status.risk.map(|risk| risk.as_str().to_owned()),
        codes: codes(status),
        role: terms
            .role_ref
            .map(|role| format!("{:?} {}", role.kind, role.name)),
        binding: bound.map(|binding| binding.name.clone()),
        rights: story::rights(view),
        reason: terms.reason.to_owned(),
        ticket: terms.ticket.map(str::to_owned),
        break_glass: terms.urgency == Urgency::BreakGlass,
        review_required: is_true(condition(status, names::REVIEW_REQUIRED)),
        requested_by: status.requested_by.clone(),
        decisions: status.approvals.iter().map(decided).collect(),
        policy: status.policy.as_ref().map(|policy| policy.name.clone()),
        from: instant(status.activated_time.as_ref()),
        ended: instant(status.ended_time.as_ref()),
        end_reason: status.end_reason.map(|why| why.as_str().to_owned()),
        message: message(status, until.as_deref()),
        until,
        extensions: status.extensions.iter().map(extended).collect(),
        verified: verified.map(|condition| condition.status == "True"),
        residual: verified
            .filter(|condition| condition.status == "False")
            .map(|condition| condition.message.clone()),
        state: state.to_owned(),
        ..known
    }
}

fn condition<'a>(status: &'a WorkloadAccessStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == type_)
}

fn is_true(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|condition| condition.status == "True")
}

/// What was found in what is granted, or what it was refused for.
fn codes(status: &WorkloadAccessStatus) -> Vec<String> {
    let ready = condition(status, names::READY);
    let refused = ready.filter(|c| c.reason == names::REASON_REFUSED);
    let refusals = refused.map(|c| c.message.lines()).into_iter().flatten();
    let refusals = refusals.filter_map(trailing_code).map(str::to_owned);
    let mut codes: Vec<String> = status.findings.iter().cloned().chain(refusals).collect();
    codes.sort();
    codes.dedup();
    codes
}

/// What `Ready` says, unless the fields say the same: that it lasts until its end, or that it lasted until then.
fn message(status: &WorkloadAccessStatus, until: Option<&str>) -> Option<String> {
    let ready = condition(status, names::READY)?;
    let by_the_clock = until.is_some_and(|end| ready.message == format!("access ended at {end}"));
    (ready.reason != names::REASON_ACTIVE && !by_the_clock).then(|| ready.message.clone())
}

fn decided(stamp: &stint::api::stamps::ApprovalStamp) -> Decided {
    Decided {
        by: stamp.approver.clone(),
        decision: word(stamp.decision).to_owned(),
        at: window::round_down(stamp.time.0).to_string(),
        until: instant(stamp.not_after.as_ref()),
    }
}

fn extended(stamp: &ExtensionStamp) -> String {
    let at = |time: &Time| window::round_down(time.0);
    format!(
        "{} asked at {} to end at {} instead of {}",
        stamp.by,
        at(&stamp.time),
        at(&stamp.to),
        at(&stamp.from)
    )
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "Approve",
        Decision::Deny => "Deny",
        Decision::Review => "Review",
    }
}

/// An instant in whole seconds.
pub fn instant(time: Option<&Time>) -> Option<String> {
    time.map(|time| window::round_down(time.0).to_string())
}

/// The word for a risk, for sorting: the higher, the earlier.
pub fn weight(word: Option<&str>) -> Reverse<Option<Risk>> {
    Reverse(risk(word))
}
