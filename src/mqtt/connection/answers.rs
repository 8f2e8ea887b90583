//! What a server makes of a client's mistakes, where the standard leaves it open or where clients and their tests know
//! mosquitto's answer better than the standard's: every one of them ends the connection either way.
//!
//! | the mistake | the standard | our answer |
//! |---|---|---|
//! | packet type 0; a packet that only a server sends, whatever it holds; AUTH | 0x81 where it is malformed too | 0x82 |
//! | a property that the packet does not have, but others do | 0x81 (section 2.2.2.2) | 0x82, but for SUBSCRIBE and UNSUBSCRIBE |
//! | anything in SUBSCRIBE or UNSUBSCRIBE but a shared subscription or a property that stands twice | 0x81 or 0x82 | 0x81 |
//! | an empty filter | 0x81, or 0x8F for that filter | 0x81 |
//! | a PUBLISH without topic and alias | 0x82 | 0x81 |
//! | a wildcard in a topic name | 0x81 or 0x90 | 0x81 |
//! | a response topic that is no topic name | 0x82 or 0x90 | 0x82 |
//! | a client identifier that is no string | 0x81 or 0x85 | 0x85 |
//! | control characters in a topic, a filter, a client identifier or a user name | may be refused (section 1.5.4) | 0x81 |
//! | a remaining length of five bytes, a body in a PING, an unknown reason in DISCONNECT | may be answered | nothing |
//! | another protocol name; credentials that cannot be read | may be answered | nothing |

use crate::mqtt::Packet;
use crate::mqtt::ReasonCode::{ClientIdentifierNotValid, MalformedPacket, ProtocolError};
use crate::mqtt::codec::mistake::{self, REPEATED_PROPERTY, SHARE_NO_LOCAL};
use crate::mqtt::codec::{CodecError, Frame, Version};
use crate::mqtt::packet::{Connect, kind};

/// A filter, a topic or a name with a character that stands for no text.
const CONTROL_CHARACTER: CodecError = CodecError::malformed("a control character (section 1.5.4)");

/// Whether the peer is told the reason, by CONNACK or DISCONNECT, before the connection is closed.
pub fn is_answered(error: &CodecError) -> bool {
    use mistake::{CREDENTIALS, DISCONNECT_REASON, LENGTH, PING_BODY, PROTOCOL_NAME};
    ![LENGTH, PING_BODY, DISCONNECT_REASON, PROTOCOL_NAME, CREDENTIALS].contains(error)
}

/// What is wrong with a packet that begins with `first`, whatever follows; `None` where that depends.
pub(super) fn to_first_byte(first: u8) -> Option<CodecError> {
    (first >> 4 == 0).then_some(CodecError::protocol("packet type 0 is reserved"))
}

/// The answer to a frame that cannot be decoded.
pub(super) fn to_frame(frame: Frame<'_>, error: CodecError) -> CodecError {
    let reason = match (frame.first >> 4, error) {
        (_, mistake::PING_BODY) => error.reason,
        // Only servers send these; and nobody has agreed with us on a way to authenticate.
        (kind::CONNACK | kind::AUTH, _) => ProtocolError,
        (kind::SUBACK | kind::UNSUBACK | kind::PINGRESP, error) if error != mistake::HEADER_FLAGS => ProtocolError,
        (kind::SUBSCRIBE | kind::UNSUBSCRIBE, error) if ![SHARE_NO_LOCAL, REPEATED_PROPERTY].contains(&error) => {
            MalformedPacket
        }
        (_, mistake::MISPLACED_PROPERTY | mistake::RESPONSE_TOPIC) => ProtocolError,
        (_, mistake::NO_TOPIC | mistake::WILDCARD_IN_TOPIC) => MalformedPacket,
        // 3.1.1 has an answer to this only where an identifier is missing.
        (_, mistake::CLIENT_ID) if Connect::version_of(frame.body) == Some(Version::V5) => ClientIdentifierNotValid,
        _ => error.reason,
    };
    CodecError { reason, ..error }
}

/// Looks at what the decoder leaves to others.
pub(super) fn check(packet: &Packet<'_>) -> Result<(), CodecError> {
    match packet {
        Packet::Publish(publish) if has_control_character(publish.topic) => Err(CONTROL_CHARACTER),
        Packet::Subscribe(subscribe) => subscribe.filters.iter().try_for_each(|(filter, _)| check_filter(filter)),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.iter().try_for_each(check_filter),
        Packet::Connect(connect) => check_connect(connect),
        _ => Ok(()),
    }
}

fn check_filter(filter: &str) -> Result<(), CodecError> {
    if filter.is_empty() {
        return Err(CodecError::malformed("an empty topic filter [MQTT-4.7.3-1]"));
    }
    if has_control_character(filter) {
        return Err(CONTROL_CHARACTER);
    }
    if let Some(shared) = filter.strip_prefix("$share/") {
        let (name, rest) = shared.split_once('/').unwrap_or((shared, ""));
        if name.contains('#') {
            return Err(CodecError { reason: MalformedPacket, ..mistake::SHARE });
        }
        if name.is_empty() || name.contains('+') || rest.is_empty() {
            return Err(mistake::SHARE);
        }
    }
    Ok(())
}

fn check_connect(connect: &Connect<'_>) -> Result<(), CodecError> {
    if has_control_character(connect.client_id) {
        let reason = if connect.version == Version::V5 { ClientIdentifierNotValid } else { MalformedPacket };
        return Err(CodecError { reason, ..mistake::CLIENT_ID });
    }
    if connect.username.is_some_and(has_control_character) {
        return Err(mistake::CREDENTIALS);
    }
    if connect.will.is_some_and(|will| has_control_character(will.topic)) {
        return Err(CONTROL_CHARACTER);
    }
    Ok(())
}

