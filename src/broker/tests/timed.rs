//! What time does, with virtual time: keep alive, expiry, delays.

use super::*;
use crate::mqtt::packet::Will;
use crate::mqtt::properties::Forwardable;
use tokio::time::{Instant, advance, sleep};

/// How long a future takes.
async fn taken(future: impl Future<Output = ()>) -> Duration {
    let begin = Instant::now();
    future.await;
    begin.elapsed()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Timers have whole milliseconds, and are never early.
fn assert_after(elapsed: Duration, expected: Duration) {
    let late = Duration::from_millis(5);
    assert!(elapsed >= expected && elapsed <= expected + late, "{elapsed:?} instead of {expected:?}");
}

fn with_will(client_id: &str, delay_interval: u32, session_expiry_interval: u32) -> Connect<'_> {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.keep_alive = 0;
    connect.clean_start = false;
    connect.session_expiry_interval = session_expiry_interval;
    connect.will = Some(Will {
        topic: "will",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval,
        message_expiry_interval: Some(60),
        forwardable: Forwardable::default(),
    });
    connect
}

fn patient<'a>(client_id: &'a str) -> Connect<'a> {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.keep_alive = 0;
    connect
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_gone_after_one_and_a_half_keep_alives() {
    let world = World::in_memory();
    for version in VERSIONS {
        let mut connect = Connect::new(version, "c");
        connect.keep_alive = 10;
        let mut peer = world.connect_as(connect).await;
        let elapsed = taken(async {
            let said = (version == Version::V5).then_some(ReasonCode::KeepAliveTimeout);
            assert_eq!(peer.end().await, said);
        })
        .await;
        assert_after(elapsed, seconds(15));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pings_stays_and_one_that_sends_half_a_packet_does_not() {
    let world = World::in_memory();
    let mut connect = Connect::new(Version::V5, "c");
    connect.keep_alive = 10;
    let mut peer = world.connect_as(connect).await;
    for _ in 0..20 {
        sleep(seconds(14)).await;
        peer.ping().await;
    }
    // A PUBLISH byte by byte is no packet.
    let elapsed = taken(async {
        peer.raw(&[0x30, 100]).await;
        for _ in 0..2 {
            sleep(seconds(7)).await;
            peer.raw(&[0]).await;
        }
        assert_eq!(peer.end().await, Some(ReasonCode::KeepAliveTimeout));
    })
    .await;
    assert_after(elapsed, seconds(15));
}

#[tokio::test(start_paused = true)]
async fn without_keep_alive_a_client_may_be_silent_for_ever() {
    let world = World::in_memory();
    let mut peer = world.connect_as(patient("c")).await;
    advance(seconds(1_000_000)).await;
    peer.ping().await;
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_that_the_broker_chooses_is_announced_and_counts() {
    let maximum_keep_alive = std::num::NonZeroU16::new(20);
    let world = World::in_memory_with(Limits { maximum_keep_alive, ..Limits::default() });
    // Version, what the client asks for, what is announced, what counts.
    for (version, asked, announced, counts) in [
        (Version::V5, 0, Some(20), 20),
        (Version::V5, 21, Some(20), 20),
        (Version::V5, 20, None, 20),
        (Version::V5, 10, None, 10),
        // 3.1.1 has no word for it, so that the client's own counts.
        (Version::V3, 40, None, 40),
    ] {
        let mut connect = Connect::new(version, "c");
        connect.keep_alive = asked;
        let mut peer = world.dial().await;
        let Got::ConnAck(connack) = peer.say_connect(connect).await else { panic!() };
        assert_eq!(connack.server_keep_alive, announced, "{version:?} {asked}");
        let elapsed = taken(async { while peer.next().await != Got::Closed {} }).await;
        assert_after(elapsed, seconds(counts) * 3 / 2);
    }
}

#[tokio::test(start_paused = true)]
async fn connect_must_come_in_time() {
    let world = World::in_memory();
    for beginning in [&b""[..], &[0x10], &[0x10, 100, 0, 4, b'M']] {
        let mut peer = world.dial().await;
        peer.raw(beginning).await;
        let elapsed = taken(async { assert_eq!(peer.next().await, Got::Closed) }).await;
        assert_after(elapsed, world.broker.limits().connect_timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_its_time_is_over_and_not_before() {
    let world = World::in_memory();
    let mut connect = patient("c");
    connect.session_expiry_interval = 100;
    world.connect_as(connect).await.leave().await;
    connect.clean_start = false;
    sleep(Duration::from_millis(99_900)).await;
    let peer = world.connect_as(connect).await;
    assert!(peer.session_present);
    // While it is connected no time counts.
    sleep(seconds(1000)).await;
    peer.leave().await;
    sleep(seconds(99)).await;
    assert_eq!(world.broker.session_count(), 1);
    sleep(Duration::from_millis(1_010)).await;
    assert_eq!(world.broker.session_count(), 0);
    assert!(!world.connect_as(connect).await.session_present);
    // 3.1.1, and the longest interval of 5.0, have no end.
    world.resume(Version::V3, "for ever").await.leave().await;
    advance(seconds(u64::from(u32::MAX) + 1)).await;
    assert!(world.resume(Version::V5, "for ever").await.session_present);
}

#[tokio::test(start_paused = true)]
async fn disconnect_changes_when_the_session_ends() {
    let world = World::in_memory();
    let mut connect = patient("c");
    connect.session_expiry_interval = 100;
    let mut peer = world.connect_as(connect).await;
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.session_expiry_interval = Some(10);
    peer.say(&Packet::Disconnect(disconnect)).await;
    peer.end().await;
    sleep(seconds(9)).await;
    assert_eq!(world.broker.session_count(), 1);
    sleep(Duration::from_millis(1_010)).await;
    assert_eq!(world.broker.session_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_will_waits_for_its_delay_or_the_end_of_its_session() {
    let world = World::in_memory();
    let mut watcher = world.connect_as(patient("watcher")).await;
    watcher.subscribe("will", QoS::AtLeastOnce).await;
    // Delay, session expiry, when it comes.
    for (delay, expiry, comes) in [(30, 100, 30), (100, 30, 30), (30, 0, 0), (0, 100, 0)] {
        let peer = world.connect_as(with_will("c", delay, expiry)).await;
        let elapsed = taken(async {
            drop(peer);
            let message = watcher.message().await;
            assert_eq!(message.expiry, Some(60), "it counts from when the will is published");
        })
        .await;
        assert_after(elapsed, seconds(comes));
        sleep(seconds(200)).await;
        watcher.has_nothing().await;
        assert_eq!(world.broker.session_count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_returns_in_time_has_no_will_and_a_clean_start_has() {
    let world = World::in_memory();
    let mut watcher = world.connect_as(patient("watcher")).await;
    watcher.subscribe("will", QoS::AtLeastOnce).await;
    for _ in 0..3 {
        drop(world.connect_as(with_will("c", 30, 100)).await);
        sleep(seconds(20)).await;
    }
    // Back again without a will, and for longer than the delay.
    let peer = world.connect_as(resuming(Version::V5, "c")).await;
    watcher.has_nothing().await;
    peer.vanish(&world, "c").await;
    sleep(seconds(60)).await;
    watcher.has_nothing().await;
    drop(world.connect_as(with_will("c", 30, 100)).await);
    sleep(seconds(1)).await;
    let peer = world.connect(Version::V5, "c").await;
    assert_eq!(watcher.message().await.text(), "gone");
    // A delayed will of a connection that was taken over: its session goes on.
    peer.leave().await;
    let first = world.connect_as(with_will("c", 30, 100)).await;
    let mut second = world.connect_as(resuming(Version::V5, "c")).await;
    drop(first);
    sleep(seconds(60)).await;
    second.ping().await;
    watcher.has_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_counts_its_expiry_down_and_goes_when_it_is_over() {
    let world = World::in_memory();
    let mut subscriber = world.resume(Version::V5, "subscriber").await;
    subscriber.subscribe("t", QoS::AtLeastOnce).await;
    subscriber.leave().await;
    let mut publisher = world.connect_as(patient("publisher")).await;
    for (text, expiry, retain) in
        [("short", 10, false), ("long", 100, false), ("kept", 100, true), ("kept short", 10, true)]
    {
        let topic = if retain { text } else { "t" };
        publisher.publish(&Say { expiry: Some(expiry), retain, ..Say::new(topic, text, QoS::AtLeastOnce) }).await;
    }
    publisher.publish(&Say::new("t", "for ever", QoS::AtLeastOnce)).await;
    // Of no use in a second: only who is there gets it, and what remains of nothing is nothing.
    let mut here = world.connect_as(patient("here")).await;
    here.subscribe("now", QoS::AtLeastOnce).await;
    publisher.publish(&Say { expiry: Some(0), retain: true, ..Say::new("now", "now", QoS::AtLeastOnce) }).await;
    let now = here.message().await;
    assert_eq!((now.text(), now.expiry), ("now", Some(0)));
    here.subscribe("now", QoS::AtLeastOnce).await;
    here.has_nothing().await;
    sleep(seconds(30)).await;
    let mut subscriber = world.resume(Version::V5, "subscriber").await;
    let long = subscriber.message().await;
    assert_eq!((long.text(), long.expiry), ("long", Some(70)));
    let for_ever = subscriber.message().await;
    assert_eq!((for_ever.text(), for_ever.expiry), ("for ever", None));
    assert_eq!(world.broker.metrics.expired.value(), 1);
    subscriber.subscribe("#", QoS::AtLeastOnce).await;
    let kept = subscriber.message().await;
    assert_eq!((kept.text(), kept.expiry), ("kept", Some(70)));
    subscriber.has_nothing().await;
    // What has expired is also forgotten.
    sleep(seconds(120)).await;
    assert_eq!(world.broker.router.retained_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_that_have_gone_leave_no_timers() {
    let world = World::in_memory();
    for _ in 0..3000 {
        let mut connect = Connect::new(Version::V5, "c");
        connect.keep_alive = u16::MAX;
        world.connect_as(connect).await.leave().await;
    }
    let timers = world.broker.timers.len();
    assert!(timers <= 64, "{timers} timers for no connection");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_always_behind_is_still_heard() {
    let mut limits = Limits::default();
    limits.queue.messages = 500;
    let world = World::in_memory_with(limits);
    let mut connect = Connect::new(Version::V5, "slow");
    connect.keep_alive = 10;
    let mut slow = world.connect_as(connect).await;
    slow.subscribe("t", QoS::AtMostOnce).await;
    let topic = crate::mqtt::TopicName::new("t").unwrap();
    let message = crate::mqtt::Message::new(&topic, &[b'x'; 1000]);
    let mut answers = 0;
    for _ in 0..100 {
        // More than it takes in a second, so that its buffer and its queue are always full.
        for _ in 0..600 {
            world.broker.router.publish_all(std::slice::from_ref(&message), crate::clock::now());
        }
        slow.raw(&[0xC0, 0]).await;
        sleep(seconds(1)).await;
        for _ in 0..30 {
            match slow.next().await {
                Got::Message(_) => {}
                Got::PingResp => answers += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(answers > 0);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_ended_before_they_expire_leave_no_timers() {
    let world = World::in_memory();
    for _ in 0..3000 {
        // Clean, and kept for a week: the next connection ends it.
        let mut connect = Connect::new(Version::V5, "c");
        connect.session_expiry_interval = 7 * 86_400;
        world.connect_as(connect).await.leave().await;
    }
    let timers = world.broker.timers.len();
    assert!(timers <= 200, "{timers} timers for one session");
}
