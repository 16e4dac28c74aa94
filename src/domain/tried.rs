//! What the policies are asked about one end of a request, and what they answer.

use crate::domain::admit::{Ask, no_policy};
use crate::domain::approval::{self, Admitted};
use crate::domain::assess::Assessment;
use crate::domain::catalogue::Scope;
use crate::domain::completion;
use crate::domain::condition::Inputs;
use crate::domain::extension::{Edits, Extension, Settled, UNSETTLED};
use crate::domain::facts::Facts;
use crate::domain::grant::Grant;
use crate::domain::lifetime;
use crate::domain::policy::{Labels, Policy};
use crate::domain::receipt::Requester;
use crate::domain::rules::Rule;
use crate::domain::violation::Violation;
use jiff::Timestamp;
use std::sync::Arc;

/// One end of a request under judgement.
pub(crate) struct Case<'a> {
    /// When access would end.
    pub(crate) end: Timestamp,
    /// Who else asks for it than who made the request, and so is asked about too.
    pub(crate) asked: Option<&'a Extension>,
    /// How often the end was moved to later.
    extensions: u32,
    /// When the later end that is granted, or is to be, was asked for; if that was while access was in place.
    pub(crate) extended_at: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

impl<'a> Case<'a> {
    /// The end that is in place; for a request that is not active, the one that it asks for by now. `open` is whether a later
    /// one was asked for that is not granted.
    pub(crate) fn standing(facts: &'a Facts, end: Timestamp, open: bool, now: Timestamp) -> Self {
        let extension = facts.extension.as_ref();
        let asked = extension.filter(|_| facts.live.is_none());
        let told = extension.map_or(0, |extension| extension.count);
        let (extensions, extended_at) = match &facts.live {
            None => (told, None),
            // What was written of it before it was refused does not count.
            Some(live) if open => (
                live.edits.extensions.min(told.saturating_sub(1)),
                live.edits.extended_at,
            ),
            // The receipt cannot be forged; the record might be.
            Some(live) => {
                let at = extension.map(|extension| extension.at);
                let while_in_place = at.filter(|at| *at > live.since);
                (
                    live.edits.extensions.max(told),
                    while_in_place.or(live.edits.extended_at),
                )
            }
        };
        Self {
            end,
            asked,
            extensions,
            extended_at,
            now,
        }
    }

    /// A later end for a live grant.
    pub(crate) fn later(facts: &'a Facts, end: Timestamp, now: Timestamp) -> Self {
        let asked = facts.extension.as_ref();
        Self {
            end,
            asked,
            extensions: asked.map_or(0, |extension| extension.count),
            extended_at: asked.map(|extension| extension.at),
            now,
        }
    }

    /// Whether it is about a later end for a live grant.
    pub(crate) fn is_later(&self, facts: &Facts) -> bool {
        facts.live.is_some() && self.asked.is_some()
    }

    /// What the record says once this end is granted, for the spec as it is. The hash of that is worked out by who writes it.
    pub(crate) fn edits(&self, facts: &Facts) -> (Edits, Settled) {
        // The time of a grant that begins once more after a crash was promised for the spec before the edit.
        let promised = facts.live.is_none() && facts.promised_end.is_some() && self.asked.is_some();
        let settled = match promised {
            true => Settled::Was(Some(UNSETTLED.to_owned())),
            false => Settled::AsTheSpecIs,
        };
        let edits = Edits {
            spec_hash: None,
            extensions: self.extensions,
            extended_at: self.extended_at,
        };
        (edits, settled)
    }

    /// What conditions see as the present: for a live grant its beginning, but a later end is asked for now.
    fn present(&self, grant: &Grant, facts: &Facts) -> Timestamp {
        match self.is_later(facts) {
            true => self.now,
            false => lifetime::begins(grant, facts, self.now),
        }
    }
}

/// What the policies are asked, beside the request itself.
pub(crate) struct Question<'a> {
    pub(crate) rules: &'a [Rule],
    pub(crate) scope: Scope<'a>,
    pub(crate) found: &'a Assessment,
    pub(crate) case: &'a Case<'a>,
}

