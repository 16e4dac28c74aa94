//! Server-side apply to parts of an object: keyed lists, sets, atomic lists, the status half, immutable fields.

use super::{
    Ctx, Outcome, Row, access,
    applies::{apply, by, forced, version},
    config_map, holds, role_binding, same,
};
use futures::FutureExt;
use serde_json::{Value, json};

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "apply to /status owns conditions one by one", run: |c| conditions(c).boxed() },
        Row { name: "apply to the main resource leaves status alone, to /status the rest", run: |c| split(c).boxed() },
        Row { name: "apply to /status of an absent object is 404", run: |c| absent_status(c).boxed() },
        Row { name: "rules of a Role have one owner as a whole", run: |c| atomic(c).boxed() },
        Row { name: "finalizers are owned one by one", run: |c| finalizers(c).boxed() },
        Row { name: "owner references are owned one by one", run: |c| owner_references(c).boxed() },
        Row { name: "webhooks are owned by name, so one manager may keep the caBundle of another's webhook", run: |c| webhooks(c).boxed() },
        Row { name: "apply cannot change a roleRef, not even with force", run: |c| role_ref(c).boxed() },
        Row { name: "apply counts the generation as other writes do", run: |c| generation(c).boxed() },
    ];
    rows
}

async fn conditions(c: Ctx) -> Outcome {
    c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let path = format!("{}/a/status", c.accesses());
    c.apply(&by(&path, "one"), &status_with("Ready", "True"))
        .await?
        .expect(200)?;
    let both = c
        .apply(&by(&path, "two"), &status_with("Active", "True"))
        .await?
        .expect(200)?;
    let types = |object: &Value| -> Vec<String> {
        let list = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        list.filter_map(|c| c["type"].as_str().map(str::to_string))
            .collect()
    };
    same("conditions", types(&both), ["Ready", "Active"])?;
    let refused = c
        .apply(&by(&path, "two"), &status_with("Ready", "False"))
        .await?
        .refused(409, "Conflict")?;
    same(
        "field",
        &refused["details"]["causes"][0]["field"],
        ".status.conditions[type=\"Ready\"].status",
    )?;
    let mut nothing = status_with("Ready", "True");
    nothing["status"] = json!({});
    let left = c.apply(&by(&path, "one"), &nothing).await?.expect(200)?;
    same("conditions left", types(&left), ["Active"])
}

async fn split(c: Ctx) -> Outcome {
    let path = format!("{}/a", c.accesses());
    let mut wanted = access("a");
    wanted["status"] = json!({"requestedBy": "me"});
    let made = c.apply(&by(&path, "one"), &wanted).await?.expect(201)?;
    same("status", &made["status"], &json!(null))?;
    wanted["metadata"]["labels"] = json!({"x": "y"});
    wanted["spec"]["revoked"] = true.into();
    let after = c
        .apply(&by(&format!("{path}/status"), "one"), &wanted)
        .await?
        .expect(200)?;
    same("status", &after["status"], &json!({"requestedBy": "me"}))?;
    same("labels", &after["metadata"]["labels"], &json!(null))?;
    same("spec", &after["spec"], &made["spec"])
}

async fn absent_status(c: Ctx) -> Outcome {
    let path = format!("{}/a/status", c.accesses());
    c.apply(&by(&path, "one"), &status_with("Ready", "True"))
        .await?
        .refused(404, "NotFound")
        .map(drop)
}

async fn atomic(c: Ctx) -> Outcome {
    let path = format!("{}/r", c.rbac("roles"));
    c.apply(&by(&path, "one"), &role(json!(["get"])))
        .await?
        .expect(201)?;
    let status = c
        .apply(&by(&path, "two"), &role(json!(["get", "list"])))
        .await?
        .refused(409, "Conflict")?;
    same("field", &status["details"]["causes"][0]["field"], ".rules")
}

async fn finalizers(c: Ctx) -> Outcome {
    let with = |name: &str| {
        let mut map = config_map("a", json!({}));
        map["metadata"]["finalizers"] = json!([name]);
        map
    };
    c.apply(&by(&c.map("a"), "one"), &with("x.dev/one"))
        .await?
        .expect(201)?;
    let both = c
        .apply(&by(&c.map("a"), "two"), &with("x.dev/two"))
        .await?
        .expect(200)?;
    same(
        "finalizers",
        &both["metadata"]["finalizers"],
        &json!(["x.dev/one", "x.dev/two"]),
    )?;
    let left = apply(&c, "one", json!({})).await?.expect(200)?;
    same(
        "finalizers left",
        &left["metadata"]["finalizers"],
        &json!(["x.dev/two"]),
    )?;
    apply(&c, "two", json!({})).await?.expect(200).map(drop)
}

