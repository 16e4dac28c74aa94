//! Grants in the whole cluster on a real control plane: what they give, when they end, who cannot have one, and that nobody
//! else writes what they are made of. The operator runs as its own ServiceAccount.

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::ResourceExt;
use kube::{Api, Client};
use rstest::rstest;
use serde_json::{Value, json};
use stint::api::ClusterWorkloadAccess;
use stint::domain::status::ready_reason;
use support::cluster::{User, eventually};
use support::operator::Stint;
use support::team::{Team, create};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// These tests stop or change the installation, so each has it for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> (Platform, MutexGuard<'static, ()>) {
    let guard = ALONE.lock().await;
    let stint = Stint::shared_wide(env!("CARGO_BIN_EXE_stint")).await;
    stint.start().await;
    (Platform::new(stint).await, guard)
}

/// A team whose policy also allows to read nodes and `/metrics` in the whole cluster.
struct Platform {
    team: Team,
    requests: Api<ClusterWorkloadAccess>,
}

impl Platform {
    async fn new(stint: &'static Stint) -> Platform {
        let admin = stint.cluster().admin();
        nodes_are_grantable(&admin).await;
        let team = Team::new(stint).await;
        let alice = team.namespace.clone();
        create(&admin, RBAC, "ClusterRoleBinding", "", json!({
            "metadata": {"name": format!("wide-{alice}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "stint-cluster-requester"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"},
                         {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]
        })).await;
        let requests = Api::all(stint.cluster().user(User::Alice));
        let platform = Platform { team, requests };
        platform.allow(true).await;
        let probe = platform.request("probe", json!({"duration": "30m"}));
        eventually("a good request passes a dry run", async || {
            platform.requests.create(&dry_run(), &probe).await.ok()
        })
        .await;
        platform
    }

    /// The policy's envelope, with or without the switch.
    async fn allow(&self, cluster: bool) {
        let allow = json!({"allow": {"cluster": cluster, "rules": [
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
        ]}});
        self.team.change_policy(allow).await.unwrap();
    }

    /// A request for `get` on nodes and `/metrics`, with fields of the spec set or, by `null`, removed.
    fn request(&self, name: &str, changes: Value) -> ClusterWorkloadAccess {
        serde_json::from_value(self.raw_request(name, changes)).unwrap()
    }

    fn raw_request(&self, name: &str, changes: Value) -> Value {
        let mut object = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess",
            "metadata": {"name": self.name(name)},
            "spec": {
                "serviceAccountRef": {"name": "migrator", "namespace": self.team.namespace},
                "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
                          {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
                "reason": "a test"
            }
        });
        for (field, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(object["spec"].as_object_mut().unwrap().remove(field)),
                value => object["spec"][field] = value.clone(),
            }
        }
        object
    }

    fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.team.namespace)
    }

    async fn granted(&self, name: &str, duration: &str) -> ClusterWorkloadAccess {
        let request = self.request(name, json!({"duration": duration}));
        let create = PostParams::default();
        self.requests.create(&create, &request).await.unwrap();
        self.becomes(name, "Active").await
    }

    async fn becomes(&self, name: &str, reason: &str) -> ClusterWorkloadAccess {
        let what = format!("{name} becomes {reason}");
        let requests: Api<ClusterWorkloadAccess> = Api::all(self.admin());
        let mut last = String::new();
        eventually(&what, async || {
            let object = requests.get(&self.name(name)).await.ok()?;
            let status = object.status.clone().unwrap_or_default();
            let now = ready_reason(&status).to_owned();
            if now != last {
                eprintln!("{name}: {now}: {:?}", status.conditions.first());
                last.clone_from(&now);
            }
            (now == reason).then_some(object)
        })
        .await
    }

    /// The answer to a request as it is when the operator knows the team's policy as it is now.
    async fn refused(&self, user: User, changes: Value, code: &str) -> String {
        let client = self.team.stint.cluster().user(user);
        let object = self.raw_request("refused", changes);
        let path = "/apis/stint.dev/v1alpha1/clusterworkloadaccesses?dryRun=All";
        let what = format!("the request is refused with {code}");
        let mut last = String::new();
        eventually(&what, async || {
            let body = object.to_string().into_bytes();
            let post = http::Request::post(path).header("content-type", "application/json");
            let answer = client.request::<Value>(post.body(body).unwrap()).await;
            let now = match answer {
                Err(kube::Error::Api(status)) => status.message.clone(),
                other => format!("{other:?}"),
            };
            if now != last {
                eprintln!("{now}");
                last.clone_from(&now);
            }
            now.contains(code).then_some(now)
        })
        .await
    }

    fn admin(&self) -> Client {
        self.team.stint.cluster().admin()
    }

    /// Whether the team's account may.
    async fn may(&self, right: Right) -> bool {
        let reviews: Api<SubjectAccessReview> = Api::all(self.admin());
        let namespace = &self.team.namespace;
        let mut spec = SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:migrator")),
            groups: Some(vec![format!("system:serviceaccounts:{namespace}")]),
            ..SubjectAccessReviewSpec::default()
        };
        match right {
            Right::OnNodes(verb) => {
                spec.resource_attributes = Some(ResourceAttributes {
                    resource: Some("nodes".into()),
                    name: Some("any".into()),
                    verb: Some(verb.into()),
                    ..ResourceAttributes::default()
                });
            }
            Right::OnPath(path) => {
                spec.non_resource_attributes = Some(NonResourceAttributes {
                    path: Some(path.into()),
                    verb: Some("get".into()),
                });
            }
        }
        let review = SubjectAccessReview {
            spec,
            ..SubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await;
        answer.unwrap().status.unwrap().allowed
    }

    /// ClusterRoleBindings and ClusterRoles that were made for a request.
    async fn made(&self, request: &ClusterWorkloadAccess) -> (usize, usize) {
        let of =
            ListParams::default().labels(&format!("stint.dev/grant={}", request.uid().unwrap()));
        let bindings: Api<ClusterRoleBinding> = Api::all(self.admin());
        let roles: Api<ClusterRole> = Api::all(self.admin());
        (
            bindings.list(&of).await.unwrap().items.len(),
            roles.list(&of).await.unwrap().items.len(),
        )
    }

    async fn nothing_is_left(&self, request: &ClusterWorkloadAccess) {
        eventually("binding and role are gone", async || {
            (self.made(request).await == (0, 0)).then_some(())
        })
        .await;
    }
}

