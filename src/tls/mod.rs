//! The webhook's certificates: made, renewed, served.

pub mod issue;
pub mod resolver;
pub mod rotate;
