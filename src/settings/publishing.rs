//! How something is published: the QoS and the form of the payload.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use crate::mqtt::QoS;

/// `0`, `1` or `2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Qos(pub QoS);

impl<'de> Deserialize<'de> for Qos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QosVisitor;

        impl Visitor<'_> for QosVisitor {
            type Value = Qos;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a QoS: 0 (at most once), 1 (at least once) or 2 (exactly once)")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Qos, E> {
                u8::try_from(number).ok().and_then(QoS::from_wire).map(Qos).ok_or_else(|| {
                    E::custom(format!(
                        "`{number}` is not a QoS\na QoS is 0 (at most once), 1 (at least once) or 2 (exactly once)"
                    ))
                })
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Qos, E> {
                u64::try_from(number)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
                    .and_then(|number| self.visit_u64(number))
            }
        }

        deserializer.deserialize_any(QosVisitor)
    }
}

/// What a published message holds. Default `plain`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Payload {
    /// The value alone: `230.1`.
    #[default]
    Plain,
    /// `{topic, value, unit, time, quality}`.
    Json,
    /// One JSON object of all points of a device.
    Object,
    /// A text with `{...}` in it.
    Template(String),
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.as_str() {
            "plain" => Self::Plain,
            "json" => Self::Json,
            "object" => Self::Object,
            _ if text.contains('{') => Self::Template(text),
            // Without a placeholder it would send the same text for ever: a slip of the pen.
            _ => return Err(D::Error::unknown_variant(&text, &["plain", "json", "object", "a \"{template}\""])),
        })
    }
}
