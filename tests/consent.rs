//! Approvals before the judge: which count, when there are enough, how long they are waited for, and what an emergency skips.

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use stint::api::access_approval::Decision;
use stint::api::workload_access::EndReason;
use stint::domain::approval::{Approval, Recorded};
use stint::domain::desired;
use stint::domain::facts::{Facts, Live};
use stint::domain::grant::Grant;
use stint::domain::judge::{NotYet, Verdict};
use stint::domain::receipt::Requester;
use support::case::*;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn person(name: &str) -> Requester {
    Requester {
        username: name.into(),
        uid: format!("uid-of-{name}"),
        groups: vec![],
    }
}

fn by(name: &str, decision: Decision) -> Approval {
    Approval {
        by: person(name),
        decision,
        not_after: None,
        at: now(),
        may: ["payments-jobs".into()].into(),
    }
}

fn yes(name: &str) -> Approval {
    by(name, Decision::Approve)
}

fn asking(required: i64) -> Value {
    with(
        policy(),
        "/spec/approval",
        json!({"required": required, "timeout": "2h"}),
    )
}

fn under(policy: Value, approvals: Vec<Approval>) -> Facts {
    Facts {
        requester: person("alice"),
        policies: vec![(compiled(policy), true)],
        approvals,
        ..facts()
    }
}

fn pending(verdict: Verdict) -> (usize, usize, Timestamp) {
    match verdict {
        Verdict::NotYet {
            why:
                NotYet::PendingApproval {
                    have,
                    required,
                    until,
                    ..
                },
            ..
        } => (have, required, until),
        other => panic!("not pending: {other:?}"),
    }
}

fn spec_hash() -> String {
    let object: stint::api::WorkloadAccess = serde_json::from_value(request()).unwrap();
    Grant::parse(&object).unwrap().spec_hash()
}

#[test]
fn without_enough_approvals_the_answer_is_not_yet_and_says_what_to_copy() {
    let verdict = decide(request(), &under(asking(2), vec![yes("bob")]), now());
    let Verdict::NotYet { why, until } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(until, Some(now() + MINUTE * 120));
    let words = why.approval_words();
    assert_eq!(
        words,
        format!(
            "waits until 2026-12-01T14:00:00Z for 1 more approval (has 1 of 2); specHash {}; by those who have the verb `approve` on accesspolicies 'payments-jobs' and did not ask for it",
            spec_hash()
        )
    );
    let line: String = words.chars().take(256).collect();
    assert!(
        line.contains(&spec_hash()),
        "a warning is cut at 256 characters"
    );
}

#[test]
fn enough_approvals_grant_and_are_recorded_on_the_deadline() {
    let facts = under(asking(2), vec![yes("bob"), yes("carol")]);
    let Verdict::Granted(approved) = decide(request(), &facts, now()) else {
        panic!("not granted");
    };
    let job = desired::job(&approved, now());
    let annotations = job.metadata.annotations.unwrap();
    assert_eq!(annotations["stint.dev/approved-by"], "bob,carol");
    assert_eq!(annotations["stint.dev/approved-spec"], spec_hash());
}

#[rstest]
#[case::twice_the_same(vec![yes("bob"), yes("bob")], 1)]
#[case::the_requester(vec![yes("bob"), yes("alice")], 1)]
#[case::the_requester_under_another_name(vec![yes("bob"), Approval { by: Requester { username: "al".into(), ..person("alice") }, ..yes("") }], 1)]
#[case::without_the_verb(vec![yes("bob"), Approval { may: [].into(), ..yes("carol") }], 1)]
#[case::for_another_policy(vec![yes("bob"), Approval { may: ["other".into()].into(), ..yes("carol") }], 1)]
#[case::a_review(vec![yes("bob"), by("carol", Decision::Review)], 1)]
#[case::nobody(vec![], 0)]
fn what_does_not_count(#[case] approvals: Vec<Approval>, #[case] counted: usize) {
    let (have, required, _) = pending(decide(request(), &under(asking(2), approvals), now()));
    assert_eq!((have, required), (counted, 2));
}

#[test]
fn two_people_without_a_uid_are_two() {
    let nameless = |name: &str| Approval {
        by: Requester {
            uid: String::new(),
            ..person(name)
        },
        ..yes("")
    };
    let mut facts = under(asking(2), vec![nameless("bob"), nameless("carol")]);
    facts.requester.uid = String::new();
    assert!(matches!(
        decide(request(), &facts, now()),
        Verdict::Granted(_)
    ));
}

