//! The chart as helm renders it: every feature, and what is refused. Needs helm, which is built with the
//! programs of the test control plane, and no cluster.

use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::chart::{features_and_presets, helm, helm_for, objects, of_kind, only, pod, rendered};
use support::project;

/// Values of one feature.
fn ci(name: &str) -> String {
    std::fs::read_to_string(project().join("charts/stint/ci").join(name)).unwrap()
}

#[test]
fn every_feature_and_preset_renders_and_lints() {
    let all = features_and_presets();
    assert!(all.len() > 12, "{}", all.len());
    for (name, values) in all {
        assert!(!objects(&values).is_empty(), "{name}");
        let lint = helm(&["lint", "--strict", "charts/stint"], &values);
        lint.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn the_default_render_is_what_was_reviewed() {
    let path = project().join("tests/chart/default.yaml");
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
#[case::a_drain_without_end_by_share(
    "podDisruptionBudget: {enabled: true, minAvailable: '100%', maxUnavailable: ''}",
    "for good"
)]
#[case::a_drain_without_end_by_count(
    "podDisruptionBudget: {enabled: true, minAvailable: 2, maxUnavailable: ''}",
    "for good"
)]
#[case::none_may_be_away("podDisruptionBudget: {maxUnavailable: 0}", "for good")]
#[case::users_in_the_nodes_network(
    "{hostNetwork: true, hostUsers: false, dnsPolicy: ClusterFirstWithHostNet}",
    "leave hostUsers empty"
)]
#[case::one_port_for_both("webhook: {port: 8080}", "must differ")]
#[case::no_secret_is_named("webhook: {certificate: {mode: secret}}", "is required in mode")]
#[case::a_url_for_a_pod("webhook: {url: 'https://127.0.0.1:9443'}", "leave it empty")]
#[case::no_dns("hostNetwork: true", "set dnsPolicy")]
#[case::a_drain_without_end_by_rounding(
    "podDisruptionBudget: {enabled: true, minAvailable: '51%', maxUnavailable: ''}",
    "for good"
)]
#[case::two_leaders(
    "leaderElection: {leaseDuration: 1m, renewDeadline: 60s}",
    "leaseDuration must be longer than renewDeadline"
)]
#[case::no_second_try(
    "leaderElection: {renewDeadline: 2400ms, retryPeriod: 2s}",
    "longer than 1.2 times retryPeriod"
)]
#[case::no_try("leaderElection: {retryPeriod: 0s}", "none may be 0")]
#[case::the_keys_of_receipts(
    "webhook: {certificate: {secretName: stint-receipt-keys}}",
    "name another one"
)]
#[case::the_authority_of_cert_manager(
    "webhook: {certificate: {mode: cert-manager, secretName: stint-webhook-ca}}",
    "name another one"
)]
#[case::a_number_that_is_read_otherwise("leaderElection: {renewDeadline: 013s}", "leaderElection")]
#[case::a_share_that_is_read_otherwise(
    "podDisruptionBudget: {enabled: true, minAvailable: '080%', maxUnavailable: ''}",
    "minAvailable"
)]
#[case::an_issuer_for_nobody(
    "webhook: {certificate: {issuerRef: {name: mine}}}",
    "mode=cert-manager"
)]
#[case::a_guard_that_is_off("guard: {enabled: false, cluster: deny}", "nothing is denied")]
#[case::no_address("service: {ipFamilies: [IPv6]}", "listenAddress=\"[::]\"")]
fn what_cannot_work_is_refused_with_the_remedy(#[case] values: &str, #[case] says: &str) {
    let error = rendered(values).unwrap_err();
    assert!(error.contains(says), "{error}");
}

#[rstest]
#[case::too_old("1.32.9", false)]
#[case::the_oldest("1.33.0", true)]
#[case::of_a_provider("1.33.1-eks-4096722", true)]
#[case::before_the_oldest_is_out("1.33.0-rc.1", true)]
#[case::the_newest("1.37.2", true)]
fn the_chart_says_for_which_kubernetes_it_is(#[case] version: &str, #[case] taken: bool) {
    let args = ["template", "stint", "charts/stint"];
    let error = helm_for(version, &args, "{}").err();
    let refused = error.is_some_and(|why| why.contains("incompatible with Kubernetes"));
    assert_eq!(refused, !taken, "{version}");
}

