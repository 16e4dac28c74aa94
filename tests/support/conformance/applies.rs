//! Server-side apply: ownership, conflicts, force, removal, keyed lists.

use super::{Ctx, Outcome, Reply, Row, config_map, holds, same};
use futures::FutureExt;
use serde_json::{Value, json};

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "apply creates what is absent, and the same apply keeps the version", run: |c| creates(c).boxed() },
        Row { name: "apply needs a field manager", run: |c| no_manager(c).boxed() },
        Row { name: "apply must not carry managedFields", run: |c| managed_fields(c).boxed() },
        Row { name: "another value for an owned field is 409 with a cause for it", run: |c| conflict(c).boxed() },
        Row { name: "the same value for an owned field is shared", run: |c| shared(c).boxed() },
        Row { name: "an empty map is a field too", run: |c| empty_map(c).boxed() },
        Row { name: "force takes a field over", run: |c| force(c).boxed() },
        Row { name: "a field that its only owner drops goes", run: |c| dropped(c).boxed() },
        Row { name: "dropping the last field leaves no empty map", run: |c| emptied(c).boxed() },
        Row { name: "a field of another manager stays", run: |c| foreign(c).boxed() },
        Row { name: "a plain write takes ownership of what it changes", run: |c| plain_write(c).boxed() },
        Row { name: "a field that a plain write made is not removed by apply", run: |c| plain_field(c).boxed() },
        Row { name: "apply with a UID creates nothing, and changes only that object", run: |c| uid(c).boxed() },
        Row { name: "apply with a stale version is 409", run: |c| stale(c).boxed() },
        Row { name: "a dry run of apply creates nothing", run: |c| dry_run(c).boxed() },
    ];
    rows
}

pub(super) fn by(path: &str, manager: &str) -> String {
    format!("{path}?fieldManager={manager}")
}

pub(super) fn forced(path: &str, manager: &str) -> String {
    format!("{path}?fieldManager={manager}&force=true")
}

pub(super) fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

/// The ConfigMap `a` with these data, applied by a manager.
pub(super) async fn apply(c: &Ctx, manager: &str, data: Value) -> Result<Reply, String> {
    c.apply(&by(&c.map("a"), manager), &config_map("a", data))
        .await
}

async fn creates(c: Ctx) -> Outcome {
    let made = apply(&c, "one", json!({"k": "1"})).await?.expect(201)?;
    let again = apply(&c, "one", json!({"k": "1"})).await?.expect(200)?;
    same("version", version(&again), version(&made))
}

async fn no_manager(c: Ctx) -> Outcome {
    let status = c
        .apply(&c.map("a"), &config_map("a", json!({})))
        .await?
        .refused(422, "Invalid")?;
    same(
        "field",
        &status["details"]["causes"][0]["field"],
        "fieldManager",
    )
}

async fn managed_fields(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({}));
    map["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    c.apply(&by(&c.map("a"), "one"), &map)
        .await?
        .refused(400, "BadRequest")
        .map(drop)
}

async fn conflict(c: Ctx) -> Outcome {
    apply(&c, "one", json!({"k": "1", "l": "1"}))
        .await?
        .expect(201)?;
    let status = apply(&c, "two", json!({"k": "2", "m": "2"}))
        .await?
        .refused(409, "Conflict")?;
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.k"});
    same("causes", &status["details"]["causes"], &json!([cause]))?;
    let kept = c.get(&c.map("a")).await?.expect(200)?;
    same("data", &kept["data"], &json!({"k": "1", "l": "1"}))
}

async fn shared(c: Ctx) -> Outcome {
    let made = apply(&c, "one", json!({"k": "1"})).await?.expect(201)?;
    let joined = apply(&c, "two", json!({"k": "1"})).await?.expect(200)?;
    holds(
        "a new owner is a new version",
        version(&joined) != version(&made),
    )?;
    let left = apply(&c, "one", json!({})).await?.expect(200)?;
    same(
        "data while one owner is left",
        &left["data"],
        &json!({"k": "1"}),
    )?;
    let last = apply(&c, "two", json!({})).await?.expect(200)?;
    holds("the field is gone", last["data"]["k"].is_null())
}

async fn empty_map(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({}));
    map["data"] = json!({});
    c.apply(&by(&c.map("a"), "one"), &map).await?.expect(201)?;
    let status = c
        .apply(&by(&c.map("a"), "two"), &map)
        .await?
        .refused(409, "Conflict")?;
    same("field", &status["details"]["causes"][0]["field"], ".data")
}

