//! What is taken out of bindings, as files: the way back also when nothing else is left.

use super::entry::Entry;
use crate::bindings::Binding;
use crate::outcome::Failure;
use crate::{show, whole};
use serde_json::{Value, json};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Who is bound to what is nobody else's to read.
const MODE: u32 = 0o600;
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
    let written = whole::write(&file, MODE, |out| write!(out, "{text}"));
    written.map_err(failed)?;
    Ok(file)
}
