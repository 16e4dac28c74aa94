//! The compiled catalogue finds what its file says, on a million random sets of rules made of the catalogue's own words,
//! wildcards and junk.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use stint::domain::catalogue::{self as compiled, Disposition, Scope};
use stint::domain::patterns::Patterns;
use stint::domain::rules::Rule;
use support::dice::{Dice, holds_for};
use support::naive_catalogue::{Catalogue, Names, Probe, catalogue};

const CASES: u64 = 1_000_000;

const NAMESPACES: &[&str] = &["payments", "stint-system"];
const PRIVILEGED: &[&str] = &[
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "stint-system",
];
const JUNK_GROUPS: &[&str] = &["example.com", "Apps", "*.k8s.io", "v1"];
const JUNK_RESOURCES: &[&str] = &[
    "",
    "/",
    "/pods",
    "pods/",
    "pods/*",
    "*/*",
    "*/",
    "*/x",
    "**",
    "Pods",
    "widgets",
    "widgets/exec",
    "pods/exec/now",
    "*/exec/now",
    "userextras",
    "userextras/",
    "userextras/*",
    "userextras/+",
    "*/+",
];
const JUNK_VERBS: &[&str] = &[
    "",
    "Get",
    "get*",
    "**",
    "impersonate",
    "impersonate:",
    "impersonate:+",
    "impersonate:a:b",
    "impersonate-on:user-info:get",
    "watchlist",
    "x:+",
];
const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

/// The words of the catalogue.
struct Words<'a> {
    probes: Vec<&'a Probe>,
    groups: Vec<&'a str>,
    resources: Vec<&'a str>,
    subresources: Vec<&'a str>,
    verbs: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn of(catalogue: &'a Catalogue) -> Self {
        let checks = catalogue.checks.iter();
        let lists = checks.flat_map(|c| c.any.iter().chain(c.all.iter().flatten()));
        let probes: Vec<&Probe> = lists.collect();
        let words = |of: fn(&Probe) -> &Vec<String>| -> Vec<&'a str> {
            let all = probes.iter().flat_map(|p| of(p)).map(String::as_str);
            all.collect::<BTreeSet<_>>().into_iter().collect()
        };
        let resources = words(|p| &p.r);
        let listed = probes.iter().filter_map(|p| match &p.names {
            Names::OneOf(names) => Some(names),
            Names::Any | Names::Unrestricted => None,
        });
        let names = listed.flatten().map(String::as_str);
        Self {
            groups: words(|p| &p.g),
            subresources: resources
                .iter()
                .filter_map(|r| Some(r.split_once('/')?.1))
                .collect(),
            resources,
            verbs: words(|p| &p.v),
            names: names.chain(["", "*", "a", "b"]).collect(),
            probes,
        }
    }

    /// A rule near a probe: mostly its own words, so that near misses are as frequent as hits.
    fn rule(&self, dice: &mut Dice) -> Rule {
        let probe = dice.pick(&self.probes);
        let names = if dice.percent(60) { 0 } else { 2 };
        let urls = if dice.percent(3) { 1 } else { 0 };
        Rule {
            api_groups: some(dice, 2, |dice| self.group(probe, dice)),
            resources: some(dice, 3, |dice| self.resource(probe, dice)),
            verbs: some(dice, 3, |dice| self.verb(probe, dice)),
            resource_names: dice.up_to(names, |dice| dice.pick(&self.names).to_owned()),
            non_resource_urls: dice.up_to(urls, |_| "/metrics".to_owned()),
        }
    }

    fn group(&self, probe: &Probe, dice: &mut Dice) -> String {
        match dice.below(100) {
            0..78 => own(&probe.g, dice),
            78..86 => "*".to_owned(),
            86..95 => dice.pick(&self.groups).to_owned(),
            _ => dice.pick(JUNK_GROUPS).to_owned(),
        }
    }

    fn resource(&self, probe: &Probe, dice: &mut Dice) -> String {
        let of_probe = own(&probe.r, dice).replace('+', "scopes");
        let parent = of_probe.split('/').next().unwrap_or_default();
        match dice.below(100) {
            0..60 => of_probe,
            60..65 => "*".to_owned(),
            65..72 => format!("*/{}", dice.pick(&self.subresources)),
            72..82 => dice.pick(&self.resources).to_owned(),
            82..87 => parent.to_owned(),
            87..93 => format!("{parent}/{}", dice.pick(&self.subresources)),
            _ => dice.pick(JUNK_RESOURCES).to_owned(),
        }
    }

    fn verb(&self, probe: &Probe, dice: &mut Dice) -> String {
        match dice.below(100) {
            0..62 => own(&probe.v, dice).replace('+', "user-info"),
            62..67 => "*".to_owned(),
            67..82 => dice.pick(VERBS).to_owned(),
            82..92 => dice.pick(&self.verbs).to_owned(),
            _ => dice.pick(JUNK_VERBS).to_owned(),
        }
    }

    fn rules(&self, dice: &mut Dice) -> Vec<Rule> {
        (0..=dice.below(3)).map(|_| self.rule(dice)).collect()
    }
}

