//! What a bridge's route makes of a payload when it is sent: as it is, the value alone, JSON, or a template.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::carried::{Carried, put_string};
use super::payload::{put_object, put_object_at, rfc3339};
use super::payload_template::{Fields, PayloadTemplate};
use crate::mqtt::{Form, Quality, Reading, Sampled};

/// What becomes of a payload on its way out (`payload:` of a bridge's route).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HopPayload {
    /// It goes as it was published.
    #[default]
    AsPublished,
    /// The value alone, as text: `230.1`.
    Plain,
    /// `{topic, value, unit, time, quality}`.
    Json,
    /// What a template makes of it.
    Template(Arc<PayloadTemplate>),
}

/// What is known of a message that is being sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The topic that it was published on, which names the point; not the one of the hop.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// What the adapter that read it knows about it.
    pub reading: Option<&'a Reading>,
    /// When it was sampled, as far as that is known by now; of what is no reading, when it came.
    pub time: Sampled,
}

impl HopPayload {
    /// The payload with the names of the gateway and of the bridge put in.
    pub fn bound(&self, gateway: &str, bridge: &str) -> Self {
        match self {
            Self::Template(template) => Self::Template(Arc::new(template.bound(gateway, Some(bridge)))),
            other => other.clone(),
        }
    }

    /// Whether nothing goes out for `reading`: a value that is not available has no text.
    pub fn leaves_out(&self, reading: Option<&Reading>) -> bool {
        let is_text = match self {
            Self::AsPublished | Self::Json => false,
            Self::Plain => true,
            Self::Template(template) => !template.is_json(),
        };
        is_text && reading.is_some_and(|reading| reading.quality == Quality::Bad && reading.form != Form::Object)
    }

    /// Appends what is sent instead of the payload to `into`. `false`, and nothing is appended, where it goes as it is.
    ///
    /// An empty payload stays empty: it deletes what a server retains. So do objects of whole devices; only their time
    /// is put right.
    pub fn encode(&self, message: &Outgoing<'_>, into: &mut Vec<u8>) -> bool {
        if message.payload.is_empty() {
            return false;
        }
        let form = message.reading.map(|reading| reading.form);
        let was_right = message.reading.is_some_and(|reading| reading.sampled == message.time);
        match (self, form) {
            (Self::AsPublished, _) => return false,
            (Self::Plain, Some(Form::Json)) => Carried::of(message.payload, message.reading).put_plain(into),
            (Self::Plain, _) => return false,
            // The adapter made the very same.
            (Self::Json, Some(Form::Json | Form::Object)) if was_right => return false,
            (Self::Json, Some(Form::Object)) => {
                let sampled = message.reading.map_or(message.time, |reading| reading.sampled);
                return put_object_at(into, message.payload, sampled, message.time);
            }
            (Self::Json, _) => put_object(into, &message.fields()),
            (Self::Template(template), _) => template.render(&message.fields(), into),
        }
        true
    }

    /// Appends the payload as an element of a JSON array. What is no JSON is quoted, or in base64.
    pub fn encode_element(&self, message: &Outgoing<'_>, into: &mut Vec<u8>) {
        match self {
            Self::Template(template) if !template.is_json() => {
                let mut text = Vec::new();
                template.render(&message.fields(), &mut text);
                Carried::of(&text, None).put_json(into);
            }
            Self::Json if message.payload.is_empty() => put_object(into, &message.fields()),
            Self::Plain => Carried::of(message.payload, message.reading).put_json(into),
            _ if self.encode(message, into) => {}
            _ if message.reading.is_some_and(|reading| reading.form == Form::Text) => {
                put_string(into, &String::from_utf8_lossy(message.payload));
            }
            _ => Carried::of(message.payload, None).put_json(into),
        }
    }

    /// The time of a reading, where its payload does not tell it: what travels in the user property `time`.
    pub fn user_time(&self, message: &Outgoing<'_>) -> Option<String> {
        let reading = message.reading?;
        let is_told = match self {
            Self::AsPublished => matches!(reading.form, Form::Json | Form::Object) && reading.sampled == message.time,
            Self::Plain => reading.form == Form::Object && reading.sampled == message.time,
            Self::Json => true,
            Self::Template(template) => template.tells_time(),
        };
        (!is_told).then(|| rfc3339(message.time.time_ms))
    }
}

impl<'a> Outgoing<'a> {
    fn fields(&self) -> Fields<'a> {
        let reading = self.reading;
        // Of a foreign client's message nothing else can be in doubt.
        let quality = match reading.map_or(Quality::Good, |reading| reading.quality) {
            Quality::Good if !self.time.is_certain() => Quality::Uncertain,
            quality => quality,
        };
        Fields {
            topic: self.topic,
            value: Carried::of(self.payload, reading),
            unit: reading.and_then(|reading| reading.unit.as_deref()),
            time: self.time,
            quality,
            device: reading.map(|reading| &*reading.device),
            point: reading.and_then(|reading| reading.point.as_deref()),
        }
    }
}

