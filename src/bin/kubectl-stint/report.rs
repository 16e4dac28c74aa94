//! What lint has to say, and how it says it to a person and to a program. `sarif` says it to a code scanner.

use crate::read::Object;
use crate::show::{self, Tone};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use stint::domain::catalogue::Severity;
use stint::domain::violation::Violation;

/// Version of the JSON output; it changes when a field goes or changes its meaning.
pub const API_VERSION: &str = "stint.dev/lint/v1";

/// Most findings of one object; the rest is counted. A role of megabytes must not become a report of gigabytes.
const MAX_FINDINGS: usize = 200;

/// How a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Note,
    /// Fails only with `--strict`.
    Warning,
    /// Refused.
    Error,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How it weighs.
    pub level: Level,
    /// Stable code; none when it says what could not be judged.
    pub code: Option<String>,
    /// How much harm it can do, where the catalogue says so.
    #[serde(serialize_with = "severity_word")]
    pub severity: Option<Severity>,
    /// Where in the object; empty for the object as a whole.
    pub path: String,
    /// The line in the file.
    pub line: u64,
    /// The line that the webhook would answer, with path and code.
    pub message: String,
}

impl Finding {
    /// A refusal of the judge, or of what comes before it.
    pub fn violation(object: &Object, level: Level, violation: &Violation) -> Self {
        Self {
            level,
            code: Some(violation.code.to_owned()),
            severity: None,
            line: object.node.line_of(&violation.path),
            path: violation.path.clone(),
            message: violation.to_string(),
        }
    }

    /// A line of the webhook's, with its code in brackets at the end and mostly a path before the first colon.
    pub fn line(object: &Object, level: Level, text: &str) -> Self {
        let path = text.split_once(": ").map_or("", |(path, _)| path);
        let path = if path.contains(' ') { "" } else { path };
        Self {
            level,
            code: trailing_code(text).map(str::to_owned),
            severity: None,
            line: object.node.line_of(path),
            path: path.to_owned(),
            message: text.to_owned(),
        }
    }

    /// Something about the object that has no code.
    pub fn remark(object: &Object, level: Level, path: &str, text: impl Into<String>) -> Self {
        Self {
            level,
            code: None,
            severity: None,
            line: object.node.line_of(path),
            path: path.to_owned(),
            message: text.into(),
        }
    }

    /// The same with a severity.
    pub fn weighing(mut self, severity: Severity) -> Self {
        self.severity = Some(severity);
        self
    }

    /// The message without the code, which stands in a column of its own.
    fn text(&self) -> &str {
        let tail = |code: &String| format!(" [{code}]");
        let tail = self.code.as_ref().map(tail).unwrap_or_default();
        self.message.strip_suffix(&tail).unwrap_or(&self.message)
    }
}

/// The code at the end of a line, in brackets.
pub fn trailing_code(text: &str) -> Option<&str> {
    let (_, code) = text.strip_suffix(']')?.rsplit_once('[')?;
    (code.starts_with("WA-") || code.starts_with("OB-")).then_some(code)
}

/// The word that is used for a severity outside.
pub fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

fn severity_word<S: serde::Serializer>(
    severity: &Option<Severity>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    severity.map(severity_name).serialize(serializer)
}

/// What became of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing is wrong with it.
    Passes,
    /// It has an error.
    Refused,
    /// Nothing is known to be wrong, and not all that decides is in the input.
    Undecided,
}

/// One object that was judged.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// The file.
    pub file: String,
    /// Where the object begins.
    pub line: u64,
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
    /// The namespace that it was judged for; none for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The highest severity of what it asks for, where it is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<&'static str>,
    /// What there is to say.
    pub findings: Vec<Finding>,
}

