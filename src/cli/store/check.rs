//! `edgeway store check`: what each file of a journal holds, what waits in it, and whether anything is damaged.

use std::io::{self, Write};

use super::Verdict;
use crate::store::{
    Damage, FORMAT, Inspection, Opened, Report, RestoredSession, Scanned, Segments, SessionKind, State, file_name,
};

/// Prints a line for each file and for each queue, and what is to be said of them.
pub(super) fn check(segments: &Segments, inspection: &Inspection, output: &mut impl Write) -> io::Result<Verdict> {
    let Report { torn_bytes, damage, lost_messages } = &inspection.report;
    writeln!(output, "{:<24}{:>12}{:>12}{:>12}", "file", "bytes", "used", "records")?;
    let (mut places, mut records) = (damage.len(), 0);
    for opened in &segments.segments {
        let name = file_name(opened.segment.number);
        let found = count(opened)?;
        writeln!(output, "{name:<24}{:>12}{:>12}{:>12}", opened.segment.bytes, found.used, found.records)?;
        records += found.records;
        match opened.state {
            State::Begun => {}
            State::NotBegun => {
                writeln!(output, "  empty: it was being made, or used again, when the gateway ended")?;
            }
            State::Damaged => {
                places += 1;
                writeln!(output, "  damaged: the header")?;
            }
        }
        for Damage { offset, bytes, .. } in damage.iter().filter(|damage| damage.file == name) {
            writeln!(output, "  damaged: {bytes} bytes at {offset}")?;
        }
    }
    if *torn_bytes > 0 {
        writeln!(output, "  torn: {torn_bytes} bytes of a commit that was under way when the gateway ended")?;
    }
    writeln!(output)?;
    queues(inspection, output)?;

    let files = count_of(segments.segments.len() as u64, "file");
    writeln!(output, "\n{files} of format {FORMAT} with {}", count_of(records, "record"))?;
    if *lost_messages > 0 {
        writeln!(output, "{} lost", count_of(*lost_messages, "message"))?;
    }
    if places == 0 && *lost_messages == 0 {
        writeln!(output, "nothing is damaged")?;
        return Ok(Verdict::Whole);
    }
    writeln!(output, "{} damaged", count_of(places as u64, "place"))?;
    Ok(Verdict::Damaged)
}

struct Found {
    /// Bytes to behind the last record.
    used: u64,
    records: u64,
}

fn count(opened: &Opened) -> io::Result<Found> {
    let mut found = Found { used: 0, records: 0 };
    if opened.state == State::NotBegun {
        return Ok(found);
    }
    let contents = opened.segment.read()?;
    for scanned in opened.segment.scan(&contents) {
        match scanned {
            Scanned::Record { .. } => found.records += 1,
            Scanned::Damage { .. } => {}
            Scanned::End { offset, .. } => found.used = offset,
        }
    }
    Ok(found)
}

fn queues(inspection: &Inspection, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "{:>8}{:>12}{:>14}  whose", "queue", "messages", "bytes")?;
    writeln!(output, "{:>8}{:>12}{:>14}  retained messages", 0, inspection.retained, "")?;
    for RestoredSession { queue, state, away_since, subscriptions, queued, .. } in &inspection.sessions {
        write!(output, "{:>8}{:>12}{:>14}  ", queue.0, queued.messages, queued.bytes)?;
        match state.kind {
            SessionKind::Client => write!(output, "client {:?}", state.client_id)?,
            SessionKind::Bridge => write!(output, "bridge {:?}", state.client_id)?,
        }
        if let Some(owner) = &state.owner {
            write!(output, " of user {owner:?}")?;
        }
        if state.kind == SessionKind::Client {
            write!(output, ", {}", count_of(subscriptions.len() as u64, "subscription"))?;
        }
        writeln!(output, "{}", if away_since.is_some() { ", away" } else { "" })?;
    }
    Ok(())
}

fn count_of(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
