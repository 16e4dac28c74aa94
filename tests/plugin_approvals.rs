//! `kubectl stint lint` on requests that people will have to approve, and on approvals themselves.

use serde_json::{Value, json};
use support::case;
use support::plugin::*;

fn input(policy: Value, request: Value) -> String {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "payments", "labels": {"team": "payments"}}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "migrator", "namespace": "payments"}});
    stream(&[request, policy, namespace, account])
}

fn asking() -> Value {
    case::with(case::policy(), "/spec/approval", json!({"required": 2}))
}

#[test]
fn a_request_that_must_be_approved_passes_with_a_note() {
    let (status, text) = lint_text(&input(asking(), case::request()), &["--strict"]);
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("would wait for approval: policy 'payments-jobs' requires it of 2"),
        "{text}"
    );
    let wide = case::with(case::request(), "/spec/duration", json!("9h"));
    let (status, text) = lint_text(&input(asking(), wide), &[]);
    assert_eq!(status, 1, "{text}");
    assert!(!text.contains("would wait"), "{text}");
}

#[test]
fn an_emergency_is_judged_as_the_webhook_does() {
    let emergency = case::with(case::request(), "/spec/urgency", json!("BreakGlass"));
    let (status, text) = lint_text(&input(asking(), emergency.clone()), &[]);
    assert_eq!(status, 1);
    assert!(text.contains("WA-TICKET"), "{text}");
    let named = case::with(emergency, "/spec/ticket", json!("INC-7"));
    let (status, text) = lint_text(&input(asking(), named.clone()), &[]);
    assert_eq!(status, 1);
    assert!(text.contains("WA-NOT-ALLOWED  spec.urgency"), "{text}");
    let glass = case::with(asking(), "/spec/breakGlass", json!({"maxDuration": "1h"}));
    let (status, text) = lint_text(&input(glass, named), &[]);
    assert_eq!(status, 0, "{text}");
    assert!(!text.contains("would wait"), "{text}");
}

fn approval(hash: &str) -> String {
    stream(&[json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "AccessApproval",
        "metadata": {"name": "yes", "namespace": "payments"},
        "spec": {"requestRef": {"name": "migrate-42", "uid": "u-1"}, "specHash": hash, "decision": "Approve"}
    })])
}

#[test]
fn of_an_approval_files_tell_the_form_alone() {
    let (status, text) = lint_text(&approval(&format!("sha256:{}", "0".repeat(64))), &[]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("not judged: whether the request"), "{text}");
    let (status, text) = lint_text(&approval("latest"), &[]);
    assert_eq!(status, 1);
    assert!(
        text.contains("AccessApproval payments/yes  WA-DECODE  spec.specHash"),
        "{text}"
    );
}
