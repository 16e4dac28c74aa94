//! Proof of revocation: what the authorizer is asked about an account whose grant ended, and what the answers mean.
//!
//! Each right of the grant is a question, of a large grant a sample that touches every rule it can. The questions are
//! the same each time.

use crate::domain::grant::Account;
use crate::domain::plan::Observed;
use crate::domain::request::RequestView;
use crate::domain::rules::{self, Rule};
use jiff::{SignedDuration, Timestamp};

/// Most questions about one grant.
pub const MAX_QUESTIONS: usize = 24;
/// How long after the end the authorizer may still allow: it works on a copy that is a moment old.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
/// Longest time after the end at which the questions still make sense: later, other bindings may have come for good.
const WORTH_ASKING: SignedDuration = SignedDuration::from_hours(24);
/// Most rights that are named in a message.
const NAMED: usize = 4;

/// One right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The verb.
    pub verb: String,
    /// On what.
    pub on: Target,
}

/// What a right is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource; `subresource` and `name` are empty when the right has none.
    Resource {
        /// API group; empty for core.
        group: String,
        /// Plural.
        resource: String,
        /// Subresource.
        subresource: String,
        /// Name of the object; empty for any.
        name: String,
    },
    /// A URL path.
    Path(String),
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.verb)?;
        let (group, resource, subresource, name) = match &self.on {
            Target::Path(path) => return write!(f, "{path}"),
            Target::Resource {
                group,
                resource,
                subresource,
                name,
            } => (group, resource, subresource, name),
        };
        write!(f, "{resource}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if !subresource.is_empty() {
            write!(f, "/{subresource}")?;
        }
        if !name.is_empty() {
            write!(f, " '{name}'")?;
        }
        Ok(())
    }
}

/// What is asked about one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// The rights to ask about.
    pub asked: Vec<Question>,
    /// How many rights the grant had.
    pub of: usize,
}

/// Who is asked about: the account as the API server authenticates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// User name.
    pub user: String,
    /// UID of the account; empty when it is not known.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
}

impl Subject {
    /// An account, with the groups that every token of it has.
    pub fn account(account: &Account, uid: &str) -> Self {
        let Account { namespace, name } = account;
        Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.to_owned(),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
        }
    }
}

/// A right that the authorizer still gives, and what it says gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residue {
    /// The right.
    pub right: Question,
    /// What gives it, in the words of the authorizer or of Stint's index.
    pub by: String,
}

/// What the answers came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// How many rights were asked about.
    pub asked: usize,
    /// How many the grant had.
    pub of: usize,
    /// Those that are still given.
    pub residue: Vec<Residue>,
}

impl Proof {
    /// In words.
    pub fn message(&self, account: &Account) -> String {
        let Self { asked, of, residue } = self;
        let asked = format!("asked about {asked} of {of} rights");
        if residue.is_empty() {
            return format!("{account} is refused what the grant gave; {asked}");
        }
        let named = residue.iter().take(NAMED);
        let mut still: Vec<String> = named.map(|r| format!("{}, by {}", r.right, r.by)).collect();
        if residue.len() > NAMED {
            still.push(format!("and {} more", residue.len() - NAMED));
        }
        format!("{account} still may {}; {asked}", still.join("; "))
    }
}

/// Whether an ended request is to be verified: it was active, its end is not long ago, and nothing is proven yet.
pub fn is_due(view: &RequestView<'_>, observed: &Observed, now: Timestamp) -> bool {
    let Some(status) = view.status else {
        return observed.binding.is_some();
    };
    let was_active = status.activated_time.is_some() || observed.binding.is_some();
    let proven = status
        .conditions
        .iter()
        .any(|c| c.type_ == crate::api::conditions::VERIFIED);
    let ended = status.ended_time.as_ref().map_or(now, |t| t.0);
    was_active && !proven && now.duration_since(ended) <= WORTH_ASKING
}

/// The account that a request names.
pub fn account(view: &RequestView<'_>) -> Account {
    let named = view.spec.terms().account;
    let place = view.place();
    let namespace = named.namespace.as_deref().or(place.namespace());
    Account {
        namespace: namespace.unwrap_or_default().to_owned(),
        name: named.name.clone(),
    }
}

/// The rights that a request gave: those that it wrote, or those of the copy while it is there. Nobody knows them once the
/// copy of a role is gone.
pub fn about(view: &RequestView<'_>, observed: &Observed) -> Option<Questions> {
    let copied = || {
        let role = observed.role.as_ref()?;
        Some(role.rules.iter().flatten().map(Rule::from).collect())
    };
    let rules: Vec<Rule> = view.spec.rules().or_else(copied)?;
    Some(questions(&rules::canonical(&rules))).filter(|q| q.of > 0)
}

/// The questions about these rules, at most [`MAX_QUESTIONS`].
pub fn questions(rules: &[Rule]) -> Questions {
    questions_up_to(rules, MAX_QUESTIONS)
}

/// The same with at most so many questions.
pub fn questions_up_to(rules: &[Rule], most: usize) -> Questions {
    let sizes: Vec<usize> = rules
        .iter()
        .map(|r| rules::atoms(std::slice::from_ref(r)))
        .collect();
    let shares = shares(&sizes, most);
    let mut asked = Vec::new();
    for (rule, share) in rules.iter().zip(shares) {
        let size = rules::atoms(std::slice::from_ref(rule));
        let step = step(size);
        asked.extend((0..share).filter_map(|n| right(rule, n.saturating_mul(step) % size)));
    }
    Questions {
        asked,
        of: sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)),
    }
}

