//! What somebody changed about the objects of a live grant, past the admission policies: how they differ from what was
//! judged. What the server or other tools add, such as labels and annotations of their own, is no difference.

use crate::api::names;
use crate::api::workload_access::WorkloadAccessStatus;
use crate::domain::covers::Ceiling;
use crate::domain::desired;
use crate::domain::judge::Approved;
use crate::domain::plan::{Observed, same_owner};
use crate::domain::record;
use crate::domain::request::Place;
use crate::domain::rules::Rule;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding, Subject};
use kube::core::ResourceExt;

/// Longest value that is shown of what was found, in characters.
const SHOWN: usize = 64;
/// Most values of a list that are shown.
const LISTED: usize = 3;

/// One object that is not as it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Kind of the object.
    pub kind: &'static str,
    /// What differs.
    pub what: Vec<String>,
}

impl Drift {
    /// Whether it is about who has the rights.
    pub fn is_of_binding(&self) -> bool {
        matches!(self.kind, "RoleBinding" | "ClusterRoleBinding")
    }

    /// Whether it is about the deadline that Kubernetes counts.
    pub fn is_of_deadline(&self) -> bool {
        self.kind == "Job"
    }
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.what.join(", "))
    }
}

/// In one line.
pub fn words(drifts: &[Drift]) -> String {
    let all: Vec<String> = drifts.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// What differs. Without a binding the grant is only being made, and nothing of it can have been changed.
pub fn found(
    approved: &Approved,
    observed: &Observed,
    status: Option<&WorkloadAccessStatus>,
    generation: Option<i64>,
) -> Vec<Drift> {
    let Some(binding) = &observed.binding else {
        return Vec::new();
    };
    let told = Told::of(approved, status, generation);
    let (role_kind, binding_kind) = match approved.grant().place() {
        Place::Namespace(_) => ("Role", "RoleBinding"),
        Place::Cluster => ("ClusterRole", "ClusterRoleBinding"),
    };
    let job_uid = observed.job.as_ref().and_then(|job| job.uid());
    let job_uid = job_uid.as_deref();
    let job = observed
        .job
        .as_ref()
        .map(|job| of_job(job, approved, &told));
    let role = of_role(observed.role.as_ref(), approved, job_uid, &told);
    let binding = of_binding(binding, approved, job_uid, &told);
    let all = [
        ("Job", job.unwrap_or_default()),
        (role_kind, role),
        (binding_kind, binding),
    ];
    let drift = |(kind, what): (&'static str, Vec<String>)| Drift { kind, what };
    all.map(drift)
        .into_iter()
        .filter(|d| !d.what.is_empty())
        .collect()
}

/// What the status told already: only then a difference is somebody else's and not a change that is under way.
struct Told {
    end: bool,
    policy: bool,
}

impl Told {
    fn of(
        approved: &Approved,
        status: Option<&WorkloadAccessStatus>,
        generation: Option<i64>,
    ) -> Self {
        let policy = status.and_then(|s| s.policy.as_ref());
        let end = status.and_then(|s| record::told_end(s, generation));
        Self {
            end: end == Some(approved.not_after()),
            policy: policy.is_some_and(|told| told.name == approved.policy().name),
        }
    }

    fn speaks_of(&self, annotation: &str) -> bool {
        match annotation {
            names::NOT_AFTER
            | names::SPEC_HASH
            | names::EXTENSIONS
            | names::EXTENDED_AT
            | names::APPROVED_BY
            | names::APPROVED_SPEC => self.end,
            names::POLICY => self.policy,
            _ => true,
        }
    }
}

fn of_job(job: &Job, approved: &Approved, told: &Told) -> Vec<String> {
    let wanted = desired::job(approved, approved.not_after());
    let mut what = owner(job, &wanted);
    what.extend(annotations(job, &wanted, told));
    if told.end && !counts_to_the_end(job, approved) {
        let found = job.spec.as_ref().and_then(|s| s.active_deadline_seconds);
        what.push(match found {
            Some(seconds) => format!("activeDeadlineSeconds was {seconds}"),
            None => "activeDeadlineSeconds was removed".into(),
        });
    }
    what.extend(not_idle(job));
    what
}

/// What could keep a deadline Job from counting down, or make it run.
pub(crate) fn not_idle(job: &Job) -> Vec<String> {
    let mut what = Vec::new();
    let spec = job.spec.as_ref();
    let parallelism = spec.and_then(|s| s.parallelism);
    if parallelism != Some(0) {
        what.push(format!("parallelism was {}", parallelism.unwrap_or(1)));
    }
    if spec.and_then(|s| s.suspend) == Some(true) {
        what.push("it was suspended".into());
    }
    if spec.and_then(|s| s.ttl_seconds_after_finished) != Some(0) {
        what.push("ttlSecondsAfterFinished was not 0".into());
    }
    what
}

/// Counted from the start as Kubernetes does, or from the creation as Stint does before there is a start.
fn counts_to_the_end(job: &Job, approved: &Approved) -> bool {
    let spec = job.spec.as_ref();
    let Some(seconds) = spec.and_then(|s| s.active_deadline_seconds) else {
        return false;
    };
    let started = job.status.as_ref().and_then(|s| s.start_time.as_ref());
    let mut starts = started.into_iter().chain(&job.metadata.creation_timestamp);
    starts.any(|start| {
        let wanted = desired::active_deadline_seconds(start.0, approved.not_after());
        let apart = seconds.saturating_sub(wanted).saturating_abs();
        apart <= desired::DEADLINE_SLACK.as_secs()
    })
}

fn of_role(
    role: Option<&Role>,
    approved: &Approved,
    job_uid: Option<&str>,
    told: &Told,
) -> Vec<String> {
    let Some(role) = role else {
        return vec!["it was removed".into()];
    };
    let wanted = desired::role(approved, job_uid);
    let mut what = owner(role, &wanted);
    if !desired::same_rules(role, approved) {
        what.push(other_rules(role, approved));
    }
    if *approved.grant().place() == Place::Cluster {
        what.extend(annotations(role, &wanted, told));
    }
    what
}

fn other_rules(role: &Role, approved: &Approved) -> String {
    let rules: Vec<Rule> = role.rules.iter().flatten().map(Rule::from).collect();
    let more = Ceiling::compile(approved.rules()).uncovered(&rules);
    match more.is_empty() {
        true => "rules were taken out".into(),
        false => format!("rules also gave {}", listed(more.iter())),
    }
}

fn of_binding(
    binding: &RoleBinding,
    approved: &Approved,
    job_uid: Option<&str>,
    told: &Told,
) -> Vec<String> {
    let wanted = desired::role_binding(approved, job_uid);
    let mut what = owner(binding, &wanted);
    if binding.subjects != wanted.subjects {
        let found = binding.subjects.iter().flatten().map(subject);
        what.push(format!("subjects were {}", listed(found)));
    }
    if binding.role_ref != wanted.role_ref {
        let role = &binding.role_ref;
        what.push(cut(&format!("roleRef was {} '{}'", role.kind, role.name)));
    }
    what.extend(annotations(binding, &wanted, told));
    what
}

fn subject(subject: &Subject) -> String {
    match &subject.namespace {
        Some(namespace) => format!("{} '{namespace}/{}'", subject.kind, subject.name),
        None => format!("{} '{}'", subject.kind, subject.name),
    }
}

fn owner(object: &impl ResourceExt, wanted: &impl ResourceExt) -> Vec<String> {
    match same_owner(object, wanted) {
        true => Vec::new(),
        false => vec!["owner was changed".into()],
    }
}

/// Stint's own annotations that differ.
fn annotations(object: &impl ResourceExt, wanted: &impl ResourceExt, told: &Told) -> Vec<String> {
    let found = object.annotations();
    let differs = |(key, value): &(&String, &String)| match found.get(*key) {
        Some(found) => told.speaks_of(key) && found != *value,
        None => told.speaks_of(key) && !comes_later(key),
    };
    let tell = |(key, _): (&String, &String)| match found.get(key) {
        Some(found) => format!("annotation {key} was '{}'", cut(found)),
        None => format!("annotation {key} was removed"),
    };
    let wanted = wanted.annotations().iter();
    wanted.filter(differs).map(tell).collect()
}

/// Whether an object may be without the annotation although nobody removed it: the object of `until` may appear after the Job,
/// and a binding or a Job may be older than the remark of who asked, or for which spec.
fn comes_later(annotation: &str) -> bool {
    matches!(
        annotation,
        names::UNTIL_UID | names::REQUESTED_BY | names::SPEC_HASH
    )
}

fn listed(items: impl Iterator<Item = impl ToString>) -> String {
    let all: Vec<String> = items.map(|item| cut(&item.to_string())).collect();
    let shown = all.iter().take(LISTED).cloned();
    let mut text: Vec<String> = shown.collect();
    if all.len() > LISTED {
        text.push(format!("and {} more", all.len() - LISTED));
    }
    match text.is_empty() {
        true => "none".into(),
        false => text.join(", "),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
