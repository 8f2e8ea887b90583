//! Records go through their bytes and back; bytes that are no records are refused.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::clock::Moment;
use crate::mqtt::packet::RetainHandling;
use crate::mqtt::properties::ForwardableBuilder;
use crate::mqtt::{MessageBuilder, Publication, Reading, Sampled, TopicName};

/// A delivery with memory of its own.
#[derive(Debug, Clone)]
struct OwnedDelivery {
    delivered: Delivered,
    qos: QoS,
    retain: bool,
    identifiers: Vec<u32>,
    share: Option<String>,
    route: Option<String>,
    publisher: Option<String>,
    since: Option<u64>,
}

impl OwnedDelivery {
    fn how(&self) -> How<'_> {
        How {
            qos: self.qos,
            retain: self.retain,
            identifiers: Identifiers::Decoded(&self.identifiers),
            share: self.share.as_deref(),
            route: self.route.as_deref(),
            publisher: self.publisher.as_deref(),
            since: self.since.map(Millis),
        }
    }
}

fn any_qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

/// Numbers of every length that a varint has.
fn any_number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift)
}

fn any_queue() -> impl Strategy<Value = QueueId> {
    any_number().prop_map(QueueId)
}

fn any_packet_id() -> impl Strategy<Value = PacketId> {
    (1u16..).prop_map(|id| PacketId::new(id).unwrap())
}

fn any_delivered() -> impl Strategy<Value = Delivered> {
    (any_queue(), any_number()).prop_map(|(queue, sequence)| Delivered { queue, sequence })
}

fn any_delivery() -> impl Strategy<Value = OwnedDelivery> {
    let text = || option::of("[a-zé/+#]{1,9}");
    let since = option::of(any_number());
    (any_delivered(), any_qos(), any::<bool>(), vec(any::<u32>(), 0..4), text(), text(), text(), since).prop_map(
        |(delivered, qos, retain, identifiers, share, route, publisher, since)| OwnedDelivery {
            delivered,
            qos,
            retain,
            identifiers,
            share,
            route,
            publisher,
            since,
        },
    )
}

fn any_reading() -> impl Strategy<Value = Arc<Reading>> {
    let quality = prop_oneof![Just(Quality::Good), Just(Quality::Uncertain), Just(Quality::Bad)];
    let uncertain_at = option::of(any::<u64>().prop_map(Millis));
    let form = select(vec![Form::Value, Form::Text, Form::Json, Form::Object, Form::Template]);
    (any::<i64>(), uncertain_at, option::of("[°A-Z]{0,3}"), quality, "[a-z]{0,9}", option::of("[a-z]{0,9}"), form)
        .prop_map(|(time_ms, uncertain_at, unit, quality, device, point, form)| {
            let (unit, point) = (unit.map(Into::into), point.map(Into::into));
            let sampled = Sampled { time_ms, uncertain_at };
            Arc::new(Reading { sampled, unit, quality, device: device.into(), point, form })
        })
}

fn any_properties() -> impl Strategy<Value = ForwardableBuilder> {
    vec(("[a-z]{0,5}", "[a-z]{0,5}"), 0..3).prop_map(|pairs| {
        pairs.iter().fold(ForwardableBuilder::default(), |properties, (name, value)| {
            properties.user_property(name, value).content_type(value)
        })
    })
}

prop_compose! {
    fn any_message()(
        topic in "[a-zé0-9/]{1,40}",
        payload in vec(any::<u8>(), 0..300),
        properties in any_properties(),
        qos in any_qos(),
        retain in any::<bool>(),
        expires_at in option::of(any_number()),
        reading in option::of(any_reading()),
    ) -> Message {
        let topic = TopicName::new(&topic).unwrap();
        let builder = MessageBuilder::new(&topic, &payload).properties(properties).qos(qos).retain(retain);
        let builder = builder.expires_at(expires_at.map(Millis));
        reading.map_or(builder.clone(), |reading| builder.reading(reading)).build()
    }
}

fn any_session() -> impl Strategy<Value = SessionState> {
    let will = (any_message(), any::<u32>(), option::of(any::<u32>()))
        .prop_map(|(message, delay_interval, expiry_interval)| StoredWill { message, delay_interval, expiry_interval });
    let kind = prop_oneof![Just(SessionKind::Client), Just(SessionKind::Bridge)];
    (kind, "[a-z]{0,9}", option::of("[a-z]{0,9}"), any::<u32>(), any::<u16>(), option::of(will)).prop_map(
        |(kind, client_id, owner, expiry_interval, window, will)| SessionState {
            kind,
            client_id: client_id.into(),
            owner: owner.map(Into::into),
            expiry_interval,
            window,
            will,
        },
    )
}

