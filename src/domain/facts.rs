//! What the judge must know about the world. Gathered by `cluster::facts`; this is only its shape.

use crate::api::workload_access::{EndReason, SourceStamp};
use crate::domain::approval::{Approval, Recorded};
use crate::domain::completion::Kind;
use crate::domain::covers::Ceiling;
use crate::domain::extension::{Edits, Extension};
use crate::domain::patterns::Patterns;
use crate::domain::policy::{Labels, Policy};
use crate::domain::receipt::Requester;
use crate::domain::rules::Rule;
use crate::domain::served::Served;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the judge must know about the world. Gathered by `cluster::facts`.
#[derive(Debug)]
pub struct Facts {
    /// Who asks, as the API server authenticated them.
    pub requester: Requester,
    /// When they asked, by the receipt.
    pub requested_at: Timestamp,
    /// Who moved its end to later, if somebody did.
    pub extension: Option<Extension>,
    /// Labels of the namespace that policies select by (`Grant::home`).
    pub namespace_labels: Labels,
    /// Whether the namespace is one of the cluster's or Stint's own.
    pub privileged_namespace: bool,
    /// The ServiceAccount, if it exists.
    pub account: Option<AccountFacts>,
    /// The referenced role as it is now.
    pub role: RoleFacts,
    /// The rules that a live grant was given, if its own Role still has them.
    pub copy: Option<Vec<Rule>>,
    /// Every policy that selects the namespace, and whether the requester may `use` it.
    pub policies: Vec<(Arc<Policy>, bool)>,
    /// Decisions on the request, the oldest first; nobody has yet asked which count.
    pub approvals: Vec<Approval>,
    /// How many policies select nothing because they cannot be read.
    pub broken_policies: usize,
    /// What Stint itself may hand out; unknown while the ceiling's ClusterRole cannot be read.
    pub ceiling: Option<Arc<Ceiling>>,
    /// What the API server serves. Without it, as in a tool that asks no cluster, nothing is said about that.
    pub served: Option<Arc<Served>>,
    /// What the account holds beside this grant where it would hold.
    pub held: Vec<Held>,
    /// What the account holds beside this grant in single namespaces, where a grant in the whole cluster holds too; empty for
    /// any other grant.
    pub held_in: Vec<HeldIn>,
    /// Other live grants of the account.
    pub active_others: usize,
    /// By policy, since when other live grants of the account go on without a break.
    pub held_since: BTreeMap<String, Timestamp>,
    /// The object of `until` as it is now.
    pub until: UntilFacts,
    /// The workload of `workloadRef` as it is now.
    pub workload: WorkloadFacts,
    /// What is already in place for this grant.
    pub live: Option<Live>,
    /// When access was to end by the status that was written before anything was made. Only ever takes access away.
    pub promised_end: Option<Timestamp>,
    /// How the grant ended, if it did. Only ever takes access away.
    pub ended: Option<EndReason>,
}

impl Facts {
    /// Another live grant of the account under `policy` goes on without a break since then.
    pub fn goes_on_since(&mut self, policy: &str, since: Timestamp) {
        let known = self.held_since.entry(policy.to_owned()).or_insert(since);
        *known = since.min(*known);
    }
}

/// The account as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
}

/// A binding that gives the account rights, by what the catalogue sees in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The binding: `ClusterRoleBinding 'x'`.
    pub by: String,
    /// The patterns of its role.
    pub patterns: Patterns,
}

/// What bindings of one namespace give the account there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldIn {
    /// The namespace.
    pub namespace: String,
    /// The bindings.
    pub held: Vec<Held>,
}

/// The referenced role as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleFacts {
    /// The request brings its own rules.
    NotReferenced,
    /// No such role.
    Missing,
    /// The role.
    Found(Role),
}

/// A role that rules can be copied from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its UID.
    pub uid: String,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Whether the rules are put together from other ClusterRoles.
    pub aggregated: bool,
    /// Whether its own labels match its aggregation rule.
    pub selects_itself: bool,
    /// Whether Stint made it for a grant.
    pub made_by_stint: bool,
}

/// The object of `until` as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UntilFacts {
    /// The request names none.
    #[default]
    NotReferenced,
    /// Of a kind that this installation does not list, and so was not looked up; the kinds that it lists.
    NotAllowed(Vec<Kind>),
    /// No such object.
    Absent,
    /// The object.
    Found(ObjectFacts),
    /// Nobody can tell, as in a tool that asks no cluster.
    Unknown,
}

/// What of an object says whether its work is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Its UID.
    pub uid: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether Stint made it for a grant.
    pub made_by_stint: bool,
    /// `status.phase`, if it is a text.
    pub phase: Option<String>,
    /// Types and statuses of `status.conditions`.
    pub conditions: Vec<(String, String)>,
}

/// The workload of `workloadRef` as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WorkloadFacts {
    /// The request names none.
    #[default]
    NotReferenced,
    /// No such workload.
    Absent,
    /// The workload.
    Found(Box<Workload>),
    /// Nobody can tell, as in a tool that asks no cluster.
    Unknown,
}

/// A Pod or a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// `Pod` or `Job`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// What controls it; empty when nothing does.
    pub owner: Owner,
    /// Its containers, those that run first included.
    pub images: Vec<Image>,
    /// The account that it runs as, in its namespace.
    pub service_account: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it has ended.
    pub terminal: bool,
}

/// The controller of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// The image of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Name of the container.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// What runs, with its digest, as the kubelet reports it; empty until it does, and for a Job.
    #[serde(rename = "imageID")]
    pub image_id: String,
}

/// A grant that was activated: what the record of it says, and whether its binding is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// When it became active.
    pub since: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// The account it is pinned to; empty when the record of it is gone, and then `taken_away` is set.
    pub account_uid: String,
    /// The policy that admitted it.
    pub policy: String,
    /// Hash of the granted rules.
    pub rules_hash: String,
    /// Since when the account held grants of the policy without a break, when this one began.
    pub held_since: Timestamp,
    /// The role that the rules were copied from, as it was.
    pub source: Option<SourceStamp>,
    /// What it was approved for and by whom, if it had to be.
    pub approval: Option<Recorded>,
    /// For which spec its end was granted.
    pub edits: Edits,
    /// Whether anything granted lives in namespaces; recorded for grants in the whole cluster alone.
    pub in_namespaces: bool,
    /// UID of the object of `until` when it was first seen.
    pub until_uid: Option<String>,
    /// Somebody removed what was in place.
    pub taken_away: bool,
    /// The record contradicts what was told about the grant, where that decides who has what.
    pub doubtful: bool,
}
