//! Grants and bindings, held against what the audit log says was used of them.

use super::attempts;
use super::collect::{Bound, Found};
use super::model::{NotRead, Report};
use super::usage::{AuditLog, Covered, RightUse, RuleUse, Usage};
use crate::audit_log::Log;
use crate::{requests, show};
use jiff::Timestamp;
use kube::core::DynamicObject;
use std::collections::HashMap;
use stint::api::names;
use stint::api::workload_access::WorkloadAccessStatus;
use stint::cluster::standing::RoleKey;
use stint::domain::grant::Account;
use stint::domain::request::AccessRequest;
use stint::domain::rules::Rule;
use stint::domain::usage::granted::{BindingKey, Line, Used};
use stint::domain::usage::tally;
use stint::domain::verification::Subject;
use stint::domain::window;

/// Most rules of one row, and most rights that were used; a role of megabytes must not become a report of gigabytes.
const MAX_TOLD: usize = 64;
/// Groups of accounts, as rows name them.
const GROUP: &str = "Group ";

/// Adds to the report what the log says: of the log itself, of each grant that began, and of each standing right that is not
/// Kubernetes' own.
pub fn add(report: &mut Report, found: &Found, log: &Log) {
    let known = Known::of(found);
    let now = report.at.parse().unwrap_or(Timestamp::MAX);
    let mut compare = Compare {
        log,
        used: HashMap::new(),
    };
    for grant in &mut report.grants {
        let Some((key, rules)) = known.grants.get(grant.uid.as_str()) else {
            continue;
        };
        // What never began gave nothing.
        let Some(from) = instant(grant.from.as_deref()) else {
            continue;
        };
        let end = instant(grant.ended.as_deref()).unwrap_or(now);
        let rules = rules.as_deref().or_else(|| known.rules(key));
        grant.usage = Some(compare.usage(&grant.account, key, rules, from..end));
    }
    for one in &mut report.standing {
        if one.is_of_kubernetes() {
            continue;
        }
        let key = BindingKey {
            namespace: one.namespace.clone(),
            name: one.name.clone(),
        };
        let from = instant(one.since.as_deref()).unwrap_or(Timestamp::MIN);
        let rules = known.rules(&key);
        one.usage = Some(compare.usage(&one.account, &key, rules, from..now));
    }
    report.audit_log = Some(told(log));
    let damage = log.damage().into_iter();
    report.not_read.extend(damage.map(|why| NotRead {
        what: "audit log".to_owned(),
        why,
    }));
}

fn told(log: &Log) -> AuditLog {
    let at = |at: Option<Timestamp>| at.map(|at| window::round_down(at).to_string());
    let refused = attempts::all(&log.tally);
    AuditLog {
        sources: log.sources,
        events: log.events,
        first: at(log.period.first()),
        last: at(log.period.last()),
        damaged: log.damaged,
        half_written: log.open_ended.len(),
        foreign: log.foreign,
        unconfirmed: log.unconfirmed.len(),
        undecided: log.undecided,
        unreadable: log.unreadable,
        impersonations: log.impersonations,
        of_kubernetes: log.of_the_cluster,
        refused_requests: refused.requests,
        refused_not_listed: refused.not_listed,
        refused: refused.attempts,
    }
}

fn instant(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

/// The binding of a request, and its rules where it writes them itself.
type OfRequest = (BindingKey, Option<Vec<Rule>>);

/// What grants and bindings give.
struct Known<'a> {
    /// By the UID of the request.
    grants: HashMap<&'a str, OfRequest>,
    bindings: HashMap<BindingKey, &'a Bound>,
    found: &'a Found,
}

impl<'a> Known<'a> {
    fn of(found: &'a Found) -> Self {
        let bindings = found.bindings.iter().map(|bound| {
            let key = BindingKey {
                namespace: bound.meta.namespace.clone(),
                name: bound.meta.name.clone().unwrap_or_default(),
            };
            (key, bound)
        });
        Self {
            grants: found.requests.iter().filter_map(of_request).collect(),
            bindings: bindings.collect(),
            found,
        }
    }

