//! The certificate that is served, exchangeable while connections are open.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::bundle::{Bundle, Unreadable};
use super::clients::Authorities;
use super::given::Given;

/// Holds the certificate for new connections. Empty at first: until [`Resolver::set`], handshakes fail.
#[derive(Default)]
pub struct Resolver {
    current: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Resolver {
    /// Serves this bundle from the next handshake on; open connections keep theirs.
    ///
    /// # Errors
    /// The certificate or key cannot be read, or they do not belong together; then the old one stays.
    pub fn set(&self, bundle: &Bundle) -> Result<(), Unreadable> {
        self.serve(bundle.certified_key()?);
        Ok(())
    }

    /// The same for a certificate that somebody else made.
    pub fn set_given(&self, given: Given) {
        self.serve(given.key);
    }

    fn serve(&self, key: CertifiedKey) {
        // A poisoned lock still holds a whole value: the only write is this one assignment.
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// TLS 1.2 and 1.3, HTTP/1.1 only, which is what the API server speaks to webhooks. With `clients`, whoever shows no certificate of
/// these authorities gets no connection.
///
/// Sessions are not resumed: a resumed session shows no certificate, and would outlive a rotation. The API server keeps
/// its connections open, so a full handshake is rare.
///
/// # Errors
/// The crypto provider offers no suite for these versions.
pub fn server_config(
    resolver: Arc<Resolver>,
    clients: Option<Arc<Authorities>>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match clients {
        Some(clients) => clients,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
