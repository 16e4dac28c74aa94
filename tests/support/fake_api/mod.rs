//! A Kubernetes API server in this process, in tokio's time.
//!
//! The real client, watchers and controllers run against it. Under a paused clock an hour takes milliseconds. It keeps to
//! what a real server does where a controller can notice; `tests/support/conformance` holds both to the same table.

mod apply;
mod authorizer;
mod checks;
mod controllers;
mod defaults;
mod delete;
mod faults;
mod fields;
mod kinds;
mod reply;
mod request;
mod route;
mod select;
mod store;
mod watch;
mod write;

pub use authorizer::Decision;
pub use faults::{Call, Harm, Matcher, on};

use faults::Control;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use store::{Delivery, Key, State};
use tokio::{
    sync::{Notify, watch as channel},
    time::Instant,
};
use write::Admission;

type Review = dyn Fn(&FakeApi, &Value) -> Decision + Send + Sync;

/// The server. Clones are the same server.
#[derive(Clone)]
pub struct FakeApi(Arc<Inner>);

struct Inner {
    start: Timestamp,
    epoch: Instant,
    state: Mutex<State>,
    control: Mutex<Control>,
    review: Mutex<Arc<Review>>,
    admission: Mutex<Option<Arc<Admission>>>,
    changed: channel::Sender<u64>,
}

impl FakeApi {
    /// An empty server whose clock shows `start` now. Namespaces `default` and `kube-system` exist.
    pub fn new(start: Timestamp) -> Self {
        let api = Self(Arc::new(Inner {
            start,
            epoch: Instant::now(),
            state: Mutex::default(),
            control: Mutex::default(),
            review: Mutex::new(Arc::new(|_, _| Decision::default())),
            admission: Mutex::new(None),
            changed: channel::Sender::new(0),
        }));
        api.namespace("default", json!({}));
        api.namespace("kube-system", json!({}));
        api
    }

    /// The virtual time.
    pub fn now(&self) -> Timestamp {
        let elapsed = self.0.epoch.elapsed();
        self.0.start + SignedDuration::try_from(elapsed).expect("no test lasts 292 billion years")
    }

    /// A client of a user in `system:masters`.
    pub fn client(&self) -> kube::Client {
        self.client_as("admin", &["system:masters"])
    }

