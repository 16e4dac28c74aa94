//! The conditions of a policy: what they see, when they refuse, and what may not be written.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use stint::api::AccessPolicy;
use stint::domain::facts::Facts;
use stint::domain::judge::Verdict;
use stint::domain::policy::Policy;
use stint::domain::receipt::Requester;
use support::case::{codes, compiled, decide, facts, live, now, policy, request, with};
use support::world::World;

fn conditions(list: Value) -> Value {
    let mut policy = policy();
    policy["spec"]["conditions"] = list;
    policy
}

/// A policy with this one condition, and a requester with groups.
fn under(expression: &str) -> Facts {
    Facts {
        requester: Requester {
            username: "alice".into(),
            uid: "u-1".into(),
            groups: vec!["payments-devs".into(), "oncall-payments".into()],
        },
        policies: vec![(
            compiled(conditions(json!([{"expression": expression}]))),
            true,
        )],
        ..facts()
    }
}

fn admits(expression: &str) -> bool {
    match decide(request(), &under(expression), now()) {
        Verdict::Granted(_) => true,
        Verdict::Refused(wrong) => {
            assert!(wrong.iter().all(|v| v.code == "WA-CONDITION"), "{wrong:?}");
            false
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::group("'oncall-payments' in requester.groups")]
#[case::group_by_pattern("requester.groups.exists(g, g.matches('^oncall-[a-z]+$'))")]
#[case::user("requester.username == 'alice' && requester.uid == 'u-1'")]
#[case::namespace(
    "namespaceObject.metadata.labels['team'] == 'payments' && namespaceObject.metadata.name == 'payments'"
)]
#[case::label_that_may_be_missing(
    "!has(namespaceObject.metadata.labels.frozen) || namespaceObject.metadata.labels.frozen != 'true'"
)]
#[case::account(
    "serviceAccount.name == 'migrator' && serviceAccount.uid == 'sa-1' && serviceAccount.labels.size() == 0"
)]
#[case::rules("request.rules.all(r, r.verbs.all(v, v in ['get', 'patch']))")]
#[case::spec("request.spec.reason.startsWith('schema') && !has(request.spec.ticket)")]
#[case::one_rule("request.spec.rules.exists_one(r, 'apps' in r.apiGroups)")]
#[case::duration("request.duration <= duration('30m') && request.duration > duration('29m')")]
#[case::now(
    "now >= timestamp('2026-12-01T12:00:00Z') && now.getHours() == 12 && now.getDayOfWeek() == 2"
)]
#[case::risk("risk in ['Low', 'Medium', 'High']")]
#[case::risk_and_length("risk != 'High' || request.duration <= duration('1h')")]
#[case::ternary("risk == 'High' ? requester.groups.size() == 2 : false")]
fn a_condition_that_holds_admits(#[case] expression: &str) {
    assert!(admits(expression), "{expression}");
}

#[rstest]
#[case::group("'admins' in requester.groups")]
#[case::pattern("requester.groups.all(g, g.matches('^oncall-'))")]
#[case::namespace("namespaceObject.metadata.labels['team'] == 'search'")]
#[case::missing_label("namespaceObject.metadata.labels['owner'] == 'payments'")]
#[case::missing_field("request.spec.ticket != ''")]
#[case::duration("request.duration < duration('30m')")]
#[case::before("now < timestamp('2026-12-01T12:00:00Z')")]
#[case::wrong_type("requester.username > 7")]
#[case::no_bool("requester.username")]
#[case::text_for_bool("namespaceObject.metadata.labels.team")]
#[case::division("1 / requester.groups.filter_is_no_field == 1")]
#[case::by_zero("1 / (requester.groups.size() - 2) == 1")]
#[case::out_of_bounds("requester.groups[7] == 'x'")]
#[case::overflow("9223372036854775807 + requester.groups.size() > 0")]
#[case::no_instant("timestamp(requester.username) < now")]
fn a_condition_that_does_not_hold_or_cannot_be_evaluated_refuses(#[case] expression: &str) {
    assert!(!admits(expression), "{expression}");
}

