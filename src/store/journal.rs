//! The journal's face: it takes batches of records, and says when they are committed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use super::batch::{Batch, Pending};
use super::disk::Disk;
use super::filesystem::{Filesystem, Folder, LockError};
#[cfg(test)]
use super::held::{self, Held};
use super::log::Log;
use super::reader;
use super::record::{Delivered, QueueId};
use super::restored::{Page, Restored};
use super::segment::SegmentError;
use super::statistics::Statistics;

/// What an append gives: the batch is committed once [`Journal::is_committed`] says so of it. Tickets rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(pub(super) u64);

impl Ticket {
    /// The ticket of a batch without records: committed from the start.
    pub const NONE: Self = Self(0);
}

/// What a journal on disk is opened with.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// The spacing of commits while nobody is held up.
    pub commit: Duration,
    /// The spacing of commits while somebody is.
    pub commit_min: Duration,
    /// How long readings wait, and what is settled.
    pub commit_readings: Duration,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of the log between two checkpoints, at least; a large checkpoint is rarer.
    pub checkpoint_spacing: u64,
    /// Bytes that living messages should take at most: beyond them segments that are half dead are cleaned.
    pub limit: u64,
    /// Where it counts.
    pub statistics: Arc<Statistics>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            commit: Duration::from_millis(100),
            commit_min: Duration::from_millis(5),
            commit_readings: Duration::from_secs(2),
            segment_bytes: 2 * 1024 * 1024,
            checkpoint_spacing: 8 * 1024 * 1024,
            limit: 512 * 1024 * 1024,
            statistics: Arc::default(),
        }
    }
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// It cannot be read, or was written by a newer version.
    #[error(transparent)]
    Unreadable(#[from] SegmentError),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] io::Error),
}

/// The journal. [`Journal::in_memory`] keeps nothing on disk: its tickets are committed when they are given out.
#[derive(Debug)]
pub struct Journal {
    kind: Kind,
    records: AtomicU64,
    next_queue: AtomicU64,
    next_retained: AtomicU64,
}

#[derive(Debug)]
enum Kind {
    Memory,
    Disk(Box<Disk>),
    /// For tests: it commits when it is told to.
    #[cfg(test)]
    Held(Held),
}

impl Journal {
    /// A journal that keeps nothing: what a restart would find is gone with the process.
    pub fn in_memory() -> Self {
        Self::new(Kind::Memory, 1, 0)
    }

    /// Opens the journal in the folder `path`, which is made if it is not there, and gives back what it holds.
    ///
    /// # Errors
    /// Where another process has it, a newer version has written it, or the folder cannot be used. Nothing has been
    /// changed then.
    pub fn open(path: &Path, options: &JournalOptions) -> Result<(Arc<Self>, Restored), OpenError> {
        Self::open_in(Arc::new(Folder::create(path)?), options)
    }

