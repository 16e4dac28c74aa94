//! Creation and change of objects, with the checks and server-set fields of the API server.

use super::{
    checks::{check_identity, check_immutable, is_unset},
    defaults,
    fields::{self, Manager, Owners},
    reply::{Answer, Failure, rfc3339},
    request::{Incoming, Target},
    store::{Key, State, Stored, finalizers, remove_field},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Answers for admission: `create`, `update` or `delete`, and the object.
pub type Admission = dyn Fn(&str, &Value) -> Result<(), (u16, String)> + Send + Sync;

/// What a write needs beside the request.
pub struct Context<'a> {
    /// Virtual time.
    pub now: Timestamp,
    /// Admission hook.
    pub admission: Option<&'a Admission>,
}

/// Where the ownership of fields comes from.
pub enum Change {
    /// An ordinary write by this manager.
    Written(Manager),
    /// An ordinary write of the whole object, which pins the identity in its own way.
    Replaced(Manager),
    /// Server-side apply has worked it out.
    Applied(Owners),
}

impl Context<'_> {
    /// Asks the admission hook.
    pub fn admit(&self, verb: &str, target: &Target, object: &Value) -> Result<(), Failure> {
        let Some(admission) = self.admission else {
            return Ok(());
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        admission(verb, object).map_err(|(code, message)| {
            let message = match code {
                403 => format!(
                    "{} {name:?} is forbidden: {message}",
                    target.kind.qualified_resource()
                ),
                _ => message,
            };
            Failure::of_code(code, message).about(name, &target.kind.group, &target.kind.resource)
        })
    }
}

impl Target {
    /// Where the named object is kept.
    pub fn key(&self) -> Key {
        Key {
            group: self.kind.group.clone(),
            resource: self.kind.resource.clone(),
            namespace: self.namespace.clone(),
            name: self.name().to_string(),
        }
    }
}

