//! What an audit log says of what is reviewed, in the form that programs read: which time it covers, what was used of what a
//! grant or a binding gives, and what accounts were refused.

use super::model::Report;
use crate::audit_log::counted;
use crate::show;
use serde::{Deserialize, Serialize};

/// Said wherever use is shown.
pub const CAVEAT: &str = "A rule that was not used in this time is not proven to be unneeded: month ends and incidents may lie outside of it, and what the audit policy of the cluster leaves out is in no log.";

/// The log, and what accounts were refused in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditLog {
    /// Logs that were read to their end.
    pub sources: usize,
    /// Events in them, of accounts and of others.
    pub events: u64,
    /// When the first of them arrived. RFC 3339.
    pub first: Option<String>,
    /// When the last did.
    pub last: Option<String>,
    /// Lines that are no events.
    pub damaged: u64,
    /// Logs whose last event is half-written, as in one that is being written.
    pub half_written: usize,
    /// Events that prove that the log is of another cluster.
    pub foreign: u64,
    /// Logs without any account that has the UID that it has in the cluster.
    pub unconfirmed: usize,
    /// Requests of accounts that ended before the authorizer was asked.
    pub undecided: u64,
    /// Requests of accounts with names that no rule can hold, or such as steer terminals.
    pub unreadable: u64,
    /// Requests that accounts sent as users that are no accounts.
    pub impersonations: u64,
    /// What Kubernetes' own bindings allowed its own controllers, which is not looked at.
    pub of_kubernetes: u64,
    /// Requests of accounts that were refused.
    pub refused_requests: u64,
    /// Those of them that no entry of `refused` counts.
    pub refused_not_listed: u64,
    /// What was refused, by account.
    pub refused: Vec<Attempt>,
}

/// Something that an account tried and that the authorizer refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attempt {
    /// The account, `namespace/name`.
    pub account: String,
    /// The verb.
    pub verb: String,
    /// `resource.group/subresource`, or the path.
    pub resource: String,
    /// The namespace; none for the whole cluster.
    pub namespace: Option<String>,
    /// The name of the object, where the authorizer saw one.
    pub name: Option<String>,
    /// Whether it was tried on more names than are kept.
    pub many_names: bool,
    /// How often.
    pub requests: u64,
    /// When first. RFC 3339.
    pub first: Option<String>,
    /// When last.
    pub last: Option<String>,
}

impl AuditLog {
    /// What was read, and what it came to, in sentences. How it fits the report is in there too.
    pub fn told(&self, report: &Report) -> Vec<String> {
        let at = |at: &Option<String>| at.clone().unwrap_or_else(|| "?".to_owned());
        let (first, last) = (at(&self.first), at(&self.last));
        let read = format!(
            "{} of {}, from {first} to {last}. Holes between the two, as of a log that was not named, are not noticed.",
            counted(self.events, "event"),
            show::count(self.sources, "log"),
        );
        let grants = report.grants.iter().map(|grant| &grant.usage);
        let all = grants.chain(report.standing.iter().map(|one| &one.usage));
        let compared: Vec<&Usage> = all.flatten().collect();
        let unused = compared.iter().filter(|usage| usage.has_unused()).count();
        let part = |usage: &&&Usage| usage.covered.as_ref().is_none_or(|c| !c.is_all());
        let in_part = compared.iter().filter(part).count();
        let held = format!(
            "{} grants and bindings held against it: {unused} with rights that were not used in this time. It does not cover the whole life of {in_part}.",
            compared.len()
        );
        let refused = format!(
            "{} of accounts refused, in {}; {} not listed.",
            counted(self.refused_requests, "request"),
            show::count(self.refused.len(), "row"),
            counted(self.refused_not_listed, "request")
        );
        let more = [
            (
                self.half_written as u64,
                "log",
                "with a half-written last event, which is left out",
            ),
            (
                self.foreign,
                "event",
                "of another cluster: use that is told here may have happened there",
            ),
            (
                self.unconfirmed as u64,
                "log",
                "without an event of an account with the UID that it has in this cluster: whether of this cluster is not known",
            ),
            (
                self.unreadable,
                "request",
                "with names that no rule can hold, not counted",
            ),
            (
                self.undecided,
                "request",
                "ended before anybody was asked whether it is allowed",
            ),
            (
                self.impersonations,
                "request",
                "of accounts as users that are no accounts, not counted",
            ),
            (
                self.of_kubernetes,
                "request",
                "of Kubernetes' own controllers by Kubernetes' own bindings, not looked at",
            ),
        ];
        let more = more.into_iter().filter(|(number, ..)| *number > 0);
        let more = more.map(|(number, what, how)| format!("{} {how}.", counted(number, what)));
        [read, held, refused].into_iter().chain(more).collect()
    }
}

