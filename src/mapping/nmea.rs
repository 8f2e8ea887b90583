//! NMEA 0183 as satellite receivers speak it: sentences with their checksums, merged into one fix per epoch.
//!
//! ```text
//! $GPGGA,110124,5505.330990,N,03858.587325,E,2,09,0.9,2177.0,M,14.0,M,,*7D
//!  ^talker       ^ddmm.mmmm     ^dddmm.mmmm  ^quality                    ^XOR of all between $ and *
//!    ^kind                                     ^satellites
//! ```
//!
//! RMC, GGA and GLL carry the time of their epoch; VTG, GSA and GSV carry none and belong to the epoch that is
//! completed next, whichever order a receiver has.

use serde_json::{Map, Value as Json, json};

use super::linear::tidy;
use super::payload::rfc3339;
use super::text::unix_ms;

/// The fields of a fix, each with its unit.
pub const FIELDS: [(&str, Option<&str>); 14] = [
    ("lat", Some("°")),
    ("lon", Some("°")),
    ("speed", Some("km/h")),
    ("course", Some("°")),
    ("altitude", Some("m")),
    ("satellites", None),
    ("satellites_in_view", None),
    ("hdop", None),
    ("pdop", None),
    ("vdop", None),
    ("fix", None),
    ("quality", None),
    ("time", None),
    ("date", None),
];

/// Why a line is no sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NmeaError {
    /// No `$` and no `*`: not NMEA, or at another baud rate.
    #[error("no NMEA sentence")]
    NoSentence,
    /// The checksum is another one: bytes were lost or changed.
    #[error("wrong NMEA checksum: {found:02X} instead of {expected:02X}")]
    Checksum {
        /// What the sentence's bytes add up to.
        expected: u8,
        /// What the sentence says.
        found: u8,
    },
}

/// One sentence, as far as it is of use here.
#[derive(Debug, Clone, PartialEq)]
pub enum Sentence {
    /// Recommended minimum data: time, date, position, speed, course.
    Rmc {
        /// When it was, in the day.
        time: Option<TimeOfDay>,
        /// Whether the receiver has a fix.
        valid: bool,
        /// Where.
        position: Option<Position>,
        /// Knots.
        speed: Option<f64>,
        /// Degrees from true north.
        course: Option<f64>,
        /// The day: year, month, day.
        date: Option<(i64, u32, u32)>,
    },
    /// Fix data: time, position, quality, satellites, altitude.
    Gga {
        /// When it was, in the day.
        time: Option<TimeOfDay>,
        /// 0 without a fix, 1 by satellites alone, 2 differential, 4 and 5 RTK, 6 estimated.
        quality: u8,
        /// Where.
        position: Option<Position>,
        /// Satellites used.
        satellites: Option<u8>,
        /// Horizontal dilution of precision.
        hdop: Option<f64>,
        /// Metres above mean sea level.
        altitude: Option<f64>,
    },
    /// Position and time.
    Gll {
        /// When it was, in the day.
        time: Option<TimeOfDay>,
        /// Whether the receiver has a fix.
        valid: bool,
        /// Where.
        position: Option<Position>,
    },
    /// Course and speed.
    Vtg {
        /// Degrees from true north.
        course: Option<f64>,
        /// Kilometres per hour.
        speed: Option<f64>,
    },
    /// Kind of fix and dilution of precision.
    Gsa {
        /// 1 none, 2 two-dimensional, 3 three-dimensional.
        fix: u8,
        /// Dilution of precision in position.
        pdop: Option<f64>,
        /// Horizontal dilution of precision.
        hdop: Option<f64>,
        /// Vertical dilution of precision.
        vdop: Option<f64>,
    },
    /// Satellites in view of one system.
    Gsv {
        /// The system's two letters.
        talker: [u8; 2],
        /// How many.
        in_view: u8,
    },
}

/// A time of day, UTC, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(pub u32);

/// Decimal degrees; south and west are negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Latitude.
    pub lat: f64,
    /// Longitude.
    pub lon: f64,
}

