//! What holds on a real control plane when things go wrong: the operator killed, its webhook gone, receipts forged, its
//! own rights abused, its objects tampered with.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::ResourceExt;
use rstest::rstest;
use serde_json::{Value, json};
use stint::api::WorkloadAccess;
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::outside::Outside;
use support::team::{Team, create};
use tokio::sync::{Mutex, MutexGuard};

/// These tests stop the operator or its webhook, so each has the installation for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> (Team, MutexGuard<'static, ()>) {
    let guard = ALONE.lock().await;
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    stint.start().await;
    (Team::new(stint).await, guard)
}

fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("not an answer of the API server: {other}"),
    }
}

async fn binding_gone(team: &Team) -> Timestamp {
    let bindings: Api<RoleBinding> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let managed = ListParams::default().labels("stint.dev/grant");
    eventually("the binding is gone", async || {
        bindings
            .list(&managed)
            .await
            .ok()?
            .items
            .is_empty()
            .then(Timestamp::now)
    })
    .await
}

#[tokio::test]
async fn kubernetes_itself_ends_a_grant_while_the_operator_is_dead() {
    let (team, _alone) = alone().await;
    let granted = team.granted(&team.request("orphaned", "3s")).await;
    team.stint.kill().await;
    let not_after = granted.status.unwrap().not_after.unwrap().0;
    let gone = binding_gone(&team).await;
    assert!(gone >= not_after, "ended early");
    eprintln!(
        "without the operator the grant ended {} after notAfter",
        gone.duration_since(not_after)
    );
    team.stint.start().await;
    team.becomes("orphaned", "Expired").await;
}

/// A token of `kubectl stint exec` hangs on the deadline too.
#[tokio::test]
async fn kubernetes_itself_ends_a_token_while_the_operator_is_dead() {
    let (team, _alone) = alone().await;
    let settings = json!({"metadata": {"name": "settings"}});
    let admin = team.stint.cluster().admin();
    create(&admin, "v1", "ConfigMap", &team.namespace, settings).await;
    let granted = team.granted(&team.request("outside", "15s")).await;
    let outside = Outside::start(&team, User::Admin, "outside").await;
    team.stint.kill().await;
    let text = outside.get_settings(&team).await;
    assert!(text.starts_with("NAME"), "{text}");
    outside.token_is_dead(&team).await;
    let not_after = granted.status.unwrap().not_after.unwrap().0;
    let dead = Timestamp::now();
    assert!(dead >= not_after, "ended early");
    eprintln!(
        "without the operator the token was not accepted {} after notAfter",
        dead.duration_since(not_after)
    );
    team.stint.start().await;
    team.becomes("outside", "Expired").await;
}

#[tokio::test]
async fn an_operator_that_comes_back_ends_what_is_overdue_before_it_is_ready() {
    let (team, _alone) = alone().await;
    let cluster = team.stint.cluster();
    let granted = team.granted(&team.request("overdue", "2s")).await;
    team.stint.kill().await;
    cluster.stop_controller_manager().await.unwrap();
    let not_after = granted.status.unwrap().not_after.unwrap().0;
    eventually("the deadline has passed", async || {
        (Timestamp::now() > not_after).then_some(())
    })
    .await;
    assert_eq!(team.bindings().await.len(), 1, "nobody was there to end it");
    team.stint.start().await;
    assert!(team.bindings().await.is_empty(), "ready means swept");
    cluster.start_controller_manager().await.unwrap();
}

#[tokio::test]
async fn deleting_the_request_ends_access_while_the_operator_is_dead() {
    let (team, _alone) = alone().await;
    team.granted(&team.request("deleted", "1h")).await;
    team.stint.kill().await;
    team.requests(User::Alice)
        .delete("deleted", &DeleteParams::default())
        .await
        .unwrap();
    binding_gone(&team).await;
    team.stint.start().await;
}

#[tokio::test]
async fn no_request_is_stored_while_the_webhook_is_down() {
    let (team, _alone) = alone().await;
    team.stint.kill().await;
    let api = team.requests(User::Alice);
    let text = message(
        api.create(&PostParams::default(), &team.request("unseen", "1h"))
            .await
            .unwrap_err(),
    );
    assert!(text.contains("failed calling webhook"), "{text}");
    team.stint.start().await;
}

/// Both webhook configurations, removed until `put_back`.
struct Unhooked {
    mutating: MutatingWebhookConfiguration,
    validating: ValidatingWebhookConfiguration,
    team: Team,
}

