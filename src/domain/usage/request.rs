//! What of an audit event counts: whose request it was, what the authorizer was asked, and what it said.

use crate::domain::rules::Request;
use crate::domain::usage::event::{Event, ObjectRef};
use std::borrow::Cow;

const ACCOUNT: &str = "system:serviceaccount:";

/// What the authorizer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request was allowed, whatever was answered then.
    Allowed,
    /// It was not.
    Refused,
}

/// One request of a ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Namespace of the account.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Namespace of the request; empty for one of the whole cluster.
    pub place: &'a str,
    /// What was asked of the authorizer.
    pub asked: Asked<'a>,
    /// A second verb on the same object that the API server asks for without a line of its own; empty for none.
    pub also: &'static str,
    /// What it said.
    pub decision: Decision,
    /// Why, in its words.
    pub reason: &'a str,
    /// Whether the request is over; one that goes on is a use that is counted when it ends.
    pub over: bool,
    /// When it arrived, RFC 3339.
    pub at: &'a str,
}

/// What was asked of the authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A verb on a resource.
    Resource {
        /// The verb.
        verb: &'a str,
        /// API group; empty for core.
        group: &'a str,
        /// Plural.
        resource: &'a str,
        /// Subresource, or empty.
        subresource: &'a str,
        /// Name of the object, or empty where the authorizer saw none.
        name: &'a str,
    },
    /// A verb on a path.
    Path {
        /// HTTP method in lower case.
        verb: &'a str,
        /// The path.
        path: Cow<'a, str>,
    },
}

impl Asked<'_> {
    /// The same in the terms of the authorizer's model.
    pub fn request(&self) -> Request<'_> {
        match self {
            Self::Resource {
                verb,
                group,
                resource,
                subresource,
                name,
            } => Request::Resource {
                verb,
                group,
                resource,
                subresource,
                name,
            },
            Self::Path { verb, path } => Request::Path { verb, path },
        }
    }
}

/// What an event comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted<'a> {
    /// A request of a ServiceAccount.
    Request(Seen<'a>),
    /// One that was sent by this account as somebody who is no account.
    Impersonation,
    /// One of an account whose words nobody could grant: control characters, or not in the form of Kubernetes.
    Unreadable,
    /// One of an account that ended before the authorizer was asked.
    Undecided,
    /// Nothing: another stage of a request, or of another user.
    Nothing,
}

/// Reads one event.
pub fn read<'a>(event: &'a Event<'_>) -> Counted<'a> {
    let over = matches!(event.stage.as_ref(), "ResponseComplete" | "Panic");
    // A watch that goes on is used all the same; `RequestReceived` comes before the authorizer.
    if !over && event.stage != "ResponseStarted" {
        return Counted::Nothing;
    }
    let user = event.impersonated_user.as_ref().unwrap_or(&event.user);
    let Some((namespace, name)) = account(&user.username) else {
        return match account(&event.user.username) {
            Some(_) => Counted::Impersonation,
            None => Counted::Nothing,
        };
    };
    let annotations = event.annotations.as_ref();
    let decision = match annotations.map(|said| said.decision.as_ref()) {
        Some("allow") => Decision::Allowed,
        Some("forbid") => Decision::Refused,
        _ => return Counted::Undecided,
    };
    let (place, asked) = match &event.object_ref {
        Some(object) => (object.namespace.as_ref(), on_object(event, object)),
        None => ("", on_path(event)),
    };
    if !is_label(namespace)
        || !is_name(name)
        || !(place.is_empty() || is_label(place))
        || !grantable(&asked)
    {
        return Counted::Unreadable;
    }
    Counted::Request(Seen {
        namespace,
        name,
        place,
        also: also(event, &asked),
        asked,
        decision,
        reason: annotations.map_or("", |said| said.reason.as_ref()),
        over,
        at: &event.request_received_timestamp,
    })
}

fn account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(ACCOUNT)?.split_once(':')
}

fn on_object<'a>(event: &'a Event<'_>, object: &'a ObjectRef<'_>) -> Asked<'a> {
    let verb = event.verb.as_ref();
    // The authorizer sees a name only where the URL has one (`pkg/endpoints/request/requestinfo.go`); the log adds the
    // name of a new object from its body.
    let has_name = match verb {
        "create" => !object.subresource.is_empty(),
        "deletecollection" => false,
        "list" | "watch" => names_one(&event.request_uri),
        _ => true,
    };
    Asked::Resource {
        verb,
        group: &object.api_group,
        resource: &object.resource,
        subresource: &object.subresource,
        name: if has_name { &object.name } else { "" },
    }
}

/// Whether a list is of one object by its name: by the field selector, or by the old form of a watch.
fn names_one(uri: &str) -> bool {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    query.contains("fieldSelector=") && query.contains("metadata.name") || path.contains("/watch/")
}

fn on_path<'a>(event: &'a Event<'_>) -> Asked<'a> {
    let uri = event.request_uri.as_ref();
    let path = uri.split_once('?').map_or(uri, |(path, _)| path);
    Asked::Path {
        verb: &event.verb,
        path: decoded(path),
    }
}

/// The authorizer sees the path decoded.
fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut bytes = path.bytes();
    let mut out = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        let mut rest = bytes.clone();
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (byte, digit(rest.next()), digit(rest.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = rest;
            }
            _ => out.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Asked for beside the verb of the line: to make an object by PUT or by server-side apply also `create`, on the name
/// (`createAuthorizerAttributes` in `pkg/endpoints/handlers`), and for a websocket into a pod since 1.35 `create` beside
/// `get` (KEP-4006).
fn also(event: &Event<'_>, asked: &Asked<'_>) -> &'static str {
    let Asked::Resource {
        verb,
        group,
        resource,
        subresource,
        ..
    } = asked
    else {
        return "";
    };
    let made = event
        .response_status
        .as_ref()
        .is_some_and(|status| status.code == 201);
    let into_a_pod = group.is_empty()
        && *resource == "pods"
        && matches!(*subresource, "exec" | "attach" | "portforward");
    match *verb {
        "update" | "patch" if made && subresource.is_empty() => "create",
        "get" if into_a_pod => "create",
        _ => "",
    }
}

