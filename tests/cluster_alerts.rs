//! Alerts and dashboard of the chart, as Prometheus reads them. Needs helm and promtool, which `tests/cluster/build.sh` makes or
//! finds, and no cluster.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::chart::{objects, of_kind, only, program};
use support::project;

const EVERYTHING: &str =
    "metrics: {rules: {enabled: true, renderMode: alwaysRender}, dashboard: {enabled: true}}";

fn rules() -> Value {
    only(EVERYTHING, "PrometheusRule")["spec"].clone()
}

fn alerts(rules: &Value) -> Vec<(String, Value)> {
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule.clone()))
        .collect()
}

/// Every query of the dashboard, with the title of its panel.
fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard = &of_kind(EVERYTHING, "ConfigMap")[0]["data"]["stint.json"];
    let dashboard: Value = serde_json::from_str(dashboard.as_str().unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(move |target| {
            (
                title.to_owned(),
                target["expr"].as_str().unwrap().to_owned(),
            )
        })
    });
    queries.collect()
}

/// The metrics of the operator with their labels, as the code documents them.
fn documented() -> BTreeMap<String, Vec<String>> {
    let code = std::fs::read_to_string(project().join("src/ops/metrics.rs")).unwrap();
    let product = code.split("#[cfg(test)]").next().unwrap();
    let docs = product
        .lines()
        .filter(|l| l.trim_start().starts_with("///"));
    let quoted = docs.flat_map(|line| line.split('`').skip(1).step_by(2));
    let words = quoted.filter(|word| word.starts_with("stint_"));
    let metric = |word: &str| {
        let (name, labels) = word.split_once('{').unwrap_or((word, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let labels = labels.filter(|label| !label.is_empty());
        (name.to_owned(), labels.map(str::to_owned).collect())
    };
    words.map(metric).collect()
}

fn metrics() -> BTreeSet<String> {
    documented().into_keys().collect()
}

/// One series of each metric, which grows for three hours.
fn series() -> Vec<Value> {
    let one = |name: &str, labels: &[String]| {
        let label = |name: &String| match name.as_str() {
            "state" => "state=\"active\"".to_owned(),
            name => format!("{name}=\"x\""),
        };
        let labels: Vec<String> = labels.iter().map(label).collect();
        json!({"series": format!("{name}{{{}}}", labels.join(",")), "values": "0+1x180"})
    };
    let buckets = |name: &str| {
        let bucket = |le: &str| json!({"series": format!("{name}_bucket{{le=\"{le}\"}}"), "values": "0+1x180"});
        [bucket("0.1"), bucket("+Inf")]
    };
    let asked: String = dashboard_queries()
        .into_iter()
        .map(|(_, query)| query)
        .collect();
    let all = documented().into_iter();
    all.flat_map(
        |(name, labels)| match asked.contains(&format!("{name}_bucket")) {
            true => buckets(&name).to_vec(),
            false => vec![one(&name, &labels)],
        },
    )
    .collect()
}

/// The metrics that a query asks for.
fn asked(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = words.filter(|word| word.starts_with("stint_"));
    names
        .map(|name| name.trim_end_matches("_bucket").to_owned())
        .collect()
}

/// A folder in the place for files of tests, emptied.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn promtool(args: &[&str], folder: &Path) {
    let output = Command::new(program("promtool"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{args:?}\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn each_alert_fires_in_its_fault_and_not_before() {
    let folder = folder("alerts");
    let cases = std::fs::read_to_string(project().join("tests/chart/alerts.yaml")).unwrap();
    std::fs::write(folder.join("rules.yaml"), rules().to_string()).unwrap();
    std::fs::write(folder.join("alerts.yaml"), &cases).unwrap();
    promtool(&["check", "rules", "rules.yaml"], &folder);
    promtool(&["test", "rules", "alerts.yaml"], &folder);

    let cases: Value = serde_saphyr::from_str(&cases).unwrap();
    let mut tried: BTreeMap<&str, BTreeSet<bool>> = BTreeMap::new();
    for case in cases["tests"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        for step in case["promql_expr_test"].as_array().unwrap() {
            let alert = format!("alertname=\"{name}\"");
            assert!(step["expr"].as_str().unwrap().contains(&alert), "{name}");
            let fires = !step["exp_samples"].as_array().unwrap().is_empty();
            tried.entry(name).or_default().insert(fires);
        }
    }
    for (alert, _) in alerts(&rules()) {
        let seen = tried.get(alert.as_str());
        assert_eq!(seen, Some(&BTreeSet::from([false, true])), "{alert}");
    }
}

#[test]
fn each_alert_has_a_page_that_its_url_leads_to_and_a_line_in_the_list() {
    let list = std::fs::read_to_string(project().join("docs/chart.md")).unwrap();
    let mut pages = BTreeSet::new();
    for (alert, rule) in alerts(&rules()) {
        let page = project().join(format!("docs/runbooks/{alert}.md"));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{alert}: {e}"));
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        assert!(
            page.starts_with(&format!("# {alert}\n\n{summary}.\n")),
            "{alert}"
        );
        for part in ["## What it means", "## What it does", "## What to do"] {
            assert!(page.contains(part), "{alert}: {part}");
        }
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        let end = format!("/runbooks/{alert}.md");
        assert!(url.starts_with("https://") && url.ends_with(&end), "{url}");
        let severity = rule["labels"]["severity"].as_str().unwrap();
        let line = format!("| [{alert}](runbooks/{alert}.md) | {severity} |");
        assert!(list.contains(&line), "{line}");
        pages.insert(format!("{alert}.md"));
    }
    let files = std::fs::read_dir(project().join("docs/runbooks")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), pages);
}

#[test]
fn each_query_of_the_dashboard_returns_data() {
    let queries = dashboard_queries().into_iter();
    let tests = queries.map(|(_, query)| {
        json!({"expr": format!("count({query}) > bool 0"), "eval_time": "150m", "exp_samples": [{"labels": "{}", "value": 1}]})
    });
    let folder = folder("dashboard");
    let case = json!({"rule_files": [], "evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": series(), "promql_expr_test": tests.collect::<Vec<Value>>()}]});
    std::fs::write(folder.join("queries.yaml"), case.to_string()).unwrap();
    promtool(&["test", "rules", "queries.yaml"], &folder);
}

#[test]
fn queries_ask_for_every_metric_of_the_operator_and_for_no_other() {
    let metrics = metrics();
    assert!(metrics.len() > 15, "{metrics:?}");
    let shown: BTreeSet<String> = dashboard_queries()
        .iter()
        .flat_map(|(_, query)| asked(query))
        .collect();
    assert_eq!(shown, metrics, "the dashboard and src/ops/metrics.rs");
    for (alert, rule) in alerts(&rules()) {
        let asked = asked(rule["expr"].as_str().unwrap());
        assert!(!asked.is_empty() && asked.is_subset(&metrics), "{alert}");
    }
}

#[test]
fn panels_have_places_of_their_own() {
    let dashboard = std::fs::read_to_string(project().join("charts/stint/files/dashboard.json"));
    let dashboard: Value = serde_json::from_str(&dashboard.unwrap()).unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} lies on another", panel["title"]);
            }
        }
    }
}

#[test]
fn nothing_of_it_is_there_unless_it_is_asked_for() {
    let monitoring = |object: &Value| object["apiVersion"] == "monitoring.coreos.com/v1";
    assert!(!objects("{}").iter().any(monitoring));
    assert!(of_kind("{}", "ConfigMap").is_empty());
}
