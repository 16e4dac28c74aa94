//! What the catalogue says about a plain RoleBinding or ClusterRoleBinding: who it names, and which role.
//!
//! What a grant of Stint can never have (every user, a group, no end) a binding written by hand can; so these checks look
//! at objects that nobody asked Stint for.

use crate::domain::catalogue::{self, Finding, Scope};
use crate::domain::covers::Ceiling;
use crate::domain::rules::{self, Rule};
use crate::domain::violation::{Problem, Violation};
use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use std::sync::LazyLock;

/// A binding as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Where it holds: its own namespace, or the cluster.
    pub scope: Scope<'a>,
    /// Whom it is for.
    pub subjects: &'a [Subject],
    /// The role it hands out.
    pub role_ref: &'a RoleRef,
    /// What is known of that role.
    pub role: BoundRole<'a>,
}

/// What is known of the role of a binding.
#[derive(Clone, Copy, Debug)]
pub enum BoundRole<'a> {
    /// Nobody looked, or nobody could.
    Unknown,
    /// There is no such role.
    Missing,
    /// The role.
    Found {
        /// Its rules.
        rules: &'a [Rule],
        /// Whether they are put together from other ClusterRoles.
        aggregated: bool,
    },
}

/// One thing that the catalogue finds in a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingFinding {
    /// The check, with its severity in the scope of the binding.
    pub finding: Finding,
    /// Where in the object, what was found there, and what would be better.
    pub violation: Violation,
}

/// The ClusterRoles that Kubernetes creates with write access to a whole namespace or more, and those whose rules it puts
/// together from others (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go`).
const WIDE_BY_DEFAULT: [&str; 3] = ["cluster-admin", "admin", "edit"];
const AGGREGATED_BY_DEFAULT: [&str; 3] = ["admin", "edit", "view"];

/// Bindings that Kubernetes itself makes for callers without credentials: the version and health of the server, and how a
/// node joins.
const PUBLIC_ROLES: [&str; 2] = [
    "system:public-info-viewer",
    "kubeadm:bootstrap-signer-clusterinfo",
];

/// Everything the catalogue finds in a binding, subjects first.
pub fn findings(binding: &Binding<'_>) -> Vec<BindingFinding> {
    let mut out = Vec::new();
    for (i, subject) in binding.subjects.iter().enumerate() {
        let path = format!("subjects[{i}]");
        for (id, message) in of_subject(binding, subject) {
            out.extend(found(binding.scope, id, &path, &subject.name, message));
        }
    }
    let role = &binding.role_ref.name;
    for (id, message) in of_role(binding) {
        out.extend(found(binding.scope, id, "roleRef", role, message));
    }
    out
}

/// That nothing ends the rights of each account in a binding; empty when it gives no account rights.
///
/// This is what `OB-X01` is for a binding, and it weighs as much.
pub fn standing(binding: &Binding<'_>) -> Vec<BindingFinding> {
    let message = "holds its rights without an end; a WorkloadAccess gives them for as long as the work lasts";
    let Some(finding) = catalogue::finding("OB-X01", binding.scope) else {
        return Vec::new();
    };
    let subjects = binding.subjects.iter().enumerate();
    let accounts = subjects.filter(|(_, s)| Identity::of(binding.scope, s).is_account());
    accounts
        .map(|(i, subject)| BindingFinding {
            finding,
            violation: Violation::new(
                "WA-STANDING",
                format!("subjects[{i}]"),
                Problem::Forbidden,
                message,
            )
            .found(&subject.name),
        })
        .collect()
}

/// Who a subject stands for, the same text for every way to write it.
pub fn identity(scope: Scope<'_>, subject: &Subject) -> String {
    match Identity::of(scope, subject) {
        Identity::Account {
            namespace, name, ..
        } => format!("system:serviceaccount:{namespace}:{name}"),
        _ => format!("{} {}", subject.kind, subject.name),
    }
}

fn found(
    scope: Scope<'_>,
    id: &'static str,
    path: &str,
    value: &str,
    message: &str,
) -> Option<BindingFinding> {
    let finding = catalogue::finding(id, scope)?;
    let problem = match id {
        "OB-B08" => Problem::NotFound,
        _ => Problem::Forbidden,
    };
    let violation = Violation::new(id, path, problem, message).found(value);
    Some(BindingFinding { finding, violation })
}

/// Who a subject stands for, whatever kind it is written as.
enum Identity<'a> {
    Unauthenticated,
    Authenticated,
    Masters,
    AllAccounts,
    Account {
        namespace: &'a str,
        name: &'a str,
        alias: bool,
    },
    OtherSystem,
    Person,
}

impl<'a> Identity<'a> {
    fn of(scope: Scope<'a>, subject: &'a Subject) -> Self {
        let name = subject.name.as_str();
        match subject.kind.as_str() {
            "ServiceAccount" => {
                let written = subject.namespace.as_deref().filter(|n| !n.is_empty());
                Self::Account {
                    namespace: written.or_else(|| namespace(scope)).unwrap_or_default(),
                    name,
                    alias: false,
                }
            }
            "User" => Self::of_user(name),
            "Group" => Self::of_group(name),
            _ => Self::Person,
        }
    }

