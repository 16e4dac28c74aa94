//! `kubectl stint adopt` on files: what standing bindings are worth, what could take their place, and why not.

use rstest::rstest;
use serde_json::{Value, json};
use support::plugin::*;
use support::project;

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "apiGroup": RBAC_GROUP, "name": name})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "apiGroup": RBAC_GROUP, "name": name})
}

/// A Role of namespace `payments`, or a ClusterRole.
fn role(kind: &str, name: &str, rules: Value) -> Value {
    let mut role = rbac(kind, json!({"rules": rules}));
    role["metadata"]["name"] = name.into();
    role
}

/// A binding of namespace `payments`, or a ClusterRoleBinding.
fn binding(kind: &str, name: &str, role: (&str, &str), subjects: Value) -> Value {
    let reference = json!({"apiGroup": RBAC_GROUP, "kind": role.0, "name": role.1});
    let mut binding = rbac(kind, json!({"roleRef": reference, "subjects": subjects}));
    binding["metadata"]["name"] = name.into();
    binding
}

fn reads() -> Value {
    json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]}])
}

fn reader() -> Value {
    role("Role", "reader", reads())
}

/// What `adopt` says of these objects, with its exit status.
fn adopt(objects: &[Value], more: &[&str]) -> (i32, Value) {
    let args = [&["adopt", "-", "-o", "json"], more].concat();
    let output = run(&Folder::new().0, &args, &stream(objects));
    let text = stdout(&output);
    let report = serde_json::from_str(&text);
    (
        status(&output),
        report.unwrap_or_else(|_| panic!("{}", stderr(&output))),
    )
}

fn only(report: &Value) -> &Value {
    let items = report["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{report:#}");
    &items[0]
}

fn codes(told: &Value) -> Vec<&str> {
    let all = told.as_array().unwrap().iter();
    all.map(|one| one["code"].as_str().unwrap()).collect()
}

/// The outcome of each object of a stream by `lint`.
fn linted(objects: &[Value]) -> Vec<(String, String)> {
    let report = lint_json(&stream(objects));
    let all = report["objects"].as_array().unwrap().iter();
    all.map(|object| {
        let text = |field: &str| object[field].as_str().unwrap().to_owned();
        (
            format!("{} {}", text("kind"), text("name")),
            text("outcome"),
        )
    })
    .collect()
}

#[test]
fn a_binding_becomes_a_policy_and_a_request_that_give_the_same() {
    let subjects = json!([account("payments", "ci")]);
    let bound = binding("RoleBinding", "ci-reads", ("Role", "reader"), subjects);
    let (status, report) = adopt(&[reader(), bound.clone()], &[]);
    let item = only(&report);
    assert_eq!((status, &item["decision"]), (0, &json!("move")));
    assert_eq!(item["subject"], "payments/ci");
    let proposal = &item["proposal"];
    let (policy, request) = (&proposal["policy"], &proposal["request"]);
    assert_eq!(policy["spec"]["allow"], json!({"rules": reads()}));
    assert_eq!(policy["spec"]["serviceAccounts"], json!({"names": ["ci"]}));
    assert_eq!(request["spec"]["rules"], reads());
    assert_eq!(request["spec"]["duration"], "8h");
    assert_eq!(
        request["spec"]["reason"],
        "instead of RoleBinding payments/ci-reads"
    );
    let named = proposal["policy"]["metadata"]["name"].as_str().unwrap();
    let outcomes = linted(&[policy.clone(), request.clone()]);
    assert_eq!(
        outcomes,
        [
            (format!("AccessPolicy {named}"), "passes".to_owned()),
            (format!("WorkloadAccess {named}"), "passes".to_owned())
        ]
    );
    assert_eq!(item["restore"], bound, "the way back is the binding");
}

/// In the shape of the charts of three public projects and an ingress controller.
#[rstest]
#[case("cert-manager.yaml")]
#[case("argo-cd.yaml")]
#[case("prometheus.yaml")]
#[case("ingress.yaml")]
fn every_proposal_for_a_public_project_passes_lint_or_says_why_not(#[case] file: &str) {
    let path = project().join("tests/guard").join(file);
    let output = run(
        &Folder::new().0,
        &["adopt", path.to_str().unwrap(), "-o", "json"],
        "",
    );
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let items = report["items"].as_array().unwrap();
    assert!(!items.is_empty(), "{}", stderr(&output));
    for item in items {
        match item["decision"].as_str().unwrap() {
            "move" => {
                let proposal = &item["proposal"];
                let objects = [proposal["policy"].clone(), proposal["request"].clone()];
                for (object, outcome) in linted(&objects) {
                    assert_eq!(outcome, "passes", "{object}: {item:#}");
                }
            }
            "keep" => assert!(!codes(&item["why"]).is_empty(), "{item:#}"),
            other => panic!("{other}: {item:#}"),
        }
    }
}

