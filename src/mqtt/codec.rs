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

/// Mistakes that are told from others of their reason: what answers them depends on more than that.
pub mod mistake {
    use super::{CodecError, ReasonCode};

    /// The remaining length of the fixed header.
    pub const LENGTH: CodecError = CodecError::malformed("the remaining length is malformed");
    /// Flags of the fixed header that have one value only.
    pub const HEADER_FLAGS: CodecError = CodecError::malformed("reserved flags of the fixed header [MQTT-2.1.3-1]");
    /// A property of the standard that the packet does not have.
    pub const MISPLACED_PROPERTY: CodecError = CodecError::malformed("a property that this packet does not have");
    /// A property that may stand once only.
    pub const REPEATED_PROPERTY: CodecError = CodecError::protocol("a property stands twice");
    /// A CONNECT of another protocol.
    pub const PROTOCOL_NAME: CodecError =
        CodecError::new(ReasonCode::UnsupportedProtocolVersion, "the protocol name is not MQTT");
    /// The client identifier of a CONNECT is no string.
    pub const CLIENT_ID: CodecError = CodecError::malformed("the client identifier is no string [MQTT-3.1.3-4]");
    /// User name or password of a CONNECT are cut, or no string.
    pub const CREDENTIALS: CodecError = CodecError::malformed("user name or password cannot be read");
    /// A DISCONNECT that gives a reason which it does not have.
    pub const DISCONNECT_REASON: CodecError = CodecError::protocol("a reason code that DISCONNECT does not have");
    /// A PINGREQ or PINGRESP with a body.
    pub const PING_BODY: CodecError = CodecError::malformed("PINGREQ and PINGRESP have no body");
    /// A PUBLISH without topic name and alias.
    pub const NO_TOPIC: CodecError = CodecError::protocol("an empty topic name without a topic alias");
    /// A topic name with a wildcard.
    pub const WILDCARD_IN_TOPIC: CodecError =
        CodecError::new(ReasonCode::TopicNameInvalid, "a topic name has a wildcard [MQTT-3.3.2-2]");
    /// A response topic that is no topic name.
    pub const RESPONSE_TOPIC: CodecError =
        CodecError::new(ReasonCode::TopicNameInvalid, "the response topic is no topic name [MQTT-3.3.2-14]");
    /// `$share/` with a wildcard in the share name, or without a filter [MQTT-4.8.2-1, MQTT-4.8.2-2].
    pub const SHARE: CodecError = CodecError::protocol("a shared subscription without share name or filter");
    /// No local on a shared subscription.
    pub const SHARE_NO_LOCAL: CodecError = CodecError::protocol("no local on a shared subscription [MQTT-3.8.3-4]");
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
        Variable::Malformed => return Err(mistake::LENGTH),
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