/// How many rights of each rule are asked about: all if there is room, otherwise one more of each in turn. With more rules
/// than questions, rules at even distances.
fn shares(sizes: &[usize], most: usize) -> Vec<usize> {
    let mut shares = vec![0; sizes.len()];
    if sizes.len() > most {
        for n in 0..most {
            let at = n * sizes.len() / most;
            shares[at] = sizes[at].min(1);
        }
        return shares;
    }
    let mut left = most;
    loop {
        let before = left;
        for (share, size) in shares.iter_mut().zip(sizes) {
            if left > 0 && *share < *size {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            return shares;
        }
    }
}

/// A step that visits every one of `size` places once and spreads the first few: near the golden section, and without a
/// common divisor.
fn step(size: usize) -> usize {
    let near = size.saturating_mul(618) / 1000;
    let coprime = (near.max(1)..=size).find(|step| gcd(*step, size) == 1);
    coprime.unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The right at this place of a rule's verbs × groups × resources × names, or verbs × paths.
fn right(rule: &Rule, at: usize) -> Option<Question> {
    let mut rest = at;
    let mut pick = |list: &[String]| {
        let size = list.len().max(1);
        let chosen = list.get(rest % size).cloned();
        rest /= size;
        chosen
    };
    let verb = pick(&rule.verbs)?;
    if !rule.non_resource_urls.is_empty() {
        let on = Target::Path(pick(&rule.non_resource_urls)?);
        return Some(Question { verb, on });
    }
    let (group, resource) = (pick(&rule.api_groups)?, pick(&rule.resources)?);
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
        None => (resource, String::new()),
    };
    let on = Target::Resource {
        group,
        resource,
        subresource,
        name: pick(&rule.resource_names).unwrap_or_default(),
    };
    Some(Question { verb, on })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn words(prefix: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{prefix}{n}")).collect()
    }

    fn rule(verbs: usize, resources: usize, names: usize) -> Rule {
        Rule {
            api_groups: vec!["apps".into()],
            resources: words("r", resources),
            resource_names: words("n", names),
            verbs: words("v", verbs),
            non_resource_urls: Vec::new(),
        }
    }

    fn texts(questions: &Questions) -> Vec<String> {
        questions.asked.iter().map(Question::to_string).collect()
    }

    #[test]
    fn of_a_small_grant_every_right_is_asked() {
        let paths = Rule {
            verbs: vec!["get".into()],
            non_resource_urls: vec!["/metrics".into(), "/healthz".into()],
            ..Rule::default()
        };
        let log = Rule {
            api_groups: vec![String::new()],
            resources: vec!["pods/log".into()],
            verbs: vec!["get".into()],
            ..Rule::default()
        };
        let questions = questions(&[rule(2, 1, 2), log, paths]);
        let asked: BTreeSet<String> = texts(&questions).into_iter().collect();
        let expected = [
            "get /healthz",
            "get /metrics",
            "get pods/log",
            "v0 r0.apps 'n0'",
            "v0 r0.apps 'n1'",
            "v1 r0.apps 'n0'",
            "v1 r0.apps 'n1'",
        ];
        assert_eq!(asked, expected.map(str::to_owned).into());
        assert_eq!((questions.asked.len(), questions.of), (7, 7));
    }

    #[test]
    fn of_a_large_grant_a_bounded_sample_of_every_rule_is_asked_always_the_same() {
        let one = Rule {
            api_groups: vec!["batch".into()],
            ..rule(1, 1, 1)
        };
        let rules = [rule(4, 5, 50), one, rule(2, 3, 0)];
        let sample = questions(&rules);
        assert_eq!((sample.asked.len(), sample.of), (MAX_QUESTIONS, 1007));
        assert_eq!(sample, questions(&rules));
        let asked = texts(&sample);
        let distinct: BTreeSet<&String> = asked.iter().collect();
        assert_eq!(distinct.len(), MAX_QUESTIONS, "none twice");
        let of_first: Vec<&String> = asked.iter().take(17).collect();
        let with = |word: &str| of_first.iter().any(|t| t.contains(word));
        assert!(
            words("v", 4).iter().chain(&words("r", 5)).all(|w| with(w)),
            "{asked:?}"
        );
        assert!(asked.contains(&"v0 r0.batch 'n0'".to_owned()));
        assert!(asked.contains(&"v1 r2.apps".to_owned()), "{asked:?}");
    }

    #[test]
    fn of_more_rules_than_questions_some_are_asked_from_first_to_last() {
        let rules: Vec<Rule> = (0..1000)
            .map(|n| Rule {
                resources: vec![format!("r{n}")],
                ..rule(1, 1, 1)
            })
            .collect();
        let sample = questions(&rules);
        assert_eq!((sample.asked.len(), sample.of), (MAX_QUESTIONS, 1000));
        assert!(texts(&sample)[23].contains("r958."), "{:?}", texts(&sample));
    }

    #[test]
    fn rules_without_anything_ask_nothing() {
        assert_eq!(questions(&[Rule::default()]).asked, []);
        assert_eq!(questions(&[]).of, 0);
    }
}
