//! What each policy alone would answer to a request: for whoever asks without asking for it, by a dry run.

use crate::domain::facts::Facts;
use crate::domain::grant::Grant;
use crate::domain::judge::{NotYet, Verdict, judge};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Most policies that are told; an answer holds ten warnings.
const MAX_TOLD: usize = 8;

/// A line for each policy that selects the request, those that admit it first.
pub fn of_each_policy(grant: &Grant, mut facts: Facts, now: Timestamp) -> Vec<String> {
    let mut told = Vec::new();
    for one in std::mem::take(&mut facts.policies) {
        let name = one.0.name().to_owned();
        facts.policies = vec![one];
        let verdict = judge(grant, &facts, now);
        let refused = matches!(verdict, Verdict::Refused(_));
        if let Some(answer) = answer(verdict) {
            told.push((refused, format!("policy '{name}' {answer}")));
        }
    }
    told.sort_by_key(|(refused, _)| *refused);
    let mut told: Vec<String> = told.into_iter().map(|(_, words)| words).collect();
    let more = told.len().saturating_sub(MAX_TOLD);
    told.truncate(MAX_TOLD);
    if more > 0 {
        told.push(format!("and {more} more policies, which are not told"));
    }
    told
}

fn answer(verdict: Verdict) -> Option<String> {
    Some(match verdict {
        Verdict::Granted(_) => "admits this".to_owned(),
        Verdict::NotYet {
            why: NotYet::Scheduled(_),
            ..
        } => "admits this at its time".to_owned(),
        Verdict::NotYet {
            why: why @ NotYet::PendingApproval { .. },
            ..
        } => why.approval_words(),
        Verdict::NotYet {
            why: NotYet::NotReady(why),
            ..
        } => format!("cannot say yet: {why}"),
        Verdict::Refused(violations) => {
            let (first, more) = violations.split_first()?;
            let more: BTreeSet<&str> = more.iter().map(|violation| violation.code).collect();
            let more: String = more.iter().map(|code| format!(", {code}")).collect();
            format!("does not admit this: {first}{more}")
        }
        // It is over whatever policies say.
        Verdict::Over { .. } => return None,
    })
}