#[test]
fn an_account_that_is_written_in_two_ways_is_one_and_leaves_in_one_step() {
    let bob = user("bob");
    let subjects = json!([
        account("payments", "ci"),
        bob,
        user("system:serviceaccount:payments:ci")
    ]);
    let bound = binding("RoleBinding", "mixed", ("Role", "reader"), subjects.clone());
    let (_, report) = adopt(&[reader(), bound], &[]);
    let item = only(&report);
    assert_eq!(report["leftAlone"]["people"], 1);
    let steps = item["steps"].as_array().unwrap().iter();
    let runs = steps.flat_map(|step| step["run"].as_array().unwrap());
    let removal = runs
        .filter_map(Value::as_str)
        .find(|run| run.starts_with("kubectl patch rolebinding mixed -n payments"))
        .unwrap();
    let patch = removal.split_once("-p '").unwrap().1.trim_end_matches('\'');
    let mut object = json!({"subjects": subjects});
    let patch: json_patch::Patch = serde_json::from_str(patch).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    assert_eq!(object["subjects"], json!([bob]));
}

#[rstest]
#[case::default("ClusterRoleBinding", "system:basic-user", ("ClusterRole", "system:basic-user"), group("system:authenticated"), "kubernetes")]
#[case::control_plane("ClusterRoleBinding", "cni", ("ClusterRole", "cni"), account("kube-system", "cni"), "controlPlane")]
#[case::people("RoleBinding", "team", ("Role", "reader"), user("alice"), "people")]
#[case::groups_of_people("RoleBinding", "team", ("Role", "reader"), group("sre"), "people")]
fn what_nobody_has_to_move_is_counted(
    #[case] kind: &str,
    #[case] name: &str,
    #[case] role: (&str, &str),
    #[case] subject: Value,
    #[case] counted: &str,
) {
    let (status, report) = adopt(&[binding(kind, name, role, json!([subject]))], &[]);
    assert_eq!((status, &report["items"]), (0, &json!([])));
    assert_eq!(report["leftAlone"][counted], 1, "{report:#}");
}

/// Names and labels that anybody can choose.
#[rstest]
#[case::name_of_kubernetes("system:basic-user", json!({"kubernetes.io/bootstrapping": "rbac-defaults"}))]
#[case::label_of_a_grant("x", json!({"stint.dev/grant": "11112222-3333"}))]
fn nothing_hides_behind_a_name_or_a_label(#[case] name: &str, #[case] labels: Value) {
    let role = role(
        "ClusterRole",
        "nodes",
        json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]),
    );
    let mut bound = binding(
        "ClusterRoleBinding",
        name,
        ("ClusterRole", "nodes"),
        json!([account("payments", "ci")]),
    );
    bound["metadata"]["labels"] = labels;
    let (_, report) = adopt(&[role, bound], &[]);
    assert_eq!(only(&report)["decision"], "move");
}

#[test]
fn stint_itself_stays() {
    let mut bound = binding(
        "RoleBinding",
        "stint",
        ("Role", "reader"),
        json!([account("payments", "stint")]),
    );
    bound["metadata"]["labels"] = json!({"app.kubernetes.io/name": "stint"});
    let (status, report) = adopt(&[reader(), bound], &[]);
    let item = only(&report);
    assert_eq!((status, &item["decision"]), (1, &json!("keep")));
    assert_eq!(item["why"][0]["path"], "metadata.labels");
}

#[rstest]
#[case::everything(json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]))]
#[case::escalation(json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]}]))]
fn what_no_policy_can_allow_stays_with_every_reason(#[case] rules: Value) {
    let mut all = reads().as_array().unwrap().clone();
    all.extend(rules.as_array().unwrap().clone());
    let bound = binding(
        "RoleBinding",
        "wide",
        ("Role", "reader"),
        json!([account("payments", "ci")]),
    );
    let (status, report) = adopt(&[role("Role", "reader", json!(all)), bound], &[]);
    let item = only(&report);
    assert_eq!((status, &item["decision"]), (1, &json!("keep")), "{item:#}");
    assert!(
        codes(&item["why"])
            .iter()
            .all(|code| code.starts_with("OB-"))
    );
    let fine = item["fine"].as_array().unwrap();
    assert_eq!(fine.len(), 1, "{item:#}");
    assert!(fine[0].as_str().unwrap().contains("configmaps"));
    assert_eq!(item["steps"], json!([]));
}

#[test]
fn groups_of_accounts_stay() {
    let everybody = json!([group("system:serviceaccounts:payments")]);
    let bound = binding("RoleBinding", "all", ("Role", "reader"), everybody);
    let (status, report) = adopt(&[reader(), bound], &[]);
    let item = only(&report);
    assert_eq!((status, &item["decision"]), (1, &json!("keep")));
    assert!(!codes(&item["why"]).is_empty(), "{item:#}");
}

