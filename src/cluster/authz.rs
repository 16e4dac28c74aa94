//! Asks the API server's authorizer what somebody may do with a policy, and whether an account still may what a grant gave it.

use crate::api::names::GROUP;
use crate::cluster::{ApiError, call};
use crate::domain::receipt::Requester;
use crate::domain::verification::{Question, Subject, Target};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, ResourceAttributes, SubjectAccessReview,
    SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};

/// Whether `who` holds the verb, `use` or `approve`, on the AccessPolicy `policy`.
pub async fn may(
    client: &Client,
    who: &Requester,
    verb: &str,
    policy: &str,
) -> Result<bool, ApiError> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(who.username.clone()),
            uid: Some(who.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(who.groups.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.into()),
                resource: Some("accesspolicies".into()),
                name: Some(policy.into()),
                verb: Some(verb.into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    Ok(ask(client, review).await?.is_some())
}

/// Whether an account has this right in a namespace, or in the whole cluster: if so, what the authorizer says gives it.
pub async fn still_may(
    client: &Client,
    subject: &Subject,
    namespace: Option<&str>,
    question: &Question,
) -> Result<Option<String>, ApiError> {
    let review = SubjectAccessReview {
        spec: asking(subject, namespace, question),
        ..SubjectAccessReview::default()
    };
    ask(client, review).await
}

/// The same in a namespace, for who may ask about that one alone.
pub async fn still_may_within(
    client: &Client,
    subject: &Subject,
    namespace: &str,
    question: &Question,
) -> Result<Option<String>, ApiError> {
    let mut review = LocalSubjectAccessReview {
        spec: asking(subject, Some(namespace), question),
        ..LocalSubjectAccessReview::default()
    };
    review.metadata.namespace = Some(namespace.to_owned());
    let reviews: Api<LocalSubjectAccessReview> = Api::namespaced(client.clone(), namespace);
    let answer = call(reviews.create(&PostParams::default(), &review)).await?;
    said(answer.status)
}

fn asking(
    subject: &Subject,
    namespace: Option<&str>,
    question: &Question,
) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(subject.user.clone()),
        uid: Some(subject.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(subject.groups.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    let verb = Some(question.verb.clone());
    let present = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    match &question.on {
        Target::Path(path) => {
            spec.non_resource_attributes = Some(NonResourceAttributes {
                path: Some(path.clone()),
                verb,
            });
        }
        Target::Resource {
            group,
            resource,
            subresource,
            name,
        } => {
            spec.resource_attributes = Some(ResourceAttributes {
                namespace: namespace.map(str::to_owned),
                verb,
                group: Some(group.clone()),
                resource: Some(resource.clone()),
                subresource: present(subresource),
                name: present(name),
                ..ResourceAttributes::default()
            });
        }
    }
    spec
}

/// What allows, in the words of the authorizer, possibly none; `None` when nothing does.
async fn ask(client: &Client, review: SubjectAccessReview) -> Result<Option<String>, ApiError> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = call(reviews.create(&PostParams::default(), &review)).await?;
    said(answer.status)
}

fn said(status: Option<SubjectAccessReviewStatus>) -> Result<Option<String>, ApiError> {
    let status = status.ok_or(ApiError::Incomplete("status"))?;
    let allowed = status.allowed && status.denied != Some(true);
    Ok(allowed.then(|| status.reason.unwrap_or_default()))
}
