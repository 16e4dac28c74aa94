//! `kubectl stint …` against a cluster, found and run as a user would.

use super::cluster::{Cluster, User};
use super::plugin::program;
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// Most characters of an output that are shown again.
const SHOWN: usize = 4000;

/// What a command printed, and its exit status.
pub struct Ended {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// Starts it, to be signalled while it runs; it goes with the test.
pub fn start(cluster: &Cluster, user: User, args: &[&str]) -> Child {
    Command::new(program())
        .env("KUBECONFIG", cluster.kubeconfig(user))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The same in a terminal of its own, whose keyboard is stdin.
pub fn start_in_a_terminal(cluster: &Cluster, user: User, args: &[&str]) -> Child {
    let quoted = args.iter().map(|word| format!("'{word}'"));
    let typed = format!(
        "{} {}",
        program().display(),
        quoted.collect::<Vec<_>>().join(" ")
    );
    Command::new("script")
        .env("KUBECONFIG", cluster.kubeconfig(user))
        .args(["--quiet", "--return", "--command", &typed, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Sends it a signal, such as `-TERM`.
pub async fn signal(running: &Child, signal: &str) {
    let id = running.id().unwrap().to_string();
    let sent = Command::new("kill").args([signal, &id]).status().await;
    assert!(sent.unwrap().success());
}

/// Runs it to its end.
pub async fn stint(cluster: &Cluster, user: User, args: &[&str]) -> Ended {
    let plugin = program();
    let mut kubectl = cluster.kubectl(user);
    let tools = Path::new(kubectl.as_std().get_program()).parent().unwrap();
    let (plugin, tools) = (plugin.parent().unwrap().display(), tools.display());
    kubectl.env("PATH", format!("{plugin}:{tools}:/usr/bin:/bin"));
    let all = [&["stint"], args].concat();
    let output = kubectl.args(all).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended = Ended {
        status: output.status.code().expect("ended by itself"),
        out: text(output.stdout),
        err: text(output.stderr),
    };
    // For the pages: what was really printed.
    let shown: String = ended.out.chars().take(SHOWN).collect();
    eprintln!(
        "$ kubectl stint {}\n{shown}{}[{}]",
        args.join(" "),
        ended.err,
        ended.status
    );
    ended
}
