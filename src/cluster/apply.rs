//! Carries out plans: the only writer of Jobs, Roles and RoleBindings.

use crate::api::names::MANAGER;
use crate::api::workload_access::ObjectStamp;
use crate::cluster::{ApiError, call};
use crate::domain::desired;
use crate::domain::judge::Approved;
use crate::domain::plan::{Applied, Observed, Plan, Step};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{Resource, ResourceExt};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Carries out the steps that materialise a grant, in order. Whatever stood before a failure stays, under its deadline.
pub async fn grant(
    client: &Client,
    plan: Plan,
    approved: &Approved,
    observed: &Observed,
) -> Result<Applied, ApiError> {
    let writer = Writer::new(client, &plan);
    let mut job = observed.job.clone();
    let mut binding = observed.binding.clone();
    for step in plan.steps {
        match step {
            Step::CreateJob(wanted) => job = Some(writer.create(&writer.jobs, &*wanted).await?),
            Step::SetDeadline { uid, seconds } => writer.set_deadline(&uid, seconds).await?,
            Step::CreateRole => {
                let wanted = desired::role(approved, &uid_of(job.as_ref(), "Job")?);
                writer.create(&writer.roles, &wanted).await?;
            }
            Step::ReplaceRole => {
                let wanted = desired::role(approved, &uid_of(job.as_ref(), "Job")?);
                writer.replace_role(wanted, observed.role.as_ref()).await?;
            }
            Step::CreateBinding => {
                let wanted = desired::role_binding(approved, &uid_of(job.as_ref(), "Job")?);
                binding = Some(writer.create(&writer.bindings, &wanted).await?);
            }
            other => writer.delete(other).await?,
        }
    }
    let since = job.as_ref().and_then(|j| j.creation_timestamp());
    Ok(Applied {
        deadline: stamp(job.as_ref(), "Job")?,
        role_binding: stamp(binding.as_ref(), "RoleBinding")?,
        since: since.ok_or(ApiError::Incomplete("creationTimestamp"))?.0,
    })
}

/// Carries out the steps that end a grant.
pub async fn end(client: &Client, plan: Plan) -> Result<(), ApiError> {
    let writer = Writer::new(client, &plan);
    for step in plan.steps {
        writer.delete(step).await?;
    }
    Ok(())
}

/// Deletes one RoleBinding if it still is the one with this UID. Returns whether it was there.
pub async fn revoke(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<bool, ApiError> {
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    delete(&bindings, name, uid).await
}

struct Writer {
    name: String,
    jobs: Api<Job>,
    roles: Api<Role>,
    bindings: Api<RoleBinding>,
}

impl Writer {
    fn new(client: &Client, plan: &Plan) -> Self {
        Self {
            name: plan.name.clone(),
            jobs: Api::namespaced(client.clone(), &plan.namespace),
            roles: Api::namespaced(client.clone(), &plan.namespace),
            bindings: Api::namespaced(client.clone(), &plan.namespace),
        }
    }

    /// Creates; an object that exists already is a conflict, and the next pass looks at it.
    async fn create<K>(&self, api: &Api<K>, wanted: &K) -> Result<K, ApiError>
    where
        K: Clone + Debug + DeserializeOwned + serde::Serialize,
    {
        let params = PostParams {
            field_manager: Some(MANAGER.into()),
            ..PostParams::default()
        };
        call(api.create(&params, wanted)).await
    }

    async fn set_deadline(&self, uid: &str, seconds: i64) -> Result<(), ApiError> {
        let patch = serde_json::json!({
            "metadata": {"uid": uid},
            "spec": {"activeDeadlineSeconds": seconds},
        });
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        call(self.jobs.patch(&self.name, &params, &Patch::Merge(patch))).await?;
        Ok(())
    }

    async fn replace_role(&self, mut wanted: Role, live: Option<&Role>) -> Result<(), ApiError> {
        wanted.metadata.resource_version = live.and_then(ResourceExt::resource_version);
        let params = PostParams {
            field_manager: Some(MANAGER.into()),
            ..PostParams::default()
        };
        call(self.roles.replace(&self.name, &params, &wanted)).await?;
        Ok(())
    }

    async fn delete(&self, step: Step) -> Result<(), ApiError> {
        match step {
            Step::DeleteBinding(uid) => delete(&self.bindings, &self.name, &uid).await?,
            Step::DeleteJob(uid) => delete(&self.jobs, &self.name, &uid).await?,
            Step::DeleteRole(uid) => delete(&self.roles, &self.name, &uid).await?,
            Step::CreateJob(_)
            | Step::SetDeadline { .. }
            | Step::CreateRole
            | Step::ReplaceRole
            | Step::CreateBinding => return Err(ApiError::Incomplete("judgement for a write")),
        };
        Ok(())
    }
}

/// Deletes with a UID precondition. Gone, or replaced by another of the same name, is what was wanted.
async fn delete<K>(api: &Api<K>, name: &str, uid: &str) -> Result<bool, ApiError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match call(api.delete(name, &params)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

fn uid_of(object: Option<&impl ResourceExt>, what: &'static str) -> Result<String, ApiError> {
    object
        .and_then(ResourceExt::uid)
        .ok_or(ApiError::Incomplete(what))
}

fn stamp<K: Resource>(object: Option<&K>, what: &'static str) -> Result<ObjectStamp, ApiError> {
    let object = object.ok_or(ApiError::Incomplete(what))?;
    Ok(ObjectStamp {
        name: object.name_any(),
        uid: uid_of(Some(object), what)?,
    })
}
