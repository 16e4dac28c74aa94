//! Why a policy does or does not admit a request: every reason at once.

use crate::api::access_policy::{Cumulative, RequireResourceNames};
use crate::api::workload_access::{Risk, Urgency};
use crate::domain::catalogue::{self, Disposition, Finding, Scope, Severity};
use crate::domain::condition::Inputs;
use crate::domain::facts::Facts;
use crate::domain::grant::{Account, Grant, Source};
use crate::domain::policy::{Labels, Policy, list};
use crate::domain::request::Place;
use crate::domain::rules::Rule;
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;
use jiff::{SignedDuration, Timestamp};
use kube::core::SelectorExt;

/// What a policy is asked about one request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The account.
    pub account: &'a Account,
    /// Labels of the account.
    pub account_labels: &'a Labels,
    /// The namespace that policies select by: of the request, or for the whole cluster, of the account.
    pub namespace: &'a str,
    /// Where the rules come from.
    pub source: &'a Source,
    /// The rules themselves.
    pub rules: &'a [Rule],
    /// Where they would hold.
    pub scope: Scope<'a>,
    /// What the catalogue finds about them.
    pub findings: &'a [Finding],
    /// What they make together with what the account holds already.
    pub combined: &'a [Combined],
    /// The highest severity of these.
    pub risk: Risk,
    /// Length of the grant.
    pub length: SignedDuration,
    /// Path of the field that sets the length.
    pub length_path: &'static str,
    /// The same from the beginning of the grant, whenever its end was moved.
    pub whole: SignedDuration,
    /// How often its end was moved to later.
    pub extensions: u32,
    /// When the grant would end.
    pub not_after: Timestamp,
    /// Since when the account holds grants of this policy without a break, this grant included.
    pub held_since: Timestamp,
    /// How urgent it is.
    pub urgency: Urgency,
    /// When the time in which the policy could admit the request was over, if it is.
    pub too_late: Option<Timestamp>,
    /// The ticket of the request.
    pub ticket: Option<&'a str>,
    /// Other live grants of the account.
    pub active_others: usize,
    /// What conditions see.
    pub inputs: &'a Inputs<'a>,
}

/// A combination, and what the account holds already that completes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combined {
    /// The combination.
    pub finding: Finding,
    /// The bindings that contribute; empty when the request is enough by itself.
    pub with: Vec<String>,
}

/// Why no ClusterWorkloadAccess is granted in this installation.
pub fn cluster_grants_are_off() -> Violation {
    let message = "is switched off in this installation; the chart value `clusterGrants.enabled` switches it on";
    Violation::new("WA-NOT-ALLOWED", "kind", Problem::Forbidden, message)
        .found("ClusterWorkloadAccess")
}

