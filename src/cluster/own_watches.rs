//! Notices at once when somebody changes the operator's two Secrets or the webhook configurations. Only a hint: they are looked at
//! once a minute anyway.

use crate::config::RunArgs;
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{PartialObjectMeta, Resource};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use std::fmt::Debug;
use tokio::sync::Notify;

/// Tells of each change of these objects, for ever. The content of a Secret is not read.
pub async fn watch(client: &Client, args: &RunArgs, changed: &Notify) {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), &args.namespace);
    let mutating: Api<PartialObjectMeta<MutatingWebhookConfiguration>> = Api::all(client.clone());
    let validating: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> =
        Api::all(client.clone());
    let configuration = &args.webhook_configuration;
    let guard = async {
        if let Some(guard) = &args.guard_configuration {
            follow(validating.clone(), guard, changed).await;
        }
    };
    tokio::join!(
        follow(secrets.clone(), &args.certificate_secret, changed),
        follow(secrets, &args.receipt_secret, changed),
        follow(mutating, configuration, changed),
        follow(validating.clone(), configuration, changed),
        guard,
    );
}

pub(super) async fn follow<K>(api: Api<PartialObjectMeta<K>>, name: &str, changed: &Notify)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher::watcher(api, one).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone) => changed.notify_one(),
            Ok(Event::Init | Event::InitApply(_)) => {}
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), name, %error, "watch failed; trying again")
            }
        }
    }
}
