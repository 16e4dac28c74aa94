//! Creation, single reads and the bodies of refusals.

use super::{Ctx, Outcome, Row, access, config_map, holds, job, role_binding, same};
use futures::FutureExt;
use serde_json::json;

pub fn rows() -> Vec<Row> {
    #[rustfmt::skip]
    let rows = vec![
        Row { name: "a created object has a UID, a version and a time, and no generation unless its kind counts it", run: |c| identity(c).boxed() },
        Row { name: "a client sets neither UID nor creation time of a new object", run: |c| client_identity(c).boxed() },
        Row { name: "creating an object that exists is 409 AlreadyExists", run: |c| exists(c).boxed() },
        Row { name: "creation needs a name", run: |c| no_name(c).boxed() },
        Row { name: "a name that is no DNS subdomain is 422", run: |c| bad_name(c).boxed() },
        Row { name: "an RBAC object may have a colon in its name", run: |c| rbac_name(c).boxed() },
        Row { name: "creation in a namespace that does not exist is 404 of the namespace", run: |c| no_namespace(c).boxed() },
        Row { name: "the namespace of body and URL must agree", run: |c| other_namespace(c).boxed() },
        Row { name: "creation must not carry a resourceVersion", run: |c| versioned(c).boxed() },
        Row { name: "generateName adds five characters, different each time", run: |c| generate_name(c).boxed() },
        Row { name: "a missing object is 404 with name, group and kind", run: |c| missing(c).boxed() },
        Row { name: "a resource that is not served is 404", run: |c| not_served(c).boxed() },
        Row { name: "every answer carries the Date in whole seconds, also a refusal", run: |c| date(c).boxed() },
        Row { name: "a dry run creates nothing", run: |c| dry_run(c).boxed() },
        Row { name: "stringData of a Secret becomes data, and its type Opaque", run: |c| secret(c).boxed() },
        Row { name: "a RoleBinding gets the API group of its User subjects", run: |c| binding(c).boxed() },
        Row { name: "a Job gets its defaults, labels and an empty status", run: |c| job_defaults(c).boxed() },
        Row { name: "creation drops the status of a kind with a status subresource", run: |c| no_status(c).boxed() },
    ];
    rows
}

async fn identity(c: Ctx) -> Outcome {
    let map = c
        .post(&c.maps(), &config_map("a", json!({"k": "v"})))
        .await?
        .expect(201)?;
    let metadata = &map["metadata"];
    same("namespace", &metadata["namespace"], &json!(c.namespace))?;
    same(
        "length of the UID",
        metadata["uid"].as_str().map(str::len),
        Some(36),
    )?;
    let version = metadata["resourceVersion"].as_str().unwrap_or_default();
    holds(
        "the resourceVersion is a number",
        version.parse::<u64>().is_ok(),
    )?;
    let created = metadata["creationTimestamp"].as_str().unwrap_or_default();
    holds(
        "the creation time is in whole seconds",
        created.len() == "2026-01-01T00:00:00Z".len(),
    )?;
    same("generation", &metadata["generation"], &json!(null))?;
    same("kind", &map["kind"], "ConfigMap")?;
    let access = c.post(&c.accesses(), &access("a")).await?.expect(201)?;
    same(
        "generation of a custom resource",
        &access["metadata"]["generation"],
        &json!(1),
    )?;
    let read = c.get(&c.map("a")).await?.expect(200)?;
    same(
        "what is read",
        &read["metadata"]["resourceVersion"],
        &metadata["resourceVersion"],
    )
}

async fn client_identity(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({}));
    map["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    map["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    map["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z".into();
    let made = c.post(&c.maps(), &map).await?.expect(201)?;
    holds(
        "the UID is another",
        made["metadata"]["uid"] != map["metadata"]["uid"],
    )?;
    holds(
        "the time is another",
        made["metadata"]["creationTimestamp"] != map["metadata"]["creationTimestamp"],
    )?;
    same(
        "deletionTimestamp",
        &made["metadata"]["deletionTimestamp"],
        &json!(null),
    )
}

async fn exists(c: Ctx) -> Outcome {
    c.post(&c.rbac("rolebindings"), &role_binding("a", "r"))
        .await?
        .expect(201)?;
    let refused = c
        .post(&c.rbac("rolebindings"), &role_binding("a", "r"))
        .await?;
    let status = refused.refused(409, "AlreadyExists")?;
    let details =
        json!({"name": "a", "group": "rbac.authorization.k8s.io", "kind": "rolebindings"});
    same("details", &status["details"], &details)
}

async fn no_name(c: Ctx) -> Outcome {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let status = c.post(&c.maps(), &map).await?.refused(422, "Invalid")?;
    let cause = &status["details"]["causes"][0];
    same("field", &cause["field"], "metadata.name")?;
    same("cause", &cause["reason"], "FieldValueRequired")
}

async fn bad_name(c: Ctx) -> Outcome {
    let status = c
        .post(&c.maps(), &config_map("Bad_Name", json!({})))
        .await?
        .refused(422, "Invalid")?;
    let cause = &status["details"]["causes"][0];
    same("field", &cause["field"], "metadata.name")?;
    same("cause", &cause["reason"], "FieldValueInvalid")?;
    same("kind", &status["details"]["kind"], "ConfigMap")
}

async fn rbac_name(c: Ctx) -> Outcome {
    c.post(&c.rbac("rolebindings"), &role_binding("team:Reader", "r"))
        .await?
        .expect(201)?;
    let path = format!("{}/team:Reader", c.rbac("rolebindings"));
    c.get(&path).await?.expect(200).map(drop)
}

async fn no_namespace(c: Ctx) -> Outcome {
    let path = format!("/api/v1/namespaces/{}-missing/configmaps", c.namespace);
    let status = c
        .post(&path, &config_map("a", json!({})))
        .await?
        .refused(404, "NotFound")?;
    same("kind", &status["details"]["kind"], "namespaces")
}

async fn other_namespace(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({}));
    map["metadata"]["namespace"] = "default".into();
    c.post(&c.maps(), &map)
        .await?
        .refused(400, "BadRequest")
        .map(drop)
}

