//! `kubectl stint codes`: every code, or all there is to know of one.

use crate::pages::{self, Entry};
use crate::report::severity_name;
use crate::show::{self, Cell, Style, Table};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::io::{self, Write};
use stint::domain::catalogue::Severity;

/// Explain the codes in refusals
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # Every code, with how severe it is
  kubectl stint codes

  # Why a request was refused with [OB-W03], and what to write instead
  kubectl stint codes OB-W03

  # For a dashboard
  kubectl stint codes -o json")]
pub struct CodesArgs {
    /// One code, such as WA-TOO-LONG; all when omitted
    code: Option<String>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,

    /// Without the line of heads
    #[arg(long)]
    no_headers: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// Whole titles
    Wide,
    /// For programs; the fields are described in docs/lint.md
    Json,
}

/// Runs the command; false when there is no such code.
pub fn run(args: &CodesArgs, out: &mut impl Write) -> io::Result<bool> {
    let Some(wanted) = &args.code else {
        let all = pages::entries();
        match args.output {
            Form::Text | Form::Wide => table(args, &all).write(out)?,
            Form::Json => {
                let all: Vec<Value> = all.iter().map(as_json).collect();
                writeln!(out, "{:#}", Value::from(all))?;
            }
        }
        return Ok(true);
    };
    let Some(entry) = pages::entry(wanted) else {
        let near = pages::nearest(wanted).join(", ");
        let wanted = wanted.escape_default();
        eprintln!("kubectl-stint: there is no code '{wanted}'; the nearest are {near}");
        return Ok(false);
    };
    match args.output {
        Form::Text | Form::Wide => explain(&entry, out)?,
        Form::Json => writeln!(out, "{:#}", as_json(&entry))?,
    }
    Ok(true)
}

fn table(args: &CodesArgs, entries: &[Entry]) -> Table {
    let row = |entry: &Entry| {
        let [namespace, privileged, cluster] = severities(entry).map(Option::unwrap_or_default);
        let cells = [&entry.code, namespace, privileged, cluster, &entry.title];
        cells.map(Cell::of).to_vec()
    };
    let heads = ["CODE", "NAMESPACE", "SYSTEM-NS", "CLUSTER", "TITLE"];
    let style = Style {
        colour: show::colour(),
        bare: args.no_headers,
        wide: matches!(args.output, Form::Wide),
    };
    Table::new(&heads, entries.iter().map(row).collect(), style)
}

fn explain(entry: &Entry, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: {}\n", entry.code, entry.title)?;
    if let Some(check) = &entry.check {
        let [namespace, privileged, cluster] = severities(entry).map(|s| s.unwrap_or("no effect"));
        writeln!(
            out,
            "Severity: {namespace} in a namespace, {privileged} in a namespace of the cluster itself, {cluster} cluster-wide"
        )?;
        let meaning = pages::disposition_text(check);
        writeln!(
            out,
            "Disposition: {} ({meaning})",
            pages::disposition(check)
        )?;
        writeln!(out, "Why: {}", check.why)?;
        if let Some(other) = check.reported_as {
            writeln!(
                out,
                "In a WorkloadAccess: {other}; see `kubectl stint codes {other}`"
            )?;
        }
    }
    match (entry.page, &entry.check) {
        (Some(page), Some(_)) => writeln!(out, "\n{page}"),
        (Some(page), None) => writeln!(out, "{page}"),
        (None, _) => Ok(()),
    }
}

/// In a namespace, in a privileged one, cluster-wide.
fn severities(entry: &Entry) -> [Option<&'static str>; 3] {
    let Some(check) = &entry.check else {
        return [None; 3];
    };
    let of = check.severity;
    let word = |severity: Option<Severity>| severity.map(severity_name);
    [of.namespace, of.privileged_namespace, of.cluster].map(word)
}

fn as_json(entry: &Entry) -> Value {
    let [namespace, privileged, cluster] = severities(entry);
    let severity = entry.check.map(
        |_| json!({"namespace": namespace, "privilegedNamespace": privileged, "cluster": cluster}),
    );
    json!({
        "code": entry.code,
        "title": entry.title,
        "severity": severity,
        "disposition": entry.check.as_ref().map(pages::disposition),
        "why": entry.check.map(|check| check.why),
        "reportedAs": entry.check.and_then(|check| check.reported_as),
        "page": entry.page,
    })
}
