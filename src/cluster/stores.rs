//! Local copies of what decisions need, kept by watches (`watches`). Full objects only where their content is read.

use crate::api::{AccessApproval, AccessPolicy, ClusterWorkloadAccess, WorkloadAccess};
use crate::cluster::access_index::{AccessIndex, Watched};
use crate::cluster::approval_index::ApprovalIndex;
pub use crate::cluster::bindings::Binding;
use crate::cluster::bindings::Bindings;
use crate::cluster::standing::{RoleKey, Standing, Touched};
use crate::domain::covers::Ceiling;
use crate::domain::facts::{Held, HeldIn};
use crate::domain::grant::Account;
use crate::domain::policy::Policy;
use crate::domain::request::{Access, Place};
use crate::domain::rules::Rule;
use crate::domain::violation::{Problem, Violation, render_lines};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::core::{DeserializeGuard, PartialObjectMeta, Resource, ResourceExt};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Notify;

/// A WorkloadAccess as read from the cluster: one that does not decode must not stop the watch, and must not stay
/// granted either.
pub type GuardedAccess = DeserializeGuard<WorkloadAccess>;
/// The same for the whole cluster.
pub type GuardedWideAccess = DeserializeGuard<ClusterWorkloadAccess>;

/// Key of a request of either kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessRef {
    /// Where it is.
    pub place: Place,
    /// Its name.
    pub name: String,
}

impl AccessRef {
    /// The key of an object that was read as a request.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self {
            place: Place::of(object.namespace()),
            name: object.name_any(),
        }
    }

    /// The key in a store.
    pub fn object_ref<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        let key = ObjectRef::new(&self.name);
        match &self.place {
            Place::Namespace(namespace) => key.within(namespace),
            Place::Cluster => key,
        }
    }
}

/// What changed, in the words of those who must react.
#[derive(Debug)]
pub enum Change {
    /// This request, or something made for it.
    Access(AccessRef),
    /// A request is gone; its UID, and how it was when it went if it could be read.
    AccessDeleted(String, Option<Box<Access>>),
    /// An account appeared or changed: `namespace/name` and its UID.
    Account(String, String),
    /// An account is gone: `namespace/name`.
    AccountDeleted(String),
    /// This policy was read, with what became of it.
    Policy(Box<AccessPolicy>, CompiledPolicy),
    /// Something that these requests depend on.
    Touched(Vec<Touched>),
    /// Something that every request depends on: the ceiling, or a whole new list.
    Everything,
    /// A managed binding appeared, changed or went.
    Binding(Box<Binding>, Presence),
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
    /// Requests for a namespace.
    pub accesses: Store<GuardedAccess>,
    /// Requests for the whole cluster.
    pub wide_accesses: Store<GuardedWideAccess>,
    /// Namespaces, metadata only.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Accounts, metadata only.
    pub accounts: Store<PartialObjectMeta<ServiceAccount>>,
    pub(super) bindings: RwLock<Bindings>,
    pub(super) wide_bindings: RwLock<Bindings>,
    pub(super) standing: RwLock<Standing>,
    pub(super) index: RwLock<AccessIndex>,
    pub(super) wide_index: RwLock<AccessIndex>,
    /// Told whenever what requests refer to may have changed.
    pub(super) references_changed: Notify,
    pub(super) policies: RwLock<Policies>,
    pub(super) approvals: RwLock<ApprovalIndex>,
    pub(super) ceiling: RwLock<Ceilings>,
}

/// A policy ready to decide, or why it cannot be used.
pub type CompiledPolicy = Result<Arc<Policy>, Vec<Violation>>;

/// Policies by name; what cannot be compiled says why. A new list replaces the old one only when it is whole: a policy
/// that is merely not listed yet must not end its grants.
#[derive(Default)]
pub(super) struct Policies {
    pub(super) now: BTreeMap<String, CompiledPolicy>,
    pub(super) listing: BTreeMap<String, CompiledPolicy>,
    suspended: BTreeSet<String>,
    listing_suspended: BTreeSet<String>,
}

impl Policies {
    /// Follows the kill switches, which work also on a policy that cannot be compiled.
    pub(super) fn follow_switch(&mut self, event: &Event<DeserializeGuard<AccessPolicy>>) {
        let is_on = |object: &DeserializeGuard<AccessPolicy>| {
            let policy = object.0.as_ref();
            policy.is_ok_and(|policy| policy.spec.suspended == Some(true))
        };
        match event {
            Event::Init => self.listing_suspended.clear(),
            Event::InitApply(object) if is_on(object) => {
                self.listing_suspended.insert(object.name_any());
            }
            Event::InitApply(_) => {}
            Event::InitDone => self.suspended = std::mem::take(&mut self.listing_suspended),
            Event::Apply(object) if is_on(object) => {
                self.suspended.insert(object.name_any());
            }
            Event::Apply(object) | Event::Delete(object) => {
                self.suspended.remove(&object.name_any());
            }
        }
    }
}

/// The ceiling, if its ClusterRole exists; replaced by a new list only when that is whole.
#[derive(Default)]
pub(super) struct Ceilings {
    pub(super) now: Option<KnownCeiling>,
    pub(super) listing: Option<KnownCeiling>,
}

/// The ceiling and the rules that it was compiled from.
pub(super) type KnownCeiling = (Vec<Rule>, Arc<Ceiling>);

/// Receives every change.
pub type Listener = Arc<dyn Fn(Change) + Send + Sync>;

impl Stores {
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

    /// Whether there is a policy of this name.
    pub fn has_policy(&self, name: &str) -> bool {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        policies.now.contains_key(name)
    }

