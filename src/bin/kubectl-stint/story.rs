//! What there is to tell of one request, in plain sentences. Pure: the same request at the same instant is the same story.

use crate::report::trailing_code;
use crate::show::{block, count, instant, length, line};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;
use stint::api::WorkloadAccessStatus;
use stint::api::access_approval::Decision;
use stint::api::conditions as names;
use stint::api::workload_access::{EndReason, Urgency};
use stint::domain::catalogue;
use stint::domain::request::{Place, RequestView};
use stint::domain::status::ready_reason;
use stint::domain::verification;

/// Everything about one request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Version of the JSON form.
    pub api_version: &'static str,
    /// Kind, place and name.
    pub request: String,
    /// The one word for where it stands.
    pub state: String,
    /// The same in a sentence.
    pub summary: String,
    /// What was, by chapter.
    pub told: Vec<Chapter>,
    /// What is waited for, and what somebody can do.
    pub next: Vec<String>,
}

/// Some sentences about one thing.
#[derive(Debug, Serialize)]
pub struct Chapter {
    /// What they are about.
    pub about: &'static str,
    /// The sentences.
    pub lines: Vec<String>,
}

/// The word for where a request stands.
pub fn state(status: Option<&WorkloadAccessStatus>) -> &str {
    match status.map(ready_reason) {
        None | Some("") => "New",
        Some(reason) => reason,
    }
}

/// How kubectl and people call it.
pub fn title(view: &RequestView<'_>) -> String {
    let name = line(view.meta.name.as_deref().unwrap_or_default());
    match view.place() {
        Place::Namespace(namespace) => format!("WorkloadAccess {namespace}/{name}"),
        Place::Cluster => format!("ClusterWorkloadAccess {name}"),
    }
}

/// The flags that lead a command to the request.
pub fn flags(view: &RequestView<'_>) -> String {
    let name = line(view.meta.name.as_deref().unwrap_or_default());
    match view.place() {
        Place::Namespace(namespace) => format!("{name} -n {namespace}"),
        Place::Cluster => format!("{name} --cluster"),
    }
}

/// The rules of a request in words, one line each.
pub fn rights(view: &RequestView<'_>) -> Vec<String> {
    if let Some(role) = view.spec.terms().role_ref {
        let copied = match view.status.and_then(|status| status.source.as_ref()) {
            Some(source) if source.changed => {
                ", as they were when the grant began; the role has changed since"
            }
            Some(_) => ", copied when the grant began",
            None => ", to be copied when the grant begins",
        };
        return vec![format!(
            "the rules of {:?} '{}'{copied}",
            role.kind,
            line(&role.name)
        )];
    }
    let rules = view.spec.rules().unwrap_or_default();
    rules.iter().map(|rule| line(&rule.to_string())).collect()
}

/// The whole story.
pub fn tell(view: &RequestView<'_>, now: Timestamp) -> Story {
    let nothing = WorkloadAccessStatus::default();
    let status = view.status.unwrap_or(&nothing);
    let mut told = Vec::new();
    let mut chapter = |about, lines: Vec<String>| {
        if !lines.is_empty() {
            told.push(Chapter { about, lines });
        }
    };
    chapter("Asked", asked(view, status, now));
    chapter("Account", account(view, status));
    chapter("Rights", rights(view));
    chapter("Policy", policy(status));
    chapter("Risk", risk(status));
    chapter("Approvals", approvals(status, now));
    chapter("Work", work(view));
    chapter("Time", times(view, status, now));
    chapter("Extended", extended(status, now));
    chapter("Refused", refused(status));
    chapter("Over", over(status, now));
    chapter("Proof", proof(status));
    Story {
        api_version: "stint.dev/explain/v1",
        request: title(view),
        state: state(view.status).to_owned(),
        summary: summary(status, now),
        told,
        next: next(view, status),
    }
}

fn ready(status: &WorkloadAccessStatus) -> Option<&Condition> {
    status.conditions.iter().find(|c| c.type_ == names::READY)
}

fn summary(status: &WorkloadAccessStatus, now: Timestamp) -> String {
    let left = status.not_after.as_ref().map(|end| end.0);
    match (state(Some(status)), left, status.ended_time.as_ref()) {
        (names::REASON_ACTIVE, Some(end), _) if end > now => {
            format!(
                "the account has the rights for another {}",
                length(end.duration_since(now))
            )
        }
        (names::REASON_ACTIVE, Some(_), _) => {
            "its time is over, and Stint has not taken the rights away yet".into()
        }
        ("New", ..) => "Stint has not looked at it yet".into(),
        (names::REASON_SCHEDULED, ..) => "it is admitted and has not begun".into(),
        (names::REASON_PENDING_APPROVAL, ..) => "people have to approve it first".into(),
        (names::REASON_REFUSED, ..) => "it is refused, and gives nothing".into(),
        (names::REASON_APPLY_REFUSED, ..) => {
            "it is admitted, and the API server refuses what it needs".into()
        }
        (_, _, Some(_)) if status.activated_time.is_some() => "it gave rights and is over".into(),
        (_, _, Some(_)) => "it is over and never gave anything".into(),
        _ => "it gives nothing yet".into(),
    }
}

