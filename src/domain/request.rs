//! A request of either kind, seen alike: a `WorkloadAccess` asks for its own namespace, a `ClusterWorkloadAccess` for the
//! whole cluster.

use crate::api::cluster_workload_access::{ClusterWorkloadAccess, ClusterWorkloadAccessSpec};
use crate::api::references::{UntilRef, WorkloadRef};
use crate::api::workload_access::{
    RoleReference, ServiceAccountRef, Urgency, WorkloadAccess, WorkloadAccessSpec,
    WorkloadAccessStatus,
};
use crate::domain::rules::Rule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

/// Where the rights of a grant hold, and so where everything made for it lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the namespace of the request.
    Namespace(String),
    /// In the whole cluster.
    Cluster,
}

impl Place {
    /// The namespace, if it is one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespace(name) => Some(name),
            Self::Cluster => None,
        }
    }

    /// The place of an object with this `metadata.namespace`, which objects of the cluster alone have not.
    pub fn of(namespace: Option<String>) -> Self {
        namespace.map_or(Self::Cluster, Self::Namespace)
    }

    /// The kind of a request for this place.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Namespace(_) => "WorkloadAccess",
            Self::Cluster => "ClusterWorkloadAccess",
        }
    }
}

/// A request of either kind.
pub trait AccessRequest {
    /// Its parts.
    fn view(&self) -> RequestView<'_>;
}

/// A request of either kind, as it was read.
#[derive(Clone, Debug)]
pub enum Access {
    /// For its own namespace.
    Namespaced(Box<WorkloadAccess>),
    /// For the whole cluster.
    Cluster(Box<ClusterWorkloadAccess>),
}

impl From<WorkloadAccess> for Access {
    fn from(object: WorkloadAccess) -> Self {
        Self::Namespaced(Box::new(object))
    }
}

impl From<ClusterWorkloadAccess> for Access {
    fn from(object: ClusterWorkloadAccess) -> Self {
        Self::Cluster(Box::new(object))
    }
}

impl AccessRequest for Access {
    fn view(&self) -> RequestView<'_> {
        match self {
            Self::Namespaced(object) => object.view(),
            Self::Cluster(object) => object.view(),
        }
    }
}

/// The parts of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Metadata.
    pub meta: &'a ObjectMeta,
    /// What is asked for.
    pub spec: SpecRef<'a>,
    /// What became of it.
    pub status: Option<&'a WorkloadAccessStatus>,
}

/// The spec of either kind.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum SpecRef<'a> {
    /// Of a WorkloadAccess.
    Namespaced(&'a WorkloadAccessSpec),
    /// Of a ClusterWorkloadAccess.
    Cluster(&'a ClusterWorkloadAccessSpec),
}

/// The same, owned.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Spec {
    /// Of a WorkloadAccess.
    Namespaced(WorkloadAccessSpec),
    /// Of a ClusterWorkloadAccess.
    Cluster(ClusterWorkloadAccessSpec),
}

/// The fields that both kinds have.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The account.
    pub account: &'a ServiceAccountRef,
    /// The role whose rules are copied.
    pub role_ref: Option<&'a RoleReference>,
    /// When access begins, as it was written.
    pub not_before: Option<&'a str>,
    /// When it ends, as it was written.
    pub not_after: Option<&'a str>,
    /// How long it lasts, as it was written.
    pub duration: Option<&'a str>,
    /// Why.
    pub reason: &'a str,
    /// Reference to the change or incident.
    pub ticket: Option<&'a str>,
    /// The work that ends it.
    pub until: Option<&'a UntilRef>,
    /// The workload that acts.
    pub workload: Option<&'a WorkloadRef>,
    /// How urgent it is.
    pub urgency: Urgency,
    /// Whether somebody ended it.
    pub revoked: bool,
}

impl Spec {
    /// See [`SpecRef::hash`].
    pub fn hash(&self) -> String {
        match self {
            Self::Namespaced(spec) => SpecRef::Namespaced(spec).hash(),
            Self::Cluster(spec) => SpecRef::Cluster(spec).hash(),
        }
    }
}

