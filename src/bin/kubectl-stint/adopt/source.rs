//! Where the bindings come from: the cluster, or files that are read with the bounds of `lint`.

use super::AdoptArgs;
use crate::connect::{Connection, Wish};
use crate::outcome::Failure;
use crate::place;
use crate::read::{Input, Object};
use crate::requests::{self, Made, Scope, everything};
use crate::tree::{Node, Tree};
use crate::world::RBAC;
use jiff::Timestamp;
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use stint::cluster::discovery::Discovery;
use stint::domain::served::{Lookup, Served};

/// What was read, before anything is made of it.
pub struct Known {
    /// Roles, bindings and accounts.
    pub objects: Vec<Object>,
    /// The cluster, where one was asked: what is not here is then missing.
    pub connection: Option<Connection>,
    /// What the cluster serves, where one was asked.
    pub served: Option<Arc<Served>>,
    /// The binding of each request, by the UID of the request.
    pub requests: HashMap<String, Made>,
    /// The namespace that is looked at, or with files that of objects that name none.
    pub namespace: String,
    /// Whether accounts of all namespaces were read.
    pub everywhere: bool,
    /// What could not be read, one line each.
    pub failures: Vec<String>,
    /// Now, by the API server's clock where it was asked.
    pub now: Timestamp,
}

/// Reads what the arguments name.
pub async fn read(args: &AdoptArgs) -> Result<Known, Failure> {
    match args.sources.is_empty() && args.files.is_empty() {
        true => of_cluster(args).await,
        false => of_files(args),
    }
}

fn of_files(args: &AdoptArgs) -> Result<Known, Failure> {
    let mut input = Input::default();
    let sources = args.sources.iter().chain(&args.files);
    sources.for_each(|source| input.add(source, true));
    if input.objects.is_empty() && input.failures.is_empty() {
        let why = "no input: there is no object in what was named";
        input.failures.push(why.into());
    }
    let namespace = args.namespace.as_deref().unwrap_or("default");
    Ok(Known {
        objects: input.objects,
        connection: None,
        served: None,
        requests: HashMap::new(),
        namespace: place::legal("namespace", namespace)?.to_owned(),
        everywhere: true,
        failures: input.failures,
        now: Timestamp::now(),
    })
}

/// Group, kind and plural of what is read, and whether it lives in namespaces. Bindings come before the requests, so that a
/// grant that begins in between is not taken for a binding that nobody asked for.
const KINDS: [(&str, &str, &str, bool); 5] = [
    (RBAC, "ClusterRoleBinding", "clusterrolebindings", false),
    (RBAC, "RoleBinding", "rolebindings", true),
    (RBAC, "ClusterRole", "clusterroles", false),
    (RBAC, "Role", "roles", true),
    ("", "ServiceAccount", "serviceaccounts", true),
];

async fn of_cluster(args: &AdoptArgs) -> Result<Known, Failure> {
    let connection = Connection::open(&args.target).await?;
    let namespace = place::namespace(args.namespace.as_deref(), &connection)?;
    let within = (!args.all_namespaces).then_some(namespace.as_str());
    let mut objects = Vec::new();
    for (group, kind, plural, namespaced) in KINDS {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
        let within = within.filter(|_| namespaced);
        let client = connection.client.clone();
        let api: Api<DynamicObject> = match within {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let named = match group {
            "" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        };
        let wish = Wish {
            verb: "list",
            resource: &named,
            namespace: within,
            name: None,
        };
        for item in everything(&connection, &api, wish, None).await? {
            let value = typed(&item, &resource.api_version, kind);
            objects.push(object("<cluster>", value));
        }
    }
    let served = discover(&connection).await?;
    let requests = requests(&connection, &served, within).await?;
    Ok(Known {
        objects,
        served: Some(served),
        requests,
        everywhere: args.all_namespaces,
        failures: Vec::new(),
        now: connection.now(),
        namespace,
        connection: Some(connection),
    })
}

async fn discover(connection: &Connection) -> Result<Arc<Served>, Failure> {
    let discovery = Discovery::new(connection.client.clone());
    let wish = Wish {
        verb: "get",
        resource: "/apis",
        namespace: None,
        name: None,
    };
    let answer = discovery.for_rules(&[]).await;
    answer.map_err(|error| connection.failed_call(wish, &error))
}

/// The bindings of requests; none where Stint is not installed yet.
async fn requests(
    connection: &Connection,
    served: &Served,
    within: Option<&str>,
) -> Result<HashMap<String, Made>, Failure> {
    if !matches!(
        served.look_up("stint.dev", "workloadaccesses"),
        Lookup::Home(_)
    ) {
        return Ok(HashMap::new());
    }
    let namespaced = match within {
        Some(namespace) => Scope::Namespace(namespace.to_owned()),
        None => Scope::AllNamespaces,
    };
    let mut found = requests::list(connection, &namespaced, None).await?;
    found.extend(requests::list(connection, &Scope::Cluster, None).await?);
    let by_uid = found.iter().filter_map(|request| {
        let uid = request.metadata.uid.clone()?;
        Some((uid, Made::of(request)))
    });
    Ok(by_uid.collect())
}

/// Items of a list come without their kind.
fn typed(item: &DynamicObject, api_version: &str, kind: &str) -> Value {
    let mut value = serde_json::to_value(item).unwrap_or_default();
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(kind);
    value
}

/// An object that no file holds.
pub fn object(file: &str, value: Value) -> Object {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    Object {
        file: file.to_owned(),
        api_version: text("apiVersion"),
        kind: text("kind"),
        node: node(value),
        judged: true,
    }
}

fn node(value: Value) -> Node {
    let tree = match value {
        Value::Array(items) => Tree::List(items.into_iter().map(node).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, node(value)));
            Tree::Fields(fields.collect())
        }
        scalar => Tree::Scalar(scalar),
    };
    Node { line: 1, tree }
}
