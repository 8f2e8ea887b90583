//! What is encoded is decoded again, and no bytes whatever make the decoder panic.
//!
//! That nothing is allocated for bytes from outside needs no test of its own: `split_frame` and `Packet::decode`
//! give types that borrow from the read buffer and own nothing, and the read buffer grows no further than the
//! whole packet that `split_frame` has allowed.

use proptest::prelude::*;

use super::any_packet::{Damage, Values, any_area, apply, damage, values, with_area};
use crate::mqtt::codec::{Frame, Framing, Version, split_frame};
use crate::mqtt::packet::{Packet, Publish, PublishHeader, PublishProperties, kind};
use crate::mqtt::properties::ForwardableBuilder;
use crate::mqtt::{PacketId, QoS, ReasonCode, wire};

const NO_LIMIT: usize = usize::MAX;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded_again(values in values()) {
        for version in [Version::V3, Version::V5] {
            for packet in values.packets(version) {
                let mut bytes = vec![0xEE];
                packet.encode(version, &mut bytes);
                let frame = whole(&bytes[1..]);
                prop_assert_eq!(&Packet::decode(frame, version).unwrap(), &packet);
            }
        }
    }

    #[test]
    fn a_packet_that_was_decoded_is_encoded_to_the_same_packet(
        values in values(), damage in damage(), area in any_area(), of_will: bool,
    ) {
        for (first, body) in candidates(&values, &damage, &area, of_will) {
            for version in [Version::V3, Version::V5] {
                let Ok(packet) = Packet::decode(Frame { first, body: &body }, version) else { continue };
                let mut bytes = Vec::new();
                packet.encode(version, &mut bytes);
                let again = Packet::decode(whole(&bytes), version).unwrap();
                match (&packet, &again) {
                    // The identifiers of a PUBLISH are not passed on: each receiver gets its own.
                    (Packet::Publish(one), Packet::Publish(other)) => {
                        prop_assert_eq!(one.topic, other.topic);
                        prop_assert_eq!(one.payload, other.payload);
                        prop_assert_eq!(one.properties.forwardable, other.properties.forwardable);
                    }
                    _ => prop_assert_eq!(&packet, &again),
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), limit in 0usize..64) {
        for version in [Version::V3, Version::V5] {
            for first in bytes.first().into_iter().copied().chain((0..=15).map(|kind| kind << 4)) {
                read_everything(first, &bytes, version);
            }
        }
        if let Ok(Framing::Complete(frame, used)) = split_frame(&bytes, limit) {
            prop_assert!(used <= limit && used <= bytes.len() && frame.body.len() < used);
        }
    }

    #[test]
    fn a_cut_packet_asks_for_the_rest(values in values(), at: prop::sample::Index) {
        for packet in values.packets(Version::V5) {
            let mut bytes = Vec::new();
            packet.encode(Version::V5, &mut bytes);
            let cut = &bytes[..at.index(bytes.len())];
            match split_frame(cut, bytes.len()).unwrap() {
                Framing::Incomplete { needed } => prop_assert!(needed.is_none_or(|needed| needed == bytes.len())),
                Framing::Complete(..) => prop_assert!(false, "a cut packet is complete"),
            }
            prop_assert_eq!(
                split_frame(&bytes, bytes.len() - 1).unwrap_err().reason,
                ReasonCode::PacketTooLarge
            );
        }
    }

    #[test]
    fn a_variable_byte_integer_is_read_as_it_was_written(value in 0..=wire::MAX_VARIABLE_BYTE_INTEGER) {
        let mut bytes = Vec::new();
        wire::put_variable(&mut bytes, value as usize);
        prop_assert_eq!(bytes.len(), wire::variable_length(value as usize));
        prop_assert_eq!(wire::split_variable(&bytes), wire::Variable::Value(value, bytes.len()));
    }
}

#[test]
fn lengths_are_right_at_each_size_of_the_length_field() {
    for length in [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        let text = "x".repeat(length);
        let mut bytes = vec![7];
        wire::put_sized(&mut bytes, |into| into.extend_from_slice(text.as_bytes()));
        let wire::Variable::Value(value, used) = wire::split_variable(&bytes[1..]) else { panic!("{length}") };
        assert_eq!((value as usize, &bytes[1 + used..]), (length, text.as_bytes()), "{length}");

        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "t",
            packet_id: None,
            properties: PublishProperties::default(),
            payload: text.as_bytes(),
        };
        let mut bytes = Vec::new();
        Packet::Publish(publish).encode(Version::V5, &mut bytes);
        assert_eq!(Packet::decode(whole(&bytes), Version::V5), Ok(Packet::Publish(publish)), "{length}");
    }
}

