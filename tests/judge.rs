//! The judgement, in the words of the domain: what it accepts, what it rejects and with which code, and when it ends.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use stint::api::WorkloadAccess;
use stint::api::workload_access::EndReason;
use stint::domain::extension::Edits;
use stint::domain::facts::{AccountFacts, Facts, Live, ObjectFacts, Role, RoleFacts, UntilFacts};
use stint::domain::grant::Grant;
use stint::domain::judge::{NotYet, Verdict};
use stint::domain::rules::{self, Rule};
use support::case::*;

#[test]
fn accepts_a_narrow_request_and_counts_its_length_from_activation() {
    let expiry = expires_at(decide(request(), &facts(), at("2026-12-01T12:00:07.9Z")));
    assert_eq!(expiry, at("2026-12-01T12:30:07Z"), "rounded down, never up");
}

#[test]
fn accepts_an_absolute_end_with_any_offset() {
    let request = with(
        with(request(), "/spec/duration", Value::Null),
        "/spec/notAfter",
        json!("2026-12-01T15:00:00.7+01:00"),
    );
    assert_eq!(
        expires_at(decide(request, &facts(), now())),
        at("2026-12-01T14:00:00Z")
    );
}

#[rstest]
#[case::no_expiry("/spec/duration", Value::Null, "WA-NO-EXPIRY")]
#[case::both_ends("/spec/notAfter", json!("2026-12-01T13:00:00Z"), "WA-WINDOW")]
#[case::zero("/spec/duration", json!("0s"), "WA-WINDOW")]
#[case::negative("/spec/duration", json!("-1h"), "WA-WINDOW")]
#[case::beyond_every_policy("/spec/duration", json!("99999h"), "WA-TOO-LONG")]
#[case::beyond_this_policy("/spec/duration", json!("9h"), "WA-TOO-LONG")]
#[case::overflow("/spec/duration", json!("99999999999999999999h"), "WA-WINDOW")]
#[case::shared_account("/spec/serviceAccountRef/name", json!("default"), "WA-ACCOUNT-DEFAULT")]
#[case::look_alike_account("/spec/serviceAccountRef/name", json!("mіgrator"), "WA-NAME")]
#[case::other_account("/spec/serviceAccountRef/name", json!("deployer"), "WA-NOT-ALLOWED")]
#[case::foreign_account("/spec/serviceAccountRef/namespace", json!("other"), "WA-ACCOUNT-FOREIGN")]
#[case::another_pinned_uid("/spec/serviceAccountRef/uid", json!("sa-0"), "WA-ACCOUNT-UID")]
#[case::no_rules("/spec/rules", json!([]), "WA-RULES")]
#[case::neither_rules_nor_role("/spec/rules", Value::Null, "WA-RULES")]
#[case::empty_verbs("/spec/rules/0/verbs", json!([]), "WA-RULES")]
#[case::wildcard_verb("/spec/rules/0/verbs", json!(["*"]), "OB-W03")]
#[case::wildcard_group("/spec/rules/0/apiGroups", json!(["*"]), "OB-W04")]
#[case::wildcard_resource("/spec/rules/0/resources", json!(["*"]), "OB-W02")]
#[case::beyond_the_envelope("/spec/rules/0/verbs", json!(["get", "list"]), "WA-NOT-ALLOWED")]
#[case::beyond_the_ceiling("/spec/rules/0/verbs", json!(["delete"]), "WA-CEILING")]
#[case::no_reason("/spec/reason", json!("  "), "WA-NO-REASON")]
fn rejects(#[case] pointer: &str, #[case] value: Value, #[case] code: &str) {
    let codes = codes(decide(with(request(), pointer, value), &facts(), now()));
    assert!(codes.contains(&code), "{codes:?}");
}

#[test]
fn rejects_an_end_in_the_past_when_it_was_asked() {
    let request = with(
        with(request(), "/spec/duration", Value::Null),
        "/spec/notAfter",
        json!("2026-12-01T11:59:59Z"),
    );
    assert_eq!(codes(decide(request, &facts(), now())), ["WA-IN-PAST"]);
}

#[test]
fn rejects_a_window_that_ends_before_it_begins() {
    let request = with(
        with(request(), "/spec/duration", Value::Null),
        "/spec/notAfter",
        json!("2026-12-01T13:00:00Z"),
    );
    let request = with(request, "/spec/notBefore", json!("2026-12-01T14:00:00Z"));
    assert_eq!(codes(decide(request, &facts(), now())), ["WA-WINDOW"]);
}

