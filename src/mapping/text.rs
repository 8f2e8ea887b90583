//! Text as devices print it: which value it is, and which moment it names.

use serde::Deserialize;

use super::Value;

/// What a point's value is to be (`type:` of serial and HTTP points).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// A number.
    Number,
    /// Text, as it came.
    Text,
    /// True or false.
    Bool,
    /// What [`read`] makes of text: the default where a device prints its values.
    #[serde(skip)]
    Printed,
}

/// The value that `text` is where nobody says which: a number where it is written as JSON writes numbers, else text.
///
/// So `21.5` is a number, and `007` or `+49` stay text.
pub fn read(text: &str) -> Value {
    match serde_json::from_str::<serde_json::Number>(text.trim()) {
        Ok(number) => Value::from_json(&serde_json::Value::Number(number)),
        Err(_) => Value::Text(text.to_owned()),
    }
}

/// `value` as a `kind`; `None` where it is none, for example `abc` as a number.
pub fn convert(value: Value, kind: ValueType) -> Option<Value> {
    match (kind, value) {
        (_, Value::Json(_)) => None,
        (ValueType::Text, value) => Some(Value::Text(value.to_string())),
        (ValueType::Printed, Value::Text(text)) => Some(read(&text)),
        (ValueType::Printed, value) => Some(value),
        (ValueType::Number, Value::Bool(value)) => Some(Value::Integer(i64::from(value))),
        (ValueType::Number, Value::Text(text)) => read_number(&text),
        (ValueType::Number, value) => Some(value),
        (ValueType::Bool, Value::Text(text)) => read_bool(&text),
        (ValueType::Bool, value) => value.as_f64().map(|number| Value::Bool(number != 0.0)),
    }
}

fn read_number(text: &str) -> Option<Value> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text).trim_start();
    if let Ok(integer) = text.parse::<i64>() {
        return Some(Value::Integer(integer));
    }
    // Rust also reads "inf" and "nan", which no device means as a reading.
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::Double)
}

fn read_bool(text: &str) -> Option<Value> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(Value::Bool(true)),
        "false" | "off" | "no" | "0" => Some(Value::Bool(false)),
        _ => None,
    }
}

/// The moment that `json` names, in milliseconds since the Unix epoch: ISO 8601 text such as `2026-11-22T12:40`,
/// `2026-11-22 12:40:08.017+01:00` or `…Z` (UTC where no zone is given), or Unix time in seconds or milliseconds.
pub fn read_time(json: &serde_json::Value) -> Option<i64> {
    let from_number = |number: f64| {
        // From 100,000,000,000 on it is milliseconds: as seconds that would be the year 5138.
        let ms = if number.abs() < 1e11 { number * 1e3 } else { number };
        (ms.abs() < 1e15).then(|| ms.round() as i64)
    };
    match json {
        serde_json::Value::Number(number) => number.as_f64().and_then(from_number),
        serde_json::Value::String(text) => {
            let text = text.trim();
            iso_8601(text).or_else(|| text.parse().ok().filter(|n: &f64| n.is_finite()).and_then(from_number))
        }
        _ => None,
    }
}

fn iso_8601(text: &str) -> Option<i64> {
    if !text.is_ascii() {
        return None;
    }
    let (date, rest) = text.split_at_checked(10)?;
    let mut date = date.split('-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let rest = match rest.as_bytes().first() {
        None => return unix_ms(year.into(), month, day, 0),
        Some(b'T' | b't' | b' ') => &rest[1..],
        Some(_) => return None,
    };
    let zone = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone);
    let mut clock = clock.trim_end().split(':');
    let (hour, minute) = (digits(clock.next()?)?, digits(clock.next()?)?);
    let second: f64 = match clock.next() {
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => text.parse().ok()?,
        Some(_) => return None,
        None => 0.0,
    };
    if hour > 23 || minute > 59 || second >= 61.0 || clock.next().is_some() {
        return None;
    }
    let ms_of_day = i64::from(hour) * 3_600_000 + i64::from(minute) * 60_000 + (second * 1e3).round() as i64;
    Some(unix_ms(year.into(), month, day, ms_of_day)? - zone_ms(zone)?)
}

