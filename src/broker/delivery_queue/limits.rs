//! How much may wait in a queue, and what happens to what does not fit.

use serde::Deserialize;

/// The bounds of a queue. In flight messages do not count: they are never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes, with each message's bookkeeping.
    pub bytes: usize,
    /// What happens beyond them.
    pub when_full: WhenFull,
}

/// What happens to a message for which a queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It is taken, and the oldest that wait are dropped for it.
    #[default]
    DropOldest,
    /// It is dropped.
    DropNewest,
    /// It is refused before anybody gets it: a publisher of MQTT 5.0 hears 0x97, one of 3.1.1 is not read until there
    /// is room. What nobody was promised (QoS 0, the gateway's own readings, what another bridge brings) is dropped.
    ///
    /// Only queues of bridges refuse; a client's own queue never holds up others, and drops the oldest.
    Refuse,
}
