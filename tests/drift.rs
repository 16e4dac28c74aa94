//! What Stint made is changed behind its back, past the admission policies: it is put right or the grant ends, access never
//! grows longer or wider by it, and what does not matter brings nobody to look.

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use support::fake_api::{Harm, on};
use support::world::{NAMESPACE, Operator, World};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// One active grant of an hour, seen by nobody any more but the watches.
async fn active() -> (World, Operator) {
    active_under(json!({})).await
}

async fn active_under(policy: Value) -> (World, Operator) {
    active_with(policy, json!({"duration": "1h"})).await
}

async fn active_with(changes: Value, request: Value) -> (World, Operator) {
    let world = World::new();
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    for (field, value) in changes.as_object().unwrap() {
        policy["spec"][field] = value.clone();
    }
    world.api.seed(policy);
    let operator = world.operator();
    world.admit("a", request);
    world.pass(SECOND * 3).await;
    assert_eq!(world.reason("a"), "Active");
    world.api.clear_calls();
    (world, operator)
}

fn made(world: &World, kind: &str) -> Value {
    world.api.list(kind, NAMESPACE).remove(0)
}

/// Changes a made object past every check, as somebody would with the admission policies gone.
fn tamper(world: &World, kind: &str, pointer: &str, value: Value) {
    let mut object = made(world, kind);
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let field = field.replace("~1", "/");
    let fields = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => drop(fields.remove(&field)),
        value => drop(fields.insert(field, value)),
    }
    if kind == "jobs" && pointer.starts_with("/spec") {
        let generation = object["metadata"]["generation"].as_i64().unwrap();
        object["metadata"]["generation"] = json!(generation + 1);
    }
    world.api.seed(object);
}

/// What was granted, without what changes by itself.
fn essence(world: &World) -> Value {
    let part = |kind: &str| {
        let mut object = made(world, kind);
        let meta = object["metadata"].as_object_mut().unwrap();
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
            meta.remove(field);
        }
        object
    };
    let binding = part("rolebindings");
    let (role, job) = (part("roles"), part("jobs"));
    json!([binding, role, job["spec"], job["metadata"]])
}

fn events(world: &World, reason: &str) -> Vec<String> {
    let all = world.api.list("events", NAMESPACE).into_iter();
    let all = all.filter(|e| e["reason"] == reason && e["type"] == "Warning");
    all.map(|e| e["note"].as_str().unwrap().to_owned())
        .collect()
}

fn status(world: &World) -> Value {
    world.api.get("workloadaccesses", NAMESPACE, "a").unwrap()["status"].clone()
}

fn writes(world: &World) -> Vec<String> {
    let writes = world.api.writes().into_iter();
    writes
        .filter(|c| c.resource != "events")
        .map(|c| format!("{} {}", c.method, c.resource))
        .collect()
}

