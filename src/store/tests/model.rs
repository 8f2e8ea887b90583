//! Whatever happens to the disk, what was committed is there, and what was over does not come back.
//!
//! A case is a list of steps: sessions and messages in batches of several threads, commits, and a disk that fails,
//! runs full and loses power. The log is driven without its thread, so that a case always does the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use proptest::prelude::*;

use super::expected::{Cell, Change, Expected, Stored, Value};
use super::*;
use crate::clock::Moment;
use crate::mqtt::packet::SubscriptionOptions;
use crate::mqtt::{Millis, PacketId};
use crate::store::log::Log;

const SEGMENT_BYTES: u64 = 4096;
const THREADS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Open {
        window: u16,
    },
    Change {
        session: usize,
        window: u16,
    },
    Away {
        session: usize,
    },
    End {
        session: usize,
    },
    Subscribe {
        session: usize,
        filter: u8,
        identifier: Option<u32>,
    },
    Unsubscribe {
        session: usize,
        filter: u8,
    },
    /// By a session, or by the gateway.
    Note {
        session: Option<usize>,
        key: u8,
        value: Option<u8>,
    },
    /// To the sessions whose bits are set.
    Publish {
        thread: usize,
        sessions: u8,
        retained: Option<u8>,
        receipt: Option<usize>,
        length: usize,
    },
    Clear {
        thread: usize,
        topic: u8,
    },
    Settle {
        thread: usize,
        message: usize,
    },
    SettleRange {
        thread: usize,
        message: usize,
        length: u64,
    },
    SettleAll {
        thread: usize,
        session: usize,
    },
    Release {
        thread: usize,
        receipt: usize,
    },
    Received {
        message: usize,
    },
    Displaced {
        message: usize,
        packet_id: u16,
    },
    /// A sequence that is given out and never written.
    Void {
        session: usize,
    },
    /// Appends what a thread has collected.
    Append {
        thread: usize,
    },
    Commit,
    Maintain,
    FailSyncs {
        count: u64,
    },
    FailWrites {
        fails: bool,
    },
    ReadOnly {
        is_read_only: bool,
    },
    Capacity {
        segments: Option<u64>,
    },
    /// The power goes after so many changes of the disk, or before, once something is done.
    Cut {
        changes: u64,
        seed: u64,
    },
    Crash {
        seed: u64,
    },
    /// The process ends, perhaps after so many changes of the disk more, and the computer goes on.
    Kill {
        changes: Option<u64>,
    },
    /// The disk is well, all is appended and committed: everything is exactly as it should be.
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    let thread = || 0..THREADS;
    let pick = || 0..64usize;
    let length = prop_oneof![12 => 0..150usize, 1 => 1000..9000usize];
    let publish =
        (thread(), any::<u8>(), prop::option::weighted(0.3, 0..4u8), prop::option::weighted(0.2, pick()), length);
    prop_oneof![
        4 => (1..9u16).prop_map(|window| Step::Open { window }),
        1 => (pick(), 1..9u16).prop_map(|(session, window)| Step::Change { session, window }),
        1 => pick().prop_map(|session| Step::Away { session }),
        1 => pick().prop_map(|session| Step::End { session }),
        2 => (pick(), 0..4u8, prop::option::of(1..9u32))
            .prop_map(|(session, filter, identifier)| Step::Subscribe { session, filter, identifier }),
        1 => (pick(), 0..4u8).prop_map(|(session, filter)| Step::Unsubscribe { session, filter }),
        2 => (prop::option::weighted(0.8, pick()), 0..4u8, prop::option::weighted(0.7, 0..9u8))
            .prop_map(|(session, key, value)| Step::Note { session, key, value }),
        40 => publish.prop_map(|(thread, sessions, retained, receipt, length)| {
            Step::Publish { thread, sessions, retained, receipt, length }
        }),
        1 => (thread(), 0..4u8).prop_map(|(thread, topic)| Step::Clear { thread, topic }),
        20 => (thread(), pick()).prop_map(|(thread, message)| Step::Settle { thread, message }),
        6 => (thread(), pick(), 0..20u64)
            .prop_map(|(thread, message, length)| Step::SettleRange { thread, message, length }),
        1 => (thread(), pick()).prop_map(|(thread, session)| Step::SettleAll { thread, session }),
        5 => (thread(), pick()).prop_map(|(thread, receipt)| Step::Release { thread, receipt }),
        2 => pick().prop_map(|message| Step::Received { message }),
        2 => (pick(), 1..9u16).prop_map(|(message, packet_id)| Step::Displaced { message, packet_id }),
        2 => pick().prop_map(|session| Step::Void { session }),
        25 => thread().prop_map(|thread| Step::Append { thread }),
        20 => Just(Step::Commit),
        10 => Just(Step::Maintain),
        2 => (1..4u64).prop_map(|count| Step::FailSyncs { count }),
        2 => any::<bool>().prop_map(|fails| Step::FailWrites { fails }),
        1 => any::<bool>().prop_map(|is_read_only| Step::ReadOnly { is_read_only }),
        3 => prop::option::of(0..6u64).prop_map(|segments| Step::Capacity { segments }),
        4 => (0..20u64, any::<u64>()).prop_map(|(changes, seed)| Step::Cut { changes, seed }),
        3 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        3 => prop::option::of(0..20u64).prop_map(|changes| Step::Kill { changes }),
        3 => Just(Step::Check),
    ]
}

