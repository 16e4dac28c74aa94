//! Turns requests into grants and ends them: wiring only. `dispatch` and `expiry`, the deadline queue, run in every replica;
//! a `term` with its `passes` only in the one that decides, and `reconcile` is one pass.

pub mod audit;
mod dispatch;
pub mod error;
pub mod expiry;
pub mod guard;
mod guard_scan;
mod passes;
pub mod policies;
pub mod proof;
pub mod reconcile;
mod report;
pub mod seats;
pub mod switched;
mod term;

use crate::cluster::fence::Leadership;
use crate::cluster::stores::{Change, Stores};
use crate::controller::expiry::Expiry;
use crate::controller::reconcile::Context;
use crate::controller::term::Desk;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

/// The controller: what changes goes in, passes over requests come out.
pub struct Controller {
    stores: Arc<Stores>,
    expiry: Arc<Expiry>,
    context: Arc<Context>,
}

impl Controller {
    /// A controller over filled or filling stores.
    pub fn new(stores: Arc<Stores>, expiry: Arc<Expiry>, context: Arc<Context>) -> Self {
        Self {
            stores,
            expiry,
            context,
        }
    }

    /// Ends what should have ended while nobody was looking. Run once the stores are full and before the process calls
    /// itself ready. Errors are retried by [`Expiry::run`].
    pub async fn first_sweep(&self) {
        dispatch::resync(&self.stores, &self.expiry, &self.context).await;
        let failed = self.expiry.sweep().await;
        tracing::info!(failed, "first sweep done");
    }

    /// Runs until `stop`; passes that are under way then are finished.
    pub async fn run(
        self,
        changes: UnboundedReceiver<Change>,
        leadership: Leadership,
        stop: CancellationToken,
    ) {
        let Self {
            stores,
            expiry,
            context,
        } = self;
        let desk = Desk::default();
        tokio::select! {
            () = dispatch::dispatch(changes, &stores, &expiry, &context, &desk) => {}
            () = term::lead(&desk, &stores, &expiry, &context, &leadership, &stop) => {}
        }
    }
}
