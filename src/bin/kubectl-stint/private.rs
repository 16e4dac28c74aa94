//! A kubeconfig that nobody else can read, and that goes with the value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::Config;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A folder with one file in it.
#[derive(Debug)]
pub struct Private {
    folder: PathBuf,
    file: PathBuf,
}

impl Private {
    /// A kubeconfig for the cluster of `config` with this token. Folder 0700, file 0600, both new.
    pub fn kubeconfig(config: &Config, namespace: &str, token: &str) -> io::Result<Self> {
        let folder = home().join(format!("stint-{}", random()?));
        DirBuilder::new().mode(0o700).create(&folder)?;
        // From here on the folder goes whatever happens.
        let private = Self {
            file: folder.join("kubeconfig"),
            folder,
        };
        let text = text(config, namespace, token);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&private.file)?;
        file.write_all(text.as_bytes())?;
        Ok(private)
    }

    /// The kubeconfig.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("kubectl-stint: {} is left: {error}", self.folder.display());
        }
    }
}

/// In memory where the system has such a place for the user alone.
fn home() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    own.filter(|folder| folder.is_dir())
        .unwrap_or_else(std::env::temp_dir)
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 8];
    let made = SystemRandom::new().fill(&mut bytes);
    made.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// JSON, which is YAML.
fn text(config: &Config, namespace: &str, token: &str) -> String {
    let server = config.cluster_url.to_string();
    let mut cluster = json!({"server": server.trim_end_matches('/')});
    if let Some(authorities) = &config.root_cert {
        let pem: String = authorities.iter().map(|der| pem(der)).collect();
        cluster["certificate-authority-data"] = STANDARD.encode(pem).into();
    }
    if config.accept_invalid_certs {
        cluster["insecure-skip-tls-verify"] = true.into();
    }
    if let Some(name) = &config.tls_server_name {
        cluster["tls-server-name"] = name.as_str().into();
    }
    if let Some(proxy) = &config.proxy_url {
        cluster["proxy-url"] = proxy.to_string().into();
    }
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "stint",
        "clusters": [{"name": "stint", "cluster": cluster}],
        "users": [{"name": "stint", "user": {"token": token}}],
        "contexts": [{"name": "stint", "context": {"cluster": "stint", "user": "stint", "namespace": namespace}}]
    })
    .to_string()
}

fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    // Base64 is ASCII: every cut is between characters.
    for chunk in encoded.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(chunk));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_user_can_read_it_and_it_goes_with_the_value() {
        let mut config = Config::new("https://127.0.0.1:6443".parse().unwrap());
        config.root_cert = Some(vec![vec![7; 100]]);
        config.tls_server_name = Some("kubernetes".into());
        let private = Private::kubeconfig(&config, "payments", "s3cret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(private.file()), mode(&private.folder)),
            (0o600, 0o700)
        );
        let read = kube::config::Kubeconfig::read_from(private.file()).unwrap();
        let cluster = read.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
        assert_eq!(cluster.tls_server_name.as_deref(), Some("kubernetes"));
        let authority = STANDARD
            .decode(cluster.certificate_authority_data.as_ref().unwrap())
            .unwrap();
        assert_eq!(String::from_utf8(authority).unwrap(), pem(&[7; 100]));
        let folder = private.folder.clone();
        drop(private);
        assert!(!folder.exists());
    }
}
