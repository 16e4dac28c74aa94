//! The sum of all requests: by account, place and right, with the bindings that allowed them.
//!
//! Order does not matter, and memory is bounded by what is different, not by how often it was asked for.

use crate::domain::rules::Request;
use crate::domain::usage::request::{Asked, Decision, Seen};
use crate::domain::usage::uses::{Entry, earlier};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// Different rights and names that are kept in all.
pub const MAX_KEPT: isize = 200_000;
/// Different refused rights and names that are kept for one account.
const MAX_REFUSED: isize = 1_000;
/// The same for all accounts together: whoever is refused chooses what is asked for.
const MAX_REFUSED_IN_ALL: isize = 20_000;

/// The sum.
#[derive(Debug, Default)]
pub struct Tally {
    accounts: BTreeMap<String, Account>,
    reasons: Reasons,
    kept: isize,
    refused_kept: isize,
    full: bool,
}

/// One account.
#[derive(Debug, Default)]
pub struct Account {
    /// Requests that were allowed and are over.
    pub allowed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// When the first of both arrived.
    pub first: Option<Timestamp>,
    /// When the last did.
    pub last: Option<Timestamp>,
    /// Refused requests for more different rights and names than are kept.
    pub not_kept: u64,
    used: HashMap<Box<str>, Entry>,
    denied: HashMap<Box<str>, Entry>,
    denied_kept: isize,
}

/// A right in a place, as [`Account::used`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key<'a> {
    /// Namespace; empty for the whole cluster.
    pub place: &'a str,
    /// API group; empty for core.
    pub group: &'a str,
    /// Resource, with its subresource, or a path, which begins with `/`.
    pub target: &'a str,
    /// The verb.
    pub verb: &'a str,
}

impl<'a> Key<'a> {
    /// Whether it is one on a path.
    pub fn is_path(&self) -> bool {
        self.target.starts_with('/')
    }

    /// The request of the authorizer that asks for it.
    pub fn request(&self, name: &'a str) -> Request<'a> {
        if self.is_path() {
            return Request::Path {
                verb: self.verb,
                path: self.target,
            };
        }
        let (resource, subresource) = self.target.split_once('/').unwrap_or((self.target, ""));
        Request::Resource {
            verb: self.verb,
            group: self.group,
            resource,
            subresource,
            name,
        }
    }

    /// Nothing that a rule can name has a NUL.
    fn of(text: &'a str) -> Self {
        let mut parts = text.split('\0');
        let mut next = || parts.next().unwrap_or_default();
        Self {
            place: next(),
            group: next(),
            target: next(),
            verb: next(),
        }
    }
}

/// Each reason once.
#[derive(Debug, Default)]
struct Reasons {
    index: HashMap<Box<str>, u32>,
    all: Vec<Box<str>>,
}

impl Reasons {
    /// Its index, and whether it is new.
    fn intern(&mut self, reason: &str) -> (u32, bool) {
        if let Some(known) = self.index.get(reason) {
            return (*known, false);
        }
        let next = self.all.len() as u32;
        self.index.insert(reason.into(), next);
        self.all.push(reason.into());
        (next, true)
    }
}

impl Tally {
    /// Adds one request. False when there is no room for anything new, and then for good.
    pub fn add(&mut self, seen: &Seen<'_>) -> bool {
        if self.full {
            return false;
        }
        let mut place = String::with_capacity(128);
        place.push_str(seen.namespace);
        place.push('/');
        place.push_str(seen.name);
        if !self.accounts.contains_key(&place) {
            self.kept += 1;
            self.accounts.insert(place.clone(), Account::default());
        }
        let Some(account) = self.accounts.get_mut(&place) else {
            return false;
        };
        let at: Option<Timestamp> = seen.at.parse().ok();
        account.arrived(at);
        let kept = match seen.decision {
            Decision::Allowed => {
                let (reason, new) = self.reasons.intern(seen.reason);
                self.kept += isize::from(new);
                account.allowed(seen, reason, at)
            }
            Decision::Refused => {
                let room = self.refused_kept < MAX_REFUSED_IN_ALL;
                let kept = account.refused(seen, room, at);
                self.refused_kept += kept;
                kept
            }
        };
        self.kept += kept;
        self.full = self.kept > MAX_KEPT;
        !self.full
    }

