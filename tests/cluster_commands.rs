//! The commands of `kubectl stint` on a real control plane, each as a user with no more rights than it needs.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::{Team, create};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// What a command printed, and its exit status.
struct Ended {
    status: i32,
    out: String,
    err: String,
}

/// `kubectl stint …` as a user, in the namespace of the team.
async fn stint(team: &Team, user: User, args: &[&str]) -> Ended {
    command(team, user, args, &["-n", &team.namespace]).await
}

/// The same in the whole cluster.
async fn stint_wide(team: &Team, user: User, args: &[&str]) -> Ended {
    command(team, user, args, &[]).await
}

async fn command(team: &Team, user: User, args: &[&str], more: &[&str]) -> Ended {
    let plugin = Path::new(env!("CARGO_BIN_EXE_kubectl-stint"));
    let mut kubectl = team.stint.cluster().kubectl(user);
    kubectl.env(
        "PATH",
        format!("{}:/usr/bin:/bin", plugin.parent().unwrap().display()),
    );
    let (command, rest) = args.split_first().unwrap();
    let output = kubectl
        .args(["stint", command])
        .args(more)
        .args(rest)
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended = Ended {
        status: output.status.code().expect("ended by itself"),
        out: text(output.stdout),
        err: text(output.stderr),
    };
    // For the pages: what was really printed.
    eprintln!(
        "$ kubectl stint {}\n{}{}[{}]",
        args.join(" "),
        ended.out,
        ended.err,
        ended.status
    );
    ended
}

async fn team() -> Team {
    Team::new(Stint::shared_wide(env!("CARGO_BIN_EXE_stint")).await).await
}

/// Gives a user rights in the namespace of the team, or by an empty namespace in the whole cluster, and waits until they hold.
async fn allow(team: &Team, user: User, namespace: &str, rules: Value) {
    let admin = team.stint.cluster().admin();
    let name = format!(
        "{}-{}-{}",
        user.name(),
        team.namespace,
        rules[0]["resources"][0].as_str().unwrap().replace('/', "-")
    );
    let (role, binding) = match namespace {
        "" => ("ClusterRole", "ClusterRoleBinding"),
        _ => ("Role", "RoleBinding"),
    };
    create(
        &admin,
        RBAC,
        role,
        namespace,
        json!({"metadata": {"name": name}, "rules": rules}),
    )
    .await;
    create(&admin, RBAC, binding, namespace, json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user.name()}]
    })).await;
    let verb = rules[0]["verbs"][0].as_str().unwrap();
    let resource = rules[0]["resources"][0].as_str().unwrap();
    let group = rules[0]["apiGroups"][0].as_str().unwrap();
    let resource = match (group, resource.split_once('/')) {
        ("", _) => resource.to_owned(),
        (group, Some((resource, sub))) => format!("{resource}.{group}/{sub}"),
        (group, None) => format!("{resource}.{group}"),
    };
    let names = rules[0]["resourceNames"][0].as_str();
    let target = names.map_or(resource.clone(), |name| format!("{resource}/{name}"));
    let mut args = vec!["auth", "can-i", verb, &target];
    if !namespace.is_empty() {
        args.extend(["-n", namespace]);
    }
    eventually("the user has the right", async || {
        team.stint.kubectl(user, &args).await.0.then_some(())
    })
    .await;
}

const ASK: [&str; 8] = [
    "--account",
    "migrator",
    "--verb",
    "get",
    "--resource",
    "configmaps",
    "--resource-name",
    "settings",
];

/// `request` with the rights of [`ASK`].
async fn request(team: &Team, name: &str, more: &[&str]) -> Ended {
    let args = [&["request", name], &ASK[..], &["--reason", "a test"], more].concat();
    stint(team, User::Alice, &args).await
}

