//! Approvals and emergencies on a real control plane: who may decide, on what, and what it gives. The operator runs as its own
//! ServiceAccount.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::ResourceExt;
use kube::{Api, Client};
use serde_json::{Value, json};
use stint::api::{AccessApproval, ClusterWorkloadAccess, WorkloadAccess, WorkloadAccessStatus};
use stint::domain::status::ready_reason;
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::{Team, create};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// A team whose policy asks for one approval. Alice, who asks, and Carol may approve; Bob may only write approvals.
async fn team() -> Team {
    let stint = Stint::shared_wide(env!("CARGO_BIN_EXE_stint")).await;
    let team = Team::new(stint).await;
    let admin = stint.cluster().admin();
    let ns = &team.namespace;
    let user =
        |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    let to = |kind: &str, role: &str, users: Vec<Value>| {
        json!({"metadata": {"name": format!("{role}-{ns}")}, "subjects": users,
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}})
    };
    let everybody = ["alice", "bob", "carol"].map(user).to_vec();
    let writers = to("ClusterRole", "stint-approver", everybody);
    create(&admin, RBAC, "RoleBinding", ns, writers).await;
    let approve = format!("approve-{ns}");
    let role = json!({"metadata": {"name": approve}, "rules": [{"apiGroups": ["stint.dev"],
        "resources": ["accesspolicies"], "resourceNames": [ns], "verbs": ["approve"]}]});
    create(&admin, RBAC, "ClusterRole", "", role).await;
    let approvers = to(
        "ClusterRole",
        &approve,
        ["alice", "carol"].map(user).to_vec(),
    );
    create(&admin, RBAC, "ClusterRoleBinding", "", approvers).await;
    let terms =
        json!({"approval": {"required": 1, "timeout": "1h"}, "breakGlass": {"maxDuration": "1h"}});
    team.change_policy(terms).await.unwrap();
    team
}

/// Creates a request as Alice that waits for approval.
async fn waiting(team: &Team, name: &str) -> WorkloadAccess {
    let api = team.requests(User::Alice);
    let request = team.request(name, "30m");
    // Until the changed policy has reached Stint, the request would begin at once.
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let emergency = team.request_with(
        "probe",
        json!({"duration": "30m", "urgency": "BreakGlass", "ticket": "INC-7"}),
    );
    eventually("the policy has reached Stint", async || {
        api.create(&dry_run, &emergency).await.ok()
    })
    .await;
    api.create(&PostParams::default(), &request).await.unwrap();
    team.becomes(name, "PendingApproval").await
}

/// A decision on a request, by what its status says.
fn decision(request: &WorkloadAccess, decision: &str) -> Value {
    let status = request.status.clone().unwrap();
    json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "AccessApproval",
        "metadata": {"generateName": "decision-", "namespace": request.namespace().unwrap()},
        "spec": {
            "requestRef": {"name": request.name_any(), "uid": request.uid().unwrap()},
            "specHash": status.spec_hash.unwrap_or_else(|| hash(request)),
            "decision": decision
        }
    })
}

fn hash(request: &WorkloadAccess) -> String {
    stint::domain::grant::spec_hash(&request.spec)
}

fn approvals(team: &Team, user: User) -> Api<AccessApproval> {
    Api::namespaced(team.stint.cluster().user(user), &team.namespace)
}

async fn decide(team: &Team, user: User, object: &Value) -> kube::Result<AccessApproval> {
    let object = serde_json::from_value(object.clone()).unwrap();
    let api = approvals(team, user);
    api.create(&PostParams::default(), &object).await
}

/// The message of a refusal with code 422.
async fn refused(team: &Team, user: User, object: &Value) -> String {
    match decide(team, user, object).await {
        Err(kube::Error::Api(status)) if status.code == 422 => status.message,
        other => panic!("not refused: {other:?}"),
    }
}

