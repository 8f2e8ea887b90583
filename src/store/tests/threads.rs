//! The journal with the thread that writes it, and with threads that append.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::*;
use crate::mqtt::{MessageBuilder, Quality, Reading, Sampled};

/// Longer than any test; what waits for so long waits for ever.
const FOR_EVER: Duration = Duration::from_secs(3600);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait(mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    while poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park();
    }
}

fn wait_committed(journal: &Journal, ticket: Ticket) {
    wait(|cx| journal.poll_committed(ticket, cx));
    assert!(journal.is_committed(ticket));
}

fn open(disk: &Simulated, options: &JournalOptions) -> (Arc<Journal>, Restored) {
    Journal::open_in(Arc::new(disk.clone()), options).unwrap()
}

/// Nothing is written unless somebody asks.
fn asked() -> JournalOptions {
    JournalOptions {
        commit: FOR_EVER,
        commit_min: Duration::ZERO,
        commit_readings: FOR_EVER,
        segment_bytes: 64 * 1024,
        ..JournalOptions::default()
    }
}

fn begin(journal: &Journal, queue: QueueId) {
    let state = SessionState {
        kind: SessionKind::Client,
        client_id: format!("client{}", queue.0).into(),
        owner: None,
        expiry_interval: u32::MAX,
        window: 10,
        will: None,
    };
    let mut batch = Batch::default();
    batch.push(&Record::Session { queue, state });
    journal.append(&mut batch);
}

fn message(payload: &str) -> Message {
    Message::new(&TopicName::new("t").unwrap(), payload.as_bytes())
}

fn reading(payload: &str) -> Message {
    let reading = Reading {
        sampled: Sampled::at(1),
        unit: None,
        quality: Quality::Good,
        device: "meter".into(),
        point: Some("power".into()),
        form: Default::default(),
    };
    MessageBuilder::new(&TopicName::new("t").unwrap(), payload.as_bytes()).reading(Arc::new(reading)).build()
}

fn publish(journal: &Journal, queue: QueueId, sequence: u64, message: &Message) -> Ticket {
    let mut batch = Batch::default();
    batch.deliver(Delivered { queue, sequence }, &How::plain(QoS::AtLeastOnce, false));
    batch.publish(&Publication::from_message(message), None);
    journal.append(&mut batch)
}

fn settle(journal: &Journal, queue: QueueId, sequence: u64) -> Ticket {
    let mut batch = Batch::default();
    batch.settle(Delivered { queue, sequence });
    journal.append(&mut batch)
}

fn commit(journal: &Journal, ticket: Ticket) {
    journal.hurry(ticket);
    wait_committed(journal, ticket);
}

fn payloads(page: &Page) -> Vec<(u64, String)> {
    let payload = |paged: &PagedMessage| String::from_utf8(paged.message.payload().to_vec()).unwrap();
    page.messages.iter().map(|paged| (paged.sequence, payload(paged))).collect()
}

