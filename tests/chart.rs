//! The chart, read as text: its page tells the truth, its CRDs are those of the code, its rights are narrow.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use stint::domain::completion::{Kind, default_kinds};
use support::project;
use support::values;

/// The longest default that the table of values shows.
const LONGEST: usize = 100;

fn read(path: impl AsRef<Path>) -> String {
    let path = project().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What each value is for.
fn documented() -> BTreeMap<String, String> {
    let said = values::comments().into_iter();
    said.filter_map(|(path, comment)| Some((path, comment.meaning?)))
        .collect()
}

/// Paths of the values that are not maps.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                leaves(value, path.trim_start_matches('.'), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_value_says_what_it_is_for() {
    let documented = documented();
    let mut all = Vec::new();
    leaves(&values::values(), "", &mut all);
    for leaf in all {
        let said = |path: &String| leaf == *path || leaf.starts_with(&format!("{path}."));
        assert!(documented.keys().any(said), "{leaf} has no `# --` comment");
    }
}

#[test]
fn the_table_of_values_is_values_yaml() {
    let values = values::values();
    let expected: Vec<String> = documented()
        .into_iter()
        .map(|(path, meaning)| {
            let value = &values[path.split('.').next().unwrap()];
            let value = path.split('.').skip(1).fold(value, |v, key| &v[key]);
            let default = match value.to_string() {
                long if long.len() > LONGEST => "see [values.yaml](values.yaml)".to_owned(),
                short => format!("`{short}`"),
            };
            format!("| `{path}` | {default} | {meaning} |")
        })
        .collect();
    let page = read("charts/stint/README.md");
    let (before, table) = page.split_once("|---|---|---|\n").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        let after = table.split_once("\n\n").map_or("", |(_, after)| after);
        let gap = if after.is_empty() { "" } else { "\n" };
        let made = format!(
            "{before}|---|---|---|\n{}\n{gap}{after}",
            expected.join("\n")
        );
        std::fs::write(project().join("charts/stint/README.md"), made).unwrap();
        return;
    }
    let mut shown: Vec<&str> = table.lines().take_while(|l| l.starts_with('|')).collect();
    shown.sort_unstable();
    assert_eq!(shown, expected);
}

#[test]
fn the_crds_of_the_chart_are_those_of_the_code() {
    let output = Command::new(env!("CARGO_BIN_EXE_stint"))
        .arg("crds")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    for file in ["crds/stint.dev.yaml", "charts/stint/files/crds.yaml"] {
        assert!(read(file) == printed, "{file} is stale: run `make chart`");
    }
}

/// The documents of a template whose only expressions are names.
fn documents(template: &str) -> Vec<Value> {
    let text: String = read(template)
        .lines()
        .filter(|l| !l.starts_with("{{") && !l.contains("include \"stint.labels\""))
        .map(|l| l.replace("{{ $name }}", "stint") + "\n")
        .map(|l| l.replace("{{ $secret }}", "stint-webhook-certificate"))
        .collect();
    let text = text.replace("{{ .Release.Namespace }}", "stint-system");
    assert!(!text.contains("{{"), "{template}: {text}");
    text.split("---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect()
}

/// Every word of a list of a rule.
fn words<'a>(rules: &'a Value, list: &'a str) -> impl Iterator<Item = &'a str> {
    let rules = rules.as_array().into_iter().flatten();
    rules
        .flat_map(move |rule| rule[list].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
}

fn assert_narrow(rules: &Value, what: &str) {
    assert!(words(rules, "verbs").count() > 0, "{what} has no rules");
    for verb in words(rules, "verbs") {
        let grows = ["bind", "escalate", "approve", "sign"].contains(&verb);
        assert!(!grows && !verb.starts_with("impersonate"), "{what}: {verb}");
    }
    for list in [
        "apiGroups",
        "resources",
        "resourceNames",
        "verbs",
        "nonResourceURLs",
    ] {
        let wild = words(rules, list).find(|word| word.contains('*'));
        assert_eq!(wild, None, "{what}: {list}");
    }
}

#[test]
fn the_operator_cannot_bind_escalate_impersonate_or_use_wildcards() {
    let roles = documents("charts/stint/templates/rbac.yaml")
        .into_iter()
        .filter(|object| ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap()));
    let mut count = 0;
    for role in roles {
        assert_narrow(&role["rules"], role["kind"].as_str().unwrap());
        count += 1;
    }
    assert_eq!(count, 2, "one ClusterRole and one Role");
    assert_narrow(
        &values::values()["grantable"]["rules"],
        "the default ceiling",
    );
}

#[test]
fn what_may_end_a_grant_is_read_and_nothing_more() {
    let helper = read("charts/stint/templates/_helpers.tpl");
    let rules = helper.split("define \"stint.untilRules\"").nth(1).unwrap();
    let rules = rules.split("{{- end }}\n{{- end }}").next().unwrap();
    let verbs: Vec<&str> = rules.lines().filter(|l| l.contains("verbs:")).collect();
    assert_eq!(verbs, ["  verbs: [get, list, watch]"]);
    let listed = values::values()["until"]["kinds"].clone();
    let listed = listed.as_array().unwrap().iter().map(|kind| {
        let text = |field: &str| kind[field].as_str().unwrap().to_owned();
        Kind {
            api_version: text("apiVersion"),
            kind: text("kind"),
            resource: text("resource"),
        }
    });
    let listed: Vec<Kind> = listed.collect();
    assert_eq!(listed, default_kinds(), "what lint takes for listed");
}

#[test]
fn the_operator_gets_rights_in_two_files_only() {
    let mut binding = Vec::new();
    for entry in std::fs::read_dir(project().join("charts/stint/templates")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // The pod of `helm test` has an account of its own.
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let binds = |l: &str| ["kind: RoleBinding", "kind: ClusterRoleBinding"].contains(&l);
        if text.lines().any(binds) {
            binding.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    binding.sort_unstable();
    assert_eq!(binding, ["ceiling.yaml", "rbac.yaml"]);
}
