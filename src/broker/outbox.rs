//! What waits to be written to one connection: small packets in one buffer, large payloads shared with all who get them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use super::buffers;
use crate::mqtt::Message;
use crate::net::SocketWriter;

/// From this size on, in bytes, a payload is shared and written from where it stands instead of being copied.
pub(super) const SHARED_PAYLOAD_BYTES: usize = 8 * 1024;
/// The most pieces written by one call.
const MAX_SLICES: usize = 32;

/// Bytes that may stand written at the beginning of the buffer.
const MAX_WRITTEN_BYTES: usize = 256 * 1024;

/// Bytes in their order. An empty one holds no memory.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What stands before `tail`; empty while no large payload waits.
    pieces: VecDeque<Piece>,
    tail: Vec<u8>,
    /// Bytes of the first piece that have been written.
    written: usize,
    /// Bytes of `pieces`.
    pieces_bytes: usize,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Payload(Message),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Payload(message) => message.payload(),
        }
    }
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.pieces_bytes + self.tail.len() - self.written
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it has room for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.pieces_bytes + self.tail.capacity()
    }

    /// The buffer that packets are appended to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = buffers::take();
        }
        &mut self.tail
    }

    /// Appends the payload of `message` without copying it.
    pub(super) fn push_payload(&mut self, message: Message) {
        if !self.tail.is_empty() {
            let head = std::mem::take(&mut self.tail);
            self.pieces_bytes += head.len();
            self.pieces.push_back(Piece::Bytes(head));
        }
        self.pieces_bytes += message.payload().len();
        self.pieces.push_back(Piece::Payload(message));
    }

    /// Writes what the socket takes now; [`Outbox::advance`] forgets it.
    pub(super) fn try_write(&self, writer: &SocketWriter) -> io::Result<usize> {
        if self.pieces.is_empty() {
            return writer.try_write(&self.tail[self.written..]);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = self.slices(&mut slices);
        writer.try_write_vectored(&slices[..count])
    }

    /// Like [`Outbox::try_write`]; where the socket takes nothing, the task of `cx` is woken when it does.
    pub(super) fn poll_write(&self, writer: &mut SocketWriter, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.pieces.is_empty() {
            return writer.poll_write(cx, &self.tail[self.written..]);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = self.slices(&mut slices);
        writer.poll_write_vectored(cx, &slices[..count])
    }

    /// The first bytes that wait, as far as they stand in one piece.
    pub(super) fn first(&self) -> &[u8] {
        &self.pieces.front().map_or(self.tail.as_slice(), Piece::bytes)[self.written..]
    }

    /// Fills `slices` with what waits, and returns how many were filled.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let chunks =
            self.pieces.iter().map(Piece::bytes).chain((!self.tail.is_empty()).then_some(self.tail.as_slice()));
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(if count == 0 { &chunk[self.written..] } else { chunk });
            count += 1;
        }
        count
    }

    /// Forgets the first `count` bytes: they have been written.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front() {
            let length = piece.bytes().len();
            let rest = length - self.written;
            if count < rest {
                self.written += count;
                return;
            }
            count -= rest;
            self.written = 0;
            self.pieces_bytes -= length;
            if let Some(Piece::Bytes(bytes)) = self.pieces.pop_front() {
                buffers::give(bytes);
            }
        }
        if self.pieces.capacity() > 0 {
            self.pieces = VecDeque::new();
        }
        self.written += count;
        if self.written == self.tail.len() {
            self.written = 0;
            buffers::give(std::mem::take(&mut self.tail));
        }
    }

    /// Appends what came later; of it nothing has been written.
    pub(super) fn append(&mut self, mut later: Self) {
        debug_assert_eq!(later.written, 0, "what came later has not been written");
        // A peer that takes some, but never all, must not make the buffer grow at its beginning.
        if self.pieces.is_empty() && self.written >= MAX_WRITTEN_BYTES && self.written >= self.tail.len() / 2 {
            self.tail.drain(..self.written);
            self.written = 0;
        }
        if later.pieces.is_empty() {
            if !later.tail.is_empty() {
                self.tail.extend_from_slice(&later.tail);
            }
            buffers::give(later.tail);
            return;
        }
        if !self.tail.is_empty() {
            self.pieces_bytes += self.tail.len();
            self.pieces.push_back(Piece::Bytes(std::mem::take(&mut self.tail)));
        }
        self.pieces.append(&mut later.pieces);
        self.pieces_bytes += later.pieces_bytes;
        buffers::give(std::mem::replace(&mut self.tail, later.tail));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::TopicName;

    /// Everything that waits, by way of `slices`.
    fn content(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = outbox.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Bytes(u8),
        Payload(u8),
        Advance(usize),
        /// Taken out for a write that did not go through, while more came.
        Interrupted(u8, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<u8>().prop_map(Step::Bytes),
            any::<u8>().prop_map(Step::Payload),
            (0..40usize).prop_map(Step::Advance),
            (any::<u8>(), any::<bool>()).prop_map(|(byte, large)| Step::Interrupted(byte, large)),
        ]
    }

    fn message(byte: u8) -> Message {
        Message::new(&TopicName::new("t").unwrap(), &[byte; 7])
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_in_which_they_came(steps in prop::collection::vec(step(), 0..20)) {
            let mut outbox = Outbox::default();
            let mut model: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Bytes(byte) => {
                        outbox.tail().extend_from_slice(&[byte; 3]);
                        model.extend_from_slice(&[byte; 3]);
                    }
                    Step::Payload(byte) => {
                        outbox.push_payload(message(byte));
                        model.extend_from_slice(&[byte; 7]);
                    }
                    Step::Advance(count) => {
                        let count = count.min(model.len());
                        outbox.advance(count);
                        model.drain(..count);
                    }
                    Step::Interrupted(byte, large) => {
                        let mut older = std::mem::take(&mut outbox);
                        if large {
                            outbox.push_payload(message(byte));
                            model.extend_from_slice(&[byte; 7]);
                        } else {
                            outbox.tail().push(byte);
                            model.push(byte);
                        }
                        older.append(std::mem::take(&mut outbox));
                        outbox = older;
                    }
                }
                prop_assert_eq!(outbox.len(), model.len());
                prop_assert_eq!(&content(&outbox), &model);
                prop_assert!(model.starts_with(outbox.first()));
            }
        }
    }
}
