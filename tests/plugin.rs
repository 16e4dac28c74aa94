//! `kubectl stint lint` as a person and a pipeline meet it: the binary itself, on files and on stdin.

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use support::case;
use support::plugin::*;
use support::project;

fn namespace(labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "payments", "labels": labels}})
}

fn account(labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount",
           "metadata": {"name": "migrator", "namespace": "payments", "labels": labels}})
}

/// The policy, the namespace and the account that admit [`case::request`].
fn admitting() -> Vec<Value> {
    vec![
        case::policy(),
        namespace(json!({"team": "payments"})),
        account(json!({})),
    ]
}

fn with_setting(object: Value) -> String {
    let mut objects = admitting();
    objects.insert(0, object);
    stream(&objects)
}

const ACCESS: &str = "\
# Source: chart/templates/empty.yaml
---
# Source: chart/templates/access.yaml
apiVersion: stint.dev/v1alpha1
kind: WorkloadAccess
metadata:
  name: migrate-42
  namespace: payments
spec:
  serviceAccountRef:
    name: migrator
  rules:
  - apiGroups: [apps]
    resources:
    - deployments
    verbs:
    - get
    - \"*\"
  duration: 30m
  reason: schema change 42
---
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
";

#[test]
fn a_finding_names_file_line_object_code_and_message() {
    let folder = Folder::new();
    folder.file("manifests/access.yaml", ACCESS);
    let output = folder.run(&["lint", "manifests/access.yaml"]);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    let text = stdout(&output);
    let line = "manifests/access.yaml:18  WorkloadAccess payments/migrate-42  OB-W03  spec.rules[0].verbs[1]: Invalid value: '*': must list verbs by name\n";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("1 object judged: 0 pass, 1 refused, 0 undecided"),
        "{text}"
    );
    assert!(text.contains("1 of other kinds skipped"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours into a pipe");
}

#[test]
fn what_everything_known_admits_passes_and_says_what_was_not_judged() {
    let (status, text) = lint_text(&with_setting(case::request()), &["--strict"]);
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("2 objects judged: 2 pass, 0 refused, 0 undecided; 0 errors, 0 warnings"),
        "{text}"
    );
    assert!(
        text.contains("not judged offline: whether the requester"),
        "{text}"
    );
}

#[rstest]
#[case::too_long("/spec/duration", json!("9h"))]
#[case::no_expiry("/spec/duration", Value::Null)]
#[case::beyond("/spec/rules/0/verbs", json!(["get", "delete", "list"]))]
#[case::wildcards("/spec/rules/0", json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}))]
#[case::secrets("/spec/rules/0", json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}))]
#[case::shared("/spec/serviceAccountRef/name", json!("default"))]
#[case::foreign("/spec/serviceAccountRef/namespace", json!("other"))]
#[case::no_reason("/spec/reason", json!("  "))]
fn a_refusal_is_the_judges_to_the_letter(#[case] pointer: &str, #[case] value: Value) {
    let request = case::with(case::request(), pointer, value);
    let mut facts = case::facts();
    let everything = case::rule("*", "*", &["*"]);
    let ceiling = stint::domain::covers::Ceiling::compile(&[everything]);
    facts.ceiling = Some(std::sync::Arc::new(ceiling));
    let stint::domain::judge::Verdict::Refused(violations) =
        case::decide(request.clone(), &facts, case::now())
    else {
        panic!("the judge admits it");
    };
    let said: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let report = lint_json(&with_setting(request));
    let findings = report["objects"][0]["findings"].as_array().unwrap();
    let found: Vec<&str> = findings
        .iter()
        .map(|f| f["message"].as_str().unwrap())
        .collect();
    assert_eq!(found, said);
}

#[test]
fn every_form_of_input_is_the_same_input() {
    let spoilt = case::with(case::request(), "/spec/duration", Value::Null);
    let yaml = serde_saphyr::to_string(&spoilt).unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [spoilt, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}]});
    let mut bare = spoilt.clone();
    bare.as_object_mut()
        .unwrap()
        .retain(|name, _| name == "metadata" || name == "spec");
    let typed =
        json!({"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccessList", "items": [bare]});
    for text in [
        yaml,
        spoilt.to_string(),
        list.to_string(),
        format!("{typed:#}"),
        format!("---\n# x\n---\n{list:#}\n---\n"),
    ] {
        let report = lint_json(&text);
        let (outcome, codes) = verdict(&report, "migrate-42");
        assert_eq!(outcome, "refused", "{text}");
        assert!(codes.contains(&"WA-NO-EXPIRY".to_owned()), "{codes:?}");
    }
}

