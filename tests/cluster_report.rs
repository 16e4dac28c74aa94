//! `kubectl stint report` on a real control plane: grants as they end, who may not read what, and a cluster without any.

mod support;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use serde_json::{Value, json};
use std::path::Path;
use support::cluster::{Cluster, User, eventually};
use support::command::{Ended, stint};
use support::operator::Stint;
use support::review;
use support::team::{Team, create};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// A report in JSON of the namespace of the team, as the administrator.
async fn report(team: &Team, more: &[&str]) -> Value {
    let args = [&["report", "-n", &team.namespace, "-o", "json"], more].concat();
    let ended = stint(team.stint.cluster(), User::Admin, &args).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    serde_json::from_str(&ended.out).unwrap()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let all = list.as_array().unwrap();
    all.iter()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {list}"))
}

/// Carol may approve what the policy of the team asks approval for.
async fn approvals(team: &Team) {
    let ns = &team.namespace;
    let admin = team.stint.cluster().admin();
    let subject =
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "carol"}]);
    for (kind, binding, namespace, rules) in [
        (
            "Role",
            "RoleBinding",
            ns.as_str(),
            json!([
            {"apiGroups": ["stint.dev"], "resources": ["accessapprovals"], "verbs": ["create"]},
            {"apiGroups": ["stint.dev"], "resources": ["workloadaccesses"], "verbs": ["get"]}]),
        ),
        (
            "ClusterRole",
            "ClusterRoleBinding",
            "",
            json!([
            {"apiGroups": ["stint.dev"], "resources": ["accesspolicies"], "resourceNames": [ns], "verbs": ["approve"]}]),
        ),
    ] {
        let name = format!("approver-{ns}");
        create(
            &admin,
            RBAC,
            kind,
            namespace,
            json!({"metadata": {"name": name}, "rules": rules}),
        )
        .await;
        create(
            &admin,
            RBAC,
            binding,
            namespace,
            json!({"metadata": {"name": name}, "subjects": subject,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}}),
        )
        .await;
    }
}

/// The account holds what the grants give by a binding of its own too.
async fn standing(team: &Team) {
    let admin = team.stint.cluster().admin();
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]}]);
    create(
        &admin,
        RBAC,
        "Role",
        &team.namespace,
        json!({"metadata": {"name": "left-over"}, "rules": rules}),
    )
    .await;
    create(
        &admin,
        RBAC,
        "RoleBinding",
        &team.namespace,
        json!({"metadata": {"name": "left-over"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "left-over"},
        "subjects": [{"kind": "ServiceAccount", "name": "migrator"}]}),
    )
    .await;
}

#[tokio::test]
async fn a_report_tells_each_grant_as_it_went() {
    let team = Team::new(Stint::shared_wide(env!("CARGO_BIN_EXE_stint")).await).await;
    let (ns, cluster) = (team.namespace.clone(), team.stint.cluster());
    team.granted(&team.request("short", "2s")).await;
    team.becomes("short", "Expired").await;
    team.granted(&team.request("live", "30m")).await;
    let before = cluster.dir().join(format!("before-{ns}.json"));
    let args = ["report", "-n", &ns, "-f", before.to_str().unwrap()];
    assert_eq!(stint(cluster, User::Admin, &args).await.status, 0);

    standing(&team).await;
    team.granted(&team.request("still", "30m")).await;
    let revoked = stint(cluster, User::Alice, &["revoke", "still", "-n", &ns]).await;
    assert_eq!(revoked.status, 0, "{}", revoked.err);
    approvals(&team).await;
    team.change_policy(
        json!({"approval": {"required": 1, "timeout": "1h"}, "breakGlass": {"maxDuration": "1h"}}),
    )
    .await
    .unwrap();
    let ask = [
        "request",
        "asked",
        "-n",
        &ns,
        "--account",
        "migrator",
        "--verb",
        "get",
        "--resource",
        "configmaps",
        "--resource-name",
        "settings",
        "--for",
        "20m",
        "--reason",
        "new limits",
        "--ticket",
        "CHG-1812",
    ];
    // Until the changed policy has reached Stint, a request would begin at once.
    eventually("the policy has reached Stint", async || {
        let probe = [&ask[..], &["--break-glass", "--dry-run", "server"]].concat();
        let ended = stint(cluster, User::Alice, &probe).await;
        (ended.status == 0).then_some(())
    })
    .await;
    let asked = stint(cluster, User::Alice, &[&ask[..], &["--create"]].concat()).await;
    assert_eq!(asked.status, 0, "{}", asked.err);
    eventually("Carol approves", async || {
        let args = ["approve", "asked", "-n", &ns, "--reason", "agreed", "--yes"];
        (stint(cluster, User::Carol, &args).await.status == 0).then_some(())
    })
    .await;
    team.becomes("asked", "Active").await;

    let report = eventually("the proof of what is still there", async || {
        let report = report(&team, &["--baseline", before.to_str().unwrap()]).await;
        let told = |name: &str| named(&report["grants"], name)["residual"].is_string();
        (told("still") && told("live")).then_some(report)
    })
    .await;
    let grants = &report["grants"];
    let fields = |name: &str| {
        let grant = named(grants, name);
        ["state", "endReason", "requestedBy", "risk", "account"].map(|field| grant[field].clone())
    };
    let account = format!("{ns}/migrator");
    assert_eq!(
        fields("live"),
        [
            json!("PolicyWithdrawn"),
            json!("PolicyWithdrawn"),
            json!("alice"),
            json!("Low"),
            json!(account)
        ],
        "nobody had approved it when the policy began to ask for that"
    );
    assert_eq!(
        fields("short"),
        [
            json!("Expired"),
            json!("Expired"),
            json!("alice"),
            json!("Low"),
            json!(account)
        ]
    );
    assert_eq!(fields("still")[..2], [json!("Revoked"), json!("Revoked")]);
    let still = named(grants, "still")["residual"].as_str().unwrap();
    // By the binding that stands, or by another grant: whichever the authorizer finds first.
    assert!(
        still.contains("still may get configmaps 'settings', by RoleBinding"),
        "{still}"
    );
    assert_eq!(named(grants, "short")["verified"], true);
    let asked = named(grants, "asked");
    assert_eq!(
        (
            &asked["decisions"][0]["by"],
            &asked["decisions"][0]["decision"]
        ),
        (&json!("carol"), &json!("Approve"))
    );
    assert_eq!(
        (&asked["approvals"][0]["reason"], &asked["ticket"]),
        (&json!("agreed"), &json!("CHG-1812"))
    );
    let all: Vec<&str> = report["standing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        all,
        ["left-over"],
        "bindings of grants are none that stand, and people are no accounts"
    );
    assert_eq!(
        named(&report["standing"], "left-over")["rights"],
        json!(["get configmaps named settings"])
    );

    let added: Vec<&str> = report["trend"]["added"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(added, ["asked", "still", "left-over"]);
    let changed = &report["trend"]["changed"];
    let state = json!({"field": "state", "was": "Active", "is": "PolicyWithdrawn"});
    assert_eq!(changed.as_array().unwrap().len(), 1, "{changed}");
    assert_eq!(named(changed, "live")["fields"][0], state);
    let admin = cluster.admin();
    let system: Namespace = Api::all(admin).get("kube-system").await.unwrap();
    assert_eq!(report["clusterId"].as_str(), system.metadata.uid.as_deref());

    // Each form has the same rows.
    let count = grants.as_array().unwrap().len() + 1;
    let form = async |form: &str| {
        stint(cluster, User::Admin, &["report", "-n", &ns, "-o", form])
            .await
            .out
    };
    assert_eq!(review::csv(&form("csv").await).len(), count);
    assert_eq!(review::html(&form("html").await).len(), count);
    let text = form("markdown").await;
    assert_eq!(
        review::markdown(&text, "## Grants").len()
            + review::markdown(&text, "## Standing rights of accounts").len(),
        count
    );
    assert_eq!(review::markdown(&text, "## Over, and still there").len(), 2);
    // For the page of documentation: a whole cluster with these in it.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    let ended = stint(
        cluster,
        User::Admin,
        &["report", "-f", file.to_str().unwrap()],
    )
    .await;
    assert_eq!(ended.status, 0, "{}", ended.err);
}

