//! Which messages reach whom, how often and with which QoS.

use super::*;

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

#[test]
fn messages_arrive_in_order_at_the_lower_qos_between_all_versions() {
    everywhere(async |world| {
        for from in VERSIONS {
            let mut publisher = world.connect(from, "publisher").await;
            for to in VERSIONS {
                for granted in QOS {
                    let mut subscriber = world.connect(to, "subscriber").await;
                    subscriber.subscribe("a/+", granted).await;
                    for published in QOS {
                        for number in 0..20 {
                            let text = number.to_string();
                            publisher.publish(&Say::new("a/b", &text, published)).await;
                        }
                        for number in 0..20 {
                            let message = subscriber.message().await;
                            let expected = (number.to_string(), published.min(granted), false, false);
                            let got = (message.text().to_owned(), message.qos, message.retain, message.dup);
                            assert_eq!(got, expected, "{from:?} -> {to:?}");
                            assert_eq!(message.topic, "a/b");
                        }
                    }
                    subscriber.has_nothing().await;
                    subscriber.leave().await;
                }
            }
        }
    });
}

#[test]
fn many_messages_under_way_at_once_keep_their_order_at_each_qos() {
    everywhere(async |world| {
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        subscriber.subscribe("#", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V3, "publisher").await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut bytes = Vec::new();
            for number in 1..=500_u16 {
                Say::new("t", &number.to_string(), qos).packet(number, false).encode(Version::V3, &mut bytes);
            }
            publisher.raw(&bytes).await;
            let expected: Vec<String> = (1..=500).map(|number: u16| number.to_string()).collect();
            assert_eq!(subscriber.texts(500).await, expected);
            for number in 1..=500 {
                if qos == QoS::AtLeastOnce {
                    assert_eq!(publisher.next().await, Got::PubAck(number, ReasonCode::Success));
                }
            }
        }
    });
}

#[test]
fn overlapping_subscriptions_get_one_copy_with_the_highest_qos_and_all_identifiers() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        for version in VERSIONS {
            let mut subscriber = world.connect(version, "subscriber").await;
            let known = |identifier| (version == Version::V5).then_some(identifier);
            subscriber.subscribe_with(&[("a/#", options(QoS::AtMostOnce))], known(7)).await;
            subscriber.subscribe_with(&[("a/b", options(QoS::ExactlyOnce))], known(8)).await;
            subscriber.subscribe_with(&[("+/b", options(QoS::AtLeastOnce))], None).await;
            subscriber.subscribe_with(&[("other", options(QoS::AtLeastOnce))], known(9)).await;
            publisher.publish(&Say::new("a/b", "1", QoS::ExactlyOnce)).await;
            let message = subscriber.message().await;
            assert_eq!(message.qos, QoS::ExactlyOnce);
            let mut identifiers = message.identifiers;
            identifiers.sort_unstable();
            assert_eq!(identifiers, if version == Version::V5 { vec![7, 8] } else { vec![] });
            subscriber.has_nothing().await;
            subscriber.leave().await;
        }
    });
}

#[test]
fn a_client_with_no_local_does_not_get_its_own() {
    everywhere(async |world| {
        let mut client = world.connect(Version::V5, "client").await;
        let mut other = world.connect(Version::V5, "other").await;
        for filter in ["t", "t/#"] {
            client
                .subscribe_with(&[(filter, SubscriptionOptions { no_local: true, ..options(QoS::AtLeastOnce) })], None)
                .await;
        }
        let reason = client.publish(&Say::new("t", "mine", QoS::AtLeastOnce)).await;
        assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
        other.publish(&Say::new("t", "theirs", QoS::AtLeastOnce)).await;
        assert_eq!(client.message().await.text(), "theirs");
        client.subscribe("t/#", QoS::AtLeastOnce).await;
        client.publish(&Say::new("t", "mine", QoS::AtLeastOnce)).await;
        assert_eq!(client.message().await.text(), "mine");
        client.has_nothing().await;
    });
}

#[test]
fn wildcards_match_no_topics_that_begin_with_a_dollar_sign() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut all = world.connect(version, "all").await;
            for filter in ["#", "+/x"] {
                all.subscribe(filter, QoS::AtLeastOnce).await;
            }
            let mut few = world.connect(version, "few").await;
            few.subscribe("$own/#", QoS::AtLeastOnce).await;
            let mut publisher = world.connect(version, "publisher").await;
            publisher.publish(&Say { retain: true, ..Say::new("$own/x", "1", QoS::AtLeastOnce) }).await;
            assert_eq!(few.message().await.topic, "$own/x");
            all.subscribe("#", QoS::AtLeastOnce).await;
            all.has_nothing().await;
            publisher.publish(&Say::retained("$own/x", "")).await;
            // $SYS is the broker's.
            let refused = publisher.publish(&Say::new("$SYS/x", "1", QoS::AtLeastOnce)).await;
            if version == Version::V5 {
                assert_eq!(refused, ReasonCode::NotAuthorized);
            }
        }
    });
}

