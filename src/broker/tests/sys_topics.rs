//! What the broker counts, and what it tells of that under `$SYS`.

use std::collections::BTreeMap;

use super::*;
use crate::broker::sys_topics;
use crate::health::{Backlog, HealthTable};
use crate::store::{Report, Statistics};
use tokio::time::{Instant, advance};

const INTERVAL: Duration = Duration::from_secs(10);

fn sum(tallies: &[Tally]) -> Tally {
    tallies.iter().fold(Tally::default(), |sum, tally| Tally {
        bytes: sum.bytes + tally.bytes,
        publishes: sum.publishes + tally.publishes,
        payload_bytes: sum.payload_bytes + tally.payload_bytes,
        others: sum.others + tally.others,
    })
}

/// A client in virtual time, which says nothing while it waits.
async fn watcher(world: &World, filter: &str) -> Peer {
    let mut connect = Connect::new(Version::V5, "watcher");
    connect.keep_alive = 0;
    let mut peer = world.connect_as(connect).await;
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, retain_as_published: true, ..Default::default() };
    peer.subscribe_with(&[(filter, options)], None).await;
    peer
}

/// Everything that has come, by topic; the newest counts.
async fn values(peer: &mut Peer) -> BTreeMap<String, String> {
    peer.ping().await;
    peer.ping().await;
    let mut values = BTreeMap::new();
    while let Some(got) = peer.kept.pop_front() {
        let Got::Message(message) = got else { panic!("{got:?} instead of a message") };
        assert_eq!((message.qos, message.retain), (QoS::AtMostOnce, true), "{}", message.topic);
        let value = message.text().to_owned();
        values.insert(message.topic, value);
    }
    values
}

#[test]
fn every_packet_and_byte_is_counted_once() {
    everywhere(async |world| {
        let mut subscriber = world.connect(Version::V5, "subscriber").await;
        subscriber.subscribe("t/#", QoS::ExactlyOnce).await;
        let mut publisher = world.connect(Version::V3, "publisher").await;
        // Larger than what is shared, and than what is read at once.
        for payload in ["x", "", &"y".repeat(10_000), &"z".repeat(100_000)] {
            for qos in QOS {
                publisher.publish(&Say::new("t/1", payload, qos)).await;
                assert_eq!(subscriber.message().await.payload.len(), payload.len());
            }
        }
        // The ends of the exchanges, and no more.
        subscriber.has_nothing().await;
        publisher.has_nothing().await;
        let metrics = &world.broker.metrics;
        assert_eq!(metrics.received.total(), sum(&[subscriber.said, publisher.said]));
        assert_eq!(metrics.received.total().publishes, 12);
        assert_eq!(metrics.received.total().payload_bytes, 3 * 110_001);
        let heard = sum(&[subscriber.heard, publisher.heard]);
        // What was written is counted when the socket has taken it, which the reader may be faster than.
        until("all that was sent is counted", || metrics.sent.total().packets() >= heard.packets()).await;
        assert_eq!(metrics.sent.total(), heard);
        assert_eq!((metrics.connections.value(), metrics.connects.value()), (2, 2));
    });
}

#[test]
fn clients_are_counted_through_takeover_clean_start_and_end() {
    everywhere(async |world| {
        let clients = || (world.broker.metrics.clients.value(), world.broker.metrics.clients.highest());
        let first = world.resume(Version::V5, "a").await;
        assert_eq!(clients(), (1, 1));
        // Taken over, then ended by a clean start.
        let second = world.resume(Version::V5, "a").await;
        assert_eq!(clients(), (1, 1));
        let third = world.connect(Version::V5, "a").await;
        let other = world.resume(Version::V5, "b").await;
        assert_eq!(clients(), (2, 2));
        drop((first, second));
        other.leave().await;
        until("one has gone", || clients().0 == 1).await;
        third.vanish(&world, "a").await;
        until("both have gone", || clients().0 == 0).await;
        assert_eq!(clients(), (0, 2));
        assert_eq!(world.broker.session_count(), 1);
    });
}

