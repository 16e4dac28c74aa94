//! etcd, kube-apiserver and kube-controller-manager: their flags, start and restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use tokio::sync::Mutex;

use super::access::{Access, token_auth};
use super::binaries::Binaries;
use super::credentials::{Credentials, User};
use super::process::{Component, free_ports};
use super::wait::within;

/// Much more than the few seconds a start takes: the machine may be compiling at the same time.
const START_LIMIT: Duration = Duration::from_secs(120);

/// More flags of the API server; the files that they name are in the folder.
pub type MoreFlags = fn(&Path) -> Result<Vec<String>, String>;

/// The running programs. Dropping it ends them.
pub struct ControlPlane {
    // In the order in which they are to end.
    controller_manager: Mutex<Option<Component>>,
    controller_manager_args: Vec<String>,
    api_server: Mutex<Option<Component>>,
    api_server_args: Vec<String>,
    etcd: Component,
}

impl ControlPlane {
    /// Starts all three in `folder` and waits until they work.
    pub async fn start(
        folder: &Path,
        binaries: &Binaries,
        more: MoreFlags,
    ) -> Result<(ControlPlane, Access), String> {
        let credentials = Credentials::create(folder)?;
        let [client_port, peer_port, api_port] = free_ports()?;
        let etcd_url = format!("http://127.0.0.1:{client_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let url = format!("https://127.0.0.1:{api_port}");
        let controller_manager_kubeconfig = folder.join("kubeconfig-controller-manager");

        let controller_manager_args =
            controller_manager_args(&credentials, &controller_manager_kubeconfig);
        let mut etcd = Component::start(
            folder,
            "etcd",
            &binaries.path("etcd"),
            &etcd_args(folder, &etcd_url, &peer_url),
        )?;
        let mut api_server_args = api_server_args(&credentials, &etcd_url, api_port);
        api_server_args.extend(more(folder)?);
        let mut api_server = start_api_server(folder, binaries, &api_server_args)?;

        let access = Access::to_own(url, &credentials).await?;
        access.write_kubeconfig(
            &controller_manager_kubeconfig,
            token_auth(&credentials.controller_manager_token),
        )?;
        let admin = access.client(access.auth(User::Admin));
        wait_for_api_server(&admin, &mut [&mut etcd, &mut api_server]).await?;

        let control_plane = ControlPlane {
            controller_manager: Mutex::new(None),
            controller_manager_args,
            api_server: Mutex::new(Some(api_server)),
            api_server_args,
            etcd,
        };
        control_plane
            .start_controller_manager(folder, binaries)
            .await?;
        control_plane
            .wait_for_controller_manager(&admin, "default")
            .await?;
        Ok((control_plane, access))
    }

    /// Starts the controller-manager unless it runs. Does not wait for it to act.
    pub async fn start_controller_manager(
        &self,
        folder: &Path,
        binaries: &Binaries,
    ) -> Result<(), String> {
        let mut running = self.controller_manager.lock().await;
        if running.is_none() {
            *running = Some(Component::start(
                folder,
                "kube-controller-manager",
                &binaries.path("kube-controller-manager"),
                &self.controller_manager_args,
            )?);
        }
        Ok(())
    }

    /// Kills the controller-manager; it is gone when this returns.
    pub async fn stop_controller_manager(&self) {
        drop(self.controller_manager.lock().await.take());
    }

    /// Kills the API server, starts it again and waits until it is ready, its own bootstrap included.
    pub async fn restart_api_server(
        &self,
        folder: &Path,
        binaries: &Binaries,
        admin: &Client,
    ) -> Result<(), String> {
        let mut running = self.api_server.lock().await;
        drop(running.take());
        let mut api_server = start_api_server(folder, binaries, &self.api_server_args)?;
        let ready = wait_for_api_server(admin, &mut [&mut api_server]).await;
        *running = Some(api_server);
        ready
    }

    /// The process ids of the programs that run.
    pub async fn pids(&self) -> Vec<u32> {
        let controller_manager = self.controller_manager.lock().await;
        let api_server = self.api_server.lock().await;
        [
            Some(&self.etcd),
            api_server.as_ref(),
            controller_manager.as_ref(),
        ]
        .into_iter()
        .flatten()
        .filter_map(Component::pid)
        .collect()
    }

    /// Waits until the controller-manager has given this namespace, which had none, its default ServiceAccount.
    pub async fn wait_for_controller_manager(
        &self,
        admin: &Client,
        namespace: &str,
    ) -> Result<(), String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
        let ready = within(START_LIMIT, async || {
            if let Some(Err(ended)) = self
                .controller_manager
                .lock()
                .await
                .as_mut()
                .map(Component::check)
            {
                return Some(Err(ended));
            }
            let account = accounts.get_opt("default").await.ok()?;
            account.map(|_| Ok(()))
        })
        .await;
        ready.unwrap_or_else(|| Err("kube-controller-manager makes no ServiceAccounts".into()))
    }
}

