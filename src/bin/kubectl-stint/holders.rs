//! Who holds a right at an instant, by standing bindings and by grants. Pure: RBAC as it was read, and a question.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use std::collections::HashMap;
use stint::api::conditions as reasons;
use stint::api::names::{GRANT, NOT_AFTER, WORKLOAD_ACCESS};
use stint::api::workload_access::RoleKind;
use stint::cluster::standing::RoleKey;
use stint::domain::request::{Access, AccessRequest, Place, RequestView};
use stint::domain::rules::{self, Request, Rule};
use stint::domain::status::ready_reason;
use stint::domain::{verification, window};

/// A right that somebody may hold.
#[derive(Clone, Debug)]
pub enum Right {
    /// On a resource, as rules write it: with its subresource.
    Resource {
        /// The verb.
        verb: String,
        /// API group; empty for core.
        group: String,
        /// Resource or `resource/subresource`.
        resource: String,
        /// Name of the object; empty for all of them.
        name: String,
    },
    /// On a URL path.
    Path {
        /// HTTP method in lower case.
        verb: String,
        /// The path.
        path: String,
    },
}

/// Somebody who holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// `ServiceAccount namespace/name`, `User name` or `Group name`.
    pub subject: String,
    /// The binding, or the request that will give it.
    pub by: String,
    /// The role.
    pub role: String,
    /// When it ends; none for standing rights.
    pub until: Option<String>,
}

/// What the question came to.
#[derive(Debug, Default)]
pub struct Found {
    /// Who holds the right.
    pub holders: Vec<Holder>,
    /// How many more hold it on single objects alone.
    pub by_name: usize,
}

/// Roles and bindings of a cluster, as far as a question needs them.
#[derive(Debug, Default)]
pub struct Rbac {
    roles: HashMap<RoleKey, Vec<Rule>>,
    bindings: Vec<Binding>,
    planned: Vec<Planned>,
}

#[derive(Debug)]
struct Binding {
    namespace: Option<String>,
    name: String,
    title: String,
    role: RoleKey,
    subjects: Vec<Subject>,
    until: Option<Timestamp>,
}

/// A binding that gives somebody rights.
#[derive(Debug)]
pub struct Bound<'a> {
    /// The namespace of a RoleBinding.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// The request that it was made for, or itself.
    pub title: &'a str,
    /// The role.
    pub role: String,
    /// The rules of the role; none when it is not there.
    pub rules: Option<&'a [Rule]>,
    /// When it ends; none for standing rights.
    pub until: Option<Timestamp>,
}

/// A request whose window has not opened.
#[derive(Debug)]
struct Planned {
    namespace: Option<String>,
    title: String,
    subject: String,
    rules: Vec<Rule>,
    role: Option<RoleKey>,
    from: Timestamp,
    until: Timestamp,
}

fn read(rules: Option<&Vec<PolicyRule>>) -> Vec<Rule> {
    rules.into_iter().flatten().map(Rule::from).collect()
}

impl Rbac {
    /// A Role.
    pub fn role(&mut self, role: &Role) {
        self.roles
            .insert(RoleKey::of(role), read(role.rules.as_ref()));
    }

    /// A ClusterRole.
    pub fn cluster_role(&mut self, role: &ClusterRole) {
        self.roles
            .insert(RoleKey::of(role), read(role.rules.as_ref()));
    }

    /// A RoleBinding.
    pub fn role_binding(&mut self, binding: RoleBinding) {
        let title = "RoleBinding";
        self.bind(
            title,
            &binding.metadata,
            &binding.role_ref,
            binding.subjects,
        );
    }

    /// A ClusterRoleBinding.
    pub fn cluster_role_binding(&mut self, binding: ClusterRoleBinding) {
        let title = "ClusterRoleBinding";
        self.bind(
            title,
            &binding.metadata,
            &binding.role_ref,
            binding.subjects,
        );
    }

