//! A certificate that somebody else makes and renews, such as cert-manager: read from a Secret, checked, and served.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls::CertificateError;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;

use super::bundle::{self, CA_CRT, TLS_CRT, TLS_KEY, Unreadable};

/// The end of the year 9999, after which no certificate can end (RFC 5280 §4.1.2.5).
const AFTER_ALL: u64 = 253_402_300_799;

/// Why a given certificate cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The Secret is incomplete or its parts do not belong together.
    #[error(
        "{0}; the Secret needs `tls.crt` with its key in `tls.key`, and in `ca.crt` the authority that signed it"
    )]
    Unreadable(#[from] Unreadable),
    /// Its time is over.
    #[error("`tls.crt` expired at {0}; renew it")]
    Expired(Timestamp),
    /// Its time has not begun.
    #[error("`tls.crt` is not valid yet; check the clock of whoever made it")]
    NotYet,
    /// It is for somebody else.
    #[error("`tls.crt` is not valid for '{0}'; issue it for that DNS name")]
    Name(String),
    /// The API server would not believe it.
    #[error(
        "`tls.crt` does not verify under `ca.crt`: {0}; put the authority that signed it there"
    )]
    Untrusted(String),
}

/// A certificate that can be served now.
#[derive(Debug)]
pub struct Given {
    /// Authorities that vouch for it, PEM.
    pub ca_pem: String,
    /// When it expires; whole seconds.
    pub not_after: Timestamp,
    pub(super) key: CertifiedKey,
}

