//! Now, by the API server's clock.

use jiff::{SignedDuration, Timestamp};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A source of the present instant.
pub trait Clock: Send + Sync + 'static {
    /// Now, by the API server's clock as far as it is known.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment. It never steps, and where the system can tell, it also passes while the machine sleeps.
    fn monotonic(&self) -> Duration;

    /// Takes note of a response: sent and received by the local clock, dated by the server.
    fn observe(&self, _sent: Timestamp, _received: Timestamp, _date: Timestamp) {}

    /// The local clock, for [`Clock::observe`].
    fn local(&self) -> Timestamp {
        self.now()
    }

    /// What the clock of the machine shows at this moment, which nothing is decided by.
    fn wall(&self) -> Timestamp {
        self.now()
    }
}

/// The local clock, corrected by what the API server's `Date` headers prove.
///
/// The local clock is read once, at the start, and counted on from there: should somebody set it later, nothing ends early or
/// late because of that. A machine that is paused without noticing is behind until the next `Date`.
///
/// A `Date` has whole seconds, so each response proves only an interval for the difference between the clocks; the
/// intervals of many responses are intersected. Where the proven interval contains zero the local clock is believed,
/// which keeps expiry exact to the millisecond on machines with NTP; otherwise the nearest proven end is used.
#[derive(Debug)]
pub struct SystemClock {
    proven: Mutex<Option<Bounds>>,
    /// The local clock at the start, and [`since_boot`] then.
    start: (Timestamp, Duration),
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            proven: Mutex::default(),
            start: (Timestamp::now(), since_boot()),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// The server is ahead by at least this.
    least: SignedDuration,
    /// The server is ahead by at most this.
    most: SignedDuration,
    /// Local instant of the last observation.
    at: Timestamp,
}

/// Clocks drift apart: an old proof is worth less. 500 ppm is the most that NTP corrects by slewing (RFC 5905).
const DRIFT_PER_MILLION: i64 = 500;

impl Bounds {
    fn of(sent: Timestamp, received: Timestamp, date: Timestamp) -> Self {
        Self {
            least: date.duration_since(received),
            most: date.duration_since(sent) + SignedDuration::from_secs(1),
            at: received,
        }
    }

    fn relaxed(self, now: Timestamp) -> Self {
        let age = now.duration_since(self.at).abs();
        let micros = i64::try_from(age.as_millis()).unwrap_or(i64::MAX / DRIFT_PER_MILLION);
        let drift = SignedDuration::from_micros(micros.saturating_mul(DRIFT_PER_MILLION) / 1000);
        Self {
            least: self.least - drift,
            most: self.most + drift,
            at: self.at,
        }
    }

    /// Both proofs together; the newer alone when they contradict, as after a step of either clock.
    fn and(self, newer: Self) -> Self {
        let old = self.relaxed(newer.at);
        let both = Self {
            least: old.least.max(newer.least),
            most: old.most.min(newer.most),
            at: newer.at,
        };
        if both.least <= both.most { both } else { newer }
    }

    fn offset(self) -> SignedDuration {
        SignedDuration::ZERO.clamp(self.least, self.most)
    }
}

impl SystemClock {
    /// How far the API server's clock is ahead of ours, as far as it is proven.
    pub fn offset(&self) -> SignedDuration {
        let proven = *self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.map_or(SignedDuration::ZERO, Bounds::offset)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let local = self.local();
        local.saturating_add(self.offset()).unwrap_or(local)
    }

    fn monotonic(&self) -> Duration {
        since_boot()
    }

    fn observe(&self, sent: Timestamp, received: Timestamp, date: Timestamp) {
        let new = Bounds::of(sent, received, date);
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        *proven = Some(proven.map_or(new, |old| old.and(new)));
    }

    fn local(&self) -> Timestamp {
        let (start, since) = self.start;
        let passed = since_boot().saturating_sub(since);
        // Both fail in some thousands of years.
        let passed = SignedDuration::try_from(passed).unwrap_or_default();
        start.saturating_add(passed).unwrap_or(start)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// CLOCK_BOOTTIME, which counts suspended time; `std::time::Instant` is CLOCK_MONOTONIC, which does not.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is ever negative, and the nanoseconds are less than a second.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    /// The server is `ahead` ms ahead; we ask at these local times, with a round trip of 4 ms.
    fn estimate(ahead: i64, asked: &[i64]) -> SignedDuration {
        let clock = SystemClock::default();
        for ms in asked {
            let server = at(ms + 2 + ahead);
            let date = crate::domain::window::round_down(server);
            clock.observe(at(*ms), at(ms + 4), date);
        }
        clock.offset()
    }

    #[test]
    fn an_agreeing_clock_is_believed_exactly() {
        assert_eq!(estimate(0, &[0, 333, 1250, 2999]), SignedDuration::ZERO);
        assert_eq!(
            estimate(300, &[100]),
            SignedDuration::ZERO,
            "one Date cannot disprove 300 ms"
        );
    }

    #[test]
    fn a_wrong_clock_is_corrected_and_never_past_the_truth() {
        let asked: Vec<i64> = (0..40).map(|i| i * 137).collect();
        for ahead in [-3_600_000, -5_000, -400, 400, 5_000, 3_600_000] {
            let error = (estimate(ahead, &asked) - SignedDuration::from_millis(ahead)).as_millis();
            assert!(error.abs() <= 60, "ahead {ahead}: error {error} ms");
        }
    }

    #[test]
    fn a_local_clock_that_is_set_later_changes_nothing() {
        let day = SignedDuration::from_hours(24);
        let clock = SystemClock {
            start: (Timestamp::now() - day, since_boot()),
            ..SystemClock::default()
        };
        let ahead = Timestamp::now().duration_since(clock.now());
        assert!(
            ahead > day / 2,
            "the clock of the machine, by now a day ahead, was read again"
        );
    }

    #[test]
    fn a_step_of_the_clock_is_followed() {
        let clock = SystemClock::default();
        clock.observe(at(0), at(2), at(0));
        clock.observe(at(10_000), at(10_002), at(70_000));
        assert!(clock.offset() >= SignedDuration::from_secs(59));
    }
}
