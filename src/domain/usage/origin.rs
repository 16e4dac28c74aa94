//! Of which cluster a log is. It carries no name of one, but the UIDs of accounts.
//!
//! An account has one UID from its creation to its deletion, and the API server takes no token of it under another
//! (`Validate` in Kubernetes' `pkg/serviceaccount/claims.go`). So one request proves that it was made elsewhere, if it arrived while
//! the account of that name had another UID here, or before there was this cluster at all.

use crate::domain::usage::event::Event;
use crate::domain::usage::period::Period;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// How long a token outlives its account in an API server's cache (10 s), and clocks of API servers may differ.
const SLACK: SignedDuration = SignedDuration::from_secs(60);
/// The API server logs its first requests before it makes `kube-system`, and may struggle for a while.
const BEGINNING: SignedDuration = SignedDuration::from_hours(1);
/// Different UIDs that are held against each other, in all and of one account. What is beyond is still held against the cluster.
const MAX_LIVES: usize = 50_000;
const MAX_OF_ONE: usize = 64;
/// Longest user name of an account (two names of Kubernetes), and longest UID, that are kept.
const MAX_USER: usize = 384;
const MAX_UID: usize = 128;

/// The cluster that a log is held against.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// When it began.
    since: Option<Timestamp>,
    /// Its accounts, by user name.
    accounts: HashMap<String, Account>,
}

/// An account of the cluster.
#[derive(Clone, Debug)]
struct Account {
    uid: String,
    created: Timestamp,
}

impl Cluster {
    /// One that began at this instant, if it is known: the creation of `kube-system`, which cannot be deleted.
    pub fn since(since: Option<Timestamp>) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    /// Adds a ServiceAccount.
    pub fn add(&mut self, namespace: &str, name: &str, uid: &str, created: Timestamp) {
        let account = Account {
            uid: uid.to_owned(),
            created,
        };
        let user = format!("system:serviceaccount:{namespace}:{name}");
        self.accounts.insert(user, account);
    }
}

/// Where an event stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log.
    pub source: Arc<str>,
    /// Its line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.line)
    }
}

/// Why a log is of another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// An account that has another UID here, and had it then.
    Account {
        /// Where that stands.
        place: Place,
        /// The user name.
        user: String,
        /// The UID there.
        there: String,
        /// The UID here.
        here: String,
        /// Since when.
        since: Timestamp,
    },
    /// An event that is older than the cluster.
    Older {
        /// Where that stands.
        place: Place,
        /// When it happened.
        at: Timestamp,
        /// When the cluster began.
        since: Timestamp,
    },
    /// Two logs in which an account has different UIDs at the same time.
    Mixed {
        /// The first event with either of them.
        places: [Place; 2],
        /// The user name.
        user: String,
        /// The UIDs.
        uids: [String; 2],
    },
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account {
                place,
                user,
                there,
                here,
                since,
            } => write!(
                f,
                "{place}: is of another cluster: '{user}' has the UID {there} there, and {here} here since {since}"
            ),
            Self::Older { place, at, since } => write!(
                f,
                "{place}: is of another cluster: the event is of {at:.0}, and this cluster began at {since}"
            ),
            Self::Mixed {
                places: [one, other],
                user,
                uids: [uid, another],
            } => write!(
                f,
                "{one} and {other} are of different clusters: '{user}' has the UID {uid} there and {another} here, at the same time"
            ),
        }
    }
}

/// What events say of where they come from.
#[derive(Debug, Default)]
pub struct Origin {
    cluster: Option<Cluster>,
    lives: HashMap<Box<str>, Vec<Life>>,
    kept: usize,
}

/// The time in which an account was seen with one UID.
#[derive(Debug)]
struct Life {
    uid: Box<str>,
    period: Period,
    place: Place,
}

impl Origin {
    /// Of events that are to be of this cluster; by default they are only to be of one and the same.
    pub fn of(cluster: Cluster) -> Self {
        Self {
            cluster: Some(cluster),
            ..Self::default()
        }
    }

    /// Whether there is a cluster to hold events against.
    pub fn is_known(&self) -> bool {
        self.cluster.is_some()
    }