impl Given {
    /// Reads a Secret of type `kubernetes.io/tls` with `ca.crt`, and checks that the API server would believe what it holds for each
    /// of `names` at `now`.
    pub fn read(
        data: &BTreeMap<String, ByteString>,
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, Unusable> {
        let ca_pem = bundle::text(data, CA_CRT)?;
        let cert_pem = bundle::text(data, TLS_CRT)?;
        let key = bundle::certified_key(&cert_pem, &bundle::text(data, TLS_KEY)?)?;
        let chain = bundle::certificates(TLS_CRT, &cert_pem)?;
        let not_after = not_after(&ca_pem, &chain, names)?;
        if not_after <= now {
            return Err(Unusable::Expired(not_after));
        }
        vouched_for(&ca_pem, &chain, names, bundle::unix_time(now))?;
        Ok(Self {
            ca_pem,
            not_after,
            key,
        })
    }

    /// Whether somebody who trusts `authorities` (PEM) and nothing else believes the certificate now.
    pub fn is_trusted_under(&self, authorities: &str, names: &[String], now: Timestamp) -> bool {
        vouched_for(authorities, &self.key.cert, names, bundle::unix_time(now)).is_ok()
    }
}

/// Verified as if all time had passed, the certificate itself is what has expired, and says when.
fn not_after(
    ca_pem: &str,
    chain: &[CertificateDer<'static>],
    names: &[String],
) -> Result<Timestamp, Unusable> {
    let after_all = UnixTime::since_unix_epoch(std::time::Duration::from_secs(AFTER_ALL));
    match vouched_for(ca_pem, chain, names, after_all) {
        Err(Unusable::Expired(at)) => Ok(at),
        // A certificate that says that it never ends.
        Ok(()) => Ok(Timestamp::MAX),
        Err(error) => Err(error),
    }
}

fn vouched_for(
    ca_pem: &str,
    chain: &[CertificateDer<'static>],
    names: &[String],
    at: UnixTime,
) -> Result<(), Unusable> {
    let verifier = bundle::verifier(ca_pem)?;
    let (leaf, intermediates) = chain.split_first().ok_or(Unreadable::Missing(TLS_CRT))?;
    for name in names {
        let server = bundle::server_name(name).ok_or_else(|| Unusable::Name(name.clone()))?;
        verifier
            .verify_server_cert(leaf, intermediates, &server, &[], at)
            .map_err(|error| refusal(error, name))?;
    }
    Ok(())
}

fn refusal(error: rustls::Error, name: &str) -> Unusable {
    let rustls::Error::InvalidCertificate(why) = &error else {
        return Unusable::Untrusted(error.to_string());
    };
    match why {
        CertificateError::ExpiredContext { not_after, .. } => {
            let seconds = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            Unusable::Expired(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Unusable::NotYet
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Unusable::Name(name.to_owned())
        }
        // The second, when both authorities have the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            Unusable::Untrusted("another authority signed it".to_owned())
        }
        _ => Unusable::Untrusted(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::bundle::Bundle;
    use crate::tls::issue;
    use jiff::SignedDuration;

    fn names() -> Vec<String> {
        vec!["stint-webhook.stint-system.svc".into()]
    }

    fn now() -> Timestamp {
        "2026-12-01T12:00:00Z".parse().unwrap()
    }

    fn made() -> Bundle {
        issue::first(&issue::Profile::of(&names()), now()).unwrap()
    }

    /// What cert-manager leaves in a Secret: no key of the authority.
    fn stored(bundle: &Bundle) -> BTreeMap<String, ByteString> {
        let mut data = bundle.secret_data();
        data.remove("ca.key");
        data
    }

    fn read(data: &BTreeMap<String, ByteString>, now: Timestamp) -> Result<Given, Unusable> {
        Given::read(data, &names(), now)
    }

    #[test]
    fn it_says_when_it_ends_without_being_told() {
        let bundle = made();
        let given = read(&stored(&bundle), now()).unwrap();
        assert_eq!(given.not_after, bundle.leaf_not_after);
        assert_eq!(given.ca_pem, bundle.ca_pem);
    }

    #[test]
    fn each_fault_is_named_with_what_to_do() {
        let (bundle, other) = (made(), made());
        let with = |key: &str, value: &Bundle| {
            let mut data = stored(&bundle);
            data.insert(key.into(), value.secret_data()[key].clone());
            read(&data, now()).unwrap_err().to_string()
        };
        assert!(with("tls.key", &other).contains("do not belong together"));
        assert!(with("ca.crt", &other).contains("another authority signed it"));
        for key in ["tls.crt", "tls.key", "ca.crt"] {
            let mut data = stored(&bundle);
            data.remove(key);
            let text = read(&data, now()).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{key} is missing")), "{text}");
        }
        let late = now() + SignedDuration::from_hours(24 * 30);
        assert_eq!(
            read(&stored(&bundle), late).unwrap_err(),
            Unusable::Expired(bundle.leaf_not_after)
        );
        let early = now() - SignedDuration::from_hours(2);
        assert_eq!(read(&stored(&bundle), early).unwrap_err(), Unusable::NotYet);
        let elsewhere = ["other.svc".to_owned()];
        assert_eq!(
            Given::read(&stored(&bundle), &elsewhere, now()).unwrap_err(),
            Unusable::Name("other.svc".into())
        );
    }

    #[test]
    fn rubbish_is_a_reason_and_not_a_panic() {
        let rubbish: [&[u8]; 4] = [
            b"",
            b"\xff\xfe",
            b"no pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ];
        for key in ["tls.crt", "tls.key", "ca.crt"] {
            for bytes in rubbish {
                let mut data = stored(&made());
                data.insert(key.into(), ByteString(bytes.to_vec()));
                assert!(read(&data, now()).is_err(), "{key}");
            }
        }
    }

    #[test]
    fn two_authorities_in_one_file_both_count() {
        let (bundle, other) = (made(), made());
        let mut data = stored(&bundle);
        let both = format!("{}{}", other.ca_pem, bundle.ca_pem);
        data.insert("ca.crt".into(), ByteString(both.clone().into_bytes()));
        let given = read(&data, now()).unwrap();
        assert!(given.is_trusted_under(&both, &names(), now()));
        assert!(!given.is_trusted_under(&other.ca_pem, &names(), now()));
    }
}
