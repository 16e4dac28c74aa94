//! Watches: where they start, what they show, how they end.

use super::{Ctx, Outcome, Row, access, config_map, holds, http::Watch, labelled, same};
use futures::FutureExt;
use serde_json::{Value, json};

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "a watch from a list shows what comes after it", run: |c| from_list(c).boxed() },
        Row { name: "a watch without a version starts with what is there", run: |c| from_nothing(c).boxed() },
        Row { name: "a watch resumes in the middle", run: |c| resume(c).boxed() },
        Row { name: "a deletion shows the last state under a new version", run: |c| deletion(c).boxed() },
        Row { name: "a write that changes nothing is no event", run: |c| idle_write(c).boxed() },
        Row { name: "an object that enters or leaves the label selection is added or deleted", run: |c| selection(c).boxed() },
        Row { name: "a watch by name shows that object only", run: |c| by_name(c).boxed() },
        Row { name: "a finalizer makes a deletion a change first", run: |c| finalizer(c).boxed() },
        Row { name: "a watch ends at its timeout, after a bookmark if asked for", run: |c| bookmark(c).boxed() },
        Row { name: "sendInitialEvents ends the present state with a marked bookmark", run: |c| initial(c).boxed() },
        Row { name: "sendInitialEvents needs a resourceVersionMatch", run: |c| initial_unmatched(c).boxed() },
        Row { name: "a watch from before the history is an ERROR event with 410", run: |c| too_old(c).boxed() },
        Row { name: "a watch shows metadata only", run: |c| metadata(c).boxed() },
        Row { name: "a write to /status is an event of the main resource", run: |c| status(c).boxed() },
    ];
    rows
}

fn version(object: &Value) -> Result<u64, String> {
    let text = object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    text.parse()
        .map_err(|_| format!("resourceVersion {text:?}"))
}

/// Version of the namespace's list of ConfigMaps, where a watch can start.
async fn here(c: &Ctx) -> Result<String, String> {
    let list = c.get(&c.maps()).await?.expect(200)?;
    Ok(version(&list)?.to_string())
}

/// Only objects with the label `mine`, so that what controllers put into every namespace is not seen.
async fn watch_mine(c: &Ctx, from: &str, more: &str) -> Result<Watch, String> {
    let path = format!(
        "{}?labelSelector=mine&resourceVersion={from}{more}",
        c.maps()
    );
    c.watch(&path).await
}

fn mine(name: &str) -> Value {
    labelled(name, json!({"mine": "1"}))
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.into(), name.into())
}

async fn from_list(c: Ctx) -> Outcome {
    c.post(&c.maps(), &mine("before")).await?.expect(201)?;
    let from = here(&c).await?;
    let mut watch = watch_mine(&c, &from, "").await?;
    let made = c.post(&c.maps(), &mine("a")).await?.expect(201)?;
    c.merge(&c.map("a"), &json!({"data": {"k": "1"}}))
        .await?
        .expect(200)?;
    c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    let first = watch.event().await?;
    same("first", &first["type"], "ADDED")?;
    same("kind", &first["object"]["kind"], "ConfigMap")?;
    same("version", version(&first["object"])?, version(&made)?)?;
    same("second", watch.seen().await?, event("MODIFIED", "a"))?;
    same("third", watch.seen().await?, event("DELETED", "a"))
}

async fn from_nothing(c: Ctx) -> Outcome {
    c.post(&c.maps(), &mine("a")).await?.expect(201)?;
    let mut watch = c.watch(&format!("{}?labelSelector=mine", c.maps())).await?;
    same("first", watch.seen().await?, event("ADDED", "a"))?;
    c.post(&c.maps(), &mine("b")).await?.expect(201)?;
    same("second", watch.seen().await?, event("ADDED", "b"))
}

