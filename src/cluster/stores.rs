//! Local copies of what decisions need, kept by watches. Full objects only where their content is read.

use crate::api::names::{GRANT, MANAGER, WORKLOAD_ACCESS};
use crate::api::{AccessPolicy, WorkloadAccess};
pub use crate::cluster::bindings::Binding;
use crate::cluster::bindings::Bindings;
use crate::domain::covers::Ceiling;
use crate::domain::policy::Policy;
use crate::domain::rules::Rule;
use crate::domain::violation::{Problem, Violation, render_lines};
use crate::ops::metrics::Metrics;
use futures::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::core::{DeserializeGuard, PartialObjectMeta, Resource, ResourceExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

/// A WorkloadAccess as read from the cluster: one that does not decode must not stop the watch, and must not stay
/// granted either.
pub type GuardedAccess = DeserializeGuard<WorkloadAccess>;
/// Key of a WorkloadAccess.
pub type AccessRef = ObjectRef<GuardedAccess>;

/// What changed, in the words of those who must react.
#[derive(Debug)]
pub enum Change {
    /// This request, or something made for it.
    Access(AccessRef),
    /// A WorkloadAccess is gone; its UID.
    AccessDeleted(String),
    /// An account appeared or changed: `namespace/name` and its UID.
    Account(String, String),
    /// An account is gone: `namespace/name`.
    AccountDeleted(String),
    /// This policy was read, with what became of it.
    Policy(Box<AccessPolicy>, CompiledPolicy),
    /// Something that many requests depend on: a policy, a namespace's labels, the ceiling, or a whole new list.
    Everything,
    /// A managed RoleBinding appeared, changed or went.
    Binding(Binding, Presence),
}

/// Whether an object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It exists.
    Present,
    /// It is gone.
    Gone,
}

/// The local copies.
pub struct Stores {
    /// Requests.
    pub accesses: Store<GuardedAccess>,
    /// Namespaces, metadata only.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Accounts, metadata only.
    pub accounts: Store<PartialObjectMeta<ServiceAccount>>,
    bindings: RwLock<Bindings>,
    policies: RwLock<Policies>,
    ceiling: RwLock<Ceilings>,
}

/// A policy ready to decide, or why it cannot be used.
pub type CompiledPolicy = Result<Arc<Policy>, Vec<Violation>>;

/// Policies by name; what cannot be compiled says why. A new list replaces the old one only when it is whole: a policy
/// that is merely not listed yet must not end its grants.
#[derive(Default)]
struct Policies {
    now: BTreeMap<String, CompiledPolicy>,
    listing: BTreeMap<String, CompiledPolicy>,
}

/// The ceiling, if its ClusterRole exists; replaced by a new list only when that is whole.
#[derive(Default)]
struct Ceilings {
    now: Option<Arc<Ceiling>>,
    listing: Option<Arc<Ceiling>>,
}

/// A watch that never ends by itself.
pub type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Receives every change.
pub type Listener = Arc<dyn Fn(Change) + Send + Sync>;

