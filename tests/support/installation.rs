//! The chart as helm installs it on a cluster with Services, when somebody else makes the webhook's certificate: the API server asks
//! the operator through the chart's Service.

use crate::cluster::process::{Component, free_ports};
use crate::cluster::wait::within;
use crate::cluster::{Cluster, eventually};
use crate::operator::{ACCOUNT, NAMESPACE, plain_get};
use crate::webhook::{client_config, pem_to_der};
use crate::{project, service};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stint::api::WorkloadAccess;
use stint::cluster::webhook_configurations::KINDS;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

/// The name under which the API server knows the webhook.
pub const SERVER_NAME: &str = "stint-webhook.stint-system.svc";
/// Reviews that are asked for when something is done.
const AFTERWARDS: u32 = 20;
const TWO_LOOKS: Duration = Duration::from_secs(120);

/// The pods of the chart's Deployment run on no node; the operator beside the cluster has their arguments.
pub struct Installation {
    // Dropped in this order: nothing is to write into the folder of a cluster that is gone.
    operator: Component,
    others: Vec<Component>,
    ports: [u16; 2],
    connections: Arc<Notify>,
    secret: &'static str,
    /// Where it is installed.
    pub cluster: Cluster,
}

impl Installation {
    /// With the values of this file of the chart's `ci` folder, which name this Secret for the certificate. The operator waits for
    /// it.
    pub async fn of(
        program: &str,
        cluster: Cluster,
        values: &str,
        secret: &'static str,
    ) -> Installation {
        helm(&cluster, values).await;
        let ports = free_ports().unwrap();
        let connections = service::lead(&cluster, NAMESPACE, "stint-webhook", ports[0]).await;
        let operator = operator(program, &cluster, ports).await;
        let mut made = Installation {
            operator,
            others: Vec::new(),
            ports,
            connections,
            secret,
            cluster,
        };
        made.is_not_ready(&format!("Secret '{secret}' does not exist"))
            .await;
        made
    }

    /// Somebody who works beside the operator as long as it is installed.
    pub fn beside(&mut self, other: Component) {
        self.others.push(other);
    }

    /// Waits until the operator is ready, without a warning.
    pub async fn is_ready(&mut self) {
        self.readyz("the operator is ready", |status, said| {
            status == 200 && said == "ok\n"
        })
        .await;
    }

    /// Waits until the operator is not ready and says this.
    pub async fn is_not_ready(&mut self, because: &str) {
        self.readyz(because, |status, said| {
            status == 503 && said.contains(because)
        })
        .await;
    }

    async fn readyz(&mut self, what: &str, answers: impl Fn(u16, &str) -> bool) {
        let answered = within(TWO_LOOKS, async || {
            for component in self.others.iter_mut().chain([&mut self.operator]) {
                component.check().unwrap_or_else(|ended| panic!("{ended}"));
            }
            let (status, said) = plain_get(self.ports[1], "/readyz").await.ok()?;
            answers(status, &said).then_some(())
        });
        assert!(answered.await.is_some(), "not within two looks: {what}");
    }

    /// What the API server says to a request that no policy admits.
    pub async fn verdict(&self) -> String {
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
    pub async fn under_load<T>(&self, work: impl Future<Output = T>) -> T {
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
    pub async fn answers_anew(&self) {
        self.connections.notify_waiters();
        eventually("the API server believes what is served", async || {
            self.verdict().await.contains("WA-").then_some(())
        })
        .await;
    }

    /// Those of its namespace.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.admin(), NAMESPACE)
    }

    /// What the Secret has, and who signed it; PEM.
    pub async fn issued(&self) -> Option<(String, String)> {
        let secret = self.secrets().get_opt(self.secret).await.ok()??;
        let text = |name: &str| String::from_utf8(secret.data.as_ref()?.get(name)?.0.clone()).ok();
        Some((text("tls.crt")?, text("ca.crt")?))
    }

    /// The certificate that somebody meets who trusts only this, PEM.
    pub async fn served(&self, trusted: &str) -> std::io::Result<CertificateDer<'static>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.ports[0])).await?;
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let connector = TlsConnector::from(client_config(trusted));
        let stream = connector.connect(name, tcp).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        Ok(chain[0].clone().into_owned())
    }

    /// Waits until another certificate than this is issued, and served; returns it and who signed it. One of a new authority is
    /// served ten seconds after that is published.
    pub async fn serves_another_than(&self, before: &str) -> (String, String) {
        let another = within(TWO_LOOKS, async || {
            let (certificate, authority) = self.issued().await?;
            let served = self.served(&authority).await.ok()?;
            let another = certificate != before && served == pem_to_der(&certificate);
            another.then_some((certificate, authority))
        });
        another.await.expect("another certificate is served")
    }

    /// Every webhook of the chart with what its configuration says; PEM.
    pub async fn published(&self) -> BTreeSet<String> {
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

    /// The webhook configurations of the chart.
    pub async fn configurations(&self) -> Vec<Value> {
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

    /// Who wrote which part of the configurations: each field manager, and whether it wrote `caBundle`.
    pub async fn writers(&self) -> BTreeSet<(String, bool)> {
        let mut writers = BTreeSet::new();
        for configuration in self.configurations().await {
            let fields = configuration["metadata"]["managedFields"].as_array();
            for entry in fields.unwrap() {
                let bundle = entry["fieldsV1"].to_string().contains("f:caBundle");
                writers.insert((entry["manager"].as_str().unwrap().to_owned(), bundle));
            }
        }
        writers
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    decoded.unwrap()
}

/// What a command says, which must succeed.
pub async fn said(command: &mut tokio::process::Command) -> String {
    let output = command.output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Installs the chart with a file of values of its own, or upgrades to that.
pub async fn helm(cluster: &Cluster, values: &str) {
    let chart = project().join("charts/stint");
    let mut helm = cluster.helm();
    helm.args(["upgrade", "--install", "stint"])
        .arg(&chart)
        .args(["--namespace", NAMESPACE, "--create-namespace", "--values"])
        .arg(chart.join("ci").join(values));
    said(&mut helm).await;
}

/// The operator with the rights of its account and the arguments of its Deployment, but for where it listens.
async fn operator(program: &str, cluster: &Cluster, [webhook, admin]: [u16; 2]) -> Component {
    let deployments: Api<Deployment> = Api::namespaced(cluster.admin(), NAMESPACE);
    let deployment = deployments.get("stint").await.unwrap();
    let pod = deployment.spec.template.spec.unwrap();
    let args = pod.containers[0].args.clone().unwrap();
    assert!(args.contains(&format!("--webhook-name={SERVER_NAME}")));
    let token = cluster.service_account_token(NAMESPACE, ACCOUNT).await;
    let kubeconfig = cluster.kubeconfig_for_token("operator", &token);
    let mut command = vec![
        format!("KUBECONFIG={}", kubeconfig.display()),
        "HOSTNAME=stint".to_owned(),
        program.to_owned(),
    ];
    let elsewhere = |arg: &String| !arg.contains("-listen=");
    command.extend(args.into_iter().filter(elsewhere));
    command.push(format!("--webhook-listen=127.0.0.1:{webhook}"));
    command.push(format!("--admin-listen=127.0.0.1:{admin}"));
    Component::start(cluster.dir(), "stint", Path::new("env"), &command).unwrap()
}
