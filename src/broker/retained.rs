//! Retained messages: the newest of each topic (section 3.3.1.3).

use std::collections::{BTreeSet, HashMap};
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::mqtt::{Message, Millis, Publication, topic};

/// Retained messages by topic. Replacing the value of a known topic needs a shared reference only.
#[derive(Debug, Default)]
pub struct Retained {
    values: HashMap<Arc<str>, Mutex<Stored>, foldhash::fast::RandomState>,
    /// The same topics in order, so that a filter is answered from those that share its beginning.
    topics: BTreeSet<Arc<str>>,
    /// Of all messages, with their bookkeeping.
    bytes: AtomicUsize,
}

/// A message, and who published it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The message.
    pub message: Message,
    /// [`SessionSlot::publisher`](super::SessionSlot::publisher); `None` for the gateway itself. Who asked for no messages of its
    /// own does not get them later, either [MQTT-3.8.3-3].
    pub publisher: Option<Arc<str>>,
    /// Its sequence in the journal, where it is recorded.
    pub sequence: Option<u64>,
}

/// What has changed for the journal: sequences of the message that is gone and of the one that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Of the message that is gone.
    pub old: Option<u64>,
    /// Of the message that is there.
    pub new: Option<u64>,
}

impl Retained {
    /// Replaces the message of a topic that has one; `next_sequence` gives the new one its sequence. `None` where it
    /// has none, or where `publication` removes it: then [`Retained::store`] is needed.
    pub fn replace(
        &self,
        publication: &Publication<'_>,
        publisher: Option<&Arc<str>>,
        next_sequence: impl FnOnce() -> Option<u64>,
    ) -> Option<Change> {
        if publication.payload.is_empty() {
            // Nothing to remove is the same as removed.
            return (!self.values.contains_key(publication.topic)).then(Change::default);
        }
        match self.values.get(publication.topic) {
            Some(value) => {
                let message = publication.keep().clone();
                let size = message.size();
                let mut value = value.lock().unwrap_or_else(PoisonError::into_inner);
                let old = std::mem::replace(&mut value.message, message);
                if value.publisher.as_ref() != publisher {
                    value.publisher = publisher.map(Arc::clone);
                }
                let new = next_sequence();
                let change = Change { old: std::mem::replace(&mut value.sequence, new), new };
                drop(value);
                self.bytes.fetch_add(size, Ordering::Relaxed);
                self.bytes.fetch_sub(old.size(), Ordering::Relaxed);
                Some(change)
            }
            None => None,
        }
    }

    /// Stores a message, or removes the one of its topic where its payload is empty [MQTT-3.3.1-6].
    pub fn store(
        &mut self,
        publication: &Publication<'_>,
        publisher: Option<&Arc<str>>,
        next_sequence: impl Fn() -> Option<u64>,
    ) -> Change {
        if publication.payload.is_empty() {
            let old = self.values.remove(publication.topic);
            self.topics.remove(publication.topic);
            let old = old.map(|old| old.into_inner().unwrap_or_else(PoisonError::into_inner));
            *self.bytes.get_mut() -= old.as_ref().map_or(0, |old| old.message.size());
            Change { old: old.and_then(|old| old.sequence), new: None }
        } else if let Some(change) = self.replace(publication, publisher, &next_sequence) {
            change
        } else {
            let topic: Arc<str> = publication.topic.into();
            self.topics.insert(Arc::clone(&topic));
            let message = publication.keep().clone();
            *self.bytes.get_mut() += message.size();
            let publisher = publisher.map(Arc::clone);
            let sequence = next_sequence();
            self.values.insert(topic, Mutex::new(Stored { message, publisher, sequence }));
            Change { old: None, new: sequence }
        }
    }