impl Judged {
    /// Errors come first. The outcome follows from the findings, and from whether something that decides was unknown.
    pub fn new(
        object: &Object,
        namespace: Option<&str>,
        mut findings: Vec<Finding>,
        known: bool,
    ) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        if findings.len() > MAX_FINDINGS {
            let more = findings.len() - MAX_FINDINGS;
            findings.truncate(MAX_FINDINGS);
            let text = format!("and {more} more; mend these first");
            findings.push(Finding::remark(object, Level::Note, "", text));
        }
        let refused = findings.iter().any(|f| f.level == Level::Error);
        Self {
            file: object.file.clone(),
            line: object.node.line,
            api_version: object.api_version.clone(),
            kind: object.kind.clone(),
            namespace: namespace.map(str::to_owned),
            name: object.name().to_owned(),
            outcome: match (refused, known) {
                (true, _) => Outcome::Refused,
                (false, true) => Outcome::Passes,
                (false, false) => Outcome::Undecided,
            },
            risk: None,
            findings,
        }
    }

    fn title(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.name),
            None => format!("{} {}", self.kind, self.name),
        }
    }
}

/// All of one run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this form.
    pub api_version: &'static str,
    /// `offline` or `online`.
    pub mode: &'static str,
    /// The numbers.
    pub summary: Summary,
    /// What was judged, in the order of the input.
    pub objects: Vec<Judged>,
    /// How many objects of other kinds there were, by kind.
    pub skipped: BTreeMap<String, usize>,
    /// What this way of judging cannot know of any object.
    pub not_judged: Vec<&'static str>,
    /// What could not be read or asked.
    pub failures: Vec<String>,
}

/// The numbers of one run.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Objects judged.
    pub judged: usize,
    /// Objects with nothing wrong.
    pub passes: usize,
    /// Objects with errors.
    pub refused: usize,
    /// Objects of which not enough is known.
    pub undecided: usize,
    /// Objects of other kinds.
    pub skipped: usize,
    /// Findings that fail the run.
    pub errors: usize,
    /// Findings that fail it with `--strict`.
    pub warnings: usize,
    /// Findings that never fail it.
    pub notes: usize,
}

impl Summary {
    /// The numbers of these objects.
    pub fn of(objects: &[Judged], skipped: &BTreeMap<String, usize>) -> Self {
        let became = |outcome| objects.iter().filter(|o| o.outcome == outcome).count();
        let findings = || objects.iter().flat_map(|o| &o.findings);
        let weighing = |level| findings().filter(|f| f.level == level).count();
        Self {
            judged: objects.len(),
            passes: became(Outcome::Passes),
            refused: became(Outcome::Refused),
            undecided: became(Outcome::Undecided),
            skipped: skipped.values().sum(),
            errors: weighing(Level::Error),
            warnings: weighing(Level::Warning),
            notes: weighing(Level::Note),
        }
    }
}

impl Report {
    /// One finding per line, then the sum of it.
    pub fn write_text(&self, out: &mut impl Write, colour: bool) -> io::Result<()> {
        for object in &self.objects {
            for finding in &object.findings {
                let code = show::line(finding.code.as_deref().unwrap_or("-"));
                let code = show::toned(&code, tone(finding.level), colour);
                let word = match finding.level {
                    Level::Error => "",
                    Level::Warning => "warning: ",
                    Level::Note => "note: ",
                };
                writeln!(
                    out,
                    "{}:{}  {}  {code}  {word}{}",
                    show::line(&object.file),
                    finding.line,
                    show::line(&object.title()),
                    show::line(finding.text())
                )?;
            }
        }
        self.write_summary(out)
    }

    fn write_summary(&self, out: &mut impl Write) -> io::Result<()> {
        let s = &self.summary;
        let mut line = format!(
            "{} judged: {} pass, {} refused, {} undecided; {}, {}",
            show::count(s.judged, "object"),
            s.passes,
            s.refused,
            s.undecided,
            show::count(s.errors, "error"),
            show::count(s.warnings, "warning")
        );
        if s.skipped > 0 {
            line.push_str(&format!("; {} of other kinds skipped", s.skipped));
        }
        writeln!(out, "{line}")?;
        if !self.not_judged.is_empty() && s.judged > 0 {
            writeln!(
                out,
                "not judged {}: {}",
                self.mode,
                self.not_judged.join("; ")
            )?;
        }
        Ok(())
    }
}

fn tone(level: Level) -> Tone {
    match level {
        Level::Error => Tone::Bad,
        Level::Warning => Tone::Waits,
        Level::Note => Tone::Known,
    }
}
