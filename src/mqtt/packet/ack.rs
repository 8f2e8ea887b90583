//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).

use super::area::{self, Properties};
use super::{kind, reason_among};
use crate::mqtt::PacketId;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::{UserProperties, id};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::wire::{self, Reader};

/// The shape that PUBACK, PUBREC, PUBREL and PUBCOMP share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ack<'a> {
    /// Identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// `Success` in 3.1.1.
    pub reason: ReasonCode,
    /// For people; none in 3.1.1.
    pub reason_string: Option<&'a str>,
    /// None in 3.1.1.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement with a reason and nothing else.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }

    pub(super) fn decode(kind: u8, body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let mut decoded = Self::new(reader.packet_id()?, ReasonCode::Success);
        if version == Version::V3 || reader.is_empty() {
            reader.finish()?;
            return Ok(decoded);
        }
        decoded.reason = reason_among(reader.u8()?, |reason| may_have(kind, reason))?;
        // Less than four bytes have no property length (sections 3.4.2.2.1 and its like).
        if reader.is_empty() {
            return Ok(decoded);
        }
        let mut properties = Properties::split_off(&mut reader)?;
        while let Some(property) = properties.next()? {
            match property {
                id::REASON_STRING => decoded.reason_string = Some(properties.string()?),
                other => return properties.not_allowed(other),
            }
        }
        decoded.user_properties = properties.user_properties();
        reader.finish()?;
        Ok(decoded)
    }

    /// Appends the packet of type `kind`, in the shortest form that says all.
    pub(super) fn encode(&self, kind: u8, version: Version, into: &mut Vec<u8>) {
        // PUBREL has the flags 0b0010 [MQTT-3.6.1-1].
        let first = kind << 4 | if kind == kind::PUBREL { 2 } else { 0 };
        let properties = self.reason_string.map_or(0, |text| 3 + text.floor_char_boundary(usize::from(u16::MAX)))
            + self.user_properties.len();
        if version == Version::V3 || (properties == 0 && self.reason == ReasonCode::Success) {
            into.extend_from_slice(&[first, 2]);
            into.extend_from_slice(&self.packet_id.get().to_be_bytes());
            return;
        }
        into.push(first);
        if properties == 0 {
            into.push(3);
        } else {
            wire::put_variable(into, 3 + wire::variable_length(properties) + properties);
        }
        into.extend_from_slice(&self.packet_id.get().to_be_bytes());
        into.push(self.reason as u8);
        if properties > 0 {
            wire::put_variable(into, properties);
            area::put_string(into, id::REASON_STRING, self.reason_string);
            self.user_properties.write(into);
        }
    }
}

/// Reason codes of each acknowledgement (tables 3-4 to 3-7).
const fn may_have(kind: u8, reason: ReasonCode) -> bool {
    match kind {
        kind::PUBACK | kind::PUBREC => matches!(
            reason,
            ReasonCode::Success
                | ReasonCode::NoMatchingSubscribers
                | ReasonCode::UnspecifiedError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::NotAuthorized
                | ReasonCode::TopicNameInvalid
                | ReasonCode::PacketIdentifierInUse
                | ReasonCode::QuotaExceeded
                | ReasonCode::PayloadFormatInvalid
        ),
        _ => matches!(reason, ReasonCode::Success | ReasonCode::PacketIdentifierNotFound),
    }
}
