//! Decisions. Pure: no Kubernetes client, no runtime, no clock, no environment, no logging.

pub mod violation;
