//! The admission webhook: how reviews arrive ([`server`]), what they look like
//! ([`review`]), and one file per kind for the answer.

pub mod access_approval;
pub mod access_policy;
pub mod admission;
mod answer;
pub mod rbac;
pub mod review;
pub mod server;
mod update;
pub mod workload_access;
