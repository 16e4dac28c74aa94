//! Decisions. Pure: no Kubernetes client, no runtime, no clock, no environment, no logging.

pub mod catalogue;
pub mod covers;
pub mod desired;
pub mod facts;
pub mod grant;
mod hygiene;
pub mod judge;
pub mod plan;
pub mod policy;
pub mod receipt;
pub mod retry;
mod rights;
pub mod rules;
pub mod status;
pub mod violation;
pub mod window;
