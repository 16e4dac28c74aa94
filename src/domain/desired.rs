//! What an approved grant looks like in the cluster: a deadline Job, a Role and a RoleBinding; for the whole cluster a
//! ClusterRole and a ClusterRoleBinding alone.
//!
//! Kubernetes has no TTL on RoleBindings, but it has one on Jobs, and garbage collection follows owners. The Job never
//! runs a pod; when its deadline passes, the control plane fails it, deletes it, and then deletes what it owns.

use crate::api::names;
use crate::api::workload_access::SourceStamp;
use crate::domain::audit;
use crate::domain::judge::Approved;
use crate::domain::request::Place;
use crate::domain::rules::Rule;
use crate::domain::window::DEADLINE_GRACE;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
    SecurityContext,
};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// Where nothing can be pulled from: `.invalid` never resolves (RFC 2606).
const NO_IMAGE: &str = "deadline.stint.invalid/never:runs";

/// Longest user name that a binding carries, in bytes: every binding is kept in memory by whoever watches them.
const MAX_REQUESTER: usize = 256;

/// Seconds from `start` until the Job's deadline: the end of the grant, rounded up, and a grace in which Stint itself
/// ends it first. At least 1, the smallest value that Kubernetes accepts.
pub fn active_deadline_seconds(start: Timestamp, not_after: Timestamp) -> i64 {
    let left = not_after.duration_since(start) + DEADLINE_GRACE;
    let whole = left.as_secs() + i64::from(left.subsec_nanos() > 0);
    whole.max(1)
}

/// The name shared by the objects.
pub fn name(approved: &Approved) -> String {
    names::made_object_name(approved.grant().name(), approved.grant().uid())
}

/// The deadline Job, owned by the WorkloadAccess, its deadline counted from `now`.
pub fn job(approved: &Approved, now: Timestamp) -> Job {
    let mut metadata = metadata(approved, request_owner(approved));
    record(approved, &mut metadata);
    Job {
        metadata,
        spec: Some(JobSpec {
            parallelism: Some(0),
            completions: Some(1),
            backoff_limit: Some(0),
            active_deadline_seconds: Some(active_deadline_seconds(now, approved.not_after())),
            ttl_seconds_after_finished: Some(0),
            template: idle_pod(),
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// A pod template that passes Pod Security `restricted` and could not run if it were started.
fn idle_pod() -> PodTemplateSpec {
    let container = Container {
        name: "deadline".into(),
        image: Some(NO_IMAGE.into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: None,
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            restart_policy: Some("Never".into()),
            automount_service_account_token: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(65532),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container],
            ..PodSpec::default()
        }),
    }
}

/// The Role with exactly the granted rules, owned by the Job and nothing else: an object with two owners outlives the
/// first. For the whole cluster a ClusterRole in the same shape, owned by the request, since a Job cannot own it; it is
/// made first and goes last, so it carries the record that the Job carries otherwise.
pub fn role(approved: &Approved, job_uid: Option<&str>) -> Role {
    Role {
        metadata: owned_metadata(approved, job_uid),
        rules: Some(approved.rules().iter().map(PolicyRule::from).collect()),
    }
}

/// The RoleBinding of exactly one account, with the owner of its Role.
pub fn role_binding(approved: &Approved, job_uid: Option<&str>) -> RoleBinding {
    let account = approved.grant().account();
    let mut metadata = owned_metadata(approved, job_uid);
    let annotations = metadata.annotations.get_or_insert_default();
    let by = audit::bounded(approved.requested_by(), MAX_REQUESTER);
    annotations.insert(names::REQUESTED_BY.into(), by);
    RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: match approved.grant().place() {
                Place::Namespace(_) => "Role".into(),
                Place::Cluster => "ClusterRole".into(),
            },
            name: name(approved),
        },
        subjects: Some(vec![Subject {
            api_group: None,
            kind: "ServiceAccount".into(),
            name: account.name.clone(),
            namespace: Some(account.namespace.clone()),
        }]),
    }
}

fn owned_metadata(approved: &Approved, job_uid: Option<&str>) -> ObjectMeta {
    match approved.grant().place() {
        Place::Namespace(_) => metadata(approved, job_owner(approved, job_uid.unwrap_or_default())),
        Place::Cluster => {
            let mut metadata = metadata(approved, request_owner(approved));
            record(approved, &mut metadata);
            metadata
        }
    }
}