    /// Takes in an event. True when its account has the UID that it has in the cluster.
    ///
    /// # Errors
    /// If the event cannot be of the cluster.
    pub fn add(&mut self, event: &Event<'_>, place: impl Fn() -> Place) -> Result<bool, Foreign> {
        let (user, uid) = (event.user.username.as_ref(), event.user.uid.as_ref());
        let text = event.request_received_timestamp.as_ref();
        let at = || text.parse::<Timestamp>().ok();
        let known = match &self.cluster {
            Some(cluster) => cluster.knows(user, uid, at, &place)?,
            None => false,
        };
        let kept = !uid.is_empty() && uid.len() <= MAX_UID && user.len() <= MAX_USER;
        if kept && user.starts_with("system:serviceaccount:") {
            self.live(user, uid, text, place);
        }
        Ok(known)
    }

    fn live(&mut self, user: &str, uid: &str, at: &str, place: impl Fn() -> Place) {
        let full = self.kept >= MAX_LIVES;
        if !self.lives.contains_key(user) && !full {
            self.lives.insert(user.into(), Vec::new());
        }
        let Some(lives) = self.lives.get_mut(user) else {
            return;
        };
        if let Some(life) = lives.iter_mut().find(|life| *life.uid == *uid) {
            return life.period.add(at);
        }
        if full || lives.len() >= MAX_OF_ONE {
            return;
        }
        let mut period = Period::default();
        period.add(at);
        lives.push(Life {
            uid: uid.into(),
            period,
            place: place(),
        });
        self.kept += 1;
    }

    /// Whether all of it can be of one cluster.
    ///
    /// # Errors
    /// If an account has two UIDs at the same time.
    pub fn end(&self) -> Result<(), Foreign> {
        let mut users: Vec<(&Box<str>, &Vec<Life>)> = self.lives.iter().collect();
        users.sort_by_key(|(user, _)| *user);
        for (user, lives) in users {
            let mut lives: Vec<&Life> = lives.iter().collect();
            lives.sort_by_key(|life| life.period.first());
            for pair in lives.windows(2) {
                if pair[0].goes_on_beside(pair[1]) {
                    return Err(Foreign::Mixed {
                        places: [pair[0].place.clone(), pair[1].place.clone()],
                        user: user.to_string(),
                        uids: [pair[0].uid.to_string(), pair[1].uid.to_string()],
                    });
                }
            }
        }
        Ok(())
    }
}

impl Cluster {
    fn knows(
        &self,
        user: &str,
        uid: &str,
        at: impl Fn() -> Option<Timestamp>,
        place: impl Fn() -> Place,
    ) -> Result<bool, Foreign> {
        let account = self.accounts.get(user).filter(|_| !uid.is_empty());
        if account.is_some_and(|account| account.uid == uid) {
            return Ok(true);
        }
        // What has no time proves nothing.
        let Some(at) = at() else { return Ok(false) };
        if let Some(since) = self.since.filter(|since| is_before(at, *since, BEGINNING)) {
            let place = place();
            return Err(Foreign::Older { place, at, since });
        }
        match account {
            Some(account) if is_before(account.created, at, SLACK) => Err(Foreign::Account {
                place: place(),
                user: user.to_owned(),
                there: uid.to_owned(),
                here: account.uid.clone(),
                since: account.created,
            }),
            _ => Ok(false),
        }
    }
}

impl Life {
    /// Whether an account that was first seen later was there while this one still was.
    fn goes_on_beside(&self, later: &Self) -> bool {
        let (last, first) = (self.period.last(), later.period.first());
        last.zip(first)
            .is_some_and(|(last, first)| is_before(first, last, SLACK))
    }
}

