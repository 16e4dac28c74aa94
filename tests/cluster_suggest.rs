//! `kubectl stint suggest` on the audit log of a real API server: what it proposes is granted by Stint and is enough for the same
//! work, and each of its rules is needed. The operator runs as its own ServiceAccount.

use http::Request;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use stint::api::AccessPolicy;
use support::cluster::{Cluster, User, eventually};
use support::operator::Stint;
use support::team::create;
use tokio::process::Command;

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const NAMESPACE: &str = "payments";

/// One request of the work: whether it is on the whole cluster, method, path below the namespace or whole, and body.
type Step = (bool, &'static str, &'static str, &'static str);

/// All of it, in this order. No node is there, so nothing runs: an eviction and an exec are allowed and find no pod.
const WORK: [Step; 15] = [
    (
        false,
        "GET",
        "/api/v1/namespaces/payments/configmaps/settings",
        "",
    ),
    (
        false,
        "GET",
        "/api/v1/namespaces/payments/configmaps/limits",
        "",
    ),
    (
        false,
        "GET",
        "/api/v1/namespaces/payments/secrets?limit=5",
        "",
    ),
    (
        false,
        "GET",
        "/api/v1/namespaces/payments/pods?watch=true&timeoutSeconds=1",
        "",
    ),
    (
        false,
        "GET",
        "/apis/coordination.k8s.io/v1/namespaces/payments/leases?fieldSelector=metadata.name%3Dmigrator",
        "",
    ),
    (
        false,
        "POST",
        "/api/v1/namespaces/payments/configmaps",
        r#"{"metadata":{"name":"made"}}"#,
    ),
    (
        false,
        "PUT",
        "/api/v1/namespaces/payments/configmaps/made",
        r#"{"metadata":{"name":"made"},"data":{"a":"b"}}"#,
    ),
    (
        false,
        "DELETE",
        "/api/v1/namespaces/payments/configmaps/made",
        "",
    ),
    (
        false,
        "APPLY",
        "/apis/coordination.k8s.io/v1/namespaces/payments/leases/applied?fieldManager=migrator",
        r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"applied"}}"#,
    ),
    (
        false,
        "DELETE",
        "/apis/coordination.k8s.io/v1/namespaces/payments/leases/applied",
        "",
    ),
    (
        false,
        "GET",
        "/apis/apps/v1/namespaces/payments/deployments/billing-api/scale",
        "",
    ),
    (
        false,
        "POST",
        "/api/v1/namespaces/payments/pods/gone/eviction",
        r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"gone"}}"#,
    ),
    (
        false,
        "WEBSOCKET",
        "/api/v1/namespaces/payments/pods/gone/exec?command=true&stdout=true",
        "",
    ),
    (true, "GET", "/api/v1/nodes", ""),
    (true, "GET", "/metrics", ""),
];

/// Does all of it, and says which steps were refused.
async fn work(client: &Client) -> BTreeSet<usize> {
    let mut refused = BTreeSet::new();
    for (index, (_, method, path, body)) in WORK.iter().enumerate() {
        let status = send(client, method, path, body).await;
        // Everything else, such as 404, was allowed.
        if status == 403 {
            refused.insert(index);
        }
    }
    refused
}

async fn send(client: &Client, method: &str, path: &str, body: &'static str) -> u16 {
    let request = match method {
        "APPLY" => Request::patch(path).header("content-type", "application/apply-patch+yaml"),
        "WEBSOCKET" => Request::get(path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "c3RpbnQtc3RpbnQtc3Rpbg==")
            .header("sec-websocket-protocol", "v5.channel.k8s.io"),
        method => Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json"),
    };
    let answer = client
        .send(request.body(Body::from(body.as_bytes().to_vec())).unwrap())
        .await
        .unwrap();
    let status = answer.status().as_u16();
    // To its end, so that a watch is over.
    use http_body_util::BodyExt;
    let _ = answer.into_body().collect().await;
    status
}

/// The plugin as a user of this cluster. What it printed goes to the log of the test, for the pages.
async fn stint(cluster: &Cluster, args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-stint"))
        .args(args)
        .current_dir(cluster.dir())
        .env("KUBECONFIG", cluster.kubeconfig(User::Admin))
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    eprintln!(
        "$ kubectl stint {}\n{}{}[{:?}]",
        args.join(" "),
        text(&output.stdout),
        text(&output.stderr),
        output.status.code()
    );
    output
}

