//! How long to wait before a failed pass is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(300);

/// The pause after this many failures in a row (the first is 1): doubling from 200 ms, at most 5 minutes.
pub fn pause(failures: u32) -> Duration {
    FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_five_minutes() {
        let ms: Vec<u128> = [1, 2, 3, 12, u32::MAX].map(|n| pause(n).as_millis()).into();
        assert_eq!(ms, [200, 400, 800, 300_000, 300_000]);
    }
}
