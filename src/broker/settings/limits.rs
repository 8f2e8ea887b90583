//! How much one client may hold: `limits`.

use serde::Deserialize;

use crate::broker::{self, QueueLimits};
use crate::settings::{Located, Mistake, Size};

/// How much one client may hold. Bridges are not counted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Clients connected at the same time. Default 1000.
    pub connections: Option<Located<u32>>,
    /// The largest packet that is taken, 1 KB to 256 MB. Default `1MB`.
    pub packet: Option<Located<Size>>,
    /// QoS 1 and 2 messages on their way to a client, 1 to 65,535. Default 100.
    pub inflight: Option<Located<u16>>,
    /// Messages that wait for a client. Default 10000.
    pub queue: Option<u32>,
    /// Bytes that wait for a client. Default `16MB`.
    pub queue_bytes: Option<Size>,
}

impl Limits {
    /// What these say, and `outer` where they say nothing.
    pub fn within(&self, outer: &broker::Limits) -> broker::Limits {
        let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        broker::Limits {
            connections: self.connections.map_or(outer.connections, |connections| connections.value as usize),
            packet_bytes: self.packet.map_or(outer.packet_bytes, |packet| bytes(packet.value)),
            inflight: self.inflight.map_or(outer.inflight, |inflight| inflight.value),
            queue: QueueLimits {
                messages: self.queue.map_or(outer.queue.messages, |messages| messages as usize),
                bytes: self.queue_bytes.map_or(outer.queue.bytes, bytes),
            },
            ..outer.clone()
        }
    }

    pub(super) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if let Some(connections) = self.connections.filter(|connections| connections.value == 0) {
            mistakes.push(connections.mistake("nobody could connect: 1 or more"));
        }
        if let Some(packet) = self.packet.filter(|packet| !(1024..=256 * 1024 * 1024).contains(&packet.value.0)) {
            mistakes.push(packet.mistake("the largest packet is 1KB to 256MB"));
        }
        if let Some(inflight) = self.inflight.filter(|inflight| inflight.value == 0) {
            mistakes.push(inflight.mistake("nothing could be sent: 1 to 65535"));
        }
        mistakes
    }
}
