//! The CustomResourceDefinitions as they are served, beside those that the operator was built with.

use crate::cluster::own_watches::follow;
use crate::cluster::{ApiError, call};
use crate::domain::definitions::Difference;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::{PartialObjectMeta, ResourceExt};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::Notify;

/// What is wrong with them, and whether the API server drops something that this version knows.
#[derive(Debug, Default)]
pub struct Skew {
    /// One text for each definition with a difference.
    pub words: Vec<String>,
    /// Whether one of them is older.
    pub older: bool,
}

/// One look, beside those that were `built`. A definition that is missing is told by the watches on its kind.
pub async fn look(client: &Client, built: &[CustomResourceDefinition]) -> Result<Skew, ApiError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let api = &api;
    let all = built.iter().map(async |built| {
        let served = call(api.get_opt(&built.name_any())).await?;
        Ok::<_, ApiError>((built, served))
    });
    let mut skew = Skew::default();
    for (built, served) in futures::future::try_join_all(all).await? {
        let Some(served) = served else {
            continue;
        };
        let name = built.name_any();
        let json = |definition| serde_json::to_value(definition).unwrap_or(Value::Null);
        let difference = Difference::between(&json(built), &json(&served));
        skew.older |= !difference.lacks.is_empty();
        skew.words.extend(difference.words(&name));
    }
    Ok(skew)
}

/// Tells of each change of one of them, for ever.
pub async fn watch(client: &Client, built: &[CustomResourceDefinition], changed: &Notify) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    let names: Vec<String> = built.iter().map(ResourceExt::name_any).collect();
    let each = names.iter().map(|name| follow(api.clone(), name, changed));
    futures::future::join_all(each).await;
}
