//! The page of codes: complete, with nothing too much, and with examples that do what it says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use stint::domain::catalogue::{self, Code, Disposition, Scope, Severity};
use support::examples::{SCOPES, findings, in_scope, is_binding, judged, rules_of, triggered};
use support::page::{blocks, codes_in, entries};
use support::project;

/// The check that looks at where a request holds and at what is served, and so is not seen in rules alone.
const BY_PLACE: &str = "OB-W07";

/// Every file below a folder that ends in one of these.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|e| path.to_string_lossy().ends_with(e)) {
            found.push(path);
        }
    }
    found
}

/// What the product can say today: literals in the sources without their tests and comments, what the catalogue holds,
/// and the messages of the chart's admission policies.
fn known() -> BTreeSet<String> {
    let ids = catalogue::codes()
        .into_iter()
        .map(|code| code.id.to_owned());
    let mut all: BTreeSet<String> = ids.collect();
    for file in files(&project().join("src"), &[".rs"]) {
        let source = std::fs::read_to_string(file).unwrap();
        let product = source.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = product
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"));
        all.extend(lines.flat_map(codes_in));
    }
    for file in files(&project().join("charts/stint/templates"), &[".yaml"]) {
        all.extend(codes_in(&std::fs::read_to_string(file).unwrap()));
    }
    all
}

#[test]
fn every_code_has_an_entry_and_every_entry_a_code() {
    let documented: BTreeSet<String> = entries().into_keys().collect();
    assert_eq!(known(), documented);
}

#[test]
fn every_entry_shows_what_triggers_it_and_what_to_do_instead() {
    for (code, text) in entries() {
        assert!(text.contains("```"), "{code} has no example");
        assert!(text.contains("\n**Instead:** "), "{code} leaves one alone");
    }
}

#[test]
fn every_code_is_triggered_by_a_test() {
    let own = ["docs.rs", "support/page.rs", "support/examples.rs"];
    let own = own.map(|file| project().join("tests").join(file));
    let mut mentioned: BTreeSet<String> = BTreeSet::new();
    for file in files(&project().join("tests"), &[".rs", ".yaml"]) {
        if !own.contains(&file) {
            mentioned.extend(codes_in(&std::fs::read_to_string(file).unwrap()));
        }
    }
    let untested: Vec<String> = known().difference(&mentioned).cloned().collect();
    assert!(untested.is_empty(), "{untested:?}");
}

#[test]
fn the_request_of_the_page_is_granted() {
    assert_eq!(judged("", ""), []);
}

#[tokio::test(start_paused = true)]
async fn each_example_triggers_its_code() {
    for (code, text) in entries() {
        let codes = triggered(&code, &text).await;
        let reported = catalogue::code(&code).and_then(|check| check.reported_as);
        let hit = codes.contains(&code) || reported.is_some_and(|other| codes.contains(other));
        assert!(hit, "{code}: {codes:?}");
    }
}

#[test]
fn a_check_that_is_reported_under_another_code_names_that_code() {
    let entries = entries();
    let mut checked = 0;
    for check in catalogue::codes() {
        let Some(other) = check.reported_as else {
            continue;
        };
        let named = entries[check.id].contains(&format!("`{other}`"));
        assert!(named && entries.contains_key(other), "{}", check.id);
        checked += 1;
    }
    assert!(checked > 0);
}

/// The scopes in which an example triggers its code. One that is no rule and no binding does so wherever the catalogue
/// says.
fn scopes(check: &Code, text: &str) -> Vec<(Scope<'static>, Severity)> {
    let examples = blocks(text);
    let by_catalogue = examples
        .iter()
        .any(|e| is_binding(e) || rules_of(e).is_some());
    let by_catalogue = by_catalogue && check.id != BY_PLACE;
    let fires = |scope: &Scope<'_>| !by_catalogue || in_scope(text, *scope).contains(&check.id);
    let fired = SCOPES.into_iter().filter(fires);
    fired
        .filter_map(|scope| Some((scope, check.severity.within(scope)?)))
        .collect()
}

