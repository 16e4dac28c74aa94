//! What accounts really did, by the API server's audit log, and the smallest rules that cover it.
//!
//! Pure: `event` reads one line, `request` says what of it counts, `tally` adds it up in bounded memory and in any order, from `uses` of each right, `period` says which time that is,
//! `origin` of which cluster it is, `proposal` makes rules of the sum, `granted` holds it against what a binding gives.

pub mod event;
pub mod granted;
pub mod origin;
pub mod period;
pub mod proposal;
pub mod request;
pub mod tally;
pub mod uses;
