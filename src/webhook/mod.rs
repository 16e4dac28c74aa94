//! Admission: `server` is the transport, `review` the envelope, and one file per kind the answer.

pub mod review;
pub mod server;
pub mod workload_access;
