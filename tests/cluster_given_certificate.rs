//! The webhook's certificate in a Secret of the user's own, on a real control plane: what is wrong with it is said, it is served as
//! it is, and another authority loses no review.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use stint::tls::bundle::Bundle;
use stint::tls::issue::{self, Profile};
use support::cluster::Cluster;
use support::installation::{Installation, SERVER_NAME};

/// The one of `given-certificate-values.yaml`.
const SECRET: &str = "my-certificate";

/// A certificate of an authority of its own, as a company's tool makes it.
fn issued(days_ago: i64) -> Bundle {
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days_ago);
    issue::first(&Profile::of(&[SERVER_NAME.to_owned()]), then).unwrap()
}

/// Stores it, as that tool does.
async fn give(stint: &Installation, given: &Bundle) {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = BTreeMap::from([
        ("tls.crt", text(&given.cert_pem)),
        ("tls.key", text(&given.key_pem)),
        ("ca.crt", text(&given.ca_pem)),
    ]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "type": "kubernetes.io/tls", "data": data
    });
    let (secrets, params) = (stint.secrets(), PatchParams::apply("company").force());
    let stored = secrets.patch(SECRET, &params, &Patch::Apply(secret)).await;
    stored.unwrap();
}

async fn writers_of(stint: &Installation) -> Vec<String> {
    let secret: Secret = stint.secrets().get(SECRET).await.unwrap();
    let fields = secret.metadata.managed_fields.unwrap();
    fields.into_iter().filter_map(|f| f.manager).collect()
}

#[tokio::test]
async fn what_is_wrong_is_said_and_an_exchange_of_the_authority_loses_no_review() {
    let cluster = Cluster::with_services().await.unwrap();
    let operator = env!("CARGO_BIN_EXE_stint");
    let values = "given-certificate-values.yaml";
    let mut stint = Installation::of(operator, cluster, values, SECRET).await;

    let (first, second) = (issued(0), issued(0));
    let wrong_key = Bundle {
        key_pem: second.key_pem.clone(),
        ..first.clone()
    };
    for (given, said) in [
        (wrong_key, "do not belong together"),
        (issued(40), "`tls.crt` expired at"),
    ] {
        give(&stint, &given).await;
        stint.is_not_ready(said).await;
    }

    give(&stint, &first).await;
    stint.is_ready().await;
    assert_eq!(
        stint.published().await,
        BTreeSet::from([first.ca_pem.clone()])
    );
    let said = stint.verdict().await;
    assert!(said.contains("WA-"), "{said}");

    let exchanged = async {
        give(&stint, &second).await;
        stint.serves_another_than(&first.cert_pem).await
    };
    let (_, authority) = stint.under_load(exchanged).await;
    assert_eq!(authority, second.ca_pem);
    stint.answers_anew().await;
    for published in stint.published().await {
        for trusted in [&first, &second] {
            assert!(published.contains(trusted.ca_pem.trim()), "{published}");
        }
    }
    assert_eq!(writers_of(&stint).await, ["company"], "it is not Stint's");
    let writers = stint.writers().await;
    let bundles = writers.iter().filter(|(_, bundle)| *bundle);
    let bundles: Vec<&str> = bundles.map(|(writer, _)| writer.as_str()).collect();
    assert_eq!(bundles, ["stint-ca"]);
}
