//! A payload after a template of the user's: `{"v": {value}, "t": "{time}"}`.
//!
//! | name | stands for |
//! |---|---|
//! | `{topic}` | the topic that the message was published on |
//! | `{value}` | the value alone |
//! | `{unit}` | the physical unit |
//! | `{time}`, `{time_ms}` | when it was sampled, else when it came: RFC 3339, and milliseconds since the Unix epoch |
//! | `{quality}` | good, uncertain or bad |
//! | `{device}`, `{point}` | where it was read |
//! | `{gateway}`, `{bridge}` | their names |
//!
//! All other braces stand for themselves, so that JSON needs no doubling. Where the template is JSON, what is put in is
//! JSON, too: text is quoted where no quotes stand around the name, and escaped where they do; what a message does not
//! have is `null`, or empty between quotes. Anywhere else the bare text is put in, and nothing for what is not there.

use std::fmt;

use super::carried::{Carried, is_json, put_string};
use super::payload::{put_time, quality};
use crate::mqtt::{Quality, Sampled};
use crate::settings::{nearest, one_of};

/// A template of payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadTemplate {
    written: String,
    parts: Vec<Part>,
    is_json: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name { name: Name, in_string: bool },
}

/// What may stand between braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Topic,
    Value,
    Unit,
    Time,
    TimeMs,
    Quality,
    Device,
    Point,
    Gateway,
    Bridge,
}

const NAMES: [(&str, Name); 10] = [
    ("topic", Name::Topic),
    ("value", Name::Value),
    ("unit", Name::Unit),
    ("time", Name::Time),
    ("time_ms", Name::TimeMs),
    ("quality", Name::Quality),
    ("device", Name::Device),
    ("point", Name::Point),
    ("gateway", Name::Gateway),
    ("bridge", Name::Bridge),
];

/// What a message has for the names.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    /// The topic that it was published on.
    pub topic: &'a str,
    /// The value alone.
    pub value: Carried<'a>,
    /// The physical unit.
    pub unit: Option<&'a str>,
    /// When it was sampled, else when it came.
    pub time: Sampled,
    /// How far it can be trusted.
    pub quality: Quality,
    /// The device that it was read from.
    pub device: Option<&'a str>,
    /// The point of the device.
    pub point: Option<&'a str>,
}

/// Why a text is no template of payloads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadTemplateError {
    /// A name that no template knows, and the one that was probably meant.
    #[error("`{{{name}}}` stands for nothing\n{}", .near.as_ref().map_or_else(all_names, |near| format!("did you mean `{{{near}}}`?")))]
    Unknown {
        /// The name between the braces.
        name: String,
        /// The one that was probably meant.
        near: Option<&'static str>,
    },
    /// Nothing that a message has stands in it.
    #[error("each message would have the same payload\n{}", all_names())]
    Constant,
}

