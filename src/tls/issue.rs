//! Makes certificate authorities and leaf certificates (ECDSA P-256), and keeps them in the data of a Secret.

use crate::api::names::{CA_NOT_AFTER, LEAF_NAMES, LEAF_NOT_AFTER};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::collections::BTreeMap;

/// Life of a certificate authority.
pub const CA_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Life of a leaf.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Certificates begin this much earlier, for clocks that lag.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CA_OLD: &str = "ca-old.crt";
const LEAF_CERT: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// rcgen refused.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A time is out of range.
    #[error("cannot make a certificate: its end is out of range")]
    Range,
    /// The stored certificate or key cannot be used.
    #[error("cannot use the certificate: {0}")]
    Use(String),
    /// A part of the Secret is missing or no text.
    #[error("the Secret has no usable '{0}'")]
    Field(&'static str),
}

/// A certificate authority, the one before it while it is still valid, and a leaf.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Certificate of the authority, PEM.
    pub ca_pem: String,
    /// Key of the authority, PEM.
    pub ca_key_pem: String,
    /// Certificate of the authority before, PEM.
    pub previous_ca_pem: Option<String>,
    /// Certificate of the webhook, PEM.
    pub cert_pem: String,
    /// Key of the webhook, PEM.
    pub key_pem: String,
    /// End of the authority.
    pub ca_not_after: Timestamp,
    /// End of the leaf.
    pub leaf_not_after: Timestamp,
    /// Names of the leaf.
    pub names: Vec<String>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            names,
            leaf_not_after,
            ..
        } = self;
        write!(f, "Bundle({names:?} until {leaf_not_after})")
    }
}

impl Bundle {
    /// A new authority and a leaf of it. `previous` stays trusted beside the new authority.
    pub fn issue(
        names: &[String],
        previous: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let ca_not_after = now.checked_add(CA_LIFE).map_err(|_| IssueError::Range)?;
        let mut params = authority_params()?;
        validity(&mut params, now, ca_not_after)?;
        let ca_pem = params.self_signed(&key)?.pem();
        let authority = Self {
            ca_pem,
            ca_key_pem: key.serialize_pem(),
            previous_ca_pem: previous.map(str::to_owned),
            cert_pem: String::new(),
            key_pem: String::new(),
            ca_not_after,
            leaf_not_after: now,
            names: Vec::new(),
        };
        authority.with_leaf(names, now)
    }

    /// The same authority with a new leaf.
    pub fn with_leaf(&self, names: &[String], now: Timestamp) -> Result<Self, IssueError> {
        // An issuer is its name, its key and its usages, and all authorities of ours have the same name and usages.
        let issuer = Issuer::new(authority_params()?, KeyPair::from_pem(&self.ca_key_pem)?);
        let key = KeyPair::generate()?;
        let end = now.checked_add(LEAF_LIFE).map_err(|_| IssueError::Range)?;
        let leaf_not_after = end.min(self.ca_not_after);
        let mut params = CertificateParams::new(names.to_vec())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
            .distinguished_name
            .push(DnType::CommonName, "stint-webhook");
        validity(&mut params, now, leaf_not_after)?;
        let cert_pem = params.signed_by(&key, &issuer)?.pem();
        Ok(Self {
            cert_pem,
            key_pem: key.serialize_pem(),
            leaf_not_after,
            names: names.to_vec(),
            ..self.clone()
        })
    }

    /// What clients must trust: the authority, and the one before it.
    pub fn ca_bundle(&self) -> String {
        let previous = self.previous_ca_pem.as_deref().unwrap_or_default();
        format!("{}{previous}", self.ca_pem)
    }

    /// The data of a Secret.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let mut parts = vec![
            (CA_CERT, &self.ca_pem),
            (CA_KEY, &self.ca_key_pem),
            (LEAF_CERT, &self.cert_pem),
            (LEAF_KEY, &self.key_pem),
        ];
        parts.extend(self.previous_ca_pem.as_ref().map(|pem| (CA_OLD, pem)));
        let bytes =
            |(key, text): (&str, &String)| (key.to_owned(), ByteString(text.clone().into_bytes()));
        parts.into_iter().map(bytes).collect()
    }

    /// The annotations of that Secret, so that nobody needs to parse a certificate to learn when it ends.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (CA_NOT_AFTER.to_owned(), self.ca_not_after.to_string()),
            (LEAF_NOT_AFTER.to_owned(), self.leaf_not_after.to_string()),
            (LEAF_NAMES.to_owned(), self.names.join(",")),
        ])
    }

    /// Reads a Secret back.
    pub fn from_secret(
        data: &BTreeMap<String, ByteString>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, IssueError> {
        let pem = |key: &'static str| {
            let bytes = data.get(key).ok_or(IssueError::Field(key))?;
            String::from_utf8(bytes.0.clone()).map_err(|_| IssueError::Field(key))
        };
        let time = |key: &'static str| {
            let text = annotations.get(key).ok_or(IssueError::Field(key))?;
            text.parse::<Timestamp>()
                .map_err(|_| IssueError::Field(key))
        };
        let names = annotations
            .get(LEAF_NAMES)
            .ok_or(IssueError::Field(LEAF_NAMES))?;
        let bundle = Self {
            ca_pem: pem(CA_CERT)?,
            ca_key_pem: pem(CA_KEY)?,
            previous_ca_pem: data.contains_key(CA_OLD).then(|| pem(CA_OLD)).transpose()?,
            cert_pem: pem(LEAF_CERT)?,
            key_pem: pem(LEAF_KEY)?,
            ca_not_after: time(CA_NOT_AFTER)?,
            leaf_not_after: time(LEAF_NOT_AFTER)?,
            names: names.split(',').map(str::to_owned).collect(),
        };
        super::resolver::certified_key(&bundle)?;
        KeyPair::from_pem(&bundle.ca_key_pem).map_err(|_| IssueError::Field(CA_KEY))?;
        Ok(bundle)
    }
}

fn authority_params() -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "stint-webhook-ca");
    Ok(params)
}

fn validity(
    params: &mut CertificateParams,
    from: Timestamp,
    until: Timestamp,
) -> Result<(), IssueError> {
    let from = from.checked_sub(BACKDATE).map_err(|_| IssueError::Range)?;
    let day = |t: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1)
            + std::time::Duration::from_secs(t.as_second().unsigned_abs())
    };
    params.not_before = day(from);
    params.not_after = day(until);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-12-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn survives_the_way_through_a_secret() {
        let names = [
            "stint-webhook.stint-system.svc".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        let bundle = Bundle::issue(&names, None, now()).unwrap();
        let back = Bundle::from_secret(&bundle.data(), &bundle.annotations()).unwrap();
        assert!(back == bundle);
    }

    #[test]
    fn a_damaged_secret_is_an_error_with_the_part_named() {
        let bundle = Bundle::issue(&["a".to_owned()], None, now()).unwrap();
        for part in [CA_CERT, CA_KEY, LEAF_CERT, LEAF_KEY] {
            let mut data = bundle.data();
            data.remove(part);
            assert!(
                Bundle::from_secret(&data, &bundle.annotations()).is_err(),
                "{part}"
            );
            data.insert(part.to_owned(), ByteString(vec![0xff, 0]));
            assert!(
                Bundle::from_secret(&data, &bundle.annotations()).is_err(),
                "{part}"
            );
        }
    }
}
