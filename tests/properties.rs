//! Laws of the rule algebra, over random rules of a small alphabet that holds every odd pattern of RBAC.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::atomic::{AtomicUsize, Ordering};
use stint::domain::covers::Ceiling;
use stint::domain::rules::{Request, Rule, allows, atoms, canonical, hash};
use support::dice::{Dice, holds_for};
use support::naive_covers;
use support::naive_covers::as_set;

const VERBS: &[&str] = &["*", "get", "list", "create", "escalate"];
const GROUPS: &[&str] = &["*", "", "apps"];
const RESOURCES: &[&str] = &[
    "*",
    "pods",
    "nodes",
    "pods/exec",
    "nodes/exec",
    "*/exec",
    "pods/*",
    "*/*",
    "",
];
const NAMES: &[&str] = &["", "*", "a", "b"];
const URLS: &[&str] = &["*", "/", "/api", "/api*", "/api/*", "/api/**", "/api/v1"];

fn words(alphabet: &'static [&'static str], max: usize) -> impl Strategy<Value = Vec<String>> {
    vec(select(alphabet).prop_map(str::to_owned), 0..=max)
}

fn resource_rule() -> impl Strategy<Value = Rule> {
    let names = prop_oneof![2 => Just(vec![]), 1 => words(NAMES, 2)];
    (
        words(GROUPS, 2),
        words(RESOURCES, 3),
        names,
        words(VERBS, 3),
    )
        .prop_map(|(api_groups, resources, resource_names, verbs)| Rule {
            api_groups,
            resources,
            resource_names,
            verbs,
            non_resource_urls: vec![],
        })
}

/// Mostly rules on resources; some on URLs; some on both and with names, which validation refuses and the algebra must survive.
fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        6 => resource_rule(),
        1 => (words(URLS, 2), words(VERBS, 2)).prop_map(|(non_resource_urls, verbs)| Rule {
            verbs,
            non_resource_urls,
            ..Rule::default()
        }),
        1 => (resource_rule(), words(URLS, 2)).prop_map(|(rule, non_resource_urls)| Rule {
            non_resource_urls,
            ..rule
        }),
    ]
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    vec(rule(), 0..4)
}

/// Rules without the mixture of names and URLs, where upstream's coverage and its authorizer disagree.
fn sane_rules() -> impl Strategy<Value = Vec<Rule>> {
    rules().prop_map(|mut rules| {
        for rule in &mut rules {
            if !rule.resource_names.is_empty() {
                rule.non_resource_urls.clear();
            }
        }
        rules
    })
}

/// Every request of the alphabet, and words that no rule names.
fn requests() -> Vec<Request<'static>> {
    let verbs = ["get", "list", "create", "escalate", "other"];
    let mut out = vec![];
    for verb in verbs {
        for group in ["", "apps", "other"] {
            for resource in ["pods", "nodes", "other"] {
                for subresource in ["", "exec", "*", "other"] {
                    for name in ["", "*", "a", "other"] {
                        out.push(Request::Resource {
                            verb,
                            group,
                            resource,
                            subresource,
                            name,
                        });
                    }
                }
            }
        }
        for path in ["/", "/api", "/api/", "/api/v1", "/apis", "/other"] {
            out.push(Request::Path { verb, path });
        }
    }
    out
}

fn covers_both_ways(a: &[Rule], b: &[Rule]) -> bool {
    naive_covers::uncovered(a, b).is_empty() && naive_covers::uncovered(b, a).is_empty()
}

