//! The work that a grant is for (`spec.until`) and the workload that acts (`spec.workloadRef`): what may be referred to, and
//! whether it is over. Decides on facts alone; who gathers them never guesses.

use crate::api::names;
use crate::api::references::{ConditionStatus, UntilRef, WorkloadKind, WorkloadRef};
use crate::api::workload_access::EndReason;
use crate::domain::facts::{Facts, ObjectFacts, UntilFacts, Workload, WorkloadFacts};
use crate::domain::grant::{Grant, is_dns_subdomain};
use crate::domain::violation::{Problem, Violation};

/// A kind of object that `until` may refer to in this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group and version, `apps/v1`; `v1` for the core group.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Lower-case plural, as in URLs.
    pub resource: String,
}

/// The kinds that the chart lists unless it is told otherwise.
const DEFAULT_KINDS: [(&str, &str, &str); 3] = [
    ("batch/v1", "Job", "jobs"),
    ("v1", "Pod", "pods"),
    ("apps/v1", "Deployment", "deployments"),
];

/// The kinds that the chart lists unless it is told otherwise.
pub fn default_kinds() -> Vec<Kind> {
    let kind = |(api_version, kind, resource): (&str, &str, &str)| Kind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        resource: resource.to_owned(),
    };
    DEFAULT_KINDS.map(kind).to_vec()
}

/// Checks what can be said of the references alone, in the words of the schema where it says the same.
pub(crate) fn well_formed(
    until: Option<&UntilRef>,
    workload: Option<&WorkloadRef>,
    wrong: &mut Vec<Violation>,
) {
    let names = [
        (until.map(|until| &until.name), "spec.until.name"),
        (
            workload.map(|workload| &workload.name),
            "spec.workloadRef.name",
        ),
    ];
    for (name, path) in names {
        if let Some(name) = name.filter(|name| !is_dns_subdomain(name)) {
            let message = "must be a Kubernetes name: lower-case letters, digits, `-` and `.`";
            wrong.push(Violation::new("WA-NAME", path, Problem::Invalid, message).found(name));
        }
    }
    if workload.is_some_and(|workload| workload.uid.is_empty()) {
        let message =
            "must set the UID of the workload; `kubectl get -o jsonpath={.metadata.uid}` shows it";
        let path = "spec.workloadRef.uid";
        wrong.push(Violation::new(
            "WA-WORKLOAD",
            path,
            Problem::Required,
            message,
        ));
    }
    let Some(until) = until else {
        return;
    };
    if group(&until.api_version) == names::GROUP {
        let message = "must refer to the work itself, not to a kind of Stint";
        wrong.push(
            Violation::new("WA-UNTIL", "spec.until.kind", Problem::Forbidden, message)
                .found(&until.kind),
        );
    } else if until.condition.is_none() && !has_an_end(until) {
        let message = "must set `condition`: only of a Job, a Pod and a Deployment is it known when they are done";
        let path = "spec.until.condition";
        wrong.push(Violation::new("WA-UNTIL", path, Problem::Required, message));
    }
}

/// The API group of an `apiVersion`; empty for the core group.
pub fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether it is known of the kind itself when its objects are done.
fn has_an_end(until: &UntilRef) -> bool {
    let known = |(api_version, kind, _): &(&str, &str, &str)| is(until, api_version, kind);
    DEFAULT_KINDS.iter().any(known)
}

fn is(until: &UntilRef, api_version: &str, kind: &str) -> bool {
    until.api_version == api_version && until.kind == kind
}

/// The UID that the object of `until` had when it was first seen, now or before.
pub(crate) fn until_uid(facts: &Facts) -> Option<String> {
    let recorded = facts.live.as_ref().and_then(|live| live.until_uid.clone());
    recorded.or_else(|| match &facts.until {
        UntilFacts::Found(object) => Some(object.uid.clone()),
        _ => None,
    })
}

/// Whether the grant is over because the work or the workload is.
pub(crate) fn over(grant: &Grant, facts: &Facts) -> Option<(EndReason, String)> {
    if let Some(why) = work_over(grant, facts) {
        let text = match facts.live {
            Some(_) => why,
            None => format!("{why} before access began; refer to work that is still to be done"),
        };
        return Some((EndReason::Completed, text));
    }
    // A request whose workload is over before it began is refused instead (`refusals`).
    facts.live.as_ref()?;
    let why = workload_over(grant.workload()?, &facts.workload)?;
    Some((EndReason::WorkloadGone, why))
}

fn work_over(grant: &Grant, facts: &Facts) -> Option<String> {
    let until = grant.until()?;
    let (kind, name) = (&until.kind, &until.name);
    let pinned = facts.live.as_ref().and_then(|live| live.until_uid.as_ref());
    match (&facts.until, pinned) {
        (UntilFacts::Absent, Some(_)) => Some(format!("{kind} '{name}' is gone")),
        // Not the work itself: `refusals` says so.
        (UntilFacts::Found(object), _) if object.made_by_stint => None,
        (UntilFacts::Found(object), Some(uid)) if object.uid != *uid => Some(format!(
            "{kind} '{name}' is gone, and another one has its name"
        )),
        (UntilFacts::Found(object), _) if object.deleting => {
            Some(format!("{kind} '{name}' is being deleted"))
        }
        (UntilFacts::Found(object), _) => done(until, object),
        // What was never seen ends nothing: the clock alone counts.
        (UntilFacts::NotReferenced | UntilFacts::NotAllowed(_) | UntilFacts::Unknown, _)
        | (UntilFacts::Absent, None) => None,
    }
}

