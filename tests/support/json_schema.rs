//! As much of JSON Schema as `docs/audit.schema.json` uses. A keyword that it does not know is an error, so nothing in a
//! schema goes unchecked.

use jiff::Timestamp;
use serde_json::Value;

/// Everything in which `value` does not fit `schema`, with where. Properties that the schema does not name are told too:
/// readers ignore them, the writer must describe them.
pub fn misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
        let fits = match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => is_of(wanted.as_str().unwrap(), value),
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minLength" => length(value) >= wanted.as_u64().unwrap(),
            "maxLength" => length(value) <= wanted.as_u64().unwrap(),
            "maxItems" => value.as_array().map_or(0, Vec::len) as u64 <= wanted.as_u64().unwrap(),
            "format" => {
                assert_eq!(wanted, "date-time");
                value
                    .as_str()
                    .is_some_and(|t| t.parse::<Timestamp>().is_ok())
            }
            "required" => {
                let mut names = wanted.as_array().unwrap().iter();
                names.all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    wrong.extend(misfits(wanted, item, &format!("{path}[{i}]")));
                }
                true
            }
            "properties" => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    let path = format!("{path}.{name}");
                    match wanted.get(name) {
                        Some(schema) => wrong.extend(misfits(schema, field, &path)),
                        None => wrong.push(format!("{path} is not in the schema")),
                    }
                }
                true
            }
            other => panic!("{path}: this checker does not know the keyword `{other}`"),
        };
        if !fits {
            wrong.push(format!("{path}: {value} does not fit {keyword} {wanted}"));
        }
    }
    wrong
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("this checker does not know the type `{other}`"),
    }
}

fn length(value: &Value) -> u64 {
    value.as_str().map_or(0, |text| text.chars().count() as u64)
}
