//! What the API server serves, and what of a rule does anything where a grant holds.
//!
//! A rule that does nothing today may come alive with the next CRD or the next binding, so a request may not contain
//! one; a copy of a role leaves it out. `*` is not looked up: what it would stand for is never the ground of a decision.

use crate::domain::catalogue::Scope;
use crate::domain::hygiene;
use crate::domain::rules::{ALL, Rule};
use crate::domain::violation::{Problem, Violation};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Where objects of a resource live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In namespaces.
    Namespace,
    /// In the cluster.
    Cluster,
}

/// What is known about a pair of group and resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is served, or an authorizer asks for it although nothing serves it.
    Home(Home),
    /// Nothing serves it.
    Unknown,
    /// The group's own API server does not answer, so nobody can tell.
    Unavailable,
}

/// All that an API server serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    groups: HashMap<String, Group>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    resources: HashMap<String, Home>,
    unavailable: bool,
}

/// What authorizers ask for although no API serves it, all in the cluster: impersonation (`users`, `groups`, `uids`,
/// `userextras/<key>`; `filters/impersonation.go`), signers (`plugin/pkg/admission/certificates`), and the kubelet's own
/// subresources (`pkg/kubelet/server/auth.go`).
fn is_virtual(group: &str, resource: &str) -> bool {
    match group {
        "" => {
            matches!(
                resource,
                "users"
                    | "groups"
                    | "nodes/stats"
                    | "nodes/metrics"
                    | "nodes/log"
                    | "nodes/spec"
                    | "nodes/checkpoint"
                    | "nodes/configz"
                    | "nodes/healthz"
                    | "nodes/pods"
            )
        }
        "authentication.k8s.io" => resource == "uids" || resource.starts_with("userextras/"),
        "certificates.k8s.io" => resource == "signers",
        _ => false,
    }
}

impl Served {
    /// Adds a resource, or a subresource as `resource/subresource`.
    pub fn add(&mut self, group: &str, resource: String, home: Home) {
        let group = self.groups.entry(group.to_owned()).or_default();
        group.resources.insert(resource, home);
    }

    /// Not all of the group could be learned.
    pub fn add_unavailable(&mut self, group: &str) {
        self.groups.entry(group.to_owned()).or_default().unavailable = true;
    }

    /// Whether nothing at all is known.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What is known about one pair.
    pub fn look_up(&self, group: &str, resource: &str) -> Lookup {
        if is_virtual(group, resource) {
            return Lookup::Home(Home::Cluster);
        }
        let Some(group) = self.groups.get(group) else {
            return Lookup::Unknown;
        };
        match group.resources.get(resource) {
            Some(home) => Lookup::Home(*home),
            None if group.unavailable => Lookup::Unavailable,
            None => Lookup::Unknown,
        }
    }

    /// Whether every pair of the rules is served. Rules that are too large to walk are refused whatever is served.
    pub fn knows(&self, rules: &[Rule]) -> bool {
        if !hygiene::fits(rules) {
            return true;
        }
        let mut all = rules.iter().flat_map(pairs);
        all.all(|(g, r)| matches!(self.look_up(g, r), Lookup::Home(_)))
    }

    /// Whether anything that the rules name lives in namespaces.
    pub(crate) fn any_namespaced(&self, rules: &[Rule]) -> bool {
        let home = |(g, r): (&str, &str)| self.look_up(g, r) == Lookup::Home(Home::Namespace);
        rules.iter().flat_map(pairs).any(home)
    }

    /// The groups of the rules of which nobody can tell now what they serve.
    pub(crate) fn unavailable(&self, rules: &[Rule]) -> BTreeSet<String> {
        let all = rules.iter().flat_map(pairs);
        all.filter(|(g, r)| self.look_up(g, r) == Lookup::Unavailable)
            .map(|(g, _)| g.to_owned())
            .collect()
    }

    /// The pairs of group and resource that nothing serves.
    pub fn unknown<'a>(&self, rules: &'a [Rule]) -> BTreeSet<(&'a str, &'a str)> {
        let all = rules.iter().flat_map(pairs);
        all.filter(|(g, r)| self.look_up(g, r) == Lookup::Unknown)
            .collect()
    }

    fn groups_with(&self, resource: &str) -> Vec<&str> {
        let serving = self.groups.iter();
        let mut names: Vec<&str> = serving
            .filter(|(_, group)| group.resources.contains_key(resource))
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        names
    }
}

/// The pairs of a rule that name both a group and a resource.
fn pairs(rule: &Rule) -> impl Iterator<Item = (&str, &str)> {
    let named = |text: &&String| !text.contains(ALL);
    rule.api_groups.iter().filter(named).flat_map(move |group| {
        let resources = rule.resources.iter().filter(named);
        resources.map(move |resource| (group.as_str(), resource.as_str()))
    })
}

