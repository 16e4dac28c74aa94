//! The roles and bindings that Kubernetes itself makes in every cluster. It adds what they lack when it starts, and takes nothing
//! away that somebody added.
//!
//! They are known by their whole names, never by a label or a prefix, which anybody could choose. The lists are what the API
//! server makes when it starts (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`), as real ones made it, of the oldest and of
//! the newest version that the chart takes.

use crate::domain::guard::PlainRole;
use crate::domain::rules::Rule;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::{AggregationRule, Subject};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

/// A binding in a line each: kind, name (`namespace/name` where there is one), then its subjects, as kind and name.
const BINDINGS: &str = include_str!("default_bindings.txt");
/// A [`DefaultRole`] in a line each.
const ROLES: &str = include_str!("default_roles.jsonl");

/// A role of Kubernetes' own as it is listed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultRole {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name, `namespace/name` of a Role.
    pub name: String,
    /// Labels by which ClusterRoles take it in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it takes in itself; its rules are not listed then, for others may add to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation_rule: Option<AggregationRule>,
    /// What it allows in any of these versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl From<DefaultRole> for PlainRole {
    fn from(role: DefaultRole) -> Self {
        Self {
            rules: role.rules,
            labels: role.labels,
            aggregation: role.aggregation_rule,
        }
    }
}

/// A line that cannot be read is no role of Kubernetes' own, so that one is told like any other.
static BY_NAME: LazyLock<HashMap<(String, String), PlainRole>> = LazyLock::new(|| {
    let listed = ROLES
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let by_name = |role: DefaultRole| ((role.kind.clone(), role.name.clone()), role.into());
    listed.map(by_name).collect()
});

/// The role of this kind and name as Kubernetes makes it; none if it is not one of its own.
pub fn role(about: &ObjectReference) -> Option<&'static PlainRole> {
    BY_NAME.get(&(about.kind.clone()?, whole_name(about)?))
}

/// The subjects that Kubernetes gives its own binding of this kind and name; none if it is not one of its own.
pub fn subjects(about: &ObjectReference) -> Option<Vec<Subject>> {
    let words = line(about)?;
    Some(
        words
            .collect::<Vec<_>>()
            .chunks(2)
            .filter_map(subject)
            .collect(),
    )
}

/// What follows the name in the line of the list.
fn line(about: &ObjectReference) -> Option<impl Iterator<Item = &'static str>> {
    let name = whole_name(about)?;
    BINDINGS.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.next() == about.kind.as_deref() && words.next() == Some(&name)).then_some(words)
    })
}

fn whole_name(about: &ObjectReference) -> Option<String> {
    let name = about.name.as_deref()?;
    Some(match about.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    })
}

fn subject(words: &[&str]) -> Option<Subject> {
    let [kind, name] = words else {
        return None;
    };
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, *name),
    };
    Some(Subject {
        kind: (*kind).to_owned(),
        name: name.to_owned(),
        namespace,
        ..Subject::default()
    })
}

/// The same for many questions: Kubernetes' own accounts, and its own bindings by name.
#[derive(Debug)]
pub struct Own {
    accounts: HashSet<&'static str>,
    bindings: HashSet<&'static str>,
}

impl Own {
    /// All of the list.
    pub fn list() -> Self {
        let bindings = BINDINGS.lines().filter_map(|line| line.split_once(' '));
        let mut own = Self {
            accounts: HashSet::new(),
            bindings: HashSet::new(),
        };
        for (_, line) in bindings {
            let mut words = line.split(' ');
            own.bindings.extend(words.next());
            let subjects: Vec<&str> = words.collect();
            let accounts = subjects.chunks(2).filter(|s| s[0] == "ServiceAccount");
            own.accounts.extend(accounts.filter_map(|s| s.get(1)));
        }
        own
    }

    /// Whether Kubernetes binds this account itself.
    pub fn is_account(&self, namespace: &str, name: &str) -> bool {
        self.accounts
            .contains(format!("{namespace}/{name}").as_str())
    }

    /// Whether Kubernetes makes a binding of this name there; none is the whole cluster.
    pub fn is_binding(&self, namespace: Option<&str>, name: &str) -> bool {
        match namespace {
            Some(namespace) => self
                .bindings
                .contains(format!("{namespace}/{name}").as_str()),
            None => self.bindings.contains(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(kind: &str, namespace: Option<&str>, name: &str) -> ObjectReference {
        ObjectReference {
            kind: Some(kind.into()),
            namespace: namespace.map(str::to_owned),
            name: Some(name.into()),
            ..ObjectReference::default()
        }
    }

    #[test]
    fn the_whole_name_and_kind_make_a_default() {
        assert!(role(&about("ClusterRole", None, "edit")).is_some());
        assert!(role(&about("ClusterRole", None, "edit2")).is_none());
        assert!(role(&about("Role", Some("default"), "edit")).is_none());
        assert!(role(&about("ClusterRoleBinding", None, "cluster-admin")).is_none());
        assert_eq!(
            BY_NAME.len(),
            ROLES.lines().count(),
            "each line can be read"
        );
        let subjects = subjects(&about(
            "ClusterRoleBinding",
            None,
            "system:controller:job-controller",
        ));
        let account = subjects.unwrap().remove(0);
        assert_eq!(account.namespace.as_deref(), Some("kube-system"));
        assert_eq!(
            (account.kind.as_str(), account.name.as_str()),
            ("ServiceAccount", "job-controller")
        );
    }
    #[test]
    fn the_list_answers_for_accounts_and_bindings() {
        let own = Own::list();
        assert!(own.is_account("kube-system", "job-controller"));
        assert!(!own.is_account("kube-system", "tiller"));
        assert!(!own.is_account("payments", "job-controller"));
        assert!(own.is_binding(None, "system:controller:job-controller"));
        assert!(own.is_binding(Some("kube-system"), "system::leader-locking-kube-scheduler"));
        assert!(!own.is_binding(Some("payments"), "system::leader-locking-kube-scheduler"));
        assert!(!own.is_binding(None, "edit"), "a role is no binding");
    }
}
