//! What the input says about the cluster: policies, namespaces, accounts, roles and bindings. What it does not say stays
//! unknown.

use crate::read::Object;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject,
};
use kube::core::{Selector, SelectorExt};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stint::api::{AccessPolicy, names};
use stint::domain::condition::Condition;
use stint::domain::covers::Ceiling;
use stint::domain::facts::{AccountFacts, Held, HeldIn, Role as SourceRole};
use stint::domain::grant::Account;
use stint::domain::patterns::Patterns;
use stint::domain::policy::{Labels, Policy};
use stint::domain::request::Place;
use stint::domain::rules::{self, Rule};
use stint::domain::served::Served;
use stint::domain::verification;

/// A policy that can be used, as it is and as it is written.
#[derive(Debug)]
pub struct KnownPolicy {
    /// Ready to decide.
    pub policy: Arc<Policy>,
    /// As it is written.
    pub object: AccessPolicy,
    /// What each of its conditions looks at, in their order.
    pub reads: Vec<Vec<String>>,
}

/// A role by kind, namespace (empty for a ClusterRole) and name.
pub type RoleKey = (String, String, String);

/// A binding, by the namespace in which it holds; none for a ClusterRoleBinding.
#[derive(Debug)]
pub struct KnownBinding {
    namespace: Option<String>,
    title: String,
    subjects: Vec<Subject>,
    role_ref: RoleRef,
}

/// What the input says about the cluster.
#[derive(Debug, Default)]
pub struct World {
    /// Usable policies, by name.
    pub policies: Vec<KnownPolicy>,
    /// Policies that cannot be used.
    pub broken_policies: usize,
    /// What the cluster lets Stint grant, if the input has the ClusterRole that says it.
    pub ceiling: Option<Arc<Ceiling>>,
    /// What the cluster serves, where one was asked.
    pub served: Option<Arc<Served>>,
    namespaces: BTreeMap<String, Labels>,
    accounts: BTreeMap<(String, String), AccountFacts>,
    roles: BTreeMap<RoleKey, SourceRole>,
    bindings: Vec<KnownBinding>,
}

impl World {
    /// What the objects say; `default_namespace` holds those that name none. Objects that cannot be read say nothing.
    pub fn of(objects: &[Object], default_namespace: &str) -> Self {
        let mut world = Self::default();
        for object in objects {
            world.add(object, default_namespace);
        }
        world
            .policies
            .sort_by(|a, b| a.policy.name().cmp(b.policy.name()));
        world.ceiling = world.compile_ceiling();
        world
    }

    /// Without rules it is not known yet, as for the operator: Kubernetes puts them together in the cluster.
    fn compile_ceiling(&self) -> Option<Arc<Ceiling>> {
        let role = self.role("ClusterRole", "", CEILING)?;
        (!role.rules.is_empty()).then(|| Arc::new(Ceiling::compile(&role.rules)))
    }

    /// With one more object; a later one replaces an earlier of the same name.
    pub fn add(&mut self, object: &Object, default_namespace: &str) {
        let namespace = object.namespace().unwrap_or(default_namespace).to_owned();
        let name = object.name().to_owned();
        match (object.group(), object.kind.as_str()) {
            (names::GROUP, "AccessPolicy") => self.add_policy(object),
            ("", "Namespace") => {
                let mut labels = labels(object);
                labels.extend(named(&name));
                self.namespaces.insert(name, labels);
            }
            ("", "ServiceAccount") => {
                let uid = object.node.get("metadata").and_then(|m| m.text("uid"));
                let uid = uid.unwrap_or_default().to_owned();
                let labels = labels(object);
                self.accounts
                    .insert((namespace, name), AccountFacts { uid, labels });
            }
            (RBAC, "Role") => {
                if let Some(role) = typed::<Role>(object) {
                    let known = source(object, role.rules.as_deref(), false, false);
                    self.roles.insert(("Role".into(), namespace, name), known);
                }
            }
            (RBAC, "ClusterRole") => {
                if let Some(role) = typed::<ClusterRole>(object) {
                    let aggregated = role.aggregation_rule.is_some();
                    let itself = selects_itself(&role);
                    let known = source(object, role.rules.as_deref(), aggregated, itself);
                    self.roles
                        .insert(("ClusterRole".into(), String::new(), name), known);
                }
            }
            (RBAC, "RoleBinding") => {
                if let Some(binding) = typed::<RoleBinding>(object) {
                    self.bindings.push(KnownBinding {
                        title: title(Some(&namespace), &name),
                        namespace: Some(namespace),
                        subjects: binding.subjects.unwrap_or_default(),
                        role_ref: binding.role_ref,
                    });
                }
            }
            (RBAC, "ClusterRoleBinding") => {
                if let Some(binding) = typed::<ClusterRoleBinding>(object) {
                    self.bindings.push(KnownBinding {
                        title: title(None, &name),
                        namespace: None,
                        subjects: binding.subjects.unwrap_or_default(),
                        role_ref: binding.role_ref,
                    });
                }
            }
            _ => {}
        }
    }

    fn add_policy(&mut self, object: &Object) {
        let Some(written) = typed::<AccessPolicy>(object) else {
            self.broken_policies += 1;
            return;
        };
        match Policy::compile(&written) {
            Ok(policy) => {
                // The same file may be named twice; a later one replaces an earlier, as when both are applied.
                let other = |known: &KnownPolicy| known.policy.name() != policy.name();
                self.policies.retain(other);
                self.policies.push(KnownPolicy {
                    policy: Arc::new(policy),
                    reads: reads(&written),
                    object: written,
                });
            }
            Err(_) => self.broken_policies += 1,
        }
    }

