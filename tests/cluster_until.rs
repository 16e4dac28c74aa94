//! Grants that end with the work they are for, on a real control plane. The operator runs as its own ServiceAccount.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use stint::api::WorkloadAccess;
use stint::api::workload_access::EndReason;
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::{Team, create};

async fn team() -> Team {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let team = Team::new(stint).await;
    let settings = json!({"metadata": {"name": "settings"}, "data": {"a": "b"}});
    let admin = stint.cluster().admin();
    create(&admin, "v1", "ConfigMap", &team.namespace, settings).await;
    team
}

/// A Job that is not finished and of which kube-controller-manager makes no pod.
async fn work(team: &Team, name: &str) -> Value {
    let job = json!({"metadata": {"name": name}, "spec": {"parallelism": 0, "template": {"spec": {
        "restartPolicy": "Never", "serviceAccountName": "migrator",
        "containers": [{"name": "c", "image": "none.invalid/none"}]}}}});
    create(
        &team.stint.cluster().admin(),
        "batch/v1",
        "Job",
        &team.namespace,
        job,
    )
    .await
}

fn until(name: &str) -> Value {
    json!({"duration": "1h", "until": {"apiVersion": "batch/v1", "kind": "Job", "name": name}})
}

/// A Pod that is scheduled nowhere, of this account.
async fn pod(team: &Team, name: &str, account: &str) -> Value {
    let pod = json!({"metadata": {"name": name}, "spec": {"serviceAccountName": account,
        "schedulerName": "nobody", "containers": [{"name": "c", "image": "none.invalid/none"}]}});
    create(
        &team.stint.cluster().admin(),
        "v1",
        "Pod",
        &team.namespace,
        pod,
    )
    .await
}

