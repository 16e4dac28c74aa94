//! Faults that tests inject, and the log of calls.

use jiff::Timestamp;
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    /// Virtual time of arrival.
    pub at: Timestamp,
    /// User of the client.
    pub user: String,
    /// Groups of the client.
    pub groups: Vec<String>,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Raw query.
    pub query: String,
    /// Plural, empty outside the resource API.
    pub resource: String,
    /// Namespace, if any.
    pub namespace: String,
    /// Object name, empty for a collection.
    pub name: String,
    /// Subresource.
    pub subresource: Option<String>,
    /// JSON body.
    pub body: Value,
    /// HTTP status; 0 while there is no answer.
    pub status: u16,
    pub(super) id: u64,
    pub(super) client: u64,
}

impl Call {
    /// Changes the cluster: all but reads and reviews.
    pub fn is_write(&self) -> bool {
        self.method != "GET" && !self.resource.ends_with("reviews")
    }

    /// A list, not a watch.
    pub fn is_list(&self) -> bool {
        self.method == "GET"
            && self.name.is_empty()
            && !self.resource.is_empty()
            && !self.is_watch()
    }

    /// A watch.
    pub fn is_watch(&self) -> bool {
        self.method == "GET"
            && (self.query.contains("watch=true") || self.query.contains("watch=1"))
    }
}

/// Chooses calls.
pub type Matcher = Box<dyn Fn(&Call) -> bool + Send>;

/// Calls of a method (any, if empty) to a resource (any, if empty).
pub fn on(method: &'static str, resource: &'static str) -> Matcher {
    Box::new(move |call| {
        (method.is_empty() || call.method == method)
            && (resource.is_empty() || call.resource == resource)
    })
}

/// What is done to a chosen call.
#[derive(Clone, Copy, Debug)]
pub enum Harm {
    /// Refused with this HTTP status, nothing done.
    Refuse(u16),
    /// Carried out after this time.
    Delay(Duration),
    /// Carried out after this time, also when nobody waits for the answer any more: what was under way in the network.
    Late(Duration),
    /// Never carried out, never answered.
    Hang,
}

/// What happens to one call.
pub(super) enum Fate {
    Proceed,
    Refuse(u16),
    Delay(Duration),
    Late(Duration),
    Hang,
    Cut(Arc<Notify>),
}

struct Rule {
    chosen: Matcher,
    harm: Harm,
    /// How often it still applies; `None` until healed.
    left: Option<u32>,
}

enum WriteHarm {
    Refuse(u16),
    Cut(Arc<Notify>),
}

/// Faults and log.
#[derive(Default)]
pub(super) struct Control {
    pub calls: Vec<Call>,
    pub ended_watches: u64,
    rules: Vec<Rule>,
    on_write: Vec<(u64, WriteHarm)>,
    writes: u64,
    dead: BTreeSet<u64>,
    clients: u64,
    ids: u64,
}

impl Control {
    pub fn new_client(&mut self) -> u64 {
        self.clients += 1;
        self.clients
    }

    pub fn log(&mut self, mut call: Call) -> u64 {
        self.ids += 1;
        call.id = self.ids;
        self.calls.push(call);
        self.ids
    }

    pub fn answered(&mut self, id: u64, status: u16) {
        // Newest first: a call is answered soon after it arrives.
        if let Some(call) = self.calls.iter_mut().rev().find(|c| c.id == id) {
            call.status = status;
        }
    }

    pub fn add_rule(&mut self, chosen: Matcher, harm: Harm, left: Option<u32>) {
        self.rules.push(Rule { chosen, harm, left });
    }

    pub fn refuse_write(&mut self, k: u64, status: u16) {
        self.on_write
            .push((self.writes + k, WriteHarm::Refuse(status)));
    }

    pub fn cut_write(&mut self, k: u64) -> Arc<Notify> {
        let cut = Arc::new(Notify::new());
        self.on_write
            .push((self.writes + k, WriteHarm::Cut(cut.clone())));
        cut
    }

    pub fn heal(&mut self) {
        self.rules.clear();
        self.on_write.clear();
    }

    pub fn kill(&mut self, client: u64) {
        self.dead.insert(client);
    }

    pub fn fate(&mut self, call: &Call) -> Fate {
        if self.dead.contains(&call.client) {
            return Fate::Hang;
        }
        if call.is_write() {
            self.writes += 1;
            let now = self.writes;
            if let Some(i) = self.on_write.iter().position(|(at, _)| *at == now) {
                return match self.on_write.remove(i).1 {
                    WriteHarm::Refuse(status) => Fate::Refuse(status),
                    WriteHarm::Cut(cut) => Fate::Cut(cut),
                };
            }
        }
        let Some(i) = self.rules.iter().position(|r| (r.chosen)(call)) else {
            return Fate::Proceed;
        };
        let harm = self.rules[i].harm;
        if let Some(left) = &mut self.rules[i].left {
            *left -= 1;
            if *left == 0 {
                self.rules.remove(i);
            }
        }
        match harm {
            Harm::Refuse(status) => Fate::Refuse(status),
            Harm::Delay(by) => Fate::Delay(by),
            Harm::Late(by) => Fate::Late(by),
            Harm::Hang => Fate::Hang,
        }
    }
}
