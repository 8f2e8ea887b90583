//! Sessions: what stays, what ends, and who takes over.

use super::*;
use crate::mqtt::packet::Will;
use crate::mqtt::properties::Forwardable;

fn will<'a>(topic: &'a str, delay_interval: u32) -> Will<'a> {
    Will {
        topic,
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval,
        message_expiry_interval: None,
        forwardable: Forwardable::default(),
    }
}

#[test]
fn what_came_while_a_session_was_away_waits_in_order() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut publisher = world.connect(version, "publisher").await;
            let mut subscriber = world.resume(version, "subscriber").await;
            assert!(!subscriber.session_present);
            subscriber.subscribe("t", QoS::ExactlyOnce).await;
            subscriber.leave().await;
            for number in 0..30_usize {
                let text = number.to_string();
                publisher.publish(&Say::new("t", &text, QOS[number % 3])).await;
            }
            let mut subscriber = world.resume(version, "subscriber").await;
            assert!(subscriber.session_present);
            // QoS 0 does not wait.
            let expected: Vec<String> = (0..30).filter(|n| n % 3 > 0).map(|n: usize| n.to_string()).collect();
            assert_eq!(subscriber.texts(20).await, expected);
            subscriber.has_nothing().await;
            subscriber.leave().await;
            // A clean start forgets all.
            publisher.publish(&Say::new("t", "lost", QoS::AtLeastOnce)).await;
            let mut subscriber = world.connect(version, "subscriber").await;
            assert!(!subscriber.session_present);
            publisher.publish(&Say::new("t", "lost", QoS::AtLeastOnce)).await;
            subscriber.has_nothing().await;
            subscriber.leave().await;
            assert!(!world.resume(version, "subscriber").await.session_present);
            world.connect(version, "subscriber").await.leave().await;
        }
        until("clean sessions are gone", || world.broker.session_count() == 0).await;
    });
}

#[test]
fn a_full_queue_drops_the_oldest_and_goes_on() {
    let mut limits = Limits::default();
    limits.queue.messages = 10;
    everywhere_with(&limits, async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut subscriber = world.resume(Version::V5, "subscriber").await;
        subscriber.subscribe("t", QoS::AtLeastOnce).await;
        subscriber.leave().await;
        for number in 0..25 {
            publisher.publish(&Say::new("t", &number.to_string(), QoS::AtLeastOnce)).await;
        }
        let mut subscriber = world.resume(Version::V5, "subscriber").await;
        let expected: Vec<String> = (15..25).map(|number: usize| number.to_string()).collect();
        assert_eq!(subscriber.texts(10).await, expected);
        publisher.publish(&Say::new("t", "next", QoS::AtLeastOnce)).await;
        assert_eq!(subscriber.message().await.text(), "next");
        assert_eq!(world.broker.metrics.dropped.value(), 15);
    });
}

#[test]
fn what_is_in_flight_comes_again_with_dup_and_the_same_identifier() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut publisher = world.connect(version, "publisher").await;
            let mut subscriber = world.resume(version, "subscriber").await;
            subscriber.subscribe("t", QoS::ExactlyOnce).await;
            let mut first = Vec::new();
            for (text, qos) in [("1", QOS[1]), ("2", QOS[2]), ("3", QOS[2]), ("4", QOS[1])] {
                publisher.publish(&Say::new("t", text, qos)).await;
                let Got::Message(message) = subscriber.next().await else { panic!() };
                assert!(!message.dup);
                first.push(message);
            }
            // The second gets as far as its PUBREL.
            subscriber.ack(Packet::PubRec, first[1].id).await;
            assert_eq!(subscriber.next().await, Got::PubRel(first[1].id, ReasonCode::Success));
            // On another connection, of either version.
            subscriber.vanish(&world, "subscriber").await;
            for version in VERSIONS {
                let mut subscriber = world.resume(version, "subscriber").await;
                for message in &first {
                    let expected = if message.text() == "2" {
                        Got::PubRel(message.id, ReasonCode::Success)
                    } else {
                        Got::Message(GotMessage { dup: true, ..message.clone() })
                    };
                    assert_eq!(subscriber.next().await, expected);
                }
                subscriber.has_nothing().await;
                subscriber.vanish(&world, "subscriber").await;
            }
            world.connect(version, "subscriber").await.leave().await;
        }
    });
}

#[test]
fn a_second_connection_takes_over_and_the_first_is_told() {
    everywhere(async |world| {
        for old_version in VERSIONS {
            for new_version in VERSIONS {
                for clean in [false, true] {
                    let mut watcher = world.connect(Version::V5, "watcher").await;
                    watcher.subscribe("will/#", QoS::AtLeastOnce).await;
                    let mut connect = resuming(old_version, "client");
                    connect.will = Some(will("will/now", 0));
                    let mut old = world.connect_as(connect).await;
                    old.subscribe("t", QoS::AtLeastOnce).await;
                    let mut connect = resuming(new_version, "client");
                    connect.clean_start = clean;
                    let mut new = world.connect_as(connect).await;
                    assert_eq!(new.session_present, !clean);
                    let said = (old_version == Version::V5).then_some(ReasonCode::SessionTakenOver);
                    assert_eq!(old.end().await, said);
                    assert_eq!(watcher.message().await.topic, "will/now");
                    watcher.publish(&Say::new("t", "1", QoS::AtLeastOnce)).await;
                    if clean {
                        new.has_nothing().await;
                    } else {
                        assert_eq!(new.message().await.text(), "1");
                    }
                    new.leave().await;
                    world.connect(Version::V5, "client").await.leave().await;
                    watcher.has_nothing().await;
                }
            }
        }
    });
}

