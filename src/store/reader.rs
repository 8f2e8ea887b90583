//! Reading back what does not fit into memory: a queue's messages from where they stand.

use std::collections::BTreeMap;
use std::io;

use super::checksum;
use super::disk::Disk;
use super::extents::{Extent, SegmentNumber};
use super::record::{self, Delivered, Deliveries, How, MessageView, QueueId, Record, Sequences};
use super::restored::{Page, PagedMessage};
use super::scan::Scanned;
use super::segment::{FIRST_RECORD, Segment};

/// How often a plan is made anew because messages were moved while they were read.
const ATTEMPTS: usize = 3;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 128 * 1024;

/// Places that are remembered.
const MAX_BOOKMARKS: usize = 1024;

/// Where a queue's last page ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bookmark {
    segment: SegmentNumber,
    /// The first sequence that was not in the page.
    sequence: u64,
    offset: u64,
}

/// As [`super::Journal::read`].
pub(super) fn read(disk: &Disk, queue: QueueId, from: u64, messages: usize, bytes: usize) -> io::Result<Page> {
    let mut flushed = false;
    for attempt in 1.. {
        let (runs, is_last, files) = plan(disk, queue, from, messages, bytes);
        let planned: u64 = runs.iter().map(|run| run.last - run.first + 1).sum();
        if !flushed && planned < messages as u64 && (is_last || runs.is_empty()) {
            // What comes next may still be on its way to the disk.
            disk.flush()?;
            flushed = true;
            continue;
        }
        let mut found = BTreeMap::new();
        for (&number, segment) in &files {
            let wanted: Vec<&Extent> = runs.iter().filter(|run| run.segment == Some(number)).collect();
            collect(disk, segment, queue, wanted, &mut found)?;
        }
        let mut lost = Vec::new();
        let mut has_moved = false;
        for run in &runs {
            for sequence in run.first..=run.last {
                if found.contains_key(&sequence) {
                    continue;
                }
                let delivered = Delivered { queue, sequence };
                let index = disk.index().lock();
                if run.segment.is_some_and(|segment| index.fold.stands(delivered, segment)) {
                    push(&mut lost, sequence);
                } else if index.fold.is_alive(delivered) {
                    has_moved = true;
                }
            }
        }
        if has_moved && attempt < ATTEMPTS {
            continue;
        }
        if has_moved {
            return Err(io::Error::other("messages are being moved"));
        }
        disk.statistics().read_back(found.len() as u64);
        return Ok(Page { messages: found.into_values().collect(), lost, is_last });
    }
    Err(io::Error::other("messages are being moved"))
}

type Files = BTreeMap<SegmentNumber, Segment>;

/// What to read, whether nothing lives behind it, and the files that it stands in.
fn plan(disk: &Disk, queue: QueueId, from: u64, messages: usize, bytes: usize) -> (Vec<Extent>, bool, Files) {
    let index = disk.index().lock();
    let (runs, is_last) = index.fold.plan(queue, from, messages, bytes);
    let file = |number| Some((number, index.files.get(&number)?.clone()));
    let files = runs.iter().filter_map(|run| run.segment.and_then(file)).collect();
    (runs, is_last, files)
}

/// What is wanted of one segment, and what has been found.
struct Search<'a> {
    queue: QueueId,
    wanted: Vec<&'a Extent>,
    missing: u64,
    found: &'a mut BTreeMap<u64, PagedMessage>,
}