fn foreign() -> Value {
    json!([{"kind": "ServiceAccount", "name": "migrator", "namespace": NAMESPACE},
           {"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}])
}

fn wide() -> Value {
    json!([{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get"]}])
}

const LATER: &str = "2026-12-20T00:00:00Z";

#[rstest]
#[case::foreign_subject(
    "rolebindings",
    "/subjects",
    foreign(),
    "RoleBinding: subjects were ServiceAccount 'payments/migrator', User 'mallory'"
)]
#[case::no_subject("rolebindings", "/subjects", json!([]), "subjects were none")]
#[case::other_role("rolebindings", "/roleRef/name", json!("admin"), "roleRef was Role 'admin'")]
#[case::binding_owner("rolebindings", "/metadata/ownerReferences", json!([]), "RoleBinding: owner was changed")]
#[case::later_end("rolebindings", "/metadata/annotations/stint.dev~1not-after", json!(LATER), "annotation stint.dev/not-after was '2026-12-20T00:00:00Z'")]
#[case::other_policy("rolebindings", "/metadata/annotations/stint.dev~1policy", json!("ghost"), "annotation stint.dev/policy was 'ghost'")]
#[case::wide_role(
    "roles",
    "/rules",
    wide(),
    "Role: rules also gave get configmaps, secrets"
)]
#[case::no_rules("roles", "/rules", json!([]), "Role: rules were taken out")]
#[case::role_owner("roles", "/metadata/ownerReferences", json!([]), "Role: owner was changed")]
#[case::late_deadline("jobs", "/spec/activeDeadlineSeconds", json!(9_999_999), "Job: activeDeadlineSeconds was 9999999")]
#[case::no_deadline(
    "jobs",
    "/spec/activeDeadlineSeconds",
    Value::Null,
    "Job: activeDeadlineSeconds was removed"
)]
#[case::parallelism("jobs", "/spec/parallelism", json!(3), "Job: parallelism was 3")]
#[case::suspended("jobs", "/spec/suspend", json!(true), "Job: it was suspended")]
#[case::kept_for_ever(
    "jobs",
    "/spec/ttlSecondsAfterFinished",
    Value::Null,
    "Job: ttlSecondsAfterFinished was not 0"
)]
#[case::job_owner("jobs", "/metadata/ownerReferences", json!([]), "Job: owner was changed")]
#[case::job_end("jobs", "/metadata/annotations/stint.dev~1not-after", json!(LATER), "Job: annotation stint.dev/not-after was '2026-12-20T00:00:00Z'")]
#[case::job_policy("jobs", "/metadata/annotations/stint.dev~1policy", json!("ghost"), "Job: annotation stint.dev/policy was 'ghost'")]
#[case::job_hash("jobs", "/metadata/annotations/stint.dev~1rules-hash", json!("sha256:0"), "Job: annotation stint.dev/rules-hash was 'sha256:0'")]
#[case::job_since("jobs", "/metadata/annotations/stint.dev~1held-since", json!(LATER), "Job: annotation stint.dev/held-since was '2026-12-20T00:00:00Z'")]
#[tokio::test(start_paused = true)]
async fn is_repaired_and_told(
    #[case] kind: &str,
    #[case] at: &str,
    #[case] value: Value,
    #[case] told: &str,
) {
    let (world, _operator) = active().await;
    let (before, end) = (essence(&world), status(&world)["notAfter"].clone());
    tamper(&world, kind, at, value);
    world.pass(SECOND * 10).await;
    assert_eq!(essence(&world), before);
    let told_events = events(&world, "Drifted");
    assert_eq!(told_events.len(), 1, "{told_events:?}");
    assert!(told_events[0].contains(told), "{}", told_events[0]);
    assert_eq!(
        (world.reason("a").as_str(), &status(&world)["notAfter"]),
        ("Active", &end)
    );
    world.api.clear_calls();
    world.pass(MINUTE * 50).await;
    assert_eq!(writes(&world), [""; 0], "nothing more is written");
    world.pass(MINUTE * 11).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_removed_role_is_made_again() {
    let (world, _operator) = active().await;
    let before = essence(&world);
    let name = made(&world, "roles")["metadata"]["name"].clone();
    world.api.remove("roles", NAMESPACE, name.as_str().unwrap());
    world.pass(SECOND).await;
    assert_eq!(essence(&world), before);
    assert_eq!(
        events(&world, "Drifted"),
        ["somebody changed Role: it was removed"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_foreign_subject_has_no_access_for_longer_than_a_moment() {
    let (world, _operator) = active().await;
    tamper(&world, "rolebindings", "/subjects", foreign());
    tamper(&world, "roles", "/rules", wide());
    world.pass(SignedDuration::from_millis(100)).await;
    let account = json!([{"kind": "ServiceAccount", "name": "migrator", "namespace": NAMESPACE}]);
    assert_eq!(made(&world, "rolebindings")["subjects"], account);
    let order = writes(&world);
    let at = |what: &str| order.iter().position(|w| w == what).unwrap();
    assert!(
        at("DELETE rolebindings") < at("PUT roles") && at("PUT roles") < at("POST rolebindings"),
        "{order:?}"
    );
}

#[rstest]
#[case::subjects("/subjects", foreign())]
#[case::owner("/metadata/ownerReferences", json!([]))]
#[case::later_end("/metadata/annotations/stint.dev~1not-after", json!(LATER))]
#[tokio::test(start_paused = true)]
async fn a_changed_binding_ends_the_grant_where_the_policy_says_so(
    #[case] at: &str,
    #[case] value: Value,
) {
    let (world, _operator) = active_under(json!({"onDrift": "Revoke"})).await;
    tamper(&world, "rolebindings", at, value);
    world.pass(SECOND * 10).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Drifted".into(), [0, 0, 0])
    );
    let status = status(&world);
    assert_eq!(status["endReason"], "Drifted");
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("RoleBinding: "), "{message}");
    assert_eq!(events(&world, "Drifted").len(), 1);
    let creations = writes(&world);
    assert!(
        !creations.contains(&"POST rolebindings".to_owned()),
        "{creations:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_role_and_a_deadline_are_repaired_whatever_the_policy_says_of_bindings() {
    let (world, _operator) = active_under(json!({"onDrift": "Revoke"})).await;
    let before = essence(&world);
    tamper(&world, "roles", "/rules", wide());
    tamper(
        &world,
        "jobs",
        "/spec/activeDeadlineSeconds",
        json!(9_999_999),
    );
    world.pass(SECOND * 10).await;
    assert_eq!(
        (world.reason("a"), essence(&world)),
        ("Active".into(), before)
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_repaired_ends() {
    let (world, _operator) = active().await;
    world.api.harm(on("PUT", "roles"), Harm::Refuse(403), None);
    tamper(&world, "roles", "/rules", wide());
    world.pass(SECOND * 10).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Drifted".into(), [0, 0, 0])
    );
    let message = status(&world)["conditions"][0]["message"].clone();
    assert!(
        message.as_str().unwrap().contains("could not be repaired"),
        "{message}"
    );
}

#[rstest]
#[case::unreadable_end("jobs", "/metadata/annotations/stint.dev~1not-after", json!("soon"))]
#[case::no_end("jobs", "/metadata/annotations/stint.dev~1not-after", Value::Null)]
#[case::no_account(
    "jobs",
    "/metadata/annotations/stint.dev~1service-account-uid",
    Value::Null
)]
#[case::other_account("jobs", "/metadata/annotations/stint.dev~1service-account-uid", json!("other"))]
#[case::binding_without_end(
    "rolebindings",
    "/metadata/annotations/stint.dev~1not-after",
    Value::Null
)]
#[case::binding_in_the_past("rolebindings", "/metadata/annotations/stint.dev~1not-after", json!("2026-01-01T00:00:00Z"))]
#[case::no_label("jobs", "/metadata/labels/stint.dev~1grant", Value::Null)]
#[tokio::test(start_paused = true)]
async fn what_the_record_cannot_tell_ends_the_grant(
    #[case] kind: &str,
    #[case] at: &str,
    #[case] value: Value,
) {
    let (world, _operator) = active().await;
    tamper(&world, kind, at, value);
    world.pass(SECOND * 10).await;
    assert_eq!(world.made()[0], 0, "{}", world.reason("a"));
    assert!(status(&world)["endReason"].is_string());
    world.pass(MINUTE * 90).await;
    assert_eq!(world.made()[0], 0, "it never comes back");
}

