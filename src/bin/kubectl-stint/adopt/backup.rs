//! Bindings as files: the way back also when nothing else is left.

use super::entry::Entry;
use crate::outcome::Failure;
use crate::show;
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// The file of a binding: its kind, place and name, and the beginning of its UID, so that a later binding of the same name
/// has another.
pub fn file(folder: &Path, entry: &Entry) -> PathBuf {
    let kind = entry.kind.to_lowercase();
    let uid: String = entry.uid.chars().take(8).collect();
    let place = entry.namespace.as_ref().map(|n| format!("{n}."));
    // A name of a binding holds neither `/` nor `%` (apimachinery `pkg/api/validation/path`).
    let name = format!(
        "{kind}.{}{}.{uid}.yaml",
        place.unwrap_or_default(),
        entry.name
    );
    folder.join(name)
}

/// Writes the binding to its file, for the user alone to read. One that is there already holds the binding as it was before
/// the first try, and stays.
pub fn save(folder: &Path, entry: &Entry) -> Result<PathBuf, Failure> {
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
    if !file.exists() {
        let text = show::yaml(&entry.restore).map_err(failed)?;
        write(&file, &text).map_err(failed)?;
    }
    Ok(file)
}

/// Under another name first: a file with half of a binding is worse than none.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let half = file.with_extension("yaml.part");
    let _ = fs::remove_file(&half);
    let mut options = OpenOptions::new();
    let mut out = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all());
    let named = written.and_then(|()| fs::rename(&half, file));
    if named.is_err() {
        let _ = fs::remove_file(&half);
    }
    named
}
