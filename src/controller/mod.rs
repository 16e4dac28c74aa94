//! Turns requests into grants and ends them: wiring only. `reconcile` is one pass, `expiry` the deadline queue.

pub mod audit;
pub mod error;
pub mod expiry;
pub mod guard;
pub mod policies;
pub mod proof;
pub mod reconcile;
mod report;
pub mod seats;
pub mod switched;

use crate::cluster::standing::Touched;
use crate::cluster::stores::{AccessRef, Binding, Change, Presence, Stores};
use crate::controller::error::Error;
use crate::controller::expiry::{Cause, Expiry};
use crate::controller::policies::Reporter;
use crate::controller::reconcile::Context;
use crate::domain::audit::Line;
use crate::domain::grant::Account;
use crate::domain::request::{AccessRequest, Place};
use crate::domain::retry;
use futures::StreamExt;
use kube::core::{DeserializeGuard, Resource, ResourceExt};
use kube::runtime::controller::{self, Action, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// Passes under way at a time.
const CONCURRENCY: u16 = 16;

/// The controller: what changes goes in, passes over requests come out.
pub struct Controller {
    stores: Arc<Stores>,
    expiry: Arc<Expiry>,
    context: Arc<Context>,
    queue: UnboundedSender<AccessRef>,
    passes: UnboundedReceiver<AccessRef>,
    reporter: Reporter,
}

impl Controller {
    /// A controller over filled or filling stores.
    pub fn new(
        stores: Arc<Stores>,
        expiry: Arc<Expiry>,
        context: Arc<Context>,
        reporter: Reporter,
    ) -> Self {
        let (queue, passes) = unbounded_channel();
        Self {
            stores,
            expiry,
            context,
            queue,
            passes,
            reporter,
        }
    }

    /// Ends what should have ended while nobody was looking. Run once the stores are full and before the process calls
    /// itself ready. Errors are retried by [`Expiry::run`].
    pub async fn first_sweep(&self) {
        resync(&self.stores, &self.expiry, &self.context).await;
        let failed = self.expiry.sweep().await;
        tracing::info!(failed, "first sweep done");
    }

    /// Runs until `stop`.
    pub async fn run(self, changes: UnboundedReceiver<Change>, stop: CancellationToken) {
        let Self {
            stores,
            expiry,
            context,
            queue,
            passes,
            reporter,
        } = self;
        let dispatcher = dispatch(changes, &stores, &expiry, &context, queue, reporter);
        let passes = reconcile_all(passes, &stores, &expiry, &context, stop.clone());
        tokio::select! {
            () = dispatcher => {}
            () = passes => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Tells the deadline queue and the reconciler what changed. Many changes of everything are answered once.
async fn dispatch(
    mut changes: UnboundedReceiver<Change>,
    stores: &Stores,
    expiry: &Expiry,
    context: &Context,
    queue: UnboundedSender<AccessRef>,
    reporter: Reporter,
) {
    // A closed queue means that the process is stopping.
    let look_at = |keys: Vec<AccessRef>| keys.into_iter().for_each(|key| drop(queue.send(key)));
    look_at(stores.unended());
    while let Some(first) = changes.recv().await {
        let mut everything = false;
        let mut touched = BTreeSet::new();
        let mut next = Some(first);
        while let Some(change) = next {
            match change {
                Change::Everything => everything = true,
                Change::Touched(more) => touched.extend(more),
                Change::Policy(object, compiled) => {
                    let name = object.name_any();
                    if object.spec.suspended == Some(true) {
                        expiry.suspend(|policy| policy == name);
                    }
                    drop(reporter.send((object, compiled)));
                }
                Change::Binding(binding, Presence::Present) => {
                    // It heard of it before; a whole new list may have been read in between, without it.
                    expiry.watch((*binding).clone());
                    suspend(stores, expiry, binding.policy.as_deref());
                    confirm(&binding, stores, expiry, context).await;
                }
                Change::Access(key) => look_at(vec![key]),
                other => touched.extend(react(other, expiry, context)),
            }
            next = changes.try_recv().ok();
        }
        if everything {
            resync(stores, expiry, context).await;
            look_at(stores.unended());
        } else {
            let concerned = touched.iter().flat_map(|t| stores.concerned(t));
            let concerned: HashSet<AccessRef> = concerned.collect();
            look_at(concerned.into_iter().collect());
        }
    }
}

/// Tells the deadline queue; returns whose requests must be looked at.
fn react(change: Change, expiry: &Expiry, context: &Context) -> Option<Touched> {
    match change {
        Change::AccessDeleted(uid, last) => {
            let now = context.clock.now();
            let line = last.and_then(|last| Line::deleted(&last.view(), now));
            line.iter().for_each(audit::tell);
            expiry.revoke(Cause::Orphaned, |b| b.grant == uid);
            context.seats.forget(&uid);
            context.switched.forget(&uid);
            context.proofs.forget(&uid);
            None
        }
        Change::Account(key, uid) => {
            let other = |b: &Binding| b.account_uid.as_deref() != Some(&uid);
            expiry.revoke(Cause::Identity, |b| {
                b.account.as_deref() == Some(&key) && other(b)
            });
            Some(Touched::Account(key))
        }
        Change::AccountDeleted(key) => {
            expiry.revoke(Cause::Identity, |b| b.account.as_deref() == Some(&key));
            Some(Touched::Account(key))
        }
        Change::Binding(binding, Presence::Gone) => {
            expiry.forget(&binding.uid);
            None
        }
        // The others are answered in `dispatch`.
        Change::Access(_)
        | Change::Binding(_, Presence::Present)
        | Change::Everything
        | Change::Policy(..)
        | Change::Touched(_) => None,
    }
}

/// Ends what names one of these policies that is suspended.
fn suspend<'a>(stores: &Stores, expiry: &Expiry, policies: impl IntoIterator<Item = &'a str>) {
    for name in policies {
        if stores.suspended(name) {
            expiry.suspend(|policy| policy == name);
        }
    }
}

/// Brings the deadline queue in line with whole lists: forgets what went unseen, and revokes bindings whose request or
/// account went unseen, or whose policy was suspended unseen.
async fn resync(stores: &Stores, expiry: &Expiry, context: &Context) {
    let bindings = stores.bindings();
    let live: HashSet<String> = bindings.iter().map(|b| b.uid.clone()).collect();
    expiry.retain(&live);
    let known = stores.access_uids();
    context.seats.retain(&known);
    context.switched.retain(&known);
    context.proofs.retain(&known);
    for binding in &bindings {
        expiry.watch(binding.clone());
    }
    let policies: BTreeSet<&str> = bindings
        .iter()
        .filter_map(|b| b.policy.as_deref())
        .collect();
    suspend(stores, expiry, policies);
    for binding in bindings {
        confirm(&binding, stores, expiry, context).await;
    }
}

/// Revokes a binding whose request or account is gone, also when that was heard of before the binding itself. An absence
/// in a local copy is confirmed by a live read, since two watches can be of different age.
async fn confirm(binding: &Binding, stores: &Stores, expiry: &Expiry, context: &Context) {
    let known = |key: &AccessRef| stores.has_access(key, &binding.grant);
    if !access_key(binding).as_ref().is_some_and(known) && orphaned(binding, context).await {
        expiry.revoke(Cause::Orphaned, |b| b.uid == binding.uid);
    }
    if !account_known(stores, binding) && account_changed(binding, context).await {
        expiry.revoke(Cause::Identity, |b| b.uid == binding.uid);
    }
}

async fn orphaned(binding: &Binding, context: &Context) -> bool {
    let Some(key) = access_key(binding) else {
        return true;
    };
    match context.facts.access(&key).await {
        Ok(found) => found.and_then(|a| a.uid).as_ref() != Some(&binding.grant),
        Err(error) => {
            tracing::warn!(%error, "could not confirm that a request is gone");
            false
        }
    }
}

fn access_key(binding: &Binding) -> Option<AccessRef> {
    Some(AccessRef {
        place: binding.place.clone(),
        name: binding.access.clone()?,
    })
}

fn account_key(binding: &Binding) -> Option<Account> {
    let (namespace, name) = binding.account.as_deref()?.split_once('/')?;
    Some(Account {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn account_known(stores: &Stores, binding: &Binding) -> bool {
    let Some(account) = account_key(binding) else {
        return false;
    };
    let key = ObjectRef::new(&account.name).within(&account.namespace);
    let found = stores.accounts.get(&key);
    found.is_some_and(|a| a.uid() == binding.account_uid)
}

async fn account_changed(binding: &Binding, context: &Context) -> bool {
    let Some(account) = account_key(binding) else {
        return true;
    };
    match context.facts.account(&account).await {
        Ok(found) => found.map(|a| a.uid) != binding.account_uid,
        Err(error) => {
            tracing::warn!(%error, "could not confirm that a ServiceAccount is gone");
            false
        }
    }
}

/// Failures in a row, by request.
type Failures = Arc<Mutex<HashMap<AccessRef, u32>>>;

/// Runs passes over the requests of both kinds.
async fn reconcile_all(
    mut passes: UnboundedReceiver<AccessRef>,
    stores: &Arc<Stores>,
    expiry: &Arc<Expiry>,
    context: &Arc<Context>,
    stop: CancellationToken,
) {
    let (to_namespaced, namespaced) = unbounded_channel();
    let (to_wide, wide) = unbounded_channel();
    let sort = async {
        while let Some(key) = passes.recv().await {
            // A closed queue means that the process is stopping.
            match key.place {
                Place::Namespace(_) => drop(to_namespaced.send(key)),
                Place::Cluster => drop(to_wide.send(key)),
            }
        }
    };
    tokio::join!(
        sort,
        reconcile_kind(namespaced, &stores.accesses, expiry, context, stop.clone()),
        reconcile_kind(wide, &stores.wide_accesses, expiry, context, stop.clone()),
    );
}

/// Runs passes over the requests of one kind; each request has its own pause after failures.
async fn reconcile_kind<K>(
    passes: UnboundedReceiver<AccessRef>,
    store: &Store<DeserializeGuard<K>>,
    expiry: &Arc<Expiry>,
    context: &Arc<Context>,
    stop: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let queue = futures::stream::unfold(passes, |mut passes| async move {
        let key = passes.recv().await?;
        Some((Ok::<_, Infallible>(key.object_ref()), passes))
    });
    let queue = Box::pin(queue.take_until(stop.cancelled_owned()));
    let failures: Failures = Arc::default();
    let failed = Arc::clone(&failures);
    let on_error = move |object: Arc<DeserializeGuard<K>>, error: &Error, context: Arc<Context>| {
        context.metrics.error(error.category());
        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failed.entry(AccessRef::of(&*object)).or_insert(0);
        *count = count.saturating_add(1);
        Action::requeue(retry::pause(*count))
    };
    let config = controller::Config::default().concurrency(CONCURRENCY);
    applier(
        |object: Arc<DeserializeGuard<K>>, context| {
            let (key, uid) = (AccessRef::of(&*object), object.uid());
            Box::pin(timed(key, uid, Arc::clone(expiry), context))
        },
        on_error,
        Arc::clone(context),
        store.clone(),
        queue,
        config,
    )
    .for_each(|result| {
        match result {
            Ok((key, _)) => forget_failures(&failures, key.namespace, key.name),
            // The queue may hold the key of an object that is gone by now.
            Err(controller::Error::ObjectNotFound(key)) => {
                forget_failures(&failures, key.namespace, key.name);
            }
            Err(error) => tracing::warn!(error = %chain(&error), "pass failed; trying again"),
        }
        std::future::ready(())
    })
    .await;
}

fn forget_failures(failures: &Failures, namespace: Option<String>, name: String) {
    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::of(namespace);
    failures.remove(&AccessRef { place, name });
}

async fn timed(
    key: AccessRef,
    uid: Option<String>,
    expiry: Arc<Expiry>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    expiry.yield_to_deletions().await;
    let began = Instant::now();
    let metrics = Arc::clone(&context.metrics);
    let result = reconcile::reconcile(key, uid, context).await;
    let word = if result.is_ok() { "ok" } else { "error" };
    metrics.reconcile(word, began.elapsed());
    result
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
