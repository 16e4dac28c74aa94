//! The parsed form of a request. `Grant::parse` is the only parser: webhook, controller and tools call it.

use crate::api::references::{UntilRef, WorkloadRef};
use crate::api::workload_access::{RoleKind, RoleReference, Urgency, WorkloadAccessSpec};
use crate::domain::break_glass;
use crate::domain::catalogue::{self, Scope};
use crate::domain::completion;
use crate::domain::hygiene;
use crate::domain::request::{AccessRequest, Place, Spec, SpecRef, Terms};
use crate::domain::rules::Rule;
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// The account that a grant is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// Namespace of the ServiceAccount.
    pub namespace: String,
    /// Name of the ServiceAccount.
    pub name: String,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where the rules of a grant come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Written in the request.
    Rules(Vec<Rule>),
    /// Copied from a role at activation.
    Role(RoleReference),
}

impl Source {
    /// The field that says what is asked for.
    pub fn path(&self) -> &'static str {
        match self {
            Self::Rules(_) => "spec.rules",
            Self::Role(_) => "spec.roleRef",
        }
    }

    /// Whether the requester wrote the rules, so that a path can point into them.
    pub fn is_inline(&self) -> bool {
        matches!(self, Self::Rules(_))
    }
}

/// When a grant ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At this instant, whole seconds.
    At(Timestamp),
    /// This long after activation.
    After(SignedDuration),
}

impl End {
    /// The field that sets it.
    pub fn path(self) -> &'static str {
        match self {
            Self::At(_) => "spec.notAfter",
            Self::After(_) => "spec.duration",
        }
    }

    /// Whether it is later than another; one of the other kind is not comparable, and counts as later.
    pub fn is_later_than(self, other: Self) -> bool {
        match (self, other) {
            (Self::At(new), Self::At(old)) => new > old,
            (Self::After(new), Self::After(old)) => new > old,
            _ => true,
        }
    }
}

/// A well-formed request. Made only by [`Grant::parse`].
#[derive(Clone, Debug)]
pub struct Grant {
    place: Place,
    name: String,
    uid: String,
    account: Account,
    account_uid: Option<String>,
    source: Arc<Source>,
    not_before: Option<Timestamp>,
    end: End,
    ticket: Option<String>,
    until: Option<UntilRef>,
    workload: Option<WorkloadRef>,
    urgency: Urgency,
    revoked: bool,
    deleting: bool,
    spec: Arc<Spec>,
}

/// Longest text of a request that is read without a look at its size first, in bytes.
const SMALL: usize = 64 * 1024;

impl Grant {
    /// What is far too large in the text of a request, for who would have to read it all to refuse it. Sizes that are
    /// merely wrong are told by [`Grant::parse`] and the judge, in the same words.
    pub fn oversized(text: &str) -> Vec<Violation> {
        match text.len() > SMALL {
            true => hygiene::oversized(text),
            false => Vec::new(),
        }
    }

    /// Parses an object, or says everything that is wrong with it alone.
    pub fn parse(object: &impl AccessRequest) -> Result<Self, Vec<Violation>> {
        let mut wrong = Vec::new();
        let view = object.view();
        // Before anything is copied: what is far too large is not worth a closer look.
        if let Some(violation) = hygiene::too_many_rules("spec.rules", view.spec.count()) {
            return Err(vec![violation]);
        }
        let place = view.place();
        let terms = view.spec.terms();
        let account = account(&terms, &place, &mut wrong);
        let source = source(view.spec, &place, &mut wrong);
        let not_before = optional_instant("spec.notBefore", terms.not_before, &mut wrong);
        let end = end(&terms, &mut wrong);
        reason(&terms, &mut wrong);
        completion::well_formed(terms.until, terms.workload, &mut wrong);
        wrong.extend(break_glass::without_ticket(terms.urgency, terms.ticket));
        if let (Some(from), Some(End::At(until))) = (not_before, end)
            && from >= until
        {
            wrong.push(Violation::new(
                "WA-WINDOW",
                "spec.notBefore",
                Problem::Invalid,
                "must be earlier than `notAfter`",
            ));
        }
        match (source, end, wrong.is_empty()) {
            (Some(source), Some(end), true) => Ok(Self {
                name: view.meta.name.clone().unwrap_or_default(),
                uid: view.meta.uid.clone().unwrap_or_default(),
                place,
                account,
                account_uid: terms.account.uid.clone(),
                source: Arc::new(source),
                not_before,
                end,
                ticket: terms.ticket.map(str::to_owned),
                until: terms.until.cloned(),
                workload: terms.workload.cloned(),
                urgency: terms.urgency,
                revoked: terms.revoked,
                deleting: view.meta.deletion_timestamp.is_some(),
                spec: Arc::new(view.spec.to_owned()),
            }),
            (source, _, _) => {
                // The judge will not see this request, so its inline rules are held against the catalogue here:
                // a requester learns everything at once.
                if let Some(Source::Rules(rules)) = source {
                    let scope = match &place {
                        Place::Namespace(name) => Scope::Namespace(name),
                        Place::Cluster => Scope::Cluster,
                    };
                    wrong.extend(catalogue::violations(&rules, "spec.rules", true, scope));
                }
                Err(wrong)
            }
        }
    }

