//! Opening a journal: finding the last checkpoint, and folding what stands behind it.
//!
//! Before the checkpoint messages alone count, and of them those that the checkpoint says are alive. What was being
//! written when the process ended may be torn; a gap that a later commit follows is damage, and what follows it is
//! kept all the same.

use std::collections::BTreeMap;
use std::io;

use super::checksum::Salt;
use super::extents::SegmentNumber;
use super::filesystem::Filesystem;
use super::fold::Fold;
use super::log::Opened;
use super::record::{Delivered, Deliveries, MessageView, QueueId, Record, Sequences};
use super::restored::{Damage, Report, RestoredRetained};
use super::scan::Scanned;
use super::segment::{self, Contents, FIRST_RECORD, Segment, SegmentError, Segments, State};

/// What was read.
#[derive(Debug)]
pub(super) struct Recovered {
    pub opened: Opened,
    pub retained: Vec<RestoredRetained>,
    /// Retained messages that a newer one of their topic has replaced: they are to be settled.
    pub replaced: Vec<u64>,
    pub report: Report,
}

/// Where a record stands.
type Place = (SegmentNumber, u64);

/// Reads the journal in `filesystem`, and changes nothing.
///
/// # Errors
/// Where a file cannot be read or synced, or was written by a newer version.
pub(super) fn recover(filesystem: &dyn Filesystem) -> Result<Recovered, SegmentError> {
    let Segments { segments: found, salt } = Segments::open(filesystem)?;
    let next_number = found.last().map_or(1, |last| last.segment.number + 1);
    let (begun, unused): (Vec<_>, Vec<_>) = found.into_iter().partition(|opened| opened.state != State::NotBegun);
    let segments: Vec<Segment> = begun.into_iter().map(|opened| opened.segment).collect();
    let spares = unused.into_iter().map(|opened| opened.segment).collect();
    let Some(salt) = salt.or_else(Salt::random) else {
        return Err(io_error("no random numbers", io::ErrorKind::Unsupported.into()));
    };
    // A process that was killed may have left what only the system's memory holds. What is found now counts from now on.
    for Segment { number, file, .. } in &segments {
        file.sync().map_err(|error| io_error(&segment::file_name(*number), error))?;
    }
    let checkpoint = find_checkpoint(&segments)?;
    let mut reading = Reading {
        fold: Fold::new(),
        checkpoint,
        retained: BTreeMap::new(),
        report: Report::default(),
        tail: Tail::default(),
        is_in_checkpoint: false,
    };
    if let Some((begin, end)) = checkpoint {
        for segment in segments.iter().filter(|segment| (begin.0..=end.0).contains(&segment.number)) {
            let contents = read(segment)?;
            for (offset, record) in records(segment, &contents) {
                let place = (segment.number, offset);
                if place > begin && place < end {
                    reading.fold.apply(&record, segment.number);
                    reading.fold.load(&record);
                } else if place == begin {
                    reading.fold.apply(&record, segment.number);
                }
            }
        }
    }
    for segment in &segments {
        reading.read(segment)?;
    }
    let Reading { mut fold, retained, mut report, tail, .. } = reading;
    report.torn_bytes = tail.gaps.iter().map(|gap| gap.bytes).sum();
    report.lost_messages = fold.conclude();
    let (retained, replaced) = newest_of_each_topic(&fold, retained);
    let opened = Opened {
        fold,
        files: segments.into_iter().map(|segment| (segment.number, segment)).collect(),
        salt,
        spares,
        next_number,
        checkpoint_at: checkpoint.map_or(0, |(begin, _)| begin.0),
    };
    Ok(Recovered { opened, retained, replaced, report })
}

