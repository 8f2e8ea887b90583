//! CONNECT (section 3.1).

use super::area::{self, Properties};
use super::{encode_with, kind};
use crate::mqtt::QoS;
use crate::mqtt::codec::{CodecError, Version, mistake};
use crate::mqtt::properties::{Forwardable, UserProperties, id};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::topic::{self, TopicError};
use crate::mqtt::wire::{self, Reader};

const PROTOCOL_NAME: &str = "MQTT";
/// The name in MQTT 3.1.
const OLD_PROTOCOL_NAME: &str = "MQIsdp";

/// The connect flags (section 3.1.2.3).
mod flag {
    pub const RESERVED: u8 = 0x01;
    pub const CLEAN_START: u8 = 0x02;
    pub const WILL: u8 = 0x04;
    pub const WILL_QOS: u8 = 0x18;
    pub const WILL_QOS_SHIFT: u8 = 3;
    pub const WILL_RETAIN: u8 = 0x20;
    pub const PASSWORD: u8 = 0x40;
    pub const USER_NAME: u8 = 0x80;
}

/// A CONNECT, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Connect<'a> {
    /// The version that the client wants to speak; 3.1 is taken for 3.1.1.
    pub version: Version,
    /// Whether it is 3.1, whose CONNACK does not say whether the session was present; never encoded.
    pub is_3_1: bool,
    /// Empty where the server should choose one.
    pub client_id: &'a str,
    /// Clean start (5.0), clean session (3.1.1).
    pub clean_start: bool,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
    /// Published when the client goes without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Seconds that the session outlives the connection; 0 is not, 0xFFFFFFFF is for ever. 3.1.1 has none:
    /// there it is 0 with clean session and 0xFFFFFFFF without.
    pub session_expiry_interval: u32,
    /// QoS 1 and 2 messages that the client takes in flight, 1 to 65,535 (default).
    pub receive_maximum: u16,
    /// Bytes of the largest packet that the client takes, from 1 up; `None` is no limit.
    pub maximum_packet_size: Option<u32>,
    /// Topic aliases that the client takes; default 0.
    pub topic_alias_maximum: u16,
    /// Whether CONNACK may have response information; default false.
    pub request_response_information: bool,
    /// Whether packets other than PUBLISH, CONNACK and DISCONNECT may have reason strings; default true.
    pub request_problem_information: bool,
    /// Name of the authentication method.
    pub authentication_method: Option<&'a str>,
    /// Data for it.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

