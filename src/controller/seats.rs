//! Counts the grants of an account so that two requests decided at the same moment cannot both take the last place.

use crate::domain::facts::Facts;
use crate::domain::grant::Grant;
use crate::domain::judge::{Verdict, judge};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Grants that this process has approved and not yet seen end, by account.
#[derive(Debug, Default)]
pub struct Seats {
    taken: Mutex<HashMap<String, BTreeSet<String>>>,
}

impl Seats {
    /// Judges with the true count of other grants, and takes a place in the same instant when the verdict grants one.
    /// `others` are the grants that hold a binding; a cache may not know the newest.
    pub fn judge(
        &self,
        grant: &Grant,
        facts: &mut Facts,
        others: Vec<String>,
        now: Timestamp,
    ) -> Verdict {
        let account = grant.account().to_string();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeSet<String> = others.into_iter().collect();
        all.extend(taken.get(&account).into_iter().flatten().cloned());
        all.remove(grant.uid());
        facts.active_others = all.len();
        let verdict = judge(grant, facts, now);
        match verdict {
            Verdict::Granted(_) => {
                taken
                    .entry(account)
                    .or_default()
                    .insert(grant.uid().to_owned());
            }
            _ => leave(&mut taken, &account, grant.uid()),
        }
        verdict
    }

    /// Gives a place back.
    pub fn leave(&self, grant: &Grant) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        leave(&mut taken, &grant.account().to_string(), grant.uid());
    }

    /// Gives back the places of all grants whose objects are not among these.
    pub fn retain(&self, known: &HashSet<String>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, grants| {
            grants.retain(|uid| known.contains(uid));
            !grants.is_empty()
        });
    }

    /// Gives back the place of a grant whose object is gone.
    pub fn forget(&self, uid: &str) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, grants| {
            grants.remove(uid);
            !grants.is_empty()
        });
    }
}

fn leave(taken: &mut HashMap<String, BTreeSet<String>>, account: &str, uid: &str) {
    if let Some(grants) = taken.get_mut(account) {
        grants.remove(uid);
        if grants.is_empty() {
            taken.remove(account);
        }
    }
}
