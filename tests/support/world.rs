//! A world in virtual time: the in-process API server, and operators that live and die in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stint::api::{ClusterWorkloadAccess, WorkloadAccess};
use stint::app::{Granting, Shutdown, Tasks, core};
use stint::clock::Clock;
use stint::cluster::key_ring::KeyRing;
use stint::cluster::lease::Election;
use stint::domain::completion::{Kind, default_kinds};
use stint::domain::guard::{Exempt, Guarding, Mode};
use stint::domain::lease::Terms;
use stint::domain::receipt::{Claims, KEY_LENGTH, Keys, Requester};
use stint::domain::request::AccessRequest;
use stint::ops::metrics::Metrics;
use stint::ops::readiness::{Liveness, Readiness};
use stint::webhook::admission::Admission;

use super::fake_api::{Decision, FakeApi};

/// Where the requests live.
pub const NAMESPACE: &str = "payments";

/// The clock of the virtual API server, off by so many seconds.
struct VirtualClock(FakeApi, Arc<AtomicI64>);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.0.now() + SignedDuration::from_secs(self.1.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        let since = self.0.now().duration_since(Timestamp::UNIX_EPOCH);
        since.try_into().unwrap()
    }
}

/// The Lease of the operators that elect a leader.
pub const LEASE: &str = "stint";
/// Name of the Secret with the receipt keys.
pub const RECEIPT_SECRET: &str = "stint-receipt-keys";

/// An API server with a namespace, an account, a policy and a ceiling.
pub struct World {
    /// The server.
    pub api: FakeApi,
    /// Whether its operators grant rights in the whole cluster.
    pub cluster_grants: bool,
    /// Whether its operators can load the receipt keys.
    pub receipt_keys: bool,
    /// Kinds that `until` may refer to.
    pub until_kinds: Vec<Kind>,
    /// How the guard on plain RBAC is set.
    pub guarding: Guarding,
    /// How its operators elect the one that decides; without, each decides.
    pub election: Option<Terms>,
    keys: Keys,
    clock_off: Arc<AtomicI64>,
}

/// A running operator. Dropping it is a SIGKILL: nothing is finished, nothing is written.
pub struct Operator {
    /// Its webhook's handler.
    pub admission: Admission,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// Its receipt keys.
    pub keys: Arc<KeyRing>,
    tasks: Tasks,
    shutdown: Shutdown,
    readiness: Readiness,
}

impl Operator {
    /// Whether it calls itself ready.
    pub fn ready(&self) -> bool {
        self.readiness.pending().is_empty()
    }

    /// What it says although it is ready.
    pub fn warnings(&self) -> String {
        self.readiness.report().warnings.join("\n")
    }

    /// Whether it calls itself the leader.
    pub fn leads(&self) -> bool {
        let text = self.metrics.encode().unwrap();
        text.lines().any(|line| line == "stint_leader 1")
    }

    /// SIGTERM: it finishes what it has begun.
    pub async fn terminated(mut self) {
        self.shutdown.drain.cancel();
        let mut left = vec!["controller", "lease"];
        while !left.is_empty() {
            let ended = self.tasks.join_next().await.unwrap().unwrap();
            left.retain(|task| *task != ended);
        }
    }
}