    /// Where the rights would hold, and where everything made for them lives.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The namespace whose labels policies select by: of the request, or for the whole cluster, of the account.
    pub fn home(&self) -> &str {
        self.place.namespace().unwrap_or(&self.account.namespace)
    }

    /// Name of the request.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// UID of the request; empty only while the API server has not assigned one.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// UID that the requester pinned, if any.
    pub fn account_uid(&self) -> Option<&str> {
        self.account_uid.as_deref()
    }

    /// Where the rules come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Start of the window, if it was set.
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// End of the window.
    pub fn end(&self) -> End {
        self.end
    }

    /// The spec as it was written.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The change or incident that the request belongs to.
    pub fn ticket(&self) -> Option<&str> {
        self.ticket.as_deref()
    }

    /// The work that ends the grant, if it was named.
    pub fn until(&self) -> Option<&UntilRef> {
        self.until.as_ref()
    }

    /// The workload that acts, if it was named.
    pub fn workload(&self) -> Option<&WorkloadRef> {
        self.workload.as_ref()
    }

    /// How urgent it is.
    pub fn urgency(&self) -> Urgency {
        self.urgency
    }

    /// Hash of the spec, which an approval names (see [`SpecRef::hash`]).
    pub fn spec_hash(&self) -> String {
        self.spec.hash()
    }

    /// Whether somebody ended the grant by `revoked: true`.
    pub fn revoked(&self) -> bool {
        self.revoked
    }

    /// Whether the object is being deleted.
    pub fn deleting(&self) -> bool {
        self.deleting
    }
}

/// Hash of what a receipt vouches for (see [`SpecRef::hash`]).
pub fn spec_hash(spec: &WorkloadAccessSpec) -> String {
    SpecRef::Namespaced(spec).hash()
}

fn account(terms: &Terms<'_>, place: &Place, wrong: &mut Vec<Violation>) -> Account {
    let reference = terms.account;
    if reference.name == "default" {
        wrong.push(
            Violation::new(
                "WA-ACCOUNT-DEFAULT",
                "spec.serviceAccountRef.name",
                Problem::Invalid,
                "must name a dedicated ServiceAccount, not `default`, which every pod without one shares",
            )
            .found("default"),
        );
    }
    if reference.namespace.is_none() && *place == Place::Cluster {
        wrong.push(Violation::new(
            "WA-NAME",
            "spec.serviceAccountRef.namespace",
            Problem::Required,
            "must set `namespace`: a ClusterWorkloadAccess has none of its own",
        ));
    }
    let names = [Some(&reference.name), reference.namespace.as_ref()];
    for (name, field) in names.into_iter().zip(["name", "namespace"]) {
        if let Some(name) = name
            && !is_dns_subdomain(name)
        {
            wrong.push(
                Violation::new(
                    "WA-NAME",
                    format!("spec.serviceAccountRef.{field}"),
                    Problem::Invalid,
                    "must be a Kubernetes name: lower-case letters, digits, `-` and `.`",
                )
                .found(name),
            );
        }
    }
    let own = || place.namespace().unwrap_or_default().to_owned();
    Account {
        namespace: reference.namespace.clone().unwrap_or_else(own),
        name: reference.name.clone(),
    }
}

/// RFC 1123 subdomain, as Kubernetes validates most names.
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 253
        && bytes.iter().all(|b| inner(*b) || matches!(b, b'-' | b'.'))
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
}

