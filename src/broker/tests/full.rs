//! Full queues of bridges: who is told, who waits, who does not notice, and that it goes on by itself.

use super::*;
use crate::broker::delivery::{Delivery, DeliveryQoS, RetainRule, Route};
use crate::broker::lanes::LaneSettings;
use crate::broker::session_slot::{Acknowledgement, Attachment, SessionSlot, Turn};
use crate::broker::{LocalClient, QueueLimits, WhenFull};
use crate::clock;
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::connection::Sender;
use crate::mqtt::{Message, Remap, TopicFilter, TopicName};
use crate::store::Batch;

/// A bridge without link that sends `cloud/#`.
fn bridge(world: &World, messages: usize, when_full: WhenFull) -> Arc<SessionSlot> {
    let remap = Remap::new(TopicFilter::new("cloud/#").unwrap(), None).unwrap();
    let except = vec![TopicFilter::new("cloud/no").unwrap()];
    let route = Route {
        name: "cloud/#".into(),
        order: 0,
        remap,
        except,
        payload: HopPayload::default(),
        lane: 0,
        envelope: None,
        expire: None,
    };
    let delivery = Arc::new(Delivery {
        qos: DeliveryQoS::Exactly(QoS::AtLeastOnce),
        retain: RetainRule::AsPublished,
        no_local: true,
        identifiers: Vec::new(),
        readable: None,
        share: None,
        route: Some(Arc::new(route)),
    });
    let slot = world.broker.bridge_slot("cloud", &[Arc::clone(&delivery)], &LaneSettings::of_every_bridge()).unwrap();
    slot.set_limits(QueueLimits { messages, bytes: usize::MAX, when_full });
    world.broker.router.subscribe(&slot, &TopicFilter::new("cloud/#").unwrap(), delivery);
    slot
}

/// The link of a bridge, as far as its slot knows of it.
pub(super) struct Link {
    epoch: u64,
    next_id: u16,
}

impl Link {
    pub(super) fn attach(slot: &Arc<SessionSlot>, window: u16) -> Self {
        let mut batch = Batch::default();
        let attachment = Attachment {
            sender: Sender::new(Version::V5, None, 0),
            writer: None,
            window,
            prelude: Vec::new(),
            session_present: true,
            expiry_interval: u32::MAX,
            keep_alive: 0,
            will: None,
            held: None,
            hop: None,
        };
        let (epoch, _) = slot.attach(attachment, clock::now(), &mut batch);
        Self { epoch, next_id: 1 }
    }

    /// Acknowledges the next `count` messages.
    pub(super) fn acknowledge(&mut self, slot: &Arc<SessionSlot>, count: u16) {
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        for _ in 0..count {
            let id = PacketId::new(self.next_id).unwrap();
            self.next_id += 1;
            let acknowledged = [Acknowledgement::Received(id, ReasonCode::Success)];
            assert!(!slot.settle(self.epoch, &acknowledged, &mut Vec::new(), &mut turn));
        }
    }
}

fn waiting(slot: &SessionSlot) -> (u64, u64) {
    let waiting = slot.waiting();
    (waiting.queued, waiting.counts.dropped)
}

#[test]
fn a_publisher_of_5_0_hears_that_a_queue_refuses_and_nobody_gets_the_message() {
    everywhere(async |world| {
        let slot = bridge(&world, 2, WhenFull::Refuse);
        let mut other = world.connect(Version::V5, "other").await;
        other.subscribe("#", QoS::AtLeastOnce).await;
        let mut peer = world.resume(Version::V5, "publisher").await;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(peer.publish(&Say::new("cloud/x", "taken", qos)).await, ReasonCode::Success);
        }
        assert!(slot.waiting().is_full());
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let refused = Say { retain: true, ..Say::new("cloud/x", "refused", qos) };
            assert_eq!(peer.publish(&refused).await, ReasonCode::QuotaExceeded);
        }
        // What the bridge does not send is nobody's concern.
        assert_eq!(peer.publish(&Say::new("cloud/no", "a", QoS::AtLeastOnce)).await, ReasonCode::Success);
        assert_eq!(peer.publish(&Say::new("home", "b", QoS::ExactlyOnce)).await, ReasonCode::Success);
        assert_eq!(other.texts(4).await, ["taken", "taken", "a", "b"]);
        other.has_nothing().await;
        assert_eq!((waiting(&slot), world.broker.router.retained_count()), ((2, 0), 0));

        let mut link = Link::attach(&slot, 1);
        link.acknowledge(&slot, 2);
        assert!(!slot.waiting().is_full());
        assert_eq!(peer.publish(&Say::new("cloud/x", "again", QoS::AtLeastOnce)).await, ReasonCode::Success);
        assert_eq!(other.texts(1).await, ["again"]);
    });
}

