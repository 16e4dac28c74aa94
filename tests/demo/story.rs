//! The steps of the demo.

use std::process::Stdio;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::ListParams;
use tokio::io::AsyncWriteExt;

use crate::terminal::{Step, heading, say, transcript, verdict};
use support::cluster::{User, eventually};
use support::operator::Stint;

const NAMESPACE: &str = "payments";

/// The team's set-up: what a platform team and a security team write once.
const SETUP: &str = include_str!("setup.yaml");

/// Tells the whole story.
pub async fn tell(stint: &'static Stint) -> Vec<Step> {
    let mut story = Story {
        stint,
        steps: Vec::new(),
    };
    story.set_up().await;
    story.refusals().await;
    story.grant().await;
    story.tampering().await;
    story.without_the_operator().await;
    story.steps
}

struct Story {
    stint: &'static Stint,
    steps: Vec<Step>,
}

/// A request of the story, with its variable parts.
fn request(name: &str, verbs: &str, expiry: &str) -> String {
    format!(
        "apiVersion: stint.dev/v1alpha1
kind: WorkloadAccess
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  serviceAccountRef: {{name: migrator}}
  rules:
  - apiGroups: [\"\"]
    resources: [configmaps]
    resourceNames: [billing-settings]
    verbs: {verbs}
  reason: schema change 42
{expiry}"
    )
}

impl Story {
    async fn set_up(&mut self) {
        heading(
            0,
            "A security team writes a policy; a platform team lets Alice use it",
        );
        let (ok, output) = self.apply(User::Admin, SETUP, "setup.yaml").await;
        transcript("admin", "kubectl apply -f setup.yaml", &output);
        // The policy reaches the operator by a watch: a server-side dry run tells when.
        let probe = request("probe", "[get]", "  duration: 10s\n");
        eventually("a good request passes a dry run", async || {
            let args = ["apply", "--dry-run=server", "-f", "-"];
            self.kubectl(User::Alice, &args, &probe)
                .await
                .0
                .then_some(())
        })
        .await;
        self.end("the team is set up", ok);
    }

    async fn refusals(&mut self) {
        let wide = request("wide", "[get, \"*\"]", "  duration: 1h\n");
        self.refused(
            "A request with `*` verbs is refused",
            User::Alice,
            "wide.yaml",
            &wide,
            "OB-W03",
        )
        .await;
        let endless = request("endless", "[get]", "");
        self.refused(
            "A request that would not expire is refused",
            User::Alice,
            "endless.yaml",
            &endless,
            "WA-NO-EXPIRY",
        )
        .await;
        let beyond = request("beyond", "[get, delete]", "  duration: 9h\n");
        self.refused(
            "A request beyond the policy is refused, with every reason at once",
            User::Alice,
            "beyond.yaml",
            &beyond,
            "WA-TOO-LONG",
        )
        .await;
        let other = request("bobs", "[get]", "  duration: 1h\n");
        self.refused(
            "Bob may write requests, but may not use the policy",
            User::Bob,
            "bobs.yaml",
            &other,
            "WA-REQUESTER",
        )
        .await;
    }

    async fn refused(&mut self, title: &str, user: User, file: &str, yaml: &str, code: &str) {
        heading(self.steps.len(), title);
        println!("{}", yaml.trim_end());
        let (ok, output) = self.apply(user, yaml, file).await;
        transcript(user.name(), &format!("kubectl apply -f {file}"), &output);
        self.end(title, !ok && output.contains(code));
    }

    async fn grant(&mut self) {
        let title = "A narrow request is granted: one object, five seconds";
        heading(self.steps.len(), title);
        let yaml = request("migrate-42", "[get]", "  duration: 5s\n");
        println!("{}", yaml.trim_end());
        let (_, output) = self.apply(User::Alice, &yaml, "migrate.yaml").await;
        transcript("alice", "kubectl apply -f migrate.yaml", &output);
        let not_after = self.active("migrate-42").await;
        let (_, output) = self
            .kubectl(User::Alice, &["get", "wa", "-n", NAMESPACE], "")
            .await;
        transcript("alice", "kubectl get wa", &output);
        let (may, neighbour) = (
            self.try_get("billing-settings").await,
            self.try_get("billing-secrets").await,
        );
        self.end(title, may && !neighbour);

        let title = "It ends on time";
        heading(self.steps.len(), title);
        let gone = self.binding_gone().await;
        let late = gone.duration_since(not_after);
        say(&format!(
            "notAfter {not_after}; the binding was gone {} ms later",
            late.as_millis()
        ));
        let still = self.try_get("billing-settings").await;
        self.phase("migrate-42", "Expired").await;
        let (_, output) = self
            .kubectl(User::Alice, &["get", "wa", "-n", NAMESPACE], "")
            .await;
        transcript("alice", "kubectl get wa", &output);
        self.end(
            &format!("{title}: {} ms after its deadline", late.as_millis()),
            !still && late >= SignedDuration::ZERO,
        );
    }

    async fn tampering(&mut self) {
        let title = "A hand-made edit of the managed binding is refused, even to a cluster admin";
        heading(self.steps.len(), title);
        let yaml = request("guarded", "[get]", "  duration: 1h\n");
        self.apply(User::Alice, &yaml, "guarded.yaml").await;
        self.active("guarded").await;
        let name = self.binding().await.unwrap_or_default();
        let patch =
            r#"{"subjects":[{"kind":"ServiceAccount","name":"intruder","namespace":"payments"}]}"#;
        let args = [
            "patch",
            "rolebinding",
            &name,
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            patch,
        ];
        let (ok, output) = self.kubectl(User::Admin, &args, "").await;
        transcript(
            "admin",
            &format!("kubectl patch rolebinding {name} --type=merge -p '{patch}'"),
            &output,
        );
        let (_, output) = self
            .kubectl(
                User::Alice,
                &[
                    "patch",
                    "wa",
                    "guarded",
                    "-n",
                    NAMESPACE,
                    "--type=merge",
                    "-p",
                    r#"{"spec":{"revoked":true}}"#,
                ],
                "",
            )
            .await;
        transcript(
            "alice",
            r#"kubectl patch wa guarded --type=merge -p '{"spec":{"revoked":true}}'"#,
            &output,
        );
        self.phase("guarded", "Revoked").await;
        let (_, listed) = self
            .kubectl(User::Alice, &["get", "wa", "guarded", "-n", NAMESPACE], "")
            .await;
        transcript("alice", "kubectl get wa guarded", &listed);
        self.end(title, !ok && self.binding().await.is_none());
    }

    async fn without_the_operator(&mut self) {
        let title = "The operator is killed, and Kubernetes itself ends the next grant";
        heading(self.steps.len(), title);
        let yaml = request("backstop", "[get]", "  duration: 3s\n");
        let (_, output) = self.apply(User::Alice, &yaml, "backstop.yaml").await;
        transcript(
            "alice",
            "kubectl apply -f backstop.yaml   # duration: 3s",
            &output,
        );
        let not_after = self.active("backstop").await;
        self.stint.kill().await;
        say("the operator got SIGKILL");
        let (_, output) = self
            .kubectl(
                User::Admin,
                &[
                    "get",
                    "jobs,rolebindings",
                    "-n",
                    NAMESPACE,
                    "-l",
                    "stint.dev/grant",
                ],
                "",
            )
            .await;
        transcript(
            "admin",
            "kubectl get jobs,rolebindings -l stint.dev/grant",
            &output,
        );
        let gone = self.binding_gone().await;
        let late = gone.duration_since(not_after);
        say(&format!(
            "notAfter {not_after}; the binding was gone {} ms later, by the Job's deadline and the garbage collector",
            late.as_millis()
        ));
        let still = self.try_get("billing-settings").await;
        self.end(
            &format!("{title}, {:.1} s after its deadline", late.as_secs_f64()),
            !still && late >= SignedDuration::ZERO,
        );
    }

    fn end(&mut self, title: &str, right: bool) {
        verdict(right, title);
        self.steps.push(Step {
            title: title.to_owned(),
            right,
        });
    }

    /// The workload reads a ConfigMap with its own token. Returns whether it could.
    async fn try_get(&self, name: &str) -> bool {
        let token = self
            .stint
            .cluster()
            .service_account_token(NAMESPACE, "migrator")
            .await;
        let kubeconfig = self
            .stint
            .cluster()
            .kubeconfig_for_token("migrator", &token);
        let mut kubectl = self.stint.cluster().kubectl(User::Alice);
        kubectl
            .env("KUBECONFIG", kubeconfig)
            .args(["get", "configmap", name, "-n", NAMESPACE]);
        let output = kubectl
            .output()
            .await
            .unwrap_or_else(|e| panic!("cannot run kubectl: {e}"));
        let text = [output.stdout, output.stderr].concat();
        transcript(
            "migrator",
            &format!("kubectl get configmap {name}"),
            &String::from_utf8_lossy(&text),
        );
        output.status.success()
    }

    async fn apply(&self, user: User, yaml: &str, file: &str) -> (bool, String) {
        let (ok, output) = self.kubectl(user, &["apply", "-f", "-"], yaml).await;
        (ok, output.replace("\"STDIN\"", &format!("{file:?}")))
    }

    async fn kubectl(&self, user: User, args: &[&str], input: &str) -> (bool, String) {
        let mut kubectl = self.stint.cluster().kubectl(user);
        kubectl
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = kubectl
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run kubectl: {e}"));
        if let Some(mut stdin) = child.stdin.take() {
            drop(stdin.write_all(input.as_bytes()).await);
        }
        let output = child
            .wait_with_output()
            .await
            .unwrap_or_else(|e| panic!("kubectl: {e}"));
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// Waits until the request is active; returns its end.
    async fn active(&self, name: &str) -> Timestamp {
        let object = self.phase(name, "Active").await;
        object
            .status
            .and_then(|s| s.not_after)
            .map_or(Timestamp::MAX, |t| t.0)
    }

    async fn phase(&self, name: &str, reason: &str) -> stint::api::WorkloadAccess {
        let api: Api<stint::api::WorkloadAccess> =
            Api::namespaced(self.stint.cluster().admin(), NAMESPACE);
        eventually(&format!("{name} is {reason}"), async || {
            let object = api.get(name).await.ok()?;
            let now = object
                .status
                .as_ref()
                .map(stint::domain::status::ready_reason);
            (now == Some(reason)).then_some(object)
        })
        .await
    }

    async fn binding(&self) -> Option<String> {
        let api: Api<RoleBinding> = Api::namespaced(self.stint.cluster().admin(), NAMESPACE);
        let managed = ListParams::default().labels("stint.dev/grant");
        let found = api.list(&managed).await.ok()?.items;
        found.into_iter().next().and_then(|b| b.metadata.name)
    }

    async fn binding_gone(&self) -> Timestamp {
        let api: Api<RoleBinding> = Api::namespaced(self.stint.cluster().admin(), NAMESPACE);
        let managed = ListParams::default().labels("stint.dev/grant");
        loop {
            let found = api.list(&managed).await;
            if found.is_ok_and(|list| list.items.is_empty()) {
                return Timestamp::now();
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}