    /// The rules of the role of a binding, if both are there.
    fn rules(&self, key: &BindingKey) -> Option<&'a [Rule]> {
        let bound = self.bindings.get(key)?;
        let role = RoleKey::referred(&bound.role_ref, bound.meta.namespace.as_deref());
        let role = self.found.roles.get(&role)?;
        Some(&role.rules)
    }
}

/// The name of the binding is known from the request, also when the binding is gone.
fn of_request(object: &DynamicObject) -> Option<(&str, OfRequest)> {
    let uid = object.metadata.uid.as_deref()?;
    let access = requests::read(object).ok()?;
    let view = access.view();
    let stamp = view.status.and_then(WorkloadAccessStatus::binding);
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let made = || names::made_object_name(name, uid);
    let key = BindingKey {
        namespace: object.metadata.namespace.clone(),
        name: stamp.map_or_else(made, |stamp| stamp.name.clone()),
    };
    Some((uid, (key, view.spec.rules())))
}

struct Compare<'a> {
    log: &'a Log,
    /// By account, or by group of accounts.
    used: HashMap<String, Used<'a>>,
}

impl Compare<'_> {
    fn usage(
        &mut self,
        holder: &str,
        key: &BindingKey,
        rules: Option<&[Rule]>,
        life: std::ops::Range<Timestamp>,
    ) -> Usage {
        let covered = self.covered(life);
        let log = self.log;
        let used = self.used.entry(holder.to_owned());
        let used = used.or_insert_with(|| Used::of(&log.tally, members(log, holder)));
        let (first, last) = used.times(key);
        let at = |at: Option<Timestamp>| at.map(|at| window::round_down(at).to_string());
        let rights = used.rights(key);
        let lines = rules.filter(|_| covered.is_some());
        let lines = lines.map(|rules| used.lines(key, rules));
        let count = lines.as_ref().map_or(0, Vec::len);
        Usage {
            requests: used.requests(key),
            first: at(first),
            last: at(last),
            covered,
            used_left_out: rights.len().saturating_sub(MAX_TOLD),
            used: rights.into_iter().take(MAX_TOLD).map(right).collect(),
            rules_left_out: count.saturating_sub(MAX_TOLD),
            rules: lines.map(|lines| lines.iter().take(MAX_TOLD).map(rule).collect()),
        }
    }

    /// The part of a life that lies between the first event and the last.
    fn covered(&self, life: std::ops::Range<Timestamp>) -> Option<Covered> {
        let first = self.log.period.first()?;
        let last = self.log.period.last()?;
        let (from, until) = (first.max(life.start), last.min(life.end));
        (from <= until).then(|| Covered {
            from: window::round_down(from).to_string(),
            until: window::round_down(until).to_string(),
            from_the_beginning: first <= life.start,
            to_the_end: last >= life.end,
        })
    }
}

/// The accounts of the log that a row means: the one that it names, or those of its group.
fn members<'a>(log: &'a Log, holder: &str) -> Vec<&'a tally::Account> {
    let Some(group) = holder.strip_prefix(GROUP) else {
        return log.tally.account(holder).into_iter().collect();
    };
    let accounts = log.tally.accounts();
    let meant = accounts.filter(|(name, _)| groups(name).iter().any(|one| one == group));
    meant.map(|(_, account)| account).collect()
}

fn groups(account: &str) -> Vec<String> {
    let (namespace, name) = account.split_once('/').unwrap_or_default();
    let account = Account {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    Subject::account(&account, "").groups
}

fn right(((verb, on), requests): ((String, String), u64)) -> RightUse {
    RightUse { verb, on, requests }
}

fn rule(line: &Line) -> RuleUse {
    let words = |rule: &Rule| show::line(&rule.to_string());
    RuleUse {
        rule: words(&line.rule),
        requests: line.used.values().sum(),
        unused: line.unused.iter().map(words).collect(),
    }
}
