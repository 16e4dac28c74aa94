//! The receipt keys that this replica knows. Another replica may have made new ones a moment ago, after somebody deleted the Secret:
//! what no known key has signed is judged only after a look at the Secret as it is now.

use crate::cluster::{ApiError, call, keys};
use crate::domain::receipt::{Keys, ReceiptError};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use std::sync::{PoisonError, RwLock};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The keys, and where they come from.
pub struct KeyRing {
    secrets: Api<Secret>,
    name: String,
    known: RwLock<Option<Keys>>,
    /// When the last look that succeeded was begun. Who has the lock looks.
    looked: Mutex<Option<Instant>>,
}

/// Why nothing vouches for an object.
#[derive(Debug, thiserror::Error)]
pub enum Unvouched {
    /// There are no keys yet.
    #[error("cannot be checked yet: Stint has no keys")]
    NoKeys,
    /// It does not count.
    #[error("{0}")]
    Receipt(#[from] ReceiptError),
    /// The Secret could not be read, so nobody knows.
    #[error("could not read the receipt keys: {0}")]
    Api(#[source] ApiError),
}

impl KeyRing {
    /// Without keys, until they are [set](Self::set).
    pub fn new(client: &Client, namespace: &str, secret: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            name: secret.to_owned(),
            known: RwLock::default(),
            looked: Mutex::default(),
        }
    }

    /// What counts from now on.
    pub fn set(&self, keys: Option<Keys>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The keys as they are known.
    pub fn known(&self) -> Option<Keys> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What `check` says by the known keys, and where it says that no key of this installation signed, by those in the Secret.
    pub async fn verify<T>(
        &self,
        check: impl Fn(&Keys) -> Result<T, ReceiptError>,
    ) -> Result<T, Unvouched> {
        let keys = self.known().ok_or(Unvouched::NoKeys)?;
        match check(&keys) {
            Err(ReceiptError::Forged) => {
                self.look().await.map_err(Unvouched::Api)?;
                let keys = self.known().ok_or(Unvouched::NoKeys)?;
                Ok(check(&keys)?)
            }
            checked => Ok(checked?),
        }
    }

    /// The known keys, after a look at the Secret if by them something `is_unknown`.
    pub async fn knowing(
        &self,
        is_unknown: impl FnOnce(&Keys) -> bool,
    ) -> Result<Option<Keys>, ApiError> {
        let known = self.known();
        if known.as_ref().is_some_and(is_unknown) {
            self.look().await?;
            return Ok(self.known());
        }
        Ok(known)
    }

    /// Reads the Secret. Those who ask while another look is under way share the next one that succeeds: a look that failed, or that
    /// nobody waited for to its end, has shown nothing. Nothing is made or taken away here: without a usable Secret what is known
    /// counts on.
    async fn look(&self) -> Result<(), ApiError> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|begun| begun > asked) {
            return Ok(());
        }
        let begun = Instant::now();
        let stored = call(self.secrets.get_opt(&self.name)).await?;
        if let Some(keys) = stored.and_then(|secret| keys::read(&secret, &self.name).ok()) {
            self.set(Some(keys));
        }
        *looked = Some(begun);
        Ok(())
    }
}
