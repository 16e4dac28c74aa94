//! Makes certificates: an authority for one year, a server certificate for thirty days.

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SignatureAlgorithm,
};

use super::bundle::{self, Bundle, PreviousCa};

/// Life of the authority.
pub const CA_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Life of the server certificate.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Certificates are valid from this long before they are made, for API servers whose clock is behind ours.
pub const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A server certificate without a name is valid for nobody.
    #[error("a server certificate needs at least one name")]
    NoNames,
    /// Neither a DNS name nor an IP address.
    #[error("'{0}' is neither a DNS name nor an IP address")]
    Name(String),
    /// The authority's key or the signing failed.
    #[error("cannot make a certificate: {0}")]
    Crypto(#[from] rcgen::Error),
}

/// The algorithm of the private keys that are made. Go's TLS client, and so the API server, verifies all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256 with SHA-256.
    #[default]
    #[value(name = "ECDSA-P256")]
    EcdsaP256,
    /// ECDSA on NIST P-384 with SHA-384.
    #[value(name = "ECDSA-P384")]
    EcdsaP384,
    /// Ed25519 (RFC 8410).
    #[value(name = "Ed25519")]
    Ed25519,
}

impl KeyAlgorithm {
    /// How such a key signs.
    pub(super) fn signature(self) -> &'static SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }

    fn new_key(self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::generate_for(self.signature())
    }
}

/// What certificates are made for, and with which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// DNS names and IP addresses of the server.
    pub names: Vec<String>,
    /// Of keys that are made from now on; a certificate whose key has another one stays until it is due.
    pub key_algorithm: KeyAlgorithm,
}

impl Profile {
    /// These names, with keys of the default algorithm.
    pub fn of(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
            ..Self::default()
        }
    }
}

/// A new authority and a server certificate, valid from `now`.
pub fn first(profile: &Profile, now: Timestamp) -> Result<Bundle, IssueError> {
    let now = whole_second(now);
    let ca_not_after = now + CA_LIFE;
    let ca_key = profile.key_algorithm.new_key()?;
    let ca_pem = authority(now, ca_not_after).self_signed(&ca_key)?.pem();
    let leaf = leaf(profile, now, &ca_key)?;
    Ok(Bundle {
        ca_pem,
        ca_key_pem: ca_key.serialize_pem(),
        previous_ca: None,
        cert_pem: leaf.cert_pem,
        key_pem: leaf.key_pem,
        ca_not_after,
        leaf_not_after: leaf.not_after,
        names: profile.names.clone(),
    })
}

/// The same authority with a new server certificate.
pub fn renew_leaf(
    current: &Bundle,
    profile: &Profile,
    now: Timestamp,
) -> Result<Bundle, IssueError> {
    let ca_key = KeyPair::from_pem(&current.ca_key_pem)?;
    let leaf = leaf(profile, whole_second(now), &ca_key)?;
    Ok(Bundle {
        cert_pem: leaf.cert_pem,
        key_pem: leaf.key_pem,
        leaf_not_after: leaf.not_after,
        names: profile.names.clone(),
        ..current.clone()
    })
}

/// A new authority and server certificate; the old authority stays in the bundle until it expires.
pub fn renew_ca(current: &Bundle, profile: &Profile, now: Timestamp) -> Result<Bundle, IssueError> {
    let previous_ca = (current.ca_not_after > now).then(|| PreviousCa {
        pem: current.ca_pem.clone(),
        not_after: current.ca_not_after,
    });
    Ok(Bundle {
        previous_ca,
        ..first(profile, now)?
    })
}

struct Leaf {
    cert_pem: String,
    key_pem: String,
    not_after: Timestamp,
}

