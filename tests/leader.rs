//! Several replicas in virtual time: one decides, each ends what is due, and the next one takes over wherever the last one
//! stopped.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use stint::domain::lease::Terms;
use support::fake_api::{Call, Harm, Matcher, on};
use support::world::{LEASE, NAMESPACE, Operator, World, guarded};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// client-go's.
const TERMS: Terms = Terms {
    lease_duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
};

/// Longer than another replica waits for one that is gone.
const TAKE_OVER: SignedDuration = SignedDuration::from_secs(18);

fn elected() -> World {
    let mut world = World::new();
    world.election = Some(TERMS);
    world.api.namespace("stint-system", json!({}));
    world
}

/// A world with a leader `one` and a second replica `two`.
async fn pair() -> (World, Operator, Operator) {
    let world = elected();
    let one = world.operator_as("one");
    world.pass(SECOND).await;
    let two = world.operator_as("two");
    world.pass(SECOND).await;
    assert_eq!((one.leads(), two.leads()), (true, false));
    assert!(one.ready() && two.ready());
    (world, one, two)
}

fn lease(world: &World) -> Value {
    world.api.get("leases", "stint-system", LEASE).unwrap()["spec"].clone()
}

fn holder(world: &World) -> String {
    lease(world)["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Writes of a replica other than those of its election and deletions.
fn decisions<'a>(calls: &'a [Call], user: &str) -> Vec<&'a Call> {
    let decides = |c: &&Call| c.user == user && c.is_write() && c.method != "DELETE";
    let about_the_lease = |c: &Call| c.resource == "leases" || c.body["reason"] == "LeaderElection";
    calls
        .iter()
        .filter(decides)
        .filter(|c| !about_the_lease(c))
        .collect()
}

fn all_of(user: &'static str) -> Matcher {
    Box::new(move |call: &Call| call.user == user)
}

/// When each binding was first deleted.
fn deletions(world: &World) -> Vec<Timestamp> {
    let calls = world.api.calls();
    let gone = |c: &&Call| c.method == "DELETE" && c.resource == "rolebindings" && c.status == 200;
    calls.iter().filter(gone).map(|c| c.at).collect()
}

