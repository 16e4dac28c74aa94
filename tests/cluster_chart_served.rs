//! The chart's objects as a real API server takes them, unknown fields and Pod Security included, and what `helm test` finds.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::chart::{features_and_presets, objects, program};
use support::cluster::{Cluster, User, eventually};
use support::operator::{NAMESPACE, Stint};
use support::project;
use tokio::process::Command;

/// What `tests/cluster/build.sh` takes the CRDs of other operators from, where it puts them, and the kinds that the chart has of them.
const OF_OTHERS: [(&str, &str, &[&str]); 2] = [
    (
        "monitoring",
        "monitoring",
        &["servicemonitors", "podmonitors", "prometheusrules"],
    ),
    (
        "cert-manager",
        "cert-manager-crds",
        &["certificates", "issuers"],
    ),
];
/// The one feature that Pod Security `restricted` does not let pass.
const NOT_RESTRICTED: &str = "host-network-values.yaml";

/// Writes objects into the folder of the cluster.
fn written(cluster: &Cluster, name: &str, objects: &[Value]) -> PathBuf {
    let path = cluster.dir().join(format!("{name}.json"));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&path, list.to_string()).unwrap();
    path
}

/// Applies a file as the administrator; returns what kubectl says.
async fn applied(cluster: &Cluster, file: &Path, more: &[&str]) -> String {
    let mut kubectl = cluster.kubectl(User::Admin);
    kubectl
        .args(["apply", "--server-side", "--validate=strict"])
        .args(more)
        .arg("--filename")
        .arg(file);
    let (ok, said) = ended(&mut kubectl).await;
    assert!(ok, "{}: {said}", file.display());
    said
}

/// Whether the command succeeded, and everything it said.
async fn ended(command: &mut Command) -> (bool, String) {
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// A namespace in which everything that `restricted` does not allow is refused, and told of a Deployment's pods.
fn restricted(name: &str) -> Value {
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted"
    });
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// A cluster of its own: the chart is installed nowhere else in it.
#[tokio::test]
async fn the_api_server_takes_every_feature_preset_and_example_without_a_warning() {
    let cluster = &Cluster::start().await.unwrap();
    // A dry run stores no account, and a pod without one is refused.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                         "metadata": {"name": "stint-test", "namespace": NAMESPACE}});
    let before = [restricted(NAMESPACE), restricted("grafana"), account];
    applied(cluster, &written(cluster, "before", &before), &[]).await;

    for (part, folder, kinds) in OF_OTHERS {
        let folder = program(part).with_file_name(folder);
        for kind in kinds {
            define(cluster, &folder, kind).await;
        }
    }

    let mut all = features_and_presets();
    all.push(("values.yaml".into(), "{}".into()));
    for (name, values) in all {
        let objects = objects(&values);
        let file = written(cluster, &name, &objects);
        let said = applied(cluster, &file, &["--dry-run=server"]).await;
        let warned = said.contains("Warning");
        assert_eq!(warned, name == NOT_RESTRICTED, "{name}: {said}");
        assert_eq!(said.matches("serverside-applied").count(), objects.len());
    }

    let mut crds = objects("{}");
    crds.retain(|object| object["kind"] == "CustomResourceDefinition");
    applied(cluster, &written(cluster, "crds", &crds), &[]).await;
    let file = written(cluster, "examples", &examples());
    let examples = async || {
        let mut kubectl = cluster.kubectl(User::Admin);
        kubectl.args([
            "apply",
            "--server-side",
            "--validate=strict",
            "--dry-run=server",
        ]);
        kubectl
            .args(["--namespace", "default", "--filename"])
            .arg(&file);
        let (ok, said) = ended(&mut kubectl).await;
        (ok && !said.contains("Warning")).then_some(())
    };
    // The kinds are served a moment after their definitions are stored.
    eventually("the examples of the listing are valid", examples).await;
}

/// Stores the definition of a kind of another operator, and waits until the kind is served.
async fn define(cluster: &Cluster, folder: &Path, kind: &str) {
    let files = std::fs::read_dir(folder).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let file = files.find(|file| file.to_str().unwrap().ends_with(&format!("_{kind}.yaml")));
    applied(cluster, &file.expect(kind), &[]).await;
    eventually("the kind is served", async || {
        let mut kubectl = cluster.kubectl(User::Admin);
        kubectl.args(["get", kind, "--all-namespaces"]);
        ended(&mut kubectl).await.0.then_some(())
    })
    .await;
}

