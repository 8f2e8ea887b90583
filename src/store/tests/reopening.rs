//! What was appended and committed is there when the journal is opened again.

use super::*;

fn publish(batch: &mut Batch, topic: &str, payload: &[u8], deliveries: &[(u64, u64)]) {
    for &(queue, sequence) in deliveries {
        batch.deliver(Delivered { queue: QueueId(queue), sequence }, &How::plain(QoS::AtLeastOnce, false));
    }
    let message = Message::new(&TopicName::new(topic).unwrap(), payload);
    batch.publish(&Publication::from_message(&message), None);
}

fn session(batch: &mut Batch, queue: QueueId, client_id: &str) {
    let state = SessionState {
        kind: SessionKind::Client,
        client_id: client_id.into(),
        owner: None,
        expiry_interval: u32::MAX,
        window: 10,
        will: None,
    };
    batch.push(&Record::Session { queue, state });
}

#[test]
fn a_backlog_is_read_back_in_order_and_its_room_comes_back() {
    let disk = Arc::new(Simulated::new());
    let options = JournalOptions { segment_bytes: 64 * 1024, ..JournalOptions::default() };
    let (journal, restored) = Journal::open_in(disk.clone(), &options).unwrap();
    assert!(restored.sessions.is_empty());
    let queue = journal.next_queue();
    let mut batch = Batch::default();
    session(&mut batch, queue, "away");
    journal.append(&mut batch);
    const MESSAGES: u64 = 5000;
    for sequence in 0..MESSAGES {
        publish(&mut batch, "t", sequence.to_string().repeat(20).as_bytes(), &[(queue.0, sequence)]);
        journal.append(&mut batch);
    }
    batch.settle_all(queue, Sequences { first: 0, last: 99 });
    journal.append(&mut batch);
    assert!(journal.close());
    drop(journal);

    let options = JournalOptions { statistics: Arc::default(), ..options };
    let (journal, restored) = Journal::open_in(Arc::new(disk.crash(&mut Chance(1))), &options).unwrap();
    assert_eq!(restored.report, Report::default());
    let [session] = &restored.sessions[..] else { panic!("{restored:?}") };
    assert_eq!((session.queue, &*session.state.client_id), (queue, "away"));
    assert_eq!((session.next_sequence, session.queued.messages), (MESSAGES, MESSAGES - 100));
    let before = options.statistics.figures().disk_bytes;
    let mut next = 100;
    while next < MESSAGES {
        let page = journal.read(queue, next, 300, 1 << 20).unwrap();
        assert!(!page.messages.is_empty() && page.lost.is_empty());
        for message in page.messages {
            assert_eq!(message.sequence, next);
            assert_eq!(message.message.payload(), next.to_string().repeat(20).as_bytes());
            batch.settle(Delivered { queue, sequence: next });
            next += 1;
        }
        journal.append(&mut batch);
    }
    assert!(journal.read(queue, next, 10, 1000).unwrap().is_last);
    assert!(journal.close());
    let after = options.statistics.figures().disk_bytes;
    assert!(after < before / 2, "{after} of {before} bytes are still taken");
}

#[test]
fn a_reading_that_is_not_written_yet_is_no_hole_in_a_page() {
    let disk = Arc::new(Simulated::new());
    let (journal, _) = Journal::open_in(disk, &JournalOptions::default()).unwrap();
    let queue = journal.next_queue();
    let mut batch = Batch::default();
    session(&mut batch, queue, "away");
    for sequence in 0..100 {
        if sequence % 10 == 5 {
            batch.deliver(Delivered { queue, sequence }, &How::plain(QoS::AtLeastOnce, false));
            let mut message = Message::new(&TopicName::new("t").unwrap(), b"1");
            message.reading = Some(Arc::new(Reading {
                sampled: Sampled::at(0),
                unit: None,
                quality: Quality::Good,
                device: "meter".into(),
                point: None,
                form: Default::default(),
            }));
            batch.publish(&Publication::from_message(&message), None);
        } else {
            publish(&mut batch, "t", b"1", &[(queue.0, sequence)]);
        }
    }
    let ticket = journal.append(&mut batch);
    while !journal.is_committed(ticket) {
        std::thread::yield_now();
    }
    let mut sequences = Vec::new();
    while sequences.len() < 100 {
        let page = journal.read(queue, sequences.len() as u64, 40, 1 << 20).unwrap();
        assert!(!page.messages.is_empty());
        sequences.extend(page.messages.iter().map(|message| message.sequence));
    }
    assert_eq!(sequences, (0..100).collect::<Vec<_>>());
}