fn any_options() -> impl Strategy<Value = SubscriptionOptions> {
    let handling =
        prop_oneof![Just(RetainHandling::Send), Just(RetainHandling::SendIfNew), Just(RetainHandling::DoNotSend)];
    (any_qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

/// Sequences that rise, with gaps.
fn any_alive() -> impl Strategy<Value = Vec<Sequences>> {
    vec((0u64..1 << 40, 0u64..1 << 40), 0..9).prop_map(|distances| {
        let mut at = 0;
        let rising = distances.into_iter().map(|(gap, length)| {
            let first = at + gap;
            at = first + length;
            Sequences { first, last: at }
        });
        rising.collect()
    })
}

prop_compose! {
    fn any_queue_record()(
        (queue, next_sequence, next_receipt) in (any_queue(), any_number(), any_number()),
        alive in any_alive(),
        (early, received, early_releases) in
            (vec(any_number(), 0..5), vec(any_number(), 0..5), vec(any_number(), 0..5)),
        receipts in vec((any_number(), any_packet_id()), 0..5),
        displaced in vec((any_number(), any_packet_id()), 0..5),
        away_since in option::of(1u64..),
    ) -> Record<'static> {
        let away_since = away_since.map(Millis);
        Record::Queue {
            queue, next_sequence, next_receipt, alive, early, received, receipts, early_releases, displaced, away_since,
        }
    }
}

/// Every record but those with messages, which borrow.
fn any_record() -> impl Strategy<Value = Record<'static>> {
    const FILTERS: [&str; 4] = ["a", "$share/group/plant/+/#", "+", "zählerstände/#"];
    let filter = || select(&FILTERS[..]);
    prop_oneof![
        any_delivered().prop_map(|delivered| Record::Received { delivered }),
        (any_queue(), any_number(), any_number()).prop_map(|(queue, one, other)| Record::Settle {
            queue,
            sequences: Sequences { first: one.min(other), last: one.max(other) }
        }),
        (any_queue(), any_number()).prop_map(|(queue, number)| Record::Release { queue, number }),
        (any_delivered(), any_packet_id())
            .prop_map(|(delivered, packet_id)| Record::Displaced { delivered, packet_id }),
        (any_queue(), any_session()).prop_map(|(queue, state)| Record::Session { queue, state }),
        (any_queue(), any_number()).prop_map(|(queue, at)| Record::Away { queue, at: Millis(at) }),
        any_queue().prop_map(|queue| Record::SessionEnd { queue }),
        (any_queue(), filter(), any_options(), option::of(1u32..)).prop_map(|(queue, filter, options, identifier)| {
            Record::Subscribe { queue, filter, options, identifier }
        }),
        (any_queue(), filter()).prop_map(|(queue, filter)| Record::Unsubscribe { queue, filter }),
        (any_queue(), filter(), filter(), any::<bool>()).prop_map(|(queue, key, value, is_removed)| Record::Note {
            queue,
            key,
            value: if is_removed { "" } else { value },
        }),
        (any_number(), any_number(), any::<i64>(), any::<bool>()).prop_map(
            |(now, unbroken_since, wall_ms, is_synchronised)| {
                let (now, unbroken_since) = (Millis(now), Millis(unbroken_since));
                Record::Time(Moment { now, unbroken_since, wall_ms, is_synchronised })
            },
        ),
        any_number().prop_map(|next_queue| Record::CheckpointBegin { next_queue }),
        any_queue_record(),
        Just(Record::CheckpointEnd),
    ]
}

/// Kind and body of the one record in `bytes`.
fn body(bytes: &[u8]) -> &[u8] {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
    assert_eq!(u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize, body.len());
    body
}

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.put(&mut bytes);
    bytes
}

