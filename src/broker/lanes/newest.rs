//! Of each topic only the newest message goes, and no two within a time.

use std::collections::HashMap;

use crate::broker::delivery_queue::Entry;
use crate::mqtt::Millis;

/// Topics that are told apart. The message of another is not taken while all of these have one waiting.
const MAX_TOPICS: usize = 10_000;

/// The newest message of each topic.
#[derive(Debug)]
pub(super) struct Newest {
    /// The shortest time between two messages of a topic, in milliseconds.
    every: u64,
    topics: HashMap<Box<str>, Topic, foldhash::fast::RandomState>,
    waiting: usize,
    bytes: usize,
    /// No topic is due before.
    next: Millis,
    /// What goes next.
    ready: Option<Box<str>>,
}

#[derive(Debug)]
struct Topic {
    waiting: Option<Entry>,
    /// When one may go.
    next: Millis,
    /// The number of the newest that was seen.
    newest: Option<u64>,
}

impl Newest {
    pub(super) fn new(every: u64) -> Self {
        Self { every, topics: HashMap::default(), waiting: 0, bytes: 0, next: Millis(0), ready: None }
    }

    /// Puts an entry in. Returns the one that it takes the place of, or itself where it is older, or finds no room.
    pub(super) fn put(&mut self, entry: Entry, now: Millis) -> Option<Entry> {
        if !self.topics.contains_key(entry.message.topic()) {
            if self.topics.len() >= MAX_TOPICS {
                self.topics.retain(|_, topic| topic.waiting.is_some() || topic.next > now);
            }
            if self.topics.len() >= MAX_TOPICS {
                return Some(entry);
            }
            let topic = Topic { waiting: None, next: Millis(0), newest: None };
            self.topics.insert(entry.message.topic().into(), topic);
        }
        let topic = self.topics.get_mut(entry.message.topic())?;
        // What is read back from the journal is older than what has come since.
        if entry.sequence.is_some() && entry.sequence < topic.newest {
            return Some(entry);
        }
        topic.newest = entry.sequence.or(topic.newest);
        self.bytes += entry.message.size();
        self.next = self.next.min(topic.next);
        let old = topic.waiting.replace(entry);
        match &old {
            Some(old) => self.bytes -= old.message.size(),
            None => self.waiting += 1,
        }
        old
    }

    pub(super) fn front(&mut self, now: Millis) -> Option<&Entry> {
        if self.ready.is_none() {
            if self.waiting == 0 || self.next > now {
                return None;
            }
            let waiting = self.topics.iter().filter(|(_, topic)| topic.waiting.is_some());
            let due = waiting.clone().filter(|(_, topic)| topic.next <= now);
            let first = due.min_by_key(|(_, topic)| topic.waiting.as_ref().map(|entry| entry.since));
            self.ready = first.map(|(name, _)| name.clone());
            if self.ready.is_none() {
                self.next = waiting.map(|(_, topic)| topic.next).min().unwrap_or(now);
            }
        }
        self.topics.get(self.ready.as_ref()?)?.waiting.as_ref()
    }

    pub(super) fn pop(&mut self, now: Millis) -> Option<Entry> {
        let topic = self.topics.get_mut(&self.ready.take()?)?;
        let entry = topic.waiting.take()?;
        topic.next = Millis(now.0 + self.every);
        self.waiting -= 1;
        self.bytes -= entry.message.size();
        Some(entry)
    }

    pub(super) fn due(&self) -> Option<Millis> {
        (self.waiting > 0).then_some(self.next)
    }

    pub(super) fn remove_at_most_once(&mut self) {
        self.ready = None;
        for topic in self.topics.values_mut() {
            if topic.waiting.as_ref().is_some_and(|entry| entry.sequence.is_none())
                && let Some(entry) = topic.waiting.take()
            {
                self.waiting -= 1;
                self.bytes -= entry.message.size();
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn oldest(&self) -> Option<Millis> {
        self.topics.values().filter_map(|topic| Some(topic.waiting.as_ref()?.since)).min()
    }
}
