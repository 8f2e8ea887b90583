//! What MQTT 5.0 adds: aliases, bounds of both sides, properties.

use super::*;

#[test]
fn a_topic_alias_stands_for_its_topic() {
    everywhere(async |world| {
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        subscriber.subscribe("#", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let maximum = world.broker.limits().topic_aliases;
        let alias = Some(maximum);
        for (topic, text) in [("a/b", "1"), ("", "2"), ("c", "3"), ("", "4")] {
            for qos in QOS {
                publisher.publish(&Say { alias, ..Say::new(topic, text, qos) }).await;
                let message = subscriber.message().await;
                let meant = if text < "3" { "a/b" } else { "c" };
                assert_eq!((message.topic.as_str(), message.text(), message.alias), (meant, text, None));
            }
        }
        for wrong in [0, maximum + 1] {
            let mut publisher = world.connect(Version::V5, "publisher").await;
            publisher.begin(&Say { alias: Some(wrong), ..Say::new("a", "", QoS::AtMostOnce) }).await;
            assert_eq!(publisher.end().await, Some(ReasonCode::TopicAliasInvalid));
        }
        let mut publisher = world.connect(Version::V5, "publisher").await;
        publisher.begin(&Say { alias: Some(1), ..Say::new("", "", QoS::AtMostOnce) }).await;
        assert_eq!(publisher.end().await, Some(ReasonCode::ProtocolError));
        subscriber.has_nothing().await;
    });
}

#[test]
fn a_client_gets_as_many_topic_aliases_as_it_takes() {
    everywhere(async |world| {
        let mut connect = Connect::new(Version::V5, "subscriber");
        connect.topic_alias_maximum = 2;
        let mut subscriber = world.connect_as(connect).await;
        subscriber.subscribe("#", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let topics = ["topic/one", "topic/two", "topic/three"];
        for qos in QOS {
            for topic in topics {
                publisher.publish(&Say::new(topic, topic, qos)).await;
            }
        }
        for round in 0..3 {
            for (index, topic) in topics.into_iter().enumerate() {
                let message = subscriber.message().await;
                // The receiver has put the topic in where only the alias came.
                assert_eq!((message.topic.as_str(), message.text()), (topic, topic), "{round}");
                assert_eq!(message.alias, [Some(1), Some(2), None][index]);
            }
        }
    });
}

#[test]
fn no_more_is_in_flight_than_the_client_takes() {
    everywhere(async |world| {
        let mut connect = Connect::new(Version::V5, "subscriber");
        connect.receive_maximum = 3;
        let mut subscriber = world.connect_as(connect).await;
        subscriber.subscribe("t", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        for number in 0..10_usize {
            publisher.publish(&Say::new("t", &number.to_string(), QOS[1 + number % 2])).await;
        }
        let mut in_flight = VecDeque::new();
        for number in 0..10 {
            if number >= 3 {
                // Three are on their way, and no more; each end makes room for one.
                subscriber.has_nothing().await;
                let (id, qos): (u16, QoS) = in_flight.pop_front().unwrap();
                if qos == QoS::ExactlyOnce {
                    subscriber.ack(Packet::PubRec, id).await;
                    assert_eq!(subscriber.next().await, Got::PubRel(id, ReasonCode::Success));
                    subscriber.has_nothing().await;
                    subscriber.ack(Packet::PubComp, id).await;
                } else {
                    subscriber.ack(Packet::PubAck, id).await;
                }
            }
            let Got::Message(message) = subscriber.next().await else { panic!() };
            assert_eq!(message.text(), number.to_string());
            in_flight.push_back((message.id, message.qos));
        }
    });
}

#[test]
fn a_client_keeps_to_the_receive_maximum_of_the_broker() {
    let limits = Limits { inflight: 10, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        let mut watcher = world.connect(Version::V5, "watcher").await;
        watcher.subscribe("#", QoS::AtMostOnce).await;
        // Ten exchanges that are open, however slowly they come.
        let mut publisher = world.connect(Version::V5, "publisher").await;
        for _ in 0..10 {
            publisher.begin(&Say::new("t", "", QoS::ExactlyOnce)).await;
            assert!(matches!(publisher.next().await, Got::PubRec(..)));
        }
        // One ends, another may begin.
        publisher.ack(Packet::PubRel, 1).await;
        assert!(matches!(publisher.next().await, Got::PubComp(..)));
        publisher.begin(&Say::new("t", "", QoS::ExactlyOnce)).await;
        assert!(matches!(publisher.next().await, Got::PubRec(..)));
        publisher.begin(&Say::new("t", "", QoS::AtLeastOnce)).await;
        assert_eq!(publisher.end().await, Some(ReasonCode::ReceiveMaximumExceeded));
        // All at once.
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut bytes = Vec::new();
        for id in 1..=11 {
            Say::new("t", "", QoS::AtLeastOnce).packet(id, false).encode(Version::V5, &mut bytes);
        }
        publisher.raw(&bytes).await;
        assert_eq!(publisher.end().await, Some(ReasonCode::ReceiveMaximumExceeded));
        // 3.1.1 knows no maximum.
        let mut publisher = world.connect(Version::V3, "publisher").await;
        for _ in 0..30 {
            publisher.begin(&Say::new("t", "", QoS::ExactlyOnce)).await;
            assert!(matches!(publisher.next().await, Got::PubRec(..)));
        }
    });
}

#[test]
fn an_honest_client_is_never_held_to_exceed_the_receive_maximum() {
    let limits = Limits { inflight: 10, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let (mut open, mut sent, mut done) = (0, 0, 0);
        while done < 500 {
            let mut bytes = Vec::new();
            while open < 10 && sent < 500 {
                open += 1;
                sent += 1;
                Say::new("t", "", QOS[1 + sent % 2]).packet(sent as u16, false).encode(Version::V5, &mut bytes);
            }
            publisher.raw(&bytes).await;
            match publisher.next().await {
                Got::PubRec(id, _) => publisher.ack(Packet::PubRel, id).await,
                Got::PubAck(..) | Got::PubComp(..) => {
                    open -= 1;
                    done += 1;
                }
                other => panic!("{other:?} after {done}"),
            }
        }
    });
}

#[test]
fn what_is_too_large_for_a_client_is_left_out_and_the_next_comes() {
    everywhere(async |world| {
        let mut connect = resuming(Version::V5, "subscriber");
        connect.maximum_packet_size = Some(200);
        connect.receive_maximum = 1;
        let mut subscriber = world.connect_as(connect).await;
        subscriber.subscribe("t", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let large = "x".repeat(200);
        for qos in QOS {
            for text in [&large, "before", &large, &large, "after"] {
                publisher.publish(&Say::new("t", text, qos)).await;
            }
            assert_eq!(subscriber.texts(2).await, ["before", "after"], "{qos:?}");
        }
        subscriber.has_nothing().await;
        assert_eq!(world.broker.metrics.too_large.value(), 9);
        // What is in flight already, and then for a client that takes less than before.
        connect.maximum_packet_size = None;
        let mut subscriber = world.connect_as(connect).await;
        for text in [&large, "after"] {
            publisher.publish(&Say::new("t", text, QoS::AtLeastOnce)).await;
        }
        let got = subscriber.next().await;
        assert!(matches!(got, Got::Message(_)), "{got:?}");
        connect.maximum_packet_size = Some(200);
        let mut subscriber = world.connect_as(connect).await;
        assert_eq!(subscriber.message().await.text(), "after");
    });
}

#[test]
fn the_largest_message_for_a_client_has_exactly_the_bytes_that_it_takes() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        // QoS, expiry, and the bytes beside a payload: fixed header, topic, properties with an identifier of 2 bytes.
        for (qos, expiry, beside) in [
            (QoS::AtMostOnce, None, 2 + 3 + 1 + 3),
            (QoS::AtLeastOnce, None, 2 + 3 + 2 + 1 + 3),
            (QoS::ExactlyOnce, Some(1000), 2 + 3 + 2 + 1 + 3 + 5),
        ] {
            let mut connect = Connect::new(Version::V5, "subscriber");
            (connect.maximum_packet_size, connect.topic_alias_maximum) = (Some(100), 10);
            let mut subscriber = world.connect_as(connect).await;
            let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
            subscriber.subscribe_with(&[("t", options)], Some(300)).await;
            for length in [0, 100 - beside - 1, 100 - beside, 100 - beside + 1, 100, 0] {
                publisher.publish(&Say { expiry, ..Say::new("t", &"x".repeat(length), qos) }).await;
            }
            for length in [0, 100 - beside - 1, 100 - beside, 0] {
                assert_eq!(subscriber.message().await.payload.len(), length, "{qos:?}");
            }
            subscriber.has_nothing().await;
            subscriber.leave().await;
        }
    });
}

