//! What a session's connections have sent and received: all of it for the broker's counters, messages for the bridge's own.

use super::SessionSlot;
use crate::metrics::{Counter, Tally};

/// Messages that a bridge's connections have sent and received.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) sent: Counter,
    pub(super) received: Counter,
}

impl SessionSlot {
    /// Counts what its connection has received.
    pub(in crate::broker) fn note_received(&self, tally: Tally) {
        self.metrics.received.add(tally);
        if self.is_bridge() {
            self.passed.received.add(tally.publishes);
        }
    }

    /// Counts what was handed to its connection to be sent.
    pub(super) fn note_sent(&self, tally: Tally) {
        self.metrics.sent.add(tally);
        if self.is_bridge() {
            self.passed.sent.add(tally.publishes);
        }
    }
}
