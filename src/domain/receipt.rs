//! Receipts: proof that a request went through admission, who made it, and when.
//!
//! A receipt is `v1.<payload>.<mac>`, both base64url: the claims as JSON, and their HMAC-SHA256 (RFC 2104) under a key
//! that only the operator's namespace holds. It is no secret; it only cannot be made without the key.

use crate::domain::request::{AccessRequest, Place};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

/// Length of a key in bytes.
pub const KEY_LENGTH: usize = 32;
/// Longest receipt that is looked at. Group lists of real tokens stay far below.
const MAX_LENGTH: usize = 64 * 1024;

/// What a receipt vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// Namespace of the request; empty for the whole cluster.
    pub namespace: String,
    /// Name of the request; absent when the API server was to generate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `generateName` of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    /// Hash of the spec (`domain::request::SpecRef::hash`).
    pub spec_hash: String,
    /// The authenticated requester.
    #[serde(flatten)]
    pub requester: Requester,
    /// When the request was admitted.
    pub at: Timestamp,
    /// Who moved the end of the request to later, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended: Option<Extended>,
}

/// An edit that moved the end of a request to later, the last of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extended {
    /// Who made it.
    pub by: Requester,
    /// When.
    pub at: Timestamp,
    /// How many there have been.
    pub count: u32,
}

/// An authenticated user, as the API server presents it to admission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// User name.
    pub username: String,
    /// UID; for a ServiceAccount the UID of the account.
    #[serde(default)]
    pub uid: String,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// The signing key and the one before it.
#[derive(Clone)]
pub struct Keys {
    current: hmac::Key,
    previous: Option<hmac::Key>,
    next: Option<hmac::Key>,
}

/// What a MAC vouches for: a text under one domain never counts under another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Domain {
    /// First part of the signed form.
    pub(super) version: &'static str,
    /// Put before the payload that the MAC covers.
    pub(super) prefix: &'static str,
}

const RECEIPT: Domain = Domain {
    version: "v1",
    prefix: "",
};

impl Domain {
    fn covered(self, payload: &str) -> String {
        format!("{}{payload}", self.prefix)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// Why a receipt does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The object carries none.
    #[error(
        "carries no receipt, so it did not go through Stint's admission webhook; create it again"
    )]
    Missing,
    /// Not signed by a key of this installation.
    #[error("carries a receipt that this installation of Stint did not sign; create it again")]
    Forged,
    /// Signed, but for another object or another spec.
    #[error("carries the receipt of another request; create it again")]
    Foreign,
}

impl Keys {
    /// Keys from raw bytes; each must have [`KEY_LENGTH`] bytes.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Option<Self> {
        let key = |bytes: &[u8]| {
            (bytes.len() == KEY_LENGTH).then(|| hmac::Key::new(hmac::HMAC_SHA256, bytes))
        };
        Some(Self {
            current: key(current)?,
            previous: match previous {
                Some(bytes) => Some(key(bytes)?),
                None => None,
            },
            next: None,
        })
    }

    /// The same and the key that will sign next: another replica may sign with it already.
    pub fn and_next(self, next: &[u8]) -> Option<Self> {
        let next = Self::new(next, None)?.current;
        Some(Self {
            next: Some(next),
            ..self
        })
    }

    /// Signs claims with the current key.
    pub fn sign(&self, claims: &Claims) -> String {
        self.sign_in(RECEIPT, claims)
    }

    pub(super) fn sign_in(&self, domain: Domain, claims: &Claims) -> String {
        // Claims are strings, lists and a timestamp: serialising them cannot fail.
        let json = serde_json::to_vec(claims).unwrap_or_default();
        let payload = URL_SAFE_NO_PAD.encode(json);
        let mac = hmac::sign(&self.current, domain.covered(&payload).as_bytes());
        let mac = URL_SAFE_NO_PAD.encode(mac.as_ref());
        format!("{}.{payload}.{mac}", domain.version)
    }

    /// The claims of a receipt signed by the current key, the one before it, or the one announced.
    pub fn verify(&self, receipt: &str) -> Result<Claims, ReceiptError> {
        self.verify_in(RECEIPT, receipt)
    }

    pub(super) fn verify_in(&self, domain: Domain, receipt: &str) -> Result<Claims, ReceiptError> {
        if receipt.len() > MAX_LENGTH {
            return Err(ReceiptError::Forged);
        }
        let mut parts = receipt.splitn(3, '.');
        let (Some(version), Some(payload), Some(mac)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(ReceiptError::Forged);
        };
        if version != domain.version {
            return Err(ReceiptError::Forged);
        }
        let mac = URL_SAFE_NO_PAD
            .decode(mac)
            .map_err(|_| ReceiptError::Forged)?;
        let covered = domain.covered(payload);
        let signed_by = |key: &hmac::Key| hmac::verify(key, covered.as_bytes(), &mac).is_ok();
        let others = [&self.previous, &self.next];
        if !signed_by(&self.current) && !others.into_iter().flatten().any(signed_by) {
            return Err(ReceiptError::Forged);
        }
        let json = URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| ReceiptError::Forged)?;
        serde_json::from_slice(&json).map_err(|_| ReceiptError::Forged)
    }

    /// The claims of the receipt that `object` carries, if it was signed for this very object and spec.
    pub fn verify_object(&self, object: &impl AccessRequest) -> Result<Claims, ReceiptError> {
        let annotations = object.view().meta.annotations.as_ref();
        let receipt = annotations
            .and_then(|a| a.get(crate::api::names::RECEIPT))
            .ok_or(ReceiptError::Missing)?;
        let claims = self.verify(receipt)?;
        if claims.is_for(object) {
            Ok(claims)
        } else {
            Err(ReceiptError::Foreign)
        }
    }
}

