//! The deadline queue: deletes the bindings of grants when they are due, on every replica, whatever else is going on.
//!
//! It reads nothing but the bindings themselves, so it needs no leader, no policy and no decodable WorkloadAccess. It
//! wakes at the earliest deadline and at least every 30 s, and compares the wall clock each time: a timer alone would
//! not see a suspended machine or a step of the clock.

use crate::clock::Clock;
use crate::cluster::ApiError;
use crate::cluster::apply::{self, Revoked};
use crate::cluster::stores::{Binding, Change, Presence};
use crate::controller::switched::Switched;
use crate::ops::metrics::Metrics;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest sleep between two looks at the clock.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// Deletes under way at a time.
const PARALLEL: usize = 64;
/// How long a pass waits before it looks again whether a crowd of bindings is gone.
const YIELD: Duration = Duration::from_millis(10);
/// Longest such wait of one pass.
const MAX_YIELD: Duration = Duration::from_secs(1);
/// Longest pause between two tries of one revocation, which is never given up.
const MAX_BACKOFF: SignedDuration = SignedDuration::from_secs(30);

/// Why a binding is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its deadline passed, or it does not say legibly when it ends.
    Deadline,
    /// Its request is gone.
    Orphaned,
    /// Its account is gone or another by now.
    Identity,
    /// The policy that it names was suspended.
    Suspended,
}

impl Cause {
    fn word(self) -> &'static str {
        match self {
            Self::Deadline => "Expired",
            Self::Orphaned => "Deleted",
            Self::Identity => "IdentityChanged",
            Self::Suspended => "Suspended",
        }
    }
}

#[derive(Debug)]
struct Entry {
    binding: Binding,
    due: Timestamp,
    cause: Cause,
    failures: u32,
}

#[derive(Debug, Default)]
struct Queue {
    entries: HashMap<String, Entry>,
    by_time: BTreeSet<(Timestamp, String)>,
    under_way: HashSet<String>,
    /// Entries that could not be deleted so far; the next try of theirs lies ahead, and yet they are overdue.
    failing: HashSet<String>,
}

impl Queue {
    fn set(&mut self, entry: Entry) {
        let uid = entry.binding.uid.clone();
        self.remove(&uid);
        if entry.failures > 0 {
            self.failing.insert(uid.clone());
        }
        self.by_time.insert((entry.due, uid.clone()));
        self.entries.insert(uid, entry);
    }

    fn remove(&mut self, uid: &str) -> Option<Entry> {
        let entry = self.entries.remove(uid)?;
        self.by_time.remove(&(entry.due, uid.to_owned()));
        self.failing.remove(uid);
        Some(entry)
    }

    /// Brings entries forward to `now`, those for which `which` holds, and returns them.
    fn hasten(
        &mut self,
        now: Timestamp,
        cause: Cause,
        which: impl Fn(&Binding) -> bool,
    ) -> Vec<Binding> {
        let hit = |(_, e): &(&String, &Entry)| e.cause == Cause::Deadline && which(&e.binding);
        let uids: Vec<String> = self
            .entries
            .iter()
            .filter(hit)
            .map(|(uid, _)| uid.clone())
            .collect();
        let mut hastened = Vec::new();
        for uid in uids {
            if let Some(entry) = self.remove(&uid) {
                hastened.push(entry.binding.clone());
                self.set(Entry {
                    due: now.min(entry.due),
                    cause,
                    ..entry
                });
            }
        }
        hastened
    }