    fn bind(
        &mut self,
        kind: &str,
        meta: &ObjectMeta,
        role: &RoleRef,
        subjects: Option<Vec<Subject>>,
    ) {
        let namespace = meta.namespace.clone();
        let annotation = |key| meta.annotations.as_ref().and_then(|all| all.get(key));
        let made = meta
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(GRANT));
        let request = annotation(WORKLOAD_ACCESS).filter(|_| made);
        let title = match (request, &namespace) {
            (Some(name), Some(namespace)) => format!("WorkloadAccess {namespace}/{name}"),
            (Some(name), None) => format!("ClusterWorkloadAccess {name}"),
            (None, Some(namespace)) => format!("{kind} {namespace}/{}", name(meta)),
            (None, None) => format!("{kind} {}", name(meta)),
        };
        // An end that nobody can read is an end that has come: Stint takes such a binding away at once.
        let end = annotation(NOT_AFTER).map(|text| text.parse().unwrap_or(Timestamp::UNIX_EPOCH));
        self.bindings.push(Binding {
            role: RoleKey::referred(role, namespace.as_deref()),
            namespace,
            name: name(meta),
            title,
            subjects: subjects.unwrap_or_default(),
            until: end.filter(|_| made),
        });
    }

    /// A request, if it is admitted and has not begun.
    pub fn request(&mut self, access: &Access) {
        self.planned.extend(planned(&access.view()));
    }

    /// What binds this user or one of the groups, in any place.
    pub fn bound_to<'a>(
        &'a self,
        user: &'a str,
        groups: &'a [String],
    ) -> impl Iterator<Item = Bound<'a>> {
        let applies = move |binding: &&Binding| {
            let own = binding.namespace.as_deref().unwrap_or_default();
            let mut subjects = binding.subjects.iter();
            subjects.any(|subject| rules::applies_to(subject, own, user, groups))
        };
        let bindings = self.bindings.iter().filter(applies);
        bindings.map(|binding| Bound {
            namespace: binding.namespace.as_deref(),
            name: &binding.name,
            title: &binding.title,
            role: role_name(&binding.role),
            rules: self.roles.get(&binding.role).map(Vec::as_slice),
            until: binding.until,
        })
    }

    /// Who holds the right in the place at the instant.
    pub fn holders(&self, right: &Right, place: &Place, at: Timestamp) -> Found {
        let mut found = Found::default();
        for binding in &self.bindings {
            let reaches =
                binding.namespace.is_none() || binding.namespace.as_deref() == place.namespace();
            let over = binding.until.is_some_and(|until| until <= at);
            let Some(rules) = self.roles.get(&binding.role).filter(|_| reaches && !over) else {
                continue;
            };
            let holders = binding.subjects.iter().map(|subject| Holder {
                subject: subject_name(subject, binding.namespace.as_deref()),
                by: binding.title.clone(),
                role: role_name(&binding.role),
                until: binding.until.map(|until| until.to_string()),
            });
            found.add(holders.collect(), rules, right);
        }
        for planned in &self.planned {
            let reaches =
                planned.namespace.is_none() || planned.namespace.as_deref() == place.namespace();
            if !reaches || at < planned.from || planned.until <= at {
                continue;
            }
            let copied = planned.role.as_ref().and_then(|key| self.roles.get(key));
            let holder = Holder {
                subject: planned.subject.clone(),
                by: format!("{} (scheduled)", planned.title),
                role: planned.role.as_ref().map(role_name).unwrap_or_default(),
                until: Some(planned.until.to_string()),
            };
            found.add(vec![holder], copied.unwrap_or(&planned.rules), right);
        }
        found.holders.sort();
        found.holders.dedup();
        found
    }
}

impl Found {
    fn add(&mut self, holders: Vec<Holder>, rules: &[Rule], right: &Right) {
        if rules.iter().any(|rule| allows(rule, right)) {
            self.holders.extend(holders);
        } else if rules.iter().any(|rule| allows_some(rule, right)) {
            self.by_name += holders.len();
        }
    }
}

fn allows(rule: &Rule, right: &Right) -> bool {
    match right {
        Right::Path { verb, path } => rules::allows(rule, &Request::Path { verb, path }),
        Right::Resource {
            verb,
            group,
            resource,
            name,
        } => {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            rules::allows(
                rule,
                &Request::Resource {
                    verb,
                    group,
                    resource,
                    subresource,
                    name,
                },
            )
        }
    }
}

/// Whether the rule allows it on single objects, where all were asked for.
fn allows_some(rule: &Rule, right: &Right) -> bool {
    let Right::Resource { name, .. } = right else {
        return false;
    };
    let unnamed = Rule {
        resource_names: Vec::new(),
        ..rule.clone()
    };
    name.is_empty() && !rule.resource_names.is_empty() && allows(&unnamed, right)
}

fn planned(view: &RequestView<'_>) -> Option<Planned> {
    let status = view
        .status
        .filter(|status| ready_reason(status) == reasons::REASON_SCHEDULED)?;
    let terms = view.spec.terms();
    let from: Timestamp = terms.not_before?.parse().ok()?;
    let asked = match (terms.not_after, terms.duration) {
        (Some(text), _) => window::parse_instant("notAfter", text).ok()?,
        (None, text) => from
            .saturating_add(window::parse_duration("duration", text?).ok()?)
            .ok()?,
    };
    let until = status
        .not_after
        .as_ref()
        .map_or(asked, |end| end.0.min(asked));
    let place = view.place();
    let namespace = place.namespace().map(str::to_owned);
    let name = view.meta.name.clone().unwrap_or_default();
    Some(Planned {
        title: match &namespace {
            Some(namespace) => format!("WorkloadAccess {namespace}/{name}"),
            None => format!("ClusterWorkloadAccess {name}"),
        },
        subject: format!("ServiceAccount {}", verification::account(view)),
        rules: view.spec.rules().unwrap_or_default(),
        role: terms.role_ref.map(|role| RoleKey {
            namespace: namespace.clone().filter(|_| role.kind == RoleKind::Role),
            name: role.name.clone(),
        }),
        namespace,
        from,
        until,
    })
}

