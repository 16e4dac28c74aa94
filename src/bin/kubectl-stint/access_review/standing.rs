//! Rights of accounts that nothing ends, as the report tells them.

use super::collect::{Bound, Found, KnownRole};
use super::grants::{instant, weight};
use super::model::Standing;
use crate::requests::Made;
use crate::show;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::Subject;
use kube::core::DynamicObject;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use stint::api::names::{GRANT, MANAGED_BY};
use stint::api::workload_access::Risk;
use stint::cluster::standing::RoleKey;
use stint::domain::binding::{self, Binding, BoundRole};
use stint::domain::catalogue::{Scope, Severity};
use stint::domain::defaults;
use stint::domain::plain::{self, PlainFinding, scope_of};
use stint::domain::policy;
use stint::domain::rules::Rule;

/// Who makes the bindings that the API server needs for itself.
pub const KUBERNETES: &str = "Kubernetes";
/// That nothing ends it, which is so of every entry, and therefore says nothing about its risk.
const STANDING: &str = "WA-STANDING";
/// What is told of bindings that bear the label of a grant and are none's.
const NO_REQUEST: &str = "made for a grant whose request is not among those read";
const NOT_ITS_BINDING: &str = "says that it is a grant's, and is not the binding of that grant";
/// Most rules of a role that are told; a role of megabytes must not become a report of gigabytes.
const MAX_RIGHTS: usize = 64;

/// Codes, and the highest severity of those that have one.
type Judged = (BTreeSet<&'static str>, Option<Severity>);

/// All of them: what somebody made before what Kubernetes makes for itself, the highest risk first.
pub fn all(found: &Found, now: Timestamp) -> Vec<Standing> {
    let known = found.requests.iter();
    let known = known.filter_map(|request| Some((request.metadata.uid.as_deref()?, request)));
    let mut review = Review {
        found,
        now,
        grants: known.collect(),
        roles: HashMap::new(),
    };
    let bindings = found.bindings.iter();
    let mut all: Vec<Standing> = bindings.flat_map(|bound| review.of(bound)).collect();
    all.sort_by(|a, b| order(a).cmp(&order(b)));
    all
}

fn order(one: &Standing) -> impl Ord {
    // What is not known comes first: nobody can say that it is harmless.
    let unknown = Reverse(one.risk.is_none());
    (
        one.is_of_kubernetes(),
        unknown,
        weight(one.risk.as_deref()),
        (one.kind.clone(), one.namespace.clone(), one.name.clone()),
        one.account.clone(),
    )
}

struct Review<'a> {
    found: &'a Found,
    now: Timestamp,
    /// All requests by their UIDs.
    grants: HashMap<&'a str, &'a DynamicObject>,
    /// What roles are worth, by the scope in which they are bound: the catalogue treats ordinary namespaces alike.
    roles: HashMap<(RoleKey, u8), Judged>,
}

impl Review<'_> {
    /// One entry for each account that the binding names.
    fn of(&mut self, bound: &Bound) -> Vec<Standing> {
        let labels = bound.meta.labels.as_ref();
        let grant = labels.and_then(|labels| labels.get(GRANT));
        let request = grant.and_then(|uid| self.grants.get(uid.as_str()).copied());
        if request.is_some_and(|request| is_of(bound, request)) {
            return Vec::new();
        }
        let (found, scope) = (self.found, scope(bound));
        let key = RoleKey::referred(&bound.role_ref, bound.meta.namespace.as_deref());
        let role = found.roles.get(&key);
        let of_rules = role.map(|role| self.of_rules(&key, role, scope));
        let accounts = accounts(bound, scope);
        let accounts = accounts.into_iter();
        accounts
            .map(|(account, subjects)| {
                let binding = Binding {
                    scope,
                    subjects: &subjects,
                    role_ref: &bound.role_ref,
                    role: self.bound_role(bound, role),
                };
                let mut judged = judged(&plain::of_binding(&binding));
                judged.0.insert(STANDING);
                let judged = together(judged, of_rules.clone().unwrap_or_default());
                let note = match (grant, request) {
                    (Some(_), None) => Some(NO_REQUEST),
                    (Some(_), Some(_)) => Some(NOT_ITS_BINDING),
                    (None, _) => None,
                };
                self.entry(bound, account, judged, role, note)
            })
            .collect()
    }

    fn bound_role<'b>(&self, bound: &Bound, role: Option<&'b KnownRole>) -> BoundRole<'b> {
        match role {
            Some(role) => BoundRole::Found {
                rules: &role.rules,
                aggregated: role.aggregated,
            },
            None if self.found.knows(resource(bound)) => BoundRole::Missing,
            None => BoundRole::Unknown,
        }
    }

    fn of_rules(&mut self, key: &RoleKey, role: &KnownRole, scope: Scope<'_>) -> Judged {
        let class = match scope {
            Scope::Namespace(_) => 0,
            Scope::PrivilegedNamespace(_) => 1,
            Scope::Cluster => 2,
        };
        let known = self.roles.entry((key.clone(), class));
        let judge = || judged(&plain::of_rules(&role.rules, "rules", true, scope));
        known.or_insert_with(judge).clone()
    }

    fn entry(
        &self,
        bound: &Bound,
        account: String,
        (codes, worst): Judged,
        role: Option<&KnownRole>,
        label: Option<&str>,
    ) -> Standing {
        let meta = &bound.meta;
        let managed_by = managed_by(bound, &account);
        let made = meta.creation_timestamp.as_ref();
        let missing = role.is_none() && self.found.knows(resource(bound));
        let known = role.is_some() || missing;
        Standing {
            kind: bound.kind.to_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            account,
            risk: known.then(|| worst.map_or(Risk::Low, policy::risk).as_str().to_owned()),
            codes: codes.into_iter().map(str::to_owned).collect(),
            role: format!("{} {}", bound.role_ref.kind, bound.role_ref.name),
            rights: role.map(|role| rights(&role.rules)).unwrap_or_default(),
            since: instant(made),
            age: made.map(|made| show::length(self.now.duration_since(made.0))),
            managed_by,
            note: label
                .or(missing.then_some("its role does not exist"))
                .map(str::to_owned),
            usage: None,
        }
    }
}

