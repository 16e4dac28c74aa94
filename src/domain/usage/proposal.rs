//! The smallest rules that cover what an account used: every verb by name, on single objects where these are few, in the
//! namespaces where it was used. Nothing is covered twice, so nothing can be left out.

use crate::domain::catalogue::{self, Scope};
use crate::domain::plain::scope_of;
use crate::domain::rules::{self, Rule, allows};
use crate::domain::usage::tally::{Account, Key};
use crate::domain::usage::uses::{Entry, MAX_NAMES};
use std::collections::{BTreeMap, BTreeSet};

/// Longest lists of a rule of a request.
const MAX_LIST: usize = 32;
/// Most verbs and API groups of one.
const MAX_WORDS: usize = 16;

/// How rules are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most names of one right; with more, it is proposed on every object.
    pub max_names: usize,
    /// Resources, as rules write them, that are proposed on every object.
    pub without_names: Vec<String>,
    /// Also what every account may do anyway.
    pub basic: bool,
    /// Also what was refused.
    pub refused: bool,
}

/// The rules for one account.
#[derive(Debug, Default)]
pub struct Proposal {
    /// By namespace; the whole cluster is the empty one and comes first.
    pub places: BTreeMap<String, Vec<Rule>>,
    /// Rights that were used and that no policy can allow.
    pub never: Vec<Never>,
    /// Rights that are proposed on every object because there were more names than wanted, or such that no rule can hold.
    pub widened: Vec<Widened>,
    /// Requests for what every account may do anyway.
    pub basic: u64,
}

/// A right that no policy can allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Never {
    /// Namespace, or empty.
    pub place: String,
    /// The right.
    pub rule: Rule,
    /// Why, by codes of the catalogue.
    pub codes: Vec<&'static str>,
}

/// A right on every object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widened {
    /// Namespace, or empty.
    pub place: String,
    /// The verb.
    pub verb: String,
    /// The resource as kubectl writes it.
    pub resource: String,
    /// How many names there were; none for more than are kept.
    pub names: Option<usize>,
    /// Whether one of them has a form that no request can hold, such as `https:dashboard:`.
    pub unlistable: bool,
}

/// On which objects.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    These(BTreeSet<String>),
}

type Rights<'a> = BTreeMap<Key<'a>, Names>;

/// The rules for what the account used.
pub fn propose(account: &Account, options: &Options) -> Proposal {
    let mut out = Proposal::default();
    let mut rights = Rights::new();
    let denied = if options.refused {
        account.denied()
    } else {
        Vec::new()
    };
    for (key, entry) in account.used().into_iter().chain(denied) {
        if !options.basic && is_basic(&key) {
            out.basic += entry.requests();
            continue;
        }
        let names = names(&key, entry, options, &mut out.widened);
        let known = rights.entry(key).or_insert(Names::These(BTreeSet::new()));
        *known = either(known, names);
    }
    // First, so that nothing is left out for the sake of what cannot be granted.
    set_aside(&mut rights, &mut out.never);
    withdraw_covered(&mut rights);
    for (place, rules) in by_place(&rights) {
        out.places
            .insert(place.to_owned(), fitted(rules::canonical(&rules)));
    }
    out
}

fn either(a: &Names, b: Names) -> Names {
    match (a, b) {
        (Names::These(a), Names::These(b)) => Names::These(a.union(&b).cloned().collect()),
        _ => Names::All,
    }
}

fn names(key: &Key<'_>, entry: &Entry, options: &Options, widened: &mut Vec<Widened>) -> Names {
    if key.is_path()
        || entry.nameless
        || options
            .without_names
            .iter()
            .any(|resource| resource == key.target)
    {
        return Names::All;
    }
    let limit = options.max_names.min(MAX_NAMES);
    let unlistable = !entry.names.keys().all(|name| can_be_listed(name));
    if !entry.many && !unlistable && entry.names.len() <= limit {
        return Names::These(entry.names.keys().map(|name| name.to_string()).collect());
    }
    widened.push(Widened {
        place: key.place.to_owned(),
        verb: key.verb.to_owned(),
        resource: super::granted::target(key),
        names: (!entry.many).then_some(entry.names.len()),
        unlistable,
    });
    Names::All
}

/// The form of names in a request; `https:dashboard:`, which a proxy takes, is none.
fn can_be_listed(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
    ends(name.chars().next()) && ends(name.chars().last()) && name.bytes().all(inner)
}

/// Whether a name ends as Kubernetes ends those that it makes (`k8s.io/apimachinery/pkg/util/rand`): the next object will have
/// another one.
pub fn looks_generated(name: &str) -> bool {
    let made = |end: &str| {
        let letters = |b: u8| b"bcdfghjklmnpqrstvwxz2456789".contains(&b);
        end.len() == 5 && end.bytes().all(letters)
    };
    name.rsplit_once('-').is_some_and(|(_, end)| made(end))
}

/// Their paths; each also with a slash at the end, or more below `/api`, `/apis` and `/openapi`.
const BASIC_PATHS: [&str; 9] = [
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/readyz",
    "/openapi",
    "/version",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
];

/// What the default bindings of Kubernetes give to every account (`system:basic-user`, `system:discovery`,
/// `system:public-info-viewer` and `system:service-account-issuer-discovery` in `bootstrappolicy/policy.go`).
fn is_basic(key: &Key<'_>) -> bool {
    if key.is_path() {
        let below = ["/api/", "/apis/", "/openapi/"];
        let known = BASIC_PATHS.contains(&key.target.trim_end_matches('/'));
        return key.verb == "get"
            && (known || below.iter().any(|stem| key.target.starts_with(stem)));
    }
    let own = matches!(
        (key.group, key.target),
        (
            "authorization.k8s.io",
            "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
        ) | ("authentication.k8s.io", "selfsubjectreviews")
    );
    own && key.verb == "create"
}

