//! CONNECT (section 3.1).

use crate::mqtt::QoS;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::{Forwardable, UserProperties};

/// A CONNECT, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Connect<'a> {
    /// The version that the client wants to speak.
    pub version: Version,
    /// Empty where the server should choose one.
    pub client_id: &'a str,
    /// Clean start (5.0), clean session (3.1.1).
    pub clean_start: bool,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
    /// Published when the client goes without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Seconds that the session outlives the connection; 0 is not, 0xFFFFFFFF is for ever. 3.1.1 has none:
    /// there it is 0 with clean session and 0xFFFFFFFF without.
    pub session_expiry_interval: u32,
    /// QoS 1 and 2 messages that the client takes in flight, 1 to 65,535 (default).
    pub receive_maximum: u16,
    /// Bytes of the largest packet that the client takes, from 1 up; `None` is no limit.
    pub maximum_packet_size: Option<u32>,
    /// Topic aliases that the client takes; default 0.
    pub topic_alias_maximum: u16,
    /// Whether CONNACK may have response information; default false.
    pub request_response_information: bool,
    /// Whether packets other than PUBLISH, CONNACK and DISCONNECT may have reason strings; default true.
    pub request_problem_information: bool,
    /// Name of the authentication method.
    pub authentication_method: Option<&'a str>,
    /// Data for it.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

/// The will of a CONNECT (section 3.1.3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Will<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// QoS.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Seconds between the end of the connection and the will; default 0.
    pub delay_interval: u32,
    /// Seconds for which the message is of use once it is published; `None` is for ever.
    pub message_expiry_interval: Option<u32>,
    /// What goes on to every receiver.
    pub forwardable: Forwardable<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with the standard's defaults: clean start, keep alive 60 s, no will.
    pub fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            client_id,
            clean_start: true,
            keep_alive: 60,
            will: None,
            username: None,
            password: None,
            session_expiry_interval: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserProperties::default(),
        }
    }

    pub(super) fn decode(body: &'a [u8]) -> Result<Self, CodecError> {
        let _ = body;
        unimplemented!()
    }

    /// Appends the packet.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let _ = into;
        unimplemented!()
    }
}
