//! The commands of `kubectl stint` on a real control plane, each as a user with no more rights than it needs.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use rstest::rstest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;
use support::audit;
use support::cluster::{User, eventually};
use support::command::{self, COMMANDS, Ended, words};
use support::operator::Stint;
use support::outside::Outside;
use support::team::{Team, create};
use tokio::io::AsyncWriteExt;

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// `kubectl stint …` as a user, in the namespace of the team.
async fn stint(team: &Team, user: User, args: &[&str]) -> Ended {
    command(team, user, args, &["-n", &team.namespace]).await
}

/// The same in the whole cluster.
async fn stint_wide(team: &Team, user: User, args: &[&str]) -> Ended {
    command(team, user, args, &[]).await
}

async fn command(team: &Team, user: User, args: &[&str], more: &[&str]) -> Ended {
    let (command, rest) = args.split_first().unwrap();
    let args = [&[*command], more, rest].concat();
    command::stint(team.stint.cluster(), user, &args).await
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
async fn the_end_of_a_grant_is_moved_within_the_limits() {
    let team = team().await;
    let ended = request(&team, "moved", &["--for", "30m", "--wait"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    let ended = stint(&team, User::Alice, &["extend", "moved", "--by", "30m"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.contains("moved ends at 20"), "{}", ended.out);
    let ended = stint(&team, User::Alice, &["extend", "moved", "--for", "600h"]).await;
    assert_eq!(ended.status, 1, "{} {}", ended.out, ended.err);
    assert!(ended.err.contains("[WA-TOO-LONG]"), "{}", ended.err);
    let not_after = ["extend", "moved", "--not-after", "2030-01-01T00:00:00Z"];
    let ended = stint(&team, User::Alice, &not_after).await;
    assert_eq!(ended.status, 2, "{} {}", ended.out, ended.err);
    assert!(ended.err.contains("use --for or --by"), "{}", ended.err);
    let told = eventually("the story tells it", async || {
        let ended = stint(&team, User::Alice, &["explain", "moved", "-o", "json"]).await;
        let story: Value = serde_json::from_str(&ended.out).unwrap();
        let chapters = story["told"].as_array().unwrap().iter();
        let mut extended = chapters.filter(|chapter| chapter["about"] == "Extended");
        Some(extended.next()?["lines"].clone())
    })
    .await;
    let line = told[0].as_str().unwrap();
    assert!(line.starts_with("alice moved the end from 20"), "{told}");
    stint(&team, User::Alice, &["revoke", "moved"]).await;
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
    let strict = format!("{ns}-strict");
    let name = strict.clone();
    let policy = json!({"metadata": {"name": strict}, "spec": {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
        "serviceAccounts": {"names": ["migrator"]},
        "allow": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]},
        "limits": {"maxDuration": "10m"}}});
    let admin = team.stint.cluster().admin();
    create(&admin, "stint.dev/v1alpha1", "AccessPolicy", "", policy).await;
    let said = format!(
        "would be admitted\npolicy '{ns}':\n  warning: policy '{ns}' admits this\npolicy '{name}':\n  warning: policy '{name}' does not admit this"
    );
    let admitted = eventually("both policies answer", async || {
        let ended = request(&team, "dry", &["--for", "30m", "--dry-run", "server"]).await;
        ended.out.starts_with(&said).then_some(ended)
    })
    .await;
    assert_eq!(admitted.status, 0, "{}", admitted.err);
    let why = admitted.out.trim_end();
    assert!(why.ends_with("[WA-REQUESTER], WA-TOO-LONG"), "{why}");
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

#[tokio::test]
async fn what_a_grant_gives_is_asked_of_the_authorizer() {
    let team = team().await;
    let ns = &team.namespace;
    let rules = json!([
        {"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"]},
        {"apiGroups": ["stint.dev"], "resources": ["workloadaccesses"], "verbs": ["get"]}
    ]);
    allow(&team, User::Carol, ns, rules).await;
    team.granted(&team.request("asked", "30m")).await;
    let ended = stint(&team, User::Carol, &["can", "asked"]).await;
    assert_eq!(ended.status, 0, "{}{}", ended.out, ended.err);
    assert!(
        ended
            .out
            .contains("get configmaps 'settings'  yes      RBAC: allowed by RoleBinding"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.ends_with(&format!(
            "Asked about 1 right: {ns}/migrator has all of them.\n"
        )),
        "{}",
        ended.out
    );

    stint(&team, User::Alice, &["revoke", "asked"]).await;
    eventually("the authorizer knows that it is over", async || {
        let ended = stint(&team, User::Carol, &["can", "asked"]).await;
        (ended.status == 0 && ended.out.contains("has none of them")).then_some(())
    })
    .await;
    // Something else gives what the grant gave.
    standing(&team, json!({"kind": "ServiceAccount", "name": "migrator"})).await;
    let ended = eventually("the residue is found", async || {
        let ended = stint(&team, User::Carol, &["can", "asked"]).await;
        (ended.status == 1).then_some(ended)
    })
    .await;
    assert!(
        ended.out.contains("has 1 of them by something else"),
        "{}",
        ended.out
    );
    // The same for somebody who may ask about the whole cluster.
    let ended = stint(&team, User::Admin, &["can", "asked", "-o", "json"]).await;
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (ended.status, &told["rights"][0]["allowed"]),
        (1, &json!(true))
    );
    // Who may ask nowhere is told what is missing.
    let ended = stint(&team, User::Alice, &["can", "asked"]).await;
    assert_eq!(ended.status, 2);
    assert!(
        ended.err.contains(
            "'alice' may not create localsubjectaccessreviews.authorization.k8s.io in namespace"
        ),
        "{}",
        ended.err
    );
}

/// A binding without an end that gives `get` on every ConfigMap of the namespace.
async fn standing(team: &Team, subject: Value) {
    let ns = &team.namespace;
    let admin = team.stint.cluster().admin();
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    create(
        &admin,
        RBAC,
        "Role",
        ns,
        json!({"metadata": {"name": "standing"}, "rules": rules}),
    )
    .await;
    create(
        &admin,
        RBAC,
        "RoleBinding",
        ns,
        json!({
            "metadata": {"name": "standing"}, "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "standing"}
        }),
    )
    .await;
}

#[tokio::test]
async fn who_can_do_it_now_and_later_counts_grants_and_standing_bindings() {
    let team = team().await;
    let ns = &team.namespace;
    let own = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["list"]},
        {"apiGroups": ["stint.dev"], "resources": ["workloadaccesses"], "verbs": ["list"]}
    ]);
    allow(&team, User::Carol, ns, own).await;
    let wide = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles", "clusterrolebindings"], "verbs": ["list"]},
        {"apiGroups": ["stint.dev"], "resources": ["clusterworkloadaccesses"], "verbs": ["list"]}
    ]);
    allow(&team, User::Carol, "", wide).await;
    standing(
        &team,
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}),
    )
    .await;
    team.granted(&team.request("now", "30m")).await;
    let start = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let start = format!("{:.0}", start);
    let ended = request(
        &team,
        "later",
        &["--for", "30m", "--not-before", &start, "--create"],
    )
    .await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    team.becomes("later", "Scheduled").await;

    let holders = async |args: &[&str]| {
        let args = [
            &["who-can", "get", "configmaps", "settings", "-o", "json"],
            args,
        ]
        .concat();
        let ended = stint(&team, User::Carol, &args).await;
        assert_eq!(ended.status, 0, "{}", ended.err);
        let told: Value = serde_json::from_str(&ended.out).unwrap();
        let holders = told["holders"].as_array().unwrap().iter();
        let own = holders.map(|h| {
            format!(
                "{} by {}",
                h["subject"].as_str().unwrap(),
                h["by"].as_str().unwrap()
            )
        });
        // Those who ask are editors of their namespace.
        own.filter(|text| text.contains(ns.as_str()) && !text.ends_with("/members"))
            .collect::<Vec<String>>()
    };
    let grant = format!("ServiceAccount {ns}/migrator by WorkloadAccess {ns}/now");
    let scheduled =
        format!("ServiceAccount {ns}/migrator by WorkloadAccess {ns}/later (scheduled)");
    let bound = format!("User bob by RoleBinding {ns}/standing");
    let alone = std::slice::from_ref(&bound);
    assert_eq!(holders(&[]).await, [&grant, &bound].map(String::clone));
    assert_eq!(holders(&["--at", "45m"]).await, alone);
    let later = holders(&["--at", "75m"]).await;
    assert_eq!(later, [&scheduled, &bound].map(String::clone));
    assert_eq!(holders(&["--at", "3h"]).await, alone);

    let ended = stint(
        &team,
        User::Carol,
        &["who-can", "get", "configmaps", "settings"],
    )
    .await;
    assert!(
        ended.out.lines().all(|line| line.chars().count() <= 100),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("no end"), "{}", ended.out);
    let ended = stint(&team, User::Carol, &["who-can", "get", "configmaps"]).await;
    assert!(
        ended.err.contains("more hold it on single objects alone"),
        "{}",
        ended.err
    );
    // What lives in the cluster is not given by a RoleBinding.
    let ended = stint(
        &team,
        User::Carol,
        &["who-can", "get", "nodes", "-o", "json"],
    )
    .await;
    assert!(!ended.out.contains(ns.as_str()), "{}", ended.out);
    let ended = stint(&team, User::Carol, &["who-can", "get", "gadgets"]).await;
    assert_eq!(ended.status, 2);
    assert!(
        ended.err.contains("this cluster serves no gadgets"),
        "{}",
        ended.err
    );
    let ended = stint(&team, User::Alice, &["who-can", "get", "configmaps"]).await;
    assert_eq!(ended.status, 2);
    assert!(
        ended.err.contains(
            "'alice' may not list clusterroles.rbac.authorization.k8s.io in the whole cluster"
        ),
        "{}",
        ended.err
    );
}

