//! Which bindings name an account, whatever they give, and which give a role to any.

use super::{BindingKey, Holder, RoleKey, Standing};
use crate::domain::grant::Account;
use crate::domain::request::Place;

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
            .filter_map(|key| self.held.get(&key));
        let other = |key: &&BindingKey| {
            let grant = self.bindings.get(*key).and_then(|b| b.grant.as_deref());
            grant != Some(except)
        };
        let bindings = held.flat_map(|by_role| by_role.values().flatten());
        let named = bindings.filter(other).map(ToString::to_string);
        named.take(NAMED).collect()
    }
}
