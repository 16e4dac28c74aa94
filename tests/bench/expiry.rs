//! `make bench`: how late grants end on a real control plane, beside the floor of a bare DELETE in the same run.
//!
//! Lateness is counted from `notAfter` to the first watch event that says the binding is gone; the floor from sending a
//! DELETE of a plain RoleBinding to that event. Nothing here passes or fails by the clock, except that nothing may end
//! early.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::core::ResourceExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use support::cluster::{Cluster, User, eventually};
use support::operator::Stint;
use support::team::Team;

const GRANTS: i64 = 100;

type Gone = Arc<Mutex<HashMap<String, Timestamp>>>;

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
    let gone = watch(&team);

    let floor = floor(&team, &gone).await;
    let lateness = lateness(&team, &gone).await;
    report("bare DELETE, sent -> gone", &floor);
    report("grant, notAfter -> gone", &lateness);
    let over = |q: f64| (quantile(&lateness, q) - quantile(&floor, q)).as_secs_f64() * 1000.0;
    println!(
        "over the floor: p50 {:.1} ms, p95 {:.1} ms",
        over(0.5),
        over(0.95)
    );
    println!(
        "ratio to the floor at p50: {:.1}",
        quantile(&lateness, 0.5).as_secs_f64() / quantile(&floor, 0.5).as_secs_f64()
    );
    let early = lateness.iter().filter(|l| l.is_negative()).count();
    assert_eq!(early, 0, "{early} grants ended early");

    let backstop = backstop(&team, &gone).await;
    println!(
        "operator killed: the grant ended {:.1} s after notAfter, by its Job",
        backstop.as_secs_f64()
    );
}

/// Notes when each binding of the namespace was seen to be gone.
fn watch(team: &Team) -> Gone {
    let gone = Gone::default();
    let seen = Arc::clone(&gone);
    let api: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    tokio::spawn(async move {
        let events = watcher(api, watcher::Config::default()).into_stream();
        let mut events = Box::pin(events.filter_map(|e| std::future::ready(e.ok())));
        while let Some(event) = events.next().await {
            if let Event::Delete(binding) = event {
                let mut seen = seen.lock().expect("no test thread panics with it");
                seen.insert(binding.name_any(), Timestamp::now());
            }
        }
    });
    gone
}

async fn seen_gone(gone: &Gone, name: &str) -> Timestamp {
    eventually("the binding is gone", async || {
        gone.lock()
            .expect("no test thread panics with it")
            .get(name)
            .copied()
    })
    .await
}

async fn floor(team: &Team, gone: &Gone) -> Vec<SignedDuration> {
    let api: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let mut taken = Vec::new();
    for i in 0..GRANTS {
        let name = format!("bare-{i}");
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "none"}
        });
        let binding = serde_json::from_value(binding).expect("a RoleBinding");
        api.create(&PostParams::default(), &binding)
            .await
            .expect("a binding");
        let sent = Timestamp::now();
        api.delete(&name, &DeleteParams::default())
            .await
            .expect("a deletion");
        taken.push(seen_gone(gone, &name).await.duration_since(sent));
    }
    taken
}

/// Grants with distinct deadlines, a second apart.
async fn lateness(team: &Team, gone: &Gone) -> Vec<SignedDuration> {
    let first = stint::domain::window::round_down(Timestamp::now()) + SignedDuration::from_secs(15);
    let api = team.requests(User::Alice);
    for i in 0..GRANTS {
        let end = first + SignedDuration::from_secs(i);
        let request = team.request_with(&format!("g-{i}"), json!({"notAfter": end.to_string()}));
        api.create(&PostParams::default(), &request)
            .await
            .expect("an admitted request");
    }
    println!(
        "{GRANTS} grants, deadlines one second apart; this takes {} s",
        GRANTS + 15
    );
    let mut late = Vec::new();
    for i in 0..GRANTS {
        let object = eventually("the grant began", async || {
            let object = api.get(&format!("g-{i}")).await.ok()?;
            object
                .status
                .as_ref()
                .and_then(|s| s.role_binding.as_ref())
                .is_some()
                .then_some(object)
        })
        .await;
        let status = object.status.expect("seen above");
        let (end, name) = (
            status.not_after.expect("set with the binding").0,
            status.role_binding.expect("seen above").name,
        );
        loop {
            if let Some(at) = gone
                .lock()
                .expect("no test thread panics with it")
                .get(&name)
            {
                late.push(at.duration_since(end));
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    late
}

async fn backstop(team: &Team, gone: &Gone) -> SignedDuration {
    let granted = team.granted(&team.request("backstop", "3s")).await;
    team.stint.kill().await;
    let status = granted.status.expect("an active grant has one");
    let (end, name) = (
        status.not_after.expect("set with the binding").0,
        status.role_binding.expect("set").name,
    );
    seen_gone(gone, &name).await.duration_since(end)
}

fn quantile(all: &[SignedDuration], q: f64) -> SignedDuration {
    let mut sorted = all.to_vec();
    sorted.sort();
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

fn report(what: &str, all: &[SignedDuration]) {
    let ms = |q| quantile(all, q).as_secs_f64() * 1000.0;
    println!(
        "{what:<28} n {:>3}  p50 {:>7.1} ms  p95 {:>7.1} ms  max {:>7.1} ms  min {:>7.1} ms",
        all.len(),
        ms(0.5),
        ms(0.95),
        ms(1.0),
        ms(0.0)
    );
}