impl Unhooked {
    async fn new(team: Team) -> Self {
        let admin = team.stint.cluster().admin();
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(admin.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(admin);
        let unhooked = Self {
            mutating: mutating.get("stint").await.unwrap(),
            validating: validating.get("stint").await.unwrap(),
            team,
        };
        mutating
            .delete("stint", &DeleteParams::default())
            .await
            .unwrap();
        validating
            .delete("stint", &DeleteParams::default())
            .await
            .unwrap();
        unhooked.stored(&unhooked.team.request("probe", "1h")).await;
        unhooked
    }

    /// Creates a request that nobody reviews: the API server needs a moment to forget the webhooks.
    async fn stored(&self, request: &WorkloadAccess) -> WorkloadAccess {
        let api = self.team.requests(User::Alice);
        eventually("a request is stored without review", async || {
            let made = api.create(&PostParams::default(), request).await.ok()?;
            let stamped = made.annotations().get("stint.dev/receipt")
                != request.annotations().get("stint.dev/receipt");
            if stamped {
                api.delete(&made.name_any(), &DeleteParams::default())
                    .await
                    .unwrap();
                return None;
            }
            Some(made)
        })
        .await
    }

    async fn put_back(mut self) {
        let admin = self.team.stint.cluster().admin();
        self.mutating.metadata.resource_version = None;
        self.validating.metadata.resource_version = None;
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(admin.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(admin);
        mutating
            .create(&PostParams::default(), &self.mutating)
            .await
            .unwrap();
        validating
            .create(&PostParams::default(), &self.validating)
            .await
            .unwrap();
        let api = self.team.requests(User::Bob);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        eventually("the webhook refuses again", async || {
            api.create(&dry_run, &self.team.request("bobs", "1h"))
                .await
                .err()
        })
        .await;
    }
}

#[tokio::test]
async fn what_skipped_admission_never_becomes_access() {
    let (team, _alone) = alone().await;
    let granted = team.granted(&team.request("honest", "1h")).await;
    let receipt = granted.annotations()["stint.dev/receipt"].clone();
    let unhooked = Unhooked::new(team).await;
    let team = &unhooked.team;
    let carrying = |name: &str, receipt: &str| {
        let mut request = team.request(name, "1h");
        request.metadata.annotations =
            Some([("stint.dev/receipt".to_owned(), receipt.to_owned())].into());
        request
    };
    let (head, mac) = receipt.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", mac.chars().rev().collect::<String>());
    unhooked.stored(&team.request("without", "1h")).await;
    unhooked.stored(&carrying("forged", &forged)).await;
    unhooked.stored(&carrying("copied", &receipt)).await;
    for name in ["without", "forged", "copied"] {
        let refused = team.becomes(name, "Refused").await;
        let text = &refused.status.unwrap().conditions[0].message;
        assert!(text.contains("WA-RECEIPT"), "{name}: {text}");
    }
    assert_eq!(team.bindings().await.len(), 1, "only the honest one");
    unhooked.put_back().await;
}

#[rstest]
#[case::wildcard(json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}], "duration": "1h"}), "OB-W03")]
#[case::no_expiry(json!({}), "WA-NO-EXPIRY")]
#[case::absurd(json!({"duration": "99999h"}), "WA-TOO-LONG")]
#[case::both(json!({"duration": "1h", "notAfter": "2090-01-01T00:00:00Z"}), "WA-WINDOW")]
#[case::default_account(json!({"serviceAccountRef": {"name": "default"}, "duration": "1h"}), "WA-ACCOUNT-DEFAULT")]
#[tokio::test]
async fn the_schema_refuses_even_without_the_webhook(#[case] changes: Value, #[case] code: &str) {
    let (team, _alone) = alone().await;
    let unhooked = Unhooked::new(team).await;
    let team = &unhooked.team;
    let kind = kube::core::ApiResource::erase::<WorkloadAccess>(&());
    let api: Api<kube::core::DynamicObject> = Api::namespaced_with(
        team.stint.cluster().user(User::Alice),
        &team.namespace,
        &kind,
    );
    let object = serde_json::from_value(team.raw_request("bad", changes)).unwrap();
    let text = message(
        api.create(&PostParams::default(), &object)
            .await
            .unwrap_err(),
    );
    assert!(text.contains(code) && !text.contains("webhook"), "{text}");
    unhooked.put_back().await;
}

fn labelled(name: &str, mut rest: Value) -> Value {
    rest["metadata"] = json!({"name": name, "labels": {"stint.dev/grant": "0000"}});
    rest
}

fn job(parallelism: i32) -> Value {
    labelled(
        "stint-x-00000000",
        json!({"spec": {
            "parallelism": parallelism, "completions": 1,
            "activeDeadlineSeconds": 3600, "ttlSecondsAfterFinished": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
        }}),
    )
}

fn role(group: &str, resource: &str, verb: &str) -> Value {
    labelled(
        "stint-x-00000000",
        json!({"rules": [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]}),
    )
}

/// What no ceiling can contain: the platform team labels too much, and the admission policy still refuses.
async fn a_wide_ceiling_does_not_help(team: &Team, refused_role: &impl AsyncFn(Value) -> String) {
    let admin = team.stint.cluster().admin();
    let sources: Api<ClusterRole> = Api::all(admin.clone());
    let wide = json!({
        "metadata": {"name": "too-wide", "labels": {"rbac.stint.dev/grantable": "true"}},
        "rules": [
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["get"]},
            {"apiGroups": ["stint.dev"], "resources": ["workloadaccesses"], "verbs": ["get"]},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}
        ]
    });
    let wide = serde_json::from_value(wide).unwrap();
    sources.create(&PostParams::default(), &wide).await.unwrap();
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "stint-x-00000000", "uid": "0000"}]);
    for (group, resource, verb, says) in [
        (
            "rbac.authorization.k8s.io",
            "roles",
            "get",
            "must not name the API groups",
        ),
        (
            "stint.dev",
            "workloadaccesses",
            "get",
            "must not name the API groups",
        ),
        ("batch", "jobs", "create", "must not allow creating"),
    ] {
        let mut role = role(group, resource, verb);
        role["metadata"]["ownerReferences"] = owner.clone();
        // Until the ceiling is aggregated and known everywhere, other checks refuse first.
        eventually(says, async || {
            refused_role(role.clone())
                .await
                .contains(says)
                .then_some(())
        })
        .await;
    }
    sources
        .delete("too-wide", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the ceiling is as it was", async || {
        let ceiling = sources.get("stint-grantable").await.ok()?;
        let rules = ceiling.rules.unwrap_or_default();
        (!rules.iter().any(|r| r.verbs == ["create"])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_operators_own_account_cannot_exceed_its_ceiling() {
    let (team, _alone) = alone().await;
    let operator = team.stint.as_operator().await;
    let roles: Api<Role> = Api::namespaced(operator.clone(), &team.namespace);
    let refused_role = async |value: Value| {
        let role = serde_json::from_value(value).unwrap();
        message(
            roles
                .create(&PostParams::default(), &role)
                .await
                .unwrap_err(),
        )
    };
    let beyond = "attempting to grant RBAC permissions not currently held";
    assert!(
        refused_role(role("", "secrets", "get"))
            .await
            .contains(beyond)
    );
    assert!(
        refused_role(role("", "nodes", "get"))
            .await
            .contains(beyond)
    );
    assert!(
        refused_role(role("", "configmaps", "get"))
            .await
            .contains("must be owned by the deadline Job")
    );
    // What the operator holds for its own work passes the escalation check, and still not the ceiling.
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "stint-x-00000000", "uid": "0000"}]);
    for mut own in [
        role("batch", "jobs", "delete"),
        role("events.k8s.io", "events", "create"),
    ] {
        own["metadata"]["ownerReferences"] = owner.clone();
        let text = refused_role(own).await;
        assert!(
            text.contains("must lie within the ClusterRole stint-grantable"),
            "{text}"
        );
    }
    a_wide_ceiling_does_not_help(&team, &refused_role).await;
    let unlabelled = json!({"metadata": {"name": "x"}, "rules": []});
    assert!(
        refused_role(unlabelled)
            .await
            .contains("label stint.dev/grant")
    );

    let jobs: Api<Job> = Api::namespaced(operator.clone(), &team.namespace);
    let running = serde_json::from_value(job(1)).unwrap();
    let text = message(
        jobs.create(&PostParams::default(), &running)
            .await
            .unwrap_err(),
    );
    assert!(text.contains("parallelism 0"), "{text}");
    let mut endless = job(0);
    endless["spec"]["activeDeadlineSeconds"] = Value::Null;
    let endless = serde_json::from_value(endless).unwrap();
    let text = message(
        jobs.create(&PostParams::default(), &endless)
            .await
            .unwrap_err(),
    );
    assert!(text.contains("must count down"), "{text}");
    let idle = serde_json::from_value(job(0)).unwrap();
    jobs.create(&PostParams::default(), &idle).await.unwrap();
    let start = Patch::Merge(json!({"spec": {"parallelism": 1}}));
    let text = message(
        jobs.patch("stint-x-00000000", &PatchParams::default(), &start)
            .await
            .unwrap_err(),
    );
    assert!(text.contains("parallelism 0"), "{text}");

    let cluster_bindings: Api<ClusterRoleBinding> = Api::all(operator.clone());
    let binding = json!({"metadata": {"name": "x"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    let binding = serde_json::from_value(binding).unwrap();
    let text = message(
        cluster_bindings
            .create(&PostParams::default(), &binding)
            .await
            .unwrap_err(),
    );
    assert!(text.contains("forbidden"), "{text}");

    let bindings: Api<RoleBinding> = Api::namespaced(operator.clone(), &team.namespace);
    let to_admin = labelled(
        "stint-x-00000000",
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "migrator", "namespace": team.namespace}]
        }),
    );
    let to_admin = serde_json::from_value(to_admin).unwrap();
    assert!(
        bindings
            .create(&PostParams::default(), &to_admin)
            .await
            .is_err()
    );

    let secrets: Api<Secret> = Api::namespaced(operator.clone(), &team.namespace);
    assert!(message(secrets.list(&ListParams::default()).await.unwrap_err()).contains("forbidden"));
    let own: Api<Secret> = Api::namespaced(operator, support::operator::NAMESPACE);
    assert!(message(own.list(&ListParams::default()).await.unwrap_err()).contains("forbidden"));
    assert!(own.get("stint-receipt-keys").await.is_ok());
}

