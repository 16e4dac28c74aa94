//! Bytes to a review and an answer to bytes (`answer.rs`). Nothing here fails or panics: whatever arrives gets a well-formed answer,
//! because to the API server anything else is a broken webhook and not a refusal.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::{API_VERSION, KIND};
pub use super::answer::{allow, allow_with_patch, deny, error};

/// Longest message about a body that cannot be read, in characters: it may quote the body.
const MAX_MALFORMED: usize = 256;

/// An object of a review as it came: read by whoever decides on it, so that an odd one still gets an answer with the right
/// uid, and a large one costs nothing until then.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Object(Option<Box<RawValue>>);

/// What is asked of an object's metadata.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

impl Object {
    /// Its text; an absent object is `null`.
    pub fn text(&self) -> &str {
        self.0.as_ref().map_or("null", |raw| raw.get())
    }

    /// Reads it as a type; an absent object is `null`.
    ///
    /// # Errors
    /// It does not have that shape.
    pub fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.text())
    }

    /// As JSON; `null` when there is none or it cannot be read.
    pub fn json(&self) -> Value {
        self.read().unwrap_or_default()
    }

    /// One field as JSON, likewise.
    pub fn field(&self, name: &str) -> Value {
        self.json().get(name).cloned().unwrap_or_default()
    }

    /// One annotation.
    pub fn annotation(&self, name: &str) -> Option<String> {
        self.metadata().annotations?.remove(name)?
    }

    fn metadata(&self) -> Metadata {
        #[derive(Default, Deserialize)]
        struct Outer {
            #[serde(default)]
            metadata: Metadata,
        }
        self.read::<Outer>().unwrap_or_default().metadata
    }
}

/// One request of the API server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Identifies this question; the answer carries it back.
    pub uid: String,
    /// What is to be done. PATCH and apply arrive as one of these too.
    pub operation: Operation,
    /// Kind of the object, converted to the version that the webhook is registered for.
    pub kind: Kind,
    /// Resource of the object, likewise.
    pub resource: Resource,
    /// For example `status`.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub sub_resource: String,
    /// Empty for `generateName` and for each object of a collection that is deleted; see [`Review::object_name`].
    #[serde(default, deserialize_with = "null_is_absent")]
    pub name: String,
    /// Empty for cluster-scoped objects.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub namespace: String,
    /// Who asks, authenticated; under impersonation the impersonated user.
    pub user_info: UserInfo,
    /// Nothing may be written or counted for this request.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub dry_run: bool,
    /// The object as it would be; absent on DELETE.
    #[serde(default)]
    pub object: Object,
    /// The object as it is; absent on CREATE.
    #[serde(default)]
    pub old_object: Object,
    /// The options of the operation, for example `DeleteOptions` with its `propagationPolicy`.
    #[serde(default)]
    pub options: Option<Value>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A change of an object, its metadata included.
    Update,
    /// A deletion.
    Delete,
    /// A connection, such as `exec`; Stint registers for none.
    Connect,
}

impl Operation {
    /// The word that Kubernetes uses, also a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Kind {
    /// API group, empty for core.
    #[serde(default)]
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

/// Group, version and resource.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Resource {
    /// API group, empty for core.
    #[serde(default)]
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name.
    pub resource: String,
}

/// The authenticated requester.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct UserInfo {
    /// Never empty; unauthenticated requests are `system:anonymous`.
    #[serde(deserialize_with = "not_empty")]
    pub username: String,
    /// Empty where the authenticator gives none; for a ServiceAccount its UID.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub uid: String,
    /// Groups in the order of the authenticator.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub groups: Vec<String>,
    /// For example `authentication.kubernetes.io/credential-id`.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A body that is not a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The uid, if at least that could be read.
    pub uid: Option<String>,
    /// What is wrong, for a person.
    pub message: String,
}

impl Malformed {
    /// The refusal for this body. Without a uid the API server counts it as a failed call, which denies too
    /// (`failurePolicy: Fail`).
    pub fn answer(&self) -> Bytes {
        let uid = self.uid.as_deref().unwrap_or_default();
        error(uid, 400, "BadRequest", &self.message)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    api_version: String,
    kind: String,
    request: Review,
}

/// Reads a review.
///
/// # Errors
/// The body is not an `admission.k8s.io/v1` AdmissionReview with a request; see [`Malformed::answer`].
pub fn parse(body: &[u8]) -> Result<Review, Malformed> {
    let envelope: Envelope = serde_json::from_slice(body)
        .map_err(|e| malformed(body, &format!("not a readable AdmissionReview: {e}")))?;
    if envelope.kind != KIND || envelope.api_version != API_VERSION {
        let found = format!("{} {}", envelope.api_version, envelope.kind);
        let message = format!("must be {API_VERSION} {KIND}, found '{found}'");
        return Err(malformed(body, &message));
    }
    if envelope.request.uid.is_empty() {
        return Err(malformed(body, "request.uid is empty"));
    }
    Ok(envelope.request)
}

/// The uid of a review of which nothing else may be readable.
pub fn uid(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Outer {
        request: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        uid: String,
    }
    let outer: Outer = serde_json::from_slice(body).ok()?;
    Some(outer.request.uid).filter(|uid| !uid.is_empty())
}

impl Review {
    /// The name of the object, for a person: from the request, else from the object, else its `generateName`.
    pub fn object_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let [new, old] = [&self.object, &self.old_object].map(Object::metadata);
        let names = [new.name, old.name, new.generate_name, old.generate_name];
        names.into_iter().flatten().next().unwrap_or_default()
    }
}

