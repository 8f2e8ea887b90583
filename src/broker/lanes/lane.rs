//! One lane: its queue, and what of it may go now.

use std::sync::Arc;

use super::batching::Batching;
use super::newest::Newest;
use super::{LaneKind, LaneSettings, Rank};
use crate::broker::delivery_queue::{DeliveryQueue, Entry, Recording};
use crate::mqtt::Millis;
use crate::store::QueueId;

/// A lane of a bridge's queue.
#[derive(Debug)]
pub(in crate::broker) struct Lane {
    /// What the journal knows it by.
    pub(in crate::broker) name: Arc<str>,
    /// Its queue in the journal.
    pub(in crate::broker) queue_id: QueueId,
    pub(in crate::broker) rank: Rank,
    pub(in crate::broker) queue: DeliveryQueue,
    /// The number of its next message.
    pub(in crate::broker) next_number: u64,
    shape: Shape,
}

/// What becomes of a lane's messages.
#[derive(Debug)]
enum Shape {
    Plain,
    Batch(Batching),
    Newest(Newest),
    Aside,
}

/// What of a lane may have been in flight when a process ended, and goes on under its identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Keeps {
    /// The first messages, as many as the peer took.
    First,
    /// Those of which the journal knows an identifier.
    Traced,
    /// None: a batch is put together anew, and what is set aside was never in flight.
    Nothing,
}

impl Lane {
    /// An empty lane, known to the journal as `name`.
    pub(in crate::broker) fn new(settings: &LaneSettings, name: Arc<str>, queue_id: QueueId) -> Self {
        let shape = match settings.kind {
            LaneKind::Plain => Shape::Plain,
            LaneKind::Batch { every, max } => Shape::Batch(Batching::new(every, max)),
            LaneKind::Newest { every } => Shape::Newest(Newest::new(every)),
            LaneKind::Aside => Shape::Aside,
        };
        Self { name, queue_id, rank: settings.rank, queue: DeliveryQueue::default(), next_number: 0, shape }
    }

    /// Whether its messages are sent at all.
    pub(super) fn is_sent(&self) -> bool {
        !matches!(self.shape, Shape::Aside)
    }

    /// What of it goes on under its identifiers after a crash.
    pub(in crate::broker) fn keeps(&self) -> Keeps {
        match self.shape {
            Shape::Plain => Keeps::First,
            Shape::Newest(_) => Keeps::Traced,
            Shape::Batch(_) | Shape::Aside => Keeps::Nothing,
        }
    }

    /// Puts an entry in. Returns one that it takes the place of, or itself where there is no room for its topic.
    pub(super) fn push(&mut self, entry: Entry, recording: Option<Recording<'_>>, now: Millis) -> Option<Entry> {
        match &mut self.shape {
            Shape::Newest(newest) => return newest.put(entry, now),
            Shape::Batch(batching) => batching.note(entry.since),
            Shape::Plain | Shape::Aside => {}
        }
        self.queue.push(entry, recording);
        None
    }

    /// Takes over what was read back. Returns the entries that newer ones have taken the place of.
    pub(super) fn put_page(&mut self, entries: Vec<Entry>, end: u64, now: Millis) -> Vec<Entry> {
        self.queue.put_page(entries, end);
        let mut outdated = Vec::new();
        match &mut self.shape {
            Shape::Newest(newest) => {
                while let Some(entry) = self.queue.pop() {
                    outdated.extend(newest.put(entry, now));
                }
            }
            Shape::Batch(batching) => {
                if let Some(first) = self.queue.front() {
                    batching.note(first.since);
                }
            }
            Shape::Plain | Shape::Aside => {}
        }
        outdated
    }

    /// What may go next at `now`, in packets of at most `maximum_packet` bytes.
    pub(super) fn front(&mut self, now: Millis, maximum_packet: usize) -> Option<&Entry> {
        match &mut self.shape {
            Shape::Plain => self.queue.front(),
            Shape::Batch(batching) => batching.front(&mut self.queue, now, maximum_packet),
            Shape::Newest(newest) => newest.front(now),
            Shape::Aside => None,
        }
    }

    /// Takes what [`Lane::front`] has shown.
    pub(super) fn pop(&mut self, now: Millis) -> Option<Entry> {
        match &mut self.shape {
            Shape::Plain => self.queue.pop(),
            Shape::Batch(batching) => batching.pop(),
            Shape::Newest(newest) => newest.pop(now),
            Shape::Aside => None,
        }
    }

    /// When something that waits may go, where that is only a matter of time.
    pub(super) fn due(&self) -> Option<Millis> {
        match &self.shape {
            Shape::Plain | Shape::Aside => None,
            Shape::Batch(batching) => batching.due(&self.queue),
            Shape::Newest(newest) => newest.due(),
        }
    }

    /// Puts back what was prepared for a connection that has gone.
    pub(super) fn dissolve(&mut self) {
        if let Shape::Batch(batching) = &mut self.shape {
            batching.dissolve(&mut self.queue);
        }
    }

    /// Removes the entries of QoS 0.
    pub(super) fn remove_at_most_once(&mut self) {
        self.dissolve();
        self.queue.remove_if(|entry| entry.sequence.is_none());
        if let Shape::Newest(newest) = &mut self.shape {
            newest.remove_at_most_once();
        }
    }

    /// Entries that wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
            + match &self.shape {
                Shape::Plain | Shape::Aside => 0,
                Shape::Batch(batching) => batching.prepared().len(),
                Shape::Newest(newest) => newest.len(),
            }
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.queue.bytes()
            + match &self.shape {
                Shape::Plain | Shape::Aside => 0,
                Shape::Batch(batching) => batching.prepared().iter().map(|entry| entry.message.size()).sum(),
                Shape::Newest(newest) => newest.bytes(),
            }
    }

    /// Since when the oldest of those in memory waits.
    pub(super) fn oldest(&self) -> Option<Millis> {
        match &self.shape {
            Shape::Batch(batching) if !batching.prepared().is_empty() => batching.prepared().first(),
            Shape::Newest(newest) => return newest.oldest(),
            _ => self.queue.front(),
        }
        .map(|entry| entry.since)
    }
}
