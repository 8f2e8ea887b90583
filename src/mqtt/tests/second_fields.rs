//! The fields of a packet by name, as we and as `mqtt-protocol-core` decode them.

use std::fmt::Debug;
use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{Properties, Property, SubEntry, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, MqttError};

use crate::mqtt::codec::Version;
use crate::mqtt::packet::{Ack, Packet, SubAck, kind};
use crate::mqtt::properties::{Forwardable, UserProperties, id};
use crate::mqtt::{QoS, ReasonCode};

/// The fields of a packet by name; of those with one name, in their order. Defaults are left out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn add(&mut self, name: &'static str, value: impl Debug) {
        self.0.push((name, format!("{value:?}")));
    }

    fn add_some<T: Debug>(&mut self, name: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn add_unless<T: Debug + PartialEq + Copy>(&mut self, name: &'static str, default: T, value: T) {
        if value != default {
            self.add(name, value);
        }
    }

    fn add_user_properties(&mut self, properties: UserProperties<'_>) {
        for pair in properties.iter() {
            self.add("user property", pair);
        }
    }

    fn add_forwardable(&mut self, properties: Forwardable<'_>) {
        let format = properties.iter().find(|property| property.id == id::PAYLOAD_FORMAT_INDICATOR);
        self.add_some("payload format", format.map(|property| property.value()[0]));
        self.add_some("content type", properties.content_type());
        self.add_some("response topic", properties.response_topic());
        self.add_some("correlation data", properties.correlation_data());
        for pair in properties.user_properties() {
            self.add("user property", pair);
        }
    }

    fn sorted(mut self) -> Self {
        self.0.sort_by_key(|(name, _)| *name);
        self
    }
}

