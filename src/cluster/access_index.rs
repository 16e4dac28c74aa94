//! Requests by what they depend on, so that a change finds exactly those that it concerns.

use crate::api::workload_access::RoleKind;
use crate::cluster::standing::{RoleKey, Touched};
use crate::cluster::stores::{AccessRef, GuardedAccess};
use kube::core::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Requests that have not ended.
#[derive(Debug, Default)]
pub struct AccessIndex {
    now: Index,
    listing: Index,
}

/// `namespace/name` of a request.
type Name = (String, String);

#[derive(Debug, Default)]
struct Index {
    keys: HashMap<Name, Keys>,
    by_namespace: BTreeMap<String, BTreeSet<Name>>,
    by_account: BTreeMap<String, BTreeSet<Name>>,
    by_role: HashMap<RoleKey, BTreeSet<Name>>,
}

/// What one request depends on.
#[derive(Debug, PartialEq, Eq)]
struct Keys {
    account: Option<String>,
    role: Option<RoleKey>,
}

impl AccessIndex {
    /// Follows a watch; a new list replaces the old one only when it is whole.
    pub fn follow(&mut self, event: &Event<GuardedAccess>) {
        match event {
            Event::Init => self.listing = Index::default(),
            Event::InitApply(object) => self.listing.insert(object),
            Event::InitDone => self.now = std::mem::take(&mut self.listing),
            Event::Apply(object) => self.now.insert(object),
            Event::Delete(object) => self.now.remove(&name(object)),
        }
    }

    /// The requests that a change concerns.
    pub fn concerned(&self, touched: &Touched) -> Vec<AccessRef> {
        let index = &self.now;
        let of_account = |account: &str| index.by_account.get(account).into_iter().flatten();
        match touched {
            Touched::Account(account) => of_account(account).map(reference).collect(),
            Touched::AccountsOf(namespace) => {
                let prefix = format!("{namespace}/");
                let from = index.by_account.range(prefix.clone()..);
                let accounts = from.take_while(|(account, _)| account.starts_with(&prefix));
                accounts
                    .flat_map(|(_, names)| names)
                    .map(reference)
                    .collect()
            }
            Touched::AllAccounts => index.keys.keys().map(reference).collect(),
            Touched::Role(role) => {
                let names = index.by_role.get(role).into_iter().flatten();
                names.map(reference).collect()
            }
            Touched::Namespace(namespace) => {
                let names = index.by_namespace.get(namespace).into_iter().flatten();
                names.map(reference).collect()
            }
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<AccessRef> {
        self.now.keys.keys().map(reference).collect()
    }
}

impl Index {
    fn insert(&mut self, object: &GuardedAccess) {
        let name = name(object);
        let status = object.0.as_ref().ok().and_then(|a| a.status.as_ref());
        if status.is_some_and(|s| s.end_reason.is_some()) {
            return self.remove(&name);
        }
        let keys = keys(object, &name.0);
        if self.keys.get(&name) == Some(&keys) {
            return;
        }
        self.remove(&name);
        add(&mut self.by_namespace, &name.0, &name);
        if let Some(account) = &keys.account {
            add(&mut self.by_account, account, &name);
        }
        if let Some(role) = &keys.role {
            let of_role = self.by_role.entry(role.clone()).or_default();
            of_role.insert(name.clone());
        }
        self.keys.insert(name, keys);
    }

    fn remove(&mut self, name: &Name) {
        let Some(keys) = self.keys.remove(name) else {
            return;
        };
        take(&mut self.by_namespace, &name.0, name);
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
    }
}

fn add(map: &mut BTreeMap<String, BTreeSet<Name>>, key: &str, name: &Name) {
    let names = map.entry(key.to_owned()).or_default();
    names.insert(name.clone());
}

fn take(map: &mut BTreeMap<String, BTreeSet<Name>>, key: &str, name: &Name) {
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}

fn name(object: &GuardedAccess) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn reference((namespace, name): &Name) -> AccessRef {
    ObjectRef::new(name).within(namespace)
}

/// An object that does not decode depends on nothing that could be told.
fn keys(object: &GuardedAccess, namespace: &str) -> Keys {
    let Ok(access) = &object.0 else {
        return Keys {
            account: None,
            role: None,
        };
    };
    let account = &access.spec.service_account_ref;
    let of = account.namespace.as_deref().unwrap_or(namespace);
    let role = access.spec.role_ref.as_ref().map(|role| RoleKey {
        namespace: (role.kind == RoleKind::Role).then(|| namespace.to_owned()),
        name: role.name.clone(),
    });
    Keys {
        account: Some(format!("{of}/{}", account.name)),
        role,
    }
}