/// Carol may run commands as the account, and nothing else.
async fn runner(team: &Team) {
    let rules = json!([
        {"apiGroups": ["stint.dev"], "resources": ["workloadaccesses"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["migrator"], "verbs": ["create"]}
    ]);
    allow(team, User::Carol, &team.namespace, rules).await;
    let admin = team.stint.cluster().admin();
    create(
        &admin,
        "v1",
        "ConfigMap",
        &team.namespace,
        json!({"metadata": {"name": "settings"}}),
    )
    .await;
}

fn secrets(team: &Team) -> Api<Secret> {
    Api::namespaced(team.stint.cluster().admin(), &team.namespace)
}

#[tokio::test]
async fn a_command_runs_as_the_account_and_leaves_nothing_behind() {
    let team = team().await;
    runner(&team).await;
    team.granted(&team.request("run", "30m")).await;
    let ended = stint(
        &team,
        User::Carol,
        &[
            "exec",
            "run",
            "--",
            "kubectl",
            "get",
            "configmap",
            "settings",
            "-o",
            "name",
        ],
    )
    .await;
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (0, "configmap/settings\n"),
        "{}",
        ended.err
    );
    let ended = stint(
        &team,
        User::Carol,
        &["exec", "run", "--", "kubectl", "get", "configmap", "other"],
    )
    .await;
    assert_eq!(ended.status, 1);
    assert!(
        ended.err.contains(&format!(
            "system:serviceaccount:{}:migrator",
            team.namespace
        )),
        "{}",
        ended.err
    );

    let script = "echo $KUBECONFIG; stat -c %a $KUBECONFIG $(dirname $KUBECONFIG); exit 7";
    let ended = stint(
        &team,
        User::Carol,
        &["exec", "run", "--", "sh", "-c", script],
    )
    .await;
    assert_eq!(ended.status, 7, "{}", ended.err);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[1..], ["600", "700"]);
    assert!(!Path::new(lines[0]).exists() && !Path::new(lines[0]).parent().unwrap().exists());
    let ended = stint(
        &team,
        User::Carol,
        &["exec", "run", "--", "sh", "-c", "kill -TERM $$"],
    )
    .await;
    assert_eq!(ended.status, 128 + 15);
    let ended = stint(
        &team,
        User::Carol,
        &["exec", "run", "--", "no-such-program"],
    )
    .await;
    assert_eq!(ended.status, 127);
    let left = secrets(&team)
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert!(left.is_empty(), "{left:?}");

    stint(&team, User::Alice, &["revoke", "run"]).await;
    let ended = stint(&team, User::Carol, &["exec", "run", "--", "true"]).await;
    assert_eq!(ended.status, 1);
    assert!(
        ended.err.contains("gives no rights now: it is Revoked"),
        "{}",
        ended.err
    );
}

