//! How a reading becomes the payload of a message.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::map::Entry;
use serde_json::{Map, Value as Json, json};

use super::Value;
use crate::mqtt::{Quality, Reading, Sampled};
use crate::settings::NOT_AVAILABLE_YET;

/// The shape of a payload (`payload:` in the configuration). Default `plain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadFormat {
    /// The value alone, as text: `230.1`.
    #[default]
    Plain,
    /// `{topic, value, unit, time, quality}`.
    Json,
    /// One JSON object for all points of a device.
    Object,
}

impl<'de> Deserialize<'de> for PayloadFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.as_str() {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            "object" => Ok(Self::Object),
            template if template.contains('{') => Err(D::Error::custom(format!(
                "a template as payload is {NOT_AVAILABLE_YET}\nthere are plain, json and object"
            ))),
            word => Err(D::Error::unknown_variant(word, &["plain", "json", "object"])),
        }
    }
}

/// The payload of one value; `None` where there is nothing to publish: an unavailable value in `plain`.
///
/// `value` is `None` where the device said that it has none.
pub fn encode(format: PayloadFormat, topic: &str, value: Option<&Value>, reading: &Reading) -> Option<Vec<u8>> {
    match format {
        PayloadFormat::Plain | PayloadFormat::Object => value.map(|value| value.to_string().into_bytes()),
        PayloadFormat::Json => {
            let mut object = Map::new();
            object.insert("topic".into(), json!(topic));
            object.insert("value".into(), value.map_or(Json::Null, Value::to_json));
            if let Some(unit) = &reading.unit {
                object.insert("unit".into(), json!(&**unit));
            }
            object.insert("time".into(), json!(rfc3339(reading.sampled.time_ms)));
            object.insert("quality".into(), json!(quality(reading.overall_quality())));
            Some(Json::Object(object).to_string().into_bytes())
        }
    }
}

/// The payload of a whole device: its points by name, and the time of the sample; where that is uncertain it says so.
pub fn encode_object<'a>(points: impl IntoIterator<Item = (&'a str, Option<&'a Value>)>, sampled: Sampled) -> Vec<u8> {
    let mut object: Map<String, Json> =
        points.into_iter().map(|(name, value)| (name.to_owned(), value.map_or(Json::Null, Value::to_json))).collect();
    // A device may have a `time` or a `quality` of its own.
    if let Entry::Vacant(time) = object.entry("time") {
        time.insert(json!(rfc3339(sampled.time_ms)));
        if !sampled.is_certain() {
            object.entry("quality").or_insert_with(|| json!(quality(Quality::Uncertain)));
        }
    }
    Json::Object(object).to_string().into_bytes()
}

/// The word for a quality.
pub const fn quality(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => "good",
        Quality::Uncertain => "uncertain",
        Quality::Bad => "bad",
    }
}

/// RFC 3339, UTC, with milliseconds: `2026-11-22T12:53:28.017Z`.
pub fn rfc3339(unix_ms: i64) -> String {
    let (days, ms_of_day) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    // Days since 0000-03-01 split into 400-year eras, whose calendar repeats.
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (second, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_351_208_017), "2026-11-22T12:40:08.017Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn json_carries_unit_time_and_quality() {
        let reading = Reading {
            sampled: Sampled::at(0),
            unit: Some("V".into()),
            quality: Quality::Good,
            device: "meter".into(),
            point: Some("voltage".into()),
        };
        let payload = encode(PayloadFormat::Json, "edge/meter/voltage", Some(&Value::Single(230.1)), &reading);
        assert_eq!(
            String::from_utf8(payload.unwrap()).unwrap(),
            r#"{"topic":"edge/meter/voltage","value":230.1,"unit":"V","time":"1970-01-01T00:00:00.000Z","quality":"good"}"#
        );
        assert_eq!(encode(PayloadFormat::Plain, "t", None, &reading), None);
    }
}
