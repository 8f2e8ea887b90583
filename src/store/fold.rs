//! What is alive: the fold over the journal's records, the same while it is written and when it is opened.
//!
//! It goes by (queue, sequence) and does not depend on the order in which concurrent batches reached the journal: what
//! is settled before it came is remembered as early, and is dead when it comes. `next` of a [`Numbers`] is the first
//! number that has been neither seen nor settled; whatever comes below it has been seen before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::extents::{Extent, Extents, SegmentNumber};
use super::notes::Notes;
use super::record::{Delivered, Deliveries, MessageView, QueueId, Record, Sequences, SessionState};
use super::restored::{Queued, RestoredSession};
use crate::clock::Moment;
use crate::mqtt::packet::SubscriptionOptions;
use crate::mqtt::{Message, Millis, PacketId, TopicFilter};

/// How far beyond what has come a settle is remembered. Far more than all batches that may be under way hold.
const MAX_EARLY: u64 = 1 << 17;

/// All that is alive.
#[derive(Debug, Default)]
pub(super) struct Fold {
    queues: HashMap<QueueId, Queue, foldhash::fast::RandomState>,
    /// Living deliveries of each segment.
    segments: BTreeMap<SegmentNumber, Share>,
    next_queue: u64,
    /// What the clocks said last.
    pub time: Option<Moment>,
}

/// How much of a segment lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Deliveries that live.
    pub alive: u64,
    /// Deliveries that ever stood there.
    pub total: u64,
}

#[derive(Debug, Default)]
struct Queue {
    session: Option<SessionState>,
    away_since: Option<Millis>,
    subscriptions: BTreeMap<Box<str>, (SubscriptionOptions, Option<u32>)>,
    notes: Notes,
    alive: Extents,
    sequences: Numbers,
    received: BTreeSet<u64>,
    displaced: BTreeMap<u64, PacketId>,
    receipts: BTreeMap<u64, PacketId>,
    exchanges: Numbers,
}

/// Numbers that come in any order, and are settled in any order.
#[derive(Debug, Default)]
struct Numbers {
    /// All below have come, or have been settled.
    next: u64,
    /// From `next` on: settled already, whether they came or not.
    early: BTreeSet<u64>,
}

impl Queue {
    fn subscriptions(&self) -> impl Iterator<Item = (TopicFilter, SubscriptionOptions, Option<u32>)> {
        let subscriptions = self.subscriptions.iter();
        subscriptions
            .filter_map(|(filter, &(options, identifier))| Some((TopicFilter::new(filter).ok()?, options, identifier)))
    }

    fn forget_state_of(&mut self, Sequences { first, last }: Sequences) {
        if first == last {
            self.received.remove(&first);
            self.displaced.remove(&first);
        } else {
            self.received.retain(|sequence| !(first..=last).contains(sequence));
            self.displaced.retain(|sequence, _| !(first..=last).contains(sequence));
        }
    }
}

impl Numbers {
    /// Takes a number that comes. Whether it is alive: neither seen before, nor settled.
    fn come(&self, number: u64) -> bool {
        number >= self.next && !self.early.contains(&number)
    }

    /// Goes on over what has come or been settled; `is_alive` says what has come.
    fn advance(&mut self, is_alive: impl Fn(u64) -> bool) {
        while self.early.remove(&self.next) || is_alive(self.next) {
            self.next += 1;
        }
    }

    /// Notes that a number which is not alive is settled.
    fn settle(&mut self, number: u64) {
        if number >= self.next {
            self.early.insert(number);
        }
    }

    /// The number to go on with: beyond all that was ever seen.
    fn restart(&self, highest_alive: Option<u64>) -> u64 {
        let early = self.early.last().copied();
        early.max(highest_alive).map_or(0, |highest| highest + 1).max(self.next)
    }
}

impl Fold {
    pub fn new() -> Self {
        let mut fold = Self { next_queue: 1, ..Self::default() };
        // The queue of retained messages has no session.
        fold.queues.insert(QueueId::RETAINED, Queue::default());
        fold
    }

