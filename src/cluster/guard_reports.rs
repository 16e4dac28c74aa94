//! Reads every role and binding of the cluster and keeps a report on each that the guard has something to say of.

use crate::api::names::{GRANT, MANAGED_BY, MANAGER};
use crate::cluster::standing::RoleKey;
use crate::cluster::{ApiError, call};
use crate::domain::binding::{Binding, BoundRole};
use crate::domain::catalogue::Scope;
use crate::domain::guard::PlainRole;
use crate::domain::guard_report::{self, ReportApi};
use crate::domain::plain::{PlainFinding, Weight, scope_of};
use crate::domain::rules::Rule;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
    Subject,
};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{Resource, ResourceExt};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// A report: namespace, if any, and name.
type Key = (Option<String>, String);

/// The rules of a role, and whether they are put together from others.
type Rules = (Vec<Rule>, bool);

/// What one look at everything came to.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Findings in what is there now, by kind of the object and weight.
    pub findings: BTreeMap<(&'static str, Weight), usize>,
    /// Reports that could not be written or removed; the next look tries again.
    pub failed: usize,
}

/// Looks at everything once. What an answer of the API server lacks, because something failed, is never taken for gone.
pub async fn scan(client: &Client, api: ReportApi, now: Timestamp) -> Result<Scanned, ApiError> {
    let mut scan = Scan {
        client,
        api,
        now,
        stored: stored(client, api).await?,
        scanned: Scanned::default(),
    };
    let roles = scan.roles().await?;
    scan.bindings(&roles).await?;
    scan.remove_the_rest().await;
    Ok(scan.scanned)
}

struct Scan<'a> {
    client: &'a Client,
    api: ReportApi,
    now: Timestamp,
    /// The reports that nothing was found for yet, each as the hash of what it says.
    stored: HashMap<Key, u64>,
    scanned: Scanned,
}

impl Scan<'_> {
    async fn roles(&mut self) -> Result<HashMap<RoleKey, Rules>, ApiError> {
        let mut known = HashMap::new();
        let mut roles: Pages<Role> = Pages::all(self.client);
        while let Some(page) = roles.next().await? {
            for role in page {
                self.role("Role", &role, role.rules.as_deref(), None, &mut known)
                    .await;
            }
        }
        let mut roles: Pages<ClusterRole> = Pages::all(self.client);
        while let Some(page) = roles.next().await? {
            for role in page {
                let (rules, aggregation) = (role.rules.as_deref(), role.aggregation_rule.clone());
                self.role("ClusterRole", &role, rules, aggregation, &mut known)
                    .await;
            }
        }
        Ok(known)
    }

    async fn role(
        &mut self,
        kind: &'static str,
        object: &impl ResourceExt,
        rules: Option<&[PolicyRule]>,
        aggregation: Option<AggregationRule>,
        known: &mut HashMap<RoleKey, Rules>,
    ) {
        // Decisions share this task.
        tokio::task::yield_now().await;
        let role = PlainRole {
            rules: rules.into_iter().flatten().map(Rule::from).collect(),
            labels: object.labels().clone(),
            aggregation,
        };
        if !object.labels().contains_key(GRANT) {
            let about = reference(kind, object);
            let findings =
                guard_report::of_role(&about, &role, scope(object.namespace().as_deref()));
            self.keep(kind, &about, &findings).await;
        }
        let aggregated = role.aggregation.is_some();
        known.insert(RoleKey::of(object), (role.rules, aggregated));
    }

    async fn bindings(&mut self, roles: &HashMap<RoleKey, Rules>) -> Result<(), ApiError> {
        let mut bindings: Pages<RoleBinding> = Pages::all(self.client);
        while let Some(page) = bindings.next().await? {
            for binding in page {
                let subjects = binding.subjects.as_deref();
                self.binding("RoleBinding", &binding, subjects, &binding.role_ref, roles)
                    .await;
            }
        }
        let mut bindings: Pages<ClusterRoleBinding> = Pages::all(self.client);
        while let Some(page) = bindings.next().await? {
            for binding in page {
                let (subjects, role_ref) = (binding.subjects.as_deref(), &binding.role_ref);
                self.binding("ClusterRoleBinding", &binding, subjects, role_ref, roles)
                    .await;
            }
        }
        Ok(())
    }

    async fn binding(
        &mut self,
        kind: &'static str,
        object: &impl ResourceExt,
        subjects: Option<&[Subject]>,
        role_ref: &RoleRef,
        roles: &HashMap<RoleKey, Rules>,
    ) {
        tokio::task::yield_now().await;
        // What Stint made ends by itself. An admission policy keeps everybody else from setting this label.
        if object.labels().contains_key(GRANT) {
            return;
        }
        let about = reference(kind, object);
        let namespace = object.namespace();
        let role = match roles.get(&RoleKey::referred(role_ref, namespace.as_deref())) {
            Some((rules, aggregated)) => BoundRole::Found {
                rules,
                aggregated: *aggregated,
            },
            None => BoundRole::Missing,
        };
        let binding = Binding {
            scope: scope(namespace.as_deref()),
            subjects: subjects.unwrap_or_default(),
            role_ref,
            role,
        };
        let findings = guard_report::of_binding(&about, &binding);
        self.keep(kind, &about, &findings).await;
    }

    /// Writes the report on one object, unless the one that is stored says the same.
    async fn keep(
        &mut self,
        kind: &'static str,
        about: &ObjectReference,
        findings: &[PlainFinding],
    ) {
        let Some(report) = guard_report::report(self.api, about, findings, self.now) else {
            return;
        };
        for found in findings {
            *self
                .scanned
                .findings
                .entry((kind, found.weight))
                .or_default() += 1;
        }
        let name = report["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let stored = self.stored.remove(&(about.namespace.clone(), name.clone()));
        if stored == Some(guard_report::said(&report)) {
            return;
        }
        let api = reports(self.client, self.api, about.namespace.as_deref());
        let params = PatchParams::apply(MANAGER).force();
        let written = call(api.patch(&name, &params, &Patch::Apply(&report))).await;
        self.note("write", written.map(drop));
    }

    async fn remove_the_rest(&mut self) {
        for (namespace, name) in std::mem::take(&mut self.stored).into_keys() {
            let api = reports(self.client, self.api, namespace.as_deref());
            let removed = call(api.delete(&name, &DeleteParams::default())).await;
            self.note("remove", removed.map(drop));
        }
    }

    fn note(&mut self, what: &str, done: Result<(), ApiError>) {
        match done {
            // The object, and with it its report, or the whole namespace went meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::warn!(%error, "guard: could not {what} a report");
                self.scanned.failed += 1;
            }
            Ok(()) => {}
        }
    }
}

