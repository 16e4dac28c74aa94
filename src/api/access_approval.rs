//! `AccessApproval`: one person's decision on one exact request.

use crate::api::workload_access::rfc3339;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A decision on one request, as it is now. Immutable: another decision is another object.
///
/// It lives in the namespace by whose labels policies select: that of a WorkloadAccess, or of the account of a
/// ClusterWorkloadAccess. Who may decide is RBAC: the approver needs the verb `approve` on the AccessPolicy.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "AccessApproval",
    plural = "accessapprovals",
    singular = "accessapproval",
    shortname = "aa",
    category = "stint",
    namespaced,
    derive = "PartialEq",
    doc = "One person's decision on one exact request, by its UID and the hash of its spec. The approver needs the RBAC verb `approve` on the AccessPolicy.",
    printcolumn = r#"{"name":"Kind","type":"string","jsonPath":".spec.requestRef.kind","priority":1}"#,
    printcolumn = r#"{"name":"Request","type":"string","jsonPath":".spec.requestRef.name"}"#,
    printcolumn = r#"{"name":"Decision","type":"string","jsonPath":".spec.decision"}"#,
    printcolumn = r#"{"name":"Until","type":"string","jsonPath":".spec.notAfter","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("is immutable; create another AccessApproval [WA-IMMUTABLE]")
)]
pub struct AccessApprovalSpec {
    /// The request.
    pub request_ref: RequestRef,

    /// Hash of the spec that is decided on, as `status.specHash` of the request shows it: `sha256:<hex>`.
    #[schemars(regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub spec_hash: String,

    /// What is decided.
    pub decision: Decision,

    /// With `Approve`: RFC 3339 instant at which access ends at the latest. It may end a grant earlier than was asked for,
    /// never later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rfc3339")]
    pub not_after: Option<String>,

    /// Why, for whoever reads the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: Option<String>,
}

/// One exact request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RequestRef {
    /// `WorkloadAccess` or `ClusterWorkloadAccess`.
    #[serde(default)]
    pub kind: RequestKind,
    /// Name of the request.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID of the request: one that is created again under its name is another.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// The kind of a request.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestKind {
    /// For the namespace of the approval.
    #[default]
    WorkloadAccess,
    /// For the whole cluster.
    ClusterWorkloadAccess,
}

impl RequestKind {
    /// The kind as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkloadAccess => "WorkloadAccess",
            Self::ClusterWorkloadAccess => "ClusterWorkloadAccess",
        }
    }
}

/// What is decided on a request.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Decision {
    /// The request may be granted.
    Approve,
    /// It may not, whoever approves it.
    Deny,
    /// A grant that was given by break-glass was looked at afterwards.
    Review,
}

impl Decision {
    /// The word used in status and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "Approve",
            Self::Deny => "Deny",
            Self::Review => "Review",
        }
    }
}