/// Uses all that was decoded, and writes it again.
fn exercise(record: &Record<'_>, bytes: usize) {
    if let Record::Publish { message, deliveries, .. } | Record::Moved { message, deliveries } = record {
        let kept = message.to_message();
        assert_eq!(
            (kept.topic(), kept.payload(), kept.properties()),
            (message.topic, message.payload, message.properties)
        );
        assert!(deliveries.len() <= bytes);
        assert_eq!(deliveries.iter().count(), deliveries.len());
        assert!(deliveries.iter().map(|(_, how)| how.identifiers.iter().count()).sum::<usize>() <= bytes);
    }
    if let Record::Queue { alive, early, received, receipts, early_releases, displaced, .. } = record {
        let counts = [alive.len(), early.len(), received.len(), receipts.len(), early_releases.len(), displaced.len()];
        assert!(counts.iter().sum::<usize>() <= bytes);
    }
    assert_eq!(Record::decode(body(&encoded(record))).as_ref(), Ok(record));
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(record in any_record()) {
        let bytes = encoded(&record);
        let body = body(&bytes);
        for cut in 0..body.len() {
            prop_assert!(Record::decode(&body[..cut]).is_err(), "cut to {} bytes", cut);
        }
        prop_assert_eq!(Record::decode(body), Ok(record));
    }

    #[test]
    fn messages_come_back_with_all_their_deliveries(
        message in any_message(),
        deliveries in vec(any_delivery(), 0..5),
        receipt in option::of((any_queue(), any_packet_id(), any_number())),
    ) {
        let receipt = receipt.map(|(queue, packet_id, number)| Receipt { queue, packet_id, number });
        let mut encoded = Vec::new();
        deliveries.iter().for_each(|delivery| put_delivery(&mut encoded, delivery.delivered, &delivery.how()));
        let mut bytes = Vec::new();
        put_publish(&mut bytes, &Publication::from_message(&message), receipt, deliveries.len(), &encoded);
        let record = Record::decode(body(&bytes)).unwrap();
        let Record::Publish { message: view, receipt: told, deliveries: listed } = record else {
            panic!("{record:?}");
        };
        prop_assert_eq!(view.to_message(), message.clone());
        prop_assert_eq!(told, receipt);
        let expected: Vec<_> = deliveries.iter().map(|delivery| (delivery.delivered, delivery.how())).collect();
        prop_assert_eq!(listed.iter().collect::<Vec<_>>(), expected.clone());

        let mut moved = Vec::new();
        put_moved(&mut moved, &view, deliveries.len(), &encoded);
        let record = Record::decode(body(&moved)).unwrap();
        let Record::Moved { message: view, deliveries: listed } = record else {
            panic!("{record:?}");
        };
        prop_assert_eq!(view.to_message(), message);
        prop_assert_eq!(listed.iter().collect::<Vec<_>>(), expected);

        let split = split_deliveries(deliveries.len(), &encoded);
        prop_assert_eq!(split.iter().map(|(delivered, _)| *delivered).collect::<Vec<_>>(),
            deliveries.iter().map(|delivery| delivery.delivered).collect::<Vec<_>>());
        prop_assert_eq!(split.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(), encoded);
    }

    #[test]
    fn arbitrary_bytes_are_a_record_or_refused(kind in 0u8..20, body in vec(prop_oneof![0u8..4, any::<u8>()], 0..200)) {
        let mut bytes = vec![kind];
        bytes.extend(body);
        if let Ok(record) = Record::decode(&bytes) {
            exercise(&record, bytes.len());
        }
    }

    #[test]
    fn records_with_a_changed_byte_are_a_record_or_refused(
        record in any_record(),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let bytes = encoded(&record);
        let mut bytes = body(&bytes).to_vec();
        let place = place.index(bytes.len());
        bytes[place] = value;
        if let Ok(record) = Record::decode(&bytes) {
            exercise(&record, bytes.len());
        }
    }
}

#[test]
fn counts_beyond_what_follows_allocate_nothing() {
    const HUGE: [u8; 10] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    // The lists of a queue, each after empty ones.
    for empty in 0..6 {
        let mut bytes = vec![kind::QUEUE, 1, 0, 0, 0];
        bytes.extend(std::iter::repeat_n(0, empty));
        bytes.extend(HUGE);
        bytes.extend([1; 20]);
        assert_eq!(Record::decode(&bytes), Err(RecordError::Malformed(kind::QUEUE)));
    }
    // Deliveries; then the identifiers of one.
    let message = [0, 1, b'a', 0];
    for deliveries in [&[][..], &[1, 1, 1, 1 | flag::DETAILS]] {
        let bytes = [&[kind::MOVED][..], &message, deliveries, &HUGE, &[1; 20]].concat();
        assert_eq!(Record::decode(&bytes), Err(RecordError::Malformed(kind::MOVED)));
    }
}

#[test]
fn what_is_no_record_is_refused_by_name() {
    assert_eq!(Record::decode(&[]), Err(RecordError::Malformed(0)));
    assert_eq!(Record::decode(&[99, 1]).unwrap_err().to_string(), "a record of the unknown kind 99");
    let more = [kind::CHECKPOINT_END, 0];
    assert_eq!(Record::decode(&more).unwrap_err().to_string(), "a record of kind 15 that cannot be read");
    // A topic that no packet can have.
    let long = "t".repeat(65_536);
    let topic = [&[kind::MOVED, 0, 0x80, 0x80, 0x04][..], long.as_bytes(), &[0, 0]].concat();
    assert_eq!(Record::decode(&topic), Err(RecordError::Malformed(kind::MOVED)));
}