fn leaf(profile: &Profile, now: Timestamp, ca_key: &KeyPair) -> Result<Leaf, IssueError> {
    let names = &profile.names;
    if names.is_empty() {
        return Err(IssueError::NoNames);
    }
    if let Some(bad) = names.iter().find(|n| bundle::server_name(n).is_none()) {
        return Err(IssueError::Name(bad.clone()));
    }
    let not_after = now + LEAF_LIFE;
    let mut params = CertificateParams::new(names.clone())?;
    params.distinguished_name = common_name("stint-webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, not_after);

    // The validity of these parameters is not part of what is signed; subject and key identifier are.
    let issuer_params = authority(now, not_after);
    let issuer = Issuer::from_params(&issuer_params, ca_key);
    let key = profile.key_algorithm.new_key()?;
    Ok(Leaf {
        cert_pem: params.signed_by(&key, &issuer)?.pem(),
        key_pem: key.serialize_pem(),
        not_after,
    })
}

fn authority(now: Timestamp, not_after: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("stint-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    set_validity(&mut params, now, not_after);
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, not_after: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |at: Timestamp| {
        std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default())
    };
    params.not_before = epoch + since_epoch(now - BACKDATE);
    params.not_after = epoch + since_epoch(not_after);
}

/// X.509 and annotations hold whole seconds; rounded down, so that we never believe in a longer life than is signed.
pub(super) fn whole_second(at: Timestamp) -> Timestamp {
    at - SignedDuration::from_nanos(i64::from(at.subsec_nanosecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-01T12:00:00.75Z".parse().unwrap()
    }

    fn names(list: &[&str]) -> Profile {
        let names: Vec<String> = list.iter().map(|n| (*n).to_owned()).collect();
        Profile::of(&names)
    }

    fn reread(bundle: &Bundle) -> Result<Bundle, bundle::Unreadable> {
        Bundle::from_secret(&bundle.secret_data(), &bundle.annotations())
    }

    #[test]
    fn certificates_verify_for_dns_names_and_addresses() {
        let wanted = names(&["stint", "stint.stint-system.svc", "127.0.0.1", "::1"]);
        let bundle = first(&wanted, now()).unwrap();
        assert_eq!(bundle.names, wanted.names);
        assert_eq!(bundle.leaf_not_after.to_string(), "2026-12-01T12:00:00Z");
        assert_eq!(bundle.ca_not_after.to_string(), "2027-11-01T12:00:00Z");
        reread(&bundle).unwrap();
    }

    #[test]
    fn a_renewed_leaf_verifies_under_the_same_authority() {
        let old = first(&names(&["a.svc"]), now()).unwrap();
        let new = renew_leaf(&old, &names(&["b.svc"]), now() + LEAF_LIFE).unwrap();
        assert_eq!(new.ca_pem, old.ca_pem);
        assert_ne!(new.cert_pem, old.cert_pem);
        assert_eq!(new.names, ["b.svc"]);
        reread(&new).unwrap();
    }

    #[test]
    fn a_renewed_authority_keeps_the_old_one_only_while_it_lives() {
        let old = first(&names(&["a.svc"]), now()).unwrap();
        let new = renew_ca(&old, &Profile::of(&old.names), now() + CA_LIFE / 2).unwrap();
        assert_ne!(new.ca_pem, old.ca_pem);
        assert_eq!(new.previous_ca.as_ref().unwrap().pem, old.ca_pem);
        reread(&new).unwrap();
        let late = renew_ca(&old, &Profile::of(&old.names), now() + CA_LIFE).unwrap();
        assert_eq!(late.previous_ca, None);
    }

    #[test]
    fn names_that_tls_cannot_use_are_refused() {
        assert!(matches!(
            first(&Profile::default(), now()),
            Err(IssueError::NoNames)
        ));
        for bad in ["", "a b", "*", "a,b", "münchen.svc", "10.0.0.0/8"] {
            let refused = first(&names(&["ok.svc", bad]), now());
            assert!(
                matches!(refused, Err(IssueError::Name(n)) if n == bad),
                "{bad}"
            );
        }
    }
}
