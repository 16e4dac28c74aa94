//! Stint gives a Kubernetes ServiceAccount exactly the rights one piece of work needs, for exactly as long as the work
//! lasts.
//!
//! The arrow points at what is used, never the other way: `api` ← `domain` ← `cluster`, `webhook`, `controller`, `tls`,
//! `ops` ← `app` ← `main`. `tests/architecture.rs` enforces it.

pub mod api;
pub mod app;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod domain;
pub mod ops;
pub mod tls;
pub mod webhook;
