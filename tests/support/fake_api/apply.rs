//! Server-side apply.

use super::{
    fields::{self, Fields, Manager, Owners, Path, Step},
    reply::{Answer, Failure},
    request::Incoming,
    request::Target,
    store::{State, remove_field},
    write::{Change, Context},
};
use serde_json::{Value, json};

impl State {
    /// PATCH with `application/apply-patch+yaml`; the body is the JSON that clients send.
    pub fn apply(&mut self, target: &Target, request: &Incoming, context: &Context) -> Answer {
        let mut config = checked(target, request)?;
        let manager = Manager {
            name: request.manager(),
            applies: true,
            status: target.is_status(),
        };
        strip_other_half(target, &mut config);
        let Some(old) = self.objects.get(&target.key()).cloned() else {
            return self.apply_absent(target, config, manager, context);
        };
        let wanted = fields::of(&config);
        let mut value = old.value.clone();
        fields::merge(&mut value, &config);
        let conflicts = conflicts(&old.owners, &manager, &wanted, &old.value, &value);
        if !conflicts.is_empty() && !request.flag("force") {
            return Err(refuse(target, &conflicts));
        }
        let mut owners = old.owners.clone();
        for (other, path) in conflicts {
            if let Some(fields) = owners.get_mut(&other) {
                fields.remove(&path);
            }
        }
        let before = owners.insert(manager, wanted.clone()).unwrap_or_default();
        owners.retain(|_, fields| !fields.is_empty());
        drop_unowned(&mut value, &before, &wanted, &owners);
        self.update(target, old, value, Change::Applied(owners), context)
    }

    fn apply_absent(
        &mut self,
        target: &Target,
        config: Value,
        manager: Manager,
        context: &Context,
    ) -> Answer {
        if target.is_status() {
            return Err(target.not_found());
        }
        if let Some(uid) = config["metadata"]["uid"].as_str() {
            return Err(target.conflict(&format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            )));
        }
        let owners = Owners::from([(manager, fields::of(&config))]);
        self.insert(target, config, Change::Applied(owners), context)
    }
}

fn checked(target: &Target, request: &Incoming) -> Result<Value, Failure> {
    if request.param("fieldManager").is_none() {
        let text = "Required value: is required for apply patch";
        let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: {text}");
        return Err(Failure::new(422, "Invalid", message)
            .about("", "meta.k8s.io", "PatchOptions")
            .because("FieldValueRequired", text, "fieldManager"));
    }
    let mut config = request.body.clone();
    if config["apiVersion"].is_null() || config["kind"].is_null() {
        return Err(Failure::bad_request(
            "invalid object type: apiVersion and kind must be set",
        ));
    }
    if !config["metadata"]["managedFields"].is_null() {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    if config["metadata"]["name"].is_null() {
        config["metadata"]["name"] = target.name().into();
    }
    Ok(config)
}

/// A write to `/status` carries nothing but status, any other write carries none.
fn strip_other_half(target: &Target, config: &mut Value) {
    if target.is_status() {
        let metadata = json!({"name": config["metadata"]["name"], "resourceVersion": config["metadata"]["resourceVersion"],
            "uid": config["metadata"]["uid"]});
        let mut half = json!({"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": metadata});
        if !config["status"].is_null() {
            half["status"] = config["status"].take();
        }
        *config = half;
    } else if target.kind.status {
        remove_field(config, "status");
    }
    super::write::drop_nulls(config);
}

/// Fields that another manager owns and that merging the configuration has changed.
fn conflicts(
    owners: &Owners,
    manager: &Manager,
    wanted: &Fields,
    live: &Value,
    merged: &Value,
) -> Vec<(Manager, Path)> {
    let changes = |path: &&Path| {
        !matches!(path.last(), Some(Step::Item(..)))
            && fields::get(live, path) != fields::get(merged, path)
    };
    let contested = |(other, owned): (&Manager, &Fields)| -> Vec<(Manager, Path)> {
        let both = wanted.intersection(owned).filter(changes);
        both.map(|path| (other.clone(), path.clone())).collect()
    };
    let others = owners.iter().filter(|(other, _)| *other != manager);
    others.flat_map(contested).collect()
}

fn refuse(target: &Target, conflicts: &[(Manager, Path)]) -> Failure {
    let version = target.kind.api_version();
    let with = |manager: &Manager| {
        let subresource = if manager.status {
            " with subresource \"status\""
        } else {
            ""
        };
        let using = if manager.applies {
            String::new()
        } else {
            format!(" using {version}")
        };
        format!("conflict with {:?}{subresource}{using}", manager.name)
    };
    let plural = if conflicts.len() == 1 { "" } else { "s" };
    let listed: Vec<String> = conflicts
        .iter()
        .map(|(manager, path)| format!("{}: {}", with(manager), fields::render(path)))
        .collect();
    let message = format!(
        "Apply failed with {} conflict{plural}: {}",
        conflicts.len(),
        listed.join("\n")
    );
    let failure = Failure::new(409, "Conflict", message);
    conflicts.iter().fold(failure, |failure, (manager, path)| {
        failure.because(
            "FieldManagerConflict",
            &with(manager),
            &fields::render(path),
        )
    })
}

/// What the manager applied before and no longer does goes away, unless somebody else owns it or something inside it.
fn drop_unowned(value: &mut Value, before: &Fields, wanted: &Fields, owners: &Owners) {
    let held = |path: &Path| {
        wanted.iter().any(|w| w.starts_with(path))
            || owners
                .values()
                .any(|owned| owned.iter().any(|o| o.starts_with(path)))
    };
    // In order, so that an item of a list goes as a whole, before the key that it is found by.
    for path in before.iter().filter(|path| !held(path)) {
        fields::remove(value, path);
    }
}
