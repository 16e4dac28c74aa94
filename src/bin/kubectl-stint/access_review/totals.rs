//! The numbers of a report.

use super::model::{Grant, Standing, Totals};
use std::collections::{BTreeMap, BTreeSet};

/// The word for a risk that nobody knows.
const UNKNOWN: &str = "Unknown";

/// The numbers of these.
pub fn of(grants: &[Grant], standing: &[Standing]) -> Totals {
    let live = || grants.iter().filter(|grant| grant.live);
    let holders = live().map(|grant| grant.account.as_str());
    let holders = holders.chain(standing.iter().map(|one| one.account.as_str()));
    let holders: BTreeSet<&str> = holders.collect();
    Totals {
        grants: grants.len(),
        live: live().count(),
        states: counted(grants.iter().map(|grant| grant.state.as_str())),
        live_by_risk: counted(live().map(|grant| word(grant.risk.as_deref()))),
        standing: standing.len(),
        standing_by_risk: counted(standing.iter().map(|one| word(one.risk.as_deref()))),
        standing_of_kubernetes: standing.iter().filter(|one| one.is_of_kubernetes()).count(),
        accounts: holders.len(),
        residual: grants.iter().filter(|g| g.residual.is_some()).count(),
        review_required: grants.iter().filter(|g| g.review_required).count(),
    }
}

fn word(risk: Option<&str>) -> &str {
    risk.unwrap_or(UNKNOWN)
}

fn counted<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for word in words {
        *counted.entry(word.to_owned()).or_default() += 1;
    }
    counted
}
