//! The schema of the chart's values is made from `values.yaml`: the type of each default, closed where keys are listed, what a
//! `# @schema {…}` comment above a key says beyond that, and what `tests/chart/definitions.yaml` says of parts of Kubernetes' own
//! objects. `UPDATE=1` writes it (`make chart`).

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::values;
use support::values::Comment;

/// Objects whose keys are not listed, and why.
const OPEN: &[(&str, &str)] = &[
    ("affinity.nodeAffinity", "as in Kubernetes"),
    ("affinity.podAffinity", "as in Kubernetes"),
    ("affinity.podAntiAffinity", "as in Kubernetes"),
    ("extraObjects[]", "any object"),
    ("global", "other charts have globals too"),
    ("definitions.env.valueFrom", "as in Kubernetes"),
    ("definitions.volume", "its kind of source is a key"),
];

fn schema(value: &Value, path: &str, comments: &mut BTreeMap<String, Comment>) -> Value {
    let Comment {
        meaning,
        schema: own,
    } = comments.remove(path).unwrap_or_default();
    let own = own.unwrap_or_else(|| json!({}));
    // Keywords beside a reference are ignored.
    if own.get("$ref").is_some() {
        return own;
    }
    let mut schema = match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut properties = Map::new();
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                let path = path.trim_start_matches('.');
                properties.insert(key.clone(), self::schema(value, path, comments));
            }
            json!({"type": "object", "additionalProperties": false, "properties": properties})
        }
        Value::Object(_) => {
            assert!(
                own.get("properties").is_some(),
                "{path}: what can be in it?"
            );
            json!({"type": "object", "additionalProperties": false})
        }
        Value::Array(_) => {
            assert!(own.get("items").is_some(), "{path}: what can be in it?");
            json!({"type": "array"})
        }
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) if own.get("enum").is_some() => json!({}),
        Value::String(_) => json!({"type": "string"}),
        Value::Null => panic!("{path} has no default"),
    };
    if let Some(meaning) = meaning {
        schema["description"] = json!(meaning);
    }
    for (keyword, value) in own.as_object().unwrap() {
        schema[keyword] = value.clone();
    }
    schema
}

fn whole() -> Value {
    let mut comments = values::comments();
    let mut whole = schema(&values::values(), "", &mut comments);
    comments.retain(|_, comment| comment.schema.is_some());
    assert!(comments.is_empty(), "for no key: {comments:?}");
    whole["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    let definitions = include_str!("chart/definitions.yaml");
    whole["definitions"] = serde_saphyr::from_str(definitions).unwrap();
    whole
}

#[test]
fn the_schema_is_made_from_the_values() {
    let made = serde_json::to_string_pretty(&whole()).unwrap() + "\n";
    let path = values::folder().join("values.schema.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == made,
        "values.schema.json is stale: run `make chart`"
    );
}

/// Paths of objects that take any key.
fn open(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let mut types: Vec<&str> = schema["type"].as_str().into_iter().collect();
    types.extend(
        schema["type"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str),
    );
    // A map of one type is as closed as it can be.
    let more = &schema["additionalProperties"];
    let closed = *more == false || more.is_object();
    if types.contains(&"object") && !closed {
        found.insert(path.to_owned());
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        open(
            below,
            format!("{path}.{key}").trim_start_matches('.'),
            found,
        );
    }
    if let Some(items) = schema.get("items") {
        open(items, &format!("{path}[]"), found);
    }
    for (key, below) in schema["definitions"].as_object().into_iter().flatten() {
        open(below, &format!("definitions.{key}"), found);
    }
}

#[test]
fn every_object_with_listed_keys_is_closed() {
    let mut found = BTreeSet::new();
    open(&whole(), "", &mut found);
    let known: BTreeSet<String> = OPEN.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, known);
}

#[test]
fn every_definition_is_used_and_every_reference_defined() {
    let whole = whole();
    let text = whole.to_string();
    let used: BTreeSet<&str> = text
        .split("\"#/definitions/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    let defined = whole["definitions"].as_object().unwrap();
    let defined: BTreeSet<&str> = defined.keys().map(String::as_str).collect();
    assert_eq!(used, defined);
}