#[test]
fn a_policy_that_asks_for_none_wins_and_otherwise_the_one_that_lacks_the_fewest_is_told() {
    let none = with(policy(), "/metadata/name", json!("open"));
    let mut facts = under(asking(1), vec![]);
    facts.policies.push((compiled(none), true));
    let Verdict::Granted(approved) = decide(request(), &facts, now()) else {
        panic!("not granted");
    };
    assert_eq!(approved.policy().name, "open");
    assert_eq!(approved.approval(), None);

    let three = with(asking(3), "/metadata/name", json!("three"));
    let mut facts = under(three, vec![]);
    facts.policies.push((compiled(asking(2)), true));
    let verdict = decide(request(), &facts, now());
    assert_eq!(pending(verdict).1, 2);
}

#[test]
fn what_is_wrong_otherwise_is_refused_and_does_not_wait() {
    let facts = under(asking(1), vec![yes("bob")]);
    let spoilt = with(request(), "/spec/duration", json!("9h"));
    assert_eq!(codes(decide(spoilt, &facts, now())), ["WA-TOO-LONG"]);
    let facts = Facts {
        policies: vec![(compiled(asking(1)), false)],
        ..facts
    };
    assert_eq!(codes(decide(request(), &facts, now())), ["WA-REQUESTER"]);
}

#[rstest]
#[case::the_time_of_the_policy(json!("2h"), 120)]
#[case::shorter_than_without(json!("1m"), 1)]
#[case::an_hour_when_nothing_is_said(Value::Null, 60)]
fn a_request_waits_for_as_long_as_its_policy_says(#[case] timeout: Value, #[case] minutes: i32) {
    let asking = with(asking(1), "/spec/approval/timeout", timeout);
    let waiting = under(asking.clone(), vec![]);
    let until = now() + MINUTE * minutes;
    let second = SignedDuration::from_secs(1);
    assert_eq!(
        pending(decide(request(), &waiting, until - second)).2,
        until
    );
    assert_eq!(
        ended(decide(request(), &waiting, until)),
        EndReason::Expired
    );
    let approved = under(asking, vec![yes("bob")]);
    assert_eq!(
        ended(decide(request(), &approved, until)),
        EndReason::Expired,
        "too late is too late"
    );
    assert!(matches!(
        decide(request(), &approved, until - second),
        Verdict::Granted(_)
    ));
}

#[test]
fn the_time_counts_from_not_before_if_that_is_later() {
    let facts = under(asking(1), vec![]);
    let later = with(request(), "/spec/notBefore", json!("2026-12-03T12:00:00Z"));
    let (_, _, until) = pending(decide(later.clone(), &facts, now()));
    assert_eq!(until, at("2026-12-03T14:00:00Z"));
    let approved = under(asking(1), vec![yes("bob")]);
    let verdict = decide(later, &approved, now());
    assert!(
        matches!(
            verdict,
            Verdict::NotYet {
                why: NotYet::Scheduled(_),
                ..
            }
        ),
        "approved, it waits for its window: {verdict:?}"
    );
}

#[test]
fn a_policy_whose_own_time_is_over_cannot_admit_while_another_still_waits() {
    let open = with(policy(), "/metadata/name", json!("open"));
    let mut facts = under(asking(1), vec![]);
    facts.policies.push((compiled(open), true));
    let late = now() + MINUTE * 11;
    let (have, required, _) = pending(decide(request(), &facts, late));
    assert_eq!((have, required), (0, 1));
    let wide = with(request(), "/spec/rules/0/verbs", json!(["get", "list"]));
    let refused = codes(decide(wide, &facts, late));
    assert!(refused.contains(&"WA-WINDOW"), "{refused:?}");
}

#[test]
fn an_old_restored_request_never_becomes_active_whatever_approved_it() {
    let mut facts = under(asking(1), vec![yes("bob")]);
    facts.requested_at = now() - MINUTE * 121;
    assert_eq!(ended(decide(request(), &facts, now())), EndReason::Expired);
}

#[test]
fn an_approval_of_a_policy_that_is_gone_neither_grants_nor_ends() {
    let mut facts = under(asking(1), vec![yes("bob")]);
    facts.policies.clear();
    let late = now() + MINUTE * 30;
    assert_eq!(codes(decide(request(), &facts, late)), ["WA-NO-POLICY"]);
    facts.policies.push((compiled(asking(1)), true));
    assert!(matches!(
        decide(request(), &facts, late),
        Verdict::Granted(_)
    ));
    facts.policies.clear();
    let for_ever = now() + SignedDuration::from_hours(720);
    assert_eq!(
        ended(decide(request(), &facts, for_ever)),
        EndReason::Expired
    );
}

