//! What the RBAC authorizer would answer, from the roles and bindings as they were a while ago.

use super::{
    FakeApi,
    store::{Key, State},
};
use k8s_openapi::api::rbac::v1::{PolicyRule, Subject};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use stint::domain::rules::{Request, Rule, allows, applies_to};
use tokio::time::Instant;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The answer to a SubjectAccessReview.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why, in the words of the authorizer.
    pub reason: String,
}

impl Decision {
    /// Allowed without a word.
    pub fn allowed() -> Self {
        Self {
            allowed: true,
            reason: String::new(),
        }
    }
}

impl FakeApi {
    /// Answers a SubjectAccessReview by the roles and bindings of `lag` ago, as an authorizer does whose copy is behind.
    pub fn rbac(&self, review: &Value, lag: Duration) -> Decision {
        let state = self.state();
        let past = Past::of(&state, Instant::now().checked_sub(lag));
        past.decide(&review["spec"])
    }
}

/// The roles and bindings at an instant: the stored ones, and what changed since.
struct Past<'a> {
    state: &'a State,
    changed: BTreeMap<&'a Key, Option<&'a Value>>,
}

impl<'a> Past<'a> {
    fn of(state: &'a State, at: Option<Instant>) -> Self {
        let later = |event: &&super::store::Event| at.is_none_or(|at| event.at > at);
        let newest_first = state.history.iter().rev().take_while(later);
        let rbac = newest_first.filter(|event| event.key.group == GROUP);
        Self {
            state,
            changed: rbac.map(|event| (&event.key, event.old.as_ref())).collect(),
        }
    }

    fn list(&self, resource: &'a str, namespace: &'a str) -> Vec<&'a Value> {
        let here = |key: &Key| {
            key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
        };
        let stored = self.state.list(GROUP, resource, namespace);
        let same = stored.filter(|(key, _)| !self.changed.contains_key(key));
        let before = self.changed.iter().filter(|(key, _)| here(key));
        same.map(|(_, stored)| &stored.value)
            .chain(before.filter_map(|(_, value)| *value))
            .collect()
    }

    fn decide(&self, spec: &Value) -> Decision {
        let attributes = &spec["resourceAttributes"];
        let namespace = attributes["namespace"].as_str().unwrap_or_default();
        let everywhere = self.list("clusterrolebindings", "");
        let here = match namespace {
            "" => Vec::new(),
            namespace => self.list("rolebindings", namespace),
        };
        let allowing = everywhere.into_iter().chain(here);
        let mut found = allowing.filter(|binding| self.gives(binding, spec));
        found.next().map(describe).unwrap_or_default()
    }

    fn gives(&self, binding: &Value, spec: &Value) -> bool {
        let namespace = text(&binding["metadata"]["namespace"]);
        let subjects: Vec<Subject> = parse(&binding["subjects"]);
        let user = text(&spec["user"]);
        let groups: Vec<String> = parse(&spec["groups"]);
        let named = |s: &Subject| applies_to(s, namespace, user, &groups);
        subjects.iter().any(named) && self.rules(binding).iter().any(|r| allows(r, &asked(spec)))
    }

    fn rules(&self, binding: &Value) -> Vec<Rule> {
        let (kind, name) = (
            text(&binding["roleRef"]["kind"]),
            &binding["roleRef"]["name"],
        );
        let roles = match kind {
            "Role" => self.list("roles", text(&binding["metadata"]["namespace"])),
            _ => self.list("clusterroles", ""),
        };
        let role = roles
            .into_iter()
            .find(|role| role["metadata"]["name"] == *name);
        let rules: Vec<PolicyRule> = role.map(|role| parse(&role["rules"])).unwrap_or_default();
        rules.iter().map(Rule::from).collect()
    }
}

fn asked(spec: &Value) -> Request<'_> {
    let (on, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match path.is_null() {
        true => Request::Resource {
            verb: text(&on["verb"]),
            group: text(&on["group"]),
            resource: text(&on["resource"]),
            subresource: text(&on["subresource"]),
            name: text(&on["name"]),
        },
        false => Request::Path {
            verb: text(&path["verb"]),
            path: text(&path["path"]),
        },
    }
}

/// As upstream's describers put it: name before namespace.
fn describe(binding: &Value) -> Decision {
    let (kind, meta) = (text(&binding["kind"]), &binding["metadata"]);
    let name = match text(&meta["namespace"]) {
        "" => text(&meta["name"]).to_owned(),
        namespace => format!("{}/{namespace}", text(&meta["name"])),
    };
    let (role_kind, role) = (
        text(&binding["roleRef"]["kind"]),
        text(&binding["roleRef"]["name"]),
    );
    Decision {
        allowed: true,
        reason: format!("RBAC: allowed by {kind} \"{name}\" of {role_kind} \"{role}\""),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|v| serde_json::from_value(v.clone()).ok())
        .collect()
}
