//! The journal's face: it takes batches of records, and says when they are committed.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::batch::{Batch, Pending};
use super::record::QueueId;
use super::restored::Page;

/// What an append gives: the batch is committed once [`Journal::is_committed`] says so of it. Tickets rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(pub(super) u64);

impl Ticket {
    /// The ticket of a batch without records: committed from the start.
    pub const NONE: Self = Self(0);
}

/// The journal. [`Journal::in_memory`] keeps nothing on disk: its tickets are committed when they are given out.
#[derive(Debug)]
pub struct Journal {
    records: AtomicU64,
    next_queue: AtomicU64,
    next_retained: AtomicU64,
    #[cfg(test)]
    held: Option<super::held::Held>,
}

impl Journal {
    /// A journal that keeps nothing: what a restart would find is gone with the process.
    pub fn in_memory() -> Self {
        Self {
            records: AtomicU64::new(0),
            next_queue: AtomicU64::new(1),
            next_retained: AtomicU64::new(0),
            #[cfg(test)]
            held: None,
        }
    }

    /// Whether it keeps anything.
    pub fn is_durable(&self) -> bool {
        #[cfg(test)]
        if self.held.is_some() {
            return true;
        }
        false
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
                pending.resolve(0);
            }
            return Ticket::NONE;
        }
        let records = batch.records;
        #[cfg(test)]
        if let Some(held) = &self.held {
            self.records.fetch_add(records, Ordering::Relaxed);
            let ticket = held.append(batch);
            if let Some(pending) = &batch.receipt {
                pending.resolve(ticket);
            }
            batch.clear();
            return Ticket(ticket);
        }
        let ticket = self.records.fetch_add(records, Ordering::Relaxed) + records;
        if let Some(pending) = &batch.receipt {
            pending.resolve(ticket);
        }
        batch.clear();
        Ticket(ticket)
    }

    /// Whether the batch of `ticket` survives a power cut, or, in memory, is as safe as it will ever be.
    pub fn is_committed(&self, ticket: Ticket) -> bool {
        #[cfg(test)]
        if let Some(held) = &self.held {
            return held.is_committed(ticket.0);
        }
        ticket.0 <= self.records.load(Ordering::Relaxed)
    }

    /// Ready once `ticket` is committed; wakes the task of `cx` then.
    pub fn poll_committed(&self, ticket: Ticket, _cx: &mut Context<'_>) -> Poll<()> {
        #[cfg(test)]
        if let Some(held) = &self.held {
            return held.poll_committed(ticket.0, _cx);
        }
        debug_assert!(self.is_committed(ticket), "in memory every ticket is committed");
        Poll::Ready(())
    }

    /// The ticket of a batch that was pending; `None` while it has not been appended.
    pub fn ticket_of(&self, pending: &Pending) -> Option<Ticket> {
        pending.ticket().map(Ticket)
    }

    /// Says that somebody can do nothing until `ticket` is committed: it is, as soon as the spacing of commits allows.
    pub fn hurry(&self, _ticket: Ticket) {
        #[cfg(test)]
        if let Some(held) = &self.held {
            held.hurry(_ticket);
        }
    }

    /// Whether it takes more: not while the disk does not keep up, or is full. Then nobody should be read who makes
    /// records; [`Journal::poll_room`] tells when it does again.
    pub fn has_room(&self) -> bool {
        #[cfg(test)]
        if let Some(held) = &self.held {
            return held.has_room();
        }
        true
    }

    /// Ready once [`Journal::has_room`]; wakes the task of `cx` then.
    pub fn poll_room(&self, _cx: &mut Context<'_>) -> Poll<()> {
        #[cfg(test)]
        if let Some(held) = &self.held {
            return held.poll_room(_cx);
        }
        Poll::Ready(())
    }

    /// Reads messages of `queue` back, from the sequence `from` on: no more than `messages`, and none beyond the first
    /// that brings them to `bytes`. It reads files: call it where waiting harms nobody.
    ///
    /// # Errors
    /// Where the files cannot be read; what they hold is still there.
    pub fn read(&self, queue: QueueId, from: u64, messages: usize, bytes: usize) -> io::Result<Page> {
        #[cfg(test)]
        if let Some(held) = &self.held {
            return held.read(queue, from, messages, bytes);
        }
        let _ = (queue, from, messages, bytes);
        Ok(Page { is_last: true, ..Page::default() })
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
        Self { held: Some(super::held::Held::default()), ..Self::in_memory() }
    }

    /// What the process after this one finds if this one is killed now: what is committed, and nothing else.
    pub fn killed(&self) -> (Self, super::Restored) {
        let records = self.double().committed();
        let (restored, next_queue, next_retained) = super::held::restore(&records);
        let journal = Self { held: Some(super::held::Held::with(records)), ..Self::in_memory() };
        journal.next_queue.store(next_queue, Ordering::Relaxed);
        journal.next_retained.store(next_retained, Ordering::Relaxed);
        (journal, restored)
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

    fn double(&self) -> &super::held::Held {
        self.held.as_ref().expect("a journal that was made by `held`")
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Delivered;
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