    /// Opens the journal in a folder that is open.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_in(
        filesystem: Arc<dyn Filesystem>,
        options: &JournalOptions,
    ) -> Result<(Arc<Self>, Restored), OpenError> {
        let lock = filesystem.try_lock()?;
        let (log, restored, replaced) = Log::open(filesystem, options)?;
        let (next_queue, next_retained) = {
            let index = log.index().lock();
            (index.fold.next_queue(), index.fold.next_sequence(QueueId::RETAINED))
        };
        options.statistics.set_found(&restored.report);
        let disk = Disk::start(log, options, lock)?;
        let journal = Arc::new(Self::new(Kind::Disk(Box::new(disk)), next_queue, next_retained));
        let mut batch = Batch::default();
        for sequence in replaced {
            batch.settle(Delivered { queue: QueueId::RETAINED, sequence });
        }
        journal.append(&mut batch);
        Ok((journal, restored))
    }

    fn new(kind: Kind, next_queue: u64, next_retained: u64) -> Self {
        Self {
            kind,
            records: AtomicU64::new(0),
            next_queue: AtomicU64::new(next_queue),
            next_retained: AtomicU64::new(next_retained),
        }
    }

    /// Writes all that there is, and ends the writing: what is appended later is lost. `false` where not all could be
    /// written. It waits for the disk.
    pub fn close(&self) -> bool {
        match &self.kind {
            Kind::Memory => true,
            Kind::Disk(disk) => disk.close(),
            #[cfg(test)]
            Kind::Held(_) => true,
        }
    }

    /// Whether it keeps anything.
    pub fn is_durable(&self) -> bool {
        !matches!(self.kind, Kind::Memory)
    }

    /// A queue that no session has had.
    pub fn next_queue(&self) -> QueueId {
        QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed))
    }

    /// The sequence of the next retained message. To be taken under the lock that puts it into the place of another,
    /// so that the newest has the highest.
    pub fn next_retained(&self) -> u64 {
        self.next_retained.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the records of `batch` and empties it. Never waits.
    pub fn append(&self, batch: &mut Batch) -> Ticket {
        if batch.is_empty() {
            if let Some(pending) = batch.receipt.take() {
                pending.resolve(Ticket::NONE.0);
            }
            return Ticket::NONE;
        }
        let records = batch.records;
        let taken = self.records.fetch_add(records, Ordering::Relaxed) + records;
        let ticket = match &self.kind {
            Kind::Memory => {
                if let Some(pending) = &batch.receipt {
                    pending.resolve(taken);
                }
                Ticket(taken)
            }
            Kind::Disk(disk) => disk.append(batch),
            #[cfg(test)]
            Kind::Held(held) => held.append(batch),
        };
        batch.clear();
        ticket
    }

    /// Whether the batch of `ticket` survives a power cut, or, in memory, is as safe as it will ever be.
    pub fn is_committed(&self, ticket: Ticket) -> bool {
        match &self.kind {
            Kind::Memory => ticket.0 <= self.records.load(Ordering::Relaxed),
            Kind::Disk(disk) => disk.is_committed(ticket),
            #[cfg(test)]
            Kind::Held(held) => held.is_committed(ticket),
        }
    }

    /// Ready once `ticket` is committed; wakes the task of `cx` then. To be called once for a ticket and a task: each
    /// call that has to wait is remembered.
    pub fn poll_committed(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<()> {
        match &self.kind {
            Kind::Memory => {
                debug_assert!(self.is_committed(ticket), "in memory every ticket is committed");
                Poll::Ready(())
            }
            Kind::Disk(disk) => disk.poll_committed(ticket, cx),
            #[cfg(test)]
            Kind::Held(held) => held.poll_committed(ticket, cx),
        }
    }

    /// As [`Journal::poll_committed`], for a task that asks again and again: `woken_for` is the ticket that it is woken
    /// for already.
    pub fn poll_once(&self, ticket: Ticket, woken_for: &mut Ticket, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_committed(ticket) {
            return Poll::Ready(());
        }
        if *woken_for == ticket {
            return Poll::Pending;
        }
        *woken_for = ticket;
        self.poll_committed(ticket, cx)
    }

    /// The ticket of a batch that was pending; `None` while it has not been appended.
    pub fn ticket_of(&self, pending: &Pending) -> Option<Ticket> {
        pending.ticket().map(Ticket)
    }

    /// Says that somebody can do nothing until `ticket` is committed: it is, as soon as the spacing of commits allows.
    pub fn hurry(&self, ticket: Ticket) {
        match &self.kind {
            Kind::Memory => {}
            Kind::Disk(disk) => disk.hurry(ticket),
            #[cfg(test)]
            Kind::Held(held) => held.hurry(ticket),
        }
    }

    /// Whether it takes more: not while the disk does not keep up, or is full. Then nobody should be read who makes
    /// records; [`Journal::poll_room`] tells when it does again.
    pub fn has_room(&self) -> bool {
        match &self.kind {
            Kind::Memory => true,
            Kind::Disk(disk) => disk.has_room(),
            #[cfg(test)]
            Kind::Held(held) => held.has_room(),
        }
    }

    /// Ready once [`Journal::has_room`]; wakes the task of `cx` then.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.kind {
            Kind::Memory => Poll::Ready(()),
            Kind::Disk(disk) => disk.poll_room(cx),
            #[cfg(test)]
            Kind::Held(held) => held.poll_room(cx),
        }
    }

    /// Reads messages of `queue` back, from the sequence `from` on: no more than `messages`, and no more than the first
    /// that brings them to about `bytes`. It reads files: call it where waiting harms nobody.
    ///
    /// # Errors
    /// Where the files cannot be read; what they hold is still there.
    pub fn read(&self, queue: QueueId, from: u64, messages: usize, bytes: usize) -> io::Result<Page> {
        match &self.kind {
            Kind::Memory => Ok(Page { is_last: true, ..Page::default() }),
            Kind::Disk(disk) => reader::read(disk, queue, from, messages, bytes),
            #[cfg(test)]
            Kind::Held(held) => held.read(queue, from, messages, bytes),
        }
    }

    /// Records taken so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Journal {
    /// A journal for tests that commits when it is told to.
    pub fn held() -> Self {
        Self::new(Kind::Held(Held::default()), 1, 0)
    }

    /// What the process after this one finds if this one is killed now: what is committed, and nothing else.
    pub fn killed(&self) -> (Self, Restored) {
        let records = self.double().committed();
        let (restored, next_queue, next_retained) = held::restore(&records);
        (Self::new(Kind::Held(Held::with(records)), next_queue, next_retained), restored)
    }

    /// Commits what has been appended, and wakes who waits for it.
    pub fn commit(&self) {
        self.double().commit();
    }

    /// Whether it commits what is appended at once, from now on, and what has been.
    pub fn set_eager(&self, is_eager: bool) {
        self.double().set_eager(is_eager);
    }

    /// The tickets that somebody was in a hurry for since this was asked last.
    pub fn take_hurried(&self) -> Vec<Ticket> {
        self.double().take_hurried()
    }

    /// Whether it has no room for more.
    pub fn set_full(&self, is_full: bool) {
        self.double().set_full(is_full);
    }

    /// The records that it has committed, each its kind and body.
    pub fn kept_records(&self) -> Vec<Vec<u8>> {
        self.double().committed()
    }

    fn double(&self) -> &Held {
        let Kind::Held(held) = &self.kind else { panic!("a journal that was not made by `held`") };
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_memory_tickets_are_committed_when_they_are_given_out() {
        let journal = Journal::in_memory();
        let mut batch = Batch::default();
        assert_eq!(journal.append(&mut batch), Ticket::NONE);
        batch.settle(Delivered { queue: QueueId(1), sequence: 0 });
        let pending = batch.pending();
        assert_eq!(journal.ticket_of(&pending), None);
        let ticket = journal.append(&mut batch);
        assert!(ticket > Ticket::NONE);
        assert_eq!(journal.ticket_of(&pending), Some(ticket));
        assert!(batch.is_empty());
        assert!(journal.is_committed(ticket));
        assert_eq!(journal.records(), 1);
    }
}
