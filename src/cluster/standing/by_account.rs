//! What an account holds, which bindings name it, and which give a role to any.

use super::{BindingKey, ByRole, Holder, RoleKey, Standing};
use crate::domain::facts::{Held, HeldIn};
use crate::domain::grant::Account;
use crate::domain::patterns::Patterns;
use crate::domain::request::Place;
use std::collections::BTreeSet;

/// Most bindings that are named.
const NAMED: usize = 3;

impl Holder {
    /// The account itself, and the groups that it belongs to.
    pub(super) fn all_of(account: &Account) -> [Self; 3] {
        [
            Self::Account(account.to_string()),
            Self::AccountsOf(account.namespace.clone()),
            Self::AllAccounts,
        ]
    }
}

impl Standing {
    /// The first few bindings that give the role to accounts, beside those of grants.
    pub fn bindings_to(&self, role: &RoleKey) -> Vec<String> {
        let bound = self.bound.get(role).into_iter().flatten();
        let no_grant = |key: &&BindingKey| {
            let entry = self.bindings.get(*key);
            entry.is_some_and(|entry| entry.grant.is_none())
        };
        let mut bindings: Vec<&BindingKey> = bound.filter(no_grant).collect();
        bindings.sort_unstable();
        let named = bindings.into_iter().take(NAMED);
        named.map(ToString::to_string).collect()
    }

    /// The first few bindings that name the account in the place, beside those of the grant `except`.
    pub fn bindings_of(&self, account: &Account, place: &Place, except: &str) -> Vec<String> {
        let own = place.namespace().map(|name| Some(name.to_owned()));
        let places = || own.clone().into_iter().chain([None]);
        let held = Holder::all_of(account)
            .into_iter()
            .flat_map(|holder| places().map(move |place| (holder.clone(), place)))
            .filter_map(|(holder, place)| self.held.get(&holder)?.get(&place));
        let other = |key: &&BindingKey| {
            let grant = self.bindings.get(*key).and_then(|b| b.grant.as_deref());
            grant != Some(except)
        };
        let bindings = held.flat_map(|by_role| by_role.values().flatten());
        let named = bindings.filter(other).map(ToString::to_string);
        named.take(NAMED).collect()
    }

    /// What the account holds in the place by bindings other than those of the grant `except`: only bindings that add
    /// a pattern to those before them, so the answer is short however many there are.
    pub fn held(&self, account: &Account, place: &Place, except: &str) -> Vec<Held> {
        // What holds in the whole cluster holds in each namespace too, and not the other way.
        let own = place.namespace().map(|name| Some(name.to_owned()));
        let places = || [None].into_iter().chain(own.clone());
        let holders = Holder::all_of(account);
        let roles = holders
            .iter()
            .flat_map(|holder| places().map(move |place| (holder, place)))
            .filter_map(|(holder, place)| self.held.get(holder)?.get(&place));
        self.adding(roles, except)
    }

    /// What the account holds in single namespaces, as far as the catalogue cares: what holds in the whole cluster holds in
    /// each of them too.
    pub fn held_in(&self, account: &Account, except: &str) -> Vec<HeldIn> {
        let holders = Holder::all_of(account);
        let of_holder = |holder| self.held.get(holder).into_iter().flatten();
        let namespaces = holders.iter().flat_map(of_holder);
        let namespaces: BTreeSet<&String> = namespaces.filter_map(|(ns, _)| ns.as_ref()).collect();
        let within = |namespace: &String| {
            let place = Some(namespace.clone());
            let roles = holders
                .iter()
                .filter_map(|holder| self.held.get(holder)?.get(&place));
            HeldIn {
                namespace: namespace.clone(),
                held: self.adding(roles, except),
            }
        };
        let all = namespaces.into_iter().map(within);
        all.filter(|within| !within.held.is_empty()).collect()
    }

    fn adding<'a>(&self, roles: impl Iterator<Item = &'a ByRole>, except: &str) -> Vec<Held> {
        let mut sum = Patterns::default();
        let mut out = Vec::new();
        for (role, bindings) in roles.flatten() {
            let Some(patterns) = self.roles.get(role).map(|r| r.patterns) else {
                continue;
            };
            if sum.union(patterns) == sum {
                continue;
            }
            let other = |key: &&BindingKey| {
                let grant = self.bindings.get(*key).and_then(|b| b.grant.as_deref());
                grant != Some(except)
            };
            if let Some(by) = bindings.iter().find(other) {
                sum = sum.union(patterns);
                out.push(Held {
                    by: by.to_string(),
                    patterns,
                });
            }
        }
        out
    }
}
