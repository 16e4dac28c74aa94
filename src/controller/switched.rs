//! Grants that a kill switch ended, until their requests say so. Lifting the suspension in between must not let one of
//! them go on, nor be told as anything else.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The policy whose suspension ended it, by the UID of the request.
#[derive(Debug, Default)]
pub struct Switched {
    by: Mutex<HashMap<String, String>>,
}

impl Switched {
    /// The suspension of `policy` ended this grant. The first one that did counts.
    pub fn remember(&self, grant: &str, policy: &str) {
        let mut by = self.lock();
        by.entry(grant.to_owned())
            .or_insert_with(|| policy.to_owned());
    }

    /// The policy whose suspension ended this grant.
    pub fn policy(&self, grant: &str) -> Option<String> {
        self.lock().get(grant).cloned()
    }

    /// The request says so, or is gone.
    pub fn forget(&self, grant: &str) {
        self.lock().remove(grant);
    }

    /// Forgets all grants whose requests are not among these.
    pub fn retain(&self, known: &HashSet<String>) {
        self.lock().retain(|grant, _| known.contains(grant));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
