//! The roles and bindings that Kubernetes itself makes in every cluster. It adds what they lack when it starts, and takes nothing
//! away that somebody added.
//!
//! They are known by their whole names, never by a label or a prefix, which anybody could choose. The list is what the API
//! server makes when it starts (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`), as a real one made it; versions that
//! make less lack some of them.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::Subject;
use std::collections::HashSet;

/// A line each: kind, name (`namespace/name` where there is one), then the subjects of a binding, as kind and name.
const LIST: &str = include_str!("defaults.txt");

/// Whether Kubernetes makes a role of this kind and name.
pub fn is_default_role(about: &ObjectReference) -> bool {
    matches!(about.kind.as_deref(), Some("Role" | "ClusterRole")) && line(about).is_some()
}

/// The subjects that Kubernetes gives its own binding of this kind and name; none if it is not one of its own.
pub fn subjects(about: &ObjectReference) -> Option<Vec<Subject>> {
    let binding = matches!(
        about.kind.as_deref(),
        Some("RoleBinding" | "ClusterRoleBinding")
    );
    let words = line(about).filter(|_| binding)?;
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
    let name = about.name.as_deref()?;
    let name = match about.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    LIST.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.next() == about.kind.as_deref() && words.next() == Some(&name)).then_some(words)
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
        let bindings = LIST.lines().filter_map(|line| {
            let (kind, rest) = line.split_once(' ')?;
            kind.ends_with("Binding").then_some(rest)
        });
        let mut own = Self {
            accounts: HashSet::new(),
            bindings: HashSet::new(),
        };
        for line in bindings {
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
        assert!(is_default_role(&about("ClusterRole", None, "edit")));
        assert!(!is_default_role(&about("ClusterRole", None, "edit2")));
        assert!(!is_default_role(&about("Role", Some("default"), "edit")));
        assert!(!is_default_role(&about(
            "ClusterRoleBinding",
            None,
            "cluster-admin"
        )));
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
