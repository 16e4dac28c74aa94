//! Admission of plain roles and bindings: what a change adds, by the catalogue, and what becomes of it in its place.

use crate::api::names;
use crate::cluster::ApiError;
use crate::cluster::events::Seen;
use crate::cluster::standing::RoleKey;
use crate::domain::binding::{Binding, BoundRole};
use crate::domain::catalogue::Scope;
use crate::domain::guard::{Guarding, Mode, PlainRole, binding_change, gained, role_change};
use crate::domain::plain::{PlainFinding, Weight, scope_of};
use crate::domain::rules::Rule;
use crate::domain::violation::{Violation, render_lines};
use crate::ops::readiness::Readiness;
use crate::webhook::admission::{Admission, Answer, foreign_kind};
use crate::webhook::review::{Object, Operation, Review};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::{AggregationRule, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use tokio::sync::mpsc::Sender;

/// The watches that say who holds what.
const BINDINGS: [&str; 2] = ["rolebindings", "clusterrolebindings"];

/// What the guard is made of.
pub struct Guard {
    /// How it is set.
    pub settings: Guarding,
    /// Whether the watches are there.
    pub readiness: Readiness,
    /// Where what was allowed all the same is told.
    pub seen: Sender<Seen>,
}

/// What guarded objects are.
#[derive(Clone, Copy)]
enum Kind {
    Role(&'static str),
    Binding(&'static str),
}

impl Kind {
    fn of(review: &Review) -> Option<Self> {
        let resource = &review.resource;
        if resource.group != "rbac.authorization.k8s.io" || !review.sub_resource.is_empty() {
            return None;
        }
        match resource.resource.as_str() {
            "roles" => Some(Self::Role("Role")),
            "clusterroles" => Some(Self::Role("ClusterRole")),
            "rolebindings" => Some(Self::Binding("RoleBinding")),
            "clusterrolebindings" => Some(Self::Binding("ClusterRoleBinding")),
            _ => None,
        }
    }

    /// The word in metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Role(word) | Self::Binding(word) => word,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenRole {
    metadata: ObjectMeta,
    rules: Option<Vec<PolicyRule>>,
    aggregation_rule: Option<AggregationRule>,
}

impl From<WrittenRole> for PlainRole {
    fn from(role: WrittenRole) -> Self {
        Self {
            rules: role.rules.iter().flatten().map(Rule::from).collect(),
            labels: role.metadata.labels.unwrap_or_default(),
            aggregation: role.aggregation_rule,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenBinding {
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

/// What a change comes to, and why that may not be all.
#[derive(Default)]
struct Found {
    findings: Vec<PlainFinding>,
    failed: Option<Failed>,
}

/// Why something could not be looked at: a bounded word, and the whole.
struct Failed {
    category: &'static str,
    why: String,
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self {
            category: error.category(),
            why: error.to_string(),
        }
    }
}

impl From<serde_json::Error> for Failed {
    fn from(error: serde_json::Error) -> Self {
        Self {
            category: "Unreadable",
            why: error.to_string(),
        }
    }
}

impl Found {
    /// The findings of this weight or more, each as a reason.
    fn reasons(&self, least: Weight) -> Vec<Violation> {
        let heavy = self.findings.iter().filter(|f| f.weight >= least);
        heavy.map(|f| f.violation.clone()).collect()
    }
}

impl Admission {
    pub(super) async fn guard(&self, review: &Review) -> Answer {
        let Some(kind) = Kind::of(review) else {
            return foreign_kind(review, "a role or a binding of RBAC");
        };
        let writes = matches!(review.operation, Operation::Create | Operation::Update);
        let user = &review.user_info;
        let exempt = &self.guard.settings.exempt;
        if !writes || exempt.covers(&user.username, &user.groups) || unchanged(review) {
            return Answer::Allow;
        }
        let mode = match self.mode(review).await {
            Ok(Some(mode)) => mode,
            Ok(None) => return Answer::Allow,
            // A namespace whose mode is not known may be one that denies.
            Err(error) => return self.unknown(Mode::Deny, &error.into()),
        };
        let found = match kind {
            Kind::Role(_) => self.role(review),
            Kind::Binding(_) => self.binding(review).await,
        };
        if !review.dry_run {
            for violation in found.reasons(Weight::Warning) {
                let code = violation.code;
                self.metrics
                    .guard_finding(code, mode.as_str(), kind.as_str());
            }
        }
        self.conclude(review, mode, &found)
    }

    async fn mode(&self, review: &Review) -> Result<Option<Mode>, ApiError> {
        let settings = &self.guard.settings;
        if review.namespace.is_empty() {
            return Ok(settings.cluster);
        }
        let labels = self.facts.namespace_labels(&review.namespace).await?;
        let labels = labels.unwrap_or_default();
        let label = labels.get(names::GUARD).map(String::as_str);
        Ok(Some(Mode::of_label(label, settings.default_mode)))
    }

    fn role(&self, review: &Review) -> Found {
        let new = match review.object.read::<WrittenRole>() {
            Ok(new) => new.into(),
            Err(error) => return nothing_but(error.into()),
        };
        // An old object that cannot be read vouches for nothing, and stands in the way of nothing either.
        let old: Option<PlainRole> = match review.operation {
            Operation::Update => review.old_object.read::<WrittenRole>().ok().map(Into::into),
            _ => None,
        };
        let key = RoleKey {
            namespace: namespace(review).map(str::to_owned),
            name: review.object_name(),
        };
        let change = |bound: &[String]| role_change(old.as_ref(), &new, scope(review), bound);
        let missing = self.guard.readiness.pending();
        let missing = missing.iter().find(|watch| BINDINGS.contains(watch));
        // Who is bound matters only for a role that grows.
        let missing = missing.filter(|_| !change(&["some binding".to_owned()]).is_empty());
        Found {
            findings: change(&self.facts.standing_bindings(&key)),
            failed: missing.map(|watch| Failed {
                category: "NotReady",
                why: format!("the {watch} of the cluster are not known yet"),
            }),
        }
    }

    async fn binding(&self, review: &Review) -> Found {
        let new = match review.object.read::<WrittenBinding>() {
            Ok(new) => new,
            Err(error) => return nothing_but(error.into()),
        };
        let old = match review.operation {
            Operation::Update => review.old_object.read::<WrittenBinding>().ok(),
            _ => None,
        };
        let subjects = new.subjects.unwrap_or_default();
        let old = old.map(|old| old.subjects.unwrap_or_default());
        if gained(old.as_deref(), &subjects, scope(review)).is_empty() && old.is_some() {
            return Found::default();
        }
        let key = RoleKey::referred(&new.role_ref, namespace(review));
        let (role, failed) = match self.facts.live_role(&key).await {
            Ok(role) => (role, None),
            Err(error) => (None, Some(Failed::from(error))),
        };
        let binding = Binding {
            scope: scope(review),
            subjects: &subjects,
            role_ref: &new.role_ref,
            role: match &role {
                Some(role) => BoundRole::Found {
                    rules: &role.rules,
                    aggregated: role.aggregated,
                },
                None if failed.is_some() => BoundRole::Unknown,
                None => BoundRole::Missing,
            },
        };
        Found {
            findings: binding_change(old.as_deref(), &binding),
            failed,
        }
    }

    fn conclude(&self, review: &Review, mode: Mode, found: &Found) -> Answer {
        let errors = found.reasons(Weight::Error);
        let worth_telling = found.reasons(Weight::Warning);
        if mode == Mode::Deny && !errors.is_empty() {
            return Answer::Deny(errors);
        }
        if let Some(failed) = &found.failed {
            let unknown = self.unknown(mode, failed);
            if mode == Mode::Deny {
                return unknown;
            }
        }
        if !worth_telling.is_empty() && !review.dry_run {
            self.tell(review, &worth_telling);
        }
        match mode {
            Mode::Audit => Answer::Allow,
            Mode::Warn | Mode::Deny => {
                Answer::Warn(worth_telling.iter().map(ToString::to_string).collect())
            }
        }
    }

    fn unknown(&self, mode: Mode, failed: &Failed) -> Answer {
        self.metrics.guard_error(mode.as_str(), failed.category);
        tracing::warn!(mode = mode.as_str(), why = failed.why, "guard: no facts");
        Answer::NotNow(format!(
            "could not learn the facts, so nothing was allowed: {}",
            failed.why
        ))
    }

    /// Tells whoever watches. When they cannot keep up, the count is what is left.
    fn tell(&self, review: &Review, found: &[Violation]) {
        let meta = metadata(&review.object);
        let about = ObjectReference {
            api_version: Some("rbac.authorization.k8s.io/v1".to_owned()),
            kind: Some(review.kind.kind.clone()),
            name: Some(review.object_name()),
            namespace: namespace(review).map(str::to_owned),
            uid: meta.uid,
            ..ObjectReference::default()
        };
        let note = format!("{}:\n{}", review.user_info.username, render_lines(found));
        if self.guard.seen.try_send(Seen { about, note }).is_err() {
            tracing::debug!("guard: more findings than can be told");
        }
    }
}

fn nothing_but(failed: Failed) -> Found {
    Found {
        failed: Some(failed),
        ..Found::default()
    }
}

fn metadata(object: &Object) -> ObjectMeta {
    let read = object.read::<WrittenRole>();
    read.map(|object| object.metadata).unwrap_or_default()
}

fn namespace(review: &Review) -> Option<&str> {
    Some(review.namespace.as_str()).filter(|namespace| !namespace.is_empty())
}

fn scope(review: &Review) -> Scope<'_> {
    namespace(review).map_or(Scope::Cluster, scope_of)
}

/// Nothing that gives rights differs, whatever else does: this passes without a look at anything.
fn unchanged(review: &Review) -> bool {
    if review.operation != Operation::Update {
        return false;
    }
    let (new, old) = (review.object.json(), review.old_object.json());
    let same = |pointer: &str| new.pointer(pointer) == old.pointer(pointer);
    // By its labels a ClusterRole becomes part of others.
    let labels = review.resource.resource != "clusterroles" || same("/metadata/labels");
    let fields = ["/rules", "/aggregationRule", "/subjects", "/roleRef"];
    labels && fields.into_iter().all(same)
}
