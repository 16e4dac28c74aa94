//! Policies in depth on a real control plane: what an account holds in total, what a policy asks for, and what ends a grant
//! when the world around it changes. The operator runs as its own ServiceAccount.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use stint::api::workload_access::{EndReason, Risk};
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::{Team, create};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

async fn team() -> Team {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    secrets_are_grantable(stint).await;
    Team::new(stint).await
}

/// Secrets are not in the default ceiling; a cluster adds them with a ClusterRole of its own.
async fn secrets_are_grantable(stint: &'static Stint) {
    static ONCE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    ONCE.get_or_init(|| async {
        let role = json!({
            "metadata": {"name": "secrets-are-grantable", "labels": {"rbac.stint.dev/grantable": "true"}},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]
        });
        create(&stint.cluster().admin(), RBAC, "ClusterRole", "", role).await;
    })
    .await;
}

/// The team may change what Deployments run and read secrets, each by itself.
async fn wide_team() -> Team {
    let team = team().await;
    let allow = json!({
        "rules": [
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
        ],
        "findings": ["OB-P01", "OB-X04", "OB-S01"]
    });
    team.change_policy(json!({"allow": allow})).await.unwrap();
    team
}

fn deployments() -> Value {
    json!({"duration": "1h", "rules": [{"apiGroups": ["apps"], "resources": ["deployments"],
           "resourceNames": ["billing-api"], "verbs": ["get", "patch"]}]})
}

fn secrets() -> Value {
    json!({"duration": "1h", "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]})
}

/// Waits until a dry run of the request passes.
async fn admitted(team: &Team, changes: Value) {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let request = team.request_with("probe", changes);
    let api = team.requests(User::Alice);
    eventually("the request passes a dry run", async || {
        api.create(&dry_run, &request).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_finding_is_granted_when_the_policy_names_it_and_the_status_says_so() {
    let team = wide_team().await;
    admitted(&team, deployments()).await;
    let granted = team
        .granted(&team.request_with("patch", deployments()))
        .await;
    let status = granted.status.unwrap();
    assert_eq!(status.risk, Some(Risk::High));
    assert_eq!(status.findings, ["OB-P01", "OB-X04"]);

    let rules =
        json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}]);
    let allow = json!({"rules": rules, "findings": ["OB-X04"]});
    team.change_policy(json!({"allow": allow})).await.unwrap();
    let ended = team
        .becomes("patch", "PolicyWithdrawn")
        .await
        .status
        .unwrap();
    assert_eq!(ended.end_reason, Some(EndReason::PolicyWithdrawn));
    let text = team
        .refused_with(&team.request_with("again", deployments()), "OB-P01")
        .await;
    assert!(text.contains("spec.rules[0].resources[0]"), "{text}");
    assert!(text.contains("in its `allow.findings`"), "{text}");
}

#[tokio::test]
async fn two_grants_that_make_more_together_than_each_alone_are_not_both_given() {
    let team = wide_team().await;
    admitted(&team, secrets()).await;
    admitted(&team, deployments()).await;
    let first = team
        .granted(&team.request_with("patch", deployments()))
        .await;
    let binding = first.status.unwrap().role_binding.unwrap().name;
    let text = team
        .refused_with(&team.request_with("read", secrets()), "OB-C01")
        .await;
    assert!(
        text.contains(&format!("RoleBinding '{}/{binding}'", team.namespace)),
        "{text}"
    );

    // The other half alone is fine as soon as the first is gone.
    team.requests(User::Alice)
        .delete("patch", &DeleteParams::default())
        .await
        .unwrap();
    admitted(&team, secrets()).await;
    team.granted(&team.request_with("read", secrets())).await;
}

#[tokio::test]
async fn what_an_account_holds_by_a_standing_cluster_role_binding_counts() {
    let team = wide_team().await;
    admitted(&team, deployments()).await;
    let granted = team
        .granted(&team.request_with("patch", deployments()))
        .await;
    assert_eq!(granted.status.unwrap().risk, Some(Risk::High));
    let admin = team.stint.cluster().admin();
    let name = format!("legacy-{}", team.namespace);
    let role = json!({"metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]});
    create(&admin, RBAC, "ClusterRole", "", role).await;
    let group = format!("system:serviceaccounts:{}", team.namespace);
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]});
    let since = Timestamp::now();
    create(&admin, RBAC, "ClusterRoleBinding", "", binding).await;
    let text = team
        .refused_with(&team.request_with("more", deployments()), "OB-C01")
        .await;
    assert!(
        text.contains(&format!("ClusterRoleBinding '{name}'")),
        "{text}"
    );
    // The grant that was there before is judged again, and ends with the reason.
    let ended = team.becomes("patch", "PolicyWithdrawn").await;
    eprintln!(
        "the grant ended {} after the standing binding was made",
        Timestamp::now().duration_since(since)
    );
    assert!(message(&ended).contains("OB-C01"), "{}", message(&ended));
}

fn message(request: &stint::api::WorkloadAccess) -> String {
    let conditions = &request.status.as_ref().unwrap().conditions;
    conditions.iter().map(|c| c.message.as_str()).collect()
}

#[tokio::test]
async fn an_edited_policy_ends_its_own_grants_and_not_their_neighbours() {
    let team = team().await;
    let admin = team.stint.cluster().admin();
    create(
        &admin,
        "v1",
        "ServiceAccount",
        &team.namespace,
        json!({"metadata": {"name": "other"}}),
    )
    .await;
    let only = json!({"names": ["migrator"]});
    team.change_policy(json!({"serviceAccounts": only}))
        .await
        .unwrap();
    let neighbour = format!("{}-neighbour", team.namespace);
    let policy = json!({"metadata": {"name": neighbour}, "spec": {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}},
        "serviceAccounts": {"names": ["other"]},
        "allow": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}
    }});
    create(&admin, "stint.dev/v1alpha1", "AccessPolicy", "", policy).await;
    let role = json!({"metadata": {"name": format!("use-{neighbour}")},
        "rules": [{"apiGroups": ["stint.dev"], "resources": ["accesspolicies"], "resourceNames": [neighbour], "verbs": ["use"]}]});
    create(&admin, RBAC, "ClusterRole", "", role).await;
    let binding = json!({"metadata": {"name": format!("use-{neighbour}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("use-{neighbour}")},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]});
    create(&admin, RBAC, "ClusterRoleBinding", "", binding).await;

    let theirs = json!({"duration": "1h", "serviceAccountRef": {"name": "other"}});
    admitted(&team, theirs.clone()).await;
    team.granted(&team.request("mine", "1h")).await;
    team.granted(&team.request_with("theirs", theirs)).await;
    assert_eq!(team.bindings().await.len(), 2);

    let since = Timestamp::now();
    let narrower = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["else"], "verbs": ["get"]}]);
    team.change_policy(json!({"allow": {"rules": narrower}}))
        .await
        .unwrap();
    eventually("the binding is gone", async || {
        (team.bindings().await.len() == 1).then_some(())
    })
    .await;
    eprintln!(
        "the edited policy's grant was gone after {}",
        Timestamp::now().duration_since(since)
    );
    let ended = team.becomes("mine", "PolicyWithdrawn").await;
    assert!(
        message(&ended).contains("WA-NOT-ALLOWED"),
        "{}",
        message(&ended)
    );
    team.becomes("theirs", "Active").await;
    assert_eq!(team.bindings().await.len(), 1);
}