/// How far a zone is ahead of UTC: `Z`, `+01:00`, `+0100`, `-05`, or nothing.
fn zone_ms(zone: &str) -> Option<i64> {
    let (sign, zone) = match zone.as_bytes().first() {
        None | Some(b'Z' | b'z') => return (zone.len() <= 1).then_some(0),
        Some(b'-') => (-1, &zone[1..]),
        Some(_) => (1, &zone[1..]),
    };
    let zone: String = zone.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match zone.len() {
        2 => (digits(&zone)?, 0),
        4 => (digits(&zone[..2])?, digits(&zone[2..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| sign * (i64::from(hours) * 60 + i64::from(minutes)) * 60_000)
}

/// A number of nothing but digits, up to four of them.
pub(super) fn digits(text: &str) -> Option<u32> {
    let valid = matches!(text.len(), 1..=4) && text.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| text.parse().ok()).flatten()
}

/// Milliseconds since the Unix epoch of a day of the Gregorian calendar and a time in it; `None` for no such day.
pub(super) fn unix_ms(year: i64, month: u32, day: u32, ms_of_day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_of_month).contains(&day) {
        return None;
    }
    // The year begins in March here, so that the leap day is its last; eras of 400 years repeat.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) * 86_400_000 + ms_of_day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mapping::payload::rfc3339;

    #[test]
    fn text_is_a_number_where_it_is_written_like_one() {
        assert_eq!(read("21.50"), Value::Double(21.5));
        assert_eq!(read(" -3 "), Value::Integer(-3));
        assert_eq!(read("007"), Value::Text("007".into()));
        assert_eq!(read("+49"), Value::Text("+49".into()));
        assert_eq!(read("NaN"), Value::Text("NaN".into()));
    }

    #[test]
    fn a_type_converts_what_can_be_converted() {
        let text = |text: &str| Value::Text(text.into());
        for (value, kind, expected) in [
            (text("+ 012.50"), ValueType::Number, Some(Value::Double(12.5))),
            (text("007"), ValueType::Number, Some(Value::Integer(7))),
            (text("inf"), ValueType::Number, None),
            (text("abc"), ValueType::Number, None),
            (text("ON"), ValueType::Bool, Some(Value::Bool(true))),
            (text("maybe"), ValueType::Bool, None),
            (Value::Integer(0), ValueType::Bool, Some(Value::Bool(false))),
            (Value::Double(1.5), ValueType::Text, Some(text("1.5"))),
            (Value::Json(json!([1])), ValueType::Number, None),
        ] {
            assert_eq!(convert(value.clone(), kind), expected, "{value:?}");
        }
    }

    #[test]
    fn times_are_read_as_apis_write_them() {
        for (time, expected) in [
            (json!("2026-11-22T12:40"), Some("2026-11-22T12:40:00.000Z")),
            (json!("2026-11-22 12:40:08.017"), Some("2026-11-22T12:40:08.017Z")),
            (json!("2026-11-22T12:40:08Z"), Some("2026-11-22T12:40:08.000Z")),
            (json!("2026-11-22T12:40:08+01:30"), Some("2026-11-22T11:10:08.000Z")),
            (json!("2026-11-22T12:40:08-0500"), Some("2026-11-22T17:40:08.000Z")),
            (json!("2024-02-29"), Some("2024-02-29T00:00:00.000Z")),
            (json!(1_747_561_101), Some("2025-05-18T09:38:21.000Z")),
            (json!("1747561101"), Some("2025-05-18T09:38:21.000Z")),
            (json!(1_747_561_101_250_i64), Some("2025-05-18T09:38:21.250Z")),
            (json!("2025-02-29"), None),
            (json!("2025-02-28T25:00"), None),
            (json!("11:38"), None),
            (json!(null), None),
        ] {
            assert_eq!(read_time(&time).map(rfc3339).as_deref(), expected, "{time}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_we_write_is_the_time_that_we_read(ms in -62_135_596_800_000_i64..253_402_300_799_999) {
            prop_assert_eq!(read_time(&json!(rfc3339(ms))), Some(ms));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            let _ = (read(&text), read_time(&json!(text)), convert(Value::Text(text), ValueType::Number));
        }
    }
}
