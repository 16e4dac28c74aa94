//! Times and lengths: parsing, rounding and the bounds that hold everywhere.

use crate::domain::violation::{Problem, Violation};
use jiff::{SignedDuration, Timestamp};

/// Longest grant that any policy can allow.
pub const HARD_MAX: SignedDuration = SignedDuration::from_hours(720);
/// Longest grant under a policy that sets no `limits.maxDuration`.
pub const DEFAULT_MAX: SignedDuration = SignedDuration::from_hours(8);
/// How long a request may wait to become active, counted from its receipt or its `notBefore`, under a policy
/// that asks for no approvals.
pub const PENDING: SignedDuration = SignedDuration::from_mins(10);
/// The same under a policy that asks for approvals and sets no time.
pub const DEFAULT_APPROVAL: SignedDuration = SignedDuration::from_hours(1);
/// The same at most, whatever a policy sets.
pub const MAX_APPROVAL: SignedDuration = SignedDuration::from_hours(720);
/// Added to the deadline of the Job, so that Stint itself ends a grant first when it is up.
pub const DEADLINE_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// Parses an RFC 3339 instant and rounds it down to whole seconds, the resolution of Kubernetes' `Time`.
///
/// Stricter than jiff's own parser: no space for the `T`, no missing offset, no leap second.
pub fn parse_instant(path: &str, text: &str) -> Result<Timestamp, Violation> {
    let invalid = || {
        Violation::new(
            "WA-WINDOW",
            path,
            Problem::Invalid,
            "must be an RFC 3339 instant, for example '2026-12-01T18:00:00Z'",
        )
        .found(text)
    };
    if !has_rfc3339_shape(text) {
        return Err(invalid());
    }
    let instant: Timestamp = text.parse().map_err(|_| invalid())?;
    Ok(round_down(instant))
}

fn has_rfc3339_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    let fixed = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let offset_ok = text.ends_with('Z')
        || (bytes.len() >= 25
            && matches!(bytes[bytes.len() - 6], b'+' | b'-')
            && bytes[bytes.len() - 3] == b':');
    bytes.len() >= 20
        && bytes.len() <= 40
        && text.is_ascii()
        && fixed.iter().all(|(at, sep)| bytes[*at] == *sep)
        && bytes[17..19] != *b"60"
        && offset_ok
}

/// The whole second at or before `instant`.
pub fn round_down(instant: Timestamp) -> Timestamp {
    let second = instant.as_nanosecond().div_euclid(1_000_000_000);
    // A second inside jiff's range stays inside it when rounded, except below the first one, which no grant reaches.
    Timestamp::from_second(second as i64).unwrap_or(Timestamp::MIN)
}

/// Parses a GEP-2257 duration (`([0-9]{1,5}(h|m|s|ms)){1,4}`), at least 1s.
pub fn parse_duration(path: &str, text: &str) -> Result<SignedDuration, Violation> {
    let invalid =
        |message: &str| Violation::new("WA-WINDOW", path, Problem::Invalid, message).found(text);
    let length = gep2257(text).ok_or_else(|| {
        invalid("must be a duration such as '30m', '8h' or '1h30m' (units h, m, s, ms)")
    })?;
    if length < SignedDuration::from_secs(1) {
        return Err(invalid("must be at least 1s"));
    }
    Ok(length)
}

fn gep2257(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut total = SignedDuration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) || parts == 4 {
            return None;
        }
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, length) = if rest.starts_with("ms") {
            (2, SignedDuration::from_millis(number))
        } else if rest.starts_with('h') {
            (1, SignedDuration::from_hours(number))
        } else if rest.starts_with('m') {
            (1, SignedDuration::from_mins(number))
        } else if rest.starts_with('s') {
            (1, SignedDuration::from_secs(number))
        } else {
            return None;
        };
        rest = &rest[unit..];
        total = total.checked_add(length)?;
        parts += 1;
    }
    (parts > 0).then_some(total)
}

/// A length as people write it: `8h`, `1h30m`, `90s`.
pub fn show(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds % 3600 / 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: String = parts
        .iter()
        .filter(|(n, _)| *n != 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_gep_2257_and_nothing_else() {
        let ok = |t: &str| parse_duration("spec.duration", t).map(show);
        assert_eq!(ok("30m").unwrap(), "30m");
        assert_eq!(ok("1h30m").unwrap(), "1h30m");
        assert_eq!(ok("1500ms").unwrap(), "1s");
        for bad in [
            "",
            "0s",
            "-1h",
            "1.5h",
            "1d",
            "h",
            "5",
            "999ms",
            "100000h",
            "1h1h1h1h1h",
            "1h ",
            "１h",
        ] {
            let refused = parse_duration("spec.duration", bad).unwrap_err();
            assert_eq!(refused.code, "WA-WINDOW", "{bad}");
        }
    }

    #[test]
    fn accepts_rfc_3339_and_rounds_down() {
        let at = |t: &str| parse_instant("spec.notAfter", t).map(|t| t.to_string());
        assert_eq!(
            at("2026-12-01T18:00:00.999Z").unwrap(),
            "2026-12-01T18:00:00Z"
        );
        assert_eq!(
            at("2026-12-01T18:00:00+23:59").unwrap(),
            "2026-11-30T18:01:00Z"
        );
        for bad in [
            "2026-12-01",
            "2026-12-01 18:00:00Z",
            "2026-12-01T18:00:00",
            "2026-13-01T18:00:00Z",
            "2026-12-01T18:00:60Z",
            "2026-12-01T18:00:00+25:61",
            "tomorrow",
            "2026-12-01T18:00:00Z\n",
            "99999-12-01T18:00:00Z",
            "2026-12-01T18:00:00[UTC]",
        ] {
            assert_eq!(
                parse_instant("p", bad).unwrap_err().code,
                "WA-WINDOW",
                "{bad}"
            );
        }
    }

    #[test]
    fn rounds_towards_the_past_also_before_1970() {
        let t: Timestamp = "1969-12-31T23:59:58.5Z".parse().unwrap();
        assert_eq!(round_down(t).to_string(), "1969-12-31T23:59:58Z");
    }
}
