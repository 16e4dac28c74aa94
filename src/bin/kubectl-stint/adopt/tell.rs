//! What was found, for people and for programs.

use super::entry::{Decision, Entry, STANDING, Told};
use super::survey::Survey;
use super::{AdoptArgs, Form, steps};
use crate::show::{self, Cell, Style, Table, Tone};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Writes the survey in the form that was asked for.
pub fn write(
    args: &AdoptArgs,
    survey: &Survey,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    match args.output {
        Form::Table | Form::Wide => {
            table(args, survey, now, out)?;
            out.flush()?;
            eprintln!("{}", left(survey));
            Ok(())
        }
        Form::Json => writeln!(out, "{}", show::json(&report(survey, now))?),
        Form::Yaml => {
            survey
                .entries
                .iter()
                .try_for_each(|entry| manifests(entry, out))?;
            writeln!(out, "# {}", left(survey))
        }
        Form::Restore => restore(survey, out),
    }
}

fn left(survey: &Survey) -> String {
    let count = |wanted: fn(&Decision) -> bool| {
        let decisions = survey.entries.iter().map(|entry| &entry.decision);
        decisions.filter(|decision| wanted(decision)).count()
    };
    let left = &survey.left;
    format!(
        "{} can be moved, {} can be deleted, {} stay. Left alone: {} of Kubernetes, {} of control-plane accounts, {} of grants, {} of people and other groups.",
        show::count(count(|d| matches!(d, Decision::Move(_))), "subject"),
        count(|d| matches!(d, Decision::Delete(_))),
        count(|d| matches!(d, Decision::Keep { .. })),
        left.kubernetes,
        left.control_plane,
        left.grants,
        left.people
    )
}

/// All but what is so of every binding here.
fn codes(told: &[Told]) -> String {
    let codes = told.iter().map(|t| t.code.as_str());
    let mut codes: Vec<&str> = codes.filter(|code| *code != STANDING).collect();
    codes.sort_unstable();
    codes.dedup();
    codes.join(",")
}

fn age(entry: &Entry, now: Timestamp) -> Option<String> {
    let created = entry.created?;
    Some(show::length(now.duration_since(created)))
}

fn table(
    args: &AdoptArgs,
    survey: &Survey,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    if survey.entries.is_empty() {
        return Ok(());
    }
    let row = |entry: &Entry| {
        let tone = match entry.risk {
            "critical" | "high" => Tone::Bad,
            _ => Tone::Plain,
        };
        let exists = match entry.exists {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let (movable, codes) = match &entry.decision {
            Decision::Move(_) => ("yes", codes(&entry.findings)),
            Decision::Delete(why) => ("delete", why.code.clone()),
            Decision::Keep { why, .. } => ("no", codes(why)),
        };
        vec![
            Cell::of(&entry.title()),
            Cell::of(&entry.subject()),
            Cell::of(exists),
            Cell::of(&age(entry, now).unwrap_or_default()),
            Cell::toned(entry.risk, tone),
            Cell::of(movable),
            Cell::of(&codes),
        ]
    };
    let heads = [
        "BINDING", "ACCOUNT", "EXISTS", "AGE", "RISK", "MOVABLE", "CODES",
    ];
    let style = Style {
        colour: show::colour(),
        bare: args.no_headers,
        wide: args.output == Form::Wide,
    };
    let rows = survey.entries.iter().map(row).collect();
    Table::new(&heads, rows, style).write(out)
}

fn report(survey: &Survey, now: Timestamp) -> Value {
    let item = |entry: &Entry| {
        let proposal = entry.proposal().map(|p| {
            json!({"policy": p.policy, "request": p.request, "accepts": p.accepts, "notes": p.notes})
        });
        let (decision, why, fine): (_, &[Told], &[String]) = match &entry.decision {
            Decision::Move(_) => ("move", &[], &[]),
            Decision::Delete(why) => ("delete", std::slice::from_ref(why), &[]),
            Decision::Keep { why, fine } => ("keep", why, fine),
        };
        json!({
            "binding": {"kind": entry.kind, "namespace": entry.namespace, "name": entry.name},
            "role": {"kind": entry.role.0, "name": entry.role.1},
            "subject": entry.subject(), "exists": entry.exists, "age": age(entry, now),
            "madeBy": entry.made_by, "risk": entry.risk, "findings": entry.findings,
            "decision": decision, "why": why, "fine": fine, "proposal": proposal,
            "steps": steps::of(entry), "restore": entry.restore,
        })
    };
    let items: Vec<Value> = survey.entries.iter().map(item).collect();
    json!({"apiVersion": "stint.dev/adopt/v1", "items": items, "leftAlone": survey.left})
}

/// Documents to apply; everything else is a comment, on one line each, whatever names hold.
fn manifests(entry: &Entry, out: &mut impl Write) -> io::Result<()> {
    for (depth, remark) in remarks(entry) {
        let indent = "  ".repeat(depth);
        writeln!(out, "# {indent}{}", show::line(&remark))?;
    }
    let Some(proposal) = entry.proposal() else {
        return writeln!(out);
    };
    for object in [&proposal.policy, &proposal.request] {
        writeln!(out, "---\n{}", show::yaml(object)?)?;
    }
    writeln!(out, "---")
}

/// What is said of an entry, and how far it is indented.
fn remarks(entry: &Entry) -> Vec<(usize, String)> {
    let text = |told: &Told| (1, told.to_string());
    let title = (entry.title(), entry.subject(), entry.risk);
    let mut all = vec![(0, format!("{} for {}: risk {}", title.0, title.1, title.2))];
    all.extend(entry.findings.iter().map(text));
    match &entry.decision {
        Decision::Keep { why, fine } => {
            all.push((0, "stays:".into()));
            all.extend(why.iter().map(text));
            let fine = fine.iter();
            all.extend(fine.map(|rule| (1, format!("this alone could be moved: {rule}"))));
        }
        Decision::Delete(why) => {
            all.push((0, "can be deleted:".into()));
            all.push(text(why));
        }
        Decision::Move(proposal) => {
            let notes = proposal.notes.iter();
            all.extend(notes.map(|note| (0, format!("note: {note}"))));
            if !proposal.accepts.is_empty() {
                let accepts = proposal.accepts.join(", ");
                all.push((0, format!("note: the policy knowingly accepts {accepts}, so that the rights stay the same; better are narrower rights")));
            }
            let duration = &proposal.duration;
            all.push((0, format!("note: the grant ends after {duration}; before that it can be extended, after it the rights must be asked for again")));
        }
    }
    all.extend(entry.made_again().map(|note| (0, note)));
    for (number, step) in steps::of(entry).iter().enumerate() {
        all.push((0, format!("{}. {}", number + 1, step.what)));
        all.extend(step.run.iter().map(|run| (2, run.clone())));
    }
    all
}

fn restore(survey: &Survey, out: &mut impl Write) -> io::Result<()> {
    let mut written: Vec<&Value> = Vec::new();
    for entry in &survey.entries {
        // A binding of several accounts is one object.
        if !written.contains(&&entry.restore) {
            writeln!(out, "---\n{}", show::yaml(&entry.restore)?)?;
            written.push(&entry.restore);
        }
    }
    Ok(())
}
