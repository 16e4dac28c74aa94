//! RBAC rules with upstream's meaning: what one rule allows, and one canonical form per set of rules.
//!
//! Sources: `RuleAllows` in Kubernetes' RBAC authorizer and the matchers in `pkg/apis/rbac/v1/evaluation_helpers.go`.

use crate::api::access_policy::EnvelopeRule;
use crate::api::cluster_workload_access::ClusterAccessRule;
use crate::api::workload_access::AccessRule;
use crate::domain::rights::{self, Rights};
use k8s_openapi::api::rbac::v1::{PolicyRule, Subject};
use serde::{Deserialize, Serialize};

/// The wildcard of verbs, groups, resources and URLs. A literal in `resourceNames`.
pub const ALL: &str = "*";

/// Most single rights (group × resource × name × verb) that a set of rules may expand to.
pub const MAX_ATOMS: usize = 10_000;

/// One rule: a Kubernetes `PolicyRule` without absent lists.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// API groups; `""` is the core group, `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources or `resource/subresource`; `*` is all of both, `*/x` is subresource `x` of anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of objects; empty is any name and no name. `""` matches a request without a name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Verbs; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// URL paths outside the resource API; a trailing `*` is a prefix match.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl From<&PolicyRule> for Rule {
    fn from(rule: &PolicyRule) -> Self {
        Self {
            api_groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            resource_names: rule.resource_names.clone().unwrap_or_default(),
            verbs: rule.verbs.clone(),
            non_resource_urls: rule.non_resource_urls.clone().unwrap_or_default(),
        }
    }
}

impl From<&Rule> for PolicyRule {
    fn from(rule: &Rule) -> Self {
        let present = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        Self {
            api_groups: present(&rule.api_groups),
            resources: present(&rule.resources),
            resource_names: present(&rule.resource_names),
            verbs: rule.verbs.clone(),
            non_resource_urls: present(&rule.non_resource_urls),
        }
    }
}

impl From<&AccessRule> for Rule {
    fn from(rule: &AccessRule) -> Self {
        Self {
            api_groups: rule.api_groups.clone(),
            resources: rule.resources.clone(),
            resource_names: rule.resource_names.clone().unwrap_or_default(),
            verbs: rule.verbs.clone(),
            non_resource_urls: Vec::new(),
        }
    }
}

impl From<&ClusterAccessRule> for Rule {
    fn from(rule: &ClusterAccessRule) -> Self {
        Self {
            api_groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            resource_names: rule.resource_names.clone().unwrap_or_default(),
            verbs: rule.verbs.clone(),
            non_resource_urls: rule.non_resource_urls.clone().unwrap_or_default(),
        }
    }
}

impl From<&EnvelopeRule> for Rule {
    fn from(rule: &EnvelopeRule) -> Self {
        Self {
            api_groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            resource_names: rule.resource_names.clone().unwrap_or_default(),
            verbs: rule.verbs.clone(),
            non_resource_urls: rule.non_resource_urls.clone().unwrap_or_default(),
        }
    }
}

/// A rule in one line for people: `get, patch deployments.apps named billing-api`.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.verbs.join(", "))?;
        if !self.non_resource_urls.is_empty() {
            return write!(f, "{}", self.non_resource_urls.join(", "));
        }
        let group = |g: &String| {
            if g.is_empty() {
                String::new()
            } else {
                format!(".{g}")
            }
        };
        let groups: Vec<String> = self.api_groups.iter().map(group).collect();
        let resource = |r: &String| format!("{r}{}", groups.join(", "));
        let resources: Vec<String> = self.resources.iter().map(resource).collect();
        write!(f, "{}", resources.join(", "))?;
        if !self.resource_names.is_empty() {
            write!(f, " named {}", self.resource_names.join(", "))?;
        }
        Ok(())
    }
}

