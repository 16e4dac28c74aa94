//! Seals: proof of who made an AccessApproval. In the form of a receipt and under the same keys, but the MAC covers another
//! text, so that the one never passes for the other.

use crate::api::access_approval::{AccessApproval, AccessApprovalSpec};
use crate::api::names;
use crate::domain::receipt::{Claims, Domain, Keys, ReceiptError, sha256};

/// `.` does not occur in base64url, so no payload of a receipt begins like this.
const SEAL: Domain = Domain {
    version: "a1",
    prefix: "approval.",
};

impl Keys {
    /// Seals claims about an approval with the current key. Their requester is the approver, their hash that of the
    /// approval's own spec.
    pub fn seal(&self, claims: &Claims) -> String {
        self.sign_in(SEAL, claims)
    }

    /// The claims of the seal that `object` carries, if it was made for this very object.
    pub fn verify_seal(&self, object: &AccessApproval) -> Result<Claims, ReceiptError> {
        let meta = &object.metadata;
        let seal = meta
            .annotations
            .as_ref()
            .and_then(|a| a.get(names::RECEIPT));
        let claims = self.verify_in(SEAL, seal.ok_or(ReceiptError::Missing)?)?;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let placed = !namespace.is_empty() && claims.namespace == namespace;
        match placed && claims.are_named(meta) && claims.spec_hash == hash(&object.spec) {
            true => Ok(claims),
            false => Err(ReceiptError::Foreign),
        }
    }
}

/// Hash of the spec of an approval, `sha256:<hex>`.
pub fn hash(spec: &AccessApprovalSpec) -> String {
    // A struct of strings and enums cannot fail to serialise.
    sha256(&serde_json::to_vec(spec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::receipt::{KEY_LENGTH, Requester};
    use serde_json::json;

    fn keys() -> Keys {
        Keys::new(&[1; KEY_LENGTH], None).unwrap()
    }

    fn approval(name: &str, decision: &str) -> AccessApproval {
        serde_json::from_value(json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "AccessApproval",
            "metadata": {"name": name, "namespace": "payments"},
            "spec": {"requestRef": {"name": "migrate-42", "uid": "u-1"}, "decision": decision,
                     "specHash": format!("sha256:{}", "0".repeat(64))}
        }))
        .unwrap()
    }

    fn claims(object: &AccessApproval) -> Claims {
        Claims {
            namespace: "payments".into(),
            name: object.metadata.name.clone(),
            generate_name: None,
            spec_hash: hash(&object.spec),
            requester: Requester {
                username: "bob".into(),
                ..Requester::default()
            },
            at: "2026-12-01T12:00:00Z".parse().unwrap(),
            extended: None,
        }
    }

    fn carrying(mut object: AccessApproval, seal: &str) -> AccessApproval {
        object.metadata.annotations = Some([(names::RECEIPT.to_owned(), seal.to_owned())].into());
        object
    }

    #[test]
    fn counts_for_the_approval_it_was_made_for_and_no_other() {
        let mine = approval("a", "Approve");
        let seal = keys().seal(&claims(&mine));
        let verified = |object| keys().verify_seal(&carrying(object, &seal));
        assert_eq!(verified(mine.clone()).unwrap(), claims(&mine));
        let foreign = Err(ReceiptError::Foreign);
        assert_eq!(verified(approval("b", "Approve")), foreign);
        assert_eq!(verified(approval("a", "Review")), foreign);
        let mut elsewhere = mine.clone();
        elsewhere.metadata.namespace = Some("other".into());
        assert_eq!(verified(elsewhere), foreign);
        assert_eq!(keys().verify_seal(&mine), Err(ReceiptError::Missing));
        let other = Keys::new(&[2; KEY_LENGTH], None).unwrap();
        let forged = other.verify_seal(&carrying(mine, &seal));
        assert_eq!(forged, Err(ReceiptError::Forged));
    }

    #[test]
    fn a_receipt_is_no_seal_and_a_seal_no_receipt() {
        let mine = approval("a", "Approve");
        let (receipt, seal) = (keys().sign(&claims(&mine)), keys().seal(&claims(&mine)));
        let renamed = |text: &str, from: &str, to: &str| text.replacen(from, to, 1);
        for receipt in [receipt.clone(), renamed(&receipt, "v1.", "a1.")] {
            let taken = keys().verify_seal(&carrying(mine.clone(), &receipt));
            assert_eq!(taken, Err(ReceiptError::Forged));
        }
        for seal in [seal.clone(), renamed(&seal, "a1.", "v1.")] {
            assert_eq!(keys().verify(&seal), Err(ReceiptError::Forged));
        }
    }
}
