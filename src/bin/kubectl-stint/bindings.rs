//! The one place where the plugin touches bindings that somebody else made: it takes an account out of them, and puts back what
//! it took. Nobody is ever bound who was not bound before.

use crate::connect::{Connection, NotDone, Wish};
use crate::outcome::Failure;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, Subject};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use std::time::Duration;

/// Field manager of what a person changes by the plugin.
const MANAGER: &str = "kubectl-stint";

/// Tries to put a binding back while the API server does not answer, or somebody writes to the same object.
const TRIES: usize = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);

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

/// Kind, place and name of a binding.
pub fn title(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("RoleBinding {namespace}/{name}"),
        None => format!("ClusterRoleBinding {name}"),
    }
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
    pub fn own(&self) -> Value {
        let mut value = self.whole.clone();
        value["subjects"] = json!(self.taken);
        value
    }

    fn own_object(&self) -> Result<DynamicObject, NotDone> {
        serde_json::from_value(self.own()).map_err(|error| NotDone {
            code: Some(400),
            failure: Failure::Error(format!("this is no binding: {error}")),
        })
    }

    /// Asks by dry runs whether the user could take the subjects out, and put them back: admission may refuse a new binding
    /// where an old one stands, and whoever binds must hold what is bound (`registry/rbac/rolebinding/policybased`).
    pub async fn rehearse(&self, connection: &Connection) -> Result<(), Failure> {
        self.rehearse_removal(connection).await?;
        let mut again = self.own_object()?;
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

    /// The first half of it.
    pub async fn rehearse_removal(&self, connection: &Connection) -> Result<(), Failure> {
        Ok(self.remove(connection, true).await?)
    }

    /// Takes the subjects out of the binding, if it is still as it was read.
    pub async fn take_out(&self, connection: &Connection) -> Result<(), NotDone> {
        self.remove(connection, false).await
    }

    async fn remove(&self, connection: &Connection, dry_run: bool) -> Result<(), NotDone> {
        let removed = self.try_to_remove(connection, dry_run).await;
        removed.map_err(|not_done| match not_done.code {
            // A precondition, or a test of a patch.
            Some(404 | 409 | 422) => NotDone {
                failure: not_done
                    .failure
                    .about("it is not as it was read any more, run the command again"),
                ..not_done
            },
            _ => not_done,
        })
    }

    async fn try_to_remove(&self, connection: &Connection, dry_run: bool) -> Result<(), NotDone> {
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
            return connection.write(self.wish("delete"), call).await.map(drop);
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
        connection.write(self.wish("patch"), call).await.map(drop)
    }

    /// Puts the subjects back, whether they were really taken out or not.
    pub async fn put_back(&self, connection: &Connection) -> Result<(), Failure> {
        for _ in 1..TRIES {
            match self.try_to_put_back(connection).await {
                Err(not_done)
                    if matches!(not_done.code, Some(409 | 429)) || !not_done.is_certain() =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return Ok(answer?),
            }
        }
        Ok(self.try_to_put_back(connection).await?)
    }

    async fn try_to_put_back(&self, connection: &Connection) -> Result<(), NotDone> {
        let api = self.api(connection);
        let there = connection
            .write(self.wish("get"), api.get_opt(&self.name))
            .await?;
        let Some(there) = there else {
            let params = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            let own = self.own_object()?;
            let call = api.create(&params, &own);
            return connection.write(self.wish("create"), call).await.map(drop);
        };
        if there.metadata.deletion_timestamp.is_some() {
            return Err(stays("is being deleted"));
        }
        let subjects = there.data["subjects"].clone();
        let bound: Vec<Subject> = serde_json::from_value(subjects).unwrap_or_default();
        let missing: Vec<&Subject> = self
            .taken
            .iter()
            .filter(|subject| !bound.contains(subject))
            .collect();
        if there.data["roleRef"] != self.whole["roleRef"] {
            return Err(stays("gives another role by now"));
        }
        if missing.is_empty() {
            return Ok(());
        }
        if there.metadata.uid.as_deref() != Some(&self.uid) {
            return Err(stays("is another one by now"));
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
        connection.write(self.wish("patch"), call).await.map(drop)
    }
}

/// A binding that nobody else's subjects are put into.
fn stays(why: &str) -> NotDone {
    NotDone {
        code: Some(412),
        failure: Failure::Error(format!(
            "the binding of this name {why}, and is left as it is"
        )),
    }
}

fn json_patch(parts: &[&Value]) -> Result<Patch<DynamicObject>, NotDone> {
    let all = parts.iter().filter_map(|part| part.as_array()).flatten();
    let all = Value::Array(all.cloned().collect());
    let patch = serde_json::from_value(all);
    patch.map(Patch::Json).map_err(|error| NotDone {
        code: Some(400),
        failure: Failure::Error(format!("this is no patch: {error}")),
    })
}
