//! What the tests, the benches and the demo share. A package of its own, so that it is compiled once and not by each program of
//! tests.

// What `new` makes here has a place on the disk or a clock; nothing would be gained by a second name for it.
#![allow(clippy::new_without_default)]

use std::path::Path;

pub mod audit;
pub mod browser;
pub mod case;
pub mod chart;
pub mod cluster;
pub mod command;
pub mod conformance;
pub mod decision;
pub mod dice;
pub mod edit;
pub mod examples;
pub mod fake_api;
pub mod guard;
pub mod health;
pub mod installation;
pub mod json_schema;
pub mod naive_catalogue;
pub mod naive_covers;
pub mod operator;
pub mod outside;
pub mod page;
pub mod plugin;
pub mod registered;
pub mod replicas;
pub mod requests;
pub mod review;
pub mod service;
pub mod team;
pub mod told;
pub mod values;
pub mod webhook;
pub mod wide;
pub mod world;

/// The folder of the project.
pub fn project() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("this package is two folders below the project")
}
