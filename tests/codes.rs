//! Codes that only admission itself can say: the review is answered without a question to the API server.

use http::{Request, Response};
use hyper::body::Bytes;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;
use stint::app;
use stint::clock::{Clock, SystemClock};
use stint::domain::grant::spec_hash;
use stint::domain::guard::{Exempt, Guarding, Mode};
use stint::domain::receipt::{Claims, KEY_LENGTH, Keys, Requester};
use stint::ops::metrics::Metrics;
use stint::ops::readiness::Readiness;
use stint::webhook::admission::{Admission, MUTATE, VALIDATE};
use stint::webhook::server::Handler;

fn keys() -> Keys {
    Keys::new(&[7; KEY_LENGTH], None).unwrap()
}

/// Admission with receipt keys and an API server that must not be asked, but for whether there are other keys by now.
fn admission() -> Admission {
    let silent = tower::service_fn(|request: Request<Body>| async move {
        if request
            .uri()
            .path()
            .ends_with("/secrets/stint-receipt-keys")
        {
            let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            let missing = Body::from(missing.to_string().into_bytes());
            return Ok(Response::builder().status(404).body(missing).unwrap());
        }
        let asked = format!("asked the API server for {}", request.uri());
        Err(std::io::Error::other(asked))
    });
    let client = Client::new(silent, "default");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (metrics, readiness) = (Arc::new(Metrics::new()), Arc::new(Readiness::new()));
    let core = app::core(
        &app::Granting {
            ceiling_role: "stint-grantable",
            namespace: "stint-system",
            receipt_secret: "stint-receipt-keys",
            cluster_grants: false,
            until_kinds: &[],
            guard: &audit(),
            election: None,
        },
        &client,
        &clock,
        &metrics,
        &readiness,
    );
    core.keys.set(Some(keys()));
    core.admission()
}

fn audit() -> Guarding {
    Guarding {
        default_mode: Mode::Audit,
        cluster: Some(Mode::Audit),
        exempt: Exempt::default(),
        reporting: None,
    }
}

fn request() -> Value {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": "migrate-42", "namespace": "payments"},
        "spec": {
            "serviceAccountRef": {"name": "migrator"},
            "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}],
            "duration": "30m", "reason": "schema change 42"
        }
    })
}

/// A receipt for the request, signed with `keys`.
fn receipt(keys: &Keys, name: &str) -> String {
    keys.sign(&Claims {
        namespace: "payments".into(),
        name: Some(name.into()),
        generate_name: None,
        spec_hash: spec_hash(&serde_json::from_value(request()["spec"].clone()).unwrap()),
        requester: Requester::default(),
        at: Timestamp::now(),
        extended: None,
    })
}

fn review(operation: &str, object: Value, old: Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "operation": operation, "namespace": "payments",
        "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"},
        "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": "workloadaccesses"},
        "userInfo": {"username": "alice"}, "object": object, "oldObject": old
    }})
}

