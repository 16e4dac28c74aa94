//! Gathers what the judge must know: from the stores, and live where a cache could be too old to decide on.

use crate::api::AccessPolicy;
use crate::api::workload_access::{RoleKind, RoleReference, WorkloadAccess};
use crate::cluster::stores::{GuardedAccess, Stores};
use crate::cluster::{ApiError, authz, call};
use crate::domain::facts::{AccountFacts, Facts, RoleFacts};
use crate::domain::grant::{Account, Grant, Source};
use crate::domain::judge::is_cluster_namespace;
use crate::domain::plan::Observed;
use crate::domain::policy::{Labels, Policy};
use crate::domain::receipt::Requester;
use crate::domain::rules::{self, Rule};
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::api::ListParams;
use kube::core::{DeserializeGuard, PartialObjectMeta, Resource, ResourceExt};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use std::sync::Arc;

/// Reads facts.
#[derive(Clone)]
pub struct FactReader {
    client: Client,
    stores: Arc<Stores>,
    operator_namespace: String,
}

/// Who asked, and when.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The requester.
    pub by: Requester,
    /// The instant of the receipt.
    pub at: Timestamp,
}

impl FactReader {
    /// A reader over `stores`, with `client` for live reads.
    pub fn new(client: Client, stores: Arc<Stores>, operator_namespace: String) -> Self {
        Self {
            client,
            stores,
            operator_namespace,
        }
    }

    /// The facts about a request, without the count of other grants of the account (see [`Self::others`]).
    ///
    /// Everything that a look-up cannot tell is an error, never a guess.
    pub async fn gather(
        &self,
        object: &WorkloadAccess,
        grant: &Grant,
        asked: Asked,
        observed: &Observed,
    ) -> Result<Facts, ApiError> {
        let status = object.status.clone().unwrap_or_default();
        let live = observed.live(&status);
        let namespace_labels = self.namespace_labels(grant.namespace()).await?;
        let (usable, broken_policies) = self.stores.policies();
        let (account, role, policies) = futures::try_join!(
            self.account(grant.account()),
            self.role(
                grant,
                observed,
                live.as_ref().map(|l| l.rules_hash.as_str())
            ),
            self.usable_by(&asked.by, usable, &namespace_labels),
        )?;
        Ok(Facts {
            requester: asked.by,
            requested_at: asked.at,
            privileged_namespace: is_cluster_namespace(grant.namespace())
                || grant.namespace() == self.operator_namespace,
            namespace_labels,
            account,
            role,
            policies,
            broken_policies,
            ceiling: self.stores.ceiling(),
            active_others: 0,
            live,
            ended: status.end_reason,
        })
    }

    /// The policies that select the namespace, read live: for a request that comes right behind its policy, when the local
    /// copy knows of none yet.
    pub async fn live_policies(&self, facts: &Facts) -> Result<Vec<(Arc<Policy>, bool)>, ApiError> {
        let api: Api<DeserializeGuard<AccessPolicy>> = Api::all(self.client.clone());
        let listed = call(api.list(&ListParams::default())).await?;
        let readable = listed.items.into_iter().filter_map(|object| object.0.ok());
        let usable = readable.filter_map(|policy| Policy::compile(&policy).ok().map(Arc::new));
        self.usable_by(&facts.requester, usable.collect(), &facts.namespace_labels)
            .await
    }

    /// UIDs of other grants that hold a binding for the account now.
    pub fn others(&self, grant: &Grant, now: Timestamp) -> Vec<String> {
        self.stores
            .grants_of(&grant.account().to_string(), grant.uid(), now)
    }

    /// A request as it is now; `None` when there is none of that name.
    pub async fn access(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<GuardedAccess>, ApiError> {
        let api: Api<GuardedAccess> = Api::namespaced(self.client.clone(), namespace);
        call(api.get_opt(name)).await
    }

    /// The live objects of a grant: after our own writes a cache may not know them yet.
    pub async fn observe(&self, namespace: &str, name: &str) -> Result<Observed, ApiError> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let roles: Api<Role> = Api::namespaced(self.client.clone(), namespace);
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        let (job, role, binding) = futures::try_join!(
            call(jobs.get_opt(name)),
            call(roles.get_opt(name)),
            call(bindings.get_opt(name)),
        )?;
        Ok(Observed { job, role, binding })
    }

    async fn namespace_labels(&self, name: &str) -> Result<Labels, ApiError> {
        if let Some(known) = self.stores.namespaces.get(&ObjectRef::new(name)) {
            return Ok(known.labels().clone());
        }
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        Ok(call(api.get(name)).await?.labels().clone())
    }

    /// The account as it is now; `None` when there is none.
    ///
    /// Read live: between a deletion and its event a cache would vouch for an account that is gone.
    pub async fn account(&self, account: &Account) -> Result<Option<AccountFacts>, ApiError> {
        let api: Api<PartialObjectMeta<ServiceAccount>> =
            Api::namespaced(self.client.clone(), &account.namespace);
        let found = call(api.get_opt(&account.name)).await?;
        let alive = found.filter(|a| a.meta().deletion_timestamp.is_none());
        Ok(alive.map(|a| AccountFacts {
            uid: a.uid().unwrap_or_default(),
            labels: a.labels().clone(),
        }))
    }

    /// The rules of the referenced role; for a live grant those it was activated with, as its own Role has them.
    async fn role(
        &self,
        grant: &Grant,
        observed: &Observed,
        granted_hash: Option<&str>,
    ) -> Result<RoleFacts, ApiError> {
        let Source::Role(reference) = grant.source() else {
            return Ok(RoleFacts::NotReferenced);
        };
        if let (Some(copy), Some(hash)) = (&observed.role, granted_hash) {
            let copied = parsed(copy.rules.as_deref());
            if rules::hash(&rules::canonical(&copied)) == hash {
                return Ok(RoleFacts::Found(copied));
            }
        }
        self.source_role(grant.namespace(), reference).await
    }

    async fn source_role(
        &self,
        namespace: &str,
        reference: &RoleReference,
    ) -> Result<RoleFacts, ApiError> {
        let rules = match reference.kind {
            RoleKind::Role => {
                let api: Api<Role> = Api::namespaced(self.client.clone(), namespace);
                call(api.get_opt(&reference.name)).await?.map(|r| r.rules)
            }
            RoleKind::ClusterRole => {
                let api: Api<ClusterRole> = Api::all(self.client.clone());
                call(api.get_opt(&reference.name)).await?.map(|r| r.rules)
            }
        };
        Ok(rules.map_or(RoleFacts::Missing, |rules| {
            RoleFacts::Found(parsed(rules.as_deref()))
        }))
    }

    async fn usable_by(
        &self,
        requester: &Requester,
        policies: Vec<Arc<Policy>>,
        namespace_labels: &Labels,
    ) -> Result<Vec<(Arc<Policy>, bool)>, ApiError> {
        let selecting = policies
            .into_iter()
            .filter(|p| p.selects_namespace(namespace_labels));
        try_join_all(selecting.map(|policy| async {
            let may = authz::may_use(&self.client, requester, policy.name()).await?;
            Ok((policy, may))
        }))
        .await
    }
}

fn parsed(rules: Option<&[k8s_openapi::api::rbac::v1::PolicyRule]>) -> Vec<Rule> {
    rules.unwrap_or_default().iter().map(Rule::from).collect()
}
