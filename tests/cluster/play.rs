//! A test cluster to play with: `make cluster`, or `cargo run --example cluster`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use tokio::io::AsyncReadExt;

use support::cluster::{Cluster, User};

#[tokio::main]
async fn main() -> ExitCode {
    println!("starting etcd, kube-apiserver and kube-controller-manager …");
    let cluster = match Cluster::start().await {
        Ok(cluster) => cluster,
        Err(e) => {
            eprintln!("no cluster: {e}");
            return ExitCode::FAILURE;
        }
    };
    describe(&cluster);
    until_told_to_stop().await;
    drop(cluster);
    println!("stopped, and its folder is removed");
    ExitCode::SUCCESS
}

fn describe(cluster: &Cluster) {
    let kubectl = cluster.kubectl(User::Admin);
    println!(
        "kubeconfig: {}\n",
        cluster.kubeconfig(User::Admin).display()
    );
    println!(
        "  export KUBECONFIG={}",
        cluster.kubeconfig(User::Admin).display()
    );
    println!(
        "  alias kubectl={}\n",
        kubectl.as_std().get_program().display()
    );
    println!(
        "API server {}, logs in {}",
        cluster.url(),
        cluster.dir().display()
    );
    println!("people:");
    for user in User::ALL {
        let kubeconfig = cluster.kubeconfig(user);
        println!(
            "  {:<6} group {:<14} KUBECONFIG={}",
            user.name(),
            user.group(),
            kubeconfig.display()
        );
    }
    println!("\nCtrl-C, or the end of standard input, stops it.");
}

async fn until_told_to_stop() {
    let mut ignored = [0; 256];
    let mut stdin = tokio::io::stdin();
    let end_of_input = async { while matches!(stdin.read(&mut ignored).await, Ok(1..)) {} };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = end_of_input => {}
    }
}
