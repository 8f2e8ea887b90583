//! A serial line: its format, and opening it by its configured path.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use tokio_serial::{Parity, SerialStream};

/// Data bits, parity and stop bits, as in `8N1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineFormat {
    /// 5 to 8.
    pub data_bits: tokio_serial::DataBits,
    /// None, even or odd.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: tokio_serial::StopBits,
}

impl Default for LineFormat {
    fn default() -> Self {
        Self { data_bits: tokio_serial::DataBits::Eight, parity: Parity::None, stop_bits: tokio_serial::StopBits::One }
    }
}

impl FromStr for LineFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use tokio_serial::{DataBits, Parity, StopBits};
        let mut characters = text.chars();
        let data_bits = match characters.next() {
            Some('5') => Some(DataBits::Five),
            Some('6') => Some(DataBits::Six),
            Some('7') => Some(DataBits::Seven),
            Some('8') => Some(DataBits::Eight),
            _ => None,
        };
        let parity = match characters.next().map(|character| character.to_ascii_uppercase()) {
            Some('N') => Some(Parity::None),
            Some('E') => Some(Parity::Even),
            Some('O') => Some(Parity::Odd),
            _ => None,
        };
        let stop_bits = match characters.next() {
            Some('1') => Some(StopBits::One),
            Some('2') => Some(StopBits::Two),
            _ => None,
        };
        match (data_bits, parity, stop_bits, characters.next()) {
            (Some(data_bits), Some(parity), Some(stop_bits), None) => Ok(Self { data_bits, parity, stop_bits }),
            _ => Err(format!(
                "`{text}` is no line format\na format is data bits, parity and stop bits, for example 8N1, 8E1 or 7O2"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for LineFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Which port, and how fast it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineSettings {
    /// The configured path: opened anew each time, because USB ports change their numbers.
    pub path: String,
    /// Symbols per second.
    pub baud: u32,
    /// Data bits, parity, stop bits.
    pub format: LineFormat,
}

/// Opens the port for us alone.
///
/// # Errors
/// A reason in words, such as `No such file or directory`.
pub async fn open(settings: &LineSettings) -> Result<SerialStream, String> {
    let builder = tokio_serial::new(&settings.path, settings.baud)
        .data_bits(settings.format.data_bits)
        .parity(settings.format.parity)
        .stop_bits(settings.format.stop_bits);
    // Opening sets the line up by calls that some drivers are slow to answer.
    let opened = tokio::task::spawn_blocking(move || SerialStream::open(&builder)).await;
    match opened {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the attempt was given up".into()),
    }
}

impl LineFormat {
    /// Bits of a character on the line, start bit included.
    fn bits(&self) -> u32 {
        let parity = u32::from(self.parity != Parity::None);
        1 + u32::from(u8::from(self.data_bits)) + parity + u32::from(u8::from(self.stop_bits))
    }
}

impl LineSettings {
    /// The time that a character takes.
    pub fn character(&self) -> Duration {
        Duration::from_secs(1) * self.format.bits() / self.baud.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_as_people_write_them() {
        assert_eq!("8n1".parse(), Ok(LineFormat::default()));
        let format: LineFormat = "7E2".parse().unwrap();
        assert_eq!((format.parity, format.bits()), (Parity::Even, 11));
        for wrong in ["", "8N", "8X1", "8N3", "9N1", "8N1 "] {
            assert!(wrong.parse::<LineFormat>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_character_takes_ten_bits_without_parity() {
        let line = LineSettings { path: String::new(), baud: 9_600, format: LineFormat::default() };
        assert_eq!(line.character(), Duration::from_secs(1) * 10 / 9_600);
    }

    #[tokio::test]
    async fn a_missing_port_is_a_reason_in_words() {
        let settings = LineSettings { path: "/nonexistent/port".into(), baud: 9600, format: LineFormat::default() };
        let error = open(&settings).await.unwrap_err();
        assert_eq!(error, "No such file or directory");
    }
}