#[test]
fn says_everything_that_is_wrong_at_once() {
    let spoilt = with(
        with(request(), "/spec/duration", Value::Null),
        "/spec/rules/0/verbs",
        json!(["get", "*"]),
    );
    let codes = codes(decide(spoilt, &facts(), now()));
    assert!(
        codes.contains(&"WA-NO-EXPIRY") && codes.contains(&"OB-W03"),
        "{codes:?}"
    );
}

#[test]
fn rejects_without_a_policy_for_the_namespace() {
    let facts = Facts {
        policies: vec![],
        ..facts()
    };
    assert_eq!(codes(decide(request(), &facts, now())), ["WA-NO-POLICY"]);
}

#[test]
fn rejects_a_requester_who_may_not_use_the_policy() {
    let facts = Facts {
        policies: vec![(compiled(policy()), false)],
        ..facts()
    };
    assert_eq!(codes(decide(request(), &facts, now())), ["WA-REQUESTER"]);
}

#[test]
fn any_one_satisfied_policy_allows_and_otherwise_each_says_why_not() {
    let narrow = with(
        with(policy(), "/metadata/name", json!("short")),
        "/spec/limits/maxDuration",
        json!("1m"),
    );
    let facts = Facts {
        policies: vec![(compiled(narrow.clone()), true), (compiled(policy()), true)],
        ..facts()
    };
    assert!(
        matches!(decide(request(), &facts, now()), Verdict::Granted(a) if a.policy().name == "payments-jobs")
    );
    let facts = Facts {
        policies: vec![(compiled(narrow), true), (compiled(policy()), false)],
        ..facts
    };
    assert_eq!(
        codes(decide(request(), &facts, now())),
        ["WA-TOO-LONG", "WA-REQUESTER"]
    );
}

#[test]
fn an_omitted_allow_allows_nothing() {
    let facts = Facts {
        policies: vec![(compiled(with(policy(), "/spec/allow", Value::Null)), true)],
        ..facts()
    };
    assert_eq!(
        codes(decide(request(), &facts, now())),
        ["WA-NOT-ALLOWED", "OB-P01", "OB-X04"]
    );
}

#[test]
fn a_policy_without_limits_still_bounds_the_length_at_8h() {
    let unlimited = with(policy(), "/spec/limits", Value::Null);
    let facts = Facts {
        policies: vec![(compiled(unlimited), true)],
        ..facts()
    };
    assert!(matches!(
        decide(
            with(request(), "/spec/duration", json!("8h")),
            &facts,
            now()
        ),
        Verdict::Granted(_)
    ));
    assert_eq!(
        codes(decide(
            with(request(), "/spec/duration", json!("8h1s")),
            &facts,
            now()
        )),
        ["WA-TOO-LONG"]
    );
}

#[test]
fn rejects_an_account_that_does_not_exist() {
    let facts = Facts {
        account: None,
        ..facts()
    };
    assert_eq!(
        codes(decide(request(), &facts, now())),
        ["WA-ACCOUNT-MISSING"]
    );
}

#[test]
fn rejects_more_grants_than_an_account_may_hold() {
    let facts = Facts {
        active_others: 2,
        ..facts()
    };
    assert_eq!(codes(decide(request(), &facts, now())), ["WA-TOO-MANY"]);
}

#[test]
fn another_namespaces_account_only_where_a_policy_lists_it() {
    let foreign = with(request(), "/spec/serviceAccountRef/namespace", json!("ci"));
    let listing = with(policy(), "/spec/serviceAccounts/namespaces", json!(["ci"]));
    let facts = Facts {
        policies: vec![(compiled(listing), true)],
        ..facts()
    };
    assert!(matches!(
        decide(foreign, &facts, now()),
        Verdict::Granted(_)
    ));
}

fn by_role(name: &str) -> Value {
    let request = with(request(), "/spec/rules", Value::Null);
    with(
        request,
        "/spec/roleRef",
        json!({"kind": "ClusterRole", "name": name}),
    )
}

