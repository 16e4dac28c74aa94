//! Who may send reviews. Whoever reaches the port may, unless there is an authority for clients: then only who shows a
//! certificate of it. An API server shows one when its AdmissionConfiguration tells it to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

/// The authorities whose certificates clients may show.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<RootCertStore>);

/// A file that does not say who may send reviews. The operator does not start then.
#[derive(Debug, thiserror::Error)]
pub enum NoAuthority {
    /// It cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// It is not what it must be.
    #[error("{0} must hold certificates of authorities, PEM: {1}")]
    Malformed(PathBuf, String),
}

impl Authorities {
    /// Reads a PEM file. It is read once: who changes it starts the operator anew.
    ///
    /// # Errors
    /// There is no certificate in it, or one that is no authority.
    pub fn read(file: &Path) -> Result<Self, NoAuthority> {
        let text = std::fs::read(file).map_err(|e| NoAuthority::Unreadable(file.to_owned(), e))?;
        let malformed = |why: String| NoAuthority::Malformed(file.to_owned(), why);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|e| malformed(e.to_string()))?;
            roots
                .add(certificate)
                .map_err(|e| malformed(e.to_string()))?;
        }
        match roots.is_empty() {
            true => Err(malformed("there is none in it".to_owned())),
            false => Ok(Self(Arc::new(roots))),
        }
    }

    pub(super) fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.0), provider)
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))
    }
}
