//! The MQTT protocol, 3.1.1 and 5.0, without I/O: no socket, lock, clock or runtime is known here.
//!
//! ```text
//! bytes -> connection::Receiver -> Packet<'_> -> session::{Inbound, Outbound} -> connection::Sender -> bytes
//! ```
//!
//! * [`topic`] names, filters and matching; [`remap`] a route's `from -> to`.
//! * [`via`] the gateways that a message has passed.
//! * [`message`] what is kept of a PUBLISH once somebody must keep it; [`reading`] what it knows of its value.
//! * [`wire`], [`codec`], [`packet`] one borrowed type per packet, for both versions.
//! * [`connection`] the two halves of a connection; [`session`] what outlives it.

pub mod codec;
pub mod connection;
pub mod frame;
pub mod message;
pub mod packet;
pub mod properties;
pub mod reading;
pub mod reason;
pub mod remap;
pub mod session;
pub mod topic;
pub mod via;
pub mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::num::NonZeroU16;

pub use codec::{CodecError, Frame, Version};
pub use message::{Message, MessageBuilder, Publication};
pub use packet::Packet;
pub use reading::{Form, Quality, Reading, Sampled};
pub use reason::ReasonCode;
pub use remap::Remap;
pub use topic::{TopicError, TopicFilter, TopicName};

/// A packet identifier, 1 to 65,535 [MQTT-2.2.1].
pub type PacketId = NonZeroU16;

/// Quality of service of one hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum QoS {
    /// Delivered at most once, without acknowledgement.
    #[default]
    AtMostOnce = 0,
    /// Delivered at least once, acknowledged by PUBACK.
    AtLeastOnce = 1,
    /// Delivered exactly once, by PUBREC, PUBREL and PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS that `value` stands for on the wire; `None` above 2.
    pub const fn from_wire(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

impl std::fmt::Display for QoS {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// A point in time in milliseconds since an origin that the caller chose, on a clock that never goes back.
///
/// The protocol has no clock of its own: whoever drives it says what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// This time plus `seconds`.
    pub const fn plus_seconds(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds as u64 * 1000))
    }

    /// Milliseconds from `earlier` to this time, 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Which side of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We dialled: we send CONNECT, SUBSCRIBE and PINGREQ.
    Client,
    /// We accepted: we answer them.
    Server,
}
