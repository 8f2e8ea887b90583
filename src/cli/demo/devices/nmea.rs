//! A simulated satellite receiver: it drives laps and prints NMEA 0183 once a second.

use std::f64::consts::TAU;
use std::fmt::Write;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::time::MissedTickBehavior;
use tokio_serial::SerialStream;

use crate::mapping::payload::rfc3339;

/// The middle of the laps, an old airfield, in degrees.
const MIDDLE: (f64, f64) = (52.473, 13.402);
/// From the middle to the farthest points north and east, in degrees.
const RADIUS: (f64, f64) = (0.0040, 0.0105);
/// Seconds of a lap.
const LAP: f64 = 240.0;
/// Metres of a degree of latitude.
const METRES: f64 = 111_320.0;
const METRES_PER_SECOND_OF_A_KNOT: f64 = 0.514_444;

/// Where the receiver is at a moment, and how it moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Degrees, north positive.
    pub lat: f64,
    /// Degrees, east positive.
    pub lon: f64,
    /// Knots.
    pub knots: f64,
    /// Degrees from true north.
    pub course: f64,
}

/// Prints sentences into the device's end of a line until the line is gone.
///
/// # Errors
/// Where the line is gone.
pub async fn drive(mut line: SerialStream) -> io::Result<()> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        second.tick().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        line.write_all(sentences(unix_ms).as_bytes()).await?;
    }
}

/// Where the receiver is, `unix_ms` milliseconds after the beginning of 1970.
pub fn moment(unix_ms: i64) -> Moment {
    let turn = TAU * (unix_ms as f64 / 1000.0 / LAP).fract();
    let (north, east) = (RADIUS.0 * turn.sin(), RADIUS.1 * turn.cos());
    let pace = TAU / LAP * METRES;
    let northward = RADIUS.0 * turn.cos() * pace;
    let eastward = -RADIUS.1 * turn.sin() * pace * MIDDLE.0.to_radians().cos();
    Moment {
        lat: MIDDLE.0 + north,
        lon: MIDDLE.1 + east,
        knots: northward.hypot(eastward) / METRES_PER_SECOND_OF_A_KNOT,
        course: eastward.atan2(northward).to_degrees().rem_euclid(360.0),
    }
}

/// What the receiver prints for one second: RMC, GGA and GSA.
pub fn sentences(unix_ms: i64) -> String {
    let Moment { lat, lon, knots, course } = moment(unix_ms);
    let position = format!("{},{}", angle(lat, 2, "N", "S"), angle(lon, 3, "E", "W"));
    // 2026-11-22T08:30:01.000Z
    let written = rfc3339(unix_ms);
    let digits = |from: usize, to: usize| written.get(from..to).unwrap_or("00");
    let time = format!("{}{}{}.00", digits(11, 13), digits(14, 16), digits(17, 19));
    let date = format!("{}{}{}", digits(8, 10), digits(5, 7), digits(2, 4));
    let mut out = String::new();
    put(&mut out, &format!("GPRMC,{time},A,{position},{knots:.2},{course:.1},{date},,,A"));
    put(&mut out, &format!("GPGGA,{time},{position},1,11,0.9,48.2,M,39.5,M,,"));
    put(&mut out, "GPGSA,A,3,02,05,07,09,13,14,16,20,23,27,30,,1.6,0.9,1.3");
    out
}

/// `ddmm.mmmmm,N`, with `digits` digits of degrees.
fn angle(degrees: f64, digits: usize, positive: &str, negative: &str) -> String {
    // Rounded before it is taken apart, so that no minute is ever 60.
    let units = (degrees.abs() * 60.0 * 1e5).round() as u64;
    let (whole, rest) = (units / 6_000_000, units % 6_000_000);
    let half = if degrees < 0.0 { negative } else { positive };
    format!("{whole:0digits$}{:02}.{:05},{half}", rest / 100_000, rest % 100_000)
}

/// Appends a sentence with its checksum: the XOR of all between `$` and `*`.
fn put(out: &mut String, body: &str) {
    let checksum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    // Writing into a String cannot fail.
    let _ = write!(out, "${body}*{checksum:02X}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::nmea::{EpochMerger, parse};

    /// 2026-11-22T08:30:01Z.
    const NOW: i64 = 1_795_336_201_000;

    #[test]
    fn what_it_prints_is_read_as_what_it_meant() {
        let mut merger = EpochMerger::default();
        for second in 0..i64::from(LAP as i32) {
            let unix_ms = NOW + second * 1000;
            let mut fixes = Vec::new();
            for line in sentences(unix_ms).lines() {
                let sentence = parse(line.as_bytes()).unwrap().expect("a sentence that tells something");
                fixes.extend(merger.push(sentence));
            }
            let (fix, meant) = (fixes.last().expect("a fix in each second"), moment(unix_ms));
            let position = fix.position.unwrap();
            assert!((position.lat - meant.lat).abs() < 1e-6 && (position.lon - meant.lon).abs() < 1e-6);
            assert!((fix.speed.unwrap() - meant.knots * 1.852).abs() < 0.02);
            assert!((fix.course.unwrap() - meant.course).abs() < 0.06);
            assert_eq!(fix.time_ms, Some(unix_ms));
        }
    }

    #[test]
    fn the_drive_is_as_fast_as_its_positions_say() {
        let (from, to) = (moment(NOW), moment(NOW + 1000));
        let north = (to.lat - from.lat) * METRES;
        let east = (to.lon - from.lon) * METRES * from.lat.to_radians().cos();
        let knots = north.hypot(east) / METRES_PER_SECOND_OF_A_KNOT;
        assert!((knots - from.knots).abs() < 0.5, "{knots} or {}", from.knots);
    }

    #[test]
    fn no_minute_is_sixty() {
        assert_eq!(angle(12.999_999_999, 2, "N", "S"), "1300.00000,N");
        assert_eq!(angle(-0.5, 3, "E", "W"), "00030.00000,W");
    }
}