/// Whether a rule could name it. What could not is never taken for something wider.
fn grantable(asked: &Asked<'_>) -> bool {
    let verb_fits = |verb: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b"-:".contains(&b);
        (1..=63).contains(&verb.len()) && verb.bytes().all(fits)
    };
    match asked {
        Asked::Resource {
            verb,
            group,
            resource,
            subresource,
            name,
        } => {
            let word = |text: &str| {
                text.len() <= 253
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            };
            let printable = |text: &str| {
                text.len() <= 253 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            };
            verb_fits(verb)
                && word(group)
                && !resource.is_empty()
                && word(resource)
                && word(subresource)
                && printable(name)
        }
        Asked::Path { verb, path } => {
            verb_fits(verb)
                && path.starts_with('/')
                && path.len() <= 253
                && path.bytes().all(|b| b.is_ascii_graphic() && b != b'*')
        }
    }
}

fn is_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    (1..=253).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event(changes: Value) -> String {
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "stage": "ResponseComplete", "verb": "get",
            "requestURI": "/api/v1/namespaces/a/pods/p", "user": {"username": "system:serviceaccount:a:bot"},
            "objectRef": {"resource": "pods", "namespace": "a", "name": "p"}, "responseStatus": {"code": 200},
            "annotations": {"authorization.k8s.io/decision": "allow"}
        });
        for (field, value) in changes.as_object().unwrap() {
            event[field] = value.clone();
        }
        event.to_string()
    }

    /// What the authorizer was asked, in words, or what became of the event.
    fn told(changes: Value) -> String {
        let text = event(changes);
        let events = crate::domain::usage::event::read(text.as_bytes()).unwrap();
        match read(&events.all()[0]) {
            Counted::Request(seen) => {
                let asked = match &seen.asked {
                    Asked::Resource {
                        verb,
                        resource,
                        subresource,
                        name,
                        ..
                    } => format!("{verb} {resource}/{subresource} '{name}'"),
                    Asked::Path { verb, path } => format!("{verb} {path}"),
                };
                let also = if seen.also.is_empty() {
                    String::new()
                } else {
                    format!(" +{}", seen.also)
                };
                format!(
                    "{}:{} {asked}{also} in '{}'",
                    seen.namespace, seen.name, seen.place
                )
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_authorizer_sees_a_name_only_where_the_url_has_one() {
        let pods = "/api/v1/namespaces/a/pods";
        assert_eq!(told(json!({})), "a:bot get pods/ 'p' in 'a'");
        assert_eq!(
            told(json!({"verb": "create", "requestURI": pods})),
            "a:bot create pods/ '' in 'a'"
        );
        assert_eq!(
            told(json!({"verb": "list", "requestURI": pods})),
            "a:bot list pods/ '' in 'a'"
        );
        assert_eq!(
            told(
                json!({"verb": "watch", "requestURI": format!("{pods}?fieldSelector=metadata.name%3Dp&watch=true")})
            ),
            "a:bot watch pods/ 'p' in 'a'"
        );
        assert_eq!(
            told(json!({"verb": "deletecollection", "requestURI": pods})),
            "a:bot deletecollection pods/ '' in 'a'"
        );
        let eviction =
            json!({"resource": "pods", "subresource": "eviction", "namespace": "a", "name": "p"});
        assert_eq!(
            told(json!({"verb": "create", "objectRef": eviction})),
            "a:bot create pods/eviction 'p' in 'a'"
        );
    }

    #[test]
    fn what_is_asked_for_without_a_line_of_its_own_is_known() {
        assert_eq!(
            told(json!({"verb": "patch", "responseStatus": {"code": 201}})),
            "a:bot patch pods/ 'p' +create in 'a'"
        );
        let exec =
            json!({"resource": "pods", "subresource": "exec", "namespace": "a", "name": "p"});
        assert_eq!(
            told(json!({"objectRef": exec})),
            "a:bot get pods/exec 'p' +create in 'a'"
        );
    }

    #[test]
    fn paths_are_as_the_authorizer_sees_them() {
        let path = |uri: &str| told(json!({"objectRef": null, "requestURI": uri}));
        assert_eq!(path("/metrics?x=/y"), "a:bot get /metrics in ''");
        assert_eq!(path("/a%2Fb%zz"), "a:bot get /a/b%zz in ''");
        assert_eq!(path("/a%20b"), "Unreadable");
        assert_eq!(path("/a*"), "Unreadable");
    }

    #[test]
    fn a_request_counts_for_whom_it_was_made() {
        let as_user = |name: &str| told(json!({"impersonatedUser": {"username": name}}));
        assert_eq!(
            as_user("system:serviceaccount:b:other"),
            "b:other get pods/ 'p' in 'a'"
        );
        assert_eq!(as_user("jane"), "Impersonation");
        assert_eq!(told(json!({"user": {"username": "jane"}})), "Nothing");
        assert_eq!(told(json!({"stage": "RequestReceived"})), "Nothing");
        assert_eq!(told(json!({"annotations": null})), "Undecided");
        let hostile = json!({"resource": "pods", "namespace": "a", "name": "\u{1b}[2J"});
        assert_eq!(told(json!({"objectRef": hostile})), "Unreadable");
    }
}