#[tokio::test(start_paused = true)]
async fn one_decides_and_the_other_only_ends() {
    let (world, _one, _two) = pair().await;
    for i in 0..20 {
        world.admit(&format!("g-{i}"), json!({"duration": "1m"}));
    }
    world.pass(MINUTE * 3).await;
    assert!((0..20).all(|i| world.reason(&format!("g-{i}")) == "Expired"));
    let calls = world.api.calls();
    assert!(decisions(&calls, "one").len() >= 80);
    assert_eq!(decisions(&calls, "two").len(), 0);
    assert_eq!(deletions(&world).len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_ready_although_another_holds_the_lease() {
    let world = elected();
    let dead = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": "stint-system"},
        "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15, "leaseTransitions": 4,
                 "acquireTime": "2020-01-01T00:00:00.000000Z", "renewTime": "2099-01-01T00:00:00.000000Z"}});
    world.api.seed(dead);
    let one = world.operator_as("one");
    world.pass(SECOND).await;
    assert_eq!((one.ready(), one.leads()), (true, false));
    world.admit("a", json!({"duration": "1h"}));
    world.pass(TAKE_OVER).await;
    assert_eq!((one.leads(), world.reason("a")), (true, "Active".into()));
    let lease = lease(&world);
    assert_eq!(
        (&lease["holderIdentity"], &lease["leaseTransitions"]),
        (&json!("one"), &json!(5))
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_writes_nothing_but_the_lease() {
    let (world, _one, _two) = pair().await;
    for i in 0..10 {
        world.admit(&format!("g-{i}"), json!({"duration": "10h"}));
    }
    world.pass(MINUTE * 5).await;
    world.api.clear_calls();
    world.pass(MINUTE * 60).await;
    let writes = world.api.writes();
    let renewal = |c: &&Call| c.resource == "leases" && c.method == "PUT" && c.user == "one";
    assert_eq!(writes.iter().filter(renewal).count(), writes.len());
    assert_eq!(writes.len(), 1800, "one each 2 s");
    assert_eq!(world.api.lists().len(), 0);
}

/// One short life with two replicas, whoever makes the k-th write killed right after it. Returns whether there was one.
async fn killed_after_write(k: u64) -> bool {
    let world = elected();
    guarded(&world, async {
        let mut replicas = vec![("one", world.operator_as("one"))];
        world.pass(SECOND).await;
        replicas.push(("two", world.operator_as("two")));
        world.pass(SECOND).await;
        let renewals = 30;
        let cut = world.api.cut_after_write(k);
        world.admit("a", json!({"duration": "30s"}));
        let killed = tokio::select! {
            () = cut.notified() => true,
            () = tokio::time::sleep(Duration::from_secs(2 * renewals)) => false,
        };
        let calls = world.api.calls();
        let last = calls.iter().rev().find(|c| c.is_write() && c.status == 0);
        if let (true, Some(last)) = (killed, last) {
            replicas.retain(|(user, _)| *user != last.user);
            assert_eq!(replicas.len(), 1, "killed after write {k}");
        }
        world.pass(TAKE_OVER + MINUTE * 3).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Expired".into(), [0, 0, 0]),
            "killed after write {k}"
        );
        assert!(replicas.iter().any(|(_, replica)| replica.leads()));
        killed
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_the_other_takes_over() {
    let mut writes = 0;
    while killed_after_write(writes + 1).await {
        writes += 1;
    }
    assert!(writes >= 20, "only {writes} writes were cut");
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_delays_no_deadline() {
    let (world, one, two) = pair().await;
    world.admit("a", json!({"duration": "30s"}));
    world.pass(SECOND * 25).await;
    assert_eq!(world.reason("a"), "Active");
    let binding = &world.api.list("rolebindings", NAMESPACE)[0];
    let end = &binding["metadata"]["annotations"]["stint.dev/not-after"];
    let end: Timestamp = end.as_str().unwrap().parse().unwrap();
    drop(one);
    world.pass(SECOND * 10).await;
    assert!(!two.leads(), "or this shows nothing");
    let late = deletions(&world)[0].duration_since(end);
    assert!(late >= SignedDuration::ZERO && late <= SignedDuration::from_millis(2));
    assert_eq!(world.reason("a"), "Active", "nobody may tell yet");
    world.pass(TAKE_OVER).await;
    assert_eq!((two.leads(), world.reason("a")), (true, "Expired".into()));
}

/// As by an etcd that has no room left.
#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_renewed_is_told() {
    let (world, one, two) = pair().await;
    assert_eq!(one.warnings(), "");
    world.api.harm(on("PUT", "leases"), Harm::Refuse(500), None);
    world.pass(TAKE_OVER).await;
    for replica in [&one, &two] {
        let told = replica.warnings();
        assert!(replica.ready() && !replica.leads(), "{told}");
        assert!(
            told.starts_with("warning: lease: Lease 'stint': "),
            "{told}"
        );
        assert!(told.contains("500"), "{told}");
    }
    world.api.heal();
    world.pass(TAKE_OVER).await;
    assert_eq!(
        (one.warnings(), two.warnings()),
        <(String, String)>::default()
    );
    assert!(one.leads() != two.leads());
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_stops_before_another_begins_and_comes_back_as_the_second() {
    let (world, one, two) = pair().await;
    world.api.harm(all_of("one"), Harm::Hang, None);
    let mut both = 0;
    for _ in 0..400 {
        world.pass(SignedDuration::from_millis(50)).await;
        both += usize::from(one.leads() && two.leads());
    }
    assert_eq!((both, one.leads(), two.leads()), (0, false, true));
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    world.api.heal();
    world.api.clear_calls();
    world.admit("b", json!({"duration": "1h"}));
    world.pass(MINUTE * 6).await;
    assert_eq!((one.leads(), world.reason("b")), (false, "Active".into()));
    assert_eq!(decisions(&world.api.calls(), "one").len(), 0);
    assert_eq!(holder(&world), "two");
    drop(two);
    world.admit("c", json!({"duration": "1h"}));
    world.pass(TAKE_OVER).await;
    assert_eq!((one.leads(), world.reason("c")), (true, "Active".into()));
}

/// The leader is cut off with its k-th write under way, which arrives when another has decided otherwise. Returns whether
/// there was such a write.
async fn late_write(k: usize) -> bool {
    let (world, _one, two) = pair().await;
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let kth = move |call: &Call| {
        let decides = call.user == "one" && call.is_write() && call.resource != "leases";
        decides && count.fetch_add(1, SeqCst) + 1 == k
    };
    let late = Harm::Late(Duration::from_secs(40));
    world.api.harm(Box::new(kth), late, Some(1));
    let count = Arc::clone(&made);
    let after = move |call: &Call| call.user == "one" && count.load(SeqCst) >= k;
    world.api.harm(Box::new(after), Harm::Hang, None);
    world.admit("a", json!({"duration": "10m"}));
    world.pass(TAKE_OVER + SECOND).await;
    let was_late = made.load(SeqCst) >= k;
    if was_late {
        assert!(two.leads(), "write {k}");
        assert_eq!(world.reason("a"), "Active", "write {k}");
    }
    let mut revoked = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap();
    revoked["spec"]["revoked"] = true.into();
    revoked["metadata"]["generation"] = 2.into();
    world.api.seed(revoked);
    world.pass(SECOND * 5).await;
    let told = |world: &World| {
        let object = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap();
        object["status"].clone()
    };
    let end = told(&world);
    if was_late {
        assert_eq!(end["endReason"], "Revoked", "write {k}");
        assert_eq!(world.made(), [0, 0, 0], "write {k}");
    }
    world.pass(MINUTE * 2).await;
    assert_eq!(world.reason("a"), "Revoked", "write {k}");
    // A Job that comes too late counts down, gives nothing, and goes by itself.
    let [bindings, roles, _] = world.made();
    assert_eq!([bindings, roles], [0, 0], "write {k}");
    world.pass(MINUTE * 10).await;
    assert_eq!(world.made(), [0, 0, 0], "write {k}");
    if was_late {
        assert_eq!(told(&world), end, "write {k} changed what was told");
    }
    was_late
}

#[tokio::test(start_paused = true)]
async fn a_write_that_arrives_when_another_has_decided_changes_nothing() {
    let mut writes = 0;
    while late_write(writes + 1).await {
        writes += 1;
    }
    assert!(writes >= 4, "Job, Role, binding, status: only {writes}");
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_stop_gives_the_lease_back() {
    let (world, one, two) = pair().await;
    let before = lease(&world)["leaseTransitions"].as_i64().unwrap();
    one.terminated().await;
    assert_eq!(holder(&world), "");
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SECOND * 3).await;
    assert_eq!((two.leads(), world.reason("a")), (true, "Active".into()));
    assert_eq!(holder(&world), "two");
    assert_eq!(lease(&world)["leaseTransitions"], before + 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_stop_finishes_the_pass_that_is_under_way() {
    let (world, one, _two) = pair().await;
    let binding = |c: &Call| c.method == "POST" && c.resource == "rolebindings";
    let slowly = Harm::Delay(Duration::from_secs(1));
    world.api.harm(Box::new(binding), slowly, Some(1));
    world.admit("a", json!({"duration": "1h"}));
    world.pass(SignedDuration::from_millis(500)).await;
    assert_eq!(world.made(), [0, 1, 1], "in the middle of it");
    one.terminated().await;
    assert_eq!(
        (world.made(), world.reason("a")),
        ([1, 1, 1], "Active".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_hands_to_another_stops_its_holder() {
    let (world, one, two) = pair().await;
    let mut edited = world.api.get("leases", "stint-system", LEASE).unwrap();
    edited["spec"]["holderIdentity"] = "somebody".into();
    world.api.seed(edited);
    world.pass(SECOND * 3).await;
    assert!(!one.leads() && !two.leads());
    world.pass(TAKE_OVER).await;
    assert!(one.leads() != two.leads(), "what nobody renews runs out");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deletes_makes_no_two_leaders_for_long() {
    let (world, one, two) = pair().await;
    world.api.remove("leases", "stint-system", LEASE);
    world.pass(SECOND * 5).await;
    assert!(one.leads() != two.leads());
}

/// Two places of work want the last place of an account; the leader dies when it has given it to one of them, and the other
/// replica has not heard of that yet.
#[tokio::test(start_paused = true)]
async fn the_last_place_is_not_given_away_again_by_the_next_leader() {
    let world = elected();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["limits"] = json!({"maxDuration": "24h", "maxActivePerAccount": 1});
    world.api.seed(policy);
    let one = world.operator_as("one");
    world.pass(SECOND).await;
    let two = world.operator_as("two");
    world.pass(SECOND).await;
    // Job, Role, binding: the third write is carried out, and nobody hears of it for a while.
    let given = world.api.cut_after_write(3);
    // The request is heard of; what is made for it is not.
    for change in 2..=4 {
        world.api.delay_event(change, Duration::from_secs(60));
    }
    world.admit("a", json!({"duration": "1h"}));
    given.notified().await;
    assert_eq!(world.made()[0], 1);
    drop(one);
    world.api.clear_calls();
    // The one without a place is looked at first.
    let slow = |c: &Call| c.user == "two" && c.resource == "workloadaccesses" && c.name == "a";
    let half_a_second = Harm::Delay(Duration::from_millis(500));
    world.api.harm(Box::new(slow), half_a_second, None);
    world.admit("b", json!({"duration": "1h"}));
    for _ in 0..100 {
        world.pass(SECOND).await;
        let bindings = world.made()[0];
        assert!(bindings <= 1, "{bindings} places were given");
    }
    assert!(two.leads());
    let creations = world.api.calls();
    let creations = creations
        .iter()
        .filter(|c| c.method == "POST" && c.resource == "rolebindings" && c.status == 201);
    assert_eq!(creations.count(), 0, "the one place is taken");
    assert_eq!(world.reason("a"), "Active");
    assert_eq!(world.reason("b"), "Refused");
}
