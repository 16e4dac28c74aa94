//! The compiled form of an `AccessPolicy`, and why it does or does not admit a request.

use crate::api::access_policy::AccessPolicy;
use crate::api::workload_access::{PolicyStamp, RoleReference};
use crate::domain::covers::Ceiling;
use crate::domain::grant::{Account, Source};
use crate::domain::rules::Rule;
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use std::collections::BTreeMap;

/// Labels of a namespace or an account.
pub type Labels = BTreeMap<String, String>;

/// A policy ready to decide.
#[derive(Debug)]
pub struct Policy {
    stamp: PolicyStamp,
    namespaces: Selector,
    account_names: Vec<String>,
    account_namespaces: Vec<String>,
    account_labels: Option<Selector>,
    envelope: Ceiling,
    role_refs: Vec<RoleReference>,
    max_duration: SignedDuration,
    max_active: Option<i64>,
    suspended: bool,
}

/// What a policy is asked about one request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The account.
    pub account: &'a Account,
    /// Labels of the account.
    pub account_labels: &'a Labels,
    /// Namespace of the request.
    pub namespace: &'a str,
    /// Where the rules come from.
    pub source: &'a Source,
    /// The rules themselves.
    pub rules: &'a [Rule],
    /// Length of the grant.
    pub length: SignedDuration,
    /// Path of the field that sets the length.
    pub length_path: &'static str,
    /// Other live grants of the account.
    pub active_others: usize,
}

impl Policy {
    /// Compiles a policy, or says in one sentence why it cannot be used. An unusable policy admits nothing.
    pub fn compile(object: &AccessPolicy) -> Result<Self, String> {
        let spec = &object.spec;
        let name = object.metadata.name.clone().unwrap_or_default();
        let allow = spec.allow.clone().unwrap_or_default();
        let limits = spec.limits.clone().unwrap_or_default();
        let rules: Vec<Rule> = allow.rules.iter().flatten().map(Rule::from).collect();
        let max_duration = match &limits.max_duration {
            Some(text) => window::parse_duration("spec.limits.maxDuration", text)
                .map_err(|v| v.to_string())?
                .min(window::HARD_MAX),
            None => window::DEFAULT_MAX,
        };
        let accounts = &spec.service_accounts;
        let account_names = accounts.names.clone().unwrap_or_default();
        if account_names.is_empty() && accounts.selector.is_none() {
            return Err("spec.serviceAccounts: must set `names` or `selector`".into());
        }
        Ok(Self {
            stamp: PolicyStamp {
                name,
                uid: object.metadata.uid.clone().unwrap_or_default(),
                generation: object.metadata.generation.unwrap_or_default(),
            },
            namespaces: selector("spec.namespaceSelector", &spec.namespace_selector)?,
            account_names,
            account_namespaces: accounts.namespaces.clone().unwrap_or_default(),
            account_labels: accounts
                .selector
                .as_ref()
                .map(|s| selector("spec.serviceAccounts.selector", s))
                .transpose()?,
            envelope: Ceiling::compile(&rules),
            role_refs: allow.role_refs.unwrap_or_default(),
            max_duration,
            max_active: limits.max_active_per_account,
            suspended: spec.suspended.unwrap_or(false),
        })
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

    /// Whether grants may live in a namespace with these labels.
    pub fn selects_namespace(&self, labels: &Labels) -> bool {
        self.namespaces.matches(labels)
    }

    /// Every reason why this policy does not admit the request; empty means that it does.
    pub fn refusals(&self, ask: &Ask<'_>) -> Vec<Violation> {
        let mut wrong = Vec::new();
        if self.suspended {
            wrong.push(self.violation(
                "WA-SUSPENDED",
                "spec",
                "is suspended; ask its owners or use another policy",
            ));
        }
        self.account(ask, &mut wrong);
        self.envelope(ask, &mut wrong);
        self.limits(ask, &mut wrong);
        wrong
    }

    fn account(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        let Account { namespace, name } = ask.account;
        let foreign = namespace != ask.namespace;
        if foreign && !self.account_namespaces.contains(namespace) {
            let message = "does not admit accounts of this other namespace";
            wrong.push(
                self.violation(
                    "WA-ACCOUNT-FOREIGN",
                    "spec.serviceAccountRef.namespace",
                    message,
                )
                .found(namespace),
            );
        }
        let named = self.account_names.is_empty() || self.account_names.contains(name);
        let labelled = self
            .account_labels
            .as_ref()
            .is_none_or(|selector| selector.matches(ask.account_labels));
        if !named || !labelled {
            let message = if self.account_names.is_empty() {
                "does not select this account by its labels".to_owned()
            } else {
                format!("admits only the accounts {}", list(&self.account_names))
            };
            wrong.push(
                self.violation("WA-NOT-ALLOWED", "spec.serviceAccountRef.name", message)
                    .found(name),
            );
        }
    }

    fn envelope(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if let Source::Role(role) = ask.source
            && self.role_refs.contains(role)
        {
            return;
        }
        let path = match ask.source {
            Source::Rules(_) => "spec.rules",
            Source::Role(_) => "spec.roleRef",
        };
        for rule in self.envelope.uncovered(ask.rules) {
            let message = "does not allow this; request less, or ask for a wider `allow`";
            wrong.push(
                self.violation("WA-NOT-ALLOWED", path, message)
                    .found(rule.to_string()),
            );
        }
    }

    fn limits(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if ask.length > self.max_duration {
            let limit = window::show(self.max_duration);
            let message = format!("allows less than or equal to {limit}");
            wrong.push(
                self.violation("WA-TOO-LONG", ask.length_path, message)
                    .found(window::show(ask.length)),
            );
        }
        if let Some(max) = self.max_active
            && ask.active_others as i64 >= max
        {
            let message = format!(
                "allows {max} active grants per account, and {} has {}; end one of them first",
                ask.account, ask.active_others
            );
            wrong.push(self.violation("WA-TOO-MANY", "spec.serviceAccountRef", message));
        }
    }

    /// A violation that names this policy first.
    pub fn violation(
        &self,
        code: &'static str,
        path: &str,
        message: impl std::fmt::Display,
    ) -> Violation {
        let text = format!("policy '{}' {message}", self.name());
        Violation::new(code, path, Problem::Forbidden, text)
    }
}

fn selector(path: &str, selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector.clone()).map_err(|e| format!("{path}: {e}"))
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