    fn of_user(name: &'a str) -> Self {
        let account = name
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'));
        match account {
            Some((namespace, name)) => Self::Account {
                namespace,
                name,
                alias: true,
            },
            None if name == "system:anonymous" => Self::Unauthenticated,
            None if name.starts_with("system:") => Self::OtherSystem,
            None => Self::Person,
        }
    }

    fn of_group(name: &str) -> Self {
        match name {
            "system:unauthenticated" => Self::Unauthenticated,
            "system:authenticated" => Self::Authenticated,
            "system:masters" => Self::Masters,
            "system:serviceaccounts" => Self::AllAccounts,
            _ if name.starts_with("system:serviceaccounts:") => Self::AllAccounts,
            _ if name.starts_with("system:node") || name.starts_with("system:kube-") => {
                Self::OtherSystem
            }
            _ => Self::Person,
        }
    }

    fn is_account(&self) -> bool {
        matches!(self, Self::AllAccounts | Self::Account { .. })
    }
}

fn namespace(scope: Scope<'_>) -> Option<&str> {
    match scope {
        Scope::Namespace(name) | Scope::PrivilegedNamespace(name) => Some(name),
        Scope::Cluster => None,
    }
}

fn of_subject(binding: &Binding<'_>, subject: &Subject) -> Vec<(&'static str, &'static str)> {
    let public = PUBLIC_ROLES.contains(&binding.role_ref.name.as_str());
    match Identity::of(binding.scope, subject) {
        Identity::Unauthenticated if public => vec![],
        Identity::Unauthenticated => vec![(
            "OB-B01",
            "must not be callers without credentials; name the one ServiceAccount that needs the rights",
        )],
        Identity::Authenticated => vec![(
            "OB-B02",
            "must not be everybody with credentials; name the one ServiceAccount that needs the rights",
        )],
        Identity::Masters => vec![(
            "OB-B03",
            "must not be this group: its members pass every check, and nothing but new credentials takes that away",
        )],
        Identity::AllAccounts => vec![(
            "OB-B04",
            "must not be every ServiceAccount; name the one that needs the rights",
        )],
        Identity::OtherSystem => vec![(
            "OB-B11",
            "must not be an identity of the cluster itself; give the workload a ServiceAccount of its own",
        )],
        Identity::Account {
            namespace: of,
            name,
            alias,
        } => of_account(binding.scope, of, name, alias),
        Identity::Person => vec![],
    }
}

fn of_account(
    scope: Scope<'_>,
    of: &str,
    name: &str,
    alias: bool,
) -> Vec<(&'static str, &'static str)> {
    let mut out = Vec::new();
    if alias {
        out.push((
            "OB-B11",
            "must be written as `kind: ServiceAccount`; as a User it has the same rights and is overlooked",
        ));
    }
    if name == "default" {
        out.push((
            "OB-B05",
            "must be a dedicated ServiceAccount, not `default`, which every pod without one shares",
        ));
    }
    if namespace(scope).is_some_and(|own| own != of) {
        out.push((
            "OB-B06",
            "is an account of another namespace, whose owners decide who runs as it; use an account of this one",
        ));
    }
    out
}

fn of_role(binding: &Binding<'_>) -> Vec<(&'static str, &'static str)> {
    let name = binding.role_ref.name.as_str();
    let is_default =
        |names: [&str; 3]| binding.role_ref.kind == "ClusterRole" && names.contains(&name);
    let (wide, aggregated) = match binding.role {
        BoundRole::Missing => {
            return vec![(
                "OB-B08",
                "must name a role that exists; whoever creates it later decides what this binding gives",
            )];
        }
        BoundRole::Unknown => (
            is_default(WIDE_BY_DEFAULT),
            is_default(AGGREGATED_BY_DEFAULT),
        ),
        // The rules of an aggregated role are not in its manifest.
        BoundRole::Found {
            rules: [],
            aggregated: true,
        } => (is_default(WIDE_BY_DEFAULT), true),
        // Rules above the cap are a finding of their own (OB-R05), and are not walked.
        BoundRole::Found { rules, aggregated } => {
            let walkable = rules::atoms(rules) <= rules::MAX_ATOMS;
            (
                walkable && Ceiling::compile(rules).covers(&EDIT),
                aggregated,
            )
        }
    };
    let mut out = Vec::new();
    if wide {
        out.push((
            "OB-B07",
            "gives all that `edit` gives or more: secrets, pods that run as any account, other accounts' identities; list the rights that are needed",
        ));
    }
    if aggregated {
        out.push((
            "OB-B10",
            "grows whenever somebody labels another ClusterRole for it; bind a role with rules of its own",
        ));
    }
    out
}