#[tokio::test]
async fn a_condition_on_the_requesters_groups_and_on_a_label_holds_and_is_flipped_live() {
    let team = team().await;
    let group = |name: &str| {
        json!({"conditions": [
            {"expression": format!("'{name}' in requester.groups"), "message": "is for those on call"},
            {"expression": "!('frozen' in namespaceObject.metadata.labels)"}
        ]})
    };
    team.change_policy(group("oncall")).await.unwrap();
    let request = team.request("job", "1h");
    let text = team.refused_with(&request, "WA-CONDITION").await;
    assert!(text.contains("is for those on call"), "{text}");
    team.change_policy(group("payments-devs")).await.unwrap();
    admitted(&team, json!({"duration": "1h"})).await;
    team.granted(&request).await;

    let since = Timestamp::now();
    label(&team, json!("yes")).await;
    let ended = team.becomes("job", "PolicyWithdrawn").await;
    eprintln!(
        "the grant ended {} after the label flipped",
        Timestamp::now().duration_since(since)
    );
    assert!(
        message(&ended).contains("WA-CONDITION"),
        "{}",
        message(&ended)
    );
    assert!(team.bindings().await.is_empty());
    label(&team, Value::Null).await;
    admitted(&team, json!({"duration": "1h"})).await;

    // The groups are those of the requester when the request was made; the policy may come to ask for others.
    team.granted(&team.request("another", "1h")).await;
    team.change_policy(group("oncall")).await.unwrap();
    team.becomes("another", "PolicyWithdrawn").await;
}

