//! Words and numbers of the `modbus:` section, each with the rule about it.

use std::fmt;
use std::net::Ipv6Addr;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::mapping::register::{Order, RegisterType, Unavailable};
use crate::settings::{Located, NOT_AVAILABLE_YET, nearest, one_of, split_host};

/// The port of Modbus TCP.
const DEFAULT_PORT: u16 = 502;

/// What [`TypeWord`] reads.
const TYPES: [&str; 11] =
    ["uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "bcd16", "bcd32", "string"];

/// A wire address, 0 to 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Address(pub u16);

/// A unit id, 0 to 247, or 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct UnitId(pub u8);

/// `ABCD`, `CDAB`, `BADC` or `DCBA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OrderWord(pub Order);

/// A type in registers; a string's length stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum TypeWord {
    /// Any type but text.
    Number(RegisterType),
    /// `string`.
    Text,
}

/// How frames are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Framing {
    /// With a header that names transaction and length.
    Tcp,
    /// As on a serial line, with a check sum.
    Rtu,
}

/// A host and its port: `plc.local`, `192.168.1.30:1502`, `[fe80::1]:502`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Host {
    /// Name or address, without brackets.
    pub name: String,
    /// Default 502.
    pub port: u16,
}

/// A raw number in a `map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapKey(pub i64);

/// The word for a raw number in a `map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapWord(pub String);

/// A whole number or a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub Unavailable);

/// `write: true`, or `write: { min, max }`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Write {
    /// Not written.
    No,
    /// Written, within what the type holds.
    Yes,
    /// Written within these limits.
    Within(WriteLimits),
}

/// The limits of a writable point, in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteLimits {
    /// The smallest value.
    pub min: Option<Located<f64>>,
    /// The largest value.
    pub max: Option<Located<f64>>,
}

impl TryFrom<u64> for Address {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        u16::try_from(number)
            .map(Self)
            .map_err(|_| "an address is 0 to 65535\nit is the address on the wire: 40001 of a manual is `holding: 0`")
    }
}

impl TryFrom<u64> for UnitId {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        match u8::try_from(number) {
            Ok(id @ (0..=247 | 255)) => Ok(Self(id)),
            _ => Err("a unit id is 0 to 247, or 255"),
        }
    }
}

impl TryFrom<String> for OrderWord {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Ok(Self(match word.to_ascii_uppercase().as_str() {
            "ABCD" => Order::Abcd,
            "CDAB" => Order::Cdab,
            "BADC" => Order::Badc,
            "DCBA" => Order::Dcba,
            _ => return Err(unknown(&word, "order of bytes", &["ABCD", "CDAB", "BADC", "DCBA"])),
        }))
    }
}

impl TryFrom<String> for TypeWord {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        Ok(Self::Number(match word.as_str() {
            "uint16" => RegisterType::Uint16,
            "int16" => RegisterType::Int16,
            "uint32" => RegisterType::Uint32,
            "int32" => RegisterType::Int32,
            "uint64" => RegisterType::Uint64,
            "int64" => RegisterType::Int64,
            "float32" => RegisterType::Float32,
            "float64" => RegisterType::Float64,
            "bcd16" => RegisterType::Bcd16,
            "bcd32" => RegisterType::Bcd32,
            "string" => return Ok(Self::Text),
            _ => {
                return Err(match meant_type(&word) {
                    Some(meant) => format!("`{word}` is no type\ndid you mean `{meant}`?"),
                    None => unknown(&word, "type", &TYPES),
                });
            }
        }))
    }
}

impl TryFrom<String> for Framing {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "tcp" => Ok(Self::Tcp),
            "rtu" => Ok(Self::Rtu),
            "ascii" => Err(format!("`framing: ascii` is {NOT_AVAILABLE_YET}\nthere are tcp and rtu")),
            _ => Err(unknown(&word, "framing", &["tcp", "rtu"])),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // Nobody puts brackets around an address that has no port behind it.
        let split = match text.parse::<Ipv6Addr>() {
            Ok(_) => Ok((text.clone(), None)),
            Err(_) => split_host(&text),
        };
        match split {
            Ok((name, port)) if port != Some(0) => Ok(Self { name, port: port.unwrap_or(DEFAULT_PORT) }),
            _ => Err(format!(
                "`{text}` is no host\na host is a name or an address, with or without a port: 192.168.1.30:1502"
            )),
        }
    }
}