#[test]
fn a_role_is_judged_by_what_it_holds() {
    let holding = |rules: Vec<Rule>| Facts {
        role: RoleFacts::Found(Role {
            rules,
            ..Role::default()
        }),
        ..facts()
    };
    let configmaps = rule("", "configmaps", &["get"]);
    assert!(matches!(
        decide(by_role("reader"), &holding(vec![configmaps.clone()]), now()),
        Verdict::Granted(_)
    ));
    assert_eq!(
        codes(decide(by_role("other"), &holding(vec![configmaps]), now())),
        ["WA-NOT-ALLOWED"]
    );
    let wide = vec![rule("", "configmaps", &["*"])];
    assert!(codes(decide(by_role("reader"), &holding(wide), now())).contains(&"OB-W03"));
    assert_eq!(
        codes(decide(by_role("reader"), &holding(vec![]), now())),
        ["WA-ROLE-MISSING"]
    );
    let missing = Facts {
        role: RoleFacts::Missing,
        ..facts()
    };
    assert_eq!(
        codes(decide(by_role("reader"), &missing, now())),
        ["WA-ROLE-MISSING"]
    );
}

#[test]
fn waits_for_not_before_and_judges_first() {
    let later = with(request(), "/spec/notBefore", json!("2026-12-01T13:00:00Z"));
    let verdict = decide(later.clone(), &facts(), now());
    assert!(
        matches!(verdict, Verdict::NotYet { why: NotYet::Scheduled(t), .. } if t == at("2026-12-01T13:00:00Z"))
    );
    let nobody = Facts {
        policies: vec![],
        ..facts()
    };
    assert_eq!(
        codes(decide(later.clone(), &nobody, now())),
        ["WA-NO-POLICY"]
    );
    assert_eq!(
        expires_at(decide(later, &facts(), at("2026-12-01T13:00:01Z"))),
        at("2026-12-01T13:30:01Z")
    );
}

#[test]
fn without_a_known_ceiling_the_answer_is_not_yet() {
    let facts = Facts {
        ceiling: None,
        ..facts()
    };
    assert!(matches!(
        decide(request(), &facts, now()),
        Verdict::NotYet {
            why: NotYet::NotReady(_),
            ..
        }
    ));
}

#[test]
fn a_request_that_was_not_activated_in_ten_minutes_never_is() {
    let late = now() + SignedDuration::from_mins(10);
    assert_eq!(ended(decide(request(), &facts(), late)), EndReason::Expired);
    let just = late - SignedDuration::from_secs(1);
    assert!(matches!(
        decide(request(), &facts(), just),
        Verdict::Granted(_)
    ));
}

#[rstest]
#[case::deadline(Facts { live: Some(live("2026-12-01T11:00:00Z", "2026-12-01T12:00:00Z")), ..facts() }, EndReason::Expired)]
#[case::account_deleted(Facts { live: Some(live(NOW, "2026-12-01T12:30:00Z")), account: None, ..facts() }, EndReason::IdentityChanged)]
#[case::account_recreated(Facts { live: Some(live(NOW, "2026-12-01T12:30:00Z")), account: Some(AccountFacts { uid: "sa-2".into(), labels: [].into() }), ..facts() }, EndReason::IdentityChanged)]
#[case::policy_gone(Facts { live: Some(live(NOW, "2026-12-01T12:30:00Z")), policies: vec![], ..facts() }, EndReason::PolicyWithdrawn)]
#[case::policy_suspended(Facts { live: Some(live(NOW, "2026-12-01T12:30:00Z")), policies: vec![(compiled(with(policy(), "/spec/suspended", json!(true))), true)], ..facts() }, EndReason::Suspended)]
#[case::binding_removed(Facts { live: Some(Live { taken_away: true, ..live(NOW, "2026-12-01T12:30:00Z") }), ..facts() }, EndReason::Revoked)]
#[case::ended_before(Facts { ended: Some(EndReason::Revoked), ..facts() }, EndReason::Revoked)]
fn a_live_grant_ends(#[case] facts: Facts, #[case] reason: EndReason) {
    assert_eq!(ended(decide(request(), &facts, now())), reason);
}

#[test]
fn revoking_and_deleting_end_a_grant() {
    let revoked = with(request(), "/spec/revoked", json!(true));
    assert_eq!(ended(decide(revoked, &facts(), now())), EndReason::Revoked);
    let deleted = with(request(), "/metadata/deletionTimestamp", json!(NOW));
    assert_eq!(ended(decide(deleted, &facts(), now())), EndReason::Deleted);
}

