//! The report for a pull request.

use super::model::{Report, Totals, Trend};
use super::table::{ATTEMPT, GRANT, Row, STANDING, rows};
use super::usage::{AuditLog, CAVEAT};
use crate::show;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Columns of grants: head, and the cell's key.
const OF_GRANTS: [(&str, &str); 12] = [
    ("Account", "account"),
    ("Grant", "name"),
    ("State", "state"),
    ("Risk", "risk"),
    ("Codes", "codes"),
    ("From", "from"),
    ("Until", "until"),
    ("Ended", "ended"),
    ("Why it ended", "end_reason"),
    ("Requested by", "requested_by"),
    ("Decisions", "decisions"),
    ("Reason", "reason"),
];

/// Columns of standing rights.
const OF_STANDING: [(&str, &str); 7] = [
    ("Account", "account"),
    ("Binding", "name"),
    ("Role", "role"),
    ("Risk", "risk"),
    ("Codes", "codes"),
    ("Since", "from"),
    ("Note", "note"),
];

/// Columns of what was used.
const OF_USAGE: [(&str, &str); 9] = [
    ("Account", "account"),
    ("By", "kind"),
    ("Name", "name"),
    ("Not used", "unused"),
    ("Used", "used"),
    ("Requests", "requests"),
    ("First", "first_request"),
    ("Last", "last_request"),
    ("The log covers", "log_covers"),
];

/// Columns of what was refused.
const OF_ATTEMPTS: [(&str, &str); 8] = [
    ("Account", "account"),
    ("Verb", "verb"),
    ("Resource", "resource"),
    ("Namespace", "namespace"),
    ("Object", "object"),
    ("Requests", "requests"),
    ("First", "first_request"),
    ("Last", "last_request"),
];

/// Writes all of it.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let rows = rows(report);
    writeln!(out, "# Access review\n")?;
    let about = match &report.namespace {
        Some(name) => format!("Namespace {}", cell(name)),
        None => "All namespaces and the whole cluster".to_owned(),
    };
    writeln!(out, "{about}, as of {}.\n", report.at)?;
    for missing in &report.not_read {
        let why = cell(&show::line(&missing.why));
        writeln!(out, "> **Not complete:** {why}\n")?;
    }
    numbers(&report.totals, out)?;
    if let Some(trend) = &report.trend {
        news(trend, &rows, out)?;
    }
    let of = |record: &str| -> Vec<&Row> {
        let all = rows.iter().filter(|row| !row.is_removed());
        all.filter(|row| row.get("record") == record).collect()
    };
    let residual: Vec<&Row> = of(GRANT)
        .into_iter()
        .filter(|row| !row.get("residual").is_empty())
        .collect();
    if !residual.is_empty() {
        writeln!(out, "## Over, and still there\n")?;
        let columns = [
            ("Account", "account"),
            ("Grant", "name"),
            ("Ended", "ended"),
            ("Residual access", "residual"),
        ];
        table(&columns, &residual, out)?;
    }
    writeln!(out, "## Grants\n")?;
    table(&OF_GRANTS, &of(GRANT), out)?;
    writeln!(out, "## Standing rights of accounts\n")?;
    table(&OF_STANDING, &of(STANDING), out)?;
    if let Some(log) = &report.audit_log {
        let held = rows.iter().filter(|row| !row.get("log_covers").is_empty());
        usage(log, report, &held.collect::<Vec<_>>(), out)?;
        writeln!(out, "## What accounts were refused\n")?;
        table(&OF_ATTEMPTS, &of(ATTEMPT), out)?;
    }
    footer(report, out)
}

fn usage(log: &AuditLog, report: &Report, held: &[&Row], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "## What was used, by the audit log\n")?;
    for line in log.told(report) {
        writeln!(out, "- {line}")?;
    }
    writeln!(out, "\n{CAVEAT}\n")?;
    table(&OF_USAGE, held, out)
}