    /// Calls `visit` with each message whose topic `filter` matches and that has not expired at `now`, in the order of
    /// the topics, beginning behind the topic `after`, until it breaks. `true` where all have been visited.
    pub fn matching(
        &self,
        filter: &str,
        after: Option<&str>,
        now: Millis,
        mut visit: impl FnMut(&Arc<str>, Stored) -> ControlFlow<()>,
    ) -> bool {
        let mut visit = |topic: &Arc<str>| {
            let Some(value) = self.values.get(topic) else {
                return ControlFlow::Continue(());
            };
            let stored = value.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if stored.message.is_expired(now) { ControlFlow::Continue(()) } else { visit(topic, stored) }
        };
        let Some(wildcard) = filter.find(['+', '#']) else {
            let topic = self.topics.get(filter).filter(|_| after.is_none());
            return topic.is_none_or(|topic| visit(topic).is_continue());
        };
        // `a/#` also matches `a`, so the common beginning is without the slash.
        let beginning = filter[..wildcard].trim_end_matches('/');
        let first = after.map_or(Bound::Included(beginning), Bound::Excluded);
        for topic in self.topics.range::<str, _>((first, Bound::Unbounded)) {
            if !topic.starts_with(beginning) {
                break;
            }
            if topic::matches(filter, topic) && visit(topic).is_break() {
                return false;
            }
        }
        true
    }

    /// Whether something has expired at `now`.
    pub fn has_expired(&self, now: Millis) -> bool {
        self.values.values().any(|value| value.lock().unwrap_or_else(PoisonError::into_inner).message.is_expired(now))
    }

    /// Removes what has expired at `now`, and returns the sequences of what was recorded of it.
    pub fn remove_expired(&mut self, now: Millis) -> Vec<u64> {
        let mut expired = Vec::new();
        let (topics, bytes) = (&mut self.topics, self.bytes.get_mut());
        self.values.retain(|topic, value| {
            let Stored { message, sequence, .. } = value.get_mut().unwrap_or_else(PoisonError::into_inner);
            let keep = !message.is_expired(now);
            if !keep {
                *bytes -= message.size();
                topics.remove(topic);
                expired.extend(*sequence);
            }
            keep
        });
        expired
    }

    /// Whether `publication` may be stored within these bounds: one that is there already may be replaced, and removed.
    pub fn has_room(&self, publication: &Publication<'_>, messages: usize, bytes: usize) -> bool {
        let added = publication.payload.len();
        if added == 0 || self.bytes() + added <= bytes && self.len() < messages {
            return true;
        }
        let known = self.values.get(publication.topic);
        let freed = known.map(|known| known.lock().unwrap_or_else(PoisonError::into_inner).message.size());
        freed.is_some_and(|freed| self.bytes() + added <= bytes + freed)
    }

    /// Bytes of all messages, with their bookkeeping.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Topics that have a retained message.
    pub fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{MessageBuilder, TopicName};

    fn store(retained: &mut Retained, topic: &str, payload: &str) {
        let topic = TopicName::new(topic).unwrap();
        let message = MessageBuilder::new(&topic, payload.as_bytes()).retain(true).build();
        let publication = Publication::from_message(&message);
        if retained.replace(&publication, None, || None).is_none() {
            retained.store(&publication, None, || None);
        }
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        let mut found = Vec::new();
        // One at a time, as to a client that takes no more.
        loop {
            let after = found.last().cloned();
            let all = retained.matching(filter, after.as_deref(), Millis(0), |topic, _| {
                found.push(topic.to_string());
                ControlFlow::Break(())
            });
            if all {
                break;
            }
        }
        found
    }

    #[test]
    fn filters_find_what_they_match_and_an_empty_payload_clears() {
        let mut retained = Retained::default();
        for topic in ["a", "a/b", "a/c/d", "ab", "$SYS/x", "b/b"] {
            store(&mut retained, topic, "1");
        }
        assert_eq!(topics(&retained, "a/#"), ["a", "a/b", "a/c/d"]);
        assert_eq!(topics(&retained, "a"), ["a"]);
        assert_eq!(topics(&retained, "+/b"), ["a/b", "b/b"]);
        assert_eq!(topics(&retained, "#"), ["a", "a/b", "a/c/d", "ab", "b/b"]);
        assert_eq!(topics(&retained, "$SYS/#"), ["$SYS/x"]);
        assert_eq!(topics(&retained, "ab"), ["ab"]);
        store(&mut retained, "a/b", "");
        assert_eq!(topics(&retained, "a/#"), ["a", "a/c/d"]);
        for topic in ["a", "a/c/d", "ab", "$SYS/x", "b/b"] {
            assert!(retained.bytes() > 0);
            store(&mut retained, topic, "22");
            store(&mut retained, topic, "");
        }
        assert_eq!((retained.bytes(), retained.len()), (0, 0));
    }
}
