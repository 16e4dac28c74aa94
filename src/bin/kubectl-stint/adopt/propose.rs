//! The policy and the request that give what a binding gives, judged as `lint` judges them. What does not pass is not proposed.

use super::entry::{Told, why};
use super::source::object;
use crate::access::judge_access;
use crate::bindings;
use crate::rbac::judge_policy;
use crate::report::{Finding, Judged, Level, Outcome, severity_name};
use crate::world::World;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stint::api::names;
use stint::domain::catalogue::{self, Disposition};
use stint::domain::grant::Account;
use stint::domain::hygiene;
use stint::domain::plain::scope_of;
use stint::domain::receipt;
use stint::domain::request;
use stint::domain::rules::{self, Rule};
use stint::domain::served;
use stint::domain::{catalogue::Scope, window};

/// How long grants of a risk last at most unless a policy says otherwise, from medium to critical.
const LONGEST: [&str; 3] = ["24h", "8h", "1h"];
/// Code of a role that gives nothing where it is bound.
pub const GIVES_NOTHING: &str = "WA-INERT";
/// Most resources that are named in a note.
const SHOWN: usize = 8;
/// Rounds in which findings are accepted or the time is shortened; the catalogue has no longer chains.
const ROUNDS: usize = 8;

/// What takes the place of a binding.
#[derive(Debug)]
pub struct Proposal {
    /// Name of both objects.
    pub name: String,
    /// The AccessPolicy.
    pub policy: Value,
    /// The WorkloadAccess or ClusterWorkloadAccess.
    pub request: Value,
    /// The rights that stay, in canonical form.
    pub rules: Vec<Rule>,
    /// How long the grant lasts.
    pub duration: String,
    /// Findings that the policy accepts knowingly, so that the rights stay the same.
    pub accepts: Vec<String>,
    /// What is different from the binding, or worth knowing.
    pub notes: Vec<String>,
}

/// Whose rights, and where.
pub struct Place<'a> {
    /// Name of the binding.
    pub binding: &'a str,
    /// Its namespace; none for the whole cluster.
    pub namespace: Option<&'a str>,
    /// The account.
    pub account: &'a Account,
    /// How long the grant lasts at most.
    pub duration: &'a str,
}

impl Place<'_> {
    /// The namespace whose labels a policy selects by.
    fn home(&self) -> &str {
        self.namespace.unwrap_or(&self.account.namespace)
    }

    fn scope(&self) -> Scope<'_> {
        self.namespace.map_or(Scope::Cluster, scope_of)
    }

    fn binding(&self) -> String {
        bindings::title(self.namespace, self.binding)
    }

    /// The same name each time, and another for each binding and account.
    fn name(&self) -> String {
        let title = format!("{} {}", self.binding(), self.account);
        let hash = receipt::sha256(title.as_bytes());
        let hex: String = hash.chars().skip("sha256:".len()).take(8).collect();
        let plain = |c: char| match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
            _ => '-',
        };
        let words: String = self.account.name.chars().take(40).map(plain).collect();
        format!("adopt-{}-{hex}", words.trim_matches('-'))
    }
}

/// What would replace the binding, or every reason why nothing can.
pub fn propose(
    place: &Place<'_>,
    all: &[Rule],
    world: &mut World,
    now: Timestamp,
) -> Result<Proposal, Vec<Told>> {
    if !hygiene::fits(all) {
        let message = "the role is too large to be copied into a grant; split it".to_owned();
        return Err(vec![why("OB-R05", "roleRef", message)]);
    }
    let rules = kept(place, all, world);
    let unserved = unserved(all, world);
    if rules.is_empty() {
        return Err(vec![match unserved.is_empty() {
            true => why(
                GIVES_NOTHING,
                "roleRef",
                "the role gives nothing here".to_owned(),
            ),
            false => why("WA-UNKNOWN-RESOURCE", "roleRef", not_served(&unserved)),
        }]);
    }
    let mut notes = left_out(all, &rules);
    if !unserved.is_empty() {
        notes.push(not_served(&unserved));
    }
    let mut draft = Draft {
        place,
        notes,
        rules,
        accepts: Vec::new(),
        duration: place.duration.to_owned(),
    };
    for _ in 0..ROUNDS {
        let judged = draft.judge(world, now);
        let refused: Vec<&Finding> = judged.iter().flat_map(errors).collect();
        let undecided = judged.iter().any(|j| j.outcome == Outcome::Undecided);
        if refused.is_empty() && !undecided {
            return Ok(draft.done(world));
        }
        if !draft.accept(&refused) && !draft.shorten(&refused) {
            return Err(reasons(&judged));
        }
    }
    let message = "no policy could be found that admits this".to_owned();
    Err(vec![why("WA-NOT-ALLOWED", "spec.allow", message)])
}

