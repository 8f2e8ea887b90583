//! Framing: where a packet begins and ends in a stream of bytes (MQTT 5.0, section 2.1).

use super::reason::ReasonCode;
use super::wire::{self, Variable};

/// The version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4: packets have no properties and acknowledgements no reason.
    V3,
    /// MQTT 5.0, protocol level 5.
    #[default]
    V5,
}

/// Why bytes are no packet that may stand there, and the reason code that answers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct CodecError {
    /// What a DISCONNECT or CONNACK says to the peer.
    pub reason: ReasonCode,
    /// What is wrong, for the log.
    pub what: &'static str,
}

impl CodecError {
    /// An error that is answered by `reason`.
    pub const fn new(reason: ReasonCode, what: &'static str) -> Self {
        Self { reason, what }
    }

    /// Bytes that cannot be parsed (0x81).
    pub const fn malformed(what: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, what)
    }

    /// A packet that can be parsed and may not be sent (0x82).
    pub const fn protocol(what: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, what)
    }
}

/// One packet in the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type in the upper four bits, flags in the lower four.
    pub first: u8,
    /// Variable header and payload.
    pub body: &'a [u8],
}

/// What stands at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing<'a> {
    /// A whole packet, and the bytes it took.
    Complete(Frame<'a>, usize),
    /// A part of a packet. `needed` is its whole length in bytes, once that is known.
    Incomplete {
        /// Bytes of the whole packet, fixed header included.
        needed: Option<usize>,
    },
}

/// Finds the packet at the start of `input`.
///
/// # Errors
/// 0x81 where the remaining length is malformed, 0x95 where the packet has more than `max_packet_bytes`
/// (fixed header included). Both before anything is allocated for it.
pub fn split_frame(input: &[u8], max_packet_bytes: usize) -> Result<Framing<'_>, CodecError> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(Framing::Incomplete { needed: None });
    };
    let (remaining, used) = match wire::split_variable(rest) {
        Variable::Value(value, used) => (value as usize, used),
        Variable::Incomplete => return Ok(Framing::Incomplete { needed: None }),
        Variable::Malformed => return Err(CodecError::malformed("the remaining length is malformed")),
    };
    let whole = 1 + used + remaining;
    if whole > max_packet_bytes {
        return Err(CodecError::new(ReasonCode::PacketTooLarge, "the packet is larger than the maximum packet size"));
    }
    match input.get(1 + used..whole) {
        Some(body) => Ok(Framing::Complete(Frame { first, body }, whole)),
        None => Ok(Framing::Incomplete { needed: Some(whole) }),
    }
}
