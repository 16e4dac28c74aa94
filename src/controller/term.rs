//! The time in which this replica decides. All that it remembers of a term before is forgotten at the beginning of the next:
//! meanwhile another may have decided.

use crate::cluster::catch_up::catch_up;
use crate::cluster::fence::Leadership;
use crate::cluster::stores::{AccessRef, Stores};
use crate::controller::expiry::Expiry;
use crate::controller::guard_scan;
use crate::controller::passes::{self, PLACES, Places};
use crate::controller::policies::{self, Reporter, Seen};
use crate::controller::reconcile::Context;
use kube::core::ResourceExt;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// Longest wait, when the process stops, for passes that are under way. One that is cut does no harm, and neither does what
/// it sent: the next decides by what it reads.
const LAST_PASSES: Duration = Duration::from_secs(5);

/// Where changes are put for whoever decides. While nobody here does, requests are let go and policies are kept, the newest
/// form of each.
#[derive(Default)]
pub(super) struct Desk {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    policies: BTreeMap<String, Seen>,
    open: Option<(UnboundedSender<AccessRef>, Reporter)>,
}

impl Desk {
    /// These requests must be looked at.
    pub(super) fn look_at(&self, keys: impl IntoIterator<Item = AccessRef>) {
        if let Some((queue, _)) = &self.lock().open {
            // A closed queue means that the term is over.
            keys.into_iter().for_each(|key| drop(queue.send(key)));
        }
    }

    /// This policy must be reported on.
    pub(super) fn report(&self, seen: Seen) {
        let mut inner = self.lock();
        if let Some((_, reporter)) = &inner.open {
            drop(reporter.send(seen.clone()));
        }
        inner.policies.insert(seen.0.name_any(), seen);
    }

    /// Whether this replica decides.
    pub(super) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// From now on nothing is let go.
    fn open(&self, stores: &Stores) -> (UnboundedReceiver<AccessRef>, UnboundedReceiver<Seen>) {
        let (queue, passes) = unbounded_channel();
        let (reporter, seen) = unbounded_channel();
        let mut inner = self.lock();
        inner.policies.retain(|name, _| stores.has_policy(name));
        for policy in inner.policies.values() {
            drop(reporter.send(policy.clone()));
        }
        inner.open = Some((queue, reporter));
        (passes, seen)
    }

    fn close(&self) {
        self.lock().open = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides whenever it may, until `stop`.
pub(super) async fn lead(
    desk: &Desk,
    stores: &Arc<Stores>,
    expiry: &Arc<Expiry>,
    context: &Arc<Context>,
    leadership: &Leadership,
    stop: &CancellationToken,
) {
    while let Some(term) = stop.run_until_cancelled(leadership.gained()).await {
        context.metrics.set_leader(true);
        let places: Places = Arc::new(Semaphore::new(PLACES as usize));
        tokio::select! {
            // Whatever is under way when the term is over is dropped there and then.
            biased;
            () = leadership.lost(term) => tracing::warn!("no longer the leader"),
            () = finished(&places, stop) => {}
            () = decide(desk, stores, expiry, context, &places) => {}
        }
        desk.close();
        context.metrics.set_leader(false);
        // Another replica counts what is there.
        context.metrics.guard_scanned(&BTreeMap::new());
    }
}

/// Ends when the process is to stop and no pass is under way.
async fn finished(places: &Places, stop: &CancellationToken) {
    stop.cancelled().await;
    // Every place but those of passes under way is taken first, so none begins any more.
    let _ = tokio::time::timeout(LAST_PASSES, places.acquire_many(PLACES)).await;
}

async fn decide(
    desk: &Desk,
    stores: &Arc<Stores>,
    expiry: &Arc<Expiry>,
    context: &Arc<Context>,
    places: &Places,
) {
    context.seats.retain(&HashSet::new());
    catch_up(&context.client, stores).await;
    let (passes, seen) = desk.open(stores);
    desk.look_at(stores.unended());
    // Whoever decided before may have stopped between telling the end and the last of its work.
    desk.look_at(stores.requests());
    let reports = policies::report(context.client.clone(), Arc::clone(&context.clock), seen);
    tokio::join!(
        passes::run(passes, stores, expiry, context, places),
        reports,
        guard_scan::run(context)
    );
}
