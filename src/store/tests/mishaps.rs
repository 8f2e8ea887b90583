//! Mishaps, one by one, that the model has found.

use std::io;

use super::*;
use crate::clock::Moment;
use crate::mqtt::{Millis, PacketId};
use crate::store::log::Log;

const SEGMENT_BYTES: u64 = 4096;

fn options() -> JournalOptions {
    JournalOptions { segment_bytes: SEGMENT_BYTES, ..JournalOptions::default() }
}

fn open(disk: &Simulated) -> (Log, Restored) {
    let (log, restored, _) = Log::open(Arc::new(disk.clone()), &options()).unwrap();
    (log, restored)
}

fn commit(log: &mut Log, write: impl FnOnce(&mut Batch)) -> io::Result<()> {
    let mut batch = Batch::default();
    write(&mut batch);
    try_commit(log, &mut batch.bytes)
}

fn try_commit(log: &mut Log, bytes: &mut Vec<u8>) -> io::Result<()> {
    let now = Millis(1);
    log.commit(bytes, Moment { now, unbroken_since: Millis(0), wall_ms: 0, is_synchronised: true })
}

fn begin_session(batch: &mut Batch) {
    begin(batch, QueueId(1));
}

fn begin(batch: &mut Batch, queue: QueueId) {
    let state = SessionState {
        kind: SessionKind::Client,
        client_id: "client".into(),
        owner: None,
        expiry_interval: u32::MAX,
        window: 10,
        will: None,
    };
    batch.push(&Record::Session { queue, state });
}

fn publish(batch: &mut Batch, length: usize, sequence: Option<u64>, receipt: Option<u64>) {
    if let Some(sequence) = sequence {
        let delivered = Delivered { queue: QueueId(1), sequence };
        batch.deliver(delivered, &How::plain(QoS::AtLeastOnce, false));
    }
    let message = Message::new(&TopicName::new("t").unwrap(), &vec![7; length]);
    let packet_id = PacketId::MIN;
    let receipt = receipt.map(|number| Receipt { queue: QueueId(1), packet_id, number });
    batch.publish(&Publication::from_message(&message), receipt);
}

#[test]
fn a_file_that_was_only_half_made_is_not_written_to() {
    for length in [0, 64, 100, SEGMENT_BYTES - 1] {
        let disk = Simulated::new();
        disk.put(&file_name(1), &vec![0; length as usize]);
        let (mut log, _) = open(&disk);
        commit(&mut log, begin_session).unwrap();
        log.maintain(Moment { now: Millis(1), unbroken_since: Millis(0), wall_ms: 0, is_synchronised: true }).unwrap();
        assert!(!disk.names().unwrap().contains(&file_name(1)));
        let (_, restored) = open(&disk.crash(&mut Chance(1)));
        assert_eq!(restored.sessions.len(), 1);
    }
}

#[test]
fn an_exchange_that_is_over_before_an_earlier_one_has_come_does_not_come_again() {
    let disk = Simulated::new();
    let (mut log, _) = open(&disk);
    commit(&mut log, |batch| {
        begin_session(batch);
        publish(batch, 1, None, Some(1));
        batch.push(&Record::Release { queue: QueueId(1), number: 1 });
    })
    .unwrap();
    let (_, restored) = open(&disk);
    assert_eq!((restored.sessions[0].next_receipt, &restored.sessions[0].receipts[..]), (2, &[][..]));
    commit(&mut log, |batch| publish(batch, 1, None, Some(0))).unwrap();
    let (_, restored) = open(&disk);
    assert_eq!((restored.sessions[0].next_receipt, &restored.sessions[0].receipts[..]), (2, &[(0, PacketId::MIN)][..]));
}

#[test]
fn commits_that_failed_and_came_in_part_are_no_damage() {
    for seed in 0..200 {
        let disk = Simulated::new();
        let (mut log, _) = open(&disk);
        commit(&mut log, begin_session).unwrap();
        let mut batch = Batch::default();
        (0..3).for_each(|sequence| publish(&mut batch, 700, Some(sequence), None));
        for _ in 0..3 {
            disk.cut_after(1);
            try_commit(&mut log, &mut batch.bytes).unwrap_err();
            disk.cut_after(u64::MAX);
        }
        let disk = disk.crash(&mut Chance(seed));
        let (mut log, restored) = open(&disk);
        assert_eq!(restored.report.damage, []);
        commit(&mut log, |_| ()).unwrap();
        let (_, restored) = open(&disk);
        assert_eq!(restored.report.damage, [], "in the next life");
    }
}

#[test]
fn what_a_killed_process_had_not_synced_survives_once_it_was_found() {
    for seed in 0..50 {
        let disk = Simulated::new();
        let (mut log, _) = open(&disk);
        commit(&mut log, begin_session).unwrap();
        disk.cut_after(1);
        commit(&mut log, |batch| publish(batch, 10, Some(0), None)).unwrap_err();
        disk.cut_after(u64::MAX);
        let (mut log, restored) = open(&disk);
        assert_eq!(restored.sessions[0].queued.messages, 1);
        log.checkpoint().unwrap();
        let (_, restored) = open(&disk.crash(&mut Chance(seed)));
        assert_eq!((restored.sessions[0].queued.messages, restored.report.lost_messages), (1, 0));
    }
}

#[test]
fn a_disk_without_room_for_another_segment_is_told_of_once_and_what_fits_is_committed() {
    let disk = Simulated::new();
    let statistics = Arc::<Statistics>::default();
    let (told, hears) = std::sync::mpsc::channel();
    statistics.watch(move |statistics| {
        told.send(statistics.failure().map(|failure| failure.reason)).unwrap();
    });
    let options = JournalOptions { statistics: Arc::clone(&statistics), ..options() };
    let (journal, _) = Journal::open_in(Arc::new(disk.clone()), &options).unwrap();
    let until = |what: &dyn Fn() -> bool| {
        while !what() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    let commit = |write: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::default();
        write(&mut batch);
        let ticket = journal.append(&mut batch);
        journal.hurry(ticket);
        until(&|| journal.is_committed(ticket));
    };
    commit(&begin_session);
    disk.set_capacity(Some(2 * SEGMENT_BYTES));
    let mut sequence = 0;
    until(&|| statistics.figures().segments > 0);
    while statistics.failure().is_none() {
        commit(&|batch| publish(batch, 1000, Some(sequence), None));
        sequence += 1;
    }
    let failures = statistics.figures().failures;
    commit(&|batch| publish(batch, 10, Some(sequence), None));
    until(&|| statistics.figures().failures >= failures + 2);
    assert_eq!(hears.try_iter().collect::<Vec<_>>(), [Some("the disk is full".into())]);
    disk.set_capacity(None);
    assert_eq!(hears.recv(), Ok(None));
    assert!(journal.close());
}

#[test]
fn a_checkpoint_that_was_not_completed_says_nothing() {
    for seed in 0..100 {
        let disk = Simulated::new();
        let (mut log, _) = open(&disk);
        let at = Millis(7);
        commit(&mut log, |batch| {
            for queue in (1..60).map(QueueId) {
                begin(batch, queue);
                batch.push(&Record::Away { queue, at });
            }
        })
        .unwrap();
        disk.cut_after(1);
        log.checkpoint().unwrap_err();
        let (_, restored) = open(&disk.crash(&mut Chance(seed)));
        assert_eq!(restored.sessions.len(), 59);
        assert!(restored.sessions.iter().all(|session| session.away_since == Some(at)), "seed {seed}");
    }
}