async fn force(c: Ctx) -> Outcome {
    apply(&c, "one", json!({"k": "1"})).await?.expect(201)?;
    let wanted = config_map("a", json!({"k": "2"}));
    let taken = c
        .apply(&forced(&c.map("a"), "two"), &wanted)
        .await?
        .expect(200)?;
    same("data", &taken["data"]["k"], "2")?;
    let status = apply(&c, "one", json!({"k": "1"}))
        .await?
        .refused(409, "Conflict")?;
    same(
        "owner",
        &status["details"]["causes"][0]["message"],
        "conflict with \"two\"",
    )?;
    let given_up = apply(&c, "one", json!({})).await?.expect(200)?;
    same("data of the new owner", &given_up["data"]["k"], "2")
}

async fn dropped(c: Ctx) -> Outcome {
    apply(&c, "one", json!({"k": "1", "l": "1"}))
        .await?
        .expect(201)?;
    let less = apply(&c, "one", json!({"k": "1"})).await?.expect(200)?;
    same("data", &less["data"], &json!({"k": "1"}))
}

async fn emptied(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({"k": "1"}));
    map["metadata"]["labels"] = json!({"x": "y"});
    c.apply(&by(&c.map("a"), "one"), &map).await?.expect(201)?;
    let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let left = c.apply(&by(&c.map("a"), "one"), &bare).await?.expect(200)?;
    same("labels", &left["metadata"]["labels"], &json!(null))?;
    same("data", &left["data"], &json!(null))
}

async fn foreign(c: Ctx) -> Outcome {
    apply(&c, "one", json!({"k": "1"})).await?.expect(201)?;
    let both = apply(&c, "two", json!({"l": "2"})).await?.expect(200)?;
    same("data", &both["data"], &json!({"k": "1", "l": "2"}))?;
    let left = apply(&c, "two", json!({})).await?.expect(200)?;
    same("data without the second", &left["data"], &json!({"k": "1"}))
}

async fn plain_write(c: Ctx) -> Outcome {
    apply(&c, "one", json!({"k": "1", "l": "1"}))
        .await?
        .expect(201)?;
    let put = config_map("a", json!({"k": "2", "l": "1"}));
    c.put(&by(&c.map("a"), "editor"), &put).await?.expect(200)?;
    let status = apply(&c, "one", json!({"k": "1", "l": "1"}))
        .await?
        .refused(409, "Conflict")?;
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"editor\" using v1", "field": ".data.k"});
    same("causes", &status["details"]["causes"], &json!([cause]))?;
    c.apply(
        &forced(&c.map("a"), "one"),
        &config_map("a", json!({"k": "1"})),
    )
    .await?
    .expect(200)?;
    let after = c.get(&c.map("a")).await?.expect(200)?;
    same("data", &after["data"], &json!({"k": "1"}))
}

async fn plain_field(c: Ctx) -> Outcome {
    apply(&c, "one", json!({"k": "1"})).await?.expect(201)?;
    c.merge(&by(&c.map("a"), "editor"), &json!({"data": {"l": "1"}}))
        .await?
        .expect(200)?;
    let after = apply(&c, "one", json!({})).await?.expect(200)?;
    same("data", &after["data"], &json!({"l": "1"}))
}

async fn uid(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({"k": "1"}));
    map["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    c.apply(&by(&c.map("a"), "one"), &map)
        .await?
        .refused(409, "Conflict")?;
    let made = apply(&c, "one", json!({"k": "1"})).await?.expect(201)?;
    c.apply(&by(&c.map("a"), "one"), &map)
        .await?
        .refused(422, "Invalid")?;
    map["metadata"]["uid"] = made["metadata"]["uid"].clone();
    c.apply(&by(&c.map("a"), "one"), &map)
        .await?
        .expect(200)
        .map(drop)
}

async fn stale(c: Ctx) -> Outcome {
    let made = apply(&c, "one", json!({"k": "1"})).await?.expect(201)?;
    apply(&c, "one", json!({"k": "2"})).await?.expect(200)?;
    let mut map = config_map("a", json!({"k": "3"}));
    map["metadata"]["resourceVersion"] = version(&made).clone();
    c.apply(&by(&c.map("a"), "one"), &map)
        .await?
        .refused(409, "Conflict")
        .map(drop)
}

async fn dry_run(c: Ctx) -> Outcome {
    let path = format!("{}&dryRun=All", by(&c.map("a"), "one"));
    c.apply(&path, &config_map("a", json!({})))
        .await?
        .expect(201)?;
    c.get(&c.map("a")).await?.refused(404, "NotFound").map(drop)
}