impl Claims {
    /// Whether they are about an object of this name, or of one that the API server generated as was asked.
    pub(super) fn are_named(&self, meta: &ObjectMeta) -> bool {
        match (&self.name, &self.generate_name, &meta.name) {
            (Some(name), _, Some(actual)) => name == actual,
            (None, Some(prefix), Some(actual)) => {
                meta.generate_name.as_ref() == Some(prefix) && actual.starts_with(prefix.as_str())
            }
            // Between the mutating and the validating phase a generated name may not be set yet.
            (None, Some(prefix), None) => meta.generate_name.as_ref() == Some(prefix),
            _ => false,
        }
    }

    fn is_for(&self, object: &impl AccessRequest) -> bool {
        let view = object.view();
        let named = self.are_named(view.meta);
        // No namespace has an empty name, so a receipt for the one kind is never one for the other.
        let placed = match view.place() {
            Place::Namespace(namespace) => !namespace.is_empty() && namespace == self.namespace,
            Place::Cluster => self.namespace.is_empty(),
        };
        named && placed && self.spec_hash == view.spec.hash()
    }
}

/// SHA-256 in the form `sha256:<hex>`.
pub fn sha256(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::workload_access::WorkloadAccess;
    use crate::domain::grant::spec_hash;

    fn keys(current: u8, previous: Option<u8>) -> Keys {
        let previous = previous.map(|b| [b; KEY_LENGTH]);
        Keys::new(
            &[current; KEY_LENGTH],
            previous.as_ref().map(|k| k.as_slice()),
        )
        .unwrap()
    }

    fn claims(object: &WorkloadAccess) -> Claims {
        Claims {
            namespace: "payments".into(),
            name: object.metadata.name.clone(),
            generate_name: object.metadata.generate_name.clone(),
            spec_hash: spec_hash(&object.spec),
            requester: Requester {
                username: "alice".into(),
                uid: String::new(),
                groups: vec!["payments-devs".into()],
            },
            at: "2026-12-01T12:00:00Z".parse().unwrap(),
            extended: None,
        }
    }

    fn object(name: &str, duration: &str) -> WorkloadAccess {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": name, "namespace": "payments"},
            "spec": {"serviceAccountRef": {"name": "migrator"}, "duration": duration, "reason": "r",
                     "roleRef": {"kind": "ClusterRole", "name": "view"}}
        }))
        .unwrap()
    }

    fn carrying(mut object: WorkloadAccess, receipt: String) -> WorkloadAccess {
        object.metadata.annotations =
            Some([(crate::api::names::RECEIPT.to_owned(), receipt)].into());
        object
    }

    #[test]
    fn counts_for_the_object_it_was_signed_for_and_no_other() {
        let keys = keys(1, None);
        let mine = object("a", "30m");
        let receipt = keys.sign(&claims(&mine));
        let verified = keys
            .verify_object(&carrying(mine.clone(), receipt.clone()))
            .unwrap();
        assert_eq!(verified, claims(&mine));
        let foreign = |o| {
            keys.verify_object(&carrying(o, receipt.clone()))
                .unwrap_err()
        };
        assert_eq!(foreign(object("b", "30m")), ReceiptError::Foreign);
        assert_eq!(foreign(object("a", "8h")), ReceiptError::Foreign);
        let mut elsewhere = object("a", "30m");
        elsewhere.metadata.namespace = Some("other".into());
        assert_eq!(foreign(elsewhere), ReceiptError::Foreign);
        assert_eq!(
            keys.verify_object(&mine).unwrap_err(),
            ReceiptError::Missing
        );
    }

    #[test]
    fn revoking_keeps_the_receipt_good() {
        let keys = keys(1, None);
        let mut mine = object("a", "30m");
        let receipt = keys.sign(&claims(&mine));
        mine.spec.revoked = Some(true);
        assert!(keys.verify_object(&carrying(mine, receipt)).is_ok());
    }

    #[test]
    fn a_generated_name_must_start_with_what_was_asked() {
        let keys = keys(1, None);
        let mut asked = object("x", "30m");
        asked.metadata.name = None;
        asked.metadata.generate_name = Some("job-".into());
        let receipt = keys.sign(&claims(&asked));
        let mut made = asked.clone();
        made.metadata.name = Some("job-x7f".into());
        assert!(
            keys.verify_object(&carrying(made.clone(), receipt.clone()))
                .is_ok()
        );
        made.metadata.name = Some("other".into());
        assert!(keys.verify_object(&carrying(made, receipt)).is_err());
    }

    #[test]
    fn the_previous_key_counts_and_the_one_before_does_not() {
        let mine = object("a", "30m");
        let old = keys(1, None).sign(&claims(&mine));
        assert!(keys(2, Some(1)).verify(&old).is_ok());
        assert_eq!(keys(3, Some(2)).verify(&old), Err(ReceiptError::Forged));
    }

    #[test]
    fn damage_of_any_kind_is_forgery() {
        let keys = keys(1, None);
        let good = keys.sign(&claims(&object("a", "30m")));
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            assert_eq!(keys.verify(&bad), Err(ReceiptError::Forged), "byte {at}");
        }
        for bad in ["", "v1", "v1..", "v2.a.b", "v1.a.b.c", &"x".repeat(100_000)] {
            assert_eq!(keys.verify(bad), Err(ReceiptError::Forged));
        }
    }
}
