//! What `helm test` asks of an installation: that its probes and metrics answer through their Service, and that a request that no
//! policy admits is refused by the API server in Stint's words. Nothing is stored.

use crate::api::WorkloadAccess;
use crate::cluster::{ApiError, call};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is asked of the admin endpoint.
const PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// One thing that was asked: what, and what is wrong if something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What was asked.
    pub what: String,
    /// Why it is not as it should be.
    pub wrong: Option<String>,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.wrong {
            None => write!(f, "ok      {}", self.what),
            Some(wrong) => write!(f, "FAILED  {}: {wrong}", self.what),
        }
    }
}

/// Asks everything, one after the other. `admin` is `host:port`, `namespace` one in which a request may be created.
pub async fn check(client: &Client, admin: &str, namespace: &str) -> Vec<Checked> {
    let mut all = Vec::new();
    for path in PATHS {
        let wrong = match tokio::time::timeout(PATIENCE, status(admin, path)).await {
            Ok(Ok(200)) => None,
            Ok(Ok(status)) => Some(format!("answers {status}")),
            Ok(Err(error)) => Some(error),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let what = format!("http://{admin}{path} answers");
        all.push(Checked { what, wrong });
    }
    all.push(Checked {
        what: format!("a bad request in namespace '{namespace}' is refused"),
        wrong: admitted(client, namespace).await,
    });
    all
}

/// Status of a GET in the clear.
async fn status(host: &str, path: &str) -> Result<u16, String> {
    let stream = TcpStream::connect(host).await;
    let stream = stream.map_err(|e| format!("cannot connect: {e}"))?;
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|e| e.to_string())?;
    let request = http::Request::get(path)
        .header("host", host)
        .header("connection", "close");
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|e| e.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        body.map_err(|e| e.to_string()).map(|_| status)
    };
    // The connection is what carries the exchange; it ends with it.
    let (status, _) = futures::join!(exchange, connection);
    status
}

/// Why a request that must be refused was not, or not by Stint.
async fn admitted(client: &Client, namespace: &str) -> Option<String> {
    let bad = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": "stint-check"},
        "spec": {
            "serviceAccountRef": {"name": "stint-check-no-such-account"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["none"], "verbs": ["get"]}],
            "duration": "1m", "reason": "to be refused"
        }
    });
    let bad: WorkloadAccess = match serde_json::from_value(bad) {
        Ok(bad) => bad,
        Err(error) => return Some(error.to_string()),
    };
    let api: Api<WorkloadAccess> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match call(api.create(&dry_run, &bad)).await {
        Ok(_) => Some("it was admitted: the webhook is not called".into()),
        Err(ApiError::Kube(error)) => match *error {
            Error::Api(status) if status.message.contains("[WA-ACCOUNT-MISSING]") => None,
            other => Some(other.to_string()),
        },
        Err(error) => Some(error.to_string()),
    }
}
