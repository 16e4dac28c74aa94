//! Who may send reviews, on a real control plane: an API server that shows a certificate, and somebody on the network who has none.

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::Team;

/// What the webhook says to somebody who is not the API server and sends a review in the name of Alice.
async fn forged_receipt(stint: &Stint, team: &Team) -> Result<Value, kube::Error> {
    let mut config = Config::new(stint.webhook_url().parse().unwrap());
    config.accept_invalid_certs = true;
    let client = Client::try_from(config).unwrap();
    let mut object = json!(team.request("forged", "1h"));
    object["metadata"]["namespace"] = json!(team.namespace);
    let kind =
        |last: &str, word: &str| json!({"group": "stint.dev", "version": "v1alpha1", last: word});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE",
        "kind": kind("kind", "WorkloadAccess"), "resource": kind("resource", "workloadaccesses"),
        "name": "forged", "namespace": team.namespace, "object": object,
        "userInfo": {"username": "alice", "uid": "alice-uid", "groups": ["payments-devs", "system:authenticated"]}}});
    let request = http::Request::post("/mutate").header("content-type", "application/json");
    client
        .request::<Value>(request.body(review.to_string().into_bytes()).unwrap())
        .await
}

/// The tests start the operator anew with other settings.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn with_an_authority_for_clients_the_api_server_is_answered_and_nobody_else() {
    let _alone = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let team = Team::new(stint).await;
    // So it is without one: what the API server may ask, everybody may.
    let answer = forged_receipt(stint, &team).await.unwrap();
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    assert!(answer["response"]["patch"].is_string(), "{answer}");

    let authority = stint.cluster().webhook_client_ca();
    stint
        .restart_with(&[format!("STINT_WEBHOOK_CLIENT_CA={}", authority.display())])
        .await;
    let refused = forged_receipt(stint, &team).await.unwrap_err();
    let why = format!("{refused:?}");
    assert!(
        why.contains("CertificateRequired"),
        "not an alert of TLS: {why}"
    );
    let asked = team.requests(User::Alice);
    eventually("the API server is answered", async || {
        asked
            .create(&Default::default(), &team.request("asked", "1h"))
            .await
            .ok()
    })
    .await;
    team.becomes("asked", "Active").await;
    stint.restart_with(&[]).await;
}

#[tokio::test]
async fn a_changed_authority_counts_without_a_restart() {
    let _alone = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let team = Team::new(stint).await;
    let right = std::fs::read(stint.cluster().webhook_client_ca()).unwrap();
    let file = stint.cluster().dir().join("clients-of-the-webhook.crt");
    // The cluster's own authority has signed no certificate that the API server shows to webhooks.
    std::fs::copy(stint.cluster().ca_pem_path(), &file).unwrap();
    stint
        .restart_with(&[format!("STINT_WEBHOOK_CLIENT_CA={}", file.display())])
        .await;
    let asked = team.requests(User::Alice);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let refused = eventually("the API server is not answered", async || {
        asked
            .create(&dry_run, &team.request("early", "1h"))
            .await
            .err()
    })
    .await;
    assert!(
        refused.to_string().contains("failed calling webhook"),
        "{refused}"
    );

    std::fs::write(&file, "no certificate").unwrap();
    eventually("a file without an authority is said", async || {
        let (status, body) = stint.admin_get("/readyz").await.ok()?;
        (status == 200 && body.contains("must hold certificates of authorities, PEM")).then_some(())
    })
    .await;

    std::fs::write(&file, right).unwrap();
    eventually("the API server is answered", async || {
        asked
            .create(&dry_run, &team.request("asked", "1h"))
            .await
            .ok()
    })
    .await;
    let (_, body) = stint.admin_get("/readyz").await.unwrap();
    assert_eq!(body, "ok\n");
    stint.restart_with(&[]).await;
}

/// Whether the webhook serves a certificate of this authority.
async fn serves_under(stint: &Stint, authority: &[u8]) -> bool {
    let mut config = Config::new(stint.webhook_url().parse().unwrap());
    let authority = CertificateDer::from_pem_slice(authority).unwrap();
    config.root_cert = Some(vec![authority.to_vec()]);
    let client = Client::try_from(config).unwrap();
    let request = http::Request::post("/mutate").body(Vec::new()).unwrap();
    let answer = client.send(request.map(kube::client::Body::from)).await;
    answer.is_ok()
}

#[tokio::test]
async fn the_api_server_believes_keys_of_every_algorithm() {
    let _alone = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let team = Team::new(stint).await;
    let asked = team.requests(User::Alice);
    let secrets: Api<Secret> = Api::namespaced(stint.cluster().admin(), "stint-system");
    let name = "stint-webhook-certificate";
    for algorithm in ["ECDSA-P384", "Ed25519", "ECDSA-P256"] {
        let variable = format!("STINT_CERTIFICATE_KEY_ALGORITHM={algorithm}");
        stint.restart_with(&[variable]).await;
        secrets.delete(name, &Default::default()).await.unwrap();
        let authority = eventually("the keys are made", async || {
            let data = secrets.get_opt(name).await.unwrap()?.data?;
            let of_it = |key: &str| {
                let pem = std::str::from_utf8(&data.get(key)?.0).ok()?;
                let key = rcgen::KeyPair::from_pem(pem).unwrap();
                (format!("{:?}", key.algorithm()) == signature(algorithm)).then_some(())
            };
            of_it("ca.key").and(of_it("tls.key"))?;
            Some(data["ca.crt"].0.clone())
        })
        .await;
        eventually("they are served", async || {
            serves_under(stint, &authority).await.then_some(())
        })
        .await;
        let request = team.request(&algorithm.to_lowercase(), "1h");
        asked.create(&Default::default(), &request).await.unwrap();
    }
    stint.restart_with(&[]).await;
}

/// What an algorithm is called by the library that makes its keys.
fn signature(algorithm: &str) -> &'static str {
    match algorithm {
        "ECDSA-P256" => "PKCS_ECDSA_P256_SHA256",
        "ECDSA-P384" => "PKCS_ECDSA_P384_SHA384",
        _ => "PKCS_ED25519",
    }
}
