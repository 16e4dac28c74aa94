//! The operator's own webhook configurations as they are read, and the authority that the operator publishes in them.

use crate::api::names::CA_MANAGER;
use crate::cluster::{ApiError, call};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{Patch, PatchParams};
use kube::core::Resource;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// Both kinds.
pub const KINDS: [&str; 2] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// One of them as it was read.
#[derive(Debug)]
pub struct Live {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    object: Option<Value>,
}

/// Reads both.
pub async fn read(client: &Client, name: &str) -> Result<[Live; 2], ApiError> {
    let mutating = get::<MutatingWebhookConfiguration>(client, name).await?;
    let validating = get::<ValidatingWebhookConfiguration>(client, name).await?;
    Ok([
        Live::of(KINDS[0], name, mutating),
        Live::of(KINDS[1], name, validating),
    ])
}

/// Reads another validating one; `None` when there is none.
pub async fn read_validating(client: &Client, name: &str) -> Result<Option<Live>, ApiError> {
    let found = get::<ValidatingWebhookConfiguration>(client, name).await?;
    Ok(found.map(|object| Live::of(KINDS[1], name, Some(object))))
}

async fn get<K>(client: &Client, name: &str) -> Result<Option<Value>, ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let api: Api<K> = Api::all(client.clone());
    let found = call(api.get_opt(name)).await?;
    Ok(found.map(|object| serde_json::to_value(object).unwrap_or(Value::Null)))
}

impl Live {
    /// What was read under this name.
    pub fn of(kind: &'static str, name: &str, object: Option<Value>) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            object,
        }
    }

    /// Whether it exists.
    pub fn is_there(&self) -> bool {
        self.object.is_some()
    }

    /// What its entries trust, PEM; nothing readable is an empty text.
    pub fn bundles(&self) -> Vec<String> {
        let pem = |webhook: &Value| {
            let encoded = webhook["clientConfig"]["caBundle"].as_str()?;
            String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
        };
        self.webhooks()
            .map(|w| pem(w).unwrap_or_default())
            .collect()
    }

    /// Its entries.
    pub fn webhooks(&self) -> impl Iterator<Item = &Value> {
        let list = self.object.as_ref().and_then(|o| o["webhooks"].as_array());
        list.into_iter().flatten()
    }

    /// Makes its entries trust exactly this, unless somebody changed it since it was read: what was read before that may be
    /// old by now.
    pub async fn publish(&self, client: &Client, ca_pem: &str) -> Result<(), ApiError> {
        let Some(object) = &self.object else {
            return Ok(());
        };
        if self.bundles().iter().all(|published| published == ca_pem) {
            return Ok(());
        }
        let wanted = STANDARD.encode(ca_pem);
        // Server-side apply of these two fields alone: everything else stays with who installed it. The required
        // fields of an entry are left out, which the API server allows as long as another manager sets them.
        let ours: Vec<Value> = self
            .webhooks()
            .map(|w| json!({"name": w["name"], "clientConfig": {"caBundle": wanted}}))
            .collect();
        let apply = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": self.kind,
            "metadata": {
                "name": self.name,
                "resourceVersion": object["metadata"]["resourceVersion"],
            },
            "webhooks": ours,
        });
        match self.kind {
            "MutatingWebhookConfiguration" => {
                self.apply::<MutatingWebhookConfiguration>(client, apply)
                    .await
            }
            _ => {
                self.apply::<ValidatingWebhookConfiguration>(client, apply)
                    .await
            }
        }
    }

    async fn apply<K>(&self, client: &Client, apply: Value) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::all(client.clone());
        let params = PatchParams::apply(CA_MANAGER).force();
        call(api.patch(&self.name, &params, &Patch::Apply(apply))).await?;
        Ok(())
    }
}
