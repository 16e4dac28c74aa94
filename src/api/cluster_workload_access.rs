//! `ClusterWorkloadAccess`: one request for rights in the whole cluster, and the grant that it becomes.

use crate::api::workload_access::{
    RoleReference, ServiceAccountRef, Urgency, WorkloadAccessStatus, length_of_grant, rfc3339,
};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What one ServiceAccount may do in the whole cluster, for which reason, until when.
///
/// Everything except `revoked` and the end is immutable, as for a WorkloadAccess. A Job cannot own what has no namespace, so
/// nothing but Stint ends such a grant on time.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stint.dev",
    version = "v1alpha1",
    kind = "ClusterWorkloadAccess",
    plural = "clusterworkloadaccesses",
    singular = "clusterworkloadaccess",
    shortname = "cwa",
    category = "stint",
    status = "WorkloadAccessStatus",
    derive = "PartialEq",
    doc = "A request for rights of one ServiceAccount in the whole cluster, and the grant that it becomes. While Stint is down such a grant outlives its end.",
    selectable = ".spec.serviceAccountRef.name",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".spec.serviceAccountRef.namespace"}"#,
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
        .message("`rules` are immutable; create another ClusterWorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.roleRef) == has(oldSelf.roleRef) && (!has(self.roleRef) || self.roleRef == oldSelf.roleRef)")
        .message("`roleRef` is immutable; create another ClusterWorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.notBefore) == has(oldSelf.notBefore) && (!has(self.notBefore) || self.notBefore == oldSelf.notBefore)")
        .message("`notBefore` is immutable; create another ClusterWorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.notAfter) == has(oldSelf.notAfter)")
        .message("`notAfter` and `duration` may be changed, and cannot take each other's place; create another ClusterWorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("self.reason == oldSelf.reason")
        .message("`reason` is immutable; create another ClusterWorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.ticket) == has(oldSelf.ticket) && (!has(self.ticket) || self.ticket == oldSelf.ticket)")
        .message("`ticket` is immutable; create another ClusterWorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("has(self.urgency) == has(oldSelf.urgency) && (!has(self.urgency) || self.urgency == oldSelf.urgency)")
        .message("`urgency` is immutable; create another ClusterWorkloadAccess [WA-IMMUTABLE]"),
    validation = Rule::new("!has(self.urgency) || self.urgency != 'BreakGlass' || (has(self.ticket) && self.ticket.trim().size() > 0)")
        .message("must name the incident in `ticket` when `urgency` is BreakGlass [WA-TICKET]"),
    validation = Rule::new("!has(oldSelf.revoked) || !oldSelf.revoked || (has(self.revoked) && self.revoked)")
        .message("`revoked` cannot be taken back; create another ClusterWorkloadAccess [WA-IMMUTABLE]")
)]
pub struct ClusterWorkloadAccessSpec {
    /// The one account that receives the rights. Its namespace must be set: policies select by that namespace's labels.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("`serviceAccountRef` is immutable; create another ClusterWorkloadAccess [WA-IMMUTABLE]"),
        validation = Rule::new("has(self.namespace)")
            .message("must set `namespace`: a ClusterWorkloadAccess has none of its own [WA-NAME]"),
        validation = Rule::new("self.name != 'default'")
            .message("must name a dedicated ServiceAccount, not `default`, which every pod without one shares [WA-ACCOUNT-DEFAULT]")
    )]
    pub service_account_ref: ServiceAccountRef,

    /// The rights, as in a ClusterRole, with everything by name. Exactly one of `rules` and `roleRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub rules: Option<Vec<ClusterAccessRule>>,

    /// A ClusterRole whose rules are copied when the grant becomes active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("self.kind == 'ClusterRole'")
            .message("must be a ClusterRole: a ClusterWorkloadAccess has no namespace [WA-RULES]")
    )]
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

/// Rights on resources or on URL paths, with the meaning of a Kubernetes RBAC PolicyRule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.nonResourceURLs) ? !has(self.apiGroups) && !has(self.resources) && !has(self.resourceNames) : has(self.apiGroups) && has(self.resources)")
        .message("must list `apiGroups` and `resources`, or `nonResourceURLs` alone [WA-RULES]")
)]
pub struct ClusterAccessRule {
    /// API groups by name; `""` is the core group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub api_groups: Option<Vec<String>>,

    /// Resources, or `resource/subresource`, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub resources: Option<Vec<String>>,

    /// Names of the objects; omitted, every object of the resource in the whole cluster. `""` is refused: it would match
    /// requests without a name.
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

    /// URL paths outside the resource API in full, such as `/metrics`; then the verbs are HTTP methods in lower case.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "nonResourceURLs"
    )]
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 253), regex(pattern = r"^[!-~]+$"))
    )]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(v, !v.contains('*'))").message("must list paths in full; `*` at the end reaches every path below [OB-W06]"),
        validation = Rule::new("self.all(v, v.contains('*') || v.startsWith('/'))").message("must list paths that begin with `/`; nothing matches this one [WA-RULES]")
    )]
    pub non_resource_urls: Option<Vec<String>>,

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
