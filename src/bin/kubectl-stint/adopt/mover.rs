//! The steps of moving an account: for each of its bindings the grant first, then the binding goes, with a check in between and after.

use super::backup;
use super::entry::{Decision, Entry};
use super::journal::{Change, Journal};
use super::propose::Proposal;
use super::rights::Rights;
use super::{AdoptArgs, steps};
use crate::bindings::Binding;
use crate::connect::{Connection, Wish};
use crate::online::Cluster;
use crate::outcome::Failure;
use crate::rbac::Known;
use crate::stop::Stop;
use crate::wait::Came;
use crate::{requests, send, show, wait};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use stint::api::conditions::{REASON_ACTIVE, REASON_REFUSED};
use stint::api::workload_access::WorkloadAccessStatus;
use stint::domain::grant::Account;
use stint::domain::request::{AccessRequest, Place};
use stint::domain::window;
use tokio::time::Instant;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a refusal may come from a replica that does not know the policy yet.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most rights that are named in a message.
const NAMED: usize = 4;

/// What moves an account.
pub struct Mover<'a, W: Write> {
    args: &'a AdoptArgs,
    connection: &'a Connection,
    stop: Stop,
    journal: Journal,
    out: &'a mut W,
}

impl<'a, W: Write> Mover<'a, W> {
    /// Nothing is moved yet.
    pub fn new(
        args: &'a AdoptArgs,
        connection: &'a Connection,
        stop: Stop,
        out: &'a mut W,
    ) -> Self {
        Self {
            args,
            connection,
            stop,
            journal: Journal::default(),
            out,
        }
    }

    /// What was done, and whether somebody interrupted.
    pub fn done(self) -> (Journal, Stop) {
        (self.journal, self.stop)
    }

    fn tell(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", show::block(text).replace('\n', " "))?;
        self.out.flush()
    }

    /// Moves all of them, or fails at the first that cannot be moved.
    pub async fn all(&mut self, entries: &[&Entry]) -> Result<(), Failure> {
        for entry in entries {
            let rehearsed = self.rehearse(entry).await;
            rehearsed.map_err(|failure| failure.about(&entry.title()))?;
        }
        let mut files = Vec::new();
        for entry in entries {
            self.tell(&entry.title())?;
            self.journal.next_binding();
            let moved = self.one(entry).await;
            files.push(moved.map_err(|failure| failure.about(&entry.title()))?);
        }
        self.tell("The way back, at any time:")?;
        for file in files {
            let file = steps::quoted(&file.display().to_string());
            self.tell(&format!("  kubectl auth reconcile -f {file}"))?;
        }
        Ok(())
    }

    /// What could be refused is asked before anything changes. A binding to a role that does not exist can hardly be made again, and
    /// gives nothing to be missed.
    async fn rehearse(&self, entry: &Entry) -> Result<(), Failure> {
        let binding = binding(entry);
        match &entry.decision {
            Decision::Delete(why) if why.code == "WA-ROLE-MISSING" => {
                binding.rehearse_removal(self.connection).await
            }
            _ => binding.rehearse(self.connection).await,
        }
    }

    async fn one(&mut self, entry: &Entry) -> Result<PathBuf, Failure> {
        self.stop.check()?;
        let file = backup::save(&self.args.moving.backup, entry, &binding(entry))?;
        self.tell(&format!("  saved as {}", file.display()))?;
        match (&entry.decision, &entry.account) {
            (Decision::Move(proposal), Some(account)) => {
                self.replace(entry, account, proposal).await?;
            }
            _ => {
                self.unchanged(entry).await?;
                self.remove(entry).await?;
            }
        }
        Ok(file)
    }

