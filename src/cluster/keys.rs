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
/// Annotation with the instant at which the current key was made.
pub const CREATED: &str = "stint.dev/key-created";

/// Age at which the signing key is replaced. Longer than the longest grant (720 h), so that the previous key, which is
/// still accepted, covers every live grant.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24 * 90);

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
        let fresh = secret(namespace, name, random_key()?, None, now);
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
    if !old(&secret, now) {
        return Ok(keys);
    }
    let rotated = rotate(&secret, namespace, name, now)?;
    match call(api.replace(name, &PostParams::default(), &rotated)).await {
        Ok(stored) => read(&stored, name),
        Err(error) if error.is_conflict() => Ok(keys),
        Err(error) => Err(failed(error)),
    }
}

fn read(secret: &Secret, name: &str) -> Result<Keys, KeyError> {
    let data = secret.data.as_ref();
    let key = |field| data.and_then(|d| d.get(field)).map(|b| b.0.as_slice());
    key(CURRENT)
        .and_then(|current| Keys::new(current, key(PREVIOUS)))
        .ok_or_else(|| KeyError::Unusable(name.to_owned()))
}

fn old(secret: &Secret, now: Timestamp) -> bool {
    let created = secret
        .annotations()
        .get(CREATED)
        .and_then(|t| t.parse::<Timestamp>().ok());
    created.is_some_and(|created| now.duration_since(created) > MAX_AGE)
}

fn rotate(old: &Secret, namespace: &str, name: &str, now: Timestamp) -> Result<Secret, KeyError> {
    let previous = old
        .data
        .as_ref()
        .and_then(|d| d.get(CURRENT))
        .map(|b| b.0.clone());
    let mut fresh = secret(namespace, name, random_key()?, previous, now);
    // The precondition that keeps two replicas from rotating twice.
    fresh.metadata.resource_version = old.resource_version();
    Ok(fresh)
}

fn random_key() -> Result<Vec<u8>, KeyError> {
    let mut key = vec![0; KEY_LENGTH];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| KeyError::Random)?;
    Ok(key)
}

fn secret(
    namespace: &str,
    name: &str,
    current: Vec<u8>,
    previous: Option<Vec<u8>>,
    now: Timestamp,
) -> Secret {
    let mut data = BTreeMap::from([(CURRENT.to_owned(), ByteString(current))]);
    if let Some(previous) = previous {
        data.insert(PREVIOUS.to_owned(), ByteString(previous));
    }
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
