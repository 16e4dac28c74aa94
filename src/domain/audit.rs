//! One line for each transition of a request, for those who must answer later who could do what, why and until when.
//!
//! Only construction: `controller` says when a line is due, `ops::telemetry` prints it. A line holds no secret: of the
//! receipt it tells the requester, never the receipt itself. The schema is `docs/audit.schema.json`.

use crate::api::references::WorkloadRef;
use crate::api::workload_access::{
    ApprovalStamp, EndReason, PolicyStamp, Risk, WorkloadAccessStatus,
};
use crate::domain::judge::NotYet;
use crate::domain::receipt::Requester;
use crate::domain::request::RequestView;
use crate::domain::status::{self, Outcome};
use crate::domain::window::round_down;
use jiff::Timestamp;
use serde::Serialize;

/// Version of the schema. Fields may be added to it; one that goes or changes its meaning makes another version.
pub const SCHEMA_VERSION: &str = "1";

/// Longest name, UID or group, in bytes.
const MAX_WORD: usize = 256;
/// Most groups of a requester.
const MAX_GROUPS: usize = 16;
/// Longest message, in bytes. With everything else at its bound a line stays below 16 KiB, where container runtimes
/// break lines.
const MAX_MESSAGE: usize = 2048;

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Transition {
    /// The judge or the API server refused it.
    Refused,
    /// It will begin later.
    Waiting,
    /// Access began.
    Activated,
    /// Access goes on, although the role that it was copied from has changed.
    SourceChanged,
    /// The end of access was moved to later.
    Extended,
    /// The end of access was moved to earlier.
    Shortened,
    /// It is over, whether access had begun or not.
    Ended,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    schema_version: &'static str,
    /// When it was seen, by the API server's clock.
    time: Timestamp,
    transition: Transition,
    /// UID of the request, which no other ever has.
    grant_id: String,
    request: Request,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_by: Option<By>,
    /// Who moved the end to later.
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_by: Option<By>,
    account: Account,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadRef>,
    /// Who approved or denied it, and who reviewed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    approvals: Vec<ApprovalStamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyStamp>,
    /// When access began or will begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    /// When access ends or ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<Risk>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules_hash: Option<String>,
    /// The reason of `Ready`.
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<EndReason>,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct By {
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// How many more groups there are.
    #[serde(skip_serializing_if = "is_zero")]
    groups_omitted: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Account {
    namespace: String,
    name: String,
    /// UID that the grant is pinned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Line {
    /// The line of a transition for which an Event with this reason is due (`status::events`); `None` if the Event tells of
    /// nothing that changed.
    pub fn of(
        view: &RequestView<'_>,
        requester: Option<&Requester>,
        new: &WorkloadAccessStatus,
        outcome: &Outcome<'_>,
        reason: &str,
        now: Timestamp,
    ) -> Option<Self> {
        let transition = match (outcome, reason) {
            (Outcome::Refused(_) | Outcome::ApplyRefused(_), _) => Transition::Refused,
            (Outcome::Beginning(_) | Outcome::Waiting(_), _) => Transition::Waiting,
            (Outcome::Active(..), "GrantActivated") => Transition::Activated,
            (Outcome::Active(..), "SourceChanged") => Transition::SourceChanged,
            (Outcome::Active(..), "GrantExtended") => Transition::Extended,
            (Outcome::Active(..), "GrantShortened") => Transition::Shortened,
            (Outcome::Active(..), _) => return None,
            (Outcome::Ended(..), _) => Transition::Ended,
        };
        let mut line = Self::about(view, new, transition, now);
        if let Some(requester) = requester {
            line.requested_by = Some(By::from(requester));
        }
        if let Outcome::Waiting(NotYet::Scheduled(at)) = outcome {
            line.from = Some(*at);
        }
        if let (Transition::Extended, Some(last)) = (transition, new.extensions.last()) {
            line.extended_by = Some(By::named(&last.by));
        }
        Some(line)
    }

    /// The line of a request that was deleted with access in place; `None` if there was none. Nobody can write a status
    /// or an Event for it any more.
    pub fn deleted(view: &RequestView<'_>, now: Timestamp) -> Option<Self> {
        let last = view.status?;
        if last.activated_time.is_none() || last.ended_time.is_some() {
            return None;
        }
        let mut line = Self::about(view, last, Transition::Ended, now);
        line.to = Some(round_down(now));
        line.end_reason = Some(EndReason::Deleted);
        line.reason = EndReason::Deleted.as_str().to_owned();
        line.message = format!("the {} was deleted", view.place().kind());
        Some(line)
    }

    fn about(
        view: &RequestView<'_>,
        status: &WorkloadAccessStatus,
        transition: Transition,
        now: Timestamp,
    ) -> Self {
        let place = view.place();
        let text = |field: &Option<String>| bounded(field.as_deref().unwrap_or_default(), MAX_WORD);
        let account = view.spec.terms().account;
        let namespace = account.namespace.as_deref().or(place.namespace());
        let ready = status.conditions.first();
        let over = status.ended_time.as_ref().or(status.not_after.as_ref());
        Self {
            schema_version: SCHEMA_VERSION,
            time: now,
            transition,
            grant_id: text(&view.meta.uid),
            request: Request {
                kind: place.kind(),
                namespace: place.namespace().map(str::to_owned),
                name: text(&view.meta.name),
                generation: view.meta.generation,
            },
            requested_by: status.requested_by.as_deref().map(By::named),
            extended_by: None,
            account: Account {
                namespace: bounded(namespace.unwrap_or_default(), MAX_WORD),
                name: bounded(&account.name, MAX_WORD),
                uid: status.service_account_uid.clone(),
            },
            workload: view.spec.terms().workload.cloned(),
            approvals: status.approvals.clone(),
            policy: status.policy.clone(),
            from: status.activated_time.as_ref().map(|t| t.0),
            to: over.map(|t| t.0),
            risk: status.risk,
            findings: status.findings.clone(),
            rules_hash: status.rules_hash.clone(),
            reason: status::ready_reason(status).to_owned(),
            end_reason: status.end_reason,
            message: bounded(ready.map_or("", |c| &c.message), MAX_MESSAGE),
        }
    }
}

impl By {
    /// Of whom no more is known than the status says.
    fn named(username: &str) -> Self {
        Self {
            username: bounded(username, MAX_WORD),
            uid: String::new(),
            groups: Vec::new(),
            groups_omitted: 0,
        }
    }
}

impl From<&Requester> for By {
    fn from(requester: &Requester) -> Self {
        let groups = requester.groups.iter().take(MAX_GROUPS);
        Self {
            uid: bounded(&requester.uid, MAX_WORD),
            groups: groups.map(|g| bounded(g, MAX_WORD)).collect(),
            groups_omitted: requester.groups.len().saturating_sub(MAX_GROUPS),
            ..Self::named(&requester.username)
        }
    }
}

/// At most `max` bytes of a text that somebody else chose, without control characters other than line feeds: it is read by
/// people in terminals.
pub fn bounded(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = if c.is_control() && c != '\n' { ' ' } else { c };
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WorkloadAccess;
    use crate::domain::request::AccessRequest;
    use serde_json::json;

    fn object(username: &str, message: &str) -> WorkloadAccess {
        let long = "x".repeat(253);
        serde_json::from_value(json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": long, "namespace": "n".repeat(63), "uid": "u".repeat(36), "generation": i64::MAX},
            "spec": {"serviceAccountRef": {"name": long, "namespace": "m".repeat(63)}, "duration": "1h", "reason": "r"},
            "status": {
                "requestedBy": username, "activatedTime": "2026-12-01T12:00:00Z", "notAfter": "2026-12-01T13:00:00Z",
                "serviceAccountUID": "u".repeat(36), "risk": "Critical", "findings": vec!["OB-P06"; 100],
                "rulesHash": format!("sha256:{}", "0".repeat(64)),
                "policy": {"name": long, "uid": "u".repeat(36), "generation": i64::MAX},
                "conditions": [{"type": "Ready", "status": "True", "reason": "Active", "message": message,
                                "lastTransitionTime": "2026-12-01T12:00:00Z"}]
            }
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-12-01T12:30:00.7Z".parse().unwrap()
    }

    #[test]
    fn the_longest_line_is_not_broken_by_a_container_runtime() {
        let hostile = "\"".repeat(100_000);
        let object = object(&hostile, &hostile);
        let requester = Requester {
            username: hostile.clone(),
            uid: hostile.clone(),
            groups: vec![hostile.clone(); 10_000],
        };
        let view = object.view();
        let outcome = Outcome::ApplyRefused("");
        let line = Line::of(
            &view,
            Some(&requester),
            view.status.unwrap(),
            &outcome,
            "GrantRefused",
            now(),
        )
        .unwrap();
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.len() < 16 * 1024, "{} bytes", text.len());
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["requestedBy"]["groupsOmitted"], 10_000 - MAX_GROUPS);
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor_of_a_terminal_or_break_a_character() {
        assert_eq!(bounded("a\u{1b}[2Jb\r\nc\u{9b}", 100), "a [2Jb \nc ");
        assert_eq!(bounded("aé", 2), "a");
        assert_eq!(bounded("", 0), "");
    }

    #[test]
    fn a_deleted_request_ends_access_once_and_only_if_there_was_any() {
        let mut object = object("alice", "has the granted rights");
        let line = Line::deleted(&object.view(), now()).unwrap();
        let line = serde_json::to_value(line).unwrap();
        assert_eq!(
            (&line["transition"], &line["endReason"], &line["to"]),
            (
                &json!("Ended"),
                &json!("Deleted"),
                &json!("2026-12-01T12:30:00Z")
            )
        );
        let status = object.status.as_mut().unwrap();
        status.ended_time = status.not_after.clone();
        assert_eq!(Line::deleted(&object.view(), now()), None, "told before");
        object.status.as_mut().unwrap().ended_time = None;
        object.status.as_mut().unwrap().activated_time = None;
        assert_eq!(Line::deleted(&object.view(), now()), None, "never began");
    }
}
