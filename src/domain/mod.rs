//! Decisions. Pure: no Kubernetes client, no runtime, no clock, no environment, no logging.

pub mod admit;
pub mod binding;
pub mod catalogue;
pub mod condition;
pub mod covers;
pub mod desired;
mod explain;
pub mod facts;
pub mod grant;
pub mod hygiene;
pub mod judge;
pub mod lifetime;
pub mod patterns;
pub mod plan;
pub mod policy;
pub mod receipt;
pub mod request;
pub mod retry;
mod rights;
pub mod rules;
pub mod served;
mod source;
pub mod status;
pub mod verification;
pub mod violation;
pub mod window;