/// The fields of a packet that we decoded.
pub(super) fn our_fields(packet: &Packet<'_>, version: Version) -> Fields {
    let mut fields = Fields::default();
    fields.add("packet", packet.name());
    match packet {
        Packet::Connect(connect) => {
            fields.add("clean start", connect.clean_start);
            fields.add("keep alive", connect.keep_alive);
            fields.add("client id", connect.client_id);
            fields.add_some("user name", connect.username);
            fields.add_some("password", connect.password);
            if version == Version::V5 {
                fields.add_unless("session expiry", 0, connect.session_expiry_interval);
            }
            fields.add_unless("receive maximum", u16::MAX, connect.receive_maximum);
            fields.add_some("maximum packet size", connect.maximum_packet_size);
            fields.add_unless("alias maximum", 0, connect.topic_alias_maximum);
            fields.add_unless("request response", 0, u8::from(connect.request_response_information));
            fields.add_unless("request problem", 1, u8::from(connect.request_problem_information));
            fields.add_some("method", connect.authentication_method);
            fields.add_some("method data", connect.authentication_data);
            fields.add_user_properties(connect.user_properties);
            if let Some(will) = connect.will {
                fields.add("will topic", will.topic);
                fields.add("will payload", will.payload);
                fields.add("will qos", will.qos as u8);
                fields.add("will retain", will.retain);
                fields.add_unless("will delay", 0, will.delay_interval);
                fields.add_some("expiry", will.message_expiry_interval);
                fields.add_forwardable(will.forwardable);
            }
        }
        Packet::ConnAck(connack) => {
            fields.add("session present", connack.session_present);
            fields.add("reason", connack.reason as u8);
            fields.add_some("session expiry", connack.session_expiry_interval);
            fields.add_unless("receive maximum", u16::MAX, connack.receive_maximum);
            fields.add_unless("maximum qos", 2, connack.maximum_qos as u8);
            fields.add_unless("retain available", 1, u8::from(connack.retain_available));
            fields.add_some("maximum packet size", connack.maximum_packet_size);
            fields.add_some("assigned id", connack.assigned_client_identifier);
            fields.add_unless("alias maximum", 0, connack.topic_alias_maximum);
            fields.add_some("reason string", connack.reason_string);
            fields.add_unless("wildcards", 1, u8::from(connack.wildcard_subscription_available));
            fields.add_unless("identifiers", 1, u8::from(connack.subscription_identifiers_available));
            fields.add_unless("shared", 1, u8::from(connack.shared_subscription_available));
            fields.add_some("server keep alive", connack.server_keep_alive);
            fields.add_some("response information", connack.response_information);
            fields.add_some("server reference", connack.server_reference);
            fields.add_some("method", connack.authentication_method);
            fields.add_some("method data", connack.authentication_data);
            fields.add_user_properties(connack.user_properties);
        }
        Packet::Publish(publish) => {
            fields.add("dup", publish.dup);
            fields.add("qos", publish.qos as u8);
            fields.add("retain", publish.retain);
            fields.add("topic", publish.topic);
            fields.add("payload", publish.payload);
            fields.add_some("packet id", publish.packet_id);
            fields.add_some("expiry", publish.properties.message_expiry_interval);
            fields.add_some("alias", publish.properties.topic_alias);
            for identifier in publish.properties.subscription_identifiers() {
                fields.add("subscription identifier", identifier);
            }
            fields.add_forwardable(publish.properties.forwardable);
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            let Ack { packet_id, reason, reason_string, user_properties } = *ack;
            fields.add("packet id", packet_id);
            fields.add("reason", reason as u8);
            fields.add_some("reason string", reason_string);
            fields.add_user_properties(user_properties);
        }
        Packet::Subscribe(subscribe) => {
            fields.add("packet id", subscribe.packet_id);
            fields.add_some("subscription identifier", subscribe.subscription_identifier);
            fields.add_user_properties(subscribe.user_properties);
            for (filter, options) in subscribe.filters.iter() {
                let handling = options.retain_handling as u8;
                fields.add(
                    "filter",
                    (filter, options.qos as u8, options.no_local, options.retain_as_published, handling),
                );
            }
        }
        Packet::Unsubscribe(unsubscribe) => {
            fields.add("packet id", unsubscribe.packet_id);
            fields.add_user_properties(unsubscribe.user_properties);
            for filter in unsubscribe.filters.iter() {
                fields.add("filter", filter);
            }
        }
        Packet::SubAck(suback) | Packet::UnsubAck(suback) => {
            fields.add("packet id", suback.packet_id);
            fields.add_some("reason string", suback.reason_string);
            fields.add_user_properties(suback.user_properties);
            for reason in SubAck::reasons(suback) {
                fields.add("reason", reason as u8);
            }
        }
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(disconnect) => {
            fields.add("reason", disconnect.reason as u8);
            fields.add_some("session expiry", disconnect.session_expiry_interval);
            fields.add_some("reason string", disconnect.reason_string);
            fields.add_some("server reference", disconnect.server_reference);
            fields.add_user_properties(disconnect.user_properties);
        }
        Packet::Auth(auth) => {
            fields.add("reason", auth.reason as u8);
            fields.add_some("method", auth.authentication_method);
            fields.add_some("method data", auth.authentication_data);
            fields.add_some("reason string", auth.reason_string);
            fields.add_user_properties(auth.user_properties);
        }
    }
    fields.sorted()
}

/// What the second decoder makes of a packet; it looks at the flags of a PUBLISH only.
pub(super) fn second_fields(first: u8, body: &[u8], version: Version) -> Result<Fields, MqttError> {
    let mut fields = Fields::default();
    let used = match version {
        Version::V3 => second_fields_v3(first, body, &mut fields)?,
        Version::V5 => second_fields_v5(first, body, &mut fields)?,
    };
    // What it leaves unread counts as refused only where it says how much it has read.
    if used == body.len() { Ok(fields.sorted()) } else { Err(MqttError::MalformedPacket) }
}

/// Reads an acknowledgement; the reason of one without is success.
macro_rules! second_ack {
    ($fields:ident, $name:literal, $parsed:expr) => {{
        let (ack, used) = $parsed?;
        $fields.add("packet", $name);
        $fields.add("packet id", ack.packet_id());
        $fields.add("reason", ack.reason_code().map_or(0, |reason| reason as u8));
        used
    }};
    ($fields:ident, $name:literal, $parsed:expr, with_properties) => {{
        let (ack, used) = $parsed?;
        add_some_properties(ack.props(), $fields);
        second_ack!($fields, $name, Ok::<_, MqttError>((ack, used)))
    }};
}

