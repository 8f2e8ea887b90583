//! What a process that was killed leaves to the one after it.

use super::durable::{SUCCESS, say};
use super::full::Link;
use super::*;
use crate::broker::delivery::{Delivery, DeliveryQoS, Route};
use crate::broker::lanes::LaneSettings;
use crate::mqtt::packet::Will;
use crate::mqtt::properties::Forwardable;
use crate::mqtt::{MessageBuilder, Remap, TopicFilter, TopicName};

#[test]
fn a_session_comes_back_with_all_that_it_had() {
    everywhere_held(async |world| {
        world.journal().set_eager(true);
        let mut connect = resuming(Version::V5, "client");
        connect.receive_maximum = 2;
        let mut client = world.connect_as(connect).await;
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        client.subscribe_with(&[("t", options), ("$share/g/s", options)], Some(42)).await;
        client.subscribe("gone", QoS::AtLeastOnce).await;
        client.unsubscribe("gone").await;
        client.say(&Say::new("nobody", "mine", QoS::ExactlyOnce).packet(9, false)).await;
        assert!(matches!(client.next().await, Got::PubRec(9, _)));
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let properties = ForwardableBuilder::default().user_property("a", "b");
        for (text, qos) in [("1", QOS[2]), ("2", QOS[1]), ("3", QOS[2]), ("4", QOS[1])] {
            publisher.publish(&Say { properties: properties.clone(), ..say(text, qos) }).await;
        }
        publisher.publish(&Say::new("s", "5", QoS::AtLeastOnce)).await;
        publisher.publish(&Say::retained("r/1", "kept")).await;
        publisher.publish(&Say::retained("r/2", "gone")).await;
        publisher.publish(&Say::retained("r/2", "")).await;
        publisher.publish(&Say::retained("r/3", "old")).await;
        publisher.publish(&Say::retained("r/3", "new")).await;
        let ids = [client.got().await.id, client.got().await.id];
        client.ack(Packet::PubAck, ids[1]).await;
        let third = client.got().await;

        let world = world.killed();
        world.journal().set_eager(true);
        let mut client = world.connect_as(connect).await;
        assert!(client.session_present);
        for (id, text) in [(ids[0], "1"), (third.id, "3")] {
            let message = client.message().await;
            assert_eq!((message.id, message.text(), message.dup, message.qos), (id, text, true, QoS::ExactlyOnce));
            assert_eq!((message.identifiers, !message.properties.is_empty()), (vec![42], true));
        }
        for text in ["4", "5"] {
            let message = client.message().await;
            assert_eq!((message.text(), message.dup), (text, false));
        }
        client.has_nothing().await;
        // What it had received it still has.
        client.say(&Say::new("t", "never", QoS::ExactlyOnce).packet(9, true)).await;
        client.await_one("PUBREC", |got| matches!(got, Got::PubRec(9, _)).then_some(())).await;
        client.has_nothing().await;
        // It is subscribed as it was, and its numbers go on.
        let mut publisher = world.connect(Version::V5, "publisher").await;
        for topic in ["t", "s", "gone"] {
            publisher.publish(&Say::new(topic, topic, QoS::AtLeastOnce)).await;
        }
        for text in ["t", "s"] {
            let message = client.message().await;
            assert_eq!((message.text(), &message.identifiers), (text, &vec![42]));
            assert!(message.id > 5);
        }
        client.has_nothing().await;
        publisher.subscribe("r/+", QoS::AtLeastOnce).await;
        assert_eq!(publisher.texts(2).await, ["kept", "new"]);
        publisher.has_nothing().await;
        world.over().await;
    });
}

#[test]
fn nothing_of_a_session_that_ends_with_its_connection_is_recorded() {
    everywhere_held(async |world| {
        world.journal().set_eager(true);
        let mut client = world.connect(Version::V5, "client").await;
        client.subscribe("t", QoS::ExactlyOnce).await;
        for qos in QOS {
            client.publish(&say("1", qos)).await;
            assert_eq!(client.message().await.qos, qos);
        }
        client.has_nothing().await;
        client.leave().await;
        assert_eq!(world.journal().kept_records(), Vec::<Vec<u8>>::new());
    });
}

#[test]
fn disconnect_may_change_how_long_the_session_stays() {
    everywhere_held(async |world| {
        world.journal().set_eager(true);
        for (seconds, stays) in [(Some(100), true), (Some(0), false), (None, true)] {
            let client = world.connect_as(resuming(Version::V5, "client")).await;
            let mut disconnect = Disconnect::new(SUCCESS);
            disconnect.session_expiry_interval = seconds;
            let mut client = client;
            client.say(&Packet::Disconnect(disconnect)).await;
            assert_eq!(client.end().await, None);
            let (_, restored) = world.journal().killed();
            let kept: Vec<_> = restored.sessions.iter().map(|session| session.state.expiry_interval).collect();
            let expected = if stays { vec![seconds.unwrap_or(u32::MAX)] } else { vec![] };
            assert_eq!(kept, expected, "{seconds:?}");
        }
    });
}

