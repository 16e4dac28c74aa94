//! What went wrong in other systems of this kind, each as a test here. Where another file shows the case already, the test
//! there is named, and not written twice (`the_tests_named_here_exist`).
//!
//! | Case | Shown by |
//! |---|---|
//! | Status write fails after the binding exists | `a_status_that_cannot_be_written_gives_no_second_beyond_what_was_approved`, `an_operator_that_comes_back_when_the_record_is_gone_gives_no_second_life`, `tests/lifecycle.rs::killed_after_any_write_the_end_is_the_same` |
//! | Deletion fails at the end | `a_deletion_that_fails_is_overdue_until_it_is_done`, `tests/lifecycle.rs::a_revocation_is_tried_for_ever` |
//! | Down across the whole window | `a_window_that_nobody_saw_never_becomes_access`, `tests/transitions.rs::a_request` |
//! | Managed binding edited, deleted, re-created | `a_binding_that_somebody_edits_gives_nobody_else_access_and_no_more_time`, `a_binding_that_somebody_makes_again_under_the_same_name_does_not_count`, `tests/lifecycle.rs::an_ended_grant_never_begins_again` |
//! | Watch closed by the server | `what_changes_after_a_watch_was_closed_is_still_seen`, `tests/lifecycle.rs::a_restarted_api_server_that_forgot_the_past_changes_nothing` |
//! | Ended, and the request is kept | `tests/lifecycle.rs::a_grant_of_one_hour_lives_exactly_one_hour` |
//! | One account in two grants | `of_two_grants_of_one_account_each_ends_alone` |
//! | Policy not ready | `a_policy_that_cannot_be_read_grants_nothing_and_refuses_nothing_for_good` |
//! | A chain of renewals | `a_chain_of_extensions_cannot_pass_the_total_ceiling`, `tests/extension.rs::an_end_is_moved_so_often_and_no_more` |
//! | What other rules overlook | `what_other_checkers_overlook_is_refused`, `tests/catalogue.rs::each_check_fires_on_its_examples_and_not_beside_them`, `tests/policies.rs::a_role_that_is_put_together_is_judged_by_its_present_content_and_recorded` |
//! | Bad times | `a_time_that_means_nothing_is_an_error_at_admission`, `tests/judge.rs::rejects` |
//! | Unbounded status | `ten_thousand_transitions_leave_a_small_status`, `a_request_that_flaps_keeps_a_small_status` |
//! | Two at once for the last place | `what_two_operators_gave_at_once_beyond_the_limit_ends_at_once`, `tests/lifecycle.rs::of_two_requests_at_the_same_moment_one_gets_the_last_place` |
//! | Metrics by user | `the_metrics_of_many_grants_are_those_of_few` |
//! | Account re-created between two looks | `an_account_made_again_while_no_watch_was_open_has_no_access`, `tests/lifecycle.rs::a_recreated_account_loses_the_grant_at_once` |

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;
use stint::api::workload_access::{EndReason, ObjectStamp, WorkloadAccessStatus};
use stint::domain::judge::{NotYet, Verdict};
use stint::domain::plan::Applied;
use stint::domain::status::{self, Outcome};
use stint::domain::violation::{Problem, Violation};
use support::edit::edit;
use support::fake_api::{Call, Harm, on};
use support::project;
use support::world::{NAMESPACE, World, guarded};
use support::{case, decision};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn bindings(world: &World) -> Vec<Value> {
    world.api.list("rolebindings", NAMESPACE)
}

fn creations(world: &World) -> usize {
    let made = |c: &Call| c.method == "POST" && c.resource == "rolebindings" && c.status == 201;
    world.api.calls().iter().filter(|c| made(c)).count()
}

fn gauge(operator: &support::world::Operator, name: &str) -> i64 {
    let text = operator.metrics.encode().unwrap();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(&format!("{name} ")));
    line.unwrap().parse().unwrap()
}

