//! From which sequence on a queue's messages may not be in the journal yet, so that no page is read beyond.

use std::sync::Arc;

use crate::store::{Batch, Journal, Pending, Ticket};

/// Marks beyond which those of batches that have been appended are put together.
const MANY: usize = 64;

/// The batches whose messages may not be committed yet.
#[derive(Debug, Default)]
pub(super) struct Uncommitted(Vec<Mark>);

/// A batch with messages of the queue.
#[derive(Debug)]
struct Mark {
    /// The first of them.
    first: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It may not have been appended.
    Pending(Arc<Pending>),
    Appended(Ticket),
}

impl Uncommitted {
    /// Notes that the message of `sequence` is in `batch`.
    pub(super) fn note(&mut self, sequence: u64, batch: &mut Batch, journal: &Journal) {
        let pending = batch.pending();
        // A session's deliveries of one batch mostly come without others between.
        if let Some(Mark { state: State::Pending(last), .. }) = self.0.last()
            && Arc::ptr_eq(last, &pending)
        {
            return;
        }
        if self.0.len() >= MANY {
            self.forget_committed(journal);
            self.put_together();
        }
        self.0.push(Mark { first: sequence, state: State::Pending(pending) });
    }

    /// The first sequence that may not be committed, with the ticket to wait for: `None` where its batch has not even
    /// been appended.
    pub(super) fn first(&mut self, journal: &Journal) -> Option<(u64, Option<Ticket>)> {
        self.forget_committed(journal);
        let mark = self.0.iter().min_by_key(|mark| mark.first)?;
        Some(match mark.state {
            State::Pending(_) => (mark.first, None),
            State::Appended(ticket) => (mark.first, Some(ticket)),
        })
    }

    fn forget_committed(&mut self, journal: &Journal) {
        self.0.retain_mut(|mark| {
            if let State::Pending(pending) = &mark.state {
                match journal.ticket_of(pending) {
                    Some(ticket) => mark.state = State::Appended(ticket),
                    // A batch that is gone will never be appended.
                    None => return Arc::strong_count(pending) > 1,
                }
            }
            !matches!(mark.state, State::Appended(ticket) if journal.is_committed(ticket))
        });
    }

    /// One mark for all that have been appended: it waits longer than each of them needs.
    fn put_together(&mut self) {
        let mut all: Option<(u64, Ticket)> = None;
        self.0.retain(|mark| {
            let State::Appended(ticket) = mark.state else {
                return true;
            };
            let (first, last) = all.get_or_insert((mark.first, ticket));
            *first = mark.first.min(*first);
            *last = ticket.max(*last);
            false
        });
        if let Some((first, ticket)) = all {
            self.0.insert(0, Mark { first, state: State::Appended(ticket) });
        }
    }
}
