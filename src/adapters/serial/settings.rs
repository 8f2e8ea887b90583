//! The `serial:` section of the configuration, and what it plans.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::Serial;
use super::parse::Parser;
use crate::adapters::Adapter;
use crate::adapters::command::DEFAULT_WRITE_TIMEOUT;
use crate::adapters::line::{LineFormat, LineSettings};
use crate::adapters::point::{DEFAULT_EVERY, Publishing, Reporting, SPANS};
use crate::adapters::source::{PointPlan, Selector, Source};
use crate::adapters::topics::Names;
use crate::mapping::{JsonPath, PayloadFormat, ValueType, nmea};
use crate::settings::{self, Located, Mistake, NOT_AVAILABLE_YET, Named, NotYet, Qos, Size, Template, nearest, one_of};

/// Longest line where nothing else is said.
const DEFAULT_MAX_LINE: u64 = 4096;
/// The most that `max_line` can be.
const MAX_MAX_LINE: u64 = 1024 * 1024;
/// How long a device that talks by itself may be silent where nothing else is said.
const DEFAULT_SILENCE: Duration = Duration::from_secs(60);
/// A device that is asked very often may still be silent for this long.
const LEAST_SILENCE: Duration = Duration::from_secs(5);

/// One serial port and the device on it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Path of the port, best below `/dev/serial/by-id/`.
    pub port: Option<Located<String>>,
    /// Symbols per second, default 9600.
    pub baud: Option<Located<u32>>,
    /// Data bits, parity and stop bits, default `8N1`.
    pub format: Option<Located<LineFormat>>,
    /// Where one message ends and the next begins, default `line`.
    pub frame: Option<Frame>,
    /// The longest line, default 4 KB; a longer one is dropped whole.
    pub max_line: Option<Located<Size>>,
    /// What a message is, default `text`.
    pub parse: Option<Parse>,
    /// At most one message in this time, the newest; with `ask`, how often (default 10s).
    pub every: Option<Located<settings::Duration>>,
    /// What is sent to the device to make it answer.
    pub ask: Option<Located<String>>,
    /// What a command on `{gateway}/{device}/set` puts on the wire, with `{value}` in it.
    pub write: Option<Located<String>>,
    /// A command that cannot be done in this time fails, default 5s.
    pub write_timeout: Option<Located<settings::Duration>>,
    /// Silence after which the device is offline.
    pub offline_after: Option<Located<settings::Duration>>,
    /// Topic template, default `{gateway}/{device}/{point}`.
    pub topic: Option<Located<Template>>,
    /// QoS, default 1.
    pub qos: Option<Qos>,
    /// Whether the broker keeps the newest value, default true.
    pub retain: Option<bool>,
    /// Shape of the payload, default plain.
    pub payload: Option<PayloadFormat>,
    /// Not available yet.
    pub on_offline: Option<NotYet>,
    /// The values in a message; without them it goes out as it was parsed.
    pub points: Named<PointSettings>,
}

/// One value in what a device says.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PointSettings {
    /// JSONPath of the value (`parse: json` and `nmea`).
    pub path: Option<Located<String>>,
    /// Named group of the regular expression, default the point's name.
    pub group: Option<Located<String>>,
    /// What the value is to be; default a number where it is written like one.
    #[serde(rename = "type")]
    pub kind: Option<ValueType>,
    /// Physical unit.
    pub unit: Option<Located<String>>,
    /// Factor, default 1.
    pub scale: Option<Located<f64>>,
    /// Added after scaling, default 0.
    pub offset: Option<Located<f64>>,
    /// Digits behind the decimal point.
    pub round: Option<Located<u8>>,
    /// Publish only what is farther than this from the last value.
    pub deadband: Option<Located<f64>>,
    /// Publish only what differs, default false.
    pub on_change: bool,
    /// With `deadband` and `on_change`: publish at least this often, default 15m.
    pub max_silence: Option<Located<settings::Duration>>,
    /// Topic template.
    pub topic: Option<Located<Template>>,
    /// QoS.
    pub qos: Option<Qos>,
    /// Whether the broker keeps the newest value.
    pub retain: Option<bool>,
    /// Not available yet.
    pub every: Option<NotYet>,
    /// Not available yet.
    pub payload: Option<NotYet>,
    /// Not available yet.
    pub expr: Option<NotYet>,
}

