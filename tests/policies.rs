//! Policies in depth: what they accept by name, how long by risk, and what they demand of a request.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use stint::api::AccessPolicy;
use stint::api::workload_access::{EndReason, Risk, RoleKind, SourceStamp};
use stint::domain::facts::{Facts, Held, Live, Role, RoleFacts};
use stint::domain::judge::{Approved, Verdict};
use stint::domain::patterns::Patterns;
use stint::domain::policy::Policy;
use stint::domain::rules::{self, Rule};
use support::case::*;

/// The facts with another policy.
fn under(policy: Value) -> Facts {
    Facts {
        policies: vec![(compiled(policy), true)],
        ..facts()
    }
}

fn limited(field: &str, value: Value) -> Facts {
    under(with(policy(), &format!("/spec/limits/{field}"), value))
}

fn accepting(findings: &[&str]) -> Facts {
    under(with(policy(), "/spec/allow/findings", json!(findings)))
}

fn approved(verdict: Verdict) -> Box<Approved> {
    match verdict {
        Verdict::Granted(approved) => approved,
        other => panic!("not granted: {other:?}"),
    }
}

fn wrong_with(policy: Value) -> Vec<String> {
    let object: AccessPolicy = serde_json::from_value(policy).unwrap();
    let wrong = Policy::compile(&object).unwrap_err();
    wrong.iter().map(ToString::to_string).collect()
}

fn warnings_of(policy: Value) -> Vec<String> {
    compiled(policy).warnings()
}

/// The account holds these rights in the namespace by another binding.
fn holding(rule: Rule, facts: Facts) -> Facts {
    Facts {
        held: vec![Held {
            by: "ClusterRoleBinding 'old'".into(),
            patterns: Patterns::of(&[rule]),
        }],
        ..facts
    }
}

#[test]
fn a_finding_is_granted_only_where_the_policy_names_it() {
    assert_eq!(
        codes(decide(request(), &accepting(&[]), now())),
        ["OB-P01", "OB-X04"]
    );
    assert_eq!(
        codes(decide(request(), &accepting(&["OB-P01"]), now())),
        ["OB-X04"]
    );
    let granted = approved(decide(request(), &facts(), now()));
    assert_eq!(granted.findings(), ["OB-P01", "OB-X04"]);
    assert_eq!(granted.risk(), Risk::High);
}

#[test]
fn a_refused_finding_says_where_what_and_who_could_accept_it() {
    let Verdict::Refused(wrong) = decide(request(), &accepting(&["OB-X04"]), now()) else {
        panic!("not refused");
    };
    assert_eq!(
        wrong[0].to_string(),
        "spec.rules[0].resources[0]: Forbidden: 'deployments': policy 'payments-jobs' grants this only with OB-P01 in its `allow.findings`; must be granted without `patch`: a pod written now runs any image as any account of the namespace and mounts any secret of it [OB-P01]"
    );
}

#[test]
fn a_request_without_findings_is_of_low_risk() {
    let request = with(request(), "/spec/rules/0/verbs", json!(["get"]));
    let granted = approved(decide(request, &accepting(&[]), now()));
    assert_eq!((granted.risk(), granted.findings().len()), (Risk::Low, 0));
}

#[rstest]
#[case::accepts_the_longest("High", "30m", "30m", &[])]
#[case::rejects_longer("High", "29m", "30m", &["WA-TOO-LONG"])]
#[case::other_risks_do_not_matter("Medium", "1m", "30m", &[])]
fn the_length_depends_on_the_risk(
    #[case] risk: &str,
    #[case] limit: &str,
    #[case] length: &str,
    #[case] expected: &[&str],
) {
    let facts = limited("maxDurationByRisk", json!({risk: limit}));
    let request = with(request(), "/spec/duration", json!(length));
    match decide(request, &facts, now()) {
        Verdict::Granted(_) => assert!(expected.is_empty()),
        refused => assert_eq!(codes(refused), expected),
    }
}

#[test]
fn high_risk_lasts_eight_hours_where_the_policy_says_nothing() {
    let facts = limited("maxDuration", json!("100h"));
    let of = |length: &str| with(request(), "/spec/duration", json!(length));
    assert!(matches!(
        decide(of("8h"), &facts, now()),
        Verdict::Granted(_)
    ));
    assert_eq!(codes(decide(of("9h"), &facts, now())), ["WA-TOO-LONG"]);
}

#[test]
fn a_stretch_without_a_break_has_an_end() {
    let since = |hours| Facts {
        held_since: [(
            "payments-jobs".into(),
            now() - SignedDuration::from_hours(hours),
        )]
        .into(),
        ..limited("maxTotal", json!("3h"))
    };
    let request = with(request(), "/spec/duration", json!("1h"));
    let granted = approved(decide(request.clone(), &since(2), now()));
    assert_eq!(granted.held_since(), at("2026-12-01T10:00:00Z"));
    assert_eq!(
        codes(decide(request.clone(), &since(3), now())),
        ["WA-TOO-LONG"]
    );
    let elsewhere = Facts {
        held_since: [("another".into(), at("2026-11-01T00:00:00Z"))].into(),
        ..limited("maxTotal", json!("3h"))
    };
    assert_eq!(
        approved(decide(request, &elsewhere, now())).held_since(),
        now()
    );
}

