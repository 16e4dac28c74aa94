//! The fake API server under a real reflector, in virtual time. What it must answer is in the conformance table; here are
//! the things that only the fake has.

use futures::StreamExt;
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde_json::json;
use std::time::Duration;
use support::fake_api::{FakeApi, on};

fn server() -> FakeApi {
    let api = FakeApi::new("2030-01-01T00:00:00Z".parse().unwrap());
    api.namespace("n", json!({}));
    api
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}})).unwrap()
}

/// A reflector over the ConfigMaps of namespace `n`, polled in its own task.
fn reflect(api: &FakeApi) -> reflector::Store<ConfigMap> {
    reflect_with(api, watcher::Config::default())
}

fn reflect_with(api: &FakeApi, config: watcher::Config) -> reflector::Store<ConfigMap> {
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "n");
    let (reader, writer) = reflector::store();
    let stream = watcher(maps, config)
        .default_backoff()
        .reflect(writer)
        .applied_objects();
    tokio::spawn(stream.for_each(|_| std::future::ready(())));
    reader
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn a_reflector_follows_writes_through_ended_and_compacted_watches() {
    let api = server();
    let store = reflect(&api);
    store.wait_until_ready().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "n");
    maps.create(&PostParams::default(), &config_map("a"))
        .await
        .unwrap();
    until("the first object is seen", || store.len() == 1).await;

    api.end_watches();
    maps.create(&PostParams::default(), &config_map("b"))
        .await
        .unwrap();
    until("the second object is seen", || store.len() == 2).await;

    api.clear_calls();
    api.drop_event(1);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    api.compact();
    api.end_watches();
    until("a list after 410 finds what the watch lost", || {
        store.len() == 1
    })
    .await;
    assert_eq!(api.lists().len(), 1, "only 410 makes a new list");
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_costs_watches_and_no_list() {
    let api = server();
    let store = reflect(&api);
    store.wait_until_ready().await.unwrap();
    api.clear_calls();
    let started = api.now();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(api.now().duration_since(started).as_secs(), 3_600);
    assert_eq!((api.lists().len(), api.writes().len()), (0, 0));
    assert!(api.calls().len() >= 12, "watches are renewed every 290 s");
}

#[tokio::test(start_paused = true)]
async fn doubled_and_late_events_reach_the_reflector() {
    let api = server();
    let store = reflect(&api);
    store.wait_until_ready().await.unwrap();
    api.delay_event(1, Duration::from_secs(10));
    api.double_event(2);
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "n");
    for name in ["late", "twice"] {
        maps.create(&PostParams::default(), &config_map(name))
            .await
            .unwrap();
    }
    until("the later object is seen first", || store.len() == 1).await;
    assert_eq!(store.state()[0].metadata.name.as_deref(), Some("twice"));
    until("the late object is seen", || store.len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_write_is_kept_and_its_client_is_silenced() {
    let api = server();
    let doomed: Api<ConfigMap> = Api::namespaced(api.client_as("doomed", &[]), "n");
    let cut = api.cut_after_write(2);
    let work = tokio::spawn(async move {
        for name in ["first", "second", "third"] {
            doomed
                .create(&PostParams::default(), &config_map(name))
                .await
                .unwrap();
        }
    });
    cut.notified().await;
    assert!(!work.is_finished(), "the second write is never answered");
    work.abort();
    assert!(api.get("configmaps", "n", "second").is_some());
    assert!(api.get("configmaps", "n", "third").is_none());
    assert_eq!(api.writes().last().unwrap().status, 0);
    let other: Api<ConfigMap> = Api::namespaced(api.client(), "n");
    other
        .create(&PostParams::default(), &config_map("third"))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn injected_refusals_carry_a_status_and_change_nothing() {
    let api = server();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "n");
    api.fail_write(2, 500);
    api.fail_next(on("PATCH", "configmaps"), 403);
    maps.create(&PostParams::default(), &config_map("a"))
        .await
        .unwrap();
    let second = maps
        .create(&PostParams::default(), &config_map("b"))
        .await
        .unwrap_err();
    assert!(
        matches!(&second, kube::Error::Api(s) if s.code == 500 && s.reason == "InternalError"),
        "{second}"
    );
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    let refused = maps
        .patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(s) if s.is_forbidden()),
        "{refused}"
    );
    let kept = api.get("configmaps", "n", "a").unwrap();
    assert_eq!(kept["data"]["a"], "1");
    maps.patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn admission_refuses_what_the_test_says() {
    let api = server();
    api.on_admission(|verb, object| {
        let refused = verb == "create" && object["kind"] == "ConfigMap";
        if refused {
            Err((403, "exceeded quota".into()))
        } else {
            Ok(())
        }
    });
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "n");
    let refused = maps
        .create(&PostParams::default(), &config_map("a"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("exceeded quota"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn reflectors_that_page_or_stream_their_first_list_see_everything() {
    let api = server();
    for i in 0..5 {
        api.seed(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{i}"), "namespace": "n"}}));
    }
    let paged = reflect_with(&api, watcher::Config::default().page_size(2));
    let streamed = reflect_with(&api, watcher::Config::default().streaming_lists());
    for store in [paged, streamed] {
        store.wait_until_ready().await.unwrap();
        assert_eq!(store.len(), 5);
    }
    assert_eq!(
        api.lists().len(),
        3,
        "three pages, and no list for the streamed one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_compacted_list_is_gone() {
    let api = server();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "n");
    for name in ["a", "b"] {
        maps.create(&PostParams::default(), &config_map(name))
            .await
            .unwrap();
    }
    let one = ListParams::default().limit(1);
    let token = maps.list(&one).await.unwrap().metadata.continue_.unwrap();
    maps.create(&PostParams::default(), &config_map("c"))
        .await
        .unwrap();
    api.compact();
    let refused = maps.list(&one.continue_token(&token)).await.unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(s) if s.code == 410 && s.reason == "Expired"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_native_deadline_of_an_hour_takes_an_hour() {
    let api = server();
    api.with_controller_manager();
    let jobs: Api<Job> = Api::namespaced(api.client(), "n");
    let job = json!({"metadata": {"name": "j"}, "spec": {"parallelism": 0, "activeDeadlineSeconds": 3605,
        "ttlSecondsAfterFinished": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}}});
    let job = serde_json::from_value(job).unwrap();
    let job = jobs.create(&PostParams::default(), &job).await.unwrap();
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job.metadata.uid});
    api.seed(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "n", "ownerReferences": [owner]}}),
    );
    let started = api.now();
    until("the binding is gone", || {
        api.get("rolebindings", "n", "b").is_none()
    })
    .await;
    let took = api.now().duration_since(started).as_secs();
    assert!((3605..=3606).contains(&took), "took {took} s");
    assert!(api.get("jobs", "n", "j").is_none());
    assert_eq!(api.writes().len(), 1, "controllers are not in the log");
}