/// Of rules that cannot be moved together, those that could be alone.
pub fn fine(place: &Place<'_>, all: &[Rule], world: &mut World, now: Timestamp) -> Vec<String> {
    if !hygiene::fits(all) {
        return Vec::new();
    }
    let alone = |rule: &&Rule| propose(place, std::slice::from_ref(*rule), world, now).is_ok();
    all.iter().filter(alone).map(Rule::to_string).collect()
}

/// What of the role does anything where it is bound, as far as somebody knows what is served.
fn kept(place: &Place<'_>, all: &[Rule], world: &World) -> Vec<Rule> {
    if let Some(served) = &world.served {
        return rules::canonical(&served::effective(all, place.scope(), served));
    }
    let reaches = |rule: &&Rule| place.namespace.is_none() || !rule.resources.is_empty();
    let mut rules: Vec<Rule> = all.iter().filter(reaches).cloned().collect();
    if place.namespace.is_some() {
        rules
            .iter_mut()
            .for_each(|rule| rule.non_resource_urls.clear());
    }
    rules::canonical(&rules)
}

/// Resources by name that nothing serves, in the words of kubectl.
fn unserved(all: &[Rule], world: &World) -> BTreeSet<String> {
    let Some(served) = &world.served else {
        return BTreeSet::new();
    };
    let unknown = served.unknown(all).into_iter();
    let words = unknown.map(|(group, resource)| match group {
        "" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    });
    words.collect()
}

fn not_served(unserved: &BTreeSet<String>) -> String {
    let named: Vec<&str> = unserved.iter().take(SHOWN).map(String::as_str).collect();
    let more = match unserved.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "nothing serves {}{more}: a grant cannot have them, and whoever asks the authorizer for them (as kube-rbac-proxy does) loses them",
        named.join(", ")
    )
}

fn left_out(all: &[Rule], kept: &[Rule]) -> Vec<String> {
    let (before, after) = (rules::atoms(&rules::canonical(all)), rules::atoms(kept));
    match before.saturating_sub(after) {
        0 => Vec::new(),
        1 => vec!["left out: one right that does nothing through this binding".into()],
        lost => vec![format!(
            "left out: {lost} rights that do nothing through this binding"
        )],
    }
}

struct Draft<'a> {
    place: &'a Place<'a>,
    rules: Vec<Rule>,
    accepts: Vec<String>,
    duration: String,
    notes: Vec<String>,
}

