//! Tells what a pass came to: the status, an audit line, Events, metrics.

use crate::api::workload_access::{Risk, WorkloadAccessStatus};
use crate::cluster::status as status_writer;
use crate::controller::audit;
use crate::controller::error::Error;
use crate::controller::reconcile::Pass;
use crate::domain::audit::Line;
use crate::domain::drift::{self, Drift};
use crate::domain::oversight;
use crate::domain::request::AccessRequest;
use crate::domain::status::{self, Outcome};
use crate::domain::verification::{self, Proof};
use std::sync::PoisonError;

impl Pass<'_> {
    /// Writes the status if it changed, and an audit line and an Event if the request now stands elsewhere.
    pub(super) async fn report(&self, outcome: &Outcome<'_>) -> Result<(), Error> {
        self.report_with(Some(outcome), None).await
    }

    /// The same, with or without an outcome, and with what is proven about an ended grant.
    pub(super) async fn report_with(
        &self,
        outcome: Option<&Outcome<'_>>,
        proof: Option<&Proof>,
    ) -> Result<(), Error> {
        let view = self.object.view();
        let old = view.status.cloned().unwrap_or_default();
        let generation = view.meta.generation;
        let by = self.requester.as_ref();
        let username = by.map(|r| r.username.as_str());
        let mut new = match outcome {
            Some(outcome) => status::next(&old, generation, username, outcome, self.now),
            None => self.oversight.add_review(&old, self.now),
        };
        if let Some(outcome) = outcome {
            self.oversight.tell(&old, &mut new, outcome, self.now);
        }
        if let Some(proof) = proof {
            let account = verification::account(&view);
            new = status::verified(new, generation, proof, &account, self.now);
        }
        let alarm = oversight::alarm(&old, &new);
        if alarm {
            self.sound_alarm(&new);
        }
        if !self.write(&new).await? {
            return Ok(());
        }
        if let Some(outcome) = outcome {
            for (warning, reason, note) in status::events(&old, &new, outcome) {
                let line = Line::of(&view, by, &new, outcome, reason, self.now);
                line.iter().for_each(audit::tell);
                self.publish(warning, reason, &note).await;
            }
        }
        if let Some((warning, reason, note)) =
            proof.and_then(|proof| status::residue_event(&new, proof))
        {
            self.publish(warning, reason, &note).await;
        }
        if alarm {
            self.publish(true, "BreakGlass", oversight::WANTED).await;
        }
        Ok(())
    }

    /// Before the status is written: a crash then sounds it twice and never not at all.
    fn sound_alarm(&self, status: &WorkloadAccessStatus) {
        let view = self.object.view();
        let risk = status.risk.map_or("unknown", Risk::as_str);
        self.ctx.metrics.break_glass(risk);
        tracing::warn!(
            namespace = view.meta.namespace,
            name = view.meta.name,
            by = status.requested_by,
            risk,
            "access was given by break-glass"
        );
    }

    /// Writes the status; returns whether it changed.
    async fn write(&self, status: &WorkloadAccessStatus) -> Result<bool, Error> {
        let client = &self.ctx.client;
        let version = self.version.lock().ok().and_then(|v| v.clone());
        match status_writer::write(client, self.object, version.as_deref(), status).await {
            Ok(None) => Ok(false),
            Ok(Some(version)) => {
                // Its own write changed the version.
                *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
                Ok(true)
            }
            // The object went meanwhile: there is nobody left to tell.
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(Error::Status(error)),
        }
    }

    async fn publish(&self, warning: bool, reason: &str, note: &str) {
        let events = &self.ctx.events;
        events.publish(self.object, warning, reason, note).await;
    }

    /// Warns of what somebody changed.
    pub(super) async fn tell_drift(&self, drifts: &[Drift]) {
        if drifts.is_empty() {
            return;
        }
        drifts.iter().for_each(|d| self.ctx.metrics.drifted(d.kind));
        let note = format!("somebody changed {}", drift::words(drifts));
        tracing::warn!(name = self.object.view().meta.name, note);
        let events = &self.ctx.events;
        events.publish(self.object, true, "Drifted", &note).await;
    }
}
