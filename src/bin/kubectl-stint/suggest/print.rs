//! The answer, for people, for `kubectl apply`, and for programs.

use super::grants::Grant;
use super::manifest::Pair;
use super::source::Log;
use crate::show::{self, Cell, Style, Table, Tone};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{self, Write};
use stint::domain::rules::{Rule, allows};
use stint::domain::usage::granted;
use stint::domain::usage::proposal::{Proposal, Widened, looks_generated};
use stint::domain::usage::tally::{Account, Entry, Key};
use stint::domain::window;

/// Version of the JSON output.
const API_VERSION: &str = "stint.dev/suggest/v1";

/// Everything about one account.
pub struct Told<'a> {
    /// `namespace/name`.
    pub name: &'a str,
    /// What it did.
    pub account: &'a Account,
    /// What is proposed.
    pub proposal: Proposal,
    /// The same as objects.
    pub pairs: Vec<Pair>,
    /// What it holds.
    pub grants: Vec<Grant>,
}

/// How tables are printed.
#[derive(Clone, Copy)]
pub struct Tables {
    /// With more columns, nothing cut.
    pub wide: bool,
    /// Without heads.
    pub bare: bool,
    /// Whether roles and bindings were read.
    pub held: bool,
}

/// Which requests a rule allows, and when the last one was.
fn uses(account: &Account, place: &str, rule: &Rule) -> (u64, Option<Timestamp>) {
    let within = |key: &Key<'_>| place.is_empty() || key.place == place;
    let mut requests = 0;
    let mut last = None;
    for (key, entry) in account.used().into_iter().filter(|(key, _)| within(key)) {
        for (name, uses) in entry.uses() {
            if allows(rule, &key.request(name.unwrap_or_default())) {
                requests += uses.requests;
                last = last.max(uses.last);
            }
        }
    }
    (requests, last)
}

fn place(place: &str) -> &str {
    if place.is_empty() { "(cluster)" } else { place }
}

fn refused_right(key: &Key<'_>, entry: &Entry) -> String {
    let names: Vec<&str> = entry.names.keys().map(AsRef::as_ref).collect();
    let target = granted::target(key);
    match names.is_empty() {
        true => format!("{} {target}", key.verb),
        false => format!("{} {target} named {}", key.verb, names.join(", ")),
    }
}