/// What holds in the whole cluster holds in each namespace.
fn withdraw_covered(rights: &mut Rights<'_>) {
    let wide: Rights<'_> = rights
        .iter()
        .filter(|(key, _)| key.place.is_empty())
        .map(|(k, n)| (*k, n.clone()))
        .collect();
    rights.retain(|key, names| {
        if key.place.is_empty() {
            return true;
        }
        match (wide.get(&Key { place: "", ..*key }), names) {
            (None, _) => true,
            (Some(Names::All), _) => false,
            (Some(Names::These(_)), Names::All) => true,
            (Some(Names::These(wide)), Names::These(own)) => {
                own.retain(|name| !wide.contains(name));
                !own.is_empty()
            }
        }
    });
}

fn scope(place: &str) -> Scope<'_> {
    match place {
        "" => Scope::Cluster,
        namespace => scope_of(namespace),
    }
}

/// Takes out what no policy can allow.
fn set_aside(rights: &mut Rights<'_>, never: &mut Vec<Never>) {
    let mut found: BTreeMap<(&str, Vec<&'static str>), Vec<Rule>> = BTreeMap::new();
    rights.retain(|key, names| {
        let rule = rule(key, names);
        let violations =
            catalogue::violations(std::slice::from_ref(&rule), "rules", true, scope(key.place));
        let mut codes: Vec<&'static str> =
            violations.iter().map(|violation| violation.code).collect();
        codes.sort_unstable();
        codes.dedup();
        let can_be = codes.is_empty();
        if !can_be {
            found.entry((key.place, codes)).or_default().push(rule);
        }
        can_be
    });
    for ((place, codes), rules) in found {
        let rules = rules::canonical(&rules).into_iter();
        never.extend(rules.map(|rule| Never {
            place: place.to_owned(),
            rule,
            codes: codes.clone(),
        }));
    }
}

fn by_place<'a>(rights: &Rights<'a>) -> BTreeMap<&'a str, Vec<Rule>> {
    let mut out: BTreeMap<&str, Vec<Rule>> = BTreeMap::new();
    for (key, names) in rights {
        out.entry(key.place).or_default().push(rule(key, names));
    }
    out
}

fn rule(key: &Key<'_>, names: &Names) -> Rule {
    let verbs = vec![key.verb.to_owned()];
    if key.is_path() {
        return Rule {
            verbs,
            non_resource_urls: vec![key.target.to_owned()],
            ..Rule::default()
        };
    }
    Rule {
        api_groups: vec![key.group.to_owned()],
        resources: vec![key.target.to_owned()],
        resource_names: match names {
            Names::All => Vec::new(),
            Names::These(names) => names.iter().cloned().collect(),
        },
        verbs,
        non_resource_urls: Vec::new(),
    }
}

/// The same rules with lists no longer than a request may have.
fn fitted(rules: Vec<Rule>) -> Vec<Rule> {
    let lists: [(List, usize); 5] = [
        (|rule| &mut rule.api_groups, MAX_WORDS),
        (|rule| &mut rule.resources, MAX_LIST),
        (|rule| &mut rule.resource_names, MAX_NAMES),
        (|rule| &mut rule.verbs, MAX_WORDS),
        (|rule| &mut rule.non_resource_urls, MAX_LIST),
    ];
    let split_all = |rules: Vec<Rule>, (list, size): (List, usize)| {
        let parts = rules.into_iter().flat_map(|rule| split(rule, list, size));
        parts.collect()
    };
    lists.into_iter().fold(rules, split_all)
}

type List = fn(&mut Rule) -> &mut Vec<String>;

fn split(mut rule: Rule, list: List, size: usize) -> Vec<Rule> {
    let all = std::mem::take(list(&mut rule));
    let part = |words: &[String]| {
        let mut part = rule.clone();
        *list(&mut part) = words.to_vec();
        part
    };
    match all.is_empty() {
        true => vec![rule],
        false => all.chunks(size).map(part).collect(),
    }
}

/// Whether the rules of the proposal allow a use, as the authorizer would in that place.
pub fn covers(proposal: &Proposal, key: &Key<'_>, name: &str) -> bool {
    let of = |place: &str| proposal.places.get(place).into_iter().flatten();
    let mut reaching = of("").chain(of(key.place));
    reaching.any(|rule| allows(rule, &key.request(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubernetes_makes_are_known_by_their_end() {
        assert!(looks_generated("billing-api-6d4c9b7f5-xk2lp"));
        assert!(!looks_generated("billing-api") && !looks_generated("xk2lp"));
        assert!(!looks_generated("settings-a") && !looks_generated("team-alpha"));
    }

    #[test]
    fn lists_are_no_longer_than_a_request_may_have() {
        let words = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>();
        let rule = Rule {
            api_groups: words(17),
            resources: words(70),
            verbs: words(33),
            ..Rule::default()
        };
        let parts = fitted(vec![rule.clone()]);
        assert_eq!(parts.len(), 2 * 3 * 3);
        assert_eq!(rules::atoms(&parts), rules::atoms(&[rule]));
        assert!(
            parts
                .iter()
                .all(|r| r.resources.len() <= MAX_LIST && r.verbs.len() <= MAX_WORDS)
        );
    }
}
