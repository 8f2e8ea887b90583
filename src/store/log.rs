//! The log on disk: segments, one being written, and the fold over all of them.
//!
//! ```text
//!  sealed   sealed (dead: goes)   sealed   checkpoint ...   current -> | room
//! ```
//!
//! One thread writes. A commit is one write to the current segment and one sync; when it fails, nothing of it counts,
//! the segment is left as it is, and the next commit begins a new one: after a failed sync nobody knows which pages
//! the disk has. Living messages stay where they were written until the cleaner brings the last few of a segment
//! forward; everything else that is alive stands in the newest checkpoint and behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::checksum::{self, Salt};
use super::extents::SegmentNumber;
use super::filesystem::Filesystem;
use super::fold::{Fold, Share};
use super::journal::JournalOptions;
use super::record::{self, Record};
use super::recovery::{Recovered, recover};
use super::restored::Restored;
use super::scan::{END, Scanned};
use super::segment::{self, FIRST_RECORD, Segment, SegmentError};
use super::statistics::{PAGE, Statistics};
use crate::clock::Moment;

/// How many times its own size is written between two checkpoints, at least.
const CHECKPOINT_RATIO: u64 = 4;
/// Dead files that are kept to be written again: no zeros have to be written, and there is room in need.
const SPARES: usize = 2;
/// Bytes of messages that are brought forward by one commit.
const MOVED_BYTES: usize = 1024 * 1024;
/// A sealed segment in which less than one part in this many lives is cleaned.
const CLEAN_BELOW: u64 = 4;
/// Segments that are never too many.
const FEW_SEGMENTS: usize = 4;

/// What readers share with the writer.
#[derive(Debug)]
pub(super) struct Index {
    inner: Mutex<Indexed>,
}

/// What is alive, and the files that it stands in.
#[derive(Debug)]
pub(super) struct Indexed {
    pub fold: Fold,
    pub files: BTreeMap<SegmentNumber, Segment>,
}

impl Index {
    pub fn lock(&self) -> MutexGuard<'_, Indexed> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    filesystem: Arc<dyn Filesystem>,
    index: Arc<Index>,
    current: Option<Current>,
    /// Segments that are not written any more, with the bytes of their files.
    sealed: BTreeMap<SegmentNumber, u64>,
    /// Files that may be written again.
    spares: Vec<Segment>,
    /// Files that hold nothing, and are of no use: they go.
    useless: Vec<SegmentNumber>,
    salt: Salt,
    next_number: SegmentNumber,
    /// Segments that the disk does not give whole.
    unclean: BTreeSet<SegmentNumber>,
    segment_bytes: u64,
    /// Bytes of the log between two checkpoints, at least; a large checkpoint is rarer.
    checkpoint_spacing: u64,
    /// Where the last complete checkpoint begins.
    checkpoint_at: SegmentNumber,
    /// Where the one before it begins: what stands behind that stays, so that a checkpoint which cannot be read any more
    /// costs nothing.
    checkpoint_before: SegmentNumber,
    checkpoint_bytes: u64,
    since_checkpoint: u64,
    /// Bytes written by commits, and those of them that were brought forward.
    written_bytes: u64,
    moved_bytes: u64,
    /// The most that living messages should take; beyond it cleaning is worth more.
    limit: u64,
    statistics: Arc<Statistics>,
}

/// The segment being written.
#[derive(Debug)]
struct Current {
    segment: Segment,
    /// Where the next record goes.
    at: u64,
}

/// Which of some encoded records stand in which segment.
type Placed = Vec<(Range<usize>, SegmentNumber)>;

/// What a log is opened with.
#[derive(Debug)]
pub(super) struct Opened {
    pub fold: Fold,
    pub files: BTreeMap<SegmentNumber, Segment>,
    /// Files that hold nothing.
    pub spares: Vec<Segment>,
    pub salt: Salt,
    pub next_number: SegmentNumber,
    /// Where the last complete checkpoint begins; 0 without any.
    pub checkpoint_at: SegmentNumber,
}

impl Log {
    /// Opens what is in `filesystem`, and gives back what it holds, with the retained messages that are to be settled.
    ///
    /// # Errors
    /// Where a file cannot be read, or a newer version wrote it. Nothing has been changed.
    pub fn open(
        filesystem: Arc<dyn Filesystem>,
        options: &JournalOptions,
    ) -> Result<(Self, Restored, Vec<u64>), SegmentError> {
        let Recovered { opened, retained, replaced, report } = recover(&*filesystem)?;
        let (sessions, notes) = (opened.fold.sessions(), opened.fold.notes());
        let last_moment = opened.fold.time;
        let log = Self::new(filesystem, opened, options);
        log.report_space();
        Ok((log, Restored { sessions, retained, notes, last_moment, report }, replaced))
    }

