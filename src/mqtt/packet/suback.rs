//! SUBACK and UNSUBACK (sections 3.9 and 3.11).

use super::area::{self, Properties};
use super::{encode_with, kind, reason_among};
use crate::mqtt::PacketId;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::{UserProperties, id};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::wire::{self, Reader};

/// The shape that SUBACK and UNSUBACK share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubAck<'a> {
    /// Identifier of the SUBSCRIBE or UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// For people; none in 3.1.1.
    pub reason_string: Option<&'a str>,
    /// None in 3.1.1.
    pub user_properties: UserProperties<'a>,
    /// One code per filter, in their order. A SUBACK of 3.1.1 knows 0, 1, 2 and 0x80, its UNSUBACK none at all.
    codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    /// An answer with the codes and nothing else; the codes are [`ReasonCode`]s in wire form.
    pub fn new(packet_id: PacketId, codes: &'a [u8]) -> Self {
        Self { packet_id, reason_string: None, user_properties: UserProperties::default(), codes }
    }

    /// One reason per filter, in their order.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        self.codes.iter().map(|&code| ReasonCode::from_wire(code).unwrap_or(ReasonCode::UnspecifiedError))
    }

    pub(super) fn decode(kind: u8, body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let mut decoded = Self::new(reader.packet_id()?, &[]);
        if version == Version::V3 && kind == kind::UNSUBACK {
            reader.finish()?;
            return Ok(decoded);
        }
        if version == Version::V5 {
            let mut properties = Properties::split_off(&mut reader)?;
            while let Some(property) = properties.next()? {
                match property {
                    id::REASON_STRING => decoded.reason_string = Some(properties.string()?),
                    other => return properties.not_allowed(other),
                }
            }
            decoded.user_properties = properties.user_properties();
        }
        decoded.codes = reader.take_rest();
        // One per filter [MQTT-3.8.4-6], and there is at least one filter [MQTT-3.8.3-2].
        if decoded.codes.is_empty() {
            return Err(CodecError::protocol("a SUBACK or UNSUBACK without a reason code"));
        }
        for &code in decoded.codes {
            reason_among(code, |reason| may_have(kind, version, reason))?;
        }
        Ok(decoded)
    }

    /// Appends the packet of type `kind`; for 3.1.1 each error of a SUBACK becomes 0x80.
    pub(super) fn encode(&self, kind: u8, version: Version, into: &mut Vec<u8>) {
        encode_with(kind << 4, into, |into| {
            into.extend_from_slice(&self.packet_id.get().to_be_bytes());
            match version {
                Version::V3 if kind == kind::UNSUBACK => {}
                Version::V3 => into.extend(self.codes.iter().map(|&code| code.min(0x80))),
                Version::V5 => {
                    wire::put_sized(into, |into| {
                        area::put_string(into, id::REASON_STRING, self.reason_string);
                        self.user_properties.write(into);
                    });
                    into.extend_from_slice(self.codes);
                }
            }
        });
    }
}

/// Reason codes of SUBACK (table 3-8; 3.1.1, section 3.9.3) and UNSUBACK (table 3-9).
const fn may_have(kind: u8, version: Version, reason: ReasonCode) -> bool {
    match (kind, version) {
        (kind::SUBACK, Version::V3) => matches!(
            reason,
            ReasonCode::Success | ReasonCode::GrantedQoS1 | ReasonCode::GrantedQoS2 | ReasonCode::UnspecifiedError
        ),
        (kind::SUBACK, Version::V5) => matches!(
            reason,
            ReasonCode::Success
                | ReasonCode::GrantedQoS1
                | ReasonCode::GrantedQoS2
                | ReasonCode::UnspecifiedError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::NotAuthorized
                | ReasonCode::TopicFilterInvalid
                | ReasonCode::PacketIdentifierInUse
                | ReasonCode::QuotaExceeded
                | ReasonCode::SharedSubscriptionsNotSupported
                | ReasonCode::SubscriptionIdentifiersNotSupported
                | ReasonCode::WildcardSubscriptionsNotSupported
        ),
        _ => matches!(
            reason,
            ReasonCode::Success
                | ReasonCode::NoSubscriptionExisted
                | ReasonCode::UnspecifiedError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::NotAuthorized
                | ReasonCode::TopicFilterInvalid
                | ReasonCode::PacketIdentifierInUse
        ),
    }
}
