//! `make bench`: how long a kill switch takes over a thousand grants on a real control plane, beside the floor of a bare
//! loop of DELETEs over as many equal RoleBindings in the same run, with the same number under way.
//!
//! The switch is counted from sending the patch of the policy to the watch event of the last binding; the floor from
//! sending the first DELETE to the same. Nothing here passes or fails by the clock.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::ResourceExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use support::cluster::{Cluster, User, eventually};
use support::operator::Stint;
use support::team::Team;

const GRANTS: usize = 1000;
/// What the operator has under way at most.
const PARALLEL: usize = 64;
/// Between two looks at all requests.
const PAUSE: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.expect("a cluster")));
    let program = Path::new(env!("CARGO_BIN_EXE_stint"));
    let stint = Stint::install(cluster, program, false)
        .await
        .expect("an installation");
    let stint: &'static Stint = Box::leak(Box::new(stint));
    stint.start().await;
    let team = Team::new(stint).await;
    let watch = Watch::start(&team);

    grant(&team).await;
    copy(&team).await;
    println!("{GRANTS} grants and {GRANTS} equal bindings, {PARALLEL} deletions under way");
    // Before and after, so that neither has the warmer or the emptier server.
    let first = floor(&team, &watch).await;
    let (switch, told) = switch(&team, &watch).await;
    copy(&team).await;
    let second = floor(&team, &watch).await;

    let ms = |length: SignedDuration| length.as_secs_f64() * 1000.0;
    println!("bare DELETE loop, before     {:>8.0} ms", ms(first));
    println!("patch of the policy -> gone  {:>8.0} ms", ms(switch));
    println!("bare DELETE loop, after      {:>8.0} ms", ms(second));
    let floor = (ms(first) + ms(second)) / 2.0;
    println!("ratio to the floor: {:.2} (bar: 2)", ms(switch) / floor);
    println!(
        "every status said Suspended after {:.1} s",
        told.as_secs_f64()
    );
}

/// The bindings that are there, and when the newest event came.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    last: Option<Timestamp>,
}

impl Watch {
    fn start(team: &Team) -> Watch {
        let seen = Watch::default();
        let api: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
        let watch = seen.clone();
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default());
            let mut events = Box::pin(events.filter_map(|e| std::future::ready(e.ok())));
            while let Some(event) = events.next().await {
                let mut seen = watch.0.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Apply(o) | Event::InitApply(o) => drop(seen.names.insert(o.name_any())),
                    Event::Delete(o) => {
                        seen.names.remove(&o.name_any());
                        seen.last = Some(Timestamp::now());
                    }
                    Event::Init | Event::InitDone => {}
                }
            }
        });
        seen
    }

    /// When the last binding whose name begins so went.
    async fn gone(&self, prefix: &str) -> Timestamp {
        eventually("all bindings are gone", async || {
            let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let left = seen.names.iter().any(|name| name.starts_with(prefix));
            seen.last.filter(|_| !left)
        })
        .await
    }
}

/// A thousand grants, each of a right of its own.
async fn grant(team: &Team) {
    let api = team.requests(User::Alice);
    let asking = (0..GRANTS).map(|i| {
        let rule = json!({"apiGroups": [""], "resources": ["configmaps"],
                          "resourceNames": [format!("settings-{i}")], "verbs": ["get"]});
        let request = team.request_with(
            &format!("g-{i}"),
            json!({"duration": "4h", "rules": [rule]}),
        );
        let api = api.clone();
        async move { api.create(&PostParams::default(), &request).await.map(drop) }
    });
    let asked: Result<Vec<()>, _> = futures::stream::iter(asking.collect::<Vec<_>>())
        .buffer_unordered(16)
        .try_collect()
        .await;
    asked.expect("every request is admitted");
    while saying(team, "Active").await < GRANTS {
        tokio::time::sleep(PAUSE).await;
    }
}

/// How many requests say this.
async fn saying(team: &Team, reason: &str) -> usize {
    let all = team
        .requests(User::Admin)
        .list(&ListParams::default())
        .await;
    let all = all.expect("a list").items.into_iter();
    let is = |o: &stint::api::WorkloadAccess| {
        let status = o.status.clone().unwrap_or_default();
        stint::domain::status::ready_reason(&status) == reason
    };
    all.filter(is).count()
}

/// As many RoleBindings with the same content, which nobody manages.
async fn copy(team: &Team) {
    let api: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let note = json!({"example/not-after": "2026-12-01T12:00:00Z", "example/policy": team.namespace,
        "example/service-account": format!("{}/migrator", team.namespace),
        "example/service-account-uid": "0a1b2c3d-1111-2222-3333-444455556666",
        "example/held-since": "2026-12-01T12:00:00Z", "example/workload-access": "g-1000"});
    let making = (0..GRANTS).map(|i| {
        let binding = json!({
            "metadata": {"name": format!("bare-g-{i}-0a1b2c3d"), "annotations": note,
                         "labels": {"example/grant": "0a1b2c3d-1111-2222-3333-444455556666"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bare"},
            "subjects": [{"kind": "ServiceAccount", "name": "migrator", "namespace": team.namespace}]
        });
        let binding = serde_json::from_value(binding).expect("a RoleBinding");
        let api = api.clone();
        async move { api.create(&PostParams::default(), &binding).await.map(drop) }
    });
    let made: Result<Vec<()>, _> = futures::stream::iter(making.collect::<Vec<_>>())
        .buffer_unordered(16)
        .try_collect()
        .await;
    made.expect("every binding is made");
}

async fn floor(team: &Team, watch: &Watch) -> SignedDuration {
    let api: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let sent = Timestamp::now();
    let deleting = (0..GRANTS).map(|i| {
        let api = api.clone();
        async move {
            let name = format!("bare-g-{i}-0a1b2c3d");
            api.delete(&name, &DeleteParams::background())
                .await
                .map(drop)
        }
    });
    let deleted: Result<Vec<()>, _> = futures::stream::iter(deleting.collect::<Vec<_>>())
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await;
    deleted.expect("every binding is deleted");
    watch.gone("bare-").await.duration_since(sent)
}

/// How long the switch takes, and how long until every request says so.
async fn switch(team: &Team, watch: &Watch) -> (SignedDuration, SignedDuration) {
    let sent = Timestamp::now();
    team.change_policy(json!({"suspended": true}))
        .await
        .expect("a suspended policy");
    let gone = watch.gone("stint-").await.duration_since(sent);
    // The second floor is not measured beside the writes of statuses.
    while saying(team, "Suspended").await < GRANTS {
        tokio::time::sleep(PAUSE).await;
    }
    (gone, Timestamp::now().duration_since(sent))
}
