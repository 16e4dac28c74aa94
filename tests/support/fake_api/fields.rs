//! Which fields an object has, and who owns them: the field sets of server-side apply.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A field manager. The same name has separate sets for apply, for other writes, and for each subresource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// `fieldManager` of the request.
    pub name: String,
    /// Server-side apply, not another write.
    pub applies: bool,
    /// Through `/status`.
    pub status: bool,
}

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Field of an object.
    Field(String),
    /// Item of a list that is a map by this key field and value.
    Item(String, String),
    /// Member of a list that is a set.
    Member(String),
}

/// Path to a field.
pub type Path = Vec<Step>;
/// A set of fields: leaves, and items of keyed lists.
pub type Fields = BTreeSet<Path>;
/// Field sets of all managers.
pub type Owners = BTreeMap<Manager, Fields>;

/// How a list or object merges.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Granular,
    Atomic,
    MapBy(&'static str),
    Set,
}

/// The few places where the Kubernetes schema departs from "objects are granular, lists are atomic".
fn shape(path: &[Step], value: &Value) -> Shape {
    let name = |back: usize| match path.len().checked_sub(back).map(|i| &path[i]) {
        Some(Step::Field(name)) => name.as_str(),
        _ => "",
    };
    let (last, parent) = (name(1), name(2));
    match (value, last, parent) {
        (Value::Object(_), "roleRef" | "selector" | "labelSelector", _) => Shape::Atomic,
        (Value::Object(_), "namespaceSelector" | "objectSelector", _) => Shape::Atomic,
        (Value::Object(_), _, _) => Shape::Granular,
        (Value::Array(_), "conditions", "status") => Shape::MapBy("type"),
        (Value::Array(_), "ownerReferences", "metadata") => Shape::MapBy("uid"),
        (Value::Array(_), "finalizers", "metadata") => Shape::Set,
        (Value::Array(_), "webhooks" | "containers" | "initContainers" | "volumes", _) => {
            Shape::MapBy("name")
        }
        (Value::Array(_), "env" | "secrets" | "imagePullSecrets", _) => Shape::MapBy("name"),
        _ => Shape::Atomic,
    }
}

/// Metadata that belongs to the server or names the object, and therefore to no manager.
const UNOWNED: [&str; 10] = [
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// All fields of an object that a manager can own.
pub fn of(object: &Value) -> Fields {
    let mut found = Fields::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let path = vec![Step::Field(name.clone())];
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let own = value.as_object().into_iter().flatten();
                for (name, value) in own.filter(|(n, _)| !UNOWNED.contains(&n.as_str())) {
                    walk(value, then(&path, Step::Field(name.clone())), &mut found);
                }
            }
            _ => walk(value, path, &mut found),
        }
    }
    found
}

fn walk(value: &Value, path: Path, found: &mut Fields) {
    match (shape(&path, value), value) {
        (Shape::Granular, Value::Object(map)) if !map.is_empty() => {
            for (name, value) in map {
                walk(value, then(&path, Step::Field(name.clone())), found);
            }
        }
        (Shape::MapBy(key), Value::Array(items)) => {
            for item in items {
                let at = then(&path, item_step(key, item));
                found.insert(at.clone());
                for (name, value) in item.as_object().into_iter().flatten() {
                    walk(value, then(&at, Step::Field(name.clone())), found);
                }
            }
        }
        (Shape::Set, Value::Array(members)) => {
            for member in members {
                found.insert(then(&path, Step::Member(plain(member))));
            }
        }
        _ => {
            found.insert(path);
        }
    }
}

fn then(path: &[Step], step: Step) -> Path {
    let mut longer = path.to_vec();
    longer.push(step);
    longer
}

fn item_step(key: &str, item: &Value) -> Step {
    Step::Item(key.to_string(), plain(&item[key]))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value at a path.
pub fn get<'a>(object: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, step| match step {
        Step::Field(name) => at.get(name),
        Step::Item(key, wanted) => at.as_array()?.iter().find(|i| plain(&i[key]) == *wanted),
        Step::Member(wanted) => at.as_array()?.iter().find(|m| plain(m) == *wanted),
    })
}

