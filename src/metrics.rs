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

/// What the broker counts.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    /// Messages that clients, bridges and adapters published.
    pub received: Counter,
    /// Messages dropped because a queue was full.
    pub dropped: Counter,
    /// Messages that expired before they could be sent.
    pub expired: Counter,
    /// Messages left out because they were too large for their receiver.
    pub too_large: Counter,
    /// QoS 2 messages sent anew because the peer had forgotten the session.
    pub qos2_resent: Counter,
    /// Messages of clients that may not publish them.
    pub refused: Counter,
    /// Connections accepted.
    pub connections: Counter,
}
