//! Our decoder against another one, `mqtt-protocol-core`: the same packets, the same fields, the same verdicts,
//! but for the exceptions that stand here with the section that speaks for us.

use proptest::prelude::*;

use super::any_packet::{any_area, damage, values};
use super::malformed::MALFORMED;
use super::round_trip::candidates;
use super::second_fields::{our_fields, second_fields};
use crate::mqtt::codec::{CodecError, Frame, Version};
use crate::mqtt::packet::{Connect, Packet, kind};
use crate::mqtt::{ReasonCode, topic};

/// Rules that we check and the second decoder does not: the words of our error, and the section.
const ONLY_WE_REFUSE: &[(&str, &str)] = &[
    ("reserved flags of the fixed header [MQTT-2.1.3-1]", "2.1.3; it sees the flags of a PUBLISH only"),
    ("bytes after the end of the packet", "2.1.4: the remaining length is that of the packet (its 3.1.1)"),
    ("a string has the character U+0000", "1.5.4"),
    ("a topic name has the character U+0000 [MQTT-4.7.3-2]", "4.7.3"),
    ("the will topic has the character U+0000 [MQTT-1.5.4-2]", "1.5.4"),
    ("a variable byte integer has more bytes than it may", "1.5.5: the shortest encoding [MQTT-1.5.5-1]"),
    ("packet identifier 0 [MQTT-2.2.1-3]", "2.2.1"),
    ("the reserved connect flag [MQTT-3.1.2-3]", "3.1.2.3"),
    ("will QoS 3 [MQTT-3.1.2-12]", "3.1.2.6"),
    ("will QoS or will retain without a will [MQTT-3.1.2-11, MQTT-3.1.2-13]", "3.1.2.6 and 3.1.2.7"),
    ("authentication data without an authentication method", "3.1.2.11.10"),
    ("the will topic is no topic name [MQTT-4.7.0-1]", "4.7.0 and 4.7.3"),
    ("no client identifier for a session that stays (3.1.1) [MQTT-3.1.3-8]", "3.1.1, section 3.1.3.1"),
    ("the client identifier is no string [MQTT-3.1.3-4]", "1.5.4"),
    ("user name or password cannot be read", "1.5.4"),
    ("reserved flags of a CONNACK [MQTT-3.2.2-1]", "3.2.2.1"),
    ("session present with an error [MQTT-3.2.2-6]", "3.2.2.1.1"),
    ("DUP with QoS 0 [MQTT-3.3.1-2]", "3.3.1.1"),
    ("an empty topic name [MQTT-4.7.3-1]", "3.1.1, section 4.7.3"),
    ("an empty topic name without a topic alias", "3.3.2.1"),
    ("a topic name has a wildcard [MQTT-3.3.2-2]", "3.3.2.1"),
    ("the response topic is no topic name [MQTT-3.3.2-14]", "3.3.2.3.5"),
    ("reserved bits or QoS 3 in a SUBSCRIBE (3.1.1) [MQTT-3-8.3-4]", "3.1.1, section 3.8.3.1: it reads options of 5.0"),
    ("no local on a shared subscription [MQTT-3.8.3-4]", "3.8.3.1"),
    ("AUTH without an authentication method (section 3.15.2.2.2)", "3.15.2.2.2: it takes one that says success"),
];

/// As above, for rules that the second decoder leaves out in these packets only.
const ONLY_WE_REFUSE_IN: &[(u8, &str, &str)] = &[
    (kind::PUBLISH, "a variable byte integer runs past the end of the packet", "3.3.2.3.1: there is a property length"),
    (kind::SUBSCRIBE, "a property stands twice", "3.8.2.1.2: one subscription identifier"),
    (kind::AUTH, "a variable byte integer runs past the end of the packet", "3.15.2.2.1: as above"),
];

