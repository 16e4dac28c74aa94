//! What the operator shows to those who run it: health, metrics and logs.

pub mod admin;
pub mod metrics;
pub mod readiness;
pub mod telemetry;
