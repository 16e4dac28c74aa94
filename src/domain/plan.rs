//! From what is wanted and what is there to ordered steps. A grant's steps go deadline, Role, RoleBinding; its end goes
//! RoleBinding, deadline, so that access never exists without the one and never outlives the other.

use crate::api::names;
use crate::api::workload_access::{ObjectStamp, WorkloadAccessStatus};
use crate::domain::approval::Recorded;
use crate::domain::desired;
use crate::domain::drift;
use crate::domain::extension::Edits;
use crate::domain::facts::Live;
use crate::domain::judge::Approved;
use crate::domain::request::Place;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::ResourceExt;

/// The live objects of one grant, read from the API server by their name. A ClusterRole and a ClusterRoleBinding, the only
/// objects of a grant in the whole cluster, are seen as a Role and a RoleBinding without namespace.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The deadline; never there for the whole cluster.
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
    /// Write the record into the Job with this UID, and its deadline if that differs: an end was moved, or somebody changed it.
    RestoreJob {
        /// UID of the Job.
        uid: String,
        /// A merge patch of its metadata and, if it is set, of its deadline.
        patch: Box<serde_json::Value>,
    },
    /// Create the Role; the UID of a Job that owns it is known once that exists.
    CreateRole,
    /// Replace the Role.
    ReplaceRole,
    /// Write the annotations of the RoleBinding with this UID, which goes on.
    AnnotateBinding(String),
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
    /// Where every object is.
    pub place: Place,
    /// Name of every object.
    pub name: String,
    /// The steps, in order. Empty when nothing is to change.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether a binding is among what it deletes.
    pub fn takes_access(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::DeleteBinding(_)))
    }

    /// Takes out what must come after the status says that the grant is over, for without record or status it could begin once
    /// more: in the whole cluster the ClusterRole, and in a namespace the Job of a grant whose status never said that it began.
    pub fn take_record(&mut self, status: &WorkloadAccessStatus) -> Self {
        let untold = status.activated_time.is_none();
        let is_record = |step: &mut Step| match step {
            Step::DeleteRole(_) => self.place == Place::Cluster,
            Step::DeleteJob(_) => untold,
            _ => false,
        };
        Self {
            place: self.place.clone(),
            name: self.name.clone(),
            steps: self.steps.extract_if(.., is_record).collect(),
        }
    }
}

/// What stands after the steps of a granting plan: status writers accept only this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The Job; none for the whole cluster.
    pub deadline: Option<ObjectStamp>,
    /// The RoleBinding or ClusterRoleBinding.
    pub role_binding: ObjectStamp,
    /// When the grant began: the creation of the Job or else of the binding, by the API server's clock.
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
    pub fn foreign(&self, place: &Place, grant_uid: &str) -> Option<&'static str> {
        let (role, binding) = match place {
            Place::Namespace(_) => ("Role", "RoleBinding"),
            Place::Cluster => ("ClusterRole", "ClusterRoleBinding"),
        };
        let found = [
            (self.job.as_ref().map(|o| &o.metadata), "Job"),
            (self.role.as_ref().map(|o| &o.metadata), role),
            (self.binding.as_ref().map(|o| &o.metadata), binding),
        ];
        let foreign = |(meta, kind): (Option<&ObjectMeta>, &'static str)| {
            meta.filter(|m| !is_of(m, grant_uid)).map(|_| kind)
        };
        found.into_iter().find_map(foreign)
    }

    /// What is recorded about a grant that was activated. The status is heard only where it takes access away: objects
    /// that are missing although it calls the grant activated were removed by somebody.
    pub fn live(&self, place: &Place, status: &WorkloadAccessStatus) -> Option<Live> {
        let activated = status.activated_time.is_some();
        let record = self.record(place);
        if record.is_none() && self.binding.is_none() && !activated {
            return None;
        }
        let complete = record.is_some() && (self.binding.is_some() || !activated);
        let recorded = record.and_then(recorded);
        Some(recorded.map_or_else(
            || unreadable(status),
            |live| {
                Live {
                    since: self
                        .began(place)
                        .map_or(live.since, |at| at.min(live.since)),
                    taken_away: !complete,
                    ..live
                }
            },
        ))
    }

    /// In the whole cluster the ClusterRole and the binding are both put back when somebody changes them; the other tells
    /// when the grant began.
    fn began(&self, place: &Place) -> Option<Timestamp> {
        let role = self.role.as_ref().filter(|_| *place == Place::Cluster)?;
        Some(role.metadata.creation_timestamp.as_ref()?.0)
    }

    /// What the grant is recorded on: the Job. In the whole cluster the binding, and the ClusterRole, which is there before
    /// the binding and after it.
    fn record(&self, place: &Place) -> Option<&ObjectMeta> {
        match place {
            Place::Namespace(_) => self.job.as_ref().map(|job| &job.metadata),
            Place::Cluster => {
                let binding = self.binding.as_ref().map(|binding| &binding.metadata);
                binding.or(self.role.as_ref().map(|role| &role.metadata))
            }
        }
    }
}

