//! What the comments of the chart's `values.yaml` say: `# -- …` what a value is for, `# @schema {…}` what it can be.

use crate::project;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the comments above one key say.
#[derive(Debug, Default)]
pub struct Comment {
    /// What it is for.
    pub meaning: Option<String>,
    /// Keywords of JSON Schema beyond what the default tells.
    pub schema: Option<Value>,
}

pub fn folder() -> PathBuf {
    project().join("charts/stint")
}

pub fn text() -> String {
    std::fs::read_to_string(folder().join("values.yaml")).unwrap()
}

pub fn values() -> Value {
    serde_saphyr::from_str(&text()).unwrap()
}

/// The comments, by the path of the key below them.
pub fn comments() -> BTreeMap<String, Comment> {
    let mut found = BTreeMap::new();
    let mut path: Vec<String> = Vec::new();
    let mut above = Comment::default();
    for line in text().lines() {
        let content = line.trim_start();
        let depth = (line.len() - content.len()) / 2;
        if let Some(meaning) = content.strip_prefix("# -- ") {
            let twice = above.meaning.replace(meaning.to_owned());
            assert_eq!(twice, None, "two for one key: {line}");
        } else if let Some(schema) = content.strip_prefix("# @schema ") {
            let schema = serde_saphyr::from_str(schema).unwrap_or_else(|e| panic!("{line}: {e}"));
            let twice = above.schema.replace(schema);
            assert_eq!(twice, None, "two for one key: {line}");
        } else if let Some((key, _)) = content.split_once(':')
            && key.bytes().all(|b| b.is_ascii_alphabetic())
        {
            path.truncate(depth);
            path.push(key.to_owned());
            let comment = std::mem::take(&mut above);
            if comment.meaning.is_some() || comment.schema.is_some() {
                found.insert(path.join("."), comment);
            }
        }
    }
    let left = above.meaning.is_some() || above.schema.is_some();
    assert!(!left, "for no key: {above:?}");
    found
}
