//! A new route of a bridge sends what is retained once; neither a reconnect nor a restart does.

use super::full::Link;
use super::*;
use crate::broker::delivery::{Delivery, DeliveryQoS, RetainRule, Route};
use crate::broker::router::Origin;
use crate::broker::session_slot::{SessionSlot, Turn};
use crate::broker::{QueueLimits, WhenFull};
use crate::clock;
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::{Form, MessageBuilder, Publication, Quality, Reading, Remap, Sampled, TopicFilter, TopicName};
use crate::store::Batch;

fn route(order: u16, from: &str, to: &str, qos: QoS) -> Arc<Delivery> {
    let filter = |text: &str| TopicFilter::new(text).unwrap();
    Arc::new(Delivery {
        qos: DeliveryQoS::Exactly(qos),
        retain: RetainRule::AsPublished,
        no_local: true,
        route: Some(Arc::new(Route {
            name: from.into(),
            order,
            remap: Remap::new(filter(from), Some(filter(to))).unwrap(),
            except: vec![filter("a/secret")],
            payload: HopPayload::default(),
            lane: 0,
            expire: None,
            envelope: None,
        })),
        ..Delivery::at_most(qos)
    })
}

impl World {
    /// The bridge `cloud` as it starts.
    fn bridge(&self, routes: &[Arc<Delivery>]) -> Arc<SessionSlot> {
        let slot = self.broker.bridge_slot("cloud", routes, &[]).unwrap();
        self.begin(&slot, routes);
        slot
    }

    fn begin(&self, slot: &Arc<SessionSlot>, routes: &[Arc<Delivery>]) {
        for delivery in routes {
            let from = delivery.route.as_ref().unwrap().remap.from();
            self.broker.router.subscribe(slot, from, Arc::clone(delivery));
        }
        self.broker.send_first_values(slot);
    }

    fn retain(&self, topic: &str, payload: &str, by: Option<&Arc<SessionSlot>>) {
        let topic = TopicName::new(topic).unwrap();
        let message = MessageBuilder::new(&topic, payload.as_bytes()).retain(true).build();
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        let origin = Origin { slot: by, received: None };
        self.broker.router.publish(&Publication::from_message(&message), origin, &mut turn);
        self.broker.router.finish(&mut batch);
    }

    /// What the journal has in the bridge's queue: `topic payload by route`.
    fn queued(&self, slot: &SessionSlot) -> Vec<String> {
        let page = self.journal().read(slot.queue_id(), 0, 1000, usize::MAX).unwrap();
        let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
        page.messages
            .iter()
            .map(|paged| {
                assert!(paged.retain);
                let message = &paged.message;
                format!("{} {} by {}", message.topic(), text(message.payload()), paged.route.as_deref().unwrap())
            })
            .collect()
    }
}

fn world() -> World {
    let world = World::with(Kind::Stream, Limits::default(), Journal::held());
    world.journal().set_eager(true);
    world
}

fn again(world: &World) -> World {
    let killed = world.killed_in(|_| (), false);
    killed.journal().set_eager(true);
    killed
}

const AT_LEAST_ONCE: QoS = QoS::AtLeastOnce;

#[tokio::test]
async fn a_new_route_sends_what_is_retained_once_and_each_message_goes_by_its_first_route() {
    let world = world();
    for topic in ["a/1", "a/secret", "a/x/set", "a/x/set/result", "b/1"] {
        world.retain(topic, "old", None);
    }
    let routes = [route(0, "a/1", "one", AT_LEAST_ONCE), route(1, "a/#", "up/#", AT_LEAST_ONCE)];
    let slot = world.bridge(&routes);
    let first = ["a/1 old by a/1", "a/x/set/result old by a/#"];
    assert_eq!(world.queued(&slot), first);
    // A connection, and another, send nothing more.
    Link::attach(&slot, 10);
    Link::attach(&slot, 10);
    assert_eq!(world.queued(&slot), first);

    // A restart does not, either; a route that has changed does, whether its `from` or its `to`.
    let world = again(&world);
    let slot = world.bridge(&routes);
    assert_eq!(world.queued(&slot), first);
    let rest = || route(2, "#", "rest/#", AT_LEAST_ONCE);
    let changed = [route(0, "a/1", "uno", AT_LEAST_ONCE), route(1, "+/1", "up/+/1", AT_LEAST_ONCE), rest()];
    let world = again(&world);
    let slot = world.bridge(&changed);
    let second = [&first[..], &["a/1 old by a/1", "b/1 old by +/1", "a/x/set/result old by #"]].concat();
    assert_eq!(world.queued(&slot), second);
    let world = again(&world);
    let slot = world.bridge(&changed);
    assert_eq!(world.queued(&slot), second);
    // One that was there before, and was gone meanwhile, is new.
    let world = again(&world);
    let slot = world.bridge(&[routes[0].clone(), routes[1].clone(), rest()]);
    assert_eq!(world.queued(&slot), [&second[..], &first].concat());
    // A deletion is a message like any other.
    world.retain("a/1", "", None);
    assert_eq!(world.queued(&slot).last().unwrap(), "a/1  by a/1");
    assert_eq!(world.broker.metrics.dropped.value(), 0);
}

