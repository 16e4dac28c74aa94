//! Access in an emergency, in virtual time: at once, loudly, and looked at by somebody else afterwards.

use std::time::Duration;

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use support::decision::*;
use support::fake_api::{Harm, on};
use support::world::{NAMESPACE, Operator, World};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A policy that asks for two approvals, and for none in an emergency of at most an hour.
fn world() -> World {
    let world = World::new();
    approvers(&world, &["bob", "carol", "alice"]);
    change_policy(
        &world,
        "jobs",
        json!({"approval": {"required": 2}, "breakGlass": {"maxDuration": "1h"}}),
    );
    world
}

fn emergency(duration: &str) -> Value {
    json!({"duration": duration, "urgency": "BreakGlass", "ticket": "INC-7"})
}

async fn broken(duration: &str) -> (World, Operator) {
    let world = world();
    let operator = world.operator();
    world.admit("a", emergency(duration));
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Active".into(), [1, 1, 1])
    );
    (world, operator)
}

/// Status, reason and message of `ReviewRequired`.
fn review_required(world: &World) -> Option<[String; 3]> {
    let object = request(world, "a");
    let conditions = object["status"]["conditions"].as_array()?.clone();
    let found = conditions
        .into_iter()
        .find(|c| c["type"] == "ReviewRequired")?;
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    Some([text("status"), text("reason"), text("message")])
}

fn awaits_review(world: &World) -> bool {
    review_required(world).is_some_and(|c| c[..2] == ["True", "BreakGlass"])
}

fn alarms(world: &World) -> usize {
    let events = world.api.list("events", "");
    let loud = |e: &&Value| e["reason"] == "BreakGlass" && e["type"] == "Warning";
    events.iter().filter(loud).count()
}

#[tokio::test(start_paused = true)]
async fn an_emergency_waits_for_nobody_is_loud_once_and_wants_a_review() {
    let (world, _operator) = broken("30m").await;
    assert!(awaits_review(&world));
    assert_eq!(alarms(&world), 1);
    world.touch("a");
    world.pass(MINUTE * 5).await;
    assert_eq!(alarms(&world), 1);
    world.admit("calm", json!({"duration": "30m"}));
    world.pass(SECOND).await;
    assert_eq!(
        world.reason("calm"),
        "PendingApproval",
        "any other waits as always"
    );
}

