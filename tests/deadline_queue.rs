//! Access ends on time whatever else the operator lacks: the deadline queue needs nothing but the bindings. In virtual time.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::json;
use support::fake_api::{Harm, on};
use support::world::{NAMESPACE, World};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A live grant of ten minutes whose operator was killed, in a cluster where no Job ends anything.
async fn live() -> World {
    let world = World::new();
    let operator = world.operator();
    world.admit("a", json!({"duration": "10m"}));
    world.pass(SECOND).await;
    assert_eq!(world.made(), [1, 1, 1]);
    drop(operator);
    // Whatever ends the grant now is Stint.
    let mut job = world.api.list("jobs", NAMESPACE).remove(0);
    job["spec"]["activeDeadlineSeconds"] = json!(999_999);
    world.api.seed(job);
    world
}

#[tokio::test(start_paused = true)]
async fn an_operator_without_receipt_keys_ends_what_is_due() {
    let mut world = live().await;
    world.receipt_keys = false;
    let operator = world.operator();
    world.pass(MINUTE).await;
    assert_eq!(world.made()[0], 1, "not before its end");
    world.pass(MINUTE * 10).await;
    assert!(!operator.ready());
    assert_eq!(world.made()[0], 0);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn an_operator_with_a_forbidden_watch_ends_what_is_overdue(
    #[values(
        "accesspolicies",
        "serviceaccounts",
        "clusterroles",
        "workloadaccesses"
    )]
    kind: &'static str,
) {
    let world = live().await;
    world.pass(MINUTE * 30).await;
    world.api.harm(on("GET", kind), Harm::Refuse(403), None);
    let operator = world.operator();
    world.pass(SECOND).await;
    assert!(!operator.ready());
    assert_eq!(world.made()[0], 0);
}
