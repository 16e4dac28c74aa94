//! The end of a request is moved, in virtual time: later within the limits, earlier always, and access never breaks off.

use std::time::Duration;
use support::wide;

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use support::decision::*;
use support::edit::{changed, edit, store};
use support::fake_api::{Harm, on};
use support::world::{NAMESPACE, Operator, World, guarded};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn world() -> World {
    let world = World::new();
    limit(&world, json!({"maxDuration": "8h", "maxTotal": "24h"}));
    world
}

fn limit(world: &World, limits: Value) {
    change_policy(world, "jobs", json!({"limits": limits}));
}

async fn active(window: Value) -> (World, Operator) {
    begun(world(), window).await
}

async fn begun(world: World, window: Value) -> (World, Operator) {
    let operator = world.operator();
    world.admit("a", window);
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Active".into(), [1, 1, 1])
    );
    (world, operator)
}

/// Alice moves the end.
async fn lasts(world: &World, operator: &Operator, length: &str) -> Result<Vec<String>, String> {
    let answer = edit(world, operator, "a", json!({"duration": length}), "alice").await;
    world.pass(SECOND).await;
    answer
}

/// The end that each made object and the status name.
fn ends(world: &World) -> Vec<String> {
    let of = |resource: &str| {
        let object = world.api.list(resource, NAMESPACE).remove(0);
        object["metadata"]["annotations"]["stint.dev/not-after"].clone()
    };
    let told = request(world, "a")["status"]["notAfter"].clone();
    let all = ["jobs", "roles", "rolebindings"].map(of);
    let all = all.iter().chain([&told]);
    all.map(|end| end.as_str().unwrap().to_owned()).collect()
}

