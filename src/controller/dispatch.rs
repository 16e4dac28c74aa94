//! What changes, and who must hear of it. Runs in every replica: access that lost its reason ends without a leader.

use crate::cluster::standing::Touched;
use crate::cluster::stores::{AccessRef, Binding, Change, Presence, Stores};
use crate::controller::audit;
use crate::controller::expiry::{Cause, Expiry};
use crate::controller::reconcile::Context;
use crate::controller::term::Desk;
use crate::domain::audit::Line;
use crate::domain::grant::Account;
use crate::domain::request::AccessRequest;
use kube::core::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::{BTreeSet, HashSet};
use tokio::sync::mpsc::UnboundedReceiver;

/// Tells the deadline queue what changed, and whoever decides what to look at. Many changes of everything are answered once.
pub(super) async fn dispatch(
    mut changes: UnboundedReceiver<Change>,
    stores: &Stores,
    expiry: &Expiry,
    context: &Context,
    desk: &Desk,
) {
    while let Some(first) = changes.recv().await {
        let mut everything = false;
        let mut touched = BTreeSet::new();
        let mut next = Some(first);
        while let Some(change) = next {
            match change {
                Change::Everything => everything = true,
                Change::Touched(more) => touched.extend(more),
                Change::Policy(object, compiled) => {
                    let name = object.name_any();
                    if object.spec.suspended == Some(true) {
                        expiry.suspend(|policy| policy == name);
                    }
                    desk.report((object, compiled));
                }
                Change::Binding(binding, Presence::Present) => {
                    // It heard of it before; a whole new list may have been read in between, without it.
                    expiry.watch((*binding).clone());
                    suspend(stores, expiry, binding.policy.as_deref());
                    confirm(&binding, stores, expiry, context).await;
                }
                Change::Access(key) => desk.look_at([key]),
                other => touched.extend(react(other, expiry, context, desk)),
            }
            next = changes.try_recv().ok();
        }
        if everything {
            resync(stores, expiry, context).await;
            desk.look_at(stores.unended());
        } else {
            let concerned = touched.iter().flat_map(|t| stores.concerned(t));
            let concerned: HashSet<AccessRef> = concerned.collect();
            desk.look_at(concerned);
        }
    }
}

/// Tells the deadline queue; returns whose requests must be looked at.
fn react(change: Change, expiry: &Expiry, context: &Context, desk: &Desk) -> Option<Touched> {
    match change {
        Change::AccessDeleted(uid, last) => {
            let now = context.clock.now();
            let line = last.and_then(|last| Line::deleted(&last.view(), now));
            // Of several replicas one tells.
            line.iter().filter(|_| desk.is_open()).for_each(audit::tell);
            expiry.revoke(Cause::Orphaned, |b| b.grant == uid);
            context.seats.forget(&uid);
            context.switched.forget(&uid);
            context.proofs.forget(&uid);
            None
        }
        Change::Account(key, uid) => {
            let other = |b: &Binding| b.account_uid.as_deref() != Some(&uid);
            expiry.revoke(Cause::Identity, |b| {
                b.account.as_deref() == Some(&key) && other(b)
            });
            Some(Touched::Account(key))
        }
        Change::AccountDeleted(key) => {
            expiry.revoke(Cause::Identity, |b| b.account.as_deref() == Some(&key));
            Some(Touched::Account(key))
        }
        Change::Binding(binding, Presence::Gone) => {
            expiry.forget(&binding.uid);
            None
        }
        // The others are answered in `dispatch`.
        Change::Access(_)
        | Change::Binding(_, Presence::Present)
        | Change::Everything
        | Change::Policy(..)
        | Change::Touched(_) => None,
    }
}

/// Ends what names one of these policies that is suspended.
fn suspend<'a>(stores: &Stores, expiry: &Expiry, policies: impl IntoIterator<Item = &'a str>) {
    for name in policies {
        if stores.suspended(name) {
            expiry.suspend(|policy| policy == name);
        }
    }
}

/// Brings the deadline queue in line with whole lists: forgets what went unseen, and revokes bindings whose request or
/// account went unseen, or whose policy was suspended unseen.
pub(super) async fn resync(stores: &Stores, expiry: &Expiry, context: &Context) {
    let bindings = stores.bindings();
    let live: HashSet<String> = bindings.iter().map(|b| b.uid.clone()).collect();
    expiry.retain(&live);
    let known = stores.access_uids();
    context.seats.retain(&known);
    context.switched.retain(&known);
    context.proofs.retain(&known);
    for binding in &bindings {
        expiry.watch(binding.clone());
    }
    let policies: BTreeSet<&str> = bindings
        .iter()
        .filter_map(|b| b.policy.as_deref())
        .collect();
    suspend(stores, expiry, policies);
    for binding in bindings {
        confirm(&binding, stores, expiry, context).await;
    }
}

/// Revokes a binding whose request or account is gone, also when that was heard of before the binding itself. An absence
/// in a local copy is confirmed by a live read, since two watches can be of different age.
async fn confirm(binding: &Binding, stores: &Stores, expiry: &Expiry, context: &Context) {
    let known = |key: &AccessRef| stores.has_access(key, &binding.grant);
    if !access_key(binding).as_ref().is_some_and(known) && orphaned(binding, context).await {
        expiry.revoke(Cause::Orphaned, |b| b.uid == binding.uid);
    }
    if !account_known(stores, binding) && account_changed(binding, context).await {
        expiry.revoke(Cause::Identity, |b| b.uid == binding.uid);
    }
}

async fn orphaned(binding: &Binding, context: &Context) -> bool {
    let Some(key) = access_key(binding) else {
        return true;
    };
    match context.facts.access(&key).await {
        Ok(found) => found.and_then(|a| a.uid).as_ref() != Some(&binding.grant),
        Err(error) => {
            tracing::warn!(%error, "could not confirm that a request is gone");
            false
        }
    }
}

fn access_key(binding: &Binding) -> Option<AccessRef> {
    Some(AccessRef {
        place: binding.place.clone(),
        name: binding.access.clone()?,
    })
}

fn account_key(binding: &Binding) -> Option<Account> {
    let (namespace, name) = binding.account.as_deref()?.split_once('/')?;
    Some(Account {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn account_known(stores: &Stores, binding: &Binding) -> bool {
    let Some(account) = account_key(binding) else {
        return false;
    };
    let key = ObjectRef::new(&account.name).within(&account.namespace);
    let found = stores.accounts.get(&key);
    found.is_some_and(|a| a.uid() == binding.account_uid)
}

async fn account_changed(binding: &Binding, context: &Context) -> bool {
    let Some(account) = account_key(binding) else {
        return true;
    };
    match context.facts.account(&account).await {
        Ok(found) => found.map(|a| a.uid) != binding.account_uid,
        Err(error) => {
            tracing::warn!(%error, "could not confirm that a ServiceAccount is gone");
            false
        }
    }
}