/// The will of a CONNECT (section 3.1.3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Will<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// QoS.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Seconds between the end of the connection and the will; default 0.
    pub delay_interval: u32,
    /// Seconds for which the message is of use once it is published; `None` is for ever.
    pub message_expiry_interval: Option<u32>,
    /// What goes on to every receiver.
    pub forwardable: Forwardable<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with the standard's defaults: clean start, keep alive 60 s, no will.
    pub fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            is_3_1: false,
            client_id,
            clean_start: true,
            keep_alive: 60,
            will: None,
            username: None,
            password: None,
            session_expiry_interval: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserProperties::default(),
        }
    }

    /// Decodes the body of a CONNECT whose fixed header had `header_flags`.
    pub(super) fn decode(header_flags: u8, body: &'a [u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let (version, dialect) = decode_version(&mut reader)?;
        let mut flags = reader.u8()?;
        match dialect {
            Dialect::Standard if header_flags != 0 => return Err(mistake::HEADER_FLAGS),
            Dialect::Standard => {}
            Dialect::Old => flags &= !flag::RESERVED,
        }
        check_flags(flags, version)?;
        let mut decoded = Self::new(version, "");
        decoded.is_3_1 = dialect == Dialect::Old;
        decoded.clean_start = flags & flag::CLEAN_START != 0;
        decoded.keep_alive = reader.u16()?;
        match version {
            Version::V3 if decoded.clean_start => {}
            Version::V3 => decoded.session_expiry_interval = u32::MAX,
            Version::V5 => decoded.decode_properties(Properties::split_off(&mut reader)?)?,
        }
        decoded.client_id = reader.string().map_err(|_| mistake::CLIENT_ID)?;
        if flags & flag::WILL != 0 {
            decoded.will = Some(Will::decode(flags, &mut reader, version)?);
        }
        if flags & flag::USER_NAME != 0 {
            decoded.username = Some(reader.string().map_err(|_| mistake::CREDENTIALS)?);
        }
        if flags & flag::PASSWORD != 0 {
            decoded.password = Some(reader.binary().map_err(|_| mistake::CREDENTIALS)?);
        }
        reader.finish()?;
        let needs_client_id = version == Version::V3 && (!decoded.clean_start || dialect == Dialect::Old);
        if decoded.client_id.is_empty() && needs_client_id {
            return Err(CodecError::new(
                ReasonCode::ClientIdentifierNotValid,
                "no client identifier for a session that stays (3.1.1) [MQTT-3.1.3-8]",
            ));
        }
        Ok(decoded)
    }

    /// Appends the packet.
    pub fn encode(&self, into: &mut Vec<u8>) {
        encode_with(kind::CONNECT << 4, into, |into| {
            wire::put_string(into, PROTOCOL_NAME);
            into.push(match self.version {
                Version::V3 => 4,
                Version::V5 => 5,
            });
            into.push(self.flags());
            into.extend_from_slice(&self.keep_alive.to_be_bytes());
            if self.version == Version::V5 {
                wire::put_sized(into, |into| self.encode_properties(into));
            }
            wire::put_string(into, self.client_id);
            if let Some(will) = &self.will {
                will.encode(self.version, into);
            }
            if let Some(username) = self.username {
                wire::put_string(into, username);
            }
            if let Some(password) = self.password {
                wire::put_binary(into, password);
            }
        });
    }

    /// The version that the body of a CONNECT asks for, whatever else is wrong with it; `None` where it is not ours.
    pub fn version_of(body: &[u8]) -> Option<Version> {
        decode_version(&mut Reader::new(body)).ok().map(|(version, _)| version)
    }

    /// The version in which a server answers a CONNECT that it cannot take: that of the CONNECT, else 5.0. `None`
    /// where it cannot be told that this is one.
    ///
    /// Bridges of mosquitto first try a level with the highest bit set, and fall back where 3.1.1 refuses it.
    pub fn version_to_answer(body: &[u8]) -> Option<Version> {
        let mut reader = Reader::new(body);
        decode_name(&mut reader).ok()?;
        match reader.u8().ok()? {
            3 | 4 | 0x80..=u8::MAX => Some(Version::V3),
            _ => Some(Version::V5),
        }
    }

    fn flags(&self) -> u8 {
        let set = |condition: bool, bit: u8| if condition { bit } else { 0 };
        set(self.clean_start, flag::CLEAN_START)
            | self.will.map_or(0, |will| {
                flag::WILL | (will.qos as u8) << flag::WILL_QOS_SHIFT | set(will.retain, flag::WILL_RETAIN)
            })
            | set(self.password.is_some(), flag::PASSWORD)
            | set(self.username.is_some(), flag::USER_NAME)
    }

    fn decode_properties(&mut self, mut properties: Properties<'a>) -> Result<(), CodecError> {
        while let Some(property) = properties.next()? {
            match property {
                id::SESSION_EXPIRY_INTERVAL => self.session_expiry_interval = properties.u32()?,
                id::RECEIVE_MAXIMUM => self.receive_maximum = properties.receive_maximum()?,
                id::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(properties.maximum_packet_size()?),
                id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = properties.u16()?,
                id::REQUEST_RESPONSE_INFORMATION => self.request_response_information = properties.flag()?,
                id::REQUEST_PROBLEM_INFORMATION => self.request_problem_information = properties.flag()?,
                id::AUTHENTICATION_METHOD => self.authentication_method = Some(properties.string()?),
                id::AUTHENTICATION_DATA => self.authentication_data = Some(properties.binary()?),
                other => return properties.not_allowed(other),
            }
        }
        self.user_properties = properties.user_properties();
        area::check_authentication(self.authentication_method, self.authentication_data)
    }

    fn encode_properties(&self, into: &mut Vec<u8>) {
        area::put_u32(into, id::SESSION_EXPIRY_INTERVAL, Some(self.session_expiry_interval).filter(|&s| s != 0));
        area::put_u16(into, id::RECEIVE_MAXIMUM, Some(self.receive_maximum).filter(|&maximum| maximum != u16::MAX));
        area::put_u32(into, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        area::put_u16(into, id::TOPIC_ALIAS_MAXIMUM, Some(self.topic_alias_maximum).filter(|&maximum| maximum != 0));
        area::put_u8(into, id::REQUEST_RESPONSE_INFORMATION, self.request_response_information.then_some(1));
        area::put_u8(into, id::REQUEST_PROBLEM_INFORMATION, (!self.request_problem_information).then_some(0));
        area::put_string(into, id::AUTHENTICATION_METHOD, self.authentication_method);
        area::put_binary(into, id::AUTHENTICATION_DATA, self.authentication_data);
        self.user_properties.write(into);
    }
}

