//! Kubernetes Events on the transitions of a grant, and on what the guard saw.

use crate::api::names::MANAGER;
use crate::domain::request::Access;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::core::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// Longest note that the Events API takes, in bytes.
const MAX_NOTE: usize = 1024;

/// Publishes Events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events reported by this operator.
    pub fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: MANAGER.into(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Publishes one Event about a request.
    pub async fn publish(&self, object: &Access, warning: bool, reason: &str, note: &str) {
        let about = match object {
            Access::Namespaced(object) => object.object_ref(&()),
            Access::Cluster(object) => object.object_ref(&()),
        };
        self.publish_about(&about, warning, reason, note).await;
    }

    /// Publishes one Event. An Event that cannot be published is logged, never an error: access does not hang on it.
    pub async fn publish_about(
        &self,
        about: &ObjectReference,
        warning: bool,
        reason: &str,
        note: &str,
    ) {
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(cut(note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        self.send(&event, about).await;
    }

    /// Publishes what the guard saw.
    pub async fn publish_seen(&self, seen: &Seen) {
        let event = Event {
            type_: EventType::Warning,
            reason: GUARD_REASON.to_owned(),
            note: Some(cut(&seen.note)),
            action: "Admission".to_owned(),
            secondary: None,
        };
        self.send(&event, &seen.about).await;
    }

    async fn send(&self, event: &Event, about: &ObjectReference) {
        if let Err(error) = self.recorder.publish(event, about).await {
            tracing::warn!(%error, reason = event.reason, "event not published");
        }
    }
}

/// Reason of the Events of the guard.
pub const GUARD_REASON: &str = "GuardFinding";

/// A role or binding that the guard let pass although it found something.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The object.
    pub about: ObjectReference,
    /// Who wrote it, and what was found.
    pub note: String,
}

fn cut(note: &str) -> String {
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}
