//! Grants on a real control plane: what is refused, what is granted, and how it ends. The operator runs as its own
//! ServiceAccount.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ResourceQuota, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::ResourceExt;
use rstest::rstest;
use serde_json::{Value, json};
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::{Team, create};

async fn team() -> Team {
    Team::new(Stint::shared(env!("CARGO_BIN_EXE_stint")).await).await
}

fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("not an answer of the API server: {other}"),
    }
}

/// Creates the request as this user and returns why it was refused.
async fn refused(team: &Team, user: User, changes: Value) -> String {
    let object = team.raw_request("refused", changes);
    let kind = kube::core::ApiResource::erase::<stint::api::WorkloadAccess>(&());
    let api: Api<kube::core::DynamicObject> =
        Api::namespaced_with(team.stint.cluster().user(user), &team.namespace, &kind);
    let object = serde_json::from_value(object).unwrap();
    message(
        api.create(&PostParams::default(), &object)
            .await
            .unwrap_err(),
    )
}

#[tokio::test]
async fn a_grant_gives_exactly_one_object_and_ends_on_time() {
    let team = team().await;
    let workload = team.workload().await;
    let admin = team.stint.cluster().admin();
    let configmaps: Api<ConfigMap> = Api::namespaced(admin, &team.namespace);
    for name in ["settings", "neighbour"] {
        let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        configmaps
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }
    assert!(!team.may_get(&workload, "settings").await);

    let granted = team.granted(&team.request("short", "3s")).await;
    let seen: Api<ConfigMap> = Api::namespaced(workload.clone(), &team.namespace);
    assert!(seen.get("settings").await.is_ok());
    assert!(message(seen.get("neighbour").await.unwrap_err()).contains("forbidden"));

    let status = granted.status.unwrap();
    let not_after = status.not_after.unwrap().0;
    assert_eq!(status.requested_by.as_deref(), Some("alice"));
    assert!(
        not_after.duration_since(status.activated_time.unwrap().0) <= SignedDuration::from_secs(4)
    );
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> =
        Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let name = status.role_binding.unwrap().name;
    let gone = eventually("the binding is gone", async || {
        let found = bindings.get_opt(&name).await.ok()?;
        found.is_none().then(Timestamp::now)
    })
    .await;
    assert!(gone >= not_after, "ended early");
    eventually("access is gone", async || {
        (!team.may_get(&workload, "settings").await).then_some(())
    })
    .await;
    let ended = team.becomes("short", "Expired").await.status.unwrap();
    assert!(
        ended
            .conditions
            .iter()
            .any(|c| c.type_ == "Active" && c.status == "False")
    );
    eventually("the deadline is gone", async || {
        no_jobs(&team).await.then_some(())
    })
    .await;
}

async fn no_jobs(team: &Team) -> bool {
    let jobs: Api<Job> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    jobs.list(&ListParams::default())
        .await
        .unwrap()
        .items
        .is_empty()
}

#[rstest]
#[case::wildcard_verb(json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "*"]}], "duration": "1h"}), "spec.rules[0].verbs", "OB-W03")]
#[case::wildcard_group(json!({"rules": [{"apiGroups": ["*"], "resources": ["configmaps"], "verbs": ["get"]}], "duration": "1h"}), "spec.rules[0].apiGroups", "OB-W04")]
#[case::empty_name(json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [""], "verbs": ["get"]}], "duration": "1h"}), "spec.rules[0].resourceNames", "OB-R01")]
#[case::no_expiry(json!({}), "spec", "WA-NO-EXPIRY")]
#[case::zero(json!({"duration": "0s"}), "spec.duration", "WA-WINDOW")]
#[case::negative(json!({"duration": "-1h"}), "spec.duration", "")]
#[case::absurd(json!({"duration": "99999h"}), "spec.duration", "WA-TOO-LONG")]
#[case::overflow(json!({"duration": "999999999999999999999h"}), "spec.duration", "")]
#[case::past(json!({"notAfter": "2020-01-01T00:00:00Z"}), "spec.notAfter", "WA-IN-PAST")]
#[case::odd_offset(json!({"notAfter": "2090-01-01T00:00:00+9"}), "spec.notAfter", "")]
#[case::too_far(json!({"notAfter": "2090-01-01T00:00:00+05:45"}), "spec.notAfter", "WA-TOO-LONG")]
#[case::outside_the_policy(json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}], "duration": "1h"}), "spec.rules", "WA-NOT-ALLOWED")]
#[case::shared_account(json!({"serviceAccountRef": {"name": "default"}, "duration": "1h"}), "spec.serviceAccountRef", "WA-ACCOUNT-DEFAULT")]
#[case::missing_account(json!({"serviceAccountRef": {"name": "other"}, "duration": "1h"}), "spec.serviceAccountRef", "WA-ACCOUNT-MISSING")]
#[case::foreign_account(json!({"serviceAccountRef": {"name": "migrator", "namespace": "kube-system"}, "duration": "1h"}), "spec.serviceAccountRef", "WA-ACCOUNT")]
#[case::missing_role(json!({"rules": null, "roleRef": {"kind": "Role", "name": "source"}, "duration": "1h"}), "spec.roleRef", "WA-ROLE-MISSING")]
#[case::look_alike(json!({"rules": [{"apiGroups": [""], "resources": ["cоnfigmaps"], "verbs": ["get"]}], "duration": "1h"}), "spec.rules[0].resources[0]", "")]
#[case::control_character(json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a\u{7}b"], "verbs": ["get"]}], "duration": "1h"}), "spec.rules[0].resourceNames[0]", "")]
#[case::no_reason(json!({"reason": "   ", "duration": "1h"}), "spec.reason", "")]
#[tokio::test]
async fn refuses(#[case] changes: Value, #[case] path: &str, #[case] code: &str) {
    let team = team().await;
    let text = refused(&team, User::Alice, changes).await;
    assert!(text.contains(path) && text.contains(code), "{text}");
    assert!(team.bindings().await.is_empty());
}

