//! The one judgement. Webhook, controller and tools call [`judge`]; only it can make an [`Approved`].

use crate::api::workload_access::{EndReason, PolicyStamp, RoleReference};
use crate::domain::catalogue::{self, Scope};
use crate::domain::covers::Ceiling;
use crate::domain::facts::{AccountFacts, Facts, RoleFacts};
use crate::domain::grant::{End, Grant, Source};
use crate::domain::policy::{Ask, Labels, Policy};
use crate::domain::rules::{self, Rule};
use crate::domain::violation::{Problem, Violation, render_lines};
use crate::domain::window;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// The judgement.
#[derive(Debug)]
pub enum Verdict {
    /// May be materialised now.
    Granted(Box<Approved>),
    /// Nothing is wrong, but it is not time.
    NotYet {
        /// When to look again; unknown when it depends on an event.
        until: Option<Timestamp>,
        /// What is waited for.
        why: NotYet,
    },
    /// It ended, or never can begin.
    Over {
        /// Why.
        reason: EndReason,
        /// The same in words.
        why: String,
    },
    /// Must not be granted.
    Refused(Vec<Violation>),
}

/// What a request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// `notBefore` lies ahead.
    Scheduled(Timestamp),
    /// A fact that the decision needs is not known.
    NotReady(String),
}

/// Proof of a favourable judgement, with everything that is needed to materialise it. Made only by [`judge`].
#[derive(Debug)]
pub struct Approved {
    grant: Grant,
    account_uid: String,
    rules: Vec<Rule>,
    rules_hash: String,
    not_after: Timestamp,
    policy: PolicyStamp,
    requested_by: String,
}

impl Approved {
    /// The request.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
    /// UID of the account.
    pub fn account_uid(&self) -> &str {
        &self.account_uid
    }
    /// The rules to grant, canonical.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
    /// Hash of the rules.
    pub fn rules_hash(&self) -> &str {
        &self.rules_hash
    }
    /// When access ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
    /// The policy that admits it.
    pub fn policy(&self) -> &PolicyStamp {
        &self.policy
    }
    /// User name of the requester.
    pub fn requested_by(&self) -> &str {
        &self.requested_by
    }
}

/// Judges one request against the facts at `now`, by the API server's clock.
pub fn judge(grant: &Grant, facts: &Facts, now: Timestamp) -> Verdict {
    let not_after = not_after(grant, facts, now);
    if let Some((reason, why)) = over(grant, facts, not_after, now) {
        return Verdict::Over { reason, why };
    }
    if facts.ceiling.is_none() && facts.live.is_none() {
        let why = "the ClusterRole that says what Stint may grant is missing or empty".into();
        return Verdict::NotYet {
            until: None,
            why: NotYet::NotReady(why),
        };
    }
    let mut wrong = Vec::new();
    window(grant, facts, &mut wrong);
    let account = account(grant, facts, &mut wrong);
    let mut rules = granted_rules(grant, facts, &mut wrong);
    wrong.extend(catalogue_violations(grant, facts, &rules));
    if rules::atoms(&rules) > rules::MAX_ATOMS {
        // Refused for its size already; nothing that costs time per atom may see it.
        rules.clear();
    }
    // A live grant passed it when it began, and the API server checked it then: a ceiling that cannot be read for a moment
    // ends nothing.
    if let Some(ceiling) = &facts.ceiling {
        beyond_ceiling(grant, &rules, ceiling, &mut wrong);
    }
    let policy = match admitting_policy(grant, facts, &rules, length(grant, facts, now)) {
        Ok(policy) => Some(policy),
        Err(refusals) => {
            wrong.extend(refusals);
            None
        }
    };
    let (Some(account), Some(policy), true) = (account, policy, wrong.is_empty()) else {
        return no(facts, wrong);
    };
    if let Some(from) = grant.not_before()
        && now < from
    {
        return Verdict::NotYet {
            until: Some(from),
            why: NotYet::Scheduled(from),
        };
    }
    let rules = rules::canonical(&rules);
    Verdict::Granted(Box::new(Approved {
        grant: grant.clone(),
        account_uid: account.uid.clone(),
        rules_hash: rules::hash(&rules),
        rules,
        not_after,
        policy: policy.stamp().clone(),
        requested_by: facts.requester.username.clone(),
    }))
}

/// When access ends: as asked, and for a length from activation as the deadline Job recorded it then, never later than
/// the receipt allows.
fn not_after(grant: &Grant, facts: &Facts, now: Timestamp) -> Timestamp {
    match (grant.end(), &facts.live) {
        (End::At(at), _) => at,
        (End::After(length), Some(live)) => {
            let latest = pending_until(grant, facts).saturating_add(length);
            live.not_after
                .min(window::round_down(latest.unwrap_or(now)))
        }
        (End::After(length), None) => window::round_down(now.saturating_add(length).unwrap_or(now)),
    }
}

