//! Checks on the words of a rule: sizes, readable text, wildcards by name, patterns that do not mean what they seem to.
//!
//! The same things that CEL on `WorkloadAccess` refuses are refused here in the same words, because rules also come
//! from roles, which nobody else checks.

use crate::domain::catalogue::Scope;
use crate::domain::rules::{ALL, MAX_ATOMS, Rule, atoms};
use crate::domain::violation::{Problem, Violation};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Most rules of one grant.
pub const MAX_RULES: usize = 64;
/// Most elements of one list of a rule.
pub const MAX_ITEMS: usize = 64;
/// Most bytes of one element.
pub const MAX_TEXT: usize = 253;
/// Code of text that a person cannot read as it is.
pub const UNREADABLE: &str = "WA-NAME";

/// The checks of the catalogue that are written here.
#[cfg(test)]
pub(crate) const CHECKS: [&str; 11] = [
    "OB-W01", "OB-W02", "OB-W03", "OB-W04", "OB-W05", "OB-W06", "OB-R01", "OB-R02", "OB-R03",
    "OB-R04", "OB-R05",
];

/// Where the rules stand in the object that a person wrote.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) base: &'a str,
    pub(crate) indexed: bool,
}

impl Place<'_> {
    pub(crate) fn rule(&self, rule: usize) -> String {
        match self.indexed {
            true => format!("{}[{rule}]", self.base),
            false => self.base.to_owned(),
        }
    }

    fn list(&self, rule: usize, list: &str) -> String {
        match self.indexed {
            true => format!("{}[{rule}].{list}", self.base),
            false => self.base.to_owned(),
        }
    }

    pub(crate) fn element(&self, rule: usize, list: &str, element: usize) -> String {
        match self.indexed {
            true => format!("{}[{rule}].{list}[{element}]", self.base),
            false => self.base.to_owned(),
        }
    }
}

fn too_many(path: String, found: usize, message: String) -> Violation {
    Violation::new("OB-R05", path, Problem::TooMany, message).found(found.to_string())
}

/// More rules than a grant can have.
pub(crate) fn too_many_rules(base: &str, found: usize) -> Option<Violation> {
    let message = || format!("must have at most {MAX_RULES} rules");
    (found > MAX_RULES).then(|| too_many(base.to_owned(), found, message()))
}

/// The rules of a request, unread.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Outline<'a> {
    #[serde(borrow)]
    spec: SpecOutline<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SpecOutline<'a> {
    #[serde(borrow)]
    rules: Option<Vec<&'a RawValue>>,
}

/// What of a request is far too large, found without reading it: nobody has held it to the schema yet.
pub(crate) fn oversized(request: &str) -> Vec<Violation> {
    let outline: Outline<'_> = serde_json::from_str(request).unwrap_or_default();
    let rules = outline.spec.rules.unwrap_or_default();
    if let Some(violation) = too_many_rules("spec.rules", rules.len()) {
        return vec![violation];
    }
    let at = Place {
        base: "spec.rules",
        indexed: true,
    };
    let mut out = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        // What has other shapes is told by whoever reads it.
        let lists: BTreeMap<String, Vec<IgnoredAny>> =
            serde_json::from_str(rule.get()).unwrap_or_default();
        let too_long = lists.iter().filter(|(_, list)| list.len() > MAX_ITEMS);
        out.extend(too_long.map(|(name, list)| too_many_items(at, i, name, list.len())));
    }
    out
}

fn too_many_items(at: Place<'_>, rule: usize, name: &str, found: usize) -> Violation {
    let message = format!("must have at most {MAX_ITEMS} `{name}` in one rule");
    too_many(at.list(rule, name), found, message)
}

/// Sizes above the limits. Cheap, and to be asked before anything that walks the product of the lists.
pub(crate) fn too_large(rules: &[Rule], at: Place<'_>) -> Vec<Violation> {
    if let Some(violation) = too_many_rules(at.base, rules.len()) {
        return vec![violation];
    }
    let mut out = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        for (name, list) in lists(rule) {
            if list.len() > MAX_ITEMS {
                out.push(too_many_items(at, i, name, list.len()));
            }
        }
    }
    let atoms = atoms(rules);
    if out.is_empty() && atoms > MAX_ATOMS {
        let message = format!(
            "must expand to at most {MAX_ATOMS} combinations of group, resource, name and verb"
        );
        out.push(too_many(at.base.to_owned(), atoms, message));
    }
    out
}

/// Whether the rules are small enough to walk the product of their lists.
pub fn fits(rules: &[Rule]) -> bool {
    let nowhere = Place {
        base: "",
        indexed: false,
    };
    too_large(rules, nowhere).is_empty()
}

