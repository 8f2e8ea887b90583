//! The reason codes of each packet, as the tables of the standard list them.

use crate::mqtt::ReasonCode;
use crate::mqtt::codec::{Frame, Version};
use crate::mqtt::packet::{Packet, kind};

pub(super) const CONNECT_RETURNS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::UnsupportedProtocolVersion,
    ReasonCode::ClientIdentifierNotValid,
    ReasonCode::ServerUnavailable,
    ReasonCode::BadUserNameOrPassword,
    ReasonCode::NotAuthorized,
];

pub(super) const CONNECT_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::UnsupportedProtocolVersion,
    ReasonCode::ClientIdentifierNotValid,
    ReasonCode::BadUserNameOrPassword,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerUnavailable,
    ReasonCode::ServerBusy,
    ReasonCode::Banned,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::ConnectionRateExceeded,
];

pub(super) const PUBLISH_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
];

pub(super) const RELEASE_REASONS: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];

/// The first four are those of 3.1.1.
pub(super) const SUBSCRIBE_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

pub(super) const UNSUBSCRIBE_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
];

pub(super) const DISCONNECT_REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::DisconnectWithWill,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerBusy,
    ReasonCode::ServerShuttingDown,
    // Section 2.4 has it, table 3-10 does not.
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::KeepAliveTimeout,
    ReasonCode::SessionTakenOver,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::ConnectionRateExceeded,
    ReasonCode::MaximumConnectTime,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

pub(super) const AUTH_REASONS: &[ReasonCode] =
    &[ReasonCode::Success, ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate];

#[test]
fn each_packet_has_its_reasons_and_no_others() {
    /// Packet, version, the bytes before and after the code, reasons.
    type Row = (u8, Version, &'static [u8], &'static [u8], &'static [ReasonCode]);
    let packets: &[Row] = &[
        (kind::CONNACK, Version::V5, b"\0", b"\0", CONNECT_REASONS),
        (kind::PUBACK, Version::V5, b"\0\x01", b"", PUBLISH_REASONS),
        (kind::PUBREC, Version::V5, b"\0\x01", b"", PUBLISH_REASONS),
        (kind::PUBREL, Version::V5, b"\0\x01", b"", RELEASE_REASONS),
        (kind::PUBCOMP, Version::V5, b"\0\x01", b"", RELEASE_REASONS),
        (kind::SUBACK, Version::V5, b"\0\x01\0\0", b"", SUBSCRIBE_REASONS),
        (kind::SUBACK, Version::V3, b"\0\x01\0", b"", &SUBSCRIBE_REASONS[..4]),
        (kind::UNSUBACK, Version::V5, b"\0\x01\0\0", b"", UNSUBSCRIBE_REASONS),
        (kind::DISCONNECT, Version::V5, b"", b"", DISCONNECT_REASONS),
        (kind::AUTH, Version::V5, b"", b"\x04\x15\0\x01m", AUTH_REASONS),
    ];
    for &(kind, version, before, after, reasons) in packets {
        for code in 0..=u8::MAX {
            let first = kind << 4 | if kind == kind::PUBREL { 2 } else { 0 };
            let body = [before, &[code], after].concat();
            let answer = Packet::decode(Frame { first, body: &body }, version).map(drop).map_err(|error| error.reason);
            let is_listed = reasons.iter().any(|&reason| reason as u8 == code);
            let expected = if is_listed { Ok(()) } else { Err(ReasonCode::ProtocolError) };
            assert_eq!(answer, expected, "code 0x{code:02X} in packet {kind} of {version:?}");
        }
    }
}

#[test]
fn a_3_1_1_connack_has_six_return_codes() {
    for code in 0..=u8::MAX {
        let body = [0, code];
        let answer = Packet::decode(Frame { first: kind::CONNACK << 4, body: &body }, Version::V3);
        match (answer, CONNECT_RETURNS.get(usize::from(code))) {
            (Ok(Packet::ConnAck(connack)), Some(&expected)) => assert_eq!(connack.reason, expected),
            (Err(error), None) => assert_eq!(error.reason, ReasonCode::ProtocolError),
            (answer, _) => panic!("return code {code}: {answer:?}"),
        }
    }
}
