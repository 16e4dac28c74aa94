//! Admission of `AccessPolicy`: what cannot be used is refused when it is written, and what is careless is said.
//!
//! The webhook is registered with `failurePolicy: Ignore`: the kill switch must work while Stint is down, and a policy that
//! cannot be used admits nothing however it came to be stored.

use crate::api::AccessPolicy;
use crate::domain::policy::Policy;
use crate::webhook::admission::{Admission, Answer, decode};
use crate::webhook::review::{Object, Operation, Review};

impl Admission {
    pub(super) fn validate_policy(&self, review: &Review) -> Answer {
        if !matches!(review.operation, Operation::Create | Operation::Update) {
            return Answer::Allow;
        }
        let unchanged = |field: &str| {
            let of = |object: &Object| object.field(field);
            of(&review.object) == of(&review.old_object)
        };
        // Labels and finalizers of a policy that would be refused today must stay changeable.
        if review.operation == Operation::Update && unchanged("spec") {
            return Answer::Allow;
        }
        let object: AccessPolicy = match decode(&review.object) {
            Ok(object) => object,
            Err(violations) => return Answer::Deny(violations),
        };
        // To suspend is never refused.
        if object.spec.suspended == Some(true) {
            return Answer::Allow;
        }
        match Policy::compile(&object) {
            Ok(policy) => {
                let mut warnings = policy.warnings();
                warnings.extend(self.facts.policy_warnings(&policy));
                Answer::Warn(warnings)
            }
            Err(violations) => Answer::Deny(violations),
        }
    }
}