fn second_fields_v3(first: u8, body: &[u8], fields: &mut Fields) -> Result<usize, MqttError> {
    Ok(match first >> 4 {
        kind::CONNECT => {
            let (connect, used) = v3_1_1::Connect::parse(body)?;
            fields.add("packet", "CONNECT");
            fields.add("clean start", connect.clean_session());
            fields.add("keep alive", connect.keep_alive());
            fields.add("client id", connect.client_id());
            fields.add_some("user name", connect.user_name());
            fields.add_some("password", connect.password());
            if connect.will_flag() && will_qos_is_valid(body) {
                fields.add_some("will topic", connect.will_topic());
                fields.add_some("will payload", connect.will_payload());
                fields.add("will qos", connect.will_qos() as u8);
                fields.add("will retain", connect.will_retain());
            }
            used
        }
        kind::CONNACK => {
            let (connack, used) = v3_1_1::Connack::parse(body)?;
            fields.add("packet", "CONNACK");
            fields.add("session present", connack.session_present());
            let reason = match connack.return_code() {
                ConnectReturnCode::Accepted => ReasonCode::Success,
                ConnectReturnCode::UnacceptableProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
                ConnectReturnCode::IdentifierRejected => ReasonCode::ClientIdentifierNotValid,
                ConnectReturnCode::ServerUnavailable => ReasonCode::ServerUnavailable,
                ConnectReturnCode::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
                ConnectReturnCode::NotAuthorized => ReasonCode::NotAuthorized,
            };
            fields.add("reason", reason as u8);
            used
        }
        kind::PUBLISH => {
            let (publish, used) = v3_1_1::Publish::parse(first & 0x0F, Arc::from(body))?;
            fields.add("packet", "PUBLISH");
            fields.add("dup", publish.dup());
            fields.add("qos", publish.qos() as u8);
            fields.add("retain", publish.retain());
            fields.add("topic", publish.topic_name());
            fields.add("payload", publish.payload().as_slice());
            fields.add_some("packet id", publish.packet_id());
            used
        }
        kind::PUBACK => second_ack!(fields, "PUBACK", v3_1_1::Puback::parse(body)),
        kind::PUBREC => second_ack!(fields, "PUBREC", v3_1_1::Pubrec::parse(body)),
        kind::PUBREL => second_ack!(fields, "PUBREL", v3_1_1::Pubrel::parse(body)),
        kind::PUBCOMP => second_ack!(fields, "PUBCOMP", v3_1_1::Pubcomp::parse(body)),
        kind::SUBSCRIBE => {
            let (subscribe, used) = v3_1_1::Subscribe::parse(body)?;
            fields.add("packet", "SUBSCRIBE");
            fields.add("packet id", subscribe.packet_id());
            add_entries(subscribe.entries(), fields);
            used
        }
        kind::SUBACK => {
            let (suback, used) = v3_1_1::Suback::parse(body)?;
            fields.add("packet", "SUBACK");
            fields.add("packet id", suback.packet_id());
            for code in suback.return_codes() {
                fields.add("reason", code as u8);
            }
            used
        }
        kind::UNSUBSCRIBE => {
            let (unsubscribe, used) = v3_1_1::Unsubscribe::parse(body)?;
            fields.add("packet", "UNSUBSCRIBE");
            fields.add("packet id", unsubscribe.packet_id());
            for filter in unsubscribe.entries() {
                fields.add("filter", filter.as_str());
            }
            used
        }
        kind::UNSUBACK => {
            let (unsuback, used) = v3_1_1::Unsuback::parse(body)?;
            fields.add("packet", "UNSUBACK");
            fields.add("packet id", unsuback.packet_id());
            used
        }
        other => bodiless(other, fields)?,
    })
}

