//! cert-manager itself, built from its module, makes the webhook's certificate on a real control plane: its controllers issue and
//! renew, its CA injector publishes, and the API server asks the operator through the chart's Service.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams,
};
use kube::{Api, Client};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use stint::api::WorkloadAccess;
use stint::cluster::webhook_configurations::KINDS;
use support::chart::program;
use support::cluster::process::{Component, free_ports};
use support::cluster::wait::within;
use support::cluster::{Cluster, User, eventually};
use support::operator::{ACCOUNT, NAMESPACE, plain_get};
use support::project;
use support::service;
use support::team::create;
use support::webhook::{client_config, pem_to_der};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

/// The name under which the API server knows the webhook.
const SERVER_NAME: &str = "stint-webhook.stint-system.svc";
const CERTIFICATES: &str = "cert-manager.io/v1";
/// Where cert-manager looks for the Secrets of ClusterIssuers.
const CERT_MANAGER: &str = "cert-manager";
/// Reviews that are asked for when something is done.
const AFTERWARDS: u32 = 20;
const TWO_LOOKS: Duration = Duration::from_secs(120);
/// cert-manager, built by whoever asks first.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| program("cert-manager"));
/// The name under which the CA injector applies.
const INJECTOR: &str = "cert-manager-cainjector";

/// The chart as helm installs it. The pods of its Deployment run on no node; the operator beside the cluster has their arguments.
struct Installation {
    // Dropped in this order: nothing is to write into the folder of a cluster that is gone.
    operator: Component,
    cert_manager: Component,
    ports: [u16; 2],
    connections: Arc<Notify>,
    cluster: Cluster,
}

impl Installation {
    /// With the values of this file; everybody starts at once, as after `helm install`.
    async fn of(values: &str) -> Installation {
        let cert_manager = &*PROGRAM;
        let cluster = Cluster::with_services().await.unwrap();
        let crds = cert_manager.with_file_name("cert-manager-crds");
        kubectl(
            &cluster,
            &["apply", "--server-side", "-f", &crds.display().to_string()],
        )
        .await;
        kubectl(
            &cluster,
            &["wait", "--for=condition=Established", "crd", "--all"],
        )
        .await;
        helm(&cluster, values).await;
        let ports = free_ports().unwrap();
        let connections = service::lead(&cluster, NAMESPACE, "stint-webhook", ports[0]).await;
        let operator = operator(&cluster, ports).await;
        eventually("the operator says what it waits for", async || {
            let (status, said) = plain_get(ports[1], "/readyz").await.ok()?;
            let missing = "Secret 'stint-webhook-tls' does not exist";
            (status == 503 && said.contains(missing)).then_some(())
        })
        .await;
        let admin = cluster.kubeconfig(User::Admin);
        let args = ["--kubeconfig".to_owned(), admin.display().to_string()];
        let cert_manager = Component::start(cluster.dir(), "cert-manager", cert_manager, &args);
        let mut made = Installation {
            operator,
            cert_manager: cert_manager.unwrap(),
            ports,
            connections,
            cluster,
        };
        made.is_ready().await;
        made
    }

    async fn is_ready(&mut self) {
        eventually("the operator is ready", async || {
            for component in [&mut self.operator, &mut self.cert_manager] {
                component.check().unwrap_or_else(|ended| panic!("{ended}"));
            }
            let (status, said) = plain_get(self.ports[1], "/readyz").await.ok()?;
            (status == 200 && said == "ok\n").then_some(())
        })
        .await;
    }

