//! The columns of `kubectl stint list`.

use crate::show::{Cell, Tone, length};
use crate::{requests, story};
use jiff::Timestamp;
use kube::core::DynamicObject;
use stint::api::conditions as names;
use stint::api::workload_access::Risk;
use stint::domain::request::{AccessRequest, RequestView};
use stint::domain::verification;

/// Which columns there are.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// The namespace first.
    pub namespace: bool,
    /// With end, policy, requester and ticket.
    pub wide: bool,
}

impl Columns {
    /// Their heads.
    pub fn heads(self) -> Vec<&'static str> {
        let mut heads = Vec::new();
        if self.namespace {
            heads.push("NAMESPACE");
        }
        heads.extend(["NAME", "STATE", "ACCOUNT", "RISK", "REMAINING", "REASON"]);
        if self.wide {
            heads.extend(["ENDS", "POLICY", "REQUESTED-BY", "TICKET"]);
        }
        heads
    }

    /// One request.
    pub fn row(self, object: &DynamicObject, now: Timestamp) -> Vec<Cell> {
        let mut row = Vec::new();
        if self.namespace {
            row.push(Cell::of(
                object.metadata.namespace.as_deref().unwrap_or_default(),
            ));
        }
        row.push(Cell::of(
            object.metadata.name.as_deref().unwrap_or_default(),
        ));
        match requests::read(object) {
            Ok(access) => self.rest(&access.view(), now, &mut row),
            Err(why) => {
                row.push(Cell::toned("Unreadable", Tone::Bad));
                row.extend(["", "", "", &why].map(Cell::of));
                row.resize(self.heads().len(), Cell::of(""));
            }
        }
        row
    }

    /// One that was just deleted, as it was.
    pub fn deleted(self, object: &DynamicObject, now: Timestamp) -> Vec<Cell> {
        let mut row = self.row(object, now);
        if let Some(state) = row.get_mut(usize::from(self.namespace) + 1) {
            *state = Cell::toned("Deleted", Tone::Over);
        }
        row
    }

    fn rest(self, view: &RequestView<'_>, now: Timestamp, row: &mut Vec<Cell>) {
        let state = story::state(view.status);
        let risk = view.status.and_then(|status| status.risk);
        let (left, left_tone) = remaining(view, now);
        let terms = view.spec.terms();
        row.extend([
            Cell::toned(state, tone(state)),
            Cell::of(&account(view)),
            Cell::toned(
                risk.map_or("", Risk::as_str),
                risk.map_or(Tone::Plain, weight),
            ),
            Cell::toned(&left, left_tone),
            Cell::of(terms.reason),
        ]);
        if self.wide {
            let status = view.status;
            let end = status
                .and_then(|s| s.not_after.as_ref())
                .map(|end| end.0.to_string());
            let policy = status
                .and_then(|s| s.policy.as_ref())
                .map(|p| p.name.as_str());
            let by = status.and_then(|s| s.requested_by.as_deref());
            row.extend([
                Cell::of(&end.unwrap_or_default()),
                Cell::of(policy.unwrap_or_default()),
                Cell::of(by.unwrap_or_default()),
                Cell::of(terms.ticket.unwrap_or_default()),
            ]);
        }
    }
}

/// The account; with its namespace only where that is another one.
fn account(view: &RequestView<'_>) -> String {
    let account = verification::account(view);
    match view.place().namespace() == Some(account.namespace.as_str()) {
        true => account.name,
        false => account.to_string(),
    }
}

/// The colour of a state.
pub fn tone(state: &str) -> Tone {
    match state {
        names::REASON_ACTIVE => Tone::Good,
        names::REASON_REFUSED | names::REASON_APPLY_REFUSED | "Denied" | "Drifted" => Tone::Bad,
        "New"
        | names::REASON_SCHEDULED
        | names::REASON_ACTIVATING
        | names::REASON_NOT_READY
        | names::REASON_PENDING_APPROVAL => Tone::Waits,
        _ => Tone::Over,
    }
}

