//! Spec and status: generations and the status subresource.

use super::{Ctx, Outcome, Row, access, job, same, updates::version};
use futures::FutureExt;
use serde_json::{Value, json};

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "only a changed spec counts the generation", run: |c| generation(c).boxed() },
        Row { name: "a write to the main resource leaves status alone", run: |c| main_write(c).boxed() },
        Row { name: "a write to /status of a custom resource leaves all else alone", run: |c| status_write(c).boxed() },
        Row { name: "a PUT to /status needs the current version", run: |c| stale_status(c).boxed() },
        Row { name: "a write to /status of a Job leaves spec alone and takes labels", run: |c| job_status(c).boxed() },
        Row { name: "/status of a kind without it is 404", run: |c| no_status(c).boxed() },
        Row { name: "conditions come back as they were written", run: |c| conditions(c).boxed() },
    ];
    rows
}

async fn generation(c: Ctx) -> Outcome {
    c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let path = format!("{}/a", c.accesses());
    let steps = [
        (
            "labels",
            path.clone(),
            json!({"metadata": {"labels": {"x": "y"}}}),
            1,
        ),
        (
            "status",
            format!("{path}/status"),
            json!({"status": {"requestedBy": "me"}}),
            1,
        ),
        ("spec", path.clone(), json!({"spec": {"revoked": true}}), 2),
        (
            "the same spec",
            path.clone(),
            json!({"spec": {"revoked": true}}),
            2,
        ),
    ];
    for (what, path, patch, expected) in steps {
        let after = c.merge(&path, &patch).await?.expect(200)?;
        same(
            &format!("generation after {what}"),
            &after["metadata"]["generation"],
            &json!(expected),
        )?;
    }
    Ok(())
}

async fn main_write(c: Ctx) -> Outcome {
    c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let path = format!("{}/a", c.accesses());
    c.merge(
        &format!("{path}/status"),
        &json!({"status": {"requestedBy": "me"}}),
    )
    .await?
    .expect(200)?;
    let patch = json!({"metadata": {"labels": {"x": "y"}}, "status": {"requestedBy": "you"}});
    let after = c.merge(&path, &patch).await?.expect(200)?;
    same("label", &after["metadata"]["labels"]["x"], "y")?;
    same("status", &after["status"], &json!({"requestedBy": "me"}))?;
    let mut whole = after.clone();
    whole["status"] = Value::Null;
    let put = c.put(&path, &whole).await?.expect(200)?;
    same(
        "status after a PUT without it",
        &put["status"],
        &json!({"requestedBy": "me"}),
    )?;
    same(
        "version of a PUT that changed status only",
        version(&put)?,
        version(&after)?,
    )
}

async fn status_write(c: Ctx) -> Outcome {
    c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let patch = json!({"metadata": {"labels": {"x": "y"}, "annotations": {"x": "y"}, "finalizers": ["x.dev/y"]},
        "spec": {"revoked": true}, "status": {"requestedBy": "me"}});
    let after = c
        .merge(&format!("{}/a/status", c.accesses()), &patch)
        .await?
        .expect(200)?;
    same("status", &after["status"], &json!({"requestedBy": "me"}))?;
    same("spec", &after["spec"]["revoked"], &json!(null))?;
    for field in ["labels", "annotations", "finalizers"] {
        same(field, &after["metadata"][field], &json!(null))?;
    }
    Ok(())
}

async fn stale_status(c: Ctx) -> Outcome {
    let mut object = c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let path = format!("{}/a/status", c.accesses());
    object["status"] = json!({"requestedBy": "me"});
    c.put(&path, &object).await?.expect(200)?;
    object["status"] = json!({"requestedBy": "you"});
    c.put(&path, &object)
        .await?
        .refused(409, "Conflict")
        .map(drop)
}

async fn job_status(c: Ctx) -> Outcome {
    // Suspended, so that no controller writes to it meanwhile.
    c.post(&c.jobs(), &job("j", json!({"suspend": true})))
        .await?
        .expect(201)?;
    let patch = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"activeDeadlineSeconds": 9}});
    let after = c
        .merge(&format!("{}/j/status", c.jobs()), &patch)
        .await?
        .expect(200)?;
    same(
        "spec",
        &after["spec"]["activeDeadlineSeconds"],
        &json!(null),
    )?;
    same("label", &after["metadata"]["labels"]["x"], "y")?;
    same("generation", &after["metadata"]["generation"], &json!(1))?;
    let main = json!({"status": {"failed": 7}});
    let after = c
        .merge(&format!("{}/j", c.jobs()), &main)
        .await?
        .expect(200)?;
    same("status", &after["status"]["failed"], &json!(null))
}

async fn no_status(c: Ctx) -> Outcome {
    let all = format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
        c.namespace
    );
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "a"}, "rules": []});
    c.post(&all, &role).await?.expect(201)?;
    let refused = c
        .merge(&format!("{all}/a/status"), &json!({"status": {}}))
        .await?;
    same("answer for /status", refused.code, 404)
}

async fn conditions(c: Ctx) -> Outcome {
    c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let condition = json!({"type": "Ready", "status": "True", "reason": "Active", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1});
    let status = json!({"conditions": [condition], "observedGeneration": 1});
    let path = format!("{}/a/status", c.accesses());
    let after = c
        .merge(&path, &json!({"status": status}))
        .await?
        .expect(200)?;
    same("status", &after["status"], &status)
}
