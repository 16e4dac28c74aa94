//! `kubectl stint suggest` on audit logs in files.

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::sample::select;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Write;
use std::process::Output;
use stint::domain::rules::{Request, Rule, allows};
use stint::domain::usage::proposal::{Options, Proposal, covers, propose};
use stint::domain::usage::request::{Asked, Decision, Seen};
use stint::domain::usage::tally::{Key, Tally};
use support::audit::{UID, event, line, log, refused, with};
use support::plugin::{Folder, rbac, run, status, stderr, stdout, stream};

/// `suggest` of these events, from a file.
fn suggest(events: &[Value], more: &[&str]) -> Output {
    let folder = Folder::new();
    folder.file("audit.log", log(events));
    folder.run(&[&["suggest", "audit.log"], more].concat())
}

fn told(events: &[Value], more: &[&str]) -> Value {
    let output = suggest(events, &[more, &["-o", "json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)))
}

/// What is proposed, a line for each rule: place, rule.
fn proposed(events: &[Value], more: &[&str]) -> Vec<String> {
    let told = told(events, more);
    let accounts = told["accounts"].as_array().unwrap().iter();
    let rights = accounts.flat_map(|account| account["rights"].as_array().unwrap());
    let line = |right: &Value| {
        let rule: Rule = serde_json::from_value(right["rule"].clone()).unwrap();
        format!(
            "{}: {rule}",
            right["namespace"].as_str().unwrap_or("cluster")
        )
    };
    rights.map(line).collect()
}

fn a_day() -> Vec<Value> {
    let mut events = vec![
        event("get configmaps payments/settings"),
        event("get configmaps payments/settings"),
        event("patch deployments.apps payments/billing-api"),
        event("get deployments.apps payments/billing-api"),
        event("create configmaps payments/made"),
        event("list pods payments/"),
        event("get nodes node-1"),
        event("get /metrics"),
        event("get /apis/apps/v1"),
        refused("delete pods payments/billing-api-x"),
    ];
    events[1]["requestReceivedTimestamp"] = "2026-12-01T13:30:00.250000Z".into();
    events
}

#[test]
fn a_table_says_what_was_used_what_was_refused_and_by_what() {
    let output = suggest(&a_day(), &[]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "\
ACCOUNT            IN         STATE    REQUESTS  RIGHT
payments/migrator  (cluster)  used     1         get nodes named node-1
payments/migrator  (cluster)  used     1         get /metrics
payments/migrator  payments   used     1         create configmaps
payments/migrator  payments   used     2         get configmaps named settings
payments/migrator  payments   used     1         list pods
payments/migrator  payments   used     2         get, patch deployments.apps named billing-api
payments/migrator  payments   refused  1         delete pods named billing-api-x

ACCOUNT            BY                         REQUESTS
payments/migrator  RoleBinding payments/work  9
"
    );
    assert_eq!(
        stderr(&output),
        "\
Read 10 events of 1 log, from 2026-12-01T12:00:00Z to 2026-12-01T13:30:00Z.
payments/migrator: not proposed: 1 request for what every account may do, such as discovery; --with-basic adds it
"
    );
}

#[test]
fn the_proposed_objects_pass_lint() {
    let folder = Folder::new();
    folder.file("audit.log", log(&a_day()));
    let output = folder.run(&[
        "suggest",
        "audit.log",
        "-o",
        "yaml",
        "--for",
        "30m",
        "--policy-name",
        "migration",
    ]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "migrator", "namespace": "payments"}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "payments", "labels": {"kubernetes.io/metadata.name": "payments"}}});
    folder
        .file("known.yaml", stream(&[account, namespace]))
        .file("made.yaml", &text);
    let linted = folder.run(&["lint", "--strict", "made.yaml", "--policy", "known.yaml"]);
    assert_eq!(
        status(&linted),
        0,
        "{text}\n{}{}",
        stdout(&linted),
        stderr(&linted)
    );
    assert!(
        stdout(&linted).starts_with("4 objects judged: 4 pass"),
        "{}",
        stdout(&linted)
    );
    for part in [
        "name: migration-cluster",
        "name: migration-payments",
        "kind: ClusterWorkloadAccess",
        "duration: 30m",
        "cluster: true",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[rstest]
#[case::a_create_has_no_name("create configmaps payments/a", "payments: create configmaps")]
#[case::a_subresource_has_one(
    "create pods/eviction payments/p",
    "payments: create pods/eviction named p"
)]
#[case::a_list_has_none("list pods payments/", "payments: list pods")]
#[case::a_collection_has_none("deletecollection pods payments/", "payments: deletecollection pods")]
#[case::another_place("get configmaps search/a", "search: get configmaps named a")]
#[case::of_all_namespaces("list pods -", "cluster: list pods")]
#[case::a_namespace_is_in_itself(
    "get namespaces payments/payments",
    "payments: get namespaces named payments"
)]
#[case::a_path("get /metrics", "cluster: get /metrics")]
fn rules_name_what_the_authorizer_saw(#[case] asked: &str, #[case] expected: &str) {
    assert_eq!(proposed(&[event(asked)], &[]), [expected]);
}

