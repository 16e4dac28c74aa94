//! The answer, for people, for `kubectl apply`, and for programs.

use super::Form;
use super::grants::Grant;
use super::json;
use super::manifest::Pair;
use crate::audit_log::{Log, counted};
use crate::show::{self, Cell, Style, Table, Tone};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Write};
use stint::domain::rules::{Rule, allows};
use stint::domain::usage::granted;
use stint::domain::usage::proposal::{Proposal, Widened, looks_generated};
use stint::domain::usage::tally::{Account, Key};
use stint::domain::usage::uses::Entry;
use stint::domain::window;

/// Most notes under the tables.
const MAX_REMARKS: usize = 20;

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

impl Told<'_> {
    /// Whether everything that was used is proposed, and nothing of it would be refused.
    pub fn is_whole(&self) -> bool {
        let passes = |pair: &Pair| pair.refusals.is_empty();
        self.proposal.never.is_empty() && self.pairs.iter().all(passes)
    }
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
pub fn uses(account: &Account, place: &str, rule: &Rule) -> (u64, Option<Timestamp>) {
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

/// What was refused, in words.
pub fn refused_right(key: &Key<'_>, entry: &Entry) -> String {
    let verbs = vec![key.verb.to_owned()];
    let rule = match key.is_path() {
        true => Rule {
            verbs,
            non_resource_urls: vec![key.target.to_owned()],
            ..Rule::default()
        },
        false => Rule {
            verbs,
            api_groups: vec![key.group.to_owned()],
            resources: vec![key.target.to_owned()],
            resource_names: entry.names.keys().map(ToString::to_string).collect(),
            ..Rule::default()
        },
    };
    rule.to_string()
}

/// Prints one account after the other, so that a log of many needs little memory; tables wait for their widths.
pub struct Printer<'a> {
    form: Form,
    how: Tables,
    log: &'a Log,
    /// Accounts, or objects, that are printed.
    printed: usize,
    rights: Vec<Vec<Cell>>,
    held: Vec<Vec<Cell>>,
    remarks: Vec<String>,
}

impl<'a> Printer<'a> {
    /// Nothing is printed yet.
    pub fn of(form: Form, how: Tables, log: &'a Log) -> Self {
        Self {
            form,
            how,
            log,
            printed: 0,
            rights: Vec::new(),
            held: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// One more account.
    pub fn add(&mut self, told: &Told<'_>, out: &mut impl Write) -> io::Result<()> {
        match self.form {
            Form::Yaml => self.yaml(told, out),
            Form::Json => {
                self.json(told, out)?;
                self.printed += 1;
                Ok(())
            }
            Form::Table | Form::Wide => {
                self.rights.extend(rights(told, self.how.wide));
                self.held.extend(held(told, self.how));
                let notes = notes(told).into_iter();
                self.remarks
                    .extend(notes.map(|note| format!("{}: {note}", told.name)));
                Ok(())
            }
        }
    }

    /// That was all. What tables do not say comes back.
    pub fn end(self, out: &mut impl Write) -> io::Result<Vec<String>> {
        match self.form {
            Form::Yaml => Ok(Vec::new()),
            Form::Json => {
                if self.printed == 0 {
                    self.json_head(out)?;
                }
                writeln!(out, "\n  ]\n}}")?;
                Ok(Vec::new())
            }
            Form::Table | Form::Wide => {
                let (how, mut remarks) = (self.how, self.remarks);
                tables(self.rights, self.held, how, out)?;
                let more = remarks.len().saturating_sub(MAX_REMARKS);
                remarks.truncate(MAX_REMARKS);
                let rest = || {
                    format!(
                        "and {}; -o yaml and -o json have all",
                        show::count(more, "more note")
                    )
                };
                remarks.extend((more > 0).then(rest));
                Ok(remarks)
            }
        }
    }

    fn json_head(&self, out: &mut impl Write) -> io::Result<()> {
        let version = json::API_VERSION;
        let log = indented(&show::json(&json::log(self.log))?, 2);
        write!(
            out,
            "{{\n  \"apiVersion\": \"{version}\",\n  \"log\": {log},\n  \"accounts\": ["
        )
    }

    fn json(&self, told: &Told<'_>, out: &mut impl Write) -> io::Result<()> {
        if self.printed == 0 {
            self.json_head(out)?;
        }
        let comma = if self.printed == 0 { "" } else { "," };
        let account = indented(&show::json(&json::account(told))?, 4);
        write!(out, "{comma}\n    {account}")
    }

    /// Objects for `kubectl apply`, with what is left out as comments.
    fn yaml(&mut self, told: &Told<'_>, out: &mut impl Write) -> io::Result<()> {
        let mut comments = vec![format!(
            "{}: {}",
            told.name,
            summary(told.account, self.log)
        )];
        comments.extend(notes(told));
        for pair in told.pairs.iter().filter(|pair| pair.refusals.is_empty()) {
            let policy = title(&pair.policy);
            let accepts = pair.accepts.iter();
            comments.extend(accepts.map(|f| format!("{policy} accepts {}: {}", f.id, f.effect)));
            for object in [&pair.policy, &pair.access] {
                if self.printed > 0 {
                    writeln!(out, "---")?;
                }
                self.printed += 1;
                comment(std::mem::take(&mut comments), out)?;
                writeln!(out, "{}", show::yaml(object)?)?;
            }
        }
        comment(comments, out)
    }
}

fn comment(lines: Vec<String>, out: &mut impl Write) -> io::Result<()> {
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "# {}", show::line(line)))
}

/// All lines but the first.
fn indented(text: &str, by: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(by)))
}

fn tables(
    rights: Vec<Vec<Cell>>,
    held: Vec<Vec<Cell>>,
    how: Tables,
    out: &mut impl Write,
) -> io::Result<()> {
    let style = Style {
        colour: show::colour(),
        bare: how.bare,
        wide: how.wide,
    };
    if !rights.is_empty() {
        let mut heads = vec!["ACCOUNT", "IN", "STATE", "REQUESTS"];
        heads.extend(how.wide.then_some("LAST"));
        heads.push("RIGHT");
        Table::new(&heads, rights, style).write(out)?;
    }
    if !held.is_empty() {
        let mut heads = vec!["ACCOUNT", "BY", "REQUESTS"];
        if how.held {
            heads.extend(["RIGHTS", "UNUSED"]);
        }
        heads.extend((how.held && how.wide).then_some("UNUSED-RIGHTS"));
        writeln!(out)?;
        Table::new(&heads, held, style).write(out)?;
    }
    Ok(())
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
fn summary(account: &Account, log: &Log) -> String {
    let at =
        |at: Option<Timestamp>| at.map_or("?".to_owned(), |at| window::round_down(at).to_string());
    format!(
        "{} allowed, {} refused, in a log from {} to {}",
        counted(account.allowed, "request"),
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
            counted(proposal.basic, "request")
        ));
    }
    if told.account.not_kept > 0 {
        out.push(format!(
            "more was refused than is kept: {} not listed",
            counted(told.account.not_kept, "request")
        ));
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
