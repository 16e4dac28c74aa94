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

/// Every command that asks a cluster, with what it asks first that needs a right. `ACCESS` stands for a manifest, `LOG` for an audit log.
pub const COMMANDS: [(&str, &str); 18] = [
    ("list", "list workloadaccesses.stint.dev"),
    ("list --watch", "list workloadaccesses.stint.dev"),
    ("explain x", "get workloadaccesses.stint.dev 'x'"),
    (
        "request x --account a --verb get --resource pods --for 1h --reason r --create",
        "create workloadaccesses.stint.dev",
    ),
    (
        "request x --account a --verb get --resource pods --for 1h --reason r --dry-run server",
        "create workloadaccesses.stint.dev",
    ),
    ("extend x --by 1h", "get workloadaccesses.stint.dev 'x'"),
    ("revoke x", "patch workloadaccesses.stint.dev 'x'"),
    ("approve x --yes", "get workloadaccesses.stint.dev 'x'"),
    ("deny x --yes", "get workloadaccesses.stint.dev 'x'"),
    ("review x --yes", "get workloadaccesses.stint.dev 'x'"),
    ("lockdown p --yes", "accesspolicies.stint.dev"),
    ("unlock p --yes", "accesspolicies.stint.dev"),
    ("who-can get pods", "list "),
    ("can x", "get workloadaccesses.stint.dev 'x'"),
    ("exec x -- true", "get workloadaccesses.stint.dev 'x'"),
    ("lint --online ACCESS", "create workloadaccesses.stint.dev"),
    ("suggest --online LOG", "list roles"),
    ("adopt", "list "),
];

/// The words of one of them with these files, and with flags before a command of its own that may follow.
pub fn words<'a>(
    command: &'a str,
    flags: &[&'a str],
    access: &'a str,
    log: &'a str,
) -> Vec<&'a str> {
    let file = |word| match word {
        "ACCESS" => access,
        "LOG" => log,
        other => other,
    };
    let mut words: Vec<&str> = command.split(' ').map(file).collect();
    let own = words.iter().position(|word| *word == "--");
    let place = own.unwrap_or(words.len());
    words.splice(place..place, flags.iter().copied());
    words
}
