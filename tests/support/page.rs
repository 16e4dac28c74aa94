//! The page of codes as data: its entries, their examples, and the codes that a text names.

use crate::project;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn text() -> String {
    std::fs::read_to_string(project().join("docs/codes.md")).unwrap()
}

/// The entries of the page: code and text.
pub fn entries() -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for section in text().split("\n### ").skip(1) {
        let (code, text) = section.split_once('\n').unwrap();
        let text = text.split("\n## ").next().unwrap_or_default();
        let double = entries.insert(code.to_owned(), text.to_owned());
        assert!(double.is_none(), "{code} has two entries");
    }
    entries
}

/// The request that the page changes, and the policy that admits it.
pub fn request_and_policy() -> (Value, Value) {
    let page = text();
    let mut blocks = blocks(page.split("\n## ").next().unwrap_or_default()).into_iter();
    (blocks.next().unwrap(), blocks.next().unwrap())
}

/// The YAML blocks of a text.
pub fn blocks(text: &str) -> Vec<Value> {
    text.split("```yaml\n")
        .skip(1)
        .map(|rest| serde_saphyr::from_str(rest.split("```").next().unwrap_or_default()).unwrap())
        .collect()
}

/// The codes that a text names: `WA-` and words in capitals, or `OB-`, a letter and two digits.
pub fn codes_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["WA-", "OB-"] {
        for (at, _) in text.match_indices(prefix) {
            let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
            let code: String = text[at..].chars().take_while(|c| word(*c)).collect();
            let code = code.trim_end_matches('-');
            let whole = !text[..at].ends_with(word);
            let digits = code.bytes().filter(u8::is_ascii_digit).count();
            // `OB-E07a`, the only half of a check with a code of its own.
            let half = prefix == "OB-" && text[at + code.len()..].starts_with("a ");
            let half = half || text[at + code.len()..].starts_with("a\n");
            let code = if half {
                format!("{code}a")
            } else {
                code.to_owned()
            };
            if whole && code.len() > prefix.len() && (prefix == "WA-" || digits == 2) {
                found.insert(code);
            }
        }
    }
    found
}