async fn owner_references(c: Ctx) -> Outcome {
    let mut references = Vec::new();
    for name in ["first", "second"] {
        let owner = c
            .post(&c.maps(), &config_map(name, json!({})))
            .await?
            .expect(201)?;
        references.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner["metadata"]["uid"]}));
    }
    for (manager, reference) in ["one", "two"].iter().zip(&references) {
        let mut map = config_map("a", json!({}));
        map["metadata"]["ownerReferences"] = json!([reference]);
        let code = c.apply(&by(&c.map("a"), manager), &map).await?.code;
        holds("applied", code == 200 || code == 201)?;
    }
    let both = c.get(&c.map("a")).await?.expect(200)?;
    same(
        "owners",
        &both["metadata"]["ownerReferences"],
        &json!(references),
    )?;
    let left = apply(&c, "one", json!({})).await?.expect(200)?;
    same(
        "owners left",
        &left["metadata"]["ownerReferences"],
        &json!([references[1]]),
    )
}

async fn webhooks(c: Ctx) -> Outcome {
    // It selects a group that nobody serves.
    let name = format!("{}.stint.dev", c.namespace);
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{}",
        c.namespace
    );
    let configuration = |webhook: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": c.namespace}, "webhooks": [webhook]})
    };
    let rules = json!([{"apiGroups": ["nobody.example"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["none"]}]);
    let chart = configuration(
        json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": rules,
        "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/v"}}}),
    );
    let made = c.apply(&by(&path, "chart"), &chart).await?.expect(201)?;
    same("generation", &made["metadata"]["generation"], &json!(1))?;
    same("default", &made["webhooks"][0]["failurePolicy"], "Fail")?;
    same(
        "default port",
        &made["webhooks"][0]["clientConfig"]["service"]["port"],
        &json!(443),
    )?;
    let bundle = "LS0tLS1CRUdJTg==";
    let ca = configuration(json!({"name": name, "clientConfig": {"caBundle": bundle}}));
    let filled = c.apply(&by(&path, "ca"), &ca).await?;
    // A bundle that is no certificate may be refused; then there is nothing to own.
    let outcome = match filled.code {
        200 => {
            same(
                "bundle",
                &filled.body["webhooks"][0]["clientConfig"]["caBundle"],
                bundle,
            )?;
            let kept = c.apply(&by(&path, "chart"), &chart).await?.expect(200)?;
            same(
                "bundle after the chart",
                &kept["webhooks"][0]["clientConfig"]["caBundle"],
                bundle,
            )?;
            same(
                "version after the chart",
                version(&kept),
                version(&filled.body),
            )
        }
        code => Err(format!("answered {code} {}", filled.body)),
    };
    c.delete(&path, &Value::Null).await?.expect(200)?;
    outcome
}

async fn role_ref(c: Ctx) -> Outcome {
    let path = format!("{}/b", c.rbac("rolebindings"));
    c.apply(&by(&path, "one"), &role_binding("b", "r"))
        .await?
        .expect(201)?;
    let status = c
        .apply(&forced(&path, "one"), &role_binding("b", "other"))
        .await?
        .refused(422, "Invalid")?;
    same("field", &status["details"]["causes"][0]["field"], "roleRef")
}

async fn generation(c: Ctx) -> Outcome {
    let path = format!("{}/a", c.accesses());
    let mut wanted = access("a");
    c.apply(&by(&path, "one"), &wanted).await?.expect(201)?;
    wanted["metadata"]["labels"] = json!({"x": "y"});
    let labelled = c.apply(&by(&path, "one"), &wanted).await?.expect(200)?;
    same(
        "generation after labels",
        &labelled["metadata"]["generation"],
        &json!(1),
    )?;
    wanted["spec"]["revoked"] = true.into();
    let changed = c.apply(&by(&path, "one"), &wanted).await?.expect(200)?;
    same(
        "generation after spec",
        &changed["metadata"]["generation"],
        &json!(2),
    )
}

fn status_with(condition: &str, status: &str) -> Value {
    let condition = json!({"type": condition, "status": status, "reason": "R", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({"apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess", "metadata": {"name": "a"},
        "status": {"conditions": [condition]}})
}

fn role(verbs: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]})
}
