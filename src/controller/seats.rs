//! What this process has approved and may not yet read back, by account: two requests decided at the same moment cannot
//! both take the last place, nor each pass for itself what they must not have together.

use crate::cluster::bindings::Binding;
use crate::cluster::facts::add_others;
use crate::domain::facts::{Facts, Held, HeldIn};
use crate::domain::grant::Grant;
use crate::domain::judge::{Approved, Verdict, judge};
use crate::domain::patterns::Patterns;
use crate::domain::request::Place;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Grants that this process has approved and not yet seen end, by account and then by UID.
#[derive(Debug, Default)]
pub struct Seats {
    taken: Mutex<HashMap<String, BTreeMap<String, Seat>>>,
}

/// What one of these grants gives.
#[derive(Debug)]
struct Seat {
    place: Place,
    name: String,
    patterns: Patterns,
    policy: String,
    held_since: Timestamp,
}

impl Seat {
    fn of(approved: &Approved) -> Self {
        Self {
            place: approved.grant().place().clone(),
            name: approved.grant().name().to_owned(),
            patterns: approved.patterns(),
            policy: approved.policy().name.clone(),
            held_since: approved.held_since(),
        }
    }
}

impl Seats {
    /// Judges with the true count of other grants, and takes a place in the same instant when the verdict grants one.
    /// `others` are the bindings of other grants of the account; a cache may not know the newest.
    pub fn judge(
        &self,
        grant: &Grant,
        facts: &mut Facts,
        others: &[Binding],
        now: Timestamp,
    ) -> Verdict {
        let account = grant.account().to_string();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seats = taken.remove(&account).unwrap_or_default();
        seats.remove(grant.uid());
        add_others(facts, others);
        let mut all: BTreeSet<&str> = others.iter().map(|b| b.grant.as_str()).collect();
        for (uid, seat) in &seats {
            all.insert(uid);
            add_seat(facts, seat, grant.place());
        }
        facts.active_others = all.len();
        let verdict = judge(grant, facts, now);
        if let Verdict::Granted(approved) = &verdict {
            seats.insert(grant.uid().to_owned(), Seat::of(approved));
        }
        if !seats.is_empty() {
            taken.insert(account, seats);
        }
        verdict
    }

    /// Gives a place back.
    pub fn leave(&self, grant: &Grant) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let account = grant.account().to_string();
        if let Some(seats) = taken.get_mut(&account) {
            seats.remove(grant.uid());
            if seats.is_empty() {
                taken.remove(&account);
            }
        }
    }

    /// Gives back the places of all grants whose objects are not among these.
    pub fn retain(&self, known: &HashSet<String>) {
        self.keep(|uid| known.contains(uid));
    }

    /// Gives back the place of a grant whose object is gone.
    pub fn forget(&self, uid: &str) {
        self.keep(|other| other != uid);
    }

    fn keep(&self, which: impl Fn(&str) -> bool) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, seats| {
            seats.retain(|uid, _| which(uid));
            !seats.is_empty()
        });
    }
}

/// What holds in the whole cluster holds in each namespace too, and not the other way.
fn add_seat(facts: &mut Facts, seat: &Seat, place: &Place) {
    facts.goes_on_since(&seat.policy, seat.held_since);
    let held = Held {
        by: format!("{} '{}'", seat.place.kind(), seat.name),
        patterns: seat.patterns,
    };
    match (&seat.place, place) {
        (Place::Namespace(own), Place::Cluster) => facts.held_in.push(HeldIn {
            namespace: own.clone(),
            held: vec![held],
        }),
        (own, _) if own == place || *own == Place::Cluster => facts.held.push(held),
        _ => {}
    }
}
