//! The watches that keep the stores: each event changes a store first, and then says who is concerned.

use crate::api::names::{GRANT, MANAGED_BY, MANAGER, WORKLOAD_ACCESS};
use crate::api::{AccessApproval, AccessPolicy, ClusterWorkloadAccess, WorkloadAccess};
use crate::cluster::access_index::AccessIndex;
use crate::cluster::approval_index::request_of;
use crate::cluster::made::{self, noticed};
use crate::cluster::rbac_watches::{on_binding, on_cluster_binding, on_cluster_role, on_role};
use crate::cluster::reference_watches;
use crate::cluster::standing::{Standing, Touched};
use crate::cluster::stores::{AccessRef, Change, Listener, Stores, compile_policy};
use crate::domain::completion::Kind;
use crate::domain::policy::Policy;
use crate::domain::request::{Access, AccessRequest, Place};
use crate::ops::metrics::Metrics;
use futures::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::core::{DeserializeGuard, PartialObjectMeta, Resource, ResourceExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::Notify;

/// A watch that never ends by itself.
pub type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What to do with an event, after the store has it.
pub(super) type On<K> = Box<dyn Fn(&Event<K>) + Send + Sync>;

/// The stores, and the watches that fill them; the caller runs these. `ready` is called with the word for each store once
/// it has its first whole list.
pub fn start(
    client: &Client,
    ceiling_role: &str,
    until_kinds: &[Kind],
    listener: &Listener,
    ready: impl Fn(&'static str) -> Box<dyn FnOnce() + Send>,
    metrics: &Arc<Metrics>,
) -> (Arc<Stores>, Vec<Watch>) {
    let (accesses, accesses_writer) = reflector::store();
    let (wide_accesses, wide_writer) = reflector::store();
    let (namespaces, namespaces_writer) = reflector::store();
    let (accounts, accounts_writer) = reflector::store();
    let stores = Arc::new(Stores {
        accesses,
        wide_accesses,
        namespaces,
        accounts,
        bindings: RwLock::default(),
        wide_bindings: RwLock::default(),
        standing: RwLock::default(),
        index: RwLock::default(),
        wide_index: RwLock::default(),
        references_changed: Notify::new(),
        policies: RwLock::default(),
        approvals: RwLock::default(),
        ceiling: RwLock::default(),
    });
    let to = To {
        stores: Arc::clone(&stores),
        tell: Arc::clone(listener),
    };
    let start = Start { client, metrics };
    let all = watcher::Config::default().page_size(500);
    let watch = |kind| (kind, all.clone(), ready(kind));
    let jobs = ("jobs", all.clone().labels(GRANT), ready("jobs"));
    let watches = vec![
        start.kept(
            watch("workloadaccesses"),
            accesses_writer,
            on_access::<WorkloadAccess>(&to, |stores| &stores.index),
        ),
        start.kept(
            watch("clusterworkloadaccesses"),
            wide_writer,
            on_access::<ClusterWorkloadAccess>(&to, |stores| &stores.wide_index),
        ),
        start.kept(watch("namespaces"), namespaces_writer, on_namespace(&to)),
        start.kept(watch("serviceaccounts"), accounts_writer, on_account(&to)),
        start.seen(watch("accesspolicies"), on_policy(&to)),
        start.seen(watch("accessapprovals"), on_approval(&to)),
        start.seen(
            watch("clusterroles"),
            noticed(
                &to,
                made::of_cluster_role,
                on_cluster_role(&to, ceiling_role),
            ),
        ),
        start.seen(
            watch("clusterrolebindings"),
            noticed(&to, made::of_cluster_binding, on_cluster_binding(&to)),
        ),
        start.seen(watch("roles"), noticed(&to, made::of_role, on_role(&to))),
        start.seen(
            watch("rolebindings"),
            noticed(&to, made::of_binding, on_binding(&to)),
        ),
        start.seen(
            jobs,
            noticed(
                &to,
                made::generation,
                on_made::<PartialObjectMeta<Job>>(&to),
            ),
        ),
        reference_watches::watch(client, until_kinds, to.clone(), metrics),
    ];
    (stores, watches)
}

/// Where events go.
#[derive(Clone)]
pub(super) struct To {
    pub(super) stores: Arc<Stores>,
    pub(super) tell: Listener,
}

impl To {
    pub(super) fn touched(&self, touched: Vec<Touched>) {
        if !touched.is_empty() {
            (self.tell)(Change::Touched(touched));
        }
    }

    pub(super) fn standing<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        let standing = &self.stores.standing;
        change(&mut standing.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something that was made for a request changed: its own pass looks at it.
    pub(super) fn made(&self, object: &impl ResourceExt) {
        let ours = object.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER);
        let access = object.annotations().get(WORKLOAD_ACCESS);
        if let (true, Some(name)) = (ours, access) {
            (self.tell)(Change::Access(AccessRef {
                place: Place::of(object.namespace()),
                name: name.clone(),
            }));
        }
    }
}

struct Start<'a> {
    client: &'a Client,
    metrics: &'a Arc<Metrics>,
}

/// Name, selection, and what to call when the first list is whole.
type Watched = (&'static str, watcher::Config, Box<dyn FnOnce() + Send>);

impl Start<'_> {
    /// A watch whose objects are kept.
    fn kept<K>(&self, watched: Watched, mut writer: Writer<K>, on: On<K>) -> Watch
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.watch(watched, move |event| {
            writer.apply_watcher_event(event);
            on(event);
        })
    }

    /// A watch whose objects are looked at and forgotten.
    fn seen<K>(&self, watched: Watched, on: On<K>) -> Watch
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.watch(watched, move |event| on(event))
    }

    fn watch<K>(
        &self,
        (kind, config, ready): Watched,
        mut on: impl FnMut(&Event<K>) + Send + 'static,
    ) -> Watch
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let metrics = Arc::clone(self.metrics);
        let mut ready = Some(ready);
        let events = watcher(api, config).default_backoff();
        Box::pin(async move {
            let mut events: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(mut event) => {
                        forget_bulk(&mut event);
                        on(&event);
                        if matches!(event, Event::InitDone)
                            && let Some(ready) = ready.take()
                        {
                            ready();
                        }
                    }
                    Err(error) => {
                        metrics.watch_restarted(kind);
                        tracing::warn!(kind, %error, "watch failed; trying again");
                    }
                }
            }
        })
    }
}

