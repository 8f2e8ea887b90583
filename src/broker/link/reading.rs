//! What one read batch collects.

use std::ops::Range;
use std::sync::Arc;

use crate::broker::session_slot::Acknowledgement;
use crate::metrics::Tally;
use crate::mqtt::Millis;
use crate::mqtt::frame::Frame;
use crate::store::{Batch, Pending};

/// What one read batch collects.
pub(super) struct Reading {
    pub(super) now: Millis,
    /// The packet at hand, where it is a large one and may be kept as it is.
    pub(super) frame: Option<Arc<Frame>>,
    pub(super) batch: Batch,
    pub(super) replies: Vec<u8>,
    /// Those of the replies that promise nothing and have no place in an order: they need not wait for the others.
    pub(super) unbound: Vec<Range<usize>>,
    /// Whether the peer waits for one that is not the answer to a PUBLISH or PUBREL.
    pub(super) is_asked: bool,
    /// What the replies must not overtake: the record of a message that was received before.
    pub(super) behind: Option<Arc<Pending>>,
    pub(super) acknowledgements: Vec<Acknowledgement>,
    pub(super) received: Tally,
    /// Of the messages that are open, those whose exchange ends with `replies`.
    pub(super) over: u32,
    /// Whole packets that have come, and their bytes.
    pub(super) packets: u64,
    pub(super) bytes: usize,
}

impl Default for Box<Reading> {
    fn default() -> Self {
        Self::new(Reading {
            now: Millis(0),
            frame: None,
            batch: Batch::default(),
            replies: Vec::new(),
            unbound: Vec::new(),
            is_asked: false,
            behind: None,
            acknowledgements: Vec::new(),
            received: Tally::default(),
            over: 0,
            packets: 0,
            bytes: 0,
        })
    }
}

impl Reading {
    /// Splits the replies into those that need not wait and the others.
    pub(super) fn split_replies(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut unbound, mut others) = (Vec::new(), Vec::new());
        let mut at = 0;
        for range in &self.unbound {
            others.extend_from_slice(&self.replies[at..range.start]);
            unbound.extend_from_slice(&self.replies[range.clone()]);
            at = range.end;
        }
        others.extend_from_slice(&self.replies[at..]);
        (unbound, others)
    }
}