/// Everything that the work needs and more, standing.
async fn standing(admin: &Client) {
    let subjects = json!([{"kind": "ServiceAccount", "name": "migrator", "namespace": NAMESPACE}]);
    let reference = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let leases = json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]}]);
    create(
        admin,
        RBAC,
        "ClusterRole",
        "",
        json!({"metadata": {"name": "leases"}, "rules": leases}),
    )
    .await;
    let cluster = json!([
        {"apiGroups": [""], "resources": ["nodes", "persistentvolumes"], "verbs": ["get", "list", "watch"]},
        {"nonResourceURLs": ["/metrics", "/logs"], "verbs": ["get"]}
    ]);
    create(
        admin,
        RBAC,
        "ClusterRole",
        "",
        json!({"metadata": {"name": "inventory"}, "rules": cluster}),
    )
    .await;
    for (binding, role) in [("migrator-edit", "edit"), ("migrator-leases", "leases")] {
        let object = json!({"metadata": {"name": binding}, "roleRef": reference(role), "subjects": subjects});
        create(admin, RBAC, "RoleBinding", NAMESPACE, object).await;
    }
    let object = json!({"metadata": {"name": "migrator-inventory"}, "roleRef": reference("inventory"), "subjects": subjects});
    create(admin, RBAC, "ClusterRoleBinding", "", object).await;
}

async fn without_standing(admin: &Client) {
    let now = DeleteParams::default();
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), NAMESPACE);
    for name in ["migrator-edit", "migrator-leases"] {
        bindings.delete(name, &now).await.unwrap();
    }
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    bindings.delete("migrator-inventory", &now).await.unwrap();
}

async fn objects(admin: &Client) {
    create(
        admin,
        "v1",
        "Namespace",
        "",
        json!({"metadata": {"name": NAMESPACE}}),
    )
    .await;
    create(
        admin,
        "v1",
        "ServiceAccount",
        NAMESPACE,
        json!({"metadata": {"name": "migrator"}}),
    )
    .await;
    for name in ["settings", "limits"] {
        create(
            admin,
            "v1",
            "ConfigMap",
            NAMESPACE,
            json!({"metadata": {"name": name}}),
        )
        .await;
    }
    let labels = json!({"app": "billing-api"});
    let container = json!({"name": "main", "image": "example.invalid/billing-api"});
    create(
        admin,
        "apps/v1",
        "Deployment",
        NAMESPACE,
        json!({"metadata": {"name": "billing-api"}, "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        }}),
    )
    .await;
}

fn requests(admin: &Client, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("stint.dev", "v1alpha1", kind));
    match kind {
        "WorkloadAccess" => Api::namespaced_with(admin.clone(), NAMESPACE, &resource),
        _ => Api::all_with(admin.clone(), &resource),
    }
}

/// Creates a request, again while its policy is not ready yet, and waits until it is active.
async fn granted(admin: &Client, object: &Value) {
    let api = requests(admin, object);
    let wanted: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let mut last = String::new();
    eventually("the request is admitted", async || {
        match api.create(&PostParams::default(), &wanted).await {
            Ok(_) => Some(()),
            Err(error) => {
                let why = error.to_string();
                if why != last {
                    eprintln!("{why}");
                    last = why;
                }
                None
            }
        }
    })
    .await;
    let name = wanted.name_any();
    eventually("the request is active", async || {
        let object = api.get(&name).await.ok()?;
        let conditions = object.data["status"]["conditions"].as_array()?.clone();
        let ready = conditions.into_iter().find(|c| c["type"] == "Ready")?;
        let words = format!("{name}: {} {}", ready["reason"], ready["message"]);
        if words != last {
            eprintln!("{words}");
            last = words;
        }
        (ready["reason"] == "Active").then_some(())
    })
    .await;
}

async fn revoked(admin: &Client, object: &Value) {
    let patch = Patch::Merge(json!({"spec": {"revoked": true}}));
    let name = object["metadata"]["name"].as_str().unwrap();
    requests(admin, object)
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// The steps on the whole cluster, or in the namespace.
fn steps(wide: bool) -> BTreeSet<usize> {
    (0..WORK.len())
        .filter(|index| WORK[*index].0 == wide)
        .collect()
}

async fn until_refused(client: &Client, what: &str, expected: &BTreeSet<usize>) {
    eventually(what, async || {
        expected.is_subset(&work(client).await).then_some(())
    })
    .await;
}

/// The platform team lets Stint hand out what is proposed, and nothing else.
async fn grantable(admin: &Client, proposed: &[Value]) {
    let rules: Vec<&Value> = proposed
        .iter()
        .flat_map(|object| object["spec"]["rules"].as_array().unwrap())
        .collect();
    let role = json!({"metadata": {"name": "proposed", "labels": {"rbac.stint.dev/grantable": "true"}}, "rules": rules});
    create(admin, RBAC, "ClusterRole", "", role).await;
}

#[tokio::test]
async fn what_is_proposed_is_enough_for_the_same_work_and_each_rule_of_it_is_needed() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::audited().await.unwrap()));
    let operator = Stint::install(cluster, Path::new(env!("CARGO_BIN_EXE_stint")), true)
        .await
        .unwrap();
    operator.start().await;
    let admin = cluster.admin();
    objects(&admin).await;
    standing(&admin).await;
    let client = cluster.service_account(NAMESPACE, "migrator").await;
    eventually("the standing rights hold", async || {
        work(&client).await.is_empty().then_some(())
    })
    .await;
    let refused = send(&client, "DELETE", "/api/v1/nodes/node-1", "").await;
    assert_eq!(refused, 403);
    let log = std::fs::read_to_string(cluster.dir().join("audit.log")).unwrap();
    assert!(!log.contains("\"level\":\"Request"), "no bodies are needed");

    let of_it = ["suggest", "audit.log", "--account", "payments/migrator"];
    let table = stint(cluster, &[&of_it[..], &["--online"]].concat()).await;
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("delete nodes named node-1"), "{text}");
    assert!(
        text.contains("RoleBinding payments/migrator-edit"),
        "{text}"
    );
    let yaml = stint(
        cluster,
        &[&of_it[..], &["-o", "yaml", "--for", "30m"]].concat(),
    )
    .await;
    assert_eq!(yaml.status.code(), Some(0));
    std::fs::write(cluster.dir().join("migrator.yaml"), &yaml.stdout).unwrap();
    let linted = stint(cluster, &["lint", "migrator.yaml"]).await;
    assert_eq!(linted.status.code(), Some(0));
    let made: Vec<Value> =
        serde_saphyr::from_multiple(std::str::from_utf8(&yaml.stdout).unwrap()).unwrap();
    let (policies, proposed): (Vec<Value>, Vec<Value>) = made
        .into_iter()
        .partition(|object| object["kind"] == "AccessPolicy");
    assert_eq!((policies.len(), proposed.len()), (2, 2));

    without_standing(&admin).await;
    let all: BTreeSet<usize> = (0..WORK.len()).collect();
    until_refused(&client, "the standing rights are gone", &all).await;
    grantable(&admin, &proposed).await;
    let api: Api<AccessPolicy> = Api::all(admin.clone());
    for policy in &policies {
        api.create(
            &PostParams::default(),
            &serde_json::from_value(policy.clone()).unwrap(),
        )
        .await
        .unwrap();
    }
    for object in &proposed {
        granted(&admin, object).await;
    }
    eventually("the grants are enough for the work", async || {
        work(&client).await.is_empty().then_some(())
    })
    .await;
    let after = stint(cluster, &[&of_it[..], &["--online"]].concat()).await;
    let text = String::from_utf8(after.stdout).unwrap();
    assert!(text.contains("WorkloadAccess payments/migrator "), "{text}");
    assert!(
        text.contains("RoleBinding payments/migrator-edit (gone)"),
        "{text}"
    );

    for object in &proposed {
        each_rule_is_needed(&admin, &client, object).await;
    }
    nothing_else_was_stored(&admin).await;
}