#[tokio::test]
async fn refuses_a_thousand_rules_and_ten_thousand_names() {
    let team = team().await;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]});
    let text = refused(
        &team,
        User::Alice,
        json!({"rules": vec![rule.clone(); 1000], "duration": "1h"}),
    )
    .await;
    assert!(text.contains("spec.rules"), "{text}");
    let names: Vec<String> = (0..10_000).map(|i| format!("n{i}")).collect();
    let mut rule = rule;
    rule["resourceNames"] = json!(names);
    let text = refused(
        &team,
        User::Alice,
        json!({"rules": [rule], "duration": "1h"}),
    )
    .await;
    assert!(text.contains("spec.rules[0].resourceNames"), "{text}");
}

#[tokio::test]
async fn refuses_who_may_not_use_the_policy() {
    let team = team().await;
    let text = refused(&team, User::Bob, json!({"duration": "1h"})).await;
    assert!(
        text.contains("WA-REQUESTER") && text.contains("'bob' has not"),
        "{text}"
    );
}

#[tokio::test]
async fn a_spec_cannot_change_and_revoking_cannot_be_taken_back() {
    let team = team().await;
    team.granted(&team.request("fixed", "1h")).await;
    let api = team.requests(User::Alice);
    let change = |spec: Value| {
        let api = api.clone();
        async move {
            api.patch(
                "fixed",
                &PatchParams::default(),
                &Patch::Merge(json!({"spec": spec})),
            )
            .await
        }
    };
    let text = message(change(json!({"reason": "another"})).await.unwrap_err());
    assert!(text.contains("WA-IMMUTABLE"), "{text}");
    change(json!({"revoked": true})).await.unwrap();
    team.becomes("fixed", "Revoked").await;
    assert!(team.bindings().await.is_empty());
    let text = message(change(json!({"revoked": false})).await.unwrap_err());
    assert!(text.contains("WA-IMMUTABLE"), "{text}");
    let text = message(change(json!({"duration": "2h"})).await.unwrap_err());
    assert!(
        text.contains("WA-WINDOW"),
        "what is over is not extended: {text}"
    );
}

