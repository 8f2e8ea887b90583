//! `edgeway store dump`: every record of a journal in words, one a line.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};

use crate::clock::Moment;
use crate::mapping::payload::rfc3339;
use crate::mqtt::QoS;
use crate::store::{
    Delivered, Deliveries, MessageView, Record, Scanned, Segments, Sequences, SessionKind, SessionState, State,
};

/// The expiry interval of a session that does not expire (MQTT 5.0, section 3.1.2.11.2).
const NEVER: u32 = u32::MAX;

/// Prints `segment:offset` and what stands there, a line each.
pub(super) fn dump(segments: &Segments, with_payload: bool, output: &mut impl Write) -> io::Result<()> {
    for opened in &segments.segments {
        let number = opened.segment.number;
        match opened.state {
            State::Begun => {}
            State::NotBegun => continue,
            State::Damaged => writeln!(output, "{number}:0 unreadable, the header")?,
        }
        let contents = opened.segment.read()?;
        for scanned in opened.segment.scan(&contents) {
            match scanned {
                Scanned::Record { offset, bytes } => match Record::decode(bytes) {
                    Ok(record) => {
                        let line = Line { record: &record, with_payload };
                        writeln!(output, "{number}:{offset} {line}")?;
                    }
                    Err(error) => writeln!(output, "{number}:{offset} unreadable, {error}")?,
                },
                Scanned::Damage { offset, bytes } => writeln!(output, "{number}:{offset} unreadable, {bytes} bytes")?,
                Scanned::End { offset, torn_bytes: bytes } if bytes > 0 => {
                    writeln!(output, "{number}:{offset} torn, {bytes} bytes")?;
                }
                Scanned::End { .. } => {}
            }
        }
    }
    Ok(())
}

/// A record in words. What others have chosen stands in quotes, and whatever a terminal would take for a command is
/// written as its number.
struct Line<'a> {
    record: &'a Record<'a>,
    with_payload: bool,
}

impl Display for Line<'_> {
    fn fmt(&self, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record {
            Record::Publish { message, receipt, deliveries } => {
                into.write_str("publish ")?;
                self.message(message, into)?;
                if let Some(receipt) = receipt {
                    let (queue, id, number) = (receipt.queue.0, receipt.packet_id, receipt.number);
                    write!(into, " from queue {queue} with packet identifier {id} as exchange {number}")?;
                }
                list(deliveries, into)
            }
            Record::Moved { message, deliveries } => {
                into.write_str("moved ")?;
                self.message(message, into)?;
                list(deliveries, into)
            }
            Record::Received { delivered: Delivered { queue, sequence } } => {
                write!(into, "received queue {} {sequence}", queue.0)
            }
            Record::Settle { queue, sequences } => write!(into, "settle queue {} {}", queue.0, Range(*sequences)),
            Record::Release { queue, number } => write!(into, "release queue {} exchange {number}", queue.0),
            Record::Displaced { delivered: Delivered { queue, sequence }, packet_id } => {
                write!(into, "displaced queue {} {sequence} with packet identifier {packet_id}", queue.0)
            }
            Record::Session { queue, state } => {
                write!(into, "session queue {} ", queue.0)?;
                self.session(state, into)
            }
            Record::Away { queue, at } => write!(into, "away queue {} since {} ms", queue.0, at.0),
            Record::SessionEnd { queue } => write!(into, "session-end queue {}", queue.0),
            Record::Subscribe { queue, filter, options, identifier } => {
                write!(into, "subscribe queue {} {filter:?} qos {}", queue.0, options.qos)?;
                for (is_set, word) in
                    [(options.no_local, " no-local"), (options.retain_as_published, " retain-as-published")]
                {
                    into.write_str(if is_set { word } else { "" })?;
                }
                identifier.map_or(Ok(()), |identifier| write!(into, " identifier {identifier}"))
            }
            Record::Unsubscribe { queue, filter } => write!(into, "unsubscribe queue {} {filter:?}", queue.0),
            Record::Note { queue, key, value: "" } => write!(into, "note queue {} {key:?} removed", queue.0),
            Record::Note { queue, key, value } => write!(into, "note queue {} {key:?} {value:?}", queue.0),
            Record::Time(Moment { now, wall_ms, is_synchronised, .. }) => {
                let how = if *is_synchronised { "synchronised" } else { "not synchronised" };
                write!(into, "time {} ms, {} on the wall, {how}", now.0, rfc3339(*wall_ms))
            }
            Record::CheckpointBegin { next_queue } => write!(into, "checkpoint-begin next queue {next_queue}"),
            Record::Queue { .. } => self.queue(into),
            Record::CheckpointEnd => into.write_str("checkpoint-end"),
        }
    }
}