    /// Labels of a namespace, if it is in the input.
    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    /// An account, if it is in the input.
    pub fn account(&self, account: &Account) -> Option<&AccountFacts> {
        let key = (account.namespace.clone(), account.name.clone());
        self.accounts.get(&key)
    }

    /// A role, if it is in the input. The rules of an aggregated one are the cluster's to fill in.
    pub fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<&SourceRole> {
        let namespace = if kind == "Role" { namespace } else { "" };
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        self.roles.get(&key)
    }

    /// What the account holds in the place by bindings and roles of the input.
    pub fn held(&self, account: &Account, place: &Place) -> Vec<Held> {
        let verification::Subject { user, groups, .. } =
            verification::Subject::account(account, "");
        let reaches = |binding: &&KnownBinding| {
            let own = binding.namespace.as_deref().unwrap_or_default();
            let here = own.is_empty() || Some(own) == place.namespace();
            let mut subjects = binding.subjects.iter();
            here && subjects.any(|subject| rules::applies_to(subject, own, &user, &groups))
        };
        let holding = self.bindings.iter().filter(reaches);
        holding
            .filter_map(|binding| {
                let reference = &binding.role_ref;
                let own = binding.namespace.as_deref().unwrap_or_default();
                let role = self.role(&reference.kind, own, &reference.name)?;
                Some(Held {
                    by: binding.title.clone(),
                    patterns: Patterns::of(&role.rules),
                })
            })
            .collect()
    }

    /// Takes a binding out of what is known; it comes back, to be known again.
    pub fn set_aside(&mut self, namespace: Option<&str>, name: &str) -> Vec<KnownBinding> {
        let title = title(namespace, name);
        self.bindings.extract_if(.., |b| b.title == title).collect()
    }

    /// Knows these bindings too.
    pub fn know(&mut self, bindings: Vec<KnownBinding>) {
        self.bindings.extend(bindings);
    }

    /// What the account holds in single namespaces, by RoleBindings of the input.
    pub fn held_in(&self, account: &Account) -> Vec<HeldIn> {
        let namespaces = self.bindings.iter().filter_map(|b| b.namespace.clone());
        let namespaces: BTreeSet<String> = namespaces.filter(|n| !n.is_empty()).collect();
        let everywhere = self.held(account, &Place::Cluster);
        let within = namespaces.into_iter().map(|namespace| {
            let mut held = self.held(account, &Place::Namespace(namespace.clone()));
            held.retain(|held| !everywhere.contains(held));
            HeldIn { namespace, held }
        });
        within.filter(|within| !within.held.is_empty()).collect()
    }

    /// The namespaces in which RoleBindings of the input hand out a ClusterRole; none when a ClusterRoleBinding does, or
    /// nothing.
    pub fn bound_only_in(&self, cluster_role: &str) -> Option<Vec<&str>> {
        let to_it =
            |b: &&KnownBinding| b.role_ref.kind == "ClusterRole" && b.role_ref.name == cluster_role;
        let namespaces = self
            .bindings
            .iter()
            .filter(to_it)
            .map(|b| b.namespace.as_deref());
        let mut all: Vec<&str> = namespaces.collect::<Option<_>>()?;
        all.sort_unstable();
        all.dedup();
        (!all.is_empty()).then_some(all)
    }
}

/// The labels that every namespace of this name has.
pub fn named(namespace: &str) -> Labels {
    Labels::from([(names::NAMESPACE_NAME.to_owned(), namespace.to_owned())])
}

/// The ClusterRole that holds the ceiling, as the chart names it.
const CEILING: &str = "stint-grantable";

/// Kind, place and name of a binding, as the judge tells it.
fn title(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("RoleBinding '{namespace}/{name}'"),
        None => format!("ClusterRoleBinding '{name}'"),
    }
}

/// What the conditions of a policy look at.
fn reads(policy: &AccessPolicy) -> Vec<Vec<String>> {
    let all = policy.spec.conditions.iter().flatten();
    // The policy compiled, so each of its conditions does.
    let compiled = all.filter_map(|condition| Condition::compile(condition).ok());
    compiled
        .map(|condition| condition.reads().map(str::to_owned).collect())
        .collect()
}

/// API group of roles and bindings.
pub const RBAC: &str = "rbac.authorization.k8s.io";

fn typed<K: DeserializeOwned>(object: &Object) -> Option<K> {
    serde_json::from_value(object.node.value()).ok()
}

fn labels(object: &Object) -> Labels {
    let labels = object.node.get("metadata").and_then(|m| m.get("labels"));
    let labels = labels.map(|labels| serde_json::from_value(labels.value()));
    labels.and_then(Result::ok).unwrap_or_default()
}

fn source(
    object: &Object,
    rules: Option<&[k8s_openapi::api::rbac::v1::PolicyRule]>,
    aggregated: bool,
    selects_itself: bool,
) -> SourceRole {
    let uid = object.node.get("metadata").and_then(|m| m.text("uid"));
    SourceRole {
        uid: uid.unwrap_or_default().to_owned(),
        rules: rules.unwrap_or_default().iter().map(Rule::from).collect(),
        aggregated,
        selects_itself,
        made_by_stint: labels(object).contains_key(names::GRANT),
    }
}

/// Whether an aggregation rule would take in the role that it belongs to.
fn selects_itself(role: &ClusterRole) -> bool {
    let selectors = role
        .aggregation_rule
        .as_ref()
        .and_then(|rule| rule.cluster_role_selectors.as_ref());
    let labels = role.metadata.labels.clone().unwrap_or_default();
    selectors.into_iter().flatten().any(|selector| {
        Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(&labels))
    })
}
