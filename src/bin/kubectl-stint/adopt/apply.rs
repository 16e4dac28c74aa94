//! Moving one account: for each of its bindings the grant first, then the binding goes, with a check in between and after. When
//! anything fails, or somebody interrupts, everything is put back.

use super::backup;
use super::entry::{Decision, Entry, Told};
use super::journal::{Change, Journal};
use super::propose::Proposal;
use super::rights::Rights;
use super::survey::Survey;
use super::{AdoptArgs, steps};
use crate::bindings::Binding;
use crate::connect::Connection;
use crate::outcome::{Answer, End, Failure};
use crate::stop::Stop;
use crate::{send, show, wait};
use jiff::Timestamp;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use stint::api::conditions::REASON_ACTIVE;
use stint::domain::request::Place;
use tokio::time::Instant;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// Most rights that are named in a message.
const NAMED: usize = 4;

/// Moves the account whose bindings were surveyed.
pub async fn run(
    args: &AdoptArgs,
    connection: &Connection,
    survey: &Survey,
    out: &mut impl Write,
) -> Answer {
    let account = args.serviceaccount.as_deref().unwrap_or_default();
    if survey.entries.is_empty() {
        writeln!(out, "{account} has no standing binding here")?;
        return Ok(End::Clean);
    }
    survey
        .entries
        .iter()
        .try_for_each(|entry| intend(entry, out))?;
    out.flush()?;
    let movable = |e: &&Entry| !matches!(e.decision, Decision::Keep { .. });
    let movable: Vec<&Entry> = survey.entries.iter().filter(movable).collect();
    if movable.is_empty() {
        return Err(Failure::Refused(
            "nothing of it can be moved; nothing was done".into(),
        ));
    }
    args.moving.confirm.ask("Move it?")?;
    let stop = Stop::listen()?;
    let mut mover = Mover {
        args,
        connection,
        stop,
        journal: Journal::default(),
        out,
    };
    let moved = mover.all(&movable).await;
    let Mover { journal, stop, .. } = mover;
    if let Err(failure) = moved {
        return put_back(failure, journal, connection, &stop, out).await;
    }
    Ok(match survey.all_movable() {
        true => End::Clean,
        false => End::Findings,
    })
}

fn intend(entry: &Entry, out: &mut impl Write) -> io::Result<()> {
    let title = show::line(&entry.title());
    match &entry.decision {
        Decision::Move(proposal) => {
            let accepts = match proposal.accepts.as_slice() {
                [] => String::new(),
                codes => format!(", accepting {}", codes.join(", ")),
            };
            let (name, duration) = (&proposal.name, &proposal.duration);
            writeln!(
                out,
                "{title}: to a grant of {duration} by policy {name}{accepts}"
            )?;
            for note in &proposal.notes {
                writeln!(out, "  note: {}", show::line(note))?;
            }
        }
        Decision::Delete(why) => writeln!(out, "{title}: is to be deleted: {}", text(why))?,
        Decision::Keep { why, .. } => {
            writeln!(out, "{title}: stays")?;
            for told in why {
                writeln!(out, "  {}", text(told))?;
            }
        }
    }
    if let (Some(made_by), false) = (
        &entry.made_by,
        matches!(entry.decision, Decision::Keep { .. }),
    ) {
        let made_by = show::line(made_by);
        writeln!(
            out,
            "  note: {made_by} may make it again; take it out there too"
        )?;
    }
    Ok(())
}

fn text(told: &Told) -> String {
    show::line(&format!("{}: {} [{}]", told.path, told.message, told.code))
}

/// After a failure: everything back, and why.
async fn put_back(
    failure: Failure,
    journal: Journal,
    connection: &Connection,
    stop: &Stop,
    out: &mut impl Write,
) -> Answer {
    if journal.is_empty() && stop.status().is_none() {
        return Err(failure.and("nothing was changed"));
    }
    let why = match failure {
        Failure::Refused(why) | Failure::Error(why) => why,
        Failure::Output(error) => error.to_string(),
    };
    eprintln!(
        "kubectl-stint: {}; putting everything back",
        show::block(&why)
    );
    let left = journal.undo(connection, out).await;
    if !left.is_empty() {
        let left = left.join("\n  ");
        return Err(Failure::Error(format!(
            "this could not be put back:\n  {left}\nthe bindings are saved: `kubectl auth reconcile -f FILE` makes them again"
        )));
    }
    match stop.status() {
        Some(status) => Ok(End::Child(status)),
        None => Err(Failure::Refused("everything is as it was".into())),
    }
}

