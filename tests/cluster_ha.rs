//! Two replicas on a real control plane: the leader killed, frozen, and told to stop.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ResourceExt;
use serde_json::json;
use stint::api::WorkloadAccess;
use support::cluster::{User, eventually};
use support::replicas::Replicas;
use support::team::Team;
use tokio::sync::{Mutex, MutexGuard};

/// These tests stop replicas, so each has both for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> (&'static Replicas, Team, MutexGuard<'static, ()>) {
    let guard = ALONE.lock().await;
    let replicas = Replicas::shared(env!("CARGO_BIN_EXE_stint")).await;
    replicas.all_ready().await;
    (replicas, Team::new(replicas.each[0]).await, guard)
}

/// How often the leader is killed around a deadline. `STINT_HA_KILLS` says otherwise, for a figure over many.
fn kills() -> u32 {
    let wanted = std::env::var("STINT_HA_KILLS");
    wanted.map_or(8, |n| n.parse().expect("STINT_HA_KILLS is a number"))
}

fn not_after(granted: &WorkloadAccess) -> Timestamp {
    granted
        .status
        .as_ref()
        .unwrap()
        .not_after
        .as_ref()
        .unwrap()
        .0
}

async fn until(instant: Timestamp) {
    eventually("it is time", async || {
        (Timestamp::now() >= instant).then_some(())
    })
    .await;
}

/// Waits until there is no binding of this name; returns when that was seen.
async fn gone(team: &Team, name: &str) -> Timestamp {
    let bindings: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    eventually("the binding is gone", async || {
        let found = bindings.get_opt(name).await.ok()?;
        found.is_none().then(Timestamp::now)
    })
    .await
}

#[tokio::test]
async fn the_leader_killed_around_a_deadline_delays_nobodys_end() {
    let (replicas, team, _alone) = alone().await;
    let cluster = team.stint.cluster();
    // Nothing but a replica can end a grant now.
    cluster.stop_controller_manager().await.unwrap();
    let (kills, mut overruns) = (kills(), Vec::new());
    for kill in 0..kills {
        let name = format!("kill-{kill}");
        let granted = team.granted(&team.request(&name, "4s")).await;
        let end = not_after(&granted);
        let binding = granted.status.unwrap().role_binding.unwrap().name;
        let leader = replicas.leader().await;
        // From 2 s before the end to the end itself.
        let before = 2000 - 2000 * i64::from(kill) / i64::from(kills.max(2) - 1);
        until(end - SignedDuration::from_millis(before)).await;
        replicas.each[leader].kill().await;
        let seen = gone(&team, &binding).await;
        assert!(seen >= end, "ended early");
        overruns.push(seen.duration_since(end));
        replicas.all_ready().await;
        team.becomes(&name, "Expired").await;
    }
    cluster.start_controller_manager().await.unwrap();
    overruns.sort_unstable();
    eprintln!(
        "the leader was killed {kills} times within 2 s before a deadline; the binding was seen gone after it by at most {} ms, \
         median {} ms (looked at every 25 ms)",
        overruns[overruns.len() - 1].as_millis(),
        overruns[overruns.len() / 2].as_millis(),
    );
}

#[tokio::test]
async fn what_the_dead_leader_had_begun_the_next_one_finishes() {
    let (replicas, team, _alone) = alone().await;
    let leader = replicas.leader().await;
    let requests = team.requests(User::Alice);
    for i in 0..5 {
        let request = team.request(&format!("begun-{i}"), "1h");
        requests
            .create(&PostParams::default(), &request)
            .await
            .unwrap();
    }
    replicas.each[leader].kill().await;
    for i in 0..5 {
        team.becomes(&format!("begun-{i}"), "Active").await;
    }
    assert_eq!(team.bindings().await.len(), 5);
    assert_ne!(replicas.leader().await, leader);
    replicas.all_ready().await;
}

