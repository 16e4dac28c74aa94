//! Watches on what requests refer to. One for each kind and namespace, and only while a request that has not ended refers to
//! an object of that kind there: nothing is watched for nobody. Of the objects nothing is kept; an event only says which
//! requests must be looked at.

use crate::cluster::access_index::Watched;
use crate::cluster::references::api_resource;
use crate::cluster::standing::Touched;
use crate::cluster::stores::Stores;
use crate::cluster::watches::{To, Watch};
use crate::domain::completion::{Kind, workload_kinds};
use crate::ops::metrics::Metrics;
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use kube::core::{DynamicObject, PartialObjectMeta, ResourceExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

type Seen = Event<PartialObjectMeta<DynamicObject>>;
type Events = BoxStream<'static, (Watched, watcher::Result<Seen>)>;

struct References {
    client: Client,
    kinds: Vec<Kind>,
    to: To,
    metrics: Arc<Metrics>,
    events: SelectAll<Events>,
    /// Dropping the guard ends the watch.
    running: HashMap<Watched, DropGuard>,
}

/// All of them as one; never ends by itself.
pub(super) fn watch(
    client: &Client,
    until_kinds: &[Kind],
    to: To,
    metrics: &Arc<Metrics>,
) -> Watch {
    let kinds = until_kinds.iter().cloned().chain(workload_kinds());
    let references = References {
        client: client.clone(),
        kinds: kinds.collect(),
        to,
        metrics: Arc::clone(metrics),
        events: SelectAll::new(),
        running: HashMap::new(),
    };
    Box::pin(references.run())
}

impl References {
    async fn run(mut self) {
        let stores = Arc::clone(&self.to.stores);
        loop {
            self.adjust(&stores);
            tokio::select! {
                () = stores.references_changed.notified() => {}
                () = Self::follow(&mut self.events, &self.to, &self.metrics) => {}
            }
        }
    }

    /// Starts what is missing and ends what nobody needs any more.
    fn adjust(&mut self, stores: &Stores) {
        let wanted = stores.referenced();
        self.running.retain(|watched, _| wanted.contains(watched));
        for watched in wanted {
            if self.running.contains_key(&watched) {
                continue;
            }
            let named = |k: &&Kind| k.api_version == watched.api_version && k.kind == watched.kind;
            let Some(kind) = self.kinds.iter().find(named) else {
                // The judge refuses what refers to other kinds.
                continue;
            };
            let stop = CancellationToken::new();
            let events = self.events_of(kind, &watched);
            self.events
                .push(events.take_until(stop.clone().cancelled_owned()).boxed());
            self.running.insert(watched, stop.drop_guard());
        }
    }

    fn events_of(
        &self,
        kind: &Kind,
        watched: &Watched,
    ) -> impl Stream<Item = (Watched, watcher::Result<Seen>)> + Send + use<> {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.client.clone(), &watched.namespace, &api_resource(kind));
        let watched = watched.clone();
        let events = watcher(api, watcher::Config::default().page_size(500)).default_backoff();
        events.map(move |event| (watched.clone(), event))
    }

    /// Follows what runs until one of the watches ends; for ever while there is none.
    async fn follow(events: &mut SelectAll<Events>, to: &To, metrics: &Metrics) {
        while let Some((watched, event)) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => {
                    to.touched(vec![Touched::Object(watched, object.name_any())]);
                }
                // What happened before shows in the list or as absence from it: whoever refers to anything looks once.
                Ok(Event::InitDone) => to.touched(vec![Touched::Objects(watched)]),
                Ok(Event::Init | Event::InitApply(_)) => {}
                Err(error) => {
                    metrics.watch_restarted("references");
                    let Watched {
                        kind, namespace, ..
                    } = watched;
                    tracing::warn!(kind, namespace, %error, "watch failed; trying again");
                }
            }
        }
        std::future::pending().await
    }
}
