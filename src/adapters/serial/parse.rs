//! What a line says: text, JSON, values found by a regular expression, or sentences of a satellite receiver. Pure.

use regex::Regex;
use serde_json::{Map, Value as Json};

use super::settings::Parse;
use crate::mapping::nmea::{self, EpochMerger};
use crate::mapping::text;

/// Bound of a compiled regular expression.
const MAX_REGEX_BYTES: usize = 1024 * 1024;
const NO_MATCH: &str = "the regular expression does not match";

/// Turns lines into answers.
#[derive(Debug)]
pub enum Parser {
    /// The line is the answer.
    Text,
    /// The line is a JSON document.
    Json,
    /// Named groups of the expression are fields of the answer, as text.
    Regex(Regex),
    /// The same, with numbers where they are written like ones: for answers that go out as they are.
    TypedRegex(Regex),
    /// Several sentences make one answer.
    Nmea(Box<EpochMerger>),
}

/// What one line gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An answer.
    Answer(Json),
    /// The device talks, and its answer is not complete yet.
    Part,
    /// Nothing of use, and why.
    Noise(String),
}

impl Parser {
    /// A parser as `parse` asks for.
    ///
    /// # Errors
    /// A regular expression that does not compile, in words.
    pub fn new(parse: &Parse, has_points: bool) -> Result<Self, String> {
        Ok(match parse {
            Parse::Text => Self::Text,
            Parse::Json => Self::Json,
            Parse::Nmea => Self::Nmea(Box::default()),
            Parse::Regex(text) => {
                let regex = regex::RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
                // The last line of the message is the reason; those before it draw the expression.
                let regex = regex.map_err(|error| {
                    let text = error.to_string();
                    let reason = text.lines().last().unwrap_or_default();
                    format!("no regular expression: {}", reason.trim().trim_start_matches("error: "))
                })?;
                if has_points { Self::Regex(regex) } else { Self::TypedRegex(regex) }
            }
        })
    }

    /// Names of the groups of a regular expression.
    pub fn groups(&self) -> Vec<String> {
        match self {
            Self::Regex(regex) | Self::TypedRegex(regex) => {
                regex.capture_names().flatten().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a line whose beginning was lost could be taken for a whole one: `2.50 kg` of `12.50 kg`.
    pub fn is_fooled_by_half_lines(&self) -> bool {
        matches!(self, Self::Text | Self::Regex(_) | Self::TypedRegex(_))
    }

    /// Takes the next line.
    pub fn read(&mut self, line: &[u8]) -> Heard {
        let text = || String::from_utf8_lossy(line);
        match self {
            Self::Text => Heard::Answer(Json::from(text().trim())),
            Self::Json => match serde_json::from_slice(line) {
                Ok(json) => Heard::Answer(json),
                Err(error) => Heard::Noise(format!("no JSON: {error}")),
            },
            Self::Regex(regex) => match regex.captures(&text()) {
                Some(captures) => Heard::Answer(fields(regex, &captures, |text| Json::from(text))),
                None => Heard::Noise(NO_MATCH.into()),
            },
            Self::TypedRegex(regex) => match regex.captures(&text()) {
                Some(captures) => Heard::Answer(fields(regex, &captures, |text| text::read(text).to_json())),
                None => Heard::Noise(NO_MATCH.into()),
            },
            Self::Nmea(merger) => match nmea::parse(line) {
                Ok(sentence) => match sentence.and_then(|sentence| merger.push(sentence)) {
                    Some(fix) => Heard::Answer(fix.to_json()),
                    None => Heard::Part,
                },
                Err(error) => Heard::Noise(error.to_string()),
            },
        }
    }

    /// Forgets what was heard before: the port was closed.
    pub fn reset(&mut self) {
        if let Self::Nmea(merger) = self {
            **merger = EpochMerger::default();
        }
    }
}

/// The named groups as an object; without any, what was matched.
fn fields(regex: &Regex, captures: &regex::Captures<'_>, value: impl Fn(&str) -> Json) -> Json {
    let groups = regex.capture_names().flatten();
    let fields: Map<String, Json> =
        groups.filter_map(|name| Some((name.to_owned(), value(captures.name(name)?.as_str())))).collect();
    if fields.is_empty() { Json::from(&captures[0]) } else { Json::Object(fields) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::settings::Located;

    fn regex(text: &str) -> Result<Parser, String> {
        Parser::new(&Parse::Regex(Located::nowhere(text.to_owned())), false)
    }

    #[test]
    fn named_groups_are_fields() {
        let mut parser = regex(r"(?P<weight>-?\d+\.\d+) (?P<unit>kg|g)( (?P<state>S))?").unwrap();
        assert_eq!(parser.read(b"ST,GS,  12.50 kg"), Heard::Answer(json!({"weight": 12.5, "unit": "kg"})));
        assert_eq!(parser.read(b"error"), Heard::Noise(NO_MATCH.into()));
        assert_eq!(regex(r"\d+").unwrap().read(b"a 17"), Heard::Answer(json!("17")));
        assert!(regex("(").unwrap_err().starts_with("no regular expression: "));
    }

    #[test]
    fn json_and_text_are_taken_whole() {
        assert_eq!(Parser::Json.read(br#"{"t":21.4}"#), Heard::Answer(json!({"t": 21.4})));
        assert!(matches!(Parser::Json.read(br#""t":21.4}"#), Heard::Noise(_)));
        assert_eq!(Parser::Text.read(b" 21.40 "), Heard::Answer(json!("21.40")));
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            for parse in [Parse::Text, Parse::Json, Parse::Nmea, Parse::Regex(Located::nowhere("(?P<a>.)".into()))] {
                let _ = Parser::new(&parse, true).unwrap().read(&line);
            }
        }
    }
}
