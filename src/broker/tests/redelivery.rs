//! What is sent again, what is not, and what an identifier stands for afterwards.

use super::*;

impl Peer {
    /// The next message, which is not acknowledged.
    async fn unanswered(&mut self) -> GotMessage {
        match self.next().await {
            Got::Message(message) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }

    async fn refuse(&mut self, packet: impl FnOnce(Ack<'static>) -> Packet<'static>, id: u16) {
        self.say(&packet(Ack::new(PacketId::new(id).unwrap(), ReasonCode::QuotaExceeded))).await;
    }
}

/// A client of 5.0 whose session stays and which never has to be heard.
fn patient(client_id: &str) -> Connect<'_> {
    let mut connect = resuming(Version::V5, client_id);
    connect.keep_alive = 0;
    connect
}

#[test]
fn what_the_receiver_refuses_is_over_and_makes_room() {
    everywhere(async |world| {
        let mut connect = resuming(Version::V5, "subscriber");
        connect.receive_maximum = 1;
        let mut subscriber = world.connect_as(connect).await;
        subscriber.subscribe("t", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        for (text, qos) in [("1", QOS[1]), ("2", QOS[2]), ("3", QOS[1])] {
            publisher.publish(&Say::new("t", text, qos)).await;
        }
        let first = subscriber.unanswered().await;
        subscriber.has_nothing().await;
        subscriber.refuse(Packet::PubAck, first.id).await;
        let second = subscriber.unanswered().await;
        assert_eq!((second.text(), second.qos), ("2", QoS::ExactlyOnce));
        // No PUBREL follows a PUBREC that refuses; the next message does.
        subscriber.refuse(Packet::PubRec, second.id).await;
        assert_eq!(subscriber.unanswered().await.text(), "3");
        subscriber.vanish(&world, "subscriber").await;
        let mut subscriber = world.connect_as(connect).await;
        let again = subscriber.message().await;
        assert_eq!((again.text(), again.dup), ("3", true));
        subscriber.has_nothing().await;
    });
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_again_as_long_as_the_connection_lasts() {
    let world = World::in_memory();
    let mut publisher = world.connect_as(patient("publisher")).await;
    let mut subscriber = world.connect_as(patient("subscriber")).await;
    subscriber.subscribe("t", QoS::ExactlyOnce).await;
    for (text, qos) in [("1", QOS[1]), ("2", QOS[2]), ("3", QOS[2])] {
        publisher.publish(&Say::new("t", text, qos)).await;
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(subscriber.unanswered().await.id);
    }
    subscriber.ack(Packet::PubRec, ids[1]).await;
    assert_eq!(subscriber.next().await, Got::PubRel(ids[1], ReasonCode::Success));
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    subscriber.has_nothing().await;
    // All three exchanges can still be ended.
    subscriber.ack(Packet::PubAck, ids[0]).await;
    subscriber.ack(Packet::PubComp, ids[1]).await;
    subscriber.ack(Packet::PubRec, ids[2]).await;
    assert_eq!(subscriber.next().await, Got::PubRel(ids[2], ReasonCode::Success));
    subscriber.ack(Packet::PubComp, ids[2]).await;
    subscriber.ping().await;
    assert_eq!(world.broker.session("subscriber").unwrap().backlog(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_been_sent_expires_no_more() {
    let world = World::in_memory();
    let mut subscriber = world.connect_as(patient("subscriber")).await;
    subscriber.subscribe("t", QoS::ExactlyOnce).await;
    let mut publisher = world.connect_as(patient("publisher")).await;
    for (text, qos) in [("1", QOS[1]), ("2", QOS[2])] {
        publisher.publish(&Say { expiry: Some(10), ..Say::new("t", text, qos) }).await;
    }
    let first = [subscriber.unanswered().await, subscriber.unanswered().await];
    assert_eq!(first[0].expiry, Some(10));
    subscriber.vanish(&world, "subscriber").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut subscriber = world.connect_as(patient("subscriber")).await;
    for message in &first {
        let again = subscriber.message().await;
        assert_eq!((again.text(), again.dup, again.id), (message.text(), true, message.id));
    }
    subscriber.has_nothing().await;
    assert_eq!(world.broker.session("subscriber").unwrap().backlog(), (0, 0));
    // A publisher may take its time, too: its exchange is ended although the message is long of no use.
    subscriber.leave().await;
    let id = publisher.begin(&Say { expiry: Some(10), ..Say::new("t", "3", QoS::ExactlyOnce) }).await;
    assert_eq!(publisher.next().await, Got::PubRec(id, ReasonCode::Success));
    tokio::time::sleep(Duration::from_secs(60)).await;
    publisher.ack(Packet::PubRel, id).await;
    assert_eq!(publisher.next().await, Got::PubComp(id, ReasonCode::Success));
    world.connect_as(patient("subscriber")).await.has_nothing().await;
}

#[test]
fn after_its_acknowledgement_an_identifier_stands_for_a_new_message() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut subscriber = world.connect(version, "subscriber").await;
            subscriber.subscribe("t", QoS::ExactlyOnce).await;
            let mut publisher = world.connect(version, "publisher").await;
            // DUP says nothing: the broker has answered, so this is another message.
            for text in ["1", "2"] {
                publisher.say(&Say::new("t", text, QoS::AtLeastOnce).packet(5, true)).await;
                assert_eq!(publisher.next().await, Got::PubAck(5, ReasonCode::Success));
                let message = subscriber.message().await;
                assert_eq!((message.text(), message.dup), (text, false));
            }
            for text in ["3", "4"] {
                publisher.say(&Say::new("t", text, QoS::ExactlyOnce).packet(5, true)).await;
                assert_eq!(publisher.next().await, Got::PubRec(5, ReasonCode::Success));
                publisher.ack(Packet::PubRel, 5).await;
                assert_eq!(publisher.next().await, Got::PubComp(5, ReasonCode::Success));
                let message = subscriber.message().await;
                assert_eq!((message.text(), message.dup), (text, false));
            }
            if version == Version::V5 {
                // A PUBREC that refused has ended it, too.
                publisher.say(&Say::new("$SYS/t", "", QoS::ExactlyOnce).packet(6, false)).await;
                assert_eq!(publisher.next().await, Got::PubRec(6, ReasonCode::NotAuthorized));
                publisher.say(&Say::new("t", "5", QoS::ExactlyOnce).packet(6, false)).await;
                assert_eq!(publisher.next().await, Got::PubRec(6, ReasonCode::Success));
                assert_eq!(subscriber.message().await.text(), "5");
            }
            subscriber.has_nothing().await;
        }
    });
}

#[test]
fn a_clean_start_forgets_what_was_under_way_in_both_directions() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut watcher = world.connect(version, "watcher").await;
            watcher.subscribe("t", QoS::ExactlyOnce).await;
            let mut client = world.resume(version, "client").await;
            client.subscribe("t", QoS::ExactlyOnce).await;
            client.say(&Say::new("t", "first", QoS::ExactlyOnce).packet(7, false)).await;
            let mut first_id = 0;
            for _ in 0..2 {
                match client.next().await {
                    Got::Message(message) => first_id = message.id,
                    got => assert_eq!(got, Got::PubRec(7, ReasonCode::Success)),
                }
            }
            assert_ne!(first_id, 0);
            client.vanish(&world, "client").await;
            let mut client = world.connect(version, "client").await;
            // The message that was under way to it is gone, and so is the identifier of the one from it.
            client.has_nothing().await;
            client.ack(Packet::PubRec, first_id).await;
            assert_eq!(client.next().await, Got::PubRel(first_id, ReasonCode::Success));
            client.say(&Say::new("t", "second", QoS::ExactlyOnce).packet(7, true)).await;
            assert!(matches!(client.next().await, Got::PubRec(7, _)));
            assert_eq!(watcher.texts(2).await, ["first", "second"]);
            client.vanish(&world, "client").await;
            // Its session has ended with the connection: a third one finds none.
            let mut client = world.resume(version, "client").await;
            assert!(!client.session_present);
            client.has_nothing().await;
            client.leave().await;
            world.connect(version, "client").await.leave().await;
            watcher.leave().await;
        }
    });
}