impl State {
    /// POST to a collection.
    pub fn create(&mut self, target: &Target, request: &Incoming, context: &Context) -> Answer {
        let body = request.body.clone();
        if !is_unset(&body["metadata"]["resourceVersion"]) {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Failure::new(500, "", message));
        }
        let writer = writer(target, request);
        self.insert(target, body, Change::Written(writer), context)
    }

    /// PUT.
    pub fn replace(&mut self, target: &Target, request: &Incoming, context: &Context) -> Answer {
        let body = request.body.clone();
        let writer = writer(target, request);
        let named = body["metadata"]["name"].as_str().unwrap_or_default();
        if named != target.name() {
            let message = format!(
                "the name of the object ({named}) does not match the name on the URL ({})",
                target.name()
            );
            return Err(Failure::bad_request(message));
        }
        match self.objects.get(&target.key()).cloned() {
            Some(old) => self.update(target, old, body, Change::Replaced(writer), context),
            None if target.kind.creates_on_update() && target.subresource.is_none() => {
                self.insert(target, body, Change::Written(writer), context)
            }
            None => Err(target.not_found()),
        }
    }

    /// PATCH of any type.
    pub fn patch(&mut self, target: &Target, request: &Incoming, context: &Context) -> Answer {
        if request.content_type == "application/apply-patch+yaml" {
            return self.apply(target, request, context);
        }
        let old = self.objects.get(&target.key()).cloned();
        let old = old.ok_or_else(|| target.not_found())?;
        let mut value = old.value.clone();
        match request.content_type.as_str() {
            "application/merge-patch+json" => json_patch::merge(&mut value, &request.body),
            "application/json-patch+json" => {
                let patch: json_patch::Patch = serde_json::from_value(request.body.clone())
                    .map_err(|e| Failure::bad_request(e.to_string()))?;
                let refused = "the server rejected our request due to an error in our request";
                json_patch::patch(&mut value, &patch)
                    .map_err(|_| Failure::new(422, "Invalid", refused))?;
            }
            _ => {
                let message = "415: Unsupported Media Type";
                return Err(Failure::new(415, "UnsupportedMediaType", message));
            }
        }
        let writer = writer(target, request);
        self.update(target, old, value, Change::Written(writer), context)
    }

    /// Creates an object; the body may name it, or the URL, or `generateName`.
    pub fn insert(
        &mut self,
        target: &Target,
        mut value: Value,
        change: Change,
        context: &Context,
    ) -> Answer {
        self.check_namespace(target)?;
        let name = self.name_new(target, &mut value)?;
        self.identify_new(target, &name, &mut value, context.now);
        if target.kind.status {
            remove_field(&mut value, "status");
        }
        drop_nulls(&mut value);
        defaults::on_create(&target.kind, &mut value);
        context.admit("create", target, &value)?;
        let key = Key {
            name: name.clone(),
            ..target.key()
        };
        if self.objects.contains_key(&key) {
            return Err(target.already_exists(&name));
        }
        let owners = match change {
            Change::Applied(owners) => owners,
            Change::Written(writer) | Change::Replaced(writer) => {
                fields::after_update(&Owners::new(), &json!({}), &value, &writer)
            }
        };
        let kind = target.kind.clone();
        let stored = Stored {
            kind,
            value,
            owners,
        };
        Ok((201, self.put(&key, stored)))
    }

    fn check_namespace(&self, target: &Target) -> Result<(), Failure> {
        if target.namespace.is_empty() {
            return Ok(());
        }
        let (core, name) = (String::new(), target.namespace.clone());
        let key = Key {
            group: core,
            resource: "namespaces".into(),
            namespace: String::new(),
            name,
        };
        let Some(namespace) = self.objects.get(&key) else {
            let message = format!("namespaces {:?} not found", target.namespace);
            let failure = Failure::new(404, "NotFound", message);
            return Err(failure.about(&target.namespace, "", "namespaces"));
        };
        if namespace.value["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let message = format!(
            "{} {:?} is forbidden: unable to create new content in namespace {} because it is being terminated",
            target.kind.qualified_resource(),
            target.name(),
            target.namespace
        );
        let because = format!("namespace {} is being terminated", target.namespace);
        Err(Failure::new(403, "Forbidden", message)
            .about(target.name(), &target.kind.group, &target.kind.resource)
            .because("NamespaceTerminating", &because, "metadata.namespace"))
    }

    fn name_new(&mut self, target: &Target, value: &mut Value) -> Result<String, Failure> {
        let metadata = &value["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_string();
        let namespace = text("namespace");
        if !namespace.is_empty() && namespace != target.namespace {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let (mut name, prefix) = (text("name"), text("generateName"));
        if name.is_empty() && !prefix.is_empty() {
            name = format!("{prefix}{}", self.new_suffix());
        }
        if name.is_empty() {
            let text = "Required value: name or generateName is required";
            return Err(target.invalid("", "metadata.name", "FieldValueRequired", text));
        }
        // RBAC objects may have any name that fits into a path.
        let free = target.kind.group == "rbac.authorization.k8s.io";
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let subdomain = name.chars().all(plain) && !name.starts_with('-') && !name.ends_with('-');
        if !free && !subdomain {
            let text = format!(
                "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case \
                alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
            );
            return Err(target.invalid(&name, "metadata.name", "FieldValueInvalid", &text));
        }
        Ok(name)
    }

    fn identify_new(&mut self, target: &Target, name: &str, value: &mut Value, now: Timestamp) {
        value["apiVersion"] = target.kind.api_version().into();
        if !target.kind.kind.is_empty() {
            value["kind"] = target.kind.kind.as_str().into();
        }
        let metadata = &mut value["metadata"];
        let server_set = [
            "managedFields",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
        ];
        for field in server_set {
            remove_field(metadata, field);
        }
        metadata["name"] = name.into();
        if !target.namespace.is_empty() {
            metadata["namespace"] = target.namespace.as_str().into();
        }
        metadata["uid"] = self.new_uid().into();
        metadata["creationTimestamp"] = rfc3339(now).into();
        if target.kind.generation {
            metadata["generation"] = 1.into();
        }
    }

    /// Changes an object that exists.
    pub fn update(
        &mut self,
        target: &Target,
        old: Stored,
        mut value: Value,
        change: Change,
        context: &Context,
    ) -> Answer {
        let whole = matches!(change, Change::Replaced(_));
        check_identity(target, &old.value, &value, whole)?;
        keep_other_half(target, &old.value, &mut value);
        keep_server_fields(&old.value, &mut value);
        drop_nulls(&mut value);
        defaults::on_update(&target.kind, &mut value);
        check_immutable(target, &old.value, &value)?;
        if target.kind.generation && !target.is_status() {
            count_generation(target, &old.value, &mut value);
        }
        let owners = match change {
            Change::Applied(owners) => owners,
            Change::Written(writer) | Change::Replaced(writer) => {
                fields::after_update(&old.owners, &old.value, &value, &writer)
            }
        };
        context.admit("update", target, &value)?;
        // A write that changes nothing keeps the resourceVersion and is no event.
        if value == old.value && owners == old.owners {
            return Ok((200, old.value));
        }
        let key = target.key();
        let over =
            !value["metadata"]["deletionTimestamp"].is_null() && finalizers(&value).is_empty();
        if over && !target.kind.is_namespace() {
            self.take(&key);
            return Ok((200, value));
        }
        let kind = old.kind;
        let stored = Stored {
            kind,
            value,
            owners,
        };
        Ok((200, self.put(&key, stored)))
    }
}

fn writer(target: &Target, request: &Incoming) -> Manager {
    Manager {
        name: request.manager(),
        applies: false,
        status: target.is_status(),
    }
}

/// `/status` writes change status and nothing else (on built-in kinds also labels and annotations); other writes never do.
fn keep_other_half(target: &Target, old: &Value, new: &mut Value) {
    if target.is_status() {
        let mut half = old.clone();
        half["status"] = new["status"].take();
        if !target.kind.custom {
            half["metadata"] = new["metadata"].take();
        }
        *new = half;
    } else if target.kind.status {
        new["status"] = old["status"].clone();
    }
}

fn keep_server_fields(old: &Value, new: &mut Value) {
    for field in ["apiVersion", "kind"] {
        new[field] = old[field].clone();
    }
    let server_set = [
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ];
    for field in server_set {
        new["metadata"][field] = old["metadata"][field].clone();
    }
    remove_field(&mut new["metadata"], "managedFields");
}

/// The generation counts changes of what users ask for: everything but metadata and a status that has its own subresource.
fn count_generation(target: &Target, old: &Value, new: &mut Value) {
    let asked = |object: &Value| {
        let mut asked = object.clone();
        remove_field(&mut asked, "metadata");
        if target.kind.status {
            remove_field(&mut asked, "status");
        }
        asked
    };
    if asked(old) != asked(new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = (generation + 1).into();
    }
}

/// The API server keeps no null.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
