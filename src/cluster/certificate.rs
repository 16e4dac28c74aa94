//! The webhook's certificate: a Secret made and rotated by the operator, its CA published in the operator's own webhook
//! configurations, and only then the leaf served.

use crate::api::names::{CA_MANAGER, MANAGED_BY, MANAGER};
use crate::cluster::{ApiError, call};
use crate::config::RunArgs;
use crate::ops::metrics::Metrics;
use crate::tls::bundle::{Bundle, Unreadable};
use crate::tls::issue::IssueError;
use crate::tls::resolver::Resolver;
use crate::tls::rotate::{self, Step};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{Resource, ResourceExt};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

const VALIDATING: &str = "ValidatingWebhookConfiguration";

/// Why the certificate is not in place.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The Secret could not be read or written.
    #[error("Secret '{0}': {1}")]
    Secret(String, #[source] ApiError),
    /// A webhook configuration could not be read or written.
    #[error("{0} '{1}': {2}")]
    Publish(&'static str, String, #[source] ApiError),
    /// No certificate could be made.
    #[error("{0}")]
    Issue(#[from] IssueError),
    /// A certificate could not be used.
    #[error("{0}")]
    Use(#[from] Unreadable),
}

/// Keeps the webhook's certificate.
pub struct Certificates {
    client: Client,
    namespace: String,
    secret: String,
    configuration: String,
    guard: Option<String>,
    names: Vec<String>,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
}

impl Certificates {
    /// Certificates for the names and in the objects that the settings give.
    pub fn new(
        client: Client,
        args: &RunArgs,
        resolver: Arc<Resolver>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            namespace: args.namespace.clone(),
            secret: args.certificate_secret.clone(),
            configuration: args.webhook_configuration.clone(),
            guard: args.guard_configuration.clone(),
            names: args.webhook_names.clone(),
            resolver,
            metrics,
        }
    }

    /// One look: make or renew what is due, publish the CA, then serve the leaf. In this order, so that the API server
    /// trusts a certificate before it meets it.
    pub async fn keep(&self, now: Timestamp) -> Result<(), CertificateError> {
        let bundle = self.current(now).await?;
        self.publish(&bundle).await?;
        self.resolver.set(&bundle)?;
        self.metrics
            .set_certificate_not_after(bundle.leaf_not_after);
        Ok(())
    }

    async fn current(&self, now: Timestamp) -> Result<Bundle, CertificateError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let failed = |error| CertificateError::Secret(self.secret.clone(), error);
        let stored = call(api.get_opt(&self.secret)).await.map_err(failed)?;
        let known = stored.as_ref().and_then(|secret| self.read(secret));
        let step = rotate::next(known.as_ref(), &self.names, now)?;
        let fresh = match (step, known) {
            (Step::Keep, Some(bundle)) => return Ok(bundle),
            (Step::Keep, None) => return Err(failed(ApiError::Incomplete("certificate"))),
            (Step::Renew { bundle, reason }, _) => {
                tracing::info!(reason = reason.as_str(), "new webhook certificate");
                *bundle
            }
        };
        let wanted = self.secret_of(&fresh, stored.as_ref());
        let params = PostParams::default();
        let written = match &stored {
            Some(_) => call(api.replace(&self.secret, &params, &wanted)).await,
            None => call(api.create(&params, &wanted)).await,
        };
        match written {
            Ok(_) => Ok(fresh),
            // Another replica was faster: its certificate counts.
            Err(error) if error.is_conflict() => {
                let stored = call(api.get(&self.secret)).await.map_err(failed)?;
                self.read(&stored)
                    .ok_or_else(|| failed(ApiError::Incomplete("usable certificate")))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn read(&self, secret: &Secret) -> Option<Bundle> {
        let data = secret.data.clone().unwrap_or_default();
        match Bundle::from_secret(&data, secret.annotations()) {
            Ok(bundle) => Some(bundle),
            Err(error) => {
                tracing::warn!(secret = self.secret, %error, "unreadable certificate is replaced");
                None
            }
        }
    }

    fn secret_of(&self, bundle: &Bundle, stored: Option<&Secret>) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([(
                    MANAGED_BY.to_owned(),
                    MANAGER.to_owned(),
                )])),
                annotations: Some(bundle.annotations()),
                // The precondition that keeps two replicas from rotating twice.
                resource_version: stored.and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            data: Some(bundle.secret_data()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        }
    }

    /// Writes the CA into the webhook configurations, where it is not there yet.
    async fn publish(&self, bundle: &Bundle) -> Result<(), CertificateError> {
        let wanted = STANDARD.encode(bundle.ca_bundle());
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let own = &self.configuration;
        self.publish_in(&mutating, "MutatingWebhookConfiguration", own, &wanted)
            .await?;
        self.publish_in(&validating, VALIDATING, own, &wanted)
            .await?;
        let Some(guard) = &self.guard else {
            return Ok(());
        };
        match self
            .publish_in(&validating, VALIDATING, guard, &wanted)
            .await
        {
            // Taking it away is the way out when the guard stands in the way; Stint does everything else without it.
            Err(CertificateError::Publish(_, _, error)) if error.is_not_found() => {
                tracing::warn!(configuration = guard, "the guard is not registered");
                Ok(())
            }
            result => result,
        }
    }

    async fn publish_in<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        name: &str,
        wanted: &str,
    ) -> Result<(), CertificateError>
    where
        K: Resource + Clone + Debug + DeserializeOwned + serde::Serialize,
    {
        let failed = |error| CertificateError::Publish(kind, name.to_owned(), error);
        let live = call(api.get(name)).await.map_err(failed)?;
        let live = serde_json::to_value(&live).unwrap_or(Value::Null);
        let webhooks = live["webhooks"].as_array().cloned().unwrap_or_default();
        let published = |w: &Value| w["clientConfig"]["caBundle"].as_str() == Some(wanted);
        if webhooks.iter().all(published) {
            return Ok(());
        }
        // Server-side apply of these two fields alone: everything else stays with who installed it. The required
        // fields of an entry are left out, which the API server allows as long as another manager sets them.
        let ours: Vec<Value> = webhooks
            .iter()
            .map(|w| json!({"name": w["name"], "clientConfig": {"caBundle": wanted}}))
            .collect();
        let apply = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": ours,
        });
        let params = PatchParams::apply(CA_MANAGER).force();
        call(api.patch(name, &params, &Patch::Apply(apply)))
            .await
            .map_err(failed)?;
        Ok(())
    }
}
