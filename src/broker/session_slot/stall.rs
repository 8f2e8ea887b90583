//! Whether acknowledgements come: what a bridge's watch over its link looks at.

use std::sync::atomic::Ordering;

use super::SessionSlot;

impl SessionSlot {
    /// Messages in flight, and the acknowledgements that have come for messages of this session so far.
    pub fn progress(&self) -> (u64, u64) {
        let in_flight = self.lock().session.len() as u64;
        (in_flight, self.acknowledged.load(Ordering::Relaxed))
    }

    /// Notes that acknowledgements have come.
    pub(super) fn note_acknowledged(&self, count: usize) {
        self.acknowledged.fetch_add(count as u64, Ordering::Relaxed);
    }
}
