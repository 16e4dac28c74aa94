use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    draft: DraftArgs,
}

fn draft(line: &[&str]) -> Result<Draft, Failure> {
    let line = Line::try_parse_from([&["request"], line].concat()).unwrap();
    line.draft.write()
}

const MORE: [&str; 4] = ["--for", "30m", "--reason", "r"];

#[test]
fn flags_become_a_request_that_holds_no_more_than_they_say() {
    let line = [
        "migrate-42",
        "--account",
        "migrator",
        "-n",
        "payments",
        "--verb",
        "get,patch",
        "--resource",
        "deployments.apps/scale,configmaps",
        "--resource-name",
        "billing-api",
        "--until",
        "job/migrate-42",
        "--ticket",
        "CHG-1",
        "--break-glass",
    ];
    let draft = draft(&[&line[..], &MORE].concat()).unwrap();
    assert_eq!(
        draft.object,
        json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": "migrate-42", "namespace": "payments"},
            "spec": {
                "serviceAccountRef": {"name": "migrator"}, "duration": "30m", "reason": "r", "ticket": "CHG-1",
                "urgency": "BreakGlass", "until": {"apiVersion": "batch/v1", "kind": "Job", "name": "migrate-42"},
                "rules": [
                    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["billing-api"], "verbs": ["get", "patch"]},
                    {"apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": ["billing-api"], "verbs": ["get", "patch"]}
                ]
            }
        })
    );
}

#[test]
fn a_request_for_the_whole_cluster_names_the_namespace_of_the_account() {
    let line = [
        "--account",
        "payments/migrator",
        "--cluster",
        "--verb",
        "get",
        "--resource",
        "nodes",
        "--non-resource-url",
        "/metrics",
    ];
    let draft = draft(&[&line[..], &MORE].concat()).unwrap();
    assert_eq!(draft.object["kind"], "ClusterWorkloadAccess");
    assert_eq!(
        draft.object["metadata"],
        json!({"generateName": "migrator-"})
    );
    assert_eq!(
        draft.object["spec"]["serviceAccountRef"],
        json!({"name": "migrator", "namespace": "payments"})
    );
    assert_eq!(
        draft.object["spec"]["rules"][1],
        json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]})
    );
    let line = [
        "--account",
        "migrator",
        "--cluster",
        "--cluster-role",
        "view",
    ];
    assert!(self::draft(&[&line[..], &MORE].concat()).is_err());
}

#[test]
fn errors_of_one_account_in_one_place_make_one_request() {
    let error = |verb: &str, namespace: &str| {
        format!(
            r#"deployments.apps "x" is forbidden: User "system:serviceaccount:ci:runner" cannot {verb} resource "deployments" in API group "apps" in the namespace "{namespace}""#
        )
    };
    let (get, patch, other) = (error("get", "a"), error("patch", "a"), error("get", "b"));
    let draft =
        draft(&[&["--from-error", &get, "--from-error", &patch][..], &MORE].concat()).unwrap();
    assert_eq!(draft.place, Some(Place::Namespace("a".into())));
    let spec = &draft.object["spec"];
    assert_eq!(
        spec["serviceAccountRef"],
        json!({"name": "runner", "namespace": "ci"})
    );
    assert_eq!(
        spec["rules"],
        json!([{"apiGroups": ["apps"], "resources": ["deployments"],
                                      "resourceNames": ["x"], "verbs": ["get", "patch"]}])
    );
    let Err(Failure::Error(why)) =
        self::draft(&[&["--from-error", &get, "--from-error", &other][..], &MORE].concat())
    else {
        panic!("two places in one request");
    };
    assert!(why.contains("ci/runner in a and ci/runner in b"), "{why}");
}

#[test]
fn what_is_missing_or_misspelt_is_named() {
    let says = |line: &[&str], text: &str| {
        let Err(Failure::Error(why)) = draft(&[line, &MORE].concat()) else {
            panic!("{line:?}")
        };
        assert!(why.contains(text), "{why}");
    };
    says(&["--account", "m"], "--verb with --resource");
    says(&["--account", "m", "--verb", "get"], "--resource");
    says(&["--account", "a/../b", "--role", "x"], "is no name");
    says(
        &[
            "--account",
            "m",
            "--verb",
            "get",
            "--resource",
            "Deployment",
        ],
        "lower case and plural",
    );
    says(
        &["--account", "m", "--role", "x", "--until", "cronjob/x"],
        "job/NAME",
    );
    let line = Line::try_parse_from(["request", "--account", "m", "--role", "x", "--reason", "r"]);
    assert!(line.is_err(), "a request without an end");
}
