//! `make bench`: how fast `kubectl stint suggest` reads an audit log and how much memory it takes, beside the floor of reading the
//! same bytes and looking for the ends of lines in the same run.
//!
//! 1 GB of lines of the level `Metadata` is made while it is read, through a pipe. Counted is the time that the reading process had
//! on a processor, so a busy machine changes little. Nothing here passes or fails by the clock.

use memchr::memchr_iter;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BYTES: usize = 1_000_000_000;
/// Written at once.
const BLOCK: usize = 8 << 20;
/// What runs in the child.
const CASE: &str = "STINT_BENCH_CASE";
/// Ticks of `/proc/<pid>/stat` (`USER_HZ` of Linux).
const TICKS: f64 = 100.0;

fn main() {
    if std::env::var_os(CASE).is_some() {
        return floor();
    }
    let own = std::env::current_exe().expect("this program");
    let plugin = env!("CARGO_BIN_EXE_kubectl-stint");
    let suggest = |more: &[&str]| {
        let mut command = Command::new(plugin);
        command.args(["suggest", "-", "-o", "json"]).args(more);
        command
    };
    let floor = |mix| {
        let mut command = Command::new(&own);
        command.env(CASE, "floor");
        measure(command, mix)
    };
    println!("1 GB of audit lines, MB/s of processor time, and peak memory");
    for (mix, title) in [
        (Mix::Cluster, "as in a cluster: half of them of accounts"),
        (Mix::Accounts, "every line of an account"),
    ] {
        let first = floor(mix);
        let all = measure(suggest(&[]), mix);
        let one = measure(suggest(&["--account", "team-7/app-3"]), mix);
        let second = floor(mix);
        let base = (first.rate + second.rate) / 2.0;
        println!("{title}, {:.0} bytes each", first.line);
        println!(
            "  floor, before and after   {:>6.0} {:>6.0}",
            first.rate, second.rate
        );
        for (what, measured) in [("all accounts", all), ("one account", one)] {
            println!(
                "  {what:<14} {:>6.0} MB/s (bar: 150)  {:>5.1} MiB (bar: 64)  {:.2} of the time of the floor",
                measured.rate,
                measured.peak,
                base / measured.rate
            );
        }
    }
}

/// Reads and counts lines.
fn floor() {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = vec![0; 256 << 10];
    let mut lines = 0;
    loop {
        match stdin.read(&mut buffer).expect("the pipe") {
            0 => break,
            read => lines += memchr_iter(b'\n', &buffer[..read]).count(),
        }
    }
    println!("{lines}");
}

struct Measured {
    /// MB for each second on a processor.
    rate: f64,
    /// MiB.
    peak: f64,
    /// Bytes.
    line: f64,
}

fn measure(mut command: Command, mix: Mix) -> Measured {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let mut out = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).expect("text");
        text
    });
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut lines = Lines {
        seed: 42,
        count: 0,
        mix,
    };
    let (mut written, mut peak) = (0, 0.0f64);
    let mut block = String::with_capacity(BLOCK + 4096);
    while written < BYTES {
        block.clear();
        while block.len() < BLOCK {
            lines.add(&mut block);
        }
        stdin.write_all(block.as_bytes()).expect("a reader");
        written += block.len();
        peak = peak.max(peak_of(&child));
    }
    drop(stdin);
    let began = Instant::now();
    let ticks = loop {
        peak = peak.max(peak_of(&child));
        if let Some(ticks) = ticks_when_ended(&child) {
            break ticks;
        }
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "it does not end"
        );
        std::thread::sleep(Duration::from_millis(2));
    };
    let status = child.wait().expect("it ended");
    let text = reader.join().expect("its output");
    assert!(status.success() && !text.is_empty(), "{status}: {text}");
    Measured {
        rate: written as f64 / 1e6 / (ticks / TICKS),
        peak,
        line: written as f64 / lines.count as f64,
    }
}

/// Peak of the memory in MiB; none once it has ended.
fn peak_of(child: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    number.unwrap_or_default() / 1024.0
}

