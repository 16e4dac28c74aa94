//! What the judge must know about the world. Gathered by `cluster::facts`; this is only its shape.

use crate::api::workload_access::EndReason;
use crate::domain::covers::Ceiling;
use crate::domain::policy::{Labels, Policy};
use crate::domain::receipt::Requester;
use crate::domain::rules::Rule;
use jiff::Timestamp;
use std::sync::Arc;

/// What the judge must know about the world. Gathered by `cluster::facts`.
#[derive(Debug)]
pub struct Facts {
    /// Who asks, as the API server authenticated them.
    pub requester: Requester,
    /// When they asked, by the receipt.
    pub requested_at: Timestamp,
    /// Labels of the namespace of the request.
    pub namespace_labels: Labels,
    /// Whether the namespace is one of the cluster's or Stint's own.
    pub privileged_namespace: bool,
    /// The ServiceAccount, if it exists.
    pub account: Option<AccountFacts>,
    /// The rules of the referenced role.
    pub role: RoleFacts,
    /// Every policy that selects the namespace, and whether the requester may `use` it.
    pub policies: Vec<(Arc<Policy>, bool)>,
    /// How many policies select nothing because they cannot be read.
    pub broken_policies: usize,
    /// What Stint itself may hand out; unknown while the ceiling's ClusterRole cannot be read.
    pub ceiling: Option<Arc<Ceiling>>,
    /// Other live grants of the account.
    pub active_others: usize,
    /// What is already in place for this grant.
    pub live: Option<Live>,
    /// How the grant ended, if it did. Only ever takes access away.
    pub ended: Option<EndReason>,
}

/// The account as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
}

/// The referenced role as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleFacts {
    /// The request brings its own rules.
    NotReferenced,
    /// No such role.
    Missing,
    /// Its rules.
    Found(Vec<Rule>),
}

/// A grant that was activated: what its deadline Job records, and whether its binding is in place.
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
    /// Somebody removed what was in place.
    pub taken_away: bool,
}
