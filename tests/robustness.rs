//! What comes from outside, however wrong, harms nobody: the bodies of the fuzz targets as property tests, recorded inputs,
//! and arbitrary packet sequences against a running broker.
#![allow(clippy::unwrap_used, reason = "all of this binary is tests")]

#[path = "robustness/corpus.rs"]
mod corpus;
mod fuzz_bodies;
#[path = "robustness/properties.rs"]
mod properties;
#[path = "robustness/broker.rs"]
mod running_broker;
#[path = "robustness/wire.rs"]
mod wire;