#[test]
fn what_does_nothing_is_left_out_and_said() {
    let rules = json!([reads()[0], {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]);
    let bound = binding(
        "RoleBinding",
        "ci",
        ("ClusterRole", "mixed"),
        json!([account("payments", "ci")]),
    );
    let (_, report) = adopt(&[role("ClusterRole", "mixed", rules), bound], &[]);
    let proposal = &only(&report)["proposal"];
    assert_eq!(proposal["request"]["spec"]["rules"], reads());
    let notes = proposal["notes"].to_string();
    assert!(notes.contains("left out: one right"), "{notes}");
}

#[rstest]
#[case::low("720h", reads(), "720h")]
#[case::high("720h", json!([{"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["patch"]}]), "8h")]
#[case::high_and_short("30m", json!([{"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["patch"]}]), "30m")]
fn the_risk_bounds_the_time(#[case] asked: &str, #[case] rules: Value, #[case] lasts: &str) {
    let bound = binding(
        "RoleBinding",
        "ci",
        ("Role", "reader"),
        json!([account("payments", "ci")]),
    );
    let (_, report) = adopt(
        &[role("Role", "reader", rules), bound],
        &["--duration", asked],
    );
    let proposal = &only(&report)["proposal"];
    assert_eq!(proposal["request"]["spec"]["duration"], lasts, "{report:#}");
    assert_eq!(proposal["policy"]["spec"]["limits"]["maxDuration"], lasts);
    let said = proposal["notes"].to_string().contains("WA-TOO-LONG");
    assert_eq!(said, lasts != asked);
}

#[test]
fn a_role_that_is_not_in_the_input_is_not_guessed() {
    let subjects = json!([account("payments", "ci")]);
    let bound = binding("RoleBinding", "ci", ("Role", "elsewhere"), subjects);
    let (status, report) = adopt(&[bound], &[]);
    let item = only(&report);
    assert_eq!((status, &item["risk"]), (1, &json!("unknown")));
    assert_eq!(codes(&item["why"]), ["WA-ROLE-MISSING"]);
}

#[rstest]
#[case::account("--serviceaccount", "payments/ci", 1)]
#[case::account_of_another_namespace("--serviceaccount", "search/ci", 1)]
#[case::nobody("--serviceaccount", "payments/cd", 0)]
#[case::binding("--binding", "one", 2)]
fn one_account_or_one_binding_can_be_looked_at(
    #[case] flag: &str,
    #[case] value: &str,
    #[case] found: usize,
) {
    let both = json!([account("payments", "ci"), account("search", "ci")]);
    let bound = binding("RoleBinding", "one", ("Role", "reader"), both);
    let alone = json!([account("payments", "nightly")]);
    let other = binding("RoleBinding", "two", ("Role", "reader"), alone);
    let (_, report) = adopt(&[reader(), bound, other], &[flag, value]);
    assert_eq!(report["items"].as_array().unwrap().len(), found);
}

#[rstest]
#[case::helm(json!({"annotations": {"meta.helm.sh/release-name": "ci"}}), "Helm release ci")]
#[case::argo(json!({"annotations": {"argocd.argoproj.io/tracking-id": "ci:rbac"}}), "Argo CD ci:rbac")]
#[case::flux(json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "ci"}}), "Flux Kustomization ci")]
#[case::owner(json!({"ownerReferences": [{"apiVersion": "x/v1", "kind": "Widget", "name": "w", "uid": "u"}]}), "Widget w")]
fn who_would_make_the_binding_again_is_named(#[case] metadata: Value, #[case] made_by: &str) {
    let subjects = json!([account("payments", "ci")]);
    let mut bound = binding("RoleBinding", "ci", ("Role", "reader"), subjects);
    bound["metadata"]
        .as_object_mut()
        .unwrap()
        .extend(metadata.as_object().unwrap().clone());
    let objects = stream(&[reader(), bound.clone()]);
    let (_, report) = adopt(&[reader(), bound], &[]);
    assert_eq!(only(&report)["madeBy"], made_by);
    let output = run(&Folder::new().0, &["adopt", "-", "-o", "yaml"], &objects);
    let text = stdout(&output);
    assert!(
        text.contains(&format!("# note: {made_by} may make the binding again")),
        "{text}"
    );
}

/// The comments cannot end, the commands stay one word each, and the terminal stays as it is.
#[test]
fn nothing_that_somebody_wrote_leaves_its_place() {
    let hostile = "x'; rm -rf ~ $(id)\n---\nkind: Evil\u{1b}]0;owned\u{7}\u{202e}";
    let subjects = json!([account("payments", "ci")]);
    let mut bound = binding("RoleBinding", hostile, ("Role", "reader"), subjects);
    bound["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": hostile});
    let objects = stream(&[reader(), bound]);
    for form in ["table", "wide", "yaml", "json", "restore"] {
        let output = run(&Folder::new().0, &["adopt", "-", "-o", form], &objects);
        let text = stdout(&output);
        assert_eq!(status(&output), 1, "such a name stays: {}", stderr(&output));
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.chars().any(steers), "{form}: {text}");
        assert!(
            !text.lines().any(|line| line.starts_with("kind: Evil")),
            "{form}: {text}"
        );
    }
}