#[derive(Clone, Copy)]
enum Right {
    OnNodes(&'static str),
    OnPath(&'static str),
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

/// Nodes are not in the default ceiling; a cluster adds them with a ClusterRole of its own.
async fn nodes_are_grantable(admin: &Client) {
    static ONCE: OnceCell<()> = OnceCell::const_new();
    ONCE.get_or_init(|| async {
        let role = json!({
            "metadata": {"name": "nodes-are-grantable", "labels": {"rbac.stint.dev/grantable": "true"}},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
                      {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
                      {"apiGroups": [""], "resources": ["*/scale"], "verbs": ["get"]},
                      {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}]
        });
        create(admin, RBAC, "ClusterRole", "", role).await;
    })
    .await;
}

fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("not an answer of the API server: {other}"),
    }
}

#[tokio::test]
async fn a_grant_holds_in_the_whole_cluster_until_its_end() {
    let (platform, _alone) = alone().await;
    assert!(!platform.may(Right::OnNodes("get")).await);
    let granted = platform.granted("nodes", "5s").await;
    eventually("the account may get nodes", async || {
        platform.may(Right::OnNodes("get")).await.then_some(())
    })
    .await;
    assert!(platform.may(Right::OnPath("/metrics")).await);
    assert!(
        !platform.may(Right::OnNodes("list")).await,
        "only what was asked"
    );
    assert!(!platform.may(Right::OnPath("/logs")).await);
    let status = granted.status.clone().unwrap();
    let backstop = status.conditions.iter().find(|c| c.type_ == "Backstop");
    let backstop = backstop.unwrap();
    assert_eq!(
        (backstop.status.as_str(), backstop.reason.as_str()),
        ("False", "ClusterScoped")
    );
    assert!(backstop.message.contains("outlives its end"));
    let bindings: Api<ClusterRoleBinding> = Api::all(platform.admin());
    let stamp = status.cluster_role_binding.unwrap();
    let binding = bindings.get(&stamp.name).await.unwrap();
    assert_eq!(binding.uid().unwrap(), stamp.uid);
    assert_eq!(platform.made(&granted).await, (1, 1));
    let ended = platform.becomes("nodes", "Expired").await;
    let (end, written) = ended
        .status
        .map(|s| (s.not_after.unwrap(), s.ended_time.unwrap()))
        .unwrap();
    assert!(written >= end, "never early");
    platform.nothing_is_left(&granted).await;
    eventually("the account may no more", async || {
        (!platform.may(Right::OnNodes("get")).await).then_some(())
    })
    .await;
}

#[rstest]
#[case::verb(json!({"rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["*"]}]}), "[OB-W03]")]
#[case::resource(json!({"rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]}), "[OB-W02]")]
#[case::group(json!({"rules": [{"apiGroups": ["*"], "resources": ["nodes"], "verbs": ["get"]}]}), "[OB-W04]")]
#[case::path(json!({"rules": [{"nonResourceURLs": ["/debug/*"], "verbs": ["get"]}]}), "[OB-W06]")]
#[case::no_slash(json!({"rules": [{"nonResourceURLs": ["metrics"], "verbs": ["get"]}]}), "[WA-RULES]")]
#[case::mixed(json!({"rules": [{"apiGroups": [""], "resources": ["nodes"], "nonResourceURLs": ["/metrics"], "verbs": ["get"]}]}), "[WA-RULES]")]
#[case::role(json!({"rules": null, "roleRef": {"kind": "Role", "name": "source"}}), "[WA-RULES]")]
#[case::no_end(json!({"duration": null}), "[WA-NO-EXPIRY]")]
#[case::no_namespace(json!({"serviceAccountRef": {"name": "migrator"}}), "must set `namespace`")]
#[case::beyond_the_policy(json!({"rules": [{"nonResourceURLs": ["/logs"], "verbs": ["get"]}]}), "[WA-NOT-ALLOWED]")]
#[case::for_namespaces(json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}), "[OB-W07]")]
#[case::unknown(json!({"rules": [{"apiGroups": [""], "resources": ["nodez"], "verbs": ["get"]}]}), "[WA-UNKNOWN-RESOURCE]")]
#[tokio::test]
async fn refuses(#[case] mut changes: Value, #[case] code: &str) {
    let (platform, _alone) = alone().await;
    if !changes.as_object().unwrap().contains_key("duration") {
        changes["duration"] = "30m".into();
    }
    platform.refused(User::Alice, changes, code).await;
}

#[tokio::test]
async fn a_policy_without_the_switch_allows_nothing_and_ends_what_it_allowed() {
    let (platform, _alone) = alone().await;
    let granted = platform.granted("live", "1h").await;
    platform.allow(false).await;
    let changes = json!({"duration": "30m"});
    let text = platform
        .refused(User::Alice, changes, "[WA-NOT-ALLOWED]")
        .await;
    assert!(text.contains("`allow.cluster: true`"), "{text}");
    platform.becomes("live", "PolicyWithdrawn").await;
    platform.nothing_is_left(&granted).await;
}

#[tokio::test]
async fn who_may_not_use_the_policy_is_refused() {
    let (platform, _alone) = alone().await;
    let changes = json!({"duration": "30m"});
    platform.refused(User::Bob, changes, "[WA-REQUESTER]").await;
}

#[tokio::test]
async fn nothing_but_stint_ends_a_grant_on_time_and_it_does_before_it_is_ready() {
    let (platform, _alone) = alone().await;
    let granted = platform.granted("overdue", "3s").await;
    platform.team.stint.kill().await;
    let end = granted
        .status
        .as_ref()
        .unwrap()
        .not_after
        .clone()
        .unwrap()
        .0;
    eventually("its end has passed", async || {
        (jiff::Timestamp::now() > end).then_some(())
    })
    .await;
    assert_eq!(
        platform.made(&granted).await,
        (1, 1),
        "Backstop=False is true"
    );
    platform.team.stint.start().await;
    assert_eq!(platform.made(&granted).await.0, 0, "ready means swept");
    platform.becomes("overdue", "Expired").await;
    platform.nothing_is_left(&granted).await;
}

#[tokio::test]
async fn deleting_the_request_ends_it_also_while_stint_is_down_and_never_orphans() {
    let (platform, _alone) = alone().await;
    let granted = platform.granted("deleted", "1h").await;
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let name = platform.name("deleted");
    let refused = platform.requests.delete(&name, &orphan).await;
    assert!(message(refused.unwrap_err()).contains("[WA-ORPHAN]"));
    let kept = json!({"metadata": {"finalizers": ["example.com/kept"]}});
    let nobody = PatchParams::default();
    let refused = platform
        .requests
        .patch(&name, &nobody, &Patch::Merge(kept))
        .await;
    let text = message(refused.unwrap_err());
    assert!(text.contains("must not get a finalizer"), "{text}");
    platform.team.stint.kill().await;
    let refused = platform.requests.delete(&name, &orphan).await;
    assert!(message(refused.unwrap_err()).contains("[WA-ORPHAN]"));
    let usual = DeleteParams::default();
    platform.requests.delete(&name, &usual).await.unwrap();
    platform.nothing_is_left(&granted).await;
}

#[tokio::test]
async fn what_stint_made_is_changed_by_nobody_else() {
    let (platform, _alone) = alone().await;
    let granted = platform.granted("guarded", "1h").await;
    let name = granted
        .status
        .clone()
        .unwrap()
        .cluster_role_binding
        .unwrap()
        .name;
    let (bindings, roles): (Api<ClusterRoleBinding>, Api<ClusterRole>) =
        (Api::all(platform.admin()), Api::all(platform.admin()));
    let nobody = PatchParams::default();
    let later =
        json!({"metadata": {"annotations": {"stint.dev/not-after": "2036-01-01T00:00:00Z"}}});
    let refused = bindings.patch(&name, &nobody, &Patch::Merge(later)).await;
    assert!(message(refused.unwrap_err()).contains("managed by Stint"));
    let wider = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let refused = roles.patch(&name, &nobody, &Patch::Merge(wider)).await;
    assert!(message(refused.unwrap_err()).contains("managed by Stint"));
    let second = json!({
        "metadata": {"name": platform.name("second")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]
    });
    let second = serde_json::from_value(second).unwrap();
    let refused = bindings.create(&PostParams::default(), &second).await;
    assert!(message(refused.unwrap_err()).contains("bound only by Stint"));
    bindings
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    platform.becomes("guarded", "Revoked").await;
    platform.nothing_is_left(&granted).await;
}

fn made(kind: &str, mut rest: Value) -> Value {
    let mut object = json!({"metadata": {
        "name": "stint-x-00000000",
        "labels": {"stint.dev/grant": "0000"},
        "annotations": {"stint.dev/not-after": "2036-01-01T00:00:00Z"},
        "ownerReferences": [{"apiVersion": "stint.dev/v1alpha1", "kind": "ClusterWorkloadAccess", "name": "x", "uid": "0000"}]
    }});
    object["apiVersion"] = RBAC.into();
    object["kind"] = kind.into();
    for (field, value) in rest.as_object_mut().unwrap() {
        match object.pointer_mut(field) {
            Some(place) => *place = value.take(),
            None => object[&field[1..]] = value.take(),
        }
    }
    object
}

fn nodes(verb: &str) -> Value {
    json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": [verb]}])
}

fn tokens(of: Value) -> Value {
    json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": of, "verbs": ["create"]}])
}

fn bound(role: &str) -> Value {
    json!({"/roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
           "/subjects": [{"kind": "ServiceAccount", "name": "migrator", "namespace": "default"}]})
}

#[tokio::test]
async fn the_operators_own_account_writes_only_grants_within_its_ceiling() {
    let (platform, _alone) = alone().await;
    let operator = platform.team.stint.as_operator().await;
    let (bindings, roles): (Api<ClusterRoleBinding>, Api<ClusterRole>) =
        (Api::all(operator.clone()), Api::all(operator));
    let role = async |changes: Value| {
        let object = serde_json::from_value(made("ClusterRole", changes)).unwrap();
        roles.create(&dry_run(), &object).await.map_err(message)
    };
    let good = json!({"/rules": nodes("get")});
    role(good).await.unwrap();
    // The ceiling has `nodes-are-grantable`, which lets pass what it covers by a subresource of anything.
    let by_subresource = json!([{"apiGroups": [""], "resources": ["replicationcontrollers/scale"], "verbs": ["get"]}]);
    role(json!({"/rules": by_subresource})).await.unwrap();
    let named = tokens(json!(["builder"]));
    role(json!({"/rules": named})).await.unwrap();
    let beyond = "attempting to grant RBAC permissions not currently held";
    for (changes, says) in [
        (json!({"/rules": nodes("delete")}), beyond),
        (
            json!({"/rules": nodes("get"), "/metadata/labels": {}}),
            "carry the label stint.dev/grant",
        ),
        (
            json!({"/rules": nodes("get"), "/metadata/labels": {"stint.dev/grant": "0000", "rbac.authorization.k8s.io/aggregate-to-edit": "true"}}),
            "must not be aggregated into others",
        ),
        (
            json!({"/rules": nodes("get"), "/metadata/ownerReferences": []}),
            "must be owned by its ClusterWorkloadAccess",
        ),
        (
            json!({"/rules": nodes("get"), "/metadata/annotations": {}}),
            "must say when it ends",
        ),
        // What the operator holds for its own work, and the ceiling does not.
        (
            json!({"/rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}]}),
            "must lie within the ClusterRole stint-grantable",
        ),
        (
            json!({"/rules": [{"nonResourceURLs": ["/apis"], "verbs": ["get"]}]}),
            "must lie within the ClusterRole stint-grantable",
        ),
        (
            json!({"/rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["create"]}]}),
            // Two policies refuse this, and the API server tells of either.
            "a Role made by Stint must",
        ),
        (
            json!({"/rules": tokens(json!([]))}),
            "must name the accounts",
        ),
        (
            json!({"/rules": tokens(json!(["stint"]))}),
            "must name the accounts",
        ),
    ] {
        let refused = role(changes.clone()).await.unwrap_err();
        assert!(refused.contains(says), "{changes}: {refused}");
    }
    let binding = async |changes: Value| {
        let object = serde_json::from_value(made("ClusterRoleBinding", changes)).unwrap();
        bindings.create(&dry_run(), &object).await.map_err(message)
    };
    let to_another = binding(bound("view")).await.unwrap_err();
    assert!(
        to_another.contains(beyond) || to_another.contains("binds the Role of its own name"),
        "{to_another}"
    );
    let another = binding(bound("nodes-are-grantable")).await.unwrap_err();
    assert!(
        another.contains("binds the Role of its own name"),
        "{another}"
    );
    // Neither is the name of a grant's enough of a ClusterRole that is none of Stint's.
    let mut changes = bound("nodes-are-grantable");
    changes["/metadata/name"] = "nodes-are-grantable".into();
    let namesake = binding(changes).await.unwrap_err();
    assert!(
        namesake.contains("binds only a ClusterRole that Stint made"),
        "{namesake}"
    );
    for name in ["cluster-admin", "stint-grantable"] {
        let refused = bindings.delete(name, &DeleteParams::default()).await;
        let text = message(refused.unwrap_err());
        let guarded =
            text.contains("carry the label stint.dev/grant") || text.contains("not found");
        assert!(guarded, "{text}");
    }
    let refused = roles.delete("view", &DeleteParams::default()).await;
    assert!(message(refused.unwrap_err()).contains("carry the label stint.dev/grant"));
}

#[tokio::test]
async fn a_missing_ceiling_stops_the_operators_roles_and_nobody_elses() {
    let (platform, _alone) = alone().await;
    let name = "stint-grantable";
    let admin: Api<ClusterRole> = Api::all(platform.admin());
    admin.delete(name, &DeleteParams::default()).await.unwrap();
    let roles: Api<ClusterRole> = Api::all(platform.team.stint.as_operator().await);
    // Without rules, so that the API server's escalation check has nothing to say.
    let empty = made("ClusterRole", json!({"/rules": []}));
    let empty = serde_json::from_value(empty).unwrap();
    eventually("the operator may write no Role", async || {
        let refused = roles.create(&dry_run(), &empty).await;
        message(refused.err()?).contains("no params").then_some(())
    })
    .await;
    for unrelated in ["somebody-elses", name] {
        let role = json!({"metadata": {"name": unrelated}, "rules": nodes("get")});
        let role = serde_json::from_value(role).unwrap();
        admin.create(&dry_run(), &role).await.unwrap();
    }
    // An upgrade brings it back.
    platform.team.stint.switch_cluster_grants(true).await;
    eventually("the ceiling is as it was", async || {
        let good = made("ClusterRole", json!({"/rules": nodes("get")}));
        let good = serde_json::from_value(good).unwrap();
        roles.create(&dry_run(), &good).await.ok()
    })
    .await;
}

#[tokio::test]
async fn switched_off_a_request_is_refused_by_name_and_what_was_granted_ends() {
    let (platform, _alone) = alone().await;
    let granted = platform.granted("before", "1h").await;
    platform.team.stint.switch_cluster_grants(false).await;
    let changes = json!({"duration": "30m"});
    let text = platform
        .refused(User::Admin, changes, "clusterGrants.enabled")
        .await;
    assert!(text.contains("[WA-NOT-ALLOWED]"), "{text}");
    platform.becomes("before", "Revoked").await;
    platform.nothing_is_left(&granted).await;
    let operator = platform.team.stint.as_operator().await;
    let roles: Api<ClusterRole> = Api::all(operator);
    let role = made("ClusterRole", json!({"/rules": nodes("get")}));
    let role = serde_json::from_value(role).unwrap();
    eventually(
        "the operator holds no right to write ClusterRoles",
        async || {
            let refused = roles.create(&dry_run(), &role).await;
            message(refused.err()?)
                .contains("cannot create resource \"clusterroles\"")
                .then_some(())
        },
    )
    .await;
    platform.team.stint.switch_cluster_grants(true).await;
}