/// What makes the default ClusterRole `edit` as good as the namespace: a role that covers this much is its equal, whatever
/// it is called.
static EDIT: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            api_groups: vec![group.to_owned()],
            resources: texts(resources),
            verbs: texts(verbs),
            ..Rule::default()
        }
    };
    let write = ["create", "delete", "patch", "update"];
    vec![
        rule("", &["secrets"], &["get", "list", "watch"]),
        rule("", &["serviceaccounts"], &["impersonate"]),
        rule("", &["pods", "secrets", "configmaps", "services"], &write),
        rule("", &["pods/exec"], &["create"]),
        rule(
            "apps",
            &["deployments", "statefulsets", "daemonsets"],
            &write,
        ),
        rule("batch", &["jobs", "cronjobs"], &write),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Scope<'static> = Scope::Namespace("payments");

    fn subject(kind: &str, namespace: Option<&str>, name: &str) -> Subject {
        Subject {
            kind: kind.into(),
            name: name.into(),
            namespace: namespace.map(str::to_owned),
            api_group: None,
        }
    }

    fn role_ref(name: &str) -> RoleRef {
        RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "ClusterRole".into(),
            name: name.into(),
        }
    }

    fn ids(
        scope: Scope<'_>,
        subject: Subject,
        role: &str,
        known: BoundRole<'_>,
    ) -> Vec<&'static str> {
        let binding = Binding {
            scope,
            subjects: &[subject],
            role_ref: &role_ref(role),
            role: known,
        };
        findings(&binding).iter().map(|f| f.finding.id).collect()
    }

    #[test]
    fn subjects_are_told_by_who_they_are_not_by_how_they_are_written() {
        let of = |kind, namespace, name| {
            ids(
                HERE,
                subject(kind, namespace, name),
                "r",
                BoundRole::Unknown,
            )
        };
        assert_eq!(of("Group", None, "system:unauthenticated"), ["OB-B01"]);
        assert_eq!(of("User", None, "system:anonymous"), ["OB-B01"]);
        assert_eq!(of("Group", None, "system:authenticated"), ["OB-B02"]);
        assert_eq!(of("Group", None, "system:masters"), ["OB-B03"]);
        assert_eq!(of("Group", None, "system:serviceaccounts:dev"), ["OB-B04"]);
        assert_eq!(of("ServiceAccount", None, "default"), ["OB-B05"]);
        assert_eq!(of("ServiceAccount", Some("other"), "ci"), ["OB-B06"]);
        assert_eq!(of("User", None, "system:kube-scheduler"), ["OB-B11"]);
        assert_eq!(
            of("User", None, "system:serviceaccount:other:default"),
            ["OB-B11", "OB-B05", "OB-B06"]
        );
        assert_eq!(of("ServiceAccount", Some("payments"), "ci"), [""; 0]);
        assert_eq!(of("User", None, "jane"), [""; 0]);
    }

    #[test]
    fn what_kubernetes_gives_everybody_itself_is_no_finding() {
        let anonymous = subject("Group", None, "system:unauthenticated");
        let role = "system:public-info-viewer";
        assert_eq!(
            ids(Scope::Cluster, anonymous, role, BoundRole::Unknown),
            [""; 0]
        );
    }

    #[test]
    fn a_role_is_wide_by_its_rules_and_by_its_name_only_when_they_are_unknown() {
        let ci = || subject("ServiceAccount", None, "ci");
        let unknown = |role| ids(HERE, ci(), role, BoundRole::Unknown);
        assert_eq!(unknown("cluster-admin"), ["OB-B07"]);
        assert_eq!(unknown("edit"), ["OB-B07", "OB-B10"]);
        assert_eq!(unknown("view"), ["OB-B10"]);
        let everything = Rule {
            api_groups: vec!["*".into()],
            resources: vec!["*".into()],
            verbs: vec!["*".into()],
            ..Rule::default()
        };
        let found = |rules, aggregated| BoundRole::Found { rules, aggregated };
        let wide = std::slice::from_ref(&everything);
        assert_eq!(ids(HERE, ci(), "innocent", found(wide, false)), ["OB-B07"]);
        assert_eq!(ids(HERE, ci(), "cluster-admin", found(&[], false)), [""; 0]);
        assert_eq!(ids(HERE, ci(), "mine", found(&[], true)), ["OB-B10"]);
        assert_eq!(ids(HERE, ci(), "gone", BoundRole::Missing), ["OB-B08"]);
    }

    #[test]
    fn only_an_account_stands_without_an_end() {
        let of = |subject: Subject| {
            standing(&Binding {
                scope: HERE,
                subjects: &[subject],
                role_ref: &role_ref("r"),
                role: BoundRole::Unknown,
            })
        };
        assert!(of(subject("User", None, "jane")).is_empty());
        let standing = of(subject("ServiceAccount", None, "ci"));
        assert_eq!(standing[0].violation.code, "WA-STANDING");
    }

    #[test]
    fn an_account_is_the_same_however_it_is_written() {
        let of = |subject: Subject| identity(HERE, &subject);
        let plain = of(subject("ServiceAccount", None, "ci"));
        assert_eq!(plain, of(subject("ServiceAccount", Some("payments"), "ci")));
        assert_eq!(
            plain,
            of(subject("User", None, "system:serviceaccount:payments:ci"))
        );
        assert_ne!(plain, of(subject("ServiceAccount", Some("other"), "ci")));
        assert_ne!(
            of(subject("User", None, "x")),
            of(subject("Group", None, "x"))
        );
    }
}
