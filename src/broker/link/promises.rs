//! Replies that wait for the commit of what they promise, in their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use super::pace::Pace;
use crate::mqtt::Millis;
use crate::store::{Journal, Pending, Ticket};

/// Bytes of replies that wait; beyond that nothing is read.
const MAX_BYTES: usize = 64 * 1024;

/// Replies of one read batch.
#[derive(Debug)]
pub(super) struct Promise {
    /// What records what they promise.
    pub(super) ticket: Ticket,
    /// What records the messages that they say something of, where that was begun before.
    pub(super) behind: Option<Arc<Pending>>,
    pub(super) replies: Vec<u8>,
    /// Of the messages that are open, those whose exchange ends with them.
    pub(super) over: u32,
}

/// Whose replies wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Messages of the peer that are open.
    pub(super) open: u32,
    /// How many the peer may have open.
    pub(super) maximum: u32,
    /// Whether it can do nothing for another reason.
    pub(super) is_held_up: bool,
    pub(super) now: Millis,
}

/// Replies that wait, of one connection. The link reads nothing while there are [`Promises::are_too_many`].
#[derive(Debug, Default)]
pub(super) struct Promises {
    waiting: VecDeque<Promise>,
    bytes: usize,
    /// The ticket that the link's task is woken for.
    woken_for: Ticket,
    pace: Pace,
}

impl Promise {
    /// Whether all of it is committed.
    pub(super) fn is_committed(&self, journal: &Journal) -> bool {
        let behind = self.behind.as_ref();
        journal.is_committed(self.ticket)
            && behind.is_none_or(|behind| journal.ticket_of(behind).is_some_and(|ticket| journal.is_committed(ticket)))
    }
}

impl Promises {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether so much waits that nothing should be read: more than `batches`, or too many bytes.
    pub(super) fn are_too_many(&self, batches: u16) -> bool {
        self.waiting.len() > usize::from(batches) || self.bytes > MAX_BYTES
    }

    /// Has replies wait, and the journal make haste where the peer can do nothing until then.
    pub(super) fn push(&mut self, promise: Promise, peer: Waiting, batches: u16, journal: &Journal) {
        if promise.replies.is_empty() {
            return;
        }
        let Waiting { open, maximum, is_held_up, now } = peer;
        let behind = promise.behind.as_ref().and_then(|behind| journal.ticket_of(behind));
        let newest = self.waiting.back().map(|last| last.ticket).max(behind).max(Some(promise.ticket));
        self.bytes += promise.replies.len();
        match self.waiting.back_mut() {
            // It promises nothing, but must not overtake those that do.
            Some(last) if promise.ticket == Ticket::NONE && promise.behind.is_none() => {
                last.replies.extend_from_slice(&promise.replies);
                last.over += promise.over;
            }
            _ => self.waiting.push_back(promise),
        }
        // Who is not read any more can do nothing, either.
        if (self.pace.handle_wait(open, maximum, now) || is_held_up || self.are_too_many(batches))
            && let Some(newest) = newest
        {
            journal.hurry(newest);
        }
    }

    /// The next replies whose promise is committed, and the number of messages whose exchange ends with them. Where
    /// they are not, the task of `cx` is woken when they are.
    pub(super) fn poll_next(&mut self, journal: &Journal, cx: &mut Context<'_>) -> Option<(Vec<u8>, u32)> {
        let first = self.waiting.front()?;
        let mut ticket = first.ticket;
        if let Some(behind) = &first.behind {
            match journal.ticket_of(behind) {
                Some(behind) => ticket = ticket.max(behind),
                None => {
                    // The connection before this one is about to append it, in another thread.
                    cx.waker().wake_by_ref();
                    return None;
                }
            }
        }
        if journal.poll_once(ticket, &mut self.woken_for, cx).is_pending() {
            return None;
        }
        let Promise { replies, over, .. } = self.waiting.pop_front()?;
        self.bytes -= replies.len();
        Some((replies, over))
    }

    /// Takes that replies have been sent; before that `open` messages were open.
    pub(super) fn handle_sent(&mut self, open: u32, now: Millis) {
        if self.waiting.is_empty() {
            self.pace.handle_commit(open, now);
        }
    }
}
