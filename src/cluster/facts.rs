//! Gathers what the judge must know: from the stores, and live where a cache could be too old to decide on.

use crate::api::AccessPolicy;
use crate::api::names::GRANT;
use crate::api::workload_access::RoleKind;
use crate::cluster::discovery::Discovery;
use crate::cluster::key_ring::KeyRing;
use crate::cluster::standing::RoleKey;
use crate::cluster::stores::{AccessRef, Binding, GuardedAccess, GuardedWideAccess, Stores};
use crate::cluster::{ApiError, authz, call, references, wide};
use crate::domain::completion::Kind;
use crate::domain::extension::{self, Extension};
use crate::domain::facts::{AccountFacts, Facts, Live, Role as SourceRole, RoleFacts};
use crate::domain::grant::{Account, Grant, Source};
use crate::domain::judge::is_cluster_namespace;
use crate::domain::plan::Observed;
use crate::domain::policy::{Labels, Policy};
use crate::domain::receipt::{Claims, Extended, Requester};
use crate::domain::record;
use crate::domain::request::{Access, AccessRequest, Place};
use crate::domain::rules::{self, Rule};
use crate::domain::served::Served;
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::ListParams;
use kube::core::{
    DeserializeGuard, PartialObjectMeta, Resource, ResourceExt, Selector, SelectorExt,
};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reads facts.
#[derive(Clone)]
pub struct FactReader {
    pub(super) client: Client,
    pub(super) stores: Arc<Stores>,
    pub(super) keys: Arc<KeyRing>,
    discovery: Discovery,
    operator_namespace: String,
    until_kinds: Vec<Kind>,
}

/// Who asked, and when.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The requester.
    pub by: Requester,
    /// The instant of the receipt.
    pub at: Timestamp,
    /// Who moved the end to later, if somebody did.
    pub extended: Option<Extended>,
}

impl From<&Claims> for Asked {
    fn from(claims: &Claims) -> Self {
        Self {
            by: claims.requester.clone(),
            at: claims.at,
            extended: claims.extended.clone(),
        }
    }
}

impl FactReader {
    /// A reader over `stores`, with `client` for live reads and `keys` for the seals of approvals.
    pub fn new(
        client: Client,
        stores: Arc<Stores>,
        keys: Arc<KeyRing>,
        operator_namespace: String,
        until_kinds: Vec<Kind>,
    ) -> Self {
        Self {
            discovery: Discovery::new(client.clone()),
            client,
            stores,
            keys,
            operator_namespace,
            until_kinds,
        }
    }

    /// The facts about a request, without the count of other grants of the account (see [`Self::others`]).
    ///
    /// Everything that a look-up cannot tell is an error, never a guess.
    pub async fn gather(
        &self,
        object: &impl AccessRequest,
        grant: &Grant,
        asked: Asked,
        observed: &Observed,
    ) -> Result<Facts, ApiError> {
        let status = object.view().status.cloned().unwrap_or_default();
        let live = observed.live(grant.place(), &status);
        let live = live.map(|live| record::checked(live, grant, observed, &object.view()));
        let found_labels = self.namespace_labels(grant.home()).await?;
        // Without its namespace there is no account, also if both come back while this is read.
        let namespace_exists = found_labels.is_some();
        let namespace_labels = found_labels.unwrap_or_default();
        let (usable, broken_policies) = self.stores.policies();
        let (account, role, policies, until, workload) = futures::try_join!(
            self.account(grant.account()),
            self.role(grant),
            self.usable_by(&asked.by, usable, &namespace_labels),
            references::until(&self.client, &self.until_kinds, grant),
            references::workload(&self.client, grant),
        )?;
        let extension = self
            .extension(asked.extended, grant, live.as_ref(), &policies)
            .await?;
        let approvals = self
            .approvals(grant, live.as_ref(), &status, &policies)
            .await?;
        let copy = live
            .as_ref()
            .and_then(|live| copied(observed, &live.rules_hash));
        // What is in place already is not looked up again, unless the copy must be made anew.
        let served = match live.is_some() && (copy.is_some() || grant.source().is_inline()) {
            true => None,
            false => Some(self.served(grant, &role).await?),
        };
        Ok(Facts {
            requester: asked.by,
            requested_at: asked.at,
            extension,
            privileged_namespace: is_cluster_namespace(grant.home())
                || grant.home() == self.operator_namespace,
            namespace_labels,
            account: account.filter(|_| namespace_exists),
            role,
            copy,
            policies,
            approvals,
            broken_policies,
            ceiling: self.stores.ceiling(),
            served,
            held: self
                .stores
                .held(grant.account(), grant.place(), grant.uid()),
            held_in: match grant.place() {
                Place::Cluster => self.stores.held_in(grant.account(), grant.uid()),
                Place::Namespace(_) => Vec::new(),
            },
            active_others: 0,
            held_since: BTreeMap::new(),
            until,
            workload,
            live,
            promised_end: status.not_after.as_ref().map(|end| end.0),
            ended: status.end_reason,
        })
    }

