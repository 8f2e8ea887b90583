//! Arbitrary packets for property tests: valid ones, and damage to them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::reasons::{
    AUTH_REASONS, CONNECT_REASONS, CONNECT_RETURNS, DISCONNECT_REASONS, PUBLISH_REASONS, RELEASE_REASONS,
    SUBSCRIBE_REASONS, UNSUBSCRIBE_REASONS,
};
use crate::mqtt::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Publish, PublishProperties, RetainHandling, SubAck, Subscribe,
    SubscribeFilters, SubscriptionOptions, Unsubscribe, UnsubscribeFilters, Will, kind,
};
use crate::mqtt::properties::{Forwardable, ForwardableBuilder, UserProperties, id};
use crate::mqtt::{Packet, PacketId, QoS, ReasonCode, Version, wire};

/// Values that packets are made of; one draw of them makes one packet of each type.
#[derive(Debug, Clone)]
pub(super) struct Values {
    topic: String,
    texts: Vec<Option<String>>,
    blobs: Vec<Option<Vec<u8>>>,
    numbers: Vec<Option<u32>>,
    switches: Vec<bool>,
    qos: QoS,
    packet_id: PacketId,
    /// Taken modulo the reasons that a packet may have.
    reason: usize,
    forwardable: ForwardableBuilder,
    user_properties: Vec<u8>,
    filters: Vec<(String, SubscriptionOptions)>,
    payload: Vec<u8>,
    /// The parts of the packets that are borrowed in wire form, for 3.1.1 and 5.0.
    wire: [WireParts; 2],
}

#[derive(Debug, Clone, Default)]
struct WireParts {
    subscribe: Vec<u8>,
    unsubscribe: Vec<u8>,
    suback: Vec<u8>,
    unsuback: Vec<u8>,
}

/// Values of valid packets.
pub(super) fn values() -> impl Strategy<Value = Values> {
    let forwardable = (any::<bool>(), vec(of(text()), 2), of(topic()), of(blob()), vec((text(), text()), 0..3))
        .prop_map(|(utf8, texts, response_topic, correlation, pairs)| {
            let mut builder = ForwardableBuilder::default();
            // In different orders, since their order is kept.
            if let Some(data) = correlation {
                builder = builder.correlation_data(&data);
            }
            builder = with_pairs(builder, &pairs);
            if utf8 {
                builder = builder.utf8();
            }
            if let Some(topic) = response_topic {
                builder = builder.response_topic(&topic);
            }
            if let Some(text) = &texts[0] {
                builder = builder.content_type(text);
            }
            match &texts[1] {
                Some(text) => builder.user_property("last", text),
                None => builder,
            }
        });
    let user_properties = vec((text(), text()), 0..3).prop_map(|pairs| {
        let mut area = Vec::new();
        with_pairs(ForwardableBuilder::default(), &pairs).as_forwardable().write(&mut area);
        area
    });
    (
        (topic(), vec(of(text()), 6), vec(of(blob()), 3), vec(of(any::<u32>()), 6), vec(any::<bool>(), 8)),
        (0u8..3, 1u16.., any::<usize>()),
        (forwardable, user_properties, vec((text(), options()), 1..4), blob()),
    )
        .prop_map(|(plain, (qos, packet_id, reason), (forwardable, user_properties, filters, payload))| {
            let (topic, texts, blobs, numbers, switches) = plain;
            let mut values = Values {
                topic,
                texts,
                blobs,
                numbers,
                switches,
                qos: QoS::from_wire(qos).unwrap(),
                packet_id: PacketId::new(packet_id).unwrap(),
                reason,
                forwardable,
                user_properties,
                filters,
                payload,
                wire: Default::default(),
            };
            values.wire = [values.wire_parts(Version::V3), values.wire_parts(Version::V5)];
            values
        })
}

fn with_pairs(builder: ForwardableBuilder, pairs: &[(String, String)]) -> ForwardableBuilder {
    pairs.iter().fold(builder, |builder, (name, value)| builder.user_property(name, value))
}

fn of<S: Strategy>(value: S) -> impl Strategy<Value = Option<S::Value>> {
    proptest::option::of(value)
}

/// Any string without U+0000; some are longer than 127 bytes, so that lengths take two bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[^\\x00]{0,8}", 1 => "[a-zé€😀]{100,200}"]
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[^\\x00+#]{1,8}", 1 => "[a-z/]{100,300}"]
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..12), 1 => vec(any::<u8>(), 100..300)]
}