/// Where one message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Frame {
    /// At CR or LF; empty lines are none.
    #[default]
    Line,
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FrameVisitor;

        impl<'de> Visitor<'de> for FrameVisitor {
            type Value = Frame;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`line`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Frame, E> {
                match word {
                    "line" => Ok(Frame::Line),
                    "slip" | "cobs" => {
                        Err(E::custom(format!("`frame: {word}` is {NOT_AVAILABLE_YET}\nthere is `line`")))
                    }
                    _ => Err(E::unknown_variant(word, &["line"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame, A::Error> {
                let key: Option<String> = map.next_key()?;
                match key.as_deref() {
                    Some(key @ ("until" | "length" | "prefix" | "idle")) => {
                        Err(A::Error::custom(format!("`frame: {{ {key} }}` is {NOT_AVAILABLE_YET}\nthere is `line`")))
                    }
                    _ => Err(A::Error::custom("frame is `line`")),
                }
            }
        }

        deserializer.deserialize_any(FrameVisitor)
    }
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Parse {
    /// Text, as it is.
    #[default]
    Text,
    /// A JSON document.
    Json,
    /// Sentences of a satellite receiver, merged into fixes.
    Nmea,
    /// Text in which a regular expression finds values by its named groups.
    Regex(Located<String>),
}

impl<'de> Deserialize<'de> for Parse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParseVisitor;
        const WORDS: &[&str] = &["text", "json", "nmea", "{ regex: … }"];

        impl<'de> Visitor<'de> for ParseVisitor {
            type Value = Parse;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`text`, `json`, `nmea` or `{ regex: … }`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Parse, E> {
                match word {
                    "text" => Ok(Parse::Text),
                    "json" => Ok(Parse::Json),
                    "nmea" => Ok(Parse::Nmea),
                    "csv" => Err(E::custom(format!(
                        "`parse: csv` is {NOT_AVAILABLE_YET}\nthere are text, json, nmea and regex"
                    ))),
                    _ => Err(E::unknown_variant(word, WORDS)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parse, A::Error> {
                let key: Option<String> = map.next_key()?;
                let parse = match key.as_deref() {
                    Some("regex") => Parse::Regex(map.next_value()?),
                    Some("binary") => {
                        return Err(A::Error::custom(format!("`parse: {{ binary }}` is {NOT_AVAILABLE_YET}")));
                    }
                    Some(key) => return Err(A::Error::unknown_field(key, &["regex"])),
                    None => return Err(A::Error::missing_field("regex")),
                };
                match map.next_entry::<String, IgnoredAny>()? {
                    Some((key, _)) => Err(A::Error::unknown_field(&key, &["regex"])),
                    None => Ok(parse),
                }
            }
        }

        deserializer.deserialize_any(ParseVisitor)
    }
}

impl Settings {
    /// The adapter of device `name`, where `defaults` is what the gateway says of messages.
    ///
    /// # Errors
    /// Every mistake, each at its place.
    pub fn plan(
        &self,
        name: &Located<String>,
        gateway: &str,
        defaults: &Publishing,
    ) -> Result<Box<dyn Adapter>, Vec<Mistake>> {
        Ok(Box::new(self.serial(name, gateway, defaults)?))
    }

    pub(super) fn serial(
        &self,
        name: &Located<String>,
        gateway: &str,
        defaults: &Publishing,
    ) -> Result<Serial, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let port = self.plan_port(name, &mut mistakes);
        let max_line = self.max_line.unwrap_or(Located::nowhere(Size(DEFAULT_MAX_LINE)));
        if !(16..=MAX_MAX_LINE).contains(&max_line.0) {
            mistakes.push(max_line.mistake("max_line is 16B to 1MB"));
        }
        self.check_times(&mut mistakes);
        let parser =
            Parser::new(self.parse.as_ref().unwrap_or(&Parse::Text), !self.points.is_empty()).map_err(|error| {
                match &self.parse {
                    Some(Parse::Regex(regex)) => mistakes.push(regex.mistake(error)),
                    _ => mistakes.push(name.mistake(error)),
                }
            });
        if let Some(write) = self.write.as_ref().filter(|write| !write.contains("{value}")) {
            mistakes.push(write.mistake("write has no `{value}`").help(r#"for example "{value}\n""#));
        }
        let points =
            self.points.iter().filter_map(|(name, point)| self.plan_point(name, point, &parser, &mut mistakes));
        let points: Vec<PointPlan<'_>> = points.collect();
        let own =
            Publishing { topic: self.topic.clone(), qos: self.qos, retain: self.retain, payload: self.payload.clone() };
        let publishing = defaults.overridden_by(&own);
        let source = Source::plan(Names { gateway, bus: None, device: name }, &publishing, points);
        let source = source.map_err(|wrong| mistakes.extend(wrong));
        let (Ok(source), Ok(parser), Some(port), true) = (source, parser, port, mistakes.is_empty()) else {
            return Err(mistakes);
        };
        let every = self.every.map(|every| every.0);
        Ok(Serial::new(super::Plan {
            source,
            parser,
            port,
            max_line: max_line.0 as usize,
            every: if self.ask.is_some() { every.or(Some(DEFAULT_EVERY)) } else { every },
            ask: self.ask.as_ref().map(|ask| ask.value.clone().into_bytes()),
            write: self.write.as_ref().map(|write| write.value.clone()),
            write_timeout: self.write_timeout.map_or(DEFAULT_WRITE_TIMEOUT, |timeout| timeout.0),
            offline_after: self.offline_after.map_or_else(|| self.default_silence(), |after| after.0),
        }))
    }

    /// Three questions without an answer; a device that talks by itself may take its time.
    fn default_silence(&self) -> Duration {
        let every = self.every.map(|every| every.0 * 3);
        match (&self.ask, every) {
            (Some(_), every) => every.unwrap_or(DEFAULT_EVERY * 3).max(LEAST_SILENCE),
            (None, every) => every.unwrap_or_default().max(DEFAULT_SILENCE),
        }
    }

    fn plan_port(&self, name: &Located<String>, mistakes: &mut Vec<Mistake>) -> Option<LineSettings> {
        let baud = self.baud.unwrap_or(Located::nowhere(9600));
        mistakes.extend(baud.outside("baud", 50..=4_000_000));
        let Some(path) = self.port.as_ref().filter(|port| !port.is_empty()) else {
            mistakes.push(
                name.mistake(format!("`{}` has no port", name.value)).help("for example `port: /dev/serial/by-id/…`"),
            );
            return None;
        };
        Some(LineSettings {
            path: path.value.clone(),
            baud: *baud,
            format: self.format.map_or_else(LineFormat::default, |format| *format),
        })
    }

    fn check_times(&self, mistakes: &mut Vec<Mistake>) {
        let times =
            [("every", self.every), ("offline_after", self.offline_after), ("write_timeout", self.write_timeout)];
        let outside = |(key, time): (&str, Option<Located<settings::Duration>>)| time?.outside(key, SPANS);
        mistakes.extend(times.into_iter().filter_map(outside));
    }

    fn plan_point<'a>(
        &self,
        name: &'a Located<String>,
        point: &PointSettings,
        parser: &Result<Parser, ()>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<PointPlan<'a>> {
        let selector = self.selector(name, point, parser).map_err(|mistake| mistakes.push(mistake)).ok()?;
        let printed = matches!(self.parse, None | Some(Parse::Text | Parse::Regex(_)));
        let mut unit = point.unit.as_ref().map(|unit| unit.value.clone());
        if let Selector::Field(field) = &selector
            && self.parse == Some(Parse::Nmea)
        {
            let natural = nmea::FIELDS.iter().find(|(known, _)| known == field).and_then(|(_, unit)| *unit);
            if let (Some(given), Some(natural), None) = (&point.unit, natural, point.scale)
                && given.as_str() != natural
            {
                mistakes.push(
                    given
                        .mistake(format!("{field} comes in {natural}, not in {}", given.value))
                        .help("say by `scale` how to convert it"),
                );
            }
            unit = unit.or_else(|| natural.map(str::to_owned));
        }
        Some(PointPlan {
            name,
            selector,
            kind: point.kind.or(printed.then_some(ValueType::Printed)),
            scale: point.scale,
            offset: point.offset,
            reporting: Reporting {
                unit,
                on_change: point.on_change,
                deadband: point.deadband,
                max_silence: point.max_silence,
                round: point.round,
            },
            publishing: Publishing { topic: point.topic.clone(), qos: point.qos, retain: point.retain, payload: None },
        })
    }

    fn selector(
        &self,
        name: &Located<String>,
        point: &PointSettings,
        parser: &Result<Parser, ()>,
    ) -> Result<Selector, Mistake> {
        let parse = self.parse.as_ref().unwrap_or(&Parse::Text);
        if let Some(path) = &point.path {
            if !matches!(parse, Parse::Json | Parse::Nmea) {
                return Err(path.mistake("`path` is for `parse: json` and `parse: nmea`"));
            }
            let path = JsonPath::parse(path).map_err(|error| path.mistake(error.to_string()))?;
            return Ok(Selector::Path(path));
        }
        if let (Some(group), false) = (&point.group, matches!(parse, Parse::Regex(_))) {
            return Err(group.mistake("`group` is for `parse: { regex: … }`"));
        }
        match parse {
            Parse::Text => Ok(Selector::Whole),
            Parse::Json => Ok(Selector::Field(name.value.clone())),
            Parse::Nmea if nmea::FIELDS.iter().any(|(field, _)| *field == name.as_str()) => {
                Ok(Selector::Field(name.value.clone()))
            }
            Parse::Nmea => {
                let fields: Vec<&str> = nmea::FIELDS.iter().map(|(field, _)| *field).collect();
                let mistake = name.mistake(format!("a fix has no `{}`", name.value));
                Err(mistake.help(did_you_mean(name, &fields)))
            }
            Parse::Regex(_) => {
                let group = point.group.as_ref().unwrap_or(name);
                let groups = parser.as_ref().map(Parser::groups).unwrap_or_default();
                // An expression that is none is one mistake already.
                if parser.is_ok() && !groups.iter().any(|known| known == group.as_str()) {
                    let mistake = group.mistake(format!("the regular expression has no group `{}`", group.value));
                    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                    return Err(mistake.help(did_you_mean(group, &groups)));
                }
                Ok(Selector::Field(group.value.clone()))
            }
        }
    }
}

fn did_you_mean(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if known.is_empty() => "a group is written (?P<name>…)".into(),
        None => format!("there are {}", one_of(known, "and")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn mistakes(settings: Json) -> Vec<String> {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        match settings.plan(&Located::nowhere("probe".into()), "edge", &Publishing::default()) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.into_iter().map(|mistake| mistake.message).collect(),
        }
    }

    #[test]
    fn the_sources_of_the_reference_plan() {
        for settings in [
            json!({"port": "/dev/ttyUSB0", "baud": 9600, "frame": "line", "parse": "nmea", "every": "5s",
                "payload": "object",
                "points": {"lat": {}, "lon": {}, "speed": {"unit": "km/h"}, "satellites": {}}}),
            json!({"port": "/dev/ttyUSB0", "baud": 115200, "parse": "json", "write": "{value}\n",
                "points": {"temperature": {"path": "$.t", "unit": "°C"}, "soil_1": {"path": "$.soil[0]"}}}),
            json!({"port": "/dev/ttyAMA0", "ask": "W\r\n", "every": "2s", "format": "7E1",
                "parse": {"regex": r"(?P<weight>-?\d+\.\d+) kg"},
                "points": {"weight": {"type": "number", "unit": "kg"}}}),
        ] {
            assert_eq!(mistakes(settings), Vec::<String>::new());
        }
    }

    #[test]
    fn every_mistake_is_found_at_once() {
        let found = mistakes(json!({
            "baud": 9, "max_line": "2MB", "every": "0s", "write": "OUT\n", "parse": {"regex": "(?P<weight>"},
            "points": {"w": {"path": "$.w"}, "status": {}},
        }));
        assert_eq!(found.len(), 8, "{found:?}");
        assert!(found.iter().any(|mistake| mistake.starts_with("no regular expression: ")), "{found:?}");
        assert!(found.contains(&"`probe` has no port".to_owned()));
    }

    #[test]
    fn names_that_a_message_does_not_have_are_mistakes() {
        let nmea = json!({"port": "p", "parse": "nmea", "points": {"latt": {}, "speed": {"unit": "kn"}}});
        assert_eq!(mistakes(nmea), ["a fix has no `latt`", "speed comes in km/h, not in kn"]);
        let regex = json!({"port": "p", "parse": {"regex": "(?P<a>.)"}, "points": {"b": {}, "c": {"group": "a"}}});
        assert_eq!(mistakes(regex), ["the regular expression has no group `b`"]);
        let text = json!({"port": "p", "points": {"b": {"path": "$.b"}}});
        assert_eq!(mistakes(text), ["`path` is for `parse: json` and `parse: nmea`"]);
    }

    #[test]
    fn when_a_value_is_published_is_checked() {
        let points = json!({"a": {"type": "text", "deadband": 1}, "b": {"round": 16}, "c": {"max_silence": "1m"},
            "d": {"deadband": -1}});
        assert_eq!(
            mistakes(json!({"port": "p", "topic": "{gateway}/{device}/{point}", "points": points})),
            [
                "`deadband` belongs to numbers; `on_change` does for anything",
                "`round` is 0 to 15",
                "`max_silence` belongs to `deadband` or `on_change`",
                "a deadband is a number from 0 on",
            ]
        );
    }

    #[test]
    fn what_is_not_available_yet_says_so() {
        for settings in [
            json!({"frame": "slip"}),
            json!({"frame": {"until": "\u{3}"}}),
            json!({"parse": "csv"}),
            json!({"parse": {"binary": {}}}),
            json!({"points": {"a": {"expr": "x * 2"}}}),
        ] {
            let error = serde_json::from_value::<Settings>(settings).unwrap_err().to_string();
            assert!(error.contains("not available yet"), "{error}");
        }
        for settings in
            [json!({"frame": "lines"}), json!({"parse": "xml"}), json!({"format": "9N1"}), json!({"qos": 3})]
        {
            assert!(serde_json::from_value::<Settings>(settings).is_err());
        }
    }

    #[test]
    fn silence_is_judged_by_how_often_a_device_should_talk() {
        let silence =
            |settings: Json| serde_json::from_value::<Settings>(settings).unwrap().default_silence().as_secs();
        assert_eq!(silence(json!({})), 60);
        assert_eq!(silence(json!({"every": "1s"})), 60);
        assert_eq!(silence(json!({"every": "1m"})), 180);
        assert_eq!(silence(json!({"ask": "?", "every": "20s"})), 60);
        assert_eq!(silence(json!({"ask": "?", "every": "100ms"})), 5);
        assert_eq!(silence(json!({"ask": "?"})), 30);
    }
}
