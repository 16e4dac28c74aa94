//! The test cluster itself: it works, its people are who they say, and it never outlives its test.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use support::cluster::process::{Component, Folder};
use support::cluster::{Cluster, User, eventually};

const HOLD_A_CLUSTER: &str = "STINT_HOLD_A_CLUSTER";

#[tokio::test]
async fn users_are_who_they_say() {
    let cluster = Cluster::shared().await;

    for user in User::ALL {
        let who = whoami(cluster.user(user)).await;
        assert_eq!(who.username.as_deref(), Some(user.name()));
        let groups = who.groups.unwrap_or_default();
        for group in [user.group(), "system:authenticated"] {
            assert!(
                groups.iter().any(|g| g == group),
                "{user:?} is in {groups:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_service_account_acts_under_its_own_name() {
    let cluster = Cluster::shared().await;
    let ns = cluster.namespace("accounts", &[]).await;

    let who = whoami(cluster.service_account(&ns, "migrator").await).await;

    assert_eq!(
        who.username,
        Some(format!("system:serviceaccount:{ns}:migrator"))
    );
}

#[tokio::test]
async fn rbac_binds_everyone_but_the_administrator() {
    let cluster = Cluster::shared().await;
    let ns = cluster.namespace("rbac", &[("team", "payments")]).await;

    for user in [User::Alice, User::Bob, User::Carol] {
        let maps: Api<ConfigMap> = Api::namespaced(cluster.user(user), &ns);
        let refused = maps
            .get("any")
            .await
            .expect_err("nobody has given rights to this user");
        let kube::Error::Api(status) = refused else {
            panic!("{user:?} got {refused}")
        };
        assert!(status.is_forbidden(), "{user:?} got {status:?}");
    }
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), &ns);
    assert!(maps.get_opt("any").await.expect("admin may read").is_none());
}

#[tokio::test]
async fn kubectl_and_helm_reach_the_cluster() {
    let cluster = Cluster::shared().await;
    let ns = cluster.namespace("tools", &[]).await;
    let token = cluster.service_account_token(&ns, "robot").await;
    let robot = cluster.kubeconfig_for_token("robot", &token);

    let alice = output(
        cluster
            .kubectl(User::Alice)
            .args(["auth", "whoami", "-o", "name"]),
    )
    .await;
    let someone = output(
        cluster
            .kubectl(User::Admin)
            .env("KUBECONFIG", robot)
            .args(["auth", "whoami"]),
    )
    .await;
    let releases = output(
        cluster
            .helm()
            .args(["list", "--namespace", &ns, "--output", "json"]),
    )
    .await;

    assert!(alice.contains("selfsubjectreview"), "{alice}");
    assert!(
        someone.contains(&format!("system:serviceaccount:{ns}:robot")),
        "{someone}"
    );
    assert_eq!(releases.trim(), "[]");
}

#[tokio::test]
async fn an_owned_object_goes_with_its_owner() {
    let cluster = Cluster::shared().await;
    let ns = cluster.namespace("gc", &[]).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), &ns);

    let owner = create(&maps, "owner", None).await;
    create(&maps, "owned", owner.owner_ref(&())).await;
    maps.delete("owner", &DeleteParams::default())
        .await
        .expect("admin may delete");

    eventually(
        "the garbage collector has deleted the owned object",
        async || {
            maps.get_opt("owned")
                .await
                .expect("admin may read")
                .is_none()
                .then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn the_controller_manager_stops_and_starts_again() {
    let cluster = Cluster::start().await.expect("a cluster");
    let running = cluster.pids().await.len();

    let stopped = cluster.stop_controller_manager().await;
    if std::env::var_os("STINT_TEST_KUBECONFIG").is_some() {
        let why = stopped.expect_err("a given cluster is not ours to stop");
        assert!(why.contains("STINT_TEST_KUBECONFIG"), "{why}");
        return;
    }
    stopped.expect("it stops");
    assert_eq!(cluster.pids().await.len(), running - 1);

    cluster
        .start_controller_manager()
        .await
        .expect("it starts again");
    assert_eq!(cluster.pids().await.len(), running);
    cluster.namespace("after-restart", &[]).await;
}

#[tokio::test]
async fn nothing_outlives_a_dropped_cluster() {
    let cluster = Cluster::start().await.expect("a cluster");
    let (dir, pids) = (cluster.dir().to_owned(), cluster.pids().await);

    drop(cluster);

    assert!(!dir.exists(), "{} is left", dir.display());
    for pid in pids {
        assert!(!alive(pid).await, "process {pid} is left");
    }
}

/// A test process that is killed cannot clean up: kill one for real.
#[tokio::test]
async fn nothing_outlives_a_killed_test() {
    let mut test = Command::new(std::env::current_exe().expect("this test binary"))
        .args(["--exact", "holds_a_cluster_until_killed", "--nocapture"])
        .env(HOLD_A_CLUSTER, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this test binary starts");
    let (dir, pids) = announced(&mut test).await;
    assert!(dir.exists());
    for pid in &pids {
        assert!(alive(*pid).await, "process {pid} runs before the kill");
    }

    test.kill().await.expect("SIGKILL");

    eventually(
        "no process and no folder of the killed test is left",
        async || {
            for pid in &pids {
                if alive(*pid).await {
                    return None;
                }
            }
            (!dir.exists()).then_some(())
        },
    )
    .await;
}

/// The other half of the test above; does nothing on its own.
#[tokio::test]
async fn holds_a_cluster_until_killed() {
    if std::env::var_os(HOLD_A_CLUSTER).is_none() {
        return;
    }
    let cluster = Cluster::start().await.expect("a cluster");
    let pids: Vec<String> = cluster.pids().await.iter().map(u32::to_string).collect();
    println!("\nholding {} {}", cluster.dir().display(), pids.join(" "));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_program_that_ends_early_is_reported_with_its_last_words() {
    let folder = Folder::create().expect("a folder");
    let shell = Path::new("sh");
    let words = ["-c", "echo the port is taken >&2; exit 3"].map(String::from);
    let mut component =
        Component::start(folder.path(), "failing", shell, &words).expect("sh starts");

    let why = eventually("the end is noticed", async || component.check().err()).await;

    assert!(why.contains("failing ended early"), "{why}");
    assert!(why.contains("exit status: 3"), "{why}");
    assert!(why.contains("the port is taken"), "{why}");
}

async fn whoami(client: Client) -> UserInfo {
    Api::all(client)
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .expect("everyone may ask who they are")
        .status
        .and_then(|status| status.user_info)
        .expect("an answer")
}

async fn create(maps: &Api<ConfigMap>, name: &str, owner: Option<OwnerReference>) -> ConfigMap {
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    let made = maps
        .create(&PostParams::default(), &map)
        .await
        .expect("admin may create");
    assert_eq!(made.name_any(), name);
    made
}

/// What the command prints, or a panic with its complaint.
async fn output(command: &mut Command) -> String {
    let output = command.output().await.expect("the command starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Folder and processes of the cluster that the child test holds.
async fn announced(test: &mut tokio::process::Child) -> (PathBuf, Vec<u32>) {
    let stdout = test.stdout.take().expect("stdout is a pipe");
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.expect("readable output") {
        if let Some(announcement) = line.strip_prefix("holding ") {
            let mut words = announcement.split(' ');
            let dir = PathBuf::from(words.next().expect("a folder"));
            let pids = words
                .filter(|word| !word.is_empty())
                .map(|pid| pid.parse().expect("a process id"))
                .collect();
            return (dir, pids);
        }
    }
    panic!("the child test ended without a cluster");
}

async fn alive(pid: u32) -> bool {
    Command::new("sh")
        .args(["-c", &format!("kill -0 {pid} 2>/dev/null")])
        .status()
        .await
        .expect("sh starts")
        .success()
}