    /// The accounts, as `namespace/name`, in order.
    pub fn accounts(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.accounts
            .iter()
            .map(|(name, account)| (name.as_str(), account))
    }

    /// The account of this name, if the log has any request of it.
    pub fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.get(name)
    }

    /// The words of the authorizer behind the index of a [`crate::domain::usage::uses::By`].
    pub fn reason(&self, index: u32) -> &str {
        self.reasons
            .all
            .get(index as usize)
            .map_or("", |reason| reason)
    }
}

impl Account {
    fn arrived(&mut self, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        self.first = earlier(self.first, Some(at));
        self.last = self.last.max(Some(at));
    }

    fn allowed(&mut self, seen: &Seen<'_>, reason: u32, at: Option<Timestamp>) -> isize {
        let times = u64::from(seen.over);
        self.allowed += times;
        let mut kept = add(&mut self.used, seen, "", Some(reason), times, at);
        if !seen.also.is_empty() {
            kept += add(&mut self.used, seen, seen.also, Some(reason), times, at);
        }
        kept
    }

    fn refused(&mut self, seen: &Seen<'_>, room: bool, at: Option<Timestamp>) -> isize {
        if !seen.over {
            return 0;
        }
        self.refused += 1;
        let room = room && self.denied_kept < MAX_REFUSED;
        if !room && !is_kept(&self.denied, seen) {
            self.not_kept += 1;
            return 0;
        }
        let kept = add(&mut self.denied, seen, "", None, 1, at);
        self.denied_kept += kept;
        kept
    }

    /// What it used, in order.
    pub fn used(&self) -> Vec<(Key<'_>, &Entry)> {
        sorted(&self.used)
    }

    /// What was refused, in order.
    pub fn denied(&self) -> Vec<(Key<'_>, &Entry)> {
        sorted(&self.denied)
    }
}

fn sorted(entries: &HashMap<Box<str>, Entry>) -> Vec<(Key<'_>, &Entry)> {
    let mut all: Vec<_> = entries
        .iter()
        .map(|(key, entry)| (Key::of(key), entry))
        .collect();
    all.sort_unstable_by_key(|(key, _)| *key);
    all
}

/// Whether the right is known with the name, so that one more request for it takes no room.
fn is_kept(entries: &HashMap<Box<str>, Entry>, seen: &Seen<'_>) -> bool {
    let (key, name) = key(seen, "");
    let known = entries.get(key.as_str());
    known.is_some_and(|entry| name.is_empty() || entry.many || entry.names.contains_key(name))
}

/// Adds a use, of another verb than that of the request if one is named. Returns how much more is kept, or less.
fn add(
    entries: &mut HashMap<Box<str>, Entry>,
    seen: &Seen<'_>,
    also: &str,
    reason: Option<u32>,
    times: u64,
    at: Option<Timestamp>,
) -> isize {
    let (key, name) = key(seen, also);
    let mut kept = 0;
    let entry = match entries.get_mut(key.as_str()) {
        Some(entry) => entry,
        None => {
            kept += 1;
            entries.entry(key.into()).or_default()
        }
    };
    kept + entry.add(name, reason, times, at)
}