#[tokio::test]
async fn what_came_by_the_bridge_is_left_out_after_a_restart_too_and_what_a_client_of_its_name_published_is_not() {
    let world = world();
    let slot = world.bridge(&[]);
    world.retain("a/theirs", "1", Some(&slot));
    let mut client = world.connect(Version::V5, "cloud").await;
    client.publish(&Say::retained("a/ours", "2")).await;
    let world = again(&world);
    let slot = world.bridge(&[route(0, "a/#", "a/#", AT_LEAST_ONCE)]);
    assert_eq!(world.queued(&slot), ["a/ours 2 by a/#"]);
}

#[tokio::test]
async fn a_crash_before_the_note_has_it_done_again_and_readings_come_before_it() {
    let world = world();
    let reading = Reading {
        sampled: Sampled { time_ms: 1, uncertain_at: None },
        unit: None,
        quality: Quality::Good,
        device: "d".into(),
        point: None,
        form: Form::Value,
    };
    let topic = TopicName::new("a/1").unwrap();
    let message = MessageBuilder::new(&topic, b"1").retain(true).reading(Arc::new(reading)).build();
    world.broker.router.publish_all(&[message], clock::now());
    let routes = [route(0, "a/#", "a/#", AT_LEAST_ONCE)];
    world.journal().set_eager(true);
    let slot = world.broker.bridge_slot("cloud", &routes, &[]).unwrap();
    world.journal().set_eager(false);
    world.begin(&slot, &routes);
    assert_eq!(world.queued(&slot), ["a/1 1 by a/#"]);
    // Nothing of that was committed.
    let killed = again(&world);
    let slot = killed.bridge(&routes);
    assert_eq!(killed.queued(&slot), ["a/1 1 by a/#"]);
    let delivered = |record: &Vec<u8>| record.windows(3).any(|part| part == b"a/#");
    let noted = |record: &Vec<u8>| record.windows(4).any(|part| part == b"sent");
    let records = killed.journal().kept_records();
    let (first, last) = (records.iter().position(delivered), records.iter().position(noted));
    assert!(first.is_some() && first < last, "{first:?} {last:?}");
}

#[tokio::test(start_paused = true)]
async fn values_wait_for_room_and_those_of_qos_0_for_a_connection() {
    let world = world();
    for number in 0..30 {
        world.retain(&format!("a/{number:02}"), "x", None);
        world.retain(&format!("b/{number:02}"), "x", None);
    }
    let routes = [route(0, "b/#", "b/#", QoS::AtMostOnce), route(1, "a/#", "a/#", AT_LEAST_ONCE)];
    let slot = world.broker.bridge_slot("cloud", &routes, &[]).unwrap();
    slot.set_limits(QueueLimits { messages: 10, bytes: usize::MAX, when_full: WhenFull::DropOldest });
    world.begin(&slot, &routes);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((slot.backlog(), slot.notes().iter().count()), ((10, 0), 0));
    let mut link = Link::attach(&slot, 5);
    let mut rounds = 0;
    while slot.backlog() != (0, 0) {
        rounds += 1;
        link.acknowledge(&slot, 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((rounds, slot.waiting().counts.dropped), (30, 0));
    assert_eq!(slot.waiting().buffered, 60);
    let notes: Vec<_> = slot.notes().iter().map(|(key, value)| format!("{key}: {value}")).collect();
    assert_eq!(notes, [r#"retained "a/#" Some("a/#"): sent"#, r#"retained "b/#" Some("b/#"): sent"#]);
}
