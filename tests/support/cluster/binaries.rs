//! Where the programs of the control plane are, and building them when they are missing.

use crate::project;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

const PROGRAMS: [&str; 5] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
    "helm",
];

/// With `STINT_TEST_OLDEST=1` the control plane is the oldest version of Kubernetes that the chart takes.
fn oldest() -> bool {
    std::env::var_os("STINT_TEST_OLDEST").is_some_and(|set| set == "1")
}

/// A folder that has every program of [`PROGRAMS`].
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Finds the programs; runs `tests/cluster/build.sh` when one is missing. Fails with what to do about it.
    pub async fn find_or_build() -> Result<Binaries, String> {
        let package = project();
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let built = package.join(target).join("cluster");
        let (folder, parts): (_, &[&str]) = match oldest() {
            true => (built.join("oldest"), &["helm", "oldest"]),
            false => (built.clone(), &["controlplane", "helm"]),
        };
        let binaries = Binaries { folder };
        if binaries.missing().is_none() {
            return Ok(binaries);
        }

        let script = package.join("tests/cluster/build.sh");
        eprintln!(
            "the programs of the test control plane are missing; running {}",
            script.display()
        );
        let status = Command::new(&script)
            .arg(&built)
            .args(parts)
            .stdin(Stdio::null())
            .status()
            .await
            .map_err(|e| format!("cannot run {}: {e}", script.display()))?;
        if !status.success() {
            return Err(format!(
                "{} failed ({status}); its message is above",
                script.display()
            ));
        }
        match binaries.missing() {
            None => Ok(binaries),
            Some(program) => Err(format!(
                "{} did not make {}",
                script.display(),
                binaries.path(program).display()
            )),
        }
    }

    /// The path of one of [`PROGRAMS`].
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    fn missing(&self) -> Option<&'static str> {
        PROGRAMS
            .into_iter()
            .find(|program| !self.path(program).exists())
    }
}