fn is_of(bound: &Bound, request: &DynamicObject) -> bool {
    let (meta, name) = (&bound.meta, bound.meta.name.as_deref());
    let namespace = meta.namespace.as_deref();
    Made::of(request).is(namespace, name.unwrap_or_default(), meta.uid.as_deref())
}

fn judged(found: &[PlainFinding]) -> Judged {
    let codes = found.iter().map(|finding| finding.violation.code).collect();
    let worst = found.iter().filter_map(|finding| finding.severity).max();
    (codes, worst)
}

fn together(mut one: Judged, other: Judged) -> Judged {
    one.0.extend(other.0);
    (one.0, one.1.max(other.1))
}

fn scope(bound: &Bound) -> Scope<'_> {
    let namespace = bound.meta.namespace.as_deref();
    namespace.map_or(Scope::Cluster, scope_of)
}

fn resource(bound: &Bound) -> &'static str {
    match bound.role_ref.kind.as_str() {
        "Role" => "roles.rbac.authorization.k8s.io",
        _ => "clusterroles.rbac.authorization.k8s.io",
    }
}

/// The accounts and groups of accounts that the binding names, each with all ways in which it names them.
fn accounts(bound: &Bound, scope: Scope<'_>) -> BTreeMap<String, Vec<Subject>> {
    let mut accounts: BTreeMap<String, Vec<Subject>> = BTreeMap::new();
    for subject in &bound.subjects {
        let alone = Binding {
            scope,
            subjects: std::slice::from_ref(subject),
            role_ref: &bound.role_ref,
            role: BoundRole::Unknown,
        };
        if !binding::standing(&alone).is_empty() {
            let account = account(scope, subject);
            accounts.entry(account).or_default().push(subject.clone());
        }
    }
    accounts
}

/// `namespace/name`, as requests name it; a group with its word.
fn account(scope: Scope<'_>, subject: &Subject) -> String {
    let identity = binding::identity(scope, subject);
    let parts = identity.strip_prefix("system:serviceaccount:");
    match parts.and_then(|parts| parts.split_once(':')) {
        Some((namespace, name)) => format!("{namespace}/{name}"),
        None => identity,
    }
}

fn rights(rules: &[Rule]) -> Vec<String> {
    let told = rules.iter().take(MAX_RIGHTS);
    let mut told: Vec<String> = told.map(|rule| show::line(&rule.to_string())).collect();
    if rules.len() > MAX_RIGHTS {
        let more = show::count(rules.len() - MAX_RIGHTS, "more rule");
        told.push(format!("and {more}"));
    }
    told
}

/// Kubernetes, for the accounts that it binds itself; otherwise whatever the binding says, which is anybody's to write and
/// cannot say that.
fn managed_by(bound: &Bound, holder: &str) -> Option<String> {
    let about = ObjectReference {
        kind: Some(bound.kind.to_owned()),
        namespace: bound.meta.namespace.clone(),
        name: bound.meta.name.clone(),
        ..ObjectReference::default()
    };
    let own = defaults::subjects(&about).unwrap_or_default();
    if own
        .iter()
        .any(|subject| account(scope(bound), subject) == holder)
    {
        return Some(KUBERNETES.to_owned());
    }
    let labels = bound.meta.labels.as_ref()?;
    labels
        .get(MANAGED_BY)
        .filter(|word| *word != KUBERNETES)
        .cloned()
}
