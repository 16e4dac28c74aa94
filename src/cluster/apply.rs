//! Carries out plans: the only writer of Jobs, and of Roles and bindings of either scope.

use crate::api::names::MANAGER;
use crate::api::workload_access::ObjectStamp;
use crate::cluster::bindings::Binding;
use crate::cluster::{ApiError, call, wide};
use crate::domain::desired;
use crate::domain::judge::Approved;
use crate::domain::plan::{Applied, Observed, Plan, Step};
use crate::domain::request::Place;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
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
        let job_uid = job.as_ref().and_then(ResourceExt::uid);
        match step {
            Step::CreateJob(wanted) => job = Some(create(&writer.jobs, &*wanted).await?),
            Step::SetDeadline { uid, seconds } => {
                let patch = serde_json::json!({"spec": {"activeDeadlineSeconds": seconds}});
                job = Some(writer.change_job(&uid, job, patch).await?);
            }
            Step::RestoreJob { uid, patch } => {
                job = Some(writer.change_job(&uid, job, *patch).await?);
            }
            Step::CreateRole => {
                let wanted = desired::role(approved, writer.owner(job_uid)?.as_deref());
                writer.rbac.create_role(wanted).await?;
            }
            Step::ReplaceRole => {
                let wanted = desired::role(approved, writer.owner(job_uid)?.as_deref());
                let live = observed.role.as_ref();
                writer.rbac.replace_role(&writer.name, wanted, live).await?;
            }
            Step::CreateBinding => {
                let wanted = desired::role_binding(approved, writer.owner(job_uid)?.as_deref());
                binding = Some(writer.rbac.create_binding(wanted).await?);
            }
            Step::AnnotateBinding(uid) => {
                let wanted = desired::role_binding(approved, writer.owner(job_uid)?.as_deref());
                writer
                    .rbac
                    .annotate_binding(&writer.name, &uid, &wanted)
                    .await?;
            }
            other => writer.delete(other).await?,
        }
    }
    let began = match writer.place {
        Place::Namespace(_) => job.as_ref().and_then(ResourceExt::creation_timestamp),
        Place::Cluster => binding.as_ref().and_then(ResourceExt::creation_timestamp),
    };
    Ok(Applied {
        deadline: match writer.place {
            Place::Namespace(_) => Some(stamp(job.as_ref(), "Job")?),
            Place::Cluster => None,
        },
        role_binding: stamp(binding.as_ref(), "binding")?,
        since: began.ok_or(ApiError::Incomplete("creationTimestamp"))?.0,
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

/// What became of a binding that was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It was deleted.
    Deleted,
    /// It was gone already, or another has its name.
    WasGone,
    /// Its end was moved to later meanwhile, and it stays.
    Extended(Box<Binding>),
}

impl Revoked {
    fn of(was_there: bool) -> Self {
        match was_there {
            true => Self::Deleted,
            false => Self::WasGone,
        }
    }
}

/// Deletes one binding if it still is the one with this UID.
pub async fn revoke(
    client: &Client,
    place: &Place,
    name: &str,
    uid: &str,
) -> Result<Revoked, ApiError> {
    let rbac = Rbac::new(client, place);
    Ok(Revoked::of(rbac.delete_binding(name, uid, None).await?))
}

/// The same at the end that a version of the binding named: if that was the last version. Otherwise what the binding says by
/// now counts, since its end may have been moved while the news of that was on its way.
pub async fn expire(
    client: &Client,
    binding: &Binding,
    now: Timestamp,
) -> Result<Revoked, ApiError> {
    let Binding { name, uid, .. } = binding;
    let rbac = Rbac::new(client, &binding.place);
    let version = binding.resource_version.as_deref();
    if rbac.delete_binding(name, uid, version).await? {
        return Ok(Revoked::Deleted);
    }
    match rbac.binding(name).await?.filter(|live| live.uid == *uid) {
        None => Ok(Revoked::WasGone),
        Some(live) if live.not_after.is_some_and(|end| end > now) => {
            Ok(Revoked::Extended(Box::new(live)))
        }
        Some(_) => Ok(Revoked::of(rbac.delete_binding(name, uid, None).await?)),
    }
}

struct Writer {
    name: String,
    place: Place,
    jobs: Api<Job>,
    rbac: Rbac,
}

impl Writer {
    fn new(client: &Client, plan: &Plan) -> Self {
        let namespace = plan.place.namespace();
        Self {
            name: plan.name.clone(),
            place: plan.place.clone(),
            // No step for the whole cluster speaks of a Job.
            jobs: Api::namespaced(client.clone(), namespace.unwrap_or_default()),
            rbac: Rbac::new(client, &plan.place),
        }
    }

    /// UID of the Job that owns what is made; in the whole cluster there is none.
    fn owner(&self, job_uid: Option<String>) -> Result<Option<String>, ApiError> {
        match (&self.place, job_uid) {
            (Place::Cluster, _) => Ok(None),
            (Place::Namespace(_), Some(uid)) => Ok(Some(uid)),
            (Place::Namespace(_), None) => Err(ApiError::Incomplete("Job")),
        }
    }

    /// Changes the Job if it is still as it was read: who was held up takes back nothing that was written meanwhile. Whatever is
    /// written into it also says that it is idle and counts down, or the admission policy could refuse the write.
    async fn change_job(
        &self,
        uid: &str,
        known: Option<Job>,
        mut patch: serde_json::Value,
    ) -> Result<Job, ApiError> {
        patch["metadata"]["uid"] = uid.into();
        patch["metadata"]["resourceVersion"] = known.and_then(|job| job.resource_version()).into();
        patch["spec"]["parallelism"] = 0.into();
        patch["spec"]["suspend"] = false.into();
        patch["spec"]["ttlSecondsAfterFinished"] = 0.into();
        let patch = Patch::Merge(patch);
        call(self.jobs.patch(&self.name, &patched(), &patch)).await
    }

    async fn delete(&self, step: Step) -> Result<(), ApiError> {
        match step {
            Step::DeleteBinding(uid) => self.rbac.delete_binding(&self.name, &uid, None).await?,
            Step::DeleteJob(uid) => delete(&self.jobs, &self.name, &uid, None).await?,
            Step::DeleteRole(uid) => self.rbac.delete_role(&self.name, &uid).await?,
            Step::CreateJob(_)
            | Step::SetDeadline { .. }
            | Step::RestoreJob { .. }
            | Step::CreateRole
            | Step::ReplaceRole
            | Step::CreateBinding
            | Step::AnnotateBinding(_) => {
                return Err(ApiError::Incomplete("judgement for a write"));
            }
        };
        Ok(())
    }
}

/// Roles and bindings of one place. What is written for the whole cluster has the same content in another kind.
enum Rbac {
    Namespaced(Api<Role>, Api<RoleBinding>),
    Cluster(Api<ClusterRole>, Api<ClusterRoleBinding>),
}

impl Rbac {
    fn new(client: &Client, place: &Place) -> Self {
        match place {
            Place::Namespace(name) => Self::Namespaced(
                Api::namespaced(client.clone(), name),
                Api::namespaced(client.clone(), name),
            ),
            Place::Cluster => Self::Cluster(Api::all(client.clone()), Api::all(client.clone())),
        }
    }

    async fn create_role(&self, wanted: Role) -> Result<(), ApiError> {
        match self {
            Self::Namespaced(roles, _) => drop(create(roles, &wanted).await?),
            Self::Cluster(roles, _) => drop(create(roles, &wide::cluster_role(wanted)).await?),
        }
        Ok(())
    }

    async fn replace_role(
        &self,
        name: &str,
        mut wanted: Role,
        live: Option<&Role>,
    ) -> Result<(), ApiError> {
        wanted.metadata.resource_version = live.and_then(ResourceExt::resource_version);
        match self {
            Self::Namespaced(roles, _) => {
                call(roles.replace(name, &managed(), &wanted)).await?;
            }
            Self::Cluster(roles, _) => {
                let wanted = wide::cluster_role(wanted);
                call(roles.replace(name, &managed(), &wanted)).await?;
            }
        }
        Ok(())
    }

    async fn create_binding(&self, wanted: RoleBinding) -> Result<RoleBinding, ApiError> {
        match self {
            Self::Namespaced(_, bindings) => create(bindings, &wanted).await,
            Self::Cluster(_, bindings) => {
                let wanted = wide::cluster_role_binding(wanted);
                Ok(wide::role_binding(create(bindings, &wanted).await?))
            }
        }
    }

    /// Writes the annotations and nothing else: access goes on meanwhile.
    async fn annotate_binding(
        &self,
        name: &str,
        uid: &str,
        wanted: &RoleBinding,
    ) -> Result<(), ApiError> {
        let annotations = wanted.annotations();
        let patch = serde_json::json!({"metadata": {"uid": uid, "annotations": annotations}});
        let (params, patch) = (patched(), Patch::Merge(patch));
        match self {
            Self::Namespaced(_, bindings) => {
                call(bindings.patch(name, &params, &patch)).await?;
            }
            Self::Cluster(_, bindings) => {
                call(bindings.patch(name, &params, &patch)).await?;
            }
        }
        Ok(())
    }

    async fn delete_role(&self, name: &str, uid: &str) -> Result<bool, ApiError> {
        match self {
            Self::Namespaced(roles, _) => delete(roles, name, uid, None).await,
            Self::Cluster(roles, _) => delete(roles, name, uid, None).await,
        }
    }

    async fn delete_binding(
        &self,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> Result<bool, ApiError> {
        match self {
            Self::Namespaced(_, bindings) => delete(bindings, name, uid, version).await,
            Self::Cluster(_, bindings) => delete(bindings, name, uid, version).await,
        }
    }

    async fn binding(&self, name: &str) -> Result<Option<Binding>, ApiError> {
        match self {
            Self::Namespaced(_, bindings) => {
                let found = call(bindings.get_opt(name)).await?;
                Ok(found.as_ref().map(Binding::read))
            }
            Self::Cluster(_, bindings) => {
                let found = call(bindings.get_opt(name)).await?;
                Ok(found.as_ref().map(Binding::read))
            }
        }
    }
}

fn patched() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    }
}

fn managed() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    }
}

/// Creates; an object that exists already is a conflict, and the next pass looks at it.
async fn create<K>(api: &Api<K>, wanted: &K) -> Result<K, ApiError>
where
    K: Clone + Debug + DeserializeOwned + serde::Serialize,
{
    call(api.create(&managed(), wanted)).await
}

/// Deletes with a UID precondition, and if it is given, one of the version. Gone, or replaced by another of the same name, is
/// what was wanted.
async fn delete<K>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    version: Option<&str>,
) -> Result<bool, ApiError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: version.map(str::to_owned),
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