#[test]
fn a_suspended_policy_ends_its_grants_even_where_another_would_admit_them() {
    let other = compiled(with(policy(), "/metadata/name", json!("other")));
    let suspended = compiled(with(policy(), "/spec/suspended", json!(true)));
    let facts = Facts {
        live: Some(live(NOW, "2026-12-01T12:30:00Z")),
        policies: vec![(other, true), (suspended, true)],
        ..facts()
    };
    assert_eq!(
        ended(decide(request(), &facts, now())),
        EndReason::Suspended
    );
}

#[test]
fn a_live_grant_keeps_the_end_it_was_given_and_a_forged_later_one_does_not_count() {
    let keeps = Facts {
        live: Some(live(NOW, "2026-12-01T12:30:00Z")),
        ..facts()
    };
    let later = now() + SignedDuration::from_mins(20);
    assert_eq!(
        expires_at(decide(request(), &keeps, later)),
        at("2026-12-01T12:30:00Z")
    );
    let typed: WorkloadAccess = serde_json::from_value(request()).unwrap();
    let spec_hash = Some(Grant::parse(&typed).unwrap().spec_hash());
    for (spec_hash, end, why) in [
        (
            spec_hash,
            "2026-12-01T12:40:00Z",
            "receipt + pending + duration",
        ),
        (None, "2026-12-01T12:30:00Z", "beginning + duration"),
    ] {
        let forged = Facts {
            live: Some(Live {
                edits: Edits {
                    spec_hash,
                    ..Edits::default()
                },
                ..live(NOW, "2026-12-05T00:00:00Z")
            }),
            ..facts()
        };
        let verdict = decide(request(), &forged, later);
        assert_eq!(expires_at(verdict), at(end), "{why}");
    }
}

#[test]
fn a_copied_role_that_was_changed_ends_the_grant() {
    let granted = vec![rule("", "configmaps", &["get"])];
    let hash = rules::hash(&rules::canonical(&granted));
    let grown = vec![rule("", "configmaps", &["get", "list"])];
    let with_role = |rules: Vec<Rule>| Facts {
        role: RoleFacts::Found(Role {
            rules: rules.clone(),
            ..Role::default()
        }),
        copy: (rules::hash(&rules) == hash).then_some(rules),
        live: Some(Live {
            rules_hash: hash.clone(),
            ..live(NOW, "2026-12-01T12:30:00Z")
        }),
        ..facts()
    };
    assert!(matches!(
        decide(by_role("reader"), &with_role(granted), now()),
        Verdict::Granted(_)
    ));
    assert_eq!(
        ended(decide(by_role("reader"), &with_role(grown), now())),
        EndReason::PolicyWithdrawn
    );
}

#[test]
fn a_refusal_reads_like_the_api_servers_own() {
    let request = with(request(), "/spec/duration", json!("9h"));
    let Verdict::Refused(violations) = decide(request, &facts(), now()) else {
        panic!("not refused");
    };
    assert_eq!(
        violations[0].to_string(),
        "spec.duration: Forbidden: '9h': policy 'payments-jobs' allows less than or equal to 8h [WA-TOO-LONG]"
    );
}

/// What a look at the size alone says of a request with these rules.
fn oversized(rules: Value) -> Vec<String> {
    let text = with(request(), "/spec/rules", rules).to_string();
    let wrong = stint::domain::grant::Grant::oversized(&text);
    wrong.iter().map(ToString::to_string).collect()
}

#[test]
fn a_megabyte_of_rules_is_refused_unread_in_the_words_of_the_judge() {
    let rule = json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]});
    let rules = json!(vec![rule.clone(); 15_000]);
    let unread = oversized(rules.clone());
    assert_eq!(
        unread,
        ["spec.rules: Too many: '15000': must have at most 64 rules [OB-R05]"]
    );
    let Verdict::Refused(read) = decide(with(request(), "/spec/rules", rules), &facts(), now())
    else {
        panic!("not refused");
    };
    assert_eq!(unread, [read[0].to_string()]);
    let names: Vec<String> = (0..50_000).map(|i| format!("name-{i}")).collect();
    let unread = oversized(json!([
        rule,
        with(rule.clone(), "/resourceNames", json!(names))
    ]));
    assert_eq!(
        unread,
        [
            "spec.rules[1].resourceNames: Too many: '50000': must have at most 64 `resourceNames` in one rule [OB-R05]"
        ]
    );
}

