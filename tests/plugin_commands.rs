//! `kubectl stint` commands that ask a cluster, against a server that answers like an API server.

use rstest::rstest;
use serde_json::{Value, json};
use support::command::{COMMANDS, words};
use support::plugin::*;
use support::project;
use support::{audit, case};

/// An item of a list, as the API server sends it: without its kind.
fn item(name: &str, reason: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "payments", "uid": format!("uid-{name}"),
                     "creationTimestamp": "2026-12-01T12:00:00Z", "managedFields": [{"manager": "m"}]},
        "spec": {"serviceAccountRef": {"name": "migrator"},
                 "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}],
                 "duration": "30m", "reason": reason},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Revoked", "message": "m",
                                   "lastTransitionTime": "2026-12-01T12:00:00Z"}]}
    })
}

fn page(items: Vec<Value>, more: &str) -> Value {
    json!({"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccessList",
           "metadata": {"resourceVersion": "7", "continue": more}, "items": items})
}

fn failure(code: u16, message: &str) -> (u16, Value, &'static str) {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
                        "reason": "Forbidden", "message": message});
    (code, status, "")
}

fn ask(folder: &Folder, args: &[&str]) -> (i32, String, String) {
    let mut all = args.to_vec();
    all.extend(["--kubeconfig", "kubeconfig"]);
    let output = folder.run(&all);
    (status(&output), stdout(&output), stderr(&output))
}

/// An event of a watch, of which this server sends one to an answer.
fn event(kind: &str, object: &Value) -> (u16, Value, &'static str) {
    let mut object = object.clone();
    object["apiVersion"] = "stint.dev/v1alpha1".into();
    object["kind"] = "WorkloadAccess".into();
    object["metadata"]["resourceVersion"] = "8".into();
    (200, json!({"type": kind, "object": object}), "")
}

/// The same request as it gives rights.
fn at_work(name: &str) -> Value {
    let mut object = item(name, "r");
    object["status"]["conditions"][0]["reason"] = "Active".into();
    object["status"]["notAfter"] = "2036-12-01T12:00:00Z".into();
    object
}

#[test]
fn a_watch_goes_on_from_an_empty_list_to_what_is_deleted() {
    let folder = Folder::new();
    let name = "migrate-the-billing-tables-42";
    let answers = vec![
        (200, page(vec![], ""), ""),
        event("ADDED", &at_work(name)),
        event("MODIFIED", &item(name, "r")),
        event("DELETED", &item(name, "r")),
        failure(403, "no"),
    ];
    for (more, states) in [
        (&[][..], vec!["Active", "Revoked", "Deleted"]),
        // That it no longer is what was asked for is told, too, and once.
        (&["--active"], vec!["Active", "Revoked"]),
    ] {
        let server = api_server(&folder, answers.clone());
        let args = [&["list", "--watch"], more].concat();
        let (status, out, err) = ask(&folder, &args);
        server.join().unwrap();
        assert_eq!(status, 2, "the server says no in the end: {err}");
        let mut lines = out.lines();
        assert!(lines.next().unwrap().starts_with("NAME"), "{out}");
        let shown: Vec<Vec<&str>> = lines.map(|l| l.split_whitespace().collect()).collect();
        let expected: Vec<[&str; 2]> = states.iter().map(|state| [name, *state]).collect();
        let shown: Vec<&[&str]> = shown.iter().map(|row| &row[..2]).collect();
        assert_eq!(shown, expected, "nothing is cut");
    }
}

#[test]
fn a_watch_that_is_too_old_is_begun_anew() {
    let folder = Folder::new();
    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                      "reason": "Expired", "message": "too old resource version"}});
    let server = api_server(
        &folder,
        vec![
            (200, page(vec![], ""), ""),
            (200, gone, ""),
            (200, page(vec![item("a", "r")], ""), ""),
            failure(403, "no"),
        ],
    );
    let (_, out, err) = ask(&folder, &["list", "--watch", "--no-headers"]);
    server.join().unwrap();
    assert!(out.starts_with("a "), "{out}{err}");
}