/// The message of the refusal; panics when the review is allowed.
async fn refusal(path: &str, review: &Value) -> String {
    let body = Bytes::from(review.to_string());
    let answer = admission().handle(path, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let response = &answer["response"];
    assert_eq!(response["allowed"], json!(false), "{response}");
    assert_eq!(response["status"]["code"], json!(422), "{response}");
    response["status"]["message"].as_str().unwrap().to_owned()
}

#[rstest]
#[case::a_required_field_is_missing("reason", Value::Null, "missing field `reason`")]
#[case::a_value_has_the_wrong_type("serviceAccountRef", json!("migrator"), "invalid type")]
#[tokio::test]
async fn what_cannot_be_read_gets_no_receipt_and_is_refused(
    #[case] field: &str,
    #[case] value: Value,
    #[case] says: &str,
) {
    let mut object = request();
    let spec = object["spec"].as_object_mut().unwrap();
    match value {
        Value::Null => drop(spec.remove(field)),
        value => drop(spec.insert(field.into(), value)),
    }
    let review = review("CREATE", object, Value::Null);
    let body = Bytes::from(review.to_string());
    let answer = admission().handle(MUTATE, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["patch"], Value::Null, "no receipt");
    let text = refusal(VALIDATE, &review).await;
    assert!(
        text.contains("[WA-DECODE]") && text.contains(says),
        "{text}"
    );
}

#[rstest]
#[case::on_the_mutating_path(MUTATE)]
#[case::on_the_validating_path(VALIDATE)]
#[tokio::test]
async fn another_kind_is_refused(#[case] path: &str) {
    let mut review = review("CREATE", json!({"metadata": {"name": "x"}}), Value::Null);
    review["request"]["resource"] = json!({"group": "", "version": "v1", "resource": "configmaps"});
    let text = refusal(path, &review).await;
    assert!(
        text.contains("'/configmaps'") && text.contains("[WA-KIND]"),
        "{text}"
    );
}

#[rstest]
#[case::none(None, "carries no receipt")]
#[case::not_signed_here(Some(receipt(&Keys::new(&[8; KEY_LENGTH], None).unwrap(), "migrate-42")), "did not sign")]
#[case::for_another_object(Some(receipt(&keys(), "other")), "of another request")]
#[tokio::test]
async fn without_a_good_receipt_nothing_is_stored(
    #[case] receipt: Option<String>,
    #[case] says: &str,
) {
    let mut object = request();
    if let Some(receipt) = receipt {
        object["metadata"]["annotations"] = json!({"stint.dev/receipt": receipt});
    }
    let text = refusal(VALIDATE, &review("CREATE", object, Value::Null)).await;
    assert!(
        text.contains("[WA-RECEIPT]") && text.contains(says),
        "{text}"
    );
}

#[rstest]
#[case::the_spec("/spec/reason", json!("another"))]
#[case::the_receipt("/metadata/annotations", json!({"stint.dev/receipt": "v1.new"}))]
#[tokio::test]
async fn an_update_changes_neither_spec_nor_receipt(#[case] pointer: &str, #[case] value: Value) {
    let mut old = request();
    old["metadata"]["annotations"] = json!({"stint.dev/receipt": "v1.old"});
    let mut new = old.clone();
    *new.pointer_mut(pointer).unwrap() = value;
    let text = refusal(VALIDATE, &review("UPDATE", new, old)).await;
    assert!(text.contains("[WA-IMMUTABLE]"), "{text}");
}

#[rstest]
#[case::by_policy(json!({"propagationPolicy": "Orphan"}))]
#[case::by_the_old_field(json!({"orphanDependents": true}))]
#[tokio::test]
async fn a_deletion_does_not_leave_access_behind(#[case] options: Value) {
    let mut review = review("DELETE", Value::Null, request());
    review["request"]["options"] = options;
    let text = refusal(VALIDATE, &review).await;
    assert!(
        text.contains("\"migrate-42\"") && text.contains("[WA-ORPHAN]"),
        "{text}"
    );
}

fn policy_review(operation: &str, spec: Value, old: Value) -> Value {
    let object = |spec: Value| {
        json!({"apiVersion": "stint.dev/v1alpha1", "kind": "AccessPolicy",
               "metadata": {"name": "payments-jobs"}, "spec": spec})
    };
    let old = if old.is_null() { old } else { object(old) };
    let mut review = review(operation, object(spec), old);
    review["request"]["kind"]["kind"] = json!("AccessPolicy");
    review["request"]["resource"]["resource"] = json!("accesspolicies");
    review
}

fn policy_spec(limits: Value) -> Value {
    json!({"namespaceSelector": {}, "serviceAccounts": {"names": ["migrator"]},
           "allow": {"rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]}, "limits": limits})
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_is_refused_when_it_is_written() {
    let spec = policy_spec(json!({"requireTicket": "CHG-("}));
    let text = refusal(VALIDATE, &policy_review("CREATE", spec, Value::Null)).await;
    assert!(
        text.starts_with("AccessPolicy \"payments-jobs\" is invalid:\nspec.limits.requireTicket: Invalid value: 'CHG-(': must be"),
        "{text}"
    );
}

async fn response(review: &Value) -> Value {
    let body = Bytes::from(review.to_string());
    let answer = admission().handle(VALIDATE, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["response"].clone()
}

#[tokio::test]
async fn a_careless_policy_is_allowed_with_warnings() {
    let review = policy_review("CREATE", policy_spec(json!({})), Value::Null);
    let response = response(&review).await;
    assert_eq!(response["allowed"], json!(true));
    let warnings = response["warnings"].to_string();
    assert!(warnings.contains("[OB-W02]"), "{warnings}");
    assert!(warnings.contains("selects no namespace"), "{warnings}");
}

#[tokio::test]
async fn the_kill_switch_and_metadata_of_a_broken_policy_can_be_changed() {
    let broken = policy_spec(json!({"requireTicket": "("}));
    let mut suspended = broken.clone();
    suspended["suspended"] = json!(true);
    let kill = policy_review("UPDATE", suspended, broken.clone());
    assert_eq!(response(&kill).await["allowed"], json!(true));
    let relabelled = policy_review("UPDATE", broken.clone(), broken);
    assert_eq!(response(&relabelled).await["allowed"], json!(true));
}