    /// Up to `room` due bindings that are not being deleted already.
    fn take_due(&mut self, now: Timestamp, room: usize) -> Vec<(Binding, Cause)> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now);
        let free = due.filter(|(_, uid)| !self.under_way.contains(uid));
        let uids: Vec<String> = free.take(room).map(|(_, uid)| uid.clone()).collect();
        self.under_way.extend(uids.iter().cloned());
        let entry = |uid: String| self.entries.get(&uid).map(|e| (e.binding.clone(), e.cause));
        uids.into_iter().filter_map(entry).collect()
    }

    /// Whether as much is due as can be under way at a time, or more.
    fn is_pressed(&self, now: Timestamp) -> bool {
        let mut by_time = self.by_time.iter();
        by_time
            .nth(PARALLEL - 1)
            .is_some_and(|(due, _)| *due <= now)
    }

    fn next(&self) -> Option<Timestamp> {
        let free = |(_, uid): &&(Timestamp, String)| !self.under_way.contains(uid);
        self.by_time.iter().find(free).map(|(at, _)| *at)
    }
}

/// The deadline queue. Cheap to share; `run` is its one worker.
pub struct Expiry {
    queue: Mutex<Queue>,
    wake: Notify,
    client: Client,
    clock: Arc<dyn Clock>,
    switched: Arc<Switched>,
    metrics: Arc<Metrics>,
}

