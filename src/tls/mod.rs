//! The webhook's certificates: made by the operator, kept in one Secret, rotated without a dropped request.

pub mod bundle;
pub mod issue;
pub mod resolver;
pub mod rotate;
