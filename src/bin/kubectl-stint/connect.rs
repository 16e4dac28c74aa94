//! The cluster that a command talks to, and what its errors mean to a person.

use crate::outcome::Failure;
use crate::show;
use clap::Args;
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stint::clock::{Clock, SystemClock};
use stint::cluster::{ApiError, client};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which cluster, and as whom
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Target {
    /// The kubeconfig file to use [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig to use
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// User to impersonate
    #[arg(long = "as", value_name = "USER")]
    impersonate: Option<String>,

    /// Group to impersonate; may be repeated
    #[arg(long = "as-group", value_name = "GROUP", requires = "impersonate")]
    groups: Vec<String>,
}

impl Target {
    /// Whether anything of it was said.
    pub fn is_chosen(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some() || self.impersonate.is_some()
    }

    /// A target without impersonation.
    pub fn new(kubeconfig: Option<PathBuf>, context: Option<String>) -> Self {
        Self {
            kubeconfig,
            context,
            impersonate: None,
            groups: Vec::new(),
        }
    }

    async fn config(&self) -> Result<Config, Failure> {
        let read = match &self.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let read = match read {
            Ok(read) => read,
            // As kubectl does in a pod: without any kubeconfig, the account of the pod.
            Err(_) if self.kubeconfig.is_none() && self.context.is_none() && in_a_pod() => {
                return Config::incluster().map_err(|error| no_cluster(&error));
            }
            Err(error) => return Err(unreadable(&error)),
        };
        let names = || read.contexts.iter().map(|context| context.name.as_str());
        let wanted = self.context.clone().or(read.current_context.clone());
        match wanted.filter(|name| !name.is_empty()) {
            Some(wanted) if !names().any(|name| name == wanted) => {
                let known: Vec<&str> = names().collect();
                return Err(no_context(&wanted, &known));
            }
            Some(_) => {}
            None => {
                let text = "the kubeconfig names no current context; choose one with --context or `kubectl config use-context`";
                return Err(Failure::Error(text.into()));
            }
        }
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(read, &options).await;
        config.map_err(|error| no_cluster(&error))
    }
}

fn in_a_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn no_cluster(error: &dyn Error) -> Failure {
    Failure::Error(format!("no cluster to ask: {}", innermost(error)))
}

fn unreadable(error: &KubeconfigError) -> Failure {
    let text = match error {
        KubeconfigError::ReadConfig(why, file) => format!(
            "no cluster to ask: the kubeconfig {} cannot be read: {why}; name another one with --kubeconfig",
            file.display()
        ),
        error => format!("no cluster to ask: {error}"),
    };
    Failure::Error(text)
}

fn no_context(wanted: &str, known: &[&str]) -> Failure {
    let known = match known {
        [] => "it has none".to_owned(),
        names => format!("it has {}", names.join(", ")),
    };
    Failure::Error(format!(
        "the kubeconfig has no context '{wanted}'; {known}; choose one with --context"
    ))
}

/// A cluster, with the rights of one user.
#[derive(Clone)]
pub struct Connection {
    /// Its client.
    pub client: Client,
    /// What the client was made from.
    pub config: Config,
    clock: Arc<SystemClock>,
}

/// What is asked of the API server, in the words of its authorizer.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The verb.
    pub verb: &'a str,
    /// Resource and group as kubectl writes them, such as `workloadaccesses.stint.dev`.
    pub resource: &'a str,
    /// The namespace; none for the whole cluster.
    pub namespace: Option<&'a str>,
    /// Name of the one object.
    pub name: Option<&'a str>,
}

impl std::fmt::Display for Wish<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(name) = self.name {
            write!(f, " '{name}'")?;
        }
        match self.namespace {
            Some(namespace) => write!(f, " in namespace '{namespace}'"),
            None => write!(f, " in the whole cluster"),
        }
    }
}

/// A write that did not succeed.
#[derive(Debug)]
pub struct NotDone {
    /// Status of the answer; none where there was none.
    pub code: Option<u16>,
    /// What it means.
    pub failure: Failure,
}

impl NotDone {
    /// Whether it is certain that nothing happened: the API server answered, and the fault is the request's.
    pub fn is_certain(&self) -> bool {
        self.code.is_some_and(|code| (400..500).contains(&code))
    }
}

impl From<NotDone> for Failure {
    fn from(not_done: NotDone) -> Self {
        not_done.failure
    }
}

impl Connection {
    /// The cluster of the target. Nothing is asked yet.
    pub async fn open(target: &Target) -> Result<Self, Failure> {
        let mut config = target.config().await?;
        if let Some(user) = &target.impersonate {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups = Some(target.groups.clone());
        }
        let clock = Arc::new(SystemClock::default());
        let shared: Arc<dyn Clock> = Arc::<SystemClock>::clone(&clock);
        let client = client::build(config.clone(), shared).map_err(|error| no_cluster(&error))?;
        Ok(Self {
            client,
            config,
            clock,
        })
    }

