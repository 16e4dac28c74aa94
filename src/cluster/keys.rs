//! The keys that sign receipts: a Secret in the operator's namespace, made and rotated by the operator.

use crate::api::names::MANAGER;
use crate::cluster::{ApiError, call};
use crate::domain::receipt::{KEY_LENGTH, Keys};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::core::ResourceExt;
use kube::{Api, Client};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;

/// Data key of the signing key.
pub const CURRENT: &str = "current";
/// Data key of the key before it, still accepted.
pub const PREVIOUS: &str = "previous";
/// Data key of the key that will sign next, accepted already.
pub const NEXT: &str = "next";
/// Annotation with the instant at which the current key began to sign.
pub const CREATED: &str = "stint.dev/key-created";
/// Annotation with the instant at which the next key was announced.
pub const ANNOUNCED: &str = "stint.dev/key-announced";

/// Age at which the signing key is replaced. Longer than the longest grant (720 h), so that the previous key, which is
/// still accepted, covers every live grant.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24 * 90);

/// For so long the next key is only announced. Every replica looks at the Secret once a minute and whenever it changes, so each knows the
/// key before the first receipt is signed with it.
const ANNOUNCE: SignedDuration = SignedDuration::from_mins(10);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The API server did not give or take the Secret.
    #[error("Secret '{0}': {1}")]
    Api(String, #[source] ApiError),
    /// The Secret is there and unusable. It is never replaced silently: that would end every live grant.
    #[error(
        "Secret '{0}' holds no usable receipt key (want {KEY_LENGTH} bytes under `current`); restore it, or delete it, which ends every live grant"
    )]
    Unusable(String),
    /// The operating system gave no random bytes.
    #[error("no random bytes for a receipt key")]
    Random,
}

/// Loads the keys; makes them on first start, and rotates them when they are old.
pub async fn load(
    client: &Client,
    namespace: &str,
    name: &str,
    now: Timestamp,
) -> Result<Keys, KeyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let failed = |error| KeyError::Api(name.to_owned(), error);
    let Some(secret) = call(api.get_opt(name)).await.map_err(failed)? else {
        let fresh = secret(namespace, name, random_key()?, now);
        return match call(api.create(&PostParams::default(), &fresh)).await {
            Ok(made) => read(&made, name),
            // Another replica was faster; its keys count.
            Err(error) if error.is_conflict() => {
                read(&call(api.get(name)).await.map_err(failed)?, name)
            }
            Err(error) => Err(failed(error)),
        };
    };
    let keys = read(&secret, name)?;
    if !is_older(&secret, CREATED, MAX_AGE, now) {
        return Ok(keys);
    }
    let rotated = match value(&secret, NEXT) {
        None => announce(&secret, random_key()?, now),
        Some(_) if !is_older(&secret, ANNOUNCED, ANNOUNCE, now) => return Ok(keys),
        Some(next) => rotate(&secret, next, now),
    };
    match call(api.replace(name, &PostParams::default(), &rotated)).await {
        Ok(stored) => read(&stored, name),
        Err(error) if error.is_conflict() => Ok(keys),
        Err(error) => Err(failed(error)),
    }
}

pub(super) fn read(secret: &Secret, name: &str) -> Result<Keys, KeyError> {
    let keys = || {
        let (current, previous) = (value(secret, CURRENT)?, value(secret, PREVIOUS));
        let keys = Keys::new(&current, previous.as_deref())?;
        match value(secret, NEXT) {
            Some(next) => keys.and_next(&next),
            None => Some(keys),
        }
    };
    keys().ok_or_else(|| KeyError::Unusable(name.to_owned()))
}

fn value(secret: &Secret, field: &str) -> Option<Vec<u8>> {
    Some(secret.data.as_ref()?.get(field)?.0.clone())
}

fn is_older(secret: &Secret, annotation: &str, age: SignedDuration, now: Timestamp) -> bool {
    let since = secret.annotations().get(annotation);
    let since = since.and_then(|t| t.parse::<Timestamp>().ok());
    since.is_some_and(|since| now.duration_since(since) > age)
}

/// The Secret with the key that will sign next. The resourceVersion in it keeps two replicas from announcing two.
fn announce(secret: &Secret, next: Vec<u8>, now: Timestamp) -> Secret {
    let mut secret = secret.clone();
    let data = secret.data.get_or_insert_default();
    data.insert(NEXT.to_owned(), ByteString(next));
    let annotations = secret.annotations_mut();
    annotations.insert(ANNOUNCED.to_owned(), now.to_string());
    secret
}

/// The Secret with what was announced as the key that signs.
fn rotate(secret: &Secret, next: Vec<u8>, now: Timestamp) -> Secret {
    let mut secret = secret.clone();
    let data = secret.data.get_or_insert_default();
    data.remove(NEXT);
    if let Some(current) = data.insert(CURRENT.to_owned(), ByteString(next)) {
        data.insert(PREVIOUS.to_owned(), current);
    }
    let annotations = secret.annotations_mut();
    annotations.insert(CREATED.to_owned(), now.to_string());
    annotations.remove(ANNOUNCED);
    secret
}

fn random_key() -> Result<Vec<u8>, KeyError> {
    let mut key = vec![0; KEY_LENGTH];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| KeyError::Random)?;
    Ok(key)
}

fn secret(namespace: &str, name: &str, current: Vec<u8>, now: Timestamp) -> Secret {
    let data = BTreeMap::from([(CURRENT.to_owned(), ByteString(current))]);
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([(
                crate::api::names::MANAGED_BY.to_owned(),
                MANAGER.to_owned(),
            )])),
            annotations: Some(BTreeMap::from([(CREATED.to_owned(), now.to_string())])),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}
