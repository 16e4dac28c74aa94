//! Every name that Stint writes into a cluster: API group, labels, annotations, field managers, object names.

/// API group of Stint's kinds.
pub const GROUP: &str = "stint.dev";

/// Label on every object Stint makes; its value is the UID of the request.
pub const GRANT: &str = "stint.dev/grant";

/// Label on a Namespace: what becomes of what the guard finds in its roles and bindings, `audit`, `warn` or `deny`.
pub const GUARD: &str = "stint.dev/guard";

/// Label with its name that the API server puts on every Namespace (`pkg/apis/core/v1/defaults.go`, KEP-2161).
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Annotation on a WorkloadAccess: who asked, for what and when, under a MAC (see `domain::receipt`). On an AccessApproval:
/// who decided, likewise (see `domain::seal`).
pub const RECEIPT: &str = "stint.dev/receipt";

/// Annotation on made objects: the name of the request.
pub const WORKLOAD_ACCESS: &str = "stint.dev/workload-access";

/// Annotation on made objects: RFC 3339 instant, whole seconds, at which access ends.
pub const NOT_AFTER: &str = "stint.dev/not-after";

/// Annotation on made objects: UID of the one ServiceAccount that the grant is for.
pub const SERVICE_ACCOUNT_UID: &str = "stint.dev/service-account-uid";

/// Annotation on made objects: `namespace/name` of the ServiceAccount.
pub const SERVICE_ACCOUNT: &str = "stint.dev/service-account";

/// Annotation on made objects: name of the AccessPolicy that admitted the grant.
pub const POLICY: &str = "stint.dev/policy";

/// Annotation on the RoleBinding or ClusterRoleBinding: user name of the requester, for those who read the API server's
/// audit log.
pub const REQUESTED_BY: &str = "stint.dev/requested-by";

/// Annotation on what records a grant: SHA-256 of the granted rules, `sha256:<hex>`. The record is the deadline Job; of a
/// grant in the whole cluster, which has none, the ClusterRole and the ClusterRoleBinding.
pub const RULES_HASH: &str = "stint.dev/rules-hash";

/// Annotation on the deadline Job and the binding: RFC 3339 instant from which on the account holds grants of the policy
/// without a break.
pub const HELD_SINCE: &str = "stint.dev/held-since";

/// Annotation on what records a grant: the source role as it was copied, as JSON.
pub const SOURCE: &str = "stint.dev/source";

/// Annotation on the deadline Job: UID of the object of `spec.until`, as it was first seen.
pub const UNTIL_UID: &str = "stint.dev/until-uid";

/// Annotation on what records a grant in the whole cluster: `true` if anything granted lives in namespaces.
pub const IN_NAMESPACES: &str = "stint.dev/in-namespaces";

/// Annotation on what records a grant: the user names of those who approved it, separated by commas. Bounded.
pub const APPROVED_BY: &str = "stint.dev/approved-by";

/// Annotation on what records a grant: the hash of the spec that was approved, `sha256:<hex>`.
pub const APPROVED_SPEC: &str = "stint.dev/approved-spec";

/// Annotation on what records a grant: hash of the spec whose end is in place, `sha256:<hex>`.
pub const SPEC_HASH: &str = "stint.dev/spec-hash";

/// Annotation on what records a grant: how often its end was moved to later; absent for never.
pub const EXTENSIONS: &str = "stint.dev/extensions";

/// Annotation on what records a grant: RFC 3339 instant at which the last later end that was granted was asked for.
pub const EXTENDED_AT: &str = "stint.dev/extended-at";

/// Annotation on the certificate Secret: RFC 3339 instant at which the authority before this one expires.
pub const CA_OLD_NOT_AFTER: &str = "stint.dev/ca-old-not-after";

/// Annotation on the certificate Secret: RFC 3339 end of the certificate authority.
pub const CA_NOT_AFTER: &str = "stint.dev/ca-not-after";

/// Annotation on the certificate Secret: RFC 3339 end of the webhook's certificate.
pub const LEAF_NOT_AFTER: &str = "stint.dev/leaf-not-after";

/// Annotation on the certificate Secret: names of the webhook's certificate, separated by commas.
pub const LEAF_NAMES: &str = "stint.dev/leaf-names";

/// `app.kubernetes.io/managed-by`, set to [`MANAGER`] on every object Stint makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Field manager of made objects, and the value of [`MANAGED_BY`].
pub const MANAGER: &str = "stint";

/// Field manager of `WorkloadAccess` status.
pub const STATUS_MANAGER: &str = "stint-status";

/// Field manager of the `caBundle` in Stint's webhook configurations.
pub const CA_MANAGER: &str = "stint-ca";

/// Longest object name that Kubernetes also accepts as a label value, the bound for a Job's name.
const MAX_NAME: usize = 63;

/// The name shared by a grant's Job, Role and RoleBinding: `stint-<name, cut>-<first 8 of the UID>`.
///
/// Derived from the UID, so that a re-created WorkloadAccess of the same name never meets the objects of the old one.
pub fn made_object_name(name: &str, uid: &str) -> String {
    let tail: String = uid.chars().filter(|c| *c != '-').take(8).collect();
    let room = MAX_NAME - "stint--".len() - tail.len();
    let head: String = name.chars().take(room).collect();
    let head = head.trim_end_matches(['-', '.']).replace('.', "-");
    format!("stint-{head}-{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_names_fit_a_label_and_carry_the_uid() {
        let uid = "0a1b2c3d-1111-2222-3333-444455556666";
        assert_eq!(
            made_object_name("migrate-42", uid),
            "stint-migrate-42-0a1b2c3d"
        );
        let long = made_object_name(&"x".repeat(253), uid);
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("-0a1b2c3d"));
        assert_eq!(
            made_object_name("a.b.", uid),
            "stint-a-b-0a1b2c3d",
            "a Job name has no dots"
        );
    }
}