/// Parses one line. `Ok(None)` is a good sentence that tells nothing here: another kind, or a maker's own.
///
/// # Errors
/// A [`NmeaError`] where the line is no sentence, or was damaged on its way.
pub fn parse(line: &[u8]) -> Result<Option<Sentence>, NmeaError> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.is_ascii()).ok_or(NmeaError::NoSentence)?;
    // What stands before the last `$` is the rest of a sentence that was cut off.
    let start = line.rfind(['$', '!']).ok_or(NmeaError::NoSentence)?;
    let (body, checksum) = line[start + 1..].split_once('*').ok_or(NmeaError::NoSentence)?;
    let found =
        checksum.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(NmeaError::NoSentence)?;
    let expected = body.bytes().fold(0, |sum, byte| sum ^ byte);
    if found != expected {
        return Err(NmeaError::Checksum { expected, found });
    }
    Ok(read(body))
}

fn read(body: &str) -> Option<Sentence> {
    let mut fields = body.split(',');
    let address = fields.next()?;
    let (talker, kind) = address.split_at_checked(2)?;
    if !matches!(talker, "GP" | "GN" | "GL" | "GA" | "GB" | "BD" | "GQ" | "GI") {
        return None;
    }
    let fields: Vec<&str> = fields.take(20).collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    match kind {
        "RMC" => Some(Sentence::Rmc {
            time: time_of_day(field(0)),
            valid: field(1) == "A",
            position: position(field(2), field(3), field(4), field(5)),
            speed: number(field(6)),
            course: number(field(7)),
            date: date(field(8)),
        }),
        "GGA" => Some(Sentence::Gga {
            time: time_of_day(field(0)),
            position: position(field(1), field(2), field(3), field(4)),
            quality: field(5).parse().unwrap_or(0),
            satellites: field(6).parse().ok(),
            hdop: number(field(7)),
            altitude: number(field(8)),
        }),
        "GLL" => Some(Sentence::Gll {
            position: position(field(0), field(1), field(2), field(3)),
            time: time_of_day(field(4)),
            valid: field(5) == "A",
        }),
        "VTG" => Some(Sentence::Vtg { course: number(field(0)), speed: number(field(6)) }),
        "GSA" => Some(Sentence::Gsa {
            fix: field(1).parse().unwrap_or(1),
            pdop: number(field(14)),
            hdop: number(field(15)),
            vdop: number(field(16)),
        }),
        // Every sentence of a sequence repeats the count.
        "GSV" => {
            let talker = talker.as_bytes();
            Some(Sentence::Gsv { talker: [talker[0], talker[1]], in_view: field(2).parse().ok()? })
        }
        _ => None,
    }
}

/// A decimal number; receivers write neither exponents nor `inf`.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+'));
    text.parse().ok().filter(|_| plain)
}

/// `hhmmss` or `hhmmss.sss`.
fn time_of_day(text: &str) -> Option<TimeOfDay> {
    let (hour, minute, second) = (two_digits(text, 0)?, two_digits(text, 2)?, number(text.get(4..)?)?);
    let valid = hour < 24 && minute < 60 && (0.0..61.0).contains(&second);
    valid.then(|| TimeOfDay((hour * 60 + minute) * 60_000 + (second * 1e3).round() as u32))
}

/// `ddmmyy`; receivers came into use in the 1980s.
fn date(text: &str) -> Option<(i64, u32, u32)> {
    let (day, month, year) = (two_digits(text, 0)?, two_digits(text, 2)?, i64::from(two_digits(text, 4)?));
    let year = if year < 80 { 2000 + year } else { 1900 + year };
    unix_ms(year, month, day, 0).map(|_| (year, month, day))
}

fn two_digits(text: &str, at: usize) -> Option<u32> {
    super::text::digits(text.get(at..at + 2)?)
}

fn position(lat: &str, north: &str, lon: &str, east: &str) -> Option<Position> {
    let lat = degrees(lat, 90.0)? * sign(north, "N", "S")?;
    let lon = degrees(lon, 180.0)? * sign(east, "E", "W")?;
    // Receivers that say 0,0 have no fix, whatever their status field says.
    (lat != 0.0 || lon != 0.0).then_some(Position { lat, lon })
}

/// Degrees and minutes without anything between them: `03858.587325` is 38° 58.587325'.
fn degrees(text: &str, limit: f64) -> Option<f64> {
    let point = text.find('.').unwrap_or(text.len());
    let (degrees, minutes) = text.split_at_checked(point.checked_sub(2)?)?;
    let (degrees, minutes) = (f64::from(super::text::digits(degrees)?), number(minutes)?);
    // To 8 places, a millimetre.
    let value = ((degrees + minutes / 60.0) * 1e8).round() / 1e8;
    ((0.0..60.0).contains(&minutes) && value <= limit).then_some(value)
}

