//! `kubectl stint report` on a real control plane: grants as they end, who may not read what, and a cluster without any.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::path::Path;
use support::cluster::{Cluster, User, eventually};
use support::command::{Ended, stint};
use support::operator::Stint;
use support::project;
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

    let page = std::fs::read_to_string(project().join("docs/report.md")).unwrap();
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

    let crds = project().join("crds/stint.dev.yaml").display().to_string();
    let applied = cluster
        .kubectl(User::Admin)
        .args(["apply", "--server-side", "-f", &crds])
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
    // Other commands have nothing to tell either, and say so.
    for (args, status, says) in [
        (
            &["list"][..],
            0,
            "No requests found in namespace 'default'.",
        ),
        (&["list", "-A"], 0, "No requests found."),
        (
            &["explain", "x"],
            2,
            "there is no workloadaccesses.stint.dev 'x' in namespace 'default'",
        ),
        (
            &["adopt", "-A"],
            0,
            "0 subjects can be moved, 0 can be deleted, 0 stay.",
        ),
        (
            &["lockdown", "--all", "--yes"],
            2,
            "there is no AccessPolicy",
        ),
    ] {
        let ended = stint(&cluster, User::Admin, args).await;
        let told = format!("{}{}", ended.out, ended.err);
        assert_eq!(ended.status, status, "{args:?}: {told}");
        assert!(told.contains(says), "{args:?}: {told}");
    }
}

/// The account may do more by a binding of its own than it does.
async fn more_than_needed(team: &Team) {
    let admin = team.stint.cluster().admin();
    let rules = json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}
    ]);
    let role = json!({"metadata": {"name": "reader"}, "rules": rules});
    create(&admin, RBAC, "Role", &team.namespace, role).await;
    let binding = json!({"metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "migrator"}]});
    create(&admin, RBAC, "RoleBinding", &team.namespace, binding).await;
}

/// How often the account reads the ConfigMap without being refused.
async fn reads(client: &Client, namespace: &str, times: usize) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for _ in 0..times {
        let answer = api.get_opt("settings").await;
        assert!(answer.is_ok(), "{answer:?}");
    }
}

async fn is_refused<T: std::fmt::Debug>(answer: kube::Result<T>) {
    let refused = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403);
    assert!(refused, "{answer:?}");
}