/// Whether there is one of U+0000 to U+001F or U+007F to U+009F.
fn has_control_character(text: &str) -> bool {
    // Of those beyond ASCII each begins with 0xC2. This is a pass over the topic of every message.
    let may_have = text.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == 0x7F) | (byte == 0xC2));
    may_have && text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::connection::{Received, Receiver};
    use crate::mqtt::{ReasonCode, Side};

    /// What a server makes of `input` on a connection of that version.
    fn verdict(version: Version, input: &[u8]) -> Result<(), (ReasonCode, bool)> {
        let mut server = Receiver::new(Side::Server, Version::V5, 1000, 10);
        if input[0] >> 4 != kind::CONNECT {
            let mut hello = Vec::new();
            Packet::Connect(Connect::new(version, "a")).encode(version, &mut hello);
            server.receive(&hello).unwrap();
        }
        match server.receive(input) {
            Ok(Received::Packet(..)) => Ok(()),
            Ok(Received::Incomplete { .. }) => panic!("{input:02X?} is incomplete"),
            Err(error) => Err((error.reason, is_answered(&error))),
        }
    }

    #[test]
    fn what_no_client_may_send_is_a_protocol_error_whatever_it_holds() {
        for input in [
            &b"\x0A"[..],
            b"\x00\x00",
            b"\x20\x02\0\0",
            b"\x21\x01\0",
            b"\x90\x01\0",
            b"\xB0\x04\0\x01\0\0",
            b"\xD0\0",
            b"\xF1\0",
        ] {
            assert_eq!(verdict(Version::V5, input), Err((ProtocolError, true)), "{input:02X?}");
        }
        assert_eq!(verdict(Version::V5, b"\x91\x01\0"), Err((MalformedPacket, true)));
    }

    #[test]
    fn a_property_of_another_packet_is_a_protocol_error_and_one_of_none_is_malformed() {
        let puback =
            |area: &[u8]| [b"\x40", &[4 + area.len() as u8][..], b"\0\x01\0", &[area.len() as u8], area].concat();
        assert_eq!(verdict(Version::V5, &puback(b"\x24\x01")), Err((ProtocolError, true)));
        assert_eq!(verdict(Version::V5, &puback(b"\x24")), Err((MalformedPacket, true)));
        assert_eq!(verdict(Version::V5, &puback(b"\x04\x01")), Err((MalformedPacket, true)));
        assert_eq!(verdict(Version::V5, b"\x82\x09\0\x01\x02\x24\x01\0\x01t\0"), Err((MalformedPacket, true)));
    }

    #[test]
    fn subscriptions_are_malformed_or_shared_wrongly() {
        let subscribe = |filter: &str| {
            let body = [b"\0\x01\0", &(filter.len() as u16).to_be_bytes()[..], filter.as_bytes(), b"\0"].concat();
            [&[0x82, body.len() as u8], &body[..]].concat()
        };
        for (filter, expected) in [
            ("", Err((MalformedPacket, true))),
            ("a\x01", Err((MalformedPacket, true))),
            ("a\u{9F}", Err((MalformedPacket, true))),
            ("\u{A0}Â", Ok(())),
            ("$share/#/t", Err((MalformedPacket, true))),
            ("$share/+/t", Err((ProtocolError, true))),
            ("$share//t", Err((ProtocolError, true))),
            ("$share/a/", Err((ProtocolError, true))),
            ("$share/a", Err((ProtocolError, true))),
            ("$share/a/t", Ok(())),
            ("$share", Ok(())),
        ] {
            assert_eq!(verdict(Version::V5, &subscribe(filter)), expected, "{filter:?}");
        }
        assert_eq!(verdict(Version::V5, b"\x82\x07\0\x01\0\0\x01t\x03"), Err((MalformedPacket, true)));
        assert_eq!(verdict(Version::V5, b"\xA2\x03\0\x01\0"), Err((MalformedPacket, true)));
        assert_eq!(verdict(Version::V5, b"\xA2\x05\0\x01\0\0\0"), Err((MalformedPacket, true)));
    }

    #[test]
    fn topics_are_text_without_wildcards() {
        for (body, expected) in [
            (&b"\0\x01#\0"[..], MalformedPacket),
            (b"\0\x01\x7F\0", MalformedPacket),
            (b"\0\0\0", MalformedPacket),
            (b"\0\x01t\x04\x08\0\x01#", ProtocolError),
        ] {
            let input = [&[0x30, body.len() as u8], body].concat();
            assert_eq!(verdict(Version::V5, &input), Err((expected, true)), "{body:02X?}");
        }
    }

    #[test]
    fn some_mistakes_are_not_answered() {
        for input in [
            &b"\x30\x80\x80\x80\x80\x01"[..],
            b"\xC0\x01\0",
            b"\xE0\x01\x05",
            b"\x10\x0D\0\x04MQTU\x05\x02\0\0\0\0\0",
            b"\x10\x10\0\x04MQTT\x05\x82\0\0\0\0\x01a\0\x01\xFF",
            b"\x10\x10\0\x04MQTT\x05\x82\0\0\0\0\x01a\0\x01\x01",
        ] {
            assert!(!verdict(Version::V5, input).unwrap_err().1, "{input:02X?}");
        }
    }

    #[test]
    fn a_client_identifier_that_is_no_text_is_not_valid_where_that_can_be_said() {
        for character in [0, 1, 0xFF] {
            let connect = [&b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01"[..], &[character]].concat();
            assert_eq!(verdict(Version::V5, &connect), Err((ClientIdentifierNotValid, true)));
            let connect = [&b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01"[..], &[character]].concat();
            assert_eq!(verdict(Version::V3, &connect), Err((MalformedPacket, true)));
        }
    }
}