#[tokio::test]
async fn a_request_is_made_waited_for_listed_explained_and_revoked() {
    let team = team().await;
    let ns = &team.namespace;
    let ended = request(&team, "work", &["--for", "30m", "--wait"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(
        ended
            .out
            .starts_with(&format!("WorkloadAccess {ns}/work is Active until 20")),
        "{}",
        ended.out
    );
    assert!(team.may_get(&team.workload().await, "settings").await);

    let ended = stint(&team, User::Alice, &["list"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    let row: Vec<&str> = ended
        .out
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        (row[0], row[1], row[2], row[3], &row[5..]),
        ("work", "Active", "migrator", "Low", &["a", "test"][..])
    );
    assert!(row[4].starts_with("29m") || row[4] == "30m", "{row:?}");

    let ended = stint(&team, User::Alice, &["explain", "work"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    for text in [
        "is Active",
        "by alice",
        "get configmaps named settings",
        "should Stint be down",
        "kubectl stint revoke",
    ] {
        assert!(ended.out.contains(text), "{text}: {}", ended.out);
    }

    let ended = stint(
        &team,
        User::Alice,
        &["revoke", "workloadaccess.stint.dev/work"],
    )
    .await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.ends_with(": Revoked\n"), "{}", ended.out);
    assert!(!team.may_get(&team.workload().await, "settings").await);
    let ended = stint(&team, User::Alice, &["list", "--active"]).await;
    assert_eq!((ended.status, ended.out.as_str()), (0, ""));
}

#[tokio::test]
async fn the_yaml_of_a_request_is_what_kubectl_applies() {
    let team = team().await;
    let ended = request(&team, "printed", &["--for", "30m"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    let file = team.stint.cluster().dir().join("printed.yaml");
    std::fs::write(&file, &ended.out).unwrap();
    let (ok, text) = team
        .stint
        .kubectl(User::Alice, &["apply", "-f", file.to_str().unwrap()])
        .await;
    assert!(ok, "{text}");
    team.becomes("printed", "Active").await;
}

#[tokio::test]
async fn the_error_of_a_command_becomes_the_request_for_what_it_lacked() {
    let team = team().await;
    let ns = &team.namespace;
    let token = team
        .stint
        .cluster()
        .service_account_token(ns, "migrator")
        .await;
    let output = team
        .stint
        .cluster()
        .kubectl(User::Alice)
        .env(
            "KUBECONFIG",
            team.stint.cluster().kubeconfig_for_token(ns, &token),
        )
        .args(["get", "configmap", "settings", "-n", ns])
        .output()
        .await
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let args = [
        "request",
        "lacked",
        "--from-error",
        &error,
        "--for",
        "5m",
        "--reason",
        "a test",
        "--wait",
    ];
    let ended = stint_wide(&team, User::Alice, &args).await;
    assert_eq!(ended.status, 0, "{error}\n{}", ended.err);
    let granted = team.becomes("lacked", "Active").await;
    let rules = serde_json::to_value(granted.spec.rules).unwrap();
    assert_eq!(
        rules,
        json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]}])
    );
}

#[tokio::test]
async fn a_dry_run_tells_what_each_policy_says_and_stores_nothing() {
    let team = team().await;
    let ns = &team.namespace;
    let ended = request(&team, "dry", &["--for", "9h", "--dry-run", "server"]).await;
    assert_eq!(ended.status, 1, "{}{}", ended.out, ended.err);
    assert!(ended.out.starts_with("would be refused\n"), "{}", ended.out);
    let says = format!("policy '{ns}':\n  spec.duration: Forbidden: '9h'");
    assert!(
        ended.out.contains(&says) && ended.out.contains("[WA-TOO-LONG]"),
        "{}",
        ended.out
    );
    let ended = request(&team, "dry", &["--for", "30m", "--dry-run", "server"]).await;
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (0, "would be admitted\n"),
        "{}",
        ended.err
    );
    assert!(
        team.requests(User::Alice)
            .get_opt("dry")
            .await
            .unwrap()
            .is_none()
    );
    // What is refused is not stored either.
    let ended = request(&team, "dry", &["--for", "9h", "--wait"]).await;
    assert_eq!(ended.status, 1, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("[WA-TOO-LONG]"), "{}", ended.err);
}

#[tokio::test]
async fn who_may_not_is_told_which_verb_on_which_resource() {
    let team = team().await;
    let ended = stint(&team, User::Carol, &["list"]).await;
    let ns = &team.namespace;
    assert_eq!(ended.status, 2);
    assert_eq!(
        ended.err.lines().next().unwrap(),
        format!(
            "kubectl-stint: 'carol' may not list workloadaccesses.stint.dev in namespace '{ns}'; ask for the ClusterRole stint-view there"
        )
    );
    let ended = stint_wide(&team, User::Carol, &["lockdown", ns, "--yes"]).await;
    assert_eq!(ended.status, 2);
    assert!(
        ended.err.contains(&format!(
            "'carol' may not patch accesspolicies.stint.dev '{ns}' in the whole cluster"
        )),
        "{}",
        ended.err
    );
    let ended = stint(&team, User::Alice, &["revoke", "nothing"]).await;
    assert_eq!(ended.status, 2);
    assert!(
        ended
            .err
            .contains("there is no workloadaccesses.stint.dev 'nothing'"),
        "{}",
        ended.err
    );
}

/// The policy asks for one approval, and Carol may give it.
async fn approvers(team: &Team) {
    let ns = &team.namespace;
    let terms =
        json!({"approval": {"required": 1, "timeout": "1h"}, "breakGlass": {"maxDuration": "1h"}});
    team.change_policy(terms).await.unwrap();
    let writes = json!([
        {"apiGroups": ["stint.dev"], "resources": ["accessapprovals"], "verbs": ["create"]},
        {"apiGroups": ["stint.dev"], "resources": ["workloadaccesses"], "verbs": ["get"]}
    ]);
    allow(team, User::Carol, ns, writes).await;
    let approves = json!([{"apiGroups": ["stint.dev"], "resources": ["accesspolicies"], "resourceNames": [ns], "verbs": ["approve"]}]);
    allow(team, User::Carol, "", approves).await;
    // Until the changed policy has reached Stint, a request would begin at once.
    let args = [
        "--for",
        "30m",
        "--ticket",
        "INC-7",
        "--break-glass",
        "--dry-run",
        "server",
    ];
    eventually("the policy has reached Stint", async || {
        (request(team, "probe", &args).await.status == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_approver_sees_what_is_asked_for_and_decides_on_exactly_that() {
    let team = team().await;
    let ns = &team.namespace;
    approvers(&team).await;
    let ended = request(
        &team,
        "asks",
        &["--for", "30m", "--wait", "--timeout", "1s"],
    )
    .await;
    assert_eq!(ended.status, 2, "{}{}", ended.out, ended.err);
    assert!(
        ended.err.contains("is still PendingApproval: waits until"),
        "{}",
        ended.err
    );

    // Nobody is there to answer.
    let ended = stint(&team, User::Carol, &["approve", "asks"]).await;
    assert_eq!(ended.status, 2);
    assert!(ended.err.contains("say --yes"), "{}", ended.err);
    // Nobody approves their own request.
    let own = json!([{"apiGroups": ["stint.dev"], "resources": ["accessapprovals"], "verbs": ["create"]}]);
    allow(&team, User::Alice, ns, own).await;
    let ended = stint(&team, User::Alice, &["approve", "asks", "--yes"]).await;
    assert_eq!(ended.status, 1, "{}", ended.err);
    assert!(ended.err.contains("[WA-APPROVAL-SELF]"), "{}", ended.err);

    // Stint and the authorizer hear of Carol's verb by watches.
    let ended = eventually("Carol approves", async || {
        let ended = stint(
            &team,
            User::Carol,
            &["approve", "asks", "--reason", "a test", "--yes"],
        )
        .await;
        (ended.status == 0).then_some(ended)
    })
    .await;
    for text in [
        "is PendingApproval",
        "by alice",
        "get configmaps named settings",
        "Hash       sha256:",
        "approved by AccessApproval",
    ] {
        assert!(ended.out.contains(text), "{text}: {}", ended.out);
    }
    let active = team.becomes("asks", "Active").await;
    assert_eq!(active.status.unwrap().approvals[0].approver, "carol");
    let ended = stint(&team, User::Carol, &["deny", "asks", "--yes"]).await;
    assert_eq!(ended.status, 1);
    assert!(
        ended.err.contains("waits for no approval: it is Active"),
        "{}",
        ended.err
    );

    let ended = request(&team, "no", &["--for", "30m", "--create"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    team.becomes("no", "PendingApproval").await;
    let ended = stint(&team, User::Carol, &["deny", "no", "--yes"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    team.becomes("no", "Denied").await;
    let ended = stint(&team, User::Carol, &["explain", "no"]).await;
    assert_eq!(ended.status, 1);
    assert!(
        ended.out.contains("is Denied") && ended.out.contains("carol denied it"),
        "{}",
        ended.out
    );
}

#[tokio::test]
async fn an_emergency_is_reviewed_afterwards() {
    let team = team().await;
    approvers(&team).await;
    let args = [
        "--for",
        "30m",
        "--ticket",
        "INC-7",
        "--break-glass",
        "--wait",
    ];
    let ended = request(&team, "fire", &args).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    let ended = stint(&team, User::Carol, &["explain", "fire"]).await;
    assert!(
        ended
            .out
            .contains(&format!("kubectl stint review fire -n {}", team.namespace)),
        "{}",
        ended.out
    );
    eventually("Carol reviews", async || {
        let ended = stint(&team, User::Carol, &["review", "fire", "--yes"]).await;
        (ended.status == 0).then_some(())
    })
    .await;
    eventually("the review is told", async || {
        let ended = stint(&team, User::Carol, &["explain", "fire"]).await;
        ended.out.contains("ReviewRequired=False").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lockdown_ends_the_grants_of_its_policies_and_unlock_admits_again() {
    let team = team().await;
    let ns = &team.namespace;
    let rules = json!([{"apiGroups": ["stint.dev"], "resources": ["accesspolicies"], "resourceNames": [ns], "verbs": ["patch"]}]);
    allow(&team, User::Carol, "", rules).await;
    team.granted(&team.request("locked", "30m")).await;
    let ended = stint_wide(&team, User::Carol, &["lockdown", ns]).await;
    assert_eq!(ended.status, 2);
    assert!(ended.err.contains("say --yes"), "{}", ended.err);
    let ended = stint_wide(&team, User::Carol, &["lockdown", ns, "--yes"]).await;
    assert_eq!(
        (ended.status, ended.out),
        (0, format!("AccessPolicy {ns} is suspended\n"))
    );
    team.becomes("locked", "Suspended").await;
    let ended = stint_wide(&team, User::Carol, &["unlock", ns, "--yes"]).await;
    assert_eq!(
        (ended.status, ended.out),
        (0, format!("AccessPolicy {ns} is not suspended\n"))
    );
    eventually("requests are admitted again", async || {
        let ended = request(&team, "again", &["--for", "30m", "--dry-run", "server"]).await;
        (ended.status == 0).then_some(())
    })
    .await;
}