fn weight(risk: Risk) -> Tone {
    match risk {
        Risk::Low => Tone::Plain,
        Risk::Medium => Tone::Waits,
        Risk::High | Risk::Critical => Tone::Bad,
    }
}

/// How long access lasts, or until it begins.
fn remaining(view: &RequestView<'_>, now: Timestamp) -> (String, Tone) {
    let end = view.status.and_then(|status| status.not_after.as_ref());
    let begins = view.spec.terms().not_before;
    let begins: Option<Timestamp> = begins.and_then(|text| text.parse().ok());
    match (story::state(view.status), end, begins) {
        (names::REASON_ACTIVE, Some(end), _) if end.0 > now => {
            (length(end.0.duration_since(now)), Tone::Plain)
        }
        (names::REASON_ACTIVE, Some(_), _) => ("overdue".into(), Tone::Bad),
        (names::REASON_SCHEDULED, _, Some(at)) => (
            format!("begins in {}", length(at.duration_since(now))),
            Tone::Plain,
        ),
        _ => (String::new(), Tone::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::{Style, Table};
    use serde_json::{Value, json};

    fn object(name: &str, namespace: Option<&str>, reason: &str, status: Value) -> DynamicObject {
        let mut object = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"serviceAccountRef": {"name": "migrator", "namespace": "payments"},
                     "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}],
                     "duration": "30m", "reason": reason},
            "status": status
        });
        if namespace.is_none() {
            object["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("namespace");
        }
        serde_json::from_value(object).unwrap()
    }

    fn ready(reason: &str) -> Value {
        json!([{"type": "Ready", "status": "True", "reason": reason, "message": "m",
                "lastTransitionTime": "2026-12-01T12:00:00Z"}])
    }

    fn rows(found: &[DynamicObject], namespace: bool, wide: bool) -> String {
        let columns = Columns { namespace, wide };
        let now = "2026-12-01T12:00:30Z".parse().unwrap();
        let rows = found.iter().map(|o| columns.row(o, now)).collect();
        let style = Style {
            colour: false,
            bare: false,
            wide,
        };
        let mut out = Vec::new();
        Table::new(&columns.heads(), rows, style)
            .write(&mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_says_what_gives_rights_how_long_and_why() {
        let active = json!({"conditions": ready("Active"), "risk": "High", "notAfter": "2026-12-01T12:30:00Z",
                            "policy": {"name": "payments-jobs", "uid": "p", "generation": 1}, "requestedBy": "alice"});
        let found = [
            object(
                "migrate-42",
                Some("payments"),
                "schema\u{1b}[31m change",
                active,
            ),
            object(
                "late",
                Some("payments"),
                "r",
                json!({"conditions": ready("Active"), "notAfter": "2026-12-01T12:00:29Z"}),
            ),
            object(
                "inventory",
                None,
                "count the nodes",
                json!({"conditions": ready("Revoked")}),
            ),
            object("fresh", Some("search"), "r", Value::Null),
        ];
        assert_eq!(
            rows(&found, true, false),
            "\
NAMESPACE  NAME        STATE    ACCOUNT            RISK  REMAINING  REASON
payments   migrate-42  Active   migrator           High  29m30s     schema [31m change
payments   late        Active   migrator           -     overdue    r
-          inventory   Revoked  payments/migrator  -     -          count the nodes
search     fresh       New      payments/migrator  -     -          r
"
        );
        let wide = rows(&found[..1], false, true);
        assert!(
            wide.ends_with("2026-12-01T12:30:00Z  payments-jobs  alice         -\n"),
            "{wide}"
        );
    }

    #[test]
    fn what_this_version_cannot_read_is_listed_all_the_same() {
        let mut strange = object("strange", Some("payments"), "r", json!({}));
        strange.data["spec"]["rules"] = json!("all");
        let text = rows(&[strange], false, false);
        assert!(text.contains("strange  Unreadable"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
    }
}