#[test]
fn a_name_with_the_words_of_a_shell_stays_one_word() {
    let subjects = json!([account("payments", "ci")]);
    let bound = binding(
        "RoleBinding",
        "x'; rm -rf ~ $(id)",
        ("Role", "reader"),
        subjects,
    );
    let (_, report) = adopt(&[reader(), bound], &[]);
    let run = &only(&report)["steps"][0]["run"][0];
    let quoted = r"--binding 'x'\''; rm -rf ~ $(id)' --duration 8h";
    assert!(run.as_str().unwrap().contains(quoted), "{run}");
}

/// It would go on giving rights after its deletion, for as long as nobody knows.
#[rstest]
#[case("finalizers", json!(["example.com/x"]))]
#[case("deletionTimestamp", json!("2026-12-01T12:00:00Z"))]
fn a_binding_that_something_holds_stays(#[case] field: &str, #[case] value: Value) {
    let subjects = json!([account("payments", "ci")]);
    let mut bound = binding("RoleBinding", "ci", ("Role", "reader"), subjects);
    bound["metadata"][field] = value;
    let (status, report) = adopt(&[reader(), bound], &[]);
    assert_eq!((status, &only(&report)["decision"]), (1, &json!("keep")));
}

#[test]
fn another_role_behind_a_name_of_kubernetes_is_told() {
    let everybody = json!([group("system:authenticated")]);
    let role = ("ClusterRole", "cluster-admin");
    let bound = binding("ClusterRoleBinding", "system:basic-user", role, everybody);
    let (status, report) = adopt(&[bound], &[]);
    assert_eq!((status, &only(&report)["decision"]), (1, &json!("keep")));
}

#[test]
fn a_role_that_gives_nothing_there_can_go() {
    let rules = json!([{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]);
    let subjects = json!([account("payments", "ci")]);
    let bound = binding("RoleBinding", "ci", ("ClusterRole", "urls"), subjects);
    let (status, report) = adopt(&[role("ClusterRole", "urls", rules), bound], &[]);
    assert_eq!((status, &only(&report)["decision"]), (0, &json!("delete")));
}

#[test]
fn the_way_back_is_each_binding_once() {
    let both = json!([account("payments", "ci"), account("payments", "cd")]);
    let mut bound = binding("RoleBinding", "both", ("Role", "reader"), both);
    bound["metadata"]["labels"] = json!({"team": "payments"});
    let clean = bound.clone();
    bound["metadata"]["uid"] = "u-1".into();
    bound["metadata"]["resourceVersion"] = "7".into();
    bound["metadata"]["managedFields"] = json!([]);
    let objects = stream(&[reader(), bound]);
    let output = run(&Folder::new().0, &["adopt", "-", "-o", "restore"], &objects);
    let read: Vec<Value> = serde_saphyr::from_multiple(&stdout(&output)).unwrap();
    assert_eq!(read, [clean]);
}

#[rstest]
#[case::half("kind: RoleBinding\nmetadata: {", "<stdin>")]
#[case::no_object("just: text\n", "<stdin>:1: not a Kubernetes object")]
#[case::nothing("", "no input")]
#[case::no_binding(
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: x}\nsubjects: 7\n",
    "<stdin>:1: RoleBinding 'x'"
)]
#[case::bomb(
    "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e]\n",
    "<stdin>"
)]
fn what_cannot_be_read_is_said_with_its_place(#[case] text: &str, #[case] said: &str) {
    let output = run(&Folder::new().0, &["adopt", "-"], text);
    assert_eq!(status(&output), 2, "{}", stdout(&output));
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
}

#[rstest]
#[case::length(&["adopt", "-", "--duration", "soon"], "--duration")]
#[case::account(&["adopt", "-", "--serviceaccount", "../x"], "is no name of a")]
#[case::files_are_not_moved(&["adopt", "-", "--serviceaccount", "a", "--apply"], "--apply")]
#[case::whom(&["adopt", "--apply"], "--serviceaccount")]
#[case::no_form(&["adopt", "--serviceaccount", "a", "--apply", "-o", "json"], "--output")]
#[case::backup_of_what(&["adopt", "-", "--backup", "x"], "--apply")]
fn wrong_flags_are_said(#[case] args: &[&str], #[case] said: &str) {
    let output = run(&Folder::new().0, args, "");
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
}