fn request_owner(approved: &Approved) -> OwnerReference {
    let grant = approved.grant();
    OwnerReference {
        api_version: "stint.dev/v1alpha1".into(),
        kind: grant.place().kind().into(),
        name: grant.name().into(),
        uid: grant.uid().into(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn job_owner(approved: &Approved, job_uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: name(approved),
        uid: job_uid.into(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// What the record of a grant says beyond what every made object says (`plan::Observed::live` reads it).
fn record(approved: &Approved, metadata: &mut ObjectMeta) {
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(names::RULES_HASH.into(), approved.rules_hash().into());
    if let Some(approval) = approved.approval() {
        annotations.insert(names::APPROVED_BY.into(), approval.by.clone());
        annotations.insert(names::APPROVED_SPEC.into(), approval.spec.clone());
    }
    let spec = approved.settled_for();
    annotations.extend(spec.map(|hash| (names::SPEC_HASH.into(), hash)));
    if approved.extensions() > 0 {
        let count = approved.extensions().to_string();
        annotations.insert(names::EXTENSIONS.into(), count);
    }
    let at = approved.extended_at();
    annotations.extend(at.map(|at| (names::EXTENDED_AT.into(), at.to_string())));
    if approved.in_namespaces() {
        annotations.insert(names::IN_NAMESPACES.into(), "true".into());
    }
    if let Some(uid) = approved.until_uid() {
        annotations.insert(names::UNTIL_UID.into(), uid.into());
    }
    let then = |source: &SourceStamp| SourceStamp {
        changed: false,
        ..source.clone()
    };
    let source = approved.source().map(then);
    // A struct of strings and booleans cannot fail to serialise.
    let source = source.and_then(|s| serde_json::to_string(&s).ok());
    annotations.extend(source.map(|text| (names::SOURCE.to_owned(), text)));
}

/// Labels and annotations are Stint's own; those of the WorkloadAccess are never copied down, since a GitOps tool would
/// prune what carries its tracking label.
fn metadata(approved: &Approved, owner: OwnerReference) -> ObjectMeta {
    let grant = approved.grant();
    let text = |pairs: &[(&str, String)]| -> BTreeMap<String, String> {
        let owned = |(k, v): &(&str, String)| ((*k).to_owned(), v.clone());
        pairs.iter().map(owned).collect()
    };
    ObjectMeta {
        name: Some(name(approved)),
        namespace: grant.place().namespace().map(str::to_owned),
        labels: Some(text(&[
            (names::GRANT, grant.uid().into()),
            (names::MANAGED_BY, names::MANAGER.into()),
        ])),
        annotations: Some(text(&[
            (names::WORKLOAD_ACCESS, grant.name().into()),
            (names::NOT_AFTER, approved.not_after().to_string()),
            (names::SERVICE_ACCOUNT, grant.account().to_string()),
            (names::SERVICE_ACCOUNT_UID, approved.account_uid().into()),
            (names::POLICY, approved.policy().name.clone()),
            (names::HELD_SINCE, approved.held_since().to_string()),
        ])),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Whether a live Role grants exactly the approved rules.
pub fn same_rules(role: &Role, approved: &Approved) -> bool {
    let live: Vec<Rule> = role.rules.iter().flatten().map(Rule::from).collect();
    crate::domain::rules::hash(&crate::domain::rules::canonical(&live)) == approved.rules_hash()
}

/// How far a Job's deadline may differ from the desired one before it is set again, for rounding and clock skew.
pub const DEADLINE_SLACK: SignedDuration = SignedDuration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_never_comes_before_the_end_of_the_grant() {
        let at = |t: &str| t.parse::<Timestamp>().unwrap();
        let end = at("2026-12-01T18:00:00Z");
        assert_eq!(active_deadline_seconds(at("2026-12-01T17:59:30Z"), end), 35);
        assert_eq!(
            active_deadline_seconds(at("2026-12-01T17:59:30.4Z"), end),
            35
        );
        assert_eq!(active_deadline_seconds(at("2026-12-01T19:00:00Z"), end), 1);
    }
}