/// Tables of rights, and of bindings.
pub fn tables(all: &[Told<'_>], how: Tables, out: &mut impl Write) -> io::Result<()> {
    let style = Style {
        colour: show::colour(),
        bare: how.bare,
        wide: how.wide,
    };
    let mut heads = vec!["ACCOUNT", "IN", "STATE", "REQUESTS"];
    heads.extend(how.wide.then_some("LAST"));
    heads.push("RIGHT");
    let rows: Vec<Vec<Cell>> = all.iter().flat_map(|told| rights(told, how.wide)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    Table::new(&heads, rows, style).write(out)?;
    let rows: Vec<Vec<Cell>> = all.iter().flat_map(|told| held(told, how)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut heads = vec!["ACCOUNT", "BY", "REQUESTS"];
    if how.held {
        heads.extend(["RIGHTS", "UNUSED"]);
    }
    heads.extend((how.held && how.wide).then_some("UNUSED-RIGHTS"));
    writeln!(out)?;
    Table::new(&heads, rows, style).write(out)
}

fn rights(told: &Told<'_>, wide: bool) -> Vec<Vec<Cell>> {
    let row = |at: &str, state: Cell, (requests, last): (u64, Option<Timestamp>), right: &str| {
        let mut row = vec![
            Cell::of(told.name),
            Cell::of(place(at)),
            state,
            Cell::of(&requests.to_string()),
        ];
        let last = last.map(|at| window::round_down(at).to_string());
        row.extend(wide.then(|| Cell::of(&last.unwrap_or_default())));
        row.push(Cell::of(right));
        row
    };
    let mut rows = Vec::new();
    for (at, rules) in &told.proposal.places {
        for rule in rules {
            rows.push(row(
                at,
                Cell::toned("used", Tone::Good),
                uses(told.account, at, rule),
                &rule.to_string(),
            ));
        }
    }
    for never in &told.proposal.never {
        let state = Cell::toned(&format!("never {}", never.codes.join(",")), Tone::Bad);
        rows.push(row(
            &never.place,
            state,
            uses(told.account, &never.place, &never.rule),
            &never.rule.to_string(),
        ));
    }
    for (key, entry) in told.account.denied() {
        rows.push(row(
            key.place,
            Cell::toned("refused", Tone::Waits),
            (entry.requests(), entry.last()),
            &refused_right(&key, entry),
        ));
    }
    rows
}

fn held(told: &Told<'_>, how: Tables) -> Vec<Vec<Cell>> {
    let row = |grant: &Grant| {
        let mut row = vec![
            Cell::of(told.name),
            Cell::of(&grant.title),
            Cell::of(&grant.requests.to_string()),
        ];
        if how.held {
            let (given, unused) =
                grant
                    .lines
                    .as_deref()
                    .map_or((String::new(), String::new()), |lines| {
                        let (given, unused) = granted::counts(lines);
                        (given.to_string(), unused.to_string())
                    });
            let tone = if grant.requests == 0 {
                Tone::Waits
            } else {
                Tone::Plain
            };
            row.extend([Cell::of(&given), Cell::toned(&unused, tone)]);
        }
        if how.held && how.wide {
            let unused = grant.lines.iter().flatten().flat_map(|line| &line.unused);
            let unused: Vec<String> = unused.map(ToString::to_string).collect();
            row.push(Cell::of(&unused.join("; ")));
        }
        row
    };
    told.grants.iter().map(row).collect()
}

/// Objects for `kubectl apply`, with what is left out as comments.
pub fn yaml(all: &[Told<'_>], log: &Log, out: &mut impl Write) -> io::Result<()> {
    let comment = |out: &mut dyn Write, text: &str| writeln!(out, "# {}", show::line(text));
    let mut first = true;
    for told in all {
        comment(
            out,
            &format!("{}: {}", told.name, summary(told.account, log)),
        )?;
        for note in notes(told) {
            comment(out, &note)?;
        }
        for pair in told.pairs.iter().filter(|pair| pair.refusals.is_empty()) {
            for finding in &pair.accepts {
                comment(
                    out,
                    &format!(
                        "{} accepts {}: {}",
                        title(&pair.policy),
                        finding.id,
                        finding.effect
                    ),
                )?;
            }
            for object in [&pair.policy, &pair.access] {
                if !std::mem::take(&mut first) {
                    writeln!(out, "---")?;
                }
                writeln!(out, "{}", show::yaml(object)?)?;
            }
        }
    }
    Ok(())
}

fn title(object: &Value) -> String {
    let text = |path: &str| {
        object
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

/// How much and when.
pub fn summary(account: &Account, log: &Log) -> String {
    let at =
        |at: Option<Timestamp>| at.map_or("?".to_owned(), |at| window::round_down(at).to_string());
    format!(
        "{} allowed, {} refused, in a log from {} to {}",
        show::count(
            usize::try_from(account.allowed).unwrap_or(usize::MAX),
            "request"
        ),
        account.refused,
        at(log.period.first()),
        at(log.period.last())
    )
}

/// What is not in the objects, or wider than what was used, one line each.
pub fn notes(told: &Told<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let proposal = &told.proposal;
    for never in &proposal.never {
        out.push(format!(
            "left out in {}: {}: no policy can allow it [{}]",
            place(&never.place),
            never.rule,
            never.codes.join(", ")
        ));
    }
    for pair in told.pairs.iter().filter(|pair| !pair.refusals.is_empty()) {
        for refusal in &pair.refusals {
            out.push(format!("left out: {}: {refusal}", title(&pair.access)));
        }
    }
    out.extend(proposal.widened.iter().map(widened));
    out.extend(generated(proposal));
    if proposal.basic > 0 {
        out.push(format!(
            "not proposed: {} for what every account may do, such as discovery; --with-basic adds it",
            show::count(usize::try_from(proposal.basic).unwrap_or(usize::MAX), "request")
        ));
    }
    if told.account.more_refused {
        out.push("more was refused than is kept".to_owned());
    }
    out
}

fn widened(wide: &Widened) -> String {
    let why = match (wide.unlistable, wide.names) {
        (true, _) => "with a name that no rule can hold".to_owned(),
        (false, Some(names)) => format!(
            "on {}; --max-names says how many are listed",
            show::count(names, "name")
        ),
        (false, None) => "on more names than a rule can hold".to_owned(),
    };
    format!(
        "on every object in {}: {} {}, used {why}",
        place(&wide.place),
        wide.verb,
        wide.resource
    )
}

/// Names that will be others the next time.
fn generated(proposal: &Proposal) -> Option<String> {
    let rules = proposal.places.values().flatten();
    let made = rules.filter(|rule| rule.resource_names.iter().any(|name| looks_generated(name)));
    let resources: BTreeSet<&str> = made
        .flat_map(|rule| &rule.resources)
        .map(String::as_str)
        .collect();
    let all: Vec<&str> = resources.into_iter().collect();
    let all = all.join(",");
    (!all.is_empty()).then(|| format!("names of {all} look generated, so that the next ones will be others; --without-names {all} means every object"))
}

/// Everything as JSON.
pub fn json(all: &[Told<'_>], log: &Log, out: &mut impl Write) -> io::Result<()> {
    let accounts: Vec<Value> = all.iter().map(account).collect();
    let told = json!({
        "apiVersion": API_VERSION,
        "log": {
            "sources": log.sources, "events": log.events, "first": log.period.first(), "last": log.period.last(),
            "damaged": log.damaged, "impersonations": log.impersonations, "unreadable": log.unreadable, "undecided": log.undecided
        },
        "accounts": accounts
    });
    writeln!(out, "{}", show::json(&told)?)
}

fn account(told: &Told<'_>) -> Value {
    let (namespace, name) = told.name.split_once('/').unwrap_or_default();
    let right = |place: &str, rule: &Rule| {
        let (requests, last) = uses(told.account, place, rule);
        json!({"namespace": (!place.is_empty()).then_some(place), "rule": rule, "requests": requests, "last": last})
    };
    let places = told.proposal.places.iter();
    let rights: Vec<Value> = places
        .flat_map(|(place, rules)| rules.iter().map(|rule| right(place, rule)))
        .collect();
    let never = told.proposal.never.iter().map(|never| {
        let mut value = right(&never.place, &never.rule);
        value["codes"] = json!(never.codes);
        value
    });
    let refused = told.account.denied().into_iter().map(|(key, entry)| {
        json!({"namespace": (!key.place.is_empty()).then_some(key.place), "right": refused_right(&key, entry), "requests": entry.requests(), "last": entry.last()})
    });
    let passing = told.pairs.iter().filter(|pair| pair.refusals.is_empty());
    let objects: Vec<&Value> = passing
        .flat_map(|pair| [&pair.policy, &pair.access])
        .collect();
    json!({
        "namespace": namespace, "name": name, "allowed": told.account.allowed, "refused": told.account.refused,
        "first": told.account.first, "last": told.account.last, "rights": rights, "never": never.collect::<Vec<_>>(),
        "refusedRights": refused.collect::<Vec<_>>(), "notes": notes(told),
        "grants": told.grants.iter().map(grant).collect::<Vec<_>>(), "objects": objects
    })
}

fn grant(grant: &Grant) -> Value {
    let lines = grant.lines.as_ref().map(|lines| {
        let line = |line: &granted::Line| {
            let used: Vec<Value> = line
                .used
                .iter()
                .map(|((verb, on), requests)| json!({"verb": verb, "on": on, "requests": requests}))
                .collect();
            json!({"rule": line.rule, "used": used, "unused": line.unused})
        };
        lines.iter().map(line).collect::<Vec<Value>>()
    });
    json!({"by": grant.title, "role": grant.role, "until": grant.until, "requests": grant.requests, "rules": lines})
}
