//! The standing bindings one by one: whose they are, what they are worth, and whether an expiring grant could replace them.

use super::AdoptArgs;
use super::backup;
use super::entry::{Decision, Entry, STANDING, Told, made_by, told, why};
use super::propose::{self, GIVES_NOTHING, Place};
use super::source::Known;
use crate::outcome::Failure;
use crate::place::legal;
use crate::read::Object;
use crate::report::severity_name;
use crate::world::{RBAC, World};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stint::api::names;
use stint::domain::binding::{self, Binding, BoundRole};
use stint::domain::catalogue::Scope;
use stint::domain::defaults;
use stint::domain::facts::Role;
use stint::domain::grant::Account;
use stint::domain::guard;
use stint::domain::judge::is_cluster_namespace;
use stint::domain::plain::{PlainFinding, scope_of};

/// What was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// A line for each binding and account, or group of accounts.
    pub entries: Vec<Entry>,
    /// What nobody has to move.
    pub left: Left,
    /// Bindings that could not be read, one line each.
    pub failures: Vec<String>,
}

impl Survey {
    /// Whether each can be moved, or deleted because it gives nothing.
    pub fn all_movable(&self) -> bool {
        !self
            .entries
            .iter()
            .any(|entry| matches!(entry.decision, Decision::Keep { .. }))
    }
}

/// Subjects of bindings that are left alone, by why.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// In bindings that Kubernetes makes by itself.
    pub kubernetes: usize,
    /// Accounts of the namespaces of the control plane.
    pub control_plane: usize,
    /// In bindings of grants.
    pub grants: usize,
    /// People and groups of people: Stint grants to accounts.
    pub people: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

/// Surveys what was read.
pub fn of(known: &Known, args: &AdoptArgs) -> Result<Survey, Failure> {
    let wanted = args.serviceaccount.as_deref().map(wanted).transpose()?;
    let mut world = World::of(&known.objects, &known.namespace);
    world.served.clone_from(&known.served);
    let mut surveyor = Surveyor {
        known,
        wanted,
        world,
        duration: &args.duration,
        survey: Survey::default(),
    };
    let is_binding = |o: &&Object| {
        o.group() == RBAC && matches!(o.kind.as_str(), "RoleBinding" | "ClusterRoleBinding")
    };
    let named = |o: &&Object| args.binding.as_deref().is_none_or(|name| o.name() == name);
    for object in known.objects.iter().filter(is_binding).filter(named) {
        surveyor.add(object);
    }
    Ok(surveyor.survey)
}

fn wanted(text: &str) -> Result<(Option<String>, String), Failure> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(legal("namespace", namespace)?.to_owned()), name),
        None => (None, text),
    };
    Ok((namespace, legal("ServiceAccount", name)?.to_owned()))
}

struct Surveyor<'a> {
    known: &'a Known,
    /// The account that is looked for, and its namespace where one was said.
    wanted: Option<(Option<String>, String)>,
    /// What is known; the policies in it are those of the proposal that is tried.
    world: World,
    duration: &'a str,
    survey: Survey,
}

/// A binding as it was read.
struct Case<'a> {
    object: &'a Object,
    namespace: Option<String>,
    subjects: Vec<Subject>,
    role_ref: RoleRef,
}

impl Case<'_> {
    fn scope(&self) -> Scope<'_> {
        self.namespace.as_deref().map_or(Scope::Cluster, scope_of)
    }
}

