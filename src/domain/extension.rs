//! Extension: the end of a request is moved after the request was made.
//!
//! An earlier end always counts. A later one is judged anew, for whoever made the request and for whoever moved its end, and
//! until it is granted the old end stands. What is in place says for which spec that end was granted ([`Edits`]).

use crate::domain::approval;
use crate::domain::facts::{Facts, Live};
use crate::domain::grant::{End, Grant};
use crate::domain::judge::{NotYet, Verdict};
use crate::domain::receipt::{Extended, Requester};
use crate::domain::violation::{Problem, Violation, render_lines};
use crate::domain::window;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// How often an end may be moved to later under a policy that sets no `limits.maxExtensions`.
pub const DEFAULT_MAX: i64 = 3;
/// A later end must be granted this long before the old one: what ends access must hear of it.
pub const LEAD: SignedDuration = SignedDuration::from_secs(1);
/// What the record of a grant says in place of a hash when a later end was written into part of it and is not granted any
/// more.
pub(crate) const UNSETTLED: &str = "none";

/// A later end that somebody asked for, as the receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Who.
    pub by: Requester,
    /// When.
    pub at: Timestamp,
    /// How often the end was moved to later, this time included.
    pub count: u32,
    /// Names of the policies that they may `use`; asked about only while the end is not granted ([`is_open`]).
    pub may_use: BTreeSet<String>,
}

impl From<Extended> for Extension {
    fn from(extended: Extended) -> Self {
        Self {
            by: extended.by,
            at: extended.at,
            count: extended.count,
            may_use: BTreeSet::new(),
        }
    }
}

/// What the record of a grant says about the end that is in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Hash of the spec that it was granted for. `None` in the record of a version that did not say so.
    pub spec_hash: Option<String>,
    /// How often the end had been moved to later.
    pub extensions: u32,
    /// When the last later end was asked for.
    pub extended_at: Option<Timestamp>,
}

/// For which spec an end is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// For the spec as it is.
    AsTheSpecIs,
    /// For the one that the record named.
    Was(Option<String>),
}

/// Why a later end is not in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// It is refused.
    Refused(Vec<Violation>),
    /// It waits.
    Waits(NotYet),
}

impl HeldBack {
    /// In words, with the end that was asked for.
    pub fn words(&self, asked: Timestamp) -> String {
        match self {
            Self::Refused(wrong) => {
                format!("the end {asked} is not granted: {}", render_lines(wrong))
            }
            Self::Waits(NotYet::NotReady(why)) => format!("the end {asked} {why}"),
            Self::Waits(why) => format!("the end {asked} {}", why.approval_words()),
        }
    }

    /// The hash that an approver must copy, if it waits for approvals.
    pub fn spec_hash(&self) -> Option<String> {
        match self {
            Self::Waits(NotYet::PendingApproval { spec_hash, .. }) => Some(spec_hash.clone()),
            _ => None,
        }
    }

    pub(crate) fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Granted(_) => None,
            Verdict::Refused(wrong) => Some(Self::Refused(wrong)),
            Verdict::NotYet { why, .. } => Some(Self::Waits(why)),
            Verdict::Over { why, .. } => {
                let why = format!("cannot be granted: {why}");
                Some(Self::Waits(NotYet::NotReady(why)))
            }
        }
    }
}

/// Whether the spec of a live grant is another than the one whose end is in place.
pub(crate) fn moved(grant: &Grant, live: &Live) -> bool {
    live.edits.spec_hash.as_deref() != Some(grant.spec_hash().as_str())
}

/// The end that the spec of a live grant asks for.
fn asked_end(grant: &Grant, live: &Live) -> Timestamp {
    match grant.end() {
        End::At(at) => at,
        End::After(length) => {
            let end = live.since.saturating_add(length).unwrap_or(live.since);
            window::round_down(end)
        }
    }
}

/// The end of a live grant that is in place, or that the spec was shortened to.
pub(crate) fn standing_end(grant: &Grant, live: &Live) -> Timestamp {
    match grant.end() {
        End::At(at) => live.not_after.min(at),
        // Of what was taken away the record may be gone, and with it from when a length counts.
        End::After(_) if !live.taken_away && moved(grant, live) => {
            live.not_after.min(asked_end(grant, live))
        }
        End::After(_) => live.not_after,
    }
}

/// The later end that a live grant was asked to have and has not.
pub(crate) fn later_end(grant: &Grant, facts: &Facts) -> Option<Timestamp> {
    let (live, _) = facts.live.as_ref().zip(facts.extension.as_ref())?;
    wanted(grant, live)
}

pub(crate) fn wanted(grant: &Grant, live: &Live) -> Option<Timestamp> {
    let asked = asked_end(grant, live);
    (asked > live.not_after && moved(grant, live)).then_some(asked)
}

/// Whether an end that was moved to later is not granted: of a request that is not active yet, or of a live grant that has the
/// old end.
pub fn is_open(extended: Option<&Extended>, grant: &Grant, live: Option<&Live>) -> bool {
    extended.is_some() && live.is_none_or(|live| wanted(grant, live).is_some())
}

/// The policy's terms aside, what a later end is held to.
pub(crate) fn bounds(
    grant: &Grant,
    facts: &Facts,
    end: Timestamp,
    now: Timestamp,
    wrong: &mut Vec<Violation>,
) {
    let Some(live) = &facts.live else {
        return;
    };
    let path = grant.end().path();
    if live.not_after.duration_since(now) < LEAD {
        let message = format!(
            "cannot be moved any more: access ends at {}; create another {}",
            live.not_after,
            grant.place().kind()
        );
        wrong.push(Violation::new("WA-WINDOW", path, Problem::Invalid, message));
    }
    let whole = end.duration_since(live.since);
    if whole > window::HARD_MAX + SignedDuration::from_secs(1) {
        let message = format!(
            "must be less than or equal to {} after the beginning, {}",
            window::show(window::HARD_MAX),
            live.since
        );
        let violation = Violation::new("WA-TOO-LONG", path, Problem::Invalid, message);
        wrong.push(violation.found(end.to_string()));
    }
    if let Some(who) = approval::denied(facts) {
        let message = format!("was denied by '{who}'; the end {} stands", live.not_after);
        let violation = Violation::new("WA-EXTENSIONS", path, Problem::Forbidden, message);
        wrong.push(violation.found(end.to_string()));
    }
}