/// Time on a processor of a process that has ended and that nobody has asked about yet.
fn ticks_when_ended(child: &Child) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("a process");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (fields[0] == "Z").then(|| ticks(11) + ticks(12))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mix {
    Cluster,
    Accounts,
}

/// Lines without end, the same in each run.
struct Lines {
    seed: u64,
    count: u64,
    mix: Mix,
}

const RESOURCES: [(&str, &str, &str); 8] = [
    ("", "v1", "configmaps"),
    ("", "v1", "secrets"),
    ("", "v1", "pods"),
    ("apps", "v1", "deployments"),
    ("apps", "v1", "replicasets"),
    ("batch", "v1", "jobs"),
    ("coordination.k8s.io", "v1", "leases"),
    ("networking.k8s.io", "v1", "ingresses"),
];
const VERBS: [&str; 6] = ["get", "get", "list", "watch", "patch", "update"];

impl Lines {
    fn next(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    fn add(&mut self, out: &mut String) {
        use std::fmt::Write;
        self.count += 1;
        let team = self.next(40);
        let app = self.next(5);
        let (group, version, resource) = RESOURCES[self.next(8) as usize];
        let verb = VERBS[self.next(6) as usize];
        let object = self.next(12);
        let (id, second, micro) = (self.next(1 << 48), self.next(60), self.next(1_000_000));
        let kind = if self.mix == Mix::Accounts {
            0
        } else {
            self.next(10)
        };
        let prefix = if group.is_empty() {
            "/api/".to_owned()
        } else {
            format!("/apis/{group}/")
        };
        let named = !matches!(verb, "list" | "watch");
        let path = if named {
            format!("/object-{object}")
        } else {
            "?limit=500&resourceVersion=0".into()
        };
        let name = if named {
            format!(",\"name\":\"object-{object}\"")
        } else {
            String::new()
        };
        let user = match kind {
            0..=2 => format!(
                r#"{{"username":"system:serviceaccount:team-{team}:app-{app}","uid":"5f63ab11-3b2c-47c6-bf19-{id:012x}","groups":["system:serviceaccounts","system:serviceaccounts:team-{team}","system:authenticated"],"extra":{{"authentication.kubernetes.io/credential-id":["JTI=7f5d2b1c-62cf-4c1e-a1d8-{id:012x}"],"authentication.kubernetes.io/node-name":["node-{team}"],"authentication.kubernetes.io/pod-name":["app-{app}-6d4c9b7f5-{object}xk2p"],"authentication.kubernetes.io/pod-uid":["0a1b2c3d-1111-2222-3333-{id:012x}"]}}}}"#
            ),
            3 | 4 => format!(
                r#"{{"username":"system:serviceaccount:kube-system:controller-{app}","uid":"5f63ab11-3b2c-47c6-bf19-{id:012x}","groups":["system:serviceaccounts","system:serviceaccounts:kube-system","system:authenticated"]}}"#
            ),
            _ => format!(
                r#"{{"username":"system:node:node-{team}","groups":["system:nodes","system:authenticated"]}}"#
            ),
        };
        let _ = writeln!(
            out,
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"9d0a2c1e-7a3b-4c55-8a21-{id:012x}","stage":"ResponseComplete","requestURI":"{prefix}{version}/namespaces/team-{team}/{resource}{path}","verb":"{verb}","user":{user},"sourceIPs":["10.0.{team}.{app}"],"userAgent":"app/v1.37.2 (linux/amd64) kubernetes/0a1b2c3","objectRef":{{"resource":"{resource}","namespace":"team-{team}"{name},"apiGroup":"{group}","apiVersion":"{version}"}},"responseStatus":{{"metadata":{{}},"code":200}},"requestReceivedTimestamp":"2026-12-01T12:00:{second:02}.{micro:06}Z","stageTimestamp":"2026-12-01T12:00:{second:02}.{micro:06}Z","annotations":{{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: allowed by RoleBinding \"app-{app}/team-{team}\" of Role \"app\" to ServiceAccount \"app-{app}/team-{team}\""}}}}"#
        );
    }
}