impl Draft<'_> {
    /// Lists more findings in the policy, if that is what the refusals ask for.
    fn accept(&mut self, refused: &[&Finding]) -> bool {
        let codes = refused.iter().filter_map(|f| f.code.clone());
        let more: Vec<String> = codes
            .filter(|code| acceptable(code) && !self.accepts.contains(code))
            .collect();
        let any = !more.is_empty();
        self.accepts.extend(more);
        self.accepts.sort();
        self.accepts.dedup();
        any
    }

    /// Takes the next shorter time that a risk may last, if that is what the refusals ask for.
    fn shorten(&mut self, refused: &[&Finding]) -> bool {
        let too_long = |f: &&Finding| f.code.as_deref() == Some("WA-TOO-LONG");
        if !refused.iter().any(too_long) {
            return false;
        }
        let length = |text: &str| window::parse_duration("duration", text).ok();
        let shorter = |next: &&str| length(next) < length(&self.duration);
        let Some(next) = LONGEST.into_iter().find(|next| shorter(next)) else {
            return false;
        };
        next.clone_into(&mut self.duration);
        true
    }

    fn done(self, world: &World) -> Proposal {
        let (policy, request) = (self.policy(), self.request());
        let Self {
            place,
            rules,
            accepts,
            duration,
            mut notes,
        } = self;
        if duration != place.duration {
            notes.push(format!(
                "lasts {duration} instead of {}: rights of this risk are not given for longer [WA-TOO-LONG]",
                place.duration
            ));
        }
        if place.namespace.is_none() {
            let text = "needs an installation with the chart value `clusterGrants.enabled`; nothing but Stint itself ends a grant in the whole cluster";
            notes.push(text.into());
        }
        if place.namespace.is_none() && world.served.is_none() {
            let text = "whether what is asked for lives in namespaces was not looked up; if so, the policy has to list OB-W07 in `allow.findings`";
            notes.push(text.into());
        }
        Proposal {
            name: place.name(),
            policy,
            request,
            rules,
            duration,
            accepts,
            notes,
        }
    }

    /// The policy, then the request under that policy alone: beside all that is known, and again without the binding that it
    /// replaces, for a grant is judged anew when something about its account changes.
    fn judge(&self, world: &mut World, now: Timestamp) -> Vec<Judged> {
        let place = self.place;
        let policy = object("<proposal>", self.policy());
        let request = object("<proposal>", self.request());
        let judged_policy = judge_policy(&policy);
        world.policies.clear();
        world.broken_policies = 0;
        world.add(&policy, place.home());
        let at = request::Place::of(place.namespace.map(str::to_owned));
        let beside = judge_access(&request, &at, world, now);
        let replaced = world.set_aside(place.namespace, place.binding);
        let alone = judge_access(&request, &at, world, now);
        world.know(replaced);
        vec![judged_policy, beside, alone]
    }

    fn policy(&self) -> Value {
        let place = self.place;
        let mut accounts = json!({"names": [place.account.name]});
        if place.account.namespace != place.home() {
            accounts["namespaces"] = json!([place.account.namespace]);
        }
        let mut allow = json!({"rules": self.rules});
        if !self.accepts.is_empty() {
            allow["findings"] = json!(self.accepts);
        }
        if place.namespace.is_none() {
            allow["cluster"] = json!(true);
        }
        json!({
            "apiVersion": format!("{}/v1alpha1", names::GROUP), "kind": "AccessPolicy",
            "metadata": {"name": place.name()},
            "spec": {"namespaceSelector": {"matchLabels": {names::NAMESPACE_NAME: place.home()}}, "serviceAccounts": accounts,
                     "allow": allow, "limits": {"maxDuration": self.duration}}
        })
    }

    fn request(&self) -> Value {
        let place = self.place;
        let mut account = json!({"name": place.account.name});
        if place.namespace != Some(place.account.namespace.as_str()) {
            account["namespace"] = json!(place.account.namespace);
        }
        let mut metadata = json!({"name": place.name()});
        let kind = match place.namespace {
            Some(namespace) => {
                metadata["namespace"] = json!(namespace);
                "WorkloadAccess"
            }
            None => "ClusterWorkloadAccess",
        };
        let reason = format!("instead of {}", place.binding());
        json!({
            "apiVersion": format!("{}/v1alpha1", names::GROUP), "kind": kind, "metadata": metadata,
            "spec": {"serviceAccountRef": account, "rules": self.rules, "duration": self.duration, "reason": reason}
        })
    }
}

fn acceptable(code: &str) -> bool {
    catalogue::code(code).is_some_and(|check| check.disposition == Disposition::Named)
}

fn errors(judged: &Judged) -> impl Iterator<Item = &Finding> {
    judged.findings.iter().filter(|f| f.level == Level::Error)
}

fn reasons(judged: &[Judged]) -> Vec<Told> {
    let mut out: Vec<Told> = Vec::new();
    let decisive = judged.iter().flat_map(|j| &j.findings).filter(|f| {
        f.level == Level::Error
            || (f.level == Level::Warning && f.message.starts_with("not judged"))
    });
    for finding in decisive {
        let told = Told {
            code: finding
                .code
                .clone()
                .unwrap_or_else(|| "WA-NOT-ALLOWED".into()),
            severity: finding.severity.map(severity_name),
            path: finding.path.clone(),
            message: finding.message.clone(),
        };
        if !out.contains(&told) {
            out.push(told);
        }
    }
    out
}