/// What one thread has collected.
#[derive(Default)]
struct Thread {
    batch: Batch,
    changes: Vec<Change>,
}

/// A journal and what is known of it.
struct World {
    disk: Simulated,
    log: Log,
    options: JournalOptions,
    threads: [Thread; THREADS],
    /// What waits for a commit, and how many of its changes were in one that failed.
    pending: Vec<u8>,
    changes: Vec<Change>,
    tried: usize,
    void: Vec<(u64, u64)>,
    committed: Expected,
    /// Sessions that have not ended, and the next sequences of theirs and of retained messages.
    sessions: BTreeSet<u64>,
    next_sequence: BTreeMap<u64, u64>,
    next_receipt: BTreeMap<u64, u64>,
    next_queue: u64,
    /// Messages that were given out and are not over, and exchanges.
    messages: BTreeSet<(u64, u64)>,
    receipts: BTreeSet<(u64, u64)>,
    retained: BTreeMap<u8, u64>,
    now: u64,
    published: u64,
    /// Whether the disk may have forgotten what it shows.
    has_dropped: bool,
}

fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: SEGMENT_BYTES,
        checkpoint_spacing: 2 * SEGMENT_BYTES,
        limit: 16 * SEGMENT_BYTES,
        ..JournalOptions::default()
    }
}

fn pick<T: Copy>(set: &BTreeSet<T>, index: usize) -> Option<T> {
    (!set.is_empty()).then(|| set.iter().nth(index % set.len()).copied()).flatten()
}

fn delivered((queue, sequence): (u64, u64)) -> Delivered {
    Delivered { queue: QueueId(queue), sequence }
}

fn id(number: u64) -> PacketId {
    PacketId::new((number % 60_000) as u16 + 1).unwrap()
}

impl World {
    fn new() -> Self {
        let disk = Simulated::new();
        let options = options();
        let (log, _, _) = Log::open(Arc::new(disk.clone()), &options).unwrap();
        Self {
            disk,
            log,
            options,
            threads: Default::default(),
            pending: Vec::new(),
            changes: Vec::new(),
            tried: 0,
            void: Vec::new(),
            committed: Expected::default(),
            sessions: BTreeSet::new(),
            next_sequence: BTreeMap::new(),
            next_receipt: BTreeMap::new(),
            next_queue: 1,
            messages: BTreeSet::new(),
            receipts: BTreeSet::new(),
            retained: BTreeMap::new(),
            now: 0,
            published: 0,
            has_dropped: false,
        }
    }