#[test]
fn what_is_written_for_one_receiver_arrives_in_its_order_behind_the_properties_of_the_message() {
    let header = PublishHeader {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        packet_id: PacketId::new(1),
        topic: "t",
        topic_alias: None,
        message_expiry_interval: Some(3),
        subscription_identifiers: &[1, 128, 268_435_455, 1],
        user_properties: &[("via", "a"), ("via", "b"), ("time", "2026-11-22T12:40:08.017Z")],
    };
    let own = ForwardableBuilder::default().user_property("time", "own").content_type("text/plain");
    let own = own.as_forwardable();
    let mut bytes = Vec::new();
    header.encode(Version::V5, own, b"payload", &mut bytes);
    assert_eq!(bytes.len(), header.packet_length(Version::V5, own, b"payload"));
    let Ok(Packet::Publish(publish)) = Packet::decode(whole(&bytes), Version::V5) else { panic!("{bytes:?}") };
    let identifiers: Vec<u32> = publish.properties.subscription_identifiers().collect();
    assert_eq!(identifiers, [1, 128, 268_435_455, 1]);
    let pairs: Vec<_> = publish.properties.forwardable.user_properties().collect();
    assert_eq!(pairs, [("time", "own"), ("via", "a"), ("via", "b"), ("time", "2026-11-22T12:40:08.017Z")]);
    assert_eq!(publish.properties.forwardable.content_type(), Some("text/plain"));

    // In 3.1.1 there is no place for them.
    bytes.clear();
    header.encode(Version::V3, own, b"payload", &mut bytes);
    assert_eq!(bytes.len(), header.packet_length(Version::V3, own, b"payload"));
    let Ok(Packet::Publish(publish)) = Packet::decode(whole(&bytes), Version::V3) else { panic!("{bytes:?}") };
    assert_eq!((publish.payload, publish.properties), (&b"payload"[..], PublishProperties::default()));
}

#[test]
fn a_string_that_is_too_long_is_cut_at_the_end_of_a_character() {
    let mut bytes = Vec::new();
    wire::put_string(&mut bytes, &"€".repeat(30_000));
    let mut reader = wire::Reader::new(&bytes);
    assert_eq!(reader.string().map(str::len), Ok(65_535));
    wire::put_string(&mut bytes, &format!("x{}", "€".repeat(30_000)));
    let mut reader = wire::Reader::new(&bytes[65_537..]);
    assert_eq!(reader.string().map(str::len), Ok(65_533));
}

/// Damaged packets of both versions, and packets of 5.0 with any properties.
pub(super) fn candidates(values: &Values, changes: &[Damage], area: &[u8], of_will: bool) -> Vec<(u8, Vec<u8>)> {
    let mut candidates = Vec::new();
    for version in [Version::V3, Version::V5] {
        for packet in values.packets(version) {
            let mut bytes = Vec::new();
            packet.encode(version, &mut bytes);
            let frame = whole(&bytes);
            let mut body = frame.body.to_vec();
            apply(changes, &mut body);
            candidates.push((frame.first, body));
        }
    }
    candidates.extend((kind::CONNECT..=kind::AUTH).map(|kind| with_area(kind, area, of_will)));
    candidates
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    match split_frame(bytes, NO_LIMIT) {
        Ok(Framing::Complete(frame, used)) if used == bytes.len() => frame,
        other => panic!("{other:?}"),
    }
}

/// Decodes and, where that works, reads whatever is read lazily.
fn read_everything(first: u8, body: &[u8], version: Version) {
    if let Ok(packet) = Packet::decode(Frame { first, body }, version) {
        drop(format!("{packet:?}"));
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        match packet {
            Packet::Publish(publish) => {
                publish.properties.subscription_identifiers().for_each(drop);
                publish.properties.forwardable.user_properties().for_each(drop);
            }
            Packet::Subscribe(subscribe) => assert!(subscribe.filters.iter().count() > 0),
            Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters.iter().count() > 0),
            Packet::SubAck(suback) => assert!(suback.reasons().count() > 0),
            _ => {}
        }
    }
}
