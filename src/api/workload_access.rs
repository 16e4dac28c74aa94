//! `WorkloadAccess`: one request for rights, and the grant that it becomes.

use crate::api::references::{UntilRef, WorkloadRef};
pub use crate::api::stamps::{
    ApprovalStamp, ExtensionStamp, ObjectStamp, PolicyStamp, SourceStamp,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one ServiceAccount may do, for which reason, until when.
///
/// Everything except `revoked` and the end is immutable: a different request is a different object. An end that is moved to
/// later is judged anew; one that is moved to earlier always counts.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "WorkloadAccess",
    plural = "workloadaccesses",
    singular = "workloadaccess",
    shortname = "wa",
    category = "stint",
    namespaced,
    status = "WorkloadAccessStatus",
    derive = "PartialEq",
    doc = "A request for rights of one ServiceAccount in this namespace, and the grant that it becomes.",
    selectable = ".spec.serviceAccountRef.name",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"ServiceAccount","type":"string","jsonPath":".spec.serviceAccountRef.name"}"#,
    printcolumn = r#"{"name":"Risk","type":"string","jsonPath":".status.risk"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.notAfter"}"#,
    printcolumn = r#"{"name":"Policy","type":"string","jsonPath":".status.policy.name","priority":1}"#,
    printcolumn = r#"{"name":"Requested By","type":"string","jsonPath":".status.requestedBy","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.rules) != has(self.roleRef)")
        .message("exactly one of `rules` and `roleRef` must be set [WA-RULES]"),
    validation = Rule::new("has(self.notAfter) || has(self.duration)")
        .message("must set `notAfter` or `duration` [WA-NO-EXPIRY]"),
    validation = Rule::new("!(has(self.notAfter) && has(self.duration))")
        .message("must set only one of `notAfter` and `duration` [WA-WINDOW]"),
    validation = Rule::new("!has(self.notBefore) || !has(self.notAfter) || timestamp(self.notBefore) < timestamp(self.notAfter)")
        .message("`notBefore` must be earlier than `notAfter` [WA-WINDOW]"),
    validation = Rule::new("has(self.rules) == has(oldSelf.rules) && (!has(self.rules) || self.rules == oldSelf.rules)")
        .message("`rules` are immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.roleRef) == has(oldSelf.roleRef) && (!has(self.roleRef) || self.roleRef == oldSelf.roleRef)")
        .message("`roleRef` is immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.notBefore) == has(oldSelf.notBefore) && (!has(self.notBefore) || self.notBefore == oldSelf.notBefore)")
        .message("`notBefore` is immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.notAfter) == has(oldSelf.notAfter)")
        .message("`notAfter` and `duration` may be changed, and cannot take each other's place; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("self.reason == oldSelf.reason")
        .message("`reason` is immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.ticket) == has(oldSelf.ticket) && (!has(self.ticket) || self.ticket == oldSelf.ticket)")
        .message("`ticket` is immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.until) == has(oldSelf.until) && (!has(self.until) || self.until == oldSelf.until)")
        .message("`until` is immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.workloadRef) == has(oldSelf.workloadRef) && (!has(self.workloadRef) || self.workloadRef == oldSelf.workloadRef)")
        .message("`workloadRef` is immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.urgency) == has(oldSelf.urgency) && (!has(self.urgency) || self.urgency == oldSelf.urgency)")
        .message("`urgency` is immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("!has(self.urgency) || self.urgency != 'BreakGlass' || (has(self.ticket) && self.ticket.trim().size() > 0)")
        .message("must name the incident in `ticket` when `urgency` is BreakGlass [WA-TICKET]"),
    validation = Rule::new("!has(oldSelf.revoked) || !oldSelf.revoked || (has(self.revoked) && self.revoked)")
        .message("`revoked` cannot be taken back; create another WorkloadAccess [WA-IMMUTABLE]")
)]
pub struct WorkloadAccessSpec {
    /// The one account that receives the rights.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("`serviceAccountRef` is immutable; create another WorkloadAccess [WA-IMMUTABLE]"),
        validation = Rule::new("self.name != 'default'")
            .message("must name a dedicated ServiceAccount, not `default`, which every pod without one shares [WA-ACCOUNT-DEFAULT]")
    )]
    pub service_account_ref: ServiceAccountRef,

    /// The rights, as in a Role, with every verb, group and resource by name. Exactly one of `rules` and `roleRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub rules: Option<Vec<AccessRule>>,

    /// A Role of this namespace or a ClusterRole whose rules are copied when the grant becomes active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_ref: Option<RoleReference>,

    /// RFC 3339 instant before which the grant is not active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rfc3339")]
    pub not_before: Option<String>,

    /// RFC 3339 instant at which access ends, rounded down to whole seconds. Exactly one of `notAfter` and `duration`. May be
    /// changed: to later within the limits of the policy, to earlier always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rfc3339")]
    pub not_after: Option<String>,

    /// Length of the grant from its activation (GEP-2257, for example `30m` or `1h30m`; at least 1s, at most 720h). May be
    /// changed like `notAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length_of_grant")]
    pub duration: Option<String>,

    /// The work that the grant is for, an object in this namespace: access ends when it is done, and at the latest when the
    /// clock runs out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UntilRef>,

    /// The Pod or Job that uses the rights, in the namespace of the account, which it must run as. Access ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,

    /// Why the account needs the rights; kept with the grant for whoever reviews it.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.trim().size() > 0").message("must say why the rights are needed [WA-NO-REASON]"))]
    pub reason: String,

    /// Reference to the change or incident, for example `CHG-1811`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub ticket: Option<String>,

    /// `BreakGlass` asks for access in an emergency, without approval, under a policy that allows it: loud, short, and reviewed
    /// afterwards. Needs a `ticket`. `Normal` when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgency: Option<Urgency>,

    /// Set to `true` to end the grant and keep the record. Cannot be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
}