#[test]
fn folders_are_searched_and_policies_come_from_elsewhere() {
    let folder = Folder::new();
    folder
        .file("apps/one/access.yaml", case::request().to_string())
        .file("apps/README.md", "no manifest: {")
        .file("apps/.git/broken.yaml", "{")
        .file("policies/all.yaml", stream(&admitting()));
    let output = folder.run(&["lint", "-f", "apps", "--policy", "policies"]);
    assert_eq!(status(&output), 0, "{}{}", stdout(&output), stderr(&output));
    assert!(
        stdout(&output).contains("1 object judged: 1 pass"),
        "{}",
        stdout(&output)
    );
    folder.file(
        "policies/broken.yaml",
        case::with(case::policy(), "/spec/limits/maxDuration", json!("soon")).to_string(),
    );
    let output = folder.run(&["lint", "apps", "--policy", "policies"]);
    assert_eq!(status(&output), 2);
    assert!(
        stderr(&output).contains("cannot be judged against"),
        "{}",
        stderr(&output)
    );
}

#[rstest]
#[case::no_policy(vec![], "no AccessPolicy is in the input")]
#[case::namespace_labels(vec![case::policy(), account(json!({}))], "whether policy 'payments-jobs' selects namespace 'payments'")]
#[case::account_labels(
    vec![case::with(case::policy(), "/spec/serviceAccounts/selector", json!({"matchLabels": {"tier": "batch"}})), namespace(json!({"team": "payments"}))],
    "selects ServiceAccount 'payments/migrator'"
)]
fn what_the_input_does_not_say_is_neither_passed_nor_refused(
    #[case] more: Vec<Value>,
    #[case] says: &str,
) {
    let mut objects = vec![case::request()];
    objects.extend(more);
    let report = lint_json(&stream(&objects));
    let (outcome, errors) = verdict(&report, "migrate-42");
    assert_eq!(
        (outcome.as_str(), errors.len()),
        ("undecided", 0),
        "{report:#}"
    );
    assert!(report.to_string().contains(says), "{report:#}");
    let text = stream(&objects);
    assert_eq!(lint_text(&text, &[]).0, 0);
    assert_eq!(lint_text(&text, &["--strict"]).0, 1);
}

#[rstest]
#[case::by_the_request("request.spec.reason.contains('42')", "passes")]
#[case::by_the_request_in_vain("request.spec.reason.contains('43')", "refused")]
#[case::by_known_labels("namespaceObject.metadata.labels['team'] == 'payments'", "passes")]
#[case::by_who_asks("requester.username == 'alice'", "undecided")]
#[case::by_a_uid("serviceAccount.uid == '1'", "undecided")]
fn a_condition_is_judged_where_all_it_asks_for_is_known(
    #[case] expression: &str,
    #[case] outcome: &str,
) {
    let conditions = json!([{"expression": expression}]);
    let mut objects = admitting();
    objects[0] = case::with(case::policy(), "/spec/conditions", conditions);
    objects.push(case::request());
    let report = lint_json(&stream(&objects));
    assert_eq!(verdict(&report, "migrate-42").0, outcome, "{report:#}");
}

#[test]
fn rights_of_a_role_are_judged_by_its_manifest_or_not_at_all() {
    let request = case::with(case::request(), "/spec/rules", Value::Null);
    let request = case::with(
        request,
        "/spec/roleRef",
        json!({"kind": "ClusterRole", "name": "reader"}),
    );
    let without = lint_json(&with_setting(request.clone()));
    assert_eq!(verdict(&without, "migrate-42").0, "undecided");
    let role = |verbs: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"},
               "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs}]})
    };
    for (verbs, outcome) in [(json!(["get"]), "passes"), (json!(["*"]), "refused")] {
        let mut objects = admitting();
        objects.extend([request.clone(), role(verbs)]);
        let report = lint_json(&stream(&objects));
        assert_eq!(verdict(&report, "migrate-42").0, outcome, "{report:#}");
    }
}

#[test]
fn labels_that_are_known_decide() {
    let other = vec![
        case::request(),
        case::policy(),
        namespace(json!({"team": "search"})),
    ];
    let report = lint_json(&stream(&other));
    assert_eq!(
        verdict(&report, "migrate-42"),
        ("refused".into(), vec!["WA-NO-POLICY".into()])
    );
}