#[test]
fn a_list_is_read_page_by_page_and_an_old_one_anew() {
    let folder = Folder::new();
    let first = page(vec![item("a", "one")], "token-1");
    let expired = failure(410, "The provided continue parameter is too old");
    let whole = page(vec![item("a", "one"), item("b", "two")], "");
    let server = api_server(&folder, vec![(200, first, ""), expired, (200, whole, "")]);
    let (status, out, err) = ask(&folder, &["list", "-l", "team=x"]);
    let asked = server.join().unwrap();
    assert_eq!(status, 0, "{err}");
    let start = "GET /apis/stint.dev/v1alpha1/namespaces/payments/workloadaccesses?";
    assert!(
        asked[0].starts_with(start) && asked[0].contains("limit=500"),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("labelSelector=team%3Dx"), "{}", asked[0]);
    assert!(asked[1].contains("continue=token-1"), "{}", asked[1]);
    assert!(!asked[2].contains("limit="), "{}", asked[2]);
    assert_eq!(
        out,
        "NAME  STATE    ACCOUNT   RISK  REMAINING  REASON\n\
         a     Revoked  migrator  -     -          one\n\
         b     Revoked  migrator  -     -          two\n"
    );
}

#[rstest]
#[case::table(&[])]
#[case::wide(&["-o", "wide"])]
#[case::json(&["-o", "json"])]
#[case::yaml(&["-o", "yaml"])]
fn nothing_that_somebody_wrote_reaches_the_terminal_as_a_command(#[case] form: &[&str]) {
    let folder = Folder::new();
    let hostile = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}y";
    let server = api_server(&folder, vec![(200, page(vec![item("a", hostile)], ""), "")]);
    let mut args = vec!["list"];
    args.extend(form);
    let (status, out, err) = ask(&folder, &args);
    server.join().unwrap();
    assert_eq!(status, 0, "{err}");
    assert!(out.contains("owned"), "{out}");
    let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!out.contains(steers), "{out:?}");
}

#[test]
fn programs_get_the_objects_with_their_kind_and_names_fit_other_commands() {
    let folder = Folder::new();
    let answer = || vec![(200, page(vec![item("a", "one")], ""), "")];
    let server = api_server(&folder, answer());
    let (_, out, _) = ask(&folder, &["list", "-o", "json"]);
    server.join().unwrap();
    let list: Value = serde_json::from_str(&out).unwrap();
    let object = &list["items"][0];
    assert_eq!(
        (&list["kind"], &object["kind"]),
        (&json!("List"), &json!("WorkloadAccess"))
    );
    assert_eq!(object["apiVersion"], "stint.dev/v1alpha1");
    assert!(object["metadata"].get("managedFields").is_none());
    let server = api_server(&folder, answer());
    let (_, out, _) = ask(&folder, &["list", "-o", "name"]);
    server.join().unwrap();
    assert_eq!(out, "workloadaccess.stint.dev/a\n");
    let server = api_server(&folder, answer());
    let (_, out, _) = ask(&folder, &["list", "--no-headers"]);
    server.join().unwrap();
    assert!(out.starts_with("a  "), "{out}");
    let server = api_server(&folder, answer());
    let (status, out, err) = ask(&folder, &["list", "--active"]);
    server.join().unwrap();
    assert_eq!((status, out.as_str()), (0, ""));
    assert_eq!(err, "No requests found in namespace 'payments'.\n");
}

