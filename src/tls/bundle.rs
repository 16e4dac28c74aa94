//! A certificate authority, the server certificate it signed, and their form in a Secret.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use crate::api::names;

pub(super) const CA_CRT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CA_OLD_CRT: &str = "ca-old.crt";
pub(super) const TLS_CRT: &str = "tls.crt";
pub(super) const TLS_KEY: &str = "tls.key";

/// Everything the webhook needs to be believed by the API server.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Certificate of the authority, PEM.
    pub ca_pem: String,
    /// Private key of the authority, PKCS#8 PEM.
    pub ca_key_pem: String,
    /// The authority before this one, while it has not expired.
    pub previous_ca: Option<PreviousCa>,
    /// Certificate of the server, PEM.
    pub cert_pem: String,
    /// Private key of the server, PKCS#8 PEM.
    pub key_pem: String,
    /// When the authority expires; whole seconds.
    pub ca_not_after: Timestamp,
    /// When the server certificate expires; whole seconds.
    pub leaf_not_after: Timestamp,
    /// DNS names and IP addresses that the server certificate is valid for.
    pub names: Vec<String>,
}

/// An authority that still has to be trusted, because a replica may still serve a certificate that it signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousCa {
    /// Certificate, PEM.
    pub pem: String,
    /// When it expires; whole seconds.
    pub not_after: Timestamp,
}

/// Why the content of a Secret is not a usable [`Bundle`]; the caller treats the Secret as empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A key or annotation is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A key or annotation is there and cannot be read.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// The key or annotation.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The parts are readable and do not belong together.
    #[error("the parts do not belong together: {0}")]
    Mismatch(String),
}

impl Bundle {
    /// What goes into `clientConfig.caBundle`: the authority, then the one before it.
    pub fn ca_bundle(&self) -> String {
        match &self.previous_ca {
            Some(previous) => format!("{}{}", self.ca_pem, previous.pem),
            None => self.ca_pem.clone(),
        }
    }

    /// The `data` of the Secret.
    pub fn secret_data(&self) -> BTreeMap<String, ByteString> {
        let mut entries = vec![
            (CA_CRT, &self.ca_pem),
            (CA_KEY, &self.ca_key_pem),
            (TLS_CRT, &self.cert_pem),
            (TLS_KEY, &self.key_pem),
        ];
        if let Some(previous) = &self.previous_ca {
            entries.push((CA_OLD_CRT, &previous.pem));
        }
        entries
            .into_iter()
            .map(|(key, pem)| (key.to_owned(), ByteString(pem.clone().into_bytes())))
            .collect()
    }

    /// The annotations of the Secret: what can be read only from the inside of a certificate.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let mut entries = vec![
            (names::CA_NOT_AFTER, self.ca_not_after.to_string()),
            (names::LEAF_NOT_AFTER, self.leaf_not_after.to_string()),
            (names::LEAF_NAMES, self.names.join(",")),
        ];
        if let Some(previous) = &self.previous_ca {
            entries.push((names::CA_OLD_NOT_AFTER, previous.not_after.to_string()));
        }
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// Reads a bundle back from a Secret and checks that its parts belong together.
    ///
    /// The annotations are not believed blindly: the server certificate must verify under the authority, for each
    /// listed name, at the listed time.
    pub fn from_secret(
        data: &BTreeMap<String, ByteString>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, Unreadable> {
        let bundle = Self {
            ca_pem: text(data, CA_CRT)?,
            ca_key_pem: text(data, CA_KEY)?,
            previous_ca: previous_ca(data, annotations)?,
            cert_pem: text(data, TLS_CRT)?,
            key_pem: text(data, TLS_KEY)?,
            ca_not_after: instant(annotations, names::CA_NOT_AFTER)?,
            leaf_not_after: instant(annotations, names::LEAF_NOT_AFTER)?,
            names: name_list(annotations)?,
        };
        bundle.check_authority_key()?;
        bundle.check_server_certificate()?;
        Ok(bundle)
    }

    /// The server certificate and key in the form that rustls serves.
    pub(super) fn certified_key(&self) -> Result<CertifiedKey, Unreadable> {
        certified_key(&self.cert_pem, &self.key_pem)
    }

    /// A key of another authority would sign certificates that nobody trusts, and only show at the next rotation.
    fn check_authority_key(&self) -> Result<(), Unreadable> {
        let authority = first_certificate(CA_CRT, &self.ca_pem)?;
        let parsed = ParsedCertificate::try_from(&authority).map_err(|e| malformed(CA_CRT, e))?;
        let key = rcgen::KeyPair::from_pem(&self.ca_key_pem).map_err(|e| malformed(CA_KEY, e))?;
        let public = rcgen::PublicKeyData::subject_public_key_info(&key);
        if parsed.subject_public_key_info().as_ref() != public.as_slice() {
            return Err(Unreadable::Mismatch(format!("{CA_CRT} and {CA_KEY}")));
        }
        Ok(())
    }

    fn check_server_certificate(&self) -> Result<(), Unreadable> {
        self.certified_key()?;
        let leaf = first_certificate(TLS_CRT, &self.cert_pem)?;
        let verifier = verifier(&self.ca_pem)?;
        let at = unix_time(self.leaf_not_after);
        for name in &self.names {
            let server = server_name(name)
                .ok_or_else(|| malformed(names::LEAF_NAMES, format!("'{name}' is not a name")))?;
            verifier
                .verify_server_cert(&leaf, &[], &server, &[], at)
                .map_err(|e| Unreadable::Mismatch(format!("{TLS_CRT} for {name}: {e}")))?;
        }
        Ok(())
    }
}