fn is_of(meta: &ObjectMeta, grant_uid: &str) -> bool {
    let label = meta.labels.as_ref().and_then(|l| l.get(names::GRANT));
    label.is_some_and(|l| l == grant_uid)
}

fn recorded(meta: &ObjectMeta) -> Option<Live> {
    let annotations = meta.annotations.as_ref()?;
    Some(Live {
        since: meta.creation_timestamp.as_ref()?.0,
        not_after: annotations.get(names::NOT_AFTER)?.parse().ok()?,
        account_uid: annotations.get(names::SERVICE_ACCOUNT_UID)?.clone(),
        policy: annotations.get(names::POLICY)?.clone(),
        rules_hash: annotations.get(names::RULES_HASH)?.clone(),
        held_since: annotations.get(names::HELD_SINCE)?.parse().ok()?,
        source: match annotations.get(names::SOURCE) {
            Some(text) => Some(serde_json::from_str(text).ok()?),
            None => None,
        },
        approval: annotations.get(names::APPROVED_SPEC).map(|spec| Recorded {
            by: annotations
                .get(names::APPROVED_BY)
                .cloned()
                .unwrap_or_default(),
            spec: spec.clone(),
        }),
        edits: Edits {
            spec_hash: annotations.get(names::SPEC_HASH).cloned(),
            extensions: match annotations.get(names::EXTENSIONS) {
                Some(count) => count.parse().ok()?,
                None => 0,
            },
            extended_at: match annotations.get(names::EXTENDED_AT) {
                Some(at) => Some(at.parse().ok()?),
                None => None,
            },
        },
        in_namespaces: annotations.contains_key(names::IN_NAMESPACES),
        until_uid: annotations.get(names::UNTIL_UID).cloned(),
        taken_away: false,
        doubtful: false,
    })
}

/// A grant whose record is gone or cannot be read is over. For why, the status is heard.
fn unreadable(status: &WorkloadAccessStatus) -> Live {
    Live {
        since: Timestamp::UNIX_EPOCH,
        not_after: status.not_after.as_ref().map_or(Timestamp::MAX, |t| t.0),
        account_uid: String::new(),
        policy: status
            .policy
            .as_ref()
            .map(|p| p.name.clone())
            .unwrap_or_default(),
        rules_hash: String::new(),
        held_since: Timestamp::UNIX_EPOCH,
        source: None,
        approval: None,
        edits: Edits::default(),
        in_namespaces: false,
        until_uid: None,
        taken_away: true,
        doubtful: false,
    }
}

/// The steps that materialise an approved grant.
pub fn grant(approved: &Approved, observed: &Observed, now: Timestamp) -> Plan {
    let mut steps = Vec::new();
    let place = approved.grant().place();
    let job_uid = observed.job.as_ref().and_then(|job| job.uid());
    let wanted = desired::role_binding(approved, job_uid.as_deref());
    let binding = observed.binding.as_ref();
    let standing = binding.filter(|binding| same_binding(binding, &wanted));
    // Whoever was let in goes first: what follows may fail.
    if let (Some(other), None) = (binding, standing) {
        steps.push(Step::DeleteBinding(other.uid().unwrap_or_default()));
    }
    match (&observed.job, place) {
        (_, Place::Cluster) => {}
        (None, _) => steps.push(Step::CreateJob(Box::new(desired::job(approved, now)))),
        (Some(job), _) => steps.extend(job_step(approved, job)),
    }
    // Access must not break off for what is written beside it.
    let stale = standing.filter(|binding| !same_annotations(*binding, &wanted));
    let annotate = stale.map(|b| Step::AnnotateBinding(b.uid().unwrap_or_default()));
    let wanted_role = desired::role(approved, job_uid.as_deref());
    let role = match &observed.role {
        None => Some(Step::CreateRole),
        Some(role) if !same_role(role, &wanted_role, approved) => Some(Step::ReplaceRole),
        Some(_) => None,
    };
    match place {
        // The deadline queue reads the binding; a Role that says when access ends only tells people.
        Place::Namespace(_) => steps.extend(annotate.into_iter().chain(role)),
        // The ClusterRole is the record.
        Place::Cluster => steps.extend(role.into_iter().chain(annotate)),
    }
    if standing.is_none() {
        steps.push(Step::CreateBinding);
    }
    plan(place.clone(), desired::name(approved), steps)
}