/// Counts the time in which a binding stands, in tenths of a second.
async fn time_of_access(world: &World) -> SignedDuration {
    let mut seen = SignedDuration::ZERO;
    let step = SignedDuration::from_millis(100);
    for _ in 0..6000 {
        if !bindings(world).is_empty() {
            seen += step;
        }
        world.pass(step).await;
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_gives_no_second_beyond_what_was_approved() {
    let world = World::new();
    guarded(&world, async {
        // The status may say that it begins, and from then on nothing.
        let later = |c: &Call| {
            let ready = &c.body["status"]["conditions"][0]["reason"];
            c.method == "PATCH" && c.resource == "workloadaccesses" && ready != "Activating"
        };
        world.api.harm(Box::new(later), Harm::Refuse(500), None);
        world.admit("a", json!({"duration": "60s"}));
        let restarts = async {
            for _ in 0..8 {
                let _operator = world.operator();
                world.pass(SECOND * 10).await;
            }
            world.api.heal();
            let _operator = world.operator();
            world.pass(MINUTE * 9).await;
        };
        let (access, ()) = tokio::join!(time_of_access(&world), restarts);
        assert!(
            access > SECOND * 55 && access <= SECOND * 60 + SignedDuration::from_millis(200),
            "{access}"
        );
        assert_eq!(
            (world.reason("a"), creations(&world)),
            ("Expired".into(), 1)
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_comes_back_when_the_record_is_gone_gives_no_second_life() {
    for k in 1..=9 {
        let world = World::new();
        world.admit("a", json!({"duration": "30s"}));
        let cut = world.api.cut_after_write(k);
        let life = async {
            let operator = world.operator();
            tokio::select! {
                () = cut.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(50)) => {}
            }
            drop(operator);
            // Longer than the deadline of the Job and its grace.
            world.pass(SECOND * 60).await;
            let _operator = world.operator();
            world.pass(MINUTE * 10).await;
        };
        let (access, ()) = tokio::join!(time_of_access(&world), life);
        // Kubernetes' own deadline comes 5 s later where Stint is down at the end.
        assert!(access <= SECOND * 38, "{access} after write {k}");
        assert_eq!(world.made(), [0, 0, 0], "after write {k}");
        assert!(creations(&world) <= 1, "after write {k}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_is_overdue_until_it_is_done() {
    let world = World::new();
    let operator = world.operator();
    world.admit("a", json!({"duration": "10m"}));
    // Past the look that sees that it ends soon, and would repair the Job.
    world.pass(MINUTE * 9 + SECOND * 30).await;
    // Kubernetes' own deadline would end it too; here only Stint is looked at.
    let mut job = world.api.list("jobs", NAMESPACE).remove(0);
    job["spec"]["activeDeadlineSeconds"] = json!(999_999);
    world.api.seed(job);
    assert_eq!(gauge(&operator, "stint_overdue_grants"), 0);
    world
        .api
        .harm(on("DELETE", "rolebindings"), Harm::Refuse(500), None);
    world.pass(MINUTE).await;
    for _ in 0..20 {
        world.pass(SECOND * 7).await;
        assert_eq!(
            gauge(&operator, "stint_overdue_grants"),
            1,
            "also between two tries"
        );
        // What stands is not called ended.
        assert_eq!(
            (world.reason("a"), bindings(&world).len()),
            ("Active".into(), 1)
        );
    }
    let tries: Vec<Timestamp> = world
        .api
        .calls()
        .iter()
        .filter(|c| c.method == "DELETE" && c.resource == "rolebindings")
        .map(|c| c.at)
        .collect();
    assert!(
        tries.len() > 5 && tries.len() < 200,
        "{} tries in 140 s",
        tries.len()
    );
    assert!(
        operator
            .metrics
            .encode()
            .unwrap()
            .contains("stint_errors_total")
    );
    world.api.heal();
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), bindings(&world).len()),
        ("Expired".into(), 0)
    );
    assert_eq!(gauge(&operator, "stint_overdue_grants"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_nobody_saw_never_becomes_access() {
    let world = World::new();
    let operator = world.operator();
    world.admit(
        "a",
        json!({"notBefore": "2026-12-01T12:05:00Z", "notAfter": "2026-12-01T12:15:00Z"}),
    );
    world.pass(MINUTE).await;
    assert_eq!(world.reason("a"), "Scheduled");
    drop(operator);
    world.pass(MINUTE * 20).await;
    let _operator = world.operator();
    world.pass(MINUTE * 20).await;
    assert_eq!(
        (world.reason("a"), creations(&world)),
        ("Expired".into(), 0)
    );
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_binding_that_somebody_edits_gives_nobody_else_access_and_no_more_time(
    #[values(
        "/subjects/0/name",
        "/metadata/annotations/stint.dev~1not-after",
        "/metadata/ownerReferences/0/uid"
    )]
    path: &str,
) {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "10m"}));
    world.pass(SECOND).await;
    let good = bindings(&world).remove(0);
    let mut edited = good.clone();
    *edited.pointer_mut(path).unwrap() = match path {
        "/metadata/annotations/stint.dev~1not-after" => json!("2026-12-02T12:00:00Z"),
        _ => json!("somebody-else"),
    };
    world.api.seed(edited);
    world.touch("a");
    world.pass(SECOND).await;
    let found = bindings(&world);
    for binding in &found {
        assert_eq!(binding["subjects"], good["subjects"]);
        assert_eq!(
            binding["metadata"]["annotations"]["stint.dev/not-after"],
            good["metadata"]["annotations"]["stint.dev/not-after"]
        );
    }
    world.pass(MINUTE * 10).await;
    assert_eq!(world.made(), [0, 0, 0]);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_binding_that_somebody_makes_again_under_the_same_name_does_not_count(
    #[values(true, false)] with_the_label: bool,
) {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "10m"}));
    world.pass(SECOND).await;
    let mut again = bindings(&world).remove(0);
    let name = again["metadata"]["name"].as_str().unwrap().to_owned();
    world.api.remove("rolebindings", NAMESPACE, &name);
    again["metadata"].as_object_mut().unwrap().remove("uid");
    again["subjects"][0]["name"] = json!("intruder");
    if !with_the_label {
        again["metadata"]["labels"] = json!({});
    }
    world.api.seed(again);
    world.pass(SECOND * 2).await;
    world.touch("a");
    world.pass(SECOND * 2).await;
    let intruders = bindings(&world);
    let ours = |b: &&Value| b["metadata"]["labels"]["stint.dev/grant"].is_string();
    let for_others = |b: &&Value| b["subjects"][0]["name"] != "migrator";
    assert_eq!(intruders.iter().filter(ours).filter(for_others).count(), 0);
    // What does not carry the label is somebody else's and not Stint's to delete; the grant itself is over then.
    let expected = if with_the_label { "Active" } else { "Revoked" };
    assert_eq!(world.reason("a"), expected);
}

#[tokio::test(start_paused = true)]
async fn what_changes_after_a_watch_was_closed_is_still_seen() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "4h"}));
    for _ in 0..30 {
        world.pass(MINUTE * 5).await;
        world.api.end_watches();
    }
    world.pass(MINUTE).await;
    let name = bindings(&world)[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    world.api.remove("rolebindings", NAMESPACE, &name);
    world.pass(SECOND).await;
    assert_eq!((world.reason("a"), world.made()[0]), ("Revoked".into(), 0));
}

