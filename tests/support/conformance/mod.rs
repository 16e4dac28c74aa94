//! One table of what an API server does, run against the fake and against a real one, so that the fake cannot drift.
//!
//! The expected values are the real server's. A row has a namespace of its own and leaves cluster-wide objects of others
//! alone, so rows may run side by side.

mod applies;
mod apply_parts;
mod creates;
mod deletes;
mod halves;
mod http;
mod lists;
mod owners;
mod updates;
mod watches;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::{fmt::Debug, future::Future, time::Duration};

pub use http::Reply;

/// Outcome of a row: the reason when it fails.
pub type Outcome = Result<(), String>;

/// What a row works with.
#[derive(Clone)]
pub struct Ctx {
    /// A client that may do everything.
    pub client: kube::Client,
    /// A fresh namespace.
    pub namespace: String,
}

/// One thing that a server does.
pub struct Row {
    /// What the server does, in words.
    pub name: &'static str,
    /// Makes it do so.
    pub run: fn(Ctx) -> BoxFuture<'static, Outcome>,
}

/// The table.
pub fn rows() -> Vec<Row> {
    [
        creates::rows(),
        updates::rows(),
        halves::rows(),
        deletes::rows(),
        applies::rows(),
        apply_parts::rows(),
        lists::rows(),
        watches::rows(),
        owners::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs one row; a failure carries the row's name.
pub async fn run(row: &Row, ctx: Ctx) -> Outcome {
    let outcome = (row.run)(ctx).await;
    outcome.map_err(|why| format!("{}: {why}", row.name))
}

/// Panics with every failure, so that one run shows all of them.
pub fn report(total: usize, failures: &[String]) {
    assert!(total >= 45, "the table has shrunk to {total} rows");
    assert!(
        failures.is_empty(),
        "{} of {total} rows fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

// ---- words that rows are written in ----

/// Fails with both values unless they are equal.
fn same<T: PartialEq<U> + Debug, U: Debug>(what: &str, found: T, expected: U) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what} is {found:?}, expected {expected:?}"))
}

/// Fails with `what` unless it holds.
fn holds(what: &str, is_so: bool) -> Outcome {
    if is_so {
        Ok(())
    } else {
        Err(format!("not so: {what}"))
    }
}

/// Asks every 50 ms until there is an answer, for at most a minute of the server's time.
async fn until<T, F: Future<Output = Result<Option<T>, String>>>(
    what: &str,
    mut question: impl FnMut() -> F,
) -> Result<T, String> {
    for _ in 0..1_200 {
        if let Some(answer) = question().await? {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("never: {what}"))
}

/// Without data, it has no `data` at all: an empty map would be a field that one can own.
fn config_map(name: &str, data: Value) -> Value {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    if data != json!({}) {
        map["data"] = data;
    }
    map
}

fn labelled(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}})
}

fn job(name: &str, extra: Value) -> Value {
    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}});
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"parallelism": 0, "template": template}});
    for (field, value) in extra.as_object().into_iter().flatten() {
        job["spec"][field] = value.clone();
    }
    job
}

fn role_binding(name: &str, role: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "s", "namespace": "elsewhere"}]})
}

/// A custom resource with a status subresource.
fn access(name: &str) -> Value {
    json!({"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess", "metadata": {"name": name},
        "spec": {"serviceAccountRef": {"name": "migrator"}, "reason": "conformance", "notAfter": "2999-01-01T00:00:00Z",
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}})
}

impl Ctx {
    fn maps(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps", self.namespace)
    }

    fn map(&self, name: &str) -> String {
        format!("{}/{name}", self.maps())
    }

    fn core(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}", self.namespace)
    }

    fn rbac(&self, resource: &str) -> String {
        let ns = &self.namespace;
        format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/{resource}")
    }

    fn jobs(&self) -> String {
        format!("/apis/batch/v1/namespaces/{}/jobs", self.namespace)
    }

    fn accesses(&self) -> String {
        let ns = &self.namespace;
        format!("/apis/stint.dev/v1alpha1/namespaces/{ns}/workloadaccesses")
    }
}
