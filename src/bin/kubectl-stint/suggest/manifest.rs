//! Rules as the objects of Stint that ask for them and allow them, judged as `lint` judges them.

use crate::access::judge_access;
use crate::rbac::judge_policy;
use crate::read::Input;
use crate::report::{Judged, Level};
use crate::world::World;
use jiff::Timestamp;
use serde_json::{Value, json};
use stint::api::names::{GROUP, NAMESPACE_NAME};
use stint::domain::catalogue::{self, Disposition, Finding, MAX_RULES, Scope};
use stint::domain::patterns::Patterns;
use stint::domain::plain::scope_of;
use stint::domain::request::Place;
use stint::domain::rules::Rule;
use stint::domain::usage::proposal::Proposal;

/// Longest name of an object.
const MAX_NAME: usize = 253;
/// What is served in the cluster and not in namespaces, of Kubernetes itself; lists alone do not tell.
const OF_THE_CLUSTER: [(&str, &str); 22] = [
    ("", "nodes"),
    ("", "namespaces"),
    ("", "persistentvolumes"),
    ("", "componentstatuses"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
    ),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
    ),
    ("networking.k8s.io", "ingressclasses"),
    ("node.k8s.io", "runtimeclasses"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
];

/// What requests and policies say beside their rules.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Length of the grant, and the longest that the policy allows.
    pub duration: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Name of the policy, or the beginning of it.
    pub policy: Option<&'a str>,
}

/// A request and the policy that admits it and nothing else.
#[derive(Debug)]
pub struct Pair {
    /// `namespace/name` of the account.
    pub account: String,
    /// Namespace; empty for the whole cluster.
    pub place: String,
    /// The policy.
    pub policy: Value,
    /// The request.
    pub access: Value,
    /// Findings that the policy accepts by name.
    pub accepts: Vec<Finding>,
    /// Why it would be refused, with codes; empty when it passes.
    pub refusals: Vec<String>,
}

/// The pairs for one account.
pub fn pairs(account: &str, proposal: &Proposal, terms: &Terms<'_>, now: Timestamp) -> Vec<Pair> {
    let mut out = Vec::new();
    let alone = proposal.places.len() == 1;
    for (place, rules) in &proposal.places {
        let chunks = rules.chunks(MAX_RULES);
        let several = chunks.len() > 1;
        for (index, rules) in chunks.enumerate() {
            let part = if several {
                format!("-{}", index + 1)
            } else {
                String::new()
            };
            let mut pair = pair(account, place, rules, terms, (alone, &part));
            pair.refusals = refusals(&pair, now);
            out.push(pair);
        }
    }
    out
}

fn pair(
    account: &str,
    place: &str,
    rules: &[Rule],
    terms: &Terms<'_>,
    (alone, part): (bool, &str),
) -> Pair {
    let (home, name) = account.split_once('/').unwrap_or_default();
    let wide = place.is_empty();
    let base = terms
        .policy
        .map_or_else(|| format!("{home}-{name}"), str::to_owned);
    let within = match (wide, alone) {
        (_, true) => String::new(),
        (true, false) => "-cluster".to_owned(),
        (false, false) => format!("-{place}"),
    };
    let policy_name = cut(&base, &format!("{within}{part}"));
    let foreign = home != place;
    let accepts = accepts(rules, place);
    let mut allow = json!({"rules": rules});
    if wide {
        allow["cluster"] = true.into();
    }
    if !accepts.is_empty() {
        allow["findings"] = accepts.iter().map(|finding| finding.id).collect();
    }
    let selected = if wide { home } else { place };
    let mut accounts = json!({"names": [name]});
    if foreign && !wide {
        accounts["namespaces"] = json!([home]);
    }
    let policy = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "AccessPolicy", "metadata": {"name": policy_name},
        "spec": {
            "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: selected}},
            "serviceAccounts": accounts,
            "allow": allow,
            "limits": {"maxDuration": terms.duration}
        }
    });
    let mut reference = json!({"name": name});
    if foreign {
        reference["namespace"] = home.into();
    }
    let own_name = if foreign {
        cut(&format!("{home}-{name}"), part)
    } else {
        cut(name, part)
    };
    let mut metadata = json!({"name": own_name});
    if !wide {
        metadata["namespace"] = place.into();
    }
    let kind = if wide {
        "ClusterWorkloadAccess"
    } else {
        "WorkloadAccess"
    };
    let access = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": metadata,
        "spec": {"serviceAccountRef": reference, "rules": rules, "duration": terms.duration, "reason": terms.reason}
    });
    Pair {
        account: account.to_owned(),
        place: place.to_owned(),
        policy,
        access,
        accepts,
        refusals: Vec::new(),
    }
}

/// Names of accounts and namespaces together may be longer than a name.
fn cut(head: &str, tail: &str) -> String {
    let head: String = head
        .chars()
        .take(MAX_NAME.saturating_sub(tail.len()))
        .collect();
    format!("{}{tail}", head.trim_end_matches(['-', '.']))
}

/// What the catalogue lets a policy allow only by name.
fn accepts(rules: &[Rule], place: &str) -> Vec<Finding> {
    let scope = match place {
        "" => Scope::Cluster,
        namespace => scope_of(namespace),
    };
    let patterns = Patterns::of(rules);
    let mut found = catalogue::findings(patterns, scope);
    let together = catalogue::combinations(patterns, Patterns::default(), scope);
    found.extend(together.into_iter().map(|combination| combination.finding));
    if place.is_empty() && rules.iter().any(may_live_in_namespaces) {
        found.extend(catalogue::finding("OB-W07", scope));
    }
    found.retain(|finding| finding.disposition == Disposition::Named);
    found
}

/// A resource on which something with a name was done outside of namespaces is of the cluster; otherwise it must be known.
fn may_live_in_namespaces(rule: &Rule) -> bool {
    let lists = |verb: &String| matches!(verb.as_str(), "list" | "watch");
    let of_the_cluster = |group: &String, resource: &String| {
        let parent = resource.split('/').next().unwrap_or_default();
        OF_THE_CLUSTER.contains(&(group, parent))
    };
    let unknown = |group: &String| {
        rule.resources
            .iter()
            .any(|resource| !of_the_cluster(group, resource))
    };
    rule.verbs.iter().all(lists) && rule.api_groups.iter().any(unknown)
}

/// What `lint` says of both, with the account and its namespaces as they must be.
fn refusals(pair: &Pair, now: Timestamp) -> Vec<String> {
    let (home, name) = pair.account.split_once('/').unwrap_or_default();
    let namespace = |name: &str| {
        let labels = json!({NAMESPACE_NAME: name});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    };
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": home}});
    let mut objects = vec![
        pair.policy.clone(),
        pair.access.clone(),
        account,
        namespace(home),
    ];
    if !pair.place.is_empty() && pair.place != home {
        objects.push(namespace(&pair.place));
    }
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    let mut input = Input::default();
    input.add_text("the proposal", &documents.join("\n---\n"));
    let world = World::of(&input.objects, home);
    let [policy, access, ..] = input.objects.as_slice() else {
        return input.failures;
    };
    let place = Place::of((!pair.place.is_empty()).then(|| pair.place.clone()));
    let errors = |judged: Judged| {
        judged
            .findings
            .into_iter()
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| finding.message)
    };
    let of_policy = errors(judge_policy(policy));
    of_policy
        .chain(errors(judge_access(access, &place, &world, now)))
        .collect()
}
