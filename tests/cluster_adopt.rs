//! `kubectl stint adopt` on a real control plane: what it leaves alone, and an account that is moved, or not.

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use stint::api::{AccessPolicy, WorkloadAccess};
use stint::cluster::authz;
use stint::domain::grant::Account;
use stint::domain::verification::{self, Question, Target};
use support::cluster::{User, eventually};
use support::command::{self, Ended, stint};
use support::operator::Stint;
use support::team::{Team, create};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

async fn team() -> Team {
    Team::new(Stint::shared_wide(env!("CARGO_BIN_EXE_stint")).await).await
}

fn account(team: &Team, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": team.namespace})
}

fn alice() -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"})
}

/// A role of the namespace, or by an empty namespace of the cluster, and a binding to it.
async fn bind(team: &Team, namespace: &str, name: &str, rules: Value, subjects: Value) {
    let admin = team.stint.cluster().admin();
    let (role, binding) = match namespace {
        "" => ("ClusterRole", "ClusterRoleBinding"),
        _ => ("Role", "RoleBinding"),
    };
    let meta = json!({"name": name});
    let object = json!({"metadata": meta, "rules": rules});
    create(&admin, RBAC, role, namespace, object).await;
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name});
    let object = json!({"metadata": meta, "roleRef": reference, "subjects": subjects});
    create(&admin, RBAC, binding, namespace, object).await;
}

/// What Stint may grant beside what it always may.
async fn grantable(team: &Team, name: &str, rules: Value) {
    let admin = team.stint.cluster().admin();
    let labels = json!({"rbac.stint.dev/grantable": "true"});
    let object = json!({"metadata": {"name": format!("{name}-{}", team.namespace), "labels": labels}, "rules": rules});
    create(&admin, RBAC, "ClusterRole", "", object).await;
}

async fn adopt(team: &Team, user: User, more: &[&str]) -> Ended {
    let args = [&["adopt", "-n", &team.namespace], more].concat();
    stint(team.stint.cluster(), user, &args).await
}

fn backup(team: &Team) -> PathBuf {
    let cluster = team.stint.cluster();
    cluster.dir().join(format!("backup-{}", team.namespace))
}

async fn moved(team: &Team) -> Ended {
    let folder = backup(team);
    let args = ["--serviceaccount", "migrator", "--apply", "--yes"];
    adopt(
        team,
        User::Admin,
        &[&args[..], &["--backup", folder.to_str().unwrap()]].concat(),
    )
    .await
}

/// What the account may do, of many verbs on many resources, by the API server's answer.
async fn rights(team: &Team) -> BTreeSet<String> {
    let migrator = Account {
        namespace: team.namespace.clone(),
        name: "migrator".into(),
    };
    let subject = verification::Subject::account(&migrator, "");
    let client = team.stint.cluster().admin();
    let mut held = BTreeSet::new();
    for (group, resource) in [
        ("", "configmaps"),
        ("", "pods"),
        ("", "secrets"),
        ("", "nodes"),
        ("apps", "deployments"),
        ("rbac.authorization.k8s.io", "rolebindings"),
    ] {
        for verb in [
            "get", "list", "watch", "create", "update", "patch", "delete",
        ] {
            for name in ["", "settings"] {
                for namespace in [Some(team.namespace.as_str()), Some("default"), None] {
                    let question = Question {
                        verb: verb.into(),
                        on: Target::Resource {
                            group: group.into(),
                            resource: resource.into(),
                            subresource: String::new(),
                            name: name.into(),
                        },
                    };
                    let answer = authz::still_may(&client, &subject, namespace, &question);
                    if answer.await.unwrap().is_some() {
                        held.insert(format!("{namespace:?}: {question}"));
                    }
                }
            }
        }
    }
    held
}

/// Everything of the namespace that an unfinished move could leave.
async fn left(team: &Team) -> (usize, usize) {
    let admin = team.stint.cluster().admin();
    let requests: Api<WorkloadAccess> = Api::namespaced(admin.clone(), &team.namespace);
    let policies: Api<AccessPolicy> = Api::all(admin);
    let all = ListParams::default();
    let requests = requests.list(&all).await.unwrap().items.len();
    let home = team.namespace.as_str();
    let mut policies = policies.list(&all).await.unwrap().items;
    policies.retain(|policy| {
        let selector = policy.spec.namespace_selector.match_labels.iter().flatten();
        policy.metadata.name.as_deref() != Some(home)
            && selector.into_iter().any(|(_, value)| value == home)
    });
    (requests, policies.len())
}

async fn subjects(team: &Team, binding: &str) -> Option<Vec<Subject>> {
    let api: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let binding = api.get_opt(binding).await.unwrap()?;
    Some(binding.subjects.unwrap_or_default())
}

