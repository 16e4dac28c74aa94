//! `kubectl stint report`: the same rows in every form, whatever was written into them, and what is otherwise than in an earlier report.

use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::process::Command;
use stint::api::names;
use support::audit::{event, log, refused};
use support::plugin::*;
use support::project;
use support::review::{self, Held, active, approval, between, csv, expired, html, markdown, some};

/// Ends scripts, elements, cells, links and strings, begins formulas, and steers terminals.
const HOSTILE: &str = "=cmd()|x </script><script>alert(1)</script><img src=x onerror=alert(1)> \"'&amp; `a` [b](http://c) @team {{data}} \u{1b}]0;owned\u{7}\u{9b}2J\u{202e}y\u{200b}\n# z";

fn hostile() -> Held {
    let mut request = review::residual(HOSTILE, HOSTILE);
    request["metadata"]["uid"] = "uid-h".into();
    request["spec"]["serviceAccountRef"]["name"] = HOSTILE.into();
    request["spec"]["reason"] = HOSTILE.into();
    request["spec"]["ticket"] = HOSTILE.into();
    request["spec"]["rules"][0]["resourceNames"][0] = HOSTILE.into();
    request["status"]["requestedBy"] = HOSTILE.into();
    request["status"]["conditions"][0]["message"] = HOSTILE.into();
    request["status"]["policy"]["name"] = HOSTILE.into();
    request["status"]["findings"] = json!([HOSTILE]);
    request["status"]["approvals"][0]["approver"] = HOSTILE.into();
    let mut of_request = approval("a", "h", HOSTILE);
    of_request["metadata"]["name"] = HOSTILE.into();
    let subject = review::account(HOSTILE, HOSTILE);
    let mut binding = review::binding(Some(HOSTILE), HOSTILE, HOSTILE, subject);
    binding["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": HOSTILE});
    Held {
        requests: vec![
            request,
            json!({"metadata": {"name": "broken", "namespace": HOSTILE}, "spec": {"reason": HOSTILE}}),
        ],
        approvals: vec![of_request],
        cluster_roles: vec![review::role(None, HOSTILE, &[HOSTILE])],
        bindings: vec![binding],
        ..Held::default()
    }
}

/// A report in this form; it must succeed.
fn made(held: Held, form: &str) -> String {
    let output = held.report(&Folder::new(), &["-o", form]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[rstest]
fn nothing_that_somebody_wrote_steers_a_terminal(
    #[values("html", "markdown", "csv", "json", "sarif")] form: &str,
) {
    let text = made(hostile(), form);
    assert!(text.contains("owned"), "{text}");
    let bad: Vec<char> = text
        .chars()
        .filter(|c| steers(*c) && !"\r\n".contains(*c))
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(form == "csv" || !text.contains('\r'));
}

#[test]
fn nothing_that_somebody_wrote_becomes_markup_of_the_page() {
    let (text, plain) = (made(hostile(), "html"), made(some(), "html"));
    let count = |text: &str, what: &str| text.matches(what).count();
    for what in ["<script", "</script", "<img", "<style", "<svg"] {
        assert_eq!(count(&text, what), count(&plain, what), "{what}");
    }
    let shown = &html(&text)[0]["reason"];
    assert!(
        shown.contains("</script><script>alert(1)</script>"),
        "{shown}"
    );
    assert!(shown.contains("{{data}}"), "{shown}");

    // What could not be read is told outside of the data.
    let mut answers = some().answers();
    answers[review::REQUESTS] = (
        500,
        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 500, "message": HOSTILE}),
        "",
    );
    for form in ["html", "markdown"] {
        let output = review::report(&Folder::new(), answers.clone(), &["-o", form]);
        let text = stdout(&output);
        assert!(text.contains("alert"), "{text}");
        assert!(
            !text.contains("<script>alert") && !text.contains("<img"),
            "{text}"
        );
    }
}

