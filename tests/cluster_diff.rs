//! What was applied stays as it was applied: after the operator has worked and renewed its certificate, `kubectl diff` of the same
//! render is empty on a real control plane.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::chart;
use support::cluster::{Cluster, User, eventually};
use support::operator::{NAMESPACE, Stint};
use support::team::Team;

const CERTIFICATE: &str = "stint-webhook-certificate";

/// The manifests that were installed, as one file.
fn manifests(stint: &Stint) -> PathBuf {
    let values = json!({"deployment": {"enabled": false}, "webhook": {"url": stint.webhook_url()}});
    let objects = chart::objects(&values.to_string());
    let hook = |object: &Value| object["metadata"]["annotations"]["helm.sh/hook"].is_string();
    let kept: Vec<Value> = objects.into_iter().filter(|o| !hook(o)).collect();
    assert!(kept.len() > 25, "{}", kept.len());
    let path = stint.cluster().dir().join("applied.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": kept});
    std::fs::write(&path, list.to_string()).unwrap();
    path
}

/// Success and output of `kubectl` with this file.
async fn kubectl(cluster: &Cluster, args: &[&str], file: &Path) -> (bool, String) {
    let mut kubectl = cluster.kubectl(User::Admin);
    let output = kubectl.args(args).arg("--filename").arg(file).output();
    let output = output.await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

async fn diff(cluster: &Cluster, file: &Path) -> (bool, String) {
    kubectl(cluster, &["diff", "--server-side"], file).await
}

#[tokio::test]
async fn nothing_that_was_applied_is_changed_by_work_and_a_new_certificate() {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let cluster = stint.cluster();
    let file = manifests(stint);
    // As somebody who installs from plain YAML; the objects of Helm become those of kubectl.
    let apply = ["apply", "--server-side", "--force-conflicts"];
    let (ok, said) = kubectl(cluster, &apply, &file).await;
    assert!(ok, "{said}");

    let team = Team::new(stint).await;
    team.granted(&team.request("worked", "2s")).await;
    team.becomes("worked", "Expired").await;
    let secrets: Api<Secret> = Api::namespaced(cluster.admin(), NAMESPACE);
    let before = secrets.get(CERTIFICATE).await.unwrap().data;
    secrets
        .delete(CERTIFICATE, &DeleteParams::default())
        .await
        .unwrap();
    eventually("there is a new certificate", async || {
        let made = secrets.get_opt(CERTIFICATE).await.ok()??;
        (made.data != before).then_some(())
    })
    .await;
    // The webhook answers under the new authority.
    team.granted(&team.request("worked-again", "1h")).await;

    let (same, said) = diff(cluster, &file).await;
    assert!(same, "{said}");

    // And a change would be seen.
    let patch = r#"[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]"#;
    let edited = ["validatingwebhookconfigurations", "stint"];
    let (ok, said) = stint
        .kubectl(
            User::Admin,
            &[
                "patch",
                edited[0],
                edited[1],
                "--type=json",
                "--patch",
                patch,
            ],
        )
        .await;
    assert!(ok, "{said}");
    let (same, said) = kubectl(
        cluster,
        &["diff", "--server-side", "--force-conflicts"],
        &file,
    )
    .await;
    assert!(!same && said.contains("failurePolicy"), "{said}");
}
