//! Requests by what they depend on, so that a change finds exactly those that it concerns.

use crate::api::workload_access::RoleKind;
use crate::cluster::standing::RoleKey;
use crate::cluster::stores::AccessRef;
use crate::domain::oversight::awaits_review;
use crate::domain::request::{AccessRequest, Place, Terms};
use kube::core::{DeserializeGuard, Resource, ResourceExt};
use kube::runtime::watcher::Event;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A kind of object in a namespace, as `until` and `workloadRef` refer to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watched {
    /// API group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
}

/// Who an event concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Touched {
    /// This account, `namespace/name`.
    Account(String),
    /// Every account of this namespace.
    AccountsOf(String),
    /// Every account.
    AllAccounts,
    /// Whoever copies this role.
    Role(RoleKey),
    /// Every request of this namespace.
    Namespace(String),
    /// Whoever refers to the object of this name by `until` or `workloadRef`.
    Object(Watched, String),
    /// Whoever refers to any object of this kind there.
    Objects(Watched),
}

/// Requests of one kind that have not ended, and those given by break-glass that nobody has reviewed yet.
#[derive(Debug, Default)]
pub struct AccessIndex {
    now: Index,
    listing: Index,
}

#[derive(Debug, Default)]
struct Index {
    keys: HashMap<AccessRef, Keys>,
    by_home: BTreeMap<String, BTreeSet<AccessRef>>,
    by_account: BTreeMap<String, BTreeSet<AccessRef>>,
    by_role: HashMap<RoleKey, BTreeSet<AccessRef>>,
    /// And then by the name of the object.
    by_object: HashMap<Watched, BTreeMap<String, BTreeSet<AccessRef>>>,
}

/// What one request depends on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Keys {
    /// The namespace whose labels policies select by.
    home: Option<String>,
    account: Option<String>,
    role: Option<RoleKey>,
    /// The objects of `until` and `workloadRef`.
    objects: Vec<(Watched, String)>,
}

impl AccessIndex {
    /// Follows a watch; a new list replaces the old one only when it is whole.
    pub fn follow<K>(&mut self, event: &Event<DeserializeGuard<K>>)
    where
        K: AccessRequest + Resource<DynamicType = ()>,
    {
        match event {
            Event::Init => self.listing = Index::default(),
            Event::InitApply(object) => self.listing.insert(object),
            Event::InitDone => self.now = std::mem::take(&mut self.listing),
            Event::Apply(object) => self.now.insert(object),
            Event::Delete(object) => self.now.remove(&AccessRef::of(object)),
        }
    }

    /// The requests that a change concerns.
    pub fn concerned(&self, touched: &Touched) -> Vec<AccessRef> {
        let index = &self.now;
        let of_account = |account: &str| index.by_account.get(account).into_iter().flatten();
        match touched {
            Touched::Account(account) => of_account(account).cloned().collect(),
            Touched::AccountsOf(namespace) => {
                let prefix = format!("{namespace}/");
                let from = index.by_account.range(prefix.clone()..);
                let accounts = from.take_while(|(account, _)| account.starts_with(&prefix));
                accounts.flat_map(|(_, names)| names).cloned().collect()
            }
            Touched::AllAccounts => index.keys.keys().cloned().collect(),
            Touched::Role(role) => {
                let names = index.by_role.get(role).into_iter().flatten();
                names.cloned().collect()
            }
            Touched::Object(watched, name) => {
                let of_kind = index.by_object.get(watched);
                let names = of_kind.and_then(|objects| objects.get(name));
                names.into_iter().flatten().cloned().collect()
            }
            Touched::Objects(watched) => {
                let of_kind = index.by_object.get(watched).into_iter();
                of_kind
                    .flat_map(BTreeMap::values)
                    .flatten()
                    .cloned()
                    .collect()
            }
            Touched::Namespace(namespace) => {
                let names = index.by_home.get(namespace).into_iter().flatten();
                names.cloned().collect()
            }
        }
    }

