//! What was done, so that it can be undone: the last first, and also what may have been done without an answer.

use crate::bindings::{self, Binding};
use crate::connect::{Connection, NotDone};
use crate::outcome::Failure;
use crate::{send, show, wait};
use serde_json::Value;
use std::io::Write;
use stint::domain::request::Place;

/// One change, written down before it is made.
#[derive(Debug)]
pub enum Change {
    /// An AccessPolicy that was not there: its name, and what it says.
    Policy(String, Value),
    /// A request that was not there: its name, and what it asks for.
    Request(Place, String, Value),
    /// Subjects taken out of a binding.
    Binding(Box<Binding>),
}

impl Change {
    fn title(&self) -> String {
        match self {
            Self::Policy(name, _) => format!("AccessPolicy {name}"),
            Self::Request(place, name, _) => wait::title(place, name),
            Self::Binding(binding) => bindings::title(binding.namespace.as_deref(), &binding.name),
        }
    }

    async fn undo(&self, connection: &Connection, uid: Option<&str>) -> Result<(), Failure> {
        match self {
            Self::Policy(name, wanted) => send::policy_back(connection, name, uid, wanted).await,
            Self::Request(place, name, wanted) => {
                send::request_back(connection, place, name, uid, wanted).await
            }
            Self::Binding(binding) => binding.put_back(connection).await,
        }
    }

    fn undone(&self) -> &'static str {
        match self {
            Self::Policy(..) | Self::Request(..) => "deleted again",
            Self::Binding(_) => "is as it was",
        }
    }
}

/// A change of one of the bindings that are moved.
#[derive(Debug)]
struct Made {
    of: usize,
    change: Change,
    /// UID of what was created, once that is known.
    uid: Option<String>,
}

/// All changes of a run, in their order.
#[derive(Debug, Default)]
pub struct Journal {
    changes: Vec<Made>,
    of: usize,
}

impl Journal {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What follows belongs to the next binding.
    pub fn next_binding(&mut self) {
        self.of += 1;
    }

    /// Before a change.
    pub fn begin(&mut self, change: Change) {
        self.changes.push(Made {
            of: self.of,
            change,
            uid: None,
        });
    }

    /// After it: what was refused for certain is not there to be undone, and what was made is known by its UID.
    pub fn end<T>(
        &mut self,
        outcome: Result<T, NotDone>,
        uid: impl FnOnce(T) -> Option<String>,
    ) -> Result<(), Failure> {
        match outcome {
            Ok(made) => {
                if let Some(last) = self.changes.last_mut() {
                    last.uid = uid(made);
                }
                Ok(())
            }
            Err(not_done) => {
                if not_done.is_certain() {
                    self.changes.pop();
                }
                Err(not_done.failure)
            }
        }
    }

    /// Undoes everything that can be undone; what could not comes back, one line each. While a binding is not back, the grant that has
    /// taken its place stays.
    pub async fn undo(self, connection: &Connection, out: &mut impl Write) -> Vec<String> {
        let mut left = Vec::new();
        let mut stays = None;
        for made in self.changes.iter().rev() {
            let title = show::line(&made.change.title());
            if stays == Some(made.of) {
                left.push(format!("{title} stays, for it gives what the binding gave"));
                continue;
            }
            match made.change.undo(connection, made.uid.as_deref()).await {
                Ok(()) => {
                    // What was undone is undone, whether somebody reads that or not.
                    let _ = writeln!(out, "  {title} {}", made.change.undone());
                    let _ = out.flush();
                }
                Err(failure) => {
                    if matches!(made.change, Change::Binding(_)) {
                        stays = Some(made.of);
                    }
                    left.push(format!("{title}: {}", show::line(&failure.text())));
                }
            }
        }
        left
    }
}
