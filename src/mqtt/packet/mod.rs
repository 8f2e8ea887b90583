//! One type per packet, borrowed from the read buffer; 3.1.1 is 5.0 without properties (section 3).

mod ack;
mod area;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod suback;
mod subscribe;
mod unsubscribe;

pub use ack::Ack;
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use publish::{Publish, PublishHeader, PublishProperties};
pub use suback::SubAck;
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilters, SubscriptionOptions};
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters};

use super::codec::{CodecError, Frame, Version, mistake};
use super::reason::ReasonCode;
use super::wire;

/// Packet types, the upper four bits of the first byte (table 2-1).
pub mod kind {
    pub const CONNECT: u8 = 1;
    pub const CONNACK: u8 = 2;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREC: u8 = 5;
    pub const PUBREL: u8 = 6;
    pub const PUBCOMP: u8 = 7;
    pub const SUBSCRIBE: u8 = 8;
    pub const SUBACK: u8 = 9;
    pub const UNSUBSCRIBE: u8 = 10;
    pub const UNSUBACK: u8 = 11;
    pub const PINGREQ: u8 = 12;
    pub const PINGRESP: u8 = 13;
    pub const DISCONNECT: u8 = 14;
    pub const AUTH: u8 = 15;
}

/// Any packet.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(SubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes a whole packet. Nothing is allocated; what is borrowed has been validated.
    ///
    /// A CONNECT says its own version, so `version` does not matter for it.
    ///
    /// # Errors
    /// What the packet violates, with the reason code that answers it.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, CodecError> {
        let flags = frame.first & 0x0F;
        let kind = frame.first >> 4;
        match kind {
            kind::PUBLISH => return Publish::decode(flags, frame.body, version).map(Self::Publish),
            // Whether these are reserved, its version says.
            kind::CONNECT => return Connect::decode(flags, frame.body).map(Self::Connect),
            _ => {}
        }
        // Reserved flags [MQTT-2.1.3-1].
        let expected = if matches!(kind, kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE) { 2 } else { 0 };
        if flags != expected {
            return Err(mistake::HEADER_FLAGS);
        }
        let body = frame.body;
        match kind {
            kind::CONNACK => ConnAck::decode(body, version).map(Self::ConnAck),
            kind::PUBACK => Ack::decode(kind, body, version).map(Self::PubAck),
            kind::PUBREC => Ack::decode(kind, body, version).map(Self::PubRec),
            kind::PUBREL => Ack::decode(kind, body, version).map(Self::PubRel),
            kind::PUBCOMP => Ack::decode(kind, body, version).map(Self::PubComp),
            kind::SUBSCRIBE => Subscribe::decode(body, version).map(Self::Subscribe),
            kind::SUBACK => SubAck::decode(kind, body, version).map(Self::SubAck),
            kind::UNSUBSCRIBE => Unsubscribe::decode(body, version).map(Self::Unsubscribe),
            kind::UNSUBACK => SubAck::decode(kind, body, version).map(Self::UnsubAck),
            kind::PINGREQ | kind::PINGRESP if !body.is_empty() => Err(mistake::PING_BODY),
            kind::PINGREQ => Ok(Self::PingReq),
            kind::PINGRESP => Ok(Self::PingResp),
            kind::DISCONNECT => Disconnect::decode(body, version).map(Self::Disconnect),
            kind::AUTH => Auth::decode(body, version).map(Self::Auth),
            _ => Err(CodecError::malformed("packet type 0 is reserved")),
        }
    }

    /// Appends the packet in wire form.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        match self {
            Self::Connect(packet) => packet.encode(into),
            Self::ConnAck(packet) => packet.encode(version, into),
            Self::Publish(packet) => packet.encode(version, into),
            Self::PubAck(packet) => packet.encode(kind::PUBACK, version, into),
            Self::PubRec(packet) => packet.encode(kind::PUBREC, version, into),
            Self::PubRel(packet) => packet.encode(kind::PUBREL, version, into),
            Self::PubComp(packet) => packet.encode(kind::PUBCOMP, version, into),
            Self::Subscribe(packet) => packet.encode(version, into),
            Self::SubAck(packet) => packet.encode(kind::SUBACK, version, into),
            Self::Unsubscribe(packet) => packet.encode(version, into),
            Self::UnsubAck(packet) => packet.encode(kind::UNSUBACK, version, into),
            Self::PingReq => into.extend_from_slice(&[kind::PINGREQ << 4, 0]),
            Self::PingResp => into.extend_from_slice(&[kind::PINGRESP << 4, 0]),
            Self::Disconnect(packet) => packet.encode(version, into),
            Self::Auth(packet) => packet.encode(into),
        }
    }

    /// The standard's name of the packet.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck(_) => "PUBACK",
            Self::PubRec(_) => "PUBREC",
            Self::PubRel(_) => "PUBREL",
            Self::PubComp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::SubAck(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::UnsubAck(_) => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}

/// Appends a packet whose body `write` appends.
///
/// For the packets of handshakes and subscriptions; PUBLISH and acknowledgements know their length beforehand.
fn encode_with(first: u8, into: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    into.push(first);
    wire::put_sized(into, write);
}

/// The reason code `value` of a packet that may have those that `allowed` says (section 2.4).
fn reason_among(value: u8, allowed: impl FnOnce(ReasonCode) -> bool) -> Result<ReasonCode, CodecError> {
    match ReasonCode::from_wire(value) {
        Some(reason) if allowed(reason) => Ok(reason),
        _ => Err(CodecError::protocol("a reason code that this packet does not have")),
    }
}