async fn resume(c: Ctx) -> Outcome {
    let a = c.post(&c.maps(), &mine("a")).await?.expect(201)?;
    c.post(&c.maps(), &mine("b")).await?.expect(201)?;
    c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    let mut watch = watch_mine(&c, &version(&a)?.to_string(), "").await?;
    same("first", watch.seen().await?, event("ADDED", "b"))?;
    same("second", watch.seen().await?, event("DELETED", "a"))
}

async fn deletion(c: Ctx) -> Outcome {
    let from = here(&c).await?;
    let mut made = mine("a");
    made["data"] = json!({"k": "last"});
    let made = c.post(&c.maps(), &made).await?.expect(201)?;
    c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    let mut watch = watch_mine(&c, &from, "").await?;
    watch.event().await?;
    let deleted = watch.event().await?;
    same("type", &deleted["type"], "DELETED")?;
    same("data", &deleted["object"]["data"]["k"], "last")?;
    same(
        "UID",
        &deleted["object"]["metadata"]["uid"],
        &made["metadata"]["uid"],
    )?;
    holds(
        "the version is later",
        version(&deleted["object"])? > version(&made)?,
    )
}

async fn idle_write(c: Ctx) -> Outcome {
    let from = here(&c).await?;
    c.post(&c.maps(), &mine("a")).await?.expect(201)?;
    c.merge(&c.map("a"), &json!({"metadata": {"labels": {"mine": "1"}}}))
        .await?
        .expect(200)?;
    c.post(&c.maps(), &mine("b")).await?.expect(201)?;
    let mut watch = watch_mine(&c, &from, "").await?;
    same("first", watch.seen().await?, event("ADDED", "a"))?;
    same("second", watch.seen().await?, event("ADDED", "b"))
}

async fn selection(c: Ctx) -> Outcome {
    let from = here(&c).await?;
    let mut watch = watch_mine(&c, &from, "").await?;
    let mut map = config_map("a", json!({"k": "1"}));
    c.post(&c.maps(), &map).await?.expect(201)?;
    c.merge(&c.map("a"), &json!({"metadata": {"labels": {"mine": "1"}}}))
        .await?
        .expect(200)?;
    let added = watch.event().await?;
    same("entering", &added["type"], "ADDED")?;
    map["data"]["k"] = "2".into();
    // The PUT takes the label away.
    let left = c.put(&c.map("a"), &map).await?.expect(200)?;
    let deleted = watch.event().await?;
    same("leaving", &deleted["type"], "DELETED")?;
    same("data", &deleted["object"]["data"]["k"], "1")?;
    same(
        "label",
        &deleted["object"]["metadata"]["labels"]["mine"],
        "1",
    )?;
    same("version", version(&deleted["object"])?, version(&left)?)
}

async fn by_name(c: Ctx) -> Outcome {
    let from = here(&c).await?;
    let path = format!(
        "{}?fieldSelector=metadata.name%3Db&resourceVersion={from}",
        c.maps()
    );
    let mut watch = c.watch(&path).await?;
    for name in ["a", "b"] {
        c.post(&c.maps(), &mine(name)).await?.expect(201)?;
    }
    same("first", watch.seen().await?, event("ADDED", "b"))
}

