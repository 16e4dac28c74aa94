//! The composition root: the only file that knows every module, and the only one that spawns tasks.

use crate::api::custom_resource_definitions;
use crate::clock::{Clock, SystemClock};
use crate::cluster::certificate::Certificates;
use crate::cluster::events::{Events, Seen};
use crate::cluster::facts::FactReader;
use crate::cluster::stores::{Change, Listener, Stores};
use crate::cluster::{check, client, keys, watches};
use crate::config::{CheckArgs, Cli, Command, LogFormat, RunArgs};
use crate::controller::expiry::Expiry;
use crate::controller::proof::Proofs;
use crate::controller::reconcile::Context;
use crate::controller::seats::Seats;
use crate::controller::switched::Switched;
use crate::controller::{Controller, guard, policies};
use crate::domain::completion::Kind;
use crate::domain::guard::{Exempt, Guarding, Mode};
use crate::domain::receipt::Keys;
use crate::ops::admin::{self, Admin};
use crate::ops::metrics::Metrics;
use crate::ops::readiness::{Gate, Heart, Liveness, Readiness};
use crate::ops::telemetry::{self, Format, TelemetryError};
use crate::tls::resolver::{self, Resolver};
use crate::webhook::admission::Admission;
use crate::webhook::rbac::Guard;
use crate::webhook::server::{self, Limits};
use kube::{Client, Config};
use std::future::Future;
use std::io::Write;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause between two looks at the certificate and the receipt keys.
const KEEP_UP: Duration = Duration::from_secs(60);
/// Longest silence of the deadline queue, which wakes at least every 30 s, before the process counts as stuck.
const HEARTBEAT: Duration = Duration::from_secs(120);
/// Pause between two tries while something is missing at the start.
const TRY_AGAIN: Duration = Duration::from_millis(500);

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
    let client = connect(&(Arc::new(SystemClock::default()) as Arc<dyn Clock>)).await?;
    let checked = check::check(&client, &args.admin, &args.namespace).await;
    checked.iter().try_for_each(print)?;
    let failed = checked.iter().filter(|c| c.wrong.is_some()).count();
    (failed == 0).then_some(()).ok_or(Error::Check(failed))
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
    let stop = CancellationToken::new();
    let mut tasks = start(
        Operator {
            args,
            client,
            clock,
            webhook,
            admin,
        },
        stop.clone(),
    )?;
    tokio::select! {
        () = terminated() => tracing::info!("stopping"),
        Some(ended) = tasks.join_next() => {
            stop.cancel();
            return Err(Error::Stopped(ended.unwrap_or("a task that panicked")));
        }
    }
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(())
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
        // Without a handler the signal ends the process by itself.
        let Ok(mut signals) = signal(kind) else {
            return std::future::pending().await;
        };
        signals.recv().await;
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
pub fn start(operator: Operator, stop: CancellationToken) -> Result<Tasks, Error> {
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
    let resolver = Arc::new(Resolver::default());
    let tls = Arc::new(resolver::server_config(Arc::clone(&resolver)).map_err(Error::Tls)?);
    let core = core(
        &Granting {
            ceiling_role: &args.ceiling_role,
            namespace: &args.namespace,
            cluster_grants: args.cluster_grants,
            until_kinds: &until_kinds(&args),
            guard: &guarding(&args),
        },
        &client,
        &clock,
        &metrics,
        &readiness,
    );
    let mut tasks = Tasks::new();
    let keeper = Keeper {
        certificates: Certificates::new(client.clone(), &args, resolver, Arc::clone(&metrics)),
        client,
        args,
        clock: Arc::clone(&clock),
        keys: Arc::clone(&core.keys),
    };
    let gates = (
        readiness.gate("certificate"),
        readiness.gate("receipt-keys"),
    );
    until_stopped(&mut tasks, &stop, "secrets", keeper.run(gates));
    let admission = Arc::new(core.admission());
    tasks.spawn({
        let stop = stop.clone();
        async move {
            server::serve(webhook, tls, admission, Limits::default(), stop).await;
            "webhook server"
        }
    });
    let heart = liveness.heart("deadline-queue", HEARTBEAT);
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
    core.spawn(&mut tasks, &stop, heart);
    Ok(tasks)
}

/// The part of an operator that needs no sockets: stores, controller, deadline queue and admission.
pub struct Core {
    /// Receipt keys, shared with whoever loads them.
    pub keys: Arc<RwLock<Option<Keys>>>,
    context: Arc<Context>,
    expiry: Arc<Expiry>,
    stores: Arc<Stores>,
    watches: Vec<watches::Watch>,
    changes: UnboundedReceiver<Change>,
    guarding: Guarding,
    seen: (Sender<Seen>, Receiver<Seen>),
    readiness: Readiness,
    swept: Gate,
}

/// What the core is told about granting.
#[derive(Clone, Copy, Debug)]
pub struct Granting<'a> {
    /// ClusterRole that says what may be granted at most.
    pub ceiling_role: &'a str,
    /// Namespace of the operator.
    pub namespace: &'a str,
    /// Whether rights in the whole cluster are granted.
    pub cluster_grants: bool,
    /// Kinds of objects whose end can be the end of a grant.
    pub until_kinds: &'a [Kind],
    /// How the guard on plain RBAC is set.
    pub guard: &'a Guarding,
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

