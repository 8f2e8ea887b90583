//! Reading back what does not fit into memory: a queue's messages from where they stand.

use std::collections::BTreeMap;
use std::io;

use super::disk::Disk;
use super::extents::{Extent, SegmentNumber};
use super::record::{Delivered, Deliveries, How, MessageView, QueueId, Record, Sequences};
use super::restored::{Page, PagedMessage};
use super::scan::Scanned;
use super::segment::Segment;

/// How often a plan is made anew because messages were moved while they were read.
const ATTEMPTS: usize = 3;

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
            collect(segment, queue, &wanted, &mut found)?;
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

/// Takes the messages that are wanted of a segment.
fn collect(
    segment: &Segment,
    queue: QueueId,
    wanted: &[&Extent],
    found: &mut BTreeMap<u64, PagedMessage>,
) -> io::Result<()> {
    let mut missing: u64 = wanted.iter().map(|run| run.last - run.first + 1).sum();
    let is_wanted = |sequence: u64| wanted.iter().any(|run| (run.first..=run.last).contains(&sequence));
    let contents = segment.read()?;
    for scanned in segment.scan(&contents) {
        let Scanned::Record { bytes, .. } = scanned else { continue };
        let (message, deliveries) = match Record::decode(bytes) {
            Ok(Record::Publish { message, deliveries, .. } | Record::Moved { message, deliveries }) => {
                (message, deliveries)
            }
            _ => continue,
        };
        if let Some((sequence, how)) = delivery_to(queue, &deliveries, &is_wanted)
            && found.insert(sequence, paged(sequence, &how, &message)).is_none()
        {
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
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
        message: message.to_message(),
    }
}

fn push(lost: &mut Vec<Sequences>, sequence: u64) {
    match lost.last_mut() {
        Some(last) if last.last + 1 == sequence => last.last = sequence,
        _ => lost.push(Sequences { first: sequence, last: sequence }),
    }
}