fn asked(view: &RequestView<'_>, status: &WorkloadAccessStatus, now: Timestamp) -> Vec<String> {
    let terms = view.spec.terms();
    let who = status.requested_by.as_deref().map_or_else(
        || "by somebody whom Stint has not named yet".to_owned(),
        |who| format!("by {}", line(who)),
    );
    let when = view.meta.creation_timestamp.as_ref();
    let when = when
        .map(|at| format!(", {}", instant(at.0, now)))
        .unwrap_or_default();
    let mut lines = vec![
        format!("{who}{when}"),
        format!("because: {}", line(terms.reason)),
    ];
    lines.extend(
        terms
            .ticket
            .map(|ticket| format!("ticket: {}", line(ticket))),
    );
    if terms.urgency == Urgency::BreakGlass {
        lines.push("in an emergency: without approval, to be reviewed afterwards".into());
    }
    lines
}

fn account(view: &RequestView<'_>, status: &WorkloadAccessStatus) -> Vec<String> {
    let account = verification::account(view);
    let uid = status.service_account_uid.as_deref();
    let pinned = uid.map(|uid| format!(", that with the UID {} and no other", line(uid)));
    vec![format!("{account}{}", pinned.unwrap_or_default())]
}

fn policy(status: &WorkloadAccessStatus) -> Vec<String> {
    let policy = status.policy.as_ref();
    let told = |p: &stint::api::workload_access::PolicyStamp| {
        format!(
            "'{}' admitted it, as of its generation {}",
            line(&p.name),
            p.generation
        )
    };
    policy.map(told).into_iter().collect()
}

fn risk(status: &WorkloadAccessStatus) -> Vec<String> {
    let Some(risk) = status.risk else {
        return Vec::new();
    };
    let findings = match status.findings.len() {
        0 => "nothing of the catalogue was found".to_owned(),
        number => count(number, "finding"),
    };
    let mut lines = vec![format!("{}: {findings}", risk.as_str())];
    lines.extend(status.findings.iter().map(|id| match catalogue::code(id) {
        Some(code) => format!("{}: {}", code.id, code.title),
        None => line(id),
    }));
    lines
}

fn approvals(status: &WorkloadAccessStatus, now: Timestamp) -> Vec<String> {
    let told = status.approvals.iter().map(|approval| {
        let did = match approval.decision {
            Decision::Approve => "approved it",
            Decision::Deny => "denied it",
            Decision::Review => "reviewed it",
        };
        let until = approval.not_after.as_ref();
        let until = until
            .map(|at| format!(", until {} at the latest", at.0))
            .unwrap_or_default();
        format!(
            "{} {did} {}{until}",
            line(&approval.approver),
            instant(approval.time.0, now)
        )
    });
    told.collect()
}

/// Ends that were moved to later, and one that was asked for and is not granted.
fn extended(status: &WorkloadAccessStatus, now: Timestamp) -> Vec<String> {
    let moved = status.extensions.iter().map(|stamp| {
        format!(
            "{} moved the end from {} to {}, {}",
            line(&stamp.by),
            stamp.from.0,
            stamp.to.0,
            instant(stamp.time.0, now)
        )
    });
    let held_back = status.conditions.iter();
    let held_back = held_back.filter(|condition| condition.type_ == names::EXTENDED);
    moved
        .chain(held_back.map(|condition| block(&condition.message)))
        .collect()
}

fn work(view: &RequestView<'_>) -> Vec<String> {
    let terms = view.spec.terms();
    let until = terms.until.map(|until| {
        let what = format!("{} '{}'", line(&until.kind), line(&until.name));
        match &until.condition {
            None => format!("ends when {what} is done or gone"),
            Some(condition) => {
                let status = condition.status.map_or("True", |status| status.as_str());
                format!(
                    "ends when {what} has {}={status}, or is gone",
                    line(&condition.type_)
                )
            }
        }
    });
    let acts = terms.workload.map(|workload| {
        format!(
            "for {} '{}' (UID {}); ends with it",
            workload.kind.as_str(),
            line(&workload.name),
            line(&workload.uid)
        )
    });
    until.into_iter().chain(acts).collect()
}

