//! How a reading becomes the payload of a message.

use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::map::Entry;
use serde_json::{Map, Value as Json, json};

use super::Value;
use super::carried::{Carried, put_string};
use super::payload_template::{Fields, PayloadTemplate};
use crate::mqtt::{Form, Quality, Reading, Sampled};

/// The shape of a payload (`payload:` in the configuration). Default `plain`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PayloadFormat {
    /// The value alone, as text: `230.1`.
    #[default]
    Plain,
    /// `{topic, value, unit, time, quality}`.
    Json,
    /// One JSON object for all points of a device.
    Object,
    /// What a template makes of it.
    Template(Arc<PayloadTemplate>),
}

impl PayloadFormat {
    /// The format with the name of the gateway put in.
    pub fn bound(&self, gateway: &str) -> Self {
        match self {
            Self::Template(template) => Self::Template(Arc::new(template.bound(gateway, None))),
            other => other.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for PayloadFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.as_str() {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            "object" => Ok(Self::Object),
            text if text.contains('{') => match PayloadTemplate::parse(text) {
                Ok(template) if template.mentions_bridge() => Err(D::Error::custom(
                    "`{bridge}` has no meaning here\na payload for one bridge stands at its route",
                )),
                Ok(template) => Ok(Self::Template(Arc::new(template))),
                Err(error) => Err(D::Error::custom(error)),
            },
            word => Err(D::Error::unknown_variant(word, &["plain", "json", "object", "a template"])),
        }
    }
}

/// The payload of one value, and what it is; `None` where there is nothing to publish: an unavailable value in what is
/// no JSON.
///
/// `value` is `None` where the device said that it has none.
pub fn encode(
    format: &PayloadFormat,
    topic: &str,
    value: Option<&Value>,
    reading: &Reading,
) -> Option<(Vec<u8>, Form)> {
    let fields = || Fields {
        topic,
        value: match value {
            Some(Value::Text(text)) => Carried::Text(text.as_str().into()),
            Some(value) => Carried::Json(value.to_json().to_string().into()),
            None => Carried::Json("null".into()),
        },
        unit: reading.unit.as_deref(),
        time: reading.sampled,
        quality: reading.overall_quality(),
        device: Some(&reading.device),
        point: reading.point.as_deref(),
    };
    let mut payload = Vec::new();
    let form = match format {
        PayloadFormat::Plain | PayloadFormat::Object => {
            let value = value?;
            payload = value.to_string().into_bytes();
            if matches!(value, Value::Text(_)) { Form::Text } else { Form::Value }
        }
        PayloadFormat::Json => {
            put_object(&mut payload, &fields());
            Form::Json
        }
        PayloadFormat::Template(template) => {
            if value.is_none() && !template.is_json() {
                return None;
            }
            template.render(&fields(), &mut payload);
            Form::Template
        }
    };
    Some((payload, form))
}

/// Appends `{"topic":…,"value":…,"unit":…,"time":…,"quality":…}`. Where the value is neither JSON nor text, it is in
/// base64, and `"encoding":"base64"` stands behind it.
pub fn put_object(into: &mut Vec<u8>, fields: &Fields<'_>) {
    into.extend_from_slice(br#"{"topic":"#);
    put_string(into, fields.topic);
    into.extend_from_slice(br#","value":"#);
    fields.value.put_json(into);
    if let Carried::Bytes(_) = fields.value {
        into.extend_from_slice(br#","encoding":"base64""#);
    }
    if let Some(unit) = fields.unit {
        into.extend_from_slice(br#","unit":"#);
        put_string(into, unit);
    }
    into.extend_from_slice(br#","time":""#);
    put_time(into, fields.time.time_ms);
    into.extend_from_slice(br#"","quality":""#);
    into.extend_from_slice(quality(fields.quality).as_bytes());
    into.extend_from_slice(br#""}"#);
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

/// Appends what [`encode_object`] made of a device `sampled` then, with the `right` time of that sample. `false`, and
/// nothing is appended, where the time in it is not that of the sample: the device has one of its own.
pub fn put_object_at(into: &mut Vec<u8>, object: &[u8], sampled: Sampled, right: Sampled) -> bool {
    let Ok(mut object) = serde_json::from_slice::<Map<String, Json>>(object) else {
        return false;
    };
    match object.get_mut("time") {
        Some(time) if *time == json!(rfc3339(sampled.time_ms)) => *time = json!(rfc3339(right.time_ms)),
        _ => return false,
    }
    if right.is_certain() && object.get("quality") == Some(&json!(quality(Quality::Uncertain))) {
        object.shift_remove("quality");
    }
    // A map of what was JSON always encodes.
    serde_json::to_writer(into, &object).is_ok()
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
    let mut text = Vec::with_capacity(24);
    put_time(&mut text, unix_ms);
    // Digits and a few signs.
    String::from_utf8(text).unwrap_or_default()
}

/// Appends [`rfc3339`].
pub fn put_time(into: &mut Vec<u8>, unix_ms: i64) {
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
    match year {
        0..=9999 => put_digits::<4>(into, year),
        // RFC 3339 ends here. Nothing that is alive was sampled then.
        _ => into.extend_from_slice(format!("{year:04}").as_bytes()),
    }
    for (before, number) in
        [(b'-', month), (b'-', day), (b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        into.push(before);
        put_digits::<2>(into, number);
    }
    into.push(b'.');
    put_digits::<3>(into, ms);
    into.push(b'Z');
}

/// Appends `number`, from 0 to what `N` digits hold, with that many digits.
fn put_digits<const N: usize>(into: &mut Vec<u8>, mut number: i64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    into.extend_from_slice(&digits);
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

    fn reading(quality: Quality) -> Reading {
        Reading {
            sampled: Sampled::at(0),
            unit: Some("V".into()),
            quality,
            device: "meter".into(),
            point: Some("voltage".into()),
            form: Form::Value,
        }
    }

    fn text((payload, form): (Vec<u8>, Form)) -> (String, Form) {
        (String::from_utf8(payload).unwrap(), form)
    }

    #[test]
    fn json_carries_unit_time_and_quality() {
        let payload = encode(&PayloadFormat::Json, "edge/x", Some(&Value::Single(230.1)), &reading(Quality::Good));
        let expected =
            r#"{"topic":"edge/x","value":230.1,"unit":"V","time":"1970-01-01T00:00:00.000Z","quality":"good"}"#;
        assert_eq!(text(payload.unwrap()), (expected.into(), Form::Json));
        let payload = encode(&PayloadFormat::Json, "edge/x", None, &reading(Quality::Bad));
        let expected =
            r#"{"topic":"edge/x","value":null,"unit":"V","time":"1970-01-01T00:00:00.000Z","quality":"bad"}"#;
        assert_eq!(text(payload.unwrap()), (expected.into(), Form::Json));
    }

    #[test]
    fn an_unavailable_value_is_published_in_json_only() {
        let format = |text| PayloadFormat::deserialize(json!(text)).unwrap().bound("edge");
        let (plain, json) = (format("{gateway} {value}"), format(r#"{"v":{value},"g":{gateway}}"#));
        let encode = |format, value| encode(format, "t", value, &reading(Quality::Good)).map(text);
        assert_eq!(encode(&PayloadFormat::Plain, None), None);
        assert_eq!(encode(&plain, None), None);
        assert_eq!(encode(&json, None), Some((r#"{"v":null,"g":"edge"}"#.into(), Form::Template)));
        let on = Value::Text("on".into());
        assert_eq!(encode(&PayloadFormat::Plain, Some(&on)), Some(("on".into(), Form::Text)));
        assert_eq!(encode(&plain, Some(&on)), Some(("edge on".into(), Form::Template)));
        assert_eq!(encode(&json, Some(&on)), Some((r#"{"v":"on","g":"edge"}"#.into(), Form::Template)));
    }

    #[test]
    fn the_time_of_an_object_is_corrected_where_it_is_that_of_the_sample() {
        let uncertain = Sampled { time_ms: 0, uncertain_at: Some(crate::mqtt::Millis(7)) };
        let corrected = |object: &[u8], right| {
            let mut into = Vec::new();
            put_object_at(&mut into, object, uncertain, right).then(|| String::from_utf8(into).unwrap())
        };
        let object = encode_object([("a", Some(&Value::Single(0.1))), ("b", None)], uncertain);
        assert_eq!(object, br#"{"a":0.1,"b":null,"time":"1970-01-01T00:00:00.000Z","quality":"uncertain"}"#);
        let expected = r#"{"a":0.1,"b":null,"time":"1970-01-01T00:00:05.000Z"}"#;
        assert_eq!(corrected(&object, Sampled::at(5_000)).as_deref(), Some(expected));
        let own = encode_object([("time", Some(&Value::Integer(12)))], uncertain);
        assert_eq!(corrected(&own, Sampled::at(5_000)), None);
    }

    #[test]
    fn what_is_no_payload_is_refused_in_words() {
        let refused = |text| PayloadFormat::deserialize(json!(text)).unwrap_err().to_string();
        assert!(refused("{valu}").contains("did you mean `{value}`?"), "{}", refused("{valu}"));
        assert!(refused("{value} {bridge}").contains("`{bridge}` has no meaning here"));
        assert!(refused("jsn").contains("plain"), "{}", refused("jsn"));
    }
}
