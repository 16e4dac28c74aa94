//! When certificates are renewed: at two thirds of their life, so that an operator that was down for days still has time.

use jiff::{SignedDuration, Timestamp};

use super::bundle::Bundle;
use super::issue::{self, BACKDATE, CA_LIFE, IssueError, LEAF_LIFE, Profile};

/// For so long the authority of a bundle that was taken away is trusted beside the new one: until every replica serves the new one.
/// No longer, for who deletes it may do so because its key is known to others.
pub const PARTING: SignedDuration = SignedDuration::from_mins(5);

/// Most authorities that stay trusted beside a new one, however often bundles are taken away.
const MAX_PARTING: usize = 3;

/// What to do about the certificates now.
#[derive(Debug)]
pub enum Step {
    /// Nothing; nothing is written.
    Keep,
    /// Store this bundle, publish its [`Bundle::ca_bundle`], and only then serve it.
    Renew {
        /// The bundle to store.
        bundle: Box<Bundle>,
        /// Why.
        reason: Reason,
    },
}

/// Why certificates are renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There are none, or what is stored cannot be read.
    Absent,
    /// The authority has used up two thirds of its life, or is not valid yet.
    AuthorityDue,
    /// The server has other names now.
    NamesChanged,
    /// The server certificate has used up two thirds of its life, or is not valid yet.
    LeafDue,
    /// The authority before this one has expired and is no longer to be trusted.
    PreviousExpired,
}

impl Reason {
    /// One bounded word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::AuthorityDue => "authority_due",
            Self::NamesChanged => "names_changed",
            Self::LeafDue => "leaf_due",
            Self::PreviousExpired => "previous_expired",
        }
    }
}

/// Decides and makes the next bundle. Reads no clock and no cluster; the names of `profile` must be served.
///
/// # Errors
/// A name that is no name, or a failure of the random source.
pub fn next(
    current: Option<&Bundle>,
    profile: &Profile,
    now: Timestamp,
) -> Result<Step, IssueError> {
    let Some(current) = current else {
        return Ok(renew(issue::first(profile, now)?, Reason::Absent));
    };
    let Some(reason) = due(current, &profile.names, now) else {
        return Ok(Step::Keep);
    };
    let bundle = match reason {
        Reason::Absent | Reason::AuthorityDue => issue::renew_ca(current, profile, now)?,
        Reason::NamesChanged | Reason::LeafDue => {
            without_expired(issue::renew_leaf(current, profile, now)?, now)
        }
        Reason::PreviousExpired => without_expired(current.clone(), now),
    };
    Ok(renew(bundle, reason))
}

/// Makes the bundle that follows one whose Secret is gone or cannot be read. Its authority stays trusted for a while, and so does the one
/// before it: a replica may still serve a certificate of that one.
///
/// # Errors
/// As of [`next`].
pub fn after_loss(known: &Bundle, profile: &Profile, now: Timestamp) -> Result<Step, IssueError> {
    let known = without_expired(known.clone(), now);
    let mut bundle = issue::renew_ca(&known, profile, now)?;
    if let Some(previous) = &mut bundle.previous_ca {
        let before = known.previous_ca.iter().flat_map(|p| certificates(&p.pem));
        previous.pem.extend(before.take(MAX_PARTING - 1));
        previous.not_after = previous.not_after.min(issue::whole_second(now) + PARTING);
    }
    Ok(renew(bundle, Reason::Absent))
}

/// Each certificate, PEM.
fn certificates(pem: &str) -> impl Iterator<Item = &str> {
    pem.split_inclusive("-----END CERTIFICATE-----\n")
}

fn renew(bundle: Bundle, reason: Reason) -> Step {
    Step::Renew {
        bundle: Box::new(bundle),
        reason,
    }
}

fn due(current: &Bundle, names: &[String], now: Timestamp) -> Option<Reason> {
    if outside_use(current.ca_not_after, CA_LIFE, now) {
        Some(Reason::AuthorityDue)
    } else if sorted(&current.names) != sorted(names) {
        Some(Reason::NamesChanged)
    } else if outside_use(current.leaf_not_after, LEAF_LIFE, now) {
        Some(Reason::LeafDue)
    } else if previous_expired(current, now) {
        Some(Reason::PreviousExpired)
    } else {
        None
    }
}

/// Past two thirds of its life; or from the future, made by a clock that was wrong, and refused by the API server.
fn outside_use(not_after: Timestamp, life: SignedDuration, now: Timestamp) -> bool {
    let not_before = not_after - life - BACKDATE;
    now >= not_after - life / 3 || now < not_before
}

fn previous_expired(bundle: &Bundle, now: Timestamp) -> bool {
    bundle
        .previous_ca
        .as_ref()
        .is_some_and(|previous| previous.not_after <= now)
}

