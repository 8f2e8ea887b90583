//! What a bridge's route makes of a payload when it is sent: as it is, the value alone, JSON, or a template.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::{Map, Value as Json, json};

use super::payload::{quality, rfc3339};
use crate::mqtt::Reading;
use crate::settings::NOT_AVAILABLE_YET;

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
}

/// What is known of a message that is being sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The topic that it was published on.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// What the adapter that read it knows about it.
    pub reading: Option<&'a Reading>,
    /// When it came, in milliseconds since the Unix epoch: the time of what is no reading.
    pub arrived_ms: i64,
}

impl HopPayload {
    /// Appends what is sent instead of the payload to `into`. `false`, and nothing is appended, where it goes as it is.
    pub fn encode(&self, message: &Outgoing<'_>, into: &mut Vec<u8>) -> bool {
        match self {
            Self::AsPublished | Self::Plain => return false,
            Self::Json => {
                let mut object = Map::new();
                object.insert("topic".into(), json!(message.topic));
                object.insert("value".into(), value(message.payload));
                if let Some(unit) = message.reading.and_then(|reading| reading.unit.as_ref()) {
                    object.insert("unit".into(), json!(&**unit));
                }
                let time = message.reading.map_or(message.arrived_ms, |reading| reading.sampled.time_ms);
                object.insert("time".into(), json!(rfc3339(time)));
                if let Some(reading) = message.reading {
                    object.insert("quality".into(), json!(quality(reading.overall_quality())));
                }
                // A map of strings and values always encodes.
                let _ = serde_json::to_writer(into, &Json::Object(object));
            }
        }
        true
    }
}

/// A payload as a JSON value: JSON stays JSON, text is quoted.
fn value(payload: &[u8]) -> Json {
    serde_json::from_slice(payload).unwrap_or_else(|_| json!(String::from_utf8_lossy(payload)))
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
                    template if template.contains('{') => Err(E::custom(format!(
                        "a template as payload is {NOT_AVAILABLE_YET}\nthere are plain and json"
                    ))),
                    word => Err(E::unknown_variant(word, &["plain", "json"])),
                }
            }
        }

        deserializer.deserialize_str(Word)
    }
}