#[test]
fn the_page_asks_no_network_and_runs_its_own_script_alone() {
    let text = made(some(), "html");
    let policy = between(&text, "Content-Security-Policy\" content=\"", "\"");
    let hash = |text: &str| {
        use base64::Engine;
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        format!(
            "'sha256-{}'",
            base64::engine::general_purpose::STANDARD.encode(digest)
        )
    };
    let (script, style) = (
        between(&text, "<script>", "</script>"),
        between(&text, "<style>", "</style>"),
    );
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'",
            hash(script),
            hash(style)
        )
    );
    for what in ["src=", "href=\"http", "url(", "@import", "<link", "<iframe"] {
        assert!(!text.contains(what), "{what}");
    }
    for what in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch(",
        "XMLHttp",
    ] {
        assert!(!script.contains(what), "{what}");
    }
    // The namespace of SVG names, and is never asked for.
    assert_eq!(text.matches("http://").count(), 1);
    assert!(text.contains("<html lang=\"en\">") && text.contains("<caption>"));
}

#[test]
fn no_cell_is_a_formula_and_no_cell_of_markdown_is_markup() {
    for row in csv(&made(hostile(), "csv")) {
        for (column, cell) in row {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{column}: {cell}"
            );
        }
    }
    let text = made(hostile(), "markdown");
    for what in ["<script", "<img", "](http", "`", "@team", "\n# z"] {
        assert!(!text.contains(what), "{what}: {text}");
    }
    let rows = markdown(&text, "## Grants");
    assert!(
        rows.iter()
            .any(|row| row["Reason"].contains("</script><script>alert(1)</script>")),
        "{rows:?}"
    );
}

#[test]
fn programs_get_every_text_as_it_is() {
    let report = read(&made(hostile(), "json"));
    let grants = report["grants"].as_array().unwrap();
    let grant = grants.iter().find(|grant| grant["uid"] == "uid-h").unwrap();
    for field in [
        "name",
        "reason",
        "ticket",
        "requestedBy",
        "message",
        "residual",
    ] {
        assert_eq!(grant[field], HOSTILE, "{field}");
    }
    assert_eq!(grant["approvals"][0]["reason"], HOSTILE);
    let broken = grants
        .iter()
        .find(|grant| grant["name"] == "broken")
        .unwrap();
    assert_eq!(broken["state"], "Unreadable");
    assert!(
        broken["message"]
            .as_str()
            .unwrap()
            .contains("missing field"),
        "{broken}"
    );
}

/// What identifies a row, and what decides.
fn essence(row: &std::collections::BTreeMap<String, String>) -> [String; 7] {
    [
        "kind",
        "namespace",
        "name",
        "account",
        "state",
        "risk",
        "codes",
    ]
    .map(|key| row[key].clone())
}