#[tokio::test(start_paused = true)]
async fn of_two_grants_of_one_account_each_ends_alone() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("short", json!({"duration": "10m"}));
    let other = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["b"], "verbs": ["get"]}]);
    world.admit("long", json!({"duration": "1h", "rules": other.clone()}));
    world.pass(SECOND).await;
    assert_eq!(world.made(), [2, 2, 2]);
    world.pass(MINUTE * 11).await;
    assert_eq!(
        (world.reason("short"), world.reason("long")),
        ("Expired".into(), "Active".into())
    );
    assert_eq!(world.made(), [1, 1, 1]);
    assert_eq!(world.api.list("roles", NAMESPACE)[0]["rules"], other);
    world.pass(MINUTE * 60).await;
    assert_eq!(world.made(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_be_read_grants_nothing_and_refuses_nothing_for_good() {
    let world = World::new();
    let good = world.api.get("accesspolicies", "", "jobs").unwrap();
    let mut broken = good.clone();
    broken["spec"]["limits"]["requireTicket"] = json!("(");
    world.api.seed(broken);
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(MINUTE).await;
    assert_eq!((world.made(), creations(&world)), ([0, 0, 0], 0));
    world.api.seed(good);
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
}

#[rstest]
#[case(json!({"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]}))]
#[case(json!({"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["a"], "verbs": ["impersonate"]}))]
#[case(json!({"apiGroups": ["authentication.k8s.io"], "resources": ["users"], "verbs": ["impersonate:user-info"]}))]
#[case(json!({"apiGroups": ["authentication.k8s.io"], "resources": ["serviceaccounts"], "verbs": ["impersonate:serviceaccount", "impersonate-on:serviceaccount:get"]}))]
#[case(json!({"apiGroups": ["*"], "resources": ["configmaps"], "verbs": ["get"]}))]
#[case(json!({"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}))]
#[case(json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}))]
#[case(json!({"apiGroups": [""], "resources": ["pods/*"], "verbs": ["get"]}))]
#[tokio::test(start_paused = true)]
async fn what_other_checkers_overlook_is_refused(#[case] rule: Value) {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h", "rules": [rule]}));
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Refused".into(), [0, 0, 0])
    );
    let message = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap()["status"]["conditions"][0]["message"].to_string();
    let whys = ["[OB-", "[WA-INERT]", "[WA-UNKNOWN-RESOURCE]"];
    assert!(
        whys.iter().any(|why| message.contains(why)),
        "not only because the policy does not list it: {message}"
    );
}

#[rstest]
#[case("/duration", "tomorrow")]
#[case("/duration", "1y")]
#[case("/duration", "-5m")]
#[case("/duration", "")]
#[case("/notAfter", "2026-13-01T00:00:00Z")]
#[case("/notAfter", "next week")]
#[case("/notBefore", "12:00")]
#[tokio::test(start_paused = true)]
async fn a_time_that_means_nothing_is_an_error_at_admission(
    #[case] field: &str,
    #[case] text: &str,
) {
    let spec = if field == "/duration" {
        "/spec"
    } else {
        "/spec/duration"
    };
    let mut request = case::request();
    if field == "/notAfter" {
        request = case::with(request, spec, Value::Null);
    }
    let request = case::with(request, &format!("/spec{field}"), json!(text));
    let codes = case::codes(case::decide(request, &case::facts(), case::now()));
    assert!(!codes.is_empty(), "{field} {text:?}");
}

/// Every kind of outcome there is, with messages of this length.
fn outcomes(length: usize, mut check: impl FnMut(&Outcome<'_>)) {
    let Verdict::Granted(approved) = case::decide(case::request(), &case::facts(), case::now())
    else {
        panic!("the request is fine");
    };
    let stamp = || ObjectStamp {
        name: "stint-migrate-42-11112222".into(),
        uid: "u".repeat(36),
    };
    let applied = Applied {
        deadline: Some(stamp()),
        role_binding: stamp(),
        since: case::now(),
    };
    let text = "x".repeat(length);
    let wrong = vec![Violation::new(
        "WA-NOT-ALLOWED",
        "spec.rules",
        Problem::Forbidden,
        text.clone(),
    )];
    check(&Outcome::Refused(&wrong));
    check(&Outcome::Waiting(&NotYet::NotReady(text.clone())));
    check(&Outcome::ApplyRefused(&text));
    check(&Outcome::Waiting(&NotYet::Scheduled(case::now())));
    check(&Outcome::Active(&approved, &applied));
    check(&Outcome::Ended(EndReason::Revoked, &text));
}

#[test]
fn ten_thousand_transitions_leave_a_small_status() {
    let (mut status, mut now, mut largest) = (WorkloadAccessStatus::default(), case::now(), 0);
    for _ in 0..10_000 / 6 + 1 {
        outcomes(300, |outcome| {
            now = now.saturating_add(SECOND).unwrap();
            status = status::next(&status, Some(1), Some("alice"), outcome, now);
            largest = largest.max(serde_json::to_vec(&status).unwrap().len());
            assert!(status.conditions.len() <= 8);
        });
    }
    assert!(largest < 8 * 1024, "{largest} bytes");
}

#[test]
fn a_message_without_end_is_cut() {
    outcomes(1_000_000, |outcome| {
        let status = status::next(
            &WorkloadAccessStatus::default(),
            Some(1),
            None,
            outcome,
            case::now(),
        );
        let size = serde_json::to_vec(&status).unwrap().len();
        assert!(size < 24 * 1024, "{size} bytes");
    });
}

#[tokio::test(start_paused = true)]
async fn a_request_that_flaps_keeps_a_small_status() {
    let world = World::new();
    let _operator = world.operator();
    let open = world.api.get("accesspolicies", "", "jobs").unwrap();
    let mut closed = open.clone();
    closed["spec"]["allow"]["rules"][0]["resources"] = json!(["secrets"]);
    let ceiling = world
        .api
        .get("clusterroles", "", "stint-grantable")
        .unwrap();
    world.api.seed(closed);
    world.admit("a", json!({"duration": "1h"}));
    let (mut seen, mut largest) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..100 {
        world.api.remove("clusterroles", "", "stint-grantable");
        world.pass(SECOND * 2).await;
        seen.insert(world.reason("a"));
        world.api.seed(ceiling.clone());
        world.pass(SECOND * 2).await;
        seen.insert(world.reason("a"));
        let object = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap();
        largest = largest.max(object["status"].to_string().len());
    }
    assert_eq!(seen, ["NotReady".to_owned(), "Refused".to_owned()].into());
    assert!(largest < 8 * 1024, "{largest} bytes");
}

/// A world where the account may hold one grant.
fn one_place() -> World {
    let world = World::new();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["limits"] = json!({"maxDuration": "24h", "maxActivePerAccount": 1});
    world.api.seed(policy);
    world
}

/// Two operators that both decide, as without an election. Places are counted in the memory of one process, so each of two can
/// give the last one away in the same instant. Each then sees the grant of the other, and both grants end: too few rather than too many.
#[tokio::test(start_paused = true)]
async fn what_two_operators_gave_at_once_beyond_the_limit_ends_at_once() {
    let world = one_place();
    let (_one, _two) = (world.operator_as("one"), world.operator_as("two"));
    world.pass(SECOND).await;
    for (user, request) in [("one", "b"), ("two", "a")] {
        let slow = move |c: &Call| {
            c.user == user
                && c.method == "GET"
                && c.resource == "workloadaccesses"
                && c.name == request
        };
        world.api.harm(
            Box::new(slow),
            Harm::Delay(Duration::from_millis(500)),
            None,
        );
    }
    world.admit("a", json!({"duration": "1h"}));
    world.admit("b", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(
        creations(&world),
        2,
        "both were given, or this shows nothing"
    );
    assert_eq!(world.made()[0], 0);
    world.pass(MINUTE * 5).await;
    for name in ["a", "b"] {
        // Or the other operator saw the binding gone before the first had told why.
        let reason = world.reason(name);
        assert!(
            ["PolicyWithdrawn", "Revoked"].contains(&reason.as_str()),
            "{reason}"
        );
    }
    assert_eq!((creations(&world), world.made()[0]), (2, 0), "for good");
}

#[tokio::test(start_paused = true)]
async fn the_metrics_of_many_grants_are_those_of_few() {
    let series = async |count: usize| {
        let world = World::new();
        let operator = world.operator();
        for i in 0..count {
            let window = if i % 2 == 0 {
                json!({"duration": "1m"})
            } else {
                json!({"duration": "48h"})
            };
            world.admit(&format!("g-{i}"), window);
        }
        world.pass(MINUTE * 12).await;
        let text = operator.metrics.encode().unwrap();
        let named = text.lines().filter(|l| !l.starts_with('#'));
        named
            .map(|l| l.rsplit_once(' ').unwrap().0.to_owned())
            .collect::<Vec<_>>()
    };
    let few = series(2).await;
    assert!(
        few.iter().any(|s| s.contains("stint_revocations_total")),
        "{few:?}"
    );
    assert_eq!(few, series(400).await);
}

#[test]
fn ten_thousand_grants_make_no_series_of_their_own() {
    let metrics = stint::ops::metrics::Metrics::new();
    let mut lines = Vec::new();
    for i in 0..10_000_u64 {
        metrics.revoked("Expired");
        metrics.violation("OB-W03");
        metrics.reconcile("ok", Duration::from_micros(i));
        metrics.expired(Duration::from_millis(i));
        metrics.set_grants("active", i as usize);
        if i == 0 || i == 9_999 {
            lines.push(metrics.encode().unwrap().lines().count());
        }
    }
    assert_eq!(lines[0], lines[1]);
}

#[tokio::test(start_paused = true)]
async fn an_account_made_again_while_no_watch_was_open_has_no_access() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(MINUTE).await;
    world.api.end_watches();
    world.api.remove("serviceaccounts", NAMESPACE, "migrator");
    world.api.service_account(NAMESPACE, "migrator", json!({}));
    world.api.compact();
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()[0]),
        ("IdentityChanged".into(), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_extensions_cannot_pass_the_total_ceiling() {
    let world = World::new();
    let limits = json!({"maxDuration": "1h", "maxTotal": "3h", "maxExtensions": 100});
    decision::change_policy(&world, "jobs", json!({"limits": limits}));
    let operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let mut refused = 0;
    for minutes in (60..=400).step_by(20) {
        // As much as there can be, each time a little before the end.
        let longer = json!({"duration": format!("{minutes}m")});
        refused += usize::from(edit(&world, &operator, "a", longer, "alice").await.is_err());
        world.pass(MINUTE * 20).await;
    }
    assert!(refused > 0);
    let status = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap()["status"].clone();
    assert_eq!(
        [&status["notAfter"], &status["endReason"]],
        ["2026-12-01T15:00:00Z", "Expired"]
    );
    assert_eq!(world.made(), [0, 0, 0]);
}

#[test]
fn the_tests_named_here_exist() {
    let root = project();
    let own = std::fs::read_to_string(root.join("tests/peers.rs")).unwrap();
    let table = own.lines().filter(|l| l.starts_with("//! | "));
    let named: Vec<&str> = table
        .flat_map(|l| l.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        let (source, test) = match name.split_once("::") {
            Some((file, test)) => (std::fs::read_to_string(root.join(file)).unwrap(), test),
            None => (own.clone(), name),
        };
        assert!(source.contains(&format!("fn {test}(")), "{name}");
    }
}
