//! What a condition sees of a request, with the bounds that `bounds` reckons with.

use crate::api::workload_access::Risk;
use crate::domain::facts::{Image, Owner, Workload};
use crate::domain::grant::Grant;
use crate::domain::policy::Labels;
use crate::domain::receipt::Requester;
use crate::domain::request::Spec;
use crate::domain::rules::Rule;
use cel::Value;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// The variables.
pub(super) const NAMES: [&str; 7] = [
    "request",
    "requester",
    "namespaceObject",
    "serviceAccount",
    "workload",
    "risk",
    "now",
];

/// Most elements of any list and entries of any map.
pub(super) const LONGEST: u64 = 1024;
/// Most rules, and most elements of a list in a rule (`hygiene`).
const RULES: u64 = 64;
/// Most containers of a workload.
const IMAGES: u64 = 64;
/// Most bytes of all groups of a requester together, and of all images of a workload.
const GROUP_BYTES: usize = 64 * 1024;

/// Most elements of the list in a field of this name.
pub(super) fn longest(field: &str) -> u64 {
    match field {
        "rules" | "verbs" | "apiGroups" | "resources" | "resourceNames" | "nonResourceURLs" => {
            RULES
        }
        "images" => IMAGES,
        _ => LONGEST,
    }
}

/// Most texts and numbers in the variable or field of this name.
pub(super) fn weight(name: &str) -> u64 {
    const RULE: u64 = 4 * RULES;
    match name {
        "rules" => RULES * RULE,
        "request" | "spec" => 3 * RULES * RULE,
        "requester" | "namespaceObject" | "serviceAccount" | "metadata" => 2 * LONGEST,
        "workload" => 2 * LONGEST,
        "images" => 3 * IMAGES,
        "until" => 8,
        "groups" | "labels" => LONGEST,
        "verbs" | "apiGroups" | "resources" | "resourceNames" | "nonResourceURLs" => RULES,
        // A text, a number, or one of the two references.
        _ => 4,
    }
}

/// The same for one element of the list in a field of this name.
pub(super) fn element_weight(name: &str) -> u64 {
    match name {
        "rules" => weight("rules") / RULES,
        "images" => weight("images") / IMAGES,
        _ => 1,
    }
}

/// The fields below a path, if the path is known: `request` has `spec`, and so on. None when any field may be there.
pub(super) fn fields(path: &[&str]) -> Option<&'static [&'static str]> {
    match path {
        ["request"] => Some(&["name", "namespace", "spec", "rules", "duration"]),
        ["request", "spec"] => Some(&[
            "serviceAccountRef",
            "rules",
            "roleRef",
            "notBefore",
            "notAfter",
            "duration",
            "reason",
            "until",
            "workloadRef",
            "ticket",
            "urgency",
            "revoked",
        ]),
        ["request", "spec", "serviceAccountRef"] => Some(&["name", "namespace", "uid"]),
        ["request", "spec", "roleRef"] => Some(&["kind", "name"]),
        ["request", "spec", "until"] => Some(&["apiVersion", "kind", "name", "condition"]),
        ["request", "spec", "until", "condition"] => Some(&["type", "status"]),
        ["request", "spec", "workloadRef"] => Some(&["kind", "name", "uid"]),
        ["requester"] => Some(&["username", "uid", "groups"]),
        ["namespaceObject"] => Some(&["metadata"]),
        ["namespaceObject", "metadata"] => Some(&["name", "labels"]),
        ["serviceAccount"] => Some(&["name", "namespace", "uid", "labels"]),
        ["workload"] => Some(&["kind", "name", "uid", "labels", "owner", "images"]),
        ["workload", "owner"] => Some(&["kind", "name", "uid"]),
        ["risk" | "now"] => Some(&[]),
        _ => None,
    }
}

/// One request, as conditions see it.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The request.
    pub grant: &'a Grant,
    /// The rules that would be granted: of the request, or copied from the role.
    pub rules: &'a [Rule],
    /// How long the grant lasts.
    pub duration: SignedDuration,
    /// Who asks.
    pub requester: &'a Requester,
    /// Labels of the namespace that policies select by.
    pub namespace_labels: &'a Labels,
    /// UID of the account; empty when there is no such account.
    pub account_uid: &'a str,
    /// Labels of the account.
    pub account_labels: &'a Labels,
    /// The workload that acts, if the request names one.
    pub workload: Option<&'a Workload>,
    /// How much harm the rights can do.
    pub risk: Risk,
    /// When access begins: now, when the window opens, or when it began. A condition on the time of day so decides once.
    pub now: Timestamp,
}

