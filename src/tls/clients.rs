//! Who may send reviews. Whoever reaches the port may, unless there is an authority for clients: then only who shows a
//! certificate of it. An API server shows one when its AdmissionConfiguration tells it to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use tokio::sync::Notify;

/// The authorities whose certificates clients may show, as a file says it. Exchangeable while connections are open.
pub struct Authorities {
    file: PathBuf,
    current: RwLock<Current>,
    renewed: Arc<Notify>,
}

struct Current {
    text: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// A file that does not say who may send reviews. The operator does not start with it.
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
    /// Reads a PEM file.
    ///
    /// # Errors
    /// There is no certificate in it, or one that is no authority.
    pub fn read(file: &Path) -> Result<Self, NoAuthority> {
        let text = text_of(file)?;
        Ok(Self {
            file: file.to_owned(),
            current: RwLock::new(Current {
                verifier: verifier(file, &text)?,
                text,
            }),
            renewed: Arc::default(),
        })
    }

    /// Reads the file again. If it says something else, that counts from the next handshake on, and open connections begin anew.
    /// Returns whether it did.
    ///
    /// # Errors
    /// As of [`read`](Self::read); then what counted goes on to count.
    pub fn reread(&self) -> Result<bool, NoAuthority> {
        let text = text_of(&self.file)?;
        if self.current().text == text {
            return Ok(false);
        }
        let verifier = verifier(&self.file, &text)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { text, verifier };
        self.renewed.notify_waiters();
        Ok(true)
    }

    /// Tells each time when other authorities count.
    pub fn renewed(&self) -> Arc<Notify> {
        Arc::clone(&self.renewed)
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        // A poisoned lock still holds a whole value: the only write is one assignment.
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.current().verifier)
    }
}

fn text_of(file: &Path) -> Result<Vec<u8>, NoAuthority> {
    std::fs::read(file).map_err(|e| NoAuthority::Unreadable(file.to_owned(), e))
}

fn verifier(file: &Path, text: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, NoAuthority> {
    let malformed = |why: String| NoAuthority::Malformed(file.to_owned(), why);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|e| malformed(e.to_string()))?;
        roots
            .add(certificate)
            .map_err(|e| malformed(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(malformed("there is none in it".to_owned()));
    }
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| malformed(e.to_string()))
}

impl ClientCertVerifier for Authorities {
    /// None: the list would have to outlive the authorities. A client that has one certificate shows it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verifier()
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}