    fn new(filesystem: Arc<dyn Filesystem>, opened: Opened, options: &JournalOptions) -> Self {
        let sealed = opened.files.values().map(|segment| (segment.number, segment.bytes)).collect();
        let index = Index { inner: Mutex::new(Indexed { fold: opened.fold, files: opened.files }) };
        // One that was being made when the process ended may be of any length.
        let is_whole = |spare: &Segment| spare.bytes == options.segment_bytes;
        let (mut spares, rest): (Vec<_>, Vec<_>) = opened.spares.into_iter().partition(is_whole);
        let surplus = spares.split_off(spares.len().min(SPARES));
        let useless = rest.iter().chain(&surplus).map(|spare| spare.number).collect();
        Self {
            filesystem,
            index: Arc::new(index),
            current: None,
            sealed,
            spares,
            useless,
            salt: opened.salt,
            next_number: opened.next_number,
            unclean: BTreeSet::new(),
            segment_bytes: options.segment_bytes,
            checkpoint_spacing: options.checkpoint_spacing,
            checkpoint_at: opened.checkpoint_at,
            checkpoint_before: 0,
            checkpoint_bytes: 0,
            since_checkpoint: options.checkpoint_spacing / 2,
            written_bytes: 0,
            moved_bytes: 0,
            limit: options.limit,
            statistics: Arc::clone(&options.statistics),
        }
    }

    /// What readers share.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Writes encoded records, behind what the clocks say, and syncs them; then they count.
    ///
    /// # Errors
    /// Where it is not certain that they are on disk: none of them counts. They may be written again.
    pub fn commit(&mut self, records: &mut Vec<u8>, time: Moment) -> io::Result<()> {
        // Each commit begins with the time: a gap that no later commit follows is one that was under way.
        let mut bytes = Vec::with_capacity(records.len() + 64);
        Record::Time(time).put(&mut bytes);
        let begin = bytes.len();
        bytes.append(records);
        let result = self.commit_bytes(&mut bytes);
        if result.is_err() {
            // The caller tries again with all of it; the time stands nowhere but where a commit begins.
            bytes.drain(..begin);
            *records = bytes;
        }
        result
    }

    fn commit_bytes(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let placed = self.write(bytes)?;
        let mut index = self.index.lock();
        for (range, segment) in placed {
            for record in records_of(&bytes[range]) {
                match Record::decode(record) {
                    Ok(record) => index.fold.apply(&record, segment),
                    Err(error) => debug_assert!(false, "what was encoded is decoded: {error}"),
                }
            }
        }
        Ok(())
    }

    /// Ends messages that were over before they were written.
    pub fn forget(&mut self, never_written: &[(super::QueueId, super::Sequences)]) {
        let mut index = self.index.lock();
        for &(queue, sequences) in never_written {
            index.fold.settle(queue, sequences);
        }
    }

    /// Keeps the house: checkpoints, files that are free, segments that are mostly dead, room for what comes.
    ///
    /// # Errors
    /// Where the disk refuses; everything that counted still does.
    pub fn maintain(&mut self, time: Moment) -> io::Result<()> {
        if self.is_checkpoint_due() {
            self.checkpoint()?;
        }
        self.remove_dead()?;
        if let Some(victim) = self.next_victim() {
            self.clean(victim, time)?;
            self.remove_dead()?;
        }
        self.prepare_spare()?;
        self.report_space();
        Ok(())
    }

    /// Writes a checkpoint now.
    ///
    /// # Errors
    /// Where it is not certain that it is on disk: the one before it counts.
    pub fn checkpoint(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.index.lock().fold.put_checkpoint(&mut bytes);
        let placed = self.write(&mut bytes)?;
        if let Some(&(_, segment)) = placed.first() {
            self.checkpoint_before = self.checkpoint_at;
            self.checkpoint_at = segment;
        }
        self.checkpoint_bytes = bytes.len() as u64;
        self.since_checkpoint = 0;
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        if self.since_checkpoint >= self.checkpoint_spacing.max(CHECKPOINT_RATIO * self.checkpoint_bytes) {
            return true;
        }
        // Files that are dead, and cannot go before there is one.
        let index = self.index.lock();
        let waiting: u64 = self
            .sealed
            .range(self.checkpoint_before..)
            .filter(|(number, _)| index.fold.segments().get(number).is_none_or(|share| share.alive == 0))
            .map(|(_, bytes)| bytes)
            .sum();
        waiting >= (2 * self.segment_bytes).max(2 * self.checkpoint_bytes)
    }

