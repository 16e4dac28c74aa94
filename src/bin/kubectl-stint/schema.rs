//! What the API server refuses before any webhook is asked: fields that do not exist, missing ones, wrong types and bounds,
//! by the schema of the CustomResourceDefinitions that this program carries. The CEL rules of the schema are not evaluated
//! here: the judge says the same in the same words.

use crate::tree::{Node, Tree};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;
use stint::domain::violation::{Problem, Violation};

static CRDS: LazyLock<Vec<CustomResourceDefinition>> =
    LazyLock::new(stint::api::custom_resource_definitions);

/// The patterns of all schemas, compiled once.
static PATTERNS: LazyLock<HashMap<&str, Regex>> = LazyLock::new(|| {
    let mut patterns = HashMap::new();
    CRDS.iter()
        .filter_map(schema_of)
        .for_each(|schema| collect(schema, &mut patterns));
    patterns
});

fn schema_of(crd: &CustomResourceDefinition) -> Option<&JSONSchemaProps> {
    let version = crd.spec.versions.first()?;
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

fn collect<'a>(schema: &'a JSONSchemaProps, patterns: &mut HashMap<&'a str, Regex>) {
    if let Some(pattern) = schema.pattern.as_deref()
        && let Ok(regex) = Regex::new(pattern)
    {
        patterns.insert(pattern, regex);
    }
    let properties = schema.properties.iter().flat_map(|p| p.values());
    properties.for_each(|schema| collect(schema, patterns));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect(items, patterns);
    }
}

/// Fields of every object that the schema of a CustomResourceDefinition leaves to the API server.
const COMMON: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Everything about a Stint object that its schema refuses. Empty also for kinds that have no schema here.
pub fn violations(kind: &str, object: &Node) -> Vec<Violation> {
    let crd = CRDS.iter().find(|crd| crd.spec.names.kind == kind);
    let schema = crd.and_then(schema_of);
    let mut wrong = Vec::new();
    if let (Some(schema), Tree::Fields(fields)) = (schema, &object.tree) {
        let fields = fields.iter().map(|(name, node)| (name.as_str(), node));
        let own: Vec<_> = fields.filter(|(name, _)| !COMMON.contains(name)).collect();
        check_fields(schema, "", &own, &mut wrong);
    }
    wrong
}

/// Fields of an RBAC object that Kubernetes does not know: a misspelt `resourceNames` would make a rule wide.
pub fn unknown_in_rbac(object: &Node) -> Vec<Violation> {
    const OBJECT: [&str; 7] = [
        "apiVersion",
        "kind",
        "metadata",
        "rules",
        "aggregationRule",
        "subjects",
        "roleRef",
    ];
    const RULE: [&str; 5] = [
        "apiGroups",
        "resources",
        "resourceNames",
        "verbs",
        "nonResourceURLs",
    ];
    let mut wrong = Vec::new();
    unknown("", object, &OBJECT, &mut wrong);
    let lists: [(&str, &[&str]); 2] = [
        ("rules", &RULE),
        ("subjects", &["kind", "apiGroup", "name", "namespace"]),
    ];
    for (list, known) in lists {
        if let Some(Tree::List(items)) = object.get(list).map(|node| &node.tree) {
            for (i, item) in items.iter().enumerate() {
                unknown(&format!("{list}[{i}]"), item, known, &mut wrong);
            }
        }
    }
    if let Some(role) = object.get("roleRef") {
        unknown("roleRef", role, &["apiGroup", "kind", "name"], &mut wrong);
    }
    wrong
}

fn unknown(path: &str, node: &Node, known: &[&str], wrong: &mut Vec<Violation>) {
    if let Tree::Fields(fields) = &node.tree {
        let names = fields.iter().map(|(name, _)| name);
        for name in names.filter(|name| !known.contains(&name.as_str())) {
            wrong.push(refuse(
                join(path, name),
                Problem::Invalid,
                "is no field of this object",
            ));
        }
    }
}

fn refuse(path: String, problem: Problem, message: impl Into<String>) -> Violation {
    Violation::new("WA-DECODE", path, problem, message)
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

fn check(schema: &JSONSchemaProps, path: &str, node: &Node, wrong: &mut Vec<Violation>) {
    let value = &node.tree;
    if let Some(expected) = schema.type_.as_deref()
        && !has_type(expected, value)
    {
        let article = if "aeio".contains(&expected[..1]) {
            "an"
        } else {
            "a"
        };
        let message = format!("must be {article} {expected}");
        return wrong.push(refuse(path.to_owned(), Problem::Invalid, message));
    }
    match value {
        Tree::Fields(fields) => {
            let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v)).collect();
            check_fields(schema, path, &fields, wrong);
        }
        Tree::List(items) => check_items(schema, path, items, wrong),
        Tree::Scalar(Value::String(text)) => check_text(schema, path, text, wrong),
        Tree::Scalar(Value::Number(number)) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let low = schema.minimum.is_some_and(|min| number < min);
            let high = schema.maximum.is_some_and(|max| number > max);
            if low || high {
                let bound = schema.minimum.filter(|_| low).or(schema.maximum);
                let word = if low { "at least" } else { "at most" };
                let message = format!("must be {word} {}", bound.unwrap_or_default());
                wrong.push(refuse(path.to_owned(), Problem::Invalid, message));
            }
        }
        Tree::Scalar(_) => {}
    }
}

