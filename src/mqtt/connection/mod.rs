//! A connection: its two halves live apart, because two owners use them.
//!
//! The [`Receiver`] belongs to the task that reads: framing, handshake, inbound topic aliases. The [`Sender`] stands
//! behind the session's lock, where whoever delivers a message encodes it: version, the peer's limits, outbound aliases.

mod receiver;
mod sender;

pub use receiver::{Received, Receiver};
pub use sender::{Sender, TooLarge};
