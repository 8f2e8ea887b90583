//! The lanes of a bridge's queue: what goes first, what goes together, and of what only the newest goes.
//!
//! Each lane is a queue of its own in the journal, with sequences of its own; all share the session's packet
//! identifiers and its window. Within a lane messages keep their order, and all messages of one topic and route take
//! the same lane, so that the order of a topic is kept.

mod batching;
mod lane;
mod newest;
mod queues;
mod throttle;

#[cfg(test)]
mod tests;

pub(super) use lane::{Keeps, Lane};
pub(super) use queues::{Queues, SEPARATOR, lane_name};
pub(super) use throttle::Throttle;

/// Where messages wait of which nothing else is said.
pub const NORMAL: u8 = 0;
/// Where messages wait that go before all others.
pub const HIGH: u8 = 1;
/// Where messages wait that go when nothing else does.
pub const LOW: u8 = 2;
/// Where messages stand that the server did not take, until somebody has looked at them.
pub const ASIDE: u8 = 3;

/// A lane of a bridge's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSettings {
    /// What the journal knows it by, within its bridge.
    pub name: String,
    /// Before which others it goes.
    pub rank: Rank,
    /// What becomes of its messages.
    pub kind: LaneKind,
}

/// Which of several lanes goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Before the others; it does not wait for the bridge's rate.
    High,
    /// By age.
    Normal,
    /// When nothing else waits.
    Low,
}

/// What becomes of a lane's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneKind {
    /// Each goes by itself.
    Plain,
    /// Those of one topic go as one JSON array.
    Batch {
        /// How long the first waits for others, in milliseconds.
        every: u64,
        /// The most in one array.
        max: usize,
    },
    /// Of each topic only the newest goes.
    Newest {
        /// The shortest time between two messages of a topic, in milliseconds.
        every: u64,
    },
    /// They stay.
    Aside,
}

/// How fast messages go; what is of high rank counts, and does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Throttling {
    /// Messages per second; `None` is as many as are taken.
    pub rate: Option<f64>,
    /// Bytes of packets per second.
    pub bandwidth: Option<f64>,
}

impl LaneSettings {
    /// The lanes that each bridge has besides the normal one, in the order of [`HIGH`], [`LOW`] and [`ASIDE`].
    pub fn of_every_bridge() -> Vec<Self> {
        let aside = Self { name: "aside".into(), rank: Rank::Low, kind: LaneKind::Aside };
        vec![Self::plain(Rank::High), Self::plain(Rank::Low), aside]
    }

    /// The lane of `rank` whose messages each go by themselves.
    pub fn plain(rank: Rank) -> Self {
        let name = match rank {
            Rank::High => "high",
            Rank::Normal => "normal",
            Rank::Low => "low",
        };
        Self { name: name.into(), rank, kind: LaneKind::Plain }
    }
}
