//! The one judgement. Webhook, controller and tools call [`judge`]; only it can make an [`Approved`].

use crate::api::workload_access::{EndReason, PolicyStamp, Risk, SourceStamp};
use crate::domain::admit::{Ask, Combined};
use crate::domain::catalogue::{self, Disposition, Finding, Scope};
use crate::domain::condition::Inputs;
use crate::domain::covers::Ceiling;
use crate::domain::facts::{AccountFacts, Facts};
use crate::domain::grant::{End, Grant, Source};
use crate::domain::lifetime;
use crate::domain::patterns::Patterns;
use crate::domain::policy::{Labels, Policy, risk};
use crate::domain::request::Place;
use crate::domain::rules::{self, Rule};
use crate::domain::source;
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
    requested_by: String,
    held_since: Timestamp,
    source: Option<SourceStamp>,
    in_namespaces: bool,
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
    /// Whether a grant in the whole cluster gives anything that lives in namespaces.
    pub fn in_namespaces(&self) -> bool {
        self.in_namespaces
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

/// Judges one request against the facts at `now`, by the API server's clock.
pub fn judge(grant: &Grant, facts: &Facts, now: Timestamp) -> Verdict {
    let not_after = lifetime::not_after(grant, facts, now);
    if let Some((reason, why)) = lifetime::over(grant, facts, not_after, now) {
        return Verdict::Over { reason, why };
    }
    if facts.ceiling.is_none() && facts.live.is_none() {
        return not_ready("the ClusterRole that says what Stint may grant is missing or empty");
    }
    let mut wrong = Vec::new();
    lifetime::window(grant, facts, &mut wrong);
    let account = account(grant, facts, &mut wrong);
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
    let found = assess(grant, facts, patterns, findings, in_namespaces, scope);
    let question = Question {
        rules: &rules,
        scope,
        found: &found,
        not_after,
        now,
    };
    let policy = match admitting_policy(grant, facts, &question) {
        Ok(policy) => Some(policy),
        Err(refusals) => {
            wrong.extend(refusals);
            None
        }
    };
    let (Some(account), Some(policy), true) = (account, policy, wrong.is_empty()) else {
        return no(facts, wrong);
    };
    if let Some(why) = source::unknowable(facts, &rules) {
        return not_ready(why);
    }
    if let Some(from) = grant.not_before()
        && now < from
    {
        return Verdict::NotYet {
            until: Some(from),
            why: NotYet::Scheduled(from),
        };
    }
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
        requested_by: facts.requester.username.clone(),
        held_since: lifetime::held_since(grant, facts, policy, now),
        source: source::stamp(grant, facts),
        in_namespaces,
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

/// What the catalogue makes of the request, alone and together with what the account holds already.
struct Assessment {
    patterns: Patterns,
    findings: Vec<Finding>,
    combined: Vec<Combined>,
    risk: Risk,
}

impl Assessment {
    fn ids(&self) -> Vec<&'static str> {
        let combined = self.combined.iter().map(|c| c.finding.id);
        self.findings.iter().map(|f| f.id).chain(combined).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let line = |c: &Combined| {
            let Finding { title, id, .. } = c.finding;
            let with = c.with.join(", ");
            format!("together with {with} this makes the combination \"{title}\" [{id}]")
        };
        self.combined.iter().map(line).collect()
    }
}

fn assess(
    grant: &Grant,
    facts: &Facts,
    patterns: Patterns,
    mut findings: Vec<Finding>,
    in_namespaces: bool,
    scope: Scope<'_>,
) -> Assessment {
    if in_namespaces {
        findings.extend(catalogue::finding("OB-W07", scope));
    }
    if grant.account().namespace != grant.home()
        && let Some(foreign) = catalogue::finding("OB-B06", scope)
    {
        // A policy accepts it by listing the namespace.
        findings.push(Finding {
            disposition: Disposition::Allowed,
            ..foreign
        });
    }
    let held = facts
        .held
        .iter()
        .fold(Patterns::default(), |sum, held| sum.union(held.patterns));
    let combined: Vec<Combined> = catalogue::combinations(patterns, held, scope)
        .into_iter()
        .map(|combination| Combined {
            finding: combination.finding,
            with: contributors(facts, combination.missing, scope),
        })
        .collect();
    let severities = findings.iter().chain(combined.iter().map(|c| &c.finding));
    let highest = severities.map(|f| risk(f.severity)).max();
    Assessment {
        patterns,
        risk: highest.unwrap_or(Risk::Low),
        findings,
        combined,
    }
}

/// The bindings that fulfil the half-conditions in `missing`, the first for each.
fn contributors(facts: &Facts, mut missing: u128, scope: Scope<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for held in &facts.held {
        let bits = held.patterns.through(scope);
        if bits & missing != 0 {
            missing &= !bits;
            out.push(held.by.clone());
        }
    }
    out
}

/// What the policies are asked, beside the request itself.
struct Question<'a> {
    rules: &'a [Rule],
    scope: Scope<'a>,
    found: &'a Assessment,
    not_after: Timestamp,
    now: Timestamp,
}

