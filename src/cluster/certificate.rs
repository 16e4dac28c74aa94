//! The webhook's certificate: in a Secret, made and rotated by the operator or given by somebody else. Its authority is
//! published in the operator's own webhook configurations, and only then the certificate is served.

use crate::api::names::{MANAGED_BY, MANAGER};
use crate::cluster::registered::{Damage, Expected};
use crate::cluster::webhook_configurations::{self as configurations, Live};
use crate::cluster::{ApiError, call};
use crate::config::{CertificateMode, RunArgs};
use crate::ops::metrics::Metrics;
use crate::tls::bundle::{Bundle, Unreadable};
use crate::tls::given::{Given, Unusable};
use crate::tls::issue::{IssueError, Profile};
use crate::tls::resolver::Resolver;
use crate::tls::rotate::{self, Step};
use crate::tls::trust::{self, Trust};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::core::ResourceExt;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For so long an authority that was exchanged is trusted beside the new one. Every replica looks at least once a minute.
const SETTLE: SignedDuration = SignedDuration::from_mins(5);
/// For so long a new authority is published before a certificate of it is served: API servers learn of it by a watch.
const SPREAD: SignedDuration = SignedDuration::from_secs(10);
/// Looks in a row while others change what was just read.
const ATTEMPTS: usize = 5;

/// Why the certificate is not in place.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The Secret could not be read or written.
    #[error("Secret '{0}': {1}")]
    Secret(String, #[source] ApiError),
    /// A webhook configuration could not be read or written.
    #[error("webhook configurations '{0}': {1}")]
    Configurations(String, #[source] ApiError),
    /// No certificate could be made.
    #[error("{0}")]
    Issue(#[from] IssueError),
    /// A certificate that the operator made could not be used.
    #[error("{0}")]
    Use(#[from] Unreadable),
    /// There is no Secret, and it is for others to make it.
    #[error(
        "Secret '{0}' does not exist; make it, with `tls.crt`, `tls.key` and `ca.crt`, or see why cert-manager does not"
    )]
    Absent(String),
    /// What others put into the Secret cannot be used.
    #[error("Secret '{0}': {1}")]
    Given(String, #[source] Unusable),
    /// The API server would not believe the certificate yet.
    #[error(
        "{0} '{1}' does not trust the certificate in Secret '{2}' yet; see why cert-manager's CA injector does not write its `caBundle`"
    )]
    NotInjected(&'static str, String, String),
}

impl CertificateError {
    fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Secret(_, error) | Self::Configurations(_, error) => Some(error),
            _ => None,
        }
    }

    fn is_conflict(&self) -> bool {
        self.api().is_some_and(ApiError::is_conflict)
    }
}

/// Something that people must know or mend.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// What it is about.
    pub about: ObjectReference,
    /// Reason of its Event; none where the API server just did not answer.
    pub reason: Option<&'static str>,
    /// Whether a replica that starts waits until it is mended.
    pub stops: bool,
    /// What is wrong and what to do.
    pub text: String,
}

