//! Asks the API server's authorizer what somebody may do with a policy.

use crate::api::names::GROUP;
use crate::cluster::{ApiError, call};
use crate::domain::receipt::Requester;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
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
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = call(reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer
        .status
        .is_some_and(|s| s.allowed && s.denied != Some(true)))
}
