//! What was done, so that it can be undone: the last first, and also what may have been done without an answer.

use crate::bindings::Binding;
use crate::connect::Connection;
use crate::outcome::Failure;
use crate::{send, show};
use std::io::Write;
use stint::domain::request::Place;

/// One change, written down before it is made.
#[derive(Debug)]
pub enum Change {
    /// An AccessPolicy that was not there.
    Policy(String),
    /// A request that was not there.
    Request(Place, String),
    /// Subjects taken out of a binding, and how it is called.
    Binding(Box<Binding>, String),
}

impl Change {
    fn title(&self) -> String {
        match self {
            Self::Policy(name) => format!("AccessPolicy {name}"),
            Self::Request(place, name) => crate::wait::title(place, name),
            Self::Binding(_, title) => title.clone(),
        }
    }

    async fn undo(&self, connection: &Connection) -> Result<(), Failure> {
        match self {
            Self::Policy(name) => send::policy_back(connection, name).await,
            Self::Request(place, name) => send::request_back(connection, place, name).await,
            Self::Binding(binding, _) => binding.put_back(connection).await,
        }
    }

    fn undone(&self) -> &'static str {
        match self {
            Self::Policy(_) | Self::Request(..) => "deleted again",
            Self::Binding(..) => "is as it was",
        }
    }
}

/// All changes of a run, in their order.
#[derive(Debug, Default)]
pub struct Journal {
    changes: Vec<Change>,
}

impl Journal {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Before a change.
    pub fn begin(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Undoes everything that can be undone; what could not comes back, one line each.
    pub async fn undo(self, connection: &Connection, out: &mut impl Write) -> Vec<String> {
        let mut left = Vec::new();
        for change in self.changes.iter().rev() {
            let title = show::line(&change.title());
            match change.undo(connection).await {
                Ok(()) => {
                    // What was undone is undone, whether somebody reads that or not.
                    let _ = writeln!(out, "  {title} {}", change.undone());
                    let _ = out.flush();
                }
                Err(Failure::Refused(why) | Failure::Error(why)) => {
                    left.push(format!("{title}: {}", show::line(&why)));
                }
                Err(Failure::Output(error)) => left.push(format!("{title}: {error}")),
            }
        }
        left
    }
}