/// What was started as the account told of itself, and what is left of it.
struct Sleeper {
    process: PathBuf,
    private: PathBuf,
}

impl Sleeper {
    /// What it runs: a program that only a signal ends in time.
    fn script(told: &Path) -> String {
        let told = told.display();
        format!("echo /proc/$$ $KUBECONFIG >{told}.part; mv {told}.part {told}; exec sleep 300")
    }

    /// Waits until it runs.
    async fn found(told: &Path) -> Sleeper {
        let text = eventually("the command runs", async || {
            std::fs::read_to_string(told).ok()
        })
        .await;
        let (process, kubeconfig) = text.trim().split_once(' ').unwrap();
        let sleeper = Sleeper {
            process: process.into(),
            private: Path::new(kubeconfig).parent().unwrap().to_owned(),
        };
        assert!(sleeper.process.exists() && sleeper.private.exists());
        sleeper
    }
}

#[rstest]
#[case::sent_to_the_plugin(false)]
#[case::pressed_in_a_terminal(true)]
#[tokio::test]
async fn ctrl_c_ends_the_command_and_leaves_nothing_behind(#[case] in_a_terminal: bool) {
    let team = team().await;
    runner(&team).await;
    team.granted(&team.request("sleep", "30m")).await;
    let cluster = team.stint.cluster();
    let told = cluster.dir().join(format!("told-{}", team.namespace));
    let script = Sleeper::script(&told);
    let ns = team.namespace.as_str();
    let args = ["exec", "sleep", "-n", ns, "--", "sh", "-c", &script];
    let mut running = match in_a_terminal {
        true => command::start_in_a_terminal(cluster, User::Carol, &args),
        false => command::start(cluster, User::Carol, &args),
    };
    let sleeper = Sleeper::found(&told).await;
    assert_eq!(
        secrets(&team)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    match in_a_terminal {
        // What the key sends; the terminal makes a signal of it.
        true => running
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"\x03")
            .await
            .unwrap(),
        false => command::signal(&running, "-INT").await,
    }
    let keyboard = running.stdin.take();
    let output = running.wait_with_output().await.unwrap();
    drop(keyboard);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(128 + 2), "{text}");
    assert!(!sleeper.process.exists(), "the command still runs");
    assert!(!sleeper.private.exists(), "the kubeconfig is left");
    let left = secrets(&team).list(&ListParams::default()).await.unwrap();
    assert!(left.items.is_empty(), "{:?}", left.items);
}