/// Grants all rules but one, in turn, and the work is refused something in that place.
async fn each_rule_is_needed(admin: &Client, client: &Client, object: &Value) {
    let mine = steps(object["kind"] == "ClusterWorkloadAccess");
    revoked(admin, object).await;
    until_refused(client, "the grant is gone", &mine).await;
    let rules = object["spec"]["rules"].as_array().unwrap();
    assert!(rules.len() > 1, "{object:#}");
    for (index, rule) in rules.iter().enumerate() {
        let mut less = object.clone();
        less["metadata"]["name"] = format!("less-{index}").into();
        less["spec"]["rules"].as_array_mut().unwrap().remove(index);
        granted(admin, &less).await;
        let refused = eventually("the other rules hold", async || {
            let refused: BTreeSet<usize> =
                work(client).await.intersection(&mine).copied().collect();
            (refused.len() < mine.len()).then_some(refused)
        })
        .await;
        eprintln!("without {rule}: {refused:?}");
        assert!(!refused.is_empty(), "not needed: {rule}");
        revoked(admin, &less).await;
        until_refused(client, "the grant is gone", &mine).await;
    }
}

/// The work was the same each time: it takes away what it makes.
async fn nothing_else_was_stored(admin: &Client) {
    let leases =
        ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"));
    let api: Api<DynamicObject> = Api::namespaced_with(admin.clone(), NAMESPACE, &leases);
    let left = api.list(&ListParams::default()).await.unwrap().items;
    assert!(left.is_empty(), "{left:?}");
}
