//! A cluster for `kubectl stint report`, as the answers of its API server, and the forms of a report read back.

use super::plugin::{Folder, api_server};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Output;

/// UID of `kube-system`.
pub const CLUSTER: &str = "0c1d2e3f-0000-4000-8000-00000000c105";
/// When it began.
pub const SINCE: &str = "2026-01-01T00:00:00Z";

/// Places in [`Held::answers`].
pub const CLUSTER_BINDINGS: usize = 1;
pub const BINDINGS: usize = 2;
pub const CLUSTER_ROLES: usize = 3;
pub const REQUESTS: usize = 5;
pub const WIDE: usize = 6;

/// What a cluster holds, each list as items of the API server.
#[derive(Clone, Default)]
pub struct Held {
    pub requests: Vec<Value>,
    pub wide: Vec<Value>,
    pub approvals: Vec<Value>,
    pub cluster_roles: Vec<Value>,
    pub roles: Vec<Value>,
    pub cluster_bindings: Vec<Value>,
    pub bindings: Vec<Value>,
    /// ServiceAccounts, which are asked for where a log is held against them.
    pub accounts: Vec<Value>,
}

/// An answer of the API server.
pub type Answer = (u16, Value, &'static str);

fn list(items: Vec<Value>) -> Answer {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "7"}, "items": items});
    (200, list, "")
}

impl Held {
    /// The answers in the order in which a report of the whole cluster asks; the constants are their places.
    pub fn answers(self) -> Vec<Answer> {
        let system = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": CLUSTER, "creationTimestamp": SINCE}});
        vec![
            (200, system, ""),
            list(self.cluster_bindings),
            list(self.bindings),
            list(self.cluster_roles),
            list(self.roles),
            list(self.requests),
            list(self.wide),
            list(self.approvals),
        ]
    }

    /// The same for a report that holds a log against the cluster.
    pub fn answers_for_a_log(self) -> Vec<Answer> {
        let accounts = list(self.accounts.clone());
        self.answers().into_iter().chain([accounts]).collect()
    }

    /// Runs `kubectl stint report` on it.
    pub fn report(self, folder: &Folder, args: &[&str]) -> Output {
        let answers = match args.contains(&"--audit-log") {
            true => self.answers_for_a_log(),
            false => self.answers(),
        };
        report(folder, answers, args)
    }
}

/// Runs `kubectl stint report` against these answers.
pub fn report(folder: &Folder, answers: Vec<Answer>, args: &[&str]) -> Output {
    let server = api_server(folder, answers);
    let all = [&["report", "--kubeconfig", "kubeconfig"], args].concat();
    let output = folder.run(&all);
    server.join().unwrap();
    output
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message,
           "lastTransitionTime": "2026-11-01T12:00:00Z"})
}

/// A request in the namespace `payments` that ended as it should.
pub fn expired(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "payments", "uid": format!("uid-{name}"), "creationTimestamp": "2026-11-01T11:59:58Z"},
        "spec": {"serviceAccountRef": {"name": "migrator"},
                 "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["billing-api"], "verbs": ["get", "patch"]}],
                 "duration": "30m", "reason": "schema change", "ticket": "CHG-1811"},
        "status": {
            "conditions": [condition("Ready", "True", "Expired", "access ended at 2026-11-01T12:30:00Z"),
                           condition("Verified", "True", "AccessGone", "payments/migrator is refused what the grant gave; asked about 2 of 2 rights")],
            "requestedBy": "alice", "serviceAccountUID": "uid-account", "risk": "High", "findings": ["OB-P01"],
            "activatedTime": "2026-11-01T12:00:00Z", "notAfter": "2026-11-01T12:30:00Z", "endedTime": "2026-11-01T12:30:00Z",
            "endReason": "Expired", "policy": {"name": "payments-jobs", "uid": "uid-policy", "generation": 3},
            "roleBinding": {"name": format!("stint-{name}"), "uid": format!("uid-binding-stint-{name}")},
            "approvals": [{"approver": "carol", "decision": "Approve", "time": "2026-11-01T11:59:59Z"}]
        }
    })
}

/// The same, and it gives rights now.
pub fn active(name: &str) -> Value {
    let mut object = expired(name);
    let status = object["status"].as_object_mut().unwrap();
    status.remove("endedTime");
    status.remove("endReason");
    status["notAfter"] = "2036-11-01T12:00:00Z".into();
    status["conditions"] = json!([condition("Ready", "True", "Active", "has the rights")]);
    object
}

/// One that was revoked, and whose account still has the rights.
pub fn residual(name: &str, message: &str) -> Value {
    let mut object = expired(name);
    let status = object["status"].as_object_mut().unwrap();
    status["endReason"] = "Revoked".into();
    status["conditions"] = json!([
        condition("Ready", "True", "Revoked", "was revoked"),
        condition("Verified", "False", "ResidualAccess", message)
    ]);
    object
}