    /// The kinds and namespaces of the objects that they refer to.
    pub fn referenced(&self) -> HashSet<Watched> {
        self.now.by_object.keys().cloned().collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<AccessRef> {
        self.now.keys.keys().cloned().collect()
    }
}

impl Index {
    fn insert<K>(&mut self, object: &DeserializeGuard<K>)
    where
        K: AccessRequest + Resource<DynamicType = ()>,
    {
        let name = AccessRef::of(object);
        let status = object.0.as_ref().ok().and_then(|a| a.view().status);
        if status.is_some_and(|s| s.end_reason.is_some() && !awaits_review(s)) {
            return self.remove(&name);
        }
        let keys = keys(object);
        if self.keys.get(&name) == Some(&keys) {
            return;
        }
        self.remove(&name);
        if let Some(home) = &keys.home {
            add(&mut self.by_home, home, &name);
        }
        if let Some(account) = &keys.account {
            add(&mut self.by_account, account, &name);
        }
        if let Some(role) = &keys.role {
            let of_role = self.by_role.entry(role.clone()).or_default();
            of_role.insert(name.clone());
        }
        for (watched, object) in &keys.objects {
            let objects = self.by_object.entry(watched.clone()).or_default();
            add(objects, object, &name);
        }
        self.keys.insert(name, keys);
    }

    fn remove(&mut self, name: &AccessRef) {
        let Some(keys) = self.keys.remove(name) else {
            return;
        };
        if let Some(home) = keys.home {
            take(&mut self.by_home, &home, name);
        }
        if let Some(account) = keys.account {
            take(&mut self.by_account, &account, name);
        }
        if let Some(role) = keys.role
            && let Some(of_role) = self.by_role.get_mut(&role)
        {
            of_role.remove(name);
            if of_role.is_empty() {
                self.by_role.remove(&role);
            }
        }
        for (watched, object) in keys.objects {
            if let Some(objects) = self.by_object.get_mut(&watched) {
                take(objects, &object, name);
                if objects.is_empty() {
                    self.by_object.remove(&watched);
                }
            }
        }
    }
}

fn add(map: &mut BTreeMap<String, BTreeSet<AccessRef>>, key: &str, name: &AccessRef) {
    let names = map.entry(key.to_owned()).or_default();
    names.insert(name.clone());
}

fn take(map: &mut BTreeMap<String, BTreeSet<AccessRef>>, key: &str, name: &AccessRef) {
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}

/// An object that does not decode depends on nothing that could be told but its namespace.
fn keys<K>(object: &DeserializeGuard<K>) -> Keys
where
    K: AccessRequest + Resource<DynamicType = ()>,
{
    let Ok(access) = &object.0 else {
        return Keys {
            home: object.namespace(),
            ..Keys::default()
        };
    };
    let view = access.view();
    let terms = view.spec.terms();
    let place = view.place();
    let of = terms.account.namespace.as_deref().or(place.namespace());
    let role = terms.role_ref.map(|role| RoleKey {
        namespace: match (&place, role.kind) {
            (Place::Namespace(own), RoleKind::Role) => Some(own.clone()),
            _ => None,
        },
        name: role.name.clone(),
    });
    Keys {
        home: place.namespace().or(of).map(str::to_owned),
        account: of.map(|of| format!("{of}/{}", terms.account.name)),
        role,
        objects: objects(&terms, &place, of),
    }
}

fn objects(terms: &Terms<'_>, place: &Place, of: Option<&str>) -> Vec<(Watched, String)> {
    let object = |api_version: &str, kind: &str, namespace: &str, name: &str| {
        let watched = Watched {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
        };
        (watched, name.to_owned())
    };
    let until = terms.until.zip(place.namespace());
    let until = until.map(|(u, own)| object(&u.api_version, &u.kind, own, &u.name));
    let workload = terms.workload.zip(of);
    let workload =
        workload.map(|(w, of)| object(w.kind.api_version(), w.kind.as_str(), of, &w.name));
    until.into_iter().chain(workload).collect()
}
