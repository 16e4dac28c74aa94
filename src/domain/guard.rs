//! The guard on plain RBAC: what a change of a role or binding adds to what was possible before, how much that matters in
//! its place, and who is not asked.
//!
//! An object that is there is never refused for what it was: only for what a change adds. So a tool that applies the same
//! manifest again, or changes labels, always passes.

use crate::domain::binding::{self, Binding, BoundRole};
use crate::domain::catalogue::Scope;
use crate::domain::covers::Ceiling;
use crate::domain::guard_report::Reporting;
use crate::domain::plain::{self, PlainFinding, Weight};
use crate::domain::rules::Rule;
use crate::domain::violation::{Problem, Violation};
use k8s_openapi::api::rbac::v1::{AggregationRule, Subject};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Most parts of a growth that are told one by one.
const MAX_GAINED: usize = 5;

/// What becomes of what the guard finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Allowed, counted and told to those who watch.
    Audit,
    /// The same, and told to who asked.
    Warn,
    /// Errors are refused.
    Deny,
}

impl Mode {
    /// The word in labels, flags and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }

    /// The mode with this word.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Audit, Self::Warn, Self::Deny];
        all.into_iter().find(|mode| mode.as_str() == word)
    }

    /// The mode of a namespace with this label. A word that is none denies: somebody wanted more than the default.
    pub fn of_label(label: Option<&str>, default: Self) -> Self {
        label.map_or(default, |word| Self::parse(word).unwrap_or(Self::Deny))
    }
}

/// Users of the control plane that write roles and bindings to keep the cluster going: the API server's own bootstrap, and
/// the controllers of kube-controller-manager, under one name or, with `--use-service-account-credentials`, under theirs.
pub const CONTROL_PLANE: [&str; 7] = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:clusterrole-aggregation-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:ttl-after-finished-controller",
];

/// Who is not asked, by identity alone: labels and names of objects are anybody's to choose.
#[derive(Clone, Debug, Default)]
pub struct Exempt {
    /// The operator's own user name.
    pub operator: String,
    /// Groups of those who must get through in an emergency.
    pub groups: Vec<String>,
    /// Users that manage add-ons.
    pub users: Vec<String>,
}

impl Exempt {
    /// Whether this user is not asked.
    pub fn covers(&self, user: &str, groups: &[String]) -> bool {
        CONTROL_PLANE.contains(&user)
            || user == self.operator
            || self.users.iter().any(|exempt| exempt == user)
            || self.groups.iter().any(|exempt| groups.contains(exempt))
    }
}

/// How the guard is set.
#[derive(Clone, Debug)]
pub struct Guarding {
    /// Mode of namespaces without a label.
    pub default_mode: Mode,
    /// Mode of ClusterRoles and ClusterRoleBindings; none when they are left alone.
    pub cluster: Option<Mode>,
    /// Who is not asked.
    pub exempt: Exempt,
    /// How what is there already is reported; none when it is not.
    pub reporting: Option<Reporting>,
}

/// A role as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlainRole {
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Its labels, by which other ClusterRoles may take it in.
    pub labels: BTreeMap<String, String>,
    /// What it takes in itself.
    pub aggregation: Option<AggregationRule>,
}

/// Labels by which Kubernetes or Stint puts the rules of a ClusterRole into another one.
const TAKEN_IN: &str = "rbac.authorization.k8s.io/aggregate-to-";
const GRANTABLE: &str = "rbac.stint.dev/grantable";

impl PlainRole {
    fn taken_in_by(&self) -> BTreeSet<(&String, &String)> {
        let by = |(key, _): &(&String, &String)| key.starts_with(TAKEN_IN) || *key == GRANTABLE;
        self.labels.iter().filter(by).collect()
    }

    /// Its rules come to more people than before, whatever they are.
    fn reaches_further_than(&self, old: &Self) -> bool {
        !self.taken_in_by().is_subset(&old.taken_in_by())
    }
}

/// What a new or changed role adds. `bound` are the bindings that give it to accounts without an end.
pub fn role_change(
    old: Option<&PlainRole>,
    new: &PlainRole,
    scope: Scope<'_>,
    bound: &[String],
) -> Vec<PlainFinding> {
    let nothing = PlainRole::default();
    let known = old.filter(|old| !new.reaches_further_than(old));
    let before = old.unwrap_or(&nothing);
    let gained = gained_rules(&before.rules, &new.rules);
    let takes_in = new.aggregation.is_some() && new.aggregation != before.aggregation;
    if known.is_some() && gained.is_empty() && !takes_in {
        return Vec::new();
    }
    let told_before = known.map(|old| plain::of_rules(&old.rules, "rules", true, scope));
    let told_before: HashSet<_> = told_before.iter().flatten().map(what).collect();
    let now = plain::of_rules(&new.rules, "rules", true, scope);
    let (tolerated, mut out): (Vec<_>, Vec<_>) = now
        .iter()
        .cloned()
        .partition(|found| told_before.contains(&what(found)));
    let why = match (codes(&tolerated), bound) {
        (_, [first, ..]) => format!(
            "is more than the role had, and {first} gives it to accounts without an end; ask for a WorkloadAccess instead"
        ),
        (codes, []) if !codes.is_empty() => format!(
            "is more than the role had, which would be refused as it is ({codes}); make a role of its own for it"
        ),
        _ => return out,
    };
    let rules = gained.iter().take(MAX_GAINED);
    out.extend(rules.map(|rule| grew("rules", &rule.to_string(), &why)));
    if takes_in {
        out.push(grew(
            "aggregationRule",
            "what other ClusterRoles have",
            &why,
        ));
    }
    out
}

