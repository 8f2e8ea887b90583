//! Queues that do not fit into memory, with the journal on a disk.

use super::*;
use crate::broker::session_slot::SessionSlot;
use crate::broker::{LocalClient, QueueLimits, WhenFull};
use crate::clock;
use crate::mqtt::{Message, MessageBuilder, Quality, Reading, Sampled, TopicName};
use crate::store::JournalOptions;
use crate::store::simulated::Simulated;

const NO_LIMITS: QueueLimits = QueueLimits { messages: usize::MAX, bytes: usize::MAX, when_full: WhenFull::DropOldest };

fn on_disk<F: Future<Output = ()>>(queue: QueueLimits, scenario: impl Fn(World, Arc<Simulated>) -> F) {
    for hook in [true, false] {
        let runtime =
            if hook { turn::runtime(2) } else { tokio::runtime::Builder::new_current_thread().enable_all().build() };
        runtime.unwrap().block_on(async {
            let disk = Arc::new(Simulated::new());
            let world = open(&disk, queue);
            let done = tokio::time::timeout(2 * PATIENCE, scenario(world.clone(), disk)).await;
            assert!(done.is_ok(), "hook {hook}: the scenario does not end");
            over(world).await;
        });
    }
}

fn open(disk: &Arc<Simulated>, queue: QueueLimits) -> World {
    let options =
        JournalOptions { commit: Duration::from_millis(2), segment_bytes: 512 * 1024, ..JournalOptions::default() };
    let (journal, restored) = Journal::open_in(Arc::clone(disk) as _, &options).unwrap();
    let broker = Broker::start(Limits { queue, ..Limits::default() }, journal);
    broker.restore(restored).unwrap();
    broker.end_restoring();
    World { broker, kind: Kind::Stream, pipe: 64 * 1024, patience: PATIENCE }
}

async fn over(world: World) {
    let stopped = tokio::time::timeout(PATIENCE, world.broker.stop()).await;
    assert!(stopped.is_ok(), "the broker does not stop");
    let broker = Arc::clone(&world.broker);
    assert!(tokio::task::spawn_blocking(move || broker.router.journal().close()).await.unwrap());
}

/// A session that is away and has subscribed to everything at QoS 1.
async fn away(world: &World) -> Arc<SessionSlot> {
    let mut receiver = world.resume(Version::V5, "receiver").await;
    receiver.subscribe("#", QoS::AtLeastOnce).await;
    receiver.leave().await;
    let slot = world.broker.session("receiver").unwrap();
    until("it is away", || !slot.is_connected()).await;
    slot
}

fn message(number: u64) -> Message {
    let mut message = MessageBuilder::new(&TopicName::new("t").unwrap(), number.to_string().as_bytes()).build();
    message.qos = QoS::AtLeastOnce;
    message
}

fn publish(world: &World, numbers: std::ops::Range<u64>) {
    let messages: Vec<Message> = numbers.map(message).collect();
    for some in messages.chunks(50) {
        world.broker.router.publish_all(some, clock::now());
    }
}

/// The next messages, acknowledged out of order: in runs of ten, backwards.
async fn take(peer: &mut Peer, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut open = Vec::new();
    while numbers.len() < count {
        let Got::Message(message) = peer.next().await else { panic!("no message") };
        numbers.push(message.text().parse().unwrap());
        open.push(message.id);
        if open.len() == 10 || numbers.len() == count {
            for id in open.drain(..).rev() {
                peer.ack(Packet::PubAck, id).await;
            }
        }
    }
    numbers
}

fn all(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}

#[test]
fn a_backlog_on_disk_comes_in_order_while_more_is_published() {
    on_disk(NO_LIMITS, async |world, _| {
        let slot = away(&world).await;
        publish(&world, 0..20_000);
        assert_eq!(slot.backlog().0, 20_000);
        let waiting = slot.waiting();
        assert_eq!(waiting.queued, 20_000);
        assert_eq!(waiting.queued_bytes, world.broker.budget().used());
        let mut receiver = world.resume(Version::V5, "receiver").await;
        let mut numbers = Vec::new();
        for round in 0..50 {
            numbers.extend(take(&mut receiver, 200).await);
            publish(&world, 20_000 + round * 100..20_100 + round * 100);
        }
        numbers.extend(take(&mut receiver, 15_000).await);
        assert_eq!(numbers, all(0..25_000));
        receiver.has_nothing().await;
        assert_eq!((slot.backlog(), world.broker.budget().used()), ((0, 0), 0));
    });
}

