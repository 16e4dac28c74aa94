//! Whether a CustomResourceDefinition as it is served is the one that this version was built with.

use serde_json::Value;
use std::collections::BTreeSet;

/// Stands before the words of a rule.
const RULE: &str = " rule `";

/// How a served definition differs, by the paths of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Fields that the API server drops before anybody sees them: it is older.
    pub lacks: BTreeSet<String>,
    /// Rules that it does not check: it is older, or words them otherwise.
    pub unchecked: BTreeSet<String>,
    /// Fields that this version does not see, and rules that it does not know: it is newer, or somebody changed it.
    pub adds: BTreeSet<String>,
}

impl Difference {
    /// What is different about the version `v1alpha1`; both are definitions as JSON.
    pub fn between(built: &Value, served: &Value) -> Self {
        let fields = |definition: &Value| {
            let mut found = BTreeSet::new();
            walk(schema(definition), "", &mut found);
            found
        };
        let (built, served) = (fields(built), fields(served));
        let missing = built.difference(&served).cloned();
        let (unchecked, lacks) = missing.partition(|path| path.contains(RULE));
        Self {
            lacks,
            unchecked,
            adds: served.difference(&built).cloned().collect(),
        }
    }

    /// What is wrong with the definition of this name and what to do, if anything is.
    pub fn words(&self, name: &str) -> Option<String> {
        let remedy =
            "run a Helm upgrade of the chart, or apply its CRDs, and the operator, of one version";
        let older = (!self.lacks.is_empty()).then(|| {
            format!(
                "CustomResourceDefinition '{name}' is older than the operator or was changed, so the API server drops {}",
                first(&self.lacks)
            )
        });
        let unchecked = (!self.unchecked.is_empty()).then(|| {
            format!(
                "CustomResourceDefinition '{name}' is of another version than the operator or was changed, so the API server does not check {}",
                first(&self.unchecked)
            )
        });
        let newer = (!self.adds.is_empty()).then(|| {
            format!(
                "CustomResourceDefinition '{name}' is newer than the operator or was changed, so the operator does not see {}",
                first(&self.adds)
            )
        });
        let found: Vec<String> = older.into_iter().chain(unchecked).chain(newer).collect();
        (!found.is_empty()).then(|| format!("{}; {remedy}", found.join("; ")))
    }
}

/// A few of them: what is told must stay readable.
fn first(paths: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = paths.iter().take(3).map(String::as_str).collect();
    match paths.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn schema(definition: &Value) -> &Value {
    let versions = definition["spec"]["versions"].as_array();
    let version = versions
        .into_iter()
        .flatten()
        .find(|v| v["name"] == "v1alpha1");
    version.map_or(&Value::Null, |v| &v["schema"]["openAPIV3Schema"])
}

/// Fields and rules below a schema.
fn walk(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}").trim_start_matches('.').to_owned();
        walk(below, &path, found);
        found.insert(path);
    }
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules.into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap_or_default();
        found.insert(format!("{path}{RULE}{text}`").trim_start().to_owned());
    }
    for (inner, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}{mark}"), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(schema: Value) -> Value {
        json!({"spec": {"versions": [{"name": "v1alpha1", "schema": {"openAPIV3Schema": schema}}]}})
    }

    #[test]
    fn a_field_at_any_depth_and_a_rule_are_missed_or_unknown() {
        let built = of(json!({"properties": {"spec": {
            "properties": {"a": {}, "list": {"items": {"properties": {"b": {}}}}},
            "x-kubernetes-validations": [{"rule": "self.a"}]}}}));
        let served = of(json!({"properties": {"spec": {
            "properties": {"a": {}, "list": {"items": {"properties": {"c": {}}}}}}}}));
        let difference = Difference::between(&built, &served);
        let paths = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect();
        assert_eq!(difference.lacks, paths(&["spec.list[].b"]));
        assert_eq!(difference.unchecked, paths(&["spec rule `self.a`"]));
        assert_eq!(difference.adds, paths(&["spec.list[].c"]));
        assert_eq!(Difference::between(&built, &built).words("x"), None);
    }
}