impl Surveyor<'_> {
    fn add(&mut self, object: &Object) {
        let written: Written = match serde_json::from_value(object.node.value()) {
            Ok(written) => written,
            Err(error) => {
                let (file, line, name) = (&object.file, object.node.line, object.name());
                let why = format!("{file}:{line}: {} '{name}': {error}", object.kind);
                return self.survey.failures.push(why);
            }
        };
        let own = || object.namespace().unwrap_or(&self.known.namespace);
        let case = Case {
            object,
            namespace: (object.kind == "RoleBinding").then(|| own().to_owned()),
            subjects: written.subjects.unwrap_or_default(),
            role_ref: written.role_ref,
        };
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, subject) in case.subjects.iter().enumerate() {
            let identity = binding::identity(case.scope(), subject);
            places.entry(identity).or_default().push(at);
        }
        for (identity, at) in places {
            self.subject(&case, account(&identity), at);
        }
    }

    fn subject(&mut self, case: &Case<'_>, account: Option<Account>, at: Vec<usize>) {
        if !self.is_chosen(case, account.as_ref()) {
            return;
        }
        let group = at
            .iter()
            .any(|at| is_group_of_accounts(&case.subjects[*at]));
        let of_grant = self.is_of_a_grant(case);
        let left = &mut self.survey.left;
        match &account {
            _ if is_default(case, &at) => left.kubernetes += 1,
            _ if of_grant => left.grants += 1,
            Some(account) if is_cluster_namespace(&account.namespace) => left.control_plane += 1,
            None if !group => left.people += 1,
            _ => {
                let entry = self.entry(case, account, at);
                self.survey.entries.push(entry);
            }
        }
    }

    /// Without -A an account is one of the namespace that is looked at.
    fn is_chosen(&self, case: &Case<'_>, account: Option<&Account>) -> bool {
        let known = self.known;
        let own = (!known.everywhere).then_some(&known.namespace);
        let named = self.wanted.as_ref().is_none_or(|(namespace, name)| {
            let home = namespace.as_ref().or(own);
            account.is_some_and(|a| a.name == *name && home.is_none_or(|home| a.namespace == *home))
        });
        let foreign = |account: &Account| own.is_some_and(|own| account.namespace != *own);
        let elsewhere = case.namespace.is_none() && account.is_some_and(foreign);
        named && !elsewhere
    }

    /// A label alone is anybody's to write.
    fn is_of_a_grant(&self, case: &Case<'_>) -> bool {
        let request = label(case.object, names::GRANT);
        let made = request.and_then(|uid| self.known.requests.get(uid));
        let metadata = case.object.node.get("metadata");
        let uid = metadata.and_then(|metadata| metadata.text("uid"));
        made.is_some_and(|made| made.is(case.namespace.as_deref(), case.object.name(), uid))
    }

    fn entry(&mut self, case: &Case<'_>, account: Option<Account>, at: Vec<usize>) -> Entry {
        let role = self.role(case).cloned();
        let found = self.findings(case, &at, role.as_ref());
        let findings: Vec<Told> = found.iter().map(told).collect();
        let exists = account.as_ref().and_then(|account| self.exists(account));
        let decision = self.decide(case, account.as_ref(), exists, role.as_ref(), &findings);
        let of_metadata = |field| {
            let metadata = case.object.node.get("metadata");
            let text = metadata.and_then(|metadata| metadata.text(field));
            text.unwrap_or_default().to_owned()
        };
        Entry {
            kind: case.object.kind.clone(),
            namespace: case.namespace.clone(),
            name: case.object.name().to_owned(),
            uid: of_metadata("uid"),
            resource_version: of_metadata("resourceVersion"),
            at,
            subjects: case.subjects.clone(),
            role: (case.role_ref.kind.clone(), case.role_ref.name.clone()),
            rules: role.as_ref().map(|role| role.rules.clone()),
            account,
            exists,
            created: of_metadata("creationTimestamp").parse().ok(),
            made_by: made_by(case.object),
            risk: self.risk(&found, role.as_ref()),
            findings,
            decision,
            restore: backup::restorable(&case.object.node.value(), case.namespace.as_deref()),
        }
    }

    fn risk(&self, found: &[PlainFinding], role: Option<&Role>) -> &'static str {
        if role.is_none() && self.known.connection.is_none() {
            return "unknown";
        }
        let own = found.iter().filter(|f| f.violation.code != STANDING);
        let worst = own.filter_map(|finding| finding.severity).max();
        worst.map_or("low", severity_name)
    }

    fn decide(
        &mut self,
        case: &Case<'_>,
        account: Option<&Account>,
        exists: Option<bool>,
        role: Option<&Role>,
        findings: &[Told],
    ) -> Decision {
        let keep = |why| Decision::Keep {
            why,
            fine: Vec::new(),
        };
        let Some(account) = account else {
            let of_subject = findings.iter().filter(|f| f.path != "roleRef");
            return keep(of_subject.cloned().collect());
        };
        if is_held(case.object) {
            let message = "has a finalizer or is being deleted, so it would go on giving rights for an unknown time";
            return keep(vec![why(STANDING, "metadata", message.into())]);
        }
        if !is_plain(case) {
            let message = "or the name of its role or subject has characters that the authorizer's answers cannot be compared for";
            return keep(vec![why(STANDING, "metadata.name", message.into())]);
        }
        if is_of_stint(case.object) {
            let message = "is labelled as part of Stint, which cannot live on its own grants";
            return keep(vec![why(STANDING, "metadata.labels", message.into())]);
        }
        let (kind, name) = (&case.role_ref.kind, &case.role_ref.name);
        match role {
            None if self.known.connection.is_some() => {
                let message =
                    format!("{kind} '{name}' does not exist, so the binding gives nothing");
                Decision::Delete(why("WA-ROLE-MISSING", "roleRef", message))
            }
            None => {
                let message = format!(
                    "{kind} '{name}' is not in the input, so nobody can tell what it gives; add its manifest"
                );
                keep(vec![why("WA-ROLE-MISSING", "roleRef", message)])
            }
            Some(_) if exists == Some(false) => {
                let message = format!(
                    "'{account}' does not exist, so nobody has these rights until somebody makes it"
                );
                Decision::Delete(why("WA-ACCOUNT-MISSING", "subjects", message))
            }
            Some(role) => self.propose(case, account, role),
        }
    }

    fn propose(&mut self, case: &Case<'_>, account: &Account, role: &Role) -> Decision {
        let place = Place {
            binding: case.object.name(),
            namespace: case.namespace.as_deref(),
            account,
            duration: self.duration,
        };
        let now = self.known.now;
        match propose::propose(&place, &role.rules, &mut self.world, now) {
            Ok(mut proposal) => {
                if case.namespace.is_none() && !self.known.everywhere {
                    let text = "combinations with what the account holds in other namespaces were not looked at; -A does";
                    proposal.notes.push(text.into());
                }
                Decision::Move(Box::new(proposal))
            }
            Err(mut why) if why.len() == 1 && why[0].code == GIVES_NOTHING => {
                Decision::Delete(why.remove(0))
            }
            Err(why) => Decision::Keep {
                why,
                fine: propose::fine(&place, &role.rules, &mut self.world, now),
            },
        }
    }

    fn role(&self, case: &Case<'_>) -> Option<&Role> {
        let namespace = case.namespace.as_deref().unwrap_or_default();
        let RoleRef { kind, name, .. } = &case.role_ref;
        self.world.role(kind, namespace, name)
    }

    /// What is said of these subjects, and of the role.
    fn findings(&self, case: &Case<'_>, at: &[usize], role: Option<&Role>) -> Vec<PlainFinding> {
        let all = guard::of_binding(&Binding {
            scope: case.scope(),
            subjects: &case.subjects,
            role_ref: &case.role_ref,
            role: match role {
                Some(role) => BoundRole::Found {
                    rules: &role.rules,
                    aggregated: role.aggregated,
                },
                None if self.known.connection.is_some() => BoundRole::Missing,
                None => BoundRole::Unknown,
            },
        });
        let own: Vec<String> = at.iter().map(|at| format!("subjects[{at}]")).collect();
        let mut mine: Vec<PlainFinding> = Vec::new();
        for finding in all {
            let path = &finding.violation.path;
            if (path == "roleRef" || own.contains(path)) && !mine.contains(&finding) {
                mine.push(finding);
            }
        }
        mine
    }

    /// A manifest of the account shows that it exists; that there is none shows nothing, unless the cluster was asked.
    fn exists(&self, account: &Account) -> Option<bool> {
        let known = self.known;
        let looked = known.everywhere || account.namespace == known.namespace;
        match self.world.account(account) {
            Some(_) => Some(true),
            None => (known.connection.is_some() && looked).then_some(false),
        }
    }
}

