//! What `krew/package.sh` makes of a binary. A program in the place of cargo gives it one, so nothing is built here.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::plugin::*;
use support::project;

/// Puts this file where cargo would put the binary.
const CARGO: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
  --bin) name=$2; shift ;;
  --target) triple=$2; shift ;;
  --target-dir) folder=$2; shift ;;
  esac
  shift
done
mkdir -p "$folder/$triple/release"
cp "$BINARY" "$folder/$triple/release/$name"
"#;

/// Packs this file as the plugin, into `packed`.
fn pack(folder: &Folder, binary: &Path) -> Output {
    folder.file("bin/cargo", CARGO);
    let cargo = folder.0.join("bin/cargo");
    std::fs::set_permissions(cargo, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        folder.0.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let script = project().join("krew/package.sh");
    Command::new(script)
        .arg(folder.0.join("packed"))
        .arg("https://downloads.example.com/stint/")
        .env("PATH", path)
        .env("BINARY", binary)
        .env("CARGO_TARGET_DIR", folder.0.join("target"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A program that needs nothing of the machine it runs on.
fn static_program(folder: &Folder) -> std::path::PathBuf {
    folder.file("empty.c", "int main(void) { return 0; }\n");
    let program = folder.0.join("empty");
    let built = Command::new("cc")
        .args(["-static", "-o"])
        .arg(&program)
        .arg(folder.0.join("empty.c"))
        .status();
    assert!(built.unwrap().success());
    program
}

fn text_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// What krew refuses a manifest without (krew `internal/index/validation`).
#[test]
fn the_manifest_has_what_krew_requires_and_names_archives_that_are_there() {
    let folder = Folder::new();
    let output = pack(&folder, &static_program(&folder));
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let packed = folder.0.join("packed");
    let text = std::fs::read_to_string(packed.join("stint.yaml")).unwrap();
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(
        manifest["apiVersion"],
        "krew.googlecontainertools.github.com/v1alpha2"
    );
    assert_eq!(manifest["kind"], "Plugin");
    assert_eq!(manifest["metadata"], json!({"name": "stint"}));
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    for field in ["shortDescription", "description", "homepage"] {
        let text = spec[field].as_str().unwrap();
        assert!(!text.is_empty(), "{field}");
    }
    let short = spec["shortDescription"].as_str().unwrap();
    assert!(short.len() <= 50 && !short.ends_with('.'), "{short}");
    let platforms = spec["platforms"].as_array().unwrap();
    assert!(!platforms.is_empty());
    for platform in platforms {
        let labels = &platform["selector"]["matchLabels"];
        assert_eq!(labels["os"], "linux");
        let uri = platform["uri"].as_str().unwrap();
        let name = uri
            .strip_prefix("https://downloads.example.com/stint/")
            .unwrap();
        assert!(name.contains(labels["arch"].as_str().unwrap()));
        let archive = packed.join(name);
        let sum = text_of(Command::new("sha256sum").arg(&archive));
        assert_eq!(sum.split(' ').next(), platform["sha256"].as_str());

        let files = platform["files"].as_array().unwrap().iter();
        let mut told: Vec<&str> = files.map(|file| file["from"].as_str().unwrap()).collect();
        told.sort_unstable();
        let listed = text_of(Command::new("tar").arg("-tzf").arg(&archive));
        assert_eq!(listed.lines().collect::<Vec<_>>(), told);
        assert!(told.contains(&platform["bin"].as_str().unwrap()));
        let modes = text_of(Command::new("tar").arg("-tvzf").arg(&archive));
        for program in ["kubectl-stint", "kubectl_complete-stint"] {
            let line = modes.lines().find(|line| line.ends_with(program));
            assert!(line.unwrap().starts_with("-rwxr-xr-x "), "{modes}");
        }
    }
}

#[test]
fn a_binary_that_needs_libraries_is_not_packed() {
    let folder = Folder::new();
    let output = pack(&folder, &program());
    assert_eq!(status(&output), 1, "{}", stdout(&output));
    assert!(
        stderr(&output).contains("is not static: it needs libraries"),
        "{}",
        stderr(&output)
    );
    let made = std::fs::read_dir(folder.0.join("packed")).unwrap();
    assert_eq!(made.count(), 0, "nothing is left that could be published");
}