async fn label(team: &Team, frozen: Value) {
    let namespaces: Api<Namespace> = Api::all(team.stint.cluster().admin());
    let patch = Patch::Merge(json!({"metadata": {"labels": {"frozen": frozen}}}));
    let nobody = PatchParams::default();
    namespaces
        .patch(&team.namespace, &nobody, &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_is_refused_with_the_place_of_the_mistake() {
    let team = team().await;
    let bad = json!({"conditions": [{"expression": "risk == 'Low' &&\n  requester.team == 'x'"}]});
    let error = team.change_policy(bad).await.unwrap_err().to_string();
    assert!(
        error.contains("spec.conditions[0].expression") && error.contains("line 2, column 12"),
        "{error}"
    );
    let policies: Api<stint::api::AccessPolicy> = Api::all(team.stint.cluster().admin());
    eventually("the policy is ready", async || {
        let policy = policies.get(&team.namespace).await.ok()?;
        let conditions = policy.status?.conditions;
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_grant_follows_its_role_or_keeps_its_copy_as_the_policy_says() {
    let team = team().await;
    let admin = team.stint.cluster().admin();
    let source = json!({"metadata": {"name": "source"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    create(&admin, RBAC, "Role", &team.namespace, source).await;
    let by_role =
        json!({"duration": "1h", "rules": null, "roleRef": {"kind": "Role", "name": "source"}});
    admitted(&team, by_role.clone()).await;
    let kept = team
        .granted(&team.request_with("kept", by_role.clone()))
        .await;
    let stamp = kept.status.unwrap().source.unwrap();
    assert_eq!((stamp.name.as_str(), stamp.changed), ("source", false));

    change_role(&team, "list").await;
    let api = team.requests(User::Alice);
    eventually("the status says that the role has changed", async || {
        let source = api.get("kept").await.ok()?.status?.source?;
        source.changed.then_some(())
    })
    .await;
    assert_eq!(team.bindings().await.len(), 1);
    let events: Api<Event> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    eventually("an Event says so", async || {
        let all = events.list(&ListParams::default()).await.ok()?;
        let told = |event: &Event| event.reason.as_deref() == Some("SourceChanged");
        all.items.iter().any(told).then_some(())
    })
    .await;

    team.change_policy(json!({"followRole": "Revoke"}))
        .await
        .unwrap();
    let ended = team.becomes("kept", "PolicyWithdrawn").await;
    assert!(
        message(&ended).contains("copied from changed"),
        "{}",
        message(&ended)
    );
    assert!(team.bindings().await.is_empty());
}

const LEVELS: usize = 100;

#[tokio::test]
async fn a_role_put_together_over_a_hundred_levels_is_judged_by_what_it_holds_now() {
    let team = team().await;
    let admin = team.stint.cluster().admin();
    let name = |level: usize| format!("level-{level}-{}", team.namespace);
    let label =
        |level: usize| json!({format!("level.example.com/{}", team.namespace): level.to_string()});
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let bottom = json!({"metadata": {"name": name(0), "labels": label(0)}, "rules": rules});
    create(&admin, RBAC, "ClusterRole", "", bottom).await;
    for level in 1..=LEVELS {
        let selectors = json!([{"matchLabels": label(level - 1)}]);
        let role = json!({"metadata": {"name": name(level), "labels": label(level)},
            "aggregationRule": {"clusterRoleSelectors": selectors}, "rules": []});
        create(&admin, RBAC, "ClusterRole", "", role).await;
    }
    let top = json!({"kind": "ClusterRole", "name": name(LEVELS)});
    let allow = json!({"rules": rules, "roleRefs": [top]});
    team.change_policy(json!({"allow": allow, "followRole": "Revoke"}))
        .await
        .unwrap();
    let by_role = json!({"duration": "1h", "rules": null, "roleRef": top});
    admitted(&team, by_role.clone()).await;
    let granted = team.granted(&team.request_with("top", by_role)).await;
    let source = granted.status.unwrap().source.unwrap();
    assert!(source.aggregated && source.name == name(LEVELS));
    let workload = team.workload().await;
    assert!(team.may_get(&workload, "settings").await);

    // What is added at the bottom comes up to the top, and there it is another role than the one that was copied.
    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(admin);
    let wider = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    let patch = Patch::Merge(json!({"rules": wider}));
    let nobody = PatchParams::default();
    roles.patch(&name(0), &nobody, &patch).await.unwrap();
    team.becomes("top", "PolicyWithdrawn").await;
    for level in 0..=LEVELS {
        let now = DeleteParams::default();
        roles.delete(&name(level), &now).await.unwrap();
    }
}

async fn change_role(team: &Team, verb: &str) {
    let roles: Api<k8s_openapi::api::rbac::v1::Role> =
        Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]}]);
    let patch = Patch::Merge(json!({"rules": rules}));
    let nobody = PatchParams::default();
    roles.patch("source", &nobody, &patch).await.unwrap();
}

#[tokio::test]
async fn a_resource_is_known_as_soon_as_its_definition_is_served() {
    let team = team().await;
    let plural = format!("widgets-{}", team.namespace.replace('.', "-"));
    let widgets = json!({"duration": "1h", "rules": [{"apiGroups": ["example.com"], "resources": [plural], "verbs": ["get"]}]});
    let request = team.request_with("widgets", widgets);
    let text = team.refused_with(&request, "WA-UNKNOWN-RESOURCE").await;
    assert!(text.contains(&format!("'{plural}'")), "{text}");
    let definition = json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": plural, "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true,
                      "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let admin = team.stint.cluster().admin();
    create(
        &admin,
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "",
        definition,
    )
    .await;
    let api = team.requests(User::Alice);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    // The policy does not allow it; but that it exists is no longer in doubt.
    eventually("the resource is known", async || {
        let text = api.create(&dry_run, &request).await.err()?.to_string();
        (text.contains("WA-NOT-ALLOWED") && !text.contains("WA-UNKNOWN-RESOURCE")).then_some(())
    })
    .await;
    let nodes = json!({"duration": "1h", "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]});
    let text = team
        .refused_with(&team.request_with("nodes", nodes), "WA-INERT")
        .await;
    assert!(text.contains("nodes"), "{text}");
}