/// Keeps the webhook's certificate.
pub struct Certificates {
    client: Client,
    mode: CertificateMode,
    namespace: String,
    secret: String,
    configuration: String,
    guard: Option<String>,
    expected: Expected,
    profile: Profile,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// When the certificate that is served expires.
    served_until: Option<Timestamp>,
    /// The authority that vouches for it, PEM.
    served_authority: String,
    /// The authority that is to vouch for the next, and since when it is published.
    published: Option<(String, Timestamp)>,
    /// Since when more is trusted than what is given.
    more_since: Option<Timestamp>,
    /// What the operator made or read last.
    made: Option<Bundle>,
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
            mode: args.certificate_mode,
            namespace: args.namespace.clone(),
            secret: args.certificate_secret.clone(),
            configuration: args.webhook_configuration.clone(),
            guard: args.guard_configuration.clone(),
            expected: Expected::of(args),
            profile: Profile {
                names: args.webhook_names.clone(),
                key_algorithm: args.certificate_key_algorithm,
            },
            resolver,
            metrics,
            seen: Mutex::default(),
        }
    }

    /// Whether a certificate is served that has not expired.
    pub fn is_serving(&self, now: Timestamp) -> bool {
        self.seen().served_until.is_some_and(|until| until > now)
    }

    /// How long a certificate still has to wait whose authority was published lately.
    pub fn waits(&self, now: Timestamp) -> Option<Duration> {
        let seen = self.seen();
        let (authority, since) = seen.published.as_ref()?;
        let rest = SPREAD - now.duration_since(*since);
        // When it is over and nothing is served yet, something is wrong that this look did not mend.
        let waits = *authority != seen.served_authority && rest.is_positive();
        rest.try_into().ok().filter(|_| waits)
    }

    /// One look: make or renew what is due, or read what others made; publish the authority, then serve the certificate. In this
    /// order, so that the API server trusts a certificate before it meets it. What is served stays so when something is wrong.
    pub async fn keep(&self, now: Timestamp) -> Vec<Fault> {
        let mut looked = self.look(now).await;
        for _ in 1..ATTEMPTS {
            if !looked.as_ref().is_err_and(CertificateError::is_conflict) {
                break;
            }
            looked = self.look(now).await;
        }
        let faults = looked.unwrap_or_else(|error| vec![self.fault(&error)]);
        for kind in ["Secret"].into_iter().chain(configurations::KINDS) {
            let about = |f: &&Fault| f.about.kind.as_deref() == Some(kind);
            let count = faults.iter().filter(about).count();
            self.metrics.set_webhook_faults(kind, count);
        }
        faults
    }

    async fn look(&self, now: Timestamp) -> Result<Vec<Fault>, CertificateError> {
        // Read before the Secret: who publishes what the Secret said after somebody else published something newer is refused.
        let live = configurations::read(&self.client, &self.configuration).await;
        let live = live.map_err(|error| self.unpublished(error))?;
        let guard = self.guard().await?;
        let all: Vec<&Live> = live.iter().chain(&guard).collect();
        let mut faults = Vec::new();
        match self.mode {
            CertificateMode::Operator => {
                let bundle = self.made(now).await?;
                self.seen().made = Some(bundle.clone());
                self.publish(&all, |_| bundle.ca_bundle()).await?;
                if self.may_serve(&bundle.ca_pem, &bundle.ca_bundle(), now) {
                    self.resolver.set(&bundle)?;
                    self.serves(&bundle.ca_pem, bundle.leaf_not_after);
                }
            }
            CertificateMode::Secret => {
                let given = self.given(now).await?;
                self.publish_given(&all, &given, now).await?;
                self.serve_given(given, &live, now);
            }
            CertificateMode::CertManager => {
                let given = self.given(now).await?;
                self.check_injected(&live, &given, now)?;
                // Stint does everything else without the guard.
                if let Err(error) = self.check_injected(&guard, &given, now) {
                    faults.push(Fault {
                        stops: false,
                        ..self.fault(&error)
                    });
                }
                self.serve_given(given, &live, now);
            }
        }
        faults.extend(self.damages(&live, &guard));
        Ok(faults)
    }

    fn damages(&self, live: &[Live], guard: &[Live]) -> Vec<Fault> {
        let damaged = |kind, name: &str, damage: Damage| Fault {
            about: about_configuration(kind, name),
            reason: Some(damage.reason),
            stops: damage.stops,
            text: damage.text,
        };
        let own = live.iter().filter_map(|live| {
            let damage = self.expected.damage(live)?;
            Some(damaged(live.kind, &live.name, damage))
        });
        let of_guard = self.guard.iter().filter_map(|name| {
            let damage = self.expected.damage_of_guard(name, guard.first())?;
            Some(damaged(configurations::KINDS[1], name, damage))
        });
        own.chain(of_guard).collect()
    }

    /// The configuration of the guard, if it is there. Taking it away is the way out when the guard stands in the way; Stint does
    /// everything else without it.
    async fn guard(&self) -> Result<Vec<Live>, CertificateError> {
        let Some(name) = &self.guard else {
            return Ok(Vec::new());
        };
        let found = configurations::read_validating(&self.client, name).await;
        let found = found.map_err(|error| self.unpublished(error))?;
        Ok(found.into_iter().collect())
    }

    async fn publish(
        &self,
        live: &[&Live],
        wanted: impl Fn(&Live) -> String,
    ) -> Result<(), CertificateError> {
        for live in live {
            let published = live.publish(&self.client, &wanted(live)).await;
            published.map_err(|error| self.unpublished(error))?;
        }
        Ok(())
    }

    /// Adds the authority, and after a while takes away what else is trusted.
    async fn publish_given(
        &self,
        live: &[&Live],
        given: &Given,
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        let compared = live.iter().flat_map(|live| live.bundles());
        let compared: Vec<Trust> = compared
            .map(|b| trust::compare(&b, &given.ca_pem))
            .collect();
        let more = compared.contains(&Trust::More);
        let since = {
            let mut seen = self.seen();
            seen.more_since = seen.more_since.filter(|_| more).or(more.then_some(now));
            seen.more_since
        };
        let settled = since.is_some_and(|since| now.duration_since(since) >= SETTLE);
        self.publish(live, |live| {
            let first = live.bundles().into_iter().next().unwrap_or_default();
            match trust::compare(&first, &given.ca_pem) {
                Trust::Lacking(both) => both,
                Trust::More if !settled => first,
                // The same certificates may be written otherwise.
                Trust::Exact => first,
                Trust::More => given.ca_pem.clone(),
            }
        })
        .await
    }

    /// cert-manager publishes the authority; until it has, the certificate before this one stays.
    fn check_injected(
        &self,
        live: &[Live],
        given: &Given,
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        for live in live {
            let believes =
                |bundle: &String| given.is_trusted_under(bundle, &self.profile.names, now);
            if !live.bundles().iter().all(believes) {
                return Err(CertificateError::NotInjected(
                    live.kind,
                    live.name.clone(),
                    self.secret.clone(),
                ));
            }
        }
        Ok(())
    }

    fn serve_given(&self, given: Given, live: &[Live], now: Timestamp) {
        let before: Vec<String> = live.iter().flat_map(Live::bundles).take(1).collect();
        if self.may_serve(&given.ca_pem, &before.concat(), now) {
            self.serves(&given.ca_pem, given.not_after);
            self.resolver.set_given(given);
        }
    }

    /// Whether a certificate of this authority may be served: when that has been published for a while, or at once if what is
    /// served now is not believed any more.
    fn may_serve(&self, authority: &str, published: &str, now: Timestamp) -> bool {
        let believed = self.is_serving(now) && {
            let served = self.seen().served_authority.clone();
            !matches!(trust::compare(published, &served), Trust::Lacking(_))
        };
        let mut seen = self.seen();
        let known = seen
            .published
            .take()
            .filter(|(known, _)| known == authority);
        let (authority, since) = known.unwrap_or_else(|| (authority.to_owned(), now));
        let same = authority == seen.served_authority;
        seen.published = Some((authority, since));
        same || !believed || now.duration_since(since) >= SPREAD
    }

    fn serves(&self, authority: &str, until: Timestamp) {
        let mut seen = self.seen();
        seen.served_until = Some(until);
        authority.clone_into(&mut seen.served_authority);
        drop(seen);
        self.metrics.set_certificate_not_after(until);
    }

    async fn given(&self, now: Timestamp) -> Result<Given, CertificateError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let stored = call(api.get_opt(&self.secret)).await;
        let stored =
            stored.map_err(|error| CertificateError::Secret(self.secret.clone(), error))?;
        let secret = stored.ok_or_else(|| CertificateError::Absent(self.secret.clone()))?;
        let given = Given::read(&secret.data.unwrap_or_default(), &self.profile.names, now);
        given.map_err(|error| CertificateError::Given(self.secret.clone(), error))
    }

    fn unpublished(&self, error: ApiError) -> CertificateError {
        CertificateError::Configurations(self.configuration.clone(), error)
    }

    fn fault(&self, error: &CertificateError) -> Fault {
        let secret = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.secret.clone()),
            ..ObjectReference::default()
        };
        Fault {
            about: match error {
                CertificateError::NotInjected(kind, name, _) => about_configuration(kind, name),
                _ => secret,
            },
            reason: match error.api() {
                Some(_) => None,
                None => Some("CertificateUnusable"),
            },
            stops: true,
            text: error.to_string(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn made(&self, now: Timestamp) -> Result<Bundle, CertificateError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let failed = |error| CertificateError::Secret(self.secret.clone(), error);
        let stored = call(api.get_opt(&self.secret)).await.map_err(failed)?;
        let known = stored.as_ref().and_then(|secret| self.read(secret));
        let served = self.seen().made.clone();
        let step = match (&known, &served) {
            // Somebody took it away. What is served of it has to be believed until the new one is served.
            (None, Some(served)) => rotate::after_loss(served, &self.profile, now)?,
            _ => rotate::next(known.as_ref(), &self.profile, now)?,
        };
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
}

fn about_configuration(kind: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("admissionregistration.k8s.io/v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
