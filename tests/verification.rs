//! Proof of revocation: after a grant ended the authorizer is asked, as the account, whether what it gave is really gone.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use support::fake_api::{Call, Decision, Harm};
use support::world::{NAMESPACE, Operator, World};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);
const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn request(world: &World, name: &str) -> Value {
    world.api.get("workloadaccesses", NAMESPACE, name).unwrap()
}

/// The condition `Verified`: status, reason and message.
fn verified(world: &World, name: &str) -> Option<(String, String, String)> {
    let object = request(world, name);
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == "Verified")?;
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

fn is_gone(world: &World, name: &str) -> bool {
    verified(world, name)
        .is_some_and(|(status, reason, _)| status == "True" && reason == "AccessGone")
}

fn events(world: &World, reason: &str) -> Vec<Value> {
    let all = world.api.list("events", NAMESPACE).into_iter();
    all.filter(|e| e["reason"] == reason).collect()
}

/// The questions about the account.
fn questions(world: &World) -> Vec<Call> {
    let calls = world.api.calls().into_iter();
    calls.filter(about_the_account).collect()
}

fn about_the_account(call: &Call) -> bool {
    let user = call.body["spec"]["user"].as_str().unwrap_or_default();
    call.resource == "subjectaccessreviews" && user.starts_with("system:serviceaccount:payments:")
}

fn status_writes(world: &World) -> usize {
    let calls = world.api.writes().into_iter();
    calls
        .filter(|c| c.resource == "workloadaccesses" && c.status == 200)
        .count()
}

async fn active(world: &World, name: &str, window: Value) -> Operator {
    let operator = world.operator();
    world.admit(name, window);
    world.pass(SECOND).await;
    assert_eq!(world.reason(name), "Active");
    world.api.clear_calls();
    operator
}

fn revoke(world: &World, name: &str) {
    let mut object = request(world, name);
    object["spec"]["revoked"] = json!(true);
    object["metadata"]["generation"] = json!(2);
    world.api.seed(object);
}

/// Somebody else's binding that gives the account what the grant gives.
fn legacy(world: &World) {
    world.api.seed(json!({"apiVersion": RBAC, "kind": "Role", "metadata": {"name": "reader", "namespace": NAMESPACE},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}));
    world.api.seed(json!({"apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": "legacy", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "migrator"}]}));
}

