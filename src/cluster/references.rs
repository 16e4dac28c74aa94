//! Reads what a request refers to: the object of `until` and the workload of `workloadRef`. Live, and one read each: a cache
//! could vouch for work that is over.

use crate::api::names::GRANT;
use crate::api::references::{UntilRef, WorkloadKind, WorkloadRef};
use crate::cluster::{ApiError, call};
use crate::domain::completion::{self, Kind};
use crate::domain::facts::{Image, ObjectFacts, Owner, UntilFacts, Workload, WorkloadFacts};
use crate::domain::grant::Grant;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, Resource, ResourceExt};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Debug;

/// The resource of a kind, as a client names it.
pub(super) fn api_resource(kind: &Kind) -> ApiResource {
    let group = completion::group(&kind.api_version);
    let version = kind.api_version.rsplit('/').next().unwrap_or_default();
    let named = GroupVersionKind::gvk(group, version, &kind.kind);
    ApiResource::from_gvk_with_plural(&named, &kind.resource)
}

/// The object of `until` in the namespace of the request. What is of no listed kind is not looked up: there is no right to.
pub(super) async fn until(
    client: &Client,
    kinds: &[Kind],
    grant: &Grant,
) -> Result<UntilFacts, ApiError> {
    let Some(until) = grant.until() else {
        return Ok(UntilFacts::NotReferenced);
    };
    let Some(kind) = kinds.iter().find(|kind| is(kind, until)) else {
        return Ok(UntilFacts::NotAllowed(kinds.to_vec()));
    };
    let namespace = grant.place().namespace().unwrap_or_default();
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &api_resource(kind));
    let found = found(&api, &until.name).await?;
    found.map_or(Ok(UntilFacts::Absent), |object| {
        object_facts(&object).map(UntilFacts::Found)
    })
}

fn is(kind: &Kind, until: &UntilRef) -> bool {
    kind.api_version == until.api_version && kind.kind == until.kind
}

/// Like `get_opt`, but a 404 that speaks of something else than the object, as when its kind is not served, is an error.
async fn found<K>(api: &Api<K>, name: &str) -> Result<Option<K>, ApiError>
where
    K: Clone + DeserializeOwned + Debug,
{
    match call(api.get(name)).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.says_not_found(name) => Ok(None),
        Err(error) => Err(error),
    }
}

fn object_facts(object: &DynamicObject) -> Result<ObjectFacts, ApiError> {
    let status = object.data.get("status");
    let text = |value: &Value, field: &str| value.get(field)?.as_str().map(str::to_owned);
    let conditions = status.and_then(|status| status.get("conditions")?.as_array());
    let conditions = conditions.into_iter().flatten();
    Ok(ObjectFacts {
        uid: uid(object)?,
        deleting: object.meta().deletion_timestamp.is_some(),
        made_by_stint: object.labels().contains_key(GRANT),
        phase: status.and_then(|status| text(status, "phase")),
        conditions: conditions
            .filter_map(|c| Some((text(c, "type")?, text(c, "status")?)))
            .collect(),
    })
}

fn uid(object: &impl ResourceExt) -> Result<String, ApiError> {
    let uid = object.uid().filter(|uid| !uid.is_empty());
    uid.ok_or(ApiError::Incomplete("uid"))
}

/// The workload of `workloadRef` in the namespace of the account.
pub(super) async fn workload(client: &Client, grant: &Grant) -> Result<WorkloadFacts, ApiError> {
    let Some(WorkloadRef { kind, name, .. }) = grant.workload() else {
        return Ok(WorkloadFacts::NotReferenced);
    };
    let namespace = &grant.account().namespace;
    let workload = match kind {
        WorkloadKind::Pod => {
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            found(&api, name).await?.map(|pod| of_pod(&pod))
        }
        WorkloadKind::Job => {
            let api: Api<Job> = Api::namespaced(client.clone(), namespace);
            found(&api, name).await?.map(|job| of_job(&job))
        }
    };
    Ok(workload
        .transpose()?
        .map_or(WorkloadFacts::Absent, |w| WorkloadFacts::Found(Box::new(w))))
}

fn of_pod(pod: &Pod) -> Result<Workload, ApiError> {
    let status = pod.status.clone().unwrap_or_default();
    let running = [
        status.init_container_statuses,
        status.container_statuses,
        status.ephemeral_container_statuses,
    ];
    let running: Vec<ContainerStatus> = running.into_iter().flatten().flatten().collect();
    Ok(Workload {
        terminal: status.phase.as_deref().is_some_and(completion::is_terminal),
        ..of(pod, WorkloadKind::Pod, pod.spec.as_ref(), &running)?
    })
}

fn of_job(job: &Job) -> Result<Workload, ApiError> {
    let template = job
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ended = |c: &k8s_openapi::api::batch::v1::JobCondition| {
        matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True"
    };
    Ok(Workload {
        terminal: conditions.into_iter().flatten().any(ended),
        ..of(job, WorkloadKind::Job, template, &[])?
    })
}

/// A pod that names no account runs as `default`.
fn of(
    object: &impl ResourceExt,
    kind: WorkloadKind,
    spec: Option<&PodSpec>,
    running: &[ContainerStatus],
) -> Result<Workload, ApiError> {
    let account = spec.and_then(|spec| spec.service_account_name.clone());
    Ok(Workload {
        kind: kind.as_str().to_owned(),
        name: object.name_any(),
        uid: uid(object)?,
        labels: object.labels().clone(),
        owner: owner(object),
        images: spec.map(|spec| images(spec, running)).unwrap_or_default(),
        service_account: account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".into()),
        deleting: object.meta().deletion_timestamp.is_some(),
        terminal: false,
    })
}

fn owner(object: &impl ResourceExt) -> Owner {
    let mut owners = object.owner_references().iter();
    let controller = owners.find(|owner| owner.controller == Some(true));
    controller.map_or_else(Owner::default, |owner| Owner {
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

/// Every container that can act with the account, those for debugging included.
fn images(spec: &PodSpec, running: &[ContainerStatus]) -> Vec<Image> {
    let ids: HashMap<&str, &str> = running
        .iter()
        .map(|status| (status.name.as_str(), status.image_id.as_str()))
        .collect();
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let all = containers.map(|c| (&c.name, &c.image));
    let debugging = spec.ephemeral_containers.iter().flatten();
    all.chain(debugging.map(|c| (&c.name, &c.image)))
        .map(|(name, image)| Image {
            name: name.clone(),
            image: image.clone().unwrap_or_default(),
            image_id: ids
                .get(name.as_str())
                .copied()
                .unwrap_or_default()
                .to_owned(),
        })
        .collect()
}