/// Puts the core together; nothing runs yet.
pub fn core(
    granting: &Granting<'_>,
    client: &Client,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
) -> Core {
    let (tell, changes) = unbounded_channel();
    let switched = Arc::new(Switched::default());
    let expiry = Arc::new(Expiry::new(
        client.clone(),
        Arc::clone(clock),
        Arc::clone(&switched),
        Arc::clone(metrics),
    ));
    let queue = Arc::clone(&expiry);
    let listener: Listener = Arc::new(move |change| {
        // At once: the controller waits for keys and for every watch, and no deadline may wait for these.
        queue.hear(&change);
        // A closed channel means that the process is stopping.
        drop(tell.send(change));
    });
    let gate = |kind| -> Box<dyn FnOnce() + Send> {
        let gate = readiness.gate(kind);
        Box::new(move || gate.open())
    };
    let (stores, watches) = watches::start(
        client,
        granting.ceiling_role,
        granting.until_kinds,
        &listener,
        gate,
        metrics,
    );
    let keys = Arc::new(RwLock::new(None));
    let context = Context {
        client: client.clone(),
        clock: Arc::clone(clock),
        facts: FactReader::new(
            client.clone(),
            Arc::clone(&stores),
            Arc::clone(&keys),
            granting.namespace.to_owned(),
            granting.until_kinds.to_vec(),
        ),
        cluster_grants: granting.cluster_grants,
        keys: Arc::clone(&keys),
        seats: Arc::new(Seats::default()),
        switched,
        proofs: Proofs::default(),
        events: Events::new(client.clone()),
        metrics: Arc::clone(metrics),
    };
    Core {
        keys,
        context: Arc::new(context),
        expiry,
        stores,
        watches,
        changes,
        guarding: granting.guard.clone(),
        seen: channel(guard::WAITING),
        swept: readiness.gate("first-sweep"),
        readiness: readiness.clone(),
    }
}

impl Core {
    /// The webhook's handler.
    pub fn admission(&self) -> Admission {
        Admission {
            facts: self.context.facts.clone(),
            cluster_grants: self.context.cluster_grants,
            keys: Arc::clone(&self.keys),
            clock: Arc::clone(&self.context.clock),
            metrics: Arc::clone(&self.context.metrics),
            guard: Guard {
                settings: self.guarding.clone(),
                readiness: self.readiness.clone(),
                seen: self.seen.0.clone(),
            },
        }
    }

    /// Spawns watches, deadline queue and controller. The controller begins when stores and keys are there.
    pub fn spawn(self, tasks: &mut Tasks, stop: &CancellationToken, heart: Heart) {
        let Self {
            context,
            expiry,
            stores,
            watches,
            changes,
            readiness,
            swept,
            seen: (_, seen),
            ..
        } = self;
        for watch in watches {
            until_stopped(tasks, stop, "watch", watch);
        }
        let worker = Arc::clone(&expiry);
        until_stopped(tasks, stop, "deadline queue", async move {
            worker.run(|| heart.beat()).await;
        });
        let told = guard::tell(context.events.clone(), seen);
        until_stopped(tasks, stop, "guard events", async {
            told.await;
            // Nobody asks for admission any more.
            std::future::pending().await
        });
        let (reporter, read) = unbounded_channel();
        let reports = policies::report(context.client.clone(), Arc::clone(&context.clock), read);
        until_stopped(tasks, stop, "policy status", reports);
        let stop = stop.clone();
        tasks.spawn(async move {
            let controller = Controller::new(stores, expiry, context, reporter);
            tokio::select! {
                () = wait_for(&readiness, &["first-sweep", "certificate"]) => {}
                () = stop.cancelled() => return "controller",
            }
            controller.first_sweep().await;
            swept.open();
            controller.run(changes, stop).await;
            "controller"
        });
    }
}

/// Waits until nothing but `except` is pending.
async fn wait_for(readiness: &Readiness, except: &[&str]) {
    while readiness
        .pending()
        .iter()
        .any(|gate| !except.contains(gate))
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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

/// Keeps the certificate and the receipt keys present and fresh.
struct Keeper {
    certificates: Certificates,
    client: Client,
    args: RunArgs,
    clock: Arc<dyn Clock>,
    keys: Arc<RwLock<Option<Keys>>>,
}

impl Keeper {
    /// Opens the gates at the first success of each; then looks once a minute, since the clock that counts is the
    /// wall clock.
    async fn run(self, (certificate, receipt_keys): (Gate, Gate)) {
        let mut gates = [Some(certificate), Some(receipt_keys)];
        loop {
            let now = self.clock.now();
            if let Err(error) = self.certificates.keep(now).await {
                tracing::error!(%error, "certificate not ready");
            } else if let Some(gate) = gates[0].take() {
                gate.open();
            }
            match keys::load(
                &self.client,
                &self.args.namespace,
                &self.args.receipt_secret,
                now,
            )
            .await
            {
                Ok(keys) => {
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
                    if let Some(gate) = gates[1].take() {
                        gate.open();
                    }
                }
                Err(error) => tracing::error!(%error, "receipt keys not ready"),
            }
            let ready = gates.iter().all(Option::is_none);
            tokio::time::sleep(if ready { KEEP_UP } else { TRY_AGAIN }).await;
        }
    }
}