fn numbers(totals: &Totals, out: &mut dyn Write) -> io::Result<()> {
    let by = |words: &BTreeMap<String, usize>| {
        let words = words.iter();
        let words: Vec<String> = words.map(|(w, n)| format!("{n} {}", cell(w))).collect();
        words.join(", ")
    };
    writeln!(out, "| | Number | Of these |\n|---|---:|---|")?;
    writeln!(
        out,
        "| Requests | {} | {} |",
        totals.grants,
        by(&totals.states)
    )?;
    let (live, risk) = (totals.live, by(&totals.live_by_risk));
    writeln!(out, "| Give rights now | {live} | {risk} |")?;
    let (standing, risk) = (totals.standing, by(&totals.standing_by_risk));
    writeln!(out, "| Standing rights of accounts | {standing} | {risk} |")?;
    let own = totals.standing_of_kubernetes;
    writeln!(out, "| Made by Kubernetes for itself | {own} | |")?;
    writeln!(out, "| Accounts with rights | {} | |", totals.accounts)?;
    writeln!(out, "| Over, and still there | {} | |", totals.residual)?;
    let review = totals.review_required;
    writeln!(out, "| Emergencies to be reviewed | {review} | |\n")
}

fn news(trend: &Trend, rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let removed = trend.removed.grants.len() + trend.removed.standing.len();
    writeln!(out, "## Since {}\n", cell(&show::line(&trend.since)))?;
    writeln!(
        out,
        "{} added, {removed} removed, {} changed. Give rights now: {} then. Standing: {} then.\n",
        trend.added.len(),
        trend.changed.len(),
        trend.totals.live,
        trend.totals.standing
    )?;
    for kind in &trend.not_compared {
        let kind = cell(&show::line(kind));
        writeln!(
            out,
            "> **Not compared:** {kind}, which one of the reports does not know in full\n"
        )?;
    }
    let news: Vec<&Row> = rows
        .iter()
        .filter(|row| !row.get("change").is_empty())
        .collect();
    let columns = [
        ("Account", "account"),
        ("By", "kind"),
        ("Name", "name"),
        ("State", "state"),
        ("Risk", "risk"),
        ("Change", "change"),
    ];
    table(&columns, &news, out)
}

fn table(columns: &[(&str, &str)], rows: &[&Row], out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "None.\n");
    }
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    writeln!(out, "| {} |", heads.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(heads.len()))?;
    for row in rows {
        let cells = columns.iter().map(|(_, key)| match *key {
            "name" => cell(&title(row)),
            key => cell(row.get(key)),
        });
        writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "))?;
    }
    writeln!(out)
}

/// `namespace/name`, or the name of what is of the whole cluster.
fn title(row: &Row) -> String {
    match (row.get("namespace"), row.get("name")) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

fn footer(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let cluster = report.cluster_id.as_deref();
    let cluster = cluster.map_or("unknown".into(), |id| cell(&show::line(id)));
    writeln!(
        out,
        "---\n\nCluster {cluster} (UID of the namespace kube-system), {}, {}",
        cell(&report.made_by),
        report.sha256
    )
}

/// A text of somebody else, on one line already. What has nothing but letters, digits and a few harmless characters stays as it is; of
/// anything else every mark becomes a character reference, which is never taken for markup (CommonMark 0.31, "Entity and
/// numeric character references"), within `code`, where no site makes links or mentions of it.
fn cell(text: &str) -> String {
    let harmless = |c: char| c.is_alphanumeric() || " -/.".contains(c);
    // An instant is what the report itself wrote.
    let instant = text.parse::<jiff::Timestamp>().is_ok();
    if instant || (text.chars().all(harmless) && !text.contains("www.")) {
        return text.to_owned();
    }
    let mut out = String::from("<code>");
    for c in text.chars() {
        match c {
            c if c.is_ascii_punctuation() => out.push_str(&format!("&#{};", c as u32)),
            c => out.push(c),
        }
    }
    out + "</code>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text_and_nothing_else() {
        assert_eq!(cell("payments/migrator"), "payments/migrator");
        assert_eq!(cell("2026-12-01T12:00:00Z"), "2026-12-01T12:00:00Z");
        assert_eq!(cell("a|b"), "<code>a&#124;b</code>");
        for hostile in [
            "</code><script>",
            "[a](http://x)",
            "`a",
            "@team",
            "#1",
            "![x](y)",
            "www.example",
            "\\",
        ] {
            let text = cell(hostile);
            let inside = text
                .strip_prefix("<code>")
                .and_then(|rest| rest.strip_suffix("</code>"));
            let inside = inside.unwrap_or_else(|| panic!("{text}"));
            let marks = inside
                .chars()
                .filter(|c| c.is_ascii_punctuation() && !"&#;".contains(*c));
            assert_eq!(marks.count(), 0, "{text}");
        }
    }
}