#[tokio::test]
async fn what_kubernetes_binds_is_left_alone() {
    let team = team().await;
    let ended = stint(
        team.stint.cluster(),
        User::Admin,
        &["adopt", "-A", "-o", "json"],
    )
    .await;
    let report: Value =
        serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{}", ended.err));
    // What Kubernetes 1.33 binds at its start is more than this.
    assert!(
        report["leftAlone"]["kubernetes"].as_u64().unwrap() > 30,
        "{}",
        report["leftAlone"]
    );
    for item in report["items"].as_array().unwrap() {
        let subject = item["subject"].as_str().unwrap();
        assert!(!subject.starts_with("kube-"), "{item:#}");
        assert!(!item["findings"].as_array().unwrap().is_empty(), "{item:#}");
        if item["decision"] == "keep" {
            assert!(!item["why"].as_array().unwrap().is_empty(), "{item:#}");
        }
    }
    // Stint itself is told, and stays.
    let items = report["items"].as_array().unwrap().iter();
    let mut own = items.filter(|item| item["why"][0]["path"] == "metadata.labels");
    assert!(own.next().is_some());
}

#[tokio::test]
async fn an_account_that_is_moved_can_do_what_it_could() {
    let team = team().await;
    let ns = team.namespace.clone();
    let pods =
        json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]);
    let nodes = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}]);
    grantable(&team, "pods", pods.clone()).await;
    grantable(&team, "nodes", nodes.clone()).await;
    let settings = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]}]);
    let both = json!([alice(), account(&team, "migrator")]);
    bind(&team, &ns, "settings", settings, both).await;
    bind(
        &team,
        &ns,
        "pods",
        pods,
        json!([account(&team, "migrator")]),
    )
    .await;
    bind(
        &team,
        "",
        &format!("nodes-reader-{ns}"),
        nodes,
        json!([account(&team, "migrator")]),
    )
    .await;
    let before = eventually("the account has its rights", async || {
        let held = rights(&team).await;
        (held.len() >= 15).then_some(held)
    })
    .await;

    let survey = adopt(&team, User::Admin, &[]).await;
    assert_eq!(survey.status, 0, "{}", survey.err);
    let ended = moved(&team).await;
    assert_eq!(ended.status, 0, "{}{}", ended.out, ended.err);
    assert_eq!(rights(&team).await, before);
    assert_eq!(subjects(&team, "pods").await, None);
    let others = subjects(&team, "settings").await.unwrap();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].name, "alice");
    assert_eq!(
        team.bindings().await.len(),
        2,
        "one of each grant in the namespace"
    );

    let again = moved(&team).await;
    assert_eq!(again.status, 0, "{}", again.err);
    assert!(again.out.contains("has no standing binding here"));

    // The way back that was printed.
    for line in ended
        .out
        .lines()
        .filter(|line| line.contains("auth reconcile"))
    {
        let args: Vec<&str> = line.split_whitespace().skip(1).collect();
        let (ok, text) = team.stint.kubectl(User::Admin, &args).await;
        assert!(ok, "{text}");
    }
    assert_eq!(subjects(&team, "pods").await.unwrap().len(), 1);
    assert_eq!(subjects(&team, "settings").await.unwrap().len(), 2);
}

/// The grant cannot begin, for its Job may not be made; after an interrupt nothing of the move is left.
#[tokio::test]
async fn interrupted_while_it_waits_nothing_is_left() {
    let team = team().await;
    let admin = team.stint.cluster().admin();
    let quota =
        json!({"metadata": {"name": "no-jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}});
    create(&admin, "v1", "ResourceQuota", &team.namespace, quota).await;
    let settings = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    bind(
        &team,
        &team.namespace,
        "settings",
        settings,
        json!([account(&team, "migrator")]),
    )
    .await;
    let folder = backup(&team);
    let account = ["--serviceaccount", "migrator", "--apply", "--yes"];
    let more = ["--timeout", "1h", "--backup", folder.to_str().unwrap()];
    let args = [&["adopt", "-n", &team.namespace], &account[..], &more[..]].concat();
    let running = command::start(team.stint.cluster(), User::Admin, &args);
    eventually("policy and request are there", async || {
        (left(&team).await == (1, 1)).then_some(())
    })
    .await;
    command::signal(&running, "-INT").await;
    let output = running.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    eventually("the request is gone", async || {
        (left(&team).await == (0, 0)).then_some(())
    })
    .await;
    assert_eq!(subjects(&team, "settings").await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_may_not_read_bindings_is_told_what_is_missing() {
    let team = team().await;
    let ended = adopt(&team, User::Bob, &[]).await;
    assert_eq!(ended.status, 2);
    let said =
        "'bob' may not list clusterrolebindings.rbac.authorization.k8s.io in the whole cluster";
    assert!(ended.err.contains(said), "{}", ended.err);
}