fn has_type(expected: &str, value: &Tree) -> bool {
    match (expected, value) {
        ("object", Tree::Fields(_)) | ("array", Tree::List(_)) => true,
        ("string", Tree::Scalar(value)) => value.is_string(),
        ("boolean", Tree::Scalar(value)) => value.is_boolean(),
        ("integer", Tree::Scalar(value)) => value.is_i64() || value.is_u64(),
        ("number", Tree::Scalar(value)) => value.is_number(),
        _ => false,
    }
}

fn check_fields(
    schema: &JSONSchemaProps,
    path: &str,
    fields: &[(&str, &Node)],
    wrong: &mut Vec<Violation>,
) {
    for name in schema.required.iter().flatten() {
        if !fields.iter().any(|(field, _)| field == name) {
            wrong.push(refuse(join(path, name), Problem::Required, "must be set"));
        }
    }
    let open = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    for (name, node) in fields {
        let path = join(path, name);
        let own = schema.properties.as_ref().and_then(|p| p.get(*name));
        match (own, &schema.additional_properties) {
            (Some(own), _) => check(own, &path, node, wrong),
            (None, Some(JSONSchemaPropsOrBool::Schema(any))) => check(any, &path, node, wrong),
            (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
            _ if open => {}
            _ => wrong.push(refuse(path, Problem::Invalid, unknown_field(name, schema))),
        }
    }
}

fn unknown_field(name: &str, schema: &JSONSchemaProps) -> String {
    let near = |known: &&String| strsim::osa_distance(known, name) <= 3;
    let known = schema.properties.iter().flat_map(|p| p.keys());
    match known
        .filter(near)
        .min_by_key(|known| strsim::osa_distance(known, name))
    {
        Some(known) => format!("is no field of this object; did you mean `{known}`?"),
        None => "is no field of this object".to_owned(),
    }
}

fn check_items(schema: &JSONSchemaProps, path: &str, items: &[Node], wrong: &mut Vec<Violation>) {
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(min) = schema.min_items.filter(|min| count < *min) {
        let message = format!("must have at least {min}");
        wrong.push(refuse(path.to_owned(), Problem::Required, message));
    }
    if let Some(max) = schema.max_items.filter(|max| count > *max) {
        let message = format!("must have at most {max}");
        return wrong
            .push(refuse(path.to_owned(), Problem::TooMany, message).found(count.to_string()));
    }
    let is_set = schema.x_kubernetes_list_type.as_deref() == Some("set");
    let values: Vec<Value> = items.iter().map(Node::value).collect();
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if is_set && values[..i].contains(&values[i]) {
            wrong.push(refuse(
                path.clone(),
                Problem::Invalid,
                "must not be listed twice",
            ));
        }
        if let Some(JSONSchemaPropsOrArray::Schema(of)) = &schema.items {
            check(of, &path, item, wrong);
        }
    }
}

fn check_text(schema: &JSONSchemaProps, path: &str, text: &str, wrong: &mut Vec<Violation>) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let refuse = |message: String| refuse(path.to_owned(), Problem::Invalid, message).found(text);
    let allowed = schema.enum_.iter().flatten().map(|value| &value.0);
    let allowed: Vec<&Value> = allowed.collect();
    if !allowed.is_empty() && !allowed.iter().any(|value| value.as_str() == Some(text)) {
        let words: Vec<&str> = allowed.iter().filter_map(|value| value.as_str()).collect();
        wrong.push(refuse(format!("must be one of {}", words.join(", "))));
    }
    if let Some(min) = schema.min_length.filter(|min| length < *min) {
        wrong.push(refuse(format!("must have at least {min} characters")));
    }
    if let Some(max) = schema.max_length.filter(|max| length > *max) {
        return wrong.push(refuse(format!("must have at most {max} characters")));
    }
    if let Some(pattern) = schema.pattern.as_deref()
        && let Some(regex) = PATTERNS.get(pattern)
        && !regex.is_match(text)
    {
        wrong.push(refuse(format!("must match `{pattern}`")));
    }
}