#[tokio::test(start_paused = true)]
async fn it_tells_under_the_names_of_mosquitto() {
    let world = World::in_memory();
    let health = Arc::new(HealthTable::default());
    sys_topics::start(&world.broker, health, None, INTERVAL);
    let mut peer = watcher(&world, "$SYS/#").await;
    let before = values(&mut peer).await;
    for (topic, value) in [
        ("version", concat!("edgeway version ", env!("CARGO_PKG_VERSION"))),
        ("uptime", "0 seconds"),
        ("clients/connected", "0"),
        ("messages/received", "0"),
        ("load/messages/received/15min", "0.00"),
    ] {
        assert_eq!(before[&format!("$SYS/broker/{topic}")], value, "{topic}");
    }
    peer.publish(&Say::new("t", "12345", QoS::AtLeastOnce)).await;
    peer.publish(&Say::retained("kept", "value")).await;
    let (said, heard) = (peer.said, peer.heard);
    let retained = world.broker.router.retained_count();
    advance(INTERVAL).await;
    let after = values(&mut peer).await;
    let per_minute = said.packets() as f64 * 6.0;
    for (topic, value) in [
        ("uptime", "10 seconds".to_owned()),
        ("clients/total", "1".to_owned()),
        ("clients/connected", "1".to_owned()),
        ("clients/active", "1".to_owned()),
        ("clients/maximum", "1".to_owned()),
        ("bytes/received", said.bytes.to_string()),
        ("bytes/sent", heard.bytes.to_string()),
        ("messages/received", said.packets().to_string()),
        ("messages/sent", heard.packets().to_string()),
        ("publish/messages/received", "2".to_owned()),
        ("publish/bytes/received", "10".to_owned()),
        ("publish/messages/sent", before.len().to_string()),
        ("retained messages/count", retained.to_string()),
        ("messages/stored", retained.to_string()),
        ("store/messages/count", retained.to_string()),
        ("subscriptions/count", "1".to_owned()),
        ("load/messages/received/1min", format!("{:.2}", per_minute * (1.0 - (-10.0 / 60.0_f64).exp()))),
        ("load/connections/5min", format!("{:.2}", 6.0 * (1.0 - (-10.0 / 300.0_f64).exp()))),
    ] {
        assert_eq!(after[&format!("$SYS/broker/{topic}")], value, "{topic}");
    }
    for unchanged in ["version", "clients/disconnected", "publish/messages/dropped", "load/publish/dropped/1min"] {
        let topic = format!("$SYS/broker/{unchanged}");
        assert!(before.contains_key(&topic) && !after.contains_key(&topic), "{unchanged} did not change");
    }
}

#[tokio::test(start_paused = true)]
async fn what_sessions_hold_is_told() {
    let world = World::in_memory();
    sys_topics::start(&world.broker, Arc::default(), None, INTERVAL);
    let mut away = resuming(Version::V5, "away");
    away.keep_alive = 0;
    away.session_expiry_interval = 15;
    let mut sleeper = world.connect_as(away).await;
    sleeper.subscribe("t", QoS::AtLeastOnce).await;
    sleeper.subscribe("$share/group/u", QoS::AtLeastOnce).await;
    let mut peer = watcher(&world, "$SYS/#").await;
    peer.publish(&Say::new("t", "in flight", QoS::AtLeastOnce)).await;
    drop(sleeper.stream);
    until("the broker notices", || world.broker.session("away").is_none_or(|slot| !slot.is_connected())).await;
    for _ in 0..2 {
        peer.publish(&Say::new("t", "queued", QoS::AtLeastOnce)).await;
    }
    values(&mut peer).await;
    let retained = world.broker.router.retained_count();
    advance(INTERVAL).await;
    let told = values(&mut peer).await;
    for (topic, value) in [
        ("clients/total", 2),
        ("clients/maximum", 2),
        ("clients/connected", 1),
        ("clients/disconnected", 1),
        ("clients/inactive", 1),
        ("messages/inflight", 1),
        ("messages/stored", retained + 3),
        ("subscriptions/count", 2),
        ("shared_subscriptions/count", 1),
    ] {
        assert_eq!(told[&format!("$SYS/broker/{topic}")], value.to_string(), "{topic}");
    }
    advance(INTERVAL).await;
    let told = values(&mut peer).await;
    for (topic, value) in
        [("clients/expired", 1), ("clients/total", 1), ("clients/disconnected", 0), ("messages/inflight", 0)]
    {
        assert_eq!(told[&format!("$SYS/broker/{topic}")], value.to_string(), "{topic}");
    }
}

