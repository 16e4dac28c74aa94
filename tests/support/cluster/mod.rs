//! A real Kubernetes control plane for tests: etcd, kube-apiserver and kube-controller-manager, no nodes.
//!
//! Everything listens on 127.0.0.1 and lives in one temporary folder; both vanish with the test process, however it
//! ends. With `STINT_TEST_KUBECONFIG` naming a kubeconfig file, the cluster of its current context is used instead and
//! nothing is started; its user must be allowed to impersonate.

mod access;
mod binaries;
mod control_plane;
mod credentials;
pub mod process;
pub mod wait;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::process::Command;
use tokio::sync::OnceCell;

use access::{Access, token_auth};
use binaries::Binaries;
use control_plane::{ControlPlane, MoreFlags};
use process::Folder;

pub use credentials::User;
pub use wait::eventually;

/// One cluster. Dropping it ends its processes and removes its folder.
///
/// Methods that make a client must be called inside a tokio runtime, and the client must not be used in another one:
/// `#[tokio::test]` has one per test, so ask for a client in each.
pub struct Cluster {
    // Dropped first, so that no program still writes into the folder.
    control_plane: Option<ControlPlane>,
    access: Access,
    binaries: Binaries,
    ca: PathBuf,
    folder: Folder,
}

impl Cluster {
    /// A fresh cluster on free ports, ready for use. Fails with the end of the log of the program that failed.
    pub async fn start() -> Result<Cluster, String> {
        Cluster::begin(|_| Ok(Vec::new())).await
    }

    /// The same with an audit log, `audit.log` in its folder.
    pub async fn audited() -> Result<Cluster, String> {
        match std::env::var_os("STINT_TEST_KUBECONFIG") {
            Some(_) => {
                Err("the audit log of the cluster of STINT_TEST_KUBECONFIG is not ours".into())
            }
            None => Cluster::begin(control_plane::audit_args).await,
        }
    }

    /// The same with an API server that reaches Services through a proxy, which is the test's to run (`support/service.rs`).
    pub async fn with_services() -> Result<Cluster, String> {
        match std::env::var_os("STINT_TEST_KUBECONFIG") {
            Some(_) => Err(
                "the Services of the cluster of STINT_TEST_KUBECONFIG lead elsewhere than here"
                    .into(),
            ),
            None => Cluster::begin(control_plane::proxy_args).await,
        }
    }

    async fn begin(more: MoreFlags) -> Result<Cluster, String> {
        let binaries = Binaries::find_or_build().await?;
        if let Some(kubeconfig) = std::env::var_os("STINT_TEST_KUBECONFIG") {
            let access = Access::to_given(Path::new(&kubeconfig)).await?;
            return Cluster::assemble(None, access, binaries, Folder::create()?);
        }

        let mut folder = Folder::create()?;
        let mut started = ControlPlane::start(folder.path(), &binaries, more).await;
        // Somebody else may have taken a port between our choice and its use.
        if started
            .as_ref()
            .is_err_and(|e| e.contains("address already in use"))
        {
            folder = Folder::create()?;
            started = ControlPlane::start(folder.path(), &binaries, more).await;
        }
        let (control_plane, access) = started?;
        Cluster::assemble(Some(control_plane), access, binaries, folder)
    }

    fn assemble(
        control_plane: Option<ControlPlane>,
        access: Access,
        binaries: Binaries,
        folder: Folder,
    ) -> Result<Cluster, String> {
        let ca = folder.path().join("ca.crt");
        process::write(&ca, &access.ca_pem()?)?;
        let cluster = Cluster {
            control_plane,
            access,
            binaries,
            ca,
            folder,
        };
        for user in User::ALL {
            cluster
                .access
                .write_kubeconfig(&cluster.kubeconfig(user), cluster.access.auth(user))?;
        }
        Ok(cluster)
    }

