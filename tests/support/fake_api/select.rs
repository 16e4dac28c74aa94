//! Label and field selectors.

use super::reply::Failure;
use serde_json::Value;

/// A parsed pair of selectors.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Label>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
enum Label {
    Has(String),
    HasNot(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

#[derive(Clone, Debug)]
struct Field {
    path: &'static str,
    value: String,
    equal: bool,
}

impl Selector {
    /// Parses the two query parameters.
    pub fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Self, Failure> {
        let labels = requirements(labels.unwrap_or_default())
            .iter()
            .map(|r| label(r))
            .collect::<Result<_, _>>()?;
        let fields = requirements(fields.unwrap_or_default())
            .iter()
            .map(|r| field(r))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The object has all that is asked for.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|r| r.matches(labels))
            && self.fields.iter().all(|f| {
                let found = object.pointer(f.path).and_then(Value::as_str).unwrap_or("");
                (found == f.value) == f.equal
            })
    }
}

impl Label {
    fn matches(&self, labels: &Value) -> bool {
        let value = |key: &String| labels.get(key).and_then(Value::as_str);
        match self {
            Self::Has(key) => value(key).is_some(),
            Self::HasNot(key) => value(key).is_none(),
            Self::In(key, allowed) => value(key).is_some_and(|v| allowed.iter().any(|a| a == v)),
            // An absent label is not in the list either.
            Self::NotIn(key, refused) => {
                !value(key).is_some_and(|v| refused.iter().any(|a| a == v))
            }
        }
    }
}

/// Splits at the commas outside parentheses.
fn requirements(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
        .into_iter()
        .map(|p| p.trim().to_string())
        .filter(|p| !p.is_empty())
        .collect()
}

fn label(text: &str) -> Result<Label, Failure> {
    let set = |list: &str| -> Vec<String> {
        let inner = list.trim().trim_start_matches('(').trim_end_matches(')');
        inner.split(',').map(|v| v.trim().to_string()).collect()
    };
    let key = |k: &str| k.trim().to_string();
    let requirement = if let Some((k, list)) = text.split_once(" notin ") {
        Label::NotIn(key(k), set(list))
    } else if let Some((k, list)) = text.split_once(" in ") {
        Label::In(key(k), set(list))
    } else if let Some((k, v)) = text.split_once("!=") {
        Label::NotIn(key(k), vec![key(v)])
    } else if let Some((k, v)) = text.split_once("==").or_else(|| text.split_once('=')) {
        Label::In(key(k), vec![key(v)])
    } else if let Some(k) = text.strip_prefix('!') {
        Label::HasNot(key(k))
    } else {
        Label::Has(key(text))
    };
    let (Label::Has(k) | Label::HasNot(k) | Label::In(k, _) | Label::NotIn(k, _)) = &requirement;
    let values: &[String] = match &requirement {
        Label::In(_, values) | Label::NotIn(_, values) => values,
        _ => &[],
    };
    let plain = |s: &str| {
        s.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
    };
    if k.is_empty() || !plain(k) || !values.iter().all(|v| plain(v)) {
        return Err(Failure::bad_request(format!(
            "unable to parse requirement: {text:?}"
        )));
    }
    Ok(requirement)
}

fn field(text: &str) -> Result<Field, Failure> {
    let (name, value, equal) = if let Some((name, value)) = text.split_once("!=") {
        (name, value, false)
    } else if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (name, value, true)
    } else {
        return Err(Failure::bad_request(format!(
            "invalid field selector {text:?}"
        )));
    };
    let path = match name {
        "metadata.name" => "/metadata/name",
        "metadata.namespace" => "/metadata/namespace",
        other => {
            return Err(Failure::bad_request(format!(
                "{other:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )));
        }
    };
    Ok(Field {
        path,
        value: value.to_string(),
        equal,
    })
}
