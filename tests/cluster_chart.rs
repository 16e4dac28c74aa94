//! The chart as helm renders it: every feature, what is refused, and what a typo comes to. Needs helm, which is built with the
//! programs of the test control plane, and no cluster.

#[path = "support/dice.rs"]
#[allow(dead_code)]
mod dice;

use dice::Dice;
use rstest::rstest;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The version of Kubernetes that the chart is rendered for.
const KUBERNETES: &str = "1.37";
/// Typos that are tried.
const TYPOS: u64 = 1000;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

static HELM: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let folder = root().join(target).join("cluster");
    let built = Command::new(root().join("tests/cluster/build.sh"))
        .arg(&folder)
        .arg("helm")
        .status()
        .unwrap();
    assert!(built.success(), "helm cannot be built");
    folder.join("helm")
});

/// Runs helm with values on standard input.
fn helm(args: &[&str], values: &str) -> Result<String, String> {
    let mut child = Command::new(&*HELM)
        .args(args)
        .args(["--kube-version", KUBERNETES, "--values", "-"])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Helm may end before it has read everything; what it says then is the answer.
    let _ = stdin.write_all(values.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr) + &text(output.stdout)),
    }
}

fn rendered(values: &str) -> Result<String, String> {
    let args = [
        "template",
        "stint",
        "charts/stint",
        "--namespace",
        "stint-system",
    ];
    helm(&args, values)
}

fn objects(values: &str) -> Vec<Value> {
    let text = rendered(values).unwrap_or_else(|e| panic!("{values}\n{e}"));
    let documents = text.split("\n---\n").map(|d| d.trim_start_matches("---\n"));
    let objects = documents.map(|d| serde_saphyr::from_str::<Value>(d).unwrap());
    objects.filter(Value::is_object).collect()
}

fn of_kind(values: &str, kind: &str) -> Vec<Value> {
    let mut all = objects(values);
    all.retain(|object| object["kind"] == kind);
    all
}

fn only(values: &str, kind: &str) -> Value {
    let mut all = of_kind(values, kind);
    assert_eq!(all.len(), 1, "{kind}: {all:#?}");
    all.remove(0)
}

fn pod(values: &str) -> Value {
    only(values, "Deployment")["spec"]["template"]["spec"].clone()
}

fn files(folder: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let yaml = |path: &PathBuf| path.extension().is_some_and(|e| e == "yaml");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(yaml).collect();
    paths.sort_unstable();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let read = |path: PathBuf| (name(&path), std::fs::read_to_string(&path).unwrap());
    paths.into_iter().map(read).collect()
}

#[test]
fn every_feature_and_preset_renders_and_lints() {
    let mut all = files("charts/stint/ci");
    let presets = files("charts/stint").into_iter();
    all.extend(presets.filter(|(name, _)| name.starts_with("values-")));
    assert!(all.len() > 12, "{}", all.len());
    for (name, values) in all {
        assert!(!objects(&values).is_empty(), "{name}");
        let lint = helm(&["lint", "--strict", "charts/stint"], &values);
        lint.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn the_default_render_is_what_was_reviewed() {
    let path = root().join("tests/chart/default.yaml");
    // The CRDs are held to the code elsewhere.
    let found = rendered("crds: {enabled: false}").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == expected,
        "the default render changed: look at it and run `make chart`"
    );
}

#[rstest]
#[case::one_bound(
    "podDisruptionBudget: {enabled: true, minAvailable: 1}",
    "set only one of"
)]
#[case::no_bound(
    "podDisruptionBudget: {enabled: true, maxUnavailable: ''}",
    "set one of"
)]
#[case::a_drain_without_end(
    "replicas: 1\npodDisruptionBudget: {enabled: true, minAvailable: 1, maxUnavailable: ''}",
    "for good"
)]
#[case::both_monitors(
    "metrics: {serviceMonitor: {enabled: true, renderMode: alwaysRender}, podMonitor: {enabled: true, renderMode: alwaysRender}}",
    "enable one of"
)]
#[case::no_such_kind(
    "metrics: {serviceMonitor: {enabled: true}}",
    "this cluster knows no ServiceMonitor"
)]
#[case::a_url_for_a_pod("webhook: {url: 'https://127.0.0.1:9443'}", "leave it empty")]
#[case::no_dns("hostNetwork: true", "set dnsPolicy")]
fn what_cannot_work_is_refused_with_the_remedy(#[case] values: &str, #[case] says: &str) {
    let error = rendered(values).unwrap_err();
    assert!(error.contains(says), "{error}");
}

