//! How grants end on a real control plane when somebody changes them, when something else gives the same, and when the
//! operator is killed in the middle of a kill switch. The operator runs as its own ServiceAccount.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::ResourceExt;
use serde_json::{Value, json};
use stint::api::WorkloadAccess;
use stint::api::workload_access::EndReason;
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::{Team, create};
use tokio::sync::{Mutex, MutexGuard};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// These tests stop the operator or take its guard away, so each has the installation for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> (Team, MutexGuard<'static, ()>) {
    let guard = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    stint.start().await;
    (Team::new(stint).await, guard)
}

fn condition(object: &WorkloadAccess, of: &str) -> Option<Condition> {
    let conditions = &object.status.as_ref()?.conditions;
    conditions.iter().find(|c| c.type_ == of).cloned()
}

/// Waits until the request says what became of its access.
async fn verified(team: &Team, name: &str) -> Condition {
    let api = team.requests(User::Admin);
    eventually("it is verified", async || {
        condition(&api.get(name).await.ok()?, "Verified")
    })
    .await
}

async fn revoke(team: &Team, name: &str) {
    let patch = Patch::Merge(json!({"spec": {"revoked": true}}));
    let api = team.requests(User::Alice);
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn told(team: &Team, reason: &str) -> Event {
    let events: Api<Event> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    eventually("an Event says so", async || {
        let all = events.list(&ListParams::default()).await.ok()?.items;
        let is = |e: &Event| e.reason.as_deref() == Some(reason);
        all.into_iter().find(is)
    })
    .await
}

/// Runs `body` while nothing keeps others from changing what Stint made, and puts the guard back whatever happens.
async fn unguarded(team: &Team, body: impl Future<Output = ()>) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(team.stint.cluster().admin());
    let guard = bindings.get("stint-managed").await.unwrap();
    let gone = DeleteParams::default();
    bindings.delete("stint-managed", &gone).await.unwrap();
    let outcome = AssertUnwindSafe(body).catch_unwind().await;
    let again = ValidatingAdmissionPolicyBinding {
        metadata: kube::api::ObjectMeta {
            name: guard.metadata.name,
            labels: guard.metadata.labels,
            annotations: guard.metadata.annotations,
            ..Default::default()
        },
        spec: guard.spec,
    };
    bindings
        .create(&PostParams::default(), &again)
        .await
        .unwrap();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Patches one of the objects of a grant, as soon as nothing refuses that any more.
async fn tamper<K>(api: &Api<K>, name: &str, patch: Value)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(patch);
    eventually("the change is let in", async || {
        let changed = api.patch(name, &PatchParams::default(), &patch).await;
        changed.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn what_is_changed_without_the_admission_policy_is_repaired() {
    let (team, _alone) = alone().await;
    let cluster = team.stint.cluster();
    let intruder = cluster.service_account(&team.namespace, "intruder").await;
    let workload = team.workload().await;
    let granted = team.granted(&team.request("kept", "1h")).await;
    let name = granted.status.unwrap().role_binding.unwrap().name;
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.admin(), &team.namespace);
    let roles: Api<Role> = Api::namespaced(cluster.admin(), &team.namespace);
    let jobs: Api<Job> = Api::namespaced(cluster.admin(), &team.namespace);
    let deadline = |job: &Job| job.spec.as_ref().unwrap().active_deadline_seconds.unwrap();
    let judged = (
        roles.get(&name).await.unwrap().rules,
        deadline(&jobs.get(&name).await.unwrap()),
    );

    unguarded(&team, async {
        let both = json!([{"kind": "ServiceAccount", "name": "migrator", "namespace": team.namespace},
                          {"kind": "ServiceAccount", "name": "intruder", "namespace": team.namespace}]);
        tamper(&bindings, &name, json!({"subjects": both})).await;
        let since = Timestamp::now();
        eventually("the binding is the account's alone", async || {
            let subjects = bindings.get_opt(&name).await.ok()??.subjects?;
            (subjects.len() == 1 && subjects[0].name == "migrator").then_some(())
        })
        .await;
        eprintln!("the foreign subject was gone after {}", Timestamp::now().duration_since(since));
        eventually("the intruder has no access", async || {
            (!team.may_get(&intruder, "settings").await).then_some(())
        })
        .await;

        let wide = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        tamper(&roles, &name, json!({"rules": wide})).await;
        eventually("the Role gives what was judged", async || {
            (roles.get(&name).await.ok()?.rules == judged.0).then_some(())
        })
        .await;
        eventually("the account cannot read another object", async || {
            (!team.may_get(&workload, "neighbour").await).then_some(())
        })
        .await;

        tamper(&jobs, &name, json!({"spec": {"activeDeadlineSeconds": 9_999_999}})).await;
        let later = json!({"metadata": {"annotations": {"stint.dev/not-after": "2090-01-01T00:00:00Z"}}});
        tamper(&jobs, &name, later).await;
        tamper(&jobs, &name, json!({"spec": {"suspend": true}})).await;
        eventually("the Job counts down as before", async || {
            let job = jobs.get(&name).await.ok()?;
            let left = job.annotations().get("stint.dev/not-after")?.starts_with("2090");
            let counts = job.spec.as_ref()?.suspend != Some(true);
            (!left && counts && (deadline(&job) - judged.1).abs() <= 60).then_some(())
        })
        .await;
        assert!(jobs.get(&name).await.unwrap().spec.unwrap().parallelism == Some(0));
    })
    .await;

    let note = told(&team, "Drifted").await;
    assert_eq!(note.type_.as_deref(), Some("Warning"));
    team.becomes("kept", "Active").await;
    assert!(team.may_get(&workload, "settings").await);
    let (_, metrics) = team.stint.admin_get("/metrics").await.unwrap();
    for kind in ["RoleBinding", "Role", "Job"] {
        assert!(
            metrics.contains(&format!("stint_drifts_total{{kind=\"{kind}\"}}")),
            "{metrics}"
        );
    }
    eventually("the guard is back", async || {
        let change = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
        let changed = bindings
            .patch(&name, &PatchParams::default(), &change)
            .await;
        changed.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_changed_binding_ends_the_grant_where_the_policy_says_so() {
    let (team, _alone) = alone().await;
    team.change_policy(json!({"onDrift": "Revoke"}))
        .await
        .unwrap();
    let granted = team.granted(&team.request("ended", "1h")).await;
    let name = granted.status.unwrap().role_binding.unwrap().name;
    let bindings: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    unguarded(&team, async {
        let foreign =
            json!([{"kind": "ServiceAccount", "name": "other", "namespace": team.namespace}]);
        tamper(&bindings, &name, json!({"subjects": foreign})).await;
        let ended = team.becomes("ended", "Drifted").await;
        assert_eq!(ended.status.unwrap().end_reason, Some(EndReason::Drifted));
        assert!(team.bindings().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn after_every_usual_end_the_account_is_refused_and_the_status_says_so() {
    let (team, _alone) = alone().await;
    team.granted(&team.request("clock", "2s")).await;
    team.granted(&team.request_with("revoked", json!({"duration": "1h", "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a", "b"], "verbs": ["get"]}]})))
        .await;
    revoke(&team, "revoked").await;
    for (name, reason, rights) in [
        ("clock", "Expired", "1 of 1"),
        ("revoked", "Revoked", "2 of 2"),
    ] {
        team.becomes(name, reason).await;
        let verified = verified(&team, name).await;
        assert_eq!(
            (verified.status.as_str(), verified.reason.as_str()),
            ("True", "AccessGone")
        );
        assert!(verified.message.contains(rights), "{}", verified.message);
    }
}

#[tokio::test]
async fn what_another_binding_still_gives_is_found_and_named() {
    let (team, _alone) = alone().await;
    let admin = team.stint.cluster().admin();
    let role = json!({"metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    create(&admin, RBAC, "Role", &team.namespace, role).await;
    let binding = json!({"metadata": {"name": "legacy"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "migrator"}]});
    create(&admin, RBAC, "RoleBinding", &team.namespace, binding).await;
    team.granted(&team.request("doubled", "1h")).await;
    revoke(&team, "doubled").await;
    team.becomes("doubled", "Revoked").await;
    let verified = verified(&team, "doubled").await;
    assert_eq!(
        (verified.status.as_str(), verified.reason.as_str()),
        ("False", "ResidualAccess")
    );
    let named = format!(
        "get configmaps 'settings', by RoleBinding \"legacy/{}\"",
        team.namespace
    );
    assert!(verified.message.contains(&named), "{}", verified.message);
    let event = told(&team, "ResidualAccess").await;
    assert!(event.note.unwrap().contains("legacy/"));
}

#[tokio::test]
async fn two_concurrent_grants_of_one_account_end_independently() {
    let (team, _alone) = alone().await;
    let workload = team.workload().await;
    let one = |object: &str| {
        json!({"duration": "1h", "rules": [{"apiGroups": [""], "resources": ["configmaps"],
               "resourceNames": [object], "verbs": ["get"]}]})
    };
    team.granted(&team.request_with("first", one("a"))).await;
    team.granted(&team.request_with("second", one("b"))).await;
    let may = async |a: bool, b: bool| {
        eventually("the account has exactly these rights", async || {
            let now = (
                team.may_get(&workload, "a").await,
                team.may_get(&workload, "b").await,
            );
            (now == (a, b)).then_some(())
        })
        .await;
    };
    may(true, true).await;
    revoke(&team, "first").await;
    assert_eq!(verified(&team, "first").await.reason, "AccessGone");
    may(false, true).await;
    team.becomes("second", "Active").await;
    revoke(&team, "second").await;
    assert_eq!(verified(&team, "second").await.reason, "AccessGone");
    may(false, false).await;
}

#[tokio::test]
async fn killed_in_the_middle_of_a_kill_switch_the_rest_ends_after_the_restart() {
    const GRANTS: usize = 200;
    let (team, _alone) = alone().await;
    let requests = team.requests(User::Alice);
    let asking = (0..GRANTS).map(|i| {
        let (api, request) = (requests.clone(), team.request(&format!("g-{i}"), "1h"));
        async move { api.create(&PostParams::default(), &request).await.map(drop) }
    });
    futures::future::try_join_all(asking).await.unwrap();
    let saying = async |reason: &str| {
        let all = requests.list(&ListParams::default()).await.ok()?.items;
        let is = |o: &&WorkloadAccess| {
            let status = o.status.clone().unwrap_or_default();
            stint::domain::status::ready_reason(&status) == reason
        };
        (all.iter().filter(is).count() == GRANTS).then_some(())
    };
    eventually("all are active", async || saying("Active").await).await;

    team.change_policy(json!({"suspended": true}))
        .await
        .unwrap();
    while team.bindings().await.len() == GRANTS {
        tokio::task::yield_now().await;
    }
    team.stint.kill().await;
    let left = team.bindings().await.len();
    eprintln!("killed with {left} of {GRANTS} bindings left");
    assert!(left < GRANTS, "it had begun");

    team.stint.start().await;
    assert_eq!(team.bindings().await.len(), 0, "ready means swept");
    eventually("every request says so", async || saying("Suspended").await).await;
}
