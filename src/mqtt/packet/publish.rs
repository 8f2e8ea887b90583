//! PUBLISH (section 3.3).

use super::area::Properties;
use super::kind;
use crate::mqtt::codec::{CodecError, Version, mistake};
use crate::mqtt::properties::{Forwardable, id};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{PacketId, QoS, topic};

/// A PUBLISH, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Publish<'a> {
    /// Whether this may be a repetition; only with QoS 1 and 2 [MQTT-3.3.1-2].
    pub dup: bool,
    /// QoS of this hop.
    pub qos: QoS,
    /// Whether the message is retained (to a server) or was retained (to a client).
    pub retain: bool,
    /// Topic name; empty where only a topic alias stands for it.
    pub topic: &'a str,
    /// There with QoS 1 and 2, and only then [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// Properties; none in 3.1.1.
    pub properties: PublishProperties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

/// The properties of a PUBLISH (section 3.3.2.3).
#[derive(Debug, Clone, Copy, Default)]
pub struct PublishProperties<'a> {
    /// Seconds for which the message is of use; `None` is for ever.
    pub message_expiry_interval: Option<u32>,
    /// Stands for the topic, from 1 up.
    pub topic_alias: Option<u16>,
    /// What goes on to every receiver.
    pub forwardable: Forwardable<'a>,
    /// The whole area, where subscription identifiers are read from.
    identifiers: &'a [u8],
}

impl<'a> PublishProperties<'a> {
    /// Properties that are sent: subscription identifiers are given to [`PublishHeader`] instead.
    pub const fn new(
        message_expiry_interval: Option<u32>,
        topic_alias: Option<u16>,
        forwardable: Forwardable<'a>,
    ) -> Self {
        Self { message_expiry_interval, topic_alias, forwardable, identifiers: &[] }
    }

    /// Identifiers of the subscriptions that the message matched, in their order (server to client only).
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        wire::properties(self.identifiers).filter(|p| p.id == id::SUBSCRIPTION_IDENTIFIER).filter_map(|p| {
            match wire::split_variable(p.value()) {
                wire::Variable::Value(value, _) => Some(value),
                wire::Variable::Incomplete | wire::Variable::Malformed => None,
            }
        })
    }
}

impl PartialEq for PublishProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.message_expiry_interval == other.message_expiry_interval
            && self.topic_alias == other.topic_alias
            && self.forwardable == other.forwardable
            && self.subscription_identifiers().eq(other.subscription_identifiers())
    }
}

impl<'a> Publish<'a> {
    /// Decodes the body of a PUBLISH whose fixed header had `flags`.
    pub(super) fn decode(flags: u8, body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let dup = flags & 0x08 != 0;
        let retain = flags & 0x01 != 0;
        let qos = QoS::from_wire((flags >> 1) & 0x03).ok_or(CodecError::malformed("QoS 3 [MQTT-3.3.1-4]"))?;
        if dup && qos == QoS::AtMostOnce {
            return Err(CodecError::malformed("DUP with QoS 0 [MQTT-3.3.1-2]"));
        }
        let mut reader = Reader::new(body);
        let topic = reader.utf8()?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = match version {
            Version::V3 => PublishProperties::default(),
            Version::V5 => decode_properties(&mut reader)?,
        };
        if topic.is_empty() {
            if properties.topic_alias.is_none() {
                return Err(match version {
                    Version::V3 => CodecError::new(ReasonCode::TopicNameInvalid, "an empty topic name [MQTT-4.7.3-1]"),
                    Version::V5 => mistake::NO_TOPIC,
                });
            }
        } else {
            validate_topic(topic)?;
        }
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: reader.take_rest() })
    }

    /// Appends the packet; the subscription identifiers that were decoded with it are not written.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        let header = PublishHeader {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            packet_id: self.packet_id,
            topic: self.topic,
            topic_alias: self.properties.topic_alias,
            message_expiry_interval: self.properties.message_expiry_interval,
            subscription_identifiers: &[],
            user_properties: &[],
        };
        header.encode(version, self.properties.forwardable, self.payload, into);
    }
}

/// What is written per receiver of a PUBLISH.
#[derive(Debug, Clone, Copy)]
pub struct PublishHeader<'a> {
    /// See [`Publish::dup`].
    pub dup: bool,
    /// QoS of this hop.
    pub qos: QoS,
    /// See [`Publish::retain`].
    pub retain: bool,
    /// There with QoS 1 and 2, and only then.
    pub packet_id: Option<PacketId>,
    /// Topic name, empty where the alias stands for it.
    pub topic: &'a str,
    /// From 1 up to the peer's maximum.
    pub topic_alias: Option<u16>,
    /// Seconds that remain.
    pub message_expiry_interval: Option<u32>,
    /// Identifiers of the receiver's subscriptions, 1 to 268,435,455.
    pub subscription_identifiers: &'a [u32],
    /// User properties of this hop, names and values of at most 65,535 bytes each, written behind those of the message.
    pub user_properties: &'a [(&'a str, &'a str)],
}

