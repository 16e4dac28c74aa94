//! The report as one flat table, from which the forms for people are made: one row for each grant and each standing right, and for each
//! that is no longer there.

use super::model::{Grant, Key, Report, Standing};
use super::usage::{Attempt, Usage};
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

/// Columns of every report.
const OF_ALL: usize = 26;

/// All columns, in their order; the last are those that only an audit log fills.
const COLUMNS: [Column; OF_ALL + 9] = [
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
    text("unused", "Not used"),
    text("used", "Used"),
    text("log_covers", "The log covers"),
    text("requests", "Requests"),
    time("first_request", "First request"),
    time("last_request", "Last request"),
    text("verb", "Refused verb"),
    text("resource", "Refused resource"),
    text("object", "Refused object"),
];

/// The columns of this report.
pub fn columns(report: &Report) -> &'static [Column] {
    match report.audit_log {
        Some(_) => &COLUMNS,
        None => &COLUMNS[..OF_ALL],
    }
}

/// The cells of a row, as they may be shown to a person; each form still escapes them for itself.
#[derive(Debug, Default)]
pub struct Row {
    /// In the order of [`columns`].
    pub cells: Vec<String>,
    /// UID of the object.
    pub uid: String,
    /// Rules that were not used in full, by their place in the role.
    pub unused: Vec<(usize, String)>,
}

impl Row {
    /// The cell of this column.
    pub fn get(&self, key: &str) -> &str {
        let at = COLUMNS.iter().position(|column| column.key == key);
        at.and_then(|at| self.cells.get(at))
            .map_or("", String::as_str)
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
/// What `record` says of something that an account tried and was refused.
pub const ATTEMPT: &str = "attempt";
const REMOVED: &str = "removed";

/// All rows: grants, standing rights, what is no longer there, then what accounts were refused.
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
    if let Some(log) = &report.audit_log {
        rows.extend(log.refused.iter().map(of_attempt));
    }
    for row in &mut rows {
        row.cells.resize(columns(report).len(), String::new());
    }
    rows
}

impl Row {
    /// With what the audit log says of it. Of what is no longer there, this log says nothing.
    fn with_usage(mut self, usage: Option<&Usage>, over: bool) -> Self {
        let Some(usage) = usage.filter(|_| !self.is_removed()) else {
            return self;
        };
        let rules = usage.rules.iter().flatten().enumerate();
        let unused = rules.filter(|(_, rule)| !rule.unused.is_empty());
        self.unused = unused
            .map(|(number, rule)| (number, rule.unused.join("; ")))
            .collect();
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let cells = [
            usage.unused_told(),
            usage.used_told(),
            usage.covered_told(over).to_owned(),
            usage.requests.to_string(),
            text(&usage.first),
            text(&usage.last),
        ];
        self.cells.extend(cells.map(|cell| show::line(&cell)));
        self
    }
}

fn of_attempt(attempt: &Attempt) -> Row {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let cell = |key: &str| match key {
        "record" => ATTEMPT.to_owned(),
        "account" => attempt.account.clone(),
        "state" => "Forbidden".to_owned(),
        "namespace" => text(&attempt.namespace),
        "requests" => attempt.requests.to_string(),
        "first_request" => text(&attempt.first),
        "last_request" => text(&attempt.last),
        "verb" => attempt.verb.clone(),
        "resource" => attempt.resource.clone(),
        "object" => attempt.name_told(),
        _ => String::new(),
    };
    let cells = COLUMNS.iter().map(|column| show::line(&cell(column.key)));
    Row {
        cells: cells.collect(),
        ..Row::default()
    }
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
    .with_usage(grant.usage.as_ref(), grant.ended.is_some())
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
    .with_usage(one.usage.as_ref(), false)
}

fn row(cells: [String; OF_ALL], uid: &str) -> Row {
    Row {
        cells: cells.map(|cell| show::line(&cell)).into(),
        uid: show::line(uid),
        ..Row::default()
    }
}
