//! What the linter takes as known from the input: the ceiling, the copy of a role, and what conditions look at.

use rstest::rstest;
use serde_json::{Value, json};
use support::case;
use support::plugin::*;

fn cluster_role(name: &str, rules: Value) -> Value {
    let mut role = rbac("ClusterRole", json!({"rules": rules}));
    role["metadata"]["name"] = name.into();
    role
}

fn deployments(verbs: Value) -> Value {
    json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs}])
}

/// The request, the policy and the namespace that admit it, and these.
fn with_more(request: Value, policy: Value, more: Vec<Value>) -> Value {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "payments", "labels": {"team": "payments"}}});
    let mut objects = vec![request, policy, namespace];
    objects.extend(more);
    lint_json(&stream(&objects))
}

fn for_the_role(name: &str) -> Value {
    let request = case::with(case::request(), "/spec/rules", Value::Null);
    let reference = json!({"kind": "ClusterRole", "name": name});
    case::with(request, "/spec/roleRef", reference)
}

#[rstest]
#[case::wide_enough(cluster_role("stint-grantable", deployments(json!(["get", "patch"]))), "passes", true)]
#[case::too_narrow(cluster_role("stint-grantable", deployments(json!(["get"]))), "refused", true)]
#[case::not_filled_yet(cluster_role("stint-grantable", Value::Null), "passes", false)]
#[case::another_role(cluster_role("stint-grantable-default", deployments(json!(["get"]))), "passes", false)]
fn the_ceiling_is_judged_where_its_rules_are_in_the_input(
    #[case] role: Value,
    #[case] outcome: &str,
    #[case] judged: bool,
) {
    let report = with_more(case::request(), case::policy(), vec![role]);
    let codes = match outcome {
        "refused" => vec!["WA-CEILING".to_owned()],
        _ => vec![],
    };
    assert_eq!(
        verdict(&report, "migrate-42"),
        (outcome.to_owned(), codes),
        "{report:#}"
    );
    let said = report["notJudged"].to_string();
    assert_eq!(said.contains("WA-CEILING"), !judged, "{said}");
}

#[test]
fn a_right_of_a_role_beyond_the_ceiling_is_undecided_because_a_copy_may_lack_it() {
    let ceiling = cluster_role("stint-grantable", deployments(json!(["get"])));
    let role = cluster_role("reader", deployments(json!(["get", "watch"])));
    let report = with_more(for_the_role("reader"), case::policy(), vec![ceiling, role]);
    let (outcome, errors) = verdict(&report, "migrate-42");
    assert_eq!((outcome.as_str(), errors.len()), ("undecided", 0));
    let text = report.to_string();
    assert!(
        text.contains("whether the copy of the role has") && text.contains("watch"),
        "{report:#}"
    );
}

#[rstest]
#[case::beside_others(json!([{"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
                             {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]), "passes", "")]
#[case::alone(json!([{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]), "refused", "WA-INERT")]
fn urls_of_a_role_are_in_no_copy(#[case] rules: Value, #[case] outcome: &str, #[case] code: &str) {
    let role = cluster_role("reader", rules);
    let report = with_more(for_the_role("reader"), case::policy(), vec![role]);
    let (said, errors) = verdict(&report, "migrate-42");
    assert_eq!((said.as_str(), errors.join(",").as_str()), (outcome, code));
}

/// No account is in the input.
#[rstest]
#[case::a_name_in_a_text("request.spec.reason != 'requester or uid'", "passes")]
#[case::a_name_of_a_loop("['a'].exists(requester, requester == 'a')", "passes")]
#[case::a_part_that_the_request_says("serviceAccount.name == 'migrator'", "passes")]
#[case::in_vain("serviceAccount.namespace == 'search'", "refused")]
#[case::labels("serviceAccount.labels.size() == 0", "undecided")]
#[case::one_label("!has(serviceAccount.labels.frozen)", "undecided")]
#[case::by_an_index("serviceAccount['name'] == 'migrator'", "undecided")]
#[case::in_a_loop("requester.groups.exists(g, g == 'a')", "undecided")]
fn a_condition_is_undecided_only_for_what_it_reads(
    #[case] expression: &str,
    #[case] outcome: &str,
) {
    let conditions = json!([{"expression": expression}]);
    let policy = case::with(case::policy(), "/spec/conditions", conditions);
    let report = with_more(case::request(), policy, vec![]);
    assert_eq!(verdict(&report, "migrate-42").0, outcome, "{report:#}");
}