fn sign(text: &str, positive: &str, negative: &str) -> Option<f64> {
    match text {
        _ if text == positive => Some(1.0),
        _ if text == negative => Some(-1.0),
        _ => None,
    }
}

/// What a receiver knew at one time. Without a fix only `fix`, `quality` and the satellites are there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fix {
    /// Where; `None` without a fix, never 0/0.
    pub position: Option<Position>,
    /// Kilometres per hour.
    pub speed: Option<f64>,
    /// Degrees from true north; receivers leave it out while they stand.
    pub course: Option<f64>,
    /// Metres above mean sea level.
    pub altitude: Option<f64>,
    /// Satellites used.
    pub satellites: Option<u8>,
    /// Satellites in view, of all systems.
    pub satellites_in_view: Option<u16>,
    /// Horizontal dilution of precision.
    pub hdop: Option<f64>,
    /// Dilution of precision in position.
    pub pdop: Option<f64>,
    /// Vertical dilution of precision.
    pub vdop: Option<f64>,
    /// 1 none, 2 two-dimensional, 3 three-dimensional.
    pub dimensions: u8,
    /// The quality that GGA gives.
    pub quality: Option<u8>,
    /// When the fix was, in milliseconds since the Unix epoch; `None` where the receiver gives no date.
    pub time_ms: Option<i64>,
}

impl Fix {
    /// The fix as an object of all [`FIELDS`]; what is not known is null.
    pub fn to_json(&self) -> Json {
        let time = self.time_ms.map(rfc3339);
        let fix = match self.dimensions {
            2 => "2d",
            3 => "3d",
            _ => "none",
        };
        let mut object = Map::new();
        for (field, value) in [
            ("lat", json!(self.position.map(|position| position.lat))),
            ("lon", json!(self.position.map(|position| position.lon))),
            ("speed", json!(self.speed)),
            ("course", json!(self.course)),
            ("altitude", json!(self.altitude)),
            ("satellites", json!(self.satellites)),
            ("satellites_in_view", json!(self.satellites_in_view)),
            ("hdop", json!(self.hdop)),
            ("pdop", json!(self.pdop)),
            ("vdop", json!(self.vdop)),
            ("fix", json!(fix)),
            ("quality", json!(self.quality)),
            ("time", json!(time)),
            ("date", json!(time.as_deref().map(|time| &time[..10]))),
        ] {
            object.insert(field.to_owned(), value);
        }
        Json::Object(object)
    }
}

/// Merges the sentences of one epoch.
///
/// ```text
///            RMC, GGA or GLL             RMC and GGA are there, or a sentence of another time
///   nothing ----------------> collecting ----------------------------------------------------> a Fix
/// ```
#[derive(Debug, Clone, Default)]
pub struct EpochMerger {
    collecting: Option<Epoch>,
    completed: Option<Epoch>,
    untimed: Untimed,
}

#[derive(Debug, Clone, Default)]
struct Epoch {
    time: Option<TimeOfDay>,
    rmc: Option<Sentence>,
    gga: Option<Sentence>,
    gll: Option<Sentence>,
}

/// What came since the last epoch was completed in sentences that carry no time.
#[derive(Debug, Clone, Default)]
struct Untimed {
    vtg: Option<(Option<f64>, Option<f64>)>,
    dimensions: Option<u8>,
    pdop: Option<f64>,
    hdop: Option<f64>,
    vdop: Option<f64>,
    in_view: Vec<([u8; 2], u8)>,
}

impl EpochMerger {
    /// Takes the next sentence; gives a fix when an epoch is complete.
    pub fn push(&mut self, sentence: Sentence) -> Option<Fix> {
        let time = match &sentence {
            Sentence::Rmc { time, .. } | Sentence::Gga { time, .. } | Sentence::Gll { time, .. } => *time,
            _ => {
                self.untimed.take(&sentence);
                return None;
            }
        };
        let continued = |epoch: &Epoch| epoch.time == time && epoch.lacks(&sentence);
        let finished = match &self.collecting {
            Some(epoch) if !continued(epoch) => self.finish(),
            _ => None,
        };
        if self.collecting.is_none()
            && let Some(completed) = self.completed.as_mut().filter(|epoch| continued(epoch))
        {
            // The epoch is out already; remembering the sentence lets the next of its kind begin a new epoch.
            completed.insert(sentence);
            return finished;
        }
        let epoch = self.collecting.get_or_insert_with(|| Epoch { time, ..Epoch::default() });
        epoch.insert(sentence);
        let complete = epoch.rmc.is_some() && epoch.gga.is_some();
        // An epoch that has just begun is never complete, so that at most one of the two is there.
        if complete { self.finish() } else { finished }
    }