/// Shows names and times; the keys stay out of every log.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("names", &self.names)
            .field("leaf_not_after", &self.leaf_not_after)
            .field("ca_not_after", &self.ca_not_after)
            .field(
                "previous_ca",
                &self.previous_ca.as_ref().map(|p| p.not_after),
            )
            .finish_non_exhaustive()
    }
}

pub(super) fn certified_key(cert_pem: &str, key_pem: &str) -> Result<CertifiedKey, Unreadable> {
    let key =
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| malformed(TLS_KEY, e))?;
    let chain = certificates(TLS_CRT, cert_pem)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|e| Unreadable::Mismatch(format!("{TLS_CRT} and {TLS_KEY}: {e}")))
}

/// The name as TLS understands it; `None` if it is neither a DNS name nor an IP address.
pub(super) fn server_name(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).ok()
}

pub(super) fn verifier(authority_pem: &str) -> Result<Arc<WebPkiServerVerifier>, Unreadable> {
    let roots = Arc::new(trusted(CA_CRT, authority_pem)?);
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|e| malformed(CA_CRT, e))
}

/// A store with these authorities; the API server refuses a `caBundle` that it cannot parse, and so does this.
fn trusted(key: &'static str, pem: &str) -> Result<RootCertStore, Unreadable> {
    let mut roots = RootCertStore::empty();
    let all = certificates(key, pem)?;
    if all.is_empty() {
        return Err(malformed(key, "holds no certificate"));
    }
    for authority in all {
        roots.add(authority).map_err(|e| malformed(key, e))?;
    }
    Ok(roots)
}

fn previous_ca(
    data: &BTreeMap<String, ByteString>,
    annotations: &BTreeMap<String, String>,
) -> Result<Option<PreviousCa>, Unreadable> {
    if !data.contains_key(CA_OLD_CRT) {
        return Ok(None);
    }
    let pem = text(data, CA_OLD_CRT)?;
    trusted(CA_OLD_CRT, &pem)?;
    let not_after = instant(annotations, names::CA_OLD_NOT_AFTER)?;
    Ok(Some(PreviousCa { pem, not_after }))
}

pub(super) fn text(
    data: &BTreeMap<String, ByteString>,
    key: &'static str,
) -> Result<String, Unreadable> {
    let bytes = data.get(key).ok_or(Unreadable::Missing(key))?;
    String::from_utf8(bytes.0.clone()).map_err(|e| malformed(key, e))
}

fn instant(
    annotations: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Timestamp, Unreadable> {
    let value = annotations.get(key).ok_or(Unreadable::Missing(key))?;
    value.parse().map_err(|e| malformed(key, e))
}

fn name_list(annotations: &BTreeMap<String, String>) -> Result<Vec<String>, Unreadable> {
    let value = annotations
        .get(names::LEAF_NAMES)
        .filter(|value| !value.is_empty())
        .ok_or(Unreadable::Missing(names::LEAF_NAMES))?;
    Ok(value.split(',').map(str::to_owned).collect())
}

pub(super) fn certificates(
    key: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, Unreadable> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| malformed(key, e))
}

