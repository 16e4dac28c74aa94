//! What is taken out of bindings, as files: the way back also when nothing else is left.

use super::entry::Entry;
use crate::bindings::Binding;
use crate::outcome::Failure;
use crate::show;
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Most characters of the name of a binding in the name of its file.
const MAX_NAME: usize = 100;

/// A binding without what only the cluster writes.
pub fn restorable(binding: &Value, namespace: Option<&str>) -> Value {
    let old = &binding["metadata"];
    let mut metadata = json!({"name": old["name"]});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    for field in ["labels", "annotations", "ownerReferences"] {
        if let Some(kept) = old.get(field) {
            metadata[field] = kept.clone();
        }
    }
    json!({
        "apiVersion": binding["apiVersion"], "kind": binding["kind"], "metadata": metadata,
        "roleRef": binding["roleRef"], "subjects": binding["subjects"],
    })
}

/// The file of a binding: its kind, place and name in plain characters, and the version that it was read in, so that the same binding at another
/// time has another.
fn file(folder: &Path, entry: &Entry) -> PathBuf {
    let kind = entry.kind.to_lowercase();
    let place = entry.namespace.as_ref().map(|n| format!("{n}."));
    let place = place.unwrap_or_default();
    let name = plain(&entry.name);
    folder.join(format!(
        "{kind}.{place}{name}.{}.yaml",
        plain(&entry.resource_version)
    ))
}

/// A name as part of the name of a file, which needs no quotes in a shell.
pub fn plain(name: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || "-._".contains(c) => c,
        _ => '-',
    };
    name.chars().take(MAX_NAME).map(plain).collect()
}

/// Writes what is taken out of the binding to its file, for the user alone to read.
pub fn save(folder: &Path, entry: &Entry, binding: &Binding) -> Result<PathBuf, Failure> {
    let file = file(folder, entry);
    let failed = |error: io::Error| {
        let file = show::line(&file.display().to_string());
        Failure::Error(format!(
            "the binding cannot be saved as {file}: {error}; choose another folder with --backup"
        ))
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let text = show::yaml(&binding.own()).map_err(failed)?;
    write(&file, &text).map_err(failed)?;
    Ok(file)
}

/// Under another name first: a file with half of a binding is worse than none.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let half = file.with_extension("yaml.part");
    let mut options = OpenOptions::new();
    let mut out = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&half)?;
    out.set_permissions(Permissions::from_mode(0o600))?;
    let written = out.write_all(text.as_bytes());
    let written = written.and_then(|()| out.sync_all());
    let named = written.and_then(|()| fs::rename(&half, file));
    if named.is_err() {
        let _ = fs::remove_file(&half);
    }
    named
}
