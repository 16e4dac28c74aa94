//! The compiled form of an `AccessPolicy`. What it says about one request is in `admit`.

use crate::api::access_policy::{
    self, AccessPolicy, Allow, Cumulative, FollowRole, Limits, OnDrift, PolicyCondition,
    RequireResourceNames,
};
use crate::api::workload_access::{PolicyStamp, Risk, RoleReference, Urgency};
use crate::domain::catalogue::{self, Disposition, Scope, Severity};
use crate::domain::condition::Condition;
use crate::domain::covers::Ceiling;
use crate::domain::extension;
use crate::domain::patterns::Patterns;
use crate::domain::rules::Rule;
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of a namespace or an account.
pub type Labels = BTreeMap<String, String>;

/// Largest compiled regular expression, in bytes; matching takes linear time whatever the expression.
const MAX_REGEX: usize = 256 * 1024;

/// Most approvals that a policy can ask for.
const MAX_APPROVALS: usize = 8;

/// Longest grant by risk where a policy says nothing, in the order of [`Risk`].
const DEFAULT_BY_RISK: [(Risk, SignedDuration); 4] = [
    (Risk::Low, window::HARD_MAX),
    (Risk::Medium, SignedDuration::from_hours(24)),
    (Risk::High, SignedDuration::from_hours(8)),
    (Risk::Critical, SignedDuration::from_hours(1)),
];

/// A policy ready to decide.
#[derive(Debug)]
pub struct Policy {
    pub(crate) stamp: PolicyStamp,
    pub(crate) namespaces: Selector,
    pub(crate) account_names: Vec<String>,
    pub(crate) account_namespaces: Vec<String>,
    pub(crate) account_labels: Option<Selector>,
    pub(crate) cluster: bool,
    pub(crate) rules: Vec<Rule>,
    pub(crate) envelope: Ceiling,
    pub(crate) role_refs: Vec<RoleReference>,
    pub(crate) findings: BTreeSet<String>,
    pub(crate) max_duration: BTreeMap<Risk, SignedDuration>,
    pub(crate) max_total: Option<SignedDuration>,
    pub(crate) max_extensions: i64,
    pub(crate) max_active: Option<i64>,
    pub(crate) names: RequireResourceNames,
    pub(crate) ticket: Option<Regex>,
    pub(crate) require_until: bool,
    pub(crate) cumulative: Option<Cumulative>,
    pub(crate) follow_role: FollowRole,
    pub(crate) on_drift: OnDrift,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) approval: Option<ApprovalTerms>,
    pub(crate) break_glass: Option<SignedDuration>,
    pub(crate) suspended: bool,
}

/// The approvals that a policy asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalTerms {
    /// How many people must approve; at least 1.
    pub required: usize,
    /// How long a request may wait to become active.
    pub timeout: SignedDuration,
}

impl Policy {
    /// Compiles a policy, or says everything that is wrong with it. An unusable policy admits nothing.
    pub fn compile(object: &AccessPolicy) -> Result<Self, Vec<Violation>> {
        let spec = &object.spec;
        let allow = spec.allow.clone().unwrap_or_default();
        let limits = spec.limits.clone().unwrap_or_default();
        let mut wrong = Vec::new();
        let accounts = &spec.service_accounts;
        let account_names = accounts.names.clone().unwrap_or_default();
        if account_names.is_empty() && accounts.selector.is_none() {
            let message = "must set `names` or `selector`; `selector: {}` selects every account";
            wrong.push(invalid("spec.serviceAccounts", message));
        }
        let namespaces = selector(
            "spec.namespaceSelector",
            &spec.namespace_selector,
            &mut wrong,
        );
        let account_labels = accounts
            .selector
            .as_ref()
            .and_then(|s| selector("spec.serviceAccounts.selector", s, &mut wrong));
        let rules: Vec<Rule> = allow.rules.iter().flatten().map(Rule::from).collect();
        let policy = Self {
            stamp: PolicyStamp {
                name: object.metadata.name.clone().unwrap_or_default(),
                uid: object.metadata.uid.clone().unwrap_or_default(),
                generation: object.metadata.generation.unwrap_or_default(),
            },
            namespaces: namespaces.unwrap_or_default(),
            account_names,
            account_namespaces: accounts.namespaces.clone().unwrap_or_default(),
            account_labels,
            cluster: allow.cluster.unwrap_or(false),
            envelope: Ceiling::compile(&rules),
            rules,
            findings: accepted(&allow, &mut wrong),
            role_refs: allow.role_refs.unwrap_or_default(),
            max_duration: max_durations(&limits, &mut wrong),
            max_total: length("spec.limits.maxTotal", &limits.max_total, &mut wrong),
            max_extensions: limits.max_extensions.unwrap_or(extension::DEFAULT_MAX),
            max_active: limits.max_active_per_account,
            names: limits
                .require_resource_names
                .unwrap_or(RequireResourceNames::None),
            ticket: ticket(limits.require_ticket.as_deref(), &mut wrong),
            require_until: limits.require_until.unwrap_or(false),
            cumulative: limits.cumulative,
            follow_role: spec.follow_role.unwrap_or(FollowRole::Keep),
            on_drift: spec.on_drift.unwrap_or(OnDrift::Repair),
            conditions: conditions(spec.conditions.as_deref().unwrap_or_default(), &mut wrong),
            approval: approval(spec.approval.as_ref(), &mut wrong),
            break_glass: spec.break_glass.as_ref().and_then(|terms| {
                let path = "spec.breakGlass.maxDuration";
                length(path, &Some(terms.max_duration.clone()), &mut wrong)
            }),
            suspended: spec.suspended.unwrap_or(false),
        };
        if wrong.is_empty() {
            Ok(policy)
        } else {
            Err(wrong)
        }
    }