/// Names that manuals have for our types, by ours.
fn meant_type(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "float" | "real" | "single" | "f32" => "float32",
        "double" | "lreal" | "f64" => "float64",
        "word" | "u16" | "ushort" => "uint16",
        "short" | "i16" | "s16" | "int" => "int16",
        "dword" | "u32" | "udint" => "uint32",
        "long" | "i32" | "s32" | "dint" => "int32",
        "u64" => "uint64",
        "i64" | "s64" => "int64",
        "text" | "char" => "string",
        _ => return None,
    })
}

/// A line break parts what is wrong from what would be right.
fn unknown(word: &str, what: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(meant) => format!("`{word}` is no {what}\ndid you mean `{meant}`?"),
        None => format!("`{word}` is no {what}\nthere are {}", one_of(known, "and")),
    }
}

/// Keys arrive as integers or as text, as the file's format has it.
impl<'de> Deserialize<'de> for MapKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = MapKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<MapKey, E> {
                Ok(MapKey(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<MapKey, E> {
                i64::try_from(number).map(MapKey).map_err(|_| E::custom("a number in a map has at most 63 bits"))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MapKey, E> {
                let number = match text.strip_prefix("0x") {
                    Some(hex) => i64::from_str_radix(hex, 16).ok(),
                    None => text.parse().ok(),
                };
                number.map(MapKey).ok_or_else(|| E::custom(format!("`{text}` is no whole number")))
            }
        }

        deserializer.deserialize_any(KeyVisitor)
    }
}

/// `on`, `off`, `true` and numbers are words here, quoted or not.
impl<'de> Deserialize<'de> for MapWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;

        impl Visitor<'_> for WordVisitor {
            type Value = MapWord;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MapWord, E> {
                Ok(MapWord(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<MapWord, E> {
                Ok(MapWord(value.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<MapWord, E> {
                Ok(MapWord(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<MapWord, E> {
                Ok(MapWord(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<MapWord, E> {
                Ok(MapWord(number.to_string()))
            }
        }

        deserializer.deserialize_any(WordVisitor)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;

        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(Unavailable::Integer(i128::from(number))))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(Unavailable::Integer(i128::from(number))))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
                Ok(Number(Unavailable::Float(number)))
            }
        }

        deserializer.deserialize_any(NumberVisitor)
    }
}

impl<'de> Deserialize<'de> for Write {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WriteVisitor;

        impl<'de> Visitor<'de> for WriteVisitor {
            type Value = Write;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, or limits as { min: 5, max: 35 }")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Write, E> {
                Ok(if on { Write::Yes } else { Write::No })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Write, A::Error> {
                WriteLimits::deserialize(MapAccessDeserializer::new(map)).map(Write::Within)
            }
        }

        deserializer.deserialize_any(WriteVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_read_as_people_write_them() {
        let host = |text: &str| Host::try_from(text.to_owned()).map(|host| (host.name, host.port));
        assert_eq!(host("plc.local"), Ok(("plc.local".into(), 502)));
        assert_eq!(host("192.168.1.30:1502"), Ok(("192.168.1.30".into(), 1502)));
        assert_eq!(host("[fe80::1]:1502"), Ok(("fe80::1".into(), 1502)));
        assert_eq!(host("fe80::1"), Ok(("fe80::1".into(), 502)));
        for wrong in ["", ":502", "host:port", "host:0", "tcp://host", "[::1", "host:70000"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn maps_take_numbers_and_text_as_keys_and_anything_as_words() {
        let map: std::collections::BTreeMap<MapKey, MapWord> =
            serde_json::from_str(r#"{ "1": "off", "0x10": true, "-2": 7 }"#).unwrap();
        let map: Vec<_> = map.into_iter().map(|(key, word)| (key.0, word.0)).collect();
        assert_eq!(map, [(-2, "7".into()), (1, "off".into()), (16, "true".into())]);
    }
}