/// The decision is stored once what it depends on has reached Stint and the authorizer.
async fn decided(team: &Team, user: User, object: &Value) -> AccessApproval {
    eventually("the decision is stored", async || {
        decide(team, user, object).await.ok()
    })
    .await
}

#[tokio::test]
async fn each_wrong_approval_is_refused_and_a_right_one_begins_the_grant() {
    let team = team().await;
    let request = waiting(&team, "a").await;
    assert_eq!(
        request.status.as_ref().unwrap().spec_hash,
        Some(hash(&request))
    );
    let right = decision(&request, "Approve");
    // Carol's verb has reached the authorizer.
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let typed: AccessApproval = serde_json::from_value(right.clone()).unwrap();
    let carol = approvals(&team, User::Carol);
    eventually("Carol may approve", async || {
        carol.create(&dry_run, &typed).await.ok()
    })
    .await;

    let message = refused(&team, User::Bob, &right).await;
    assert!(
        message.contains("[WA-APPROVER]") && message.contains(&team.namespace),
        "{message}"
    );
    let message = refused(&team, User::Alice, &right).await;
    assert!(message.contains("[WA-APPROVAL-SELF]"), "{message}");
    let mut older = right.clone();
    older["spec"]["specHash"] = json!(hash(&team.request("a", "29m")));
    let message = refused(&team, User::Carol, &older).await;
    assert!(
        message.contains("[WA-APPROVAL-STALE]") && message.contains(&hash(&request)),
        "{message}"
    );
    let mut pasted = right.clone();
    let receipt = &request.annotations()["stint.dev/receipt"];
    pasted["metadata"]["annotations"] = json!({"stint.dev/receipt": receipt});
    let message = refused(&team, User::Bob, &pasted).await;
    assert!(message.contains("[WA-APPROVER]"), "{message}");
    let object = team.requests(User::Admin).get("a").await.unwrap();
    assert_eq!(ready_reason(&object.status.unwrap()), "PendingApproval");
    assert!(team.bindings().await.is_empty());

    let workload = team.workload().await;
    assert!(!team.may_get(&workload, "settings").await);
    let since = Timestamp::now();
    decide(&team, User::Carol, &right).await.unwrap();
    let active = team.becomes("a", "Active").await;
    eprintln!(
        "active {} after the approval",
        Timestamp::now().duration_since(since)
    );
    eventually("the account has its rights", async || {
        team.may_get(&workload, "settings").await.then_some(())
    })
    .await;
    let told = &active.status.unwrap().approvals;
    assert_eq!(told[0].approver, "carol");
    let binding = team.bindings().await.remove(0);
    let jobs: Api<k8s_openapi::api::batch::v1::Job> =
        Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let job = jobs.get(&binding.name_any()).await.unwrap();
    assert_eq!(job.annotations()["stint.dev/approved-by"], "carol");
    assert_eq!(job.annotations()["stint.dev/approved-spec"], hash(&request));

    let late = decision(&request, "Deny");
    let message = refused(&team, User::Carol, &late).await;
    assert!(message.contains("`spec.revoked: true`"), "{message}");
}

#[tokio::test]
async fn an_approval_is_not_replayed_for_a_request_that_is_made_again() {
    let team = team().await;
    let first = waiting(&team, "a").await;
    let replayed = decision(&first, "Approve");
    let kept = decided(&team, User::Carol, &replayed).await;
    team.becomes("a", "Active").await;
    let api = team.requests(User::Alice);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    eventually("the request and its access are gone", async || {
        let gone = api.get_opt("a").await.unwrap().is_none();
        (gone && team.bindings().await.is_empty()).then_some(())
    })
    .await;
    let second = waiting(&team, "a").await;
    assert_ne!(first.uid(), second.uid());
    let message = refused(&team, User::Carol, &replayed).await;
    assert!(
        message.contains("[WA-APPROVAL-STALE]") && message.contains(&second.uid().unwrap()),
        "{message}"
    );
    let api = approvals(&team, User::Carol);
    assert!(
        api.get(&kept.name_any()).await.is_ok(),
        "the old one is kept"
    );
    let object = team.requests(User::Admin).get("a").await.unwrap();
    assert_eq!(ready_reason(&object.status.unwrap()), "PendingApproval");
    decide(&team, User::Carol, &decision(&second, "Approve"))
        .await
        .unwrap();
    team.becomes("a", "Active").await;
}