#[test]
fn what_is_large_elsewhere_or_no_request_is_left_to_who_reads_it() {
    assert!(oversized(json!("x".repeat(100_000))).is_empty());
    assert!(stint::domain::grant::Grant::oversized(&"[".repeat(100_000)).is_empty());
    let long = with(request(), "/spec/reason", json!("x".repeat(100_000)));
    assert!(stint::domain::grant::Grant::oversized(&long.to_string()).is_empty());
}

fn object(conditions: &[(&str, &str)]) -> UntilFacts {
    let owned = |(type_, status): &(&str, &str)| ((*type_).to_owned(), (*status).to_owned());
    UntilFacts::Found(ObjectFacts {
        uid: "job-1".into(),
        conditions: conditions.iter().map(owned).collect(),
        ..ObjectFacts::default()
    })
}

fn until(kind: &str) -> Value {
    let api_version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
    let until = json!({"apiVersion": api_version, "kind": kind, "name": "migrate"});
    with(request(), "/spec/until", until)
}

fn begun(until_uid: Option<&str>, until: UntilFacts) -> Facts {
    Facts {
        live: Some(Live {
            until_uid: until_uid.map(str::to_owned),
            ..live(NOW, "2026-12-01T12:30:00Z")
        }),
        until,
        ..facts()
    }
}

#[rstest]
#[case::complete(Some("job-1"), object(&[("Complete", "True")]))]
#[case::failed(Some("job-1"), object(&[("Failed", "True")]))]
#[case::done_before_it_was_recorded(None, object(&[("Complete", "True")]))]
#[case::replaced(Some("job-0"), object(&[]))]
#[case::gone(Some("job-1"), UntilFacts::Absent)]
fn a_live_grant_is_over_with_its_work(#[case] recorded: Option<&str>, #[case] found: UntilFacts) {
    let verdict = decide(until("Job"), &begun(recorded, found), now());
    assert_eq!(ended(verdict), EndReason::Completed);
}

#[rstest]
#[case::at_work(Some("job-1"), object(&[("Complete", "False"), ("Suspended", "True")]))]
#[case::never_seen(None, UntilFacts::Absent)]
fn a_live_grant_goes_on_with_its_work(#[case] recorded: Option<&str>, #[case] found: UntilFacts) {
    expires_at(decide(until("Job"), &begun(recorded, found), now()));
}

#[test]
fn the_first_sight_of_the_work_counts() {
    let facts = Facts {
        until: object(&[]),
        ..facts()
    };
    for facts in [facts, begun(Some("job-1"), object(&[]))] {
        match decide(until("Job"), &facts, now()) {
            Verdict::Granted(approved) => assert_eq!(approved.until_uid(), Some("job-1")),
            other => panic!("not granted: {other:?}"),
        }
    }
}

#[test]
fn only_a_job_is_done_by_the_conditions_of_a_job() {
    let facts = Facts {
        until: object(&[("Complete", "True")]),
        ..facts()
    };
    assert_eq!(
        ended(decide(until("Job"), &facts, now())),
        EndReason::Completed
    );
    expires_at(decide(until("Deployment"), &facts, now()));
}

#[rstest]
#[case::no_condition(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x"}), "WA-UNTIL")]
#[case::stints_own(json!({"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess", "name": "migrate-42", "condition": {"type": "Ready"}}), "WA-UNTIL")]
#[case::another_api_of_a_job(json!({"apiVersion": "batch/v2", "kind": "Job", "name": "x"}), "WA-UNTIL")]
#[case::no_name(json!({"apiVersion": "batch/v1", "kind": "Job", "name": "../../secrets/x"}), "WA-NAME")]
fn work_that_cannot_end_a_grant_is_refused(#[case] until: Value, #[case] code: &str) {
    let request = with(request(), "/spec/until", until);
    assert_eq!(codes(decide(request, &facts(), now())), [code]);
}

#[test]
fn a_live_grant_whose_kind_is_not_listed_any_more_ends() {
    let facts = begun(Some("job-1"), UntilFacts::NotAllowed(vec![]));
    assert_eq!(
        ended(decide(until("Job"), &facts, now())),
        EndReason::PolicyWithdrawn
    );
}
