//! The table as comma-separated values (RFC 4180), safe to open in a spreadsheet.

use super::model::Report;
use super::table::{columns, rows};
use std::io::{self, Write};

/// Which report of which cluster a row is from: rows leave their file.
const OF_THE_REPORT: [&str; 4] = ["uid", "cluster_id", "report_at", "report_sha256"];

/// Writes all of it.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let heads = columns(report).iter().map(|column| column.key);
    line(heads.chain(OF_THE_REPORT), out)?;
    let cluster = report.cluster_id.as_deref().unwrap_or_default();
    for row in rows(report) {
        let cells = row.cells.iter().map(String::as_str);
        let tail = [&row.uid, cluster, &report.at, &report.sha256];
        line(cells.chain(tail), out)?;
    }
    Ok(())
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, out: &mut dyn Write) -> io::Result<()> {
    let cells: Vec<String> = cells.map(cell).collect();
    write!(out, "{}\r\n", cells.join(","))
}

/// One cell in quotes. A spreadsheet takes what begins like this for a formula; an apostrophe makes it text (OWASP, "CSV
/// Injection").
fn cell(text: &str) -> String {
    const FORMULA: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];
    let text = text.replace('"', "\"\"");
    match text.trim_start().starts_with(FORMULA) || text.starts_with(['\t', '\r', '|', '%']) {
        true => format!("\"'{text}\""),
        false => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_and_never_a_formula() {
        assert_eq!(cell("a, b"), "\"a, b\"");
        assert_eq!(cell("say \"no\""), "\"say \"\"no\"\"\"");
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        for start in ["+", "-", "@", " =", "＝", "|", "%"] {
            assert!(cell(&format!("{start}cmd()")).starts_with("\"'"), "{start}");
        }
        assert_eq!(cell("a=b"), "\"a=b\"");
        assert_eq!(cell(""), "\"\"");
    }
}
