//! The beginning of a connection, and what ends it.

use super::*;

/// A CONNECT with this protocol name, level and connect flags, without properties.
fn connect(name: &str, level: u8, flags: u8, client_id: &str) -> Vec<u8> {
    let mut body = vec![0, name.len() as u8];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&[level, flags, 0, 60]);
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(&[0, client_id.len() as u8]);
    body.extend_from_slice(client_id.as_bytes());
    let mut packet = vec![0x10, body.len() as u8];
    packet.append(&mut body);
    packet
}

async fn answer_to(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut peer = world.dial().await;
    peer.raw(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, peer.stream.read_to_end(&mut answer)).await.expect("it is closed");
    answer
}

#[test]
fn a_connect_that_cannot_be_taken_is_answered_in_its_version() {
    everywhere(async |world| {
        // A version to come, and one with the bit that bridges of mosquitto set first.
        let unsupported = ReasonCode::UnsupportedProtocolVersion as u8;
        assert_eq!(answer_to(&world, &connect("MQTT", 6, 2, "c")).await, [0x20, 3, 0, unsupported, 0]);
        assert_eq!(answer_to(&world, &connect("MQTT", 0x84, 2, "c")).await, [0x20, 2, 0, 1]);
        // Another protocol.
        assert_eq!(answer_to(&world, &connect("MQTTX", 4, 2, "c")).await, b"");
        // 3.1 knows no client without identifier.
        assert_eq!(answer_to(&world, &connect("MQIsdp", 3, 2, "")).await, [0x20, 2, 0, 2]);
        // No client identifier for a session that stays.
        assert_eq!(answer_to(&world, &connect("MQTT", 4, 0, "")).await, [0x20, 2, 0, 2]);
        // The reserved flag: 3.1.1 closes without a word, 5.0 has one.
        assert_eq!(answer_to(&world, &connect("MQTT", 4, 3, "c")).await, b"");
        let answer = answer_to(&world, &connect("MQTT", 5, 3, "c")).await;
        assert_eq!((answer[0], answer[3]), (0x20, ReasonCode::MalformedPacket as u8));
        // Something else altogether.
        assert_eq!(answer_to(&world, b"GET / HTTP/1.1\r\n\r\n").await, b"");
        assert_eq!(answer_to(&world, &[0xC0, 0]).await, b"");
        assert_eq!(answer_to(&world, &[0x82, 6, 0, 1, 0, 1, b't', 0]).await, b"");
        assert_eq!(world.broker.session_count(), 0);
    });
}

#[test]
fn a_client_of_3_1_is_served_as_one_of_3_1_1() {
    everywhere(async |world| {
        let mut subscriber = world.connect(Version::V3, "subscriber").await;
        subscriber.subscribe("t", QoS::AtLeastOnce).await;
        for _ in 0..2 {
            // The bits that 3.1 leaves alone are set, and its CONNACK never says that the session was there.
            let mut hello = connect("MQIsdp", 3, 1, "old");
            hello[0] |= 0x04;
            let publish = [0x32, 6, 0, 1, b't', 0, 1, b'!'];
            let answer = answer_to(&world, &[&hello[..], &publish, &[0xE0, 0]].concat()).await;
            assert_eq!(answer, [0x20, 2, 0, 0, 0x40, 2, 0, 1]);
            assert_eq!(subscriber.message().await.text(), "!");
        }
    });
}

#[test]
fn connack_is_not_sent_to_a_client_that_takes_no_packet_of_its_length() {
    everywhere(async |world| {
        for (maximum, said) in [(2, &b""[..]), (10, &[0x20, 3, 0, ReasonCode::PacketTooLarge as u8, 0])] {
            let mut connect = Connect::new(Version::V5, "c");
            connect.maximum_packet_size = Some(maximum);
            let mut hello = Vec::new();
            Packet::Connect(connect).encode(Version::V5, &mut hello);
            assert_eq!(answer_to(&world, &hello).await, said);
        }
        assert_eq!(world.broker.session_count(), 0);
    });
}

#[test]
fn an_authentication_method_is_refused() {
    everywhere(async |world| {
        let mut connect = Connect::new(Version::V5, "c");
        connect.authentication_method = Some("SCRAM-SHA-1");
        let mut peer = world.dial().await;
        let Got::ConnAck(connack) = peer.say_connect(connect).await else { panic!() };
        assert_eq!(connack.reason, ReasonCode::BadAuthenticationMethod);
        assert_eq!(peer.next().await, Got::Closed);
        let mut peer = world.connect(Version::V5, "c").await;
        peer.raw(&[0xF0, 0]).await;
        assert_eq!(peer.end().await, Some(ReasonCode::ProtocolError));
    });
}

