//! CONNACK (section 3.2).

use crate::mqtt::QoS;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::reason::ReasonCode;

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
        let _ = (body, version);
        unimplemented!()
    }

    /// Appends the packet; properties that have the default are not written.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        let _ = (version, into);
        unimplemented!()
    }
}
