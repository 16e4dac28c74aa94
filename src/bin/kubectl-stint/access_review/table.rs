//! The report as one flat table, from which the forms for people are made: one row for each grant and each standing right, and for each
//! that is no longer there.

use super::model::{Grant, Key, Report, Standing};
use crate::show;
use std::collections::BTreeMap;

/// One column.
#[derive(Debug)]
pub struct Column {
    /// Its name for programs.
    pub key: &'static str,
    /// Its name for people.
    pub head: &'static str,
    /// Whether it holds an instant, or nothing.
    pub time: bool,
}

const fn text(key: &'static str, head: &'static str) -> Column {
    Column {
        key,
        head,
        time: false,
    }
}

const fn time(key: &'static str, head: &'static str) -> Column {
    Column {
        key,
        head,
        time: true,
    }
}

/// All columns, in their order.
pub const COLUMNS: [Column; 26] = [
    text("record", "Record"),
    text("change", "Change"),
    text("kind", "Kind"),
    text("namespace", "Namespace"),
    text("name", "Name"),
    text("account", "Account"),
    text("state", "State"),
    text("risk", "Risk"),
    text("codes", "Codes"),
    text("role", "Role"),
    text("rights", "Rights"),
    text("reason", "Reason"),
    text("ticket", "Ticket"),
    text("requested_by", "Requested by"),
    time("requested", "Requested"),
    text("decisions", "Decisions"),
    time("decided", "Last decided"),
    text("approvals", "Approvals"),
    text("policy", "Policy"),
    time("from", "From"),
    time("until", "Until"),
    time("ended", "Ended"),
    text("end_reason", "End reason"),
    text("message", "Message"),
    text("residual", "Residual access"),
    text("note", "Note"),
];

/// The cells of a row, as they may be shown to a person; each form still escapes them for itself.
#[derive(Debug)]
pub struct Row {
    /// In the order of [`COLUMNS`].
    pub cells: [String; COLUMNS.len()],
    /// UID of the object.
    pub uid: String,
}

impl Row {
    /// The cell of this column.
    pub fn get(&self, key: &str) -> &str {
        let at = COLUMNS.iter().position(|column| column.key == key);
        at.map_or("", |at| &self.cells[at])
    }

    /// Whether it is of the earlier report alone.
    pub fn is_removed(&self) -> bool {
        self.get("change") == REMOVED
    }
}

/// What `record` says of a request.
pub const GRANT: &str = "grant";
/// What `record` says of a standing right.
pub const STANDING: &str = "standing";
const REMOVED: &str = "removed";

/// All rows: grants, standing rights, then what is no longer there.
pub fn rows(report: &Report) -> Vec<Row> {
    let changes = changes(report);
    let change = |key: &Key| changes.get(key).map_or("", String::as_str);
    let grants = report.grants.iter();
    let grants = grants.map(|grant| of_grant(grant, change(&grant.key())));
    let standing = report.standing.iter();
    let standing = standing.map(|one| of_standing(one, change(&one.key())));
    let mut rows: Vec<Row> = grants.chain(standing).collect();
    if let Some(trend) = &report.trend {
        let removed = &trend.removed;
        rows.extend(removed.grants.iter().map(|grant| of_grant(grant, REMOVED)));
        rows.extend(removed.standing.iter().map(|one| of_standing(one, REMOVED)));
    }
    rows
}

fn changes(report: &Report) -> BTreeMap<&Key, String> {
    let Some(trend) = &report.trend else {
        return BTreeMap::new();
    };
    let added = trend.added.iter().map(|key| (key, "added".to_owned()));
    let changed = trend.changed.iter().map(|changed| {
        let fields = changed.fields.iter();
        let fields: Vec<String> = fields
            .map(|f| format!("{} was {}", f.field, or_nothing(&f.was)))
            .collect();
        (&changed.key, format!("changed: {}", fields.join("; ")))
    });
    added.chain(changed).collect()
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn of_grant(grant: &Grant, change: &str) -> Row {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let decisions = grant.decisions.iter().map(|decided| {
        let until = decided.until.as_ref();
        let until = until.map(|at| format!(", until {at}")).unwrap_or_default();
        format!("{} by {}{until}", decided.decision, decided.by)
    });
    let last = grant.decisions.last().map(|decided| decided.at.clone());
    let approvals = grant.approvals.iter().map(|object| {
        let reason = object.reason.as_ref();
        let reason = reason.map(|why| format!(", because: {why}"));
        format!(
            "{}: {}{}",
            object.name,
            object.decision,
            reason.unwrap_or_default()
        )
    });
    let mut notes = grant.extensions.clone();
    if grant.break_glass {
        let reviewed = match grant.review_required {
            true => "nobody has reviewed it yet",
            false => "without approval",
        };
        notes.push(format!("break-glass: {reviewed}"));
    }
    row(
        [
            GRANT.into(),
            change.into(),
            grant.kind.clone(),
            text(&grant.namespace),
            grant.name.clone(),
            grant.account.clone(),
            grant.state.clone(),
            text(&grant.risk),
            grant.codes.join(" "),
            text(&grant.role),
            grant.rights.join("; "),
            grant.reason.clone(),
            text(&grant.ticket),
            text(&grant.requested_by),
            text(&grant.requested),
            decisions.collect::<Vec<_>>().join("; "),
            last.unwrap_or_default(),
            approvals.collect::<Vec<_>>().join("; "),
            text(&grant.policy),
            text(&grant.from),
            text(&grant.until),
            text(&grant.ended),
            text(&grant.end_reason),
            text(&grant.message),
            text(&grant.residual),
            notes.join("; "),
        ],
        &grant.uid,
    )
}

fn of_standing(one: &Standing, change: &str) -> Row {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let none = String::new;
    let managed = one.managed_by.as_ref();
    let managed = managed.map(|who| format!("managed by {who}"));
    let notes: Vec<String> = managed.into_iter().chain(one.note.clone()).collect();
    row(
        [
            STANDING.into(),
            change.into(),
            one.kind.clone(),
            text(&one.namespace),
            one.name.clone(),
            one.account.clone(),
            "Standing".into(),
            one.risk.clone().unwrap_or_else(|| "Unknown".into()),
            one.codes.join(" "),
            one.role.clone(),
            one.rights.join("; "),
            none(),
            none(),
            none(),
            none(),
            none(),
            none(),
            none(),
            none(),
            text(&one.since),
            none(),
            none(),
            none(),
            none(),
            none(),
            notes.join("; "),
        ],
        &one.uid,
    )
}

fn row(cells: [String; COLUMNS.len()], uid: &str) -> Row {
    Row {
        cells: cells.map(|cell| show::line(&cell)),
        uid: show::line(uid),
    }
}