    /// The approvals that say they are about the request with this UID; who made them is still to be verified.
    pub fn approvals(&self, request: &str) -> Vec<Arc<AccessApproval>> {
        let approvals = &self.approvals;
        let approvals = approvals.read().unwrap_or_else(PoisonError::into_inner);
        approvals.of(request)
    }

    /// Whether the kill switch of this policy is on.
    pub fn suspended(&self, policy: &str) -> bool {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        policies.suspended.contains(policy)
    }

    /// What Stint may hand out, if the ClusterRole that says so exists.
    pub fn ceiling(&self) -> Option<Arc<Ceiling>> {
        self.ceiling
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .now
            .as_ref()
            .map(|(_, ceiling)| Arc::clone(ceiling))
    }

    /// What the account holds in the place by bindings other than those of the grant `except`.
    pub fn held(&self, account: &Account, place: &Place, except: &str) -> Vec<Held> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.held(account, place, except)
    }

    /// What the account holds in single namespaces, beside the grant `except`.
    pub fn held_in(&self, account: &Account, except: &str) -> Vec<HeldIn> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.held_in(account, except)
    }

    /// Some of the bindings that name the account in the place, beside those of the grant `except`.
    pub fn bindings_of(&self, account: &Account, place: &Place, except: &str) -> Vec<String> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.bindings_of(account, place, except)
    }

    /// Some of the bindings that give this role to accounts without an end.
    pub fn standing_bindings(&self, role: &RoleKey) -> Vec<String> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.bindings_to(role)
    }

    /// The requests that a change concerns, of those that have not ended.
    pub fn concerned(&self, touched: &Touched) -> Vec<AccessRef> {
        self.in_both_indexes(|index| index.concerned(touched))
    }

    /// Every request that has not ended.
    pub fn unended(&self) -> Vec<AccessRef> {
        self.in_both_indexes(AccessIndex::all)
    }

    /// The kinds and namespaces of the objects that these refer to; requests for the whole cluster refer to none.
    pub(super) fn referenced(&self) -> HashSet<Watched> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.referenced()
    }

    fn in_both_indexes(&self, ask: impl Fn(&AccessIndex) -> Vec<AccessRef>) -> Vec<AccessRef> {
        let both = [&self.index, &self.wide_index];
        let answers = both.map(|i| ask(&i.read().unwrap_or_else(PoisonError::into_inner)));
        answers.concat()
    }

    /// The managed bindings.
    pub fn bindings(&self) -> Vec<Binding> {
        self.in_both_bindings(Bindings::all)
    }

    /// The bindings of grants other than `grant` that give `account` something beyond `now`.
    pub fn others(&self, account: &str, grant: &str, now: jiff::Timestamp) -> Vec<Binding> {
        self.in_both_bindings(|bindings| bindings.others(account, grant, now))
    }

    /// Name of the request that the binding of this name was made for, and with it all that shares the name.
    pub(super) fn access_of(&self, place: &Place, name: &str) -> Option<String> {
        let bindings = match place {
            Place::Namespace(_) => &self.bindings,
            Place::Cluster => &self.wide_bindings,
        };
        let bindings = bindings.read().unwrap_or_else(PoisonError::into_inner);
        bindings.access_of(place, name)
    }

    fn in_both_bindings(&self, ask: impl Fn(&Bindings) -> Vec<Binding>) -> Vec<Binding> {
        let both = [&self.bindings, &self.wide_bindings];
        let answers = both.map(|b| ask(&b.read().unwrap_or_else(PoisonError::into_inner)));
        answers.concat()
    }

    /// Whether a request with this UID is known.
    pub fn has_access(&self, key: &AccessRef, uid: &str) -> bool {
        let known = match key.place {
            Place::Namespace(_) => self.accesses.get(&key.object_ref()).and_then(|a| a.uid()),
            Place::Cluster => self
                .wide_accesses
                .get(&key.object_ref())
                .and_then(|a| a.uid()),
        };
        known.as_deref() == Some(uid)
    }

    /// All requests, also those that have ended.
    pub fn requests(&self) -> Vec<AccessRef> {
        let namespaced = self.accesses.state();
        let wide = self.wide_accesses.state();
        let keys = namespaced.iter().map(|access| AccessRef::of(&**access));
        keys.chain(wide.iter().map(|access| AccessRef::of(&**access)))
            .collect()
    }

    /// The UIDs of all requests.
    pub fn access_uids(&self) -> HashSet<String> {
        let namespaced = self.accesses.state();
        let wide = self.wide_accesses.state();
        let uids = namespaced.iter().filter_map(|access| access.uid());
        uids.chain(wide.iter().filter_map(|access| access.uid()))
            .collect()
    }

    /// The namespaces that one of these policies selects.
    pub(super) fn selected_by(&self, policies: &[Arc<Policy>]) -> Vec<Touched> {
        let namespaces = self.namespaces.state();
        namespaces
            .iter()
            .filter(|n| policies.iter().any(|p| p.selects_namespace(n.labels())))
            .map(|n| Touched::Namespace(n.name_any()))
            .collect()
    }
}

pub(super) fn compile_policy(object: &DeserializeGuard<AccessPolicy>) -> CompiledPolicy {
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
pub(super) fn compile_ceiling(role: &ClusterRole) -> Option<KnownCeiling> {
    let rules: Vec<Rule> = role.rules.iter().flatten().map(Rule::from).collect();
    let ceiling = Arc::new(Ceiling::compile(&rules));
    (!rules.is_empty()).then_some((rules, ceiling))
}
