//! `kubectl stint lint --online` against a server that answers like an API server.

use rstest::rstest;
use serde_json::{Value, json};
use std::process::Output;
use support::case;
use support::plugin::*;

fn online(folder: &Folder, output: &str) -> Output {
    folder.run(&[
        "lint",
        "--online",
        "--kubeconfig",
        "kubeconfig",
        "-f",
        "access.yaml",
        "-o",
        output,
    ])
}

#[test]
fn online_the_cluster_answers_and_nothing_is_stored() {
    let folder = Folder::new();
    let mut request = case::request();
    request["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("namespace");
    request["metadata"]["resourceVersion"] = json!("7");
    folder.file("access.yaml", format!("{request:#}"));
    let denied = json!({
        "kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422,
        "message": "admission webhook \"validate.stint.dev\" denied the request: WorkloadAccess \"migrate-42\" is invalid:\n…",
        "details": {"causes": [{"reason": "FieldValueForbidden", "field": "spec.duration",
                                "message": "Forbidden: '30m': policy 'p' allows less than or equal to 5m [WA-TOO-LONG]"}]}
    });
    let server = api_server(&folder, vec![(422, denied, "")]);
    let output = online(&folder, "json");
    let asked = server.join().unwrap();
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    let start = "POST /apis/stint.dev/v1alpha1/namespaces/payments/workloadaccesses?dryRun=All&";
    assert!(asked[0].starts_with(start), "{}", asked[0]);
    assert!(!asked[0].contains("resourceVersion"), "{}", asked[0]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &report["objects"][0]["findings"][0];
    assert_eq!(finding["code"], "WA-TOO-LONG");
    assert_eq!(
        finding["message"],
        "spec.duration: Forbidden: '30m': policy 'p' allows less than or equal to 5m [WA-TOO-LONG]"
    );
    assert!(finding["line"].as_u64() > Some(1), "{finding}");
    assert_eq!(report["mode"], "online");
}

#[test]
fn online_warnings_are_told_and_do_not_fail() {
    let folder = Folder::new();
    folder.file("access.yaml", case::request().to_string());
    let warning = "warning: 299 - \"together with ClusterRoleBinding 'x' this makes a combination [OB-C01]\"\r\n";
    let server = api_server(&folder, vec![(201, case::request(), warning)]);
    let output = online(&folder, "text");
    server.join().unwrap();
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("OB-C01  warning: together with"),
        "{}",
        stdout(&output)
    );
}

#[rstest]
#[case::not_ready(503, json!({"message": "failed calling webhook"}), "the API server answers 503: failed calling webhook")]
#[case::not_allowed(403, json!({"reason": "Forbidden", "message": "User \"jane\" cannot create resource"}), "'jane' may not create workloadaccesses.stint.dev in namespace 'payments'; ask for the ClusterRole stint-requester there")]
#[case::not_installed(404, json!({"message": "the server could not find the requested resource"}), "this cluster has no workloadaccesses.stint.dev: Stint is not installed in it")]
fn online_no_answer_is_no_verdict(#[case] code: u16, #[case] body: Value, #[case] says: &str) {
    let folder = Folder::new();
    folder.file("access.yaml", case::request().to_string());
    let server = api_server(&folder, vec![(code, body, "")]);
    let output = online(&folder, "text");
    server.join().unwrap();
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains(says), "{}", stderr(&output));
}

#[test]
fn online_a_binding_to_a_role_that_is_missing_dangles() {
    let folder = Folder::new();
    let reference =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gone"});
    let binding = rbac(
        "RoleBinding",
        json!({"roleRef": reference, "subjects": [{"kind": "User", "name": "jane"}]}),
    );
    folder.file("access.yaml", binding.to_string());
    let missing = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"});
    let server = api_server(&folder, vec![(404, missing, "")]);
    let output = online(&folder, "text");
    let asked = server.join().unwrap();
    assert!(
        asked[0]
            .starts_with("GET /apis/rbac.authorization.k8s.io/v1/namespaces/payments/roles/gone"),
        "{}",
        asked[0]
    );
    assert!(
        stdout(&output).contains("  OB-B08  "),
        "{}",
        stdout(&output)
    );
}