#[tokio::test]
async fn the_log_of_the_api_server_tells_what_of_a_grant_was_used() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::audited().await.unwrap()));
    let operator = Stint::install(cluster, Path::new(env!("CARGO_BIN_EXE_stint")), false)
        .await
        .unwrap();
    let operator: &'static Stint = Box::leak(Box::new(operator));
    operator.start().await;
    let team = Team::new(operator).await;
    let ns = team.namespace.clone();
    more_than_needed(&team).await;
    let client = team.workload().await;

    // Nothing gives it yet, and it tries.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &ns);
    is_refused(maps.get("settings").await).await;
    let nodes: Api<Node> = Api::all(client.clone());
    for _ in 0..2 {
        is_refused(nodes.delete("node-1", &DeleteParams::default()).await).await;
    }
    let two = json!({"duration": "30m", "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["limits"], "verbs": ["get"]}
    ]});
    team.granted(&team.request_with("over", two.clone())).await;
    eventually("the first grant holds", async || {
        team.may_get(&client, "settings").await.then_some(())
    })
    .await;
    reads(&client, &ns, 3).await;
    let revoked = stint(cluster, User::Alice, &["revoke", "over", "-n", &ns]).await;
    assert_eq!(revoked.status, 0, "{}", revoked.err);
    eventually("it is gone", async || {
        (!team.may_get(&client, "settings").await).then_some(())
    })
    .await;
    team.granted(&team.request_with("live", two)).await;
    eventually("the second holds", async || {
        team.may_get(&client, "settings").await.then_some(())
    })
    .await;
    reads(&client, &ns, 2).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &ns);
    secrets.list(&ListParams::default()).await.unwrap();

    let file = cluster.dir().join("audit.log");
    let log = file.to_str().unwrap();
    // The log may lag behind the answers.
    let report = eventually("the log has it all", async || {
        let report = report(&team, &["--audit-log", log]).await;
        (named(&report["standing"], "reader")["usage"]["requests"] == 1).then_some(report)
    })
    .await;
    let usage = |list: &str, name: &str| named(&report[list], name)["usage"].clone();
    for (name, times) in [("over", 3), ("live", 2)] {
        let usage = usage("grants", name);
        assert_eq!(
            usage["used"],
            json!([{"verb": "get", "on": "configmaps", "requests": times}]),
            "each grant has its own"
        );
        assert_eq!(
            usage["rules"],
            json!([
                {"rule": "get configmaps named settings", "requests": times, "unused": []},
                {"rule": "get configmaps named limits", "requests": 0, "unused": ["get configmaps named limits"]}
            ])
        );
        assert_eq!(usage["covered"]["fromTheBeginning"], true, "{usage}");
    }
    assert_eq!(usage("grants", "over")["covered"]["toTheEnd"], true);
    assert_eq!(
        usage("standing", "reader")["rules"],
        json!([
            {"rule": "get, list secrets", "requests": 1, "unused": ["get secrets"]},
            {"rule": "get deployments.apps", "requests": 0, "unused": ["get deployments.apps"]}
        ])
    );
    let refused = &report["auditLog"]["refused"];
    let attempt = |verb: &str| {
        let all = refused.as_array().unwrap().iter();
        let mut of_it = all.filter(|one| one["account"] == format!("{ns}/migrator"));
        let one = of_it.find(|one| one["verb"] == verb).unwrap().clone();
        ["resource", "namespace", "name", "requests"].map(|field| one[field].clone())
    };
    assert_eq!(
        attempt("delete"),
        [json!("nodes"), Value::Null, json!("node-1"), json!(2)]
    );
    assert_eq!(
        attempt("get"),
        [json!("configmaps"), json!(ns), json!("settings"), json!(1)]
    );

    // The whole cluster, in every form, with the same numbers.
    let whole = async |form: &str| {
        let args = ["report", "--audit-log", log, "-o", form];
        let ended = stint(cluster, User::Admin, &args).await;
        // Requests for the whole cluster are not installed here.
        assert!(ended.err.contains("Read "), "{}", ended.err);
        ended.out
    };
    let told: Value = serde_json::from_str(&whole("json").await).unwrap();
    assert!(told["auditLog"]["ofKubernetes"].as_u64().unwrap() > 0);
    let operator =
        told["standing"].as_array().unwrap().iter().find(|one| {
            one["account"] == "stint-system/stint" && one["kind"] == "ClusterRoleBinding"
        });
    let operator = &operator.unwrap()["usage"];
    assert!(operator["requests"].as_u64().unwrap() > 0, "{operator}");
    let unused = |row: &std::collections::BTreeMap<String, String>| {
        (row["name"] == "live").then(|| (row["unused"].clone(), row["requests"].clone()))
    };
    let expected = Some(("get configmaps named limits".to_owned(), "2".to_owned()));
    let table = review::csv(&whole("csv").await);
    assert_eq!(table.iter().find_map(unused), expected);
    let page = review::html(&whole("html").await);
    assert_eq!(page.iter().find_map(unused), expected);
    let text = whole("markdown").await;
    let rows = review::markdown(&text, "## What was used, by the audit log");
    let of_live = rows.iter().find(|row| row["Name"].ends_with("/live"));
    assert_eq!(of_live.unwrap()["Not used"], "get configmaps named limits");
    let rows = review::markdown(&text, "## What accounts were refused");
    assert!(rows.iter().any(|row| row["Object"] == "node-1"));
    let scan: Value = serde_json::from_str(&whole("sarif").await).unwrap();
    let results = scan["runs"][0]["results"].as_array().unwrap().iter();
    let of_live = results.filter(|result| {
        let place = &result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"];
        result["ruleId"] == "unused-rule" && *place == format!("WorkloadAccess/{ns}/live")
    });
    assert_eq!(of_live.count(), 1, "one rule of two");
    // For the page of documentation.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-usage.md");
    let args = [
        "report",
        "-n",
        &ns,
        "--audit-log",
        log,
        "-f",
        file.to_str().unwrap(),
    ];
    let ended = stint(cluster, User::Admin, &args).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    another_cluster_notices_the_log(cluster, log).await;
}

/// The log is confirmed where it was written. Elsewhere its accounts are strangers; as the other cluster began in the same minute, which proves
/// nothing, the years are changed.
async fn another_cluster_notices_the_log(cluster: &Cluster, log: &str) {
    let read = async |cluster: &Cluster, command: &[&str], log: &str| {
        let whole = [command, &[log]].concat();
        stint(cluster, User::Admin, &whole).await
    };
    let (report, suggest) = (["report", "--audit-log"], ["suggest", "--online"]);
    for command in [report, suggest] {
        let ended = read(cluster, &command, log).await;
        assert!(ended.err.contains("Read "), "{}", ended.err);
        assert!(!ended.err.contains("the UID"), "{}", ended.err);
    }
    let other = Cluster::start().await.unwrap();
    let ended = read(&other, &report, log).await;
    let told = "so whether it is a log of this cluster is not known";
    assert!(ended.err.contains(told), "{}", ended.err);

    let text = std::fs::read_to_string(log).unwrap();
    let year = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .year();
    for (moved, why) in [
        (year + 1, "is of another cluster: 'system:serviceaccount:"),
        (year - 1, "is of another cluster: the event is of "),
    ] {
        let file = other.dir().join("moved.log");
        let (from, to) = (
            format!("Timestamp\":\"{year}-"),
            format!("Timestamp\":\"{moved}-"),
        );
        std::fs::write(&file, text.replace(&from, &to)).unwrap();
        for command in [report, suggest] {
            let ended = read(&other, &command, file.to_str().unwrap()).await;
            assert_eq!((ended.status, ended.out.as_str()), (2, ""));
            assert!(ended.err.contains(why), "{}", ended.err);
            assert!(ended.err.contains("moved.log:"), "{}", ended.err);
        }
    }
}
