//! `make bench`: how long `kubectl stint list -A` takes over ten thousand grants on a real API server, beside the floor of
//! merely reading them in the same pages in the same run. Nothing here passes or fails by the clock.

use std::process::Command;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::ResourceExt;
use serde_json::json;
use stint::api::WorkloadAccess;
use support::cluster::{Cluster, User};
use support::operator::Stint;

const GRANTS: usize = 10_000;
const NAMESPACES: usize = 10;
/// Requests in one answer, as the plugin asks for them.
const PAGE: u32 = 500;
const ROUNDS: u32 = 5;

#[tokio::main]
async fn main() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.expect("a cluster")));
    Stint::install_behind(cluster, 1, false)
        .await
        .expect("an installation");
    // Nobody answers reviews here: what is listed is written as it is.
    let none = DeleteParams::default();
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.admin());
    mutating
        .delete("stint", &none)
        .await
        .expect("a configuration");
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.admin());
    validating
        .delete("stint", &none)
        .await
        .expect("a configuration");
    fill(cluster).await;

    let kubeconfig = cluster.kubeconfig(User::Admin);
    let mut listed = Duration::ZERO;
    let mut read = Duration::ZERO;
    for _ in 0..ROUNDS {
        read += floor(cluster).await;
        let began = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-stint"))
            .args(["list", "-A", "--no-headers"])
            .env("KUBECONFIG", &kubeconfig)
            .output()
            .expect("the plugin runs");
        listed += began.elapsed();
        let lines = output
            .stdout
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .count();
        assert_eq!(lines, GRANTS, "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mean = |sum: Duration| sum.as_secs_f64() * 1000.0 / f64::from(ROUNDS);
    println!(
        "reading {GRANTS} requests in pages of {PAGE}   {:>8.0} ms",
        mean(read)
    );
    println!(
        "kubectl stint list -A                     {:>8.0} ms (bar: 2000)",
        mean(listed)
    );
    println!("ratio to the floor: {:.2}", mean(listed) / mean(read));
}

/// Reads every page as bytes and looks at nothing but where the next one begins.
async fn floor(cluster: &Cluster) -> Duration {
    let client = cluster.admin();
    let began = Instant::now();
    let mut next = Some(String::new());
    while let Some(token) = next {
        let path =
            format!("/apis/stint.dev/v1alpha1/workloadaccesses?limit={PAGE}&continue={token}");
        let request = http::Request::get(path)
            .body(Vec::new())
            .expect("a request");
        let page = client.request_text(request).await.expect("a page");
        next = page.split_once("\"continue\":\"").and_then(|(_, rest)| {
            let token = rest.split('"').next()?;
            (!token.is_empty()).then(|| token.to_owned())
        });
    }
    began.elapsed()
}

async fn fill(cluster: &'static Cluster) {
    let mut namespaces = Vec::new();
    for _ in 0..NAMESPACES {
        namespaces.push(cluster.namespace("listed", &[]).await);
    }
    let client = cluster.admin();
    let making = (0..GRANTS).map(|i| {
        let api: Api<WorkloadAccess> = Api::namespaced(client.clone(), &namespaces[i % NAMESPACES]);
        async move {
            let made = api.create(&PostParams::default(), &request(i)).await?;
            let status = json!({"status": {
                "observedGeneration": 1, "notAfter": "2030-01-01T00:00:00Z", "risk": "Low",
                "activatedTime": "2026-11-26T12:00:00Z",
                "conditions": [{"type": "Ready", "status": "True", "reason": "Active", "message": "",
                    "lastTransitionTime": "2026-11-26T12:00:00Z"}]}});
            let patch = Patch::Merge(status);
            api.patch_status(&made.name_any(), &PatchParams::default(), &patch).await
        }
    });
    let made: Result<Vec<_>, kube::Error> = futures::stream::iter(making.collect::<Vec<_>>())
        .buffer_unordered(32)
        .try_collect()
        .await;
    made.expect("every request is stored");
}

fn request(i: usize) -> WorkloadAccess {
    serde_json::from_value(json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": format!("grant-{i:05}")},
        "spec": {
            "serviceAccountRef": {"name": format!("account-{}", i % 100)},
            "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": [format!("d-{i}")], "verbs": ["get", "patch"]}],
            "duration": "1h",
            "reason": format!("change number {i}"),
        }
    }))
    .expect("a request")
}