fn told(condition: Value) -> String {
    let facts = Facts {
        policies: vec![(compiled(conditions(json!([condition]))), true)],
        ..facts()
    };
    match decide(request(), &facts, now()) {
        Verdict::Refused(wrong) => wrong[0].to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_names_the_policy_and_the_expression_or_the_authors_words() {
    let plain = told(json!({"expression": "'oncall' in requester.groups"}));
    assert_eq!(
        plain,
        "spec: Forbidden: policy 'payments-jobs' requires that 'oncall' in requester.groups [WA-CONDITION]"
    );
    let worded = told(
        json!({"expression": "'oncall' in requester.groups", "message": "is for those on call"}),
    );
    assert!(
        worded.contains("policy 'payments-jobs' is for those on call ["),
        "{worded}"
    );
    let broken = told(json!({"expression": "namespaceObject.metadata.labels['owner'] == 'x'"}));
    assert!(
        broken.contains(
            "cannot evaluate its condition namespaceObject.metadata.labels['owner'] == 'x'"
        ),
        "{broken}"
    );
}

#[test]
fn every_condition_must_hold_and_every_one_that_does_not_is_told() {
    let facts = Facts {
        policies: vec![(
            compiled(conditions(json!([
                {"expression": "risk == 'Low'"},
                {"expression": "true"},
                {"expression": "'x' in requester.groups"},
            ]))),
            true,
        )],
        ..facts()
    };
    assert_eq!(
        codes(decide(request(), &facts, now())),
        ["WA-CONDITION", "WA-CONDITION"]
    );
}

#[test]
fn the_hour_is_that_of_the_beginning() {
    let during = under("now.getHours() < 13");
    assert!(matches!(
        decide(request(), &during, now()),
        Verdict::Granted(_)
    ));
    let began = Facts {
        live: Some(live("2026-12-01T12:00:00Z", "2026-12-01T15:00:00Z")),
        ..during
    };
    let scheduled = with(request(), "/spec/notBefore", json!("2026-12-01T13:30:00Z"));
    assert_eq!(
        codes(decide(
            scheduled.clone(),
            &under("now.getHours() < 13"),
            now()
        )),
        ["WA-CONDITION"]
    );
    let waits = decide(scheduled, &under("now.getHours() == 13"), now());
    assert!(matches!(waits, Verdict::NotYet { .. }), "{waits:?}");
    let later = now() + SignedDuration::from_hours(2);
    let verdict = decide(
        with(request(), "/spec/duration", json!("3h")),
        &began,
        later,
    );
    assert!(matches!(verdict, Verdict::Granted(_)), "{verdict:?}");
}

/// What the policy's author is told.
fn refused(expression: &str) -> String {
    let written = conditions(json!([{"expression": expression}]));
    let object: AccessPolicy = serde_json::from_value(written).unwrap();
    let wrong = Policy::compile(&object).expect_err(expression);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert_eq!(
        (wrong[0].code, wrong[0].path.as_str()),
        ("WA-POLICY", "spec.conditions[0].expression")
    );
    wrong[0].message.clone()
}

#[rstest]
#[case::syntax("requester.groups.exists(g, ", "line 1, column ")]
#[case::second_line(
    "risk == 'Low' &&\n  oops == 1",
    "line 2, column 3: there is no variable `oops`; there are request, "
)]
#[case::unknown_field(
    "requester.group == 'x'",
    "`requester` has no field `group`; it has username, uid, groups"
)]
#[case::unknown_spec_field("request.spec.rule.size() == 1", "`request.spec` has no field `rule`")]
#[case::unknown_field_in_a_macro("has(requester.team)", "`requester` has no field `team`")]
#[case::unknown_function(
    "requester.username.reverse() == 'ecila'",
    "there is no function `reverse`"
)]
#[case::no_bool("requester.groups.size()", "must yield a bool")]
#[case::a_text("'yes'", "must yield a bool")]
#[case::variable_as_text("risk", "must yield a bool")]
#[case::regex("requester.username.matches('(')", "RE2 syntax")]
#[case::backreference(r"requester.username.matches('(a)\\1')", "RE2 syntax")]
#[case::huge_regex("requester.username.matches('(a{1000}){1000}')", "RE2 syntax")]
#[case::computed_regex("requester.username.matches(requester.uid)", "in quotes")]
#[case::map("requester.groups.map(g, g + g).size() > 1", "makes a list with `map`")]
#[case::filter(
    "requester.groups.filter(g, g == 'x').size() > 1",
    "makes a list with `map`"
)]
#[case::map_literal("{'a': requester.groups}.a.size() > 1", "makes a map")]
#[case::message("Pod{name: 'x'}.name == 'x'", "")]
#[case::loop_in_loop_in_loop(
    "requester.groups.all(a, requester.groups.all(b, requester.groups.all(c, a == b || b == c)))",
    "steps where 200000 are allowed"
)]
#[case::loop_in_loop(
    "requester.groups.all(a, requester.groups.all(b, a == b))",
    "steps where 200000 are allowed"
)]
#[case::lists_compared_in_a_loop(
    &format!("requester.groups.all(g, {})", ["requester.groups == requester.groups"; 10].join(" && ")),
    "steps where 200000 are allowed"
)]
#[case::a_sum_of_lists(
    &format!("({}).all(g, g != '' && g.size() > 1)", ["requester.groups"; 30].join(" + ")),
    "steps where 200000 are allowed"
)]
#[case::a_sum_of_lists_in_a_list(
    &format!("[{}][0].all(g, g != '' && g.size() > 1)", ["requester.groups"; 30].join(" + ")),
    "steps where 200000 are allowed"
)]
#[case::loops_beyond_counting(&nested(12), "steps where 200000 are allowed")]
fn what_cannot_be_a_condition_is_refused_when_it_is_written(
    #[case] expression: &str,
    #[case] says: &str,
) {
    let message = refused(expression);
    assert!(message.contains(says), "{message}");
}