/// A reference to one ServiceAccount.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Name of the ServiceAccount.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,

    /// Namespace of the ServiceAccount; this namespace when omitted. Another one only where a policy lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: Option<String>,

    /// UID of the exact account; a re-created account of the same name is then refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub uid: Option<String>,
}

/// Rights on resources, with the meaning of a Kubernetes RBAC PolicyRule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// API groups by name; `""` is the core group.
    #[schemars(
        length(min = 1, max = 16),
        inner(
            length(max = 253),
            regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")
        )
    )]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(v, v != '*')").message("must list API groups by name [OB-W04]")
    )]
    pub api_groups: Vec<String>,

    /// Resources, or `resource/subresource`, by name.
    #[schemars(
        length(min = 1, max = 32),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r"^[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?(/[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?)?$"
            )
        )
    )]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(v, v != '*')").message("must list resources by name [OB-W02]"),
        validation = Rule::new("self.all(v, !v.startsWith('*/') || v == '*/*')").message("must list subresources by name, as in `deployments/scale` [OB-W05]"),
        validation = Rule::new("self.all(v, v == '*' || (v.startsWith('*/') && v != '*/*') || !v.contains('*'))").message("must list subresources by name, as in `deployments/scale`; nothing matches this one [OB-R03]")
    )]
    pub resources: Vec<String>,

    /// Names of the objects; omitted, every object of the resource. `""` is refused: it would match requests without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(max = 253),
            regex(pattern = r"^(\*|[A-Za-z0-9]([A-Za-z0-9._:@-]*[A-Za-z0-9])?)?$")
        )
    )]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(v, v != '')").message("must not contain an empty name, which matches every request without a name [OB-R01]"),
        validation = Rule::new("self.all(v, v != '*')").message("must list names; `*` is no wildcard here, omit `resourceNames` to mean all [OB-R02]")
    )]
    pub resource_names: Option<Vec<String>>,

    /// Verbs by name, in lower case.
    #[schemars(
        length(min = 1, max = 16),
        inner(
            length(min = 1, max = 63),
            regex(pattern = r"^(\*|[a-z]([-a-z:]*[a-z])?)$")
        )
    )]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(v, v != '*')").message("must list verbs by name [OB-W03]")
    )]
    pub verbs: Vec<String>,
}

/// How urgent a request is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// As usual.
    #[default]
    Normal,
    /// An emergency: no approval is waited for, and the grant is reviewed afterwards.
    BreakGlass,
}

/// The kind of a source role.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum RoleKind {
    /// A Role in the namespace of the WorkloadAccess.
    Role,
    /// A ClusterRole; in a namespace only its rules for namespaced resources can be granted.
    ClusterRole,
}