#[tokio::test]
async fn who_may_not_read_is_told_what_and_an_auditor_needs_no_more_than_the_page_says() {
    let team = Team::new(Stint::shared_wide(env!("CARGO_BIN_EXE_stint")).await).await;
    let (ns, cluster) = (team.namespace.clone(), team.stint.cluster());
    let ended = stint(cluster, User::Bob, &["report", "-n", &ns, "-o", "json"]).await;
    assert_eq!(ended.status, 2);
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    let missing: Vec<&str> = told["notRead"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["what"].as_str().unwrap())
        .collect();
    // An editor of the namespace, who may read its requests.
    assert_eq!(
        missing,
        [
            "namespaces",
            "rolebindings.rbac.authorization.k8s.io",
            "clusterroles.rbac.authorization.k8s.io",
            "roles.rbac.authorization.k8s.io",
        ]
    );
    for text in [
        "'bob' may not list rolebindings.rbac.authorization.k8s.io in namespace",
        "'bob' may not get namespaces 'kube-system'",
    ] {
        assert!(ended.err.contains(text), "{text}: {}", ended.err);
    }

    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report.md")).unwrap();
    let role: Value = serde_saphyr::from_str(review::between(&page, "```yaml\n", "```")).unwrap();
    let admin = cluster.admin();
    create(&admin, RBAC, "ClusterRole", "", role.clone()).await;
    let name = &role["metadata"]["name"];
    create(
        &admin,
        RBAC,
        "ClusterRoleBinding",
        "",
        json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "carol"}]}),
    )
    .await;
    eventually("Carol may read all that a report needs", async || {
        let ended = stint(cluster, User::Carol, &["report", "-o", "csv"]).await;
        (ended.status == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cluster_without_grants_and_one_without_stint_have_standing_rights() {
    let cluster = Cluster::start().await.expect("a cluster");
    let read = |ended: &Ended| -> Value { serde_json::from_str(&ended.out).unwrap() };
    let ended = stint(&cluster, User::Admin, &["report", "-o", "json"]).await;
    assert_eq!(ended.status, 2);
    assert!(
        ended.err.contains(
            "this cluster has no workloadaccesses.stint.dev: Stint is not installed in it"
        ),
        "{}",
        ended.err
    );
    assert!(read(&ended)["totals"]["standing"].as_u64().unwrap() > 20);

    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/stint.dev.yaml");
    let applied = cluster
        .kubectl(User::Admin)
        .args(["apply", "--server-side", "-f", crds])
        .output()
        .await
        .unwrap();
    assert!(applied.status.success());
    let ended = eventually("the kinds are served", async || {
        let ended = stint(&cluster, User::Admin, &["report", "-o", "json"]).await;
        (ended.status == 0).then_some(ended)
    })
    .await;
    let totals = &read(&ended)["totals"];
    assert_eq!((&totals["grants"], &totals["live"]), (&json!(0), &json!(0)));
    assert_eq!(totals["standing"], totals["standingOfKubernetes"]);
    let ended = stint(&cluster, User::Admin, &["report"]).await;
    assert!(ended.out.contains("## Grants\n\nNone.\n"), "{}", ended.out);
}
