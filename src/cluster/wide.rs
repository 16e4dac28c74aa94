//! Objects of the whole cluster in the shape of their namespaced kin, so that one plan serves both.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};

/// A ClusterRole as a Role without namespace. One that is put together from others has no rules of its own to rely on.
pub(super) fn role(role: ClusterRole) -> Role {
    Role {
        metadata: role.metadata,
        rules: role.rules.filter(|_| role.aggregation_rule.is_none()),
    }
}

/// The other way.
pub(super) fn cluster_role(role: Role) -> ClusterRole {
    ClusterRole {
        metadata: role.metadata,
        rules: role.rules,
        aggregation_rule: None,
    }
}

/// A ClusterRoleBinding as a RoleBinding without namespace.
pub(super) fn role_binding(binding: ClusterRoleBinding) -> RoleBinding {
    RoleBinding {
        metadata: binding.metadata,
        role_ref: binding.role_ref,
        subjects: binding.subjects,
    }
}

/// The other way.
pub(super) fn cluster_role_binding(binding: RoleBinding) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: binding.metadata,
        role_ref: binding.role_ref,
        subjects: binding.subjects,
    }
}
