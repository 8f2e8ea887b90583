//! CONNACK (section 3.2).

use super::area::{self, Properties};
use super::{encode_with, kind, reason_among};
use crate::mqtt::QoS;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::{UserProperties, id};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::wire::{self, Reader};

/// A CONNACK, borrowed from the read buffer. In 3.1.1 it is `session_present` and `reason` alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnAck<'a> {
    /// Whether the server still had the session.
    pub session_present: bool,
    /// In 3.1.1 the nearest return code is sent, and a return code is read as the code that it stands for.
    pub reason: ReasonCode,
    /// Seconds, where the server chose another than the client asked for.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 messages that the server takes in flight, 1 to 65,535 (default).
    pub receive_maximum: u16,
    /// The highest QoS that the server takes; default 2.
    pub maximum_qos: QoS,
    /// Whether the server takes retained messages; default true.
    pub retain_available: bool,
    /// Bytes of the largest packet that the server takes; `None` is no limit.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server gave.
    pub assigned_client_identifier: Option<&'a str>,
    /// Topic aliases that the server takes; default 0.
    pub topic_alias_maximum: u16,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// Default true.
    pub wildcard_subscription_available: bool,
    /// Default true.
    pub subscription_identifiers_available: bool,
    /// Default true.
    pub shared_subscription_available: bool,
    /// Seconds of keep alive that the client must use instead of its own.
    pub server_keep_alive: Option<u16>,
    /// A basis for response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Name of the authentication method.
    pub authentication_method: Option<&'a str>,
    /// Data for it.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> ConnAck<'a> {
    /// A CONNACK with the standard's defaults.
    pub fn new(reason: ReasonCode, session_present: bool) -> Self {
        Self {
            session_present,
            reason,
            session_expiry_interval: None,
            receive_maximum: u16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_identifier: None,
            topic_alias_maximum: 0,
            reason_string: None,
            wildcard_subscription_available: true,
            subscription_identifiers_available: true,
            shared_subscription_available: true,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserProperties::default(),
        }
    }

    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let session_present = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(CodecError::malformed("reserved flags of a CONNACK [MQTT-3.2.2-1]")),
        };
        let code = reader.u8()?;
        let reason = match version {
            Version::V3 => ReasonCode::from_connect_return_code(code)
                .ok_or(CodecError::protocol("a CONNACK's return code above 5 (3.1.1, section 3.2.2.3)"))?,
            Version::V5 => reason_among(code, may_have)?,
        };
        if session_present && reason != ReasonCode::Success {
            return Err(CodecError::protocol("session present with an error [MQTT-3.2.2-6]"));
        }
        let mut decoded = Self::new(reason, session_present);
        if version == Version::V5 {
            decoded.decode_properties(Properties::split_off(&mut reader)?)?;
        }
        reader.finish()?;
        Ok(decoded)
    }

    /// Appends the packet; properties that have the default are not written.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        encode_with(kind::CONNACK << 4, into, |into| {
            into.push(u8::from(self.session_present));
            match version {
                Version::V3 => into.push(self.reason.connect_return_code()),
                Version::V5 => {
                    into.push(self.reason as u8);
                    wire::put_sized(into, |into| self.encode_properties(into));
                }
            }
        });
    }
    fn decode_properties(&mut self, mut properties: Properties<'a>) -> Result<(), CodecError> {
        while let Some(property) = properties.next()? {
            match property {
                id::SESSION_EXPIRY_INTERVAL => self.session_expiry_interval = Some(properties.u32()?),
                id::RECEIVE_MAXIMUM => self.receive_maximum = properties.receive_maximum()?,
                id::MAXIMUM_QOS => {
                    self.maximum_qos = if properties.flag()? { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                }
                id::RETAIN_AVAILABLE => self.retain_available = properties.flag()?,
                id::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(properties.maximum_packet_size()?),
                id::ASSIGNED_CLIENT_IDENTIFIER => self.assigned_client_identifier = Some(properties.string()?),
                id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = properties.u16()?,
                id::REASON_STRING => self.reason_string = Some(properties.string()?),
                id::WILDCARD_SUBSCRIPTION_AVAILABLE => self.wildcard_subscription_available = properties.flag()?,
                id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => self.subscription_identifiers_available = properties.flag()?,
                id::SHARED_SUBSCRIPTION_AVAILABLE => self.shared_subscription_available = properties.flag()?,
                id::SERVER_KEEP_ALIVE => self.server_keep_alive = Some(properties.u16()?),
                id::RESPONSE_INFORMATION => self.response_information = Some(properties.string()?),
                id::SERVER_REFERENCE => self.server_reference = Some(properties.string()?),
                id::AUTHENTICATION_METHOD => self.authentication_method = Some(properties.string()?),
                id::AUTHENTICATION_DATA => self.authentication_data = Some(properties.binary()?),
                other => return properties.not_allowed(other),
            }
        }
        self.user_properties = properties.user_properties();
        area::check_authentication(self.authentication_method, self.authentication_data)
    }

    fn encode_properties(&self, into: &mut Vec<u8>) {
        let no = |available: bool| (!available).then_some(0);
        // The order is free; these come as mosquitto's do.
        area::put_u16(into, id::TOPIC_ALIAS_MAXIMUM, Some(self.topic_alias_maximum).filter(|&maximum| maximum != 0));
        area::put_u32(into, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        area::put_u16(into, id::RECEIVE_MAXIMUM, Some(self.receive_maximum).filter(|&maximum| maximum != u16::MAX));
        area::put_u32(into, id::SESSION_EXPIRY_INTERVAL, self.session_expiry_interval);
        area::put_u8(into, id::MAXIMUM_QOS, (self.maximum_qos < QoS::ExactlyOnce).then_some(self.maximum_qos as u8));
        area::put_u8(into, id::RETAIN_AVAILABLE, no(self.retain_available));
        area::put_string(into, id::ASSIGNED_CLIENT_IDENTIFIER, self.assigned_client_identifier);
        area::put_string(into, id::REASON_STRING, self.reason_string);
        area::put_u8(into, id::WILDCARD_SUBSCRIPTION_AVAILABLE, no(self.wildcard_subscription_available));
        area::put_u8(into, id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, no(self.subscription_identifiers_available));
        area::put_u8(into, id::SHARED_SUBSCRIPTION_AVAILABLE, no(self.shared_subscription_available));
        area::put_u16(into, id::SERVER_KEEP_ALIVE, self.server_keep_alive);
        area::put_string(into, id::RESPONSE_INFORMATION, self.response_information);
        area::put_string(into, id::SERVER_REFERENCE, self.server_reference);
        area::put_string(into, id::AUTHENTICATION_METHOD, self.authentication_method);
        area::put_binary(into, id::AUTHENTICATION_DATA, self.authentication_data);
        self.user_properties.write(into);
    }
}

/// Reason codes of a CONNACK (table 3-1).
const fn may_have(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::UnsupportedProtocolVersion
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::QuotaExceeded
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded
    )
}
