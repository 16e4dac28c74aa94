//! The admission webhook: how reviews arrive ([`server`]), what they look like
//! ([`review`]), and one file per kind for the answer.

mod answer;
pub mod review;
pub mod server;
pub mod workload_access;