fn severity_sentence(scopes: &[(Scope<'_>, Severity)]) -> String {
    let word = |severity: &Severity| format!("{severity:?}").to_lowercase();
    if let [(_, first), rest @ ..] = scopes
        && rest.len() == 2
        && rest.iter().all(|(_, severity)| severity == first)
    {
        return format!("Severity: {} everywhere.", word(first));
    }
    let place = |scope: &Scope<'_>| match scope {
        Scope::Namespace(_) => "in a namespace",
        Scope::PrivilegedNamespace(_) => "in a privileged namespace",
        Scope::Cluster => "in the cluster",
    };
    let parts = scopes
        .iter()
        .map(|(s, sev)| format!("{} {}", word(sev), place(s)));
    format!("Severity: {}.", parts.collect::<Vec<_>>().join(", "))
}

#[test]
fn an_entry_says_in_which_scope_it_counts_and_how_much() {
    let entries = entries();
    for check in catalogue::codes() {
        let text = &entries[check.id];
        let scopes = scopes(&check, text);
        let expected = severity_sentence(&scopes);
        assert!(
            text.contains(&format!("\n{expected}\n")),
            "{}: {expected}",
            check.id
        );
        let dead = text.contains("Only in the cluster: dead through a RoleBinding.");
        let only_cluster = matches!(scopes.as_slice(), [(Scope::Cluster, _)]);
        let expected = only_cluster && check.id != BY_PLACE;
        assert_eq!(dead, expected, "{}", check.id);
    }
}

const NEVER: &str = "Never granted.";
const NEVER_BY_ITS_HALVES: &str = "Never granted, because neither half is.";
const NAMED: &str = "Granted only by a policy that lists it in `allow.findings`.";
const ALLOWED: &str = "Granted, and named in the status.";
const ALWAYS_ERROR: &str = "`kubectl stint lint` always says error.";
const BY_SEVERITY: &str = "`kubectl stint lint` says error or warning, by severity.";

/// What the entry of a check must say of who can allow it.
fn who_can_allow(check: &Code, found: &[catalogue::Finding]) -> Option<&'static str> {
    let of_bindings = check.id.starts_with("OB-B");
    let combination = check.id.starts_with("OB-C");
    let never = found.iter().any(|f| f.disposition == Disposition::Never);
    match check.disposition {
        Disposition::Never if of_bindings => Some(ALWAYS_ERROR),
        _ if of_bindings => Some(BY_SEVERITY),
        Disposition::Named if combination && never => Some(NEVER_BY_ITS_HALVES),
        Disposition::Never => Some(NEVER),
        Disposition::Named => Some(NAMED),
        Disposition::Allowed => Some(ALLOWED),
    }
}

#[test]
fn an_entry_says_who_can_allow_it_as_the_catalogue_does() {
    let entries = entries();
    let all = [
        NEVER,
        NEVER_BY_ITS_HALVES,
        NAMED,
        ALLOWED,
        ALWAYS_ERROR,
        BY_SEVERITY,
    ];
    for check in catalogue::codes() {
        let text = &entries[check.id];
        let rules: Vec<_> = blocks(text).iter().filter_map(rules_of).flatten().collect();
        let found: Vec<_> = SCOPES
            .into_iter()
            .flat_map(|s| findings(&rules, s))
            .collect();
        let said: Vec<&str> = all.into_iter().filter(|s| text.contains(s)).collect();
        let expected: Vec<&str> = who_can_allow(&check, &found).into_iter().collect();
        assert_eq!(said, expected, "{}", check.id);
        let differs =
            |f: &catalogue::Finding| f.id == check.id && f.disposition != check.disposition;
        let unnamed = text.contains("Without `resourceNames` never granted.");
        assert_eq!(unnamed, found.iter().any(differs), "{}", check.id);
    }
}

#[rstest::rstest]
fn every_test_that_a_page_names_exists(
    #[values(
        "architecture",
        "audit",
        "chart",
        "failures",
        "guard",
        "lifecycle",
        "operations",
        "standards",
        "threat-model"
    )]
    page: &str,
) {
    let page = std::fs::read_to_string(project().join(format!("docs/{page}.md"))).unwrap();
    let named: BTreeSet<(&str, &str)> = page
        .split('`')
        .filter_map(|word| word.split_once(".rs::"))
        .collect();
    assert!(!named.is_empty(), "{named:?}");
    for (file, test) in named {
        let source = std::fs::read_to_string(project().join(format!("{file}.rs"))).unwrap();
        assert!(source.contains(&format!("fn {test}(")), "{file}: {test}");
    }
}
