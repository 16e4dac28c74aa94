//! Who holds what by standing bindings, as far as the catalogue cares: an index over every role and binding of the cluster.
//!
//! Roles are kept as bits ([`Patterns`]) and a hash, never as rules, so a role of any size costs the same. Bindings are
//! indexed by subject and place, so a question about one account reads what that account holds and nothing else.

mod by_account;

use crate::api::names::GRANT;
pub use crate::cluster::access_index::Touched;
use crate::domain::patterns::Patterns;
use crate::domain::rules::Rule;
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use kube::core::ResourceExt;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A Role (with its namespace) or a ClusterRole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleKey {
    /// Namespace of a Role; none for a ClusterRole.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl RoleKey {
    /// The role that a binding in this place refers to.
    pub fn referred(role_ref: &RoleRef, namespace: Option<&str>) -> Self {
        let own = namespace.filter(|_| role_ref.kind == "Role");
        Self {
            namespace: own.map(str::to_owned),
            name: role_ref.name.clone(),
        }
    }

    /// The key of a role as it is read, of either kind.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self {
            namespace: object.namespace(),
            name: object.name_any(),
        }
    }
}

/// A RoleBinding (with its namespace) or a ClusterRoleBinding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct BindingKey {
    namespace: Option<String>,
    name: String,
}

impl std::fmt::Display for BindingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "RoleBinding '{namespace}/{}'", self.name),
            None => write!(f, "ClusterRoleBinding '{}'", self.name),
        }
    }
}

/// The subjects that are an account, or a group that accounts belong to; nobody else is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Holder {
    Account(String),
    AccountsOf(String),
    AllAccounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RoleEntry {
    hash: u64,
    patterns: Patterns,
}

#[derive(Debug, PartialEq, Eq)]
struct BindingEntry {
    role: RoleKey,
    holders: Vec<Holder>,
    /// UID of the request that it was made for.
    grant: Option<String>,
}

/// Bindings by the role that they refer to.
type ByRole = BTreeMap<RoleKey, BTreeSet<BindingKey>>;

/// The same by namespace; without one, what holds in the whole cluster.
type ByPlace = BTreeMap<Option<String>, ByRole>;

/// The index.
#[derive(Debug, Default)]
pub struct Standing {
    roles: HashMap<RoleKey, RoleEntry>,
    bindings: HashMap<BindingKey, BindingEntry>,
    held: HashMap<Holder, ByPlace>,
    bound: HashMap<RoleKey, HashSet<BindingKey>>,
}

/// A binding as it is read, of either kind.
fn binding_key(object: &impl ResourceExt) -> BindingKey {
    BindingKey {
        namespace: object.namespace(),
        name: object.name_any(),
    }
}

impl Standing {
    /// A role appeared or changed. Who is touched: those who hold it if what the catalogue sees changed, those who copy it
    /// if any rule changed.
    pub fn role(
        &mut self,
        object: &impl ResourceExt,
        rules: Option<&[PolicyRule]>,
    ) -> Vec<Touched> {
        let rules: Vec<Rule> = rules.unwrap_or_default().iter().map(Rule::from).collect();
        let mut hasher = DefaultHasher::new();
        rules.hash(&mut hasher);
        let new = RoleEntry {
            hash: hasher.finish(),
            patterns: Patterns::of(&rules),
        };
        let key = RoleKey::of(object);
        let old = self.roles.insert(key.clone(), new);
        self.role_changed(key, old, Some(new))
    }

    /// A role went.
    pub fn role_gone(&mut self, object: &impl ResourceExt) -> Vec<Touched> {
        self.remove_role(RoleKey::of(object))
    }

    fn remove_role(&mut self, key: RoleKey) -> Vec<Touched> {
        let old = self.roles.remove(&key);
        self.role_changed(key, old, None)
    }

    fn role_changed(
        &self,
        key: RoleKey,
        old: Option<RoleEntry>,
        new: Option<RoleEntry>,
    ) -> Vec<Touched> {
        if old.map(|r| r.hash) == new.map(|r| r.hash) {
            return Vec::new();
        }
        let patterns = |entry: Option<RoleEntry>| entry.map(|r| r.patterns).unwrap_or_default();
        let mut touched = Vec::new();
        if patterns(old) != patterns(new) {
            let bound = self.bound.get(&key).into_iter().flatten();
            let entries = bound.filter_map(|binding| self.bindings.get(binding));
            touched.extend(entries.flat_map(BindingEntry::touched));
        }
        touched.push(Touched::Role(key));
        touched
    }

