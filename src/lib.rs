//! Edgeway, an MQTT gateway for the edge. ARCHITECTURE.md draws the house.

pub mod adapters;
pub mod mapping;
pub mod mqtt;
pub mod settings;