#[test]
fn what_the_schema_refuses_is_refused_with_its_line() {
    let text = ACCESS
        .replace("  duration: 30m", "  durration: 30m")
        .replace("\"*\"", "list");
    let report = lint_json(&text);
    let (_, codes) = verdict(&report, "migrate-42");
    assert!(
        codes.contains(&"WA-DECODE".to_owned()) && codes.contains(&"WA-NO-EXPIRY".to_owned()),
        "{codes:?}"
    );
    let findings = report["objects"][0]["findings"].as_array().unwrap();
    let unknown = findings.iter().find(|f| f["code"] == "WA-DECODE").unwrap();
    assert_eq!(unknown["line"], 19);
    let message = unknown["message"].as_str().unwrap();
    assert!(
        message.contains("spec.durration") && message.contains("did you mean `duration`?"),
        "{message}"
    );
    let (_, text) = lint_text(&ACCESS.replace("30m", "[30m]"), &[]);
    assert!(
        text.contains("spec.duration: Invalid value: must be a string"),
        "{text}"
    );
    let (_, text) = lint_text(&ACCESS.replace("  reason: schema change 42\n", ""), &[]);
    assert!(
        text.contains("spec.reason: Required value: must be set"),
        "{text}"
    );
}

#[rstest]
#[case::misspelt_kind("kind: WorkloadAccess", "kind: WorkloadAcces", "WA-KIND")]
#[case::other_version("stint.dev/v1alpha1", "stint.dev/v1", "WA-DECODE")]
fn a_kind_of_stints_that_nobody_knows_does_not_pass(
    #[case] from: &str,
    #[case] to: &str,
    #[case] code: &str,
) {
    let (status, text) = lint_text(&ACCESS.replace(from, to), &[]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains(code), "{text}");
}

#[test]
fn a_policy_is_judged_as_by_its_webhook() {
    let broken = case::with(case::policy(), "/spec/limits/requireTicket", json!("CHG-("));
    let (status, text) = lint_text(&broken.to_string(), &[]);
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("WA-POLICY  spec.limits.requireTicket: Invalid value: 'CHG-('"),
        "{text}"
    );
    let careless = case::with(case::policy(), "/spec/allow", json!({}));
    let (status, text) = lint_text(&careless.to_string(), &[]);
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("WA-POLICY  warning: spec.allow: allows nothing"),
        "{text}"
    );
    assert_eq!(lint_text(&careless.to_string(), &["--strict"]).0, 1);
}

#[test]
fn json_is_stable() {
    let report = lint_json(ACCESS);
    assert_eq!(report["apiVersion"], "stint.dev/lint/v1");
    assert_eq!(report["mode"], "offline");
    let object = &report["objects"][0];
    assert_eq!(
        (&object["file"], &object["line"]),
        (&json!("<stdin>"), &json!(4))
    );
    assert_eq!(
        (&object["kind"], &object["namespace"], &object["name"]),
        (
            &json!("WorkloadAccess"),
            &json!("payments"),
            &json!("migrate-42")
        )
    );
    assert_eq!(
        object["findings"][0],
        json!({
            "level": "error", "code": "OB-W03", "severity": null, "path": "spec.rules[0].verbs[1]", "line": 18,
            "message": "spec.rules[0].verbs[1]: Invalid value: '*': must list verbs by name [OB-W03]"
        })
    );
    assert_eq!(report["skipped"], json!({"ConfigMap": 1}));
    let documented = std::fs::read_to_string(project().join("docs/lint.md")).unwrap();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let all = [
        names(&report),
        names(object),
        names(&report["summary"]),
        names(&object["findings"][0]),
    ];
    for name in all.iter().flatten() {
        assert!(
            documented.contains(&format!("`{name}`")),
            "docs/lint.md does not describe {name}"
        );
    }
}

#[test]
fn sarif_has_rules_with_help_and_results_with_places() {
    let folder = Folder::new();
    folder.file("a b.yaml", ACCESS);
    let output = folder.run(&["lint", "a b.yaml", "-o", "sarif"]);
    assert_eq!(status(&output), 1);
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "kubectl-stint");
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for rule in rules {
        let texts = [&rule["shortDescription"]["text"], &rule["help"]["text"]];
        assert!(
            texts.iter().all(|t| !t.as_str().unwrap().is_empty()),
            "{rule}"
        );
    }
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b.yaml");
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
    }
    let star = results.iter().find(|r| r["ruleId"] == "OB-W03").unwrap();
    assert_eq!(
        star["locations"][0]["physicalLocation"]["region"]["startLine"],
        18
    );
}

