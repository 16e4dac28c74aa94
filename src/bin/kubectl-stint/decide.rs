//! `kubectl stint approve`, `deny` and `review`: decisions on one exact request, after it was shown.

use crate::confirm::Confirm;
use crate::connect::{Connection, Target};
use crate::outcome::{Answer, End, Failure};
use crate::place::PlaceArgs;
use crate::{explain, requests, send, show, story};
use clap::Args;
use std::io::Write;
use stint::api::access_approval::{Decision, RequestKind, RequestRef};
use stint::api::{AccessApproval, AccessApprovalSpec, conditions as names};
use stint::domain::request::{AccessRequest, Place, RequestView};
use stint::domain::verification;

/// Longest beginning of the name of a decision that comes from the name of the request.
const MAX_PREFIX: usize = 50;

/// Let a request be granted
///
/// Shows the request, asks, and creates an AccessApproval for exactly what was shown: its UID and the hash of its spec.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl stint approve migrate-42

  # For less long than was asked for
  kubectl stint approve migrate-42 --not-after 2026-12-01T16:00:00Z --reason 'the window of the change'

Exit status: 0 decided, 1 not done, or refused by the cluster, 2 it could not be asked.")]
pub struct ApproveArgs {
    #[command(flatten)]
    common: Common,

    /// When access ends at the latest, as RFC 3339 instant; shortens the grant, never lengthens it
    #[arg(long, value_name = "TIME")]
    not_after: Option<String>,
}

/// Refuse a request, whoever approves it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl stint deny migrate-42 --reason 'not before the backup'

Exit status: 0 decided, 1 not done, or refused by the cluster, 2 it could not be asked.")]
pub struct DenyArgs {
    #[command(flatten)]
    common: Common,
}

/// Confirm that an emergency was looked at afterwards
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl stint review incident-7 --reason 'read the audit log; all of it was needed'

Exit status: 0 decided, 1 not done, or refused by the cluster, 2 it could not be asked.")]
pub struct ReviewArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Name of the request
    name: String,

    #[command(flatten)]
    place: PlaceArgs,

    /// Why, for whoever reads the record
    #[arg(long)]
    reason: Option<String>,

    #[command(flatten)]
    confirm: Confirm,

    #[command(flatten)]
    target: Target,
}

/// Runs `approve`.
pub async fn approve(args: &ApproveArgs, out: &mut impl Write) -> Answer {
    decide(&args.common, Decision::Approve, args.not_after.clone(), out).await
}

/// Runs `deny`.
pub async fn deny(args: &DenyArgs, out: &mut impl Write) -> Answer {
    decide(&args.common, Decision::Deny, None, out).await
}

/// Runs `review`.
pub async fn review(args: &ReviewArgs, out: &mut impl Write) -> Answer {
    decide(&args.common, Decision::Review, None, out).await
}

async fn decide(
    args: &Common,
    decision: Decision,
    not_after: Option<String>,
    out: &mut impl Write,
) -> Answer {
    let connection = Connection::open(&args.target).await?;
    let place = args.place.of(&connection)?;
    let access = requests::get(&connection, &place, &args.name).await?;
    let view = access.view();
    let hash = decided_on(&view, decision)?;
    let told = story::tell(&view, connection.now());
    explain::write_told(&told, show::colour(), out)?;
    writeln!(out, "Hash       {hash}")?;
    out.flush()?;
    let question = match decision {
        Decision::Approve => "Approve this?",
        Decision::Deny => "Deny this, for good?",
        Decision::Review => "Confirm that you have looked at this?",
    };
    args.confirm.ask(question)?;
    let mut object = approval(&view, hash, decision);
    object.spec.not_after = not_after;
    object.spec.reason.clone_from(&args.reason);
    let home = match &place {
        Place::Namespace(namespace) => namespace.clone(),
        Place::Cluster => verification::account(&view).namespace,
    };
    let name = send::approval(&connection, &home, &object).await?;
    let done = match decision {
        Decision::Approve => "approved",
        Decision::Deny => "denied",
        Decision::Review => "reviewed",
    };
    writeln!(
        out,
        "{} {done} by AccessApproval {home}/{}",
        told.request,
        show::line(&name)
    )?;
    Ok(End::Clean)
}

