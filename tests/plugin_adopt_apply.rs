//! `kubectl stint adopt --apply` against an API server that fails at one step: whatever fails, the account keeps its rights, and
//! nothing is left behind.

use rstest::rstest;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use support::plugin::*;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const STINT: &str = "/apis/stint.dev/v1alpha1";

/// The steps of a move, each of which can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    RehearseRemoval,
    RehearseReturn,
    Policy,
    Request,
    Activation,
    RoleAsRead,
    Removal,
    RightsWithout,
}

/// A cluster with one binding, and Stint.
struct Fake {
    fails: Step,
    /// The subjects of the binding while it is there.
    bound: Option<Value>,
    policy: Option<Value>,
    request: Option<Value>,
    /// Whether what was taken cannot be put back either.
    stuck: bool,
    /// Told at the first question after the removal.
    removed: Option<std::sync::mpsc::Sender<()>>,
}

fn status(code: u16, message: &str) -> Answer {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Forbidden",
    };
    let body = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
    (code, body, "")
}

fn forbidden(verb: &str) -> Answer {
    status(
        403,
        &format!("rolebindings is forbidden: User \"u\" cannot {verb} resource \"rolebindings\""),
    )
}

fn ok(body: Value) -> Answer {
    (200, body, "")
}

fn list(items: Value) -> Answer {
    ok(
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "9"}, "items": items}),
    )
}

fn ci() -> Value {
    json!({"kind": "ServiceAccount", "name": "ci", "namespace": "payments"})
}

fn bob() -> Value {
    json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"})
}

fn binding(subjects: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "ci-reads", "namespace": "payments", "uid": "11112222-3333", "resourceVersion": "7"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": subjects
    })
}

fn reader(verb: &str) -> Value {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": [verb]}]);
    json!({"metadata": {"name": "reader", "namespace": "payments"}, "rules": rules})
}

fn discovery() -> Value {
    let resource = |name: &str| json!({"resource": name, "scope": "Namespaced", "verbs": ["get"]});
    let group = |name: &str, version: &str, resources: Value| json!({"metadata": {"name": name}, "versions": [{"version": version, "resources": resources}]});
    json!({"apiVersion": "apidiscovery.k8s.io/v2", "kind": "APIGroupDiscoveryList", "metadata": {}, "items": [
        group("", "v1", json!([resource("configmaps")])),
        group("stint.dev", "v1alpha1", json!([resource("workloadaccesses")])),
    ]})
}

impl Fake {
    fn answer(&mut self, asked: &str) -> Answer {
        let mut words = asked.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = asked.split_once("\r\n\r\n").unwrap().1;
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let dry_run = query.contains("dryRun=All") || body["dryRun"][0] == "All";
        if let Some(rest) = path.strip_prefix(RBAC) {
            return self.rbac(method, rest, &body, dry_run);
        }
        match path.strip_prefix(STINT) {
            Some(rest) => self.stint(method, rest, body),
            None => self.others(method, path, &body),
        }
    }

