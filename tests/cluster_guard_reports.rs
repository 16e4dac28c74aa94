//! The guard's reports on what is there already, on a real control plane with the CRDs of both report APIs.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use stint::domain::guard_report::ReportApi;
use support::chart::program;
use support::cluster::process::{Component, free_ports};
use support::cluster::{User, eventually};
use support::operator::{Stint, plain_get};
use support::project;
use support::team::create;

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// A cluster of its own: each test changes how the whole installation is set, and this file has one.
async fn reporting(api: ReportApi) -> &'static Stint {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    stint
        .set_guard(&[
            ("reports.apiGroup", api.group()),
            ("reports.interval", "1s"),
        ])
        .await;
    stint
}

async fn install_crds(stint: &Stint, api: ReportApi) {
    let folder = program("reports").join(api.group());
    let folder = folder.display().to_string();
    let apply = ["apply", "--server-side", "-f", &folder];
    let (done, text) = stint.kubectl(User::Admin, &apply).await;
    assert!(done, "{text}");
}

/// The results of the report on an object, as code and outcome; none when there is no report.
async fn results(client: &Client, api: ReportApi, kind: &str, name: &str) -> Option<Value> {
    let mut found = reports(client, api).await.into_iter();
    found.find(|report| report["scope"]["kind"] == kind && report["scope"]["name"] == name)
}

fn resource(api: ReportApi, namespaced: bool) -> ApiResource {
    let (kind, plural) = api.names(namespaced);
    ApiResource {
        group: api.group().into(),
        version: api.version().into(),
        api_version: format!("{}/{}", api.group(), api.version()),
        kind: kind.into(),
        plural: plural.into(),
    }
}

async fn reports(client: &Client, api: ReportApi) -> Vec<Value> {
    let mut out = Vec::new();
    for namespaced in [true, false] {
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource(api, namespaced));
        let listed = all.list(&ListParams::default()).await;
        let items = match listed {
            Ok(list) => list.items,
            // Right after its CRD was made, a kind is not served yet, or "storage is (re)initializing".
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429) => Vec::new(),
            Err(error) => panic!("{error}"),
        };
        out.extend(
            items
                .into_iter()
                .map(|report| serde_json::to_value(report).unwrap()),
        );
    }
    out
}

fn has(report: &Value, code: &str, outcome: &str) -> bool {
    let results = report["results"].as_array().unwrap();
    results
        .iter()
        .any(|r| r["rule"] == code && r["result"] == outcome)
}

/// Waits for a metric.
async fn counts(stint: &Stint, metric: &str) {
    eventually(metric, async || {
        let (_, metrics) = stint.admin_get("/metrics").await.unwrap();
        metrics.contains(metric).then_some(())
    })
    .await;
}

async fn tells_what_is_there(api: ReportApi, namespace: &str) {
    let stint = reporting(api).await;
    let admin = stint.cluster().admin();
    // The kind is missing.
    counts(stint, "stint_guard_scans_total{result=\"failed\"}").await;
    install_crds(stint, api).await;

    let binding = eventually("the standing binding has a report", async || {
        results(&admin, api, "RoleBinding", "reads-secrets").await
    })
    .await;
    assert!(
        has(&binding, "WA-STANDING", "fail") && has(&binding, "OB-S01", "fail"),
        "{binding}"
    );
    assert_eq!(binding["metadata"]["namespace"], namespace);
    assert_eq!(binding["summary"]["fail"], 2);
    let role = eventually("its role has one too", async || {
        results(&admin, api, "Role", "reads-secrets").await
    })
    .await;
    assert!(
        has(&role, "OB-S01", "fail") && !has(&role, "WA-STANDING", "fail"),
        "{role}"
    );
    let cluster = eventually("what holds in the whole cluster too", async || {
        results(&admin, api, "ClusterRoleBinding", "ingress-controller").await
    })
    .await;
    assert!(has(&cluster, "WA-STANDING", "fail"), "{cluster}");

    let told = reports(&admin, api).await;
    let names: BTreeSet<&str> = told
        .iter()
        .filter_map(|r| r["scope"]["name"].as_str())
        .collect();
    for name in ["view", "cluster-admin", "system:node", "reads-deployments"] {
        assert!(!names.contains(name), "{name} in {names:?}");
    }
    // Counted when the look is over, which the reports do not wait for.
    counts(
        stint,
        "stint_guard_standing_findings{kind=\"RoleBinding\",result=\"fail\"}",
    )
    .await;
}