    /// Name, UID and generation.
    pub fn stamp(&self) -> &PolicyStamp {
        &self.stamp
    }

    /// Name of the policy.
    pub fn name(&self) -> &str {
        &self.stamp.name
    }

    /// Whether the kill switch is on.
    pub fn suspended(&self) -> bool {
        self.suspended
    }

    /// The approvals that a request of this urgency needs; an emergency needs none.
    pub fn approval(&self, urgency: Urgency) -> Option<&ApprovalTerms> {
        self.approval
            .as_ref()
            .filter(|_| urgency != Urgency::BreakGlass)
    }

    /// Whether it asks for approvals at all.
    pub fn asks_approval(&self) -> bool {
        self.approval.is_some()
    }

    /// How long a request of this urgency may wait to become active.
    pub fn pending(&self, urgency: Urgency) -> SignedDuration {
        self.approval(urgency)
            .map_or(window::PENDING, |terms| terms.timeout)
    }

    /// What happens to a grant when the role it was copied from changes.
    pub fn follow_role(&self) -> FollowRole {
        self.follow_role
    }

    /// What happens to a grant whose binding somebody changed.
    pub fn on_drift(&self) -> OnDrift {
        self.on_drift
    }

    /// The roles that a request may name.
    pub fn role_refs(&self) -> &[RoleReference] {
        &self.role_refs
    }

    /// Other namespaces whose accounts may receive rights.
    pub fn account_namespaces(&self) -> &[String] {
        &self.account_namespaces
    }

    /// Names of accounts; empty when they are selected by labels alone.
    pub fn account_names(&self) -> &[String] {
        &self.account_names
    }

    /// Whether grants may live in a namespace with these labels.
    pub fn selects_namespace(&self, labels: &Labels) -> bool {
        self.namespaces.matches(labels)
    }

    /// What an author of the policy should know although it can be used, one line each with a code.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.rules.is_empty() && self.role_refs.is_empty() {
            out.push("spec.allow: allows nothing; set `rules` or `roleRefs` [WA-POLICY]".into());
        }
        let longest = self.max_duration.values().max().copied();
        if let (Some(total), Some(longest)) = (self.max_total, longest)
            && total < longest
        {
            let total = window::show(total);
            out.push(format!(
                "spec.limits.maxTotal: no grant can last longer than {total} [WA-POLICY]"
            ));
        }
        let scope = match self.cluster {
            true => Scope::Cluster,
            false => Scope::Namespace(""),
        };
        if !self.cluster && self.rules.iter().any(|r| !r.non_resource_urls.is_empty()) {
            out.push(
                "spec.allow.rules: `nonResourceURLs` are granted only with `allow.cluster: true` [WA-POLICY]"
                    .into(),
            );
        }
        let refused = catalogue::violations(&self.rules, "spec.allow.rules", true, scope);
        out.extend(refused.iter().map(|v| {
            let found = v.found.as_deref().unwrap_or_default();
            format!(
                "{}: '{found}' is never granted, whatever the envelope [{}]",
                v.path, v.code
            )
        }));
        for finding in catalogue::findings(Patterns::of(&self.rules), scope) {
            if finding.disposition == Disposition::Named && !self.findings.contains(finding.id) {
                out.push(format!(
                    "spec.allow.rules: {} is granted only if `allow.findings` lists {}: {} [{}]",
                    finding.title, finding.id, finding.effect, finding.id
                ));
            }
        }
        out
    }
}

/// The risk of a finding's severity.
pub fn risk(severity: Severity) -> Risk {
    match severity {
        Severity::Info | Severity::Low => Risk::Low,
        Severity::Medium => Risk::Medium,
        Severity::High => Risk::High,
        Severity::Critical => Risk::Critical,
    }
}