/// What makes two findings the same wherever they stand in the object.
fn what(found: &PlainFinding) -> (&'static str, Option<String>, String) {
    let violation = &found.violation;
    (
        violation.code,
        violation.found.clone(),
        violation.message.clone(),
    )
}

/// The rules that were not there before, by their meaning.
fn gained_rules(old: &[Rule], new: &[Rule]) -> Vec<Rule> {
    match old == new {
        true => Vec::new(),
        false => Ceiling::compile(old).uncovered(new),
    }
}

/// The codes of the errors among the findings.
fn codes(found: &[PlainFinding]) -> String {
    let errors = found.iter().filter(|f| f.weight == Weight::Error);
    let codes: BTreeSet<&str> = errors.map(|f| f.violation.code).collect();
    codes.into_iter().collect::<Vec<_>>().join(", ")
}

fn grew(path: &str, found: &str, why: &str) -> PlainFinding {
    PlainFinding {
        weight: Weight::Error,
        severity: None,
        violation: Violation::new("WA-GREW", path, Problem::Forbidden, why).found(found),
    }
}

/// The subjects of a new or changed binding that were not there before, by who they are; each with its index.
pub fn gained<'a>(
    old: Option<&[Subject]>,
    new: &'a [Subject],
    scope: Scope<'_>,
) -> Vec<(usize, &'a Subject)> {
    let identity = |subject: &Subject| binding::identity(scope, subject);
    let before: HashSet<String> = old.unwrap_or_default().iter().map(identity).collect();
    let subjects = new.iter().enumerate();
    subjects
        .filter(|(_, subject)| !before.contains(&identity(subject)))
        .collect()
}

/// What a new or changed binding adds. A changed one has the role that it had, which Kubernetes sees to.
pub fn binding_change(old: Option<&[Subject]>, new: &Binding<'_>) -> Vec<PlainFinding> {
    let gained = gained(old, new.subjects, new.scope).into_iter();
    let gained: Vec<(String, &Subject)> = gained
        .map(|(i, subject)| (format!("subjects[{i}]"), subject))
        .collect();
    if old.is_some() && gained.is_empty() {
        return Vec::new();
    }
    let is_gained = |found: &PlainFinding| {
        let mut paths = gained.iter().map(|(path, _)| path);
        paths.any(|path| *path == found.violation.path)
    };
    let (of_role, of_subjects): (Vec<_>, Vec<_>) = of_binding(new)
        .into_iter()
        .partition(|found| found.violation.path == "roleRef");
    let mut out: Vec<PlainFinding> = of_subjects.into_iter().filter(is_gained).collect();
    let tolerated = codes(&of_role);
    if old.is_none() {
        out.extend(of_role);
    } else if !tolerated.is_empty() {
        let why = format!(
            "is added to a binding that would be refused if it were new ({tolerated}); ask for a WorkloadAccess, or bind a narrower role"
        );
        out.extend(
            gained
                .iter()
                .map(|(path, subject)| grew(path, &subject.name, &why)),
        );
    }
    out
}

/// Everything about a binding: its subjects, those of them that hold it without an end, and what its role gives.
pub fn of_binding(binding: &Binding<'_>) -> Vec<PlainFinding> {
    let mut out = plain::of_binding(binding);
    let standing = binding::standing(binding).into_iter();
    out.extend(standing.map(|found| PlainFinding {
        weight: Weight::Error,
        severity: Some(found.finding.severity),
        violation: found.violation,
    }));
    if let BoundRole::Found { rules, .. } = binding.role {
        out.extend(plain::of_rules(rules, "roleRef", false, binding.scope));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_is_no_mode_denies() {
        assert_eq!(Mode::of_label(None, Mode::Audit), Mode::Audit);
        assert_eq!(Mode::of_label(Some("warn"), Mode::Audit), Mode::Warn);
        assert_eq!(Mode::of_label(Some("Audit"), Mode::Audit), Mode::Deny);
        assert!(Mode::Audit < Mode::Warn && Mode::Warn < Mode::Deny);
    }

    #[test]
    fn nobody_is_exempt_by_a_name_that_merely_looks_like_one() {
        let exempt = Exempt {
            operator: "system:serviceaccount:stint-system:stint".into(),
            groups: vec!["system:masters".into()],
            users: vec!["flux".into()],
        };
        let covers = |user: &str, group: &str| exempt.covers(user, &[group.to_owned()]);
        assert!(covers("flux", "") && covers("jane", "system:masters"));
        assert!(covers(&exempt.operator, "") && covers("system:apiserver", ""));
        for user in [
            "",
            "system:masters",
            "system:apiserver2",
            "system:serviceaccount:kube-system:my-controller",
            "system:serviceaccount:dev:generic-garbage-collector",
        ] {
            assert!(!covers(user, "flux"), "{user}");
        }
    }
}