    /// What the API server says to a request that no policy admits.
    async fn verdict(&self) -> String {
        let api: Api<WorkloadAccess> = Api::namespaced(self.cluster.admin(), "default");
        let asked = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess", "metadata": {"name": "asked"},
            "spec": {
                "serviceAccountRef": {"name": "default"}, "duration": "30m", "reason": "a test",
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
            }
        });
        let asked = serde_json::from_value(asked).unwrap();
        let refused = api.create(&PostParams::default(), &asked).await;
        refused.unwrap_err().to_string()
    }

    /// Does something while one review follows another, and some more after it; none of them may be lost. The API server asks over
    /// the connection that it has, so there is a look each time whether it would believe a new one.
    async fn under_load<T>(&self, work: impl Future<Output = T>) -> T {
        let since_it_is_done = Cell::new(None);
        let worked = async {
            let done = work.await;
            since_it_is_done.set(Some(0));
            done
        };
        let asked = async {
            while since_it_is_done.get() < Some(AFTERWARDS) {
                let said = self.verdict().await;
                assert!(said.contains("WA-"), "{said}");
                for trusted in self.published().await {
                    let believed = self.served(&trusted).await;
                    assert!(believed.is_ok(), "{believed:?}");
                }
                since_it_is_done.set(since_it_is_done.get().map(|answers| answers + 1));
            }
        };
        tokio::join!(worked, asked).0
    }

    /// The API server keeps its connections; only a new one meets the certificate that is served now.
    async fn answers_anew(&self) {
        self.connections.notify_waiters();
        eventually("the API server believes what is served", async || {
            self.verdict().await.contains("WA-").then_some(())
        })
        .await;
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.admin(), NAMESPACE)
    }

    /// What cert-manager made, and who signed it; PEM.
    async fn issued(&self) -> Option<(String, String)> {
        let secret = self.secrets().get_opt("stint-webhook-tls").await.ok()??;
        let text = |name: &str| String::from_utf8(secret.data.as_ref()?.get(name)?.0.clone()).ok();
        Some((text("tls.crt")?, text("ca.crt")?))
    }

    /// The certificate that somebody meets who trusts only this, PEM.
    async fn served(&self, trusted: &str) -> std::io::Result<CertificateDer<'static>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.ports[0])).await?;
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let connector = TlsConnector::from(client_config(trusted));
        let stream = connector.connect(name, tcp).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        Ok(chain[0].clone().into_owned())
    }

    /// Waits until another certificate than this is issued, and served; returns it and who signed it. One of a new authority is
    /// served ten seconds after that is published.
    async fn serves_another_than(&self, before: &str) -> (String, String) {
        let another = within(TWO_LOOKS, async || {
            let (certificate, authority) = self.issued().await?;
            let served = self.served(&authority).await.ok()?;
            let another = certificate != before && served == pem_to_der(&certificate);
            another.then_some((certificate, authority))
        });
        another.await.expect("another certificate is served")
    }

    /// Every webhook of the chart with what its configuration says; PEM.
    async fn published(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for configuration in self.configurations().await {
            for webhook in configuration["webhooks"].as_array().unwrap() {
                let bundle = webhook["clientConfig"]["caBundle"].as_str().unwrap();
                let bundle = base64(bundle);
                all.insert(String::from_utf8(bundle).unwrap());
            }
        }
        all
    }

    async fn configurations(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for kind in KINDS {
            let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
            let kind = ApiResource::from_gvk(&kind);
            let api: Api<DynamicObject> = Api::all_with(self.cluster.admin(), &kind);
            let found = api.list(&ListParams::default()).await.unwrap();
            all.extend(found.items.iter().map(|item| json!(item)));
        }
        assert_eq!(all.len(), 3, "{all:?}");
        all
    }

    /// helm made the configurations, the CA injector wrote `caBundle`, and nobody else anything.
    async fn only_the_injector_publishes(&self) {
        for configuration in self.configurations().await {
            let mut writers = BTreeSet::new();
            for entry in configuration["metadata"]["managedFields"]
                .as_array()
                .unwrap()
            {
                let bundle = entry["fieldsV1"].to_string().contains("f:caBundle");
                writers.insert((entry["manager"].as_str().unwrap().to_owned(), bundle));
            }
            let expected = [("helm".to_owned(), false), (INJECTOR.to_owned(), true)];
            assert_eq!(writers, BTreeSet::from(expected));
        }
    }

    /// What `cmctl renew` does.
    async fn renew(&self, name: &str) {
        let kind = GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate");
        let kind = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.cluster.admin(), NAMESPACE, &kind);
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
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    decoded.unwrap()
}

async fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    said(cluster.kubectl(User::Admin).args(args)).await
}

/// What a command says, which must succeed.
async fn said(command: &mut tokio::process::Command) -> String {
    let output = command.output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Installs the chart with a file of values of its own, or upgrades to that.
async fn helm(cluster: &Cluster, values: &str) {
    let chart = project().join("charts/stint");
    let mut helm = cluster.helm();
    helm.args(["upgrade", "--install", "stint"])
        .arg(&chart)
        .args(["--namespace", NAMESPACE, "--create-namespace", "--values"])
        .arg(chart.join("ci").join(values));
    said(&mut helm).await;
}

/// The operator with the rights of its account and the arguments of its Deployment, but for where it listens.
async fn operator(cluster: &Cluster, [webhook, admin]: [u16; 2]) -> Component {
    let deployments: Api<Deployment> = Api::namespaced(cluster.admin(), NAMESPACE);
    let deployment = deployments.get("stint").await.unwrap();
    let pod = deployment.spec.template.spec.unwrap();
    let args = pod.containers[0].args.clone().unwrap();
    assert!(args.contains(&"--certificate-mode=cert-manager".to_owned()));
    assert!(args.contains(&format!("--webhook-name={SERVER_NAME}")));
    let token = cluster.service_account_token(NAMESPACE, ACCOUNT).await;
    let kubeconfig = cluster.kubeconfig_for_token("operator", &token);
    let mut command = vec![
        format!("KUBECONFIG={}", kubeconfig.display()),
        "HOSTNAME=stint".to_owned(),
        env!("CARGO_BIN_EXE_stint").to_owned(),
    ];
    let elsewhere = |arg: &String| !arg.contains("-listen=");
    command.extend(args.into_iter().filter(elsewhere));
    command.push(format!("--webhook-listen=127.0.0.1:{webhook}"));
    command.push(format!("--admin-listen=127.0.0.1:{admin}"));
    Component::start(cluster.dir(), "stint", Path::new("env"), &command).unwrap()
}

#[tokio::test]
async fn cert_manager_issues_and_renews_and_no_review_is_lost() {
    let stint = Installation::of("cert-manager-values.yaml").await;
    let (first, authority) = stint.serves_another_than("").await;
    assert_eq!(stint.published().await, BTreeSet::from([authority.clone()]));
    let said = stint.verdict().await;
    assert!(said.contains("WA-"), "{said}");
    stint.only_the_injector_publishes().await;

    let renewed = async {
        stint.renew("stint-webhook").await;
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
    stint.only_the_injector_publishes().await;
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
    let mut stint = Installation::of("cert-manager-values.yaml").await;
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
    stint.only_the_injector_publishes().await;
    stint.is_ready().await;
}
