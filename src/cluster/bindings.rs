//! The managed RoleBindings and ClusterRoleBindings as they describe themselves, by UID and by account.

use crate::api::names::{
    GRANT, HELD_SINCE, NOT_AFTER, POLICY, SERVICE_ACCOUNT, SERVICE_ACCOUNT_UID, WORKLOAD_ACCESS,
};
use crate::domain::request::Place;
use jiff::Timestamp;
use kube::core::ResourceExt;
use kube::runtime::watcher::Event;
use std::collections::{BTreeSet, HashMap};

/// What a managed binding says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Where it is.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version of it that says this.
    pub resource_version: Option<String>,
    /// UID of the request it was made for.
    pub grant: String,
    /// Name of the request.
    pub access: Option<String>,
    /// When it ends. A binding that does not say so legibly ends at once.
    pub not_after: Option<Timestamp>,
    /// `namespace/name` of the account.
    pub account: Option<String>,
    /// UID of the account.
    pub account_uid: Option<String>,
    /// The policy that admitted it.
    pub policy: Option<String>,
    /// Since when the account holds grants of the policy without a break.
    pub held_since: Option<Timestamp>,
}

impl Binding {
    /// Whether another version of the same binding says the same.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let resource_version = self.resource_version.clone();
        *self
            == Self {
                resource_version,
                ..other.clone()
            }
    }

    /// Reads labels and annotations.
    pub fn read(object: &impl ResourceExt) -> Self {
        let annotation = |key: &str| object.annotations().get(key).cloned();
        Self {
            place: Place::of(object.namespace()),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version(),
            grant: object.labels().get(GRANT).cloned().unwrap_or_default(),
            access: annotation(WORKLOAD_ACCESS),
            not_after: annotation(NOT_AFTER).and_then(|t| t.parse().ok()),
            account: annotation(SERVICE_ACCOUNT),
            account_uid: annotation(SERVICE_ACCOUNT_UID),
            policy: annotation(POLICY),
            held_since: annotation(HELD_SINCE).and_then(|t| t.parse().ok()),
        }
    }
}

/// The bindings of one kind. A new list replaces the old one only when it is whole.
#[derive(Debug, Default)]
pub struct Bindings {
    now: Index,
    listing: Index,
}

#[derive(Debug, Default)]
struct Index {
    by_uid: HashMap<String, Binding>,
    by_account: HashMap<String, BTreeSet<String>>,
}

impl Bindings {
    /// Follows a watch of all bindings of the kind.
    pub fn follow<K: ResourceExt>(&mut self, event: &Event<K>) {
        let ours = |object: &K| object.labels().contains_key(GRANT);
        match event {
            Event::Init => self.listing = Index::default(),
            Event::InitApply(object) if ours(object) => self.listing.insert(Binding::read(object)),
            Event::InitApply(_) => {}
            Event::InitDone => self.now = std::mem::take(&mut self.listing),
            Event::Apply(object) if ours(object) => self.now.insert(Binding::read(object)),
            Event::Apply(object) | Event::Delete(object) => {
                self.now.remove(&object.uid().unwrap_or_default());
            }
        }
    }

    /// The binding with this UID.
    pub fn by_uid(&self, uid: &str) -> Option<Binding> {
        self.now.by_uid.get(uid).cloned()
    }

    /// Name of the request that the binding of this name was made for. Looks at every binding, so only for what is rare.
    pub fn access_of(&self, place: &Place, name: &str) -> Option<String> {
        let mut all = self.now.by_uid.values();
        let found = all.find(|b| b.name == name && b.place == *place)?;
        found.access.clone()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Binding> {
        self.now.by_uid.values().cloned().collect()
    }

    /// The bindings of grants other than `grant` that give `account` something beyond `now`.
    pub fn others(&self, account: &str, grant: &str, now: Timestamp) -> Vec<Binding> {
        let uids = self.now.by_account.get(account).into_iter().flatten();
        uids.filter_map(|uid| self.now.by_uid.get(uid))
            .filter(|b| b.grant != grant && b.not_after.is_some_and(|end| end > now))
            .cloned()
            .collect()
    }
}

impl Index {
    fn insert(&mut self, binding: Binding) {
        self.remove(&binding.uid);
        if let Some(account) = binding.account.clone() {
            let uids = self.by_account.entry(account).or_default();
            uids.insert(binding.uid.clone());
        }
        self.by_uid.insert(binding.uid.clone(), binding);
    }

    fn remove(&mut self, uid: &str) {
        let Some(account) = self.by_uid.remove(uid).and_then(|b| b.account) else {
            return;
        };
        if let Some(uids) = self.by_account.get_mut(&account) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_account.remove(&account);
            }
        }
    }
}