#[test]
fn an_approver_may_shorten_and_never_lengthen() {
    let until = |text: &str| Approval {
        not_after: Some(at(text)),
        ..yes("bob")
    };
    let end = |approval| expires_at(decide(request(), &under(asking(1), vec![approval]), now()));
    assert_eq!(
        end(until("2026-12-01T12:10:00Z")),
        at("2026-12-01T12:10:00Z")
    );
    assert_eq!(
        end(until("2027-12-01T12:10:00Z")),
        at("2026-12-01T12:30:00Z")
    );
    let absolute = with(
        with(request(), "/spec/duration", Value::Null),
        "/spec/notAfter",
        json!("2026-12-01T13:00:00Z"),
    );
    let facts = under(
        asking(2),
        vec![
            until("2026-12-01T12:20:00Z"),
            Approval {
                not_after: Some(at("2026-12-01T12:15:00Z")),
                ..yes("carol")
            },
        ],
    );
    assert_eq!(
        expires_at(decide(absolute, &facts, now())),
        at("2026-12-01T12:15:00Z"),
        "the earliest of all that count"
    );
    let past = under(asking(1), vec![until("2026-12-01T11:00:00Z")]);
    assert_eq!(ended(decide(request(), &past, now())), EndReason::Expired);
    let later = with(request(), "/spec/notBefore", json!("2026-12-01T13:00:00Z"));
    let before = under(asking(1), vec![until("2026-12-01T12:59:00Z")]);
    assert_eq!(
        ended(decide(later, &before, now())),
        EndReason::Expired,
        "over before it begins"
    );
}

#[test]
fn a_denial_is_final_whatever_was_approved() {
    let no = by("dan", Decision::Deny);
    let facts = under(asking(1), vec![yes("bob"), yes("carol"), no.clone()]);
    assert_eq!(ended(decide(request(), &facts, now())), EndReason::Denied);
    let powerless = Approval {
        may: [].into(),
        ..no.clone()
    };
    let facts = under(asking(1), vec![yes("bob"), powerless]);
    assert!(matches!(
        decide(request(), &facts, now()),
        Verdict::Granted(_)
    ));
    let late = Facts {
        live: Some(recorded(&spec_hash())),
        ..under(asking(1), vec![no])
    };
    assert!(
        matches!(decide(request(), &late, now()), Verdict::Granted(_)),
        "what is active is revoked, not denied"
    );
}

fn recorded(spec: &str) -> Live {
    Live {
        approval: Some(Recorded {
            by: "bob".into(),
            spec: spec.into(),
        }),
        ..live(NOW, "2026-12-01T12:20:00Z")
    }
}

fn going_on(live: Live, policy: Value, approvals: Vec<Approval>) -> Verdict {
    let facts = Facts {
        live: Some(live),
        ..under(policy, approvals)
    };
    decide(request(), &facts, now() + MINUTE)
}

#[test]
fn a_live_grant_needs_no_approval_again_and_keeps_the_end_that_it_was_given() {
    let verdict = going_on(recorded(&spec_hash()), asking(5), vec![]);
    assert_eq!(expires_at(verdict), at("2026-12-01T12:20:00Z"));
    let absolute = with(
        with(request(), "/spec/duration", Value::Null),
        "/spec/notAfter",
        json!("2026-12-01T13:00:00Z"),
    );
    let facts = Facts {
        live: Some(live(NOW, "2026-12-01T12:20:00Z")),
        ..facts()
    };
    assert_eq!(
        expires_at(decide(absolute, &facts, now() + MINUTE)),
        at("2026-12-01T12:20:00Z"),
        "an absolute end stays as short as it was made"
    );
}

#[test]
fn a_grant_that_waited_long_keeps_its_end_when_the_policy_is_changed() {
    let approved_late = Live {
        since: now() + MINUTE * 110,
        ..recorded(&spec_hash())
    };
    let facts = Facts {
        live: Some(Live {
            not_after: at("2026-12-01T14:20:00Z"),
            ..approved_late
        }),
        ..under(
            with(asking(1), "/spec/approval/timeout", json!("1m")),
            vec![],
        )
    };
    assert_eq!(
        expires_at(decide(request(), &facts, now() + MINUTE * 111)),
        at("2026-12-01T14:20:00Z")
    );
}

