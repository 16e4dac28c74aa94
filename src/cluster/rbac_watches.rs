//! The watches of roles and bindings: into the index of what accounts hold, and what is special about some of them.

use crate::api::names::GRANT;
use crate::cluster::bindings::{Binding, Bindings};
use crate::cluster::standing::RoleKey;
use crate::cluster::stores::{Change, Presence, Stores, compile_ceiling};
use crate::cluster::watches::{On, To};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::core::{Resource, ResourceExt};
use kube::runtime::watcher::Event;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError, RwLock};

pub(super) fn on_cluster_role(to: &To, ceiling_role: &str) -> On<ClusterRole> {
    let (ceiling, ceiling_role) = (to.clone(), ceiling_role.to_owned());
    let roles = roles::<ClusterRole>(to, false, |role| role.rules.as_deref());
    Box::new(move |event| {
        roles(event);
        if let Event::Delete(object) = event {
            ceiling.made(object);
        }
        // Every other ClusterRole of the cluster comes by here too.
        if let Event::Apply(role) | Event::InitApply(role) | Event::Delete(role) = event
            && role.name_any() != ceiling_role
        {
            return;
        }
        let mut known = ceiling.stores.ceiling.write();
        let known = known.as_deref_mut().unwrap_or_else(|e| e.get_mut());
        let old = known.now.as_ref().map(|(rules, _)| rules.clone());
        match event {
            Event::Init => known.listing = None,
            Event::InitApply(role) => known.listing = compile_ceiling(role),
            Event::InitDone => known.now = known.listing.take(),
            Event::Apply(role) => known.now = compile_ceiling(role),
            Event::Delete(_) => known.now = None,
        }
        if known.now.as_ref().map(|(rules, _)| rules) != old.as_ref() {
            (ceiling.tell)(Change::Everything);
        }
    })
}

pub(super) fn on_role(to: &To) -> On<Role> {
    let made = to.clone();
    let roles = roles::<Role>(to, true, |role| role.rules.as_deref());
    Box::new(move |event| {
        roles(event);
        if let Event::Delete(object) = event {
            made.made(object);
        }
    })
}

/// Roles of either kind into the index.
fn roles<K: Resource + 'static>(
    to: &To,
    namespaced: bool,
    rules: fn(&K) -> Option<&[PolicyRule]>,
) -> On<K> {
    let to = to.clone();
    let listed: Mutex<HashSet<RoleKey>> = Mutex::default();
    Box::new(move |event| {
        let mut listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |object: &K| RoleKey::of(object);
        let touched = match event {
            Event::Init => {
                listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                listed.insert(key(object));
                to.standing(|standing| standing.role(object, rules(object)))
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut *listed);
                to.standing(|standing| standing.retain_roles(namespaced, &listed))
            }
            Event::Apply(object) => to.standing(|standing| standing.role(object, rules(object))),
            Event::Delete(object) => to.standing(|standing| standing.role_gone(object)),
        };
        to.touched(touched);
    })
}

pub(super) fn on_cluster_binding(to: &To) -> On<ClusterRoleBinding> {
    let standing =
        bindings::<ClusterRoleBinding>(to, false, |b| (&b.role_ref, b.subjects.as_deref()));
    managed(to, standing, |stores| &stores.wide_bindings)
}

type Parts<'a> = (&'a RoleRef, Option<&'a [Subject]>);

/// Bindings of either kind into the index.
fn bindings<K: Resource + 'static>(
    to: &To,
    namespaced: bool,
    parts: for<'a> fn(&'a K) -> Parts<'a>,
) -> On<K> {
    let to = to.clone();
    let listed: Mutex<HashSet<(Option<String>, String)>> = Mutex::default();
    Box::new(move |event| {
        let mut listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
        let follow = |object: &K| {
            let (role, subjects) = parts(object);
            to.standing(|standing| standing.binding(object, role, subjects))
        };
        let touched = match event {
            Event::Init => {
                listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                listed.insert((object.namespace(), object.name_any()));
                follow(object)
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut *listed);
                to.standing(|standing| standing.retain_bindings(namespaced, &listed))
            }
            Event::Apply(object) => follow(object),
            Event::Delete(object) => to.standing(|standing| standing.binding_gone(object)),
        };
        to.touched(touched);
    })
}

pub(super) fn on_binding(to: &To) -> On<RoleBinding> {
    let standing = bindings::<RoleBinding>(to, true, |b| (&b.role_ref, b.subjects.as_deref()));
    managed(to, standing, |stores| &stores.bindings)
}

/// The bindings among them that Stint made.
fn managed<K: Resource<DynamicType = ()> + 'static>(
    to: &To,
    standing: On<K>,
    store: fn(&Stores) -> &RwLock<Bindings>,
) -> On<K> {
    let managed = to.clone();
    Box::new(move |event| {
        standing(event);
        let ours = |object: &K| object.labels().contains_key(GRANT);
        let bindings = store(&managed.stores);
        let mut bindings = bindings.write().unwrap_or_else(PoisonError::into_inner);
        let known = match event {
            Event::Apply(object) | Event::Delete(object) => {
                bindings.by_uid(&object.uid().unwrap_or_default())
            }
            Event::Init | Event::InitApply(_) | Event::InitDone => None,
        };
        bindings.follow(event);
        drop(bindings);
        match event {
            Event::Apply(object) | Event::InitApply(object) if ours(object) => {
                let binding = Binding::read(object);
                (managed.tell)(Change::Binding(Box::new(binding), Presence::Present));
            }
            // Deleted, or stripped of the label that makes it ours.
            Event::Apply(object) | Event::Delete(object) => {
                if let Some(binding) = known {
                    (managed.tell)(Change::Binding(Box::new(binding), Presence::Gone));
                    managed.made(object);
                }
            }
            Event::InitDone => (managed.tell)(Change::Everything),
            Event::Init | Event::InitApply(_) => {}
        }
    })
}
