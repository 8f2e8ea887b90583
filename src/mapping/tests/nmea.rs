//! Tests of [`super`]: a log of our own making, damaged lines, and logs that receivers made where they are there.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// The sentence with its checksum.
fn sentence(body: &str) -> String {
    format!("${body}*{:02X}", body.bytes().fold(0, |sum, byte| sum ^ byte))
}

fn fixes<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Fix> {
    let mut merger = EpochMerger::default();
    lines.into_iter().filter_map(|line| merger.push(parse(line.as_bytes()).ok()??)).collect()
}

fn of_bodies(bodies: &[&str]) -> Vec<Fix> {
    let lines: Vec<String> = bodies.iter().map(|body| sentence(body)).collect();
    fixes(lines.iter().map(String::as_str))
}

/// A walk in the south-west, in the order of a u-blox receiver.
const WALK: [&str; 8] = [
    "GNRMC,083001.00,A,3324.50000,S,07036.25000,W,2.700,181.5,221126,,,A",
    "GNVTG,181.5,T,,M,2.700,N,5.000,K,A",
    "GNGGA,083001.00,3324.50000,S,07036.25000,W,1,11,0.80,570.5,M,30.0,M,,",
    "GNGSA,A,3,01,02,03,04,05,06,07,08,09,10,11,,1.50,0.80,1.20",
    "GPGSV,1,1,07,01,40,083,46",
    "GLGSV,1,1,05,70,40,083,46",
    "GNGLL,3324.50000,S,07036.25000,W,083001.00,A,A",
    "GNRMC,083002.00,A,3324.51000,S,07036.25000,W,2.700,,221126,,,A",
];

#[test]
fn sentences_of_one_epoch_become_one_fix() {
    let mut bodies = WALK.to_vec();
    bodies.push("GNGGA,083002.00,3324.51000,S,07036.25000,W,1,11,0.80,570.5,M,30.0,M,,");
    let fixes = of_bodies(&bodies);
    assert_eq!(fixes.len(), 2, "the GLL behind a complete epoch begins no other");
    let first = &fixes[0];
    assert_eq!(first.position, Some(Position { lat: -33.40833333, lon: -70.60416667 }));
    assert_eq!((first.speed, first.course, first.altitude), (Some(5.0004), Some(181.5), Some(570.5)));
    assert_eq!((first.satellites, first.hdop, first.dimensions), (Some(11), Some(0.8), 3));
    assert_eq!(first.time_ms.map(rfc3339).as_deref(), Some("2026-11-22T08:30:01.000Z"));
    let second = fixes[1].to_json();
    assert_eq!((&second["pdop"], &second["satellites_in_view"]), (&json!(1.5), &json!(12)));
    assert_eq!((&second["fix"], &second["date"], &second["course"]), (&json!("3d"), &json!("2026-11-22"), &Json::Null));
}

#[test]
fn a_receiver_of_one_kind_of_sentence_gives_a_fix_for_each_epoch() {
    let rmc = ["GPRMC,083001,A,3324.5,S,07036.2,W,0,,221126,,,A", "GPRMC,083002,A,3324.5,S,07036.2,W,0,,221126,,,A"];
    assert_eq!(of_bodies(&rmc).len(), 1, "the next epoch completes the first");
    let gll = ["GPGLL,3324.5,S,07036.2,W,083001,A,A", "GPGLL,3324.5,S,07036.2,W,083002,A,A"];
    assert_eq!(of_bodies(&gll)[0].position.map(|position| position.lat), Some(-33.40833333));
}

#[test]
fn without_a_fix_there_is_no_position() {
    let nothing = ["GPGSA,A,1,,,,,,,,,,,,,,,", "GPVTG,,T,,M,,N,,K,N", "GPRMC,,V,,,,,,,,,,N", "GPGGA,,,,,,0,00,,,,,,,"];
    let epochs: Vec<&str> = nothing.iter().chain(&nothing).copied().collect();
    let found = of_bodies(&epochs);
    assert_eq!(found.len(), 2);
    let fix = found[1].to_json();
    assert_eq!((&fix["lat"], &fix["speed"], &fix["time"]), (&Json::Null, &Json::Null, &Json::Null));
    assert_eq!((&fix["fix"], &fix["satellites"]), (&json!("none"), &json!(0)));
}