impl<'a> Will<'a> {
    fn decode(flags: u8, reader: &mut Reader<'a>, version: Version) -> Result<Self, CodecError> {
        let mut delay_interval = 0;
        let mut message_expiry_interval = None;
        let forwardable = match version {
            Version::V3 => Forwardable::default(),
            Version::V5 => Properties::split_off(reader)?.read_message(|property, values| {
                match property {
                    id::WILL_DELAY_INTERVAL => delay_interval = values.u32()?,
                    id::MESSAGE_EXPIRY_INTERVAL => message_expiry_interval = Some(values.u32()?),
                    other => return values.not_allowed(other),
                }
                Ok(())
            })?,
        };
        let topic = reader.utf8()?;
        topic::validate_name(topic).map_err(|error| match error {
            TopicError::Nul => CodecError::malformed("the will topic has the character U+0000 [MQTT-1.5.4-2]"),
            _ => CodecError::new(ReasonCode::TopicNameInvalid, "the will topic is no topic name [MQTT-4.7.0-1]"),
        })?;
        Ok(Self {
            topic,
            payload: reader.binary()?,
            qos: will_qos(flags)?,
            retain: flags & flag::WILL_RETAIN != 0,
            delay_interval,
            message_expiry_interval,
            forwardable,
        })
    }

    fn encode(&self, version: Version, into: &mut Vec<u8>) {
        if version == Version::V5 {
            wire::put_sized(into, |into| {
                area::put_u32(into, id::WILL_DELAY_INTERVAL, Some(self.delay_interval).filter(|&s| s != 0));
                area::put_u32(into, id::MESSAGE_EXPIRY_INTERVAL, self.message_expiry_interval);
                self.forwardable.write(into);
            });
        }
        wire::put_string(into, self.topic);
        wire::put_binary(into, self.payload);
    }
}

/// What 3.1 has otherwise than 3.1.1, which it is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Standard,
    /// MQTT 3.1, protocol level 3: reserved bits have any value, and a client identifier is needed.
    Old,
}

/// Reads the protocol name [MQTT-3.1.2-1].
fn decode_name(reader: &mut Reader<'_>) -> Result<Dialect, CodecError> {
    match reader.string()? {
        PROTOCOL_NAME => Ok(Dialect::Standard),
        OLD_PROTOCOL_NAME => Ok(Dialect::Old),
        _ => Err(mistake::PROTOCOL_NAME),
    }
}

/// Reads protocol name and level; what is not ours is answered by 0x84 [MQTT-3.1.2-2].
fn decode_version(reader: &mut Reader<'_>) -> Result<(Version, Dialect), CodecError> {
    let dialect = decode_name(reader)?;
    match (dialect, reader.u8()?) {
        (Dialect::Old, 3) | (Dialect::Standard, 4) => Ok((Version::V3, dialect)),
        (Dialect::Standard, 5) => Ok((Version::V5, dialect)),
        _ => Err(CodecError::new(ReasonCode::UnsupportedProtocolVersion, "the protocol level is none of 3, 4 and 5")),
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), CodecError> {
    if flags & flag::RESERVED != 0 {
        return Err(CodecError::malformed("the reserved connect flag [MQTT-3.1.2-3]"));
    }
    will_qos(flags)?;
    if flags & flag::WILL == 0 && flags & (flag::WILL_QOS | flag::WILL_RETAIN) != 0 {
        return Err(CodecError::malformed("will QoS or will retain without a will [MQTT-3.1.2-11, MQTT-3.1.2-13]"));
    }
    if version == Version::V3 && flags & (flag::PASSWORD | flag::USER_NAME) == flag::PASSWORD {
        return Err(CodecError::malformed("a password without a user name (3.1.1) [MQTT-3.1.2-22]"));
    }
    Ok(())
}

fn will_qos(flags: u8) -> Result<QoS, CodecError> {
    QoS::from_wire((flags & flag::WILL_QOS) >> flag::WILL_QOS_SHIFT)
        .ok_or(CodecError::malformed("will QoS 3 [MQTT-3.1.2-12]"))
}