    /// The one cluster of this test binary, started by whoever asks first. Tests that share it use namespaces of
    /// their own and leave cluster-wide objects of others alone.
    pub async fn shared() -> &'static Cluster {
        static SHARED: OnceCell<Result<Cluster, String>> = OnceCell::const_new();
        match SHARED.get_or_init(Cluster::start).await {
            Ok(cluster) => cluster,
            Err(e) => panic!("no test cluster: {e}"),
        }
    }

    /// A new client of the cluster's administrator (`system:masters`, so no RBAC and no escalation check).
    pub fn admin(&self) -> Client {
        self.user(User::Admin)
    }

    /// A new client of a user.
    pub fn user(&self, user: User) -> Client {
        self.access.client(self.access.auth(user))
    }

    /// A new client of a ServiceAccount, which is made when it is missing.
    pub async fn service_account(&self, ns: &str, name: &str) -> Client {
        self.client_with_token(&self.service_account_token(ns, name).await)
    }

    /// A token of a ServiceAccount, valid for an hour; the account is made when it is missing.
    pub async fn service_account_token(&self, ns: &str, name: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), ns);
        let account = ServiceAccount {
            metadata: named(name),
            ..ServiceAccount::default()
        };
        match accounts.create(&PostParams::default(), &account).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(e) => panic!("cannot make ServiceAccount {ns}/{name}: {e}"),
        }
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .unwrap_or_else(|e| panic!("no token for ServiceAccount {ns}/{name}: {e}"));
        answer
            .status
            .and_then(|status| status.token)
            .unwrap_or_else(|| panic!("no token for ServiceAccount {ns}/{name}"))
    }

    /// A new client that sends this bearer token.
    pub fn client_with_token(&self, token: &str) -> Client {
        self.access.client(token_auth(token))
    }

    /// The API server's address, such as `https://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        self.access.url()
    }

    /// PEM file of the authority that signed the API server's certificate.
    pub fn ca_pem_path(&self) -> &Path {
        &self.ca
    }

    /// PEM file of the authority whose certificate the API server shows to webhooks; for a cluster of its own only.
    pub fn webhook_client_ca(&self) -> PathBuf {
        self.dir().join("credentials/webhook-clients.crt")
    }

    /// Where the API server looks for the proxy of [`Cluster::with_services`].
    pub fn service_socket(&self) -> PathBuf {
        control_plane::service_socket(self.dir())
    }

    /// The temporary folder. Logs are in `<name of the program>.log`.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The process ids of etcd, kube-apiserver and kube-controller-manager, where they run and are ours.
    pub async fn pids(&self) -> Vec<u32> {
        match &self.control_plane {
            Some(control_plane) => control_plane.pids().await,
            None => Vec::new(),
        }
    }

    /// The kubeconfig file of a user.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.dir().join(format!("kubeconfig-{}", user.name()))
    }

    /// A kubeconfig file with this bearer token, such as for an operator that runs as its ServiceAccount.
    pub fn kubeconfig_for_token(&self, name: &str, token: &str) -> PathBuf {
        let path = self.dir().join(format!("kubeconfig-token-{name}"));
        if let Err(e) = self.access.write_kubeconfig(&path, token_auth(token)) {
            panic!("{e}");
        }
        path
    }

    /// `kubectl` as a user.
    pub fn kubectl(&self, user: User) -> Command {
        let mut kubectl = self.tool("kubectl", user);
        kubectl.env("KUBECACHEDIR", self.dir().join("kubectl-cache"));
        kubectl
    }

    /// `helm` as the administrator.
    pub fn helm(&self) -> Command {
        let home = self.dir().join("helm");
        let mut helm = self.tool("helm", User::Admin);
        helm.env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"));
        helm
    }

    /// Makes a namespace `<prefix>-<random>` and waits for its `default` ServiceAccount. Returns its name.
    pub async fn namespace(&self, prefix: &str, labels: &[(&str, &str)]) -> String {
        let name = self.create_namespace(prefix, labels).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), &name);
        eventually(
            "a new namespace has its default ServiceAccount",
            async || accounts.get_opt("default").await.ok().flatten(),
        )
        .await;
        name
    }

    /// Kills the API server and starts it again; it is ready, its own bootstrap included, when this returns.
    pub async fn restart_api_server(&self) -> Result<(), String> {
        let control_plane = self.own_control_plane()?;
        control_plane
            .restart_api_server(self.dir(), &self.binaries, &self.admin())
            .await
    }

    /// Kills kube-controller-manager: no garbage collection, no Job deadlines, no default ServiceAccounts.
    pub async fn stop_controller_manager(&self) -> Result<(), String> {
        self.own_control_plane()?.stop_controller_manager().await;
        Ok(())
    }

    /// Starts kube-controller-manager again and waits until it acts.
    ///
    /// It learns about kinds installed later only every 30 s: a test that wants objects of a new CRD to be garbage
    /// collected promptly stops and starts it after installing the CRD.
    pub async fn start_controller_manager(&self) -> Result<(), String> {
        let control_plane = self.own_control_plane()?;
        control_plane
            .start_controller_manager(self.dir(), &self.binaries)
            .await?;
        let namespace = self.create_namespace("restarted", &[]).await;
        control_plane
            .wait_for_controller_manager(&self.admin(), &namespace)
            .await
    }

    async fn create_namespace(&self, prefix: &str, labels: &[(&str, &str)]) -> String {
        let labels: BTreeMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let wanted = Namespace {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::all(self.admin())
            .create(&PostParams::default(), &wanted)
            .await
            .unwrap_or_else(|e| panic!("cannot make a namespace: {e}"))
            .name_any()
    }

    fn own_control_plane(&self) -> Result<&ControlPlane, String> {
        self.control_plane.as_ref().ok_or_else(|| {
            "the cluster of STINT_TEST_KUBECONFIG is not ours: its components cannot be stopped or started".into()
        })
    }

    fn tool(&self, program: &str, user: User) -> Command {
        let mut command = Command::new(self.binaries.path(program));
        command
            .env("KUBECONFIG", self.kubeconfig(user))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}