impl PublishHeader<'_> {
    /// Bytes of the whole packet, fixed header included.
    pub fn packet_length(&self, version: Version, forwardable: Forwardable<'_>, payload: &[u8]) -> usize {
        let remaining = self.remaining_length(version, forwardable, payload);
        1 + wire::variable_length(remaining) + remaining
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, forwardable: Forwardable<'_>, payload: &[u8], into: &mut Vec<u8>) {
        into.reserve(32 + self.topic.len() + forwardable.len() + payload.len());
        self.encode_head(version, forwardable, payload, into);
        into.extend_from_slice(payload);
    }

    /// Appends all of the packet but its payload.
    pub fn encode_head(&self, version: Version, forwardable: Forwardable<'_>, payload: &[u8], into: &mut Vec<u8>) {
        let remaining = self.remaining_length(version, forwardable, payload);
        into.push(kind::PUBLISH << 4 | u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain));
        wire::put_variable(into, remaining);
        wire::put_binary(into, self.topic.as_bytes());
        if let Some(packet_id) = self.packet_id {
            into.extend_from_slice(&packet_id.get().to_be_bytes());
        }
        if version == Version::V5 {
            wire::put_variable(into, self.properties_length(forwardable));
            if let Some(alias) = self.topic_alias {
                into.push(id::TOPIC_ALIAS);
                into.extend_from_slice(&alias.to_be_bytes());
            }
            if let Some(seconds) = self.message_expiry_interval {
                into.push(id::MESSAGE_EXPIRY_INTERVAL);
                into.extend_from_slice(&seconds.to_be_bytes());
            }
            forwardable.write(into);
            for (name, value) in self.user_properties {
                into.push(id::USER_PROPERTY);
                wire::put_string(into, name);
                wire::put_string(into, value);
            }
            for &identifier in self.subscription_identifiers {
                into.push(id::SUBSCRIPTION_IDENTIFIER);
                wire::put_variable(into, identifier as usize);
            }
        }
    }

    fn remaining_length(&self, version: Version, forwardable: Forwardable<'_>, payload: &[u8]) -> usize {
        let properties = match version {
            Version::V3 => 0,
            Version::V5 => {
                let length = self.properties_length(forwardable);
                wire::variable_length(length) + length
            }
        };
        2 + self.topic.len() + if self.packet_id.is_some() { 2 } else { 0 } + properties + payload.len()
    }

    fn properties_length(&self, forwardable: Forwardable<'_>) -> usize {
        let identifiers: usize =
            self.subscription_identifiers.iter().map(|&value| 1 + wire::variable_length(value as usize)).sum();
        let user_properties: usize =
            self.user_properties.iter().map(|(name, value)| 1 + 2 + name.len() + 2 + value.len()).sum();
        forwardable.len()
            + identifiers
            + user_properties
            + if self.topic_alias.is_some() { 3 } else { 0 }
            + if self.message_expiry_interval.is_some() { 5 } else { 0 }
    }
}

fn validate_topic(name: &str) -> Result<(), CodecError> {
    match topic::validate_name(name) {
        Ok(()) => Ok(()),
        Err(topic::TopicError::Nul) => {
            Err(CodecError::malformed("a topic name has the character U+0000 [MQTT-4.7.3-2]"))
        }
        Err(_) => Err(mistake::WILDCARD_IN_TOPIC),
    }
}

fn decode_properties<'a>(reader: &mut Reader<'a>) -> Result<PublishProperties<'a>, CodecError> {
    let properties = Properties::split_off(reader)?;
    if properties.area().is_empty() {
        return Ok(PublishProperties::default());
    }
    let mut decoded = PublishProperties { identifiers: properties.area(), ..PublishProperties::default() };
    decoded.forwardable = properties.read_message(|property, values| {
        match property {
            id::MESSAGE_EXPIRY_INTERVAL => decoded.message_expiry_interval = Some(values.u32()?),
            id::SUBSCRIPTION_IDENTIFIER => {
                values.subscription_identifier()?;
            }
            id::TOPIC_ALIAS => match values.u16()? {
                0 => return Err(CodecError::new(ReasonCode::TopicAliasInvalid, "topic alias 0 [MQTT-3.3.2-8]")),
                alias => decoded.topic_alias = Some(alias),
            },
            other => return values.not_allowed(other),
        }
        Ok(())
    })?;
    Ok(decoded)
}