#[tokio::test]
async fn what_stint_made_is_changed_by_nobody_else() {
    let (team, _alone) = alone().await;
    team.granted(&team.request("guarded", "1h")).await;
    let admin = team.stint.cluster().admin();
    let name = team.bindings().await[0].name_any();
    let refused = |result: Result<(), kube::Error>| {
        let text = message(result.unwrap_err());
        assert!(text.contains("Stint"), "{text}");
    };
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), &team.namespace);
    let roles: Api<Role> = Api::namespaced(admin.clone(), &team.namespace);
    let jobs: Api<Job> = Api::namespaced(admin.clone(), &team.namespace);
    let params = PatchParams::default();
    let merge = |value: Value| Patch::Merge(value);
    let subject = json!({"subjects": [{"kind": "ServiceAccount", "name": "other", "namespace": team.namespace}]});
    refused(
        bindings
            .patch(&name, &params, &merge(subject))
            .await
            .map(drop),
    );
    let unlabelled = json!({"metadata": {"labels": {"stint.dev/grant": null}}});
    refused(
        bindings
            .patch(&name, &params, &merge(unlabelled))
            .await
            .map(drop),
    );
    let unowned = json!({"metadata": {"ownerReferences": null}});
    refused(
        bindings
            .patch(&name, &params, &merge(unowned))
            .await
            .map(drop),
    );
    let wider = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    refused(roles.patch(&name, &params, &merge(wider)).await.map(drop));
    let later = json!({"spec": {"activeDeadlineSeconds": 999_999}});
    refused(jobs.patch(&name, &params, &merge(later)).await.map(drop));
    let planted = serde_json::from_value(role("", "configmaps", "get")).unwrap();
    refused(
        roles
            .create(&PostParams::default(), &planted)
            .await
            .map(drop),
    );
    let second = json!({
        "metadata": {"name": "mine-too"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "other", "namespace": team.namespace}]
    });
    let second = serde_json::from_value(second).unwrap();
    refused(
        bindings
            .create(&PostParams::default(), &second)
            .await
            .map(drop),
    );
    let orphan = DeleteParams {
        propagation_policy: Some(kube::api::PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    refused(jobs.delete(&name, &orphan).await.map(drop));
    // For batch/v1 Jobs no option means orphan.
    refused(jobs.delete(&name, &DeleteParams::default()).await.map(drop));
    assert_eq!(team.bindings().await.len(), 1);
}

#[tokio::test]
async fn the_admission_policies_have_no_type_errors() {
    let (team, _alone) = alone().await;
    use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(team.stint.cluster().admin());
    for name in [
        "stint-deadline-jobs",
        "stint-managed",
        "stint-generated-roles",
        "stint-ceiling",
        "stint-orphans",
        "stint-cluster-grants",
        "stint-webhooks",
        "stint-guard-label",
        "stint-guard-own",
        "stint-guard-roles",
    ] {
        let status = eventually("the policy was type-checked", async || {
            policies
                .get(name)
                .await
                .unwrap()
                .status
                .filter(|s| s.observed_generation.is_some())
        })
        .await;
        let warnings = status
            .type_checking
            .and_then(|t| t.expression_warnings)
            .unwrap_or_default();
        assert!(warnings.is_empty(), "{name}: {warnings:#?}");
    }
}