#[rstest]
#[case::writes_need_names("Writes", None, &["get", "patch"], &["WA-NO-NAMES"])]
#[case::named_writes("Writes", Some("a"), &["get", "patch"], &[])]
#[case::reads_do_not("Writes", None, &["get"], &[])]
#[case::unless_all("All", None, &["get"], &["WA-NO-NAMES"])]
#[case::none("None", None, &["get", "patch"], &[])]
fn names_are_required_as_the_policy_says(
    #[case] require: &str,
    #[case] name: Option<&str>,
    #[case] verbs: &[&str],
    #[case] expected: &[&str],
) {
    let facts = limited("requireResourceNames", json!(require));
    let named = name.map_or(Value::Null, |name| json!([name]));
    let request = with(request(), "/spec/rules/0/resourceNames", named);
    match decide(
        with(request, "/spec/rules/0/verbs", json!(verbs)),
        &facts,
        now(),
    ) {
        Verdict::Granted(_) => assert!(expected.is_empty()),
        refused => assert_eq!(codes(refused), expected),
    }
}

#[test]
fn a_ticket_is_required_as_the_policy_says() {
    let facts = limited("requireTicket", json!("^CHG-[0-9]+$"));
    let of = |ticket: Value| with(request(), "/spec/ticket", ticket);
    assert!(matches!(
        decide(of(json!("CHG-1811")), &facts, now()),
        Verdict::Granted(_)
    ));
    assert_eq!(
        codes(decide(of(json!("CHG-1811x")), &facts, now())),
        ["WA-TICKET"]
    );
    assert_eq!(codes(decide(request(), &facts, now())), ["WA-TICKET"]);
}

#[test]
fn halves_make_a_whole_with_what_the_account_holds() {
    let secrets = rule("", "secrets", &["get"]);
    let Verdict::Refused(wrong) = decide(request(), &holding(secrets.clone(), facts()), now())
    else {
        panic!("not refused");
    };
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0]
            .to_string()
            .contains("together with ClusterRoleBinding 'old'"),
        "{}",
        wrong[0]
    );
    assert_eq!(wrong[0].code, "OB-C01");

    let warned = holding(secrets.clone(), limited("cumulative", json!("Warn")));
    let granted = approved(decide(request(), &warned, now()));
    assert_eq!(granted.findings(), ["OB-P01", "OB-X04", "OB-C01"]);
    assert_eq!(granted.risk(), Risk::Critical);
    assert_eq!(granted.warnings().len(), 1);

    let accepted = holding(secrets, accepting(&["OB-P01", "OB-X04", "OB-C01"]));
    assert!(matches!(
        decide(request(), &accepted, now()),
        Verdict::Granted(_)
    ));
}

#[test]
fn what_the_account_can_do_anyway_is_not_held_against_the_request() {
    let both = Facts {
        held: vec![Held {
            by: "RoleBinding 'payments/old'".into(),
            patterns: Patterns::of(&[rule("", "secrets", &["get"]), rule("", "pods", &["create"])]),
        }],
        ..facts()
    };
    assert!(matches!(
        decide(request(), &both, now()),
        Verdict::Granted(_)
    ));
}

#[test]
fn an_account_of_another_namespace_is_a_finding() {
    let policy = with(
        policy(),
        "/spec/serviceAccounts/namespaces",
        json!(["build"]),
    );
    let request = with(
        request(),
        "/spec/serviceAccountRef/namespace",
        json!("build"),
    );
    let granted = approved(decide(request, &under(policy), now()));
    assert!(
        granted.findings().contains(&"OB-B06"),
        "{:?}",
        granted.findings()
    );
}

fn from_role(role: Role, facts: Facts) -> Facts {
    Facts {
        role: RoleFacts::Found(role),
        ..facts
    }
}

fn by_role() -> Value {
    let request = with(request(), "/spec/rules", Value::Null);
    let reader = json!({"kind": "ClusterRole", "name": "reader"});
    with(request, "/spec/roleRef", reader)
}