/// Words of the alphabet, seldom none.
fn thrown(dice: &mut Dice, alphabet: &[&'static str], max: usize) -> Vec<String> {
    let count = if dice.percent(5) {
        0
    } else {
        1 + dice.below(max)
    };
    (0..count).map(|_| dice.pick(alphabet).to_owned()).collect()
}

/// Much the mixture of [`rule`], a hundred times faster and without shrinking.
fn thrown_rule(dice: &mut Dice) -> Rule {
    let kind = dice.below(8);
    let mut rule = Rule {
        verbs: thrown(dice, VERBS, 3),
        ..Rule::default()
    };
    if kind != 0 {
        rule.api_groups = thrown(dice, GROUPS, 2);
        rule.resources = thrown(dice, RESOURCES, 3);
    }
    if kind > 0 && dice.percent(33) {
        rule.resource_names = thrown(dice, NAMES, 2);
    }
    if kind < 2 {
        rule.non_resource_urls = thrown(dice, URLS, 2);
    }
    rule
}

/// A part of one of the rules, with another word now and then.
fn part_of(rules: &[Rule], dice: &mut Dice) -> Rule {
    if rules.is_empty() {
        return thrown_rule(dice);
    }
    let other = thrown_rule(dice);
    let owner = &rules[dice.below(rules.len())];
    let mut one = |own: &[String], other: &[String]| {
        let list = if dice.percent(85) { own } else { other };
        let word = (!list.is_empty()).then(|| list[dice.below(list.len())].clone());
        Vec::from_iter(word)
    };
    Rule {
        api_groups: one(&owner.api_groups, &other.api_groups),
        resources: one(&owner.resources, &other.resources),
        resource_names: one(&owner.resource_names, &other.resource_names),
        verbs: one(&owner.verbs, &other.verbs),
        non_resource_urls: one(&owner.non_resource_urls, &other.non_resource_urls),
    }
}

#[test]
fn compiled_coverage_is_upstreams_a_million_times() {
    let (covered, beyond) = (AtomicUsize::new(0), AtomicUsize::new(0));
    holds_for(1_000_000, |_, dice| {
        let owner = dice.up_to(3, thrown_rule);
        let mut asked = dice.up_to(2, |dice| part_of(&owner, dice));
        if dice.percent(50) {
            asked.push(thrown_rule(dice));
        }
        let ceiling = Ceiling::compile(&owner);
        let naive = naive_covers::uncovered(&owner, &asked);
        let uncovered = ceiling.uncovered(&asked);
        assert_eq!(
            ceiling.covers(&asked),
            naive.is_empty(),
            "{owner:?} for {asked:?}"
        );
        assert_eq!(
            as_set(&uncovered),
            as_set(&naive),
            "{owner:?} for {asked:?}"
        );
        match (naive.is_empty(), atoms(&asked)) {
            (_, 0) => 0,
            (true, _) => covered.fetch_add(1, Ordering::Relaxed),
            (false, _) => beyond.fetch_add(1, Ordering::Relaxed),
        };
    });
    let mixture = (covered.into_inner(), beyond.into_inner());
    assert!(mixture.0 > 150_000 && mixture.1 > 150_000, "{mixture:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn compiled_coverage_is_upstreams(owner in rules(), asked in rules()) {
        let ceiling = Ceiling::compile(&owner);
        let naive = naive_covers::uncovered(&owner, &asked);
        prop_assert_eq!(ceiling.covers(&asked), naive.is_empty());
        prop_assert_eq!(as_set(&ceiling.uncovered(&asked)), as_set(&naive));
    }

    #[test]
    fn canonical_means_the_same_and_only_the_same(a in sane_rules(), b in sane_rules()) {
        let (ca, cb) = (canonical(&a), canonical(&b));
        prop_assert!(covers_both_ways(&a, &ca), "{:?}", ca);
        prop_assert_eq!(&canonical(&ca), &ca);
        prop_assert_eq!(ca == cb, covers_both_ways(&a, &b));
        prop_assert_eq!(ca == cb, hash(&a) == hash(&b));
        let both = [a.clone(), b.clone()].concat();
        prop_assert_eq!(canonical(&both) == ca, naive_covers::uncovered(&a, &b).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn canonical_allows_the_same_requests(rules in rules()) {
        let canonical = canonical(&rules);
        for request in requests() {
            let before = rules.iter().any(|rule| allows(rule, &request));
            let after = canonical.iter().any(|rule| allows(rule, &request));
            prop_assert_eq!(before, after, "{:?}", request);
        }
    }

    #[test]
    fn order_and_repetition_do_not_matter(rules in rules(), more in rules()) {
        let forth: Vec<Rule> = rules.iter().chain(&more).cloned().collect();
        let mut back: Vec<Rule> = forth.iter().chain(&rules).cloned().collect();
        back.reverse();
        for rule in &mut back {
            rule.verbs.reverse();
            rule.resources.reverse();
        }
        prop_assert_eq!(canonical(&forth), canonical(&back));
    }
}

fn on(group: &str, resource: &str, verbs: Vec<String>) -> Rule {
    Rule {
        api_groups: vec![group.into()],
        resources: vec![resource.into()],
        verbs,
        ..Rule::default()
    }
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

#[test]
fn a_ceiling_with_two_hundred_verbs_still_tells_them_apart() {
    let all = numbered("verb", 200);
    let ceiling = Ceiling::compile(&[
        on("apps", "deployments", all[..150].to_vec()),
        on("apps", "pods", all[150..].to_vec()),
    ]);
    let asked = [
        on("apps", "deployments", all.clone()),
        on("apps", "pods", all.clone()),
    ];
    let mut outside = [
        on("apps", "deployments", all[150..].to_vec()),
        on("apps", "pods", all[..150].to_vec()),
    ];
    assert_eq!(as_set(&ceiling.uncovered(&asked)), as_set(&outside));
    outside[0].verbs = vec![
        all[62].clone(),
        all[63].clone(),
        all[64].clone(),
        all[149].clone(),
    ];
    assert!(ceiling.covers(&outside[..1]));
}

#[test]
fn what_is_too_large_is_refused_unexpanded() {
    let mut bomb = on("apps", "deployments", numbered("verb", 3_000));
    bomb.resources = numbered("resource", 3_000);
    bomb.resource_names = numbered("name", 3_000);
    bomb.verbs.push("verb0".into());
    assert_eq!(atoms(std::slice::from_ref(&bomb)), 3_001 * 3_000 * 3_000);

    let rules = [bomb.clone(), bomb];
    let ceiling = Ceiling::compile(&[on("*", "*", vec!["*".into()])]);
    assert!(!ceiling.covers(&rules));
    assert_eq!(ceiling.uncovered(&rules), rules);
    let canonical = canonical(&rules);
    assert_eq!(canonical.len(), 1);
    assert_eq!(canonical[0].verbs.len(), 3_000);
}

#[test]
fn the_product_saturates() {
    let many = vec!["x".to_owned(); 100_000];
    let rule = Rule {
        api_groups: many.clone(),
        resources: many.clone(),
        resource_names: many.clone(),
        verbs: many.clone(),
        non_resource_urls: many,
    };
    assert_eq!(atoms(&[rule.clone(), rule]), usize::MAX);
}

#[test]
fn canonical_rules_stay_few_and_readable() {
    let text = |list: &[&str]| list.iter().map(|x| (*x).to_owned()).collect::<Vec<_>>();
    let rules = [
        on("apps", "deployments", text(&["patch", "get"])),
        on("apps", "statefulsets", text(&["get", "patch", "get"])),
        on("", "pods", text(&["list"])),
        on("", "pods", text(&["get"])),
        Rule {
            resource_names: text(&["a"]),
            ..on("", "pods", text(&["get"]))
        },
        on("", "pods", vec![]),
    ];
    let mut apps = on("apps", "deployments", text(&["get", "patch"]));
    apps.resources.push("statefulsets".into());
    let pods = on("", "pods", text(&["get", "list"]));
    assert_eq!(canonical(&rules), [pods, apps]);
    assert_eq!(
        hash(&[]),
        "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    );
}
