//! `AccessPolicy`: who may ask for what, for whom, and for how long.

use crate::api::workload_access::{Risk, RoleReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
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
    status = "AccessPolicyStatus",
    doc = "Who may ask for which rights, for which ServiceAccounts, and for how long. The requester needs the RBAC verb `use` on this object.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
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

    /// Further conditions in CEL; every one must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub conditions: Option<Vec<PolicyCondition>>,

    /// Approvals that a request needs before it is granted; none when omitted. Who may approve is RBAC: the verb `approve` on
    /// this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalTerms>,

    /// Whether access may be asked for in an emergency, without approval (`urgency: BreakGlass`); it may not when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,

    /// What happens to a grant when the role it was copied from changes or goes. `Keep` when omitted: the copy stays as it
    /// was granted, and an Event and the status say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_role: Option<FollowRole>,

    /// What happens to a grant whose binding somebody changed past the admission policies. `Repair` when omitted: the
    /// binding is replaced, so that nobody but the account is bound. Roles and deadlines are repaired either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_drift: Option<OnDrift>,

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
    /// Whether the rights may also be granted in the whole cluster, to a ClusterWorkloadAccess for an account of a selected
    /// namespace. `false` when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<bool>,

    /// Requested rules must be covered by the union of these, as Kubernetes' own escalation check means it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub rules: Option<Vec<EnvelopeRule>>,

    /// Roles that a request may name in `roleRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub role_refs: Option<Vec<RoleReference>>,

    /// Findings of the catalogue of over-broad rules that are knowingly accepted, by id, for example `OB-P01`. What no
    /// policy can allow is refused here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(regex(pattern = "^OB-[A-Z][0-9]{2}a?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub findings: Option<Vec<String>>,
}

/// One condition.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCondition {
    /// A CEL expression over `request`, `requester`, `namespaceObject`, `serviceAccount`, `workload`, `risk` and `now` that yields a bool.
    #[schemars(length(min = 1, max = 2048))]
    pub expression: String,
    /// What a requester reads when it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub message: Option<String>,
}

/// Which approvals a request needs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalTerms {
    /// How many people must approve, none of them the requester.
    #[schemars(range(min = 1, max = 8))]
    pub required: i64,

    /// How long a request may wait for them and then become active, counted from when it was made or from its `notBefore`
    /// (GEP-2257); 1h when omitted, at most 720h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length_of_time")]
    pub timeout: Option<String>,
}

/// How access is given in an emergency.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlass {
    /// Longest grant of this kind (GEP-2257), beside `limits`, which hold as well.
    #[schemars(schema_with = "length_of_time")]
    pub max_duration: String,
}

/// What happens to a copied role's grant when the role changes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowRole {
    /// The grant ends.
    Revoke,
    /// The grant goes on with the rules it was given.
    Keep,
}

/// What happens to a grant whose binding somebody changed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrift {
    /// The binding is replaced by what was granted.
    Repair,
    /// The grant ends.
    Revoke,
}

/// What is done about combinations that are worse than their parts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cumulative {
    /// Refused, whatever its severity.
    Deny,
    /// Reported.
    Warn,
}

/// For which rules `resourceNames` must be set.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequireResourceNames {
    /// Every verb but `get`, `list`, `watch`, and `create` of a whole object, which has no name yet.
    Writes,
    /// Every verb but `create` of a whole object.
    All,
    /// None.
    None,
}

/// Longest grant by the risk of what is granted (GEP-2257). Beside `maxDuration`, which always holds as well.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct MaxDurationByRisk {
    /// 720h when omitted.
    #[serde(rename = "Low", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length_of_time")]
    pub low: Option<String>,
    /// 24h when omitted.
    #[serde(rename = "Medium", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length_of_time")]
    pub medium: Option<String>,
    /// 8h when omitted.
    #[serde(rename = "High", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length_of_time")]
    pub high: Option<String>,
    /// 1h when omitted.
    #[serde(rename = "Critical", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length_of_time")]
    pub critical: Option<String>,
}

impl MaxDurationByRisk {
    /// What is set for this risk.
    pub fn of(&self, risk: Risk) -> Option<&String> {
        match risk {
            Risk::Low => self.low.as_ref(),
            Risk::Medium => self.medium.as_ref(),
            Risk::High => self.high.as_ref(),
            Risk::Critical => self.critical.as_ref(),
        }
    }
}

/// What Stint makes of the policy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: whether the policy can be used; a policy that is not ready admits nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

fn length_of_time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 24,
        "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        "x-kubernetes-validations": [{
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('720h')",
            "message": "must be at least 1s and at most 720h",
        }],
    })
}

/// One rule of an envelope, with the meaning of a Kubernetes RBAC PolicyRule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.nonResourceURLs) ? !has(self.apiGroups) && !has(self.resources) && !has(self.resourceNames) : has(self.apiGroups) && has(self.resources)")
        .message("must list `apiGroups` and `resources`, or `nonResourceURLs` alone")
)]
pub struct EnvelopeRule {
    /// API groups; `""` is the core group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub api_groups: Option<Vec<String>>,
    /// Resources, or `resource/subresource`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resources: Option<Vec<String>>,
    /// Names of objects; omitted, every object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resource_names: Option<Vec<String>>,
    /// URL paths outside the resource API, which only a grant in the whole cluster can contain.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "nonResourceURLs"
    )]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub non_resource_urls: Option<Vec<String>>,
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

    /// Longest grant by risk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_by_risk: Option<MaxDurationByRisk>,

    /// Longest stretch for which one account may hold grants of this policy without a break (GEP-2257); no bound when
    /// omitted. A grant that begins while another one lasts carries its stretch on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')")
            .message("must be at least 1s and at most 8760h")
    )]
    pub max_total: Option<String>,

    /// How often the end of one request may be moved to later; 3 when omitted, 0 for never. Each time at most `maxDuration` from
    /// then on is granted, and in all at most `maxTotal`, or `maxDuration` when that is omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_extensions: Option<i64>,

    /// How many grants one account may hold at a time; no bound when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_active_per_account: Option<i64>,

    /// For which rules `resourceNames` must be set; `None` when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_resource_names: Option<RequireResourceNames>,

    /// Regular expression (RE2 syntax) that `spec.ticket` must match; none is needed when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub require_ticket: Option<String>,

    /// Whether each request must say by `until` which work ends it; `false` when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_until: Option<bool>,

    /// What is done when a request and what its account holds already are worse together than apart. When omitted, critical
    /// combinations are refused and others are reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cumulative: Option<Cumulative>,
}