    /// A binding appeared or changed.
    pub fn binding(
        &mut self,
        object: &impl ResourceExt,
        role: &RoleRef,
        subjects: Option<&[Subject]>,
    ) -> Vec<Touched> {
        let key = binding_key(object);
        let entry = BindingEntry {
            role: RoleKey::referred(role, key.namespace.as_deref()),
            holders: holders(subjects.unwrap_or_default(), key.namespace.as_deref()),
            grant: object.labels().get(GRANT).cloned(),
        };
        if self.bindings.get(&key) == Some(&entry) {
            return Vec::new();
        }
        let mut touched = self.remove_binding(&key);
        if entry.holders.is_empty() {
            return touched;
        }
        touched.extend(entry.touched());
        let bound = self.bound.entry(entry.role.clone()).or_default();
        bound.insert(key.clone());
        for holder in &entry.holders {
            let places = self.held.entry(holder.clone()).or_default();
            let by_role = places.entry(key.namespace.clone()).or_default();
            let bindings = by_role.entry(entry.role.clone()).or_default();
            bindings.insert(key.clone());
        }
        self.bindings.insert(key, entry);
        touched
    }

    /// A binding went.
    pub fn binding_gone(&mut self, object: &impl ResourceExt) -> Vec<Touched> {
        self.remove_binding(&binding_key(object))
    }

    fn remove_binding(&mut self, key: &BindingKey) -> Vec<Touched> {
        let Some(entry) = self.bindings.remove(key) else {
            return Vec::new();
        };
        if let Some(bound) = self.bound.get_mut(&entry.role) {
            bound.remove(key);
            if bound.is_empty() {
                self.bound.remove(&entry.role);
            }
        }
        for holder in &entry.holders {
            self.forget(holder, key, &entry.role);
        }
        entry.touched().collect()
    }

    fn forget(&mut self, holder: &Holder, key: &BindingKey, role: &RoleKey) {
        let Some(places) = self.held.get_mut(holder) else {
            return;
        };
        if let Some(by_role) = places.get_mut(&key.namespace) {
            if let Some(bindings) = by_role.get_mut(role) {
                bindings.remove(key);
                if bindings.is_empty() {
                    by_role.remove(role);
                }
            }
            if by_role.is_empty() {
                places.remove(&key.namespace);
            }
        }
        if places.is_empty() {
            self.held.remove(holder);
        }
    }

    /// Forgets the namespaced or the cluster-wide roles that a whole new list did not name.
    pub fn retain_roles(&mut self, namespaced: bool, listed: &HashSet<RoleKey>) -> Vec<Touched> {
        let gone = |key: &&RoleKey| key.namespace.is_some() == namespaced && !listed.contains(key);
        let gone: Vec<RoleKey> = self.roles.keys().filter(gone).cloned().collect();
        gone.into_iter()
            .flat_map(|key| self.remove_role(key))
            .collect()
    }

    /// The same for bindings, by namespace and name.
    pub fn retain_bindings(
        &mut self,
        namespaced: bool,
        listed: &HashSet<(Option<String>, String)>,
    ) -> Vec<Touched> {
        let gone = |key: &&BindingKey| {
            let named = (key.namespace.clone(), key.name.clone());
            key.namespace.is_some() == namespaced && !listed.contains(&named)
        };
        let gone: Vec<BindingKey> = self.bindings.keys().filter(gone).cloned().collect();
        gone.iter()
            .flat_map(|key| self.remove_binding(key))
            .collect()
    }
}

impl BindingEntry {
    /// The bindings of grants touch nobody: who decides on them counts them otherwise.
    fn touched(&self) -> impl Iterator<Item = Touched> {
        let holders = self.holders.iter().filter(|_| self.grant.is_none());
        holders.map(|holder| match holder {
            Holder::Account(account) => Touched::Account(account.clone()),
            Holder::AccountsOf(namespace) => Touched::AccountsOf(namespace.clone()),
            Holder::AllAccounts => Touched::AllAccounts,
        })
    }
}

