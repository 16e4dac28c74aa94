//! The webhook's certificates: made by the operator or given by somebody else, kept in one Secret, exchanged without a dropped
//! request.

pub mod bundle;
pub mod clients;
pub mod given;
pub mod issue;
pub mod resolver;
pub mod rotate;
pub mod trust;
