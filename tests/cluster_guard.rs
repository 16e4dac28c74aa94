//! The guard on plain RBAC on a real control plane: look-alikes of common add-ons, the ratchet, the label of a namespace, and
//! what still works when the guard denies and nobody answers.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::ResourceExt;
use kube::{Api, Client};
use serde_json::{Value, json};
use support::cluster::{User, eventually};
use support::operator::{NAMESPACE, Stint};
use support::project;
use support::team::create;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const ADD_ONS: [&str; 4] = ["argo-cd", "cert-manager", "ingress", "prometheus"];

/// The guard is set for the whole installation, so each test has it for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

type Alone = (&'static Stint, MutexGuard<'static, ()>);

/// Stint with these values of the guard. Carol rules the cluster without being in `system:masters`.
async fn guarded(values: &[(&'static str, &'static str)]) -> Alone {
    static CAROL: OnceCell<()> = OnceCell::const_new();
    let alone = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let admin = stint.cluster().admin();
    CAROL
        .get_or_init(|| async {
            let binding = json!({"metadata": {"name": "carol"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "carol"}]});
            create(&admin, RBAC, "ClusterRoleBinding", "", binding).await;
            create(&admin, "v1", "Namespace", "", json!({"metadata": {"name": "add-ons"}})).await;
        })
        .await;
    stint.set_guard(values).await;
    (stint, alone)
}

fn carol(stint: &Stint) -> Client {
    stint.cluster().user(User::Carol)
}

fn manifest(name: &str) -> String {
    let folder = project().join("tests/guard");
    folder.join(format!("{name}.yaml")).display().to_string()
}

async fn apply(stint: &Stint, file: &str, more: &[&str]) -> (bool, String) {
    let args = [&["apply", "-f", file], more].concat();
    stint.kubectl(User::Carol, &args).await
}

/// The add-ons as they were before anybody looked.
async fn installed_by_the_administrator(stint: &Stint) {
    for name in ADD_ONS {
        let file = manifest(name);
        let (passed, text) = stint.kubectl(User::Admin, &["apply", "-f", &file]).await;
        assert!(passed, "{text}");
    }
}

async fn nothing_installed(stint: &Stint) {
    for name in ADD_ONS {
        let file = manifest(name);
        let gone = ["delete", "--ignore-not-found", "-f", &file];
        let (passed, text) = stint.kubectl(User::Admin, &gone).await;
        assert!(passed, "{text}");
    }
}

/// Waits until the API server calls the guard and the guard refuses: the configuration reaches it by a watch.
async fn denies(stint: &Stint, namespace: &str) {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let role = json!({"metadata": {"name": "probe"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]});
    let refused = |result: Result<(), kube::Error>| match result {
        Err(kube::Error::Api(status)) if status.code == 422 => Some(()),
        _ => None,
    };
    let client = carol(stint);
    if namespace.is_empty() {
        let api: Api<ClusterRole> = Api::all(client);
        let role: ClusterRole = serde_json::from_value(role).unwrap();
        eventually("the guard denies in the cluster", async || {
            refused(api.create(&dry_run, &role).await.map(drop))
        })
        .await;
    } else {
        let api: Api<Role> = Api::namespaced(client, namespace);
        let role: Role = serde_json::from_value(role).unwrap();
        eventually("the guard denies in the namespace", async || {
            refused(api.create(&dry_run, &role).await.map(drop))
        })
        .await;
    }
}

async fn counted(stint: &Stint, labels: &str) -> bool {
    let (_, metrics) = stint.admin_get("/metrics").await.unwrap();
    metrics.contains(&format!("stint_guard_findings_total{{{labels}}}"))
}