#[derive(Serialize)]
struct Request<'a> {
    name: &'a str,
    namespace: &'a str,
    spec: &'a Spec,
    rules: &'a [Rule],
    duration: cel::Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Who<'a> {
    username: &'a str,
    uid: &'a str,
    groups: &'a [String],
}

/// The shape of `namespaceObject` in Kubernetes' admission policies; `namespace` is a reserved word of CEL.
#[derive(Serialize)]
struct Namespace<'a> {
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    labels: &'a Labels,
}

#[derive(Serialize)]
struct ServiceAccount<'a> {
    name: &'a str,
    namespace: &'a str,
    uid: &'a str,
    labels: &'a Labels,
}

/// Texts and lists are empty for a request that names no workload, so that an expression finds every field.
#[derive(Default, Serialize)]
struct Acting<'a> {
    kind: &'a str,
    name: &'a str,
    uid: &'a str,
    labels: Labels,
    owner: Owner,
    images: &'a [Image],
}

impl<'a> Acting<'a> {
    fn of(workload: &'a Workload) -> Self {
        Self {
            kind: &workload.kind,
            name: &workload.name,
            uid: &workload.uid,
            labels: workload.labels.clone(),
            owner: workload.owner.clone(),
            images: &workload.images,
        }
    }
}

impl Inputs<'_> {
    /// The variables with their values, or what of them is too large to be looked at.
    pub(super) fn values(&self) -> Result<[(&'static str, Value); 7], String> {
        self.bounded()?;
        let account = self.grant.account();
        let request = Request {
            name: self.grant.name(),
            namespace: self.grant.place().namespace().unwrap_or_default(),
            spec: self.grant.spec(),
            rules: self.rules,
            duration: cel::Duration(chrono::Duration::seconds(self.duration.as_secs())),
        };
        let requester = Who {
            username: &self.requester.username,
            uid: &self.requester.uid,
            groups: &self.requester.groups,
        };
        let namespace = Namespace {
            metadata: Metadata {
                name: self.grant.home(),
                labels: self.namespace_labels,
            },
        };
        let service_account = ServiceAccount {
            name: &account.name,
            namespace: &account.namespace,
            uid: self.account_uid,
            labels: self.account_labels,
        };
        let workload = self.workload.map(Acting::of).unwrap_or_default();
        Ok([
            ("request", value(&request)?),
            ("requester", value(&requester)?),
            ("namespaceObject", value(&namespace)?),
            ("serviceAccount", value(&service_account)?),
            ("workload", value(&workload)?),
            ("risk", Value::from(self.risk.as_str())),
            ("now", instant(self.now)?),
        ])
    }

    fn bounded(&self) -> Result<(), String> {
        let groups = &self.requester.groups;
        let bytes: usize = groups.iter().map(String::len).sum();
        let lists = [
            ("requester.groups", groups.len()),
            (
                "namespaceObject.metadata.labels",
                self.namespace_labels.len(),
            ),
            ("serviceAccount.labels", self.account_labels.len()),
            (
                "workload.labels",
                self.workload.map_or(0, |w| w.labels.len()),
            ),
        ];
        if let Some((name, length)) = lists.iter().find(|(_, length)| *length as u64 > LONGEST) {
            return Err(format!("{name} has {length} elements, more than {LONGEST}"));
        }
        if bytes > GROUP_BYTES {
            return Err(format!(
                "requester.groups has {bytes} bytes, more than {GROUP_BYTES}"
            ));
        }
        self.bounded_images()?;
        if self.rules.len() as u64 > RULES {
            return Err(format!("request.rules has more than {RULES} elements"));
        }
        Ok(())
    }

    fn bounded_images(&self) -> Result<(), String> {
        let images = self.workload.map_or(&[][..], |workload| &workload.images);
        if images.len() as u64 > IMAGES {
            let found = images.len();
            return Err(format!(
                "workload.images has {found} elements, more than {IMAGES}"
            ));
        }
        let bytes: usize = images
            .iter()
            .map(|i| i.image.len() + i.image_id.len())
            .sum();
        match bytes > GROUP_BYTES {
            true => Err(format!(
                "workload.images has {bytes} bytes, more than {GROUP_BYTES}"
            )),
            false => Ok(()),
        }
    }
}

fn value(of: &impl Serialize) -> Result<Value, String> {
    cel::to_value(of).map_err(|error| error.to_string())
}

fn instant(at: Timestamp) -> Result<Value, String> {
    chrono::DateTime::from_timestamp(at.as_second(), 0)
        .map(|at| Value::Timestamp(at.fixed_offset()))
        .ok_or_else(|| format!("{at} is no instant that CEL knows"))
}
