//! A request from flags: which rights, for whom, how long and why.

use crate::from_error::{self, Refused};
use crate::outcome::Failure;
use crate::place::legal;
use crate::read;
use crate::resource::resource;
use clap::Args;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use stint::domain::request::Place;
use stint::domain::rules::{self, Rule};

/// Most bytes of an error on stdin.
const MAX_ERROR: u64 = 1 << 20;

/// What is asked for
#[derive(Debug, Args)]
pub struct DraftArgs {
    /// Name of the request; made from the account's when omitted
    name: Option<String>,

    /// The ServiceAccount, as NAME or NAMESPACE/NAME
    #[arg(
        long,
        value_name = "ACCOUNT",
        required_unless_present = "from_error",
        conflicts_with = "from_error"
    )]
    account: Option<String>,

    /// What it may do, as `kubectl create role` takes it; may be repeated
    #[arg(long = "verb", value_name = "VERB", value_delimiter = ',')]
    verbs: Vec<String>,

    /// On what: RESOURCE.GROUP/SUBRESOURCE, such as deployments.apps or pods/log; may be repeated
    #[arg(
        long = "resource",
        value_name = "RESOURCE",
        value_delimiter = ',',
        requires = "verbs"
    )]
    resources: Vec<String>,

    /// On these objects only; may be repeated
    #[arg(
        long = "resource-name",
        value_name = "NAME",
        value_delimiter = ',',
        requires = "resources"
    )]
    resource_names: Vec<String>,

    /// On this path, in a request for the whole cluster; may be repeated
    #[arg(
        long = "non-resource-url",
        value_name = "PATH",
        requires = "verbs",
        requires = "cluster"
    )]
    urls: Vec<String>,

    /// The rules of a Role of the namespace instead
    #[arg(long, value_name = "NAME", conflicts_with_all = ["verbs", "cluster_role", "from_error"])]
    role: Option<String>,

    /// The rules of a ClusterRole instead
    #[arg(long, value_name = "NAME", conflicts_with_all = ["verbs", "from_error"])]
    cluster_role: Option<String>,

    /// The right that was missing, from what a failed command printed; `-` is stdin. May be repeated
    #[arg(long, value_name = "TEXT|-", conflicts_with_all = ["verbs", "cluster", "namespace"])]
    from_error: Vec<String>,

    /// For how long from when it begins, such as 30m or 1h30m
    #[arg(
        long = "for",
        value_name = "DURATION",
        required_unless_present = "not_after",
        conflicts_with = "not_after"
    )]
    duration: Option<String>,

    /// Until when, as RFC 3339 instant
    #[arg(long, value_name = "TIME")]
    not_after: Option<String>,

    /// Not before this RFC 3339 instant
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,

    /// The work that ends it: job/NAME, pod/NAME or deployment/NAME
    #[arg(long, value_name = "KIND/NAME", conflicts_with = "cluster")]
    until: Option<String>,

    /// Why
    #[arg(long)]
    reason: String,

    /// The change or incident
    #[arg(long)]
    ticket: Option<String>,

    /// In an emergency: at once, where a policy allows that; reviewed afterwards
    #[arg(long, requires = "ticket")]
    break_glass: bool,

    /// Namespace of the request [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// For the whole cluster: a ClusterWorkloadAccess
    #[arg(long, conflicts_with = "namespace")]
    cluster: bool,
}

/// A request that was written down.
#[derive(Debug)]
pub struct Draft {
    /// Where; no namespace where that of the context is meant.
    pub place: Option<Place>,
    /// The object.
    pub object: Value,
}

