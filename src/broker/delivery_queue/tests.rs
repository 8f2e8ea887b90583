//! The queue beside a model: what is on disk is a map here, and pages are read from it as the pager does.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::mqtt::TopicName;

const NO_LIMITS: QueueLimits = QueueLimits { messages: usize::MAX, bytes: usize::MAX, when_full: WhenFull::DropOldest };

fn entry(sequence: Option<u64>, payload: usize) -> Entry {
    Entry {
        lane: 0,
        since: Millis(0),
        settles: None,
        sequence,
        message: Message::new(&TopicName::new("t").unwrap(), &vec![0; payload]),
        qos: if sequence.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain: false,
        delivery: Arc::new(Delivery::at_most(QoS::AtLeastOnce)),
        pending: None,
    }
}

fn limits(messages: usize, bytes: usize) -> QueueLimits {
    QueueLimits { messages, bytes, ..NO_LIMITS }
}

/// Puts a message into a queue in memory; the sequences that were dropped.
fn put(queue: &mut DeliveryQueue, entry: Entry, limits: &QueueLimits) -> Vec<u64> {
    let mut dropped = Vec::new();
    match queue.make_room(entry.message.size(), limits, |gone| dropped.extend(gone.first..=gone.last)) {
        Some(count) => {
            assert_eq!(count, dropped.len() as u64);
            queue.push(entry, None);
        }
        None => dropped.extend(entry.sequence),
    }
    dropped
}

fn drain(queue: &mut DeliveryQueue) -> Vec<u64> {
    std::iter::from_fn(|| queue.pop()).filter_map(|entry| entry.sequence).collect()
}

#[test]
fn a_full_queue_drops_the_oldest_and_goes_on() {
    let mut queue = DeliveryQueue::default();
    let limits = limits(3, 10_000);
    let mut dropped = Vec::new();
    for sequence in 0..5 {
        dropped.extend(put(&mut queue, entry(Some(sequence), 1), &limits));
    }
    dropped.extend(put(&mut queue, entry(Some(5), 20_000), &limits));
    assert_eq!(dropped, [0, 1, 5]);
    assert_eq!((drain(&mut queue), queue.bytes()), (vec![2, 3, 4], 0));
}

#[test]
fn a_full_queue_drops_the_newest_where_it_is_to() {
    let mut queue = DeliveryQueue::default();
    let limits = QueueLimits { when_full: WhenFull::DropNewest, ..limits(3, 10_000) };
    let dropped: Vec<u64> = (0..5).flat_map(|sequence| put(&mut queue, entry(Some(sequence), 1), &limits)).collect();
    assert_eq!(dropped, [3, 4]);
    assert!(queue.pop().is_some());
    assert!(put(&mut queue, entry(Some(5), 1), &limits).is_empty());
    assert_eq!(drain(&mut queue), [1, 2, 5]);
}

#[test]
fn without_a_journal_everything_stays_in_memory() {
    let mut queue = DeliveryQueue::default();
    for sequence in 0..5000 {
        queue.push(entry(Some(sequence), 1), None);
    }
    assert_eq!(queue.in_memory().0, 5000);
    assert!(!queue.wants_page() && !queue.has_on_disk());
    assert_eq!(drain(&mut queue), (0..5000).collect::<Vec<_>>());
}

/// A queue with a journal, and what is recorded of it.
struct World {
    queue: DeliveryQueue,
    journal: Journal,
    batch: Batch,
    recorded: BTreeMap<u64, Entry>,
    /// Below which everything has been appended.
    appended: u64,
    next: u64,
    popped: Vec<u64>,
    at_most_once: usize,
}

impl World {
    fn new() -> Self {
        Self {
            queue: DeliveryQueue::default(),
            journal: Journal::in_memory(),
            batch: Batch::default(),
            recorded: BTreeMap::new(),
            appended: 0,
            next: 0,
            popped: Vec::new(),
            at_most_once: 0,
        }
    }

    fn push(&mut self, count: u64, payload: usize) {
        for _ in 0..count {
            let entry = entry(Some(self.next), payload);
            self.recorded.insert(self.next, entry.clone());
            self.batch.settle(crate::store::Delivered { queue: crate::store::QueueId(1), sequence: self.next });
            self.queue.push(entry, Some(Recording { batch: &mut self.batch, journal: &self.journal }));
            self.next += 1;
        }
    }

    fn append(&mut self) {
        self.journal.append(&mut self.batch);
        self.appended = self.next;
    }