fn start_api_server(
    folder: &Path,
    binaries: &Binaries,
    args: &[String],
) -> Result<Component, String> {
    let program = binaries.path("kube-apiserver");
    Component::start(folder, "kube-apiserver", &program, args)
}

/// Waits for the last of these, which works only while all of them do.
async fn wait_for_api_server(admin: &Client, running: &mut [&mut Component]) -> Result<(), String> {
    let ready = within(START_LIMIT, async || {
        if let Err(ended) = running.iter_mut().try_for_each(|c| c.check()) {
            return Some(Err(ended));
        }
        let question = Request::get("/readyz").body(Vec::new()).ok()?;
        admin.request_text(question).await.ok().map(|_| Ok(()))
    })
    .await;
    ready.unwrap_or_else(|| {
        Err(format!(
            "kube-apiserver is not ready after {} s; {}",
            START_LIMIT.as_secs(),
            running.last().map(|c| c.log_tail()).unwrap_or_default()
        ))
    })
}

fn etcd_args(folder: &Path, client_url: &str, peer_url: &str) -> Vec<String> {
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        // Nothing here has to survive a power cut.
        "--unsafe-no-fsync".into(),
        format!("--listen-client-urls={client_url}"),
        format!("--advertise-client-urls={client_url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--initial-cluster=default={peer_url}"),
        "--log-level=warn".into(),
    ]
}

fn api_server_args(credentials: &Credentials, etcd_url: &str, port: u16) -> Vec<String> {
    vec![
        format!("--etcd-servers={etcd_url}"),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", credentials.server_cert.display()),
        format!(
            "--tls-private-key-file={}",
            credentials.server_key.display()
        ),
        format!("--token-auth-file={}", credentials.token_file.display()),
        "--authorization-mode=RBAC,Node".into(),
        // Shows a certificate to every webhook; those that do not ask for one never see it.
        format!(
            "--admission-control-config-file={}",
            credentials.admission_configuration.display()
        ),
        "--allow-privileged=true".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        // No node routes to this API server, so it needs no Endpoints of itself.
        "--endpoint-reconciler-type=none".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!(
            "--service-account-key-file={}",
            credentials.service_account_pub.display()
        ),
        format!(
            "--service-account-signing-key-file={}",
            credentials.service_account_key.display()
        ),
    ]
}

/// Who asked for what, of all requests, as docs/right-sizing.md recommends it.
pub fn audit_args(folder: &Path) -> Result<Vec<String>, String> {
    let policy = folder.join("audit-policy.yaml");
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n";
    super::process::write(&policy, text)?;
    Ok(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", folder.join("audit.log").display()),
    ])
}

/// Whatever is in the network of the cluster is reached through a proxy, as where the control plane is outside of it.
pub fn proxy_args(folder: &Path) -> Result<Vec<String>, String> {
    let selection = folder.join("egress.yaml");
    let text = format!(
        "apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\negressSelections:\n\
         - name: cluster\n  connection:\n    proxyProtocol: HTTPConnect\n    transport: {{uds: {{udsName: {}}}}}\n",
        service_socket(folder).display()
    );
    super::process::write(&selection, &text)?;
    Ok(vec![format!(
        "--egress-selector-config-file={}",
        selection.display()
    )])
}

/// Where that proxy listens.
pub fn service_socket(folder: &Path) -> PathBuf {
    folder.join("services.sock")
}

fn controller_manager_args(credentials: &Credentials, kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        // No port at all: one less that could clash.
        "--secure-port=0".into(),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        format!("--root-ca-file={}", credentials.ca.display()),
        format!(
            "--service-account-private-key-file={}",
            credentials.service_account_key.display()
        ),
    ]
}
