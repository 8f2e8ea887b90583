//! A bridge's lanes in its session: over crashes, towards servers that take less, and what is set aside.

use super::*;
use crate::broker::delivery::{Delivery, DeliveryQoS, RetainRule, Route};
use crate::broker::lanes::{LaneKind, LaneSettings, Rank, Throttling};
use crate::broker::session_slot::{Acknowledgement, Attachment, Hop, SessionSlot, Turn};
use crate::clock;
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::codec::{Framing, split_frame};
use crate::mqtt::connection::Sender;
use crate::mqtt::{MessageBuilder, Millis, Remap, TopicFilter, TopicName};
use crate::store::Batch;

/// The routes of the bridge: what is published below a lane's name waits there.
const ROUTES: [(&str, u8); 5] = [("high/#", 1), ("low/#", 2), ("batch/#", 4), ("newest/#", 5), ("#", 0)];

fn settings() -> Vec<LaneSettings> {
    let lane = |name: &str, kind| LaneSettings { name: name.into(), rank: Rank::Normal, kind };
    let mut lanes = LaneSettings::of_every_bridge();
    lanes.push(lane("batch:batch/#", LaneKind::Batch { every: 10_000, max: 100 }));
    lanes.push(lane("every:newest/#", LaneKind::Newest { every: 10_000 }));
    lanes
}

fn deliveries(qos: QoS) -> Vec<Arc<Delivery>> {
    let delivery = |(order, (from, lane)): (u16, (&str, u8))| {
        let remap = Remap::new(TopicFilter::new(from).unwrap(), None).unwrap();
        let (name, payload) = (from.into(), HopPayload::default());
        let route = Route { name, order, remap, except: Vec::new(), payload, lane, expire: None, envelope: None };
        Arc::new(Delivery {
            // A batch has no QoS 2.
            qos: DeliveryQoS::Exactly(if lane == 4 { qos.min(QoS::AtLeastOnce) } else { qos }),
            retain: RetainRule::AsPublished,
            route: Some(Arc::new(route)),
            ..Delivery::at_most(qos)
        })
    };
    (0..).zip(ROUTES).map(delivery).collect()
}

fn bridge(world: &World, qos: QoS) -> Arc<SessionSlot> {
    let deliveries = deliveries(qos);
    let slot = world.broker.bridge_slot("cloud", &deliveries, &settings()).unwrap();
    for (delivery, (from, _)) in deliveries.into_iter().zip(ROUTES) {
        world.broker.router.subscribe(&slot, &TopicFilter::new(from).unwrap(), delivery);
    }
    world.broker.end_restoring();
    slot
}

fn publish(world: &World, topic: &str, payload: &str) {
    let message = MessageBuilder::new(&TopicName::new(topic).unwrap(), payload.as_bytes()).retain(true).build();
    world.broker.router.publish_all(&[message], clock::now());
}

/// A connection of the bridge, read by the test.
struct Server {
    slot: Arc<SessionSlot>,
    epoch: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Sent {
    text: String,
    packet_id: u16,
    qos: QoS,
    retain: bool,
    dup: bool,
}

impl Server {
    fn attach(slot: &Arc<SessionSlot>, window: u16, packet: Option<u32>, hop: Hop) -> Self {
        let mut batch = Batch::default();
        let attachment = Attachment {
            sender: Sender::new(Version::V5, packet, 0),
            writer: None,
            window,
            prelude: Vec::new(),
            session_present: true,
            expiry_interval: u32::MAX,
            keep_alive: 0,
            will: None,
            held: None,
            hop: Some(hop),
        };
        let (epoch, _) = slot.attach(attachment, clock::now(), &mut batch);
        slot.journal_for_tests().append(&mut batch);
        Self { slot: Arc::clone(slot), epoch }
    }

    fn plain(slot: &Arc<SessionSlot>) -> Self {
        Self::attach(slot, 100, None, Hop::default())
    }

    /// All PUBLISH packets that come by `now`.
    fn sent_at(&self, now: Millis) -> Vec<Sent> {
        let mut sent = Vec::new();
        loop {
            let mut batch = Batch::default();
            let mut turn = Turn { now, batch: &mut batch };
            self.slot.pump(&mut turn);
            let output = self.slot.take_output(self.epoch, &mut turn);
            self.slot.journal_for_tests().append(&mut batch);
            let Some(output) = output else {
                return sent;
            };
            let mut rest = output.first();
            while let Ok(Framing::Complete(frame, length)) = split_frame(rest, usize::MAX) {
                if let Packet::Publish(publish) = Packet::decode(frame, Version::V5).unwrap() {
                    sent.push(Sent {
                        text: format!("{} {}", publish.topic, String::from_utf8_lossy(publish.payload)),
                        packet_id: publish.packet_id.map_or(0, PacketId::get),
                        qos: publish.qos,
                        retain: publish.retain,
                        dup: publish.dup,
                    });
                }
                rest = &rest[length..];
            }
        }
    }

