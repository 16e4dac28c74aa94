//! The Secret with the receipt keys: made once, rotated when old, never replaced silently.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stint::cluster::keys;
use stint::domain::receipt::{Claims, Keys, ReceiptError, Requester};
use support::fake_api::FakeApi;

const NAMESPACE: &str = "stint-system";
const SECRET: &str = "stint-receipt-keys";

fn start() -> Timestamp {
    "2026-12-01T12:00:00Z".parse().unwrap()
}

fn cluster() -> FakeApi {
    let api = FakeApi::new(start());
    api.namespace(NAMESPACE, json!({}));
    api
}

async fn load(api: &FakeApi, days: i64) -> Keys {
    load_at(api, days, 0).await
}

async fn load_at(api: &FakeApi, days: i64, minutes: i64) -> Keys {
    let now = start() + SignedDuration::from_hours(24 * days) + SignedDuration::from_mins(minutes);
    keys::load(&api.client(), NAMESPACE, SECRET, now)
        .await
        .unwrap()
}

fn receipt(keys: &Keys) -> String {
    keys.sign(&Claims {
        namespace: "n".into(),
        name: Some("a".into()),
        generate_name: None,
        spec_hash: "sha256:00".into(),
        requester: Requester::default(),
        at: start(),
        extended: None,
    })
}

#[tokio::test(start_paused = true)]
async fn the_first_start_makes_them_and_the_next_reads_the_same() {
    let api = cluster();
    let first = load(&api, 0).await;
    let writes = api.writes().len();
    let second = load(&api, 89).await;
    assert!(second.verify(&receipt(&first)).is_ok());
    assert_eq!(
        (writes, api.writes().len()),
        (1, 1),
        "nothing is written when nothing changes"
    );
}

#[tokio::test(start_paused = true)]
async fn after_90_days_new_receipts_have_a_new_key_and_old_ones_still_count() {
    let api = cluster();
    let old = receipt(&load(&api, 0).await);
    assert_eq!(receipt(&load(&api, 91).await), old, "only announced");
    let rotated = load_at(&api, 91, 11).await;
    assert_ne!(receipt(&rotated), old);
    assert!(rotated.verify(&old).is_ok());
    load(&api, 183).await;
    let again = load_at(&api, 183, 11).await;
    assert_eq!(again.verify(&old), Err(ReceiptError::Forged));
    assert!(again.verify(&receipt(&rotated)).is_ok());
}

/// Each looks once a minute, at another second; in between the other may sign already.
#[tokio::test(start_paused = true)]
async fn two_replicas_accept_what_the_other_signs_at_any_time_of_a_rotation() {
    let api = cluster();
    let mut replicas = [load(&api, 0).await, load(&api, 0).await];
    let mut signed: Vec<String> = Vec::new();
    for minute in 0..30 {
        for number in [0, 1] {
            replicas[number] = load_at(&api, 91, minute).await;
            let receipts = [receipt(&replicas[0]), receipt(&replicas[1])];
            for receipt in &receipts {
                let accepted = replicas.iter().all(|keys| keys.verify(receipt).is_ok());
                assert!(accepted, "minute {minute}");
            }
            signed.extend(receipts);
        }
    }
    signed.dedup();
    signed.sort_unstable();
    signed.dedup();
    assert_eq!(signed.len(), 2, "rotated once");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_secret_is_said_and_kept() {
    let api = cluster();
    load(&api, 0).await;
    let mut secret = api.get("secrets", NAMESPACE, SECRET).unwrap();
    secret["data"]["current"] = json!("c2hvcnQ=");
    api.seed(secret.clone());
    let now = start();
    let error = keys::load(&api.client(), NAMESPACE, SECRET, now)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no usable receipt key"),
        "{error}"
    );
    assert_eq!(
        api.get("secrets", NAMESPACE, SECRET).unwrap()["data"],
        secret["data"]
    );
}
