//! PUT and PATCH: versions, what may change, generations and the status split.

use super::{Ctx, Outcome, Row, access, config_map, holds, job, role_binding, same};
use futures::FutureExt;
use serde_json::{Value, json};

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "a PUT with the current version is kept under a later one", run: |c| put(c).boxed() },
        Row { name: "a PUT with a stale version is 409 Conflict", run: |c| stale_put(c).boxed() },
        Row { name: "a PUT without version overwrites a ConfigMap", run: |c| blind_put(c).boxed() },
        Row { name: "a PUT without version of a custom resource is 422", run: |c| blind_custom_put(c).boxed() },
        Row { name: "a PUT with another UID is 409", run: |c| uid_put(c).boxed() },
        Row { name: "a PUT of what is there keeps the version", run: |c| same_put(c).boxed() },
        Row { name: "a PUT to an absent ConfigMap is 404", run: |c| absent_put(c).boxed() },
        Row { name: "a PUT to an absent Role creates it", run: |c| creating_put(c).boxed() },
        Row { name: "a PUT under another name is 400", run: |c| misnamed_put(c).boxed() },
        Row { name: "a merge patch with a stale version is 409 Conflict", run: |c| stale_patch(c).boxed() },
        Row { name: "a merge patch to an absent object is 404", run: |c| absent_patch(c).boxed() },
        Row { name: "a merge patch removes with null and keeps the rest", run: |c| null_patch(c).boxed() },
        Row { name: "a merge patch that changes nothing keeps the version", run: |c| idle_patch(c).boxed() },
        Row { name: "a merge patch of the UID is 422", run: |c| uid_patch(c).boxed() },
        Row { name: "a merge patch of the creation time is ignored", run: |c| created_patch(c).boxed() },
        Row { name: "a JSON patch is all or nothing, and a failed test is 422", run: |c| json_patch(c).boxed() },
        Row { name: "an unknown patch type is 415", run: |c| odd_patch(c).boxed() },
        Row { name: "the roleRef of a RoleBinding is immutable", run: |c| role_ref(c).boxed() },
        Row { name: "the template of a Job is immutable, its deadline is not", run: |c| job_template(c).boxed() },
    ];
    rows
}

pub(super) fn version(object: &Value) -> Result<u64, String> {
    let text = object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    text.parse()
        .map_err(|_| format!("resourceVersion {text:?}"))
}

async fn made(c: &Ctx) -> Result<Value, String> {
    c.post(&c.maps(), &config_map("a", json!({"k": "1", "l": "1"})))
        .await?
        .expect(201)
}

async fn put(c: Ctx) -> Outcome {
    let mut map = made(&c).await?;
    let before = version(&map)?;
    map["data"]["k"] = "2".into();
    let after = c.put(&c.map("a"), &map).await?.expect(200)?;
    same("data", &after["data"]["k"], "2")?;
    holds("the version is later", version(&after)? > before)
}

async fn stale_put(c: Ctx) -> Outcome {
    let mut map = made(&c).await?;
    c.merge(&c.map("a"), &json!({"data": {"k": "2"}}))
        .await?
        .expect(200)?;
    map["data"]["k"] = "3".into();
    let status = c.put(&c.map("a"), &map).await?.refused(409, "Conflict")?;
    same(
        "details",
        &status["details"],
        &json!({"name": "a", "kind": "configmaps"}),
    )?;
    let kept = c.get(&c.map("a")).await?.expect(200)?;
    same("data", &kept["data"]["k"], "2")
}

async fn blind_put(c: Ctx) -> Outcome {
    made(&c).await?;
    let after = c
        .put(&c.map("a"), &config_map("a", json!({"z": "1"})))
        .await?
        .expect(200)?;
    same("data", &after["data"], &json!({"z": "1"}))
}

async fn blind_custom_put(c: Ctx) -> Outcome {
    c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let status = c
        .put(&format!("{}/a", c.accesses()), &access("a"))
        .await?
        .refused(422, "Invalid")?;
    same(
        "field",
        &status["details"]["causes"][0]["field"],
        "metadata.resourceVersion",
    )
}

