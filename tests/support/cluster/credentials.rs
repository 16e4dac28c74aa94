//! Who there is, and the secrets of a cluster that lives as long as its test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use ring::rand::{SecureRandom, SystemRandom};

use super::process::write;

/// The people of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// In `system:masters`: RBAC does not apply.
    Admin,
    /// In `payments-devs`.
    Alice,
    /// In `guests`.
    Bob,
    /// In `security-team`.
    Carol,
}

impl User {
    /// All of them.
    pub const ALL: [User; 4] = [User::Admin, User::Alice, User::Bob, User::Carol];

    /// The user name that the API server sees.
    pub fn name(self) -> &'static str {
        match self {
            User::Admin => "admin",
            User::Alice => "alice",
            User::Bob => "bob",
            User::Carol => "carol",
        }
    }

    /// The one group beside `system:authenticated`.
    pub fn group(self) -> &'static str {
        match self {
            User::Admin => "system:masters",
            User::Alice => "payments-devs",
            User::Bob => "guests",
            User::Carol => "security-team",
        }
    }
}

/// The user name that RBAC's bootstrap roles expect of the controller-manager.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// Files for the API server and the controller-manager, with the tokens in them.
pub struct Credentials {
    /// Certificate authority of the API server.
    pub ca: PathBuf,
    /// Serving certificate and key of the API server, for 127.0.0.1 and its in-cluster names.
    pub server_cert: PathBuf,
    pub server_key: PathBuf,
    /// Authority of the certificate that the API server shows to webhooks, and how it is told to.
    pub webhook_client_ca: PathBuf,
    pub admission_configuration: PathBuf,
    /// Keys for ServiceAccount tokens.
    pub service_account_key: PathBuf,
    pub service_account_pub: PathBuf,
    /// Static token file of the API server.
    pub token_file: PathBuf,
    pub controller_manager_token: String,
    tokens: [String; User::ALL.len()],
}

impl Credentials {
    /// Makes everything new, in `<folder>/credentials`.
    pub fn create(folder: &Path) -> Result<Credentials, String> {
        let folder = folder.join("credentials");
        fs::create_dir(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let credentials = Credentials {
            ca: folder.join("ca.crt"),
            server_cert: folder.join("server.crt"),
            server_key: folder.join("server.key"),
            webhook_client_ca: folder.join("webhook-clients.crt"),
            admission_configuration: folder.join("admission.yaml"),
            service_account_key: folder.join("service-account.key"),
            service_account_pub: folder.join("service-account.pub"),
            token_file: folder.join("tokens.csv"),
            controller_manager_token: random_token()?,
            tokens: [
                random_token()?,
                random_token()?,
                random_token()?,
                random_token()?,
            ],
        };
        credentials
            .write_keys()
            .and_then(|()| credentials.write_webhook_client(&folder))
            .map_err(|e| format!("cannot make certificates: {e}"))?;
        write(&credentials.token_file, &credentials.token_lines())?;
        Ok(credentials)
    }

    /// The bearer token of a user.
    pub fn token(&self, user: User) -> &str {
        &self.tokens[user as usize]
    }

    fn write_keys(&self) -> Result<(), Box<dyn std::error::Error>> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        authority
            .distinguished_name
            .push(DnType::CommonName, "test cluster CA");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let names = [
            "127.0.0.1",
            "localhost",
            "kubernetes.default",
            "kubernetes.default.svc",
        ];
        let mut server = CertificateParams::new(names.map(String::from))?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        let server_key = KeyPair::generate()?;

        let service_accounts = KeyPair::generate()?;
        write(&self.ca, &authority.pem())?;
        write(
            &self.server_cert,
            &server.signed_by(&server_key, &authority)?.pem(),
        )?;
        write(&self.server_key, &server_key.serialize_pem())?;
        write(&self.service_account_key, &service_accounts.serialize_pem())?;
        write(
            &self.service_account_pub,
            &service_accounts.public_key_pem(),
        )?;
        Ok(())
    }

    /// What the API server shows to webhooks: a certificate of an authority that is for nothing else.
    fn write_webhook_client(&self, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut client = CertificateParams::default();
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let file = |name: &str| folder.join(name).display().to_string();
        let kubeconfig = serde_json::json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": "*",
            "user": {"client-certificate": file("webhook-client.crt"), "client-key": file("webhook-client.key")}}]});
        let plugin = |name: &str| {
            serde_json::json!({"name": name, "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
                "kubeConfigFile": file("webhook-client.kubeconfig")}})
        };
        let plugins = ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"].map(plugin);
        let configuration = serde_json::json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
            "plugins": plugins});
        write(&self.webhook_client_ca, &authority.pem())?;
        let certificate = client.signed_by(&key, &authority)?.pem();
        write(&folder.join("webhook-client.crt"), &certificate)?;
        write(&folder.join("webhook-client.key"), &key.serialize_pem())?;
        write(
            &folder.join("webhook-client.kubeconfig"),
            &kubeconfig.to_string(),
        )?;
        write(&self.admission_configuration, &configuration.to_string())?;
        Ok(())
    }

    /// `token,user,uid,"group"`, a line each.
    fn token_lines(&self) -> String {
        let users = User::ALL.map(|user| {
            let (token, name, group) = (self.token(user), user.name(), user.group());
            format!("{token},{name},{name}-uid,\"{group}\"\n")
        });
        let controller_manager = format!(
            "{},{CONTROLLER_MANAGER},controller-manager-uid\n",
            self.controller_manager_token
        );
        users.concat() + &controller_manager
    }
}

fn random_token() -> Result<String, String> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
