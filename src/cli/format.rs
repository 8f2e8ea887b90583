//! How `sub` prints a message: the format of `-F`.

use std::io::Write as _;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::mqtt::Message;

/// A format, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    parts: Vec<Part>,
    /// Whether an empty payload prints nothing at all, as mosquitto_sub does without -F and -v.
    only_with_payload: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Literal(u8),
    Topic,
    Payload,
    /// Payload, or `(null)` where it is empty.
    PayloadOrNull,
    PayloadHexLower,
    PayloadHexUpper,
    QoS,
    Retain,
    Length,
    PacketId,
    UnixTime,
    ContentType,
    ResponseTopic,
    CorrelationData,
    UserProperties,
}

/// A format that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("%{0} is not known; a percent sign is %%")]
    Unknown(char),
    #[error("a percent sign at the end; a percent sign is %%")]
    Dangling,
}

impl Format {
    /// The payload alone.
    pub(super) fn payload() -> Self {
        Self { parts: vec![Part::Payload], only_with_payload: true }
    }

    /// Topic and payload.
    pub(super) fn verbose() -> Self {
        Self { parts: vec![Part::Topic, Part::Literal(b' '), Part::PayloadOrNull], only_with_payload: false }
    }

    /// Appends the message; `false` where there is nothing to print.
    pub(super) fn write(&self, message: &Message, packet_id: u16, into: &mut Vec<u8>) -> bool {
        if self.only_with_payload && message.payload().is_empty() {
            return false;
        }
        for part in &self.parts {
            part.write(message, packet_id, into);
        }
        true
    }
}

impl Part {
    fn write(self, message: &Message, packet_id: u16, into: &mut Vec<u8>) {
        let payload = message.payload();
        // Writing into a Vec never fails.
        let _ = match self {
            Self::Literal(byte) => into.write_all(&[byte]),
            Self::Topic => into.write_all(message.topic().as_bytes()),
            Self::PayloadOrNull if payload.is_empty() => into.write_all(b"(null)"),
            Self::Payload | Self::PayloadOrNull => into.write_all(payload),
            Self::PayloadHexLower => payload.iter().try_for_each(|byte| write!(into, "{byte:02x}")),
            Self::PayloadHexUpper => payload.iter().try_for_each(|byte| write!(into, "{byte:02X}")),
            Self::QoS => write!(into, "{}", message.qos),
            Self::Retain => write!(into, "{}", u8::from(message.retain)),
            Self::Length => write!(into, "{}", payload.len()),
            Self::PacketId => write!(into, "{packet_id}"),
            Self::UnixTime => {
                let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                write!(into, "{}.{:09}", time.as_secs(), time.subsec_nanos())
            }
            Self::ContentType => into.write_all(message.properties().content_type().unwrap_or_default().as_bytes()),
            Self::ResponseTopic => into.write_all(message.properties().response_topic().unwrap_or_default().as_bytes()),
            Self::CorrelationData => into.write_all(message.properties().correlation_data().unwrap_or_default()),
            Self::UserProperties => {
                message.properties().user_properties().enumerate().try_for_each(|(index, (name, value))| {
                    let space = if index > 0 { " " } else { "" };
                    write!(into, "{space}{name}:{value}")
                })
            }
        };
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut characters = text.chars();
        let literal = |parts: &mut Vec<Part>, character: char| {
            let mut buffer = [0; 4];
            parts.extend(character.encode_utf8(&mut buffer).bytes().map(Part::Literal));
        };
        while let Some(character) = characters.next() {
            match character {
                '%' => parts.push(match characters.next().ok_or(FormatError::Dangling)? {
                    '%' => Part::Literal(b'%'),
                    't' => Part::Topic,
                    'p' => Part::Payload,
                    'x' => Part::PayloadHexLower,
                    'X' => Part::PayloadHexUpper,
                    'q' => Part::QoS,
                    'r' => Part::Retain,
                    'l' => Part::Length,
                    'm' => Part::PacketId,
                    'U' => Part::UnixTime,
                    'C' => Part::ContentType,
                    'R' => Part::ResponseTopic,
                    'D' => Part::CorrelationData,
                    'P' => Part::UserProperties,
                    unknown => return Err(FormatError::Unknown(unknown)),
                }),
                '\\' => match characters.next() {
                    Some('n') => parts.push(Part::Literal(b'\n')),
                    Some('t') => parts.push(Part::Literal(b'\t')),
                    Some('r') => parts.push(Part::Literal(b'\r')),
                    Some('0') => parts.push(Part::Literal(0)),
                    Some('\\') | None => parts.push(Part::Literal(b'\\')),
                    Some(other) => {
                        parts.push(Part::Literal(b'\\'));
                        literal(&mut parts, other);
                    }
                },
                other => literal(&mut parts, other),
            }
        }
        Ok(Self { parts, only_with_payload: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::properties::ForwardableBuilder;
    use crate::mqtt::{MessageBuilder, QoS, TopicName};

    fn print(format: &Format, payload: &[u8]) -> Option<String> {
        let topic = TopicName::new("a/b").unwrap();
        let properties =
            ForwardableBuilder::default().content_type("c").user_property("k", "v").user_property("k", "w");
        let message =
            MessageBuilder::new(&topic, payload).qos(QoS::AtLeastOnce).retain(true).properties(properties).build();
        let mut into = Vec::new();
        format.write(&message, 7, &mut into).then(|| String::from_utf8(into).unwrap())
    }

    #[test]
    fn each_letter_prints_what_it_stands_for() {
        let format: Format = r"ä %t|%p|%x|%X|%q|%r|%l|%m|%C|%R|%P|%%\t\q\\".parse().unwrap();
        assert_eq!(print(&format, b"\x4a").unwrap(), "ä a/b|J|4a|4A|1|1|1|7|c||k:v k:w|%\t\\q\\");
    }

    #[test]
    fn an_empty_payload_prints_nothing_alone_and_null_after_a_topic() {
        assert_eq!(print(&Format::payload(), b""), None);
        assert_eq!(print(&Format::payload(), b"x").as_deref(), Some("x"));
        assert_eq!(print(&Format::verbose(), b"").as_deref(), Some("a/b (null)"));
        assert_eq!(print(&Format::verbose(), b"x").as_deref(), Some("a/b x"));
    }

    #[test]
    fn letters_that_stand_for_nothing_are_refused() {
        assert_eq!("%y".parse::<Format>(), Err(FormatError::Unknown('y')));
        assert_eq!("50%".parse::<Format>(), Err(FormatError::Dangling));
    }
}