fn malformed(body: &[u8], message: &str) -> Malformed {
    Malformed {
        uid: uid(body),
        message: message.chars().take(MAX_MALFORMED).collect(),
    }
}

/// Go writes `null` for an empty list or map that is not marked `omitempty`.
fn null_is_absent<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Err(serde::de::Error::custom("username is empty"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request() -> Value {
        json!({
            "uid": "u-1",
            "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"},
            "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": "workloadaccesses"},
            "requestKind": {"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"},
            "name": "migrate-42",
            "namespace": "payments",
            "operation": "CREATE",
            "userInfo": {
                "username": "jane",
                "uid": "42",
                "groups": ["payments-devs", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=1"]},
            },
            "object": {"metadata": {"name": "migrate-42"}, "spec": {"rules": "not even a list"}},
            "oldObject": null,
            "dryRun": true,
            "options": {"kind": "CreateOptions"},
        })
    }

    fn body(request: Value) -> Vec<u8> {
        json!({"apiVersion": API_VERSION, "kind": KIND, "request": request})
            .to_string()
            .into_bytes()
    }

    fn changed(field: &str, value: Value) -> Vec<u8> {
        let mut request = request();
        request[field] = value;
        body(request)
    }

    fn response(bytes: &Bytes) -> Value {
        let review: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(review["apiVersion"], API_VERSION);
        assert_eq!(review["kind"], KIND);
        review["response"].clone()
    }

    #[test]
    fn a_request_is_read_in_full_and_its_object_is_not_judged() {
        let review = parse(&body(request())).unwrap();
        assert_eq!(review.uid, "u-1");
        assert_eq!(review.operation, Operation::Create);
        assert_eq!(review.kind.kind, "WorkloadAccess");
        assert_eq!(review.resource.resource, "workloadaccesses");
        assert_eq!(
            (review.name.as_str(), review.namespace.as_str()),
            ("migrate-42", "payments")
        );
        assert_eq!(review.user_info.username, "jane");
        assert_eq!(review.user_info.groups.len(), 2);
        assert_eq!(review.user_info.extra.len(), 1);
        assert!(review.dry_run && review.old_object.json().is_null());
        assert_eq!(review.object.json()["spec"]["rules"], "not even a list");
        assert_eq!(review.options.unwrap()["kind"], "CreateOptions");
    }

    #[test]
    fn go_nulls_are_absent_values() {
        let user = json!({"username": "jane", "uid": null, "groups": null, "extra": null});
        let review = parse(&changed("userInfo", user)).unwrap();
        assert!(review.user_info.groups.is_empty() && review.user_info.uid.is_empty());
        assert!(!parse(&changed("dryRun", Value::Null)).unwrap().dry_run);
    }

    #[test]
    fn a_broken_request_keeps_its_uid() {
        let bodies = [
            changed("operation", json!("EXPLODE")),
            changed("operation", json!("x".repeat(1 << 20))),
            changed("userInfo", Value::Null),
            changed("userInfo", json!({"username": ""})),
            changed("kind", json!(7)),
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": KIND, "request": request()})
                .to_string()
                .into_bytes(),
        ];
        for body in bodies {
            let problem = parse(&body).unwrap_err();
            assert_eq!(problem.uid.as_deref(), Some("u-1"), "{}", problem.message);
            assert!(problem.message.chars().count() <= MAX_MALFORMED);
            let answer = response(&problem.answer());
            assert_eq!(
                (&answer["uid"], &answer["allowed"]),
                (&json!("u-1"), &json!(false))
            );
        }
    }

    #[test]
    fn a_deep_object_is_not_read_and_not_followed() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let template = String::from_utf8(changed("object", json!("DEEP"))).unwrap();
        let review = parse(template.replace("\"DEEP\"", &deep).as_bytes()).unwrap();
        assert_eq!(review.uid, "u-1");
        assert!(review.object.read::<Value>().is_err() && review.object.json().is_null());
        assert_eq!(review.object.annotation("x"), None);
    }

    #[test]
    fn a_body_without_a_uid_is_refused_with_an_empty_one() {
        let bodies: [&[u8]; 8] = [
            b"",
            b"hello",
            b"\xff\x00",
            b"[]",
            b"{}",
            b"{\"request\":null}",
            &body(json!({"uid": 7})),
            &changed("uid", json!("")),
        ];
        for body in bodies {
            let problem = parse(body).unwrap_err();
            assert_eq!(problem.uid, None);
            let answer = response(&problem.answer());
            assert_eq!(
                (&answer["uid"], &answer["allowed"]),
                (&json!(""), &json!(false))
            );
            assert_eq!(answer["status"]["code"], 400);
            assert!(!answer["status"]["message"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn names_come_from_the_object_where_the_request_has_none() {
        let named = |object: Value, old: Value| {
            let mut request = request();
            request["name"] = Value::Null;
            request["object"] = object;
            request["oldObject"] = old;
            parse(&body(request)).unwrap().object_name().to_owned()
        };
        let metadata = |key: &str, value: &str| json!({"metadata": {key: value}});
        assert_eq!(named(metadata("name", "made-x7"), Value::Null), "made-x7");
        assert_eq!(
            named(metadata("generateName", "made-"), Value::Null),
            "made-"
        );
        assert_eq!(named(Value::Null, metadata("name", "deleted")), "deleted");
        assert_eq!(named(json!([1]), json!("text")), "");
    }
}
