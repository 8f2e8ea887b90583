//! Which messages a subscription gets: names byte by byte, every option, replacing and ending it.

use super::*;
use crate::mqtt::packet::RetainHandling;

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

#[test]
fn topics_are_compared_byte_by_byte() {
    // A composed and a decomposed letter, a byte order mark, cases, empty levels, spaces, dots, a percent sign.
    let names = [
        "é",
        "e\u{301}",
        "\u{FEFF}é",
        "É",
        "/é",
        "é/",
        "é//é",
        "é/é",
        "é/../é",
        " é",
        "é ",
        "%C3%A9",
        "\u{FFFD}",
        "ﬁ",
        "fi",
    ];
    everywhere(async |world| {
        for version in VERSIONS {
            let mut publisher = world.connect(version, "publisher").await;
            let mut subscribers = Vec::new();
            for (index, name) in names.iter().enumerate() {
                let mut subscriber = world.connect(version, &index.to_string()).await;
                subscriber.subscribe(name, QoS::AtLeastOnce).await;
                subscribers.push(subscriber);
            }
            for name in names {
                publisher.publish(&Say::retained(name, name)).await;
            }
            for (name, subscriber) in names.iter().zip(&mut subscribers) {
                let message = subscriber.message().await;
                assert_eq!((message.topic.as_str(), message.text()), (*name, *name));
                // What is retained is found in the same way.
                subscriber.subscribe(name, QoS::AtLeastOnce).await;
                let message = subscriber.message().await;
                assert_eq!((message.topic.as_str(), message.text()), (*name, *name));
                subscriber.has_nothing().await;
            }
            assert_eq!(world.broker.router.retained_count(), names.len());
            for name in names {
                publisher.publish(&Say::retained(name, "")).await;
            }
        }
    });
}

#[test]
fn every_option_does_what_it_says_in_every_combination() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let handlings = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
        for qos in QOS {
            for retain_handling in handlings {
                for (retain_as_published, no_local) in [(false, false), (false, true), (true, false), (true, true)] {
                    let options = SubscriptionOptions { qos, retain_handling, retain_as_published, no_local };
                    let what = format!("{options:?}");
                    // Not the subscriber's own, which no local would leave out.
                    publisher.publish(&Say::retained("r", "stored")).await;
                    let mut subscriber = world.connect(Version::V5, "subscriber").await;
                    // Once it is new, then it is not.
                    for new in [true, false] {
                        subscriber.subscribe_with(&[("r", options)], None).await;
                        let comes = match retain_handling {
                            RetainHandling::Send => true,
                            RetainHandling::SendIfNew => new,
                            RetainHandling::DoNotSend => false,
                        };
                        if comes {
                            let stored = subscriber.message().await;
                            // What was stored says so, whatever retain as published is.
                            assert_eq!((stored.text(), stored.retain), ("stored", true), "{what}");
                            assert_eq!(stored.qos, qos.min(QoS::AtLeastOnce), "{what}");
                        }
                        subscriber.has_nothing().await;
                    }
                    for retain in [false, true] {
                        publisher.publish(&Say { retain, ..Say::new("r", "stored", QoS::AtLeastOnce) }).await;
                        let live = subscriber.message().await;
                        assert_eq!((live.text(), live.retain), ("stored", retain && retain_as_published), "{what}");
                        subscriber.publish(&Say { retain, ..Say::new("r", "stored", QoS::AtLeastOnce) }).await;
                        if !no_local {
                            let own = subscriber.message().await;
                            assert_eq!((own.text(), own.retain), ("stored", retain && retain_as_published), "{what}");
                        }
                        subscriber.has_nothing().await;
                    }
                    subscriber.leave().await;
                }
            }
        }
    });
}

