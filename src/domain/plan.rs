//! From what is wanted and what is there to ordered steps. A grant's steps go deadline, Role, RoleBinding; its end goes
//! RoleBinding, deadline, so that access never exists without the one and never outlives the other.

use crate::api::names;
use crate::api::workload_access::{ObjectStamp, WorkloadAccess, WorkloadAccessStatus};
use crate::domain::desired;
use crate::domain::facts::Live;
use crate::domain::judge::Approved;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ResourceExt;

/// The live objects of one grant, read from the API server by their name.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The deadline.
    pub job: Option<Job>,
    /// The rules.
    pub role: Option<Role>,
    /// The access.
    pub binding: Option<RoleBinding>,
}

/// One write. In the order in which `Plan::steps` holds them.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create the Job.
    CreateJob(Box<Job>),
    /// Set `activeDeadlineSeconds` of the Job with this UID.
    SetDeadline {
        /// UID of the Job.
        uid: String,
        /// Seconds from the Job's start.
        seconds: i64,
    },
    /// Create the Role; its owner's UID is known once the Job exists.
    CreateRole,
    /// Replace the rules of the Role.
    ReplaceRole,
    /// Create the RoleBinding.
    CreateBinding,
    /// Delete the RoleBinding with this UID.
    DeleteBinding(String),
    /// Delete the Job with this UID, and what it owns with it.
    DeleteJob(String),
    /// Delete the Role with this UID, which no Job owns any more.
    DeleteRole(String),
}

/// Steps not yet carried out.
#[derive(Debug)]
pub struct Plan {
    /// Namespace of every object.
    pub namespace: String,
    /// Name of every object.
    pub name: String,
    /// The steps, in order. Empty when nothing is to change.
    pub steps: Vec<Step>,
}

/// What stands after the steps of a granting plan: status writers accept only this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The Job.
    pub deadline: ObjectStamp,
    /// The RoleBinding.
    pub role_binding: ObjectStamp,
    /// When the grant began: the creation of the Job, by the API server's clock.
    pub since: Timestamp,
}

impl Observed {
    /// Without what carries the grant's name and not its label: that is somebody else's, and never touched.
    pub fn ours(mut self, grant_uid: &str) -> Self {
        self.job.take_if(|o| !is_of(&o.metadata, grant_uid));
        self.role.take_if(|o| !is_of(&o.metadata, grant_uid));
        self.binding.take_if(|o| !is_of(&o.metadata, grant_uid));
        self
    }

    /// The kind of an object that carries the grant's name and not its label.
    pub fn foreign(&self, grant_uid: &str) -> Option<&'static str> {
        let found = [
            (self.job.as_ref().map(|o| &o.metadata), "Job"),
            (self.role.as_ref().map(|o| &o.metadata), "Role"),
            (self.binding.as_ref().map(|o| &o.metadata), "RoleBinding"),
        ];
        let foreign = |(meta, kind): (Option<&ObjectMeta>, &'static str)| {
            meta.filter(|m| !is_of(m, grant_uid)).map(|_| kind)
        };
        found.into_iter().find_map(foreign)
    }

    /// What the deadline Job records about a grant that was activated. The status is heard only where it takes access
    /// away: objects that are missing although it calls the grant activated were removed by somebody.
    pub fn live(&self, status: &WorkloadAccessStatus) -> Option<Live> {
        let activated = status.activated_time.is_some();
        if self.job.is_none() && self.binding.is_none() && !activated {
            return None;
        }
        let complete = self.job.is_some() && (self.binding.is_some() || !activated);
        let recorded = self.job.as_ref().and_then(record);
        Some(recorded.map_or_else(
            || unreadable(status),
            |live| Live {
                taken_away: !complete,
                ..live
            },
        ))
    }
}

fn is_of(meta: &ObjectMeta, grant_uid: &str) -> bool {
    let label = meta.labels.as_ref().and_then(|l| l.get(names::GRANT));
    label.is_some_and(|l| l == grant_uid)
}