    fn moment(&mut self) -> Moment {
        self.now += 1;
        Moment { now: Millis(self.now), unbroken_since: Millis(0), wall_ms: self.now as i64, is_synchronised: true }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open { window } => {
                let queue = self.next_queue;
                self.next_queue += 1;
                self.sessions.insert(queue);
                self.next_sequence.insert(queue, 0);
                self.next_receipt.insert(queue, 0);
                self.append_session(queue, window);
            }
            Step::Change { session, window } => {
                if let Some(queue) = pick(&self.sessions, session) {
                    self.append_session(queue, window);
                }
            }
            Step::Away { session } => {
                if let Some(queue) = pick(&self.sessions, session) {
                    let at = self.now + 1;
                    let record = Record::Away { queue: QueueId(queue), at: Millis(at) };
                    self.append_one(&record, Change::Away { queue, at });
                }
            }
            Step::End { session } => {
                if let Some(queue) = pick(&self.sessions, session) {
                    self.sessions.remove(&queue);
                    self.messages.retain(|&(of, _)| of != queue);
                    self.receipts.retain(|&(of, _)| of != queue);
                    self.append_one(&Record::SessionEnd { queue: QueueId(queue) }, Change::End { queue });
                }
            }
            Step::Subscribe { session, filter, identifier } => {
                if let Some(queue) = pick(&self.sessions, session) {
                    let (filter, options) = (format!("f/{filter}"), SubscriptionOptions::default());
                    let record = Record::Subscribe { queue: QueueId(queue), filter: &filter, options, identifier };
                    let change = Change::Subscribe { queue, filter: filter.clone(), options, identifier };
                    self.append_one(&record, change);
                }
            }
            Step::Unsubscribe { session, filter } => {
                if let Some(queue) = pick(&self.sessions, session) {
                    let filter = format!("f/{filter}");
                    let record = Record::Unsubscribe { queue: QueueId(queue), filter: &filter };
                    self.append_one(&record, Change::Unsubscribe { queue, filter: filter.clone() });
                }
            }
            Step::Note { session, key, value } => {
                let queue = session.map_or(Some(0), |session| pick(&self.sessions, session));
                if let Some(queue) = queue {
                    let (key, value) = (format!("k{key}"), value.map_or(String::new(), |value| format!("v{value}")));
                    let record = Record::Note { queue: QueueId(queue), key: &key, value: &value };
                    self.append_one(&record, Change::Note { queue, key: key.clone(), value: value.clone() });
                }
            }
            Step::Publish { thread, sessions, retained, receipt, length } => {
                self.publish(thread, sessions, retained, receipt, length);
            }
            Step::Clear { thread, topic } => {
                if let Some(sequence) = self.retained.remove(&topic) {
                    self.settle(thread, 0, sequence, sequence);
                }
            }
            Step::Settle { thread, message } => {
                if let Some((queue, sequence)) = pick(&self.messages, message) {
                    self.settle(thread, queue, sequence, sequence);
                }
            }
            Step::SettleRange { thread, message, length } => {
                if let Some((queue, first)) = pick(&self.messages, message) {
                    self.settle(thread, queue, first, (first + length).min(self.next_sequence[&queue] - 1));
                }
            }
            Step::SettleAll { thread, session } => {
                if let Some(queue) = pick(&self.sessions, session)
                    && let Some(last) = self.next_sequence[&queue].checked_sub(1)
                {
                    self.settle(thread, queue, 0, last);
                }
            }
            Step::Release { thread, receipt } => {
                if let Some((queue, number)) = pick(&self.receipts, receipt) {
                    self.receipts.remove(&(queue, number));
                    let thread = &mut self.threads[thread];
                    thread.batch.push(&Record::Release { queue: QueueId(queue), number });
                    thread.changes.push(Change::Release { queue, number });
                }
            }
            Step::Received { message } => {
                if let Some((queue, sequence)) = self.pick_committed(message) {
                    let record = Record::Received { delivered: delivered((queue, sequence)) };
                    self.append_one(&record, Change::Received { queue, sequence });
                }
            }
            Step::Displaced { message, packet_id } => {
                if let Some((queue, sequence)) = self.pick_committed(message) {
                    let packet_id = id(u64::from(packet_id));
                    let record = Record::Displaced { delivered: delivered((queue, sequence)), packet_id };
                    self.append_one(&record, Change::Displaced { queue, sequence, packet_id });
                }
            }
            Step::Void { session } => {
                if let Some(queue) = pick(&self.sessions, session) {
                    let sequence = self.sequence(queue);
                    self.void.push((queue, sequence));
                }
            }
            Step::Append { thread } => self.append(thread),
            Step::Commit => {
                let _ = self.commit();
            }
            Step::Maintain => {
                let moment = self.moment();
                let _ = self.log.maintain(moment);
            }
            Step::FailSyncs { count } => {
                self.disk.fail_next_syncs(count);
                self.has_dropped = true;
            }
            Step::FailWrites { fails } => self.disk.fail_writes(fails.then_some(io::ErrorKind::Other)),
            Step::ReadOnly { is_read_only } => {
                self.disk.set_read_only(is_read_only);
                self.has_dropped = true;
            }
            Step::Capacity { segments } => {
                let used: u64 = self.disk_bytes();
                self.disk.set_capacity(segments.map(|segments| used + segments * SEGMENT_BYTES));
            }
            Step::Cut { changes, seed } => {
                self.disk.cut_after(changes);
                if self.commit().is_ok() {
                    let moment = self.moment();
                    let _ = self.log.maintain(moment);
                }
                self.crash(seed);
            }
            Step::Crash { seed } => self.crash(seed),
            Step::Kill { .. } if self.has_dropped => self.crash(0),
            Step::Kill { changes } => {
                if let Some(changes) = changes {
                    self.disk.cut_after(changes);
                    if self.commit().is_ok() {
                        let moment = self.moment();
                        let _ = self.log.maintain(moment);
                    }
                    self.disk.cut_after(u64::MAX);
                }
                self.heal();
                self.reopen(self.disk.clone());
            }
            Step::Check => self.check(),
        }
    }

    fn append_session(&mut self, queue: u64, window: u16) {
        let state = SessionState {
            kind: SessionKind::Client,
            client_id: format!("client{queue}").into(),
            owner: None,
            expiry_interval: u32::MAX,
            window,
            will: None,
        };
        self.append_one(&Record::Session { queue: QueueId(queue), state }, Change::Session { queue, window });
    }

    /// Appends a record as its session's own thread does: at once.
    fn append_one(&mut self, record: &Record<'_>, change: Change) {
        record.put(&mut self.pending);
        self.changes.push(change);
    }

    fn append(&mut self, thread: usize) {
        let Thread { batch, changes } = &mut self.threads[thread];
        self.pending.append(&mut batch.bytes);
        for (queue, sequences) in batch.settled.drain(..) {
            Record::Settle { queue, sequences }.put(&mut self.pending);
        }
        self.changes.append(changes);
        batch.clear();
    }

    fn sequence(&mut self, queue: u64) -> u64 {
        let next = self.next_sequence.entry(queue).or_default();
        *next += 1;
        *next - 1
    }

    fn publish(&mut self, thread: usize, sessions: u8, retained: Option<u8>, receipt: Option<usize>, length: usize) {
        let to = |(index, queue): (usize, &u64)| (sessions & 1 << (index % 8) != 0).then_some(*queue);
        let queues: Vec<u64> = self.sessions.iter().enumerate().filter_map(to).collect();
        let mut deliveries: Vec<(u64, u64)> = queues.into_iter().map(|queue| (queue, self.sequence(queue))).collect();
        self.messages.extend(deliveries.iter());
        let mut replaced = None;
        if let Some(topic) = retained {
            let sequence = self.sequence(0);
            deliveries.push((0, sequence));
            replaced = self.retained.insert(topic, sequence);
        }
        let receipt = receipt.and_then(|receipt| pick(&self.sessions, receipt)).map(|queue| {
            let number = self.next_receipt[&queue];
            self.next_receipt.insert(queue, number + 1);
            self.receipts.insert((queue, number));
            (queue, number, id(number * 7))
        });
        if deliveries.is_empty() && receipt.is_none() {
            return;
        }
        self.published += 1;
        let topic = retained.map_or("m".to_owned(), |topic| format!("r/{topic}"));
        let payload = self.published.to_string().bytes().cycle().take(length).collect();
        let stored = Stored { topic, payload, qos: QoS::ExactlyOnce, identifiers: vec![7, 300] };
        let Thread { batch, changes } = &mut self.threads[thread];
        for &to in &deliveries {
            let how = How { identifiers: Identifiers::Decoded(&stored.identifiers), ..How::plain(stored.qos, false) };
            batch.deliver(delivered(to), &how);
        }
        let message = Message::new(&TopicName::new(&stored.topic).unwrap(), &stored.payload);
        let told = receipt.map(|(queue, number, packet_id)| Receipt { queue: QueueId(queue), packet_id, number });
        batch.publish(&Publication::from_message(&message), told);
        changes.push(Change::Publish { stored, deliveries, receipt });
        if let Some(replaced) = replaced {
            self.settle(thread, 0, replaced, replaced);
        }
    }

    fn settle(&mut self, thread: usize, queue: u64, first: u64, last: u64) {
        self.messages.retain(|&(of, sequence)| of != queue || !(first..=last).contains(&sequence));
        let Thread { batch, changes } = &mut self.threads[thread];
        if first == last {
            batch.settle(delivered((queue, first)));
        } else {
            batch.settle_all(QueueId(queue), Sequences { first, last });
        }
        changes.push(Change::Settle { queue, first, last });
    }

    /// A message of a session that has been committed, so that it may have been sent.
    fn pick_committed(&self, index: usize) -> Option<(u64, u64)> {
        let is_there =
            |&(queue, sequence): &(u64, u64)| self.committed.cells.contains_key(&Cell::Message(queue, sequence));
        pick(&self.messages.iter().copied().filter(is_there).collect(), index)
    }

    fn commit(&mut self) -> io::Result<()> {
        let moment = self.moment();
        if !self.pending.is_empty() {
            self.tried = self.changes.len();
            self.log.commit(&mut self.pending, moment)?;
            assert!(self.pending.is_empty());
            self.changes.drain(..).for_each(|change| self.committed.apply(&change));
            self.tried = 0;
        }
        let void: Vec<_> =
            self.void.drain(..).map(|(queue, at)| (QueueId(queue), Sequences { first: at, last: at })).collect();
        self.log.forget(&void);
        Ok(())
    }

    fn heal(&self) {
        self.disk.fail_next_syncs(0);
        self.disk.fail_writes(None);
        self.disk.set_read_only(false);
        self.disk.set_capacity(None);
    }

    fn crash(&mut self, seed: u64) {
        self.reopen(self.disk.crash(&mut Chance(seed)));
        self.has_dropped = false;
    }

    /// Goes on with another life.
    fn reopen(&mut self, disk: Simulated) {
        let (log, restored, replaced) = Log::open(Arc::new(disk.clone()), &self.options).unwrap();
        (self.disk, self.log) = (disk, log);
        assert_eq!((&restored.report.damage[..], restored.report.lost_messages), (&[][..], 0));
        let uncertain = &self.changes[..self.tried];
        let found = observe(&self.log);
        let differences = self.committed.differences(&found, uncertain);
        assert!(differences.is_empty(), "after a crash: {differences:#?}");
        let (next_queue, next_retained) = {
            let index = self.log.index().lock();
            (index.fold.next_queue(), index.fold.next_sequence(QueueId::RETAINED))
        };
        assert!(self.committed.began.last().is_none_or(|&began| began < next_queue));
        self.next_sequence = restored.sessions.iter().map(|session| (session.queue.0, session.next_sequence)).collect();
        self.next_sequence.insert(0, next_retained);
        self.next_receipt = restored.sessions.iter().map(|session| (session.queue.0, session.next_receipt)).collect();
        for (&queue, &next) in &self.next_sequence {
            assert!(self.committed.highest_sequence(queue).is_none_or(|seen| seen < next), "{queue}: {next}");
        }
        for (&queue, &next) in &self.next_receipt {
            assert!(self.committed.highest_receipt(queue).is_none_or(|seen| seen < next), "{queue}: {next}");
        }
        self.next_queue = next_queue;
        self.threads = Default::default();
        self.pending.clear();
        self.changes.clear();
        self.tried = 0;
        self.void.clear();
        self.sessions = restored.sessions.iter().map(|session| session.queue.0).collect();
        (self.messages, self.receipts) = Default::default();
        let mut newest: BTreeMap<&str, (u64, &Stored)> = BTreeMap::new();
        for (cell, value) in &found {
            match (cell, value) {
                (Cell::Message(0, sequence), Value::Message(stored)) => {
                    newest.insert(&stored.topic, (*sequence, stored));
                }
                (Cell::Message(queue, sequence), _) => self.messages.extend([(*queue, *sequence)]),
                (Cell::Receipt(queue, number), _) => self.receipts.extend([(*queue, *number)]),
                _ => {}
            }
        }
        let retained: Vec<_> =
            newest.into_values().map(|(sequence, stored)| (sequence, &stored.topic[..], &stored.payload[..])).collect();
        let restored_retained: Vec<_> = restored
            .retained
            .iter()
            .map(|kept| (kept.sequence, kept.message.topic(), kept.message.payload()))
            .collect();
        assert_eq!(restored_retained, retained);
        self.retained =
            restored.retained.iter().map(|kept| (kept.message.topic().as_bytes()[2] - b'0', kept.sequence)).collect();
        self.read_back(&found);
        let mut committed = Expected::new(found);
        committed.began = std::mem::take(&mut self.committed.began);
        self.committed = committed;
        for sequence in replaced {
            self.settle(0, 0, sequence, sequence);
        }
        self.append(0);
    }

    /// A journal that is opened on a copy of the disk reads the same messages.
    fn read_back(&self, found: &BTreeMap<Cell, Value>) {
        self.disk.set_capacity(None);
        let copy = self.disk.crash(&mut Chance(1));
        let (journal, _) = Journal::open_in(Arc::new(copy), &self.options).unwrap();
        for &queue in &self.sessions {
            let mut expected = found.iter().filter_map(|(cell, value)| match (cell, value) {
                (Cell::Message(of, sequence), Value::Message(stored)) if *of == queue => Some((*sequence, stored)),
                _ => None,
            });
            let mut from = 0;
            loop {
                let page = journal.read(QueueId(queue), from, 7, 500).unwrap();
                assert!(page.lost.is_empty() && (page.is_last || !page.messages.is_empty()), "{page:?}");
                for paged in &page.messages {
                    let (sequence, stored) = expected.next().expect("no more than there are");
                    assert_eq!(
                        (sequence, stored),
                        (paged.sequence, &stored_of(&paged.message, paged.qos, paged.identifiers.clone()))
                    );
                    from = sequence + 1;
                }
                if page.is_last {
                    break;
                }
            }
            assert_eq!(expected.next(), None);
        }
    }

    fn disk_bytes(&self) -> u64 {
        self.disk
            .names()
            .unwrap()
            .iter()
            .map(|name| self.disk.contents(name).map_or(0, |bytes| bytes.len() as u64))
            .sum()
    }

    /// The disk is well, and all is committed: everything is exactly as it should be.
    fn check(&mut self) {
        self.heal();
        (0..THREADS).for_each(|thread| self.append(thread));
        self.commit().expect("a disk that is well");
        let found = observe(&self.log);
        let differences = self.committed.differences(&found, &[]);
        assert!(differences.is_empty(), "while it runs: {differences:#?}");
        // Nothing holds up what is to be read.
        for &queue in &self.sessions {
            let (runs, is_last) = self.log.index().lock().fold.plan(QueueId(queue), 0, usize::MAX, usize::MAX);
            let planned: u64 = runs.iter().map(|run| run.last - run.first + 1).sum();
            let alive = found.keys().filter(|cell| matches!(cell, Cell::Message(of, _) if *of == queue)).count();
            assert_eq!((planned, is_last), (alive as u64, true), "queue {queue}");
        }
    }

    /// What is dead makes room for what comes.
    fn check_space(&mut self) {
        // Cleaning goes on in proportion to what is written.
        for window in 0..40 {
            if let Some(&queue) = self.sessions.first() {
                (0..8).for_each(|_| self.append_session(queue, window % 8 + 1));
            }
            self.commit().expect("a disk that is well");
            let moment = self.moment();
            self.log.maintain(moment).expect("a disk that is well");
        }
        let alive: u64 = self
            .committed
            .cells
            .values()
            .map(|value| match value {
                Value::Message(stored) => stored.payload.len() as u64 + 100,
                _ => 100,
            })
            .sum();
        let taken = self.disk_bytes();
        assert!(taken <= 4 * alive + 12 * SEGMENT_BYTES, "{taken} bytes are taken for {alive} that are alive");
    }
}