/// The hash of what is shown, if it is what Stint has and there is something to decide.
fn decided_on(view: &RequestView<'_>, decision: Decision) -> Result<String, Failure> {
    let title = story::title(view);
    let state = story::state(view.status);
    let fits = match decision {
        Decision::Review => view.status.is_some_and(|status| {
            let wanted = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
                c.type_ == names::REVIEW_REQUIRED && c.status == "True"
            };
            status.conditions.iter().any(wanted)
        }),
        _ => state == names::REASON_PENDING_APPROVAL,
    };
    if !fits {
        let waits = match decision {
            Decision::Review => "for no review",
            _ => "for no approval",
        };
        return Err(Failure::Refused(format!(
            "{title} waits {waits}: it is {}; `kubectl stint explain {}` tells more",
            show::line(state),
            story::flags(view)
        )));
    }
    let hash = view.spec.hash();
    let told = view.status.and_then(|status| status.spec_hash.as_deref());
    match told {
        // A field that this version does not know would be approved unseen.
        Some(told) if told != hash => Err(Failure::Error(format!(
            "what is shown here is not all that {title} asks for (its hash is {}, here {hash}); use the kubectl-stint of the installed version",
            show::line(told)
        ))),
        _ => Ok(hash),
    }
}

fn approval(view: &RequestView<'_>, spec_hash: String, decision: Decision) -> AccessApproval {
    let name = view.meta.name.clone().unwrap_or_default();
    let prefix: String = name.chars().take(MAX_PREFIX).collect();
    let spec = AccessApprovalSpec {
        request_ref: RequestRef {
            kind: match view.place() {
                Place::Namespace(_) => RequestKind::WorkloadAccess,
                Place::Cluster => RequestKind::ClusterWorkloadAccess,
            },
            name,
            uid: view.meta.uid.clone().unwrap_or_default(),
        },
        spec_hash,
        decision,
        not_after: None,
        reason: None,
    };
    let mut object = AccessApproval::new("", spec);
    object.metadata.name = None;
    object.metadata.generate_name = Some(format!("{}-", prefix.trim_end_matches(['-', '.'])));
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use stint::api::WorkloadAccess;

    fn request(reason: &str, hash: Option<&str>) -> WorkloadAccess {
        let mut object = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": "migrate-42", "namespace": "payments", "uid": "u-1"},
            "spec": {"serviceAccountRef": {"name": "migrator"}, "duration": "30m", "reason": "r",
                     "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
            "status": {"conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": "m",
                                       "lastTransitionTime": "2026-12-01T12:00:00Z"}]}
        });
        object["status"]["specHash"] = hash.map_or(Value::Null, Value::from);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn only_what_is_shown_is_decided_on() {
        let waiting = request("PendingApproval", None);
        let hash = waiting.view().spec.hash();
        assert_eq!(
            decided_on(&waiting.view(), Decision::Approve).unwrap(),
            hash
        );
        let same = request("PendingApproval", Some(&hash));
        assert_eq!(decided_on(&same.view(), Decision::Deny).unwrap(), hash);
        let other = request("PendingApproval", Some("sha256:other"));
        let Err(Failure::Error(why)) = decided_on(&other.view(), Decision::Approve) else {
            panic!()
        };
        assert!(
            why.contains("not all that WorkloadAccess payments/migrate-42 asks for"),
            "{why}"
        );
        let object = approval(&same.view(), hash.clone(), Decision::Approve);
        assert_eq!(
            (object.spec.request_ref.uid.as_str(), &object.spec.spec_hash),
            ("u-1", &hash)
        );
    }

    #[test]
    fn what_waits_for_nobody_is_not_decided_on() {
        let active = request("Active", None);
        let refused = |decision| {
            let Err(Failure::Refused(why)) = decided_on(&active.view(), decision) else {
                panic!()
            };
            why
        };
        assert!(refused(Decision::Approve).contains("waits for no approval: it is Active"));
        assert!(refused(Decision::Review).contains("waits for no review"));
    }
}
