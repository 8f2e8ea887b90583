//! What waits for one session: bounded in messages and bytes, and what happens at the bound.

use std::collections::VecDeque;
use std::sync::Arc;

use super::delivery::Delivery;
use crate::mqtt::{Message, QoS};
use crate::store::Pending;

/// A message on its way to one session.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place in the session; QoS 0 has none.
    pub sequence: Option<u64>,
    /// The message.
    pub message: Message,
    /// QoS of the hop.
    pub qos: QoS,
    /// RETAIN of the hop.
    pub retain: bool,
    /// How it is delivered: identifiers, remap.
    pub delivery: Arc<Delivery>,
    /// The batch that records it, where it must not be sent before that is committed.
    pub pending: Option<Arc<Pending>>,
}

/// The bounds of a queue. In flight messages do not count: they are never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes, with each message's bookkeeping.
    pub bytes: usize,
}

/// Messages that wait, oldest first.
#[derive(Debug, Default)]
pub struct DeliveryQueue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries of QoS 0.
    at_most_once: usize,
}

impl DeliveryQueue {
    /// Puts `entry` behind the others. Where it does not fit, the oldest go, and are handed to `dropped`;
    /// an entry larger than the whole queue goes itself.
    pub fn push(&mut self, entry: Entry, limits: &QueueLimits, mut dropped: impl FnMut(Entry)) {
        let size = entry.message.size();
        if size > limits.bytes || limits.messages == 0 {
            dropped(entry);
            return;
        }
        while self.entries.len() >= limits.messages || self.bytes + size > limits.bytes {
            match self.pop() {
                Some(oldest) => dropped(oldest),
                None => break,
            }
        }
        self.bytes += size;
        self.at_most_once += usize::from(entry.sequence.is_none());
        self.entries.push_back(entry);
    }

    /// The oldest entry.
    pub fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.message.size();
        self.at_most_once -= usize::from(entry.sequence.is_none());
        if self.entries.is_empty() {
            // A queue that has drained holds no memory.
            self.entries = VecDeque::new();
        }
        Some(entry)
    }

    /// Removes the entries for which `remove` says so.
    pub fn remove_if(&mut self, mut remove: impl FnMut(&Entry) -> bool) {
        let Self { entries, bytes, at_most_once } = self;
        entries.retain(|entry| {
            let gone = remove(entry);
            if gone {
                *bytes -= entry.message.size();
                *at_most_once -= usize::from(entry.sequence.is_none());
            }
            !gone
        });
    }

    /// Entries of QoS 0 that wait.
    pub fn at_most_once(&self) -> usize {
        self.at_most_once
    }

    /// Bytes of what waits, with each message's bookkeeping.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::TopicName;

    fn entry(sequence: u64, payload: usize) -> Entry {
        Entry {
            sequence: Some(sequence),
            message: Message::new(&TopicName::new("t").unwrap(), &vec![0; payload]),
            qos: QoS::AtLeastOnce,
            retain: false,
            delivery: Arc::new(Delivery::at_most(QoS::AtLeastOnce)),
            pending: None,
        }
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_goes_on() {
        let mut queue = DeliveryQueue::default();
        let mut dropped = Vec::new();
        let limits = QueueLimits { messages: 3, bytes: 10_000 };
        for sequence in 0..5 {
            queue.push(entry(sequence, 1), &limits, |entry| dropped.extend(entry.sequence));
        }
        queue.push(entry(5, 20_000), &limits, |entry| dropped.extend(entry.sequence));
        assert_eq!(dropped, [0, 1, 5]);
        let mut kept = Vec::new();
        while let Some(entry) = queue.pop() {
            kept.extend(entry.sequence);
        }
        assert_eq!((kept, queue.bytes), (vec![2, 3, 4], 0));
    }
}
