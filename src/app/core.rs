//! The part of an operator that needs no sockets, put together.

use crate::app::{CONTROLLER, LEASE, Shutdown, Tasks, until_stopped};
use crate::clock::Clock;
use crate::cluster::events::{Events, Seen};
use crate::cluster::facts::FactReader;
use crate::cluster::fence::{Leadership, fence};
use crate::cluster::key_ring::KeyRing;
use crate::cluster::lease::{Election, Elector};
use crate::cluster::stores::{Change, Listener, Stores};
use crate::cluster::watches;
use crate::controller::expiry::Expiry;
use crate::controller::proof::Proofs;
use crate::controller::reconcile::Context;
use crate::controller::seats::Seats;
use crate::controller::switched::Switched;
use crate::controller::{Controller, guard};
use crate::domain::completion::Kind;
use crate::domain::guard::Guarding;
use crate::ops::metrics::Metrics;
use crate::ops::readiness::{Gate, Heart, Readiness};
use crate::webhook::admission::Admission;
use crate::webhook::rbac::Guard;
use kube::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// The part of an operator that needs no sockets: stores, controller, deadline queue and admission.
pub struct Core {
    /// Receipt keys, shared with whoever loads them.
    pub keys: Arc<KeyRing>,
    context: Arc<Context>,
    expiry: Arc<Expiry>,
    stores: Arc<Stores>,
    watches: Vec<watches::Watch>,
    changes: UnboundedReceiver<Change>,
    guarding: Guarding,
    seen: (Sender<Seen>, Receiver<Seen>),
    /// Of every replica: the guard tells what this one was asked.
    told: Events,
    readiness: Readiness,
    swept: Gate,
    leadership: Leadership,
    elector: Option<Elector>,
}

/// What the core is told about granting.
#[derive(Clone, Copy, Debug)]
pub struct Granting<'a> {
    /// ClusterRole that says what may be granted at most.
    pub ceiling_role: &'a str,
    /// Namespace of the operator.
    pub namespace: &'a str,
    /// Secret with the receipt keys, in that namespace.
    pub receipt_secret: &'a str,
    /// Whether rights in the whole cluster are granted.
    pub cluster_grants: bool,
    /// Kinds of objects whose end can be the end of a grant.
    pub until_kinds: &'a [Kind],
    /// How the guard on plain RBAC is set.
    pub guard: &'a Guarding,
    /// How several replicas agree on the one that decides; without, this one does.
    pub election: Option<&'a Election>,
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
    let keys = Arc::new(KeyRing::new(
        client,
        granting.namespace,
        granting.receipt_secret,
    ));
    let (elector, leadership) = match granting.election {
        Some(election) => {
            let (client, clock) = (client.clone(), Arc::clone(clock));
            let gate = readiness.gate("lease");
            let (elector, held) = Elector::new(client, election.clone(), clock, gate);
            (Some(elector), held)
        }
        None => (None, Leadership::for_ever(Arc::clone(clock))),
    };
    // What passes write goes through it, and nothing else does.
    let fenced = fence(client.clone(), leadership.clone());
    let context = Context {
        events: Events::new(fenced.clone()),
        client: fenced,
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
        reporting: granting.guard.reporting,
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
        told: Events::new(client.clone()),
        swept: readiness.gate("first-sweep"),
        readiness: readiness.clone(),
        leadership,
        elector,
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
    pub fn spawn(self, tasks: &mut Tasks, shutdown: &Shutdown, heart: Heart) {
        let Self {
            context,
            expiry,
            stores,
            watches,
            changes,
            readiness,
            swept,
            leadership,
            elector,
            told,
            seen: (_, seen),
            ..
        } = self;
        for watch in watches {
            until_stopped(tasks, &shutdown.stop, "watch", watch);
        }
        let worker = Arc::clone(&expiry);
        until_stopped(tasks, &shutdown.stop, "deadline queue", async move {
            worker.run(|| heart.beat()).await;
        });
        let told = guard::tell(told, seen);
        until_stopped(tasks, &shutdown.stop, "guard events", async {
            told.await;
            // Nobody asks for admission any more.
            std::future::pending().await
        });
        let (may_stand, resign) = (CancellationToken::new(), CancellationToken::new());
        tasks.spawn({
            let (may_stand, resign) = (may_stand.clone(), resign.clone());
            async move {
                // Who knows nothing yet would only keep others from deciding.
                let ready = resign.run_until_cancelled(may_stand.cancelled()).await;
                match elector.filter(|_| ready.is_some()) {
                    Some(elector) => elector.run(resign).await,
                    None => resign.cancelled().await,
                }
                LEASE
            }
        });
        let drain = shutdown.drain.clone();
        tasks.spawn(async move {
            // However it ends, the lease is given back after the last decision.
            let _resigned = resign.drop_guard();
            let controller = Controller::new(stores, expiry, context);
            tokio::select! {
                () = wait_for(&readiness, &["first-sweep", "certificate"]) => {}
                () = drain.cancelled() => return CONTROLLER,
            }
            controller.first_sweep().await;
            swept.open();
            may_stand.cancel();
            controller.run(changes, leadership, drain).await;
            CONTROLLER
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