impl Expiry {
    /// An empty queue.
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        switched: Arc<Switched>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            client,
            clock,
            switched,
            metrics,
        }
    }

    /// Takes note of what a watch says about bindings.
    pub fn hear(&self, change: &Change) {
        match change {
            Change::Binding(binding, Presence::Present) => self.watch((**binding).clone()),
            Change::Binding(binding, Presence::Gone) => self.forget(&binding.uid),
            _ => {}
        }
    }

    /// Takes note of a binding. One that does not say when it ends is due now, and so is a new one of a grant that a kill
    /// switch ended.
    pub fn watch(&self, binding: Binding) {
        let end = binding.not_after.unwrap_or(Timestamp::UNIX_EPOCH);
        let (due, cause) = match self.switched.policy(&binding.grant) {
            Some(_) => (end.min(self.clock.now()), Cause::Suspended),
            None => (end, Cause::Deadline),
        };
        self.change(|queue| {
            // What is to go for another reason than its end goes whatever its end is by now.
            if let Some(known) = queue.entries.get_mut(&binding.uid)
                && (known.cause != Cause::Deadline || known.binding.says_the_same(&binding))
            {
                known.binding = binding;
                return;
            }
            queue.set(Entry {
                binding,
                due,
                cause,
                failures: 0,
            });
        });
    }

    /// A binding is gone.
    pub fn forget(&self, uid: &str) {
        self.change(|queue| {
            queue.remove(uid);
            queue.under_way.remove(uid);
        });
    }

    /// Revokes at once every binding for which `which` holds.
    pub fn revoke(&self, cause: Cause, which: impl Fn(&Binding) -> bool) {
        let now = self.clock.now();
        self.change(|queue| drop(queue.hasten(now, cause, which)));
    }

    /// Kill switch: revokes at once every binding that names one of these policies. From now on their grants are over, also
    /// if the suspension is lifted before their requests say so.
    pub fn suspend(&self, is_suspended: impl Fn(&str) -> bool) {
        let now = self.clock.now();
        // What is past its end anyway was not ended by the switch.
        let lasts = |b: &Binding| b.not_after.is_some_and(|end| end > now);
        let named = |b: &Binding| b.policy.as_deref().is_some_and(&is_suspended);
        self.change(|queue| {
            for binding in queue.hasten(now, Cause::Suspended, |b| lasts(b) && named(b)) {
                let policy = binding.policy.unwrap_or_default();
                self.switched.remember(&binding.grant, &policy);
            }
        });
    }

    /// Drops what is not in `live`: the outcome of a whole new list.
    pub fn retain(&self, live: &HashSet<String>) {
        self.change(|queue| {
            let gone: Vec<String> = queue
                .entries
                .keys()
                .filter(|uid| !live.contains(*uid))
                .cloned()
                .collect();
            for uid in gone {
                queue.remove(&uid);
                queue.under_way.remove(&uid);
            }
        });
    }

    /// Waits while a whole crowd of bindings is due, at most `MAX_YIELD`: ending access goes before telling of it, and the
    /// API server does both.
    pub async fn yield_to_deletions(&self) {
        let crowd = async {
            while self.lock().is_pressed(self.clock.now()) {
                tokio::time::sleep(YIELD).await;
            }
        };
        // However long the crowd, the pass goes on after a while.
        let _ = tokio::time::timeout(MAX_YIELD, crowd).await;
    }

    /// Deletes everything that is due now, once, and waits for what is being deleted already. Returns how many deletions of its
    /// own failed.
    pub async fn sweep(&self) -> usize {
        let begun: Vec<String> = self.lock().under_way.iter().cloned().collect();
        let due = self.lock().take_due(self.clock.now(), usize::MAX);
        let deletions = due.into_iter().map(|d| self.delete(d));
        let results: Vec<bool> = futures::stream::iter(deletions)
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        while begun.iter().any(|uid| self.lock().under_way.contains(uid)) {
            tokio::time::sleep(YIELD).await;
        }
        results.into_iter().filter(|gone| !gone).count()
    }

    /// Deletes what is due, for ever. `beat` is called at every wake-up.
    pub async fn run(&self, beat: impl Fn()) {
        let mut under_way = FuturesUnordered::new();
        loop {
            beat();
            let now = self.clock.now();
            let room = PARALLEL - under_way.len();
            for due in self.lock().take_due(now, room) {
                under_way.push(self.delete(due));
            }
            self.metrics.set_overdue(self.overdue(now));
            self.metrics.set_grants("active", self.lock().entries.len());
            let sleep = self.pause(now, under_way.len() == PARALLEL);
            tokio::select! {
                Some(_) = under_way.next() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// How long to sleep. With every place taken only a finished deletion helps.
    fn pause(&self, now: Timestamp, full: bool) -> Duration {
        let next = self.lock().next().filter(|_| !full);
        let left = next.map(|at| at.duration_since(now));
        let left = left.map(|d| Duration::try_from(d).unwrap_or(Duration::ZERO));
        left.map_or(MAX_SLEEP, |d| d.min(MAX_SLEEP))
    }

    fn overdue(&self, now: Timestamp) -> usize {
        let queue = self.lock();
        let due = queue.by_time.iter().take_while(|(at, _)| *at < now);
        let untried = due.filter(|(_, uid)| !queue.failing.contains(uid));
        untried.count() + queue.failing.len()
    }

    /// One deletion; returns whether the binding is gone.
    async fn delete(&self, (binding, cause): (Binding, Cause)) -> bool {
        let Binding {
            place, name, uid, ..
        } = &binding;
        let now = self.clock.now();
        let result = match cause {
            Cause::Deadline => apply::expire(&self.client, &binding, now).await,
            _ => apply::revoke(&self.client, place, name, uid).await,
        };
        let now = self.clock.now();
        match &result {
            Ok(Revoked::Extended(extended)) => {
                self.forget(uid);
                self.watch((**extended).clone());
            }
            Ok(revoked) => {
                if *revoked == Revoked::Deleted {
                    self.metrics.revoked(cause.word());
                    if let (Cause::Deadline, Some(end)) = (cause, binding.not_after) {
                        self.metrics.expired(
                            Duration::try_from(now.duration_since(end)).unwrap_or_default(),
                        );
                    }
                    let namespace = place.namespace();
                    tracing::info!(namespace, name, cause = cause.word(), "access ended");
                }
                self.forget(uid);
            }
            Err(error) => self.again(uid, now, error),
        }
        result.is_ok()
    }

    fn again(&self, uid: &str, now: Timestamp, error: &ApiError) {
        self.metrics.error(error.category());
        tracing::error!(uid, %error, "revocation failed; trying again");
        self.change(|queue| {
            queue.under_way.remove(uid);
            if let Some(entry) = queue.remove(uid) {
                let failures = entry.failures.saturating_add(1);
                let pause = SignedDuration::from_millis(50 << failures.min(10)).min(MAX_BACKOFF);
                queue.set(Entry {
                    due: now.saturating_add(pause).unwrap_or(now),
                    failures,
                    ..entry
                });
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