/// Whether Kubernetes itself gives these subjects this binding.
fn is_default(case: &Case<'_>, at: &[usize]) -> bool {
    let about = ObjectReference {
        kind: Some(case.object.kind.clone()),
        namespace: case.namespace.clone(),
        name: Some(case.object.name().to_owned()),
        ..ObjectReference::default()
    };
    let own = defaults::subjects(&about).unwrap_or_default();
    let identity = |subject| binding::identity(case.scope(), subject);
    let known: Vec<String> = own.iter().map(identity).collect();
    let mut mine = at.iter().map(|at| identity(&case.subjects[*at]));
    // Kubernetes gives its bindings the names of their roles, but for one that begins with `system::`.
    let (name, role) = (case.object.name(), case.role_ref.name.as_str());
    let own_role = name == role || name.strip_prefix("system::") == Some(role);
    own_role && mine.all(|subject| known.contains(&subject))
}

fn label<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.node.get("metadata")?.get("labels")?.text(name)
}

fn is_held(object: &Object) -> bool {
    let metadata = object.node.value()["metadata"].take();
    let finalizers = metadata["finalizers"].as_array();
    finalizers.is_some_and(|list| !list.is_empty()) || !metadata["deletionTimestamp"].is_null()
}

/// Whether all names are of visible ASCII, which Go and Rust quote alike.
fn is_plain(case: &Case<'_>) -> bool {
    let subjects = case.subjects.iter().map(|subject| subject.name.as_str());
    let own = [case.object.name(), case.role_ref.name.as_str()];
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    own.into_iter()
        .chain(subjects)
        .all(|name| name.chars().all(plain))
}

fn is_of_stint(object: &Object) -> bool {
    label(object, "app.kubernetes.io/name") == Some("stint")
}

/// The account that an identity stands for.
fn account(identity: &str) -> Option<Account> {
    let parts = identity.strip_prefix("system:serviceaccount:")?;
    let (namespace, name) = parts.split_once(':')?;
    Some(Account {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// Groups that every account, or every account of a namespace, is in.
fn is_group_of_accounts(subject: &Subject) -> bool {
    let name = subject.name.as_str();
    let everybody = ["system:authenticated", "system:serviceaccounts"].contains(&name);
    subject.kind == "Group" && (everybody || name.starts_with("system:serviceaccounts:"))
}
