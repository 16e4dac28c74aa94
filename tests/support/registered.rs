//! The webhook configurations that the chart makes by default, for a webhook that is reached elsewhere.

use serde_json::{Value, json};

/// Both on Stint's own kinds and that of the guard, sent to this address.
pub fn configurations(address: &str) -> Vec<Value> {
    let render = include_str!("../chart/default.yaml");
    let documents = render
        .split("\n---\n")
        .map(|d| d.trim_start_matches("---\n"));
    let objects = documents.map(|d| serde_saphyr::from_str::<Value>(d).unwrap());
    let registered = |object: &Value| {
        let kind = object["kind"].as_str().unwrap_or_default();
        kind.ends_with("WebhookConfiguration")
    };
    let mut found: Vec<Value> = objects.filter(registered).collect();
    assert_eq!(found.len(), 3);
    for webhook in found.iter_mut().flat_map(webhooks) {
        let path = &webhook["clientConfig"]["service"]["path"];
        let url = format!("{address}{}", path.as_str().unwrap());
        webhook["clientConfig"] = json!({"url": url});
    }
    found
}

/// The entries of one.
pub fn webhooks(configuration: &mut Value) -> &mut Vec<Value> {
    configuration["webhooks"].as_array_mut().unwrap()
}

/// Changes an entry.
pub type Edit = fn(&mut Value);

/// What somebody may do to an entry so that the webhook is asked less, later or elsewhere, and what must be said about it.
pub fn edits() -> Vec<(&'static str, Edit)> {
    vec![
        ("`rules` leave out", |w| {
            w["rules"][0]["operations"] = json!(["CONNECT"]);
        }),
        ("`rules` leave out", |w| w["rules"] = json!([])),
        ("`rules` leave out", |w| {
            w["rules"][0]["apiVersions"] = json!(["v9"]);
        }),
        ("`rules` leave out", |w| {
            let resource = w["rules"][0]["resources"][0].as_str().unwrap().to_owned();
            w["rules"][0]["resources"][0] = format!("{resource}/status").into();
        }),
        ("`rules` leave out", |w| {
            let scope = match w["rules"][0]["scope"].as_str() {
                Some("Cluster") => "Namespaced",
                _ => "Cluster",
            };
            w["rules"][0]["scope"] = scope.into();
        }),
        ("`failurePolicy` is", |w| {
            let other = match w["failurePolicy"].as_str() {
                Some("Ignore") => "Fail",
                _ => "Ignore",
            };
            w["failurePolicy"] = other.into();
        }),
        ("`matchPolicy` is Exact", |w| {
            w["matchPolicy"] = "Exact".into()
        }),
        ("`namespaceSelector` is another", |w| {
            w["namespaceSelector"] = json!({"matchLabels": {"nobody": "has-it"}});
        }),
        ("`namespaceSelector` is another", |w| {
            w["namespaceSelector"] =
                json!({"matchExpressions": [{"key": "nobody", "operator": "Exists"}]});
        }),
        ("`objectSelector` leaves", |w| {
            w["objectSelector"] = json!({"matchLabels": {"nobody": "has-it"}});
        }),
        ("`objectSelector` leaves", |w| {
            w["objectSelector"] =
                json!({"matchExpressions": [{"key": "stint.dev/x", "operator": "DoesNotExist"}]});
        }),
        ("`matchConditions` are others", |w| {
            let mut all = w["matchConditions"].as_array().cloned().unwrap_or_default();
            all.push(json!({"name": "never", "expression": "false"}));
            w["matchConditions"] = all.into();
        }),
        ("`clientConfig` leads", |w| {
            w["clientConfig"]["url"] = "https://elsewhere/validate".into();
        }),
        ("`clientConfig` leads", |w| {
            let url = w["clientConfig"]["url"].as_str().unwrap();
            w["clientConfig"]["url"] = format!("{url}/more").into();
        }),
        ("`timeoutSeconds` is 1, not 5", |w| {
            w["timeoutSeconds"] = 1.into();
        }),
        ("`admissionReviewVersions` lack v1", |w| {
            w["admissionReviewVersions"] = json!(["v1beta1"]);
        }),
    ]
}