    /// All PUBLISH packets that come by `now` until `is_over`.
    async fn all_at(&self, now: Millis, is_over: impl Fn() -> bool) -> Vec<Sent> {
        let sent = std::cell::RefCell::new(Vec::new());
        until("all is sent", || {
            sent.borrow_mut().extend(self.sent_at(now));
            is_over()
        })
        .await;
        sent.into_inner()
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent_at(clock::now())
    }

    fn acknowledge(&self, sent: &Sent, reason: ReasonCode) {
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        let id = PacketId::new(sent.packet_id).unwrap();
        self.slot.settle(self.epoch, &[Acknowledgement::Received(id, reason)], &mut Vec::new(), &mut turn);
        self.slot.journal_for_tests().append(&mut batch);
    }
}

fn texts(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(|sent| sent.text.as_str()).collect()
}

fn world() -> World {
    let world = World::with(Kind::Stream, Limits::default(), Journal::held());
    world.journal().set_eager(true);
    world
}

fn killed(world: &World) -> World {
    let world = world.killed_in(|_| (), false);
    world.journal().set_eager(true);
    world
}

/// What is published below each lane's name.
fn fill(world: &World) {
    for (topic, payload) in [
        ("low/a", "1"),
        ("a", "2"),
        ("batch/a", "3"),
        ("newest/a", "4"),
        ("high/a", "5"),
        ("batch/a", "6"),
        ("newest/a", "7"),
        ("x/set/result", "8"),
        ("b", "9"),
    ] {
        publish(world, topic, payload);
    }
}

const IN_ORDER: [&str; 7] = ["high/a 5", "x/set/result 8", "a 2", "batch/a [3,6]", "newest/a 7", "b 9", "low/a 1"];

#[tokio::test]
async fn what_waits_in_lanes_outlives_a_kill_and_one_acknowledgement_settles_a_batch() {
    let world = world();
    let slot = bridge(&world, QoS::AtLeastOnce);
    fill(&world);
    assert_eq!(slot.backlog(), (8, 0), "of the newest one has taken the place of the other");
    let world = killed(&world);
    let slot = bridge(&world, QoS::AtLeastOnce);
    let server = Server::plain(&slot);
    until("pages are read", || slot.backlog().0 <= 3).await;
    let later = Millis(clock::now().0 + 20_000);
    let sent = server.all_at(later, || slot.backlog().0 == 0).await;
    let mut found = texts(&sent);
    found.sort_unstable();
    let mut expected = IN_ORDER.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for sent in &sent {
        server.acknowledge(sent, ReasonCode::Success);
    }
    assert_eq!(slot.backlog(), (0, 0));
    let world = killed(&world);
    assert_eq!(bridge(&world, QoS::AtLeastOnce).backlog(), (0, 0), "all of it is over");
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_after_a_kill_under_its_identifier() {
    let world = world();
    let slot = bridge(&world, QoS::ExactlyOnce);
    let server = Server::plain(&slot);
    fill(&world);
    let later = Millis(clock::now().0 + 20_000);
    let sent = server.sent_at(later);
    assert_eq!(slot.backlog().0, 0, "{sent:?}");
    let world = killed(&world);
    let slot = bridge(&world, QoS::ExactlyOnce);
    let server = Server::plain(&slot);
    let again = server.all_at(later, || slot.backlog().0 == 0).await;
    let identity = |sent: &[Sent]| {
        let exactly = sent.iter().filter(|sent| sent.qos == QoS::ExactlyOnce);
        let mut identity: Vec<_> = exactly.map(|sent| (sent.text.clone(), sent.packet_id)).collect();
        identity.sort();
        identity
    };
    assert_eq!(identity(&again), identity(&sent));
    assert!(again.iter().all(|sent| sent.dup || sent.qos < QoS::ExactlyOnce), "{again:?}");
}

#[tokio::test]
async fn the_high_lane_overtakes_what_waits_for_the_window() {
    let world = world();
    let slot = bridge(&world, QoS::AtLeastOnce);
    let server = Server::attach(&slot, 1, None, Hop::default());
    for (topic, payload) in [("a", "1"), ("a", "2"), ("low/a", "3"), ("high/a", "4"), ("x/set/result", "5")] {
        publish(&world, topic, payload);
    }
    let mut order = Vec::new();
    loop {
        let sent = server.sent();
        let [only] = &sent[..] else { break };
        server.acknowledge(only, ReasonCode::Success);
        order.push(only.text.clone());
    }
    assert_eq!(order, ["a 1", "high/a 4", "x/set/result 5", "a 2", "low/a 3"]);
}

#[tokio::test]
async fn a_server_gets_no_more_than_it_takes() {
    for (maximum_qos, expected) in
        [(QoS::ExactlyOnce, QoS::ExactlyOnce), (QoS::AtLeastOnce, QoS::AtLeastOnce), (QoS::AtMostOnce, QoS::AtMostOnce)]
    {
        let world = world();
        let slot = bridge(&world, QoS::ExactlyOnce);
        publish(&world, "a", "waited");
        let server = Server::attach(&slot, 10, None, Hop { maximum_qos, retain_available: false, ..Hop::default() });
        publish(&world, "a", "live");
        let sent = server.all_at(clock::now(), || slot.backlog().0 == 0).await;
        assert_eq!(texts(&sent), ["a waited", "a live"]);
        assert!(sent.iter().all(|sent| sent.qos == expected && !sent.retain), "{sent:?}");
        let in_flight = if expected == QoS::AtMostOnce { 0 } else { 2 };
        assert_eq!(slot.backlog(), (0, in_flight));
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_set_aside_and_the_rest_flows() {
    let world = world();
    let slot = bridge(&world, QoS::AtLeastOnce);
    let refuses = |topic: &str| (topic == "bad").then(|| "it is bad".to_owned());
    let hop = Hop { refuses: Some(Arc::new(refuses)), ..Hop::default() };
    let server = Server::attach(&slot, 10, Some(100), hop);
    publish(&world, "a", "1");
    publish(&world, "bad", "2");
    publish(&world, "a", &"3".repeat(100));
    publish(&world, "a", "4");
    let sent = server.sent();
    assert_eq!(texts(&sent), ["a 1", "a 4"]);
    server.acknowledge(&sent[0], ReasonCode::NotAuthorized);
    server.acknowledge(&sent[1], ReasonCode::Success);
    let waiting = slot.waiting();
    assert_eq!((waiting.counts.set_aside, waiting.set_aside.0, waiting.in_flight), (3, 3, 0));
    let last = slot.last_set_aside().unwrap();
    assert_eq!((last.topic.as_str(), last.reason.as_str()), ("a", "the server refused it: not authorized (0x87)"));

    let world = killed(&world);
    let slot = bridge(&world, QoS::AtLeastOnce);
    let server = Server::plain(&slot);
    assert_eq!((slot.waiting().set_aside.0, slot.backlog()), (3, (0, 0)));
    assert_eq!(server.sent(), []);
    assert_eq!(slot.last_set_aside(), Some(last), "it is noted");
}

#[tokio::test]
async fn a_message_in_flight_can_be_set_aside() {
    let world = world();
    let slot = bridge(&world, QoS::ExactlyOnce);
    let server = Server::attach(&slot, 1, None, Hop::default());
    publish(&world, "a", "1");
    publish(&world, "a", "2");
    assert_eq!(texts(&server.sent()), ["a 1"]);
    let first = slot.first_in_flight().unwrap();
    assert_eq!((first.topic.as_str(), first.qos, first.bytes), ("a", QoS::ExactlyOnce, 1));
    let mut batch = Batch::default();
    assert!(slot.set_aside(first.key, "it is poison", &mut Turn { now: clock::now(), batch: &mut batch }));
    assert!(!slot.set_aside(first.key, "again", &mut Turn { now: clock::now(), batch: &mut batch }));
    assert_eq!(texts(&server.sent()), ["a 2"]);
}

#[tokio::test]
async fn a_lane_that_is_not_configured_any_more_is_emptied() {
    let world = world();
    bridge(&world, QoS::AtLeastOnce);
    fill(&world);
    let world = killed(&world);
    let all = deliveries(QoS::AtLeastOnce);
    let slot = world.broker.bridge_slot("cloud", &all[4..], &LaneSettings::of_every_bridge()).unwrap();
    assert_eq!(slot.backlog(), (8, 0));
    let server = Server::plain(&slot);
    let sent = server.all_at(clock::now(), || slot.backlog().0 == 0).await;
    let mut found = texts(&sent);
    found.sort_unstable();
    assert_eq!(found, ["a 2", "b 9", "batch/a 3", "batch/a 6", "high/a 5", "low/a 1", "newest/a 7", "x/set/result 8"]);
}

#[tokio::test]
async fn what_is_throttled_goes_when_it_may_and_the_high_lane_at_once() {
    let world = world();
    let slot = bridge(&world, QoS::AtLeastOnce);
    let throttling = Throttling { rate: Some(20.0), bandwidth: None };
    let begin = clock::now();
    let server = Server::attach(&slot, 100, None, Hop { throttling, ..Hop::default() });
    for number in 0..5 {
        publish(&world, "a", &number.to_string());
    }
    publish(&world, "high/a", "5");
    assert_eq!(texts(&server.sent()), ["a 0", "a 1", "high/a 5"]);
    let due = slot.due(server.epoch).expect("it goes by itself");
    assert!(due > begin);
    assert_eq!(server.sent_at(Millis(begin.0 + 100_000)).len(), 2, "as many as a second brings");
}

#[tokio::test]
async fn a_qos_2_message_that_is_answered_with_puback_is_over_and_counted() {
    let world = world();
    let slot = bridge(&world, QoS::ExactlyOnce);
    let server = Server::plain(&slot);
    publish(&world, "a", "1");
    let sent = server.sent();
    server.acknowledge(&sent[0], ReasonCode::Success);
    assert_eq!((slot.backlog(), slot.waiting().counts.qos2_downgraded), ((0, 0), 1));
}