async fn finalizer(c: Ctx) -> Outcome {
    let from = here(&c).await?;
    let mut map = mine("a");
    map["metadata"]["finalizers"] = json!(["x.dev/a"]);
    c.post(&c.maps(), &map).await?.expect(201)?;
    c.delete(&c.map("a"), &json!({})).await?.expect(200)?;
    c.merge(&c.map("a"), &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect(200)?;
    let mut watch = watch_mine(&c, &from, "").await?;
    same("first", watch.seen().await?, event("ADDED", "a"))?;
    let marked = watch.event().await?;
    same("second", &marked["type"], "MODIFIED")?;
    holds(
        "marked",
        marked["object"]["metadata"]["deletionTimestamp"].is_string(),
    )?;
    let last = watch.event().await?;
    same("third", &last["type"], "DELETED")?;
    same(
        "last finalizers",
        &last["object"]["metadata"]["finalizers"],
        &json!(["x.dev/a"]),
    )
}

async fn bookmark(c: Ctx) -> Outcome {
    let from = here(&c).await?;
    let mut watch = watch_mine(&c, &from, "&allowWatchBookmarks=true&timeoutSeconds=6").await?;
    let bookmark = watch.event().await?;
    same("type", &bookmark["type"], "BOOKMARK")?;
    same("kind", &bookmark["object"]["kind"], "ConfigMap")?;
    holds(
        "it is not behind",
        version(&bookmark["object"])? >= from.parse().unwrap_or(u64::MAX),
    )?;
    same(
        "name",
        &bookmark["object"]["metadata"]["name"],
        &json!(null),
    )?;
    while let Some(event) = watch.next().await? {
        same("all there is", &event["type"], "BOOKMARK")?;
    }
    let mut silent = watch_mine(&c, &from, "&timeoutSeconds=3").await?;
    same("without bookmarks", silent.next().await?, None)
}

async fn initial(c: Ctx) -> Outcome {
    for name in ["a", "b"] {
        c.post(&c.maps(), &mine(name)).await?.expect(201)?;
    }
    let more = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = watch_mine(&c, "", more).await?;
    same("first", watch.seen().await?, event("ADDED", "a"))?;
    same("second", watch.seen().await?, event("ADDED", "b"))?;
    let bookmark = watch.event().await?;
    same("third", &bookmark["type"], "BOOKMARK")?;
    let mark = &bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
    same("mark", mark, "true")?;
    c.post(&c.maps(), &mine("c")).await?.expect(201)?;
    same("fourth", watch.seen().await?, event("ADDED", "c"))
}

async fn initial_unmatched(c: Ctx) -> Outcome {
    let path = format!("{}?watch=true&sendInitialEvents=true", c.maps());
    let status = c.get(&path).await?.refused(422, "Invalid")?;
    same(
        "field",
        &status["details"]["causes"][0]["field"],
        "resourceVersionMatch",
    )
}

/// The watch cache of a custom resource begins when its definition is installed, long after version 1.
async fn too_old(c: Ctx) -> Outcome {
    c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let mut watch = c
        .watch(&format!("{}?resourceVersion=1", c.accesses()))
        .await?;
    let error = watch.event().await?;
    same("type", &error["type"], "ERROR")?;
    same("code", &error["object"]["code"], &json!(410))?;
    same("reason", &error["object"]["reason"], "Expired")?;
    same("end", watch.next().await?, None)
}

async fn metadata(c: Ctx) -> Outcome {
    let from = here(&c).await?;
    let mut map = mine("a");
    map["data"] = json!({"k": "1"});
    c.post(&c.maps(), &map).await?.expect(201)?;
    let path = format!("{}?labelSelector=mine&resourceVersion={from}", c.maps());
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let added = c.watch_as(&path, accept).await?.event().await?;
    same("kind", &added["object"]["kind"], "PartialObjectMetadata")?;
    same("label", &added["object"]["metadata"]["labels"]["mine"], "1")?;
    same("data", &added["object"]["data"], &json!(null))
}

async fn status(c: Ctx) -> Outcome {
    let made = c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let path = format!("{}?resourceVersion={}", c.accesses(), version(&made)?);
    let mut watch = c.watch(&path).await?;
    let patch = json!({"status": {"requestedBy": "me"}});
    c.merge(&format!("{}/a/status", c.accesses()), &patch)
        .await?
        .expect(200)?;
    let event = watch.event().await?;
    same("type", &event["type"], "MODIFIED")?;
    same(
        "status",
        &event["object"]["status"],
        &json!({"requestedBy": "me"}),
    )?;
    same(
        "generation",
        &event["object"]["metadata"]["generation"],
        &json!(1),
    )
}
