//! What the broker answers, byte by byte, and what it never says.

use super::*;
use crate::mqtt::codec::{Framing, split_frame};
use crate::mqtt::connection::answers;
use crate::mqtt::packet::ConnAck;
use crate::mqtt::tests::malformed::MALFORMED;

impl Peer {
    /// Everything that comes to `bytes`, but for the answers to the two PINGREQs that follow it: what one read leads
    /// to may come behind the answer to a PINGREQ in it.
    async fn answer_to(&mut self, bytes: &[u8]) -> Vec<u8> {
        assert!(self.input.is_empty() && self.kept.is_empty(), "something was left unread");
        self.raw(bytes).await;
        let mut answer = Vec::new();
        let mut came = Vec::new();
        for _ in 0..2 {
            self.raw(&[0xC0, 0]).await;
            loop {
                if let Ok(Framing::Complete(frame, length)) = split_frame(&came, usize::MAX) {
                    let is_answer = frame.first == 0xD0;
                    let packet: Vec<u8> = came.drain(..length).collect();
                    if is_answer {
                        break;
                    }
                    answer.extend(packet);
                    continue;
                }
                let mut chunk = [0; 4096];
                let count = tokio::time::timeout(self.patience, self.stream.read(&mut chunk)).await.unwrap().unwrap();
                assert!(count > 0, "closed after {answer:02X?}");
                came.extend_from_slice(&chunk[..count]);
            }
        }
        answer
    }
}

/// All that is said to these bytes on a connection of its own, until it is closed.
async fn last_words(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut peer = world.dial().await;
    peer.raw(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(peer.patience, peer.stream.read_to_end(&mut answer)).await.expect("it is closed");
    answer
}

fn encoded(packets: &[&Packet<'_>], version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        packet.encode(version, &mut bytes);
    }
    bytes
}

/// The CONNACK that `connect` is answered with, read from its bytes.
async fn welcome(world: &World, connect: Connect<'_>, look: impl Fn(&ConnAck<'_>)) {
    let mut peer = world.dial().await;
    let answer = peer.answer_to(&encoded(&[&Packet::Connect(connect)], connect.version)).await;
    let Ok(Framing::Complete(frame, length)) = split_frame(&answer, usize::MAX) else { panic!("{answer:02X?}") };
    assert_eq!(length, answer.len(), "nothing comes behind CONNACK");
    assert_eq!(answer[0], 0x20);
    let Ok(Packet::ConnAck(connack)) = Packet::decode(frame, connect.version) else { panic!("{answer:02X?}") };
    look(&connack);
}

#[test]
fn every_request_is_answered_under_its_identifier_with_a_code_for_each_filter() {
    everywhere(async |world| {
        let mut connect = Connect::new(Version::V5, "new");
        // Then no reason string and no user property may come, and here none does [MQTT-3.1.2-29].
        connect.request_problem_information = false;
        let mut new = world.connect_as(connect).await;
        let subscribe = b"\x82\x16\x12\x34\0\0\x01a\x02\0\x03b/#\x01\0\x02a#\x02\0\x01c\0";
        assert_eq!(new.answer_to(subscribe).await, b"\x90\x07\x12\x34\0\x02\x01\x8F\0");
        let unsubscribe = b"\xA2\x12\x43\x21\0\0\x03b/#\0\x04nope\0\x02a#";
        assert_eq!(new.answer_to(unsubscribe).await, b"\xB0\x06\x43\x21\0\0\x11\x8F");
        // QoS 1, QoS 2, its PUBREL, the PUBREL again, a PUBREC that belongs to nothing.
        assert_eq!(new.answer_to(b"\x32\x06\0\x01x\x01\x02\0").await, b"\x40\x03\x01\x02\x10");
        assert_eq!(new.answer_to(b"\x34\x06\0\x01x\x01\x03\0").await, b"\x50\x02\x01\x03");
        assert_eq!(new.answer_to(b"\x62\x02\x01\x03").await, b"\x70\x02\x01\x03");
        assert_eq!(new.answer_to(b"\x62\x02\x01\x03").await, b"\x70\x02\x01\x03");
        assert_eq!(new.answer_to(b"\x50\x02\x77\x77").await, b"\x62\x02\x77\x77");
        // Nobody waits for these.
        assert_eq!(new.answer_to(b"\x40\x02\x77\x77\x70\x02\x77\x77").await, b"");

        let mut old = world.connect(Version::V3, "old").await;
        let subscribe = b"\x82\x15\x12\x34\0\x01a\x02\0\x03b/#\x01\0\x02a#\x02\0\x01c\0";
        assert_eq!(old.answer_to(subscribe).await, b"\x90\x06\x12\x34\x02\x01\x80\0");
        let unsubscribe = b"\xA2\x11\x43\x21\0\x03b/#\0\x04nope\0\x02a#";
        assert_eq!(old.answer_to(unsubscribe).await, b"\xB0\x02\x43\x21");
        assert_eq!(old.answer_to(b"\x32\x05\0\x01x\x01\x02").await, b"\x40\x02\x01\x02");
        assert_eq!(old.answer_to(b"\x34\x05\0\x01x\x01\x03").await, b"\x50\x02\x01\x03");
        assert_eq!(old.answer_to(b"\x62\x02\x01\x03").await, b"\x70\x02\x01\x03");
        assert_eq!(old.answer_to(b"\x62\x02\x01\x03").await, b"\x70\x02\x01\x03");
        assert_eq!(old.answer_to(b"\x50\x02\x77\x77").await, b"\x62\x02\x77\x77");
    });
}

