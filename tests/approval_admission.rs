//! Admission of approvals: who may decide on what, told all at once when the decision is made, and the seal that only Stint
//! gives.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use stint::webhook::admission::{MUTATE, VALIDATE};
use support::decision::*;
use support::fake_api::{Harm, on};
use support::world::{NAMESPACE, Operator, World};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A request of Alice waits; Alice, Bob and Carol may approve.
async fn waiting() -> (World, Operator) {
    let world = World::new();
    approvers(&world, &["alice", "bob", "carol"]);
    change_policy(&world, "jobs", json!({"approval": {"required": 1}}));
    let operator = world.operator();
    world.admit("a", json!({"duration": "30m"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "PendingApproval");
    (world, operator)
}

/// The message of a 422.
async fn refusal(world: &World, operator: &Operator, object: &Value, user: &str) -> String {
    let (code, message) = create(world, operator, object, user).await.unwrap_err();
    assert_eq!(code, 422, "{message}");
    message
}

#[tokio::test(start_paused = true)]
async fn a_right_approval_passes_both_webhooks_and_begins_the_grant() {
    let (world, operator) = waiting().await;
    let object = decision(&world, "yes", "a", "Approve");
    create(&world, &operator, &object, "bob").await.unwrap();
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    let told = request(&world, "a")["status"]["approvals"].clone();
    assert_eq!(
        told[0]["approver"], "bob",
        "as the API server authenticated"
    );
}

#[tokio::test(start_paused = true)]
async fn a_generated_name_is_sealed_too() {
    let (world, operator) = waiting().await;
    let mut object = decision(&world, "", "a", "Approve");
    object["metadata"] = json!({"generateName": "yes-", "namespace": NAMESPACE});
    let mut object = mutated(&operator, &object, "bob").await;
    object["metadata"]["name"] = json!("yes-x7f");
    let review = review("CREATE", &object, &Value::Null, "bob");
    let response = answer(&operator, VALIDATE, &review).await;
    assert_eq!(response["allowed"], json!(true), "{response}");
    world.api.seed(object);
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
}

#[rstest]
#[case::the_requester("alice", json!({}), "WA-APPROVAL-SELF", "somebody other than the requester")]
#[case::somebody_without_the_verb("mallory", json!({}), "WA-APPROVER", "accesspolicies 'jobs'; 'mallory' has not")]
#[case::an_older_spec("bob", json!({"specHash": format!("sha256:{}", "0".repeat(64))}), "WA-APPROVAL-STALE", "spec.specHash")]
#[case::another_uid("bob", json!({"requestRef": {"name": "a", "uid": "00000000"}}), "WA-APPROVAL-STALE", "spec.requestRef.uid")]
#[case::no_such_request("bob", json!({"requestRef": {"name": "b", "uid": "00000000"}}), "WA-APPROVAL-STALE", "exists in the namespace")]
#[case::no_such_wide_request("bob", json!({"requestRef": {"kind": "ClusterWorkloadAccess", "name": "a", "uid": "0"}}), "WA-APPROVAL-STALE", "ClusterWorkloadAccess that exists")]
#[case::a_review_of_what_is_no_emergency("bob", json!({"decision": "Review"}), "WA-APPROVAL-STALE", "spec.decision")]
#[case::an_end_that_is_none("bob", json!({"notAfter": "2026-13-01T00:00:00Z"}), "WA-WINDOW", "spec.notAfter")]
#[case::an_unknown_decision("bob", json!({"decision": "Perhaps"}), "WA-DECODE", "unknown variant")]
#[tokio::test(start_paused = true)]
async fn a_wrong_decision_is_refused_with_what_would_pass(
    #[case] user: &str,
    #[case] changes: Value,
    #[case] code: &str,
    #[case] says: &str,
) {
    let (world, operator) = waiting().await;
    let mut object = decision(&world, "x", "a", "Approve");
    let spec = object["spec"].as_object_mut().unwrap();
    spec.extend(changes.as_object().unwrap().clone());
    let message = refusal(&world, &operator, &object, user).await;
    assert!(
        message.contains(&format!("[{code}]")) && message.contains(says),
        "{message}"
    );
    assert_eq!(message.matches('[').count(), 1, "{message}");
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_wrong_is_said_at_once() {
    let (world, operator) = waiting().await;
    approvers(&world, &["bob"]);
    let mut object = decision(&world, "x", "a", "Approve");
    object["spec"]["specHash"] = json!(format!("sha256:{}", "0".repeat(64)));
    object["spec"]["notAfter"] = json!("soon");
    let message = refusal(&world, &operator, &object, "alice").await;
    for code in [
        "WA-APPROVAL-SELF",
        "WA-APPROVAL-STALE",
        "WA-APPROVER",
        "WA-WINDOW",
    ] {
        assert!(message.contains(&format!("[{code}]")), "{code}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_approval_for_a_request_that_was_made_again_is_refused() {
    let (world, operator) = waiting().await;
    let replayed = decision(&world, "x", "a", "Approve");
    world.api.remove("workloadaccesses", NAMESPACE, "a");
    world.admit("a", json!({"duration": "30m"}));
    let message = refusal(&world, &operator, &replayed, "bob").await;
    assert!(
        message.contains("[WA-APPROVAL-STALE]") && message.contains("not the one that was meant"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_decision_after_the_beginning_says_to_revoke_and_after_the_end_nothing_is_decided() {
    let (world, operator) = waiting().await;
    let yes = decision(&world, "yes", "a", "Approve");
    create(&world, &operator, &yes, "bob").await.unwrap();
    world.pass(SECOND).await;
    let no = decision(&world, "no", "a", "Deny");
    let message = refusal(&world, &operator, &no, "carol").await;
    assert!(
        message.contains("[WA-APPROVAL-STALE]") && message.contains("`spec.revoked: true`"),
        "{message}"
    );
    let mut revoked = request(&world, "a");
    revoked["spec"]["revoked"] = json!(true);
    world.api.seed(revoked);
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Revoked");
    for object in [no, yes] {
        let message = refusal(&world, &operator, &object, "carol").await;
        assert!(message.contains("it has ended"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_policy_asks_for_approvals_there_is_nothing_to_approve() {
    let (world, operator) = waiting().await;
    let object = decision(&world, "x", "a", "Approve");
    change_policy(&world, "jobs", json!({"approval": null, "suspended": true}));
    world.pass(SECOND).await;
    let message = refusal(&world, &operator, &object, "bob").await;
    assert!(
        message.contains("[WA-APPROVER]")
            && message.contains("no AccessPolicy that selects namespace 'payments'"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_the_local_copy_does_not_know_yet_is_asked_for_live() {
    let world = World::new();
    approvers(&world, &["bob"]);
    let operator = world.operator();
    world.admit(
        "a",
        json!({"duration": "30m", "notBefore": "2026-12-01T13:00:00Z"}),
    );
    world.pass(SECOND).await;
    let object = decision(&world, "x", "a", "Approve");
    // No watch hears of the change.
    world.api.drop_event(1);
    change_policy(&world, "jobs", json!({"approval": {"required": 1}}));
    create(&world, &operator, &object, "bob").await.unwrap();
}

#[rstest]
#[case::the_request("GET", "workloadaccesses")]
#[case::what_was_made_for_it("GET", "jobs")]
#[case::the_authorizer("POST", "subjectaccessreviews")]
#[tokio::test(start_paused = true)]
async fn a_look_up_that_fails_is_no_decision(
    #[case] method: &'static str,
    #[case] resource: &'static str,
) {
    let (world, operator) = waiting().await;
    let object = decision(&world, "x", "a", "Approve");
    world
        .api
        .harm(on(method, resource), Harm::Refuse(500), None);
    let (code, message) = create(&world, &operator, &object, "bob").await.unwrap_err();
    assert_eq!(code, 503, "{message}");
    assert!(message.contains("nothing was decided"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_seal_is_stints_to_give_and_never_changes() {
    let (world, operator) = waiting().await;
    let pasted = annotated(decision(&world, "x", "a", "Approve"), "a1.mine.own");
    let sealed = mutated(&operator, &pasted, "bob").await;
    let seal = |object: &Value| object["metadata"]["annotations"]["stint.dev/receipt"].clone();
    assert_ne!(seal(&sealed), seal(&pasted), "what was sent does not stay");

    let changed = annotated(sealed.clone(), "a1.an.other");
    let update = review("UPDATE", &changed, &sealed, "bob");
    let response = answer(&operator, MUTATE, &update).await;
    assert_eq!(seal(&patched(&changed, &response)), seal(&sealed));
    let response = answer(&operator, VALIDATE, &update).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("[WA-IMMUTABLE]"), "{message}");

    let mut other = sealed.clone();
    other["spec"]["decision"] = json!("Deny");
    let response = answer(
        &operator,
        VALIDATE,
        &review("UPDATE", &other, &sealed, "bob"),
    )
    .await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("[WA-IMMUTABLE]"), "{message}");

    let mut labelled = sealed.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let update = review("UPDATE", &labelled, &sealed, "anybody");
    let response = answer(&operator, VALIDATE, &update).await;
    assert_eq!(response["allowed"], json!(true));
}

#[tokio::test(start_paused = true)]
async fn what_came_past_the_mutating_webhook_is_refused() {
    let (world, operator) = waiting().await;
    let good = decision(&world, "x", "a", "Approve");
    let receipt = request(&world, "a")["metadata"]["annotations"]["stint.dev/receipt"].clone();
    let pasted = annotated(good.clone(), receipt.as_str().unwrap());
    for (object, says) in [(good, "carries no receipt"), (pasted, "did not sign")] {
        let review = review("CREATE", &object, &Value::Null, "bob");
        let response = answer(&operator, VALIDATE, &review).await;
        let message = response["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("[WA-RECEIPT]") && message.contains(says),
            "{message}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_will_wait_is_stored_with_a_warning() {
    let (world, operator) = waiting().await;
    let mut object = request(&world, "a");
    object["metadata"] = json!({"name": "b", "namespace": NAMESPACE});
    object.as_object_mut().unwrap().remove("status");
    let ask = |object: &Value| {
        let mut review = review("CREATE", object, &Value::Null, "alice");
        review["request"]["resource"]["resource"] = json!("workloadaccesses");
        review["request"]["kind"]["kind"] = json!("WorkloadAccess");
        review
    };
    let response = answer(&operator, MUTATE, &ask(&object)).await;
    let object = patched(&object, &response);
    let response = answer(&operator, VALIDATE, &ask(&object)).await;
    assert_eq!(response["allowed"], json!(true), "{response}");
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("1 more approval") && warning.contains(&hash_of(&object)),
        "{warning}"
    );
}
