//! `kubectl stint` as a person and a pipeline meet it: the binary itself, on files and on stdin.

mod support;

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use stint::domain::catalogue;
use support::case;

/// A folder of its own for one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stint-plugin-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and gives back its name.
    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn run(&self, args: &[&str]) -> Output {
        run(&self.0, args, "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(folder: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-stint"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A run that does not want its stdin closes it.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    child.wait_with_output().unwrap()
}

fn lint_text(text: &str, more: &[&str]) -> (i32, String) {
    let folder = Folder::new();
    let args: Vec<&str> = ["lint", "-"].iter().chain(more).copied().collect();
    let output = run(&folder.0, &args, text);
    (status(&output), stdout(&output) + &stderr(&output))
}

fn lint_json(text: &str) -> Value {
    let folder = Folder::new();
    let output = run(&folder.0, &["lint", "-", "-o", "json"], text);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A stream of documents as JSON, which is YAML too.
fn stream(objects: &[Value]) -> String {
    let documents: Vec<String> = objects.iter().map(|o| format!("{o:#}")).collect();
    documents.join("\n---\n")
}

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

/// The outcome, and the codes of the errors, of the object of this name.
fn verdict(report: &Value, name: &str) -> (String, Vec<String>) {
    let objects = report["objects"].as_array().unwrap();
    let object = objects.iter().find(|o| o["name"] == name).unwrap();
    let findings = object["findings"].as_array().unwrap();
    let errors = findings.iter().filter(|f| f["level"] == "error");
    let codes = errors
        .map(|f| f["code"].as_str().unwrap().to_owned())
        .collect();
    (object["outcome"].as_str().unwrap().to_owned(), codes)
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

fn rbac(kind: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "x", "namespace": "payments"}});
    if kind.starts_with("Cluster") {
        object["metadata"] = json!({"name": "x"});
    }
    object
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    object
}

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
#[case::no_end("RoleBinding", json!({"kind": "ServiceAccount", "name": "ci"}), "reader", "OB-X01", 0)]
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
    let documented =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lint.md"))
            .unwrap();
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

fn bomb() -> String {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (of, name) in ('a'..='l').zip('b'..) {
        let aliases = vec![format!("*{of}"); 9].join(",");
        text.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    text
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

/// Answers one request after the other as the API server would, and gives back what was asked.
fn api_server(
    folder: &Folder,
    answers: Vec<(u16, Value, &'static str)>,
) -> std::thread::JoinHandle<Vec<String>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "payments"}}]
    });
    folder.file("kubeconfig", kubeconfig.to_string());
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (code, body, headers) in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut sent = vec![0; length];
            reader.read_exact(&mut sent).unwrap();
            asked.push(first + &String::from_utf8(sent).unwrap());
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
        }
        asked
    })
}

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
#[case::not_ready(503, json!({"message": "failed calling webhook"}))]
#[case::not_allowed(403, json!({"reason": "Forbidden", "message": "User \"jane\" cannot create resource"}))]
#[case::not_installed(404, json!({"message": "the server could not find the requested resource"}))]
fn online_no_answer_is_no_verdict(#[case] code: u16, #[case] body: Value) {
    let folder = Folder::new();
    folder.file("access.yaml", case::request().to_string());
    let server = api_server(&folder, vec![(code, body.clone(), "")]);
    let output = online(&folder, "text");
    server.join().unwrap();
    assert_eq!(status(&output), 2);
    assert!(
        stderr(&output).contains(body["message"].as_str().unwrap()),
        "{}",
        stderr(&output)
    );
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

fn codes(args: &[&str]) -> Output {
    let folder = Folder::new();
    let args: Vec<&str> = ["codes"].iter().chain(args).copied().collect();
    folder.run(&args)
}

#[test]
fn every_code_is_listed_and_explained() {
    let listed: Vec<Value> = serde_json::from_slice(&codes(&["-o", "json"]).stdout).unwrap();
    let ids: BTreeSet<&str> = listed.iter().map(|e| e["code"].as_str().unwrap()).collect();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/codes.md"))
        .unwrap();
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    for code in headings.chain(catalogue::codes().iter().map(|c| c.id)) {
        assert!(ids.contains(code), "{code} is not listed");
    }
    let table = stdout(&codes(&[]));
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
