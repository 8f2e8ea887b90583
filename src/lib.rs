//! Edgeway, an MQTT gateway for the edge. ARCHITECTURE.md draws the house.

pub mod bridge;
pub mod broker;
pub mod cli;
pub mod config;
pub mod mqtt;
pub mod settings;