/// Each element of one rule that is unreadable, a wildcard, or inert while it looks live.
pub(crate) fn check(
    rule: &Rule,
    index: usize,
    at: Place<'_>,
    scope: Scope<'_>,
    out: &mut Vec<Violation>,
) {
    if is(&rule.verbs, ALL) && is(&rule.resources, ALL) {
        out.push(Violation::new(
            "OB-W01",
            at.rule(index),
            Problem::Invalid,
            "must list verbs and resources by name; `*` for both is every right there is",
        ));
    }
    for (name, list) in lists(rule) {
        for (j, text) in distinct(list) {
            let finding = match unreadable(text) {
                None if text.contains(ALL) && names_may_be_patterns(rule, name, scope) => None,
                None => wrong_word(name, text, scope),
                unreadable => unreadable,
            };
            if let Some((code, message)) = finding {
                let path = at.element(index, name, j);
                out.push(Violation::new(code, path, Problem::Invalid, message).found(text));
            }
        }
    }
}

/// The elements of a list with their index, each value once.
pub(crate) fn distinct(list: &[String]) -> impl Iterator<Item = (usize, &str)> {
    list.iter()
        .enumerate()
        .filter(|(i, text)| !list[..*i].contains(text))
        .map(|(i, text)| (i, text.as_str()))
}

fn lists(rule: &Rule) -> [(&'static str, &[String]); 5] {
    [
        ("apiGroups", &rule.api_groups),
        ("resources", &rule.resources),
        ("resourceNames", &rule.resource_names),
        ("verbs", &rule.verbs),
        ("nonResourceURLs", &rule.non_resource_urls),
    ]
}

fn is(list: &[String], word: &str) -> bool {
    list.iter().any(|x| x == word)
}

type Finding = Option<(&'static str, &'static str)>;

/// Look-alike letters and control characters make a rule read as what it is not.
fn unreadable(text: &str) -> Finding {
    if text.len() > MAX_TEXT {
        return Some(("OB-R05", "must have at most 253 bytes"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Some((UNREADABLE, "must be printable ASCII without spaces"));
    }
    None
}

/// The two places where `*` in a name means more than the letter: `signers` (`<domain>/*`, in the certificates' own
/// authorization) and the impersonation of the node that a pod runs on. Both are cluster-scoped.
fn names_may_be_patterns(rule: &Rule, list: &str, scope: Scope<'_>) -> bool {
    let patterned =
        is(&rule.resources, "signers") || is(&rule.verbs, "impersonate:associated-node");
    list == "resourceNames" && scope == Scope::Cluster && patterned
}

fn wrong_word(list: &str, text: &str, scope: Scope<'_>) -> Finding {
    match list {
        "apiGroups" => wrong_group(text),
        "resources" => wrong_resource(text),
        "resourceNames" => wrong_name(text),
        "verbs" => wrong_verb(text),
        "nonResourceURLs" if scope == Scope::Cluster => wrong_url(text),
        _ => None,
    }
}

fn wrong_group(group: &str) -> Finding {
    if group == ALL {
        return Some(("OB-W04", "must list API groups by name"));
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    (!group.bytes().all(plain)).then_some((
        "OB-R03",
        "must be an API group by name in lower case, as in `apps`; nothing matches this one",
    ))
}

/// Upper case and `_` stay legal: metrics APIs serve resources and subresources named after metrics.
fn wrong_resource(resource: &str) -> Finding {
    if resource == ALL {
        return Some(("OB-W02", "must list resources by name"));
    }
    let any_parent = resource.strip_prefix("*/").filter(|sub| !sub.is_empty());
    if any_parent.is_some_and(|sub| !sub.contains('*')) {
        return Some((
            "OB-W05",
            "must list subresources by name, as in `deployments/scale`",
        ));
    }
    if resource.contains('*') {
        return Some((
            "OB-R03",
            "must list subresources by name, as in `deployments/scale`; nothing matches this one",
        ));
    }
    // The keys of `userextras` are the only subresources that contain a slash.
    let deep = resource.matches('/').count() > 1 && !resource.starts_with("userextras/");
    (deep || resource.split('/').any(str::is_empty)).then_some((
        "OB-R03",
        "must be a resource, or a subresource as in `deployments/scale`; nothing matches this one",
    ))
}

fn wrong_url(url: &str) -> Finding {
    url.contains('*').then_some((
        "OB-W06",
        "must list paths in full; `*` at the end reaches every path below",
    ))
}

/// In a namespace `*` is never a wildcard in names: `signers` and node impersonation, where it is, are cluster-scoped.
fn wrong_name(name: &str) -> Finding {
    if name.is_empty() {
        return Some((
            "OB-R01",
            "must not contain an empty name, which matches every request without a name",
        ));
    }
    name.contains('*').then_some((
        "OB-R02",
        "must list names; `*` is no wildcard here, omit `resourceNames` to mean all",
    ))
}

/// Verbs are compared letter by letter, so `Get` is not `get`. Custom verbs in lower case are legal and the ceiling's business.
fn wrong_verb(verb: &str) -> Finding {
    if verb == ALL {
        return Some(("OB-W03", "must list verbs by name"));
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-:".contains(&b);
    (verb.is_empty() || !verb.bytes().all(plain)).then_some((
        "OB-R04",
        "must be a verb in lower case, as in `get`; nothing matches this one",
    ))
}
