//! The cluster whose logs are wanted, so that those of another are noticed.

use crate::connect::{Connection, Wish};
use crate::outcome::Failure;
use crate::requests::everything;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use stint::domain::usage::origin::Cluster;

/// The namespace whose UID and age are those of the cluster.
const OF_THE_CLUSTER: &str = "kube-system";

/// What is known of the cluster, and what to do when a log is of another.
#[derive(Debug)]
pub struct Here {
    /// The cluster.
    pub cluster: Cluster,
    /// What to do.
    pub remedy: &'static str,
}

impl Here {
    /// The cluster that is asked: when it began, and its ServiceAccounts.
    pub fn asked(since: Option<Timestamp>, accounts: &[ObjectMeta]) -> Self {
        let mut here = Self {
            cluster: Cluster::since(since),
            remedy: "check the context (--context), or name other logs",
        };
        accounts.iter().for_each(|account| here.add(account));
        here
    }

    /// The cluster that files are of.
    pub fn of_files() -> Self {
        Self {
            cluster: Cluster::default(),
            remedy: "name roles of the same cluster, read after the log was written",
        }
    }

    /// Adds a ServiceAccount; one without UID or age tells nothing.
    pub fn add(&mut self, account: &ObjectMeta) {
        let ObjectMeta {
            namespace: Some(namespace),
            name: Some(name),
            uid: Some(uid),
            creation_timestamp: Some(created),
            ..
        } = account
        else {
            return;
        };
        self.cluster.add(namespace, name, uid, created.0);
    }
}

/// `kube-system`.
pub async fn of_the_cluster(connection: &Connection) -> Result<ObjectMeta, Failure> {
    let api: Api<Namespace> = Api::all(connection.client.clone());
    let wish = Wish {
        verb: "get",
        resource: "namespaces",
        namespace: None,
        name: Some(OF_THE_CLUSTER),
    };
    let namespace = connection.ask(wish, api.get(OF_THE_CLUSTER)).await?;
    Ok(namespace.metadata)
}

/// The ServiceAccounts of a namespace, or all.
pub async fn accounts(
    connection: &Connection,
    namespace: Option<&str>,
) -> Result<Vec<ObjectMeta>, Failure> {
    let client = connection.client.clone();
    let api: Api<ServiceAccount> = match namespace {
        Some(name) => Api::namespaced(client, name),
        None => Api::all(client),
    };
    let wish = Wish {
        verb: "list",
        resource: "serviceaccounts",
        namespace,
        name: None,
    };
    let found = everything(connection, &api, wish, None).await?;
    Ok(found.into_iter().map(|account| account.metadata).collect())
}