/// Why the object's own status says that its work is done.
fn done(until: &UntilRef, object: &ObjectFacts) -> Option<String> {
    let (kind, name) = (&until.kind, &until.name);
    let says =
        |type_: &str, status: &str| format!("{kind} '{name}' has the condition {type_}={status}");
    let holds = |type_: &str, status: &str| {
        let mut all = object.conditions.iter();
        all.any(|(t, s)| t == type_ && s == status)
    };
    if let Some(condition) = &until.condition {
        let status = condition.status.unwrap_or(ConditionStatus::True).as_str();
        if holds(&condition.type_, status) {
            return Some(says(&condition.type_, status));
        }
    }
    if is(until, "batch/v1", "Job") {
        let ends = ["Complete", "Failed"].into_iter();
        return ends
            .filter(|type_| holds(type_, "True"))
            .map(|type_| says(type_, "True"))
            .next();
    }
    let phase = object.phase.as_deref().unwrap_or_default();
    let ended = is(until, "v1", "Pod") && is_terminal(phase);
    ended.then(|| format!("{kind} '{name}' has ended ({phase})"))
}

/// Whether a Pod in this phase never runs again.
pub fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

fn workload_over(wanted: &WorkloadRef, found: &WorkloadFacts) -> Option<String> {
    let kind = wanted.kind.as_str();
    let name = &wanted.name;
    match found {
        WorkloadFacts::Absent => Some(format!("{kind} '{name}' is gone")),
        WorkloadFacts::Found(workload) if workload.uid != wanted.uid => Some(format!(
            "{kind} '{name}' is gone, and another one has its name"
        )),
        WorkloadFacts::Found(workload) if workload.deleting => {
            Some(format!("{kind} '{name}' is being deleted"))
        }
        WorkloadFacts::Found(workload) if workload.terminal => {
            Some(format!("{kind} '{name}' has ended"))
        }
        WorkloadFacts::Found(_) | WorkloadFacts::NotReferenced | WorkloadFacts::Unknown => None,
    }
}

/// What is wrong with the references, as the cluster is now.
pub(crate) fn refusals(grant: &Grant, facts: &Facts, wrong: &mut Vec<Violation>) {
    if let Some(until) = grant.until() {
        wrong.extend(not_work(until, &facts.until));
    }
    if let Some(workload) = grant.workload() {
        wrong.extend(not_acting(grant, workload, &facts.workload));
    }
}

fn not_work(until: &UntilRef, found: &UntilFacts) -> Option<Violation> {
    let refuse = |path: &str, message: String, found: String| {
        Violation::new("WA-UNTIL", path, Problem::Forbidden, message).found(found)
    };
    match found {
        UntilFacts::NotAllowed(kinds) => {
            let listed = kinds
                .iter()
                .map(|k| format!("{} {}", k.api_version, k.kind));
            let listed: Vec<String> = listed.collect();
            let allowed = match listed.is_empty() {
                true => "this installation allows none".to_owned(),
                false => format!("this installation allows {}", listed.join(", ")),
            };
            let message = format!("{allowed}; the chart value `until.kinds` adds kinds");
            let kind = format!("{} {}", until.api_version, until.kind);
            Some(refuse("spec.until.kind", message, kind))
        }
        UntilFacts::Found(object) if object.made_by_stint => {
            let message = "must refer to the work itself: Stint made this object for a grant";
            Some(refuse(
                "spec.until.name",
                message.into(),
                until.name.clone(),
            ))
        }
        _ => None,
    }
}

fn not_acting(grant: &Grant, wanted: &WorkloadRef, found: &WorkloadFacts) -> Option<Violation> {
    let kind = wanted.kind.as_str();
    let namespace = &grant.account().namespace;
    let refuse = |path: &str, problem, message: String, found: &str| {
        Some(Violation::new("WA-WORKLOAD", path, problem, message).found(found))
    };
    let workload = match found {
        WorkloadFacts::NotReferenced | WorkloadFacts::Unknown => return None,
        WorkloadFacts::Absent => {
            let message = format!(
                "must name a {kind} that exists in the account's namespace '{namespace}'; start it first"
            );
            return refuse(
                "spec.workloadRef.name",
                Problem::NotFound,
                message,
                &wanted.name,
            );
        }
        WorkloadFacts::Found(workload) => workload,
    };
    if workload.uid != wanted.uid {
        let message = format!(
            "must be the UID of the {kind} as it is now, '{}'",
            workload.uid
        );
        return refuse(
            "spec.workloadRef.uid",
            Problem::Invalid,
            message,
            &wanted.uid,
        );
    }
    if workload.deleting || workload.terminal {
        let message =
            format!("must name a {kind} that still runs; this one has ended or is being deleted");
        return refuse(
            "spec.workloadRef.name",
            Problem::Invalid,
            message,
            &wanted.name,
        );
    }
    if workload.service_account != grant.account().name {
        let message = format!(
            "must name a {kind} that runs as the account {}; this one runs as '{namespace}/{}'",
            grant.account(),
            workload.service_account
        );
        return refuse(
            "spec.workloadRef",
            Problem::Forbidden,
            message,
            &wanted.name,
        );
    }
    None
}

/// What conditions see of the workload.
pub(crate) fn acting(facts: &WorkloadFacts) -> Option<&Workload> {
    match facts {
        WorkloadFacts::Found(workload) => Some(workload),
        _ => None,
    }
}

/// The kinds of workloads, which are always watched where a request refers to one.
pub fn workload_kinds() -> [Kind; 2] {
    let kind = |kind: WorkloadKind, resource: &str| Kind {
        api_version: kind.api_version().to_owned(),
        kind: kind.as_str().to_owned(),
        resource: resource.to_owned(),
    };
    [
        kind(WorkloadKind::Pod, "pods"),
        kind(WorkloadKind::Job, "jobs"),
    ]
}
