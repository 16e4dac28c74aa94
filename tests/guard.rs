//! The guard on plain RBAC before the webhook: who is asked, what a change adds, and what becomes of it in its place.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use stint::domain::guard::Mode;
use support::fake_api::{Harm, on};
use support::guard::{answer, change, refusal};
use support::world::{NAMESPACE, Operator, World};

/// A namespace of each mode beside the one without a label.
const MODES: [&str; 3] = ["audit", "warn", "deny"];

async fn world() -> (World, Operator) {
    let mut world = World::new();
    world.guarding.cluster = Some(Mode::Deny);
    world.guarding.exempt.users = vec!["flux".into()];
    for mode in MODES {
        world.api.namespace(mode, json!({"stint.dev/guard": mode}));
    }
    world
        .api
        .namespace("odd", json!({"stint.dev/guard": "Audit"}));
    let operator = ready(&world).await;
    (world, operator)
}

async fn ready(world: &World) -> Operator {
    let operator = world.operator();
    world.pass(SignedDuration::from_secs(2)).await;
    assert!(operator.ready());
    operator
}

fn seed(world: &World, object: &Value) {
    let mut object = object.clone();
    object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
    world.api.seed(object);
}

fn named(kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = json!({"kind": kind, "metadata": {"name": name}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

fn role(namespace: &str, rules: Value) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRole"
    } else {
        "Role"
    };
    let mut object = named(kind, namespace, "tool");
    object["rules"] = rules;
    object
}

fn rule(resource: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "verbs": verbs})
}

fn reads() -> Value {
    json!([rule("configmaps", &["get", "list"])])
}

fn secrets() -> Value {
    json!([rule("secrets", &["get", "list"])])
}

fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

fn binding(namespace: &str, role: (&str, &str), subjects: &[Value]) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    let mut object = named(kind, namespace, "to-tool");
    object["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1});
    object["subjects"] = json!(subjects);
    object
}

fn by(mut review: Value, user: &str, groups: &[&str]) -> Value {
    review["request"]["userInfo"] = json!({"username": user, "groups": groups});
    review
}

/// The codes in brackets of a text, in their order, each once.
fn codes(text: &str) -> Vec<&str> {
    let ends = text.split('[').skip(1).filter_map(|rest| {
        let code = rest.split(']').next()?;
        (code.starts_with("OB-") || code.starts_with("WA-")).then_some(code)
    });
    let mut codes: Vec<&str> = Vec::new();
    ends.for_each(|code| {
        if !codes.contains(&code) {
            codes.push(code);
        }
    });
    codes
}

#[rstest]
#[case::a_wide_role(role("deny", secrets()), &["OB-S01"])]
#[case::a_wildcard(role("deny", json!([rule("pods", &["*"])])), &["OB-W03", "OB-P01", "OB-P02"])]
#[case::a_harmless_role(role("deny", reads()), &[])]
#[case::dead_in_a_namespace(role("deny", json!([rule("nodes/proxy", &["get"])])), &[])]
#[case::alive_in_the_cluster(role("", json!([rule("nodes/proxy", &["get"])])), &["OB-N01"])]
#[case::an_account(binding("deny", ("Role", "reader"), &[json!({"kind": "ServiceAccount", "name": "ci"})]), &["WA-STANDING"])]
#[case::an_account_in_disguise(binding("deny", ("Role", "reader"), &[user("system:serviceaccount:deny:ci")]), &["OB-B11", "WA-STANDING"])]
#[case::a_person(binding("deny", ("Role", "reader"), &[user("jane")]), &[])]
#[case::a_person_and_a_wide_role(binding("deny", ("ClusterRole", "wide"), &[user("jane")]), &["OB-S01"])]
#[case::everybody(binding("", ("ClusterRole", "reader"), &[json!({"kind": "Group", "name": "system:authenticated"})]), &["OB-B02"])]
#[case::all_accounts(binding("", ("ClusterRole", "reader"), &[json!({"kind": "Group", "name": "system:serviceaccounts"})]), &["OB-B04", "WA-STANDING"])]
#[case::no_such_role_in_the_cluster(binding("", ("ClusterRole", "gone"), &[user("jane")]), &["OB-B08"])]
#[tokio::test(start_paused = true)]
async fn what_is_new_is_held_against_the_catalogue(
    #[case] object: Value,
    #[case] expected: &[&str],
) {
    let (world, operator) = world().await;
    let mut reader = named("Role", "deny", "reader");
    reader["rules"] = reads();
    seed(&world, &reader);
    for (name, rules) in [("reader", reads()), ("wide", secrets())] {
        let mut role = named("ClusterRole", "", name);
        role["rules"] = rules;
        seed(&world, &role);
    }
    let text = refusal(&operator, &change(&object, None)).await;
    assert_eq!(
        codes(text.as_deref().unwrap_or_default()),
        expected,
        "{text:?}"
    );
    assert_eq!(text.is_none(), expected.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_reads_like_every_other_and_says_everything_at_once() {
    let (world, operator) = world().await;
    seed(&world, &role("deny", secrets()));
    let object = binding(
        "deny",
        ("Role", "tool"),
        &[account("ci"), account("default")],
    );
    let response = answer(&operator, &change(&object, None)).await;
    let status = &response["status"];
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(422), &json!("Invalid"))
    );
    assert_eq!(status["details"]["group"], "rbac.authorization.k8s.io");
    let text = status["message"].as_str().unwrap();
    let first = "RoleBinding \"to-tool\" is invalid:\nsubjects[0]: Forbidden: 'ci': ";
    assert!(text.starts_with(first), "{text}");
    assert_eq!(codes(text), ["WA-STANDING", "OB-S01"], "{text}");
    assert!(text.contains("a WorkloadAccess gives them for as long as the work lasts"));
    assert!(text.contains("\nroleRef: Forbidden: "), "{text}");
    assert_eq!(
        status["details"]["causes"].as_array().unwrap().len(),
        text.lines().count() - 1
    );
}

