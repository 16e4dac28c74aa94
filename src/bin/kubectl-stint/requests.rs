//! Requests of both kinds, as they are read from the cluster.

use crate::connect::{Connection, Wish};
use crate::outcome::Failure;
use crate::place::legal;
use kube::Api;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;
use stint::api::{ClusterWorkloadAccess, WorkloadAccess, names};
use stint::domain::request::{Access, Place};

/// Objects in one page of a list, as kubectl asks for them.
const PAGE: u32 = 500;

/// Requests that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// WorkloadAccesses of one namespace.
    Namespace(String),
    /// WorkloadAccesses of all namespaces.
    AllNamespaces,
    /// ClusterWorkloadAccesses.
    Cluster,
}

impl Scope {
    /// The kind, as the authorizer and kubectl call it.
    pub fn resource(&self) -> &'static str {
        match self {
            Self::Cluster => "clusterworkloadaccesses.stint.dev",
            _ => "workloadaccesses.stint.dev",
        }
    }

    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespace(name) => Some(name),
            _ => None,
        }
    }

    /// What is asked for.
    pub fn wish(&self, verb: &'static str) -> Wish<'_> {
        Wish {
            verb,
            resource: self.resource(),
            namespace: self.namespace(),
            name: None,
        }
    }

    /// The objects as they are stored, whatever they hold.
    pub fn api(&self, connection: &Connection) -> Api<DynamicObject> {
        let client = connection.client.clone();
        let namespaced = ApiResource::erase::<WorkloadAccess>(&());
        match self {
            Self::Namespace(name) => Api::namespaced_with(client, name, &namespaced),
            Self::AllNamespaces => Api::all_with(client, &namespaced),
            Self::Cluster => {
                Api::all_with(client, &ApiResource::erase::<ClusterWorkloadAccess>(&()))
            }
        }
    }
}

impl From<&Place> for Scope {
    fn from(place: &Place) -> Self {
        match place {
            Place::Namespace(name) => Self::Namespace(name.clone()),
            Place::Cluster => Self::Cluster,
        }
    }
}

/// All of them, page by page.
pub async fn list(
    connection: &Connection,
    scope: &Scope,
    selector: Option<&str>,
) -> Result<Vec<DynamicObject>, Failure> {
    let api = scope.api(connection);
    everything(connection, &api, scope.wish("list"), selector).await
}

/// All objects of a list, page by page. A list that grew too old between two pages is read anew as a whole.
pub async fn everything<K>(
    connection: &Connection,
    api: &Api<K>,
    wish: Wish<'_>,
    selector: Option<&str>,
) -> Result<Vec<K>, Failure>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut all = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector = selector.map(str::to_owned);
    loop {
        let answer = tokio::time::timeout(std::time::Duration::from_secs(60), api.list(&params));
        let page = match answer.await {
            Ok(Err(kube::Error::Api(status))) if status.code == 410 && params.limit.is_some() => {
                all.clear();
                params.limit = None;
                params.continue_token = None;
                continue;
            }
            Ok(page) => page.map_err(|error| connection.failed(wish, &error))?,
            Err(_) => return Err(Failure::Error(format!("no answer within 60 s: {wish}"))),
        };
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(all),
        }
    }
}

/// One request, as it is stored.
async fn stored(
    connection: &Connection,
    place: &Place,
    name: &str,
) -> Result<DynamicObject, Failure> {
    legal(place.kind(), name)?;
    let scope = Scope::from(place);
    let wish = Wish {
        name: Some(name),
        ..scope.wish("get")
    };
    let api = scope.api(connection);
    connection.ask(wish, api.get(name)).await
}

/// One request.
pub async fn get(connection: &Connection, place: &Place, name: &str) -> Result<Access, Failure> {
    let stored = stored(connection, place, name).await?;
    read(&stored).map_err(|why| {
        let kind = place.kind();
        Failure::Error(format!(
            "{kind} '{name}' cannot be read by this version: {why}"
        ))
    })
}

/// The request that a stored object is, or why it cannot be read.
pub fn read(object: &DynamicObject) -> Result<Access, String> {
    let value = serde_json::to_value(object).map_err(|error| error.to_string())?;
    match is_wide(object) {
        true => decode::<ClusterWorkloadAccess>(value).map(Access::from),
        false => decode::<WorkloadAccess>(value).map(Access::from),
    }
}

fn decode<K: serde::de::DeserializeOwned>(value: Value) -> Result<K, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Items of a list carry no kind; what has no namespace is of the whole cluster.
pub fn is_wide(object: &DynamicObject) -> bool {
    object.metadata.namespace.is_none()
}

/// The object as programs expect it: with its kind, and without what nobody reads.
pub fn whole(object: &DynamicObject) -> Value {
    let kind = match is_wide(object) {
        true => "ClusterWorkloadAccess",
        false => "WorkloadAccess",
    };
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    let mut value = serde_json::to_value(&object).unwrap_or_default();
    value["apiVersion"] = "stint.dev/v1alpha1".into();
    value["kind"] = kind.into();
    value
}

/// The binding that Stint made for a request. The label that says so is anybody's to write, and so are place and name once the grant
/// has ended; the UID in the status is not.
#[derive(Debug)]
pub struct Made {
    uid: Option<String>,
    /// Namespace and name. Of a grant that has just begun the status does not say the UID yet.
    place: Option<(Option<String>, String)>,
}

impl Made {
    /// As the request tells it.
    pub fn of(request: &DynamicObject) -> Self {
        let status = &request.data["status"];
        let stamps = ["roleBinding", "clusterRoleBinding"].iter();
        let mut uids = stamps.filter_map(|stamp| status[stamp]["uid"].as_str());
        let metadata = &request.metadata;
        let own = metadata.name.as_ref().zip(metadata.uid.as_ref());
        let own = own.filter(|_| status["endedTime"].is_null());
        let place = own.map(|(name, uid)| {
            let name = names::made_object_name(name, uid);
            (metadata.namespace.clone(), name)
        });
        Self {
            uid: uids.next().map(str::to_owned),
            place,
        }
    }

    /// Whether a binding is the one.
    pub fn is(&self, namespace: Option<&str>, name: &str, uid: Option<&str>) -> bool {
        let known = self.uid.is_some() && self.uid.as_deref() == uid;
        let place = self.place.as_ref();
        known || place.is_some_and(|(of, made)| of.as_deref() == namespace && made == name)
    }
}