/// Managed fields are most of an object's size and none of its meaning here.
fn forget_bulk<K: Resource>(event: &mut Event<K>) {
    if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = event {
        object.meta_mut().managed_fields = None;
    }
}

fn on_access<K>(to: &To, index: fn(&Stores) -> &RwLock<AccessIndex>) -> On<DeserializeGuard<K>>
where
    K: AccessRequest + Clone + Into<Access> + Resource<DynamicType = ()> + 'static,
{
    let to = to.clone();
    Box::new(move |event| {
        let mut index = index(&to.stores)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        index.follow(event);
        drop(index);
        to.stores.references_changed.notify_one();
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                (to.tell)(Change::Access(AccessRef::of(object)));
            }
            Event::Delete(object) => {
                let last = object.0.as_ref().ok().cloned();
                let last = last.map(|last| Box::new(last.into()));
                (to.tell)(Change::AccessDeleted(
                    object.uid().unwrap_or_default(),
                    last,
                ));
            }
            // A list replaces the store: whatever was deleted in between shows only as absence.
            Event::InitDone => (to.tell)(Change::Everything),
            Event::Init => {}
        }
    })
}

fn on_policy(to: &To) -> On<DeserializeGuard<AccessPolicy>> {
    let to = to.clone();
    Box::new(move |event| {
        let policies = &to.stores.policies;
        let mut policies = policies.write().unwrap_or_else(PoisonError::into_inner);
        policies.follow_switch(event);
        drop(policies);
        let compiled = match event {
            Event::Apply(object) | Event::InitApply(object) => Some(compile_policy(object)),
            Event::Init | Event::InitDone | Event::Delete(_) => None,
        };
        if let (Event::Apply(object) | Event::InitApply(object), Some(compiled)) =
            (event, &compiled)
            && let Ok(readable) = &object.0
        {
            let readable = Box::new(readable.clone());
            (to.tell)(Change::Policy(readable, compiled.clone()));
        }
        let new = compiled.as_ref().and_then(|c| c.as_ref().ok()).cloned();
        let policies = &to.stores.policies;
        let mut policies = policies.write().unwrap_or_else(PoisonError::into_inner);
        let old = match (event, compiled) {
            (Event::Init, _) => return policies.listing.clear(),
            (Event::InitApply(object), Some(compiled)) => {
                policies.listing.insert(object.name_any(), compiled);
                return;
            }
            (Event::InitDone, _) => {
                policies.now = std::mem::take(&mut policies.listing);
                drop(policies);
                return (to.tell)(Change::Everything);
            }
            (Event::Apply(object), Some(compiled)) => {
                policies.now.insert(object.name_any(), compiled)
            }
            (Event::Delete(object), _) => policies.now.remove(&object.name_any()),
            (Event::Apply(_) | Event::InitApply(_), None) => return,
        };
        drop(policies);
        let old = old.and_then(Result::ok);
        // Our own writes of its status leave a policy as it was.
        let stamp = |policy: &Option<Arc<Policy>>| policy.as_ref().map(|p| p.stamp().clone());
        if new.is_none() || stamp(&old) != stamp(&new) {
            let either: Vec<Arc<Policy>> = old.into_iter().chain(new).collect();
            to.touched(to.stores.selected_by(&either));
        }
    })
}