    fn settle(&mut self, gone: Sequences) -> u64 {
        let all: Vec<u64> = self.recorded.range(gone.first..=gone.last).map(|(sequence, _)| *sequence).collect();
        for sequence in &all {
            self.recorded.remove(sequence);
        }
        all.len() as u64
    }

    fn pop(&mut self, count: usize) {
        for _ in 0..count {
            let Some(entry) = self.queue.pop() else { return };
            match entry.sequence {
                Some(sequence) => {
                    assert!(self.recorded.remove(&sequence).is_some(), "{sequence} was not there any more");
                    self.popped.push(sequence);
                }
                None => self.at_most_once -= 1,
            }
        }
    }

    /// Reads a page, at most `most` messages. `false` where none is to be had now.
    fn page(&mut self, most: usize) -> bool {
        let Some(PageAt::Now(request)) = self.queue.next_page(&self.journal) else {
            return false;
        };
        assert!(request.end <= self.appended, "a page beyond what has been appended");
        let mut bytes = 0;
        let mut entries = Vec::new();
        let mut end = request.end;
        for (sequence, entry) in self.recorded.range(request.from..) {
            if *sequence >= request.end || entries.len() == most.min(request.messages) || bytes >= request.bytes {
                end = end.min(*sequence);
                break;
            }
            bytes += entry.message.size();
            entries.push(entry.clone());
        }
        self.queue.put_page(entries, end);
        true
    }

    fn check(&self) {
        let (messages, bytes) = self.queue.in_memory();
        assert!(messages - self.at_most_once <= 3 * WINDOW_MESSAGES, "{messages} messages in memory");
        assert!(bytes <= 4 * WINDOW_BYTES, "{bytes} bytes in memory");
        assert_eq!(self.queue.at_most_once().0, self.at_most_once);
        assert!(self.queue.has_on_disk() || self.queue.len() == messages);
        if self.queue.front().is_none() && !self.queue.is_empty() {
            assert!(self.queue.wants_page(), "it would never go on");
        }
    }

    /// Everything that is recorded comes, in order.
    fn drain(&mut self) {
        self.append();
        while !self.queue.is_empty() {
            self.page(usize::MAX);
            self.pop(100);
            self.check();
        }
        assert!(self.recorded.is_empty(), "{} messages were left behind", self.recorded.len());
        assert!(self.popped.is_sorted_by(|a, b| a < b), "out of order");
        assert_eq!((self.queue.len(), self.queue.bytes()), (0, 0));
    }
}

#[test]
fn a_long_queue_keeps_its_ends_in_memory_and_counts_the_rest() {
    let mut world = World::new();
    for _ in 0..2000 {
        world.push(100, 100);
        world.append();
    }
    world.check();
    let size = entry(Some(0), 100).message.size();
    assert_eq!((world.queue.len(), world.queue.bytes()), (200_000, 200_000 * size));
    assert!(world.queue.in_memory().0 <= 2 * WINDOW_MESSAGES);
    world.drain();
    assert_eq!(world.popped.len(), 200_000);
}

#[test]
fn a_receiver_that_has_caught_up_is_served_from_memory() {
    let mut world = World::new();
    world.push(5000, 10);
    world.append();
    while world.queue.has_on_disk() {
        world.page(usize::MAX);
        world.pop(100);
    }
    world.push(100, 10);
    assert!(!world.queue.has_on_disk());
    world.drain();
    assert_eq!(world.popped, (0..5000 + 100).collect::<Vec<_>>());
}

#[test]
fn no_page_is_read_beyond_a_batch_that_has_not_been_appended() {
    let mut world = World::new();
    world.push(1500, 10);
    world.append();
    world.push(3000, 10);
    world.pop(usize::MAX);
    while world.page(usize::MAX) {
        world.pop(usize::MAX);
    }
    assert_eq!(world.queue.next_page(&world.journal), Some(PageAt::Later(None)));
    assert_eq!(world.popped.len(), 1500);
    world.append();
    assert!(world.page(usize::MAX));
    world.drain();
}

#[test]
fn dropping_the_oldest_goes_on_from_memory_to_disk_to_memory() {
    let mut world = World::new();
    world.push(5000, 10);
    world.append();
    let mut count = 0;
    while let dropped @ 1.. = world.queue.drop_oldest(1, |gone| {
        let messages = world.recorded.extract_if(gone.first..=gone.last, |_, _| true).count();
        assert_eq!(messages, 1);
    }) {
        count += dropped;
        assert_eq!(world.queue.len() as u64, 5000 - count);
    }
    assert_eq!(count, 5000);
    assert_eq!(world.queue.bytes(), 0);
    world.drain();
}

