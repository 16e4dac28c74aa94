//! AdmissionReview v1, from bytes and to bytes. Never fails and never panics: whatever comes in, a well-formed review
//! goes out, with the request's uid wherever one can be found.
//!
//! The objects stay JSON here: one that does not decode must still get a readable refusal under its uid.

use crate::domain::violation::{Violation, render};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// The request of a review.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Identifies the request; the answer carries it back.
    pub uid: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// API group of the resource.
    #[serde(default)]
    pub group: String,
    /// Kind of the object.
    #[serde(default)]
    pub kind: String,
    /// Plural name of the resource.
    #[serde(default)]
    pub resource: String,
    /// Subresource; empty for the object itself.
    #[serde(default)]
    pub sub_resource: String,
    /// Namespace; empty for cluster-scoped objects.
    #[serde(default)]
    pub namespace: String,
    /// Who asks.
    #[serde(default)]
    pub user: User,
    /// The object; null on DELETE.
    #[serde(default)]
    pub object: Value,
    /// The object as it was; null on CREATE.
    #[serde(default)]
    pub old_object: Value,
    /// Options of the call, such as DeleteOptions.
    #[serde(default)]
    pub options: Value,
}

/// The authenticated user of a request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    /// User name.
    #[serde(default)]
    pub username: String,
    /// UID; for a ServiceAccount the UID of the account.
    #[serde(default)]
    pub uid: String,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A body that is no review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The uid, if there is one to answer to.
    pub uid: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Malformed {
    /// The refusal. Without a uid the API server treats it as a failed call, which `failurePolicy: Fail` refuses too.
    pub fn answer(&self) -> Bytes {
        let uid = self.uid.as_deref().unwrap_or_default();
        error(uid, 400, "BadRequest", &self.message)
    }
}

/// Reads a review.
pub fn parse(body: &[u8]) -> Result<Review, Malformed> {
    let malformed = |uid: Option<String>, message: String| Malformed { uid, message };
    let mut review: Value = serde_json::from_slice(body)
        .map_err(|e| malformed(None, format!("the body is not JSON: {e}")))?;
    // Indexing a Value that is no object for writing would panic.
    let mut request = review
        .get_mut("request")
        .map(Value::take)
        .unwrap_or_default();
    let Some(uid) = request["uid"].as_str().filter(|uid| !uid.is_empty()) else {
        let message = "the body is not an AdmissionReview: request.uid is missing";
        return Err(malformed(None, message.into()));
    };
    let uid = uid.to_owned();
    let Some(fields) = request.as_object_mut() else {
        return Err(malformed(Some(uid), "request must be an object".into()));
    };
    // `kind` and `resource` are objects on the wire; flat names are easier to read in what follows.
    let group = fields.get("resource").map(|r| r["group"].clone());
    let resource = fields.get("resource").map(|r| r["resource"].clone());
    let kind = fields.get("kind").map(|k| k["kind"].clone());
    fields.insert("group".into(), text_or_empty(group));
    fields.insert("resource".into(), text_or_empty(resource));
    fields.insert("kind".into(), text_or_empty(kind));
    if let Some(user) = fields.remove("userInfo") {
        fields.insert("user".into(), user);
    }
    serde_json::from_value(request).map_err(|e| {
        malformed(
            Some(uid),
            format!("the AdmissionReview cannot be read: {e}"),
        )
    })
}

fn text_or_empty(value: Option<Value>) -> Value {
    value.filter(Value::is_string).unwrap_or_else(|| "".into())
}

/// Allowed as it is.
pub fn allow(uid: &str) -> Bytes {
    answer(json!({"uid": uid, "allowed": true}))
}