#[test]
fn all_forms_tell_the_same_rows() {
    let report = read(&made(some(), "json"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |row: &Value, state: String| {
        let codes: Vec<String> = row["codes"].as_array().unwrap().iter().map(text).collect();
        let field = |key: &str| text(&row[key]);
        [
            field("kind"),
            field("namespace"),
            field("name"),
            field("account"),
            state,
            field("risk"),
            codes.join(" "),
        ]
    };
    let grants = report["grants"].as_array().unwrap().iter();
    let grants = grants.map(|row| of(row, text(&row["state"])));
    let standing = report["standing"].as_array().unwrap().iter();
    let standing = standing.map(|row| of(row, "Standing".into()));
    let expected: Vec<[String; 7]> = grants.chain(standing).collect();
    assert_eq!(expected.len(), 10);

    let table = csv(&made(some(), "csv"));
    assert_eq!(table.iter().map(essence).collect::<Vec<_>>(), expected);
    let page = html(&made(some(), "html"));
    for (row, other) in table.iter().zip(&page) {
        for (key, cell) in other {
            assert_eq!(cell, row[key].trim_start_matches('\''), "{key}");
        }
    }
    assert_eq!(page.len(), table.len());

    let written = made(some(), "markdown");
    let grants = markdown(&written, "## Grants")
        .into_iter()
        .map(|row| ("grant", row));
    let standing = markdown(&written, "## Standing rights of accounts").into_iter();
    let rows: Vec<_> = grants
        .chain(standing.map(|row| ("standing", row)))
        .collect();
    assert_eq!(rows.len(), table.len());
    for ((record, row), other) in rows.iter().zip(&table) {
        assert_eq!(other["record"], *record);
        let pairs = [
            ("Account", "account"),
            ("Risk", "risk"),
            ("Codes", "codes"),
            ("State", "state"),
            ("Reason", "reason"),
            ("Role", "role"),
            ("From", "from"),
            ("Ended", "ended"),
        ];
        for (head, key) in pairs {
            if let Some(cell) = row.get(head) {
                assert_eq!(cell, &other[key], "{head}");
            }
        }
    }

    // A scanner gets each code of what is live, and what is over and still there.
    let log = read(&made(some(), "sarif"));
    let results = log["runs"][0]["results"].as_array().unwrap().iter();
    let told = results.map(|r| {
        (
            text(&r["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]),
            text(&r["ruleId"]),
        )
    });
    let mut told: Vec<(String, String)> = told.collect();
    let mut live: Vec<(String, String)> = Vec::new();
    for row in &table {
        let place = match row["namespace"].as_str() {
            "" => format!("{}/{}", row["kind"], row["name"]),
            namespace => format!("{}/{namespace}/{}", row["kind"], row["name"]),
        };
        if ["Active", "Standing"].contains(&row["state"].as_str()) {
            live.extend(
                row["codes"]
                    .split_whitespace()
                    .map(|code| (place.clone(), code.to_owned())),
            );
        }
        if !row["residual"].is_empty() {
            live.push((place, "remark".into()));
        }
    }
    told.sort();
    live.sort();
    assert_eq!(told, live);
    assert!(log["runs"][0]["properties"]["clusterId"] == review::CLUSTER);
}

#[test]
fn each_request_tells_who_asked_who_decided_and_how_it_ended() {
    let report = read(&made(some(), "json"));
    let grants = report["grants"].as_array().unwrap();
    let named = |name: &str| grants.iter().find(|grant| grant["name"] == name).unwrap();
    let now = named("now");
    assert_eq!(now["live"], true);
    assert_eq!(now["requestedBy"], "alice");
    assert_eq!(
        now["decisions"],
        json!([{"by": "carol", "decision": "Approve", "at": "2026-11-01T11:59:59Z", "until": null}])
    );
    assert_eq!(
        now["approvals"],
        json!([{"name": "now-x7", "decision": "Approve", "reason": "agreed", "at": "2026-11-01T11:59:59Z"}])
    );
    let before = named("before");
    assert_eq!(
        (&before["from"], &before["ended"]),
        (
            &json!("2026-11-01T12:00:00Z"),
            &json!("2026-11-01T12:30:00Z")
        )
    );
    assert_eq!(
        (
            &before["endReason"],
            &before["message"],
            &before["verified"]
        ),
        (&json!("Expired"), &Value::Null, &json!(true))
    );
    assert_eq!(
        before["rights"],
        json!(["get, patch deployments.apps named billing-api"])
    );
    assert!(
        named("still")["residual"]
            .as_str()
            .unwrap()
            .contains("still may get secrets")
    );
    assert_eq!(named("wrong")["codes"], json!(["OB-W03", "WA-TOO-LONG"]));
    assert_eq!(named("inventory")["kind"], "ClusterWorkloadAccess");
    let totals = &report["totals"];
    assert_eq!(
        (&totals["grants"], &totals["live"], &totals["residual"]),
        (&json!(5), &json!(2), &json!(1))
    );
    assert_eq!(
        totals["states"],
        json!({"Active": 2, "Expired": 1, "Refused": 1, "Revoked": 1})
    );
}

#[test]
fn no_label_and_no_added_subject_is_kubernetes_own() {
    let labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults", "app.kubernetes.io/managed-by": "Kubernetes"});
    let mut held = some();
    let mut labelled = review::binding(None, "system:mine", "reader", review::account("ci", "bot"));
    labelled["metadata"]["labels"] = labels;
    let name = "system:controller:job-controller";
    let own = |binding: &&mut Value| binding["metadata"]["name"] == name;
    let binding = held.cluster_bindings.iter_mut().find(own).unwrap();
    let subjects = binding["subjects"].as_array_mut().unwrap();
    subjects.push(review::account("ci", "joined"));
    held.cluster_bindings.push(labelled);
    let report = read(&made(held, "json"));
    let of_kubernetes = |account: &str| {
        let standing = report["standing"].as_array().unwrap();
        let found = standing
            .iter()
            .find(|one| one["account"] == account)
            .unwrap();
        found["managedBy"] == "Kubernetes"
    };
    assert!(of_kubernetes("kube-system/job-controller"));
    assert!(!of_kubernetes("ci/bot") && !of_kubernetes("ci/joined"));
    assert_eq!(report["totals"]["standingOfKubernetes"], 1);
}

#[test]
fn standing_rights_are_those_of_accounts_that_no_grant_gives() {
    let report = read(&made(some(), "json"));
    let standing = report["standing"].as_array().unwrap();
    let named = |name: &str| standing.iter().find(|one| one["name"] == name);
    let accounts: Vec<&str> = standing
        .iter()
        .map(|one| one["account"].as_str().unwrap())
        .collect();
    assert_eq!(standing[0]["name"], "everything", "the worst comes first");
    assert_eq!(
        accounts.last(),
        Some(&"kube-system/job-controller"),
        "and Kubernetes' own last"
    );
    assert_eq!(
        named("all").unwrap()["account"],
        "Group system:serviceaccounts:payments"
    );
    assert_eq!(named("alias").unwrap()["account"], "payments/batch");
    assert!(named("people").is_none(), "a person is no account");
    assert!(named("stint-now").is_none(), "a grant ends");
    assert_eq!(named("everything").unwrap()["risk"], "Critical");
    let dangling = named("dangling").unwrap();
    assert!(
        dangling["codes"]
            .as_array()
            .unwrap()
            .contains(&"OB-B08".into()),
        "{dangling}"
    );
    assert!(
        dangling["note"]
            .as_str()
            .unwrap()
            .contains("does not exist")
    );
    assert!(dangling["age"].as_str().unwrap().contains('d'));
    assert!(standing.iter().all(|one| {
        one["codes"]
            .as_array()
            .unwrap()
            .contains(&"WA-STANDING".into())
    }));

    // A binding that only says that it is a grant's is told.
    let mut held = some();
    held.bindings[4]["metadata"]["labels"] = json!({"stint.dev/grant": "uid-nobody"});
    let report = read(&made(held, "json"));
    let standing = report["standing"].as_array().unwrap();
    let orphan = standing
        .iter()
        .find(|one| one["name"] == "stint-now")
        .unwrap();
    assert!(
        orphan["note"]
            .as_str()
            .unwrap()
            .starts_with("made for a grant whose request"),
        "{orphan}"
    );
}

/// The name that the binding of a request has.
fn name_of_binding(request: &Value) -> String {
    let text = |field: &str| request["metadata"][field].as_str().unwrap();
    names::made_object_name(text("name"), text("uid"))
}

#[rstest]
#[case::another_object_with_the_label_of_a_live_grant(active("now"), "mine".to_owned())]
#[case::in_the_place_of_the_binding_of_an_ended_grant(expired("gone"), name_of_binding(&expired("gone")))]
fn a_label_hides_no_binding(#[case] request: Value, #[case] name: String) {
    let mut held = some();
    held.requests = vec![request.clone()];
    held.bindings[4]["metadata"]["name"] = name.clone().into();
    held.bindings[4]["metadata"]["uid"] = "uid-other".into();
    held.bindings[4]["metadata"]["labels"] = json!({"stint.dev/grant": request["metadata"]["uid"]});
    let report = read(&made(held, "json"));
    let standing = report["standing"].as_array().unwrap();
    let told = standing.iter().find(|one| one["name"] == *name).unwrap();
    assert_eq!(
        told["note"],
        "says that it is a grant's, and is not the binding of that grant"
    );
}

#[test]
fn a_grant_that_has_just_begun_is_no_standing_right() {
    let mut held = some();
    let mut request = active("now");
    request["status"]["roleBinding"] = Value::Null;
    let name = name_of_binding(&request);
    held.requests = vec![request];
    held.bindings[4]["metadata"]["name"] = name.clone().into();
    let report = read(&made(held, "json"));
    let standing = report["standing"].as_array().unwrap();
    assert!(standing.iter().all(|one| one["name"] != *name));
}

/// An earlier report in the folder, and the cluster as it is later.
fn earlier(folder: &Folder) -> Held {
    let mut before = some();
    before.requests = vec![active("now"), active("still"), expired("gone")];
    let output = before.report(folder, &["-f", "earlier.json"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let mut later = some();
    later.requests = vec![
        active("now"),
        review::residual("still", "still may"),
        active("fresh"),
    ];
    later.cluster_roles[0] = review::role(None, "reader", &["get", "list"]);
    later.bindings.remove(1);
    later
}

#[test]
fn an_earlier_report_tells_what_was_added_removed_and_changed() {
    let folder = Folder::new();
    let later = earlier(&folder);
    let with = |form: &str| {
        stdout(
            &later
                .clone()
                .report(&folder, &["--baseline", "earlier.json", "-o", form]),
        )
    };
    let report = read(&with("json"));
    let trend = &report["trend"];
    let names = |list: &Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&trend["added"]), ["fresh"]);
    assert_eq!(names(&trend["removed"]["grants"]), ["gone"]);
    assert_eq!(names(&trend["removed"]["standing"]), ["alias"]);
    assert_eq!(
        names(&trend["changed"]),
        ["still", "all", "system:controller:job-controller"]
    );
    assert_eq!(
        trend["changed"][0]["fields"][0],
        json!({"field": "state", "was": "Active", "is": "Revoked"})
    );
    assert_eq!(trend["totals"]["live"], 3);
    let changes: Vec<(String, String)> = csv(&with("csv"))
        .into_iter()
        .filter(|row| !row["change"].is_empty())
        .map(|row| {
            (
                row["name"].clone(),
                row["change"].split(':').next().unwrap().to_owned(),
            )
        })
        .collect();
    let pair = |name: &str, change: &str| (name.to_owned(), change.to_owned());
    let expected = [
        pair("fresh", "added"),
        pair("still", "changed"),
        pair("all", "changed"),
        pair("system:controller:job-controller", "changed"),
        pair("gone", "removed"),
        pair("alias", "removed"),
    ];
    assert_eq!(changes, expected);
    let page = html(&with("html"));
    assert_eq!(
        page.iter().filter(|row| !row["change"].is_empty()).count(),
        6
    );
    let text = with("markdown");
    assert!(
        text.contains("1 added, 2 removed, 3 changed. Give rights now: 3 then."),
        "{text}"
    );

    // The same cluster again is no change.
    let output = later.clone().report(&folder, &["-f", "same.json"]);
    assert_eq!(status(&output), 0);
    let report = read(&stdout(
        &later.report(&folder, &["--baseline", "same.json", "-o", "json"]),
    ));
    let trend = &report["trend"];
    assert_eq!(
        (&trend["added"], &trend["changed"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(trend["removed"], json!({"grants": [], "standing": []}));
}

#[test]
fn a_pipeline_fails_on_what_is_new_alone() {
    let folder = Folder::new();
    let output = some().report(&folder, &["-f", "earlier.json"]);
    assert_eq!(status(&output), 0);
    let mut later = some();
    later.requests.push(active("fresh"));
    let ends = |held: &Held, args: &[&str]| status(&held.clone().report(&folder, args));
    let critical = ["--fail-on", "critical"];
    assert_eq!(ends(&later, &critical), 1, "a standing right is critical");
    let since = ["--baseline", "earlier.json", "--fail-on"];
    let with = |risk| [&since[..], &[risk]].concat();
    assert_eq!(ends(&later, &with("critical")), 0, "it was before");
    assert_eq!(ends(&later, &with("high")), 1, "a grant is new");
    assert_eq!(ends(&Held::default(), &["--fail-on", "low"]), 0);
}

#[rstest]
#[case::newer(|report: &mut Value| report["apiVersion"] = "stint.dev/report/v2".into(), "is of version stint.dev/report/v2, and this program reads stint.dev/report/v1; use a newer kubectl-stint")]
#[case::other(|report: &mut Value| report["apiVersion"] = "stint.dev/lint/v1".into(), "is no report; `kubectl stint report -o json` makes one")]
#[case::edited(|report: &mut Value| report["grants"] = json!([]), "was changed after it was made: its SHA-256 does not fit")]
fn a_baseline_that_cannot_serve_is_refused(#[case] change: fn(&mut Value), #[case] why: &str) {
    let folder = Folder::new();
    earlier(&folder);
    let file = folder.0.join("earlier.json");
    let mut report = read(&std::fs::read_to_string(&file).unwrap());
    change(&mut report);
    std::fs::write(&file, report.to_string()).unwrap();
    // Nothing is asked of a cluster.
    let output = review::report(&folder, vec![], &["--baseline", "earlier.json"]);
    assert_eq!((status(&output), stdout(&output).as_str()), (2, ""));
    let text = stderr(&output);
    assert!(text.contains(why), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn reports_of_other_places_are_not_compared() {
    let folder = Folder::new();
    let later = earlier(&folder);
    let mut answers = later.answers();
    answers[0].1["metadata"]["uid"] = "another".into();
    let output = review::report(&folder, answers.clone(), &["--baseline", "earlier.json"]);
    assert_eq!(status(&output), 2);
    assert!(
        stderr(&output).contains("is of another cluster"),
        "{}",
        stderr(&output)
    );
    answers.remove(review::WIDE);
    answers.remove(review::CLUSTER_BINDINGS);
    let output = review::report(
        &folder,
        answers,
        &["-n", "payments", "--baseline", "earlier.json"],
    );
    assert_eq!(status(&output), 2);
    let output = review::report(&folder, vec![], &["--baseline", "nothing.json"]);
    assert!(
        stderr(&output).contains("the baseline nothing.json cannot be read"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_may_not_be_read_is_told_and_passes_for_nothing() {
    let folder = Folder::new();
    let later = earlier(&folder);
    let mut answers = later.answers();
    let message = "rolebindings.rbac.authorization.k8s.io is forbidden: User \"bob\" cannot list resource \"rolebindings\" in API group \"rbac.authorization.k8s.io\" at the cluster scope";
    answers[review::BINDINGS] = (
        403,
        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": message}),
        "",
    );
    let args = ["--baseline", "earlier.json", "-o", "json"];
    let output = review::report(&folder, answers.clone(), &args);
    assert_eq!(status(&output), 2);
    let why = "'bob' may not list rolebindings.rbac.authorization.k8s.io in the whole cluster";
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
    let report = read(&stdout(&output));
    assert_eq!(
        report["notRead"][0]["what"],
        "rolebindings.rbac.authorization.k8s.io"
    );
    assert_eq!(report["trend"]["notCompared"], json!(["RoleBinding"]));
    assert_eq!(
        report["trend"]["removed"]["standing"],
        json!([]),
        "nobody knows whether they are gone"
    );
    assert_eq!(report["totals"]["grants"], 4, "the rest is told");
    for form in ["html", "markdown"] {
        let text = stdout(&review::report(&folder, answers.clone(), &["-o", form]));
        assert!(text.contains("may not list rolebindings"), "{text}");
    }

    // Without the roles nobody knows what a binding is worth, and that is not little.
    let mut answers = some().answers();
    answers[review::CLUSTER_ROLES] = (
        403,
        json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "clusterroles.rbac.authorization.k8s.io is forbidden: User \"bob\" cannot list resource \"clusterroles\""}),
        "",
    );
    let report = read(&stdout(&review::report(&folder, answers, &["-o", "json"])));
    assert_eq!(report["totals"]["standingByRisk"], json!({"Unknown": 5}));
}

#[test]
fn without_a_server_there_is_one_line_and_no_file() {
    let folder = Folder::new();
    drop(api_server(&folder, vec![]).join().unwrap());
    let output = folder.run(&["report", "--kubeconfig", "kubeconfig", "-f", "report.html"]);
    assert_eq!((status(&output), stdout(&output).as_str()), (2, ""));
    let text = stderr(&output);
    assert!(
        text.contains("cannot reach the API server") && text.lines().count() == 1,
        "{text}"
    );
    assert!(!folder.0.join("report.html").exists());
}

#[rstest]
#[case("report.html", "<!doctype html>")]
#[case("report.csv", "\"record\",")]
#[case("report.json", "{\n  \"apiVersion\": \"stint.dev/report/v1\"")]
#[case("report.sarif", "{\n  \"$schema\"")]
#[case("report.md", "# Access review")]
fn the_ending_of_the_file_names_the_form(#[case] file: &str, #[case] begins: &str) {
    let folder = Folder::new();
    let output = some().report(&folder, &["-f", file]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let text = std::fs::read_to_string(folder.0.join(file)).unwrap();
    assert!(text.starts_with(begins), "{text}");
    let told = stdout(&output);
    assert!(
        told.starts_with(&format!("{file}: 5 grants, 5 standing bindings, sha256:")),
        "{told}"
    );
    let hash = told.trim().rsplit(", ").next().unwrap();
    assert!(
        text.contains(hash) && text.contains(review::CLUSTER),
        "its hash and its cluster are in it"
    );
}

/// The files of a folder, without what the test put there.
fn files(folder: &Folder) -> BTreeSet<String> {
    let files = std::fs::read_dir(&folder.0).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "kubeconfig").collect()
}

#[test]
fn a_file_is_the_old_one_or_the_new_one() {
    let folder = Folder::new();
    folder.file("report.html", "the old one");
    // No more than 8 KiB fit, as on a disk that is full.
    let server = api_server(&folder, review::many(200).answers());
    let program = std::env::current_exe().unwrap();
    let program = program
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("kubectl-stint");
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec '{}' report --kubeconfig kubeconfig -f report.html",
        program.display()
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    server.join().unwrap();
    assert_eq!(status(&output), 2, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("cannot write report.html: File too large"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        std::fs::read_to_string(folder.0.join("report.html")).unwrap(),
        "the old one"
    );
    assert_eq!(
        files(&folder),
        BTreeSet::from(["report.html".to_owned()]),
        "nothing else is left"
    );

    let output = some().report(&folder, &["-f", "nowhere/report.html"]);
    assert_eq!(status(&output), 2);
    assert!(
        stderr(&output).contains("cannot write nowhere/report.html"),
        "{}",
        stderr(&output)
    );
    // A link stays one, and what it leads to is replaced.
    std::os::unix::fs::symlink("report.html", folder.0.join("latest.html")).unwrap();
    let output = some().report(&folder, &["-f", "latest.html"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(
        std::fs::read_to_string(folder.0.join("report.html"))
            .unwrap()
            .starts_with("<!doctype html>")
    );
    assert!(folder.0.join("latest.html").is_symlink());
    let output = some().report(&folder, &["-f", "/dev/null"]);
    assert_eq!(status(&output), 2);
    assert!(
        stderr(&output).contains("it is no regular file"),
        "{}",
        stderr(&output)
    );
    assert!(
        std::fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

#[test]
fn ten_thousand_grants_fit_into_two_megabytes() {
    let text = made(review::many(10_000), "html");
    assert!(text.len() <= 2_000_000, "{} bytes", text.len());
    assert_eq!(html(&text).len(), 12_000);
    eprintln!("10,000 grants and 2,000 bindings: {} bytes", text.len());
}

#[test]
fn the_hash_is_that_of_everything_else() {
    let text = made(some(), "json");
    let mut report = read(&text);
    let said = report["sha256"].as_str().unwrap().to_owned();
    report.as_object_mut().unwrap().remove("sha256");
    let digest = ring::digest::digest(&ring::digest::SHA256, report.to_string().as_bytes());
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(said, format!("sha256:{hex}"));
}

#[test]
fn one_namespace_is_read_by_who_may_read_no_other() {
    let folder = Folder::new();
    let mut answers = some().answers();
    answers.remove(review::WIDE);
    answers.remove(review::CLUSTER_BINDINGS);
    let server = api_server(&folder, answers);
    let output = folder.run(&[
        "report",
        "--kubeconfig",
        "kubeconfig",
        "-n",
        "payments",
        "-o",
        "json",
    ]);
    let asked = server.join().unwrap();
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let within = |call: &&String| call.contains("/namespaces/payments/");
    assert_eq!(asked.iter().filter(within).count(), 4, "{asked:?}");
    assert_eq!(read(&stdout(&output))["namespace"], "payments");
}

/// Names of all fields below a value; keys that are states and risks are none.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        Value::Object(map) => {
            for (name, value) in map {
                found.insert(name.clone());
                if !["states", "liveByRisk", "standingByRisk"].contains(&name.as_str()) {
                    fields(value, found);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_page_of_documentation_describes_every_field_and_its_picture_is_small() {
    let folder = Folder::new();
    let later = earlier(&folder);
    let mut answers = later.answers_for_a_log();
    answers[0] = (
        403,
        json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no"}),
        "",
    );
    let events = [
        event("get deployments.apps payments/billing-api"),
        refused("get pods payments/p"),
    ];
    folder.file("audit.log", log(&events));
    let args = [
        "--baseline",
        "earlier.json",
        "--audit-log",
        "audit.log",
        "-o",
        "json",
    ];
    let report = read(&stdout(&review::report(&folder, answers, &args)));
    let mut found = BTreeSet::new();
    fields(&report, &mut found);
    assert!(
        found.len() > 80
            && ["why", "was", "covered", "manyNames"]
                .iter()
                .all(|f| found.contains(*f)),
        "{found:?}"
    );
    let docs = project().join("docs");
    let page = std::fs::read_to_string(docs.join("report.md")).unwrap();
    for field in found {
        assert!(
            page.contains(&format!("`{field}")),
            "docs/report.md does not describe {field}"
        );
    }
    let picture = std::fs::read(docs.join("images/report.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() <= 200_000);
}