#[test]
fn acknowledgements_keep_the_order_of_what_they_answer() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut subscriber = world.connect(version, "subscriber").await;
            subscriber.subscribe("t", QoS::ExactlyOnce).await;
            let mut publisher = world.connect(version, "publisher").await;
            let mut bytes = Vec::new();
            for (id, qos) in [(5, 2), (3, 1), (9, 2), (1, 2), (2, 1)] {
                Say::new("t", &id.to_string(), QOS[qos]).packet(id, false).encode(version, &mut bytes);
            }
            publisher.raw(&bytes).await;
            let success = ReasonCode::Success;
            for expected in [
                Got::PubRec(5, success),
                Got::PubAck(3, success),
                Got::PubRec(9, success),
                Got::PubRec(1, success),
                Got::PubAck(2, success),
            ] {
                assert_eq!(publisher.next().await, expected);
            }
            for id in [9, 5, 1] {
                publisher.ack(Packet::PubRel, id).await;
            }
            for id in [9, 5, 1] {
                assert_eq!(publisher.next().await, Got::PubComp(id, success));
            }
            let mut ids = Vec::new();
            for expected in ["5", "3", "9", "1", "2"] {
                let Got::Message(message) = subscriber.next().await else { panic!() };
                assert_eq!(message.text(), expected);
                if message.qos == QoS::ExactlyOnce {
                    ids.push(message.id);
                }
            }
            // PUBRELs follow the PUBRECs, whatever the order of those.
            ids.reverse();
            for &id in &ids {
                subscriber.ack(Packet::PubRec, id).await;
            }
            for &id in &ids {
                assert_eq!(subscriber.next().await, Got::PubRel(id, success));
            }
        }
    });
}

#[test]
fn connack_says_nothing_that_was_not_asked_for() {
    everywhere(async |world| {
        for request_response_information in [false, true] {
            let mut connect = Connect::new(Version::V5, "new");
            connect.request_response_information = request_response_information;
            connect.request_problem_information = false;
            connect.keep_alive = u16::MAX;
            welcome(&world, connect, |connack| {
                assert_eq!((connack.reason, connack.session_present), (ReasonCode::Success, false));
                assert_eq!((connack.response_information, connack.reason_string), (None, None));
                assert_eq!((connack.assigned_client_identifier, connack.server_reference), (None, None));
                assert_eq!((connack.authentication_method, connack.authentication_data), (None, None));
                assert_eq!((connack.server_keep_alive, connack.session_expiry_interval), (None, None));
                assert!(connack.user_properties.is_empty());
                // What is not said to be limited must be there.
                assert_eq!((connack.maximum_qos, connack.retain_available), (QoS::ExactlyOnce, true));
                assert!(connack.wildcard_subscription_available && connack.subscription_identifiers_available);
            })
            .await;
        }
        let mut old = world.dial().await;
        let mut connect = resuming(Version::V3, "old");
        let hello = encoded(&[&Packet::Connect(connect)], Version::V3);
        assert_eq!(old.answer_to(&hello).await, b"\x20\x02\0\0");
        let mut old = world.dial().await;
        assert_eq!(old.answer_to(&hello).await, b"\x20\x02\x01\0");
        connect.clean_start = true;
        let mut old = world.dial().await;
        assert_eq!(old.answer_to(&encoded(&[&Packet::Connect(connect)], Version::V3)).await, b"\x20\x02\0\0");
    });
}

