//! Whether the process may get work (readiness) and whether it still does any (liveness).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Everything that must be true before requests may arrive. Clones share their gates.
///
/// All gates are made before the admin server starts: without gates, the process is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<Gate>>>,
}

impl Readiness {
    /// Ready, as long as nobody asks for a gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new condition, closed at first. One that is dropped unopened keeps the process unready.
    #[must_use = "the process is not ready until the gate is opened"]
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate {
            name,
            open: Arc::new(AtomicBool::new(false)),
            remark: Arc::default(),
        };
        lock(&self.gates).push(gate.clone());
        gate
    }

    /// What `/readyz` says: closed gates, with what is known about each, and what is said about open ones.
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        for gate in lock(&self.gates).iter() {
            let remark = lock(&gate.remark).clone();
            match (gate.open.load(Ordering::Acquire), remark.is_empty()) {
                (true, true) => {}
                (true, false) => report
                    .warnings
                    .push(format!("warning: {}: {remark}", gate.name)),
                (false, true) => report.missing.push(gate.name.to_owned()),
                (false, false) => report.missing.push(format!("{}: {remark}", gate.name)),
            }
        }
        report
    }

    /// Names of the closed gates, in the order they were made; empty means ready.
    pub fn pending(&self) -> Vec<&'static str> {
        lock(&self.gates)
            .iter()
            .filter(|gate| !gate.open.load(Ordering::Acquire))
            .map(|gate| gate.name)
            .collect()
    }
}

/// One condition of [`Readiness`].
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    open: Arc<AtomicBool>,
    remark: Arc<Mutex<String>>,
}

/// What is missing, and what works and yet needs somebody; one line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why the process is not ready; empty when it is.
    pub missing: Vec<String>,
    /// What people must know although it is.
    pub warnings: Vec<String>,
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Says something about the condition, whether it holds or not; nothing, if it is empty.
    pub fn remark(&self, text: &str) {
        text.clone_into(&mut lock(&self.remark));
    }

    /// The condition no longer holds, for example because the process is about to stop.
    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
    }
}

/// Loops that must keep turning. Clones share their hearts.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    hearts: Arc<Mutex<Vec<Heart>>>,
}

impl Liveness {
    /// Alive, as long as nobody asks for a heart.
    pub fn new() -> Self {
        Self::default()
    }

    /// A loop that beats at least once in `every`; the first beat is now.
    pub fn heart(&self, name: &'static str, every: Duration) -> Heart {
        let heart = Heart {
            name,
            every,
            last: Arc::new(Mutex::new(Instant::now())),
        };
        lock(&self.hearts).push(heart.clone());
        heart
    }

    /// Names of the loops whose last beat is too long before `now`; empty means alive.
    pub fn stale(&self, now: Instant) -> Vec<&'static str> {
        lock(&self.hearts)
            .iter()
            .filter(|heart| now.saturating_duration_since(*lock(&heart.last)) > heart.every)
            .map(|heart| heart.name)
            .collect()
    }
}

/// One loop of [`Liveness`].
#[derive(Clone, Debug)]
pub struct Heart {
    name: &'static str,
    every: Duration,
    last: Arc<Mutex<Instant>>,
}

impl Heart {
    /// The loop has turned once more.
    pub fn beat(&self) {
        *lock(&self.last) = Instant::now();
    }
}

/// The values behind these locks are whole after each statement, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_each_gate_is_open() {
        let readiness = Readiness::new();
        assert!(readiness.pending().is_empty());
        let certificate = readiness.gate("certificate");
        let stores = readiness.gate("stores");
        assert_eq!(readiness.pending(), ["certificate", "stores"]);
        stores.open();
        assert_eq!(readiness.clone().pending(), ["certificate"]);
        certificate.open();
        assert!(readiness.pending().is_empty());
        stores.close();
        assert_eq!(readiness.pending(), ["stores"]);
    }

    #[test]
    fn what_is_said_about_a_gate_is_shown_open_or_closed() {
        let readiness = Readiness::new();
        let certificate = readiness.gate("certificate");
        certificate.remark("the key does not fit");
        let said = "certificate: the key does not fit";
        assert_eq!(readiness.report().missing, [said]);
        certificate.open();
        let report = readiness.report();
        assert_eq!(report.warnings, [format!("warning: {said}")]);
        assert!(report.missing.is_empty());
        certificate.remark("");
        assert_eq!(readiness.report(), Report::default());
    }

    #[test]
    fn a_gate_that_is_dropped_stays_closed() {
        let readiness = Readiness::new();
        drop(readiness.gate("stores"));
        assert_eq!(readiness.pending(), ["stores"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_stale_after_its_time_and_recovers() {
        let every = Duration::from_secs(60);
        let liveness = Liveness::new();
        let expiry = liveness.heart("expiry", every);
        let _watch = liveness.heart("watch", every * 2);
        assert!(liveness.stale(Instant::now()).is_empty());

        tokio::time::advance(every).await;
        assert!(liveness.stale(Instant::now()).is_empty(), "just in time");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(liveness.stale(Instant::now()), ["expiry"]);

        expiry.beat();
        assert!(liveness.stale(Instant::now()).is_empty());
        tokio::time::advance(every * 3).await;
        assert_eq!(liveness.stale(Instant::now()), ["expiry", "watch"]);
    }
}