/// Allowed, after these JSON Patch operations (RFC 6902).
pub fn allow_with_patch(uid: &str, operations: &Value) -> Bytes {
    let patch = STANDARD.encode(operations.to_string());
    answer(json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

/// Refused for these reasons: HTTP 422 `Invalid` for the caller, with one cause per violation.
pub fn deny(review: &Review, violations: &[Violation]) -> Bytes {
    let kind = if review.kind.is_empty() {
        "object"
    } else {
        &review.kind
    };
    let metadata = match &review.object {
        Value::Null => &review.old_object["metadata"],
        object => &object["metadata"],
    };
    let name = ["name", "generateName"]
        .iter()
        .find_map(|f| metadata[f].as_str().filter(|n| !n.is_empty()));
    let name = name.unwrap_or_default();
    let causes: Vec<Value> = violations
        .iter()
        .take(MAX_CAUSES)
        .map(|v| json!({"reason": v.problem.cause(), "message": v.to_string(), "field": v.path}))
        .collect();
    answer(json!({
        "uid": review.uid,
        "allowed": false,
        "status": {
            "status": "Failure",
            "code": 422,
            "reason": "Invalid",
            "message": render(kind, name, violations),
            "details": {"name": name, "group": review.group, "kind": kind, "causes": causes},
        },
    }))
}

/// Most causes in one refusal.
const MAX_CAUSES: usize = 50;

/// Refused because it could not be judged.
pub fn error(uid: &str, code: u16, reason: &str, message: &str) -> Bytes {
    answer(json!({
        "uid": uid,
        "allowed": false,
        "status": {"status": "Failure", "code": code, "reason": reason, "message": message},
    }))
}

/// The uid in a body that may be anything, for answers from outside the handler.
pub fn uid_of(body: &[u8]) -> String {
    match parse(body) {
        Ok(review) => review.uid,
        Err(malformed) => malformed.uid.unwrap_or_default(),
    }
}

fn answer(response: Value) -> Bytes {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Bytes::from(review.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::violation::Problem;

    fn body() -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "n",
            "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"},
            "resource": {"group": "stint.dev", "version": "v1alpha1", "resource": "workloadaccesses"},
            "userInfo": {"username": "alice", "groups": ["g"]},
            "object": {"metadata": {"name": "x"}}, "oldObject": null
        }})
    }

    #[test]
    fn reads_a_review() {
        let review = parse(body().to_string().as_bytes()).unwrap();
        assert_eq!(
            (review.uid.as_str(), review.group.as_str()),
            ("u-1", "stint.dev")
        );
        assert_eq!(
            (review.resource.as_str(), review.user.username.as_str()),
            ("workloadaccesses", "alice")
        );
    }

    #[test]
    fn whatever_comes_in_a_review_goes_out() {
        let mut odd = vec![
            "".to_owned(),
            "x".into(),
            "[]".into(),
            "null".into(),
            "{}".into(),
            "[".repeat(100_000),
        ];
        for (field, value) in [
            ("uid", json!(7)),
            ("operation", json!(null)),
            ("userInfo", json!("alice")),
            ("namespace", json!({})),
        ] {
            let mut body = body();
            body["request"][field] = value;
            odd.push(body.to_string());
        }
        for text in odd {
            let malformed = parse(text.as_bytes()).unwrap_err();
            let answer: Value = serde_json::from_slice(&malformed.answer()).unwrap();
            assert_eq!(answer["response"]["allowed"], json!(false), "{text:.40}");
        }
    }

    #[test]
    fn a_refusal_names_object_codes_and_paths() {
        let review = parse(body().to_string().as_bytes()).unwrap();
        let violation = Violation::new(
            "WA-NO-EXPIRY",
            "spec",
            Problem::Required,
            "must set `notAfter` or `duration`",
        );
        let answer: Value = serde_json::from_slice(&deny(&review, &[violation])).unwrap();
        let status = &answer["response"]["status"];
        assert_eq!(answer["response"]["uid"], json!("u-1"));
        assert_eq!(
            (&status["code"], &status["reason"]),
            (&json!(422), &json!("Invalid"))
        );
        assert_eq!(
            status["message"],
            json!(
                "WorkloadAccess \"x\" is invalid:\nspec: Required value: must set `notAfter` or `duration` [WA-NO-EXPIRY]"
            )
        );
        assert_eq!(status["details"]["causes"][0]["field"], json!("spec"));
    }
}
