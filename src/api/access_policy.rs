//! `AccessPolicy`: who may ask for what, for whom, and for how long.

use crate::api::workload_access::RoleReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// An envelope of rights that may be granted in the selected namespaces to the selected accounts.
///
/// Who may ask is RBAC: the requester needs the verb `use` on this object.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    singular = "accesspolicy",
    shortname = "ap",
    category = "stint",
    derive = "PartialEq",
    doc = "Who may ask for which rights, for which ServiceAccounts, and for how long. The requester needs the RBAC verb `use` on this object.",
    printcolumn = r#"{"name":"Max Duration","type":"string","jsonPath":".spec.limits.maxDuration"}"#,
    printcolumn = r#"{"name":"Suspended","type":"boolean","jsonPath":".spec.suspended"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicySpec {
    /// Namespaces in which grants may live, by label; `{}` selects all.
    pub namespace_selector: LabelSelector,

    /// Accounts that may receive rights.
    pub service_accounts: AccountSelector,

    /// The envelope. What is omitted allows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Allow>,

    /// Bounds on each grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// Kill switch: ends every grant under this policy and admits none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
}

/// Selects ServiceAccounts. Every member that is set must match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.names) && self.names.size() > 0) || has(self.selector)")
    .message("must set `names` or `selector`; `selector: {}` selects every account"))]
pub struct AccountSelector {
    /// Names of accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Option<Vec<String>>,

    /// Other namespaces whose accounts may receive rights, beside the namespace of the WorkloadAccess itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Option<Vec<String>>,

    /// Labels of accounts; `{}` selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// The envelope of rights.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// Requested rules must be covered by the union of these, as Kubernetes' own escalation check means it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub rules: Option<Vec<EnvelopeRule>>,

    /// Roles that a request may name in `roleRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub role_refs: Option<Vec<RoleReference>>,
}

/// One rule of an envelope, with the meaning of a Kubernetes RBAC PolicyRule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EnvelopeRule {
    /// API groups; `""` is the core group.
    #[schemars(length(min = 1, max = 64), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub api_groups: Vec<String>,
    /// Resources, or `resource/subresource`.
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resources: Vec<String>,
    /// Names of objects; omitted, every object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resource_names: Option<Vec<String>>,
    /// Verbs.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub verbs: Vec<String>,
}

/// Bounds on each grant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Longest grant (GEP-2257); 8h when omitted, at most 720h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('720h')")
            .message("must be at least 1s and at most 720h")
    )]
    pub max_duration: Option<String>,

    /// How many grants one account may hold at a time; no bound when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_active_per_account: Option<i64>,
}