async fn uid_put(c: Ctx) -> Outcome {
    let mut map = made(&c).await?;
    map["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    map["metadata"]["resourceVersion"] = Value::Null;
    c.put(&c.map("a"), &map)
        .await?
        .refused(409, "Conflict")
        .map(drop)
}

async fn same_put(c: Ctx) -> Outcome {
    let map = made(&c).await?;
    let after = c.put(&c.map("a"), &map).await?.expect(200)?;
    same("version", version(&after)?, version(&map)?)
}

async fn absent_put(c: Ctx) -> Outcome {
    c.put(&c.map("a"), &config_map("a", json!({})))
        .await?
        .refused(404, "NotFound")
        .map(drop)
}

async fn creating_put(c: Ctx) -> Outcome {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    c.put(&format!("{}/r", c.rbac("roles")), &role)
        .await?
        .expect(201)
        .map(drop)
}

async fn misnamed_put(c: Ctx) -> Outcome {
    made(&c).await?;
    c.put(&c.map("a"), &config_map("b", json!({})))
        .await?
        .refused(400, "BadRequest")
        .map(drop)
}

async fn stale_patch(c: Ctx) -> Outcome {
    let map = made(&c).await?;
    c.merge(&c.map("a"), &json!({"data": {"k": "2"}}))
        .await?
        .expect(200)?;
    let patch = json!({"metadata": {"resourceVersion": map["metadata"]["resourceVersion"]}, "data": {"k": "3"}});
    c.merge(&c.map("a"), &patch)
        .await?
        .refused(409, "Conflict")
        .map(drop)
}

async fn absent_patch(c: Ctx) -> Outcome {
    c.merge(&c.map("a"), &json!({}))
        .await?
        .refused(404, "NotFound")
        .map(drop)
}

async fn null_patch(c: Ctx) -> Outcome {
    made(&c).await?;
    let after = c
        .merge(&c.map("a"), &json!({"data": {"k": null}}))
        .await?
        .expect(200)?;
    same("data", &after["data"], &json!({"l": "1"}))
}

async fn idle_patch(c: Ctx) -> Outcome {
    let map = made(&c).await?;
    let after = c
        .merge(&c.map("a"), &json!({"data": {"k": "1"}}))
        .await?
        .expect(200)?;
    same("version", version(&after)?, version(&map)?)
}

async fn uid_patch(c: Ctx) -> Outcome {
    made(&c).await?;
    let patch = json!({"metadata": {"uid": "11111111-2222-3333-4444-555555555555"}});
    let status = c
        .merge(&c.map("a"), &patch)
        .await?
        .refused(422, "Invalid")?;
    same(
        "field",
        &status["details"]["causes"][0]["field"],
        "metadata.uid",
    )
}

async fn created_patch(c: Ctx) -> Outcome {
    let map = made(&c).await?;
    let patch = json!({"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z"}});
    let after = c.merge(&c.map("a"), &patch).await?.expect(200)?;
    same(
        "time",
        &after["metadata"]["creationTimestamp"],
        &map["metadata"]["creationTimestamp"],
    )
}

async fn json_patch(c: Ctx) -> Outcome {
    made(&c).await?;
    let media = "application/json-patch+json";
    let replace = json!({"op": "replace", "path": "/data/k", "value": "2"});
    let wrong = json!([replace, {"op": "test", "path": "/data/l", "value": "9"}]);
    c.patch(&c.map("a"), media, &wrong)
        .await?
        .refused(422, "Invalid")?;
    let kept = c.get(&c.map("a")).await?.expect(200)?;
    same("data after a failed test", &kept["data"]["k"], "1")?;
    let right = json!([{"op": "test", "path": "/data/l", "value": "1"}, replace]);
    let after = c.patch(&c.map("a"), media, &right).await?.expect(200)?;
    same("data", &after["data"]["k"], "2")?;
    let nothing = json!([{"op": "remove", "path": "/data/missing"}]);
    c.patch(&c.map("a"), media, &nothing)
        .await?
        .refused(422, "Invalid")
        .map(drop)
}

async fn odd_patch(c: Ctx) -> Outcome {
    made(&c).await?;
    c.patch(&c.map("a"), "application/odd", &json!({}))
        .await?
        .refused(415, "UnsupportedMediaType")
        .map(drop)
}

async fn role_ref(c: Ctx) -> Outcome {
    c.post(&c.rbac("rolebindings"), &role_binding("b", "r"))
        .await?
        .expect(201)?;
    let path = format!("{}/b", c.rbac("rolebindings"));
    let status = c
        .merge(&path, &json!({"roleRef": {"name": "other"}}))
        .await?
        .refused(422, "Invalid")?;
    same("field", &status["details"]["causes"][0]["field"], "roleRef")?;
    let subjects = json!([{"kind": "ServiceAccount", "name": "t", "namespace": "n"}]);
    c.merge(&path, &json!({"subjects": subjects}))
        .await?
        .expect(200)
        .map(drop)
}

async fn job_template(c: Ctx) -> Outcome {
    c.post(&c.jobs(), &job("j", json!({"activeDeadlineSeconds": 3600})))
        .await?
        .expect(201)?;
    let path = format!("{}/j", c.jobs());
    let patch = json!({"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}});
    let status = c.merge(&path, &patch).await?.refused(422, "Invalid")?;
    same(
        "field",
        &status["details"]["causes"][0]["field"],
        "spec.template",
    )?;
    let longer = c
        .merge(&path, &json!({"spec": {"activeDeadlineSeconds": 7200}}))
        .await?
        .expect(200)?;
    same(
        "deadline",
        &longer["spec"]["activeDeadlineSeconds"],
        &json!(7200),
    )?;
    same("generation", &longer["metadata"]["generation"], &json!(2))
}