#[rstest]
fn namespaces_of_kubernetes_are_refused(
    #[values("kube-system", "kube-public", "kube-node-lease")] namespace: &str,
) {
    let args = [
        "template",
        "stint",
        "charts/stint",
        "--namespace",
        namespace,
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
    let values = &ci("images-values.yaml");
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

/// The ClusterRoles of Kubernetes that a ClusterRole of the chart is added to.
fn added_to(values: &str, name: &str) -> Vec<String> {
    let mut roles = of_kind(values, "ClusterRole");
    roles.retain(|role| role["metadata"]["name"] == name);
    let labels = roles[0]["metadata"]["labels"].as_object().unwrap();
    let prefix = "rbac.authorization.k8s.io/aggregate-to-";
    let to = labels.keys().filter_map(|key| key.strip_prefix(prefix));
    to.map(String::from).collect()
}

#[rstest]
#[case::by_default("{}", &["view"], &[])]
#[case::nobody_reads("aggregation: {view: false}", &[], &[])]
#[case::edit_asks("aggregation: {requester: edit}", &["view"], &["edit"])]
#[case::admin_asks("aggregation: {requester: admin}", &["view"], &["admin"])]
fn asking_is_part_of_edit_only_on_request(
    #[case] values: &str,
    #[case] readers: &[&str],
    #[case] requesters: &[&str],
) {
    assert_eq!(added_to(values, "stint-view"), readers);
    assert_eq!(added_to(values, "stint-requester"), requesters);
    assert!(added_to(values, "stint-approver").is_empty());
    assert!(added_to(values, "stint").is_empty(), "the operator's own");
}

/// Whatever is switched on, the operator holds what it needs for itself and the ceiling.
#[test]
fn two_kinds_of_rights_are_bound_to_the_operator_and_no_others() {
    for (name, values) in features_and_presets() {
        let objects = objects(&values);
        let operators = |binding: &&Value| {
            let subjects = binding["subjects"].as_array().into_iter().flatten();
            let mut names = subjects.map(|subject| &subject["name"]);
            names.any(|name| name == "stint")
        };
        let bound = objects.iter().filter(operators);
        let bound: BTreeSet<&str> = bound
            .map(|b| b["roleRef"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            bound,
            BTreeSet::from(["stint", "stint-grantable"]),
            "{name}"
        );
    }
}

#[rstest]
#[case::into_edit("rbac.authorization.k8s.io/aggregate-to-edit")]
#[case::into_the_ceiling("rbac.stint.dev/grantable")]
#[case::as_a_grant("stint.dev/grant")]
#[case::as_another_app("app.kubernetes.io/name")]
fn a_common_label_cannot_mean_something_to_stint(#[case] label: &str) {
    let error = rendered(&format!("commonLabels: {{{label}: x}}")).unwrap_err();
    let refused = format!("invalid propertyName '{label}'");
    assert!(error.contains(&refused), "{error}");
}

#[test]
fn ports_are_the_same_wherever_they_are_named() {
    let values = "{webhook: {port: 10250}, metrics: {port: 9090}, listenAddress: '[::]'}";
    let container = pod(values)["containers"][0].clone();
    let args = container["args"].as_array().unwrap();
    for arg in ["--webhook-listen=[::]:10250", "--admin-listen=[::]:9090"] {
        assert!(args.contains(&json!(arg)), "{args:?}");
    }
    let ports = json!([{"name": "webhook", "containerPort": 10250}, {"name": "admin", "containerPort": 9090}]);
    assert_eq!(container["ports"], ports);
    let test = only(values, "Pod")["spec"]["containers"][0]["args"].clone();
    assert_eq!(test[1], "--admin=stint-metrics.stint-system.svc:9090");
}

#[test]
fn credentials_for_registries_are_added_up() {
    let values = &ci("images-values.yaml");
    let both = json!([{"name": "shared"}, {"name": "own"}]);
    assert_eq!(pod(values)["imagePullSecrets"], both);
    assert_eq!(only(values, "Pod")["spec"]["imagePullSecrets"], both);
}

#[test]
fn annotations_of_the_webhooks_are_added_to_those_of_cert_manager() {
    let values = "webhook: {annotations: {a: b}, certificate: {mode: cert-manager}}";
    let mut seen = 0;
    for kind in [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        for configuration in of_kind(values, kind) {
            let annotations =
                json!({"a": "b", "cert-manager.io/inject-ca-from": "stint-system/stint-webhook"});
            assert_eq!(configuration["metadata"]["annotations"], annotations);
            seen += 1;
        }
    }
    assert_eq!(seen, 3, "requests, their receipts, and the guard");
}

#[rstest]
#[case::by_the_service("", &[], None)]
#[case::by_a_name("https://stint.example:9443", &["stint.example"], None)]
#[case::by_an_address("https://127.0.0.1:9443", &[], Some("127.0.0.1"))]
#[case::by_a_longer_address("https://[::1]:9443", &[], Some("::1"))]
fn cert_manager_issues_for_the_host_that_the_api_server_reaches(
    #[case] url: &str,
    #[case] more: &[&str],
    #[case] address: Option<&str>,
) {
    let inside = url.is_empty();
    let values = format!(
        "{{deployment: {{enabled: {inside}}}, webhook: {{url: '{url}', certificate: {{mode: cert-manager}}}}}}"
    );
    let certificates = of_kind(&values, "Certificate");
    let spec = &certificates.last().unwrap()["spec"];
    let names = [&["stint-webhook.stint-system.svc"], more].concat();
    assert_eq!(spec["dnsNames"], json!(names));
    assert_eq!(spec["ipAddresses"][0].as_str(), address);
}

#[rstest]
#[case::by_default("", json!({"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"}))]
#[case::larger("ECDSA-P384", json!({"algorithm": "ECDSA", "size": 384, "rotationPolicy": "Always"}))]
#[case::without_sizes("Ed25519", json!({"algorithm": "Ed25519", "rotationPolicy": "Always"}))]
fn cert_manager_makes_keys_of_the_algorithm(#[case] algorithm: &str, #[case] expected: Value) {
    let chosen = match algorithm {
        "" => String::new(),
        _ => format!(", keyAlgorithm: {algorithm}"),
    };
    let values = format!("{{webhook: {{certificate: {{mode: cert-manager{chosen}}}}}}}");
    let certificates = of_kind(&values, "Certificate");
    assert_eq!(certificates.len(), 2);
    for certificate in certificates {
        assert_eq!(certificate["spec"]["privateKey"], expected);
    }
}

#[test]
fn replicas_are_spread_where_that_is_possible() {
    let keys = |values: &str| -> Vec<String> {
        let spread = pod(values)["topologySpreadConstraints"].clone();
        let spread = spread.as_array().cloned().unwrap_or_default();
        let key = |c: &Value| c["topologyKey"].as_str().unwrap().to_owned();
        spread.iter().map(key).collect()
    };
    let both = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"];
    assert_eq!(keys("{}"), both);
    assert!(keys("replicas: 1").is_empty());
    assert_eq!(keys(&ci("spread-values.yaml")), [both[1]]);
}

/// What Artifact Hub shows is what is installed.
#[test]
fn the_listing_names_the_kinds_and_the_image_of_the_chart() {
    let listing = std::fs::read_to_string(project().join("charts/stint/Chart.yaml")).unwrap();
    let listing: Value = serde_saphyr::from_str(&listing).unwrap();
    let annotation = |name: &str| -> Vec<Value> {
        let text = &listing["annotations"][format!("artifacthub.io/{name}")];
        serde_saphyr::from_str(text.as_str().unwrap()).unwrap()
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let listed: BTreeSet<(String, String)> = annotation("crds")
        .iter()
        .map(|crd| (text(&crd["name"]), text(&crd["kind"])))
        .collect();
    let made: BTreeSet<(String, String)> = of_kind("{}", "CustomResourceDefinition")
        .iter()
        .map(|crd| {
            (
                text(&crd["metadata"]["name"]),
                text(&crd["spec"]["names"]["kind"]),
            )
        })
        .collect();
    assert_eq!(listed, made);
    assert_eq!(
        annotation("images")[0]["image"],
        pod("{}")["containers"][0]["image"]
    );
    let kinds = [
        "added",
        "changed",
        "deprecated",
        "removed",
        "fixed",
        "security",
    ];
    for change in annotation("changes") {
        assert!(
            kinds.contains(&change["kind"].as_str().unwrap()),
            "{change}"
        );
    }
}
