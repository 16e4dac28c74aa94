//! Moving the end of a grant on a real control plane. The operator runs as its own ServiceAccount.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stint::api::WorkloadAccess;
use stint::api::workload_access::EndReason;
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::{Team, create};
use tokio::sync::{Mutex, MutexGuard};

/// One of these tests stops the operator, so each has the installation for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn team(limits: Value) -> (Team, MutexGuard<'static, ()>) {
    let guard = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let team = Team::with_limits(stint, limits).await;
    let settings = json!({"metadata": {"name": "settings"}, "data": {"a": "b"}});
    let admin = stint.cluster().admin();
    create(&admin, "v1", "ConfigMap", &team.namespace, settings).await;
    (team, guard)
}

fn in_seconds(seconds: i64) -> Timestamp {
    let end = Timestamp::now() + SignedDuration::from_secs(seconds);
    Timestamp::from_second(end.as_second()).unwrap()
}

/// Moves the end as a user.
async fn moved(team: &Team, user: User, spec: Value) -> kube::Result<WorkloadAccess> {
    let patch = Patch::Merge(json!({"spec": spec}));
    let api = team.requests(user);
    api.patch("a", &PatchParams::default(), &patch).await
}

async fn ends_at(team: &Team, end: Timestamp) -> WorkloadAccess {
    let api = team.requests(User::Admin);
    eventually(&format!("the grant ends at {end}"), async || {
        let object = api.get("a").await.ok()?;
        let told = object.status.as_ref()?.not_after.as_ref()?.0;
        (told == end).then_some(object)
    })
    .await
}

/// Reads the ConfigMap again and again, and counts what it was told.
struct Prober {
    allowed: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Prober {
    /// Begins when access is there.
    async fn start(team: &Team) -> Self {
        let workload: Client = team.workload().await;
        eventually("access is there", async || {
            team.may_get(&workload, "settings").await.then_some(())
        })
        .await;
        let settings: Api<ConfigMap> = Api::namespaced(workload, &team.namespace);
        let counters = [0; 2].map(|_| Arc::new(AtomicUsize::new(0)));
        let [allowed, refused] = counters.clone();
        let task = tokio::spawn(async move {
            loop {
                let counter = match settings.get("settings").await {
                    Ok(_) => &counters[0],
                    Err(kube::Error::Api(status)) if status.is_forbidden() => &counters[1],
                    Err(error) => panic!("{error}"),
                };
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        Self {
            allowed,
            refused,
            task,
        }
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn an_extended_grant_never_breaks_off_and_ends_at_its_new_end() {
    let (team, _guard) = team(json!({"maxDuration": "1h", "maxTotal": "2h"})).await;
    let (old, new) = (in_seconds(12), in_seconds(26));
    let window = json!({"notAfter": old.to_string()});
    team.granted(&team.request_with("a", window)).await;
    let binding = team.bindings().await.remove(0);
    let prober = Prober::start(&team).await;
    moved(&team, User::Alice, json!({"notAfter": new.to_string()}))
        .await
        .unwrap();
    let object = ends_at(&team, new).await;
    let status = object.status.unwrap();
    assert_eq!(status.extensions[0].by, "alice");
    assert_eq!(status.extensions[0].from.0, old);
    let name = binding.metadata.name.clone().unwrap();
    let jobs: Api<Job> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let job = jobs.get(&name).await.unwrap();
    assert_eq!(
        job.metadata.annotations.unwrap()["stint.dev/not-after"],
        new.to_string()
    );
    let past_the_old_end = old + SignedDuration::from_secs(8);
    eventually("the old end, and its Job's grace, are past", async || {
        (Timestamp::now() > past_the_old_end).then_some(())
    })
    .await;
    assert_eq!(prober.refused(), 0);
    let now = team.bindings().await.remove(0);
    assert_eq!(now.metadata.uid, binding.metadata.uid);
    eventually("access is refused", async || {
        (prober.refused() > 0).then_some(())
    })
    .await;
    assert!(Timestamp::now() >= new, "not before the new end");
    let allowed = prober.allowed.load(Ordering::SeqCst);
    eprintln!("{allowed} reads were allowed, and none refused before the new end");
    let over = team.becomes("a", "Expired").await;
    assert_eq!(over.status.unwrap().end_reason, Some(EndReason::Expired));
}

#[tokio::test]
async fn without_stint_the_control_plane_counts_to_the_new_end() {
    let (team, _guard) = team(json!({"maxDuration": "1h", "maxTotal": "2h"})).await;
    let new = in_seconds(16);
    let window = json!({"notAfter": in_seconds(8).to_string()});
    team.granted(&team.request_with("a", window)).await;
    moved(&team, User::Alice, json!({"notAfter": new.to_string()}))
        .await
        .unwrap();
    ends_at(&team, new).await;
    team.stint.kill().await;
    eventually("the binding is gone", async || {
        team.bindings().await.is_empty().then_some(())
    })
    .await;
    assert!(Timestamp::now() >= new);
    team.stint.start().await;
    team.becomes("a", "Expired").await;
}

#[tokio::test]
async fn what_may_not_be_moved_is_refused_and_less_is_always_allowed() {
    let (team, _guard) = team(json!({"maxDuration": "1h"})).await;
    team.granted(&team.request("a", "30m")).await;
    let code = async |user, spec| match moved(&team, user, spec).await {
        Err(kube::Error::Api(status)) => status.message.clone(),
        other => panic!("{other:?}"),
    };
    for (user, spec, says) in [
        (User::Bob, json!({"duration": "40m"}), "WA-REQUESTER"),
        (User::Alice, json!({"duration": "2h"}), "WA-TOO-LONG"),
        (User::Alice, json!({"duration": "800h"}), "WA-TOO-LONG"),
        (User::Alice, json!({"reason": "another"}), "WA-IMMUTABLE"),
        (
            User::Alice,
            json!({"duration": null, "notAfter": in_seconds(600).to_string()}),
            "WA-IMMUTABLE",
        ),
    ] {
        let refused = code(user, spec.clone()).await;
        assert!(refused.contains(says), "{spec}: {refused}");
    }
    let binding = team.bindings().await.remove(0);
    moved(&team, User::Bob, json!({"duration": "10m"}))
        .await
        .unwrap();
    let api = team.requests(User::Admin);
    eventually("the grant is shorter", async || {
        let status = api.get("a").await.ok()?.status?;
        let length = status.not_after?.0.duration_since(status.activated_time?.0);
        (length <= SignedDuration::from_mins(10)).then_some(())
    })
    .await;
    assert_eq!(
        team.bindings().await.remove(0).metadata.uid,
        binding.metadata.uid
    );
}