    fn finish(&mut self) -> Option<Fix> {
        let epoch = self.collecting.take()?;
        let fix = epoch.fix(&std::mem::take(&mut self.untimed));
        self.completed = Some(epoch);
        Some(fix)
    }
}

impl Epoch {
    /// Whether there is no sentence of this kind yet. A receiver without a fix has no time: there the same kind of
    /// sentence again is the only mark of the next epoch.
    fn lacks(&self, sentence: &Sentence) -> bool {
        match sentence {
            Sentence::Rmc { .. } => self.rmc.is_none(),
            Sentence::Gga { .. } => self.gga.is_none(),
            _ => self.gll.is_none(),
        }
    }

    fn insert(&mut self, sentence: Sentence) {
        match sentence {
            Sentence::Rmc { .. } => self.rmc = Some(sentence),
            Sentence::Gga { .. } => self.gga = Some(sentence),
            _ => self.gll = Some(sentence),
        }
    }

    /// The fix that the sentences agree on: where one of them has none, there is none.
    fn fix(&self, untimed: &Untimed) -> Fix {
        let mut fix = Fix { dimensions: 1, satellites_in_view: untimed.satellites_in_view(), ..Fix::default() };
        let mut valid = true;
        let mut found = None;
        let mut day = None;
        if let Some(Sentence::Gll { valid: gll, position, .. }) = &self.gll {
            valid &= *gll;
            found = *position;
        }
        if let Some(Sentence::Rmc { valid: rmc, position, speed, course, date, .. }) = &self.rmc {
            valid &= *rmc;
            found = position.or(found);
            fix.speed = speed.map(|knots| tidy(knots * 1.852));
            fix.course = *course;
            day = *date;
        } else if let Some((course, speed)) = untimed.vtg {
            fix.course = course;
            fix.speed = speed;
        }
        if let Some(Sentence::Gga { quality, position, satellites, hdop, altitude, .. }) = &self.gga {
            valid &= *quality > 0;
            found = position.or(found);
            fix.quality = Some(*quality);
            fix.satellites = *satellites;
            fix.hdop = *hdop;
            fix.altitude = *altitude;
        }
        let Some(position) = found.filter(|_| valid) else {
            return Fix {
                dimensions: 1,
                quality: fix.quality,
                satellites: fix.satellites,
                satellites_in_view: fix.satellites_in_view,
                ..Fix::default()
            };
        };
        fix.position = Some(position);
        fix.dimensions = match untimed.dimensions {
            Some(dimensions @ 2..=3) => dimensions,
            _ => 2 + u8::from(fix.altitude.is_some()),
        };
        fix.hdop = fix.hdop.or(untimed.hdop);
        fix.pdop = untimed.pdop;
        fix.vdop = untimed.vdop;
        fix.time_ms = match (day, self.time) {
            (Some((year, month, day)), Some(time)) => unix_ms(year, month, day, i64::from(time.0)),
            _ => None,
        };
        fix
    }
}

impl Untimed {
    fn take(&mut self, sentence: &Sentence) {
        match *sentence {
            Sentence::Vtg { course, speed } => self.vtg = Some((course, speed)),
            Sentence::Gsa { fix, pdop, hdop, vdop } => {
                // One per system; the best of them is the receiver's.
                self.dimensions = self.dimensions.max(Some(fix));
                self.pdop = pdop.or(self.pdop);
                self.hdop = hdop.or(self.hdop);
                self.vdop = vdop.or(self.vdop);
            }
            Sentence::Gsv { talker, in_view } => match self.in_view.iter_mut().find(|(known, _)| *known == talker) {
                // A system has a sequence for each of its signals.
                Some((_, count)) => *count = in_view.max(*count),
                None => self.in_view.push((talker, in_view)),
            },
            Sentence::Rmc { .. } | Sentence::Gga { .. } | Sentence::Gll { .. } => {}
        }
    }

    fn satellites_in_view(&self) -> Option<u16> {
        let total = self.in_view.iter().map(|(_, count)| u16::from(*count)).sum();
        (!self.in_view.is_empty()).then_some(total)
    }
}

#[cfg(test)]
#[path = "tests/nmea.rs"]
mod tests;
