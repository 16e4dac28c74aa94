//! Lists and watches.

use super::{
    FakeApi,
    reply::{Answer, Body, Failure, http_date, metadata_only},
    request::{Incoming, Target},
    select::Selector,
    store::{Delivery, Event, State, remove_field},
};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// A server sends a bookmark about this often to a watch that asked for bookmarks …
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// … and once more this long before it ends the watch.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// Length of a watch that does not say how long.
const DEFAULT_TIMEOUT: u64 = 3_600;
/// Paging holds the list at the resourceVersion of its first page.
const EXPIRED_CONTINUE: &str =
    "The provided continue parameter is too old to display a consistent list result.";

fn selector(request: &Incoming) -> Result<Selector, Failure> {
    Selector::parse(
        request.param("labelSelector"),
        request.param("fieldSelector"),
    )
}

fn parse_version(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn bad_version(text: &str) -> String {
    format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")
}

/// GET of a collection.
pub fn list(state: &mut State, target: &Target, request: &Incoming) -> Answer {
    let selector = selector(request)?;
    if let Some(text) = request.param("resourceVersion")
        && parse_version(text).is_none()
    {
        let why = bad_version(text);
        return Err(Failure::bad_request(format!(
            "invalid resource version: resourceVersion: {why}"
        )));
    }
    let (version, mut items) = match request.param("continue") {
        Some(token) => next_page(state, token)?,
        None => (state.version, snapshot(state, target, &selector)),
    };
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let limit: usize = request
        .param("limit")
        .and_then(|l| l.parse().ok())
        .unwrap_or(0);
    if limit > 0 && items.len() > limit {
        let rest = items.split_off(limit);
        if selector.is_empty() {
            metadata["remainingItemCount"] = rest.len().into();
        }
        let token = format!("page-{version}-{}", state.pages.len());
        metadata["continue"] = token.as_str().into();
        state.pages.insert(token, (version, rest));
    }
    let kind = &target.kind;
    let list = if request.metadata_only {
        let items: Vec<Value> = items.iter().map(metadata_only).collect();
        json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
    } else {
        // Items of built-in kinds do not repeat what the list says.
        if !kind.custom {
            for item in &mut items {
                remove_field(item, "kind");
                remove_field(item, "apiVersion");
            }
        }
        json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata, "items": items})
    };
    Ok((200, list))
}

fn snapshot(state: &State, target: &Target, selector: &Selector) -> Vec<Value> {
    let kind = &target.kind;
    state
        .list(&kind.group, &kind.resource, &target.namespace)
        .map(|(_, stored)| &stored.value)
        .filter(|value| selector.matches(value))
        .cloned()
        .collect()
}

fn next_page(state: &State, token: &str) -> Result<(u64, Vec<Value>), Failure> {
    let page = state.pages.get(token).cloned();
    let page = page.ok_or_else(|| Failure::bad_request("invalid continue token"))?;
    if page.0 < state.compacted {
        return Err(Failure::expired(EXPIRED_CONTINUE));
    }
    Ok(page)
}

/// One open watch.
struct Watcher {
    api: FakeApi,
    target: Target,
    selector: Selector,
    metadata_only: bool,
    bookmarks: bool,
    /// Index in the history of the first event not looked at yet.
    position: usize,
    queue: VecDeque<Value>,
    late: Vec<(Instant, Value)>,
    deadline: Instant,
    next_bookmark: Instant,
    generation: u64,
    changes: tokio::sync::watch::Receiver<u64>,
    ended: bool,
}

/// GET of a collection with `watch=true`.
pub fn watch(
    api: &FakeApi,
    target: &Target,
    request: &Incoming,
) -> Result<Response<Body>, Failure> {
    let selector = selector(request)?;
    let initial = request.flag("sendInitialEvents");
    if initial && request.param("resourceVersionMatch") != Some("NotOlderThan") {
        let text =
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        let message =
            format!("ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: {text}");
        return Err(Failure::new(422, "Invalid", message)
            .about("", "meta.k8s.io", "ListOptions")
            .because("FieldValueForbidden", text, "resourceVersionMatch"));
    }
    let from = request.param("resourceVersion").unwrap_or("0");
    let from = parse_version(from)
        .ok_or_else(|| Failure::new(500, "", format!("resourceVersion: {}", bad_version(from))))?;
    let timeout = request
        .param("timeoutSeconds")
        .and_then(|t| t.parse().ok())
        .unwrap_or(DEFAULT_TIMEOUT);
    let deadline = Instant::now() + Duration::from_secs(timeout);
    let watcher = Watcher {
        api: api.clone(),
        target: target.clone(),
        selector,
        metadata_only: request.metadata_only,
        bookmarks: request.flag("allowWatchBookmarks"),
        position: 0,
        queue: VecDeque::new(),
        late: Vec::new(),
        deadline,
        next_bookmark: bookmark_after(Instant::now(), deadline),
        generation: api.watch_generation(),
        changes: api.changes(),
        ended: false,
    };
    Ok(stream(watcher.start(from, initial), http_date(api.now())))
}