#[test]
fn kube_system_is_refused() {
    let args = [
        "template",
        "stint",
        "charts/stint",
        "--namespace",
        "kube-system",
    ];
    let error = helm(&args, "{}").unwrap_err();
    assert!(error.contains("--namespace stint-system"), "{error}");
}

#[test]
fn the_pod_passes_the_restricted_standard() {
    let pod = pod("{}");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let profile = json!({"type": "RuntimeDefault"});
    assert_eq!(pod["securityContext"]["seccompProfile"], profile);
    let container = &pod["containers"][0];
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                          "readOnlyRootFilesystem": true});
    assert_eq!(container["securityContext"], security);
    let limits = container["resources"]["limits"].as_object().unwrap();
    assert!(!limits.contains_key("cpu"), "throttling delays revocations");
}

#[test]
fn an_image_is_named_by_digest_and_registry() {
    let values = &files("charts/stint/ci")
        .into_iter()
        .find(|(name, _)| name == "images-values.yaml")
        .unwrap()
        .1;
    let zeros = "0".repeat(64);
    assert_eq!(
        pod(values)["containers"][0]["image"],
        format!("registry.example.com/stint:v9@sha256:{zeros}")
    );
}

#[test]
fn ports_are_closed_but_those_that_are_served() {
    let spec = &only("{}", "NetworkPolicy")["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    let ports = |direction: &str| -> BTreeSet<String> {
        let rules = spec[direction].as_array().unwrap().iter();
        let ports = rules.flat_map(|rule| rule["ports"].as_array().unwrap());
        ports.map(|port| port["port"].to_string()).collect()
    };
    assert_eq!(
        ports("ingress"),
        ["\"admin\"", "\"webhook\""].map(String::from).into()
    );
    assert_eq!(
        ports("egress"),
        ["443", "53", "6443"].map(String::from).into()
    );
    assert!(of_kind("networkPolicy: {enabled: false}", "NetworkPolicy").is_empty());
}

#[test]
fn what_is_scraped_is_the_service_for_it() {
    let values = "metrics: {serviceMonitor: {enabled: true, renderMode: alwaysRender}}";
    let monitor = only(values, "ServiceMonitor");
    let wanted = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    let selects = |service: &&Value| {
        let labels = service["metadata"]["labels"].as_object().unwrap();
        wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    };
    let services = of_kind(values, "Service");
    let selected: Vec<&Value> = services.iter().filter(selects).collect();
    assert_eq!(selected.len(), 1);
    assert_eq!(
        selected[0]["spec"]["ports"][0]["name"],
        monitor["spec"]["endpoints"][0]["port"]
    );
}

#[test]
fn a_budget_has_one_bound_and_holds_up_no_sick_pod() {
    let spec = only(
        "podDisruptionBudget: {enabled: true}",
        "PodDisruptionBudget",
    )["spec"]
        .clone();
    assert_eq!(
        (&spec["maxUnavailable"], &spec["minAvailable"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(spec["unhealthyPodEvictionPolicy"], "AlwaysAllow");
}

#[test]
fn no_ca_is_rendered_for_the_operator_to_fight_with() {
    for kind in [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        for configuration in of_kind("{}", kind) {
            for webhook in configuration["webhooks"].as_array().unwrap() {
                assert_eq!(webhook["clientConfig"]["caBundle"], Value::Null);
                assert_eq!(webhook["matchPolicy"], "Equivalent");
                assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]));
            }
        }
    }
}

#[test]
fn edit_does_not_ask_for_access() {
    let aggregated = |object: &&Value| {
        let labels = object["metadata"]["labels"].as_object().unwrap();
        labels.keys().any(|key| {
            ["aggregate-to-edit", "aggregate-to-admin"]
                .iter()
                .any(|to| key.ends_with(to))
        })
    };
    let roles = of_kind("clusterGrants: {enabled: true}", "ClusterRole");
    assert_eq!(roles.iter().filter(aggregated).count(), 0);
}