/// What an authenticated caller asks the API server to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// On a resource; `subresource` and `name` are empty when the request has none.
    Resource {
        /// Verb in lower case, for example `get`.
        verb: &'a str,
        /// API group; empty for core.
        group: &'a str,
        /// Plural of the resource.
        resource: &'a str,
        /// Subresource, or empty.
        subresource: &'a str,
        /// Name of the object, or empty.
        name: &'a str,
    },
    /// On a URL outside the resource API.
    Path {
        /// HTTP method in lower case.
        verb: &'a str,
        /// The URL path.
        path: &'a str,
    },
}

/// Whether this one rule allows the request, as the RBAC authorizer's `RuleAllows` decides.
pub fn allows(rule: &Rule, request: &Request<'_>) -> bool {
    match *request {
        Request::Resource {
            verb,
            group,
            resource,
            subresource,
            name,
        } => {
            has(&rule.verbs, verb)
                && has(&rule.api_groups, group)
                && resource_matches(&rule.resources, resource, subresource)
                && (rule.resource_names.is_empty() || rule.resource_names.iter().any(|n| n == name))
        }
        Request::Path { verb, path } => {
            has(&rule.verbs, verb) && rule.non_resource_urls.iter().any(|u| url_covers(u, path))
        }
    }
}

/// Whether the list holds the value or `*`.
pub(crate) fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|x| x == ALL || x == value)
}

fn resource_matches(list: &[String], resource: &str, subresource: &str) -> bool {
    list.iter().any(|rule| {
        if rule == ALL {
            return true;
        }
        if subresource.is_empty() {
            return rule == resource;
        }
        rule.split_once('/')
            .is_some_and(|(of, sub)| sub == subresource && (of == ALL || of == resource))
    })
}

/// Whether one URL of a rule matches a path, or covers another rule's URL: both are this comparison upstream.
pub(crate) fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with(ALL) && path.starts_with(rule.trim_end_matches('*')))
}

/// Whether a subject of a binding in `namespace` (empty for a ClusterRoleBinding) is this user or one of the groups.
///
/// Upstream `appliesTo`; a ServiceAccount without a namespace is one of the binding's namespace.
pub fn applies_to(subject: &Subject, namespace: &str, user: &str, groups: &[String]) -> bool {
    match subject.kind.as_str() {
        "User" => subject.name == user,
        "Group" => groups.contains(&subject.name),
        "ServiceAccount" => {
            let own = subject.namespace.as_deref().filter(|n| !n.is_empty());
            let of = own.unwrap_or(namespace);
            !of.is_empty()
                && user
                    .strip_prefix("system:serviceaccount:")
                    .and_then(|account| account.split_once(':'))
                    == Some((of, subject.name.as_str()))
        }
        _ => false,
    }
}

/// How many single rights the rules expand to, before duplicates are dropped. Saturates.
pub fn atoms(rules: &[Rule]) -> usize {
    rules.iter().fold(0, |sum: usize, rule| {
        let on_resources = rule
            .api_groups
            .len()
            .saturating_mul(rule.resources.len())
            .saturating_mul(rule.resource_names.len().max(1));
        let targets = on_resources.saturating_add(rule.non_resource_urls.len());
        sum.saturating_add(targets.saturating_mul(rule.verbs.len()))
    })
}

/// The canonical form: two sets of rules that cover each other have the same one.
///
/// Rights that another right of the set covers are dropped (`get` beside `*`, a name beside all names); `*` itself is
/// never expanded. Rights are then merged back into few rules, sorted. Above [`MAX_ATOMS`] nothing is expanded: lists
/// and rules are only sorted and deduplicated, so the cost stays bounded and the result deterministic.
pub fn canonical(rules: &[Rule]) -> Vec<Rule> {
    if atoms(rules) > MAX_ATOMS {
        return rights::sorted(rules);
    }
    Rights::of(rules).without_covered().merge()
}

/// SHA-256 of the canonical form as JSON: `sha256:<hex>`.
pub fn hash(rules: &[Rule]) -> String {
    let json = serde_json::to_vec(&canonical(rules))
        .expect("lists of strings have no key or value that JSON cannot hold");
    let digest = ring::digest::digest(&ring::digest::SHA256, &json);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}
