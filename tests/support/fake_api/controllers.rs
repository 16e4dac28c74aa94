//! The parts of kube-controller-manager that a grant's native deadline rests on, in virtual time: Job deadlines, the TTL
//! of finished Jobs, garbage collection by owner, and the end of namespaces.

use super::{
    FakeApi,
    delete::{DeleteOptions, FOREGROUND, ORPHAN},
    kinds,
    reply::rfc3339,
    store::{Key, State, Stored, finalizers, remove_field, set_finalizers},
    write::Context,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

/// Runs until the runtime ends.
pub async fn run(api: FakeApi) {
    let mut changes = api.changes();
    loop {
        changes.borrow_and_update();
        let due = {
            let mut state = api.state();
            let before = state.version;
            let due = settle(&mut state, api.now());
            if state.version != before {
                api.announce(&state);
            }
            due
        };
        let wait = match due {
            Some(due) => Duration::try_from(due.duration_since(api.now())).unwrap_or_default(),
            None => Duration::from_secs(3_600),
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
        }
        // Many changes of one moment are answered once, as the real controllers' work queues do.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Acts until nothing is left to do; answers when the next deadline falls.
fn settle(state: &mut State, now: Timestamp) -> Option<Timestamp> {
    loop {
        let before = state.version;
        let due = jobs(state, now);
        collect(state, now);
        namespaces(state, now);
        if state.version == before {
            return due;
        }
    }
}

fn delete(state: &mut State, key: &Key, propagation: &str, now: Timestamp) {
    let Some(stored) = state.objects.get(key).cloned() else {
        return;
    };
    let options = DeleteOptions {
        propagation: Some(propagation.into()),
        ..DeleteOptions::default()
    };
    let context = Context {
        now,
        admission: None,
    };
    state.delete_stored(key, stored, &options, &context);
}

fn is_ending(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn has_finalizer(object: &Value, name: &str) -> bool {
    finalizers(object).iter().any(|f| f == name)
}

fn drop_finalizer(state: &mut State, key: &Key, name: &str) {
    let Some(mut stored) = state.objects.get(key).cloned() else {
        return;
    };
    let left: Vec<String> = finalizers(&stored.value)
        .into_iter()
        .filter(|f| f != name)
        .collect();
    if left.is_empty() {
        state.take(key);
        return;
    }
    set_finalizers(&mut stored.value, &left);
    state.put(key, stored);
}

// ---- Jobs ----

fn jobs(state: &mut State, now: Timestamp) -> Option<Timestamp> {
    let steps: Vec<(Key, Timestamp, Step)> = state
        .list("batch", "jobs", "")
        .filter(|(_, job)| !is_ending(&job.value))
        .filter_map(|(key, job)| {
            let (at, step) = next_step(&job.value)?;
            Some((key.clone(), at, step))
        })
        .collect();
    let (due, ahead): (Vec<_>, Vec<_>) = steps.into_iter().partition(|(_, at, _)| *at <= now);
    for (key, _, step) in due {
        if let Some(job) = state.objects.get(&key).cloned() {
            act(state, &key, job, step, now);
        }
    }
    ahead.into_iter().map(|(_, at, _)| at).min()
}

enum Step {
    Start,
    Fail,
    Delete,
}

/// What the Job controller or the TTL controller does next, and when.
fn next_step(job: &Value) -> Option<(Timestamp, Step)> {
    let (spec, status) = (&job["spec"], &job["status"]);
    let time = |v: &Value| v.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let finished = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| (c["type"] == "Failed" || c["type"] == "Complete") && c["status"] == "True");
    if let Some(finished) = finished {
        let ttl = SignedDuration::from_secs(spec["ttlSecondsAfterFinished"].as_i64()?);
        return Some((time(&finished["lastTransitionTime"])? + ttl, Step::Delete));
    }
    if spec["suspend"] == true {
        return None;
    }
    let Some(started) = time(&status["startTime"]) else {
        return Some((Timestamp::MIN, Step::Start));
    };
    let deadline = SignedDuration::from_secs(spec["activeDeadlineSeconds"].as_i64()?);
    Some((started + deadline, Step::Fail))
}

fn act(state: &mut State, key: &Key, mut job: Stored, step: Step, now: Timestamp) {
    let at = rfc3339(now);
    match step {
        Step::Start => {
            job.value["status"] = json!({"startTime": at, "terminating": 0, "uncountedTerminatedPods": {}, "ready": 0});
            state.put(key, job);
        }
        Step::Fail => {
            let condition = |kind: &str| {
                json!({"type": kind, "status": "True", "lastProbeTime": at, "lastTransitionTime": at,
                    "reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"})
            };
            job.value["status"]["conditions"] =
                json!([condition("FailureTarget"), condition("Failed")]);
            state.put(key, job);
        }
        Step::Delete => delete(state, key, "Foreground", now),
    }
}

// ---- garbage collection ----

/// How an owner reference stands.
#[derive(PartialEq)]
enum Owner {
    Solid,
    /// Is being deleted and waits for its dependents.
    Waiting,
    Absent,
    /// Cannot be looked up: a namespaced owner of a cluster-scoped object. Left alone.
    Unresolvable,
}

fn owner_references(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn owner(state: &State, key: &Key, reference: &Value) -> Owner {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let kind = kinds::of_object(text("apiVersion"), text("kind"));
    if kind.namespaced && key.namespace.is_empty() {
        return Owner::Unresolvable;
    }
    let namespace = if kind.namespaced {
        key.namespace.clone()
    } else {
        String::new()
    };
    let at = Key {
        group: kind.group,
        resource: kind.resource,
        namespace,
        name: text("name").into(),
    };
    match state.objects.get(&at).map(|s| &s.value) {
        Some(value) if value["metadata"]["uid"] == reference["uid"] => {
            if is_ending(value) && has_finalizer(value, FOREGROUND) {
                Owner::Waiting
            } else {
                Owner::Solid
            }
        }
        _ => Owner::Absent,
    }
}

fn collect(state: &mut State, now: Timestamp) {
    for key in to_look_at(state) {
        let Some(stored) = state.objects.get(&key) else {
            continue;
        };
        let uid = stored.value["metadata"]["uid"].clone();
        if !is_ending(&stored.value) {
            judge_dependent(state, &key, now);
        } else if has_finalizer(&stored.value, ORPHAN) {
            orphan_dependents(state, &uid);
            drop_finalizer(state, &key, ORPHAN);
        } else if has_finalizer(&stored.value, FOREGROUND) {
            delete_blocking(state, &key, &uid, now);
        }
    }
}

/// Objects that are ending, or whose owners do not all stand.
fn to_look_at(state: &State) -> Vec<Key> {
    let unsettled = |key: &Key, object: &Value| {
        let owners = owner_references(object).iter();
        is_ending(object) || owners.clone().any(|r| owner(state, key, r) != Owner::Solid)
    };
    let objects = state.objects.iter();
    objects
        .filter(|(key, stored)| unsettled(key, &stored.value))
        .map(|(key, _)| key.clone())
        .collect()
}

fn dependents(state: &State, uid: &Value) -> Vec<(Key, Stored, bool)> {
    let reference = |object: &Value| {
        owner_references(object)
            .iter()
            .find(|r| r["uid"] == *uid)
            .map(|r| r["blockOwnerDeletion"] == true)
    };
    let objects = state.objects.iter();
    objects
        .filter_map(|(key, stored)| {
            let blocks = reference(&stored.value)?;
            Some((key.clone(), stored.clone(), blocks))
        })
        .collect()
}

fn orphan_dependents(state: &mut State, uid: &Value) {
    for (key, stored, _) in dependents(state, uid) {
        keep_references(state, &key, stored, |reference| reference["uid"] != *uid);
    }
}

fn keep_references(
    state: &mut State,
    key: &Key,
    mut stored: Stored,
    keep: impl Fn(&Value) -> bool,
) {
    let left: Vec<Value> = owner_references(&stored.value)
        .iter()
        .filter(|r| keep(r))
        .cloned()
        .collect();
    if left.is_empty() {
        remove_field(&mut stored.value["metadata"], "ownerReferences");
    } else {
        stored.value["metadata"]["ownerReferences"] = left.into();
    }
    state.put(key, stored);
}

fn delete_blocking(state: &mut State, key: &Key, uid: &Value, now: Timestamp) {
    let blocking: Vec<(Key, Stored, bool)> = dependents(state, uid)
        .into_iter()
        .filter(|(_, _, blocks)| *blocks)
        .collect();
    if blocking.is_empty() {
        return drop_finalizer(state, key, FOREGROUND);
    }
    for (key, dependent, _) in blocking {
        if is_ending(&dependent.value) {
            continue;
        }
        let only_owner = owner_references(&dependent.value)
            .iter()
            .all(|r| r["uid"] == *uid || owner(state, &key, r) == Owner::Absent);
        if only_owner {
            delete(state, &key, "Background", now);
        } else {
            keep_references(state, &key, dependent, |r| r["uid"] != *uid);
        }
    }
}

/// An object goes when none of its owners is left; while one is left, references to the others are taken off.
fn judge_dependent(state: &mut State, key: &Key, now: Timestamp) {
    let Some(stored) = state.objects.get(key).cloned() else {
        return;
    };
    let standing: Vec<(Value, Owner)> = owner_references(&stored.value)
        .iter()
        .map(|r| (r["uid"].clone(), owner(state, key, r)))
        .collect();
    let any = |wanted: Owner| standing.iter().any(|(_, o)| *o == wanted);
    if any(Owner::Unresolvable) || any(Owner::Waiting) {
        return;
    }
    if !any(Owner::Solid) {
        return delete(state, key, "Background", now);
    }
    let solid = |uid: &Value| standing.iter().any(|(u, o)| u == uid && *o == Owner::Solid);
    keep_references(state, key, stored, |r| solid(&r["uid"]));
}

// ---- namespaces ----

fn namespaces(state: &mut State, now: Timestamp) {
    let ending: Vec<Key> = state
        .list("", "namespaces", "")
        .filter(|(_, namespace)| is_ending(&namespace.value))
        .map(|(key, _)| key.clone())
        .collect();
    for namespace in ending {
        let content: Vec<Key> = state
            .objects
            .keys()
            .filter(|k| k.namespace == namespace.name)
            .cloned()
            .collect();
        if content.is_empty() {
            state.take(&namespace);
        }
        for key in content {
            delete(state, &key, "Background", now);
        }
    }
}
