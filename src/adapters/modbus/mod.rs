//! Modbus TCP and RTU: one task per bus reads what is due, writes what is commanded, and knows which units answer.
//!
//! ```text
//! settings (words) -> build -> layout (plan) -> bus <-> wire (frame) <-> units
//!                                               command
//! ```
//!
//! * [`settings`] and [`words`] are the section of the configuration, `build` checks it and makes a [`Bus`] of it.
//! * [`layout`] is what a bus reads and writes; [`plan`] which addresses go into one request.
//! * [`frame`] is the protocol without I/O and owns resynchronisation; [`wire`] carries one request at a time.

mod build;
mod bus;
mod command;
pub mod frame;
pub mod layout;
pub mod plan;
pub mod settings;
pub mod wire;
pub mod words;

#[cfg(test)]
mod tests;

pub use bus::{Bus, Pace};
pub use settings::Settings;
pub use wire::{StreamWire, Wire, WireError};