impl Covered {
    /// Whether that is all of it.
    pub fn is_all(&self) -> bool {
        self.from_the_beginning && self.to_the_end
    }
}

impl Attempt {
    /// The name as it is shown.
    pub fn name_told(&self) -> String {
        match (&self.name, self.many_names) {
            (Some(name), _) => name.clone(),
            (None, true) => "(many names)".to_owned(),
            (None, false) => String::new(),
        }
    }
}

/// What was used of what one grant or one binding gives to one account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Requests that it allowed.
    pub requests: u64,
    /// When the first of them arrived. RFC 3339.
    pub first: Option<String>,
    /// When the last did.
    pub last: Option<String>,
    /// The part of its life that the log covers; none where that is nothing.
    pub covered: Option<Covered>,
    /// What it was used for.
    pub used: Vec<RightUse>,
    /// How many more rights were used than are listed.
    pub used_left_out: usize,
    /// Its rules; none where they are no longer known, or where the log covers nothing.
    pub rules: Option<Vec<RuleUse>>,
    /// How many more rules there are than are listed.
    pub rules_left_out: usize,
}

/// A part of the life of a grant or a binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Covered {
    /// Where it begins. RFC 3339.
    pub from: String,
    /// Where it ends.
    pub until: String,
    /// Whether the log reaches back to the beginning of the life.
    pub from_the_beginning: bool,
    /// Whether it reaches to its end, or to this report for what has not ended.
    pub to_the_end: bool,
}

/// A right that was used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RightUse {
    /// The verb.
    pub verb: String,
    /// `resource.group/subresource`, or the path.
    pub on: String,
    /// How often.
    pub requests: u64,
}

/// One rule, and what of it was not used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleUse {
    /// The rule in words.
    pub rule: String,
    /// Requests that it allowed.
    pub requests: u64,
    /// The parts of it that were not used, in words.
    pub unused: Vec<String>,
}

/// What `unused` of the table says where everything was used.
pub const NOTHING: &str = "nothing";
/// What it says where nobody knows the rules any more.
pub const UNKNOWN: &str = "unknown";

impl Usage {
    /// What it was used for, in words.
    pub fn used_told(&self) -> String {
        let used = self.used.iter();
        let used = used.map(|one| format!("{} {} ({})", one.verb, one.on, one.requests));
        let more = (self.used_left_out > 0).then(|| format!("and {} more", self.used_left_out));
        used.chain(more).collect::<Vec<_>>().join("; ")
    }

    /// What of it was not used, in words; empty where the log covers nothing of it.
    pub fn unused_told(&self) -> String {
        let Some(rules) = &self.rules else {
            return match self.covered {
                Some(_) => UNKNOWN.to_owned(),
                None => String::new(),
            };
        };
        let unused = rules.iter().flat_map(|rule| &rule.unused).cloned();
        let more = (self.rules_left_out > 0)
            .then(|| format!("and {} more rules that are not listed", self.rules_left_out));
        let told: Vec<String> = unused.chain(more).collect();
        match told.is_empty() {
            true => NOTHING.to_owned(),
            false => told.join("; "),
        }
    }

    /// How much of its life the log covers, in words.
    pub fn covered_told(&self, over: bool) -> &'static str {
        let Some(covered) = &self.covered else {
            return "nothing of it";
        };
        match (covered.from_the_beginning, covered.to_the_end, over) {
            (true, true, true) => "all of it",
            (true, true, false) => "all of it so far",
            (false, true, _) => "not its beginning",
            (true, false, true) => "not its end",
            (true, false, false) => "not up to now",
            (false, false, true) => "neither beginning nor end",
            (false, false, false) => "not its beginning, not up to now",
        }
    }

    /// Whether anything of its rules is known not to have been used.
    pub fn has_unused(&self) -> bool {
        let rules = self.rules.iter().flatten();
        rules.into_iter().any(|rule| !rule.unused.is_empty())
    }
}