/// What Artifact Hub shows as examples.
fn examples() -> Vec<Value> {
    let listing = include_str!("../charts/stint/Chart.yaml");
    let listing: Value = serde_saphyr::from_str(listing).unwrap();
    let examples = &listing["annotations"]["artifacthub.io/crdsExamples"];
    serde_saphyr::from_str(examples.as_str().unwrap()).unwrap()
}

/// `stint check` with the rights that the chart gives to the pod of `helm test`, and no others.
async fn checked(stint: &Stint, admin: &str) -> (bool, String) {
    let cluster = stint.cluster();
    let account = "stint-test";
    let token = cluster.service_account_token(NAMESPACE, account).await;
    let kubeconfig = cluster.kubeconfig_for_token(account, &token);
    let mut check = Command::new(env!("CARGO_BIN_EXE_stint"));
    check
        .args(["check", "--admin", admin, "--namespace", NAMESPACE])
        .env("KUBECONFIG", kubeconfig);
    ended(&mut check).await
}

fn lines(said: &str, beginning: &str) -> usize {
    said.lines()
        .filter(|line| line.starts_with(beginning))
        .count()
}

#[tokio::test]
async fn helm_test_tells_an_installation_that_works_from_one_that_does_not() {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let mut rights = objects("{}");
    rights.retain(|object| object["metadata"]["name"] == "stint-test" && object["kind"] != "Pod");
    assert_eq!(rights.len(), 3, "account, Role and binding");
    let file = written(stint.cluster(), "rights", &rights);
    applied(stint.cluster(), &file, &["--force-conflicts"]).await;

    let admin = stint.admin_address();
    let (ok, said) = checked(stint, &admin).await;
    assert!(ok, "{said}");
    assert_eq!(lines(&said, "ok "), 4, "{said}");

    stint.kill().await;
    let (ok, said) = checked(stint, &admin).await;
    assert!(!ok, "{said}");
    assert_eq!(lines(&said, "FAILED "), 4, "{said}");
    stint.start().await;
}

/// What helm says after an installation with these values; nothing is stored.
async fn notes(stint: &Stint, values: &[&str]) -> String {
    let chart = project().join("charts/stint");
    let mut helm = stint.cluster().helm();
    helm.args(["upgrade", "stint"]).arg(chart).args([
        "--namespace",
        NAMESPACE,
        "--dry-run=server",
        "--reset-values",
    ]);
    for value in values {
        helm.args(["--set", value]);
    }
    let (ok, said) = ended(&mut helm).await;
    assert!(ok, "{said}");
    said.split("\nNOTES:\n").nth(1).expect("notes").to_owned()
}

#[tokio::test]
async fn notes_say_what_is_next_and_what_is_dangerous() {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let said = notes(stint, &[]).await;
    assert!(!said.contains("WARNING"), "{said}");
    for next in [
        "kubectl explain accesspolicy.spec",
        "helm test stint --namespace stint-system",
    ] {
        assert!(said.contains(next), "{said}");
    }
    for (value, warning) in [
        ("replicas=1", "replicas=1: "),
        ("webhook.timeoutSeconds=3", "webhook.timeoutSeconds=3: "),
        ("aggregation.requester=edit", "aggregation.requester=edit: "),
        (
            "networkPolicy.enabled=false",
            "networkPolicy.enabled=false: ",
        ),
        ("clusterGrants.enabled=true", "clusterGrants.enabled=true: "),
        (
            "guard.cluster=deny,guard.failurePolicy=Ignore",
            "guard.failurePolicy=Ignore: ",
        ),
        (
            "hostNetwork=true,dnsPolicy=ClusterFirstWithHostNet",
            "hostNetwork=true: ",
        ),
    ] {
        let said = notes(stint, &[value]).await;
        let warned = said.matches("WARNING: ").count();
        assert!(
            warned == 1 && said.contains(&format!("WARNING: {warning}")),
            "{said}"
        );
    }
    let said = notes(stint, &["deployment.enabled=false"]).await;
    assert!(
        said.contains("the Service stint-webhook, which is yours to make"),
        "{said}"
    );
}
