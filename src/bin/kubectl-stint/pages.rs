//! The page of codes, which this program carries with it, and what the catalogue says of each check.

use std::collections::BTreeMap;
use stint::domain::catalogue::{self, Code, Disposition};

/// The page, as it is published.
const PAGE: &str = include_str!("../../../docs/codes.md");

/// Everything that is known of one code.
#[derive(Debug)]
pub struct Entry {
    /// The code.
    pub code: String,
    /// What it is in a few words.
    pub title: String,
    /// What the page says: why, an example, the fix. Some checks of the catalogue look only at objects that have no page.
    pub page: Option<&'static str>,
    /// What the catalogue says; none for `WA-…`.
    pub check: Option<Code>,
}

/// Every code in alphabetical order: those of the page and those of the catalogue.
pub fn entries() -> Vec<Entry> {
    let mut pages: BTreeMap<&str, &'static str> = sections().collect();
    let of_catalogue = catalogue::codes().into_iter().map(|check| Entry {
        code: check.id.to_owned(),
        title: check.title.to_owned(),
        page: pages.remove(check.id),
        check: Some(check),
    });
    let mut all: Vec<Entry> = of_catalogue.collect();
    all.extend(pages.into_iter().map(|(code, text)| Entry {
        code: code.to_owned(),
        title: first_sentence(text),
        page: Some(text),
        check: None,
    }));
    all.sort_by(|a, b| a.code.cmp(&b.code));
    all
}

/// The entry of a code, however it is capitalised.
pub fn entry(code: &str) -> Option<Entry> {
    let of = |entry: &Entry| entry.code.eq_ignore_ascii_case(code);
    entries().into_iter().find(of)
}

/// The codes that are written most like this one, the best first.
pub fn nearest(code: &str) -> Vec<String> {
    const SHOWN: usize = 3;
    let upper = code.to_ascii_uppercase();
    let distance = |entry: &Entry| strsim::osa_distance(&upper, &entry.code);
    let mut all = entries();
    all.sort_by_key(distance);
    all.into_iter()
        .take(SHOWN)
        .map(|entry| entry.code)
        .collect()
}

/// The sections of the page that explain one code each: a heading that is a code, and what follows up to the next heading.
/// In an example a `#` begins a comment.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut headings = Vec::new();
    let (mut at, mut example) = (0, false);
    for line in PAGE.split_inclusive('\n') {
        if line.starts_with("```") {
            example = !example;
        }
        if line.starts_with('#') && !example {
            headings.push((at, line));
        }
        at += line.len();
    }
    let ends: Vec<usize> = headings.iter().skip(1).map(|(at, _)| *at).collect();
    let ends = ends.into_iter().chain([PAGE.len()]);
    headings
        .into_iter()
        .zip(ends)
        .filter_map(|((at, line), end)| {
            let code = line.trim_matches(|c: char| c == '#' || c == '`' || c.is_whitespace());
            let is_code = code.starts_with("OB-") || code.starts_with("WA-");
            let text = PAGE[at + line.len()..end].trim();
            (is_code && !code.contains(' ')).then_some((code, text))
        })
}

/// The first sentence, or what stands before its colon.
fn first_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let prose: Vec<&str> = paragraph
        .lines()
        .take_while(|l| !l.starts_with("```"))
        .collect();
    let prose = prose.join(" ");
    let ends = [prose.find(". "), prose.find(": ")];
    let end = ends.into_iter().flatten().min().unwrap_or(prose.len());
    prose[..end].trim_end_matches('.').to_owned()
}

/// The word for a disposition.
pub fn disposition(check: &Code) -> &'static str {
    match check.disposition {
        Disposition::Never => "never",
        Disposition::Named => "named",
        Disposition::Allowed => "allowed",
    }
}

/// What a disposition means.
pub fn disposition_text(check: &Code) -> &'static str {
    match check.disposition {
        Disposition::Never => "no policy can allow it",
        Disposition::Named => "granted only under a policy that lists it in `allow.findings`",
        Disposition::Allowed => "granted and reported",
    }
}
