//! What is known about resources: their kinds, scopes, and which have a status subresource or a generation.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One resource of the API.
#[derive(Clone, Debug)]
pub struct Kind {
    /// API group, empty for core.
    pub group: String,
    /// API version without the group.
    pub version: String,
    /// Lower-case plural, as in URLs.
    pub resource: String,
    /// Kind.
    pub kind: String,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Has the `status` subresource.
    pub status: bool,
    /// Counts `metadata.generation`.
    pub generation: bool,
    /// Defined by a CustomResourceDefinition.
    pub custom: bool,
}

const NAMESPACED: bool = true;
const CLUSTER: bool = false;

/// group, version, resource, kind, namespaced, status, generation
type BuiltIn = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
    bool,
    bool,
);

#[rustfmt::skip]
const BUILT_IN: &[BuiltIn] = &[
    ("", "v1", "configmaps", "ConfigMap", NAMESPACED, false, false),
    ("", "v1", "secrets", "Secret", NAMESPACED, false, false),
    ("", "v1", "serviceaccounts", "ServiceAccount", NAMESPACED, false, false),
    ("", "v1", "namespaces", "Namespace", CLUSTER, true, false),
    ("", "v1", "nodes", "Node", CLUSTER, true, false),
    ("", "v1", "pods", "Pod", NAMESPACED, true, true),
    ("", "v1", "services", "Service", NAMESPACED, true, false),
    ("", "v1", "endpoints", "Endpoints", NAMESPACED, false, false),
    ("", "v1", "events", "Event", NAMESPACED, false, false),
    ("apps", "v1", "deployments", "Deployment", NAMESPACED, true, true),
    ("apps", "v1", "statefulsets", "StatefulSet", NAMESPACED, true, true),
    ("apps", "v1", "daemonsets", "DaemonSet", NAMESPACED, true, true),
    ("apps", "v1", "replicasets", "ReplicaSet", NAMESPACED, true, true),
    ("batch", "v1", "jobs", "Job", NAMESPACED, true, true),
    ("batch", "v1", "cronjobs", "CronJob", NAMESPACED, true, true),
    ("coordination.k8s.io", "v1", "leases", "Lease", NAMESPACED, false, false),
    ("events.k8s.io", "v1", "events", "Event", NAMESPACED, false, false),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", NAMESPACED, false, false),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", NAMESPACED, false, false),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", CLUSTER, false, false),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", CLUSTER, false, false),
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", CLUSTER, false, true),
    ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", CLUSTER, false, true),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", CLUSTER, true, true),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", CLUSTER, false, true),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", CLUSTER, true, true),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", CLUSTER, false, false),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", CLUSTER, false, false),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", NAMESPACED, false, false),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", CLUSTER, false, false),
];

/// Every known resource: the built-in ones above and the custom resources of this project, read from their definitions.
pub fn all() -> &'static [Kind] {
    static ALL: OnceLock<Vec<Kind>> = OnceLock::new();
    ALL.get_or_init(|| {
        BUILT_IN
            .iter()
            .map(built_in)
            .chain(custom())
            .collect::<Vec<_>>()
    })
}

fn built_in(row: &BuiltIn) -> Kind {
    let &(group, version, resource, kind, namespaced, status, generation) = row;
    Kind {
        group: group.into(),
        version: version.into(),
        resource: resource.into(),
        kind: kind.into(),
        namespaced,
        status,
        generation,
        custom: false,
    }
}

fn custom() -> Vec<Kind> {
    let definitions = stint::api::custom_resource_definitions();
    let kinds = definitions.into_iter().map(|definition| {
        let spec = definition.spec;
        let version = spec
            .versions
            .into_iter()
            .next()
            .expect("a definition has a version");
        Kind {
            group: spec.group,
            version: version.name,
            resource: spec.names.plural,
            kind: spec.names.kind,
            namespaced: spec.scope == "Namespaced",
            status: version.subresources.is_some_and(|s| s.status.is_some()),
            generation: true,
            custom: true,
        }
    });
    kinds.collect()
}

/// The resource of a URL; an unknown one is taken for a custom resource with a status.
pub fn of_resource(group: &str, version: &str, resource: &str, namespaced: bool) -> Kind {
    let known = all()
        .iter()
        .find(|k| k.group == group && k.resource == resource);
    known.cloned().unwrap_or_else(|| Kind {
        group: group.into(),
        version: version.into(),
        resource: resource.into(),
        kind: String::new(),
        namespaced,
        status: true,
        generation: true,
        custom: true,
    })
}

