//! What the account holds, by roles and bindings from files or from the cluster, held against what it used.

use crate::audit_log::here::{self, Here};
use crate::bindings;
use crate::connect::{Connection, Target, Wish};
use crate::holders::Rbac;
use crate::outcome::Failure;
use crate::read::{Input, Object};
use crate::requests::{self, Scope, everything};
use crate::world::RBAC;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use stint::api::names;
use stint::domain::grant;
use stint::domain::usage::granted::{BindingKey, Line, Used};
use stint::domain::usage::tally::{Account, Tally};
use stint::domain::verification::Subject;

/// Bindings of Kubernetes that give every account the same.
const BASIC: [&str; 5] = [
    "system:basic-user",
    "system:cluster-trust-bundle-discovery",
    "system:discovery",
    "system:public-info-viewer",
    "system:service-account-issuer-discovery",
];

/// Roles and bindings, and the requests that some of them were made for.
#[derive(Default)]
pub struct Known {
    rbac: Rbac,
    made_for: BTreeMap<BindingKey, String>,
    /// The cluster that they are of.
    pub here: Option<Here>,
    /// Whether anything was read at all.
    pub any: bool,
}

/// One binding of an account.
pub struct Grant {
    /// The request of Stint that it was made for, or the binding itself.
    pub title: String,
    /// The binding; none for what another authorizer allowed.
    pub key: Option<BindingKey>,
    /// The role, where it is known.
    pub role: Option<String>,
    /// When it ends.
    pub until: Option<Timestamp>,
    /// Requests that it allowed.
    pub requests: u64,
    /// What of its rules was used; none where they are not known.
    pub lines: Option<Vec<Line>>,
}

impl Known {
    /// From files: what `kubectl get` prints.
    pub fn of_files(files: &[String]) -> Result<Self, Failure> {
        let mut input = Input::default();
        files.iter().for_each(|file| input.add(file, false));
        if let Some(failure) = input.failures.first() {
            return Err(Failure::Error(failure.clone()));
        }
        let mut known = Self::default();
        for object in &input.objects {
            known.add(object)?;
        }
        match known.any {
            true => Ok(known),
            false => Err(Failure::Error(format!(
                "{}: no binding is in it",
                files.join(", ")
            ))),
        }
    }

    fn add(&mut self, object: &Object) -> Result<(), Failure> {
        match (object.group(), object.kind.as_str()) {
            (RBAC, "Role") => self.rbac.role(&typed(object)?),
            (RBAC, "ClusterRole") => self.rbac.cluster_role(&typed(object)?),
            (RBAC, "RoleBinding") => self.rbac.role_binding(typed(object)?),
            (RBAC, "ClusterRoleBinding") => self.rbac.cluster_role_binding(typed(object)?),
            ("", "ServiceAccount") => {
                let metadata = object.node.get("metadata").map(|node| node.value());
                let metadata = serde_json::from_value(metadata.unwrap_or_default());
                if let Ok(metadata @ ObjectMeta { uid: Some(_), .. }) = &metadata {
                    self.here.get_or_insert_with(Here::of_files).add(metadata);
                }
            }
            (names::GROUP, "WorkloadAccess" | "ClusterWorkloadAccess") => {
                let metadata = object.node.get("metadata");
                let uid = metadata
                    .and_then(|metadata| metadata.text("uid"))
                    .unwrap_or_default();
                self.request(object.namespace(), object.name(), uid);
            }
            _ => {}
        }
        self.any |= object.kind.ends_with("Binding");
        Ok(())
    }

    /// The binding of a grant is gone with it; its name is known from the request.
    fn request(&mut self, namespace: Option<&str>, name: &str, uid: &str) {
        let key = BindingKey {
            namespace: namespace.map(str::to_owned),
            name: names::made_object_name(name, uid),
        };
        let title = match namespace {
            Some(namespace) => format!("WorkloadAccess {namespace}/{name}"),
            None => format!("ClusterWorkloadAccess {name}"),
        };
        self.made_for.insert(key, title);
    }

