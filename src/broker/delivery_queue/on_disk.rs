//! What of a queue is on disk alone: counted in extents, a few bytes for thousands of messages.

use std::collections::VecDeque;

use crate::store::Sequences;

/// Messages that one extent counts together.
const EXTENT_MESSAGES: u64 = 4096;

/// Messages with sequences from the first extent's on.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    extents: VecDeque<Extent>,
    messages: u64,
    bytes: u64,
}

/// Messages with sequences from `first` on and below `end`. What was settled out of order leaves holes.
#[derive(Debug, Clone, Copy)]
struct Extent {
    first: u64,
    end: u64,
    /// At least 1, and at most the sequences between.
    messages: u64,
    bytes: u64,
}

impl OnDisk {
    /// As much as a journal gave back.
    pub(super) fn restored(messages: u64, bytes: u64, first: u64, end: u64) -> Self {
        let messages = messages.clamp(1, end - first);
        Self { extents: VecDeque::from([Extent { first, end, messages, bytes }]), messages, bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first sequence that may be there.
    pub(super) fn first(&self) -> Option<u64> {
        self.extents.front().map(|extent| extent.first)
    }

    /// What is behind the last sequence that may be there.
    pub(super) fn end(&self) -> Option<u64> {
        self.extents.back().map(|extent| extent.end)
    }

    /// Adds a message behind all others.
    pub(super) fn add(&mut self, sequence: u64, size: u64) {
        debug_assert!(self.end().is_none_or(|end| end <= sequence), "sequences rise");
        self.messages += 1;
        self.bytes += size;
        match self.extents.back_mut() {
            Some(last) if last.messages < EXTENT_MESSAGES => {
                last.end = sequence + 1;
                last.messages += 1;
                last.bytes += size;
            }
            _ => self.extents.push_back(Extent { first: sequence, end: sequence + 1, messages: 1, bytes: size }),
        }
    }

    /// Forgets everything below `end`; `taken` are the sequences that were found there, rising, with their sizes.
    pub(super) fn advance(&mut self, end: u64, taken: impl Iterator<Item = (u64, u64)>) {
        while self.extents.front().is_some_and(|extent| extent.end <= end) {
            self.pop();
        }
        let Some(extent) = self.extents.front_mut().filter(|extent| extent.first < end) else {
            return;
        };
        let (mut messages, mut bytes) = (0, 0);
        for (_, size) in taken.filter(|(sequence, _)| *sequence >= extent.first) {
            messages += 1;
            bytes += size;
        }
        self.messages -= extent.messages;
        self.bytes -= extent.bytes;
        extent.first = end;
        extent.messages = extent.messages.saturating_sub(messages).clamp(1, extent.end - end);
        extent.bytes = extent.bytes.saturating_sub(bytes);
        self.messages += extent.messages;
        self.bytes += extent.bytes;
    }

    /// Drops the oldest, at least one: as many as have probably `bytes`, but none beyond an extent. Returns their
    /// sequences and how many they were; where there are holes, that is a guess.
    pub(super) fn drop_first(&mut self, bytes: u64) -> Option<(Sequences, u64)> {
        let extent = self.extents.front_mut()?;
        let first = extent.first;
        let wanted = (extent.messages * bytes).div_ceil(extent.bytes.max(1)).max(1);
        if wanted >= extent.messages {
            let Extent { end, messages, .. } = *extent;
            self.pop();
            return Some((Sequences { first, last: end - 1 }, messages));
        }
        let span = extent.end - extent.first;
        let step = (wanted * span).div_ceil(extent.messages).min(span - 1);
        let size = extent.bytes * wanted / extent.messages;
        extent.first += step;
        let left = (extent.messages - wanted).clamp(1, extent.end - extent.first);
        let count = extent.messages - left;
        extent.messages = left;
        extent.bytes -= size;
        self.messages -= count;
        self.bytes -= size;
        Some((Sequences { first, last: first + step - 1 }, count))
    }

    fn pop(&mut self) {
        if let Some(extent) = self.extents.pop_front() {
            self.messages -= extent.messages;
            self.bytes -= extent.bytes;
        }
    }
}