/// Every alert has a page, and every metric that alerts and dashboard ask for is the operator's.
#[test]
fn alerts_have_pages_and_queries_name_metrics_that_exist() {
    let code = std::fs::read_to_string(root().join("src/ops/metrics.rs")).unwrap();
    let values =
        "metrics: {rules: {enabled: true, renderMode: alwaysRender}, dashboard: {enabled: true}}";
    let rules = only(values, "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
    let mut queries = Vec::new();
    for rule in rules.as_array().unwrap() {
        let alert = rule["alert"].as_str().unwrap();
        let page = root().join(format!("docs/runbooks/{alert}.md"));
        assert!(page.exists(), "{alert} has no page");
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(
            url.starts_with("https://") && url.ends_with(&format!("/{alert}.md")),
            "{url}"
        );
        queries.push(rule["expr"].as_str().unwrap().to_owned());
    }
    let dashboard = &of_kind(values, "ConfigMap")[0]["data"]["stint.json"];
    let dashboard: Value = serde_json::from_str(dashboard.as_str().unwrap()).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap().iter();
        queries.extend(targets.map(|t| t["expr"].as_str().unwrap().to_owned()));
    }
    assert!(queries.len() > 20, "{}", queries.len());
    for query in queries {
        let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for metric in words.filter(|word| word.starts_with("stint_")) {
            let metric = metric.trim_end_matches("_bucket");
            let known = [format!("`{metric}`"), format!("`{metric}{{")];
            assert!(
                known.iter().any(|k| code.contains(k)),
                "no metric {metric}: {query}"
            );
        }
    }
}

/// Paths of every key whose siblings are listed.
fn keys(value: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let mut path = path.to_vec();
        path.push(key.clone());
        // Whoever embeds the chart may have globals of their own.
        if path[0] != "global" {
            found.push(path.clone());
        }
        // Labels and amounts have names of their own.
        let open = ["labels", "requests", "limits"].contains(&key.as_str());
        if value.as_object().is_some_and(|fields| !fields.is_empty()) && !open {
            keys(value, &path, found);
        }
    }
}

fn nested(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, key| {
        Value::Object(Map::from_iter([(key.clone(), inner)]))
    })
}

/// One typo: a key that is written wrong or stands in the wrong place, or a value of another type.
fn typo(dice: &mut Dice, values: &Value, paths: &[Vec<String>]) -> Value {
    loop {
        let path = &paths[dice.below(paths.len())];
        let (key, above) = path.split_last().unwrap();
        let value = path.iter().fold(values, |value, key| &value[key]).clone();
        let siblings = above.iter().fold(values, |value, key| &value[key]);
        let changed = match dice.below(4) {
            0 => {
                let mut letters: Vec<char> = key.chars().collect();
                let at = dice.below(letters.len());
                letters[at] = if letters[at] == 'x' { 'y' } else { 'x' };
                [above, &[letters.into_iter().collect()]].concat()
            }
            1 => [above, &[format!("{key}s")]].concat(),
            2 => vec![key.clone()],
            _ => {
                let other = match &value {
                    Value::Array(_) | Value::Object(_) => json!("text"),
                    _ => json!(["list"]),
                };
                return nested(path, other);
            }
        };
        let known = changed.len() == path.len() && siblings.get(changed.last().unwrap()).is_some();
        let at_top = changed.len() == 1 && values.get(&changed[0]).is_some();
        if !known && !at_top {
            return nested(&changed, value);
        }
    }
}

#[test]
fn a_thousand_typos_in_values_are_refused() {
    let values = std::fs::read_to_string(root().join("charts/stint/values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let mut paths = Vec::new();
    keys(&values, &[], &mut paths);
    let refused = |number: u64| {
        let typo = typo(&mut Dice::of_case(number), &values, &paths).to_string();
        let Err(error) = rendered(&typo) else {
            panic!("not refused: {typo}");
        };
        assert!(
            error.contains("values don't meet the specifications of the schema"),
            "{typo}: {error}"
        );
    };
    let half = TYPOS / 2;
    std::thread::scope(|scope| {
        scope.spawn(|| (0..half).for_each(refused));
        (half..TYPOS).for_each(refused);
    });
}