#[test]
fn connack_says_what_the_broker_takes_and_names_the_nameless() {
    everywhere(async |world| {
        let mut names = Vec::new();
        for _ in 0..2 {
            let mut peer = world.dial().await;
            let Got::ConnAck(connack) = peer.say_connect(Connect::new(Version::V5, "")).await else { panic!() };
            let limits = world.broker.limits();
            assert_eq!(connack.receive_maximum, limits.inflight);
            assert_eq!(connack.topic_alias_maximum, limits.topic_aliases);
            assert_eq!(connack.maximum_packet_size, Some(limits.packet_bytes as u32));
            names.push(connack.assigned.unwrap());
            peer.leave().await;
        }
        assert_ne!(names[0], names[1]);
        let mut old = world.connect(Version::V3, "").await;
        old.ping().await;
    });
}

#[test]
fn what_a_client_may_not_send_ends_the_connection_with_the_reason() {
    everywhere(async |world| {
        let a_publish_to_a_wildcard: &[u8] = &[0x30, 4, 0, 1, b'#', 0];
        let wrong: [(&[u8], ReasonCode); 8] = [
            (&[0x10, 0], ReasonCode::MalformedPacket),
            (&[0x20, 3, 0, 0, 0], ReasonCode::ProtocolError),
            (&[0xD0, 0], ReasonCode::ProtocolError),
            (&[0xC1, 0], ReasonCode::MalformedPacket),
            (&[0x36, 0], ReasonCode::MalformedPacket),
            (a_publish_to_a_wildcard, ReasonCode::MalformedPacket),
            (&[0x82, 3, 0, 1, 0], ReasonCode::MalformedPacket),
            (&[0x00], ReasonCode::ProtocolError),
        ];
        for (bytes, reason) in wrong {
            for version in VERSIONS {
                let mut peer = world.connect(version, "c").await;
                peer.raw(bytes).await;
                assert_eq!(peer.end().await, (version == Version::V5).then_some(reason), "{bytes:02X?}");
            }
        }
        for version in VERSIONS {
            // What has no length is no packet to be answered.
            let mut peer = world.connect(version, "c").await;
            peer.raw(&[0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 1]).await;
            assert_eq!(peer.end().await, None);
            let mut peer = world.connect(version, "c").await;
            peer.say(&Packet::Connect(Connect::new(version, "c"))).await;
            assert_eq!(peer.end().await, (version == Version::V5).then_some(ReasonCode::ProtocolError));
        }
    });
}

#[test]
fn the_reason_is_learnt_although_more_is_being_sent() {
    everywhere(async |world| {
        let mut peer = world.connect(Version::V5, "c").await;
        // A PUBLISH of 2 MB, half of which is on its way.
        let mut bytes = vec![0x30, 0x80, 0x80, 0x80, 0x01];
        bytes.resize(1024 * 1024, 0);
        let (mut reading, mut writing) = tokio::io::split(std::mem::replace(&mut peer.stream, Box::pin(duplex(1).0)));
        let written = async {
            let _ = writing.write_all(&bytes).await;
        };
        let mut answer = [0; 3];
        let read = async {
            reading.read_exact(&mut answer).await.unwrap();
        };
        tokio::join!(written, read);
        assert_eq!(answer[0], 0xE0);
        assert_eq!(answer[2], ReasonCode::PacketTooLarge as u8);
    });
}

#[test]
fn everything_in_one_segment_is_taken_in_its_order() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut watcher = world.connect(version, "watcher").await;
            watcher.subscribe("#", QoS::AtLeastOnce).await;
            let mut peer = world.dial().await;
            peer.version = version;
            peer.receiver = Receiver::new(Side::Client, version, usize::MAX, 0);
            let mut connect = Connect::new(version, "hasty");
            connect.will = Some(crate::mqtt::packet::Will {
                topic: "will",
                payload: b"",
                qos: QoS::AtMostOnce,
                retain: false,
                delay_interval: 0,
                message_expiry_interval: None,
                forwardable: crate::mqtt::properties::Forwardable::default(),
            });
            let mut bytes = Vec::new();
            connect.encode(&mut bytes);
            Say::new("t", "1", QoS::AtLeastOnce).packet(1, false).encode(version, &mut bytes);
            Packet::Disconnect(Disconnect::new(ReasonCode::Success)).encode(version, &mut bytes);
            // What follows a DISCONNECT does not count.
            Packet::PingReq.encode(version, &mut bytes);
            peer.raw(&bytes).await;
            assert!(matches!(peer.next().await, Got::ConnAck(_)));
            assert_eq!(peer.end().await, None);
            assert_eq!(watcher.message().await.text(), "1");
            watcher.has_nothing().await;
        }
    });
}

#[test]
fn too_many_connections_are_closed_and_room_is_given_again() {
    let limits = Limits { connections: 2, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        let first = world.connect(Version::V5, "1").await;
        let _second = world.connect(Version::V5, "2").await;
        assert_eq!(world.dial().await.next().await, Got::Closed);
        first.leave().await;
        for _ in 0..1000 {
            let mut peer = world.dial().await;
            if matches!(peer.say_connect(Connect::new(Version::V5, "3")).await, Got::ConnAck(_)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a connection that has ended gives no room");
    });
}
