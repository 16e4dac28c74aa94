//! What the judge must know about the world. Gathered by `cluster::facts`; this is only its shape.

use crate::api::workload_access::{EndReason, SourceStamp};
use crate::domain::covers::Ceiling;
use crate::domain::patterns::Patterns;
use crate::domain::policy::{Labels, Policy};
use crate::domain::receipt::Requester;
use crate::domain::rules::Rule;
use crate::domain::served::Served;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the judge must know about the world. Gathered by `cluster::facts`.
#[derive(Debug)]
pub struct Facts {
    /// Who asks, as the API server authenticated them.
    pub requester: Requester,
    /// When they asked, by the receipt.
    pub requested_at: Timestamp,
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
    /// How many policies select nothing because they cannot be read.
    pub broken_policies: usize,
    /// What Stint itself may hand out; unknown while the ceiling's ClusterRole cannot be read.
    pub ceiling: Option<Arc<Ceiling>>,
    /// What the API server serves. Without it, as in a tool that asks no cluster, nothing is said about that.
    pub served: Option<Arc<Served>>,
    /// What the account holds beside this grant where it would hold.
    pub held: Vec<Held>,
    /// Other live grants of the account.
    pub active_others: usize,
    /// By policy, since when other live grants of the account go on without a break.
    pub held_since: BTreeMap<String, Timestamp>,
    /// What is already in place for this grant.
    pub live: Option<Live>,
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
    /// Whether anything granted lives in namespaces; recorded for grants in the whole cluster alone.
    pub in_namespaces: bool,
    /// Somebody removed what was in place.
    pub taken_away: bool,
}
