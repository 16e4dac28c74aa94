//! The one judgement. Webhook, controller and tools call [`judge`]; only it can make an [`Approved`].

use crate::api::access_policy::OnDrift;
use crate::api::workload_access::{EndReason, PolicyStamp, Risk, SourceStamp};
use crate::domain::approval::{Admitted, Recorded};
use crate::domain::assess::assess;
use crate::domain::catalogue::{self, Scope};
use crate::domain::completion;
use crate::domain::covers::Ceiling;
use crate::domain::extension::{self, Edits, HeldBack, Settled};
use crate::domain::facts::{AccountFacts, Facts, HeldIn};
use crate::domain::grant::{Grant, Source};
use crate::domain::lifetime;
use crate::domain::patterns::Patterns;
use crate::domain::request::Place;
use crate::domain::rules::{self, Rule};
use crate::domain::source;
use crate::domain::tried::{Case, Question, admitting_policy};
use crate::domain::violation::{Problem, Violation, render_lines};
use jiff::Timestamp;
use std::borrow::Cow;
use std::sync::OnceLock;

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
    /// A policy would admit the request, and not enough people have approved it yet.
    PendingApproval {
        /// Name of the policy.
        policy: String,
        /// How many approved.
        have: usize,
        /// How many must.
        required: usize,
        /// Until when the policy waits.
        until: Timestamp,
        /// Hash of the spec that an approver must copy.
        spec_hash: String,
    },
}

/// Proof of a favourable judgement, with everything that is needed to materialise it. Made only by [`judge`].
#[derive(Debug)]
pub struct Approved {
    grant: Grant,
    account_uid: String,
    /// Of a role; those of the request are in it.
    copied: Option<Vec<Rule>>,
    canonical: OnceLock<(Vec<Rule>, String)>,
    not_after: Timestamp,
    policy: PolicyStamp,
    on_drift: OnDrift,
    requested_by: String,
    held_since: Timestamp,
    source: Option<SourceStamp>,
    approval: Option<Recorded>,
    in_namespaces: bool,
    until_uid: Option<String>,
    edits: Edits,
    settled: Settled,
    extended_by: Option<String>,
    held_back: Option<(Timestamp, HeldBack)>,
    patterns: Patterns,
    risk: Risk,
    findings: Vec<&'static str>,
    warnings: Vec<String>,
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
        &self.canonical().0
    }
    /// Hash of the rules.
    pub fn rules_hash(&self) -> &str {
        &self.canonical().1
    }
    /// Worked out when somebody materialises the grant: an admission only wants to know that it can be.
    fn canonical(&self) -> &(Vec<Rule>, String) {
        self.canonical.get_or_init(|| {
            let rules = match (&self.copied, self.grant.source()) {
                (Some(copied), _) => rules::canonical(copied),
                (None, Source::Rules(written)) => rules::canonical(written),
                (None, Source::Role(_)) => Vec::new(),
            };
            let hash = rules::hash(&rules);
            (rules, hash)
        })
    }
    /// When access ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
    /// The policy that admits it.
    pub fn policy(&self) -> &PolicyStamp {
        &self.policy
    }
    /// What its policy wants done when somebody changed its binding.
    pub fn on_drift(&self) -> OnDrift {
        self.on_drift
    }
    /// User name of the requester.
    pub fn requested_by(&self) -> &str {
        &self.requested_by
    }
    /// Since when the account holds grants of the policy without a break, this one included.
    pub fn held_since(&self) -> Timestamp {
        self.held_since
    }
    /// The role that the rules are copied from.
    pub fn source(&self) -> Option<&SourceStamp> {
        self.source.as_ref()
    }
    /// Who approved which spec, if that was needed.
    pub fn approval(&self) -> Option<&Recorded> {
        self.approval.as_ref()
    }
    /// Whether a grant in the whole cluster gives anything that lives in namespaces.
    pub fn in_namespaces(&self) -> bool {
        self.in_namespaces
    }
    /// UID of the object of `until`, as it was first seen.
    pub fn until_uid(&self) -> Option<&str> {
        self.until_uid.as_deref()
    }
    /// Hash of the spec for which the end is granted; `None` where the record does not say it and nothing may be added.
    pub fn settled_for(&self) -> Option<String> {
        match &self.settled {
            Settled::AsTheSpecIs => Some(self.grant.spec_hash()),
            Settled::Was(hash) => hash.clone(),
        }
    }
    /// How often the end was moved to later.
    pub fn extensions(&self) -> u32 {
        self.edits.extensions
    }
    /// When the later end that is granted was asked for.
    pub fn extended_at(&self) -> Option<Timestamp> {
        self.edits.extended_at
    }
    /// User name of who last moved the end to later, whether that is granted or not.
    pub fn extended_by(&self) -> Option<&str> {
        self.extended_by.as_deref()
    }
    /// A later end that was asked for, and why it is not granted.
    pub fn held_back(&self) -> Option<&(Timestamp, HeldBack)> {
        self.held_back.as_ref()
    }
    /// What the catalogue sees in the rules.
    pub fn patterns(&self) -> Patterns {
        self.patterns
    }
    /// How much harm the rights can do.
    pub fn risk(&self) -> Risk {
        self.risk
    }
    /// Ids of what the catalogue finds and the policy accepts.
    pub fn findings(&self) -> &[&'static str] {
        &self.findings
    }
    /// What the requester should know although it is granted.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Judges one request against the facts at `now`, by the API server's clock. A later end that a live grant was asked to have is
