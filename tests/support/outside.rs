//! A program outside of the cluster that works with the rights of a grant, by `kubectl stint exec`.

use std::path::PathBuf;
use tokio::process::Child;

use super::cluster::{User, eventually};
use super::command;
use super::team::Team;

/// The program, and a copy of the kubeconfig that it was given.
pub struct Outside {
    /// It ends with 42 at SIGTERM.
    pub running: Child,
    /// The copy.
    pub kubeconfig: PathBuf,
}

impl Outside {
    /// Starts it as a user with the rights of this grant, and waits until it has its kubeconfig.
    pub async fn start(team: &Team, user: User, grant: &str) -> Outside {
        let cluster = team.stint.cluster();
        let kubeconfig = cluster
            .dir()
            .join(format!("copy-{}-{grant}", team.namespace));
        let script = format!(
            "cp $KUBECONFIG {0}.part; trap 'echo told; exit 42' TERM; mv {0}.part {0}; while :; do sleep 0.05; done",
            kubeconfig.display()
        );
        let namespace = team.namespace.as_str();
        let args = ["exec", grant, "-n", namespace, "--", "sh", "-c", &script];
        let running = command::start(cluster, user, &args);
        eventually("the command runs", async || {
            kubeconfig.exists().then_some(())
        })
        .await;
        Outside {
            running,
            kubeconfig,
        }
    }

    /// What `kubectl get configmap settings` says with that kubeconfig.
    pub async fn get_settings(&self, team: &Team) -> String {
        let mut kubectl = team.stint.cluster().kubectl(User::Carol);
        kubectl
            .env("KUBECONFIG", &self.kubeconfig)
            .args(["get", "configmap", "settings"]);
        let output = kubectl.output().await.unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }

    /// Waits until the API server does not even know any more whose the token is.
    pub async fn token_is_dead(&self, team: &Team) {
        eventually("the token is not accepted any more", async || {
            let text = self.get_settings(team).await;
            (text.contains("Unauthorized") || text.contains("must be logged in")).then_some(())
        })
        .await;
    }
}
