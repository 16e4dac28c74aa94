//! Runs an example of the page of codes in the mouth that says its code, and tells which codes came out.

use crate::page;
use crate::world::{NAMESPACE, World};
use crate::{decision, guard};
use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use stint::api::names::made_object_name;
use stint::api::{AccessPolicy, ClusterWorkloadAccess, WorkloadAccess};
use stint::domain::binding::{self, Binding, BoundRole};
use stint::domain::catalogue::{self, Finding, Scope};
use stint::domain::covers::Ceiling;
use stint::domain::extension::Extension;
use stint::domain::facts::{
    AccountFacts, Facts, Role, RoleFacts, UntilFacts, Workload, WorkloadFacts,
};
use stint::domain::grant::Grant;
use stint::domain::guard::Mode;
use stint::domain::judge::{Verdict, judge};
use stint::domain::patterns::Patterns;
use stint::domain::policy::{Labels, Policy};
use stint::domain::receipt::Requester;
use stint::domain::rules::Rule;
use stint::domain::served::{Home, Served};
use stint::domain::violation::Violation;
use stint::webhook::admission::VALIDATE;
use stint::webhook::server::Handler;

/// Where the catalogue is asked: a namespace, a privileged namespace, the cluster.
pub const SCOPES: [Scope<'static>; 3] = [
    Scope::Namespace(NAMESPACE),
    Scope::PrivilegedNamespace("kube-system"),
    Scope::Cluster,
];

/// The codes that the example of an entry triggers, whoever says them.
pub async fn triggered(code: &str, text: &str) -> BTreeSet<String> {
    match code {
        "WA-DECODE" | "WA-IMMUTABLE" | "WA-KIND" | "WA-ORPHAN" | "WA-RECEIPT" => {
            page::codes_in(&refusal(&review(code, text)).await)
        }
        "WA-APPROVER" | "WA-APPROVAL-SELF" | "WA-APPROVAL-STALE" => {
            page::codes_in(&refused_decision(code, text).await)
        }
        "WA-STANDING" | "WA-GREW" => page::codes_in(&refused_change(text).await),
        "WA-NAME-TAKEN" => page::codes_in(&message_beside(one(text)).await),
        _ if page::blocks(text).iter().any(|e| e.get("spec").is_some())
            || code.starts_with("WA-") =>
        {
            judged(code, text)
                .into_iter()
                .map(|v| v.code.to_owned())
                .collect()
        }
        _ => {
            let found = SCOPES.into_iter().flat_map(|scope| in_scope(text, scope));
            found.map(str::to_owned).collect()
        }
    }
}

/// What the catalogue says in this scope of the binding or the rules of an example.
pub fn in_scope(text: &str, scope: Scope<'_>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for example in page::blocks(text) {
        if is_binding(&example) {
            found.extend(in_binding(&example, scope));
        }
        if let Some(rules) = rules_of(&example) {
            let refused = catalogue::violations(&rules, "spec.rules", true, scope);
            found.extend(refused.iter().map(|v| v.code));
            found.extend(findings(&rules, scope).iter().map(|f| f.id));
        }
    }
    found
}

/// The rules of an example, if it is about rules.
pub fn rules_of(example: &Value) -> Option<Vec<Rule>> {
    let of_role = || example.get("kind").is_none().then(|| &example["rules"]);
    let rules = example.pointer("/spec/rules").or_else(of_role)?;
    serde_json::from_value(rules.clone()).ok()
}

/// The checks and combinations that rules fulfil by themselves.
pub fn findings(rules: &[Rule], scope: Scope<'_>) -> Vec<Finding> {
    let patterns = Patterns::of(rules);
    let joint = catalogue::combinations(patterns, Patterns::default(), scope);
    let alone = catalogue::findings(patterns, scope);
    alone
        .into_iter()
        .chain(joint.into_iter().map(|c| c.finding))
        .collect()
}

/// Whether an example is a binding. It must then read as one.
pub fn is_binding(example: &Value) -> bool {
    match example["kind"].as_str() {
        Some("RoleBinding") => reads_as::<RoleBinding>(example),
        Some("ClusterRoleBinding") => reads_as::<ClusterRoleBinding>(example),
        _ => false,
    }
}