/// Whether a verb on a served resource means anything through a binding of this scope.
///
/// A RoleBinding reaches requests of its own namespace. A request for one Namespace counts as one of that namespace
/// (apiserver `request/requestinfo.go`), and `bind` on ClusterRoles is asked in the namespace of the new RoleBinding
/// (`registry/rbac/rolebinding/policybased`), as `use` is in the namespace of the pod.
fn is_live(scope: Scope<'_>, group: &str, resource: &str, verb: &str, home: Home) -> bool {
    if scope == Scope::Cluster || home == Home::Namespace || verb == ALL {
        return true;
    }
    match (group, resource.split('/').next().unwrap_or_default()) {
        ("", "namespaces") => matches!(verb, "get" | "update" | "patch" | "delete"),
        ("rbac.authorization.k8s.io", "clusterroles") => verb == "bind",
        ("policy", "podsecuritypolicies")
        | ("security.openshift.io", "securitycontextconstraints") => verb == "use",
        _ => false,
    }
}

/// What of a request's rules does nothing where the grant holds, or names what nothing serves.
pub(crate) fn check(
    rules: &[Rule],
    base: &str,
    scope: Scope<'_>,
    served: &Served,
    wrong: &mut Vec<Violation>,
) {
    for (i, rule) in rules.iter().enumerate() {
        // Each resource or verb is told about once, whatever number of groups it stands beside.
        let mut told = BTreeMap::new();
        for (group, resource) in pairs(rule) {
            let violation = match served.look_up(group, resource) {
                Lookup::Unknown => Some(unknown(group, resource, served)),
                Lookup::Home(home) => inert(rule, scope, group, resource, home),
                Lookup::Unavailable => None,
            };
            if let Some(violation) = violation {
                told.entry(resource).or_insert(violation);
            }
        }
        for (j, resource) in rule.resources.iter().enumerate() {
            if let Some(violation) = told.remove(resource.as_str()) {
                let path = format!("{base}[{i}].resources[{j}]");
                wrong.push(Violation { path, ..violation });
            }
        }
    }
}

fn unknown(group: &str, resource: &str, served: &Served) -> Violation {
    let mut message = format!("is not served by API group '{group}'");
    match served.groups_with(resource).as_slice() {
        [] => message.push_str("; install its CustomResourceDefinition first, or leave it out"),
        groups => {
            let quoted: Vec<String> = groups.iter().map(|g| format!("'{g}'")).collect();
            message.push_str(&format!(
                "; {} serves it: write a rule for each group",
                quoted.join(", ")
            ));
        }
    }
    Violation::new("WA-UNKNOWN-RESOURCE", "", Problem::NotFound, message).found(resource)
}

fn inert(
    rule: &Rule,
    scope: Scope<'_>,
    group: &str,
    resource: &str,
    home: Home,
) -> Option<Violation> {
    let dead: Vec<&str> = rule
        .verbs
        .iter()
        .map(String::as_str)
        .filter(|verb| !is_live(scope, group, resource, verb, home))
        .collect();
    if dead.is_empty() {
        return None;
    }
    let message = format!(
        "must do something in the namespace of the request; {} on cluster-scoped '{resource}' does nothing through a \
         RoleBinding",
        dead.join(", ")
    );
    Some(Violation::new("WA-INERT", "", Problem::Invalid, message).found(resource))
}

/// The part of a role that does something where the grant holds. Wildcards and pairs of unavailable groups stay: they are
/// judged elsewhere.
pub fn effective(rules: &[Rule], scope: Scope<'_>, served: &Served) -> Vec<Rule> {
    let mut out = Vec::new();
    for rule in rules {
        let whole = pairs(rule).all(|(group, resource)| {
            let live = |home| {
                let mut verbs = rule.verbs.iter();
                verbs.all(|verb| is_live(scope, group, resource, verb, home))
            };
            match served.look_up(group, resource) {
                Lookup::Home(home) => live(home),
                Lookup::Unknown => false,
                Lookup::Unavailable => true,
            }
        });
        let urls_reach = scope == Scope::Cluster || rule.non_resource_urls.is_empty();
        match whole && urls_reach {
            true => out.push(rule.clone()),
            false => out.extend(live_parts(rule, scope, served)),
        }
    }
    out
}

fn live_parts(rule: &Rule, scope: Scope<'_>, served: &Served) -> Vec<Rule> {
    let mut out = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            let named = !group.contains(ALL) && !resource.contains(ALL);
            let home = match served.look_up(group, resource) {
                Lookup::Home(home) => home,
                Lookup::Unknown if named => continue,
                Lookup::Unknown | Lookup::Unavailable => Home::Namespace,
            };
            let live = |verb: &&String| is_live(scope, group, resource, verb, home);
            let verbs: Vec<String> = rule.verbs.iter().filter(live).cloned().collect();
            if !verbs.is_empty() {
                out.push(Rule {
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    resource_names: rule.resource_names.clone(),
                    verbs,
                    non_resource_urls: Vec::new(),
                });
            }
        }
    }
    out
}
