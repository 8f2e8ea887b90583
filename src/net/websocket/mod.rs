//! MQTT over WebSocket, both sides: the upgrade from HTTP, and a byte stream in binary frames.
//!
//! What a frame holds is a piece of the stream: packets may span frames, and frames hold several packets
//! [MQTT-6.0.0-2]. So no message is ever put together, and an open connection holds a header at most.

mod ask;
mod frame;
mod stream;
mod upgrade;

#[cfg(test)]
mod tests;

pub use ask::{AskError, ask};
pub use stream::WebSocket;
pub use upgrade::{UpgradeError, Upgraded, accept};
