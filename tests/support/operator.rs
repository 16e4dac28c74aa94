//! Stint on a test cluster: the chart's own manifests, and the operator as a process with its own ServiceAccount's
//! rights and nothing more.

use crate::project;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use http::Request;
use kube::Client;
use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell};

use super::cluster::process::{Component, free_ports};
use super::cluster::{Cluster, User, eventually};

/// Namespace of the operator.
pub const NAMESPACE: &str = "stint-system";
/// Name of its ServiceAccount.
pub const ACCOUNT: &str = "stint";

/// An installation of the chart, with the operator beside the cluster.
pub struct Stint {
    cluster: &'static Cluster,
    name: &'static str,
    program: PathBuf,
    kubeconfig: PathBuf,
    webhook: u16,
    admin: u16,
    cluster_grants: AtomicBool,
    guard: Mutex<Vec<(&'static str, &'static str)>>,
    /// More of its environment, as `NAME=value`.
    environment: Mutex<Vec<String>>,
    process: Mutex<Option<Component>>,
}

impl Stint {
    /// Installed and ready, one for all tests of the binary.
    pub async fn shared(program: &'static str) -> &'static Stint {
        static SHARED: OnceCell<Stint> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let stint =
                    Stint::install(Cluster::shared().await, Path::new(program), false).await;
                let stint = stint.unwrap_or_else(|e| panic!("cannot install Stint: {e}"));
                stint.start().await;
                stint
            })
            .await
    }

    /// The same with grants in the whole cluster switched on.
    pub async fn shared_wide(program: &'static str) -> &'static Stint {
        static SHARED: OnceCell<Stint> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let stint = Stint::install(Cluster::shared().await, Path::new(program), true).await;
                let stint = stint.unwrap_or_else(|e| panic!("cannot install Stint: {e}"));
                stint.start().await;
                stint
            })
            .await
    }

    /// Installs the chart without its Deployment. The operator does not run yet.
    pub async fn install(
        cluster: &'static Cluster,
        program: &Path,
        cluster_grants: bool,
    ) -> Result<Stint, String> {
        let [webhook, admin] = free_ports()?;
        Stint::install_behind(cluster, webhook, cluster_grants).await?;
        let name = "stint";
        Ok(Stint::replica(cluster, name, program, cluster_grants, [webhook, admin]).await)
    }

    /// Installs the chart for operators that the API server reaches at this port.
    pub async fn install_behind(
        cluster: &'static Cluster,
        port: u16,
        cluster_grants: bool,
    ) -> Result<(), String> {
        chart(cluster, port, cluster_grants, &[]).await?;
        // kube-controller-manager learns about new kinds every 30 s; the garbage collector must know ours at once.
        cluster.stop_controller_manager().await?;
        cluster.start_controller_manager().await
    }

    /// One replica of what is installed; it does not run yet. Its name is that of its host too.
    pub async fn replica(
        cluster: &'static Cluster,
        name: &'static str,
        program: &Path,
        cluster_grants: bool,
        [webhook, admin]: [u16; 2],
    ) -> Stint {
        let token = cluster.service_account_token(NAMESPACE, ACCOUNT).await;
        Stint {
            cluster,
            name,
            program: program.to_owned(),
            kubeconfig: cluster.kubeconfig_for_token("operator", &token),
            webhook,
            admin,
            cluster_grants: AtomicBool::new(cluster_grants),
            guard: Mutex::default(),
            environment: Mutex::default(),
            process: Mutex::new(None),
        }
    }

    /// Upgrades the installation to one with or without grants in the whole cluster. The operator is started anew, as the
    /// changed Deployment would do it.
    pub async fn switch_cluster_grants(&self, on: bool) {
        self.cluster_grants.store(on, Ordering::SeqCst);
        self.upgrade().await;
    }

    /// Upgrades the installation to one with these values below `guard`, and those of the chart otherwise. The operator is
    /// started anew, as the changed Deployment would do it.
    pub async fn set_guard(&self, values: &[(&'static str, &'static str)]) {
        *self.guard.lock().await = values.to_vec();
        self.upgrade().await;
    }

    /// Starts the operator anew with these variables in its environment, as `NAME=value`.
    pub async fn restart_with(&self, environment: &[String]) {
        *self.environment.lock().await = environment.to_vec();
        self.kill().await;
        self.start().await;
    }

    /// Where the API server reaches the webhook.
    pub fn webhook_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.webhook)
    }

    /// Runs the same upgrade once more as whoever this kubeconfig file is for, with the operator as it is.
    pub async fn helm_upgrade_as(&self, kubeconfig: &Path) -> Result<(), String> {
        let mut helm = self.cluster.helm();
        helm.env("KUBECONFIG", kubeconfig);
        let guard = self.guard.lock().await.clone();
        upgrade(
            helm,
            self.webhook,
            self.cluster_grants.load(Ordering::SeqCst),
            &guard,
        )
        .await
    }

    async fn upgrade(&self) {
        let guard = self.guard.lock().await.clone();
        let cluster_grants = self.cluster_grants.load(Ordering::SeqCst);
        chart(self.cluster, self.webhook, cluster_grants, &guard)
            .await
            .unwrap();
        self.kill().await;
        self.start().await;
    }

    /// The cluster.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// A client with exactly the operator's rights.
    pub async fn as_operator(&self) -> Client {
        self.cluster.service_account(NAMESPACE, ACCOUNT).await
    }

    /// Starts the operator unless it runs, and waits until it calls itself ready and its webhook refuses.
    pub async fn start(&self) {
        let mut process = self.process.lock().await;
        if process.is_none() {
            let guard = self.guard.lock().await;
            *process = Some(self.spawn(&guard, &self.environment.lock().await));
        }
        drop(process);
        eventually("the operator is ready", async || {
            if let Some(Err(ended)) = self.process.lock().await.as_mut().map(Component::check) {
                panic!("{ended}");
            }
            let (status, _) = self.admin_get("/readyz").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
    }

    fn spawn(&self, guard: &[(&str, &str)], environment: &[String]) -> Component {
        let mut flags = vec![
            format!("--namespace={NAMESPACE}"),
            format!("--webhook-listen=127.0.0.1:{}", self.webhook),
            format!("--admin-listen=127.0.0.1:{}", self.admin),
            "--webhook-name=127.0.0.1".to_owned(),
            "--until-kind=batch/v1/Job/jobs,v1/Pod/pods,apps/v1/Deployment/deployments".to_owned(),
            "--log-level=info,stint=debug".to_owned(),
            "--guard-configuration=stint-guard".to_owned(),
            "--guard-exempt-group=system:masters".to_owned(),
            // A replica that is killed gives nothing back, and the next one waits for so long.
            "--leader-elect-lease-duration=3s".to_owned(),
            "--leader-elect-renew-deadline=2s".to_owned(),
            "--leader-elect-retry-period=250ms".to_owned(),
        ];
        for (value, word) in guard {
            flags.extend(match *value {
                "defaultMode" => Some(format!("--guard-default-mode={word}")),
                "cluster" => Some(format!("--guard-cluster-mode={word}")),
                "reports.apiGroup" => Some(format!("--guard-reports={word}")),
                "reports.interval" => Some(format!("--guard-scan-interval={word}")),
                _ => None,
            });
        }
        let mut command = vec![
            format!("KUBECONFIG={}", self.kubeconfig.display()),
            format!("HOSTNAME={}", self.name),
        ];
        command.extend_from_slice(environment);
        command.extend([self.program.display().to_string(), "run".to_owned()]);
        command.extend(flags);
        if self.cluster_grants.load(Ordering::SeqCst) {
            command.push("--cluster-grants".to_owned());
        }
        let folder = self.cluster.dir();
        Component::start(folder, self.name, Path::new("env"), &command)
            .unwrap_or_else(|e| panic!("cannot start the operator: {e}"))
    }

    /// Ends the operator by SIGKILL; it is gone when this returns.
    pub async fn kill(&self) {
        drop(self.process.lock().await.take());
    }

    /// Sends the operator a signal: `STOP`, `CONT` or `TERM`.
    pub async fn signal(&self, signal: &str) {
        let process = self.process.lock().await;
        let pid = process.as_ref().and_then(Component::pid);
        let pid = pid.unwrap_or_else(|| panic!("{} does not run", self.name));
        let sent = tokio::process::Command::new("kill")
            .args([format!("-{signal}"), pid.to_string()])
            .status();
        assert!(sent.await.is_ok_and(|status| status.success()), "{signal}");
    }

    /// Waits until the operator has ended by itself. Returns whether it called that a success.
    pub async fn ended(&self) -> bool {
        let what = format!("{} has ended", self.name);
        let success =
            eventually(&what, async || self.process.lock().await.as_mut()?.exited()).await;
        drop(self.process.lock().await.take());
        success
    }

    /// The end of the operator's log.
    pub async fn log(&self) -> String {
        let process = self.process.lock().await;
        process
            .as_ref()
            .map(Component::log_tail)
            .unwrap_or_default()
    }

    /// GET on the admin endpoint: status and body.
    pub async fn admin_get(&self, path: &str) -> Result<(u16, String), String> {
        plain_get(self.admin, path).await
    }

    /// Where probes and metrics are served, as `host:port`.
    pub fn admin_address(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }

    /// `kubectl` as a user.
    pub async fn kubectl(&self, user: User, args: &[&str]) -> (bool, String) {
        let output = self.cluster.kubectl(user).args(args).output().await;
        let output = output.unwrap_or_else(|e| panic!("cannot run kubectl: {e}"));
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

/// Installs or upgrades the chart without its Deployment.
async fn chart(
    cluster: &Cluster,
    webhook: u16,
    cluster_grants: bool,
    guard: &[(&str, &str)],
) -> Result<(), String> {
    let helm = cluster.helm();
    upgrade(helm, webhook, cluster_grants, guard).await
}

/// The same by a `helm` that runs as somebody else.
async fn upgrade(
    mut helm: Command,
    webhook: u16,
    cluster_grants: bool,
    guard: &[(&str, &str)],
) -> Result<(), String> {
    let chart = project().join("charts/stint");
    let guard = guard
        .iter()
        .flat_map(|(value, word)| ["--set".to_owned(), format!("guard.{value}={word}")]);
    let output = helm
        .args(["upgrade", "--install", "stint"])
        .arg(chart)
        .args(["--namespace", NAMESPACE, "--create-namespace", "--wait"])
        .args(["--set", "deployment.enabled=false"])
        .args(["--set", &format!("clusterGrants.enabled={cluster_grants}")])
        .args(["--set", &format!("webhook.url=https://127.0.0.1:{webhook}")])
        .args(guard)
        .output()
        .await
        .map_err(|e| format!("cannot run helm: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// One HTTP/1.1 GET on loopback, in the clear.
pub async fn plain_get(port: u16, path: &str) -> Result<(u16, String), String> {
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Bytes;
    use hyper_util::rt::TokioIo;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|e| e.to_string())?;
    Ok((
        status,
        String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    ))
}