#[test]
fn properties_arrive_unaltered_and_in_order() {
    everywhere(async |world| {
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        subscriber.subscribe_with(&[("t", options)], Some(268_435_455)).await;
        let mut old = world.connect(Version::V3, "old").await;
        old.subscribe("t", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let properties = ForwardableBuilder::default()
            .user_property("b", "1")
            .utf8()
            .content_type("text/plain")
            .user_property("a", "")
            .response_topic("answer/here")
            .correlation_data(&[0, 255, 1])
            .user_property("b", "1");
        let mut expected = Vec::new();
        properties.as_forwardable().write(&mut expected);
        for qos in QOS {
            let say =
                Say {
                    properties: properties.clone(), expiry: Some(1000), retain: true, ..Say::new("t", "grüße", qos)
                };
            publisher.publish(&say).await;
            let message = subscriber.message().await;
            assert_eq!((message.text(), &message.properties), ("grüße", &expected), "{qos:?}");
            assert_eq!((message.identifiers, message.expiry), (vec![268_435_455], Some(1000)));
            assert_eq!(old.message().await.text(), "grüße");
        }
        // Also those of a stored message.
        let mut late = world.connect(Version::V5, "late").await;
        late.subscribe_with(&[("t", options)], Some(1)).await;
        let message = late.message().await;
        assert_eq!((message.properties, message.identifiers), (expected, vec![1]));
    });
}

#[test]
fn publishers_learn_whether_anybody_listens() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let reason = publisher.publish(&Say::new("t", "", QoS::AtLeastOnce)).await;
        assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
        // Of QoS 2 it is not said: a repeated PUBREC could not.
        assert_eq!(publisher.publish(&Say::new("t", "", QoS::ExactlyOnce)).await, ReasonCode::Success);
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        subscriber.subscribe("t", QoS::AtMostOnce).await;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(publisher.publish(&Say::new("t", "", qos)).await, ReasonCode::Success);
        }
    });
}