#[test]
fn what_the_api_server_asks_for_beside_is_proposed_too() {
    let applied = with(
        "patch configmaps payments/a",
        &[("/responseStatus/code", json!(201))],
    );
    assert_eq!(
        proposed(&[applied], &[]),
        ["payments: create, patch configmaps named a"]
    );
    assert_eq!(
        proposed(&[event("get pods/exec payments/p")], &[]),
        ["payments: create, get pods/exec named p"]
    );
    let selected = json!("/api/v1/namespaces/payments/pods?fieldSelector=metadata.name%3Dp");
    let one = with("watch pods payments/p", &[("/requestURI", selected)]);
    assert_eq!(proposed(&[one], &[]), ["payments: watch pods named p"]);
}

#[test]
fn nothing_is_proposed_twice_for_the_cluster_and_a_namespace() {
    let events = [
        event("list pods -"),
        event("list pods payments/"),
        event("get pods payments/p"),
    ];
    assert_eq!(
        proposed(&events, &[]),
        ["cluster: list pods", "payments: get pods named p"]
    );
}

#[test]
fn names_are_listed_while_they_are_few() {
    let many: Vec<Value> = (0..11)
        .map(|i| event(&format!("get secrets payments/s-{i}")))
        .collect();
    assert!(proposed(&many[..10], &[])[0].starts_with("payments: get secrets named s-0, "));
    assert_eq!(proposed(&many, &[]), ["payments: get secrets"]);
    assert!(proposed(&many, &["--max-names", "11"])[0].contains(" named s-0, "));
    assert_eq!(
        proposed(&many[..2], &["--max-names", "0"]),
        ["payments: get secrets"]
    );
    assert_eq!(
        proposed(&many[..2], &["--without-names", "secrets"]),
        ["payments: get secrets"]
    );
    let notes = told(&many, &[])["accounts"][0]["notes"].to_string();
    assert!(notes.contains("get secrets, used on 11 names"), "{notes}");
    let notes = |asked: &str| told(&[event(asked)], &[])["accounts"][0]["notes"].to_string();
    assert!(
        notes("get services/proxy payments/https:dash:")
            .contains("used with a name that no rule can hold")
    );
    assert!(
        notes("get pods payments/api-6d4c9b7f5-xk2lp").contains("names of pods look generated")
    );
    let more: Vec<Value> = (0..200)
        .map(|i| event(&format!("get secrets payments/s-{i}")))
        .collect();
    assert_eq!(
        proposed(&more, &["--max-names", "64"]),
        ["payments: get secrets"]
    );
}