#[rstest]
#[case::rights(
    failure(
        403,
        "workloadaccesses.stint.dev is forbidden: User \"bob\" cannot list resource \"workloadaccesses\" in API group \"stint.dev\" in the namespace \"payments\""
    ),
    "'bob' may not list workloadaccesses.stint.dev in namespace 'payments'; ask for the ClusterRole stint-view there"
)]
#[case::not_installed(
    failure(404, "the server could not find the requested resource"),
    "this cluster has no workloadaccesses.stint.dev: Stint is not installed in it, or in another version; check the context (--context)"
)]
#[case::credentials(
    failure(401, "Unauthorized"),
    "does not accept the credentials of the context; log in again"
)]
#[case::broken(
    failure(500, "etcd is gone"),
    "list workloadaccesses.stint.dev in namespace 'payments': the API server answers 500: etcd is gone"
)]
fn an_error_is_one_line_that_says_what_to_do(
    #[case] answer: (u16, Value, &'static str),
    #[case] text: &str,
) {
    let folder = Folder::new();
    let server = api_server(&folder, vec![answer]);
    let (status, out, err) = ask(&folder, &["list"]);
    server.join().unwrap();
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains(text), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn a_server_that_is_not_there_and_a_context_that_is_not_are_named() {
    let folder = Folder::new();
    drop(api_server(&folder, vec![]).join().unwrap());
    let (status, _, err) = ask(&folder, &["list"]);
    assert_eq!(status, 2);
    assert!(
        err.contains("cannot reach the API server http://127.0.0.1:"),
        "{err}"
    );
    assert!(
        err.contains("Connection refused") && err.contains("--context"),
        "{err}"
    );
    let (status, _, err) = ask(&folder, &["list", "--context", "prod"]);
    assert_eq!(status, 2);
    assert_eq!(
        err,
        "kubectl-stint: the kubeconfig has no context 'prod'; it has c; choose one with --context\n"
    );
    let output = folder.run(&["list", "--kubeconfig", "nowhere"]);
    assert_eq!(self::status(&output), 2);
    assert!(
        stderr(&output).contains("the kubeconfig nowhere cannot be read"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_request_that_is_not_there_is_named_and_a_name_leads_nowhere_else() {
    let folder = Folder::new();
    let missing = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound",
                         "code": 404, "message": "workloadaccesses.stint.dev \"x\" not found"});
    let server = api_server(&folder, vec![(404, missing, "")]);
    let (status, _, err) = ask(&folder, &["explain", "x"]);
    let asked = server.join().unwrap();
    assert_eq!(status, 2);
    assert!(
        asked[0]
            .starts_with("GET /apis/stint.dev/v1alpha1/namespaces/payments/workloadaccesses/x "),
        "{}",
        asked[0]
    );
    assert!(
        err.contains("there is no workloadaccesses.stint.dev 'x' in namespace 'payments'"),
        "{err}"
    );
    for name in ["../../x", "a/b", "..", "a?b", ""] {
        let (status, _, err) = ask(&folder, &["explain", name]);
        assert_eq!(status, 2, "{name}");
        assert!(err.contains("is no name of a WorkloadAccess"), "{err}");
    }
}

#[test]
fn a_user_can_be_impersonated() {
    let folder = Folder::new();
    let server = api_server(&folder, vec![(200, page(vec![], ""), "")]);
    let (status, _, _) = ask(&folder, &["list", "--as", "jane", "--as-group", "devs"]);
    let asked = server.join().unwrap();
    assert_eq!(status, 0);
    let head = asked[0].to_ascii_lowercase();
    assert!(
        head.contains("impersonate-user: jane") && head.contains("impersonate-group: devs"),
        "{head}"
    );
}

#[rstest]
fn each_command_helps_with_examples(
    #[values(
        "list",
        "explain",
        "request",
        "extend",
        "revoke",
        "approve",
        "deny",
        "review",
        "can",
        "who-can",
        "exec",
        "lockdown",
        "unlock",
        "report",
        "suggest",
        "adopt",
        "lint",
        "codes",
        "completion"
    )]
    command: &str,
) {
    let folder = Folder::new();
    let output = folder.run(&[command, "--help"]);
    assert_eq!(status(&output), 0);
    let text = stdout(&output);
    assert!(
        text.contains("Examples:") && text.contains(&format!("kubectl stint {command}")),
        "{text}"
    );
}

#[test]
fn help_alone_has_examples_and_the_exit_statuses() {
    let output = Folder::new().run(&["--help"]);
    assert_eq!(status(&output), 0);
    let text = stdout(&output);
    let (_, text) = text.split_once("\nExamples:\n").unwrap();
    for command in ["request", "explain", "lint"] {
        assert!(text.contains(&format!("\n  kubectl stint {command} ")));
    }
    assert!(text.contains("\nExit status: 0 done"), "{text}");
}