fn own(list: &[String], dice: &mut Dice) -> String {
    list[dice.below(list.len())].clone()
}

/// At least one, and now and then none.
fn some(dice: &mut Dice, max: usize, mut draw: impl FnMut(&mut Dice) -> String) -> Vec<String> {
    let count = if dice.percent(1) {
        0
    } else {
        1 + dice.below(max)
    };
    (0..count).map(|_| draw(dice)).collect()
}

fn scope(dice: &mut Dice) -> Scope<'static> {
    match dice.below(3) {
        0 => Scope::Namespace(dice.pick(NAMESPACES)),
        1 => Scope::PrivilegedNamespace(dice.pick(PRIVILEGED)),
        _ => Scope::Cluster,
    }
}

#[test]
fn the_compiled_catalogue_finds_what_the_file_says() {
    let catalogue = catalogue();
    let words = Words::of(&catalogue);
    let fired = AtomicUsize::new(0);
    holds_for(CASES, |_, dice| {
        let (rules, scope) = (words.rules(dice), scope(dice));
        let naive = catalogue.findings(&rules, scope);
        let found = compiled::findings(Patterns::of(&rules), scope);
        let found: Vec<_> = found
            .iter()
            .map(|f| (f.id, f.severity, f.disposition))
            .collect();
        assert_eq!(found, naive, "{scope:?} {rules:?}");
        fired.fetch_add(usize::from(!naive.is_empty()), Ordering::Relaxed);
    });
    let fired = fired.into_inner() as u64;
    assert!(
        fired > CASES / 4 && fired < CASES * 9 / 10,
        "{fired} is a poor mixture"
    );
}

#[test]
fn combinations_are_made_by_the_request_and_not_before() {
    let catalogue = catalogue();
    let words = Words::of(&catalogue);
    let made = AtomicUsize::new(0);
    holds_for(CASES / 10, |_, dice| {
        let (asked, held, scope) = (words.rules(dice), words.rules(dice), scope(dice));
        let naive = catalogue.combinations(&asked, &held, scope);
        let found = compiled::combinations(Patterns::of(&asked), Patterns::of(&held), scope);
        let of = |c: &compiled::Combination| {
            let f = c.finding;
            ((f.id, f.severity, f.disposition), c.missing != 0)
        };
        let found: Vec<_> = found.iter().map(of).collect();
        assert_eq!(found, naive, "{scope:?} {asked:?} beside {held:?}");
        made.fetch_add(naive.len(), Ordering::Relaxed);
    });
    let made = made.into_inner();
    assert!(made > 1_000, "only {made} were made");
}

/// What is refused under every policy is refused line by line, and each line stands where the rules can be changed.
#[test]
fn each_finding_is_told_where_it_stands() {
    let catalogue = catalogue();
    let words = Words::of(&catalogue);
    let with_probes = |id: &str| {
        let mut checks = catalogue.checks.iter();
        checks.any(|c| c.id() == id && !(c.any.is_empty() && c.all.is_empty()))
    };
    holds_for(CASES / 10, |_, dice| {
        let (rules, scope) = (words.rules(dice), scope(dice));
        let naive = catalogue.findings(&rules, scope);
        for (id, ..) in naive.iter().filter(|(id, ..)| with_probes(id)) {
            let lines = compiled::explain(id, &rules, "spec.rules", true, scope);
            let placed = lines
                .iter()
                .all(|line| line.path.starts_with("spec.rules["));
            assert!(placed, "{id} {scope:?} {rules:?} {lines:?}");
        }
        let refused = compiled::violations(&rules, "spec.rules", true, scope);
        let told = refused
            .iter()
            .map(|v| v.code)
            .filter(|code| with_probes(code));
        let never = naive.iter().filter(|(.., d)| *d == Disposition::Never);
        let never: BTreeSet<&str> = never.map(|(id, ..)| *id).collect();
        assert_eq!(
            told.collect::<BTreeSet<&str>>(),
            never,
            "{scope:?} {rules:?}"
        );
    });
}