#[test]
fn a_request_counts_once_and_for_whom_it_was_made() {
    let stage = |stage: &str| with("watch pods payments/", &[("/stage", json!(stage))]);
    let whole = [
        stage("RequestReceived"),
        stage("ResponseStarted"),
        stage("ResponseComplete"),
    ];
    assert_eq!(told(&whole, &[])["accounts"][0]["allowed"], 1);
    let open = told(&whole[..2], &[]);
    assert_eq!(
        (
            &open["accounts"][0]["allowed"],
            open["accounts"][0]["rights"].as_array().unwrap().len()
        ),
        (&json!(0), 1)
    );
    assert_eq!(told(&[stage("Panic")], &[])["accounts"][0]["allowed"], 1);
    let by_admin = with(
        "get pods payments/p",
        &[
            ("/user/username", json!("admin")),
            (
                "/impersonatedUser",
                json!({"username": "system:serviceaccount:payments:other"}),
            ),
        ],
    );
    assert_eq!(told(&[by_admin], &[])["accounts"][0]["name"], "other");
    let as_admin = with(
        "get pods payments/p",
        &[("/impersonatedUser", json!({"username": "admin"}))],
    );
    let told = told(&[as_admin], &[]);
    assert_eq!(
        (&told["accounts"], &told["log"]["impersonations"]),
        (&json!([]), &json!(1))
    );
}

#[test]
fn what_was_refused_is_asked_for_only_with_the_flag() {
    let events = [
        event("get pods payments/p"),
        refused("delete pods payments/p"),
    ];
    assert_eq!(proposed(&events, &[]), ["payments: get pods named p"]);
    assert_eq!(
        proposed(&events, &["--with-refused"]),
        ["payments: delete, get pods named p"]
    );
    // The API server may refuse for other reasons what the authorizer allowed.
    let conflict = with(
        "patch pods payments/p",
        &[("/responseStatus/code", json!(403))],
    );
    assert_eq!(proposed(&[conflict], &[]), ["payments: patch pods named p"]);
}

#[test]
fn the_order_of_events_and_files_does_not_matter() {
    let mut events = a_day();
    let folder = Folder::new();
    folder.file("a.log", log(&events));
    let whole = folder.run(&["suggest", "a.log", "-o", "json"]);
    events.reverse();
    folder
        .file("b.log", log(&events[..4]))
        .file("c.log", log(&events[4..]));
    let parts = folder.run(&["suggest", "c.log", "b.log", "-o", "json"]);
    let one_log = |output: &Output| stdout(output).replace("\"sources\": 2", "\"sources\": 1");
    assert_eq!(one_log(&parts), one_log(&whole));
}

