//! Wills: what they carry, whom they reach, and that each comes once.

use super::*;
use crate::mqtt::packet::Will;

/// A client whose session ends with the connection, and its will.
fn leaving<'a>(version: Version, client_id: &'a str, will: Will<'a>) -> Connect<'a> {
    let mut connect = Connect::new(version, client_id);
    connect.will = Some(will);
    connect
}

fn will<'a>(topic: &'a str, properties: &'a ForwardableBuilder) -> Will<'a> {
    Will {
        topic,
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: 0,
        message_expiry_interval: None,
        forwardable: properties.as_forwardable(),
    }
}

#[test]
fn a_will_has_its_own_qos_retain_and_properties() {
    everywhere(async |world| {
        let properties = ForwardableBuilder::default()
            .user_property("b", "1")
            .utf8()
            .content_type("text/plain")
            .user_property("a", "2")
            .response_topic("answer/here")
            .correlation_data(&[0, 255])
            .user_property("b", "1");
        let mut expected = Vec::new();
        properties.as_forwardable().write(&mut expected);
        let mut watcher = world.connect(Version::V5, "watcher").await;
        let options =
            SubscriptionOptions { qos: QoS::ExactlyOnce, retain_as_published: true, ..SubscriptionOptions::default() };
        watcher.subscribe_with(&[("will/#", options)], Some(3)).await;
        for version in VERSIONS {
            for qos in QOS {
                for retain in [false, true] {
                    let will = Will { qos, retain, message_expiry_interval: Some(50), ..will("will/x", &properties) };
                    world.connect_as(leaving(version, "client", will)).await.vanish(&world, "client").await;
                    let message = watcher.message().await;
                    assert_eq!((message.text(), message.qos, message.retain), ("gone", qos, retain), "{version:?}");
                    assert_eq!(message.identifiers, [3]);
                    // 3.1.1 has no properties to carry.
                    let new = version == Version::V5;
                    assert_eq!(message.expiry, new.then_some(50));
                    assert_eq!(message.properties, if new { expected.as_slice() } else { &[] });
                    assert_eq!(world.broker.router.retained_count(), usize::from(retain));
                    watcher.publish(&Say::retained("will/x", "")).await;
                    assert_eq!(watcher.message().await.payload, b"");
                }
            }
            // A will of no bytes is one, too.
            let will = Will { payload: b"", ..will("will/x", &properties) };
            world.connect_as(leaving(version, "client", will)).await.vanish(&world, "client").await;
            assert_eq!(watcher.message().await.payload, b"");
        }
        watcher.has_nothing().await;
    });
}

#[test]
fn a_will_comes_once_and_only_from_the_connection_that_had_it() {
    everywhere(async |world| {
        let none = ForwardableBuilder::default();
        let mut watcher = world.connect(Version::V5, "watcher").await;
        watcher.subscribe("will/#", QoS::AtLeastOnce).await;
        for version in VERSIONS {
            let with = |topic| Connect { will: Some(will(topic, &none)), ..resuming(version, "client") };
            world.connect_as(with("will/1")).await.vanish(&world, "client").await;
            assert_eq!(watcher.message().await.topic, "will/1");
            // The session stays; a connection without a will has none, however it ends.
            world.resume(version, "client").await.vanish(&world, "client").await;
            world.connect_as(with("will/2")).await.leave().await;
            world.resume(version, "client").await.vanish(&world, "client").await;
            // The newest counts.
            world.connect_as(with("will/3")).await.leave().await;
            world.connect_as(with("will/4")).await.vanish(&world, "client").await;
            assert_eq!(watcher.message().await.topic, "will/4");
            let mut stubborn = world.connect_as(with("will/5")).await;
            stubborn.say(&Packet::Connect(with("will/6"))).await;
            stubborn.end().await;
            assert_eq!(watcher.message().await.topic, "will/5");
            watcher.has_nothing().await;
            world.connect(version, "client").await.leave().await;
        }
    });
}

#[test]
fn every_goodbye_but_the_normal_one_keeps_the_will() {
    everywhere(async |world| {
        let none = ForwardableBuilder::default();
        let mut watcher = world.connect(Version::V5, "watcher").await;
        watcher.subscribe("will", QoS::AtLeastOnce).await;
        for reason in [
            ReasonCode::Success,
            ReasonCode::DisconnectWithWill,
            ReasonCode::UnspecifiedError,
            ReasonCode::ImplementationSpecificError,
            ReasonCode::AdministrativeAction,
        ] {
            let mut client = world.connect_as(leaving(Version::V5, "client", will("will", &none))).await;
            client.say(&Packet::Disconnect(Disconnect::new(reason))).await;
            assert_eq!(client.end().await, None);
            if reason != ReasonCode::Success {
                assert_eq!(watcher.message().await.text(), "gone");
            }
            watcher.has_nothing().await;
        }
    });
}

#[test]
fn a_client_with_no_local_does_not_get_its_own_will() {
    everywhere(async |world| {
        let none = ForwardableBuilder::default();
        let mut connect = resuming(Version::V5, "client");
        connect.will = Some(will("will", &none));
        let mut client = world.connect_as(connect).await;
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, no_local: true, ..SubscriptionOptions::default() };
        client.subscribe_with(&[("will", options)], None).await;
        let mut other = world.connect(Version::V5, "other").await;
        other.subscribe("will", QoS::AtLeastOnce).await;
        client.vanish(&world, "client").await;
        assert_eq!(other.message().await.text(), "gone");
        let mut client = world.connect_as(connect).await;
        client.has_nothing().await;
        // Taken over it is the same client still.
        let mut taker = world.connect_as(connect).await;
        assert_eq!(client.end().await, Some(ReasonCode::SessionTakenOver));
        assert_eq!(other.message().await.text(), "gone");
        taker.has_nothing().await;
    });
}

#[test]
fn a_session_that_ends_with_its_connection_is_not_taken_over() {
    everywhere(async |world| {
        let none = ForwardableBuilder::default();
        let mut watcher = world.connect(Version::V5, "watcher").await;
        watcher.subscribe("will", QoS::AtLeastOnce).await;
        for old in VERSIONS {
            for new in VERSIONS {
                // Its session is over with its connection, so the delay is, too.
                let will = Will { delay_interval: 1000, ..will("will", &none) };
                let mut first = world.connect_as(leaving(old, "client", will)).await;
                first.subscribe("t", QoS::AtLeastOnce).await;
                let mut second = world.resume(new, "client").await;
                assert!(!second.session_present, "{old:?} {new:?}");
                let said = (old == Version::V5).then_some(ReasonCode::SessionTakenOver);
                assert_eq!(first.end().await, said);
                assert_eq!(watcher.message().await.text(), "gone");
                watcher.publish(&Say::new("t", "", QoS::AtLeastOnce)).await;
                second.has_nothing().await;
                world.connect(new, "client").await.leave().await;
            }
        }
        until("no session stays", || world.broker.session_count() == 1).await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_leaves_its_will() {
    let world = World::in_memory();
    let mut connect = Connect::new(Version::V5, "watcher");
    connect.keep_alive = 0;
    let mut watcher = world.connect_as(connect).await;
    watcher.subscribe("will", QoS::AtLeastOnce).await;
    let none = ForwardableBuilder::default();
    for version in VERSIONS {
        let mut connect = leaving(version, "client", will("will", &none));
        connect.keep_alive = 10;
        let mut client = world.connect_as(connect).await;
        tokio::time::sleep(Duration::from_millis(14_900)).await;
        watcher.has_nothing().await;
        assert_eq!(watcher.message().await.text(), "gone");
        client.end().await;
    }
}
