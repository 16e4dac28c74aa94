//! `kubectl stint` on plain roles and bindings, and its codes.

use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Output;
use stint::domain::catalogue;
use support::plugin::*;
use support::project;

#[rstest]
#[case::secrets("ClusterRole", json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]), &["OB-S01"])]
#[case::wildcard("Role", json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]), &["OB-W03"])]
#[case::dead_in_a_namespace("Role", json!([{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}]), &[])]
#[case::alive_in_the_cluster("ClusterRole", json!([{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}]), &["OB-N01"])]
#[case::misspelt("Role", json!([{"apiGroups": ["apps"], "resources": ["deployments"], "resourceName": ["x"], "verbs": ["get"]}]), &["WA-DECODE"])]
#[case::harmless("Role", json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]), &[])]
fn plain_roles_are_held_against_the_catalogue(
    #[case] kind: &str,
    #[case] rules: Value,
    #[case] expected: &[&str],
) {
    let report = lint_json(&rbac(kind, json!({"rules": rules})).to_string());
    let (_, codes) = verdict(&report, "x");
    for code in expected {
        assert!(codes.contains(&(*code).to_owned()), "{codes:?}");
    }
    assert_eq!(codes.is_empty(), expected.is_empty(), "{codes:?}");
}

#[test]
fn a_cluster_role_that_is_bound_in_a_namespace_is_judged_there() {
    let role = rbac(
        "ClusterRole",
        json!({"rules": [{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}]}),
    );
    let binding = rbac(
        "RoleBinding",
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"},
            "subjects": [{"kind": "ServiceAccount", "name": "ci"}]
        }),
    );
    let report = lint_json(&stream(&[role, binding]));
    assert_eq!(report["summary"]["refused"], 0, "{report:#}");
}

#[rstest]
#[case::anonymous("RoleBinding", json!({"kind": "User", "name": "system:anonymous"}), "reader", "OB-B01", 1)]
#[case::everybody("RoleBinding", json!({"kind": "Group", "name": "system:authenticated"}), "reader", "OB-B02", 1)]
#[case::masters("ClusterRoleBinding", json!({"kind": "Group", "name": "system:masters"}), "reader", "OB-B03", 1)]
#[case::all_accounts("RoleBinding", json!({"kind": "Group", "name": "system:serviceaccounts:dev"}), "reader", "OB-B04", 1)]
#[case::default_account("ClusterRoleBinding", json!({"kind": "ServiceAccount", "name": "default", "namespace": "dev"}), "reader", "OB-B05", 1)]
#[case::foreign_account("RoleBinding", json!({"kind": "ServiceAccount", "name": "ci", "namespace": "dev"}), "reader", "OB-B06", 0)]
#[case::cluster_admin("ClusterRoleBinding", json!({"kind": "User", "name": "jane"}), "cluster-admin", "OB-B07", 1)]
#[case::grows("RoleBinding", json!({"kind": "User", "name": "jane"}), "view", "OB-B10", 0)]
#[case::alias("RoleBinding", json!({"kind": "User", "name": "system:serviceaccount:payments:ci"}), "reader", "OB-B11", 1)]
#[case::no_end("RoleBinding", json!({"kind": "ServiceAccount", "name": "ci"}), "reader", "WA-STANDING", 0)]
fn plain_bindings_are_held_against_the_catalogue(
    #[case] kind: &str,
    #[case] subject: Value,
    #[case] role: &str,
    #[case] code: &str,
    #[case] expected: i32,
) {
    let reference =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    let binding = rbac(kind, json!({"roleRef": reference, "subjects": [subject]}));
    let (status, text) = lint_text(&binding.to_string(), &[]);
    assert!(text.contains(&format!("  {code}  ")), "{text}");
    assert_eq!(status, expected, "{text}");
}

#[test]
fn a_role_of_megabytes_is_refused_in_few_lines() {
    let words =
        |prefix: &str| -> Vec<String> { (0..20_000).map(|i| format!("{prefix}{i}")).collect() };
    let product = json!({"apiGroups": words("g"), "resources": words("r"), "verbs": ["get"]});
    let many = vec![json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}); 5_000];
    for rules in [json!([product]), json!(many)] {
        let role = rbac("ClusterRole", json!({"rules": rules}));
        let reference =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"});
        let mut binding = rbac(
            "ClusterRoleBinding",
            json!({"roleRef": reference, "subjects": [{"kind": "User", "name": "jane"}]}),
        );
        binding["metadata"]["name"] = json!("to-x");
        let report = lint_json(&stream(&[role, binding]));
        assert!(verdict(&report, "x").1.contains(&"OB-R05".to_owned()));
        assert!(report["objects"][0]["findings"].as_array().unwrap().len() <= 201);
    }
}

fn codes(args: &[&str]) -> Output {
    let folder = Folder::new();
    let args: Vec<&str> = ["codes"].iter().chain(args).copied().collect();
    folder.run(&args)
}

#[test]
fn every_code_is_listed_and_explained() {
    let listed: Vec<Value> = serde_json::from_slice(&codes(&["-o", "json"]).stdout).unwrap();
    let ids: BTreeSet<&str> = listed.iter().map(|e| e["code"].as_str().unwrap()).collect();
    let page = std::fs::read_to_string(project().join("docs/codes.md")).unwrap();
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    for code in headings.chain(catalogue::codes().iter().map(|c| c.id)) {
        assert!(ids.contains(code), "{code} is not listed");
    }
    let table = stdout(&codes(&["-o", "wide"]));
    let narrow = stdout(&codes(&["--no-headers"]));
    assert_eq!(narrow.lines().count(), listed.len());
    let fits = |line: &str| line.chars().count() <= 100;
    assert!(narrow.lines().all(fits), "{narrow}");
    for entry in &listed {
        let (code, title) = (
            entry["code"].as_str().unwrap(),
            entry["title"].as_str().unwrap(),
        );
        assert!(
            !title.is_empty() && title.len() < 160 && table.contains(title),
            "{code}: {title}"
        );
        assert!(
            entry["page"].is_string() || entry["why"].is_string(),
            "{code} is not explained"
        );
    }
}

#[test]
fn a_code_is_explained_with_an_example_and_the_fix() {
    for code in ["WA-TOO-LONG", "OB-W03", "WA-TICKET"] {
        let output = codes(&[code]);
        let text = stdout(&output);
        assert_eq!(status(&output), 0, "{code}");
        assert!(
            text.starts_with(code) && text.contains("```yaml\n") && text.contains("**Instead:** "),
            "{text}"
        );
        assert_eq!(
            text.matches("**Instead:** ").count(),
            1,
            "only its own section: {text}"
        );
    }
    assert!(stdout(&codes(&["ob-w03"])).contains("Severity: high in a namespace"));
}

#[test]
fn an_unknown_code_is_an_error_with_the_nearest() {
    let output = codes(&["WA-TO-LONG"]);
    assert_eq!(status(&output), 2);
    assert!(
        stderr(&output).contains("nearest are WA-TOO-LONG, "),
        "{}",
        stderr(&output)
    );
}