#[test]
fn accounts_and_times_are_chosen() {
    let at = |asked: &str, at: &str| with(asked, &[("/requestReceivedTimestamp", json!(at))]);
    let of = |user: &str| {
        with(
            "get pods payments/p",
            &[(
                "/user/username",
                json!(format!("system:serviceaccount:{user}")),
            )],
        )
    };
    let events = [
        at("get pods payments/early", "2026-12-01T11:59:59.999999Z"),
        at("get pods payments/noon", "2026-12-01T12:00:00.000000Z"),
        at("get pods payments/late", "2026-12-01T13:00:00.000000Z"),
        of("search:indexer"),
        of("kube-system:job-controller"),
    ];
    let within = [
        "--account",
        "payments/migrator",
        "--since",
        "2026-12-01T12:00:00Z",
        "--until",
        "2026-12-01T13:00:00Z",
    ];
    assert_eq!(
        proposed(&events, &within),
        ["payments: get pods named noon"]
    );
    let names = |more: &[&str]| {
        let told = told(&events, more);
        let accounts = told["accounts"].as_array().unwrap().iter();
        accounts
            .map(|a| {
                format!(
                    "{}/{}",
                    a["namespace"].as_str().unwrap(),
                    a["name"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&[]),
        ["payments/migrator", "search/indexer"],
        "not those of the cluster itself"
    );
    assert_eq!(names(&["-n", "search"]), ["search/indexer"]);
    assert_eq!(
        names(&["-n", "kube-system"]),
        ["kube-system/job-controller"]
    );
    assert_eq!(
        names(&["-n", "search", "--serviceaccount", "indexer"]),
        ["search/indexer"]
    );
    let period = &told(&events, &within)["log"];
    assert_eq!(
        period["first"], "2026-12-01T11:59:59.999999Z",
        "the log covers what it covers"
    );
    for (more, why) in [
        (["--account", "migrator"], "does not say of which namespace"),
        (["--since", "yesterday"], "is neither an RFC 3339 instant"),
        (["--account", "a/b\u{1b}"], "is no name of a ServiceAccount"),
    ] {
        let output = suggest(&events, &more);
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
}

#[test]
fn what_no_policy_can_allow_is_left_out_and_named_with_its_code() {
    let events = [
        event("get pods payments/p"),
        event("create rolebindings.rbac.authorization.k8s.io payments/x"),
    ];
    let output = suggest(&events, &["-o", "yaml"]);
    assert_eq!(status(&output), 1);
    let text = stdout(&output);
    assert!(text.contains("# left out in payments: create rolebindings.rbac.authorization.k8s.io: no policy can allow it [OB-E04]"), "{text}");
    assert!(
        !text.contains("- rolebindings") && text.contains("- pods"),
        "{text}"
    );
    let default = with(
        "get pods payments/p",
        &[(
            "/user/username",
            json!("system:serviceaccount:payments:default"),
        )],
    );
    let output = suggest(&[default], &["-o", "yaml"]);
    assert_eq!(status(&output), 1);
    assert!(
        stdout(&output).contains("[WA-ACCOUNT-DEFAULT]"),
        "{}",
        stdout(&output)
    );
    assert!(!stdout(&output).contains("kind:"), "{}", stdout(&output));
}

#[test]
fn what_a_policy_must_accept_by_name_is_accepted_and_told() {
    let output = suggest(&[event("list secrets payments/")], &["-o", "yaml"]);
    assert_eq!(status(&output), 0);
    assert!(
        stdout(&output).contains("accepts OB-S01") && stdout(&output).contains("- OB-S01"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn an_account_of_another_namespace_is_named_with_its_own() {
    let output = suggest(&[event("get configmaps search/a")], &["-o", "yaml"]);
    assert_eq!(status(&output), 0, "{}", stdout(&output));
    let text = stdout(&output);
    assert!(
        text.contains("namespace: search") && text.contains("namespaces:\n    - payments"),
        "{text}"
    );
}

fn held() -> String {
    let subjects = json!([{"kind": "ServiceAccount", "name": "migrator", "namespace": "payments"}]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["billing-api"], "verbs": ["patch"]}
    ]);
    let reference = |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let named = |mut object: Value, name: &str| {
        object["metadata"]["name"] = name.into();
        object
    };
    let grant = json!({"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": "migrate-42", "namespace": "payments", "uid": "807ca8de-1111-2222-3333-444455556666"}});
    stream(&[
        named(rbac("Role", json!({"rules": rules})), "work"),
        named(
            rbac(
                "RoleBinding",
                json!({"subjects": subjects, "roleRef": reference("Role", "work")}),
            ),
            "work",
        ),
        named(
            rbac(
                "ClusterRole",
                json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
            ),
            "all",
        ),
        named(
            rbac(
                "ClusterRoleBinding",
                json!({"subjects": subjects, "roleRef": reference("ClusterRole", "all")}),
            ),
            "spare",
        ),
        grant,
    ])
}

#[test]
fn each_use_counts_for_the_binding_that_allowed_it() {
    let by = |asked: &str, binding: &str| {
        let reason = format!(
            "RBAC: allowed by {binding} of Role \"r\" to ServiceAccount \"migrator/payments\""
        );
        with(
            asked,
            &[("/annotations/authorization.k8s.io~1reason", json!(reason))],
        )
    };
    let events = [
        event("get configmaps payments/a"),
        event("get configmaps payments/a"),
        event("patch deployments.apps payments/billing-api"),
        by(
            "get pods payments/p",
            "RoleBinding \"stint-migrate-42-807ca8de/payments\"",
        ),
    ];
    let folder = Folder::new();
    folder
        .file("audit.log", log(&events))
        .file("rbac.yaml", held());
    let output = folder.run(&["suggest", "audit.log", "--rbac", "rbac.yaml"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let table = stdout(&output).split_once("\n\n").unwrap().1.to_owned();
    assert_eq!(
        table,
        "\
ACCOUNT            BY                                         REQUESTS  RIGHTS  UNUSED
payments/migrator  RoleBinding payments/work                  3         5       3
payments/migrator  WorkloadAccess payments/migrate-42 (gone)  1         -       -
payments/migrator  ClusterRoleBinding spare                   0         1       1
"
    );
    let wide = folder.run(&["suggest", "audit.log", "--rbac", "rbac.yaml", "-o", "wide"]);
    assert!(
        stdout(&wide).contains("get, list secrets; list configmaps"),
        "{}",
        stdout(&wide)
    );
    let told = folder.run(&["suggest", "audit.log", "--rbac", "rbac.yaml", "-o", "json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        told["accounts"][0]["grants"][0]["rules"][0]["used"],
        json!([{"verb": "get", "on": "configmaps", "requests": 2}])
    );
}

#[test]
fn a_log_of_another_cluster_than_the_roles_is_an_error() {
    let account = |uid: &str| {
        format!(
            "{}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{namespace: payments, name: migrator, uid: {uid}, creationTimestamp: 2026-10-01T00:00:00Z}}\n",
            held()
        )
    };
    let folder = Folder::new();
    folder
        .file("audit.log", log(&[event("get configmaps payments/a")]))
        .file("same.yaml", account(UID))
        .file("other.yaml", account("other"));
    let suggest = |rbac: &str| folder.run(&["suggest", "audit.log", "--rbac", rbac]);
    let same = suggest("same.yaml");
    assert_eq!(status(&same), 0, "{}", stderr(&same));
    assert!(!stderr(&same).contains("UID"), "{}", stderr(&same));
    let other = suggest("other.yaml");
    assert_eq!((status(&other), stdout(&other).as_str()), (2, ""));
    let why = format!(
        "audit.log:1: is of another cluster: 'system:serviceaccount:payments:migrator' has the UID {UID} there, and other here since 2026-10-01T00:00:00Z; name roles of the same cluster, read after the log was written; --any-cluster reads it all the same"
    );
    assert!(stderr(&other).contains(&why), "{}", stderr(&other));
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

#[test]
fn logs_may_be_compressed_listed_indented_and_on_stdin() {
    let events = a_day();
    let text = log(&events);
    let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events});
    let whole = proposed(&events, &[]);
    let packed = [gzip(&text[..text.len() / 2]), gzip(&text[text.len() / 2..])].concat();
    let indented: String = events.iter().map(|e| format!("{e:#}\n")).collect();
    let forms: [(&str, Vec<u8>); 5] = [
        ("plain", text.clone().into_bytes()),
        ("two members", packed),
        ("a list", list.to_string().into_bytes()),
        ("an indented list", format!("{list:#}\n").into_bytes()),
        ("indented", indented.into_bytes()),
    ];
    let folder = Folder::new();
    let rules = |output: &Output| {
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", stderr(output)));
        told["accounts"][0]["rights"].as_array().unwrap().len()
    };
    for (form, bytes) in forms {
        folder.file("audit.log", bytes);
        let output = folder.run(&["suggest", "audit.log", "-o", "json"]);
        assert_eq!(
            (status(&output), rules(&output)),
            (0, whole.len()),
            "{form}: {}",
            stderr(&output)
        );
    }
    let output = run(&folder.0, &["suggest", "-", "-o", "json"], &text);
    assert_eq!(rules(&output), whole.len());
}

/// A log with a line of `x` bytes, or another text, between two events.
fn around(text: &str) -> Vec<u8> {
    format!(
        "{}{text}\n{}",
        line(&event("get pods payments/a")),
        line(&event("get pods payments/b"))
    )
    .into_bytes()
}

#[rstest]
#[case::half_a_line(around(&line(&event("get pods payments/x"))[..200]), "audit.log:2: is half-written")]
#[case::no_json(around("Dec 01 audit"), "audit.log:2: cannot be read: expected value")]
#[case::another_object(
    around(r#"{"kind":"Pod","apiVersion":"v1"}"#),
    "audit.log:2: is no event of audit.k8s.io/v1 but kind 'Pod' of 'v1'"
)]
#[case::an_old_version(
    around(r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1beta1"}"#),
    "audit.log:2: is of audit.k8s.io/v1beta1"
)]
#[case::other_types(
    around(r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","user":"system:serviceaccount:"}"#),
    "audit.log:2: cannot be read: invalid type"
)]
#[case::a_long_line(around(&"x".repeat(100 << 20)), "audit.log:2: is longer than 16 MiB")]
#[case::binary(around("\u{0}\u{1b}[2J\u{7}"), "audit.log:2: cannot be read")]
#[case::deep(around(&"[".repeat(1 << 20)), "audit.log:2: cannot be read")]
fn damage_is_counted_and_told_and_fails_only_when_that_is_asked_for(
    #[case] text: Vec<u8>,
    #[case] expected: &str,
) {
    let folder = Folder::new();
    folder.file("audit.log", text);
    let output = folder.run(&["suggest", "audit.log"]);
    let told = stderr(&output);
    assert_eq!(status(&output), 0, "{told}");
    assert!(told.contains(expected), "{told}");
    assert!(
        stdout(&output).contains("get pods named a, b"),
        "{}",
        stdout(&output)
    );
    assert!(
        !told.chars().any(|c| c.is_control() && c != '\n'),
        "{told:?}"
    );
    let strict = folder.run(&["suggest", "audit.log", "--strict"]);
    assert_eq!((status(&strict), stdout(&strict).as_str()), (2, ""));
}

#[test]
fn the_end_of_a_log_that_is_being_written_is_no_damage() {
    let folder = Folder::new();
    let last = line(&event("get pods payments/b"));
    folder.file(
        "audit.log",
        line(&event("get pods payments/a")) + &last[..last.len() - 40],
    );
    let output = folder.run(&["suggest", "audit.log", "--strict"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("audit.log: the last event is half-written"),
        "{}",
        stderr(&output)
    );
    assert!(
        stdout(&output).contains("get pods named a\n"),
        "{}",
        stdout(&output)
    );
    folder.file(
        "audit.log",
        line(&event("get pods payments/a")) + last.trim_end(),
    );
    assert!(
        stdout(&folder.run(&["suggest", "audit.log"])).contains("named a, b"),
        "only the line break is missing"
    );
}

#[rstest]
#[case::text(b"one\ntwo\n".to_vec(), "audit.log: not an audit log of Kubernetes: no line is an event of audit.k8s.io/v1; audit.log:1: cannot be read")]
#[case::a_manifest(b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}\n".to_vec(), "kind 'Pod' of 'v1'")]
#[case::old(b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1alpha1\"}\n".to_vec(), "only audit.k8s.io/v1 is read")]
#[case::binary(vec![0, 159, 146, 150, 10, 27, 91, 50, 74], "not an audit log")]
#[case::many_lines(b"x\n".repeat(3_000_000), "not an audit log")]
#[case::empty(Vec::new(), "no event in what was named")]
#[case::cut_off(gzip(&log(&vec![event("get pods payments/a"); 200]))[..200].to_vec(), "the gzip file ends too early")]
#[case::broken([gzip("x"), b"garbage that is long enough".to_vec()].concat(), "audit.log: line 1: the gzip file is damaged")]
#[case::zstd(vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0], "is compressed with zstd")]
#[case::endless_object(b"{\n".iter().chain(&b" \"x\": 1,\n".repeat(3 << 20)).copied().collect(), "a document on several lines is longer than 16 MiB")]
fn what_is_no_audit_log_gives_an_error_and_no_output(
    #[case] text: Vec<u8>,
    #[case] expected: &str,
) {
    let folder = Folder::new();
    folder
        .file("good.log", log(&a_day()))
        .file("audit.log", &text);
    let output = folder.run(&["suggest", "audit.log", "-o", "yaml"]);
    assert_eq!(
        (status(&output), stdout(&output).as_str()),
        (2, ""),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    assert!(!stderr(&output).chars().any(|c| c.is_control() && c != '\n'));
    // An empty file beside a good one is a log that was just rotated.
    let both = folder.run(&["suggest", "good.log", "audit.log", "-o", "yaml"]);
    assert_eq!(
        status(&both),
        if text.is_empty() { 0 } else { 2 },
        "{}",
        stderr(&both)
    );
    assert_eq!(stdout(&both).is_empty(), !text.is_empty());
}

#[test]
fn folders_and_files_that_are_not_there_are_named() {
    let folder = Folder::new();
    folder.file("logs/audit.log", log(&a_day()));
    for (args, expected) in [
        (
            ["suggest", "logs"],
            "logs: is a folder; name the files in it",
        ),
        (["suggest", "none.log"], "none.log: No such file"),
    ] {
        let output = folder.run(&args);
        assert_eq!((status(&output), stdout(&output).as_str()), (2, ""));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let output = folder.run(&["suggest", "-", "--rbac", "-"]);
    assert!(
        stderr(&output).contains("stdin can be read only once"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn nothing_in_a_log_steers_the_terminal() {
    let hostile = "\u{1b}[2J\u{202e}";
    let events = [
        with(
            "get pods payments/p",
            &[("/objectRef/name", json!(hostile))],
        ),
        with(
            "get pods payments/p",
            &[(
                "/user/username",
                json!(format!("system:serviceaccount:payments:{hostile}")),
            )],
        ),
        with("get pods payments/p", &[("/verb", json!(hostile))]),
        with("get /x", &[("/requestURI", json!("/x%1b[2J"))]),
        with(
            "get pods payments/p",
            &[(
                "/annotations",
                json!({"authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": format!("RBAC: allowed by RoleBinding \"{hostile}/payments\" of")}),
            )],
        ),
    ];
    for form in ["table", "wide", "yaml", "json"] {
        let output = suggest(&events, &["-o", form]);
        let text = stdout(&output) + &stderr(&output);
        assert!(
            !text
                .chars()
                .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{form}: {text:?}"
        );
    }
    assert_eq!(told(&events, &[])["log"]["unreadable"], 4);
}

#[derive(Clone, Debug)]
struct Use {
    place: &'static str,
    group: &'static str,
    target: &'static str,
    verb: &'static str,
    name: &'static str,
}

const TARGETS: [(&str, &str); 5] = [
    ("", "configmaps"),
    ("", "pods/log"),
    ("apps", "deployments"),
    ("apps", "deployments/scale"),
    ("", "/metrics"),
];
const VERBS: [&str; 4] = ["get", "list", "patch", "delete"];
const NAMES: [&str; 4] = ["", "a", "b", "c"];
const PLACES: [&str; 3] = ["", "payments", "search"];

impl Use {
    fn key(&self) -> Key<'static> {
        Key {
            place: self.place,
            group: self.group,
            target: self.target,
            verb: self.verb,
        }
    }
}

fn uses() -> impl Strategy<Value = Vec<Use>> {
    let one = (
        select(&PLACES[..]),
        select(&TARGETS[..]),
        select(&VERBS[..]),
        select(&NAMES[..]),
    );
    let one = one.prop_map(
        |(place, (group, target), verb, name)| match target.starts_with('/') {
            true => Use {
                place: "",
                group,
                target,
                verb,
                name: "",
            },
            false => Use {
                place,
                group,
                target,
                verb,
                name,
            },
        },
    );
    proptest::collection::vec(one, 1..24)
}

fn tally(uses: &[Use]) -> Tally {
    let mut tally = Tally::default();
    for one in uses {
        let (resource, subresource) = one.target.split_once('/').unwrap_or((one.target, ""));
        let asked = match one.target.starts_with('/') {
            true => Asked::Path {
                verb: one.verb,
                path: one.target.into(),
            },
            false => Asked::Resource {
                verb: one.verb,
                group: one.group,
                resource,
                subresource,
                name: one.name,
            },
        };
        assert!(tally.add(&Seen {
            namespace: "payments",
            name: "migrator",
            place: one.place,
            asked,
            also: "",
            decision: Decision::Allowed,
            reason: "",
            over: true,
            at: "",
        }));
    }
    tally
}

fn proposal(uses: &[Use], max_names: usize) -> Proposal {
    let options = Options {
        max_names,
        without_names: Vec::new(),
        basic: false,
        refused: false,
    };
    let tally = tally(uses);
    propose(tally.accounts().next().unwrap().1, &options)
}

/// Every proposal that lacks one verb, group, resource, name or path of this one.
fn smaller(proposal: &Proposal) -> Vec<Proposal> {
    let lists: [fn(&mut Rule) -> &mut Vec<String>; 5] = [
        |rule| &mut rule.verbs,
        |rule| &mut rule.api_groups,
        |rule| &mut rule.resources,
        |rule| &mut rule.resource_names,
        |rule| &mut rule.non_resource_urls,
    ];
    let mut out = Vec::new();
    for (place, rules) in &proposal.places {
        for (index, rule) in rules.iter().enumerate() {
            for list in lists {
                let length = list(&mut rule.clone()).len();
                for element in 0..length {
                    let mut places = proposal.places.clone();
                    let rules = places.get_mut(place).unwrap();
                    list(&mut rules[index]).remove(element);
                    // No names at all would be all of them.
                    if length == 1 {
                        rules.remove(index);
                    }
                    out.push(Proposal {
                        places,
                        ..Proposal::default()
                    });
                }
            }
        }
    }
    out
}

fn every_request() -> Vec<Use> {
    let mut out = Vec::new();
    for place in PLACES {
        for (group, target) in TARGETS {
            for verb in VERBS {
                out.extend(NAMES.map(|name| Use {
                    place,
                    group,
                    target,
                    verb,
                    name,
                }));
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn what_was_used_is_covered_and_nothing_of_it_can_be_left_out(uses in uses(), max_names in 0usize..4) {
        let whole = proposal(&uses, max_names);
        let all_covered = |p: &Proposal| uses.iter().all(|one| covers(p, &one.key(), one.name));
        prop_assert!(all_covered(&whole), "{whole:?}");
        for less in smaller(&whole) {
            prop_assert!(!all_covered(&less), "{whole:?}\n{less:?}");
        }
    }

    #[test]
    fn nothing_is_covered_that_was_not_used(uses in uses()) {
        let whole = proposal(&uses, 64);
        for asked in every_request() {
            if covers(&whole, &asked.key(), asked.name) {
                let reaches = |one: &Use| {
                    let key = Key { place: one.place, ..asked.key() } == one.key() && (one.place.is_empty() || one.place == asked.place);
                    key && (one.name.is_empty() || one.name == asked.name)
                };
                prop_assert!(uses.iter().any(reaches), "{asked:?}: {whole:?}");
            }
        }
    }
}

#[test]
fn the_model_is_that_of_the_authorizer() {
    let whole = proposal(
        &[Use {
            place: "payments",
            group: "",
            target: "configmaps",
            verb: "get",
            name: "a",
        }],
        10,
    );
    let rule = &whole.places["payments"][0];
    let asked = |name| Request::Resource {
        verb: "get",
        group: "",
        resource: "configmaps",
        subresource: "",
        name,
    };
    assert!(allows(rule, &asked("a")) && !allows(rule, &asked("b")) && !allows(rule, &asked("")));
}
