//! The reading half of a connection: framing, which packet may come when, inbound topic aliases.

use super::answers;
use crate::mqtt::codec::{CodecError, Frame, Framing, split_frame};
use crate::mqtt::packet::{Publish, kind};
use crate::mqtt::{Packet, ReasonCode, Side, Version};

/// First byte of a CONNACK.
const CONNACK: u8 = kind::CONNACK << 4;

/// The reading half of a connection.
#[derive(Debug)]
pub struct Receiver {
    side: Side,
    version: Version,
    stage: Stage,
    max_packet_bytes: usize,
    /// Topic names by alias - 1; its length is what we allow.
    aliases: Vec<Option<Box<str>>>,
    alias_maximum: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Only CONNECT (server), CONNACK or AUTH (client) may come.
    Handshake,
    Open,
    /// DISCONNECT has come; nothing may follow.
    Closed,
}

/// What came.
#[derive(Debug, PartialEq)]
pub enum Received<'a> {
    /// A packet, and the bytes that it took.
    Packet(Packet<'a>, usize),
    /// A part of a packet; `needed` is the length of the whole once that is known.
    Incomplete {
        /// Bytes of the whole packet.
        needed: Option<usize>,
    },
}

impl Receiver {
    /// A connection on which nothing has come yet. `version` is what a client asked for; a server learns it from
    /// CONNECT. Packets of more than `max_packet_bytes` (fixed header included) are refused; topic aliases up to
    /// `alias_maximum` are taken once the peer was told so.
    pub fn new(side: Side, version: Version, max_packet_bytes: usize, alias_maximum: u16) -> Self {
        Self { side, version, stage: Stage::Handshake, max_packet_bytes, aliases: Vec::new(), alias_maximum }
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Takes the packet at the start of `input`. A topic alias has been resolved in what it returns.
    ///
    /// # Errors
    /// What the peer violates, with the reason code for DISCONNECT (CONNACK before the handshake is over).
    /// The connection cannot go on.
    pub fn receive<'a>(&'a mut self, input: &'a [u8]) -> Result<Received<'a>, CodecError> {
        if self.side == Side::Server
            && let Some(&first) = input.first()
        {
            if self.stage == Stage::Handshake && first >> 4 != kind::CONNECT {
                // Whatever else it says: what is no MQTT may never become a whole packet.
                return Err(CodecError::protocol("the first packet is not CONNECT [MQTT-3.1.0-1]"));
            }
            if let Some(error) = answers::to_first_byte(first) {
                return Err(error);
            }
        }
        let (frame, length) = match split_frame(input, self.max_packet_bytes)? {
            Framing::Complete(frame, length) => (frame, length),
            Framing::Incomplete { needed } => return Ok(Received::Incomplete { needed }),
        };
        let mut packet = match Packet::decode(frame, self.version_of(&frame)) {
            Err(error) if self.side == Side::Server => return Err(answers::to_frame(frame, error)),
            decoded => decoded?,
        };
        if self.side == Side::Server {
            answers::check(&packet)?;
        }
        match &mut packet {
            // The one that comes by the million first.
            Packet::Publish(publish) if self.stage == Stage::Open => {
                if self.side == Side::Server && publish.properties.subscription_identifiers().next().is_some() {
                    return Err(CodecError::protocol("a client sends no subscription identifier [MQTT-3.3.4-6]"));
                }
                if publish.properties.topic_alias.is_some() {
                    self.resolve_alias(publish)?;
                }
            }
            other => self.admit(other)?,
        }
        Ok(Received::Packet(packet, length))
    }

    /// A server without 5.0 refuses it by a CONNACK of 3.1.1, which has two bytes; one of 5.0 has three or more.
    fn version_of(&self, frame: &Frame<'_>) -> Version {
        match (self.stage, frame) {
            (Stage::Handshake, Frame { first: CONNACK, body: [_, 1..=u8::MAX] }) => Version::V3,
            _ => self.version,
        }
    }

    /// Whether `packet` may come now.
    fn admit(&mut self, packet: &Packet<'_>) -> Result<(), CodecError> {
        match (self.stage, self.side, packet) {
            (Stage::Closed, _, _) => Err(CodecError::protocol("a packet after DISCONNECT [MQTT-3.14.4-1]")),
            (Stage::Handshake, Side::Server, Packet::Connect(connect)) => {
                self.version = connect.version;
                self.stage = Stage::Open;
                Ok(())
            }
            (Stage::Handshake, Side::Server, _) => {
                Err(CodecError::protocol("the first packet is not CONNECT [MQTT-3.1.0-1]"))
            }
            (Stage::Handshake, Side::Client, Packet::ConnAck(connack)) => {
                self.stage = if connack.reason == ReasonCode::Success { Stage::Open } else { Stage::Closed };
                Ok(())
            }
            (Stage::Handshake, Side::Client, Packet::Auth(_)) => Ok(()),
            (Stage::Handshake, Side::Client, Packet::Disconnect(_)) => {
                self.stage = Stage::Closed;
                Ok(())
            }
            (Stage::Handshake, Side::Client, _) => {
                Err(CodecError::protocol("the first packet is not CONNACK [MQTT-3.2.0-1]"))
            }
            (Stage::Open, Side::Server, Packet::Connect(_)) => {
                Err(CodecError::protocol("a second CONNECT [MQTT-3.1.0-2]"))
            }
            (
                Stage::Open,
                Side::Server,
                Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp,
            ) => Err(CodecError::protocol("a packet that only a server sends")),
            (
                Stage::Open,
                Side::Client,
                Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq,
            ) => Err(CodecError::protocol("a packet that only a client sends")),
            (Stage::Open, Side::Client, Packet::ConnAck(_)) => Err(CodecError::protocol("a second CONNACK")),
            (Stage::Open, Side::Client, Packet::Disconnect(_)) if self.version == Version::V3 => {
                Err(CodecError::protocol("a server sends no DISCONNECT in 3.1.1"))
            }
            (Stage::Open, _, Packet::Disconnect(_)) => {
                self.stage = Stage::Closed;
                Ok(())
            }
            (Stage::Open, _, _) => Ok(()),
        }
    }

    /// Learns or looks up the topic of an alias (section 3.3.2.3.4).
    fn resolve_alias<'a>(&'a mut self, publish: &mut Publish<'a>) -> Result<(), CodecError> {
        let Some(alias) = publish.properties.topic_alias else {
            return Ok(());
        };
        if alias > self.alias_maximum {
            return Err(CodecError::new(
                ReasonCode::TopicAliasInvalid,
                "a topic alias above the topic alias maximum [MQTT-3.3.2-9]",
            ));
        }
        let index = usize::from(alias) - 1;
        if self.aliases.len() <= index {
            self.aliases.resize(index + 1, None);
        }
        let known = &mut self.aliases[index];
        if publish.topic.is_empty() {
            publish.topic =
                known.as_deref().ok_or(CodecError::protocol("a topic alias that no topic was given for"))?;
        } else if known.as_deref() != Some(publish.topic) {
            *known = Some(publish.topic.into());
        }
        Ok(())
    }
}
