//! What a WorkloadAccess may refer to: the work that ends a grant, and the workload that acts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An object in the namespace of the request whose end is the end of the grant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.condition) || (self.apiVersion == 'batch/v1' && self.kind == 'Job') || (self.apiVersion == 'v1' && self.kind == 'Pod') || (self.apiVersion == 'apps/v1' && self.kind == 'Deployment')")
        .message("must set `condition`: only of a Job, a Pod and a Deployment is it known when they are done [WA-UNTIL]")
)]
pub struct UntilRef {
    /// API group and version of the object, for example `batch/v1`.
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$")
    )]
    pub api_version: String,

    /// Kind of the object: one that this installation lists in its chart value `until.kinds`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,

    /// Name of the object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,

    /// A condition in the object's `status.conditions` that says that the work is done. Required for all kinds but Job, Pod and
    /// Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<UntilCondition>,
}

/// A condition of an object.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct UntilCondition {
    /// Its `type`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,

    /// The `status` at which the work is done; `"True"` when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ConditionStatus>,
}

/// The status of a condition.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows.
    Unknown,
}

impl ConditionStatus {
    /// The word in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The kinds of workloads that can act.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    /// A Pod.
    Pod,
    /// A Job of `batch/v1`.
    Job,
}

impl WorkloadKind {
    /// The kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Job => "Job",
        }
    }

    /// Its API group and version.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Pod => "v1",
            Self::Job => "batch/v1",
        }
    }
}

/// The exact workload that uses the rights, in the namespace of its account.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRef {
    /// `Pod` or `Job`.
    pub kind: WorkloadKind,

    /// Name of the workload.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,

    /// UID of the workload: another one of the same name does not count.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}
