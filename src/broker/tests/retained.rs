//! Retained messages.

use super::*;
use crate::mqtt::packet::RetainHandling;

fn options() -> SubscriptionOptions {
    SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() }
}

#[test]
fn a_retained_message_comes_with_retain_when_stored_and_without_when_live() {
    everywhere(async |world| {
        for version in VERSIONS {
            let mut publisher = world.connect(version, "publisher").await;
            publisher.publish(&Say::retained("r/1", "first")).await;
            publisher.publish(&Say::retained("r/1", "second")).await;
            let mut subscriber = world.connect(version, "subscriber").await;
            subscriber.subscribe("r/+", QoS::AtMostOnce).await;
            let stored = subscriber.message().await;
            assert_eq!((stored.text(), stored.retain, stored.qos), ("second", true, QoS::AtMostOnce));
            publisher.publish(&Say::retained("r/1", "third")).await;
            let live = subscriber.message().await;
            assert_eq!((live.text(), live.retain), ("third", false));
            // An empty payload clears, and is delivered like any other.
            publisher.publish(&Say::retained("r/1", "")).await;
            assert_eq!(subscriber.message().await.payload, b"");
            subscriber.subscribe("r/#", QoS::AtMostOnce).await;
            subscriber.has_nothing().await;
            subscriber.leave().await;
        }
        assert_eq!(world.broker.router.retained_count(), 0);
    });
}

#[test]
fn retain_as_published_keeps_the_flag() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        let kept = SubscriptionOptions { retain_as_published: true, ..options() };
        subscriber.subscribe_with(&[("r/#", kept)], None).await;
        publisher.publish(&Say::retained("r", "1")).await;
        publisher.publish(&Say::new("r", "2", QoS::AtLeastOnce)).await;
        assert!(subscriber.message().await.retain);
        assert!(!subscriber.message().await.retain);
    });
}

#[test]
fn retain_handling_says_when_stored_messages_come() {
    everywhere(async |world| {
        let mut publisher = world.connect(Version::V5, "publisher").await;
        publisher.publish(&Say::retained("r", "1")).await;
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        // Handling, and whether the stored message comes.
        let steps = [
            (RetainHandling::DoNotSend, false),
            (RetainHandling::SendIfNew, false),
            (RetainHandling::Send, true),
            (RetainHandling::Send, true),
        ];
        for (retain_handling, comes) in steps {
            subscriber.subscribe_with(&[("r", SubscriptionOptions { retain_handling, ..options() })], None).await;
            if comes {
                assert!(subscriber.message().await.retain);
            }
            subscriber.has_nothing().await;
        }
        subscriber.unsubscribe("r").await;
        let if_new = SubscriptionOptions { retain_handling: RetainHandling::SendIfNew, ..options() };
        subscriber.subscribe_with(&[("r", if_new)], None).await;
        assert!(subscriber.message().await.retain);
    });
}

fn few() -> Limits {
    let mut limits = Limits::default();
    limits.queue.messages = 100;
    limits.inflight = 20;
    limits
}

fn store(world: &World, count: usize, payload: usize) {
    let messages: Vec<_> = (0..count)
        .map(|number| {
            let topic = crate::mqtt::TopicName::new(&format!("many/{number:05}/x")).unwrap();
            crate::mqtt::MessageBuilder::new(&topic, &vec![b'x'; payload]).qos(QoS::ExactlyOnce).retain(true).build()
        })
        .collect();
    world.broker.router.publish_all(&messages, crate::clock::now());
}

#[test]
fn thousands_of_retained_messages_all_arrive_once_although_the_queue_is_small() {
    const COUNT: usize = 3000;
    everywhere_with(&few(), async |world| {
        store(&world, COUNT, 100);
        for qos in QOS {
            let mut subscriber = world.resume(Version::V5, "subscriber").await;
            subscriber.subscribe("many/+/#", qos).await;
            for number in 0..COUNT {
                assert_eq!(subscriber.message().await.topic, format!("many/{number:05}/x"), "{qos:?}");
            }
            subscriber.has_nothing().await;
            world.connect(Version::V5, "subscriber").await.leave().await;
        }
        assert_eq!(world.broker.metrics.dropped.value(), 0);
    });
}

#[test]
fn retained_messages_go_on_where_a_lost_connection_stopped_them() {
    const COUNT: usize = 500;
    everywhere_with(&few(), async |world| {
        store(&world, COUNT, 100);
        let mut subscriber = world.resume(Version::V5, "subscriber").await;
        subscriber.subscribe("#", QoS::AtLeastOnce).await;
        let mut topics = std::collections::BTreeSet::new();
        for _ in 0..100 {
            topics.insert(subscriber.message().await.topic);
        }
        subscriber.vanish(&world, "subscriber").await;
        let mut subscriber = world.resume(Version::V5, "subscriber").await;
        while topics.len() < COUNT {
            topics.insert(subscriber.message().await.topic);
        }
        while subscriber.kept.pop_front().is_some() {}
        subscriber.ping().await;
    });
}

#[test]
fn unsubscribe_ends_the_retained_messages_that_are_still_to_come() {
    everywhere_with(&few(), async |world| {
        store(&world, 1000, 100);
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        subscriber.subscribe("#", QoS::AtLeastOnce).await;
        // Only what is in flight has been sent: nothing was acknowledged.
        subscriber.unsubscribe("#").await;
        for _ in 0..20 {
            subscriber.message().await;
        }
        subscriber.has_nothing().await;
    });
}

#[test]
fn many_filters_over_many_retained_messages_take_little_memory_and_all_come() {
    everywhere_with(&few(), async |world| {
        store(&world, 200, 10);
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        // The same filter again and again begins again, and is not stacked up.
        for _ in 0..50 {
            subscriber.subscribe("#", QoS::AtLeastOnce).await;
        }
        assert!(world.broker.session("subscriber").unwrap().awaiting_retained().len() <= 1);
        let mut last = String::new();
        while last != "many/00199/x" {
            last = subscriber.message().await.topic;
        }
        subscriber.has_nothing().await;
    });
}

#[test]
fn who_wants_no_messages_of_its_own_gets_none_that_was_stored_either() {
    everywhere(async |world| {
        let no_local = SubscriptionOptions { no_local: true, ..Default::default() };
        let mut peer = world.connect(Version::V5, "peer").await;
        let mut other = world.connect(Version::V5, "other").await;
        peer.publish(&Say::retained("mine", "1")).await;
        other.publish(&Say::retained("theirs", "1")).await;
        peer.subscribe_with(&[("#", no_local)], None).await;
        assert_eq!(peer.message().await.topic, "theirs");
        peer.has_nothing().await;
        // It is the newest message that counts, and the client, in whatever session.
        peer.leave().await;
        other.publish(&Say::retained("mine", "2")).await;
        let mut peer = world.connect(Version::V5, "peer").await;
        peer.publish(&Say::retained("theirs", "2")).await;
        peer.subscribe_with(&[("#", no_local)], None).await;
        assert_eq!(peer.message().await.topic, "mine");
        peer.has_nothing().await;
    });
}