#[rstest]
#[case::nested_flow("a: ".to_owned() + &"[".repeat(1 << 20), "limit")]
#[case::nested_blocks("- ".repeat(1 << 19), "budget")]
#[case::anchors(bomb(), "budget")]
#[case::duplicate_keys("apiVersion: v1\nkind: ConfigMap\nkind: Secret\n".into(), "line 3")]
#[case::unfinished("apiVersion: [v1\nkind: x".into(), "line")]
#[case::template("{{- if .Values.on }}\nkind: x\n{{ end }}".into(), "line 1")]
#[case::no_object("hello\n".into(), "not a Kubernetes object")]
#[case::empty("# nothing\n---\n---\n".into(), "no object")]
#[case::unknown_alias("a: *b".into(), "b")]
fn hostile_input_is_an_error_with_a_place(#[case] text: String, #[case] says: &str) {
    let (status, said) = lint_text(&text, &[]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains(says) && !said.contains("panicked"), "{said}");
}

/// Clears the screen, sets a title, and turns what follows around.
const STEERS: &str = "x\\u001b[2J\\u009b1m\\u202ey";

#[rstest]
#[case::a_name(format!(r#"{{"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess", "metadata": {{"name": "{STEERS}"}}}}"#))]
#[case::a_namespace(format!(r#"{{"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess", "metadata": {{"name": "a", "namespace": "{STEERS}"}}}}"#))]
#[case::a_kind(format!(r#"{{"apiVersion": "stint.dev/v1alpha1", "kind": "{STEERS}", "metadata": {{"name": "a"}}}}"#))]
#[case::a_field(format!(r#"{{"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess", "metadata": {{"name": "a"}}, "spec": {{"{STEERS}": 1}}}}"#))]
#[case::a_role(format!(r#"{{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {{"name": "a"}},
    "roleRef": {{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "{STEERS}"}},
    "subjects": [{{"kind": "ServiceAccount", "name": "b", "namespace": "c"}}]}}"#))]
#[case::a_verb(format!(r#"{{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {{"name": "a"}},
    "rules": [{{"apiGroups": ["{STEERS}"], "resources": ["*"], "verbs": ["{STEERS}"]}}]}}"#))]
fn nothing_in_a_file_steers_a_terminal(#[case] text: String) {
    for form in ["text", "json", "sarif"] {
        let (_, said) = lint_text(&text, &["-o", form]);
        let steers = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}');
        assert!(said.contains('x'), "{form}: nothing is said: {said}");
        assert!(!said.contains(steers), "{form}: {}", said.escape_debug());
    }
}

#[test]
fn what_is_no_text_is_an_error_and_the_rest_is_still_judged() {
    let folder = Folder::new();
    folder
        .file("bad.yaml", b"kind: x\nname: \xff\xfe\n")
        .file("good.yaml", ACCESS);
    let output = folder.run(&[
        "lint",
        "bad.yaml",
        "good.yaml",
        "missing.yaml",
        "-o",
        "json",
    ]);
    assert_eq!(status(&output), 2);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["summary"]["refused"], 1);
    let failures = report["failures"].as_array().unwrap();
    assert!(
        failures[0]
            .as_str()
            .unwrap()
            .starts_with("bad.yaml: line 2: not UTF-8"),
        "{failures:?}"
    );
    assert!(
        failures[1].as_str().unwrap().starts_with("missing.yaml: "),
        "{failures:?}"
    );
}

#[test]
fn without_input_there_is_nothing_to_call_clean() {
    let folder = Folder::new();
    let output = folder.run(&["lint"]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("no input"));
    std::fs::create_dir(folder.0.join("empty")).unwrap();
    assert_eq!(status(&folder.run(&["lint", "empty"])), 2);
}

#[test]
fn requests_that_ended_or_lie_ahead_are_no_refusals() {
    let revoked = case::with(case::request(), "/spec/revoked", json!(true));
    let tomorrow = Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let later = case::with(
        case::request(),
        "/spec/notBefore",
        json!(tomorrow.to_string()),
    );
    for request in [revoked, later] {
        let (status, text) = lint_text(&with_setting(request), &[]);
        assert_eq!(status, 0, "{text}");
    }
}
