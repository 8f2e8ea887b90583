//! What clients are allowed, and the bounds that keep one from harming the others.

use std::num::NonZeroU16;
use std::time::Duration;

use super::delivery_queue::QueueLimits;
use crate::mqtt::Version;
use crate::mqtt::packet::Connect;
use crate::store::settings::WhenFull;

/// What clients are allowed: those of one listener, or all.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address; `None` is no bound. Unix sockets have no address.
    pub connections_per_address: Option<u32>,
    /// Sessions of clients, connected or not. Only a client that has none yet is refused.
    pub sessions: usize,
    /// Seconds that a session may outlive its connection; `None` is what the client asks for.
    pub session_expiry: Option<u32>,
    /// Seconds of keep alive beyond which a client of 5.0 is told to use them instead of its own; `None` takes every
    /// keep alive, and none. 3.1.1 has no way to say it.
    pub maximum_keep_alive: Option<NonZeroU16>,
    /// Bytes of a packet, fixed header included.
    pub packet_bytes: usize,
    /// QoS 1 and 2 messages in flight, in each direction.
    pub inflight: u16,
    /// The queue of each session.
    pub queue: QueueLimits,
    /// Subscriptions of a session.
    pub subscriptions: usize,
    /// Levels of a topic name or filter.
    pub topic_levels: usize,
    /// Bytes of a topic name or filter.
    pub topic_bytes: usize,
    /// Messages a second that a client may publish over a longer time; it is read more slowly beyond that. `None` is
    /// no bound.
    pub rate: Option<f64>,
    /// Topics with a retained message, of all clients together.
    pub retained: usize,
    /// Bytes of all retained messages.
    pub retained_bytes: usize,
    /// Topic aliases that a client may use.
    pub topic_aliases: u16,
    /// From the connection's start to its CONNECT.
    pub connect_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            connections_per_address: None,
            sessions: 10_000,
            session_expiry: None,
            maximum_keep_alive: None,
            packet_bytes: 1024 * 1024,
            inflight: 100,
            queue: QueueLimits { messages: 10_000, bytes: 16 * 1024 * 1024, when_full: WhenFull::DropOldest },
            subscriptions: 1000,
            topic_levels: 64,
            topic_bytes: 4096,
            rate: None,
            // Their bytes are the bound that most meet first.
            retained: 1_000_000,
            retained_bytes: 256 * 1024 * 1024,
            // As mosquitto takes.
            topic_aliases: 10,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Whether a topic name or filter has no more levels and bytes than it may.
    pub fn allow_topic(&self, topic: &str) -> bool {
        // A short topic cannot have many levels, and most are short.
        let few = topic.len() < self.topic_levels || topic.split('/').count() <= self.topic_levels;
        few && topic.len() <= self.topic_bytes
    }

    /// Seconds of keep alive that a client must use instead of its own, if it must.
    pub(super) fn server_keep_alive(&self, connect: &Connect<'_>) -> Option<u16> {
        let maximum = self.maximum_keep_alive?.get();
        let allowed = (1..=maximum).contains(&connect.keep_alive);
        (connect.version == Version::V5 && !allowed).then_some(maximum)
    }
}
