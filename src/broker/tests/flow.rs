//! Slow readers, floods, large packets, and takeovers in the middle of it all.

use super::*;
use crate::broker::buffers::SCRATCH_BYTES;

/// A number that is found again in a payload of this length.
fn numbered(number: usize, length: usize) -> Vec<u8> {
    let mut payload = format!("{number:08}").into_bytes();
    payload.resize(length.max(8), b'.');
    payload
}

fn number_of(message: &GotMessage) -> usize {
    std::str::from_utf8(&message.payload[..8]).unwrap().parse().unwrap()
}

fn small_queue() -> Limits {
    let mut limits = Limits::default();
    limits.queue.messages = 50;
    limits
}

/// Publishes `count` messages of 1,000 bytes from a client of its own, without waiting for each.
async fn flood(world: &World, from: usize, count: usize, qos: QoS) {
    let mut publisher = world.connect(Version::V3, "flood").await;
    for number in from..from + count {
        let payload = numbered(number, 1000);
        let id = publisher.begin(&Say::bytes("flood", &payload, qos)).await;
        if qos == QoS::AtLeastOnce && number % 50 == 49 {
            // Within what both sides hold on the way.
            publisher.await_one("PUBACK", |got| (*got == Got::PubAck(id, ReasonCode::Success)).then_some(())).await;
            publisher.kept.clear();
        }
    }
    publisher.ping().await;
    publisher.leave().await;
}

#[test]
fn a_reader_that_stops_reading_holds_bounded_memory_and_nobody_up() {
    // More than the kernel's buffers, the connection's and the queue hold.
    const COUNT: usize = 8000;
    everywhere_with(&small_queue(), async |world| {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut slow = World { pipe: 4096, ..world.clone() }.connect(Version::V5, "slow").await;
            slow.subscribe("flood", qos).await;
            let mut fast = world.connect(Version::V5, "fast").await;
            fast.subscribe("flood", qos).await;
            let flooding = flood(&world, 0, COUNT, qos);
            let reading = async {
                let mut last = None;
                let mut came = 0;
                while last < Some(COUNT - 1) {
                    let message = fast.message().await;
                    let number = number_of(&message);
                    assert!(last < Some(number), "{number} after {last:?}");
                    last = Some(number);
                    came += 1;
                }
                came
            };
            let ((), came) = tokio::join!(flooding, reading);
            // A reader that keeps up may be late for a moment; with QoS 1 its window stands still then.
            assert!(came > 0);
            let slot = world.broker.session("slow").unwrap();
            let (queued, in_flight) = slot.backlog();
            assert!(queued <= 50 && in_flight <= 100, "{queued} wait, {in_flight} in flight");
            let (_, capacity) = slot.buffered_bytes();
            assert!(capacity < 600 * 1024, "{capacity} bytes buffered");
            // It reads again: whole packets, in their order, up to the last.
            let mut last = None;
            while last < Some(COUNT - 1) {
                let number = number_of(&slow.message().await);
                assert!(last < Some(number), "{number} after {last:?}");
                last = Some(number);
            }
            // And is served as before.
            fast.publish(&Say::bytes("flood", &numbered(COUNT, 8), qos)).await;
            assert_eq!(number_of(&slow.message().await), COUNT);
            slow.leave().await;
            fast.leave().await;
        }
    });
}

/// Publishes a message of 1,000 bytes from within.
fn publish(world: &World, number: usize) {
    let topic = crate::mqtt::TopicName::new("flood").unwrap();
    let message = crate::mqtt::Message::new(&topic, &numbered(number, 1000));
    world.broker.router.publish_all(&[message], crate::clock::now());
}

