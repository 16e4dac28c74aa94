//! Answers: objects, lists and the `Status` bodies of refusals, with the `Date` of virtual time.

use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Body of every answer; a watch streams, all else is one frame.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What a handler answers: HTTP status and JSON body, or a refusal.
pub type Answer = Result<(u16, Value), Failure>;

/// A refusal, as the API server words it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason; empty for the few refusals that the API server leaves without one.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
    /// `details` of the Status.
    pub details: Value,
}

impl Failure {
    /// A refusal without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            reason,
            message,
            details: json!({}),
        }
    }

    /// The refusal that goes with an HTTP status, for injected faults and admission hooks.
    pub fn of_code(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "Unknown",
        };
        let mut failure = Self::new(code, reason, message);
        if matches!(code, 429 | 503 | 504) {
            failure.details = json!({"retryAfterSeconds": 1});
        }
        failure
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 410 for a resourceVersion or continue token that is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// Adds the name, group and kind of the object that the refusal speaks of.
    pub fn about(mut self, name: &str, group: &str, kind: &str) -> Self {
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                self.details[key] = value.into();
            }
        }
        self
    }

    /// Adds one cause.
    pub fn because(mut self, reason: &str, message: &str, field: &str) -> Self {
        let cause = json!({"reason": reason, "message": message, "field": field});
        match self.details["causes"].as_array_mut() {
            Some(causes) => causes.push(cause),
            None => self.details["causes"] = json!([cause]),
        }
        self
    }

    /// The `Status` body.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if self.details.as_object().is_some_and(|d| !d.is_empty()) {
            status["details"] = self.details.clone();
        }
        status
    }
}

/// Turns an answer into an HTTP response.
pub fn respond(answer: &Answer, now: Timestamp) -> Response<Body> {
    let (code, body) = match answer {
        Ok((code, body)) => (*code, body.clone()),
        Err(failure) => (failure.code, failure.status()),
    };
    let mut builder = Response::builder()
        .status(StatusCode::from_u16(code).expect("statuses in this module are valid"))
        .header("content-type", "application/json")
        .header("date", http_date(now));
    if let Err(Failure { details, .. }) = answer
        && let Some(seconds) = details["retryAfterSeconds"].as_u64()
    {
        builder = builder.header("retry-after", seconds);
    }
    let bytes = Bytes::from(body.to_string());
    builder
        .body(
            Full::new(bytes)
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
        .expect("headers in this module are valid")
}

/// RFC 9110 `Date`, whole seconds, rounded down.
pub fn http_date(now: Timestamp) -> String {
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// RFC 3339 in whole seconds, as Kubernetes writes timestamps.
pub fn rfc3339(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `PartialObjectMetadata` of an object.
pub fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
