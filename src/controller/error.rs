//! What can go wrong in one pass, each with one bounded word.

use crate::cluster::ApiError;

/// A failed pass. The pass is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A read, before anything was decided.
    #[error("could not learn the facts: {0}")]
    Facts(#[source] ApiError),
    /// A write of a Job, Role or RoleBinding.
    #[error("could not apply: {0}")]
    Apply(#[source] ApiError),
    /// A write of the status.
    #[error("could not write the status: {0}")]
    Status(#[source] ApiError),
}

impl Error {
    /// One bounded word for events, metrics and logs.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Facts(error) | Self::Apply(error) | Self::Status(error) => error.category(),
        }
    }
}