/// Until when a request may wait to become active.
fn pending_until(grant: &Grant, facts: &Facts) -> Timestamp {
    let from = grant
        .not_before()
        .map_or(facts.requested_at, |t| t.max(facts.requested_at));
    from.saturating_add(window::PENDING).unwrap_or(from)
}

fn over(
    grant: &Grant,
    facts: &Facts,
    not_after: Timestamp,
    now: Timestamp,
) -> Option<(EndReason, String)> {
    let end = |reason, why: &str| Some((reason, why.to_owned()));
    if let Some(reason) = facts.ended {
        return end(
            reason,
            "ended before; create another WorkloadAccess for more",
        );
    }
    if grant.deleting() {
        return end(EndReason::Deleted, "the WorkloadAccess was deleted");
    }
    if grant.revoked() {
        return end(EndReason::Revoked, "`spec.revoked` was set");
    }
    let in_past_when_asked = matches!(grant.end(), End::At(at) if at <= facts.requested_at);
    if now >= not_after && !in_past_when_asked {
        return end(EndReason::Expired, &format!("access ended at {not_after}"));
    }
    let Some(live) = &facts.live else {
        let until = pending_until(grant, facts);
        let text = format!("was not activated by {until}; create another WorkloadAccess");
        return (now >= until).then_some((EndReason::Expired, text));
    };
    match &facts.account {
        None => return end(EndReason::IdentityChanged, "the ServiceAccount was deleted"),
        Some(account) if !live.account_uid.is_empty() && account.uid != live.account_uid => {
            return end(
                EndReason::IdentityChanged,
                "the ServiceAccount was re-created",
            );
        }
        Some(_) => {}
    }
    let suspended =
        |(policy, _): &(Arc<Policy>, bool)| policy.name() == live.policy && policy.suspended();
    if facts.policies.iter().any(suspended) {
        let why = format!("policy '{}' was suspended", live.policy);
        return end(EndReason::Suspended, &why);
    }
    if live.taken_away {
        return end(
            EndReason::Revoked,
            "the RoleBinding or its deadline was deleted",
        );
    }
    None
}

fn window(grant: &Grant, facts: &Facts, wrong: &mut Vec<Violation>) {
    let latest = facts.requested_at.saturating_add(window::HARD_MAX);
    if let (Some(from), Ok(latest)) = (grant.not_before(), latest)
        && from > latest
    {
        let message = format!("must be at most {} ahead", window::show(window::HARD_MAX));
        wrong.push(
            Violation::new("WA-WINDOW", "spec.notBefore", Problem::Invalid, message)
                .found(from.to_string()),
        );
    }
    if let End::At(at) = grant.end()
        && at <= facts.requested_at
    {
        let message = format!(
            "must lie ahead; it was {} at the API server",
            facts.requested_at
        );
        wrong.push(
            Violation::new("WA-IN-PAST", "spec.notAfter", Problem::Invalid, message)
                .found(at.to_string()),
        );
    }
}

fn account<'a>(
    grant: &Grant,
    facts: &'a Facts,
    wrong: &mut Vec<Violation>,
) -> Option<&'a AccountFacts> {
    let Some(account) = &facts.account else {
        wrong.push(
            Violation::new(
                "WA-ACCOUNT-MISSING",
                "spec.serviceAccountRef",
                Problem::NotFound,
                "must name a ServiceAccount that exists; create it first",
            )
            .found(grant.account().to_string()),
        );
        return None;
    };
    if let Some(pinned) = grant.account_uid()
        && pinned != account.uid
    {
        wrong.push(
            Violation::new(
                "WA-ACCOUNT-UID",
                "spec.serviceAccountRef.uid",
                Problem::Invalid,
                format!(
                    "must be the UID of the account as it is now, '{}'",
                    account.uid
                ),
            )
            .found(pinned),
        );
    }
    Some(account)
}

/// The rules of the request, or of the role it names. A live grant keeps the rules it was activated with.
fn granted_rules(grant: &Grant, facts: &Facts, wrong: &mut Vec<Violation>) -> Vec<Rule> {
    let role: &RoleReference = match grant.source() {
        Source::Rules(rules) => return rules.clone(),
        Source::Role(role) => role,
    };
    let mut refuse = |problem, message: String| {
        wrong.push(
            Violation::new("WA-ROLE-MISSING", "spec.roleRef", problem, message)
                .found(format!("{:?}/{}", role.kind, role.name)),
        );
        Vec::new()
    };
    match (&facts.role, &facts.live) {
        (RoleFacts::Found(rules), Some(live))
            if rules::hash(&rules::canonical(rules)) != live.rules_hash =>
        {
            let message = "the copy of the role was changed, and the role no longer has the rules that were granted";
            refuse(Problem::Invalid, message.into())
        }
        (RoleFacts::Found(rules), _) if rules.is_empty() => {
            refuse(Problem::Invalid, "must name a role that has rules".into())
        }
        (RoleFacts::Found(rules), _) => rules.clone(),
        (RoleFacts::Missing | RoleFacts::NotReferenced, _) => {
            refuse(Problem::NotFound, "must name a role that exists".into())
        }
    }
}

