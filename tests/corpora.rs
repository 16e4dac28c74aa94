//! Other projects' verdicts, run against Stint: Kubernetes' own test tables against the rule algebra, and KubeHound's
//! attacks against the catalogue. Origin and licence: `corpora/README.md`.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, Subject};
use rstest::rstest;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use stint::domain::catalogue::{Disposition, Scope, explain, findings, violations};
use stint::domain::covers::Ceiling;
use stint::domain::patterns::Patterns;
use stint::domain::rules::{Request, Rule, allows, applies_to, canonical};
use support::naive_covers;
use support::naive_covers::as_set;
use support::project;

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

/// What KubeHound's test cluster gives one account: the file, the rules and the namespace of the binding, if it has one.
struct Attack {
    file: String,
    rules: Vec<Rule>,
    namespace: Option<String>,
}

impl Attack {
    fn scope(&self) -> Scope<'_> {
        self.namespace
            .as_deref()
            .map_or(Scope::Cluster, Scope::Namespace)
    }

    /// The checks that stand in the way of a grant of these rights, with the resources that they name.
    fn refused(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let scope = self.scope();
        let mut all = violations(&self.rules, "rules", true, scope);
        for finding in findings(Patterns::of(&self.rules), scope) {
            if finding.disposition == Disposition::Named {
                all.extend(explain(finding.id, &self.rules, "rules", true, scope));
            }
        }
        let mut by_code: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for violation in all {
            by_code
                .entry(violation.code)
                .or_default()
                .extend(violation.found);
        }
        by_code
    }

    /// Whether the account can hand out a role that it does not hold: write a binding, and `bind` a role that this kind
    /// of binding can name. A ClusterRoleBinding names ClusterRoles only.
    fn binds_roles(&self) -> bool {
        let refused = self.refused();
        let names = |code: &str, resource: &str| {
            refused
                .get(code)
                .is_some_and(|resources| resources.contains(resource))
        };
        let (writes, binds) = (|kind| names("OB-E04", kind), |kind| names("OB-E02", kind));
        (writes("rolebindings") && (binds("roles") || binds("clusterroles")))
            || (writes("clusterrolebindings") && binds("clusterroles"))
    }
}

/// KubeHound's attack set-ups by account.
fn attacks() -> BTreeMap<String, Attack> {
    let folder = project().join("tests/corpora/kubehound/test/setup/test-cluster/attacks");
    let mut roles = BTreeMap::new();
    let mut bindings = vec![];
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            match object["kind"].as_str().unwrap() {
                "Role" => {
                    let role: Role = serde_json::from_value(object).unwrap();
                    let key = (role.metadata.namespace, role.metadata.name.unwrap());
                    roles.insert(key, role.rules.unwrap());
                }
                "ClusterRole" => {
                    let role: ClusterRole = serde_json::from_value(object).unwrap();
                    roles.insert((None, role.metadata.name.unwrap()), role.rules.unwrap());
                }
                "RoleBinding" => {
                    let binding: RoleBinding = serde_json::from_value(object).unwrap();
                    let namespace = binding.metadata.namespace;
                    bindings.push((name.clone(), namespace, binding.role_ref, binding.subjects));
                }
                "ClusterRoleBinding" => {
                    let binding: ClusterRoleBinding = serde_json::from_value(object).unwrap();
                    bindings.push((name.clone(), None, binding.role_ref, binding.subjects));
                }
                "ServiceAccount" | "Pod" => {}
                other => panic!("{name}: {other}"),
            }
        }
    }
    let mut attacks = BTreeMap::new();
    for (file, namespace, role, subjects) in bindings {
        let of = namespace.clone().filter(|_| role.kind == "Role");
        let rules: Vec<Rule> = roles[&(of, role.name)].iter().map(Rule::from).collect();
        for subject in subjects.unwrap() {
            let attack = Attack {
                file: file.clone(),
                rules: rules.clone(),
                namespace: namespace.clone(),
            };
            assert!(
                attacks.insert(subject.name, attack).is_none(),
                "one binding each"
            );
        }
    }
    attacks
}

#[test]
fn accounts_that_can_hand_out_roles_are_told_from_those_that_cannot() {
    let attacks = attacks();
    let role_bind = attacks
        .iter()
        .filter(|(_, a)| a.file.starts_with("ROLE_BIND"));
    let (mut can, mut cannot) = (0, 0);
    for (account, attack) in role_bind {
        let fails = account.ends_with("-fail");
        assert_eq!(
            attack.binds_roles(),
            !fails,
            "{account}: {:?}",
            attack.refused()
        );
        if fails { cannot += 1 } else { can += 1 }
    }
    assert_eq!((can, cannot), (11, 5));
}

/// The last one names users and groups, whom a RoleBinding lets nobody impersonate: it is refused for its wildcard only.
#[rstest]
#[case::list_tokens("tokenlist-sa", &["OB-S01", "OB-W04"])]
#[case::guess_tokens("tokenget-sa", &["OB-S01", "OB-W04"])]
#[case::create_pods("pod-create-sa", &["OB-P01", "OB-W04"])]
#[case::patch_pods("pod-patch-sa", &["OB-P02", "OB-W04"])]
#[case::exec("pod-exec-sa", &["OB-P03"])]
#[case::impersonate("impersonate-sa", &["OB-W04"])]
fn other_attacks_are_refused(#[case] account: &str, #[case] expected: &[&str]) {
    let attack = attacks().remove(account).unwrap();
    let refused = attack.refused();
    let codes: Vec<&str> = refused
        .keys()
        .copied()
        .filter(|code| *code != "OB-X04")
        .collect();
    assert_eq!(codes, expected);
}

#[test]
fn no_attack_is_left_out() {
    let other = |a: &&Attack| !a.file.starts_with("ROLE_BIND");
    assert_eq!(attacks().values().filter(other).count(), 6);
    assert_eq!(attacks().len(), 22);
}

#[test]
fn the_same_impersonation_bound_in_the_whole_cluster_is_one() {
    let attack = attacks().remove("impersonate-sa").unwrap();
    let everywhere = Attack {
        namespace: None,
        ..attack
    };
    assert!(everywhere.refused().contains_key("OB-E05"));
}