/// judged by itself; if it is not granted, the grant goes on with the end that is in place, and says why.
pub fn judge(grant: &Grant, facts: &Facts, now: Timestamp) -> Verdict {
    let end = lifetime::not_after(grant, facts, now);
    if let Some((reason, why)) = lifetime::over(grant, facts, end, now) {
        return Verdict::Over { reason, why };
    }
    let Some(later) = extension::later_end(grant, facts) else {
        return judge_end(grant, facts, &Case::standing(facts, end, false, now));
    };
    let held_back = match judge_end(grant, facts, &Case::later(facts, later, now)) {
        Verdict::Granted(approved) => return Verdict::Granted(approved),
        other => HeldBack::of(other),
    };
    let mut verdict = judge_end(grant, facts, &Case::standing(facts, end, true, now));
    if let Verdict::Granted(approved) = &mut verdict {
        approved.held_back = held_back.map(|why| (later, why));
        let live = facts.live.as_ref();
        let before = live.and_then(|live| live.edits.spec_hash.clone());
        approved.settled = Settled::Was(before);
    }
    verdict
}

fn judge_end(grant: &Grant, facts: &Facts, case: &Case<'_>) -> Verdict {
    let now = case.now;
    if facts.ceiling.is_none() && (facts.live.is_none() || case.is_later(facts)) {
        return not_ready("the ClusterRole that says what Stint may grant is missing or empty");
    }
    let mut wrong = Vec::new();
    lifetime::window(grant, facts, &mut wrong);
    if case.is_later(facts) {
        extension::bounds(grant, facts, case.end, now, &mut wrong);
    }
    let account = account(grant, facts, &mut wrong);
    completion::refusals(grant, facts, &mut wrong);
    let scope = scope(grant, facts);
    let mut rules = source::granted_rules(grant, facts, scope, &mut wrong);
    let (base, indexed) = (grant.source().path(), grant.source().is_inline());
    let mut patterns = Patterns::of(&rules);
    let mut findings = catalogue::findings(patterns, scope);
    wrong.extend(catalogue::violations_of(
        &rules, &findings, base, indexed, scope,
    ));
    if rules::atoms(&rules) > rules::MAX_ATOMS {
        // Refused for its size already; nothing that costs time per atom may see it.
        rules = Cow::default();
        patterns = Patterns::default();
        findings.clear();
    }
    // A live grant passed it when it began, and the API server checked it then: a ceiling that cannot be read for a moment
    // ends nothing.
    if let Some(ceiling) = &facts.ceiling {
        beyond_ceiling(base, &rules, ceiling, &mut wrong);
    }
    let in_namespaces = scope == Scope::Cluster && source::in_namespaces(facts, &rules);
    // What somebody binds in their namespace refuses more for the whole cluster; it takes away nothing that is given.
    let asks = facts.live.is_none() || case.is_later(facts);
    let held_in: &[HeldIn] = if asks { &facts.held_in } else { &[] };
    let found = assess(
        grant,
        facts,
        held_in,
        patterns,
        findings,
        in_namespaces,
        scope,
    );
    let question = Question {
        rules: &rules,
        scope,
        found: &found,
        case,
    };
    let admitted = match admitting_policy(grant, facts, &question) {
        Ok(admitted) => Some(admitted),
        Err(refusals) => {
            wrong.extend(refusals);
            None
        }
    };
    let (Some(account), Some(admitted), true) = (account, admitted, wrong.is_empty()) else {
        return no(facts, case, wrong);
    };
    if let Some(why) = source::unknowable(facts, &rules) {
        return not_ready(why);
    }
    let (policy, given) = match admitted {
        Admitted::By(policy, given) => (policy, given),
        Admitted::Pending(until, why) => {
            let until = Some(until);
            return Verdict::NotYet { until, why };
        }
    };
    let not_after = given.as_ref().map_or(case.end, |g| g.end(case.end));
    // Whoever approves more takes nothing away; for that there are other ways.
    let not_after = match &facts.live {
        Some(live) if case.is_later(facts) => not_after.max(live.not_after),
        _ => not_after,
    };
    let begins = lifetime::begins(grant, facts, now);
    if let Some(until) = given.as_ref().and_then(|g| g.over_before(begins)) {
        return Verdict::Over {
            reason: EndReason::Expired,
            why: format!("was approved until {until}, which is over before it could begin"),
        };
    }
    if let Some(from) = grant.not_before()
        && now < from
    {
        return Verdict::NotYet {
            until: Some(from),
            why: NotYet::Scheduled(from),
        };
    }
    let (edits, settled) = case.edits(facts);
    let copied = match rules {
        Cow::Borrowed(_) if indexed => None,
        rules => Some(rules.into_owned()),
    };
    Verdict::Granted(Box::new(Approved {
        grant: grant.clone(),
        account_uid: account.uid.clone(),
        copied,
        canonical: OnceLock::new(),
        not_after,
        policy: policy.stamp().clone(),
        on_drift: policy.on_drift(),
        requested_by: facts.requester.username.clone(),
        held_since: lifetime::held_since(grant, facts, policy, now),
        source: source::stamp(grant, facts),
        approval: match (&facts.live, given) {
            (Some(live), None) => live.approval.clone(),
            (Some(live), Some(_)) if !case.is_later(facts) => live.approval.clone(),
            (_, given) => given.map(|given| given.record(grant.spec_hash())),
        },
        edits,
        settled,
        extended_by: facts.extension.as_ref().map(|e| e.by.username.clone()),
        held_back: None,
        in_namespaces,
        until_uid: completion::until_uid(facts),
        patterns: found.patterns,
        risk: found.risk,
        warnings: found.warnings(),
        findings: found.ids(),
    }))
}