/// One that was refused.
pub fn refused(name: &str) -> Value {
    let mut object = expired(name);
    let message = "spec.rules[0].verbs[1]: Invalid value: '*': must list verbs by name [OB-W03]\nspec.duration: Forbidden: '9h': too long [WA-TOO-LONG]";
    object["status"] = json!({"conditions": [condition("Ready", "False", "Refused", message)], "requestedBy": "bob"});
    object
}

/// A decision on a request of this name.
pub fn approval(name: &str, of: &str, reason: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "payments", "creationTimestamp": "2026-11-01T11:59:59Z"},
        "spec": {"requestRef": {"kind": "WorkloadAccess", "name": of, "uid": format!("uid-{of}")}, "decision": "Approve",
                 "specHash": format!("sha256:{}", "0".repeat(64)), "reason": reason}
    })
}

/// A ClusterRole, or a Role where a namespace is named.
pub fn role(namespace: Option<&str>, name: &str, verbs: &[&str]) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace, "uid": format!("uid-role-{name}")},
           "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}]})
}

/// A binding of one subject to a ClusterRole.
pub fn binding(namespace: Option<&str>, name: &str, role: &str, subject: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace, "uid": format!("uid-binding-{name}"), "creationTimestamp": "2026-10-01T00:00:00Z"},
           "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": [subject]})
}

/// A ServiceAccount as a subject.
pub fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

/// A ServiceAccount with the UID that events have ([`super::audit::event`]).
fn service_account(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": super::audit::UID, "creationTimestamp": "2026-10-01T00:00:00Z"}})
}

/// A cluster with grants of several states and standing rights of several kinds.
pub fn some() -> Held {
    let of_kubernetes = binding(
        None,
        "system:controller:job-controller",
        "reader",
        account("kube-system", "job-controller"),
    );
    let mut of_grant = binding(
        Some("payments"),
        "stint-now",
        "reader",
        account("payments", "migrator"),
    );
    of_grant["metadata"]["labels"] = json!({"stint.dev/grant": "uid-now"});
    let mut wide = active("inventory");
    wide["metadata"]["namespace"] = Value::Null;
    wide["spec"]["serviceAccountRef"]["namespace"] = "payments".into();
    Held {
        requests: vec![
            active("now"),
            expired("before"),
            residual(
                "still",
                "payments/migrator still may get secrets, by RoleBinding payments/all",
            ),
            refused("wrong"),
        ],
        wide: vec![wide],
        approvals: vec![
            approval("now-x7", "now", "agreed"),
            approval("other", "gone", "r"),
        ],
        cluster_roles: vec![role(None, "reader", &["get"]), role(None, "owner", &["*"])],
        roles: vec![],
        cluster_bindings: vec![
            binding(None, "everything", "owner", account("ci", "runner")),
            of_kubernetes,
        ],
        bindings: vec![
            binding(
                Some("payments"),
                "all",
                "reader",
                json!({"kind": "Group", "name": "system:serviceaccounts:payments"}),
            ),
            binding(
                Some("payments"),
                "alias",
                "reader",
                json!({"kind": "User", "name": "system:serviceaccount:payments:batch"}),
            ),
            binding(
                Some("payments"),
                "people",
                "owner",
                json!({"kind": "User", "name": "jane"}),
            ),
            binding(
                Some("search"),
                "dangling",
                "gone",
                account("search", "indexer"),
            ),
            of_grant,
        ],
        accounts: vec![service_account("payments", "migrator")],
    }
}