#[tokio::test]
async fn a_frozen_leader_that_thaws_writes_nothing_on_what_it_knew() {
    let (replicas, team, _alone) = alone().await;
    team.granted(&team.request("before", "1h")).await;
    for round in 0..3 {
        let frozen = replicas.leader().await;
        let transitions = replicas.lease().await.unwrap().lease_transitions;
        let name = format!("midway-{round}");
        let request = team.request(&name, "1h");
        let requests = team.requests(User::Alice);
        requests
            .create(&PostParams::default(), &request)
            .await
            .unwrap();
        // In the middle of its pass, or right before or after it.
        replicas.each[frozen].signal("STOP").await;
        replicas.without(frozen);
        let other = 1 - frozen;
        eventually("the other leads", async || {
            replicas.leads(other).await.then_some(())
        })
        .await;
        team.becomes(&name, "Active").await;
        revoke(&team, &name).await;
        let told = team.becomes(&name, "Revoked").await;
        let told = eventually("the end is proven", async || {
            let object = team.requests(User::Admin).get(&name).await.ok()?;
            let status = object.status.as_ref()?;
            let proven = status.conditions.iter().any(|c| c.type_ == "Verified");
            proven.then_some(object)
        })
        .await
        .resource_version()
        .or(told.resource_version());
        replicas.each[frozen].signal("CONT").await;
        replicas.with(frozen);
        eventually("the thawed one has stepped down", async || {
            (!replicas.leads(frozen).await
                && replicas.each[frozen].admin_get("/readyz").await.ok()?.0 == 200)
                .then_some(())
        })
        .await;
        // It takes part again: another grant begins and ends, all by the other.
        let next = format!("next-{round}");
        team.granted(&team.request(&next, "1h")).await;
        revoke(&team, &next).await;
        team.becomes(&next, "Revoked").await;
        let object = team.requests(User::Admin).get(&name).await.unwrap();
        assert_eq!(object.resource_version(), told, "written by who was frozen");
        assert_eq!(replicas.leader().await, other);
        let now = replicas.lease().await.unwrap().lease_transitions;
        assert_eq!(now, transitions.map(|n| n + 1), "changed hands once");
    }
    let bindings = team.bindings().await;
    assert_eq!(bindings.len(), 1, "that of `before`: {bindings:?}");
}

async fn revoke(team: &Team, name: &str) {
    let patch = Patch::Merge(json!({"spec": {"revoked": true}}));
    let revoked = team
        .requests(User::Alice)
        .patch(name, &PatchParams::default(), &patch)
        .await;
    revoked.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over() {
    let (replicas, team, _alone) = alone().await;
    for round in 0..3 {
        let leader = replicas.leader().await;
        let before = replicas.lease().await.unwrap();
        replicas.each[leader].signal("TERM").await;
        assert!(
            replicas.each[leader].ended().await,
            "it calls that a success"
        );
        let after = replicas.lease().await.unwrap();
        assert_ne!(
            after.holder_identity, before.holder_identity,
            "given back before the process ended"
        );
        team.granted(&team.request(&format!("after-{round}"), "1h"))
            .await;
        assert_eq!(replicas.leader().await, 1 - leader);
        let after = replicas.lease().await.unwrap();
        assert_eq!(
            after.lease_transitions,
            before.lease_transitions.map(|n| n + 1)
        );
        replicas.all_ready().await;
    }
}

#[tokio::test]
async fn both_serve_the_webhook_and_are_ready_and_one_authority_vouches_for_both() {
    let (replicas, team, _alone) = alone().await;
    for number in [0, 1] {
        replicas.without(1 - number);
        let requests = team.requests(User::Bob);
        let refused = eventually("the one replica refuses", async || {
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let answer = requests.create(&dry_run, &team.request("bobs", "1h")).await;
            let error = answer.unwrap_err().to_string();
            error.contains("denied the request").then_some(error)
        })
        .await;
        assert!(
            refused.contains("WA-NO-POLICY") || refused.contains("WA-"),
            "{refused}"
        );
        let (status, text) = replicas.each[number].admin_get("/readyz").await.unwrap();
        assert_eq!((status, text.as_str()), (200, "ok\n"));
        replicas.with(1 - number);
    }
}
