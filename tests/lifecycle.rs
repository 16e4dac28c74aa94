//! The life of grants in virtual time: crashes at every write, failing and lost calls and events, idle hours, and a
//! thousand deadlines at once.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::json;
use support::fake_api::on;
use support::world::{NAMESPACE, World, guarded};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Deletions of bindings, with their instants.
fn deletions(world: &World) -> Vec<Timestamp> {
    let calls = world.api.calls().into_iter();
    calls
        .filter(|c| c.method == "DELETE" && c.resource == "rolebindings" && c.status == 200)
        .map(|c| c.at)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_grant_of_one_hour_lives_exactly_one_hour() {
    let world = World::new();
    let operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert!(operator.ready());
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Active".into(), [1, 1, 1])
    );
    let creations = world.api.writes();
    let steps: Vec<&str> = creations
        .iter()
        .filter(|c| !["events", "accesspolicies"].contains(&c.resource.as_str()))
        .map(|c| c.resource.as_str())
        .collect();
    assert_eq!(
        steps,
        ["jobs", "roles", "rolebindings", "workloadaccesses"],
        "the deadline comes first"
    );
    world.pass(MINUTE * 61).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
    let end: Timestamp = "2026-12-01T13:00:00Z".parse().unwrap();
    let late = deletions(&world)[0].duration_since(end);
    assert!(
        late >= SignedDuration::ZERO && late <= SignedDuration::from_millis(2),
        "{late}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_costs_no_write_and_no_list() {
    let world = World::new();
    let _operator = world.operator();
    for i in 0..20 {
        world.admit(&format!("long-{i}"), json!({"duration": "10h"}));
    }
    world.admit("over", json!({"duration": "1m"}));
    world.pass(MINUTE * 5).await;
    assert_eq!(world.made()[0], 20);
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    assert_eq!(world.api.writes().len(), 0, "{:#?}", world.api.writes());
    assert_eq!(world.api.lists().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_deadlines_in_one_second_are_met_and_none_early() {
    let world = World::new();
    let _operator = world.operator();
    let end = "2026-12-01T12:10:00Z";
    for i in 0..1000 {
        world.admit(&format!("g-{i}"), json!({"notAfter": end}));
    }
    world.pass(MINUTE * 9).await;
    assert_eq!(world.made()[0], 1000);
    world.pass(MINUTE * 2).await;
    let ends = deletions(&world);
    assert_eq!((ends.len(), world.made()), (1000, [0, 0, 0]));
    let end: Timestamp = end.parse().unwrap();
    assert!(ends.iter().all(|at| *at >= end), "none early");
    assert!(
        ends.iter()
            .all(|at| at.duration_since(end) <= SignedDuration::from_millis(100)),
        "{:?}",
        ends.last()
    );
    assert!((0..1000).all(|i| world.reason(&format!("g-{i}")) == "Expired"));
}

/// One short life, with the operator killed after its k-th write and started again a second later. Returns whether
/// there was a k-th write.
async fn killed_after_write(k: u64) -> bool {
    let world = World::new();
    guarded(&world, async {
        world.admit("a", json!({"duration": "30s"}));
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
        killed
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_the_end_is_the_same() {
    let mut writes = 0;
    while killed_after_write(writes + 1).await {
        writes += 1;
    }
    assert!(
        writes >= 7,
        "a life has at least 4 writes to begin and 3 to end, saw {writes}"
    );
}

#[tokio::test(start_paused = true)]
async fn killed_for_good_after_any_write_kubernetes_ends_it() {
    for k in 1..=4 {
        let world = World::new();
        guarded(&world, async {
            world.admit("a", json!({"duration": "30s"}));
            let cut = world.api.cut_after_write(k);
            let operator = world.operator();
            cut.notified().await;
            drop(operator);
            world.pass(MINUTE * 2).await;
            assert_eq!(world.made(), [0, 0, 0], "killed after write {k}");
        })
        .await;
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_refused_write_delays_nothing_for_good(
    #[values(409, 429, 500, 503)] status: u16,
    #[values(1, 2, 3, 4, 5, 6, 7, 8, 9)] k: u64,
) {
    let world = World::new();
    guarded(&world, async {
        world.api.fail_write(k, status);
        let _operator = world.operator();
        world.admit("a", json!({"duration": "2m"}));
        world.pass(MINUTE * 1).await;
        assert_eq!(world.reason("a"), "Active");
        world.pass(MINUTE * 3).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Expired".into(), [0, 0, 0])
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_tried_for_ever() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "10s"}));
    world.pass(SECOND).await;
    // The deadline Job would end it too; here only Stint is looked at.
    world.api.harm(
        on("DELETE", "rolebindings"),
        support::fake_api::Harm::Refuse(500),
        Some(10),
    );
    world.pass(MINUTE * 5).await;
    let tries = world
        .api
        .calls()
        .into_iter()
        .filter(|c| c.method == "DELETE" && c.resource == "rolebindings");
    assert!(tries.count() >= 2);
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

#[derive(Clone, Copy, Debug)]
enum Mishap {
    Lost,
    Doubled,
    Late,
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn lost_doubled_and_late_events_change_nothing(
    #[values(Mishap::Lost, Mishap::Doubled, Mishap::Late)] mishap: Mishap,
    #[values(2, 3, 4, 5, 6, 7, 8, 9, 10)] n: usize,
) {
    let world = World::new();
    guarded(&world, async {
        let operator = world.operator();
        world.pass(SECOND).await;
        assert!(operator.ready());
        match mishap {
            Mishap::Lost => world.api.drop_event(n),
            Mishap::Doubled => world.api.double_event(n),
            Mishap::Late => world.api.delay_event(n, Duration::from_secs(3)),
        }
        world.admit("a", json!({"duration": "1m"}));
        world.pass(MINUTE * 4).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Expired".into(), [0, 0, 0])
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_api_server_that_forgot_the_past_changes_nothing() {
    let world = World::new();
    guarded(&world, async {
        let _operator = world.operator();
        world.admit("a", json!({"duration": "5m"}));
        world.admit("b", json!({"duration": "5m"}));
        world.pass(MINUTE).await;
        world.api.compact();
        // Deleted while no watch is open: the absence shows only in the next list.
        world.api.end_watches();
        world.api.remove("workloadaccesses", NAMESPACE, "b");
        world.api.compact();
        world.pass(MINUTE * 2).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Active".into(), [1, 1, 1])
        );
        world.pass(MINUTE * 4).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Expired".into(), [0, 0, 0])
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_recreated_account_loses_the_grant_at_once() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(world.made()[0], 1);
    world.api.remove("serviceaccounts", NAMESPACE, "migrator");
    world.api.service_account(NAMESPACE, "migrator", json!({}));
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()[0]),
        ("IdentityChanged".into(), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn what_changed_while_nobody_looked_is_swept_before_ready() {
    let world = World::new();
    let operator = world.operator();
    for name in ["expired", "deleted", "kept"] {
        let duration = if name == "expired" { "1m" } else { "2h" };
        world.admit(name, json!({"duration": duration}));
    }
    world.pass(SECOND).await;
    assert_eq!(world.made()[0], 3);
    drop(operator);
    // Without the deadline Jobs only the sweep can end anything.
    for job in world.api.list("jobs", NAMESPACE) {
        let mut job = job;
        job["metadata"]["ownerReferences"] = json!([]);
        job["spec"]["activeDeadlineSeconds"] = json!(999_999);
        world.api.seed(job);
    }
    world.api.remove("workloadaccesses", NAMESPACE, "deleted");
    world.pass(MINUTE * 2).await;
    assert_eq!(world.made()[0], 3);
    let operator = world.operator();
    while !operator.ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.made()[0], 1, "ready means swept");
}

#[tokio::test(start_paused = true)]
async fn an_ended_grant_never_begins_again() {
    let world = World::new();
    let operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let binding = world.api.list("rolebindings", NAMESPACE).remove(0);
    world.api.remove(
        "rolebindings",
        NAMESPACE,
        binding["metadata"]["name"].as_str().unwrap(),
    );
    world.pass(SECOND).await;
    assert_eq!((world.reason("a"), world.made()[0]), ("Revoked".into(), 0));
    drop(operator);
    let _again = world.operator();
    world.pass(MINUTE * 5).await;
    assert_eq!((world.reason("a"), world.made()[0]), ("Revoked".into(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_refuses_the_deadline_leaves_no_binding() {
    let world = World::new();
    world.api.on_admission(|verb, object| {
        if verb == "create" && object["kind"] == "Job" {
            return Err((403, "exceeded quota".into()));
        }
        Ok(())
    });
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("ApplyRefused".into(), [0, 0, 0])
    );
    world.pass(MINUTE * 15).await;
    assert_eq!(
        world.reason("a"),
        "Expired",
        "a request that cannot be activated does not wait for ever"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_of_policies_that_takes_long_ends_no_grant() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let slow = support::fake_api::Harm::Delay(Duration::from_secs(3));
    world.api.harm(on("GET", "accesspolicies"), slow, None);
    world.api.compact();
    world.api.end_watches();
    for _ in 0..20 {
        world.pass(SignedDuration::from_millis(500)).await;
        world.touch("a");
    }
    assert_eq!((world.reason("a"), world.made()[0]), ("Active".into(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_that_is_missing_for_a_moment_ends_no_grant_and_begins_none() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let ceiling = world
        .api
        .remove("clusterroles", "", "stint-grantable")
        .unwrap();
    world.admit("b", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.reason("b")),
        ("Active".into(), "NotReady".into())
    );
    let mut unfilled = ceiling.clone();
    unfilled["rules"] = json!([]);
    world.api.seed(unfilled);
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.reason("b")),
        ("Active".into(), "NotReady".into())
    );
    world.api.seed(ceiling);
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.reason("b")),
        ("Active".into(), "Active".into())
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_of_somebody_else_under_the_grants_name_ends_it() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let mut role = world.api.list("roles", NAMESPACE).remove(0);
    world.api.remove(
        "roles",
        NAMESPACE,
        role["metadata"]["name"].as_str().unwrap(),
    );
    role["metadata"]["labels"] = json!({});
    role["metadata"]["ownerReferences"] = json!([]);
    world.api.seed(role);
    world.pass(SECOND).await;
    world.touch("a");
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Revoked".into(), [0, 1, 0])
    );
    let status = &world.api.get("workloadaccesses", NAMESPACE, "a").unwrap()["status"];
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("WA-NAME-TAKEN"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_an_end_stays_as_it_was_told() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "10s"}));
    world.pass(MINUTE).await;
    world.touch("a");
    world.pass(MINUTE).await;
    let status = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap()["status"].clone();
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("access ended at"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn of_two_requests_at_the_same_moment_one_gets_the_last_place() {
    let world = World::new();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["limits"] = json!({"maxDuration": "24h", "maxActivePerAccount": 1});
    world.api.seed(policy);
    for name in ["a", "b", "c"] {
        world.admit(name, json!({"duration": "1h"}));
    }
    let _operator = world.operator();
    world.pass(SECOND).await;
    let active = |world: &World| {
        ["a", "b", "c"]
            .iter()
            .filter(|n| world.reason(n) == "Active")
            .count()
    };
    assert_eq!((active(&world), world.made()[0]), (1, 1));
    world.pass(MINUTE * 5).await;
    assert_eq!((active(&world), world.made()[0]), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_binding_whose_request_is_gone_is_revoked_although_nobody_said_so() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    let mut binding = world.api.list("rolebindings", NAMESPACE).remove(0);
    let meta = binding["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "ownerReferences"] {
        meta.remove(field);
    }
    meta.insert("name".into(), json!("stint-stray-00000000"));
    meta["labels"]["stint.dev/grant"] = json!("00000000");
    meta["annotations"]["stint.dev/workload-access"] = json!("stray");
    world.api.seed(binding);
    world.pass(SECOND).await;
    assert_eq!(
        world.made()[0],
        1,
        "the stray binding is gone, the good one stays"
    );
    assert_eq!(world.reason("a"), "Active");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_gives_nobody_more_time_and_loses_nothing() {
    let world = World::new();
    let _operator = world.operator();
    world.admit("a", json!({"duration": "30m"}));
    world.pass(MINUTE * 10).await;
    world.set_clock_off(-MINUTE * 60);
    // Asked for in what that clock takes for the future.
    world.admit("b", json!({"notAfter": "2026-12-01T13:00:00Z"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("b"), "Active");
    world.pass(MINUTE * 20 + SECOND * 8).await;
    assert_eq!(world.made()[0], 1, "the Job of the first counted on");
    world.set_clock_off(SignedDuration::ZERO);
    world.touch("a");
    world.touch("b");
    world.pass(SECOND).await;
    let ended = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap();
    assert!(ended["status"]["endReason"].is_string(), "{ended}");
    assert_eq!(world.reason("b"), "Active");
    world.pass(MINUTE * 30).await;
    assert_eq!(
        (world.reason("b"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}
