//! The uses of one right: how often, when, on which objects, and by which reason. Memory is bounded by what is different.

use jiff::Timestamp;
use std::collections::BTreeMap;

/// Names that are kept for one right; with more, it counts as one on every object. A rule of a request holds no more.
pub const MAX_NAMES: usize = 64;
/// The uses of one right in one place.
#[derive(Debug, Default)]
pub struct Entry {
    /// On single objects, by name.
    pub names: BTreeMap<Box<str>, Uses>,
    /// Without a name, or on more names than are kept.
    pub unnamed: Uses,
    /// Whether a request came without a name.
    pub nameless: bool,
    /// Whether there were more names than are kept.
    pub many: bool,
}

/// How often, when last, and by what.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    /// Requests that are over.
    pub requests: u64,
    /// When the first one arrived.
    pub first: Option<Timestamp>,
    /// When the last one did.
    pub last: Option<Timestamp>,
    /// The same by reason.
    pub by: Vec<By>,
}

/// How often and when for one reason.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// Its index, for [`super::tally::Tally::reason`].
    pub reason: u32,
    /// Requests that are over.
    pub requests: u64,
    /// When the first one arrived.
    pub first: Option<Timestamp>,
    /// When the last one did.
    pub last: Option<Timestamp>,
}

impl Entry {
    /// Adds requests. Returns how much more is kept, or less.
    pub fn add(
        &mut self,
        name: &str,
        reason: Option<u32>,
        times: u64,
        at: Option<Timestamp>,
    ) -> isize {
        if name.is_empty() {
            self.nameless = true;
        }
        if name.is_empty() || self.many {
            self.unnamed.add(reason, times, at);
            return 0;
        }
        if let Some(uses) = self.names.get_mut(name) {
            uses.add(reason, times, at);
            return 0;
        }
        if self.names.len() < MAX_NAMES {
            self.names
                .entry(name.into())
                .or_default()
                .add(reason, times, at);
            return 1;
        }
        self.many = true;
        for uses in std::mem::take(&mut self.names).into_values() {
            self.unnamed.merge(uses);
        }
        self.unnamed.add(reason, times, at);
        -(MAX_NAMES as isize)
    }

    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.unnamed.requests + self.names.values().map(|uses| uses.requests).sum::<u64>()
    }

    /// When the last one arrived.
    pub fn last(&self) -> Option<Timestamp> {
        let named = self.names.values().filter_map(|uses| uses.last);
        named.chain(self.unnamed.last).max()
    }

    /// All uses; those without a name, or on too many, have none.
    pub fn uses(&self) -> impl Iterator<Item = (Option<&str>, &Uses)> {
        let named = self
            .names
            .iter()
            .map(|(name, uses)| (Some(name.as_ref()), uses));
        let unnamed = (self.nameless || self.many).then_some((None, &self.unnamed));
        named.chain(unnamed)
    }
}

impl Uses {
    fn add(&mut self, reason: Option<u32>, times: u64, at: Option<Timestamp>) {
        self.requests += times;
        self.first = earlier(self.first, at);
        self.last = self.last.max(at);
        if let Some(reason) = reason {
            self.by(By {
                reason,
                requests: times,
                first: at,
                last: at,
            });
        }
    }

    fn by(&mut self, more: By) {
        match self.by.iter_mut().find(|known| known.reason == more.reason) {
            Some(known) => {
                known.requests += more.requests;
                known.first = earlier(known.first, more.first);
                known.last = known.last.max(more.last);
            }
            None => {
                // Nearly always there is one.
                self.by.reserve_exact(1);
                self.by.push(more);
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.first = earlier(self.first, other.first);
        self.last = self.last.max(other.last);
        other.by.into_iter().for_each(|one| self.by(one));
    }
}

/// The earlier of two instants, of which any may be unknown.
pub fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}