    /// A client of this user. Nothing is authorised; the log carries the name. A cut (see [`Self::cut_after_write`])
    /// silences the client that it meets, so each simulated process needs its own.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> kube::Client {
        let id = self.control().new_client();
        let who = Arc::new(route::Caller {
            client: id,
            user: user.into(),
            groups: groups.iter().map(|g| g.to_string()).collect(),
        });
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let (api, who) = (api.clone(), who.clone());
            async move { Ok::<_, std::convert::Infallible>(api.handle(&who, request).await) }
        });
        kube::Client::new(service, "default")
    }

    // ---- content ----

    /// Puts an object past every check, with the identity it carries or a new one, and tells the watches.
    pub fn seed(&self, value: Value) -> Value {
        let mut state = self.state();
        let seeded = state.seed(value, self.now());
        self.announce(&state);
        seeded
    }

    /// Seeds a namespace with these labels.
    pub fn namespace(&self, name: &str, labels: Value) -> Value {
        let mut value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        value["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
        self.seed(value)
    }

    /// Seeds a ServiceAccount.
    pub fn service_account(&self, namespace: &str, name: &str, labels: Value) -> Value {
        self.seed(json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace, "labels": labels}}))
    }

    /// An object by plural, namespace (empty if it has none) and name.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state();
        let key = find(&state, resource, namespace, name)?;
        state.objects.get(&key).map(|s| s.value.clone())
    }

    /// The objects of a plural, in a namespace or in all (empty).
    pub fn list(&self, resource: &str, namespace: &str) -> Vec<Value> {
        let state = self.state();
        let chosen = state.objects.iter().filter(|(key, _)| {
            key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
        });
        chosen.map(|(_, stored)| stored.value.clone()).collect()
    }

    /// Takes an object away past finalizers and preconditions, and tells the watches.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let mut state = self.state();
        let key = find(&state, resource, namespace, name)?;
        let last = state.take(&key);
        self.announce(&state);
        last
    }

    // ---- log ----

    /// Every call since the last [`Self::clear_calls`], in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.control().calls.clone()
    }

    /// Calls that change the cluster: all but reads and reviews.
    pub fn writes(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_write).collect()
    }

    /// Lists; watches are none.
    pub fn lists(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_list).collect()
    }

    /// Forgets the log.
    pub fn clear_calls(&self) {
        self.control().calls.clear();
    }

    // ---- decisions ----

    /// Answers access reviews; until set, every one is refused. Must not call this server.
    pub fn on_review(&self, decide: impl Fn(&Value) -> bool + Send + Sync + 'static) {
        self.authorize(move |_, review| Decision {
            allowed: decide(review),
            reason: String::new(),
        });
    }

    /// Answers access reviews with a reason. The decision may ask the server what its RBAC says (`Self::rbac`).
    pub fn authorize(&self, decide: impl Fn(&FakeApi, &Value) -> Decision + Send + Sync + 'static) {
        *lock(&self.0.review) = Arc::new(decide);
    }

    /// Decides on `create`, `update` and `delete` of an object. Must not call this server.
    pub fn on_admission(
        &self,
        decide: impl Fn(&str, &Value) -> Result<(), (u16, String)> + Send + Sync + 'static,
    ) {
        *lock(&self.0.admission) = Some(Arc::new(decide));
    }

    // ---- faults ----

    /// Refuses the next matching call; nothing is done.
    pub fn fail_next(&self, chosen: Matcher, status: u16) {
        self.harm(chosen, Harm::Refuse(status), Some(1));
    }

    /// Harms this many matching calls, or (`None`) all until [`Self::heal`].
    pub fn harm(&self, chosen: Matcher, harm: Harm, times: Option<u32>) {
        self.control().add_rule(chosen, harm, times);
    }

    /// Refuses the `k`-th write from now (1 is the next); nothing is done.
    pub fn fail_write(&self, k: u64, status: u16) {
        self.control().refuse_write(k, status);
    }

    /// Carries out the `k`-th write from now (1 is the next) and never answers it. From then on nothing that the same
    /// client sends is carried out or answered, as if its process were gone; the Notify fires so that the test can
    /// abort it.
    pub fn cut_after_write(&self, k: u64) -> Arc<Notify> {
        self.control().cut_write(k)
    }

    /// Takes back the faults on calls that have not struck yet.
    pub fn heal(&self) {
        self.control().heal();
    }

    /// No watch hears of the `n`-th change from now (1 is the next).
    pub fn drop_event(&self, n: usize) {
        self.deliver(n, Delivery::Never);
    }

    /// Every watch hears twice of the `n`-th change from now.
    pub fn double_event(&self, n: usize) {
        self.deliver(n, Delivery::Twice);
    }

    /// Watches hear of the `n`-th change from now this much later, behind newer ones.
    pub fn delay_event(&self, n: usize, by: Duration) {
        self.deliver(n, Delivery::Late(by));
    }

    fn deliver(&self, n: usize, delivery: Delivery) {
        let mut state = self.state();
        let index = state.history.len() + n.saturating_sub(1);
        state.deliveries.insert(index, delivery);
    }

    /// Forgets the past: watches that resume below the present resourceVersion, and lists under way, get 410.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.version;
    }

    /// Ends every open watch, as a server that restarts does.
    pub fn end_watches(&self) {
        self.control().ended_watches += 1;
        self.announce(&self.state());
    }

    /// Starts what kube-controller-manager does for Jobs, owners and namespaces.
    pub fn with_controller_manager(&self) {
        tokio::spawn(controllers::run(self.clone()));
    }

    // ---- inside ----

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.0.control)
    }

    fn changes(&self) -> channel::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn watch_generation(&self) -> u64 {
        self.control().ended_watches
    }

    fn announce(&self, state: &State) {
        self.0.changed.send_replace(state.version);
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no handler panics while it holds this lock")
}

fn find(state: &State, resource: &str, namespace: &str, name: &str) -> Option<Key> {
    let mut keys = state.objects.keys();
    keys.find(|k| k.resource == resource && k.namespace == namespace && k.name == name)
        .cloned()
}
