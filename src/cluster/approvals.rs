//! Who decided on a request, and whether they may: seals from the local copy, rights by a live SubjectAccessReview.

use crate::api::access_approval::{AccessApproval, Decision};
use crate::api::workload_access::WorkloadAccessStatus;
use crate::cluster::facts::FactReader;
use crate::cluster::{ApiError, authz};
use crate::domain::approval::{self, Approval};
use crate::domain::facts::Live;
use crate::domain::grant::Grant;
use crate::domain::oversight::{self, Review};
use crate::domain::policy::Policy;
use crate::domain::receipt::{Claims, Keys, ReceiptError, Requester};
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Access reviews under way at a time for one request.
const PARALLEL: usize = 8;

impl FactReader {
    /// The decisions on a request that can still matter, with the policies that each may `approve`. A look-up that fails is
    /// an error.
    pub(super) async fn approvals(
        &self,
        grant: &Grant,
        live: Option<&Live>,
        status: &WorkloadAccessStatus,
        policies: &[(Arc<Policy>, bool)],
    ) -> Result<Vec<Approval>, ApiError> {
        if !approval::matter(grant, live, status) {
            return Ok(Vec::new());
        }
        let approvals = self
            .decisions(grant, &[Decision::Approve, Decision::Deny])
            .await?;
        let asking: Vec<&Arc<Policy>> = policies
            .iter()
            .map(|(policy, _)| policy)
            .filter(|policy| policy.asks_approval())
            .collect();
        let asking = &asking;
        let asked = approvals.into_iter().map(|approval| async move {
            let may = self.may_approve(&approval.by, asking).await?;
            Ok::<_, ApiError>(Approval { may, ..approval })
        });
        futures::stream::iter(asked)
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    async fn may_approve(
        &self,
        approver: &Requester,
        policies: &[&Arc<Policy>],
    ) -> Result<BTreeSet<String>, ApiError> {
        let mut may = BTreeSet::new();
        for policy in policies {
            if authz::may(&self.client, approver, "approve", policy.name()).await? {
                may.insert(policy.name().to_owned());
            }
        }
        Ok(may)
    }

    /// The review of a grant that was given by break-glass, if one is wanted and somebody gave it who may.
    pub async fn review(
        &self,
        grant: &Grant,
        claims: &Claims,
        status: &WorkloadAccessStatus,
    ) -> Result<Option<Review>, ApiError> {
        let extender = claims.extended.as_ref().map(|extended| &extended.by);
        let asked = |by: &Requester| {
            let mut all = extender.into_iter().chain([&claims.requester]);
            all.any(|who| approval::same_person(by, who))
        };
        let Some(policy) = &status.policy else {
            return Ok(None);
        };
        if !oversight::awaits_review(status) {
            return Ok(None);
        }
        for Approval { by, at, .. } in self.decisions(grant, &[Decision::Review]).await? {
            if !asked(&by) && authz::may(&self.client, &by, "approve", &policy.name).await? {
                let by = by.username;
                return Ok(Some(Review { by, at }));
            }
        }
        Ok(None)
    }

    /// The decisions with a good seal. Without keys no seal is good.
    async fn decisions(
        &self,
        grant: &Grant,
        kinds: &[Decision],
    ) -> Result<Vec<Approval>, ApiError> {
        let known = self.stores.approvals(grant.uid());
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let objects = || known.iter().map(|object| -> &AccessApproval { object });
        let forged = |object, keys: &Keys| keys.verify_seal(object) == Err(ReceiptError::Forged);
        let unknown = |keys: &Keys| objects().any(|object| forged(object, keys));
        let keys = self.keys.knowing(unknown).await?;
        Ok(keys.map_or_else(Vec::new, |keys| {
            approval::sealed(objects(), kinds, grant, &keys)
        }))
    }

    /// The policies that select the namespace of a request and ask for approvals, and whether `approver` may `approve` them.
    /// Read live when the local copy knows of none: an approval may come right behind its policy.
    pub async fn approvable(
        &self,
        grant: &Grant,
        approver: &Requester,
    ) -> Result<Vec<(String, bool)>, ApiError> {
        let labels = self
            .namespace_labels(grant.home())
            .await?
            .unwrap_or_default();
        let asks = |p: &Arc<Policy>| p.asks_approval() && p.selects_namespace(&labels);
        let mut policies = self.stores.policies().0;
        policies.retain(asks);
        if policies.is_empty() {
            policies = self.list_policies().await?;
            policies.retain(asks);
        }
        let asked = policies.into_iter().map(|policy| async move {
            let may = authz::may(&self.client, approver, "approve", policy.name()).await?;
            Ok::<_, ApiError>((policy.name().to_owned(), may))
        });
        futures::stream::iter(asked)
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    /// Whether `approver` may `approve` the policy of this name, also when it is gone.
    pub async fn may_review(&self, approver: &Requester, policy: &str) -> Result<bool, ApiError> {
        authz::may(&self.client, approver, "approve", policy).await
    }
}