fn second_fields_v5(first: u8, body: &[u8], fields: &mut Fields) -> Result<usize, MqttError> {
    Ok(match first >> 4 {
        kind::CONNECT => {
            let (connect, used) = v5_0::Connect::parse(body)?;
            fields.add("packet", "CONNECT");
            fields.add("clean start", connect.clean_start());
            fields.add("keep alive", connect.keep_alive());
            fields.add("client id", connect.client_id());
            fields.add_some("user name", connect.user_name());
            fields.add_some("password", connect.password());
            add_properties(connect.props(), fields);
            fields.0.retain(|(name, value)| (*name, value.as_str()) != ("session expiry", "0"));
            if connect.will_flag() && will_qos_is_valid(body) {
                fields.add_some("will topic", connect.will_topic());
                fields.add_some("will payload", connect.will_payload());
                fields.add("will qos", connect.will_qos() as u8);
                fields.add("will retain", connect.will_retain());
                add_properties(connect.will_props(), fields);
            }
            used
        }
        kind::CONNACK => {
            let (connack, used) = v5_0::Connack::parse(body)?;
            fields.add("packet", "CONNACK");
            fields.add("session present", connack.session_present());
            fields.add("reason", connack.reason_code() as u8);
            add_properties(connack.props(), fields);
            used
        }
        kind::PUBLISH => {
            let (publish, used) = v5_0::Publish::parse(first & 0x0F, Arc::from(body))?;
            fields.add("packet", "PUBLISH");
            fields.add("dup", publish.dup());
            fields.add("qos", publish.qos() as u8);
            fields.add("retain", publish.retain());
            fields.add("topic", publish.topic_name());
            fields.add("payload", publish.payload().as_slice());
            fields.add_some("packet id", publish.packet_id());
            add_properties(publish.props(), fields);
            used
        }
        kind::PUBACK => second_ack!(fields, "PUBACK", v5_0::Puback::parse(body), with_properties),
        kind::PUBREC => second_ack!(fields, "PUBREC", v5_0::Pubrec::parse(body), with_properties),
        kind::PUBREL => second_ack!(fields, "PUBREL", v5_0::Pubrel::parse(body), with_properties),
        kind::PUBCOMP => second_ack!(fields, "PUBCOMP", v5_0::Pubcomp::parse(body), with_properties),
        kind::SUBSCRIBE => {
            let (subscribe, used) = v5_0::Subscribe::parse(body)?;
            fields.add("packet", "SUBSCRIBE");
            fields.add("packet id", subscribe.packet_id());
            add_properties(subscribe.props(), fields);
            add_entries(subscribe.entries(), fields);
            used
        }
        kind::SUBACK => {
            let (suback, used) = v5_0::Suback::parse(body)?;
            fields.add("packet", "SUBACK");
            fields.add("packet id", suback.packet_id());
            add_properties(suback.props(), fields);
            for code in suback.reason_codes() {
                fields.add("reason", code as u8);
            }
            used
        }
        kind::UNSUBSCRIBE => {
            let (unsubscribe, used) = v5_0::Unsubscribe::parse(body)?;
            fields.add("packet", "UNSUBSCRIBE");
            fields.add("packet id", unsubscribe.packet_id());
            add_properties(unsubscribe.props(), fields);
            for filter in unsubscribe.entries() {
                fields.add("filter", filter.as_str());
            }
            used
        }
        kind::UNSUBACK => {
            let (unsuback, used) = v5_0::Unsuback::parse(body)?;
            fields.add("packet", "UNSUBACK");
            fields.add("packet id", unsuback.packet_id());
            add_properties(unsuback.props(), fields);
            for code in unsuback.reason_codes() {
                fields.add("reason", code as u8);
            }
            used
        }
        kind::DISCONNECT => {
            let (disconnect, used) = v5_0::Disconnect::parse(body)?;
            fields.add("packet", "DISCONNECT");
            fields.add("reason", disconnect.reason_code().map_or(0, |reason| reason as u8));
            add_some_properties(disconnect.props(), fields);
            used
        }
        kind::AUTH => {
            let (auth, used) = v5_0::Auth::parse(body)?;
            fields.add("packet", "AUTH");
            fields.add("reason", auth.reason_code().map_or(0, |reason| reason as u8));
            add_some_properties(auth.props(), fields);
            used
        }
        other => bodiless(other, fields)?,
    })
}

