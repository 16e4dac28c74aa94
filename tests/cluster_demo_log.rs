//! `kubectl stint suggest` on the audit log of the project's own demo: what it proposes, granted by Stint, lets the demo's workload do
//! what it did, and without it, by the kill switch, that breaks.

#[path = "demo/story.rs"]
mod story;
#[path = "demo/terminal.rs"]
mod terminal;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use std::path::Path;
use stint::api::{AccessPolicy, WorkloadAccess};
use support::cluster::{Cluster, User, eventually};
use support::command::stint;
use support::operator::Stint;

const NAMESPACE: &str = "payments";

#[tokio::test]
async fn what_the_demo_did_is_proposed_and_nothing_else_and_is_enough() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::audited().await.unwrap()));
    let program = Path::new(env!("CARGO_BIN_EXE_stint"));
    let operator = Stint::install(cluster, program, false).await.unwrap();
    let operator: &'static Stint = Box::leak(Box::new(operator));
    operator.start().await;
    let steps = story::tell(operator).await;
    assert_eq!(terminal::summary(&steps), 0, "a step came out otherwise");
    // Its last step is about the operator being gone.
    operator.start().await;

    let log = cluster.dir().join("audit.log");
    let args = [
        "suggest",
        log.to_str().unwrap(),
        "--account",
        "payments/migrator",
        "-o",
        "yaml",
    ];
    let ended = stint(cluster, User::Admin, &args).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    let made: Vec<Value> = serde_saphyr::from_multiple(&ended.out).unwrap();
    let [policy, proposed] = &made[..] else {
        panic!("{}", ended.out)
    };
    // What it was refused, another ConfigMap, is not in it.
    assert_eq!(
        proposed["spec"]["rules"],
        json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["billing-settings"], "verbs": ["get"]}])
    );

    let admin = cluster.admin();
    let client = cluster.service_account(NAMESPACE, "migrator").await;
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let works = async || maps.get("billing-settings").await.is_ok();
    assert!(!works().await, "nothing gives it any more");
    let policies: Api<AccessPolicy> = Api::all(admin.clone());
    let nobody = Default::default();
    policies.delete("payments-jobs", &nobody).await.unwrap();
    let policy: AccessPolicy = serde_json::from_value(policy.clone()).unwrap();
    policies.create(&Default::default(), &policy).await.unwrap();
    let requests: Api<DynamicObject> =
        Api::namespaced_with(admin, NAMESPACE, &ApiResource::erase::<WorkloadAccess>(&()));
    let request: DynamicObject = serde_json::from_value(proposed.clone()).unwrap();
    // Policy and rights reach Stint by watches.
    eventually("the proposal is admitted", async || {
        requests.create(&Default::default(), &request).await.ok()
    })
    .await;
    eventually("the same client does the same work", async || {
        works().await.then_some(())
    })
    .await;
    assert!(maps.get("billing-secrets").await.is_err());
    // In its namespace, not in all of them, and on no path.
    for (asked, holds) in [
        (
            &["configmaps", "billing-settings", "-n", NAMESPACE][..],
            true,
        ),
        (&["configmaps", "billing-settings", "-A"], false),
        (&["/metrics"], false),
    ] {
        let all = [&["who-can", "get"], asked].concat();
        let ended = stint(cluster, User::Admin, &all).await;
        assert_eq!(ended.status, 0, "{}", ended.err);
        assert!(ended.out.contains("Group system:masters"), "{}", ended.out);
        let listed = ended.out.contains("ServiceAccount payments/migrator");
        assert_eq!(listed, holds, "{asked:?}: {}", ended.out);
    }
    let ended = stint(cluster, User::Admin, &["lockdown", "--all", "--yes"]).await;
    assert_eq!(ended.status, 0, "{}{}", ended.out, ended.err);
    eventually("without it the work breaks", async || {
        (!works().await).then_some(())
    })
    .await;
}
