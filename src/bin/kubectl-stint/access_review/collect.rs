//! Everything that a report is made of, as far as the user may read it.

use super::model::NotRead;
use crate::audit_log::here::{self, Here};
use crate::connect::{Connection, Wish};
use crate::outcome::Failure;
use crate::requests::{self, Scope, everything};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Debug;
use stint::api::AccessApproval;
use stint::cluster::standing::RoleKey;
use stint::domain::rules::Rule;

/// What a role gives.
#[derive(Debug)]
pub struct KnownRole {
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Whether Kubernetes puts them together from other roles.
    pub aggregated: bool,
}

/// A binding of either kind.
#[derive(Debug)]
pub struct Bound {
    /// The kind.
    pub kind: &'static str,
    /// Metadata.
    pub meta: ObjectMeta,
    /// Who is bound.
    pub subjects: Vec<Subject>,
    /// To what.
    pub role_ref: RoleRef,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Found {
    /// UID of `kube-system`.
    pub cluster_id: Option<String>,
    /// When it was created.
    pub cluster_since: Option<Timestamp>,
    /// Requests of both kinds, as they are stored.
    pub requests: Vec<DynamicObject>,
    /// AccessApprovals, as they are stored.
    pub approvals: Vec<DynamicObject>,
    /// Roles of both kinds.
    pub roles: HashMap<RoleKey, KnownRole>,
    /// Bindings of both kinds.
    pub bindings: Vec<Bound>,
    /// What could not be read.
    pub not_read: Vec<NotRead>,
}

impl Found {
    /// Whether all objects of a resource are known.
    pub fn knows(&self, resource: &str) -> bool {
        !self.not_read.iter().any(|missing| missing.what == resource)
    }

    /// What came, or else nothing and the reason.
    fn take<T: Default>(&mut self, what: &str, came: Result<T, Failure>) -> T {
        came.unwrap_or_else(|failure| {
            self.not_read.push(NotRead {
                what: what.to_owned(),
                why: failure.text(),
            });
            T::default()
        })
    }
}

/// Reads all there is, in one namespace or everywhere. What the user may not read is told, and the rest is read all the same.
pub async fn everything_of(
    connection: &Connection,
    namespace: Option<&str>,
) -> Result<Found, Failure> {
    let mut found = Found::default();
    let system = here::of_the_cluster(connection).await;
    let system = found.take("namespaces", system);
    found.cluster_id = system.uid;
    found.cluster_since = system.creation_timestamp.map(|time| time.0);
    // Before the requests: a grant that begins in between is then not taken for a binding that nobody asked for.
    read_bindings(connection, namespace, &mut found).await;
    // No server, or none that knows the user, answers everything alike; a right that is missing has a name.
    if let [first, second, ..] = &found.not_read[..]
        && first.why == second.why
    {
        return Err(Failure::Error(first.why.clone()));
    }
    read_roles(connection, namespace, &mut found).await;
    read_requests(connection, namespace, &mut found).await;
    read_approvals(connection, namespace, &mut found).await;
    Ok(found)
}

/// The cluster that audit logs are to be of, as far as the user may know it.
pub async fn here(connection: &Connection, namespace: Option<&str>, found: &mut Found) -> Here {
    let accounts = here::accounts(connection, namespace).await;
    let accounts = found.take("serviceaccounts", accounts);
    Here::asked(found.cluster_since, &accounts)
}

async fn read_requests(connection: &Connection, namespace: Option<&str>, found: &mut Found) {
    let scopes = match namespace {
        Some(name) => vec![Scope::Namespace(name.to_owned())],
        None => vec![Scope::AllNamespaces, Scope::Cluster],
    };
    for scope in scopes {
        let listed = requests::list(connection, &scope, None).await;
        let listed = found.take(scope.resource(), listed);
        found.requests.extend(listed);
    }
}

async fn read_approvals(connection: &Connection, namespace: Option<&str>, found: &mut Found) {
    let what = "accessapprovals.stint.dev";
    let client = connection.client.clone();
    let kind = ApiResource::erase::<AccessApproval>(&());
    let api: Api<DynamicObject> = match namespace {
        Some(name) => Api::namespaced_with(client, name, &kind),
        None => Api::all_with(client, &kind),
    };
    let listed = everything(connection, &api, wish(what, namespace), None).await;
    found.approvals = found.take(what, listed);
}

async fn read_roles(connection: &Connection, namespace: Option<&str>, found: &mut Found) {
    let what = "clusterroles.rbac.authorization.k8s.io";
    let api: Api<ClusterRole> = Api::all(connection.client.clone());
    let listed = everything(connection, &api, wish(what, None), None).await;
    for role in found.take(what, listed) {
        let aggregated = role.aggregation_rule.is_some();
        found.add_role(role.metadata, role.rules, aggregated);
    }
    let what = "roles.rbac.authorization.k8s.io";
    let listed = list::<Role>(connection, what, namespace).await;
    for role in found.take(what, listed) {
        found.add_role(role.metadata, role.rules, false);
    }
}

async fn read_bindings(connection: &Connection, namespace: Option<&str>, found: &mut Found) {
    if namespace.is_none() {
        let what = "clusterrolebindings.rbac.authorization.k8s.io";
        let api: Api<ClusterRoleBinding> = Api::all(connection.client.clone());
        let listed = everything(connection, &api, wish(what, None), None).await;
        let listed = found.take(what, listed).into_iter();
        found.bindings.extend(listed.map(|binding| Bound {
            kind: "ClusterRoleBinding",
            meta: binding.metadata,
            subjects: binding.subjects.unwrap_or_default(),
            role_ref: binding.role_ref,
        }));
    }
    let what = "rolebindings.rbac.authorization.k8s.io";
    let listed = list::<RoleBinding>(connection, what, namespace).await;
    let listed = found.take(what, listed).into_iter();
    found.bindings.extend(listed.map(|binding| Bound {
        kind: "RoleBinding",
        meta: binding.metadata,
        subjects: binding.subjects.unwrap_or_default(),
        role_ref: binding.role_ref,
    }));
}

impl Found {
    fn add_role(&mut self, meta: ObjectMeta, rules: Option<Vec<PolicyRule>>, aggregated: bool) {
        let key = RoleKey {
            namespace: meta.namespace,
            name: meta.name.unwrap_or_default(),
        };
        let rules = rules.iter().flatten().map(Rule::from).collect();
        self.roles.insert(key, KnownRole { rules, aggregated });
    }
}

async fn list<K>(
    connection: &Connection,
    what: &'static str,
    namespace: Option<&str>,
) -> Result<Vec<K>, Failure>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let client = connection.client.clone();
    let api: Api<K> = match namespace {
        Some(name) => Api::namespaced(client, name),
        None => Api::all(client),
    };
    everything(connection, &api, wish(what, namespace), None).await
}

fn wish<'a>(resource: &'a str, namespace: Option<&'a str>) -> Wish<'a> {
    Wish {
        verb: "list",
        resource,
        namespace,
        name: None,
    }
}
