//! The value that a message carries, and how it is written: alone, in JSON, and within a text of JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::IgnoredAny;
use serde_json::Deserializer;

use crate::mqtt::{Form, Reading};

/// The value that a message carries. Numbers are texts here: they keep all their digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried<'a> {
    /// JSON, as it was written.
    Json(Cow<'a, str>),
    /// A text.
    Text(Cow<'a, str>),
    /// What is no UTF-8.
    Bytes(&'a [u8]),
}

impl<'a> Carried<'a> {
    /// What `payload` carries: that of a reading is known, that of a foreign client is looked at. JSON is JSON, other
    /// UTF-8 is text.
    pub fn of(payload: &'a [u8], reading: Option<&Reading>) -> Self {
        let form = reading.map(|reading| reading.form);
        if form == Some(Form::Json)
            && let Some(value) = value_of_object(payload)
        {
            return Self::of_json(value);
        }
        let Ok(text) = std::str::from_utf8(payload) else {
            return Self::Bytes(payload);
        };
        match form {
            Some(Form::Value) => Self::Json(Cow::Borrowed(text)),
            Some(Form::Text) => Self::Text(Cow::Borrowed(text)),
            _ if is_json(payload) => Self::Json(Cow::Borrowed(text.trim_matches(JSON_SPACE))),
            _ => Self::Text(Cow::Borrowed(text)),
        }
    }

    /// The value that `json` stands for: a string is a text.
    fn of_json(json: &'a str) -> Self {
        match serde_json::from_str::<String>(json) {
            Ok(text) if json.starts_with('"') => Self::Text(Cow::Owned(text)),
            _ => Self::Json(Cow::Borrowed(json)),
        }
    }

    /// Appends it as it is.
    pub fn put_plain(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(match self {
            Self::Json(text) | Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        });
    }

    /// Appends it as a value of JSON; bytes as a string of base64.
    pub fn put_json(&self, into: &mut Vec<u8>) {
        match self {
            Self::Json(json) => into.extend_from_slice(json.as_bytes()),
            Self::Text(text) => put_string(into, text),
            Self::Bytes(bytes) => {
                into.push(b'"');
                put_base64(into, bytes);
                into.push(b'"');
            }
        }
    }

    /// Appends it within a string of JSON that has been begun.
    pub fn put_within_string(&self, into: &mut Vec<u8>) {
        match self {
            // It is a string already.
            Self::Json(json) if json.len() >= 2 && json.starts_with('"') => {
                into.extend_from_slice(&json.as_bytes()[1..json.len() - 1]);
            }
            Self::Json(text) | Self::Text(text) => put_escaped(into, text),
            Self::Bytes(bytes) => put_base64(into, bytes),
        }
    }
}

/// What JSON takes for space.
const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Whether `bytes`, which are UTF-8, are one value of JSON. Nothing is made of it: no number is too large.
pub fn is_json(bytes: &[u8]) -> bool {
    // Most of what is none shows at once.
    let begin = bytes.iter().find(|byte| !JSON_SPACE.contains(&char::from(**byte)));
    begin.is_some_and(|byte| matches!(byte, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'))
        && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// The value in an object that [`super::payload::put_object`] made.
fn value_of_object(object: &[u8]) -> Option<&str> {
    let rest = object.strip_prefix(br#"{"topic":"#)?;
    let topic = &rest[..first_value_length(rest)?];
    let rest = rest[topic.len()..].strip_prefix(br#","value":"#)?;
    std::str::from_utf8(&rest[..first_value_length(rest)?]).ok()
}

/// Length of the value that `json` begins with.
fn first_value_length(json: &[u8]) -> Option<usize> {
    let mut values = Deserializer::from_slice(json).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

/// Appends `text` as a string of JSON.
pub fn put_string(into: &mut Vec<u8>, text: &str) {
    into.push(b'"');
    put_escaped(into, text);
    into.push(b'"');
}

/// Appends `text` as it stands within a string of JSON (RFC 8259, section 7).
fn put_escaped(into: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        into.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => into.extend_from_slice(br"\n"),
            b'\r' => into.extend_from_slice(br"\r"),
            b'\t' => into.extend_from_slice(br"\t"),
            byte @ (b'"' | b'\\') => into.extend_from_slice(&[b'\\', byte]),
            byte => {
                into.extend_from_slice(br"\u00");
                into.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    into.extend_from_slice(rest);
}

fn put_base64(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(BASE64.encode(bytes).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(put: impl Fn(&mut Vec<u8>)) -> String {
        let mut into = Vec::new();
        put(&mut into);
        String::from_utf8(into).unwrap()
    }

    #[test]
    fn json_of_a_foreign_client_stays_as_it_was_written() {
        for json in ["230.10", "1e400", "-0.0", "123456789012345678901234567890", "[1, 2]", r#"{"a" :1.0}"#, "null"] {
            assert_eq!(Carried::of(json.as_bytes(), None), Carried::Json(json.into()), "{json}");
        }
        assert_eq!(Carried::of(b" 1\r\n", None), Carried::Json("1".into()));
        for text in ["", "online", "007", "NaN", "+1", "1,5", "{", "1 2", "tru", "-"] {
            assert_eq!(Carried::of(text.as_bytes(), None), Carried::Text(text.into()), "{text}");
        }
        assert_eq!(Carried::of(b"\xff\x00", None), Carried::Bytes(b"\xff\x00"));
        assert_eq!(Carried::of(b"\"\xff\"", None), Carried::Bytes(b"\"\xff\""));
    }

    #[test]
    fn a_string_stands_in_a_string_once() {
        assert_eq!(written(|into| Carried::of(br#""a\"b""#, None).put_within_string(into)), r#"a\"b"#);
        assert_eq!(written(|into| Carried::of(br#"{"a":1}"#, None).put_within_string(into)), r#"{\"a\":1}"#);
        assert_eq!(written(|into| Carried::of(b"\xff", None).put_json(into)), r#""/w==""#);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_what_a_reader_of_its_json_gets(text in any::<String>()) {
            let json = written(|into| put_string(into, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_a_value_of_json(bytes in any::<Vec<u8>>()) {
            let json = written(|into| Carried::of(&bytes, None).put_json(into));
            prop_assert!(is_json(json.as_bytes()), "{}", json);
        }
    }
}