struct Mover<'a, W: Write> {
    args: &'a AdoptArgs,
    connection: &'a Connection,
    stop: Stop,
    journal: Journal,
    out: &'a mut W,
}

impl<W: Write> Mover<'_, W> {
    fn tell(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", show::block(text))?;
        self.out.flush()
    }

    async fn all(&mut self, entries: &[&Entry]) -> Result<(), Failure> {
        // All that could be refused is asked before anything changes.
        for entry in entries {
            let rehearsed = binding(entry).rehearse(self.connection).await;
            rehearsed.map_err(|failure| failure.about(&entry.title()))?;
        }
        let mut files = Vec::new();
        for entry in entries {
            self.tell(&entry.title())?;
            let moved = self.one(entry).await;
            files.push(moved.map_err(|failure| failure.about(&entry.title()))?);
        }
        self.tell("The way back, at any time:")?;
        for file in files {
            self.tell(&format!("  kubectl auth reconcile -f {}", file.display()))?;
        }
        Ok(())
    }

    async fn one(&mut self, entry: &Entry) -> Result<PathBuf, Failure> {
        self.stop.check()?;
        let file = backup::save(&self.args.moving.backup, entry)?;
        self.tell(&format!("  saved as {}", file.display()))?;
        match (&entry.decision, &entry.account) {
            (Decision::Move(proposal), Some(account)) => {
                let place = place(entry);
                self.policy(proposal).await?;
                let end = self.request(proposal, &place).await?;
                let rights = Rights::of(account, place.clone(), &proposal.rules);
                let before = rights.missing(self.connection, &[]).await?;
                if let Some(right) = before.first() {
                    let why = format!(
                        "{account} may not {right}, although the grant and the binding give it"
                    );
                    return Err(Failure::Refused(why));
                }
                self.remove(entry).await?;
                self.check(entry, &rights).await?;
                self.request(proposal, &place).await?;
                self.ending(&place, &proposal.name, end)?;
            }
            _ => self.remove(entry).await?,
        }
        Ok(file)
    }

    async fn policy(&mut self, proposal: &Proposal) -> Result<(), Failure> {
        let name = &proposal.name;
        if send::policy_is(self.connection, name, &proposal.policy).await? {
            return Ok(self.tell(&format!("  AccessPolicy {name} is there"))?);
        }
        self.stop.check()?;
        self.journal.begin(Change::Policy(name.clone()));
        send::policy(self.connection, &proposal.policy).await?;
        Ok(self.tell(&format!("  AccessPolicy {name} created"))?)
    }

    /// Creates the request as soon as Stint knows the policy, and waits until it gives access; its end comes back.
    async fn request(
        &mut self,
        proposal: &Proposal,
        place: &Place,
    ) -> Result<Option<Timestamp>, Failure> {
        let (connection, name) = (self.connection, &proposal.name);
        let title = wait::title(place, name);
        let timeout = self.args.moving.timeout;
        if !send::request_is(connection, place, name, &proposal.request).await? {
            self.stop.check()?;
            self.journal
                .begin(Change::Request(place.clone(), name.clone()));
            let end = Instant::now() + timeout.unsigned_abs();
            while let Err(failure) = send::request(connection, place, &proposal.request).await {
                match failure {
                    // Each replica learns of a policy in its own time; a refusal by this policy names it.
                    Failure::Refused(why)
                        if !why.contains(name.as_str()) && Instant::now() < end =>
                    {
                        self.stop.pause(PAUSE).await?;
                    }
                    failure => return Err(failure),
                }
            }
            self.tell(&format!("  {title} created"))?;
        }
        let waiting = wait::until_decided(connection, place, name, timeout);
        let came = self.stop.unless(waiting).await?;
        if came.state != REASON_ACTIVE {
            let why = format!("{title} is {}: {}", came.state, came.message);
            return Err(Failure::Refused(why));
        }
        Ok(came.not_after)
    }

    async fn remove(&mut self, entry: &Entry) -> Result<(), Failure> {
        self.stop.check()?;
        let (binding, title) = (binding(entry), entry.title());
        let change = Change::Binding(Box::new(binding.clone()), title.clone());
        self.journal.begin(change);
        binding.take_out(self.connection).await?;
        let told = match entry.is_alone() {
            true => format!("  {title} deleted"),
            false => format!("  {} taken out of {title}", entry.subject()),
        };
        Ok(self.tell(&told)?)
    }

    /// That the account still has every right. The authorizer works on a copy of the bindings that is a moment old: what it
    /// says to come from the binding that is gone counts as missing, and is asked about again.
    async fn check(&mut self, entry: &Entry, rights: &Rights) -> Result<(), Failure> {
        let end = Instant::now() + self.args.moving.timeout.unsigned_abs();
        let gone = answers(entry);
        loop {
            let missing = rights.missing(self.connection, &gone).await?;
            if missing.is_empty() {
                break;
            }
            if Instant::now() >= end {
                let named: Vec<String> = missing
                    .iter()
                    .take(NAMED)
                    .map(ToString::to_string)
                    .collect();
                let number = show::count(missing.len(), "right");
                let why = format!(
                    "without the binding {} lacks {number}: {}",
                    entry.subject(),
                    named.join("; ")
                );
                return Err(Failure::Refused(why));
            }
            self.stop.pause(PAUSE).await?;
        }
        let (asked, of) = (rights.asked.len(), rights.of);
        let sample = match asked == of {
            true => show::count(of, "right"),
            false => format!("{asked} of {}", show::count(of, "right")),
        };
        let text = format!("  checked {sample}: {} has all of them", entry.subject());
        Ok(self.tell(&text)?)
    }

    fn ending(&mut self, place: &Place, name: &str, end: Option<Timestamp>) -> io::Result<()> {
        let of = match place {
            Place::Namespace(namespace) => format!(" -n {namespace}"),
            Place::Cluster => " --cluster".to_owned(),
        };
        let end = end.map(|end| format!(" at {end}")).unwrap_or_default();
        self.tell(&format!(
            "  ends{end}; before that: kubectl stint extend {name}{of}"
        ))
    }
}