/// All of them name this end, and the Job counts to it.
fn assert_ends(world: &World, end: &str) {
    assert_eq!(ends(world), vec![end; 4]);
    let job = world.api.list("jobs", NAMESPACE).remove(0);
    let seconds = job["spec"]["activeDeadlineSeconds"].as_i64().unwrap();
    let start: jiff::Timestamp = job["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let end: jiff::Timestamp = end.parse().unwrap();
    let counted = start + SignedDuration::from_secs(seconds);
    assert!(counted >= end, "{counted} is before {end}");
    assert!(counted <= end + SECOND * 8, "{counted} is far after {end}");
}

fn binding(world: &World) -> Option<Value> {
    world.api.list("rolebindings", NAMESPACE).pop()
}

fn condition(world: &World, of: &str) -> Option<[String; 3]> {
    let object = request(world, "a");
    let conditions = object["status"]["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|c| c["type"] == of)?;
    Some(["status", "reason", "message"].map(|field| found[field].as_str().unwrap().to_owned()))
}

fn events(world: &World, reason: &str) -> usize {
    let events = world.api.list("events", "");
    events.iter().filter(|e| e["reason"] == reason).count()
}

#[tokio::test(start_paused = true)]
async fn a_later_end_goes_to_the_deadline_first_and_access_does_not_break_off() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    guarded(&world, async {
        let before = binding(&world).unwrap()["metadata"]["uid"].clone();
        world.pass(MINUTE * 30).await;
        world.api.clear_calls();
        assert_eq!(lasts(&world, &operator, "2h").await, Ok(vec![]));
        let writes = world.api.writes().into_iter();
        let wrote: Vec<String> = writes
            .filter(|c| c.resource != "events")
            .map(|c| format!("{} {}", c.method, c.resource))
            .collect();
        assert_eq!(
            wrote,
            [
                "PATCH jobs",
                "PATCH rolebindings",
                "PUT roles",
                "PATCH workloadaccesses"
            ]
        );
        assert_ends(&world, "2026-12-01T14:00:00Z");
        assert_eq!(binding(&world).unwrap()["metadata"]["uid"], before);
        assert_eq!(
            request(&world, "a")["status"]["extensions"],
            json!([{"by": "alice", "time": "2026-12-01T12:30:01Z",
                    "from": "2026-12-01T13:00:00Z", "to": "2026-12-01T14:00:00Z"}])
        );
        assert_eq!(events(&world, "GrantExtended"), 1);
        world.pass(MINUTE * 85).await;
        assert_eq!(binding(&world).unwrap()["metadata"]["uid"], before);
        world.pass(MINUTE * 6).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Expired".into(), [0, 0, 0])
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_absolute_end_is_moved_the_same_way() {
    let (world, operator) = active(json!({"notAfter": "2026-12-01T13:00:00Z"})).await;
    let later = json!({"notAfter": "2026-12-01T19:30:00.5Z"});
    assert_eq!(
        edit(&world, &operator, "a", later, "alice").await,
        Ok(vec![])
    );
    world.pass(SECOND).await;
    assert_ends(&world, "2026-12-01T19:30:00Z");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_in_an_hour_after_it() {
    let (world, operator) = active(json!({"duration": "2h"})).await;
    lasts(&world, &operator, "5h").await.unwrap();
    world.api.clear_calls();
    world.pass(HOUR).await;
    let writes = world.api.writes();
    assert!(writes.is_empty(), "{writes:?}");
    assert!(world.api.lists().is_empty());
}

#[rstest]
#[case::by_the_requester("alice")]
#[case::by_somebody_who_could_not_ask("bob")]
#[tokio::test(start_paused = true)]
async fn an_earlier_end_always_counts(#[case] who: &str) {
    let (world, operator) = active(json!({"duration": "2h"})).await;
    world
        .api
        .on_review(|review| review["spec"]["user"] == "alice");
    // Nor does it matter what the policy says by now.
    limit(&world, json!({"maxDuration": "2h", "maxExtensions": 0}));
    let shorter = json!({"duration": "30m"});
    assert_eq!(edit(&world, &operator, "a", shorter, who).await, Ok(vec![]));
    world.pass(SECOND).await;
    assert_ends(&world, "2026-12-01T12:30:00Z");
    assert_eq!(request(&world, "a")["status"]["extensions"], Value::Null);
    assert_eq!(events(&world, "GrantShortened"), 1);
    world.pass(MINUTE * 31).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_in_the_past_ends_access_at_once() {
    let (world, operator) = active(json!({"notAfter": "2026-12-01T13:00:00Z"})).await;
    let past = json!({"notAfter": "2026-12-01T11:00:00Z"});
    edit(&world, &operator, "a", past, "alice").await.unwrap();
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

#[rstest]
#[case::more_than_the_policy_gives_at_a_time(json!({"maxDuration": "1h", "maxTotal": "24h"}), "2h30m", "WA-TOO-LONG")]
#[case::more_than_it_gives_in_all(json!({"maxDuration": "8h", "maxTotal": "2h"}), "2h30m", "WA-TOO-LONG")]
#[case::more_than_one_grant_where_no_total_is_set(json!({"maxDuration": "2h"}), "2h30m", "WA-TOO-LONG")]
#[case::where_it_allows_none(json!({"maxDuration": "8h", "maxExtensions": 0}), "2h", "WA-EXTENSIONS")]
#[tokio::test(start_paused = true)]
async fn a_later_end_beyond_the_limits_is_refused_and_the_old_one_stands(
    #[case] limits: Value,
    #[case] length: &str,
    #[case] code: &str,
) {
    let world = World::new();
    limit(&world, limits);
    let (world, operator) = begun(world, json!({"duration": "1h"})).await;
    world.pass(MINUTE * 30).await;
    let refused = lasts(&world, &operator, length).await.unwrap_err();
    assert!(refused.contains(&format!("[{code}]")), "{refused}");
    assert!(refused.contains("spec.duration"), "{refused}");
    assert_ends(&world, "2026-12-01T13:00:00Z");
    world.pass(MINUTE * 31).await;
    assert_eq!(world.reason("a"), "Expired");
}

#[tokio::test(start_paused = true)]
async fn who_moves_an_end_must_be_able_to_ask_for_it() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    world
        .api
        .on_review(|review| review["spec"]["user"] == "alice");
    let later = json!({"duration": "2h"});
    let refused = edit(&world, &operator, "a", later, "bob").await;
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("'bob' has not [WA-REQUESTER]"),
        "{refused}"
    );
    let condition = json!([{"expression": "requester.username == 'alice'"}]);
    change_policy(&world, "jobs", json!({"conditions": condition}));
    world.api.on_review(|_| true);
    world.pass(SECOND).await;
    let later = json!({"duration": "2h"});
    let refused = edit(&world, &operator, "a", later.clone(), "bob").await;
    let refused = refused.unwrap_err();
    assert!(refused.contains("WA-CONDITION"), "{refused}");
    assert_eq!(
        edit(&world, &operator, "a", later, "alice").await,
        Ok(vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn what_passed_the_webhook_is_judged_again_and_held_back() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    let later = json!({"duration": "2h"});
    edit(&world, &operator, "a", later, "alice").await.unwrap();
    // Before the controller looks, the policy changes.
    limit(&world, json!({"maxDuration": "1h"}));
    world.pass(SECOND).await;
    assert_ends(&world, "2026-12-01T13:00:00Z");
    assert_eq!(world.reason("a"), "Active");
    let [status, reason, message] = condition(&world, "Extended").unwrap();
    assert_eq!([status.as_str(), &reason], ["False", "ExtensionRefused"]);
    assert!(
        message.starts_with("the end 2026-12-01T14:00:00Z is not granted: spec.duration"),
        "{message}"
    );
    assert_eq!(events(&world, "ExtensionRefused"), 1);
    // As soon as the policy gives it, it is there, without another edit.
    limit(&world, json!({"maxDuration": "3h"}));
    world.pass(SECOND * 31).await;
    assert_ends(&world, "2026-12-01T14:00:00Z");
    assert_eq!(condition(&world, "Extended"), None);
    assert_eq!(events(&world, "ExtensionRefused"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_later_end_that_is_never_granted_ends_at_the_old_one() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    let later = json!({"duration": "2h"});
    edit(&world, &operator, "a", later, "alice").await.unwrap();
    limit(&world, json!({"maxDuration": "1h"}));
    world.pass(HOUR).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
    assert_eq!(condition(&world, "Extended"), None);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_moved_so_often_and_no_more() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    for length in ["2h", "3h", "4h"] {
        assert_eq!(lasts(&world, &operator, length).await, Ok(vec![]));
    }
    let refused = lasts(&world, &operator, "5h").await.unwrap_err();
    assert!(
        refused.contains("allows an end to be moved to later 3 times"),
        "{refused}"
    );
    // Shorter and back again is later once more.
    lasts(&world, &operator, "3h").await.unwrap();
    let refused = lasts(&world, &operator, "4h").await.unwrap_err();
    assert!(refused.contains("[WA-EXTENSIONS]"), "{refused}");
    assert_ends(&world, "2026-12-01T15:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn the_history_is_bounded() {
    let world = World::new();
    limit(
        &world,
        json!({"maxDuration": "8h", "maxTotal": "24h", "maxExtensions": 100}),
    );
    let (world, operator) = begun(world, json!({"duration": "60m"})).await;
    for minutes in 61..=85 {
        lasts(&world, &operator, &format!("{minutes}m"))
            .await
            .unwrap();
    }
    let told = request(&world, "a")["status"]["extensions"].clone();
    let told = told.as_array().unwrap();
    assert_eq!(told.len(), 10);
    assert_eq!(told[9]["to"], "2026-12-01T13:25:00Z");
}

fn asking() -> World {
    let world = world();
    approvers(&world, &["bob", "carol", "alice", "dan"]);
    change_policy(&world, "jobs", json!({"approval": {"required": 1}}));
    world
}

/// A grant that Bob approved, and that Dan asked to last for two hours.
async fn asked_for_more() -> (World, Operator) {
    let world = asking();
    let operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    decide(&world, "first", "a", "Approve", "bob");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    let later = json!({"duration": "2h"});
    let warned = edit(&world, &operator, "a", later, "dan").await.unwrap();
    assert!(
        warned[0].starts_with(
            "the end 2026-12-01T14:00:00Z waits until 2026-12-01T13:00:00Z for 1 more approval"
        ),
        "{warned:?}"
    );
    world.pass(SECOND).await;
    (world, operator)
}

#[tokio::test(start_paused = true)]
async fn a_later_end_is_approved_anew_while_the_old_one_stands() {
    let (world, operator) = asked_for_more().await;
    assert_ends(&world, "2026-12-01T13:00:00Z");
    let [status, reason, _] = condition(&world, "Extended").unwrap();
    assert_eq!([status.as_str(), &reason], ["False", "PendingApproval"]);
    assert_eq!(events(&world, "ExtensionPending"), 1);
    let object = request(&world, "a");
    assert_eq!(object["status"]["specHash"], hash_of(&object).as_str());
    for asked in ["alice", "dan"] {
        let mine = decision(&world, asked, "a", "Approve");
        let refused = create(&world, &operator, &mine, asked).await.unwrap_err();
        assert!(refused.1.contains("WA-APPROVAL-SELF"), "{refused:?}");
    }
    let yes = decision(&world, "second", "a", "Approve");
    create(&world, &operator, &yes, "carol").await.unwrap();
    world.pass(SECOND).await;
    assert_ends(&world, "2026-12-01T14:00:00Z");
    assert_eq!(condition(&world, "Extended"), None);
    let status = &request(&world, "a")["status"];
    let who: Vec<&str> = status["approvals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["approver"].as_str().unwrap())
        .collect();
    assert_eq!(who, ["bob", "carol"]);
    assert_eq!(status["extensions"][0]["by"], "dan");
    assert_eq!(events(&world, "Drifted"), 0);
    let late = decision(&world, "late", "a", "Deny");
    let refused = create(&world, &operator, &late, "bob").await.unwrap_err();
    assert!(refused.1.contains("WA-APPROVAL-STALE"), "{refused:?}");
    // The approval may go; the record has it.
    world.api.remove("accessapprovals", NAMESPACE, "first");
    world.api.remove("accessapprovals", NAMESPACE, "second");
    world.pass(MINUTE * 90).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn a_later_end_that_is_denied_or_not_approved_changes_nothing() {
    let (world, operator) = asked_for_more().await;
    let no = decision(&world, "no", "a", "Deny");
    create(&world, &operator, &no, "carol").await.unwrap();
    world.pass(SECOND).await;
    let [_, reason, message] = condition(&world, "Extended").unwrap();
    assert_eq!(reason, "ExtensionRefused");
    assert!(message.contains("was denied by 'carol'"), "{message}");
    assert_eq!(world.reason("a"), "Active");
    assert_ends(&world, "2026-12-01T13:00:00Z");
    world.pass(HOUR).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

/// A grant for eight hours that Bob approved for one.
async fn capped() -> (World, Operator) {
    let world = asking();
    let operator = world.operator();
    world.admit("a", json!({"duration": "8h"}));
    let mut yes = decision(&world, "first", "a", "Approve");
    yes["spec"]["notAfter"] = json!("2026-12-01T13:00:00Z");
    world.api.seed(sealed(&world, yes, "bob"));
    world.pass(SECOND).await;
    assert_ends(&world, "2026-12-01T13:00:00Z");
    (world, operator)
}

#[tokio::test(start_paused = true)]
async fn there_and_back_does_not_undo_what_an_approver_set() {
    let (world, operator) = capped().await;
    lasts(&world, &operator, "30m").await.unwrap();
    assert_ends(&world, "2026-12-01T12:30:00Z");
    let warned = lasts(&world, &operator, "8h").await.unwrap();
    assert!(warned[0].contains("for 1 more approval"), "{warned:?}");
    assert_ends(&world, "2026-12-01T12:30:00Z");
    assert_eq!(condition(&world, "Extended").unwrap()[1], "PendingApproval");
}

#[tokio::test(start_paused = true)]
async fn a_crash_does_not_undo_what_an_approver_set() {
    let (world, operator) = asked_for_more().await;
    let mut yes = decision(&world, "second", "a", "Approve");
    yes["spec"]["notAfter"] = json!("2026-12-01T13:30:00Z");
    let cut = world.api.cut_after_write(1);
    world.api.seed(sealed(&world, yes, "carol"));
    cut.notified().await;
    drop(operator);
    world.api.heal();
    let _next = world.operator();
    world.pass(SECOND * 2).await;
    assert_ends(&world, "2026-12-01T13:30:00Z");
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_part_of_a_later_end_back_does_not_ask_for_the_rest() {
    let (world, operator) = asked_for_more().await;
    // Eve could not ask for any of it.
    edit(&world, &operator, "a", json!({"duration": "90m"}), "eve")
        .await
        .unwrap();
    world.pass(SECOND).await;
    let mine = decision(&world, "mine", "a", "Approve");
    let refused = create(&world, &operator, &mine, "dan").await.unwrap_err();
    assert!(refused.1.contains("WA-APPROVAL-SELF"), "{refused:?}");
    let yes = decision(&world, "second", "a", "Approve");
    create(&world, &operator, &yes, "carol").await.unwrap();
    world.pass(SECOND).await;
    assert_ends(&world, "2026-12-01T13:30:00Z");
    assert_eq!(request(&world, "a")["status"]["extensions"][0]["by"], "dan");
}

#[tokio::test(start_paused = true)]
async fn whoever_approves_more_takes_nothing_away() {
    let (world, _operator) = asked_for_more().await;
    let mut yes = decision(&world, "second", "a", "Approve");
    yes["spec"]["notAfter"] = json!("2026-12-01T12:10:00Z");
    world.api.seed(sealed(&world, yes, "carol"));
    world.pass(SECOND).await;
    assert_ends(&world, "2026-12-01T13:00:00Z");
    world.pass(MINUTE * 30).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn a_later_end_that_the_api_server_refuses_leaves_the_old_one_active() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    world.api.harm(on("PATCH", "jobs"), Harm::Refuse(403), None);
    lasts(&world, &operator, "2h").await.unwrap();
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Active");
    assert_ends(&world, "2026-12-01T13:00:00Z");
    world.api.heal();
    world.pass(MINUTE).await;
    assert_ends(&world, "2026-12-01T14:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn a_shorter_end_in_the_spec_counts_whatever_the_record_says() {
    let (world, operator) = active(json!({"notAfter": "2026-12-01T14:00:00Z"})).await;
    drop(operator);
    let operator = world.operator();
    let shorter = json!({"notAfter": "2026-12-01T13:00:00Z"});
    edit(&world, &operator, "a", shorter, "alice")
        .await
        .unwrap();
    let hash = hash_of(&request(&world, "a"));
    for kind in ["jobs", "rolebindings"] {
        let mut object = world.api.list(kind, NAMESPACE).remove(0);
        object["metadata"]["annotations"]["stint.dev/not-after"] = json!("2026-12-01T22:00:00Z");
        object["metadata"]["annotations"]["stint.dev/spec-hash"] = json!(hash);
        world.api.seed(object);
    }
    world.pass(SECOND * 10).await;
    assert_ends(&world, "2026-12-01T13:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn an_approved_grant_can_be_shortened_without_another_approval() {
    let world = asking();
    let operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    decide(&world, "first", "a", "Approve", "bob");
    world.pass(SECOND).await;
    lasts(&world, &operator, "30m").await.unwrap();
    assert_ends(&world, "2026-12-01T12:30:00Z");
    world.pass(MINUTE * 20).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn an_emergency_stays_short() {
    let world = world();
    let glass = json!({"breakGlass": {"maxDuration": "1h"}});
    change_policy(&world, "jobs", glass);
    let window = json!({"duration": "30m", "urgency": "BreakGlass", "ticket": "INC-7"});
    let (world, operator) = begun(world, window).await;
    world.pass(MINUTE * 20).await;
    let refused = lasts(&world, &operator, "70m").await.unwrap_err();
    assert!(refused.contains("by break-glass"), "{refused}");
    assert_eq!(lasts(&world, &operator, "1h").await, Ok(vec![]));
    assert_ends(&world, "2026-12-01T13:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn an_emergency_that_goes_on_is_reviewed_again_and_not_by_who_extended_it() {
    let world = world();
    approvers(&world, &["bob", "carol"]);
    let glass = json!({"breakGlass": {"maxDuration": "1h"}, "approval": {"required": 1}});
    change_policy(&world, "jobs", glass);
    let window = json!({"duration": "30m", "urgency": "BreakGlass", "ticket": "INC-7"});
    let (world, operator) = begun(world, window).await;
    let required = |world: &World| condition(world, "ReviewRequired").unwrap()[0].clone();
    decide(&world, "one", "a", "Review", "carol");
    world.pass(SECOND).await;
    assert_eq!(required(&world), "False");
    edit(&world, &operator, "a", json!({"duration": "1h"}), "bob")
        .await
        .unwrap();
    world.pass(SECOND).await;
    assert_eq!(required(&world), "True");
    decide(&world, "two", "a", "Review", "bob");
    world.pass(SECOND).await;
    assert_eq!(required(&world), "True");
    decide(&world, "three", "a", "Review", "carol");
    world.pass(SECOND).await;
    assert_eq!(required(&world), "False");
}

#[tokio::test(start_paused = true)]
async fn nothing_lasts_longer_than_a_month() {
    let world = world();
    let limits = json!({"maxDuration": "720h", "maxTotal": "8760h"});
    limit(&world, limits);
    let (world, operator) = begun(world, json!({"notAfter": "2026-12-02T12:00:00Z"})).await;
    let later = |end: &str| json!({"notAfter": end});
    let refused = edit(
        &world,
        &operator,
        "a",
        later("2026-12-31T12:00:02Z"),
        "alice",
    )
    .await;
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("less than or equal to 720h after the beginning"),
        "{refused}"
    );
    let most = edit(
        &world,
        &operator,
        "a",
        later("2026-12-31T12:00:00Z"),
        "alice",
    )
    .await;
    assert_eq!(most, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_races_the_end_loses_without_a_trace() {
    let (world, operator) = active(json!({"notAfter": "2026-12-01T13:00:00Z"})).await;
    let later = json!({"notAfter": "2026-12-01T14:00:00Z"});
    world
        .pass(HOUR - SECOND - SignedDuration::from_millis(500))
        .await;
    let refused = edit(&world, &operator, "a", later.clone(), "alice").await;
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("access ends at 2026-12-01T13:00:00Z") && refused.contains("WA-WINDOW"),
        "{refused}"
    );
    world.pass(SECOND * 2).await;
    assert_eq!(world.reason("a"), "Expired");
    let refused = edit(&world, &operator, "a", later, "alice").await;
    let refused = refused.unwrap_err();
    assert!(refused.contains("cannot be moved any more"), "{refused}");
    assert_eq!(world.made(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_moved_in_time_and_seen_too_late_is_over() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    world.pass(MINUTE * 59).await;
    let later = json!({"duration": "2h"});
    edit(&world, &operator, "a", later, "alice").await.unwrap();
    drop(operator);
    world.pass(MINUTE * 2).await;
    let _back = world.operator();
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_queue_that_hears_late_of_a_later_end_takes_nothing_away() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    world.pass(MINUTE * 59 + SECOND * 50).await;
    let before = binding(&world).unwrap()["metadata"]["uid"].clone();
    for n in 0..8 {
        world.api.delay_event(n, Duration::from_secs(30));
    }
    // The request is read live, whatever the watches say.
    let later = json!({"duration": "2h"});
    edit(&world, &operator, "a", later, "alice").await.unwrap();
    let _other = world.operator_as("system:serviceaccount:stint-system:other");
    world.pass(SECOND * 20).await;
    assert_eq!(binding(&world).unwrap()["metadata"]["uid"], before);
    world.pass(MINUTE * 5).await;
    assert_eq!(binding(&world).unwrap()["metadata"]["uid"], before);
    assert_eq!(world.reason("a"), "Active");
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_of_an_extension_loses_neither_access_nor_the_end(
    #[values(1, 2, 3, 4, 5)] k: u64,
) {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    guarded(&world, async {
        let before = binding(&world).unwrap()["metadata"]["uid"].clone();
        let later = json!({"duration": "2h"});
        let cut = world.api.cut_after_write(k);
        edit(&world, &operator, "a", later, "alice").await.unwrap();
        tokio::select! {
            () = cut.notified() => {}
            () = world.pass(SECOND * 2) => {}
        }
        drop(operator);
        world.api.heal();
        world.pass(SECOND * 5).await;
        let _next = world.operator();
        world.pass(SECOND * 2).await;
        assert_ends(&world, "2026-12-01T14:00:00Z");
        assert_eq!(binding(&world).unwrap()["metadata"]["uid"], before);
        assert_eq!(
            request(&world, "a")["status"]["extensions"][0]["to"],
            "2026-12-01T14:00:00Z"
        );
        assert_eq!(events(&world, "Drifted"), 0);
        world.pass(HOUR * 2).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Expired".into(), [0, 0, 0])
        );
    })
    .await;
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_one_that_is_refused_afterwards_leaves_the_old_end(
    #[values(0, 1)] max: i64,
) {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    guarded(&world, async {
        let cut = world.api.cut_after_write(1);
        let later = json!({"duration": "2h"});
        edit(&world, &operator, "a", later, "alice").await.unwrap();
        cut.notified().await;
        drop(operator);
        world.api.heal();
        limit(&world, json!({"maxDuration": "1h", "maxExtensions": max}));
        let _next = world.operator();
        world.pass(SECOND * 2).await;
        assert_eq!(world.reason("a"), "Active");
        assert_ends(&world, "2026-12-01T13:00:00Z");
        limit(&world, json!({"maxDuration": "2h"}));
        world.pass(MINUTE).await;
        assert_ends(&world, "2026-12-01T14:00:00Z");
    })
    .await;
}

#[rstest]
#[case::the_deadline("jobs", "PATCH")]
#[case::the_role("roles", "PUT")]
#[case::the_binding("rolebindings", "PATCH")]
#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again(
    #[case] resource: &'static str,
    #[case] method: &'static str,
) {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    world
        .api
        .harm(on(method, resource), Harm::Refuse(503), Some(3));
    lasts(&world, &operator, "2h").await.unwrap();
    world.pass(MINUTE).await;
    assert_ends(&world, "2026-12-01T14:00:00Z");
    assert_eq!(world.reason("a"), "Active");
}

#[rstest]
#[case::scheduled(json!({"notBefore": "2026-12-01T12:05:00Z", "notAfter": "2026-12-01T13:00:00Z"}), json!({"notAfter": "2026-12-01T15:00:00Z"}), "2026-12-01T15:00:00Z")]
#[case::scheduled_and_shortened(json!({"notBefore": "2026-12-01T12:05:00Z", "notAfter": "2026-12-01T13:00:00Z"}), json!({"notAfter": "2026-12-01T12:30:00Z"}), "2026-12-01T12:30:00Z")]
#[tokio::test(start_paused = true)]
async fn the_end_of_a_request_that_waits_is_moved_too(
    #[case] window: Value,
    #[case] change: Value,
    #[case] end: &str,
) {
    let world = world();
    let operator = world.operator();
    world.admit("a", window);
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Scheduled");
    edit(&world, &operator, "a", change, "alice").await.unwrap();
    world.pass(MINUTE * 6).await;
    assert_eq!(world.reason("a"), "Active");
    assert_ends(&world, end);
    assert_eq!(request(&world, "a")["status"]["extensions"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_approval_is_approved_with_the_end_that_it_has() {
    let world = asking();
    let operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    let old = sealed(&world, decision(&world, "old", "a", "Approve"), "bob");
    world.pass(SECOND).await;
    edit(&world, &operator, "a", json!({"duration": "2h"}), "alice")
        .await
        .unwrap();
    world.api.seed(old);
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "PendingApproval", "the old spec is void");
    decide(&world, "new", "a", "Approve", "bob");
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn what_ends_soon_says_so_once() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    world.pass(MINUTE * 53).await;
    assert_eq!(condition(&world, "ExpiringSoon"), None);
    world.pass(MINUTE).await;
    let [status, reason, _] = condition(&world, "ExpiringSoon").unwrap();
    assert_eq!([status.as_str(), &reason], ["True", "LastTenth"]);
    world.pass(MINUTE * 2).await;
    assert_eq!(events(&world, "ExpiringSoon"), 1);
    lasts(&world, &operator, "2h").await.unwrap();
    assert_eq!(condition(&world, "ExpiringSoon"), None);
    world.pass(MINUTE * 59).await;
    assert!(condition(&world, "ExpiringSoon").is_some());
    world.pass(MINUTE * 10).await;
    assert_eq!(condition(&world, "ExpiringSoon"), None, "it is over");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_in_a_moment_says_nothing_of_it() {
    let (world, _operator) = active(json!({"duration": "50s"})).await;
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Expired");
    assert_eq!(events(&world, "ExpiringSoon"), 0);
}

#[rstest]
#[case::the_reason(json!({"reason": "another"}))]
#[case::the_account(json!({"serviceAccountRef": {"name": "other"}}))]
#[case::more_rights(json!({"duration": "2h", "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}))]
#[case::a_begin(json!({"notBefore": "2026-12-01T12:00:00Z"}))]
#[case::an_instant_for_a_length(json!({"duration": null, "notAfter": "2026-12-01T12:30:00Z"}))]
#[case::both(json!({"notAfter": "2026-12-01T12:30:00Z"}))]
#[tokio::test(start_paused = true)]
async fn nothing_else_may_change(#[case] changes: Value) {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    let refused = edit(&world, &operator, "a", changes, "alice").await;
    let refused = refused.unwrap_err();
    assert!(refused.contains("[WA-IMMUTABLE]"), "{refused}");
}

#[rstest]
#[case::no_length(json!({"duration": "soon"}), "WA-WINDOW")]
#[case::nothing(json!({"duration": "0s"}), "WA-WINDOW")]
#[case::a_year(json!({"duration": "8760h"}), "WA-TOO-LONG")]
#[tokio::test(start_paused = true)]
async fn an_end_that_is_none_is_refused(#[case] changes: Value, #[case] code: &str) {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    let refused = edit(&world, &operator, "a", changes, "alice").await;
    let refused = refused.unwrap_err();
    assert!(refused.contains(code), "{refused}");
    world.pass(SECOND).await;
    assert_ends(&world, "2026-12-01T13:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_an_earlier_day_does_not_come_back() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    let first = request(&world, "a")["metadata"]["annotations"]["stint.dev/receipt"].clone();
    lasts(&world, &operator, "2h").await.unwrap();
    lasts(&world, &operator, "1h").await.unwrap();
    // The spec is that of the first receipt again; the count of extensions in it is not.
    let mut object = request(&world, "a");
    object["metadata"]["annotations"]["stint.dev/receipt"] = first;
    let old = request(&world, "a")["metadata"]["annotations"].clone();
    store(&world, &operator, object, "alice").await.unwrap();
    assert_eq!(request(&world, "a")["metadata"]["annotations"], old);
}

#[tokio::test(start_paused = true)]
async fn an_edit_past_the_webhook_ends_access() {
    let (world, _operator) = active(json!({"duration": "1h"})).await;
    let object = changed(&world, "a", json!({"duration": "2h"}));
    world.api.seed(object);
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Revoked".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_that_somebody_wrote_into_the_deadline_is_no_extension() {
    let (world, operator) = active(json!({"duration": "1h"})).await;
    lasts(&world, &operator, "2h").await.unwrap();
    let mut job = world.api.list("jobs", NAMESPACE).remove(0);
    job["metadata"]["annotations"]["stint.dev/not-after"] = json!("2026-12-01T20:00:00Z");
    job["spec"]["activeDeadlineSeconds"] = json!(999_999);
    world.api.seed(job);
    world.pass(SECOND * 10).await;
    assert_ends(&world, "2026-12-01T14:00:00Z");
    assert_eq!(events(&world, "Drifted"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_grant_in_the_whole_cluster_is_extended_without_a_gap() {
    let world = wide::world();
    let operator = world.operator();
    wide::admit(&world, "a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let object = |kind: &str| {
        let mut all = world.api.list(kind, "");
        all.retain(|o| o["metadata"]["labels"]["stint.dev/grant"].is_string());
        all.pop()
    };
    let uid = object("clusterrolebindings").unwrap()["metadata"]["uid"].clone();
    let later = json!({"duration": "2h"});
    edit(&world, &operator, "a", later, "alice").await.unwrap();
    world.pass(SECOND).await;
    for kind in ["clusterroles", "clusterrolebindings"] {
        let annotations = &object(kind).unwrap()["metadata"]["annotations"];
        assert_eq!(annotations["stint.dev/not-after"], "2026-12-01T14:00:00Z");
        assert_eq!(annotations["stint.dev/extensions"], "1");
    }
    assert_eq!(
        object("clusterrolebindings").unwrap()["metadata"]["uid"],
        uid
    );
    world.pass(MINUTE * 90).await;
    assert_eq!(
        object("clusterrolebindings").unwrap()["metadata"]["uid"],
        uid
    );
    world.pass(MINUTE * 31).await;
    assert_eq!(object("clusterrolebindings"), None);
    assert_eq!(object("clusterroles"), None);
    let object = world.api.get("clusterworkloadaccesses", "", "a").unwrap();
    assert_eq!(object["status"]["endReason"], "Expired");
}