impl Stores {
    /// The stores, and the watches that fill them; the caller runs these. `ready` is called with the word for each
    /// store once it has its first whole list.
    pub fn new(
        client: &Client,
        ceiling_role: &str,
        listener: &Listener,
        ready: impl Fn(&'static str) -> Box<dyn FnOnce() + Send>,
        metrics: &Arc<Metrics>,
    ) -> (Arc<Self>, Vec<Watch>) {
        let (accesses, accesses_writer) = reflector::store();
        let (namespaces, namespaces_writer) = reflector::store();
        let (accounts, accounts_writer) = reflector::store();
        let stores = Arc::new(Self {
            accesses,
            namespaces,
            accounts,
            bindings: RwLock::default(),
            policies: RwLock::default(),
            ceiling: RwLock::default(),
        });
        let start = Start { client, metrics };
        let watches = vec![
            start.watch(
                "workloadaccesses",
                accesses_writer,
                any(),
                ready("workloadaccesses"),
                on_access(listener),
            ),
            start.watch(
                "accesspolicies",
                reflector::store().1,
                any(),
                ready("accesspolicies"),
                on_policy(&stores, listener),
            ),
            start.watch(
                "namespaces",
                namespaces_writer,
                any(),
                ready("namespaces"),
                on_namespace(listener),
            ),
            start.watch(
                "serviceaccounts",
                accounts_writer,
                any(),
                ready("serviceaccounts"),
                on_account(listener),
            ),
            start.watch(
                "clusterroles",
                reflector::store().1,
                named(ceiling_role),
                ready("ceiling"),
                on_ceiling(&stores, listener),
            ),
            start.watch(
                "rolebindings",
                reflector::store().1,
                managed(),
                ready("rolebindings"),
                on_binding(&stores, listener),
            ),
            start.watch(
                "roles",
                reflector::store::<PartialObjectMeta<Role>>().1,
                managed(),
                ready("roles"),
                on_made(listener),
            ),
            start.watch(
                "jobs",
                reflector::store::<PartialObjectMeta<Job>>().1,
                managed(),
                ready("jobs"),
                on_made(listener),
            ),
        ];
        (stores, watches)
    }

    /// Policies that can be used, and how many there are that cannot.
    pub fn policies(&self) -> (Vec<Arc<Policy>>, usize) {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        let usable = policies
            .now
            .values()
            .filter_map(|p| p.as_ref().ok().cloned());
        let broken = policies.now.values().filter(|p| p.is_err()).count();
        (usable.collect(), broken)
    }

    /// What Stint may hand out, if the ClusterRole that says so exists.
    pub fn ceiling(&self) -> Option<Arc<Ceiling>> {
        self.ceiling
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .now
            .clone()
    }

    /// The managed RoleBindings.
    pub fn bindings(&self) -> Vec<Binding> {
        let bindings = self.bindings.read().unwrap_or_else(PoisonError::into_inner);
        bindings.all()
    }

    /// The bindings of grants other than `grant` that give `account` something beyond `now`.
    pub fn others(&self, account: &str, grant: &str, now: jiff::Timestamp) -> Vec<Binding> {
        let bindings = self.bindings.read().unwrap_or_else(PoisonError::into_inner);
        bindings.others(account, grant, now)
    }

    /// Whether a WorkloadAccess with this UID is known.
    pub fn has_access(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let key = AccessRef::new(name).within(namespace);
        self.accesses
            .get(&key)
            .is_some_and(|a| a.uid().as_deref() == Some(uid))
    }

    /// Whether an event leaves a policy as it was: our own writes of its status do.
    fn decides_alike(
        &self,
        event: &Event<DeserializeGuard<AccessPolicy>>,
        compiled: Option<&CompiledPolicy>,
    ) -> bool {
        let (Event::Apply(object), Some(Ok(new))) = (event, compiled) else {
            return false;
        };
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        let old = policies.now.get(&object.name_any());
        matches!(old, Some(Ok(old)) if old.stamp() == new.stamp())
    }

    fn change_policies(&self, change: impl FnOnce(&mut Policies)) {
        change(
            &mut self
                .policies
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn change_ceiling(&self, change: impl FnOnce(&mut Ceilings)) {
        change(&mut self.ceiling.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn compile_policy(object: &DeserializeGuard<AccessPolicy>) -> CompiledPolicy {
    let policy = match &object.0 {
        Ok(policy) => Policy::compile(policy).map(Arc::new),
        Err(invalid) => {
            let message = format!("cannot be read: {}", invalid.error);
            Err(vec![Violation::new(
                "WA-DECODE",
                "spec",
                Problem::Invalid,
                message,
            )])
        }
    };
    if let Err(wrong) = &policy {
        let name = object.name_any();
        let why = render_lines(wrong);
        tracing::warn!(
            policy = name,
            why,
            "policy cannot be used and admits nothing"
        );
    }
    policy
}

/// A ceiling without rules is not known yet: an aggregated ClusterRole is empty until Kubernetes has filled it, also for a
/// moment after it was applied again (kubernetes#118648).
fn compile_ceiling(role: &ClusterRole) -> Option<Arc<Ceiling>> {
    let rules: Vec<Rule> = role.rules.iter().flatten().map(Rule::from).collect();
    (!rules.is_empty()).then(|| Arc::new(Ceiling::compile(&rules)))
}

struct Start<'a> {
    client: &'a Client,
    metrics: &'a Arc<Metrics>,
}

impl Start<'_> {
    /// One watch: the store is changed first, then whoever listens is told.
    fn watch<K>(
        &self,
        kind: &'static str,
        mut writer: Writer<K>,
        config: watcher::Config,
        ready: Box<dyn FnOnce() + Send>,
        on: impl Fn(&Event<K>) + Send + Sync + 'static,
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
                        writer.apply_watcher_event(&event);
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

fn any() -> watcher::Config {
    watcher::Config::default().page_size(500)
}

fn named(name: &str) -> watcher::Config {
    any().fields(&format!("metadata.name={name}"))
}

fn managed() -> watcher::Config {
    any().labels(GRANT)
}

type On<K> = Box<dyn Fn(&Event<K>) + Send + Sync>;

fn on_access(listener: &Listener) -> On<GuardedAccess> {
    let tell = Arc::clone(listener);
    Box::new(move |event| match event {
        Event::Apply(object) | Event::InitApply(object) => {
            tell(Change::Access(ObjectRef::from_obj(object)));
        }
        Event::Delete(object) => tell(Change::AccessDeleted(object.uid().unwrap_or_default())),
        // A list replaces the store: whatever was deleted in between shows only as absence.
        Event::InitDone => tell(Change::Everything),
        Event::Init => {}
    })
}

fn on_policy(stores: &Arc<Stores>, listener: &Listener) -> On<DeserializeGuard<AccessPolicy>> {
    let (stores, tell) = (Arc::clone(stores), Arc::clone(listener));
    Box::new(move |event| {
        let compiled = match event {
            Event::Apply(object) | Event::InitApply(object) => Some(compile_policy(object)),
            Event::Init | Event::InitDone | Event::Delete(_) => None,
        };
        if let (Event::Apply(object) | Event::InitApply(object), Some(compiled)) =
            (event, &compiled)
            && let Ok(readable) = &object.0
        {
            tell(Change::Policy(Box::new(readable.clone()), compiled.clone()));
        }
        let same = stores.decides_alike(event, compiled.as_ref());
        stores.change_policies(|policies| match (event, compiled) {
            (Event::Init, _) => policies.listing.clear(),
            (Event::InitApply(object), Some(compiled)) => {
                policies.listing.insert(object.name_any(), compiled);
            }
            (Event::InitDone, _) => policies.now = std::mem::take(&mut policies.listing),
            (Event::Apply(object), Some(compiled)) => {
                policies.now.insert(object.name_any(), compiled);
            }
            (Event::Delete(object), _) => {
                policies.now.remove(&object.name_any());
            }
            (Event::Apply(_) | Event::InitApply(_), None) => {}
        });
        if !same && !matches!(event, Event::Init | Event::InitApply(_)) {
            tell(Change::Everything);
        }
    })
}

fn on_ceiling(stores: &Arc<Stores>, listener: &Listener) -> On<ClusterRole> {
    let (stores, tell) = (Arc::clone(stores), Arc::clone(listener));
    Box::new(move |event| {
        stores.change_ceiling(|ceiling| match event {
            Event::Init => ceiling.listing = None,
            Event::InitApply(role) => ceiling.listing = compile_ceiling(role),
            Event::InitDone => ceiling.now = ceiling.listing.take(),
            Event::Apply(role) => ceiling.now = compile_ceiling(role),
            Event::Delete(_) => ceiling.now = None,
        });
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            tell(Change::Everything);
        }
    })
}

fn on_namespace(listener: &Listener) -> On<PartialObjectMeta<Namespace>> {
    let tell = Arc::clone(listener);
    Box::new(move |event| {
        if matches!(event, Event::Apply(_) | Event::InitDone) {
            tell(Change::Everything);
        }
    })
}

fn on_account(listener: &Listener) -> On<PartialObjectMeta<ServiceAccount>> {
    let tell = Arc::clone(listener);
    let key = |o: &PartialObjectMeta<ServiceAccount>| {
        format!("{}/{}", o.namespace().unwrap_or_default(), o.name_any())
    };
    Box::new(move |event| match event {
        Event::Apply(object) => tell(Change::Account(
            key(object),
            object.uid().unwrap_or_default(),
        )),
        Event::Delete(object) => tell(Change::AccountDeleted(key(object))),
        Event::InitDone => tell(Change::Everything),
        Event::Init | Event::InitApply(_) => {}
    })
}

fn on_binding(stores: &Arc<Stores>, listener: &Listener) -> On<PartialObjectMeta<RoleBinding>> {
    let (stores, tell) = (Arc::clone(stores), Arc::clone(listener));
    Box::new(move |event| {
        let mut bindings = stores
            .bindings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        bindings.follow(event);
        drop(bindings);
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                tell(Change::Binding(Binding::read(object), Presence::Present));
            }
            Event::Delete(object) => {
                tell(Change::Binding(Binding::read(object), Presence::Gone));
                tell_access(&tell, object);
            }
            Event::InitDone => tell(Change::Everything),
            Event::Init => {}
        }
    })
}

/// Roles and Jobs are read anew when they matter; a change only says whose they are.
fn on_made<K: Resource + 'static>(listener: &Listener) -> On<K> {
    let tell = Arc::clone(listener);
    Box::new(move |event| {
        if let Event::Delete(object) = event {
            tell_access(&tell, object);
        }
    })
}

fn tell_access(tell: &Listener, object: &impl ResourceExt) {
    if object
        .labels()
        .get(crate::api::names::MANAGED_BY)
        .map(String::as_str)
        != Some(MANAGER)
    {
        return;
    }
    if let (Some(name), Some(namespace)) = (
        object.annotations().get(WORKLOAD_ACCESS),
        object.namespace(),
    ) {
        tell(Change::Access(AccessRef::new(name).within(&namespace)));
    }
}