    async fn replace(
        &mut self,
        entry: &Entry,
        account: &Account,
        proposal: &Proposal,
    ) -> Result<(), Failure> {
        let place = Place::of(entry.namespace.clone());
        self.policy(proposal).await?;
        let granted = self.request(proposal, &place).await?;
        let rights = Rights::of(account, place.clone(), &proposal.rules);
        let before = rights.givers(self.connection, &[]);
        let before = self.stop.unless(before).await?;
        if let Some((right, _)) = before.iter().find(|(_, by)| by.is_none()) {
            return Err(Failure::Refused(format!(
                "{account} may not {right}, although the grant and the binding give it"
            )));
        }
        self.unchanged(entry).await?;
        self.remove(entry).await?;
        let others = self.check(entry, &rights, &place, &proposal.name).await?;
        let came = self.active(&place, &proposal.name).await?;
        for other in others {
            self.tell(&format!(
                "  note: some of it still comes without an end, {other}"
            ))?;
        }
        let of = match &place {
            Place::Namespace(namespace) => format!(" -n {namespace}"),
            Place::Cluster => " --cluster".to_owned(),
        };
        let end = came.not_after.or(granted.not_after);
        let end = end.map(|end| format!(" at {end}")).unwrap_or_default();
        let name = &proposal.name;
        Ok(self.tell(&format!(
            "  ends{end}; before that: kubectl stint extend {name}{of}"
        ))?)
    }

    async fn policy(&mut self, proposal: &Proposal) -> Result<(), Failure> {
        let (name, object) = (&proposal.name, &proposal.policy);
        if send::policy_is(self.connection, name, object).await? {
            return Ok(self.tell(&format!("  AccessPolicy {name} is there"))?);
        }
        self.stop.check()?;
        let change = Change::Policy(name.clone(), object.clone());
        self.journal.begin(change);
        let made = send::policy(self.connection, object).await;
        self.journal.end(made, |made| made.uid)?;
        Ok(self.tell(&format!("  AccessPolicy {name} created"))?)
    }