fn times(view: &RequestView<'_>, status: &WorkloadAccessStatus, now: Timestamp) -> Vec<String> {
    let terms = view.spec.terms();
    let mut lines = Vec::new();
    match (&status.activated_time, terms.not_before) {
        (Some(began), _) => lines.push(format!("began {}", instant(began.0, now))),
        (None, Some(at)) => lines.push(format!("begins {} at the earliest", line(at))),
        (None, None) => {}
    }
    if status.ended_time.is_some() {
        return lines;
    }
    match (&status.not_after, terms.not_after, terms.duration) {
        (Some(end), ..) => lines.push(format!("ends {} at the latest", instant(end.0, now))),
        (None, Some(at), _) => lines.push(format!("ends {} at the latest", line(at))),
        (None, None, Some(long)) => lines.push(format!("lasts {} from when it begins", line(long))),
        (None, None, None) => {}
    }
    match (
        &status.deadline,
        status
            .conditions
            .iter()
            .find(|c| c.type_ == names::BACKSTOP),
    ) {
        (Some(job), _) => lines.push(format!(
            "Kubernetes ends it too, should Stint be down: by the deadline of Job '{}'",
            line(&job.name)
        )),
        (None, Some(missing)) => lines.push(line(&missing.message)),
        (None, None) => {}
    }
    lines
}

fn refused(status: &WorkloadAccessStatus) -> Vec<String> {
    let refusals = [names::REASON_REFUSED, names::REASON_APPLY_REFUSED];
    let refused = ready(status).filter(|c| refusals.contains(&c.reason.as_str()));
    let lines = |c: &Condition| block(&c.message).lines().map(str::to_owned).collect();
    refused.map(lines).unwrap_or_default()
}

fn over(status: &WorkloadAccessStatus, now: Timestamp) -> Vec<String> {
    let (Some(ended), Some(reason)) = (&status.ended_time, status.end_reason) else {
        return Vec::new();
    };
    let why = ready(status).map(|c| line(&c.message)).unwrap_or_default();
    vec![format!(
        "{} {}: {why}",
        reason.as_str(),
        instant(ended.0, now)
    )]
}

fn proof(status: &WorkloadAccessStatus) -> Vec<String> {
    let verified = status
        .conditions
        .iter()
        .find(|c| c.type_ == names::VERIFIED);
    let reviewed = status
        .conditions
        .iter()
        .find(|c| c.type_ == names::REVIEW_REQUIRED);
    let both = verified.into_iter().chain(reviewed);
    both.map(|c| format!("{}={}: {}", c.type_, c.status, line(&c.message)))
        .collect()
}

fn next(view: &RequestView<'_>, status: &WorkloadAccessStatus) -> Vec<String> {
    let at = flags(view);
    let mut next = match (state(Some(status)), status.end_reason) {
        ("New", _) => vec![
            "Stint looks at a request within a second; if it does not, see whether its Deployment is ready".into(),
        ],
        (names::REASON_ACTIVE, _) => vec![
            format!("`kubectl stint can {at}` asks the API server what the account really may"),
            format!("`kubectl stint revoke {at}` ends it early"),
        ],
        (names::REASON_SCHEDULED, _) => vec![
            format!("nothing; it begins by itself. `kubectl stint revoke {at}` calls it off"),
        ],
        (names::REASON_PENDING_APPROVAL, _) => {
            let waits = ready(status).map(|c| line(&c.message)).unwrap_or_default();
            vec![waits, format!("an approver runs `kubectl stint approve {at}`, or `deny`")]
        }
        (names::REASON_NOT_READY | names::REASON_ACTIVATING, _) => {
            let why = ready(status).map(|c| line(&c.message)).unwrap_or_default();
            vec![why, "nothing; Stint tries again by itself".into()]
        }
        (names::REASON_REFUSED, _) => refused_next(status),
        (names::REASON_APPLY_REFUSED, _) => vec![
            "the platform team mends what the API server names; Stint tries again by itself".into(),
        ],
        (_, Some(EndReason::Denied)) => vec!["ask again when what was missing is there".into()],
        (_, Some(_)) => vec!["it is over for good; for more, make another request".into()],
        _ => Vec::new(),
    };
    let review = status
        .conditions
        .iter()
        .find(|c| c.type_ == names::REVIEW_REQUIRED);
    if review.is_some_and(|c| c.status == "True") {
        next.push(format!(
            "an approver who did not ask for it looks at it: `kubectl stint review {at}`"
        ));
    }
    next
}

fn refused_next(status: &WorkloadAccessStatus) -> Vec<String> {
    let lines = refused(status);
    let mut codes: Vec<&str> = lines
        .iter()
        .filter_map(|text| trailing_code(text))
        .collect();
    codes.dedup();
    let mut next = vec!["a request does not change; mend it and make another one".to_owned()];
    next.extend(
        codes
            .iter()
            .map(|code| format!("`kubectl stint codes {code}` explains {code}")),
    );
    next
}