#[test]
fn a_backlog_that_a_restart_finds_comes_in_order_and_none_comes_twice() {
    on_disk(NO_LIMITS, async |world, disk| {
        away(&world).await;
        publish(&world, 0..10_000);
        let mut receiver = world.resume(Version::V5, "receiver").await;
        assert_eq!(take(&mut receiver, 2000).await, all(0..2000));
        receiver.ping().await;
        drop(receiver);
        over(world).await;
        let world = open(&disk, NO_LIMITS);
        let slot = world.broker.session("receiver").unwrap();
        let (queued, in_flight) = slot.backlog();
        assert_eq!(queued + in_flight, 8000);
        publish(&world, 10_000..13_000);
        let mut receiver = world.resume(Version::V5, "receiver").await;
        assert_eq!(take(&mut receiver, 11_000).await, all(2000..13_000));
        receiver.has_nothing().await;
        assert_eq!(slot.backlog(), (0, 0));
        over(world).await;
    });
}

#[test]
fn readings_and_other_messages_keep_their_order_on_disk() {
    on_disk(NO_LIMITS, async |world, _| {
        away(&world).await;
        // A reading is written later than what comes behind it.
        let messages: Vec<Message> = (0..8000)
            .map(|number| {
                let mut message = message(number);
                message.reading = (number % 3 == 0).then(|| {
                    Arc::new(Reading {
                        sampled: Sampled::at(0),
                        unit: None,
                        quality: Quality::Good,
                        device: "meter".into(),
                        point: None,
                        form: Default::default(),
                    })
                });
                message
            })
            .collect();
        let mut receiver = world.resume(Version::V5, "receiver").await;
        for some in messages.chunks(10) {
            world.broker.router.publish_all(some, clock::now());
        }
        assert_eq!(take(&mut receiver, 8000).await, all(0..8000));
        receiver.has_nothing().await;
    });
}

#[test]
fn a_full_queue_on_disk_keeps_the_newest() {
    on_disk(QueueLimits { messages: 5000, ..NO_LIMITS }, async |world, _| {
        let slot = away(&world).await;
        publish(&world, 0..12_000);
        let waiting = slot.waiting();
        assert_eq!((waiting.queued, waiting.counts.dropped, waiting.is_full()), (5000, 7000, true));
        let mut receiver = world.resume(Version::V5, "receiver").await;
        assert_eq!(take(&mut receiver, 5000).await, all(7000..12_000));
        receiver.has_nothing().await;
        assert!(!slot.waiting().is_full());
        publish(&world, 12_000..12_010);
        assert_eq!(take(&mut receiver, 10).await, all(12_000..12_010));
    });
}

#[test]
fn a_session_that_is_taken_over_while_it_pages_loses_nothing() {
    on_disk(NO_LIMITS, async |world, _| {
        let slot = away(&world).await;
        publish(&world, 0..10_000);
        let mut next = 0;
        while next < 10_000 {
            let mut receiver = world.resume(Version::V5, "receiver").await;
            // As many as come; what is not acknowledged comes again, and it is not to be acknowledged twice.
            let numbers = take(&mut receiver, 500.min(10_000 - next)).await;
            assert_eq!(numbers, all(next as u64..(next + numbers.len()) as u64));
            receiver.ping().await;
            next += numbers.len();
        }
        until("it is over", || slot.backlog() == (0, 0)).await;
    });
}

#[test]
fn a_session_that_ends_while_it_pages_takes_nobody_with_it() {
    on_disk(NO_LIMITS, async |world, _| {
        for _ in 0..5 {
            let slot = away(&world).await;
            publish(&world, 0..5000);
            let mut receiver = world.resume(Version::V5, "receiver").await;
            take(&mut receiver, 1000).await;
            let clean = Connect { clean_start: true, ..resuming(Version::V5, "receiver") };
            let mut receiver = world.connect_as(clean).await;
            assert_eq!(slot.backlog().0, 0);
            receiver.has_nothing().await;
            receiver.leave().await;
        }
        assert_eq!(world.broker.budget().used(), 0);
    });
}

#[test]
fn what_cannot_be_read_for_a_while_comes_later() {
    on_disk(NO_LIMITS, async |world, disk| {
        away(&world).await;
        publish(&world, 0..6000);
        let broker = Arc::clone(&world.broker);
        let name = "journal-0000000001.seg";
        // All has been written.
        let queue = world.broker.session("receiver").unwrap().queue_id();
        tokio::task::spawn_blocking(move || broker.router.journal().read(queue, 0, usize::MAX, usize::MAX))
            .await
            .unwrap()
            .unwrap();
        disk.set_unreadable(name, 0..1024 * 1024);
        let mut receiver = world.resume(Version::V5, "receiver").await;
        let numbers = take(&mut receiver, 1000).await;
        assert_eq!(numbers, all(0..1000));
        receiver.has_nothing().await;
        disk.set_unreadable(name, 0..0);
        assert_eq!(take(&mut receiver, 5000).await, all(1000..6000));
    });
}