#[test]
fn only_a_retained_message_takes_the_place_of_one_and_it_outlives_every_session() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut publisher = world.connect(version, "publisher").await;
            let stored = async |expected: Option<&str>| {
                let mut late = world.connect(version, "late").await;
                late.subscribe("r", QoS::ExactlyOnce).await;
                if let Some(expected) = expected {
                    let message = late.message().await;
                    assert_eq!((message.text(), message.retain), (expected, true));
                }
                late.has_nothing().await;
                late.leave().await;
            };
            stored(None).await;
            publisher.publish(&Say::retained("r", "1")).await;
            for (text, qos) in [("not this", QOS[0]), ("nor this", QOS[1]), ("", QOS[2])] {
                publisher.publish(&Say::new("r", text, qos)).await;
                stored(Some("1")).await;
            }
            // Of each QoS, and of a client that is gone.
            for (text, qos) in [("2", QOS[0]), ("3", QOS[2])] {
                publisher.publish(&Say { retain: true, ..Say::new("r", text, qos) }).await;
                stored(Some(text)).await;
            }
            publisher.leave().await;
            stored(Some("3")).await;
            // A session that goes on is not sent it again.
            let mut kept = world.resume(version, "kept").await;
            kept.subscribe("r", QoS::AtLeastOnce).await;
            assert_eq!(kept.message().await.text(), "3");
            kept.leave().await;
            let mut kept = world.resume(version, "kept").await;
            kept.has_nothing().await;
            world.connect(version, "kept").await.leave().await;
            let mut publisher = world.connect(version, "publisher").await;
            publisher.publish(&Say { retain: true, ..Say::new("r", "", QoS::AtMostOnce) }).await;
            stored(None).await;
            assert_eq!(world.broker.router.retained_count(), 0);
        }
    });
}

#[test]
fn a_subscription_is_replaced_without_a_gap() {
    const COUNT: usize = 400;
    everywhere(async |world| {
        for version in VERSIONS {
            let mut publisher = world.connect(Version::V5, "publisher").await;
            publisher.publish(&Say::retained("t/stored", "stored")).await;
            let mut subscriber = world.connect(version, "subscriber").await;
            subscriber.subscribe("t/+", QoS::AtLeastOnce).await;
            assert_eq!(subscriber.message().await.text(), "stored");
            let publishing = async {
                for number in 0..COUNT {
                    publisher.publish(&Say::new("t/live", &number.to_string(), QoS::AtLeastOnce)).await;
                }
            };
            let mut stored = 0;
            let replacing = async {
                let mut live = Vec::new();
                for round in 1.. {
                    let identifier = (version == Version::V5).then_some(round);
                    let reasons = subscriber.subscribe_with(&[("t/+", options(QoS::AtLeastOnce))], identifier).await;
                    assert_eq!(reasons, [ReasonCode::GrantedQoS1]);
                    loop {
                        let message = subscriber.message().await;
                        if message.topic == "t/stored" {
                            // Each time what is retained comes again.
                            assert_eq!(message.identifiers, Vec::from_iter(identifier));
                            stored += 1;
                            break;
                        }
                        assert!(message.identifiers.len() <= 1);
                        live.push(message.text().to_owned());
                    }
                    if live.len() == COUNT || round == 50 {
                        break;
                    }
                }
                while live.len() < COUNT {
                    live.push(subscriber.message().await.text().to_owned());
                }
                live
            };
            let ((), live) = tokio::join!(publishing, replacing);
            assert_eq!(live, (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>());
            assert!(stored > 0);
            // Each option is that of the newest.
            subscriber.subscribe_with(&[("t/+", options(QoS::AtMostOnce))], None).await;
            let message = subscriber.message().await;
            assert_eq!((message.qos, message.identifiers), (QoS::AtMostOnce, vec![]));
            publisher.publish(&Say::new("t/live", "", QoS::AtLeastOnce)).await;
            let message = subscriber.message().await;
            assert_eq!((message.qos, message.identifiers), (QoS::AtMostOnce, vec![]));
            subscriber.has_nothing().await;
            publisher.publish(&Say::retained("t/stored", "")).await;
            publisher.leave().await;
            subscriber.leave().await;
        }
    });
}

#[test]
fn only_the_filter_that_is_named_is_unsubscribed() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut client = world.connect(version, "client").await;
            for filter in ["a/b", "a/+", "a/#", "A/b", "#"] {
                client.subscribe(filter, QoS::AtLeastOnce).await;
            }
            let expect = async |client: &mut Peer, comes: bool| {
                client.publish(&Say::new("a/b", "", QoS::AtLeastOnce)).await;
                if comes {
                    client.message().await;
                }
                client.has_nothing().await;
            };
            // Filters that match what is subscribed to, or look like it, and are none of it.
            for filter in ["+/b", "a/b/", "/a/b", "a/B", "+/+", "a/b/#"] {
                let reasons = client.unsubscribe(filter).await;
                if version == Version::V5 {
                    assert_eq!(reasons, [ReasonCode::NoSubscriptionExisted], "{filter}");
                }
                expect(&mut client, true).await;
            }
            for (filter, comes) in [("#", true), ("a/b", true), ("a/#", true), ("a/+", false)] {
                client.unsubscribe(filter).await;
                expect(&mut client, comes).await;
            }
            assert_eq!(client.unsubscribe("A/b").await.len(), usize::from(version == Version::V5));
        }
    });
}