#[test]
fn the_will_follows_a_lost_connection_and_not_a_goodbye() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut watcher = world.connect(version, "watcher").await;
            watcher.subscribe("will/#", QoS::AtLeastOnce).await;
            let with_will = |topic| {
                let mut connect = Connect::new(version, "client");
                connect.will = Some(will(topic, 0));
                connect
            };
            world.connect_as(with_will("will/lost")).await.vanish(&world, "client").await;
            let message = watcher.message().await;
            assert_eq!((message.topic.as_str(), message.text(), message.retain), ("will/lost", "gone", false));
            world.connect_as(with_will("will/never")).await.leave().await;
            let mut broken = world.connect_as(with_will("will/broken")).await;
            broken.raw(&[0xF0, 0]).await;
            let said = (version == Version::V5).then_some(ReasonCode::ProtocolError);
            assert_eq!(broken.end().await, said);
            assert_eq!(watcher.message().await.topic, "will/broken");
            if version == Version::V5 {
                let mut client = world.connect_as(with_will("will/wanted")).await;
                client.say(&Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill))).await;
                assert_eq!(client.end().await, None);
                assert_eq!(watcher.message().await.topic, "will/wanted");
            }
            watcher.has_nothing().await;
        }
    });
}

#[test]
fn a_retained_will_is_retained_and_nobody_speaks_for_the_broker() {
    everywhere(async |world| {
        let mut connect = Connect::new(Version::V5, "client");
        connect.will = Some(Will { retain: true, ..will("status", 0) });
        world.connect_as(connect).await.vanish(&world, "client").await;
        let mut late = world.connect(Version::V5, "late").await;
        late.subscribe("status", QoS::AtLeastOnce).await;
        assert!(late.message().await.retain);
        let mut connect = Connect::new(Version::V5, "client");
        connect.will = Some(will("$SYS/broker/version", 0));
        let mut refused = world.dial().await;
        let Got::ConnAck(connack) = refused.say_connect(connect).await else { panic!() };
        assert_eq!(connack.reason, ReasonCode::NotAuthorized);
        assert_eq!(refused.next().await, Got::Closed);
    });
}

#[test]
fn a_session_may_end_with_disconnect_but_not_be_raised_from_0() {
    everywhere(async |world| {
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        disconnect.session_expiry_interval = Some(0);
        let mut client = world.resume(Version::V5, "client").await;
        client.say(&Packet::Disconnect(disconnect)).await;
        assert_eq!(client.end().await, None);
        until("the session ends", || world.broker.session_count() == 0).await;
        let mut client = world.connect(Version::V5, "client").await;
        disconnect.session_expiry_interval = Some(10);
        client.say(&Packet::Disconnect(disconnect)).await;
        assert_eq!(client.end().await, Some(ReasonCode::ProtocolError));
        until("the session ends", || world.broker.session_count() == 0).await;
    });
}

#[test]
fn connections_that_come_and_go_at_once_leave_one_session_or_none() {
    everywhere(async |world| {
        for round in 0..30 {
            let mut peers = Vec::new();
            for _ in 0..4 {
                let mut peer = world.dial().await;
                let mut connect = Connect::new(Version::V5, "same");
                connect.clean_start = round % 3 == 0;
                connect.session_expiry_interval = 0;
                peer.version = Version::V5;
                let mut bytes = Vec::new();
                connect.encode(&mut bytes);
                Packet::PingReq.encode(Version::V5, &mut bytes);
                if round % 2 == 0 {
                    Packet::Disconnect(Disconnect::new(ReasonCode::Success)).encode(Version::V5, &mut bytes);
                }
                peer.raw(&bytes).await;
                peers.push(peer);
            }
            for peer in &mut peers {
                assert!(matches!(peer.next().await, Got::ConnAck(_) | Got::Closed));
            }
            drop(peers);
            until("the session ends", || world.broker.session_count() == 0).await;
        }
    });
}

#[test]
fn stopping_tells_every_client_and_ends_every_task() {
    everywhere(async |world| {
        let mut silent = world.dial().await;
        let mut clients = [
            world.connect(Version::V5, "new").await,
            world.resume(Version::V5, "stays").await,
            world.connect(Version::V3, "old").await,
        ];
        tokio::time::timeout(PATIENCE, world.broker.stop()).await.expect("all tasks end");
        assert_eq!(clients[0].end().await, Some(ReasonCode::ServerShuttingDown));
        assert_eq!(clients[1].end().await, Some(ReasonCode::ServerShuttingDown));
        assert_eq!(clients[2].end().await, None);
        assert_eq!(silent.next().await, Got::Closed);
        // Nobody is let in any more.
        assert_eq!(world.dial().await.next().await, Got::Closed);
    });
}