fn will(delay_interval: u32) -> Will<'static> {
    Will {
        topic: "t",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval,
        message_expiry_interval: None,
        forwardable: Forwardable::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn wills_and_ends_of_sessions_come_in_their_time() {
    let patience = Duration::from_secs(1_000_000);
    let world = World { patience, ..World::with(Kind::Stream, Limits::default(), Journal::held()) };
    world.journal().set_eager(true);
    let patient = Connect { keep_alive: 0, ..resuming(Version::V5, "subscriber") };
    world.connect_as(patient).await.subscribe("t", QoS::AtLeastOnce).await;
    for (client_id, delay_interval, expiry_interval) in [
        ("at once", 0, 1000),
        ("later", 100, 1000),
        ("with its end", 500, 50),
        ("was away", 600, 1000),
        ("said goodbye", 5, 1000),
    ] {
        let mut connect = Connect::new(Version::V5, client_id);
        (connect.session_expiry_interval, connect.keep_alive) = (expiry_interval, 0);
        connect.will = Some(Will { payload: client_id.as_bytes(), ..will(delay_interval) });
        let client = world.connect_as(connect).await;
        match client_id {
            "was away" => client.vanish(&world, client_id).await,
            "said goodbye" => client.leave().await,
            // Its connection lasts until the process ends.
            _ => std::mem::forget(client),
        }
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let world = world.killed();
    world.journal().set_eager(true);
    let mut subscriber = world.connect_as(patient).await;
    let begin = tokio::time::Instant::now();
    for (client_id, after) in [("at once", 0), ("with its end", 50), ("later", 100), ("was away", 300)] {
        assert_eq!(subscriber.message().await.text(), client_id);
        let passed = begin.elapsed().as_secs();
        assert!((after..=after + 1).contains(&passed), "{client_id} after {passed} s");
    }
    let is_there = |client_id| world.broker.session(client_id).is_some();
    assert!(!is_there("with its end") && is_there("was away") && is_there("said goodbye"));
    tokio::time::sleep(Duration::from_secs(401)).await;
    assert!(!is_there("was away") && !is_there("said goodbye") && is_there("later"));
    // Nothing comes twice.
    let world = world.killed();
    tokio::time::sleep(Duration::from_secs(5000)).await;
    world.journal().set_eager(true);
    world.connect_as(patient).await.has_nothing().await;
    assert_eq!(world.broker.session_count(), 1);
}

#[test]
fn a_session_stays_its_owners() {
    everywhere_held(async |world| {
        world.journal().set_eager(true);
        world.resume(Version::V5, "client").await;
        let world = world.killed_with(|restored| restored.sessions[0].state.owner = Some("anna".into()));
        let mut peer = world.dial().await;
        let Got::ConnAck(connack) = peer.say_connect(resuming(Version::V5, "client")).await else { panic!() };
        assert_eq!(connack.reason, ReasonCode::ClientIdentifierNotValid);
        world.over().await;
    });
}

fn route(from: &str, order: u16) -> Arc<Delivery> {
    let from = TopicFilter::new(from).unwrap();
    Arc::new(Delivery {
        qos: DeliveryQoS::Exactly(QoS::AtLeastOnce),
        route: Some(Arc::new(Route {
            name: from.as_str().into(),
            order,
            remap: Remap::new(from, None).unwrap(),
            except: Vec::new(),
            payload: crate::mapping::hop_payload::HopPayload::default(),
            lane: 0,
            envelope: None,
            expire: None,
        })),
        ..Delivery::at_most(QoS::AtLeastOnce)
    })
}

#[tokio::test]
async fn what_waited_for_a_bridge_goes_by_its_route_or_by_the_first_that_takes_it() {
    let world = World::with(Kind::Stream, Limits::default(), Journal::held());
    world.journal().set_eager(true);
    for (name, routes) in [("cloud", ["a/#", "b/#", "c/#"]), ("gone", ["a/#", "b/+", "d/#"])] {
        let slot = world.broker.bridge_slot(name, &[], &LaneSettings::of_every_bridge()).unwrap();
        for (order, from) in routes.into_iter().enumerate() {
            world.broker.router.subscribe(&slot, &TopicFilter::new(from).unwrap(), route(from, order as u16));
        }
    }
    for topic in ["a/1", "b/1", "c/1"] {
        let message = MessageBuilder::new(&TopicName::new(topic).unwrap(), b"1").build();
        world.broker.router.publish_all(&[message], crate::clock::now());
    }
    let killed = world.killed_in(|_| (), false);
    killed.journal().set_eager(true);
    // The route of a/# is as it was, that of b/# has another name, and nothing takes c/1.
    let slot = killed
        .broker
        .bridge_slot("cloud", &[route("b/1", 0), route("a/#", 1)], &LaneSettings::of_every_bridge())
        .unwrap();
    // Which is found out when it is to be sent.
    Link::attach(&slot, 10);
    until("it is sent", || slot.backlog() == (0, 2)).await;
    assert_eq!(killed.broker.metrics.dropped.value(), 1);
    killed.broker.end_restoring();
    assert_eq!(killed.broker.metrics.dropped.value(), 3);
    // What was dropped is gone for good.
    let killed = killed.killed_in(|_| (), false);
    let slot = killed.broker.bridge_slot("cloud", &[route("#", 0)], &LaneSettings::of_every_bridge()).unwrap();
    assert_eq!(slot.backlog(), (0, 2), "as many as were in flight");
    assert_eq!(
        killed.broker.bridge_slot("gone", &[route("#", 0)], &LaneSettings::of_every_bridge()).unwrap().backlog(),
        (0, 0)
    );
}
