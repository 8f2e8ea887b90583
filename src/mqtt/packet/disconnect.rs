//! DISCONNECT (section 3.14).

use super::area::{self, Properties};
use super::{encode_with, kind, reason_among};
use crate::mqtt::codec::{CodecError, Version, mistake};
use crate::mqtt::properties::{UserProperties, id};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::wire::{self, Reader};

/// A DISCONNECT, borrowed from the read buffer. In 3.1.1 it has no body and comes from clients only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disconnect<'a> {
    /// Why; `Success` is a normal disconnection.
    pub reason: ReasonCode,
    /// Seconds, where the client changes what it said in CONNECT.
    pub session_expiry_interval: Option<u32>,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT with a reason and nothing else.
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_interval: None,
            reason_string: None,
            server_reference: None,
            user_properties: UserProperties::default(),
        }
    }

    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let mut decoded = Self::new(ReasonCode::Success);
        if version == Version::V3 || reader.is_empty() {
            reader.finish()?;
            return Ok(decoded);
        }
        decoded.reason = reason_among(reader.u8()?, may_have).map_err(|_| mistake::DISCONNECT_REASON)?;
        // Less than two bytes have no property length (section 3.14.2.2.1).
        if reader.is_empty() {
            return Ok(decoded);
        }
        let mut properties = Properties::split_off(&mut reader)?;
        while let Some(property) = properties.next()? {
            match property {
                id::SESSION_EXPIRY_INTERVAL => decoded.session_expiry_interval = Some(properties.u32()?),
                id::REASON_STRING => decoded.reason_string = Some(properties.string()?),
                id::SERVER_REFERENCE => decoded.server_reference = Some(properties.string()?),
                other => return properties.not_allowed(other),
            }
        }
        decoded.user_properties = properties.user_properties();
        reader.finish()?;
        Ok(decoded)
    }

    /// Appends the packet, in the shortest form that says all.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        let bare = self.session_expiry_interval.is_none()
            && self.reason_string.is_none()
            && self.server_reference.is_none()
            && self.user_properties.is_empty();
        encode_with(kind::DISCONNECT << 4, into, |into| {
            if version == Version::V3 || (bare && self.reason == ReasonCode::Success) {
                return;
            }
            into.push(self.reason as u8);
            if bare {
                return;
            }
            wire::put_sized(into, |into| {
                area::put_u32(into, id::SESSION_EXPIRY_INTERVAL, self.session_expiry_interval);
                area::put_string(into, id::REASON_STRING, self.reason_string);
                area::put_string(into, id::SERVER_REFERENCE, self.server_reference);
                self.user_properties.write(into);
            });
        });
    }
}

/// Reason codes of a DISCONNECT, of both sides (table 3-10). 0x8C is not in that table, but section 2.4 has it.
const fn may_have(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::DisconnectWithWill
            | ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::SessionTakenOver
            | ReasonCode::TopicFilterInvalid
            | ReasonCode::TopicNameInvalid
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::TopicAliasInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::QuotaExceeded
            | ReasonCode::AdministrativeAction
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::SharedSubscriptionsNotSupported
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::MaximumConnectTime
            | ReasonCode::SubscriptionIdentifiersNotSupported
            | ReasonCode::WildcardSubscriptionsNotSupported
    )
}
