//! The operator's lists of Kubernetes' own roles and bindings have everything that a real API server makes. With `UPDATE=1` the roles
//! are listed anew from the newest version; then, with `STINT_TEST_OLDEST=1` as well, what the oldest has is added.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use kube::api::ListParams;
use kube::core::{Resource, ResourceExt};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use stint::domain::catalogue::Scope;
use stint::domain::covers::Ceiling;
use stint::domain::defaults::{self, DefaultRole};
use stint::domain::guard_report::of_role;
use stint::domain::plain::scope_of;
use stint::domain::rules::Rule;
use support::cluster::Cluster;
use support::project;

const BINDINGS: &str = "src/domain/default_bindings.txt";
const ROLES: &str = "src/domain/default_roles.jsonl";
/// By these labels ClusterRoles take each other in.
const TAKEN_IN: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// What the API server made of a kind.
async fn made<K>(client: &Client) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let own = ListParams::default().labels("kubernetes.io/bootstrapping=rbac-defaults");
    Api::all(client.clone()).list(&own).await.unwrap().items
}

fn listed(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project().join(path)).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn whole_name(object: &impl ResourceExt) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

fn binding(kind: &str, object: &impl ResourceExt, subjects: Option<&Vec<Subject>>) -> String {
    let mut words = vec![kind.to_owned(), whole_name(object)];
    for subject in subjects.into_iter().flatten() {
        words.push(subject.kind.clone());
        words.push(match &subject.namespace {
            Some(namespace) => format!("{namespace}/{}", subject.name),
            None => subject.name.clone(),
        });
    }
    words.join(" ")
}

fn role(kind: &str, object: &impl ResourceExt, rules: Option<&Vec<PolicyRule>>) -> DefaultRole {
    let taken_in = |(label, value): (&String, &String)| {
        label
            .starts_with(TAKEN_IN)
            .then(|| (label.clone(), value.clone()))
    };
    DefaultRole {
        kind: kind.into(),
        name: whole_name(object),
        labels: object.labels().iter().filter_map(taken_in).collect(),
        aggregation_rule: None,
        rules: rules.into_iter().flatten().map(Rule::from).collect(),
    }
}

async fn roles(client: &Client) -> Vec<DefaultRole> {
    let of_the_cluster = made::<ClusterRole>(client)
        .await
        .into_iter()
        .map(|object| DefaultRole {
            aggregation_rule: object.aggregation_rule.clone(),
            ..role("ClusterRole", &object, object.rules.as_ref())
        });
    let mut all: Vec<DefaultRole> = of_the_cluster.collect();
    let of_namespaces = made::<Role>(client).await;
    all.extend(
        of_namespaces
            .iter()
            .map(|object| role("Role", object, object.rules.as_ref())),
    );
    all
}

/// Lists these roles: beside those that are listed, if these are of the oldest version.
fn update(roles: &[DefaultRole]) {
    let known = match std::env::var_os("STINT_TEST_OLDEST") {
        Some(_) => listed(ROLES),
        None => Vec::new(),
    };
    let known = known
        .iter()
        .map(|line| serde_json::from_str::<DefaultRole>(line).unwrap());
    let mut all: BTreeMap<(String, String), DefaultRole> = known
        .map(|role| ((role.kind.clone(), role.name.clone()), role))
        .collect();
    for role in roles {
        let name = (role.kind.clone(), role.name.clone());
        let entry = all.entry(name).or_insert_with(|| DefaultRole {
            rules: Vec::new(),
            ..role.clone()
        });
        entry.labels.extend(role.labels.clone());
        if role.aggregation_rule.is_none() {
            let lacking = Ceiling::compile(&entry.rules).uncovered(&role.rules);
            entry.rules.extend(lacking);
        }
    }
    let lines = all
        .values()
        .map(|role| serde_json::to_string(role).unwrap() + "\n");
    std::fs::write(project().join(ROLES), lines.collect::<String>()).unwrap();
}

#[tokio::test]
async fn the_lists_of_kubernetes_own_are_those_of_the_api_server() {
    if std::env::var_os("STINT_TEST_KUBECONFIG").is_some() {
        eprintln!(
            "what others added to the cluster of STINT_TEST_KUBECONFIG is not Kubernetes' own"
        );
        return;
    }
    let cluster = Cluster::start().await.unwrap();
    let client = cluster.admin();
    let mut bindings = Vec::new();
    for object in made::<ClusterRoleBinding>(&client).await {
        bindings.push(binding(
            "ClusterRoleBinding",
            &object,
            object.subjects.as_ref(),
        ));
    }
    for object in made::<RoleBinding>(&client).await {
        bindings.push(binding("RoleBinding", &object, object.subjects.as_ref()));
    }
    assert!(bindings.len() > 40, "{bindings:?}");
    let known = BTreeSet::from_iter(listed(BINDINGS));
    bindings.retain(|line| !known.contains(line));
    assert!(bindings.is_empty(), "not in {BINDINGS}: {bindings:#?}");

    let roles = roles(&client).await;
    assert!(roles.len() > 60, "{roles:?}");
    if std::env::var_os("UPDATE").is_some_and(|set| set == "1") {
        update(&roles);
        return;
    }
    for role in roles {
        let (namespace, name) = match role.name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, role.name.as_str()),
        };
        let about = ObjectReference {
            kind: Some(role.kind.clone()),
            namespace: namespace.map(str::to_owned),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        assert!(defaults::role(&about).is_some(), "{ROLES} lacks {about:?}");
        let scope = namespace.map_or(Scope::Cluster, scope_of);
        let told = of_role(&about, &role.clone().into(), scope);
        assert!(told.is_empty(), "{about:?} of a fresh cluster: {told:?}");
    }
}