#[test]
fn a_reader_that_is_always_behind_holds_bounded_memory() {
    everywhere_with(&small_queue(), async |world| {
        let mut slow = World { pipe: 16 * 1024, ..world.clone() }.connect(Version::V5, "slow").await;
        slow.subscribe("flood", QoS::AtMostOnce).await;
        let slot = world.broker.session("slow").unwrap();
        let mut number = 0;
        // It takes what it gets, but more is always there: its buffer is never empty.
        let mut taken = 0;
        while taken < 16 * 1024 * 1024 {
            while slot.buffered_bytes().0 < 100 * 1024 {
                publish(&world, number);
                number += 1;
            }
            let mut chunk = [0; 32 * 1024];
            let count = slow.stream.read(&mut chunk).await.unwrap();
            taken += count;
            slow.input.extend_from_slice(&chunk[..count]);
            while let Ok(Received::Packet(_, length)) = slow.receiver.receive(&slow.input) {
                slow.input.drain(..length);
            }
            let (_, capacity) = slot.buffered_bytes();
            assert!(capacity <= 1024 * 1024, "{capacity} bytes buffered");
        }
        publish(&world, number);
        let mut last = None;
        while last < Some(number) {
            let came = number_of(&slow.message().await);
            assert!(last < Some(came), "{came} after {last:?}");
            last = Some(came);
        }
    });
}

#[test]
fn a_takeover_in_the_middle_of_a_flush_gives_the_new_connection_whole_packets() {
    everywhere_with(&small_queue(), async |world| {
        let narrow = World { pipe: 2048, ..world.clone() };
        let flooding = async {
            loop {
                flood(&world, 0, 1000, QoS::AtMostOnce).await;
            }
        };
        let taking_over = async {
            let mut peer = narrow.resume(Version::V5, "slow").await;
            peer.subscribe("flood", QoS::AtLeastOnce).await;
            for round in 0..40 {
                // Some is read, most is not: the socket is full when the next takes over.
                for _ in 0..round % 4 {
                    let got = peer.next().await;
                    assert!(matches!(got, Got::Message(_)), "{got:?}");
                }
                // `resume` hears CONNACK first; whatever comes then is whole packets.
                let version = VERSIONS[round % 2];
                let mut next = narrow.resume(version, "slow").await;
                assert!(next.session_present);
                // The old one hears whole packets, then perhaps DISCONNECT; a packet may be cut off at the end.
                next.ping().await;
                next.kept.clear();
                peer = next;
            }
            peer
        };
        let mut peer = tokio::select! {
            () = flooding => unreachable!("it goes on"),
            peer = taking_over => peer,
        };
        let mut publisher = world.connect(Version::V5, "publisher").await;
        publisher.publish(&Say::bytes("flood", &numbered(99_999_999, 8), QoS::AtLeastOnce)).await;
        while number_of(&peer.message().await) != 99_999_999 {}
    });
}