fn reads_as<T: serde::de::DeserializeOwned>(example: &Value) -> bool {
    let mut example = example.clone();
    example["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
    let read = serde_json::from_value::<T>(example);
    read.map(|_| true).unwrap()
}

fn in_binding(object: &Value, scope: Scope<'_>) -> Vec<&'static str> {
    let role_ref: RoleRef = serde_json::from_value(object["roleRef"].clone()).unwrap();
    let subjects: Vec<Subject> = serde_json::from_value(object["subjects"].clone()).unwrap();
    let binding = Binding {
        scope,
        subjects: &subjects,
        role_ref: &role_ref,
        role: match role_ref.name.as_str() {
            "no-such-role" => BoundRole::Missing,
            _ => BoundRole::Unknown,
        },
    };
    let (found, standing) = (binding::findings(&binding), binding::standing(&binding));
    let all = found.iter().chain(&standing);
    all.map(|f| f.finding.id).collect()
}

/// Why the request of the page, changed by the examples of an entry, is refused; empty when it is granted.
pub fn judged(code: &str, text: &str) -> Vec<Violation> {
    let (mut request, mut policy) = page::request_and_policy();
    let examples = page::blocks(text);
    for example in &examples {
        match example["kind"].as_str() {
            Some("AccessPolicy") => json_patch::merge(&mut policy, example),
            Some("WorkloadAccess") | None => change(&mut request, example),
            Some(_) => (),
        }
    }
    let policy: AccessPolicy = serde_json::from_value(policy).unwrap();
    let policy = match Policy::compile(&policy) {
        Ok(policy) => policy,
        Err(violations) => return violations,
    };
    let mut facts = facts(policy);
    surround(code, &examples, &mut facts);
    let of_cluster = |e: &&Value| e["kind"] == "ClusterWorkloadAccess";
    let parsed = match examples.iter().find(of_cluster) {
        Some(example) => Grant::parse(&wide(example)),
        None => Grant::parse(&serde_json::from_value::<WorkloadAccess>(request).unwrap()),
    };
    let verdict = match parsed {
        Ok(grant) => judge(&grant, &facts, facts.requested_at),
        Err(violations) => Verdict::Refused(violations),
    };
    match verdict {
        Verdict::Refused(violations) => violations,
        Verdict::Granted(_) => vec![],
        other => panic!("{code} is neither granted nor refused: {other:?}"),
    }
}

/// An example that is a whole request for the cluster, but for its metadata.
fn wide(example: &Value) -> ClusterWorkloadAccess {
    let mut object = example.clone();
    object["apiVersion"] = json!("stint.dev/v1alpha1");
    object["metadata"] = json!({"name": "inventory", "uid": "77778888-9999"});
    serde_json::from_value(object).unwrap()
}

/// Changes the request by an example, as the page says how to read one.
fn change(request: &mut Value, example: &Value) {
    let Some(changes) = example["spec"].as_object() else {
        return;
    };
    let spec = request["spec"].as_object_mut().unwrap();
    if changes.contains_key("reason") {
        spec.clear();
    }
    if changes.contains_key("notAfter") {
        spec.remove("duration");
    }
    if changes.contains_key("roleRef") && !changes.contains_key("rules") {
        spec.remove("rules");
    }
    spec.extend(changes.clone());
}

/// What the comment of an example, or an object in it that is no part of the request, says of the cluster.
fn surround(code: &str, examples: &[Value], facts: &mut Facts) {
    match code {
        "WA-ACCOUNT-MISSING" => facts.account = None,
        "WA-ROLE-MISSING" => facts.role = RoleFacts::Missing,
        "WA-ROLE-AGGREGATED" => facts.role = RoleFacts::Found(role(&examples[0])),
        "WA-TOO-MANY" => facts.active_others = 2,
        "WA-EXTENSIONS" => {
            facts.extension = Some(Extension {
                by: facts.requester.clone(),
                at: facts.requested_at,
                count: 1,
                may_use: ["payments-jobs".to_owned()].into(),
            });
        }
        "WA-WORKLOAD" => {
            facts.workload = WorkloadFacts::Found(Box::new(Workload {
                uid: "0a1b2c3d-1111-2222-3333-444455556666".into(),
                service_account: "default".into(),
                ..Workload::default()
            }));
        }
        "OB-X03" => {
            let since = facts.requested_at - SignedDuration::from_hours(24);
            facts.goes_on_since("payments-jobs", since);
        }
        "WA-NO-POLICY" => {
            let labels = examples[0].pointer("/metadata/labels").cloned();
            let labels: Labels = serde_json::from_value(labels.unwrap_or(json!({}))).unwrap();
            facts
                .policies
                .retain(|(policy, _)| policy.selects_namespace(&labels));
        }
        "WA-REQUESTER" => {
            let rules: Vec<Rule> = serde_json::from_value(examples[0]["rules"].clone()).unwrap();
            let needed = json!([{"apiGroups": ["stint.dev"], "resources": ["accesspolicies"],
                                 "resourceNames": ["payments-jobs"], "verbs": ["use"]}]);
            let needed: Vec<Rule> = serde_json::from_value(needed).unwrap();
            assert!(
                Ceiling::compile(&rules).covers(&needed),
                "what Alice needs is enough"
            );
            facts.policies[0].1 = false;
        }
        _ => (),
    }
}

fn role(example: &Value) -> Role {
    let role: ClusterRole = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(role.metadata.name.as_deref(), Some("reader"));
    Role {
        aggregated: role.aggregation_rule.is_some(),
        rules: serde_json::from_value(json!(role.rules.unwrap_or_default())).unwrap(),
        ..Role::default()
    }
}

fn facts(policy: Policy) -> Facts {
    let ceiling = json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "patch"]}]);
    let ceiling: Vec<Rule> = serde_json::from_value(ceiling).unwrap();
    let mut served = Served::default();
    served.add("apps", "deployments".into(), Home::Namespace);
    served.add("", "nodes".into(), Home::Cluster);
    let requested_at: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
    Facts {
        requester: Requester {
            username: "alice".into(),
            ..Requester::default()
        },
        requested_at,
        extension: None,
        namespace_labels: [("team".into(), "payments".into())].into(),
        privileged_namespace: false,
        account: Some(AccountFacts {
            uid: "11111111-1111-1111-1111-111111111111".into(),
            labels: [].into(),
        }),
        role: RoleFacts::NotReferenced,
        copy: None,
        policies: vec![(Arc::new(policy), true)],
        approvals: vec![],
        broken_policies: 0,
        ceiling: Some(Arc::new(Ceiling::compile(&ceiling))),
        served: Some(Arc::new(served)),
        held: vec![],
        held_in: vec![],
        active_others: 0,
        held_since: [].into(),
        until: UntilFacts::NotReferenced,
        workload: WorkloadFacts::NotReferenced,
        live: None,
        promised_end: None,
        ended: None,
    }
}

