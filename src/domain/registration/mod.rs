//! What must be registered with the API server, so that the webhook and the guard are asked about everything they decide about. It
//! is what the chart renders; a test holds the two to each other.

mod guard;
mod requests;

pub use guard::{Cluster as GuardCluster, Registered as GuardRegistered, guard};
pub use requests::{mutating, validating};

use serde_json::Value;

/// One webhook as it must be.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Where of the webhook it is sent to.
    path: &'static str,
    /// What happens where nobody answers. `None`: the settings do not say.
    failure: Option<String>,
    rules: Vec<Rule>,
    /// What the namespace must be like; empty, all are looked at.
    namespaces: Vec<Requirement>,
    conditions: Vec<(&'static str, String)>,
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
struct Rule {
    group: &'static str,
    version: &'static str,
    operations: &'static [&'static str],
    resources: &'static [&'static str],
    scope: &'static str,
}

/// What a label of a namespace must be: key, operator and values.
type Requirement = (&'static str, &'static str, Vec<String>);

/// Where reviews must be sent to, and how long they may take.
#[derive(Clone, Debug)]
pub struct Reached {
    /// DNS names and addresses of the webhook.
    pub hosts: Vec<String>,
    /// Seconds for an answer. `None`: the settings do not say.
    pub timeout: Option<u32>,
}

impl Entry {
    /// What is different from what must be, a few words each; `live` is a webhook as it was read. That rules ask about more is no
    /// difference. `sideEffects` and `reinvocationPolicy` change nothing about what is asked.
    pub fn differences(&self, live: &Value, reached: &Reached) -> Vec<String> {
        let mut found = Vec::new();
        if !self.rules.iter().all(|rule| rule.is_covered_by(live)) {
            found.push("`rules` leave out what must be reviewed".to_owned());
        }
        let failure = live["failurePolicy"].as_str().unwrap_or("Fail");
        if let Some(wanted) = self.failure.as_deref().filter(|wanted| *wanted != failure) {
            found.push(format!("`failurePolicy` is {failure}, not {wanted}"));
        }
        if let Some(other) = live["matchPolicy"].as_str().filter(|p| *p != "Equivalent") {
            found.push(format!("`matchPolicy` is {other}, not Equivalent"));
        }
        if !self.namespaces_are_as(&live["namespaceSelector"]) {
            found.push("`namespaceSelector` is another".to_owned());
        }
        if !is_empty(&live["objectSelector"]) {
            found.push("`objectSelector` leaves objects out".to_owned());
        }
        if !self.conditions_are_as(live) {
            found.push("`matchConditions` are others".to_owned());
        }
        if !self.is_sent_to(&live["clientConfig"], &reached.hosts) {
            found.push("`clientConfig` leads to another place".to_owned());
        }
        let seconds = live["timeoutSeconds"].as_u64().unwrap_or(10);
        if let Some(wanted) = reached
            .timeout
            .filter(|wanted| u64::from(*wanted) != seconds)
        {
            found.push(format!("`timeoutSeconds` is {seconds}, not {wanted}"));
        }
        let v1 = |version: &Value| version == "v1";
        if !items(&live["admissionReviewVersions"]).any(v1) {
            found.push("`admissionReviewVersions` lack v1".to_owned());
        }
        found
    }

    fn namespaces_are_as(&self, selector: &Value) -> bool {
        let live: Vec<_> = items(&selector["matchExpressions"])
            .map(requirement)
            .collect();
        let mut wanted = self.namespaces.iter().map(|(key, operator, values)| {
            let mut values = values.clone();
            values.sort_unstable();
            Some(((*key).to_owned(), (*operator).to_owned(), values))
        });
        is_empty(&selector["matchLabels"])
            && live.len() == self.namespaces.len()
            && wanted.all(|wanted| live.contains(&wanted))
    }

    fn conditions_are_as(&self, live: &Value) -> bool {
        let there: Vec<(&str, String)> = items(&live["matchConditions"])
            .map(|c| {
                let text = |field: &str| c[field].as_str().unwrap_or_default();
                (text("name"), one_line(text("expression")))
            })
            .collect();
        let wanted =
            |(name, text): &(&'static str, String)| there.contains(&(*name, one_line(text)));
        there.len() == self.conditions.len() && self.conditions.iter().all(wanted)
    }

    fn is_sent_to(&self, config: &Value, hosts: &[String]) -> bool {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (host, path) = match (config["url"].as_str(), &config["service"]) {
            (Some(url), _) => {
                let Some(rest) = url.strip_prefix("https://") else {
                    return false;
                };
                let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(without_port(place).to_owned()), Some(path.to_owned()))
            }
            (None, service) => {
                let port = service["port"].as_u64().is_none_or(|port| port == 443);
                let host = text(&service["name"]).zip(text(&service["namespace"]));
                let host = host
                    .filter(|_| port)
                    .map(|(name, ns)| format!("{name}.{ns}.svc"));
                (host, text(&service["path"]))
            }
        };
        host.is_some_and(|host| hosts.contains(&host)) && path.as_deref() == Some(self.path)
    }
}

impl Rule {
    fn is_covered_by(&self, live: &Value) -> bool {
        self.operations.iter().all(|operation| {
            self.resources.iter().all(|resource| {
                items(&live["rules"]).any(|rule| self.is_in(rule, operation, resource))
            })
        })
    }

    fn is_in(&self, rule: &Value, operation: &str, resource: &str) -> bool {
        let has = |field: &str, words: &[&str]| {
            items(&rule[field]).any(|word| words.iter().any(|w| word == w))
        };
        let scope = rule["scope"].as_str().unwrap_or("*");
        has("apiGroups", &[self.group, "*"])
            && has("apiVersions", &[self.version, "*"])
            && has("operations", &[operation, "*"])
            && has("resources", &[resource, "*", "*/*"])
            && ["*", self.scope].contains(&scope)
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn requirement(live: &Value) -> Option<(String, String, Vec<String>)> {
    let mut values: Vec<String> = items(&live["values"])
        .filter_map(|v| Some(v.as_str()?.to_owned()))
        .collect();
    values.sort_unstable();
    Some((
        live["key"].as_str()?.to_owned(),
        live["operator"].as_str()?.to_owned(),
        values,
    ))
}

/// A manifest may break the lines of an expression elsewhere.
fn one_line(expression: &str) -> String {
    expression.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `[::1]:9443` is `::1`.
fn without_port(place: &str) -> &str {
    match place
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, _)) => address,
        None => place.rsplit_once(':').map_or(place, |(host, _)| host),
    }
}