#[tokio::test]
async fn a_token_dies_with_its_grant_and_a_signal_reaches_the_command() {
    let team = team().await;
    runner(&team).await;
    team.granted(&team.request("long", "30m")).await;
    let outside = Outside::start(&team, User::Carol, "long").await;
    let made = secrets(&team)
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(made.len(), 1, "{made:?}");
    let text = outside.get_settings(&team).await;
    assert!(text.contains("settings"), "{text}");

    // The request is deleted: Kubernetes' garbage collector alone takes the Secret, and with it the token.
    let (ok, text) = team
        .stint
        .kubectl(
            User::Alice,
            &["delete", "wa", "long", "-n", &team.namespace],
        )
        .await;
    assert!(ok, "{text}");
    eventually("the Secret is gone while the command runs", async || {
        let left = secrets(&team)
            .list(&ListParams::default())
            .await
            .ok()?
            .items;
        left.is_empty().then_some(())
    })
    .await;
    outside.token_is_dead(&team).await;

    command::signal(&outside.running, "-TERM").await;
    let copy = outside.kubeconfig;
    let output = outside.running.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), output.stdout),
        (Some(42), b"told\n".to_vec()),
        "{text}"
    );
    let private: Value = serde_json::from_slice(&std::fs::read(&copy).unwrap()).unwrap();
    assert_eq!(private["users"][0]["name"], "stint");
}

#[tokio::test]
async fn a_revoked_grant_takes_the_rights_of_its_token_and_then_the_token() {
    let team = team().await;
    runner(&team).await;
    team.granted(&team.request("short", "30m")).await;
    let outside = Outside::start(&team, User::Carol, "short").await;
    let text = outside.get_settings(&team).await;
    assert!(text.starts_with("NAME"), "{text}");
    let from = Instant::now();
    let revoked = stint(&team, User::Alice, &["revoke", "short"]).await;
    assert_eq!(revoked.status, 0, "{}", revoked.err);
    eventually("the token gives nothing", async || {
        let text = outside.get_settings(&team).await;
        (!text.starts_with("NAME")).then_some(())
    })
    .await;
    let nothing = from.elapsed();
    outside.token_is_dead(&team).await;
    eprintln!(
        "after revocation the token gave nothing in {nothing:?} and was not accepted in {:?}",
        from.elapsed()
    );
}

