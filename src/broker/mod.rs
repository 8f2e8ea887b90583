//! The broker.

pub mod settings;
