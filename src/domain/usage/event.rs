//! One document of an audit log: an `Event` or an `EventList` of `audit.k8s.io/v1`, borrowed from its text.
//!
//! Fields: `k8s.io/apiserver/pkg/apis/audit/v1`. Only what decides is read, so the level `Metadata` is enough; bodies of
//! requests and responses are skipped without being decoded.

use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;

/// The version that is read.
pub const VERSION: &str = "audit.k8s.io/v1";

/// One event, or the list of them that a webhook backend sends.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    /// `RequestReceived`, `ResponseStarted`, `ResponseComplete` or `Panic`.
    #[serde(borrow)]
    pub stage: Cow<'a, str>,
    /// Verb of the authorizer; for a path, the HTTP method in lower case.
    #[serde(borrow)]
    pub verb: Cow<'a, str>,
    /// Path and query as they were sent.
    #[serde(borrow, rename = "requestURI")]
    pub request_uri: Cow<'a, str>,
    /// Who sent the request.
    #[serde(borrow)]
    pub user: User<'a>,
    /// As whom, if as somebody else.
    #[serde(borrow)]
    pub impersonated_user: Option<User<'a>>,
    /// The object; none for a path.
    #[serde(borrow)]
    pub object_ref: Option<ObjectRef<'a>>,
    /// What was answered.
    pub response_status: Option<ResponseStatus>,
    /// RFC 3339, in microseconds.
    #[serde(borrow)]
    pub request_received_timestamp: Cow<'a, str>,
    /// What the authorizer said.
    #[serde(borrow)]
    pub annotations: Option<Annotations<'a>>,
    #[serde(borrow)]
    items: Vec<Event<'a>>,
}

/// A user.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct User<'a> {
    /// Such as `system:serviceaccount:payments:migrator`.
    #[serde(borrow)]
    pub username: Cow<'a, str>,
    /// Of the account; empty for most other users.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
}

/// What a request is about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef<'a> {
    /// API group; empty for core.
    #[serde(borrow)]
    pub api_group: Cow<'a, str>,
    /// Plural of the resource.
    #[serde(borrow)]
    pub resource: Cow<'a, str>,
    /// Subresource, or empty.
    #[serde(borrow)]
    pub subresource: Cow<'a, str>,
    /// Namespace, or empty.
    #[serde(borrow)]
    pub namespace: Cow<'a, str>,
    /// Name; of a new object also that from the body, which the authorizer does not see.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
}

/// The answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// HTTP status.
    pub code: i32,
}

/// Annotations of the authorizer (`k8s.io/apiserver/pkg/endpoints/filters/authorization.go`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations<'a> {
    /// `allow` or `forbid`.
    #[serde(borrow, rename = "authorization.k8s.io/decision")]
    pub decision: Cow<'a, str>,
    /// Which binding allowed it, in words.
    #[serde(borrow, rename = "authorization.k8s.io/reason")]
    pub reason: Cow<'a, str>,
}

/// Why a document gives no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The text is no JSON, or an event whose fields have other types.
    Undecodable(String),
    /// It ends too early.
    HalfWritten,
    /// It is another object.
    NotAudit {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// It is an event of a version that Kubernetes removed in 1.24.
    OldVersion(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(why) => write!(f, "cannot be read: {why}"),
            Self::HalfWritten => write!(f, "is half-written: the JSON ends too early"),
            Self::NotAudit { api_version, kind } if api_version.is_empty() && kind.is_empty() => {
                write!(
                    f,
                    "is no event of {VERSION}: it has no `apiVersion` and no `kind`"
                )
            }
            Self::NotAudit { api_version, kind } => {
                write!(
                    f,
                    "is no event of {VERSION} but kind '{kind}' of '{api_version}'"
                )
            }
            Self::OldVersion(version) => write!(f, "is of {version}; only {VERSION} is read"),
        }
    }
}

/// The events of one document.
pub fn read(text: &[u8]) -> Result<Events<'_>, Unusable> {
    let event: Event<'_> = serde_json::from_slice(text).map_err(|error| match error.is_eof() {
        true => Unusable::HalfWritten,
        false => Unusable::Undecodable(error.to_string()),
    })?;
    match (event.api_version.as_ref(), event.kind.as_ref()) {
        (VERSION, "Event") => Ok(Events::One(Box::new(event))),
        (VERSION, "EventList") => Ok(Events::List(event.items)),
        (version, "Event" | "EventList") if version.starts_with("audit.k8s.io/") => {
            Err(Unusable::OldVersion(version.to_owned()))
        }
        (version, kind) => Err(Unusable::NotAudit {
            api_version: version.to_owned(),
            kind: kind.to_owned(),
        }),
    }
}

/// One event or many.
#[derive(Debug)]
pub enum Events<'a> {
    /// A line of a log.
    One(Box<Event<'a>>),
    /// A batch of a webhook.
    List(Vec<Event<'a>>),
}

impl<'a> Events<'a> {
    /// All of them, in their order.
    pub fn all(&self) -> &[Event<'a>] {
        match self {
            Self::One(event) => std::slice::from_ref(event),
            Self::List(events) => events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","verb":"get",
        "requestURI":"/api/v1/namespaces/a/pods/p","user":{"username":"system:serviceaccount:a:b","groups":["g"]},
        "objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},
        "requestObject":{"deep":[[[{"x":"y"}]]]},"annotations":{"authorization.k8s.io/decision":"allow","other":"x"}}"#;

    #[test]
    fn an_event_is_borrowed_from_its_line() {
        let events = read(LINE.as_bytes()).unwrap();
        let [event] = events.all() else {
            panic!("{events:?}")
        };
        assert!(matches!(
            event.user.username,
            Cow::Borrowed("system:serviceaccount:a:b")
        ));
        assert_eq!(event.object_ref.as_ref().unwrap().name, "p");
        assert_eq!(event.response_status.as_ref().unwrap().code, 200);
        assert_eq!(event.annotations.as_ref().unwrap().decision, "allow");
    }

    #[test]
    fn a_list_gives_its_items() {
        let list = format!(
            r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{LINE},{LINE}]}}"#
        );
        assert_eq!(read(list.as_bytes()).unwrap().all().len(), 2);
    }

    #[test]
    fn what_is_no_event_says_what_it_is() {
        let told = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            told(&LINE[..300]),
            "is half-written: the JSON ends too early"
        );
        assert_eq!(
            told(&LINE.replace("k8s.io/v1", "k8s.io/v1beta1")),
            "is of audit.k8s.io/v1beta1; only audit.k8s.io/v1 is read"
        );
        assert_eq!(
            told(r#"{"kind":"Pod","apiVersion":"v1"}"#),
            "is no event of audit.k8s.io/v1 but kind 'Pod' of 'v1'"
        );
        assert!(told("{}").contains("it has no `apiVersion` and no `kind`"));
        assert!(told("audit").starts_with("cannot be read: expected value"));
        assert!(told(&"[".repeat(100_000)).starts_with("cannot be read"));
    }
}
