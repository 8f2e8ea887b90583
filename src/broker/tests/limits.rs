//! Limits: what is beyond them is refused in words, and harms nobody else.

use super::*;

#[test]
fn a_connection_beyond_the_limit_is_told_so() {
    let limits = Limits { connections: 1, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        let mut first = world.connect(Version::V5, "first").await;
        let refusal = async |version, reason| {
            let mut peer = world.dial().await;
            let Got::ConnAck(connack) = peer.say_connect(Connect::new(version, "next")).await else { panic!() };
            assert_eq!(connack.reason, reason);
            assert_eq!(peer.next().await, Got::Closed);
        };
        refusal(Version::V5, ReasonCode::QuotaExceeded).await;
        refusal(Version::V3, ReasonCode::ServerUnavailable).await;
        first.ping().await;
    });
}

#[test]
fn connections_of_one_address_are_bounded() {
    let limits = Limits { connections_per_address: Some(2), ..Limits::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(Kind::Tcp, limits);
        let one = world.connect(Version::V5, "1").await;
        let _two = world.connect(Version::V5, "2").await;
        let mut three = world.dial().await;
        let Got::ConnAck(connack) = three.say_connect(Connect::new(Version::V5, "3")).await else { panic!() };
        assert_eq!(connack.reason, ReasonCode::QuotaExceeded);
        assert_eq!(three.next().await, Got::Closed);
        one.leave().await;
        for _ in 0..1000 {
            let mut three = world.dial().await;
            if let Got::ConnAck(connack) = three.say_connect(Connect::new(Version::V5, "3")).await
                && connack.reason == ReasonCode::Success
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a connection that has ended gives no room");
    });
}

#[test]
fn sessions_are_bounded_and_those_there_are_come_back() {
    let limits = Limits { sessions: 2, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        world.resume(Version::V5, "1").await.leave().await;
        let _two = world.resume(Version::V3, "2").await;
        let mut three = world.dial().await;
        let Got::ConnAck(connack) = three.say_connect(Connect::new(Version::V5, "3")).await else { panic!() };
        assert_eq!(connack.reason, ReasonCode::QuotaExceeded);
        assert!(world.resume(Version::V5, "1").await.session_present);
    });
}

#[test]
fn a_session_lives_no_longer_than_the_broker_allows() {
    let limits = Limits { session_expiry: Some(60), ..Limits::default() };
    everywhere_with(&limits, async |world| {
        let mut peer = world.dial().await;
        let mut connect = resuming(Version::V5, "1");
        connect.session_expiry_interval = 3600;
        let Got::ConnAck(connack) = peer.say_connect(connect).await else { panic!() };
        assert_eq!(connack.session_expiry, Some(60));
        let mut connect = resuming(Version::V5, "2");
        connect.session_expiry_interval = 30;
        let mut peer = world.dial().await;
        let Got::ConnAck(connack) = peer.say_connect(connect).await else { panic!() };
        assert_eq!(connack.session_expiry, None, "it keeps what it asked for");
    });
}

#[test]
fn subscriptions_beyond_the_limit_are_refused_and_known_ones_may_change() {
    let limits = Limits { subscriptions: 2, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        for version in VERSIONS {
            let mut peer = world.connect(version, "peer").await;
            peer.subscribe("a", QoS::AtMostOnce).await;
            peer.subscribe("b", QoS::AtMostOnce).await;
            peer.subscribe("a", QoS::AtLeastOnce).await;
            let reasons = peer.subscribe_with(&[("c", SubscriptionOptions::default())], None).await;
            let expected =
                if version == Version::V5 { ReasonCode::QuotaExceeded } else { ReasonCode::UnspecifiedError };
            assert_eq!(reasons, [expected]);
            peer.unsubscribe("b").await;
            peer.subscribe("c", QoS::AtMostOnce).await;
        }
    });
}

#[test]
fn topics_that_are_too_deep_or_too_long_are_refused() {
    let limits = Limits { topic_levels: 3, topic_bytes: 10, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        let mut watcher = world.connect(Version::V5, "watcher").await;
        watcher.subscribe("#", QoS::ExactlyOnce).await;
        for topic in ["a/b/c/d", "a/b/c/", "elevenbytes"] {
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut peer = world.connect(Version::V5, "peer").await;
                assert_eq!(peer.publish(&Say::new(topic, "", qos)).await, ReasonCode::TopicNameInvalid);
                // 3.1.1 cannot say it.
                let mut peer = world.connect(Version::V3, "peer").await;
                peer.publish(&Say::new(topic, "", qos)).await;
                let reasons = peer.subscribe_with(&[(topic, SubscriptionOptions::default())], None).await;
                assert!(reasons[0].is_error());
            }
        }
        watcher.has_nothing().await;
        let mut peer = world.connect(Version::V5, "peer").await;
        peer.publish(&Say::new("a/b/c", "fits", QoS::AtLeastOnce)).await;
        assert_eq!(watcher.message().await.text(), "fits");
    });
}

#[test]
fn retained_messages_are_bounded_in_number_and_bytes() {
    let limits = Limits { retained: 2, retained_bytes: 10_000, ..Limits::default() };
    everywhere_with(&limits, async |world| {
        let mut peer = world.connect(Version::V5, "peer").await;
        peer.publish(&Say::retained("a", "1")).await;
        peer.publish(&Say::retained("b", "1")).await;
        assert_eq!(peer.publish(&Say::retained("c", "1")).await, ReasonCode::QuotaExceeded);
        assert!(!peer.publish(&Say::retained("a", "2")).await.is_error(), "a known topic has its place");
        assert_eq!(peer.publish(&Say::retained("a", &"x".repeat(10_000))).await, ReasonCode::QuotaExceeded);
        peer.publish(&Say::retained("b", "")).await;
        assert!(!peer.publish(&Say::retained("c", "1")).await.is_error());
        peer.subscribe("#", QoS::AtLeastOnce).await;
        let mut texts = peer.texts(2).await;
        texts.sort();
        assert_eq!(texts, ["1", "2"]);
    });
}

/// Virtual time goes on by itself when nothing else can happen.
#[test]
fn a_client_that_publishes_faster_than_it_may_is_read_more_slowly_and_loses_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let limits = Limits { rate: Some(10.0), inflight: 1000, ..Limits::default() };
        let world = World { patience: Duration::from_secs(1_000_000), ..World::new(Kind::Stream, limits) };
        let mut watcher = world.connect(Version::V5, "watcher").await;
        watcher.subscribe("#", QoS::AtLeastOnce).await;
        let mut connect = Connect::new(Version::V5, "hasty");
        connect.keep_alive = 2;
        let mut hasty = world.connect_as(connect).await;
        let begun = tokio::time::Instant::now();
        for number in 0..100 {
            // One at a time, so that each is a read of its own.
            hasty.publish(&Say::new("t", &number.to_string(), QoS::AtLeastOnce)).await;
        }
        assert_eq!(watcher.texts(100).await, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
        let seconds = begun.elapsed().as_secs_f64();
        // Ten at once, and ten a second from then on.
        assert!((8.5..=10.5).contains(&seconds), "{seconds} s");
        // Many at once: the debt is longer than the keep alive, and nobody is sent away for not being heard.
        let mut bytes = Vec::new();
        for id in 1..=100 {
            Say::new("t", "", QoS::AtLeastOnce).packet(id, false).encode(Version::V5, &mut bytes);
        }
        hasty.raw(&bytes).await;
        watcher.texts(100).await;
        hasty.ping().await;
        assert!(begun.elapsed().as_secs_f64() - seconds > 8.0);
    });
}