fn options() -> impl Strategy<Value = SubscriptionOptions> {
    (0u8..3, any::<bool>(), any::<bool>(), 0u8..3).prop_map(|(qos, no_local, retain_as_published, retain_handling)| {
        SubscriptionOptions {
            qos: QoS::from_wire(qos).unwrap(),
            no_local,
            retain_as_published,
            retain_handling: [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]
                [usize::from(retain_handling)],
        }
    })
}

impl Values {
    /// One packet of each type, with what `version` can carry.
    pub(super) fn packets(&self, version: Version) -> Vec<Packet<'_>> {
        let mut packets = vec![
            Packet::Connect(self.connect(version)),
            Packet::ConnAck(self.connack(version)),
            Packet::Publish(self.publish(version)),
            Packet::PubAck(self.ack(version, PUBLISH_REASONS)),
            Packet::PubRec(self.ack(version, PUBLISH_REASONS)),
            Packet::PubRel(self.ack(version, RELEASE_REASONS)),
            Packet::PubComp(self.ack(version, RELEASE_REASONS)),
            Packet::Subscribe(self.subscribe(version)),
            Packet::SubAck(self.suback(version, &self.parts(version).suback)),
            Packet::Unsubscribe(self.unsubscribe(version)),
            Packet::UnsubAck(self.suback(version, &self.parts(version).unsuback)),
            Packet::PingReq,
            Packet::PingResp,
            Packet::Disconnect(self.disconnect(version)),
        ];
        if version == Version::V5 {
            packets.push(Packet::Auth(self.auth()));
        }
        packets
    }

    fn connect(&self, version: Version) -> Connect<'_> {
        let mut connect = Connect::new(version, self.text(0).unwrap_or_default());
        // Without a session that stays, a client of 3.1.1 may leave the choice of a name to the server.
        connect.clean_start = self.switches[0] || (version == Version::V3 && connect.client_id.is_empty());
        connect.keep_alive = self.number(0).unwrap_or_default() as u16;
        connect.will = self.switches[1].then(|| self.will(version));
        connect.username = self.text(1);
        connect.password = self.blob(0).filter(|_| version == Version::V5 || connect.username.is_some());
        if version == Version::V3 {
            connect.session_expiry_interval = if connect.clean_start { 0 } else { u32::MAX };
            return connect;
        }
        connect.session_expiry_interval = self.number(1).unwrap_or_default();
        connect.receive_maximum = self.above_zero(2).map_or(u16::MAX, |number| number as u16).max(1);
        connect.maximum_packet_size = self.above_zero(3);
        connect.topic_alias_maximum = self.number(4).unwrap_or_default() as u16;
        connect.request_response_information = self.switches[2];
        connect.request_problem_information = self.switches[3];
        connect.authentication_method = self.text(2);
        connect.authentication_data = self.blob(1).filter(|_| connect.authentication_method.is_some());
        connect.user_properties = self.user_properties(version);
        connect
    }

    fn will(&self, version: Version) -> Will<'_> {
        let with_properties = version == Version::V5;
        Will {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos,
            retain: self.switches[4],
            delay_interval: self.number(5).filter(|_| with_properties).unwrap_or_default(),
            message_expiry_interval: self.number(0).filter(|_| with_properties),
            forwardable: self.forwardable(version),
        }
    }

    fn connack(&self, version: Version) -> ConnAck<'_> {
        let reason = match version {
            Version::V3 => self.among(CONNECT_RETURNS),
            Version::V5 => self.among(CONNECT_REASONS),
        };
        let mut connack = ConnAck::new(reason, self.switches[0] && reason == ReasonCode::Success);
        if version == Version::V3 {
            return connack;
        }
        connack.session_expiry_interval = self.number(0);
        connack.receive_maximum = self.above_zero(1).map_or(u16::MAX, |number| number as u16).max(1);
        connack.maximum_qos = self.qos;
        connack.retain_available = self.switches[1];
        connack.maximum_packet_size = self.above_zero(2);
        connack.assigned_client_identifier = self.text(0);
        connack.topic_alias_maximum = self.number(3).unwrap_or_default() as u16;
        connack.reason_string = self.text(1);
        connack.wildcard_subscription_available = self.switches[2];
        connack.subscription_identifiers_available = self.switches[3];
        connack.shared_subscription_available = self.switches[4];
        connack.server_keep_alive = self.number(4).map(|number| number as u16);
        connack.response_information = self.text(2);
        connack.server_reference = self.text(3);
        connack.authentication_method = self.text(4);
        connack.authentication_data = self.blob(0).filter(|_| connack.authentication_method.is_some());
        connack.user_properties = self.user_properties(version);
        connack
    }

    fn publish(&self, version: Version) -> Publish<'_> {
        let alias = self.above_zero(0).map(|number| (number as u16).max(1)).filter(|_| version == Version::V5);
        Publish {
            dup: self.switches[0] && self.qos != QoS::AtMostOnce,
            qos: self.qos,
            retain: self.switches[1],
            topic: if alias.is_some() && self.switches[2] { "" } else { &self.topic },
            packet_id: (self.qos != QoS::AtMostOnce).then_some(self.packet_id),
            properties: PublishProperties::new(
                self.number(1).filter(|_| version == Version::V5),
                alias,
                self.forwardable(version),
            ),
            payload: &self.payload,
        }
    }

    fn ack(&self, version: Version, reasons: &[ReasonCode]) -> Ack<'_> {
        let mut ack = Ack::new(self.packet_id, ReasonCode::Success);
        if version == Version::V5 {
            ack.reason = self.among(reasons);
            ack.reason_string = self.text(0);
            ack.user_properties = self.user_properties(version);
        }
        ack
    }

    fn subscribe(&self, version: Version) -> Subscribe<'_> {
        Subscribe {
            packet_id: self.packet_id,
            subscription_identifier: self
                .above_zero(0)
                .map(|number| (number & wire::MAX_VARIABLE_BYTE_INTEGER).max(1))
                .filter(|_| version == Version::V5),
            user_properties: self.user_properties(version),
            filters: SubscribeFilters::new(&self.parts(version).subscribe),
        }
    }

    fn unsubscribe(&self, version: Version) -> Unsubscribe<'_> {
        Unsubscribe {
            packet_id: self.packet_id,
            user_properties: self.user_properties(version),
            filters: UnsubscribeFilters::new(&self.parts(version).unsubscribe),
        }
    }

    fn suback<'a>(&'a self, version: Version, codes: &'a [u8]) -> SubAck<'a> {
        let mut suback = SubAck::new(self.packet_id, codes);
        suback.reason_string = self.text(0).filter(|_| version == Version::V5);
        suback.user_properties = self.user_properties(version);
        suback
    }

    fn disconnect(&self, version: Version) -> Disconnect<'_> {
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        if version == Version::V5 {
            disconnect.reason = self.among(DISCONNECT_REASONS);
            disconnect.session_expiry_interval = self.number(0);
            disconnect.reason_string = self.text(0);
            disconnect.server_reference = self.text(1);
            disconnect.user_properties = self.user_properties(version);
        }
        disconnect
    }

    fn auth(&self) -> Auth<'_> {
        let bare = self.switches[7];
        Auth {
            reason: if bare { ReasonCode::Success } else { self.among(AUTH_REASONS) },
            authentication_method: (!bare).then_some(&self.topic),
            authentication_data: self.blob(0).filter(|_| !bare),
            reason_string: self.text(0).filter(|_| !bare),
            user_properties: if bare { UserProperties::default() } else { self.user_properties(Version::V5) },
        }
    }

    fn wire_parts(&self, version: Version) -> WireParts {
        let mut parts = WireParts::default();
        for (index, (filter, options)) in self.filters.iter().enumerate() {
            let options = match version {
                Version::V3 => SubscriptionOptions { qos: options.qos, ..SubscriptionOptions::default() },
                Version::V5 => *options,
            };
            SubscribeFilters::put(&mut parts.subscribe, filter, options);
            UnsubscribeFilters::put(&mut parts.unsubscribe, filter);
            let code = |reasons: &[ReasonCode]| reasons[self.reason.wrapping_add(index) % reasons.len()] as u8;
            match version {
                Version::V3 => parts.suback.push(code(&SUBSCRIBE_REASONS[..4])),
                Version::V5 => {
                    parts.suback.push(code(SUBSCRIBE_REASONS));
                    parts.unsuback.push(code(UNSUBSCRIBE_REASONS));
                }
            }
        }
        parts
    }

    fn parts(&self, version: Version) -> &WireParts {
        match version {
            Version::V3 => &self.wire[0],
            Version::V5 => &self.wire[1],
        }
    }

    fn user_properties(&self, version: Version) -> UserProperties<'_> {
        match version {
            Version::V3 => UserProperties::default(),
            Version::V5 => UserProperties::new(&self.user_properties),
        }
    }

    fn forwardable(&self, version: Version) -> Forwardable<'_> {
        match version {
            Version::V3 => Forwardable::default(),
            Version::V5 => self.forwardable.as_forwardable(),
        }
    }

    fn text(&self, index: usize) -> Option<&str> {
        self.texts[index].as_deref()
    }

    fn blob(&self, index: usize) -> Option<&[u8]> {
        self.blobs[index].as_deref()
    }

    fn number(&self, index: usize) -> Option<u32> {
        self.numbers[index]
    }

    fn above_zero(&self, index: usize) -> Option<u32> {
        self.numbers[index].filter(|&number| number != 0)
    }

    fn among(&self, reasons: &[ReasonCode]) -> ReasonCode {
        reasons[self.reason % reasons.len()]
    }
}

