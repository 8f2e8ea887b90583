//! Packets that are wrong, each with the reason code that answers it, and those at the edge that are right.
//!
//! 0x81 is a packet that cannot be parsed, 0x82 one that can be and may not be sent (MQTT 5.0, section 1.2).

use crate::mqtt::codec::Version::{V3, V5};
use crate::mqtt::codec::{Frame, Framing, Version, split_frame};
use crate::mqtt::packet::{Connect, Packet, kind};
use crate::mqtt::properties::id;
use crate::mqtt::reason::ReasonCode::{
    self, ClientIdentifierNotValid, MalformedPacket as Malformed, PacketTooLarge, ProtocolError as Protocol,
    TopicAliasInvalid, TopicNameInvalid, UnsupportedProtocolVersion,
};

/// What is wrong, version, first byte, body, reason.
pub(crate) type Case = (&'static str, Version, u8, &'static [u8], ReasonCode);

/// All the tables.
pub(crate) const MALFORMED: &[&[Case]] = &[PUBLISH, CONNECT, CONNACK, ACKNOWLEDGEMENTS, SUBSCRIPTIONS, OTHERS];

const PUBLISH: &[Case] = &[
    ("QoS 3", V5, 0x36, b"\0\x01t\0\x01\0", Malformed),
    ("QoS 3 with DUP", V3, 0x3E, b"\0\x01t\0\x01", Malformed),
    ("DUP with QoS 0", V5, 0x38, b"\0\x01t\0", Malformed),
    ("DUP with QoS 0", V3, 0x38, b"\0\x01t", Malformed),
    ("packet identifier 0", V5, 0x32, b"\0\x01t\0\0\0", Protocol),
    ("packet identifier 0", V3, 0x34, b"\0\x01t\0\0", Protocol),
    ("no packet identifier", V3, 0x32, b"\0\x01t", Malformed),
    ("half a packet identifier", V3, 0x32, b"\0\x01t\0", Malformed),
    ("nothing", V5, 0x30, b"", Malformed),
    ("no topic", V3, 0x30, b"\0", Malformed),
    ("topic runs past the end", V5, 0x30, b"\0\x05t\0", Malformed),
    ("no property length", V5, 0x30, b"\0\x01t", Malformed),
    ("empty topic without alias", V5, 0x30, b"\0\0\0", Protocol),
    ("empty topic", V3, 0x30, b"\0\0", TopicNameInvalid),
    ("# in the topic", V5, 0x30, b"\0\x03a/#\0", TopicNameInvalid),
    ("+ in the topic", V3, 0x30, b"\0\x03a/+", TopicNameInvalid),
    ("wildcard in the topic with an alias", V5, 0x30, b"\0\x01#\x03\x23\0\x01", TopicNameInvalid),
    ("U+0000 in the topic", V5, 0x30, b"\0\x03a\0b\0", Malformed),
    ("U+0000 in the topic", V3, 0x30, b"\0\x03a\0b", Malformed),
    ("not UTF-8", V5, 0x30, b"\0\x01\xFF\0", Malformed),
    ("surrogate U+D800", V5, 0x30, b"\0\x03\xED\xA0\x80\0", Malformed),
    ("surrogate pair", V3, 0x30, b"\0\x06\xED\xA0\x80\xED\xB0\x80", Malformed),
    ("overlong /", V5, 0x30, b"\0\x02\xC0\xAF\0", Malformed),
    ("overlong U+0000", V3, 0x30, b"\0\x02\xC0\x80", Malformed),
    ("above U+10FFFF", V5, 0x30, b"\0\x04\xF4\x90\x80\x80\0", Malformed),
    ("cut character", V5, 0x30, b"\0\x02\xE2\x82\0", Malformed),
    ("alias 0", V5, 0x30, b"\0\x01t\x03\x23\0\0", TopicAliasInvalid),
    ("alias 0 without topic", V5, 0x30, b"\0\0\x03\x23\0\0", TopicAliasInvalid),
    ("alias twice", V5, 0x30, b"\0\x01t\x06\x23\0\x01\x23\0\x01", Protocol),
    ("property length past the end", V5, 0x30, b"\0\x01t\x04\x23\0\x01", Malformed),
    ("property length cuts a property", V5, 0x30, b"\0\x01t\x02\x23\0\x01", Malformed),
    ("property length of 5 bytes", V5, 0x30, b"\0\x01t\x80\x80\x80\x80\x00", Malformed),
    ("property length longer than it needs", V5, 0x30, b"\0\x01t\x80\0", Malformed),
    ("property length is cut", V5, 0x30, b"\0\x01t\x80", Malformed),
    ("unknown property 0x00", V5, 0x30, b"\0\x01t\x02\0\0", Malformed),
    ("unknown property 0x7F", V5, 0x30, b"\0\x01t\x02\x7F\0", Malformed),
    ("property identifier of two bytes", V5, 0x30, b"\0\x01t\x03\x81\x00\x01", Malformed),
    ("unknown property after its likeness", V5, 0x30, b"\0\x01t\x04\x01\x01\x41\x01", Malformed),
    ("payload format 2", V5, 0x30, b"\0\x01t\x02\x01\x02", Protocol),
    ("payload format twice", V5, 0x30, b"\0\x01t\x04\x01\0\x01\0", Protocol),
    ("expiry twice", V5, 0x30, b"\0\x01t\x0A\x02\0\0\0\x01\x02\0\0\0\x01", Protocol),
    ("content type twice", V5, 0x30, b"\0\x01t\x06\x03\0\0\x03\0\0", Protocol),
    ("U+0000 in the content type", V5, 0x30, b"\0\x01t\x04\x03\0\x01\0", Malformed),
    ("empty response topic", V5, 0x30, b"\0\x01t\x03\x08\0\0", TopicNameInvalid),
    ("wildcard in the response topic", V5, 0x30, b"\0\x01t\x04\x08\0\x01#", TopicNameInvalid),
    ("U+0000 in the response topic", V5, 0x30, b"\0\x01t\x04\x08\0\x01\0", Malformed),
    ("response topic twice", V5, 0x30, b"\0\x01t\x08\x08\0\x01r\x08\0\x01r", Protocol),
    ("correlation data twice", V5, 0x30, b"\0\x01t\x06\x09\0\0\x09\0\0", Protocol),
    ("correlation data past the area", V5, 0x30, b"\0\x01t\x03\x09\0\x01x", Malformed),
    ("subscription identifier 0", V5, 0x30, b"\0\x01t\x02\x0B\0", Protocol),
    ("subscription identifier of 5 bytes", V5, 0x30, b"\0\x01t\x06\x0B\x80\x80\x80\x80\x01", Malformed),
    ("subscription identifier longer than it needs", V5, 0x30, b"\0\x01t\x03\x0B\x81\0", Malformed),
    ("user property without value", V5, 0x30, b"\0\x01t\x04\x26\0\x01n", Malformed),
    ("user property that is not UTF-8", V5, 0x30, b"\0\x01t\x06\x26\0\x01\xFF\0\0", Malformed),
    ("U+0000 in a user property", V5, 0x30, b"\0\x01t\x06\x26\0\0\0\x01\0", Malformed),
];

