//! Edgeway, an MQTT gateway for the edge. ARCHITECTURE.md draws the house.

pub mod adapters;
pub mod cli;
pub mod client;
pub mod mapping;
pub mod mqtt;
pub mod settings;
pub mod telemetry;
