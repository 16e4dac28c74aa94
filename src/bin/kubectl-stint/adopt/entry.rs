//! One account in one standing binding, and what is to become of it.

use super::propose::Proposal;
use crate::bindings;
use crate::read::Object;
use crate::report::severity_name;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::Subject;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use stint::domain::grant::Account;
use stint::domain::plain::PlainFinding;
use stint::domain::rules::Rule;

/// That nothing ends it, which is so of every entry, and therefore says nothing about its risk.
pub const STANDING: &str = "WA-STANDING";

/// Why something cannot be moved, or what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Its code.
    pub code: String,
    /// How much harm it can do; none for what the catalogue does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<&'static str>,
    /// Where, in the binding or in what is proposed.
    pub path: String,
    /// What was found, and what would be better.
    pub message: String,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.path, self.message, self.code)
    }
}

/// What is to become of an account in a binding.
#[derive(Debug)]
pub enum Decision {
    /// A grant can take its place.
    Move(Box<Proposal>),
    /// It gives nothing to anybody, and can go.
    Delete(Told),
    /// It stays.
    Keep {
        /// Every reason.
        why: Vec<Told>,
        /// Of its rights those that could be moved alone.
        fine: Vec<String>,
    },
}

/// One account in one binding.
#[derive(Debug)]
pub struct Entry {
    /// `RoleBinding` or `ClusterRoleBinding`.
    pub kind: String,
    /// Where it is.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID; empty in files.
    pub uid: String,
    /// Its version; empty in files.
    pub resource_version: String,
    /// Places of the account among the subjects: it can be written in several ways.
    pub at: Vec<usize>,
    /// All subjects, as they are written.
    pub subjects: Vec<Subject>,
    /// The role, as kind and name.
    pub role: (String, String),
    /// Its rules, as they were read; none where the role is not there.
    pub rules: Option<Vec<Rule>>,
    /// The account; none for a group of accounts.
    pub account: Option<Account>,
    /// Whether the account exists; none where nobody looked.
    pub exists: Option<bool>,
    /// When the binding was made.
    pub created: Option<Timestamp>,
    /// Who would make it again, as far as it says so.
    pub made_by: Option<String>,
    /// The highest severity of the findings, beside that nothing ends it; `unknown` where nobody knows the role.
    pub risk: &'static str,
    /// What the catalogue says of the binding, for this account.
    pub findings: Vec<Told>,
    /// What is to become of it.
    pub decision: Decision,
    /// The binding without what the cluster wrote into it.
    pub restore: Value,
}

impl Entry {
    /// What would replace it.
    pub fn proposal(&self) -> Option<&Proposal> {
        match &self.decision {
            Decision::Move(proposal) => Some(proposal),
            _ => None,
        }
    }

    /// Kind, place and name.
    pub fn title(&self) -> String {
        bindings::title(self.namespace.as_deref(), &self.name)
    }

    /// The account, or the group.
    pub fn subject(&self) -> String {
        match (&self.account, self.at.first()) {
            (Some(account), _) => account.to_string(),
            (None, Some(at)) => format!("Group {}", self.subjects[*at].name),
            (None, None) => String::new(),
        }
    }

    /// That somebody may make the binding again, if it says who.
    pub fn made_again(&self) -> Option<String> {
        let made_by = self.made_by.as_ref()?;
        Some(format!(
            "note: {made_by} may make the binding again; take it out there too"
        ))
    }

    /// Whether the binding is for nobody else.
    pub fn is_alone(&self) -> bool {
        self.at.len() == self.subjects.len()
    }
}

/// Who would make the binding again, by the marks that owners and the tools of the field leave.
pub fn made_by(object: &Object) -> Option<String> {
    let metadata = object.node.value()["metadata"].take();
    if let Some(owner) = metadata["ownerReferences"].get(0) {
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        return Some(format!("{} {}", text("kind"), text("name")));
    }
    let marks = [
        ("annotations", "meta.helm.sh/release-name", "Helm release"),
        ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
        (
            "labels",
            "argocd.argoproj.io/instance",
            "Argo CD application",
        ),
        (
            "labels",
            "kustomize.toolkit.fluxcd.io/name",
            "Flux Kustomization",
        ),
        ("labels", "helm.toolkit.fluxcd.io/name", "Flux HelmRelease"),
    ];
    marks.iter().find_map(|(list, mark, what)| {
        let name = metadata[list].get(mark)?.as_str()?;
        Some(format!("{what} {name}"))
    })
}

/// What was found, as it is told.
pub fn told(found: &PlainFinding) -> Told {
    Told {
        code: found.violation.code.to_owned(),
        severity: found.severity.map(severity_name),
        path: found.violation.path.clone(),
        message: found.violation.message.clone(),
    }
}

/// A reason that no catalogue has.
pub fn why(code: &str, path: &str, message: String) -> Told {
    Told {
        code: code.to_owned(),
        severity: None,
        path: path.to_owned(),
        message,
    }
}