fn bookmark_after(now: Instant, deadline: Instant) -> Instant {
    let last = deadline.checked_sub(LAST_BOOKMARK).unwrap_or(now);
    if last > now {
        last.min(now + BOOKMARK_PERIOD)
    } else {
        deadline + BOOKMARK_PERIOD
    }
}

fn stream(watcher: Watcher, date: String) -> Response<Body> {
    let frames = futures::stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        let line = Bytes::from(format!("{event}\n"));
        Some((Ok::<_, std::io::Error>(Frame::data(line)), watcher))
    });
    Response::builder()
        .header("content-type", "application/json")
        .header("date", date)
        .body(StreamBody::new(frames).boxed_unsync())
        .expect("these headers are valid")
}

impl Watcher {
    /// Takes up the position, with synthetic events where the request asks for the present state first.
    fn start(mut self, from: u64, initial: bool) -> Self {
        let api = self.api.clone();
        let state = api.state();
        if from > 0 && from < state.compacted {
            let message = format!("too old resource version: {from} ({})", state.compacted);
            let status = Failure::expired(message).status();
            self.queue
                .push_back(json!({"type": "ERROR", "object": status}));
            self.ended = true;
            return self;
        }
        if from == 0 || initial {
            for value in snapshot(&state, &self.target, &self.selector) {
                let event = self.event("ADDED", &value);
                self.queue.push_back(event);
            }
            self.position = state.history.len();
        } else {
            self.position = state.history.partition_point(|e| e.version <= from);
        }
        if initial && self.bookmarks {
            let mut bookmark = self.bookmark(state.version);
            bookmark["object"]["metadata"]["annotations"] =
                json!({"k8s.io/initial-events-end": "true"});
            self.queue.push_back(bookmark);
        }
        drop(state);
        self
    }

    /// The next event; `None` when the watch is over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.changes.borrow_and_update();
            self.collect();
            if !self.queue.is_empty() || self.ended {
                continue;
            }
            let late = self.late.iter().map(|(at, _)| *at).min();
            let wake = late
                .unwrap_or(self.deadline)
                .min(self.deadline)
                .min(self.next_bookmark);
            tokio::select! {
                changed = self.changes.changed() => self.ended = changed.is_err(),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Moves what is due into the queue.
    fn collect(&mut self) {
        let api = self.api.clone();
        let state = api.state();
        if api.watch_generation() != self.generation {
            self.ended = true;
            return;
        }
        let fresh: Vec<Event> = state.history[self.position..].to_vec();
        self.position = state.history.len();
        for event in &fresh {
            self.deliver(event);
        }
        let now = Instant::now();
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.late = late;
        let due: Vec<(Instant, Value)> = due;
        self.queue.extend(due.into_iter().map(|(_, event)| event));
        if self.bookmarks && now >= self.next_bookmark && now < self.deadline {
            let bookmark = self.bookmark(state.version);
            self.queue.push_back(bookmark);
        }
        if now >= self.next_bookmark {
            self.next_bookmark = bookmark_after(now, self.deadline);
        }
        self.ended = now >= self.deadline;
    }

    fn deliver(&mut self, event: &Event) {
        let Some(seen) = self.translate(event) else {
            return;
        };
        match event.delivery {
            Delivery::Once => self.queue.push_back(seen),
            Delivery::Never => {}
            Delivery::Twice => self.queue.extend([seen.clone(), seen]),
            Delivery::Late(by) => self.late.push((Instant::now() + by, seen)),
        }
    }

    /// What this watch sees of a change: an object that enters or leaves the selection is added or deleted.
    fn translate(&self, event: &Event) -> Option<Value> {
        let (kind, key) = (&self.target.kind, &event.key);
        let elsewhere = !self.target.namespace.is_empty() && key.namespace != self.target.namespace;
        if key.group != kind.group || key.resource != kind.resource || elsewhere {
            return None;
        }
        let selected =
            |value: &Option<Value>| value.as_ref().filter(|v| self.selector.matches(v)).cloned();
        match (selected(&event.old), selected(&event.new)) {
            (None, Some(new)) => Some(self.event("ADDED", &new)),
            (Some(_), Some(new)) => Some(self.event("MODIFIED", &new)),
            (Some(mut old), None) => {
                old["metadata"]["resourceVersion"] = event.version.to_string().into();
                Some(self.event("DELETED", &old))
            }
            (None, None) => None,
        }
    }

    fn event(&self, kind: &str, object: &Value) -> Value {
        let object = if self.metadata_only {
            metadata_only(object)
        } else {
            object.clone()
        };
        json!({"type": kind, "object": object})
    }

    fn bookmark(&self, version: u64) -> Value {
        let (kind, api_version) = if self.metadata_only {
            ("PartialObjectMetadata".into(), "meta.k8s.io/v1".into())
        } else {
            (
                self.target.kind.kind.clone(),
                self.target.kind.api_version(),
            )
        };
        json!({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": api_version,
            "metadata": {"resourceVersion": version.to_string()}}})
    }
}
