//! What a connection tells whoever drives it.

use crate::mqtt::packet::{ConnAck, SubscriptionOptions};
use crate::mqtt::{Message, PacketId, QoS, ReasonCode, Version};

/// Something that happened on a connection; messages come by [`super::Connection::poll_message`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Client: the server took the connection.
    Connected(Connected),
    /// Client: the server refused the connection, which is over.
    Refused {
        /// Why.
        reason: ReasonCode,
        /// The server's words.
        reason_string: Option<String>,
    },
    /// Server: a client asks; [`super::Connection::accept`] or [`super::Connection::refuse`] answers.
    ConnectRequested {
        /// The version that the client speaks.
        version: Version,
        /// Empty where the server should choose one.
        client_id: String,
        /// Whether an old session is to be forgotten.
        clean_start: bool,
    },
    /// The exchange of a QoS 1 or 2 message that was published is over.
    Settled {
        /// What [`super::Connection::publish`] returned.
        sequence: u64,
        /// `Success`, or why the message was not taken.
        reason: ReasonCode,
    },
    /// Client: the answer to a SUBSCRIBE, one reason per filter.
    Subscribed(Vec<ReasonCode>),
    /// Client: the answer to an UNSUBSCRIBE, one reason per filter; none in 3.1.1.
    Unsubscribed(Vec<ReasonCode>),
    /// Server: [`super::Connection::answer_subscribe`] answers.
    SubscribeRequested {
        /// For the answer.
        packet_id: PacketId,
        /// Each filter with its options.
        filters: Vec<(String, SubscriptionOptions)>,
    },
    /// Server: [`super::Connection::answer_unsubscribe`] answers.
    UnsubscribeRequested {
        /// For the answer.
        packet_id: PacketId,
        /// Each filter.
        filters: Vec<String>,
    },
    /// The peer said DISCONNECT; the connection is over.
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// The peer's words.
        reason_string: Option<String>,
    },
}

/// What a server said when it took a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Whether the server still had the session.
    pub session_present: bool,
    /// The client identifier that the server gave.
    pub assigned_client_id: Option<String>,
    /// Seconds between packets: the server's where it asks for its own.
    pub keep_alive: u16,
    /// The highest QoS that the server takes.
    pub maximum_qos: QoS,
    /// Whether the server takes retained messages.
    pub retain_available: bool,
    /// QoS 1 and 2 messages that the server takes in flight.
    pub receive_maximum: u16,
    /// Bytes of the largest packet that the server takes.
    pub maximum_packet_size: Option<u32>,
    /// Seconds that the session outlives the connection, where the server chose another value.
    pub session_expiry_interval: Option<u32>,
}

impl Connected {
    pub(super) fn new(connack: &ConnAck<'_>, keep_alive: u16) -> Self {
        Self {
            session_present: connack.session_present,
            assigned_client_id: connack.assigned_client_identifier.map(String::from),
            keep_alive: connack.server_keep_alive.unwrap_or(keep_alive),
            maximum_qos: connack.maximum_qos,
            retain_available: connack.retain_available,
            receive_maximum: connack.receive_maximum,
            maximum_packet_size: connack.maximum_packet_size,
            session_expiry_interval: connack.session_expiry_interval,
        }
    }
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The message; its QoS and RETAIN are those of this hop.
    pub message: Message,
    /// Whether it may be a repetition.
    pub dup: bool,
    /// There with QoS 1 and 2.
    pub packet_id: Option<PacketId>,
}

/// Why a command was not taken; nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The connection is not open, so a QoS 0 message or a request has nowhere to go.
    #[error("not connected")]
    NotConnected,
    /// As many messages or requests as may wait are waiting already.
    #[error("too many messages wait to be sent")]
    QueueFull,
    /// The message is larger than the server takes.
    #[error("the message is larger than the maximum packet size of the server")]
    TooLarge,
    /// The server takes no messages of this QoS.
    #[error("the server takes no messages above QoS {0}")]
    QoSNotSupported(QoS),
    /// The server takes no retained messages.
    #[error("the server takes no retained messages")]
    RetainNotSupported,
}