#[rstest]
#[case::no_label(NAMESPACE, true, false)]
#[case::audit("audit", true, false)]
#[case::warn("warn", true, true)]
#[case::deny("deny", false, false)]
#[case::no_mode("odd", false, false)]
#[tokio::test(start_paused = true)]
async fn the_label_of_the_namespace_says_what_becomes_of_it(
    #[case] namespace: &str,
    #[case] allowed: bool,
    #[case] warned: bool,
) {
    let (world, operator) = world().await;
    let mut object = role(namespace, secrets());
    object["metadata"]["uid"] = json!("uid-of-the-role");
    let response = answer(&operator, &change(&object, None)).await;
    assert_eq!(response["allowed"], json!(allowed), "{response}");
    let warnings = response["warnings"].to_string();
    assert_eq!(warnings.contains("[OB-S01]"), warned, "{warnings}");

    let mode = match namespace {
        NAMESPACE => "audit",
        "odd" => "deny",
        mode => mode,
    };
    let line =
        format!("stint_guard_findings_total{{code=\"OB-S01\",mode=\"{mode}\",kind=\"Role\"}} 1\n");
    let metrics = operator.metrics.encode().unwrap();
    assert!(metrics.contains(&line), "{metrics}");

    world.pass(SignedDuration::from_secs(1)).await;
    let events = world.api.list("events", namespace);
    assert_eq!(events.len(), usize::from(allowed), "{events:?}");
    for event in events {
        assert_eq!(event["reason"], "GuardFinding");
        assert_eq!(event["regarding"]["uid"], "uid-of-the-role");
        let note = event["note"].as_str().unwrap();
        assert!(
            note.starts_with("alice:\n") && note.contains("[OB-S01]"),
            "{note}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_mode_and_that_of_the_cluster_are_settings() {
    let mut world = World::new();
    world.guarding.default_mode = Mode::Deny;
    world.guarding.cluster = None;
    let operator = ready(&world).await;
    assert!(
        refusal(&operator, &change(&role(NAMESPACE, secrets()), None))
            .await
            .is_some()
    );
    assert!(
        refusal(&operator, &change(&role("", secrets()), None))
            .await
            .is_none()
    );
    let metrics = operator.metrics.encode().unwrap();
    assert!(
        !metrics.contains("kind=\"ClusterRole\""),
        "off is not counted"
    );
}

#[rstest]
#[case::api_server("system:apiserver", &["system:masters"], true)]
#[case::aggregation("system:serviceaccount:kube-system:clusterrole-aggregation-controller", &[], true)]
#[case::garbage_collector("system:serviceaccount:kube-system:generic-garbage-collector", &[], true)]
#[case::controller_manager("system:kube-controller-manager", &[], true)]
#[case::stint("system:serviceaccount:stint-system:stint", &[], true)]
#[case::break_glass("root", &["system:masters"], true)]
#[case::add_on_manager("flux", &[], true)]
#[case::another_account_of_stint("system:serviceaccount:stint-system:other", &[], false)]
#[case::another_account_of_the_cluster("system:serviceaccount:kube-system:my-controller", &[], false)]
#[case::an_admin("jane", &["kubeadm:cluster-admins"], false)]
#[tokio::test(start_paused = true)]
async fn only_an_identity_exempts(
    #[case] user: &str,
    #[case] groups: &[&str],
    #[case] passes: bool,
) {
    let (_world, operator) = world().await;
    let mut object = role("", json!([rule("*", &["*"])]));
    let labels = json!({"stint.dev/grant": "x", "app.kubernetes.io/managed-by": "stint",
                        "kubernetes.io/bootstrapping": "rbac-defaults"});
    object["metadata"]["labels"] = labels;
    let review = by(change(&object, None), user, groups);
    assert_eq!(refusal(&operator, &review).await.is_none(), passes);
}

#[rstest]
#[case::the_same(secrets(), secrets(), &[])]
#[case::less(json!([rule("secrets", &["get", "list"]), rule("pods", &["get"])]), secrets(), &[])]
#[case::in_another_order(json!([rule("secrets", &["get"]), rule("pods", &["*"])]), json!([rule("pods", &["*"]), rule("secrets", &["get"])]), &[])]
#[case::in_other_words(json!([rule("secrets", &["get", "list"])]), json!([rule("secrets", &["list"]), rule("secrets", &["get"])]), &[])]
#[case::harmless_and_more(reads(), json!([rule("configmaps", &["get", "list"]), rule("pods", &["get"])]), &[])]
#[case::harmless_becomes_wide(reads(), secrets(), &["OB-S01"])]
#[case::wide_and_more(secrets(), json!([rule("secrets", &["get", "list"]), rule("pods", &["get"])]), &["WA-GREW"])]
#[case::wide_and_worse(secrets(), json!([rule("secrets", &["get", "list"]), rule("pods", &["*"])]), &["OB-W03", "OB-P01", "OB-P02", "WA-GREW"])]
#[case::wide_becomes_another(secrets(), json!([rule("pods", &["get"])]), &[])]
#[tokio::test(start_paused = true)]
async fn a_role_is_refused_for_what_it_gains(
    #[case] old: Value,
    #[case] new: Value,
    #[case] expected: &[&str],
) {
    let (_world, operator) = world().await;
    let update = |namespace| {
        change(
            &role(namespace, new.clone()),
            Some(&role(namespace, old.clone())),
        )
    };
    let text = refusal(&operator, &update("deny")).await;
    assert_eq!(
        codes(text.as_deref().unwrap_or_default()),
        expected,
        "{text:?}"
    );
    // In the whole cluster some rights lead to more, and none to less.
    let text = refusal(&operator, &update("")).await;
    assert_eq!(text.is_none(), expected.is_empty(), "{text:?}");
}

#[rstest]
#[case::nobody_new(&[user("jane")], &[user("jane")], &[])]
#[case::fewer(&[user("jane"), account("ci")], &[account("ci")], &[])]
#[case::in_other_words(&[account("ci")], &[user("system:serviceaccount:payments:ci")], &[])]
#[case::a_person(&[user("jane")], &[user("jane"), user("joe")], &["WA-GREW"])]
#[case::an_account(&[account("ci")], &[account("ci"), account("cd")], &["WA-STANDING", "WA-GREW"])]
#[tokio::test(start_paused = true)]
async fn a_binding_is_refused_for_whom_it_gains(
    #[case] old: &[Value],
    #[case] new: &[Value],
    #[case] expected: &[&str],
) {
    let (world, operator) = world().await;
    seed(&world, &role("deny", secrets()));
    let with = |subjects| binding("deny", ("Role", "tool"), subjects);
    let text = refusal(&operator, &change(&with(new), Some(&with(old)))).await;
    assert_eq!(
        codes(text.as_deref().unwrap_or_default()),
        expected,
        "{text:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_harmless_role_that_an_account_holds_without_an_end_does_not_grow() {
    let (world, operator) = world().await;
    let (old, new) = (
        role("deny", reads()),
        role(
            "deny",
            json!([rule("configmaps", &["get", "list", "watch"])]),
        ),
    );
    let grow = change(&new, Some(&old));
    assert_eq!(refusal(&operator, &grow).await, None);
    seed(&world, &binding("deny", ("Role", "tool"), &[account("ci")]));
    world.pass(SignedDuration::from_secs(1)).await;
    let text = refusal(&operator, &grow).await.unwrap();
    assert_eq!(codes(&text), ["WA-GREW"]);
    assert!(
        text.contains("rules: Forbidden: 'watch configmaps'"),
        "{text}"
    );
    assert!(
        text.contains("RoleBinding 'deny/to-tool' gives it to accounts"),
        "{text}"
    );
    // Neither does one that is deleted first.
    assert!(refusal(&operator, &change(&new, None)).await.is_some());
    let shrink = change(&role("deny", json!([])), Some(&old));
    assert_eq!(refusal(&operator, &shrink).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_label_by_which_others_take_a_role_in_is_more_than_a_label() {
    let (_world, operator) = world().await;
    let labelled = |rules: Value, key: &str| {
        let mut object = role("", rules);
        object["metadata"]["labels"] = json!({key: "true"});
        object
    };
    let label =
        |rules: Value, key: &str| change(&labelled(rules.clone(), key), Some(&role("", rules)));
    for key in [
        "rbac.authorization.k8s.io/aggregate-to-view",
        "rbac.stint.dev/grantable",
    ] {
        let text = refusal(&operator, &label(secrets(), key)).await.unwrap();
        assert!(codes(&text).contains(&"OB-S01"), "{text}");
        assert_eq!(refusal(&operator, &label(reads(), key)).await, None);
        let removed = change(&role("", secrets()), Some(&labelled(secrets(), key)));
        assert_eq!(refusal(&operator, &removed).await, None);
    }
    assert_eq!(refusal(&operator, &label(secrets(), "team")).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_deleted_can_lose_its_finalizers() {
    let (_world, operator) = world().await;
    let mut old = role("", secrets());
    old["metadata"]["finalizers"] = json!(["example.com/cleanup"]);
    old["metadata"]["deletionTimestamp"] = json!("2026-12-01T12:00:00Z");
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!([]);
    assert_eq!(refusal(&operator, &change(&new, Some(&old))).await, None);
    let mut deletion = change(&old, Some(&old));
    deletion["request"]["operation"] = json!("DELETE");
    deletion["request"]["object"] = Value::Null;
    assert_eq!(refusal(&operator, &deletion).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_role_that_cannot_be_read_denies_where_denying_was_chosen_and_is_counted_elsewhere() {
    let (world, operator) = world().await;
    world.api.harm(on("GET", "roles"), Harm::Refuse(500), None);
    let jane = |namespace| binding(namespace, ("Role", "tool"), &[user("jane")]);
    let response = answer(&operator, &change(&jane("deny"), None)).await;
    assert_eq!(response["status"]["code"], json!(503), "{response}");
    // What is wrong anyway is said.
    let ci = binding("deny", ("Role", "tool"), &[account("ci")]);
    let text = refusal(&operator, &change(&ci, None)).await.unwrap();
    assert!(text.contains("[WA-STANDING]"), "{text}");
    for namespace in ["warn", "audit"] {
        assert_eq!(
            refusal(&operator, &change(&jane(namespace), None)).await,
            None
        );
        let line = format!(
            "stint_guard_errors_total{{mode=\"{namespace}\",category=\"ServerError\"}} 1\n"
        );
        let metrics = operator.metrics.encode().unwrap();
        assert!(metrics.contains(&line), "{metrics}");
    }
    // A change that gives nobody more asks nothing, and so needs no answer.
    let labels = change(&jane("deny"), Some(&jane("deny")));
    assert_eq!(refusal(&operator, &labels).await, None);
}

#[tokio::test(start_paused = true)]
async fn before_the_bindings_are_known_no_role_grows_where_denying_was_chosen() {
    let mut world = World::new();
    world.guarding.default_mode = Mode::Deny;
    let list = on("GET", "rolebindings");
    world.api.harm(list, Harm::Hang, None);
    let operator = world.operator();
    let old = role(NAMESPACE, reads());
    let new = role(
        NAMESPACE,
        json!([rule("configmaps", &["get", "list", "watch"])]),
    );
    let response = answer(&operator, &change(&new, Some(&old))).await;
    assert_eq!(response["status"]["code"], json!(503), "{response}");
    assert_eq!(refusal(&operator, &change(&old, Some(&new))).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_judged_and_leaves_no_trace() {
    let (world, operator) = world().await;
    world.api.clear_calls();
    for (namespace, refused) in [("deny", true), ("warn", false), ("audit", false)] {
        let mut review = change(&role(namespace, secrets()), None);
        review["request"]["dryRun"] = json!(true);
        assert_eq!(refusal(&operator, &review).await.is_some(), refused);
    }
    world.pass(SignedDuration::from_secs(1)).await;
    assert!(world.api.writes().is_empty());
    let metrics = operator.metrics.encode().unwrap();
    assert!(
        !metrics.contains("stint_guard_findings_total{"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_finding_is_told_once() {
    let (world, operator) = world().await;
    for _ in 0..5 {
        answer(&operator, &change(&role("audit", secrets()), None)).await;
    }
    world.pass(SignedDuration::from_secs(1)).await;
    assert_eq!(world.api.list("events", "audit").len(), 1);
    let line = "stint_guard_findings_total{code=\"OB-S01\",mode=\"audit\",kind=\"Role\"} 5\n";
    assert!(operator.metrics.encode().unwrap().contains(line));
}

#[tokio::test(start_paused = true)]
async fn nothing_but_roles_and_bindings_is_reviewed_on_this_path() {
    let (_world, operator) = world().await;
    let mut review = change(&role("audit", reads()), None);
    review["request"]["resource"] = json!({"group": "", "version": "v1", "resource": "secrets"});
    let text = refusal(&operator, &review).await.unwrap();
    assert!(
        text.contains("'/secrets'") && text.contains("[WA-KIND]"),
        "{text}"
    );
}