#[tokio::test(start_paused = true)]
async fn wildcards_at_the_first_level_see_nothing_of_it_and_nothing_of_it_is_recorded() {
    let world = World::in_memory();
    sys_topics::start(&world.broker, Arc::default(), None, INTERVAL);
    let mut away = resuming(Version::V5, "durable");
    away.keep_alive = 0;
    let mut durable = world.connect_as(away).await;
    durable.subscribe("$SYS/#", QoS::ExactlyOnce).await;
    durable.subscribe("#", QoS::ExactlyOnce).await;
    durable.subscribe("+/broker/#", QoS::ExactlyOnce).await;
    durable.unsubscribe("$SYS/#").await;
    durable.kept.clear();
    durable.has_nothing().await;
    durable.subscribe("$SYS/broker/uptime", QoS::ExactlyOnce).await;
    let records = world.broker.router.journal().records();
    advance(INTERVAL).await;
    durable.ping().await;
    while let Some(got) = durable.kept.pop_front() {
        let Got::Message(message) = got else { panic!("{got:?}") };
        assert_eq!((message.topic.as_str(), message.qos), ("$SYS/broker/uptime", QoS::AtMostOnce));
    }
    assert_eq!(world.broker.router.journal().records(), records);
    durable.publish(&Say::retained("kept", "value")).await;
    assert!(world.broker.router.journal().records() > records, "retained messages of others are recorded");
}

#[tokio::test(start_paused = true)]
async fn bridges_and_devices_are_told_of_at_once_and_forgotten_when_they_are_gone() {
    let world = World::in_memory();
    let health = Arc::new(HealthTable::default());
    let bridge = health.bridge("cloud", || Backlog {
        queued: 3,
        queued_bytes: 600,
        in_flight: 2,
        dropped: 1,
        ..Backlog::default()
    });
    let meter = health.device("meter 1");
    meter.offline("starting");
    sys_topics::start(&world.broker, Arc::clone(&health), None, INTERVAL);
    let mut peer = watcher(&world, "$SYS/#").await;
    let told = values(&mut peer).await;
    for (topic, value) in [
        ("broker/connection/cloud/state", "0"),
        ("broker/messages/inflight", "2"),
        ("gateway/bridges/cloud/state", "connecting"),
        ("gateway/bridges/cloud/queued", "3"),
        ("gateway/bridges/cloud/queued_bytes", "600"),
        ("gateway/bridges/cloud/in_flight", "2"),
        ("gateway/bridges/cloud/dropped", "1"),
        ("gateway/bridges/cloud/full", "0"),
        ("gateway/bridges/cloud/oldest_age", "0"),
        ("gateway/bridges/cloud/sent_rate", "0.0"),
        ("gateway/bridges/cloud/set_aside", "0"),
        ("gateway/bridges/cloud/connects", "0"),
        ("gateway/devices/meter 1/state", "0"),
        ("gateway/devices/meter 1/error", "starting"),
        ("gateway/devices/meter 1/readings", "0"),
    ] {
        assert_eq!(told[&format!("$SYS/{topic}")], value, "{topic}");
    }
    assert!(!told.contains_key("$SYS/gateway/bridges/cloud/last_error"));

    let now = Instant::now();
    bridge.connected();
    meter.online();
    meter.add_readings(7);
    meter.add_error();
    let told = values(&mut peer).await;
    let expected = [
        ("$SYS/broker/connection/cloud/state", "1"),
        ("$SYS/gateway/bridges/cloud/state", "connected"),
        ("$SYS/gateway/devices/meter 1/state", "1"),
    ];
    assert_eq!(told, expected.map(|(topic, value)| (topic.to_owned(), value.to_owned())).into());
    assert_eq!(Instant::now(), now, "no interval has passed");

    bridge.disconnected("refused");
    values(&mut peer).await;
    advance(INTERVAL).await;
    let told = values(&mut peer).await;
    for (topic, value) in [
        ("gateway/bridges/cloud/connects", "1"),
        ("gateway/bridges/cloud/last_error", "refused"),
        ("gateway/devices/meter 1/readings", "7"),
        ("gateway/devices/meter 1/errors", "1"),
        ("gateway/devices/meter 1/error", ""),
    ] {
        assert_eq!(told[&format!("$SYS/{topic}")], value, "{topic}");
    }

    drop((bridge, meter));
    advance(INTERVAL).await;
    let gone: Vec<String> =
        values(&mut peer).await.into_iter().filter(|(_, value)| value.is_empty()).map(|(t, _)| t).collect();
    assert_eq!(gone.len(), 1 + 16 + 3 + 1, "{gone:?}");
    drop(peer);
    let mut late = watcher(&world, "$SYS/gateway/#").await;
    let told = values(&mut late).await;
    let expected = [("$SYS/gateway/health/state", "ok"), ("$SYS/gateway/store/state", "in_memory")];
    assert_eq!(told, expected.map(|(topic, value)| (topic.to_owned(), value.to_owned())).into());
}

