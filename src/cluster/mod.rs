//! Talks to the API server and decides nothing: reads in `stores` and `facts`, writes in `apply` and `status`.

pub mod access_index;
pub mod apply;
pub mod approval_index;
mod approvals;
pub mod authz;
pub mod bindings;
pub mod catch_up;
pub mod certificate;
pub mod check;
pub mod client;
pub mod definitions;
pub mod discovery;
pub mod events;
pub mod facts;
pub mod fence;
pub mod guard_reports;
pub mod key_ring;
pub mod keys;
pub mod lease;
mod made;
pub mod own_watches;
mod rbac_watches;
mod reference_watches;
mod references;
pub mod registered;
pub mod standing;
pub mod status;
pub mod stores;
pub mod watches;
pub mod webhook_configurations;
mod wide;

use std::time::Duration;

/// Longest wait for one answer of the API server. Admission gives us 5 s for everything.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server answered with an error, or the connection failed.
    #[error("{0}")]
    Kube(#[from] Box<kube::Error>),
    /// No answer in time.
    #[error("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    /// The answer lacks what every object has.
    #[error("the API server's answer has no {0}")]
    Incomplete(&'static str),
}

impl ApiError {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The API server knows the resource, and has no object of this name: a 404 about anything else says nothing about it.
    fn says_not_found(&self, name: &str) -> bool {
        let Self::Kube(error) = self else {
            return false;
        };
        let kube::Error::Api(status) = error.as_ref() else {
            return false;
        };
        let about = status.details.as_ref().map(|details| details.name.as_str());
        status.code == 404 && about == Some(name)
    }

    /// A precondition failed or the object exists already.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The API server understood and refused (RBAC, escalation check, quota, admission): asking again as fast as
    /// possible would not help.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code(), Some(400 | 403 | 422))
    }

    /// One bounded word for events, metrics and logs.
    pub fn category(&self) -> &'static str {
        match (self, self.code()) {
            (Self::Timeout, _) => "Timeout",
            (Self::Incomplete(_), _) => "Incomplete",
            (_, Some(403)) => "Forbidden",
            (_, Some(404)) => "NotFound",
            (_, Some(409)) => "Conflict",
            (_, Some(400 | 422)) => "Invalid",
            (_, Some(429)) => "TooManyRequests",
            (_, Some(_)) => "ServerError",
            (_, None) => "Connection",
        }
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// One call with a bound on its time: a hanging call must not hold an object's slot for ever.
async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::Timeout),
    }
}