#[test]
fn unsubscribe_lets_what_is_on_its_way_come_to_its_end() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut publisher = world.connect(version, "publisher").await;
            let mut subscriber = world.resume(version, "subscriber").await;
            subscriber.subscribe("t/#", QoS::ExactlyOnce).await;
            for (text, qos) in [("1", QOS[1]), ("2", QOS[2]), ("3", QOS[2])] {
                publisher.publish(&Say::new("t/x", text, qos)).await;
            }
            let mut ids = Vec::new();
            for _ in 0..3 {
                ids.push(subscriber.unanswered().await.id);
            }
            subscriber.unsubscribe("t/#").await;
            publisher.publish(&Say::new("t/x", "never", QoS::AtLeastOnce)).await;
            subscriber.ack(Packet::PubRec, ids[1]).await;
            assert_eq!(subscriber.next().await, Got::PubRel(ids[1], ReasonCode::Success));
            // Over a lost connection, too.
            subscriber.vanish(&world, "subscriber").await;
            let mut subscriber = world.resume(version, "subscriber").await;
            let again = subscriber.message().await;
            assert_eq!((again.text(), again.dup, again.id), ("1", true, ids[0]));
            assert_eq!(subscriber.next().await, Got::PubRel(ids[1], ReasonCode::Success));
            subscriber.ack(Packet::PubComp, ids[1]).await;
            assert_eq!(subscriber.message().await.id, ids[2]);
            subscriber.has_nothing().await;
            world.connect(version, "subscriber").await.leave().await;
        }
    });
}

