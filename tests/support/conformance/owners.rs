//! What kube-controller-manager does: garbage collection by owner, Job deadlines and the TTL of finished Jobs.

use super::{Ctx, Outcome, Row, config_map, holds, job, same, until};
use futures::FutureExt;
use serde_json::{Value, json};

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "dependents go after their owner", run: |c| background(c).boxed() },
        Row { name: "an object goes whose owner never existed", run: |c| never_existed(c).boxed() },
        Row { name: "an object goes whose owner was replaced under the same name", run: |c| other_uid(c).boxed() },
        Row { name: "a cascade reaches the second level", run: |c| two_levels(c).boxed() },
        Row { name: "an object with another owner stays and loses the reference", run: |c| two_owners(c).boxed() },
        Row { name: "propagation Orphan keeps dependents and takes the reference off", run: |c| orphan(c).boxed() },
        Row { name: "propagation Foreground waits for blocking dependents", run: |c| foreground(c).boxed() },
        Row { name: "a DELETE of a Job without propagation orphans its dependents", run: |c| job_orphans(c).boxed() },
        Row { name: "a Job fails at its deadline and stays without a TTL", run: |c| deadline(c).boxed() },
        Row { name: "a failed Job with TTL 0 goes, and its dependents after it", run: |c| ttl(c).boxed() },
        Row { name: "a shortened deadline counts from the start of the Job", run: |c| shortened(c).boxed() },
        Row { name: "a Job without a deadline runs on", run: |c| no_deadline(c).boxed() },
    ];
    rows
}

fn reference(owner: &Value, blocks: bool) -> Value {
    json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks})
}

async fn made(c: &Ctx, name: &str, owners: Value) -> Result<Value, String> {
    let mut map = config_map(name, json!({}));
    map["metadata"]["ownerReferences"] = owners;
    c.post(&c.maps(), &map).await?.expect(201)
}

async fn gone(c: &Ctx, path: &str) -> Outcome {
    until(&format!("{path} is gone"), || async {
        Ok((c.get(path).await?.code == 404).then_some(()))
    })
    .await
}

async fn background(c: Ctx) -> Outcome {
    let owner = made(&c, "owner", json!([])).await?;
    made(&c, "child", json!([reference(&owner, false)])).await?;
    let answer = c
        .delete(&c.map("owner"), &json!({"propagationPolicy": "Background"}))
        .await?
        .expect(200)?;
    same("kind of the answer", &answer["kind"], "Status")?;
    gone(&c, &c.map("child")).await
}

async fn never_existed(c: Ctx) -> Outcome {
    let nobody = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "nobody", "uid": "11111111-2222-3333-4444-555555555555"}});
    made(&c, "child", json!([reference(&nobody, false)])).await?;
    gone(&c, &c.map("child")).await
}

