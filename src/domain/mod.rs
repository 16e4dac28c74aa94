//! Decisions. Pure: no Kubernetes client, no runtime, no clock, no environment, no logging.

pub mod covers;
mod rights;
pub mod rules;
pub mod violation;