#[rstest]
#[case::approved_for_another_spec(recorded("sha256:0"))]
#[case::approved_under_another_policy(Live { policy: "gone".into(), ..recorded(&spec_hash()) })]
#[case::never_approved(live(NOW, "2026-12-01T12:20:00Z"))]
fn a_live_grant_that_its_policy_would_have_approved_ends(#[case] live: Live) {
    let verdict = going_on(live.clone(), asking(2), vec![]);
    let Verdict::Over { reason, why } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(reason, EndReason::PolicyWithdrawn);
    assert!(why.contains("requires 2 approvals"), "{why}");
    let kept = going_on(live, asking(2), vec![yes("bob"), yes("carol")]);
    assert!(matches!(kept, Verdict::Granted(_)), "{kept:?}");
}

fn emergency() -> Value {
    let request = with(request(), "/spec/urgency", json!("BreakGlass"));
    with(request, "/spec/ticket", json!("INC-7"))
}

fn glass(max: &str) -> Value {
    with(asking(2), "/spec/breakGlass", json!({"maxDuration": max}))
}

#[test]
fn an_emergency_waits_for_nobody() {
    let verdict = decide(emergency(), &under(glass("1h"), vec![]), now());
    let Verdict::Granted(approved) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(approved.approval(), None);
    let late = now() + MINUTE * 10;
    assert_eq!(
        ended(decide(emergency(), &under(glass("1h"), vec![]), late)),
        EndReason::Expired,
        "nor longer than other requests"
    );
}

#[rstest]
#[case::a_policy_without_it(emergency(), asking(1), "WA-NOT-ALLOWED")]
#[case::too_long_for_it(emergency(), glass("29m"), "WA-TOO-LONG")]
#[case::too_long_at_all(with(emergency(), "/spec/duration", json!("9h")), glass("10h"), "WA-TOO-LONG")]
#[case::no_ticket(
    with(emergency(), "/spec/ticket", Value::Null),
    glass("1h"),
    "WA-TICKET"
)]
#[case::an_empty_ticket(with(emergency(), "/spec/ticket", json!(" ")), glass("1h"), "WA-TICKET")]
#[case::no_reason(with(emergency(), "/spec/reason", json!(" ")), glass("1h"), "WA-NO-REASON")]
#[case::the_form_of_the_ticket(emergency(), with(glass("1h"), "/spec/limits/requireTicket", json!("^CHG")), "WA-TICKET")]
#[case::the_catalogue(with(emergency(), "/spec/rules/0/verbs", json!(["*"])), glass("1h"), "OB-W03")]
#[case::the_findings(emergency(), with(glass("1h"), "/spec/allow/findings", json!([])), "OB-P01")]
#[case::the_envelope(with(emergency(), "/spec/rules/0/verbs", json!(["list"])), glass("1h"), "WA-NOT-ALLOWED")]
#[case::a_condition(emergency(), with(glass("1h"), "/spec/conditions", json!([{"expression": "request.spec.urgency != 'BreakGlass'"}])), "WA-CONDITION")]
#[case::the_kill_switch(emergency(), with(glass("1h"), "/spec/suspended", json!(true)), "WA-SUSPENDED")]
fn an_emergency_skips_nothing_else(
    #[case] request: Value,
    #[case] policy: Value,
    #[case] code: &str,
) {
    let codes = codes(decide(request, &under(policy, vec![]), now()));
    assert!(codes.contains(&code), "{codes:?}");
}

#[test]
fn an_emergency_needs_the_verb_use() {
    let facts = Facts {
        policies: vec![(compiled(glass("1h")), false)],
        ..under(glass("1h"), vec![])
    };
    assert_eq!(codes(decide(emergency(), &facts, now())), ["WA-REQUESTER"]);
}

#[rstest]
#[case("/spec/approval", json!({"required": 0}), "spec.approval.required")]
#[case("/spec/approval", json!({"required": 9}), "spec.approval.required")]
#[case("/spec/approval", json!({"required": 1, "timeout": "721h"}), "spec.approval.timeout")]
#[case("/spec/approval", json!({"required": 1, "timeout": "soon"}), "spec.approval.timeout")]
#[case("/spec/breakGlass", json!({"maxDuration": "0s"}), "spec.breakGlass.maxDuration")]
fn a_policy_that_asks_for_what_cannot_be_admits_nothing(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] path: &str,
) {
    let object = serde_json::from_value(with(policy(), pointer, value)).unwrap();
    let wrong = stint::domain::policy::Policy::compile(&object).unwrap_err();
    assert_eq!(wrong[0].path, path);
}
