//! `kubectl stint report --audit-log`: what of the rights was used and what was not, and what accounts were refused, the same in every form.

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Output;
use support::audit::{event, line, log, refused, with};
use support::plugin::*;
use support::review::{self, Held, active, csv, expired, html, markdown, some};

type Row = BTreeMap<String, String>;

const FORMS: [&str; 5] = ["html", "markdown", "csv", "json", "sarif"];

/// When, on the day on which the grants of the fixture began, at noon.
fn at(mut event: Value, time: &str) -> Value {
    event["requestReceivedTimestamp"] = format!("2026-11-01T{time}.000000Z").into();
    event
}

/// By another account, as `namespace:name`.
fn of(mut event: Value, account: &str) -> Value {
    event["user"]["username"] = format!("system:serviceaccount:{account}").into();
    event
}

/// What a binding allowed, in the words of the authorizer.
fn by(asked: &str, binding: &str) -> Value {
    let reason = format!("RBAC: allowed by {binding} of Role \"r\" to ServiceAccount \"a/b\"");
    with(
        asked,
        &[("/annotations/authorization.k8s.io~1reason", json!(reason))],
    )
}

/// An hour before the grants began to half an hour after the first of them ended.
fn events() -> Vec<Value> {
    let now = "RoleBinding \"stint-now/payments\"";
    let before = "RoleBinding \"stint-before/payments\"";
    let deployment = "deployments.apps payments/billing-api";
    vec![
        at(
            of(
                by("get secrets ci/token", "ClusterRoleBinding \"everything\""),
                "ci:runner",
            ),
            "11:00:00",
        ),
        at(by(&format!("get {deployment}"), before), "12:10:00"),
        at(by(&format!("patch {deployment}"), before), "12:20:00"),
        at(by(&format!("get {deployment}"), now), "12:40:00"),
        at(by(&format!("get {deployment}"), now), "12:35:00"),
        at(
            of(
                by("get secrets payments/a", "RoleBinding \"all/payments\""),
                "payments:web",
            ),
            "12:50:00",
        ),
        at(refused("delete nodes node-1"), "12:01:00"),
        at(refused("delete nodes node-1"), "12:03:00"),
        at(refused("delete nodes node-1"), "12:02:00"),
        at(
            of(refused("list secrets payments/"), "search:indexer"),
            "12:30:00",
        ),
        at(of(refused("get /metrics"), "search:indexer"), "13:00:00"),
    ]
}

fn output(held: Held, events: &[Value], args: &[&str]) -> Output {
    let folder = Folder::new();
    folder.file("audit.log", log(events));
    held.report(&folder, &[&["--audit-log", "audit.log"], args].concat())
}