/// What the authorizer answers as long as it takes a right from this binding
/// (`pkg/registry/rbac/validation/rule.go`, `plugin/pkg/auth/authorizer/rbac/rbac.go`).
fn answers(entry: &Entry) -> Vec<String> {
    let (kind, role) = &entry.role;
    let binding = match &entry.namespace {
        Some(namespace) => format!("RoleBinding {:?}", format!("{}/{namespace}", entry.name)),
        None => format!("ClusterRoleBinding {:?}", entry.name),
    };
    let subjects = entry.at.iter().map(|at| &entry.subjects[*at]);
    let subjects = subjects.map(|subject| match subject.kind.as_str() {
        "ServiceAccount" => {
            let own = subject.namespace.as_ref().or(entry.namespace.as_ref());
            let namespace = own.map(String::as_str).unwrap_or_default();
            format!(
                "ServiceAccount {:?}",
                format!("{}/{namespace}", subject.name)
            )
        }
        kind => format!("{kind} {:?}", subject.name),
    });
    subjects
        .map(|subject| format!("RBAC: allowed by {binding} of {kind} {role:?} to {subject}"))
        .collect()
}

fn place(entry: &Entry) -> Place {
    match &entry.namespace {
        Some(namespace) => Place::Namespace(namespace.clone()),
        None => Place::Cluster,
    }
}

fn binding(entry: &Entry) -> Binding {
    Binding {
        namespace: entry.namespace.clone(),
        name: entry.name.clone(),
        uid: entry.uid.clone(),
        resource_version: entry.resource_version.clone(),
        taken: entry
            .at
            .iter()
            .map(|at| entry.subjects[*at].clone())
            .collect(),
        patch: (!entry.is_alone()).then(|| steps::without(entry)),
        whole: entry.restore.clone(),
    }
}