    /// Creates the request as soon as Stint knows the policy, and waits until it gives access.
    async fn request(&mut self, proposal: &Proposal, place: &Place) -> Result<Came, Failure> {
        let (connection, name, object) = (self.connection, &proposal.name, &proposal.request);
        let title = wait::title(place, name);
        if send::request_is(connection, place, name, object).await? {
            self.tell(&format!("  {title} is there"))?;
            let came = self.active(place, name).await?;
            let left = came
                .not_after
                .map(|end| end.duration_since(connection.now()));
            let whole = window::parse_duration("duration", &proposal.duration).ok();
            if left < whole.map(|whole| whole / 2) {
                return Err(Failure::Refused(format!(
                    "{title} is soon over; extend or delete it, and run the command again"
                )));
            }
            return Ok(came);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            self.stop.check()?;
            let change = Change::Request(place.clone(), name.clone(), object.clone());
            self.journal.begin(change);
            let made = send::request(connection, place, object).await;
            match self.journal.end(made, |made| made.uid) {
                Ok(()) => break,
                // Each replica learns of a policy in its own time; a refusal by this policy names it.
                Err(Failure::Refused(why))
                    if !why.contains(name.as_str()) && Instant::now() < end =>
                {
                    self.stop.pause(PAUSE).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
        self.tell(&format!("  {title} created"))?;
        self.active(place, name).await
    }

    /// Waits until the request gives access. A refusal counts when it stays.
    async fn active(&mut self, place: &Place, name: &str) -> Result<Came, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let timeout = self.args.moving.timeout;
            let waiting = wait::until_decided(self.connection, place, name, timeout);
            let came = self.stop.unless(waiting).await?;
            match came.state.as_str() {
                REASON_ACTIVE => return Ok(came),
                REASON_REFUSED if Instant::now() < end => self.stop.pause(PAUSE).await?,
                _ => {
                    let title = wait::title(place, name);
                    let why = format!("{title} is {}: {}", came.state, came.message);
                    return Err(Failure::Refused(why));
                }
            }
        }
    }

    /// That the role and the account are as they were read: a version of the binding says nothing of them.
    async fn unchanged(&mut self, entry: &Entry) -> Result<(), Failure> {
        let (kind, name) = &entry.role;
        let namespace = entry.namespace.as_deref().unwrap_or_default();
        let cluster = Cluster::over(self.connection);
        let role = cluster.role(kind, namespace, name).await;
        let rules = match role.map_err(Failure::Error)? {
            Known::Found(role) => Some(role.rules),
            Known::Missing | Known::No => None,
        };
        let exists = match &entry.account {
            Some(account) if entry.exists.is_some() => Some(self.exists(account).await?),
            _ => entry.exists,
        };
        match rules == entry.rules && exists == entry.exists {
            true => Ok(()),
            false => Err(Failure::Refused(format!(
                "{kind} {name} or the account was changed meanwhile, run the command again"
            ))),
        }
    }

    async fn exists(&self, account: &Account) -> Result<bool, Failure> {
        let client = self.connection.client.clone();
        let api: Api<ServiceAccount> = Api::namespaced(client, &account.namespace);
        let wish = Wish {
            verb: "get",
            resource: "serviceaccounts",
            namespace: Some(&account.namespace),
            name: Some(&account.name),
        };
        let found = self.connection.ask(wish, api.get_opt(&account.name));
        Ok(found.await?.is_some())
    }

    async fn remove(&mut self, entry: &Entry) -> Result<(), Failure> {
        self.stop.check()?;
        let (binding, title) = (binding(entry), entry.title());
        self.journal
            .begin(Change::Binding(Box::new(binding.clone())));
        let gone = binding.take_out(self.connection).await;
        self.journal.end(gone, |()| None)?;
        let told = match entry.is_alone() {
            true => format!("  {title} deleted"),
            false => format!("  {} taken out of {title}", entry.subject()),
        };
        Ok(self.tell(&told)?)
    }

    /// That the account still has every right. The authorizer works on a copy of the bindings that is a moment old: what it says to
    /// come from the binding that is gone counts as missing, and is asked about again. What gives rights beside the grant comes back.
    async fn check(
        &mut self,
        entry: &Entry,
        rights: &Rights,
        place: &Place,
        name: &str,
    ) -> Result<BTreeSet<String>, Failure> {
        let end = Instant::now() + self.args.moving.timeout.unsigned_abs();
        let gone = answers(entry);
        let answers = loop {
            let answers = rights.givers(self.connection, &gone);
            let answers = self.stop.unless(answers).await?;
            let lacking = answers.iter().filter(|(_, by)| by.is_none());
            let lacking: Vec<String> = lacking.map(|(right, _)| right.to_string()).collect();
            if lacking.is_empty() {
                break answers;
            }
            if Instant::now() >= end {
                let number = show::count(lacking.len(), "right");
                let named = &lacking[..lacking.len().min(NAMED)];
                let why = format!(
                    "without the binding {} lacks {number}: {}",
                    entry.subject(),
                    named.join("; ")
                );
                return Err(Failure::Refused(why));
            }
            self.stop.pause(PAUSE).await?;
        };
        let (asked, of) = (rights.asked.len(), rights.of);
        let sample = match asked == of {
            true => show::count(of, "right"),
            false => format!("{asked} of {}", show::count(of, "right")),
        };
        let text = format!("  checked {sample}: {} has all of them", entry.subject());
        self.tell(&text)?;
        let made = self.made_binding(place, name).await?;
        let others = answers.into_iter().filter_map(|(_, by)| by);
        Ok(others.filter(|by| !by.contains(&made)).collect())
    }

    /// The name of the binding that Stint made for the request, as the authorizer quotes it.
    async fn made_binding(&self, place: &Place, name: &str) -> Result<String, Failure> {
        let access = requests::get(self.connection, place, name).await?;
        let bound = access.view().status.and_then(WorkloadAccessStatus::binding);
        let name = bound.map(|bound| bound.name.as_str());
        Ok(format!("\"{}", name.unwrap_or_default()))
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
