//! What those who run Stint see: health, metrics, logs. Knows nothing of grants.

pub mod admin;
pub mod metrics;
pub mod readiness;
pub mod telemetry;
