//! Lists: selectors, paging, metadata only.

use super::{Ctx, Outcome, Row, access, holds, labelled, same};
use futures::FutureExt;
use serde_json::{Value, json};

const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "label selectors choose", run: |c| labels(c).boxed() },
        Row { name: "field selectors choose by name and namespace", run: |c| fields(c).boxed() },
        Row { name: "an unknown field in a selector is 400", run: |c| unknown_field(c).boxed() },
        Row { name: "a broken label selector is 400", run: |c| broken_label(c).boxed() },
        Row { name: "a list is ordered by name and carries a version", run: |c| ordered(c).boxed() },
        Row { name: "pages show the state of the first one", run: |c| pages(c).boxed() },
        Row { name: "a broken continue token is 400", run: |c| broken_token(c).boxed() },
        Row { name: "a resourceVersion that is no number is 400", run: |c| bad_version(c).boxed() },
        Row { name: "items of a custom list carry their kind, items of a built-in list do not", run: |c| item_kinds(c).boxed() },
        Row { name: "an object is served as metadata only", run: |c| metadata(c).boxed() },
        Row { name: "a list is served as metadata only", run: |c| metadata_list(c).boxed() },
    ];
    rows
}

/// ConfigMaps `a`..`d`; the label `mine` keeps out those that controllers put into every namespace.
async fn four(c: &Ctx) -> Outcome {
    let rows = [
        ("d", json!({"mine": "1"})),
        ("b", json!({"mine": "1", "app": "y"})),
        ("a", json!({"mine": "1", "app": "x", "x.dev/tier": "front"})),
        ("c", json!({"mine": "1", "app": "z"})),
    ];
    for (name, labels) in rows {
        c.post(&c.maps(), &labelled(name, labels))
            .await?
            .expect(201)?;
    }
    Ok(())
}

fn names(list: &Value) -> String {
    let items = list["items"].as_array().into_iter().flatten();
    let names = items.filter_map(|i| i["metadata"]["name"].as_str());
    names.collect::<Vec<_>>().join(",")
}

async fn labels(c: Ctx) -> Outcome {
    four(&c).await?;
    let table = [
        ("app=x", "a"),
        ("app==x", "a"),
        ("app!=x", "b,c,d"),
        ("app in (x,y)", "a,b"),
        ("app notin (x,y)", "c,d"),
        ("app", "a,b,c"),
        ("!app", "d"),
        ("app,app!=z", "a,b"),
        ("x.dev/tier=front", "a"),
        ("app=none", ""),
    ];
    for (selector, expected) in table {
        let all = format!("mine=1,{selector}");
        let query: String = form_urlencoded::byte_serialize(all.as_bytes()).collect();
        let list = c
            .get(&format!("{}?labelSelector={query}", c.maps()))
            .await?
            .expect(200)?;
        same(selector, names(&list), expected)?;
    }
    Ok(())
}

async fn fields(c: Ctx) -> Outcome {
    four(&c).await?;
    let list = c
        .get(&format!("{}?fieldSelector=metadata.name%3Db", c.maps()))
        .await?
        .expect(200)?;
    same("by name", names(&list), "b")?;
    let others = format!(
        "{}?fieldSelector=metadata.name!%3Db&labelSelector=mine",
        c.maps()
    );
    same(
        "by other names",
        names(&c.get(&others).await?.expect(200)?),
        "a,c,d",
    )?;
    let everywhere = format!(
        "/api/v1/configmaps?labelSelector=mine&fieldSelector=metadata.namespace%3D{}",
        c.namespace
    );
    same(
        "by namespace",
        names(&c.get(&everywhere).await?.expect(200)?),
        "a,b,c,d",
    )
}

async fn unknown_field(c: Ctx) -> Outcome {
    c.get(&format!("{}?fieldSelector=data.a%3Db", c.maps()))
        .await?
        .refused(400, "BadRequest")
        .map(drop)
}

async fn broken_label(c: Ctx) -> Outcome {
    c.get(&format!("{}?labelSelector=a%3D%3D%3Db", c.maps()))
        .await?
        .refused(400, "BadRequest")
        .map(drop)
}

async fn ordered(c: Ctx) -> Outcome {
    four(&c).await?;
    let list = c
        .get(&format!("{}?labelSelector=mine", c.maps()))
        .await?
        .expect(200)?;
    same("names", names(&list), "a,b,c,d")?;
    same("kind", &list["kind"], "ConfigMapList")?;
    let newest = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(version)
        .max()
        .flatten();
    holds("the list is as new as its items", version(&list) >= newest)
}

fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

async fn pages(c: Ctx) -> Outcome {
    four(&c).await?;
    let base = format!("{}?labelSelector=mine&limit=2", c.maps());
    let first = c.get(&base).await?.expect(200)?;
    same("first page", names(&first), "a,b")?;
    let mut token = continued(&first);
    holds("there is a token", !token.is_empty())?;
    c.delete(&c.map("c"), &json!({})).await?.expect(200)?;
    c.post(&c.maps(), &labelled("e", json!({"mine": "1"})))
        .await?
        .expect(201)?;
    let mut rest = Vec::new();
    // A server may need one more, empty page to find out that nothing is left in the selection.
    while !token.is_empty() {
        let page = c
            .get(&format!("{base}&continue={token}"))
            .await?
            .expect(200)?;
        same("version", version(&page), version(&first))?;
        rest.push(names(&page));
        token = continued(&page);
    }
    same("other pages", rest.join("").as_str(), "c,d")
}

fn continued(list: &Value) -> String {
    list["metadata"]["continue"]
        .as_str()
        .unwrap_or_default()
        .to_string()
}

async fn broken_token(c: Ctx) -> Outcome {
    c.get(&format!("{}?limit=1&continue=broken", c.maps()))
        .await?
        .refused(400, "BadRequest")
        .map(drop)
}

async fn bad_version(c: Ctx) -> Outcome {
    c.get(&format!("{}?resourceVersion=abc", c.maps()))
        .await?
        .refused(400, "BadRequest")
        .map(drop)
}

async fn item_kinds(c: Ctx) -> Outcome {
    four(&c).await?;
    let list = c.get(&c.maps()).await?.expect(200)?;
    same("built-in", &list["items"][0]["kind"], &json!(null))?;
    c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    let list = c.get(&c.accesses()).await?.expect(200)?;
    same("list kind", &list["kind"], "WorkloadAccessList")?;
    same("custom", &list["items"][0]["kind"], "WorkloadAccess")
}

async fn metadata(c: Ctx) -> Outcome {
    four(&c).await?;
    let whole = c.get(&c.map("a")).await?.expect(200)?;
    let part = c.get_as(&c.map("a"), METADATA).await?.expect(200)?;
    same("kind", &part["kind"], "PartialObjectMetadata")?;
    same("apiVersion", &part["apiVersion"], "meta.k8s.io/v1")?;
    same(
        "labels",
        &part["metadata"]["labels"],
        &whole["metadata"]["labels"],
    )?;
    same("version", version(&part), version(&whole))?;
    same("data", &part["data"], &json!(null))
}

async fn metadata_list(c: Ctx) -> Outcome {
    four(&c).await?;
    let path = format!("{}?labelSelector=mine", c.maps());
    let list = c.get_as(&path, METADATA_LIST).await?.expect(200)?;
    same("kind", &list["kind"], "PartialObjectMetadataList")?;
    same("names", names(&list), "a,b,c,d")?;
    same("item", &list["items"][0]["kind"], "PartialObjectMetadata")
}
