//! How much one client may hold: `limits`.

use std::num::NonZeroU16;

use serde::Deserialize;

use crate::broker::{self, QueueLimits};
use crate::settings::{Duration, Located, Mistake, Rate, Size};

/// How much one client may hold, of the broker or of one of its listeners. What is not said is as in the broker's
/// section, and there as the defaults say. Bridges are not counted.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Clients connected at the same time. Default 1000.
    pub connections: Option<Located<u32>>,
    /// Clients connected at the same time from one address. Default: no bound.
    pub connections_per_address: Option<Located<u32>>,
    /// Sessions of clients, connected or not, in the whole broker. Default 10000.
    pub sessions: Option<Located<u32>>,
    /// The longest time that a session outlives its connection, `30d`. Default: as long as the client asks for.
    pub session_expiry: Option<Located<Duration>>,
    /// The largest packet that is taken, 1 KB to 256 MB. Default `1MB`.
    pub packet: Option<Located<Size>>,
    /// QoS 1 and 2 messages on their way to a client, 1 to 65,535. Default 100.
    pub inflight: Option<Located<u16>>,
    /// Messages that wait for a client. Default 10000.
    pub queue: Option<u32>,
    /// Bytes that wait for a client. Default `16MB`.
    pub queue_bytes: Option<Size>,
    /// Subscriptions of a client. Default 1000.
    pub subscriptions: Option<Located<u32>>,
    /// Levels of a topic. Default 64.
    pub topic_levels: Option<Located<u32>>,
    /// The longest topic, 1 byte to 65,535. Default `4KB`.
    pub topic_length: Option<Located<Size>>,
    /// The longest keep alive of a client of 5.0, `5m`, 1 s to 65535 s: one that asks for more, or for none, is told
    /// this one. Default: no bound.
    pub keep_alive: Option<Located<Duration>>,
    /// Messages that a client may publish, `100/s`: it is read more slowly beyond that. Default: no bound.
    pub rate: Option<Rate>,
    /// Topics with a retained message, in the whole broker. Default 1000000.
    pub retained: Option<u32>,
    /// Bytes of all retained messages. Default `256MB`.
    pub retained_bytes: Option<Size>,
    /// How long a connection may take to say CONNECT, at least 100 ms. Default `10s`.
    pub connect_timeout: Option<Located<Duration>>,
}

impl Limits {
    /// The limits, `base` where nothing is said.
    pub fn over(&self, base: &broker::Limits) -> broker::Limits {
        let number = |setting: &Option<Located<u32>>, base: usize| setting.map_or(base, |number| number.value as usize);
        let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        broker::Limits {
            connections: number(&self.connections, base.connections),
            connections_per_address: self
                .connections_per_address
                .map_or(base.connections_per_address, |number| Some(number.value)),
            sessions: number(&self.sessions, base.sessions),
            session_expiry: self.session_expiry.map_or(base.session_expiry, |expiry| Some(seconds(expiry.value))),
            packet_bytes: self.packet.map_or(base.packet_bytes, |size| bytes(size.value)),
            inflight: self.inflight.map_or(base.inflight, |number| number.value),
            queue: QueueLimits {
                messages: self.queue.map_or(base.queue.messages, |number| number as usize),
                bytes: self.queue_bytes.map_or(base.queue.bytes, bytes),
                ..base.queue
            },
            subscriptions: number(&self.subscriptions, base.subscriptions),
            topic_levels: number(&self.topic_levels, base.topic_levels),
            topic_bytes: self.topic_length.map_or(base.topic_bytes, |size| bytes(size.value)),
            maximum_keep_alive: self.keep_alive.map_or(base.maximum_keep_alive, |time| keep_alive(time.value)),
            rate: self.rate.map_or(base.rate, |rate| Some(rate.0)),
            retained: self.retained.map_or(base.retained, |number| number as usize),
            retained_bytes: self.retained_bytes.map_or(base.retained_bytes, bytes),
            topic_aliases: base.topic_aliases,
            connect_timeout: self.connect_timeout.map_or(base.connect_timeout, |time| time.value.0),
        }
    }

    /// What is wrong in them.
    pub(super) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (number, wrong) in [
            (&self.connections, "nobody could connect: 1 or more"),
            (&self.connections_per_address, "nobody could connect: 1 or more"),
            (&self.sessions, "nobody could connect: 1 or more"),
            (&self.subscriptions, "nobody could subscribe: 1 or more"),
            (&self.topic_levels, "no topic has that few levels: 1 or more"),
        ] {
            mistakes.extend(number.filter(|number| number.value == 0).map(|number| number.mistake(wrong)));
        }
        let packet = self.packet.filter(|size| !(1024..=256 * 1024 * 1024).contains(&size.value.0));
        mistakes.extend(packet.map(|size| size.mistake("the largest packet is 1KB to 256MB")));
        let topic = self.topic_length.filter(|size| !(1..=65_535).contains(&size.value.0));
        mistakes.extend(topic.map(|size| size.mistake("the longest topic is 1 to 65535 bytes")));
        let inflight = self.inflight.filter(|number| number.value == 0);
        mistakes.extend(inflight.map(|number| number.mistake("nothing could be sent: 1 to 65535")));
        let keep_alive = self.keep_alive.filter(|time| keep_alive(time.value).is_none());
        mistakes.extend(keep_alive.map(|time| time.mistake("a keep alive is 1s to 65535s")));
        let timeout = self.connect_timeout.filter(|time| time.value.0 < std::time::Duration::from_millis(100));
        mistakes.extend(timeout.map(|time| time.mistake("nobody could connect in time: 100ms or more")));
        mistakes
    }
}

/// Whole seconds; what is longer than the protocol can say is for ever.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.0.as_secs()).unwrap_or(u32::MAX)
}

/// Whole seconds, where MQTT can say them.
fn keep_alive(duration: Duration) -> Option<NonZeroU16> {
    u16::try_from(duration.0.as_secs()).ok().and_then(NonZeroU16::new)
}
