//! Edgeway, an MQTT gateway for the edge. ARCHITECTURE.md draws the house.

pub mod config;
pub mod mqtt;
pub mod settings;