impl World {
    /// Begins at noon.
    pub fn new() -> World {
        let api = FakeApi::new("2026-12-01T12:00:00Z".parse().unwrap());
        authorizer_behind(&api, Duration::ZERO);
        api.with_controller_manager();
        api.namespace(NAMESPACE, json!({"team": "payments"}));
        api.service_account(NAMESPACE, "migrator", json!({}));
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        api.seed(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "stint-grantable"}, "rules": rules
        }));
        api.seed(json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": "jobs"},
            "spec": {
                "namespaceSelector": {"matchLabels": {"team": "payments"}},
                "serviceAccounts": {"names": ["migrator"]},
                "allow": {"rules": rules},
                "limits": {"maxDuration": "24h"}
            }
        }));
        let keys = Keys::new(&[7; KEY_LENGTH], None).unwrap();
        World {
            api,
            cluster_grants: false,
            receipt_keys: true,
            until_kinds: default_kinds(),
            guarding: Guarding {
                default_mode: Mode::Audit,
                cluster: Some(Mode::Audit),
                exempt: Exempt {
                    operator: "system:serviceaccount:stint-system:stint".into(),
                    groups: vec!["system:masters".into()],
                    users: vec![],
                },
                reporting: None,
            },
            election: None,
            keys,
            clock_off: Arc::default(),
        }
    }

    /// Another replica made the receipt keys anew and signs with them from now on. Its operators know nothing of it yet.
    pub fn make_keys_anew(&mut self, key: [u8; KEY_LENGTH]) {
        self.keys = Keys::new(&key, None).unwrap();
        let current = STANDARD.encode(key);
        self.api.seed(json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": RECEIPT_SECRET, "namespace": "stint-system"}, "data": {"current": current}}));
    }

    /// The keys of its operators.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// From now on the authorizer works with a copy this old.
    pub fn authorizer_behind(&self, lag: Duration) {
        authorizer_behind(&self.api, lag);
    }

    /// Starts an operator, as a process of its own would.
    pub fn operator(&self) -> Operator {
        self.operator_as("system:serviceaccount:stint-system:stint")
    }

    /// The same under a user name of its own, by which faults can tell two of them apart.
    pub fn operator_as(&self, user: &str) -> Operator {
        let clock: Arc<dyn Clock> =
            Arc::new(VirtualClock(self.api.clone(), Arc::clone(&self.clock_off)));
        let client = self.api.client_as(user, &[]);
        let readiness = Readiness::new();
        let metrics = Arc::new(Metrics::new());
        let election = self.election.map(|terms| Election {
            namespace: "stint-system".into(),
            name: LEASE.into(),
            identity: user.into(),
            terms,
        });
        let granting = Granting {
            ceiling_role: "stint-grantable",
            namespace: "stint-system",
            receipt_secret: RECEIPT_SECRET,
            cluster_grants: self.cluster_grants,
            until_kinds: &self.until_kinds,
            guard: &self.guarding,
            election: election.as_ref(),
        };
        let core = core(&granting, &client, &clock, &metrics, &readiness);
        match self.receipt_keys {
            true => core.keys.set(Some(self.keys.clone())),
            // A gate that nobody opens.
            false => drop(readiness.gate("receipt-keys")),
        }
        let admission = core.admission();
        let keys = Arc::clone(&core.keys);
        let mut tasks = Tasks::new();
        let shutdown = Shutdown::default();
        core.spawn(
            &mut tasks,
            &shutdown,
            Liveness::new().heart("deadline-queue", Duration::from_secs(120)),
        );
        Operator {
            admission,
            metrics,
            keys,
            tasks,
            shutdown,
            readiness,
        }
    }

    /// Puts a request into the cluster as if it had just been admitted.
    pub fn admit(&self, name: &str, window: Value) {
        let mut object = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": name, "namespace": NAMESPACE, "generation": 1},
            "spec": {
                "serviceAccountRef": {"name": "migrator"},
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}],
                "reason": "a test"
            }
        });
        for (field, value) in window.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        self.api.seed(self.stamped(object));
    }

    /// The request with the receipt that the webhook would have given it.
    pub fn stamped(&self, object: Value) -> Value {
        let typed: WorkloadAccess = serde_json::from_value(object.clone()).unwrap();
        self.with_receipt(object, NAMESPACE, &typed)
    }

    /// The same for the whole cluster.
    pub fn stamped_wide(&self, object: Value) -> Value {
        let typed: ClusterWorkloadAccess = serde_json::from_value(object.clone()).unwrap();
        self.with_receipt(object, "", &typed)
    }

    fn with_receipt(
        &self,
        mut object: Value,
        namespace: &str,
        typed: &impl AccessRequest,
    ) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let claims = Claims {
            namespace: namespace.into(),
            name: Some(name),
            generate_name: None,
            spec_hash: typed.view().spec.hash(),
            requester: Requester {
                username: "alice".into(),
                uid: String::new(),
                groups: vec![],
            },
            at: self.api.now(),
            extended: None,
        };
        object["metadata"]["annotations"] = json!({"stint.dev/receipt": self.keys.sign(&claims)});
        object
    }

    /// Somebody labels the request, which brings it before the controller once more.
    pub fn touch(&self, name: &str) {
        let mut object = self.api.get("workloadaccesses", NAMESPACE, name).unwrap();
        object["metadata"]["labels"]["touched"] =
            self.api.now().as_millisecond().to_string().into();
        self.api.seed(object);
    }

    /// From now on the clock of its operators is off by this, while the API server's is right.
    pub fn set_clock_off(&self, by: SignedDuration) {
        self.clock_off.store(by.as_secs(), Ordering::SeqCst);
    }

    /// Lets virtual time pass.
    pub async fn pass(&self, length: SignedDuration) {
        tokio::time::sleep(Duration::try_from(length).unwrap()).await;
    }

    /// The reason of `Ready`.
    pub fn reason(&self, name: &str) -> String {
        let object = self.api.get("workloadaccesses", NAMESPACE, name).unwrap();
        object["status"]["conditions"][0]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// How many bindings, Roles and Jobs there are.
    pub fn made(&self) -> [usize; 3] {
        ["rolebindings", "roles", "jobs"].map(|kind| self.api.list(kind, NAMESPACE).len())
    }

    /// Watches over the invariant for ever: no binding more than `slack` outside the window that it names itself, and
    /// none without its deadline.
    pub async fn guard(&self, slack: SignedDuration) {
        loop {
            for binding in self.api.list("rolebindings", NAMESPACE) {
                let end = binding["metadata"]["annotations"]["stint.dev/not-after"]
                    .as_str()
                    .unwrap();
                let end: Timestamp = end.parse().unwrap();
                assert!(
                    self.api.now() <= end + slack,
                    "a binding outlived {end} at {}",
                    self.api.now()
                );
                let name = binding["metadata"]["name"].as_str().unwrap();
                let owner = &binding["metadata"]["ownerReferences"][0]["uid"];
                let job = self.api.get("jobs", NAMESPACE, name);
                let held = job.is_some_and(|job| job["metadata"]["uid"] == *owner);
                assert!(
                    held || self.api.now() >= end,
                    "a binding without its deadline"
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Everybody may `use` every policy; otherwise RBAC decides, by a copy this old.
fn authorizer_behind(api: &FakeApi, lag: Duration) {
    api.authorize(
        move |api, review| match review["spec"]["resourceAttributes"]["verb"] == "use" {
            true => Decision::allowed(),
            false => api.rbac(review, lag),
        },
    );
}

/// Runs `life` while the invariant is watched.
pub async fn guarded<T>(world: &World, life: impl Future<Output = T>) -> T {
    // The Job's grace, its TTL and the garbage collector's pace.
    let slack = SignedDuration::from_secs(8);
    tokio::select! {
        out = life => out,
        () = world.guard(slack) => unreachable!("the guard never ends"),
    }
}
