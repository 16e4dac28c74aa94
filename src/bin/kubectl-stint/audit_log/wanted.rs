//! Which requests of the log are meant: of which accounts, and of when.

use crate::outcome::Failure;
use crate::place::legal;
use jiff::Timestamp;
use stint::domain::defaults::Own;
use stint::domain::judge::is_cluster_namespace;
use stint::domain::usage::granted;
use stint::domain::usage::request::{Decision, Seen};
use stint::domain::window;

/// What is looked for.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Only these accounts, as namespace and name; all when empty.
    accounts: Vec<(String, String)>,
    /// Only accounts of this namespace.
    namespace: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    review: Option<Review>,
}

/// What an access review asks about: every account, in all places or in one.
#[derive(Debug)]
struct Review {
    namespace: Option<String>,
    own: Own,
}

impl Review {
    /// What Kubernetes' own bindings allow its own controllers: most of a log, and nothing that anybody reviews. What they are
    /// refused, and what other bindings allow them, is.
    fn passes_over(&self, seen: &Seen<'_>) -> bool {
        seen.decision == Decision::Allowed
            && self.own.is_account(seen.namespace, seen.name)
            && granted::binding(seen.reason).is_some_and(|binding| {
                let namespace = binding.namespace.as_deref();
                self.own.is_binding(namespace, &binding.name)
            })
    }

    /// Where a namespace is named: what its accounts do, and what is done in it.
    fn holds(&self, seen: &Seen<'_>) -> bool {
        let here = |namespace: &String| namespace == seen.namespace || namespace == seen.place;
        self.namespace.as_ref().is_none_or(here)
    }
}

impl Wanted {
    /// What an access review of a namespace, or of the whole cluster, is about.
    pub fn for_review(namespace: Option<&str>) -> Self {
        let review = Review {
            namespace: namespace.map(str::to_owned),
            own: Own::list(),
        };
        Self {
            review: Some(review),
            ..Self::default()
        }
    }

    /// What to do when it is too much.
    pub fn remedy(&self) -> &'static str {
        match self.review {
            Some(_) => "report one namespace with -n, or name fewer logs",
            None => "choose accounts with -n or --account, or a shorter time with --since",
        }
    }

    /// From flags: accounts as `NAMESPACE/NAME`, or `NAME` in the namespace.
    pub fn of(
        accounts: &[String],
        namespace: Option<&str>,
        since: Option<&str>,
        until: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        if let Some(namespace) = namespace {
            legal("namespace", namespace)?;
        }
        let of_account = |text: &String| {
            let (of, name) = match (text.split_once('/'), namespace) {
                (Some((of, name)), _) => (of, name),
                (None, Some(of)) => (of, text.as_str()),
                (None, None) => {
                    let why = format!(
                        "'{}' does not say of which namespace; write NAMESPACE/NAME, or add -n",
                        text.escape_default()
                    );
                    return Err(Failure::Error(why));
                }
            };
            Ok((
                legal("namespace", of)?.to_owned(),
                legal("ServiceAccount", name)?.to_owned(),
            ))
        };
        let at =
            |flag: &str, text: Option<&str>| text.map(|text| instant(flag, text, now)).transpose();
        let (since, until) = (at("since", since)?, at("until", until)?);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Failure::Error("--since is not before --until".into()));
        }
        Ok(Self {
            accounts: accounts.iter().map(of_account).collect::<Result<_, _>>()?,
            namespace: namespace.map(str::to_owned),
            since,
            until,
            review: None,
        })
    }

    /// Text that stands in every event that is meant.
    pub fn marker(&self) -> String {
        match (self.accounts.as_slice(), &self.namespace) {
            ([(namespace, name)], _) => format!("system:serviceaccount:{namespace}:{name}\""),
            ([], Some(namespace)) => format!("system:serviceaccount:{namespace}:"),
            _ => "system:serviceaccount:".into(),
        }
    }

    /// Whether a request is one of Kubernetes' own controllers, which are left out where nobody named them.
    pub fn is_of_the_cluster(&self, seen: &Seen<'_>) -> bool {
        if let Some(review) = &self.review {
            return review.passes_over(seen);
        }
        self.accounts.is_empty() && self.namespace.is_none() && is_cluster_namespace(seen.namespace)
    }

    /// Whether a request is meant.
    pub fn holds(&self, seen: &Seen<'_>) -> bool {
        if let Some(review) = &self.review {
            return review.holds(seen);
        }
        let account =
            |(namespace, name): &(String, String)| namespace == seen.namespace && name == seen.name;
        let of_account = match self.accounts.as_slice() {
            [] => self
                .namespace
                .as_ref()
                .is_none_or(|namespace| namespace == seen.namespace),
            accounts => accounts.iter().any(account),
        };
        of_account && self.in_time(seen.at)
    }

    /// What says no time is in no stretch of it.
    fn in_time(&self, at: &str) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        at.parse::<Timestamp>().is_ok_and(|at| {
            self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
        })
    }
}

/// An instant, or a length of time before now.
fn instant(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let ago = window::parse_duration(flag, text).ok();
    let ago = ago.and_then(|length| now.saturating_sub(length).ok());
    ago.or_else(|| text.parse().ok()).ok_or_else(|| {
        Failure::Error(format!(
            "--{flag} '{}' is neither an RFC 3339 instant such as 2026-12-01T18:00:00Z nor a length of time such as 8h",
            text.escape_default()
        ))
    })
}