/// The only example of an entry.
fn one(text: &str) -> Value {
    let examples = page::blocks(text);
    assert_eq!(examples.len(), 1, "{text}");
    examples.into_iter().next().unwrap()
}

/// The review that the API server would send for an example that admission itself refuses.
fn review(code: &str, text: &str) -> Value {
    let request = page::request_and_policy().0;
    let changed = || {
        let mut changed = request.clone();
        json_patch::merge(&mut changed, &one(text));
        changed
    };
    let mut resource =
        json!({"group": "stint.dev", "version": "v1alpha1", "resource": "workloadaccesses"});
    let (operation, object, old, options) = match code {
        "WA-IMMUTABLE" => ("UPDATE", changed(), request.clone(), Value::Null),
        "WA-ORPHAN" => {
            assert!(text.contains("--cascade=orphan"), "{text}");
            let options = json!({"propagationPolicy": "Orphan"});
            ("DELETE", Value::Null, request.clone(), options)
        }
        "WA-KIND" => {
            let rule = one(text)["webhooks"][0]["rules"][0].clone();
            resource = json!({"group": rule["apiGroups"][0], "version": rule["apiVersions"][0],
                              "resource": rule["resources"][0]});
            ("CREATE", request.clone(), Value::Null, Value::Null)
        }
        _ => ("CREATE", changed(), Value::Null, Value::Null),
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "operation": operation, "namespace": NAMESPACE, "resource": resource,
        "kind": {"group": "stint.dev", "version": "v1alpha1", "kind": "WorkloadAccess"},
        "userInfo": {"username": "alice"}, "object": object, "oldObject": old, "options": options
    }})
}

