//! The composition root: the only file that knows every module, and the only one that spawns tasks.

mod clients;
mod core;
mod definitions;
mod keeper;

pub use core::{Core, Granting, core};

use crate::api::custom_resource_definitions;
use crate::app::keeper::{Gates, Keeper};
use crate::clock::{Clock, SystemClock};
use crate::cluster::certificate::Certificates;
use crate::cluster::events::Events;
use crate::cluster::lease::{Election, identity};
use crate::cluster::{check, client};
use crate::config::{CheckArgs, Cli, Command, LogFormat, RunArgs};
use crate::domain::completion::Kind;
use crate::domain::guard::{Exempt, Guarding, Mode};
use crate::domain::guard_report::{ReportApi, Reporting};
use crate::domain::lease::BadTerms;
use crate::ops::admin::{self, Admin};
use crate::ops::metrics::Metrics;
use crate::ops::readiness::{Liveness, Readiness};
use crate::ops::telemetry::{self, Format, TelemetryError};
use crate::tls::clients::{Authorities, NoAuthority};
use crate::tls::resolver::{self, Resolver};
use crate::webhook::server::{self, Limits};
use kube::{Client, Config};
use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest silence of the deadline queue, which wakes at least every 30 s, before the process counts as stuck.
const HEARTBEAT: Duration = Duration::from_secs(120);
/// Tasks that finish what they have begun.
const DRAINED: [&str; 3] = [WEBHOOK, CONTROLLER, LEASE];
const WEBHOOK: &str = "webhook server";
const CONTROLLER: &str = "controller";
const LEASE: &str = "lease";

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is no filter.
    #[error("--log-level: {0}")]
    LogLevel(#[source] TelemetryError),
    /// No way to reach a cluster is configured.
    #[error("no Kubernetes configuration: {0}")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The client could not be built.
    #[error("Kubernetes client: {0}")]
    Client(#[source] Box<kube::Error>),
    /// A port could not be opened.
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// Nobody could send reviews.
    #[error("--webhook-client-ca: {0}")]
    ClientCa(#[from] NoAuthority),
    /// The times of the leader election contradict each other.
    #[error("--leader-elect-…: {0}")]
    LeaderElection(#[from] BadTerms),
    /// The system has no random bytes for the name of this process.
    #[error("no random bytes for the identity of this replica")]
    Identity,
    /// Something could not be printed.
    #[error("cannot print: {0}")]
    Print(String),
    /// Something of the installation is not as it should be.
    #[error("{0} checks failed")]
    Check(usize),
    /// A task that never ends by itself did.
    #[error("{0} stopped unexpectedly")]
    Stopped(&'static str),
}

/// Carries out the command line.
pub async fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Crds => print_crds(),
        Command::Check(args) => check(args).await,
        Command::Run(args) => operator(*args).await,
    }
}

fn print_crds() -> Result<(), Error> {
    for crd in custom_resource_definitions() {
        let yaml = serde_saphyr::to_string(&crd).map_err(|e| Error::Print(e.to_string()))?;
        print(format_args!("---\n{}", yaml.trim_end()))?;
    }
    Ok(())
}

fn print(line: impl std::fmt::Display) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{line}").map_err(|e| Error::Print(e.to_string()))
}

async fn connect(clock: &Arc<dyn Clock>) -> Result<Client, Error> {
    let config = Config::infer()
        .await
        .map_err(|e| Error::Config(Box::new(e)))?;
    client::build(config, Arc::clone(clock)).map_err(|e| Error::Client(Box::new(e)))
}

async fn check(args: CheckArgs) -> Result<(), Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let checked = check::check(&connect(&clock).await?, &args.admin, &args.namespace).await;
    checked.iter().try_for_each(print)?;
    match checked.iter().filter(|c| c.wrong.is_some()).count() {
        0 => Ok(()),
        count => Err(Error::Check(count)),
    }
}

async fn operator(args: RunArgs) -> Result<(), Error> {
    let format = match args.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    telemetry::init(format, &args.log_level).map_err(Error::LogLevel)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let client = connect(&clock).await?;
    let webhook = listen(args.webhook_listen).await?;
    let admin = listen(args.admin_listen).await?;
    let shutdown = Shutdown::default();
    let mut tasks = start(
        Operator {
            args,
            client,
            clock,
            webhook,
            admin,
        },
        &shutdown,
    )?;
    tokio::select! {
        () = terminated() => tracing::info!("stopping"),
        Some(ended) = tasks.join_next() => {
            shutdown.now();
            return Err(Error::Stopped(ended.unwrap_or("a task that panicked")));
        }
    }
    shutdown.drain.cancel();
    let mut draining: Vec<&str> = DRAINED.to_vec();
    while !draining.is_empty()
        && let Some(ended) = tasks.join_next().await
    {
        let ended = ended.unwrap_or_default();
        draining.retain(|task| *task != ended);
    }
    shutdown.now();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// How a process ends: first nothing new is begun, then nothing goes on.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Take no more reviews and no more decisions, finish those under way, and give the lease back. What is due still ends.
    pub drain: CancellationToken,
    /// Stop everything.
    pub stop: CancellationToken,
}

impl Shutdown {
    fn now(&self) {
        self.drain.cancel();
        self.stop.cancel();
    }
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|e| Error::Listen(address, e))
}