/// A report in this form; it must succeed.
fn made(held: Held, events: &[Value], form: &str) -> String {
    let output = output(held, events, &["-o", form]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    stdout(&output)
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut all = list.as_array().unwrap().iter();
    all.find(|one| one["name"] == name).unwrap()
}

#[test]
fn each_grant_and_binding_tells_what_was_used_and_what_was_not() {
    let output = output(some(), &events(), &["-o", "json"]);
    assert_eq!(
        stderr(&output),
        "Read 11 events of 1 log, from 2026-11-01T11:00:00Z to 2026-11-01T13:00:00Z.\n"
    );
    let report = read(&stdout(&output));
    let used = |verb: &str, requests: u64| json!({"verb": verb, "on": "deployments.apps", "requests": requests});
    let rule = "get, patch deployments.apps named billing-api";
    assert_eq!(
        named(&report["grants"], "now")["usage"],
        json!({
            "requests": 2, "first": "2026-11-01T12:35:00Z", "last": "2026-11-01T12:40:00Z",
            "covered": {"from": "2026-11-01T12:00:00Z", "until": "2026-11-01T13:00:00Z", "fromTheBeginning": true, "toTheEnd": false},
            "used": [used("get", 2)], "usedLeftOut": 0, "rulesLeftOut": 0,
            "rules": [{"rule": rule, "requests": 2, "unused": ["patch deployments.apps named billing-api"]}]
        })
    );
    // An ended grant, whose binding is gone: the log still names it.
    let before = &named(&report["grants"], "before")["usage"];
    assert_eq!(before["used"], json!([used("get", 1), used("patch", 1)]));
    assert_eq!(
        before["rules"],
        json!([{"rule": rule, "requests": 2, "unused": []}])
    );
    assert_eq!(
        (
            &before["covered"]["fromTheBeginning"],
            &before["covered"]["toTheEnd"]
        ),
        (&json!(true), &json!(true))
    );
    // A use counts for the binding that allowed it, and for no other that gives the same.
    let still = &named(&report["grants"], "still")["usage"];
    assert_eq!(
        (&still["requests"], &still["rules"][0]["unused"]),
        (&json!(0), &json!([rule]))
    );
    assert!(
        named(&report["grants"], "wrong").get("usage").is_none(),
        "what never began gave nothing"
    );

    let standing = |name: &str| &named(&report["standing"], name)["usage"];
    assert_eq!(
        standing("everything")["used"],
        json!([{"verb": "get", "on": "secrets", "requests": 1}])
    );
    assert_eq!(
        standing("everything")["rules"][0]["unused"],
        json!(["* secrets"])
    );
    assert_eq!(
        standing("all")["rules"],
        json!([{"rule": "get secrets", "requests": 1, "unused": []}]),
        "a group is all its accounts"
    );
    assert_eq!(
        standing("alias")["rules"],
        json!([{"rule": "get secrets", "requests": 0, "unused": ["get secrets"]}])
    );
    assert_eq!(
        standing("dangling")["rules"],
        Value::Null,
        "nobody knows what it gave"
    );
    let own = named(&report["standing"], "system:controller:job-controller");
    assert!(
        own.get("usage").is_none(),
        "Kubernetes' own are not looked at"
    );

    let log = &report["auditLog"];
    assert_eq!(
        (
            &log["events"],
            &log["first"],
            &log["last"],
            &log["refusedRequests"],
            &log["refusedNotListed"]
        ),
        (
            &json!(11),
            &json!("2026-11-01T11:00:00Z"),
            &json!("2026-11-01T13:00:00Z"),
            &json!(5),
            &json!(0)
        )
    );
    let attempt = |account: &str,
                   verb: &str,
                   resource: &str,
                   namespace: Value,
                   name: Value,
                   requests: u64,
                   first: &str,
                   last: &str| {
        json!({"account": account, "verb": verb, "resource": resource, "namespace": namespace, "name": name, "manyNames": false,
               "requests": requests, "first": format!("2026-11-01T{first}Z"), "last": format!("2026-11-01T{last}Z")})
    };
    assert_eq!(
        log["refused"],
        json!([
            attempt(
                "payments/migrator",
                "delete",
                "nodes",
                Value::Null,
                json!("node-1"),
                3,
                "12:01:00",
                "12:03:00"
            ),
            attempt(
                "search/indexer",
                "get",
                "/metrics",
                Value::Null,
                Value::Null,
                1,
                "13:00:00",
                "13:00:00"
            ),
            attempt(
                "search/indexer",
                "list",
                "secrets",
                json!("payments"),
                Value::Null,
                1,
                "12:30:00",
                "12:30:00"
            ),
        ])
    );
}

/// What the table says of the use of each row of the JSON form, and of each attempt, in the order of the table.
fn expected(report: &Value) -> Vec<[String; 7]> {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let strings =
        |list: &Value| -> Vec<String> { list.as_array().unwrap().iter().map(text).collect() };
    let all = ["grants", "standing"].map(|list| report[list].as_array().unwrap().clone());
    let mut rows: Vec<[String; 7]> = Vec::new();
    for row in all.iter().flatten() {
        let usage = &row["usage"];
        let unused = match (usage["rules"].as_array(), usage.is_null()) {
            (_, true) => String::new(),
            (None, _) => "unknown".to_owned(),
            (Some(rules), _) => {
                let unused: Vec<String> = rules
                    .iter()
                    .flat_map(|rule| strings(&rule["unused"]))
                    .collect();
                if unused.is_empty() {
                    "nothing".to_owned()
                } else {
                    unused.join("; ")
                }
            }
        };
        let used: Vec<String> = usage["used"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| {
                format!(
                    "{} {} ({})",
                    text(&one["verb"]),
                    text(&one["on"]),
                    one["requests"]
                )
            })
            .collect();
        rows.push([
            text(&row["name"]),
            text(&row["account"]),
            unused,
            used.join("; "),
            text(&usage["requests"]),
            text(&usage["first"]),
            text(&usage["last"]),
        ]);
    }
    for one in report["auditLog"]["refused"].as_array().unwrap() {
        let what = [
            &one["verb"],
            &one["resource"],
            &one["namespace"],
            &one["name"],
        ]
        .map(text)
        .join(" ");
        rows.push([
            String::new(),
            text(&one["account"]),
            what,
            String::new(),
            text(&one["requests"]),
            text(&one["first"]),
            text(&one["last"]),
        ]);
    }
    rows
}

/// The same from a row of the table.
fn told(row: &Row) -> [String; 7] {
    let get = |key: &str| row[key].clone();
    let what = match row["record"].as_str() {
        "attempt" => ["verb", "resource", "namespace", "object"]
            .map(get)
            .join(" "),
        _ => get("unused"),
    };
    [
        get("name"),
        get("account"),
        what,
        get("used"),
        get("requests"),
        get("first_request"),
        get("last_request"),
    ]
}

#[test]
fn all_forms_tell_the_same_of_what_was_used_and_refused() {
    let report = read(&made(some(), &events(), "json"));
    let expected = expected(&report);
    assert_eq!(expected.len(), 13);
    let table = csv(&made(some(), &events(), "csv"));
    assert_eq!(table.iter().map(told).collect::<Vec<_>>(), expected);
    let page = made(some(), &events(), "html");
    let rows = html(&page);
    assert_eq!(rows.len(), table.len());
    for (row, other) in rows.iter().zip(&table) {
        for (key, cell) in row {
            assert_eq!(cell, other[key].trim_start_matches('\''), "{key}");
        }
    }
    let text = made(some(), &events(), "markdown");
    let pairs = [
        ("Account", "account"),
        ("Not used", "unused"),
        ("Used", "used"),
        ("Requests", "requests"),
        ("First", "first_request"),
        ("Last", "last_request"),
        ("The log covers", "log_covers"),
        ("By", "kind"),
        ("Verb", "verb"),
        ("Resource", "resource"),
        ("Namespace", "namespace"),
        ("Object", "object"),
    ];
    let written = markdown(&text, "## What was used, by the audit log")
        .into_iter()
        .chain(markdown(&text, "## What accounts were refused"));
    let written: Vec<Row> = written.collect();
    let held: Vec<&Row> = table
        .iter()
        .filter(|row| row["record"] == "attempt" || !row["log_covers"].is_empty())
        .collect();
    assert_eq!(written.len(), held.len());
    for (row, other) in written.iter().zip(held) {
        for (head, key) in pairs {
            if let Some(cell) = row.get(head) {
                assert_eq!(cell, &other[key], "{head}");
            }
        }
    }
    for text in [&text, &page] {
        for part in [
            "11 events of 1 log, from 2026-11-01T11:00:00Z to 2026-11-01T13:00:00Z.",
            "is not proven to be unneeded",
            "5 requests of accounts refused, in 3 rows; 0 requests not listed.",
            "8 grants and bindings held against it: 5 with rights that were not used in this time. It does not cover the whole life of 6.",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn a_scanner_gets_a_note_for_each_live_rule_that_was_not_used_and_for_each_refusal() {
    let log = read(&made(some(), &events(), "sarif"));
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let of_rule =
        |id: &str| -> Vec<&Value> { results.iter().filter(|r| r["ruleId"] == id).collect() };
    let place = |result: &&Value| {
        result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut unused: Vec<String> = of_rule("unused-rule").iter().map(place).collect();
    unused.sort();
    // Of those that live: `still` is over, and of `dangling` nobody knows the rules.
    assert_eq!(
        unused,
        [
            "ClusterRoleBinding/everything",
            "ClusterWorkloadAccess/inventory",
            "RoleBinding/payments/alias",
            "WorkloadAccess/payments/now"
        ]
    );
    let now = of_rule("unused-rule")
        .into_iter()
        .find(|r| place(r).ends_with("/now"))
        .unwrap();
    assert_eq!(
        now["message"]["text"],
        "payments/migrator: not used from 2026-11-01T11:00:00Z to 2026-11-01T13:00:00Z: patch deployments.apps named billing-api (of its life the log covers not up to now)"
    );
    let attempts: Vec<String> = of_rule("refused-attempt").iter().map(place).collect();
    assert_eq!(
        attempts,
        [
            "ServiceAccount/payments/migrator",
            "ServiceAccount/search/indexer",
            "ServiceAccount/search/indexer"
        ]
    );
    for result in of_rule("unused-rule")
        .iter()
        .chain(&of_rule("refused-attempt"))
    {
        assert_eq!(result["level"], "note", "{result}");
    }
    let fingerprints: std::collections::BTreeSet<&str> = results
        .iter()
        .map(|r| {
            r["partialFingerprints"]["stintFinding/v1"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(fingerprints.len(), results.len(), "each is known again");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let help = |id: &str| {
        rules.iter().find(|r| r["id"] == id).unwrap()["help"]["text"]
            .as_str()
            .unwrap()
    };
    assert!(help("unused-rule").contains("does not prove that it is unneeded"));
    assert!(help("refused-attempt").contains("was refused"));
}

#[rstest]
fn without_a_log_nothing_is_said_of_use(
    #[values("html", "markdown", "csv", "json", "sarif")] form: &str,
) {
    let output = some().report(&Folder::new(), &["-o", form]);
    let text = stdout(&output);
    let words: &[&str] = match form {
        "html" => &["What was used", "\"key\":\"unused\"", "is not proven"],
        _ => &[
            "auditLog",
            "usage",
            "udit log",
            "unused",
            "log_covers",
            "refused-attempt",
        ],
    };
    for word in words {
        assert!(!text.contains(word), "{word}: {text}");
    }
    if form == "html" {
        assert!(html(&text).iter().all(|row| !row.contains_key("unused")));
    }
}

#[test]
fn the_report_says_which_part_of_a_life_the_log_covers() {
    let covers = |held: Held, events: &[Value]| -> Vec<(String, String)> {
        let rows = csv(&made(held, events, "csv"))
            .into_iter()
            .filter(|row| row["record"] == "grant");
        rows.map(|row| (row["log_covers"].clone(), row["unused"].clone()))
            .collect()
    };
    let event = |time: &str| at(with("get pods payments/p", &[]), time);
    let of_one = |held: Value, from: &str, to: &str| {
        let held = Held {
            requests: vec![held],
            ..Held::default()
        };
        covers(held, &[event(from), event(to)]).remove(0)
    };
    let all = "get, patch deployments.apps named billing-api";
    let pair = |covers: &str, unused: &str| (covers.to_owned(), unused.to_owned());
    assert_eq!(
        of_one(expired("e"), "11:00:00", "13:00:00"),
        pair("all of it", all)
    );
    assert_eq!(
        of_one(expired("e"), "12:10:00", "13:00:00"),
        pair("not its beginning", all)
    );
    assert_eq!(
        of_one(expired("e"), "11:00:00", "12:10:00"),
        pair("not its end", all)
    );
    assert_eq!(
        of_one(expired("e"), "12:10:00", "12:20:00"),
        pair("neither beginning nor end", all)
    );
    assert_eq!(
        of_one(expired("e"), "10:00:00", "11:00:00"),
        pair("nothing of it", "")
    );
    assert_eq!(
        of_one(active("a"), "11:00:00", "13:00:00"),
        pair("not up to now", all)
    );
    assert_eq!(
        of_one(active("a"), "12:10:00", "13:00:00"),
        pair("not its beginning, not up to now", all)
    );
    // The rules of a role are copied when a grant begins, and the copy goes with it.
    let mut by_role = expired("e");
    by_role["spec"].as_object_mut().unwrap().remove("rules");
    by_role["spec"]["roleRef"] = json!({"kind": "ClusterRole", "name": "reader"});
    assert_eq!(
        of_one(by_role, "11:00:00", "13:00:00"),
        pair("all of it", "unknown")
    );
}

#[test]
fn a_live_grant_by_a_role_is_held_against_the_copy() {
    let mut held = some();
    held.requests[0]["spec"]
        .as_object_mut()
        .unwrap()
        .remove("rules");
    held.requests[0]["spec"]["roleRef"] = json!({"kind": "ClusterRole", "name": "reader"});
    let report = read(&made(held, &events(), "json"));
    let usage = &named(&report["grants"], "now")["usage"];
    assert_eq!(
        usage["rules"],
        json!([{"rule": "get secrets", "requests": 0, "unused": ["get secrets"]}])
    );
    assert_eq!(usage["requests"], 2, "whatever the copy has become since");
}

#[test]
fn what_kubernetes_allows_itself_is_counted_alone() {
    let own = |asked: &str, binding: &str| {
        at(
            of(by(asked, binding), "kube-system:job-controller"),
            "12:00:00",
        )
    };
    let mut events = events();
    events.push(own(
        "list jobs.batch -",
        "ClusterRoleBinding \"system:controller:job-controller\"",
    ));
    events.push(own("get secrets ci/x", "ClusterRoleBinding \"everything\""));
    events.push(at(
        of(refused("list secrets -"), "kube-system:job-controller"),
        "12:00:00",
    ));
    events.push(at(
        of(
            by("get pods kube-system/x", "ClusterRoleBinding \"tiller\""),
            "kube-system:tiller",
        ),
        "12:00:00",
    ));
    let mut held = some();
    let joined = review::binding(
        None,
        "tiller",
        "owner",
        review::account("kube-system", "tiller"),
    );
    held.cluster_bindings.push(joined);
    let report = read(&made(held, &events, "json"));
    assert_eq!(report["auditLog"]["ofKubernetes"], 1);
    let accounts: Vec<&str> = report["auditLog"]["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["account"].as_str().unwrap())
        .collect();
    assert!(
        accounts.contains(&"kube-system/job-controller"),
        "what is refused is told of everybody: {accounts:?}"
    );
    assert_eq!(named(&report["standing"], "tiller")["usage"]["requests"], 1);
}

#[test]
fn a_report_of_one_namespace_is_about_what_happens_in_it() {
    let folder = Folder::new();
    let mut events = events();
    events.push(at(
        of(refused("get pods search/p"), "ci:runner"),
        "12:00:00",
    ));
    events.push(at(
        of(refused("get pods payments/p"), "ci:runner"),
        "12:00:00",
    ));
    folder.file("audit.log", log(&events));
    let mut answers = some().answers_for_a_log();
    answers.remove(review::WIDE);
    answers.remove(review::CLUSTER_BINDINGS);
    let output = review::report(
        &folder,
        answers,
        &["-n", "payments", "--audit-log", "audit.log", "-o", "json"],
    );
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let report = read(&stdout(&output));
    let attempts: Vec<(&str, &str)> = report["auditLog"]["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["account"].as_str().unwrap(),
                one["resource"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        attempts,
        [
            ("ci/runner", "pods"),
            ("payments/migrator", "nodes"),
            ("search/indexer", "secrets")
        ]
    );
    assert_eq!(named(&report["grants"], "now")["usage"]["requests"], 2);
}

/// Ends scripts and cells, begins formulas, makes links and mentions. A name of an object holds no slash; a path does.
const HOSTILE: [&str; 6] = [
    "=cmd()|x",
    "<script>alert(1)<",
    "`a`[b](http:c)",
    "@team",
    "{{data}}",
    "<img\"onerror='x'>&amp;",
];
const HOSTILE_PATH: &str = "/</script><script>alert(1)</script>";

fn hostile() -> Vec<Value> {
    let steering = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}</script><script>alert(1)</script>";
    let mut events: Vec<Value> = HOSTILE.iter().map(|name| {
        at(with("get pods payments/p", &[
            ("/objectRef/name", json!(name)), ("/userAgent", json!(steering)), ("/user/extra", json!({steering: [steering]})),
            ("/annotations", json!({"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": steering})),
        ]), "12:00:00")
    }).collect();
    events.push(at(refused(&format!("get {HOSTILE_PATH}")), "12:00:00"));
    let allowed = format!(
        "RBAC: allowed by RoleBinding \"stint-now/payments\" of Role \"{steering}\" to ServiceAccount \"a/b\""
    );
    events.push(at(
        with(
            &format!("get {HOSTILE_PATH}"),
            &[("/annotations/authorization.k8s.io~1reason", json!(allowed))],
        ),
        "12:00:00",
    ));
    // Of these, which no rule can hold, only the number is told.
    for (field, text) in [
        ("/objectRef/name", "\u{1b}[2J"),
        ("/objectRef/resource", "</script>"),
        ("/objectRef/namespace", "<b>"),
        ("/verb", "get\n"),
    ] {
        let mut event = at(refused("get pods payments/p"), "12:00:00");
        *event.pointer_mut(field).unwrap() = text.into();
        events.push(event);
    }
    events
}

#[test]
fn nothing_in_a_log_steers_a_terminal_or_becomes_markup() {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    for form in FORMS {
        let output = output(some(), &hostile(), &["-o", form]);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let text = stdout(&output) + &stderr(&output);
        let bad: Vec<char> = text
            .chars()
            .filter(|c| steers(*c) && !"\r\n".contains(*c))
            .collect();
        assert!(bad.is_empty() && !text.contains("owned"), "{form}: {bad:?}");
        assert!(text.contains("alert"), "{form}: it is in there");
    }
    let (text, plain) = (
        made(some(), &hostile(), "html"),
        made(some(), &events(), "html"),
    );
    for what in ["<script", "</script", "<img", "<style"] {
        assert_eq!(
            text.matches(what).count(),
            plain.matches(what).count(),
            "{what}"
        );
    }
    let page = html(&text);
    let attempts = || page.iter().filter(|row| row["record"] == "attempt");
    for name in HOSTILE {
        assert!(attempts().any(|row| row["object"] == name), "{name}");
    }
    assert!(attempts().any(|row| row["resource"] == HOSTILE_PATH));
    assert!(page.iter().any(|row| row["used"].contains(HOSTILE_PATH)));
    for row in csv(&made(some(), &hostile(), "csv")) {
        for (column, cell) in row {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{column}: {cell}"
            );
        }
    }
    let text = made(some(), &hostile(), "markdown");
    for what in ["<script", "<img", "](http", "`", "@team", "{{data}}"] {
        assert!(!text.contains(what), "{what}: {text}");
    }
    let report = read(&made(some(), &hostile(), "json"));
    assert_eq!(report["auditLog"]["unreadable"], 4);
    assert_eq!(report["auditLog"]["refusedRequests"], 7);
}

#[test]
fn a_log_full_of_refusals_is_bounded_and_nobody_is_pushed_out() {
    let mut events = events();
    for n in 0..40_000 {
        let (account, resource) = (n % 4, n / 80);
        let name = format!("n-{}", n % 70);
        let event = of(
            refused(&format!("get r{resource}.example.org payments/{name}")),
            &format!("payments:noisy-{account}"),
        );
        events.push(at(event, "12:00:00"));
    }
    let text = made(some(), &events, "json");
    let report = read(&text);
    let log = &report["auditLog"];
    let attempts = log["refused"].as_array().unwrap();
    assert_eq!(attempts.len(), 500);
    let listed: u64 = attempts
        .iter()
        .map(|one| one["requests"].as_u64().unwrap())
        .sum();
    assert_eq!(log["refusedRequests"], 40_005);
    assert_eq!(log["refusedNotListed"], 40_005 - listed);
    assert!(listed < 40_005);
    for account in [
        "payments/migrator",
        "search/indexer",
        "payments/noisy-0",
        "payments/noisy-3",
    ] {
        assert!(
            attempts.iter().any(|one| one["account"] == account),
            "{account}"
        );
    }
    let page = made(some(), &events, "html");
    let told = format!(
        "40005 requests of accounts refused, in 500 rows; {} requests not listed.",
        40_005 - listed
    );
    assert!(page.contains(&told), "{told}");
}

#[test]
fn more_names_than_are_kept_are_one_attempt() {
    let names = (0..70).map(|n| at(refused(&format!("get pods payments/p-{n}")), "12:00:00"));
    let report = read(&made(some(), &names.collect::<Vec<_>>(), "json"));
    let attempts = report["auditLog"]["refused"].as_array().unwrap();
    let [one] = &attempts[..] else {
        panic!("{attempts:?}")
    };
    assert_eq!(
        (&one["name"], &one["manyNames"], &one["requests"]),
        (&Value::Null, &json!(true), &json!(70))
    );
    let rows = csv(&made(
        some(),
        &(0..70)
            .map(|n| at(refused(&format!("get pods payments/p-{n}")), "12:00:00"))
            .collect::<Vec<_>>(),
        "csv",
    ));
    assert_eq!(rows.last().unwrap()["object"], "(many names)");
}

#[test]
fn ten_thousand_grants_with_their_use_and_hostile_refusals_fit_into_two_megabytes() {
    let held = review::many(10_000);
    let mut events = Vec::new();
    for n in 0..10_000 {
        let account = format!("team-{}:worker-{}", n % 120, n % 7);
        let binding = format!("RoleBinding \"stint-deploy-{n}/team-{}\"", n % 120);
        let asked = format!("get deployments.apps team-{}/service-{}", n % 120, n % 400);
        let start: jiff::Timestamp = "2026-09-01T00:00:00Z".parse().unwrap();
        let time =
            jiff::Timestamp::from_second(start.as_second() + i64::from(n) * 700 + 60).unwrap();
        let mut event = of(by(&asked, &binding), &account);
        event["requestReceivedTimestamp"] = format!("{time:.6}").into();
        if held.requests[n as usize]["status"]
            .get("roleBinding")
            .is_some()
        {
            events.push(event);
        }
    }
    let account = format!("{}:{}", "n".repeat(63), "a".repeat(253));
    for n in 0..900 {
        let asked = format!(
            "get {}{n}.{}/{} {}/{}",
            "r".repeat(200),
            "g".repeat(253),
            "s".repeat(200),
            "p".repeat(63),
            "n".repeat(253)
        );
        events.push(at(of(refused(&asked), &account), "12:00:00"));
    }
    let text = made(held, &events, "html");
    eprintln!(
        "10,000 grants with their use, and 500 long refusals: {} bytes",
        text.len()
    );
    assert!(text.len() <= 2_000_000, "{} bytes", text.len());
    let rows = html(&text);
    assert_eq!(
        rows.iter()
            .filter(|row| row["requests"] == "1" && row["record"] == "grant")
            .count(),
        9_800
    );
    // Long ones are fewer: 64 KiB of words.
    let attempts = rows.iter().filter(|row| row["record"] == "attempt");
    let words = attempts.map(|row| {
        ["account", "namespace", "object", "resource", "verb"]
            .map(|key| row[key].len())
            .iter()
            .sum::<usize>()
    });
    let words: Vec<usize> = words.collect();
    assert!(
        words.len() > 20 && words.iter().sum::<usize>() <= 64 << 10,
        "{words:?}"
    );
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

#[test]
fn logs_come_in_any_order_compressed_and_on_stdin() {
    let whole = read(&made(some(), &events(), "json"));
    let (early, late) = (events()[..4].to_vec(), events()[4..].to_vec());
    let folder = Folder::new();
    folder
        .file("late.log", log(&late))
        .file("early.log.gz", gzip(&log(&early)));
    let parted = some().report(
        &folder,
        &["--audit-log", "late.log", "early.log.gz", "-o", "json"],
    );
    let parted = read(&stdout(&parted));
    let server = api_server(&folder, some().answers_for_a_log());
    let args = [
        "report",
        "--kubeconfig",
        "kubeconfig",
        "--audit-log",
        "early.log.gz",
        "--audit-log",
        "-",
        "-o",
        "json",
    ];
    let piped = run(&folder.0, &args, &log(&late));
    server.join().unwrap();
    let piped = read(&stdout(&piped));
    for other in [parted, piped] {
        assert_eq!(other["grants"], whole["grants"]);
        assert_eq!(other["auditLog"]["refused"], whole["auditLog"]["refused"]);
        assert_eq!(other["auditLog"]["sources"], 2);
    }
    let twice = some().report(&folder, &["--audit-log", "-", "-"]);
    assert_eq!((status(&twice), stdout(&twice).as_str()), (2, ""));
    assert!(
        stderr(&twice).contains("stdin can be read only once"),
        "{}",
        stderr(&twice)
    );
}

#[rstest]
#[case::text(b"one\ntwo\n".to_vec(), "audit.log: not an audit log of Kubernetes: no line is an event of audit.k8s.io/v1; audit.log:1: cannot be read")]
#[case::a_manifest(b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}\n".to_vec(), "audit.log:1: is no event of audit.k8s.io/v1 but kind 'Pod' of 'v1'")]
#[case::empty(Vec::new(), "no event in what was named")]
#[case::cut_off(gzip(&log(&vec![events().remove(0); 200]))[..200].to_vec(), "audit.log: line 1: the gzip file ends too early")]
#[case::broken([gzip("x"), b"garbage that is long enough".to_vec()].concat(), "audit.log: line 1: the gzip file is damaged")]
#[case::zstd(vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0], "audit.log: is compressed with zstd")]
fn what_is_no_audit_log_makes_no_report(#[case] text: Vec<u8>, #[case] why: &str) {
    let folder = Folder::new();
    folder.file("audit.log", text);
    let output = some().report(&folder, &["--audit-log", "audit.log", "-f", "report.html"]);
    assert_eq!((status(&output), stdout(&output).as_str()), (2, ""));
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
    let files: Vec<_> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(
        files.len(),
        2,
        "nothing beside the log and the kubeconfig: {files:?}"
    );
}

#[test]
fn a_log_that_is_not_there_makes_no_report() {
    let folder = Folder::new();
    folder.file("logs/audit.log", log(&events()));
    for (file, why) in [
        ("none.log", "none.log: No such file"),
        ("logs", "logs: is a folder; name the files in it"),
    ] {
        let output = some().report(&folder, &["--audit-log", file, "-f", "report.csv"]);
        assert_eq!((status(&output), stdout(&output).as_str()), (2, ""));
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
        assert!(!folder.0.join("report.csv").exists());
    }
}

/// From half of a log nobody can say what was not used: the report is made, says so, and the command ends with 2.
#[rstest]
fn damage_in_a_log_is_told_with_its_place_in_every_form(
    #[values("html", "markdown", "csv", "json", "sarif")] form: &str,
) {
    let folder = Folder::new();
    let lines: Vec<String> = events().iter().map(line).collect();
    let text = format!(
        "{}{}\n{}",
        lines[..5].concat(),
        &lines[5][..200],
        lines[6..].concat()
    );
    folder.file("audit.log", text);
    let output = some().report(&folder, &["--audit-log", "audit.log", "-o", form]);
    assert_eq!(status(&output), 2);
    let why = "audit.log:6: is half-written: the JSON ends too early";
    assert!(
        stderr(&output).contains(&format!("kubectl-stint: {why}")),
        "{}",
        stderr(&output)
    );
    let text = stdout(&output);
    match form {
        "json" => {
            let report = read(&text);
            assert_eq!(
                report["notRead"],
                json!([{"what": "audit log", "why": why}])
            );
            assert_eq!(
                (
                    &report["auditLog"]["damaged"],
                    &report["auditLog"]["events"]
                ),
                (&json!(1), &json!(10))
            );
        }
        "csv" => assert_eq!(csv(&text).len(), 13),
        "markdown" => assert!(
            markdown(&text, "## Grants").len() == 5 && text.contains("Not complete:"),
            "{text}"
        ),
        _ => assert!(text.contains(why), "{text}"),
    }
}

/// The same account, made anew or in another cluster.
fn another(mut event: Value) -> Value {
    event["user"]["uid"] = "another".into();
    event
}

#[rstest]
// The migrator of the cluster is there since October.
#[case::an_account(
    "12:00:00",
    "2026-11-01",
    "audit.log:12: is of another cluster: 'system:serviceaccount:payments:migrator' has the UID another there, and 5f63ab11-3b2c-47c6-bf19-a4706d1170bc here since 2026-10-01T00:00:00Z"
)]
#[case::older_than_the_cluster(
    "12:00:00",
    "2025-11-01",
    "audit.log:12: is of another cluster: the event is of 2025-11-01T12:00:00Z, and this cluster began at 2026-01-01T00:00:00Z"
)]
fn a_log_of_another_cluster_makes_no_report(
    #[case] time: &str,
    #[case] day: &str,
    #[case] why: &str,
) {
    let mut stranger = another(event("get configmaps payments/a"));
    stranger["requestReceivedTimestamp"] = format!("{day}T{time}.000000Z").into();
    let folder = Folder::new();
    folder.file("audit.log", log(&[events(), vec![stranger]].concat()));
    let output = some().report(&folder, &["--audit-log", "audit.log", "-f", "report.csv"]);
    assert_eq!((status(&output), stdout(&output).as_str()), (2, ""));
    let told = format!(
        "kubectl-stint: {why}; check the context (--context), or name other logs; --any-cluster reads it all the same\n"
    );
    assert_eq!(stderr(&output), told);
    assert!(!folder.0.join("report.csv").exists());
}

#[test]
fn a_log_of_another_cluster_is_read_where_that_is_wanted() {
    let mut stranger = another(event("get configmaps payments/a"));
    stranger["requestReceivedTimestamp"] = "2026-11-01T12:00:00.000000Z".into();
    let events = [events(), vec![stranger.clone(), stranger]].concat();
    let output = output(some(), &events, &["--any-cluster", "-o", "json"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let told = "2 events of another cluster, the first: audit.log:12: is of another cluster: ";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    assert_eq!(read(&stdout(&output))["auditLog"]["foreign"], 2);
}

#[test]
fn logs_of_two_clusters_make_no_report() {
    let stranger = |time: &str| at(another(of(event("get configmaps a/b"), "ci:runner")), time);
    let folder = Folder::new();
    folder.file("one.log", log(&events())).file(
        "other.log",
        log(&[stranger("10:00:00"), stranger("14:00:00")]),
    );
    let output = some().report(&folder, &["--audit-log", "one.log", "other.log"]);
    assert_eq!((status(&output), stdout(&output).as_str()), (2, ""));
    assert_eq!(
        stderr(&output),
        "kubectl-stint: other.log:1 and one.log:1 are of different clusters: 'system:serviceaccount:ci:runner' has the UID another there and 5f63ab11-3b2c-47c6-bf19-a4706d1170bc here, at the same time; name the logs of one cluster; --any-cluster reads it all the same\n"
    );
}

#[test]
fn a_log_that_may_be_of_another_cluster_is_told() {
    // It was deleted and made again since, or the log is of another cluster: nobody knows.
    let mut before = another(event("get configmaps payments/a"));
    before["requestReceivedTimestamp"] = "2026-09-01T12:00:00.000000Z".into();
    let output = output(some(), &[before], &["-o", "json"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let told = "audit.log: no event that was looked at is of an account with the UID that it has in this cluster, so whether it is a log of this cluster is not known\n";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    let report = read(&stdout(&output));
    assert_eq!(report["auditLog"]["unconfirmed"], 1);
}

#[test]
fn who_may_not_read_the_accounts_is_told_so() {
    let folder = Folder::new();
    folder.file("audit.log", log(&events()));
    let mut answers = some().answers();
    answers.push((
        403,
        json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no"}),
        "",
    ));
    let output = review::report(
        &folder,
        answers,
        &["--audit-log", "audit.log", "-o", "json"],
    );
    assert_eq!(status(&output), 2);
    let report = read(&stdout(&output));
    assert_eq!(report["notRead"][0]["what"], "serviceaccounts");
    assert_eq!(report["auditLog"]["unconfirmed"], 1);
}

#[test]
fn a_log_that_is_being_written_is_no_damage() {
    let folder = Folder::new();
    let text = log(&events());
    folder.file("audit.log", &text[..text.len() - 40]);
    let output = some().report(&folder, &["--audit-log", "audit.log", "-o", "json"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("audit.log: the last event is half-written"),
        "{}",
        stderr(&output)
    );
    assert_eq!(read(&stdout(&output))["auditLog"]["halfWritten"], 1);
}

#[test]
fn reports_with_and_without_a_log_are_compared_and_use_alone_is_no_change() {
    let folder = Folder::new();
    folder
        .file("audit.log", log(&events()))
        .file("other.log", log(&events()[..3]));
    assert_eq!(status(&some().report(&folder, &["-f", "without.json"])), 0);
    assert_eq!(
        status(&some().report(&folder, &["-f", "with.json", "--audit-log", "audit.log"])),
        0
    );
    let mut later = some();
    later.requests.remove(1);
    for (baseline, log) in [
        ("without.json", Some("audit.log")),
        ("with.json", Some("other.log")),
        ("with.json", None),
    ] {
        let mut args = vec!["--baseline", baseline, "-o", "json"];
        args.extend(log.iter().flat_map(|log| ["--audit-log", log]));
        let output = later.clone().report(&folder, &args);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let report = read(&stdout(&output));
        let trend = &report["trend"];
        assert_eq!(
            (&trend["added"], &trend["changed"]),
            (&json!([]), &json!([])),
            "{baseline} {log:?}"
        );
        assert_eq!(trend["removed"]["grants"][0]["name"], "before");
        assert_eq!(report.get("auditLog").is_some(), log.is_some());
        // Of what is gone this log says nothing.
        args[3] = "csv";
        let rows = csv(&stdout(&later.clone().report(&folder, &args)));
        let gone = rows.iter().find(|row| row["change"] == "removed").unwrap();
        assert!(gone.get("log_covers").is_none_or(String::is_empty));
    }
}
