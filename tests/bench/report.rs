//! `make bench`: how long a report of ten thousand grants takes once everything is read, beside the floor of printing the same
//! requests as they are (`kubectl stint list -A -o json`) in the same run.
//!
//! Both are counted from when the last answer of the API server has been written to when the program has ended. Nothing here
//! passes or fails by the clock.

#[path = "../support/mod.rs"]
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::plugin::{Folder, api_server};
use support::review::{self, Answer};

const GRANTS: usize = 10_000;
const ROUNDS: usize = 5;

fn main() {
    let answers = review::many(GRANTS).answers();
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
        .spawn()
        .unwrap();
    server.join().unwrap();
    let read = Instant::now();
    assert!(child.wait().unwrap().success());
    read.elapsed()
}
