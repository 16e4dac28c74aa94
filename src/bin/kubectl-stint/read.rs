//! Files, folders and stdin to objects with their places. Hostile input ends in an error, within bounds.

use crate::tree::{Node, Tree};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes of one file or of stdin.
const MAX_BYTES: u64 = 64 << 20;
/// Most values in one file, aliases expanded; a dump of a large cluster stays below.
const MAX_NODES: usize = 4_000_000;
/// Most documents in one file.
const MAX_DOCUMENTS: usize = 100_000;
/// Most values that aliases may repeat.
const MAX_REPEATED: usize = 100_000;
/// Deepest nesting. Kubernetes' own kinds stay below 30.
const MAX_DEPTH: usize = 64;

/// One object of the input.
#[derive(Debug)]
pub struct Object {
    /// The file as it was named, `<stdin>` for stdin.
    pub file: String,
    /// Its fields.
    pub node: Node,
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
    /// Whether it is judged, or only known while others are.
    pub judged: bool,
}

impl Object {
    /// Its namespace, if it says one.
    pub fn namespace(&self) -> Option<&str> {
        self.node.get("metadata")?.text("namespace")
    }

    /// Its name, or the beginning of the name that it will get.
    pub fn name(&self) -> &str {
        let metadata = self.node.get("metadata");
        let of = |field| metadata.and_then(|metadata| metadata.text(field));
        of("name")
            .or_else(|| of("generateName"))
            .unwrap_or_default()
    }

    /// Its API group; empty for core.
    pub fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }
}

/// What could be read, and what could not.
#[derive(Debug, Default)]
pub struct Input {
    /// The objects, in the order of the input.
    pub objects: Vec<Object>,
    /// One line each, with the place.
    pub failures: Vec<String>,
}

impl Input {
    /// Adds all objects of a file, of every manifest below a folder, or of stdin for `-`.
    pub fn add(&mut self, source: &str, judged: bool) {
        if source == "-" {
            let bytes = bounded(std::io::stdin().lock(), MAX_BYTES);
            return self.add_bytes("<stdin>", bytes, judged);
        }
        let path = Path::new(source);
        if !path.is_dir() {
            let bytes = file(path);
            return self.add_bytes(source, bytes, judged);
        }
        match manifests(path) {
            Ok(files) if files.is_empty() => self.failures.push(format!(
                "{source}: no file in it ends in .yaml, .yml or .json"
            )),
            Ok(files) => {
                for path in files {
                    self.add_bytes(&path.display().to_string(), file(&path), judged);
                }
            }
            Err(error) => self.failures.push(format!("{source}: {error}")),
        }
    }

    /// Adds all objects of a text; `name` stands for the file.
    pub fn add_text(&mut self, name: &str, text: &str) {
        self.add_bytes(name, Ok(text.as_bytes().to_vec()), true);
    }

    fn add_bytes(&mut self, file: &str, bytes: std::io::Result<Vec<u8>>, judged: bool) {
        match bytes.map_err(|e| e.to_string()).and_then(|b| documents(&b)) {
            Ok(documents) => {
                for document in documents {
                    self.add_document(file, document, judged, None);
                }
            }
            Err(error) => self.failures.push(format!("{file}: {error}")),
        }
    }

    /// `list_of` is what the items of a typed list are when they do not say so themselves.
    fn add_document(
        &mut self,
        file: &str,
        node: Node,
        judged: bool,
        list_of: Option<(&str, &str)>,
    ) {
        let said = |field| node.text(field).map(str::to_owned);
        let api_version = said("apiVersion").or_else(|| list_of.map(|(version, _)| version.into()));
        let kind = said("kind").or_else(|| list_of.map(|(_, kind)| kind.into()));
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            let line = node.line;
            return self.failures.push(format!(
                "{file}:{line}: not a Kubernetes object: it has no `apiVersion` or no `kind`"
            ));
        };
        if !is_list(&node, &kind) {
            return self.objects.push(Object {
                file: file.to_owned(),
                node,
                api_version,
                kind,
                judged,
            });
        }
        let item_kind = kind.strip_suffix("List").unwrap_or_default();
        let list_of = (!item_kind.is_empty()).then_some((api_version.as_str(), item_kind));
        for item in items(node) {
            self.add_document(file, item, judged, list_of);
        }
    }
}

fn is_list(node: &Node, kind: &str) -> bool {
    let items = node.get("items").map(|items| &items.tree);
    kind.ends_with("List") && matches!(items, Some(Tree::List(_)))
}

fn items(list: Node) -> Vec<Node> {
    let Tree::Fields(fields) = list.tree else {
        return Vec::new();
    };
    let items = fields.into_iter().find(|(name, _)| name == "items");
    match items.map(|(_, items)| items.tree) {
        Some(Tree::List(items)) => items,
        _ => Vec::new(),
    }
}

/// All bytes of a file, which is not larger than what a program of this kind is given.
pub fn file(path: &Path) -> std::io::Result<Vec<u8>> {
    bounded(File::open(path)?, MAX_BYTES)
}

/// All bytes of a source, or an error if there are more than `most`, a number of whole MiB.
pub fn bounded(source: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("larger than {} MiB", most >> 20);
        return Err(std::io::Error::other(message));
    }
    Ok(bytes)
}

/// Every document of a YAML stream; JSON is YAML. Empty documents are left out.
fn documents(bytes: &[u8]) -> Result<Vec<Node>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        format!("line {line}: not UTF-8 text")
    })?;
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_documents: MAX_DOCUMENTS,
            max_recorded_anchor_events: MAX_REPEATED,
        },
    };
    serde_saphyr::from_multiple_with_options(text.trim_start_matches('\u{feff}'), options)
        .map_err(|error| one_line(&error.to_string()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The manifests below a folder, sorted; hidden files and folders are left out.
fn manifests(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let is_manifest = path
                .extension()
                .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
            // A link to a folder could lead back here.
            match entry.file_type()? {
                _ if hidden => {}
                kind if kind.is_dir() => folders.push(path),
                _ if is_manifest => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}