/// The resource that an object or owner reference names by `apiVersion` and `kind`.
pub fn of_object(api_version: &str, kind: &str) -> Kind {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let known = all().iter().find(|k| k.group == group && k.kind == kind);
    known.cloned().unwrap_or_else(|| Kind {
        group: group.into(),
        version: version.into(),
        resource: format!("{}s", kind.to_lowercase()),
        kind: kind.into(),
        namespaced: true,
        status: true,
        generation: true,
        custom: true,
    })
}

impl Kind {
    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `kind.group`, as refusals name an invalid object.
    pub fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.kind.clone(),
            group => format!("{}.{group}", self.kind),
        }
    }

    /// `resource.group`, as refusals name a resource.
    pub fn qualified_resource(&self) -> String {
        match self.group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }

    /// A PUT to an absent object creates it.
    pub fn creates_on_update(&self) -> bool {
        let group = self.group.as_str();
        matches!(group, "rbac.authorization.k8s.io" | "coordination.k8s.io")
            || self.resource == "events"
    }

    /// A PUT must carry the resourceVersion that it replaces.
    pub fn needs_version_on_update(&self) -> bool {
        self.custom
            || matches!(
                self.group.as_str(),
                "coordination.k8s.io" | "apiextensions.k8s.io" | "admissionregistration.k8s.io"
            )
    }

    /// Dependents are left alone unless a DELETE says otherwise: batch/v1 Jobs, for compatibility with old clients.
    pub fn orphans_by_default(&self) -> bool {
        self.group == "batch" && self.resource == "jobs"
    }

    /// A DELETE answers with the object and not with a Status.
    pub fn returns_deleted(&self) -> bool {
        self.resource == "serviceaccounts" || self.resource == "pods"
    }

    /// The namespace controller and its finalizer look after the end of this kind.
    pub fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.resource == "namespaces"
    }
}

/// Subresources beside `status` that grants are often about.
const SUBRESOURCES: &[(&str, &[&str])] = &[
    (
        "pods",
        &["exec", "log", "portforward", "ephemeralcontainers"],
    ),
    ("deployments", &["scale"]),
    ("statefulsets", &["scale"]),
    ("serviceaccounts", &["token"]),
    ("nodes", &["proxy"]),
];

/// `APIGroupDiscoveryList` of the core group or of all others, with the resources of `definitions`.
pub fn discovery(core: bool, definitions: &[Kind]) -> Value {
    let mut groups: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    let kinds = all().iter().chain(definitions);
    for kind in kinds.filter(|kind| kind.group.is_empty() == core) {
        let version = (kind.group.as_str(), kind.version.as_str());
        groups.entry(version).or_default().push(discovered(kind));
    }
    let items: Vec<Value> = groups
        .into_iter()
        .map(|((group, version), resources)| {
            let version =
                json!({"version": version, "resources": resources, "freshness": "Current"});
            json!({"metadata": {"name": group}, "versions": [version]})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn discovered(kind: &Kind) -> Value {
    let known = SUBRESOURCES.iter().find(|(of, _)| *of == kind.resource);
    let others = known.map_or([].as_slice(), |(_, others)| others);
    let status = kind.status.then_some("status");
    let subresources: Vec<Value> = others
        .iter()
        .copied()
        .chain(status)
        .map(|name| json!({"subresource": name, "verbs": ["get"]}))
        .collect();
    let scope = if kind.namespaced {
        "Namespaced"
    } else {
        "Cluster"
    };
    json!({"resource": kind.resource, "scope": scope, "verbs": ["get"], "subresources": subresources})
}

/// The kind that a CustomResourceDefinition in the store defines.
pub fn of_definition(definition: &Value) -> Kind {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &definition["spec"];
    Kind {
        group: text(&spec["group"]),
        version: text(&spec["versions"][0]["name"]),
        resource: text(&spec["names"]["plural"]),
        kind: text(&spec["names"]["kind"]),
        namespaced: spec["scope"] == "Namespaced",
        status: false,
        generation: true,
        custom: true,
    }
}
