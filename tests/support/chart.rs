//! The chart as helm renders it. Needs helm, which is built with the programs of the test control plane, and no cluster.

use crate::project;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The version of Kubernetes that the chart is rendered for.
const KUBERNETES: &str = "1.37";

/// A program that `tests/cluster/build.sh` makes; it says for itself what is missing for that.
pub fn program(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let folder = project().join(target).join("cluster");
    let built = Command::new(project().join("tests/cluster/build.sh"))
        .arg(&folder)
        .arg(name)
        .status()
        .unwrap();
    assert!(built.success(), "{name} cannot be built");
    folder.join(name)
}

static HELM: LazyLock<PathBuf> = LazyLock::new(|| program("helm"));

/// Runs helm with values on standard input.
pub fn helm(args: &[&str], values: &str) -> Result<String, String> {
    helm_for(KUBERNETES, args, values)
}

/// The same for a cluster of this version.
pub fn helm_for(kubernetes: &str, args: &[&str], values: &str) -> Result<String, String> {
    let mut child = Command::new(&*HELM)
        .args(args)
        .args(["--kube-version", kubernetes, "--values", "-"])
        .current_dir(project())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Helm may end before it has read everything; what it says then is the answer.
    let _ = stdin.write_all(values.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr) + &text(output.stdout)),
    }
}

/// What helm prints for these values, or why it refuses them.
pub fn rendered(values: &str) -> Result<String, String> {
    let args = [
        "template",
        "stint",
        "charts/stint",
        "--namespace",
        "stint-system",
    ];
    helm(&args, values)
}

pub fn objects(values: &str) -> Vec<Value> {
    let text = rendered(values).unwrap_or_else(|e| panic!("{values}\n{e}"));
    let documents = text.split("\n---\n").map(|d| d.trim_start_matches("---\n"));
    let objects = documents.map(|d| serde_saphyr::from_str::<Value>(d).unwrap());
    objects.filter(Value::is_object).collect()
}

pub fn of_kind(values: &str, kind: &str) -> Vec<Value> {
    let mut all = objects(values);
    all.retain(|object| object["kind"] == kind);
    all
}

pub fn only(values: &str, kind: &str) -> Value {
    let mut all = of_kind(values, kind);
    assert_eq!(all.len(), 1, "{kind}: {all:#?}");
    all.remove(0)
}

pub fn pod(values: &str) -> Value {
    only(values, "Deployment")["spec"]["template"]["spec"].clone()
}

/// The YAML files of a folder, by name.
pub fn files(folder: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(project().join(folder)).unwrap();
    let yaml = |path: &PathBuf| path.extension().is_some_and(|e| e == "yaml");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(yaml).collect();
    paths.sort_unstable();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let read = |path: PathBuf| (name(&path), std::fs::read_to_string(&path).unwrap());
    paths.into_iter().map(read).collect()
}

/// Values of every feature and every preset, by file.
pub fn features_and_presets() -> Vec<(String, String)> {
    let mut all = files("charts/stint/ci");
    let presets = files("charts/stint").into_iter();
    all.extend(presets.filter(|(name, _)| name.starts_with("values-")));
    all
}