fn source(spec: SpecRef<'_>, place: &Place, wrong: &mut Vec<Violation>) -> Option<Source> {
    match (spec.rules(), spec.terms().role_ref) {
        (Some(rules), None) => {
            complete(&rules, wrong);
            Some(Source::Rules(rules))
        }
        (None, Some(role)) => {
            if role.kind == RoleKind::Role && *place == Place::Cluster {
                let message = "must be a ClusterRole: a ClusterWorkloadAccess has no namespace";
                let path = "spec.roleRef.kind";
                wrong.push(
                    Violation::new("WA-RULES", path, Problem::Invalid, message).found("Role"),
                );
            }
            Some(Source::Role(role.clone()))
        }
        (both, _) => {
            wrong.push(Violation::new(
                "WA-RULES",
                "spec",
                if both.is_some() {
                    Problem::Invalid
                } else {
                    Problem::Required
                },
                "exactly one of `rules` and `roleRef` must be set",
            ));
            None
        }
    }
}

/// A rule without verbs, groups or resources grants nothing and would count as covered by anything (RBAC `Covers`). One of
/// URL paths has verbs and nothing else, as the API server wants it.
fn complete(rules: &[Rule], wrong: &mut Vec<Violation>) {
    let missing = |path: String, what: &str| {
        let message = format!("must list at least one {what}");
        Violation::new("WA-RULES", path, Problem::Required, message)
    };
    if rules.is_empty() {
        wrong.push(missing("spec.rules".into(), "rule"));
    }
    for (i, rule) in rules.iter().enumerate() {
        let of_urls = !rule.non_resource_urls.is_empty();
        let lists = [
            (
                !of_urls && rule.api_groups.is_empty(),
                "apiGroups",
                "API group",
            ),
            (
                !of_urls && rule.resources.is_empty(),
                "resources",
                "resource",
            ),
            (rule.verbs.is_empty(), "verbs", "verb"),
        ];
        for (_, field, what) in lists.iter().filter(|(empty, ..)| *empty) {
            wrong.push(missing(format!("spec.rules[{i}].{field}"), what));
        }
        if of_urls {
            urls(rule, i, wrong);
        }
    }
}

fn urls(rule: &Rule, i: usize, wrong: &mut Vec<Violation>) {
    let mut refuse = |path: String, message: &str, found: Option<&String>| {
        let violation = Violation::new("WA-RULES", path, Problem::Invalid, message);
        wrong.push(match found {
            Some(found) => violation.found(found),
            None => violation,
        });
    };
    let on_resources = [&rule.api_groups, &rule.resources, &rule.resource_names];
    if on_resources.iter().any(|list| !list.is_empty()) {
        let message = "must list `apiGroups` and `resources`, or `nonResourceURLs` alone";
        refuse(format!("spec.rules[{i}]"), message, None);
    }
    for (j, url) in rule.non_resource_urls.iter().enumerate() {
        // What `*` means is the catalogue's to say.
        if !url.starts_with('/') && !url.contains('*') {
            let path = format!("spec.rules[{i}].nonResourceURLs[{j}]");
            let message = "must list paths that begin with `/`; nothing matches this one";
            refuse(path, message, Some(url));
        }
    }
}

fn optional_instant(
    path: &str,
    text: Option<&str>,
    wrong: &mut Vec<Violation>,
) -> Option<Timestamp> {
    match window::parse_instant(path, text?) {
        Ok(instant) => Some(instant),
        Err(violation) => {
            wrong.push(violation);
            None
        }
    }
}

fn end(terms: &Terms<'_>, wrong: &mut Vec<Violation>) -> Option<End> {
    let parsed = match (terms.not_after, terms.duration) {
        (Some(text), None) => window::parse_instant("spec.notAfter", text).map(End::At),
        (None, Some(text)) => window::parse_duration("spec.duration", text).map(End::After),
        (None, None) => Err(Violation::new(
            "WA-NO-EXPIRY",
            "spec",
            Problem::Required,
            "must set `notAfter` or `duration`",
        )),
        (Some(_), Some(_)) => Err(Violation::new(
            "WA-WINDOW",
            "spec",
            Problem::Invalid,
            "must set only one of `notAfter` and `duration`",
        )),
    };
    match parsed {
        Ok(End::After(length)) if length > window::HARD_MAX => {
            wrong.push(
                Violation::new(
                    "WA-TOO-LONG",
                    "spec.duration",
                    Problem::Invalid,
                    format!(
                        "must be less than or equal to {}",
                        window::show(window::HARD_MAX)
                    ),
                )
                .found(window::show(length)),
            );
            None
        }
        Ok(end) => Some(end),
        Err(violation) => {
            wrong.push(violation);
            None
        }
    }
}

fn reason(terms: &Terms<'_>, wrong: &mut Vec<Violation>) {
    if terms.reason.trim().is_empty() {
        wrong.push(Violation::new(
            "WA-NO-REASON",
            "spec.reason",
            Problem::Required,
            "must say why the rights are needed",
        ));
    }
}