#[tokio::test(start_paused = true)]
async fn a_job_or_a_binding_that_is_removed_revokes_as_ever() {
    for kind in ["jobs", "rolebindings"] {
        let (world, _operator) = active().await;
        let name = made(&world, kind)["metadata"]["name"].clone();
        world.api.remove(kind, NAMESPACE, name.as_str().unwrap());
        world.pass(SECOND * 2).await;
        assert_eq!(
            (world.reason("a"), world.made()[0]),
            ("Revoked".into(), 0),
            "{kind}"
        );
        assert_eq!(events(&world, "Drifted"), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn access_never_grows_longer_whatever_is_forged() {
    for window in [
        json!({"duration": "1h"}),
        json!({"notAfter": "2026-12-01T13:00:00Z"}),
    ] {
        let (world, first) = active_with(json!({}), window).await;
        drop(first);
        let end: Timestamp =
            made(&world, "rolebindings")["metadata"]["annotations"]["stint.dev/not-after"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
        for kind in ["jobs", "rolebindings"] {
            tamper(
                &world,
                kind,
                "/metadata/annotations/stint.dev~1not-after",
                json!(LATER),
            );
        }
        tamper(
            &world,
            "jobs",
            "/spec/activeDeadlineSeconds",
            json!(9_999_999),
        );
        let _second = world.operator();
        world.pass(MINUTE * 59).await;
        assert_eq!(world.made()[0], 1);
        world.pass(MINUTE * 2).await;
        assert_eq!(
            (world.reason("a"), world.made()),
            ("Expired".into(), [0, 0, 0])
        );
        let calls = world.api.calls();
        let deleted = calls
            .iter()
            .rev()
            .find(|c| c.method == "DELETE" && c.resource == "rolebindings" && c.status == 200);
        let late = deleted.unwrap().at.duration_since(end);
        assert!(late >= SignedDuration::ZERO && late < SECOND, "{late}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_every_trace_of_the_end_forged_the_creation_of_the_job_bounds_it() {
    let (world, first) = active().await;
    drop(first);
    for kind in ["jobs", "rolebindings"] {
        tamper(
            &world,
            kind,
            "/metadata/annotations/stint.dev~1not-after",
            json!(LATER),
        );
    }
    let mut object = world.api.get("workloadaccesses", NAMESPACE, "a").unwrap();
    object["status"]["notAfter"] = json!(LATER);
    world.api.seed(object);
    let _second = world.operator();
    world.pass(MINUTE * 61).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Expired".into(), [0, 0, 0])
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_while_the_operator_was_down_is_repaired_when_it_is_back() {
    let (world, first) = active().await;
    let before = essence(&world);
    drop(first);
    tamper(&world, "rolebindings", "/subjects", foreign());
    tamper(&world, "roles", "/rules", wide());
    tamper(&world, "jobs", "/spec/parallelism", json!(1));
    world.pass(MINUTE).await;
    let _second = world.operator();
    world.pass(SECOND * 2).await;
    assert_eq!(essence(&world), before);
    let told = events(&world, "Drifted");
    assert!(
        told.len() == 1
            && ["Job: ", "Role: ", "RoleBinding: "]
                .iter()
                .all(|k| told[0].contains(k)),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_write_of_a_repair_nobody_foreign_keeps_access() {
    let mut writes = 0;
    loop {
        let (world, first) = active().await;
        let cut = world.api.cut_after_write(writes + 1);
        tamper(&world, "rolebindings", "/subjects", foreign());
        tamper(&world, "roles", "/rules", wide());
        let killed = tokio::select! {
            () = cut.notified() => true,
            () = tokio::time::sleep(std::time::Duration::from_secs(20)) => false,
        };
        drop(first);
        world.api.heal();
        world.pass(SECOND).await;
        let _second = world.operator();
        world.pass(MINUTE).await;
        for binding in world.api.list("rolebindings", NAMESPACE) {
            assert_eq!(binding["subjects"].as_array().unwrap().len(), 1);
            assert_eq!(
                made(&world, "roles")["rules"][0]["resourceNames"],
                json!(["a"])
            );
        }
        // Between deletion and creation the grant is one whose binding is missing, and that revokes.
        let reason = world.reason("a");
        assert!(["Active", "Revoked"].contains(&reason.as_str()), "{reason}");
        if !killed {
            assert_eq!(reason, "Active");
            break;
        }
        writes += 1;
    }
    assert!(writes >= 3, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn what_no_event_told_is_found_within_half_an_hour() {
    let (world, _operator) = active().await;
    let before = essence(&world);
    world.api.drop_event(1);
    tamper(&world, "rolebindings", "/subjects", foreign());
    world.pass(MINUTE).await;
    assert_eq!(
        made(&world, "rolebindings")["subjects"],
        foreign(),
        "nobody heard of it"
    );
    world.pass(MINUTE * 30).await;
    assert_eq!(essence(&world), before);
    assert_eq!(events(&world, "Drifted").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_reads_single_objects_and_writes_nothing() {
    let (world, _operator) = active_with(json!({}), json!({"duration": "10h"})).await;
    world.pass(MINUTE * 61).await;
    let calls = world.api.calls();
    let looks = calls
        .iter()
        .filter(|c| c.method == "GET" && c.resource == "rolebindings" && !c.name.is_empty());
    let looks = looks.count();
    assert!((2..=3).contains(&looks), "{looks} looks in an hour");
    assert_eq!((world.api.writes().len(), world.api.lists().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn labels_and_annotations_of_other_tools_are_nobodys_concern() {
    let (world, _operator) = active().await;
    for kind in ["rolebindings", "roles", "jobs"] {
        tamper(&world, kind, "/metadata/labels/team", json!("payments"));
        tamper(
            &world,
            kind,
            "/metadata/annotations/backup.example~1at",
            json!("noon"),
        );
        tamper(
            &world,
            kind,
            "/metadata/managedFields",
            json!([{"manager": "kubectl"}]),
        );
    }
    world.pass(MINUTE * 5).await;
    assert_eq!(world.api.writes().len(), 0);
    let looks = world.api.calls().into_iter();
    let looks = looks
        .filter(|c| c.method == "GET" && c.resource == "workloadaccesses" && !c.name.is_empty());
    assert_eq!(looks.count(), 0, "nor is anybody brought to look");
    world.pass(MINUTE * 30).await;
    assert_eq!(
        (world.api.writes().len(), events(&world, "Drifted").len()),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn what_stint_itself_writes_brings_few_to_look() {
    let world = World::new();
    let _operator = world.operator();
    world.pass(SECOND).await;
    world.api.clear_calls();
    world.admit("a", json!({"duration": "1h"}));
    world.pass(MINUTE).await;
    let looks = world.api.calls().into_iter();
    let looks = looks
        .filter(|c| c.method == "GET" && c.resource == "workloadaccesses" && !c.name.is_empty());
    let looks = looks.count();
    assert!(looks <= 2, "the request itself and its status: {looks}");
    world.api.clear_calls();
    tamper(&world, "roles", "/rules", wide());
    world.pass(MINUTE).await;
    let looks = world.api.calls().into_iter();
    let looks = looks
        .filter(|c| c.method == "GET" && c.resource == "workloadaccesses" && !c.name.is_empty());
    let looks = looks.count();
    assert!(looks <= 3, "the change and its repair: {looks}");
}

#[tokio::test(start_paused = true)]
async fn another_policy_that_would_do_as_well_changes_nothing_about_a_live_grant() {
    let (world, _operator) = active().await;
    let mut other = world.api.get("accesspolicies", "", "jobs").unwrap();
    other["metadata"] = json!({"name": "also-jobs"});
    world.api.seed(other);
    world.pass(SECOND * 5).await;
    world.touch("a");
    world.pass(SECOND * 5).await;
    let made_again = writes(&world);
    assert!(
        !made_again
            .iter()
            .any(|w| w.contains("rolebindings") || w.contains("jobs")),
        "{made_again:?}"
    );
    assert_eq!(status(&world)["policy"]["name"], "jobs");
}

#[tokio::test(start_paused = true)]
async fn when_another_policy_takes_over_the_record_follows_and_that_is_no_drift() {
    let (world, _operator) = active().await;
    let mut other = world.api.get("accesspolicies", "", "jobs").unwrap();
    other["metadata"] = json!({"name": "also-jobs"});
    world.api.seed(other);
    world.pass(SECOND * 5).await;
    world.api.remove("accesspolicies", "", "jobs");
    world.pass(SECOND * 5).await;
    assert_eq!(world.reason("a"), "Active");
    for kind in ["jobs", "rolebindings"] {
        let annotations = &made(&world, kind)["metadata"]["annotations"];
        assert_eq!(annotations["stint.dev/policy"], "also-jobs", "{kind}");
    }
    assert_eq!(events(&world, "Drifted"), [""; 0]);
}

/// The rules of a copied role are known only from the record: forged together with the copy they end the grant.
#[tokio::test(start_paused = true)]
async fn a_forged_copy_of_a_role_with_a_forged_hash_ends_the_grant() {
    let world = World::new();
    let narrow = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}]);
    world.api.seed(json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": "reader"}, "rules": narrow}));
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["allow"]["roleRefs"] = json!([{"kind": "ClusterRole", "name": "reader"}]);
    world.api.seed(policy);
    let _operator = world.operator();
    world.pass(SECOND).await;
    world.api.seed(world.stamped(json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
        "metadata": {"name": "a", "namespace": NAMESPACE, "generation": 1},
        "spec": {"serviceAccountRef": {"name": "migrator"}, "duration": "1h", "reason": "a test",
                 "roleRef": {"kind": "ClusterRole", "name": "reader"}}
    })));
    world.pass(SECOND).await;
    assert_eq!(world.reason("a"), "Active");
    let every = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let typed: Vec<stint::domain::rules::Rule> = serde_json::from_value(every.clone()).unwrap();
    let hash = stint::domain::rules::hash(&typed);
    tamper(
        &world,
        "jobs",
        "/metadata/annotations/stint.dev~1rules-hash",
        json!(hash),
    );
    tamper(&world, "roles", "/rules", every);
    world.pass(SECOND * 10).await;
    assert_eq!(
        (world.reason("a"), world.made()),
        ("Drifted".into(), [0, 0, 0])
    );
}

/// A world that grants in the whole cluster, with one active grant of an hour.
async fn active_wide() -> (World, Operator) {
    let mut world = World::new();
    world.cluster_grants = true;
    let mut policy = world.api.get("accesspolicies", "", "jobs").unwrap();
    policy["spec"]["allow"]["cluster"] = json!(true);
    policy["spec"]["allow"]["findings"] = json!(["OB-W07"]);
    world.api.seed(policy);
    let operator = world.operator();
    world.api.seed(world.stamped_wide(json!({
        "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
        "metadata": {"name": "a", "generation": 1},
        "spec": {
            "serviceAccountRef": {"name": "migrator", "namespace": NAMESPACE}, "duration": "1h", "reason": "a test",
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}]
        }
    })));
    world.pass(SECOND * 2).await;
    assert_eq!(world.api.list("clusterrolebindings", "").len(), 1);
    (world, operator)
}

#[rstest]
#[case::subjects(
    "clusterrolebindings",
    "/subjects",
    foreign(),
    "ClusterRoleBinding: subjects were"
)]
#[case::later_end("clusterrolebindings", "/metadata/annotations/stint.dev~1not-after", json!(LATER), "stint.dev/not-after was")]
#[case::rules("clusterroles", "/rules", wide(), "ClusterRole: rules also gave")]
#[case::aggregation("clusterroles", "/aggregationRule", json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}), "ClusterRole: rules were taken out")]
#[case::record("clusterroles", "/metadata/annotations/stint.dev~1not-after", json!(LATER), "ClusterRole: annotation stint.dev/not-after was")]
#[tokio::test(start_paused = true)]
async fn grants_in_the_whole_cluster_are_repaired_too(
    #[case] kind: &str,
    #[case] at: &str,
    #[case] value: Value,
    #[case] told: &str,
) {
    let (world, _operator) = active_wide().await;
    let managed = |kind: &str| {
        let all = world.api.list(kind, "").into_iter();
        let mut all = all.filter(|o| o["metadata"]["labels"]["stint.dev/grant"].is_string());
        all.next().unwrap()
    };
    let essence = || {
        ["clusterrolebindings", "clusterroles"].map(|kind| {
            let mut object = managed(kind);
            let meta = object["metadata"].as_object_mut().unwrap();
            for field in ["resourceVersion", "uid", "creationTimestamp"] {
                meta.remove(field);
            }
            object
        })
    };
    let before = essence();
    let mut object = managed(kind);
    let (parent, field) = at.rsplit_once('/').unwrap();
    let fields = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    fields.insert(field.replace("~1", "/"), value);
    world.api.seed(object);
    world.pass(SECOND * 2).await;
    assert_eq!(essence(), before);
    let events = world.api.list("events", "");
    let notes = events.iter().filter(|e| e["reason"] == "Drifted");
    let notes: Vec<&str> = notes.map(|e| e["note"].as_str().unwrap()).collect();
    assert!(notes.len() == 1 && notes[0].contains(told), "{notes:?}");
    world.pass(MINUTE * 61).await;
    assert_eq!(world.api.list("clusterrolebindings", "").len(), 0);
}