    /// Removes or keeps for later the files in which nothing lives.
    fn remove_dead(&mut self) -> io::Result<()> {
        while let Some(&number) = self.useless.last() {
            self.remove(number)?;
            self.useless.pop();
        }
        let mut dead = Vec::new();
        {
            let mut index = self.index.lock();
            for &number in self.sealed.range(..self.checkpoint_before).map(|(number, _)| number) {
                if index.fold.segments().get(&number).is_none_or(|share| share.alive == 0) {
                    dead.push(number);
                }
            }
            for number in &dead {
                index.fold.forget(*number);
            }
        }
        for number in dead {
            let Some(segment) = self.index.lock().files.get(&number).cloned() else { continue };
            if self.spares.len() < SPARES && segment.bytes == self.segment_bytes {
                self.spares.push(segment);
            } else {
                self.remove(number)?;
            }
            self.index.lock().files.remove(&number);
            self.sealed.remove(&number);
        }
        Ok(())
    }

    /// Removes a file; somebody else may have done so.
    fn remove(&self, number: SegmentNumber) -> io::Result<()> {
        match self.filesystem.remove(&segment::file_name(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The segment to clean next, if one is worth it.
    fn next_victim(&self) -> Option<SegmentNumber> {
        if self.sealed.len() <= FEW_SEGMENTS || self.moved_bytes * 2 > self.written_bytes + self.checkpoint_spacing {
            return None;
        }
        let disk_bytes: u64 = self.sealed.values().sum();
        let index = self.index.lock();
        let candidates = self.sealed.range(..self.checkpoint_at).filter(|(number, _)| !self.unclean.contains(number));
        let shares = candidates.filter_map(|(number, _)| Some((*number, *index.fold.segments().get(number)?)));
        let (number, share) = shares.min_by_key(|(_, share)| share.alive * 1000 / share.total.max(1))?;
        // The fuller the disk, the more is moved to free a little.
        let is_worth_it = if disk_bytes > self.limit + self.limit / 2 {
            share.alive * 4 < share.total * 3
        } else if disk_bytes > self.limit {
            share.alive * 2 < share.total
        } else {
            share.alive * CLEAN_BELOW < share.total
        };
        is_worth_it.then_some(number)
    }

    /// Brings what lives of a segment forward.
    fn clean(&mut self, victim: SegmentNumber, time: Moment) -> io::Result<()> {
        let Some(segment) = self.index.lock().files.get(&victim).cloned() else { return Ok(()) };
        let contents = segment.read()?;
        if !contents.unreadable.is_empty() {
            // The disk may give it another time; what cannot be read must not be taken for lost here.
            self.unclean.insert(victim);
            return Ok(());
        }
        let mut moved = Vec::new();
        for scanned in segment.scan(&contents) {
            let Scanned::Record { bytes: record, .. } = scanned else { continue };
            let Ok(Record::Publish { message, deliveries, .. } | Record::Moved { message, deliveries }) =
                Record::decode(record)
            else {
                continue;
            };
            let (mut count, mut encoded) = (0, Vec::new());
            {
                let index = self.index.lock();
                for (delivered, how) in deliveries.iter() {
                    if index.fold.stands(delivered, victim) {
                        record::put_delivery(&mut encoded, delivered, &how);
                        count += 1;
                    }
                }
            }
            if count > 0 {
                record::put_moved(&mut moved, &message, count, &encoded);
            }
            if moved.len() >= MOVED_BYTES {
                self.commit_moved(&mut moved, time)?;
            }
        }
        self.commit_moved(&mut moved, time)?;
        // What should stand here and cannot be read is lost.
        let lost = self.index.lock().fold.standing_in(victim);
        if !lost.is_empty() {
            tracing::error!(file = segment::file_name(victim), "messages in the journal cannot be read any more");
            for (queue, sequences) in lost {
                Record::Settle { queue, sequences }.put(&mut moved);
            }
            self.commit(&mut moved, time)?;
        }
        Ok(())
    }

    fn commit_moved(&mut self, moved: &mut Vec<u8>, time: Moment) -> io::Result<()> {
        if moved.is_empty() {
            return Ok(());
        }
        let bytes = moved.len() as u64;
        self.commit(moved, time)?;
        self.moved_bytes += bytes;
        self.statistics.moved(bytes);
        Ok(())
    }

    /// Writes and syncs whole records. Returns which of them stand in which segment.
    fn write(&mut self, bytes: &mut Vec<u8>) -> io::Result<Placed> {
        let begun = Instant::now();
        let length = bytes.len();
        bytes.extend_from_slice(&END);
        let result = self.try_write(bytes, length);
        bytes.truncate(length);
        match &result {
            Ok((_, pages)) => {
                self.since_checkpoint += bytes.len() as u64;
                self.written_bytes += bytes.len() as u64;
                self.statistics.committed(bytes.len() as u64, *pages, begun.elapsed());
            }
            Err(_) => self.seal(),
        }
        result.map(|(placed, _)| placed)
    }

    /// Writes the first `length` of `bytes`; there is room for [`END`] behind them.
    fn try_write(&mut self, bytes: &mut [u8], length: usize) -> io::Result<(Placed, u64)> {
        let (mut placed, mut pages, mut at) = (Vec::new(), 0, 0);
        while at < length {
            let first = record_length(&bytes[at..]);
            self.make_room(first as u64)?;
            let Some(Current { segment, at: offset }) = &mut self.current else {
                return Err(io::Error::other("no segment to write to"));
            };
            let end = at + checksum::whole_records(&bytes[at..length], (segment.bytes - *offset) as usize);
            checksum::seal_records(&mut bytes[at..end], segment.seed);
            // Behind it stands the end: not what an earlier use of the file left there.
            let with_end = end + END.len();
            let behind = if *offset + (with_end - at) as u64 <= segment.bytes { with_end } else { end };
            let mut next = [0; END.len()];
            next[..behind - end].swap_with_slice(&mut bytes[end..behind]);
            let written = segment.file.write_at(*offset, &bytes[at..behind]);
            next[..behind - end].swap_with_slice(&mut bytes[end..behind]);
            written?;
            pages += pages_of(*offset, (end - at) as u64);
            *offset += (end - at) as u64;
            placed.push((at..end, segment.number));
            at = end;
        }
        if let Some(current) = &self.current {
            current.segment.file.sync()?;
        }
        Ok((placed, pages))
    }

    /// Sees to it that the current segment has room for a record.
    fn make_room(&mut self, record: u64) -> io::Result<()> {
        if let Some(current) = &self.current {
            if current.segment.bytes - current.at >= record {
                return Ok(());
            }
            // The next segment's records count only after those of this one.
            current.segment.file.sync()?;
            self.seal();
        }
        let number = self.next_number;
        // Whatever comes of it, no other file gets this number.
        self.next_number += 1;
        let length = self.segment_bytes.max(FIRST_RECORD + record);
        let spare = if length == self.segment_bytes { self.spares.pop() } else { None };
        let segment = match &spare {
            Some(spare) => Segment::recycle(&*self.filesystem, spare, number, self.salt)?,
            None => self.create(number, length)?,
        };
        self.index.lock().files.insert(number, segment.clone());
        self.current = Some(Current { segment, at: FIRST_RECORD });
        Ok(())
    }

    /// Writes no more to the current segment.
    fn seal(&mut self) {
        if let Some(current) = self.current.take() {
            self.sealed.insert(current.segment.number, current.segment.bytes);
        }
    }

    /// Makes a file ready for when the current segment is full: then no commit has to wait for it, and there is room
    /// when the disk is full.
    fn prepare_spare(&mut self) -> io::Result<()> {
        let half_full = self.current.as_ref().is_some_and(|current| current.at * 2 > current.segment.bytes);
        if !self.spares.is_empty() || !half_full {
            return Ok(());
        }
        let number = self.next_number;
        self.next_number += 1;
        let spare = self.create(number, self.segment_bytes)?;
        self.spares.push(spare);
        Ok(())
    }

    fn create(&self, number: SegmentNumber, bytes: u64) -> io::Result<Segment> {
        let segment = Segment::create(&*self.filesystem, number, self.salt, bytes)?;
        self.statistics.written(bytes, bytes / PAGE);
        Ok(segment)
    }

    fn report_space(&self) {
        let segments = self.sealed.len() + self.spares.len() + usize::from(self.current.is_some());
        let current = self.current.as_ref().map_or(0, |current| current.segment.bytes);
        let disk_bytes: u64 =
            self.sealed.values().sum::<u64>() + current + self.spares.len() as u64 * self.segment_bytes;
        let index = self.index.lock();
        let alive = |(number, bytes): (&SegmentNumber, &u64)| {
            let Share { alive, total } = index.fold.segments().get(number).copied().unwrap_or_default();
            bytes * alive / total.max(1)
        };
        let alive_bytes = self.sealed.iter().map(alive).sum::<u64>() + self.current.as_ref().map_or(0, |c| c.at);
        self.statistics.set_space(segments as u64, disk_bytes, alive_bytes);
    }
}

/// Bytes of the first of some encoded records.
fn record_length(bytes: &[u8]) -> usize {
    let length = bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    record::HEADER_BYTES + length
}

/// Kind and body of each of some encoded records.
fn records_of(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (record, rest) = bytes.split_at(record_length(bytes));
        bytes = rest;
        Some(&record[record::HEADER_BYTES..])
    })
}

fn pages_of(offset: u64, length: u64) -> u64 {
    (offset + length).div_ceil(PAGE) - offset / PAGE
}