    fn others(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        match (method, path) {
            ("GET", "/api" | "/apis") => ok(discovery()),
            ("GET", "/api/v1/namespaces/payments/serviceaccounts") => {
                list(json!([{"metadata": {"name": "ci", "namespace": "payments"}}]))
            }
            ("GET", "/api/v1/namespaces/payments/serviceaccounts/ci") => {
                ok(json!({"metadata": {"name": "ci", "namespace": "payments"}}))
            }
            ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews") => {
                let holds = self.holds();
                let allowed = holds.is_some();
                if !self.is_bound()
                    && let Some(told) = self.removed.take()
                {
                    // Whoever waits for it acts before the answer.
                    told.send(()).unwrap();
                }
                let status = json!({"allowed": allowed, "reason": holds.unwrap_or_default()});
                ok(
                    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": body["spec"], "status": status}),
                )
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_bound(&self) -> bool {
        let subjects = self.bound.iter().flat_map(|b| b.as_array().unwrap());
        subjects.into_iter().any(|subject| *subject == ci())
    }

    /// In the words of the authorizer, which take the first binding that gives a right.
    fn holds(&self) -> Option<&'static str> {
        let granted = self.request.is_some() && self.fails != Step::RightsWithout;
        match (self.is_bound(), granted) {
            (true, _) => Some(
                r#"RBAC: allowed by RoleBinding "ci-reads/payments" of Role "reader" to ServiceAccount "ci/payments""#,
            ),
            (false, true) => Some(
                r#"RBAC: allowed by RoleBinding "stint-x/payments" of Role "stint-x" to ServiceAccount "ci/payments""#,
            ),
            (false, false) => None,
        }
    }

    fn rbac(&mut self, method: &str, path: &str, body: &Value, dry_run: bool) -> Answer {
        let one = "/namespaces/payments/rolebindings/ci-reads";
        match (method, path) {
            ("GET", "/clusterrolebindings" | "/clusterroles") => list(json!([])),
            ("GET", "/namespaces/payments/roles") => list(json!([reader("get")])),
            ("GET", "/namespaces/payments/roles/reader") => {
                ok(reader(if self.fails == Step::RoleAsRead {
                    "list"
                } else {
                    "get"
                }))
            }
            ("GET", "/namespaces/payments/rolebindings") => {
                list(self.bound.iter().map(binding).collect())
            }
            ("GET", path) if path == one => {
                let there = self.bound.as_ref().map(binding);
                there.map_or_else(|| status(404, "not found"), ok)
            }
            ("POST", _) if dry_run && self.fails == Step::RehearseReturn => status(
                403,
                "admission webhook \"guard\" denied the request: WA-STANDING",
            ),
            ("POST", _) if dry_run => ok(body.clone()),
            ("POST", _) if self.stuck => forbidden("create"),
            ("POST", _) => {
                assert_eq!(body["metadata"]["name"], "ci-reads");
                self.bound = Some(body["subjects"].clone());
                ok(body.clone())
            }
            ("DELETE" | "PATCH", path) if path == one => self.remove(method, body, dry_run),
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is taken out of a binding that changed.
    fn remove(&mut self, method: &str, body: &Value, dry_run: bool) -> Answer {
        match (dry_run, self.fails) {
            (true, Step::RehearseRemoval) => return forbidden(&method.to_lowercase()),
            (false, Step::Removal) => return status(409, "the object has been modified"),
            _ => {}
        }
        if method == "DELETE" {
            let conditions = json!({"uid": "11112222-3333", "resourceVersion": "7"});
            assert_eq!(body["preconditions"], conditions);
            if !dry_run {
                self.bound = None;
            }
            return ok(json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}));
        }
        let mut object = binding(self.bound.as_ref().unwrap());
        let patch: json_patch::Patch = serde_json::from_value(body.clone()).unwrap();
        assert!(body.to_string().contains("/metadata/resourceVersion"));
        json_patch::patch(&mut object, &patch).unwrap();
        if !dry_run {
            self.bound = Some(object["subjects"].clone());
        }
        ok(object)
    }

    fn stint(&mut self, method: &str, path: &str, body: Value) -> Answer {
        let policies = path.starts_with("/accesspolicies");
        let refused = match policies {
            true => self.fails == Step::Policy,
            false => self.fails == Step::Request,
        };
        let state = match self.fails {
            Step::Activation => "PendingApproval",
            _ => "Active",
        };
        let kept = match policies {
            true => &mut self.policy,
            false => &mut self.request,
        };
        let lists = [
            "/namespaces/payments/workloadaccesses",
            "/clusterworkloadaccesses",
        ];
        match method {
            "GET" if lists.contains(&path) => list(json!([])),
            "GET" => kept.clone().map_or_else(|| status(404, "not found"), ok),
            "POST" if refused => {
                let name = body["metadata"]["name"].as_str().unwrap();
                status(
                    403,
                    &format!("admission webhook denied the request: policy '{name}' says no"),
                )
            }
            "POST" => {
                let mut made = body;
                made["metadata"]["uid"] = "44445555-6666".into();
                if !policies {
                    made["status"] = json!({"notAfter": "2099-01-01T00:00:00Z", "conditions": [{
                        "type": "Ready", "status": "True", "reason": state, "message": "m", "lastTransitionTime": "2026-12-01T12:00:00Z"}]});
                }
                *kept = Some(made.clone());
                ok(made)
            }
            "DELETE" => {
                assert_eq!(body["preconditions"]["uid"], "44445555-6666");
                *kept = None;
                ok(json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}))
            }
            other => panic!("{other} {path}"),
        }
    }
}

