//! When to renew what. Pure: `now` is a parameter.

use crate::tls::issue::{Bundle, CA_LIFE, IssueError, LEAF_LIFE};
use jiff::{SignedDuration, Timestamp};

/// What to do about a certificate.
#[derive(Debug)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Store and serve this one.
    Renew {
        /// The new certificates.
        bundle: Box<Bundle>,
        /// Why, in a few words.
        reason: &'static str,
    },
}

/// Renewed when this much of its life is left: a third.
fn due(not_after: Timestamp, life: SignedDuration, now: Timestamp) -> bool {
    not_after.duration_since(now) <= life / 3
}

/// The next step for the stored certificates, if there are any.
///
/// A new authority is issued while the old one still has a third of its life; the old one stays in the bundle, so that
/// leaves of both are trusted until every replica serves the new one.
pub fn next(
    current: Option<&Bundle>,
    names: &[String],
    now: Timestamp,
) -> Result<Step, IssueError> {
    let Some(bundle) = current else {
        return renew(Bundle::issue(names, None, now)?, "there was none");
    };
    if now >= bundle.ca_not_after {
        return renew(Bundle::issue(names, None, now)?, "the authority has ended");
    }
    if due(bundle.ca_not_after, CA_LIFE, now) {
        let fresh = Bundle::issue(names, Some(&bundle.ca_pem), now)?;
        return renew(fresh, "the authority ends soon");
    }
    if bundle.names != names {
        return renew(bundle.with_leaf(names, now)?, "the names changed");
    }
    if due(bundle.leaf_not_after, LEAF_LIFE, now) {
        return renew(bundle.with_leaf(names, now)?, "the certificate ends soon");
    }
    Ok(Step::Keep)
}

fn renew(bundle: Bundle, reason: &'static str) -> Result<Step, IssueError> {
    Ok(Step::Renew {
        bundle: Box::new(bundle),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        "2026-12-01T12:00:00Z".parse().unwrap()
    }

    fn after(days: i64) -> Timestamp {
        start() + SignedDuration::from_hours(24 * days)
    }

    fn names(name: &str) -> Vec<String> {
        vec![name.to_owned()]
    }

    fn renewed(
        current: Option<&Bundle>,
        name: &str,
        now: Timestamp,
    ) -> Option<(Bundle, &'static str)> {
        match next(current, &names(name), now).unwrap() {
            Step::Keep => None,
            Step::Renew { bundle, reason } => Some((*bundle, reason)),
        }
    }

    #[test]
    fn renews_leaf_and_authority_in_time_and_only_then() {
        let (first, _) = renewed(None, "a", start()).unwrap();
        assert!(renewed(Some(&first), "a", after(19)).is_none());
        let (leaf, reason) = renewed(Some(&first), "a", after(20)).unwrap();
        assert_eq!(
            (leaf.ca_pem == first.ca_pem, reason),
            (true, "the certificate ends soon")
        );
        let (other, reason) = renewed(Some(&first), "b", after(1)).unwrap();
        assert_eq!(
            (other.ca_pem == first.ca_pem, reason),
            (true, "the names changed")
        );
        let (ca, reason) = renewed(Some(&first), "a", after(244)).unwrap();
        assert_eq!(reason, "the authority ends soon");
        assert_eq!(
            ca.previous_ca_pem.as_ref(),
            Some(&first.ca_pem),
            "both are trusted"
        );
        assert!(ca.ca_bundle().contains(&first.ca_pem) && ca.ca_bundle().contains(&ca.ca_pem));
        let (late, _) = renewed(Some(&first), "a", after(366)).unwrap();
        assert_eq!(
            late.previous_ca_pem, None,
            "an ended authority is not trusted"
        );
    }
}
