//! What of a durable queue is behind its head: on disk, and the tail of the newest in memory.

use std::collections::VecDeque;

use super::on_disk::OnDisk;
use super::uncommitted::Uncommitted;
use super::{Entry, Recording, WINDOW_BYTES, WINDOW_MESSAGES};
use crate::store::{Journal, Page, Sequences, Ticket};

/// What of a durable queue is behind its head.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    on_disk: OnDisk,
    /// The newest, all of QoS 1 and 2.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    uncommitted: Uncommitted,
    /// Whether messages of shared subscriptions may be on disk.
    is_shared: bool,
}

/// A page to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// From this sequence on.
    pub from: u64,
    /// Below this one: what is beyond is in memory, or not committed.
    pub end: u64,
    /// No more messages than these.
    pub messages: usize,
    /// None beyond the first that brings them to these bytes.
    pub bytes: usize,
}

/// Whether a page can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageAt {
    /// Now.
    Now(PageRequest),
    /// Once this is committed, or, without a ticket, once a batch that is under way has been appended.
    Later(Option<Ticket>),
}

impl PageRequest {
    /// Below which sequence `page` has all there is.
    pub fn end_of(&self, page: &Page) -> u64 {
        if page.is_last {
            return self.end;
        }
        let last = page.messages.last().map(|message| message.sequence);
        let last = last.max(page.lost.iter().map(|lost| lost.last).max());
        last.map_or(self.from, |last| (last + 1).min(self.end))
    }
}

impl Overflow {
    pub(super) fn restored(messages: u64, bytes: u64, first: u64, end: u64) -> Self {
        Self { on_disk: OnDisk::restored(messages, bytes, first, end), ..Self::default() }
    }

    /// Puts `entry` behind the others; where the tail has filled a window its older half is forgotten, if all of it is
    /// recorded.
    pub(super) fn push(&mut self, entry: Entry, sequence: u64, recording: Option<Recording<'_>>) {
        self.tail_bytes += entry.message.size();
        self.tail.push_back(entry);
        let Some(Recording { batch, journal }) = recording else {
            return;
        };
        self.uncommitted.note(sequence, batch, journal);
        if self.tail.len() <= WINDOW_MESSAGES && self.tail_bytes <= WINDOW_BYTES {
            return;
        }
        while self.tail.len() > WINDOW_MESSAGES / 2 || self.tail_bytes > WINDOW_BYTES / 2 {
            let Some(Entry { sequence: Some(sequence), message, delivery, .. }) = self.tail.pop_front() else {
                break;
            };
            self.tail_bytes -= message.size();
            self.on_disk.add(sequence, message.size() as u64);
            self.is_shared |= delivery.share.is_some();
        }
    }

    pub(super) fn next_page(&mut self, messages: usize, bytes: usize, journal: &Journal) -> PageAt {
        let (from, mut end) = (self.on_disk.first().unwrap_or(0), self.on_disk.end().unwrap_or(0));
        if let Some((uncommitted, ticket)) = self.uncommitted.first(journal) {
            end = end.min(uncommitted);
            if end <= from {
                return PageAt::Later(ticket);
            }
        }
        PageAt::Now(PageRequest { from, end, messages: messages.max(1), bytes: bytes.max(1) })
    }

    /// Forgets what is on disk below `end`, of which `taken` were found.
    pub(super) fn advance<'a>(&mut self, end: u64, taken: impl Iterator<Item = &'a Entry>) {
        let taken = taken.filter_map(|entry| Some((entry.sequence?, entry.message.size() as u64)));
        self.on_disk.advance(end, taken);
    }

    pub(super) fn drop_from_disk(&mut self, bytes: u64) -> Option<(Sequences, u64)> {
        self.on_disk.drop_first(bytes)
    }

    pub(super) fn remove_if(&mut self, mut remove: impl FnMut(&Entry) -> bool) {
        let bytes = &mut self.tail_bytes;
        self.tail.retain(|entry| {
            let gone = remove(entry);
            if gone {
                *bytes -= entry.message.size();
            }
            !gone
        });
    }

    pub(super) fn first_on_disk(&self) -> Option<u64> {
        self.on_disk.first()
    }

    pub(super) fn note_shared(&mut self) {
        self.is_shared = true;
    }

    pub(super) fn shared_on_disk(&self) -> Option<Sequences> {
        let (first, end) = (self.on_disk.first()?, self.on_disk.end()?);
        self.is_shared.then_some(Sequences { first, last: end - 1 })
    }

    pub(super) fn has_on_disk(&self) -> bool {
        !self.on_disk.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.on_disk.is_empty() && self.tail.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.on_disk.messages()).unwrap_or(usize::MAX).saturating_add(self.tail.len())
    }

    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.on_disk.bytes()).unwrap_or(usize::MAX).saturating_add(self.tail_bytes)
    }

    #[cfg(test)]
    pub(super) fn in_memory(&self) -> (usize, usize) {
        (self.tail.len(), self.tail_bytes)
    }

    /// The tail and its bytes.
    pub(super) fn into_tail(self) -> (VecDeque<Entry>, usize) {
        (self.tail, self.tail_bytes)
    }
}
