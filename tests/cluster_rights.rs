//! What the operator may do, as the API server says it, is what `docs/rights.md` says, each with its reason.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Resource;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;
use support::cluster::eventually;
use support::operator::{NAMESPACE, Stint};
use support::project;

/// Where, what, and which names, as the first three cells of a row.
type Key = [String; 3];

/// Verbs of each, and the reason in the page.
type Rights = BTreeMap<Key, (BTreeSet<String>, String)>;

fn page() -> PathBuf {
    project().join("docs/rights.md")
}

fn cell(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// What the account may do with this client in a namespace.
async fn rights(client: &Client, namespace: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.into()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let api: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await.unwrap();
    let status = answer.status.unwrap();
    assert!(!status.incomplete);
    let mut out: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for rule in status.resource_rules {
        let names = cell(&rule.resource_names.unwrap_or_default());
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let what = match group.as_str() {
                    "" => format!("`{resource}`"),
                    group => format!("`{resource}.{group}`"),
                };
                let verbs = out.entry((what, names.clone())).or_default();
                verbs.extend(rule.verbs.iter().cloned());
            }
        }
    }
    for rule in status.non_resource_rules {
        for url in rule.non_resource_urls.iter().flatten() {
            let verbs = out.entry((format!("`{url}`"), String::new())).or_default();
            verbs.extend(rule.verbs.iter().cloned());
        }
    }
    out
}

/// The rows of the page.
fn written(text: &str) -> Rights {
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.map(|row| {
        let cells: Vec<String> = row
            .trim_matches('|')
            .split('|')
            .map(|c| c.trim().to_owned())
            .collect();
        let [place, what, names, verbs, why] = <[String; 5]>::try_from(cells).expect("five cells");
        let verbs = verbs.split(", ").map(str::to_owned).collect();
        ([place, what, names], (verbs, why))
    })
    .collect()
}

#[tokio::test]
async fn the_page_on_rights_says_what_the_api_server_says() {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let client = stint.as_operator().await;
    let anywhere = rights(&client, "default").await;
    let at_home = rights(&client, NAMESPACE).await;
    let text = std::fs::read_to_string(page()).unwrap();
    let written = written(&text);

    let mut held = BTreeMap::new();
    for ((what, names), verbs) in &anywhere {
        held.insert(
            ["anywhere".to_owned(), what.clone(), names.clone()],
            verbs.clone(),
        );
    }
    for ((what, names), verbs) in &at_home {
        let known = anywhere
            .get(&(what.clone(), names.clone()))
            .cloned()
            .unwrap_or_default();
        let more: BTreeSet<String> = verbs.difference(&known).cloned().collect();
        if !more.is_empty() {
            held.insert(["at home".to_owned(), what.clone(), names.clone()], more);
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        update(&text, &held, &written);
        return;
    }
    let told: BTreeMap<Key, BTreeSet<String>> = written
        .iter()
        .map(|(key, (verbs, _))| (key.clone(), verbs.clone()))
        .collect();
    assert_eq!(
        told, held,
        "`UPDATE=1 cargo test --test cluster_rights` writes the table; the reasons are yours to write"
    );
    for (key, (_, why)) in &written {
        assert!(!why.is_empty(), "{key:?} has no reason");
    }
}

/// Writes the table anew and keeps the reasons that are there.
fn update(text: &str, held: &BTreeMap<Key, BTreeSet<String>>, written: &Rights) {
    let rows = held.iter().map(|(key, verbs)| {
        let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
        let why = written.get(key).map_or("", |(_, why)| why);
        let [place, what, names] = key;
        format!(
            "| {place} | {what} | {names} | {} | {why} |",
            verbs.join(", ")
        )
    });
    let head = "|---|---|---|---|---|\n";
    let (before, rest) = text.split_once(head).unwrap();
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let table: Vec<String> = rows.collect();
    let text = format!("{before}{head}{}\n\n{after}", table.join("\n"));
    std::fs::write(page(), text).unwrap();
}

/// What a patch of the operator to one of its webhook configurations comes to; nothing is stored.
async fn tried<K>(client: &Client, patch: &Value) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let dry_run = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(patch.clone()).unwrap());
    let api: Api<K> = Api::all(client.clone());
    match api.patch("stint", &dry_run, &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(other) => panic!("not an answer of the API server: {other}"),
    }
}

#[tokio::test]
async fn of_its_webhook_configurations_the_operator_changes_the_authority_alone() {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let client = stint.as_operator().await;
    let set = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
    let ca = set("/webhooks/0/clientConfig/caBundle", json!("Zm9v"));
    let everything = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]);
    let wrong = [
        set("/webhooks/0/rules", everything),
        set(
            "/webhooks/0/clientConfig/url",
            json!("https://elsewhere.example/"),
        ),
        set("/webhooks/0/failurePolicy", json!("Ignore")),
        set("/webhooks/0/timeoutSeconds", json!(30)),
        set(
            "/webhooks/0/namespaceSelector",
            json!({"matchLabels": {"a": "b"}}),
        ),
        set(
            "/webhooks/0/matchConditions",
            json!([{"name": "never", "expression": "false"}]),
        ),
        set("/metadata/finalizers", json!(["stint.dev/for-ever"])),
        json!([{"op": "remove", "path": "/webhooks/0"}]),
        set(
            "/webhooks/-",
            json!({"name": "another.stint.dev", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://elsewhere.example/"}}),
        ),
    ];
    // A policy reaches the API server a moment after it was made.
    eventually("the policy is in force", async || {
        let first = &wrong[0];
        tried::<MutatingWebhookConfiguration>(&client, first)
            .await
            .err()
    })
    .await;
    for patch in &wrong {
        for told in [
            tried::<MutatingWebhookConfiguration>(&client, patch).await,
            tried::<ValidatingWebhookConfiguration>(&client, patch).await,
        ] {
            let told = told.expect_err(&patch.to_string());
            assert!(
                told.contains("nothing of a webhook configuration but the caBundle"),
                "{patch}: {told}"
            );
        }
    }
    let reinvoked = set("/webhooks/0/reinvocationPolicy", json!("IfNeeded"));
    assert!(
        tried::<MutatingWebhookConfiguration>(&client, &reinvoked)
            .await
            .is_err()
    );
    assert_eq!(
        tried::<MutatingWebhookConfiguration>(&client, &ca).await,
        Ok(())
    );
    assert_eq!(
        tried::<ValidatingWebhookConfiguration>(&client, &ca).await,
        Ok(())
    );
}
