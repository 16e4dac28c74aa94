//! What users write and read: the custom resources, as serde, schemars and CEL only.

pub mod access_policy;
pub mod conditions;
pub mod names;
pub mod workload_access;

pub use access_policy::{AccessPolicy, AccessPolicySpec};
pub use workload_access::{WorkloadAccess, WorkloadAccessSpec, WorkloadAccessStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

/// The CustomResourceDefinitions of this release, in the order in which they are printed and installed.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![AccessPolicy::crd(), WorkloadAccess::crd()];
    let schemas = crds
        .iter_mut()
        .flat_map(|crd| crd.spec.versions.iter_mut())
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    schemas.for_each(refuse_null);
    crds
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
