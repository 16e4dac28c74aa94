//! What a report holds: the form that programs read, and that a later report is compared with.

use super::collect::Found;
use super::usage::{AuditLog, Usage};
use super::{grants, standing, totals, unusable};
use crate::outcome::Failure;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use stint::api::workload_access::Risk;
use stint::domain::{receipt, window};

/// Version of the JSON form; it changes when a field goes or changes its meaning.
pub const API_VERSION: &str = "stint.dev/report/v1";

/// All of one report.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this form.
    pub api_version: String,
    /// When it was made, by the API server's clock. RFC 3339.
    pub at: String,
    /// The program that made it.
    pub made_by: String,
    /// UID of the namespace `kube-system`, by which clusters are told apart; none if it could not be read.
    pub cluster_id: Option<String>,
    /// The one namespace that it is about; none for all and the whole cluster.
    pub namespace: Option<String>,
    /// What is missing in it, and why.
    pub not_read: Vec<NotRead>,
    /// The numbers.
    pub totals: Totals,
    /// Requests, what gives rights now first.
    pub grants: Vec<Grant>,
    /// Standing rights of accounts, those of the highest risk first.
    pub standing: Vec<Standing>,
    /// What the audit log says, if one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_log: Option<AuditLog>,
    /// What is new against an earlier report, if one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trend: Option<Trend>,
    /// SHA-256 of everything else: of the compact JSON with sorted keys, without this field. `sha256:<hex>`.
    pub sha256: String,
}

/// Something that could not be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotRead {
    /// The resource, such as `roles.rbac.authorization.k8s.io`.
    pub what: String,
    /// Why.
    pub why: String,
}

/// The numbers of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Requests of both kinds.
    pub grants: usize,
    /// Those that give rights now.
    pub live: usize,
    /// Requests by state.
    pub states: BTreeMap<String, usize>,
    /// Requests that give rights now, by risk.
    pub live_by_risk: BTreeMap<String, usize>,
    /// Bindings of accounts that nothing ends, each account counted.
    pub standing: usize,
    /// The same by risk; `Unknown` where the role could not be read.
    pub standing_by_risk: BTreeMap<String, usize>,
    /// Those that Kubernetes makes for itself.
    pub standing_of_kubernetes: usize,
    /// Accounts that have rights now, by either.
    pub accounts: usize,
    /// Ended grants whose account still had their rights.
    pub residual: usize,
    /// Grants of emergencies that nobody has looked at yet.
    pub review_required: usize,
}

/// One request and what became of it. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Grant {
    /// `WorkloadAccess` or `ClusterWorkloadAccess`.
    pub kind: String,
    /// Its namespace; none for the whole cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The account, `namespace/name`.
    pub account: String,
    /// UID of the account that the grant was pinned to.
    pub account_uid: Option<String>,
    /// The one word for where it stands.
    pub state: String,
    /// Whether it gives rights now.
    pub live: bool,
    /// `Low`, `Medium`, `High` or `Critical`; none if it was never judged.
    pub risk: Option<String>,
    /// Codes of what was found, and of why it was refused.
    pub codes: Vec<String>,
    /// The role that its rights were copied from, if it names one.
    pub role: Option<String>,
    /// The binding that was made for it.
    pub binding: Option<String>,
    /// Its rights in words.
    pub rights: Vec<String>,
    /// Why it was asked for.
    pub reason: String,
    /// The change or incident.
    pub ticket: Option<String>,
    /// Whether it was given without approval, in an emergency.
    pub break_glass: bool,
    /// Whether somebody still has to look at that.
    pub review_required: bool,
    /// Who asked.
    pub requested_by: Option<String>,
    /// When.
    pub requested: Option<String>,
    /// Decisions that Stint took for good, with who took them.
    pub decisions: Vec<Decided>,
    /// The AccessApproval objects on it, whether they counted or not.
    pub approvals: Vec<ApprovalObject>,
    /// The policy that admitted it.
    pub policy: Option<String>,
    /// When rights began.
    pub from: Option<String>,
    /// When they end, or were to end, at the latest.
    pub until: Option<String>,
    /// When they ended.
    pub ended: Option<String>,
    /// Why, in a word.
    pub end_reason: Option<String>,
    /// What Stint says about where it stands, where that says more than the fields.
    pub message: Option<String>,
    /// Ends that were moved to later, in words.
    pub extensions: Vec<String>,
    /// Whether the account was proven to be refused what an ended grant gave; none if nobody asked.
    pub verified: Option<bool>,
    /// What it still may, if it is not.
    pub residual: Option<String>,
    /// What of it was used, by the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// A decision that counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Decided {
    /// Who, as the API server authenticated them.
    pub by: String,
    /// `Approve`, `Deny` or `Review`.
    pub decision: String,
    /// When.
    pub at: String,
    /// When access ends at the latest by this decision.
    pub until: Option<String>,
}