#[tokio::test]
async fn the_receipt_cannot_be_changed_or_dropped() {
    let team = team().await;
    let granted = team.granted(&team.request("stamped", "1h")).await;
    let api = team.requests(User::Alice);
    let patch = json!({"metadata": {"annotations": {"stint.dev/receipt": null}}});
    let after = api
        .patch("stamped", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    assert_eq!(
        after.annotations().get("stint.dev/receipt"),
        granted.annotations().get("stint.dev/receipt")
    );
}

#[tokio::test]
async fn a_role_is_copied_and_its_growth_changes_nothing() {
    let team = team().await;
    let admin = team.stint.cluster().admin();
    create(&admin, "rbac.authorization.k8s.io/v1", "Role", &team.namespace, json!({
        "metadata": {"name": "source"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]}]
    })).await;
    let by_role =
        json!({"rules": null, "roleRef": {"kind": "Role", "name": "source"}, "duration": "1h"});
    team.granted(&team.request_with("by-role", by_role)).await;
    let workload = team.workload().await;
    eventually("the workload may read", async || {
        team.may_get(&workload, "settings").await.then_some(())
    })
    .await;
    let roles: Api<k8s_openapi::api::rbac::v1::Role> = Api::namespaced(admin, &team.namespace);
    let wider =
        json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    roles
        .patch("source", &PatchParams::default(), &Patch::Merge(wider))
        .await
        .unwrap();
    // Another pass over the grant, so that a careless copy would have happened by now.
    let touch = json!({"metadata": {"annotations": {"touched": "yes"}}});
    team.requests(User::Alice)
        .patch("by-role", &PatchParams::default(), &Patch::Merge(touch))
        .await
        .unwrap();
    team.granted(&team.request("after", "1h")).await;
    assert!(!team.may_get(&workload, "neighbour").await);
}

