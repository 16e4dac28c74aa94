//! Who may write as the one that decides: the rules of a Lease, as client-go's leader election has them.
//!
//! Whether the Lease of another has run out is judged by how long this process has seen it unchanged, on a clock of its own
//! that never steps. The times written in it are for people: clocks of two machines are never compared.

use jiff::Timestamp;
use std::time::Duration;

/// How long a Lease lasts and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// After so long without renewal another may take the Lease; whole seconds.
    pub lease_duration: Duration,
    /// After so long without renewal its holder stops. Shorter than `lease_duration`, so that it stops first.
    pub renew_deadline: Duration,
    /// Pause between two looks at the Lease.
    pub retry_period: Duration,
}

/// Why terms cannot keep two from deciding at the same time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    /// A Lease counts whole seconds.
    #[error("the lease duration must be whole seconds, at least 1s")]
    Duration,
    /// The holder must stop before another begins.
    #[error("the lease duration must be longer than the renew deadline")]
    Deadline,
    /// Between two tries there must be time for a second one.
    #[error(
        "the renew deadline must be longer than 1.2 times the retry period, which must not be 0"
    )]
    Retry,
}

impl Terms {
    /// Checks what client-go checks.
    pub fn check(self) -> Result<Self, BadTerms> {
        if self.lease_duration.subsec_nanos() != 0 || self.lease_duration.is_zero() {
            return Err(BadTerms::Duration);
        }
        if self.lease_duration <= self.renew_deadline {
            return Err(BadTerms::Deadline);
        }
        if self.retry_period.is_zero() || self.renew_deadline <= self.retry_period.mul_f64(1.2) {
            return Err(BadTerms::Retry);
        }
        Ok(self)
    }
}

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when it was given back.
    pub holder: String,
    /// For how long without renewal.
    pub duration: Duration,
    /// When it came to this holder, by the holder's clock.
    pub acquired: Option<Timestamp>,
    /// When it was last renewed, by the holder's clock.
    pub renewed: Option<Timestamp>,
    /// How often it has changed hands.
    pub transitions: i32,
}

/// One who would like to hold the Lease, and what it knows. All `at` and `sent` are on its own monotonic clock.
#[derive(Debug)]
pub struct Candidate {
    identity: String,
    terms: Terms,
    seen: Option<(Record, Duration)>,
}

impl Candidate {
    /// One that knows nothing yet. The identity must be no other process's.
    pub fn new(identity: String, terms: Terms) -> Self {
        Self {
            identity,
            terms,
            seen: None,
        }
    }

    /// Its name in the Lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How it behaves.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// The Lease was read (`None`: there is none). Returns what to write into it to hold it from now on, or `None` while it
    /// is another's.
    pub fn look(&mut self, found: Option<Record>, at: Duration, now: Timestamp) -> Option<Record> {
        let Some(found) = found else {
            self.seen = None;
            return Some(self.record(now, now, 0));
        };
        if self.seen.as_ref().is_none_or(|(known, _)| *known != found) {
            self.seen = Some((found.clone(), at));
        }
        if found.holder == self.identity {
            return Some(self.record(found.acquired.unwrap_or(now), now, found.transitions));
        }
        let since = self.seen.as_ref().map_or(at, |(_, since)| *since);
        if !found.holder.is_empty() && at < since.saturating_add(self.lasts(&found)) {
            return None;
        }
        Some(self.record(now, now, found.transitions.saturating_add(1)))
    }

    /// A write was sent then and succeeded: until when its writer may decide. Others count from later, and for longer.
    pub fn holds_until(&self, sent: Duration) -> Duration {
        sent.saturating_add(self.terms.renew_deadline)
    }

    /// What to write so that another need not wait; `None` if there is nothing of ours to give back.
    pub fn resign(&self, found: Record, now: Timestamp) -> Option<Record> {
        (found.holder == self.identity).then(|| Record {
            holder: String::new(),
            duration: Duration::from_secs(1),
            acquired: Some(now),
            renewed: Some(now),
            transitions: found.transitions,
        })
    }

    /// A Lease that says no duration lasts as long as ours.
    fn lasts(&self, found: &Record) -> Duration {
        match found.duration.is_zero() {
            true => self.terms.lease_duration,
            false => found.duration,
        }
    }