/// A durable session at a group that shares everything; it has gone again.
async fn share(world: &World, client_id: &str) -> Arc<SessionSlot> {
    let mut member = world.resume(Version::V5, client_id).await;
    member.subscribe("$share/group/#", QoS::AtLeastOnce).await;
    member.leave().await;
    let slot = world.broker.session(client_id).unwrap();
    until("it is away", || !slot.is_connected()).await;
    slot
}

#[test]
fn what_a_member_had_on_disk_goes_to_others_when_its_session_ends() {
    on_disk(NO_LIMITS, async |world, _| {
        share(&world, "first").await;
        publish(&world, 0..5000);
        let second = share(&world, "second").await;
        assert_eq!(second.backlog().0, 0);
        world.connect(Version::V5, "first").await.leave().await;
        let mut member = world.resume(Version::V5, "second").await;
        let mut numbers = take(&mut member, 5000).await;
        // What was in memory came before what was on disk.
        numbers.sort_unstable();
        assert_eq!(numbers, all(0..5000));
        member.has_nothing().await;
        until("nothing is left", || world.broker.budget().used() == 0).await;
    });
}

#[test]
fn a_restart_while_others_get_what_a_session_had_goes_on_with_it() {
    on_disk(NO_LIMITS, async |world, disk| {
        let first = share(&world, "first").await;
        publish(&world, 0..5000);
        share(&world, "second").await;
        let left = first.end(ReasonCode::SessionTakenOver);
        first.record_ending(left.shared_on_disk.unwrap());
        over(world).await;
        let world = open(&disk, NO_LIMITS);
        assert!(world.broker.session("first").is_none());
        let mut member = world.resume(Version::V5, "second").await;
        let numbers = take(&mut member, 5000 - left.shared.len()).await;
        assert!(numbers.is_sorted_by(|a, b| a < b));
        member.has_nothing().await;
        member.leave().await;
        over(world).await;
        let world = open(&disk, NO_LIMITS);
        assert_eq!(world.broker.session_count(), 1);
        assert_eq!(world.broker.session("second").unwrap().backlog(), (0, 0));
        over(world).await;
    });
}

#[test]
fn messages_of_qos_0_do_not_wait_for_what_is_on_disk() {
    on_disk(NO_LIMITS, async |world, _| {
        away(&world).await;
        publish(&world, 0..5000);
        let mut receiver = world.resume(Version::V5, "receiver").await;
        let (local, _commands) = LocalClient::new(&world.broker, "adapter", 1);
        local.publish(&[Message::new(&TopicName::new("t").unwrap(), b"5000")]);
        let mut numbers = Vec::new();
        while numbers.len() < 5001 {
            numbers.push(receiver.message().await.text().parse::<u64>().unwrap());
        }
        let at = numbers.iter().position(|&number| number == 5000).unwrap();
        assert!(at < 2000, "it came as number {at}");
        numbers.remove(at);
        assert_eq!(numbers, all(0..5000));
    });
}

#[test]
fn all_queues_together_stay_within_their_limit() {
    on_disk(NO_LIMITS, async |world, _| {
        let size = message(10_000).size() as u64;
        let limit = 4000 * size;
        world.broker.budget().set(limit, WhenFull::DropOldest);
        let large = away(&world).await;
        publish(&world, 0..6000);
        assert!(world.broker.budget().used() <= limit);
        assert!(large.waiting().is_full());
        // A second one begins, and takes its share from the first.
        let mut receiver = world.resume(Version::V5, "second").await;
        receiver.subscribe("t", QoS::AtLeastOnce).await;
        receiver.leave().await;
        publish(&world, 10_000..14_000);
        let second = world.broker.session("second").unwrap();
        until("the larger one is trimmed", || world.broker.budget().used() <= limit).await;
        let (first, second) = (large.waiting(), second.waiting());
        assert!(first.queued.abs_diff(2000) < 100 && second.queued.abs_diff(2000) < 100, "{first:?} {second:?}");
        assert_eq!(first.queued + first.counts.dropped, 10_000);
        assert_eq!(world.broker.metrics.dropped.value(), first.counts.dropped + second.counts.dropped);
        let mut receiver = world.resume(Version::V5, "receiver").await;
        let rest = take(&mut receiver, first.queued as usize).await;
        assert_eq!(rest, all(14_000 - first.queued..14_000));
    });
}