/// The reports that Stint keeps.
async fn stored(client: &Client, api: ReportApi) -> Result<HashMap<Key, u64>, ApiError> {
    let ours = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let mut out = HashMap::new();
    for namespaced in [true, false] {
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource(api, namespaced));
        let mut pages = Pages::new(all, ours.clone());
        while let Some(page) = pages.next().await? {
            let ours = |report: &DynamicObject| report.name_any().starts_with(guard_report::PREFIX);
            for report in page.into_iter().filter(ours) {
                let key = (report.namespace(), report.name_any());
                // What was read as JSON can be written as JSON.
                let json = serde_json::to_value(report).unwrap_or_default();
                out.insert(key, guard_report::said(&json));
            }
        }
    }
    Ok(out)
}

fn resource(api: ReportApi, namespaced: bool) -> ApiResource {
    let (kind, plural) = api.names(namespaced);
    ApiResource {
        group: api.group().to_owned(),
        version: api.version().to_owned(),
        api_version: format!("{}/{}", api.group(), api.version()),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn reports(client: &Client, api: ReportApi, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = resource(api, namespace.is_some());
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// All objects of a kind, a page at a time; what stays in memory of a look are the rules of roles and a hash of each report.
struct Pages<K> {
    api: Api<K>,
    /// None after the last page.
    next: Option<ListParams>,
}

impl<K: Clone + DeserializeOwned + Debug> Pages<K> {
    fn new(api: Api<K>, params: ListParams) -> Self {
        let next = Some(params.limit(PAGE));
        Self { api, next }
    }

    fn all(client: &Client) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self::new(Api::all(client.clone()), ListParams::default())
    }

    async fn next(&mut self) -> Result<Option<Vec<K>>, ApiError> {
        let Some(params) = self.next.take() else {
            return Ok(None);
        };
        let page = call(self.api.list(&params)).await?;
        let token = page.metadata.continue_.filter(|token| !token.is_empty());
        self.next = token.map(|token| params.continue_token(&token));
        Ok(Some(page.items))
    }
}

fn reference(kind: &str, object: &impl ResourceExt) -> ObjectReference {
    ObjectReference {
        api_version: Some("rbac.authorization.k8s.io/v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(object.name_any()),
        namespace: object.namespace(),
        uid: object.uid(),
        ..ObjectReference::default()
    }
}

fn scope(namespace: Option<&str>) -> Scope<'_> {
    namespace.map_or(Scope::Cluster, scope_of)
}