fn first_certificate(key: &'static str, pem: &str) -> Result<CertificateDer<'static>, Unreadable> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| malformed(key, e))
}

pub(super) fn unix_time(at: Timestamp) -> UnixTime {
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn malformed(what: &'static str, why: impl fmt::Display) -> Unreadable {
    Unreadable::Malformed {
        what,
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::issue;

    fn names() -> Vec<String> {
        vec!["stint.stint-system.svc".into(), "127.0.0.1".into()]
    }

    fn now() -> Timestamp {
        "2026-11-01T12:00:00Z".parse().unwrap()
    }

    fn stored() -> (BTreeMap<String, ByteString>, BTreeMap<String, String>) {
        let bundle = issue::first(&issue::Profile::of(&names()), now()).unwrap();
        (bundle.secret_data(), bundle.annotations())
    }

    fn other() -> Bundle {
        issue::first(&issue::Profile::of(&names()), now()).unwrap()
    }

    #[test]
    fn a_secret_gives_back_the_same_bundle() {
        let mut bundle = issue::first(&issue::Profile::of(&names()), now()).unwrap();
        bundle.previous_ca = Some(PreviousCa {
            pem: other().ca_pem,
            not_after: now(),
        });
        let read = Bundle::from_secret(&bundle.secret_data(), &bundle.annotations()).unwrap();
        assert!(read == bundle);
    }

    #[test]
    fn the_trust_bundle_holds_the_new_and_the_old_authority() {
        let (mut bundle, old) = (other(), other());
        bundle.previous_ca = Some(PreviousCa {
            pem: old.ca_pem.clone(),
            not_after: now(),
        });
        let trusted = certificates(CA_CRT, &bundle.ca_bundle()).unwrap();
        let expected = [&bundle.ca_pem, &old.ca_pem].map(|pem| first_certificate("", pem).unwrap());
        assert_eq!(trusted, expected);
    }

    #[test]
    fn each_missing_part_is_named() {
        for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY] {
            let (mut data, annotations) = stored();
            data.remove(key);
            let why = Bundle::from_secret(&data, &annotations).unwrap_err();
            assert_eq!(why, Unreadable::Missing(key));
        }
        for key in [
            names::CA_NOT_AFTER,
            names::LEAF_NOT_AFTER,
            names::LEAF_NAMES,
        ] {
            let (data, mut annotations) = stored();
            annotations.remove(key);
            let why = Bundle::from_secret(&data, &annotations).unwrap_err();
            assert_eq!(why, Unreadable::Missing(key));
        }
    }

    #[test]
    fn rubbish_in_any_part_is_a_reason_and_not_a_panic() {
        let rubbish: [&[u8]; 4] = [
            b"",
            b"\xff\xfe",
            b"no pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ];
        for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY, CA_OLD_CRT] {
            for bytes in rubbish {
                let (mut data, mut annotations) = stored();
                annotations.insert(names::CA_OLD_NOT_AFTER.into(), now().to_string());
                data.insert(key.into(), ByteString(bytes.to_vec()));
                assert!(Bundle::from_secret(&data, &annotations).is_err(), "{key}");
            }
        }
    }

    #[test]
    fn parts_of_two_authorities_are_not_mixed() {
        for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY] {
            let (mut data, annotations) = stored();
            data.insert(key.into(), other().secret_data()[key].clone());
            let why = Bundle::from_secret(&data, &annotations).unwrap_err();
            assert!(matches!(why, Unreadable::Mismatch(_)), "{key}: {why}");
        }
    }

    #[test]
    fn annotations_cannot_promise_more_than_the_certificate() {
        let later = "2027-01-01T00:00:00Z";
        for (key, value) in [
            (names::LEAF_NOT_AFTER, later),
            (names::LEAF_NAMES, "stint.stint-system.svc,evil.example"),
        ] {
            let (data, mut annotations) = stored();
            annotations.insert(key.into(), value.into());
            let why = Bundle::from_secret(&data, &annotations).unwrap_err();
            assert!(matches!(why, Unreadable::Mismatch(_)), "{key}: {why}");
        }
    }

    #[test]
    fn debug_output_has_no_key() {
        let shown = format!("{:?}", other());
        assert!(!shown.contains("PRIVATE KEY") && shown.contains("stint.stint-system.svc"));
    }
}
