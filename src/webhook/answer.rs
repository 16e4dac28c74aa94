//! The answers to a review, as bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::violation::{self, Violation};

/// The version that each supported Kubernetes speaks, in both directions.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
pub(super) const KIND: &str = "AdmissionReview";

/// Most causes in one refusal, as in the rendered message.
const MAX_CAUSES: usize = 20;

/// Most warnings in one answer, and the characters after which the API server cuts each.
const MAX_WARNINGS: usize = 10;
const MAX_WARNING: usize = 256;

/// Allowed as it is, with what the caller should know.
pub fn allow(uid: &str, warnings: &[String]) -> Bytes {
    let cut = |text: &String| -> String { text.chars().take(MAX_WARNING).collect() };
    let warnings: Vec<String> = warnings.iter().take(MAX_WARNINGS).map(cut).collect();
    answer(Allowed {
        uid,
        allowed: true,
        warnings,
    })
}

/// Allowed with changes: `operations` of a JSON Patch (RFC 6902). For the mutating webhook only; from a validating one
/// the API server takes a patch as a failed call.
pub fn allow_with_patch(uid: &str, operations: &[Value]) -> Bytes {
    let patch = STANDARD.encode(Value::from(operations).to_string());
    answer(json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

/// Refused for these reasons: HTTP 422 `Invalid`, as Kubernetes answers for its own kinds.
pub fn deny(uid: &str, group: &str, kind: &str, name: &str, violations: &[Violation]) -> Bytes {
    let causes: Vec<Value> = violations.iter().take(MAX_CAUSES).map(cause).collect();
    answer(json!({
        "uid": uid,
        "allowed": false,
        "status": {
            "status": "Failure",
            "code": 422,
            "reason": "Invalid",
            "message": violation::render(kind, name, violations),
            "details": {"name": name, "group": group, "kind": kind, "causes": causes},
        },
    }))
}

/// Refused because there is no decision: not ready, or broken. `code` and `reason` are those of a Kubernetes Status.
pub fn error(uid: &str, code: u16, reason: &str, message: &str) -> Bytes {
    answer(json!({
        "uid": uid,
        "allowed": false,
        "status": {"status": "Failure", "code": code, "reason": reason, "message": message},
    }))
}

/// The field has a place of its own in a cause, so the message does not repeat it (apimachinery `Error.ErrorBody`).
fn cause(violation: &Violation) -> Value {
    let line = violation.to_string();
    let prefix = format!("{}: ", violation.path);
    json!({
        "reason": violation.problem.cause(),
        "message": line.strip_prefix(&prefix).unwrap_or(&line),
        "field": violation.path,
    })
}

fn answer(response: impl Serialize) -> Bytes {
    let review = Review {
        api_version: API_VERSION,
        kind: KIND,
        response,
    };
    // Texts, numbers and lists of them have nothing that JSON cannot hold; an empty body would be a failed call, which denies.
    Bytes::from(serde_json::to_vec(&review).unwrap_or_default())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<T> {
    api_version: &'static str,
    kind: &'static str,
    response: T,
}

/// The usual answer.
#[derive(Serialize)]
struct Allowed<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::violation::Problem;

    fn response(bytes: &Bytes) -> Value {
        let review: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(review["apiVersion"], API_VERSION);
        assert_eq!(review["kind"], KIND);
        review["response"].clone()
    }

    #[test]
    fn answers_carry_the_uid() {
        assert_eq!(
            response(&allow("u", &[])),
            json!({"uid": "u", "allowed": true})
        );
        let warned = response(&allow("u", &["careful".into()]));
        assert_eq!(warned["warnings"], json!(["careful"]));
        let failed = response(&error("u", 503, "ServiceUnavailable", "not ready"));
        assert_eq!(failed["status"]["code"], 503);
        assert_eq!(
            (&failed["uid"], &failed["allowed"]),
            (&json!("u"), &json!(false))
        );
    }

    #[test]
    fn a_patch_is_base64_of_its_operations() {
        let operations = [json!({"op": "add", "path": "/metadata/labels", "value": {}})];
        let answer = response(&allow_with_patch("u", &operations));
        let patch = STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
        assert_eq!(answer["patchType"], "JSONPatch");
        assert_eq!(
            serde_json::from_slice::<Vec<Value>>(&patch).unwrap(),
            operations
        );
    }

    #[test]
    fn a_refusal_reads_like_one_of_kubernetes() {
        let star = Violation::new(
            "OB-W03",
            "spec.rules[0].verbs[1]",
            Problem::Invalid,
            "must list verbs by name",
        )
        .found("*");
        let answer = response(&deny(
            "u",
            "stint.dev",
            "WorkloadAccess",
            "batch",
            std::slice::from_ref(&star),
        ));
        assert_eq!(
            answer["status"],
            json!({
                "status": "Failure",
                "code": 422,
                "reason": "Invalid",
                "message": violation::render("WorkloadAccess", "batch", &[star]),
                "details": {
                    "name": "batch",
                    "group": "stint.dev",
                    "kind": "WorkloadAccess",
                    "causes": [{
                        "reason": "FieldValueInvalid",
                        "message": "Invalid value: '*': must list verbs by name [OB-W03]",
                        "field": "spec.rules[0].verbs[1]",
                    }],
                },
            })
        );
        let many = vec![Violation::new("OB-R03", "spec", Problem::Invalid, "m"); 500];
        let answer = response(&deny("u", "stint.dev", "WorkloadAccess", "batch", &many));
        assert_eq!(
            answer["status"]["details"]["causes"]
                .as_array()
                .unwrap()
                .len(),
            MAX_CAUSES
        );
    }
}