const CONNECT: &[Case] = &[
    ("nothing", V5, 0x10, b"", Malformed),
    ("another protocol name", V5, 0x10, b"\0\x04MQTX\x05\x02\0\0\0\0\0", UnsupportedProtocolVersion),
    ("lower case name", V5, 0x10, b"\0\x04mqtt\x05\x02\0\0\0\0\0", UnsupportedProtocolVersion),
    ("3.1 without client identifier", V5, 0x10, b"\0\x06MQIsdp\x03\x02\0\0\0\0", ClientIdentifierNotValid),
    ("3.1.1 by the name of 3.1", V5, 0x10, b"\0\x06MQIsdp\x04\x02\0\0\0\x01a", UnsupportedProtocolVersion),
    ("name is not UTF-8", V5, 0x10, b"\0\x04MQT\xFF\x05\x02\0\0\0\0\0", Malformed),
    ("level 3", V5, 0x10, b"\0\x04MQTT\x03\x02\0\0\0\x01a", UnsupportedProtocolVersion),
    ("level 6", V5, 0x10, b"\0\x04MQTT\x06\x02\0\0\0\0\x01a", UnsupportedProtocolVersion),
    ("level with the bridge bit", V5, 0x10, b"\0\x04MQTT\x84\x02\0\0\0\x01a", UnsupportedProtocolVersion),
    ("no flags", V5, 0x10, b"\0\x04MQTT\x05", Malformed),
    ("no keep alive", V5, 0x10, b"\0\x04MQTT\x05\x02\0", Malformed),
    ("no property length", V5, 0x10, b"\0\x04MQTT\x05\x02\0\0", Malformed),
    ("no client identifier", V5, 0x10, b"\0\x04MQTT\x05\x02\0\0\0", Malformed),
    ("reserved connect flag", V5, 0x10, b"\0\x04MQTT\x05\x03\0\0\0\0\x01a", Malformed),
    ("reserved connect flag", V3, 0x10, b"\0\x04MQTT\x04\x03\0\0\0\x01a", Malformed),
    ("will QoS 3", V5, 0x10, b"\0\x04MQTT\x05\x1E\0\0\0\0\x01a\0\0\x01t\0\0", Malformed),
    ("will QoS 3", V3, 0x10, b"\0\x04MQTT\x04\x1E\0\0\0\x01a\0\x01t\0\0", Malformed),
    ("will QoS without will", V5, 0x10, b"\0\x04MQTT\x05\x0A\0\0\0\0\x01a", Malformed),
    ("will QoS without will", V3, 0x10, b"\0\x04MQTT\x04\x12\0\0\0\x01a", Malformed),
    ("will retain without will", V5, 0x10, b"\0\x04MQTT\x05\x22\0\0\0\0\x01a", Malformed),
    ("will retain without will", V3, 0x10, b"\0\x04MQTT\x04\x22\0\0\0\x01a", Malformed),
    ("password without user name", V3, 0x10, b"\0\x04MQTT\x04\x42\0\0\0\x01a\0\x01p", Malformed),
    ("empty client identifier that stays", V3, 0x10, b"\0\x04MQTT\x04\0\0\0\0\0", ClientIdentifierNotValid),
    ("U+0000 in the client identifier", V3, 0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01\0", Malformed),
    ("client identifier is not UTF-8", V5, 0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01\xFF", Malformed),
    ("no user name", V3, 0x10, b"\0\x04MQTT\x04\x82\0\0\0\x01a", Malformed),
    ("user name is not UTF-8", V5, 0x10, b"\0\x04MQTT\x05\x82\0\0\0\0\x01a\0\x01\xFF", Malformed),
    ("U+0000 in the user name", V3, 0x10, b"\0\x04MQTT\x04\x82\0\0\0\x01a\0\x01\0", Malformed),
    ("no password", V5, 0x10, b"\0\x04MQTT\x05\x42\0\0\0\0\x01a", Malformed),
    ("password runs past the end", V5, 0x10, b"\0\x04MQTT\x05\x42\0\0\0\0\x01a\0\x02p", Malformed),
    ("bytes after the client identifier", V5, 0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01ax", Malformed),
    ("bytes after the client identifier", V3, 0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01a\0", Malformed),
    ("user name without its flag", V3, 0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01a\0\x01u", Malformed),
    ("data without method", V5, 0x10, b"\0\x04MQTT\x05\x02\0\0\x03\x16\0\0\0\x01a", Protocol),
    ("no will topic", V3, 0x10, b"\0\x04MQTT\x04\x06\0\0\0\x01a", Malformed),
    ("no will payload", V3, 0x10, b"\0\x04MQTT\x04\x06\0\0\0\x01a\0\x01t", Malformed),
    ("no will properties", V5, 0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01a", Malformed),
    ("empty will topic", V5, 0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01a\0\0\0\0\0", TopicNameInvalid),
    ("wildcard in the will topic", V3, 0x10, b"\0\x04MQTT\x04\x06\0\0\0\x01a\0\x01#\0\0", TopicNameInvalid),
    ("U+0000 in the will topic", V5, 0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01a\0\0\x01\0\0\0", Malformed),
    ("will topic is not UTF-8", V3, 0x10, b"\0\x04MQTT\x04\x06\0\0\0\x01a\0\x01\xFF\0\0", Malformed),
];

const CONNACK: &[Case] = &[
    ("nothing", V5, 0x20, b"", Malformed),
    ("flags alone", V3, 0x20, b"\0", Malformed),
    ("no property length", V5, 0x20, b"\0\0", Malformed),
    ("reserved flags", V5, 0x20, b"\x02\0\0", Malformed),
    ("reserved flags", V3, 0x20, b"\x81\0", Malformed),
    ("session present with an error", V5, 0x20, b"\x01\x87\0", Protocol),
    ("session present with an error", V3, 0x20, b"\x01\x05", Protocol),
    ("return code 6", V3, 0x20, b"\0\x06", Protocol),
    ("return code of 5.0", V3, 0x20, b"\0\x87", Protocol),
    ("reason code of another packet", V5, 0x20, b"\0\x8E\0", Protocol),
    ("return code of 3.1.1", V5, 0x20, b"\0\x05\0", Protocol),
    ("trailing bytes", V5, 0x20, b"\0\0\0\0", Malformed),
    ("trailing bytes", V3, 0x20, b"\0\0\0", Malformed),
];

const ACKNOWLEDGEMENTS: &[Case] = &[
    ("nothing", V5, 0x40, b"", Malformed),
    ("half a packet identifier", V3, 0x50, b"\0", Malformed),
    ("packet identifier 0", V5, 0x40, b"\0\0", Protocol),
    ("packet identifier 0", V3, 0x62, b"\0\0", Protocol),
    ("reason in 3.1.1", V3, 0x40, b"\0\x01\0", Malformed),
    ("reason in 3.1.1", V3, 0x62, b"\0\x01\0", Malformed),
    ("reserved flags", V5, 0x41, b"\0\x01", Malformed),
    ("reserved flags", V3, 0x52, b"\0\x01", Malformed),
    ("PUBREL without its flags", V5, 0x60, b"\0\x01", Malformed),
    ("PUBREL with other flags", V3, 0x63, b"\0\x01", Malformed),
    ("reserved flags", V5, 0x72, b"\0\x01", Malformed),
    ("unknown reason", V5, 0x40, b"\0\x01\xFF", Protocol),
    ("reason of PUBREL", V5, 0x40, b"\0\x01\x92", Protocol),
    ("reason of PUBACK", V5, 0x62, b"\0\x01\x10", Protocol),
    ("reason of PUBACK", V5, 0x70, b"\0\x01\x97", Protocol),
    ("property length past the end", V5, 0x50, b"\0\x01\0\x01", Malformed),
    ("trailing bytes", V5, 0x40, b"\0\x01\0\0\0", Malformed),
    ("trailing bytes", V3, 0x70, b"\0\x01\0", Malformed),
];

const SUBSCRIPTIONS: &[Case] = &[
    ("reserved flags of SUBSCRIBE", V5, 0x80, b"\0\x01\0\0\x01t\0", Malformed),
    ("reserved flags of SUBSCRIBE", V3, 0x8A, b"\0\x01\0\x01t\0", Malformed),
    ("packet identifier 0", V5, 0x82, b"\0\0\0\0\x01t\0", Protocol),
    ("no property length", V5, 0x82, b"\0\x01", Malformed),
    ("no filter", V5, 0x82, b"\0\x01\0", Protocol),
    ("no filter", V3, 0x82, b"\0\x01", Protocol),
    ("no options", V5, 0x82, b"\0\x01\0\0\x01t", Malformed),
    ("no options", V3, 0x82, b"\0\x01\0\x01t", Malformed),
    ("second filter is cut", V5, 0x82, b"\0\x01\0\0\x01t\0\0\x02t", Malformed),
    ("filter is not UTF-8", V3, 0x82, b"\0\x01\0\x01\xFF\0", Malformed),
    ("U+0000 in the filter", V5, 0x82, b"\0\x01\0\0\x01\0\0", Malformed),
    ("reserved option bit 6", V5, 0x82, b"\0\x01\0\0\x01t\x40", Malformed),
    ("reserved option bit 7", V5, 0x82, b"\0\x01\0\0\x01t\x80", Malformed),
    ("options of 5.0", V3, 0x82, b"\0\x01\0\x01t\x04", Malformed),
    ("QoS 3", V5, 0x82, b"\0\x01\0\0\x01t\x03", Protocol),
    ("QoS 3", V3, 0x82, b"\0\x01\0\x01t\x03", Malformed),
    ("retain handling 3", V5, 0x82, b"\0\x01\0\0\x01t\x30", Protocol),
    ("no local on a shared subscription", V5, 0x82, b"\0\x01\0\0\x0A$share/g/t\x04", Protocol),
    ("subscription identifier 0", V5, 0x82, b"\0\x01\x02\x0B\0\0\x01t\0", Protocol),
    ("subscription identifier twice", V5, 0x82, b"\0\x01\x04\x0B\x01\x0B\x01\0\x01t\0", Protocol),
    ("reserved flags of UNSUBSCRIBE", V5, 0xA0, b"\0\x01\0\0\x01t", Malformed),
    ("reserved flags of UNSUBSCRIBE", V3, 0xA3, b"\0\x01\0\x01t", Malformed),
    ("packet identifier 0", V3, 0xA2, b"\0\0\0\x01t", Protocol),
    ("no filter", V5, 0xA2, b"\0\x01\0", Protocol),
    ("no filter", V3, 0xA2, b"\0\x01", Protocol),
    ("filter is cut", V5, 0xA2, b"\0\x01\0\0\x02t", Malformed),
    ("U+0000 in the filter", V3, 0xA2, b"\0\x01\0\x01\0", Malformed),
    ("reserved flags of SUBACK", V5, 0x92, b"\0\x01\0\0", Malformed),
    ("packet identifier 0", V5, 0x90, b"\0\0\0\0", Protocol),
    ("no code", V5, 0x90, b"\0\x01\0", Protocol),
    ("no code", V3, 0x90, b"\0\x01", Protocol),
    ("QoS 3", V3, 0x90, b"\0\x01\x03", Protocol),
    ("reason of 5.0", V3, 0x90, b"\0\x01\x87", Protocol),
    ("reason of UNSUBACK", V5, 0x90, b"\0\x01\0\x11", Protocol),
    ("reserved flags of UNSUBACK", V5, 0xB1, b"\0\x01\0\0", Malformed),
    ("no code", V5, 0xB0, b"\0\x01\0", Protocol),
    ("granted QoS 1", V5, 0xB0, b"\0\x01\0\x01", Protocol),
    ("code in 3.1.1", V3, 0xB0, b"\0\x01\0", Malformed),
];

const OTHERS: &[Case] = &[
    ("type 0", V5, 0x00, b"", Malformed),
    ("flags of CONNECT", V5, 0x11, b"\0\x04MQTT\x05\x02\0\0\0\0\x01a", Malformed),
    ("flags of CONNACK", V5, 0x22, b"\0\0\0", Malformed),
    ("flags of PINGREQ", V3, 0xC1, b"", Malformed),
    ("body of PINGREQ", V5, 0xC0, b"\0", Malformed),
    ("flags of PINGRESP", V5, 0xD8, b"", Malformed),
    ("body of PINGRESP", V3, 0xD0, b"\0", Malformed),
    ("flags of DISCONNECT", V5, 0xE2, b"", Malformed),
    ("body of DISCONNECT", V3, 0xE0, b"\0", Malformed),
    ("reason of another packet", V5, 0xE0, b"\x01", Protocol),
    ("unknown reason", V5, 0xE0, b"\x7F", Protocol),
    ("property length past the end", V5, 0xE0, b"\0\x01", Malformed),
    ("trailing bytes of DISCONNECT", V5, 0xE0, b"\0\0\0", Malformed),
    ("AUTH in 3.1.1", V3, 0xF0, b"", Malformed),
    ("flags of AUTH", V5, 0xF1, b"", Malformed),
    ("AUTH without properties", V5, 0xF0, b"\x18", Malformed),
    ("AUTH without method", V5, 0xF0, b"\x18\0", Protocol),
    ("success without method", V5, 0xF0, b"\0\0", Protocol),
    ("AUTH with data alone", V5, 0xF0, b"\x18\x03\x16\0\0", Protocol),
    ("reason of another packet", V5, 0xF0, b"\x87\x03\x15\0\0", Protocol),
    ("trailing bytes of AUTH", V5, 0xF0, b"\x18\x03\x15\0\0\0", Malformed),
];

#[test]
fn a_wrong_packet_is_answered_by_the_reason_that_the_standard_gives() {
    for table in MALFORMED {
        for &(what, version, first, body, expected) in *table {
            let answer = Packet::decode(Frame { first, body }, version).map_err(|error| error.reason);
            assert_eq!(answer, Err(expected), "{what}: {version:?} 0x{first:02X} {body:02X?}");
        }
    }
}

#[test]
fn what_stands_at_the_edge_is_accepted() {
    let cases: &[(&str, Version, u8, &[u8])] = &[
        ("topic of one space", V5, 0x30, b"\0\x01 \0"),
        ("empty topic with an alias", V5, 0x30, b"\0\0\x03\x23\0\x01"),
        ("topic with U+FEFF, which is kept", V3, 0x30, b"\0\x04\xEF\xBB\xBFa"),
        ("topic with a noncharacter", V3, 0x30, b"\0\x03\xEF\xBF\xBF"),
        ("topic that starts with $", V5, 0x30, b"\0\x05$SYS/\0"),
        ("DUP with QoS 2", V5, 0x3C, b"\0\x01t\0\x01\0"),
        ("expiry 0", V5, 0x30, b"\0\x01t\x05\x02\0\0\0\0"),
        ("binary zero in correlation data", V5, 0x30, b"\0\x01t\x04\x09\0\x01\0"),
        ("the same user property twice", V5, 0x30, b"\0\x01t\x0E\x26\0\x01n\0\x01v\x26\0\x01n\0\x01v"),
        ("several subscription identifiers", V5, 0x30, b"\0\x01t\x05\x0B\x01\x0B\x80\x01"),
        ("password without user name", V5, 0x10, b"\0\x04MQTT\x05\x42\0\0\0\0\x01a\0\x01p"),
        ("empty client identifier, session stays", V5, 0x10, b"\0\x04MQTT\x05\0\0\0\0\0\0"),
        ("empty client identifier, clean session", V3, 0x10, b"\0\x04MQTT\x04\x02\0\0\0\0"),
        ("empty will payload", V3, 0x10, b"\0\x04MQTT\x04\x06\0\0\0\x01a\0\x01t\0\0"),
        ("empty user name and password", V3, 0x10, b"\0\x04MQTT\x04\xC2\0\0\0\x01a\0\0\0\0"),
        ("method without data", V5, 0x10, b"\0\x04MQTT\x05\x02\0\0\x04\x15\0\x01m\0\x01a"),
        ("acknowledgement of two bytes", V5, 0x40, b"\0\x01"),
        ("acknowledgement of three bytes", V5, 0x62, b"\0\x01\x92"),
        ("acknowledgement of four bytes", V5, 0x50, b"\0\x01\x10\0"),
        ("empty reason string", V5, 0x40, b"\0\x01\0\x03\x1F\0\0"),
        ("empty filter, answered in the SUBACK", V5, 0x82, b"\0\x01\0\0\0\0"),
        ("invalid filter, answered in the SUBACK", V3, 0x82, b"\0\x01\0\x02a#\0"),
        ("all options", V5, 0x82, b"\0\x01\0\0\x01t\x2E"),
        ("shared subscription", V5, 0x82, b"\0\x01\0\0\x0A$share/g/t\x2A"),
        ("no local on $shared", V5, 0x82, b"\0\x01\0\0\x0A$shared/gt\x04"),
        ("failure", V3, 0x90, b"\0\x01\x00\x01\x02\x80"),
        ("no subscription existed", V5, 0xB0, b"\0\x01\0\x11"),
        ("DISCONNECT of one byte", V5, 0xE0, b"\x04"),
        ("AUTH of no byte", V5, 0xF0, b""),
    ];
    for &(what, version, first, body) in cases {
        if let Err(error) = Packet::decode(Frame { first, body }, version) {
            panic!("{what}: {error}");
        }
    }
}

/// Each property with a valid value, and the packets of 5.0 that may have it (table 2-4). Type 0 is the will.
const PROPERTIES: &[(u8, &[u8], &[u8])] = {
    use kind::*;
    const WILL: u8 = 0;
    &[
        (id::PAYLOAD_FORMAT_INDICATOR, b"\x01", &[PUBLISH, WILL]),
        (id::MESSAGE_EXPIRY_INTERVAL, b"\0\0\0\x01", &[PUBLISH, WILL]),
        (id::CONTENT_TYPE, b"\0\x01x", &[PUBLISH, WILL]),
        (id::RESPONSE_TOPIC, b"\0\x01x", &[PUBLISH, WILL]),
        (id::CORRELATION_DATA, b"\0\x01x", &[PUBLISH, WILL]),
        (id::SUBSCRIPTION_IDENTIFIER, b"\x01", &[PUBLISH, SUBSCRIBE]),
        (id::SESSION_EXPIRY_INTERVAL, b"\0\0\0\x01", &[CONNECT, CONNACK, DISCONNECT]),
        (id::ASSIGNED_CLIENT_IDENTIFIER, b"\0\x01x", &[CONNACK]),
        (id::SERVER_KEEP_ALIVE, b"\0\x01", &[CONNACK]),
        (id::AUTHENTICATION_METHOD, b"\0\x01x", &[CONNECT, CONNACK, AUTH]),
        (id::AUTHENTICATION_DATA, b"\0\x01x", &[CONNECT, CONNACK, AUTH]),
        (id::REQUEST_PROBLEM_INFORMATION, b"\x01", &[CONNECT]),
        (id::WILL_DELAY_INTERVAL, b"\0\0\0\x01", &[WILL]),
        (id::REQUEST_RESPONSE_INFORMATION, b"\x01", &[CONNECT]),
        (id::RESPONSE_INFORMATION, b"\0\x01x", &[CONNACK]),
        (id::SERVER_REFERENCE, b"\0\x01x", &[CONNACK, DISCONNECT]),
        (
            id::REASON_STRING,
            b"\0\x01x",
            &[CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH],
        ),
        (id::RECEIVE_MAXIMUM, b"\0\x01", &[CONNECT, CONNACK]),
        (id::TOPIC_ALIAS_MAXIMUM, b"\0\x01", &[CONNECT, CONNACK]),
        (id::TOPIC_ALIAS, b"\0\x01", &[PUBLISH]),
        (id::MAXIMUM_QOS, b"\x01", &[CONNACK]),
        (id::RETAIN_AVAILABLE, b"\x01", &[CONNACK]),
        (
            id::USER_PROPERTY,
            b"\0\x01n\0\x01v",
            &[
                CONNECT,
                CONNACK,
                PUBLISH,
                WILL,
                PUBACK,
                PUBREC,
                PUBREL,
                PUBCOMP,
                SUBSCRIBE,
                SUBACK,
                UNSUBSCRIBE,
                UNSUBACK,
                DISCONNECT,
                AUTH,
            ],
        ),
        (id::MAXIMUM_PACKET_SIZE, b"\0\0\0\x01", &[CONNECT, CONNACK]),
        (id::WILDCARD_SUBSCRIPTION_AVAILABLE, b"\x01", &[CONNACK]),
        (id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, b"\x01", &[CONNACK]),
        (id::SHARED_SUBSCRIPTION_AVAILABLE, b"\x01", &[CONNACK]),
    ]
};

#[test]
fn each_packet_has_its_properties_and_no_others() {
    for &(property, value, packets) in PROPERTIES {
        for kind in (0..=kind::AUTH).filter(|kind| !matches!(*kind, kind::PINGREQ | kind::PINGRESP)) {
            let area = [&[property], value].concat();
            let expected = if packets.contains(&kind) { Ok(()) } else { Err(Malformed) };
            assert_eq!(verdict(kind, &area), expected, "property 0x{property:02X} in packet {kind}");
        }
    }
}

#[test]
fn a_property_stands_once_but_for_those_that_may_be_repeated() {
    for &(property, value, packets) in PROPERTIES {
        for &kind in packets {
            let once = [&[property], value].concat();
            let may_repeat =
                property == id::USER_PROPERTY || (property == id::SUBSCRIPTION_IDENTIFIER && kind == kind::PUBLISH);
            let expected = if may_repeat { Ok(()) } else { Err(Protocol) };
            assert_eq!(verdict(kind, &once.repeat(2)), expected, "property 0x{property:02X} in packet {kind}");
        }
    }
}

#[test]
fn a_property_that_is_cut_is_malformed() {
    for &(property, value, packets) in PROPERTIES {
        for &kind in packets {
            for length in 0..value.len() {
                let area = [&[property], &value[..length]].concat();
                assert_eq!(verdict(kind, &area), Err(Malformed), "property 0x{property:02X} in packet {kind}");
            }
        }
    }
}

#[test]
fn a_string_property_is_utf_8_without_u_0000() {
    for &(property, value, packets) in PROPERTIES {
        let is_binary = matches!(property, id::CORRELATION_DATA | id::AUTHENTICATION_DATA);
        if !value.starts_with(b"\0\x01") || value.len() < 3 || is_binary {
            continue;
        }
        for &kind in packets {
            for wrong in [0, 0xFF] {
                let mut area = [&[property], value].concat();
                *area.last_mut().unwrap() = wrong;
                assert_eq!(verdict(kind, &area), Err(Malformed), "property 0x{property:02X} in packet {kind}");
            }
        }
    }
}

#[test]
fn values_out_of_range_are_a_protocol_error() {
    let cases: &[(u8, &[u8])] = &[
        (id::PAYLOAD_FORMAT_INDICATOR, b"\x02"),
        (id::SUBSCRIPTION_IDENTIFIER, b"\0"),
        (id::REQUEST_PROBLEM_INFORMATION, b"\x02"),
        (id::REQUEST_RESPONSE_INFORMATION, b"\xFF"),
        (id::RECEIVE_MAXIMUM, b"\0\0"),
        (id::MAXIMUM_QOS, b"\x02"),
        (id::RETAIN_AVAILABLE, b"\x02"),
        (id::MAXIMUM_PACKET_SIZE, b"\0\0\0\0"),
        (id::WILDCARD_SUBSCRIPTION_AVAILABLE, b"\x02"),
        (id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, b"\x02"),
        (id::SHARED_SUBSCRIPTION_AVAILABLE, b"\x02"),
    ];
    for &(property, value) in cases {
        let (_, _, packets) = PROPERTIES.iter().find(|row| row.0 == property).unwrap();
        for &kind in *packets {
            let area = [&[property], value].concat();
            assert_eq!(verdict(kind, &area), Err(Protocol), "property 0x{property:02X} in packet {kind}");
        }
    }
}

#[test]
fn authentication_data_needs_a_method() {
    for kind in [kind::CONNECT, kind::CONNACK, kind::AUTH] {
        let (first, body) = super::any_packet::with_area(kind, b"\x16\0\x01x", false);
        let answer = Packet::decode(Frame { first, body: &body }, V5).map_err(|error| error.reason);
        assert_eq!(answer, Err(Protocol), "packet {kind}");
    }
}

#[test]
fn a_wrong_length_is_answered_before_the_packet_is_there() {
    let limit = 1000;
    for (what, bytes, expected) in [
        ("five bytes", &b"\x30\x80\x80\x80\x80\x01"[..], Malformed),
        ("four bytes and none to end it", b"\x30\xFF\xFF\xFF\xFF", Malformed),
        ("longer than it needs", b"\xC0\x80\0", Malformed),
        ("longer than it needs", b"\xC0\x80\x80\x80\0", Malformed),
        ("over the limit", b"\x30\xE6\x07", PacketTooLarge),
        ("the largest there is", b"\x30\xFF\xFF\xFF\x7F", PacketTooLarge),
    ] {
        assert_eq!(split_frame(bytes, limit).map_err(|error| error.reason), Err(expected), "{what}");
    }
    // 3 bytes of header and 997 of body are exactly the limit.
    assert_eq!(split_frame(b"\x30\xE5\x07", limit), Ok(Framing::Incomplete { needed: Some(limit) }));
    assert_eq!(split_frame(b"\x30\xE5", limit), Ok(Framing::Incomplete { needed: None }));
    assert_eq!(split_frame(b"\x30", limit), Ok(Framing::Incomplete { needed: None }));
    assert_eq!(split_frame(b"", limit), Ok(Framing::Incomplete { needed: None }));
}

#[test]
fn the_version_of_a_wrong_connect_is_still_known() {
    assert_eq!(Connect::version_of(b"\0\x04MQTT\x04\x03"), Some(V3));
    assert_eq!(Connect::version_of(b"\0\x04MQTT\x05"), Some(V5));
    assert_eq!(Connect::version_of(b"\0\x04MQTT\x06\x02"), None);
    assert_eq!(Connect::version_of(b"\0\x04MQT"), None);
}

/// What becomes of a packet of 5.0 with these properties; authentication data comes with a method.
fn verdict(kind: u8, area: &[u8]) -> Result<(), ReasonCode> {
    const METHOD: &[u8] = b"\x15\0\x01m";
    let kind_or_connect = if kind == 0 { kind::CONNECT } else { kind };
    let has_method = area.first() == Some(&id::AUTHENTICATION_METHOD);
    let may_have_method = matches!(kind, kind::CONNECT | kind::CONNACK | kind::AUTH);
    let area = if may_have_method && !has_method { [METHOD, area].concat() } else { area.to_vec() };
    let (first, body) = super::any_packet::with_area(kind_or_connect, &area, kind == 0);
    Packet::decode(Frame { first, body: &body }, V5).map(drop).map_err(|error| error.reason)
}
