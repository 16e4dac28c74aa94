//! Runs passes over requests, many at a time, and tries again what failed.

use crate::cluster::stores::{AccessRef, Stores};
use crate::controller::error::Error;
use crate::controller::expiry::Expiry;
use crate::controller::reconcile::{self, Context};
use crate::domain::request::Place;
use crate::domain::retry;
use futures::StreamExt;
use kube::core::{DeserializeGuard, Resource, ResourceExt};
use kube::runtime::controller::{self, Action, applier};
use kube::runtime::reflector::Store;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Passes under way at a time, over each kind of requests.
const CONCURRENCY: u16 = 16;

/// Failures in a row, by request.
type Failures = Arc<Mutex<HashMap<AccessRef, u32>>>;

/// Passes under way. Whoever has all its places knows that none is.
pub(super) type Places = Arc<Semaphore>;

/// How many places there are: those of both kinds of requests.
pub(super) const PLACES: u32 = 2 * CONCURRENCY as u32;

/// Runs passes over the requests of both kinds.
pub(super) async fn run(
    mut passes: UnboundedReceiver<AccessRef>,
    stores: &Arc<Stores>,
    expiry: &Arc<Expiry>,
    context: &Arc<Context>,
    places: &Places,
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
        of_kind(namespaced, &stores.accesses, expiry, context, places),
        of_kind(wide, &stores.wide_accesses, expiry, context, places),
    );
}

/// Runs passes over the requests of one kind; each request has its own pause after failures.
async fn of_kind<K>(
    passes: UnboundedReceiver<AccessRef>,
    store: &Store<DeserializeGuard<K>>,
    expiry: &Arc<Expiry>,
    context: &Arc<Context>,
    places: &Places,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let queue = futures::stream::unfold(passes, |mut passes| async move {
        let key = passes.recv().await?;
        Some((Ok::<_, Infallible>(key.object_ref()), passes))
    });
    let queue = Box::pin(queue);
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
            Box::pin(timed(
                key,
                uid,
                Arc::clone(expiry),
                context,
                Arc::clone(places),
            ))
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
    places: Places,
) -> Result<Action, Error> {
    // Nobody closes it; without a place the pass would only not be waited for.
    let _place = places.acquire().await;
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