#[test]
fn many_filters_in_one_packet_are_as_many_subscriptions() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut publisher = world.connect(version, "publisher").await;
            publisher.publish(&Say::retained("a", "stored")).await;
            let mut client = world.connect(version, "client").await;
            let filters = [
                ("a", options(QoS::AtMostOnce)),
                ("b/+", options(QoS::AtLeastOnce)),
                ("b+", options(QoS::AtLeastOnce)),
                // The same again: the later counts.
                ("a", options(QoS::ExactlyOnce)),
            ];
            let reasons = client.subscribe_with(&filters, None).await;
            let wrong =
                if version == Version::V5 { ReasonCode::TopicFilterInvalid } else { ReasonCode::UnspecifiedError };
            assert_eq!(reasons, [ReasonCode::Success, ReasonCode::GrantedQoS1, wrong, ReasonCode::GrantedQoS2]);
            let stored = client.message().await;
            assert_eq!((stored.text(), stored.qos), ("stored", QoS::AtLeastOnce));
            client.has_nothing().await;
            publisher.publish(&Say::new("a", "", QoS::ExactlyOnce)).await;
            assert_eq!(client.message().await.qos, QoS::ExactlyOnce);
            publisher.publish(&Say::new("b/x", "", QoS::ExactlyOnce)).await;
            assert_eq!(client.message().await.qos, QoS::AtLeastOnce);
            client.has_nothing().await;
            publisher.publish(&Say::retained("a", "")).await;
        }
    });
}

#[test]
fn each_member_of_a_group_gets_the_qos_that_it_was_granted() {
    everywhere(async |world| {
        let mut members = Vec::new();
        for qos in QOS {
            let mut member = world.connect(Version::V5, &format!("{qos:?}")).await;
            member.subscribe("$share/g/t", qos).await;
            members.push((qos, member));
        }
        let mut publisher = world.connect(Version::V5, "publisher").await;
        for published in QOS {
            for _ in 0..30 {
                publisher.publish(&Say::new("t", "", published)).await;
            }
            for (granted, member) in &mut members {
                member.ping().await;
                member.ping().await;
                let mut count = 0;
                while !member.kept.is_empty() {
                    if let Some(Got::PubRel(id, _)) = member.kept.front() {
                        let id = *id;
                        member.kept.pop_front();
                        member.ack(Packet::PubComp, id).await;
                    } else {
                        assert_eq!(member.message().await.qos, published.min(*granted));
                        count += 1;
                    }
                    member.ping().await;
                }
                assert!(count > 0, "{granted:?} has its turn");
            }
        }
    });
}

#[test]
fn a_member_that_comes_back_gets_the_rest_of_what_was_begun_and_nobody_else_does() {
    everywhere(async |world| {
        let mut member = world.resume(Version::V5, "member").await;
        member.subscribe("$share/g/t", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut ids = Vec::new();
        for text in ["1", "2", "3"] {
            publisher.publish(&Say::new("t", text, QoS::ExactlyOnce)).await;
            let Got::Message(message) = member.next().await else { panic!() };
            ids.push(message.id);
        }
        member.ack(Packet::PubRec, ids[0]).await;
        assert_eq!(member.next().await, Got::PubRel(ids[0], ReasonCode::Success));
        let mut other = world.connect(Version::V5, "other").await;
        other.subscribe("$share/g/t", QoS::ExactlyOnce).await;
        member.vanish(&world, "member").await;
        other.has_nothing().await;
        let mut member = world.resume(Version::V5, "member").await;
        assert_eq!(member.next().await, Got::PubRel(ids[0], ReasonCode::Success));
        member.ack(Packet::PubComp, ids[0]).await;
        let again = member.message().await;
        assert_eq!((again.text(), again.dup, again.id), ("2", true, ids[1]));
        // What it refuses now is over.
        let Got::Message(third) = member.next().await else { panic!() };
        assert_eq!((third.text(), third.dup), ("3", true));
        let refusal = Ack::new(PacketId::new(third.id).unwrap(), ReasonCode::ImplementationSpecificError);
        member.say(&Packet::PubRec(refusal)).await;
        member.has_nothing().await;
        other.has_nothing().await;
        member.vanish(&world, "member").await;
        other.has_nothing().await;
        world.resume(Version::V5, "member").await.has_nothing().await;
    });
}