#[rstest]
#[case::parentheses("(".repeat(1000) + "true" + &")".repeat(1000))]
#[case::lists("[".repeat(1000) + &"]".repeat(1000) + " == []")]
#[case::fields(format!("namespaceObject.metadata.labels{} == 1", ".a".repeat(900)))]
#[case::indices(format!("namespaceObject.metadata.labels{} == 1", "[0]".repeat(600)))]
#[case::ternaries("true ? ".repeat(250) + "true" + &" : false".repeat(200))]
#[case::deepest_brackets_that_are_read("(".repeat(24) + "1" + &")".repeat(24))]
#[case::deepest_lists("[".repeat(24) + &"]".repeat(24))]
#[case::closed_in_a_text("(')".repeat(600) + &"'".repeat(200))]
#[case::ternaries_to_the_left("(true ? ".repeat(20) + "1" + &" : 2)".repeat(20))]
#[case::unclosed("[".repeat(2000))]
#[case::quote("'".repeat(2000))]
#[case::sum(format!("{} > 1", vec!["1"; 700].join(" + ")))]
fn what_is_nested_without_end_is_refused_without_a_crash(#[case] expression: String) {
    refused(&expression);
}

/// So many loops inside each other.
fn nested(depth: usize) -> String {
    let open: String = (0..depth)
        .map(|i| format!("requester.groups.all(g{i}, "))
        .collect();
    open + "true" + &")".repeat(depth)
}

#[test]
fn two_thousand_negations_are_none() {
    assert!(admits(&("!".repeat(2000) + "true")));
}

#[test]
fn a_long_chain_of_and_is_fine() {
    let chain = vec!["risk != 'x'"; 100].join(" && ");
    assert!(admits(&chain));
}

#[test]
fn more_groups_than_reckoned_with_refuse() {
    let mut facts = under("requester.groups.all(g, g != 'x')");
    assert!(matches!(
        decide(request(), &facts, now()),
        Verdict::Granted(_)
    ));
    facts.requester.groups = (0..1025).map(|i| format!("g{i}")).collect();
    assert_eq!(codes(decide(request(), &facts, now())), ["WA-CONDITION"]);
    facts.requester.groups = vec!["g".repeat(70_000)];
    assert_eq!(codes(decide(request(), &facts, now())), ["WA-CONDITION"]);
}

#[tokio::test(start_paused = true)]
async fn a_label_that_a_condition_reads_ends_the_grant_when_it_flips() {
    let world = World::new();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["conditions"] = json!([{"expression": "!('frozen' in namespaceObject.metadata.labels)", "message": "grants nothing in a frozen namespace"}]);
    world.api.seed(policy);
    let _operator = world.operator();
    world.admit("job", json!({"duration": "4h"}));
    world.pass(SignedDuration::from_secs(2)).await;
    assert_eq!(world.reason("job"), "Active");
    world
        .api
        .namespace("payments", json!({"team": "payments", "frozen": "yes"}));
    world.pass(SignedDuration::from_secs(2)).await;
    assert_eq!(world.reason("job"), "PolicyWithdrawn");
    assert!(world.api.list("rolebindings", "payments").is_empty());
}

#[rstest]
#[case::fields("requester.username == request.spec.reason", &["request.spec.reason", "requester.username"])]
#[case::whether_there("has(request.spec.ticket) && request.spec.ticket != ''", &["request.spec.ticket"])]
#[case::whole_and_part("requester.uid == 'u' || requester == requester", &["requester", "requester.uid"])]
#[case::a_loop("request.rules.all(r, r.verbs.all(v, v != risk))", &["request.rules", "risk"])]
#[case::a_hidden_variable("['a'].exists(risk, risk == 'requester')", &[])]
#[case::an_index("namespaceObject.metadata.labels['a'] == 'b'", &["namespaceObject.metadata.labels"])]
fn a_condition_tells_what_it_reads(#[case] expression: &str, #[case] reads: &[&str]) {
    let written = serde_json::from_value(json!({"expression": expression})).unwrap();
    let condition = stint::domain::condition::Condition::compile(&written).unwrap();
    assert_eq!(condition.reads().collect::<Vec<_>>(), reads);
}
