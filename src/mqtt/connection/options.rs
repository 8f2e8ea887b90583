//! What a connection is opened with, by either side.

use std::fmt;

use crate::mqtt::packet::{Connect, Will};
use crate::mqtt::{Message, Version};

/// Messages that we have in flight towards a server of 3.1.1, which cannot say how many it takes. Servers are known
/// to drop what is beyond 20.
const IN_FLIGHT_OF_3: u16 = 20;

/// What a client says in its CONNECT, and its own bounds.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The version to speak; default 5.0.
    pub version: Version,
    /// Empty where the server should choose one.
    pub client_id: String,
    /// Clean start (5.0), clean session (3.1.1); default true.
    pub clean_start: bool,
    /// Seconds; 0 is off, default 60.
    pub keep_alive: u16,
    /// Published by the server when the client goes without DISCONNECT.
    pub will: Option<WillOptions>,
    /// User name.
    pub username: Option<String>,
    /// Password; never shown.
    pub password: Option<Vec<u8>>,
    /// Seconds that the session outlives the connection (5.0); default 0, 0xFFFFFFFF is for ever.
    pub session_expiry_interval: u32,
    /// QoS 1 and 2 messages that the peer may have unacknowledged (5.0), from 1 up; default 100.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages that we have unacknowledged at most, whatever the peer allows; default 1000.
    /// With 3.1.1 never more than 20.
    pub in_flight_maximum: u16,
    /// Bytes of the largest packet that is taken; default 268,435,460, all that MQTT can carry.
    pub max_packet_bytes: u32,
    /// Topic aliases that are taken (5.0); default 16.
    pub topic_alias_maximum: u16,
}

/// The will of a client.
#[derive(Debug, Clone)]
pub struct WillOptions {
    /// Topic, payload, QoS, RETAIN and properties.
    pub message: Message,
    /// Seconds between the end of the connection and the will (5.0).
    pub delay_interval: u32,
}

/// The bounds that a server tells its client in CONNACK.
#[derive(Debug, Clone)]
pub struct AcceptOptions {
    /// See [`ConnectOptions::receive_maximum`].
    pub receive_maximum: u16,
    /// See [`ConnectOptions::in_flight_maximum`].
    pub in_flight_maximum: u16,
    /// See [`ConnectOptions::max_packet_bytes`].
    pub max_packet_bytes: u32,
    /// See [`ConnectOptions::topic_alias_maximum`].
    pub topic_alias_maximum: u16,
}

/// The largest packet of MQTT: five bytes of fixed header and 268,435,455 of the rest.
pub const LARGEST_PACKET_BYTES: u32 = 268_435_460;

impl Default for AcceptOptions {
    fn default() -> Self {
        Self {
            receive_maximum: 100,
            in_flight_maximum: 1000,
            max_packet_bytes: LARGEST_PACKET_BYTES,
            topic_alias_maximum: 16,
        }
    }
}

impl ConnectOptions {
    /// The defaults, with a client identifier.
    pub fn new(client_id: impl Into<String>) -> Self {
        let bounds = AcceptOptions::default();
        Self {
            version: Version::V5,
            client_id: client_id.into(),
            clean_start: true,
            keep_alive: 60,
            will: None,
            username: None,
            password: None,
            session_expiry_interval: 0,
            receive_maximum: bounds.receive_maximum,
            in_flight_maximum: bounds.in_flight_maximum,
            max_packet_bytes: bounds.max_packet_bytes,
            topic_alias_maximum: bounds.topic_alias_maximum,
        }
    }

    pub(super) fn bounds(&self) -> AcceptOptions {
        AcceptOptions {
            receive_maximum: self.receive_maximum.max(1),
            in_flight_maximum: self.in_flight_maximum,
            max_packet_bytes: self.max_packet_bytes,
            topic_alias_maximum: self.topic_alias_maximum,
        }
    }

    pub(super) fn to_connect(&self) -> Connect<'_> {
        let mut connect = Connect::new(self.version, &self.client_id);
        connect.clean_start = self.clean_start;
        connect.keep_alive = self.keep_alive;
        connect.will = self.will.as_ref().map(|will| Will {
            topic: will.message.topic(),
            payload: will.message.payload(),
            qos: will.message.qos,
            retain: will.message.retain,
            delay_interval: will.delay_interval,
            message_expiry_interval: None,
            forwardable: will.message.properties(),
        });
        connect.username = self.username.as_deref();
        connect.password = self.password.as_deref();
        if self.version == Version::V5 {
            connect.session_expiry_interval = self.session_expiry_interval;
            connect.receive_maximum = self.receive_maximum.max(1);
            connect.maximum_packet_size = self.bounds().told_packet_bytes();
            connect.topic_alias_maximum = self.topic_alias_maximum;
        }
        connect
    }
}

impl AcceptOptions {
    /// The maximum packet size to say; `None` where everything that MQTT can carry is taken.
    pub(super) fn told_packet_bytes(&self) -> Option<u32> {
        Some(self.max_packet_bytes).filter(|&bytes| bytes < LARGEST_PACKET_BYTES)
    }

    /// Messages in flight towards a peer of `version` that takes `receive_maximum`.
    pub(super) fn window(&self, version: Version, receive_maximum: u16) -> u16 {
        match version {
            Version::V3 => self.in_flight_maximum.min(IN_FLIGHT_OF_3),
            Version::V5 => self.in_flight_maximum.min(receive_maximum),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("session_expiry_interval", &self.session_expiry_interval)
            .finish_non_exhaustive()
    }
}
