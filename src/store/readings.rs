//! Readings that are not in the journal yet: most are delivered before they are due, and then no disk is worn for them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::batch::PendingReading;
use super::record::{self, Delivered, QueueId, Sequences};
use crate::mqtt::{Message, Publication};

/// How long a reading waits that is only retained: a newer one mostly comes before.
const RETAINED: Duration = Duration::from_secs(60);
/// What they take at most; beyond that the oldest are due at once.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Readings that are not in the journal yet.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// By their number, counted from `first`; those that are over leave a gap.
    entries: VecDeque<Option<Entry>>,
    first: u64,
    by_delivery: HashMap<Delivered, u64, foldhash::fast::RandomState>,
    /// Those of the queues of sessions, in the order of their coming.
    queued: VecDeque<u64>,
    /// Those that are retained.
    retained: VecDeque<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    came: Instant,
    message: Message,
    deliveries: Vec<(Delivered, Vec<u8>)>,
}

impl Readings {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_delivery.is_empty()
    }

    /// Takes one.
    pub fn push(&mut self, reading: PendingReading, now: Instant) {
        let number = self.first + self.entries.len() as u64;
        let (mut is_queued, mut is_retained) = (false, false);
        for (delivered, _) in &reading.deliveries {
            self.by_delivery.insert(*delivered, number);
            let retained = delivered.queue == QueueId::RETAINED;
            is_retained |= retained;
            is_queued |= !retained;
        }
        if is_queued {
            self.queued.push_back(number);
        }
        if is_retained {
            self.retained.push_back(number);
        }
        self.bytes += reading.message.size();
        self.entries.push_back(Some(Entry { came: now, message: reading.message, deliveries: reading.deliveries }));
    }

    /// Ends deliveries: what was not in the journal yet is given to `never_written`, all else to `written`.
    pub fn settle(
        &mut self,
        queue: QueueId,
        Sequences { first, last }: Sequences,
        mut written: impl FnMut(Sequences),
        mut never_written: impl FnMut(Sequences),
    ) {
        let mut begin = first;
        if !self.is_empty() {
            for sequence in first..=last {
                if self.remove(Delivered { queue, sequence }) {
                    if begin < sequence {
                        written(Sequences { first: begin, last: sequence - 1 });
                    }
                    never_written(Sequences { first: sequence, last: sequence });
                    begin = sequence + 1;
                }
            }
        }
        if begin <= last {
            written(Sequences { first: begin, last });
        }
    }

    /// When the next one is due: those of queues `wait` after they came.
    pub fn due_at(&mut self, wait: Duration) -> Option<Instant> {
        if self.bytes > MAX_BYTES {
            return self.entries.iter().flatten().map(|entry| entry.came).next();
        }
        let queued = self.front(true).map(|came| came + wait);
        let retained = self.front(false).map(|came| came + RETAINED);
        [queued, retained].into_iter().flatten().min()
    }

    /// Encodes those that are due; all of them where `now` is `None`.
    pub fn encode_due(&mut self, now: Option<Instant>, wait: Duration, into: &mut Vec<u8>) {
        while let Some(due) = self.due_at(wait)
            && now.is_none_or(|now| due <= now)
        {
            let oldest = if self.bytes > MAX_BYTES { self.entries.iter().position(Option::is_some) } else { None };
            let number = match oldest {
                Some(index) => self.first + index as u64,
                None => {
                    let queued = self.front(true).map(|came| came + wait);
                    let list = if queued == Some(due) { &self.queued } else { &self.retained };
                    let Some(&number) = list.front() else { return };
                    number
                }
            };
            self.encode(number, into);
        }
    }

    fn encode(&mut self, number: u64, into: &mut Vec<u8>) {
        let Some(entry) = self.take(number) else {
            return;
        };
        let mut deliveries = Vec::new();
        for (delivered, encoded) in &entry.deliveries {
            self.by_delivery.remove(delivered);
            deliveries.extend_from_slice(encoded);
        }
        let publication = Publication::from_message(&entry.message);
        record::put_publish(into, &publication, None, entry.deliveries.len(), &deliveries);
    }

    /// When the oldest of the queues, or of the retained, came that still waits for that.
    fn front(&mut self, is_queued: bool) -> Option<Instant> {
        loop {
            let list = if is_queued { &self.queued } else { &self.retained };
            let number = *list.front()?;
            let index = number.checked_sub(self.first).map(|index| index as usize);
            let entry = index.and_then(|index| self.entries.get(index)).and_then(Option::as_ref);
            let waits = entry.filter(|entry| {
                entry.deliveries.iter().any(|(delivered, _)| (delivered.queue != QueueId::RETAINED) == is_queued)
            });
            if let Some(entry) = waits {
                return Some(entry.came);
            }
            let list = if is_queued { &mut self.queued } else { &mut self.retained };
            list.pop_front();
        }
    }

    fn remove(&mut self, delivered: Delivered) -> bool {
        let Some(number) = self.by_delivery.remove(&delivered) else {
            return false;
        };
        let entry = self.entries.get_mut((number - self.first) as usize).and_then(Option::as_mut);
        if let Some(entry) = entry {
            entry.deliveries.retain(|(other, _)| *other != delivered);
            if entry.deliveries.is_empty() {
                self.take(number);
            }
        }
        true
    }

    fn take(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.get_mut(number.checked_sub(self.first)? as usize)?.take()?;
        self.bytes -= entry.message.size();
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        if self.is_empty() && self.entries.is_empty() {
            *self = Self { first: self.first, ..Self::default() };
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::TopicName;
    use crate::store::record::{How, Record};

    fn reading(deliveries: &[(u64, u64)]) -> PendingReading {
        let deliveries = deliveries.iter().map(|&(queue, sequence)| {
            let delivered = Delivered { queue: QueueId(queue), sequence };
            let mut encoded = Vec::new();
            record::put_delivery(&mut encoded, delivered, &How::plain(crate::mqtt::QoS::AtLeastOnce, false));
            (delivered, encoded)
        });
        let message = Message::new(&TopicName::new("t").unwrap(), b"1");
        PendingReading { message, deliveries: deliveries.collect() }
    }

    fn settle(readings: &mut Readings, queue: u64, first: u64, last: u64) -> (Vec<Sequences>, Vec<Sequences>) {
        let (mut written, mut never) = (Vec::new(), Vec::new());
        let sequences = Sequences { first, last };
        readings.settle(QueueId(queue), sequences, |range| written.push(range), |range| never.push(range));
        (written, never)
    }

    fn written(readings: &mut Readings, now: Instant) -> Vec<(u64, u64)> {
        let mut bytes = Vec::new();
        readings.encode_due(Some(now), Duration::from_secs(2), &mut bytes);
        let (mut found, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
            let Ok(Record::Publish { deliveries, .. }) = Record::decode(&rest[8..8 + length]) else { panic!() };
            found.extend(deliveries.iter().map(|(delivered, _)| (delivered.queue.0, delivered.sequence)));
            rest = &rest[8 + length..];
        }
        found
    }

    #[test]
    fn what_is_delivered_before_it_is_due_is_never_written() {
        let (mut readings, now) = (Readings::default(), Instant::now());
        for sequence in 5..8 {
            readings.push(reading(&[(1, sequence), (0, sequence)]), now);
        }
        let range = |first, last| Sequences { first, last };
        assert_eq!(settle(&mut readings, 1, 3, 6), (vec![range(3, 4)], vec![range(5, 5), range(6, 6)]));
        // The next retained values take the places of the first two.
        settle(&mut readings, 0, 5, 5);
        settle(&mut readings, 0, 6, 6);
        assert_eq!(written(&mut readings, now + Duration::from_secs(1)), []);
        assert_eq!(written(&mut readings, now + Duration::from_secs(3)), [(1, 7), (0, 7)]);
        assert!(readings.is_empty() && readings.bytes == 0 && readings.entries.is_empty());
        assert_eq!(settle(&mut readings, 1, 7, 7), (vec![range(7, 7)], vec![]));
    }

    #[test]
    fn what_is_only_retained_waits_longer() {
        let (mut readings, now) = (Readings::default(), Instant::now());
        readings.push(reading(&[(1, 1), (0, 1)]), now);
        settle(&mut readings, 1, 1, 1);
        assert_eq!(readings.due_at(Duration::from_secs(2)), Some(now + RETAINED));
        assert_eq!(written(&mut readings, now + Duration::from_secs(59)), []);
        assert_eq!(written(&mut readings, now + RETAINED), [(0, 1)]);
        assert!(readings.is_empty());
    }
}