fn not_ready(why: impl Into<String>) -> Verdict {
    Verdict::NotYet {
        until: None,
        why: NotYet::NotReady(why.into()),
    }
}

/// Where the rules would hold.
pub fn scope<'a>(grant: &'a Grant, facts: &Facts) -> Scope<'a> {
    match grant.place() {
        Place::Cluster => Scope::Cluster,
        Place::Namespace(name) if facts.privileged_namespace => Scope::PrivilegedNamespace(name),
        Place::Namespace(name) => Scope::Namespace(name),
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
        let message = format!(
            "must be the UID of the account as it is now, '{}'",
            account.uid
        );
        let path = "spec.serviceAccountRef.uid";
        wrong.push(Violation::new("WA-ACCOUNT-UID", path, Problem::Invalid, message).found(pinned));
    }
    Some(account)
}

/// What Stint cannot hand out because it does not hold it itself (DESIGN invariant 4): the API server would refuse it
/// too, but says it less clearly.
fn beyond_ceiling(base: &str, rules: &[Rule], ceiling: &Ceiling, wrong: &mut Vec<Violation>) {
    for rule in ceiling.uncovered(rules) {
        let message = "lies beyond what this cluster lets Stint grant; a platform team widens that by a ClusterRole labelled `rbac.stint.dev/grantable: \"true\"`";
        wrong.push(
            Violation::new("WA-CEILING", base, Problem::Forbidden, message).found(rule.to_string()),
        );
    }
}

/// A refusal; for a live grant, its end, unless it is only about a later one.
fn no(facts: &Facts, case: &Case<'_>, wrong: Vec<Violation>) -> Verdict {
    if facts.live.is_none() || case.is_later(facts) {
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