fn invalid(path: impl Into<String>, message: impl Into<String>) -> Violation {
    Violation::new("WA-POLICY", path, Problem::Invalid, message)
}

fn selector(path: &str, selector: &LabelSelector, wrong: &mut Vec<Violation>) -> Option<Selector> {
    match Selector::try_from(selector.clone()) {
        Ok(selector) => Some(selector),
        Err(error) => {
            wrong.push(invalid(path, error.to_string()));
            None
        }
    }
}

/// The findings that the policy accepts. One that is never granted would be a promise that is not kept.
fn accepted(allow: &Allow, wrong: &mut Vec<Violation>) -> BTreeSet<String> {
    let ids = allow.findings.iter().flatten();
    for (i, id) in ids.clone().enumerate() {
        let message = match catalogue::code(id).map(|code| code.disposition) {
            Some(Disposition::Named | Disposition::Allowed) => continue,
            Some(Disposition::Never) => "is never granted; remove it",
            None => "is no finding; `kubectl stint codes` lists them",
        };
        wrong.push(invalid(format!("spec.allow.findings[{i}]"), message).found(id));
    }
    ids.cloned().collect()
}

fn length(path: &str, text: &Option<String>, wrong: &mut Vec<Violation>) -> Option<SignedDuration> {
    match window::parse_duration(path, text.as_deref()?) {
        Ok(length) => Some(length),
        Err(violation) => {
            wrong.push(violation);
            None
        }
    }
}

fn approval(
    terms: Option<&access_policy::ApprovalTerms>,
    wrong: &mut Vec<Violation>,
) -> Option<ApprovalTerms> {
    let terms = terms?;
    let path = "spec.approval.timeout";
    let timeout = length(path, &terms.timeout, wrong).unwrap_or(window::DEFAULT_APPROVAL);
    if timeout > window::MAX_APPROVAL {
        let message = format!("must be at most {}", window::show(window::MAX_APPROVAL));
        wrong.push(invalid(path, message).found(window::show(timeout)));
    }
    let required = usize::try_from(terms.required).unwrap_or_default();
    if !(1..=MAX_APPROVALS).contains(&required) {
        let message = format!("must be at least 1 and at most {MAX_APPROVALS}");
        let violation = invalid("spec.approval.required", message);
        wrong.push(violation.found(terms.required.to_string()));
    }
    Some(ApprovalTerms { required, timeout })
}

fn max_durations(limits: &Limits, wrong: &mut Vec<Violation>) -> BTreeMap<Risk, SignedDuration> {
    let set = length("spec.limits.maxDuration", &limits.max_duration, wrong);
    let all = set.unwrap_or(window::DEFAULT_MAX).min(window::HARD_MAX);
    let by_risk = limits.max_duration_by_risk.clone().unwrap_or_default();
    let mut limit = |(risk, default): (Risk, SignedDuration)| {
        let path = format!("spec.limits.maxDurationByRisk.{}", risk.as_str());
        let own = length(&path, &by_risk.of(risk).cloned(), wrong);
        if let (Some(own), Some(set)) = (own, set)
            && own > set
        {
            let message = format!(
                "must not exceed `maxDuration`, which is {}",
                window::show(set)
            );
            wrong.push(invalid(path, message).found(window::show(own)));
        }
        (risk, own.unwrap_or(default).min(all))
    };
    DEFAULT_BY_RISK.into_iter().map(&mut limit).collect()
}

fn conditions(written: &[PolicyCondition], wrong: &mut Vec<Violation>) -> Vec<Condition> {
    let mut out = Vec::new();
    for (i, condition) in written.iter().enumerate() {
        match Condition::compile(condition) {
            Ok(condition) => out.push(condition),
            Err(why) => {
                let path = format!("spec.conditions[{i}].expression");
                let message = format!("must be a CEL expression that yields a bool; {why}");
                wrong.push(invalid(path, message).found(&condition.expression));
            }
        }
    }
    out
}

fn ticket(pattern: Option<&str>, wrong: &mut Vec<Violation>) -> Option<Regex> {
    match RegexBuilder::new(pattern?).size_limit(MAX_REGEX).build() {
        Ok(regex) => Some(regex),
        Err(error) => {
            // The crate draws the place of an error over several lines; the last one says what it is.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim();
            let message = format!("must be a regular expression in RE2 syntax: {reason}");
            wrong.push(invalid("spec.limits.requireTicket", message).found(pattern?));
            None
        }
    }
}

/// The first few of a list, quoted; the rest is counted.
pub fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|n| format!("'{n}'")).collect();
    if names.len() > SHOWN {
        text.push(format!("and {} more", names.len() - SHOWN));
    }
    text.join(", ")
}
