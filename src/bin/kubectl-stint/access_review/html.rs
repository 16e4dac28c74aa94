//! The report as one page in one file: it asks no network for anything, and what it shows is text, never markup.
//!
//! The numbers are in the page as HTML; the table is data that the page's own script turns into text nodes. The policy of the
//! page (CSP level 3) lets that script and that style run, by their hashes, and nothing else.

use super::model::{Report, Totals, Trend};
use super::table::{Column, Row, columns, rows};
use super::usage::CAVEAT;
use crate::show;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Writes all of it.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let data = data(report)?;
    let parts = [
        ("script-hash", hash(SCRIPT)),
        ("style-hash", hash(STYLE)),
        ("style", STYLE.to_owned()),
        ("script", SCRIPT.to_owned()),
        ("about", about(report)),
        ("missing", missing(report)),
        ("numbers", numbers(&report.totals, report.trend.as_ref())),
        ("trend", trend(report.trend.as_ref())),
        ("usage", usage(report)),
        ("footer", footer(report)),
        ("data", data),
    ];
    let parts: HashMap<&str, String> = parts.into_iter().collect();
    fill(PAGE, &parts, out)
}

/// Puts each part in the place that has its name. What is put in is not looked at again.
fn fill(page: &str, parts: &HashMap<&str, String>, out: &mut dyn Write) -> io::Result<()> {
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out.write_all(before.as_bytes())?;
        let part = parts.get(name).ok_or_else(|| {
            io::Error::other(format!(
                "the page has a place for '{name}', which is nothing"
            ))
        })?;
        out.write_all(part.as_bytes())?;
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// A source expression of a content security policy.
fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    format!("sha256-{}", STANDARD.encode(digest))
}

/// A text of somebody else within an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in show::line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn about(report: &Report) -> String {
    let place = match &report.namespace {
        Some(name) => format!("Namespace {}", escaped(name)),
        None => "All namespaces and the whole cluster".to_owned(),
    };
    let at = escaped(&report.at);
    format!("{place}, as of <time datetime=\"{at}\">{at}</time>")
}

fn missing(report: &Report) -> String {
    if report.not_read.is_empty() {
        return String::new();
    }
    let items = report.not_read.iter();
    let items: String = items
        .map(|missing| format!("<li>{}</li>", escaped(&missing.why)))
        .collect();
    format!(
        "<section class=\"warning\" aria-label=\"What is missing\"><h2>Not complete</h2><ul>{items}</ul></section>"
    )
}

fn numbers(totals: &Totals, trend: Option<&Trend>) -> String {
    let then = trend.map(|trend| &trend.totals);
    let high = |by: &std::collections::BTreeMap<String, usize>| {
        let of = |word| by.get(word).copied().unwrap_or_default();
        format!("{} critical, {} high", of("Critical"), of("High"))
    };
    let tiles = [
        (
            "Give rights now",
            totals.live,
            then.map(|t| t.live),
            high(&totals.live_by_risk),
        ),
        (
            "Standing rights",
            totals.standing,
            then.map(|t| t.standing),
            high(&totals.standing_by_risk),
        ),
        (
            "Accounts with rights",
            totals.accounts,
            then.map(|t| t.accounts),
            format!(
                "{} bindings are Kubernetes' own",
                totals.standing_of_kubernetes
            ),
        ),
        (
            "Over, and still there",
            totals.residual,
            then.map(|t| t.residual),
            "residual access".into(),
        ),
        (
            "To be reviewed",
            totals.review_required,
            then.map(|t| t.review_required),
            "emergencies".into(),
        ),
        (
            "Requests",
            totals.grants,
            then.map(|t| t.grants),
            "of all states".into(),
        ),
    ];
    let told = tiles.into_iter().map(|(name, number, then, more)| {
        let then = then.map(|then| format!(", {then} then"));
        format!(
            "<div><dt>{name}</dt><dd><b>{number}</b><span>{more}{}</span></dd></div>",
            then.unwrap_or_default()
        )
    });
    told.collect()
}