#[tokio::test]
async fn a_decision_never_changes_and_a_denial_is_final() {
    let team = team().await;
    let request = waiting(&team, "a").await;
    let mut object = decision(&request, "Deny");
    object["spec"]["notAfter"] = json!("2026-12-01 12:00");
    let message = refused(&team, User::Carol, &object).await;
    assert!(message.contains("spec.notAfter"), "{message}");
    object["spec"]["notAfter"] = Value::Null;
    let made = decided(&team, User::Carol, &object).await;
    team.becomes("a", "Denied").await;
    let admin: Api<AccessApproval> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let name = made.name_any();
    let patch = |patch: Value| {
        let (admin, name) = (admin.clone(), name.clone());
        async move {
            let params = PatchParams::default();
            admin.patch(&name, &params, &Patch::Merge(patch)).await
        }
    };
    let changed = patch(json!({"spec": {"decision": "Approve"}})).await;
    assert!(changed.unwrap_err().to_string().contains("[WA-IMMUTABLE]"));
    let seal = |object: &AccessApproval| object.annotations().get("stint.dev/receipt").cloned();
    let stripped = patch(json!({"metadata": {"annotations": null}}))
        .await
        .unwrap();
    assert_eq!(seal(&stripped), seal(&made), "the old one is kept");
    patch(json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .unwrap();
    let message = refused(&team, User::Carol, &decision(&request, "Approve")).await;
    assert!(message.contains("it has ended"), "{message}");
    assert!(team.bindings().await.is_empty());
}

#[tokio::test]
async fn an_approver_shortens_the_grant() {
    let team = team().await;
    let request = waiting(&team, "a").await;
    let end = Timestamp::now() + SignedDuration::from_mins(10);
    let mut object = decision(&request, "Approve");
    object["spec"]["notAfter"] = json!(end.to_string());
    decided(&team, User::Carol, &object).await;
    let active = team.becomes("a", "Active").await.status.unwrap();
    let whole = stint::domain::window::round_down(end);
    assert_eq!(active.not_after.unwrap().0, whole);
}

fn review(status: &WorkloadAccessStatus) -> Option<(String, String)> {
    let found = status
        .conditions
        .iter()
        .find(|c| c.type_ == "ReviewRequired")?;
    Some((found.status.clone(), found.reason.clone()))
}

#[tokio::test]
async fn an_emergency_is_given_at_once_loudly_and_reviewed_after_its_end() {
    let team = team().await;
    let glass = json!({"duration": "30m", "urgency": "BreakGlass", "ticket": "INC-7"});
    let mut unnamed = team.raw_request("x", glass.clone());
    unnamed["spec"].as_object_mut().unwrap().remove("ticket");
    let api = team.requests(User::Alice);
    let unnamed = serde_json::from_value(unnamed).unwrap();
    let refused_by = api
        .create(&PostParams::default(), &unnamed)
        .await
        .unwrap_err();
    assert!(
        refused_by.to_string().contains("[WA-TICKET]"),
        "{refused_by}"
    );

    let request = team.request_with("a", glass);
    eventually("the emergency is admitted", async || {
        api.create(&PostParams::default(), &request).await.ok()
    })
    .await;
    let active = team.becomes("a", "Active").await;
    let wanted = Some(("True".to_owned(), "BreakGlass".to_owned()));
    assert_eq!(review(&active.status.clone().unwrap()), wanted);
    let events: Api<Event> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    eventually("there is a warning", async || {
        let all = events.list(&ListParams::default()).await.ok()?;
        let loud = |e: &&Event| {
            e.reason.as_deref() == Some("BreakGlass") && e.type_.as_deref() == Some("Warning")
        };
        all.items.iter().find(loud).map(|_| ())
    })
    .await;
    let (_, metrics) = team.stint.admin_get("/metrics").await.unwrap();
    assert!(
        metrics.contains("stint_break_glass_grants_total{risk="),
        "{metrics}"
    );
    let calm = json!({"spec": {"urgency": "Normal"}});
    let changed = api
        .patch("a", &PatchParams::default(), &Patch::Merge(calm))
        .await;
    assert!(changed.unwrap_err().to_string().contains("[WA-IMMUTABLE]"));

    let revoke = json!({"spec": {"revoked": true}});
    api.patch("a", &PatchParams::default(), &Patch::Merge(revoke))
        .await
        .unwrap();
    let ended = team.becomes("a", "Revoked").await;
    assert_eq!(review(&ended.status.clone().unwrap()), wanted);
    let object = decision(&ended, "Review");
    let message = refused(&team, User::Alice, &object).await;
    assert!(message.contains("[WA-APPROVAL-SELF]"), "{message}");
    decided(&team, User::Carol, &object).await;
    let admin = team.requests(User::Admin);
    let reviewed = eventually("the review is told", async || {
        let status = admin.get("a").await.ok()?.status?;
        (review(&status)?.1 == "Reviewed").then_some(status)
    })
    .await;
    assert_eq!(ready_reason(&reviewed), "Revoked");
}

async fn nodes_are_grantable(admin: &Client) {
    let role = json!({
        "metadata": {"name": "nodes-are-grantable", "labels": {"rbac.stint.dev/grantable": "true"}},
        "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    });
    create(admin, RBAC, "ClusterRole", "", role).await;
}

#[tokio::test]
async fn a_grant_in_the_whole_cluster_is_approved_where_its_account_lives() {
    let team = team().await;
    let admin = team.stint.cluster().admin();
    nodes_are_grantable(&admin).await;
    let rules = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]);
    team.change_policy(json!({"allow": {"cluster": true, "rules": rules}}))
        .await
        .unwrap();
    let name = format!("wide-{}", team.namespace);
    let object: ClusterWorkloadAccess = serde_json::from_value(json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess", "metadata": {"name": name},
        "spec": {"serviceAccountRef": {"name": "migrator", "namespace": team.namespace},
                 "rules": rules, "duration": "30m", "reason": "a test"}
    }))
    .unwrap();
    let binding = json!({"metadata": {"name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "stint-cluster-requester"}});
    create(&admin, RBAC, "ClusterRoleBinding", "", binding).await;
    let alice: Api<ClusterWorkloadAccess> = Api::all(team.stint.cluster().user(User::Alice));
    eventually("the request is stored", async || {
        alice.create(&PostParams::default(), &object).await.ok()
    })
    .await;
    let all: Api<ClusterWorkloadAccess> = Api::all(admin);
    let becomes = async |reason: &str| {
        eventually(&format!("{name} becomes {reason}"), async || {
            let object = all.get(&name).await.ok()?;
            (ready_reason(object.status.as_ref()?) == reason).then_some(object)
        })
        .await
    };
    let pending = becomes("PendingApproval").await;
    let approval = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "AccessApproval",
        "metadata": {"name": "wide", "namespace": team.namespace},
        "spec": {"requestRef": {"kind": "ClusterWorkloadAccess", "name": name, "uid": pending.uid().unwrap()},
                 "specHash": pending.status.unwrap().spec_hash.unwrap(), "decision": "Approve"}
    });
    let message = refused(&team, User::Alice, &approval).await;
    assert!(message.contains("[WA-APPROVAL-SELF]"), "{message}");
    decided(&team, User::Carol, &approval).await;
    let active = becomes("Active").await;
    assert_eq!(active.status.unwrap().approvals[0].approver, "carol");
    alice.delete(&name, &DeleteParams::default()).await.unwrap();
}
