//! Approvals seen from outside, in virtual time: who must approve before a grant begins, what counts for nothing, and what
//! happens when the operator dies at any moment.

use std::time::Duration;

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use stint::domain::receipt::{KEY_LENGTH, Keys};
use support::decision::*;
use support::fake_api::{Harm, on};
use support::world::{NAMESPACE, Operator, World, guarded};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A world whose policy asks for this many approvals; Bob, Carol, Dan and Alice, who asks, may approve.
fn asking(required: i64) -> World {
    let world = World::new();
    approvers(&world, &["bob", "carol", "dan", "alice"]);
    change_policy(&world, "jobs", json!({"approval": {"required": required}}));
    world
}

/// The same, with a request that waits.
async fn waiting(required: i64) -> (World, Operator) {
    let world = asking(required);
    let operator = world.operator();
    world.admit("a", json!({"duration": "30m"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "PendingApproval");
    assert_eq!(world.made(), [0, 0, 0]);
    (world, operator)
}

fn condition(world: &World, name: &str, of: &str) -> Value {
    let object = request(world, name);
    let conditions = object["status"]["conditions"].as_array().unwrap().clone();
    let found = conditions.into_iter().find(|c| c["type"] == of);
    found.unwrap_or_default()
}

fn message(world: &World, name: &str) -> String {
    let ready = condition(world, name, "Ready");
    ready["message"].as_str().unwrap_or_default().to_owned()
}

fn events(world: &World, reason: &str) -> usize {
    let events = world.api.list("events", "");
    events.iter().filter(|e| e["reason"] == reason).count()
}

/// What was recorded when the grant began.
fn record(world: &World) -> Value {
    let job = world.api.list("jobs", NAMESPACE).remove(0);
    job["metadata"]["annotations"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_and_says_how_many_are_missing_who_may_approve_what_and_until_when() {
    let (world, _operator) = waiting(2).await;
    let object = request(&world, "a");
    let status = &object["status"];
    assert_eq!(status["specHash"], json!(hash_of(&object)));
    assert_eq!(condition(&world, "a", "Ready")["status"], "False");
    assert_eq!(condition(&world, "a", "Reconciling")["status"], "True");
    let message = message(&world, "a");
    for part in [
        "2 more approvals (has 0 of 2)",
        "`approve` on accesspolicies 'jobs'",
        &hash_of(&object),
        "2026-12-01T13:00:0",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    world.pass(MINUTE * 10).await;
    assert_eq!(events(&world, "ApprovalRequired"), 1, "said once");
}

#[tokio::test(start_paused = true)]
async fn as_many_as_the_policy_asks_for_begin_the_grant_and_are_recorded() {
    let (world, _operator) = waiting(2).await;
    decide(&world, "one", "a", "Approve", "bob");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "PendingApproval");
    assert!(message(&world, "a").contains("(has 1 of 2)"));
    decide(&world, "two", "a", "Approve", "carol");
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Active".into(), [1, 1, 1])
    );
    let object = request(&world, "a");
    let told = &object["status"]["approvals"];
    assert_eq!(told[0]["approver"], "bob");
    assert_eq!(told[1]["approver"], "carol");
    assert_eq!(told[1]["decision"], "Approve");
    assert_eq!(object["status"]["specHash"], json!(hash_of(&object)));
    assert_eq!(record(&world)["stint.dev/approved-by"], "bob,carol");
    assert_eq!(
        record(&world)["stint.dev/approved-spec"],
        json!(hash_of(&object))
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_approver_twice_counts_once() {
    let (world, _operator) = waiting(2).await;
    decide(&world, "one", "a", "Approve", "bob");
    decide(&world, "two", "a", "Approve", "bob");
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "PendingApproval");
    assert!(message(&world, "a").contains("(has 1 of 2)"));
}

#[tokio::test(start_paused = true)]
async fn two_approvals_in_the_same_millisecond_both_count() {
    let (world, _operator) = waiting(2).await;
    decide(&world, "one", "a", "Approve", "carol");
    decide(&world, "two", "a", "Approve", "bob");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    assert_eq!(record(&world)["stint.dev/approved-by"], "bob,carol");
}

/// An approval by Bob that is right, but for what the case says.
fn spoilt(world: &World, case: &str) -> Value {
    let good = decision(world, "x", "a", "Approve");
    let with = |field: &str, value: Value| {
        let mut object = good.clone();
        *object.pointer_mut(field).unwrap() = value;
        sealed(world, object, "bob")
    };
    let receipt = || {
        let annotations = &request(world, "a")["metadata"]["annotations"];
        annotations["stint.dev/receipt"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    match case {
        "for an older spec" => with(
            "/spec/specHash",
            json!(format!("sha256:{}", "0".repeat(64))),
        ),
        "for another uid" => with("/spec/requestRef/uid", json!("00000000-dead")),
        "for another name" => with("/spec/requestRef/name", json!("b")),
        "for another kind" => with("/spec/requestRef/kind", json!("ClusterWorkloadAccess")),
        "in another namespace" => with("/metadata/namespace", json!("default")),
        "with an end that cannot be read" => {
            let mut object = good.clone();
            object["spec"]["notAfter"] = json!("some day");
            sealed(world, object, "bob")
        }
        "by the requester" => sealed(world, good, "alice"),
        "without the verb" => sealed(world, good, "mallory"),
        "without a seal" => good,
        "under other keys" => {
            let other = Keys::new(&[8; KEY_LENGTH], None).unwrap();
            sealed_with(&other, world, good, "bob")
        }
        "with the receipt of the request" => annotated(good, &receipt()),
        "with the receipt of the request renamed" => {
            annotated(good, &receipt().replacen("v1.", "a1.", 1))
        }
        "with its own claims under a receipt's MAC" => {
            let forged = world.keys().sign(&claims(world, &good, "bob"));
            annotated(good, &forged.replacen("v1.", "a1.", 1))
        }
        "with the seal of another approval" => {
            let other = decision(world, "y", "a", "Approve");
            let seal = world.keys().seal(&claims(world, &other, "bob"));
            annotated(good, &seal)
        }
        "with the seal of a denial" => {
            let other = decision(world, "x", "a", "Deny");
            let seal = world.keys().seal(&claims(world, &other, "bob"));
            annotated(good, &seal)
        }
        "that is a review" => sealed(world, decision(world, "x", "a", "Review"), "bob"),
        "that cannot be read" => {
            let mut object = sealed(world, good, "bob");
            object["spec"]["decision"] = json!("Perhaps");
            object
        }
        other => panic!("{other}"),
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn what_is_not_a_right_approval_counts_for_nothing(
    #[values(
        "for an older spec",
        "for another uid",
        "for another name",
        "for another kind",
        "in another namespace",
        "with an end that cannot be read",
        "by the requester",
        "without the verb",
        "without a seal",
        "under other keys",
        "with the receipt of the request",
        "with the receipt of the request renamed",
        "with its own claims under a receipt's MAC",
        "with the seal of another approval",
        "with the seal of a denial",
        "that is a review",
        "that cannot be read"
    )]
    case: &str,
) {
    let (world, _operator) = waiting(1).await;
    world.api.seed(spoilt(&world, case));
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "PendingApproval", "{case}");
    assert!(message(&world, "a").contains("(has 0 of 1)"), "{case}");
    decide(&world, "right", "a", "Approve", "bob");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active", "{case}");
}

#[tokio::test(start_paused = true)]
async fn an_approval_for_a_request_of_the_same_name_that_was_made_again_counts_for_nothing() {
    let (world, _operator) = waiting(1).await;
    let replayed = sealed(&world, decision(&world, "x", "a", "Approve"), "bob");
    world.api.remove("workloadaccesses", NAMESPACE, "a");
    world.pass(SECOND).await;
    world.admit("a", json!({"duration": "30m"}));
    world.api.seed(replayed);
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "PendingApproval");
}

#[tokio::test(start_paused = true)]
async fn without_its_policy_an_approval_waits_and_with_it_again_it_counts() {
    let (world, _operator) = waiting(2).await;
    decide(&world, "one", "a", "Approve", "bob");
    world.pass(SECOND).await;
    let policy = world.api.remove("accesspolicies", "", "jobs").unwrap();
    decide(&world, "two", "a", "Approve", "carol");
    world.pass(MINUTE * 30).await;
    assert_eq!(world.reason("a"), "Refused", "neither granted nor ended");
    assert_eq!(world.made(), [0, 0, 0]);
    world.api.seed(policy);
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn an_approval_without_a_request_does_nothing() {
    let (world, operator) = waiting(1).await;
    let orphan = sealed(&world, decision(&world, "x", "a", "Approve"), "bob");
    world.api.remove("workloadaccesses", NAMESPACE, "a");
    world.api.seed(orphan);
    world.pass(MINUTE).await;
    assert_eq!(world.made(), [0, 0, 0]);
    drop(operator);
    let operator = world.operator();
    world.pass(MINUTE).await;
    assert!(operator.ready());
    assert_eq!(world.made(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_final_also_after_two_approvals_and_a_restart() {
    let (world, operator) = waiting(3).await;
    decide(&world, "one", "a", "Approve", "bob");
    decide(&world, "two", "a", "Approve", "carol");
    decide(&world, "no", "a", "Deny", "dan");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Denied");
    assert_eq!(condition(&world, "a", "Ready")["status"], "False");
    assert_eq!(condition(&world, "a", "Accepted")["status"], "False");
    assert_eq!(message(&world, "a"), "'dan' denied it");
    assert_eq!(request(&world, "a")["status"]["endReason"], "Denied");
    assert_eq!(events(&world, "GrantDenied"), 1);
    let told = request(&world, "a")["status"]["approvals"].clone();
    assert_eq!(told.as_array().unwrap().len(), 3);
    world.api.remove("accessapprovals", NAMESPACE, "no");
    decide(&world, "three", "a", "Approve", "dan");
    change_policy(&world, "jobs", json!({"approval": null}));
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Denied");
    drop(operator);
    let _again = world.operator();
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Denied".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_arrives_with_the_last_approval_wins() {
    let (world, operator) = waiting(1).await;
    drop(operator);
    decide(&world, "one", "a", "Approve", "bob");
    decide(&world, "no", "a", "Deny", "dan");
    let _again = world.operator();
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Denied".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_denial_by_somebody_without_the_verb_or_after_the_beginning_changes_nothing() {
    let (world, _operator) = waiting(1).await;
    decide(&world, "no", "a", "Deny", "mallory");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "PendingApproval");
    decide(&world, "one", "a", "Approve", "bob");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    decide(&world, "late", "a", "Deny", "dan");
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_approves_in_time_expires() {
    let (world, _operator) = waiting(1).await;
    world.pass(MINUTE * 59).await;
    assert_eq!(world.reason("a"), "PendingApproval");
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Expired");
    decide(&world, "late", "a", "Approve", "bob");
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn an_approver_shortens_the_grant_and_the_deadline_with_it() {
    let (world, _operator) = waiting(1).await;
    let mut short = decision(&world, "x", "a", "Approve");
    short["spec"]["notAfter"] = json!("2026-12-01T12:10:00.9Z");
    world.api.seed(sealed(&world, short, "bob"));
    world.pass(SECOND).await;
    let status = request(&world, "a")["status"].clone();
    assert_eq!(status["notAfter"], "2026-12-01T12:10:00Z");
    assert_eq!(status["approvals"][0]["notAfter"], "2026-12-01T12:10:00Z");
    assert_eq!(
        record(&world)["stint.dev/not-after"],
        "2026-12-01T12:10:00Z"
    );
    let job = world.api.list("jobs", NAMESPACE).remove(0);
    let deadline = job["spec"]["activeDeadlineSeconds"].as_i64().unwrap();
    assert!(deadline < 610, "{deadline}");
    world.pass(MINUTE * 10).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn an_approver_lengthens_nothing_and_an_end_in_the_past_begins_nothing() {
    let (world, _operator) = waiting(1).await;
    world.admit("b", json!({"duration": "30m"}));
    world.pass(SECOND).await;
    for (name, of, end) in [
        ("long", "a", "2027-12-01T12:10:00Z"),
        ("past", "b", "2026-12-01T11:00:00Z"),
    ] {
        let mut object = decision(&world, name, of, "Approve");
        object["spec"]["notAfter"] = json!(end);
        world.api.seed(sealed(&world, object, "bob"));
    }
    world.pass(SECOND).await;
    let end = request(&world, "a")["status"]["notAfter"].clone();
    assert!(
        end.as_str().unwrap().starts_with("2026-12-01T12:30:0"),
        "{end}"
    );
    assert_eq!(world.reason("b"), "Expired");
    assert_eq!(world.made(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_comes_while_the_operator_is_down_counts_when_it_is_back() {
    let (world, operator) = waiting(1).await;
    drop(operator);
    decide(&world, "one", "a", "Approve", "bob");
    world.pass(MINUTE * 20).await;
    let _again = world.operator();
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn everything_is_judged_again_when_the_grant_begins() {
    let world = asking(1);
    let _operator = world.operator();
    let from = "2026-12-01T12:30:00Z";
    let window = json!({"duration": "30m", "notBefore": from});
    for name in ["raised", "narrowed", "good", "disarmed"] {
        world.admit(name, window.clone());
    }
    for name in ["raised", "narrowed", "good", "disarmed"] {
        decide(&world, &format!("of-{name}"), name, "Approve", "bob");
    }
    world.pass(SECOND).await;
    assert_eq!(world.reason("good"), "Scheduled");
    world.pass(MINUTE * 10).await;
    change_policy(&world, "jobs", json!({"approval": {"required": 2}}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("raised"), "PendingApproval");
    change_policy(&world, "jobs", json!({"approval": {"required": 1}}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("raised"), "Scheduled");
    world
        .api
        .remove("accessapprovals", NAMESPACE, "of-disarmed");
    world.pass(SECOND).await;
    assert_eq!(
        world.reason("disarmed"),
        "PendingApproval",
        "before the beginning an approval can be taken back"
    );
    let narrow =
        json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let allow = world.api.get("accesspolicies", "", "jobs").unwrap()["spec"]["allow"].clone();
    change_policy(&world, "jobs", json!({"allow": narrow}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("narrowed"), "Refused");
    change_policy(&world, "jobs", json!({"allow": allow}));
    // Bob loses the right to approve before the window opens.
    approvers(&world, &["carol"]);
    world.pass(MINUTE * 20).await;
    assert_eq!(world.reason("good"), "PendingApproval");
    assert_eq!(world.made(), [0, 0, 0]);
    approvers(&world, &["bob"]);
    world.pass(MINUTE).await;
    assert_eq!(world.reason("good"), "Active");
}

#[tokio::test(start_paused = true)]
async fn what_was_approved_goes_on_when_its_approvals_and_approvers_are_gone() {
    let (world, operator) = waiting(1).await;
    let mut short = decision(&world, "x", "a", "Approve");
    short["spec"]["notAfter"] = json!("2026-12-01T12:20:00Z");
    world.api.seed(sealed(&world, short, "bob"));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    world.api.remove("accessapprovals", NAMESPACE, "x");
    approvers(&world, &[]);
    change_policy(
        &world,
        "jobs",
        json!({"approval": {"required": 4, "timeout": "1s"}}),
    );
    world.pass(MINUTE).await;
    drop(operator);
    let _again = world.operator();
    world.touch("a");
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Active");
    let status = request(&world, "a")["status"].clone();
    assert_eq!(
        status["notAfter"], "2026-12-01T12:20:00Z",
        "and is no longer than approved"
    );
    assert_eq!(status["approvals"][0]["approver"], "bob");
    world.pass(MINUTE * 20).await;
    assert_eq!(world.reason("a"), "Expired");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_begins_to_ask_ends_what_nobody_approved() {
    let world = World::new();
    approvers(&world, &["bob"]);
    let _operator = world.operator();
    world.admit("a", json!({"duration": "30m"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    change_policy(&world, "jobs", json!({"approval": {"required": 1}}));
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("PolicyWithdrawn".into(), [0, 0, 0])
    );
    assert!(message(&world, "a").contains("requires 1 approval of this spec"));
}

/// One short life with an approval, the operator killed after its k-th write and started again a second later.
async fn killed_after_write(k: u64) -> bool {
    let world = asking(1);
    guarded(&world, async {
        world.admit("a", json!({"duration": "30s"}));
        let mut short = decision(&world, "x", "a", "Approve");
        short["spec"]["notAfter"] = json!("2026-12-01T12:00:20Z");
        let approval = sealed(&world, short, "bob");
        let cut = world.api.cut_after_write(k);
        let first = world.operator();
        let approve = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.api.seed(approval.clone());
            std::future::pending().await
        };
        let killed = tokio::select! {
            () = cut.notified() => true,
            () = tokio::time::sleep(Duration::from_secs(120)) => false,
            () = approve => unreachable!("it never ends"),
        };
        drop(first);
        world.api.heal();
        // Killed before there was an approval: it comes while nobody is there.
        world.api.seed(approval);
        world.pass(SECOND).await;
        let _second = world.operator();
        world.pass(MINUTE * 3).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Expired".into(), [0, 0, 0]),
            "killed after write {k}"
        );
        let told = request(&world, "a")["status"]["approvals"].clone();
        assert_eq!(told[0]["approver"], "bob", "killed after write {k}");
        let began = request(&world, "a")["status"]["activatedTime"].is_string();
        let end = request(&world, "a")["status"]["notAfter"].clone();
        assert!(
            began && end == "2026-12-01T12:00:20Z",
            "killed after write {k}: {end}"
        );
        killed
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_the_grant_comes_and_goes_all_the_same() {
    let mut writes = 0;
    while killed_after_write(writes + 1).await {
        writes += 1;
    }
    assert!(writes >= 9, "it waits, begins and ends, saw {writes}");
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_fails_grants_nothing_and_is_tried_again() {
    let (world, _operator) = waiting(1).await;
    world
        .api
        .harm(on("POST", "subjectaccessreviews"), Harm::Refuse(500), None);
    decide(&world, "one", "a", "Approve", "bob");
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("PendingApproval".into(), [0, 0, 0])
    );
    world.api.heal();
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn an_approval_brings_exactly_its_request_before_the_controller() {
    let (world, _operator) = waiting(2).await;
    world.admit("b", json!({"duration": "30m"}));
    world.pass(SECOND).await;
    world.api.clear_calls();
    decide(&world, "one", "b", "Approve", "bob");
    world.pass(SECOND).await;
    let calls = world.api.calls().into_iter();
    let looked: Vec<String> = calls
        .filter(|c| c.method == "GET" && c.resource == "workloadaccesses" && !c.name.is_empty())
        .map(|c| c.name)
        .collect();
    assert!(!looked.is_empty() && looked.iter().all(|name| name == "b"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_costs_no_write_and_no_list_whether_approved_or_waiting() {
    let world = asking(1);
    let timeout = json!({"approval": {"required": 1, "timeout": "24h"}});
    change_policy(&world, "jobs", timeout);
    let _operator = world.operator();
    for name in ["a", "b", "c"] {
        world.admit(name, json!({"duration": "10h"}));
    }
    world.pass(SECOND).await;
    decide(&world, "one", "a", "Approve", "bob");
    decide(&world, "no", "b", "Deny", "bob");
    world.pass(MINUTE * 5).await;
    assert_eq!(
        [world.reason("a"), world.reason("b"), world.reason("c")],
        ["Active", "Denied", "PendingApproval"]
    );
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert_eq!(world.api.writes().len(), 0, "{:#?}", world.api.writes());
    assert_eq!(world.api.lists().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_approvals_asks_the_authorizer_about_few() {
    let (world, _operator) = waiting(8).await;
    let names: Vec<String> = (0..100).map(|n| format!("person-{n:03}")).collect();
    world.api.clear_calls();
    for name in &names {
        let object = decision(&world, name, "a", "Approve");
        world.api.seed(sealed(&world, object, name));
    }
    world.api.clear_calls();
    world.touch("a");
    world.pass(SECOND).await;
    let calls = world.api.calls();
    let asked = |c: &&support::fake_api::Call| asks_to_approve(&c.body).is_some();
    let users: std::collections::BTreeSet<String> = calls
        .iter()
        .filter(asked)
        .map(|c| c.body["spec"]["user"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(users.len(), 32, "{users:?}");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_strips_the_seal_of_a_stored_approval_takes_it_back() {
    let (world, _operator) = waiting(2).await;
    decide(&world, "one", "a", "Approve", "bob");
    world.pass(SECOND).await;
    assert!(message(&world, "a").contains("(has 1 of 2)"));
    let mut stripped = world.api.get("accessapprovals", NAMESPACE, "one").unwrap();
    stripped["metadata"]["annotations"] = json!({});
    world.api.seed(stripped);
    world.pass(SECOND).await;
    assert!(message(&world, "a").contains("(has 0 of 2)"));
}