#[test]
fn every_client_identifier_of_letters_and_digits_is_let_in() {
    everywhere(async |world| {
        let names = ["0", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"];
        // Longer ones, and other characters, may be refused and are not.
        let long = "x".repeat(65_535);
        for version in VERSIONS {
            for name in names.into_iter().chain(["größer/als 23 Bytes, und mit Umlaut #+", &long]) {
                let mut peer = world.resume(version, name).await;
                peer.subscribe("t", QoS::AtMostOnce).await;
                peer.leave().await;
                assert!(world.resume(version, name).await.session_present);
                // Another name is another session, whatever it looks like.
                if name.len() < 100 {
                    assert!(!world.resume(version, &format!("{name} ")).await.session_present);
                }
                world.connect(version, name).await.leave().await;
                world
                    .connect(version, &format!("{name} ").chars().take(65_000).collect::<String>())
                    .await
                    .leave()
                    .await;
            }
        }
    });
}

#[test]
fn after_a_refusal_nothing_that_follows_is_taken() {
    everywhere(async |world| {
        let subscribe: &[u8] = b"\x82\x07\0\x01\0\0\x01#\x02";
        let publish = Say { retain: true, ..Say::new("t", "1", QoS::AtMostOnce) };
        let mut connect = Connect::new(Version::V5, "c");
        connect.authentication_method = Some("SCRAM-SHA-1");
        connect.session_expiry_interval = u32::MAX;
        let mut bytes = encoded(&[&Packet::Connect(connect), &publish.packet(0, false)], Version::V5);
        bytes.extend_from_slice(subscribe);
        assert_eq!(last_words(&world, &bytes).await, b"\x20\x03\0\x8C\0");
        // 3.1.1: no client identifier for a session that stays.
        let mut bytes = b"\x10\x0C\0\x04MQTT\x04\0\0\0\0\0".to_vec();
        bytes.extend(encoded(&[&publish.packet(0, false)], Version::V3));
        assert_eq!(last_words(&world, &bytes).await, b"\x20\x02\0\x02");
        assert_eq!((world.broker.session_count(), world.broker.router.retained_count()), (0, 0));
    });
}

#[test]
fn no_packet_is_larger_than_the_client_takes() {
    everywhere(async |world| {
        let connect = |maximum| {
            let mut connect = Connect::new(Version::V5, "c");
            connect.maximum_packet_size = Some(maximum);
            connect
        };
        let mut whole = 0;
        for maximum in 1..40 {
            let bytes = encoded(&[&Packet::Connect(connect(maximum))], Version::V5);
            let mut peer = world.dial().await;
            peer.raw(&bytes).await;
            let mut first = [0; 2];
            let count = tokio::time::timeout(peer.patience, peer.stream.read_exact(&mut first)).await.unwrap();
            match count {
                Err(_) => assert!(maximum < 5, "a refusal has 5 bytes"),
                Ok(_) => {
                    let mut body = vec![0; usize::from(first[1])];
                    peer.stream.read_exact(&mut body).await.unwrap();
                    assert!(body.len() + 2 <= maximum as usize, "{} bytes for {maximum}", body.len() + 2);
                    if body[1] == 0 {
                        whole += 1;
                    } else {
                        assert_eq!(body, [0, ReasonCode::PacketTooLarge as u8, 0]);
                    }
                }
            }
        }
        assert!((10..36).contains(&whole), "{whole} clients were let in");
        // SUBACK and UNSUBACK for so many filters do not fit, and nobody may leave codes out.
        let filters = "\0\x01a\0".repeat(40);
        let subscribe = [b"\x82\xA3\x01\0\x01\0".as_slice(), filters.as_bytes()].concat();
        let filters = "\0\x01a".repeat(40);
        let unsubscribe = [b"\xA2\x7B\0\x01\0".as_slice(), filters.as_bytes()].concat();
        for request in [subscribe, unsubscribe] {
            let mut peer = world.connect_as(connect(45)).await;
            assert_eq!(peer.answer_to(&request).await.len(), 45);
            let mut peer = world.connect_as(connect(44)).await;
            peer.raw(&request).await;
            assert_eq!(peer.hear().await, Got::Disconnect(ReasonCode::PacketTooLarge));
            assert_eq!(peer.hear().await, Got::Closed);
        }
    });
}

#[test]
fn a_server_that_ends_a_connection_says_why_once_and_closes() {
    everywhere(async |world| {
        // Anything that is not MQTT, or is a second beginning; behind it nothing is answered.
        for wrong in [&b"\0\0"[..], b"\x10\x0D\0\x04MQTT\x05\x02\0\0\0\0\0", b"\x32\x06\0\x01t\0\0\0"] {
            let mut bytes = encoded(&[&Packet::Connect(Connect::new(Version::V5, "c"))], Version::V5);
            bytes.extend_from_slice(wrong);
            bytes.extend_from_slice(b"\xC0\0");
            let answer = last_words(&world, &bytes).await;
            let connack = usize::from(answer[1]) + 2;
            let [0xE0, 1, reason] = answer[connack..] else { panic!("{answer:02X?} to {wrong:02X?}") };
            assert!(reason >= 0x80);
        }
        // 3.1.1 has no word for it.
        let mut bytes = encoded(&[&Packet::Connect(Connect::new(Version::V3, "c"))], Version::V3);
        bytes.extend_from_slice(b"\0\0\xC0\0");
        assert_eq!(last_words(&world, &bytes).await, b"\x20\x02\0\0");
    });
}

#[test]
fn every_wrong_packet_ends_its_connection_and_no_other() {
    everywhere(async |world| {
        let mut bystander = world.connect(Version::V5, "bystander").await;
        bystander.subscribe("t", QoS::AtLeastOnce).await;
        for &(what, version, first, body, _) in MALFORMED.iter().copied().flatten() {
            let packet = [&[first, body.len() as u8], body].concat();
            let mut bytes = encoded(&[&Packet::Connect(Connect::new(version, "c"))], version);
            let mut server = Receiver::new(Side::Server, Version::V5, usize::MAX, 10);
            let is_connect = first >> 4 == 1;
            if is_connect {
                bytes.clear();
            } else {
                server.receive(&bytes).unwrap();
            }
            // Which reason it is, the tests of the receiver say.
            let error = server.receive(&packet).unwrap_err();
            let reason = Some(error.reason).filter(|_| answers::is_answered(&error));
            bytes.extend_from_slice(&packet);
            let answer = last_words(&world, &bytes).await;
            let expected = match (is_connect, version, reason) {
                (true, ..) => match (Connect::version_to_answer(body), reason) {
                    (Some(Version::V5), Some(reason)) => vec![0x20, 3, 0, reason as u8, 0],
                    (Some(Version::V3), Some(ReasonCode::UnsupportedProtocolVersion)) => b"\x20\x02\0\x01".to_vec(),
                    (Some(Version::V3), Some(ReasonCode::ClientIdentifierNotValid)) => b"\x20\x02\0\x02".to_vec(),
                    // 3.1.1 has no return code for it.
                    _ => Vec::new(),
                },
                (false, Version::V3, _) => b"\x20\x02\0\0".to_vec(),
                (false, Version::V5, reason) => {
                    let connack = usize::from(answer[1]) + 2;
                    let words = reason.map_or(Vec::new(), |reason| vec![0xE0, 1, reason as u8]);
                    [&answer[..connack], &words].concat()
                }
            };
            assert_eq!(answer, expected, "{what}: {version:?} 0x{first:02X} {body:02X?}");
        }
        bystander.publish(&Say::new("t", "1", QoS::AtLeastOnce)).await;
        assert_eq!(bystander.message().await.text(), "1");
    });
}
