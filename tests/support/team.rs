//! A team on a cluster with Stint: its namespace, its account, its policy, and what it asks for.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use stint::api::{AccessPolicy, WorkloadAccess};

use super::cluster::{User, eventually};
use super::operator::Stint;

/// A namespace whose members may ask for grants, with the account `migrator`.
pub struct Team {
    /// The installation.
    pub stint: &'static Stint,
    /// Namespace and policy name.
    pub namespace: String,
}

impl Team {
    /// A new team: Alice may use its policy and write requests, Bob may only write requests.
    pub async fn new(stint: &'static Stint) -> Team {
        Team::with_limits(stint, json!({"maxDuration": "8h"})).await
    }

    /// The same with other limits in the policy.
    pub async fn with_limits(stint: &'static Stint, limits: Value) -> Team {
        let cluster = stint.cluster();
        let namespace = cluster.namespace("team", &[]).await;
        let admin = cluster.admin();
        create(
            &admin,
            "v1",
            "ServiceAccount",
            &namespace,
            json!({"metadata": {"name": "migrator"}}),
        )
        .await;
        let team = Team { stint, namespace };
        team.write_policy(&admin, limits).await;
        team.write_rbac(&admin).await;
        team.wait_until_admitted().await;
        team
    }

    async fn write_policy(&self, admin: &Client, limits: Value) {
        let policies: Api<AccessPolicy> = Api::all(admin.clone());
        let policy = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "AccessPolicy",
            "metadata": {"name": self.namespace},
            "spec": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
                "serviceAccounts": {"names": ["migrator", "other"]},
                "allow": {
                    "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}],
                    "roleRefs": [{"kind": "Role", "name": "source"}]
                },
                "limits": limits
            }
        });
        let policy = serde_json::from_value(policy).unwrap();
        policies
            .create(&PostParams::default(), &policy)
            .await
            .unwrap();
    }

    async fn write_rbac(&self, admin: &Client) {
        let ns = &self.namespace;
        create(admin, "rbac.authorization.k8s.io/v1", "ClusterRole", "", json!({
            "metadata": {"name": format!("use-{ns}")},
            "rules": [{"apiGroups": ["stint.dev"], "resources": ["accesspolicies"], "resourceNames": [ns], "verbs": ["use"]}]
        })).await;
        create(admin, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "", json!({
            "metadata": {"name": format!("use-{ns}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("use-{ns}")},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]
        })).await;
        create(admin, "rbac.authorization.k8s.io/v1", "RoleBinding", ns, json!({
            "metadata": {"name": "members"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"},
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}
            ]
        })).await;
        create(admin, "rbac.authorization.k8s.io/v1", "Role", ns, json!({
            "metadata": {"name": "requester"},
            "rules": [{"apiGroups": ["stint.dev"], "resources": ["workloadaccesses"],
                       "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]}]
        })).await;
        create(admin, "rbac.authorization.k8s.io/v1", "RoleBinding", ns, json!({
            "metadata": {"name": "requesters"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "requester"},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"},
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}
            ]
        })).await;
    }

    /// The policy and the rights reach the operator and the authorizer by watches: a dry run tells when.
    async fn wait_until_admitted(&self) {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let api = self.requests(User::Alice);
        let probe = self.request("probe", "30m");
        eventually("a good request passes a dry run", async || {
            api.create(&dry_run, &probe).await.ok()
        })
        .await;
    }

    /// Changes the team's policy by a merge patch of its spec, and returns it.
    pub async fn change_policy(&self, spec: Value) -> kube::Result<AccessPolicy> {
        let policies: Api<AccessPolicy> = Api::all(self.stint.cluster().admin());
        let patch = Patch::Merge(json!({"spec": spec}));
        let nobody = PatchParams::default();
        policies.patch(&self.namespace, &nobody, &patch).await
    }

    /// Creates a request as Alice, again and again until this is the answer: what it depends on reaches Stint by watches.
    pub async fn refused_with(&self, request: &WorkloadAccess, code: &str) -> String {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let api = self.requests(User::Alice);
        let what = format!("the request is refused with {code}");
        eventually(&what, async || match api.create(&dry_run, request).await {
            Err(kube::Error::Api(status)) if status.message.contains(code) => {
                Some(status.message.clone())
            }
            _ => None,
        })
        .await
    }

    /// The requests of the namespace, as a user.
    pub fn requests(&self, user: User) -> Api<WorkloadAccess> {
        Api::namespaced(self.stint.cluster().user(user), &self.namespace)
    }

    /// A request for `get` on the ConfigMap `settings`.
    pub fn request(&self, name: &str, duration: &str) -> WorkloadAccess {
        self.request_with(name, json!({"duration": duration}))
    }

    /// The same with fields of the spec set or, by `null`, removed.
    pub fn request_with(&self, name: &str, changes: Value) -> WorkloadAccess {
        serde_json::from_value(self.raw_request(name, changes)).unwrap()
    }

    /// The same as JSON, for what does not decode.
    pub fn raw_request(&self, name: &str, changes: Value) -> Value {
        let mut object = json!({
            "apiVersion": "stint.dev/v1alpha1", "kind": "WorkloadAccess",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "serviceAccountRef": {"name": "migrator"},
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]}],
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

    /// Creates a request as Alice and waits until it is active.
    pub async fn granted(&self, request: &WorkloadAccess) -> WorkloadAccess {
        let api = self.requests(User::Alice);
        api.create(&PostParams::default(), request).await.unwrap();
        self.becomes(request.metadata.name.as_deref().unwrap(), "Active")
            .await
    }

    /// Waits until `Ready` has this reason.
    pub async fn becomes(&self, name: &str, reason: &str) -> WorkloadAccess {
        let api = self.requests(User::Admin);
        let mut last = String::new();
        let what = format!("{name} becomes {reason}");
        eventually(&what, async || {
            let object = api.get(name).await.ok()?;
            let status = object.status.clone().unwrap_or_default();
            let now = stint::domain::status::ready_reason(&status).to_owned();
            if now != last {
                eprintln!(
                    "{name}: {now}: {:?}",
                    status.conditions.first().map(|c| &c.message)
                );
                last.clone_from(&now);
            }
            (now == reason).then_some(object)
        })
        .await
    }

    /// The managed RoleBindings of the namespace.
    pub async fn bindings(&self) -> Vec<RoleBinding> {
        let api: Api<RoleBinding> = Api::namespaced(self.stint.cluster().admin(), &self.namespace);
        api.list(&ListParams::default().labels("stint.dev/grant"))
            .await
            .unwrap()
            .items
    }

    /// A client of the account `migrator`.
    pub async fn workload(&self) -> Client {
        self.stint
            .cluster()
            .service_account(&self.namespace, "migrator")
            .await
    }

    /// Whether a client may `get` the ConfigMap of this name.
    pub async fn may_get(&self, client: &Client, name: &str) -> bool {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(self.namespace.clone()),
                    resource: Some("configmaps".into()),
                    name: Some(name.into()),
                    verb: Some("get".into()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews
            .create(&PostParams::default(), &review)
            .await
            .unwrap();
        answer.status.unwrap().allowed
    }
}

/// Creates any object; cluster-scoped when `namespace` is empty.
pub async fn create(
    client: &Client,
    api_version: &str,
    kind: &str,
    namespace: &str,
    mut object: Value,
) -> Value {
    use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    };
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let made = api.create(&PostParams::default(), &object).await;
    serde_json::to_value(made.unwrap_or_else(|e| panic!("cannot make {kind}: {e}"))).unwrap()
}
