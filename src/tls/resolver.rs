//! Serves the current certificate; a new one is used from the next handshake on.

use crate::tls::issue::{Bundle, IssueError};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, PoisonError, RwLock};

/// Holds the certificate in use. Without one, every handshake fails.
#[derive(Debug, Default)]
pub struct Resolver {
    current: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Resolver {
    /// Holds none yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves the leaf of `bundle` from now on.
    pub fn set(&self, bundle: &Bundle) -> Result<(), IssueError> {
        let key = Arc::new(certified_key(bundle)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Ok(())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The leaf and its key, checked to belong together.
pub fn certified_key(bundle: &Bundle) -> Result<CertifiedKey, IssueError> {
    let cert = CertificateDer::from_pem_slice(bundle.cert_pem.as_bytes())
        .map_err(|e| IssueError::Use(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(bundle.key_pem.as_bytes())
        .map_err(|e| IssueError::Use(e.to_string()))?;
    CertifiedKey::from_der(vec![cert], key, &ring::default_provider())
        .map_err(|e| IssueError::Use(e.to_string()))
}

/// TLS 1.2 and 1.3 by ring, HTTP/1.1 only: the API server may use HTTP/2 on loopback and never elsewhere
/// (apiserver `pkg/util/webhook/client.go`), and tests must see what production sees.
pub fn server_config(resolver: Arc<Resolver>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