/// The steps that end a grant whose objects have this name.
pub fn end(place: Place, name: String, observed: &Observed) -> Plan {
    let mut steps = Vec::new();
    if let Some(binding) = &observed.binding {
        steps.push(Step::DeleteBinding(binding.uid().unwrap_or_default()));
    }
    match (&observed.job, &observed.role) {
        (Some(job), _) => steps.push(Step::DeleteJob(job.uid().unwrap_or_default())),
        (None, Some(role)) => steps.push(Step::DeleteRole(role.uid().unwrap_or_default())),
        (None, None) => {}
    }
    plan(place, name, steps)
}

fn plan(place: Place, name: String, steps: Vec<Step>) -> Plan {
    Plan { place, name, steps }
}

/// The deadline and the record of the Job, in one write.
fn job_step(approved: &Approved, job: &Job) -> Option<Step> {
    let uid = job.uid().unwrap_or_default();
    match (restored(approved, job), deadline(approved, job)) {
        (None, None) => None,
        (None, Some(seconds)) => Some(Step::SetDeadline { uid, seconds }),
        (Some(mut patch), seconds) => {
            if let Some(seconds) = seconds {
                patch["spec"]["activeDeadlineSeconds"] = seconds.into();
            }
            let patch = Box::new(patch);
            Some(Step::RestoreJob { uid, patch })
        }
    }
}

/// The deadline of the Job, if it is off.
fn deadline(approved: &Approved, job: &Job) -> Option<i64> {
    let start = job.status.as_ref().and_then(|s| s.start_time.as_ref());
    let start = start.or(job.metadata.creation_timestamp.as_ref())?.0;
    let wanted = desired::active_deadline_seconds(start, approved.not_after());
    let actual = job
        .spec
        .as_ref()?
        .active_deadline_seconds
        .unwrap_or(i64::MAX);
    let slack = desired::DEADLINE_SLACK.as_secs();
    (actual.saturating_sub(wanted).saturating_abs() > slack).then_some(wanted)
}

/// The Job's record, owner and idleness; one that says otherwise is put right.
fn restored(approved: &Approved, job: &Job) -> Option<serde_json::Value> {
    let wanted = desired::job(approved, approved.not_after());
    let same = same_annotations(job, &wanted)
        && same_owner(job, &wanted)
        && drift::not_idle(job).is_empty();
    (!same).then(|| {
        serde_json::json!({"metadata": {
            "annotations": wanted.annotations(), "ownerReferences": wanted.owner_references(),
        }})
    })
}

/// In the whole cluster the ClusterRole carries the record too; in a namespace the Role says when access ends to who reads it.
fn same_role(role: &Role, wanted: &Role, approved: &Approved) -> bool {
    same_annotations(role, wanted)
        && desired::same_rules(role, approved)
        && same_owner(role, wanted)
}

pub(crate) fn same_owner(object: &impl ResourceExt, wanted: &impl ResourceExt) -> bool {
    let (actual, wanted) = (object.owner_references(), wanted.owner_references());
    let uid = |owners: &[OwnerReference]| owners.first().map(|owner| owner.uid.clone());
    actual.len() == 1 && uid(actual) == uid(wanted)
}

fn same_binding(binding: &RoleBinding, wanted: &RoleBinding) -> bool {
    binding.role_ref == wanted.role_ref
        && binding.subjects == wanted.subjects
        && same_owner(binding, wanted)
}

/// Whether Stint's annotations are as wanted; others are nobody's concern.
fn same_annotations(object: &impl ResourceExt, wanted: &impl ResourceExt) -> bool {
    let found = object.annotations();
    let mut wanted = wanted.annotations().iter();
    wanted.all(|(key, value)| {
        let actual = found.get(key);
        // What a version before this annotation made stays: access would break off for a remark.
        actual == Some(value) || (key == names::REQUESTED_BY && actual.is_none())
    })
}