/// Whether a text stands anywhere on the disk.
fn is_on_disk(disk: &Simulated, text: &str) -> bool {
    let files = disk.names().unwrap().into_iter().filter_map(|name| disk.contents(&name));
    files.into_iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn what_was_committed_before_the_power_went_is_there_however_many_threads_append() {
    const THREADS: u64 = 3;
    const SNAPSHOTS: u64 = 40;
    let disk = Simulated::new();
    let options = JournalOptions {
        commit: Duration::from_millis(1),
        commit_min: Duration::ZERO,
        segment_bytes: 16 * 1024,
        checkpoint_spacing: 32 * 1024,
        ..JournalOptions::default()
    };
    let (journal, _) = open(&disk, &options);
    // Of each thread the messages below this are committed, and those below that one are over, which is committed too.
    let committed: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let over: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let (tell, progress) = mpsc::sync_channel(0);
    thread::scope(|scope| {
        for index in 0..THREADS {
            let (journal, committed, over) = (&journal, &committed, &over);
            let tell = tell.clone();
            scope.spawn(move || {
                let queue = journal.next_queue();
                assert!((1..=THREADS).contains(&queue.0));
                begin(journal, queue);
                let slot = queue.0 as usize - 1;
                let mut chance = Chance(index);
                for sequence in 0u64.. {
                    let done = sequence.saturating_sub(chance.below(40));
                    if done > 0 {
                        let mut batch = Batch::default();
                        batch.settle_all(queue, Sequences { first: 0, last: done - 1 });
                        journal.append(&mut batch);
                    }
                    // What was appended before it is committed with it.
                    let ticket = publish(journal, queue, sequence, &message(&format!("{queue:?} {sequence}")));
                    if chance.below(4) == 0 {
                        commit(journal, ticket);
                        committed[slot].store(sequence + 1, Ordering::SeqCst);
                        over[slot].fetch_max(done, Ordering::SeqCst);
                        if tell.try_send(()) == Err(mpsc::TrySendError::Disconnected(())) {
                            return;
                        }
                    }
                }
            });
        }
        for seed in 0..SNAPSHOTS {
            // So that something has happened since the one before.
            (0..THREADS).for_each(|_| progress.recv().unwrap());
            let expected: Vec<(u64, u64)> = committed
                .iter()
                .zip(&over)
                .map(|(committed, over)| (committed.load(Ordering::SeqCst), over.load(Ordering::SeqCst)))
                .collect();
            let image = disk.crash(&mut Chance(seed));
            let (copy, restored) = open(&image, &JournalOptions { statistics: Arc::default(), ..options.clone() });
            assert_eq!((&restored.report.damage[..], restored.report.lost_messages), (&[][..], 0));
            for (slot, &(committed, over)) in expected.iter().enumerate().filter(|(_, (committed, _))| *committed > 0) {
                let queue = QueueId(slot as u64 + 1);
                let session = restored.sessions.iter().find(|session| session.queue == queue).expect("a session");
                assert!(session.next_sequence >= committed);
                let page = copy.read(queue, 0, usize::MAX, usize::MAX).unwrap();
                assert!(page.lost.is_empty() && page.is_last);
                assert!(page.messages.first().is_none_or(|first| first.sequence >= over));
                let there = payloads(&page);
                // What may have been settled since is missing at the front only.
                for (sequence, payload) in &there {
                    assert_eq!(*payload, format!("{queue:?} {sequence}"));
                }
                let last = there.last().map_or(session.next_sequence, |(sequence, _)| sequence + 1);
                assert!(last >= committed, "{queue:?}: {there:?} ends before {committed}");
                assert!(there.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
            }
        }
        drop(progress);
    });
    assert!(journal.close());
}

#[test]
fn a_reading_that_is_over_before_it_is_due_is_never_written() {
    let disk = Simulated::new();
    let (journal, _) = open(&disk, &asked());
    let queue = journal.next_queue();
    begin(&journal, queue);
    publish(&journal, queue, 0, &reading("first reading"));
    publish(&journal, queue, 1, &reading("second reading"));
    settle(&journal, queue, 0);
    commit(&journal, publish(&journal, queue, 2, &message("a message")));
    assert!(!is_on_disk(&disk, "reading") && is_on_disk(&disk, "a message"));
    assert!(journal.close());
    assert!(!is_on_disk(&disk, "first reading") && is_on_disk(&disk, "second reading"));
    drop(journal);
    let (journal, restored) = open(&disk, &asked());
    assert_eq!((restored.sessions[0].next_sequence, restored.sessions[0].queued.messages), (3, 2));
    let page = journal.read(queue, 0, 9, 1000).unwrap();
    assert_eq!(payloads(&page), [(1, "second reading".into()), (2, "a message".into())]);
}

#[test]
fn sequences_that_are_never_written_hold_up_no_reader() {
    let disk = Simulated::new();
    let (journal, _) = open(&disk, &asked());
    let queue = journal.next_queue();
    // The session begins with the same commit.
    begin(&journal, queue);
    publish(&journal, queue, 0, &reading("0"));
    settle(&journal, queue, 0);
    commit(&journal, publish(&journal, queue, 1, &message("1")));
    let page = journal.read(queue, 0, 9, 1000).unwrap();
    assert_eq!((payloads(&page), page.is_last), (vec![(1, "1".into())], true));
    // Nothing else is to be written.
    publish(&journal, queue, 2, &reading("2"));
    commit(&journal, publish(&journal, queue, 3, &message("3")));
    settle(&journal, queue, 2);
    let page = journal.read(queue, 2, 9, 1000).unwrap();
    assert_eq!((payloads(&page), page.is_last), (vec![(3, "3".into())], true));
}

#[test]
fn a_page_has_what_was_published_before_it_was_asked_for() {
    let disk = Simulated::new();
    let (journal, _) = open(&disk, &JournalOptions { commit: Duration::ZERO, ..asked() });
    let (queue, other) = (journal.next_queue(), journal.next_queue());
    begin(&journal, queue);
    begin(&journal, other);
    let is_enough = AtomicBool::new(false);
    thread::scope(|scope| {
        // So that a commit is mostly under way.
        scope.spawn(|| {
            for sequence in 0.. {
                if is_enough.load(Ordering::Relaxed) {
                    break;
                }
                commit(&journal, publish(&journal, other, sequence, &message("other")));
            }
        });
        for sequence in 0..300 {
            publish(&journal, queue, sequence, &reading(&sequence.to_string()));
            let page = journal.read(queue, sequence, 9, 1000);
            if !matches!(&page, Ok(page) if payloads(page) == [(sequence, sequence.to_string())]) {
                is_enough.store(true, Ordering::Relaxed);
                panic!("{sequence}: {page:?}");
            }
        }
        is_enough.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_disk_that_fails_commits_nothing_and_goes_on_when_it_is_well() {
    let disk = Simulated::new();
    let options = asked();
    let (tell, failures) = mpsc::channel();
    options.statistics.watch(move |statistics| tell.send(statistics.failure().is_some()).unwrap_or_default());
    let (journal, _) = open(&disk, &options);
    let queue = journal.next_queue();
    begin(&journal, queue);
    commit(&journal, publish(&journal, queue, 0, &message("before")));
    disk.fail_writes(Some(io::ErrorKind::StorageFull));
    let large = "x".repeat(1 << 20);
    let ticket = publish(&journal, queue, 1, &message(&large));
    journal.hurry(ticket);
    while !failures.recv().unwrap() {}
    let mut sequence = 2;
    while journal.has_room() {
        publish(&journal, queue, sequence, &message(&large));
        sequence += 1;
        assert!(sequence < 40, "16 MiB wait at most");
    }
    assert!(!journal.is_committed(ticket));
    let (_, restored) = open(&disk.crash(&mut Chance(1)), &JournalOptions { statistics: Arc::default(), ..asked() });
    assert_eq!(restored.sessions[0].queued.messages, 1);
    disk.fail_writes(None);
    wait_committed(&journal, ticket);
    wait(|cx| journal.poll_room(cx));
    while failures.recv().unwrap() {}
    disk.fail_writes(Some(io::ErrorKind::ReadOnlyFilesystem));
    let last = publish(&journal, queue, sequence, &message("never written"));
    assert!(!journal.close() && !journal.is_committed(last));
    disk.fail_writes(None);
    drop(journal);
    let (journal, restored) =
        open(&disk.crash(&mut Chance(2)), &JournalOptions { statistics: Arc::default(), ..asked() });
    assert_eq!(restored.sessions[0].queued.messages, sequence);
    assert!(journal.close());
}
