//! Adapters read devices and write to them; each is one section of the configuration.
//!
//! An adapter sees one narrow [`AdapterHandle`] and nothing else of the gateway: it publishes messages, takes
//! [`Command`]s, reports the [`Health`] of its devices, and learns when to stop. One task owns one bus.

pub mod command;
pub mod handle;
pub mod http;
pub mod line;
pub mod modbus;
#[cfg(test)]
mod patience;
pub mod point;
pub mod published;
pub mod registry;
pub mod serial;
pub mod source;
pub mod topics;

use std::future::Future;
use std::pin::Pin;

pub use command::{Command, CommandTopic, Outcome};
pub use handle::{AdapterHandle, Health, Publish};
pub use published::{Pace, Published};

/// One bus, port or source with its devices, ready to run.
pub trait Adapter: Send + 'static {
    /// Name of the bus or source, for logs.
    fn name(&self) -> &str;

    /// The devices that it reads; each has a retained `status`, `offline` until its first good answer.
    fn devices(&self) -> Vec<String>;

    /// The topics on which it takes commands.
    fn command_topics(&self) -> Vec<CommandTopic>;

    /// What it will publish of its devices' values.
    fn published(&self) -> Vec<Published>;

    /// Runs until [`AdapterHandle::cancelled`]. It deals with every fault of its devices itself and never gives up.
    fn run(self: Box<Self>, handle: AdapterHandle) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