#[tokio::test]
async fn a_recreated_account_has_no_access() {
    let team = team().await;
    team.granted(&team.request("pinned", "1h")).await;
    let accounts: Api<ServiceAccount> =
        Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    accounts
        .delete("migrator", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the account is gone", async || {
        accounts
            .get_opt("migrator")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    let impostor = team.workload().await;
    let since = Timestamp::now();
    eventually("the new account has no access", async || {
        (!team.may_get(&impostor, "settings").await).then_some(())
    })
    .await;
    eprintln!(
        "the re-created account was without access after {}",
        Timestamp::now().duration_since(since)
    );
    let ended = team.becomes("pinned", "IdentityChanged").await;
    assert_eq!(
        ended.status.unwrap().end_reason,
        Some(stint::api::workload_access::EndReason::IdentityChanged)
    );
    assert!(team.bindings().await.is_empty());
}

#[tokio::test]
async fn deleting_the_request_ends_access() {
    let team = team().await;
    team.granted(&team.request("deleted", "1h")).await;
    let workload = team.workload().await;
    team.requests(User::Alice)
        .delete("deleted", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the binding is gone", async || {
        team.bindings().await.is_empty().then_some(())
    })
    .await;
    eventually("access is gone", async || {
        (!team.may_get(&workload, "settings").await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deleting_the_request_may_not_orphan_the_binding() {
    let team = team().await;
    team.granted(&team.request("kept", "1h")).await;
    let orphan = DeleteParams {
        propagation_policy: Some(kube::api::PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let text = message(
        team.requests(User::Alice)
            .delete("kept", &orphan)
            .await
            .unwrap_err(),
    );
    assert!(text.contains("WA-ORPHAN"), "{text}");
    assert_eq!(team.bindings().await.len(), 1);
}

#[tokio::test]
async fn deleting_the_binding_ends_the_grant() {
    let team = team().await;
    team.granted(&team.request("unbound", "1h")).await;
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> =
        Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let name = team.bindings().await[0].name_any();
    bindings
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    team.becomes("unbound", "Revoked").await;
    assert!(team.bindings().await.is_empty());
}

#[tokio::test]
async fn suspending_the_policy_ends_its_grants_and_admits_none() {
    let team = team().await;
    team.granted(&team.request("under-policy", "1h")).await;
    let policies: Api<stint::api::AccessPolicy> = Api::all(team.stint.cluster().admin());
    let suspend = Patch::Merge(json!({"spec": {"suspended": true}}));
    policies
        .patch(&team.namespace, &PatchParams::default(), &suspend)
        .await
        .unwrap();
    team.becomes("under-policy", "Suspended").await;
    assert!(team.bindings().await.is_empty());
    let text = refused(&team, User::Alice, json!({"duration": "1h"})).await;
    assert!(text.contains("WA-SUSPENDED"), "{text}");
}

#[tokio::test]
async fn an_account_holds_no_more_grants_than_its_policy_allows() {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let team = Team::with_limits(stint, json!({"maxActivePerAccount": 1})).await;
    team.granted(&team.request("first", "1h")).await;
    // The operator learns of its own binding by a watch; until then the controller alone holds the line.
    eventually("a second request is refused", async || {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let answer = team
            .requests(User::Alice)
            .create(&dry_run, &team.request("second", "1h"))
            .await;
        answer
            .err()
            .filter(|e| e.to_string().contains("WA-TOO-MANY"))
            .map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_full_job_quota_is_a_clear_refusal_and_no_binding() {
    let team = team().await;
    let quotas: Api<ResourceQuota> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let quota =
        json!({"metadata": {"name": "no-jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}});
    quotas
        .create(
            &PostParams::default(),
            &serde_json::from_value(quota).unwrap(),
        )
        .await
        .unwrap();
    eventually("the quota counts", async || {
        quotas
            .get("no-jobs")
            .await
            .unwrap()
            .status
            .and_then(|s| s.hard)
            .map(drop)
    })
    .await;
    let api = team.requests(User::Alice);
    api.create(&PostParams::default(), &team.request("no-room", "1h"))
        .await
        .unwrap();
    let refused = team.becomes("no-room", "ApplyRefused").await;
    let conditions = refused.status.unwrap().conditions;
    assert!(
        conditions[0].message.contains("exceeded quota"),
        "{}",
        conditions[0].message
    );
    assert!(conditions.iter().any(|c| c.type_ == "Stalled"));
    assert!(team.bindings().await.is_empty());
}

#[tokio::test]
async fn a_scheduled_grant_begins_at_its_time() {
    let team = team().await;
    let begin = stint::domain::window::round_down(Timestamp::now()) + SignedDuration::from_secs(4);
    let scheduled = team.request_with(
        "later",
        json!({"notBefore": begin.to_string(), "duration": "1h"}),
    );
    team.requests(User::Alice)
        .create(&PostParams::default(), &scheduled)
        .await
        .unwrap();
    team.becomes("later", "Scheduled").await;
    let active = team.becomes("later", "Active").await.status.unwrap();
    assert!(active.activated_time.unwrap().0 >= begin);
}

#[tokio::test]
async fn transitions_are_told_as_events() {
    let team = team().await;
    team.granted(&team.request("told", "2s")).await;
    team.becomes("told", "Expired").await;
    let events: Api<Event> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    eventually("both events are there", async || {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let has = |reason: &str| all.iter().any(|e| e.reason.as_deref() == Some(reason));
        (has("GrantActivated") && has("GrantExpired")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let team = team().await;
    team.granted(&team.request("counted", "1h")).await;
    let (status, text) = team.stint.admin_get("/metrics").await.unwrap();
    assert_eq!(status, 200);
    for name in [
        "stint_reconciles_total",
        "stint_reviews_total",
        "stint_certificate_not_after_seconds",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    assert_eq!(team.stint.admin_get("/livez").await.unwrap().0, 200);
}

#[tokio::test]
async fn requests_are_found_by_account_short_name_and_category() {
    let team = team().await;
    team.granted(&team.request("found", "1h")).await;
    for args in [
        vec![
            "get",
            "wa",
            "-n",
            &team.namespace,
            "--field-selector=spec.serviceAccountRef.name=migrator",
        ],
        vec!["get", "stint", "-n", &team.namespace],
    ] {
        let (ok, text) = team.stint.kubectl(User::Admin, &args).await;
        assert!(ok && text.contains("found "), "{args:?}: {text}");
    }
    let other = [
        "get",
        "wa",
        "-n",
        &team.namespace,
        "--field-selector=spec.serviceAccountRef.name=other",
    ];
    let (ok, text) = team.stint.kubectl(User::Admin, &other).await;
    assert!(ok && !text.contains("migrator"), "{text}");
}

#[tokio::test]
async fn a_request_right_behind_its_policy_is_admitted() {
    let team = team().await;
    let cluster = team.stint.cluster();
    let policies: Api<stint::api::AccessPolicy> = Api::all(cluster.admin());
    let mut policy = policies.get(&team.namespace).await.unwrap();
    let behind = Team {
        stint: team.stint,
        namespace: cluster.namespace("behind", &[]).await,
    };
    let account = json!({"metadata": {"name": "migrator"}});
    create(
        &cluster.admin(),
        "v1",
        "ServiceAccount",
        &behind.namespace,
        account,
    )
    .await;
    policy.metadata = serde_json::from_value(json!({"name": behind.namespace})).unwrap();
    let labels = json!({"matchLabels": {"kubernetes.io/metadata.name": behind.namespace}});
    policy.spec.namespace_selector = serde_json::from_value(labels).unwrap();
    let requests = behind.requests(User::Admin);
    let request = behind.request("at-once", "1h");
    policies
        .create(&PostParams::default(), &policy)
        .await
        .unwrap();
    requests
        .create(&PostParams::default(), &request)
        .await
        .unwrap();
    behind.becomes("at-once", "Active").await;
}
