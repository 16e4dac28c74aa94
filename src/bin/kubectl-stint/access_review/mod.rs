//! `kubectl stint report`: an access review of everything that accounts hold, by grants and by standing bindings.

mod attempts;
mod baseline;
mod collect;
mod csv;
mod deliver;
mod grants;
mod html;
mod markdown;
mod model;
mod scanner;
mod standing;
mod table;
mod totals;
mod usage;
mod used;

use crate::audit_log::wanted::Wanted;
use crate::connect::{Connection, Target};
use crate::outcome::{Answer, End, Failure};
use crate::{audit_log, place, show};
use clap::{Args, ValueEnum, ValueHint};
use model::Report;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use stint::api::workload_access::Risk;

/// Report who has which access, since when, until when, and why
///
/// Reads all requests with the decisions on them, and all roles and bindings: grants that were, are and will be, and the standing
/// rights of ServiceAccounts, which no clock ends. Only reads; RBAC is all it looks at. With --audit-log also what of the rights was
/// used and what was not, and what accounts were refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # A page for people, one file that needs no network
  kubectl stint report -f access.html

  # For an auditor's spreadsheet, and for a program
  kubectl stint report -o csv > access.csv
  kubectl stint report -f access.json

  # What has changed since the review of last month, into a pull request
  kubectl stint report --baseline october.json -o markdown

  # Fail a pipeline when something new is of high risk
  kubectl stint report --baseline october.json -f november.json --fail-on high

  # One namespace, by somebody who may read no other
  kubectl stint report -n payments

  # What of all that was never used, and what accounts tried and were refused, by the audit logs of all API servers
  kubectl stint report -f access.html --audit-log /var/log/kubernetes/audit/*.log*

Exit status: 0 reported, 1 something live is of the risk of --fail-on, 2 something could not be read; the report says what.")]
pub struct ReportArgs {
    /// Only this namespace [default: all, and the whole cluster]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Form of the output [default: by the ending of the file, else markdown]
    #[arg(short, long, value_enum)]
    output: Option<Form>,

    /// Write to this file, whole or not at all, instead of stdout
    #[arg(short = 'f', long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// An earlier report in JSON to compare with: what was added, removed and changed since
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Audit logs of the API server, rotated and compressed ones too, in any order; `-` is stdin. Adds which rules were used and which
    /// were not, and what accounts were refused
    #[arg(long, value_name = "FILE|-", num_args = 1.., value_hint = ValueHint::FilePath)]
    audit_log: Vec<String>,

    /// Read the logs also when they prove to be of another cluster, and say so
    #[arg(long, requires = "audit_log")]
    any_cluster: bool,

    /// End with 1 when something that gives rights now is of this risk or more; with --baseline only what is new or has changed
    #[arg(long, value_enum, value_name = "RISK")]
    fail_on: Option<AtLeast>,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One page that searches, sorts and filters, without any network
    Html,
    /// For a pull request
    Markdown,
    /// For a spreadsheet (RFC 4180)
    Csv,
    /// For programs; the fields are described in docs/report.md
    Json,
    /// SARIF 2.1.0, for code scanners: what is live and has findings
    Sarif,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AtLeast {
    Low,
    Medium,
    High,
    Critical,
}

impl AtLeast {
    fn risk(self) -> Risk {
        match self {
            Self::Low => Risk::Low,
            Self::Medium => Risk::Medium,
            Self::High => Risk::High,
            Self::Critical => Risk::Critical,
        }
    }
}

/// Runs the command.
pub async fn run(args: &ReportArgs, out: &mut impl Write) -> Answer {
    let form = form(args);
    let earlier = args.baseline.as_deref().map(baseline::read).transpose()?;
    let connection = Connection::open(&args.target).await?;
    let namespace = args.namespace.as_deref();
    let namespace = namespace
        .map(|name| place::legal("namespace", name))
        .transpose()?;
    let mut found = collect::everything_of(&connection, namespace).await?;
    let here = match args.audit_log.is_empty() {
        true => None,
        false => Some(collect::here(&connection, namespace, &mut found).await),
    };
    let mut report = model::assemble(&found, namespace, connection.now());
    if here.is_some() {
        let log = audit_log::read(
            &args.audit_log,
            &Wanted::for_review(namespace),
            here,
            args.any_cluster,
        )?;
        log.say_what_it_is();
        used::add(&mut report, &found, &log);
    }
    if let Some(earlier) = earlier {
        baseline::compare(&mut report, earlier)?;
    }
    model::seal(&mut report)?;
    for missing in &report.not_read {
        eprintln!("kubectl-stint: {}", show::line(&missing.why));
    }
    match &args.output_file {
        Some(file) => deliver::to_file(file, |to| write(form, &report, to))?,
        None => write(form, &report, out)?,
    }
    if let Some(file) = &args.output_file {
        writeln!(out, "{}", written(file, &report))?;
    }
    Ok(end(args, &report))
}

/// The form that is asked for, by name or by the ending of the file.
fn form(args: &ReportArgs) -> Form {
    let ending = args.output_file.as_deref().and_then(Path::extension);
    args.output
        .unwrap_or(match ending.and_then(|ending| ending.to_str()) {
            Some("html" | "htm") => Form::Html,
            Some("csv") => Form::Csv,
            Some("json") => Form::Json,
            Some("sarif") => Form::Sarif,
            _ => Form::Markdown,
        })
}

fn write(form: Form, report: &Report, out: &mut dyn Write) -> io::Result<()> {
    match form {
        Form::Html => html::write(report, out),
        Form::Markdown => markdown::write(report, out),
        Form::Csv => csv::write(report, out),
        Form::Json => writeln!(out, "{}", show::json(report)?),
        Form::Sarif => writeln!(out, "{}", show::json(&scanner::log(report))?),
    }
}

fn written(file: &Path, report: &Report) -> String {
    let name = show::line(&file.display().to_string());
    let grants = show::count(report.grants.len(), "grant");
    let standing = show::count(report.standing.len(), "standing binding");
    format!("{name}: {grants}, {standing}, {}", report.sha256)
}

fn end(args: &ReportArgs, report: &Report) -> End {
    let news = report.trend.as_ref().map(model::Trend::news);
    let too_much = args.fail_on.is_some_and(|least| {
        let asked = |key: &model::Key| news.as_ref().is_none_or(|news| news.contains(key));
        let mut live = report.live().filter(|(key, _)| asked(key));
        live.any(|(_, risk)| risk.is_some_and(|risk| risk >= least.risk()))
    });
    match (report.not_read.is_empty(), too_much) {
        (false, _) => End::Failure,
        (true, true) => End::Findings,
        (true, false) => End::Clean,
    }
}

/// An error in the words of what failed.
fn unusable(what: impl std::fmt::Display) -> Failure {
    Failure::Error(what.to_string())
}
