//! Kubernetes' own test tables, run against Stint's rule algebra. Origin and licence: `corpora/README.md`.

#[path = "support/naive_covers.rs"]
mod naive_covers;

use k8s_openapi::api::rbac::v1::Subject;
use naive_covers::as_set;
use serde::Deserialize;
use stint::domain::covers::Ceiling;
use stint::domain::rules::{Request, Rule, allows, applies_to, canonical};

#[derive(Deserialize)]
struct CoverTables {
    covers: Vec<CoverCase>,
    #[serde(rename = "nonResourceURLCovers")]
    urls: Vec<UrlCase>,
}

#[derive(Deserialize)]
struct CoverCase {
    name: String,
    owner: Vec<Rule>,
    servant: Vec<Rule>,
    covered: bool,
    uncovered: Vec<Rule>,
}

#[derive(Deserialize)]
struct UrlCase {
    owner: String,
    requested: String,
    want: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizerTables {
    rule_matches: Vec<RuleCase>,
    applies_to: Vec<SubjectCase>,
}

#[derive(Deserialize)]
struct RuleCase {
    name: String,
    rule: Rule,
    requests: Vec<RequestRow>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RequestRow {
    resource_request: bool,
    verb: String,
    api_group: String,
    resource: String,
    subresource: String,
    path: String,
    expect: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubjectCase {
    case: String,
    subjects: Vec<Subject>,
    user: String,
    groups: Vec<String>,
    namespace: String,
    applies_to: bool,
    index: usize,
}

fn cover_tables() -> CoverTables {
    serde_json::from_str(include_str!("corpora/upstream/upstream-covers.json")).unwrap()
}

fn authorizer_tables() -> AuthorizerTables {
    serde_json::from_str(include_str!("corpora/upstream/upstream-authorizer.json")).unwrap()
}

#[test]
fn coverage_agrees_with_upstream_to_the_last_right() {
    let cases = cover_tables().covers;
    assert_eq!(cases.len(), 23);
    for case in cases {
        let ceiling = Ceiling::compile(&case.owner);
        assert_eq!(ceiling.covers(&case.servant), case.covered, "{}", case.name);
        let uncovered = ceiling.uncovered(&case.servant);
        assert_eq!(as_set(&uncovered), as_set(&case.uncovered), "{}", case.name);
        let naive = naive_covers::uncovered(&case.owner, &case.servant);
        assert_eq!(as_set(&naive), as_set(&case.uncovered), "{}", case.name);
    }
}

#[test]
fn urls_are_covered_as_upstream_says() {
    let cases = cover_tables().urls;
    assert_eq!(cases.len(), 14);
    let on = |url: &str| Rule {
        verbs: vec!["get".into()],
        non_resource_urls: vec![url.into()],
        ..Rule::default()
    };
    for case in cases {
        let covered = Ceiling::compile(&[on(&case.owner)]).covers(&[on(&case.requested)]);
        assert_eq!(covered, case.want, "{} {}", case.owner, case.requested);
    }
}

#[test]
fn a_rule_allows_what_the_authorizer_allows() {
    let mut rows = 0;
    for case in authorizer_tables().rule_matches {
        let canonical = canonical(std::slice::from_ref(&case.rule));
        for row in &case.requests {
            let request = request(row);
            let name = &case.name;
            assert_eq!(allows(&case.rule, &request), row.expect, "{name}: {row:?}");
            let same = canonical.iter().any(|rule| allows(rule, &request));
            assert_eq!(same, row.expect, "{name}, canonical: {row:?}");
            rows += 1;
        }
    }
    assert_eq!(rows, 70);
}

fn request(row: &RequestRow) -> Request<'_> {
    if row.resource_request {
        Request::Resource {
            verb: &row.verb,
            group: &row.api_group,
            resource: &row.resource,
            subresource: &row.subresource,
            name: "",
        }
    } else {
        Request::Path {
            verb: &row.verb,
            path: &row.path,
        }
    }
}

#[test]
fn subjects_match_as_in_the_authorizer() {
    let cases = authorizer_tables().applies_to;
    assert_eq!(cases.len(), 9);
    for case in cases {
        let matching = case
            .subjects
            .iter()
            .position(|s| applies_to(s, &case.namespace, &case.user, &case.groups));
        let expected = case.applies_to.then_some(case.index);
        assert_eq!(matching, expected, "{}", case.case);
    }
}