#[tokio::test]
async fn under_audit_every_add_on_installs_and_is_counted_and_told() {
    let (stint, _alone) = guarded(&[]).await;
    nothing_installed(stint).await;
    // The configuration was just written: until the API server knows it, nothing comes by.
    eventually("the guard sees a change", async || {
        let file = manifest("argo-cd");
        let gone = ["delete", "--ignore-not-found", "-f", &file];
        stint.kubectl(User::Admin, &gone).await;
        let (passed, text) = apply(stint, &file, &[]).await;
        assert!(passed && !text.contains("Warning"), "{text}");
        let labels = "code=\"OB-W01\",mode=\"audit\",kind=\"ClusterRole\"";
        counted(stint, labels).await.then_some(())
    })
    .await;
    for name in ADD_ONS {
        let (passed, text) = apply(stint, &manifest(name), &[]).await;
        assert!(passed && !text.contains("Warning"), "{name}: {text}");
    }
    for (code, kind) in [
        ("OB-S01", "ClusterRole"),
        ("OB-A01", "ClusterRole"),
        ("WA-STANDING", "ClusterRoleBinding"),
        ("OB-W01", "ClusterRoleBinding"),
        ("WA-STANDING", "RoleBinding"),
    ] {
        let labels = format!("code=\"{code}\",mode=\"audit\",kind=\"{kind}\"");
        assert!(counted(stint, &labels).await, "{labels}");
    }
    let binding: Api<ClusterRoleBinding> = Api::all(stint.cluster().admin());
    let binding = binding.get("ingress-controller").await.unwrap();
    let events: Api<Event> = Api::all(stint.cluster().admin());
    let event = eventually("an Event tells of the ingress controller", async || {
        let all = events.list(&ListParams::default()).await.ok()?;
        all.items.into_iter().find(|event| {
            let about = event.regarding.clone().unwrap_or_default();
            about.uid == binding.metadata.uid && event.reason.as_deref() == Some("GuardFinding")
        })
    })
    .await;
    let note = event.note.unwrap();
    assert!(
        note.starts_with("carol:\n") && note.contains("[OB-S01]"),
        "{note}"
    );
}

#[tokio::test]
async fn under_warn_an_add_on_installs_and_kubectl_says_what_was_found() {
    let (stint, _alone) = guarded(&[("defaultMode", "warn"), ("cluster", "warn")]).await;
    let text = eventually("kubectl warns", async || {
        nothing_installed(stint).await;
        let (passed, text) = apply(stint, &manifest("ingress"), &[]).await;
        assert!(passed, "{text}");
        text.contains("Warning").then_some(text)
    })
    .await;
    for code in ["[OB-S01]", "[WA-STANDING]"] {
        assert!(text.contains(code), "{text}");
    }
}

#[tokio::test]
async fn under_deny_what_is_there_may_be_applied_again_and_nothing_grows() {
    let (stint, _alone) = guarded(&[("defaultMode", "deny"), ("cluster", "deny")]).await;
    installed_by_the_administrator(stint).await;
    denies(stint, "").await;
    denies(stint, "add-ons").await;
    for name in ADD_ONS {
        for more in [&[][..], &["--server-side", "--force-conflicts"][..]] {
            let (passed, text) = apply(stint, &manifest(name), more).await;
            assert!(passed, "{name} {more:?}: {text}");
        }
        let file = manifest(name);
        let label = ["label", "--overwrite", "-f", &file, "touched=yes"];
        let (passed, text) = stint.kubectl(User::Carol, &label).await;
        assert!(passed, "{name}: {text}");
    }

    let roles: Api<ClusterRole> = Api::all(carol(stint));
    let more = json!([{"op": "add", "path": "/rules/-",
        "value": {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}}]);
    let more = Patch::Json::<()>(serde_json::from_value(more).unwrap());
    // The one that allows everything already cannot be made wider; its binding can, below.
    for role in [
        "certificates-controller",
        "ingress-controller",
        "metrics-scraper",
    ] {
        let wider = roles.patch(role, &PatchParams::default(), &more).await;
        let text = message(wider.unwrap_err());
        for told in [
            format!("ClusterRole \"{role}\" is invalid:"),
            "rules: Forbidden: 'create configmaps'".into(),
            format!("ClusterRoleBinding '{role}'"),
            "[WA-GREW]".into(),
        ] {
            assert!(text.contains(&told), "{told}: {text}");
        }
    }

    let bindings: Api<ClusterRoleBinding> = Api::all(carol(stint));
    let another = json!([{"op": "add", "path": "/subjects/-",
        "value": {"kind": "ServiceAccount", "name": "friend", "namespace": "add-ons"}}]);
    let another = Patch::Json::<()>(serde_json::from_value(another).unwrap());
    for binding in [
        "gitops-application-controller",
        "certificates-controller",
        "ingress-controller",
        "metrics-scraper",
    ] {
        let wider = bindings
            .patch(binding, &PatchParams::default(), &another)
            .await;
        let text = message(wider.unwrap_err());
        for told in ["subjects[1]: Forbidden: 'friend'", "[WA-STANDING]"] {
            assert!(text.contains(told), "{binding}: {told}: {text}");
        }
        // Of rights that a policy could give, only that they have no end is wrong.
        let harmless = binding == "metrics-scraper";
        assert_eq!(text.contains("[WA-GREW]"), !harmless, "{text}");
    }

    let less = json!([{"op": "remove", "path": "/rules/0"}]);
    let less = Patch::Json::<()>(serde_json::from_value(less).unwrap());
    let narrower = roles
        .patch("metrics-scraper", &PatchParams::default(), &less)
        .await;
    assert!(narrower.is_ok(), "{narrower:?}");
    // As a new one none of them would be made.
    for name in ["argo-cd", "cert-manager", "ingress"] {
        let file = manifest(name);
        stint.kubectl(User::Admin, &["delete", "-f", &file]).await;
        let (passed, text) = apply(stint, &file, &[]).await;
        assert!(
            !passed && text.contains("cluster.guard.stint.dev"),
            "{name}: {text}"
        );
    }
}

fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("not an answer of the API server: {other}"),
    }
}

#[tokio::test]
async fn a_role_of_thousands_of_rules_is_compared_and_judged() {
    let (stint, _alone) = guarded(&[("cluster", "deny"), ("failurePolicy", "Ignore")]).await;
    denies(stint, "").await;
    let rule = |i: usize| json!({"apiGroups": [format!("group-{i}.example.com")], "resources": ["widgets"], "verbs": ["get"]});
    let rules: Vec<Value> = (0..3_000).map(rule).collect();
    let name = "of-thousands";
    let mut object = json!({"metadata": {"name": name}, "rules": rules});
    create(
        &stint.cluster().admin(),
        RBAC,
        "ClusterRole",
        "",
        object.clone(),
    )
    .await;
    object["rules"]
        .as_array_mut()
        .unwrap()
        .push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}));
    let roles: Api<ClusterRole> = Api::all(carol(stint));
    let wider = roles
        .patch(name, &PatchParams::default(), &Patch::Merge(&object))
        .await;
    let text = message(wider.unwrap_err());
    assert!(
        text.contains("[OB-S01]") || text.contains("[OB-R05]"),
        "{text}"
    );
    roles.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn the_label_is_loosened_only_with_a_right_of_its_own() {
    let (stint, _alone) = guarded(&[]).await;
    let cluster = stint.cluster();
    let admin = cluster.admin();
    let namespace = cluster.namespace("labelled", &[]).await;
    let name = format!("labels-{namespace}");
    let role = json!({"metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
                   "verbs": ["get", "create", "update", "patch"]}]});
    create(&admin, RBAC, "ClusterRole", "", role).await;
    let to_bob = |name: &str| {
        json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]})
    };
    create(&admin, RBAC, "ClusterRoleBinding", "", to_bob(&name)).await;
    // Ruling the namespace itself is not enough.
    let rule = json!({"metadata": {"name": "everything"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    create(&admin, RBAC, "RoleBinding", &namespace, rule).await;

    let namespaces: Api<Namespace> = Api::all(cluster.user(User::Bob));
    let set = async |value: Value| {
        let patch = json!({"metadata": {"labels": {"stint.dev/guard": value}}});
        let nobody = PatchParams::default();
        namespaces
            .patch(&namespace, &nobody, &Patch::Merge(patch))
            .await
    };
    eventually("Bob may label", async || set(json!("audit")).await.ok()).await;
    eventually("a word that is no mode is refused", async || {
        let refused = set(json!("Deny")).await.err()?;
        message(refused)
            .contains("must be audit, warn or deny")
            .then_some(())
    })
    .await;
    set(json!("warn")).await.unwrap();
    set(json!("deny")).await.unwrap();
    for weaker in [json!("warn"), json!("audit"), Value::Null, json!("")] {
        let refused = message(set(weaker.clone()).await.unwrap_err());
        assert!(
            refused.contains("`unguard`") || weaker == json!(""),
            "{refused}"
        );
        let patch = json!({"metadata": {"labels": {"stint.dev/guard": weaker}}});
        let status = namespaces
            .patch_status(&namespace, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        assert!(status.is_err(), "not by the status either");
    }
    let mut bare = namespaces.get(&namespace).await.unwrap();
    bare.labels_mut().remove("stint.dev/guard");
    let finalize = namespaces
        .replace_subresource("finalize", &namespace, &PostParams::default(), &bare)
        .await;
    assert!(finalize.is_err(), "nor by its finalizers");
    denies(stint, &namespace).await;

    let unguard = format!("unguard-{namespace}");
    let role = json!({"metadata": {"name": unguard},
        "rules": [{"apiGroups": ["stint.dev"], "resources": ["namespaces"], "resourceNames": [namespace], "verbs": ["unguard"]}]});
    create(&admin, RBAC, "ClusterRole", "", role).await;
    create(&admin, RBAC, "ClusterRoleBinding", "", to_bob(&unguard)).await;
    eventually("with the right the label goes", async || {
        set(Value::Null).await.ok()
    })
    .await;
    let other = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": format!("{namespace}-new"), "labels": {"stint.dev/guard": "deny"}}});
    let other: Namespace = serde_json::from_value(other).unwrap();
    let made = namespaces.create(&PostParams::default(), &other).await;
    let patch = json!({"metadata": {"labels": {"stint.dev/guard": "warn"}}});
    let elsewhere = namespaces
        .patch(
            &made.unwrap().name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await;
    assert!(
        message(elsewhere.unwrap_err()).contains("`unguard`"),
        "only there"
    );
}

#[tokio::test]
async fn the_cluster_goes_on_when_the_guard_denies_and_nobody_answers() {
    let values = [("defaultMode", "deny"), ("cluster", "deny")];
    let (stint, _alone) = guarded(&values).await;
    let cluster = stint.cluster();
    installed_by_the_administrator(stint).await;
    let audited = cluster
        .namespace("audited", &[("stint.dev/guard", "audit")])
        .await;
    denies(stint, "").await;
    stint.kill().await;

    let roles: Api<ClusterRole> = Api::all(carol(stint));
    let harmless = json!({"metadata": {"name": "harmless"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    let role: ClusterRole = serde_json::from_value(harmless.clone()).unwrap();
    let refused = roles.create(&PostParams::default(), &role).await;
    let text = message(refused.unwrap_err());
    assert!(
        text.contains("failed calling webhook \"cluster.guard.stint.dev\""),
        "{text}"
    );
    // What gives nobody more does not wait.
    for name in ADD_ONS {
        let (passed, text) = apply(stint, &manifest(name), &[]).await;
        assert!(passed, "{name}: {text}");
    }
    create(&carol(stint), RBAC, "Role", &audited, harmless.clone()).await;
    create(&carol(stint), RBAC, "Role", NAMESPACE, harmless).await;

    // Carol, whom the guard does ask, upgrades the chart.
    let token = cluster.service_account_token("add-ons", "deployer").await;
    let binding = json!({"metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": "add-ons"}]});
    create(&cluster.admin(), RBAC, "ClusterRoleBinding", "", binding).await;
    let own: Api<ClusterRole> = Api::all(cluster.admin());
    let narrow = json!([{"op": "remove", "path": "/rules/0"}]);
    let narrow = Patch::Json::<()>(serde_json::from_value(narrow).unwrap());
    let nobody = PatchParams::default();
    own.patch("stint", &nobody, &narrow).await.unwrap();
    own.patch("stint-requester", &nobody, &narrow)
        .await
        .unwrap();
    let deployer = cluster.kubeconfig_for_token("deployer", &token);
    stint.helm_upgrade_as(&deployer).await.unwrap();
    let of_people = own.get("stint-requester").await.unwrap();
    assert_eq!(of_people.rules.unwrap_or_default().len(), 1, "put back");

    // The API server puts its own roles back when it starts.
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.admin());
    let gone = DeleteParams::default();
    own.delete("system:discovery", &gone).await.unwrap();
    bindings.delete("system:discovery", &gone).await.unwrap();
    own.patch("system:basic-user", &nobody, &narrow)
        .await
        .unwrap();
    cluster.restart_api_server().await.unwrap();
    assert!(own.get_opt("system:discovery").await.unwrap().is_some());
    assert!(
        bindings
            .get_opt("system:discovery")
            .await
            .unwrap()
            .is_some()
    );
    let basic = own.get("system:basic-user").await.unwrap();
    assert!(!basic.rules.unwrap_or_default().is_empty());

    // kube-controller-manager puts aggregated roles together, and cleans up.
    let leaf = json!({"metadata": {"name": "more-to-view", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}]});
    create(&cluster.admin(), RBAC, "ClusterRole", "", leaf).await;
    eventually("view has taken the rule in", async || {
        let view = own.get("view").await.ok()?;
        let rules = view.rules.unwrap_or_default();
        let groups = rules.iter().flat_map(|r| r.api_groups.iter().flatten());
        groups.into_iter().any(|g| g == "example.com").then_some(())
    })
    .await;
    own.delete("more-to-view", &gone).await.unwrap();

    // And with Stint back, everything is as it was.
    stint.start().await;
    denies(stint, "").await;
}

#[tokio::test]
async fn stint_starts_and_grants_without_the_configuration_of_the_guard() {
    use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
    let (stint, _alone) = guarded(&[("cluster", "deny")]).await;
    denies(stint, "").await;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(stint.cluster().admin());
    configurations
        .delete("stint-guard", &DeleteParams::default())
        .await
        .unwrap();
    stint.kill().await;
    stint.start().await;
    let team = support::team::Team::new(stint).await;
    team.granted(&team.request("without", "1h")).await;
}

#[tokio::test]
async fn what_the_guard_does_not_ask_about_is_for_the_operator_alone() {
    let (stint, _alone) = guarded(&[]).await;
    let bindings: Api<ClusterRoleBinding> = Api::all(stint.cluster().admin());
    let another = json!([{"op": "add", "path": "/subjects/-",
        "value": {"kind": "ServiceAccount", "name": "friend", "namespace": "default"}}]);
    let another = Patch::Json::<()>(serde_json::from_value(another).unwrap());
    for name in ["stint", "stint-grantable"] {
        eventually("the policy is in force", async || {
            let refused = bindings
                .patch(name, &PatchParams::default(), &another)
                .await;
            message(refused.err()?)
                .contains("the operator's own")
                .then_some(())
        })
        .await;
    }
    // Stint's own bindings are made without a question, also where everything else is refused.
    let (stint, _again) = {
        drop(_alone);
        guarded(&[("defaultMode", "deny")]).await
    };
    let team = support::team::Team::new(stint).await;
    denies(stint, &team.namespace).await;
    team.granted(&team.request("as-ever", "1h")).await;
    let bound: Api<RoleBinding> = Api::namespaced(stint.cluster().admin(), &team.namespace);
    let ours = ListParams::default().labels("stint.dev/grant");
    assert_eq!(bound.list(&ours).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn the_name_of_a_role_of_the_chart_exempts_no_binding() {
    let (stint, _alone) = guarded(&[("cluster", "deny")]).await;
    denies(stint, "").await;
    let bindings: Api<ClusterRoleBinding> = Api::all(carol(stint));
    let refused = async |name: &str| {
        let binding = json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "friend", "namespace": "default"}]});
        let binding = serde_json::from_value(binding).unwrap();
        let made = bindings.create(&PostParams::default(), &binding).await;
        message(made.expect_err(name))
    };
    let names = ["stint-grantable-default", "stint-view", "stint-approver"];
    for name in names {
        let text = refused(name).await;
        assert!(text.contains("WA-STANDING"), "{name}: {text}");
    }
    stint.kill().await;
    for name in names {
        let text = refused(name).await;
        assert!(text.contains("failed calling webhook"), "{name}: {text}");
    }
    stint.start().await;
}

/// The guard does not ask about the roles themselves, so nobody may come to hold them.
#[tokio::test]
async fn roles_that_nobody_is_asked_about_give_nobody_anything() {
    let (stint, _alone) = guarded(&[("cluster", "deny")]).await;
    denies(stint, "").await;
    let client = carol(stint);
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let nobody = PatchParams::default();
    let to = |name: &str| {
        json!({"metadata": {"name": "friends"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "friends"}]})
    };
    let aggregated = Patch::Merge(
        json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}}),
    );
    for name in ["stint", "stint-grantable", "stint-grantable-default"] {
        eventually("the policy is in force", async || {
            let refused = roles.patch(name, &nobody, &aggregated).await.err()?;
            message(refused)
                .contains("must not be part of")
                .then_some(())
        })
        .await;
        let binding: RoleBinding = serde_json::from_value(to(name)).unwrap();
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), "default");
        let refused = bindings.create(&PostParams::default(), &binding).await;
        let text = message(refused.expect_err(name));
        assert!(text.contains("for its account alone"), "{name}: {text}");
        let binding: ClusterRoleBinding = serde_json::from_value(to(name)).unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
        let refused = bindings.create(&PostParams::default(), &binding).await;
        let text = message(refused.expect_err(name));
        assert!(text.contains("for its account alone"), "{name}: {text}");
    }
    // A name that begins like them is anybody's, and is asked about.
    let wide = json!({"metadata": {"name": "stint-grantable-2"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]});
    let wide: ClusterRole = serde_json::from_value(wide).unwrap();
    let refused = roles.create(&PostParams::default(), &wide).await;
    assert!(message(refused.unwrap_err()).contains("OB-"));
}