async fn other_uid(c: Ctx) -> Outcome {
    let mut owner = made(&c, "owner", json!([])).await?;
    owner["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    made(&c, "child", json!([reference(&owner, false)])).await?;
    gone(&c, &c.map("child")).await
}

async fn two_levels(c: Ctx) -> Outcome {
    let owner = made(&c, "owner", json!([])).await?;
    let child = made(&c, "child", json!([reference(&owner, false)])).await?;
    made(&c, "grandchild", json!([reference(&child, false)])).await?;
    c.delete(&c.map("owner"), &json!({})).await?.expect(200)?;
    gone(&c, &c.map("grandchild")).await
}

async fn two_owners(c: Ctx) -> Outcome {
    let first = made(&c, "first", json!([])).await?;
    let second = made(&c, "second", json!([])).await?;
    made(
        &c,
        "child",
        json!([reference(&first, false), reference(&second, false)]),
    )
    .await?;
    c.delete(&c.map("first"), &json!({})).await?.expect(200)?;
    let left = until("the reference to the first owner is off", || async {
        let child = c.get(&c.map("child")).await?.expect(200)?;
        let owners = child["metadata"]["ownerReferences"].clone();
        Ok((owners.as_array().map(Vec::len) == Some(1)).then_some(owners))
    })
    .await?;
    same("owner", &left[0]["name"], "second")
}

async fn orphan(c: Ctx) -> Outcome {
    let owner = made(&c, "owner", json!([])).await?;
    made(&c, "child", json!([reference(&owner, true)])).await?;
    let marked = c
        .delete(&c.map("owner"), &json!({"propagationPolicy": "Orphan"}))
        .await?
        .expect(200)?;
    same(
        "finalizers",
        &marked["metadata"]["finalizers"],
        &json!(["orphan"]),
    )?;
    gone(&c, &c.map("owner")).await?;
    let child = c.get(&c.map("child")).await?.expect(200)?;
    same(
        "owners",
        &child["metadata"]["ownerReferences"],
        &json!(null),
    )
}

async fn foreground(c: Ctx) -> Outcome {
    let owner = made(&c, "owner", json!([])).await?;
    let mut child = config_map("child", json!({}));
    child["metadata"]["ownerReferences"] = json!([reference(&owner, true)]);
    child["metadata"]["finalizers"] = json!(["x.dev/a"]);
    c.post(&c.maps(), &child).await?.expect(201)?;
    let marked = c
        .delete(&c.map("owner"), &json!({"propagationPolicy": "Foreground"}))
        .await?
        .expect(200)?;
    same(
        "finalizers",
        &marked["metadata"]["finalizers"],
        &json!(["foregroundDeletion"]),
    )?;
    until("the child is marked", || async {
        let child = c.get(&c.map("child")).await?.expect(200)?;
        Ok(child["metadata"]["deletionTimestamp"]
            .is_string()
            .then_some(()))
    })
    .await?;
    c.get(&c.map("owner")).await?.expect(200)?;
    c.merge(&c.map("child"), &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect(200)?;
    gone(&c, &c.map("owner")).await
}

async fn job_orphans(c: Ctx) -> Outcome {
    let owner = c.post(&c.jobs(), &job("j", json!({}))).await?.expect(201)?;
    made(&c, "child", json!([reference(&owner, false)])).await?;
    let path = format!("{}/j", c.jobs());
    let marked = c.delete(&path, &json!({})).await?.expect(200)?;
    same(
        "finalizers",
        &marked["metadata"]["finalizers"],
        &json!(["orphan"]),
    )?;
    gone(&c, &path).await?;
    let child = c.get(&c.map("child")).await?.expect(200)?;
    same(
        "owners",
        &child["metadata"]["ownerReferences"],
        &json!(null),
    )
}

async fn failed(c: &Ctx, name: &str) -> Result<Value, String> {
    let path = format!("{}/{name}", c.jobs());
    until("the Job has failed", || async {
        let job = c.get(&path).await?.expect(200)?;
        let conditions = job["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let failed = conditions
            .iter()
            .any(|c| c["type"] == "Failed" && c["status"] == "True");
        Ok(failed.then_some(job))
    })
    .await
}

fn seconds_until_failure(job: &Value) -> Result<i64, String> {
    let time = |v: &Value| {
        let text = v.as_str().unwrap_or_default();
        text.parse::<jiff::Timestamp>()
            .map_err(|e| format!("{text:?}: {e}"))
    };
    let mut conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    let failed = conditions
        .find(|c| c["type"] == "Failed")
        .unwrap_or(&Value::Null);
    let (start, end) = (
        time(&job["status"]["startTime"])?,
        time(&failed["lastTransitionTime"])?,
    );
    Ok(end.duration_since(start).as_secs())
}

async fn deadline(c: Ctx) -> Outcome {
    c.post(&c.jobs(), &job("j", json!({"activeDeadlineSeconds": 2})))
        .await?
        .expect(201)?;
    let job = failed(&c, "j").await?;
    let conditions = job["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let types: Vec<&Value> = conditions.iter().map(|c| &c["type"]).collect();
    same(
        "conditions",
        types,
        vec![&json!("FailureTarget"), &json!("Failed")],
    )?;
    same("reason", &conditions[1]["reason"], "DeadlineExceeded")?;
    holds("not before the deadline", seconds_until_failure(&job)? >= 2)?;
    same("generation", &job["metadata"]["generation"], &json!(1))
}

async fn ttl(c: Ctx) -> Outcome {
    let spec = json!({"activeDeadlineSeconds": 2, "ttlSecondsAfterFinished": 0});
    let owner = c.post(&c.jobs(), &job("j", spec)).await?.expect(201)?;
    made(&c, "blocking", json!([reference(&owner, true)])).await?;
    made(&c, "free", json!([reference(&owner, false)])).await?;
    gone(&c, &format!("{}/j", c.jobs())).await?;
    c.get(&c.map("blocking")).await?.refused(404, "NotFound")?;
    gone(&c, &c.map("free")).await
}

async fn shortened(c: Ctx) -> Outcome {
    c.post(&c.jobs(), &job("j", json!({"activeDeadlineSeconds": 3600})))
        .await?
        .expect(201)?;
    let path = format!("{}/j", c.jobs());
    until("the Job has a start", || async {
        let job = c.get(&path).await?.expect(200)?;
        Ok(job["status"]["startTime"].is_string().then_some(()))
    })
    .await?;
    c.merge(&path, &json!({"spec": {"activeDeadlineSeconds": 1}}))
        .await?
        .expect(200)?;
    let job = failed(&c, "j").await?;
    same("generation", &job["metadata"]["generation"], &json!(2))
}

async fn no_deadline(c: Ctx) -> Outcome {
    c.post(&c.jobs(), &job("j", json!({}))).await?.expect(201)?;
    c.post(&c.jobs(), &job("k", json!({"activeDeadlineSeconds": 2})))
        .await?
        .expect(201)?;
    failed(&c, "k").await?;
    let other = c.get(&format!("{}/j", c.jobs())).await?.expect(200)?;
    same("conditions", &other["status"]["conditions"], &json!(null))
}
