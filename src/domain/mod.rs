//! Decisions. Pure: no Kubernetes client, no runtime, no clock, no environment, no logging.

pub mod catalogue;
pub mod covers;
mod hygiene;
mod rights;
pub mod rules;
pub mod violation;