/// Any one satisfied policy is enough; otherwise every policy that was tried says why it refuses.
pub(crate) fn admitting_policy<'a>(
    grant: &Grant,
    facts: &'a Facts,
    question: &Question<'_>,
) -> Result<Admitted<'a>, Vec<Violation>> {
    let case = question.case;
    let no_labels = Labels::new();
    let account_labels = facts.account.as_ref().map_or(&no_labels, |a| &a.labels);
    let length = lifetime::length(grant, facts, case);
    let seen_by = |requester| Inputs {
        grant,
        rules: question.rules,
        duration: length,
        requester,
        namespace_labels: &facts.namespace_labels,
        account_uid: facts.account.as_ref().map_or("", |a| &a.uid),
        account_labels,
        workload: completion::acting(&facts.workload),
        risk: question.found.risk,
        now: case.present(grant, facts),
    };
    let inputs = seen_by(&facts.requester);
    let ask = Ask {
        account: grant.account(),
        account_labels,
        namespace: grant.home(),
        source: grant.source(),
        rules: question.rules,
        scope: question.scope,
        findings: &question.found.findings,
        combined: &question.found.combined,
        risk: question.found.risk,
        length,
        length_path: grant.end().path(),
        whole: lifetime::whole(grant, facts, case),
        extensions: case.extensions,
        not_after: case.end,
        held_since: case.now,
        urgency: grant.urgency(),
        too_late: None,
        ticket: grant.ticket(),
        active_others: facts.active_others,
        inputs: &inputs,
    };
    let of = |policy: &Policy| Ask {
        held_since: lifetime::held_since(grant, facts, policy, case.now),
        too_late: Some(lifetime::pending_until(grant, facts, policy))
            .filter(|until| facts.live.is_none() && case.now >= *until),
        ..ask
    };
    let extender = Extender {
        extension: case.asked,
        inputs: case.asked.map(|extension| seen_by(&extension.by)),
    };
    // Before anything is written about those that refuse. A live grant stays with its policy while that admits it: a kill
    // switch must not miss it because another policy would do as well.
    let recorded = facts.live.as_ref().map(|live| live.policy.as_str());
    let own = |(policy, _): &&(Arc<Policy>, bool)| Some(policy.name()) == recorded;
    let admitting = facts
        .policies
        .iter()
        .filter(own)
        .chain(&facts.policies)
        .filter(|(policy, may_use)| *may_use && policy.admits(&of(policy)))
        .filter(|(policy, _)| extender.refusals(policy, &ask).is_empty())
        .map(|(policy, _)| &**policy);
    let mut refusals = match approval::best(grant, facts, case.is_later(facts), admitting) {
        Ok(admitted) => return Ok(admitted),
        Err(unapproved) => unapproved,
    };
    for (policy, may_use) in &facts.policies {
        let mut wrong = policy.refusals(&of(policy));
        if !may_use {
            wrong.insert(0, may_not_use(policy, &facts.requester));
        }
        wrong.extend(extender.refusals(policy, &ask));
        refusals.extend(wrong);
    }
    if facts.policies.is_empty() {
        refusals.push(no_policy(grant, facts));
    }
    Err(refusals)
}

fn may_not_use(policy: &Policy, who: &Requester) -> Violation {
    let message = format!(
        "may be used only by those who have the verb `use` on accesspolicies '{}'; '{}' has not",
        policy.name(),
        who.username
    );
    policy.violation("WA-REQUESTER", "spec", message)
}

/// Who moved an end to later: they must be able to ask for it themselves.
struct Extender<'a> {
    extension: Option<&'a Extension>,
    inputs: Option<Inputs<'a>>,
}

impl Extender<'_> {
    fn refusals(&self, policy: &Policy, ask: &Ask<'_>) -> Vec<Violation> {
        let (Some(extension), Some(inputs)) = (self.extension, &self.inputs) else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        if !extension.may_use.contains(policy.name()) {
            wrong.push(may_not_use(policy, &extension.by));
        }
        // What holds for the requester was looked at with everything else.
        if extension.by != *ask.inputs.requester {
            policy.conditions(&Ask { inputs, ..*ask }, &mut wrong);
        }
        wrong
    }
}
