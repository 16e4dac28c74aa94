//! What users write and read: the custom resources, as serde, schemars and CEL only.

pub mod access_approval;
pub mod access_policy;
pub mod cluster_workload_access;
pub mod conditions;
pub mod names;
pub mod references;
pub mod stamps;
pub mod workload_access;

pub use access_approval::{AccessApproval, AccessApprovalSpec};
pub use access_policy::{AccessPolicy, AccessPolicySpec};
pub use cluster_workload_access::{ClusterWorkloadAccess, ClusterWorkloadAccessSpec};
pub use workload_access::{WorkloadAccess, WorkloadAccessSpec, WorkloadAccessStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

/// The CustomResourceDefinitions of this release, in the order in which they are printed and installed.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        AccessApproval::crd(),
        AccessPolicy::crd(),
        ClusterWorkloadAccess::crd(),
        WorkloadAccess::crd(),
    ];
    // The status is one type; each kind shows what it can have.
    crds[2..].iter_mut().for_each(|crd| {
        let never: &[&str] = match crd.spec.scope.as_str() {
            "Cluster" => &["roleBinding", "deadline"],
            _ => &["clusterRoleBinding"],
        };
        status_without(crd, never);
    });
    let schemas = crds
        .iter_mut()
        .flat_map(|crd| crd.spec.versions.iter_mut())
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    schemas.for_each(refuse_null);
    crds
}

fn status_without(crd: &mut CustomResourceDefinition, fields: &[&str]) {
    let versions = crd.spec.versions.iter_mut();
    let schemas = versions.filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        let of_object = schema.properties.as_mut();
        let status = of_object.and_then(|properties| properties.get_mut("status"));
        if let Some(properties) = status.and_then(|status| status.properties.as_mut()) {
            properties.retain(|name, _| !fields.contains(&name.as_str()));
        }
    }
}

/// An optional field is absent or set, never `null`: CEL's `has()` would call a `null` present.
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(refuse_null);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        refuse_null(items);
    }
}
