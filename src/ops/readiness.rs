//! Readiness as a sum of gates, liveness as heartbeats.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The gates that must be open before the process calls itself ready.
#[derive(Debug, Default)]
pub struct Readiness {
    pending: Arc<Mutex<Vec<&'static str>>>,
}

/// Something that must be done first. Dropping it without [`Gate::open`] leaves the process unready for good.
#[derive(Debug)]
#[must_use = "a gate that nobody opens keeps the process unready"]
pub struct Gate {
    name: &'static str,
    pending: Arc<Mutex<Vec<&'static str>>>,
}

impl Readiness {
    /// Ready, until a gate is added.
    pub fn new() -> Self {
        Self::default()
    }

    /// A closed gate.
    pub fn gate(&self, name: &'static str) -> Gate {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name);
        Gate {
            name,
            pending: Arc::clone(&self.pending),
        }
    }

    /// Names of the gates that are still closed.
    pub fn pending(&self) -> Vec<&'static str> {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Gate {
    /// Opens the gate for good.
    pub fn open(self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = pending.iter().position(|name| *name == self.name) {
            pending.remove(at);
        }
    }
}

/// Longest silence of a loop before the process counts as stuck. The deadline queue wakes every 30 s.
const STALE: SignedDuration = SignedDuration::from_secs(120);

/// Heartbeats of the loops that must never stop.
#[derive(Debug, Default)]
pub struct Liveness {
    beats: Mutex<BTreeMap<&'static str, Timestamp>>,
}

impl Liveness {
    /// No loop is watched yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The loop `name` is alive at `now`.
    pub fn beat(&self, name: &'static str, now: Timestamp) {
        self.beats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, now);
    }

    /// Names of the loops that have been silent for two minutes.
    pub fn stale(&self, now: Timestamp) -> Vec<&'static str> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = beats
            .iter()
            .filter(|(_, at)| now.duration_since(**at) > STALE);
        silent.map(|(name, _)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_gate_is_open() {
        let readiness = Readiness::new();
        let (a, b) = (readiness.gate("a"), readiness.gate("b"));
        a.open();
        assert_eq!(readiness.pending(), ["b"]);
        b.open();
        assert!(readiness.pending().is_empty());
    }

    #[test]
    fn a_silent_loop_is_named() {
        let liveness = Liveness::new();
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        liveness.beat("queue", now);
        assert!(
            liveness
                .stale(now + SignedDuration::from_secs(120))
                .is_empty()
        );
        assert_eq!(
            liveness.stale(now + SignedDuration::from_secs(121)),
            ["queue"]
        );
    }
}
