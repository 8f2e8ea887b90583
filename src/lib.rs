//! Edgeway, an MQTT gateway for the edge. ARCHITECTURE.md draws the house.

pub mod adapters;
pub mod admin;
pub mod bridge;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod health;
pub mod mapping;
pub mod metrics;
pub mod mqtt;
pub mod net;
pub mod settings;
pub mod store;
pub mod telemetry;
