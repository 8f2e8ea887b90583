//! The lanes by themselves: what goes first, together, or only in its newest state.

use std::sync::Arc;

use super::*;
use crate::broker::delivery::{Delivery, Route};
use crate::broker::delivery_queue::Entry;
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::{Message, MessageBuilder, Millis, QoS, Remap, TopicFilter, TopicName};
use crate::store::QueueId;

const ANY_SIZE: usize = usize::MAX;

/// The queue of a bridge whose lane 4 is of this kind.
fn queues(kind: LaneKind) -> Queues {
    let mut lanes = LaneSettings::of_every_bridge();
    lanes.push(LaneSettings { name: "fourth".into(), rank: Rank::Normal, kind });
    let lanes =
        (1..).zip(lanes).map(|(id, settings)| Lane::new(&settings, lane_name("b", &settings.name), QueueId(id)));
    let mut queues = Queues::default();
    queues.set_lanes(lanes.collect());
    queues
}

fn delivery(lane: u8) -> Arc<Delivery> {
    let filter = |text| TopicFilter::new(text).unwrap();
    let route = Route {
        name: "#".into(),
        order: 0,
        remap: Remap::new(filter("#"), Some(filter("to/#"))).unwrap(),
        except: Vec::new(),
        payload: HopPayload::default(),
        lane,
        envelope: None,
        expire: Some(100_000),
    };
    Arc::new(Delivery { route: Some(Arc::new(route)), ..Delivery::at_most(QoS::AtLeastOnce) })
}

/// Puts a message in at `now`; the sequence of what it takes the place of.
fn put(queues: &mut Queues, lane: u8, topic: &str, payload: &str, now: u64) -> Option<u64> {
    let message = MessageBuilder::new(&TopicName::new(topic).unwrap(), payload.as_bytes()).build();
    let sequence = queues.take_number(lane).or(Some(now));
    let delivery = delivery(lane);
    let (since, qos) = (Millis(now), QoS::AtLeastOnce);
    let entry = Entry { lane, sequence, since, message, qos, retain: false, delivery, pending: None, settles: None };
    queues.push(entry, None, Millis(now)).and_then(|old| old.sequence)
}

fn text(message: &Message) -> String {
    format!("{} {}", message.topic(), String::from_utf8_lossy(message.payload()))
}

/// All that goes at `now`.
fn sent(queues: &mut Queues, now: u64, maximum_packet: usize) -> Vec<String> {
    let mut sent = Vec::new();
    while queues.front(Millis(now), maximum_packet).is_some() {
        sent.push(text(&queues.pop(Millis(now)).unwrap().message));
    }
    sent
}

#[test]
fn the_high_lane_goes_first_and_the_low_one_last() {
    let mut queues = queues(LaneKind::Plain);
    for (at, (lane, topic)) in (1..).zip([(LOW, "l"), (NORMAL, "n"), (4, "x"), (NORMAL, "m"), (HIGH, "h"), (LOW, "k")])
    {
        put(&mut queues, lane, topic, "", at);
    }
    assert_eq!((queues.len(), queues.is_clear()), (6, false));
    assert_eq!(sent(&mut queues, 9, ANY_SIZE), ["h ", "n ", "x ", "m ", "l ", "k "]);
    assert!(queues.is_empty() && queues.is_clear());
}

#[test]
fn what_is_set_aside_stays_and_counts_nowhere() {
    let mut queues = queues(LaneKind::Plain);
    put(&mut queues, ASIDE, "a", "", 1);
    assert_eq!((queues.len(), queues.bytes(), queues.is_empty()), (0, 0, true));
    assert!(queues.front(Millis(1), ANY_SIZE).is_none());
}