#[tokio::test(start_paused = true)]
async fn every_end_is_proven_in_the_write_that_tells_it() {
    for end in ["clock", "revoked", "binding", "policy", "account"] {
        let world = World::new();
        let window = json!({"duration": if end == "clock" { "2s" } else { "1h" }});
        let _operator = active(&world, "a", window).await;
        match end {
            "clock" => {}
            "revoked" => revoke(&world, "a"),
            "binding" => {
                let name = world.api.list("rolebindings", NAMESPACE)[0]["metadata"]["name"].clone();
                world
                    .api
                    .remove("rolebindings", NAMESPACE, name.as_str().unwrap());
            }
            "policy" => drop(world.api.remove("accesspolicies", "", "jobs")),
            _ => drop(world.api.remove("serviceaccounts", NAMESPACE, "migrator")),
        }
        world.pass(SECOND * 10).await;
        let (status, reason, message) = verified(&world, "a").expect(end);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("True", "AccessGone"),
            "{end}"
        );
        assert_eq!(
            message,
            "payments/migrator is refused what the grant gave; asked about 1 of 1 rights"
        );
        assert_eq!(status_writes(&world), 1, "{end}");
        assert_eq!(questions(&world).len(), 1, "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_question_is_asked_as_the_account() {
    let world = World::new();
    let _operator = active(&world, "a", json!({"duration": "2s"})).await;
    world.pass(SECOND * 3).await;
    let asked = &questions(&world)[0].body["spec"];
    let account = world
        .api
        .get("serviceaccounts", NAMESPACE, "migrator")
        .unwrap();
    assert_eq!(asked["user"], "system:serviceaccount:payments:migrator");
    assert_eq!(asked["uid"], account["metadata"]["uid"]);
    assert_eq!(
        asked["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:payments",
            "system:authenticated"
        ])
    );
    assert_eq!(
        asked["resourceAttributes"],
        json!({"namespace": "payments", "verb": "get", "group": "", "resource": "configmaps", "name": "a"})
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_never_active_or_is_deleted_is_not_asked_about() {
    let world = World::new();
    let _operator = active(&world, "deleted", json!({"duration": "1h"})).await;
    world.admit("refused", json!({"duration": "99h"}));
    world.api.remove("workloadaccesses", NAMESPACE, "deleted");
    world.pass(MINUTE * 15).await;
    assert_eq!(
        (world.reason("refused"), verified(&world, "refused")),
        ("Expired".into(), None)
    );
    assert_eq!(questions(&world).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_is_two_seconds_behind_is_waited_for() {
    let world = World::new();
    world.authorizer_behind(Duration::from_secs(2));
    let _operator = active(&world, "a", json!({"duration": "1h"})).await;
    world.pass(MINUTE).await;
    revoke(&world, "a");
    world.pass(SignedDuration::from_millis(500)).await;
    assert_eq!(
        (world.reason("a"), verified(&world, "a")),
        ("Revoked".into(), None)
    );
    assert_eq!(world.made()[0], 0, "the end waits for nobody");
    world.pass(SECOND * 3).await;
    assert!(is_gone(&world, "a"), "{:?}", verified(&world, "a"));
    assert!(events(&world, "ResidualAccess").is_empty());
    assert_eq!(status_writes(&world), 2);
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_never_follows_is_told_after_five_seconds() {
    let world = World::new();
    world.authorizer_behind(Duration::from_secs(3600));
    let _operator = active(&world, "a", json!({"duration": "1h"})).await;
    world.authorizer_behind(Duration::from_millis(500));
    world.api.authorize(|_, _| Decision {
        allowed: true,
        reason: "RBAC: allowed by RoleBinding \"stint-a/payments\"".into(),
    });
    revoke(&world, "a");
    world.pass(SECOND * 3).await;
    assert_eq!(
        (world.reason("a"), verified(&world, "a")),
        ("Revoked".into(), None)
    );
    world.pass(SECOND * 4).await;
    let (status, reason, message) = verified(&world, "a").unwrap();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ResidualAccess")
    );
    assert!(
        message.contains("still may get configmaps 'a', by RoleBinding \"stint-a/payments\""),
        "{message}"
    );
    world.pass(MINUTE * 10).await;
    assert_eq!(events(&world, "ResidualAccess").len(), 1);
    assert_eq!(status_writes(&world), 2, "it is told once");
}

#[tokio::test(start_paused = true)]
async fn another_binding_that_gives_the_same_is_named() {
    let world = World::new();
    let _operator = active(&world, "a", json!({"duration": "10s"})).await;
    legacy(&world);
    world.pass(SECOND * 20).await;
    let (status, reason, message) = verified(&world, "a").unwrap();
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ResidualAccess")
    );
    assert!(
        message
            .contains("get configmaps 'a', by RoleBinding \"legacy/payments\" of Role \"reader\""),
        "{message}"
    );
    let told = events(&world, "ResidualAccess");
    assert_eq!((told.len(), &told[0]["type"]), (1, &json!("Warning")));
    assert!(
        told[0]["note"]
            .as_str()
            .unwrap()
            .contains("legacy/payments")
    );
    assert_eq!(world.reason("a"), "Expired", "the grant itself has ended");
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_without_words_leaves_it_to_what_stint_knows() {
    let world = World::new();
    let _operator = active(&world, "a", json!({"duration": "10s"})).await;
    legacy(&world);
    world.api.authorize(|api, review| Decision {
        reason: String::new(),
        allowed: review["spec"]["resourceAttributes"]["verb"] == "use"
            || api.rbac(review, Duration::ZERO).allowed,
    });
    world.pass(SECOND * 20).await;
    let (_, _, message) = verified(&world, "a").unwrap();
    assert!(
        message.contains("by one of RoleBinding 'payments/legacy'"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_grants_of_one_account_each_ends_by_itself() {
    let world = World::new();
    let _operator = active(&world, "a", json!({"duration": "1h"})).await;
    let other = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["b"], "verbs": ["get"]}]);
    world.admit("b", json!({"duration": "1h", "rules": other}));
    world.pass(SECOND).await;
    assert_eq!(world.made(), [2, 2, 2]);
    revoke(&world, "a");
    world.pass(SECOND * 10).await;
    assert!(is_gone(&world, "a"));
    assert_eq!(
        (world.reason("b"), world.made()),
        ("Active".into(), [1, 1, 1])
    );
    let left = &world.api.list("roles", NAMESPACE)[0];
    assert_eq!(
        left["rules"][0]["resourceNames"],
        json!(["b"]),
        "its rules are its own"
    );
    revoke(&world, "b");
    world.pass(SECOND * 10).await;
    assert!(is_gone(&world, "b"));
    assert_eq!(world.made(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn of_two_grants_that_give_the_same_the_one_that_lasts_is_named() {
    let world = World::new();
    let _operator = active(&world, "a", json!({"duration": "1h"})).await;
    world.admit("b", json!({"duration": "1h"}));
    world.pass(SECOND).await;
    revoke(&world, "a");
    world.pass(SECOND * 10).await;
    let (_, reason, message) = verified(&world, "a").unwrap();
    assert_eq!(reason, "ResidualAccess");
    assert!(message.contains("by RoleBinding \"stint-b-"), "{message}");
    assert_eq!(world.reason("b"), "Active");
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_fails_delays_no_end_and_is_asked_again() {
    let world = World::new();
    let _operator = active(&world, "a", json!({"duration": "1h"})).await;
    world
        .api
        .harm(Box::new(about_the_account), Harm::Refuse(500), None);
    revoke(&world, "a");
    world.pass(SECOND).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Revoked".into(), [0, 0, 0])
    );
    world.pass(MINUTE * 10).await;
    assert_eq!(verified(&world, "a"), None, "nothing is known");
    assert!(questions(&world).len() < 60, "it is not hurried");
    world.api.heal();
    world.pass(MINUTE).await;
    assert!(is_gone(&world, "a"));
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_hangs_holds_up_nobody() {
    let world = World::new();
    let _operator = active(&world, "a", json!({"duration": "1h"})).await;
    for i in 0..40 {
        world.admit(&format!("g-{i}"), json!({"duration": "1h"}));
    }
    world.pass(SECOND * 2).await;
    assert_eq!(world.made()[0], 41);
    world
        .api
        .harm(Box::new(about_the_account), Harm::Hang, None);
    for i in 0..40 {
        revoke(&world, &format!("g-{i}"));
    }
    world.pass(SECOND).await;
    revoke(&world, "a");
    world.pass(SECOND * 10).await;
    assert_eq!(world.made()[0], 0, "access does not wait for questions");
    assert_eq!(world.reason("a"), "Revoked");
}

#[tokio::test(start_paused = true)]
async fn what_was_open_when_the_operator_died_is_proven_by_the_next() {
    let world = World::new();
    let first = active(&world, "a", json!({"duration": "1h"})).await;
    world
        .api
        .harm(Box::new(about_the_account), Harm::Refuse(503), None);
    revoke(&world, "a");
    world.pass(SECOND * 2).await;
    drop(first);
    world.api.heal();
    assert_eq!(verified(&world, "a"), None);
    let _second = world.operator();
    world.pass(SECOND * 5).await;
    assert!(is_gone(&world, "a"));
}

#[tokio::test(start_paused = true)]
async fn what_ended_long_ago_is_left_alone() {
    let world = World::new();
    let first = active(&world, "a", json!({"duration": "1h"})).await;
    world
        .api
        .harm(Box::new(about_the_account), Harm::Refuse(503), None);
    revoke(&world, "a");
    world.pass(SECOND * 2).await;
    drop(first);
    world.api.heal();
    world.pass(MINUTE * 60 * 25).await;
    world.api.clear_calls();
    let _second = world.operator();
    world.pass(MINUTE).await;
    assert_eq!((verified(&world, "a"), questions(&world).len()), (None, 0));
}

/// A request for a copy of the ClusterRole `reader`.
async fn by_role(world: &World) -> Operator {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    world.api.seed(json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": "reader"}, "rules": rules}));
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["allow"]["roleRefs"] = json!([{"kind": "ClusterRole", "name": "reader"}]);
    world.api.seed(policy);
    let operator = world.operator();
    world.pass(SECOND).await;
    let mut object = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": "a", "namespace": NAMESPACE, "generation": 1},
        "spec": {"serviceAccountRef": {"name": "migrator"}, "duration": "1h", "reason": "a test",
                 "roleRef": {"kind": "ClusterRole", "name": "reader"}}
    });
    object = world.stamped(object);
    world.api.seed(object);
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    world.api.clear_calls();
    operator
}

#[tokio::test(start_paused = true)]
async fn what_a_role_gave_is_remembered_when_its_copy_is_gone() {
    let world = World::new();
    let _operator = by_role(&world).await;
    world
        .api
        .harm(Box::new(about_the_account), Harm::Refuse(500), None);
    revoke(&world, "a");
    world.pass(SECOND * 3).await;
    assert_eq!(world.made(), [0, 0, 0], "the copy is gone");
    world.api.heal();
    world.pass(MINUTE).await;
    let (status, _, message) = verified(&world, "a").unwrap();
    assert_eq!(status, "True");
    assert!(message.ends_with("asked about 1 of 1 rights"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_any_more_is_left_out() {
    let world = World::new();
    let first = by_role(&world).await;
    world
        .api
        .harm(Box::new(about_the_account), Harm::Refuse(500), None);
    revoke(&world, "a");
    world.pass(SECOND * 3).await;
    drop(first);
    world.api.heal();
    let _second = world.operator();
    world.pass(MINUTE).await;
    assert_eq!(
        (world.reason("a"), verified(&world, "a")),
        ("Revoked".into(), None)
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_large_grant_a_sample_is_asked_and_the_message_says_so() {
    let world = World::new();
    let names: Vec<String> = (0..60).map(|n| format!("cm-{n}")).collect();
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": ["get"]}]);
    let _operator = active(&world, "a", json!({"duration": "2s", "rules": rules})).await;
    world.pass(SECOND * 5).await;
    let (status, _, message) = verified(&world, "a").unwrap();
    assert_eq!(status, "True");
    assert!(
        message.ends_with("asked about 24 of 60 rights"),
        "{message}"
    );
    assert_eq!(questions(&world).len(), 24);
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_of_an_end_it_is_proven_all_the_same() {
    let mut writes = 0;
    loop {
        let world = World::new();
        let first = active(&world, "a", json!({"duration": "1h"})).await;
        let cut = world.api.cut_after_write(writes + 1);
        revoke(&world, "a");
        let killed = tokio::select! {
            () = cut.notified() => true,
            () = tokio::time::sleep(Duration::from_secs(30)) => false,
        };
        drop(first);
        world.api.heal();
        world.pass(SECOND).await;
        let _second = world.operator();
        world.pass(MINUTE).await;
        assert!(is_gone(&world, "a"), "killed after write {}", writes + 1);
        if !killed {
            break;
        }
        writes += 1;
    }
    assert!(writes >= 3, "binding, Job and status; saw {writes}");
}

#[tokio::test(start_paused = true)]
async fn grants_in_the_whole_cluster_are_asked_about_by_resource_and_by_path() {
    let mut world = World::new();
    world.cluster_grants = true;
    let rules = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
                       {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]);
    for (kind, name, at) in [
        ("clusterroles", "stint-grantable", "/rules"),
        ("accesspolicies", "jobs", "/spec/allow/rules"),
    ] {
        let mut object = world.api.get(kind, "", name).unwrap();
        *object.pointer_mut(at).unwrap() = rules.clone();
        object["spec"]["allow"]["cluster"] = json!(true);
        if kind == "clusterroles" {
            object.as_object_mut().unwrap().remove("spec");
        }
        world.api.seed(object);
    }
    let _operator = world.operator();
    let request = json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": "a", "generation": 1},
        "spec": {"serviceAccountRef": {"name": "migrator", "namespace": NAMESPACE}, "duration": "5s",
                 "reason": "a test", "rules": rules}
    });
    world.api.seed(world.stamped_wide(request));
    world.pass(SECOND).await;
    assert_eq!(world.api.list("clusterrolebindings", "").len(), 1);
    world.api.clear_calls();
    world.pass(SECOND * 10).await;
    let object = world.api.get("clusterworkloadaccesses", "", "a").unwrap();
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let verified = conditions.iter().find(|c| c["type"] == "Verified").unwrap();
    assert_eq!(verified["status"], "True", "{verified}");
    let asked: Vec<Value> = questions(&world)
        .iter()
        .map(|c| c.body["spec"].clone())
        .collect();
    assert!(
        asked
            .iter()
            .any(|s| s["nonResourceAttributes"] == json!({"path": "/metrics", "verb": "get"}))
    );
    let node = json!({"verb": "get", "group": "", "resource": "nodes"});
    assert!(
        asked.iter().any(|s| s["resourceAttributes"] == node),
        "{asked:?}"
    );
    assert_eq!(asked.len(), 2);
}
