//! Bridges to other brokers.

pub mod plan;
pub mod settings;

pub use plan::Plan;
