//! What each policy alone would answer to a request: for whoever asks without asking for it, by a dry run.

use crate::domain::facts::Facts;
use crate::domain::grant::Grant;
use crate::domain::judge::{NotYet, Verdict, judge};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Most policies that are told; the API server passes ten warnings on.
const MAX_TOLD: usize = 8;

/// A line for each policy that selects the request.
pub fn of_each_policy(grant: &Grant, mut facts: Facts, now: Timestamp) -> Vec<String> {
    let policies = std::mem::take(&mut facts.policies);
    let more = policies.len().saturating_sub(MAX_TOLD);
    let mut told = Vec::new();
    for one in policies.into_iter().take(MAX_TOLD) {
        let name = one.0.name().to_owned();
        facts.policies = vec![one];
        if let Some(answer) = answer(judge(grant, &facts, now)) {
            told.push(format!("policy '{name}' {answer}"));
        }
    }
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