async fn versioned(c: Ctx) -> Outcome {
    let mut map = config_map("a", json!({}));
    map["metadata"]["resourceVersion"] = "5".into();
    c.post(&c.maps(), &map).await?.refused(500, "").map(drop)
}

async fn generate_name(c: Ctx) -> Outcome {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}});
    let mut names = Vec::new();
    for _ in 0..2 {
        let made = c.post(&c.maps(), &map).await?.expect(201)?;
        let name = made["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_string();
        holds(
            "prefix and five characters",
            name.starts_with("x-") && name.len() == 7,
        )?;
        same("generateName", &made["metadata"]["generateName"], "x-")?;
        names.push(name);
    }
    holds("the names differ", names[0] != names[1])
}

async fn missing(c: Ctx) -> Outcome {
    let path = format!("{}/nope", c.rbac("roles"));
    let status = c.get(&path).await?.refused(404, "NotFound")?;
    let details = json!({"name": "nope", "group": "rbac.authorization.k8s.io", "kind": "roles"});
    same("details", &status["details"], &details)
}

async fn not_served(c: Ctx) -> Outcome {
    let path = format!("{}/nope", c.map("a"));
    c.get(&path).await?.expect(404).map(drop)
}

async fn date(c: Ctx) -> Outcome {
    let made = c.post(&c.maps(), &config_map("a", json!({}))).await?;
    let shape = |date: &Option<String>| {
        let date = date.as_deref().unwrap_or_default();
        let parsed = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", date);
        parsed.and_then(|time| time.to_datetime()).ok()
    };
    let date = shape(&made.date).ok_or(format!("Date is {:?}", made.date))?;
    let created = made.body["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap_or_default();
    let created: jiff::Timestamp = created.parse().map_err(|e| format!("{e}"))?;
    let created = created.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    holds("the answer is not dated before the object", date >= created)?;
    let refused = c.get(&c.map("missing")).await?;
    holds("a refusal is dated", shape(&refused.date).is_some())
}

async fn dry_run(c: Ctx) -> Outcome {
    let path = format!("{}?dryRun=All", c.maps());
    let made = c
        .post(&path, &config_map("a", json!({})))
        .await?
        .expect(201)?;
    same("name", &made["metadata"]["name"], "a")?;
    c.get(&c.map("a")).await?.refused(404, "NotFound").map(drop)
}

async fn secret(c: Ctx) -> Outcome {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}});
    let made = c.post(&c.core("secrets"), &secret).await?.expect(201)?;
    same("data", &made["data"], &json!({"a": "Yg=="}))?;
    same("stringData", &made["stringData"], &json!(null))?;
    same("type", &made["type"], "Opaque")
}

async fn binding(c: Ctx) -> Outcome {
    let mut binding = role_binding("b", "r");
    binding["subjects"] = json!([{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]);
    let made = c
        .post(&c.rbac("rolebindings"), &binding)
        .await?
        .expect(201)?;
    same(
        "group of the user",
        &made["subjects"][0]["apiGroup"],
        "rbac.authorization.k8s.io",
    )?;
    same(
        "group of the account",
        &made["subjects"][1]["apiGroup"],
        &json!(null),
    )
}

async fn job_defaults(c: Ctx) -> Outcome {
    let made = c.post(&c.jobs(), &job("j", json!({}))).await?.expect(201)?;
    let mut spec = made["spec"].clone();
    let uid = &made["metadata"]["uid"];
    same(
        "selector",
        &spec["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        uid,
    )?;
    same("job label", &made["metadata"]["labels"]["job-name"], "j")?;
    let template = spec["template"].take();
    same(
        "template label",
        &template["metadata"]["labels"]["batch.kubernetes.io/job-name"],
        "j",
    )?;
    let pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "securityContext": {}, "schedulerName": "default-scheduler",
        "containers": [{"name": "c", "image": "none", "resources": {}, "imagePullPolicy": "Always",
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}]});
    same("pod", &template["spec"], &pod)?;
    let expected = json!({"parallelism": 0, "backoffLimit": 6, "manualSelector": false, "completionMode": "NonIndexed",
        "suspend": false, "podReplacementPolicy": "TerminatingOrFailed", "selector": spec["selector"], "template": null});
    same("spec", &spec, &expected)?;
    same("status", &made["status"], &json!({}))
}

async fn no_status(c: Ctx) -> Outcome {
    let mut wanted = access("a");
    wanted["status"] = json!({"requestedBy": "me"});
    let made = c.post(&c.accesses(), &wanted).await?.expect(201)?;
    same("status", &made["status"], &json!(null))
}
