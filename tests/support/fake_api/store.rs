//! The stored objects, the one resourceVersion counter and the history that watches read.

use super::{
    fields::Owners,
    kinds::{self, Kind},
    reply,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::time::Instant;

/// Where an object is kept. Versions of one group share the storage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// API group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// An object with what the server knows beside it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its resource.
    pub kind: Kind,
    /// The object, without `managedFields`.
    pub value: Value,
    /// Who owns which field.
    pub owners: Owners,
}

/// How an event reaches the watches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delivery {
    /// As it should.
    Once,
    /// Lost on the way.
    Never,
    /// Sent two times.
    Twice,
    /// Sent this long after it happened, behind later events.
    Late(Duration),
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Event {
    /// resourceVersion of the change.
    pub version: u64,
    /// When it happened.
    pub at: Instant,
    /// The object.
    pub key: Key,
    /// State before; absent for a creation.
    pub old: Option<Value>,
    /// State after; absent for a deletion.
    pub new: Option<Value>,
    /// Injected fault.
    pub delivery: Delivery,
}

/// The whole content of the server. A dry run works on a copy.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Newest resourceVersion.
    pub version: u64,
    /// Objects by place.
    pub objects: BTreeMap<Key, Stored>,
    /// Every change so far.
    pub history: Vec<Event>,
    /// Watches and continue tokens from before this resourceVersion get 410.
    pub compacted: u64,
    /// Rest of each paged list, by token, with the resourceVersion of its first page.
    pub pages: HashMap<String, (u64, Vec<Value>)>,
    /// Injected deliveries, by index in `history`.
    pub deliveries: BTreeMap<usize, Delivery>,
    made: u64,
}

impl State {
    /// A fresh UID: deterministic, and different in its first eight characters.
    pub fn new_uid(&mut self) -> String {
        self.made += 1;
        let head = (self.made as u32).wrapping_mul(0x9e37_79b1);
        format!("{head:08x}-0000-4000-8000-{:012x}", self.made)
    }

    /// A suffix for `generateName`.
    pub fn new_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.made += 1;
        let mut rest = self.made.wrapping_mul(7_919);
        let mut letter = || {
            let c = ALPHABET[(rest % ALPHABET.len() as u64) as usize];
            rest /= ALPHABET.len() as u64;
            c as char
        };
        (0..5).map(|_| letter()).collect()
    }

    /// Keeps an object under a new resourceVersion and tells the watches.
    pub fn put(&mut self, key: &Key, mut stored: Stored) -> Value {
        self.version += 1;
        stored.value["metadata"]["resourceVersion"] = self.version.to_string().into();
        let value = stored.value.clone();
        let old = self.objects.insert(key.clone(), stored).map(|s| s.value);
        self.record(key, old, Some(value.clone()));
        value
    }

    /// Removes an object and tells the watches; answers its last state.
    pub fn take(&mut self, key: &Key) -> Option<Value> {
        let mut old = self.objects.remove(key)?.value;
        self.version += 1;
        let last = old.clone();
        old["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.record(key, Some(old), None);
        Some(last)
    }

    fn record(&mut self, key: &Key, old: Option<Value>, new: Option<Value>) {
        let delivery = self.deliveries.remove(&self.history.len());
        self.history.push(Event {
            version: self.version,
            at: Instant::now(),
            key: key.clone(),
            old,
            new,
            delivery: delivery.unwrap_or(Delivery::Once),
        });
    }

    /// The objects of a resource, in one namespace or in all (empty).
    pub fn list<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Stored)> {
        let first = Key {
            group: group.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(k, _)| {
            k.group == group
                && k.resource == resource
                && (namespace.is_empty() || k.namespace == namespace)
        })
    }

    /// Puts an object past every check, with the identity that it carries or a new one.
    pub fn seed(&mut self, mut value: Value, now: Timestamp) -> Value {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let kind = kinds::of_object(&text(&value["apiVersion"]), &text(&value["kind"]));
        let metadata = &value["metadata"];
        let key = Key {
            group: kind.group.clone(),
            resource: kind.resource.clone(),
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
        };
        let old = self.objects.get(&key).cloned();
        let known = |field: &str| {
            old.as_ref()
                .map(|o| o.value["metadata"][field].clone())
                .filter(|v| !v.is_null())
        };
        if value["metadata"]["uid"].is_null() {
            let uid = known("uid").unwrap_or_else(|| self.new_uid().into());
            value["metadata"]["uid"] = uid;
        }
        if value["metadata"]["creationTimestamp"].is_null() {
            let created = known("creationTimestamp").unwrap_or_else(|| reply::rfc3339(now).into());
            value["metadata"]["creationTimestamp"] = created;
        }
        if kind.generation && value["metadata"]["generation"].is_null() {
            value["metadata"]["generation"] = known("generation").unwrap_or(1.into());
        }
        let owners = old.map(|o| o.owners).unwrap_or_default();
        self.put(
            &key,
            Stored {
                kind,
                value,
                owners,
            },
        )
    }
}

/// Finalizers of an object.
pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array();
    list.map(|l| {
        l.iter()
            .filter_map(|f| f.as_str().map(str::to_string))
            .collect()
    })
    .unwrap_or_default()
}

/// Sets the finalizers, leaving no empty list behind.
pub fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    if finalizers.is_empty() {
        remove_field(&mut object["metadata"], "finalizers");
    } else {
        object["metadata"]["finalizers"] = finalizers.into();
    }
}

/// Removes one field of a JSON object; does nothing to other values.
pub fn remove_field(object: &mut Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(field);
    }
}