/// An approval concerns the one request that it names.
fn on_approval(to: &To) -> On<DeserializeGuard<AccessApproval>> {
    let to = to.clone();
    Box::new(move |event| {
        let approvals = &to.stores.approvals;
        let mut approvals = approvals.write().unwrap_or_else(PoisonError::into_inner);
        let concerned = approvals.follow(event);
        drop(approvals);
        if matches!(event, Event::InitDone) {
            return (to.tell)(Change::Everything);
        }
        for approval in concerned {
            // A request that is not known yet is looked at when it comes.
            let request = request_of(&approval);
            if to
                .stores
                .has_access(&request, &approval.spec.request_ref.uid)
            {
                (to.tell)(Change::Access(request));
            }
        }
    })
}

/// Tells a change of what matters from any other; the first sight of an object is a change.
fn changes<K: Eq + Hash, V: Eq>() -> impl Fn(K, Option<V>) -> bool {
    let known: Mutex<HashMap<K, V>> = Mutex::default();
    move |key, value| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match value {
            Some(value) if known.get(&key) == Some(&value) => false,
            Some(value) => {
                known.insert(key, value);
                true
            }
            None => known.remove(&key).is_some(),
        }
    }
}

fn on_namespace(to: &To) -> On<PartialObjectMeta<Namespace>> {
    let to = to.clone();
    let changed = changes::<String, BTreeMap<String, String>>();
    Box::new(move |event| match event {
        Event::Apply(object) | Event::InitApply(object) => {
            if changed(object.name_any(), Some(object.labels().clone())) {
                to.touched(vec![Touched::Namespace(object.name_any())]);
            }
        }
        Event::Delete(object) => {
            changed(object.name_any(), None);
        }
        Event::Init | Event::InitDone => {}
    })
}

fn on_account(to: &To) -> On<PartialObjectMeta<ServiceAccount>> {
    let to = to.clone();
    let changed = changes::<String, (Option<String>, BTreeMap<String, String>)>();
    let key = |o: &PartialObjectMeta<ServiceAccount>| {
        format!("{}/{}", o.namespace().unwrap_or_default(), o.name_any())
    };
    Box::new(move |event| match event {
        Event::Apply(object) => {
            let now = (object.uid(), object.labels().clone());
            if changed(key(object), Some(now)) {
                let uid = object.uid().unwrap_or_default();
                (to.tell)(Change::Account(key(object), uid));
            }
        }
        Event::InitApply(object) => {
            let now = (object.uid(), object.labels().clone());
            changed(key(object), Some(now));
        }
        Event::Delete(object) => {
            changed(key(object), None);
            (to.tell)(Change::AccountDeleted(key(object)));
        }
        Event::InitDone => (to.tell)(Change::Everything),
        Event::Init => {}
    })
}

/// Jobs are read anew when they matter; an event only says whose it was.
fn on_made<K: Resource + 'static>(to: &To) -> On<K> {
    let to = to.clone();
    Box::new(move |event| {
        if let Event::Delete(object) = event {
            to.made(object);
        }
    })
}