#[test]
fn what_nobody_was_promised_is_dropped_for_the_full_queue_alone() {
    everywhere(async |world| {
        let slot = bridge(&world, 1, WhenFull::Refuse);
        let mut other = world.connect(Version::V5, "other").await;
        other.subscribe("#", QoS::ExactlyOnce).await;
        let mut peer = world.connect(Version::V3, "publisher").await;
        peer.publish(&Say::new("cloud/x", "1", QoS::AtLeastOnce)).await;
        peer.publish(&Say::new("cloud/x", "2", QoS::AtMostOnce)).await;
        let (local, _commands) = LocalClient::new(&world.broker, "adapter", 1);
        let mut reading = Message::new(&TopicName::new("cloud/y").unwrap(), b"3");
        reading.qos = QoS::AtLeastOnce;
        local.publish(&[reading]);
        assert_eq!(other.texts(3).await, ["1", "2", "3"]);
        assert_eq!(waiting(&slot), (1, 2));
        assert_eq!(world.broker.metrics.dropped.value(), 2);
    });
}

#[test]
fn a_publisher_of_3_1_1_is_not_read_until_there_is_room() {
    everywhere(async |world| {
        // All of it fits into what is on its way.
        let world = World { pipe: 1024 * 1024, ..world };
        let slot = bridge(&world, 2, WhenFull::Refuse);
        let mut other = world.connect(Version::V3, "other").await;
        other.subscribe("#", QoS::AtLeastOnce).await;
        let mut peer = world.connect(Version::V3, "publisher").await;
        for text in ["1", "2"] {
            peer.publish(&Say::new("cloud/x", text, QoS::AtLeastOnce)).await;
        }
        // More than is read at once, so that it cannot all have been taken already.
        let large = vec![b'x'; 100_000];
        peer.begin(&Say::new("cloud/x", "3", QoS::AtLeastOnce)).await;
        peer.begin(&Say::new("home", "4", QoS::AtLeastOnce)).await;
        peer.begin(&Say::bytes("cloud/x", &large, QoS::ExactlyOnce)).await;
        peer.begin(&Say::new("cloud/x", "5", QoS::AtLeastOnce)).await;
        assert_eq!(other.texts(2).await, ["1", "2"]);
        // Others are not touched.
        assert_eq!(other.publish(&Say::new("home", "6", QoS::AtLeastOnce)).await, ReasonCode::Success);
        assert_eq!(other.texts(1).await, ["6"]);
        other.has_nothing().await;

        let mut link = Link::attach(&slot, 1);
        link.acknowledge(&slot, 1);
        // One in flight, none in the queue: two find room, and the large one with them.
        assert_eq!(other.texts(2).await, ["3", "4"]);
        link.acknowledge(&slot, 1);
        let message = other.message().await;
        assert_eq!(message.payload.len(), large.len());
        link.acknowledge(&slot, 1);
        link.acknowledge(&slot, 1);
        assert_eq!(other.texts(1).await, ["5"]);
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 4 {
            match peer.next().await {
                Got::PubAck(id, _) | Got::PubRec(id, _) => acknowledged.push(id),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acknowledged, [3, 4, 5, 6]);
        assert_eq!(slot.waiting().counts.dropped, 0);
    });
}

#[tokio::test(start_paused = true)]
async fn keep_alive_does_not_end_a_connection_that_is_not_read() {
    let world = World::in_memory();
    let slot = bridge(&world, 1, WhenFull::Refuse);
    let mut connect = Connect::new(Version::V3, "publisher");
    connect.keep_alive = 2;
    let mut peer = world.connect_as(connect).await;
    peer.publish(&Say::new("cloud/x", "1", QoS::AtLeastOnce)).await;
    let id = peer.begin(&Say::new("cloud/x", "2", QoS::AtLeastOnce)).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(world.broker.session("publisher").is_some_and(|slot| slot.is_connected()));
    }
    Link::attach(&slot, 1);
    assert_eq!(peer.next().await, Got::PubAck(id, ReasonCode::Success));
    // From now on it is heard, or not, like any other.
    assert_eq!(peer.end().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_read_may_be_taken_over() {
    let world = World::in_memory();
    let slot = bridge(&world, 1, WhenFull::Refuse);
    let mut peer = world.connect(Version::V3, "publisher").await;
    peer.publish(&Say::new("cloud/x", "1", QoS::AtLeastOnce)).await;
    peer.begin(&Say::new("cloud/x", "2", QoS::AtLeastOnce)).await;
    let mut again = world.connect(Version::V3, "publisher").await;
    assert_eq!(peer.end().await, None);
    again.begin(&Say::new("home", "3", QoS::AtLeastOnce)).await;
    assert_eq!(again.next().await, Got::PubAck(1, ReasonCode::Success));
    assert_eq!(waiting(&slot), (1, 0));
}

#[test]
fn a_clients_own_queue_never_refuses() {
    let queue = QueueLimits { messages: 2, bytes: usize::MAX, when_full: WhenFull::Refuse };
    everywhere_with(&Limits { queue, ..Limits::default() }, async |world| {
        let mut receiver = world.resume(Version::V5, "receiver").await;
        receiver.subscribe("#", QoS::AtLeastOnce).await;
        receiver.leave().await;
        let mut peer = world.connect(Version::V5, "publisher").await;
        for text in ["1", "2", "3", "4"] {
            assert_eq!(peer.publish(&Say::new("cloud/x", text, QoS::AtLeastOnce)).await, ReasonCode::Success);
        }
        let slot = world.broker.session("receiver").unwrap();
        assert_eq!(waiting(&slot), (2, 2));
        assert!(slot.waiting().is_full());
        let mut receiver = world.resume(Version::V5, "receiver").await;
        assert_eq!(receiver.texts(2).await, ["3", "4"]);
        until("there is room", || !slot.waiting().is_full()).await;
    });
}

#[test]
fn a_bridge_drops_the_newest_where_it_is_to() {
    everywhere(async |world| {
        let slot = bridge(&world, 2, WhenFull::DropNewest);
        let mut peer = world.connect(Version::V5, "publisher").await;
        for text in ["1", "2", "3", "4"] {
            assert_eq!(peer.publish(&Say::new("cloud/x", text, QoS::AtLeastOnce)).await, ReasonCode::Success);
        }
        assert_eq!(waiting(&slot), (2, 2));
        Link::attach(&slot, 1).acknowledge(&slot, 1);
        peer.publish(&Say::new("cloud/x", "5", QoS::AtLeastOnce)).await;
        assert_eq!(waiting(&slot), (1, 2));
    });
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_shares_takes_more_when_others_have_left_room() {
    let world = World::in_memory();
    let size = {
        let mut message = Message::new(&TopicName::new("cloud/x").unwrap(), b"1");
        message.qos = QoS::AtLeastOnce;
        message.size() as u64
    };
    let first = bridge(&world, usize::MAX, WhenFull::Refuse);
    let mut peer = world.connect(Version::V5, "publisher").await;
    for _ in 0..2 {
        assert_eq!(peer.publish(&Say::new("cloud/x", "1", QoS::AtLeastOnce)).await, ReasonCode::Success);
    }
    // What it may have has become less.
    world.broker.budget().set(2 * size, WhenFull::DropOldest);
    assert_eq!(peer.publish(&Say::new("cloud/x", "1", QoS::AtLeastOnce)).await, ReasonCode::Success);
    assert_eq!(peer.publish(&Say::new("cloud/x", "1", QoS::AtLeastOnce)).await, ReasonCode::QuotaExceeded);
    assert_eq!(waiting(&first), (3, 0));
    // And now more: nobody tells the queue.
    world.broker.budget().set(100 * size, WhenFull::DropOldest);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(peer.publish(&Say::new("cloud/x", "1", QoS::AtLeastOnce)).await, ReasonCode::Success);
}