struct Case {
    folder: Folder,
    fake: Arc<Mutex<Fake>>,
    subjects: Value,
}

impl Case {
    fn new(fails: Step, subjects: Value) -> Case {
        let fake = Arc::new(Mutex::new(Fake {
            fails,
            bound: Some(subjects.clone()),
            policy: None,
            request: None,
            stuck: false,
            removed: None,
        }));
        let folder = Folder::new();
        let shared = Arc::clone(&fake);
        api_server_that(&folder, move |asked| shared.lock().unwrap().answer(asked));
        Case {
            folder,
            fake,
            subjects,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command
            .current_dir(&self.folder.0)
            .env("KUBECONFIG", self.folder.0.join("kubeconfig"))
            .args(["adopt", "--serviceaccount", "ci", "--apply"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn apply(&self) -> Output {
        self.command()
            .args(["--yes", "--timeout", "1s"])
            .output()
            .unwrap()
    }

    /// The binding binds whom it bound, and neither policy nor request is there.
    fn is_as_it_was(&self, output: &Output) {
        let fake = self.fake.lock().unwrap();
        let told = stdout(output) + &stderr(output);
        let bound = fake.bound.as_ref().unwrap_or_else(|| panic!("{told}"));
        let holds = |subject: &Value| bound.as_array().unwrap().contains(subject);
        assert!(
            self.subjects.as_array().unwrap().iter().all(holds),
            "{told}"
        );
        assert_eq!(
            bound.as_array().unwrap().len(),
            self.subjects.as_array().unwrap().len()
        );
        assert_eq!((&fake.policy, &fake.request), (&None, &None), "{told}");
    }

    fn backups(&self) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(self.folder.0.join("stint-adopt"));
        files
            .into_iter()
            .flatten()
            .map(|file| file.unwrap().path())
            .collect()
    }
}

#[rstest]
#[case::alone(json!([ci()]))]
#[case::beside_bob(json!([bob(), ci()]))]
fn the_grant_takes_the_place_of_the_binding(#[case] subjects: Value) {
    let case = Case::new(Step::Nothing, subjects.clone());
    let output = case.apply();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let told = stdout(&output);
    assert!(
        told.contains("checked 1 right: payments/ci has all of them"),
        "{told}"
    );
    let fake = case.fake.lock().unwrap();
    let left = subjects.as_array().unwrap().contains(&bob());
    assert_eq!(fake.bound, left.then(|| json!([bob()])));
    assert!(fake.policy.is_some() && fake.request.is_some());
    let backups = case.backups();
    let [file] = &backups[..] else {
        panic!("{backups:?}");
    };
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let saved: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(
        (&saved["subjects"], &saved["metadata"]["uid"]),
        (&json!([ci()]), &Value::Null),
        "what was taken, and nobody else"
    );
}

#[rstest]
fn whatever_fails_everything_is_put_back(
    #[values(
        Step::RehearseRemoval,
        Step::RehearseReturn,
        Step::Policy,
        Step::Request,
        Step::Activation,
        Step::RoleAsRead,
        Step::Removal,
        Step::RightsWithout
    )]
    fails: Step,
    #[values(json!([ci()]), json!([bob(), ci()]))] subjects: Value,
) {
    let case = Case::new(fails, subjects);
    let output = case.apply();
    let told = stdout(&output) + &stderr(&output);
    // What the user may not do is told before anything is done, as of every command.
    let (status, ending) = match fails {
        Step::RehearseRemoval => (2, "nothing was changed"),
        Step::RehearseReturn | Step::Policy => (1, "nothing was changed"),
        _ => (1, "everything is as it was"),
    };
    assert_eq!(output.status.code(), Some(status), "{told}");
    case.is_as_it_was(&output);
    assert!(told.contains(ending), "{told}");
    let why = match fails {
        Step::RehearseRemoval => "may not",
        Step::RehearseReturn => "could not be put back, so it is not removed",
        Step::Policy | Step::Request => "says no",
        Step::Activation => "is PendingApproval",
        Step::RoleAsRead => "Role reader or the account was changed meanwhile",
        Step::Removal => "it is not as it was read any more",
        Step::RightsWithout => "lacks 1 right: get configmaps 'settings'",
        Step::Nothing => unreachable!(),
    };
    assert!(told.contains(why), "{told}");
}

#[test]
fn interrupted_after_the_removal_everything_is_put_back() {
    let case = Case::new(Step::RightsWithout, json!([ci()]));
    let (told, removed) = std::sync::mpsc::channel();
    case.fake.lock().unwrap().removed = Some(told);
    // Long enough for the signal to come first.
    let child = case.command().args(["--yes", "--timeout", "1h"]).spawn();
    let child = child.unwrap();
    removed
        .recv_timeout(std::time::Duration::from_secs(60))
        .expect("the binding is removed");
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    case.is_as_it_was(&output);
}

#[test]
fn what_cannot_be_put_back_is_named_with_the_way_to_do_it() {
    let case = Case::new(Step::RightsWithout, json!([ci()]));
    case.fake.lock().unwrap().stuck = true;
    let output = case.apply();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("this could not be put back"), "{told}");
    assert!(told.contains("RoleBinding payments/ci-reads"), "{told}");
    assert!(told.contains("kubectl auth reconcile -f"), "{told}");
    assert_eq!(case.backups().len(), 1);
    let fake = case.fake.lock().unwrap();
    let stays = fake.policy.is_some() && fake.request.is_some();
    assert!(stays, "the grant is all that the account has: {told}");
}

