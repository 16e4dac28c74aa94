//! `make demo`: the main job on a real Kubernetes API server, told step by step, each with the command a user would type
//! and its real output. Exits with 0 only if every step came out as told.

mod story;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use support::cluster::{Cluster, User};
use support::operator::Stint;
use terminal::say;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("\nthe demo cannot go on: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many steps did not come out as told.
async fn run() -> Result<usize, String> {
    let operator = operator_program()?;
    say("starting a Kubernetes control plane (etcd, kube-apiserver, kube-controller-manager) …");
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await?));
    say("helm install stint charts/stint --namespace stint-system --create-namespace …");
    let stint: &'static Stint =
        Box::leak(Box::new(Stint::install(cluster, &operator, false).await?));
    say("starting the operator as its own ServiceAccount, with the chart's rights and no others …");
    stint.start().await;
    let outcome = tokio::select! {
        outcome = story::tell(stint) => outcome,
        _ = tokio::signal::ctrl_c() => return Err("interrupted".into()),
    };
    let failed = terminal::summary(&outcome);
    if std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0") {
        keep(cluster).await;
    }
    // Both are leaked for their lifetime's sake; what they started ends with this process (see `cluster::process`).
    Ok(failed)
}

async fn keep(cluster: &Cluster) {
    let kubeconfig = cluster.kubeconfig(User::Admin);
    say(&format!(
        "kept running; stop with Ctrl-C\n\n  export KUBECONFIG={}\n",
        kubeconfig.display()
    ));
    for user in User::ALL {
        println!(
            "  {:<6} {}",
            user.name(),
            cluster.kubeconfig(user).display()
        );
    }
    drop(tokio::signal::ctrl_c().await);
}

/// `stint`, beside the folder of this example.
fn operator_program() -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let folder = me.parent().and_then(|examples| examples.parent());
    let program = folder.map(|f| f.join("stint")).filter(|p| p.exists());
    program.ok_or_else(|| "the operator is not built; run `make demo`".into())
}