    /// Takes a record that stands in `segment`.
    pub fn apply(&mut self, record: &Record<'_>, segment: SegmentNumber) {
        match record {
            Record::Publish { message, receipt, deliveries } => {
                if let Some(receipt) = receipt
                    && let Some(queue) = self.queues.get_mut(&receipt.queue)
                    && queue.exchanges.come(receipt.number)
                {
                    queue.receipts.insert(receipt.number, receipt.packet_id);
                    queue.exchanges.advance(|number| queue.receipts.contains_key(&number));
                }
                self.enqueue(message, deliveries, segment);
            }
            Record::Moved { message, deliveries } => self.locate(message, deliveries, segment),
            Record::Received { delivered } => {
                if let Some(queue) = self.queues.get_mut(&delivered.queue)
                    && queue.alive.contains(delivered.sequence)
                {
                    queue.received.insert(delivered.sequence);
                }
            }
            Record::Settle { queue, sequences } => self.settle(*queue, *sequences),
            Record::Release { queue, number } => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    // Those before it may still be on their way, whether it has come or not.
                    queue.receipts.remove(number);
                    queue.exchanges.settle(*number);
                    queue.exchanges.advance(|number| queue.receipts.contains_key(&number));
                }
            }
            Record::Displaced { delivered, packet_id } => {
                if let Some(queue) = self.queues.get_mut(&delivered.queue)
                    && queue.alive.contains(delivered.sequence)
                {
                    queue.displaced.insert(delivered.sequence, *packet_id);
                }
            }
            Record::Session { queue, state } => {
                self.next_queue = self.next_queue.max(queue.0 + 1);
                let queue = self.queues.entry(*queue).or_default();
                queue.session = Some(state.clone());
                queue.away_since = None;
            }
            Record::Away { queue, at } => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.away_since = Some(*at);
                }
            }
            Record::SessionEnd { queue } => {
                if let Some(queue) = self.queues.remove(queue) {
                    for run in queue.alive.iter() {
                        take_from(&mut self.segments, run.segment, run.last - run.first + 1);
                    }
                }
            }
            Record::Subscribe { queue, filter, options, identifier } => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.subscriptions.insert((*filter).into(), (*options, *identifier));
                }
            }
            Record::Unsubscribe { queue, filter } => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.subscriptions.remove(*filter);
                }
            }
            Record::Note { queue, key, value } => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    // Whoever wrote it has kept the bounds.
                    let _ = queue.notes.set(key, value);
                }
            }
            Record::Time(moment) => {
                // A commit between the opening and `clock::resume` is dated by a clock that has just begun.
                if self.time.is_none_or(|last| last.now <= moment.now) {
                    self.time = Some(*moment);
                }
            }
            Record::CheckpointBegin { next_queue } => self.next_queue = self.next_queue.max(*next_queue),
            Record::Queue { .. } | Record::CheckpointEnd => {}
        }
    }

    /// Takes what a checkpoint says of a queue. Where its messages stand is found by [`Fold::locate`].
    pub fn load(&mut self, record: &Record<'_>) {
        let Record::Queue {
            queue,
            next_sequence,
            next_receipt,
            alive,
            early,
            received,
            receipts,
            early_releases,
            displaced,
            away_since,
        } = record
        else {
            return;
        };
        let queue = self.queues.entry(*queue).or_default();
        queue.away_since = *away_since;
        queue.alive = Extents::default();
        for &Sequences { first, last } in alive {
            queue.alive.insert(Extent { first, last, segment: None, bytes: 0 });
        }
        queue.sequences = Numbers { next: *next_sequence, early: early.iter().copied().collect() };
        queue.received = received.iter().copied().collect();
        queue.displaced = displaced.iter().copied().collect();
        queue.receipts = receipts.iter().copied().collect();
        queue.exchanges = Numbers { next: *next_receipt, early: early_releases.iter().copied().collect() };
    }

    fn enqueue(&mut self, message: &MessageView<'_>, deliveries: &Deliveries<'_>, segment: SegmentNumber) {
        let bytes = size_of_message(message);
        for (Delivered { queue, sequence }, _) in deliveries.iter() {
            let share = self.segments.entry(segment).or_default();
            share.total += 1;
            // A session that has ended takes nothing more.
            let Some(queue) = self.queues.get_mut(&queue) else {
                continue;
            };
            if queue.sequences.come(sequence) && !queue.alive.contains(sequence) {
                share.alive += 1;
                queue.alive.insert(Extent { first: sequence, last: sequence, segment: Some(segment), bytes });
                queue.sequences.advance(|sequence| queue.alive.contains(sequence));
            } else if let Some(old) = queue.alive.relocate(sequence, segment, bytes) {
                // Written twice: the first writing was not committed for certain.
                share.alive += 1;
                take_from(&mut self.segments, old, 1);
            }
        }
    }

    /// Notes where living messages stand, without making any alive.
    pub fn locate(&mut self, message: &MessageView<'_>, deliveries: &Deliveries<'_>, segment: SegmentNumber) {
        let bytes = size_of_message(message);
        for (Delivered { queue, sequence }, _) in deliveries.iter() {
            self.segments.entry(segment).or_default().total += 1;
            let old = self.queues.get_mut(&queue).and_then(|queue| queue.alive.relocate(sequence, segment, bytes));
            if let Some(old) = old {
                self.segments.entry(segment).or_default().alive += 1;
                take_from(&mut self.segments, old, 1);
            }
        }
    }

    /// Ends messages. Those that have not come yet are dead when they come; those that were over before they were
    /// written never come.
    pub fn settle(&mut self, queue: QueueId, sequences: Sequences) {
        let Some(queue) = self.queues.get_mut(&queue) else {
            return;
        };
        queue.alive.remove(sequences, |segment, count| take_from(&mut self.segments, segment, count));
        let next = queue.sequences.next;
        if sequences.last >= next {
            for sequence in sequences.first.max(next)..=sequences.last.min(next + MAX_EARLY) {
                queue.sequences.settle(sequence);
            }
            queue.sequences.advance(|sequence| queue.alive.contains(sequence));
        }
        if !(queue.received.is_empty() && queue.displaced.is_empty()) {
            queue.forget_state_of(sequences);
        }
    }

    /// Whether the message lives, and stands in `segment`.
    pub fn stands(&self, delivered: Delivered, segment: SegmentNumber) -> bool {
        self.queues.get(&delivered.queue).is_some_and(|queue| {
            queue
                .alive
                .from(delivered.sequence)
                .next()
                .is_some_and(|run| run.first <= delivered.sequence && run.segment == Some(segment))
        })
    }

    /// What lives and stands in `segment`.
    pub fn standing_in(&self, segment: SegmentNumber) -> Vec<(QueueId, Sequences)> {
        let runs = |(&id, queue): (&QueueId, &Queue)| {
            let here = queue.alive.iter().filter(|run| run.segment == Some(segment));
            here.map(|run| (id, Sequences { first: run.first, last: run.last })).collect::<Vec<_>>()
        };
        self.queues.iter().flat_map(runs).collect()
    }

    /// Whether the message lives.
    pub fn is_alive(&self, delivered: Delivered) -> bool {
        self.queues.get(&delivered.queue).is_some_and(|queue| queue.alive.contains(delivered.sequence))
    }

    /// Where the messages of a queue stand from the sequence `from` on, as far as all before them have come: runs in
    /// their order. No more than `messages`, and none beyond the first run that brings them to `bytes`.
    /// The flag says whether nothing lives behind them.
    pub fn plan(&self, queue: QueueId, from: u64, messages: usize, bytes: usize) -> (Vec<Extent>, bool) {
        let Some(queue) = self.queues.get(&queue) else {
            return (Vec::new(), true);
        };
        let (mut planned, mut left, mut room) = (Vec::new(), messages as u64, bytes as u64);
        for run in queue.alive.from(from) {
            let first = run.first.max(from);
            if left == 0 || room == 0 || first >= queue.sequences.next {
                return (planned, false);
            }
            let average = (run.bytes / (run.last - run.first + 1)).max(1);
            let count = left.min(run.last.min(queue.sequences.next - 1) - first + 1).min(room.div_ceil(average));
            planned.push(Extent { first, last: first + count - 1, bytes: count * average, ..*run });
            left -= count;
            room = room.saturating_sub(count * average);
            if first + count - 1 < run.last {
                return (planned, false);
            }
        }
        (planned, true)
    }

    /// What is alive of each segment.
    pub fn segments(&self) -> &BTreeMap<SegmentNumber, Share> {
        &self.segments
    }

    /// Forgets a segment in which nothing lives.
    pub fn forget(&mut self, segment: SegmentNumber) {
        self.segments.remove(&segment);
    }

    /// The first number that no queue has.
    pub fn next_queue(&self) -> u64 {
        self.next_queue
    }

    /// The next sequence of a queue.
    pub fn next_sequence(&self, queue: QueueId) -> u64 {
        self.queues.get(&queue).map_or(0, |queue| queue.sequences.restart(queue.alive.last()))
    }

    /// Appends a checkpoint: all that is alive, but for the messages.
    pub fn put_checkpoint(&self, into: &mut Vec<u8>) {
        if let Some(moment) = self.time {
            Record::Time(moment).put(into);
        }
        Record::CheckpointBegin { next_queue: self.next_queue }.put(into);
        let mut queues: Vec<_> = self.queues.iter().collect();
        queues.sort_unstable_by_key(|(id, _)| **id);
        for (&id, queue) in queues {
            if let Some(state) = &queue.session {
                Record::Session { queue: id, state: state.clone() }.put(into);
            }
            for (filter, &(options, identifier)) in &queue.subscriptions {
                Record::Subscribe { queue: id, filter, options, identifier }.put(into);
            }
            for (key, value) in queue.notes.iter() {
                Record::Note { queue: id, key, value }.put(into);
            }
            let mut alive: Vec<Sequences> = Vec::new();
            for run in queue.alive.iter() {
                match alive.last_mut() {
                    Some(last) if last.last + 1 == run.first => last.last = run.last,
                    _ => alive.push(Sequences { first: run.first, last: run.last }),
                }
            }
            let record = Record::Queue {
                queue: id,
                next_sequence: queue.sequences.next,
                next_receipt: queue.exchanges.next,
                alive,
                early: queue.sequences.early.iter().copied().collect(),
                received: queue.received.iter().copied().collect(),
                receipts: queue.receipts.iter().map(|(&number, &id)| (number, id)).collect(),
                early_releases: queue.exchanges.early.iter().copied().collect(),
                displaced: queue.displaced.iter().map(|(&sequence, &id)| (sequence, id)).collect(),
                away_since: queue.away_since,
            };
            record.put(into);
        }
        Record::CheckpointEnd.put(into);
    }

    /// Ends the reading of a journal: numbers that were given out and never written will not come any more, and
    /// messages that nobody found are lost. Returns how many.
    pub fn conclude(&mut self) -> u64 {
        let mut lost = 0;
        for queue in self.queues.values_mut() {
            queue.sequences = Numbers { next: queue.sequences.restart(queue.alive.last()), early: BTreeSet::new() };
            let highest = queue.receipts.last_key_value().map(|(&number, _)| number);
            queue.exchanges = Numbers { next: queue.exchanges.restart(highest), early: BTreeSet::new() };
            let nowhere: Vec<Extent> = queue.alive.iter().filter(|run| run.segment.is_none()).copied().collect();
            for run in nowhere {
                let sequences = Sequences { first: run.first, last: run.last };
                queue.alive.remove(sequences, |_, count| lost += count);
                queue.forget_state_of(sequences);
            }
        }
        lost
    }

    /// What the gateway itself has noted.
    pub fn notes(&self) -> Notes {
        self.queues.get(&QueueId::RETAINED).map(|queue| queue.notes.clone()).unwrap_or_default()
    }

    /// The durable sessions, by their queues.
    pub fn sessions(&self) -> Vec<RestoredSession> {
        let restored = |(&id, queue): (&QueueId, &Queue)| {
            let highest = queue.receipts.last_key_value().map(|(&number, _)| number);
            Some(RestoredSession {
                queue: id,
                state: queue.session.clone()?,
                away_since: queue.away_since,
                subscriptions: queue.subscriptions().collect(),
                notes: queue.notes.clone(),
                next_sequence: queue.sequences.restart(queue.alive.last()),
                next_receipt: queue.exchanges.restart(highest),
                receipts: queue.receipts.iter().map(|(&number, &id)| (number, id)).collect(),
                received: queue.received.iter().copied().collect(),
                displaced: queue.displaced.iter().map(|(&sequence, &id)| (sequence, id)).collect(),
                queued: Queued { messages: queue.alive.len(), bytes: queue.alive.bytes() },
            })
        };
        let mut sessions: Vec<RestoredSession> = self.queues.iter().filter_map(restored).collect();
        sessions.sort_by_key(|session| session.queue);
        sessions
    }
}

/// What a message counts in the bounds of its queue.
fn size_of_message(message: &MessageView<'_>) -> u64 {
    (message.topic.len() + message.properties.len() + message.payload.len() + size_of::<Message>()) as u64
}

fn take_from(segments: &mut BTreeMap<SegmentNumber, Share>, segment: Option<SegmentNumber>, count: u64) {
    if let Some(share) = segment.and_then(|segment| segments.get_mut(&segment)) {
        share.alive -= count;
    }
}