    fn record(&self, acquired: Timestamp, renewed: Timestamp, transitions: i32) -> Record {
        Record {
            holder: self.identity.clone(),
            duration: self.terms.lease_duration,
            acquired: Some(acquired),
            renewed: Some(renewed),
            transitions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn terms() -> Terms {
        Terms {
            lease_duration: s(15),
            renew_deadline: s(10),
            retry_period: s(2),
        }
    }

    fn now() -> Timestamp {
        "2026-12-01T12:00:00Z".parse().unwrap()
    }

    fn candidate() -> Candidate {
        Candidate::new("me".into(), terms())
    }

    fn held_by(holder: &str, renewed: &str, transitions: i32) -> Record {
        Record {
            holder: holder.into(),
            duration: s(15),
            acquired: Some(now()),
            renewed: Some(renewed.parse().unwrap()),
            transitions,
        }
    }

    #[test]
    fn a_lease_that_is_not_there_is_made_and_one_given_back_is_taken() {
        let wanted = candidate().look(None, s(0), now()).unwrap();
        assert_eq!((wanted.holder.as_str(), wanted.transitions), ("me", 0));
        let free = held_by("", "2026-12-01T12:00:00Z", 4);
        let wanted = candidate().look(Some(free), s(0), now()).unwrap();
        assert_eq!((wanted.holder.as_str(), wanted.transitions), ("me", 5));
    }

    #[test]
    fn the_clock_of_another_counts_for_nothing() {
        for renewed in ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z"] {
            let mut me = candidate();
            let other = held_by("other", renewed, 0);
            assert_eq!(me.look(Some(other.clone()), s(100), now()), None);
            assert_eq!(me.look(Some(other.clone()), s(114), now()), None);
            assert!(me.look(Some(other), s(115), now()).is_some(), "{renewed}");
        }
    }

    #[test]
    fn each_renewal_begins_the_wait_anew() {
        let mut me = candidate();
        for n in 0..100 {
            let renewed = format!("2026-12-01T13:{:02}:{:02}Z", n / 60, n % 60);
            let other = held_by("other", &renewed, 0);
            assert_eq!(me.look(Some(other), s(14 * n), now()), None);
        }
    }

    #[test]
    fn the_holder_stops_before_another_can_begin() {
        // The holder writes at 0; another sees that at once, which is the worst case.
        let holder = candidate();
        let mut other = Candidate::new("other".into(), terms());
        let record = held_by("me", "2026-12-01T12:00:00Z", 0);
        let first = (0..60).find(|at| {
            let taken = other.look(Some(record.clone()), s(*at), now());
            taken.is_some()
        });
        assert!(holder.holds_until(s(0)) < s(first.unwrap()));
    }

    #[test]
    fn a_renewal_keeps_when_and_how_often_it_changed_hands() {
        let mine = held_by("me", "2026-12-01T12:00:00Z", 7);
        let later = now() + jiff::SignedDuration::from_secs(2);
        let wanted = candidate().look(Some(mine.clone()), s(2), later).unwrap();
        assert_eq!((wanted.acquired, wanted.transitions), (mine.acquired, 7));
        assert_eq!(wanted.renewed, Some(later));
    }

    #[test]
    fn only_what_is_ours_is_given_back() {
        let given = candidate().resign(held_by("me", "2026-12-01T12:00:00Z", 7), now());
        let given = given.unwrap();
        assert_eq!((given.holder.as_str(), given.transitions), ("", 7));
        let others = held_by("other", "2026-12-01T12:00:00Z", 7);
        assert_eq!(candidate().resign(others, now()), None);
    }

    #[test]
    fn a_lease_without_a_duration_is_waited_for() {
        let mut me = candidate();
        let other = Record {
            holder: "other".into(),
            ..Record::default()
        };
        assert_eq!(me.look(Some(other.clone()), s(0), now()), None);
        assert_eq!(me.look(Some(other.clone()), s(14), now()), None);
        assert!(me.look(Some(other), s(15), now()).is_some());
    }

    #[test]
    fn terms_under_which_two_could_decide_are_refused() {
        assert_eq!(terms().check(), Ok(terms()));
        let with = |lease, renew, retry| Terms {
            lease_duration: Duration::from_millis(lease),
            renew_deadline: Duration::from_millis(renew),
            retry_period: Duration::from_millis(retry),
        };
        assert_eq!(with(0, 0, 0).check(), Err(BadTerms::Duration));
        assert_eq!(with(1500, 900, 100).check(), Err(BadTerms::Duration));
        assert_eq!(with(10_000, 10_000, 2000).check(), Err(BadTerms::Deadline));
        assert_eq!(with(10_000, 2000, 2000).check(), Err(BadTerms::Retry));
        assert_eq!(with(10_000, 2000, 0).check(), Err(BadTerms::Retry));
    }
}