/// The packets that have no body, of which the second decoder has nothing to read.
fn bodiless(kind: u8, fields: &mut Fields) -> Result<usize, MqttError> {
    match kind {
        kind::PINGREQ => fields.add("packet", "PINGREQ"),
        kind::PINGRESP => fields.add("packet", "PINGRESP"),
        kind::DISCONNECT => {
            fields.add("packet", "DISCONNECT");
            fields.add("reason", 0);
        }
        _ => return Err(MqttError::MalformedPacket),
    }
    Ok(0)
}

/// The second decoder panics when it is asked for will QoS 3, which it lets pass.
fn will_qos_is_valid(connect: &[u8]) -> bool {
    QoS::from_wire(connect[7] >> 3 & 3).is_some()
}

fn add_entries(entries: &[SubEntry], fields: &mut Fields) {
    for entry in entries {
        let options = entry.sub_opts();
        fields.add(
            "filter",
            (entry.topic_filter(), options.qos() as u8, options.nl(), options.rap(), options.rh() as u8),
        );
    }
}

fn add_some_properties(properties: &Option<Properties>, fields: &mut Fields) {
    add_properties(properties.as_deref().unwrap_or_default(), fields);
}

fn add_properties(properties: &[Property], fields: &mut Fields) {
    for property in properties {
        match property {
            Property::PayloadFormatIndicator(p) => fields.add("payload format", p.val()),
            Property::MessageExpiryInterval(p) => fields.add("expiry", p.val()),
            Property::ContentType(p) => fields.add("content type", p.val()),
            Property::ResponseTopic(p) => fields.add("response topic", p.val()),
            Property::CorrelationData(p) => fields.add("correlation data", p.val()),
            Property::SubscriptionIdentifier(p) => fields.add("subscription identifier", p.val()),
            Property::SessionExpiryInterval(p) => fields.add("session expiry", p.val()),
            Property::AssignedClientIdentifier(p) => fields.add("assigned id", p.val()),
            Property::ServerKeepAlive(p) => fields.add("server keep alive", p.val()),
            Property::AuthenticationMethod(p) => fields.add("method", p.val()),
            Property::AuthenticationData(p) => fields.add("method data", p.val()),
            Property::RequestProblemInformation(p) => fields.add_unless("request problem", 1, p.val()),
            Property::WillDelayInterval(p) => fields.add_unless("will delay", 0, p.val()),
            Property::RequestResponseInformation(p) => fields.add_unless("request response", 0, p.val()),
            Property::ResponseInformation(p) => fields.add("response information", p.val()),
            Property::ServerReference(p) => fields.add("server reference", p.val()),
            Property::ReasonString(p) => fields.add("reason string", p.val()),
            Property::ReceiveMaximum(p) => fields.add_unless("receive maximum", u16::MAX, p.val()),
            Property::TopicAliasMaximum(p) => fields.add_unless("alias maximum", 0, p.val()),
            Property::TopicAlias(p) => fields.add("alias", p.val()),
            Property::MaximumQos(p) => fields.add("maximum qos", p.val()),
            Property::RetainAvailable(p) => fields.add_unless("retain available", 1, p.val()),
            Property::UserProperty(p) => fields.add("user property", (p.key(), p.val())),
            Property::MaximumPacketSize(p) => fields.add("maximum packet size", p.val()),
            Property::WildcardSubscriptionAvailable(p) => fields.add_unless("wildcards", 1, p.val()),
            Property::SubscriptionIdentifierAvailable(p) => fields.add_unless("identifiers", 1, p.val()),
            Property::SharedSubscriptionAvailable(p) => fields.add_unless("shared", 1, p.val()),
        }
    }
}