/// As in `| head`: stdout and stderr are closed when the first line comes.
#[test]
fn a_reader_who_leaves_stops_nothing_halfway() {
    let case = Case::new(Step::RightsWithout, json!([ci()]));
    let mut child = case
        .command()
        .args(["--yes", "--timeout", "1s"])
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let status = child.wait().unwrap();
    assert_ne!(status.code(), Some(0));
    let nothing = Output {
        status,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    case.is_as_it_was(&nothing);
}

#[test]
fn nobody_is_moved_without_a_word() {
    let case = Case::new(Step::Nothing, json!([ci()]));
    let output = case.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--yes"), "{}", stderr(&output));
    case.is_as_it_was(&output);
    assert!(case.backups().is_empty());
}

#[test]
fn a_binding_that_cannot_be_saved_stays() {
    let case = Case::new(Step::Nothing, json!([ci()]));
    case.folder
        .file("stint-adopt", "a file, where a folder is to be");
    let output = case.apply();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--backup"), "{}", stderr(&output));
    case.is_as_it_was(&output);
}

#[test]
fn a_second_run_finds_nothing_to_move() {
    let case = Case::new(Step::Nothing, json!([ci()]));
    assert_eq!(case.apply().status.code(), Some(0));
    let output = case.apply();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("ci has no standing binding here"));
}

/// A run that was killed left policy and request: the next one goes on with them, and takes neither away when it fails.
#[rstest]
#[case(Step::Nothing, Some(0))]
#[case(Step::Removal, Some(2))]
fn a_run_goes_on_where_another_was_killed(#[case] fails: Step, #[case] status: Option<i32>) {
    let case = Case::new(Step::Nothing, json!([ci()]));
    assert_eq!(case.apply().status.code(), Some(0));
    {
        let mut fake = case.fake.lock().unwrap();
        fake.bound = Some(json!([ci()]));
        fake.fails = fails;
    }
    let output = case.apply();
    assert_eq!(output.status.code(), status, "{}", stderr(&output));
    let told = stdout(&output);
    assert!(told.contains("is there"), "{told}");
    let fake = case.fake.lock().unwrap();
    assert_eq!(fake.bound.is_some(), status == Some(2));
    assert!(fake.policy.is_some() && fake.request.is_some(), "{told}");
}

#[test]
fn another_policy_of_the_name_is_not_taken_for_ours() {
    let case = Case::new(Step::Nothing, json!([ci()]));
    assert_eq!(case.apply().status.code(), Some(0));
    {
        let mut fake = case.fake.lock().unwrap();
        fake.bound = Some(json!([ci()]));
        fake.request = None;
        let policy = fake.policy.as_mut().unwrap();
        policy["spec"]["limits"]["maxDuration"] = "720h".into();
    }
    let output = case.apply();
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(told.contains("is there and says something else"), "{told}");
    assert!(case.fake.lock().unwrap().bound.is_some());
}
