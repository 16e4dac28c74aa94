//! The Secret with the receipt keys is deleted under two replicas, on a real control plane.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use support::cluster::{User, eventually};
use support::operator::NAMESPACE;
use support::replicas::Replicas;
use support::team::Team;

const SECRET: &str = "stint-receipt-keys";

#[tokio::test]
async fn after_the_secret_was_deleted_no_new_request_is_taken_for_forged() {
    let replicas = Replicas::shared(env!("CARGO_BIN_EXE_stint")).await;
    replicas.all_ready().await;
    let team = Team::new(replicas.each[0]).await;
    let secrets: Api<Secret> = Api::namespaced(team.stint.cluster().admin(), NAMESPACE);
    let lost = secrets.get(SECRET).await.unwrap().data;
    secrets
        .delete(SECRET, &DeleteParams::default())
        .await
        .unwrap();
    eventually("a replica has made it anew", async || {
        let made = secrets.get_opt(SECRET).await.ok()??;
        (made.data != lost).then_some(())
    })
    .await;
    // The Service sends the two reviews of a request to either replica, and either leads.
    let requests = team.requests(User::Alice);
    let names: Vec<String> = (0..20).map(|n| format!("after-{n}")).collect();
    for name in &names {
        let request = team.request(name, "1h");
        // A replica may still sign with the lost key for the moment until its watch tells it; that is said to whoever asks.
        eventually("the request is created", async || {
            match requests.create(&PostParams::default(), &request).await {
                Ok(_) => Some(()),
                Err(kube::Error::Api(said)) if said.message.contains("create it again") => None,
                Err(refused) => panic!("{name}: {refused}"),
            }
        })
        .await;
    }
    for name in &names {
        team.becomes(name, "Active").await;
    }
}