/// Whether one instant is before another by more than clocks and caches explain.
fn is_before(one: Timestamp, other: Timestamp, slack: SignedDuration) -> bool {
    one.saturating_add(slack).is_ok_and(|one| one < other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::event;

    const USER: &str = "system:serviceaccount:payments:migrator";

    fn at(time: &str) -> Timestamp {
        format!("2026-11-01T{time}Z").parse().unwrap()
    }

    /// A cluster from 11:00 on, with the account `payments/migrator` as `here` since 12:00.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::since(Some(at("11:00:00")));
        cluster.add("payments", "migrator", "here", at("12:00:00"));
        cluster
    }

    fn add(
        origin: &mut Origin,
        line: u64,
        user: &str,
        uid: &str,
        time: &str,
    ) -> Result<bool, String> {
        let text = format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","user":{{"username":"{user}","uid":"{uid}"}},"requestReceivedTimestamp":"2026-11-01T{time}.000000Z"}}"#
        );
        let place = || Place {
            source: "a.log".into(),
            line,
        };
        let events = event::read(text.as_bytes()).unwrap();
        let added = origin.add(&events.all()[0], place);
        added.map_err(|foreign| foreign.to_string())
    }

    fn one(user: &str, uid: &str, time: &str) -> Result<bool, String> {
        add(&mut Origin::of(cluster()), 7, user, uid, time)
    }

    #[test]
    fn an_account_with_its_own_uid_is_of_the_cluster() {
        assert_eq!(one(USER, "here", "13:00:00"), Ok(true));
        assert_eq!(one("jane", "here", "13:00:00"), Ok(false));
        assert_eq!(one(&format!("{USER}-2"), "other", "13:00:00"), Ok(false));
    }

    #[test]
    fn an_account_that_was_another_at_that_time_is_of_another_cluster() {
        let told = one(USER, "there", "12:01:01").unwrap_err();
        let expected = format!(
            "a.log:7: is of another cluster: '{USER}' has the UID there there, and here here since 2026-11-01T12:00:00Z"
        );
        assert_eq!(told, expected);
        // One that was deleted, and one whose token was still in a cache, had another UID in this cluster, too.
        for time in ["11:30:00", "12:01:00"] {
            assert_eq!(one(USER, "there", time), Ok(false));
        }
        // Nothing is known of one without a UID, as from a client certificate, or without a time.
        assert_eq!(one(USER, "", "13:00:00"), Ok(false));
        assert_eq!(one(USER, "there", "25:00:00"), Ok(false));
    }

    #[test]
    fn what_is_older_than_the_cluster_is_of_another() {
        let expected = "a.log:7: is of another cluster: the event is of 2026-11-01T09:59:59Z, and this cluster began at 2026-11-01T11:00:00Z";
        assert_eq!(one("jane", "", "09:59:59").unwrap_err(), expected);
        assert_eq!(one("jane", "", "10:00:00"), Ok(false));
    }

    #[test]
    fn a_log_full_of_uids_takes_no_memory() {
        let mut origin = Origin::default();
        for n in 0..MAX_OF_ONE + 10 {
            add(&mut origin, 1, USER, &format!("uid-{n}"), "12:00:00").unwrap();
        }
        add(&mut origin, 1, USER, &"u".repeat(MAX_UID + 1), "12:00:00").unwrap();
        let long = format!("{USER}-{}", "x".repeat(MAX_USER));
        add(&mut origin, 1, &long, "uid", "12:00:00").unwrap();
        assert_eq!((origin.kept, origin.lives.len()), (MAX_OF_ONE, 1));
    }

    #[test]
    fn two_uids_at_the_same_time_are_of_two_clusters() {
        let seen = |events: &[(&str, &str)]| {
            let mut origin = Origin::default();
            for ((uid, time), line) in events.iter().zip(1..) {
                assert_eq!(add(&mut origin, line, USER, uid, time), Ok(false));
            }
            origin.end().map_err(|foreign| foreign.to_string())
        };
        // Deleted and made again, twice, read in any order.
        let one_after_another = [
            ("c", "14:00:00"),
            ("a", "12:00:00"),
            ("b", "13:00:00"),
            ("a", "13:00:05"),
        ];
        assert_eq!(seen(&one_after_another), Ok(()));
        let expected = format!(
            "a.log:2 and a.log:1 are of different clusters: '{USER}' has the UID a there and b here, at the same time"
        );
        let beside = [("b", "12:30:00"), ("a", "12:00:00"), ("a", "13:00:00")];
        assert_eq!(seen(&beside), Err(expected));
    }
}
