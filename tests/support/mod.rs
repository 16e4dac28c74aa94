//! Shared support of the integration tests.

// Each test file compiles this module for itself and uses a part of it.
#![allow(dead_code)]

pub mod fake_api;