fn stored_of(message: &Message, qos: QoS, identifiers: Vec<u32>) -> Stored {
    Stored { topic: message.topic().to_owned(), payload: message.payload().to_vec(), qos, identifiers }
}

/// What a log holds: what is alive, and the messages from where they stand.
fn observe(log: &Log) -> BTreeMap<Cell, Value> {
    let index = log.index().lock();
    let mut cells = BTreeMap::new();
    let note = |queue, (key, value): (&str, &str)| (Cell::Note(queue, key.to_owned()), Value::Note(value.to_owned()));
    cells.extend(index.fold.notes().iter().map(|told| note(0, told)));
    for session in index.fold.sessions() {
        let queue = session.queue.0;
        cells.extend(session.notes.iter().map(|told| note(queue, told)));
        cells.insert(Cell::Session(queue), Value::Window(session.state.window));
        cells.extend(session.away_since.map(|at| (Cell::Away(queue), Value::Since(at.0))));
        cells.extend(session.subscriptions.iter().map(|(filter, options, identifier)| {
            (Cell::Subscription(queue, filter.as_str().to_owned()), Value::Subscription(*options, *identifier))
        }));
        cells.extend(session.receipts.iter().map(|&(at, id)| (Cell::Receipt(queue, at), Value::PacketId(id))));
        cells.extend(session.received.iter().map(|&at| (Cell::Received(queue, at), Value::Received)));
        cells.extend(session.displaced.iter().map(|&(at, id)| (Cell::Displaced(queue, at), Value::PacketId(id))));
    }
    let mut missing = 0;
    let mut shares: BTreeMap<u64, u64> = BTreeMap::new();
    for &number in index.files.keys() {
        let standing = index.fold.standing_in(number);
        let count = standing.iter().map(|(_, run)| run.last - run.first + 1).sum();
        missing += count;
        shares.insert(number, count);
    }
    for (&number, segment) in &index.files {
        assert_eq!(
            index.fold.segments().get(&number).map_or(0, |share| share.alive),
            shares[&number],
            "segment {number}"
        );
        let contents = segment.read().unwrap();
        for scanned in segment.scan(&contents) {
            let Scanned::Record { bytes, .. } = scanned else { continue };
            if let Ok(Record::Publish { message, deliveries, .. } | Record::Moved { message, deliveries }) =
                Record::decode(bytes)
            {
                for (to, how) in deliveries.iter().filter(|(to, _)| index.fold.stands(*to, number)) {
                    let stored = stored_of(&message.to_message(), how.qos, how.identifiers.iter().collect());
                    let cell = Cell::Message(to.queue.0, to.sequence);
                    if cells.insert(cell, Value::Message(stored)).is_none() {
                        missing -= 1;
                    }
                }
            }
        }
    }
    assert_eq!(missing, 0, "messages do not stand where they should");
    cells
}

fn cases(shipped: u32) -> ProptestConfig {
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig { cases: if told { default.cases } else { shipped }, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn what_was_committed_survives_and_what_was_over_stays_over(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.check();
        world.check_space();
        world.crash(0);
        world.check();
    }
}
