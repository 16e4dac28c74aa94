//! What a status says about other objects and about what people did: by name, UID and time.

use crate::api::access_approval::Decision;
use crate::api::workload_access::RoleKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The role that the rules were copied from, as it was then.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceStamp {
    /// `Role` or `ClusterRole`.
    pub kind: RoleKind,
    /// Name of the role.
    pub name: String,
    /// UID of the role.
    pub uid: String,
    /// SHA-256 of the role's rules in canonical form, `sha256:<hex>`.
    pub rules_hash: String,
    /// Whether its rules are put together from other ClusterRoles by an aggregation rule.
    pub aggregated: bool,
    /// Whether the role has changed or gone since; the grant keeps the copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// One decision on the request.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStamp {
    /// Authenticated user name of who decided.
    pub approver: String,
    /// What was decided.
    pub decision: Decision,
    /// When it was decided.
    pub time: Time,
    /// When access ends at the latest by this decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// One end that was moved to later.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionStamp {
    /// Authenticated user name of who asked for it.
    pub by: String,
    /// When it was asked for.
    pub time: Time,
    /// When access was to end before.
    pub from: Time,
    /// When it ends since.
    pub to: Time,
}

/// An object that Stint made, by name and UID.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStamp {
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
}

/// The exact state of a policy that a decision rests on.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStamp {
    /// Name of the AccessPolicy.
    pub name: String,
    /// UID of the AccessPolicy.
    pub uid: String,
    /// Generation of the AccessPolicy.
    pub generation: i64,
}
