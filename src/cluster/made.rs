//! Notices when somebody changes what Stint made. Events are held against what was seen before, so that what Stint itself
//! creates, what the server writes into a status, and labels or annotations of other tools bring nobody to look.

use crate::api::names::{GRANT, GROUP, MANAGED_BY};
use crate::cluster::stores::{AccessRef, Change};
use crate::cluster::watches::{On, To};
use crate::domain::request::Place;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::core::{Resource, ResourceExt};
use kube::runtime::watcher::Event;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// What was seen of the managed objects of one kind, as hashes: a few bytes each. A new list replaces the old one only when
/// it is whole.
#[derive(Debug, Default)]
struct Seen {
    now: HashMap<u64, u64>,
    listing: HashMap<u64, u64>,
}

impl Seen {
    /// Follows a watch. Returns whether a managed object that was seen before is not what it was; that it is gone is told
    /// elsewhere.
    fn changed<K: ResourceExt>(&mut self, event: &Event<K>, content: fn(&K) -> String) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(object) => {
                let (key, print) = (key(object), print(object, content));
                let old = self.now.get(&key).copied();
                self.listing.extend(print.map(|print| (key, print)));
                old.is_some() && old != print
            }
            Event::InitDone => {
                self.now = std::mem::take(&mut self.listing);
                false
            }
            Event::Apply(object) => {
                let (key, print) = (key(object), print(object, content));
                let old = match print {
                    Some(print) => self.now.insert(key, print),
                    None => self.now.remove(&key),
                };
                old.is_some() && old != print
            }
            Event::Delete(object) => {
                self.now.remove(&key(object));
                false
            }
        }
    }
}

fn key(object: &impl ResourceExt) -> u64 {
    hash(&(object.namespace(), object.name_any()))
}

/// What of a managed object is Stint's: its own label and annotations, the owners, and the content.
fn print<K: ResourceExt>(object: &K, content: fn(&K) -> String) -> Option<u64> {
    let grant = object.labels().get(GRANT)?;
    let own = |key: &&String| key.starts_with(GROUP);
    let annotations = object.annotations().iter();
    let annotations: Vec<_> = annotations.filter(|(key, _)| own(key)).collect();
    let owners = object.owner_references().iter();
    let owners: Vec<_> = owners.map(|o| (&o.kind, &o.name, &o.uid)).collect();
    let manager = object.labels().get(MANAGED_BY);
    Some(hash(&(
        grant,
        manager,
        annotations,
        owners,
        content(object),
    )))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A watch that also brings the request of what was changed before the controller.
pub(super) fn noticed<K>(to: &To, content: fn(&K) -> String, inner: On<K>) -> On<K>
where
    K: Resource + 'static,
{
    let to = to.clone();
    let seen: Mutex<Seen> = Mutex::default();
    Box::new(move |event| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = seen.changed(event, content);
        drop(seen);
        let (Event::Apply(object) | Event::InitApply(object), true) = (event, changed) else {
            return inner(event);
        };
        // Asked before the change is stored: it may hide whose the object is.
        let place = Place::of(object.namespace());
        let owner = to.stores.access_of(&place, &object.name_any());
        inner(event);
        to.made(object);
        if let Some(name) = owner {
            (to.tell)(Change::Access(AccessRef { place, name }));
        }
    })
}

/// Of a Job only its metadata are watched; a change of its spec shows in the generation.
pub(super) fn generation<K: ResourceExt>(object: &K) -> String {
    object
        .meta()
        .generation
        .map(|generation| generation.to_string())
        .unwrap_or_default()
}

pub(super) fn of_role(role: &Role) -> String {
    format!("{:?}", role.rules)
}

pub(super) fn of_cluster_role(role: &ClusterRole) -> String {
    format!("{:?} {:?}", role.rules, role.aggregation_rule)
}

pub(super) fn of_binding(binding: &RoleBinding) -> String {
    format!("{:?} {:?}", binding.role_ref, binding.subjects)
}

pub(super) fn of_cluster_binding(binding: &ClusterRoleBinding) -> String {
    format!("{:?} {:?}", binding.role_ref, binding.subjects)
}
