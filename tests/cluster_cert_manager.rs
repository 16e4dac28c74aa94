//! cert-manager itself, built from its module, makes the webhook's certificate on a real control plane: its controllers issue and
//! renew, its CA injector publishes, and the API server asks the operator through the chart's Service.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;
use support::chart::program;
use support::cluster::process::Component;
use support::cluster::{Cluster, User, eventually};
use support::installation::{Installation, helm, said};
use support::operator::NAMESPACE;
use support::team::create;

const CERTIFICATES: &str = "cert-manager.io/v1";
/// Where cert-manager looks for the Secrets of ClusterIssuers.
const CERT_MANAGER: &str = "cert-manager";
/// cert-manager, built by whoever asks first.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| program("cert-manager"));
/// The name under which the CA injector applies.
const INJECTOR: &str = "cert-manager-cainjector";

/// The chart with these values; cert-manager and the operator start at once, as after `helm install`.
async fn installation(values: &str) -> Installation {
    let cert_manager = &*PROGRAM;
    let cluster = Cluster::with_services().await.unwrap();
    let crds = cert_manager.with_file_name("cert-manager-crds");
    let crds = crds.display().to_string();
    kubectl(&cluster, &["apply", "--server-side", "-f", &crds]).await;
    let served = ["wait", "--for=condition=Established", "crd", "--all"];
    kubectl(&cluster, &served).await;
    let operator = env!("CARGO_BIN_EXE_stint");
    let mut stint = Installation::of(operator, cluster, values, "stint-webhook-tls").await;
    let admin = stint.cluster.kubeconfig(User::Admin);
    let args = ["--kubeconfig".to_owned(), admin.display().to_string()];
    let folder = stint.cluster.dir();
    let started = Component::start(folder, "cert-manager", cert_manager, &args);
    stint.beside(started.unwrap());
    stint.is_ready().await;
    stint
}

/// helm made the configurations, the CA injector wrote `caBundle`, and nobody else anything.
async fn only_the_injector_publishes(stint: &Installation) {
    let expected = [("helm".to_owned(), false), (INJECTOR.to_owned(), true)];
    assert_eq!(stint.writers().await, BTreeSet::from(expected));
}

/// What `cmctl renew` does.
async fn renew(cluster: &Cluster, name: &str) {
    let kind = GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate");
    let kind = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.admin(), NAMESPACE, &kind);
    eventually("the certificate is marked for renewal", async || {
        let mut object = api.get(name).await.ok()?;
        let condition = json!({
            "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "a test",
            "lastTransitionTime": jiff::Timestamp::now(), "observedGeneration": object.metadata.generation
        });
        let conditions = object.data["status"]["conditions"].as_array_mut()?;
        conditions.push(condition);
        let params = PostParams::default();
        api.replace_status(name, &params, &object).await.ok()
    })
    .await;
}

async fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    said(cluster.kubectl(User::Admin).args(args)).await
}

#[tokio::test]
async fn cert_manager_issues_and_renews_and_no_review_is_lost() {
    let stint = installation("cert-manager-values.yaml").await;
    let (first, authority) = stint.serves_another_than("").await;
    assert_eq!(stint.published().await, BTreeSet::from([authority.clone()]));
    let said = stint.verdict().await;
    assert!(said.contains("WA-"), "{said}");
    only_the_injector_publishes(&stint).await;

    let renewed = async {
        renew(&stint.cluster, "stint-webhook").await;
        stint.serves_another_than(&first).await
    };
    let (second, same) = stint.under_load(renewed).await;
    assert_eq!(same, authority, "it is renewed under the authority before");
    stint.answers_anew().await;

    let made_anew = async {
        let secrets = stint.secrets();
        let params = DeleteParams::default();
        let gone = secrets.delete("stint-webhook-tls", &params).await;
        gone.unwrap();
        stint.serves_another_than(&second).await
    };
    let (_, same) = stint.under_load(made_anew).await;
    assert_eq!(same, authority);
    assert_eq!(stint.published().await, BTreeSet::from([authority]));
    only_the_injector_publishes(&stint).await;
}

/// The company's own authority, which cert-manager keeps too.
async fn company(admin: &Client) {
    create(
        admin,
        "v1",
        "Namespace",
        "",
        json!({"metadata": {"name": CERT_MANAGER}}),
    )
    .await;
    let issuers = [
        ("company-root", json!({"selfSigned": {}})),
        ("company", json!({"ca": {"secretName": "company-ca"}})),
    ];
    for (name, spec) in issuers {
        let issuer = json!({"metadata": {"name": name}, "spec": spec});
        create(admin, CERTIFICATES, "ClusterIssuer", "", issuer).await;
    }
    let authority = json!({"metadata": {"name": "company-ca"}, "spec": {
        "isCA": true, "commonName": "company", "secretName": "company-ca",
        "privateKey": {"algorithm": "ECDSA", "size": 256},
        "issuerRef": {"kind": "ClusterIssuer", "name": "company-root"}
    }});
    create(admin, CERTIFICATES, "Certificate", CERT_MANAGER, authority).await;
}

#[tokio::test]
async fn an_upgrade_to_an_issuer_of_ones_own_loses_no_review() {
    let mut stint = installation("cert-manager-values.yaml").await;
    let (first, before) = stint.serves_another_than("").await;
    company(&stint.cluster.admin()).await;

    let upgraded = async {
        helm(&stint.cluster, "own-issuer-values.yaml").await;
        stint.serves_another_than(&first).await
    };
    let (_, authority) = stint.under_load(upgraded).await;
    stint.answers_anew().await;
    let companys: Api<Secret> = Api::namespaced(stint.cluster.admin(), CERT_MANAGER);
    let company = companys.get("company-ca").await.unwrap().data.unwrap();
    assert_eq!(company["tls.crt"].0, authority.as_bytes());
    for published in stint.published().await {
        assert!(published.contains(authority.trim()), "{published}");
        assert!(
            published.contains(before.trim()),
            "what was trusted stays so"
        );
    }
    let left = kubectl(
        &stint.cluster,
        &["get", "issuers,certificates", "-n", NAMESPACE, "-o", "name"],
    );
    assert_eq!(left.await, "certificate.cert-manager.io/stint-webhook\n");
    only_the_injector_publishes(&stint).await;
    stint.is_ready().await;
}