/// Any one satisfied policy is enough; otherwise every policy that was tried says why it refuses.
fn admitting_policy<'a>(
    grant: &Grant,
    facts: &'a Facts,
    question: &Question<'_>,
) -> Result<&'a Policy, Vec<Violation>> {
    let no_labels = Labels::new();
    let account_labels = facts.account.as_ref().map_or(&no_labels, |a| &a.labels);
    let length = lifetime::length(grant, facts, question.now);
    let inputs = Inputs {
        grant,
        rules: question.rules,
        duration: length,
        requester: &facts.requester,
        namespace_labels: &facts.namespace_labels,
        account_uid: facts.account.as_ref().map_or("", |a| &a.uid),
        account_labels,
        risk: question.found.risk,
        now: lifetime::begins(grant, facts, question.now),
    };
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
        length_path: match grant.end() {
            End::At(_) => "spec.notAfter",
            End::After(_) => "spec.duration",
        },
        not_after: question.not_after,
        held_since: question.now,
        ticket: grant.ticket(),
        active_others: facts.active_others,
        inputs: &inputs,
    };
    let of = |policy: &Policy| Ask {
        held_since: lifetime::held_since(grant, facts, policy, question.now),
        ..ask
    };
    // Before anything is written about those that refuse.
    let admitting = facts
        .policies
        .iter()
        .find(|(policy, may_use)| *may_use && policy.admits(&of(policy)));
    if let Some((policy, _)) = admitting {
        return Ok(policy);
    }
    let mut refusals = Vec::new();
    for (policy, may_use) in &facts.policies {
        let mut wrong = policy.refusals(&of(policy));
        if !may_use {
            let message = format!(
                "may be used only by those who have the verb `use` on accesspolicies '{}'; '{}' has not",
                policy.name(),
                facts.requester.username
            );
            wrong.insert(0, policy.violation("WA-REQUESTER", "spec", message));
        }
        refusals.extend(wrong);
    }
    if facts.policies.is_empty() {
        refusals.push(no_policy(grant, facts));
    }
    Err(refusals)
}

fn no_policy(grant: &Grant, facts: &Facts) -> Violation {
    let mut text = format!(
        "no AccessPolicy selects namespace '{}'; ask the security team for one",
        grant.home()
    );
    if facts.broken_policies > 0 {
        let count = facts.broken_policies;
        text.push_str(&format!("; {count} cannot be read and so admit nothing"));
    }
    let path = match grant.place() {
        Place::Namespace(_) => "metadata.namespace",
        Place::Cluster => "spec.serviceAccountRef.namespace",
    };
    Violation::new("WA-NO-POLICY", path, Problem::Forbidden, text)
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