#[test]
fn a_batch_goes_when_its_first_has_waited_or_enough_are_there() {
    let mut queues = queues(LaneKind::Batch { every: 1000, max: 3 });
    put(&mut queues, 4, "a", "1", 10);
    put(&mut queues, 4, "b", "on", 20);
    assert_eq!((sent(&mut queues, 1009, ANY_SIZE).len(), queues.due()), (0, Some(Millis(1010))));
    assert_eq!(sent(&mut queues, 1010, ANY_SIZE), ["to/a [1]", r#"to/b ["on"]"#]);
    for (at, payload) in [(2000, "1"), (2001, "2.50"), (2002, "[3]"), (2003, "4")] {
        put(&mut queues, 4, "a", payload, at);
    }
    assert_eq!(sent(&mut queues, 2003, ANY_SIZE), ["to/a [1,2.50,[3]]"]);
    assert_eq!(queues.due(), Some(Millis(3003)), "the rest waits from then on");
    assert_eq!(sent(&mut queues, 3003, ANY_SIZE), ["to/a [4]"]);
}

#[test]
fn a_batch_fits_into_the_packets_that_the_server_takes_and_settles_all_its_messages() {
    let mut queues = queues(LaneKind::Batch { every: 1000, max: 100 });
    for number in 0..5 {
        put(&mut queues, 4, "a", &format!("{number}{}", "0".repeat(40)), 1);
    }
    let packet = 128 + 4 + 100;
    let mut settled = Vec::new();
    while queues.front(Millis(2000), packet).is_some() {
        let entry = queues.pop(Millis(2000)).unwrap();
        assert!(entry.message.payload().len() <= 100);
        settled.push(entry.settles.unwrap().to_vec());
    }
    assert_eq!(settled, [vec![0, 1], vec![2, 3], vec![4]]);
}

#[test]
fn a_batch_that_was_prepared_for_a_connection_that_has_gone_is_put_together_anew() {
    let mut queues = queues(LaneKind::Batch { every: 1000, max: 100 });
    put(&mut queues, 4, "a", "1", 1);
    put(&mut queues, 4, "b", "2", 2);
    put(&mut queues, 4, "a", "3", 3);
    assert_eq!(text(&queues.front(Millis(2000), ANY_SIZE).unwrap().message), "to/a [1,3]");
    assert_eq!(queues.len(), 3);
    queues.remove_at_most_once();
    assert_eq!((queues.len(), queues.oldest()), (3, Some(Millis(1))));
    assert_eq!(sent(&mut queues, 2000, ANY_SIZE), ["to/a [1,3]", "to/b [2]"]);
}

#[test]
fn what_has_waited_too_long_is_left_out_of_its_batch() {
    let mut queues = queues(LaneKind::Batch { every: 1000, max: 100 });
    put(&mut queues, 4, "a", "1", 1);
    put(&mut queues, 4, "a", "2", 90_000);
    let entry = queues.front(Millis(100_001), ANY_SIZE).unwrap();
    assert_eq!(text(&entry.message), "to/a [2]");
    assert_eq!(entry.settles.as_deref(), Some(&[0, 1][..]));
    queues.pop(Millis(100_001));
    put(&mut queues, 4, "a", "3", 100_002);
    let entry = queues.front(Millis(300_000), ANY_SIZE).unwrap();
    assert!(entry.is_expired(Millis(300_000)), "nothing of it is of use");
    assert_eq!(entry.settles.as_deref(), Some(&[2][..]));
}

#[test]
fn of_each_topic_the_newest_goes_and_no_two_within_the_time() {
    let mut queues = queues(LaneKind::Newest { every: 1000 });
    assert_eq!(put(&mut queues, 4, "a", "1", 10), None);
    assert_eq!(sent(&mut queues, 10, ANY_SIZE), ["a 1"], "the first goes at once");
    assert_eq!(put(&mut queues, 4, "a", "2", 20), None);
    assert_eq!(put(&mut queues, 4, "a", "3", 30), Some(1), "it takes the place of the one before");
    put(&mut queues, 4, "b", "4", 40);
    assert_eq!((queues.len(), queues.oldest()), (2, Some(Millis(30))));
    assert_eq!(sent(&mut queues, 50, ANY_SIZE), ["b 4"]);
    assert_eq!((sent(&mut queues, 1009, ANY_SIZE).len(), queues.due()), (0, Some(Millis(1010))));
    assert_eq!(sent(&mut queues, 1010, ANY_SIZE), ["a 3"]);
    assert_eq!((queues.len(), queues.bytes(), queues.due()), (0, 0, None));
}

#[test]
fn the_lowest_rank_makes_room_and_the_newest_of_a_topic_stays() {
    let mut queues = queues(LaneKind::Newest { every: 1000 });
    for (lane, topic) in [(HIGH, "h"), (NORMAL, "n"), (LOW, "l"), (4, "x")] {
        put(&mut queues, lane, topic, "", 1);
    }
    let mut dropped = Vec::new();
    while queues.drop_oldest(1, |queue, sequences| dropped.push((queue, sequences.first))) > 0 {}
    assert_eq!(dropped, [(Some(QueueId(2)), 0), (None, 1), (Some(QueueId(1)), 0)]);
    assert_eq!(queues.len(), 1);
}
