//! Several messages of one topic go as one JSON array, whose acknowledgement is theirs.

use std::sync::Arc;

use crate::broker::delivery::Delivery;
use crate::broker::delivery_queue::{DeliveryQueue, Entry};
use crate::broker::envelope::Sealed;
use crate::clock;
use crate::mapping::hop_payload::{HopPayload, Outgoing};
use crate::mqtt::{MessageBuilder, Millis, TopicName};

/// Bytes of a packet around its payload and topic, generously.
const PACKET_OVERHEAD: usize = 128;

/// Collects the messages of a lane. Once the first of them has waited long enough, or there are enough, all that wait
/// go, topic by topic.
#[derive(Debug)]
pub(super) struct Batching {
    /// How long the first message waits for others, in milliseconds.
    every: u64,
    /// The most messages in one array.
    max: usize,
    /// When the first came of those that are not due.
    since: Option<Millis>,
    /// How many go now.
    due: usize,
    /// The array that goes next, and what it is made of.
    ready: Option<Entry>,
    prepared: Vec<Entry>,
}

impl Batching {
    pub(super) fn new(every: u64, max: usize) -> Self {
        Self { every, max, since: None, due: 0, ready: None, prepared: Vec::new() }
    }

    /// Notes that a message came at `since`.
    pub(super) fn note(&mut self, since: Millis) {
        self.since.get_or_insert(since);
    }

    pub(super) fn front(&mut self, queue: &mut DeliveryQueue, now: Millis, maximum_packet: usize) -> Option<&Entry> {
        if self.ready.is_none() {
            let waiting = queue.len();
            self.due = self.due.min(waiting);
            if self.due == 0 {
                if waiting >= self.max {
                    self.due = waiting - waiting % self.max;
                } else if waiting > 0 && self.since.is_none_or(|since| now.since(since) >= self.every) {
                    self.due = waiting;
                }
                if self.due > 0 {
                    self.since = (waiting > self.due).then_some(now);
                }
            }
            if self.due > 0 {
                self.prepare(queue, now, maximum_packet);
            }
        }
        self.ready.as_ref()
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        self.prepared.clear();
        self.ready.take()
    }

    pub(super) fn due(&self, queue: &DeliveryQueue) -> Option<Millis> {
        if self.ready.is_some() || self.due > 0 || queue.is_empty() {
            return None;
        }
        Some(self.since.map_or(Millis(0), |since| Millis(since.0 + self.every)))
    }

    pub(super) fn dissolve(&mut self, queue: &mut DeliveryQueue) {
        self.ready = None;
        self.due += self.prepared.len();
        queue.put_back(std::mem::take(&mut self.prepared));
    }

    pub(super) fn prepared(&self) -> &[Entry] {
        &self.prepared
    }

    /// Makes the next array: of the first message, and those behind it that go to the same topic in the same way.
    fn prepare(&mut self, queue: &mut DeliveryQueue, now: Millis, maximum_packet: usize) {
        let Some(first) = queue.front() else {
            return;
        };
        let (qos, retain) = (first.qos, first.retain);
        let mut topic = String::new();
        remap(first, &mut topic);
        let length = seal(first, &topic, b"[]").map_or(topic.len(), |(topic, _)| topic.len());
        let room = maximum_packet.saturating_sub(length + PACKET_OVERHEAD);
        let (mut array, mut count, mut other) = (vec![b'['], 0, String::new());
        let (max, due) = (self.max, self.due);
        let mut is_full = false;
        self.prepared = queue.take_where(due, |entry| {
            if is_full || (entry.qos, entry.retain) != (qos, retain) {
                return false;
            }
            other.clear();
            remap(entry, &mut other);
            if other != topic {
                return false;
            }
            // What has expired is over with the others.
            if entry.is_expired(now) {
                return true;
            }
            let before = array.len();
            if count > 0 {
                array.push(b',');
            }
            element(entry, &mut array);
            if count > 0 && (array.len() + 1 > room || count >= max) {
                // The order of a topic is kept: nothing behind this one goes before it.
                array.truncate(before);
                is_full = true;
                return false;
            }
            count += 1;
            true
        });
        array.push(b']');
        self.due -= self.prepared.len().min(self.due);
        self.ready = self.prepared.first().map(|first| {
            let (topic, array) = seal(first, &topic, &array).unwrap_or((topic, array));
            combined(first, &self.prepared, &topic, &array, count)
        });
    }
}

/// The entry of an array.
fn combined(first: &Entry, parts: &[Entry], topic: &str, array: &[u8], count: usize) -> Entry {
    let message = match TopicName::new(topic) {
        Ok(topic) => MessageBuilder::new(&topic, array)
            .qos(first.qos)
            .retain(first.retain)
            .expires_at((count == 0).then_some(Millis(0)))
            .build(),
        // A remap makes topic names only; this would go nowhere.
        Err(_) => first.message.clone(),
    };
    Entry {
        message,
        settles: Some(parts.iter().filter_map(|entry| entry.sequence).collect()),
        // It is remapped already, and stays as it is.
        delivery: Arc::new(Delivery { route: None, ..(*first.delivery).clone() }),
        pending: None,
        ..first.clone()
    }
}

/// Topic and payload of an array that is made of `first` and others, where its server has forms of its own.
fn seal(first: &Entry, topic: &str, array: &[u8]) -> Option<(String, Vec<u8>)> {
    let envelope = first.delivery.route.as_ref()?.envelope.as_ref()?;
    match envelope.seal(topic, array, &Outgoing { payload: array, reading: None, ..first.outgoing() }) {
        Sealed::As { topic, payload } => Some((topic, payload.unwrap_or_else(|| array.to_vec()))),
        Sealed::AsItIs | Sealed::Nothing(_) => None,
    }
}

fn remap(entry: &Entry, into: &mut String) {
    match &entry.delivery.route {
        Some(route) if route.remap.apply(entry.message.topic(), into) => {}
        _ => into.push_str(entry.message.topic()),
    }
}

/// Appends what stands for a message in an array.
fn element(entry: &Entry, into: &mut Vec<u8>) {
    let outgoing = entry.outgoing();
    match &entry.delivery.route {
        Some(route) => route.payload.encode_element(&outgoing, into),
        None => HopPayload::AsPublished.encode_element(&outgoing, into),
    }
}

impl Entry {
    /// What is known of its message when it is sent.
    pub(in crate::broker) fn outgoing(&self) -> Outgoing<'_> {
        let message = &self.message;
        Outgoing {
            topic: message.topic(),
            payload: message.payload(),
            reading: message.reading.as_deref(),
            time: match &message.reading {
                Some(reading) => clock::correct(reading.sampled),
                None => clock::wall_of(self.since),
            },
        }
    }
}