fn all_names() -> String {
    let names: Vec<String> = NAMES.iter().map(|(name, _)| format!("{{{name}}}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("there are {}", one_of(&names, "and"))
}

impl PayloadTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// Where a single word that is no name stands between braces, or no name at all.
    pub fn parse(text: &str) -> Result<Self, PayloadTemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, braced) = rest.split_at(at);
            literal.push_str(before);
            let Some(word) = braced[1..].split_once('}').map(|(word, _)| word).filter(|word| is_word(word)) else {
                literal.push('{');
                rest = &braced[1..];
                continue;
            };
            let Some((_, name)) = NAMES.iter().find(|(name, _)| *name == word) else {
                let names = NAMES.map(|(name, _)| name);
                return Err(PayloadTemplateError::Unknown { name: word.into(), near: nearest(word.trim(), &names) });
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Name { name: *name, in_string: false });
            rest = &braced[word.len() + 2..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if !parts.iter().any(|part| matches!(part, Part::Name { name, .. } if !name.is_of_the_gateway())) {
            return Err(PayloadTemplateError::Constant);
        }
        let mut template = Self { written: text.into(), parts, is_json: false };
        template.find_strings();
        template.is_json = template.makes_json();
        Ok(template)
    }

    /// The template with the names of the gateway and of the bridge put in.
    pub fn bound(&self, gateway: &str, bridge: Option<&str>) -> Self {
        let part = |part: &Part| {
            let text = match part {
                Part::Name { name: Name::Gateway, .. } => Some(gateway),
                Part::Name { name: Name::Bridge, .. } => bridge,
                _ => None,
            };
            match (text, part) {
                (Some(text), Part::Name { in_string, .. }) => {
                    let mut bytes = Vec::new();
                    self.put_text(&mut bytes, Some(text), *in_string);
                    // Escaping does not make other than UTF-8 of it.
                    Part::Text(String::from_utf8(bytes).unwrap_or_default())
                }
                (_, part) => part.clone(),
            }
        };
        Self { parts: self.parts.iter().map(part).collect(), ..self.clone() }
    }

    /// Whether its payloads are JSON.
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether the time stands in its payloads.
    pub fn tells_time(&self) -> bool {
        self.mentions(Name::Time) || self.mentions(Name::TimeMs)
    }

    /// Whether `{bridge}` stands in it.
    pub fn mentions_bridge(&self) -> bool {
        self.mentions(Name::Bridge)
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Appends the payload of a message that has `fields`.
    pub fn render(&self, fields: &Fields<'_>, into: &mut Vec<u8>) {
        for part in &self.parts {
            let (name, in_string) = match part {
                Part::Text(text) => {
                    into.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Name { name, in_string } => (*name, *in_string),
            };
            match name {
                Name::Value if !self.is_json => fields.value.put_plain(into),
                Name::Value if in_string => fields.value.put_within_string(into),
                Name::Value => fields.value.put_json(into),
                // Digits, dashes and colons need no escape.
                Name::Time if self.is_json && !in_string => {
                    into.push(b'"');
                    put_time(into, fields.time.time_ms);
                    into.push(b'"');
                }
                Name::Time => put_time(into, fields.time.time_ms),
                Name::TimeMs => into.extend_from_slice(fields.time.time_ms.to_string().as_bytes()),
                Name::Topic => self.put_text(into, Some(fields.topic), in_string),
                Name::Unit => self.put_text(into, fields.unit, in_string),
                Name::Quality => self.put_text(into, Some(quality(fields.quality)), in_string),
                Name::Device => self.put_text(into, fields.device, in_string),
                Name::Point => self.put_text(into, fields.point, in_string),
                // They have been put in, where they have a meaning.
                Name::Gateway | Name::Bridge => self.put_text(into, None, in_string),
            }
        }
    }

    fn put_text(&self, into: &mut Vec<u8>, text: Option<&str>, in_string: bool) {
        match text {
            Some(text) if !self.is_json => into.extend_from_slice(text.as_bytes()),
            Some(text) if in_string => Carried::Text(text.into()).put_within_string(into),
            Some(text) => put_string(into, text),
            None if self.is_json && !in_string => into.extend_from_slice(b"null"),
            None => {}
        }
    }

    fn mentions(&self, wanted: Name) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Name { name, .. } if *name == wanted))
    }

    /// Notes which names stand between quotes, as JSON has them.
    fn find_strings(&mut self) {
        let (mut is_open, mut is_escaped) = (false, false);
        for part in &mut self.parts {
            match part {
                Part::Name { in_string, .. } => (*in_string, is_escaped) = (is_open, false),
                Part::Text(text) => {
                    for character in text.chars() {
                        match character {
                            _ if is_escaped => is_escaped = false,
                            '\\' => is_escaped = is_open,
                            '"' => is_open = !is_open,
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    /// Whether it is an object, an array or a string of JSON, whatever is put in.
    fn makes_json(&self) -> bool {
        let mut sample = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => sample.push_str(text),
                Part::Name { .. } => sample.push('0'),
            }
        }
        sample.trim_start().starts_with(['{', '[', '"']) && is_json(sample.as_bytes())
    }
}

impl Name {
    /// Whether it is the same for all messages.
    fn is_of_the_gateway(self) -> bool {
        matches!(self, Self::Gateway | Self::Bridge)
    }
}

/// Whether what stands between braces was meant as a name, and is no JSON.
fn is_word(text: &str) -> bool {
    let word = text.trim();
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

impl fmt::Display for PayloadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, value: Carried<'_>) -> String {
        let fields = Fields {
            topic: "edge/a \"b\"/t",
            value,
            unit: Some("°C"),
            time: Sampled::at(1_795_351_208_017),
            quality: Quality::Good,
            device: Some("meter"),
            point: None,
        };
        let mut into = Vec::new();
        PayloadTemplate::parse(template).unwrap().bound("edge", Some("aws")).render(&fields, &mut into);
        String::from_utf8(into).unwrap()
    }

    fn number(template: &str) -> String {
        render(template, Carried::Json("230.10".into()))
    }

    #[test]
    fn json_needs_no_doubled_braces_and_stays_json() {
        assert_eq!(
            number(r#"{"v": {value}, "t": "{time}", "ms": {time_ms}, "o": {}}"#),
            r#"{"v": 230.10, "t": "2026-11-22T12:40:08.017Z", "ms": 1795351208017, "o": {}}"#
        );
        assert_eq!(
            number(r#"{"t": {time}, "n": "{topic}", "u": {unit}, "q": {quality}, "g": {gateway}, "b": "{bridge}!"}"#),
            r#"{"t": "2026-11-22T12:40:08.017Z", "n": "edge/a \"b\"/t", "u": "°C", "q": "good", "g": "edge", "b": "aws!"}"#
        );
        // What is not there.
        assert_eq!(
            number(r#"{"p": {point}, "d": "{device}/{point}", "v": {value}}"#),
            r#"{"p": null, "d": "meter/", "v": 230.10}"#
        );
        let text = || Carried::Text("say \"on\"".into());
        let json = r#"[{"v": "say \"on\""}, "say \"on\""]"#;
        assert_eq!(render(r#"[{"v": {value}}, "{value}"]"#, text()), json);
        assert!(is_json(json.as_bytes()));
        assert_eq!(render(r#"{"v": {value}}"#, Carried::Bytes(b"\xff")), r#"{"v": "/w=="}"#);
        // A quote within a string does not end it.
        assert_eq!(
            render(r#"{"a\"": {value}, "b": "\\{value}"}"#, text()),
            r#"{"a\"": "say \"on\"", "b": "\\say \"on\""}"#
        );
    }

    #[test]
    fn what_is_no_json_gets_the_bare_text() {
        assert_eq!(number("{value} {unit}"), "230.10 °C");
        assert_eq!(number("{time_ms};{value};{point};{topic}"), "1795351208017;230.10;;edge/a \"b\"/t");
        assert_eq!(number("{device},site={gateway} {{value}} {1} }{"), "meter,site=edge {230.10} {1} }{");
        assert_eq!(render("{value}", Carried::Text("say \"on\"".into())), "say \"on\"");
        assert!(!PayloadTemplate::parse("{value}").unwrap().is_json());
    }

    #[test]
    fn a_word_that_is_no_name_is_refused_with_the_one_that_was_meant() {
        let error = |text| PayloadTemplate::parse(text).unwrap_err().to_string();
        assert_eq!(error(r#"{"v": {valu}}"#), "`{valu}` stands for nothing\ndid you mean `{value}`?");
        assert_eq!(error("{ value }"), "`{ value }` stands for nothing\ndid you mean `{value}`?");
        assert_eq!(
            error("{pressure}"),
            "`{pressure}` stands for nothing\nthere are {topic}, {value}, {unit}, {time}, {time_ms}, {quality}, \
             {device}, {point}, {gateway} and {bridge}"
        );
        for constant in ["{}", "{gateway}", r#"{"a": 1}"#] {
            assert!(error(constant).starts_with("each message would have the same payload\nthere are "), "{constant}");
        }
    }
}