impl Search<'_> {
    /// Takes a record. Whether all has been found.
    fn take(&mut self, record: &[u8]) -> bool {
        if let Ok(Record::Publish { message, deliveries, .. } | Record::Moved { message, deliveries }) =
            Record::decode(record)
        {
            let is_wanted = |sequence| self.wanted.iter().any(|run| (run.first..=run.last).contains(&sequence));
            if let Some((sequence, how)) = delivery_to(self.queue, &deliveries, &is_wanted)
                && self.found.insert(sequence, paged(sequence, &how, &message)).is_none()
            {
                self.missing -= 1;
            }
        }
        self.missing == 0
    }

    /// Takes records from `offset` on, up to the last that is missing. Where the next stands; `None` where not all was
    /// found.
    fn run_from(&mut self, segment: &Segment, mut offset: u64) -> io::Result<Option<u64>> {
        let mut chunk = Vec::new();
        let mut length = CHUNK_BYTES;
        // It may have been cut since it was made.
        let end = segment.file.len()?.min(segment.bytes);
        loop {
            let left = end.saturating_sub(offset).min(length as u64) as usize;
            chunk.resize(left, 0);
            segment.file.read_exact_at(offset, &mut chunk)?;
            let mut rest = &chunk[..];
            while let Some(record) = checksum::verify(rest, segment.seed) {
                let bytes = record::HEADER_BYTES + record.len();
                let is_done = self.take(record);
                rest = &rest[bytes..];
                if is_done {
                    return Ok(Some(offset + (chunk.len() - rest.len()) as u64));
                }
            }
            let next = rest.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
            let taken = chunk.len() - rest.len();
            offset += taken as u64;
            // Either the chunk ends within a record, or no record stands here.
            let is_whole = rest.len() >= record::HEADER_BYTES && record::HEADER_BYTES + next <= rest.len();
            if is_whole || next as u64 > end || offset + rest.len() as u64 >= end {
                return Ok(None);
            }
            length = CHUNK_BYTES.max(record::HEADER_BYTES + next);
        }
    }

    /// Takes all records that can be read.
    fn run(&mut self, segment: &Segment) -> io::Result<()> {
        let contents = segment.read()?;
        for scanned in segment.scan(&contents) {
            if let Scanned::Record { bytes, .. } = scanned
                && self.take(bytes)
            {
                break;
            }
        }
        if self.missing > 0 && !contents.unreadable.is_empty() {
            // The disk may give it another time.
            return Err(io::Error::other("a part of the journal cannot be read"));
        }
        Ok(())
    }
}

/// Takes the messages that are wanted of a segment, from where the queue's last page ended there, if it did.
fn collect(
    disk: &Disk,
    segment: &Segment,
    queue: QueueId,
    wanted: Vec<&Extent>,
    found: &mut BTreeMap<u64, PagedMessage>,
) -> io::Result<()> {
    let missing = wanted.iter().map(|run| run.last - run.first + 1).sum();
    let first = wanted.first().map_or(0, |run| run.first);
    let last = wanted.last().map_or(0, |run| run.last);
    let bookmark = disk.bookmarks().get(&queue).copied();
    let offset = bookmark.filter(|mark| mark.segment == segment.number && mark.sequence <= first);
    let mut search = Search { queue, wanted, missing, found };
    match search.run_from(segment, offset.map_or(FIRST_RECORD, |mark| mark.offset)) {
        Ok(Some(offset)) => {
            let mark = Bookmark { segment: segment.number, sequence: last + 1, offset };
            let mut bookmarks = disk.bookmarks();
            if bookmarks.len() >= MAX_BOOKMARKS {
                // Most are of queues that have drained or ended; the others find their place again.
                bookmarks.clear();
            }
            bookmarks.insert(queue, mark);
        }
        // They need not stand in their order; and something may not be readable on the way.
        Ok(None) | Err(_) => search.run(segment)?,
    }
    Ok(())
}

fn delivery_to<'a>(
    queue: QueueId,
    deliveries: &Deliveries<'a>,
    is_wanted: &impl Fn(u64) -> bool,
) -> Option<(u64, How<'a>)> {
    deliveries
        .iter()
        .find(|(delivered, _)| delivered.queue == queue && is_wanted(delivered.sequence))
        .map(|(delivered, how)| (delivered.sequence, how))
}

fn paged(sequence: u64, how: &How<'_>, message: &MessageView<'_>) -> PagedMessage {
    PagedMessage {
        sequence,
        qos: how.qos,
        retain: how.retain,
        identifiers: how.identifiers.iter().collect(),
        share: how.share.map(Into::into),
        route: how.route.map(Into::into),
        since: how.since,
        message: message.to_message(),
    }
}

fn push(lost: &mut Vec<Sequences>, sequence: u64) {
    match lost.last_mut() {
        Some(last) if last.last + 1 == sequence => last.last = sequence,
        _ => lost.push(Sequences { first: sequence, last: sequence }),
    }
}
