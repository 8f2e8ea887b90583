//! Modbus TCP and RTU: settings, planned reads, frames of our own, and one task per bus.

pub mod frame;
pub mod plan;
pub mod settings;
pub mod wire;
pub mod words;