fn name(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

fn role_name(role: &RoleKey) -> String {
    match role.namespace {
        Some(_) => format!("Role {}", role.name),
        None => format!("ClusterRole {}", role.name),
    }
}

/// An account without a namespace is one of the binding's; a user name of an account is that account.
fn subject_name(subject: &Subject, namespace: Option<&str>) -> String {
    let account = |namespace: &str, name: &str| format!("ServiceAccount {namespace}/{name}");
    match subject.kind.as_str() {
        "ServiceAccount" => {
            let own = subject.namespace.as_deref().filter(|n| !n.is_empty());
            account(own.or(namespace).unwrap_or_default(), &subject.name)
        }
        kind => subject
            .name
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'))
            .filter(|_| kind == "User")
            .map_or_else(
                || format!("{kind} {}", subject.name),
                |(of, name)| account(of, name),
            ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn read<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    fn pods(verb: &str, names: &[&str]) -> Value {
        json!([{"apiGroups": [""], "resources": ["pods"], "resourceNames": names, "verbs": [verb]}])
    }

    fn rbac() -> Rbac {
        let mut rbac = Rbac::default();
        rbac.cluster_role(&read(
            json!({"metadata": {"name": "reader"}, "rules": pods("get", &[])}),
        ));
        rbac.role(&read(
            json!({"metadata": {"name": "stint-x", "namespace": "a"}, "rules": pods("get", &[])}),
        ));
        rbac.role(&read(
            json!({"metadata": {"name": "one", "namespace": "a"}, "rules": pods("get", &["p"])}),
        ));
        let subject = |kind: &str, name: &str| json!([{"kind": kind, "name": name}]);
        rbac.cluster_role_binding(read(
            json!({"metadata": {"name": "all"}, "subjects": subject("Group", "devs"),
            "roleRef": {"apiGroup": "", "kind": "ClusterRole", "name": "reader"}}),
        ));
        rbac.role_binding(read(json!({"metadata": {"name": "here", "namespace": "a"}, "subjects": subject("User", "system:serviceaccount:b:bot"),
            "roleRef": {"apiGroup": "", "kind": "ClusterRole", "name": "reader"}})));
        rbac.role_binding(read(json!({"metadata": {"name": "named", "namespace": "a"}, "subjects": subject("User", "jane"),
            "roleRef": {"apiGroup": "", "kind": "Role", "name": "one"}})));
        rbac.role_binding(read(json!({"metadata": {"name": "stint-x", "namespace": "a", "labels": {GRANT: "u"},
            "annotations": {WORKLOAD_ACCESS: "work", NOT_AFTER: "2026-12-01T13:00:00Z"}}, "subjects": subject("ServiceAccount", "m"),
            "roleRef": {"apiGroup": "", "kind": "Role", "name": "stint-x"}})));
        let scheduled: stint::api::WorkloadAccess = read(json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess", "metadata": {"name": "night", "namespace": "a"},
            "spec": {"serviceAccountRef": {"name": "m"}, "rules": pods("get", &[]), "reason": "r",
                     "notBefore": "2026-12-01T20:00:00Z", "duration": "1h"},
            "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Scheduled", "message": "",
                                       "lastTransitionTime": "2026-12-01T12:00:00Z"}]}}));
        rbac.request(&Access::from(scheduled));
        rbac
    }

    fn who(namespace: Option<&str>, name: &str, at: &str) -> (Vec<String>, usize) {
        let right = Right::Resource {
            verb: "get".into(),
            group: String::new(),
            resource: "pods".into(),
            name: name.into(),
        };
        let place = Place::of(namespace.map(str::to_owned));
        let found = rbac().holders(&right, &place, at.parse().unwrap());
        let told = found
            .holders
            .iter()
            .map(|h| format!("{} by {}", h.subject, h.by))
            .collect();
        (told, found.by_name)
    }

    const STANDING: [&str; 2] = [
        "Group devs by ClusterRoleBinding all",
        "ServiceAccount b/bot by RoleBinding a/here",
    ];

    #[test]
    fn standing_rights_and_grants_are_found_together_each_at_its_time() {
        let (now, by_name) = who(Some("a"), "", "2026-12-01T12:00:00Z");
        assert_eq!(
            now,
            [
                STANDING[0],
                "ServiceAccount a/m by WorkloadAccess a/work",
                STANDING[1]
            ]
        );
        assert_eq!(by_name, 1, "jane holds it on one object");
        assert_eq!(
            who(Some("a"), "", "2026-12-01T13:00:00Z").0,
            STANDING,
            "the grant is over"
        );
        let night = who(Some("a"), "", "2026-12-01T20:30:00Z").0;
        assert_eq!(
            night[1],
            "ServiceAccount a/m by WorkloadAccess a/night (scheduled)"
        );
        assert_eq!(who(Some("a"), "", "2026-12-01T21:00:00Z").0, STANDING);
    }

    #[test]
    fn a_place_and_a_name_narrow_the_question() {
        let at = "2026-12-01T12:00:00Z";
        assert_eq!(who(None, "", at).0, STANDING[..1]);
        assert_eq!(who(Some("b"), "", at).0, STANDING[..1]);
        let (named, more) = who(Some("a"), "p", at);
        assert!(
            named.contains(&"User jane by RoleBinding a/named".into()),
            "{named:?}"
        );
        assert_eq!(more, 0);
    }
}
