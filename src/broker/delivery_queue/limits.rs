//! How much may wait in a queue.

use crate::store::settings::WhenFull;

/// The bounds of a queue. In flight messages do not count: they are never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes, with each message's bookkeeping.
    pub bytes: usize,
    /// What happens beyond them. Only queues of bridges refuse: a client's own queue never holds up others, and drops
    /// the oldest instead.
    pub when_full: WhenFull,
}
