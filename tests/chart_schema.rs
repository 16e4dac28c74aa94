//! The schema of the chart's values is made from `values.yaml`: the type of each default, closed where keys are listed, and what
//! a `# @schema {…}` comment above a key says beyond that. `UPDATE=1` writes it (`make chart`).

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/stint")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// What the comments say of each key, by its path.
fn annotations(text: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut path: Vec<String> = Vec::new();
    let mut waiting = None;
    for line in text.lines() {
        let content = line.trim_start();
        let depth = (line.len() - content.len()) / 2;
        if let Some(schema) = content.strip_prefix("# @schema ") {
            let schema: Value =
                serde_saphyr::from_str(schema).unwrap_or_else(|e| panic!("{content}: {e}"));
            assert!(waiting.replace(schema).is_none(), "two for one key: {line}");
        } else if let Some((key, _)) = content.split_once(':')
            && key.bytes().all(|b| b.is_ascii_alphabetic())
        {
            path.truncate(depth);
            path.push(key.to_owned());
            found.extend(waiting.take().map(|schema| (path.join("."), schema)));
        }
    }
    assert_eq!(waiting, None, "a schema without a key");
    found
}

fn schema(value: &Value, path: &str, annotations: &mut BTreeMap<String, Value>) -> Value {
    let own = annotations.remove(path);
    let mut schema = match value {
        Value::Object(fields) => {
            let mut properties = Map::new();
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                let path = path.trim_start_matches('.');
                properties.insert(key.clone(), self::schema(value, path, annotations));
            }
            json!({"type": "object", "additionalProperties": false, "properties": properties})
        }
        Value::Array(_) => json!({"type": "array"}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Null => panic!("{path} has no default"),
    };
    for (keyword, value) in own.iter().filter_map(Value::as_object).flatten() {
        if keyword == "properties" {
            schema["properties"] = value.clone();
            continue;
        }
        schema[keyword] = value.clone();
    }
    if schema.get("enum").is_some() && own.is_some_and(|own| own.get("type").is_none()) {
        schema.as_object_mut().unwrap().remove("type");
    }
    schema
}

fn whole() -> Value {
    let text = read("values.yaml");
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let mut annotations = annotations(&text);
    let mut whole = schema(&values, "", &mut annotations);
    assert!(annotations.is_empty(), "for no key: {annotations:?}");
    whole["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    whole["definitions"] = json!({"names": {
        "description": "Names, never wildcards: what is granted through the ceiling is named too",
        "type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[^*]*$"}
    }});
    whole
}

#[test]
fn the_schema_is_made_from_the_values() {
    let made = serde_json::to_string_pretty(&whole()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join("values.schema.json"), &made).unwrap();
    }
    assert!(
        read("values.schema.json") == made,
        "values.schema.json is stale: run `make chart`"
    );
}

#[test]
fn every_object_with_listed_keys_is_closed() {
    fn walk(schema: &Value, path: &str) {
        if schema.get("properties").is_some() && path != ".global" {
            let more = &schema["additionalProperties"];
            // A map of texts is closed by the type of its values.
            assert!(*more == false || more.is_object(), "{path}: {more}");
        }
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            walk(below, &format!("{path}.{key}"));
        }
    }
    walk(&whole(), "");
}