/// An AccessApproval as it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApprovalObject {
    /// Its name.
    pub name: String,
    /// `Approve`, `Deny` or `Review`.
    pub decision: String,
    /// Why.
    pub reason: Option<String>,
    /// When it was made.
    pub at: Option<String>,
}

/// One account in one binding that nothing ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Standing {
    /// `RoleBinding` or `ClusterRoleBinding`.
    pub kind: String,
    /// Its namespace; none for the whole cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The account, `namespace/name`, or the group of accounts.
    pub account: String,
    /// `Low` to `Critical`; none where the role could not be read.
    pub risk: Option<String>,
    /// Codes of what was found in the binding and its role.
    pub codes: Vec<String>,
    /// The role.
    pub role: String,
    /// Its rules in words.
    pub rights: Vec<String>,
    /// When the binding was made.
    pub since: Option<String>,
    /// How long ago that was.
    pub age: Option<String>,
    /// Who manages it, by its labels; `Kubernetes` for what the API server makes for itself.
    pub managed_by: Option<String>,
    /// What else there is to know.
    pub note: Option<String>,
    /// What of it was used, by the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What a row is known by in a later report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The account.
    pub account: String,
    /// The UID.
    pub uid: String,
}

/// What is new against an earlier report.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trend {
    /// When the earlier report was made.
    pub since: String,
    /// Its SHA-256.
    pub sha256: String,
    /// Its numbers.
    pub totals: Totals,
    /// Kinds that were not compared, because one of the reports does not know them all.
    pub not_compared: Vec<String>,
    /// What was not there.
    pub added: Vec<Key>,
    /// What is no longer there, as it was.
    pub removed: Removed,
    /// What is otherwise.
    pub changed: Vec<Changed>,
}

/// What is no longer there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Removed {
    /// Requests.
    pub grants: Vec<Grant>,
    /// Bindings.
    pub standing: Vec<Standing>,
}

/// Something that is otherwise than it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// What.
    #[serde(flatten)]
    pub key: Key,
    /// In which fields.
    pub fields: Vec<Difference>,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its name.
    pub field: String,
    /// What it was.
    pub was: String,
    /// What it is.
    pub is: String,
}

impl Grant {
    /// What it is known by.
    pub fn key(&self) -> Key {
        Key {
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            account: self.account.clone(),
            uid: self.uid.clone(),
        }
    }
}

impl Standing {
    /// What it is known by.
    pub fn key(&self) -> Key {
        Key {
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            account: self.account.clone(),
            uid: self.uid.clone(),
        }
    }

    /// Whether Kubernetes makes it for itself.
    pub fn is_of_kubernetes(&self) -> bool {
        self.managed_by.as_deref() == Some(standing::KUBERNETES)
    }
}

impl Trend {
    /// What was added or is otherwise than it was.
    pub fn news(&self) -> BTreeSet<&Key> {
        let changed = self.changed.iter().map(|changed| &changed.key);
        self.added.iter().chain(changed).collect()
    }
}

impl Report {
    /// What gives rights now, with its risk where that is known.
    pub fn live(&self) -> impl Iterator<Item = (Key, Option<Risk>)> {
        let grants = self.grants.iter().filter(|grant| grant.live);
        let grants = grants.map(|grant| (grant.key(), risk(grant.risk.as_deref())));
        let standing = self.standing.iter();
        grants.chain(standing.map(|one| (one.key(), risk(one.risk.as_deref()))))
    }
}

/// The risk that a word means; none for what is not known.
pub fn risk(word: Option<&str>) -> Option<Risk> {
    let all = [Risk::Low, Risk::Medium, Risk::High, Risk::Critical];
    all.into_iter().find(|risk| Some(risk.as_str()) == word)
}

/// The report of what was read.
pub fn assemble(found: &Found, namespace: Option<&str>, now: Timestamp) -> Report {
    let now = window::round_down(now);
    let grants = grants::all(found);
    let standing = standing::all(found, now);
    Report {
        api_version: API_VERSION.to_owned(),
        at: now.to_string(),
        made_by: format!("kubectl-stint {}", env!("CARGO_PKG_VERSION")),
        cluster_id: found.cluster_id.clone(),
        namespace: namespace.map(str::to_owned),
        not_read: found.not_read.clone(),
        totals: totals::of(&grants, &standing),
        grants,
        standing,
        audit_log: None,
        trend: None,
        sha256: String::new(),
    }
}

/// Puts the hash of everything else into the report.
pub fn seal(report: &mut Report) -> Result<(), Failure> {
    let value = serde_json::to_value(&*report).map_err(unusable)?;
    report.sha256 = hash(value)?;
    Ok(())
}

/// The hash of a report, whatever it says of it itself.
pub fn hash(mut report: serde_json::Value) -> Result<String, Failure> {
    if let Some(fields) = report.as_object_mut() {
        fields.remove("sha256");
    }
    // Keys of a map of serde_json come sorted.
    let text = serde_json::to_vec(&report).map_err(unusable)?;
    Ok(receipt::sha256(&text))
}
