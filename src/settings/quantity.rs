//! Durations `500ms 5s 1m 1h 1d`, sizes `64KB 512MB`, rates `50/s`, bandwidths `32KB/s`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};

/// A span of time: a number with `ms`, `s`, `m`, `h` or `d`. A bare `0` is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(pub std::time::Duration);

/// A number of bytes: a number with `B`, `KB`, `MB` or `GB` (1 KB is 1,024 bytes), or bare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// Events per second: `50/s`, `10/m` or `5/h`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Rate(pub f64);

/// Bytes per second: `32KB/s`, `1MB/m` or `500MB/d`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Bandwidth(pub f64);

const DURATION_HELP: &str = "a duration is a number with ms, s, m, h or d, for example 500ms, 5s or 1d";
const SIZE_HELP: &str = "a size is a number with B, KB, MB or GB, for example 64KB";
const RATE_HELP: &str = "a rate is a number per s, m or h, for example 50/s";
const BANDWIDTH_HELP: &str = "a bandwidth is a size per s, m, h or d, for example 32KB/s";

impl Duration {
    /// `seconds` seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }
}

/// As it would be written: in the largest unit that leaves a whole number.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if millis >= size && millis.is_multiple_of(size) {
                return write!(f, "{}{unit}", millis / size);
            }
        }
        write!(f, "{millis}ms")
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        if text == "0" {
            return Ok(Self::default());
        }
        let number: f64 = number.parse().map_err(|_| DURATION_HELP)?;
        let seconds = match unit {
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3_600.0,
            "d" => number * 86_400.0,
            _ => return Err(DURATION_HELP.into()),
        };
        std::time::Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| DURATION_HELP.into())
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let number: f64 = number.parse().map_err(|_| SIZE_HELP)?;
        let factor = match unit {
            "" | "B" => 1.0,
            "KB" | "K" => 1024.0,
            "MB" | "M" => 1024.0 * 1024.0,
            "GB" | "G" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(SIZE_HELP.into()),
        };
        let bytes = number * factor;
        if !(0.0..=9e15).contains(&bytes) {
            return Err(SIZE_HELP.into());
        }
        Ok(Self(bytes as u64))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = text.split_once('/').ok_or(RATE_HELP)?;
        let number: f64 = number.trim().parse().map_err(|_| RATE_HELP)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(RATE_HELP.into()),
        };
        if !number.is_finite() || number <= 0.0 {
            return Err(RATE_HELP.into());
        }
        Ok(Self(number / seconds))
    }
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (size, unit) = text.split_once('/').ok_or(BANDWIDTH_HELP)?;
        let size: Size = size.trim().parse().map_err(|_| BANDWIDTH_HELP)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(BANDWIDTH_HELP.into()),
        };
        if size.0 == 0 {
            return Err(BANDWIDTH_HELP.into());
        }
        Ok(Self(size.0 as f64 / seconds))
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

// In a message, a line break parts what is wrong from what would be right.
macro_rules! deserialize_from_text {
    ($($name:ident: $what:literal),*) => {
        $(impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(|help| E::custom(format!("`{text}` is not {}\n{help}", $what)))
                    }
                    fn visit_u64<E: Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_i64<E: Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_f64<E: Error>(self, number: f64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        })*
    };
}

deserialize_from_text!(Duration: "a duration", Size: "a size", Rate: "a rate", Bandwidth: "a bandwidth");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_prints_as_it_is_written() {
        for text in ["500ms", "5s", "90s", "1m", "36h", "7d", "0ms"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!("500ms".parse(), Ok(Duration::from_millis(500)));
        assert_eq!("1.5s".parse(), Ok(Duration::from_millis(1500)));
        assert_eq!("7d".parse(), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!("0".parse(), Ok(Duration::default()));
        assert_eq!("64KB".parse(), Ok(Size(65_536)));
        assert_eq!("1000".parse(), Ok(Size(1000)));
        assert_eq!("30/m".parse(), Ok(Rate(0.5)));
        assert_eq!("32KB/s".parse(), Ok(Bandwidth(32_768.0)));
        assert_eq!("60KB / m".parse(), Ok(Bandwidth(1024.0)));
        assert!(["32KB", "0/s", "1KB/w"].iter().all(|wrong| wrong.parse::<Bandwidth>().is_err()));
        for wrong in ["5", "s", "5 parsecs", "-1s", ""] {
            assert!(wrong.parse::<Duration>().is_err(), "{wrong}");
        }
        assert!("64XB".parse::<Size>().is_err());
        assert!("50".parse::<Rate>().is_err());
    }
}