/// One change to the body of a packet.
#[derive(Debug, Clone)]
pub(super) enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
}

/// A few changes.
pub(super) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    // Small values are the ones that mean something: identifiers of properties, lengths, flags.
    let byte = || prop_oneof![any::<u8>(), 0u8..48];
    let one = prop_oneof![
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        2 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        2 => any::<Index>().prop_map(Damage::Remove),
        1 => any::<Index>().prop_map(Damage::Truncate),
    ];
    vec(one, 1..4)
}

/// Changes `bytes` as `damage` says.
pub(super) fn apply(damage: &[Damage], bytes: &mut Vec<u8>) {
    for change in damage {
        match change {
            Damage::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
            _ if bytes.is_empty() => {}
            Damage::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Damage::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
            Damage::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Damage::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

/// A property area of any properties, allowed or not, once or twice.
pub(super) fn any_area() -> impl Strategy<Value = Vec<u8>> {
    vec((0u8..48, vec(any::<u8>(), 4), prop_oneof![3 => "[a-c]{0,2}", 1 => "[+#]"]), 0..4).prop_map(|properties| {
        let mut area = Vec::new();
        for (property, number, text) in properties {
            let length = area.len();
            area.push(property);
            match property {
                id::SUBSCRIPTION_IDENTIFIER => area.push(number[0] & 0x7F),
                id::USER_PROPERTY => {
                    wire::put_string(&mut area, &text);
                    wire::put_string(&mut area, &text);
                }
                _ => match wire::property_value_length(property, &[0; 8]) {
                    // One byte is a switch, and usually has an allowed value.
                    Some(1) => area.push(number[0] % 3),
                    Some(2) if is_text(property) => wire::put_string(&mut area, &text),
                    Some(bytes) => area.extend(number[..bytes].iter().map(|byte| byte % 3)),
                    None => area.truncate(length),
                },
            }
        }
        area
    })
}

fn is_text(property: u8) -> bool {
    !matches!(property, id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS)
}

/// A packet of 5.0 of type `kind` that is valid but for its properties; for a CONNECT these are its own or its will's.
pub(super) fn with_area(kind: u8, area: &[u8], of_will: bool) -> (u8, Vec<u8>) {
    let mut sized = Vec::new();
    wire::put_sized(&mut sized, |into| into.extend_from_slice(area));
    let (flags, before, after): (u8, &[u8], &[u8]) = match kind {
        kind::CONNECT if of_will => (0, b"\0\x04MQTT\x05\x06\0\x3C\0\0\x01c", b"\0\x01t\0\x01p"),
        kind::CONNECT => (0, b"\0\x04MQTT\x05\x02\0\x3C", b"\0\x01c"),
        kind::CONNACK => (0, b"\0\0", b""),
        kind::PUBLISH => (0, b"\0\x01t", b"payload"),
        kind::PUBREL => (2, b"\0\x01\0", b""),
        kind::PUBACK | kind::PUBREC | kind::PUBCOMP => (0, b"\0\x01\0", b""),
        kind::SUBSCRIBE => (2, b"\0\x01", b"\0\x01t\0"),
        kind::UNSUBSCRIBE => (2, b"\0\x01", b"\0\x01t"),
        kind::SUBACK | kind::UNSUBACK => (0, b"\0\x01", b"\0"),
        kind::DISCONNECT | kind::AUTH => (0, b"\0", b""),
        _ => return (kind << 4, Vec::new()),
    };
    (kind << 4 | flags, [before, &sized, after].concat())
}