impl fmt::Display for HopPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsPublished => f.write_str("as published"),
            Self::Plain => f.write_str("plain"),
            Self::Json => f.write_str("json"),
            Self::Template(template) => template.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for HopPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl Visitor<'_> for Word {
            type Value = HopPayload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`plain`, `json` or a template")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<HopPayload, E> {
                match word {
                    "plain" => Ok(HopPayload::Plain),
                    "json" => Ok(HopPayload::Json),
                    text if text.contains('{') => match PayloadTemplate::parse(text) {
                        Ok(template) => Ok(HopPayload::Template(Arc::new(template))),
                        Err(error) => Err(E::custom(error)),
                    },
                    word => Err(E::unknown_variant(word, &["plain", "json", "a template"])),
                }
            }
        }

        deserializer.deserialize_str(Word)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mqtt::Millis;

    const TIME: &str = "2026-11-22T12:40:08.017Z";

    fn sampled() -> Sampled {
        Sampled::at(1_795_351_208_017)
    }

    fn reading(form: Form, quality: Quality) -> Reading {
        Reading {
            sampled: sampled(),
            unit: Some("V".into()),
            quality,
            device: "m".into(),
            point: Some("u".into()),
            form,
        }
    }

    fn payload(text: &str) -> HopPayload {
        HopPayload::deserialize(json!(text)).unwrap().bound("edge", "aws")
    }

    fn outgoing<'a>(payload: &'a [u8], reading: Option<&'a Reading>) -> Outgoing<'a> {
        Outgoing { topic: "edge/m/u", payload, reading, time: sampled() }
    }

    /// What is sent, `None` where it goes as it is.
    fn sent(hop: &HopPayload, message: &Outgoing<'_>) -> Option<String> {
        let mut into = b"before".to_vec();
        let made = hop.encode(message, &mut into);
        let made = made.then(|| String::from_utf8(into[6..].to_vec()).unwrap());
        assert!(made.is_some() || into == b"before");
        made
    }

    fn object(value: &str, rest: &str) -> String {
        format!(r#"{{"topic":"edge/m/u","value":{value}{rest},"time":"{TIME}","quality":"good"}}"#)
    }

    #[test]
    fn json_has_the_time_and_the_digits_of_a_reading() {
        let value = reading(Form::Value, Quality::Good);
        assert_eq!(
            sent(&HopPayload::Json, &outgoing(b"230.10", Some(&value))),
            Some(object("230.10", r#","unit":"V""#))
        );
        let text = reading(Form::Text, Quality::Good);
        assert_eq!(
            sent(&HopPayload::Json, &outgoing(b"0123", Some(&text))),
            Some(object(r#""0123""#, r#","unit":"V""#))
        );
        assert_eq!(sent(&HopPayload::Json, &outgoing(b"123", Some(&text))), Some(object(r#""123""#, r#","unit":"V""#)));
    }

    #[test]
    fn json_of_a_foreign_client_stays_json_text_is_quoted_and_other_bytes_are_base64() {
        let foreign = |bytes: &[u8]| sent(&HopPayload::Json, &outgoing(bytes, None)).unwrap();
        assert_eq!(foreign(b"1e400"), object("1e400", ""));
        assert_eq!(foreign(br#"{"a": 1.50}"#), object(r#"{"a": 1.50}"#, ""));
        assert_eq!(foreign(b"on \"1\""), object(r#""on \"1\"""#, ""));
        assert_eq!(foreign(b"\xff\xfe"), object(r#""//4=""#, r#","encoding":"base64""#));
        // When it came may be in doubt.
        let time = Sampled { uncertain_at: Some(Millis(1)), ..sampled() };
        let message = Outgoing { time, ..outgoing(b"1", None) };
        let expected = object("1", "").replace("good", "uncertain");
        assert_eq!(sent(&HopPayload::Json, &message), Some(expected));
        // It deletes what is retained.
        assert_eq!(sent(&HopPayload::Json, &outgoing(b"", None)), None);
    }

    #[test]
    fn what_is_json_already_is_not_wrapped_again() {
        let made = object("230.10", r#","unit":"V""#);
        let json = reading(Form::Json, Quality::Good);
        assert_eq!(sent(&HopPayload::Json, &outgoing(made.as_bytes(), Some(&json))), None);
        let whole = reading(Form::Object, Quality::Good);
        assert_eq!(sent(&HopPayload::Json, &outgoing(br#"{"a":1,"time":"x"}"#, Some(&whole))), None);
        // A foreign client's that looks like it is a value like another.
        assert_eq!(sent(&HopPayload::Json, &outgoing(made.as_bytes(), None)), Some(object(&made, "")));
    }

    #[test]
    fn the_value_is_taken_out_of_json_for_plain_and_templates() {
        let json = reading(Form::Json, Quality::Good);
        for (value, plain) in [("230.10", "230.10"), (r#""a\"b""#, "a\"b"), (r#"{"a":[1,2]}"#, r#"{"a":[1,2]}"#)] {
            let made = object(value, r#","unit":"V""#);
            let message = outgoing(made.as_bytes(), Some(&json));
            assert_eq!(sent(&HopPayload::Plain, &message).as_deref(), Some(plain));
            assert_eq!(sent(&payload("{value} {unit} {bridge}"), &message), Some(format!("{plain} V aws")));
            let expected = format!(r#"{{"v":{value},"t":"{TIME}"}}"#);
            assert_eq!(sent(&payload(r#"{"v":{value},"t":"{time}"}"#), &message), Some(expected));
        }
        let value = reading(Form::Value, Quality::Good);
        assert_eq!(sent(&HopPayload::Plain, &outgoing(b"1.0", Some(&value))), None);
        assert_eq!(sent(&HopPayload::AsPublished, &outgoing(b"1.0", Some(&value))), None);
    }

    #[test]
    fn a_time_that_became_known_is_put_right() {
        let uncertain = |form| {
            let sampled = Sampled { time_ms: 0, uncertain_at: Some(Millis(1)) };
            Reading { sampled, ..reading(form, Quality::Good) }
        };
        let made =
            r#"{"topic":"edge/m/u","value":1.50,"unit":"V","time":"1970-01-01T00:00:00.000Z","quality":"uncertain"}"#;
        let json = uncertain(Form::Json);
        let message = outgoing(made.as_bytes(), Some(&json));
        assert_eq!(sent(&HopPayload::Json, &message), Some(object("1.50", r#","unit":"V""#)));
        assert_eq!(HopPayload::AsPublished.user_time(&message).as_deref(), Some(TIME));
        // And stays as it is where nothing is known yet.
        let message = Outgoing { time: json.sampled, ..message };
        assert_eq!(sent(&HopPayload::Json, &message), None);
        let whole = uncertain(Form::Object);
        let message = outgoing(br#"{"a":1,"time":"1970-01-01T00:00:00.000Z","quality":"uncertain"}"#, Some(&whole));
        assert_eq!(sent(&HopPayload::Json, &message), Some(format!(r#"{{"a":1,"time":"{TIME}"}}"#)));
    }

    #[test]
    fn the_time_travels_beside_what_does_not_tell_it() {
        let time = |hop: &HopPayload, form| {
            let reading = reading(form, Quality::Good);
            hop.user_time(&outgoing(b"1", Some(&reading))).is_some()
        };
        let forms = [Form::Value, Form::Text, Form::Json, Form::Object, Form::Template];
        let told = |hop: &HopPayload| forms.map(|form| time(hop, form));
        assert_eq!(told(&HopPayload::AsPublished), [true, true, false, false, true]);
        assert_eq!(told(&HopPayload::Plain), [true, true, true, false, true]);
        assert_eq!(told(&HopPayload::Json), [false; 5]);
        assert_eq!(told(&payload("{value}")), [true; 5]);
        assert_eq!(told(&payload("{value} {time_ms}")), [false; 5]);
        assert_eq!(HopPayload::AsPublished.user_time(&outgoing(b"1", None)), None);
        let value = reading(Form::Value, Quality::Good);
        assert_eq!(HopPayload::Plain.user_time(&outgoing(b"1", Some(&value))).as_deref(), Some(TIME));
    }

    #[test]
    fn each_element_of_an_array_is_json() {
        let element = |hop: &HopPayload, bytes: &[u8], reading: Option<&Reading>| {
            let mut into = Vec::new();
            hop.encode_element(&outgoing(bytes, reading), &mut into);
            String::from_utf8(into).unwrap()
        };
        let text = reading(Form::Text, Quality::Good);
        let json = reading(Form::Json, Quality::Good);
        let made = object("1.50", r#","unit":"V""#);
        assert_eq!(element(&HopPayload::Json, b"1", None), object("1", ""));
        assert_eq!(element(&HopPayload::Json, b"", None), object(r#""""#, ""));
        assert_eq!(element(&HopPayload::Json, made.as_bytes(), Some(&json)), made);
        assert_eq!(element(&HopPayload::AsPublished, made.as_bytes(), Some(&json)), made);
        assert_eq!(element(&HopPayload::Plain, made.as_bytes(), Some(&json)), "1.50");
        for hop in [HopPayload::Plain, HopPayload::AsPublished] {
            assert_eq!(element(&hop, b"12", Some(&text)), r#""12""#);
            assert_eq!(element(&hop, b"12", None), "12");
            assert_eq!(element(&hop, b"\xff", None), r#""/w==""#);
            assert_eq!(element(&hop, b"", None), r#""""#);
        }
        assert_eq!(element(&payload("{value};{unit}"), b"1", Some(&text)), r#""1;V""#);
        assert_eq!(element(&payload(r#"["{value}"]"#), b"1", Some(&text)), r#"["1"]"#);
    }

    #[test]
    fn a_value_that_is_not_available_has_no_text() {
        let bad = |form| reading(form, Quality::Bad);
        let template = payload("{value}");
        for hop in [&HopPayload::Plain, &template] {
            assert!(hop.leaves_out(Some(&bad(Form::Json))));
            assert!(!hop.leaves_out(Some(&bad(Form::Object))));
            assert!(!hop.leaves_out(None));
        }
        for hop in [&HopPayload::Json, &HopPayload::AsPublished, &payload(r#"{"v":{value}}"#)] {
            assert!(!hop.leaves_out(Some(&bad(Form::Json))));
        }
    }
}