/// What no policy can allow.
fn catalogue_violations(grant: &Grant, facts: &Facts, rules: &[Rule]) -> Vec<Violation> {
    let scope = if facts.privileged_namespace {
        Scope::PrivilegedNamespace
    } else {
        Scope::Namespace
    };
    let indexed = matches!(grant.source(), Source::Rules(_));
    catalogue::violations(rules, rules_path(grant), indexed, scope)
}

/// What Stint cannot hand out because it does not hold it itself (DESIGN invariant 4): the API server would refuse it
/// too, but says it less clearly.
fn beyond_ceiling(grant: &Grant, rules: &[Rule], ceiling: &Ceiling, wrong: &mut Vec<Violation>) {
    for rule in ceiling.uncovered(rules) {
        let message = "lies beyond what this cluster lets Stint grant; a platform team widens that by a ClusterRole labelled `rbac.stint.dev/grantable: \"true\"`";
        wrong.push(
            Violation::new("WA-CEILING", rules_path(grant), Problem::Forbidden, message)
                .found(rule.to_string()),
        );
    }
}

fn rules_path(grant: &Grant) -> &'static str {
    match grant.source() {
        Source::Rules(_) => "spec.rules",
        Source::Role(_) => "spec.roleRef",
    }
}

/// Length of the grant: what is asked for, counted from now or from when it began.
fn length(grant: &Grant, facts: &Facts, now: Timestamp) -> SignedDuration {
    match (grant.end(), &facts.live) {
        (End::After(length), _) => length,
        // `since` is a creation time, rounded down to whole seconds by the API server.
        (End::At(at), Some(live)) => at.duration_since(live.since) - SignedDuration::from_secs(1),
        (End::At(at), None) => {
            let from = grant.not_before().map_or(now, |t| t.max(now));
            at.duration_since(from)
        }
    }
}

/// Any one satisfied policy is enough; otherwise every policy that was tried says why it refuses.
fn admitting_policy<'a>(
    grant: &Grant,
    facts: &'a Facts,
    rules: &[Rule],
    length: SignedDuration,
) -> Result<&'a Policy, Vec<Violation>> {
    let no_labels = Labels::new();
    let ask = Ask {
        account: grant.account(),
        account_labels: facts.account.as_ref().map_or(&no_labels, |a| &a.labels),
        namespace: grant.namespace(),
        source: grant.source(),
        rules,
        length,
        length_path: match grant.end() {
            End::At(_) => "spec.notAfter",
            End::After(_) => "spec.duration",
        },
        active_others: facts.active_others,
    };
    let mut refusals = Vec::new();
    for (policy, may_use) in &facts.policies {
        let mut wrong = policy.refusals(&ask);
        if !may_use {
            let message = format!(
                "may be used only by those who have the verb `use` on accesspolicies '{}'; '{}' has not",
                policy.name(),
                facts.requester.username
            );
            wrong.insert(0, policy.violation("WA-REQUESTER", "spec", message));
        }
        if wrong.is_empty() {
            return Ok(policy);
        }
        refusals.extend(wrong);
    }
    if facts.policies.is_empty() {
        refusals.push(Violation::new(
            "WA-NO-POLICY",
            "metadata.namespace",
            Problem::Forbidden,
            no_policy(grant, facts),
        ));
    }
    Err(refusals)
}

fn no_policy(grant: &Grant, facts: &Facts) -> String {
    let mut text = format!(
        "no AccessPolicy selects namespace '{}'; ask the security team for one",
        grant.namespace()
    );
    if facts.broken_policies > 0 {
        let count = facts.broken_policies;
        text.push_str(&format!("; {count} cannot be read and so admit nothing"));
    }
    text
}

/// A refusal; for a live grant, its end.
fn no(facts: &Facts, wrong: Vec<Violation>) -> Verdict {
    if facts.live.is_none() {
        return Verdict::Refused(wrong);
    }
    Verdict::Over {
        reason: EndReason::PolicyWithdrawn,
        why: render_lines(&wrong),
    }
}

/// Whether `namespace` belongs to the cluster itself (RBAC catalogue, "privileged namespace").
pub fn is_cluster_namespace(namespace: &str) -> bool {
    matches!(namespace, "kube-system" | "kube-public" | "kube-node-lease")
}
