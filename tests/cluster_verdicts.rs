//! A sample of the random requests on a real control plane: what the API server's authorizer then allows is what was
//! granted, to the last right.

use futures::stream::{self, StreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use stint::api::WorkloadAccess;
use stint::domain::rules::Rule;
use support::cluster::{User, eventually};
use support::dice::Dice;
use support::operator::Stint;
use support::requests::{self, Question, parsed, questions};
use support::team::{Team, create};

const SAMPLE: usize = 200;
/// Questions about rights that were granted, and as many about others, for each request.
const EACH: usize = 6;

fn name(i: usize) -> String {
    format!("case-{i:03}")
}

async fn team() -> Team {
    let stint = Stint::shared(env!("CARGO_BIN_EXE_stint")).await;
    let team = Team::new(stint).await;
    let admin = team.stint.cluster().admin();
    let rbac = "rbac.authorization.k8s.io/v1";
    let more = json!({"metadata": {"name": "sampled", "labels": {"rbac.stint.dev/grantable": "true"}},
                      "rules": requests::ceiling()});
    create(&admin, rbac, "ClusterRole", "", more).await;
    for (name, rules) in requests::roles() {
        let role = json!({"metadata": {"name": name}, "rules": rules});
        create(&admin, rbac, "ClusterRole", "", role).await;
    }
    for i in 0..SAMPLE {
        let account = json!({"metadata": {"name": name(i)}});
        create(&admin, "v1", "ServiceAccount", &team.namespace, account).await;
    }
    let everyone = json!({"kubernetes.io/metadata.name": team.namespace});
    let mut policy = requests::policy(everyone);
    // The team's own policy named accounts.
    policy["serviceAccounts"]["names"] = serde_json::Value::Null;
    team.change_policy(policy).await.unwrap();
    team
}

/// Whether the API server would allow it to the account.
async fn allowed(team: &Team, account: &str, question: &Question) -> bool {
    let user = format!("system:serviceaccount:{}:{account}", team.namespace);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user),
            groups: Some(vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{}", team.namespace),
                "system:authenticated".into(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(team.namespace.clone()),
                group: text(question.group),
                resource: text(question.resource),
                subresource: text(question.subresource),
                name: text(question.name),
                verb: text(question.verb),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(team.stint.cluster().admin());
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    answer.status.unwrap().allowed
}

/// Asks about granted rights and about others; the authorizer learns of a binding by a watch of its own.
async fn check(team: &Team, account: &str, granted: &[Rule], dice: &mut Dice) -> usize {
    let all = questions();
    let (yes, no): (Vec<_>, Vec<_>) = all.iter().partition(|q| q.allowed_by(granted));
    for i in 0..EACH.min(yes.len()) {
        let question = yes[if i == 0 { 0 } else { dice.below(yes.len()) }];
        eventually("a granted right is allowed", async || {
            allowed(team, account, question).await.then_some(())
        })
        .await;
    }
    for _ in 0..EACH {
        let question = no[dice.below(no.len())];
        assert!(
            !allowed(team, account, question).await,
            "{account} was not granted {question:?}"
        );
    }
    EACH + EACH.min(yes.len())
}

#[tokio::test]
async fn what_the_authorizer_allows_is_what_was_granted() {
    let team = team().await;
    let mut dice = Dice::of_case(1);
    let objects: Vec<WorkloadAccess> = (0..SAMPLE)
        .map(|i| requests::request(&mut dice, &team.namespace, &name(i)))
        .map(|object| serde_json::from_value(object).unwrap())
        .collect();
    let api = team.requests(User::Alice);
    let granted = stream::iter(objects)
        .map(async |object| {
            let made = api.create(&PostParams::default(), &object).await;
            made.ok().and_then(|made| made.metadata.name)
        })
        .buffered(8)
        .filter_map(async |name| name)
        .collect::<Vec<String>>()
        .await;
    let roles: Api<Role> = Api::namespaced(team.stint.cluster().admin(), &team.namespace);
    let (mut asked, mut bound) = (0, Vec::new());
    for name in granted {
        let status = team.becomes(&name, "Active").await.status.unwrap();
        let role = roles.get(&status.role_binding.unwrap().name).await.unwrap();
        let rules = parsed(&serde_json::to_value(role.rules).unwrap());
        asked += check(&team, &name, &rules, &mut dice).await;
        bound.push(name);
    }
    for i in (0..SAMPLE).filter(|i| !bound.contains(&name(*i))) {
        asked += check(&team, &name(i), &[], &mut dice).await;
    }
    eprintln!("{} of {SAMPLE} granted, {asked} questions", bound.len());
    assert!(bound.len() > SAMPLE / 10, "{} granted", bound.len());
}
