//! The journal: takes batches of records, and says when they are committed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::record::Batch;

/// What an append gives: the batch is committed once [`Journal::is_committed`] says so of it. Tickets rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket of a batch without records: committed from the start.
    pub const NONE: Self = Self(0);
}

/// The journal. This one keeps nothing on disk: its tickets are committed when they are given out.
#[derive(Debug)]
pub struct Journal {
    records: AtomicU64,
}

impl Journal {
    /// A journal that keeps nothing: what a restart would find is gone with the process.
    pub fn in_memory() -> Self {
        Self { records: AtomicU64::new(0) }
    }

    /// Takes the records of `batch` and empties it. Never waits.
    pub fn append(&self, batch: &mut Batch) -> Ticket {
        if batch.is_empty() {
            return Ticket::NONE;
        }
        let count = batch.records.len() as u64;
        batch.clear();
        Ticket(self.records.fetch_add(count, Ordering::Relaxed) + count)
    }

    /// Whether the batch of `ticket` survives a power cut, or, in memory, is as safe as it will ever be.
    pub fn is_committed(&self, ticket: Ticket) -> bool {
        ticket.0 <= self.records.load(Ordering::Relaxed)
    }

    /// Ready once `ticket` is committed; wakes the task of `cx` then.
    pub fn poll_committed(&self, ticket: Ticket, _cx: &mut Context<'_>) -> Poll<()> {
        debug_assert!(self.is_committed(ticket), "in memory every ticket is committed");
        Poll::Ready(())
    }

    /// Records taken so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Delivered, QueueId, Record};
    use super::*;

    #[test]
    fn in_memory_tickets_are_committed_when_they_are_given_out() {
        let journal = Journal::in_memory();
        let mut batch = Batch::default();
        assert_eq!(journal.append(&mut batch), Ticket::NONE);
        batch.records.push(Record::Settle { delivered: Delivered { queue: QueueId(1), sequence: 0 } });
        let ticket = journal.append(&mut batch);
        assert!(ticket > Ticket::NONE);
        assert!(batch.is_empty());
        assert!(journal.is_committed(ticket));
        assert_eq!(journal.records(), 1);
    }
}