/// The accounts and their groups among the subjects (upstream `appliesTo`): an account may be written as a user, and one
/// without a namespace is one of the binding's.
fn holders(subjects: &[Subject], namespace: Option<&str>) -> Vec<Holder> {
    let mut out: BTreeSet<Holder> = BTreeSet::new();
    for subject in subjects {
        let name = subject.name.as_str();
        out.extend(match subject.kind.as_str() {
            "ServiceAccount" => {
                let own = subject.namespace.as_deref().filter(|n| !n.is_empty());
                own.or(namespace)
                    .map(|of| Holder::Account(format!("{of}/{name}")))
            }
            "User" => name
                .strip_prefix("system:serviceaccount:")
                .and_then(|account| account.split_once(':'))
                .map(|(of, name)| Holder::Account(format!("{of}/{name}"))),
            "Group" => match name {
                "system:serviceaccounts" | "system:authenticated" => Some(Holder::AllAccounts),
                _ => name
                    .strip_prefix("system:serviceaccounts:")
                    .map(|of| Holder::AccountsOf(of.to_owned())),
            },
            _ => None,
        });
    }
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalogue::{Scope, combinations};
    use crate::domain::grant::Account;
    use crate::domain::request::Place;
    use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
    use serde_json::{Value, json};

    fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    fn account(of: &str, name: &str) -> Account {
        Account {
            namespace: of.into(),
            name: name.into(),
        }
    }

    impl Standing {
        fn reads(&mut self, role: &str, resource: &str) -> Vec<Touched> {
            let role: ClusterRole = read(json!({"metadata": {"name": role},
                "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]}));
            self.role(&role, role.rules.as_deref())
        }

        fn everywhere(&mut self, name: &str, role: &str, subject: Value) -> Vec<Touched> {
            let binding: ClusterRoleBinding = read(json!({"metadata": {"name": name},
                "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": ""}, "subjects": [subject]}));
            self.binding(&binding, &binding.role_ref, binding.subjects.as_deref())
        }

        fn within(&mut self, namespace: &str, name: &str, role: (&str, &str), subject: Value) {
            let binding: RoleBinding = read(
                json!({"metadata": {"name": name, "namespace": namespace,
                    "labels": {"stint.dev/grant": name}},
                "roleRef": {"kind": role.0, "name": role.1, "apiGroup": ""}, "subjects": [subject]}),
            );
            self.binding(&binding, &binding.role_ref, binding.subjects.as_deref());
        }

        fn holds(&self, of: &str, name: &str, namespace: &str) -> Vec<String> {
            let place = Place::Namespace(namespace.into());
            let held = self.held(&account(of, name), &place, "");
            held.into_iter().map(|held| held.by).collect()
        }
    }

    fn service_account(namespace: &str, name: &str) -> Value {
        json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
    }

    #[test]
    fn an_account_holds_what_names_it_in_any_spelling() {
        let subjects = [
            service_account("team", "bot"),
            json!({"kind": "User", "name": "system:serviceaccount:team:bot"}),
            json!({"kind": "Group", "name": "system:serviceaccounts:team"}),
            json!({"kind": "Group", "name": "system:serviceaccounts"}),
            json!({"kind": "Group", "name": "system:authenticated"}),
        ];
        for subject in subjects {
            let mut standing = Standing::default();
            standing.reads("r", "secrets");
            standing.everywhere("b", "r", subject.clone());
            assert_eq!(
                standing.holds("team", "bot", "x"),
                ["ClusterRoleBinding 'b'"],
                "{subject}"
            );
        }
        let mut standing = Standing::default();
        standing.reads("r", "secrets");
        standing.everywhere("b", "r", json!({"kind": "User", "name": "bot"}));
        standing.everywhere("c", "r", service_account("other", "bot"));
        assert_eq!(standing.holds("team", "bot", "x"), [""; 0]);
    }

    #[test]
    fn what_is_held_in_single_namespaces_is_told_by_namespace() {
        let mut standing = Standing::default();
        standing.reads("secret-reader", "secrets");
        standing.reads("harmless", "configmaps");
        let bot = || service_account("team", "bot");
        standing.everywhere("e", "secret-reader", bot());
        standing.within("a", "g-1", ("ClusterRole", "secret-reader"), bot());
        standing.within("b", "g-2", ("ClusterRole", "secret-reader"), bot());
        standing.within("c", "g-3", ("ClusterRole", "harmless"), bot());
        let account = account("team", "bot");
        let told = |standing: &Standing, except: &str| -> Vec<(String, String)> {
            let all = standing.held_in(&account, except).into_iter();
            all.map(|within| (within.namespace, within.held[0].by.clone()))
                .collect()
        };
        let both = [("a", "RoleBinding 'a/g-1'"), ("b", "RoleBinding 'b/g-2'")];
        let both = both.map(|(namespace, by)| (namespace.to_owned(), by.to_owned()));
        assert_eq!(told(&standing, ""), both);
        assert_eq!(told(&standing, "g-1"), both[1..]);
        let gone: RoleBinding = read(json!({"metadata": {"name": "g-2", "namespace": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "r", "apiGroup": ""}}));
        standing.binding_gone(&gone);
        assert_eq!(told(&standing, ""), both[..1]);
    }

    #[test]
    fn a_binding_counts_in_its_namespace_and_not_for_its_own_grant() {
        let mut standing = Standing::default();
        let role: Role = read(json!({"metadata": {"name": "r", "namespace": "team"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]}));
        standing.role(&role, role.rules.as_deref());
        let subject = json!({"kind": "ServiceAccount", "name": "bot"});
        standing.within("team", "g-1", ("Role", "r"), subject);
        assert_eq!(
            standing.holds("team", "bot", "team"),
            ["RoleBinding 'team/g-1'"]
        );
        assert_eq!(standing.holds("team", "bot", "other"), [""; 0]);
        assert!(
            standing
                .held(
                    &account("team", "bot"),
                    &Place::Namespace("team".into()),
                    "g-1"
                )
                .is_empty()
        );
        let anywhere = standing.held(&account("team", "bot"), &Place::Cluster, "");
        assert!(
            anywhere.is_empty(),
            "a RoleBinding gives nothing in the cluster"
        );
    }

    #[test]
    fn ten_thousand_bindings_are_told_in_few_words() {
        let mut standing = Standing::default();
        for n in 0..10_000 {
            let role = format!("r-{n}");
            standing.reads(&role, "secrets");
            standing.everywhere(&format!("b-{n}"), &role, service_account("team", "bot"));
        }
        assert_eq!(standing.holds("team", "bot", "team").len(), 1);
    }

    #[test]
    fn only_what_changes_touches_anybody() {
        let mut standing = Standing::default();
        assert_eq!(
            standing
                .everywhere("b", "r", service_account("team", "bot"))
                .len(),
            1
        );
        let touched = standing.reads("r", "secrets");
        assert!(
            touched.contains(&Touched::Account("team/bot".into())),
            "{touched:?}"
        );
        assert_eq!(standing.reads("r", "secrets"), []);
        assert_eq!(
            standing.everywhere("b", "r", service_account("team", "bot")),
            []
        );
        let gone = standing.retain_bindings(false, &HashSet::new());
        assert_eq!(gone, [Touched::Account("team/bot".into())]);
        assert_eq!(standing.holds("team", "bot", "team"), [""; 0]);
        assert!(
            standing.bound.is_empty() && standing.held.is_empty(),
            "nothing is left behind"
        );
    }

    #[test]
    fn a_role_of_three_megabytes_costs_as_little_as_any() {
        let names: Vec<String> = (0..100_000)
            .map(|n| format!("name-number-{n:020}"))
            .collect();
        let groups: Vec<String> = (0..500).map(|n| format!("g{n}.example")).collect();
        let role: ClusterRole = read(json!({"metadata": {"name": "huge"}, "rules": [
            {"apiGroups": groups, "resources": names, "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}));
        let mut standing = Standing::default();
        standing.role(&role, role.rules.as_deref());
        standing.everywhere("b", "huge", service_account("team", "bot"));
        let asked = Patterns::of(&[read(
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}),
        )]);
        let held = standing.held(&account("team", "bot"), &Place::Cluster, "")[0].patterns;
        assert_eq!(
            combinations(asked, held, Scope::Namespace("team"))[0]
                .finding
                .id,
            "OB-C01"
        );
    }
}