/// The message with which the webhook refuses.
async fn refusal(review: &Value) -> String {
    let world = World::new();
    let operator = world.operator();
    let body = Bytes::from(review.to_string());
    let answer = operator.admission.handle(VALIDATE, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let response = &answer["response"];
    assert_eq!(response["allowed"], json!(false), "{response}");
    response["status"]["message"].as_str().unwrap().to_owned()
}

/// What the controller says of a request beside which there is an object under the name of the grant's own.
async fn message_beside(mut object: Value) -> String {
    let name = "migrate-42";
    let on_the_page = made_object_name(name, "11112222-3333-4444-5555-666677778888");
    assert_eq!(object["metadata"]["name"], json!(on_the_page));
    let world = World::new();
    world.admit(name, json!({"duration": "30m"}));
    let of_request = || world.api.get("workloadaccesses", NAMESPACE, name).unwrap();
    let uid = of_request()["metadata"]["uid"].clone();
    object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
    object["metadata"]["namespace"] = json!(NAMESPACE);
    object["metadata"]["name"] = json!(made_object_name(name, uid.as_str().unwrap()));
    world.api.seed(object);
    let _operator = world.operator();
    world.pass(SignedDuration::from_secs(1)).await;
    let status = of_request()["status"].clone();
    status["conditions"][0]["message"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What the guard says, where it denies, of an example that is made, or of the second as an update of the first.
async fn refused_change(text: &str) -> String {
    let mut world = World::new();
    world.guarding.default_mode = Mode::Deny;
    let operator = world.operator();
    world.pass(SignedDuration::from_secs(1)).await;
    let review = match page::blocks(text).as_slice() {
        [new] => guard::change(new, None),
        [old, new] => guard::change(new, Some(old)),
        other => panic!("{} examples", other.len()),
    };
    guard::refusal(&operator, &review).await.unwrap()
}

/// What the webhook says of a decision on a request that waits for approval. Alice asked; she and Bob may approve.
async fn refused_decision(code: &str, text: &str) -> String {
    let world = World::new();
    decision::approvers(&world, &["alice", "bob"]);
    decision::change_policy(&world, "jobs", json!({"approval": {"required": 1}}));
    let operator = world.operator();
    world.admit("migrate-42", json!({"duration": "30m"}));
    world.pass(SignedDuration::from_secs(1)).await;
    let good = decision::decision(&world, "yes-to-42", "migrate-42", "Approve");
    let sealed = decision::mutated(&operator, &good, "bob").await;
    let review = decision::review("CREATE", &sealed, &Value::Null, "bob");
    let passes = decision::answer(&operator, VALIDATE, &review).await;
    assert_eq!(passes["allowed"], json!(true), "{passes}");
    let is_decision = |e: &Value| e["kind"] == "AccessApproval";
    let mut object = page::blocks(text).into_iter().find(is_decision).unwrap();
    object["apiVersion"] = json!("stint.dev/v1alpha1");
    for (field, words) in [("uid", "its UID"), ("specHash", "its status.specHash")] {
        let place = match field {
            "uid" => "/spec/requestRef/uid",
            _ => "/spec/specHash",
        };
        let written = object.pointer_mut(place).unwrap();
        if *written == json!(words) {
            *written = good.pointer(place).unwrap().clone();
        }
    }
    let by = match code {
        "WA-APPROVAL-SELF" => "alice",
        "WA-APPROVER" => "mallory",
        _ => "bob",
    };
    let refused = decision::create(&world, &operator, &object, by).await;
    refused.unwrap_err().1
}