fn trend(trend: Option<&Trend>) -> String {
    let Some(trend) = trend else {
        return String::new();
    };
    let removed = trend.removed.grants.len() + trend.removed.standing.len();
    let not_compared = match &trend.not_compared[..] {
        [] => String::new(),
        kinds => format!(
            " Not compared, because one of the reports does not know them in full: {}.",
            escaped(&kinds.join(", "))
        ),
    };
    format!(
        "<p>Since {}: {} added, {removed} removed, {} changed.{not_compared} Choose them under <i>Show</i>.</p>",
        escaped(&trend.since),
        trend.added.len(),
        trend.changed.len()
    )
}

/// What the audit log is, and what it says in numbers.
fn usage(report: &Report) -> String {
    let Some(log) = &report.audit_log else {
        return String::new();
    };
    let items = log.told(report).into_iter().chain([CAVEAT.to_owned()]);
    let items: String = items
        .map(|line| format!("<li>{}</li>", escaped(&line)))
        .collect();
    format!(
        "<section aria-label=\"The audit log\"><h2>What was used, by the audit log</h2><ul>{items}</ul></section>"
    )
}

fn footer(report: &Report) -> String {
    let cluster = report.cluster_id.as_deref().unwrap_or("unknown");
    format!(
        "Cluster <code>{}</code> (UID of the namespace kube-system) · {} · content <code>{}</code>",
        escaped(cluster),
        escaped(&report.made_by),
        escaped(&report.sha256)
    )
}

/// The table as JSON inside a script element, where `<` could end the element.
///
/// Texts that occur more than once are written once: a cell is the text or its number. Instants are seconds from the one before in
/// the row, the first from that of the report, and empty cells at the end of a row are left out. So 10,000 rows stay below 2 MB.
fn data(report: &Report) -> io::Result<String> {
    let (rows, columns) = (rows(report), columns(report));
    let strings = repeated(&rows, columns);
    let known = strings.iter().enumerate();
    let known: HashMap<&str, usize> = known.map(|(number, text)| (*text, number)).collect();
    let at: Option<Timestamp> = report.at.parse().ok();
    let at = at.map_or(0, Timestamp::as_second);
    let of_row = |row: &Row| -> Vec<Value> {
        let filled = row.cells.iter().rposition(|cell| !cell.is_empty());
        let mut before = at;
        let cells = row.cells.iter().zip(columns);
        let cells = cells.take(filled.map_or(0, |last| last + 1));
        let values = cells.map(|(text, column)| match column.time {
            true => time(text, &mut before),
            false => known.get(text.as_str()).map_or(json!(text), |n| json!(n)),
        });
        values.collect()
    };
    let columns = columns
        .iter()
        .map(|column| json!({"key": column.key, "head": column.head, "time": column.time}));
    let columns: Vec<Value> = columns.collect();
    let rows: Vec<Vec<Value>> = rows.iter().map(of_row).collect();
    let data = json!({"at": at, "columns": columns, "strings": strings, "rows": rows});
    let text = serde_json::to_string(&data).map_err(io::Error::other)?;
    Ok(text
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026"))
}

/// Seconds from the instant before, or what is no instant as it is.
fn time(text: &str, before: &mut i64) -> Value {
    let Ok(instant) = text.parse::<Timestamp>() else {
        return json!(text);
    };
    let seconds = instant.as_second() - *before;
    *before = instant.as_second();
    json!(seconds)
}

/// Texts that occur more than once, the most frequent first: they get the shortest numbers.
fn repeated<'a>(rows: &'a [Row], columns: &[Column]) -> Vec<&'a str> {
    let mut counted: HashMap<&str, usize> = HashMap::new();
    for row in rows {
        for (cell, column) in row.cells.iter().zip(columns) {
            if !column.time {
                *counted.entry(cell).or_default() += 1;
            }
        }
    }
    let mut all: Vec<(&str, usize)> = counted.into_iter().filter(|(_, n)| *n > 1).collect();
    all.sort_by_key(|(text, n)| (Reverse(*n), *text));
    all.into_iter().map(|(text, _)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_not_a_place_for_more() {
        let parts = [("a", "{{b}}".to_owned()), ("b", "x".to_owned())];
        let mut out = Vec::new();
        fill("<{{a}}|{{b}}>", &parts.into_iter().collect(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "<{{b}}|x>");
    }

    #[test]
    fn nothing_leaves_its_element_or_attribute() {
        let text = escaped("\"><script>'&\u{202e}\u{1b}[2J");
        assert_eq!(text, "&quot;&gt;&lt;script&gt;&#39;&amp; [2J");
    }
}