/// Merges an applied configuration into the live object.
pub fn merge(live: &mut Value, config: &Value) {
    merge_at(live, config, &mut Vec::new());
}

fn merge_at(live: &mut Value, config: &Value, path: &mut Path) {
    match (shape(path, config), config) {
        (Shape::Granular, Value::Object(wanted)) => {
            if !live.is_object() {
                *live = Value::Object(Map::new());
            }
            for (name, value) in wanted {
                path.push(Step::Field(name.clone()));
                merge_at(&mut live[name.as_str()], value, path);
                path.pop();
            }
        }
        (Shape::MapBy(key), Value::Array(wanted)) => {
            let items = as_list(live);
            for item in wanted {
                let known = items.iter().position(|l| l[key] == item[key]);
                let index = known.unwrap_or_else(|| {
                    items.push(Value::Object(Map::new()));
                    items.len() - 1
                });
                path.push(item_step(key, item));
                merge_at(&mut items[index], item, path);
                path.pop();
            }
        }
        (Shape::Set, Value::Array(wanted)) => {
            let members = as_list(live);
            for member in wanted {
                if !members.contains(member) {
                    members.push(member.clone());
                }
            }
        }
        _ => *live = config.clone(),
    }
}

fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("made a list just above")
}

/// Removes a field and the containers that it leaves empty.
pub fn remove(object: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        return remove_step(object, step);
    }
    let child = match step {
        Step::Field(name) => object.get_mut(name),
        Step::Item(key, wanted) => object
            .as_array_mut()
            .and_then(|items| items.iter_mut().find(|i| plain(&i[key]) == *wanted)),
        Step::Member(_) => None,
    };
    let Some(child) = child else { return };
    remove(child, rest);
    let emptied =
        child.as_object().is_some_and(Map::is_empty) || child.as_array().is_some_and(Vec::is_empty);
    if emptied {
        remove_step(object, step);
    }
}

fn remove_step(object: &mut Value, step: &Step) {
    match (step, object) {
        (Step::Field(name), Value::Object(map)) => {
            map.remove(name);
        }
        (Step::Item(key, wanted), Value::Array(items)) => {
            items.retain(|i| plain(&i[key]) != *wanted);
        }
        (Step::Member(wanted), Value::Array(members)) => {
            members.retain(|m| plain(m) != *wanted);
        }
        _ => {}
    }
}

/// Ownership after a write that is not an apply: the writer takes what it changed, and nobody owns what is gone.
pub fn after_update(owners: &Owners, old: &Value, new: &Value, writer: &Manager) -> Owners {
    let (before, after) = (of(old), of(new));
    let differs = |path: &&Path| get(old, path) != get(new, path) && is_leaf(new, path);
    let changed: Fields = after
        .iter()
        .filter(|path| !before.contains(*path) || differs(path))
        .cloned()
        .collect();
    let mut owners = owners.clone();
    for (manager, fields) in &mut owners {
        let others = manager != writer;
        fields.retain(|p| after.contains(p) && !(others && changed.contains(p)));
    }
    if !changed.is_empty() {
        owners.entry(writer.clone()).or_default().extend(changed);
    }
    owners.retain(|_, fields| !fields.is_empty());
    owners
}

/// An item of a keyed list counts as changed only through its fields.
fn is_leaf(object: &Value, path: &[Step]) -> bool {
    !(matches!(path.last(), Some(Step::Item(..)))
        && get(object, path).is_some_and(Value::is_object))
}

/// `.metadata.labels.app`, `.status.conditions[type="Ready"].status`.
pub fn render(path: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::Item(key, value) => format!("[{key}={value:?}]"),
        Step::Member(value) => format!("[={value:?}]"),
    };
    path.iter().map(step).collect()
}