#[test]
fn what_does_not_fit_drops_as_many_bytes_from_disk_at_once() {
    let mut world = World::new();
    world.push(20_000, 100);
    world.append();
    let size = entry(Some(0), 100).message.size();
    let limits = limits(usize::MAX, 10_000 * size);
    let mut settles = 0;
    let recorded = &mut world.recorded;
    let dropped = world.queue.make_room(size, &limits, |gone| {
        settles += 1;
        recorded.retain(|sequence, _| !(gone.first..=gone.last).contains(sequence));
    });
    assert_eq!(dropped, Some(10_001));
    assert!(settles < WINDOW_MESSAGES + 10, "{settles} records");
    assert_eq!((world.queue.len(), world.recorded.len()), (9_999, 9_999));
    world.drain();
}

#[test]
fn a_restored_queue_pages_over_the_holes_in_it() {
    let mut world = World::new();
    for sequence in (0..30_000).filter(|sequence| sequence % 7 != 3) {
        world.recorded.insert(sequence, entry(Some(sequence), 10));
    }
    let messages = world.recorded.len();
    (world.next, world.appended) = (30_000, 30_000);
    world.queue.restore(messages as u64, 1_000_000, 0, 30_000);
    assert_eq!((world.queue.len(), world.queue.bytes()), (messages, 1_000_000));
    world.push(3000, 10);
    assert_eq!(world.queue.len(), messages + 3000);
    world.drain();
    assert_eq!(world.popped.len(), messages + 3000);
}

#[derive(Debug, Clone)]
enum Step {
    Push(u64, usize),
    PushAtMostOnce,
    Append,
    Pop(usize),
    Page(usize),
    /// A page that was asked for before something was dropped.
    PageAcrossDrop(u64),
    Drop(u64),
    RemoveEvery(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..1500u64, 1..2000usize).prop_map(|(count, payload)| Step::Push(count, payload)),
        1 => Just(Step::PushAtMostOnce),
        4 => Just(Step::Append),
        3 => (1..2000usize).prop_map(Step::Pop),
        4 => prop_oneof![1..50usize, Just(usize::MAX)].prop_map(Step::Page),
        1 => (1..100_000u64).prop_map(Step::PageAcrossDrop),
        1 => (1..1_000_000u64).prop_map(Step::Drop),
        1 => (2..10u64).prop_map(Step::RemoveEvery),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_and_nothing_overtakes(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        let drop_oldest = |world: &mut World, bytes: u64| {
            let mut gone = Vec::new();
            let count = world.queue.drop_oldest(bytes, |sequences| gone.push(sequences));
            let settled: u64 = gone.iter().map(|gone| world.settle(*gone)).sum();
            if gone.is_empty() {
                world.at_most_once -= count as usize;
            }
            (count, settled)
        };
        let mut has_holes = false;
        for step in steps {
            match step {
                Step::Push(count, payload) => world.push(count, payload),
                Step::PushAtMostOnce => {
                    world.queue.push(entry(None, 10), None);
                    world.at_most_once += 1;
                }
                Step::Append => world.append(),
                Step::Pop(count) => world.pop(count),
                Step::Page(most) => _ = world.page(most),
                Step::PageAcrossDrop(bytes) => {
                    if let Some(PageAt::Now(request)) = world.queue.next_page(&world.journal) {
                        let page: Vec<Entry> =
                            world.recorded.range(request.from..request.end).map(|(_, entry)| entry.clone()).take(50).collect();
                        let end = page.last().and_then(|entry| entry.sequence).map_or(request.end, |last| last + 1);
                        // From the disk, which is where the page comes from.
                        while world.queue.front().is_some() {
                            world.pop(1);
                        }
                        drop_oldest(&mut world, bytes);
                        world.queue.put_page(page, end);
                    }
                }
                Step::Drop(bytes) => {
                    let (count, settled) = drop_oldest(&mut world, bytes);
                    prop_assert!(has_holes || settled == 0 || settled == count);
                }
                Step::RemoveEvery(nth) => {
                    has_holes = true;
                    let mut removed = Vec::new();
                    world.queue.remove_if(|entry| {
                        let goes = entry.sequence.is_some_and(|sequence| sequence % nth == 0);
                        removed.extend(entry.sequence.filter(|_| goes));
                        goes
                    });
                    for sequence in removed {
                        prop_assert!(world.recorded.remove(&sequence).is_some());
                    }
                }
            }
            world.check();
            if !has_holes {
                prop_assert_eq!(world.queue.len(), world.recorded.len() + world.at_most_once);
            }
        }
        world.drain();
    }
}