fn acting(pod: &Value) -> Value {
    let metadata = &pod["metadata"];
    json!({"duration": "1h",
           "workloadRef": {"kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}})
}

async fn complete(team: &Team, name: &str) {
    let jobs: Api<Job> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let job = jobs.get(name).await.unwrap();
    let now = job.metadata.creation_timestamp.unwrap().0.to_string();
    let condition = |type_: &str| json!({"type": type_, "status": "True", "lastProbeTime": now, "lastTransitionTime": now});
    let status = json!({"status": {"startTime": now, "completionTime": now, "succeeded": 1,
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}});
    let patched = jobs
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await;
    patched.unwrap();
}

/// How long until the team has no binding any more.
async fn until_gone(team: &Team) -> Duration {
    let began = Instant::now();
    eventually("the binding is gone", async || {
        team.bindings().await.is_empty().then_some(())
    })
    .await;
    began.elapsed()
}

async fn refused(team: &Team, workload: &kube::Client) {
    eventually("access is refused", async || {
        (!team.may_get(workload, "settings").await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn access_ends_when_the_job_completes() {
    let team = team().await;
    let job = work(&team, "migrate").await;
    team.granted(&team.request_with("a", until("migrate")))
        .await;
    let workload = team.workload().await;
    eventually("access is there", async || {
        team.may_get(&workload, "settings").await.then_some(())
    })
    .await;
    let jobs: Api<Job> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let made = &team.bindings().await[0].metadata.name.clone().unwrap();
    let deadline = jobs.get(made).await.unwrap().metadata.annotations.unwrap();
    assert_eq!(
        json!(deadline["stint.dev/until-uid"]),
        job["metadata"]["uid"]
    );

    complete(&team, "migrate").await;
    let late = until_gone(&team).await;
    eprintln!(
        "the binding was gone {} ms after its Job was complete",
        late.as_millis()
    );
    refused(&team, &workload).await;
    let status = team.becomes("a", "Completed").await.status.unwrap();
    assert_eq!(status.end_reason, Some(EndReason::Completed));
}

#[tokio::test]
async fn a_job_that_appears_later_is_recorded_and_its_deletion_ends_access() {
    let team = team().await;
    team.granted(&team.request_with("a", until("later"))).await;
    let job = work(&team, "later").await;
    let jobs: Api<Job> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let made = team.bindings().await[0].metadata.name.clone().unwrap();
    eventually("the Job is recorded", async || {
        let annotations = jobs.get(&made).await.ok()?.metadata.annotations?;
        let recorded = annotations.get("stint.dev/until-uid")?.clone();
        (json!(recorded) == job["metadata"]["uid"]).then_some(())
    })
    .await;
    jobs.delete("later", &DeleteParams::background())
        .await
        .unwrap();
    let late = until_gone(&team).await;
    eprintln!(
        "the binding was gone {} ms after its Job was deleted",
        late.as_millis()
    );
    team.becomes("a", "Completed").await;
}

#[tokio::test]
async fn a_request_for_work_that_is_done_is_stored_and_never_access() {
    let team = team().await;
    work(&team, "done").await;
    complete(&team, "done").await;
    let request: WorkloadAccess = team.request_with("a", until("done"));
    let api = team.requests(User::Alice);
    api.create(&PostParams::default(), &request).await.unwrap();
    let status = team.becomes("a", "Completed").await.status.unwrap();
    assert_eq!(status.activated_time, None);
    assert!(team.bindings().await.is_empty());
}

#[tokio::test]
async fn kinds_that_are_not_listed_are_refused_by_schema_or_webhook() {
    let team = team().await;
    let mut request = json!({"duration": "1h",
        "until": {"apiVersion": "v1", "kind": "Secret", "name": "s", "condition": {"type": "Done"}}});
    let text = team
        .refused_with(&team.request_with("a", request.clone()), "WA-UNTIL")
        .await;
    assert!(text.contains("apps/v1 Deployment"), "{text}");
    request["until"]
        .as_object_mut()
        .unwrap()
        .remove("condition");
    let text = team
        .refused_with(&team.request_with("a", request), "WA-UNTIL")
        .await;
    assert!(text.contains("must set `condition`"), "{text}");
}

#[tokio::test]
async fn references_are_immutable() {
    let team = team().await;
    work(&team, "migrate").await;
    team.granted(&team.request_with("a", until("migrate")))
        .await;
    let api = team.requests(User::Alice);
    for spec in [
        json!({"until": null}),
        json!({"until": {"name": "another"}}),
        json!({"workloadRef": {"kind": "Pod", "name": "p", "uid": "u"}}),
    ] {
        let patch = Patch::Merge(json!({"spec": spec}));
        let answer = api.patch("a", &PatchParams::default(), &patch).await;
        let text = answer.unwrap_err().to_string();
        assert!(text.contains("WA-IMMUTABLE"), "{text}");
    }
}

#[tokio::test]
async fn only_a_pod_that_runs_as_the_account_acts_and_access_ends_with_it() {
    let team = team().await;
    let admin = team.stint.cluster().admin();
    let other = json!({"metadata": {"name": "other"}});
    create(&admin, "v1", "ServiceAccount", &team.namespace, other).await;
    let stranger = pod(&team, "stranger", "other").await;
    let text = team
        .refused_with(&team.request_with("a", acting(&stranger)), "WA-WORKLOAD")
        .await;
    assert!(
        text.contains(&format!("'{}/other'", team.namespace)),
        "{text}"
    );

    let own = pod(&team, "own", "migrator").await;
    team.granted(&team.request_with("a", acting(&own))).await;
    let pods: Api<Pod> = Api::namespaced(admin, &team.namespace);
    pods.delete("own", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let late = until_gone(&team).await;
    eprintln!(
        "the binding was gone {} ms after its Pod was deleted",
        late.as_millis()
    );
    let status = team.becomes("a", "WorkloadGone").await.status.unwrap();
    assert_eq!(status.end_reason, Some(EndReason::WorkloadGone));
}
