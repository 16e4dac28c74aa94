//! DELETE: answers, preconditions, finalizers, collections, namespaces.

use super::{Ctx, Outcome, Row, access, config_map, holds, labelled, same, until};
use futures::FutureExt;
use serde_json::{Value, json};

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "a DELETE answers a Status with the UID", run: |c| status(c).boxed() },
        Row { name: "a DELETE of a ServiceAccount answers the account", run: |c| account(c).boxed() },
        Row { name: "a DELETE of a missing object is 404", run: |c| missing(c).boxed() },
        Row { name: "a DELETE with another UID is 409 and deletes nothing", run: |c| uid(c).boxed() },
        Row { name: "a DELETE with a stale version is 409", run: |c| version(c).boxed() },
        Row { name: "a dry run deletes nothing", run: |c| dry_run(c).boxed() },
        Row { name: "a re-created object has another UID", run: |c| recreated(c).boxed() },
        Row { name: "a finalizer holds a deleted object until it is taken off", run: |c| finalizer(c).boxed() },
        Row { name: "an object that is being deleted takes no new finalizer", run: |c| late_finalizer(c).boxed() },
        Row { name: "the deletion mark counts the generation", run: |c| generation(c).boxed() },
        Row { name: "a collection is deleted by label", run: |c| collection(c).boxed() },
        Row { name: "a namespace that ends refuses new objects, and ends when it is empty", run: |c| namespace(c).boxed() },
    ];
    rows
}

async fn made(c: &Ctx) -> Result<Value, String> {
    c.post(&c.maps(), &config_map("a", json!({})))
        .await?
        .expect(201)
}

async fn status(c: Ctx) -> Outcome {
    let map = made(&c).await?;
    let answer = c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    same("kind", &answer["kind"], "Status")?;
    same("status", &answer["status"], "Success")?;
    let details = json!({"name": "a", "kind": "configmaps", "uid": map["metadata"]["uid"]});
    same("details", &answer["details"], &details)?;
    c.get(&c.map("a")).await?.refused(404, "NotFound").map(drop)
}

async fn account(c: Ctx) -> Outcome {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}});
    c.post(&c.core("serviceaccounts"), &account)
        .await?
        .expect(201)?;
    let path = format!("{}/s", c.core("serviceaccounts"));
    let answer = c.delete(&path, &json!({})).await?.expect(200)?;
    same("kind", &answer["kind"], "ServiceAccount")?;
    same("name", &answer["metadata"]["name"], "s")
}

async fn missing(c: Ctx) -> Outcome {
    let options = json!({"preconditions": {"uid": "11111111-2222-3333-4444-555555555555"}});
    c.delete(&c.map("a"), &options)
        .await?
        .refused(404, "NotFound")
        .map(drop)
}

async fn uid(c: Ctx) -> Outcome {
    let map = made(&c).await?;
    let other = json!({"preconditions": {"uid": "11111111-2222-3333-4444-555555555555"}});
    c.delete(&c.map("a"), &other)
        .await?
        .refused(409, "Conflict")?;
    c.get(&c.map("a")).await?.expect(200)?;
    let own = json!({"preconditions": {"uid": map["metadata"]["uid"]}});
    c.delete(&c.map("a"), &own).await?.expect(200).map(drop)
}

async fn version(c: Ctx) -> Outcome {
    let map = made(&c).await?;
    let after = c
        .merge(&c.map("a"), &json!({"data": {"k": "2"}}))
        .await?
        .expect(200)?;
    let at = |object: &Value| json!({"preconditions": {"resourceVersion": object["metadata"]["resourceVersion"]}});
    c.delete(&c.map("a"), &at(&map))
        .await?
        .refused(409, "Conflict")?;
    c.delete(&c.map("a"), &at(&after))
        .await?
        .expect(200)
        .map(drop)
}

async fn dry_run(c: Ctx) -> Outcome {
    made(&c).await?;
    c.delete(&c.map("a"), &json!({"dryRun": ["All"]}))
        .await?
        .expect(200)?;
    c.get(&c.map("a")).await?.expect(200).map(drop)
}

async fn recreated(c: Ctx) -> Outcome {
    let first = made(&c).await?;
    c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    let second = made(&c).await?;
    holds(
        "the UIDs differ",
        first["metadata"]["uid"] != second["metadata"]["uid"],
    )
}