#[test]
fn an_error_is_taken_from_a_pipe_whole_or_not_at_all() {
    let args = [
        "request",
        "look",
        "--from-error",
        "-",
        "--for",
        "10m",
        "--reason",
        "look around",
    ];
    let refused = |verb: &str| {
        format!(
            "Error from server (Forbidden): configmaps is forbidden: User \"system:serviceaccount:payments:migrator\" cannot {verb} \
             resource \"configmaps\" in API group \"\" in the namespace \"payments\"\n"
        )
    };
    let folder = Folder::new();
    let short = refused("list") + &refused("watch");
    let output = run(&folder.0, &args, &short);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("namespace: payments"), "{text}");
    assert!(text.contains("list") && text.contains("watch"), "{text}");

    // The second of them begins behind the first MiB.
    let long = refused("list") + &"progress\n".repeat(1 << 17) + &refused("watch");
    let output = run(&folder.0, &args, &long);
    assert_eq!((status(&output), stdout(&output)), (2, String::new()));
    let text = stderr(&output);
    assert!(
        text.contains("stdin is larger than 1 MiB; pass on the lines of the error alone"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_request_is_printed_without_any_cluster() {
    let folder = Folder::new();
    let args = [
        "request",
        "m-1",
        "--account",
        "migrator",
        "--verb",
        "get",
        "--resource",
        "deployments",
        "--for",
        "30m",
        "--reason",
        "a: \"b\"\u{1b}[2J",
        "--kubeconfig",
        "nowhere",
    ];
    let output = folder.run(&args);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n'),
        "{text:?}"
    );
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(read["spec"]["reason"], "a: \"b\"\u{1b}[2J");
    assert_eq!(read["spec"]["rules"][0]["apiGroups"], json!(["apps"]));
    // What it prints is judged as it is.
    let (_, judged) = lint_text(&text.replace("\\u001b[2J", ""), &[]);
    assert!(
        judged.contains("1 object judged") && !judged.contains("WA-DECODE"),
        "{judged}"
    );
}

#[rstest]
#[case::lockdown(&["lockdown", "a"])]
#[case::unlock(&["unlock", "a"])]
fn without_a_terminal_nothing_is_confirmed(#[case] args: &[&str]) {
    let folder = Folder::new();
    let server = api_server(&folder, vec![]);
    let (status, out, err) = ask(&folder, args);
    server.join().unwrap();
    assert_eq!((status, out.as_str()), (2, ""));
    assert_eq!(
        err,
        "kubectl-stint: nobody is there to confirm this; say --yes\n"
    );
}

#[test]
fn a_lockdown_goes_on_where_one_policy_cannot_be_suspended() {
    let folder = Folder::new();
    let policies = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
        "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]});
    let done = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x"}});
    let no = failure(
        403,
        "accesspolicies.stint.dev \"a\" is forbidden: User \"bob\" cannot patch resource \"accesspolicies\" in API group \"stint.dev\" at the cluster scope",
    );
    let server = api_server(&folder, vec![(200, policies, ""), no, (200, done, "")]);
    let (status, out, err) = ask(&folder, &["lockdown", "--all", "--yes"]);
    let asked = server.join().unwrap();
    assert_eq!(status, 2, "{err}");
    assert!(
        out.contains("is suspended") && out.lines().count() == 1,
        "{out}"
    );
    assert!(
        err.contains("'bob' may not patch accesspolicies.stint.dev"),
        "{err}"
    );
    for call in &asked[1..] {
        assert!(
            call.starts_with("PATCH /apis/stint.dev/v1alpha1/accesspolicies/"),
            "{call}"
        );
        assert!(call.ends_with(r#"{"spec":{"suspended":true}}"#), "{call}");
    }
}

#[rstest]
#[case::bash("bash", "complete -F")]
#[case::zsh("zsh", "#compdef kubectl-stint")]
#[case::fish("fish", "complete -c kubectl-stint")]
fn each_shell_completes(#[case] shell: &str, #[case] text: &str) {
    let folder = Folder::new();
    let output = folder.run(&["completion", shell]);
    assert_eq!(status(&output), 0);
    let script = stdout(&output);
    assert!(
        script.contains(text) && script.contains("who-can"),
        "{script}"
    );
    // A reader that has enough is no error.
    let command = format!("kubectl-stint completion {shell} | head -c 1");
    let path = std::env::current_exe().unwrap();
    let folder = path
        .parent()
        .and_then(|p| p.parent())
        .unwrap()
        .display()
        .to_string();
    let piped = std::process::Command::new("sh")
        .args(["-c", &command])
        .env("PATH", format!("{folder}:/usr/bin:/bin"))
        .output()
        .unwrap();
    assert!(stderr(&piped).is_empty(), "{}", stderr(&piped));
}

#[test]
fn kubectl_is_told_the_names_that_fit() {
    let folder = Folder::new();
    let server = api_server(
        &folder,
        vec![(
            200,
            page(vec![item("migrate-42", "r"), item("other", "r")], ""),
            "",
        )],
    );
    let output = folder.run(&[
        "__complete",
        "explain",
        "--kubeconfig",
        "kubeconfig",
        "-n",
        "payments",
        "mi",
    ]);
    let asked = server.join().unwrap();
    assert!(
        asked[0].contains("/namespaces/payments/workloadaccesses?"),
        "{}",
        asked[0]
    );
    assert_eq!(
        (status(&output), stdout(&output).as_str()),
        (0, "migrate-42\n:4\n")
    );
    // Nobody reads errors between two keys.
    let output = folder.run(&["__complete", "explain", "--kubeconfig", "nowhere", ""]);
    assert_eq!(
        (
            status(&output),
            stdout(&output).as_str(),
            stderr(&output).as_str()
        ),
        (0, ":4\n", "")
    );
}

#[test]
fn every_command_has_its_place_on_the_pages() {
    let folder = Folder::new();
    let help = stdout(&folder.run(&["--help"]));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() > 10, "{help}");
    let page = std::fs::read_to_string(project().join("docs/kubectl.md")).unwrap();
    let table: String = page
        .lines()
        .filter(|line| line.starts_with("| ["))
        .collect();
    for name in names {
        assert!(
            table.contains(&format!("`{name}`")),
            "{name} is not in the table of tasks"
        );
    }
    // Tests that the page names exist.
    let commands = std::fs::read_to_string(project().join("tests/cluster_commands.rs")).unwrap();
    let named: Vec<&str> = page
        .split("cluster_commands.rs::")
        .skip(1)
        .filter_map(|rest| rest.split('`').next())
        .collect();
    assert!(!named.is_empty());
    for test in named {
        assert!(commands.contains(&format!("fn {test}(")), "{test}");
    }
}

/// Every flag of the page is one of the command that stands before it.
#[test]
fn the_examples_of_the_page_are_understood() {
    let folder = Folder::new();
    let page = std::fs::read_to_string(project().join("docs/kubectl.md")).unwrap();
    let lines = page.replace("\\\n", " ");
    let examples = lines.lines().filter_map(|line| {
        line.split_once("kubectl stint ")
            .filter(|_| line.contains("$ "))
    });
    let mut checked = 0;
    for (_, example) in examples {
        let mut words = example.split(" -- ").next().unwrap().split_whitespace();
        let command = words.next().unwrap();
        let help = stdout(&folder.run(&[command, "--help"]));
        for flag in words.filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().unwrap();
            assert!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                "{command} {flag}"
            );
            checked += 1;
        }
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn every_command_names_a_context_and_a_server_that_are_not_there() {
    let folder = Folder::new();
    folder
        .file("access.yaml", case::request().to_string())
        .file("audit.log", audit::log(&[audit::event("get pods a/b")]));
    // A port that was just free.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    kubeconfig(&folder, address);
    let no_context = "the kubeconfig has no context 'prod'; it has c; choose one with --context";
    let no_server = format!("cannot reach the API server http://{address}: ");
    let commands = COMMANDS.iter().map(|(command, _)| *command);
    for command in commands.chain(["report"]) {
        for (more, says) in [(&["--context", "prod"][..], no_context), (&[], &no_server)] {
            let flags = [&["--kubeconfig", "kubeconfig"], more].concat();
            let words = words(command, &flags, "access.yaml", "audit.log");
            let output = folder.run(&words);
            let (status, err) = (status(&output), stderr(&output));
            assert_eq!(status, 2, "{words:?}: {err}");
            assert_eq!(err.lines().count(), 1, "{words:?}: {err}");
            assert!(err.contains(says), "{words:?}: {err}");
        }
    }
}