#[test]
fn topic_aliases_begin_anew_with_each_connection() {
    everywhere(async |world| {
        let mut connect = resuming(Version::V5, "client");
        connect.topic_alias_maximum = 5;
        let mut client = world.connect_as(connect).await;
        client.subscribe("long/topic", QoS::AtLeastOnce).await;
        let alias = Some(1);
        for topic in ["long/topic", ""] {
            client.begin(&Say { alias, ..Say::new(topic, "mine", QoS::AtLeastOnce) }).await;
        }
        let mut aliases = Vec::new();
        while aliases.len() < 2 {
            if let Got::Message(message) = client.next().await {
                aliases.push(message.alias);
            }
        }
        assert_eq!(aliases, [Some(1), Some(1)]);
        client.ping().await;
        client.vanish(&world, "client").await;
        // What comes again names its topic, and the next one may again stand for it: the peer's receiver is a new
        // one, and would not know an alias of the connection before.
        let mut client = world.connect_as(connect).await;
        for _ in 0..2 {
            let again = client.message().await;
            assert_eq!((again.topic.as_str(), again.alias, again.dup), ("long/topic", Some(1), true));
        }
        client.begin(&Say { alias, ..Say::new("", "mine", QoS::AtMostOnce) }).await;
        assert_eq!(client.end().await, Some(ReasonCode::ProtocolError));
        // One who takes none gets none.
        connect.topic_alias_maximum = 0;
        let mut client = world.connect_as(connect).await;
        for _ in 0..2 {
            client.publish(&Say::new("long/topic", "mine", QoS::AtLeastOnce)).await;
            let message = client.message().await;
            assert_eq!((message.topic.as_str(), message.alias), ("long/topic", None));
        }
    });
}

#[test]
fn a_session_moves_between_the_versions_with_all_that_it_has() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut client = world.resume(Version::V5, "client").await;
        let options =
            SubscriptionOptions { qos: QoS::ExactlyOnce, retain_as_published: true, ..SubscriptionOptions::default() };
        client.subscribe_with(&[("t", options)], Some(42)).await;
        let properties = ForwardableBuilder::default().user_property("a", "b");
        for (number, version) in [Version::V3, Version::V5, Version::V3, Version::V5].into_iter().enumerate() {
            let texts = [format!("{number} away"), format!("{number} here")];
            client.vanish(&world, "client").await;
            let say = |text| Say {
                properties: properties.clone(),
                expiry: Some(1000),
                retain: true,
                ..Say::new("t", text, QoS::ExactlyOnce)
            };
            publisher.publish(&say(&texts[0])).await;
            client = world.resume(version, "client").await;
            assert!(client.session_present, "{number}");
            publisher.publish(&say(&texts[1])).await;
            for text in &texts {
                let message = client.message().await;
                assert_eq!((message.text(), message.qos, message.retain), (text.as_str(), QoS::ExactlyOnce, true));
                let (identifiers, expiry, has_properties) = match version {
                    Version::V3 => (vec![], None, false),
                    Version::V5 => (vec![42], Some(1000), true),
                };
                assert_eq!((message.identifiers, message.expiry), (identifiers, expiry));
                assert_eq!(!message.properties.is_empty(), has_properties);
            }
            client.has_nothing().await;
        }
    });
}

#[test]
fn what_waited_is_measured_by_what_the_client_takes_now() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut subscriber = world.resume(Version::V5, "subscriber").await;
        subscriber.subscribe("t", QoS::ExactlyOnce).await;
        subscriber.leave().await;
        let large = "x".repeat(200);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for text in [&large, "before", &large, "after"] {
                publisher.publish(&Say::new("t", text, qos)).await;
            }
        }
        let mut connect = resuming(Version::V5, "subscriber");
        connect.maximum_packet_size = Some(200);
        connect.receive_maximum = 1;
        let mut subscriber = world.connect_as(connect).await;
        assert_eq!(subscriber.texts(4).await, ["before", "after", "before", "after"]);
        subscriber.has_nothing().await;
        assert_eq!(world.broker.session("subscriber").unwrap().backlog(), (0, 0));
        // What was left out counts as sent: it does not come once there would be room for it.
        world.resume(Version::V5, "subscriber").await.has_nothing().await;
    });
}

#[test]
fn a_session_under_a_name_that_the_broker_gave_is_found_again() {
    everywhere(async |world| {
        let mut peer = world.dial().await;
        let Got::ConnAck(connack) = peer.say_connect(resuming(Version::V5, "")).await else { panic!() };
        assert!(!connack.session_present);
        let name = connack.assigned.unwrap();
        peer.subscribe("t", QoS::AtLeastOnce).await;
        peer.publish(&Say::new("t", "1", QoS::AtLeastOnce)).await;
        peer.vanish(&world, &name).await;
        let mut peer = world.dial().await;
        let Got::ConnAck(connack) = peer.say_connect(resuming(Version::V5, &name)).await else { panic!() };
        assert_eq!((connack.session_present, connack.assigned), (true, None));
        assert_eq!(peer.message().await.text(), "1");
        // Nobody else is called so.
        let mut other = world.dial().await;
        let Got::ConnAck(connack) = other.say_connect(resuming(Version::V5, "")).await else { panic!() };
        assert_ne!(connack.assigned.unwrap(), name);
    });
}