impl Line<'_> {
    fn message(&self, message: &MessageView<'_>, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MessageView { topic, payload, qos, retain, expires_at, .. } = message;
        write!(into, "{topic:?} {} bytes qos {qos}", payload.len())?;
        into.write_str(if *retain { " retain" } else { "" })?;
        into.write_str(if message.reading.is_some() { " reading" } else { "" })?;
        if let Some(at) = expires_at {
            write!(into, " expires at {} ms", at.0)?;
        }
        if self.with_payload {
            write!(into, " payload {:?}", String::from_utf8_lossy(payload))?;
        }
        Ok(())
    }

    fn session(&self, state: &SessionState, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionState { kind, client_id, owner, expiry_interval, window, will } = state;
        let kind = match kind {
            SessionKind::Client => "client",
            SessionKind::Bridge => "bridge",
        };
        write!(into, "{kind} {client_id:?}")?;
        if let Some(owner) = owner {
            write!(into, " user {owner:?}")?;
        }
        match expiry_interval {
            &NEVER => into.write_str(" expiry never")?,
            seconds => write!(into, " expiry {seconds} s")?,
        }
        write!(into, " window {window}")?;
        if let Some(will) = will {
            let (topic, bytes) = (will.message.topic(), will.message.payload().len());
            write!(into, " will {topic:?} {bytes} bytes after {} s", will.delay_interval)?;
        }
        Ok(())
    }

    fn queue(&self, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record::Queue {
            queue,
            next_sequence,
            next_receipt,
            alive,
            early,
            received,
            receipts,
            early_releases,
            displaced,
            away_since,
        } = self.record
        else {
            return Ok(());
        };
        write!(into, "queue {} next {next_sequence} next exchange {next_receipt}", queue.0)?;
        if let Some(at) = away_since {
            write!(into, " away since {} ms", at.0)?;
        }
        each(" alive ", alive.iter().map(|sequences| Range(*sequences)), into)?;
        each(" settled early ", early, into)?;
        each(" received ", received, into)?;
        each(" exchanges ", receipts.iter().map(|(number, id)| format!("{number}={id}")), into)?;
        each(" released early ", early_releases, into)?;
        each(" displaced ", displaced.iter().map(|(sequence, id)| format!("{sequence}={id}")), into)
    }
}

/// `to queue/sequence ...`, with what differs from a plain QoS 1 delivery in brackets.
fn list(deliveries: &Deliveries<'_>, into: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, (Delivered { queue, sequence }, how)) in deliveries.iter().enumerate() {
        write!(into, "{} {}/{sequence}", if index == 0 { " to" } else { "" }, queue.0)?;
        let mut details = String::new();
        if how.qos != QoS::AtLeastOnce {
            write!(details, " qos {}", how.qos)?;
        }
        details.push_str(if how.retain { " retain" } else { "" });
        let bridge = how.publisher.and_then(|publisher| publisher.strip_prefix('\0'));
        let client = how.publisher.filter(|_| bridge.is_none());
        for (word, text) in
            [("share", how.share), ("route", how.route), ("publisher", client), ("publisher bridge", bridge)]
        {
            if let Some(text) = text {
                write!(details, " {word} {text:?}")?;
            }
        }
        for identifier in how.identifiers.iter() {
            write!(details, " identifier {identifier}")?;
        }
        if !details.is_empty() {
            write!(into, "({})", details.trim_start())?;
        }
    }
    Ok(())
}

/// Sequences, `3` or `3-9`.
struct Range(Sequences);

impl Display for Range {
    fn fmt(&self, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sequences { first, last } = self.0;
        if first == last { write!(into, "{first}") } else { write!(into, "{first}-{last}") }
    }
}

/// The values behind `word` with commas between; nothing where there are none.
fn each(word: &str, values: impl IntoIterator<Item = impl Display>, into: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, value) in values.into_iter().enumerate() {
        write!(into, "{}{value}", if index == 0 { word } else { "," })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::QueueId;

    #[test]
    fn notes_are_told_with_what_others_have_chosen_in_quotes() {
        let line = |value| {
            Line { record: &Record::Note { queue: QueueId(4), key: "a\n", value }, with_payload: false }.to_string()
        };
        assert_eq!([line("x \u{1b}"), line("")], [r#"note queue 4 "a\n" "x \u{1b}""#, r#"note queue 4 "a\n" removed"#]);
    }
}
