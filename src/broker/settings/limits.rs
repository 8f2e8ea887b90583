//! How much one client may hold: `limits`.

use serde::Deserialize;

use crate::settings::{Located, Mistake, Size};

/// How much one client may hold. Bridges are not counted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Clients connected at the same time. Default 1000.
    pub connections: Located<u32>,
    /// The largest packet that is taken, 1 KB to 256 MB. Default `1MB`.
    pub packet: Located<Size>,
    /// QoS 1 and 2 messages on their way to a client, 1 to 65,535. Default 100.
    pub inflight: Located<u16>,
    /// Messages that wait for a client. Default 10000.
    pub queue: u32,
    /// Bytes that wait for a client. Default `16MB`.
    pub queue_bytes: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: Located::nowhere(1_000),
            packet: Located::nowhere(Size(1024 * 1024)),
            inflight: Located::nowhere(100),
            queue: 10_000,
            queue_bytes: Size(16 * 1024 * 1024),
        }
    }
}

impl Limits {
    pub(super) fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.connections.value == 0 {
            mistakes.push(self.connections.mistake("nobody could connect: 1 or more"));
        }
        if !(1024..=256 * 1024 * 1024).contains(&self.packet.value.0) {
            mistakes.push(self.packet.mistake("the largest packet is 1KB to 256MB"));
        }
        if self.inflight.value == 0 {
            mistakes.push(self.inflight.mistake("nothing could be sent: 1 to 65535"));
        }
        mistakes
    }
}
