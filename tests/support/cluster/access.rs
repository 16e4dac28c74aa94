//! Clients and kubeconfig files of one cluster, for any identity.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::Client;
use kube::config::{
    AuthInfo, Cluster as Server, Config, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo,
    NamedCluster, NamedContext,
};

use super::credentials::{Credentials, User};
use super::process::write;

/// How a cluster is reached.
pub struct Access {
    url: String,
    server: Server,
    config: Config,
    /// What makes a request come from each of [`User::ALL`].
    users: [AuthInfo; User::ALL.len()],
}

impl Access {
    /// To an own API server at `url`.
    pub async fn to_own(url: String, credentials: &Credentials) -> Result<Access, String> {
        let server = Server {
            server: Some(url),
            certificate_authority: Some(credentials.ca.display().to_string()),
            ..Server::default()
        };
        let users = User::ALL.map(|user| token_auth(credentials.token(user)));
        Access::new(server, users).await
    }

    /// To the cluster and as the user of the current context of a kubeconfig file.
    pub async fn to_given(kubeconfig: &Path) -> Result<Access, String> {
        let file = Kubeconfig::read_from(kubeconfig)
            .map_err(|e| format!("cannot read {}: {e}", kubeconfig.display()))?;
        let missing = |what: &str| format!("{} has no {what}", kubeconfig.display());
        let current = file
            .current_context
            .ok_or_else(|| missing("current-context"))?;
        let context = file
            .contexts
            .into_iter()
            .find(|context| context.name == current)
            .and_then(|named| named.context)
            .ok_or_else(|| missing("context of that name"))?;
        let server = file
            .clusters
            .into_iter()
            .find(|cluster| cluster.name == context.cluster)
            .and_then(|named| named.cluster)
            .ok_or_else(|| missing("cluster of its current context"))?;
        let admin = file
            .auth_infos
            .into_iter()
            .find(|user| Some(&user.name) == context.user.as_ref())
            .and_then(|named| named.auth_info)
            .ok_or_else(|| missing("user of its current context"))?;
        let users = User::ALL.map(|user| impersonated(&admin, user));
        Access::new(server, users).await
    }

    async fn new(server: Server, users: [AuthInfo; User::ALL.len()]) -> Result<Access, String> {
        let nobody = kubeconfig(&server, AuthInfo::default());
        let mut config = Config::from_custom_kubeconfig(nobody, &KubeConfigOptions::default())
            .await
            .map_err(|e| format!("cannot use the cluster's address: {e}"))?;
        // A test must see a 429 or 503, not wait minutes for kube's own retries to give up.
        config.default_retry = false;
        let url = server
            .server
            .clone()
            .ok_or("the cluster has no server address")?;
        Ok(Access {
            url,
            server,
            config,
            users,
        })
    }

    /// The API server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What authenticates a user.
    pub fn auth(&self, user: User) -> AuthInfo {
        self.users[user as usize].clone()
    }

    /// A new client, bound to the runtime it is made in.
    pub fn client(&self, auth: AuthInfo) -> Client {
        let mut config = self.config.clone();
        config.auth_info = auth;
        Client::try_from(config).unwrap_or_else(|e| panic!("no client for {}: {e}", self.url))
    }

    /// Writes a kubeconfig file for kubectl, helm or the operator.
    pub fn write_kubeconfig(&self, path: &Path, auth: AuthInfo) -> Result<(), String> {
        let text = serde_saphyr::to_string(&kubeconfig(&self.server, auth))
            .map_err(|e| format!("cannot write a kubeconfig as YAML: {e}"))?;
        write(path, &text)
    }

    /// The PEM text of the cluster's certificate authority.
    pub fn ca_pem(&self) -> Result<String, String> {
        let pem = match (
            &self.server.certificate_authority_data,
            &self.server.certificate_authority,
        ) {
            (Some(data), _) => BASE64
                .decode(data)
                .map_err(|e| format!("the certificate-authority-data is not base64: {e}"))?,
            (None, Some(path)) => {
                std::fs::read(path).map_err(|e| format!("cannot read {path}: {e}"))?
            }
            (None, None) => return Err("the kubeconfig names no certificate authority".into()),
        };
        String::from_utf8(pem).map_err(|e| format!("the certificate authority is not PEM: {e}"))
    }
}

/// Authentication by bearer token alone.
pub fn token_auth(token: &str) -> AuthInfo {
    AuthInfo {
        token: Some(token.to_owned().into()),
        ..AuthInfo::default()
    }
}

fn impersonated(admin: &AuthInfo, user: User) -> AuthInfo {
    let mut auth = admin.clone();
    if user != User::Admin {
        auth.impersonate = Some(user.name().into());
        auth.impersonate_groups = Some(vec![user.group().into(), "system:authenticated".into()]);
    }
    auth
}

fn kubeconfig(server: &Server, auth: AuthInfo) -> Kubeconfig {
    let name = "stint-test".to_owned();
    Kubeconfig {
        api_version: Some("v1".into()),
        kind: Some("Config".into()),
        current_context: Some(name.clone()),
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(server.clone()),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(auth),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context {
                cluster: name.clone(),
                user: Some(name),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        ..Kubeconfig::default()
    }
}
