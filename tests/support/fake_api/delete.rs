//! DELETE of one object and of a collection: preconditions, propagation and finalizers.

use super::{
    reply::{Answer, Failure, rfc3339},
    request::{Incoming, Target},
    select::Selector,
    store::{Key, State, Stored, finalizers, set_finalizers},
    write::Context,
};
use serde_json::{Value, json};

/// Finalizer of a DELETE that leaves dependents alone.
pub const ORPHAN: &str = "orphan";
/// Finalizer of a DELETE that waits for dependents.
pub const FOREGROUND: &str = "foregroundDeletion";

/// Options of a DELETE.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// UID precondition.
    pub uid: Option<String>,
    /// resourceVersion precondition.
    pub version: Option<String>,
    /// `Background`, `Foreground` or `Orphan`.
    pub propagation: Option<String>,
}

impl DeleteOptions {
    fn of(request: &Incoming) -> Self {
        let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_string);
        let preconditions = &request.body["preconditions"];
        let in_query = request.param("propagationPolicy").map(str::to_string);
        Self {
            uid: text(&preconditions["uid"]),
            version: text(&preconditions["resourceVersion"]),
            propagation: text(&request.body["propagationPolicy"]).or(in_query),
        }
    }
}

impl State {
    /// DELETE of one object.
    pub fn delete(&mut self, target: &Target, request: &Incoming, context: &Context) -> Answer {
        let options = DeleteOptions::of(request);
        let old = self.objects.get(&target.key()).cloned();
        let old = old.ok_or_else(|| target.not_found())?;
        check_preconditions(target, &old.value, &options)?;
        context.admit("delete", target, &old.value)?;
        let (gone, object) = self.delete_stored(&target.key(), old, &options, context);
        if !gone || target.kind.returns_deleted() {
            return Ok((200, object));
        }
        let mut details = json!({"name": target.name(), "kind": target.kind.resource, "uid": object["metadata"]["uid"]});
        if !target.kind.group.is_empty() {
            details["group"] = target.kind.group.as_str().into();
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Ok((200, status))
    }

    /// Removes the object, or marks it when finalizers hold it. Answers whether it is gone, and its last state.
    pub fn delete_stored(
        &mut self,
        key: &Key,
        mut old: Stored,
        options: &DeleteOptions,
        context: &Context,
    ) -> (bool, Value) {
        let left = finalizers_after(&old, options);
        if old.kind.is_namespace() {
            return (false, self.terminate_namespace(key, old, context));
        }
        if left.is_empty() {
            let last = self.take(key).unwrap_or(old.value);
            return (true, last);
        }
        let metadata = &old.value["metadata"];
        let marked = !metadata["deletionTimestamp"].is_null();
        if marked && left == finalizers(&old.value) {
            return (false, old.value);
        }
        if !marked {
            let generation = metadata["generation"].as_i64();
            old.value["metadata"]["deletionTimestamp"] = rfc3339(context.now).into();
            old.value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            if let Some(generation) = generation {
                old.value["metadata"]["generation"] = (generation + 1).into();
            }
        }
        set_finalizers(&mut old.value, &left);
        (false, self.put(key, old))
    }

    fn terminate_namespace(&mut self, key: &Key, mut old: Stored, context: &Context) -> Value {
        if !old.value["metadata"]["deletionTimestamp"].is_null() {
            return old.value;
        }
        old.value["metadata"]["deletionTimestamp"] = rfc3339(context.now).into();
        old.value["status"]["phase"] = "Terminating".into();
        self.put(key, old)
    }

    /// DELETE of a collection.
    pub fn delete_collection(
        &mut self,
        target: &Target,
        request: &Incoming,
        context: &Context,
    ) -> Answer {
        let options = DeleteOptions::of(request);
        let selector = Selector::parse(
            request.param("labelSelector"),
            request.param("fieldSelector"),
        )?;
        let kind = &target.kind;
        let chosen: Vec<(Key, Stored)> = self
            .list(&kind.group, &kind.resource, &target.namespace)
            .filter(|(_, stored)| selector.matches(&stored.value))
            .map(|(key, stored)| (key.clone(), stored.clone()))
            .collect();
        let version = self.version.to_string();
        let mut items = Vec::new();
        for (key, stored) in chosen {
            context.admit("delete", target, &stored.value)?;
            items.push(self.delete_stored(&key, stored, &options, context).1);
        }
        let list = json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": version}, "items": items});
        Ok((200, list))
    }
}

fn check_preconditions(
    target: &Target,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Failure> {
    let refuse = |what: &str, asked: &str, found: &str, hint: &str| {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": the {what} in the precondition ({asked}) does not match the \
             {what} in record ({found}). The object might have been {hint}",
            target.kind.qualified(),
            target.name()
        );
        let failure = Failure::new(409, "Conflict", message);
        Err(failure.about(target.name(), &target.kind.group, &target.kind.kind))
    };
    let found = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    match (&options.uid, &options.version) {
        (Some(uid), _) if uid != found("uid") => {
            refuse("UID", uid, found("uid"), "deleted and then recreated")
        }
        (_, Some(version)) if version != found("resourceVersion") => refuse(
            "ResourceVersion",
            version,
            found("resourceVersion"),
            "modified",
        ),
        _ => Ok(()),
    }
}

/// Propagation is kept as a finalizer that the garbage collector takes off.
fn finalizers_after(old: &Stored, options: &DeleteOptions) -> Vec<String> {
    let known = finalizers(&old.value);
    let has = |name: &str| known.iter().any(|f| f == name);
    let (orphan, foreground) = match options.propagation.as_deref() {
        Some("Orphan") => (true, false),
        Some("Foreground") => (false, true),
        Some(_) => (false, false),
        None if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND)),
        None => (old.kind.orphans_by_default(), false),
    };
    let mut left: Vec<String> = known
        .into_iter()
        .filter(|f| f != ORPHAN && f != FOREGROUND)
        .collect();
    if orphan {
        left.push(ORPHAN.into());
    }
    if foreground {
        left.push(FOREGROUND.into());
    }
    left
}
