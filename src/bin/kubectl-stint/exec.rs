//! `kubectl stint exec`: runs a local command as the account of a grant, with a token that dies with the grant.

use crate::child;
use crate::connect::{Connection, Target};
use crate::outcome::{Answer, Failure};
use crate::private::Private;
use crate::send::{self, Anchor};
use crate::signals::Signals;
use crate::{place, requests, show, story};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use std::ffi::OsString;
use stint::api::conditions as reasons;
use stint::api::names::{MANAGED_BY, WORKLOAD_ACCESS};
use stint::api::workload_access::ObjectStamp;
use stint::domain::grant::Account;
use stint::domain::request::{AccessRequest, Place, RequestView};
use stint::domain::verification;

/// Shortest life of a token that the API server gives.
const SHORTEST: i64 = 600;

/// Run a local command as the account of a grant
///
/// The command finds a kubeconfig of its own in $KUBECONFIG, which nobody else can read and which goes when it ends. The token in it
/// hangs on a Secret that the deadline of the grant owns: when the grant ends, however it ends, the token is worth nothing.
///
/// Needs `get` on the request, `create` and `delete` on secrets, and `create` on serviceaccounts/token of the account.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl stint exec migrate-42 -- kubectl get deployment billing-api

  # Ask, wait, work
  kubectl stint request m-1 --account migrator --role source --for 30m --reason test --wait \\
      && kubectl stint exec m-1 -- ./migrate.sh

Exit status: that of the command; 128 and its number if a signal ended it; 127 if it could not be started; 1 the grant gives no rights
now, 2 the cluster could not be asked.")]
pub struct ExecArgs {
    /// Name of the request, an active one
    name: String,

    /// Namespace of the request [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,

    #[command(flatten)]
    target: Target,
}

/// What the token is to hang on, and for whom it is.
#[derive(Debug)]
struct Ground {
    account: Account,
    namespace: String,
    deadline: ObjectStamp,
    not_after: Timestamp,
}

/// Runs the command.
pub async fn run(args: &ExecArgs) -> Answer {
    // From here on a signal waits until there is somebody to tell, or until all is put away.
    let mut signals = Signals::listen()?;
    let connection = Connection::open(&args.target).await?;
    let namespace = place::namespace(args.namespace.as_deref(), &connection)?;
    let place = Place::Namespace(namespace);
    let access = requests::get(&connection, &place, &args.name).await?;
    let ground = ground(&access.view(), connection.now())?;
    let secret = secret(&ground, &args.name);
    let anchor = send::anchor(&connection, &ground.namespace, &secret).await?;
    let ended = work(args, &connection, &ground, &anchor, &mut signals).await;
    if let Err(Failure::Error(why) | Failure::Refused(why)) =
        send::remove(&connection, &anchor).await
    {
        eprintln!(
            "kubectl-stint: the Secret of the token is left to the end of the grant: {}",
            show::line(&why)
        );
    }
    ended
}

async fn work(
    args: &ExecArgs,
    connection: &Connection,
    ground: &Ground,
    anchor: &Anchor,
    signals: &mut Signals,
) -> Answer {
    let left = ground.not_after.duration_since(connection.now()).as_secs();
    let token = send::token(connection, &ground.account, anchor, left.max(SHORTEST)).await?;
    let private = Private::kubeconfig(&connection.config, &ground.namespace, &token)?;
    child::run(&args.command, private.file(), signals).await
}

/// The grant gives rights now, and its deadline can own a Secret beside the account.
fn ground(view: &RequestView<'_>, now: Timestamp) -> Result<Ground, Failure> {
    let title = story::title(view);
    let state = story::state(view.status);
    let refused = |why: String| Err(Failure::Refused(format!("{title} {why}")));
    let end = view.status.and_then(|status| status.not_after.as_ref());
    let (Some(end), true) = (end, state == reasons::REASON_ACTIVE) else {
        let state = show::line(state);
        let flags = story::flags(view);
        return refused(format!(
            "gives no rights now: it is {state}; `kubectl stint explain {flags}` tells more"
        ));
    };
    if end.0 <= now {
        return refused(format!("gives no rights now: it ended at {}", end.0));
    }
    let deadline = view.status.and_then(|status| status.deadline.clone());
    let Some(deadline) = deadline else {
        return refused("has no deadline Job that a token could end with".into());
    };
    let account = verification::account(view);
    let namespace = view.place().namespace().unwrap_or_default().to_owned();
    if account.namespace != namespace {
        return refused(format!(
            "is for {account}; a token hangs on an object beside its account, and the deadline of the grant is in '{namespace}'"
        ));
    }
    Ok(Ground {
        account,
        namespace,
        deadline,
        not_after: end.0,
    })
}

/// Nothing is in it: it is there, or it is not.
fn secret(ground: &Ground, request: &str) -> Secret {
    let owner = OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: ground.deadline.name.clone(),
        uid: ground.deadline.uid.clone(),
        ..OwnerReference::default()
    };
    Secret {
        metadata: ObjectMeta {
            generate_name: Some("stint-exec-".into()),
            labels: Some([(MANAGED_BY.to_owned(), "kubectl-stint".to_owned())].into()),
            annotations: Some([(WORKLOAD_ACCESS.to_owned(), request.to_owned())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use stint::api::WorkloadAccess;

    fn request(reason: &str, namespace: Value, deadline: Value) -> WorkloadAccess {
        serde_json::from_value(json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": "work", "namespace": "payments"},
            "spec": {"serviceAccountRef": {"name": "migrator", "namespace": namespace}, "duration": "30m", "reason": "r"},
            "status": {"notAfter": "2026-12-01T12:30:00Z", "deadline": deadline,
                       "conditions": [{"type": "Ready", "status": "True", "reason": reason, "message": "",
                                       "lastTransitionTime": "2026-12-01T12:00:00Z"}]}
        }))
        .unwrap()
    }

    fn told(object: &WorkloadAccess, now: &str) -> Result<Ground, String> {
        ground(&object.view(), now.parse().unwrap()).map_err(|failure| match failure {
            Failure::Refused(why) => why,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_token_hangs_on_the_deadline_of_a_live_grant() {
        let job = json!({"name": "stint-work-1", "uid": "j-1"});
        let live = request("Active", Value::Null, job.clone());
        let ground = told(&live, "2026-12-01T12:00:00Z").unwrap();
        let secret = secret(&ground, "work");
        let owner = &secret.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Job", "j-1"));
        assert_eq!(
            owner.block_owner_deletion, None,
            "that would need more rights"
        );
        let labels = secret.metadata.labels.unwrap();
        assert!(!labels.contains_key(stint::api::names::GRANT));
        assert!(
            told(&live, "2026-12-01T12:30:00Z")
                .unwrap_err()
                .contains("it ended at")
        );
        let over = request("Revoked", Value::Null, job.clone());
        assert!(
            told(&over, "2026-12-01T12:00:00Z")
                .unwrap_err()
                .contains("it is Revoked")
        );
        let foreign = request("Active", json!("search"), job);
        assert!(
            told(&foreign, "2026-12-01T12:00:00Z")
                .unwrap_err()
                .contains("search/migrator")
        );
        let none = request("Active", Value::Null, Value::Null);
        assert!(
            told(&none, "2026-12-01T12:00:00Z")
                .unwrap_err()
                .contains("no deadline Job")
        );
    }
}