#[tokio::test(start_paused = true)]
async fn an_emergency_under_a_policy_without_break_glass_is_refused() {
    let world = world();
    change_policy(&world, "jobs", json!({"breakGlass": null}));
    let _operator = world.operator();
    world.admit("a", emergency("30m"));
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Refused".into(), [0, 0, 0])
    );
    let message = request(&world, "a")["status"]["conditions"][0]["message"].clone();
    let message = message.as_str().unwrap();
    assert!(
        message.contains("spec.urgency") && message.contains("[WA-NOT-ALLOWED]"),
        "{message}"
    );
    assert_eq!(review_required(&world), None);
    assert_eq!(alarms(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_takes_break_glass_away_ends_it_and_the_review_is_still_wanted() {
    let (world, _operator) = broken("30m").await;
    change_policy(&world, "jobs", json!({"breakGlass": {"maxDuration": "5m"}}));
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("PolicyWithdrawn".into(), [0, 0, 0])
    );
    assert!(awaits_review(&world));
}

#[tokio::test(start_paused = true)]
async fn a_review_of_a_live_grant_is_told_and_changes_nothing_else() {
    let (world, _operator) = broken("30m").await;
    decide(&world, "seen", "a", "Review", "bob");
    world.pass(SECOND).await;
    let [status, reason, message] = review_required(&world).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Reviewed"));
    assert!(message.starts_with("'bob' reviewed it at "), "{message}");
    assert_eq!(world.reason("a"), "Active");
    world.api.remove("accessapprovals", NAMESPACE, "seen");
    world.touch("a");
    world.pass(MINUTE * 31).await;
    assert_eq!(world.reason("a"), "Expired");
    let [status, reason, _] = review_required(&world).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Reviewed"));
}

#[tokio::test(start_paused = true)]
async fn a_review_after_the_end_is_told_and_the_end_stays_as_it_was() {
    let (world, operator) = broken("10m").await;
    world.pass(MINUTE * 11).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
    assert!(awaits_review(&world), "kept after the end");
    let before = request(&world, "a")["status"]["conditions"][0].clone();
    let object = decision(&world, "seen", "a", "Review");
    create(&world, &operator, &object, "bob").await.unwrap();
    world.pass(SECOND).await;
    assert!(!awaits_review(&world));
    assert_eq!(request(&world, "a")["status"]["conditions"][0], before);
    assert_eq!(world.made(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_review_that_comes_while_the_operator_is_down_is_told_when_it_is_back() {
    let (world, operator) = broken("10m").await;
    world.pass(MINUTE * 11).await;
    drop(operator);
    decide(&world, "seen", "a", "Review", "bob");
    world.pass(MINUTE).await;
    let _again = world.operator();
    world.pass(SECOND).await;
    assert!(!awaits_review(&world));
}

#[tokio::test(start_paused = true)]
async fn a_review_that_only_a_new_list_of_approvals_shows_is_told() {
    let (world, _operator) = broken("10m").await;
    world.pass(MINUTE * 11).await;
    assert_eq!(world.reason("a"), "Expired");
    world.api.drop_event(1);
    decide(&world, "seen", "a", "Review", "bob");
    world.pass(SECOND).await;
    assert!(awaits_review(&world), "nobody heard of it");
    // The watch of approvals alone comes back when it is too old to go on, and lists anew.
    let late = Harm::Delay(Duration::from_secs(5));
    world.api.harm(on("GET", "accessapprovals"), late, Some(1));
    world.api.clear_calls();
    world.api.end_watches();
    world.pass(SECOND * 2).await;
    world.api.compact();
    world.pass(MINUTE).await;
    let lists: Vec<String> = world.api.lists().into_iter().map(|c| c.resource).collect();
    assert_eq!(lists, ["accessapprovals"]);
    assert!(!awaits_review(&world));
}

#[rstest]
#[case::by_the_requester("Review", "alice", false)]
#[case::without_the_verb("Review", "mallory", false)]
#[case::no_review("Deny", "bob", false)]
#[case::right("Review", "bob", true)]
#[tokio::test(start_paused = true)]
async fn only_somebody_else_with_the_verb_reviews(
    #[case] what: &str,
    #[case] by: &str,
    #[case] reviewed: bool,
) {
    let (world, _operator) = broken("10m").await;
    decide(&world, "live", "a", what, by);
    world.pass(MINUTE * 11).await;
    decide(&world, "ended", "a", what, by);
    world.pass(MINUTE).await;
    assert_eq!(!awaits_review(&world), reviewed);
    let forged = decision(&world, "forged", "a", "Review");
    world.api.seed(forged);
    world.pass(MINUTE).await;
    assert_eq!(!awaits_review(&world), reviewed, "without a seal");
}

#[tokio::test(start_paused = true)]
async fn a_review_of_another_spec_or_request_is_none() {
    let (world, _operator) = broken("10m").await;
    let mut other = decision(&world, "spec", "a", "Review");
    other["spec"]["specHash"] = json!(format!("sha256:{}", "0".repeat(64)));
    world.api.seed(sealed(&world, other, "bob"));
    let mut other = decision(&world, "uid", "a", "Review");
    other["spec"]["requestRef"]["uid"] = json!("00000000");
    world.api.seed(sealed(&world, other, "bob"));
    world.pass(MINUTE).await;
    assert!(awaits_review(&world));
}

#[tokio::test(start_paused = true)]
async fn an_ended_grant_that_awaits_its_review_costs_nothing() {
    let (world, _operator) = broken("10m").await;
    world.pass(MINUTE * 15).await;
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert!(awaits_review(&world));
    assert_eq!(world.api.writes().len(), 0, "{:#?}", world.api.writes());
    assert_eq!(world.api.lists().len(), 0);
}

#[rstest]
#[case::an_approval_of_an_emergency("Approve", "bob", "WA-APPROVAL-STALE", "waits for nobody")]
#[case::by_the_requester("Review", "alice", "WA-APPROVAL-SELF", "other than the requester")]
#[case::without_the_verb("Review", "mallory", "WA-APPROVER", "accesspolicies 'jobs'")]
#[tokio::test(start_paused = true)]
async fn a_wrong_decision_on_an_emergency_is_refused(
    #[case] what: &str,
    #[case] user: &str,
    #[case] code: &str,
    #[case] says: &str,
) {
    let (world, operator) = broken("10m").await;
    world.pass(MINUTE * 11).await;
    let mut object = decision(&world, "x", "a", what);
    if what == "Approve" {
        world.admit(
            "later",
            json!({"duration": "10m", "urgency": "BreakGlass", "ticket": "INC-8", "notBefore": "2026-12-01T20:00:00Z"}),
        );
        object = decision(&world, "x", "later", what);
    }
    let (_, message) = create(&world, &operator, &object, user).await.unwrap_err();
    assert!(
        message.contains(&format!("[{code}]")) && message.contains(says),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn before_access_was_given_there_is_nothing_to_review_and_a_denial_stops_it() {
    let world = world();
    let operator = world.operator();
    let mut later = emergency("10m");
    later["notBefore"] = json!("2026-12-01T20:00:00Z");
    world.admit("a", later);
    world.pass(SECOND).await;
    let object = decision(&world, "x", "a", "Review");
    let (_, message) = create(&world, &operator, &object, "bob").await.unwrap_err();
    assert!(message.contains("none was yet"), "{message}");
    let object = decision(&world, "no", "a", "Deny");
    create(&world, &operator, &object, "bob").await.unwrap();
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Denied");
    assert_eq!(review_required(&world), None);
}

/// One short emergency, the operator killed after its k-th write and started again a second later.
async fn killed_after_write(k: u64) -> bool {
    let world = world();
    world.admit("a", emergency("30s"));
    let cut = world.api.cut_after_write(k);
    let first = world.operator();
    let killed = tokio::select! {
        () = cut.notified() => true,
        () = tokio::time::sleep(Duration::from_secs(120)) => false,
    };
    drop(first);
    world.api.heal();
    world.pass(SECOND).await;
    let _second = world.operator();
    world.pass(MINUTE * 3).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0]),
        "killed after write {k}"
    );
    assert!(awaits_review(&world), "killed after write {k}");
    decide(&world, "seen", "a", "Review", "bob");
    world.pass(SECOND).await;
    assert!(!awaits_review(&world), "killed after write {k}");
    killed
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_the_review_is_wanted_and_can_be_given() {
    let mut writes = 0;
    while killed_after_write(writes + 1).await {
        writes += 1;
    }
    assert!(writes >= 8, "saw {writes}");
}

/// The grant begins, and every write of the status fails until it is over.
#[tokio::test(start_paused = true)]
async fn access_whose_beginning_was_never_told_wants_a_review_all_the_same() {
    let world = world();
    world.api.harm(
        Box::new(|call| {
            call.subresource.as_deref() == Some("status") && call.resource == "workloadaccesses"
        }),
        Harm::Refuse(500),
        None,
    );
    let operator = world.operator();
    world.admit("a", emergency("10m"));
    world.pass(MINUTE).await;
    assert_eq!(world.made(), [1, 1, 1]);
    assert_eq!(review_required(&world), None);
    drop(operator);
    world.api.heal();
    let mut object = request(&world, "a");
    object["spec"]["revoked"] = json!(true);
    world.api.seed(object);
    let _again = world.operator();
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Revoked".into(), [0, 0, 0])
    );
    assert!(awaits_review(&world));
    decide(&world, "seen", "a", "Review", "bob");
    world.pass(SECOND).await;
    assert!(!awaits_review(&world));
}