#[tokio::test]
async fn requests_for_the_whole_cluster_take_the_same_way() {
    let team = team().await;
    let ns = &team.namespace;
    let admin = team.stint.cluster().admin();
    let name = format!("wide-{ns}");
    let nodes = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]);
    let grantable = json!({"metadata": {"name": format!("nodes-{ns}"), "labels": {"rbac.stint.dev/grantable": "true"}}, "rules": nodes});
    create(&admin, RBAC, "ClusterRole", "", grantable).await;
    let terms = json!({"approval": {"required": 1}, "allow": {"cluster": true, "rules": nodes}});
    team.change_policy(terms).await.unwrap();
    let asks = json!([{"apiGroups": ["stint.dev"], "resources": ["clusterworkloadaccesses"], "verbs": ["create", "get", "list", "patch"]}]);
    allow(&team, User::Alice, "", asks).await;
    let reads = json!([{"apiGroups": ["stint.dev"], "resources": ["clusterworkloadaccesses"], "verbs": ["get"]}]);
    allow(&team, User::Carol, "", reads).await;
    let decides = json!([{"apiGroups": ["stint.dev"], "resources": ["accessapprovals"], "verbs": ["create"]}]);
    allow(&team, User::Carol, ns, decides).await;
    let approves = json!([{"apiGroups": ["stint.dev"], "resources": ["accesspolicies"], "resourceNames": [ns], "verbs": ["approve"]}]);
    allow(&team, User::Carol, "", approves).await;

    let account = format!("{ns}/migrator");
    let ask = [
        "request",
        &name,
        "--cluster",
        "--account",
        &account,
        "--verb",
        "get",
        "--resource",
        "nodes",
        "--for",
        "30m",
        "--reason",
        "a test",
    ];
    eventually(
        "the policy and the ceiling have reached Stint",
        async || {
            let args = [&ask[..], &["--dry-run", "server"]].concat();
            (stint_wide(&team, User::Alice, &args).await.status == 0).then_some(())
        },
    )
    .await;
    let ended = stint_wide(&team, User::Alice, &[&ask[..], &["--create"]].concat()).await;
    assert_eq!(
        (ended.status, ended.out),
        (0, format!("ClusterWorkloadAccess {name} created\n")),
        "{}",
        ended.err
    );
    eventually("Carol approves", async || {
        let ended = stint_wide(
            &team,
            User::Carol,
            &["approve", &name, "--cluster", "--yes"],
        )
        .await;
        (ended.status == 0).then_some(())
    })
    .await;
    let told = eventually("it is active", async || {
        let ended = stint_wide(&team, User::Alice, &["explain", &name, "--cluster"]).await;
        ended.out.contains(" is Active: ").then_some(ended.out)
    })
    .await;
    assert!(
        told.contains("carol approved it") && told.contains("Stint alone ends this grant"),
        "{told}"
    );
    let ended = stint_wide(&team, User::Alice, &["list", "--cluster", "-o", "name"]).await;
    assert!(
        ended
            .out
            .contains(&format!("clusterworkloadaccess.stint.dev/{name}\n")),
        "{}",
        ended.out
    );
    let ended = stint_wide(&team, User::Admin, &["can", &name, "--cluster"]).await;
    assert_eq!(ended.status, 0, "{}{}", ended.out, ended.err);
    let ended = stint_wide(
        &team,
        User::Admin,
        &["who-can", "get", "nodes", "-o", "wide"],
    )
    .await;
    let row = ended
        .out
        .lines()
        .find(|line| line.contains(ns.as_str()))
        .unwrap();
    assert!(
        row.contains(&format!("ClusterWorkloadAccess {name}"))
            && row.contains("ClusterRole stint-wide-"),
        "{row}"
    );
    // Of what she may not list she is told, and of the rest she gets the list.
    let ended = stint_wide(&team, User::Alice, &["list", "-A"]).await;
    assert_eq!(ended.status, 2);
    assert!(
        ended.out.contains(&name)
            && ended
                .err
                .contains("may not list workloadaccesses.stint.dev in the whole cluster"),
        "{}{}",
        ended.out,
        ended.err
    );
    let ended = stint_wide(&team, User::Alice, &["revoke", &name, "--cluster"]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
}

/// Of each command what it lacks first is named; nothing else happens.
#[tokio::test]
async fn every_command_names_the_right_that_is_missing() {
    let team = team().await;
    let (ns, cluster) = (&team.namespace, team.stint.cluster());
    let file = |name: &str| cluster.dir().join(name).to_str().unwrap().to_owned();
    let (access, log) = (file("nobodys.yaml"), file("nobodys.log"));
    let request = team.raw_request("x", json!({}));
    std::fs::write(&access, request.to_string()).unwrap();
    std::fs::write(&log, audit::log(&[audit::event("get pods a/b")])).unwrap();
    let mut wrong = Vec::new();
    for (command, lacks) in COMMANDS {
        // These know no namespace.
        let whole = ["lockdown", "unlock", "suggest"];
        let flags: &[&str] = match whole.iter().any(|name| command.starts_with(name)) {
            true => &["--as", "nobody"],
            false => &["--as", "nobody", "-n", ns],
        };
        let words = words(command, flags, &access, &log);
        let ended = command::stint(cluster, User::Admin, &words).await;
        let err = &ended.err;
        let told = ["'nobody' may not ", lacks, "; ask for "];
        if ended.status != 2 || !told.iter().all(|text| err.contains(text)) {
            wrong.push(format!("{words:?}: {} {}{err}", ended.status, ended.out));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