#[test]
fn a_qos_2_message_is_delivered_once_however_often_it_is_sent() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut subscriber = world.connect(version, "subscriber").await;
            subscriber.subscribe("t", QoS::ExactlyOnce).await;
            let mut publisher = world.resume(version, "publisher").await;
            let message = Say::new("t", "once", QoS::ExactlyOnce);
            for dup in [false, true, true] {
                publisher.say(&message.packet(7, dup)).await;
                assert_eq!(publisher.next().await, Got::PubRec(7, ReasonCode::Success));
            }
            // Nor on the next connection.
            publisher.vanish(&world, "publisher").await;
            let mut publisher = world.resume(version, "publisher").await;
            assert!(publisher.session_present);
            publisher.say(&message.packet(7, true)).await;
            assert_eq!(publisher.next().await, Got::PubRec(7, ReasonCode::Success));
            for _ in 0..2 {
                publisher.ack(Packet::PubRel, 7).await;
                assert_eq!(publisher.next().await, Got::PubComp(7, ReasonCode::Success));
            }
            // Released, the identifier is free for another.
            publisher.say(&Say::new("t", "another", QoS::ExactlyOnce).packet(7, false)).await;
            assert_eq!(publisher.next().await, Got::PubRec(7, ReasonCode::Success));
            assert_eq!(subscriber.texts(2).await, ["once", "another"]);
            subscriber.has_nothing().await;
            world.connect(version, "publisher").await.leave().await;
            subscriber.leave().await;
        }
    });
}

#[test]
fn after_unsubscribe_nothing_comes() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut client = world.connect(version, "client").await;
            client.subscribe("t/+", QoS::AtLeastOnce).await;
            let known = client.unsubscribe("t/+").await;
            let unknown = client.unsubscribe("t/+").await;
            if version == Version::V5 {
                assert_eq!((known, unknown), (vec![ReasonCode::Success], vec![ReasonCode::NoSubscriptionExisted]));
            }
            client.publish(&Say::new("t/1", "1", QoS::AtLeastOnce)).await;
            client.has_nothing().await;
        }
    });
}

#[test]
fn each_filter_has_its_answer() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut client = world.connect(version, "client").await;
            let filters = [
                ("a", options(QoS::ExactlyOnce)),
                ("a/#/b", options(QoS::AtMostOnce)),
                ("$share/g/a", options(QoS::AtMostOnce)),
            ];
            let reasons = client.subscribe_with(&filters, None).await;
            let expected = match version {
                Version::V3 => [ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError, ReasonCode::Success],
                Version::V5 => [ReasonCode::GrantedQoS2, ReasonCode::TopicFilterInvalid, ReasonCode::Success],
            };
            assert_eq!(reasons, expected);
        }
    });
}

#[test]
fn an_acknowledgement_that_is_not_the_one_awaited_ends_the_connection() {
    type Acknowledge = fn(Ack<'static>) -> Packet<'static>;
    let wrong: [(QoS, Option<Acknowledge>, Acknowledge); 5] = [
        (QoS::AtLeastOnce, None, Packet::PubRec),
        (QoS::AtLeastOnce, None, Packet::PubComp),
        (QoS::ExactlyOnce, None, Packet::PubAck),
        (QoS::ExactlyOnce, None, Packet::PubComp),
        (QoS::ExactlyOnce, Some(Packet::PubRec), Packet::PubAck),
    ];
    everywhere(async |world| {
        for version in VERSIONS {
            for (qos, first, then) in wrong {
                let mut subscriber = world.connect(version, "subscriber").await;
                subscriber.subscribe("t", qos).await;
                world.connect(version, "publisher").await.publish(&Say::new("t", "", qos)).await;
                let Got::Message(GotMessage { id, .. }) = subscriber.next().await else { panic!("no message") };
                // Of a message that is not in flight it is a repetition, and harmless.
                subscriber.ack(then, id + 1).await;
                if matches!(then(Ack::new(PacketId::MIN, ReasonCode::Success)), Packet::PubRec(_)) {
                    assert_eq!(subscriber.next().await, Got::PubRel(id + 1, ReasonCode::Success));
                }
                if let Some(first) = first {
                    subscriber.ack(first, id).await;
                    assert_eq!(subscriber.next().await, Got::PubRel(id, ReasonCode::Success));
                }
                subscriber.ping().await;
                subscriber.ack(then, id).await;
                let said = (version == Version::V5).then_some(ReasonCode::ProtocolError);
                assert_eq!(subscriber.end().await, said);
            }
        }
    });
}
