//! The chart's values: every one does something, and a typo in one is refused. Needs helm, which is built with the programs of the
//! test control plane, and no cluster.

use serde_json::{Map, Value, json};
use support::chart::{features_and_presets, rendered};
use support::dice::{Dice, holds_for};
use support::values;

/// Typos that are tried.
const TYPOS: u64 = 1000;
/// Values that whoever embeds the chart, or Kubernetes, has more keys for.
const TAKE_ANY_KEY: [&str; 2] = ["global", "volumes"];

/// The values of every feature and preset.
fn documents() -> Vec<(String, Value)> {
    let parsed = |(name, text): (String, String)| (name, serde_saphyr::from_str(&text).unwrap());
    features_and_presets().into_iter().map(parsed).collect()
}

fn remove(document: &mut Value, path: &[&str]) {
    let (last, above) = path.split_last().unwrap();
    let inner = above.iter().fold(document, |value, key| &mut value[*key]);
    inner.as_object_mut().unwrap().remove(*last);
}

/// A value does nothing if leaving it out of every file that sets it changes no render.
#[test]
fn every_value_does_something() {
    let documents = documents();
    for (path, comment) in values::comments() {
        if comment.meaning.is_none() {
            continue;
        }
        let keys: Vec<&str> = path.split('.').collect();
        let set = |document: &Value| document.pointer(&format!("/{}", keys.join("/"))).is_some();
        let mut setting = documents.iter().filter(|(_, d)| set(d)).peekable();
        assert!(setting.peek().is_some(), "{path} is in no file of ci");
        let does = setting.any(|(_, document)| {
            let mut without = document.clone();
            remove(&mut without, &keys);
            rendered(&document.to_string()) != rendered(&without.to_string())
        });
        assert!(does, "{path} changes nothing that is rendered");
    }
}

/// A key in an object whose keys are listed.
struct Site<'a> {
    /// Where the object is.
    object: Vec<String>,
    key: String,
    /// What the schema lists for the object.
    listed: &'a Map<String, Value>,
}

fn resolved<'a>(whole: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => whole.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Every such key of `value`, which is at `path`.
fn sites<'a>(whole: &'a Value, schema: &'a Value, value: &Value, path: &[String]) -> Vec<Site<'a>> {
    let schema = resolved(whole, schema);
    let mut found = Vec::new();
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        let path = [path, &[i.to_string()]].concat();
        found.extend(sites(whole, &schema["items"], item, &path));
    }
    let Some(listed) = schema["properties"].as_object() else {
        return found;
    };
    let present = value.as_object().into_iter().flatten();
    for (key, value) in present.filter(|(key, _)| listed.contains_key(*key)) {
        if !path
            .first()
            .is_some_and(|first| TAKE_ANY_KEY.contains(&first.as_str()))
        {
            found.push(Site {
                object: path.to_vec(),
                key: key.clone(),
                listed,
            });
        }
        let path = [path, std::slice::from_ref(key)].concat();
        found.extend(sites(whole, &listed[key], value, &path));
    }
    found
}

fn at<'a>(document: &'a mut Value, path: &[String]) -> &'a mut Value {
    path.iter().fold(document, |value, key| match value {
        Value::Array(items) => &mut items[key.parse::<usize>().unwrap()],
        object => &mut object[key],
    })
}

/// The key with a letter changed, left out, doubled or added.
fn misspelt(dice: &mut Dice, key: &str) -> String {
    let mut letters: Vec<char> = key.chars().collect();
    let place = dice.below(letters.len());
    match dice.below(4) {
        0 => letters[place] = if letters[place] == 'x' { 'y' } else { 'x' },
        1 if letters.len() > 1 => drop(letters.remove(place)),
        2 => letters.insert(place, letters[place]),
        _ => letters.push('s'),
    }
    letters.into_iter().collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value of a type that the schema does not have.
fn of_another_type(dice: &mut Dice, schema: &Value) -> Value {
    let words = schema["enum"].as_array();
    let allowed = |value: &Value| match (&schema["type"], words) {
        (_, Some(words)) => words.contains(value),
        (Value::Array(kinds), _) => kinds.iter().any(|k| k == kind(value)),
        (one, _) => one == kind(value),
    };
    let all = [
        json!("text"),
        json!(7),
        json!(true),
        json!(["list"]),
        json!({"a": "map"}),
    ];
    loop {
        let value = &all[dice.below(all.len())];
        if !allowed(value) {
            return value.clone();
        }
    }
}

/// A value of the right type that the schema refuses, where it is as particular as that.
fn not_allowed(schema: &Value, value: &Value) -> Option<Value> {
    if schema.get("enum").is_some() {
        Some(json!(format!("{}x", value.as_str()?)))
    } else if schema.get("pattern").is_some() && value.is_string() {
        Some(json!(" * "))
    } else if schema.get("minimum").is_some() && value.is_number() {
        Some(json!(-1))
    } else {
        None
    }
}

/// One typo: a key that is written wrong or stands in the wrong place, or a value that is none for it.
fn typo(dice: &mut Dice, whole: &Value, document: &Value) -> Value {
    let sites = sites(whole, whole, document, &[]);
    let mut document = document.clone();
    loop {
        let site = &sites[dice.below(sites.len())];
        let schema = resolved(whole, &site.listed[&site.key]);
        let object = at(&mut document, &site.object);
        match dice.below(4) {
            0 => {
                let key = misspelt(dice, &site.key);
                if !site.listed.contains_key(&key) {
                    let value = object.as_object_mut().unwrap().remove(&site.key).unwrap();
                    object[&key] = value;
                    return document;
                }
            }
            1 => {
                let other = &sites[dice.below(sites.len())];
                if !other.listed.contains_key(&site.key) {
                    let value = object[&site.key].clone();
                    at(&mut document, &other.object)[&site.key] = value;
                    return document;
                }
            }
            2 => {
                object[&site.key] = of_another_type(dice, schema);
                return document;
            }
            _ => {
                if let Some(value) = not_allowed(schema, &object[&site.key]) {
                    object[&site.key] = value;
                    return document;
                }
            }
        }
    }
}

#[test]
fn a_thousand_typos_in_values_are_refused() {
    let schema = std::fs::read_to_string(values::folder().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut documents: Vec<Value> = documents().into_iter().map(|(_, d)| d).collect();
    // Half of the typos are in the defaults.
    documents.resize(2 * documents.len(), values::values());
    holds_for(TYPOS, |_, dice| {
        let document = &documents[dice.below(documents.len())];
        let typo = typo(dice, &schema, document);
        let Err(error) = rendered(&typo.to_string()) else {
            panic!("not refused: {typo}");
        };
        let by_schema = error.contains("values don't meet the specifications of the schema");
        assert!(by_schema, "{typo}: {error}");
    });
}