#[tokio::test(start_paused = true)]
async fn a_failing_journal_is_told_of_at_once_and_its_numbers_at_an_interval() {
    let world = World::in_memory();
    let (health, statistics) = (Arc::new(HealthTable::default()), Arc::<Statistics>::default());
    statistics.set_found(&Report { lost_messages: 3, ..Report::default() });
    sys_topics::start(&world.broker, Arc::clone(&health), Some(Arc::clone(&statistics)), INTERVAL);
    let mut peer = watcher(&world, "$SYS/gateway/#").await;
    let told = values(&mut peer).await;
    for (topic, value) in [("health/state", "ok"), ("store/state", "ok"), ("store/lost_messages", "3")] {
        assert_eq!(told[&format!("$SYS/gateway/{topic}")], value, "{topic}");
    }

    let now = Instant::now();
    health.store().set_failure(Some("no space"));
    let told = values(&mut peer).await;
    let expected = [
        ("$SYS/gateway/health/reasons", "nothing can be committed: no space"),
        ("$SYS/gateway/health/state", "failed"),
        ("$SYS/gateway/store/error", "no space"),
        ("$SYS/gateway/store/state", "failed"),
    ];
    assert_eq!(told, expected.map(|(topic, value)| (topic.to_owned(), value.to_owned())).into());
    assert_eq!(Instant::now(), now, "no interval has passed");

    health.store().set_failure(None);
    statistics.appended(5);
    statistics.committed(100, 2, Duration::from_millis(7));
    statistics.set_space(2, 8 << 20, 60);
    values(&mut peer).await;
    advance(INTERVAL).await;
    let told = values(&mut peer).await;
    for (topic, value) in [
        ("health/reasons", ""),
        ("store/error", ""),
        ("store/records", "5"),
        ("store/commits", "1"),
        ("store/commits/last_ms", "7"),
        ("store/bytes/written", "100"),
        ("store/bytes/device", "8192"),
        ("store/bytes/day", "196608"),
        ("store/bytes/disk", "8388608"),
        ("store/bytes/alive", "60"),
        ("store/segments", "2"),
    ] {
        assert_eq!(told[&format!("$SYS/gateway/{topic}")], value, "{topic}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_nothing_tells_nothing() {
    let world = World::in_memory();
    sys_topics::start(&world.broker, Arc::default(), None, Duration::ZERO);
    assert_eq!(world.broker.router.retained_count(), 0);
    world.broker.stop().await;
}
