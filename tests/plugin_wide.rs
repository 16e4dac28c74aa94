//! `kubectl stint lint` on requests for the whole cluster.

use rstest::rstest;
use serde_json::{Value, json};
use support::case;
use support::plugin::*;

fn request() -> Value {
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": "inventory"},
        "spec": {
            "serviceAccountRef": {"name": "migrator", "namespace": "payments"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
                      {"nonResourceURLs": ["/version"], "verbs": ["get"]}],
            "duration": "30m", "reason": "count the nodes"
        }
    })
}

fn policy() -> Value {
    let rules = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
        {"nonResourceURLs": ["/version"], "verbs": ["get"]}
    ]);
    let policy = case::with(case::policy(), "/spec/allow/rules", rules);
    case::with(policy, "/spec/allow/cluster", json!(true))
}

fn with(request: Value, more: &[Value]) -> String {
    let team = json!({"team": "payments"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "payments", "labels": team}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "migrator", "namespace": "payments"}});
    let mut all = vec![request, policy(), namespace, account];
    all.extend_from_slice(more);
    stream(&all)
}

#[test]
fn what_a_policy_for_the_whole_cluster_admits_passes_by_its_accounts_namespace() {
    let input = with(request(), &[]);
    let report = lint_json(&input);
    assert_eq!(verdict(&report, "inventory"), ("passes".into(), Vec::new()));
    assert_eq!(report["objects"][0]["namespace"], Value::Null);
    let (status, text) = lint_text(&input, &["--strict"]);
    assert_eq!(status, 0, "{text}");
    let says = "whether this installation grants anything in the whole cluster [WA-NOT-ALLOWED]";
    assert!(text.contains(says), "{text}");
}

#[rstest]
#[case::pattern("/spec/rules/1/nonResourceURLs", json!(["/*"]), "OB-W06")]
#[case::wildcard("/spec/rules/0/resources", json!(["*"]), "OB-W02")]
#[case::beyond_the_policy("/spec/rules/0/verbs", json!(["watch"]), "WA-NOT-ALLOWED")]
#[case::path_beyond_the_policy("/spec/rules/1/nonResourceURLs", json!(["/logs"]), "WA-NOT-ALLOWED")]
#[case::a_role("/spec/roleRef", json!({"kind": "Role", "name": "x"}), "WA-RULES")]
#[case::no_expiry("/spec/duration", Value::Null, "WA-NO-EXPIRY")]
#[case::misspelt("/spec/rule", json!([]), "WA-DECODE")]
fn what_the_webhook_refuses_is_refused(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] code: &str,
) {
    let report = lint_json(&with(case::with(request(), pointer, value), &[]));
    let (outcome, codes) = verdict(&report, "inventory");
    assert_eq!(outcome, "refused", "{report:#}");
    assert!(codes.iter().any(|c| c == code), "{codes:?}: {report:#}");
}

#[test]
fn a_policy_without_the_switch_admits_nothing_in_the_whole_cluster() {
    let input = with(request(), &[]).replace("\"cluster\": true", "\"cluster\": false");
    let (outcome, codes) = verdict(&lint_json(&input), "inventory");
    assert_eq!(outcome, "refused");
    assert_eq!(codes, ["WA-NOT-ALLOWED"]);
}

#[test]
fn urls_of_a_cluster_role_are_part_of_its_copy() {
    let role = rbac(
        "ClusterRole",
        json!({"rules": [{"nonResourceURLs": ["/logs"], "verbs": ["get"]},
                         {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]}),
    );
    let mut request = case::with(request(), "/spec/rules", Value::Null);
    request["spec"]["roleRef"] = json!({"kind": "ClusterRole", "name": "x"});
    let named = json!([{"kind": "ClusterRole", "name": "x"}]);
    let input = with(request, &[role]);
    let report = lint_json(&input);
    let (outcome, codes) = verdict(&report, "inventory");
    assert_eq!(
        (outcome.as_str(), &codes[..]),
        ("refused", &["WA-NOT-ALLOWED".to_owned()][..]),
        "{report:#}"
    );
    // Named by the policy, a role is allowed with all that it has.
    let policy = case::with(policy(), "/spec/allow/roleRefs", named);
    let naming = input.replace(&format!("{:#}", self::policy()), &format!("{policy:#}"));
    let report = lint_json(&naming);
    assert_eq!(verdict(&report, "inventory").0, "passes", "{report:#}");
}

#[test]
fn what_the_account_holds_in_one_namespace_adds_nothing_in_the_whole_cluster() {
    // Half of what it takes to approve a certificate; the other half is asked for.
    let held = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"], "verbs": ["update"]}]);
    let role = rbac("ClusterRole", json!({"rules": held}));
    let subject = json!([{"kind": "ServiceAccount", "name": "migrator", "namespace": "payments"}]);
    let to = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"});
    let binding = |kind| rbac(kind, json!({"subjects": subject, "roleRef": to}));
    let half = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["kubernetes.io/kube-apiserver-client"], "verbs": ["approve"]}]);
    let request = case::with(request(), "/spec/rules", half.clone());
    let policy_allows = case::with(policy(), "/spec/allow/rules", half);
    let judged = |binding: Value| {
        let input = with(request.clone(), &[role.clone(), binding]);
        let allowing = format!("{policy_allows:#}");
        let report = lint_json(&input.replace(&format!("{:#}", policy()), &allowing));
        let (_, codes) = verdict(&report, "inventory");
        codes.iter().any(|code| code == "OB-E07")
    };
    assert!(!judged(binding("RoleBinding")));
    assert!(judged(binding("ClusterRoleBinding")));
}