#[test]
fn qos_0_never_overtakes_qos_0_that_waits() {
    const COUNT: usize = 3000;
    everywhere(async |world| {
        // Nothing is dropped here, so the order must be complete.
        let mut slow = World { pipe: 4096, ..world.clone() }.connect(Version::V5, "slow").await;
        slow.subscribe("flood", QoS::AtMostOnce).await;
        let flooding = flood(&world, 0, COUNT, QoS::AtMostOnce);
        let reading = async {
            for number in 0..COUNT {
                assert_eq!(number_of(&slow.message().await), number);
                if number.is_multiple_of(200) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        tokio::join!(flooding, reading);
    });
}

#[test]
fn packets_of_every_size_around_the_scratch_arrive() {
    everywhere(async |world| {
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        subscriber.subscribe("t", QoS::AtLeastOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut sizes: Vec<usize> = (SCRATCH_BYTES - 16..SCRATCH_BYTES + 6).collect();
        sizes.extend([1, 127, 128, 8191, 8192, 16_383, 16_384, 2 * SCRATCH_BYTES, 500_000, 1_000_000]);
        for (number, size) in sizes.into_iter().enumerate() {
            let payload = numbered(number, size);
            let publishing = async {
                // A small one before and one behind, in the same reads.
                let mut bytes = Vec::new();
                for payload in [&b"before"[..], &payload, b"behind"] {
                    Say::bytes("t", payload, QoS::AtMostOnce).packet(0, false).encode(Version::V5, &mut bytes);
                }
                publisher.raw(&bytes).await;
                publisher.ping().await;
            };
            let reading = async {
                assert_eq!(subscriber.message().await.payload, b"before");
                assert!(subscriber.message().await.payload == payload, "{size}");
                assert_eq!(subscriber.message().await.payload, b"behind");
            };
            tokio::join!(publishing, reading);
        }
    });
}

#[test]
fn a_packet_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
    everywhere(async |world| {
        let limit = world.broker.limits().packet_bytes;
        for version in VERSIONS {
            for (over, taken) in [(0, true), (1, false)] {
                let mut publisher = world.connect(version, "publisher").await;
                // Fixed header 4, topic 3, properties 1 in 5.0.
                let header = if version == Version::V5 { 8 } else { 7 };
                let payload = vec![b'x'; limit - header + over];
                let mut bytes = Vec::new();
                Say::bytes("t", &payload, QoS::AtMostOnce).packet(0, false).encode(version, &mut bytes);
                assert_eq!(bytes.len(), limit + over);
                publisher.raw(&bytes).await;
                if taken {
                    publisher.ping().await;
                } else {
                    let said = (version == Version::V5).then_some(ReasonCode::PacketTooLarge);
                    assert_eq!(publisher.end().await, said);
                }
            }
        }
    });
}

#[test]
fn a_peer_that_reads_nothing_is_not_read_either_and_goes_on_later() {
    everywhere(async |world| {
        // It publishes to itself: every message comes back.
        const COUNT: usize = 3000;
        let mut echo = World { pipe: 4096, ..world.clone() }.connect(Version::V5, "echo").await;
        echo.subscribe("t", QoS::AtMostOnce).await;
        let stream = std::mem::replace(&mut echo.stream, Box::pin(duplex(1).0));
        let (reading, mut writing) = tokio::io::split(stream);
        let (near, mut far) = duplex(1);
        drop(far.shutdown().await);
        echo.stream = Box::pin(tokio::io::join(reading, near));
        let write = async {
            for number in 0..COUNT {
                let mut bytes = Vec::new();
                let payload = numbered(number, 1000);
                Say::bytes("t", &payload, QoS::AtMostOnce).packet(0, false).encode(Version::V5, &mut bytes);
                writing.write_all(&bytes).await.unwrap();
            }
        };
        let read = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            for number in 0..COUNT {
                assert_eq!(number_of(&echo.message().await), number);
            }
        };
        tokio::join!(write, read);
    });
}

#[test]
fn all_that_waits_comes_to_a_reader_that_began_late() {
    everywhere(async |world| {
        // QoS 1 with a full window: only the acknowledgements, once read, bring the rest.
        const COUNT: usize = 1500;
        let mut slow = World { pipe: 4096, ..world.clone() }.connect(Version::V5, "slow").await;
        slow.subscribe("flood", QoS::AtLeastOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        for number in 0..COUNT {
            let payload = numbered(number, 6000);
            publisher.publish(&Say::bytes("flood", &payload, QoS::AtLeastOnce)).await;
        }
        for number in 0..COUNT {
            let message = slow.message().await;
            assert_eq!(number_of(&message), number);
        }
        slow.ping().await;
    });
}

#[tokio::test]
async fn a_stream_reads_on_when_its_full_buffer_was_written_at_once() {
    const PIPE: usize = 1024 * 1024;
    let world = World { pipe: PIPE, ..World::new(Kind::Stream, Limits::default()) };
    let mut client = world.connect(Version::V5, "client").await;
    client.subscribe("flood", QoS::AtMostOnce).await;
    let slot = world.broker.session("client").unwrap();
    // The pipe is full, and so are the link's output and the slot's buffer.
    let mut number = 0;
    while slot.backlog().0 == 0 {
        publish(&world, number);
        number += 1;
        tokio::task::yield_now().await;
    }
    // Not read, because what it leads to has no room.
    client.say(&Packet::PingReq).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let mut all = vec![0; PIPE];
    let count = client.stream.read(&mut all).await.unwrap();
    assert_eq!(count, PIPE, "at once, so that all the rest has room");
    client.input.extend_from_slice(&all);
    for expected in 0..number {
        assert_eq!(number_of(&client.message().await), expected);
    }
    assert_eq!(client.next().await, Got::PingResp);
}