/// Why the second decoder is wrong to refuse what we have taken; `None` where it must not.
fn only_the_second_refuses(packet: &Packet<'_>) -> Option<&'static str> {
    let is_unfit_share = |filter: &str| filter.starts_with("$share/") && topic::validate_filter(filter).is_err();
    match packet {
        Packet::Connect(connect) if connect.is_3_1 => Some("it does not know MQTT 3.1"),
        Packet::Connect(connect) if connect.username.is_none() && connect.password.is_some() => {
            Some("3.1.2.9: this version of the protocol allows a password without a user name")
        }
        Packet::Subscribe(subscribe) if subscribe.filters.iter().any(|(filter, _)| is_unfit_share(filter)) => {
            Some("3.9.3: an invalid filter is answered by 0x8F in the SUBACK")
        }
        Packet::Unsubscribe(unsubscribe) if unsubscribe.filters.iter().any(is_unfit_share) => {
            Some("3.11.3: an invalid filter is answered by 0x8F in the UNSUBACK")
        }
        Packet::Disconnect(disconnect) if disconnect.reason == ReasonCode::BadAuthenticationMethod => {
            Some("2.4: 0x8C is a reason of DISCONNECT, though table 3-10 leaves it out")
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_second_decoder_reads_what_we_write(values in values()) {
        for version in [Version::V3, Version::V5] {
            for packet in values.packets(version) {
                let mut bytes = Vec::new();
                packet.encode(version, &mut bytes);
                let start = 1 + bytes[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
                match second_fields(bytes[0], &bytes[start..], version) {
                    Ok(fields) => prop_assert_eq!(fields, our_fields(&packet, version)),
                    Err(error) => {
                        prop_assert!(only_the_second_refuses(&packet).is_some(), "{error:?}: {packet:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn both_decoders_judge_alike(
        values in values(), damage in damage(), area in any_area(), of_will: bool, publish_flags in 0u8..16,
    ) {
        for (first, body) in candidates(&values, &damage, &area, of_will) {
            for version in [Version::V3, Version::V5] {
                compare(first, &body, version).map_err(TestCaseError::fail)?;
                if first >> 4 == kind::PUBLISH {
                    compare(first & 0xF0 | publish_flags, &body, version).map_err(TestCaseError::fail)?;
                }
            }
        }
    }

    #[test]
    fn both_decoders_judge_arbitrary_bytes_alike(body in proptest::collection::vec(any::<u8>(), 0..24)) {
        for kind in kind::CONNECT..=kind::AUTH {
            for version in [Version::V3, Version::V5] {
                let flags = if matches!(kind, kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE) { 2 } else { 0 };
                compare(kind << 4 | flags, &body, version).map_err(TestCaseError::fail)?;
            }
        }
    }
}

#[test]
fn the_exceptions_are_those_that_the_malformed_packets_need() {
    let mut needed = Vec::new();
    for &(what, version, first, body, _) in MALFORMED.iter().copied().flatten() {
        match compare(first, body, version) {
            Ok(exception) => needed.extend(exception),
            Err(difference) => panic!("{what}: {difference}"),
        }
    }
    for (words, _) in ONLY_WE_REFUSE {
        assert!(needed.contains(words), "no packet needs the exception for {words}");
    }
}

/// Compares the verdicts on one packet, and the fields where both take it.
///
/// Gives the words of the exception that was needed, and as error a difference that no exception covers.
fn compare(first: u8, body: &[u8], version: Version) -> Result<Option<&'static str>, String> {
    let version = match first >> 4 {
        // A CONNECT says its version itself; the second decoder has to be told.
        kind::CONNECT => Connect::version_of(body).unwrap_or(version),
        // The second decoder has no AUTH in 3.1.1 to compare with.
        kind::AUTH => Version::V5,
        _ => version,
    };
    let ours = Packet::decode(Frame { first, body }, version);
    let theirs = second_fields(first, body, version);
    let difference = match (&ours, &theirs) {
        (Err(_), Err(_)) => return Ok(None),
        (Ok(packet), Ok(fields)) if our_fields(packet, version) == *fields => return Ok(None),
        (Ok(_), Ok(_)) => "the fields differ",
        (Ok(packet), Err(_)) => match only_the_second_refuses(packet) {
            Some(_) => return Ok(None),
            None => "only the second refuses",
        },
        (Err(CodecError { what, .. }), Ok(_)) => {
            let everywhere = ONLY_WE_REFUSE.iter().any(|(words, _)| words == what);
            let here = ONLY_WE_REFUSE_IN.iter().any(|(kind, words, _)| (*kind, *words) == (first >> 4, *what));
            if everywhere || here {
                return Ok(Some(what));
            }
            "only we refuse"
        }
    };
    Err(format!("{difference}: {version:?} 0x{first:02X} {body:02X?}\nours: {ours:?}\nsecond: {theirs:?}"))
}
