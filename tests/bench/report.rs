//! `make bench`: how long a report of ten thousand grants takes once everything is read, beside the floor of printing the same
//! requests as they are (`kubectl stint list -A -o json`) in the same run.
//!
//! With an audit log the floor is `kubectl stint suggest` on the same log, which reads it and proposes.
//!
//! All are counted from when the last answer of the API server has been written to when the program has ended. Nothing here
//! passes or fails by the clock.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::audit::{NOON, line, with};
use support::plugin::{Folder, api_server};
use support::review::{self, Answer};

const GRANTS: usize = 10_000;
const ROUNDS: usize = 5;
/// Events of the audit log, of the grants in turn.
const EVENTS: usize = 100_000;

fn main() {
    let held = review::many(GRANTS);
    let answers = held.clone().answers();
    let requests = vec![
        answers[review::REQUESTS].clone(),
        answers[review::WIDE].clone(),
    ];
    println!(
        "{GRANTS} requests and {} bindings, median of {ROUNDS}",
        GRANTS / 5
    );
    let floor = median(&["list", "-A", "-o", "json"], &requests);
    println!("floor: list -A -o json       {:>6.0} ms", ms(floor));
    for form in ["html", "csv", "json", "markdown", "sarif"] {
        let took = median(&["report", "-o", form], &answers);
        let ratio = ms(took) / ms(floor);
        println!(
            "report -o {form:<18} {:>6.0} ms, {ratio:.1} times the floor (bar: 1000 ms)",
            ms(took)
        );
    }
    let folder = Folder::new();
    folder.file("audit.log", log());
    let file = folder.0.join("audit.log");
    let file = file.to_str().unwrap();
    println!("with an audit log of {EVENTS} events");
    let floor = median(&["suggest", file, "-o", "json"], &[]);
    println!("floor: suggest -o json       {:>6.0} ms", ms(floor));
    let answers = held.answers_for_a_log();
    for form in ["html", "csv", "json", "markdown", "sarif"] {
        let took = median(&["report", "-o", form, "--audit-log", file], &answers);
        let ratio = ms(took) / ms(floor);
        println!(
            "report -o {form:<18} {:>6.0} ms, {ratio:.1} times the floor",
            ms(took)
        );
    }
}

/// What the accounts of [`review::many`] do by their grants.
fn log() -> String {
    let one = |n: usize| {
        let grant = n % GRANTS;
        let (team, worker) = (grant % 120, grant % 7);
        let reason = format!(
            "RBAC: allowed by RoleBinding \"stint-deploy-{grant}/team-{team}\" of Role \"stint-deploy-{grant}\" to ServiceAccount \"worker-{worker}/team-{team}\""
        );
        // It covers the lives of all of them.
        let at = match n {
            0 => "2026-08-01T00:00:00.000000Z",
            _ => NOON,
        };
        line(&with(
            &format!("get deployments.apps team-{team}/service-{}", grant % 400),
            &[
                ("/requestReceivedTimestamp", at.into()),
                ("/annotations/authorization.k8s.io~1reason", reason.into()),
                (
                    "/user/username",
                    format!("system:serviceaccount:team-{team}:worker-{worker}").into(),
                ),
            ],
        ))
    };
    (0..EVENTS).map(one).collect()
}

fn ms(length: Duration) -> f64 {
    length.as_secs_f64() * 1000.0
}

fn median(args: &[&str], answers: &[Answer]) -> Duration {
    let mut all: Vec<Duration> = (0..ROUNDS).map(|_| once(args, answers)).collect();
    all.sort();
    all[ROUNDS / 2]
}

fn once(args: &[&str], answers: &[Answer]) -> Duration {
    let folder = Folder::new();
    let server = api_server(&folder, answers.to_vec());
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-stint"))
        .args(args)
        .args(["--kubeconfig", "kubeconfig"])
        .current_dir(&folder.0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    server.join().unwrap();
    let read = Instant::now();
    assert!(child.wait().unwrap().success());
    read.elapsed()
}