#[test]
fn a_position_that_one_sentence_calls_void_is_none() {
    for epoch in [
        ["GPRMC,083001,V,3324.5,S,07036.2,W,0,,221126,,,N", "GPGGA,083001,3324.5,S,07036.2,W,1,05,1,5,M,,M,,"],
        ["GPRMC,083001,A,3324.5,S,07036.2,W,0,,221126,,,A", "GPGGA,083001,3324.5,S,07036.2,W,0,05,1,5,M,,M,,"],
        ["GPRMC,083001,A,0000.0,N,00000.0,E,0,,221126,,,A", "GPGGA,083001,0000.0,N,00000.0,E,1,05,1,5,M,,M,,"],
        ["GPRMC,083001,A,9924.5,S,07036.2,W,0,,221126,,,A", "GPGGA,083001,3360.5,S,07036.2,W,1,05,1,5,M,,M,,"],
    ] {
        assert_eq!(of_bodies(&epoch)[0].position, None, "{epoch:?}");
    }
}

#[test]
fn damaged_lines_are_refused_and_foreign_ones_ignored() {
    assert_eq!(
        parse(b"$GPGLL,3324.6,S,07036.2,W,083001,A,A*00"),
        Err(NmeaError::Checksum { expected: 0x42, found: 0 })
    );
    assert_eq!(parse(b"$GPGLL,3324.5,S"), Err(NmeaError::NoSentence));
    assert_eq!(parse(b"21.4"), Err(NmeaError::NoSentence));
    assert_eq!(parse(b"$GPGLL*\xFF\xFF"), Err(NmeaError::NoSentence));
    for foreign in ["PQGSA,A,1,,,", "PUBX,00,081350.00", "GPZDA,160012.71,11,03,2004,-1,00", "", "G", "IIMWV,1"] {
        assert_eq!(parse(sentence(foreign).as_bytes()), Ok(None), "{foreign}");
    }
    let cut = format!("$GPRMC,0830{}", sentence("GPVTG,1.0,T,,M,2.700,N,5.000,K,A"));
    assert_eq!(parse(cut.as_bytes()), Ok(Some(Sentence::Vtg { course: Some(1.0), speed: Some(5.0) })));
}

/// Logs that others made; they are no part of this repository.
fn fixture(name: &str) -> Option<String> {
    let folder = std::env::var_os("EDGEWAY_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let text = std::fs::read_to_string(folder.join("nmea").join(name)).ok();
    if text.is_none() {
        eprintln!("fixtures not there: skipped");
    }
    text
}

#[test]
fn a_drive_is_a_line_of_fixes_with_a_gap() {
    let Some(log) = fixture("drive.nmea") else { return };
    let fixes = fixes(log.lines());
    let epochs = log.lines().filter(|line| line.contains("GGA,")).count();
    assert_eq!(fixes.len(), epochs);
    let first = &fixes[0];
    assert_eq!(first.position, Some(Position { lat: 55.08884983, lon: 38.97645542 }));
    assert_eq!((first.speed, first.course), (Some(282.6152), Some(86.2)));
    assert_eq!((first.altitude, first.satellites, first.quality), (Some(2177.0), Some(9), Some(2)));
    assert_eq!((first.satellites_in_view, first.pdop), (Some(25), Some(1.2)));
    assert_eq!(first.time_ms.map(rfc3339).as_deref(), Some("2017-03-31T11:01:24.000Z"));
    let with_fix = log.lines().filter(|line| line.contains("RMC,") && line.contains(",A,")).count();
    assert_eq!(fixes.iter().filter(|fix| fix.position.is_some()).count(), with_fix);
    for fix in &fixes {
        let near = fix.position.is_none_or(|at| (54.0..56.0).contains(&at.lat) && (38.0..40.0).contains(&at.lon));
        assert!(near, "{fix:?}");
    }
}

#[test]
fn a_receiver_that_finds_its_fix_says_nothing_of_where_before() {
    let Some(log) = fixture("no_fix.nmea") else { return };
    let fixes = fixes(log.lines());
    assert_eq!((fixes[0].position, fixes[0].dimensions), (None, 1));
    let with_fix = log.lines().filter(|line| line.contains("RMC,") && line.contains(",A,")).count();
    assert_eq!(fixes.iter().filter(|fix| fix.position.is_some()).count(), with_fix);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn arbitrary_fields_never_panic_nor_leave_the_globe(
        kind in prop::sample::select(vec!["RMC", "GGA", "GLL", "GSA", "GSV", "VTG"]),
        fields in prop::collection::vec("[0-9.AVNSEW+-]{0,12}", 0..22),
    ) {
        let line = sentence(&format!("GP{kind},{}", fields.join(",")));
        let mut merger = EpochMerger::default();
        for _ in 0..2 {
            let fix = parse(line.as_bytes()).unwrap().and_then(|sentence| merger.push(sentence));
            if let Some(position) = fix.and_then(|fix| fix.position) {
                prop_assert!(position.lat.abs() <= 90.0 && position.lon.abs() <= 180.0);
            }
        }
    }
}
