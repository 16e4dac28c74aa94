//! A real control plane does what the table says, so that the fake is held to facts.

use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt, api::PostParams};
use support::{
    cluster::{Cluster, eventually},
    conformance::{self, Ctx},
};

/// Rows that run side by side.
const WIDTH: usize = 8;

#[tokio::test]
async fn a_real_server_does_what_the_table_says() {
    let cluster = Cluster::shared().await;
    install_definitions(cluster).await;
    let rows = conformance::rows();
    let outcomes = stream::iter(&rows).map(async |row| {
        let namespace = cluster.namespace("row", &[]).await;
        let client = cluster.admin();
        conformance::run(row, Ctx { client, namespace }).await
    });
    let outcomes: Vec<_> = outcomes.buffer_unordered(WIDTH).collect().await;
    let failures: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    conformance::report(rows.len(), &failures);
}

async fn install_definitions(cluster: &Cluster) {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.admin());
    for definition in stint::api::custom_resource_definitions() {
        api.create(&PostParams::default(), &definition)
            .await
            .expect("a fresh cluster takes the definition");
        let name = definition.name_any();
        eventually("the definition is served", async || {
            let status = api.get(&name).await.ok()?.status?;
            let conditions = status.conditions.unwrap_or_default();
            let mut established = conditions.iter().filter(|c| c.type_ == "Established");
            established.find(|c| c.status == "True").map(drop)
        })
        .await;
    }
}