impl DraftArgs {
    /// Writes the request down. Nothing is asked of a cluster.
    pub fn write(&self) -> Result<Draft, Failure> {
        let (place, account, rules) = match self.from_error.is_empty() {
            true => (self.place()?, self.account()?, self.rules()?),
            false => of_errors(&self.errors()?)?,
        };
        let wide = place == Some(Place::Cluster);
        let mut spec = json!({"serviceAccountRef": account_ref(&account, place.as_ref())?, "reason": self.reason});
        if let Some(reference) = self.role_ref()? {
            spec["roleRef"] = reference;
        } else if !rules.is_empty() {
            spec["rules"] = rules.iter().map(written).collect();
        } else {
            return Err(missing(
                "what it may do: --verb with --resource, --role, --cluster-role or --from-error",
            ));
        }
        let texts = [
            ("duration", &self.duration),
            ("notAfter", &self.not_after),
            ("notBefore", &self.not_before),
            ("ticket", &self.ticket),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                spec[field] = text.as_str().into();
            }
        }
        if let Some(until) = &self.until {
            spec["until"] = work(until)?;
        }
        if self.break_glass {
            spec["urgency"] = "BreakGlass".into();
        }
        let kind = if wide {
            "ClusterWorkloadAccess"
        } else {
            "WorkloadAccess"
        };
        let metadata = self.metadata(&account, place.as_ref())?;
        let object = json!({"apiVersion": "stint.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        Ok(Draft { place, object })
    }

    fn place(&self) -> Result<Option<Place>, Failure> {
        Ok(match (&self.namespace, self.cluster) {
            (_, true) => Some(Place::Cluster),
            (Some(name), false) => Some(Place::Namespace(legal("namespace", name)?.to_owned())),
            (None, false) => None,
        })
    }

    fn account(&self) -> Result<Named, Failure> {
        let text = self.account.as_deref().unwrap_or_default();
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(legal("namespace", namespace)?.to_owned()), name),
            None => (None, text),
        };
        let name = legal("ServiceAccount", name)?.to_owned();
        Ok(Named { namespace, name })
    }

    /// One rule for each API group: rules are products, and a group would reach the resources of another.
    fn rules(&self) -> Result<Vec<Rule>, Failure> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in &self.resources {
            let (group, resource) = resource(text)?;
            groups.entry(group).or_default().push(resource);
        }
        let of_resources = groups.into_iter().map(|(group, resources)| Rule {
            api_groups: vec![group],
            resources,
            resource_names: self.resource_names.clone(),
            verbs: self.verbs.clone(),
            non_resource_urls: Vec::new(),
        });
        let of_urls = (!self.urls.is_empty()).then(|| Rule {
            verbs: self.verbs.clone(),
            non_resource_urls: self.urls.clone(),
            ..Rule::default()
        });
        let rules: Vec<Rule> = of_resources.chain(of_urls).collect();
        match rules.is_empty() && !self.verbs.is_empty() {
            true => Err(missing("on what: --resource")),
            false => Ok(rules),
        }
    }

    fn role_ref(&self) -> Result<Option<Value>, Failure> {
        let of = |kind: &str, name: &String| -> Result<Value, Failure> {
            Ok(json!({"kind": kind, "name": legal(kind, name)?}))
        };
        match (&self.role, &self.cluster_role) {
            (Some(name), _) => of("Role", name).map(Some),
            (None, Some(name)) => of("ClusterRole", name).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn errors(&self) -> Result<Vec<Refused>, Failure> {
        let mut found = Vec::new();
        for text in &self.from_error {
            found.extend(match text.as_str() {
                "-" => from_error::read(&piped()?)?,
                text => from_error::read(text)?,
            });
        }
        Ok(found)
    }

    fn metadata(&self, account: &Named, place: Option<&Place>) -> Result<Value, Failure> {
        let mut metadata = Map::new();
        match &self.name {
            Some(name) => metadata.insert("name".into(), legal("request", name)?.into()),
            None => metadata.insert("generateName".into(), format!("{}-", account.name).into()),
        };
        if let Some(namespace) = place.and_then(Place::namespace) {
            metadata.insert("namespace".into(), namespace.into());
        }
        Ok(metadata.into())
    }
}

/// What is on stdin. Half of an error could name half of the rights.
fn piped() -> Result<String, Failure> {
    let bytes = read::bounded(std::io::stdin().lock(), MAX_ERROR).map_err(|error| {
        let what_to_do = "pass on the lines of the error alone, as `grep forbidden` finds them";
        Failure::Error(format!("--from-error -: stdin is {error}; {what_to_do}"))
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An account; with no namespace of its own where it lives beside the request.
struct Named {
    namespace: Option<String>,
    name: String,
}

type Parts = (Option<Place>, Named, Vec<Rule>);

/// One request for all that was refused: it must be of one account and in one place.
fn of_errors(refused: &[Refused]) -> Result<Parts, Failure> {
    let [first, rest @ ..] = refused else {
        return Err(missing("what was refused"));
    };
    let other = |r: &&Refused| r.account != first.account || r.place != first.place;
    if let Some(other) = rest.iter().find(other) {
        let place = |r: &Refused| {
            r.place
                .namespace()
                .unwrap_or("the whole cluster")
                .to_owned()
        };
        return Err(Failure::Error(format!(
            "one request is for one account in one place; the errors speak of {} in {} and {} in {}",
            first.account,
            place(first),
            other.account,
            place(other)
        )));
    }
    let rules: Vec<Rule> = refused.iter().map(|r| r.rule.clone()).collect();
    let account = Named {
        namespace: Some(first.account.namespace.clone()),
        name: first.account.name.clone(),
    };
    Ok((Some(first.place.clone()), account, rules::canonical(&rules)))
}

fn account_ref(account: &Named, place: Option<&Place>) -> Result<Value, Failure> {
    let home = place.and_then(Place::namespace);
    match &account.namespace {
        Some(namespace) if Some(namespace.as_str()) != home => {
            Ok(json!({"name": account.name, "namespace": namespace}))
        }
        None if place == Some(&Place::Cluster) => Err(missing(
            "the namespace of the account: --account NAMESPACE/NAME",
        )),
        _ => Ok(json!({"name": account.name})),
    }
}

fn missing(what: &str) -> Failure {
    Failure::Error(format!("the request does not say {what}"))
}

fn written(rule: &Rule) -> Value {
    serde_json::to_value(rule).unwrap_or_default()
}

fn work(text: &str) -> Result<Value, Failure> {
    let wrong = || {
        Failure::Error(format!(
            "'{}' is no work that is known to end: write job/NAME, pod/NAME or deployment/NAME, or add `until` with a `condition` to the YAML",
            text.escape_default()
        ))
    };
    let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
    let (api_version, kind) = match kind.to_ascii_lowercase().as_str() {
        "job" | "jobs" => ("batch/v1", "Job"),
        "pod" | "pods" | "po" => ("v1", "Pod"),
        "deployment" | "deployments" | "deploy" => ("apps/v1", "Deployment"),
        _ => return Err(wrong()),
    };
    Ok(json!({"apiVersion": api_version, "kind": kind, "name": legal(kind, name)?}))
}

#[cfg(test)]
mod tests;