    /// From the cluster. What cannot be read and can be done without is told in words.
    pub async fn of_cluster(target: &Target) -> Result<(Self, Vec<String>), Failure> {
        let connection = Connection::open(target).await?;
        let mut unread = Vec::new();
        let mut known = Self {
            here: Some(cluster(&connection, &mut unread).await),
            any: true,
            ..Self::default()
        };
        for role in all::<Role>(&connection, "roles").await? {
            known.rbac.role(&role);
        }
        for role in all::<ClusterRole>(&connection, "clusterroles").await? {
            known.rbac.cluster_role(&role);
        }
        for binding in all::<RoleBinding>(&connection, "rolebindings").await? {
            known.rbac.role_binding(binding);
        }
        for binding in all::<ClusterRoleBinding>(&connection, "clusterrolebindings").await? {
            known.rbac.cluster_role_binding(binding);
        }
        for scope in [Scope::AllNamespaces, Scope::Cluster] {
            match requests::list(&connection, &scope, None).await {
                Ok(found) => {
                    for object in found {
                        let metadata = object.metadata;
                        let name = metadata.name.unwrap_or_default();
                        known.request(
                            metadata.namespace.as_deref(),
                            &name,
                            &metadata.uid.unwrap_or_default(),
                        );
                    }
                }
                Err(failure) => {
                    let without = "ended grants are shown by the name of their binding";
                    unread.push(format!("{without}: {}", failure.text()));
                }
            }
        }
        Ok((known, unread))
    }

    /// The bindings of an account: those that it has, and those that allowed something and are gone.
    pub fn of_account(
        &self,
        tally: &Tally,
        name: &str,
        account: &Account,
        basic: bool,
    ) -> Vec<Grant> {
        let used = Used::of(tally, [account]);
        let mut allowed = used.bindings();
        let (namespace, short) = name.split_once('/').unwrap_or_default();
        let who = grant::Account {
            namespace: namespace.to_owned(),
            name: short.to_owned(),
        };
        let Subject { user, groups, .. } = Subject::account(&who, "");
        let mut out = Vec::new();
        for bound in self.rbac.bound_to(&user, &groups) {
            let key = BindingKey {
                namespace: bound.namespace.map(str::to_owned),
                name: bound.name.to_owned(),
            };
            let requests = allowed.remove(&Some(key.clone())).unwrap_or_default();
            out.push(Grant {
                title: bound.title.to_owned(),
                role: Some(bound.role),
                until: bound.until,
                requests,
                lines: bound.rules.map(|rules| used.lines(&key, rules)),
                key: Some(key),
            });
        }
        out.extend(
            allowed
                .into_iter()
                .map(|(key, requests)| self.gone(key, requests)),
        );
        out.retain(|grant| basic || !grant.key.as_ref().is_some_and(is_basic));
        out.sort_by(|a, b| {
            b.requests
                .cmp(&a.requests)
                .then_with(|| a.title.cmp(&b.title))
        });
        out
    }

    /// What allowed something and is not there; without anything to look in, nobody knows.
    fn gone(&self, key: Option<BindingKey>, requests: u64) -> Grant {
        let over = if self.any { " (gone)" } else { "" };
        let title = match &key {
            None => "another authorizer".to_owned(),
            Some(key) => match (self.made_for.get(key), &key.namespace) {
                (Some(request), _) => format!("{request}{over}"),
                (None, namespace) => {
                    let title = bindings::title(namespace.as_deref(), &key.name);
                    format!("{title}{over}")
                }
            },
        };
        Grant {
            title,
            key,
            role: None,
            until: None,
            requests,
            lines: None,
        }
    }
}

/// The cluster, as far as the user may know it.
async fn cluster(connection: &Connection, unread: &mut Vec<String>) -> Here {
    let mut without = |failure: Failure| {
        let without = "logs of another cluster may go unnoticed";
        unread.push(format!("{without}: {}", failure.text()));
    };
    let system = here::of_the_cluster(connection).await;
    let system = system.map_err(&mut without).unwrap_or_default();
    let accounts = here::accounts(connection, None).await;
    let accounts = accounts.map_err(&mut without).unwrap_or_default();
    Here::asked(system.creation_timestamp.map(|time| time.0), &accounts)
}

fn is_basic(key: &BindingKey) -> bool {
    key.namespace.is_none() && BASIC.contains(&key.name.as_str())
}

fn typed<K: DeserializeOwned>(object: &Object) -> Result<K, Failure> {
    serde_json::from_value(object.node.value()).map_err(|error| {
        let place = format!("{}:{}", object.file, object.node.line);
        Failure::Error(format!(
            "{place}: {} '{}': {error}",
            object.kind,
            object.name()
        ))
    })
}

async fn all<K>(connection: &Connection, plural: &str) -> Result<Vec<K>, Failure>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(connection.client.clone());
    let resource = format!("{plural}.{RBAC}");
    let wish = Wish {
        verb: "list",
        resource: &resource,
        namespace: None,
        name: None,
    };
    everything(connection, &api, wish, None).await
}