/// As many requests of many namespaces and accounts, with the texts that Stint writes, and a binding for every fifth.
pub fn many(count: usize) -> Held {
    let start: jiff::Timestamp = "2026-09-01T00:00:00Z".parse().unwrap();
    let request = |n: usize| {
        let at = |seconds: i64| {
            let seconds = start.as_second() + seconds;
            jiff::Timestamp::from_second(seconds).unwrap().to_string()
        };
        let n_seconds = i64::try_from(n).unwrap() * 700;
        let mut object = match n % 50 {
            0 => active(&format!("deploy-{n}")),
            1 => residual(
                &format!("deploy-{n}"),
                "still may get secrets, by RoleBinding all",
            ),
            2 => refused(&format!("deploy-{n}")),
            _ => expired(&format!("deploy-{n}")),
        };
        object["metadata"]["namespace"] = format!("team-{}", n % 120).into();
        object["metadata"]["uid"] = format!("7f3a{n:04x}-52c1-4a7e-9d10-{n:012x}").into();
        object["metadata"]["creationTimestamp"] = at(n_seconds).into();
        object["spec"]["serviceAccountRef"]["name"] = format!("worker-{}", n % 7).into();
        object["spec"]["rules"][0]["resourceNames"][0] = format!("service-{}", n % 400).into();
        object["spec"]["reason"] =
            format!("roll out build {} of service-{}", 48_000 + n, n % 400).into();
        object["spec"]["ticket"] = format!("CHG-{}", 10_000 + n).into();
        if object["status"].get("activatedTime").is_some() {
            object["status"]["activatedTime"] = at(n_seconds + 2).into();
            object["status"]["requestedBy"] = format!("person-{}@example.org", n % 90).into();
            object["status"]["approvals"][0]["time"] = at(n_seconds + 1).into();
            object["status"]["risk"] = ["Low", "Medium", "High"][n % 3].into();
        }
        if object["status"].get("endedTime").is_some() {
            let end = at(n_seconds + 1802);
            object["status"]["notAfter"] = end.clone().into();
            object["status"]["endedTime"] = end.clone().into();
            if object["status"]["endReason"] == "Expired" {
                object["status"]["conditions"][0]["message"] =
                    format!("access ended at {end}").into();
            }
        }
        object
    };
    let bound = |n: usize| {
        let namespace = format!("team-{}", n % 120);
        let name = format!("worker-{n}");
        binding(
            Some(&namespace),
            &name,
            "reader",
            account(&namespace, &name),
        )
    };
    let worker =
        |n: usize| service_account(&format!("team-{}", n % 120), &format!("worker-{}", n / 120));
    Held {
        accounts: (0..120 * 7).map(worker).collect(),
        requests: (0..count).map(request).collect(),
        cluster_roles: vec![role(None, "reader", &["get"])],
        bindings: (0..count / 5).map(bound).collect(),
        ..Held::default()
    }
}

/// Rows of a CSV by the names of their columns (RFC 4180).
pub fn csv(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut rows = vec![vec![String::new()]];
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        let row = rows.last_mut().unwrap();
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                row.last_mut().unwrap().push(chars.next().unwrap());
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(String::new()),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'), "lines end with CRLF");
                rows.push(vec![String::new()]);
            }
            c => row.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted, "a quote is open");
    assert_eq!(
        rows.pop(),
        Some(vec![String::new()]),
        "the last line ends too"
    );
    let mut rows = rows.into_iter();
    let heads = rows.next().unwrap();
    rows.map(|row| {
        assert_eq!(row.len(), heads.len(), "{row:?}");
        heads.iter().cloned().zip(row).collect()
    })
    .collect()
}

/// What stands between two texts.
pub fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end}")).0
}

/// Rows of a page by the names of their columns, as its script reads them.
pub fn html(text: &str) -> Vec<BTreeMap<String, String>> {
    let data = between(
        text,
        "<script type=\"application/json\" id=\"data\">",
        "</script>",
    );
    let data: Value = serde_json::from_str(data).unwrap();
    let columns = data["columns"].as_array().unwrap();
    let rows = data["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        let row = row.as_array().unwrap();
        assert!(row.len() <= columns.len());
        let mut before = data["at"].as_i64().unwrap();
        let cells = columns.iter().enumerate().map(|(number, column)| {
            let cell = row.get(number);
            let text = match (
                cell.and_then(Value::as_i64),
                column["time"].as_bool().unwrap(),
            ) {
                (Some(n), true) => {
                    before += n;
                    jiff::Timestamp::from_second(before).unwrap().to_string()
                }
                (Some(n), false) => data["strings"][usize::try_from(n).unwrap()]
                    .as_str()
                    .unwrap()
                    .to_owned(),
                (None, _) => cell.map_or("", |cell| cell.as_str().unwrap()).to_owned(),
            };
            (column["key"].as_str().unwrap().to_owned(), text)
        });
        cells.collect()
    })
    .collect()
}

/// Rows of the table below a heading of a Markdown text, by their heads, with the texts that a reader sees.
pub fn markdown(text: &str, heading: &str) -> Vec<BTreeMap<String, String>> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let mut lines = lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let line = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |"));
        line.unwrap().split(" | ").map(seen).collect()
    };
    let heads = cells(lines.next().unwrap());
    let rows = lines.skip(1).map(|line| {
        let row = cells(line);
        assert_eq!(row.len(), heads.len(), "{line}");
        heads.iter().cloned().zip(row).collect()
    });
    rows.collect()
}

/// A cell as Markdown shows it.
fn seen(cell: &str) -> String {
    let mut text = cell.replace("<code>", "").replace("</code>", "");
    for byte in 0..128u8 {
        text = text.replace(&format!("&#{byte};"), &char::from(byte).to_string());
    }
    text
}
