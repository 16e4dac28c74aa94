//! Moving one account: what is intended, the question, and after a failure or an interrupt everything back.

use super::AdoptArgs;
use super::entry::{Decision, Entry};
use super::journal::Journal;
use super::mover::Mover;
use super::survey::Survey;
use crate::connect::Connection;
use crate::outcome::{Answer, End, Failure};
use crate::show;
use crate::stop::Stop;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// Moves the account whose bindings were surveyed.
pub async fn run(
    args: &AdoptArgs,
    connection: &Connection,
    survey: &Survey,
    out: &mut impl Write,
) -> Answer {
    let accounts: BTreeSet<String> = survey.entries.iter().map(Entry::subject).collect();
    if accounts.len() > 1 {
        let accounts: Vec<String> = accounts.iter().map(|name| show::line(name)).collect();
        let accounts = accounts.join(", ");
        return Err(Failure::Error(format!(
            "one account is moved at a time, and these have that name: {accounts}; say --serviceaccount NAMESPACE/NAME"
        )));
    }
    let Some(account) = accounts.first() else {
        let account = args.serviceaccount.as_deref().unwrap_or_default();
        writeln!(out, "{account} has no standing binding here")?;
        return Ok(End::Clean);
    };
    if !survey.failures.is_empty() {
        return Err(Failure::Error(
            "not everything could be read; nothing was changed".into(),
        ));
    }
    intend(account, survey, out).map_err(|error| Failure::Error(error.to_string()))?;
    let movable = |e: &&Entry| !matches!(e.decision, Decision::Keep { .. });
    let movable: Vec<&Entry> = survey.entries.iter().filter(movable).collect();
    if movable.is_empty() {
        return Err(Failure::Refused(
            "nothing of it can be moved; nothing was changed".into(),
        ));
    }
    args.moving.confirm.ask("Move it?")?;
    let mut mover = Mover::new(args, connection, Stop::listen()?, out);
    let moved = mover.all(&movable).await;
    let (journal, stop) = mover.done();
    if let Err(failure) = moved {
        return put_back(failure, journal, connection, &stop, out).await;
    }
    Ok(match survey.all_movable() {
        true => End::Clean,
        false => End::Findings,
    })
}

fn intend(account: &str, survey: &Survey, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", show::line(account))?;
    for entry in &survey.entries {
        for (depth, text) in intention(entry) {
            writeln!(out, "  {}{}", "  ".repeat(depth), show::line(&text))?;
        }
    }
    out.flush()
}

fn intention(entry: &Entry) -> Vec<(usize, String)> {
    let title = entry.title();
    let mut all = match &entry.decision {
        Decision::Move(proposal) => {
            let accepts = match proposal.accepts.as_slice() {
                [] => String::new(),
                codes => format!(", accepting {}", codes.join(", ")),
            };
            let (name, duration) = (&proposal.name, &proposal.duration);
            let text = format!("{title}: to a grant of {duration} by policy {name}{accepts}");
            let notes = proposal.notes.iter();
            let notes = notes.map(|note| (1, format!("note: {note}")));
            [(0, text)].into_iter().chain(notes).collect()
        }
        Decision::Delete(why) => vec![(0, format!("{title}: is to be deleted: {why}"))],
        Decision::Keep { why, .. } => {
            let why = why.iter().map(|told| (1, told.to_string()));
            return [(0, format!("{title}: stays"))]
                .into_iter()
                .chain(why)
                .collect();
        }
    };
    all.extend(entry.made_again().map(|note| (1, note)));
    all
}

/// After a failure: everything back, and why.
async fn put_back(
    failure: Failure,
    journal: Journal,
    connection: &Connection,
    stop: &Stop,
    out: &mut impl Write,
) -> Answer {
    // Nobody reads any more; that is no end of a move as one reads enough of a table.
    let failure = match failure {
        Failure::Output(error) => Failure::Error(error.to_string()),
        failure => failure,
    };
    if journal.is_empty() && stop.status().is_none() {
        return Err(failure.and("nothing was changed"));
    }
    let why = show::block(&failure.text());
    show::aside(&format!("kubectl-stint: {why}; putting everything back"));
    let left = journal.undo(connection, out).await;
    if !left.is_empty() {
        let left = left.join("\n  ");
        return Err(Failure::Error(format!(
            "this could not be put back:\n  {left}\nwhat was taken out of bindings is saved: `kubectl auth reconcile -f FILE` puts it back"
        )));
    }
    match stop.status() {
        Some(status) => Ok(End::Child(status)),
        None => Err(Failure::Refused("everything is as it was".into())),
    }
}
