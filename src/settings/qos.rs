//! The QoS of a message, as users write it.

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