impl AccessRequest for WorkloadAccess {
    fn view(&self) -> RequestView<'_> {
        RequestView {
            meta: &self.metadata,
            spec: SpecRef::Namespaced(&self.spec),
            status: self.status.as_ref(),
        }
    }
}

impl AccessRequest for ClusterWorkloadAccess {
    fn view(&self) -> RequestView<'_> {
        RequestView {
            meta: &self.metadata,
            spec: SpecRef::Cluster(&self.spec),
            status: self.status.as_ref(),
        }
    }
}

impl RequestView<'_> {
    /// Where the rights would hold. The kind alone decides: a WorkloadAccess is never for the whole cluster, whatever its
    /// metadata lack.
    pub fn place(&self) -> Place {
        match self.spec {
            SpecRef::Namespaced(_) => {
                Place::Namespace(self.meta.namespace.clone().unwrap_or_default())
            }
            SpecRef::Cluster(_) => Place::Cluster,
        }
    }
}

impl<'a> SpecRef<'a> {
    /// The fields that both kinds have.
    pub fn terms(self) -> Terms<'a> {
        match self {
            Self::Namespaced(spec) => Terms {
                account: &spec.service_account_ref,
                role_ref: spec.role_ref.as_ref(),
                not_before: spec.not_before.as_deref(),
                not_after: spec.not_after.as_deref(),
                duration: spec.duration.as_deref(),
                reason: &spec.reason,
                ticket: spec.ticket.as_deref(),
                until: spec.until.as_ref(),
                workload: spec.workload_ref.as_ref(),
                urgency: spec.urgency.unwrap_or_default(),
                revoked: spec.revoked.unwrap_or(false),
            },
            Self::Cluster(spec) => Terms {
                account: &spec.service_account_ref,
                role_ref: spec.role_ref.as_ref(),
                not_before: spec.not_before.as_deref(),
                not_after: spec.not_after.as_deref(),
                duration: spec.duration.as_deref(),
                reason: &spec.reason,
                ticket: spec.ticket.as_deref(),
                until: None,
                workload: None,
                urgency: spec.urgency.unwrap_or_default(),
                revoked: spec.revoked.unwrap_or(false),
            },
        }
    }

    /// How many rules it has inline.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Namespaced(spec) => spec.rules.as_ref().map_or(0, Vec::len),
            Self::Cluster(spec) => spec.rules.as_ref().map_or(0, Vec::len),
        }
    }

    /// The inline rules, if there are any.
    pub fn rules(self) -> Option<Vec<Rule>> {
        match self {
            Self::Namespaced(spec) => Some(spec.rules.as_ref()?.iter().map(Rule::from).collect()),
            Self::Cluster(spec) => Some(spec.rules.as_ref()?.iter().map(Rule::from).collect()),
        }
    }

    pub(crate) fn to_owned(self) -> Spec {
        match self {
            Self::Namespaced(spec) => Spec::Namespaced(spec.clone()),
            Self::Cluster(spec) => Spec::Cluster(spec.clone()),
        }
    }

    /// Hash of what a receipt vouches for: the spec without `revoked`, which may change afterwards. `sha256:<hex>`.
    pub fn hash(self) -> String {
        match self {
            Self::Namespaced(WorkloadAccessSpec { revoked: None, .. })
            | Self::Cluster(ClusterWorkloadAccessSpec { revoked: None, .. }) => text_hash(&self),
            Self::Namespaced(spec) => text_hash(&WorkloadAccessSpec {
                revoked: None,
                ..spec.clone()
            }),
            Self::Cluster(spec) => text_hash(&ClusterWorkloadAccessSpec {
                revoked: None,
                ..spec.clone()
            }),
        }
    }
}

/// One text for one spec: there are no maps in it, fields come in the order of the type, absent ones not at all. A struct of
/// strings and lists cannot fail to serialise.
fn text_hash(spec: &impl Serialize) -> String {
    let text = serde_json::to_vec(spec).unwrap_or_default();
    crate::domain::receipt::sha256(&text)
}