    /// Reads the policies that select the namespace live: for a request that comes right behind its policy, when the local
    /// copy knows of none yet.
    pub async fn add_live_policies(&self, facts: &mut Facts) -> Result<(), ApiError> {
        let usable = self.list_policies().await?;
        facts.policies = self
            .usable_by(&facts.requester, usable, &facts.namespace_labels)
            .await?;
        if let Some(extension) = &mut facts.extension {
            extension.may_use = self.used_by(&extension.by, &facts.policies).await?;
        }
        Ok(())
    }

    /// Who moved the end to later, and while that is not granted, which of the policies they may `use`.
    async fn extension(
        &self,
        extended: Option<Extended>,
        grant: &Grant,
        live: Option<&Live>,
        policies: &[(Arc<Policy>, bool)],
    ) -> Result<Option<Extension>, ApiError> {
        let open = extension::is_open(extended.as_ref(), grant, live);
        let Some(mut extension) = extended.map(Extension::from) else {
            return Ok(None);
        };
        if open {
            extension.may_use = self.used_by(&extension.by, policies).await?;
        }
        Ok(Some(extension))
    }

    async fn used_by(
        &self,
        who: &Requester,
        policies: &[(Arc<Policy>, bool)],
    ) -> Result<BTreeSet<String>, ApiError> {
        let asked = policies.iter().map(|(policy, _)| async {
            let may = authz::may(&self.client, who, "use", policy.name()).await?;
            Ok::<_, ApiError>(may.then(|| policy.name().to_owned()))
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    pub(super) async fn list_policies(&self) -> Result<Vec<Arc<Policy>>, ApiError> {
        let api: Api<DeserializeGuard<AccessPolicy>> = Api::all(self.client.clone());
        let listed = call(api.list(&ListParams::default())).await?;
        let readable = listed.items.into_iter().filter_map(|object| object.0.ok());
        let usable = readable.filter_map(|policy| Policy::compile(&policy).ok().map(Arc::new));
        Ok(usable.collect())
    }

    /// What the author of a policy should know about the cluster as it is now, one line each with a code.
    pub fn policy_warnings(&self, policy: &Policy) -> Vec<String> {
        let namespaces = self.stores.namespaces.state();
        let selected: Vec<String> = namespaces
            .iter()
            .filter(|namespace| policy.selects_namespace(namespace.labels()))
            .map(|namespace| namespace.name_any())
            .collect();
        if selected.is_empty() {
            return vec![
                "spec.namespaceSelector: selects no namespace that exists now [WA-POLICY]".into(),
            ];
        }
        let exists = |name: &String| {
            let of = |namespace| ObjectRef::new(name).within(namespace);
            selected
                .iter()
                .chain(policy.account_namespaces())
                .any(|namespace| self.stores.accounts.get(&of(namespace)).is_some())
        };
        let names = policy.account_names().iter().enumerate();
        names
            .filter(|(_, name)| !exists(name))
            .map(|(i, name)| {
                format!("spec.serviceAccounts.names[{i}]: no selected namespace has an account '{name}' now [WA-POLICY]")
            })
            .collect()
    }

    /// Some of the bindings that name the account in the place, beside those of the grant `except`.
    pub fn bindings_of(&self, account: &Account, place: &Place, except: &str) -> Vec<String> {
        self.stores.bindings_of(account, place, except)
    }

    /// Some of the bindings that give this role to accounts without an end.
    pub fn standing_bindings(&self, role: &RoleKey) -> Vec<String> {
        self.stores.standing_bindings(role)
    }

    /// The bindings of other grants of the account.
    pub fn others(&self, grant: &Grant, now: Timestamp) -> Vec<Binding> {
        self.stores
            .others(&grant.account().to_string(), grant.uid(), now)
    }

    /// A request as it is now; `None` when there is none of that name.
    pub async fn access(&self, key: &AccessRef) -> Result<Option<Found>, ApiError> {
        match &key.place {
            Place::Namespace(namespace) => {
                let api: Api<GuardedAccess> = Api::namespaced(self.client.clone(), namespace);
                let found = call(api.get_opt(&key.name)).await?;
                Ok(found.map(|object| Found::of(object, Access::Namespaced)))
            }
            Place::Cluster => {
                let api: Api<GuardedWideAccess> = Api::all(self.client.clone());
                let found = call(api.get_opt(&key.name)).await?;
                Ok(found.map(|object| Found::of(object, Access::Cluster)))
            }
        }
    }

    /// The live objects of a grant: after our own writes a cache may not know them yet.
    pub async fn observe(&self, place: &Place, name: &str) -> Result<Observed, ApiError> {
        let Place::Namespace(namespace) = place else {
            return self.observe_cluster(name).await;
        };
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

    async fn observe_cluster(&self, name: &str) -> Result<Observed, ApiError> {
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        let bindings: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        let (role, binding) =
            futures::try_join!(call(roles.get_opt(name)), call(bindings.get_opt(name)))?;
        Ok(Observed {
            job: None,
            role: role.map(wide::role),
            binding: binding.map(wide::role_binding),
        })
    }

    /// The labels of a namespace; `None` when there is none of that name.
    pub async fn namespace_labels(&self, name: &str) -> Result<Option<Labels>, ApiError> {
        if let Some(known) = self.stores.namespaces.get(&ObjectRef::new(name)) {
            return Ok(Some(known.labels().clone()));
        }
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let found = call(api.get_opt(name)).await?;
        Ok(found.map(|namespace| namespace.labels().clone()))
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

    /// The referenced role as it is now.
    async fn role(&self, grant: &Grant) -> Result<RoleFacts, ApiError> {
        let Source::Role(reference) = grant.source() else {
            return Ok(RoleFacts::NotReferenced);
        };
        let namespace = grant.place().namespace().unwrap_or_default();
        let key = RoleKey {
            namespace: (reference.kind == RoleKind::Role).then(|| namespace.to_owned()),
            name: reference.name.clone(),
        };
        let role = self.live_role(&key).await?;
        Ok(role.map_or(RoleFacts::Missing, RoleFacts::Found))
    }

    /// A Role or ClusterRole as it is now; `None` when there is none.
    pub async fn live_role(&self, key: &RoleKey) -> Result<Option<SourceRole>, ApiError> {
        let Some(namespace) = &key.namespace else {
            let api: Api<ClusterRole> = Api::all(self.client.clone());
            let found = call(api.get_opt(&key.name)).await?;
            return Ok(found.map(|role| SourceRole {
                rules: parsed(role.rules.as_deref()),
                aggregated: role.aggregation_rule.is_some(),
                selects_itself: selects_itself(&role),
                ..identity(&role)
            }));
        };
        let api: Api<Role> = Api::namespaced(self.client.clone(), namespace);
        let found = call(api.get_opt(&key.name)).await?;
        Ok(found.map(|role| SourceRole {
            rules: parsed(role.rules.as_deref()),
            ..identity(&role)
        }))
    }

    async fn served(&self, grant: &Grant, role: &RoleFacts) -> Result<Arc<Served>, ApiError> {
        let rules = match (grant.source(), role) {
            (Source::Rules(rules), _) => rules.as_slice(),
            (Source::Role(_), RoleFacts::Found(role)) => role.rules.as_slice(),
            (Source::Role(_), _) => &[],
        };
        self.discovery.for_rules(rules).await
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
            let may = authz::may(&self.client, requester, "use", policy.name()).await?;
            Ok((policy, may))
        }))
        .await
    }
}

/// A request as it was read live.
pub struct Found {
    /// Its UID.
    pub uid: Option<String>,
    /// The request, or why it cannot be read.
    pub object: Result<Access, String>,
}

impl Found {
    fn of<K: Resource<DynamicType = ()>>(
        object: DeserializeGuard<K>,
        kind: fn(Box<K>) -> Access,
    ) -> Self {
        Self {
            uid: object.uid(),
            object: match object.0 {
                Ok(object) => Ok(kind(Box::new(object))),
                Err(invalid) => Err(invalid.error),
            },
        }
    }
}

/// What the bindings of other grants of the account say of themselves.
pub fn add_others(facts: &mut Facts, others: &[Binding]) {
    facts.active_others = others.len();
    for other in others {
        if let (Some(policy), Some(since)) = (&other.policy, other.held_since) {
            facts.goes_on_since(policy, since);
        }
    }
}

/// The rules of a grant's own Role, if they are those that were granted.
fn copied(observed: &Observed, granted_hash: &str) -> Option<Vec<Rule>> {
    let rules = parsed(observed.role.as_ref()?.rules.as_deref());
    (rules::hash(&rules) == granted_hash).then_some(rules)
}

fn identity(role: &impl ResourceExt) -> SourceRole {
    SourceRole {
        uid: role.uid().unwrap_or_default(),
        made_by_stint: role.labels().contains_key(GRANT),
        ..SourceRole::default()
    }
}

/// Whether an aggregation rule would take in the role that it belongs to.
fn selects_itself(role: &ClusterRole) -> bool {
    let rule = role.aggregation_rule.as_ref();
    let selectors = rule.and_then(|rule| rule.cluster_role_selectors.as_ref());
    selectors.into_iter().flatten().any(|selector| {
        Selector::try_from(selector.clone()).is_ok_and(|s| s.matches(role.labels()))
    })
}

fn parsed(rules: Option<&[k8s_openapi::api::rbac::v1::PolicyRule]>) -> Vec<Rule> {
    rules.unwrap_or_default().iter().map(Rule::from).collect()
}