/// Where the last complete checkpoint begins and ends.
fn find_checkpoint(segments: &[Segment]) -> Result<Option<(Place, Place)>, SegmentError> {
    let mut end = None;
    for segment in segments.iter().rev() {
        let contents = read(segment)?;
        let mut marks = Vec::new();
        for scanned in segment.scan(&contents) {
            match scanned {
                Scanned::Record { offset, bytes } => {
                    let mark = match Record::decode(bytes) {
                        Ok(Record::CheckpointBegin { .. }) => Mark::Begin,
                        Ok(Record::CheckpointEnd) => Mark::End,
                        Ok(
                            Record::Session { .. }
                            | Record::Subscribe { .. }
                            | Record::Note { .. }
                            | Record::Queue { .. },
                        ) => continue,
                        _ => Mark::Other,
                    };
                    marks.push((offset, mark));
                }
                Scanned::Damage { offset, .. } => marks.push((offset, Mark::Other)),
                // Something stood here that may have been a part of it.
                Scanned::End { offset, torn_bytes } if torn_bytes > 0 => marks.push((offset, Mark::Other)),
                Scanned::End { .. } => {}
            }
        }
        for (offset, mark) in marks.into_iter().rev() {
            let place = (segment.number, offset);
            match mark {
                Mark::End => end = Some(place),
                // A checkpoint is written in one go: whatever else stands in it makes it none.
                Mark::Other => end = None,
                Mark::Begin => {
                    if let Some(end) = end {
                        return Ok(Some((place, end)));
                    }
                }
            }
        }
    }
    Ok(None)
}

enum Mark {
    Begin,
    End,
    Other,
}

struct Reading {
    fold: Fold,
    checkpoint: Option<(Place, Place)>,
    retained: BTreeMap<u64, RestoredRetained>,
    report: Report,
    tail: Tail,
    /// Whether what follows is of a checkpoint that was not completed.
    is_in_checkpoint: bool,
}

/// What cannot be read behind the last commit that was whole: of a commit that was under way, or that failed and was
/// written again elsewhere. It is damage where the next segment goes on with the same commit, for that one is begun
/// only when all before it is on disk.
#[derive(Default)]
struct Tail {
    segment: SegmentNumber,
    gaps: Vec<Damage>,
}

