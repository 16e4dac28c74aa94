//! `kubectl stint` on a real control plane: the plugin, run by kubectl, says what the webhook says.

use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Error};
use serde_json::{Value, json};
use std::path::Path;
use stint::api::WorkloadAccess;
use support::cluster::User;
use support::operator::Stint;
use support::plugin::Folder;
use support::project;
use support::team::Team;

/// What the API server answers when this user creates the request: the lines of the refusal.
async fn refusal(team: &Team, user: User, object: &Value) -> Vec<String> {
    let kind = ApiResource::erase::<WorkloadAccess>(&());
    let client = team.stint.cluster().user(user);
    let api: Api<DynamicObject> = Api::namespaced_with(client, &team.namespace, &kind);
    let object = serde_json::from_value(object.clone()).unwrap();
    let Err(Error::Api(status)) = api.create(&PostParams::default(), &object).await else {
        panic!("not refused");
    };
    let lines = status.message.lines().skip(1).map(str::to_owned);
    lines.collect()
}

/// What `kubectl stint lint` reports about the request, as this user.
async fn lint(team: &Team, user: User, object: &Value, more: &[&str]) -> Value {
    let folder = Folder::new();
    folder.file("access.json", object.to_string());
    let plugin = Path::new(env!("CARGO_BIN_EXE_kubectl-stint"));
    let output = team
        .stint
        .cluster()
        .kubectl(user)
        .env("PATH", plugin.parent().unwrap())
        .current_dir(&folder.0)
        .args(["stint", "lint", "-f", "access.json", "-o", "json"])
        .args(more)
        .output()
        .await
        .unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn messages(report: &Value) -> Vec<&str> {
    let findings = report["objects"][0]["findings"].as_array().unwrap();
    let errors = findings.iter().filter(|f| f["level"] == "error");
    errors.map(|f| f["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_plugin_says_what_the_webhook_says() {
    let team = Team::new(Stint::shared(env!("CARGO_BIN_EXE_stint")).await).await;
    let changes = [
        (User::Alice, json!({"duration": "9h"})),
        (User::Bob, json!({"duration": "30m"})),
        (
            User::Alice,
            json!({"duration": "30m", "serviceAccountRef": {"name": "nobody"}}),
        ),
        (
            User::Alice,
            json!({"duration": "30m", "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]}),
        ),
    ];
    for (user, change) in changes {
        let object = team.raw_request("linted", change);
        let refused = refusal(&team, user, &object).await;
        assert!(!refused.is_empty());
        let report = lint(&team, user, &object, &["--online"]).await;
        assert_eq!(messages(&report), refused, "{object}");
    }
}

#[tokio::test]
async fn kubectl_completes_by_the_program_beside_the_plugin() {
    let team = Team::new(Stint::shared(env!("CARGO_BIN_EXE_stint")).await).await;
    team.granted(&team.request("migrate-42", "30m")).await;
    let plugin = Path::new(env!("CARGO_BIN_EXE_kubectl-stint"));
    let plugin = plugin.parent().unwrap().display();
    let path = format!("{plugin}:{}/krew:/usr/bin:/bin", project().display());
    let complete = async |words: &[&str]| {
        let mut kubectl = team.stint.cluster().kubectl(User::Alice);
        kubectl
            .env("PATH", &path)
            .args(["__complete", "stint"])
            .args(words);
        let output = kubectl.output().await.unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let words = told.lines().filter_map(|line| line.split('\t').next());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["ex"]).await, ["explain", "extend", "exec", ":4"]);
    let names = ["extend", "-n", &team.namespace, "mig"];
    assert_eq!(complete(&names).await, ["migrate-42", ":4"]);
    assert_eq!(complete(&["lint", "-f", ""]).await, [":0"]);
}

#[tokio::test]
async fn a_dry_run_that_passes_stores_nothing() {
    let team = Team::new(Stint::shared(env!("CARGO_BIN_EXE_stint")).await).await;
    let object = team.raw_request("linted", json!({"duration": "30m"}));
    let report = lint(&team, User::Alice, &object, &["--online"]).await;
    assert_eq!(report["objects"][0]["outcome"], "passes", "{report:#}");
    let stored = team.requests(User::Alice).get_opt("linted").await.unwrap();
    assert!(stored.is_none());
}

#[tokio::test]
async fn what_the_schema_refuses_is_refused_offline_too() {
    let team = Team::new(Stint::shared(env!("CARGO_BIN_EXE_stint")).await).await;
    for change in [
        json!({"duration": "30m", "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]}),
        json!({"duration": "30m", "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": []}]}),
        json!({"duration": "30m", "rules": []}),
        json!({"duration": "-1h"}),
        json!({"duration": "30m", "reason": ""}),
        json!({"duration": "30m", "ticket": "x".repeat(200)}),
        json!({"duration": "30m", "roleRef": {"kind": "Group", "name": "x"}, "rules": null}),
    ] {
        let object = team.raw_request("linted", change);
        let refused = refusal(&team, User::Alice, &object).await;
        let report = lint(&team, User::Alice, &object, &[]).await;
        assert_eq!(
            report["objects"][0]["outcome"], "refused",
            "{refused:?} {report:#}"
        );
    }
}