/// policy-reporter lists the findings as Stint's, under their codes. It is no part of a module that can be built here, so only a
/// `POLICY_REPORTER` that is installed is asked.
async fn policy_reporter_shows_it(namespace: &str) {
    let Some(program) = std::env::var_os("POLICY_REPORTER") else {
        eprintln!("policy-reporter is not asked: POLICY_REPORTER names no program");
        return;
    };
    let cluster = Stint::shared(env!("CARGO_BIN_EXE_stint")).await.cluster();
    let [port, _] = free_ports::<2>().unwrap();
    let args = [
        "run".into(),
        format!("--kubeconfig={}", cluster.kubeconfig(User::Admin).display()),
        "--rest-enabled".into(),
        format!("--port={port}"),
        format!(
            "--dbfile={}",
            cluster.dir().join(format!("{namespace}.db")).display()
        ),
    ];
    let started = Component::start(cluster.dir(), "policy-reporter", Path::new(&program), &args);
    let mut reporter = started.unwrap();
    let shown = async |path: &str| {
        let (status, text) = plain_get(port, path).await.ok()?;
        let shown: Value = serde_json::from_str(&text).ok()?;
        let results = shown["items"].as_array()?.clone();
        (status == 200 && !results.is_empty()).then_some(results)
    };
    for (path, kind, name) in [
        (
            format!("/v2/namespace-scoped/results?sources=stint&namespaces={namespace}"),
            "RoleBinding",
            "reads-secrets",
        ),
        (
            "/v2/cluster-scoped/results?sources=stint".into(),
            "ClusterRoleBinding",
            "ingress-controller",
        ),
    ] {
        let what = format!("policy-reporter shows {kind} {name}");
        eventually(&what, async || {
            reporter.check().unwrap_or_else(|ended| panic!("{ended}"));
            let results = shown(&path).await?;
            let standing =
                |r: &&Value| r["kind"] == kind && r["name"] == name && r["rule"] == "WA-STANDING";
            let standing = results.iter().find(standing)?;
            (standing["status"] == "fail").then_some(())
        })
        .await;
    }
}

/// How many looks went well, by the metric.
async fn looks(stint: &Stint) -> u64 {
    let (_, metrics) = stint.admin_get("/metrics").await.unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("stint_guard_scans_total{result=\"ok\"} "));
    line.map_or(0, |count| count.parse().unwrap())
}

async fn a_look_without_news_writes_nothing(api: ReportApi) {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let admin = stint.cluster().admin();
    let versions = async || -> BTreeSet<String> {
        let all = reports(&admin, api).await.into_iter();
        all.map(|report| report["metadata"]["resourceVersion"].to_string())
            .collect()
    };
    // One look may still be writing.
    let seen = looks(stint).await;
    eventually("a whole look has passed", async || {
        (looks(stint).await > seen + 1).then_some(())
    })
    .await;
    let (before, seen) = (versions().await, looks(stint).await);
    eventually("two more have passed", async || {
        (looks(stint).await > seen + 1).then_some(())
    })
    .await;
    assert_eq!(versions().await, before);
}