fn record(job: &Job) -> Option<Live> {
    let annotations = job.annotations();
    Some(Live {
        since: job.creation_timestamp()?.0,
        not_after: annotations.get(names::NOT_AFTER)?.parse().ok()?,
        account_uid: annotations.get(names::SERVICE_ACCOUNT_UID)?.clone(),
        policy: annotations.get(names::POLICY)?.clone(),
        rules_hash: annotations.get(names::RULES_HASH)?.clone(),
        held_since: annotations.get(names::HELD_SINCE)?.parse().ok()?,
        source: match annotations.get(names::SOURCE) {
            Some(text) => Some(serde_json::from_str(text).ok()?),
            None => None,
        },
        taken_away: false,
    })
}

/// A grant whose deadline is gone or cannot be read is over.
fn unreadable(status: &WorkloadAccessStatus) -> Live {
    Live {
        since: Timestamp::UNIX_EPOCH,
        not_after: status.not_after.as_ref().map_or(Timestamp::MAX, |t| t.0),
        account_uid: String::new(),
        policy: String::new(),
        rules_hash: String::new(),
        held_since: Timestamp::UNIX_EPOCH,
        source: None,
        taken_away: true,
    }
}

/// The steps that materialise an approved grant.
pub fn grant(approved: &Approved, observed: &Observed, now: Timestamp) -> Plan {
    let mut steps = Vec::new();
    let job_uid = observed.job.as_ref().and_then(|job| job.uid());
    match &observed.job {
        None => steps.push(Step::CreateJob(Box::new(desired::job(approved, now)))),
        Some(job) => steps.extend(set_deadline(approved, job)),
    }
    match &observed.role {
        None => steps.push(Step::CreateRole),
        Some(role) if !desired::same_rules(role, approved) || !owned(role, &job_uid) => {
            steps.push(Step::ReplaceRole);
        }
        Some(_) => {}
    }
    match &observed.binding {
        None => steps.push(Step::CreateBinding),
        Some(binding) if !same_binding(binding, approved, &job_uid) => {
            steps.push(Step::DeleteBinding(binding.uid().unwrap_or_default()));
            steps.push(Step::CreateBinding);
        }
        Some(_) => {}
    }
    plan(approved.grant().namespace(), desired::name(approved), steps)
}

/// The steps that end a grant.
pub fn end(object: &WorkloadAccess, observed: &Observed) -> Plan {
    let mut steps = Vec::new();
    if let Some(binding) = &observed.binding {
        steps.push(Step::DeleteBinding(binding.uid().unwrap_or_default()));
    }
    match (&observed.job, &observed.role) {
        (Some(job), _) => steps.push(Step::DeleteJob(job.uid().unwrap_or_default())),
        (None, Some(role)) => steps.push(Step::DeleteRole(role.uid().unwrap_or_default())),
        (None, None) => {}
    }
    let name = names::made_object_name(&object.name_any(), &object.uid().unwrap_or_default());
    plan(&object.namespace().unwrap_or_default(), name, steps)
}

fn plan(namespace: &str, name: String, steps: Vec<Step>) -> Plan {
    Plan {
        namespace: namespace.to_owned(),
        name,
        steps,
    }
}

fn set_deadline(approved: &Approved, job: &Job) -> Option<Step> {
    let start = job.status.as_ref().and_then(|s| s.start_time.as_ref());
    let start = start.or(job.metadata.creation_timestamp.as_ref())?.0;
    let wanted = desired::active_deadline_seconds(start, approved.not_after());
    let actual = job
        .spec
        .as_ref()?
        .active_deadline_seconds
        .unwrap_or(i64::MAX);
    let slack = desired::DEADLINE_SLACK.as_secs();
    (actual.saturating_sub(wanted).saturating_abs() > slack).then(|| Step::SetDeadline {
        uid: job.uid().unwrap_or_default(),
        seconds: wanted,
    })
}

fn owned(object: &impl ResourceExt, job_uid: &Option<String>) -> bool {
    let owners = object.owner_references();
    owners.len() == 1 && Some(&owners[0].uid) == job_uid.as_ref()
}

fn same_binding(binding: &RoleBinding, approved: &Approved, job_uid: &Option<String>) -> bool {
    let wanted = desired::role_binding(approved, job_uid.as_deref().unwrap_or_default());
    binding.role_ref == wanted.role_ref
        && binding.subjects == wanted.subjects
        && owned(binding, job_uid)
        && wanted
            .annotations()
            .iter()
            .all(|(k, v)| binding.annotations().get(k) == Some(v))
}