impl Reading {
    fn read(&mut self, segment: &Segment) -> Result<(), SegmentError> {
        let contents = read(segment)?;
        let damage = |offset, bytes| Damage { file: segment::file_name(segment.number), offset, bytes };
        self.report.damage.extend(contents.unreadable.iter().map(|&(offset, bytes)| damage(offset, bytes)));
        let mut gaps = Vec::new();
        let mut is_first = true;
        // What stands behind a gap, while nobody knows whether its commit was completed.
        let mut held: Option<Vec<(u64, Record<'_>)>> = None;
        for scanned in segment.scan(&contents) {
            let (offset, bytes) = match scanned {
                Scanned::Record { offset, bytes } => (offset, bytes),
                Scanned::Damage { offset, bytes } => {
                    gaps.push(damage(offset, bytes));
                    held.get_or_insert_default();
                    continue;
                }
                Scanned::End { offset, torn_bytes } => {
                    if torn_bytes > 0 {
                        gaps.push(damage(offset, torn_bytes));
                    }
                    continue;
                }
            };
            let Ok(record) = Record::decode(bytes) else {
                gaps.push(damage(offset, bytes.len() as u64 + Scanned::HEADER_BYTES));
                held.get_or_insert_default();
                continue;
            };
            if offset == FIRST_RECORD {
                let goes_on = !matches!(record, Record::Time(_) | Record::CheckpointBegin { .. });
                if goes_on && self.tail.segment + 1 == segment.number {
                    self.report.damage.append(&mut self.tail.gaps);
                }
            }
            is_first = false;
            if let Record::Time(_) = record {
                // A later commit: what stands before it was on disk.
                self.report.damage.append(&mut gaps);
                for (offset, record) in held.take().into_iter().flatten() {
                    self.take(&record, (segment.number, offset));
                }
            }
            match &mut held {
                Some(held) => held.push((offset, record)),
                None => self.take(&record, (segment.number, offset)),
            }
        }
        for (offset, record) in held.into_iter().flatten() {
            // They may be of a checkpoint whose beginning is lost, and then they say nothing new.
            if !matches!(record, Record::Session { .. } | Record::Subscribe { .. } | Record::Note { .. }) {
                self.take(&record, (segment.number, offset));
            }
        }
        // One that holds nothing, ready for later, ends nothing.
        if !is_first || !gaps.is_empty() {
            self.tail = Tail { segment: segment.number, gaps };
        }
        Ok(())
    }

    fn take(&mut self, record: &Record<'_>, place: Place) {
        match self.checkpoint {
            Some((begin, _)) if place < begin => {
                if let Record::Publish { message, deliveries, .. } | Record::Moved { message, deliveries } = record {
                    self.fold.locate(message, deliveries, place.0);
                    self.keep_retained(message, deliveries);
                }
            }
            Some((_, end)) if place <= end => {}
            _ => self.apply(record, place.0),
        }
    }

    fn apply(&mut self, record: &Record<'_>, segment: SegmentNumber) {
        match record {
            Record::CheckpointBegin { .. } => self.is_in_checkpoint = true,
            Record::Time(_) | Record::CheckpointEnd => self.is_in_checkpoint = false,
            // It says what is so already, but for the absence of a session, which its queue's record says.
            Record::Session { .. } | Record::Subscribe { .. } | Record::Note { .. } if self.is_in_checkpoint => return,
            _ => {}
        }
        self.fold.apply(record, segment);
        match record {
            Record::Publish { message, deliveries, .. } | Record::Moved { message, deliveries } => {
                self.keep_retained(message, deliveries);
            }
            Record::Settle { queue: QueueId::RETAINED, sequences: Sequences { first, last } } => {
                if first == last {
                    self.retained.remove(first);
                } else {
                    self.retained.retain(|sequence, _| !(*first..=*last).contains(sequence));
                }
            }
            _ => {}
        }
    }

    fn keep_retained(&mut self, message: &MessageView<'_>, deliveries: &Deliveries<'_>) {
        for (delivered @ Delivered { queue, sequence }, how) in deliveries.iter() {
            if queue == QueueId::RETAINED && self.fold.is_alive(delivered) {
                let publisher = how.publisher.map(Into::into);
                let message = message.to_message();
                self.retained.insert(sequence, RestoredRetained { sequence, publisher, message });
            }
        }
    }
}

/// The retained messages that live, in the order of their topics, and the sequences of those that have been replaced.
fn newest_of_each_topic(fold: &Fold, retained: BTreeMap<u64, RestoredRetained>) -> (Vec<RestoredRetained>, Vec<u64>) {
    let is_alive = |sequence| fold.is_alive(Delivered { queue: QueueId::RETAINED, sequence });
    let mut newest: Vec<RestoredRetained> = retained.into_values().filter(|kept| is_alive(kept.sequence)).collect();
    newest.sort_by(|a, b| a.message.topic().cmp(b.message.topic()).then_with(|| b.sequence.cmp(&a.sequence)));
    let mut replaced = Vec::new();
    newest.dedup_by(|later, kept| {
        let same = later.message.topic() == kept.message.topic();
        if same {
            replaced.push(later.sequence);
        }
        same
    });
    (newest, replaced)
}

/// The whole records of a segment that this version knows, with their places.
fn records<'a>(segment: &Segment, contents: &'a Contents) -> impl Iterator<Item = (u64, Record<'a>)> {
    segment.scan(contents).filter_map(|scanned| match scanned {
        Scanned::Record { offset, bytes } => Some((offset, Record::decode(bytes).ok()?)),
        Scanned::Damage { .. } | Scanned::End { .. } => None,
    })
}

fn read(segment: &Segment) -> Result<Contents, SegmentError> {
    segment.read().map_err(|error| io_error(&segment::file_name(segment.number), error))
}

fn io_error(name: &str, error: io::Error) -> SegmentError {
    SegmentError::Io { name: name.into(), error }
}
