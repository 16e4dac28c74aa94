//! A request as the handlers see it: target, parameters, options and body.

use super::{
    kinds::{self, Kind},
    reply::Failure,
};
use http::{Method, request::Parts};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a URL names.
#[derive(Clone, Debug)]
pub struct Target {
    /// The resource.
    pub kind: Kind,
    /// Empty for cluster-scoped objects and for lists over all namespaces.
    pub namespace: String,
    /// Absent for a collection.
    pub name: Option<String>,
    /// For example `status`.
    pub subresource: Option<String>,
}

impl Target {
    /// Reads `/api/v1/…` and `/apis/<group>/<version>/…`; `None` for anything that names no resource.
    pub fn of_path(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..]
                if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) =>
            {
                (namespace.to_string(), rest)
            }
            rest => (String::new(), rest),
        };
        let resource = *rest.first()?;
        Some(Self {
            kind: kinds::of_resource(group, version, resource, !namespace.is_empty()),
            namespace,
            name: rest.get(1).map(|s| decode(s)),
            subresource: rest.get(2).map(|s| s.to_string()),
        })
    }

    /// Name of the object, empty for a collection.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Writes to `/status` only.
    pub fn is_status(&self) -> bool {
        self.subresource.as_deref() == Some("status")
    }

    /// 404 for the named object.
    pub fn not_found(&self) -> Failure {
        let resource = self.kind.qualified_resource();
        let message = format!("{resource} \"{}\" not found", self.name());
        Failure::new(404, "NotFound", message).about(
            self.name(),
            &self.kind.group,
            &self.kind.resource,
        )
    }

    /// 409 `AlreadyExists` for an object name.
    pub fn already_exists(&self, name: &str) -> Failure {
        let message = format!(
            "{} \"{name}\" already exists",
            self.kind.qualified_resource()
        );
        Failure::new(409, "AlreadyExists", message).about(
            name,
            &self.kind.group,
            &self.kind.resource,
        )
    }

    /// 409 `Conflict` for the named object.
    pub fn conflict(&self, why: &str) -> Failure {
        let resource = self.kind.qualified_resource();
        let message = format!(
            "Operation cannot be fulfilled on {resource} \"{}\": {why}",
            self.name()
        );
        Failure::new(409, "Conflict", message).about(
            self.name(),
            &self.kind.group,
            &self.kind.resource,
        )
    }

    /// 409 for a resourceVersion that is not the newest.
    pub fn stale(&self) -> Failure {
        self.conflict("the object has been modified; please apply your changes to the latest version and try again")
    }

    /// 422 with one cause.
    pub fn invalid(&self, name: &str, field: &str, reason: &str, text: &str) -> Failure {
        let message = format!(
            "{} \"{name}\" is invalid: {field}: {text}",
            self.kind.qualified()
        );
        Failure::new(422, "Invalid", message)
            .about(name, &self.kind.group, &self.kind.kind)
            .because(reason, text, field)
    }
}

/// A request with its body read.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// HTTP method.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// Raw query.
    pub query: String,
    /// Decoded parameters.
    pub params: BTreeMap<String, String>,
    /// Media type of the body, without parameters.
    pub content_type: String,
    /// The client asked for `PartialObjectMetadata` or its list.
    pub metadata_only: bool,
    /// JSON body; `Null` when empty.
    pub body: Value,
}

impl Incoming {
    /// Reads the head and the body of a request.
    pub fn new(head: &Parts, body: &[u8]) -> Result<Self, Failure> {
        let header = |name: &str| {
            let values = head.headers.get_all(name).iter();
            values
                .filter_map(|v| v.to_str().ok())
                .collect::<Vec<_>>()
                .join(",")
        };
        let query = head.uri.query().unwrap_or_default().to_string();
        let body = match body {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes)
                .map_err(|e| Failure::bad_request(format!("the body is not JSON: {e}")))?,
        };
        Ok(Self {
            method: head.method.clone(),
            path: head.uri.path().to_string(),
            params: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            content_type: header("content-type")
                .split(';')
                .next()
                .unwrap_or_default()
                .to_string(),
            metadata_only: header("accept").contains("as=PartialObjectMetadata"),
            query,
            body,
        })
    }

    /// A parameter that is present and not empty.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    /// A parameter that is `true`.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.param(name), Some("true" | "1"))
    }

    /// Nothing is to be kept.
    pub fn dry_run(&self) -> bool {
        let in_body =
            self.method == Method::DELETE && self.body["dryRun"] == serde_json::json!(["All"]);
        self.param("dryRun") == Some("All") || in_body
    }

    /// Field manager of a write.
    pub fn manager(&self) -> String {
        self.param("fieldManager").unwrap_or("unknown").to_string()
    }
}

fn decode(segment: &str) -> String {
    let as_pair = format!("x={}", segment.replace('+', "%2B"));
    form_urlencoded::parse(as_pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
