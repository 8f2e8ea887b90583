//! Packets that a client might send, mostly: of any kind, in any order, of either version, with bytes that were changed.

use edgeway::mqtt::packet::{
    Ack, Auth, Connect, Disconnect, Publish, PublishProperties, Subscribe, SubscribeFilters, SubscriptionOptions,
    Unsubscribe, UnsubscribeFilters, Will,
};
use edgeway::mqtt::properties::{Forwardable, UserProperties};
use edgeway::mqtt::{Packet, PacketId, QoS, ReasonCode, Version};
use proptest::collection::vec;
use proptest::prelude::*;

/// Few topics, filters, identifiers and names, so that what is sent meets.
const TOPICS: [&str; 7] = ["a", "a/b", "a/b/c", "/", "$SYS/x", "", "a/#"];
const FILTERS: [&str; 10] = ["a", "#", "+", "a/#", "+/b", "$share/g/a", "$share/g/#", "$SYS/#", "$share//a", ""];
pub const CLIENTS: [&str; 4] = ["one", "two", "three", ""];

/// What is done to one connection, in order; then it is cut.
pub type Course = Vec<Vec<u8>>;

/// Connections that are open at the same time.
pub fn courses() -> impl Strategy<Value = Vec<Course>> {
    vec(course(), 1..5)
}

fn course() -> impl Strategy<Value = Course> {
    (any::<bool>(), prop_oneof![9 => Just(true), 1 => Just(false)]).prop_flat_map(|(old, connects)| {
        let version = if old { Version::V3 } else { Version::V5 };
        let hello = connect(version).prop_map(move |hello| if connects { hello } else { Vec::new() });
        (hello, vec(said(version), 0..24)).prop_map(|(hello, mut said)| {
            said.insert(0, hello);
            said
        })
    })
}

/// A packet as it should be, or with some bytes changed, or cut, or no packet at all.
fn said(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let damaged =
        (packet(version), vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)).prop_map(|(mut bytes, changes)| {
            for (index, value) in changes {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            bytes
        });
    let cut = (packet(version), any::<prop::sample::Index>()).prop_map(|(mut bytes, index)| {
        bytes.truncate(index.index(bytes.len()));
        bytes
    });
    let other = if version == Version::V3 { Version::V5 } else { Version::V3 };
    prop_oneof![
        24 => packet(version),
        2 => damaged,
        1 => cut,
        1 => packet(other),
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn packet(version: Version) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => publish(version),
        4 => subscribe(version),
        2 => unsubscribe(version),
        8 => acknowledgement(version),
        1 => Just(encoded(version, &Packet::PingReq)),
        1 => connect(version),
        1 => goodbye(version),
    ]
}

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    prop_oneof![9 => 1u16..6, 1 => any::<u16>()].prop_map(|id| PacketId::new(id).unwrap_or(PacketId::MIN))
}

fn connect(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let will = prop::option::of((0..TOPICS.len(), qos(), any::<bool>(), 0u32..2));
    (0..CLIENTS.len(), any::<bool>(), will, 0u32..100, 1u16..5, prop::option::of(1u32..200)).prop_map(
        move |(client, clean_start, will, expiry, receive_maximum, maximum_packet_size)| {
            let mut connect = Connect::new(version, CLIENTS[client]);
            connect.clean_start = clean_start;
            connect.will = will.map(|(topic, qos, retain, delay)| Will {
                topic: TOPICS[topic],
                payload: b"gone",
                qos,
                retain,
                delay_interval: if version == Version::V5 { delay } else { 0 },
                message_expiry_interval: None,
                forwardable: Forwardable::plain(&[]),
            });
            if version == Version::V5 {
                connect.session_expiry_interval = expiry / 50;
                connect.receive_maximum = receive_maximum;
                connect.topic_alias_maximum = receive_maximum;
                connect.maximum_packet_size = maximum_packet_size.filter(|maximum| *maximum > 100);
            }
            encoded(version, &Packet::Connect(connect))
        },
    )
}

fn publish(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![8 => 0usize..10, 1 => 100usize..9000];
    let alias = prop::option::of(0u16..12);
    (0..TOPICS.len(), qos(), any::<bool>(), any::<bool>(), packet_id(), payload, alias, prop::option::of(0u32..2))
        .prop_map(move |(topic, qos, retain, dup, packet_id, payload, alias, expiry)| {
            encoded(
                version,
                &Packet::Publish(Publish {
                    dup: dup && qos != QoS::AtMostOnce,
                    qos,
                    retain,
                    topic: TOPICS[topic],
                    packet_id: Some(packet_id).filter(|_| qos != QoS::AtMostOnce),
                    properties: PublishProperties::new(expiry, alias, Forwardable::plain(&[])),
                    payload: &vec![b'x'; payload],
                }),
            )
        })
}

fn subscribe(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let options = (qos(), any::<bool>(), any::<bool>());
    (vec((0..FILTERS.len(), options), 1..4), packet_id(), prop::option::of(1u32..4)).prop_map(
        move |(filters, packet_id, subscription_identifier)| {
            let mut written = Vec::new();
            for (filter, (qos, no_local, retain_as_published)) in filters {
                let mut options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
                if version == Version::V5 {
                    options = SubscriptionOptions { no_local, retain_as_published, ..options };
                }
                SubscribeFilters::put(&mut written, FILTERS[filter], options);
            }
            encoded(
                version,
                &Packet::Subscribe(Subscribe {
                    packet_id,
                    subscription_identifier,
                    user_properties: UserProperties::default(),
                    filters: SubscribeFilters::new(&written),
                }),
            )
        },
    )
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Vec<u8>> {
    (vec(0..FILTERS.len(), 1..4), packet_id()).prop_map(move |(filters, packet_id)| {
        let mut written = Vec::new();
        for filter in filters {
            UnsubscribeFilters::put(&mut written, FILTERS[filter]);
        }
        encoded(
            version,
            &Packet::Unsubscribe(Unsubscribe {
                packet_id,
                user_properties: UserProperties::default(),
                filters: UnsubscribeFilters::new(&written),
            }),
        )
    })
}

fn acknowledgement(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let kinds: [fn(Ack<'static>) -> Packet<'static>; 4] =
        [Packet::PubAck, Packet::PubRec, Packet::PubRel, Packet::PubComp];
    let reason = prop_oneof![9 => Just(ReasonCode::Success), 1 => Just(ReasonCode::QuotaExceeded)];
    (prop::sample::select(kinds.to_vec()), packet_id(), reason)
        .prop_map(move |(kind, packet_id, reason)| encoded(version, &kind(Ack::new(packet_id, reason))))
}

fn goodbye(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let reason = prop::sample::select(vec![ReasonCode::Success, ReasonCode::DisconnectWithWill]);
    (reason, prop::option::of(0u32..3), 0u8..4).prop_map(move |(reason, session_expiry_interval, kind)| {
        if kind == 0 {
            return encoded(
                version,
                &Packet::Auth(Auth {
                    reason: ReasonCode::ContinueAuthentication,
                    authentication_method: Some("x"),
                    authentication_data: None,
                    reason_string: None,
                    user_properties: UserProperties::default(),
                }),
            );
        }
        let mut disconnect = Disconnect::new(reason);
        disconnect.session_expiry_interval = session_expiry_interval;
        encoded(version, &Packet::Disconnect(disconnect))
    })
}