#[test]
fn a_role_that_is_put_together_is_judged_by_its_present_content_and_recorded() {
    let role = Role {
        uid: "r-1".into(),
        rules: vec![rule("", "configmaps", &["get"])],
        aggregated: true,
        ..Role::default()
    };
    let granted = approved(decide(by_role(), &from_role(role.clone(), facts()), now()));
    let source = granted.source().unwrap();
    assert!(source.aggregated);
    assert_eq!(source.rules_hash, rules::hash(&role.rules));

    let empty = Role {
        rules: vec![],
        ..role.clone()
    };
    let refused = decide(by_role(), &from_role(empty, facts()), now());
    assert_eq!(codes(refused), ["WA-ROLE-AGGREGATED"]);
    let circular = Role {
        selects_itself: true,
        ..role.clone()
    };
    let refused = decide(by_role(), &from_role(circular, facts()), now());
    assert_eq!(codes(refused), ["WA-ROLE-AGGREGATED"]);
    let copy = Role {
        made_by_stint: true,
        ..role
    };
    let refused = decide(by_role(), &from_role(copy, facts()), now());
    assert_eq!(codes(refused), ["WA-ROLE-MISSING"]);
}

#[test]
fn a_source_that_changes_ends_the_grant_only_where_the_policy_says_so() {
    let granted = vec![rule("", "configmaps", &["get"])];
    let source = SourceStamp {
        kind: RoleKind::ClusterRole,
        name: "reader".into(),
        uid: "r-1".into(),
        rules_hash: rules::hash(&granted),
        aggregated: false,
        changed: false,
    };
    let live_from = |role: RoleFacts, facts: Facts| Facts {
        role,
        copy: Some(granted.clone()),
        live: Some(Live {
            rules_hash: rules::hash(&granted),
            source: Some(source.clone()),
            ..live(NOW, "2026-12-01T12:30:00Z")
        }),
        ..facts
    };
    let grown = RoleFacts::Found(Role {
        uid: "r-1".into(),
        rules: vec![rule("", "configmaps", &["get", "list"])],
        ..Role::default()
    });
    let following = || under(with(policy(), "/spec/followRole", json!("Revoke")));
    for role in [grown, RoleFacts::Missing] {
        let kept = approved(decide(by_role(), &live_from(role.clone(), facts()), now()));
        assert!(kept.source().unwrap().changed);
        let over = decide(by_role(), &live_from(role, following()), now());
        assert_eq!(ended(over), EndReason::PolicyWithdrawn);
    }
    let same = RoleFacts::Found(Role {
        uid: "r-1".into(),
        rules: granted.clone(),
        ..Role::default()
    });
    let kept = approved(decide(by_role(), &live_from(same, following()), now()));
    assert!(!kept.source().unwrap().changed);
}

#[rstest]
#[case::unknown_finding("/spec/allow/findings", json!(["OB-Z99"]), "lists them [WA-POLICY]")]
#[case::never_granted("/spec/allow/findings", json!(["OB-W01"]), "is never granted")]
#[case::no_regex("/spec/limits/requireTicket", json!("CHG-("), "unclosed group")]
#[case::backtracking("/spec/limits/requireTicket", json!(r"(a)\1"), "backreferences are not supported")]
#[case::too_large("/spec/limits/requireTicket", json!("((a{99}){99}){99}"), "size limit")]
#[case::no_length("/spec/limits/maxTotal", json!("soon"), "[WA-WINDOW]")]
#[case::by_risk_above_all("/spec/limits/maxDurationByRisk", json!({"Low": "9h"}), "must not exceed `maxDuration`")]
#[case::no_selector("/spec/namespaceSelector", json!({"matchExpressions": [{"key": "a", "operator": "Foo"}]}), "spec.namespaceSelector")]
#[case::no_accounts("/spec/serviceAccounts", json!({}), "must set `names` or `selector`")]
fn a_policy_that_cannot_be_used_says_why(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] says: &str,
) {
    let wrong = wrong_with(with(policy(), pointer, value));
    assert!(wrong.iter().any(|line| line.contains(says)), "{wrong:?}");
    assert!(wrong.iter().all(|line| line.contains("[WA-")), "{wrong:?}");
}

#[test]
fn everything_wrong_with_a_policy_is_told_at_once() {
    let policy = with(policy(), "/spec/limits/requireTicket", json!("("));
    let policy = with(policy, "/spec/allow/findings", json!(["OB-W01", "OB-Z01"]));
    assert_eq!(wrong_with(policy).len(), 3);
}

#[rstest]
#[case::wildcard(json!([{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]), "[OB-W02]")]
#[case::never(json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]), "[OB-E05]")]
#[case::not_named(json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]), "lists OB-S01")]
#[case::nothing(json!([]), "allows nothing")]
fn a_careless_envelope_is_warned_about(#[case] rules: Value, #[case] says: &str) {
    let policy = with(
        with(policy(), "/spec/allow/rules", rules),
        "/spec/allow/roleRefs",
        Value::Null,
    );
    let warnings = warnings_of(policy);
    assert!(
        warnings.iter().any(|line| line.contains(says)),
        "{warnings:?}"
    );
}

#[test]
fn a_sound_policy_gets_no_warning() {
    assert_eq!(warnings_of(policy()), [""; 0]);
}