fn without_expired(mut bundle: Bundle, now: Timestamp) -> Bundle {
    if previous_expired(&bundle, now) {
        bundle.previous_ca = None;
    }
    bundle
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<_> = names.iter().collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::bundle::PreviousCa;
    use crate::tls::issue::KeyAlgorithm;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn start() -> Timestamp {
        "2026-11-01T12:00:00Z".parse().unwrap()
    }

    fn profile() -> Profile {
        Profile::of(&["stint.svc".into(), "127.0.0.1".into()])
    }

    fn day(n: i32) -> Timestamp {
        start() + DAY * n
    }

    fn step(current: &Bundle, at: Timestamp) -> Option<(Reason, Bundle)> {
        match next(Some(current), &profile(), at).unwrap() {
            Step::Keep => None,
            Step::Renew { bundle, reason } => Some((reason, *bundle)),
        }
    }

    #[test]
    fn a_table_of_times() {
        let second = SignedDuration::from_secs(1);
        let table = [
            (start(), None),
            (start() - BACKDATE, None),
            (start() - BACKDATE - second, Some(Reason::AuthorityDue)),
            (day(19), None),
            (day(20) - second, None),
            (day(20), Some(Reason::LeafDue)),
            (day(40), Some(Reason::LeafDue)),
            (day(243), Some(Reason::LeafDue)),
            (day(244), Some(Reason::AuthorityDue)),
            (day(400), Some(Reason::AuthorityDue)),
        ];
        let bundle = issue::first(&profile(), start()).unwrap();
        for (at, expected) in table {
            let reason = step(&bundle, at).map(|(reason, _)| reason);
            assert_eq!(reason, expected, "{at}");
        }
    }

    #[test]
    fn nothing_stored_makes_everything() {
        let Step::Renew { bundle, reason } = next(None, &profile(), start()).unwrap() else {
            panic!("there is nothing to keep");
        };
        assert_eq!(reason, Reason::Absent);
        assert_eq!(bundle.previous_ca, None);
        assert!(step(&bundle, start()).is_none());
    }

    #[test]
    fn what_was_taken_away_is_trusted_for_a_few_minutes_more() {
        let lost = issue::first(&profile(), start()).unwrap();
        let Step::Renew { bundle, reason } = after_loss(&lost, &profile(), start()).unwrap() else {
            panic!("there is nothing to keep");
        };
        assert_eq!(reason, Reason::Absent);
        assert_eq!(
            bundle.ca_bundle(),
            format!("{}{}", bundle.ca_pem, lost.ca_pem)
        );
        let last = start() + PARTING - SignedDuration::from_secs(1);
        assert!(step(&bundle, last).is_none());
        let (reason, alone) = step(&bundle, start() + PARTING).unwrap();
        assert_eq!(reason, Reason::PreviousExpired);
        assert_eq!(alone.ca_bundle(), bundle.ca_pem);
    }

    #[test]
    fn names_are_compared_without_order() {
        let bundle = issue::first(&profile(), start()).unwrap();
        let mut reversed = profile();
        reversed.names.reverse();
        assert!(matches!(
            next(Some(&bundle), &reversed, start()),
            Ok(Step::Keep)
        ));
        let other = Profile::of(&["other.svc".to_owned()]);
        let Ok(Step::Renew {
            bundle: new,
            reason,
        }) = next(Some(&bundle), &other, start())
        else {
            panic!("other names need another certificate");
        };
        assert_eq!((reason, &new.names), (Reason::NamesChanged, &other.names));
        assert_eq!(new.ca_pem, bundle.ca_pem);
    }

    #[test]
    fn a_year_of_daily_checks_never_serves_an_untrusted_or_expired_certificate() {
        let mut bundle = issue::first(&profile(), start()).unwrap();
        let mut authorities = 1;
        for n in 0..800 {
            if let Some((reason, new)) = step(&bundle, day(n)) {
                if reason == Reason::AuthorityDue {
                    authorities += 1;
                    assert!(new.ca_bundle().contains(&bundle.ca_pem), "day {n}");
                }
                bundle = new;
            }
            assert!(bundle.leaf_not_after > day(n + 9), "day {n}");
            assert!(bundle.leaf_not_after < bundle.ca_not_after, "day {n}");
            let old_gone = bundle
                .previous_ca
                .as_ref()
                .is_none_or(|p| p.not_after > day(n));
            assert!(old_gone, "day {n}: an expired authority is trusted");
        }
        assert_eq!(authorities, 4, "one each 244 days");
    }

    #[test]
    fn another_algorithm_counts_for_the_keys_that_are_made_next() {
        for algorithm in [KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519] {
            let wanted = Profile {
                key_algorithm: algorithm,
                ..profile()
            };
            let old = issue::first(&profile(), start()).unwrap();
            let at = |current: &Bundle, at: Timestamp| match next(Some(current), &wanted, at) {
                Ok(Step::Renew { bundle, .. }) => *bundle,
                other => panic!("{other:?}"),
            };
            // Two replicas that do not want the same would renew it in turn.
            let kept = next(Some(&old), &wanted, start());
            assert!(matches!(kept, Ok(Step::Keep)), "{algorithm:?}");
            let (leaf, all) = (at(&old, day(20)), at(&old, day(244)));
            assert_eq!(leaf.ca_key_pem, old.ca_key_pem);
            for key in [&leaf.key_pem, &all.key_pem, &all.ca_key_pem] {
                let key = rcgen::KeyPair::from_pem(key).unwrap();
                assert!(key.is_compatible(algorithm.signature()), "{algorithm:?}");
            }
            for bundle in [leaf, all] {
                Bundle::from_secret(&bundle.secret_data(), &bundle.annotations()).unwrap();
            }
        }
    }

    #[test]
    fn an_expired_old_authority_is_dropped_without_a_new_leaf() {
        let mut bundle = issue::first(&profile(), start()).unwrap();
        let pem = issue::first(&profile(), start()).unwrap().ca_pem;
        bundle.previous_ca = Some(PreviousCa {
            pem,
            not_after: day(3),
        });
        assert!(step(&bundle, day(2)).is_none());
        let (reason, new) = step(&bundle, day(3)).unwrap();
        assert_eq!(reason, Reason::PreviousExpired);
        assert_eq!((new.previous_ca, new.cert_pem), (None, bundle.cert_pem));
    }

    #[test]
    fn a_name_that_is_no_name_is_an_error() {
        let failed = next(None, &Profile::of(&["not a name".to_owned()]), start());
        assert!(matches!(failed, Err(IssueError::Name(_))));
    }
}
