//! What accounts were refused, as the report tells it: bounded, for whoever is refused chooses what is asked for.

use super::usage::Attempt;
use std::cmp::Reverse;
use stint::domain::usage::granted::target;
use stint::domain::usage::tally::{Account, Tally};
use stint::domain::usage::uses::Uses;
use stint::domain::window;

/// Most attempts that are listed.
const MAX_ATTEMPTS: usize = 500;
/// Most bytes of their words: names may be long, and the page has bounds.
const MAX_BYTES: usize = 64 << 10;

/// What was refused, how many requests that were, and how many of them are not in the list.
pub struct Refused {
    /// By account, what was tried most often first.
    pub attempts: Vec<Attempt>,
    /// Requests in all.
    pub requests: u64,
    /// Those that are in no entry.
    pub not_listed: u64,
}

/// From the sum of a log.
///
/// Each account has its turn with what it tried most often, before any has its second: one that tries thousands of things does
/// not push the others out.
pub fn all(tally: &Tally) -> Refused {
    let accounts = tally.accounts();
    let accounts: Vec<(&str, &Account)> = accounts.filter(|(_, one)| one.refused > 0).collect();
    let requests = accounts.iter().map(|(_, account)| account.refused).sum();
    let ranked = accounts.into_iter().flat_map(|(name, account)| {
        let mut attempts = of_account(name, account);
        attempts.sort_by_key(|attempt| (Reverse(attempt.requests), attempt.clone()));
        attempts.into_iter().enumerate()
    });
    let mut ranked: Vec<(usize, Attempt)> = ranked.collect();
    ranked.sort_by_key(|(rank, attempt)| (*rank, Reverse(attempt.requests)));
    let mut room = MAX_BYTES;
    let fits = |attempt: &Attempt| {
        let left = room.checked_sub(words(attempt));
        room = left.unwrap_or(room);
        left.is_some()
    };
    let ranked = ranked.into_iter().map(|(_, attempt)| attempt);
    let mut attempts: Vec<Attempt> = ranked.filter(fits).take(MAX_ATTEMPTS).collect();
    // By account, and of each what it tried most often first.
    attempts.sort_by(|a, b| {
        let often = Reverse(a.requests).cmp(&Reverse(b.requests));
        a.account.cmp(&b.account).then(often).then_with(|| a.cmp(b))
    });
    let listed: u64 = attempts.iter().map(|attempt| attempt.requests).sum();
    Refused {
        attempts,
        requests,
        not_listed: requests - listed,
    }
}

/// Bytes of what the requests chose.
fn words(attempt: &Attempt) -> usize {
    let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let chosen = attempt.verb.len() + attempt.resource.len();
    attempt.account.len() + chosen + of(&attempt.namespace) + of(&attempt.name)
}

fn of_account(name: &str, account: &Account) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for (key, entry) in account.denied() {
        let of = |object: Option<&str>, uses: &Uses| Attempt {
            account: name.to_owned(),
            verb: key.verb.to_owned(),
            resource: target(&key),
            namespace: (!key.place.is_empty()).then(|| key.place.to_owned()),
            name: object.map(str::to_owned),
            many_names: object.is_none() && entry.many,
            requests: uses.requests,
            first: uses.first.map(|at| window::round_down(at).to_string()),
            last: uses.last.map(|at| window::round_down(at).to_string()),
        };
        attempts.extend(entry.uses().map(|(object, uses)| of(object, uses)));
    }
    attempts
}
