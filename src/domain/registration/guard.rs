//! The webhooks of the guard on plain RBAC.

use super::{Entry, Requirement, Rule};
use crate::api::names::NAMESPACE_NAME;

const LABEL: &str = "stint.dev/guard";

/// Users of the control plane, which write RBAC to keep the cluster going. They are not asked about.
const CONTROL_PLANE: &str = "'system:apiserver', 'system:kube-controller-manager', \
    'system:serviceaccount:kube-system:clusterrole-aggregation-controller', \
    'system:serviceaccount:kube-system:generic-garbage-collector', 'system:serviceaccount:kube-system:job-controller', \
    'system:serviceaccount:kube-system:namespace-controller', \
    'system:serviceaccount:kube-system:ttl-after-finished-controller'";

/// What gives nobody more is not asked about.
const GIVES_SOMETHING: &str = "request.operation == 'CREATE' || \
    ['rules', 'aggregationRule', 'subjects'].exists(f, \
    (f in object ? object[f] : null) != (f in oldObject ? oldObject[f] : null)) || \
    (request.resource.resource == 'clusterroles' && \
    object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({}))";

/// The settings that decide what the guard is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Registered<'a> {
    /// Name of the installation, which those of its own ClusterRoles begin with.
    pub installation: &'a str,
    /// Namespace of the operator.
    pub namespace: &'a str,
    /// User name of the operator.
    pub operator: &'a str,
    /// Whether it denies where a namespace has no label.
    pub denies: bool,
    /// What it does with what is in no namespace.
    pub cluster: Cluster,
    /// What happens where it denies and nobody answers; `None`, the settings do not say.
    pub failure: Option<&'a str>,
    /// Users that it lets do everything.
    pub users: &'a [String],
    /// Groups whose members it lets do everything.
    pub groups: &'a [String],
}

/// What the guard does with ClusterRoles and ClusterRoleBindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// It is not asked.
    Off,
    /// It lets them pass.
    Told,
    /// It refuses.
    Denied,
}

/// Of the guard's ValidatingWebhookConfiguration.
pub fn guard(of: &Registered<'_>) -> Vec<Entry> {
    let (open, failure) = (Some("Ignore".to_owned()), of.failure.map(str::to_owned));
    let entry = |name, failure| Entry {
        name,
        path: "/guard",
        failure,
        rules: vec![rbac(&["roles", "rolebindings"], "Namespaced")],
        namespaces: Vec::new(),
        conditions: conditions(of),
    };
    let modes = |in_mode: bool, modes: &[&str]| {
        let operator = if in_mode { "In" } else { "NotIn" };
        namespaces(of.namespace, operator, modes)
    };
    let mut entries = vec![
        Entry {
            namespaces: match of.denies {
                true => modes(false, &["audit", "warn"]),
                false => modes(true, &["deny"]),
            },
            ..entry("deny.guard.stint.dev", failure.clone())
        },
        Entry {
            namespaces: match of.denies {
                true => modes(true, &["audit", "warn"]),
                false => modes(false, &["deny"]),
            },
            ..entry("guard.stint.dev", open.clone())
        },
    ];
    if of.cluster == Cluster::Off {
        return entries;
    }
    let whole = |name, failure, resources, (condition, expression)| {
        let mut entry = entry(name, failure);
        entry.rules = vec![rbac(resources, "Cluster")];
        entry.conditions.push((condition, expression));
        entry
    };
    let name = of.installation;
    let people =
        format!("'{name}-view', '{name}-requester', '{name}-approver', '{name}-cluster-requester'");
    // A binding that has the name of a role of the chart is anybody's. What the roles give is kept by policy `guard-roles`.
    let chart = format!(
        "!(request.name in (request.resource.resource == 'clusterrolebindings' ? ['{name}', '{name}-grantable'] : \
        ['{name}', 'stint-grantable', '{name}-grantable-default', {people}]))"
    );
    let failure = match of.cluster {
        Cluster::Denied => failure,
        _ => open.clone(),
    };
    let not_of_this_chart = ("not-of-this-chart", chart);
    let for_people = ("for-people", format!("request.name in [{people}]"));
    let both: &[&str] = &["clusterroles", "clusterrolebindings"];
    entries.push(whole(
        "cluster.guard.stint.dev",
        failure,
        both,
        not_of_this_chart,
    ));
    entries.push(whole(
        "people.guard.stint.dev",
        open,
        &["clusterroles"],
        for_people,
    ));
    entries
}

fn rbac(resources: &'static [&'static str], scope: &'static str) -> Rule {
    Rule {
        group: "rbac.authorization.k8s.io",
        version: "v1",
        operations: &["CREATE", "UPDATE"],
        resources,
        scope,
    }
}

fn namespaces(own: &str, operator: &'static str, modes: &[&str]) -> Vec<Requirement> {
    let modes = modes.iter().map(|mode| (*mode).to_owned()).collect();
    vec![
        (NAMESPACE_NAME, "NotIn", vec![own.to_owned()]),
        (LABEL, operator, modes),
    ]
}

fn conditions(of: &Registered<'_>) -> Vec<(&'static str, String)> {
    let quoted = |names: &[String]| {
        let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        names.join(", ")
    };
    let exempt = [of.users, &[of.operator.to_owned()]].concat();
    let mut all = vec![
        (
            "not-the-control-plane",
            format!("!(request.userInfo.username in [{CONTROL_PLANE}])"),
        ),
        (
            "not-exempt",
            format!("!(request.userInfo.username in [{}])", quoted(&exempt)),
        ),
    ];
    if !of.groups.is_empty() {
        all.push((
            "not-in-an-emergency",
            format!(
                "!request.userInfo.?groups.orValue([]).exists(g, g in [{}])",
                quoted(of.groups)
            ),
        ));
    }
    all.push(("gives-something", GIVES_SOMETHING.to_owned()));
    all
}