/// Why a request is refused that no policy is there for.
pub(crate) fn no_policy(grant: &Grant, facts: &Facts) -> Violation {
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

type Check = fn(&Policy, &Ask<'_>, &mut Vec<Violation>);

/// What a policy looks at, in the order in which it is told. Conditions are the dearest and come last.
const CHECKS: [Check; 15] = [
    Policy::awake,
    Policy::in_time,
    Policy::whole_cluster,
    Policy::account,
    Policy::covered,
    Policy::accepted,
    Policy::combined,
    Policy::named,
    Policy::lengths,
    Policy::extensions,
    Policy::emergency,
    Policy::ticket,
    Policy::until,
    Policy::places,
    Policy::conditions,
];

impl Policy {
    /// Every reason why this policy does not admit the request; empty means that it does.
    pub fn refusals(&self, ask: &Ask<'_>) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for check in CHECKS {
            check(self, ask, &mut wrong);
        }
        wrong
    }

    /// Whether there is none: the same checks up to the first that refuses.
    pub fn admits(&self, ask: &Ask<'_>) -> bool {
        let mut wrong = Vec::new();
        CHECKS.iter().all(|check| {
            check(self, ask, &mut wrong);
            wrong.is_empty()
        })
    }

    fn awake(&self, _: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if self.suspended {
            let message = "is suspended; ask its owners or use another policy";
            wrong.push(self.violation("WA-SUSPENDED", "spec", message));
        }
    }

    fn in_time(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if let Some(until) = ask.too_late {
            let message = format!("could admit this request until {until}; create another");
            wrong.push(self.violation("WA-WINDOW", "spec", message));
        }
    }

    fn whole_cluster(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if ask.scope == Scope::Cluster && !self.cluster {
            let message = "allows nothing in the whole cluster; ask for a WorkloadAccess in the namespace, or for `allow.cluster: true`";
            let violation = self.violation("WA-NOT-ALLOWED", "kind", message);
            wrong.push(violation.found("ClusterWorkloadAccess"));
        }
    }

    fn account(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        let Account { namespace, name } = ask.account;
        let foreign = namespace != ask.namespace;
        if foreign && !self.account_namespaces.contains(namespace) {
            let path = "spec.serviceAccountRef.namespace";
            let message = "does not admit accounts of this other namespace";
            wrong.push(
                self.violation("WA-ACCOUNT-FOREIGN", path, message)
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

    fn covered(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if let Source::Role(role) = ask.source
            && self.role_refs.contains(role)
        {
            return;
        }
        for rule in self.envelope.uncovered(ask.rules) {
            let message = "does not allow this; request less, or ask for a wider `allow`";
            wrong.push(
                self.violation("WA-NOT-ALLOWED", ask.source.path(), message)
                    .found(rule.to_string()),
            );
        }
    }

    /// Findings that a policy must name before they are granted.
    fn accepted(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        let (base, indexed) = (ask.source.path(), ask.source.is_inline());
        for finding in ask.findings {
            let id = finding.id;
            if finding.disposition != Disposition::Named || self.findings.contains(id) {
                continue;
            }
            for found in catalogue::explain(id, ask.rules, base, indexed, ask.scope) {
                let message = format!(
                    "policy '{}' grants this only with {id} in its `allow.findings`; {}",
                    self.name(),
                    found.message
                );
                wrong.push(Violation { message, ..found });
            }
        }
    }

    fn combined(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        for combined in ask.combined.iter().filter(|c| self.denies(&c.finding)) {
            let Finding {
                id, title, effect, ..
            } = combined.finding;
            let with = match combined.with.as_slice() {
                [] => String::new(),
                with => format!(" together with {}", with.join(", ")),
            };
            let message = format!(
                "refuses the combination \"{title}\" that this makes{with}: {effect}; end the other access first, or ask for {id} in its `allow.findings`"
            );
            wrong.push(self.violation(id, ask.source.path(), message));
        }
    }

    /// Whether the policy refuses a combination. Without a word about it, the critical ones.
    fn denies(&self, finding: &Finding) -> bool {
        let severe = match self.cumulative {
            Some(Cumulative::Deny) => true,
            Some(Cumulative::Warn) => false,
            None => finding.severity == Severity::Critical,
        };
        severe && !self.findings.contains(finding.id)
    }

    /// Verbs that must be restricted to objects by name.
    fn named(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        let (base, indexed) = (ask.source.path(), ask.source.is_inline());
        for (i, rule) in ask.rules.iter().enumerate() {
            let open: Vec<&str> = self.open_verbs(rule);
            if rule.resource_names.is_empty() && !open.is_empty() {
                let path = if indexed {
                    format!("{base}[{i}].resourceNames")
                } else {
                    base.to_owned()
                };
                let message = format!("requires `resourceNames` for {}", open.join(", "));
                wrong.push(self.violation("WA-NO-NAMES", &path, message));
            }
        }
    }

    fn open_verbs<'a>(&self, rule: &'a Rule) -> Vec<&'a str> {
        // A path is a name already, and Kubernetes knows no other for it.
        if !rule.non_resource_urls.is_empty() {
            return Vec::new();
        }
        let nameless = |verb: &str| {
            let whole = rule.resources.iter().all(|r| !r.contains('/'));
            verb == "create" && whole
        };
        let exempt = |verb: &str| match self.names {
            RequireResourceNames::None => true,
            RequireResourceNames::Writes => {
                matches!(verb, "get" | "list" | "watch") || nameless(verb)
            }
            RequireResourceNames::All => nameless(verb),
        };
        let verbs = rule.verbs.iter().map(String::as_str);
        verbs.filter(|verb| !exempt(verb)).collect()
    }

    fn lengths(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        let limit = self.max_duration[&ask.risk];
        if ask.length > limit {
            let of_risk = if limit < self.max_duration[&Risk::Low] {
                format!(" for rights of risk {}", ask.risk.as_str())
            } else {
                String::new()
            };
            let message = format!(
                "allows less than or equal to {}{of_risk}",
                window::show(limit)
            );
            wrong.push(
                self.violation("WA-TOO-LONG", ask.length_path, message)
                    .found(window::show(ask.length)),
            );
        }
        let total = ask.not_after.duration_since(ask.held_since);
        if let Some(limit) = self.max_total
            && total > limit
        {
            let message = format!(
                "allows {} without a break, and {} holds grants of it since {}; ask again when they have ended",
                window::show(limit),
                ask.account,
                ask.held_since
            );
            wrong.push(
                self.violation("WA-TOO-LONG", ask.length_path, message)
                    .found(window::show(total)),
            );
        }
    }

    /// A grant whose end was moved must not become longer by that than it could have been asked for, unless `maxTotal` says
    /// how long it may last in all.
    fn extensions(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if ask.extensions == 0 {
            return;
        }
        if i64::from(ask.extensions) > self.max_extensions {
            let message = match self.max_extensions {
                0 => "allows no end to be moved to later; ask for another grant".to_owned(),
                max => {
                    format!("allows an end to be moved to later {max} times; ask for another grant")
                }
            };
            let violation = self.violation("WA-EXTENSIONS", ask.length_path, message);
            wrong.push(violation.found(ask.extensions.to_string()));
        }
        let limit = self.max_duration[&ask.risk];
        if self.max_total.is_none() && ask.whole > limit {
            let limit = window::show(limit);
            let message = format!(
                "allows {limit} in all, extensions included, since it has no `limits.maxTotal`"
            );
            let violation = self.violation("WA-TOO-LONG", ask.length_path, message);
            wrong.push(violation.found(window::show(ask.whole)));
        }
    }

    fn ticket(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        let Some(pattern) = &self.ticket else {
            return;
        };
        if ask.ticket.is_some_and(|ticket| pattern.is_match(ticket)) {
            return;
        }
        let message = format!("requires a ticket that matches `{pattern}`");
        let mut violation = self.violation("WA-TICKET", "spec.ticket", message);
        violation.found = ask.ticket.map(str::to_owned);
        wrong.push(violation);
    }

    fn until(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if self.require_until && ask.inputs.grant.until().is_none() {
            let message = "requires `until`: name the Job, Pod or other object that the access is for, with which it ends";
            wrong.push(Violation {
                problem: Problem::Required,
                ..self.violation("WA-UNTIL", "spec.until", message)
            });
        }
    }

    fn places(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
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

    pub(super) fn conditions(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        for condition in &self.conditions {
            if let Err(unmet) = condition.holds(ask.inputs) {
                wrong.push(self.violation("WA-CONDITION", "spec", unmet.why));
            }
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
