//! The one place where the plugin touches bindings that somebody else made: it takes an account out of them, and puts back what
//! it took. Nobody is ever bound who was not bound before.

use crate::connect::{Connection, Wish};
use crate::outcome::Failure;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, Subject};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

/// Field manager of what a person changes by the plugin.
const MANAGER: &str = "kubectl-stint";

/// A binding of one kind or the other, as it was read.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its namespace; none for a ClusterRoleBinding.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// The subjects that are taken out.
    pub taken: Vec<Subject>,
    /// A patch (RFC 6902) that takes them out; none when nobody else is bound and the binding goes.
    pub patch: Option<Value>,
    /// The binding, as it can be made again.
    pub whole: Value,
}

impl Binding {
    fn wish<'a>(&'a self, verb: &'a str) -> Wish<'a> {
        Wish {
            verb,
            resource: match self.namespace {
                Some(_) => "rolebindings.rbac.authorization.k8s.io",
                None => "clusterrolebindings.rbac.authorization.k8s.io",
            },
            namespace: self.namespace.as_deref(),
            name: Some(&self.name),
        }
    }

    fn api(&self, connection: &Connection) -> Api<DynamicObject> {
        let client = connection.client.clone();
        match &self.namespace {
            Some(namespace) => {
                Api::namespaced_with(client, namespace, &ApiResource::erase::<RoleBinding>(&()))
            }
            None => Api::all_with(client, &ApiResource::erase::<ClusterRoleBinding>(&())),
        }
    }

    /// The binding for those subjects alone.
    fn own(&self) -> Result<DynamicObject, Failure> {
        let mut value = self.whole.clone();
        value["subjects"] = json!(self.taken);
        serde_json::from_value(value)
            .map_err(|error| Failure::Error(format!("this is no binding: {error}")))
    }

    /// Asks by dry runs whether the user could take the subjects out, and put them back: admission may refuse a new binding
    /// where an old one stands, and whoever binds must hold what is bound (`registry/rbac/rolebinding/policybased`).
    pub async fn rehearse(&self, connection: &Connection) -> Result<(), Failure> {
        self.remove(connection, true).await?;
        let mut again = self.own()?;
        again.metadata.name = None;
        again.metadata.generate_name = Some("stint-rehearsal-".into());
        let params = PostParams {
            dry_run: true,
            field_manager: Some(MANAGER.to_owned()),
        };
        let api = self.api(connection);
        let wish = Wish {
            name: None,
            ..self.wish("create")
        };
        let rehearsed = connection.ask(wish, api.create(&params, &again)).await;
        let what = "the binding could not be put back, so it is not removed";
        rehearsed.map(drop).map_err(|failure| failure.about(what))
    }

    /// Takes the subjects out of the binding, if it is still as it was read.
    pub async fn take_out(&self, connection: &Connection) -> Result<(), Failure> {
        self.remove(connection, false).await
    }

    async fn remove(&self, connection: &Connection, dry_run: bool) -> Result<(), Failure> {
        let api = self.api(connection);
        let Some(patch) = &self.patch else {
            let params = DeleteParams {
                dry_run,
                preconditions: Some(Preconditions {
                    uid: Some(self.uid.clone()),
                    resource_version: Some(self.resource_version.clone()),
                }),
                ..DeleteParams::default()
            };
            let call = api.delete(&self.name, &params);
            return connection.ask(self.wish("delete"), call).await.map(drop);
        };
        let unchanged = json!([
            {"op": "test", "path": "/metadata/uid", "value": self.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": self.resource_version},
        ]);
        let params = PatchParams {
            dry_run,
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = json_patch(&[&unchanged, patch])?;
        let call = api.patch(&self.name, &params, &patch);
        connection.ask(self.wish("patch"), call).await.map(drop)
    }

    /// Puts the subjects back, whether they were really taken out or not.
    pub async fn put_back(&self, connection: &Connection) -> Result<(), Failure> {
        let api = self.api(connection);
        let there = connection
            .ask(self.wish("get"), api.get_opt(&self.name))
            .await?;
        let Some(there) = there else {
            let params = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            let own = self.own()?;
            let call = api.create(&params, &own);
            return connection.ask(self.wish("create"), call).await.map(drop);
        };
        let subjects = there.data["subjects"].clone();
        let bound: Vec<Subject> = serde_json::from_value(subjects).unwrap_or_default();
        let missing: Vec<&Subject> = self
            .taken
            .iter()
            .filter(|subject| !bound.contains(subject))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let all: Vec<&Subject> = bound.iter().chain(missing).collect();
        let version = there.metadata.resource_version;
        let unchanged =
            json!([{"op": "test", "path": "/metadata/resourceVersion", "value": version}]);
        let put = json!([{"op": "add", "path": "/subjects", "value": all}]);
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = json_patch(&[&unchanged, &put])?;
        let call = api.patch(&self.name, &params, &patch);
        connection.ask(self.wish("patch"), call).await.map(drop)
    }
}

fn json_patch(parts: &[&Value]) -> Result<Patch<DynamicObject>, Failure> {
    let all = parts.iter().filter_map(|part| part.as_array()).flatten();
    let all = Value::Array(all.cloned().collect());
    let patch = serde_json::from_value(all);
    patch
        .map(Patch::Json)
        .map_err(|error| Failure::Error(format!("this is no patch: {error}")))
}
