//! `edgeway store check`: what each file of a journal holds, and whether anything is damaged.

use std::io::{self, Write};

use super::Verdict;
use crate::store::{FORMAT, Opened, Record, Scanned, Segments, State, file_name};

/// What was found in one file.
#[derive(Debug, Default)]
struct Found {
    used: u64,
    records: u64,
    remarks: Vec<String>,
    damaged_places: u64,
}

/// Prints a line for each file and what is to be said of it, then the sum.
pub(super) fn check(segments: &Segments, output: &mut impl Write) -> io::Result<Verdict> {
    writeln!(output, "{:<24}{:>12}{:>12}{:>12}", "file", "bytes", "used", "records")?;
    let (mut damaged_places, mut records) = (0, 0);
    for opened in &segments.segments {
        let found = look(opened)?;
        let name = file_name(opened.segment.number);
        writeln!(output, "{name:<24}{:>12}{:>12}{:>12}", opened.segment.bytes, found.used, found.records)?;
        for remark in &found.remarks {
            writeln!(output, "  {remark}")?;
        }
        damaged_places += found.damaged_places;
        records += found.records;
    }
    let files = segments.segments.len();
    let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    let (verdict, told) = match damaged_places {
        0 => (Verdict::Whole, "nothing is damaged".to_owned()),
        1 => (Verdict::Damaged, "1 place is damaged".to_owned()),
        places => (Verdict::Damaged, format!("{places} places are damaged")),
    };
    writeln!(output, "{files} of format {FORMAT}, {records} records: {told}")?;
    Ok(verdict)
}

fn look(opened: &Opened) -> io::Result<Found> {
    let Opened { segment, state } = opened;
    let mut found = Found::default();
    match state {
        State::Begun => {}
        State::NotBegun => {
            found.remarks.push("empty: it was being made, or used again, when the gateway ended".into());
            return Ok(found);
        }
        State::Damaged => found.damaged("the header"),
    }
    let contents = segment.read()?;
    for (offset, bytes) in &contents.unreadable {
        found.damaged(&format!("the disk does not give {bytes} bytes at {offset}"));
    }
    for scanned in segment.scan(&contents) {
        match scanned {
            Scanned::Record { offset, bytes } => {
                found.records += 1;
                if let Err(error) = Record::decode(bytes) {
                    found.damaged(&format!("{error} at {offset}"));
                }
            }
            Scanned::Damage { offset, bytes } => found.damaged(&format!("{bytes} bytes at {offset}")),
            Scanned::End { offset, torn_bytes } => {
                found.used = offset;
                if torn_bytes > 0 {
                    let told = format!("torn: {torn_bytes} bytes at {offset}, written in part when the gateway ended");
                    found.remarks.push(told);
                }
            }
        }
    }
    Ok(found)
}

impl Found {
    fn damaged(&mut self, what: &str) {
        self.damaged_places += 1;
        self.remarks.push(format!("damaged: {what}"));
    }
}