/// SIGTERM, or SIGINT from a terminal.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            // Without a handler the signal ends the process by itself.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

/// What an operator is made of before it starts.
pub struct Operator {
    /// Settings.
    pub args: RunArgs,
    /// The API server.
    pub client: Client,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Where reviews come in.
    pub webhook: TcpListener,
    /// Where probes and scrapes come in.
    pub admin: TcpListener,
}

/// Tasks of a running operator, each with its name.
pub type Tasks = JoinSet<&'static str>;

/// Starts every task of the operator. It is ready when its admin endpoint says so.
pub fn start(operator: Operator, shutdown: &Shutdown) -> Result<Tasks, Error> {
    let Operator {
        args,
        client,
        clock,
        webhook,
        admin,
    } = operator;
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::new();
    let liveness = Liveness::new();
    let heart = liveness.heart("deadline-queue", HEARTBEAT);
    let resolver = Arc::new(Resolver::default());
    let clients = args.webhook_client_ca.as_deref();
    let clients = clients.map(Authorities::read).transpose()?.map(Arc::new);
    let tls = resolver::server_config(Arc::clone(&resolver), clients.clone());
    let mut tls = server::Tls::from(Arc::new(tls.map_err(Error::Tls)?));
    let election = election(&args)?;
    let core = core(
        &Granting {
            ceiling_role: &args.ceiling_role,
            namespace: &args.namespace,
            receipt_secret: &args.receipt_secret,
            cluster_grants: args.cluster_grants,
            until_kinds: &until_kinds(&args),
            guard: &guarding(&args),
            election: election.as_ref(),
        },
        &client,
        &clock,
        &metrics,
        &readiness,
    );
    let mut tasks = Tasks::new();
    let skew = definitions::keep(client.clone(), readiness.gate("definitions"));
    until_stopped(&mut tasks, &shutdown.stop, "definitions", skew);
    let keeper = Keeper {
        certificates: Certificates::new(client.clone(), &args, resolver, Arc::clone(&metrics)),
        events: Events::new(client.clone()),
        client,
        args,
        clock: Arc::clone(&clock),
        keys: Arc::clone(&core.keys),
    };
    let gates = Gates {
        certificate: readiness.gate("certificate"),
        receipt_keys: readiness.gate("receipt-keys"),
        clock: readiness.gate("clock"),
    };
    let stop = &shutdown.stop;
    until_stopped(&mut tasks, stop, "secrets", keeper.run(gates));
    if let Some(clients) = clients {
        tls.renewed = clients.renewed();
        let gate = readiness.gate("webhook-clients");
        let keep = clients::keep(clients, gate, Arc::clone(&metrics));
        until_stopped(&mut tasks, stop, "webhook clients", keep);
    }
    let admission = Arc::new(core.admission());
    tasks.spawn({
        let drain = shutdown.drain.clone();
        let serving = readiness.gate("stopping");
        serving.open();
        async move {
            let told = async {
                drain.cancelled().await;
                serving.close();
            };
            let served = server::serve(webhook, tls, admission, Limits::default(), drain.clone());
            tokio::join!(told, served);
            WEBHOOK
        }
    });
    let shown = Admin {
        readiness,
        liveness,
        metrics,
    };
    tasks.spawn({
        let stop = stop.clone();
        async move {
            admin::serve(admin, Arc::new(shown), stop).await;
            "admin server"
        }
    });
    core.spawn(&mut tasks, shutdown, heart);
    Ok(tasks)
}

/// The election that the settings ask for.
fn election(args: &RunArgs) -> Result<Option<Election>, Error> {
    if !args.leader_election.leader_elect {
        return Ok(None);
    }
    // In a container it is the name of the pod.
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "stint".to_owned());
    Ok(Some(Election {
        namespace: args.namespace.clone(),
        name: args.leader_election.resource_name.clone(),
        identity: identity(&host).ok_or(Error::Identity)?,
        terms: args.leader_election.terms().check()?,
    }))
}

fn guarding(args: &RunArgs) -> Guarding {
    Guarding {
        // The flags take only words that are modes, and `off`.
        default_mode: Mode::parse(&args.guard_default_mode).unwrap_or(Mode::Deny),
        cluster: Mode::parse(&args.guard_cluster_mode),
        exempt: Exempt {
            operator: format!(
                "system:serviceaccount:{}:{}",
                args.namespace, args.service_account
            ),
            groups: args.guard_exempt_groups.clone(),
            users: args.guard_exempt_users.clone(),
        },
        reporting: args.guard_reports.as_deref().and_then(|group| {
            Some(Reporting {
                // The flag takes only groups that are known.
                api: ReportApi::of_group(group)?,
                every: args.guard_scan_interval.into(),
            })
        }),
    }
}

fn until_kinds(args: &RunArgs) -> Vec<Kind> {
    let kinds = args.until_kinds.iter().map(|kind| Kind {
        api_version: kind.api_version.clone(),
        kind: kind.kind.clone(),
        resource: kind.resource.clone(),
    });
    kinds.collect()
}

fn until_stopped(
    tasks: &mut Tasks,
    stop: &CancellationToken,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = task => {}
            () = stop.cancelled() => {}
        }
        name
    });
}