/// A source of rules.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "camelCase")]
pub struct RoleReference {
    /// `Role` or `ClusterRole`.
    pub kind: RoleKind,
    /// Name of the role.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How much harm the granted rights can do: the highest severity of the findings.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Risk {
    /// Little.
    Low,
    /// Some, inside what the account is meant to touch.
    Medium,
    /// Much, or beyond the account's own purpose.
    High,
    /// Equal to owning the scope.
    Critical,
}

impl Risk {
    /// The word used in status, conditions and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }
}

/// Why a grant ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The clock ran out, of the grant or of the time to become active.
    Expired,
    /// Somebody set `revoked` or deleted the binding.
    Revoked,
    /// The WorkloadAccess was deleted.
    Deleted,
    /// The ServiceAccount was deleted or re-created.
    IdentityChanged,
    /// No policy admits the grant any more.
    PolicyWithdrawn,
    /// The policy that admitted the grant was suspended.
    Suspended,
    /// The work that `until` refers to is done or gone.
    Completed,
    /// The Pod or Job of `workloadRef` has ended or is gone.
    WorkloadGone,
    /// Somebody who may approve the request denied it.
    Denied,
    /// Somebody changed what Stint made for the grant, and it was not or could not be repaired.
    Drifted,
}

impl EndReason {
    /// The word used in status, events, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "Expired",
            Self::Revoked => "Revoked",
            Self::Deleted => "Deleted",
            Self::IdentityChanged => "IdentityChanged",
            Self::PolicyWithdrawn => "PolicyWithdrawn",
            Self::Suspended => "Suspended",
            Self::Completed => "Completed",
            Self::WorkloadGone => "WorkloadGone",
            Self::Denied => "Denied",
            Self::Drifted => "Drifted",
        }
    }
}

/// What Stint made of the request. Written by Stint; never read as permission.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadAccessStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`, `Accepted`, `Active`; `Stalled` and `Reconciling` only while true, `Backstop` only while it is missing,
    /// `ReviewRequired` after break-glass, `ExpiringSoon` in the last tenth of a grant, `Extended` only while a later end was asked
    /// for and is not granted, `Verified` once it was asked whether an ended grant really gives nothing any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Authenticated user name of the requester, from the receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,

    /// Hash of the spec that an approver must copy, `sha256:<hex>`; set when the request waits for approvals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_hash: Option<String>,

    /// Decisions on the request by those who may take them, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub approvals: Vec<ApprovalStamp>,

    /// When the grant became active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_time: Option<Time>,

    /// When access ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,

    /// Ends that were moved to later while access was in place, oldest first; the newest 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub extensions: Vec<ExtensionStamp>,

    /// When the grant ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_time: Option<Time>,

    /// Why the grant ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,

    /// The policy that admitted the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStamp>,

    /// UID of the account that the grant is pinned to.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "serviceAccountUID"
    )]
    pub service_account_uid: Option<String>,

    /// The role that the rules were copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStamp>,

    /// How much harm the granted rights can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,

    /// Ids of the catalogue's findings about what is granted, and about what it makes together with what the account
    /// holds already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub findings: Vec<String>,

    /// SHA-256 of the granted rules in canonical form, `sha256:<hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules_hash: Option<String>,

    /// The RoleBinding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_binding: Option<ObjectStamp>,

    /// The ClusterRoleBinding of a ClusterWorkloadAccess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_role_binding: Option<ObjectStamp>,

    /// The Job whose deadline Kubernetes counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<ObjectStamp>,
}

pub(super) fn rfc3339(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "format": "date-time",
        "maxLength": 40,
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$",
    })
}

pub(super) fn length_of_grant(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 24,
        "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        "x-kubernetes-validations": [
            {"rule": "duration(self) >= duration('1s')", "message": "must be at least 1s [WA-WINDOW]"},
            {"rule": "duration(self) <= duration('720h')", "message": "must be less than or equal to 720h [WA-TOO-LONG]"},
        ],
    })
}

impl WorkloadAccessStatus {
    /// The binding that gives the rights: the RoleBinding, or of a ClusterWorkloadAccess the ClusterRoleBinding.
    pub fn binding(&self) -> Option<&ObjectStamp> {
        self.role_binding
            .as_ref()
            .or(self.cluster_role_binding.as_ref())
    }
}