fn key<'a>(seen: &'a Seen<'_>, also: &str) -> (String, &'a str) {
    let mut key = String::with_capacity(128);
    let mut part = |text: &str, end: &str| {
        key.push_str(text);
        key.push_str(end);
    };
    part(seen.place, "\0");
    let name = match &seen.asked {
        Asked::Resource {
            verb,
            group,
            resource,
            subresource,
            name,
        } => {
            part(group, "\0");
            part(resource, if subresource.is_empty() { "" } else { "/" });
            part(subresource, "\0");
            part(if also.is_empty() { verb } else { also }, "");
            name
        }
        Asked::Path { verb, path } => {
            part("\0", "");
            part(path, "\0");
            part(verb, "");
            ""
        }
    };
    (key, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(verb: &'a str, name: &'a str, at: &'a str) -> Seen<'a> {
        Seen {
            namespace: "payments",
            name: "migrator",
            place: "payments",
            asked: Asked::Resource {
                verb,
                group: "",
                resource: "configmaps",
                subresource: "",
                name,
            },
            also: "",
            decision: Decision::Allowed,
            reason: "RBAC",
            over: true,
            at,
        }
    }

    const NOON: &str = "2026-12-01T12:00:00.000000Z";
    const LATER: &str = "2026-12-01T13:00:00.000000Z";

    fn told(tally: &Tally) -> String {
        let (name, account) = tally.accounts().next().unwrap();
        let used = account.used();
        let rights: Vec<String> = used
            .iter()
            .map(|(key, entry)| {
                let names: Vec<String> = entry
                    .uses()
                    .map(|(name, uses)| format!("{}:{}", name.unwrap_or("*"), uses.requests))
                    .collect();
                format!("{} {} {}", key.verb, key.target, names.join(","))
            })
            .collect();
        format!("{name} {} {}", account.allowed, rights.join("; "))
    }

    #[test]
    fn order_does_not_matter() {
        let all = [
            seen("get", "a", LATER),
            seen("get", "b", NOON),
            seen("list", "", NOON),
            seen("get", "a", NOON),
        ];
        let mut forth = Tally::default();
        all.iter().for_each(|seen| assert!(forth.add(seen)));
        let mut back = Tally::default();
        all.iter().rev().for_each(|seen| assert!(back.add(seen)));
        assert_eq!(
            told(&forth),
            "payments/migrator 4 get configmaps a:2,b:1; list configmaps *:1"
        );
        assert_eq!(told(&back), told(&forth));
        let (_, account) = back.accounts().next().unwrap();
        assert_eq!(
            (account.first, account.last),
            (NOON.parse().ok(), LATER.parse().ok())
        );
    }

    #[test]
    fn a_watch_that_goes_on_is_used_and_not_counted_twice() {
        let mut tally = Tally::default();
        tally.add(&Seen {
            over: false,
            ..seen("watch", "", NOON)
        });
        assert_eq!(told(&tally), "payments/migrator 0 watch configmaps *:0");
        tally.add(&seen("watch", "", NOON));
        assert_eq!(told(&tally), "payments/migrator 1 watch configmaps *:1");
    }

    #[test]
    fn memory_is_bounded() {
        let names: Vec<String> = (0..1000).map(|i| format!("n-{i}")).collect();
        let mut tally = Tally::default();
        names
            .iter()
            .for_each(|name| assert!(tally.add(&seen("get", name, NOON))));
        assert_eq!(told(&tally), "payments/migrator 1000 get configmaps *:1000");
        let refused = |name| Seen {
            decision: Decision::Refused,
            ..seen("get", name, NOON)
        };
        let verbs: Vec<String> = (0..5000).map(|i| format!("v-{i}")).collect();
        for verb in &verbs {
            let asked = Asked::Resource {
                verb,
                group: "",
                resource: "pods",
                subresource: "",
                name: "",
            };
            assert!(tally.add(&Seen {
                asked,
                ..refused("")
            }));
        }
        let (_, account) = tally.accounts().next().unwrap();
        assert_eq!(
            (account.refused, account.denied().len(), account.not_kept),
            (5000, 1000, 4000)
        );
        let accounts: Vec<String> = (0..MAX_KEPT).map(|i| format!("a-{i}")).collect();
        let taken = accounts
            .iter()
            .take_while(|name| {
                tally.add(&Seen {
                    name,
                    ..seen("get", "", NOON)
                })
            })
            .count();
        assert!(taken < 100_000, "{taken}");
    }
}