    /// The namespace of the context.
    pub fn namespace(&self) -> &str {
        &self.config.default_namespace
    }

    /// Now, by the API server's clock as far as it has answered.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// One call with a bound on its time; an error says what was asked and what to do about it.
    pub async fn ask<T>(
        &self,
        wish: Wish<'_>,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        self.write(wish, call).await.map_err(Failure::from)
    }

    /// The same for a write that may have to be undone: the error also knows whether it was refused.
    pub async fn write<T>(
        &self,
        wish: Wish<'_>,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, NotDone> {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(NotDone {
                code: match &error {
                    kube::Error::Api(status) => Some(status.code),
                    _ => None,
                },
                failure: self.failed(wish, &error),
            }),
            Err(_) => Err(NotDone {
                code: None,
                failure: Failure::Error(format!(
                    "the API server {} did not answer within {} s: {wish}",
                    self.server(),
                    PATIENCE.as_secs()
                )),
            }),
        }
    }

    /// The same for what goes through the functions of the operator.
    pub fn failed_call(&self, wish: Wish<'_>, error: &ApiError) -> Failure {
        match error {
            ApiError::Kube(error) => self.failed(wish, error),
            error => Failure::Error(format!("{wish}: {error}")),
        }
    }

    fn server(&self) -> String {
        self.config
            .cluster_url
            .to_string()
            .trim_end_matches('/')
            .to_owned()
    }

    /// What an error means.
    pub fn failed(&self, wish: Wish<'_>, error: &kube::Error) -> Failure {
        let kube::Error::Api(status) = error else {
            return Failure::Error(format!(
                "cannot reach the API server {}: {}; check that it is up, and the context (--context)",
                self.server(),
                innermost(error)
            ));
        };
        let message = status.message.trim();
        let denied = message.contains("denied the request") || message.contains("denied request");
        match status.code {
            401 => Failure::Error(format!(
                "the API server {} does not accept the credentials of the context; log in again, or choose another with --context",
                self.server()
            )),
            403 if !denied => Failure::Error(forbidden(wish, message)),
            404 if names_no_object(message) => Failure::Error(format!(
                "this cluster has no {}: Stint is not installed in it, or in another version; check the context (--context)",
                wish.resource
            )),
            404 => Failure::Error(missing(wish, message)),
            400 | 403 | 422 => Failure::Refused(message.to_owned()),
            409 => Failure::Error(format!("{wish}: {message}")),
            code => Failure::Error(format!("{wish}: the API server answers {code}: {message}")),
        }
    }
}

/// Of a whole API group that is not served the server says so in plain text.
fn names_no_object(message: &str) -> bool {
    let nothing = ["", "404 page not found"].contains(&message);
    nothing || message.contains("could not find the requested resource")
}

fn missing(wish: Wish<'_>, message: &str) -> String {
    let resource = wish.resource;
    match (wish.name, wish.namespace) {
        (Some(name), Some(namespace)) => format!(
            "there is no {resource} '{name}' in namespace '{namespace}'; `kubectl get {resource} -n {namespace}` lists them"
        ),
        (Some(name), None) => {
            format!("there is no {resource} '{name}'; `kubectl get {resource}` lists them")
        }
        (None, _) => format!("{wish}: {message}"),
    }
}

/// The authorizer's refusal: who lacks which verb on which resource, and what gives it.
fn forbidden(wish: Wish<'_>, message: &str) -> String {
    let user = message
        .split_once("User \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("you", |(user, _)| user);
    let who = match user {
        "you" => "you may not".to_owned(),
        user => format!("'{user}' may not"),
    };
    // Of a right that lies in another place than was asked for, the message alone tells.
    let what = match message.contains(&format!("cannot {} resource", wish.verb)) || user == "you" {
        true => wish.to_string(),
        false => return format!("not allowed: {message}"),
    };
    format!("{who} {what}; {}", remedy(wish))
}

fn remedy(wish: Wish<'_>) -> String {
    let reads = ["get", "list", "watch"].contains(&wish.verb);
    let role = match (wish.resource, reads) {
        ("workloadaccesses.stint.dev" | "clusterworkloadaccesses.stint.dev", true) => "stint-view",
        ("workloadaccesses.stint.dev", false) => "stint-requester",
        ("clusterworkloadaccesses.stint.dev", false) => "stint-cluster-requester",
        ("accessapprovals.stint.dev", _) => "stint-approver",
        ("accesspolicies.stint.dev", true) => "stint-approver",
        (resource, _) => {
            return format!("ask for a role with the verb `{}` on {resource}", wish.verb);
        }
    };
    format!("ask for the ClusterRole {role} there")
}

/// The cause that no other stands behind: `Connection refused` says more than what went through it.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    show::line(&error.to_string())
}