/// The operator has the rights that RBAC can express; an admission policy keeps it to its own.
async fn the_reports_of_others_are_not_ours_to_remove(api: ReportApi, namespace: &str) {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let (kind, _) = api.names(true);
    let version = format!("{}/{}", api.group(), api.version());
    let other =
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "of-another-tool"}});
    create(&stint.cluster().admin(), &version, kind, namespace, other).await;
    let operator = stint.as_operator().await;
    let all: Api<DynamicObject> = Api::namespaced_with(operator, namespace, &resource(api, true));
    eventually("the policy is in force", async || {
        let removed = all
            .delete("of-another-tool", &DeleteParams::default())
            .await;
        let Err(kube::Error::Api(status)) = removed else {
            panic!("the operator removed the report of another tool");
        };
        status
            .message
            .contains("whose names begin with stint-")
            .then_some(())
    })
    .await;
}

async fn follows_what_becomes_of_it(api: ReportApi, namespace: &str) {
    let admin = Stint::shared(env!("CARGO_BIN_EXE_stint"))
        .await
        .cluster()
        .admin();
    let before = results(&admin, api, "Role", "reads-secrets").await.unwrap();
    let roles: Api<Role> = Api::namespaced(admin.clone(), namespace);
    let harmless =
        json!({"rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]});
    roles
        .patch(
            "reads-secrets",
            &PatchParams::default(),
            &Patch::Merge(&harmless),
        )
        .await
        .unwrap();
    eventually("the role needs no report any more", async || {
        results(&admin, api, "Role", "reads-secrets")
            .await
            .is_none()
            .then_some(())
    })
    .await;
    let binding = eventually("the binding has a shorter one", async || {
        let report = results(&admin, api, "RoleBinding", "reads-secrets").await?;
        (!has(&report, "OB-S01", "fail")).then_some(report)
    })
    .await;
    assert!(has(&binding, "WA-STANDING", "fail"), "{binding}");
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), namespace);
    bindings
        .delete("reads-secrets", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the report goes with the binding", async || {
        results(&admin, api, "RoleBinding", "reads-secrets")
            .await
            .is_none()
            .then_some(())
    })
    .await;
    let secrets =
        json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    roles
        .patch(
            "reads-secrets",
            &PatchParams::default(),
            &Patch::Merge(&secrets),
        )
        .await
        .unwrap();
    let after = eventually("the role has a report again", async || {
        results(&admin, api, "Role", "reads-secrets").await
    })
    .await;
    assert_eq!(before["metadata"]["name"], after["metadata"]["name"]);
}

#[tokio::test]
async fn both_report_apis_show_what_is_there_and_follow_it() {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let admin = stint.cluster().admin();
    let add_ons = json!({"metadata": {"name": "add-ons"}});
    create(&admin, "v1", "Namespace", "", add_ons).await;
    let file = project().join("tests/guard/ingress.yaml");
    let apply = ["apply", "-f", file.to_str().unwrap()];
    let (done, text) = stint.kubectl(User::Admin, &apply).await;
    assert!(done, "{text}");
    for api in [ReportApi::OpenReports, ReportApi::PolicyReport] {
        let namespace = stint.cluster().namespace("reported", &[]).await;
        for (name, group, resource) in [
            ("reads-secrets", "", "secrets"),
            ("reads-deployments", "apps", "deployments"),
        ] {
            let role = json!({"metadata": {"name": name},
                "rules": [{"apiGroups": [group], "resources": [resource], "verbs": ["get"]}]});
            create(&admin, RBAC, "Role", &namespace, role).await;
        }
        let binding = json!({"metadata": {"name": "reads-secrets"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads-secrets"},
            "subjects": [{"kind": "ServiceAccount", "name": "bot"}]});
        create(&admin, RBAC, "RoleBinding", &namespace, binding).await;
        tells_what_is_there(api, &namespace).await;
        policy_reporter_shows_it(&namespace).await;
        a_look_without_news_writes_nothing(api).await;
        the_reports_of_others_are_not_ours_to_remove(api, &namespace).await;
        follows_what_becomes_of_it(api, &namespace).await;
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(admin.clone());
        namespaces
            .delete(&namespace, &DeleteParams::default())
            .await
            .unwrap();
    }
}