async fn finalizer(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({}));
    map["metadata"]["finalizers"] = json!(["x.dev/a", "x.dev/b"]);
    c.post(&c.maps(), &map).await?.expect(201)?;
    let marked = c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    same("kind", &marked["kind"], "ConfigMap")?;
    holds(
        "the mark is there",
        marked["metadata"]["deletionTimestamp"].is_string(),
    )?;
    same(
        "grace",
        &marked["metadata"]["deletionGracePeriodSeconds"],
        &json!(0),
    )?;
    let again = c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    same(
        "version after a second DELETE",
        &again["metadata"]["resourceVersion"],
        &marked["metadata"]["resourceVersion"],
    )?;
    let less = c
        .merge(
            &c.map("a"),
            &json!({"metadata": {"finalizers": ["x.dev/b"]}}),
        )
        .await?
        .expect(200)?;
    same(
        "finalizers",
        &less["metadata"]["finalizers"],
        &json!(["x.dev/b"]),
    )?;
    c.merge(&c.map("a"), &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect(200)?;
    c.get(&c.map("a")).await?.refused(404, "NotFound").map(drop)
}

async fn late_finalizer(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({}));
    map["metadata"]["finalizers"] = json!(["x.dev/a"]);
    c.post(&c.maps(), &map).await?.expect(201)?;
    c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    let more = json!({"metadata": {"finalizers": ["x.dev/a", "x.dev/b"]}});
    let status = c.merge(&c.map("a"), &more).await?.refused(422, "Invalid")?;
    same(
        "field",
        &status["details"]["causes"][0]["field"],
        "metadata.finalizers",
    )?;
    c.merge(&c.map("a"), &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect(200)
        .map(drop)
}

async fn generation(c: Ctx) -> Outcome {
    let mut object = access("a");
    object["metadata"]["finalizers"] = json!(["x.dev/a"]);
    c.post(&c.accesses(), &object).await?.expect(201)?;
    let path = format!("{}/a", c.accesses());
    let marked = c.delete(&path, &json!({})).await?.expect(200)?;
    same("generation", &marked["metadata"]["generation"], &json!(2))?;
    c.merge(&path, &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect(200)
        .map(drop)
}

async fn collection(c: Ctx) -> Outcome {
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        c.post(&c.maps(), &labelled(name, json!({"app": app})))
            .await?
            .expect(201)?;
    }
    let path = format!("{}?labelSelector=app%3Dx", c.maps());
    let answer = c.delete(&path, &Value::Null).await?.expect(200)?;
    same("kind", &answer["kind"], "ConfigMapList")?;
    let names: Vec<&Value> = answer["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|i| &i["metadata"]["name"])
        .collect();
    same("deleted", names, vec![&json!("a"), &json!("b")])?;
    c.get(&c.map("a")).await?.refused(404, "NotFound")?;
    c.get(&c.map("c")).await?.expect(200).map(drop)
}

async fn namespace(c: Ctx) -> Outcome {
    // The finalizer keeps the namespace from ending before the row has looked.
    let mut map = config_map("held", json!({}));
    map["metadata"]["finalizers"] = json!(["x.dev/a"]);
    c.post(&c.maps(), &map).await?.expect(201)?;
    let path = format!("/api/v1/namespaces/{}", c.namespace);
    let marked = c.delete(&path, &json!({})).await?.expect(200)?;
    same("phase", &marked["status"]["phase"], "Terminating")?;
    let status = c
        .post(&c.maps(), &config_map("late", json!({})))
        .await?
        .refused(403, "Forbidden")?;
    same(
        "cause",
        &status["details"]["causes"][0]["reason"],
        "NamespaceTerminating",
    )?;
    until("the content is marked", || async {
        let held = c.get(&c.map("held")).await?.expect(200)?;
        Ok(held["metadata"]["deletionTimestamp"]
            .is_string()
            .then_some(()))
    })
    .await?;
    c.merge(&c.map("held"), &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect(200)?;
    until("the namespace is gone", || async {
        Ok((c.get(&path).await?.code == 404).then_some(()))
    })
    .await
}
