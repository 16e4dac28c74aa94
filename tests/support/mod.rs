//! What the test binaries share.

// Each test binary compiles this module for itself and uses only a part of it.
#![allow(dead_code)]

pub mod audit;
pub mod browser;
pub mod case;
pub mod cluster;
pub mod command;
pub mod conformance;
pub mod decision;
pub mod dice;
pub mod edit;
pub mod fake_api;
pub mod guard;
pub mod operator;
pub mod outside;
pub mod plugin;
pub mod replicas;
pub mod requests;
pub mod review;
pub mod service;
pub mod team;
pub mod world;
