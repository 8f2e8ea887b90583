//! Counters of the gateway, read by `$SYS`, the status page and tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls, and the highest that it has been.
#[derive(Debug, Default)]
pub struct Gauge {
    value: AtomicU64,
    highest: AtomicU64,
}

impl Gauge {
    /// One more.
    pub fn enter(&self) {
        let value = self.value.fetch_add(1, Ordering::Relaxed) + 1;
        self.highest.fetch_max(value, Ordering::Relaxed);
    }

    /// One less. Each must have been one more before.
    pub fn leave(&self) {
        self.value.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// The highest that it has been.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }
}

/// What went over connections in one direction, in plain numbers: counted by whoever owns the batch, and added to a
/// [`Flow`] once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes of MQTT, within TLS and WebSocket.
    pub bytes: u64,
    /// PUBLISH packets.
    pub publishes: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// All other packets.
    pub others: u64,
}

impl Tally {
    /// One packet that is no PUBLISH, of `length` bytes.
    pub fn packet(length: usize) -> Self {
        Self { bytes: length as u64, others: 1, ..Self::default() }
    }

    /// Packets of all kinds.
    pub fn packets(&self) -> u64 {
        self.publishes + self.others
    }
}

/// What went over connections in one direction. A cache line of its own: reading and writing threads do not share it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Flow {
    bytes: Counter,
    publishes: Counter,
    payload_bytes: Counter,
    others: Counter,
}

impl Flow {
    /// Adds what a batch has counted.
    pub fn add(&self, tally: Tally) {
        self.bytes.add(tally.bytes);
        self.publishes.add(tally.publishes);
        self.payload_bytes.add(tally.payload_bytes);
        self.others.add(tally.others);
    }

    /// All of it so far.
    pub fn total(&self) -> Tally {
        Tally {
            bytes: self.bytes.value(),
            publishes: self.publishes.value(),
            payload_bytes: self.payload_bytes.value(),
            others: self.others.value(),
        }
    }
}

/// What the broker counts.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    /// What connections received, accepted and dialled ones.
    pub received: Flow,
    /// What was handed to connections to be sent.
    pub sent: Flow,
    /// Messages that adapters and the broker itself published, wills among them.
    pub local: Counter,
    /// Messages dropped because a queue was full.
    pub dropped: Counter,
    /// Messages that expired before they could be sent.
    pub expired: Counter,
    /// Messages left out because they were too large for their receiver.
    pub too_large: Counter,
    /// QoS 2 messages sent anew because the peer had forgotten the session.
    pub qos2_resent: Counter,
    /// Messages that came back in a loop of bridges, or had passed too many gateways.
    pub looped: Counter,
    /// Messages of clients that may not publish them.
    pub refused: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// CONNECT packets received.
    pub connects: Counter,
    /// Clients connected, bridges and adapters not among them.
    pub clients: Gauge,
    /// Sessions that ended because nobody came back to them in time.
    pub expired_sessions: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_remembers_its_highest() {
        let gauge = Gauge::default();
        gauge.enter();
        gauge.enter();
        gauge.leave();
        gauge.enter();
        gauge.leave();
        gauge.leave();
        assert_eq!((gauge.value(), gauge.highest()), (0, 2));
    }

    #[test]
    fn a_flow_is_the_sum_of_its_tallies() {
        let flow = Flow::default();
        flow.add(Tally { bytes: 10, publishes: 2, payload_bytes: 4, others: 0 });
        flow.add(Tally::packet(4));
        assert_eq!(flow.total(), Tally { bytes: 14, publishes: 2, payload_bytes: 4, others: 1 });
    }
}
